from __future__ import annotations

import json
import math
import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from curri.errors import InvalidData, InvalidInput, InvalidParameter, PoolExhausted, UnknownName, UnknownPrompt
from curri.exchange import find_prompt, read_results, write_jsonl, write_selection
from curri.scheduler import Scheduler, pick
from curri.store import NewPrompt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curri.store import PromptStore


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# ---- picking --------------------------------------------------------------------------------------------------------


def test_a_pick_without_a_run_stores_nothing_and_is_repeatable(sums: PromptStore) -> None:
    first, again = (pick(sums, "ucb", 4, parameters={"seed": 3}) for _ in range(2))
    np.testing.assert_array_equal(first.prompt_ids, again.prompt_ids)
    assert sums.runs.names() == []
    assert [prompt.prompt_id for prompt in first.prompts] == first.prompt_ids.tolist()


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (UnknownName, {"strategy": "ubc"}),
        (UnknownName, {"model": "nobody"}),
        (InvalidParameter, {"parameters": {"temprature": 1.0}}),
        (PoolExhausted, {"n": 7}),
    ],
)
def test_wrong_picks(sums: PromptStore, error: type[Exception], arguments: dict[str, Any]) -> None:
    with pytest.raises(error):
        pick(sums, **{"strategy": "ucb", "n": 2, **arguments})


def test_a_pick_from_an_empty_store(store: PromptStore) -> None:
    with pytest.raises(PoolExhausted):
        pick(store, "ucb", 1)


def test_looking_ahead_gives_the_round_that_comes_and_changes_nothing(sums: PromptStore) -> None:
    scheduler = Scheduler(sums, "ucb", run="r", seed=1)
    scheduler.ask(2)
    before = sums.connection.rows("select * from ledger")
    ahead = scheduler.look_ahead(3)
    assert sums.connection.rows("select * from ledger") == before
    np.testing.assert_array_equal(scheduler.ask(3).prompt_ids, ahead.prompt_ids)


def test_prompts_in_flight(sums: PromptStore) -> None:
    scheduler = Scheduler(sums, "uniform", run="r")
    assert sums.runs.in_flight(scheduler.run.run_id).size == 0
    first, second = scheduler.ask(2), scheduler.ask(2)
    scheduler.tell(first.prompt_ids[:1], [1.0])
    left = np.sort(np.concatenate([first.prompt_ids[1:], second.prompt_ids]))
    np.testing.assert_array_equal(sums.runs.in_flight(scheduler.run.run_id), left)


# ---- writing --------------------------------------------------------------------------------------------------------


def test_what_a_selection_file_holds(store: PromptStore, tmp_path: Path) -> None:
    chat = [{"content": "hi", "role": "user"}]
    store.prompts.add([NewPrompt(json.dumps(chat), True, None, "é", metadata='{"level":3}')])
    selection = Scheduler(store, "uniform", run="r", group_size=4).ask(1)
    assert write_selection(selection, tmp_path / "batch.jsonl") == 1
    (row,) = read(tmp_path / "batch.jsonl")
    probability = row.pop("probability")
    assert probability is None or 0 < probability <= 1
    assert row == {"prompt_id": 1, "id": None, "prompt": chat, "answer": None, "arm": "é", "n_rollouts": 4, "round": 0,
                   "metadata": {"level": 3}}  # fmt: skip
    assert "é" in (tmp_path / "batch.jsonl").read_text()


def test_an_unknown_probability_is_null_and_a_pick_without_a_run_has_no_round(
    sums: PromptStore, tmp_path: Path
) -> None:
    selection = pick(sums, "ucb", 3)
    object.__setattr__(selection, "probability", np.full(3, math.nan))
    write_selection(selection, tmp_path / "batch.jsonl")
    assert [(row["probability"], row["round"]) for row in read(tmp_path / "batch.jsonl")] == [(None, None)] * 3


def test_a_file_appears_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    def rows() -> Any:
        yield {"a": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_jsonl(rows(), path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(path.read_text()))
    reader.start()
    write_jsonl([{"a": 1}], path)
    reader.join()
    assert found == ['{"a": 1}\n']
    assert path.is_fifo()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="cannot be written"):
        write_jsonl([{"a": 1}], tmp_path / "no" / "folder")


# ---- results --------------------------------------------------------------------------------------------------------


def test_one_row_a_response_or_one_row_a_group(write: Callable[..., Path]) -> None:
    (results,) = read_results(write({"prompt_id": 1, "reward": 1}, {"prompt_id": 2, "rewards": [0, 0.5]}))
    assert (results.prompt_ids, results.rewards, results.round, results.kind) == ([1, 2, 2], [1, 0, 0.5], None, "train")
    assert {name: value for name, value in results.columns.items() if value} == {}


def test_every_column_is_handed_on(write: Callable[..., Path]) -> None:
    row = {"prompt_id": 1, "reward": 2, "solved": True, "advantage": 0.5, "tokens": 3, "truncated": True,
           "policy_version": 7, "rollout_id": "r", "response": "text", "round": 4, "latency": 1.5}  # fmt: skip
    (results,) = read_results(write(row))
    columns = dict(results.columns)
    assert columns.pop("extras")["latency"].tolist() == [1.5]
    assert columns == {"solved": [1.0], "advantages": [0.5], "tokens": [3], "truncated": [True], "policy_version": [7],
                       "rollout_ids": ["r"], "responses": ["text"]}  # fmt: skip
    assert results.round == 4


def test_columns_of_a_selection_may_stand_beside_the_rewards(sums: PromptStore, write: Callable[..., Path]) -> None:
    scheduler = Scheduler(sums, "ucb", run="r")
    scheduler.ask(3)
    path = write()
    write_selection(scheduler.ask(2), path)
    path.write_text("".join(json.dumps({**row, "reward": 1}) + "\n" for row in read(path)))
    (results,) = read_results(path)
    assert (results.round, results.columns["extras"]) == (1, {})


def test_rounds_and_kinds_are_told_apart(write: Callable[..., Path]) -> None:
    path = write(
        {"prompt_id": 1, "reward": 1, "round": 2},
        {"prompt_id": 2, "reward": 1, "round": 1, "kind": "probe"},
        {"prompt_id": 3, "reward": 1},
        {"prompt_id": 4, "reward": 1, "round": 2},
    )
    parts = [(part.round, part.kind, part.prompt_ids) for part in read_results(path)]
    assert parts == [(None, "train", [3]), (1, "probe", [2]), (2, "train", [1, 4])]


def test_gaps_are_unknown(write: Callable[..., Path]) -> None:
    first = {"prompt_id": 1, "reward": 1, "solved": 1, "advantage": 1, "truncated": True, "policy_version": 2, "x": "a",
             "response": "r"}  # fmt: skip
    (results,) = read_results(write(first, {"prompt_id": 2, "reward": 1}))
    columns = results.columns
    assert math.isnan(columns["solved"][1])
    assert math.isnan(columns["advantages"][1])
    assert (columns["truncated"], columns["policy_version"], columns["responses"]) == (
        [True, False],
        [2, -1],
        ["r", None],
    )
    assert columns["extras"]["x"].tolist() == ["a", None]


@pytest.mark.parametrize("name", ["tokens", "rollout_id"])
def test_what_has_no_unknown_is_for_all_or_none(write: Callable[..., Path], name: str) -> None:
    with pytest.raises(InvalidData, match="1 of 2 responses have no"):
        read_results(write({"prompt_id": 1, "reward": 1, name: 5}, {"prompt_id": 1, "reward": 1}))


def test_one_bad_row_refuses_the_file_and_says_which(write: Callable[..., Path]) -> None:
    rows = [{"prompt_id": 1, "reward": 1}, *({"prompt_id": 1, "reward": "x"} for _ in range(5))]
    with pytest.raises(InvalidData, match=r"5 of 6 rows .* line 2: .* line 4: .*….*\n.*nothing was recorded"):
        read_results(write(*rows))


def test_ids_of_both_types_become_texts(write: Callable[..., Path]) -> None:
    rows = [{"prompt_id": 1, "reward": 1, "rollout_id": name} for name in (1, "b")]
    assert read_results(write(*rows))[0].columns["rollout_ids"] == ["1", "b"]


def test_nothing_in_the_file(write: Callable[..., Path]) -> None:
    assert read_results(write()) == []


# ---- looking up -----------------------------------------------------------------------------------------------------


def test_a_prompt_by_store_id_or_own_id(sums: PromptStore) -> None:
    sums.prompts.add([NewPrompt("x", False, None, "a", "3"), NewPrompt("y", False, None, "a", "900")])
    assert find_prompt(sums, "2") == 2
    assert find_prompt(sums, "q4") == 5
    assert find_prompt(sums, "900") == 8
    assert find_prompt(sums, "3", own_id=True) == 7
    with pytest.raises(InvalidInput, match="--own-id"):
        find_prompt(sums, "3")
    for unknown in ("0", "99", "²", "9" * 30, "nobody"):
        with pytest.raises(UnknownPrompt):
            find_prompt(sums, unknown)
