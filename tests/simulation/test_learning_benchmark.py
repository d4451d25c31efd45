"""``benchmarks/learning``: problems that grow, the bound, the filter by rollouts, prompts that join, and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

import curri
from benchmarks.learning import settings
from benchmarks.learning.growth import Growth, as_new
from benchmarks.learning.page import findings
from benchmarks.learning.results import rows, updated
from benchmarks.learning.strategies import OWN, WORTHS, KnownRates, RolloutFilter
from benchmarks.learning.tasks import drawn, longer
from curri.registry import strategy

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from curri.types import Floats, Ints

ARMS = {"reversed-3": 8, "next-3": 8, "brackets-4": 8}


class Rates:
    """A meter with made-up pass rates, that notes what it was asked."""

    def __init__(self, rates: dict[int, float]) -> None:
        self.rates, self.asked = rates, list[tuple[int, int]]()

    def exact(self, prompt_ids: Ints) -> Floats:
        return np.array([self.rates[each] for each in prompt_ids.tolist()])

    def sampled(self, prompt_ids: Ints, each: int) -> Floats:
        self.asked.append((len(prompt_ids), each))
        return self.exact(prompt_ids)


# ---- problems --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "arm", "answer_of"),
    [
        ("r:123=", "reversed-3", lambda text: text[::-1]),
        ("s:312=", "ascending-3", lambda text: "".join(sorted(text))),
        ("m:12=", "largest-2", max),
        ("d:09=", "complement-2", lambda text: "".join(str(9 - int(c)) for c in text)),
        ("7-3=", "sum-2", lambda text: str(eval(text))),  # noqa: S307  digits and signs
    ],
)
def test_a_longer_problem_keeps_the_old_one_and_has_a_right_answer(prompt: str, arm: str, answer_of: Any) -> None:
    for seed in range(20):
        made = longer(prompt, arm, np.random.default_rng(seed))
        text = made.prompt.rpartition(":")[2].removesuffix("=")
        assert made.prompt.startswith(prompt[:-1])
        assert len(made.prompt) > len(prompt)
        assert made.arm == f"{arm[:-1]}{int(arm[-1]) + 1}"
        assert made.answer == answer_of(text)


def test_a_longer_problem_of_brackets_closes_what_is_open() -> None:
    made = longer("b:([]<=", "brackets-4", np.random.default_rng(0))
    opened = made.prompt[-2]
    assert made.answer == {"(": ")", "[": "]", "<": ">"}[opened] + ">)"


# ---- the bound and the filter ----------------------------------------------------------------------------------------


def test_known_rates_draw_what_may_be_live() -> None:
    known = KnownRates(curri.PromptPool(range(40)), seed=0)
    known.use(Rates({i: 0.5 if i % 4 == 0 else float(i % 2) for i in range(40)}))
    assert sorted(known.ask(10).prompt_ids.tolist()) == list(range(0, 40, 4))


def test_headroom_prefers_the_hard_and_evened_arms_count_by_the_root_of_their_worth() -> None:
    live, headroom = WORTHS["live"], WORTHS["headroom"]
    rates = np.array([0.2, 0.8])
    assert live(rates, 8)[0] == pytest.approx(live(rates, 8)[1])
    assert headroom(rates, 8)[0] == pytest.approx(4 * headroom(rates, 8)[1])
    pool = curri.PromptPool(range(200), ["rich"] * 100 + ["poor"] * 100)
    of_rich = []
    for evened in (False, True):
        known = KnownRates(pool, seed=0, worth="headroom", evened=evened)
        known.use(Rates({i: 0.5 if i < 100 else 0.01 for i in range(200)}))
        of_rich.append(sum(int((known.ask(10).prompt_ids < 100).sum()) for _ in range(40)) / 400)
    rich, poor = headroom(np.array([0.5, 0.01]), 8)
    assert of_rich[0] == pytest.approx(rich / (rich + poor), abs=0.05)
    assert of_rich[1] == pytest.approx(rich**0.5 / (rich**0.5 + poor**0.5), abs=0.07)


def test_the_filter_takes_the_nearest_of_its_candidates_and_asks_only_for_these() -> None:
    rates = {i: i / 63 for i in range(64)}
    meter = Rates(rates)
    chosen = RolloutFilter(curri.PromptPool(range(64)), seed=0, group_size=8)
    chosen.use(meter)
    off = [np.abs(np.array([rates[i] for i in chosen.ask(8).prompt_ids.tolist()]) - 0.5).max() for _ in range(20)]
    assert meter.asked == [(32, 8)] * 20
    assert np.mean(off) < 0.2
    every = RolloutFilter(curri.PromptPool(range(64)), seed=0, candidates=8, responses=3)
    every.use(meter)
    assert sorted(every.ask(8).prompt_ids.tolist()) == list(range(28, 36))
    assert meter.asked[-1] == (64, 3)


def test_the_filter_has_the_defaults_of_pcl() -> None:
    ours, pcl = RolloutFilter(curri.PromptPool(range(4))), strategy("pcl")
    assert (ours.candidates, ours.target) == (pcl.candidates, pcl.target)


# ---- prompts that join -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joining", ["children", "fresh", ""])
def test_as_many_prompts_join_either_way_and_none_that_is_taken(tmp_path: Path, joining: str) -> None:
    problems = drawn(ARMS, np.random.default_rng(0))
    held_out = drawn(ARMS, np.random.default_rng(1), without=[each.prompt for each in problems])
    taken = {each.prompt for each in (*problems, *held_out)}
    with curri.open_store(tmp_path / "p.duckdb", create=True) as store:
        store.prompts.add([as_new(each) for each in problems])
        scheduler = curri.Scheduler(store, "uniform", run="stage 0", seed=0)
        ids = scheduler.ask(24).prompt_ids
        live = ids % 2 == 0
        scheduler.tell(ids.repeat(2), np.stack([live, np.zeros(24)], axis=1).ravel())
        before = set(taken)
        joined = Growth(store, joining, dict.fromkeys(ARMS, 2), taken, seed=0).after("stage 0", 1)
        new = store.texts.fetch(store.pool().ids[24:])
        origins = store.prompts.origins(store.pool().ids[24:])
    assert joined == len(new) == (6 if joining else 0)
    assert not before & {str(each.prompt) for each in new}
    assert taken - before == {str(each.prompt) for each in new}
    if joining == "children":
        assert all(origin.parent_id % 2 == 0 for origin in origins if origin.parent_id is not None)
        assert all(origin.parent_id is not None and origin.generation == 1 for origin in origins)
    if joining == "fresh":
        assert sorted(str(each.arm) for each in new) == sorted([*ARMS, *ARMS])


# ---- settings and the page -------------------------------------------------------------------------------------------


def test_every_entry_can_be_built_and_says_what_it_is() -> None:
    assert not OWN.keys() & set(curri.registry.BUILT_IN)
    for entry in settings.ENTRIES.values():
        owner = OWN.get(entry.strategy) or strategy(entry.strategy)
        for pool in settings.POOLS.values():
            arms = [arm for arm, n in pool.arms.items() for _ in range(n)]
            if "texts" not in owner.tags:
                owner(curri.PromptPool(range(len(arms)), arms), seed=0, **entry.given(pool))
            assert entry.stages == 1 or 0 < sum(entry.new_of_arms(pool).values()) * (entry.stages - 1) <= len(arms) / 4
    assert all(entry.note for entry in settings.FINDINGS)


def test_entries_that_were_run_on_one_pool_or_in_part_or_not_at_all(tmp_path: Path) -> None:
    points = pl.DataFrame(
        [
            *_points("uniform", "mixed", settings.REPORTED),
            *_points("uniform", "sparse", settings.REPORTED),
            *_points("known rates, live", "sparse", settings.REPORTED),
            *_points("dapo", "sparse", settings.REPORTED[:2]),
        ]
    )
    found = {pool: rows(points, pool) for pool in settings.POOLS}
    assert [row.entry for row in found["mixed"]] == ["uniform"]
    assert [row.entry for row in found["sparse"]] == ["uniform", "known rates, live"]
    said = "\n".join(findings(found, ["uniform"]))
    assert "Sparse pool:" in said
    assert "Mixed pool:" not in said
    assert "- `known rates, live`: **a bound, not a strategy**" in said
    assert "dapo" not in said


def test_new_runs_take_the_place_of_the_same_ones_and_leave_the_others(tmp_path: Path) -> None:
    stored, path = [*_points("uniform", "mixed", [1, 2]), *_points("ucb", "mixed", [1])], tmp_path / "r.parquet"
    fresh = pl.DataFrame([*_points("uniform", "mixed", [2])]).with_columns(accuracy=pl.lit(0.9))
    assert updated(path, fresh).equals(fresh)
    pl.DataFrame(stored).write_parquet(path)
    found = updated(path, fresh).group_by("entry", "seed").agg(pl.len(), pl.col("accuracy").max().round(2))
    assert sorted(found.rows()) == [("ucb", 1, 5, 0.7), ("uniform", 1, 5, 0.7), ("uniform", 2, 5, 0.9)]


def _points(entry: str, pool: str, seeds: Iterable[int]) -> Iterable[dict[str, Any]]:
    for seed in seeds:
        for point in range(5):
            yield {
                "entry": entry,
                "pool": pool,
                "seed": seed,
                "point": point,
                "tokens": point * settings.POOLS[pool].budget // 4,
                "accuracy": 0.3 + 0.1 * point,
                "groups": 16 * point,
                "live": 8 * point,
                "probe_tokens": 0,
                "seconds": 10.0 * point,
            }
