"""How well predictions meet scores."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from curri.mixtures.surrogates import log_density

if TYPE_CHECKING:
    from curri.types import Floats

__all__ = ["Quality", "normal_quantile", "quality_of", "rank_correlation"]

LEVELS = (0.5, 0.8, 0.95)
"""Intervals whose coverage is reported."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How well runs are predicted that were left out.

    Attributes:
        runs: how many were compared.
        r2: 1 - Σ error² / Σ (score - mean)²; below 0 is worse than the mean of all runs.
        rmse: root mean squared error.
        spearman: rank correlation; NaN where it is not defined.
        log_density: mean log predictive density.
        beats_mean: whether its squared errors are smaller than those of the mean of all runs by more than one standard
            error of that difference; below that, nothing shows that it predicts at all.
        coverage: nominal level → share of the scores inside the central interval of that level.
    """

    runs: int
    r2: float
    rmse: float
    spearman: float
    log_density: float
    beats_mean: bool
    coverage: dict[float, float] = field(default_factory=dict)


def quality_of(scores: Floats, means: Floats, stds: Floats) -> Quality:
    """How well predictions meet scores.

    Args:
        scores: shape (R,), finite.
        means: predicted, shape (R,).
        stds: predicted deviations of one run, shape (R,).

    Example:
        >>> quality_of(np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.array([0.1, 0.1])).r2
        1.0

    """
    if not len(scores):
        return Quality(0, math.nan, math.nan, math.nan, math.nan, False, dict.fromkeys(LEVELS, math.nan))  # noqa: FBT003
    errors = np.abs(scores - means)
    spread = float(np.square(scores - scores.mean()).sum())
    safe = np.maximum(stds, 1e-300)
    return Quality(
        runs=len(scores),
        r2=1.0 - float(np.square(errors).sum()) / spread if spread > 0.0 else math.nan,
        rmse=float(np.sqrt(np.square(errors).mean())),
        spearman=rank_correlation(scores, means),
        log_density=float(log_density(scores, means, safe).mean()),
        beats_mean=_beats_mean(scores, errors),
        coverage={level: float((errors <= normal_quantile(level) * stds + 1e-300).mean()) for level in LEVELS},
    )


def _beats_mean(scores: Floats, errors: Floats) -> bool:
    n = len(scores)
    if n < 3:
        return False
    advantage = np.square(scores - scores.mean()) - np.square(errors)
    return bool(advantage.mean() > advantage.std(ddof=1) / math.sqrt(n))


def normal_quantile(level: float) -> float:
    """Half the width of the central interval that holds ``level`` of a normal distribution, in deviations.

    Example:
        >>> round(normal_quantile(0.95), 3)
        1.96

    """
    low, high = 0.0, 12.0
    for _ in range(80):
        middle = (low + high) / 2.0
        low, high = (middle, high) if math.erf(middle / math.sqrt(2.0)) < level else (low, middle)
    return (low + high) / 2.0


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's, ties sharing their mean rank; NaN where all values of one side are equal.

    Example:
        >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([0.1, 5.0, 0.2]))
        0.5

    """
    first, second = (_ranks(values) for values in (a, b))
    if np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Floats) -> Floats:
    """Ranks, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2.0)[inverse], dtype=np.float64)
