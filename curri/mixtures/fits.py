"""Surrogates of several targets, each fitted on its own, and the sums that are built from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidData, unknown_name
from curri.mixtures.noise import Noise, replicate_noise
from curri.mixtures.quality import Quality, quality_of
from curri.mixtures.surrogates import Surrogate, make_surrogate, share_evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from curri.mixtures.runs import Runs
    from curri.mixtures.targets import Target
    from curri.types import Bools, Floats

__all__ = ["Fits", "fit"]

_LEAST = 2
_SHRINK = 4.0


@dataclass(frozen=True, eq=False)
class Fits:
    """One surrogate a column of scores; targets are read off them.

    A sum of columns has the sum of their means, and the variance Σ_kl c_k c_l s_k s_l ρ_kl with the correlation ρ of
    their leave-one-out errors (shrunk towards 0 as if 4 more runs showed none). It is not fitted itself: sums of
    exponentials are no exponential, and fits to the parts predict sums better (specification, 5.5).

    Attributes:
        runs: what was fitted.
        surrogate: the name that was asked for.
        surrogates: column → fitted surrogate.
        correlation: of the columns' errors, shape (K, K), in the order of ``surrogates``.
        skipped: columns that were not fitted → why.
    """

    runs: Runs
    surrogate: str
    surrogates: dict[str, Surrogate]
    correlation: Floats
    skipped: dict[str, str] = field(default_factory=dict)

    def of(self, column: str) -> Surrogate:
        """The surrogate of a column.

        Raises:
            InvalidData: it was not fitted, and why.
            UnknownName: there is no such column.
        """
        if column in self.surrogates:
            return self.surrogates[column]
        if column in self.runs.targets:
            raise InvalidData(f'"{column}" was not fitted: {self.skipped.get(column, "it was not asked for")}')
        raise unknown_name("target", column, self.surrogates)

    def predict(self, target: Target, weights: ArrayLike, *, noise: bool = True) -> tuple[Floats, Floats]:
        """Mean and standard deviation of a target for each mixture.

        Args:
            target: built from fitted columns.
            weights: shape (R, m) or (m,).
            noise: whether the deviation is that of one new run, or (False) of the mixture's mean.

        Returns:
            (means, standard deviations), each of shape (R,).
        """
        parts = [self.of(name).predict(weights, noise=noise) for name in target.parts]
        return self._mean(target, [mean for mean, _ in parts]), self._std(target, [std for _, std in parts])

    def mean(self, target: Target, weights: ArrayLike) -> Floats:
        """The means alone, which is cheaper."""
        return self._mean(target, [self.of(name).mean(weights) for name in target.parts])

    def joint(self, target: Target, weights: ArrayLike) -> tuple[Floats, Floats]:
        """Means, shape (R,), and the covariance of our errors about the mixtures' means, shape (R, R).

        Columns' errors are correlated as their leave-one-out errors are, mixture by mixture.
        """
        parts = [self.of(name).joint(weights) for name in target.parts]
        means = self._mean(target, [mean for mean, _ in parts])
        roots = [_root(covariance) for _, covariance in parts] if len(parts) > 1 else []
        correlation = self._correlation_of(target)
        coefficients = list(target.parts.values())
        total = np.zeros_like(parts[0][1])
        for i, first in enumerate(coefficients):
            total += first**2 * parts[i][1]
            for j in range(i):
                cross = roots[i] @ roots[j].T
                total += first * coefficients[j] * correlation[i, j] * (cross + cross.T)
        return means, total

    def measured(self, target: Target) -> Floats:
        """The target's score in each run, NaN where a part is missing, shape (R,)."""
        return self._mean(target, [self.runs.scores(name) for name in target.parts])

    def leave_one_out(self, target: Target) -> tuple[Floats, Floats, Floats]:
        """What each run scored, and what would have been predicted for it without any run of its mixture.

        Returns:
            (scores, means, standard deviations of one run), shape (R,) each, NaN for runs that lack a part.
        """
        parts = [_spread_out(self.of(name), self.runs.measured(name)) for name in target.parts]
        means = self._mean(target, [mean for mean, _ in parts])
        return self.measured(target), means, self._std(target, [std for _, std in parts])

    def quality(self, target: Target) -> Quality:
        """How well left-out runs are predicted."""
        scores, means, stds = self.leave_one_out(target)
        known = np.isfinite(scores) & np.isfinite(means)
        return quality_of(scores[known], means[known], stds[known])

    def noise(self, target: Target) -> Noise:
        """How much one run of a mixture differs from the next: from replicates, else as the surrogates see it."""
        found = replicate_noise(self.measured(target), self.runs.mixture)
        if found is not None:
            return found
        std = self._std(target, [np.array([self.of(name).noise_std]) for name in target.parts])
        return Noise(float(std[0]), 0, "model")

    def quadratic(self, target: Target) -> tuple[float, Floats, Floats] | None:
        """(a, b, C) of the target's mean where all its parts are quadratics, else None."""
        parts = [self.of(name).quadratic() for name in target.parts]
        a, b, square = 0.0, np.zeros(self.runs.m), np.zeros((self.runs.m, self.runs.m))
        for coefficient, part in zip(target.parts.values(), parts, strict=True):
            if part is None:
                return None
            a, b, square = a + coefficient * part[0], b + coefficient * part[1], square + coefficient * part[2]
        return a, b, square

    def describe(self) -> dict[str, Any]:
        """What was fitted to each column, as plain JSON."""
        return {name: surrogate.describe() for name, surrogate in self.surrogates.items()}

    def _mean(self, target: Target, parts: Sequence[Floats]) -> Floats:
        return np.asarray(sum(c * part for c, part in zip(target.parts.values(), parts, strict=True)))

    def _std(self, target: Target, parts: Sequence[Floats]) -> Floats:
        scaled = np.array([c * part for c, part in zip(target.parts.values(), parts, strict=True)])
        variance = np.einsum("kr,kl,lr->r", scaled, self._correlation_of(target), scaled)
        return np.asarray(np.sqrt(np.where(variance < 0.0, 0.0, variance)))

    def _correlation_of(self, target: Target) -> Floats:
        names = list(self.surrogates)
        place = [names.index(name) for name in target.parts]
        return np.asarray(self.correlation[np.ix_(place, place)])


def fit(
    runs: Runs,
    surrogate: str = "best",
    *,
    columns: Sequence[str] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    **settings: Any,
) -> Fits:
    """Fit one surrogate to every column of scores.

    Args:
        runs: mixtures and scores; runs without a score are left out of that column.
        surrogate: its name, one of :data:`SURROGATES`.
        columns: which columns; if None all with two scores or more, the others are in ``skipped``.
        progress: called before each column with how many are done, how many there are, and its name.
        **settings: keywords of the surrogate's class.

    Raises:
        UnknownName: there is no such surrogate or column.
        InvalidData: a column has too few runs for this surrogate; the message names the column.
        MissingExtra: the surrogate needs a package that is not installed.

    Example:
        >>> from curri.mixtures.runs import Runs
        >>> from curri.mixtures.targets import Target
        >>> weights = [[1, 0], [0, 1], [0.5, 0.5], [0.2, 0.8]]
        >>> runs = Runs(["math", "code"], weights, {"score": [1.0, 2.0, 1.5, 1.8]})
        >>> fit(runs, "linear").predict(Target("score", {"score": 1.0}), [0.4, 0.6])[0].round(1)
        array([1.6])

    """
    counts = {name: int(runs.measured(name).sum()) for name in (runs.targets if columns is None else columns)}
    skipped = {} if columns is not None else {name: _too_few(n) for name, n in counts.items() if n < _LEAST}
    fitted: dict[str, Surrogate] = {}
    wanted = [name for name in counts if name not in skipped]
    for done, name in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted), name)
        known = runs.measured(name)
        errors = runs.standard_errors(name)
        if not known.any():
            raise InvalidData(f'"{name}" has no score at all, so nothing can be fitted to it')
        model = make_surrogate(surrogate, **settings)
        try:
            model.fit(runs.weights[known], runs.scores(name)[known], None if errors is None else errors[known])
        except InvalidData as error:
            raise InvalidData(f'"{name}": {error.message}', hint=error.hint) from None
        fitted[name] = model
    share_evidence(list(fitted.values()))
    return Fits(runs, surrogate, fitted, _error_correlation(runs, fitted), skipped)


def _too_few(scores: int) -> str:
    return "it has no score at all" if scores == 0 else "it has one score only"


def _spread_out(surrogate: Surrogate, known: Bools) -> tuple[Floats, Floats]:
    """Leave-one-out predictions in the order of all runs, NaN for those it was not fitted to."""
    found = np.full((2, len(known)), np.nan)
    found[:, known] = surrogate.leave_one_out()
    return found[0], found[1]


def _error_correlation(runs: Runs, fitted: dict[str, Surrogate]) -> Floats:
    """Correlation of the columns' standardised leave-one-out errors, shrunk by the number of runs they share."""
    errors = []
    for name, surrogate in fitted.items():
        means, stds = _spread_out(surrogate, runs.measured(name))
        errors.append((runs.scores(name) - means) / stds)
    found = np.eye(len(errors))
    for i, first in enumerate(errors):
        for j in range(i):
            both = np.isfinite(first) & np.isfinite(errors[j])
            x, y = first[both], errors[j][both]
            length = math.sqrt(float(x @ x) * float(y @ y)) if both.any() else 0.0
            shrunk = both.sum() / (both.sum() + _SHRINK)
            found[i, j] = found[j, i] = shrunk * float(x @ y) / length if length > 0.0 else 0.0
    return _positive(found)


def _positive(correlation: Floats) -> Floats:
    """The same without negative eigenvalues, which pairs with different runs can bring, and with a unit diagonal."""
    if not len(correlation):
        return correlation
    values, vectors = np.linalg.eigh(correlation)
    if values.min() >= 0.0:
        return correlation
    mended = (vectors * np.maximum(values, 1e-9)) @ vectors.T
    scale = np.sqrt(np.diag(mended))
    return np.asarray(mended / np.outer(scale, scale))


def _root(covariance: Floats) -> Floats:
    """A symmetric square root."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2.0)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
