"""How much a prompt of a given pass rate is worth: one family of scores, at a rate and in expectation over a rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats

__all__ = ["RateScore", "beta_below", "expected_rate_score", "rate_score", "rate_score_range"]

RateScore: TypeAlias = Literal["root", "variance", "live", "distance"]

_FACTORS = 64
"""Up to this many rollouts P(live) is a product of as many factors; beyond, it comes from the gamma function."""
_FAR = 12.0
"""Standard deviations between mean and target from which the absolute value is left out: the rest is below 1e-30."""
_STRIDE = 8
_CHUNK = 32_768
"""So many prompts at a time: the arrays of one step then stay in the processor's cache."""
_CONVERGED = 1e-11
_MOST_TERMS = 200_000


def rate_score(kind: RateScore, rates: ArrayLike, *, n: int = 8, target: float = 0.5) -> Floats:
    """The worth of prompts whose pass rates are known.

    ``root`` is √(p(1−p)), what a group emits under advantages divided by their standard deviation (GRPO); ``variance``
    is p(1−p), under plain advantages (RLOO, LILO, SFL); ``live`` is 1 − p^n − (1−p)^n, the chance that a group of n has
    any signal (dynamic sampling); ``distance`` is −|p−τ| (MoPPS, DOTS, PCL). With τ = 0.5 all four put prompts in the
    same order; they differ in weighted draws, in expectation over an uncertain rate, and where τ is not 0.5.

    Args:
        kind: which score.
        rates: pass rates p, in [0, 1], any shape.
        n: rollouts in a group, at least 1; for ``live``.
        target: τ in [0, 1]; for ``distance``.

    Returns:
        The shape of ``rates``; higher is better. See :func:`rate_score_range`.

    Raises:
        InvalidParameter: an argument is out of range.

    >>> rate_score("variance", [0.0, 0.25, 0.5])
    array([0.    , 0.1875, 0.25  ])
    """
    _check("rate_score", kind, n, target)
    p = np.asarray(rates, dtype=np.float64)
    if not np.all((p >= 0.0) & (p <= 1.0)):
        raise InvalidParameter(f"`rates` of `rate_score` must lie in [0, 1]; got {rates!r}")
    if kind == "distance":
        return np.asarray(-np.abs(p - target))
    if kind == "live":
        return np.asarray(np.clip(1.0 - p**n - (1.0 - p) ** n, 0.0, 1.0))
    spread = p * (1.0 - p)
    return np.asarray(np.sqrt(spread) if kind == "root" else spread)


def expected_rate_score(
    kind: RateScore, alpha: ArrayLike, beta: ArrayLike, *, n: int = 8, target: float = 0.5
) -> Floats:
    """The mean of :func:`rate_score` over a pass rate that is only known as Beta(a, b).

    The mean of the score, not the score of the mean: it prices what is not known. All are in closed form:

        E √(p(1−p))       = Γ(a+½)/Γ(a) · Γ(b+½)/Γ(b) / (a+b)
        E p(1−p)          = ab / ((a+b)(a+b+1))
        E 1−p^n−(1−p)^n   = 1 − (B(a+n, b) + B(a, b+n)) / B(a, b)
        E |p−τ|           = (m−τ)(1 − 2 I_τ(a, b)) + 2 τ^a (1−τ)^b / ((a+b) B(a, b)),   m = a/(a+b),

    with the regularised incomplete beta function I from its continued fraction (DLMF 8.17.22).

    Args:
        kind: which score.
        alpha: a > 0, any shape.
        beta: b > 0, of the same shape.
        n: rollouts in a group, at least 1; for ``live``.
        target: τ in [0, 1]; for ``distance``.

    Returns:
        The common shape. The relative error is below 1e-10 for a + b up to 1,000, and below 1e-6 up to 1e9.

    Raises:
        InvalidParameter: an argument is out of range.

    >>> expected_rate_score("live", [1.0], [1.0], n=8).round(4)
    array([0.7778])
    >>> expected_rate_score("distance", [1.0], [1.0])
    array([-0.25])
    """
    _check("expected_rate_score", kind, n, target)
    a, b = np.broadcast_arrays(np.asarray(alpha, dtype=np.float64), np.asarray(beta, dtype=np.float64))
    if not np.all((a > 0.0) & (b > 0.0) & np.isfinite(a + b)):
        raise InvalidParameter(
            f"`alpha` and `beta` of `expected_rate_score` must be finite floats > 0; got {alpha!r}, {beta!r}"
        )
    if kind == "root":
        return np.asarray(_half_step(a) * (_half_step(b) / (a + b)))
    if kind == "variance":
        return np.asarray((a / (a + b)) * (b / (a + b + 1.0)))
    if kind == "live":
        return np.asarray(np.clip(1.0 - _all_alike(a, b, n) - _all_alike(b, a, n), 0.0, 1.0))
    return np.asarray(-_mean_distance(a, b, target))


def rate_score_range(kind: RateScore, *, n: int = 8, target: float = 0.5) -> tuple[float, float]:
    """The lowest and the highest value of a score over all pass rates.

    Args:
        kind: which score.
        n: rollouts in a group, at least 1; for ``live``.
        target: τ in [0, 1]; for ``distance``.

    Raises:
        InvalidParameter: an argument is out of range.

    >>> rate_score_range("distance", target=0.3)
    (-0.7, 0.0)
    """
    _check("rate_score_range", kind, n, target)
    if kind == "distance":
        return -max(target, 1.0 - target), 0.0
    if kind == "live":
        return 0.0, 1.0 - 2.0 ** (1 - n)
    return 0.0, 0.5 if kind == "root" else 0.25


def beta_below(alpha: ArrayLike, beta: ArrayLike, x: float) -> Floats:
    """The probability that a pass rate known as Beta(a, b) lies below x: the regularised incomplete beta function.

    Args:
        alpha: a > 0, shape (_P,).
        beta: b > 0, shape (_P,).
        x: in [0, 1].

    Returns:
        In [0, 1], shape (_P,).

    Raises:
        InvalidParameter: an argument is out of range.

    Source:
        its continued fraction, DLMF 8.17.22.

    >>> beta_below([1.0, 2.0], [1.0, 1.0], 0.3).round(4)
    array([0.3 , 0.09])
    """
    a, b = np.asarray(alpha, dtype=np.float64), np.asarray(beta, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not np.all((a > 0.0) & (b > 0.0) & np.isfinite(a + b)):
        raise InvalidParameter("`alpha` and `beta` of `beta_below` must be finite floats > 0, one each a prompt")
    if not 0.0 <= x <= 1.0:
        raise InvalidParameter(f"`x` of `beta_below` must lie in [0, 1]; got {x!r}")
    if x in (0.0, 1.0):
        return np.full(a.shape, float(x))
    found = np.empty(a.shape)
    for start in range(0, a.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        found[part] = _density_and_below(a[part], b[part], x)[1]
    return found


def _check(function: str, kind: str, n: int, target: float) -> None:
    if kind not in get_args(RateScore):
        allowed = ", ".join(f'"{name}"' for name in get_args(RateScore))
        raise InvalidParameter(f"`kind` of `{function}` must be one of {allowed}; got {kind!r}")
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InvalidParameter(f"`n` of `{function}` must be an int in [1, inf); got {n!r}")
    if not 0.0 <= target <= 1.0:
        raise InvalidParameter(f"`target` of `{function}` must be a float in [0, 1]; got {target!r}")


# ---- the gamma and beta functions, for arrays --------------------------------------------------------------------


def _half_step(x: Floats) -> Floats:
    """Γ(x+½) / Γ(x) for x > 0, without a difference of large logarithms.

    Stirling's series of ln Γ(x+½) − ln Γ(x) at x + 8, and eight steps of the recurrence back.
    """
    steps = np.ones_like(x)
    for i in range(8):
        steps *= (x + i) / (x + (i + 0.5))
    y = x + 8.0
    inverse = np.square(1.0 / y)
    series = (-1 / 8 + inverse * (1 / 192 - inverse * (1 / 640 - inverse * (17 / 14336 - inverse * 31 / 18432)))) / y
    return np.asarray(steps * np.sqrt(y) * np.exp(series))


def _log_gamma(x: Floats) -> Floats:
    """The logarithm of Γ(x) for x > 0, by Stirling's series at x + 8."""
    product = np.ones_like(x)
    for i in range(8):
        product *= x + i
    y = x + 8.0
    inverse = np.square(1.0 / y)
    terms = 1 / 1680 - inverse * (1 / 1188 - inverse * 691 / 360360)
    series = (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse * terms))) / y
    stirling = (y - 0.5) * np.log(y) - y + 0.5 * math.log(2.0 * math.pi) + series
    return np.asarray(stirling - np.log(product))


def _all_alike(a: Floats, b: Floats, n: int) -> Floats:
    """E p^n = B(a+n, b) / B(a, b)."""
    if n > _FACTORS:
        log = _log_gamma(a + n) - _log_gamma(a + b + n) + _log_gamma(a + b) - _log_gamma(a)
        return np.asarray(np.exp(np.minimum(log, 0.0)))
    product = np.ones_like(a)
    for i in range(n):
        product *= (a + i) / (a + b + i)
    return product


def _mean_distance(a: Floats, b: Floats, target: float) -> Floats:
    """E |p−τ| of Beta(a, b)."""
    total = a + b
    mean = a / total
    if target in (0.0, 1.0):
        return np.asarray(np.abs(mean - target))
    distance = np.array(np.abs(mean - target))
    near = distance < _FAR * np.sqrt(mean * (b / total) / (total + 1.0)) + _FAR / total
    places = np.flatnonzero(near)
    for start in range(0, places.size, _CHUNK):
        part = places[start : start + _CHUNK]
        distance.flat[part] = _mean_distance_nearby(a.flat[part], b.flat[part], target)
    return distance


def _mean_distance_nearby(a: Floats, b: Floats, target: float) -> Floats:
    total = a + b
    density, below = _density_and_below(a, b, target)
    return np.asarray((a / total - target) * (1.0 - 2.0 * below) + 2.0 * density / total)


def _density_and_below(a: Floats, b: Floats, x: float) -> tuple[Floats, Floats]:
    """x(1−x) times the density of Beta(a, b) at x, and the probability below x, for x in (0, 1)."""
    total = a + b
    log_beta = _log_gamma(a) + _log_gamma(b) - _log_gamma(total)
    density = np.exp(a * math.log(x) + b * math.log1p(-x) - log_beta)
    low = x <= (a + 1.0) / (total + 2.0)
    one, other = np.where(low, a, b), np.where(low, b, a)
    tail = density / (one * _continued_fraction(one, other, np.where(low, x, 1.0 - x)))
    return density, np.clip(np.where(low, tail, 1.0 - tail), 0.0, 1.0)


def _continued_fraction(a: Floats, b: Floats, x: Floats) -> Floats:
    """1 + d₁/(1 + d₂/(1 + …)) of DLMF 8.17.22 for x below (a+1)/(a+b+2), shape (m,).

    By the recurrence of its convergents P/Q, which are rescaled and compared every ``_STRIDE`` terms.
    """
    value = np.ones_like(a)
    open_ = np.arange(a.size)
    state = [np.ones_like(a), np.ones_like(a), np.ones_like(a), np.zeros_like(a)]
    for start in range(0, _MOST_TERMS, _STRIDE):
        before = state[0] / state[2]
        state = _next_convergents(state, (a, b, x), start)
        now = state[0] / state[2]
        going = np.abs(now - before) > _CONVERGED * np.abs(now)
        value[open_] = now
        if not going.any():
            break
        scale = 1.0 / state[2][going]
        state = [part[going] * scale for part in state]
        open_, a, b, x = open_[going], a[going], b[going], x[going]
    return value


def _next_convergents(state: list[Floats], shapes: tuple[Floats, Floats, Floats], start: int) -> list[Floats]:
    """``_STRIDE`` terms on: [P_j, P_{j-1}, Q_j, Q_{j-1}]."""
    (p, p_before, q, q_before), (a, b, x) = state, shapes
    for m in range(start // 2, (start + _STRIDE) // 2):
        even = a + 2 * m
        d = (a + m) * (a + b + m) * x / (even * (even + 1.0))
        p, p_before = p - d * p_before, p
        q, q_before = q - d * q_before, q
        d = (m + 1) * (b - (m + 1)) * x / ((even + 1.0) * (even + 2.0))
        p, p_before = p + d * p_before, p
        q, q_before = q + d * q_before, q
    return [p, p_before, q, q_before]
