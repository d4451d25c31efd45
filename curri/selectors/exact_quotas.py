"""Whole counts for shares that are kept exactly over time."""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Bools, Floats, Ints

__all__ = ["ExactQuotas"]

_TINY = 1e-9


class ExactQuotas:
    """Gives slot after slot to one of K arms, so that each arm's count stays within one of its share.

    A batch of n slots with weights w is n times a share of w_j for arm j. While the weights stay as they are and no
    arm is short of prompts, after every single slot t

        |x_j(t) − t·w_j| ≤ 1 − 1/(2K − 2),

    for every arm j, however the slots are cut into batches (R. Tijdeman, The chairman assignment problem, Discrete
    Mathematics 32, 1980; no rule does better for all weights). A slot goes to an arm whose share is at least 1/(2K − 2)
    ahead of its count, and among those to the arm that would first be further behind than the bound allows.

    Where that does not hold:

    * **Weights that change.** Arms go on from where they are. No arm is ever ahead by more than the bound, whatever the
      weights do; after a change one may be behind by more for a while (at most by K − 3/2, as all deviations add up to
      0). An arm whose weight becomes 0 leaves: what it was behind or ahead is settled with those that are ahead or
      behind, whose deviations shrink.
    * **Arms that are short.** Their slots go to the others by weight. From then on a part of the deviation is a debt
      (``owed``), apart from the rounding (``behind``). An arm that is owed slots gets them back as soon as it can, from
      those that got them, but bit by bit: at most doubling its share of a batch, and leaving the others at least half
      of theirs, so that no batch is all latecomers.

    Nothing here is random: ties go to the arm of the lower rank, then of the lower index.

    Args:
        n_arms: K, at least 0.
        rank: who comes first where two arms have the same claim, shape (_A,); by index if None.

    Attributes:
        behind: share less count of each arm by rounding, shape (_A,), adding up to 0.
        owed: slots that an arm missed for want of prompts (negative: got in place of others), shape (_A,), adding up
            to 0.
        rank: as given.

    Raises:
        InvalidParameter: an argument is out of range.

    Example:
        >>> quotas = ExactQuotas(3)
        >>> [quotas.counts([0.5, 0.3, 0.2], 4, [9, 9, 9]).tolist() for _ in range(5)]
        [[2, 1, 1], [2, 1, 1], [2, 2, 0], [2, 1, 1], [2, 1, 1]]

    """

    def __init__(self, n_arms: int, *, rank: ArrayLike | None = None) -> None:
        if n_arms < 0:
            raise InvalidParameter(f"`n_arms` of `ExactQuotas` must be an integer >= 0; got {n_arms}")
        self.behind: Floats = np.zeros(n_arms)
        self.owed: Floats = np.zeros(n_arms)
        self.rank: Floats = np.zeros(n_arms) if rank is None else np.array(rank, dtype=np.float64)
        if self.rank.shape != (n_arms,):
            raise InvalidParameter(f"`rank` of `ExactQuotas` must have shape ({n_arms},); got {self.rank.shape}")

    def copy(self) -> ExactQuotas:
        """The same accounts again, to try something out."""
        twin = ExactQuotas(len(self.behind), rank=self.rank)
        twin.behind, twin.owed = self.behind.copy(), self.owed.copy()
        return twin

    def counts(self, weights_A: ArrayLike, n: int, able_A: ArrayLike) -> Ints:
        """How many of the next ``n`` slots each arm gets.

        Args:
            weights_A: shape (_A,), finite, at least 0, in any scale.
            n: slots, at least 0.
            able_A: prompts that each arm can give now, shape (_A,), integers at least 0.

        Returns:
            Counts, shape (_A,), int64, at most ``able_A``, adding up to ``n``; 0 for arms of weight 0.

        Raises:
            InvalidParameter: an argument is out of range, or the arms of positive weight can give fewer than ``n``.
                Nothing is then changed.

        """
        part, able = self._checked(weights_A, n, able_A)
        counts = np.zeros(part.shape, dtype=np.int64)
        if not n:
            return counts
        self.behind, self.owed = (_settled(account, part == 0.0) for account in (self.behind, self.owed))
        wanted = n * part
        given = self._with_debts(wanted, able)
        self.owed += wanted - given
        arms = np.flatnonzero(part)
        counts[arms] = self._by_deadline(arms, given / n, able, n)
        self.behind += given - counts
        if np.any(counts[arms] == able[arms]):
            self._keep_rounding_within(1.0 - _entitled(arms.size))
        return counts

    def _checked(self, weights_A: ArrayLike, n: int, able_A: ArrayLike) -> tuple[Floats, Ints]:
        """The weights as shares that add up to 1 (to 0 where all are 0), and what the arms can give."""
        weights, able = np.asarray(weights_A, dtype=np.float64), np.asarray(able_A)
        shape = self.behind.shape
        if weights.shape != shape or not (np.isfinite(weights) & (weights >= 0.0)).all():
            raise InvalidParameter(
                f"`weights_A` of `ExactQuotas.counts` must be finite floats >= 0, shape {shape}; got {weights_A!r}"
            )
        if able.shape != shape or (able.size and (able.dtype.kind not in "iu" or int(able.min()) < 0)):
            raise InvalidParameter(
                f"`able_A` of `ExactQuotas.counts` must be integers >= 0, shape {shape}; got {able_A!r}"
            )
        part = weights / (weights.max(initial=0.0) or 1.0)  # the sum need not fit a float
        part /= part.sum() or 1.0
        supply = int(able[part > 0.0].sum())
        if not 0 <= n <= supply:
            raise InvalidParameter(
                f"`n` of `ExactQuotas.counts` must be an integer in [0, {supply}], what the arms can give; got {n}"
            )
        return part, able.astype(np.int64)

    def _with_debts(self, wanted: Floats, able: Ints) -> Floats:
        """What each arm should get of this batch: its share, debts paid back, and no more than it has."""
        given = wanted
        if np.any(self.owed):
            back = np.clip(np.minimum(self.owed, able - wanted), 0.0, wanted)
            taken = np.clip(-self.owed, 0.0, wanted / 2.0)
            amount = min(back.sum(), taken.sum())
            if amount > 0.0:
                given = wanted + back * (amount / back.sum()) - taken * (amount / taken.sum())
        return _capped(given, wanted, able) if np.any(given > able) else given

    def _by_deadline(self, arms: Ints, rates_A: Floats, able: Ints, n: int) -> list[int]:
        """Counts of the arms that take part: the earliest deadline first, among those whose next slot is due."""
        entitled = _entitled(arms.size)
        rates, rank, limit = rates_A[arms].tolist(), self.rank[arms].tolist(), able[arms].tolist()
        start = self.behind[arms].tolist()
        taken = [0] * arms.size

        def claim(place: int) -> tuple[float, float]:
            """The slot from which on the arm may have its next one, and the time it must have it by."""
            left, rate = taken[place] - start[place], rates[place]
            if rate <= 0.0:
                return (0.0 if left + entitled <= 0.0 else math.inf), math.inf
            return (left + entitled) / rate - _TINY, (left + 1.0 - entitled) / rate

        waiting: list[tuple[float, float, float, int]] = []
        due: list[tuple[float, float, int]] = []
        for place in range(arms.size):
            if limit[place]:
                release, deadline = claim(place)
                waiting.append((release, deadline, rank[place], place))
        heapify(waiting)
        for slot in range(1, n + 1):
            while waiting and waiting[0][0] <= slot:
                _, deadline, order, place = heappop(waiting)
                heappush(due, (deadline, order, place))
            place = heappop(due)[2] if due else heappop(waiting)[3]
            taken[place] += 1
            if taken[place] < limit[place]:
                release, deadline = claim(place)
                heappush(waiting, (release, deadline, rank[place], place))
        return taken

    def _keep_rounding_within(self, bound: float) -> None:
        """What exceeds the bound of rounding, because an arm was short, becomes a debt."""
        worst = float(np.abs(self.behind).max(initial=0.0))
        if worst > bound + _TINY:
            kept = self.behind * (bound / worst)
            self.owed += self.behind - kept
            self.behind = kept


def _entitled(n_arms: int) -> float:
    """How far an arm's share has to be ahead of its count before it may have a slot."""
    return 1.0 / max(2 * n_arms - 2, 1)


def _settled(account: Floats, leaves: Bools) -> Floats:
    """The account once those that leave took theirs along: the rest moves towards 0, and still adds up to 0."""
    gone = float(account[leaves].sum())
    account = np.where(leaves, 0.0, account)
    opposite = account < 0.0 if gone > 0.0 else account > 0.0
    total = abs(float(account[opposite].sum()))
    if gone and total:
        account[opposite] *= max(0.0, 1.0 - abs(gone) / total)
    return account


def _capped(given: Floats, weights: Floats, able: Ints) -> Floats:
    """``given`` with what exceeds ``able`` spread over the others, by weight, as far as they have room."""
    shares = np.minimum(given, able)
    missing = float(given.sum() - shares.sum())
    while missing > _TINY:
        room = np.where(weights > 0.0, able - shares, 0.0)
        open_A = room > _TINY
        if not open_A.any():
            break
        more = missing * np.where(open_A, weights, 0.0) / weights[open_A].sum()
        more = np.minimum(more, room)
        shares += more
        missing -= float(more.sum())
    return shares
