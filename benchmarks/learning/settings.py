"""What is fixed before any strategy but ``uniform`` has run: pools, arms, policy, learning rate, budgets, seeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Size:
    """A policy.

    Attributes:
        name: of its files.
        width: hidden size.
        layers: number of layers.
        learning_rate: of GRPO, by AdamW.
        warm_rate: of the warm start.
        gpu: whether it runs on a GPU.
    """

    name: str
    width: int
    layers: int
    learning_rate: float
    warm_rate: float
    gpu: bool = False


@dataclass(frozen=True)
class Pool:
    """Prompts to train on.

    Attributes:
        name: of its results.
        arms: arm → prompts.
        warm_arms: arm → its weight in the warm start.
        warm_steps: of the warm start.
        budget: generated tokens of a run.
        batch: prompts of a batch, of which two optimiser steps are made.
        group: responses of a prompt.
        held_out: problems of each arm that accuracy is measured on.
        points: of a curve.
    """

    name: str
    arms: Mapping[str, int]
    warm_arms: Mapping[str, float]
    warm_steps: int
    budget: int
    batch: int = 16
    group: int = 8
    held_out: int = 24
    points: int = 20


@dataclass(frozen=True)
class Entry:
    """A strategy with its settings.

    Attributes:
        name: in tables.
        strategy: registered name.
        parameters: of it.
        group: responses of a prompt that are trained on, where that is not the pool's.
        probes: whether it may probe.
        free_probes: whether probes are not counted.
        by_pool: parameters that depend on the pool.
    """

    name: str
    strategy: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    group: int | None = None
    probes: bool = True
    free_probes: bool = False
    by_pool: Callable[[Pool], Mapping[str, Any]] | None = None

    def given(self, pool: Pool) -> dict[str, Any]:
        """Its parameters on a pool."""
        of_pool = {} if self.by_pool is None else self.by_pool(pool)
        return {"group_size": self.group or pool.group, **self.parameters, **of_pool}


SMALL = Size("small", width=128, layers=2, learning_rate=2e-4, warm_rate=2e-3)
SIZES = {
    size.name: size
    for size in (
        SMALL,
        Size("medium", width=512, layers=8, learning_rate=1e-4, warm_rate=5e-4, gpu=True),
        Size("large", width=768, layers=14, learning_rate=5e-5, warm_rate=3e-4, gpu=True),
    )
}
"""About 0.3 M parameters, for a CPU; 21 M and 83 M, for a GPU."""

_MIXED = {
    "ascending-3": 0.9,
    "ascending-5": 0.3,
    "reversed-3": 0.97,
    "reversed-5": 0.1,
    "turned-3": 0.03,
    "turned-5": 0.6,
    "largest-3": 0.97,
    "largest-5": 0.05,
    "smallest-4": 0.3,
    "next-3": 0.02,
    "next-5": 0.2,
    "complement-3": 0.8,
    "complement-5": 0.01,
    "brackets-4": 0.98,
    "brackets-6": 0.2,
    "sum-2": 0.6,
}
_SPARSE = {
    "ascending-2": 0.9995,
    "reversed-2": 0.9995,
    "turned-2": 0.9995,
    "largest-2": 0.9995,
    "smallest-2": 0.9995,
    "next-2": 0.9995,
    "reversed-5": 0.002,
    "turned-5": 0.002,
    "largest-4": 0.003,
    "next-5": 0.002,
    "complement-5": 0.002,
    "ascending-5": 0.002,
    "brackets-6": 0.003,
    "smallest-4": 0.01,
    "complement-3": 0.03,
    "ascending-4": 0.03,
}
MIXED = Pool("mixed", dict.fromkeys(_MIXED, 32), _MIXED, 600, 60_000)
SPARSE = Pool("sparse", {arm: 56 if right > 0.5 else 24 for arm, right in _SPARSE.items()}, _SPARSE, 800, 80_000)
POOLS = {pool.name: pool for pool in (MIXED, SPARSE)}

TUNING = (0, 1, 2)
REPORTED = (100, 101, 102, 103, 104)
"""Seeds that nothing was chosen with: another warm start, other problems, other luck."""
TARGETS = (0.5, 0.75, 1.0)
"""Accuracies to reach: those of ``uniform``, same pool and seed, after these shares of its tokens."""

MAIN = (
    Entry("uniform", "uniform"),
    Entry("frontier", "frontier"),
    Entry("ucb", "ucb"),
    Entry("vas", "vas"),
    Entry("pcl", "pcl"),
    Entry("reinforce-ada", "reinforce-ada", group=4),
    Entry("mopps", "mopps"),
    Entry("greso", "greso"),
)
"""All with their default parameters."""
FINDINGS = (
    Entry("frontier, best", "frontier", {"picking": "best"}),
    Entry("vas, free probes", "vas", free_probes=True),
    Entry("vas, no probes", "vas", {"learn_from": "all"}, probes=False),
    Entry("dapo", "dapo"),
    Entry("uniform, groups of 4", "uniform", group=4),
    Entry("arms alike", "modomodo", by_pool=lambda pool: {"weights": dict.fromkeys(pool.arms, 1.0 / len(pool.arms))}),
)
"""What published findings are checked with."""
ENTRIES = {entry.name: entry for entry in (*MAIN, *FINDINGS)}
