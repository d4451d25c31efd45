"""Bounds on the share of an arm, and who waited too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.selectors import best_rows, bounded_shares, overdue_rows

if TYPE_CHECKING:
    from curri.types import Floats, Ints


def brute_force(weights: Floats, low: Floats, high: Floats, n: float) -> Floats:
    """c by bisection: slow, and sure."""
    left, right = 0.0, 1e12
    for _ in range(400):
        c = (left + right) / 2
        if np.clip(c * weights, low, high).sum() < n:
            left = c
        else:
            right = c
    return np.clip(right * weights, low, high)


arms = st.integers(1, 7).flatmap(
    lambda k: st.tuples(
        st.lists(st.floats(0.01, 100), min_size=k, max_size=k),
        st.lists(st.integers(0, 50), min_size=k, max_size=k),
        st.floats(0, 0.3),
        st.floats(0.05, 1),
        st.integers(0, 60),
    )
)


@given(arms)
def test_shares_lie_within_bounds_and_add_up(drawn: tuple[list[float], list[int], float, float, int]) -> None:
    weights, sizes, floor, cap, n = drawn
    assume(n <= sum(sizes))
    held = np.array(sizes, dtype=float)
    low, high = np.minimum(floor * n, held), np.minimum(max(cap, floor) * n, held)
    shares = bounded_shares(weights, sizes, n, low_A=floor * n, high_A=max(cap, floor) * n)
    assert shares.sum() == pytest.approx(n, abs=1e-6)
    assert np.all(shares >= -1e-9)
    assert np.all(shares <= held + 1e-6)
    if low.sum() < n < high.sum():
        assert np.all(shares >= low - 1e-6)
        assert np.all(shares <= high + 1e-6)
        assert shares == pytest.approx(brute_force(np.array(weights), low, high, n), abs=1e-5)


def test_without_bounds_it_is_in_proportion() -> None:
    assert bounded_shares([3.0, 1.0], [100, 100], 8) == pytest.approx([6.0, 2.0])


def test_upper_bounds_that_cannot_hold_give_way() -> None:
    shares = bounded_shares([1.0, 1.0], [10, 2], 8, high_A=3)
    assert shares.tolist() == [6.0, 2.0]


def test_lower_bounds_that_add_up_to_more_are_scaled() -> None:
    assert bounded_shares([1.0, 9.0], [10, 10], 4, low_A=4).tolist() == [2.0, 2.0]


def test_arms_without_weight_get_their_floor_only() -> None:
    assert bounded_shares([1.0, 0.0, 0.0], [9, 9, 9], 9, low_A=1, high_A=7).tolist() == [7.0, 1.0, 1.0]
    assert bounded_shares([1.0, 0.0, 0.0], [9, 9, 9], 9, high_A=5).tolist() == [5.0, 2.0, 2.0]


def test_negative_bounds_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="must be at least 0"):
        bounded_shares([1.0], [3], 2, low_A=-1)


def rows(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


def test_who_waited_longest_comes_first() -> None:
    last = rows(4, 1, 3, -1, 2)
    found = overdue_rows(last, np.arange(5), before=4, limit=3, ids_P=np.arange(5), seed=0)
    assert found.tolist() == [3, 1, 4]
    assert overdue_rows(last, np.arange(5), before=0, limit=3, ids_P=np.arange(5), seed=0).tolist() == [3]
    assert overdue_rows(last, rows(0, 2), before=4, limit=9, ids_P=np.arange(5), seed=0).tolist() == [2]
    assert overdue_rows(last, np.arange(5), before=4, limit=0, ids_P=np.arange(5), seed=0).size == 0


def test_equal_waits_are_ordered_by_a_seeded_hash() -> None:
    orders = {
        tuple(overdue_rows(np.zeros(6, np.int64), np.arange(6), before=1, limit=6, ids_P=np.arange(6), seed=s).tolist())
        for s in range(20)
    }
    assert len(orders) > 10


@given(st.lists(st.one_of(st.floats(-5, 5), st.just(float("nan"))), min_size=1, max_size=30), st.data())
def test_best_rows_are_those_of_a_full_sort(scores: list[float], data: st.DataObject) -> None:
    n = data.draw(st.integers(0, len(scores)))
    values = np.array(scores)
    order = sorted(range(len(scores)), key=lambda i: (-np.inf if np.isnan(values[i]) else values[i], -i), reverse=True)
    assert best_rows(np.arange(len(scores)), values, n).tolist() == order[:n]
