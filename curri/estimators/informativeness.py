"""How much a prompt's group of rewards says there is still to learn: the proxies of eva (arXiv 2411.00062)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from curri.types import Floats, Ints

__all__ = [
    "INFORMATIVENESS",
    "group_informativeness",
    "informativeness",
    "informativeness_weights",
    "topic_blend",
]


def informativeness(rewards: ArrayLike, kind: str = "min") -> Floats:
    """What the rewards r_1 … r_n of one prompt's responses say of how informative the prompt is.

    With r_(1) ≥ r_(2) ≥ … the sorted rewards (eva, arXiv 2411.00062, the table of proxies; names of the released code
    in brackets):

    * "min": A*_min = max r − min r (``reward_gap``), the paper's default offline;
    * "avg": A*_avg = max r − mean r (``reward_maxmean``), its default online;
    * "dts": A*_dts = r_(1) − r_(2) (``reward_dts``), best against second best;
    * "var": the population variance of r (``reward_var``);
    * "mean": mean r (``reward_mean``);
    * "inverse_mean": −mean r, whose min–max weight is 1 − minmax(mean r), as the code has it (``reward_mean_inv``);
    * "inverse_min": −(max r − min r), by analogy.

    A single response has no spread: "min", "avg", "dts" and "var" are then 0. They are exactly 0 for equal rewards too.

    With rewards of 0 and 1 and k of n solved: "min" is 1 for every mixed group, "avg" is 1 − k/n where k ≥ 1, "dts" is
    1 only for k = 1, "var" is k/n (1 − k/n). All are 0 for k = 0, though such a prompt may have the most to teach.

    The code's leave-one-out column (``reward_loo``) is refused: the mean over i of r_i − mean of the others is 0 for
    any rewards, so it would draw by rounding errors.

    Args:
        rewards: shape (…, n) with n ≥ 1, finite; one group along the last axis.
        kind: one of the names above.

    Returns:
        Shape (…).

    Raises:
        InvalidParameter: an unknown kind, no response, a reward that is not finite, or rewards of one group too far
            apart for a float.

    Example:
        >>> informativeness([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]], "avg")
        array([0.5 , 0.75, 0.  ])

    """
    values = _finite(rewards, "rewards", "informativeness")
    if values.ndim < 1 or not values.shape[-1]:
        raise InvalidParameter(
            f"`rewards` of `informativeness` must have shape (…, responses), at least one; got {values.shape}"
        )
    groups = values.shape[:-1]
    group_R = np.repeat(np.arange(int(np.prod(groups))), values.shape[-1])
    _, info, _ = group_informativeness(values.ravel(), group_R, kind)
    return info.reshape(groups)


def group_informativeness(
    rewards: ArrayLike, group: ArrayLike, kind: str = "min"
) -> tuple[NDArray[np.generic], Floats, Ints]:
    """:func:`informativeness` of groups of any sizes, from responses in long format.

    Args:
        rewards: shape (_R,), finite.
        group: shape (_R,), labels; equal labels form a group, wherever they stand.
        kind: as in :func:`informativeness`.

    Returns:
        The labels, ascending and distinct; the informativeness of each; its number of responses.

    Raises:
        InvalidParameter: as in :func:`informativeness`, or the shapes differ.

    Example:
        >>> group_informativeness([1.0, 0.0, 0.5], [7, 7, 3], "min")
        (array([3, 7]), array([0., 1.]), array([1, 2]))

    """
    measure = _measure(kind)
    rewards_R = _finite(rewards, "rewards", "group_informativeness")
    labels_R = np.asarray(group)
    if rewards_R.ndim != 1 or labels_R.shape != rewards_R.shape:
        raise InvalidParameter(
            "`rewards` and `group` of `group_informativeness` must have one entry a response each; "
            f"got {rewards_R.shape} and {labels_R.shape}"
        )
    labels, group_R, size = np.unique(labels_R, return_inverse=True, return_counts=True)
    with np.errstate(over="ignore", invalid="ignore"):
        info = measure(rewards_R, group_R, size)
    if not np.isfinite(info).all():
        raise InvalidParameter("`rewards` of one group must not lie further apart than a float can hold")
    return labels, info, size.astype(np.int64)


def informativeness_weights(info: ArrayLike, scale: str = "minmax") -> Floats:
    """Informativeness to the weights prompts are drawn with.

    "minmax" (the released code): (info − min) / (max − min), then divided by the sum; the least informative prompt
    always has weight 0. "proportional": info / Σ info. Where that is 0/0 (all equal, or all 0) the weights are
    uniform; the code divides and gets NaN.

    Args:
        info: shape (_P,), finite; at least 0 for "proportional".
        scale: "minmax" or "proportional".

    Returns:
        Weights that add up to 1, shape (_P,).

    Raises:
        InvalidParameter: an argument is out of range.

    Example:
        >>> informativeness_weights([0.0, 0.5, 1.0])
        array([0.        , 0.33333333, 0.66666667])
        >>> informativeness_weights([0.2, 0.2])
        array([0.5, 0.5])

    """
    values = _finite(info, "info", "informativeness_weights")
    if scale not in ("minmax", "proportional"):
        raise InvalidParameter(
            f'`scale` of `informativeness_weights` must be "minmax" or "proportional"; got {scale!r}'
        )
    if values.ndim != 1:
        raise InvalidParameter(f"`info` of `informativeness_weights` must have shape (prompts,); got {values.shape}")
    if scale == "proportional" and np.any(values < 0.0):
        raise InvalidParameter('`info` of `informativeness_weights` must be at least 0 for `scale` = "proportional"')
    if not values.size:
        return values
    largest = np.abs(values).max()
    above = values / largest if largest > 0.0 else values
    if scale == "minmax":
        above = above - above.min()
    total = above.sum()
    return above / total if total > 0.0 else np.full(values.shape, 1.0 / values.size)


def topic_blend(weights: ArrayLike, topics: ArrayLike, share: float = 0.25) -> Floats:
    """(1 − s) · w + s · u with u the inverse frequency of a prompt's topic, normalised (the code's ``iw_topic``).

    With c prompts of a topic and T topics, u = 1 / (T · c): each topic gets the same part of s.

    Args:
        weights: shape (_P,), finite, at least 0, with a sum of 1.
        topics: shape (_P,), labels.
        share: s in [0, 1]; the code has 0.25.

    Returns:
        Weights that add up to 1, shape (_P,).

    Raises:
        InvalidParameter: an argument is out of range.

    Example:
        >>> topic_blend([0.5, 0.5, 0.0], ["a", "a", "b"])
        array([0.4375, 0.4375, 0.125 ])

    """
    values = _finite(weights, "weights", "topic_blend")
    labels = np.asarray(topics)
    if isinstance(share, bool) or not 0.0 <= share <= 1.0:
        raise InvalidParameter(f"`share` of `topic_blend` must be a float in [0, 1]; got {share!r}")
    if values.ndim != 1 or labels.shape != values.shape or np.any(values < 0.0):
        raise InvalidParameter("`weights` and `topics` of `topic_blend` must have one entry a prompt, weights >= 0")
    if not values.size:
        return values
    _, topic, count = np.unique(labels, return_inverse=True, return_counts=True)
    return (1.0 - share) * values + share / (count.size * count[topic])


# ---- the proxies: rewards_R, group_R, size → one value a group ----------------------------------------------------


def _extremes(rewards: Floats, group: NDArray[np.intp], size: NDArray[np.intp]) -> tuple[Floats, Floats]:
    low, high = np.full(size.size, np.inf), np.full(size.size, -np.inf)
    np.minimum.at(low, group, rewards)
    np.maximum.at(high, group, rewards)
    return low, high


def _gap(rewards: Floats, group: NDArray[np.intp], size: NDArray[np.intp]) -> Floats:
    low, high = _extremes(rewards, group, size)
    return high - low


def _best_over_mean(rewards: Floats, group: NDArray[np.intp], size: NDArray[np.intp]) -> Floats:
    _, high = _extremes(rewards, group, size)
    return np.asarray(np.bincount(group, high[group] - rewards, size.size) / size)  # 0 exactly where all are equal


def _best_over_second(rewards: Floats, group: NDArray[np.intp], size: NDArray[np.intp]) -> Floats:
    ordered = rewards[np.lexsort((rewards, group))]
    last = np.cumsum(size) - 1
    return ordered[last] - ordered[np.where(size > 1, last - 1, last)]


def _variance(rewards: Floats, group: NDArray[np.intp], size: NDArray[np.intp]) -> Floats:
    low, _ = _extremes(rewards, group, size)
    above = rewards - low[group]
    centred = above - (np.bincount(group, above, size.size) / size)[group]
    return np.asarray(np.bincount(group, np.square(centred), size.size) / size)


def _mean(rewards: Floats, group: NDArray[np.intp], size: NDArray[np.intp]) -> Floats:
    return np.asarray(np.bincount(group, rewards, size.size) / size)


def _negative(
    measure: Callable[[Floats, NDArray[np.intp], NDArray[np.intp]], Floats],
) -> Callable[[Floats, NDArray[np.intp], NDArray[np.intp]], Floats]:
    return lambda rewards, group, size: 0.0 - measure(rewards, group, size)


_MEASURES: dict[str, Callable[[Floats, NDArray[np.intp], NDArray[np.intp]], Floats]] = {
    "min": _gap,
    "avg": _best_over_mean,
    "dts": _best_over_second,
    "var": _variance,
    "mean": _mean,
    "inverse_mean": _negative(_mean),
    "inverse_min": _negative(_gap),
}
INFORMATIVENESS: tuple[str, ...] = tuple(_MEASURES)
"""Kinds of informativeness."""


def _measure(kind: str) -> Callable[[Floats, NDArray[np.intp], NDArray[np.intp]], Floats]:
    if kind in ("loo", "leave_one_out", "reward_loo"):
        raise InvalidParameter(
            f'`kind` of `informativeness` cannot be "{kind}": the mean leave-one-out advantage is 0 for any rewards',
            hint='"avg" compares the best response with the mean of all',
        )
    if kind not in _MEASURES:
        allowed = ", ".join(f'"{name}"' for name in _MEASURES)
        hint = did_you_mean(kind, _MEASURES) if isinstance(kind, str) else None
        raise InvalidParameter(f"`kind` of `informativeness` must be one of {allowed}; got {kind!r}", hint=hint)
    return _MEASURES[kind]


def _finite(values: ArrayLike, name: str, function: str) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidParameter(f"`{name}` of `{function}` must be finite numbers; got {values!r}") from None
    if not np.isfinite(array).all():
        bad = np.flatnonzero(~np.isfinite(array)).tolist()
        raise InvalidParameter(f"`{name}` of `{function}` must be finite; not so at positions {bad[:8]}")
    return array + 0.0  # a copy, with one kind of zero
