from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.estimators import group_advantages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from curri.types import Floats

responses = st.lists(st.tuples(st.integers(0, 4), st.floats(-1e3, 1e3)), min_size=1, max_size=40)


def by_hand(rewards: Sequence[float], group: Sequence[int], normalize_std: bool, epsilon: float) -> Floats:
    out = np.empty(len(rewards))
    for label in set(group):
        mine = [i for i, g in enumerate(group) if g == label]
        r = np.array([rewards[i] for i in mine])
        mean, std = (r.mean(), r.std(ddof=1)) if len(r) > 1 else (0.0, 1.0)
        if np.all(r == r[0]) and len(r) > 1:
            mean = r[0]
        out[mine] = (r - mean) / (std + epsilon) if normalize_std else r - mean
    return out


@given(responses, st.booleans())
def test_against_the_definition(pairs: list[tuple[int, float]], normalize_std: bool) -> None:
    group, rewards = zip(*pairs, strict=True)
    found = group_advantages(rewards, group, normalize_std=normalize_std)
    assert found == pytest.approx(by_hand(rewards, group, normalize_std, 1e-6), rel=1e-6, abs=1e-6)


@given(responses, st.data())
def test_moves_with_its_responses(pairs: list[tuple[int, float]], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(pairs))))
    group, rewards = map(np.array, zip(*pairs, strict=True))
    moved = group_advantages(rewards[order], group[order])
    assert moved == pytest.approx(group_advantages(rewards, group)[order], rel=1e-9, abs=1e-9)


@given(st.floats(-1e300, 1e300), st.integers(2, 9))
def test_equal_rewards_give_exactly_zero(reward: float, size: int) -> None:
    assert group_advantages([reward] * size, [0] * size).tolist() == [0.0] * size
    assert group_advantages([reward] * size, [0] * size, epsilon=0.0).tolist() == [0.0] * size


def test_three_times_a_tenth() -> None:
    assert group_advantages([0.1, 0.1, 0.1], ["a"] * 3).tolist() == [0.0, 0.0, 0.0]


def test_large_rewards_with_small_differences() -> None:
    small = group_advantages([0.0, 1.0, 1.0, 0.0], [0] * 4)
    assert group_advantages([1e9, 1e9 + 1, 1e9 + 1, 1e9], [0] * 4).tolist() == small.tolist()


@pytest.mark.parametrize("scale", [1e-300, 1e-10, 1e10, 1e300])
def test_scale_cancels_without_epsilon(scale: float) -> None:
    rewards = np.array([0.0, 1.0, 0.25, 0.5])
    expected = group_advantages(rewards, [0] * 4, epsilon=0.0)
    assert group_advantages(rewards * scale, [0] * 4, epsilon=0.0) == pytest.approx(expected, rel=1e-12)


def test_a_range_far_below_epsilon_gives_nothing() -> None:
    assert group_advantages([0.0, 5e-324], [0, 0]).tolist() == [0.0, 0.0]


def test_a_single_response_keeps_its_reward() -> None:
    assert group_advantages([3.0, -2.0], ["p", "q"]) == pytest.approx([3.0 / (1 + 1e-6), -2.0 / (1 + 1e-6)], rel=1e-15)
    assert group_advantages([3.0, -2.0], [7, 8], normalize_std=False).tolist() == [3.0, -2.0]


def test_labels_may_be_strings_or_numbers_and_lie_apart() -> None:
    rewards = [1.0, 5.0, 0.0, 7.0]
    expected = group_advantages(rewards, [0, 1, 0, 1]).tolist()
    assert group_advantages(rewards, ["x", "y", "x", "y"]).tolist() == expected
    assert group_advantages(rewards, np.array([2**62, -5, 2**62, -5])).tolist() == expected


def test_nothing_in_nothing_out() -> None:
    assert group_advantages([], []).shape == (0,)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: group_advantages([1.0, np.nan], [0, 0]),
        lambda: group_advantages([np.inf], [0]),
        lambda: group_advantages([1.0], [0, 0]),
        lambda: group_advantages([[1.0]], [[0]]),
        lambda: group_advantages([1.7e308, -1.7e308], [0, 0]),
        lambda: group_advantages([1.0], [0], epsilon=-1.0),
        lambda: group_advantages([1.0], [0], epsilon=np.inf),
    ],
)
def test_refused_arguments(wrong: Callable[[], object]) -> None:
    with pytest.raises(InvalidParameter):
        wrong()
