"""Scores to probabilities."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats

__all__ = ["softmax"]


def softmax(scores: ArrayLike, temperature: float) -> Floats:
    """exp(s_i / τ) / Σ_j exp(s_j / τ), with the largest score subtracted first (DUMP, arXiv 2504.09710, eq. 4).

    Args:
        scores: shape (k,) with k ≥ 1, finite or -inf; -inf gets weight 0.
        temperature: τ in (0, inf); the smaller, the nearer to the largest score alone.

    Returns:
        Probabilities, shape (k,), that add up to 1.

    Raises:
        InvalidParameter: the temperature is out of range, a score is NaN or +inf, or none is finite.

    Example:
        >>> softmax([1.0, 1.0, -np.inf], temperature=0.1)
        array([0.5, 0.5, 0. ])

    """
    if isinstance(temperature, bool) or not 0.0 < temperature < math.inf:
        raise InvalidParameter(f"`temperature` of `softmax` must be a float in (0, inf); got {temperature!r}")
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise InvalidParameter(f"`scores` of `softmax` must have shape (k,); got {values.shape}")
    highest = float(values.max()) if values.size else -math.inf
    if not highest < math.inf:  # a NaN is not, either
        bad = np.flatnonzero(np.isnan(values) | np.isposinf(values)).tolist()
        raise InvalidParameter(f"`scores` of `softmax` must be finite or -inf; not so at positions {bad[:8]}")
    if highest == -math.inf:
        raise InvalidParameter("`scores` of `softmax` must hold at least one finite value")
    with np.errstate(over="ignore"):  # a difference too large to hold is a weight of 0
        weights = np.exp((values - highest) / temperature)
    return np.asarray(weights / weights.sum())
