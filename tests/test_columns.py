"""Per-prompt columns: written, remembered as touched, laid out anew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.columns import PromptColumns
from curri.errors import StateMismatch


def columns(n: int = 5) -> PromptColumns:
    return PromptColumns(n, {"visits": np.int32(0), "mean": np.float64(np.nan), "seen": np.False_})


def test_columns_start_at_their_defaults() -> None:
    made = columns()
    assert made.names == ("visits", "mean", "seen")
    assert [str(made[name].dtype) for name in made.names] == ["int32", "float64", "bool"]
    assert np.isnan(made["mean"]).all()
    assert len(made) == 5
    assert made.take_touched().tolist() == []


@given(st.lists(st.sets(st.integers(0, 19)), max_size=8), st.integers(0, 8))
def test_touched_rows_are_those_written_since_the_last_call(writes: list[set[int]], taken_after: int) -> None:
    made = columns(20)
    model: dict[int, int] = {}
    touched: set[int] = set()
    for number, rows in enumerate(writes):
        if number == taken_after:
            assert made.take_touched().tolist() == sorted(touched)
            touched = set()
        made.write(np.array(sorted(rows), dtype=np.int64), visits=number)
        model |= dict.fromkeys(rows, number)
        touched |= rows
    assert made["visits"].tolist() == [model.get(row, 0) for row in range(20)]
    assert made.take_touched().tolist() == sorted(touched)
    assert made.take_touched().tolist() == []


def test_several_columns_at_once() -> None:
    made = columns()
    made.write(np.array([4, 1]), visits=np.array([7, 8]), mean=0.5)
    assert made["visits"].tolist() == [0, 8, 0, 0, 7]
    assert made["mean"][[1, 4]].tolist() == [0.5, 0.5]
    assert made.take_touched().tolist() == [1, 4]


def test_growing_moves_rows_and_fills_the_rest() -> None:
    made = columns(3)
    made.write(np.array([0, 1, 2]), visits=np.array([1, 2, 3]), mean=np.array([0.1, 0.2, 0.3]))
    made.grow(np.array([1, 2, 4]), 6, mean=0.75)
    assert made["visits"].tolist() == [0, 1, 2, 0, 3, 0]
    assert made["mean"].tolist() == [0.75, 0.1, 0.2, 0.75, 0.3, 0.75]
    assert made["visits"].dtype == np.int32
    assert len(made) == 6
    assert made.take_touched().tolist() == []
    made.write(np.array([5]), visits=9)
    assert made.take_touched().tolist() == [5]


def test_loading_is_strict_and_copies() -> None:
    made = columns(2)
    values = np.array([3, 4], dtype=np.int32)
    made.load("visits", values)
    values[:] = 0
    assert made["visits"].tolist() == [3, 4]
    for wrong in (np.array([1], dtype=np.int32), np.array([1, 2], dtype=np.int64)):
        with pytest.raises(StateMismatch, match="'visits' must be of shape"):
            made.load("visits", wrong)
    assert made["visits"].tolist() == [3, 4]
