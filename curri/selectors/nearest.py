"""The values nearest to a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Ints

__all__ = ["nearest"]

_DIGITS = 12


def nearest(values: ArrayLike, target: float, m: int) -> Ints:
    """Positions of the m values with the smallest abs(value - target), nearest first; ties to the lower position.

    This is PCL's choice of a batch among its candidates (arXiv 2510.01135): the subset of m with the least sum of
    distances to τ. Distances that agree to 12 decimals tie: rounding does not decide whether 0.3 or 0.7 comes first.

    Args:
        values: shape (k,), finite.
        target: τ, finite.
        m: how many, in [0, k].

    Returns:
        Positions, shape (m,), int64.

    Raises:
        InvalidParameter: a value or the target is not finite, or m is out of range.

    Example:
        >>> nearest([0.05, 0.91, 0.48, 0.3, 0.55, 0.52], target=0.5, m=3)
        array([2, 5, 4])

    """
    values_k = np.asarray(values, dtype=np.float64)
    if values_k.ndim != 1 or not np.isfinite(values_k).all():
        raise InvalidParameter(f"`values` of `nearest` must be finite, shape (k,); got {values!r}")
    if not np.isfinite(target):
        raise InvalidParameter(f"`target` of `nearest` must be a finite float; got {target!r}")
    if isinstance(m, bool) or not isinstance(m, int | np.integer) or not 0 <= m <= values_k.size:
        raise InvalidParameter(f"`m` of `nearest` must be an int in [0, {values_k.size}]; got {m!r}")
    if not m:
        return np.empty(0, dtype=np.int64)
    distance = np.round(np.abs(values_k - target), _DIGITS)
    edge = np.partition(distance, m - 1)[m - 1]
    near = np.flatnonzero(distance <= edge)
    return near[np.argsort(distance[near], kind="stable")[:m]].astype(np.int64)
