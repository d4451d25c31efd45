"""Pick 512 prompts and fold 4,096 new weights: the sum tree against NumPy's weighted choice; see README.md here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.table import Row, quiet
from curri.selectors import WeightedPicker

if TYPE_CHECKING:
    from collections.abc import Callable

    from curri.selectors import DrawMethod
    from curri.types import Floats, Ints

SEED = 20_261
PICKED = 512
FOLDED = 4_096
AT_LEAST = {1_000_000: 8.0, 10_000_000: 40.0}
"""Times NumPy's speed, by the number of prompts."""
AT_MOST_GROWTH = 2.0
"""Times the time at 1 M that 10 M may take."""
METHODS: tuple[DrawMethod, ...] = ("systematic", "successive")
SHAPES = ("uniform", "one prompt with 99.9 %")


class Repeats(NamedTuple):
    """How often: whole blocks, then timed steps in each of them after two untimed ones."""

    blocks: int
    ours: int
    numpy: int


FULL = Repeats(blocks=7, ours=30, numpy=2)
QUICK = Repeats(blocks=3, ours=15, numpy=2)


class Case:
    """One pool, held by a picker and by a plain array."""

    def __init__(self, size: int, shape: str) -> None:
        self.size, self.shape = size, shape
        rng = np.random.default_rng(SEED)
        self.weights: Floats = rng.random(size) + 1e-3
        if shape != SHAPES[0]:
            self.weights[size // 3] = 999.0 * self.weights.sum()
        self.picker = WeightedPicker(np.arange(size), self.weights, seed=SEED)
        self.rng = rng
        self.ms: dict[str, list[float]] = {name: [] for name in (*METHODS, "numpy")}

    def changes(self) -> tuple[Ints, Floats]:
        """New weights for some rows, never for the heavy one."""
        rows = self.rng.choice(self.size - 1, FOLDED, replace=False)
        rows += rows >= self.size // 3
        return rows, self.rng.random(FOLDED) + 1e-3

    def step(self, name: str) -> None:
        """Time one pick with one fold."""
        rows, weights = self.changes()
        run = self._numpy if name == "numpy" else self._ours(name)
        start = time.perf_counter()
        picked = run(rows, weights)
        self.ms[name].append((time.perf_counter() - start) * 1e3)
        assert len(np.unique(picked)) == PICKED

    def _numpy(self, rows: Ints, weights: Floats) -> Ints:
        picked = self.rng.choice(self.size, PICKED, replace=False, p=self.weights / self.weights.sum())
        self.weights[rows] = weights
        return picked

    def _ours(self, name: str) -> Callable[[Ints, Floats], Ints]:
        method: DrawMethod = "systematic" if name == "systematic" else "successive"

        def run(rows: Ints, weights: Floats) -> Ints:
            picked = self.picker.draw(PICKED, self.rng, method=method).rows
            self.picker.update(rows, weights)
            return picked

        return run

    def block(self, name: str, repeats: int) -> float:
        """The median of some steps, in ms, after two that only warm the caches."""
        for _ in range(repeats + 2):
            self.step(name)
        timed = self.ms[name][-repeats:]
        del self.ms[name][-repeats - 2 : -repeats]
        return float(np.median(timed))


def run(*, quick: bool = False) -> list[Row]:
    """The rows of this benchmark."""
    sizes = [1_000_000] if quick else list(AT_LEAST)
    repeats = QUICK if quick else FULL
    rows = []
    for shape in SHAPES:
        cases = [Case(size, shape) for size in sizes]
        medians = _measure(cases, repeats)
        rows += [_against_numpy(case, name, medians) for case in cases for name in METHODS]
        if len(cases) > 1:
            rows += [_growth(cases, name, medians) for name in METHODS]
    return rows


def _measure(cases: list[Case], repeats: Repeats) -> dict[tuple[int, str], Floats]:
    """The median of each block, all sizes and ways taking turns, so that a busy spell hits them alike."""
    medians: dict[tuple[int, str], list[float]] = {}
    with quiet():
        for _ in range(repeats.blocks):
            for name in (*METHODS, "numpy"):
                for case in cases:
                    count = repeats.numpy if name == "numpy" else repeats.ours
                    medians.setdefault((case.size, name), []).append(case.block(name, count))
    return {key: np.array(values) for key, values in medians.items()}


def _against_numpy(case: Case, name: str, medians: dict[tuple[int, str], Floats]) -> Row:
    what = f"{case.shape}, {name}, {case.size:,} prompts"
    budget = f"≥ {AT_LEAST[case.size]:g}"
    return Row("picker", what, medians[case.size, name], medians[case.size, "numpy"], budget, inverse=True)


def _growth(cases: list[Case], name: str, medians: dict[tuple[int, str], Floats]) -> Row:
    small, large = cases
    what = f"{small.shape}, {name}, {large.size:,} : {small.size:,}"
    return Row("picker", what, medians[large.size, name], medians[small.size, name], f"≤ {AT_MOST_GROWTH:g}")
