from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.estimators import PassRate

if TYPE_CHECKING:
    from collections.abc import Callable

Calls: TypeAlias = list[tuple[int, list[tuple[int, float, float]]]]

calls = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.lists(
            st.tuples(
                st.integers(0, 3),
                st.floats(-10, 10),
                st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1), st.just(np.nan)),
            ),
            max_size=10,
        ),
    ),
    max_size=6,
)


def told(made: PassRate, calls: Calls, step: int = 0) -> int:
    for elapsed, responses in calls:
        step += elapsed
        rows, rewards, solved = (list(x) for x in zip(*responses, strict=True)) if responses else ([], [], [])
        made.update(rows, rewards, solved, step)
    return step


class ByHand:
    """One prompt, every response kept with its step."""

    def __init__(self, calls: Calls, row: int, decay: float) -> None:
        self.step = 0
        self.items: list[tuple[int, float, float]] = []
        self.groups: list[tuple[int, bool]] = []
        for elapsed, responses in calls:
            self.step += elapsed
            mine = [(reward, solved) for r, reward, solved in responses if r == row]
            self.items += [(self.step, reward, solved) for reward, solved in mine]
            if len(mine) > 1:
                rewards = [reward for reward, _ in mine]
                self.groups.append((self.step, max(rewards) != min(rewards)))
        self.decay = decay

    def weight(self, step: int) -> float:
        return self.decay ** (self.step - step)

    def evidence(self) -> tuple[float, float]:
        known = [(self.weight(t), s) for t, _, s in self.items if not math.isnan(s)]
        return sum(w * s for w, s in known), sum(w * (1 - s) for w, s in known)

    def reward(self) -> tuple[float, float]:
        weights = np.array([self.weight(t) for t, _, _ in self.items])
        rewards = np.array([r for _, r, _ in self.items])
        mean = (weights * rewards).sum() / weights.sum()
        return mean, (weights * (rewards - mean) ** 2).sum() / weights.sum()

    def live_share(self) -> float:
        live = sum(self.weight(t) for t, flag in self.groups if flag)
        return (live + 1) / (sum(self.weight(t) for t, _ in self.groups) + 2)


@given(calls, st.sampled_from([1.0, 0.9, 0.25]))
def test_against_every_response_kept(calls: Calls, decay: float) -> None:
    made = PassRate(4, prior_alpha=0.5, prior_beta=2.0, decay=decay)
    step = told(made, calls)
    for row in range(4):
        hand = ByHand(calls, row, decay)
        a, b = hand.evidence()
        a, b = a + 0.5, b + 2.0
        assert made.mean([row], step)[0] == pytest.approx(a / (a + b))
        assert made.variance([row], step)[0] == pytest.approx(a * b / ((a + b) ** 2 * (a + b + 1)))
        if not hand.items:
            assert np.isnan([made.reward_mean([row])[0], made.reward_variance([row])[0]]).all()
            continue
        mean, variance = hand.reward()
        assert made.reward_mean([row])[0] == pytest.approx(mean, abs=1e-9)
        assert made.reward_variance([row])[0] == pytest.approx(variance, abs=1e-9)
        solved = [s for _, _, s in hand.items if not math.isnan(s)]
        if any(s not in {0.0, 1.0} for s in solved) or (not solved and hand.groups):
            assert made.live_probability([row], 5, step)[0] == pytest.approx(hand.live_share())


def live_by_gamma(a: float, b: float, n: int) -> float:
    def log_beta(x: float, y: float) -> float:
        return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

    return 1 - math.exp(log_beta(a + n, b) - log_beta(a, b)) - math.exp(log_beta(a, b + n) - log_beta(a, b))


@pytest.mark.parametrize("n", [2, 3, 8, 64])
def test_live_probability_against_the_beta_function(n: int) -> None:
    made = PassRate(3, prior_alpha=0.7, prior_beta=1.9)
    made.update([0] * 6 + [1] * 4, [1] * 2 + [0] * 8, [1] * 2 + [0] * 8, step=0)
    posterior = [(2.7, 5.9), (0.7, 5.9), (0.7, 1.9)]
    assert made.live_probability([0, 1, 2], n, 0) == pytest.approx([live_by_gamma(a, b, n) for a, b in posterior])


def test_live_probability_of_a_fresh_prompt() -> None:
    made = PassRate(1)
    assert made.live_probability([0], 8, 0)[0] == pytest.approx(1 - 2 / 9)
    assert made.live_probability([0, 0, 0, 0], np.array([0, 1, 2, 8]), 0) == pytest.approx([0, 0, 1 / 3, 7 / 9])


def test_live_probability_of_shaped_rewards_is_the_share_of_live_groups() -> None:
    made = PassRate(3)
    for step, rewards in enumerate([[0.1, 0.1, 0.1], [0.1, 0.2, 0.1], [0.3, 0.3, 0.3]]):
        made.update([0, 0, 0], rewards, rewards, step)
        made.update([1, 1, 1], rewards, [np.nan] * 3, step)
    made.update([2], [5.0], [np.nan], 0)  # a group of one cannot vary, and says nothing
    assert made.live_probability([0, 1], 8, 2) == pytest.approx([2 / 5, 2 / 5])
    assert made.live_probability([0, 1], 1, 2).tolist() == [0.0, 0.0]
    assert made.live_probability([2], 8, 2) == pytest.approx([7 / 9])
    assert made.columns()["live_groups"].tolist() == [1.0, 1.0, 0.0]
    assert made.columns()["groups"].tolist() == [3.0, 3.0, 0.0]


def test_equal_rewards_have_no_variance_at_all() -> None:
    made = PassRate(1)
    made.update([0] * 3, [0.1] * 3, [np.nan] * 3, 0)
    made.update([0] * 3, [0.1] * 3, [np.nan] * 3, 1)
    assert made.reward_variance([0]).tolist() == [0.0]
    assert made.reward_mean([0]).tolist() == [0.1]


def test_large_rewards_with_small_differences() -> None:
    made = PassRate(1)
    for step in range(50):
        made.update([0, 0], [1e9, 1e9 + 1], [np.nan] * 2, step)
    assert made.reward_variance([0])[0] == pytest.approx(0.25, rel=1e-6)


def test_unknown_solved_leaves_the_pass_rate_alone() -> None:
    made = PassRate(1)
    made.update([0, 0, 0], [5.0, 6.0, 7.0], [np.nan, 1.0, np.nan], 0)
    assert made.mean([0], 0)[0] == pytest.approx(2 / 3)
    assert made.reward_mean([0])[0] == 6.0


def test_decay_widens_toward_the_prior_and_sweeps_nothing() -> None:
    made = PassRate(1_000, prior_alpha=1.0, prior_beta=3.0, decay=0.5)
    made.update([7] * 8, [1.0] * 8, [1.0] * 8, step=0)
    before = {name: column.copy() for name, column in made.columns().items()}
    assert made.mean([7], 0)[0] == pytest.approx(9 / 12)
    assert made.mean([7], 3)[0] == pytest.approx(2 / 5)
    assert made.mean([7], 10_000)[0] == 0.25
    assert made.variance([7], 3)[0] > made.variance([7], 0)[0]
    made.update([8], [1.0], [1.0], step=3)
    untouched = np.arange(1_000) != 8
    for name, column in made.columns().items():
        assert column[untouched].tolist() == before[name][untouched].tolist()


def test_evidence_long_forgotten() -> None:
    made = PassRate(1, decay=0.5)
    made.update([0, 0], [1.0, 3.0], [0.5, 1.0], step=0)
    made.update([0, 0], [7.0, 7.0], [1.0, 1.0], step=100_000)
    assert made.reward_mean([0]).tolist() == [7.0]
    assert made.reward_variance([0]).tolist() == [0.0]


def test_prior_rates() -> None:
    made = PassRate(3, prior_rate=[0.25, np.nan, 1.0], prior_strength=8.0)
    assert made.mean([0, 1, 2], 0) == pytest.approx([3 / 10, 1 / 2, 9 / 10])


@given(calls, st.data())
def test_growing_moves_the_evidence(calls: Calls, data: st.DataObject) -> None:
    made = PassRate(4, decay=0.9, prior_rate=[0.1, 0.2, 0.3, np.nan], prior_strength=3.0)
    step = told(made, calls)
    n_new = data.draw(st.integers(4, 9))
    to = data.draw(st.permutations(range(n_new)))[:4]
    expected = [made.mean(range(4), step), made.reward_mean(range(4)), made.live_probability(range(4), 4, step)]
    made.grow(to, n_new)
    assert len(made) == n_new
    found = [made.mean(to, step), made.reward_mean(to), made.live_probability(to, 4, step)]
    np.testing.assert_array_equal(found, expected)
    fresh = sorted(set(range(n_new)) - set(to))
    assert made.mean(fresh, step).tolist() == [0.5] * len(fresh)
    assert np.isnan(made.reward_mean(fresh)).all()


def test_growing_with_new_prior_rates() -> None:
    made = PassRate(1, prior_strength=2.0)
    made.grow([1], 2, prior_rate=[0.0, 1.0])
    assert made.mean([0, 1], 0) == pytest.approx([1 / 4, 3 / 4])


@given(calls, calls)
def test_loaded_columns_go_on_bit_for_bit(calls: Calls, later: Calls) -> None:
    made = PassRate(4, decay=0.9)
    step = told(made, calls)
    other = PassRate(4, decay=0.9)
    other.load(made.columns())
    for each in (made, other):
        told(each, later, step)
    for name, column in made.columns().items():
        assert column.tobytes() == other.columns()[name].tobytes()


def test_columns_are_the_arrays_themselves() -> None:
    made = PassRate(2)
    columns = made.columns()
    made.update([1], [1.0], [1.0], 4)
    assert columns["successes"].tolist() == [0.0, 1.0]
    assert columns["last_step"].tolist() == [0, 4]


def test_the_order_of_rows_within_a_call_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    rows, rewards = rng.integers(0, 50, 400), rng.integers(0, 5, 400) / 4
    order = rng.permutation(400)
    one, two = PassRate(50), PassRate(50)
    one.update(rows, rewards, rewards, 0)
    two.update(rows[order], rewards[order], rewards[order], 0)
    for name, column in one.columns().items():
        np.testing.assert_allclose(column, two.columns()[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: PassRate(-1),
        lambda: PassRate(1, prior_alpha=0.0),
        lambda: PassRate(1, prior_beta=np.inf),
        lambda: PassRate(1, decay=0.0),
        lambda: PassRate(1, decay=1.1),
        lambda: PassRate(1, decay=True),
        lambda: PassRate(1, prior_strength=-1.0),
        lambda: PassRate(1, prior_rate=[1.5]),
        lambda: PassRate(1, prior_rate=[0.5, 0.5]),
        lambda: PassRate(1).update([1], [1.0], [1.0], 0),
        lambda: PassRate(1).update([0.0], [1.0], [1.0], 0),
        lambda: PassRate(1).update([0], [np.nan], [1.0], 0),
        lambda: PassRate(1).update([0], [1e200], [1.0], 0),
        lambda: PassRate(1).update([0], [1.0], [1.5], 0),
        lambda: PassRate(1).update([0], [1.0, 2.0], [1.0], 0),
        lambda: PassRate(1).update([0], [1.0], [1.0], -1),
        lambda: PassRate(1).mean([0], -1),
        lambda: PassRate(1).mean([1], 0),
        lambda: PassRate(1).live_probability([0], -1, 0),
        lambda: PassRate(1).live_probability([0], 2.5, 0),
        lambda: PassRate(1).live_probability([0], [2, 3], 0),
        lambda: PassRate(1).grow([0], 0),
        lambda: PassRate(2).grow([0, 0], 3),
        lambda: PassRate(2).grow([0], 3),
        lambda: PassRate(1).load({}),
        lambda: PassRate(1).load(PassRate(2).columns()),
        lambda: PassRate(1).load({**PassRate(1).columns(), "last_step": [0.0]}),
    ],
)
def test_refused_arguments(wrong: Callable[[], object]) -> None:
    with pytest.raises(InvalidParameter):
        wrong()


def test_a_refused_update_changes_nothing() -> None:
    made = PassRate(2)
    made.update([0], [1.0], [1.0], 5)
    before = {name: column.copy() for name, column in made.columns().items()}
    with pytest.raises(InvalidParameter, match="not before the rows' last update; got 4"):
        made.update([1, 0], [1.0, 1.0], [1.0, 1.0], 4)
    for name, column in made.columns().items():
        assert column.tolist() == before[name].tolist()


def test_an_empty_pool_and_an_empty_call() -> None:
    made = PassRate(0)
    made.update([], [], [], 0)
    assert made.mean([], 0).shape == made.live_probability([], 8, 0).shape == (0,)
