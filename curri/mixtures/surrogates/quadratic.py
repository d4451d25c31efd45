"""MoDoMoDo's quadratic by plain least squares, in its own form and in Scheffé's."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.mixtures.surrogates.base import Surrogate
from curri.mixtures.surrogates.features import products, quadratic_from_products, quadratic_from_scheffe, scheffe

if TYPE_CHECKING:
    from curri.mixtures.surrogates.sample import Sample
    from curri.types import Floats

__all__ = ["LeastSquares", "QuadraticLeastSquares", "ScheffeQuadratic"]

_CUTOFF = 1e-10
_FREE = 1e-6


class LeastSquares(Surrogate):
    """y = φ(w)'β by least squares, of minimum norm where the runs do not determine β.

    The noise is what makes the leave-one-out errors as large as predicted; with as many parameters as mixtures, the
    leave-one-out errors themselves are the only estimate there is.

    Args:
        allow_fewer: fit also where there are fewer mixtures than identifiable parameters. MoDoMoDo's 11 seed runs of 5
            datasets are such a case (15 parameters); held-out errors are then often worse than the mean's.
    """

    def __init__(self, *, allow_fewer: bool = False) -> None:
        super().__init__()
        self.allow_fewer = allow_fewer

    @abstractmethod
    def _features(self, rows: Floats) -> Floats:
        """φ(w), shape (R, p)."""

    @classmethod
    def minimum_runs(cls, m: int) -> int:
        """m(m + 1)/2, the number of parameters that mixtures can tell apart: their weights sum to one."""
        return max(2, m * (m + 1) // 2)

    def _refuse_if_too_few(self, mixtures: int, m: int) -> None:
        if not self.allow_fewer:
            super()._refuse_if_too_few(mixtures, m)

    def _fit(self, sample: Sample) -> None:
        features = self._features(sample.weights)
        root = np.sqrt(sample.counts)
        self._inverse = np.linalg.pinv(features * root[:, None], rcond=_CUTOFF) * root
        self._coefficients = self._inverse @ sample.scores
        spread = features @ self._inverse
        leverage = np.diag(spread)
        rest = 1.0 - leverage
        errors = sample.scores - features @ self._coefficients
        free = rest > _FREE
        left_out = np.divide(errors, rest, out=np.zeros_like(errors), where=free)
        for row in np.flatnonzero(~free).tolist():
            left_out[row] = sample.scores[row] - features[row] @ self._without(features, sample, row)
        self._left_out = sample.scores - left_out
        # The variance of a left-out error is σ²/(1 - h) per run; a point that alone fixes a parameter tells nothing.
        usable = left_out[free] ** 2 * rest[free] * sample.counts[free] if free.any() else left_out**2
        self._variance = max(float(usable.mean()), 1e-24 * self._scale() ** 2)
        self._determined = bool(free.any())
        self._left_out_variance = np.where(
            free, self._variance / sample.counts * (1.0 / np.where(free, rest, 1.0) - 1.0), np.mean(left_out**2)
        )

    @staticmethod
    def _without(features: Floats, sample: Sample, row: int) -> Floats:
        keep = np.arange(len(sample)) != row
        root = np.sqrt(sample.counts[keep])
        inverse = np.linalg.pinv(features[keep] * root[:, None], rcond=_CUTOFF) * root
        return np.asarray(inverse @ sample.scores[keep])

    def _predict(self, rows: Floats) -> tuple[Floats, Floats]:
        means, covariance_root = self._spread_of(rows)
        if not self._determined:
            return means, np.full(len(rows), self._variance)
        return means, np.square(covariance_root).sum(axis=1)

    def _joint(self, rows: Floats) -> tuple[Floats, Floats]:
        means, root = self._spread_of(rows)
        return means, root @ root.T + (0.0 if self._determined else self._variance) * np.eye(len(rows))

    def _spread_of(self, rows: Floats) -> tuple[Floats, Floats]:
        features = self._features(rows)
        root = features @ self._inverse * np.sqrt(self._variance / self._fitted().counts)
        return np.asarray(features @ self._coefficients), np.asarray(root)

    def _leave_one_out(self) -> tuple[Floats, Floats]:
        return self._left_out, self._left_out_variance

    def _noise(self) -> float:
        return max(self._variance - float(self._fitted().known_variance.mean()), 0.05 * self._variance)

    def _describe(self) -> dict[str, Any]:
        return {"determined": self._determined}


class QuadraticLeastSquares(LeastSquares):
    """a + b'w + w'Cw on the columns [1, w, w ⊗ w], as MoDoMoDo fits it, without its choice of a split.

    Only m(m + 1)/2 of the 1 + m + m² columns are independent on the simplex, hence the solution of minimum norm.

    Example:
        >>> rows = [[1, 0], [0, 1], [0.5, 0.5], [0.2, 0.8]]
        >>> QuadraticLeastSquares().fit(rows, [1.0, 2.0, 2.0, 2.12]).mean([0.7, 0.3]).round(3)
        array([1.72])

    """

    name: ClassVar[str] = "quadratic-ols"
    summary: ClassVar[str] = "MoDoMoDo's quadratic by least squares of minimum norm"

    def _features(self, rows: Floats) -> Floats:
        return np.hstack([np.ones((len(rows), 1)), rows, products(rows) * self._doubling(rows.shape[1])])

    @staticmethod
    def _doubling(m: int) -> Floats:
        """The outer product holds w_i w_j twice for i ≠ j; one column times √2 has the same minimum norm."""
        first, second = np.triu_indices(m)
        return np.where(first == second, 1.0, np.sqrt(2.0))

    def _quadratic(self) -> tuple[float, Floats, Floats]:
        m = self._fitted().m
        plain = self._coefficients[1 + m :] * self._doubling(m)
        return quadratic_from_products(float(self._coefficients[0]), self._coefficients[1 : 1 + m].copy(), plain)


class ScheffeQuadratic(LeastSquares):
    """Σ β_i w_i + Σ_{i<j} β_ij w_i w_j: the same functions with exactly as many parameters as can be told apart."""

    name: ClassVar[str] = "scheffe"
    summary: ClassVar[str] = "Scheffé's quadratic by least squares"

    def _features(self, rows: Floats) -> Floats:
        return scheffe(rows)

    def _quadratic(self) -> tuple[float, Floats, Floats]:
        return quadratic_from_scheffe(self._coefficients, self._fitted().m)
