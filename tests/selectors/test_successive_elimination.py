"""Rounds until a group teaches: the reference's own runs, the Tinker port, what must hold of any pool, and the cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter, InvalidRollouts, UnknownPrompt
from curri.selectors import EliminationRule, SuccessiveElimination, elimination_cost

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "reinforce_ada.json").read_text())
EXITS = {"balanced": "balanced", "positive_focused": "positive"}

COST = {
    # p: draws, no signal and mean pool rate, first of "positive", then of "balanced"
    0.01: ((28.5, 0.725, 0.019), (31.7, 0.725, 0.011)),
    0.03125: ((22.8, 0.362, 0.053), (29.7, 0.362, 0.040)),
    0.0625: ((17.3, 0.127, 0.092), (25.6, 0.127, 0.084)),
    0.125: ((12.0, 0.014, 0.153), (18.4, 0.014, 0.161)),
    0.25: ((8.9, 0.000, 0.263), (11.5, 0.000, 0.284)),
    0.5: ((8.0, 0.004, 0.501), (8.6, 0.000, 0.500)),
    0.75: ((8.0, 0.100, 0.750), (11.5, 0.000, 0.716)),
    0.875: ((8.0, 0.344, 0.875), (18.4, 0.014, 0.839)),
    0.9375: ((8.0, 0.597, 0.938), (25.6, 0.127, 0.916)),
    0.99: ((8.0, 0.923, 0.990), (31.7, 0.725, 0.989)),
}


def play(rounds: SuccessiveElimination, streams: dict[Any, list[float]]) -> list[tuple[int, int, float]]:
    """Hand out every prompt's rewards in order; gives requested, resolved so far and mean reward of each round."""
    place = dict.fromkeys(streams, 0)
    seen: list[tuple[int, int, float]] = []
    while True:
        ids, n = rounds.ask()
        if not ids.size:
            return seen
        rewards: list[float] = []
        for name, k in zip(ids.tolist(), n.tolist(), strict=True):
            rewards += streams[name][place[name] : place[name] + k]
            place[name] += k
        rounds.tell(np.repeat(ids, n), rewards)
        resolved = sum(group.resolved for group in rounds.groups().values())
        seen.append((int(n.sum()), resolved, float(np.mean(rewards))))


# ---- the reference ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOLDEN["sequential_sampling"]["cases"], ids=lambda case: case["name"])
def test_golden_sequential_sampling(case: dict[str, Any]) -> None:
    streams = case["reward_stream_per_prompt"]
    rounds = SuccessiveElimination(
        list(streams),
        group_size=case["n_keep"],
        round_size=case["round_repeat_M"],
        max_rounds=case["max_rounds_N"],
        exit=EXITS[case["choice"]],
        threshold=case["positive_threshold"],
    )
    seen = play(rounds, streams)
    expected = case["expected"]
    assert [requested for requested, _, _ in seen] == expected["responses_requested_per_round"]
    assert [resolved for _, resolved, _ in seen] == expected["finished_after_each_round"]
    assert [mean for _, _, mean in seen] == pytest.approx(expected["reward_mean_per_round"], abs=1e-6)
    groups = rounds.groups()
    assert list(groups) == list(streams)
    for name, want in expected["per_prompt"].items():
        group = groups[name]
        assert group.positions.tolist() == want["kept_generation_indices"]
        assert group.rewards.tolist() == pytest.approx(want["kept_rewards"], abs=1e-6)
        assert (group.drawn, group.n_positive, group.n_negative) == (want["drawn"], want["pool_pos"], want["pool_neg"])
        assert group.pool_rewards.tolist() == streams[name][: want["drawn"]]


@pytest.mark.parametrize(
    "case",
    GOLDEN["tinker_variant_downsample"]["cases"],
    ids=lambda case: f"{case['strategy']} {case['n_keep']} of {case['pos']}+{case['neg']}",
)
def test_golden_tinker_variant_downsample(case: dict[str, Any]) -> None:
    exit_ = EXITS[case["strategy"]]
    downsample = "positives" if exit_ == "positive" else "half"
    rule = EliminationRule(group_size=case["n_keep"], exit=exit_, downsample=downsample)
    names = [f"p{i}" for i in range(case["pos"])] + [f"n{i}" for i in range(case["neg"])]
    group = rule.group([1.0] * case["pos"] + [0.0] * case["neg"])
    assert group.resolved == case["expected_finished"]
    assert [names[i] for i in group.positions.tolist()] == case["expected_kept"]


# ---- what holds of any pool ------------------------------------------------------------------------------------------

rules = st.builds(
    EliminationRule,
    group_size=st.integers(1, 9),
    exit=st.sampled_from(EliminationRule.CHOICES["exit"]),
    downsample=st.sampled_from(EliminationRule.CHOICES["downsample"]),
    keep=st.sampled_from(EliminationRule.CHOICES["keep"]),
    positives_needed=st.integers(1, 3),
)


@given(rules, st.lists(st.sampled_from([-1.0, 0.0, 0.5, 0.7, 0.71, 1.0, 5.0]), max_size=40))
def test_kept_are_distinct_drawn_and_as_many_as_there_can_be(rule: EliminationRule, rewards: list[float]) -> None:
    group = rule.group(rewards, rng=np.random.default_rng(0))
    positions = group.positions.tolist()
    assert len(set(positions)) == len(positions)
    assert set(positions) <= set(range(len(rewards)))
    assert group.rewards.tolist() == [rewards[i] for i in positions]
    sides = [rewards[i] > 0.7 for i in positions]
    assert sides == sorted(sides, reverse=True)
    assert (sum(sides), len(sides) - sum(sides)) == tuple(
        int(k) for k in rule.kept_counts(group.n_positive, group.n_negative)
    )
    wanted = min(rule.group_size, len(rewards))
    if rule.downsample == "positives" and not group.n_positive:
        wanted = min(rule.group_size - 1, len(rewards))
    assert len(positions) == wanted


@given(st.integers(2, 9), st.integers(0, 40), st.integers(0, 40))
def test_half_is_mixed_whenever_the_pool_is(group_size: int, n_positive: int, n_negative: int) -> None:
    kept = EliminationRule(group_size=group_size).kept_counts(n_positive, n_negative)
    assert (min(kept) > 0) == (min(n_positive, n_negative) > 0)


@given(
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from(EliminationRule.CHOICES["exit"]),
    st.lists(st.integers(0, 2**20 - 1), min_size=1, max_size=5),
)
def test_a_prompt_leaves_in_the_first_round_in_which_it_may(
    group_size: int, round_size: int, max_rounds: int, exit_: str, bits: list[int]
) -> None:
    streams = {i: [float(b >> k & 1) for k in range(20)] for i, b in enumerate(bits)}
    rounds = SuccessiveElimination(list(streams), group_size, round_size, max_rounds, exit_)
    play(rounds, streams)
    assert rounds.done
    for name, group in rounds.groups().items():
        assert group.drawn == group.rounds * round_size <= max_rounds * round_size
        assert group.pool_rewards.tolist() == streams[name][: group.drawn]
        for r in range(1, group.rounds + 1):
            right = int(sum(streams[name][: r * round_size]))
            reached = bool(rounds.rule.reached(right, r * round_size - right))
            assert reached == (r == group.rounds and group.resolved)
        assert group.resolved or group.rounds == max_rounds


def test_keep_random_takes_every_response_of_a_side_alike() -> None:
    rule = EliminationRule(group_size=4, keep="random")
    rng = np.random.default_rng(0)
    hits = np.zeros(10)
    for _ in range(2000):
        hits[rule.group([1, 0] * 5, rng=rng).positions] += 1
    assert hits / 2000 == pytest.approx(0.4, abs=0.05)


def test_keep_random_gives_the_same_group_when_asked_twice() -> None:
    rounds = SuccessiveElimination([1], keep="random", rng=np.random.default_rng(0))
    play(rounds, {1: [1.0, 0.0] * 16})
    assert rounds.groups()[1].positions.tolist() == rounds.groups()[1].positions.tolist()


@pytest.mark.parametrize(("unresolved", "left"), [("keep", {1, 2, 3, 4}), ("filter", {2, 3}), ("drop", {3})], ids=str)
def test_unresolved(unresolved: str, left: set[int]) -> None:
    rounds = SuccessiveElimination([1, 2, 3, 4], round_size=4, max_rounds=1, unresolved=unresolved)
    play(rounds, {1: [0, 0, 0, 0], 2: [1, 0, 0, 0], 3: [1, 1, 0, 0], 4: [1, 1, 1, 1]})
    assert set(rounds.groups()) == left


def test_filter_leaves_out_what_is_all_right_though_it_met_the_positive_rule() -> None:
    rounds = SuccessiveElimination([1], exit="positive", unresolved="filter")
    play(rounds, {1: [1.0] * 8})
    assert rounds.groups() == {}


def test_a_reward_at_the_threshold_is_no_success() -> None:
    rounds = SuccessiveElimination([1], exit="positive", round_size=2, max_rounds=2)
    play(rounds, {1: [0.7, 0.7, 0.7, 0.71]})
    assert rounds.groups()[1].drawn == 4


def test_positives_needed() -> None:
    rounds = SuccessiveElimination([1], exit="positive", positives_needed=4)
    play(rounds, {1: [1.0, 0.0, 0.0, 0.0] * 8})
    assert rounds.groups()[1].drawn == 16


# ---- prompts at their own pace ---------------------------------------------------------------------------------------


def test_rounds_may_come_in_parts_and_are_judged_when_complete() -> None:
    rounds = SuccessiveElimination([1, 2], group_size=2, round_size=4)
    rounds.ask()
    rounds.tell([1, 1, 2, 2, 2, 2], [1, 0, 0, 0, 0, 0])
    ids, n = rounds.ask()
    assert (ids.tolist(), n.tolist()) == ([2], [4])
    assert rounds.groups()[1].resolved
    assert not rounds.done
    assert rounds.ask()[0].size == 0
    rounds.tell([1, 1, 2, 2, 2, 2], [0, 0, 1, 0, 0, 0])
    assert rounds.done
    assert rounds.groups()[1].drawn == 4
    assert rounds.groups()[2].positions.tolist() == [4, 0]


def test_stopping_early_gives_groups_of_what_there_is() -> None:
    rounds = SuccessiveElimination([1, 2], group_size=2, round_size=2)
    assert rounds.groups() == {}
    rounds.ask()
    rounds.tell([1, 1], [0, 0])
    assert {name: (group.drawn, group.resolved) for name, group in rounds.groups().items()} == {1: (2, False)}


def test_what_was_not_asked_for_is_refused_and_changes_nothing() -> None:
    rounds = SuccessiveElimination([1, 2], group_size=2, round_size=2)
    with pytest.raises(InvalidRollouts, match=r"prompts \[1\]"):
        rounds.tell([1], [1.0])
    rounds.ask()
    with pytest.raises(UnknownPrompt, match="such as 3"):
        rounds.tell([1, 3], [1.0, 0.0])
    for rewards in ([np.nan, 1.0], [1.0], [np.inf, 0.0]):
        with pytest.raises(InvalidRollouts, match="finite"):
            rounds.tell([1, 1], rewards)
    assert rounds.groups() == {}
    rounds.tell([1, 1], [1.0, 0.0])
    with pytest.raises(InvalidRollouts, match="more responses"):
        rounds.tell([1], [1.0])


def test_no_prompts() -> None:
    rounds = SuccessiveElimination([])
    assert (rounds.done, rounds.ask()[0].size, rounds.groups()) == (True, 0, {})


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"group_size": 0}, "`group_size`"),
        ({"round_size": 1.5}, "`round_size`"),
        ({"max_rounds": True}, "`max_rounds`"),
        ({"exit": "never"}, '`exit` of `SuccessiveElimination` must be one of "balanced", "positive"; got \'never\''),
        ({"threshold": np.nan}, "`threshold`"),
        ({"keep": "random"}, "needs a generator"),
        ({"unresolved": "burn"}, "`unresolved`"),
        ({"downsample": "all"}, "`downsample`"),
        ({"positives_needed": 0}, "`positives_needed`"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_arguments(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidParameter, match=match):
        SuccessiveElimination([1], **wrong)


def test_wrong_ids() -> None:
    with pytest.raises(InvalidParameter, match="distinct"):
        SuccessiveElimination([1, 1])
    with pytest.raises(InvalidParameter, match="integers or names"):
        SuccessiveElimination([1.5])


# ---- the cost --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exit_", EliminationRule.CHOICES["exit"])
def test_cost_table(exit_: str) -> None:
    cost = elimination_cost(list(COST), rule=EliminationRule(exit=exit_))
    want = np.array([both[exit_ == "balanced"] for both in COST.values()])
    assert cost.draws == pytest.approx(want[:, 0], abs=0.0501)
    assert cost.no_signal == pytest.approx(want[:, 1], abs=0.000501)
    assert cost.pass_rate == pytest.approx(want[:, 2], abs=0.000501)


@pytest.mark.parametrize("exit_", EliminationRule.CHOICES["exit"])
@pytest.mark.parametrize("rate", [0.0625, 0.25, 0.875])
def test_cost_is_what_a_simulation_costs(exit_: str, rate: float) -> None:
    prompts = 4000
    rng = np.random.default_rng([17, int(rate * 1e4)])
    rounds = SuccessiveElimination(np.arange(prompts), exit=exit_)
    while (work := rounds.ask())[0].size:
        ids = np.repeat(*work)
        rounds.tell(ids, rng.random(ids.size) < rate)
    groups = rounds.groups().values()
    cost = elimination_cost(rate, rule=rounds.rule)
    for seen, want in (
        ([group.drawn for group in groups], cost.draws),
        ([not group.mixed for group in groups], cost.no_signal),
        ([group.pass_rate for group in groups], cost.pass_rate),
    ):
        assert np.mean(seen) == pytest.approx(float(want), abs=4.5 * np.std(seen) / np.sqrt(prompts) + 1e-3)


@given(st.floats(0.0, 1.0), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
def test_cost_lies_within_its_bounds(rate: float, group_size: int, round_size: int, max_rounds: int) -> None:
    rule = EliminationRule(group_size=group_size)
    draws, no_signal, share = elimination_cost(rate, round_size=round_size, max_rounds=max_rounds, rule=rule)
    assert round_size - 1e-9 <= draws <= round_size * max_rounds + 1e-9
    assert -1e-9 <= no_signal <= 1 + 1e-9
    assert -1e-9 <= share <= 1 + 1e-9


def test_cost_refuses_what_is_no_rate() -> None:
    for rate in (-0.1, 1.1, np.nan):
        with pytest.raises(InvalidParameter, match="pass_rate"):
            elimination_cost(rate)
