"""How the pass rates of a pool are spread: a Beta distribution fitted to right and wrong answers of many prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats, Ints

__all__ = ["arm_priors", "arm_spreads", "fit_beta"]

_STEPS = 2000
_CLOSE = 1e-7
_SMALLEST = 1e-6
_NARROWEST = 100.0
"""α + β is at most this: pass rates that differ by 0.05 at one half. Counts that differ less than by chance would have
more for ever, by a quarter with every step."""


def fit_beta(
    successes: ArrayLike,
    responses: ArrayLike,
    weights: ArrayLike | None = None,
    start: tuple[float, float] = (0.5, 0.5),
) -> tuple[float, float]:
    """The Beta(α, β) of pass rates under which these counts are most likely (beta-binomial maximum likelihood).

    It is what is known of a prompt before it is tried and, with a prompt's own counts added, after. Where every prompt
    was always wrong (or right), the likelihood grows for ever as α (or β) goes to 0; the answer is then small, and
    finite. Where prompts differ less than chance makes them differ, α + β is 100. Prompts with one response say nothing
    about the spread: if there are no others, the sum α + β stays that of ``start``.

    Args:
        successes: right answers of each prompt, integers in [0, responses], shape (_P,).
        responses: answers of each prompt, integers, at least 0, shape (_P,).
        weights: how many prompts each stands for, at least 0, shape (_P,); one each if None.
        start: where the search begins, both above 0.

    Returns:
        α and β, both above 0.

    Raises:
        InvalidParameter: an argument is out of range, or no prompt has an answer.

    Source:
        the fixed point of Minka, Estimating a Dirichlet distribution (2000), section 3; differences of digamma
        functions of integers are sums of reciprocals.

    Example:
        >>> alpha, beta = fit_beta([0, 0, 0, 1, 3, 8], [8] * 6)
        >>> round(alpha, 2), round(beta, 2)
        (0.15, 0.37)

    """
    k, m, w = _checked(successes, responses, weights)
    a, b = start
    if not np.any(m > 1):
        share = float(np.sum(w * k) / np.sum(w * m))
        share = min(max(share, _SMALLEST), 1.0 - _SMALLEST)
        return share * (a + b), (1.0 - share) * (a + b)
    right, wrong, every = _more_than(k, w), _more_than(m - k, w), _more_than(m, w)
    steps_right, steps_wrong, steps = (np.arange(each.size, dtype=np.float64) for each in (right, wrong, every))
    for _ in range(_STEPS):
        below = np.sum(every / (a + b + steps))
        new_a = max(a * float(np.sum(right / (a + steps_right)) / below), _SMALLEST)
        new_b = max(b * float(np.sum(wrong / (b + steps_wrong)) / below), _SMALLEST)
        done = abs(new_a - a) + abs(new_b - b) < _CLOSE * (a + b)
        a, b = new_a, new_b
        if a + b > _NARROWEST:
            return a * (_NARROWEST / (a + b)), b * (_NARROWEST / (a + b))
        if done:
            break
    return a, b


def _more_than(counts: Ints, weights: Floats) -> Floats:
    """Weight of the prompts with more than i, for i = 0, 1, …, shape (largest count,)."""
    at = np.bincount(counts, weights, int(counts.max()) + 1)
    return np.asarray(np.cumsum(at[::-1])[::-1][1:])


def arm_spreads(arms: Ints, right: Ints, judged: Ints, n_arms: int) -> list[tuple[float, float] | None]:
    """The Beta that the pass rates of each arm are spread by; None where no prompt of it was tried.

    So that few prompts cannot say that all are hopeless, each arm has one prompt more, made of all prompts; these have
    one more that was right once in two.

    Args:
        arms: codes of the prompts, in [0, n_arms), shape (_P,).
        right: right answers, integers in [0, judged], shape (_P,).
        judged: answers known to be right or wrong; 0 for a prompt that was not tried, shape (_P,).
        n_arms: _A.
    """
    found: list[tuple[float, float] | None] = [None] * n_arms
    all_right, all_judged, all_count = _counted(right, judged)
    if not all_count.size:
        return found
    if all_judged.max() > 1:
        all_right, all_judged = np.append(all_right, 1), np.append(all_judged, 2)
        all_count = np.append(all_count, 1.0)
    start = fit_beta(all_right, all_judged, all_count)
    for arm in range(n_arms):
        mine = arms == arm
        own_right, own_judged, count = _counted(right[mine], judged[mine])
        if count.size:
            found[arm] = fit_beta(
                np.concatenate([own_right, all_right]),
                np.concatenate([own_judged, all_judged]),
                np.concatenate([count, all_count / all_count.sum()]),
                start=start,
            )
    return found


def arm_priors(arms: Ints, solved: Floats, judged: Ints, n_arms: int) -> Floats:
    """Beta(α, β) of a prompt of each arm before it is tried, shape (_A, 2); with its own counts added, after.

    It is :func:`arm_spreads`; partly right answers count as that part of a right one, an arm without answers is taken
    to be like all, and if nothing was tried every pass rate is as likely as another.

    Args:
        arms: codes of the prompts, in [0, n_arms), shape (_P,).
        solved: sum of ``solved`` of each prompt, in [0, judged], shape (_P,).
        judged: answers with a known ``solved``, shape (_P,).
        n_arms: _A.

    Example:
        >>> arms, solved, judged = np.array([0, 0, 1]), np.array([0.0, 0.0, 0.0]), np.array([8, 8, 0])
        >>> priors = arm_priors(arms, solved, judged, 2)
        >>> bool((priors[:, 0] < priors[:, 1]).all())
        True

    """
    right = np.rint(np.minimum(solved, judged)).astype(np.int64)
    every = arm_spreads(np.zeros_like(arms), right, judged, 1)[0] or (1.0, 1.0)
    return np.array([spread or every for spread in arm_spreads(arms, right, judged, n_arms)]).reshape(-1, 2)


def _counted(right: Ints, judged: Ints) -> tuple[Ints, Ints, Floats]:
    """Distinct (right, judged) of the prompts that were tried, and how many prompts have them."""
    tried = judged > 0
    pairs, count = np.unique(np.stack([right[tried], judged[tried]]), axis=1, return_counts=True)
    return pairs[0], pairs[1], count.astype(np.float64)


def _checked(successes: ArrayLike, responses: ArrayLike, weights: ArrayLike | None) -> tuple[Ints, Ints, Floats]:
    k, m = np.asarray(successes), np.asarray(responses)
    w = np.ones(m.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    integers = k.dtype.kind in "iu" and m.dtype.kind in "iu"
    if not integers or k.ndim != 1 or k.shape != m.shape or k.shape != w.shape or not np.all((k >= 0) & (k <= m)):
        raise InvalidParameter("`fit_beta` needs integers `successes` in [0, `responses`], one a prompt")
    if not np.all((w >= 0.0) & np.isfinite(w)) or not np.sum(w * m) > 0.0:
        raise InvalidParameter("`fit_beta` needs at least one answer, and finite `weights` >= 0")
    return k.astype(np.int64), m.astype(np.int64), w
