"""What one round of every strategy costs, in multiples of one argpartition over all prompts; see README.md here."""

from __future__ import annotations

import math
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.table import Row, quiet
from curri.pool import PromptPool
from curri.registry import strategy, strategy_names
from curri.types import Prompt, Rollouts

if TYPE_CHECKING:
    from collections.abc import Callable

    from curri.curricula.base import Curriculum
    from curri.types import Floats, Ints, Kind

ARMS, BATCH, GROUP, SEED = 12, 512, 8, 0
SIZES = (10_000, 100_000, 1_000_000)
TOLD_ONLY, EVERYWHERE = 1.0, 25.0
"""Budgets at the largest size: for weights that change for told prompts only, and for those that may change for all."""
TEXTS = ("pcl",)
"""Measured apart: what they cost is reading prompts, however many there are."""


class Case(NamedTuple):
    """What is measured: a strategy with some parameters, its rounds of some kind, and the budget."""

    name: str
    parameters: dict[str, Any]
    variant: str = ""
    kind: Kind = "train"
    budget: float = TOLD_ONLY

    @property
    def label(self) -> str:
        """The name, with what is special."""
        return f"{self.name} ({self.variant})" if self.variant else self.name


PARAMETERS: dict[str, dict[str, Any]] = {
    "modomodo": {"weights": {f"arm{code:02d}": 1.0 + code for code in range(ARMS)}},
    "vas": {"diversity": "none"},  # there are no texts to compare
}
MOVING_TARGET = ("adarft", "frontier")
"""Strategies under which the weight of every prompt moves with every round."""
VARIANTS = (
    Case("eva", {"schedule": "online", "mixup": 1}, "online"),
    Case("mopps", {"picking": "proportional"}, "proportional"),
    Case("mopps", {"candidates": 0, "discount_by": "rounds"}, "whole pool, fading", budget=EVERYWHERE),
    Case("vas", {"diversity": "none", "probe_rollouts": GROUP}, "a round of probes", "probe", EVERYWHERE),
)


def run(*, quick: bool = False) -> list[Row]:
    """The rows of this benchmark."""
    sizes = SIZES[:2] if quick else SIZES
    rows: list[Row] = []
    for case in cases():
        rounds = [_Rounds(case, size) for size in sizes]
        times = _measured(rounds, 9 if quick else 25)
        rows += [_multiple(each, *times[each.size]) for each in rounds]
        rows.append(_growth(case.label, {size: ours for size, (ours, _) in times.items()}))
    return rows + [row for name in TEXTS if name in strategy_names() for row in _reading(name, quick=quick)]


def cases() -> list[Case]:
    """Every registered strategy as it is, and some variants that work on the whole pool."""
    names = [name for name in strategy_names() if name not in TEXTS]
    budget = {name: EVERYWHERE if name in MOVING_TARGET else TOLD_ONLY for name in names}
    plain = [Case(name, PARAMETERS.get(name, {}), budget=budget[name]) for name in names]
    return [*plain, *(case for case in VARIANTS if case.name in names)]


def _measured(rounds: list[_Rounds], repeats: int) -> dict[int, tuple[list[float], list[float]]]:
    """Milliseconds of a round and of an argpartition at each size, all taking turns."""
    times: dict[int, tuple[list[float], list[float]]] = {each.size: ([], []) for each in rounds}
    with quiet():
        for _ in range(repeats):
            for each in rounds:
                ours, base = times[each.size]
                ours.append(_cpu(each))
                base.append(_cpu(each.partition))
    return times


def _cpu(action: Callable[[], object]) -> float:
    """Milliseconds of CPU that this process spends, so that a busy machine does not count."""
    start = time.process_time()
    action()
    return (time.process_time() - start) * 1e3


def _multiple(rounds: _Rounds, ours: list[float], base: list[float]) -> Row:
    what = f"{rounds.case.label}: a round, {rounds.size:,} prompts : argpartition"
    budget = f"≤ {rounds.case.budget:g}" if rounds.size == SIZES[-1] else ""
    return Row("strategies", what, ours, base, budget)


def _growth(name: str, ours: dict[int, list[float]]) -> Row:
    """The times at the largest size against those at the smallest; no faster than the number of prompts."""
    small, large = min(ours), max(ours)
    exponent = math.log(np.median(ours[large]) / np.median(ours[small])) / math.log(large / small)
    what = f"{name}: {large:,} : {small:,} prompts, as N^{exponent:.2f}"
    return Row("strategies", what, ours[large], ours[small], f"≤ {large // small}")


class _Rounds:
    """A strategy that has seen every prompt once, to be timed round by round."""

    def __init__(self, case: Case, size: int) -> None:
        self.case, self.size = case, size
        self.rng = np.random.default_rng(SEED)
        self.scores: Floats = self.rng.random(size)
        ids = np.arange(1, size + 1)
        pool = PromptPool(
            ids,
            np.array([f"arm{code:02d}" for code in range(ARMS)])[ids % ARMS],
            prior_rate=self.rng.beta(0.35, 0.71, size),
            generation=(ids % 4 == 0).astype(np.int64),
        )
        self.curriculum: Curriculum = strategy(case.name)(pool, seed=SEED, **case.parameters)
        self._warm_up()

    def _warm_up(self) -> None:
        """Two outcomes of every prompt, as probes where the strategy learns from those; then some rounds."""
        kind: Kind = "probe" if "probes" in self.curriculum.tags else "train"
        ids = self.curriculum.pool.ids
        self.curriculum.ask(BATCH)
        for part in np.array_split(ids, max(1, ids.size // 100_000)):
            self.curriculum.tell(self._answers(part, 2, kind))
            self.curriculum.advance()
        for _ in range(3):
            self()
            self.partition()

    def _answers(self, prompt_ids: Ints, times: int, kind: Kind = "train") -> Rollouts:
        ids = np.repeat(prompt_ids, times)
        return Rollouts(ids, (self.rng.random(ids.size) < self.scores[ids - 1]).astype(np.float64), kind=kind)

    def __call__(self) -> None:
        """One round of 512 groups of 8."""
        selection = self.curriculum.ask(BATCH, kind=self.case.kind)
        self.curriculum.tell(self._answers(selection.prompt_ids, GROUP, self.case.kind))
        self.curriculum.advance()

    def partition(self) -> None:
        """What it is compared with."""
        np.argpartition(self.scores, BATCH)


def _reading(name: str, *, quick: bool) -> list[Row]:
    """Rounds of a strategy that reads prompts; says how many it scores in a second."""
    if find_spec("torch") is None:
        print(f"{name} is left out: it needs torch", file=sys.stderr)
        return []
    size = SIZES[0] if quick else SIZES[1]
    pool = PromptPool(np.arange(1, size + 1), fetch=_texts)
    curriculum = strategy(name)(pool, seed=SEED)
    rng = np.random.default_rng(SEED)
    scored = BATCH * curriculum.candidates

    def step() -> None:
        ids = np.repeat(curriculum.ask(BATCH).prompt_ids, GROUP)
        curriculum.tell(Rollouts(ids, rng.integers(0, 2, ids.size).astype(np.float64)))
        curriculum.advance()

    for _ in range(curriculum.warm_up + 2):
        step()
    scores = rng.random(size)
    with quiet():
        asks = [_cpu(lambda: curriculum.ask(BATCH)) for _ in range(5)]
        steps = [_cpu(step) for _ in range(5)]
        base = [_cpu(lambda: np.argpartition(scores, BATCH)) for _ in range(5)]
    rate = scored / np.median(asks) * 1e3
    what = f"{name}: ask, {rate:,.0f} prompts scored a second : argpartition"
    whole = f"{name}: a round, {size:,} prompts : argpartition"
    return [Row("strategies", what, asks, base), Row("strategies", whole, steps, base)]


def _texts(prompt_ids: Ints) -> list[Prompt]:
    """About 300 characters each."""
    return [
        Prompt(i, f"Question {i}: " + " + ".join(f"{i * k % 9973}" for k in range(1, 45)) + "?", None, "default", {})
        for i in prompt_ids.tolist()
    ]
