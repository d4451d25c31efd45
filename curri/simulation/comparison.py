"""Strategies on a simulated learner that reacts, as one plain JSON document; never the evidence about real models."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curri._version import __version__
from curri.errors import InvalidInput
from curri.registry import BUILT_IN, strategy
from curri.simulation.fit import RECORDED, Likeness, likeness, simulated_records
from curri.simulation.gain import CONTROL, Claim, Creator, play, student_interval
from curri.simulation.parallel import in_parallel
from curri.simulation.reacting import FITTED, fitted_scene
from curri.simulation.replay import Entry, completed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from curri.simulation.gain import Course, Scene
    from curri.types import Floats

__all__ = ["FORMAT", "ComparisonSettings", "able", "comparison_document", "fit_document"]

FORMAT = "curri comparison report 1"
_POINTS = 50
_CREATOR = Creator(every=10, step=0.7, children=1)


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings:
    """How strategies are compared.

    Attributes:
        strategies: names; all that fit if None. ``uniform`` always takes part.
        parameters: strategy → its parameters other than the defaults.
        prompts: of the pool.
        steps: of a strategy that generates one group a prompt; others get as many rollouts, in fewer steps.
        batch: prompts of a step.
        group_size: rollouts of a prompt.
        seeds: how many, from 0.
        jobs: processes.
    """

    strategies: tuple[str, ...] | None = None
    parameters: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    prompts: int = 1200
    steps: int = 500
    batch: int = 64
    group_size: int = 8
    seeds: int = 10
    jobs: int = 1


def able(names: Sequence[str] | None = None) -> tuple[list[str], dict[str, str]]:
    """The strategies that can be simulated, and name → why not of the others.

    Raises:
        UnknownName: there is no such strategy.
    """
    reasons = {name: _reason_against(name) for name in (BUILT_IN if names is None else names)}
    return [name for name, why in reasons.items() if not why], {name: why for name, why in reasons.items() if why}


def _reason_against(name: str) -> str:
    if "texts" in strategy(name).tags:
        return "reads the texts of prompts, and simulated ones have none"
    if name == "modomodo":
        return "needs mixture weights from proxy runs; without them it draws in proportion to size, as uniform does"
    return ""


def comparison_document(
    settings: ComparisonSettings, *, tell: Callable[[int, int | None, str], None] = lambda *_: None
) -> dict[str, Any]:
    """Play every strategy on the fitted learner, with the same pools, luck and number of generated rollouts.

    Args:
        settings: how.
        tell: is told how far it is: runs done, of how many, and what is being done.

    Raises:
        InvalidInput, InvalidParameter, UnknownName: settings that cannot be played.
    """
    if settings.batch > settings.prompts:
        raise InvalidInput(
            f"a batch of {settings.batch:,} distinct prompts cannot be picked from {settings.prompts:,}",
            hint="--batch takes fewer, --prompts makes more",
        )
    names, left_out = able(settings.strategies)
    entries = [Entry(name, settings.parameters.get(name, {})) for name in dict.fromkeys([CONTROL, *names])]
    tasks = [(entry, seed) for entry in entries for seed in range(settings.seeds)]
    found: dict[int, Course] = {}
    shared = dataclasses.replace(settings, parameters={})
    for place, course in in_parallel(_play, tasks, shared=shared, jobs=settings.jobs):
        found[place] = course
        tell(len(found), len(tasks), tasks[place][0].strategy)
    runs = {entry.strategy: [found[i] for i, task in enumerate(tasks) if task[0] is entry] for entry in entries}
    rows = [_row(entry.strategy, runs[entry.strategy], runs[CONTROL], settings) for entry in entries]
    return {
        "format": FORMAT,
        "curri": __version__,
        "settings": {
            **{name: getattr(settings, name) for name in ("prompts", "steps", "batch", "group_size", "seeds")},
            "parameters": {name: dict(each) for name, each in settings.parameters.items()},
            "learner": dataclasses.asdict(FITTED),
        },
        "strategies": sorted(rows, key=lambda row: -row["learned"]["mean"]),
        "left_out": left_out,
    }


def _play(settings: ComparisonSettings, entry: Entry, seed: int) -> Course:
    claim = Claim(
        strategy=entry.strategy,
        scene=_Stage(settings.prompts),
        pool="",
        why="",
        budget=_budget(settings),
        batch=settings.batch,
        group_size=settings.group_size,
    )
    return play(claim, entry.strategy, completed(entry), seed=seed, picks=seed)


@dataclass(frozen=True)
class _Stage:
    """Makes scenes; a class, so that another process can be given one."""

    prompts: int

    def __call__(self, seed: int) -> Scene:
        return dataclasses.replace(fitted_scene(seed, prompts=self.prompts), creator=_CREATOR)


def _budget(settings: ComparisonSettings) -> int:
    return settings.steps * settings.batch * settings.group_size


def _row(
    name: str, courses: Sequence[Course], control: Sequence[Course], settings: ComparisonSettings
) -> dict[str, Any]:
    budget = _budget(settings)
    learned, plain = (np.array([course.learned(budget) for course in each]) for each in (courses, control))
    difference = learned - plain
    interval = None
    if name != CONTROL and difference.size > 1:
        interval = list(student_interval(difference))
    reached = np.array([_reached(course, one, budget) for course, one in zip(courses, control, strict=True)])
    at = np.linspace(0, budget, _POINTS + 1)
    curves = np.stack([np.interp(at, course.spent, course.rate - course.rate[0]) for course in courses])
    return {
        "strategy": name,
        "learned": _mean(learned),
        "difference": {"mean": float(difference.mean()), "interval": interval},
        "ratio": float(learned.mean() / plain.mean()) if plain.mean() else None,
        "to_target": float(np.median(reached)) if np.isfinite(np.median(reached)) else None,
        "censored": int(np.count_nonzero(~np.isfinite(reached))),
        "live": _mean([course.live / max(course.groups, 1) for course in courses]),
        "probed": float(np.mean([course.probed / max(int(course.spent[-1]), 1) for course in courses])),
        "rounds": float(np.mean([course.rounds.size for course in courses])),
        "start": float(np.mean([course.rate[0] for course in courses])),
        "course": [
            {"rollouts": round(x), "learned": float(y), "se": e}
            for x, y, e in zip(at.tolist(), curves.mean(axis=0).tolist(), _errors(curves), strict=True)
        ],
    }


def _reached(course: Course, control: Course, budget: int) -> float:
    """Rollouts until uniform's rate at the end of the budget, as a share of the budget; infinite if it is never met."""
    target = control.rate[0] + control.learned(budget)
    above = np.flatnonzero((course.rate >= target) & (course.spent <= budget * 1.0))
    return float(course.spent[above[0]] / budget) if above.size else math.inf


def _errors(curves: Floats) -> list[float | None]:
    n = curves.shape[0]
    if n < 2:
        return [None] * curves.shape[1]
    return list((curves.std(axis=0, ddof=1) / math.sqrt(n)).tolist())


def _mean(values: Any) -> dict[str, float | None]:
    column = np.asarray(values, dtype=np.float64)
    se = float(column.std(ddof=1) / math.sqrt(column.size)) if column.size > 1 else None
    return {"mean": float(column.mean()), "se": se}


def fit_document(*, seeds: int = 3, prompts: int = 1209, steps: int = 500) -> dict[str, Any]:
    """How like the recorded run the fitted learner is, trained uniformly with batches of 128 prompts.

    Args:
        seeds: learners that the figures are means of.
        prompts: of the pool; as many as the recorded run has make the visits alike too.
        steps: of training.
    """
    scene = functools.partial(fitted_scene, prompts=prompts)
    found = _averaged([likeness(simulated_records(scene, seed=seed, steps=steps)) for seed in range(seeds)])
    return {
        "learner": dataclasses.asdict(FITTED),
        "recorded": dataclasses.asdict(RECORDED),
        "simulated": dataclasses.asdict(found),
    }


def _averaged(found: Sequence[Likeness]) -> Likeness:
    def mean(values: Sequence[Sequence[float]]) -> Any:
        return tuple(np.mean(values, axis=0).tolist())

    return Likeness(
        first=mean([each.first for each in found]),
        last=mean([each.last for each in found]),
        prior=mean([each.prior for each in found]),
        drift=float(np.mean([each.drift for each in found])),
        discount=float(np.mean([each.discount for each in found])),
        mass={arm: mean([each.mass[arm] for each in found]) for arm in found[0].mass},
    )
