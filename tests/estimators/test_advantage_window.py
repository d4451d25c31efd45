from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.estimators import AdvantageWindow, ucb_scores

if TYPE_CHECKING:
    from collections.abc import Callable

finite = st.floats(-1e100, 1e100)


@given(st.integers(1, 9), st.lists(st.lists(finite, max_size=12), max_size=6))
def test_keeps_the_last_and_counts_all(window: int, batches: list[list[float]]) -> None:
    made = AdvantageWindow(window)
    for batch in batches:
        made.update(batch)
    told = [value for batch in batches for value in batch]
    assert made.values.tolist() == told[-window:]
    assert made.count == len(told)
    assert made.mean_abs == (np.abs(told[-window:]).mean() if told else 0.0)


@given(st.integers(1, 9), st.lists(st.lists(finite, max_size=12), max_size=6), st.lists(finite, max_size=12))
def test_a_restored_window_goes_on_bit_for_bit(window: int, batches: list[list[float]], later: list[float]) -> None:
    made = AdvantageWindow(window)
    for batch in batches:
        made.update(batch)
    restored = AdvantageWindow.from_state(window, made.state())
    for each in (made, restored):
        each.update(later)
    assert restored.mean_abs == made.mean_abs
    assert restored.values.tobytes() == made.values.tobytes()
    assert restored.count == made.count


def test_the_mean_depends_on_the_contents_alone() -> None:
    values = np.random.default_rng(0).normal(size=1_000)
    at_once, piecewise = AdvantageWindow(), AdvantageWindow()
    at_once.update(values)
    for part in np.array_split(values, 71):
        piecewise.update(part)
    strided = AdvantageWindow()
    strided.update(np.repeat(values, 2)[::2])
    assert at_once.mean_abs == piecewise.mean_abs == strided.mean_abs


def test_prompts_may_be_counted_instead_of_responses() -> None:
    made = AdvantageWindow()
    made.update([1.0, -1.0, 1.0], count=1)
    assert (made.count, len(made.values)) == (1, 3)


def test_no_advantages_change_nothing() -> None:
    made = AdvantageWindow()
    made.update([], count=5)
    assert (made.count, made.mean_abs, made.values.tolist()) == (0, 0.0, [])


def test_values_are_a_copy_and_a_state_stays_as_it_was() -> None:
    made = AdvantageWindow()
    advantages = np.array([1.0, 2.0])
    made.update(advantages)
    state = made.state()
    for array in (advantages, made.values):
        array[:] = 9.0
    with pytest.raises(ValueError, match="read-only"):
        state["values"][:] = 9.0
    made.update([3.0])
    assert made.values.tolist() == [1.0, 2.0, 3.0]
    assert state["values"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: AdvantageWindow(0),
        lambda: AdvantageWindow(1.5),  # type: ignore[arg-type]
        lambda: AdvantageWindow(True),
        lambda: AdvantageWindow().update([np.nan]),
        lambda: AdvantageWindow().update([1.0, np.inf]),
        lambda: AdvantageWindow().update([[1.0]]),
        lambda: AdvantageWindow().update([1.0], count=-1),
        lambda: AdvantageWindow.from_state(3, {"values": [1.0]}),
        lambda: AdvantageWindow.from_state(1, {"values": [1.0, 2.0], "count": 2}),
        lambda: AdvantageWindow.from_state(1, {"values": [np.nan], "count": 2}),
        lambda: AdvantageWindow.from_state(1, {"values": [1.0], "count": -1}),
        lambda: ucb_scores([1.0], [1.0, 2.0]),
        lambda: ucb_scores([np.nan], [1.0]),
        lambda: ucb_scores([1.0], [-1.0]),
        lambda: ucb_scores([1.0], [1.0], exploration=-1.0),
        lambda: ucb_scores([1.0], [1.0], exploration=np.inf),
    ],
)
def test_refused_arguments(wrong: Callable[[], object]) -> None:
    with pytest.raises(InvalidParameter):
        wrong()


def test_a_refused_update_changes_nothing() -> None:
    made = AdvantageWindow()
    made.update([1.0])
    with pytest.raises(InvalidParameter):
        made.update([2.0, np.nan])
    assert (made.values.tolist(), made.count) == ([1.0], 1)


def test_ucb_without_exploration_is_the_mean() -> None:
    assert ucb_scores([0.5, 0.1], [7, 0], exploration=0.0).tolist() == [0.5, 0.1]
    assert ucb_scores([], []).tolist() == []


def test_ucb_of_arms_never_seen() -> None:
    assert ucb_scores([0.0, 0.0], [0, 0], exploration=2.0) == pytest.approx(2 * np.sqrt(2 * np.log(2.0)))
