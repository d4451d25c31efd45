"""Mixtures as points of a simplex: checks, projections and distances. A mixture is a row: weights ≥ 0 that sum to 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats

__all__ = ["Metric", "checked_mixtures", "distances", "hellinger", "kl_divergence", "project", "total_variation"]

Metric: TypeAlias = Literal["tv", "hellinger"]
"""How far two mixtures are apart: total variation, or Hellinger distance; both in [0, 1]."""

SUM_SLACK = 0.01
"""How far the weights of a row may be from summing to one; they are divided by their sum."""
_BISECTIONS = 60
_EXACT = 1e-14


def checked_mixtures(weights: ArrayLike, *, owner: str, arms: int | None = None) -> Floats:
    """Mixtures as floats that sum to one, shape (R, m).

    Args:
        weights: one mixture, shape (m,), or several, shape (R, m).
        owner: who asks, for the message.
        arms: m, where it is known.

    Raises:
        InvalidParameter: not finite, negative, of the wrong width, or a row's sum is outside 0.99 to 1.01.

    Example:
        >>> checked_mixtures([0.5, 0.496], owner="demo").round(4)
        array([[0.502, 0.498]])

    """
    rows = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    if rows.ndim != 2 or rows.shape[1] == 0 or (arms is not None and rows.shape[1] != arms):
        wanted = "(runs, arms)" if arms is None else f"(runs, {arms})"
        raise InvalidParameter(f"mixtures of `{owner}` must have shape {wanted}; got {np.shape(weights)}")
    sums = rows.sum(axis=1)
    wrong = ~(np.isfinite(rows).all(axis=1) & (rows >= 0.0).all(axis=1) & (np.abs(sums - 1.0) <= SUM_SLACK + 1e-12))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        what = "weights >= 0 that sum to 1 (0.99 to 1.01 is divided by its sum)"
        raise InvalidParameter(f"mixtures of `{owner}` must be {what}; got {rows[row].tolist()} in row {row}")
    return np.asarray(rows / sums[:, None])


def project(points: ArrayLike, lower: ArrayLike = 0.0, upper: ArrayLike = 1.0) -> Floats:
    """The nearest mixtures (in the Euclidean sense) that keep lower ≤ w ≤ upper.

    w = clip(v - t, lower, upper) with the t that makes the sum one, found by bisection.

    Args:
        points: shape (m,) or (R, m), finite.
        lower: floors, one or shape (m,), with a sum of at most 1.
        upper: caps, one or shape (m,), with a sum of at least 1.

    Returns:
        Shape (R, m).

    Raises:
        InvalidParameter: no mixture keeps the bounds.

    Example:
        >>> project([0.9, 0.3, 0.0], upper=0.6).round(3)
        array([[0.6 , 0.35, 0.05]])

    """
    values = np.atleast_2d(np.asarray(points, dtype=np.float64))
    low = np.broadcast_to(np.asarray(lower, dtype=np.float64), values.shape[1:])
    high = np.broadcast_to(np.asarray(upper, dtype=np.float64), values.shape[1:])
    if np.any(low > high) or low.sum() > 1.0 + 1e-9 or high.sum() < 1.0 - 1e-9:
        raise InvalidParameter(
            f"no mixture keeps the bounds: floors sum to {low.sum():.4g}, caps to {high.sum():.4g}, and a mixture to 1"
        )
    left, right = (values - high).min(axis=1) - 1.0, (values - low).max(axis=1) + 1.0
    for _ in range(_BISECTIONS):
        middle = (left + right) / 2.0
        above = np.clip(values - middle[:, None], low, high).sum(axis=1) > 1.0
        left, right = np.where(above, middle, left), np.where(above, right, middle)
    found = _exact_sum(np.clip(values - ((left + right) / 2.0)[:, None], low, high), low, high)
    # What is allowed already stays as it is, to the last bit.
    kept = ((values >= low) & (values <= high)).all(axis=1) & (np.abs(values.sum(axis=1) - 1.0) <= _EXACT)
    return np.asarray(np.where(kept[:, None], values, found))


def _exact_sum(rows: Floats, low: Floats, high: Floats) -> Floats:
    """Spread the rounding error over the weights between their bounds; those at a bound stay there."""
    rest = 1.0 - rows.sum(axis=1, keepdims=True)
    room = np.where((rows > low) & (rows < high), np.where(rest > 0, high - rows, rows - low), 0.0)
    total = room.sum(axis=1, keepdims=True)
    share = np.divide(room, total, out=np.zeros_like(room), where=total > 0)
    return np.asarray(np.clip(rows + rest * share, low, high))


def total_variation(a: ArrayLike, b: ArrayLike) -> Floats:
    """½ Σ_j abs(a_j - b_j) between every row of a and every row of b.

    Args:
        a: shape (R, m) or (m,).
        b: shape (K, m) or (m,).

    Returns:
        Shape (R, K), in [0, 1].

    Example:
        >>> total_variation([0.5, 0.5], [[0.5, 0.5], [0.25, 0.75]])
        array([[0.  , 0.25]])

    """
    first, second = np.atleast_2d(np.asarray(a, dtype=float)), np.atleast_2d(np.asarray(b, dtype=float))
    found = np.zeros((len(first), len(second)))
    for mine, other in zip(first.T, second.T, strict=True):
        found += np.abs(mine[:, None] - other)
    return np.asarray(found / 2.0)


def hellinger(a: ArrayLike, b: ArrayLike) -> Floats:
    """‖√a - √b‖ / √2 between every row of a and every row of b: the distance the Gaussian processes see.

    Args:
        a: shape (R, m) or (m,).
        b: shape (K, m) or (m,).

    Returns:
        Shape (R, K), in [0, 1].

    Example:
        >>> hellinger([1.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
        array([[0., 1.]])

    """
    first, second = np.sqrt(np.atleast_2d(np.asarray(a))), np.sqrt(np.atleast_2d(np.asarray(b)))
    return np.asarray(np.sqrt(np.clip(1.0 - first @ second.T, 0.0, 1.0)))


def distances(a: ArrayLike, b: ArrayLike, metric: Metric = "tv") -> Floats:
    """Distance between every row of a and every row of b, shape (R, K), in [0, 1]."""
    return total_variation(a, b) if metric == "tv" else hellinger(a, b)


def kl_divergence(weights: ArrayLike, prior: ArrayLike) -> Floats:
    """KL(w ‖ prior) = Σ_j w_j ln(w_j / prior_j) of every row; infinite where a row uses an arm the prior lacks.

    Args:
        weights: shape (R, m) or (m,).
        prior: shape (m,).

    Returns:
        Shape (R,), at least 0.

    Example:
        >>> kl_divergence([[0.5, 0.5], [1.0, 0.0]], [0.5, 0.5]).round(4)
        array([0.    , 0.6931])

    """
    rows, base = np.atleast_2d(np.asarray(weights, dtype=float)), np.asarray(prior, dtype=float)
    used = rows > 0.0
    ratio = np.divide(rows, base, out=np.ones_like(rows), where=used & (base > 0.0))
    terms = np.where(used, rows * np.log(ratio), 0.0)
    terms[used & (base <= 0.0)] = np.inf
    return np.asarray(np.maximum(terms.sum(axis=1), 0.0))
