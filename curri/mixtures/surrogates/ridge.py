"""Ridge regressions on features of the mixture, their penalty chosen by leave-one-out likelihood."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.mixtures.surrogates.base import log_density
from curri.mixtures.surrogates.features import loglinear, products, quadratic_from_products
from curri.mixtures.surrogates.gaussian import GaussianSurrogate, Posterior

if TYPE_CHECKING:
    from curri.mixtures.surrogates.sample import Sample
    from curri.types import Floats

__all__ = ["LinearRidge", "LogLinearRidge", "QuadraticRidge", "Ridge"]

PENALTIES = np.logspace(-3.0, 4.0, 36)
"""Noise variance over signal variance. The smallest says that noise is 3 % of the signal: no run is that clean."""
_INTERCEPT = 10.0
_LEAST_EXCESS = 0.05


class Ridge(GaussianSurrogate):
    """y = β_0 + φ(w)'β with β ~ N(0, s²): the same as a penalty λ = noise / s² on the squares of β.

    λ is the one of 36 with the highest leave-one-out predictive likelihood (closed form from one eigendecomposition),
    s² makes the leave-one-out errors as large as predicted. Features are centred and, where ``standardised``, divided
    by their standard deviations; then all of them by one number that makes the mean row length one.
    """

    standardised: ClassVar[bool] = True

    @abstractmethod
    def _features(self, rows: Floats) -> Floats:
        """φ(w), shape (R, p)."""

    @classmethod
    def minimum_runs(cls, m: int) -> int:
        """As many as there are arms, and one: a slope for every arm but one, the level, and one run to judge by."""
        return m + 1

    @classmethod
    def trusted_runs(cls, m: int) -> int:
        """Two for each parameter."""
        return 2 * (cls.minimum_runs(m) - 1)

    def _learn(self, sample: Sample) -> tuple[Posterior, tuple[Floats, Floats]]:
        self._set_scaling(self._features(sample.weights))
        kernel = self._kernel(sample.weights, sample.weights)
        self._penalty, self._signal = _best_penalty(kernel, sample.scores, 1.0 / sample.counts)
        self._excess = self._penalty * self._signal
        known = float(sample.known_variance.mean())
        if known > 0.0:
            self._excess = max(self._excess - known, _LEAST_EXCESS * self._excess)
            relative = (self._excess + sample.known_variance) / sample.counts
            self._penalty, self._signal = _best_penalty(kernel, sample.scores, relative / (self._excess + known))
            self._excess *= self._penalty * self._signal / (self._excess + known)
        noise = (self._excess + sample.known_variance) / sample.counts
        posterior = Posterior.of(self._signal * kernel, noise, sample.scores)
        return posterior, posterior.leave_one_out()

    def _set_scaling(self, features: Floats) -> None:
        self._centre = features.mean(axis=0)
        deviations = features.std(axis=0)
        moves = deviations > 1e-12
        self._inverse = np.where(moves, 1.0, 0.0)
        if self.standardised:
            self._inverse = np.divide(1.0, deviations, out=np.zeros_like(deviations), where=moves)
        length = np.sqrt(np.square((features - self._centre) * self._inverse).sum(axis=1).mean())
        self._inverse = self._inverse / length if length > 0.0 else self._inverse

    def _scaled(self, rows: Floats) -> Floats:
        return np.asarray((self._features(rows) - self._centre) * self._inverse)

    def _kernel(self, rows: Floats, others: Floats) -> Floats:
        return np.asarray(self._scaled(rows) @ self._scaled(others).T + _INTERCEPT)

    def _cross(self, rows: Floats, others: Floats) -> Floats:
        return self._signal * self._kernel(rows, others)

    def _prior(self, rows: Floats) -> Floats:
        return np.asarray(self._signal * (np.square(self._scaled(rows)).sum(axis=1) + _INTERCEPT))

    def _standard_noise(self) -> float:
        return self._excess

    def _coefficients(self) -> tuple[float, Floats]:
        """Intercept and slopes of the features as they are, for scores as they are."""
        weights = self._given().alpha
        slopes = self._signal * (self._scaled(self._fitted().weights).T @ weights) * self._inverse * self._spread
        level = self._location + self._spread * self._signal * _INTERCEPT * float(weights.sum())
        return level - float(self._centre @ slopes), slopes

    def _describe(self) -> dict[str, Any]:
        return {"penalty": self._penalty, "inflation": self._inflation}


def _best_penalty(kernel: Floats, scores: Floats, relative_noise: Floats) -> tuple[float, float]:
    """(λ, s²) with the highest leave-one-out likelihood of K·s² + λ·s²·diag(relative noise)."""
    root = np.sqrt(relative_noise)
    values, vectors = np.linalg.eigh(kernel / np.outer(root, root))
    values, rotated = np.maximum(values, 0.0), vectors.T @ (scores / root)
    best = (-np.inf, 1.0, 1.0)
    for penalty in PENALTIES:
        diagonal = np.square(vectors) @ (1.0 / (values + penalty))
        errors = (vectors @ (rotated / (values + penalty))) / diagonal
        signal = max(float((errors**2 * diagonal).mean()), 1e-12)
        density = float(log_density(errors, 0.0, np.sqrt(signal / diagonal)).sum())
        best = max(best, (density, float(penalty), signal))
    return best[1], best[2]


class LinearRidge(Ridge):
    """y = a + b'w with a ridge penalty.

    Example:
        >>> model = LinearRidge().fit([[1, 0], [0, 1], [0.5, 0.5], [0.2, 0.8]], [1.0, 2.0, 1.5, 1.8])
        >>> model.mean([0.4, 0.6]).round(1)
        array([1.6])

    """

    name: ClassVar[str] = "linear"
    summary: ClassVar[str] = "ridge on the weights"

    def _features(self, rows: Floats) -> Floats:
        return rows

    def _quadratic(self) -> tuple[float, Floats, Floats]:
        constant, slopes = self._coefficients()
        return constant, slopes, np.zeros((slopes.size, slopes.size))


class LogLinearRidge(Ridge):
    """y = a + b'w + c'ln(w + 0.01) with a ridge penalty: each arm with diminishing returns."""

    name: ClassVar[str] = "loglinear"
    summary: ClassVar[str] = "ridge on the weights and their logarithms"

    @classmethod
    def minimum_runs(cls, m: int) -> int:
        """Twice the arms, and one: two slopes for every arm, and one run to judge by."""
        return 2 * m + 1

    def _features(self, rows: Floats) -> Floats:
        return loglinear(rows)


class QuadraticRidge(Ridge):
    """MoDoMoDo's a + b'w + w'Cw with a ridge penalty instead of plain least squares; features as they are.

    The penalty decides, so it can be fitted to fewer runs than it has parameters.
    """

    name: ClassVar[str] = "quadratic"
    summary: ClassVar[str] = "ridge on the weights and their products"
    standardised: ClassVar[bool] = False

    def _features(self, rows: Floats) -> Floats:
        return np.hstack([rows, products(rows)])

    def _quadratic(self) -> tuple[float, Floats, Floats]:
        constant, slopes = self._coefficients()
        m = self._fitted().m
        return quadratic_from_products(constant, slopes[:m], slopes[m:])
