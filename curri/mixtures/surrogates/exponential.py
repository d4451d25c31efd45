"""Exponential mixing laws: Data Mixing Laws and Olmix's form of it, one fit a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.errors import InvalidParameter
from curri.mixtures._extras import optional
from curri.mixtures.surrogates.base import Surrogate

if TYPE_CHECKING:
    from curri.mixtures.surrogates.sample import Sample
    from curri.types import Floats

__all__ = ["ExponentialLaw", "OlmixLaw"]

_MOST = 0.999
_LARGEST_EXPONENT = 30.0


class ExponentialLaw(Surrogate):
    """y = c ± exp(A'w), fitted with a Huber loss from many starts (Data Mixing Laws: c + k·exp(t'w)).

    On the simplex k is no parameter of its own: k·exp(t'w) = exp((t + ln k)'w). The plus sign is that of a loss; scores
    that rise and level off take the minus sign, and both are tried. Each start fixes c at some distance below (above)
    the scores, solves the linear problem that is left for A, and lets L-BFGS do the rest.

    Predictive deviations are those of the linearised law (Gauss-Newton); leave-one-out errors are e / (1 - h) with the
    leverage h of the same linearisation: an approximation, exact for linear models.

    Args:
        delta: Huber's δ in standard deviations of the scores, so that percentages and losses are treated alike. Olmix's
            code has 0.02 and that of Data Mixing Laws 0.02 to 0.05 in nats, with losses that vary by about 0.4.
        starts: how many values of c each sign starts from.
    """

    name: ClassVar[str] = "exponential"
    summary: ClassVar[str] = "Data Mixing Laws, c ± exp(A'w) for each target"
    signs: ClassVar[tuple[float, ...]] = (1.0, -1.0)

    def __init__(self, *, delta: float = 0.05, starts: int = 8) -> None:
        super().__init__()
        if not 0.0 < delta < np.inf:
            raise InvalidParameter(f"`delta` of `{self.name}` must be a float in (0, inf); got {delta!r}")
        if starts < 1:
            raise InvalidParameter(f"`starts` of `{self.name}` must be an int in [1, inf); got {starts!r}")
        self.delta, self.starts = delta, starts

    @classmethod
    def trusted_runs(cls, m: int) -> int:
        """Two for each parameter."""
        return 2 * (m + 1)

    @classmethod
    def minimum_runs(cls, m: int) -> int:
        """As many as it has parameters, m + 1, and one more."""
        return m + 2

    def _fit(self, sample: Sample) -> None:
        self._width = self.delta * float(sample.scores.std() or sample.run_scores.std())
        found = [self._descend(start, sign, sample) for sign in self.signs for start in self._guesses(sample, sign)]
        _, self._sign, self._point = min(found, key=lambda each: each[0])
        slopes = self._slopes(sample.weights) * np.sqrt(sample.counts)[:, None]
        precision = slopes.T @ slopes
        ridge = 1e-9 * max(float(np.trace(precision)) / len(precision), 1e-12)
        self._root = np.linalg.inv(np.linalg.cholesky(precision + ridge * np.eye(len(precision))))
        leverage = np.minimum(np.square(slopes @ self._root.T).sum(axis=1), _MOST)
        errors = (sample.scores - self._law(self._point, sample.weights)) / (1.0 - leverage)
        squares = errors**2 * (1.0 - leverage) * sample.counts
        self._variance = max(float(squares.mean()), 1e-24 * self._scale() ** 2)
        self._left_out = sample.scores - errors
        self._left_out_variance = self._variance / sample.counts * leverage / (1.0 - leverage)

    def _guesses(self, sample: Sample, sign: float) -> list[Floats]:
        spread = float(np.ptp(sample.scores))
        edge = float(sample.scores.min() if sign > 0 else sample.scores.max())
        guesses = []
        for distance in np.logspace(-2.0, 1.0, self.starts) * spread:
            level = self._level(edge - sign * distance)
            rest = np.log(np.maximum(sign * (sample.scores - self._offset(level)), 1e-3 * spread))
            exponents = np.linalg.lstsq(sample.weights, rest, rcond=1e-6)[0]
            guesses.append(np.append(exponents, level))
        return guesses

    def _descend(self, start: Floats, sign: float, sample: Sample) -> tuple[float, float, Floats]:
        minimise = optional("scipy.optimize", "the exponential law").minimize
        options = {"maxiter": 500}
        found = minimise(self._loss, start, args=(sign, sample), jac=True, method="L-BFGS-B", options=options)
        return float(found.fun), sign, np.asarray(found.x, dtype=np.float64)

    def _loss(self, point: Floats, sign: float, sample: Sample) -> tuple[float, Floats]:
        """Mean Huber loss and its gradient."""
        rise = sign * np.exp(np.minimum(sample.weights @ point[:-1], _LARGEST_EXPONENT))
        errors = self._offset(point[-1]) + rise - sample.scores
        clipped = np.clip(errors, -self._width, self._width) * sample.counts / sample.counts.sum()
        gradient = np.append(sample.weights.T @ (clipped * rise), clipped.sum() * self._offset_slope(point[-1]))
        return float(clipped @ (errors - 0.5 * np.clip(errors, -self._width, self._width))), gradient

    def _law(self, point: Floats, rows: Floats) -> Floats:
        exponents = np.minimum(rows @ point[:-1], _LARGEST_EXPONENT)
        return np.asarray(self._offset(point[-1]) + self._sign * np.exp(exponents))

    def _slopes(self, rows: Floats) -> Floats:
        """∂y / ∂(A, level), shape (R, m + 1)."""
        rise = self._law(self._point, rows) - self._offset(self._point[-1])
        return np.column_stack([rows * rise[:, None], np.full(len(rows), self._offset_slope(self._point[-1]))])

    # How the constant is parametrised.

    def _offset(self, level: float) -> float:
        return float(level)

    def _offset_slope(self, level: float) -> float:
        return 1.0

    def _level(self, offset: float) -> float:
        return offset

    # What the base class asks.

    def _predict(self, rows: Floats) -> tuple[Floats, Floats]:
        spread = np.square(self._slopes(rows) @ self._root.T).sum(axis=1)
        return self._law(self._point, rows), self._variance * spread

    def _joint(self, rows: Floats) -> tuple[Floats, Floats]:
        root = self._slopes(rows) @ self._root.T
        return self._law(self._point, rows), self._variance * root @ root.T

    def _mean(self, rows: Floats) -> Floats:
        return self._law(self._point, rows)

    def _leave_one_out(self) -> tuple[Floats, Floats]:
        return self._left_out, self._left_out_variance

    def _noise(self) -> float:
        return max(self._variance - float(self._fitted().known_variance.mean()), 0.05 * self._variance)

    def _describe(self) -> dict[str, Any]:
        return {"c": self._offset(self._point[-1]), "sign": self._sign, "A": self._point[:-1].tolist()}


class OlmixLaw(ExponentialLaw):
    """y = exp(c) + exp(A'w), Olmix's form for one task: as above with a positive constant and the plus sign only.

    It is made for losses. Scores that are negative or rise towards a ceiling are beyond it.
    """

    name: ClassVar[str] = "olmix"
    summary: ClassVar[str] = "Olmix's exp(c) + exp(A'w) for each target; for losses"
    signs: ClassVar[tuple[float, ...]] = (1.0,)

    def _offset(self, level: float) -> float:
        return float(np.exp(min(level, _LARGEST_EXPONENT)))

    def _offset_slope(self, level: float) -> float:
        return self._offset(level)

    def _level(self, offset: float) -> float:
        return float(np.log(max(offset, 1e-3 * self._scale())))
