from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.selectors import capped_shares, replacement_counts, successive_counts, systematic_counts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from curri.types import Floats

Batch: TypeAlias = "tuple[Floats, NDArray[np.integer], int]"

weight = st.one_of(st.just(0.0), st.floats(0.0, 1.0), st.floats(1e-320, 1e-200), st.floats(1e200, 1e300), st.just(1.0))
arms = st.lists(st.tuples(weight, st.integers(0, 50)), min_size=1, max_size=12)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    weights, sizes = zip(*draw(arms), strict=True)
    return np.array(weights), np.array(sizes), draw(st.integers(0, sum(sizes)))


@given(batches())
def test_capped_shares_fill_the_batch_in_proportion(batch: Batch) -> None:
    weights, sizes, n = batch
    shares = capped_shares(weights, sizes, n)
    assert shares.sum() == pytest.approx(n, rel=1e-12)
    assert np.all((shares >= 0.0) & (shares <= sizes))
    supply = sizes[weights > 0.0].sum()
    if n <= supply:
        assert np.all(shares[weights == 0.0] == 0.0)
        # Arms that are not full share one ratio c = q / w, and full ones would have had at least their size by it.
        able = (weights > 0.0) & (sizes > 0)
        part = weights / weights.max(initial=5e-324)
        open_A = able & (shares < sizes * (1 - 1e-12)) & (part > 1e-290)
        if open_A.any():
            ratio = shares[open_A] / part[open_A]
            assert ratio == pytest.approx(np.full(open_A.sum(), ratio[0]), rel=1e-9)
            full = able & ~open_A & (part > 1e-290)
            assert np.all(part[full] * ratio[0] >= sizes[full] * (1 - 1e-9))
    else:
        assert np.all(shares[weights > 0.0] == sizes[weights > 0.0])
        rest = np.where(weights > 0.0, 0, sizes)
        assert shares[weights == 0.0] == pytest.approx((rest * (n - supply) / rest.sum())[weights == 0.0], rel=1e-12)


@given(batches(), st.floats(1e-100, 1e100), st.data())
def test_capped_shares_do_not_depend_on_order_or_scale(batch: Batch, scale: float, data: st.DataObject) -> None:
    weights, sizes, n = batch
    order = data.draw(st.permutations(range(len(weights))))
    weights = np.where(weights > 1.0, 1.0, np.where(weights < 1e-200, 0.0, weights))
    moved = capped_shares(weights[order] * scale, sizes[order], n)
    assert moved == pytest.approx(capped_shares(weights, sizes, n)[order], rel=1e-9, abs=1e-9)


def test_capped_shares_by_hand() -> None:
    assert capped_shares([6, 3, 1], [100, 100, 100], 10).tolist() == [6.0, 3.0, 1.0]
    assert capped_shares([6, 3, 1], [2, 100, 100], 10).tolist() == [2.0, 6.0, 2.0]
    assert capped_shares([6, 3, 1], [2, 4, 100], 10).tolist() == [2.0, 4.0, 4.0]
    assert capped_shares([6, 3, 1], [2, 4, 4], 10).tolist() == [2.0, 4.0, 4.0]
    assert capped_shares([0, 0], [10, 30], 4).tolist() == [1.0, 3.0]
    assert capped_shares([1, 0, 0], [5, 10, 0], 6).tolist() == [5.0, 1.0, 0.0]
    assert capped_shares([], [], 0).tolist() == []


@given(batches(), st.integers(0, 2**32))
def test_systematic_counts_round_up_or_down_to_an_exact_sum(batch: Batch, seed: int) -> None:
    weights, sizes, n = batch
    shares = capped_shares(weights, sizes, n)
    counts = systematic_counts(shares, np.random.default_rng(seed))
    assert counts.dtype == np.int64
    assert counts.sum() == n
    assert np.all(np.abs(counts - shares) < 1.0 + 1e-9)
    assert np.all(counts <= sizes)
    whole = np.abs(shares - np.rint(shares)) <= 1e-12
    assert np.all(counts[whole] == np.rint(shares[whole]))


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.1, 0.2, 0.7], [2.25, 0.25, 1.0, 0.5], [0.9] * 10, [1 / 3] * 3])
def test_systematic_counts_are_unbiased(shares: list[float]) -> None:
    n = 4_000
    rng = np.random.default_rng(0)
    mean = np.mean([systematic_counts(shares, rng) for _ in range(n)], axis=0)
    fraction = np.array(shares) % 1.0
    error = np.sqrt(fraction * (1 - fraction) / n)
    assert np.all(np.abs(mean - shares) <= 4 * error)


def test_systematic_counts_take_nearly_whole_shares_as_whole() -> None:
    for seed in range(50):
        counts = systematic_counts([3.0 - 4e-16, 2.0 + 4e-16, 0.1 + 0.2, 0.7], np.random.default_rng(seed))
        assert counts[:2].tolist() == [3, 2]


def test_systematic_counts_of_many_small_shares() -> None:
    counts = systematic_counts(np.full(1_000, 0.512), np.random.default_rng(0))
    assert counts.sum() == 512
    assert counts.max() == 1


def successive_mean(weights: list[float], sizes: list[int], n: int) -> Floats:
    """The expected counts, by following every sequence of draws."""
    if n == 0:
        return np.zeros(len(weights))
    able = [a for a in range(len(weights)) if weights[a] > 0 and sizes[a] > 0]
    chance = {a: weights[a] / sum(weights[b] for b in able) for a in able}
    if not able:
        chance = {a: sizes[a] / sum(sizes) for a in range(len(weights)) if sizes[a]}
    mean = np.zeros(len(weights))
    for a, p in chance.items():
        left = [size - (b == a) for b, size in enumerate(sizes)]
        mean += p * (np.eye(len(weights))[a] + successive_mean(weights, left, n - 1))
    return mean


@pytest.mark.parametrize(
    ("weights", "sizes", "n"),
    [([5, 3, 2], [2, 3, 9], 5), ([1, 0, 0], [2, 1, 3], 4), ([0, 0], [2, 4], 3), ([1e300, 1e-300], [1, 5], 3)],
)
def test_successive_counts_against_enumeration(weights: list[float], sizes: list[int], n: int) -> None:
    repeats = 4_000
    rng = np.random.default_rng(1)
    counts = np.array([successive_counts(weights, sizes, n, rng) for _ in range(repeats)])
    assert np.all(counts.sum(axis=1) == n)
    assert np.all(counts <= sizes)
    error = counts.std(axis=0) / np.sqrt(repeats)
    assert np.all(np.abs(counts.mean(axis=0) - successive_mean(weights, sizes, n)) <= 4 * error + 1e-12)


@given(batches(), st.integers(0, 2**32))
def test_successive_counts_fill_the_batch(batch: Batch, seed: int) -> None:
    weights, sizes, n = batch
    given_sizes = sizes.copy()
    counts = successive_counts(weights, sizes, n, np.random.default_rng(seed))
    assert counts.sum() == n
    assert np.all((counts >= 0) & (counts <= sizes))
    if n <= sizes[weights > 0.0].sum():
        assert np.all(counts[weights == 0.0] == 0)
    assert sizes.tolist() == given_sizes.tolist()


def test_replacement_counts_are_multinomial() -> None:
    n = 3_000
    rng = np.random.default_rng(2)
    counts = np.array([replacement_counts([6.0, 0.0, 3.0, 1.0, 0.0], 10, rng) for _ in range(n)])
    p = np.array([0.6, 0.0, 0.3, 0.1, 0.0])
    assert np.all(counts.sum(axis=1) == 10)
    assert np.all(np.abs(counts.mean(axis=0) - 10 * p) <= 4 * np.sqrt(10 * p * (1 - p) / n))
    assert replacement_counts([0.0], 0, rng).tolist() == [0]
    assert replacement_counts([0.1] * 10 + [0.0], 10_000, rng)[-1] == 0


def test_equal_generators_give_equal_counts() -> None:
    for function in (successive_counts, lambda w, _, n, rng: replacement_counts(w, n, rng)):
        one, two = (function([1.0, 2.0], [9, 9], 7, np.random.default_rng(3)).tolist() for _ in range(2))
        assert one == two


@pytest.mark.parametrize(
    "wrong",
    [
        *itertools.chain.from_iterable(
            (
                lambda f=f: f([-1.0], [1], 1),
                lambda f=f: f([np.nan], [1], 1),
                lambda f=f: f([1.0], [1, 2], 1),
                lambda f=f: f([1.0], [-1], 0),
                lambda f=f: f([1.0], [1.5], 0),
                lambda f=f: f([1.0], [1], 2),
                lambda f=f: f([1.0], [1], -1),
                lambda f=f: f([[1.0]], [[1]], 1),
            )
            for f in (capped_shares, lambda w, m, n: successive_counts(w, m, n, np.random.default_rng(0)))
        ),
        lambda: systematic_counts([0.5], np.random.default_rng(0)),
        lambda: systematic_counts([-1.0, 2.0], np.random.default_rng(0)),
        lambda: systematic_counts([np.inf], np.random.default_rng(0)),
        lambda: replacement_counts([0.0], 1, np.random.default_rng(0)),
        lambda: replacement_counts([1.0], -1, np.random.default_rng(0)),
        lambda: replacement_counts([np.inf], 1, np.random.default_rng(0)),
    ],
)
def test_refused_arguments(wrong: Callable[[], object]) -> None:
    with pytest.raises(InvalidParameter):
        wrong()
