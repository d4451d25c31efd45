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
        strategy: registered name, or that of one in ``strategies.py``.
        parameters: of it.
        group: responses of a prompt that are trained on, where that is not the pool's.
        probes: whether it may probe.
        free_probes: whether probes are not counted.
        by_pool: parameters that depend on the pool.
        stages: equal shares of the tokens; each has a trainer of its own, with a new optimiser.
        joining: what joins the pool after each stage but the last: "children", "fresh" or nothing.
        note: a line that explains it.
    """

    name: str
    strategy: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    group: int | None = None
    probes: bool = True
    free_probes: bool = False
    by_pool: Callable[[Pool], Mapping[str, Any]] | None = None
    stages: int = 1
    joining: str = ""
    note: str = ""

    def given(self, pool: Pool) -> dict[str, Any]:
        """Its parameters on a pool."""
        of_pool = {} if self.by_pool is None else self.by_pool(pool)
        return {"group_size": self.group or pool.group, **self.parameters, **of_pool}

    def new_of_arms(self, pool: Pool) -> dict[str, int]:
        """Prompts of each arm that join at a time: a quarter of the pool, all stages together."""
        return {arm: n // (4 * max(self.stages - 1, 1)) for arm, n in pool.arms.items()}


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
    Entry(
        "known rates, live",
        "known-rates",
        {"worth": "live"},
        note="**a bound, not a strategy**: is told every prompt's exact pass rate before every pick, for nothing, and "
        "draws by the probability that a group of it has signal",
    ),
    Entry(
        "known rates, headroom",
        "known-rates",
        {"worth": "headroom", "evened": True},
        note="**a bound, not a strategy**: the same, draws by that times the share that is not solved yet, divided by "
        "the root of the arm's mean, so that arms come nearer to each other",
    ),
    Entry("frontier, best", "frontier", {"picking": "best"}, note="takes the prompts of highest worth, draws nothing"),
    Entry(
        "vas, free probes",
        "vas",
        free_probes=True,
        note="its probes cost nothing (*probes* is what they would have cost, as a share of the tokens that count)",
    ),
    Entry(
        "vas, no probes",
        "vas",
        {"learn_from": "all"},
        probes=False,
        note="scores prompts by the responses that it trains on, and by no others",
    ),
    Entry("dapo", "dapo", note="uniform; groups without signal are thrown away and others generated"),
    Entry(
        "filtered by rollouts",
        "rollout-filter",
        note="what `pcl` is to replace: as many candidates for a batch as `pcl` has, 8 responses of each to find those "
        "nearest to a pass rate of 0.5, and new responses of these to train on",
    ),
    Entry(
        "filtered by 3 rollouts",
        "rollout-filter",
        {"responses": 3},
        note="the same with 3 responses of each candidate",
    ),
    Entry(
        "eva, children",
        "uniform",
        stages=3,
        joining="children",
        note="three stages of equal length with a new optimiser each; after the first and the second, an eighth of the "
        "pool joins it: children of parents that eva draws (one in five in breadth, the others one size up; made by a "
        "rule, without a token)",
    ),
    Entry(
        "eva, fresh prompts",
        "uniform",
        stages=3,
        joining="fresh",
        note="the same stages; as many new problems of the pool's own arms, in proportion, join it",
    ),
    Entry("uniform, groups of 4", "uniform", group=4, note="the control of `reinforce-ada`"),
    Entry(
        "arms alike",
        "modomodo",
        by_pool=lambda pool: {"weights": dict.fromkeys(pool.arms, 1.0 / len(pool.arms))},
        note="as many prompts of every arm, whatever its size; learns nothing",
    ),
)
"""What published findings are checked with."""
ENTRIES = {entry.name: entry for entry in (*MAIN, *FINDINGS)}
