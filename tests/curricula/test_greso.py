"""GRESO: runs of dead groups, the coin, the steering of its bias, refilling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri import PromptPool, Rollouts
from curri.curricula.greso import GRESO
from curri.curricula.uniform import Uniform
from curri.errors import InvalidParameter
from curri.state import pack, unpack
from curri.testing import Case, run_checks

POOL = PromptPool(np.arange(1, 25), ["a", "b"] * 12)
RIGHT, WRONG, MIXED = [1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]


def told(greso: GRESO, groups: dict[int, list[float]], **columns: Any) -> None:
    """One round of outcomes."""
    ids = np.repeat(list(groups), [len(group) for group in groups.values()])
    greso.tell(Rollouts(ids, np.concatenate(list(groups.values())), **columns))
    greso.advance()


def keep(greso: GRESO, prompt: int) -> float:
    return float(greso.explain(prompt)["keep_probability"])


def bias(greso: GRESO) -> tuple[float, float]:
    metrics = greso.metrics()
    return metrics["curriculum/greso/p_easy"], metrics["curriculum/greso/p_hard"]


def fixed(**parameters: Any) -> GRESO:
    """One whose p never moves."""
    return GRESO(POOL, p_step=0.0, **parameters)


def test_skip_probability_is_one_minus_p_to_the_z() -> None:
    greso = fixed(p_start=0.5)
    for z in range(1, 10):
        told(greso, {1: RIGHT, 2: WRONG, 3: MIXED})
        assert greso.explain(1)["dead_groups_in_a_row"] == z
        assert keep(greso, 1) == keep(greso, 2) == pytest.approx(max(0.5**z, 0.01))
        assert keep(greso, 3) == keep(greso, 4) == 1.0


def test_signal_ends_a_run() -> None:
    greso = fixed()
    for outcome in (WRONG, WRONG, MIXED, WRONG):
        told(greso, {1: outcome})
    assert keep(greso, 1) == 0.5
    assert greso.explain(1)["kind"] == "all wrong"


@pytest.mark.parametrize(("run_of", "run"), [("kind", 1), ("dead", 3)])
def test_whether_a_change_of_kind_ends_a_run(run_of: str, run: int) -> None:
    greso = fixed(run_of=run_of)
    for outcome in (WRONG, WRONG, RIGHT):
        told(greso, {1: outcome})
    assert greso.explain(1)["dead_groups_in_a_row"] == run
    assert greso.explain(1)["kind"] == "all right"


def test_p_moves_by_a_hundredth_a_round_towards_its_share() -> None:
    greso = GRESO(POOL)
    told(greso, {1: RIGHT, 2: WRONG, 3: MIXED, 4: MIXED})  # 25 % easy > 8.3 %; 25 % hard > 16.7 %
    assert bias(greso) == pytest.approx((0.49, 0.49))
    told(greso, {i: WRONG if i == 1 else MIXED for i in range(1, 11)})  # no easy; 10 % hard
    assert bias(greso) == pytest.approx((0.50, 0.50))
    told(greso, {i: RIGHT if i == 1 else MIXED for i in range(1, 11)})  # 10 % easy; no hard
    assert bias(greso) == pytest.approx((0.49, 0.51))


def test_p_rests_at_its_share_and_in_rounds_without_groups() -> None:
    greso = GRESO(POOL)
    told(greso, {i: RIGHT if i == 1 else WRONG if i <= 3 else MIXED for i in range(1, 13)})  # 1/12 and 2/12
    assert bias(greso) == (0.5, 0.5)
    greso.advance()
    told(greso, {1: RIGHT}, kind="probe")
    assert bias(greso) == (0.5, 0.5)


def test_p_stays_within_its_bounds() -> None:
    greso = GRESO(POOL, p_step=0.2)
    for _ in range(6):
        told(greso, {1: RIGHT})
    assert bias(greso) == (0.05, 0.95)
    with pytest.raises(InvalidParameter, match=r"`p_low` of `GRESO` must be at most `p_high`, 0\.4; got 0\.5"):
        GRESO(POOL, p_low=0.5, p_high=0.4)


def test_sixteen_rollouts_with_one_right_are_not_all_wrong() -> None:
    """The released thresholds .98 and .11 are tuned to 8 rollouts: at 16, one of 16 counts as dead."""
    one_of_sixteen = [1.0] + [0.0] * 15
    ours, released = fixed(), fixed(dead_by="thresholds")
    for greso in (ours, released):
        told(greso, {1: one_of_sixteen, 2: [1.0] + [0.0] * 7})
    assert (keep(ours, 1), keep(ours, 2)) == (1.0, 1.0)
    assert (keep(released, 1), keep(released, 2)) == (0.5, 1.0)
    assert released.admit(Rollouts([1] * 16, one_of_sixteen)).verdict.tolist() == ["keep"]


def test_fractional_rewards_and_rounding() -> None:
    greso = fixed()
    told(greso, {1: [0.5, 0.5], 2: [0.1 + 0.2, 0.3], 3: [0.2, 0.4], 4: [0.999, 0.999]})
    kinds = [greso.explain(i)["kind"] for i in (1, 2, 3, 4)]
    assert kinds == ["all wrong", "all wrong", "none", "all wrong"]
    told(greso, {5: [1.0, 0.99]}, solved=[1.0, 1.0])  # a shaped reward still varies
    assert greso.explain(5)["kind"] == "none"


def test_rewards_without_solved_go_by_their_sign_and_are_counted() -> None:
    greso = fixed()
    told(greso, {1: [-1.0, -1.0], 2: [3.0, 3.0], 3: [-1.0, 3.0]})
    assert [greso.explain(i)["kind"] for i in (1, 2, 3)] == ["all wrong", "all right", "none"]
    assert greso.metrics()["curriculum/greso/fallback/solved_unknown"] == 1


def test_a_single_response_says_nothing() -> None:
    greso = GRESO(POOL)
    told(greso, {1: WRONG})
    before = bias(greso)
    told(greso, {1: [1.0], 2: [0.0]})
    assert greso.explain(1)["dead_groups_in_a_row"] == 1
    assert greso.explain(2)["dead_groups_in_a_row"] == 0
    assert bias(greso) == before
    assert greso.admit(Rollouts([1, 2], [1.0, 0.0])).verdict.tolist() == ["keep", "keep"]


@pytest.mark.parametrize("drop", [True, False])
def test_dead_groups_are_dropped_by_a_switch(drop: bool) -> None:
    ids = np.repeat([1, 2, 3, 4], 3)
    admission = GRESO(POOL, drop_dead=drop).admit(Rollouts(ids, [*RIGHT, *WRONG, *MIXED, 0.5, 0.5, 0.5]))
    wanted = ["all right", "all wrong", "", "no variance"] if drop else [""] * 4
    assert admission.reason.tolist() == wanted
    assert admission.verdict.tolist() == ["drop" if reason else "keep" for reason in wanted]


def test_each_drawn_prompt_has_its_own_coin() -> None:
    """Of 24 prompts one is dead with p^z = 1/4: it comes a quarter as often as the others."""
    greso = fixed()
    for _ in range(2):
        told(greso, {7: WRONG})
    state = greso.state_dict()
    times = np.zeros(25)
    for seed in range(3000):
        greso.load_state_dict({**state, "generator": np.random.PCG64(seed).state})
        times[greso.ask(1).prompt_ids] += 1
    others = np.delete(times[1:], 6)
    assert times[7] / others.mean() == pytest.approx(0.25, abs=0.1)
    assert others.std() < 3 * np.sqrt(others.mean())


def test_probabilities_are_exact_while_nothing_is_dead_and_unknown_after() -> None:
    greso = GRESO(POOL)
    assert greso.ask(6).probability == pytest.approx(np.full(6, 0.25))
    told(greso, {1: MIXED})
    assert np.isfinite(greso.ask(6).probability).all()
    told(greso, {1: WRONG})
    assert np.isnan(greso.ask(6).probability).all()
    told(greso, {1: MIXED})
    assert np.isfinite(greso.ask(3).probability).all()


def test_it_draws_what_uniform_draws_while_nothing_is_dead() -> None:
    greso, uniform = GRESO(POOL, seed=3), Uniform(POOL, seed=3)
    for n in (5, 7, 24, 1):
        assert greso.ask(n).prompt_ids.tolist() == uniform.ask(n).prompt_ids.tolist()


@pytest.mark.parametrize("outcome", [RIGHT, WRONG])
def test_a_pool_that_is_all_dead_still_fills_batches_and_says_so(outcome: list[float]) -> None:
    greso = GRESO(POOL, keep_floor=0.0, p_low=0.0)
    for _ in range(8):
        told(greso, dict.fromkeys(POOL.ids.tolist(), outcome))
    assert greso.ask(24).prompt_ids.size == 24
    assert np.unique(greso.ask(20, quota={"a": 12, "b": 8}).prompt_ids).size == 20
    assert greso.metrics()["curriculum/greso/fallback/skipped_prompts_taken"] >= 2


def test_what_was_drawn_beyond_the_batch_waits_in_the_epoch() -> None:
    greso = fixed(seed=1)
    told(greso, {1: WRONG})
    picks = [greso.ask(4).prompt_ids for _ in range(5)]
    assert np.unique(np.concatenate(picks)).size == 20
    left = greso.metrics()["curriculum/greso/prompts_left_in_epoch"]
    assert left in {3.0, 4.0}  # prompt 1 may have been skipped


@given(
    n=st.integers(1, 24),
    dead=st.sets(st.integers(1, 24)),
    out=st.sets(st.integers(1, 24)),
    rounds=st.integers(1, 6),
    draws=st.integers(1, 3),
)
def test_exactly_n_distinct_prompts_whatever_is_dead_or_excluded(
    n: int, dead: set[int], out: set[int], rounds: int, draws: int
) -> None:
    greso = GRESO(POOL, max_draws=draws)
    for _ in range(rounds):
        told(greso, {i: RIGHT if i in dead else MIXED for i in POOL.ids.tolist()})
    n = min(n, 24 - len(out))
    for _ in range(4 if n else 0):
        ids = greso.ask(n, exclude=sorted(out)).prompt_ids
        assert np.unique(ids).size == n
        assert not set(ids.tolist()) & out


def test_dead_prompts_come_less_often_and_refills_are_fewer() -> None:
    pool = PromptPool(np.arange(300))
    rates = np.where(np.arange(300) < 200, 0.0, 0.5)
    greso, uniform, rng = GRESO(pool), Uniform(pool), np.random.default_rng(0)
    dead = {"greso": 0, "uniform": 0}
    for _ in range(60):
        for strategy in (greso, uniform):
            ids = strategy.ask(60).prompt_ids
            dead[strategy.name] += int(np.sum(rates[ids] == 0))
            each = np.repeat(ids, 8)
            strategy.tell(Rollouts(each, (rng.random(each.size) < rates[each]).astype(float)))
            strategy.advance()
    assert dead["greso"] < 0.5 * dead["uniform"]
    assert greso.planner.share.mean > 0.6


def test_arms_count_by_what_would_be_taken_of_them() -> None:
    greso = fixed()
    told(greso, dict.fromkeys(range(1, 25, 2), WRONG))  # all of arm a
    request = greso._checked_request(4, "train", [2], None)
    assert greso._arm_mass(request).tolist() == [6.0, 11.0]


def test_state_is_exact() -> None:
    one = GRESO(POOL, seed=2)
    for _ in range(4):
        told(one, {1: WRONG, 2: RIGHT, 3: MIXED})
    one.planner.start(5)
    one.planner.add([1, 3], [False, True])
    two = GRESO(POOL, seed=2)
    two.load_state_dict(unpack(pack(one.state_dict())))
    assert pack(two.state_dict()) == pack(one.state_dict())
    assert [two.ask(9).prompt_ids.tolist() for _ in range(4)] == [one.ask(9).prompt_ids.tolist() for _ in range(4)]
    assert two.planner.finish().ids.tolist() == one.planner.finish().ids.tolist() == [3]


def test_tiny_pools() -> None:
    greso = GRESO(PromptPool([9]))
    for _ in range(9):
        assert greso.ask(1).prompt_ids.tolist() == [9]
        told(greso, {9: WRONG})


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters", [{"dead_by": "thresholds", "run_of": "dead", "drop_dead": False}, {"keep_floor": 0.0, "max_draws": 1}]
)
def test_contract(parameters: dict[str, Any]) -> None:
    assert [result for result in run_checks(Case(GRESO, parameters)) if not result.ok] == []
