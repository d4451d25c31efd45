"""Leitner boxes for curri."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.curricula import Curriculum, draw_by_weight
from curri.parameters import choice, integer, real
from curri.selectors import WeightedPicker

if TYPE_CHECKING:
    from curri.curricula import Evidence, Picked, Request
    from curri.types import Floats, Ints

__all__ = ["Leitner"]

_UNKNOWN = "`solved` is unknown for some groups, which stay in their box (tell `solved` beside the rewards)"


class Leitner(Curriculum):
    """Draws by w = ratio^-box; a prompt goes up a box when it is answered, and back when it is not.

    A prompt counts as answered when at least ``mastered`` of a group's responses are right. So what the model can do
    is asked ever more rarely, but never quite given up, and what it forgets comes back at once.
    """

    name: ClassVar[str] = "leitner"
    summary: ClassVar[str] = "prompts that are answered come half as often each time, forgotten ones come back"
    source: ClassVar[str] = "Leitner, So lernt man lernen, 1972"

    ratio: float = real(
        default=2.0, low=1.0, high=100.0, doc="how much more rarely each box is asked than the one below"
    )
    boxes: int = integer(default=6, low=1, high=50, doc="number of boxes")
    mastered: float = real(default=1.0, above=0.0, high=1.0, doc="share of right responses that counts as answered")
    setback: str = choice(default="first", of=("first", "one"), doc="where a prompt goes that is not answered")

    def _column_defaults(self) -> dict[str, np.generic]:
        return {"box": np.int64(0)}

    def _set_up(self) -> None:
        weights = self._weights(np.arange(len(self.pool)))
        self._picker = WeightedPicker(self.pool.ids, weights, seed=self.seed, arms=self.pool.arms)

    def _pick(self, request: Request) -> Picked:
        return draw_by_weight(self._picker, request, self._rng)

    def _fold(self, evidence: Evidence) -> None:
        groups = evidence.groups()
        known = groups.known == groups.size
        if not known.all():
            self._fall_back("solved_unknown", _UNKNOWN)
        rows, rate = groups.rows[known], groups.successes[known] / groups.size[known]
        box = self._columns["box"][rows]
        back = np.zeros_like(box) if self.setback == "first" else np.maximum(box - 1, 0)
        up = np.minimum(box + 1, self.boxes - 1)
        self._columns.write(rows, box=np.where(rate >= self.mastered - 1e-9, up, back))
        self._picker.update(rows, self._weights(rows))

    def _weights(self, rows: Ints) -> Floats:
        return np.where(self.pool.active[rows], self.ratio ** -self._columns["box"][rows].astype(np.float64), 0.0)

    def _own_metrics(self) -> dict[str, float]:
        sizes = np.bincount(self._columns["box"][self.pool.active], minlength=self.boxes)
        return {f"box/{number}": float(size) for number, size in enumerate(sizes.tolist())}

    def _explain(self, row: int) -> dict[str, Any]:
        return {"box": int(self._columns["box"][row]), "weight": float(self._weights(np.array([row]))[0])}
