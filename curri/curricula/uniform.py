"""``uniform``: every prompt equally often; the control that every other strategy is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.curricula.base import Curriculum, Picked, Request
from curri.selectors import WeightedPicker

if TYPE_CHECKING:
    from curri.curricula.evidence import Evidence
    from curri.state import State
    from curri.types import Floats, Ints


class Uniform(Curriculum):
    """Draws without replacement in epochs: no prompt comes again before every prompt came once.

    While m prompts are left in the epoch, a batch of n ≤ m takes each with probability n / m. A larger batch takes all
    m, and the rest of it opens the next epoch. Excluded prompts wait: they stay in the epoch until they may be picked,
    or until it ends. With a ``quota`` every arm has its own epochs.

    >>> from curri import PromptPool
    >>> uniform = Uniform(PromptPool(range(4)), seed=0)
    >>> sorted([*uniform.ask(2).prompt_ids.tolist(), *uniform.ask(2).prompt_ids.tolist()])
    [0, 1, 2, 3]
    """

    name: ClassVar[str] = "uniform"
    summary: ClassVar[str] = "every prompt equally often, in epochs (the control)"
    source: ClassVar[str] = "what trainers do without a curriculum"
    cursors: ClassVar[frozenset[str]] = frozenset({"drawn", "epochs"})

    def _column_defaults(self) -> dict[str, np.generic]:
        return {"drawn": np.False_}

    def _set_up(self) -> None:
        self._epochs: int = getattr(self, "_epochs", 0)
        waiting = self.pool.active & ~self._columns["drawn"]
        self._waiting = WeightedPicker(self.pool.ids, waiting.astype(np.float64), seed=self.seed, arms=self.pool.arms)

    def _pick(self, request: Request) -> Picked:
        if request.quota is None:
            rows, probability = self._pick_from(None, request.n, request.excluded)
        else:
            parts = [
                self._pick_from(arm, int(request.quota[arm]), request.excluded)
                for arm in np.flatnonzero(request.quota).tolist()
            ]
            rows, probability = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = self._rng.permutation(rows.size)
        return Picked(rows[order], probability[order])

    def _pick_from(self, arm: int | None, n: int, excluded: Ints) -> tuple[Ints, Floats]:
        """``n`` prompts of one arm, or of all; opens the next epoch where this one cannot give them."""
        held = self._held(arm, excluded)
        left = self._left(arm, held)
        if n <= left:
            return self._take(arm, n, held)
        last, certain = self._take(arm, left, held)
        self._open_epoch(arm)
        first, probability = self._take(arm, n - left, np.union1d(excluded, last))
        return np.concatenate([last, first]), np.concatenate([certain, probability])

    def _take(self, arm: int | None, n: int, excluded: Ints) -> tuple[Ints, Floats]:
        if not n:
            return np.empty(0, dtype=np.int64), np.empty(0)
        drawn = self._waiting.draw(n, self._rng, method="successive", exclude=excluded, arm=arm)
        self._waiting.update(drawn.rows, 0.0)
        self._columns.write(drawn.rows, drawn=True)
        return drawn.rows, drawn.probability

    def _receive(self, rows: Ints) -> Picked:
        self._waiting.update(rows, 0.0)
        self._columns.write(rows, drawn=True)
        return super()._receive(rows)

    def _held(self, arm: int | None, excluded: Ints) -> Ints:
        """Those of the excluded rows that wait in the epoch of one arm, or of all."""
        held: Ints = excluded[self.pool.active[excluded] & ~self._columns["drawn"][excluded]]
        return held if arm is None else held[self.pool.arms[held] == arm]

    def _left(self, arm: int | None, held: Ints) -> int:
        return round(self._waiting.total if arm is None else self._waiting.arm_total(arm)) - held.size

    def _open_epoch(self, arm: int | None) -> None:
        rows = np.flatnonzero(self.pool.active) if arm is None else self.pool.active_rows(arm)
        self._columns.write(rows, drawn=False)
        self._waiting.update(rows, 1.0)
        self._epochs += 1

    def _fold(self, evidence: Evidence) -> None:
        """Nothing is learned."""

    def _own_state(self) -> State:
        return {"epochs": self._epochs}

    def _load_own_state(self, state: State) -> None:
        self._epochs = int(state["epochs"])

    def _own_metrics(self) -> dict[str, float]:
        return {"epochs": self._epochs, "prompts_left_in_epoch": round(self._waiting.total)}

    def _explain(self, row: int) -> dict[str, Any]:
        drawn = bool(self._columns["drawn"][row])
        left = round(self._waiting.total)
        return {"drawn_in_this_epoch": drawn, "epoch": self._epochs, "prompts_left_in_epoch": left}
