"""A pass rate that drifts, believed as a normal distribution of its logit, and the drift itself, learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Bools, Floats, Ints

__all__ = ["Drift", "LogitUpdate", "bounded", "expected_live_gains", "expected_pass_rate", "update_logit"]

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
_LOG_WEIGHTS = np.log(_WEIGHTS) - 0.5 * np.log(2.0 * np.pi) + 0.5 * _NODES * _NODES
_STEPS = 32
"""Steps to the mode at most; each moves by at most ``_STRIDE`` logits, and by one where a rate is near 0 or 1."""
_STRIDE = 2.5
_CLOSE = 1e-9
"""A step this short is the last: the next one would be about its square."""
_LEAST_VARIANCE = 1e-6
_DRIFT_RANGE = (1e-9, 1.0)
_STEEPEST = 1.0
"""The trend is never more than so many logits a round."""
_BOLDEST = 0.5
"""The logarithm of the drift moves by no more than this in one round."""


_WIDEST = 25.0
"""A belief is never wider than this variance: it covers pass rates from 1e-6 to 1 − 1e-6."""
_FURTHEST = 16.0
"""No belief is further from 0 than so many logits, however long a trend may have carried it."""


class LogitUpdate(NamedTuple):
    """What a group made of a belief; all of the shape of the belief.

    Attributes:
        mean: of the logit, now.
        variance: of the logit, now, > 0.
        log_evidence: logarithm of the probability of what came, less a constant of the counts.
    """

    mean: Floats
    variance: Floats
    log_evidence: Floats

    def at(self, places: Ints | Bools) -> LogitUpdate:
        """Those of some places."""
        return LogitUpdate(self.mean[places], self.variance[places], self.log_evidence[places])


def update_logit(mean: ArrayLike, variance: ArrayLike, successes: ArrayLike, trials: ArrayLike) -> LogitUpdate:
    """Bring normal beliefs about logits up to date with s successes of n.

    The moments of N(z; m, v) · σ(z)^s · (1 − σ(z))^(n−s) are taken by Gauss-Hermite quadrature around its mode, and the
    belief becomes the normal distribution with those moments.

    Args:
        mean: m, logits, shape (k,).
        variance: v > 0, shape (k,).
        successes: s in [0, n], fractions allowed, shape (k,).
        trials: n ≥ 0, shape (k,); where it is 0 the belief stays.

    Raises:
        InvalidParameter: an argument is out of range.

    Source:
        assumed-density filtering; the binomial likelihood with a logit link.

    >>> after = update_logit([0.0], [4.0], [7.0], [8.0])
    >>> after.mean.round(2), after.variance.round(2)
    (array([1.75]), array([0.83]))
    """
    m, v, s, n = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (mean, variance, successes, trials)))
    if not (np.isfinite(m).all() and np.isfinite(v).all() and np.all(v > 0.0)):
        raise InvalidParameter("`mean` and `variance` of `update_logit` must be finite, the variance above 0")
    if not np.all((n >= 0.0) & (s >= 0.0) & (s <= n) & np.isfinite(n)):
        raise InvalidParameter("`successes` of `update_logit` must lie in [0, trials]")
    mode = _mode(m, v, s, n)
    width = 1.0 / np.sqrt(_curvature(_logistic(mode), v, n))
    z = mode[:, None] + width[:, None] * _NODES
    log_density = (
        s[:, None] * -np.logaddexp(0.0, -z)
        + (n - s)[:, None] * -np.logaddexp(0.0, z)
        - 0.5 * np.square(z - m[:, None]) / v[:, None]
    )
    logs = _LOG_WEIGHTS + log_density + (np.log(width) - 0.5 * np.log(v))[:, None]
    highest = logs.max(axis=1)
    weights = np.exp(logs - highest[:, None])
    total = weights.sum(axis=1)
    weights /= total[:, None]
    after = (weights * z).sum(axis=1)
    spread = (weights * np.square(z - after[:, None])).sum(axis=1)
    told = n > 0.0
    return LogitUpdate(
        mean=np.where(told, after, m),
        variance=np.where(told, np.clip(spread, _LEAST_VARIANCE, None), v),
        log_evidence=np.where(told, highest + np.log(total), 0.0),
    )


def bounded(mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Beliefs about logits, none further out or wider than makes sense, each of the shape given.

    >>> bounded(np.array([40.0]), np.array([100.0]))
    (array([16.]), array([25.]))
    """
    return np.clip(mean, -_FURTHEST, _FURTHEST), np.minimum(variance, _WIDEST)


def expected_pass_rate(mean: ArrayLike, variance: ArrayLike) -> Floats:
    """The mean of σ(z) where z is normal, by Gauss-Hermite quadrature; the common shape, in (0, 1).

    >>> expected_pass_rate([2.0, 2.0], [1e-6, 9.0]).round(3)
    array([0.881, 0.717])
    """
    m, v = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(variance, dtype=np.float64))
    rate = np.zeros(m.shape)
    deviation = np.sqrt(v)
    for node, weight in zip(_NODES, _WEIGHTS / _WEIGHTS.sum(), strict=True):
        rate += weight * _logistic(m + deviation * node)
    return rate


def expected_live_gains(mean: Floats, variance: Floats, most: int) -> Floats:
    """What each further rollout is expected to add to the chance of a live group: E p^k (1−p) + (1−p)^k p.

    Args:
        mean: of the logits, shape (b,).
        variance: of the logits, shape (b,).
        most: rollouts at most, ≥ 1.

    Returns:
        shape (b, most − 1): column k − 1 is the gain of going from k rollouts to k + 1; decreasing along a row.

    >>> expected_live_gains(np.array([0.0]), np.array([1e-6]), 4).round(3)
    array([[0.5  , 0.25 , 0.125]])
    """
    gains = np.zeros((mean.size, most - 1))
    deviation = np.sqrt(variance)
    for node, weight in zip(_NODES, _WEIGHTS / _WEIGHTS.sum(), strict=True):
        right = _logistic(mean + deviation * node)
        wrong = 1.0 - right
        all_right, all_wrong = np.ones_like(right), np.ones_like(right)
        for k in range(most - 1):
            all_right, all_wrong = all_right * right, all_wrong * wrong
            gains[:, k] += weight * (all_right * wrong + all_wrong * right)
    return gains


class Drift:
    """How fast logits wander (variance q a round) and where to (trend μ a round), learned from what groups bring.

    A belief that is Δ rounds old is N(m + μΔ, v + qΔ). When its prompt brings a group, the logarithm of that group's
    probability has a derivative by log q and by μ. Beliefs depend on q and μ through all of their past, so how much is
    carried along with each of them: ∂m/∂μ, ∂m/∂log q and ∂v/∂log q. With J the information about a quantity so far,

        μ ← μ + Σ s_μ / J_μ,    log q ← log q + Σ s_q / J_q,    J ← fading · J + Σ i,

    where s is the derivative and i the information of a group; those of a normal belief stand in for the exact ones:
    with v' the variance after the group, i_m = (v − v') / v² and i_v = i_m² / 2.

    Args:
        drift: q to start from, variance of a logit a round.
        trend: μ to start from, logits a round.
        memory: groups after which what was learned has faded to 1/e.

    Source:
        recursive maximum likelihood for state-space models (Ljung & Söderström 1983).

    >>> drift = Drift(drift=0.01)
    >>> drift.aged(np.array([0.0]), np.array([1.0]), np.array([10.0]))
    (array([0.]), array([1.1]))
    """

    # As if so much had been learned of each beforehand: log q to about ±0.5, μ to about ±0.01 logits a round.
    _SURE_OF_DRIFT, _SURE_OF_TREND = 4.0, 1e4

    def __init__(self, *, drift: float = 0.01, trend: float = 0.0, memory: float = 20_000.0) -> None:
        self.memory = memory
        self._log_drift = float(np.log(drift))
        self.trend = float(trend)
        self._known_drift, self._known_trend = self._SURE_OF_DRIFT, self._SURE_OF_TREND

    @property
    def drift(self) -> float:
        """q, variance of a logit a round."""
        return float(np.exp(self._log_drift))

    def aged(self, mean: Floats, variance: Floats, elapsed: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of beliefs after so many rounds without news."""
        return mean + self.trend * elapsed, variance + self.drift * elapsed

    def learn(self, before: LogitUpdate, after: LogitUpdate, by: Floats) -> Floats:
        """Learn from groups, and carry the derivatives of the beliefs over.

        Args:
            before: the aged beliefs that met the groups (its ``log_evidence`` is not used).
            after: what :func:`update_logit` made of them.
            by: ∂m/∂μ, ∂m/∂log q, ∂v/∂log q of the aged beliefs, shape (3, k); see :meth:`aged_derivatives`.

        Returns:
            the same of the new beliefs, shape (3, k).
        """
        m, v = before.mean, before.variance
        slope = (after.mean - m) / v
        bend = (np.square(after.mean - m) + after.variance - v) / (2.0 * v * v)
        known_m = np.maximum(v - after.variance, 0.0) / (v * v)
        known_v = 0.5 * np.square(known_m)
        m_trend, m_drift, v_drift = by
        kept = (1.0 - 1.0 / self.memory) ** m.size
        information = np.square(m_drift) * known_m + np.square(v_drift) * known_v
        # Never less sure than at the start: one surprise, where all else is foretold well, would else be all there is.
        self._known_drift = max(self._known_drift * kept, self._SURE_OF_DRIFT) + float(information.sum())
        learned = float((np.square(m_trend) * known_m).sum())
        self._known_trend = max(self._known_trend * kept, self._SURE_OF_TREND) + learned
        step = float((m_drift * slope + v_drift * bend).sum()) / self._known_drift
        self._log_drift += min(max(step, -_BOLDEST), _BOLDEST)
        low, high = np.log(_DRIFT_RANGE)
        self._log_drift = min(max(self._log_drift, float(low)), float(high))
        self.trend += float((m_trend * slope).sum()) / self._known_trend
        self.trend = min(max(self.trend, -_STEEPEST), _STEEPEST)
        left = after.variance / v
        return np.stack([left * m_trend, left * (m_drift + slope * v_drift), np.square(left) * v_drift])

    def aged_derivatives(self, by: Floats, elapsed: Floats) -> Floats:
        """The derivatives after so many rounds without news, shape (3, k)."""
        return np.stack([by[0] + elapsed, by[1], by[2] + self.drift * elapsed])

    def state(self) -> list[float]:
        """Four numbers that :meth:`restore` takes."""
        return [self._log_drift, self.trend, self._known_drift, self._known_trend]

    def restore(self, state: list[float]) -> None:
        """Go on from :meth:`state`."""
        self._log_drift, self.trend, self._known_drift, self._known_trend = (float(value) for value in state)


def _mode(m: Floats, v: Floats, s: Floats, n: Floats) -> Floats:
    """Newton's method for all at once, until none moves: neighbours change a mode by rounding only."""
    z = m.copy()
    for _ in range(_STEPS):
        rate = _logistic(z)
        slope = s - n * rate - (z - m) / v
        step = slope / _curvature(rate, v, n)
        z += np.clip(step, -_STRIDE, _STRIDE)
        if not np.count_nonzero(np.abs(step) > _CLOSE):
            break
    return z


def _curvature(rate: Floats, v: Floats, n: Floats) -> Floats:
    return np.asarray(n * rate * (1.0 - rate) + 1.0 / v)


def _logistic(z: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(z, -700.0, 700.0))))
