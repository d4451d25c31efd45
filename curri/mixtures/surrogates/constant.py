"""The mean of all runs: what a surrogate must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.mixtures.surrogates.base import Surrogate

if TYPE_CHECKING:
    from curri.mixtures.surrogates.sample import Sample
    from curri.types import Floats

__all__ = ["MeanOnly"]


class MeanOnly(Surrogate):
    """Every mixture scores the same: the mean of the runs, with their spread as noise.

    Example:
        >>> mean, std = MeanOnly().fit([[1, 0], [0, 1], [0.5, 0.5]], [1.0, 2.0, 3.0]).predict([0.2, 0.8])
        >>> mean.item(), std.round(4).item()
        (2.0, 1.1547)

    """

    name: ClassVar[str] = "mean"
    summary: ClassVar[str] = "the mean of all runs, whatever the mixture"

    @classmethod
    def minimum_runs(cls, m: int) -> int:  # noqa: ARG003  the same for any m
        """One: replicates of a single mixture are enough."""
        return 1

    def _fit(self, sample: Sample) -> None:
        runs = sample.counts.sum()
        self._average = float(sample.counts @ sample.scores / runs)
        between = float(sample.counts @ (sample.scores - self._average) ** 2)
        # Standard errors are part of the spread; the noise is what they leave.
        spread = (between + sample.squares) / (runs - 1.0)
        self._spread = max(spread - float(sample.run_variance.mean()), 0.05 * spread)
        self._uncertainty = spread / runs

    def _predict(self, rows: Floats) -> tuple[Floats, Floats]:
        return np.full(len(rows), self._average), np.full(len(rows), self._uncertainty)

    def _joint(self, rows: Floats) -> tuple[Floats, Floats]:
        return np.full(len(rows), self._average), np.full((len(rows), len(rows)), self._uncertainty)

    def _leave_one_out(self) -> tuple[Floats, Floats]:
        sample = self._fitted()
        runs = sample.counts.sum()
        others = np.maximum(runs - sample.counts, 1.0)
        means = (runs * self._average - sample.counts * sample.scores) / others
        alone = runs == sample.counts  # one mixture only: nothing else to predict it from
        means = np.where(alone, self._average, means)
        return means, self._uncertainty * runs / others

    def _noise(self) -> float:
        return float(self._spread)

    def _quadratic(self) -> tuple[float, Floats, Floats]:
        m = self._fitted().m
        return self._average, np.zeros(m), np.zeros((m, m))

    def _describe(self) -> dict[str, Any]:
        return {"value": self._average}
