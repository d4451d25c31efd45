"""How like the recorded run a learner is: the same figures of both, taken from visit counts in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curri.estimators import group_advantages
from curri.simulation.foretold import by_discount
from curri.simulation.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable

    from curri.simulation.gain import Scene
    from curri.types import Floats

__all__ = ["RECORDED", "Likeness", "likeness", "simulated_records"]

_GRID = np.arange(0.7, 0.981, 0.02)
_ENDS = 5


@dataclass(frozen=True)
class Likeness:
    """Figures of visit counts.

    Attributes:
        first: shares of first groups that were all wrong, live, and all right.
        last: the same of the last five visits.
        prior: a and b of the Beta distribution of first-visit pass rates, by their moments.
        drift: standard deviation of a pass rate's random walk in a visit: of the fixed discount that foretells best.
        discount: that discount.
        mass: arm → mean |advantage| of groups at the first and at the last five visits.
    """

    first: tuple[float, float, float]
    last: tuple[float, float, float]
    prior: tuple[float, float]
    drift: float
    discount: float
    mass: dict[str, tuple[float, float]]


RECORDED = Likeness(
    first=(0.36, 0.56, 0.08),
    last=(0.28, 0.50, 0.22),
    prior=(0.35, 0.71),
    drift=0.019,
    discount=0.85,
    mass={
        "1 hardest": (0.19, 0.20),
        "2 hard": (0.23, 0.30),
        "3 middle": (0.58, 0.65),
        "4 easy": (0.70, 0.55),
        "5 easiest": (0.46, 0.23),
    },
)
"""Of the recorded run of 1,209 prompts, as published in the survey this project builds on."""


def likeness(records: Records) -> Likeness:
    """The figures of visit counts with groups of one size.

    Args:
        records: at least two visits a prompt.
    """
    first, last = records.starts[:-1], records.starts[1:]
    ending = np.concatenate([np.arange(max(a, b - _ENDS), b) for a, b in zip(first, last, strict=True)])
    beginning = np.concatenate([np.arange(a, min(b, a + _ENDS)) for a, b in zip(first, last, strict=True)])
    rows = np.repeat(np.arange(len(records)), records.visits)
    mass = _mass(records)
    by_arm = {}
    for arm in np.unique(records.arms).tolist():
        early, late = (float(mass[part[records.arms[rows[part]] == arm]].mean()) for part in (beginning, ending))
        by_arm[arm] = (early, late)
    discount, drift = _drift(records)
    return Likeness(
        first=_shares(records, first),
        last=_shares(records, ending),
        prior=_beta(records.successes[first], records.trials[first]),
        drift=drift,
        discount=discount,
        mass=by_arm,
    )


def _shares(records: Records, visits: np.ndarray) -> tuple[float, float, float]:
    x, n = records.successes[visits], records.trials[visits]
    wrong, right = float(np.mean(x <= 0)), float(np.mean(x >= n))
    return wrong, 1.0 - wrong - right, right


def _beta(x: Floats, n: Floats) -> tuple[float, float]:
    """By the first two moments of a beta-binomial; all groups are of the most frequent size."""
    size = float(np.median(n))
    mean = float(np.mean(x / n))
    variance = float(np.var(x / n))
    overdispersion = (variance / max(mean * (1.0 - mean), 1e-9) * size - 1.0) / (size - 1.0)
    strength = 1.0 / min(max(overdispersion, 1e-6), 1.0 - 1e-6) - 1.0
    return mean * strength, (1.0 - mean) * strength


def _drift(records: Records) -> tuple[float, float]:
    """The best fixed discount λ, and the random walk whose steady-state filter has the gain 1 − λ."""
    excess = np.array([by_discount(records, float(each)).mean for each in _GRID])
    best = float(_GRID[int(np.argmin(excess))])
    rate = records.successes / records.trials
    noise = float(np.mean(rate * (1.0 - rate) / np.maximum(records.trials - 1.0, 1.0)))
    return best, float(np.sqrt(noise * (1.0 - best) ** 2 / best))


def _mass(records: Records) -> Floats:
    """Mean |advantage| of each visit."""
    n = records.trials.astype(np.int64)
    group = np.repeat(np.arange(n.size), n)
    ordinal = np.arange(group.size) - np.repeat(np.cumsum(n) - n, n)
    advantages = group_advantages((ordinal < records.successes[group]).astype(np.float64), group)
    return np.bincount(group, np.abs(advantages), n.size) / n


def simulated_records(
    scene: Callable[[int], Scene], *, seed: int = 0, steps: int = 500, batch: int = 128, group_size: int = 8
) -> Records:
    """Visit counts of a simulated learner that is trained as the recorded run was: epochs over the whole pool.

    Args:
        scene: pool and learner of a seed.
        seed: of both, and of the order.
        steps: training steps.
        batch: prompts of a step.
        group_size: rollouts of a prompt.
    """
    made = scene(seed)
    pool, learner = made.pool, made.learner
    rng = np.random.Generator(np.random.PCG64(seed))
    counts: list[list[int]] = [[] for _ in range(len(pool))]
    waiting = np.empty(0, dtype=np.int64)
    for step in range(steps):
        if waiting.size < batch:
            waiting = np.concatenate([waiting, rng.permutation(np.setdiff1d(np.arange(len(pool)), waiting))])
        rows, waiting = waiting[:batch], waiting[batch:]
        told = learner.answer(pool.ids[rows], group_size, round=step)
        for row, right in zip(rows.tolist(), told.rewards.reshape(-1, group_size).sum(axis=1).tolist(), strict=True):
            counts[row].append(int(right))
        learner.learn(told.prompt_ids, told.rewards)
    kept = [row for row, each in enumerate(counts) if len(each) > 1]
    visits = np.array([len(counts[row]) for row in kept])
    return Records(
        ids=pool.ids[kept],
        arms=pool.arm_of(np.array(kept)),
        prior=None,
        visits=visits,
        successes=np.concatenate([counts[row] for row in kept]).astype(np.float64),
        trials=np.full(int(visits.sum()), float(group_size)),
        position=np.concatenate([(np.arange(each) + 0.5) / each for each in visits.tolist()]),
        source="a simulated learner",
    )
