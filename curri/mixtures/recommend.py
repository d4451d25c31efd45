"""Candidates, and the guard: only what beats the best measured mixture by more than the noise is recommended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from curri.errors import InvalidData, InvalidParameter
from curri.mixtures.optimise import exact_optimum, maximise, objective, spread_out
from curri.mixtures.quality import normal_quantile
from curri.mixtures.simplex import total_variation

if TYPE_CHECKING:
    from curri.mixtures.constraints import Constraints
    from curri.mixtures.fits import Fits
    from curri.mixtures.noise import Noise
    from curri.mixtures.quality import Quality
    from curri.mixtures.targets import Target
    from curri.types import Floats

__all__ = ["Candidate", "Recommendation", "candidates", "recommend"]

INTERVAL = 0.9
_APART = 0.1
_TIE = 1e-12


@dataclass(frozen=True, eq=False)
class Candidate:
    """A mixture with what is known about it. Gains are in units of the target, above 0 where it is better.

    Attributes:
        weights: shape (m,).
        mean: predicted score.
        std: standard deviation of one run of it, noise included.
        interval: 90 % interval of one run of it.
        gain: predicted improvement over the best measured mixture's smoothed score.
        gain_std: standard deviation of that improvement, without the noise of runs.
        better: probability that its mean is better.
        distance: total variation to the nearest measured mixture, in [0, 1].
        nearest: name of a run of that mixture.
        penalty: λ·KL(w ‖ prior), 0 without one.
    """

    weights: Floats
    mean: float
    std: float
    interval: tuple[float, float]
    gain: float
    gain_std: float
    better: float
    distance: float
    nearest: str
    penalty: float = 0.0


@dataclass(frozen=True, eq=False)
class Recommendation:
    """What to train on, and why.

    Attributes:
        weights: the mixture, shape (m,).
        source: "candidate" (predicted) or "measured" (a mixture that was run).
        run: the name of a run of it where it was measured, else None.
        chosen: the mixture with its prediction.
        best_measured: the measured mixture that is best after smoothing, with its prediction.
        measured_mean: mean score of the runs of ``best_measured``.
        measured_runs: how many there are.
        smoothed: the score that candidates had to beat: trust · prediction + (1 - trust) · measured mean.
        trust: how much of what can be explained of left-out runs the surrogate explains, in [0, 1].
        candidates: what was considered, best first.
        noise: of one run.
        threshold: the gain that a candidate had to exceed.
        quality: how well left-out runs are predicted.
        reason: one or two sentences.
    """

    weights: Floats
    source: Literal["candidate", "measured"]
    run: str | None
    chosen: Candidate
    best_measured: Candidate
    measured_mean: float
    measured_runs: int
    smoothed: float
    trust: float
    candidates: list[Candidate]
    noise: Noise
    threshold: float
    quality: Quality
    reason: str
    _measured: _Measured = field(repr=False)

    def compare(self, weights: Floats) -> list[Candidate]:
        """Any mixtures, shape (R, m), against the best measured one, as candidates are."""
        return self._measured.describe(np.atleast_2d(weights))


def candidates(
    fits: Fits, target: Target, limits: Constraints, *, count: int = 5, caution: float = 0.0, seed: int = 0
) -> list[Candidate]:
    """Promising mixtures that differ from each other, best first.

    Args:
        fits: the surrogates.
        target: what to raise or lower.
        limits: what is allowed.
        count: how many at most; they are at least 0.1 apart in total variation.
        caution: standard deviations taken off the mean while searching.
        seed: of the search.

    Raises:
        InvalidData: no run has a score of the target.
        InvalidParameter: ``count`` or ``caution`` is out of range.
    """
    if count < 1 or not 0.0 <= caution < math.inf:
        raise InvalidParameter(f"`count` must be at least 1 and `caution` at least 0; got {count!r} and {caution!r}")
    base = _Measured(fits, target, limits)
    return base.describe(_search(base, count, caution, seed))


def recommend(
    fits: Fits,
    target: Target,
    limits: Constraints,
    *,
    count: int = 5,
    caution: float = 0.0,
    guard: float = 1.0,
    seed: int = 0,
) -> Recommendation:
    """A candidate where it beats the best measured mixture by more than the noise, else that mixture.

    The best candidate must gain more than ``guard`` times the larger of two numbers: the noise of one run (from
    replicates where there are any, else what the surrogate sees) and the standard deviation of the predicted gain. And
    left-out runs must be predicted better than by the mean of all runs, by one standard error
    (:attr:`Quality.beats_mean`).

    What it is compared with: every measured mixture is smoothed, t · prediction + (1 - t) · mean of its runs, and the
    highest counts. The highest score alone would be a matter of luck, and the prediction alone as bad as the surrogate
    may be. The trust t is the R² of left-out runs, over the R² that the noise of replicates leaves possible where there
    are any.

    Args:
        fits: the surrogates.
        target: what to raise or lower.
        limits: what is allowed.
        count: how many candidates to consider.
        caution: standard deviations taken off the mean while searching.
        guard: how much more than noise a gain must be, at least 0.
        seed: of the search.

    Raises:
        InvalidData: no run of an allowed mixture has a score of the target.
        InvalidParameter: a number is out of range.
    """
    if not 0.0 <= guard < math.inf:
        raise InvalidParameter(f"`guard` must be a float in [0, inf); got {guard!r}")
    found = candidates(fits, target, limits, count=count, caution=caution, seed=seed)
    base = _Measured(fits, target, limits)
    best = found[0]
    threshold = guard * max(base.noise.std, best.gain_std)
    wins = base.quality.beats_mean and best.gain - best.penalty + base.best_candidate.penalty > threshold
    chosen = best if wins else base.best_candidate
    return Recommendation(
        weights=chosen.weights,
        source="candidate" if wins else "measured",
        run=None if wins else base.name,
        chosen=chosen,
        best_measured=base.best_candidate,
        measured_mean=base.raw_mean,
        measured_runs=base.raw_runs,
        smoothed=base.smoothed,
        trust=base.trust,
        candidates=found,
        noise=base.noise,
        threshold=threshold,
        quality=base.quality,
        reason=_reason(base, best, wins=wins),
        _measured=base,
    )


class _Measured:
    """The measured mixtures, smoothed, and the best of them."""

    def __init__(self, fits: Fits, target: Target, limits: Constraints) -> None:
        self.fits, self.target, self.limits = fits, target, limits
        runs, scores = fits.runs, fits.measured(target)
        known = np.isfinite(scores)
        if not known.any():
            raise InvalidData(f'no run has all scores of "{target.name}"')
        self.rows = runs.distinct[np.unique(runs.mixture[known])]
        groups = np.unique(runs.mixture[known], return_inverse=True)[1]
        counts = np.bincount(groups)
        averages = np.bincount(groups, weights=scores[known]) / counts
        self.allowed = limits.allow(self.rows)
        if not self.allowed.any():
            # Nothing that was run is allowed: compare with the nearest that is.
            self.rows = np.vstack([self.rows, limits.bring(self.rows)])
            self.allowed = np.repeat([False, True], len(counts))
            counts, averages = np.tile(counts, 2), np.tile(averages, 2)
        self.noise, self.quality = fits.noise(target), fits.quality(target)
        self.trust = _trust(self.quality, self.noise, float(scores[known].var()))
        values = self.trust * fits.mean(target, self.rows) + (1.0 - self.trust) * averages
        worth = np.where(self.allowed, target.sign * values - limits.penalty(self.rows), -np.inf)
        place = int(np.argmax(worth))
        self.best, self.smoothed = self.rows[place], float(values[place])
        self.raw_mean, self.raw_runs = float(averages[place]), int(counts[place])
        self.name = runs.row_name(self.best)
        self.best_candidate = self.describe(self.best[None])[0]

    def describe(self, rows: Floats) -> list[Candidate]:
        """Predictions of mixtures, each against the best measured one."""
        means, stds = self.fits.predict(self.target, rows)
        centres, covariance = self.fits.joint(self.target, np.vstack([rows, self.best]))
        # The smoothed score of the best one is part prediction, part mean of its runs.
        variance = np.diag(covariance)[:-1] + self.trust**2 * covariance[-1, -1]
        variance = variance - 2.0 * self.trust * covariance[-1, :-1]
        variance += (1.0 - self.trust) ** 2 * self.noise.std**2 / self.raw_runs
        gains, gain_stds = self.target.sign * (centres[:-1] - self.smoothed), np.sqrt(np.maximum(variance, 0.0))
        away = total_variation(rows, self.fits.runs.distinct)
        width, penalties = normal_quantile(INTERVAL), self.limits.penalty(rows)
        found = []
        for i, row in enumerate(rows):
            nearest = self.fits.runs.row_name(self.fits.runs.distinct[int(away[i].argmin())])
            found.append(
                Candidate(
                    weights=row,
                    mean=float(means[i]),
                    std=float(stds[i]),
                    interval=(float(means[i] - width * stds[i]), float(means[i] + width * stds[i])),
                    gain=float(gains[i]),
                    gain_std=float(gain_stds[i]),
                    better=_probability(float(gains[i]), float(gain_stds[i])),
                    distance=float(away[i].min()),
                    nearest=nearest or "",
                    penalty=float(penalties[i]),
                )
            )
        return found


def _search(base: _Measured, count: int, caution: float, seed: int) -> Floats:
    """Where the objective is high: local maxima, and the exact optimum where it has a closed form."""
    score = objective(base.fits, base.target, base.limits, caution=caution)
    allowed = base.rows[base.allowed]
    rows, values = maximise(score, base.limits, allowed, count=count, apart=_APART, seed=seed)
    exact = exact_optimum(base.fits, base.target, base.limits) if caution == 0.0 else None
    if exact is not None:
        rows, values = np.vstack([exact, rows]), np.append(score(exact[None]) + _TIE, values)
    return rows[spread_out(rows, values, count, apart=_APART)]


def _probability(gain: float, std: float) -> float:
    if std <= 0.0:
        return 0.5 if gain == 0.0 else float(gain > 0.0)
    return 0.5 * math.erfc(-gain / std / math.sqrt(2.0))


def _trust(quality: Quality, noise: Noise, variance: float) -> float:
    """R² over the R² that replicates leave possible, in [0, 1]."""
    possible = 1.0
    if noise.source == "replicates" and variance > 0.0:
        possible = max(1.0 - noise.std**2 / variance, 0.05)
    return min(max(quality.r2 / possible, 0.0), 1.0) if math.isfinite(quality.r2) else 0.0


def _reason(base: _Measured, best: Candidate, *, wins: bool) -> str:
    quality, noise = base.quality, base.noise
    name = f'"{base.name}"' if base.name is not None else "the nearest allowed mixture to those measured"
    if not quality.beats_mean:
        why = f"R² {quality.r2:.2f}" if math.isfinite(quality.r2) else "all scores are the same"
        return (
            f"Left-out runs are not predicted better than by the mean of all runs ({why}, {quality.runs} runs), so the "
            f"best measured mixture, {name}, is recommended and no predicted one."
        )
    if noise.std >= best.gain_std:
        source = "replicates" if noise.source == "replicates" else "the surrogate's estimate"
        against = f"the noise of one run, {noise.std:.3g} ({source})"
    else:
        against = f"the uncertainty of that gain, {best.gain_std:.3g}"
    if wins:
        return f"Predicted to beat the best measured mixture, {name}, by {best.gain:.3g}, which is more than {against}."
    if best.gain <= 0.0:
        return f"Nothing is predicted to be better than the best measured mixture, {name}."
    return (
        f"The best prediction beats the best measured mixture, {name}, by {best.gain:.3g}, which is not more than "
        f"{against}; so the measured one is recommended."
    )
