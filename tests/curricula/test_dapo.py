"""DAPO's admission rule, its bands, and refilling through the planner."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri import PromptPool, Rollouts
from curri.curricula.dapo import DAPO
from curri.errors import InvalidParameter
from curri.state import pack, unpack
from curri.testing import Case, run_checks

POOL = PromptPool(np.arange(1, 401), ["a", "b"] * 200)


def judged(groups: list[list[float]], *, solved: list[list[float]] | None = None, **parameters: Any) -> list[str]:
    """The reason for each group of rewards, "" for those kept."""
    sizes = [len(group) for group in groups]
    ids = np.repeat(POOL.ids[: len(groups)], sizes)
    flat = None if solved is None else np.concatenate(solved)
    admission = DAPO(POOL, **parameters).admit(Rollouts(ids, np.concatenate(groups), flat))
    assert ((admission.verdict == "keep") == (admission.reason == "")).all()
    assert set(admission.verdict.tolist()) <= {"keep", "drop"}
    return admission.reason.tolist()


def test_keeps_a_group_if_and_only_if_some_are_right_and_some_are_wrong() -> None:
    assert judged([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]) == ["all wrong", "", "", "all right"]


@given(right=st.integers(0, 16), n=st.integers(2, 16))
def test_the_rule_does_not_depend_on_the_size_of_the_group(right: int, n: int) -> None:
    right = min(right, n)
    assert (judged([[1.0] * right + [0.0] * (n - right)]) == [""]) == (0 < right < n)


def test_right_answers_decide_over_a_shaped_reward() -> None:
    rewards, solved = [[1.0, 0.9], [-0.1, 0.0], [0.5, 0.4]], [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    assert judged(rewards, solved=solved) == ["all right", "all wrong", ""]
    assert judged(rewards, solved=solved, signal="reward") == ["", "", ""]


def test_fractions_are_judged_by_the_spread_of_the_rewards() -> None:
    groups = [[0.5, 0.5], [0.25, 0.75], [1.0, 0.5], [1.0, 1.0]]
    assert judged(groups) == ["no variance", "", "", "all right"]


def test_rewards_without_solved_are_judged_by_their_spread() -> None:
    assert judged([[-1.0, -1.0], [-1.0, 3.0], [2.0, 2.0]]) == ["no variance", "", "no variance"]
    assert judged([[5.0, 5.0], [0.0, 1.0]], solved=[[1.0, np.nan], [1.0, np.nan]]) == ["no variance", ""]


def test_float_noise_is_no_signal() -> None:
    """std == 0 tests on floats: 0.1 + 0.2 is not 0.3, yet teaches nothing (NeMo-RL #4158)."""
    noisy = [[0.1 + 0.2, 0.3], [1e6 + 1e-6, 1e6], [0.3, 0.3001]]
    assert judged(noisy) == ["no variance", "no variance", ""]
    assert judged(noisy, tolerance=0.01) == ["no variance", "no variance", "no variance"]
    assert judged(noisy, tolerance=0.0)[0] == ""


def test_the_band_is_open_at_both_ends() -> None:
    groups = [[1.0] * k + [0.0] * (8 - k) for k in range(9)]
    band = judged(groups, band_low=0.25, band_high=0.75)
    assert band == ["all wrong", "too hard", "too hard", "", "", "", "too easy", "too easy", "all right"]


def test_continuous_rewards_do_not_slip_through_a_band_on_the_mean() -> None:
    """OpenRLHF #1272: a group of equal rewards of one half is inside the band, and dead."""
    assert judged([[0.5, 0.5], [0.4, 0.6], [0.1, 0.2]], band_low=0.2, band_high=0.8) == ["no variance", "", "too hard"]


def test_the_band_is_left_aside_where_the_pass_rate_is_unknown() -> None:
    assert judged([[-1.0, -3.0]], band_low=0.2, band_high=0.8) == [""]


def test_a_band_must_not_be_empty() -> None:
    with pytest.raises(InvalidParameter, match=r"`band_low` of `DAPO` must be below `band_high`, 0\.5; got 0\.5"):
        DAPO(POOL, band_low=0.5, band_high=0.5)


def test_single_responses_by_the_formula_and_as_released() -> None:
    assert judged([[1.0], [0.0], [0.5]]) == ["all right", "all wrong", "no variance"]
    assert judged([[1.0], [0.0], [0.5]], keep_single=True) == ["", "", ""]


def test_judging_changes_nothing_and_probes_are_judged_too() -> None:
    dapo = DAPO(POOL)
    before = pack(dapo.state_dict())
    assert dapo.admit(Rollouts([1, 1], [1, 1], kind="probe")).verdict.tolist() == ["drop"]
    assert dapo.admit(Rollouts([], [])).prompt_ids.size == 0
    assert pack(dapo.state_dict()) == before


def test_it_picks_in_epochs_like_uniform() -> None:
    dapo = DAPO(POOL, seed=1)
    picks = [dapo.ask(80) for _ in range(5)]
    assert sorted(np.concatenate([pick.prompt_ids for pick in picks]).tolist()) == POOL.ids.tolist()
    assert picks[0].probability == pytest.approx(np.full(80, 80 / 400))


def outcomes(ids: np.ndarray, rates: np.ndarray, seed: int) -> Rollouts:
    rng = np.random.default_rng(seed)
    each = np.repeat(ids, 8)
    return Rollouts(each, (rng.random(each.size) < rates[each - 1]).astype(float))


def trained(dapo: DAPO, wanted: int, rates: np.ndarray, seed: int = 0) -> Any:
    """One step, refilled until it is full."""
    plan = dapo.planner.start(wanted)
    while plan.ask:
        selection = dapo.ask(plan.ask)
        rollouts = outcomes(selection.prompt_ids, rates, seed := seed + 1)
        dapo.tell(rollouts)
        admission = dapo.admit(rollouts)
        plan = dapo.planner.add(admission.prompt_ids, admission.verdict == "keep")
    batch = dapo.planner.finish()
    dapo.advance()
    return batch


def test_a_whole_run_of_full_batches() -> None:
    dapo = DAPO(POOL, seed=0)
    rates = np.where(np.arange(400) % 2, 0.0, 0.4)  # half of the pool is dead
    batches = [trained(dapo, 32, rates, seed=100 * step) for step in range(8)]
    assert all(batch.ids.size == 32 for batch in batches)
    assert all((rates[batch.ids - 1] > 0).all() for batch in batches)
    asked = sum(batch.counts["asked"] for batch in batches)
    assert asked == pytest.approx(2 * 8 * 32, rel=0.25)
    assert dapo.planner.share.mean == pytest.approx(0.5, abs=0.1)
    metrics = dapo.metrics()
    judged_ = {name: metrics[f"curriculum/dapo/groups/{name}"] for name in ("live", "all_wrong")}
    assert sum(judged_.values()) == asked


@pytest.mark.parametrize(("rate", "reason"), [(0.0, "all_wrong"), (1.0, "all_right")])
def test_pools_that_are_all_wrong_or_all_right_end_in_a_short_batch(rate: float, reason: str) -> None:
    dapo = DAPO(POOL, max_refills=2, max_factor=2)
    batch = trained(dapo, 16, np.full(400, rate))
    assert (batch.ids.size, batch.short, batch.reason) == (0, 16, "gave up")
    assert dapo.metrics()[f"curriculum/dapo/groups/{reason}"] == 96
    assert dapo.ask(16).prompt_ids.size == 16


def test_the_live_share_is_learned_without_the_planner_too() -> None:
    dapo = DAPO(POOL, share_decay=1.0)
    dapo.tell(Rollouts(np.repeat([1, 2, 3], 2), [1, 0, 1, 1, 0, 0]))
    dapo.advance()
    assert dapo.planner.share.mean == (5 + 1) / (10 + 3)
    dapo.advance()
    assert dapo.planner.share.groups == 3


def test_the_planner_is_part_of_the_state() -> None:
    rates = np.full(400, 0.3)
    one = DAPO(POOL, seed=5)
    trained(one, 16, rates)
    plan = one.planner.start(40)
    one.planner.add(one.ask(plan.ask).prompt_ids, np.arange(plan.ask) % 3 == 0)
    two = DAPO(POOL, seed=5)
    two.load_state_dict(unpack(pack(one.state_dict())))
    ends = []
    for dapo in (one, two):
        batch = dapo.planner.finish()
        later = trained(dapo, 16, rates, seed=3)
        ends.append((batch.ids.tolist(), later.ids.tolist(), later.age.tolist(), pack(dapo.state_dict())))
    assert ends[0] == ends[1]


def test_a_tiny_pool(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    dapo = DAPO(PromptPool([4]))
    plan = dapo.planner.start(2, available=1)
    assert plan.ask == 1
    dapo.planner.add(dapo.ask(1).prompt_ids, [True], available=0)
    assert dapo.planner.finish().reason == "no prompts left"


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters", [{"signal": "reward", "keep_single": True, "oversample": 2.0}, {"band_low": 0.2, "band_high": 0.8}]
)
def test_contract(parameters: dict[str, Any]) -> None:
    assert [result for result in run_checks(Case(DAPO, parameters)) if not result.ok] == []
