"""MoDoMoDo: mixtures kept exactly, the three ways to go on when a dataset runs out, forecasts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curri import PromptPool, Rollouts
from curri.curricula.modomodo import MoDoMoDo
from curri.errors import InvalidParameter, PoolExhausted
from curri.testing import Case, run_checks

GOLDEN = {
    case["name"]: case
    for case in json.loads((Path(__file__).parents[1] / "golden" / "modomodo.json").read_text())["cases"]
}


def arms_pool(**sizes: int) -> PromptPool:
    names = [name for name, size in sizes.items() for _ in range(size)]
    return PromptPool(100 + np.arange(len(names)), names)


def ids_of(pool: PromptPool, arm: str) -> np.ndarray:
    return pool.ids[pool.active_rows(pool.arm_code(arm))]


def played(mixture: MoDoMoDo, sizes: list[int], **request: Any) -> list[Counter[str]]:
    return [Counter(mixture.ask(n, **request).arms.tolist()) for n in sizes]


def metric(mixture: MoDoMoDo, name: str) -> float:
    return mixture.metrics()[f"curriculum/modomodo/{name}"]


# ---- the mixture -----------------------------------------------------------------------------------------------------


def test_weights_in_any_scale_missing_arms_get_nothing() -> None:
    mixture = MoDoMoDo(arms_pool(a=20, b=20, c=20), weights={"a": 30.0, "b": 10.0})
    assert mixture.arm_weights == pytest.approx({"a": 0.75, "b": 0.25, "c": 0.0})
    assert played(mixture, [8, 8]) == [Counter(a=6, b=2)] * 2


def test_without_weights_the_pool_as_it_is() -> None:
    mixture = MoDoMoDo(arms_pool(a=10, b=30))
    assert mixture.arm_weights == pytest.approx({"a": 0.25, "b": 0.75})
    assert played(mixture, [4] * 10) == [Counter(a=1, b=3)] * 10
    assert metric(mixture, "epoch/a") == metric(mixture, "epoch/b") == 0
    assert metric(mixture, "unseen/a") == metric(mixture, "unseen/b") == 0


@settings(max_examples=40)
@given(
    weights=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=15),
    seed=st.integers(0, 9),
)
def test_counts_are_within_one_of_their_shares(weights: list[float], sizes: list[int], seed: int) -> None:
    names = [f"arm {i}" for i in range(len(weights))]
    pool = PromptPool(np.arange(9 * len(names)), names * 9)
    mixture = MoDoMoDo(pool, weights=dict(zip(names, weights, strict=True)), seed=seed)
    total: Counter[str] = Counter()
    shares = {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
    sizes = [n for n in sizes if n * max(shares.values()) <= 4]  # no arm of 9 is ever short
    for t, n in zip(np.cumsum(sizes).tolist(), sizes, strict=True):
        total.update(mixture.ask(n).arms.tolist())
        for name, share in shares.items():
            assert abs(total[name] - t * share) < 1
            assert metric(mixture, f"behind/{name}") == pytest.approx(t * share - total[name], abs=1e-9)


def test_lots_decide_which_of_equal_arms_comes_first() -> None:
    first = Counter(MoDoMoDo(arms_pool(a=2, b=2, c=2), seed=seed).ask(1).arms[0] for seed in range(60))
    assert set(first) == {"a", "b", "c"}


def test_multinomial_draws_every_slot() -> None:
    counts = [
        Counter(MoDoMoDo(arms_pool(a=50, b=50), quota="multinomial", seed=seed).ask(20).arms.tolist())["a"]
        for seed in range(300)
    ]
    assert np.mean(counts) == pytest.approx(10, abs=5 * np.sqrt(5 / 300))
    assert np.std(counts) == pytest.approx(np.sqrt(5), rel=0.2)


def test_probabilities() -> None:
    mixture = MoDoMoDo(arms_pool(a=10, b=20), weights={"a": 1.0, "b": 1.0})
    assert np.isnan(mixture.ask(3).probability).all()  # lots are drawn for the odd one
    later = mixture.ask(3)
    counts = Counter(later.arms.tolist())
    left = {"a": 10 - (3 - counts["a"]), "b": 20 - (3 - counts["b"])}
    assert later.probability == pytest.approx([counts[arm] / left[arm] for arm in later.arms.tolist()])
    drawn = MoDoMoDo(arms_pool(a=10, b=20), quota="multinomial").ask(9)
    assert drawn.probability == pytest.approx(9 / 30)
    assert np.isnan(MoDoMoDo(arms_pool(a=5, b=25), quota="multinomial").ask(9).probability).all()


def test_new_prompts_join_and_arms_that_leave_pass_their_share_on() -> None:
    mixture = MoDoMoDo(arms_pool(a=40, b=40), weights={"a": 0.5, "b": 0.25, "c": 0.25})
    assert played(mixture, [6, 6]) == [Counter(a=4, b=2)] * 2
    assert metric(mixture, "fallback/unknown_arms") == 2
    mixture.extend(mixture.pool.extended(np.arange(900, 940), ["c"] * 40))
    mixture.advance()
    assert played(mixture, [8]) == [Counter(a=4, b=2, c=2)]
    assert metric(mixture, "fallback/unknown_arms") == 2
    mixture.extend(mixture.pool.retired(ids_of(mixture.pool, "a")))
    mixture.advance()
    assert played(mixture, [8, 4]) == [Counter(b=4, c=4), Counter(b=2, c=2)]


# ---- names -----------------------------------------------------------------------------------------------------------


def test_an_unknown_arm_among_known_ones_is_said_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    mixture = MoDoMoDo(arms_pool(maths=9, code=9), weights={"math": 0.5, "code": 0.5})
    assert played(mixture, [3, 3]) == [Counter(code=3)] * 2
    assert metric(mixture, "fallback/unknown_arms") == 2
    assert caplog.text.count('got "math", which waits until it has prompts') == 1
    assert 'did you mean "maths"?' in caplog.text


def test_only_unknown_arms_are_refused_when_asked_for() -> None:
    mixture = MoDoMoDo(arms_pool(maths=9, code=9), weights={"math": 0.5, "coed": 0.5})
    before = repr(mixture._small_state())
    with pytest.raises(
        InvalidParameter, match='`weights` of `MoDoMoDo` must name arms of the pool; got "coed"'
    ) as error:
        mixture.ask(2)
    assert error.value.hint == 'did you mean "code"?'
    assert repr(mixture._small_state()) == before
    assert mixture.arm_weights == {"code": 0.0, "maths": 0.0}
    mixture.metrics()
    mixture.explain(100)


def test_weights_that_are_no_weights_are_refused() -> None:
    for wrong in ({}, {"a": 0.0}, {"a": -1.0}, {"a": float("nan")}, "a"):
        with pytest.raises(InvalidParameter, match="`weights` of `MoDoMoDo` must be weights"):
            MoDoMoDo(arms_pool(a=2), weights=wrong)  # type: ignore[arg-type]  # that is the point


# ---- a dataset runs out ----------------------------------------------------------------------------------------------


def test_repeat_opens_the_next_epoch_of_that_dataset() -> None:
    mixture = MoDoMoDo(arms_pool(a=4, b=40), weights={"a": 0.5, "b": 0.5})
    times: Counter[int] = Counter()
    for _ in range(10):
        times.update(mixture.ask(4).prompt_ids.tolist())
    assert {times[i] for i in ids_of(mixture.pool, "a").tolist()} == {5}
    assert {times[i] for i in ids_of(mixture.pool, "b").tolist()} == {0, 1}
    assert metric(mixture, "epoch/a") == 4
    assert metric(mixture, "epoch/b") == 0


@pytest.mark.parametrize("quota", ["exact", "multinomial"])
def test_stop_names_the_dataset_and_changes_nothing(quota: str) -> None:
    mixture = MoDoMoDo(arms_pool(a=5, b=40), weights={"a": 0.5, "b": 0.5}, exhausted="stop", quota=quota)
    for asked in range(3):
        before = repr(mixture._small_state())
        with pytest.raises(PoolExhausted, match=r'prompts, \d+ of them of arm "a"; \d of it are unseen') as error:
            mixture.ask(30)
        assert "renormalise" in (error.value.hint or "")
        assert repr(mixture._small_state()) == before
        selection = mixture.ask(2)
        assert not mixture._columns["drawn"].sum() > 2 * (asked + 1)
        assert len(selection) == 2


def test_stop_gives_every_prompt_at_most_once() -> None:
    mixture = MoDoMoDo(arms_pool(a=5, b=40), weights={"a": 0.5, "b": 0.5}, exhausted="stop")
    seen = [*mixture.ask(4).prompt_ids.tolist(), *mixture.ask(5).prompt_ids.tolist()]
    assert len(set(seen)) == 9
    with pytest.raises(PoolExhausted, match=r'asked for 4 prompts, 2 of them of arm "a"; [01] of it are unseen'):
        mixture.ask(4)


def test_stop_waits_for_prompts_in_flight() -> None:
    mixture = MoDoMoDo(arms_pool(a=6, b=40), weights={"a": 0.5, "b": 0.5}, exhausted="stop")
    busy = ids_of(mixture.pool, "a")[:5]
    assert played(mixture, [4, 4], exclude=busy) == [Counter(a=1, b=3), Counter(b=4)]
    assert played(mixture, [4])[0]["a"] > 2  # it catches up
    unseen = mixture.pool.ids[~mixture._columns["drawn"]]
    with pytest.raises(PoolExhausted, match="the mixture has 0 unseen ones that can be picked"):
        mixture.ask(1, exclude=unseen)


def test_renormalise_leaves_a_dataset_out_until_all_are_through() -> None:
    mixture = MoDoMoDo(arms_pool(a=4, b=8, c=8), weights={"a": 2.0, "b": 1.0, "c": 1.0}, exhausted="renormalise")
    assert played(mixture, [4, 4]) == [Counter(a=2, b=1, c=1)] * 2
    assert mixture.arm_weights == pytest.approx({"a": 0.0, "b": 0.5, "c": 0.5})
    assert played(mixture, [4, 4, 4]) == [Counter(b=2, c=2)] * 3
    assert mixture.arm_weights == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25})
    assert played(mixture, [4]) == [Counter(a=2, b=1, c=1)]
    assert [metric(mixture, f"epoch/{arm}") for arm in "abc"] == [1, 1, 1]


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    weights=st.lists(st.floats(0.1, 1.0), min_size=4, max_size=4),
    batches=st.lists(st.integers(1, 40), max_size=12),
    quota=st.sampled_from(["exact", "multinomial"]),
    seed=st.integers(0, 9),
)
def test_renormalise_gives_every_prompt_once_before_any_twice(
    sizes: list[int], weights: list[float], batches: list[int], quota: str, seed: int
) -> None:
    names = [f"arm {i}" for i in range(len(sizes))]
    pool = PromptPool(np.arange(sum(sizes)), np.repeat(names, sizes))
    mixture = MoDoMoDo(
        pool, weights=dict(zip(names, weights, strict=False)), exhausted="renormalise", quota=quota, seed=seed
    )
    times: Counter[int] = Counter(dict.fromkeys(pool.ids.tolist(), 0))
    for n in batches:
        times.update(mixture.ask(min(n, len(pool))).prompt_ids.tolist())
        assert max(times.values()) - min(times.values()) <= 1
        assert {metric(mixture, f"epoch/{name}") for name in names} <= {min(times.values()), max(times.values())}
    assert "curriculum/modomodo/fallback/mixture_short" not in mixture.metrics()


def test_renormalise_takes_new_prompts_in_without_rushing_them() -> None:
    mixture = MoDoMoDo(arms_pool(a=4, b=40), weights={"a": 0.5, "b": 0.5}, exhausted="renormalise")
    played(mixture, [4, 4, 4])
    mixture.extend(mixture.pool.extended(np.arange(900, 920), ["a"] * 20))
    mixture.advance()
    assert mixture.arm_weights == pytest.approx({"a": 0.5, "b": 0.5})
    assert played(mixture, [4]) == [Counter(a=2, b=2)]


def test_a_mixture_that_cannot_fill_the_batch_takes_others_and_counts_it(caplog: pytest.LogCaptureFixture) -> None:
    mixture = MoDoMoDo(arms_pool(a=3, b=10, c=30), weights={"a": 1.0})
    counts = played(mixture, [11, 11])
    assert all(count["a"] == 3 for count in counts)
    assert all(count["b"] == 2 and count["c"] == 6 for count in counts)
    assert metric(mixture, "fallback/mixture_short") == 2
    assert caplog.text.count("too few prompts for the batch") == 1
    assert mixture.ask(43).probability == pytest.approx(1.0)


# ---- prompts in flight -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exhausted", ["repeat", "renormalise"])
def test_a_shortfall_by_prompts_in_flight_is_caught_up(exhausted: str) -> None:
    mixture = MoDoMoDo(arms_pool(a=60, b=60, c=60), weights={"a": 0.5, "b": 0.3, "c": 0.2}, exhausted=exhausted)
    short = played(mixture, [10, 10], exclude=ids_of(mixture.pool, "a")[2:])
    assert all(count["a"] <= 2 for count in short)
    owed = metric(mixture, "behind/a")
    assert owed > 5
    assert mixture.explain(100)["arm_behind_its_share"] == pytest.approx(owed)
    later = played(mixture, [10] * 5)
    assert all(5 <= count["a"] <= 10 and count["b"] and count["c"] for count in later)
    total = Counter[str]()
    for count in [*short, *later]:
        total.update(count)
    assert total == Counter(a=35, b=21, c=14)
    assert metric(mixture, "behind/a") == pytest.approx(0)


def test_a_quota_moves_the_epochs_and_not_the_ledger() -> None:
    mixture = MoDoMoDo(arms_pool(a=4, b=4), exhausted="stop")
    for _ in range(3):
        assert Counter(mixture.ask(4, quota={"a": 3, "b": 1}).arms.tolist()) == {"a": 3, "b": 1}
    assert mixture.state_dict()["own/ledger"] == {}
    assert metric(mixture, "epoch/a") == 2


# ---- forecasts -------------------------------------------------------------------------------------------------------


def golden_pool() -> tuple[PromptPool, dict[str, Any], dict[str, Any]]:
    case = GOLDEN["training_length_caps"]
    sizes = case["inputs"]["train_sizes"]
    return PromptPool(np.arange(sum(sizes.values())), np.repeat(list(sizes), list(sizes.values()))), *_parts(case)


def _parts(case: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return case["inputs"], case["expected"]


def test_golden_training_length_caps() -> None:
    pool, inputs, expected = golden_pool()
    steps, n = inputs["steps"], inputs["prompts_per_step"]
    caps = MoDoMoDo(pool).weight_caps(steps, n)
    assert caps == pytest.approx(expected["max_weight_before_a_dataset_runs_out"], abs=1e-9)
    for dataset, stop in expected["single_runs_stop_at_step"].items():
        left = MoDoMoDo(pool, weights={dataset: 1.0}).steps_left(n)
        assert min(left[dataset], steps) == int(stop)


def test_a_run_stops_when_the_forecast_says() -> None:
    mixture = MoDoMoDo(arms_pool(a=13, b=200), weights={"a": 0.25, "b": 0.75}, exhausted="stop")
    assert mixture.steps_left(4) == {"a": 13, "b": 66}
    assert metric(mixture, "prompts_until_exhausted/a") == pytest.approx(52)
    for step in range(13):
        assert mixture.steps_left(4)["a"] == 13 - step
        mixture.ask(4)
    with pytest.raises(PoolExhausted):
        mixture.ask(4)


def test_a_dataset_at_its_cap_lasts_the_run() -> None:
    pool = arms_pool(a=30, b=300)
    cap = MoDoMoDo(pool).weight_caps(20, 5)["a"]
    assert cap == pytest.approx(0.3)
    run = MoDoMoDo(pool, weights={"a": cap, "b": 1 - cap}, exhausted="stop")
    for _ in range(20):
        run.ask(5)
    with pytest.raises(PoolExhausted, match='arm "a"'):
        run.ask(10)


def test_wrong_forecasts_are_refused() -> None:
    mixture = MoDoMoDo(arms_pool(a=3))
    with pytest.raises(InvalidParameter, match="`n` of `steps_left`"):
        mixture.steps_left(0)
    with pytest.raises(InvalidParameter, match="of `weight_caps`"):
        mixture.weight_caps(0, 3)


# ---- state -----------------------------------------------------------------------------------------------------------


def test_the_ledger_goes_on_after_a_resume() -> None:
    names = ["a/b", "ünï", "", "../up"]
    pool = PromptPool(np.arange(40), names * 10)
    mixture = MoDoMoDo(pool, weights=dict(zip(names, [5.0, 3.0, 2.0, 1.0], strict=True)))
    played(mixture, [3, 3])
    again = MoDoMoDo(pool, weights=mixture.weights)
    again.load_state_dict(mixture.state_dict())
    assert played(again, [3] * 4) == played(mixture, [3] * 4)


def test_outcomes_change_nothing() -> None:
    mixture = MoDoMoDo(arms_pool(a=10, b=10))
    before = mixture.arm_weights
    mixture.tell(Rollouts([100] * 4, [1.0, 0.0, 1.0, 1.0]))
    mixture.advance()
    assert mixture.arm_weights == before


ALIKE = "the weights make one arm come first"
CASES = [
    Case(MoDoMoDo),
    Case(MoDoMoDo, {"quota": "multinomial"}),
    Case(MoDoMoDo, {"exhausted": "renormalise"}),
    Case(
        MoDoMoDo,
        {"weights": {"arm 0": 0.5, "arm 1": 0.2, "arm 3": 0.3}},
        expected_failures={"ties_broken_by_the_generator": ALIKE},
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_contract(case: Case) -> None:
    assert [result for result in run_checks(case) if not result.ok] == []
