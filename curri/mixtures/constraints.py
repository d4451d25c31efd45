"""Which mixtures may be chosen: caps, floors, epoch limits, a region that is trusted, and closeness to a prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter, unknown_name
from curri.mixtures.budget import weight_caps
from curri.mixtures.simplex import Metric, checked_mixtures, distances, kl_divergence, project

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from curri.types import Bools, Floats

__all__ = ["Constraints", "constraints"]

_SLACK = 1e-7
_HALVINGS = 40


@dataclass(frozen=True, eq=False)
class Constraints:
    """What a mixture must keep. Built by :func:`constraints`.

    Attributes:
        lower: floors, shape (m,).
        upper: caps, epoch limits included, shape (m,).
        prior: a mixture to stay near, shape (m,), or None.
        kl: λ of the penalty λ·KL(w ‖ prior) on the target, at least 0.
        radius: how far from the nearest centre a mixture may be, in (0, 1], or None.
        metric: "tv" (total variation) or "hellinger".
        centres: what the radius is measured from, shape (K, m), or None.
        anchors: for each centre an allowed mixture inside the radius, on the way to which everything is allowed; the
            centre itself where it keeps the bounds; shape (K, m), or None.
    """

    lower: Floats
    upper: Floats
    prior: Floats | None = None
    kl: float = 0.0
    radius: float | None = None
    metric: Metric = "tv"
    centres: Floats | None = None
    anchors: Floats | None = None

    @property
    def m(self) -> int:
        """How many arms."""
        return len(self.lower)

    @property
    def bounded(self) -> bool:
        """Whether there is more to keep than w ≥ 0."""
        return bool(np.any(self.lower > 0.0) or np.any(self.upper < 1.0) or self.radius is not None or self.kl > 0.0)

    def allow(self, weights: ArrayLike) -> Bools:
        """Which mixtures keep the bounds and the radius (to 1e-7), shape (R,)."""
        rows = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        inside = ((rows >= self.lower - _SLACK) & (rows <= self.upper + _SLACK)).all(axis=1)
        if self.radius is not None and self.centres is not None:
            inside &= distances(rows, self.centres, self.metric).min(axis=1) <= self.radius + _SLACK
        return np.asarray(inside)

    def bring(self, weights: ArrayLike) -> Floats:
        """Mixtures moved to where they are allowed: onto the bounds, then towards the nearest centre; shape (R, m)."""
        rows = project(weights, self.lower, self.upper)
        if self.radius is None or self.centres is None or self.anchors is None:
            return rows
        away = distances(rows, self.centres, self.metric)
        outside = np.flatnonzero(away.min(axis=1) > self.radius)
        if len(outside):
            nearest = away[outside].argmin(axis=1)
            rows[outside] = self._on_the_way(self.anchors[nearest], rows[outside], self.centres[nearest])
        return rows

    def _on_the_way(self, anchors: Floats, rows: Floats, centres: Floats) -> Floats:
        """The last points on the straight ways from the anchors to the rows that are inside the radius, by bisection.

        What is within a distance of a centre is convex, so all points before the last one are inside too.
        """
        low, high = np.zeros(len(rows)), np.ones(len(rows))
        for _ in range(_HALVINGS):
            middle = (low + high) / 2.0
            there = anchors + middle[:, None] * (rows - anchors)
            near = _paired(there, centres, self.metric) <= (self.radius or 0.0)
            low, high = np.where(near, middle, low), np.where(near, high, middle)
        return np.asarray(anchors + low[:, None] * (rows - anchors))

    def penalty(self, weights: ArrayLike) -> Floats:
        """λ·KL(w ‖ prior) of each mixture, shape (R,)."""
        rows = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        if self.kl == 0.0 or self.prior is None:
            return np.zeros(len(rows))
        return np.asarray(self.kl * kl_divergence(rows, self.prior))


def _paired(a: Floats, b: Floats, metric: Metric) -> Floats:
    """Distance between each row of a and the same row of b."""
    if metric == "tv":
        return np.asarray(np.abs(a - b).sum(axis=1) / 2.0)
    return np.asarray(np.sqrt(np.square(np.sqrt(a) - np.sqrt(b)).sum(axis=1) / 2.0))


def constraints(
    arms: Sequence[str],
    *,
    caps: Mapping[str, float] | None = None,
    floors: Mapping[str, float] | None = None,
    sizes: Mapping[str, float] | None = None,
    prompts: float | None = None,
    max_epochs: float = 1.0,
    prior: ArrayLike | None = None,
    kl: float = 0.0,
    radius: float | None = None,
    metric: Metric = "tv",
    centres: ArrayLike | None = None,
) -> Constraints:
    """Constraints from named numbers.

    Args:
        arms: names of the arms, in order.
        caps: arm → largest weight, in [0, 1].
        floors: arm → smallest weight, in [0, 1].
        sizes: arm → prompts in the dataset; with ``prompts`` this caps the arm at max_epochs · size / prompts.
        prompts: prompts that the whole training run consumes.
        max_epochs: how often a dataset may be gone through.
        prior: the mixture to stay near: that of the penalty, and the centre of the radius when no others are given.
        kl: λ ≥ 0, in units of the target: how much of it a nat of divergence from the prior costs (Olmix: 0.05). Above
            0, arms that the prior lacks get nothing: the divergence would be infinite.
        radius: trust region: how far from the nearest centre a mixture may be, in (0, 1]. Centres count where they are,
            also outside the bounds; those too far from the bounds for any allowed mixture drop out.
        metric: of the radius, "tv" or "hellinger".
        centres: mixtures that are trusted, such as the measured ones, shape (K, m).

    Raises:
        UnknownName: a name is no arm.
        InvalidParameter: a number is out of range, something lacks its partner, or no mixture keeps all bounds.

    Example:
        >>> constraints(["a", "b"], sizes={"a": 500}, prompts=1000, max_epochs=1.5).upper
        array([0.75, 1.  ])

    """
    lower, upper = _by_arm(arms, floors, 0.0, "floors"), _by_arm(arms, caps, 1.0, "caps")
    if sizes is not None:
        if prompts is None:
            raise InvalidParameter(
                "`sizes` limit epochs only with `prompts`, the number that the training run consumes"
            )
        upper = np.minimum(upper, weight_caps(_by_arm(arms, sizes, np.inf, "sizes"), prompts, max_epochs=max_epochs))
    near = None if prior is None else checked_mixtures(prior, owner="prior", arms=len(arms))[0]
    if not 0.0 <= kl < np.inf or (kl > 0.0 and near is None):
        raise InvalidParameter(f"`kl` must be a float in [0, inf), and needs a prior; got {kl!r}")
    if kl > 0.0 and near is not None:
        upper = np.where(near > 0.0, upper, 0.0)
    _refuse_empty(arms, lower, upper)
    if radius is None:
        return Constraints(lower, upper, near, float(kl))
    if not 0.0 < radius <= 1.0:
        raise InvalidParameter(f"`radius` must be a float in (0, 1]; got {radius!r}")
    around = near if centres is None else checked_mixtures(centres, owner="centres", arms=len(arms))
    if around is None:
        raise InvalidParameter("`radius` needs mixtures to measure from: `centres` or a `prior`")
    # The mixture within the bounds that is nearest to a centre in the Euclidean sense is so in total variation too.
    anchors = project(around, lower, upper)
    apart = _paired(anchors, around, metric)
    near_enough = apart <= radius + _SLACK
    if not near_enough.any():
        raise InvalidParameter(
            f"no mixture keeps the bounds and is within {radius:g} of one that is trusted; the nearest is "
            f"{apart.min():.3g} away",
            hint="widen the radius or the bounds",
        )
    return Constraints(lower, upper, near, float(kl), float(radius), metric, around[near_enough], anchors[near_enough])


def _by_arm(arms: Sequence[str], given: Mapping[str, float] | None, default: float, what: str) -> Floats:
    found = np.full(len(arms), default)
    for name, value in (given or {}).items():
        if name not in arms:
            raise unknown_name("arm", name, arms)
        most = np.inf if what == "sizes" else 1.0
        if not 0.0 <= value <= most:
            allowed = "[0, inf]" if what == "sizes" else "[0, 1]"
            raise InvalidParameter(f'`{what}` of "{name}" must be a float in {allowed}; got {value!r}')
        found[list(arms).index(name)] = value
    return found


def _refuse_empty(arms: Sequence[str], lower: Floats, upper: Floats) -> None:
    crossed = np.flatnonzero(lower > upper)
    if len(crossed):
        arm = int(crossed[0])
        raise InvalidParameter(
            f'the floor of "{arms[arm]}" ({lower[arm]:.4g}) is above its cap ({upper[arm]:.4g}), epochs included'
        )
    if lower.sum() > 1.0 + _SLACK:
        raise InvalidParameter(f"the floors sum to {lower.sum():.4g}, more than a mixture's 1")
    if upper.sum() < 1.0 - _SLACK:
        raise InvalidParameter(
            f"the caps, epochs included, sum to {upper.sum():.4g}, less than a mixture's 1",
            hint="allow more epochs, train on fewer prompts, or raise a cap",
        )
