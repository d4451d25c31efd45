"""``curri report``: what it writes, whom it asks for, and that every command it advises works."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typer.testing import Result

    Curri = Callable[..., Result]
    Answer = Callable[..., dict[str, Any]]


@pytest.fixture
def rolled(filled: Path, curri: Curri) -> Path:
    """The filled store with 32 rollouts of each of the first eleven prompts, and a prompt that is there twice."""
    (filled / "more.jsonl").write_text(json.dumps({"prompt": "0 + 0 ?", "answer": "0", "id": "again", "arm": "easy"}))
    curri("ingest", "more.jsonl")
    rng = np.random.default_rng(0)
    rates = [1.0, 1.0, 0.0, 0.0, 0.5, 0.4, 0.3, 0.6, 0.7, 0.5, 1.0]
    rows = [
        {"id": f"p{i}", "model": "m", "rewards": rng.binomial(1, rate, 32).tolist(), "tokens": [10] * 32}
        for i, rate in enumerate(rates)
    ]
    (filled / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curri("rollouts", "import", "rollouts.jsonl")
    return filled


def test_json_and_the_json_file_hold_the_same(rolled: Path, answer: Answer, curri: Curri) -> None:
    found = answer("report")
    assert found["format"] == "curri difficulty report 1"
    assert found["counts"]["responses"] == 11 * 32
    done = curri("report", "-o", "out.json")
    assert found["headline"] in done.stderr
    assert "wrote out.json" in done.stderr
    assert json.loads((rolled / "out.json").read_text()) == {
        name: value for name, value in found.items() if name not in ("ok", "output")
    }


def test_the_form_follows_the_name_of_the_file(rolled: Path, curri: Curri) -> None:
    curri("report", "-o", "out.md")
    assert (rolled / "out.md").read_text().startswith("# Of 11 prompts tried")
    assert curri("report", "-o", "-", "--format", "md").stdout == (rolled / "out.md").read_text()
    assert "html, md or json" in curri("report", "--format", "pdf", code=2).output


def test_the_page(rolled: Path, curri: Curri) -> None:
    pytest.importorskip("jinja2", reason="needs curri[report]")
    pytest.importorskip("plotly", reason="needs curri[report]")
    curri("report")
    assert "<title>Difficulty report: curri.duckdb</title>" in (rolled / "report.html").read_text()


def test_every_command_it_advises_works_and_is_about_as_many_prompts(rolled: Path, answer: Answer) -> None:
    advice = {item["kind"]: item for item in answer("report")["advice"]}
    assert {"easy", "hard", "keep", "untried", "duplicates", "strategy"} <= set(advice)
    for kind, item in advice.items():
        program, *words = shlex.split(item["command"])
        assert program == "curri"
        done = answer(*words)
        number = {"keep": "prompts", "untried": "n"}.get(kind, "matching")
        if item["matches"] is not None and number in done:
            assert done[number] == item["matches"], kind
    assert advice["easy"]["matches"] == 3
    assert advice["hard"]["matches"] == 2
    assert advice["duplicates"]["command"].endswith("'prompt_id in [13]'")


def test_advice_taken_shows_in_the_next_report(rolled: Path, answer: Answer) -> None:
    first = answer("report")
    (easy,) = [item for item in first["advice"] if item["kind"] == "easy"]
    words = shlex.split(easy["command"].replace("--dry-run", "--yes"))[1:]
    assert answer(*words)["changed"] == 3
    second = answer("report")
    assert second["counts"]["retired"] == 3
    assert second["verdicts"]["easy"]["prompts"] < 0.5
    assert first["verdicts"]["easy"]["prompts"] > 2.5
    assert second["signal"] == first["signal"]
    assert "not retired and" in second["advice"][0]["command"]


def test_filters(rolled: Path, answer: Answer, curri: Curri) -> None:
    some = answer("report", "--where", 'arm == "easy"')
    assert (some["counts"]["prompts"], some["counts"]["arms"]) == (7, 1)
    assert some["settings"]["where"] == 'arm == "easy"'
    same = answer("report", "--sql-where", "arm = 'easy'")
    assert same["counts"] == some["counts"]
    assert not any("--where" in item["command"] for item in same["advice"] if item["kind"] != "duplicates")
    assert "two ways" in curri("report", "--where", "retired", "--sql-where", "true", code=2).output
    assert "character" in curri("report", "--where", "arm = 3", code=1).output
    assert "matches the filter" in answer("report", "--where", "retired")["headline"]


def test_the_group_size(rolled: Path, answer: Answer, curri: Curri) -> None:
    assert answer("report")["group_size"] == {"size": 8, "source": "the default"}
    assert answer("report", "--group-size", "16")["group_size"] == {"size": 16, "source": "as asked for"}
    curri("report", "--group-size", "1", code=2)


def test_a_model_has_to_be_named_where_there_are_several(rolled: Path, answer: Answer) -> None:
    (rolled / "other.jsonl").write_text(json.dumps({"id": "p1", "model": "n", "rewards": [0, 1]}))
    answer("rollouts", "import", "other.jsonl")
    error = answer("report", code=1)["error"]
    assert "2 models" in error["message"]
    found = answer("report", "--model", "n")
    assert found["counts"]["responses"] == 2
    assert all("--model n" in item["command"] for item in found["advice"] if "--where" in item["command"]
               and item["kind"] != "duplicates")  # fmt: skip


def test_a_run(rolled: Path, answer: Answer) -> None:
    ids = [row["prompt_id"] for row in answer("select", "--strategy", "uniform", "-n", "4", "--run", "r1")["rows"]]
    rows = [{"prompt_id": i, "rewards": [0, 0, 1] if i % 2 else [1, 1, 1]} for i in ids]
    (rolled / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer("record", "results.jsonl", "--run", "r1")
    found = answer("report", "--run", "r1")
    assert (found["model"], found["counts"]["responses"]) == ("run:r1", 12)
    (run,) = found["runs"]
    assert (run["groups"], run["wasted"]) == (4, sum(i % 2 == 0 for i in ids))
    assert answer("report")["runs"] == found["runs"]
    assert "did you mean" in str(answer("report", "--run", "r11", code=1)["error"]).casefold()
    assert "two sources" in answer("report", "--run", "r1", "--model", "m", code=1)["error"]["message"]


def test_an_empty_store_and_none(curri: Curri, answer: Answer) -> None:
    assert "there is no store" in answer("report", code=1)["error"]["message"]
    curri("init")
    found = answer("report")
    assert [item["command"] for item in found["advice"]] == ["curri ingest FILE.jsonl"]


def test_an_ending_that_says_no_form_is_refused(rolled: Path, curri: Curri) -> None:
    found = curri("report", "-o", "report.pdf", code=2)
    assert "give --format" in found.stderr
    assert not (rolled / "report.pdf").exists()
    curri("report", "-o", "report.txt", "--format", "md")
    assert (rolled / "report.txt").read_text().startswith("# ")


def test_under_json_standard_output_has_one_document(rolled: Path, answer: Answer) -> None:
    assert answer("report", "-o", "-")["output"] == "-"


def test_it_cannot_be_written(rolled: Path, curri: Curri) -> None:
    assert "cannot be written" in curri("report", "-o", "nowhere/report.md", code=1).output


@pytest.fixture
def held(rolled: Path) -> Iterator[Path]:
    """The store while another process holds it, which has published a copy."""
    program = (
        "import sys, curri\n"
        "store = curri.open_store('curri.duckdb')\n"
        "store.publish()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], cwd=rolled, env=environment, **pipes) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline().strip() == b"ready"
        yield rolled
        process.stdin.close()


def test_while_a_run_holds_the_store_the_published_copy_is_read(held: Path, curri: Curri) -> None:
    done = curri("report", "-o", "out.md", "--sql-where", "prompt_id > 0")
    assert done.stderr.count("this is a copy it published") == 1
    assert "seconds ago" in done.stderr
    text = (held / "out.md").read_text()
    assert text.startswith("# Of 11 prompts tried")
    assert "a copy that a run published" in text
