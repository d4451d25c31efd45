"""What a surrogate is fitted to: one row a distinct mixture, with how certain its score is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter
from curri.mixtures.noise import within_groups
from curri.mixtures.runs import distinct_rows
from curri.mixtures.simplex import checked_mixtures

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Bools, Floats, Ints

__all__ = ["Sample", "collapse"]

SMALLEST = 1e-70
"""Scores that differ by less are the same: no square of a squared difference must vanish."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Runs with replicates put together; rows are sorted by their weights, so the order of the runs does not matter.

    Attributes:
        weights: distinct mixtures, shape (D, m).
        scores: mean score of each, shape (D,).
        counts: how many runs are behind it, shape (D,), ≥ 1.
        known_variance: mean squared standard error of its runs, shape (D,); zeros where none were given.
        squares: sum of squares of replicates around their mixtures' means.
        degrees: degrees of freedom of ``squares``.
        index: which row each run went to, shape (R,).
        run_scores: the scores as they came, shape (R,).
        run_variance: squared standard errors as they came, shape (R,).
    """

    weights: Floats
    scores: Floats
    counts: Floats
    known_variance: Floats
    squares: float
    degrees: int
    index: Ints
    run_scores: Floats
    run_variance: Floats

    @property
    def m(self) -> int:
        """How many arms."""
        return int(self.weights.shape[1])

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def constant(self) -> bool:
        """Whether all scores are the same."""
        return bool(np.ptp(self.run_scores) <= max(1e-12 * float(np.abs(self.run_scores).max()), SMALLEST))

    def scaled(self, location: float, scale: float) -> Sample:
        """The same with (score - location) / scale."""
        return dataclasses.replace(
            self,
            scores=(self.scores - location) / scale,
            known_variance=self.known_variance / scale**2,
            squares=self.squares / scale**2,
            run_scores=(self.run_scores - location) / scale,
            run_variance=self.run_variance / scale**2,
        )

    def take(self, rows: Bools) -> Sample:
        """The distinct mixtures where ``rows`` is true, as a sample of its own; replicates' squares are kept."""
        place = np.cumsum(rows) - 1
        runs = rows[self.index]
        return Sample(
            self.weights[rows],
            self.scores[rows],
            self.counts[rows],
            self.known_variance[rows],
            self.squares,
            self.degrees,
            place[self.index[runs]],
            self.run_scores[runs],
            self.run_variance[runs],
        )


def collapse(weights: ArrayLike, scores: ArrayLike, errors: ArrayLike | None, *, owner: str) -> Sample:
    """Checked runs as a :class:`Sample`.

    Args:
        weights: shape (R, m).
        scores: shape (R,), finite.
        errors: standard errors, shape (R,), finite, ≥ 0; or None.
        owner: who asks, for messages.

    Raises:
        InvalidParameter: shapes differ or a number is out of range.

    Example:
        >>> sample = collapse([[1, 0], [0, 1], [1, 0]], [0.2, 0.5, 0.4], None, owner="demo")
        >>> sample.scores.round(2), sample.counts
        (array([0.5, 0.3]), array([1., 2.]))

    """
    rows = checked_mixtures(weights, owner=owner)
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(rows),) or not np.isfinite(values).all() or not len(values):
        raise InvalidParameter(f"scores of `{owner}` must be finite, one a run, shape ({len(rows)},); got {scores!r}")
    known = np.zeros(len(rows)) if errors is None else np.asarray(errors, dtype=np.float64)
    if known.shape != values.shape or not np.isfinite(known).all() or np.any(known < 0.0):
        raise InvalidParameter(f"standard errors of `{owner}` must be finite and at least 0, one a run; got {errors!r}")
    distinct, mixture = distinct_rows(rows)
    order = np.lexsort(distinct.T[::-1])
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    index = place[mixture]
    # Sums run over the runs of a mixture in order of their scores, so that the order of the runs changes no bit.
    by_score = np.lexsort((known, values, index))
    counts = np.bincount(index).astype(np.float64)
    squares, degrees = within_groups(values[by_score], index[by_score])
    return Sample(
        weights=distinct[order],
        scores=np.bincount(index[by_score], weights=values[by_score]) / counts,
        counts=counts,
        known_variance=np.bincount(index[by_score], weights=known[by_score] ** 2) / counts,
        squares=squares,
        degrees=degrees,
        index=index,
        run_scores=values,
        run_variance=known**2,
    )
