"""Several targets at once: the mixtures where one target can only gain at another's cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter
from curri.mixtures.optimise import candidate_pool, maximise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from curri.mixtures.constraints import Constraints
    from curri.mixtures.fits import Fits
    from curri.mixtures.targets import Target
    from curri.types import Bools, Floats, Ints

__all__ = ["TradeOff", "pareto_front", "trade_off"]


@dataclass(frozen=True, eq=False)
class TradeOff:
    """Points of the front, ordered by the first target, best first.

    Attributes:
        targets: names, T of them.
        weights: mixtures, shape (F, m).
        means: predicted scores, shape (F, T).
        stds: standard deviations of one run, shape (F, T).
        measured: the measured mixtures on their own front, as numbers into ``runs.distinct``.
        measured_means: their smoothed scores, shape (len(measured), T).
    """

    targets: tuple[str, ...]
    weights: Floats
    means: Floats
    stds: Floats
    measured: Ints
    measured_means: Floats


def pareto_front(gains: ArrayLike) -> Bools:
    """Which points no other point beats: none is at least as good everywhere and better somewhere.

    Args:
        gains: higher is better, finite, shape (R, T).

    Returns:
        Shape (R,).

    Example:
        >>> pareto_front([[1.0, 0.0], [0.0, 1.0], [0.0, 0.5]])
        array([ True,  True, False])

    """
    values = np.asarray(gains, dtype=np.float64)
    front = np.ones(len(values), dtype=bool)
    for row in np.argsort(-values.sum(axis=1), kind="stable"):
        if front[row]:
            beaten = (values <= values[row]).all(axis=1) & (values < values[row]).any(axis=1)
            front &= ~beaten
    return front


def trade_off(
    fits: Fits, targets: Sequence[Target], limits: Constraints, *, points: int = 12, seed: int = 0
) -> TradeOff:
    """The front of the predicted means, thinned to a few points that are spread over it.

    The best mixtures of weighted sums of the targets (each in units of its spread over the allowed mixtures) are joined
    with a pool of mixtures from everywhere, and what another point beats is left out.

    Args:
        fits: the surrogates.
        targets: at least two.
        limits: what is allowed.
        points: how many at most; the best mixture of each target is always among them.
        seed: of the draws.

    Raises:
        InvalidParameter: fewer than two targets, or fewer points than targets.
    """
    count = len(targets)
    if count < 2 or points < count:
        raise InvalidParameter(f"a trade-off takes 2 targets or more, and a point for each; got {count} and {points}")
    known = limits.bring(fits.runs.distinct)
    pool = candidate_pool(limits, known, seed=seed)
    scales = np.maximum(_gains(fits, targets, limits, pool).std(axis=0), 1e-12)
    rng = np.random.default_rng([seed, 2])
    mixes = np.vstack([np.eye(count), np.full((1, count), 1.0 / count), rng.dirichlet(np.ones(count), points)])
    found = [_best(fits, targets, limits, mix / scales, known) for mix in mixes]
    rows = np.vstack([*found, pool])
    values = _gains(fits, targets, limits, rows) / scales
    on_front = np.flatnonzero(pareto_front(values))
    kept = on_front[_thinned(values[on_front], points)]
    kept = kept[np.argsort(-values[kept, 0], kind="stable")]
    predictions = [fits.predict(target, rows[kept]) for target in targets]
    measured_values = _gains(fits, targets, limits, fits.runs.distinct)
    measured = np.flatnonzero(pareto_front(measured_values))
    return TradeOff(
        targets=tuple(target.name for target in targets),
        weights=rows[kept],
        means=np.column_stack([mean for mean, _ in predictions]),
        stds=np.column_stack([std for _, std in predictions]),
        measured=measured,
        measured_means=np.column_stack([fits.mean(target, fits.runs.distinct[measured]) for target in targets]),
    )


def _gains(fits: Fits, targets: Sequence[Target], limits: Constraints, rows: Floats) -> Floats:
    return np.column_stack([target.sign * fits.mean(target, rows) - limits.penalty(rows) for target in targets])


def _best(fits: Fits, targets: Sequence[Target], limits: Constraints, factors: Floats, known: Floats) -> Floats:
    def score(rows: Floats) -> Floats:
        return np.asarray(_gains(fits, targets, limits, rows) @ factors)

    return maximise(score, limits, known, count=1)[0]


def _thinned(values: Floats, points: int) -> list[int]:
    """The best of each column, then always the row that is farthest from those taken."""
    taken = list(dict.fromkeys(values.argmax(axis=0).tolist()))
    away = np.min([np.abs(values - values[row]).sum(axis=1) for row in taken], axis=0)
    while len(taken) < min(points, len(values)):
        farthest = int(np.argmax(away))
        if away[farthest] <= 0.0:
            break
        taken.append(farthest)
        away = np.minimum(away, np.abs(values - values[farthest]).sum(axis=1))
    return taken
