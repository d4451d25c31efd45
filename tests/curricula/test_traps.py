"""Faults that public code of this field has had. Each has a test here, or a name that says where it is tested."""

from __future__ import annotations

import numpy as np
import pytest

from curri import PromptPool, Rollouts, strategy
from curri.parameters import declared
from curri.registry import BUILT_IN
from curri.selectors import softmax


def pool(n: int = 40, arms: int = 4) -> PromptPool:
    return PromptPool(range(1, n + 1), [f"arm {i % arms}" for i in range(n)])


def test_a_single_response_moves_a_posterior_by_what_it_says() -> None:
    """A slip of operator precedence set α = β = 8 for n = 1, whatever came out."""
    mopps = strategy("mopps")(pool(), group_size=1)
    mopps.tell(Rollouts([1, 2], [1.0, 0.0]))
    mopps.advance()
    right, wrong = mopps.explain(1), mopps.explain(2)
    assert (right["alpha"], right["beta"]) == (2.0, 1.0)
    assert (wrong["alpha"], wrong["beta"]) == (1.0, 2.0)


@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - {"pcl"}))
def test_outcomes_may_come_before_the_first_selection(name: str) -> None:
    """A posterior that only selection creates is a KeyError here."""
    curriculum = strategy(name)(pool())
    curriculum.tell(Rollouts([3, 3, 5], [1.0, 0.0, 0.5]))
    curriculum.advance()
    assert len(curriculum.ask(4)) == 4


@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - {"pcl", "uniform", "dapo", "easy-to-hard", "modomodo"}))
def test_what_was_learned_is_in_the_state(name: str) -> None:
    """One selector saved an empty state, and forgot its posterior at every resume."""
    curriculum = strategy(name)(pool(), seed=1)
    before = curriculum.state_dict()
    curriculum.ask(8)
    ids = np.repeat(np.arange(1, 41), 8)
    curriculum.tell(Rollouts(ids, (np.arange(ids.size) % 8 < ids % 9).astype(float)))
    curriculum.advance()
    after = curriculum.state_dict()
    bookkeeping = {"generator", "counters", "fallbacks"}
    learned = [key for key in after if key not in bookkeeping and not np.array_equal(before.get(key), after[key])]
    assert learned, "nothing that was learned is saved"


@pytest.mark.parametrize("name", ["ucb", "sec", "learning-progress"])
def test_default_settings_do_not_amount_to_uniform(name: str) -> None:
    """One released temperature made an exponent of at most 0.005: a sampler that looked at nothing."""
    curriculum = strategy(name)(pool(400), seed=0)
    rng = np.random.default_rng(0)
    for _ in range(30):
        ids = curriculum.ask(64).prompt_ids.repeat(8)
        level = (ids - 1) % 4 / 3  # arm 0 is never solved, arm 3 always
        curriculum.tell(Rollouts(ids, (rng.random(ids.size) < level).astype(float)))
        curriculum.advance()
    weights = curriculum.arm_weights
    live, dead = weights["arm 1"] + weights["arm 2"], weights["arm 0"] + weights["arm 3"]
    if name == "learning-progress":  # nothing is learned here, so nothing is in progress: at least it stays finite
        assert sum(weights.values()) == pytest.approx(1.0)
    else:
        assert live > 2 * dead


def test_counts_can_be_forgotten() -> None:
    """Undiscounted counts stop exploring; the released code has no other way, so it is the default here too."""
    assert declared(strategy("ucb"))["discount"].default == 1.0
    bonuses = []
    for discount in (1.0, 0.5):
        ucb = strategy("ucb")(pool(), discount=discount)
        for arm in (1, 2, 2, 2, 2, 2):  # the first arm is left alone
            ucb.tell(Rollouts(np.full(64, arm), np.arange(64) % 2))
            ucb.advance()
        bonuses.append(ucb.explain(1)["arm_bonus"] / ucb.explain(2)["arm_bonus"])
    assert bonuses[1] > 1.5 * bonuses[0]


@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - {"pcl"}))
def test_no_prompt_is_in_a_batch_twice(name: str) -> None:
    """Copies of live prompts in a batch double their weight unseen, since their ids stay."""
    curriculum = strategy(name)(pool())
    for _ in range(6):
        picks = curriculum.ask(17).prompt_ids
        assert np.unique(picks).size == picks.size
        curriculum.tell(Rollouts(picks.repeat(2), [1.0, 0.0] * 17))
        curriculum.advance()


def test_large_scores_do_not_overflow_a_softmax() -> None:
    assert softmax(np.array([1e4, 1e4 - 1.0]), 1.0) == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))])


@pytest.mark.parametrize("name", ["dapo", "greso"])
def test_a_pool_without_a_live_group_stops_nothing(name: str) -> None:
    """Elsewhere a batch that cannot be filled with live groups ends the run with an error."""
    curriculum = strategy(name)(pool(), seed=0)
    for _ in range(40):
        ids = curriculum.ask(8).prompt_ids.repeat(8)
        told = Rollouts(ids, np.zeros(ids.size))
        verdict = curriculum.admit(told)
        assert set(verdict.verdict.tolist()) == {"drop"}
        assert set(verdict.reason.tolist()) == {"all wrong"}
        curriculum.tell(told)
        curriculum.advance()
    assert len(curriculum.ask(40)) == 40


@pytest.mark.parametrize("group_size", [4, 8, 16, 64])
def test_one_right_answer_is_signal_whatever_the_group_size(group_size: int) -> None:
    """Thresholds of 0.98 and 0.11 on the mean, made for groups of 8, call 1 of 16 all wrong."""
    for name in ("greso", "dapo"):
        curriculum = strategy(name)(pool(), group_size=group_size)
        told = Rollouts([1] * group_size + [2] * group_size, [1.0] + [0.0] * (2 * group_size - 2) + [1.0])
        assert curriculum.admit(told).verdict.tolist() == ["keep", "keep"]
        again = Rollouts([1] * group_size, [0.0] + [1.0] * (group_size - 1))
        assert curriculum.admit(again).verdict.tolist() == ["keep"]


def test_continuous_rewards_do_not_slip_through_by_their_mean() -> None:
    """Equal partial credit has a mean inside any band, and no signal; rounding is not signal either."""
    dapo = strategy("dapo")(pool())
    equal = Rollouts([1] * 4 + [2] * 4, [0.5] * 4 + [0.1 + 0.2, 0.3, 0.3, 0.3])
    assert dapo.admit(equal).verdict.tolist() == ["drop", "drop"]


def test_progress_below_one_counts() -> None:
    """A floor on the pass rate made every arm that is not solved for good look the same."""
    progress = strategy("learning-progress")(pool(400), seed=0)
    for round_ in range(60):
        ids = progress.ask(64).prompt_ids.repeat(8)
        moving = np.minimum(round_ / 60, 0.9) * ((ids - 1) % 4 == 2)  # one arm goes from 0 to 0.9, the others stay
        progress.tell(Rollouts(ids, moving))
        progress.advance()
    weights = progress.arm_weights
    assert max(weights, key=weights.__getitem__) == "arm 2"
