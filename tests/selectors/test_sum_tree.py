from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.selectors import SumTree

if TYPE_CHECKING:
    from collections.abc import Callable

# Small trees with several levels: what 10 million leaves do with the defaults.
SHAPES = [(2, 1), (4, 3), (16, 4), (16, 4096)]
shapes = st.sampled_from(SHAPES)
any_weight = st.one_of(st.just(0.0), st.floats(0.0, 1e300), st.floats(0.0, 1.0))


def levels(tree: SumTree) -> list[bytes]:
    return [level.tobytes() for level in tree._levels]


@given(shapes, st.lists(any_weight, max_size=70), st.data())
def test_an_updated_tree_equals_a_rebuilt_one_bit_for_bit(
    shape: tuple[int, int], weights: list[float], data: st.DataObject
) -> None:
    fan_out, flat = shape
    tree = SumTree(weights, fan_out=fan_out, flat=flat)
    expected = np.array(weights, dtype=np.float64)
    for _ in range(3):
        size = data.draw(st.integers(0, 20 if weights else 0))
        index = data.draw(st.lists(st.integers(0, max(0, len(weights) - 1)), min_size=size, max_size=size))
        new = data.draw(st.lists(any_weight, min_size=size, max_size=size))
        tree.set(np.array(index, dtype=np.int64), new)
        for i, w in zip(index, new, strict=True):  # one after another: the last of repeated ones wins
            expected[i] = w
    assert levels(tree) == levels(SumTree(expected, fan_out=fan_out, flat=flat))
    assert tree.weights.tolist() == expected.tolist()


@given(shapes, st.lists(st.integers(0, 3), min_size=1, max_size=120).filter(any))
def test_find_agrees_with_searchsorted_on_whole_numbers(shape: tuple[int, int], weights: list[float]) -> None:
    tree = SumTree(weights, fan_out=shape[0], flat=shape[1])
    ends = np.cumsum(weights)
    assert tree.total == ends[-1]
    targets = np.arange(0.0, ends[-1], 0.5)
    assert tree.find(targets).tolist() == np.searchsorted(ends, targets, side="right").tolist()
    assert tree.prefix(np.arange(len(weights) + 1)).tolist() == [0.0, *ends.tolist()]


@given(shapes, st.lists(st.integers(0, 3), min_size=1, max_size=120), st.data())
def test_a_span_searches_its_own_leaves_alone(
    shape: tuple[int, int], weights: list[float], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(weights)))
    stop = data.draw(st.integers(start, len(weights)))
    span = SumTree(weights, fan_out=shape[0], flat=shape[1]).span(start, stop)
    ends = np.cumsum(weights[start:stop])
    assert span.total == (ends[-1] if stop > start else 0.0)
    targets = np.arange(0.0, span.total, 0.5)
    assert span.find(targets).tolist() == (start + np.searchsorted(ends, targets, side="right")).tolist()


@given(shapes, st.lists(any_weight, min_size=1, max_size=70).filter(any), st.lists(st.floats(0.0, 1.0), max_size=20))
def test_find_never_returns_a_leaf_of_weight_zero(
    shape: tuple[int, int], weights: list[float], fractions: list[float]
) -> None:
    tree = SumTree(weights, fan_out=shape[0], flat=shape[1])
    targets = np.array([*fractions, 1.0]) * tree.total
    assert np.all(tree.weights[tree.find(targets)] > 0.0)
    assert np.all(tree.weights[tree.find(np.nextafter(tree.prefix(np.arange(len(weights))), np.inf))] > 0.0)


@pytest.mark.parametrize("size", [0, 1, 16, 17, 4096, 4097, 70_000])
def test_sizes_around_the_fan_out(size: int) -> None:
    weights = np.arange(1.0, size + 1)
    tree = SumTree(weights)
    assert len(tree) == size
    assert tree.total == weights.sum()
    assert tree.find(tree.prefix(np.arange(size))).tolist() == list(range(size))


def test_an_empty_tree_accepts_empty_questions_only() -> None:
    tree = SumTree([])
    tree.set([], [])
    assert tree.find([]).shape == tree.prefix([]).shape == (0,)
    assert tree.prefix([0]).tolist() == [0.0]
    with pytest.raises(InvalidParameter, match="positive weight"):
        tree.find([0.0])


def test_three_hundred_orders_of_magnitude() -> None:
    weights = 10.0 ** np.arange(-300, 0)
    tree = SumTree(weights, fan_out=2, flat=1)
    rest = np.arange(300)
    for top in range(299, -1, -1):  # what is left stays exact, whatever large weight was there before
        assert tree.total == pytest.approx(weights[: top + 1].sum(), rel=1e-14)
        assert tree.find([tree.total * 0.5]).tolist() == [top]
        tree.set([rest[top]], [0.0])
    assert tree.total == 0.0


def test_a_light_span_beside_a_heavy_leaf_is_exact() -> None:
    tree = SumTree([1e280, *[1e-280] * 40, 1e280], fan_out=4, flat=1)
    span = tree.span(1, 41)
    assert span.total == pytest.approx(40e-280, rel=1e-14)
    assert sorted(set(span.find((np.arange(40.0) + 0.5) * 1e-280).tolist())) == list(range(1, 41))


def test_random_changes_in_a_tree_of_four_levels() -> None:
    rng = np.random.default_rng(5)
    weights = rng.random(300_000)
    tree = SumTree(weights, flat=64)
    for size in (1, 7, 40_000, 300_000):
        index = rng.integers(0, len(weights), size)
        new = rng.random(size)
        tree.set(index, new)
        weights[index] = new
    assert levels(tree) == levels(SumTree(weights, flat=64))
    found = tree.find(np.sort(rng.random(1_000)) * tree.total)
    assert np.all(np.diff(found) >= 0)


def test_one_weight_for_many_leaves_and_any_integer_type() -> None:
    tree = SumTree([1.0, 2.0, 3.0])
    tree.set(np.array([0, 2], dtype=np.uint8), 5.0)
    assert tree.weights.tolist() == [5.0, 2.0, 5.0]


def test_weights_cannot_be_written_and_follow_the_tree() -> None:
    given_weights = np.ones(3)
    tree = SumTree(given_weights)
    view = tree.weights
    tree.set([1], [4.0])
    assert view.tolist() == [1.0, 4.0, 1.0]
    assert given_weights.tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 2.0


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, -np.inf, 1.7e308])
def test_refused_weights_are_named_by_position(bad: float) -> None:
    with pytest.raises(InvalidParameter, match=r"1 are not, at positions 2 with values"):
        SumTree([1.0, 2.0, bad])
    tree = SumTree([1.0, 2.0, 3.0, 4.0])
    before = levels(tree)
    with pytest.raises(InvalidParameter, match=r"1 are not, at positions 3 with values"):
        tree.set([0, 3], [9.0, bad])
    assert levels(tree) == before


def test_many_refused_weights_are_shortened() -> None:
    with pytest.raises(InvalidParameter, match=r"7 are not, at positions 0, 1, 2, 3, 4, \.\.\."):
        SumTree([-1.0] * 7)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: SumTree([[1.0]]),
        lambda: SumTree([1.0], fan_out=3),
        lambda: SumTree([1.0], fan_out=1),
        lambda: SumTree([1.0], flat=0),
        lambda: SumTree([1.0]).set([1], [1.0]),
        lambda: SumTree([1.0]).set([-1], [1.0]),
        lambda: SumTree([1.0]).set([0.0], [1.0]),
        lambda: SumTree([1.0]).set([True], [1.0]),
        lambda: SumTree([1.0]).set([0], [1.0, 2.0]),
        lambda: SumTree([1.0]).find([-0.1]),
        lambda: SumTree([1.0]).find([np.nan]),
        lambda: SumTree([1.0]).find(0.5),
        lambda: SumTree([0.0]).find([0.0]),
        lambda: SumTree([1.0]).prefix([2]),
        lambda: SumTree([1.0]).span(1, 0),
        lambda: SumTree([1.0]).span(0, 2),
    ],
)
def test_refused_arguments(wrong: Callable[[], object]) -> None:
    with pytest.raises(InvalidParameter):
        wrong()
