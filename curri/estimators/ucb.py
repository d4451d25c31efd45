"""Upper confidence bounds of arms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats

__all__ = ["ucb_scores"]


def ucb_scores(mean_abs: ArrayLike, count: ArrayLike, exploration: float = 1.0) -> Floats:
    """L_a + c·sqrt(2 ln(N + 1) / (n_a + 1)) with N = max(1, Σ n_a) (DUMP, arXiv 2504.09710, eq. 3).

    Args:
        mean_abs: L, shape (_A,), finite: the mean absolute advantage of each arm.
        count: n, shape (_A,), finite, at least 0: how often each arm was seen.
        exploration: c, finite, at least 0.

    Returns:
        Scores, shape (_A,).

    Raises:
        InvalidParameter: an argument is out of range, or the shapes differ.

    Example:
        >>> ucb_scores([0.5, 0.0], [3, 0]).round(4)
        array([1.3326, 1.6651])

    """
    means = np.asarray(mean_abs, dtype=np.float64)
    counts = np.asarray(count, dtype=np.float64)
    if isinstance(exploration, bool) or not 0.0 <= exploration < math.inf:
        raise InvalidParameter(f"`exploration` of `ucb_scores` must be a float in [0, inf); got {exploration!r}")
    if means.ndim != 1 or not np.isfinite(means).all():
        raise InvalidParameter(f"`mean_abs` of `ucb_scores` must be finite floats, shape (arms,); got {mean_abs!r}")
    if counts.shape != means.shape or not (np.isfinite(counts) & (counts >= 0.0)).all():
        raise InvalidParameter(f"`count` of `ucb_scores` must be finite, >= 0, one an arm; got {count!r}")
    n_total = max(1.0, float(counts.sum()))
    return np.asarray(means + exploration * np.sqrt(2.0 * math.log(n_total + 1.0) / (counts + 1.0)))
