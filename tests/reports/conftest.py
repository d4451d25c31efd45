from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs curri[mix]")

from curri.exchange.mixture_runs import RunsFile
from curri.mixtures import Runs, Target, make_design
from curri.reports import mixture_report
from curri.reports.study import Limits, Study

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MADE: dict[str, dict[str, Any]] = {}


def scored(arms: Sequence[str], runs: int, *, targets: int = 1, noise: float = 0.01, replicates: int = 3) -> Runs:
    """Runs of a smooth function of the weights, each target liking another arm best."""
    rng = np.random.default_rng(1)
    plan = make_design(len(arms), runs, replicates=min(replicates, runs - 1))
    worth = np.sqrt(plan.weights)
    scores = {}
    for place in range(targets):
        strengths = 0.3 / (1.0 + (np.arange(len(arms)) - place) % len(arms))
        scores["acc" if place == 0 else f"acc {place}"] = 0.3 + worth @ strengths + rng.normal(0.0, noise, runs)
    return Runs(arms, plan.weights, scores)


def as_source(runs: Runs) -> RunsFile:
    return RunsFile(runs, runs.notes, ("runs.csv",), "ab" * 32)


@pytest.fixture
def studied() -> Callable[..., Study]:
    """A study of made-up runs."""

    def make(
        arms: Sequence[str] = ("math", "code", "chat"),
        runs: int = 14,
        *,
        limits: Limits | None = None,
        surrogate: str = "loglinear",
        **more: Any,
    ) -> Study:
        made = scored(arms, runs, **more)
        targets = [Target(name, {name: 1.0}) for name in made.targets]
        return Study(runs=made, targets=targets, surrogate=surrogate, limits=limits or Limits())

    return make


@pytest.fixture
def reported(studied: Callable[..., Study]) -> Callable[..., dict[str, Any]]:
    """The document of such a study, made once for all tests."""

    def make(**more: Any) -> dict[str, Any]:
        key = repr(sorted(more.items()))
        if key not in MADE:
            study = studied(**more)
            settings = {"target": [target.name for target in study.targets]}
            MADE[key] = mixture_report(study, as_source(study.runs), settings)
        return copy.deepcopy(MADE[key])

    return make
