"""What each dataset does to each target, and which runs would tell more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter
from curri.mixtures.optimise import candidate_pool
from curri.mixtures.simplex import checked_mixtures, total_variation

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.mixtures.constraints import Constraints
    from curri.mixtures.fits import Fits
    from curri.mixtures.targets import Target
    from curri.types import Floats

__all__ = ["Effects", "arm_path", "effects", "next_runs"]

_APART = 0.05
_POOL = 600


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """Change of a target when an arm's share grows and all others shrink in proportion.

    Attributes:
        share: by how much the arm's share grows.
        change: shape (m,), in units of the target; above 0 means that the score rises, good or not.
        std: standard deviation of that change, without the noise of runs, shape (m,).
    """

    share: float
    change: Floats
    std: Floats


def arm_path(base: ArrayLike, arm: int, shares: ArrayLike) -> Floats:
    """The base mixture with another share of one arm; the others keep their proportions.

    Args:
        base: shape (m,). Where it is that arm alone, the others share alike.
        arm: which arm.
        shares: its shares, in [0, 1], shape (S,).

    Returns:
        Shape (S, m).

    Example:
        >>> arm_path([0.5, 0.25, 0.25], 0, [0.0, 1.0])
        array([[0. , 0.5, 0.5],
               [1. , 0. , 0. ]])

    """
    start = checked_mixtures(base, owner="arm_path")[0]
    wanted = np.asarray(shares, dtype=np.float64)
    if not ((wanted >= 0.0) & (wanted <= 1.0)).all():
        raise InvalidParameter(f"`shares` of `arm_path` must be in [0, 1]; got {shares!r}")
    others = np.where(np.arange(len(start)) == arm, 0.0, start)
    if others.sum() <= 0.0:
        others = np.where(np.arange(len(start)) == arm, 0.0, 1.0)
    others /= max(float(others.sum()), 1e-300)
    path = (1.0 - wanted)[:, None] * others
    path[:, arm] = wanted if len(start) > 1 else 1.0
    return np.asarray(path)


def effects(fits: Fits, target: Target, base: ArrayLike, *, share: float = 0.1) -> Effects:
    """What ``share`` more of each arm does to a target, starting from a mixture.

    Args:
        fits: the surrogates.
        target: which target.
        base: the mixture to start from, shape (m,).
        share: in (0, 1]; an arm that has more than 1 - share of the base only grows to 1.

    Raises:
        InvalidParameter: ``share`` is out of range.
    """
    if not 0.0 < share <= 1.0:
        raise InvalidParameter(f"`share` of `effects` must be a float in (0, 1]; got {share!r}")
    start = checked_mixtures(base, owner="effects", arms=fits.runs.m)[0]
    moved = np.vstack([arm_path(start, arm, [min(1.0, start[arm] + share)]) for arm in range(len(start))])
    means, covariance = fits.joint(target, np.vstack([start, moved]))
    variance = np.diag(covariance)[1:] + covariance[0, 0] - 2.0 * covariance[0, 1:]
    return Effects(share, means[1:] - means[0], np.sqrt(np.maximum(variance, 0.0)))


def next_runs(fits: Fits, target: Target, limits: Constraints, count: int = 4, *, seed: int = 0) -> Floats:
    """Mixtures that are worth a run: each is the best one in a draw of what the target may look like (Thompson).

    Where the surrogate is sure the draws agree on the optimum; where it is not they spread out. Mixtures closer than
    0.05 (total variation) to one that was suggested already are passed over.

    Args:
        fits: the surrogates.
        target: what to raise or lower.
        limits: what is allowed.
        count: how many, at least 1.
        seed: of the draws.

    Returns:
        Shape (at most count, m).

    Raises:
        InvalidParameter: ``count`` is below 1.
    """
    if count < 1:
        raise InvalidParameter(f"`count` of `next_runs` must be at least 1; got {count!r}")
    pool = candidate_pool(limits, limits.bring(fits.runs.distinct), seed=seed)
    worth = target.sign * fits.mean(target, pool) - limits.penalty(pool)
    uncertain = fits.predict(target, pool, noise=False)[1]
    pool = pool[np.argsort(-(worth + 2.0 * uncertain), kind="stable")[:_POOL]]
    means, covariance = fits.joint(target, pool)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2.0)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    rng = np.random.default_rng([seed, 3])
    found: list[Floats] = []
    for _ in range(8 * count):
        draw = target.sign * (means + root @ rng.standard_normal(len(means))) - limits.penalty(pool)
        for row in np.argsort(-draw, kind="stable"):
            if not found or total_variation(pool[row], np.array(found)).min() >= _APART:
                found.append(pool[row])
                break
        if len(found) == count:
            break
    return np.array(found)
