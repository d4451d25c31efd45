"""How well a value model knows pass rates, and how much of a batch a pass rate leaves to learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats

__all__ = ["effective_ratio", "explained_variance", "rollout_equivalent"]


def effective_ratio(p: ArrayLike, n: ArrayLike) -> Floats:
    """1 - p^n - (1 - p)^n: the share of prompts with pass rate p whose group of n rollouts has mixed outcomes.

    Only responses of such groups have an advantage other than 0 (PCL, arXiv 2510.01135).

    Args:
        p: pass rates in [0, 1], any shape.
        n: rollouts of a group, whole numbers ≥ 1, of a shape that broadcasts with ``p``.

    Returns:
        The expected share, in [0, 1], of the broadcast shape; a NumPy float where both are single numbers.

    Raises:
        InvalidParameter: a value is out of range.

    Example:
        >>> effective_ratio(0.5, [2, 4, 16]).round(5)
        array([0.5    , 0.875  , 0.99997])

    """
    rates, sizes = np.asarray(p, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if not np.all((rates >= 0.0) & (rates <= 1.0)):
        raise InvalidParameter(f"`p` of `effective_ratio` must lie in [0, 1]; got {p!r}")
    if not np.all((sizes >= 1.0) & (sizes == np.floor(sizes)) & np.isfinite(sizes)):
        raise InvalidParameter(f"`n` of `effective_ratio` must hold ints in [1, inf); got {n!r}")
    share: Floats = np.maximum(1.0 - rates**sizes - (1.0 - rates) ** sizes, 0.0)
    return share


def explained_variance(true: ArrayLike, predicted: ArrayLike) -> float:
    """1 - Var(p - V) / Var(p), with the population variance: 1 for perfect predictions, 0 for a constant.

    A constant error counts for nothing: only differences between prompts do.

    Args:
        true: pass rates p, finite, shape (_B,), not all the same.
        predicted: V, finite, shape (_B,).

    Returns:
        The explained variance, in (-inf, 1].

    Raises:
        InvalidParameter: shapes differ, a value is not finite, or all of ``true`` are the same.

    Example:
        >>> round(explained_variance([0.1, 0.3, 0.5, 0.7, 0.9], [0.2, 0.3, 0.45, 0.6, 0.95]), 4)
        0.9375

    """
    p, v = np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if p.ndim != 1 or p.shape != v.shape or not (np.isfinite(p).all() and np.isfinite(v).all()):
        rule = "`true` and `predicted` of `explained_variance` must be finite, of one shape (prompts,)"
        raise InvalidParameter(f"{rule}; got {true!r} and {predicted!r}")
    if not p.size or np.ptp(p) == 0.0:
        raise InvalidParameter("`true` of `explained_variance` must hold two different values: they have no variance")
    return float(1.0 - np.var(p - v) / np.var(p))


def rollout_equivalent(p: ArrayLike, explained: float) -> float:
    """How many fresh rollouts a prompt would tell its pass rate as well: n = E[p(1 - p)] / ((1 - EV) · Var p).

    The mean of n rollouts explains 1 - E[p(1 - p)] / (n · Var p) of the variance of p; this is that, solved for n.

    Args:
        p: true pass rates in [0, 1], shape (_B,), not all the same.
        explained: EV, at most 1, measured against the true rates. A residual against the mean of N rollouts also holds
            their noise, E[p(1 - p)] / N: subtract it first.

    Returns:
        n ≥ 0; infinite for EV = 1.

    Raises:
        InvalidParameter: a value is out of range, or all of ``p`` are the same.

    Example:
        >>> round(rollout_equivalent([0.1, 0.3, 0.5, 0.7, 0.9], explained=0.9375), 2)
        34.0

    """
    rates = np.asarray(p, dtype=np.float64)
    if rates.ndim != 1 or not np.all((rates >= 0.0) & (rates <= 1.0)):
        raise InvalidParameter(f"`p` of `rollout_equivalent` must lie in [0, 1], shape (prompts,); got {p!r}")
    if isinstance(explained, bool) or not explained <= 1.0 or not np.isfinite(explained):
        raise InvalidParameter(f"`explained` of `rollout_equivalent` must be a float in (-inf, 1]; got {explained!r}")
    if not rates.size or np.ptp(rates) == 0.0:
        raise InvalidParameter("`p` of `rollout_equivalent` must hold two different values: they have no variance")
    residual = (1.0 - explained) * float(np.var(rates))
    return float(np.mean(rates * (1.0 - rates)) / residual) if residual > 0.0 else float("inf")
