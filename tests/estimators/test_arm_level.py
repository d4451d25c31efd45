"""Levels of arms: what a group says of its arm and of its prompt is what the joint normal distribution says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri import PromptPool, Rollouts
from curri.curricula.frontier import Frontier
from curri.estimators import ArmLevels, FirstContact, LogitUpdate, update_logit

if TYPE_CHECKING:
    from curri.types import Floats


def sighted(mean: Floats, variance: Floats, seen: Floats, noise: float) -> LogitUpdate:
    """A normal belief after a sighting with normal noise."""
    gain = variance / (variance + noise)
    return LogitUpdate(mean + gain * (seen - mean), variance * (1.0 - gain), np.zeros(mean.size))


def belief(mean: Floats, variance: Floats) -> LogitUpdate:
    return LogitUpdate(mean, variance, np.zeros(mean.size))


@given(st.integers(1, 6), st.integers(0, 9), st.floats(0.05, 5.0), st.integers(0, 50))
def test_one_round_is_the_exact_joint_posterior(k: int, seed: int, noise: float, now: int) -> None:
    rng = np.random.default_rng(seed)
    levels = ArmLevels(["a"], memory=1000.0)
    level, spread = levels.at(now)
    mean, variance = rng.normal(0.0, 2.0, k), rng.uniform(0.2, 4.0, k)
    seen = rng.normal(0.0, 3.0, k)
    whole = belief(mean + level, variance + spread)
    own = levels.learn(
        np.zeros(k, dtype=np.int64),
        belief(mean, variance),
        whole,
        sighted(whole.mean, whole.variance, seen, noise),
        now,
    )

    prior = np.diag(np.append(variance, spread))  # the prompts' own parts, then the level
    sees = np.hstack([np.eye(k), np.ones((k, 1))])
    start = np.append(mean, level)
    gain = prior @ sees.T @ np.linalg.inv(sees @ prior @ sees.T + noise * np.eye(k))
    expected = start + gain @ (seen - sees @ start)
    covariance = prior - gain @ sees @ prior

    np.testing.assert_allclose(own.mean, expected[:k], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(own.variance, np.diag(covariance)[:k], rtol=1e-3)
    after, narrow = levels.at(now)
    np.testing.assert_allclose(after, expected[k], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(narrow, covariance[k, k], rtol=1e-3)


def climbing(arms: int, met: int, step: float) -> ArmLevels:
    """Levels of arms of which one climbs by ``step`` a round; groups of 8 of ten prompts a round."""
    rng = np.random.default_rng(0)
    levels = ArmLevels([str(arm) for arm in range(arms)], memory=5000.0)
    own = belief(np.zeros(10), np.full(10, 0.1))
    of = np.full(10, met)
    for now in range(1, 61):
        level, spread = levels.at(now)
        right = rng.binomial(8, 1.0 / (1.0 + np.exp(-step * now)), 10).astype(float)
        before = belief(own.mean + level[of], own.variance + spread[of])
        levels.learn(of, own, before, update_logit(before.mean, before.variance, right, np.full(10, 8.0)), now)
    return levels


@pytest.mark.parametrize("step", [0.05, -0.05])
def test_a_level_follows_its_arm_and_where_to_is_learned(step: float) -> None:
    levels = climbing(2, 0, step)
    mean, variance = levels.at(60)
    assert mean[0] == pytest.approx(60 * step, abs=1.0)
    assert np.sign(levels.drift.trend) == np.sign(step)
    assert variance[0] < variance[1]  # the other arm was not met


def test_what_was_learned_of_levels_can_be_put_down_and_taken_up() -> None:
    levels = climbing(3, 1, 0.05)
    again = ArmLevels.from_state(levels.state(), memory=5000.0)
    for now in (60, 75):
        np.testing.assert_array_equal(again.at(now), levels.at(now))
    other = levels.of_arms(["new", "1"])
    assert other.at(60)[0][1] == levels.at(60)[0][1]
    assert other.at(60)[0][0] == pytest.approx(0.0)


def test_a_prompt_that_waits_is_believed_to_move_with_its_arm() -> None:
    frontier = Frontier(PromptPool(range(20), ["a"] * 10 + ["b"] * 10), seed=0, group_size=8)
    for right in range(9):
        ids = np.repeat([*range(9), *range(10, 19)], 8)
        rewards = np.where(ids < 10, np.tile(np.arange(8) < right, 18), np.tile(np.arange(8) < 1, 18))
        if right == 0:
            ids, rewards = np.repeat(range(20), 8), np.zeros(160)
        frontier.tell(Rollouts(ids, rewards.astype(float)))
        frontier.advance()
    waits_in_a, waits_in_b = frontier.explain(9), frontier.explain(19)
    assert waits_in_a["pass_rate"] > waits_in_b["pass_rate"] + 0.3


@pytest.mark.parametrize(("apart", "low", "high"), [(5.0, 9.0, 40.0), (0.0, 0.0, 3.0)])
def test_how_far_arms_lie_apart_is_learned(apart: float, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    names = [str(arm) for arm in range(12)]
    first = FirstContact(names, spread=2.0)
    truth = np.where(np.arange(12) % 2, apart, -apart)
    for _ in range(20):
        arms = np.arange(12).repeat(2)
        logits = np.full(arms.size, np.nan)
        mean, variance = first.believed(arms, logits)
        right = rng.binomial(8, 1.0 / (1.0 + np.exp(-truth[arms] - rng.normal(0.0, 0.5, arms.size))))
        n = np.full(arms.size, 8.0)
        first.learn(arms, logits, belief(mean, variance), update_logit(mean, variance, right.astype(float), n))
    assert low < first.state()["first/spread"] < high
