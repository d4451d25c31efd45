"""Bounds that every strategy's picks keep: a rest after a pick, a visit now and then, shares of the arms."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from curri.curricula.request import Picked, Request
from curri.selectors import bounded_shares, overdue_rows, systematic_counts

if TYPE_CHECKING:
    from curri.columns import PromptColumns
    from curri.pool import PromptPool
    from curri.types import Floats, Ints


class Bounds:
    """Part of :class:`curri.curricula.Curriculum`: how its parameters `cooldown` to `revisit_share` are kept."""

    if TYPE_CHECKING:
        pool: PromptPool
        seed: int
        group_size: int
        cooldown: int
        arm_floor: float
        arm_cap: float
        revisit_after: int
        revisit_share: float
        _rng: np.random.Generator
        _columns: PromptColumns
        _rounds_asked: int

        def _pick(self, request: Request) -> Picked: ...
        def _receive(self, rows: Ints) -> Picked: ...
        def _arm_mass(self, request: Request) -> Floats: ...
        def _expect_quota(self) -> None: ...
        def _fall_back(self, rule: str, message: str) -> None: ...

    @property
    def _is_bounded(self) -> bool:
        return self._remembers_picks or self._bounds_arms

    @property
    def _remembers_picks(self) -> bool:
        return self.cooldown > 0 or self.revisit_after > 0

    @property
    def _bounds_arms(self) -> bool:
        return self.arm_floor > 0.0 or self.arm_cap < 1.0

    def _pick_within_bounds(self, request: Request) -> Picked:
        """Prompts that waited too long first, then the strategy's own picks, without those that rest."""
        late = self._overdue(request)
        rest = self._without(request, late)
        if rest is None:
            return self._receive(late)
        rest = self._without_resting(rest)
        if self._bounds_arms and request.quota is None:
            self._expect_quota()
            bounded = self._bounded_quota(rest, request.n, self._count_arms(late))
            picked = self._pick(bounded)
            picked = dataclasses.replace(picked, probability=np.full(picked.rows.size, np.nan))
        else:
            picked = self._pick(rest)
        # Only now, as the strategy may have refused, and a refused ask moves no cursor.
        return self._joined(self._receive(late), picked) if late.size else picked

    def _joined(self, *parts: Picked) -> Picked:
        each = [np.full(p.rows.size, self.group_size) if p.n_rollouts is None else p.n_rollouts for p in parts]
        return Picked(
            rows=np.concatenate([part.rows for part in parts]),
            probability=np.concatenate([part.probability for part in parts]),
            n_rollouts=np.concatenate(each),
        )

    def _overdue(self, request: Request) -> Ints:
        """Rows that come first because nobody picked them for `revisit_after` rounds."""
        limit = int(self.revisit_share * request.n)
        before = self._rounds_asked - self.revisit_after
        if not self.revisit_after or not limit or before < 0:
            return np.empty(0, dtype=np.int64)
        rows = self.pool.active_everywhere
        if request.excluded.size:
            rows = rows[~np.isin(rows, request.excluded, assume_unique=True)]
        last, ids = self._columns["last_picked"], self.pool.ids
        if request.quota is None:
            late = overdue_rows(last, rows, before=before, limit=limit, ids_P=ids, seed=self.seed)
            return self._within_cap(late, request.n)
        parts = []
        for arm in np.flatnonzero(request.quota).tolist():
            most = int(self.revisit_share * request.quota[arm])
            mine = rows[self.pool.arms[rows] == arm]
            parts.append(overdue_rows(last, mine, before=before, limit=most, ids_P=ids, seed=self.seed))
        return np.concatenate(parts)

    def _within_cap(self, rows: Ints, n: int) -> Ints:
        """Rows without those that `arm_cap` has no room for in a batch of n; the first ones of each arm stay."""
        if self.arm_cap == 1.0 or not rows.size:
            return rows
        arms = self.pool.arms[rows]
        order = np.argsort(arms, kind="stable")
        place = np.empty(rows.size, dtype=np.int64)
        place[order] = np.arange(rows.size) - np.searchsorted(arms[order], arms[order])
        return rows[place < max(int(self.arm_cap * n + 1e-9), 1)]

    def _without(self, request: Request, rows: Ints) -> Request | None:
        """What is left of a request once ``rows`` are given; None if that is all of it."""
        if not rows.size:
            return request
        if rows.size == request.n:
            return None
        counts = self._count_arms(rows)
        return Request(
            n=request.n - rows.size,
            kind=request.kind,
            excluded=np.union1d(request.excluded, rows),
            supply=request.supply - counts,
            quota=None if request.quota is None else request.quota - counts,
        )

    def _without_resting(self, request: Request) -> Request:
        """The request with prompts that rest excluded; those that rested longest come back where they are needed."""
        if not self.cooldown:
            return request
        last = self._columns["last_picked"]
        for rounds in range(min(self.cooldown, self._rounds_asked), 0, -1):
            resting = np.flatnonzero((last >= self._rounds_asked - rounds) & self.pool.active)
            resting = resting[~np.isin(resting, request.excluded, assume_unique=True)]
            supply = request.supply - self._count_arms(resting)
            enough = supply.sum() >= request.n if request.quota is None else (supply >= request.quota).all()
            if enough:
                excluded = np.union1d(request.excluded, resting)
                return dataclasses.replace(request, excluded=excluded, supply=supply)
            self._fall_back(
                "cooldown_shortened",
                "too few prompts are left while others rest, so some come back earlier (a lower `cooldown` avoids it)",
            )
        return request

    def _bounded_quota(self, request: Request, n: int, taken: Ints) -> Request:
        """The request with a quota that keeps every arm's share of the whole batch within its bounds."""
        low = np.maximum(self.arm_floor * n - taken, 0.0)
        high = np.maximum(np.floor(self.arm_cap * n + 1e-9) - taken, 0.0)
        if np.minimum(high, request.supply).sum() < request.n:
            self._fall_back(
                "arm_cap_exceeded", "the arms cannot fill the batch within `arm_cap`; the cap gives way (raise it)"
            )
        shares = bounded_shares(self._arm_mass(request), request.supply, request.n, low_A=low, high_A=high)
        return dataclasses.replace(request, quota=systematic_counts(shares, self._rng))

    def _count_arms(self, rows: Ints) -> Ints:
        return np.bincount(self.pool.arms[rows], minlength=len(self.pool.arm_names)).astype(np.int64)
