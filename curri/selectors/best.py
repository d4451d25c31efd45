"""The best rows by a score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from curri.types import Floats, Ints

__all__ = ["best_rows"]


def best_rows(rows: Ints, scores: Floats, n: int) -> Ints:
    """The n rows with the highest scores, best first; ties fall to those that come first in ``rows``.

    A NaN counts as the lowest score.

    Args:
        rows: shape (m,), in an order that may decide ties (shuffle it for random ones).
        scores: shape (m,).
        n: how many, at most m.

    >>> best_rows(np.array([7, 8, 9]), np.array([0.5, np.nan, 0.5]), 2)
    array([7, 9])
    """
    if n <= 0:
        return rows[:0]
    if n < rows.size:
        worst = np.where(np.isnan(scores), -np.inf, scores)
        edge = np.partition(worst, rows.size - n)[rows.size - n]
        above = np.flatnonzero(worst > edge)
        level = np.flatnonzero(worst == edge)[: n - above.size]
        kept = np.sort(np.concatenate([above, level]))
        rows, scores = rows[kept], scores[kept]
    worst = np.where(np.isnan(scores), -np.inf, scores)
    return rows[np.argsort(-worst, kind="stable")]
