"""``frontier``: what it believes, what it takes, what it guarantees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curri import PromptPool, Rollouts
from curri.curricula.frontier import Frontier
from curri.registry import strategy
from curri.state import pack, unpack
from curri.testing import Case, run_checks

POOL = PromptPool(np.arange(1, 61), ["a", "b", "c"] * 20)


def told(frontier: Frontier, groups: dict[int, list[float]], **columns: Any) -> None:
    ids = np.repeat(list(groups), [len(group) for group in groups.values()])
    frontier.tell(Rollouts(ids, np.concatenate([np.empty(0), *groups.values()]), **columns))
    frontier.advance()


def play(frontier: Frontier, rates: np.ndarray, rounds: int, n: int, seed: int = 0) -> tuple[np.ndarray, list[float]]:
    """Visits of each prompt, and the share of live groups in each round; ids are 1, 2, …"""
    rng = np.random.default_rng(seed)
    visits, live = np.zeros(rates.size, dtype=np.int64), []
    for _ in range(rounds):
        selection = frontier.ask(n)
        rows = selection.prompt_ids - 1
        visits[rows] += 1
        ids = selection.prompt_ids.repeat(selection.n_rollouts)
        rewards = (rng.random(ids.size) < rates[ids - 1]).astype(float)
        ends = np.cumsum(selection.n_rollouts)
        groups = np.split(rewards, ends[:-1])
        live.append(float(np.mean([group.min() < group.max() for group in groups])))
        frontier.tell(Rollouts(ids, rewards))
        frontier.advance()
    return visits, live


@pytest.mark.parametrize(
    "parameters",
    [
        {"allocation": "live"},
        {"picking": "best", "score": "distance", "price": 0.5, "curiosity": 0.0},
        {"score": "root", "cost_power": 0.0, "least": 0.5, "most": 1.0, "first_visits": 1.0},
    ],
    ids=str,
)
def test_it_keeps_the_contract(parameters: dict[str, Any]) -> None:
    assert [check for check in run_checks(Case(Frontier, parameters)) if not check.ok] == []


def test_prompts_with_signal_are_found() -> None:
    rates = np.repeat([0.0, 0.5, 1.0], 40)
    frontier = Frontier(PromptPool(np.arange(1, 121)), seed=0, picking="best")
    _, live = play(frontier, rates, 40, 16)
    assert np.mean(live[:3]) < 0.6
    assert np.mean(live[-10:]) > 0.9


@pytest.mark.parametrize(("sharpness", "low", "high"), [(1.0, 0.55, 0.85), (4.0, 0.85, 1.0)])
def test_prompts_are_drawn_by_their_worth(sharpness: float, low: float, high: float) -> None:
    """A third of the prompts has signal; what has none is drawn now and then, less often the sharper the draw."""
    rates = np.repeat([0.0, 0.5, 1.0], 40)
    frontier = Frontier(PromptPool(np.arange(1, 121)), seed=0, sharpness=sharpness)
    _, live = play(frontier, rates, 60, 16)
    assert low < np.mean(live[-20:]) <= high


@given(
    seed=st.integers(0, 2**16),
    n=st.integers(1, 12),
    most=st.floats(1.5, 4.0),  # near 1 there is hardly a choice, and a draw may come to its end
    first=st.integers(1, 10),
    rounds=st.integers(5, 40),
    picking=st.sampled_from(["draw", "best"]),
)
@settings(deadline=None, max_examples=25)
def test_no_prompt_gets_more_than_its_allowance(
    seed: int, n: int, most: float, first: int, rounds: int, picking: str
) -> None:
    rates = np.random.default_rng(seed).random(40)
    pool = PromptPool(np.arange(1, 41))
    frontier = Frontier(pool, seed=seed, picking=picking, most=most, first_visits=float(first), least=0.0)
    visits, _ = play(frontier, rates, rounds, n, seed)
    assert visits.max() <= first + most * (rounds * n / 40) + 1e-9
    assert "curriculum/frontier/fallback/allowance_exceeded" not in frontier.metrics()


@pytest.mark.parametrize("least", [0.2, 0.5])
def test_every_prompt_gets_its_least_share(least: float) -> None:
    rates = np.repeat([0.0, 0.5, 1.0], 20)
    frontier = Frontier(PromptPool(np.arange(1, 61)), seed=0, least=least, due_share=1.0)
    visits, _ = play(frontier, rates, 100, 12)
    uniform = 100 * 12 / 60
    assert visits.min() >= np.floor(least * uniform) - 1
    assert frontier.metrics()["curriculum/frontier/due_picks"] > 0


@pytest.mark.parametrize("n", [1, 3])
def test_small_batches_come_to_every_prompt_too(n: int) -> None:
    frontier = Frontier(PromptPool(np.arange(1, 21)), seed=0, least=0.2)
    visits, _ = play(frontier, np.repeat([0.0, 0.5], 10), 600 // n, n)
    assert visits.min() >= 4
    due = frontier.metrics()["curriculum/frontier/due_picks"]
    assert 0 < due <= 0.35 * 600


def test_surprises_do_not_run_away_with_the_trend() -> None:
    """Nothing is learned for long, all memory has faded, and then rewards change at once."""
    frontier = Frontier(PromptPool(np.arange(1, 201)), seed=0, memory=100.0)
    play(frontier, np.full(200, 0.001), 150, 32)
    trends = []
    for i in range(20):
        play(frontier, np.full(200, 0.3), 1, 32, seed=i)
        trends.append(frontier.metrics()["curriculum/frontier/trend"])
    assert np.abs(trends).max() < 0.5
    assert frontier.metrics()["curriculum/frontier/live_foretold"] > 0.1


def test_an_allowance_that_cannot_hold_gives_way_and_is_counted() -> None:
    frontier = Frontier(POOL, first_visits=1.0, most=1.0)
    for _ in range(12):
        assert len(frontier.ask(6, exclude=list(range(1, 31)))) == 6
    assert frontier.metrics()["curriculum/frontier/capped_picks"] > 0
    assert frontier.metrics()["curriculum/frontier/fallback/allowance_exceeded"] > 0


def test_a_long_prompt_has_to_be_worth_its_tokens() -> None:
    pool = PromptPool(np.arange(1, 5), expected_tokens=[100.0, 100.0, 1000.0, 1000.0])
    groups = {i: [1.0, 0.0] * 4 for i in range(1, 5)}
    for power, wanted in ((1.0, {1, 2}), (0.0, None)):
        frontier = Frontier(pool, cost_power=power, picking="best")
        told(frontier, groups)
        worth = [frontier.explain(i)["worth"] for i in range(1, 5)]
        if wanted is None:
            assert worth[0] == pytest.approx(worth[3])
        else:
            assert set(frontier.ask(2).prompt_ids.tolist()) == wanted
            assert worth[0] / worth[3] == pytest.approx(10.0, rel=0.2)


def test_tokens_are_learned_where_the_pool_knows_none() -> None:
    frontier = Frontier(POOL)
    assert frontier.explain(1)["expected_tokens"] is None
    told(frontier, {1: [1.0, 0.0], 2: [1.0, 0.0]}, tokens=[10, 30, 400, 600])
    assert frontier.explain(1)["expected_tokens"] < frontier.explain(3)["expected_tokens"]
    assert frontier.explain(2)["expected_tokens"] > frontier.explain(3)["expected_tokens"]


def test_a_pool_whose_lengths_are_all_unknown_is_one_without_lengths() -> None:
    known = Frontier(PromptPool([1, 2], expected_tokens=[float("nan")] * 2))
    plain = Frontier(PromptPool([1, 2]))
    assert known.explain(1)["worth"] == plain.explain(1)["worth"] > 0.5
    assert known.explain(1)["expected_tokens"] is None


@pytest.mark.parametrize("score", ["live", "variance", "root", "distance"])
def test_one_rollout_a_prompt_still_tells_prompts_apart(score: str) -> None:
    frontier = Frontier(POOL, group_size=1, score=score, curiosity=0.0)
    for i in range(8):
        told(frontier, {1: [1.0], 2: [float(i % 2)]})
    assert frontier.explain(2)["worth"] > frontier.explain(1)["worth"] + 0.01


def test_what_is_left_alone_becomes_uncertain_again() -> None:
    frontier = Frontier(POOL)
    told(frontier, {1: [1.0] * 8})
    before = frontier.explain(1)["logit_sd"]
    for _ in range(50):
        told(frontier, {})
    assert frontier.explain(1)["logit_sd"] > before
    assert frontier.explain(1)["rounds_since_told"] == 51


def test_a_prompt_never_seen_borrows_from_its_arm_and_from_its_prior() -> None:
    pool = PromptPool(np.arange(1, 201), ["easy"] * 100 + ["hard"] * 100)
    frontier = Frontier(pool)
    told(frontier, {i: [1.0] * 7 + [0.0] for i in range(1, 60)} | {i: [0.0] * 8 for i in range(101, 160)})
    assert frontier.explain(90)["pass_rate"] > 0.6
    assert frontier.explain(190)["pass_rate"] < 0.3
    known = PromptPool(np.arange(1, 4), prior_rate=[0.95, 0.05, float("nan")])
    rates = [Frontier(known).explain(i)["pass_rate"] for i in (1, 2, 3)]
    assert rates[0] > rates[2] > rates[1]


@pytest.mark.parametrize("score", ["live", "variance", "root", "distance"])
def test_rewards_that_are_fractions_go_by_the_share_of_live_groups(score: str) -> None:
    frontier = Frontier(POOL, curiosity=0.0, score=score, price=0.0)
    for _ in range(6):
        told(frontier, {1: [0.5] * 8, 2: [0.2, 0.8] * 4, 3: [1.0, 0.0] * 4})
    worth = [frontier.explain(i)["worth"] for i in (1, 2, 3)]
    assert worth[0] < 0.3 * worth[1]
    assert worth[1] < 1.1 * worth[2]


def test_unknown_outcomes_are_counted_and_still_say_something() -> None:
    frontier = Frontier(POOL, curiosity=0.0)
    for _ in range(4):
        told(frontier, {1: [-3.0, 5.0], 2: [5.0, 5.0]})
    assert frontier.metrics()["curriculum/frontier/fallback/solved_unknown"] == 4
    assert frontier.explain(1)["worth"] > frontier.explain(2)["worth"]


def test_rollouts_go_where_one_more_adds_most() -> None:
    frontier = Frontier(PromptPool([1, 2]), allocation="live", group_size=8)
    told(frontier, {1: [0.0] * 7 + [1.0], 2: [1.0, 0.0] * 4})
    selection = frontier.ask(2)
    counts = dict(zip(selection.prompt_ids.tolist(), selection.n_rollouts.tolist(), strict=True))
    assert sum(counts.values()) == 16
    assert counts[1] > counts[2] >= 2


def test_state_is_exact_after_growth_and_with_new_arms() -> None:
    frontier = Frontier(POOL, seed=3)
    play(frontier, np.linspace(0.0, 1.0, 60), 8, 10)
    grown = POOL.extended(np.arange(61, 66), ["new"] * 5)
    frontier.extend(grown)
    told(frontier, {1: [1.0, 0.0]})
    other = Frontier(grown, seed=3)
    other.load_state_dict(unpack(pack(frontier.state_dict())))
    for _ in range(3):
        a, b = frontier.ask(7), other.ask(7)
        np.testing.assert_array_equal(a.prompt_ids, b.prompt_ids)
        for each in (frontier, other):
            told(each, {int(i): [1.0, 0.0, 1.0] for i in a.prompt_ids})
    assert frontier.metrics() == other.metrics()


def test_it_goes_within_and_around_another_strategy() -> None:
    for name in ("ucb/frontier", "frontier/uniform"):
        both = strategy(name)(POOL, seed=0)
        for _ in range(3):
            selection = both.ask(9)
            assert len(set(selection.prompt_ids.tolist())) == 9
            both.tell(Rollouts(selection.prompt_ids.repeat(2), [1.0, 0.0] * 9))
            both.advance()
