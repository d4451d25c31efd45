"""Item-response formulas: how likely a solver of some ability gets a prompt of some difficulty right.

Ability, difficulty and their differences are in logits: one logit multiplies the odds of success by e. The models are
those of Birnbaum (in Lord & Novick, Statistical Theories of Mental Test Scores, 1968) with an upper asymptote added by
Barton & Lord (1981). They describe; whether a language model behaves like this is for data to say.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Bools, Floats

__all__ = ["advantage_mass", "difficulty_of", "logistic", "solve_probability"]


def logistic(x: ArrayLike) -> Floats:
    """σ(x) = 1 / (1 + exp(-x)), without overflow and exact in both tails.

    Args:
        x: logits, any shape.

    Returns:
        The shape of ``x``, in [0, 1].

    Example:
        >>> logistic([-800.0, 0.0, 800.0])
        array([0. , 0.5, 1. ])

    """
    return np.asarray(np.exp(-np.logaddexp(0.0, -np.asarray(x, dtype=np.float64))))


def solve_probability(
    ability: ArrayLike,
    difficulty: ArrayLike,
    discrimination: ArrayLike = 1.0,
    guess: ArrayLike = 0.0,
    slip: ArrayLike = 0.0,
) -> Floats:
    """P(right) = c + (1 - c - s) · σ(a · (θ - b)), the four-parameter logistic model.

    With ``slip`` 0 it is the three-parameter model, with ``guess`` 0 too the two-parameter model, and with
    ``discrimination`` 1 the Rasch model. The arguments are broadcast against each other.

    Args:
        ability: θ, logits.
        difficulty: b, logits; at θ = b the chance stands half-way between its two limits.
        discrimination: a > 0, the steepness.
        guess: c in [0, 1], the chance of a solver without any ability.
        slip: s in [0, 1 - c], the chance that a perfect solver errs.

    Returns:
        The broadcast shape, in [c, 1 - s]; grows with ability, falls with difficulty.

    Raises:
        InvalidParameter: an argument is not finite or outside its range.

    Source:
        Birnbaum 1968 (a, b, c); Barton & Lord 1981 (s).

    Example:
        >>> solve_probability(ability=[0.0, 1.0], difficulty=1.0, guess=0.25).round(3)
        array([0.452, 0.625])

    """
    theta, b = _finite("solve_probability", ability=ability, difficulty=difficulty)
    a, c, s = _shape_parameters("solve_probability", discrimination, guess, slip)
    return np.asarray(c + (1.0 - c - s) * logistic(a * (theta - b)))


def difficulty_of(
    pass_rate: ArrayLike,
    ability: ArrayLike = 0.0,
    discrimination: ArrayLike = 1.0,
    guess: ArrayLike = 0.0,
    slip: ArrayLike = 0.0,
) -> Floats:
    """The difficulty at which ``solve_probability`` gives this pass rate: b = θ - logit((p - c) / (1 - c - s)) / a.

    Args:
        pass_rate: p in (c, 1 - s).
        ability: θ, logits.
        discrimination: a > 0.
        guess: c in [0, 1].
        slip: s in [0, 1 - c].

    Returns:
        Difficulties b, the broadcast shape, logits.

    Raises:
        InvalidParameter: an argument is not finite or outside its range.

    Example:
        >>> difficulty_of([0.1, 0.9]).round(3)
        array([ 2.197, -2.197])

    """
    p, theta = _finite("difficulty_of", pass_rate=pass_rate, ability=ability)
    a, c, s = _shape_parameters("difficulty_of", discrimination, guess, slip)
    _refuse("difficulty_of", "pass_rate", "in (guess, 1 - slip)", p, (p > c) & (p < 1.0 - s))
    return np.asarray(theta - (np.log(p - c) - np.log(1.0 - s - p)) / a)


def advantage_mass(pass_rate: ArrayLike, n_rollouts: int) -> Floats:
    """Expected mean |advantage| of a group of n right-or-wrong responses, normalised as in GRPO.

    A group with k right of n has mean |A| = 2 · sqrt(k · (n - k) · (n - 1) / n) / n (the standard deviation is the
    sample's; dead groups, k = 0 and k = n, have 0). The expectation is the sum over k, weighted by Binomial(n, p).

    Args:
        pass_rate: p in [0, 1], any shape.
        n_rollouts: n ≥ 1, responses of a group.

    Returns:
        The shape of ``pass_rate``, in [0, 1); 0 at p = 0 and p = 1, largest at p = 1/2, and 0 for n = 1.

    Raises:
        InvalidParameter: an argument is outside its range.

    Source:
        the advantage of DeepSeekMath (arXiv 2402.03300); its mean as what a group can teach: DUMP (arXiv 2504.09710).

    Example:
        >>> advantage_mass([0.0, 0.1, 0.5], n_rollouts=8).round(3)
        array([0.   , 0.392, 0.868])

    """
    (p,) = _finite("advantage_mass", pass_rate=pass_rate)
    _refuse("advantage_mass", "pass_rate", "in [0, 1]", p, (p >= 0.0) & (p <= 1.0))
    if n_rollouts < 1:
        raise InvalidParameter(f"`n_rollouts` of `advantage_mass` must be an integer >= 1; got {n_rollouts!r}")
    n = int(n_rollouts)
    mass = np.zeros(p.shape)
    with np.errstate(divide="ignore"):  # at p = 0 and p = 1 the logarithm is -inf and every term 0
        log_p, log_q = np.log(p), np.log1p(-p)
    for k in range(1, n):
        ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        mass += np.exp(ways + k * log_p + (n - k) * log_q) * (2.0 / n * math.sqrt(k * (n - k) * (n - 1) / n))
    return mass


def _finite(function: str, **values: ArrayLike) -> list[Floats]:
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
    for name, array in arrays.items():
        _refuse(function, name, "finite", array, np.isfinite(array))
    return list(arrays.values())


def _shape_parameters(
    function: str, discrimination: ArrayLike, guess: ArrayLike, slip: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    a, c, s = _finite(function, discrimination=discrimination, guess=guess, slip=slip)
    _refuse(function, "discrimination", "greater than 0", a, a > 0.0)
    _refuse(function, "guess", "in [0, 1]", c, (c >= 0.0) & (c <= 1.0))
    _refuse(function, "slip", "in [0, 1 - guess]", s, (s >= 0.0) & (s <= 1.0 - c))
    return a, c, s


def _refuse(function: str, name: str, allowed: str, values: Floats, fine: Bools | np.bool_) -> None:
    if not np.all(fine):
        bad = np.broadcast_to(values, np.shape(fine))[~fine].ravel()[0]
        raise InvalidParameter(f"`{name}` of `{function}` must be {allowed}; got {float(bad)!r}")
