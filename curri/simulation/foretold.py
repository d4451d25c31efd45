"""How well pass rates are foretold on the visits of a recorded run itself, and what another model's say beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.estimators import FirstContact, LogitUpdate, ScoreTable, prior_logit, update_logit
from curri.pool import PromptPool
from curri.registry import strategy
from curri.simulation.bound import live_chance
from curri.simulation.records import smoothed
from curri.types import Rollouts

if TYPE_CHECKING:
    from curri.simulation.records import Records
    from curri.types import Bools, Floats, Ints

__all__ = ["DISCOUNTS", "Excess", "FirstQuarter", "by_discount", "by_strategy", "first_quarter", "foretells"]

DISCOUNTS = (1.0, 0.85, 0.5)
PRIOR = (0.35, 0.71)
"""Beta prior of the fixed discounts, fitted to the first visits of the recorded run of 1,209 prompts."""
SPLITS = 20
_PARTS = 8
_FEWEST = 16


@dataclass(frozen=True, slots=True)
class Excess:
    """Mean squared error of foretold pass rates over the binomial floor.

    Attributes:
        name: of the rule.
        mean: E (foretold − observed)² less E of the observation's own variance; below 0 only by chance.
        se: standard error, prompts being what was drawn.
        visits: that it is of.
    """

    name: str
    mean: float
    se: float
    visits: int


@dataclass(frozen=True, slots=True)
class FirstQuarter:
    """Live share of first groups, in the half of the prompts that was not learned from; means over splits.

    Attributes:
        prompts: with a pass rate of another model.
        base: of all.
        raw: of the quarter whose imported pass rate is nearest to one half.
        calibrated: of the quarter with the best expectation after calibration on the other half.
        raw_sd, calibrated_sd: standard deviations over splits.
        hindsight: of the quarter of neighbours by the imported rate that turned out best: a bound for a rule by
            this rate alone that prefers one stretch of it.
        known: of the quarter that is best by the smoothed curve's own start: what there is to gain.
        splits: how many.
    """

    prompts: int
    base: float
    raw: float
    raw_sd: float
    calibrated: float
    calibrated_sd: float
    hindsight: float
    known: float
    splits: int


def by_strategy(records: Records, name: str) -> Excess | None:
    """What a strategy foretells of each visit, told all visits before it; first visits are left out.

    All visits of one moment (see ``Records.moments``) are one round. None where the strategy foretells no pass rates.

    Args:
        records: the run.
        name: a registered strategy.
    """
    if not foretells(records, name):
        return None
    curriculum = strategy(name)(_pool(records), seed=0, group_size=max(records.group_size, 2))
    rows = np.repeat(np.arange(len(records)), records.visits)
    order = np.argsort(records.moments, kind="stable")
    bounds = np.flatnonzero(np.diff(records.moments[order])) + 1
    foretold = np.full(rows.size, np.nan)
    met = np.zeros(len(records), dtype=np.bool_)
    for part in np.split(order, bounds):
        for visit in part[met[rows[part]]].tolist():
            rate = curriculum.explain(int(records.ids[rows[visit]])).get("pass_rate")
            foretold[visit] = np.nan if rate is None else rate
        curriculum.tell(_told(records, rows, part))
        curriculum.advance()
        met[rows[part]] = True
    return _excess(name, records, rows, foretold)


def foretells(records: Records, name: str) -> bool:
    """Whether a strategy gives pass rates that its rollouts teach it."""
    found = strategy(name)
    if {"texts", "probes"} & found.tags:
        return False
    curriculum = found(_pool(records), seed=0, group_size=max(records.group_size, 2))
    return "pass_rate" in curriculum.explain(int(records.ids[0]))


def _pool(records: Records) -> PromptPool:
    return PromptPool(records.ids, records.arms)


def _told(records: Records, rows: Ints, part: Any) -> Rollouts:
    """The visits as responses; a sum of partly right answers is shared out evenly."""
    n = records.trials[part].astype(np.int64)
    right = records.successes[part]
    ordinal = np.arange(int(n.sum())) - np.repeat(np.cumsum(n) - n, n)
    solved = np.clip(np.repeat(right, n) - ordinal, 0.0, 1.0)
    return Rollouts(np.repeat(records.ids[rows[part]], n), solved)


def by_discount(records: Records, discount: float, prior: tuple[float, float] = PRIOR) -> Excess:
    """The rule of public tools: a Beta posterior whose evidence fades by a fixed factor at every visit.

    Args:
        records: the run.
        discount: λ in [0, 1]; 0 is the latest group alone, without a prior.
        prior: successes and failures to start from.
    """
    rows = np.repeat(np.arange(len(records)), records.visits)
    foretold = np.full(rows.size, np.nan)
    right, wrong = np.zeros(len(records)), np.zeros(len(records))
    a, b = prior if discount else (0.0, 0.0)
    for number in range(int(records.visits.max())):
        mine = np.flatnonzero(records.visits > number)
        visit = records.starts[mine] + number
        x, n = records.successes[visit], records.trials[visit]
        if number:
            foretold[visit] = (a + right[mine]) / (a + b + right[mine] + wrong[mine])
        right[mine] = discount * right[mine] + x
        wrong[mine] = discount * wrong[mine] + n - x
    return _excess(f"discount {discount:g}" if discount else "latest group", records, rows, foretold)


def _excess(name: str, records: Records, rows: Ints, foretold: Floats) -> Excess:
    x, n = records.successes, records.trials
    mine = ~np.isnan(foretold) & (n > 1)
    rate, n = x[mine] / n[mine], n[mine]
    error = np.square(foretold[mine] - rate) - rate * (1.0 - rate) / (n - 1.0)
    mean = float(error.mean()) if error.size else float("nan")
    of_prompt = np.bincount(rows[mine], error - mean, len(records)) if error.size else np.zeros(1)
    return Excess(name, mean, float(np.sqrt(np.square(of_prompt).sum()) / max(error.size, 1)), int(error.size))


# --- first contact ----------------------------------------------------------------------------------------------------


def first_quarter(records: Records, *, splits: int = SPLITS, window: int = 9) -> FirstQuarter | None:
    """Live share of the first groups of the best quarter of prompts, by another model's pass rates.

    In each split, the calibration is learned on one half of the prompts, in eight batches, and judged on the other.
    None where fewer than 16 prompts have such a rate.

    Args:
        records: the run.
        splits: random ones, the same for the same number.
        window: of the curve whose start is taken for the truth.
    """
    if records.prior is None or np.count_nonzero(~np.isnan(records.prior)) < _FEWEST:
        return None
    first = records.starts[:-1]
    live = (records.successes[first] > 0) & (records.successes[first] < records.trials[first])
    start = live_chance(_start(records, window), records.group_size)
    known = np.flatnonzero(~np.isnan(records.prior))
    table = np.empty((splits, 5))
    for split in range(splits):
        half = np.random.Generator(np.random.PCG64(split)).permutation(known)
        judged = half[half.size // 2 :]
        expected = _calibrated(records, half[: half.size // 2], judged)
        rules = (-np.abs(records.prior[judged] - 0.5), expected, start[judged])
        by_rate = live[judged][np.argsort(records.prior[judged], kind="stable")]
        table[split] = [live[judged].mean(), *(_best(live[judged], by) for by in rules), _best_stretch(by_rate)]
    base, raw_, calibrated, known_, hindsight = table.mean(axis=0).tolist()
    raw_sd, calibrated_sd = table.std(axis=0, ddof=1 if splits > 1 else 0).tolist()[1:3]
    return FirstQuarter(int(known.size), base, raw_, raw_sd, calibrated, calibrated_sd, hindsight, known_, splits)


def _start(records: Records, window: int) -> Floats:
    """Where the smoothed curve of each prompt starts."""
    pairs = zip(records.starts[:-1].tolist(), records.starts[1:].tolist(), strict=True)
    return np.array([smoothed(records.successes[a:b], records.trials[a:b], window)[0] for a, b in pairs])


def _best(live: Bools, by: Floats) -> float:
    return float(live[np.argsort(-by, kind="stable")[: max(1, live.size // 4)]].mean())


def _best_stretch(live: Bools) -> float:
    n = max(1, live.size // 4)
    return float(np.convolve(live, np.full(n, 1.0 / n), mode="valid").max())


def _calibrated(records: Records, learned: Ints, judged: Ints) -> Floats:
    """The expected chance of a live first group of ``judged``, after the first groups of ``learned``."""
    logits = prior_logit(np.full(len(records), np.nan) if records.prior is None else records.prior)
    first = records.starts[:-1]
    contact = FirstContact(["all"])
    for part in np.array_split(learned, _PARTS):
        arms = np.zeros(part.size, dtype=np.int64)
        mean, variance = contact.believed(arms, logits[part])
        before = LogitUpdate(mean, variance, np.zeros(part.size))
        after = update_logit(mean, variance, records.successes[first[part]], records.trials[first[part]])
        contact.learn(arms, logits[part], before, after)
    mean, variance = contact.believed(np.zeros(judged.size, dtype=np.int64), logits[judged])
    return ScoreTable("live", n=max(records.group_size, 2)).at(mean, variance)[0]
