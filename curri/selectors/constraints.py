"""What every strategy can be held to: rest after a pick, a visit now and then, bounds on the share of an arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter
from curri.selectors.arm_counts import capped_shares
from curri.selectors.hashing import stable_hash

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats, Ints

__all__ = ["bounded_shares", "overdue_rows"]

_SLACK = 1e-9


def bounded_shares(
    weights_A: ArrayLike, sizes_A: ArrayLike, n: int, *, low_A: ArrayLike = 0.0, high_A: ArrayLike = np.inf
) -> Floats:
    """Expected counts q_a = min(h_a, max(l_a, c·w_a)) with Σ q_a = n: in proportion to the weights, between bounds.

    No arm gets more than it holds. Lower bounds that add up to more than n are scaled down to n. Where the upper
    bounds add up to less than n, they give way: what is missing is spread as :func:`capped_shares` spreads it.

    Args:
        weights_A: shape (_A,), finite, at least 0, in any scale.
        sizes_A: shape (_A,), prompts available in each arm.
        n: prompts in the batch, in [0, Σ sizes].
        low_A: smallest counts l, at least 0, one or shape (_A,).
        high_A: largest counts h, at least 0, one or shape (_A,).

    Returns:
        Shape (_A,), in [0, sizes], adding up to n.

    Raises:
        InvalidParameter: an argument is out of range, or n is more than all arms hold.

    Example:
        >>> bounded_shares([0.9, 0.1, 0.0], [100, 100, 100], 10, low_A=1, high_A=6)
        array([6., 3., 1.])

    """
    weights, sizes = np.asarray(weights_A, dtype=np.float64), np.asarray(sizes_A, dtype=np.float64)
    plain = capped_shares(weights, np.asarray(sizes_A), n)  # also checks the arguments
    low = np.minimum(np.broadcast_to(np.asarray(low_A, dtype=np.float64), sizes.shape), sizes)
    high = np.minimum(np.broadcast_to(np.asarray(high_A, dtype=np.float64), sizes.shape), sizes)
    if np.any(low < 0.0) or np.any(high < 0.0) or np.isnan(low).any() or np.isnan(high).any():
        raise InvalidParameter("`low_A` and `high_A` of `bounded_shares` must be at least 0")
    if low.sum() >= n:
        return np.asarray(low * (n / low.sum())) if n else np.zeros_like(low)
    high = np.maximum(high, low)
    if high.sum() <= n:
        # Integers, as `capped_shares` wants them; what it cannot place below a fraction goes to the largest rest.
        return np.asarray(high + _spread(plain, sizes - high, n - high.sum()))
    return _between(weights, low, high, float(n))


def _spread(weights_A: Floats, room_A: Floats, amount: float) -> Floats:
    """``amount`` over arms with room, in proportion to the weights first and to the room then."""
    return _between(weights_A, np.zeros_like(room_A), room_A, amount) if amount > 0.0 else np.zeros_like(room_A)


def _between(weights_A: Floats, low_A: Floats, high_A: Floats, total: float) -> Floats:
    """c·w clipped to [low, high] with the sum ``total``, which lies between the sums of the bounds."""
    able = weights_A > 0.0
    most = float(np.where(able, high_A, low_A).sum())
    if most < total:  # arms without weight take the rest, in proportion to their room
        room = np.where(able, 0.0, high_A - low_A)
        # No room at all is a matter of rounding: the bounds add up to a hair less than the total.
        return np.asarray(np.where(able, high_A, low_A) + room * ((total - most) / (room.sum() or 1.0)))
    w, low, high = weights_A[able] / weights_A[able].max(), low_A[able], high_A[able]
    wanted = total - float(low_A[~able].sum())
    with np.errstate(over="ignore", divide="ignore"):
        corners = np.unique(np.concatenate([low / w, high / w]))
    corners = corners[np.isfinite(corners)]
    sums = np.array([np.clip(c * w, low, high).sum() for c in corners.tolist()])
    at = int(np.searchsorted(sums, wanted - _SLACK))
    c = corners[min(at, len(corners) - 1)]
    if 0 < at < len(corners) and sums[at] > sums[at - 1]:
        c = corners[at - 1] + (corners[at] - corners[at - 1]) * (wanted - sums[at - 1]) / (sums[at] - sums[at - 1])
    shares = low_A.copy()
    shares[able] = np.clip(c * w, low, high)
    return shares


def overdue_rows(last_picked_P: Ints, rows: Ints, *, before: int, limit: int, ids_P: Ints, seed: int) -> Ints:
    """The rows among ``rows`` that were last picked before a round, those that waited longest first.

    Among equals a seeded hash of the prompt id decides.

    Args:
        last_picked_P: round in which each prompt was last picked, shape (_P,).
        rows: who may be picked.
        before: the round.
        limit: how many at most.
        ids_P: prompt ids, shape (_P,).
        seed: of the hash.

    Example:
        >>> overdue_rows(np.array([5, -1, 2, 0]), np.arange(4), before=3, limit=2, ids_P=np.arange(4), seed=0)
        array([1, 3])

    """
    late = rows[last_picked_P[rows] < before]
    if late.size > limit:
        waited = last_picked_P[late]
        edge = np.partition(waited, limit - 1)[limit - 1] if limit else -1
        late = late[waited <= edge] if limit else late[:0]
    order = np.lexsort((stable_hash(ids_P[late], seed), last_picked_P[late]))
    return late[order][:limit]
