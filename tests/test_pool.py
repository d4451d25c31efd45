"""The prompt pool: dense rows in ascending id order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri import PromptPool
from curri.errors import InvalidParameter, UnknownName, UnknownPrompt
from curri.types import Prompt

if TYPE_CHECKING:
    from curri.types import Ints

ids = st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=30)


@given(wanted=ids, data=st.data())
def test_rows_are_in_ascending_id_order_whatever_was_given(wanted: list[int], data: st.DataObject) -> None:
    arms = [f"arm {i % 3}" for i in range(len(wanted))]
    rates = [(i % 5) / 4 for i in range(len(wanted))]
    order = data.draw(st.permutations(range(len(wanted))))
    pool = PromptPool(wanted, arms, prior_rate=rates)
    again = PromptPool([wanted[i] for i in order], [arms[i] for i in order], prior_rate=[rates[i] for i in order])
    assert pool.ids.tolist() == sorted(wanted) == again.ids.tolist()
    assert pool.arm_names == again.arm_names
    assert pool.arms.tolist() == again.arms.tolist()
    assert pool.prior_rate is not None
    assert again.prior_rate is not None
    assert pool.prior_rate.tolist() == again.prior_rate.tolist()
    assert pool.arm_of(pool.rows(wanted)).tolist() == arms
    assert pool.rows(pool.ids).tolist() == list(range(len(wanted)))


@given(wanted=ids, asked=ids)
def test_contains_agrees_with_rows(wanted: list[int], asked: list[int]) -> None:
    pool = PromptPool(wanted)
    inside = pool.contains(asked)
    assert inside.tolist() == [i in wanted for i in asked]
    if not inside.all():
        with pytest.raises(UnknownPrompt):
            pool.rows(asked)


def test_arms_and_their_rows() -> None:
    pool = PromptPool([5, 1, 9, 3], ["b", "a", "a", "b"], active=[True, True, False, True])
    assert pool.arm_names == ("a", "b")
    assert pool.arm_sizes.tolist() == [1, 2]
    assert pool.active_rows(0).tolist() == [0]
    assert pool.active_rows(1).tolist() == [1, 2]
    assert (len(pool), pool.n_active) == (4, 3)
    assert repr(pool) == "PromptPool(3 active of 4 prompts, 2 arms)"
    assert pool.arm_code("b") == 1
    with pytest.raises(UnknownName, match='no arm "c"'):
        pool.arm_code("c")


def test_an_arm_whose_prompts_are_all_retired_has_no_rows() -> None:
    pool = PromptPool([1, 2], ["a", "b"]).retired([1])
    assert pool.arm_sizes.tolist() == [0, 1]
    assert pool.active_rows(0).tolist() == []
    assert pool.active_rows(1).tolist() == [1]


def test_an_empty_pool() -> None:
    pool = PromptPool([])
    assert (len(pool), pool.n_active, pool.arm_names) == (0, 0, ())
    assert pool.rows([]).tolist() == []
    assert pool.contains([3]).tolist() == [False]
    assert pool.extended([3], ["a"]).ids.tolist() == [3]
    with pytest.raises(UnknownPrompt, match="pool of 0 prompts"):
        pool.rows([3])


def test_arrays_are_read_only() -> None:
    pool = PromptPool([2, 1], ["a", "b"], prior_rate=[0.5, 0.5], expected_tokens=[1, 2])
    for array in (pool.ids, pool.arms, pool.active, pool.prior_rate, pool.expected_tokens, pool.active_rows(0)):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0  # type: ignore[index]


def test_input_is_copied() -> None:
    given_ = np.array([1, 2, 3])
    active = np.array([True, True, True])
    pool = PromptPool(given_, active=active)
    given_[:] = 0
    active[:] = False
    assert pool.ids.tolist() == [1, 2, 3]
    assert pool.active.all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ids": [1, 2, 1, 2, 3]}, "must be distinct; repeated: 1, 2"),
        ({"ids": [1.5]}, "must be integers"),
        ({"ids": ["1"]}, "must be integers"),
        ({"ids": [True]}, "must be integers"),
        ({"ids": [2**64]}, "must be integers"),
        ({"ids": np.array([2**63], dtype=np.uint64)}, "must be integers"),
        ({"ids": [[1, 2]]}, "flat sequence"),
        ({"ids": 3}, "flat sequence"),
        ({"ids": [1, 2], "arms": ["a"]}, r"`arms` .* one entry a prompt, 2 in all"),
        ({"ids": [1, 2], "arms": "ab"}, r"`arms` .* one entry a prompt"),
        ({"ids": [1, 2], "arms": ["a", None]}, "None among them"),
        ({"ids": [1], "prior_rate": [1.5]}, r"`prior_rate` .* must lie in \[0, 1\], or be NaN where unknown; got 1.5"),
        ({"ids": [1], "prior_rate": ["x"]}, "`prior_rate`"),
        ({"ids": [1], "prior_rate": [0.5, 0.5]}, "one entry a prompt"),
        ({"ids": [1], "expected_tokens": [0.0]}, r"`expected_tokens` .* \(0, inf\)"),
        ({"ids": [1], "expected_tokens": [np.inf]}, r"\(0, inf\)"),
        ({"ids": [1, 2], "active": [True]}, r"`active` .* one entry a prompt"),
        ({"ids": [1, 2], "active": [1, 2]}, "`active` .* booleans"),
    ],
)
def test_wrong_pools_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        PromptPool(**arguments)


def test_unknown_ids_are_named() -> None:
    pool = PromptPool(np.arange(5))
    with pytest.raises(UnknownPrompt, match="2 prompt ids are not in the pool of 5 prompts: 7, 9") as caught:
        pool.rows([3, 9, 7, 9])
    assert "curri select" in str(caught.value.hint)
    with pytest.raises(UnknownPrompt, match="5, 6, 7, 8, 9, 10, 11, 12, …"):
        pool.rows(np.arange(100))


@pytest.mark.parametrize("wrong", [[1.5], ["1"], [True], [None], [[1], [2, 3]]])
def test_ids_that_are_no_integers_are_refused(wrong: Any) -> None:
    pool = PromptPool([1, 2, 3])
    for ask in (pool.rows, pool.contains, pool.retired, pool.extended, pool.restricted_to):
        with pytest.raises(InvalidParameter, match="must be integers"):
            ask(wrong)


def test_unknown_priors_are_nan() -> None:
    pool = PromptPool([1, 2], prior_rate=[np.nan, 0.5])
    assert pool.prior_rate is not None
    assert np.isnan(pool.prior_rate).tolist() == [True, False]
    assert PromptPool([1]).prior_rate is None


def test_extended_keeps_what_is_there() -> None:
    pool = PromptPool([5, 1], ["b", "a"], prior_rate=[0.5, 0.25], active=[False, True])
    larger = pool.extended([3, 0], ["c", "a"], expected_tokens=[7, np.nan])
    assert larger.ids.tolist() == [0, 1, 3, 5]
    assert larger.arm_of(np.arange(4)).tolist() == ["a", "a", "c", "b"]
    assert larger.active.tolist() == [True, True, True, False]
    assert larger.prior_rate is not None
    assert larger.expected_tokens is not None
    assert larger.prior_rate.tolist()[1::2] == [0.25, 0.5]
    assert np.isnan(larger.prior_rate[::2]).all()
    assert larger.expected_tokens[2] == 7
    assert pool.ids.tolist() == [1, 5]
    with pytest.raises(InvalidParameter, match="repeated: 5"):
        pool.extended([5])


def test_retired_and_restricted() -> None:
    pool = PromptPool([1, 2, 3], ["a", "b", "b"], prior_rate=[0.1, 0.2, 0.3])
    retired = pool.retired([2])
    assert retired.active.tolist() == [True, False, True]
    assert pool.active.all()
    part = retired.restricted_to([3, 2, 99])
    assert part.ids.tolist() == [2, 3]
    assert part.active.tolist() == [False, True]
    assert part.prior_rate is not None
    assert part.prior_rate.tolist() == [0.2, 0.3]
    assert pool.restricted_to([3, 2, 1]) is pool
    with pytest.raises(UnknownPrompt):
        pool.retired([9])


def test_generations_follow_their_prompts() -> None:
    pool = PromptPool([5, 3, 4], generation=[2, 0, 1])
    assert pool.generation is not None
    assert pool.generation.tolist() == [0, 1, 2]
    assert PromptPool([1]).generation is None
    grown = pool.extended([1, 9], generation=[0, 3])
    assert grown.generation is not None
    assert grown.generation.tolist() == [0, 0, 1, 2, 3]
    late = PromptPool([1]).extended([2], generation=[1]).generation
    assert late is not None
    assert late.tolist() == [0, 1]
    kept = grown.retired([1]).restricted_to([5, 9]).generation
    assert kept is not None
    assert kept.tolist() == [2, 3]


@pytest.mark.parametrize("wrong", [[-1], [0.5], ["a"], [0, 1]])
def test_wrong_generations_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidParameter, match="`generation` of `PromptPool` must"):
        PromptPool([1], generation=wrong)


def test_texts_are_fetched_by_id() -> None:
    def fetch(asked: Ints) -> list[Prompt]:
        return [Prompt(i, f"text {i}", None, "a", {}) for i in asked.tolist()]

    pool = PromptPool([7, 5], fetch=fetch).extended([6]).retired([5]).restricted_to([5, 6])
    assert [prompt.prompt for prompt in pool.prompts(np.array([1, 0]))] == ["text 6", "text 5"]
    with pytest.raises(InvalidParameter, match="has no texts"):
        PromptPool([1]).prompts(np.array([0]))
