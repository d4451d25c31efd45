from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from curri import Scheduler
from curri.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result


def retired(answer: Callable[..., dict[str, Any]]) -> list[str]:
    return [row["id"] for row in answer("prompts", "list", "--where", "retired")["prompts"]]


def test_list(curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path) -> None:
    result = curri("prompts", "list", "--where", 'arm == "hard"', "-n", "2")
    assert result.stdout.splitlines()[2:] == ["2          p1  hard  train  1 + 1", "4          p3  hard  train  3 + 3"]
    assert "6 prompts of 12; the first 2 of them" in result.stderr
    document = answer("prompts", "list", "--sql-where", "prompt = '3 + 3'")
    assert (document["matching"], document["of"], document["prompts"][0]["id"]) == (1, 12, "p3")
    assert answer("prompts", "list", "-n", "0")["prompts"] == []
    nothing = curri("prompts", "list", "--where", "retired")
    assert (nothing.stdout, "0 prompts of 12" in nothing.stderr) == ("", True)


def test_a_text_from_a_file_cannot_steer_the_terminal(curri: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "\\u001b[31m\\n' + "x" * 200 + '"}\n')
    curri("init")
    curri("ingest", "p.jsonl")
    result = curri("prompts", "list")
    assert "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == 3


def test_retire_shows_and_asks_first(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path
) -> None:
    words = ("prompts", "retire", "--where", 'arm == "hard"')
    result = curri(*words, text="n\n")
    assert "6 prompts match" in result.stderr
    assert "to retire: 6 prompts; the first 5 of them" in result.stderr
    assert "1 + 1" in result.stderr
    assert "retire 6 prompts?" in result.stderr
    assert "nothing was changed" in result.stderr
    assert (result.stdout, retired(answer)) == ("", [])
    assert "say --yes" in curri(*words, text="", code=1).stderr
    assert retired(answer) == []
    assert "retired 6 prompts" in curri(*words, text="y\n").stderr
    assert retired(answer) == ["p1", "p3", "p5", "p7", "p9", "p11"]
    again = curri(*words)
    assert "6 prompts match, 6 of them as they should be already" in again.stderr
    assert "nothing was changed" in again.stderr


def test_dry_run_and_json(curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path) -> None:
    words = ("prompts", "retire", "--where", "prompt_id <= 7")
    assert "dry run: nothing was changed" in curri(*words, "--dry-run").stderr
    document = answer(*words, "--dry-run")
    assert (document["matching"], document["to_change"], document["changed"]) == (7, 7, 0)
    assert len(document["examples"]) == 5
    assert "--json cannot ask" in answer(*words, code=2)["error"]["message"]
    assert retired(answer) == []
    assert answer(*words, "--yes")["changed"] == 7
    assert answer("prompts", "restore", "--where", "prompt_id > 2", "-y")["changed"] == 5
    assert retired(answer) == ["p0", "p1"]


def test_a_filter_is_needed_and_checked(curri: Callable[..., Result], filled: Path) -> None:
    assert "--where" in curri("prompts", "retire", "--yes", code=2).stderr
    result = curri("prompts", "retire", "--yes", "--where", "arm == hard", code=1)
    assert "         ^" in result.stderr
    assert 'texts are quoted: "hard"' in result.stderr
    # Were it pasted into another filter, this one would say something else.
    assert "never opened" in curri("prompts", "retire", "--yes", "--where", "retired) or (not retired", code=1).stderr


def test_what_is_retired_is_not_picked_in_a_run_that_goes_on(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path
) -> None:
    words = ("select", "--run", "r", "-n", "4")
    first = {row["prompt_id"] for row in answer(*words, "-s", "uniform")["rows"]}
    easy = {1, 3, 5, 7, 9, 11}
    answer("prompts", "retire", "--where", 'arm == "easy"', "--yes")
    assert {row["prompt_id"] for row in answer(*words)["rows"]} == first  # what is in flight stays
    lines = "".join(f'{{"prompt_id": {prompt}, "rewards": [1, 0]}}\n' for prompt in first)
    (filled / "results.jsonl").write_text(lines)
    curri("record", "results.jsonl", "--run", "r")
    second = {row["prompt_id"] for row in answer(*words)["rows"]}
    assert not second & easy
    answer("prompts", "restore", "--where", "retired", "--yes")
    third = {row["prompt_id"] for row in answer(*words, "--next", "--dry-run")["rows"]}
    assert third <= set(range(1, 13)) - second


def test_a_run_that_is_open_notices_at_its_next_round(filled: Path) -> None:
    with open_store(filled / "curri.duckdb") as store:
        scheduler = Scheduler(store, "uniform", run="r", seed=1)
        first = scheduler.ask(6).prompt_ids
        store.prompts.retire(np.setdiff1d(np.arange(1, 13), [2, 4, 6, 8]))
        scheduler.tell(first, np.ones(6))
        assert set(scheduler.ask(4).prompt_ids.tolist()) == {2, 4, 6, 8}


def test_split(curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path) -> None:
    assert (
        "move to eval 4 prompts?" in curri("prompts", "split", "eval", "--where", "prompt_id <= 4", text="y\n").stderr
    )
    assert answer("store", "info")["splits"] == {"eval": 4, "train": 8}
    assert answer("select", "-s", "uniform", "-n", "9", code=1)["error"]["code"] == "pool_exhausted"
    assert answer("prompts", "split", "train", "--where", 'split == "eval" and prompt_id > 2', "-y")["changed"] == 2
    assert answer("store", "info")["splits"] == {"eval": 2, "train": 10}
    assert answer("prompts", "split", "", "--where", "retired", "-y", code=1)["error"]["code"] == "invalid_parameter"


def test_once_there_are_runs_prompts_join_training_but_do_not_leave_it(
    answer: Callable[..., dict[str, Any]], filled: Path
) -> None:
    answer("prompts", "split", "eval", "--where", "prompt_id <= 4", "-y")
    answer("select", "--run", "r", "-s", "uniform", "-n", "2")
    for how in ("--yes", "--dry-run"):
        error = answer("prompts", "split", "eval", "--where", "prompt_id <= 6", how, code=1)["error"]
        assert "2 prompts cannot leave training" in error["message"]
        assert "prompts retire" in error["hint"]
    assert answer("prompts", "split", "test", "--where", "prompt_id <= 2", "-y")["changed"] == 2
    assert answer("prompts", "split", "train", "--where", "prompt_id <= 4", "-y")["changed"] == 4
    with open_store(filled / "curri.duckdb") as store:
        scheduler = Scheduler(store, run="r")
        scheduler.tell(scheduler.ask(2).prompt_ids, [1, 0])
        assert set(scheduler.ask(12).prompt_ids.tolist()) == set(range(1, 13))


@pytest.mark.parametrize("command", ["list", "retire"])
def test_while_another_process_holds_the_store(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path, command: str
) -> None:
    with open_store(filled / "curri.duckdb") as store:
        store.prompts.retire(np.array([3]))
        store.publish()
    program = (
        "import sys, time, curri; store = curri.open_store('curri.duckdb'); print('open', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], cwd=filled, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        if command == "list":
            assert retired(answer) == ["p2"]
            found = answer("prompts", "list", "--sql-where", "retired")
            assert [row["id"] for row in found["prompts"]] == ["p2"]
            assert "copy it published" in curri("prompts", "list", "--sql-where", "retired").stderr
        else:
            assert answer("prompts", "retire", "--where", "retired", "--yes", code=3)["error"]["code"] == "store_locked"
    finally:
        holder.communicate(b"")
