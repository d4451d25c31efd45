"""How much the score of one and the same mixture moves from run to run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats, Ints

__all__ = ["Noise", "replicate_noise", "within_groups"]


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviation of one run around the mean of its mixture.

    Attributes:
        std: at least 0, in the units of the target.
        degrees: degrees of freedom behind it: runs minus mixtures among the replicates; 0 where a model said it.
        source: "replicates" (measured) or "model" (what the surrogate could not explain).
    """

    std: float
    degrees: int
    source: Literal["replicates", "model"]


def replicate_noise(scores: ArrayLike, mixture: ArrayLike) -> Noise | None:
    """Noise pooled over the mixtures that were run more than once.

    s² = Σ_i (y_i - mean of its mixture)² / (runs - mixtures), over the runs that have a score.

    Args:
        scores: shape (R,), NaN where missing.
        mixture: which mixture each run used, integers, shape (R,).

    Returns:
        The noise, or None where no mixture has two scores.

    Raises:
        InvalidParameter: the shapes differ.

    Example:
        >>> replicate_noise([0.40, 0.44, 0.3], [0, 0, 1]).std.__round__(4)
        0.0283

    """
    values, groups = np.asarray(scores, dtype=np.float64), np.asarray(mixture)
    if values.ndim != 1 or groups.shape != values.shape:
        raise InvalidParameter(
            f"`scores` and `mixture` of `replicate_noise` must have one shape (runs,); got {values.shape} and "
            f"{groups.shape}"
        )
    squares, degrees = within_groups(values, groups)
    return None if degrees == 0 else Noise(math.sqrt(squares / degrees), degrees, "replicates")


def within_groups(values: Floats, groups: Ints) -> tuple[float, int]:
    """Sum of squares around the groups' means, and its degrees of freedom; NaN values are left out."""
    known = np.isfinite(values)
    if not known.any():
        return 0.0, 0
    kept, codes = values[known], np.unique(groups[known], return_inverse=True)[1]
    counts = np.bincount(codes)
    means = np.bincount(codes, weights=kept) / counts
    return float(np.square(kept - means[codes]).sum()), int(len(kept) - len(counts))
