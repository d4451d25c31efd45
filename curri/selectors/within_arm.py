"""A uniform draw of some rows out of many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from curri.types import Bools, Ints


def uniform_rows(rows: Ints, k: int, rng: np.random.Generator, excluded: Ints) -> Ints:
    """``k`` distinct entries of ``rows``, every subset equally likely, none of ``excluded``.

    Costs O(k + excluded), whatever the size of ``rows``: a uniform draw of k + e rows, with the excluded ones struck
    out, is a uniform draw of the rest.

    Args:
        rows: distinct, ascending, shape (m,).
        k: how many, at most m minus the excluded ones among ``rows``.
        rng: the generator to draw with.
        excluded: distinct, ascending.

    >>> sorted(uniform_rows(np.arange(5), 3, np.random.default_rng(0), np.array([0, 4])).tolist())
    [1, 2, 3]
    """
    if not k:
        return np.empty(0, dtype=np.int64)
    spare = int(np.count_nonzero(_among(excluded, rows))) if excluded.size else 0
    drawn = rows[rng.choice(rows.size, k + spare, replace=False)]
    if spare:
        drawn = drawn[~_among(drawn, excluded)]
    return drawn[:k]


def _among(values: Ints, ascending: Ints) -> Bools:
    """Which values are in an ascending, non-empty array; without sorting it as ``np.isin`` does."""
    return np.asarray(ascending.take(ascending.searchsorted(values), mode="clip") == values)
