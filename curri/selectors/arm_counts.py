"""How many prompts of a batch each arm gets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats, Ints

__all__ = ["capped_shares", "replacement_counts", "successive_counts", "systematic_counts"]

_WHOLE = 1e-9


def capped_shares(weights_A: ArrayLike, sizes_A: ArrayLike, n: int) -> Floats:
    """Expected counts q_a = min(m_a, c·w_a) with Σ q_a = n: in proportion to the weights, and never more than there is.

    c is found by sorting the arms by m_a / w_a: those that fill up come first. Arms of weight 0 get nothing, unless
    the others cannot supply n; they then share the remainder in proportion to their sizes.

    Args:
        weights_A: shape (_A,), finite, at least 0, in any scale.
        sizes_A: shape (_A,), the prompts m_a available in each arm.
        n: prompts in the batch, in [0, Σ m_a].

    Returns:
        Shape (_A,), in [0, m_a].

    Raises:
        InvalidParameter: an argument is out of range, or n is more than all arms hold.

    Example:
        >>> capped_shares([0.8, 0.2, 0.0], [4, 100, 100], 10)
        array([4., 6., 0.])
        >>> capped_shares([1.0, 0.0, 0.0], [4, 10, 30], 8)
        array([4., 1., 3.])

    """
    weights, sizes = _checked("capped_shares", weights_A, sizes_A, n)
    shares = np.zeros(len(weights), dtype=np.float64)
    left = sizes.copy()
    while n > 0:
        able = np.flatnonzero((weights > 0.0) & (left > 0))
        if not len(able):
            return np.asarray(shares + left * (n / left.sum()))
        # What is too light to be held beside the heaviest arm waits until that one is full.
        part = _scaled(weights[able])
        able, part = able[part > 0.0], part[part > 0.0]
        supply = int(left[able].sum())
        shares[able] = _fill(part, left[able], n) if n < supply else left[able]
        left[able] = 0
        n -= min(n, supply)
    return shares


def _fill(weights_A: Floats, sizes_A: Ints, n: int) -> Floats:
    """``capped_shares`` for positive weights and sizes that hold more than n."""
    in_proportion = weights_A * (n / weights_A.sum())
    if not np.count_nonzero(in_proportion > sizes_A):  # no arm fills up
        return np.asarray(in_proportion)
    order = np.argsort(np.log(sizes_A) - np.log(weights_A), kind="stable")  # by m / w, which may overflow
    weight, size = weights_A[order], sizes_A[order].astype(np.float64)
    full = np.concatenate([[0.0], np.cumsum(size)[:-1]])
    fraction = weight / np.cumsum(weight[::-1])[::-1]
    # Arm j does not fill up if its part of what the arms before it leave is less than its size.
    first = int(np.argmax((n - full) * fraction <= size))
    share = size.copy()
    left = weight[first:]
    share[first:] = np.minimum((n - full[first]) * left / left.sum(), size[first:])
    out = np.empty_like(share)
    out[order] = share
    return out


def systematic_counts(shares_A: ArrayLike, rng: np.random.Generator) -> Ints:
    """Round shares to whole counts at random: each is floor(q) or ceil(q), E[count] = q, and the sum is exact.

    The fractions are laid end to end in random order and one uniform start, repeated at distance 1, says which are
    rounded up (systematic sampling, Madow 1949). A share within 1e-9 of a whole number is that number.

    Args:
        shares_A: shape (_A,), finite, at least 0, with a whole sum (to within 1e-6).
        rng: the only source of chance.

    Returns:
        Counts, shape (_A,), int64.

    Raises:
        InvalidParameter: a share is negative or not finite, or the sum is not whole.

    Example:
        >>> systematic_counts([1.5, 2.0, 0.5], np.random.default_rng(0)).sum()
        np.int64(4)

    """
    shares = _weights("systematic_counts", "shares_A", shares_A)
    total = float(shares.sum())
    n = round(total)
    if abs(total - n) > 1e-6 * max(1, n):
        raise InvalidParameter(f"`shares_A` of `systematic_counts` must have a whole sum; got {total!r}")
    whole = np.floor(shares + _WHOLE)
    counts = whole.astype(np.int64)
    extra = n - int(counts.sum())
    fraction = shares - whole
    open_A = np.flatnonzero(fraction > _WHOLE)
    offset = rng.random()
    open_A = rng.permutation(open_A)
    if extra > 0:
        ends = np.cumsum(fraction[open_A])
        ends *= extra / ends[-1]
        up = np.searchsorted(ends, offset + np.arange(extra), side="right")
        counts[open_A[np.minimum(up, len(open_A) - 1)]] += 1
    return counts


def successive_counts(weights_A: ArrayLike, sizes_A: ArrayLike, n: int, rng: np.random.Generator) -> Ints:
    """Counts of n draws one after another of an arm by its weight, where an arm drops out when it is empty.

    This is the draw of DUMP's authors (an arm for each slot of the batch), with distinct prompts. When all arms of
    positive weight are empty, each prompt left is equally likely.

    Args:
        weights_A: shape (_A,), finite, at least 0, in any scale.
        sizes_A: shape (_A,), prompts available in each arm.
        n: prompts in the batch, in [0, Σ m_a].
        rng: the only source of chance.

    Returns:
        Counts, shape (_A,), int64, at most the sizes.

    Raises:
        InvalidParameter: an argument is out of range, or n is more than all arms hold.

    Example:
        >>> successive_counts([1.0, 1e-30], [2, 9], 5, np.random.default_rng(0))
        array([2, 3])

    """
    weights, left = _checked("successive_counts", weights_A, sizes_A, n)
    counts = np.zeros(len(weights), dtype=np.int64)
    while n > 0:
        able = np.flatnonzero((weights > 0.0) & (left > 0))
        if not len(able):
            taken = rng.multivariate_hypergeometric(left, n, method="marginals")
        else:
            # Drawing from an arm that is empty counts for nothing, which is the same as renormalising.
            taken = np.zeros_like(counts)
            taken[able] = np.minimum(rng.multinomial(n, _normalised(weights[able])), left[able])
        counts += taken
        left -= taken
        n -= int(taken.sum())
    return counts


def replacement_counts(weights_A: ArrayLike, n: int, rng: np.random.Generator) -> Ints:
    """Counts of n independent draws of an arm by its weight (multinomial), as if no arm could run out.

    Args:
        weights_A: shape (_A,), finite, at least 0, in any scale, not all 0 unless n is 0.
        n: prompts in the batch, at least 0.
        rng: the only source of chance.

    Returns:
        Counts, shape (_A,), int64.

    Raises:
        InvalidParameter: an argument is out of range.

    Example:
        >>> replacement_counts([0.0, 2.0], 3, np.random.default_rng(0))
        array([0, 3])

    """
    weights = _weights("replacement_counts", "weights_A", weights_A)
    _check_n("replacement_counts", n)
    able = np.flatnonzero(weights > 0.0)
    counts = np.zeros(len(weights), dtype=np.int64)
    if n and not len(able):
        raise InvalidParameter("`weights_A` of `replacement_counts` must hold a positive weight; all are 0")
    if n:
        counts[able] = rng.multinomial(n, _normalised(weights[able]))
    return counts


def _weights(function: str, name: str, values: ArrayLike) -> Floats:
    weights = np.asarray(values, dtype=np.float64)
    if weights.ndim != 1 or (weights.size and not (weights.min() >= 0.0 and weights.max() < math.inf)):  # NaN neither
        raise InvalidParameter(f"`{name}` of `{function}` must be finite floats >= 0, shape (arms,); got {values!r}")
    return weights


def _check_n(function: str, n: int) -> None:
    if n < 0:
        raise InvalidParameter(f"`n` of `{function}` must be an integer >= 0; got {n}")


def _checked(function: str, weights_A: ArrayLike, sizes_A: ArrayLike, n: int) -> tuple[Floats, Ints]:
    """The weights, and a copy of the sizes."""
    weights = _weights(function, "weights_A", weights_A)
    sizes = np.array(sizes_A)
    if sizes.shape != weights.shape or (sizes.size and (sizes.dtype.kind not in "iu" or sizes.min() < 0)):
        raise InvalidParameter(f"`sizes_A` of `{function}` must be integers >= 0, one an arm; got {sizes_A!r}")
    _check_n(function, n)
    if n > int(sizes.sum()):
        raise InvalidParameter(
            f"`n` of `{function}` must not exceed the {int(sizes.sum())} prompts in all arms; got {n}"
        )
    return weights, sizes.astype(np.int64)


def _normalised(weights_A: Floats) -> Floats:
    """Positive weights as probabilities; their sum need not fit a float."""
    part = _scaled(weights_A)
    return np.asarray(part / part.sum())


def _scaled(weights_A: Floats) -> Floats:
    """Positive weights in units of a power of two, which is exact, with the largest in [0.5, 1)."""
    exponent = int(np.frexp(weights_A.max())[1])
    return np.asarray(np.ldexp(weights_A, -exponent))
