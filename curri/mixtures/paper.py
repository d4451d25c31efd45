"""MoDoMoDo's model-based search, Algorithm 4 as printed (arXiv 2505.24871): to compare with, not to decide by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidData, InvalidParameter
from curri.mixtures.simplex import checked_mixtures

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats

__all__ = ["PaperSearch", "paper_search"]

SPLITS = 5
_TEST_SHARE = 0.2
_TRIES = 200


@dataclass(frozen=True, slots=True, eq=False)
class PaperSearch:
    """What Algorithm 4 returns.

    Attributes:
        weights: its candidates, best prediction first, shape (at most top, m).
        predictions: predicted scores, shape (at most top,).
        a: constant of the fit that was kept.
        b: its linear part, shape (m,).
        C: its quadratic part, shape (m, m).
        test_r2: R² of each split's fit on its own test rows, shape (splits,). The best is chosen by the very rows that
            it is judged by, so it flatters: on pure noise it is above 0 in one of seven searches.
    """

    weights: Floats
    predictions: Floats
    a: float
    b: Floats
    C: Floats
    test_r2: Floats


def paper_search(
    weights: ArrayLike, scores: ArrayLike, *, splits: int = SPLITS, samples: int = 10_000, top: int = 10, seed: int = 42
) -> PaperSearch:
    """Fit a quadratic to five random 80/20 splits, keep the best on its test rows, rank draws from one Gaussian by it.

    Least squares on [1, w, w ⊗ w] (of minimum norm, since only m(m + 1)/2 columns are independent), the fit with the
    best test R², one Gaussian with the mean and covariance of the observed mixtures, draws with a negative entry
    dropped, the rest divided by their sum, the highest predictions returned. The paper's prose calls this CMA-ES; the
    algorithm has neither an evolution loop nor an adapted covariance. ``samples`` is not printed.

    Args:
        weights: shape (R, m).
        scores: higher is better, finite, shape (R,).
        splits: random 80/20 splits.
        samples: draws that are kept before ranking.
        top: how many candidates to return; 10 in the paper.
        seed: of splits and draws; 42 in the paper's training runs.

    Raises:
        InvalidParameter: a number is out of range or shapes differ.
        InvalidData: fewer than 5 runs, or the Gaussian never hits the simplex.

    Example:
        >>> rows = np.array([[1, 0], [0, 1], [0.5, 0.5], [0.3, 0.7], [0.7, 0.3], [0.1, 0.9]])
        >>> found = paper_search(rows, 1.0 - (rows[:, 0] - 0.5) ** 2, top=1)
        >>> bool(abs(found.weights[0, 0] - 0.5) < 0.05)
        True

    """
    rows = checked_mixtures(weights, owner="paper_search")
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(rows),) or not np.isfinite(values).all():
        raise InvalidParameter("`scores` of `paper_search` must be finite, one a run")
    if min(splits, samples, top) < 1:
        raise InvalidParameter("`splits`, `samples` and `top` of `paper_search` must be at least 1")
    if len(rows) < 5:
        raise InvalidData(f"the paper's search needs at least 5 runs for its 80/20 splits; there are {len(rows)}")
    rng = np.random.default_rng(seed)
    fits = [_one_split(rows, values, rng) for _ in range(splits)]
    r2 = np.array([each[0] for each in fits])
    coefficients = fits[int(np.argmax(r2))][1]
    draws = _draws(rows, samples, rng)
    predictions = _columns(draws) @ coefficients
    best = np.argsort(-predictions, kind="stable")[:top]
    m = rows.shape[1]
    square = coefficients[1 + m :].reshape(m, m)
    return PaperSearch(draws[best], predictions[best], float(coefficients[0]), coefficients[1 : 1 + m], square, r2)


def _columns(rows: Floats) -> Floats:
    """[1, w, w ⊗ w], shape (R, 1 + m + m²)."""
    outer = (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
    return np.hstack([np.ones((len(rows), 1)), rows, outer])


def _one_split(rows: Floats, values: Floats, rng: np.random.Generator) -> tuple[float, Floats]:
    order = rng.permutation(len(rows))
    held = max(1, round(_TEST_SHARE * len(rows)))
    test, train = order[:held], order[held:]
    coefficients: Floats = np.linalg.lstsq(_columns(rows[train]), values[train], rcond=None)[0].astype(np.float64)
    errors = float(np.square(values[test] - _columns(rows[test]) @ coefficients).sum())
    spread = float(np.square(values[test] - values[test].mean()).sum())
    return (1.0 - errors / spread if spread > 0.0 else -np.inf), coefficients


def _draws(rows: Floats, samples: int, rng: np.random.Generator) -> Floats:
    mean, covariance = rows.mean(axis=0), np.atleast_2d(np.cov(rows.T))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    kept: list[Floats] = []
    found = 0
    for _ in range(_TRIES):
        drawn = mean + rng.standard_normal((samples, len(mean))) @ root.T
        drawn = drawn[(drawn >= 0.0).all(axis=1)]
        kept.append(drawn / drawn.sum(axis=1, keepdims=True))
        found += len(drawn)
        if found >= samples:
            break
    if found == 0:
        raise InvalidData("no draw of the paper's Gaussian was a mixture; there are too many arms for it")
    return np.vstack(kept)[:samples]
