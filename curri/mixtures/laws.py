"""Closed forms of other mixture methods, to compare with and to check by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats

__all__ = ["aioli_update", "bimix_law", "data_mixing_law"]


def data_mixing_law(weights: ArrayLike, c: float, k: float, t: ArrayLike) -> Floats:
    """L(w) = c + k·exp(Σ_j t_j w_j), the loss of one validation domain (Data Mixing Laws).

    Args:
        weights: shape (m,) or (R, m).
        c: the loss that no mixture removes.
        k: scale.
        t: effect of each arm, shape (m,); negative helps.

    Returns:
        Shape () or (R,).

    Example:
        >>> data_mixing_law([0.5, 0.5], 1.0, 1.0, [0.0, 0.0]).item()
        2.0

    """
    return np.asarray(c + k * np.exp(np.asarray(weights, dtype=float) @ np.asarray(t, dtype=float)))


def aioli_update(weights: ArrayLike, loss_drops: ArrayLike, *, rate: float = 0.2) -> Floats:
    """One step of Aioli: w_j ← w_j·exp(η Σ_i A_ij) / Z, with A = the loss drops, shifted to ≥ 0, over their total.

    Args:
        weights: the mixture so far, shape (m,).
        loss_drops: A_ij = drop of validation loss i after training on arm j, shape (losses, m).
        rate: η > 0; 0.1 to 0.5 in the authors' code.

    Returns:
        The next mixture, shape (m,).

    Raises:
        InvalidParameter: shapes differ, or η is not positive.

    Example:
        >>> aioli_update([0.5, 0.5], [[0.4, 0.1], [0.05, 0.2]]).round(3)
        array([0.51, 0.49])

    """
    mixture, drops = np.asarray(weights, dtype=np.float64), np.asarray(loss_drops, dtype=np.float64)
    if drops.ndim != 2 or mixture.shape != drops.shape[1:]:
        raise InvalidParameter(f"`loss_drops` must have shape (losses, {mixture.size}); got {drops.shape}")
    if not 0.0 < rate < np.inf:
        raise InvalidParameter(f"`rate` of `aioli_update` must be a float in (0, inf); got {rate!r}")
    shifted = drops - min(0.0, float(drops.min()))
    total = shifted.sum()
    gains = (shifted / total if total > 0 else shifted).sum(axis=0)
    raised = mixture * np.exp(rate * (gains - gains.max()))
    return np.asarray(raised / raised.sum())


def bimix_law(
    share: ArrayLike, steps: ArrayLike, *, scale: tuple[float, float], power: tuple[float, float], rest: float
) -> Floats:
    """L(r, s) = (A / r^α)·(B / s^β + C), the loss of a domain with share r after s steps (BiMix).

    Args:
        share: r > 0.
        steps: s > 0.
        scale: (A, B).
        power: (α, β).
        rest: C.

    Returns:
        The shape of ``share`` and ``steps``, broadcast.

    Example:
        >>> bimix_law(1.0, 1.0, scale=(2.0, 3.0), power=(0.1, 0.2), rest=1.0).item()
        8.0

    """
    r, s = np.asarray(share, dtype=np.float64), np.asarray(steps, dtype=np.float64)
    return np.asarray(scale[0] / r ** power[0] * (scale[1] / s ** power[1] + rest))
