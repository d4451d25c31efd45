"""How many prompts to ask for, and what happens when they are too few or too many."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.selectors import LiveShare, RefillPlanner, oversampling_factor

IDS = np.arange(1000, 3000)


def answer(ids: np.ndarray, share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(ids.size) < share


# ---- the factor -------------------------------------------------------------------------------------------------


def test_factor_for_one_group_is_that_of_repeated_tries() -> None:
    # 1 − (1 − q)^m ≥ c
    assert oversampling_factor(0.5, 1, confidence=0.9) == 4
    assert oversampling_factor(0.1, 1, confidence=0.5) == 7
    assert oversampling_factor(0.9, 1, confidence=0.95) == 2


def test_factor_of_an_unknown_share_is_that_of_the_uniform_prior() -> None:
    # under Beta(1, 1) the number of live groups among m is uniform on 0 … m: P(≥ w) = (m − w + 1)/(m + 1)
    assert oversampling_factor(0.5, 1, confidence=0.9, strength=2.0) == 9
    assert oversampling_factor(0.5, 10, confidence=0.75, strength=2.0) == 39 / 10


@given(share=st.floats(0.05, 1.0), wanted=st.integers(1, 40), confidence=st.floats(0.05, 0.95))
def test_factor_is_the_smallest_number_that_is_enough(share: float, wanted: int, confidence: float) -> None:
    m = round(oversampling_factor(share, wanted, confidence=confidence) * wanted)

    def enough(n: int) -> float:
        terms = [math.comb(n, j) * share**j * (1 - share) ** (n - j) for j in range(min(wanted, n + 1))]
        return 1.0 - sum(terms) if n >= wanted else 0.0

    assert enough(m) >= confidence - 1e-9
    assert enough(m - 1) < confidence + 1e-9


def test_factor_grows_with_confidence_and_with_ignorance_and_falls_with_the_share() -> None:
    by_confidence = [oversampling_factor(0.5, 64, confidence=c) for c in (0.2, 0.5, 0.8, 0.99)]
    by_strength = [oversampling_factor(0.5, 64, confidence=0.8, strength=s) for s in (math.inf, 1000, 50, 5)]
    by_share = [oversampling_factor(q, 64) for q in (0.9, 0.5, 0.1, 0.01)]
    for values in (by_confidence, by_strength, by_share):
        assert values == sorted(values)
        assert len(set(values)) == len(values)


def test_factor_at_the_ends() -> None:
    assert oversampling_factor(1.0, 7, confidence=0.99) == 1.0
    assert oversampling_factor(0.0, 7) == math.inf
    assert oversampling_factor(0.5, 256) == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"live_share": 1.5, "wanted": 1}, "live_share"),
        ({"live_share": math.nan, "wanted": 1}, "live_share"),
        ({"live_share": 0.5, "wanted": 0}, "wanted"),
        ({"live_share": 0.5, "wanted": 2.5}, "wanted"),
        ({"live_share": 0.5, "wanted": 1, "confidence": 1.0}, "confidence"),
        ({"live_share": 0.5, "wanted": 1, "strength": 0.0}, "strength"),
    ],
)
def test_wrong_arguments_of_the_factor_are_refused(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidParameter, match=f"`{word}` of `oversampling_factor` must"):
        oversampling_factor(**arguments)


# ---- the live share ---------------------------------------------------------------------------------------------


def test_share_starts_at_one_half_and_follows_the_counts() -> None:
    share = LiveShare(decay=0.5, prior=10)
    assert share.mean == 0.5
    share.update(live=10, groups=10)
    assert share.mean == (5 + 10) / 20
    share.update(live=0, groups=20)
    assert share.mean == (5 + 5) / (10 + 5 + 20)
    assert share.groups == 25


def test_a_step_without_groups_changes_nothing() -> None:
    share = LiveShare()
    share.update(30, 60)
    before = share.state()
    share.update(0, 0)
    assert share.state() == before


@pytest.mark.parametrize(("drift", "scatter", "least"), [(0.0, 0.0, 0.9), (0.005, 0.0, 0.88), (0.0, 0.03, 0.85)])
def test_the_interval_holds_the_next_share_about_as_often_as_it_says(
    drift: float, scatter: float, least: float
) -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(20):
        share, true = LiveShare(), 0.5
        for step in range(60):
            true = float(np.clip(true + drift * rng.normal(), 0.05, 0.95))
            now = float(np.clip(true + scatter * rng.normal(), 0.01, 0.99))
            low, high = share.interval(0.9)
            if step >= 5:
                held.append(low <= now <= high)
            share.update(int(rng.binomial(300, now)), 300)
    assert np.mean(held) >= least


def test_the_interval_is_never_empty_and_never_certain() -> None:
    share = LiveShare(decay=1.0)
    for _ in range(500):
        share.update(500, 1000)
    low, high = share.interval()
    assert low < 0.5 < high
    assert high - low > 0.02
    nothing = LiveShare()
    for _ in range(50):
        nothing.update(0, 500)
    assert nothing.interval()[0] >= 0.0
    assert 0.0 < nothing.mean < 0.01


def test_wrong_counts_are_refused() -> None:
    share = LiveShare()
    for live, groups in ((5, 4), (-1, 4), (1.5, 4), (True, 4)):
        with pytest.raises(InvalidParameter):
            share.update(live, groups)  # type: ignore[arg-type]
    for bad in ({"decay": 0.0}, {"decay": 1.1}, {"prior": 0.0}):
        with pytest.raises(InvalidParameter):
            LiveShare(**bad)
    with pytest.raises(InvalidParameter):
        share.interval(1.0)


# ---- the planner ------------------------------------------------------------------------------------------------


def played(planner: RefillPlanner, wanted: int, share: float, seed: int = 0, first: int = 0) -> tuple[Any, list[Any]]:
    """One whole step with prompts from ``IDS[first:]``; gives the batch and all plans."""
    plans = [planner.start(wanted)]
    while plans[-1].ask:
        ids = IDS[first : first + plans[-1].ask]
        first += ids.size
        plans.append(planner.add(ids, answer(ids, share, seed + len(plans))))
    return planner.finish(), plans


def test_it_asks_for_enough_at_once_and_for_the_rest_again() -> None:
    planner = RefillPlanner(confidence=0.5)
    batch, plans = played(planner, 64, 0.3)
    assert plans[0].reason == "first"
    assert {plan.reason for plan in plans[1:-1]} <= {"refill"}
    assert plans[-1].reason == batch.reason == "filled"
    assert batch.ids.size == 64
    assert batch.short == 0
    assert batch.counts["asked"] == batch.counts["finished"] == batch.counts["live"] + batch.counts["dead"]


def test_it_learns_how_many_prompts_a_live_group_costs() -> None:
    planner = RefillPlanner(confidence=0.5, carry=0, max_factor=50)
    first = planner.start(64).ask
    planner.finish()
    for seed in range(8):
        played(planner, 64, 0.1, seed=17 * seed)
    plan = planner.start(64)
    assert first == pytest.approx(128, abs=20)
    assert plan.live_share == pytest.approx(0.1, abs=0.03)
    assert plan.low < 0.1 < plan.high
    assert plan.ask == pytest.approx(640, rel=0.3)
    assert plan.prompts == pytest.approx(64 / plan.live_share)
    assert plan.rollouts == pytest.approx(8 * plan.prompts)


def test_the_generation_limit_degrades_instead_of_crashing() -> None:
    """DAPO #22 and verl #953: "generated too many", an error after the last generation batch."""
    planner = RefillPlanner(max_refills=3, max_factor=2)
    batch, plans = played(planner, 16, 0.0)
    assert [plan.ask for plan in plans] == [32, 32, 32, 32, 0]
    assert plans[-1].reason == batch.reason == "gave up"
    assert batch.ids.size == 0
    assert batch.short == 16
    assert batch.counts["refills"] == 3
    assert batch.counts["dead"] == 128
    assert planner.metrics()["steps_short"] == 1
    assert played(planner, 16, 1.0)[0].reason == "filled"


def test_a_short_batch_is_what_there_is_and_holds_no_group_twice() -> None:
    """POLARIS fills a batch with copies of its live groups, which doubles their weight unseen."""
    planner = RefillPlanner(max_refills=0)
    plan = planner.start(10)
    planner.add(IDS[: plan.ask], IDS[: plan.ask] < IDS[4])
    batch = planner.finish()
    assert sorted(batch.ids.tolist()) == IDS[:4].tolist()
    assert (batch.short, batch.reason) == (6, "gave up")


def test_it_asks_for_no_more_than_there_are() -> None:
    planner = RefillPlanner()
    assert planner.start(10, available=3).ask == 3
    plan = planner.add(IDS[:3], [True, True, False], available=0)
    assert (plan.ask, plan.reason, plan.missing) == (0, "no prompts left", 8)
    batch = planner.finish()
    assert (batch.ids.size, batch.short, batch.reason) == (2, 8, "no prompts left")


def test_surplus_live_groups_are_carried_to_the_next_step() -> None:
    """NeMo-RL and DAPO discard them: recycling them (RSR) is 3 points better for the same rollouts."""
    planner = RefillPlanner()
    planner.start(4)
    planner.add(IDS[:7], np.ones(7, dtype=bool))
    first = planner.finish()
    assert first.ids.size == 4
    assert sorted([*first.ids, *first.carried]) == IDS[:7].tolist()
    assert planner.waiting.tolist() == first.carried.tolist()
    plan = planner.start(4)
    assert plan.missing == 1
    planner.add(IDS[20:23], [True, True, False])
    second = planner.finish()
    assert set(second.ids[:3]) == set(first.carried)
    assert second.age.tolist() == [1, 1, 1, 0]
    assert second.counts["carried_in"] == 3


def test_a_step_may_be_filled_by_what_was_carried_alone() -> None:
    planner = RefillPlanner()
    planner.start(2)
    planner.add(IDS[:6], np.ones(6, dtype=bool))
    planner.finish()
    plan = planner.start(2)
    assert (plan.ask, plan.reason, plan.prompts) == (0, "filled", 0.0)
    batch = planner.finish()
    assert (batch.ids.size, batch.short) == (2, 0)
    assert batch.dropped.size == 2  # they would be two steps old


@pytest.mark.parametrize(("carry", "left"), [(0, [0, 0, 0]), (1, [5, 0, 0]), (2, [5, 3, 0])])
def test_groups_wait_no_longer_than_allowed(carry: int, left: list[int]) -> None:
    planner = RefillPlanner(carry=carry)
    planner.start(2)
    planner.add(IDS[:7], np.ones(7, dtype=bool))
    batches = [planner.finish()]
    for step in range(2):
        planner.start(2)
        planner.add(
            IDS[50 + 2 * step : 52 + 2 * step], np.ones(2, dtype=bool) if carry == 0 else np.zeros(2, dtype=bool)
        )
        batches.append(planner.finish())
    assert [batch.carried.size for batch in batches] == left
    assert all(batch.ids.size + batch.short == 2 for batch in batches)
    assert batches[0].dropped.size == (5 if carry == 0 else 0)


def test_a_fresh_group_replaces_a_carried_one_of_the_same_prompt() -> None:
    planner = RefillPlanner()
    planner.start(1)
    planner.add(IDS[:2], [True, True])
    carried = planner.finish().carried
    planner.start(2)
    plan = planner.add(carried, [True])
    assert plan.missing == 1
    batch = planner.finish()
    assert (batch.ids.tolist(), batch.age.tolist()) == (carried.tolist(), [0])
    assert batch.counts["replaced"] == 1


def test_who_finishes_first_does_not_decide_who_is_trained_on() -> None:
    """Preferring short finishers biases the gradient."""
    outcomes = []
    for order in (IDS[:20], IDS[:20][::-1], np.random.default_rng(1).permutation(IDS[:20])):
        planner = RefillPlanner(seed=3)
        planner.start(8)
        for piece in np.array_split(order, 4):
            planner.add(piece, piece % 2 == 0)
        batch = planner.finish()
        outcomes.append((batch.ids.tolist(), batch.carried.tolist()))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert outcomes[0][0] != sorted(outcomes[0][0])


def test_pieces_repeats_and_second_thoughts() -> None:
    planner = RefillPlanner()
    planner.start(3)
    planner.add([], [])
    planner.add([5, 5], [False, True])
    planner.add([6], [True])
    planner.add([6], [False])
    batch = planner.finish()
    assert batch.ids.tolist() == [5]
    assert (batch.counts["finished"], batch.counts["live"]) == (2, 1)


def test_prompts_under_way_are_not_asked_for_again() -> None:
    planner = RefillPlanner(confidence=0.5)
    asked = planner.start(16).ask
    plan = planner.add(IDS[:4], [True, False, True, False])
    assert (plan.ask, plan.reason, plan.missing) == (0, "waiting", 14)
    plan = planner.add([], [], lost=asked - 4)
    assert (plan.ask > 0, plan.reason) == (True, "refill")
    assert planner.finish().counts["lost"] == asked - 4


def test_fixed_generation_batches_as_released() -> None:
    planner = RefillPlanner(oversample=1.5, carry=0, max_factor=4)
    assert planner.start(256).ask == 384
    plan = planner.add(IDS[:384], np.arange(384) < 250)
    assert (plan.ask, plan.missing) == (384, 6)
    planner.add(IDS[384:768], np.ones(384, dtype=bool))
    batch = planner.finish()
    assert batch.ids.size == 256
    assert batch.counts["surplus"] == batch.dropped.size == 250 + 384 - 256


def test_one_ask_is_never_more_than_the_factor_allows() -> None:
    planner = RefillPlanner(max_factor=1.5, oversample=3.0)
    assert planner.start(10).ask == 15


@given(
    steps=st.lists(
        st.tuples(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=30)), max_size=8
    ),
    carry=st.integers(0, 2),
    max_refills=st.integers(0, 3),
)
def test_every_live_group_is_trained_on_carried_or_dropped_once(
    steps: list[tuple[int, list[tuple[int, bool]]]], carry: int, max_refills: int
) -> None:
    planner = RefillPlanner(carry=carry, max_refills=max_refills)
    waiting: set[int] = set()
    for wanted, told in steps:
        planner.start(wanted)
        for prompt, live in told:
            planner.add([prompt], [live])
        live_now = {prompt for prompt, live in dict(told).items() if live}
        batch = planner.finish()
        ids, carried = batch.ids.tolist(), batch.carried.tolist()
        assert len(set(ids)) == len(ids) == min(wanted, len(live_now | waiting))
        assert batch.short == wanted - len(ids)
        assert not set(ids) & set(carried)
        assert set(ids) | set(carried) | set(batch.dropped.tolist()) == live_now | waiting
        assert set(batch.ids[batch.age == 0]) <= live_now
        assert set(batch.ids[batch.age > 0]) <= waiting - live_now
        assert (batch.age <= carry).all()
        waiting = set(carried)


def test_state_is_exact_in_the_middle_of_a_step() -> None:
    def make() -> RefillPlanner:
        return RefillPlanner(carry=2, seed=9)

    planner = make()
    for step in range(3):
        played(planner, 16, 0.5, seed=step, first=100 * step)
    plan = planner.start(16)
    planner.add(IDS[500 : 500 + plan.ask // 2], answer(IDS[: plan.ask // 2], 0.5, 1))
    state = planner.state()
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in state.items() if name not in arrays}
    resumed = make()
    resumed.load({**arrays, **json.loads(json.dumps(plain))})
    for value in arrays.values():
        value[...] = 0  # a state is a copy
    results = []
    for one in (planner, resumed):
        more = one.add(IDS[700:740], answer(IDS[700:740], 0.2, 3))
        batch = one.finish()
        again = one.start(20)
        results.append((more, batch.ids.tolist(), batch.carried.tolist(), batch.counts, again, one.metrics()))
    assert results[0] == results[1]


def test_the_live_share_is_counted_once_where_a_strategy_counts_it() -> None:
    planner = RefillPlanner(learn=False)
    planner.start(4)
    planner.add(IDS[:8], np.zeros(8, dtype=bool))
    assert planner.finish().counts["dead"] == 8
    assert planner.share.groups == 0
    planner.learn_from(live=0, groups=8)
    assert planner.share.groups == 8


def test_metrics_are_finite_numbers() -> None:
    planner = RefillPlanner()
    for share in (0.0, 1.0, 0.5):
        played(planner, 8, share)
        assert all(math.isfinite(value) for value in planner.metrics().values())


def test_steps_are_opened_and_closed_in_turn() -> None:
    planner = RefillPlanner()
    for call in (planner.finish, lambda: planner.add([1], [True])):
        with pytest.raises(InvalidParameter, match="open step"):
            call()
    planner.start(3)
    assert planner.is_open
    with pytest.raises(InvalidParameter, match="`finish` it"):
        planner.start(3)
    assert planner.finish().reason == "finished early"


@pytest.mark.parametrize(
    "bad",
    [
        {"max_refills": -1},
        {"max_factor": 0.5},
        {"confidence": 0.0},
        {"oversample": 0.5},
        {"carry": -1},
        {"carry": 1.5},
        {"group_size": 0},
        {"decay": 0.0},
        {"seed": -1},
    ],
)
def test_wrong_parameters_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        RefillPlanner(**bad)


@pytest.mark.parametrize(("ids", "live"), [([1, 2], [True]), ([1.5], [True]), ([1], [1]), ([[1]], [[True]])])
def test_wrong_groups_are_refused(ids: Any, live: Any) -> None:
    planner = RefillPlanner()
    planner.start(2)
    with pytest.raises(InvalidParameter, match="`ids` and `live`"):
        planner.add(ids, live)
