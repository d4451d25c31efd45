"""What ridge regressions and Gaussian processes share: a normal prior over functions, conditioned on the runs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curri.mixtures.surrogates.base import Surrogate

if TYPE_CHECKING:
    from curri.mixtures.surrogates.sample import Sample
    from curri.types import Floats

__all__ = ["GaussianSurrogate", "Posterior"]

WIDEST = 16.0
"""Variances are never inflated by more than this."""


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """A normal prior with covariance K, conditioned on scores y with noise N: everything follows from (K + N)⁻¹.

    Attributes:
        half: the inverse of the Cholesky factor, so that (K + N)⁻¹ = half' half, shape (D, D).
        alpha: (K + N)⁻¹ y, shape (D,).
        noise: the diagonal of N, shape (D,).
        scores: y, shape (D,).
    """

    half: Floats
    alpha: Floats
    noise: Floats
    scores: Floats

    @classmethod
    def of(cls, covariance: Floats, noise: Floats, scores: Floats) -> Posterior:
        """Condition on the scores.

        Example:
            >>> found = Posterior.of(np.eye(2), np.ones(2), np.array([1.0, -1.0]))
            >>> found.alpha
            array([ 0.5, -0.5])

        """
        factor = np.linalg.cholesky(covariance + np.diag(noise))
        half = np.linalg.inv(factor)
        return cls(half, half.T @ (half @ scores), noise, scores)

    def mean(self, cross: Floats) -> Floats:
        """Means at new points, from their covariances with the sample, shape (q, D)."""
        return np.asarray(cross @ self.alpha)

    def variance(self, cross: Floats, prior: Floats) -> Floats:
        """Variances at new points, from those covariances and the prior variances, shape (q,)."""
        return np.asarray(np.maximum(prior - np.square(cross @ self.half.T).sum(axis=1), 0.0))

    def covariance(self, cross: Floats, prior: Floats) -> Floats:
        """Covariances between new points, from the prior ones, shape (q, q)."""
        known = cross @ self.half.T
        found = prior - known @ known.T
        return np.asarray((found + found.T) / 2.0)

    def leave_one_out(self) -> tuple[Floats, Floats]:
        """Mean and variance (without noise) of every point from all others, in closed form.

        μ_i = y_i - [A y]_i / A_ii and σ_i² + N_i = 1 / A_ii with A = (K + N)⁻¹ (Rasmussen & Williams, 5.4.2).
        """
        diagonal = np.square(self.half).sum(axis=0)
        return self.scores - self.alpha / diagonal, np.maximum(1.0 / diagonal - self.noise, 0.0)


class GaussianSurrogate(Surrogate):
    """A surrogate with a normal prior; scores are standardised first.

    Its leave-one-out errors say how wrong its variances are: where the mean square of (error / predicted deviation) is
    above one, all variances are inflated by it. What that adds is put on the model, not on the noise of runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._posterior: Posterior | None = None
        self._inflation = 1.0
        self._left_out: tuple[Floats, Floats] | None = None

    # --- hooks ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def _learn(self, sample: Sample) -> tuple[Posterior, tuple[Floats, Floats]]:
        """Choose the settings on standardised scores; the posterior, and leave-one-out means and variances."""

    @abstractmethod
    def _cross(self, rows: Floats, others: Floats) -> Floats:
        """Prior covariances between mixtures."""

    @abstractmethod
    def _prior(self, rows: Floats) -> Floats:
        """Prior variances of mixtures."""

    @abstractmethod
    def _standard_noise(self) -> float:
        """Variance of a run beyond its standard error, of standardised scores."""

    # --- the surrogate --------------------------------------------------------------------------------------------

    def _fit(self, sample: Sample) -> None:
        self._location = float(sample.scores.mean())
        spread = float(sample.scores.std())
        self._spread = spread if spread > 0.0 else float(sample.run_scores.std())
        standard = sample.scaled(self._location, self._spread)
        self._posterior, (means, variances) = self._learn(standard)
        squares = (standard.scores - means) ** 2 / (variances + self._posterior.noise)
        self._inflation = float(np.clip(squares.mean(), 1.0, WIDEST))
        self._left_out = means, self._inflated(variances, self._posterior.noise)

    def _inflated(self, variances: Floats, noise: Floats | float) -> Floats:
        return np.asarray(self._inflation * (variances + noise) - noise)

    def _new_noise(self) -> float:
        return self._standard_noise() + float(np.median(self._fitted().known_variance)) / self._spread**2

    def _given(self) -> Posterior:
        assert self._posterior is not None  # noqa: S101  set by `_fit`
        return self._posterior

    def _mean(self, rows: Floats) -> Floats:
        cross = self._cross(rows, self._fitted().weights)
        return np.asarray(self._location + self._spread * self._given().mean(cross))

    def _predict(self, rows: Floats) -> tuple[Floats, Floats]:
        cross = self._cross(rows, self._fitted().weights)
        variances = self._inflated(self._given().variance(cross, self._prior(rows)), self._new_noise())
        return self._location + self._spread * self._given().mean(cross), self._spread**2 * variances

    def _joint(self, rows: Floats) -> tuple[Floats, Floats]:
        cross = self._cross(rows, self._fitted().weights)
        plain = self._given().covariance(cross, self._cross(rows, rows))
        variances = np.maximum(np.diag(plain), 1e-15)
        stretch = np.sqrt(self._inflated(variances, self._new_noise()) / variances)
        means = self._location + self._spread * self._given().mean(cross)
        return means, self._spread**2 * plain * np.outer(stretch, stretch)

    def _leave_one_out(self) -> tuple[Floats, Floats]:
        assert self._left_out is not None  # noqa: S101  set by `_fit`
        means, variances = self._left_out
        return self._location + self._spread * means, self._spread**2 * variances

    def _noise(self) -> float:
        return self._spread**2 * self._standard_noise()
