"""Exact quotas: Tijdeman's bound at every slot, weights that change, arms that are short."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.selectors import ExactQuotas

PLENTY = 10**6
weight = st.one_of(st.floats(0.01, 1.0), st.sampled_from([0.1, 0.25, 1.0, 1e-6]), st.integers(1, 7).map(float))
mixtures = st.lists(weight, min_size=1, max_size=12)
batches = st.lists(st.integers(1, 9), min_size=1, max_size=40)


def bound(n_arms: int) -> float:
    return 1.0 - 1.0 / (2 * n_arms - 2) if n_arms > 1 else 0.0


def plenty(n_arms: int) -> np.ndarray:
    return np.full(n_arms, PLENTY)


# ---- the bound -------------------------------------------------------------------------------------------------------


@given(mixtures, batches, st.randoms(use_true_random=False))
def test_every_arm_stays_within_the_bound_after_every_batch(weights: list[float], sizes: list[int], lots: Any) -> None:
    n_arms = len(weights)
    quotas = ExactQuotas(n_arms, rank=[lots.random() for _ in weights])
    share, count = np.array(weights) / sum(weights), np.zeros(n_arms)
    for t, n in zip(np.cumsum(sizes).tolist(), sizes, strict=True):
        counts = quotas.counts(weights, n, plenty(n_arms))
        assert counts.sum() == n
        count += counts
        assert np.abs(count - t * share).max() <= bound(n_arms) + 1e-8


@given(mixtures, st.integers(1, 120))
def test_every_arm_stays_within_the_bound_after_every_slot(weights: list[float], n: int) -> None:
    n_arms = len(weights)
    slots, batch = ExactQuotas(n_arms), ExactQuotas(n_arms)
    count = np.zeros(n_arms)
    for t in range(1, n + 1):
        count += slots.counts(weights, 1, plenty(n_arms))
        assert np.abs(count - t * np.array(weights) / sum(weights)).max() <= bound(n_arms) + 1e-8
    # A batch is its slots one after another, so the bound holds inside of it too. Ties that rounding decides apart.
    assert np.abs(batch.counts(weights, n, plenty(n_arms)) - count).max() <= 1


@given(st.lists(st.integers(1, 6), min_size=2, max_size=6), st.integers(1, 60), st.integers(1, 59))
def test_a_batch_is_its_slots_one_after_another(parts: list[int], n: int, cut: int) -> None:
    plain = [part / 64 for part in parts]  # exact in binary, once the rest of 64 is filled up
    plain.append(1.0 - sum(plain))
    whole, pieces = ExactQuotas(len(plain)), ExactQuotas(len(plain))
    counts = whole.counts(plain, n, plenty(len(plain)))
    first = pieces.counts(plain, min(cut, n), plenty(len(plain)))
    rest = pieces.counts(plain, n - min(cut, n), plenty(len(plain)))
    assert counts.tolist() == (first + rest).tolist()
    assert whole.behind == pytest.approx(pieces.behind, abs=1e-9)


def test_the_bound_is_tight_for_two_arms() -> None:
    quotas = ExactQuotas(2)
    assert quotas.counts([0.5, 0.5], 1, plenty(2)).tolist() == [1, 0]
    assert quotas.behind.tolist() == [-0.5, 0.5]
    assert quotas.counts([0.5, 0.5], 1, plenty(2)).tolist() == [0, 1]


def test_by_hand() -> None:
    quotas = ExactQuotas(3)
    order = [int(np.argmax(quotas.counts([5, 3, 2], 1, plenty(3)))) for _ in range(10)]
    # An arm may have a slot once its claim is 1/4, and must have it before its claim passes 3/4. Slot 3, for example:
    # claims 1.5 - 1, .9 - 1 and .6; the first is past 3/4 at 3.5 slots, the third at 3.75.
    assert order == [0, 1, 0, 2, 0, 1, 0, 2, 1, 0]
    assert quotas.behind == pytest.approx([0, 0, 0], abs=1e-12)


def test_a_large_batch_is_its_shares() -> None:
    assert ExactQuotas(4).counts([4, 3, 2, 1], 1000, plenty(4)).tolist() == [400, 300, 200, 100]


def test_ties_go_by_rank_then_by_index() -> None:
    assert ExactQuotas(3, rank=[2, 0, 1]).counts([1, 1, 1], 2, plenty(3)).tolist() == [0, 1, 1]
    assert ExactQuotas(3).counts([1, 1, 1], 2, plenty(3)).tolist() == [1, 1, 0]


def test_one_arm_and_none() -> None:
    assert ExactQuotas(1).counts([0.3], 7, [7]).tolist() == [7]
    assert ExactQuotas(0).counts([], 0, np.zeros(0, dtype=np.int64)).tolist() == []
    quotas = ExactQuotas(2)
    assert quotas.counts([0.0, 3.0], 5, plenty(2)).tolist() == [0, 5]
    assert quotas.behind.tolist() == [0.0, 0.0]


def test_a_batch_of_nothing_changes_nothing() -> None:
    quotas = ExactQuotas(2)
    quotas.counts([1, 2], 5, plenty(2))
    before = quotas.behind.copy()
    assert quotas.counts([2, 1], 0, plenty(2)).tolist() == [0, 0]
    assert quotas.behind.tolist() == before.tolist()


# ---- weights that change ---------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(2, 7), st.data())
def test_no_arm_is_ever_ahead_by_more_than_the_bound(n_arms: int, data: st.DataObject) -> None:
    quotas = ExactQuotas(n_arms)
    share, count = np.zeros(n_arms), np.zeros(n_arms)
    for _ in range(data.draw(st.integers(1, 15))):
        weights = np.array(data.draw(st.lists(st.floats(1e-3, 1.0), min_size=n_arms, max_size=n_arms)))
        n = data.draw(st.integers(1, 6))
        count += quotas.counts(weights, n, plenty(n_arms))
        share += n * weights / weights.sum()
        assert np.max(count - share) <= bound(n_arms) + 1e-8
        assert np.max(share - count) <= n_arms - 1.5 + 1e-8
    assert quotas.behind == pytest.approx(share - count, abs=1e-9)
    assert not quotas.owed.any()


@settings(max_examples=40)
@given(st.integers(2, 6), st.data())
def test_accounts_add_up_to_0_whoever_leaves_and_comes_back(n_arms: int, data: st.DataObject) -> None:
    quotas = ExactQuotas(n_arms)
    for _ in range(data.draw(st.integers(1, 12))):
        weights = np.array(data.draw(st.lists(st.sampled_from([0.0, 0.2, 1.0]), min_size=n_arms, max_size=n_arms)))
        able = np.array(data.draw(st.lists(st.integers(0, 9), min_size=n_arms, max_size=n_arms)))
        most = int(able[weights > 0].sum())
        n = data.draw(st.integers(0, most))
        counts = quotas.counts(weights, n, able)
        assert counts.sum() == n
        assert np.all(counts <= able)
        assert np.all(counts[weights == 0] == 0)
        assert quotas.behind.sum() == pytest.approx(0, abs=1e-9)
        assert quotas.owed.sum() == pytest.approx(0, abs=1e-9)
        if n:
            assert np.all(quotas.behind[weights == 0] == 0)
            assert np.all(quotas.owed[weights == 0] == 0)


def test_an_arm_that_leaves_settles_with_the_others() -> None:
    quotas = ExactQuotas(3)
    quotas.behind = np.array([-0.6, 0.1, 0.5])
    quotas.counts([0.0, 1.0, 1.0], 2, plenty(3))  # the first was ahead by what the others were behind
    assert quotas.behind == pytest.approx([0, 0, 0], abs=1e-12)
    quotas.behind = np.array([0.6, -0.45, -0.15])
    quotas.counts([0.0, 3.0, 1.0], 4, plenty(3))
    assert quotas.behind == pytest.approx([0, 0, 0], abs=1e-12)


def test_the_others_go_on_from_where_they_are() -> None:
    quotas = ExactQuotas(3)
    counts = np.zeros(3)
    for _ in range(7):
        counts += quotas.counts([0.5, 0.3, 0.2], 3, plenty(3))
    for _ in range(50):
        counts[:2] += quotas.counts([0.5, 0.3, 0.0], 3, plenty(3))[:2]
    assert np.abs(counts[:2] - [10.5 + 93.75, 6.3 + 56.25]).max() < 1.5


# ---- arms that are short ---------------------------------------------------------------------------------------------


def test_a_shortfall_is_spread_by_weight_and_paid_back() -> None:
    quotas = ExactQuotas(3)
    total = np.zeros(3)
    for _ in range(4):
        counts = quotas.counts([0.5, 0.3, 0.2], 10, [2, PLENTY, PLENTY])
        assert counts[0] == 2
        assert counts[1] >= counts[2] >= 3
        total += counts
    assert quotas.owed == pytest.approx([12, -7.2, -4.8])
    for _ in range(12):
        counts = quotas.counts([0.5, 0.3, 0.2], 10, plenty(3))
        assert counts[0] <= 10
        assert counts[1] >= 1
        assert counts[2] >= 1
        total += counts
    assert total == pytest.approx([80, 48, 32], abs=bound(3))
    assert quotas.owed == pytest.approx([0, 0, 0], abs=1e-9)
    assert quotas.counts([0.5, 0.3, 0.2], 10, plenty(3)).tolist() == [5, 3, 2]


@given(
    st.lists(st.floats(0.1, 1.0), min_size=2, max_size=6),
    st.lists(st.integers(0, 8), min_size=1, max_size=8),
    st.integers(1, 20),
)
def test_a_shortfall_is_made_good_in_the_end(weights: list[float], shortages: list[int], n: int) -> None:
    n_arms = len(weights)
    quotas, total = ExactQuotas(n_arms), np.zeros(n_arms)
    share = np.array(weights) / sum(weights)
    able = plenty(n_arms)
    for shortage in shortages:
        able[0] = shortage
        total += quotas.counts(weights, n, able)
    able[0] = PLENTY
    for _ in range(400):
        counts = quotas.counts(weights, n, able)
        assert np.all(counts <= np.ceil(2 * n * share + 2 * bound(n_arms)))
        total += counts
        if not np.any(np.abs(quotas.owed) > 1e-6):
            break
    assert np.abs(quotas.owed).max() <= 1e-6
    steps = total.sum() / n
    assert np.abs(total - steps * n * share).max() <= max(n_arms - 1.5, 1.0)


def test_arms_far_below_their_share_fill_the_batch() -> None:
    quotas = ExactQuotas(3)
    assert quotas.counts([0.9, 0.05, 0.05], 10, [1, 3, 6]).tolist() == [1, 3, 6]
    assert quotas.counts([0.9, 0.05, 0.05], 10, [0, 5, 5]).tolist() == [0, 5, 5]


# ---- refusals and extremes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "n", "able"),
    [
        ([1.0], 2, [9, 9]),
        ([1.0, np.nan], 2, [9, 9]),
        ([1.0, -1.0], 2, [9, 9]),
        ([1.0, np.inf], 2, [9, 9]),
        ([1.0, 1.0], -1, [9, 9]),
        ([1.0, 1.0], 19, [9, 9]),
        ([1.0, 0.0], 10, [9, 9]),
        ([0.0, 0.0], 1, [9, 9]),
        ([1.0, 1.0], 2, [9.5, 9.5]),
        ([1.0, 1.0], 2, [9, -1]),
    ],
)
def test_wrong_arguments_are_refused_and_change_nothing(weights: Any, n: int, able: Any) -> None:
    quotas = ExactQuotas(2)
    quotas.counts([2, 1], 1, [5, 5])
    before = quotas.copy()
    with pytest.raises(InvalidParameter, match=r"of `ExactQuotas\.counts` must"):
        quotas.counts(weights, n, able)
    assert quotas.behind.tolist() == before.behind.tolist()


def test_wrong_construction_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="`n_arms`"):
        ExactQuotas(-1)
    with pytest.raises(InvalidParameter, match="`rank`"):
        ExactQuotas(2, rank=[1.0])


def test_a_copy_is_apart() -> None:
    quotas = ExactQuotas(2)
    twin = quotas.copy()
    quotas.counts([2, 1], 1, [5, 5])
    assert twin.behind.tolist() == [0.0, 0.0]


def test_weights_of_any_scale() -> None:
    for scale in (1e-300, 1.0, 1e300):
        assert ExactQuotas(2).counts([3 * scale, scale], 8, plenty(2)).tolist() == [6, 2]
    assert ExactQuotas(2).counts([1e308, 1e308], 4, plenty(2)).tolist() == [2, 2]
    assert ExactQuotas(2).counts([1.0, 1e-320], 4, plenty(2)).tolist() == [4, 0]


def test_hundreds_of_arms() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(300))
    quotas, total = ExactQuotas(300), np.zeros(300)
    for _ in range(20):
        total += quotas.counts(weights, 512, plenty(300))
    assert np.abs(total - 20 * 512 * weights).max() <= bound(300) + 1e-8
