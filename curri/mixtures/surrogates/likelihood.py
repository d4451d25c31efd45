"""The marginal likelihood of a Gaussian process on √w, and its gradient: one Cholesky factor an evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from curri.mixtures._extras import optional

if TYPE_CHECKING:
    from curri.mixtures.surrogates.sample import Sample
    from curri.types import Floats

__all__ = ["Kernel", "Process", "Settings"]

Kernel: TypeAlias = Literal["rbf", "matern"]
"""exp(-r²/2), or Matérn's with ν = 5/2: (1 + √5 r + 5r²/3)·exp(-√5 r)."""

LEVEL = 4.0
"""Prior variance of the mean, in standardised scores: two standard deviations either way."""
JITTER = 1e-9

# Priors of the logarithms, as (mean, standard deviation). √w lies in [0, 1] and scores are standardised, so a length
# and a signal of about one are the natural guess, one unit being a factor e; runs differ by about 5 % of the spread
# of scores, give or take a factor of four. The same for every table.
LENGTH_PRIOR = (0.0, 1.0)
SIGNAL_PRIOR = (0.0, 1.0)
NOISE_PRIOR = (-3.0, 1.5)
_BOUNDS = ((-4.0, 5.0), (-4.0, 4.0), (-7.0, 1.5))
_ARM_BOUNDS = (-6.0, 6.0)


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """Logarithms of the process's settings.

    Attributes:
        lengths: length scale of each arm, shape (m,).
        signal: standard deviation of the function.
        noise: standard deviation of a run beyond its standard error.
    """

    lengths: Floats
    signal: float
    noise: float


@dataclass(frozen=True, slots=True)
class Process:
    """Which process: its kernel, and how far the arms' lengths may differ.

    Attributes:
        kernel: "rbf" or "matern".
        spread: τ, standard deviation of the arms' log lengths around their common one; 0 makes them the same.
    """

    kernel: Kernel
    spread: float = 0.0

    def size(self, m: int) -> int:
        """How many numbers a point θ = [log length, log signal, log noise, (an offset for each arm)] has."""
        return 3 + (m if self.spread > 0.0 else 0)

    def settings(self, theta: Floats, m: int) -> Settings:
        """θ by name."""
        offsets = theta[3:] if self.spread > 0.0 else np.zeros(m)
        return Settings(theta[0] + offsets, float(theta[1]), float(theta[2]))

    def covariance(self, settings: Settings, rows: Floats, others: Floats) -> Floats:
        """Prior covariances between mixtures, shape (R, K), without noise."""
        value, _ = self._shape(_squares(settings, rows, others))
        return np.asarray(math.exp(2.0 * settings.signal) * value + LEVEL)

    @staticmethod
    def variance(settings: Settings) -> float:
        """Prior variance of any mixture."""
        return math.exp(2.0 * settings.signal) + LEVEL

    def _shape(self, squares: Floats) -> tuple[Floats, Floats]:
        """k(r²) and the g(r²) with ∂k / ∂ log length_j = g·(x_j - x'_j)² / length_j²."""
        if self.kernel == "rbf":
            value = np.exp(-0.5 * squares)
            return value, value
        scaled = np.sqrt(5.0 * squares)
        decay = np.exp(-scaled)
        slope = decay * (1.0 + scaled)
        decay *= squares
        decay *= 5.0 / 3.0
        value = slope + decay
        slope *= 5.0 / 3.0
        return value, slope

    def loss(self, theta: Floats, sample: Sample) -> tuple[float, Floats]:
        """-log(likelihood × priors) up to a constant, and its gradient.

        Replicates enter exactly: the means of mixtures through the process, their spread through its own likelihood.

        Args:
            theta: shape (:meth:`size`,).
            sample: with standardised scores.

        Returns:
            (value, gradient of the shape of θ); (inf, zeros) where the covariance is not positive definite.
        """
        lapack = optional("scipy.linalg.lapack", "a Gaussian process")
        settings = self.settings(theta, sample.m)
        value, slope = self._shape(_squares(settings, sample.weights, sample.weights))
        signal, noise = math.exp(2.0 * settings.signal), math.exp(2.0 * settings.noise)
        total = signal * value
        total += LEVEL
        total[np.diag_indices_from(total)] += (noise + sample.known_variance) / sample.counts + JITTER
        factor, failed = lapack.dpotrf(total, lower=1, overwrite_a=1)
        if failed:
            return math.inf, np.zeros_like(theta)
        log_determinant = 2.0 * float(np.log(np.diag(factor)).sum())
        inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
        inverse = np.tril(inverse)
        inverse += np.tril(inverse, -1).T
        alpha = inverse @ sample.scores
        found = 0.5 * float(sample.scores @ alpha) + 0.5 * log_determinant
        # ∂/∂θ of the first two terms is -½ Σ (αα' - K⁻¹)∘∂K/∂θ.
        inverse -= np.outer(alpha, alpha)
        gradient = np.zeros_like(theta)
        lengths = 0.5 * signal * _length_sums(settings, sample.weights, inverse * slope)
        gradient[0] = lengths.sum()
        gradient[1] = signal * float(np.vdot(inverse, value))
        gradient[2] = noise * float((np.diag(inverse) / sample.counts).sum())
        if self.spread > 0.0:
            gradient[3:] = lengths
        return self._with_priors(theta, gradient, found + _replicates(sample, noise, gradient))

    def _with_priors(self, theta: Floats, gradient: Floats, found: float) -> tuple[float, Floats]:
        for place, (mean, deviation) in enumerate((LENGTH_PRIOR, SIGNAL_PRIOR, NOISE_PRIOR)):
            found += 0.5 * ((theta[place] - mean) / deviation) ** 2
            gradient[place] += (theta[place] - mean) / deviation**2
        if self.spread > 0.0:
            found += 0.5 * float(np.square(theta[3:] / self.spread).sum())
            gradient[3:] += theta[3:] / self.spread**2
        return found, gradient

    def climb(self, theta: Floats, sample: Sample, *, steps: int = 200) -> tuple[Floats, float]:
        """θ at a minimum of :meth:`loss` near a starting point, and the loss there."""
        minimise = optional("scipy.optimize", "a Gaussian process").minimize
        bounds = [*_BOUNDS, *[_ARM_BOUNDS] * (len(theta) - 3)]
        options = {"maxiter": steps, "ftol": 1e-7, "gtol": 1e-4}
        found = minimise(self.loss, theta, args=(sample,), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return np.asarray(found.x, dtype=np.float64), float(found.fun)


def _squares(settings: Settings, rows: Floats, others: Floats) -> Floats:
    """Squared distances of √w, each arm in units of its length."""
    mine, theirs = (np.sqrt(each) / np.exp(settings.lengths) for each in (rows, others))
    found = mine @ theirs.T
    found *= -2.0
    found += np.square(mine).sum(axis=1)[:, None]
    found += np.square(theirs).sum(axis=1)
    return np.asarray(np.maximum(found, 0.0, out=found))


def _length_sums(settings: Settings, rows: Floats, weights: Floats) -> Floats:
    """Σ_ab W_ab (x_aj - x_bj)² / length_j² for every arm j, with a symmetric W: one matrix product."""
    scaled = np.sqrt(rows) / np.exp(settings.lengths)
    return np.asarray(2.0 * (weights.sum(axis=1) @ scaled**2 - (scaled * (weights @ scaled)).sum(axis=0)))


def _replicates(sample: Sample, noise: float, gradient: Floats) -> float:
    """-log likelihood of the spread of replicates, and its part of the gradient."""
    if sample.degrees == 0:
        return 0.0
    variance = noise + float(sample.run_variance.mean())
    gradient[2] += noise * (sample.degrees / variance - sample.squares / variance**2)
    return 0.5 * (sample.degrees * math.log(variance) + sample.squares / variance)
