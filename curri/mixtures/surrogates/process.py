"""Gaussian processes on √w, the coordinates in which Hellinger distance is straight."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.mixtures.surrogates.gaussian import GaussianSurrogate, Posterior
from curri.mixtures.surrogates.likelihood import JITTER, Process

if TYPE_CHECKING:
    from curri.mixtures.surrogates.sample import Sample
    from curri.types import Bools, Floats

__all__ = ["GaussianProcess", "IsotropicProcess", "ShrunkProcess"]

FOLDS = 8
_STARTS = ((0.0, 0.0, -1.0), (0.0, 0.0, -2.5))
_START_ROWS = 128
_FOLD_STEPS = 50
_SEED = 0


class GaussianProcess(GaussianSurrogate):
    """A Gaussian process on √w with one length an arm: Matérn 5/2, lengths drawn towards a common one (τ = 1).

    Settings maximise the marginal likelihood times weak priors, with an analytic gradient. Scores are standardised.
    With a length an arm and few runs, the settings fit the runs so well that plain leave-one-out errors flatter: below
    10 runs a setting the settings are fitted anew without each of 8 parts of the runs, and the closed form then leaves
    out the runs of that part one by one.

    Args:
        start: settings θ to start from, such as another process's :attr:`theta`; found by two starts if None.
    """

    name: ClassVar[str] = "gp-ard"
    summary: ClassVar[str] = "Gaussian process on √w with a length for each arm"
    process: ClassVar[Process] = Process("matern", 1.0)

    def __init__(self, *, start: Floats | None = None) -> None:
        super().__init__()
        self.start = start
        self.theta: Floats = np.zeros(0)

    @classmethod
    def minimum_runs(cls, m: int) -> int:  # noqa: ARG003  the same for any m
        """Six, however many arms: the priors of the settings stand in for runs."""
        return 6

    def _learn(self, sample: Sample) -> tuple[Posterior, tuple[Floats, Floats]]:
        start = self._first_guess(sample) if self.start is None else self.start
        self.theta, _ = self.process.climb(self._sized(start, sample.m), sample)
        posterior = self._condition(self.theta, sample)
        means, variances = posterior.leave_one_out()
        if len(sample) < 10 * (sample.m + 3):
            for part in _parts(len(sample)):
                theta, _ = self.process.climb(self.theta, sample.take(~part), steps=_FOLD_STEPS)
                left_out = self._condition(theta, sample)
                found, variance = left_out.leave_one_out()
                # Noise is that of the settings used for all: what a part adds or lacks goes to the model.
                variance = np.maximum(variance + left_out.noise - posterior.noise, 0.0)
                means[part], variances[part] = found[part], variance[part]
        return posterior, (means, variances)

    def _first_guess(self, sample: Sample) -> Floats:
        """One length for all arms, on a part of the runs where there are many."""
        common = Process(self.process.kernel)
        part = sample
        if len(sample) > _START_ROWS:
            chosen = np.zeros(len(sample), dtype=bool)
            chosen[np.linspace(0, len(sample) - 1, _START_ROWS).astype(int)] = True
            part = sample.take(chosen)
        found = [common.climb(np.array(start), part) for start in _STARTS]
        return min(found, key=lambda each: each[1])[0]

    def _sized(self, theta: Floats, m: int) -> Floats:
        full = np.zeros(self.process.size(m))
        shared = min(len(theta), len(full))
        full[:shared] = theta[:shared]
        return full

    def _condition(self, theta: Floats, sample: Sample) -> Posterior:
        settings = self.process.settings(theta, sample.m)
        covariance = self.process.covariance(settings, sample.weights, sample.weights)
        noise = (math.exp(2.0 * settings.noise) + sample.known_variance) / sample.counts + JITTER
        return Posterior.of(covariance, noise, sample.scores)

    def _cross(self, rows: Floats, others: Floats) -> Floats:
        return self.process.covariance(self.process.settings(self.theta, rows.shape[1]), rows, others)

    def _prior(self, rows: Floats) -> Floats:
        variance = self.process.variance(self.process.settings(self.theta, rows.shape[1]))
        return np.full(len(rows), variance)

    def _standard_noise(self) -> float:
        return math.exp(2.0 * float(self.theta[2]))

    def _describe(self) -> dict[str, Any]:
        settings = self.process.settings(self.theta, self._fitted().m)
        return {
            "kernel": self.process.kernel,
            "lengths": np.exp(settings.lengths).tolist(),
            "signal": self._spread * math.exp(settings.signal),
            "inflation": self._inflation,
        }


class IsotropicProcess(GaussianProcess):
    """A Gaussian process on √w with one length for all arms and the RBF kernel: for few or noisy runs."""

    name: ClassVar[str] = "gp"
    summary: ClassVar[str] = "Gaussian process on √w with one length"
    process: ClassVar[Process] = Process("rbf")

    @classmethod
    def minimum_runs(cls, m: int) -> int:  # noqa: ARG003  the same for any m
        """Four, however many arms."""
        return 4


class ShrunkProcess(GaussianProcess):
    """Between the two: a length for each arm, held close to the common one (τ = 0.3, factors of about 1.35)."""

    name: ClassVar[str] = "gp-shrunk"
    summary: ClassVar[str] = "Gaussian process on √w, lengths close to a common one"
    process: ClassVar[Process] = Process("matern", 0.3)


def _parts(rows: int) -> list[Bools]:
    """Masks of up to 8 parts of the rows, in a seeded order."""
    order = np.random.default_rng(_SEED).permutation(rows)
    return [np.isin(np.arange(rows), part) for part in np.array_split(order, min(FOLDS, rows))]
