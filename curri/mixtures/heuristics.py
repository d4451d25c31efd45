"""MoDoMoDo's heuristics: mixtures computed from the scores of seed runs without a surrogate (arXiv 2505.24871)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidData, InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import ArrayLike

    from curri.types import Floats

__all__ = ["alpha_family", "coli_weights", "leave_one_out_weights"]

ALPHAS = {"Ain": 1.0, "Aout": 0.0, "Abal": 0.5}
"""The members of the alpha family, by how much the scores inside the training distribution count."""


def alpha_family(
    records: Sequence[Mapping[str, Any]],
    datasets: Sequence[Hashable] | None = None,
    *,
    alpha_single: float = 1.0,
    alphas: Mapping[str, float] = ALPHAS,
) -> dict[str, Floats]:
    """Weights from the summed scores of the runs that used each dataset (Algorithm 1).

    S[i] = Σ over runs r with i in D_r of (alpha_single if abs(D_r) = 1 else 1) · s_r, for the in and the out score;
    C_i = α·minmax(S_in)_i + (1-α)·minmax(S_out)_i and w = C / Σ C. The paper does not print ``alpha_single``; where
    every dataset has one run alone and the same runs together, it makes no difference: min-max removes the rest.

    Args:
        records: runs, each {"datasets": those it used, "In": in-score, "Out": out-score}.
        datasets: the order of the weights; by default the datasets in order of appearance.
        alpha_single: weight of runs on one dataset alone, in [0, 1].
        alphas: name → α in [0, 1].

    Returns:
        Name → weights, shape (m,); uniform where all datasets score the same.

    Raises:
        InvalidParameter: a number is out of range.
        InvalidData: a record lacks a field or names a dataset that is not in ``datasets``.

    Example:
        >>> runs = [{"datasets": ["a"], "In": 0.2, "Out": 0.3}, {"datasets": ["b"], "In": 0.4, "Out": 0.1}]
        >>> {name: w.tolist() for name, w in alpha_family(runs).items()}
        {'Ain': [0.0, 1.0], 'Aout': [1.0, 0.0], 'Abal': [0.5, 0.5]}

    """
    for name, value in {"alpha_single": alpha_single, **alphas}.items():
        if not 0.0 <= value <= 1.0:
            raise InvalidParameter(f"`{name}` of `alpha_family` must be a float in [0, 1]; got {value!r}")
    try:
        used = [tuple(record["datasets"]) for record in records]
        scores = np.array([[float(record["In"]), float(record["Out"])] for record in records], dtype=np.float64)
    except KeyError as error:
        raise InvalidData(
            f'a record of `alpha_family` lacks "{error.args[0]}"; it needs datasets, In and Out'
        ) from None
    order = list(dict.fromkeys(name for each in used for name in each)) if datasets is None else list(datasets)
    inside = _indicators(used, order)
    if not inside.size or not np.isfinite(scores).all():
        raise InvalidData("`alpha_family` needs at least one record, and finite scores")
    weight = np.where(inside.sum(axis=1) == 1, alpha_single, 1.0)
    score_in, score_out = (_minmax(column) for column in (inside.T @ (scores * weight[:, None])).T)
    return {name: _shares(alpha * score_in + (1.0 - alpha) * score_out) for name, alpha in alphas.items()}


def coli_weights(used: ArrayLike, scores: ArrayLike, *, ridge: float = 1e-3) -> Floats:
    """Weights from a ridge regression of the scores on which datasets were used (Algorithm 2, "Coli").

    X = indicators, β = (X'X + λI)⁻¹ X'y, VIF_i = [(X'X + λI)⁻¹]_ii, s_i = max(0, β_i / VIF_i), w = s / Σ s. There is no
    intercept. On the paper's symmetric seed design all VIF_i are equal, so that correction does nothing there.

    Args:
        used: which run used which dataset, booleans or weights (anything above 0 is used), shape (R, m).
        scores: shape (R,), finite.
        ridge: λ > 0; 1e-3 in the paper.

    Returns:
        Shape (m,); uniform where no dataset helps.

    Raises:
        InvalidParameter: shapes differ, a score is not finite, or λ is not positive.

    Example:
        >>> coli_weights([[1, 0], [0, 1], [1, 1]], [0.2, 0.4, 0.6]).round(3)
        array([0.333, 0.667])

    """
    indicators, values = (np.asarray(used) > 0).astype(np.float64), np.asarray(scores, dtype=np.float64)
    if indicators.ndim != 2 or values.shape != indicators.shape[:1] or not np.isfinite(values).all():
        raise InvalidParameter("`coli_weights` needs indicators of shape (runs, datasets) and one finite score a run")
    if not 0.0 < ridge < np.inf:
        raise InvalidParameter(f"`ridge` of `coli_weights` must be a float in (0, inf); got {ridge!r}")
    inverse = np.linalg.inv(indicators.T @ indicators + ridge * np.eye(indicators.shape[1]))
    coefficients = inverse @ (indicators.T @ values)
    return _shares(np.maximum(coefficients / np.diag(inverse), 0.0))


def leave_one_out_weights(
    out_when_missing: Mapping[Any, float] | ArrayLike, *, high: float = 0.2, drop: float = 0.1, normalise: bool = True
) -> Floats:
    """Weights from the out-scores of the runs that leave one dataset out (Algorithm 3, "Norm").

    h = min-max of the scores, w_i ∝ 0.2 - 0.1·h_i: the dataset that is missed most gets twice the least missed one's.

    Args:
        out_when_missing: score of the run without dataset i, shape (m,), or as a mapping in the order of the datasets.
        high: weight of the dataset that is missed most, before normalising.
        drop: how much less the least missed one gets, in [0, high].
        normalise: whether to divide by the sum.

    Returns:
        Shape (m,).

    Raises:
        InvalidParameter: a score is not finite, or ``drop`` is out of range.

    Example:
        >>> leave_one_out_weights([0.5, 0.4, 0.3]).round(3)
        array([0.222, 0.333, 0.444])

    """
    values = list(out_when_missing.values()) if isinstance(out_when_missing, Mapping) else out_when_missing
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
        raise InvalidParameter("`leave_one_out_weights` needs one finite score a dataset, shape (m,)")
    if not 0.0 <= drop <= high or high <= 0.0:
        raise InvalidParameter(f"`drop` of `leave_one_out_weights` must be in [0, high]; got {drop!r}")
    raw = high - drop * _minmax(scores)
    return _shares(raw) if normalise else np.asarray(raw)


def _indicators(used: Sequence[tuple[Hashable, ...]], order: Sequence[Hashable]) -> Floats:
    place = {name: column for column, name in enumerate(order)}
    found = np.zeros((len(used), len(order)))
    for row, names in enumerate(used):
        for name in names:
            if name not in place:
                raise InvalidData(f"a record uses the dataset {name!r}, which is not one of {list(order)}")
            found[row, place[name]] = 1.0
    return found


def _minmax(values: Floats) -> Floats:
    """(v - min) / (max - min); zeros where all are the same."""
    spread = np.ptp(values)
    return np.asarray((values - values.min()) / spread if spread > 0 else np.zeros_like(values))


def _shares(values: Floats) -> Floats:
    """Divided by the sum; uniform where all are zero."""
    total = values.sum()
    return np.asarray(values / total if total > 0 else np.full(values.shape, 1.0 / values.size))
