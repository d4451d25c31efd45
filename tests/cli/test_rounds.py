from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Curri = Callable[..., Result]
    Answer = Callable[..., dict[str, Any]]
    RowsOf = Callable[[str | Path], list[dict[str, Any]]]

UCB = ("select", "--strategy", "ucb", "-n", "4")


def results(path: Path, rows: list[dict[str, Any]], **columns: Any) -> str:
    lines = [{"prompt_id": row["prompt_id"], "rewards": [1, 0, 1, 1], **columns} for row in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_a_pick_without_a_run_stores_nothing(curri: Curri, answer: Answer, filled: Path, rows_of: RowsOf) -> None:
    result = curri(*UCB, "--seed", "3")
    rows = rows_of(result.stdout)
    assert result.stderr == ""
    assert set(rows[0]) == {
        "prompt_id",
        "id",
        "prompt",
        "answer",
        "arm",
        "n_rollouts",
        "probability",
        "round",
        "metadata",
    }
    assert [row["round"] for row in rows] == [None] * 4
    assert rows_of(curri(*UCB, "--seed", "3").stdout) == rows
    assert answer("store", "info")["runs"] == []
    assert answer(*UCB, "--seed", "3")["rows"] == rows


def test_a_round_from_select_to_record(curri: Curri, answer: Answer, filled: Path, rows_of: RowsOf) -> None:
    result = curri(*UCB, "--run", "r1", "-o", "batch.jsonl")
    assert result.stdout == ""
    assert "wrote 4 prompts of round 0 of r1 to batch.jsonl" in result.stderr
    assert "share" in result.stderr
    batch = rows_of(filled / "batch.jsonl")
    path = results(filled / "results.jsonl", batch, round=0)
    told = curri("record", path, "--run", "r1")
    assert "r1: 16 responses recorded" in told.stderr
    assert "round 0 is closed" in told.stderr
    again = answer("record", path, "--run", "r1")
    assert (again["new"], again["repeated"], again["closed"]) == (0, 16, [])
    nxt = answer("select", "-n", "4", "--run", "r1")
    assert (nxt["round"], nxt["reissued"]) == (1, False)


def test_a_second_select_gives_the_open_round_again_and_says_so(curri: Curri, answer: Answer, filled: Path,
                                                                rows_of: RowsOf) -> None:  # fmt: skip
    first = rows_of(curri(*UCB, "--run", "r1").stdout)
    again = curri("select", "-n", "2", "--run", "r1")
    assert rows_of(again.stdout) == first
    assert "round 0 of r1 is not recorded yet" in again.stderr
    other = answer("select", "-n", "2", "--run", "r1", "--next")
    assert (other["round"], other["reissued"]) == (1, False)
    assert not {row["prompt_id"] for row in other["rows"]} & {row["prompt_id"] for row in first}
    assert answer("select", "-n", "2", "--run", "r1")["round"] == 0


def test_other_consumers_have_rounds_of_their_own(answer: Answer, filled: Path) -> None:
    assert answer(*UCB, "--run", "r1")["round"] == 0
    assert answer(*UCB, "--run", "r1", "--consumer", "b")["round"] == 1
    assert answer(*UCB, "--run", "r1", "--consumer", "b")["reissued"] is True


@pytest.mark.parametrize("state", ["new", "open", "closed"])
def test_a_dry_run_shows_what_comes_and_stores_nothing(
    curri: Curri, answer: Answer, filled: Path, rows_of: RowsOf, state: str
) -> None:
    if state != "new":
        batch = rows_of(curri(*UCB, "--run", "r1").stdout)
        if state == "closed":
            curri("record", results(filled / "results.jsonl", batch), "--run", "r1")
    before = answer("store", "info")
    again = answer(*UCB, "--run", "r1", "--dry-run")
    assert (again["round"], again["reissued"]) == ((0, True) if state == "open" else (None, False))
    dry = answer(*UCB, "--run", "r1", "--next", "--dry-run")
    assert (dry["round"], dry["reissued"]) == (None, False)
    now = answer("store", "info")
    assert (now["runs"], now["rollouts"]) == (before["runs"], before["rollouts"])
    ids = [row["prompt_id"] for row in answer(*UCB, "--run", "r1", "--next")["rows"]]
    assert ids == [row["prompt_id"] for row in dry["rows"]]


def test_parameters_are_read_as_declared(answer: Answer, curri: Curri, filled: Path) -> None:
    answer(
        *UCB, "--run", "r1", "--param", "temperature=0.2", "-p", "window=50", "-p", "normalize_std=false", "--seed", "7"
    )
    (run,) = answer("store", "info")["runs"]
    assert {name: run["parameters"][name] for name in ("temperature", "window", "normalize_std", "seed")} == {
        "temperature": 0.2, "window": 50, "normalize_std": False, "seed": 7}  # fmt: skip
    error = answer(*UCB, "--run", "r1", "--param", "temperature=0.3", code=1)["error"]
    assert error["code"] == "run_mismatch"
    assert "0.2" in error["message"]
    assert "0.3" in error["message"]


WRONG = [
    (["--param", "temprature=0.2"], 1, 'did you mean "temperature"'),
    (["--param", "temperature=0"], 1, "must be a float in (0, inf); got 0"),
    (["--param", "window=2.5"], 1, "must be an int in [1, inf)"),
    (["--param", "temperature"], 2, "NAME=VALUE"),
    (["--param", "seed=1", "--seed", "2"], 2, "given twice"),
    (["--next"], 2, "--run"),
    (["--consumer", "b"], 2, "--run"),
    (["--model", "nobody"], 1, 'no model "nobody"'),
    (["-n", "13"], 1, "asked for 13 prompts; 12 of 12 can be picked"),
    (["-n", "0"], 2, "-n"),
    (["--strategy", "ubc"], 1, 'did you mean "ucb"'),
    (["-o", "no/folder/x"], 1, "cannot be written"),
]


def test_wrong_selects(curri: Curri, filled: Path) -> None:
    for words, code, said in WRONG:
        result = curri(*UCB, *words, code=code)
        assert said in result.stderr, words
        assert result.stdout == ""


def test_where_no_strategy_is_named_the_default_picks_and_says_so(curri: Curri, answer: Answer, filled: Path) -> None:
    named = answer("select", "-n", "2", "-s", "frontier")
    assert answer("select", "-n", "2")["rows"] == named["rows"]
    assert "new run" not in curri("select", "-n", "2", "--run", "r1", "--dry-run").stderr
    assert (
        "r1 is a new run; no strategy was named, so `frontier` picks"
        in curri("select", "-n", "2", "--run", "r1").stderr
    )
    assert "new run" not in curri("select", "-n", "2", "--run", "r1").stderr
    assert [run["strategy"] for run in answer("store", "info")["runs"]] == ["frontier"]


def test_partial_results_leave_the_round_open(curri: Curri, answer: Answer, filled: Path, rows_of: RowsOf) -> None:
    batch = rows_of(curri(*UCB, "--run", "r1").stdout)
    told = curri("record", results(filled / "a.jsonl", batch[:3]), "--run", "r1")
    assert "round 0 stays open" in told.stderr
    part = results(filled / "b.jsonl", batch[3:], rollout_ids=["a", "b", "c", "d"])
    assert answer("record", part, "--run", "r1", "--partial")["closed"] == []
    rest = results(filled / "c.jsonl", batch[3:], rollout_ids=["d", "e", "f", "g"])
    told_all = answer("record", rest, "--run", "r1")
    assert (told_all["new"], told_all["repeated"], told_all["closed"]) == (3, 1, [0])


def test_results_of_prompts_that_were_not_handed_out_are_named(
    curri: Curri, answer: Answer, filled: Path, rows_of: RowsOf
) -> None:
    batch = rows_of(curri(*UCB, "--run", "r1").stdout)
    other = next(i for i in range(1, 13) if i not in {row["prompt_id"] for row in batch})
    told = curri("record", results(filled / "a.jsonl", [{"prompt_id": other}]), "--run", "r1")
    assert f"1 prompt late or never handed out, counted as evidence only: {other}" in told.stderr
    error = answer("record", results(filled / "b.jsonl", [{"prompt_id": 99}]), "--run", "r1", code=1)["error"]
    assert (error["code"], "99" in error["message"]) == ("unknown_prompt", True)


def test_record_from_standard_input_takes_all_or_nothing(curri: Curri, answer: Answer, filled: Path) -> None:
    curri(*UCB, "--run", "r1")
    bad = '{"prompt_id": 1, "reward": 1}\n{"prompt_id": 1, "reward": NaN}\n'
    assert "line 2" in curri("record", "-", "--run", "r1", code=1, text=bad).stderr
    assert answer("store", "info")["rollouts"] == 0
    assert "2 responses" in curri("record", "-", "--run", "r1", text='{"prompt_id": 1, "rewards": [1, 0]}').stderr


def test_explain(curri: Curri, answer: Answer, filled: Path, rows_of: RowsOf) -> None:
    batch = rows_of(curri(*UCB, "--run", "r1").stdout)
    picked = batch[0]["prompt_id"]
    document = answer("explain", str(picked), "--run", "r1")
    assert (document["prompt_id"], document["history"][0]["event"]) == (picked, "issued")
    assert answer("explain", f"p{picked - 1}", "--run", "r1") == document
    text = curri("explain", str(picked), "--run", "r1").stdout
    assert "arm weight" in text
    assert "issued" in text
    other = next(i for i in range(1, 13) if i not in {row["prompt_id"] for row in batch})
    assert "never picked in this run" in curri("explain", str(other), "--run", "r1").stdout
    assert answer("explain", "nobody", "--run", "r1", code=1)["error"]["code"] == "unknown_prompt"
    assert answer("explain", "1", "--run", "r9", code=1)["error"]["code"] == "unknown_name"
