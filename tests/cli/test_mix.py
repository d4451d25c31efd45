from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("scipy", reason="needs curri[mix]")

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

    Curri = Callable[..., Result]
    Answer = Callable[..., dict[str, Any]]

LIKED = {"easy": 0.5, "hard": 0.3, "odd": 0.1}
QUICK = ("--surrogate", "loglinear")


def rows_of(path: str | Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(path).read_text())))


def fill_in(path: str | Path, liked: dict[str, float] = LIKED, columns: tuple[str, ...] = ("score",)) -> None:
    """Scores that grow with the square root of each weight, and a little that repeats from run to run."""
    rows = rows_of(path)
    for place, row in enumerate(rows):
        for offset, column in enumerate(columns):
            worth = sum(liked[arm] * math.sqrt(float(row[f"weight:{arm}"])) for arm in liked)
            row[column] = f"{0.3 + worth * (1 if offset == 0 else -1) + 0.01 * ((place * 7) % 5 - 2):.6f}"
    with Path(path).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def runs(curri: Curri, tmp_path: Path) -> Path:
    """A file of runs with scores."""
    curri("mix", "design", "--arms", "easy,hard,odd", "--runs", "18", "--replicates", "3", "-o", "runs.csv")
    fill_in("runs.csv")
    return tmp_path / "runs.csv"


# --- design -----------------------------------------------------------------------------------------------------------


def test_a_design_is_a_file_to_fill_in(curri: Curri) -> None:
    result = curri("mix", "design", "--arms", "math,code,chat", "--runs", "16", "--targets", "lisa,sat", "-o", "r.csv")
    rows = rows_of("r.csv")
    assert list(rows[0]) == ["run", "weight:math", "weight:code", "weight:chat", "lisa", "sat"]
    assert len(rows) == 16
    assert all(math.fsum(float(row[f"weight:{arm}"]) for arm in ("math", "code", "chat")) == 1.0 for row in rows)
    names = [row["run"] for row in rows]
    assert len(set(names)) == 16
    assert {"only math", "without chat", "uniform", "uniform again"} <= set(names)
    assert "16 runs of 3 datasets" in result.stderr
    assert "lightgbm" in result.stderr
    assert result.stdout == ""


def test_a_design_goes_to_standard_output(curri: Curri) -> None:
    result = curri("mix", "design", "--arms", "a,b", "--runs", "4", "-o", "-")
    assert result.stdout.startswith("run,weight:a,weight:b,score\n")


def test_a_design_does_not_overwrite_scores(curri: Curri, answer: Answer, runs: Path) -> None:
    before = runs.read_text()
    assert answer("mix", "design", "--arms", "a,b", code=1)["error"]["code"] == "invalid_input"
    assert runs.read_text() == before
    curri("mix", "design", "--arms", "a,b", "--force")
    assert runs.read_text() != before


def test_a_design_keeps_its_bounds_and_warns_of_repetition(answer: Answer) -> None:
    sizes = ("--sizes", "a=100,b=10000,c=10000", "--steps", "10", "--batch", "100")
    found = answer("mix", "design", "--arms", "a,b,c", "--runs", "12", "--prior", "natural", *sizes, "-o", "x.csv")
    assert found["repeats"][0]["arm"] == "a"
    assert found["repeats"][0]["times"] > 5.0
    assert {need["surrogate"] for need in found["needs"]} >= {"best", "lightgbm"}
    bounded = answer(
        "mix", "design", "--arms", "a,b,c", *sizes, "--epochs-limit", "2", "--cap", "*=0.9,b=0.5", "-o", "y.csv"
    )
    assert bounded["repeats"] == []
    weights = [run["weights"] for run in bounded["runs"]]
    assert max(row["a"] for row in weights) <= 0.2 + 1e-9
    assert max(row["b"] for row in weights) <= 0.5 + 1e-9


def test_a_design_takes_its_arms_and_sizes_from_the_store(answer: Answer, filled: Path) -> None:
    found = answer("mix", "design", "--runs", "5", "--sizes", "store", "--prior", "natural", "-o", "x.csv")
    assert found["arms"] == ["easy", "hard"]
    assert found["runs"][0]["weights"] == {"easy": 0.5, "hard": 0.5}
    unknown = answer("mix", "design", "--arms", "easy,math", "--sizes", "store", "-o", "y.csv", code=1)
    assert '"math"' in unknown["error"]["message"]


@pytest.mark.parametrize("arms", [1, 60])
def test_designs_of_one_and_of_sixty_arms(answer: Answer, arms: int) -> None:
    names = ",".join(f"d{place}" for place in range(arms))
    found = answer("mix", "design", "--arms", names, "--runs", "6", "-o", "x.csv")
    assert [len(run["weights"]) for run in found["runs"]] == [arms] * 6


# --- fit --------------------------------------------------------------------------------------------------------------


def test_fit_shows_how_well_left_out_runs_are_predicted(curri: Curri, answer: Answer, runs: Path) -> None:
    result = curri("mix", "fit", "runs.csv")
    header, _, line = result.stdout.splitlines()[:3]
    assert header.split()[:3] == ["target", "better", "surrogate"]
    assert line.startswith("score   more")
    assert "18 runs of 15 mixtures of 3 datasets" in result.stderr
    (target,) = answer("mix", "fit", "runs.csv")["targets"]
    assert target["quality"]["r2"] > 0.8
    assert target["noise"]["source"] == "replicates"
    assert set(target["quality"]["coverage"]) == {"0.5", "0.8", "0.95"}


def test_fit_of_a_sum_with_its_parts(answer: Answer, runs: Path) -> None:
    text = runs.read_text().replace("score", "lisa", 1).splitlines()
    runs.write_text("\n".join([text[0] + ",sat", *(f"{line},{0.2 + 0.01 * i}" for i, line in enumerate(text[1:]))]))
    found = answer("mix", "fit", "runs.csv", "-t", "in=0.5*lisa+0.3*sat", "--lower", "in", *QUICK)
    assert [(each["name"], each["lower"]) for each in found["targets"]] == [("in", True), ("lisa", True), ("sat", True)]
    both = answer("mix", "fit", "runs.csv", "-t", "mean(*)", *QUICK)
    assert both["targets"][0]["parts"] == {"lisa": 0.5, "sat": 0.5}


def test_fit_compares_every_surrogate(curri: Curri, answer: Answer, runs: Path) -> None:
    found = answer("mix", "fit", "runs.csv", "--compare", *QUICK)
    reasons = {each["surrogate"]: each["reason"] for each in found["compared"]}
    assert "needs at least 50" in reasons["lightgbm"]
    assert reasons["scheffe"] is None
    assert "lightgbm" in curri("mix", "fit", "runs.csv", "--compare", *QUICK).stdout


def test_too_few_runs_for_a_surrogate_and_the_default_still_answers(answer: Answer, runs: Path) -> None:
    runs.write_text("\n".join(runs.read_text().splitlines()[:5]))
    error = answer("mix", "fit", "runs.csv", "--surrogate", "scheffe", code=1)["error"]
    assert "needs at least 6 different mixtures" in error["message"]
    assert "best" in error["hint"]
    assert answer("mix", "fit", "runs.csv")["targets"][0]["quality"]["runs"] == 4


def test_fit_with_the_paper_s_algorithm(curri: Curri, answer: Answer, runs: Path) -> None:
    found = answer("mix", "fit", "runs.csv", "--algorithm", "paper", *QUICK)["paper"]
    assert (len(found["test_r2"]), len(found["candidates"])) == (5, 10)
    assert "Norm" in {each["name"] for each in found["heuristics"]}
    assert "Algorithm 4" in curri("mix", "fit", "runs.csv", "--algorithm", "paper", *QUICK).stdout
    curri("mix", "fit", "runs.csv", "--algorithm", "other", code=2)


def test_fit_of_public_tables_in_two_files(answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("index,train_a,train_b\n" + "".join(f"{i},0.{i},0.{9 - i}\n" for i in range(1, 9)))
    (tmp_path / "s.csv").write_text(
        "index,m/a_loss,m/b_loss\n" + "".join(f"{i},{5 - i},{3 + i}\n" for i in range(1, 9))
    )
    # Weights that sum to 0.9 are refused with their row.
    options = ("--scores", "s.csv", "--on", "index", "--arms", "train_*", "--columns", "m/*_loss", *QUICK)
    assert "sum to 0.9" in answer("mix", "fit", "w.csv", *options, code=1)["error"]["message"]
    (tmp_path / "w.csv").write_text("index,train_a,train_b\n" + "".join(f"{i},0.{i},0.{10 - i}\n" for i in range(1, 9)))
    found = answer("mix", "fit", "w.csv", *options)
    assert (found["arms"], [each["name"] for each in found["targets"]]) == (["a", "b"], ["a", "b"])


# --- optimize ---------------------------------------------------------------------------------------------------------


def test_optimize_recommends_and_its_weights_feed_select(curri: Curri, answer: Answer, filled: Path) -> None:
    curri("mix", "design", "--arms", "easy,hard", "--runs", "9", "-o", "r.csv")
    fill_in("r.csv", {"easy": 0.2, "hard": 0.5})
    result = curri("mix", "optimize", "r.csv", "-o", "weights.json", *QUICK)
    assert result.stdout.splitlines()[0].startswith(("Train on", "Stay with"))
    weights = json.loads(Path("weights.json").read_text())
    assert set(weights) == {"easy", "hard"}
    assert weights["hard"] > weights["easy"]
    picked = answer("select", "--strategy", "modomodo", "--param", "weights=@weights.json", "-n", "4")
    assert picked["prompts"] == 4
    found = answer("mix", "optimize", "r.csv", *QUICK)
    assert found["recommendation"]["weights"] == weights
    assert found["output"] is None


def test_optimize_keeps_caps_floors_and_epochs(answer: Answer, runs: Path) -> None:
    options = ("--cap", "easy=0.3", "--floor", "odd=0.2", *QUICK)
    weights = answer("mix", "optimize", "runs.csv", *options)["recommendation"]["weights"]
    assert weights["easy"] <= 0.3 + 1e-6
    assert weights["odd"] >= 0.2 - 1e-6
    sizes = ("--sizes", "easy=100,hard=900,odd=900", "--steps", "10", "--batch", "100", "--epochs-limit", "1.5")
    found = answer("mix", "optimize", "runs.csv", *sizes, *QUICK)
    assert found["recommendation"]["weights"]["easy"] <= 0.15 + 1e-6
    assert found["mixtures"][0]["training"]["most"] <= 1.5 + 1e-6


def test_optimize_stays_near_the_prior(answer: Answer, runs: Path) -> None:
    (near,) = [
        answer("mix", "optimize", "runs.csv", "--prior", "uniform", "--kl", "100", *QUICK)["recommendation"]["weights"]
    ]
    assert max(near.values()) < 0.4
    trusted = answer("mix", "optimize", "runs.csv", "--trust", "0.05", *QUICK)
    assert all(mixture["distance"] <= 0.05 + 1e-6 for mixture in trusted["mixtures"] if mixture["kind"] == "candidate")


def test_the_guard_can_be_raised_until_nothing_passes(answer: Answer, curri: Curri, runs: Path) -> None:
    found = answer("mix", "optimize", "runs.csv", "--guard", "1000", *QUICK)
    assert found["recommendation"]["source"] == "measured"
    assert "no prediction beats it by more than the noise" in found["headline"]
    assert found["headline"].replace("\u00a0", " ") in curri(
        "mix", "optimize", "runs.csv", "--guard", "1000", *QUICK
    ).stdout.replace("\u00a0", " ")


# --- report -----------------------------------------------------------------------------------------------------------


def test_the_report_in_three_forms(curri: Curri, answer: Answer, runs: Path) -> None:
    pytest.importorskip("plotly", reason="needs curri[report]")
    pytest.importorskip("jinja2", reason="needs curri[report]")
    result = curri("mix", "report", "runs.csv", "-o", "report.html", *QUICK)
    page = Path("report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "wrote report.html" in result.stderr
    curri("mix", "report", "runs.csv", "-o", "report.md", *QUICK)
    text = Path("report.md").read_text()
    document = answer("mix", "report", "runs.csv", *QUICK)
    assert not Path("report.json").exists()
    assert document["fingerprint"][:16] in page
    assert document["fingerprint"] in text
    written = json.loads(curri("mix", "report", "runs.csv", "--format", "json", "-o", "-", *QUICK).stdout)
    assert written == {key: value for key, value in document.items() if key not in ("ok", "output")}
    assert document["settings"]["surrogate"] == "loglinear"


def test_a_report_needs_to_know_what_decides(answer: Answer, runs: Path) -> None:
    text = runs.read_text().splitlines()
    runs.write_text("\n".join([text[0] + ",other", *(f"{line},1" for line in text[1:])]))
    error = answer("mix", "report", "runs.csv", code=1)["error"]
    assert "2 columns of scores" in error["message"]
    assert "--target" in error["hint"]
    found = answer("mix", "report", "runs.csv", "-t", "score", "-t", "other", *QUICK)
    assert found["tradeoff"]["targets"] == ["score", "other"]


def test_optimize_shows_the_trade_off_of_several_targets(curri: Curri, answer: Answer) -> None:
    curri("mix", "design", "--arms", "easy,hard,odd", "--runs", "12", "--targets", "up,down")
    fill_in("runs.csv", columns=("up", "down"))
    words = ("mix", "optimize", "runs.csv", "-t", "up", "-t", "down", *QUICK)
    found = answer(*words)
    assert found["tradeoff"]["targets"] == ["up", "down"]
    assert len(found["tradeoff"]["points"]) > 2
    assert "The predicted front" in curri(*words).stdout


def test_a_column_with_one_score_does_not_stop_a_fit_of_all(answer: Answer, runs: Path) -> None:
    text = runs.read_text().splitlines()
    runs.write_text("\n".join([text[0] + ",new", f"{text[1]},1", *(f"{line}," for line in text[2:])]))
    assert [each["name"] for each in answer("mix", "fit", "runs.csv", *QUICK)["targets"]] == ["score"]
    assert "at least 2 runs" in answer("mix", "fit", "runs.csv", "-t", "new", code=1)["error"]["message"]


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (["fit", "missing.csv"], 1, "invalid_data"),
        (["fit", "runs.csv", "--surrogate", "bets"], 1, "unknown_name"),
        (["fit", "runs.csv", "-t", "acc"], 1, "unknown_name"),
        (["fit", "runs.csv", "-t", "score+"], 1, "invalid_parameter"),
        (["fit", "runs.csv", "--lower", "acc"], 1, "unknown_name"),
        (["optimize", "runs.csv", "--cap", "maths=0.5"], 1, "unknown_name"),
        (["optimize", "runs.csv", "--cap", "easy=lots"], 1, "invalid_parameter"),
        (["optimize", "runs.csv", "--cap", "*=0.2"], 1, "invalid_parameter"),
        (["optimize", "runs.csv", "--prior", "natural"], 1, "invalid_input"),
        (["optimize", "runs.csv", "--epochs-limit", "1"], 1, "invalid_parameter"),
        (["optimize", "runs.csv", "--kl", "1"], 1, "invalid_parameter"),
        (["optimize", "runs.csv", "--trust", "2"], 1, "invalid_parameter"),
        (["optimize", "runs.csv", "--guard", "-1"], 1, "invalid_parameter"),
        (["optimize", "runs.csv", "--steps", "5"], 2, "usage"),
        (["optimize", "runs.csv", "--count", "0"], 2, "usage"),
        (["report", "runs.csv", "--format", "pdf"], 2, "usage"),
        (["report", "runs.csv", "-o", "none/report.md", *QUICK], 1, "invalid_data"),
        (["design", "--arms", "a,a", "-o", "x.csv"], 2, "usage"),
        (["design", "--arms", "a,b", "--method", "magic", "-o", "x.csv"], 2, "usage"),
        (["design", "-o", "x.csv"], 1, "store_not_found"),
        (["nonsense"], 2, "usage"),
    ],
)
def test_every_error_has_one_shape(answer: Answer, runs: Path, words: list[str], code: int, kind: str) -> None:
    error = answer("mix", *words, code=code)["error"]
    assert error["code"] == kind
    assert error["message"]


def test_the_page_for_users_names_options_that_exist() -> None:
    import typer

    from curri.cli import app

    root: Any = typer.main.get_command(app)
    commands = [*root.commands["mix"].commands.values(), root.commands["select"]]
    known = {option for command in commands for parameter in command.params for option in parameter.opts}
    page = (Path(__file__).resolve().parents[2] / "docs" / "mix.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page))
    assert len(named) > 20
    assert named <= known


def test_the_page_for_users_can_be_followed_in_an_empty_folder(
    curri: Curri, tmp_path: Path, rows_of: Callable[[str], list[dict[str, Any]]]
) -> None:
    pytest.importorskip("plotly", reason="needs curri[report]")
    pytest.importorskip("jinja2", reason="needs curri[report]")
    page = (Path(__file__).resolve().parents[2] / "docs" / "mix.md").read_text(encoding="utf-8")
    way = page.partition("## The way through")[2].partition("\n## ")[0]
    (program,) = re.findall(r"```python\n(.*?)```", way, re.DOTALL)
    commands = [shlex.split(line, comments=True)[1:] for line in re.findall(r"^    (curri .*)", way, re.MULTILINE)]
    assert commands[0][:2] == ["mix", "design"]
    for arm in ("math", "code", "chat"):
        lines = [json.dumps({"prompt": f"{arm} {place}", "answer": str(place)}) for place in range(300)]
        Path(f"{arm}.jsonl").write_text("\n".join(lines))
    curri(*commands[0])
    exec(compile(program, "docs/mix.md", "exec"), {})  # noqa: S102  the program of the page
    results = {" ".join(words[:2]): curri(*words) for words in commands[1:]}
    assert list(results) == ["mix fit", "mix optimize", "init", "ingest math.jsonl", "select --strategy", "mix report"]
    weights = json.loads(Path("weights.json").read_text())
    picked = rows_of(results["select --strategy"].stdout)
    counts = {arm: sum(row["arm"] == arm for row in picked) for arm in weights}
    assert sum(counts.values()) == 512
    assert all(abs(counts[arm] - 512 * weights[arm]) <= 1.0 for arm in weights)
    assert Path("report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_names_are_printed_escaped(curri: Curri, tmp_path: Path) -> None:
    lines = [f"0.{i},0.{10 - i},{i}" for i in range(1, 9)]
    (tmp_path / "r.csv").write_text("weight:\x1b[31mred,weight:b,\x1b[2Jscore\n" + "\n".join(lines))
    output = curri("mix", "fit", "r.csv").output + curri("mix", "optimize", "r.csv").output
    output += curri("mix", "report", "r.csv", "-o", "r.md").output
    assert "\x1b" not in output
    assert "\\x1b[31mred" in output
