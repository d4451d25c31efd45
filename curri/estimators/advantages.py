"""Advantages of responses within their group."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from curri.types import Floats

__all__ = ["group_advantages"]


def group_advantages(
    rewards: ArrayLike,
    group: ArrayLike,
    normalize_std: bool = True,  # noqa: FBT001, FBT002  the design fixes the signature
    epsilon: float = 1e-6,
) -> Floats:
    """(r - mean) / (std + ε) within each group: the advantage of GRPO (DeepSeekMath, arXiv 2402.03300).

    The standard deviation is the sample's (ddof 1). As in verl, a group of one response has mean 0 and standard
    deviation 1, so its advantage is r / (1 + ε). Groups of two or more equal rewards give exactly 0.0.

    Args:
        rewards: shape (_R,), finite.
        group: shape (_R,), labels (integers or strings); equal labels form a group, wherever they stand.
        normalize_std: False leaves the division out (Dr. GRPO).
        epsilon: ε, finite, at least 0.

    Returns:
        Advantages, shape (_R,), in the order given.

    Raises:
        InvalidParameter: a reward is not finite, the shapes differ, or rewards of one group lie further apart than
            a float can hold.

    Example:
        >>> group_advantages([1.0, 0.0, 2.0, 2.0], ["p", "p", "q", "q"], normalize_std=False)
        array([ 0.5, -0.5,  0. ,  0. ])

    """
    rewards_R, labels_R = np.asarray(rewards, dtype=np.float64), np.asarray(group)
    if isinstance(epsilon, bool) or not 0.0 <= epsilon < math.inf:
        raise InvalidParameter(f"`epsilon` of `group_advantages` must be a float in [0, inf); got {epsilon!r}")
    if rewards_R.ndim != 1 or not np.isfinite(rewards_R).all():
        bad = np.flatnonzero(~np.isfinite(rewards_R)).tolist()
        raise InvalidParameter(f"`rewards` must be finite, shape (responses,); not so at positions {bad[:8]}")
    if labels_R.shape != rewards_R.shape:
        raise InvalidParameter(f"`group` must have shape {rewards_R.shape}; got {labels_R.shape}")
    if not len(rewards_R):
        return rewards_R.copy()
    group_R, size = _numbered(labels_R)
    centred, spread = _centred(rewards_R, group_R, size)
    single = size[group_R] == 1
    if not normalize_std:
        return np.where(single, rewards_R, centred * spread[group_R])
    squares = np.bincount(group_R, np.square(centred))
    with np.errstate(over="ignore"):  # ε over a tiny range is infinite, and the advantage 0
        scale = np.sqrt(squares / np.maximum(size - 1, 1)) + epsilon / spread
    scale[squares == 0.0] = 1.0
    return np.where(single, rewards_R / (1.0 + epsilon), centred / scale[group_R])


def _numbered(labels_R: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The number of each response's group, and the sizes of the groups."""
    if np.count_nonzero(labels_R[1:] < labels_R[:-1]):
        _, group_R, size = np.unique(labels_R, return_inverse=True, return_counts=True)
        return group_R, size
    begins = np.zeros(labels_R.size, dtype=np.intp)  # labels in ascending order, as those of evidence are
    begins[1:] = labels_R[1:] != labels_R[:-1]
    group_R = begins.cumsum()
    return group_R, np.bincount(group_R)


def _centred(rewards_R: Floats, group_R: NDArray[np.intp], size: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Rewards less their group's mean, in units of the group's range, and that range (1 where it is 0).

    Small differences of large rewards stay exact, and squares neither overflow nor vanish.
    """
    low = np.full(len(size), np.inf)
    high = np.full(len(size), -np.inf)
    np.minimum.at(low, group_R, rewards_R)
    np.maximum.at(high, group_R, rewards_R)
    with np.errstate(over="ignore"):
        spread = high - low
    if not np.isfinite(spread).all():
        raise InvalidParameter("`rewards` of one group must not lie further apart than a float can hold")
    spread[spread == 0.0] = 1.0
    above = (rewards_R - low[group_R]) / spread[group_R]
    return above - (np.bincount(group_R, above) / size)[group_R], spread
