"""Successive weighted draws without replacement from one array of weights."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Ints

__all__ = ["weighted_without_replacement"]


def weighted_without_replacement(weights: ArrayLike, k: int, rng: np.random.Generator) -> Ints:
    """``k`` distinct positions, drawn one after another by the weights that remain.

    P(i, then j, …) = w_i / W · w_j / (W − w_i) · …, the draw of pandas' ``sample`` without replacement, which eva's
    released code uses (arXiv 2411.00062). It is made in one pass: with E_i independent standard exponentials, the k
    smallest E_i / w_i, in ascending order, have this law (Efraimidis & Spirakis, Inf. Proc. Letters 97, 2006).

    A weight of 0 is never drawn while a positive one is left. When all positive ones are drawn, the rest of k is
    filled uniformly from the zeros; pandas refuses there.

    For many draws from weights that change a little, :class:`~curri.selectors.WeightedPicker` is faster.

    Args:
        weights: shape (_P,), finite, at least 0, in any scale.
        k: how many, in [0, _P].
        rng: the only source of chance; it moves by the same amount whatever k is, so that with one generator state a
            smaller k gives the first positions of a larger one.

    Returns:
        Positions in the order drawn, shape (k,), int64.

    Raises:
        InvalidParameter: a weight is negative or not finite, or k is out of range.

    Example:
        >>> weighted_without_replacement([0.0, 2.0, 0.0, 1.0], 2, np.random.default_rng(0))
        array([3, 1])

    """
    try:
        values = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidParameter(
            f"`weights` of `weighted_without_replacement` must be finite floats >= 0; got {weights!r}"
        ) from None
    good = np.isfinite(values) & (values >= 0.0)
    if values.ndim != 1 or not good.all():
        where = f"shape {values.shape}" if values.ndim != 1 else f"positions {np.flatnonzero(~good)[:8].tolist()}"
        raise InvalidParameter(
            f"`weights` of `weighted_without_replacement` must be finite floats >= 0, shape (prompts,); not so: {where}"
        )
    if isinstance(k, bool) or not isinstance(k, numbers.Integral) or not 0 <= k <= values.size:
        raise InvalidParameter(
            f"`k` of `weighted_without_replacement` must be an integer in [0, {values.size}]; got {k!r}"
        )
    # Logarithms, so that neither a tiny nor a huge weight leaves the range of floats.
    key = np.log(np.maximum(rng.standard_exponential(values.size), np.nextafter(0.0, 1.0)))
    positive = values > 0.0
    key[positive] -= np.log(values[positive])
    taken = _smallest(np.flatnonzero(positive), key, min(int(k), int(positive.sum())))
    return np.concatenate([taken, _smallest(np.flatnonzero(~positive), key, int(k) - taken.size)])


def _smallest(positions: Ints, key: np.ndarray[tuple[int], np.dtype[np.float64]], k: int) -> Ints:
    """The k positions of smallest key, ascending by key."""
    if k < positions.size:
        positions = positions[np.argpartition(key[positions], k)[:k]]
    return positions[np.argsort(key[positions], kind="stable")].astype(np.int64)
