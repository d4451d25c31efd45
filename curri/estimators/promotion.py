"""Variance promotion: how promising a prompt is by the variance of its outcomes and the diversity of its responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats

__all__ = ["Normalize", "momentum_weights", "outcome_variance", "variance_promotion_weights"]

Normalize: TypeAlias = Literal["minmax", "none"]

_EPSILON = 1e-8


def outcome_variance(rewards: ArrayLike) -> Floats:
    """P(1 - P) of the pass rate P: the outcome variance score OVS of VAS (arXiv 2509.21268).

    Fractions are averaged first, as in the released code, so for them it is the largest variance that their mean allows
    and not their own.

    Args:
        rewards: right (1) or wrong (0), or in between, shape (…, rollouts), at least one rollout.

    Returns:
        In [0, 0.25], shape (…): a scalar for the rewards of one prompt.

    Raises:
        InvalidParameter: a value outside [0, 1], or no rollout.

    Example:
        >>> outcome_variance([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
        array([0.1875, 0.25  , 0.    ])
        >>> float(outcome_variance([0.5, 1.0, 0.0, 0.5]))
        0.25

    """
    values = np.asarray(rewards, dtype=np.float64)
    if values.ndim < 1 or not values.shape[-1] or not np.all((values >= 0.0) & (values <= 1.0)):
        rule = "`rewards` of `outcome_variance` must be floats in [0, 1], shape (..., rollouts)"
        raise InvalidParameter(f"{rule}, with one rollout or more; got {rewards!r}")
    rate = np.asarray(values.mean(axis=-1))
    return np.asarray(rate * (1.0 - rate))


def variance_promotion_weights(metrics: ArrayLike, weights: ArrayLike, normalize: Normalize = "minmax") -> Floats:
    """Σ_m w_m · metric_m for each prompt, brought to [0, 1] over all prompts: the score VPS of VAS.

    With v for that sum, "minmax" (the released code) gives (v - min v) / (max v - min v + 1e-8): the lowest prompt has
    weight 0, and all have weight 0 where all are alike. "none" (the paper, arXiv 2509.21268) gives v itself. A prompt
    with a NaN among its metrics has weight NaN and does not count for the smallest and largest v.

    Args:
        metrics: shape (metrics, prompts), finite, or NaN where unknown.
        weights: shape (metrics,), finite, of any sign: α and β in the paper.
        normalize: "minmax" or "none".

    Returns:
        Shape (prompts,).

    Raises:
        InvalidParameter: shapes do not fit, or a value is not finite.

    Example:
        >>> variance_promotion_weights([[0.0, 0.25, 0.25], [0.1, 0.1, 0.9]], [0.8, 0.2]).round(4)
        array([0.    , 0.5556, 1.    ])

    """
    values, factors = np.asarray(metrics, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if normalize not in get_args(Normalize):
        rule = '`normalize` of `variance_promotion_weights` must be "minmax" or "none"'
        raise InvalidParameter(f"{rule}; got {normalize!r}")
    if values.ndim != 2 or np.isinf(values).any():
        rule = "`metrics` of `variance_promotion_weights` must be finite or NaN, shape (metrics, prompts)"
        raise InvalidParameter(f"{rule}; got {metrics!r}")
    if factors.shape != values.shape[:1] or not np.isfinite(factors).all():
        rule = f"`weights` of `variance_promotion_weights` must be {values.shape[0]} finite floats, one a metric"
        raise InvalidParameter(f"{rule}; got {weights!r}")
    score = np.zeros(values.shape[1])
    for factor, metric in zip(factors.tolist(), values, strict=True):  # one after another: the same sum for any width
        score += factor * metric
    if normalize == "none" or np.isnan(score).all():
        return score
    low, high = np.fmin.reduce(score), np.fmax.reduce(score)
    return np.asarray((score - low) / (high - low + _EPSILON))


def momentum_weights(old: ArrayLike, new: ArrayLike, momentum: float) -> Floats:
    """Old and new weights mixed, m · old + (1 - m) · new; where there is no old weight (NaN), the new one.

    As in the released code of VAS, m is the share of the *old* weights: 0 forgets them, and 1 would keep the first ones
    for ever.

    Args:
        old: shape (prompts,), NaN for a prompt scored for the first time.
        new: shape (prompts,).
        momentum: m, in [0, 1).

    Raises:
        InvalidParameter: ``momentum`` is out of range.

    Example:
        >>> momentum_weights([0.0, 1.0, np.nan], [1.0, 0.0, 0.5], 0.75)
        array([0.25, 0.75, 0.5 ])

    """
    if isinstance(momentum, bool) or not 0.0 <= momentum < 1.0:
        raise InvalidParameter(f"`momentum` of `momentum_weights` must be a float in [0, 1); got {momentum!r}")
    before, after = np.asarray(old, dtype=np.float64), np.asarray(new, dtype=np.float64)
    return np.where(np.isnan(before), after, momentum * before + (1.0 - momentum) * after)
