"""Rollouts, selections and admissions: what is taken, what is refused, what is copied."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidInput, InvalidRollouts, StoreError
from curri.types import LARGEST, Prompt, Rollouts, Selection, Ticket, whole_numbers

FULL: dict[str, Any] = {
    "prompt_ids": [3, 3, 5],
    "rewards": [1, 0, 0.5],
    "solved": [1, 0, np.nan],
    "advantages": [0.5, -0.5, np.nan],
    "tokens": [10, 0, 7],
    "responses": ["a", [1, 2], None],
    "truncated": [False, True, False],
    "policy_version": [4, 4, -1],
    "rollout_ids": ["x", "y", "x"],
    "extras": {"length": [1, 2, 3]},
}


class Tensor:
    """What an array library hands over: it can be turned into an array, and has a length, and is no sequence."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._values, dtype=dtype)

    def __len__(self) -> int:
        return len(self._values)


def test_columns_have_one_type_each() -> None:
    rollouts = Rollouts(**FULL)
    kinds = {name: getattr(rollouts, name).dtype.kind for name in FULL if name not in {"responses", "extras"}}
    assert kinds == {
        "prompt_ids": "i",
        "rewards": "f",
        "solved": "f",
        "advantages": "f",
        "tokens": "i",
        "truncated": "b",
        "policy_version": "i",
        "rollout_ids": "U",
    }
    assert rollouts.responses == ["a", [1, 2], None]
    assert rollouts.extras["length"].tolist() == [1, 2, 3]
    assert len(rollouts) == 3


@pytest.mark.parametrize("shape", [list, tuple, np.array, Tensor], ids=["list", "tuple", "array", "tensor"])
def test_columns_may_be_any_array_like(shape: Any) -> None:
    names = ("prompt_ids", "rewards", "solved", "advantages", "tokens", "truncated", "policy_version", "rollout_ids")
    given_ = {name: shape(FULL[name]) for name in names}
    assert_same(Rollouts(**given_, responses=FULL["responses"], extras=FULL["extras"]), Rollouts(**FULL))


def assert_same(left: Rollouts, right: Rollouts) -> None:
    for item in dataclasses.fields(Rollouts):
        mine, theirs = getattr(left, item.name), getattr(right, item.name)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype
        elif item.name != "extras":
            assert mine == theirs
    assert left.extras.keys() == right.extras.keys()


def test_solved_defaults_to_rewards_between_0_and_1() -> None:
    assert Rollouts([1, 1], [0.25, 1]).solved.tolist() == [0.25, 1.0]
    assert np.isnan(Rollouts([1, 1], [0.25, 2]).solved).all()
    assert np.isnan(Rollouts([1, 1], [0.25, -0.5]).solved).all()
    assert Rollouts([1, 1], [1 + 2e-7, -1e-9]).solved.tolist() == [1.0, 0.0], "a sum of weights, rounded"
    assert Rollouts([1, 1], [5, -5], solved=[1, 0]).solved.tolist() == [1.0, 0.0]


def test_input_is_copied() -> None:
    names = ("prompt_ids", "rewards", "advantages", "tokens", "rollout_ids")
    columns: dict[str, Any] = {name: np.array(FULL[name]) for name in names}
    rollouts = Rollouts(**columns)
    for column in columns.values():
        column[:] = column[::-1].copy()
        column[:] = column[0]
    assert_same(rollouts, Rollouts(**{name: FULL[name] for name in columns}))
    assert rollouts.solved is not rollouts.rewards
    assert not np.shares_memory(rollouts.solved, rollouts.rewards)


def test_equal_numbers_are_equal_bit_for_bit() -> None:
    odd_nan = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)[0]
    rollouts = Rollouts([1, 1], [-0.0, 0.0], advantages=[odd_nan, -np.nan])
    assert not np.signbit(rollouts.rewards).any()
    assert len(set(rollouts.advantages.view(np.uint64).tolist())) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e151, -1e300, None])
def test_a_reward_that_is_not_finite_is_refused_by_prompt(bad: Any) -> None:
    with pytest.raises(InvalidRollouts, match=r"rewards must be finite numbers; 2 of 3 .* of prompts 4, 9\n") as caught:
        Rollouts([9, 4, 5], [bad, bad, 1.0])
    assert "nothing was recorded" in str(caught.value)


def test_many_bad_prompts_are_named_in_part() -> None:
    with pytest.raises(InvalidRollouts, match="of prompts 0, 1, 2, 3, 4, 5, 6, 7, …"):
        Rollouts(np.arange(100), np.full(100, np.nan))


def test_the_largest_reward_is_taken() -> None:
    rollouts = Rollouts([1, 1], [LARGEST, -LARGEST], advantages=[LARGEST, -LARGEST])
    assert np.isfinite(np.square(rollouts.rewards)).all()


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("prompt_ids", [1.5, 2, 3], "`prompt_ids` must be a flat sequence of integers"),
        ("prompt_ids", [[1, 2, 3]], "`prompt_ids` must be a flat sequence of integers"),
        ("prompt_ids", ["1", "2", "3"], "`prompt_ids` must be a flat sequence of integers; got list"),
        ("prompt_ids", [True, False, True], "integers"),
        ("prompt_ids", [1, 2, 2**70], "integers"),
        ("prompt_ids", np.array([1, 2, 2**63], dtype=np.uint64), "integers"),
        ("prompt_ids", [1e300, 2, 3], "integers"),
        ("prompt_ids", [[1], [2, 3], 4], "integers"),
        ("prompt_ids", (i for i in range(3)), "integers"),
        ("rewards", ["a", "b", "c"], "`rewards` must be numbers"),
        ("rewards", ["1", "2", "3"], "`rewards` must be numbers"),
        ("rewards", np.array([1.0, "2", None], dtype=object), "`rewards` must be numbers"),
        ("rewards", [1j, 2, 3], "`rewards` must be numbers"),
        ("rewards", [1, 2], "`rewards` must have one entry a response, 3 in all; got 2"),
        ("rewards", 1.0, "`rewards` must be a flat sequence"),
        ("rewards", [[1], [2], [3]], "`rewards` must be a flat sequence"),
        ("rewards", [[1], [2, 3], [3]], "`rewards` must have one entry a response"),
        ("rewards", [10**400, 1, 1], "`rewards` must be numbers"),
        ("solved", [0, 1, 1.5], "`solved` must lie in"),
        ("solved", [0, -1, 1], "`solved` must lie in"),
        ("solved", [0, 1], "`solved` must have one entry a response, 3 in all; got 2"),
        ("advantages", [0, np.inf, 1], "advantages must be finite, or NaN where unknown; 1 of 3"),
        ("advantages", 0.5, "`advantages` must have one entry a response, 3 in all; got a single value"),
        ("tokens", [1, -1, 1], "tokens must be counts, from 0 to 2147483647; 1 of 3"),
        ("tokens", [1, 2.5, 1], "`tokens` must be a flat sequence of integers"),
        ("truncated", ["yes", "no", "no"], "`truncated` must be a flat sequence of booleans"),
        ("truncated", [0, 1, 2], "`truncated` must be a flat sequence of booleans"),
        ("truncated", [0.5, 1, 0], "`truncated` must be a flat sequence of booleans"),
        ("policy_version", [1, 2, None], "`policy_version` must be a flat sequence of integers"),
        ("rollout_ids", [1.5, 2.5, 3.5], "`rollout_ids` must be strings or integers"),
        ("rollout_ids", ["a", None, "b"], "`rollout_ids` must be strings or integers"),
        ("rollout_ids", [["a"], ["b"], ["c"]], "`rollout_ids` must be strings or integers"),
        ("rollout_ids", ["a", "b"], "`rollout_ids` must have one entry a response"),
        ("responses", "abc", "`responses` must have one entry a response, 3 in all; got a single value"),
        ("responses", ["a"], "`responses` must have one entry a response"),
        ("extras", {"length": [1]}, "`length` must have one entry a response"),
        ("kind", "tain", '`kind` must be "train" or "probe"'),
    ],
)
def test_wrong_columns_are_refused(column: str, value: Any, words: str) -> None:
    columns: dict[str, Any] = {"prompt_ids": [1, 2, 3], "rewards": [0.0, 1.0, 0.0]}
    with pytest.raises(InvalidRollouts, match=words):
        Rollouts(**{**columns, column: value})


def test_what_pandas_and_json_hand_over_is_taken() -> None:
    assert Rollouts([3.0, 4.0], [1, 0]).prompt_ids.tolist() == [3, 4]
    with_nulls: Any = [None, 0.5]
    advantages = Rollouts([1, 2], [1, 0], advantages=with_nulls).advantages
    assert advantages is not None
    assert np.isnan(advantages).tolist() == [True, False]
    assert Rollouts([1, 2], [True, False]).rewards.tolist() == [1.0, 0.0]
    names = Rollouts([1, 2], [1, 0], rollout_ids=np.array([1, "b"], dtype=object)).rollout_ids
    assert names is not None
    assert names.tolist() == ["1", "b"]


def test_ragged_token_ids_become_plain_lists() -> None:
    told = Rollouts([1, 2, 3], [1, 0, 1], responses=[np.array([1, 2]), [3], (4, 5, 6)])
    assert told.responses == [[1, 2], [3], [4, 5, 6]]


def test_no_rollouts() -> None:
    empty = Rollouts([], [])
    assert len(empty) == 0
    assert [str(column.dtype) for column in (empty.prompt_ids, empty.rewards, empty.solved)] == [
        "int64",
        "float64",
        "float64",
    ]
    assert len(Rollouts(**FULL).take(np.array([], dtype=np.int64))) == 0


def test_take_by_position_and_by_mask() -> None:
    rollouts = Rollouts(**FULL)
    taken = rollouts.take(np.array([2, 0]))
    assert taken.prompt_ids.tolist() == [5, 3]
    assert taken.responses == [None, "a"]
    assert taken.extras["length"].tolist() == [3, 1]
    assert_same(rollouts.take(np.array([False, True, True])), rollouts.take(np.array([1, 2])))
    assert_same(rollouts.take(np.arange(3)), rollouts)


def test_take_keeps_solved_as_it_was() -> None:
    mixed = Rollouts([1, 2], [0.5, 3.0])
    assert np.isnan(mixed.take(np.array([0])).solved).all()


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_whole_numbers_are_exact(values: list[int]) -> None:
    found = whole_numbers(values)
    assert found is not None
    assert found.tolist() == values


@given(st.lists(st.floats(), min_size=1))
def test_whole_numbers_of_floats(values: list[float]) -> None:
    found = whole_numbers(values)
    whole = all(np.isfinite(v) and v.is_integer() and -(2.0**63) < v < 2.0**63 for v in values)
    assert (found is not None) == whole
    assert found is None or found.tolist() == values


def test_a_selection_fetches_its_texts_when_asked() -> None:
    ids = np.array([4, 2])
    columns: dict[str, Any] = {
        "prompt_ids": ids,
        "arms": np.array(["a", "a"]),
        "n_rollouts": np.array([8, 8]),
        "probability": np.array([0.5, 0.5]),
        "kind": "train",
        "ticket": Ticket("run", 0, 0),
    }
    selection = Selection(**columns, fetch=lambda wanted: [Prompt(int(i), f"{i}?", None, "a", {}) for i in wanted])
    assert [prompt.prompt for prompt in selection.prompts] == ["4?", "2?"]
    assert len(selection) == 2
    assert "fetch" not in repr(selection)
    with pytest.raises(StoreError, match="ids but no texts") as caught:
        _ = Selection(**columns).prompts
    assert "Scheduler" in str(caught.value.hint)


def test_refusals_are_value_errors() -> None:
    with pytest.raises(ValueError, match="rewards"):
        Rollouts([1], [np.nan])
    assert issubclass(InvalidRollouts, InvalidInput)
