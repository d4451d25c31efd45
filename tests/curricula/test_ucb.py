"""UCB over arms: DUMP's own numbers, its switches, and what the reference does not handle."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curri import PromptPool, Rollouts
from curri.curricula import UCB
from curri.errors import InvalidRollouts, PoolExhausted

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "dump.json").read_text())


def arms_pool(**sizes: int) -> PromptPool:
    names = [name for name, size in sizes.items() for _ in range(size)]
    return PromptPool(100 + np.arange(len(names)), names)


def ids_of(pool: PromptPool, arm: str) -> np.ndarray:
    return pool.ids[pool.active_rows(pool.arm_code(arm))]


def learn(ucb: UCB, advantages: dict[str, Any], rewards: dict[str, Any] | None = None) -> None:
    """One round: these advantages for the first prompt of each arm."""
    for arm, values in advantages.items():
        ids = np.repeat(ids_of(ucb.pool, arm)[:1], len(values))
        ucb.tell(Rollouts(ids, np.zeros(len(values)) if rewards is None else rewards[arm], advantages=values))
    ucb.advance()


def known(ucb: UCB, arm: str) -> dict[str, Any]:
    return ucb.explain(int(ids_of(ucb.pool, arm)[0]))


# ---- DUMP's reference ------------------------------------------------------------------------------------------------


def test_golden_trace() -> None:
    trace = GOLDEN["trace"]
    ucb = UCB(arms_pool(**dict.fromkeys(trace["arms"], 2)))
    for step in trace["steps"]:
        if step["step"]:
            in_pool = {arm: values for arm, values in step["advantages"].items() if arm in trace["arms"]}
            learn(ucb, in_pool, step["rewards"])
        assert ucb.arm_weights == pytest.approx(step["expected_weights"], rel=1e-9)
        for arm in step.get("expected_n", {}):
            assert known(ucb, arm)["arm_count"] == step["expected_n"][arm]
            assert known(ucb, arm)["arm_mean_abs_advantage"] == pytest.approx(
                step["expected_mean_abs_adv"][arm], rel=1e-9
            )


@pytest.mark.parametrize("case", GOLDEN["ucb_softmax_weights"]["cases"], ids=lambda case: case["name"])
def test_golden_weights(case: dict[str, Any]) -> None:
    ucb = UCB(arms_pool(**dict.fromkeys(case["state"], 1)))
    learn(ucb, {arm: [seen["mean_abs_adv"]] * seen["n"] for arm, seen in case["state"].items() if seen["n"]})
    assert ucb.arm_weights == pytest.approx(case["expected_weights"], rel=1e-9)


@pytest.mark.parametrize("case", GOLDEN["estimator_update"]["cases"], ids=lambda case: case["name"][:20])
def test_golden_windows(case: dict[str, Any]) -> None:
    batches = [batch["advantages"] for batch in case.get("batches", [])]
    if "batches_rule" in case:
        batches = [[0.1 * t] * 100 for t in range(1, 6)]
    ucb = UCB(arms_pool(a=1))
    for batch in batches:
        learn(ucb, {"a": batch})
    assert known(ucb, "a")["arm_mean_abs_advantage"] == pytest.approx(case["expected"]["mu"], rel=1e-9)
    assert known(ucb, "a")["arm_count"] == case["expected"]["n_samples"]


@pytest.mark.parametrize("case", GOLDEN["grpo_advantage_fed_to_dump"]["cases"], ids=lambda case: case["name"])
def test_golden_advantages_from_rewards(case: dict[str, Any]) -> None:
    ucb = UCB(arms_pool(a=len(case["groups"])))
    ids = dict(zip(case["groups"], ucb.pool.ids.tolist(), strict=True))
    place = {name: iter(rewards) for name, rewards in case["groups"].items()}
    ucb.tell(Rollouts([ids[name] for name in case["order"]], [next(place[name]) for name in case["order"]]))
    ucb.advance()
    assert known(ucb, "a")["arm_mean_abs_advantage"] == pytest.approx(case["mean_abs"], rel=1e-5)


# ---- switches --------------------------------------------------------------------------------------------------------


def test_count_unit_counts_responses_or_prompts() -> None:
    for unit, counts in (("responses", [8, 12]), ("prompts", [2, 3])):
        ucb = UCB(arms_pool(a=3, b=3), count_unit=unit)
        first, second = ids_of(ucb.pool, "a")[:2]
        ucb.tell(Rollouts([first] * 4 + [second] * 4, [1, 0] * 4))
        ucb.advance()
        assert known(ucb, "a")["arm_count"] == counts[0]
        ucb.tell(Rollouts([first] * 4, [1, 0] * 2))
        ucb.advance()
        assert known(ucb, "a")["arm_count"] == counts[1]
        assert known(ucb, "b")["arm_count"] == 0


def test_window_looks_back_on_the_last_responses() -> None:
    ucb = UCB(arms_pool(a=1, b=1), window=4)
    learn(ucb, {"a": [2.0] * 10})
    learn(ucb, {"a": [0.0, 1.0]})
    assert known(ucb, "a")["arm_mean_abs_advantage"] == pytest.approx((2 + 2 + 0 + 1) / 4)
    assert known(ucb, "a")["arm_count"] == 12


def test_temperature_and_exploration() -> None:
    def weights(**parameters: float) -> np.ndarray:
        ucb = UCB(arms_pool(a=1, b=1), **parameters)  # type: ignore[arg-type]  # floats only
        learn(ucb, {"a": [0.5] * 40, "b": [0.3] * 10})
        return np.array(list(ucb.arm_weights.values()))

    bonus = np.sqrt(2 * np.log(51) / (np.array([40, 10]) + 1))
    for temperature, exploration in itertools.product((0.05, 0.1, 3.0), (0.0, 1.0, 2.5)):
        score = np.exp((np.array([0.5, 0.3]) + exploration * bonus) / temperature)
        got = weights(temperature=temperature, exploration=exploration)
        assert got == pytest.approx(score / score.sum(), rel=1e-9)


def test_normalize_std_off_follows_the_scale_of_rewards() -> None:
    for normalize, scale in itertools.product((True, False), (1.0, 10.0)):
        ucb = UCB(arms_pool(a=1), normalize_std=normalize)
        ucb.tell(Rollouts([100] * 4, np.array([1, 0, 1, 0]) * scale))
        ucb.advance()
        wanted = np.sqrt(3) / 2 if normalize else 0.5 * scale
        assert known(ucb, "a")["arm_mean_abs_advantage"] == pytest.approx(wanted, rel=1e-4)


# ---- the three draws -------------------------------------------------------------------------------------------------


def taught(draw: str, **sizes: int) -> UCB:
    """Arms with weights that are neither equal nor extreme."""
    ucb = UCB(arms_pool(**sizes), draw=draw, temperature=0.5, group_size=4)
    learn(ucb, {arm: [0.2 + 0.3 * i] * 64 for i, arm in enumerate(sizes)})
    return ucb


def counts_of(ucb: UCB, n: int, draws: int, **request: Any) -> np.ndarray:
    rows = []
    for _ in range(draws):
        selection = ucb.ask(n, **request)
        codes = ucb.pool.arms[ucb.pool.rows(selection.prompt_ids)]
        rows.append(np.bincount(codes, selection.n_rollouts / ucb.group_size, len(ucb.pool.arm_names)))
    return np.array(rows)


def test_systematic_counts_are_within_one_of_their_expectation() -> None:
    ucb = taught("systematic", a=40, b=40, c=40)
    expected = 17 * np.array(list(ucb.arm_weights.values()))
    counts = counts_of(ucb, 17, 400)
    assert np.all(np.abs(counts - expected) < 1)
    assert counts.mean(axis=0) == pytest.approx(expected, abs=0.12)


def test_successive_counts_are_multinomial_while_no_arm_runs_out() -> None:
    ucb = taught("successive", a=40, b=40, c=40)
    weights = np.array(list(ucb.arm_weights.values()))
    counts = counts_of(ucb, 17, 1500)
    spread = np.sqrt(17 * weights * (1 - weights))
    assert counts.mean(axis=0) == pytest.approx(17 * weights, abs=5 * spread.max() / np.sqrt(1500))
    assert counts.std(axis=0) == pytest.approx(spread, rel=0.1)
    assert np.all(ucb.ask(17).n_rollouts == 4)


def test_replacement_gives_a_prompt_drawn_twice_two_groups() -> None:
    ucb = taught("replacement", a=3, b=40, c=5)
    repeated = 0
    for _ in range(50):
        selection = ucb.ask(17)
        assert selection.n_rollouts.sum() == 17 * 4
        assert np.all(selection.n_rollouts % 4 == 0)
        assert np.unique(selection.prompt_ids).size == len(selection)
        repeated += int((selection.n_rollouts > 4).sum())
    assert repeated > 50
    weights = np.array(list(ucb.arm_weights.values()))
    assert counts_of(ucb, 17, 1500).mean(axis=0) == pytest.approx(17 * weights, abs=0.3)


def test_replacement_of_the_only_prompt() -> None:
    selection = UCB(arms_pool(a=1), draw="replacement", group_size=2).ask(1)
    assert (selection.n_rollouts.tolist(), selection.probability.tolist()) == ([2], [1.0])


@pytest.mark.parametrize("draw", ["systematic", "successive"])
def test_an_arm_that_runs_out_gives_all_it_has(draw: str) -> None:
    ucb = UCB(arms_pool(small=3, large=50, other=50), draw=draw)
    learn(ucb, {"small": [9.0] * 100, "large": [5.0] * 100, "other": [0.0] * 100})
    for _ in range(20):
        arms = ucb.ask(10).arms.tolist()
        assert arms.count("small") == 3
        assert arms.count("large") == 7
    assert len(ucb.ask(103)) == 103
    with pytest.raises(PoolExhausted):
        ucb.ask(104)


def test_an_arm_that_appears_late_takes_the_batch() -> None:
    ucb = UCB(arms_pool(a=50, b=50))
    for _ in range(3):
        learn(ucb, {"a": [0.5] * 64, "b": [0.5] * 64})
    ucb.extend(ucb.pool.extended(np.arange(1000, 1020), ["late"] * 20))
    assert "late" not in ucb.arm_weights
    ucb.advance()
    assert ucb.arm_weights["late"] > 0.999
    assert ucb.ask(10).arms.tolist().count("late") >= 9
    assert ucb.ask(40).arms.tolist().count("late") == 20
    assert ucb.metrics()["curriculum/ucb/arms_unseen"] == 1


def test_an_arm_without_prompts_has_no_weight_and_keeps_what_it_learned() -> None:
    ucb = UCB(arms_pool(a=2, b=5))
    learn(ucb, {"a": [3.0] * 50, "b": [0.1] * 50})
    full = ucb.pool
    ucb.extend(full.retired(ids_of(full, "a")))
    ucb.advance()
    assert list(ucb.arm_weights) == ["b"]
    assert ucb.ask(5).arms.tolist() == ["b"] * 5
    assert ucb.metrics()["curriculum/ucb/arms_empty"] == 1
    ucb.extend(full)
    ucb.advance()
    assert ucb.arm_weights["a"] > 0.99


def test_excluding_an_arm_renormalises_the_rest() -> None:
    ucb = taught("systematic", a=10, b=10, c=10)
    selection = ucb.ask(4, exclude=ids_of(ucb.pool, "c"))
    weights = ucb.arm_weights
    share = weights["b"] / (weights["a"] + weights["b"])
    assert selection.probability[selection.arms == "b"] == pytest.approx(4 * share / 10)


def test_quota_overrides_the_weights() -> None:
    ucb = taught("systematic", a=10, b=10, c=10)
    selection = ucb.ask(6, quota={"a": 5, "c": 1})
    assert sorted(selection.arms.tolist()) == ["a"] * 5 + ["c"]
    assert selection.probability[selection.arms == "a"] == pytest.approx(0.5)
    assert selection.probability[selection.arms == "c"] == pytest.approx(0.1)


# ---- what it learns from ---------------------------------------------------------------------------------------------


def test_infinite_advantages_are_refused() -> None:
    with pytest.raises(InvalidRollouts, match="of prompts 101"):
        Rollouts([100, 101], [1.0, 1.0], advantages=[0.5, np.inf])


def test_missing_advantages_are_computed_from_the_whole_group() -> None:
    ucb = UCB(arms_pool(a=2), normalize_std=False)
    ucb.tell(Rollouts([100] * 4, [1, 0, 0, 0], advantages=[np.nan, -3.0, -3.0, -3.0]))
    ucb.advance()
    assert known(ucb, "a")["arm_mean_abs_advantage"] == pytest.approx((0.75 + 3 + 3 + 3) / 4)


def test_rewards_alone_are_turned_into_group_advantages() -> None:
    ucb = UCB(arms_pool(a=2, b=1))
    ucb.tell(Rollouts([100] * 4 + [101] * 4, [1, 1, 0, 0, 1, 1, 1, 1]))
    ucb.advance()
    assert known(ucb, "a")["arm_mean_abs_advantage"] == pytest.approx(np.sqrt(3) / 4, rel=1e-5)


def test_all_zero_advantages_leave_only_the_bonus() -> None:
    ucb = UCB(arms_pool(a=1, b=1))
    learn(ucb, {"a": [0.0] * 32, "b": [0.0] * 32})
    assert ucb.arm_weights == pytest.approx({"a": 0.5, "b": 0.5})
    learn(ucb, {"a": [0.0] * 32})
    assert ucb.arm_weights["b"] > 0.5


def test_probes_teach_nothing() -> None:
    ucb = UCB(arms_pool(a=1, b=1))
    ucb.tell(Rollouts([100] * 4, [1, 0, 1, 0], kind="probe"))
    ucb.advance()
    assert known(ucb, "a")["arm_count"] == 0


def test_a_round_larger_than_the_window_does_not_favour_some_ids() -> None:
    ucb = UCB(arms_pool(a=100), window=10)
    high = (ucb.pool.ids >= 150).astype(np.float64)
    means = []
    for _ in range(80):
        ucb.tell(Rollouts(ucb.pool.ids, np.zeros(100), advantages=high))
        ucb.advance()
        means.append(known(ucb, "a")["arm_mean_abs_advantage"])
    assert np.mean(means) == pytest.approx(0.5, abs=0.08)
    assert len(set(means)) > 3


def test_the_window_does_not_depend_on_the_order_of_responses() -> None:
    states = []
    for order in (np.arange(100), np.arange(100)[::-1]):
        ucb = UCB(arms_pool(a=100), window=10)
        told = Rollouts(ucb.pool.ids, np.zeros(100), advantages=np.arange(100.0))
        ucb.tell(told.take(order))
        ucb.advance()
        states.append(ucb.state_dict()["own/a/values"].tolist())
    assert states[0] == states[1]


# ---- extremes --------------------------------------------------------------------------------------------------------


def test_one_arm_only() -> None:
    ucb = UCB(PromptPool(np.arange(10)))
    learn(ucb, {"default": [1.0, -1.0]})
    selection = ucb.ask(4)
    assert ucb.arm_weights == {"default": 1.0}
    assert selection.probability == pytest.approx(0.4)


def test_an_empty_pool() -> None:
    ucb = UCB(PromptPool([]))
    ucb.advance()
    assert ucb.arm_weights == {}
    assert ucb.metrics()["curriculum/ucb/arms"] == 0
    with pytest.raises(PoolExhausted, match="0 of 0"):
        ucb.ask(1)


@pytest.mark.parametrize("draw", ["systematic", "successive", "replacement"])
def test_two_hundred_arms(draw: str) -> None:
    pool = PromptPool(np.arange(2000), [f"arm {i % 200}" for i in range(2000)])
    ucb = UCB(pool, draw=draw)
    for _ in range(3):
        selection = ucb.ask(256)
        ids = np.repeat(selection.prompt_ids, 4)
        ucb.tell(Rollouts(ids, np.arange(ids.size) % 3 == 0))
        ucb.advance()
    assert len(ucb.arm_weights) == 200
    assert sum(ucb.arm_weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("draw", ["systematic", "successive", "replacement"])
def test_weights_that_underflow_still_fill_the_batch(draw: str) -> None:
    ucb = UCB(arms_pool(best=4, b=6, c=6), temperature=1e-6, exploration=0.0, draw=draw, group_size=1)
    learn(ucb, {"best": [1.0] * 8, "b": [0.5] * 8, "c": [0.5] * 8})
    assert ucb.arm_weights == {"b": 0.0, "best": 1.0, "c": 0.0}
    selection = ucb.ask(12)
    assert selection.n_rollouts.sum() == 12
    if draw == "replacement":
        assert set(selection.arms.tolist()) == {"best"}
    else:
        assert selection.arms.tolist().count("best") == 4
    assert np.all((selection.probability > 0) | np.isnan(selection.probability))


@pytest.mark.parametrize("temperature", [5e-324, 1e300])
def test_extreme_temperatures(temperature: float) -> None:
    ucb = UCB(arms_pool(a=3, b=3), temperature=temperature)
    learn(ucb, {"a": [1e150, -1e150], "b": [0.0]})
    assert len(ucb.ask(6)) == 6


# ---- state and talk --------------------------------------------------------------------------------------------------


def test_arm_names_of_any_kind_survive_a_resume() -> None:
    names = ["a/b", "values", "ünï", "x.npy", "", "../up", "own/count", "file"]
    pool = PromptPool(np.arange(len(names)), names)
    ucb = UCB(pool)
    ucb.tell(Rollouts(np.repeat(pool.ids, 2), np.zeros(16), advantages=np.arange(16.0)))
    ucb.advance()
    again = UCB(pool)
    again.load_state_dict(ucb.state_dict())
    assert again.arm_weights == ucb.arm_weights


def test_explain_adds_up() -> None:
    ucb = taught("systematic", a=10, b=20)
    said = known(ucb, "b")
    assert said["arm_score"] == pytest.approx(said["arm_mean_abs_advantage"] + said["arm_bonus"])
    assert said["arm_weight"] == ucb.arm_weights["b"]
    assert said["arm_prompts"] == 20
    assert said["share_of_a_batch"] == pytest.approx(said["arm_weight"] / 20)
    ucb.extend(ucb.pool.retired([100]))
    ucb.advance()
    assert known(ucb, "a")["arm_prompts"] == 9
    assert ucb.explain(100)["share_of_a_batch"] == 0.0


def test_metrics_name_every_arm() -> None:
    ucb = taught("systematic", a=10, b=20)
    metrics = ucb.metrics()
    for arm, weight in ucb.arm_weights.items():
        assert metrics[f"curriculum/ucb/weight/{arm}"] == weight
        assert metrics[f"curriculum/ucb/learnability/{arm}"] == known(ucb, arm)["arm_mean_abs_advantage"]
    assert metrics["curriculum/ucb/arms"] == 2
    assert metrics["curriculum/ucb/arms_unseen"] == 0
