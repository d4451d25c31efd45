"""How many rollouts each prompt of a batch gets, out of a fixed total."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter
from curri.selectors.arm_counts import capped_shares

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats, Ints

__all__ = ["greedy_budget", "gvm_budget", "gvm_shares", "inverse_rate_budget", "padded_counts"]

_SMALLEST_RATE = 1e-6


def greedy_budget(gains: Floats, total: int, *, minimum: int = 2) -> Ints:
    """Counts of the given sum with the largest sum of gains, where every further rollout gains less than the last.

    Everyone gets the minimum; the rest goes to the largest gains, ties to the lower index.

    Args:
        gains: column k − 1 is what the (k+1)-th rollout adds, decreasing from column ``minimum`` − 1 on; shape (b, m).
        total: the sum, in [b·minimum, b·(m + 1)].
        minimum: in [1, m + 1].

    Returns:
        Counts, shape (b,), int64, in [minimum, m + 1], that add up to ``total``.

    Raises:
        InvalidParameter: the total cannot be kept within these bounds.

    Example:
        >>> greedy_budget(np.array([[0.5, 0.25, 0.1], [0.2, 0.15, 0.12]]), total=6)
        array([3, 3])

    """
    b, m = gains.shape
    if not b * minimum <= total <= b * (m + 1):
        raise InvalidParameter(
            f"`total` of `greedy_budget` must lie in [{b * minimum}, {b * (m + 1)}] for {b} prompts; got {total}"
        )
    further = gains[:, minimum - 1 :]
    order = np.argsort(-further.ravel(), kind="stable")[: total - b * minimum]
    return minimum + np.bincount(order // max(further.shape[1], 1), minlength=b).astype(np.int64)


def inverse_rate_budget(
    rates: ArrayLike,
    total: int,
    minimum: int = 1,
    maximum: int | None = None,
    power: float = 1.0,
) -> Ints:
    """Counts n_i of the given sum, what is above the minimum in proportion to 1 / p_i^power.

    Everyone gets the minimum; of the rest each gets its share, rounded down, and one more where the fraction cut off
    is largest (ties to the lower index). A share never passes the maximum: what it leaves goes to the others in the
    same proportion. Reinforce-Ada-Est, arXiv 2510.04996 v3, Algorithm 1: power 0.5; its authors' code: power 1,
    minimum 1, no maximum. A pass rate below 1e-6 counts as 1e-6.

    A prompt that cannot be solved has the lowest rate of all, so it takes the largest part of the budget, for ever.
    ``maximum`` bounds that.

    Args:
        rates: p, estimated pass rates in [0, 1], shape (k,).
        total: the sum, in [k·minimum, k·maximum].
        minimum: at least 0.
        maximum: at least the minimum; no bound if None.
        power: finite, at least 0.

    Returns:
        Counts, shape (k,), int64, that add up to ``total``.

    Raises:
        InvalidParameter: an argument is out of range, or the total cannot be kept within the bounds.

    Example:
        >>> inverse_rate_budget([7 / 25, 5 / 25, 2 / 25, 1 / 25], total=32)
        array([ 3,  4,  9, 16])
        >>> inverse_rate_budget([7 / 25, 5 / 25, 2 / 25, 1 / 25], total=32, maximum=12)
        array([ 4,  5, 11, 12])

    """
    p = np.asarray(rates, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0.0) & (p <= 1.0)):
        raise InvalidParameter(f"`rates` of `inverse_rate_budget` must lie in [0, 1], shape (k,); got {rates!r}")
    if isinstance(power, bool) or not 0.0 <= power < math.inf:
        raise InvalidParameter(f"`power` of `inverse_rate_budget` must be a float in [0, inf); got {power!r}")
    low = _count("minimum", minimum)
    whole = _count("total", total)
    high = max(whole, low) if maximum is None else _count("maximum", maximum)
    if high < low or not p.size * low <= whole <= p.size * high:
        raise InvalidParameter(
            f"`total` of `inverse_rate_budget` must lie in [k·minimum, k·maximum] = [{p.size * low}, {p.size * high}] "
            f"for k = {p.size} prompts; got {total}"
        )
    if not p.size:
        return np.empty(0, dtype=np.int64)
    p = np.maximum(p, _SMALLEST_RATE)
    weights = (p.min() / p) ** power
    spare = whole - low * p.size
    shares = spare * weights / weights.sum()
    if np.any(shares > high - low):
        shares = capped_shares(weights, np.full(p.size, high - low), spare)
    return low + _largest_remainders(shares, spare)


def _largest_remainders(shares: Floats, total: int) -> Ints:
    """Shares with a whole sum as whole numbers of that sum, each rounded down or up."""
    counts = np.floor(shares).astype(np.int64)
    left = total - int(counts.sum())
    order = np.argsort(-(shares - counts), kind="stable")
    if left > 0:
        counts[order[:left]] += 1
    elif left < 0:  # a share a hair too large was rounded up to the next whole number
        counts[order[left:]] -= 1
    return counts


def gvm_shares(pass_rates: ArrayLike, grad_norms: ArrayLike, alpha: float = 1e-3, beta: float = 2.0) -> Floats:
    """s_i / Σ s with s_i = G_i / sqrt(p_i + α / p_i^(β-1)), and s_i = 0 where p_i or G_i is 0.

    GVM, arXiv 2505.02391, Proposition 1. The share is largest at p = (α(β - 1))^(1/β) and falls to 0 below it: prompts
    that are too hard get nothing.

    Args:
        pass_rates: p, in [0, 1], shape (k,).
        grad_norms: G, mean gradient norm of the accepted samples, finite, at least 0, shape (k,).
        alpha: α, finite, at least 0.
        beta: β, finite, above 0.

    Returns:
        Shares, shape (k,), that add up to 1; all 0 where every s is 0.

    Raises:
        InvalidParameter: an argument is out of range.

    Example:
        >>> gvm_shares([0.0, 0.5, 1.0], [1.0, 0.0, 1.0])
        array([0., 0., 1.])

    """
    p, norms = np.asarray(pass_rates, dtype=np.float64), np.asarray(grad_norms, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0.0) & (p <= 1.0)):
        raise InvalidParameter(f"`pass_rates` of `gvm_budget` must lie in [0, 1], shape (k,); got {pass_rates!r}")
    if norms.shape != p.shape or not np.all(np.isfinite(norms) & (norms >= 0.0)):
        raise InvalidParameter(f"`grad_norms` of `gvm_budget` must be finite, >= 0, one a prompt; got {grad_norms!r}")
    if isinstance(alpha, bool) or not 0.0 <= alpha < math.inf:
        raise InvalidParameter(f"`alpha` of `gvm_budget` must be a float in [0, inf); got {alpha!r}")
    if isinstance(beta, bool) or not 0.0 < beta < math.inf:
        raise InvalidParameter(f"`beta` of `gvm_budget` must be a float in (0, inf); got {beta!r}")
    scores = np.zeros(p.shape)
    able = np.flatnonzero((p > 0.0) & (norms > 0.0))
    if able.size:
        with np.errstate(over="ignore", divide="ignore"):  # a rate so small that its share is 0
            hardness = alpha * p[able] ** (1.0 - beta) if alpha else 0.0
        scores[able] = norms[able] / norms.max() / np.sqrt(p[able] + hardness)
    whole = scores.sum()
    return scores / whole if whole > 0.0 else scores


def gvm_budget(
    pass_rates: ArrayLike, grad_norms: ArrayLike, total: int, alpha: float = 1e-3, beta: float = 2.0
) -> Ints:
    """Counts of the given sum that keep the variance of the gradient smallest, by :func:`gvm_shares`.

    As in the authors' code, shares are rounded half to even, and the entries with the largest residual are moved by one
    until the sum is right.

    Args:
        pass_rates: p, in [0, 1], shape (k,).
        grad_norms: G, finite, at least 0, shape (k,).
        total: at least 0.
        alpha: α, finite, at least 0.
        beta: β, finite, above 0.

    Returns:
        Counts, shape (k,), int64; they add up to ``total``, or are all 0 where no prompt has a share.

    Raises:
        InvalidParameter: an argument is out of range.

    Example:
        >>> gvm_budget([0.0, 0.125, 0.5, 1.0], [1.0, 1.0, 1.0, 1.0], total=32)
        array([ 0, 17,  9,  6])

    """
    whole = _count("total", total, of="gvm_budget")
    shares = gvm_shares(pass_rates, grad_norms, alpha, beta) * whole
    counts = np.rint(shares).astype(np.int64)
    if not shares.any():
        return counts
    missing = whole - int(counts.sum())
    residual = shares - counts
    order = np.argsort(-residual if missing > 0 else residual, kind="stable")
    counts[order[: abs(missing)]] += np.sign(missing)
    return counts


def padded_counts(counts: ArrayLike, multiple: int) -> Ints:
    """Counts raised until their sum is a multiple of ``multiple``: one more each, largest first, round and round.

    GVM's code does this so that a batch splits evenly over devices; ties go to the higher index.

    Args:
        counts: at least 0, shape (k,).
        multiple: such as the number of devices, at least 1.

    Returns:
        Counts, shape (k,), int64; an empty batch or one of zeros stays as it is.

    Raises:
        InvalidParameter: an argument is out of range.

    Example:
        >>> padded_counts([3, 1, 0, 5], multiple=4)
        array([4, 2, 0, 6])

    """
    given = np.array(counts)
    if given.ndim != 1 or (given.size and (given.dtype.kind not in "iu" or given.min() < 0)):
        raise InvalidParameter(f"`counts` of `padded_counts` must be integers >= 0, shape (k,); got {counts!r}")
    step = _count("multiple", multiple, of="padded_counts")
    if not step:
        raise InvalidParameter("`multiple` of `padded_counts` must be an int in [1, inf); got 0")
    padded = given.astype(np.int64)
    order = np.argsort(padded, kind="stable")[::-1]
    if padded.any():
        extra, last = divmod(-int(padded.sum()) % step, padded.size)
        padded += extra
        padded[order[:last]] += 1
    return padded


def _count(name: str, value: object, of: str = "inverse_rate_budget") -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise InvalidParameter(f"`{name}` of `{of}` must be an int in [0, inf); got {value!r}")
    return int(value)
