"""Every strategy on the command line: a run from its first evidence to its second round."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from curri.parameters import declared
from curri.registry import strategy as strategy_class
from curri.registry import strategy_names
from curri.state import same_state
from curri.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Curri = Callable[..., Result]
    Answer = Callable[..., dict[str, Any]]
    RowsOf = Callable[[str | Path], list[dict[str, Any]]]

WEIGHTS = {"easy": 0.25, "hard": 0.75}
NAMES = [*strategy_names(), "ucb/vas", "modomodo/reinforce-ada"]


@pytest.fixture
def imported(curri: Curri, filled: Path) -> Path:
    """The folder of ``filled``, its store with three rollouts of a model for each of eight prompts."""
    rows = [
        {"id": f"p{i}", "rewards": [1, i % 2, 0], "responses": [f"so {i}", f"thus it is {i}", "no idea"]}
        for i in range(8)
    ]
    (filled / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curri("rollouts", "import", "rollouts.jsonl", "--model", "m")
    return filled


def results(path: Path, rows: list[dict[str, Any]]) -> str:
    lines = [
        {
            "prompt_id": row["prompt_id"],
            "round": row["round"],
            "rewards": [float(k % 2) for k in range(row["n_rollouts"])],
            "responses": [f"answer {k} of {row['prompt_id']}" for k in range(row["n_rollouts"])],
        }
        for row in rows
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def words(name: str) -> list[str]:
    outer, _, inner = name.partition("/")
    return ["--strategy", outer, *(["--within", inner] if inner else [])]


def saved(folder: Path) -> Any:
    with open_store(folder / "curri.duckdb", read_only=True) as store:
        return store.runs.load_state(0).state


@pytest.mark.parametrize("name", NAMES)
def test_a_run_from_stored_rollouts_to_its_second_round(
    curri: Curri, answer: Answer, imported: Path, rows_of: RowsOf, name: str
) -> None:
    if "pcl" in name:
        pytest.importorskip("torch")
    (imported / "weights.json").write_text(json.dumps(WEIGHTS))
    extra = ["--param", "weights=@weights.json"] if name.startswith("modomodo") else []
    select = ("select", *words(name), "-n", "8", "--run", "r", *extra)

    first = answer(*select)
    assert (first["round"], first["reissued"], first["prompts"]) == (0, False, len(first["rows"]))
    assert 1 <= first["prompts"] <= 8
    again = curri("select", "-n", "8", "--run", "r")  # the run knows its strategy, and what is within it
    assert [row["prompt_id"] for row in rows_of(again.stdout)] == [row["prompt_id"] for row in first["rows"]]
    if name.startswith("modomodo"):
        assert first["arms"] == {"hard": 6, "easy": 2}

    told = answer("record", results(imported / "results.jsonl", first["rows"]), "--run", "r")
    assert (told["closed"], told["unissued"], told["repeated"]) == ([0], [], 0)
    assert told["new"] == sum(row["n_rollouts"] for row in first["rows"])
    state = saved(imported)
    dry = answer(*select, "--dry-run")
    assert same_state(state, saved(imported))

    second = answer(*select)
    assert (second["round"], second["reissued"]) == (1, False)
    assert [row["prompt_id"] for row in dry["rows"]] == [row["prompt_id"] for row in second["rows"]]
    picked = second["rows"][0]["prompt_id"]
    why = answer("explain", str(picked), "--run", "r")
    assert (why["prompt_id"], why["active"], why["in_flight_in_round"]) == (picked, True, 1)
    assert len(why) > len(("prompt_id", "arm", "active", "in_flight_in_round", "history")), "it says why"
    assert "issued" in curri("explain", str(picked), "--run", "r").stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_is_shown_with_its_parameters(curri: Curri, answer: Answer, name: str) -> None:
    shown = answer("strategies", name)
    known = declared(strategy_class(name))
    assert [entry["name"] for entry in shown["parameters"]] == list(known)
    text = curri("strategies", name).stdout
    for key in known:
        assert f"\n{key} = " in text
    assert f"--strategy {name} " in text


@pytest.mark.parametrize("name", strategy_names())
def test_a_run_without_stored_rollouts_of_a_model(answer: Answer, filled: Path, name: str) -> None:
    if name == "pcl":
        pytest.importorskip("torch")
    extra = ["-p", "weights=easy=1,hard=3"] if name == "modomodo" else []
    assert answer("select", *words(name), "-n", "3", *extra)["prompts"] <= 3


def test_a_wrong_name_within_is_answered_with_the_nearest(curri: Curri, answer: Answer, filled: Path) -> None:
    wrong = {"mops": 'did you mean "mopps"', "": "strategy", "ucb/mopps": "only two plain strategies"}
    for within, said in wrong.items():
        error = answer("select", "-s", "ucb", "--within", within, "-n", "2", "--run", "r", code=1)["error"]
        assert said in error["message"] + (error["hint"] or ""), within
    assert answer("store", "info")["runs"] == []
    assert "--strategy" in curri("select", "--within", "mopps", "-n", "2", code=2).stderr


def test_a_composed_run_is_reopened_with_all_of_its_name_or_none(curri: Curri, answer: Answer, filled: Path) -> None:
    first = answer("select", "-s", "ucb", "--within", "mopps", "-n", "4", "--run", "r", "-p", "within_target=0.4")
    error = answer("select", "-s", "ucb", "-n", "4", "--run", "r", code=1)["error"]
    assert error["code"] == "run_mismatch"
    assert "'ucb/mopps'" in error["message"]
    other = answer("select", "-s", "ucb", "--within", "uniform", "-n", "4", "--run", "r", code=1)["error"]
    assert other["code"] == "run_mismatch"
    assert answer("select", "-s", "ucb/mopps", "-n", "4", "--run", "r")["rows"] == first["rows"]
    assert answer("select", "-n", "4", "--run", "r", "-p", "within_target=0.4")["rows"] == first["rows"]
    target = answer("select", "-n", "4", "--run", "r", "-p", "within_target=0.5", code=1)["error"]
    assert "within_target" in target["message"]


def test_weights_from_a_file(answer: Answer, filled: Path) -> None:
    select = ("select", "-s", "modomodo", "-n", "4", "--run", "r", "-p", "weights=@weights.json")
    assert "cannot read weights.json" in answer(*select, code=1)["error"]["message"]
    (filled / "weights.json").write_text('{"easy": 0.25, "hard": "much"}')
    assert "`weights` of `MoDoMoDo` must be weights" in answer(*select, code=1)["error"]["message"]
    (filled / "weights.json").write_text(json.dumps(WEIGHTS) + "\n")
    assert answer(*select)["arms"] == {"hard": 3, "easy": 1}
    assert answer(*select)["reissued"]
    (filled / "weights.json").write_text(json.dumps({"easy": 0.5, "hard": 0.5}))
    assert answer(*select, code=1)["error"]["code"] == "run_mismatch"


def test_prompts_that_join_an_open_run_are_explained_once_they_did(curri: Curri, answer: Answer, filled: Path) -> None:
    batch = answer("select", "-s", "ucb", "-n", "4", "--run", "r")["rows"]
    (filled / "more.jsonl").write_text('{"prompt": "late", "arm": "late", "id": "q"}\n')
    curri("ingest", "more.jsonl")
    error = answer("explain", "q", "--run", "r", code=1)["error"]
    assert "join at the next round" in error["hint"]
    answer("record", results(filled / "results.jsonl", batch), "--run", "r")
    why = answer("explain", "q", "--run", "r")
    assert (why["prompt_id"], why["arm"], why["history"]) == (13, "late", [])
    assert "never picked in this run" in curri("explain", "q", "--run", "r").stdout


def test_rounds_of_probes_on_the_command_line(curri: Curri, answer: Answer, imported: Path, rows_of: RowsOf) -> None:
    start = ["select", "-n", "4", "--run", "r", "--strategy", "vas", "--param", "probe_rollouts=2", "--probe"]
    curri(*start, "-o", "probes.jsonl")
    probes = rows_of(imported / "probes.jsonl")
    assert [row["n_rollouts"] for row in probes] == [2, 2, 2, 2]
    curri("record", results(imported / "results.jsonl", probes), "--run", "r")
    with open_store(imported / "curri.duckdb", read_only=True) as store:
        events = store.connection.rows("select distinct event from ledger order by event")
    assert events == [("issued",), ("observed",)]
    refused = curri("select", "-n", "4", "--strategy", "uniform", "--probe", code=1)
    assert "has no probe rollouts" in refused.stderr


def test_top_ups_on_the_command_line(curri: Curri, answer: Answer, imported: Path, rows_of: RowsOf) -> None:
    given = ["--param", "group_size=2", "--param", "round_size=2", "--param", "max_rounds=3"]
    curri("select", "-n", "3", "--run", "r", "--strategy", "reinforce-ada", *given, "-o", "batch.jsonl")
    batch = rows_of(imported / "batch.jsonl")
    sizes = []
    while batch:
        told = [{"prompt_id": row["prompt_id"], "rewards": [0.0] * row["n_rollouts"]} for row in batch]
        (imported / "part.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
        curri("record", "part.jsonl", "--run", "r", "--partial")
        sizes.append(sum(row["n_rollouts"] for row in batch))
        batch = answer("select", "--run", "r", "--top-up")["rows"]
    assert sizes == [6, 6, 6], "nothing was solved, so every prompt gets three rounds of two, and then no more"
    assert "no prompt of round 0" in curri("select", "--run", "r", "--top-up").stderr
    for wrong in (["--top-up", "-n", "2"], ["--top-up", "--next"], []):
        curri("select", "--run", "r", *wrong, code=2)
    curri("select", "--top-up", "-s", "ucb", code=2)
