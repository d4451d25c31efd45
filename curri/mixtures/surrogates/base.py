"""What every surrogate of y(w) keeps to: fit on runs, then predict a mean and a standard deviation for any mixture."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from curri.errors import InvalidData, InvalidParameter
from curri.mixtures.simplex import checked_mixtures
from curri.mixtures.surrogates.sample import Sample, collapse

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats

__all__ = ["Surrogate", "log_density"]

TINY = 1e-12
"""Relative standard deviation of a prediction that is certain, so that densities stay finite."""


class Surrogate(ABC):
    """Learns the score of a mixture from runs.

    A subclass gives ``name``, ``minimum_runs`` and the three hooks ``_fit``, ``_predict`` and ``_leave_one_out``. The
    base checks arguments, puts replicates together, and answers a constant target itself: the same value everywhere.

    Standard deviations are those of **one new run**, so that intervals can be held against measured scores; with
    ``noise=False`` they are those of the mean over many runs of that mixture.
    """

    name: ClassVar[str]
    """What it is called on the command line."""

    summary: ClassVar[str] = ""
    """One line for listings."""

    def __init__(self) -> None:
        self._sample: Sample | None = None

    @classmethod
    @abstractmethod
    def minimum_runs(cls, m: int) -> int:
        """Fewest distinct mixtures of m arms that it can be fitted to."""

    @classmethod
    def trusted_runs(cls, m: int) -> int:
        """Distinct mixtures below which its leave-one-out errors are matters of luck; :class:`Best` waits for them."""
        return cls.minimum_runs(m)

    def fit(self, weights: ArrayLike, scores: ArrayLike, errors: ArrayLike | None = None) -> Self:
        """Learn from runs.

        Args:
            weights: mixtures, shape (R, m).
            scores: finite, shape (R,).
            errors: standard errors of the scores, shape (R,), or None. They are part of the noise of a run, not all of
                it: what runs differ by beyond them is estimated.

        Returns:
            itself.

        Raises:
            InvalidParameter: shapes differ or a number is out of range.
            InvalidData: there are fewer distinct mixtures than it needs; the message says how many.
            MissingExtra: it needs a package that is not installed.
        """
        return self.fit_sample(collapse(weights, scores, errors, owner=self.name))

    def fit_sample(self, sample: Sample) -> Self:
        """Learn from runs that :func:`collapse` has put together."""
        self._refuse_if_too_few(len(sample), sample.m)
        if len(sample.index) < 2:
            raise InvalidData(
                f"the surrogate `{self.name}` needs at least 2 runs; there is {len(sample.index)}",
                hint="train another mixture and fill in its score; curri mix design plans them",
            )
        self._sample = sample
        if not sample.constant:
            self._fit(sample)
        return self

    def _refuse_if_too_few(self, mixtures: int, m: int) -> None:
        least = self.minimum_runs(m)
        if mixtures < least:
            raise InvalidData(
                f"the surrogate `{self.name}` needs at least {least} different mixtures of {m} arms; there are "
                f"{mixtures}",
                hint="make more runs, or take `best`, which uses the surrogates that can be fitted",
            )

    def predict(self, weights: ArrayLike, *, noise: bool = True) -> tuple[Floats, Floats]:
        """Mean and standard deviation of each mixture's score.

        Args:
            weights: shape (R, m) or (m,).
            noise: whether the deviation is that of one new run, or (False) of the mixture's mean.

        Returns:
            (means, standard deviations), each of shape (R,).

        Raises:
            InvalidParameter: not fitted yet, or no mixtures.
        """
        sample, rows = self._checked(weights)
        if sample.constant:
            return self._flat(len(rows))
        means, variances = self._predict(rows)
        if noise:
            variances = variances + self.noise_std**2
        return means, np.sqrt(np.maximum(variances, 0.0))

    def mean(self, weights: ArrayLike) -> Floats:
        """The means alone, which is cheaper."""
        sample, rows = self._checked(weights)
        return self._flat(len(rows))[0] if sample.constant else self._mean(rows)

    def joint(self, weights: ArrayLike) -> tuple[Floats, Floats]:
        """Means of mixtures and the covariance of our errors about them, without the noise of runs.

        Returns:
            (means of shape (R,), covariances of shape (R, R)).
        """
        sample, rows = self._checked(weights)
        if sample.constant:
            return self._flat(len(rows))[0], np.zeros((len(rows), len(rows)))
        return self._joint(rows)

    def leave_one_out(self) -> tuple[Floats, Floats]:
        """What would have been predicted for each run without any run of its mixture.

        Returns:
            (means, standard deviations of one run), each of shape (R,), in the order of the runs.

        Raises:
            InvalidParameter: not fitted yet.
        """
        sample = self._fitted()
        if sample.constant:
            return self._flat(len(sample.index))
        means, variances = self._leave_one_out()
        runs = variances[sample.index] + self._run_variance(sample)
        return means[sample.index], np.sqrt(np.maximum(runs, (TINY * self._scale()) ** 2))

    def leave_one_out_density(self) -> Floats:
        """Log predictive density of each distinct mixture's mean score, left out; shape (D,), in order of weights."""
        sample = self._fitted()
        if sample.constant:
            return np.zeros(len(sample))
        means, variances = self._leave_one_out()
        total = variances + self._mean_variance(sample)
        return log_density(sample.scores, means, np.sqrt(np.maximum(total, (TINY * self._scale()) ** 2)))

    @property
    def noise_std(self) -> float:
        """Standard deviation of one new run around its mixture's mean, as this surrogate sees it."""
        sample = self._fitted()
        return 0.0 if sample.constant else math.sqrt(self._noise() + float(np.median(sample.known_variance)))

    def quadratic(self) -> tuple[float, Floats, Floats] | None:
        """(a, b, C) where the mean is a + b'w + w'Cw, else None; for the exact optimum."""
        sample = self._fitted()
        if sample.constant:
            return float(sample.scores.mean()), np.zeros(sample.m), np.zeros((sample.m, sample.m))
        return self._quadratic()

    def describe(self) -> dict[str, Any]:
        """What was fitted, as plain JSON."""
        sample = self._fitted()
        what = {"value": float(sample.scores.mean())} if sample.constant else self._describe()
        return {"name": self.name, "runs": len(sample.index), "mixtures": len(sample), **what}

    # --- hooks ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def _fit(self, sample: Sample) -> None:
        """Learn from a sample that is not constant and large enough."""

    @abstractmethod
    def _predict(self, rows: Floats) -> tuple[Floats, Floats]:
        """Means and variances of mixtures' means."""

    @abstractmethod
    def _leave_one_out(self) -> tuple[Floats, Floats]:
        """Means and variances of the means of the sample's mixtures, each left out; shape (D,)."""

    @abstractmethod
    def _noise(self) -> float:
        """Variance of one run beyond its standard error."""

    def _mean(self, rows: Floats) -> Floats:
        return self._predict(rows)[0]

    def _joint(self, rows: Floats) -> tuple[Floats, Floats]:
        """Errors are taken as independent where a surrogate cannot tell."""
        means, variances = self._predict(rows)
        return means, np.diag(variances)

    def _quadratic(self) -> tuple[float, Floats, Floats] | None:
        return None

    def _describe(self) -> dict[str, Any]:
        return {}

    # --- help for subclasses ---------------------------------------------------------------------------------------

    def _fitted(self) -> Sample:
        if self._sample is None:
            raise InvalidParameter(f"the surrogate `{self.name}` is not fitted yet; call `fit` first")
        return self._sample

    def _checked(self, weights: ArrayLike) -> tuple[Sample, Floats]:
        sample = self._fitted()
        return sample, checked_mixtures(weights, owner=self.name, arms=sample.m)

    def _flat(self, rows: int) -> tuple[Floats, Floats]:
        sample = self._fitted()
        return np.full(rows, sample.scores.mean()), np.full(rows, TINY * self._scale())

    def _scale(self) -> float:
        return max(1e-150, float(np.abs(self._fitted().scores).max()))

    def _run_variance(self, sample: Sample) -> Floats:
        """Noise of each single run, shape (R,)."""
        return np.asarray(self._noise() + sample.run_variance)

    def _mean_variance(self, sample: Sample) -> Floats:
        """Noise of each mixture's mean score, shape (D,)."""
        return np.asarray((self._noise() + sample.known_variance) / sample.counts)


def log_density(values: ArrayLike, means: ArrayLike, stds: ArrayLike) -> Floats:
    """Log density of normal distributions.

    Args:
        values: shape (R,).
        means: shape (R,).
        stds: above 0, shape (R,).

    Returns:
        Shape (R,).

    Example:
        >>> log_density([0.0], [0.0], [1.0]).round(4)
        array([-0.9189])

    """
    deviations = np.asarray(stds, dtype=np.float64)
    standard = (np.asarray(values, dtype=np.float64) - np.asarray(means)) / deviations
    return np.asarray(-0.5 * standard**2 - np.log(deviations) - 0.5 * math.log(2.0 * math.pi))
