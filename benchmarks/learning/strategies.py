"""What is no strategy of curri: a bound that is told the policy's pass rates, and a filter that pays for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from curri.curricula import Curriculum
from curri.curricula.base import Picked, Request, pick_best
from curri.parameters import choice, integer, real, switch
from curri.selectors import weighted_without_replacement

if TYPE_CHECKING:
    from collections.abc import Callable

    from curri.curricula.evidence import Evidence
    from curri.types import Floats, Ints

_LEAST = 1e-4


class Meter(Protocol):
    """Says how often the policy, as it is now, solves prompts."""

    def exact(self, prompt_ids: Ints) -> Floats:
        """Pass rates, shape (prompts,); they cost nothing."""
        ...

    def sampled(self, prompt_ids: Ints, each: int) -> Floats:
        """Shares of right ones among so many new responses of each prompt, shape (prompts,); their tokens are spent."""
        ...


class Measuring(Curriculum):
    """What both share: they learn nothing from what is trained on, and measure before every pick."""

    def use(self, meter: Meter) -> None:
        """Measure with this from now on."""
        self._meter = meter

    def _fold(self, evidence: Evidence) -> None:
        """Nothing is learned."""


WORTHS: dict[str, Callable[[Floats, int], Floats]] = {
    "live": lambda rate, n: 1 - rate**n - (1 - rate) ** n,
    "headroom": lambda rate, n: (1 - rate**n - (1 - rate) ** n) * (1 - rate),
}
"""Pass rates and responses of a group → worth of a prompt: that its group has signal; that, times what is to gain."""


class KnownRates(Measuring):
    """Draws prompts by a worth of their exact pass rates: what a strategy would do that knew everything."""

    name: ClassVar[str] = "known-rates"
    summary: ClassVar[str] = "a draw by a worth of the exact pass rates"
    source: ClassVar[str] = "a bound"

    worth: str = choice(default="live", of=tuple(WORTHS), doc="what the draw goes by")
    evened: bool = switch(default=False, doc="divide by the root of the mean worth of the arm")

    def _pick(self, request: Request) -> Picked:
        rows = np.setdiff1d(self.pool.active_everywhere, request.excluded)
        worth = WORTHS[self.worth](self._meter.exact(self.pool.ids[rows]), self.group_size)
        if self.evened:
            arms = self.pool.arms[rows]
            of_arm = np.bincount(arms, worth) / np.maximum(np.bincount(arms), 1)
            worth = worth / np.sqrt(np.maximum(of_arm, _LEAST))[arms]
        drawn = rows[weighted_without_replacement(np.maximum(worth, _LEAST), request.n, self.generator)]
        return Picked(drawn, np.full(drawn.size, np.nan))


class RolloutFilter(Measuring):
    """PCL with rollouts in the place of its value model: the candidates nearest to τ, by responses sampled for that."""

    name: ClassVar[str] = "rollout-filter"
    summary: ClassVar[str] = "the candidates whose share of right responses is nearest to a target"
    source: ClassVar[str] = "PCL's baseline, arXiv 2510.01135"

    candidates: int = integer(default=4, low=1, doc="candidates for each prompt of a batch, as in `pcl`")
    target: float = real(default=0.5, low=0.0, high=1.0, doc="the pass rate to stay near, as in `pcl`")
    responses: int = integer(default=0, low=0, doc="of each candidate; 0 for as many as a group has")

    def _pick(self, request: Request) -> Picked:
        return pick_best(self, request, self._nearness, candidates=self.candidates)

    def _nearness(self, rows: Ints) -> Floats:
        return -np.abs(self._meter.sampled(self.pool.ids[rows], self.responses or self.group_size) - self.target)


OWN: dict[str, type[Measuring]] = {owner.name: owner for owner in (KnownRates, RolloutFilter)}
