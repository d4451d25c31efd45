"""AdaRFT: the target, the nearest prompts, memory, prompts without a prior rate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri import PromptPool, Rollouts
from curri.curricula.adarft import AdaRFT
from curri.state import pack, unpack
from curri.testing import Case, run_checks

RATES = np.linspace(1.0, 0.0, 21)  # difficulties 0, 5, 10 … 100
POOL = PromptPool(np.arange(21), ["a", "b", "c"] * 7, prior_rate=RATES)


def told(adarft: AdaRFT, reward: float, prompts: tuple[int, ...] = (0,), **columns: Any) -> None:
    """One round in which each of these prompts gets two responses of this reward."""
    ids = np.repeat(prompts, 2)
    adarft.tell(Rollouts(ids, np.full(ids.size, reward), **columns))
    adarft.advance()


def released(pool: PromptPool, **parameters: Any) -> AdaRFT:
    return AdaRFT(pool, memory=0, ties="order", **parameters)


# ---- the target -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reward", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_target_moves_by_the_formula(reward: float) -> None:
    adarft = AdaRFT(POOL, start=50.0)
    told(adarft, reward)
    assert adarft.target == pytest.approx(50 + 50 * math.tanh(2 * (reward - 0.5)))


def test_one_round_can_move_the_target_38_of_its_100_points_unless_capped() -> None:
    free, capped = AdaRFT(POOL), AdaRFT(POOL, max_step=5.0)
    for adarft in (free, capped):
        told(adarft, 1.0)
    assert free.target == pytest.approx(38.08, abs=0.01)
    assert capped.target == 5.0
    told(capped, 0.0)
    assert capped.target == 0.0


@given(rewards=st.lists(st.floats(-5, 5), max_size=12), start=st.floats(0, 100))
def test_target_stays_between_0_and_100(rewards: list[float], start: float) -> None:
    adarft = AdaRFT(POOL, start=start)
    for reward in rewards:
        told(adarft, reward)
        assert 0.0 <= adarft.target <= 100.0


def test_other_constants() -> None:
    adarft = AdaRFT(POOL, start=20.0, step=10.0, sensitivity=4.0, wanted_reward=0.25)
    told(adarft, 0.5)
    assert adarft.target == pytest.approx(20 + 10 * math.tanh(1.0))


def test_reward_or_solved() -> None:
    by_solved, by_reward = AdaRFT(POOL, start=50.0), AdaRFT(POOL, start=50.0, signal="reward")
    for adarft in (by_solved, by_reward):
        told(adarft, 0.5, solved=[1.0, 1.0])
    assert by_solved.target == pytest.approx(50 + 50 * math.tanh(1.0))
    assert by_reward.target == pytest.approx(50.0)


def test_rewards_without_solved_are_followed_and_counted() -> None:
    adarft = AdaRFT(POOL, start=50.0)
    told(adarft, -1.0)
    assert adarft.target == pytest.approx(50 + 50 * math.tanh(-3.0))
    assert adarft.metrics()["curriculum/adarft/fallback/solved_unknown"] == 1


def test_a_round_without_training_rollouts_leaves_the_target() -> None:
    adarft = AdaRFT(POOL, start=40.0)
    adarft.advance()
    told(adarft, 1.0, kind="probe")
    assert adarft.target == 40.0


# ---- the nearest prompts ----------------------------------------------------------------------------------------


def test_the_nearest_prompts_are_picked() -> None:
    adarft = AdaRFT(POOL, start=51.0, memory=0)
    assert sorted(adarft.ask(5).prompt_ids.tolist()) == [8, 9, 10, 11, 12]
    assert sorted(AdaRFT(POOL, start=100.0, memory=0).ask(2).prompt_ids.tolist()) == [19, 20]
    assert sorted(AdaRFT(POOL, start=0.0, memory=0).ask(21).prompt_ids.tolist()) == list(range(21))


def test_excluded_prompts_make_room_for_the_next_nearest() -> None:
    adarft = AdaRFT(POOL, start=51.0, memory=0)
    assert sorted(adarft.ask(3, exclude=[10, 11, 9]).prompt_ids.tolist()) == [8, 12, 13]
    assert sorted(adarft.ask(2, exclude=[0, 20]).prompt_ids.tolist()) == [10, 11]


def test_quotas_take_the_nearest_of_each_arm() -> None:
    adarft = AdaRFT(POOL, start=51.0, memory=0)  # arm b: 1, 4, 7, 10, 13 …; arm c: 2, 5, 8, 11 …
    assert sorted(adarft.ask(3, quota={"b": 2, "c": 1}).prompt_ids.tolist()) == [10, 11, 13]
    request = adarft._checked_request(5, "train", None, None)
    assert adarft._arm_mass(request).tolist() == [2.0, 1.0, 2.0]


@given(
    values=st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0]), min_size=1, max_size=20),
    start=st.sampled_from([0.0, 30.0, 50.0, 60.0, 100.0]),
    out=st.sets(st.integers(0, 19)),
    n=st.integers(1, 20),
    ties=st.sampled_from(["random", "order"]),
)
def test_no_prompt_left_out_is_nearer_than_one_picked(
    values: list[float], start: float, out: set[int], n: int, ties: str
) -> None:
    pool = PromptPool(np.arange(len(values)), prior_rate=values)
    out &= set(range(len(values)))
    n = min(n, len(values) - len(out))
    if not n:
        return
    picked = AdaRFT(pool, start=start, memory=0, ties=ties).ask(n, exclude=sorted(out)).prompt_ids
    distance = np.abs(100 * (1 - np.array(values)) - start)
    left = sorted(set(range(len(values))) - out - set(picked.tolist()))
    assert np.unique(picked).size == n
    assert not out & set(picked.tolist())
    assert distance[picked].max() <= distance[left].min(initial=math.inf)


def test_ties_by_order_are_the_lowest_ids_and_by_chance_are_any() -> None:
    pool = PromptPool(np.arange(40), prior_rate=np.full(40, 0.5))
    assert sorted(released(pool).ask(4).prompt_ids.tolist()) == [0, 1, 2, 3]
    times = np.zeros(40)
    for seed in range(400):
        times[AdaRFT(pool, seed=seed).ask(4).prompt_ids] += 1
    assert times.min() > 15  # 40 expected


def test_a_tie_on_both_sides_of_the_target_is_broken_evenly() -> None:
    pool = PromptPool(range(4), prior_rate=[0.6, 0.6, 0.4, 0.4])
    times = np.zeros(4)
    for seed in range(400):
        times[AdaRFT(pool, seed=seed, start=50.0, memory=0).ask(1).prompt_ids] += 1
    assert times.min() > 65


# ---- memory -----------------------------------------------------------------------------------------------------


def test_without_memory_an_unchanged_target_gives_the_very_same_prompts_again() -> None:
    adarft = released(POOL, start=50.0)
    rounds = []
    for _ in range(4):
        rounds.append(sorted(adarft.ask(5).prompt_ids.tolist()))
        told(adarft, 0.5)
    assert rounds == [[8, 9, 10, 11, 12]] * 4


def test_with_memory_the_neighbours_take_their_turn() -> None:
    adarft = AdaRFT(POOL, start=50.0, set_back=30.0)
    rounds = []
    for _ in range(3):
        rounds.append(set(adarft.ask(5).prompt_ids.tolist()))
        told(adarft, 0.5)
    assert rounds[0] == {8, 9, 10, 11, 12}
    assert not rounds[0] & rounds[1]
    assert rounds[1] < set(range(5, 16))


def test_a_set_back_fades_and_is_no_exclusion() -> None:
    adarft = AdaRFT(POOL, start=50.0, memory=4, set_back=8.0)
    adarft.ask(1)
    assert adarft.explain(10)["set_back"] == 8.0
    assert adarft.ask(1).prompt_ids[0] in {9, 11}  # at 5 points, against 8
    assert adarft.explain(10)["set_back"] == 6.0
    adarft.ask(1)
    assert adarft.ask(1, exclude=[9, 11]).prompt_ids.tolist() == [10]  # 4 points, against 10
    small = AdaRFT(PromptPool(range(3), prior_rate=[1.0, 0.5, 0.0]), start=50.0)
    assert [sorted(small.ask(3).prompt_ids.tolist()) for _ in range(3)] == [[0, 1, 2]] * 3


def test_what_was_picked_is_a_cursor_and_resumes_exactly() -> None:
    one = AdaRFT(POOL, start=50.0)
    for _ in range(3):
        one.ask(4)
        told(one, 0.6)
    two = AdaRFT(POOL, start=50.0)
    two.load_state_dict(unpack(pack(one.state_dict())))
    assert two.target == one.target
    assert [two.ask(4).prompt_ids.tolist() for _ in range(5)] == [one.ask(4).prompt_ids.tolist() for _ in range(5)]


# ---- prompts without a prior rate -------------------------------------------------------------------------------


def difficulty(adarft: AdaRFT, prompt: int) -> Any:
    known = adarft.explain(prompt)
    return known["difficulty"], known["difficulty_from"]


def test_prompts_without_a_prior_stand_at_the_mean_of_the_pool_until_they_are_seen() -> None:
    pool = PromptPool(range(4), prior_rate=[0.9, 0.7, np.nan, np.nan])
    adarft = AdaRFT(pool, own_decay=1.0)
    assert difficulty(adarft, 0) == (pytest.approx(10.0), "prior rate")
    assert difficulty(adarft, 2) == (pytest.approx(20.0), "mean of the pool")
    adarft.tell(Rollouts([2, 2, 2, 0, 0], [0, 0, 0, 0, 0]))
    adarft.advance()
    assert difficulty(adarft, 0) == (pytest.approx(10.0), "prior rate")
    assert difficulty(adarft, 2) == (pytest.approx(100 * (1 - 0.8 / 4)), "own rollouts")
    assert difficulty(adarft, 3) == (pytest.approx(20.0), "mean of the pool")


def test_own_rollouts_fade_and_may_be_left_aside() -> None:
    pool = PromptPool(range(2), prior_rate=[0.5, np.nan])
    fading, fixed = AdaRFT(pool, own_decay=0.5), AdaRFT(pool, unrated="mean")
    for adarft in (fading, fixed):
        for rewards in ([0, 0], [1, 1]):
            adarft.tell(Rollouts([1, 1], rewards))
            adarft.advance()
    assert difficulty(fading, 1)[0] == pytest.approx(100 * (1 - (2 + 0.5) / (3 + 1)))
    assert difficulty(fixed, 1) == (50.0, "mean of the pool")


def test_a_pool_without_any_prior_rate_says_so_and_learns() -> None:
    adarft = AdaRFT(PromptPool(range(30)), start=80.0)
    adarft.ask(3)
    assert adarft.metrics()["curriculum/adarft/fallback/no_prior_rates"] == 1
    ids = np.repeat(np.arange(30), 8)
    adarft.tell(Rollouts(ids, (ids < 12).astype(float)))
    adarft.advance()
    assert set(adarft.ask(10).prompt_ids.tolist()) < set(range(12, 30))
    assert set(adarft.ask(18, quota={"default": 18}).prompt_ids.tolist()) == set(range(12, 30))


@given(
    told_rounds=st.lists(
        st.lists(st.tuples(st.integers(0, 11), st.sampled_from([0.0, 0.5, 1.0])), max_size=6), max_size=6
    )
)
def test_ladders_kept_up_to_date_are_those_built_anew(told_rounds: list[list[tuple[int, float]]]) -> None:
    pool = PromptPool(range(12), list("ab") * 6, prior_rate=[0.5, 0.75, *[np.nan] * 10])
    adarft = AdaRFT(pool, memory=0)
    adarft.ask(4)
    adarft.ask(4, quota={"a": 2, "b": 2})
    for outcomes in told_rounds:
        adarft.tell(Rollouts([prompt for prompt, _ in outcomes], [reward for _, reward in outcomes]))
        adarft.advance()
    kept = dict(adarft._ladders)
    adarft._set_up()
    assert len(kept) == 3
    for arm, ladder in kept.items():
        fresh = adarft._ladder_of(arm)
        assert ladder.rows.tolist() == fresh.rows.tolist()
        assert ladder.values.tolist() == fresh.values.tolist()


def test_prompts_that_join_find_their_place() -> None:
    adarft = AdaRFT(POOL, start=50.0, memory=0)
    adarft.extend(POOL.extended([100, 101], ["a", "new"], prior_rate=[0.5, 0.01]).retired([10]))
    adarft.advance()
    assert adarft.ask(1).prompt_ids.tolist() == [100]
    assert adarft.ask(1, quota={"new": 1}).prompt_ids.tolist() == [101]


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_pools_that_are_all_wrong_or_all_right_drive_the_target_to_its_end(reward: float) -> None:
    adarft = AdaRFT(PromptPool(range(6), prior_rate=np.full(6, reward)), start=50.0)
    for _ in range(5):
        ids = adarft.ask(4).prompt_ids
        adarft.tell(Rollouts(ids, np.full(4, reward)))
        adarft.advance()
    assert adarft.target == 100 * reward
    assert adarft.ask(6).prompt_ids.size == 6


DETERMINISTIC = dict.fromkeys(
    ("other_seed_other_picks", "ties_broken_by_the_generator"), "ties go by order, as released"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"memory": 0}, {}),
        ({"memory": 0, "ties": "order"}, DETERMINISTIC),
        ({"unrated": "mean", "signal": "reward", "max_step": 5.0}, {}),
    ],
)
def test_contract(parameters: dict[str, Any], expected: dict[str, str]) -> None:
    assert [result for result in run_checks(Case(AdaRFT, parameters, expected)) if not result.ok] == []
