"""``eva``: the mix, the phases, the buffer, who is worth evolving; the contract with and without children."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from curri import PromptPool, Rollouts
from curri.curricula.eva import Eva
from curri.errors import InvalidParameter, PoolExhausted
from curri.testing import Case, parametrize

if TYPE_CHECKING:
    from collections.abc import Callable

    from curri.types import Bools

GOLDEN = {
    case["name"]: case
    for case in json.loads((Path(__file__).parents[1] / "golden" / "eva.json").read_text(encoding="utf-8"))["cases"]
}
SIGMAS = 4.5


class HalfEvolved(Eva):
    """Takes every second prompt for a child, so that pools without generations have some."""

    def _is_child(self) -> Bools:
        return self.pool.ids % 2 == 0


ONLINE = {"schedule": "online", "warmup": 1, "mixup": 2}


@parametrize(
    [
        Case(HalfEvolved),
        Case(HalfEvolved, ONLINE),
        Case(HalfEvolved, {**ONLINE, "draw": "successive", "capacity": 4, "informativeness": "var"}),
    ]
)
def test_contract(check: Callable[[], None]) -> None:
    check()


def family(originals: int, children: int, arms: list[str] | None = None) -> PromptPool:
    """Originals with ids from 0, then children."""
    return PromptPool(range(originals + children), arms, generation=[0] * originals + [1] * children)


def tell(eva: Eva, groups: dict[int, list[float]]) -> None:
    ids = [prompt for prompt, rewards in groups.items() for _ in rewards]
    eva.tell(Rollouts(ids, [reward for rewards in groups.values() for reward in rewards]))
    eva.advance()


def graded(solved: int) -> list[float]:
    """A group of 8 whose A*_avg is 1 - solved / 8."""
    return [1.0] * solved + [0.0] * (8 - solved)


def value(eva: Eva, name: str) -> float:
    return eva.metrics()[f"curriculum/eva/{name}"]


# ---- the mix --------------------------------------------------------------------------------------------------------


def test_evolve_and_mix_counts() -> None:
    inputs, wanted = GOLDEN["evolve_and_mix_counts"]["inputs"], GOLDEN["evolve_and_mix_counts"]["expected"]
    n = inputs["N"]
    eva = Eva(family(n, wanted["evolved_prompts"]), children_share=inputs["ratio_evolved"])
    ids = eva.ask(wanted["train_size"]).prompt_ids
    assert int(np.sum(ids < n)) == wanted["base_kept"]
    assert int(np.sum(ids >= n)) == wanted["evolved_kept"]
    # The informative subset times the rewrites of each is the evolved set.
    eva.tell(Rollouts(np.repeat(np.arange(n), 2), np.random.default_rng(0).random(2 * n)))
    eva.advance()
    parents = eva.parents()
    assert parents.size == wanted["informative_subset"]
    assert parents.size * inputs["num_evolutions"] == wanted["evolved_prompts"]


@pytest.mark.parametrize("n", [1, 3, 7, 10])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_the_mix_is_exact_over_batches_of_any_size(n: int, share: float) -> None:
    eva = Eva(family(60, 60), children_share=share)
    children = 0
    for batch in range(1, 101):
        children += int(np.sum(eva.ask(n).prompt_ids >= 60))
        assert abs(children - share * n * batch) <= 0.5 + 1e-9
    assert value(eva, "children_share_so_far") == pytest.approx(children / (100 * n))


def test_the_mix_is_exact_in_every_arm_of_a_quota() -> None:
    eva = Eva(family(20, 20, ["a", "b"] * 20), children_share=0.5)
    children = {"a": 0, "b": 0}
    for _ in range(40):
        selection = eva.ask(2, quota={"a": 1, "b": 1})
        for arm in children:
            children[arm] += int(np.sum((selection.prompt_ids >= 20) & (selection.arms == arm)))
    assert children == {"a": 20, "b": 20}


def test_without_children_originals_come_and_nothing_is_counted_as_a_fallback() -> None:
    eva = Eva(PromptPool(range(10)))
    assert eva.ask(10).probability.tolist() == [1.0] * 10
    assert not [name for name in eva.metrics() if "fallback" in name]
    assert value(eva, "children_share") == 0.0


def test_without_originals_children_come_and_nothing_is_counted_as_a_fallback() -> None:
    eva = Eva(family(0, 10))
    assert eva.ask(10).prompt_ids.size == 10
    assert not [name for name in eva.metrics() if "fallback" in name]


def test_too_few_children_are_filled_up_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    eva = Eva(family(20, 3))
    with caplog.at_level(logging.WARNING, logger="curri"):
        for _ in range(2):
            assert int(np.sum(eva.ask(10).prompt_ids >= 20)) == 3
    assert value(eva, "fallback/few_children") == 2
    assert caplog.text.count("children_share") == 1


def test_too_few_originals_are_filled_up_and_counted() -> None:
    eva = Eva(family(2, 20), children_share=0.5)
    assert int(np.sum(eva.ask(10).prompt_ids >= 2)) == 8
    assert value(eva, "fallback/few_originals") == 1


def test_children_that_were_missing_are_not_made_up_for_later() -> None:
    eva = Eva(family(50, 2))
    eva.ask(10)
    eva.extend(eva.pool.extended(range(100, 150), generation=[1] * 50))
    eva.advance()
    assert int(np.sum(eva.ask(10).prompt_ids >= 50)) == 8


def test_children_that_join_come_at_the_next_round() -> None:
    eva = Eva(PromptPool(range(20)))
    eva.ask(10)
    eva.extend(eva.pool.extended(range(100, 120), generation=np.ones(20, dtype=int)))
    assert (eva.ask(10).prompt_ids < 100).all()
    eva.advance()
    assert int(np.sum(eva.ask(10).prompt_ids >= 100)) == 8


def test_retired_children_do_not_come() -> None:
    pool = family(20, 20)
    eva = Eva(pool.retired(range(20, 30)))
    assert not np.isin(eva.ask(20).prompt_ids, np.arange(20, 30)).any()
    assert eva.explain(20)["part"] == "retired"


def test_every_child_is_as_likely_as_the_probability_says() -> None:
    eva = Eva(family(6, 9), children_share=0.6)
    hits = np.zeros(15)
    for _ in range(2000):
        selection = eva.ask(5)
        expected = np.where(selection.prompt_ids < 6, 2 / 6, 3 / 9)
        assert selection.probability == pytest.approx(expected)
        hits[selection.prompt_ids] += 1
    for rows, p in ((slice(0, 6), 2 / 6), (slice(6, 15), 3 / 9)):
        assert np.abs(hits[rows] - 2000 * p).max() < SIGMAS * np.sqrt(2000 * p * (1 - p))


# ---- the online schedule --------------------------------------------------------------------------------------------


def test_phases() -> None:
    eva = Eva(family(200, 200), schedule="online", warmup=3, mixup=4)
    shares, phases = [], []
    for _ in range(9):
        shares.append(int(np.sum(eva.ask(100).prompt_ids >= 200)) / 100)
        phases.append((eva.phase, value(eva, "phase")))
        eva.advance()
    assert shares == [0.0, 0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
    assert phases == [("warm-up", 0.0)] * 3 + [("mix-up", 1.0)] * 3 + [("bootstrap", 2.0)] * 3


def test_warm_up_lasts_until_there_are_children() -> None:
    eva = Eva(PromptPool(range(200)), schedule="online", warmup=2, mixup=4)
    for _ in range(6):
        eva.advance()
    assert eva.phase == "warm-up"
    eva.extend(eva.pool.extended(range(1000, 1200), generation=[1] * 200))
    eva.advance()
    assert eva.phase == "mix-up"
    assert eva.share == pytest.approx(0.2)


def test_offline_has_its_full_share_at_once() -> None:
    eva = Eva(family(10, 10))
    assert (eva.phase, eva.share) == ("bootstrap", 0.8)


def bootstrap(**parameters: Any) -> Eva:
    """40 children without originals, so that a batch is drawn from the buffer alone."""
    eva = Eva(family(0, 40), schedule="online", warmup=1, mixup=1, **parameters)
    tell(eva, {row: graded(row % 8) for row in range(40)})
    return eva


def test_children_are_drawn_by_informativeness() -> None:
    eva = bootstrap(floor=0.1)
    weight = np.array([0.0, *(1 - k / 8 for k in range(1, 8))])[np.arange(40) % 8] + 0.1
    selection = eva.ask(4)
    assert selection.probability == pytest.approx(4 * weight[selection.prompt_ids] / weight.sum())
    hits = np.zeros(40)
    for _ in range(1500):
        hits[eva.ask(4).prompt_ids] += 1
    p = 4 * weight / weight.sum()
    assert (np.abs(hits - 1500 * p) < SIGMAS * np.sqrt(1500 * p * (1 - p))).all()


def test_successive_draws_claim_no_probability() -> None:
    assert np.isnan(bootstrap(draw="successive").ask(4).probability).all()


def test_the_last_group_counts() -> None:
    eva = bootstrap()
    assert eva.explain(1)["info"] == pytest.approx(7 / 8)
    tell(eva, {1: graded(4)})
    assert eva.explain(1)["info"] == pytest.approx(0.5)
    assert eva.explain(1)["told_in_round"] == 1


def test_a_group_of_one_leaves_what_was_known() -> None:
    eva = bootstrap()
    tell(eva, {1: [0.0]})
    assert eva.explain(1)["info"] == pytest.approx(7 / 8)
    fresh = Eva(PromptPool(range(3)))
    tell(fresh, {1: [1.0]})
    assert fresh.explain(1)["info"] is None


def test_rewards_equal_but_for_rounding_say_nothing() -> None:
    eva = Eva(PromptPool(range(3)))
    tell(eva, {1: [0.1 + 0.2, 0.3, 0.3]})
    assert eva.explain(1)["info"] == 0.0


def test_probes_count() -> None:
    eva = Eva(PromptPool(range(3)))
    eva.tell(Rollouts([1, 1], [1.0, 0.0], kind="probe"))
    eva.advance()
    assert eva.explain(1)["info"] == 0.5


def test_new_children_count_as_the_mean_parent_does() -> None:
    eva = Eva(PromptPool(range(4)), schedule="online", warmup=1, mixup=1)
    tell(eva, {0: graded(2), 1: graded(4), 2: graded(0), 3: graded(8)})
    eva.extend(eva.pool.extended([10, 11], generation=[1, 1]))
    eva.advance()
    expected = (0.75**2 + 0.5**2) / (0.75 + 0.5)
    assert eva.explain(10)["info"] == pytest.approx(expected)
    assert eva.explain(10)["told_in_round"] is None
    assert eva.explain(10)["weight"] == pytest.approx(0.5)


def test_no_child_is_lost_for_good() -> None:
    """A child whose group was all wrong keeps the floor, and comes again."""
    eva = Eva(family(0, 4), schedule="online", warmup=1, mixup=1, floor=0.05)
    tell(eva, {0: graded(0), 1: graded(4), 2: graded(4), 3: graded(4)})
    assert any(0 in eva.ask(1).prompt_ids for _ in range(300))


@pytest.mark.parametrize("eviction", ["lowest", "oldest"])
def test_capacity_decides_who_takes_part(eviction: str) -> None:
    eva = Eva(family(10, 20), schedule="online", warmup=1, mixup=1, capacity=5, eviction=eviction)
    tell(eva, {10 + place: graded(8 - place % 8) for place in range(20)})
    info = np.array([0.0 if place % 8 == 0 else (place % 8) / 8 for place in range(20)])
    stay = np.sort(np.lexsort((np.arange(20), info))[-5:] + 10) if eviction == "lowest" else np.arange(25, 30)
    assert value(eva, "children_in_buffer") == 5
    for _ in range(20):
        picked = eva.ask(5).prompt_ids
        assert np.isin(picked[picked >= 10], stay).all()
    assert {prompt for prompt in range(10, 30) if eva.explain(prompt)["part"] == "child"} == set(stay.tolist())


def test_capacity_follows_what_is_told() -> None:
    eva = Eva(family(10, 3), schedule="online", warmup=1, mixup=1, capacity=1)
    tell(eva, {10: graded(2), 11: graded(4), 12: graded(6)})
    assert eva.explain(10)["part"] == "child"
    tell(eva, {10: graded(8)})
    assert [eva.explain(prompt)["part"] for prompt in (10, 11, 12)] == ["evicted child", "child", "evicted child"]
    again = Eva(eva.pool, schedule="online", warmup=1, mixup=1, capacity=1)
    again.load_state_dict(eva.state_dict())
    assert [again.explain(prompt) for prompt in range(13)] == [eva.explain(prompt) for prompt in range(13)]


def test_evicted_children_come_only_when_nothing_else_is_left() -> None:
    eva = Eva(family(4, 6), schedule="online", warmup=1, mixup=1, capacity=2)
    tell(eva, {4 + place: graded(2 + place) for place in range(6)})
    assert set(eva.ask(6).prompt_ids.tolist()) == {0, 1, 2, 3, 4, 5}
    assert "curriculum/eva/fallback/evicted_children" not in eva.metrics()
    assert eva.ask(10).prompt_ids.size == 10
    assert value(eva, "fallback/evicted_children") == 1


# ---- what a composed strategy sees ----------------------------------------------------------------------------------


def mass(eva: Eva, exclude: list[int] | None = None) -> dict[str, float]:
    request = eva._checked_request(1, "train", exclude, None)
    return dict(zip(eva.pool.arm_names, (part := eva._arm_mass(request)) / part.sum(), strict=True))


def test_arm_mass_is_what_a_batch_would_take_of_each_arm() -> None:
    arms = ["a"] * 6 + ["b"] * 4 + ["b"] * 5 + ["c"] * 15
    eva = Eva(family(10, 20, arms))
    assert mass(eva) == pytest.approx({"a": 0.2 * 0.6, "b": 0.2 * 0.4 + 0.8 * 0.25, "c": 0.8 * 0.75})
    assert mass(eva, [0, 1]) == pytest.approx({"a": 0.2 * 0.5, "b": 0.2 * 0.5 + 0.8 * 0.25, "c": 0.8 * 0.75})
    assert mass(eva, list(range(10))) == pytest.approx({"a": 0.0, "b": 0.25, "c": 0.75})
    assert mass(eva, list(range(10, 30))) == pytest.approx({"a": 0.6, "b": 0.4, "c": 0.0})


def test_arm_mass_of_the_buffer_goes_by_weight() -> None:
    eva = Eva(family(0, 4, ["a", "a", "b", "b"]), schedule="online", warmup=1, mixup=1, floor=0.125)
    tell(eva, {0: graded(1), 1: graded(1), 2: graded(8), 3: graded(5)})
    assert mass(eva) == pytest.approx({"a": 2 / 2.625, "b": 0.625 / 2.625})
    assert mass(eva, [0]) == pytest.approx({"a": 1 / 1.625, "b": 0.625 / 1.625})
    warm = Eva(family(4, 4, ["a"] * 4 + ["b"] * 4), schedule="online")
    assert mass(warm) == {"a": 1.0, "b": 0.0}


# ---- what to evolve -------------------------------------------------------------------------------------------------


def told(n: int, **parameters: Any) -> Eva:
    eva = Eva(PromptPool(range(n), [f"arm {row % 2}" for row in range(n)]), **parameters)
    tell(eva, {row: [0.0, 0.0, 0.0, (row + 1) / n] for row in range(n)})
    return eva


def test_subset_size_floor() -> None:
    case = GOLDEN["subset_size_floor"]
    sizes = zip(case["inputs"]["N"], case["expected"]["k"], strict=True)
    for n, k in sizes:
        assert told(n, parent_share=case["inputs"]["frac"]).parents().size == k


def test_parents_ask_the_same_get_the_same_and_move_nothing() -> None:
    eva = told(40)
    before = json.dumps(eva.state_dict(), default=str)
    parents = eva.parents(12)
    assert parents.tolist() == eva.parents(12).tolist()
    assert parents[:5].tolist() == eva.parents(5).tolist()
    assert parents.tolist() != eva.parents(12, seed=1).tolist()
    assert json.dumps(eva.state_dict(), default=str) == before
    twin = told(40)
    assert twin.parents(12).tolist() == parents.tolist()
    assert eva.ask(8).prompt_ids.tolist() == twin.ask(8).prompt_ids.tolist()
    eva.advance()
    assert eva.parents(12).tolist() != parents.tolist()


def test_parents_survive_a_resume() -> None:
    eva = told(40)
    again = Eva(eva.pool)
    again.load_state_dict(eva.state_dict())
    assert again.parents().tolist() == eva.parents().tolist()


def test_parents_are_drawn_by_minmax_weights() -> None:
    eva = told(6, informativeness="min")
    weights = np.arange(6) / 15
    hits = np.zeros(6)
    for seed in range(3000):
        hits[eva.parents(1, seed)] += 1
    assert (np.abs(hits - 3000 * weights) <= SIGMAS * np.sqrt(3000 * weights * (1 - weights))).all()
    assert eva.explain(3)["weight_as_parent"] == pytest.approx(3 / 15)


def test_parents_by_plain_proportion() -> None:
    eva = told(4, informativeness="min", weighting="proportional")
    assert [eva.explain(row)["weight_as_parent"] for row in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_parents_by_topic() -> None:
    eva = Eva(PromptPool(range(4), ["a", "a", "a", "b"]), topic_share=0.25, informativeness="min")
    tell(eva, {row: [0.0, 0.25 * row + 0.1] for row in range(4)})
    got = [eva.explain(row)["weight_as_parent"] for row in range(4)]
    assert got == pytest.approx([0.125 / 3, 0.75 / 6 + 0.125 / 3, 0.75 / 3 + 0.125 / 3, 0.75 / 2 + 0.125])


def test_greedy_parents_are_the_most_informative() -> None:
    assert told(20, sampler="greedy").parents(5).tolist() == [19, 18, 17, 16, 15]


def test_parents_among_some() -> None:
    eva = told(20, sampler="greedy")
    assert eva.parents(3, among=[2, 9, 4, 1000]).tolist() == [9, 4, 2]
    assert eva.parents(among=range(8)).tolist() == [7, 6]  # a quarter of those in question
    assert eva.parents(among=[]).size == 0
    with pytest.raises(PoolExhausted, match="asked for 4 parents; 3 of"):
        eva.parents(4, among=[2, 9, 4])
    with pytest.raises(InvalidParameter, match="`among`"):
        eva.parents(1, among=["x"])


def test_greedy_ties_fall_at_random() -> None:
    eva = Eva(PromptPool(range(50)), sampler="greedy")
    tell(eva, {row: [0.0, 1.0] for row in range(50)})
    assert len({tuple(eva.parents(3, seed).tolist()) for seed in range(20)}) > 10


@pytest.mark.parametrize(("n", "each"), [(10, [1] * 10), (23, [3] * 3 + [2] * 7), (40, [4] * 10)])
def test_stratified_parents_come_from_every_decile(n: int, each: list[int]) -> None:
    eva = told(40, sampler="stratified")
    parents = eva.parents(n)
    assert len(set(parents.tolist())) == n
    assert np.bincount(9 - parents // 4, minlength=10).tolist() == each


def test_stratified_parents_of_a_few_prompts() -> None:
    eva = told(7, sampler="stratified")
    assert sorted(eva.parents(7).tolist()) == list(range(7))
    assert eva.parents(0).size == 0


def test_equal_information_draws_uniformly_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    eva = Eva(PromptPool(range(8)))
    tell(eva, {row: graded(4) for row in range(8)})
    hits = np.zeros(8)
    with caplog.at_level(logging.WARNING, logger="curri"):
        for seed in range(800):
            hits[eva.parents(2, seed)] += 1
    assert np.abs(hits - 200).max() < SIGMAS * np.sqrt(800 * 0.25 * 0.75)
    assert value(eva, "fallback/uniform_parents") == 800
    assert caplog.text.count("equally informative") == 1


def test_parents_need_a_told_group() -> None:
    eva = Eva(PromptPool(range(8)))
    assert eva.parents().size == 0
    with pytest.raises(PoolExhausted, match="asked for 1 parents; 0 of 8"):
        eva.parents(1)
    tell(eva, {3: graded(2), 5: graded(2)})
    assert set(eva.parents(2).tolist()) == {3, 5}


def test_retired_prompts_are_no_parents() -> None:
    eva = told(8)
    eva.extend(eva.pool.retired([7, 6]))
    eva.advance()
    assert not np.isin(eva.parents(6), [6, 7]).any()


@pytest.mark.parametrize(("n", "seed"), [(-1, None), (1.5, None), (True, None), (1, -1), (1, 0.5)])
def test_wrong_requests_for_parents_are_refused(n: Any, seed: Any) -> None:
    with pytest.raises(InvalidParameter, match="of `parents` must be an int"):
        told(8).parents(n, seed)


@pytest.mark.parametrize(
    ("kind", "best"),
    [("min", {1, 2, 3, 4, 5, 6, 7}), ("avg", {1}), ("dts", {1}), ("var", {4})],
)
def test_what_binary_rewards_make_most_informative(kind: str, best: set[int]) -> None:
    """Prompt k has k of 8 solved; A*_min cannot tell mixed groups apart, the others can."""
    eva = Eva(PromptPool(range(9)), informativeness=kind)
    tell(eva, {k: graded(k) for k in range(9)})
    info = [eva.explain(k)["info"] for k in range(9)]
    assert {k for k in range(9) if info[k] == max(info)} == best
    assert info[0] == info[8] == 0.0


@pytest.mark.parametrize("kind", ["min", "avg", "dts", "var"])
def test_rewards_of_any_size_work(kind: str) -> None:
    eva = Eva(family(3, 3), schedule="online", warmup=1, mixup=1, informativeness=kind)
    tell(eva, {0: [-1e150, 1e150], 3: [-1e150, 1e150], 4: [1e-200, 0.0], 5: [5.0, 5.0]})
    assert eva.ask(6).prompt_ids.size == 6
    assert eva.parents(2).size == 2
    assert all(np.isfinite(metric) for metric in eva.metrics().values())


def test_metrics_say_how_informative_the_pool_is() -> None:
    eva = told(4, informativeness="min")
    assert value(eva, "prompts_told") == 4
    assert value(eva, "mean_info") == pytest.approx(0.625)
    tell(eva, {0: [1.0, 1.0]})
    assert value(eva, "informative_share") == 0.75
