"""``dapo``: uniform prompts, and only groups that carry signal are trained on (arXiv 2503.14476)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.curricula.base import Verdict
from curri.curricula.uniform import Uniform
from curri.errors import InvalidParameter
from curri.parameters import choice, integer, real, switch
from curri.selectors import RefillPlanner

if TYPE_CHECKING:
    from curri.curricula.evidence import Evidence, Groups
    from curri.state import State
    from curri.types import Bools, Floats, Strings

__all__ = ["DAPO", "Refilling"]

_ROUNDING = 1e-12


class Refilling(Uniform):
    """What strategies share that draw uniformly, drop groups without signal and ask again until a batch is full.

    ``admit`` judges groups; :attr:`planner` says how many prompts to ask for, and keeps surplus groups for the next
    step. Its live share is learned from what is told, at ``advance``, whether or not the planner is used.
    """

    max_refills: int = integer(
        default=10,
        low=0,
        high=1_000_000,
        doc="asks after the first one of a step, before the planner gives up and returns what there is",
        source="DAPO's max_num_gen_batches, which raises an error",
    )
    max_factor: float = real(default=4.0, low=1.0, high=1e6, doc="most prompts in one ask of the planner, in batches")
    confidence: float = real(
        default=0.8, above=0.0, high=0.999, doc="probability that one ask of the planner is enough to fill the batch"
    )
    oversample: float = real(
        default=0.0,
        low=0.0,
        high=1e6,
        doc="at least 1: every ask of the planner is this many batches, as in released code; below: learned",
        source="released code: a fixed generation batch",
    )
    carry: int = integer(
        default=1,
        low=0,
        doc="steps that a surplus live group may wait to be trained on; 0 throws it away",
        source="Confucius3: 1; DAPO's code: 0",
    )
    share_decay: float = real(
        default=0.9, above=0.0, high=1.0, doc="what is left after a step of the counts behind the live share"
    )

    @property
    def planner(self) -> RefillPlanner:
        """How many prompts to ask for, and what to do with too few or too many live groups; part of the state."""
        return self._planner

    # ---- judging ------------------------------------------------------------------------------------------------

    def _reasons(self, groups: Groups, evidence: Evidence) -> Strings:
        """Why each group carries no signal, "" for those that do, shape (groups,)."""
        raise NotImplementedError

    def _judge(self, groups: Groups, evidence: Evidence) -> Verdict:
        reasons = self._reasons(groups, evidence)
        verdict = np.where(reasons == "", "keep", "drop")
        return Verdict(verdict, np.zeros(len(groups), dtype=np.int64), reasons)

    # ---- learning -----------------------------------------------------------------------------------------------

    def _fold(self, evidence: Evidence) -> None:
        groups = evidence.groups()
        reasons = self._reasons(groups, evidence)
        names, counts = np.unique(reasons, return_counts=True)
        for name, count in zip(names.tolist(), counts.tolist(), strict=True):
            self._judged[name or "live"] = self._judged.get(name or "live", 0) + count
        self._planner.learn_from(int(np.count_nonzero(reasons == "")), len(groups))

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        super()._set_up()
        self._judged: dict[str, int] = getattr(self, "_judged", {})
        self._planner: RefillPlanner = getattr(self, "_planner", None) or self._new_planner()

    def _new_planner(self) -> RefillPlanner:
        return RefillPlanner(
            group_size=self.group_size,
            max_refills=self.max_refills,
            max_factor=self.max_factor,
            confidence=self.confidence,
            oversample=self.oversample if self.oversample >= 1.0 else 0.0,
            carry=self.carry,
            decay=self.share_decay,
            learn=False,
            seed=self.seed,
        )

    def _own_state(self) -> State:
        planner = {f"planner/{name}": value for name, value in self._planner.state().items()}
        return {**super()._own_state(), "judged": dict(self._judged), **planner}

    def _load_own_state(self, state: State) -> None:
        judged = {str(name): int(count) for name, count in state["judged"].items()}
        planner = self._new_planner()
        planner.load({name.partition("/")[2]: value for name, value in state.items() if name.startswith("planner/")})
        super()._load_own_state(state)
        self._judged, self._planner = judged, planner

    def _own_metrics(self) -> dict[str, float]:
        judged = {f"groups/{name.replace(' ', '_')}": float(count) for name, count in self._judged.items()}
        planner = {f"planner/{name}": value for name, value in self._planner.metrics().items()}
        return {**super()._own_metrics(), **judged, **planner}


class DAPO(Refilling):
    """Draws uniformly in epochs and trains only on groups with both right and wrong responses (dynamic sampling).

    A group of n responses is kept if and only if (DAPO, equation 11)

        0 < number of right responses < n,

    as all its advantages are zero otherwise. What is dropped is replaced by new prompts until the batch is full: ask
    :attr:`planner` how many. It learns the share of live groups and asks for enough of them at once, keeps surplus ones
    for the next step, and stops after ``max_refills`` with what there is.

    Where the paper, released code and this implementation differ:

    * ``signal``: the paper counts right answers ("solved"). Released code takes the standard deviation of a metric, so
      a shaped reward can keep a group that is all right ("reward"). Groups whose ``solved`` is unknown or a fraction
      are judged by their rewards in either case, by ``tolerance``: a standard deviation of exactly 0 is a matter of
      rounding.
    * ``band_low``, ``band_high``: online difficulty filtering keeps groups whose mean lies between two bounds. The
      rule above holds besides, since groups of equal fractional rewards would pass the band.
    * ``keep_single``: a group of one response is dropped by the formula and kept by released code.
    * Released code generates batches of a fixed size (``oversample``), throws surplus groups away (``carry=0``) and
      raises an error after its last batch; this one returns a short batch and the reason.

    >>> from curri import PromptPool, Rollouts
    >>> dapo = DAPO(PromptPool(range(4)), group_size=2)
    >>> admission = dapo.admit(Rollouts([0, 0, 1, 1, 2, 2], [1, 0, 1, 1, 0, 0]))
    >>> admission.verdict.tolist(), admission.reason.tolist()
    (['keep', 'drop', 'drop'], ['', 'all right', 'all wrong'])
    """

    name: ClassVar[str] = "dapo"
    summary: ClassVar[str] = "uniform prompts; groups without signal are dropped and refilled (DAPO)"
    source: ClassVar[str] = "DAPO, arXiv 2503.14476"
    tags: ClassVar[frozenset[str]] = frozenset({"admits"})

    signal: str = choice(
        default="solved",
        of=("solved", "reward"),
        doc="what tells a group with signal: right answers, or any spread of its rewards",
        source="paper: solved; released code: reward",
    )
    tolerance: float = real(
        default=1e-9,
        low=0.0,
        high=1.0,
        doc="rewards of a group that differ by no more than this are equal (relative for rewards beyond 1)",
        source="released code: 0",
    )
    band_low: float = real(
        default=0.0, low=0.0, high=1.0, symbol="T_low", doc="keep groups whose mean pass rate is above this"
    )
    band_high: float = real(
        default=1.0, low=0.0, high=1.0, symbol="T_high", doc="keep groups whose mean pass rate is below this"
    )
    keep_single: bool = switch(default=False, doc="keep groups of one response", source="paper: off; released code: on")

    def _set_up(self) -> None:
        if self.band_low >= self.band_high:
            raise InvalidParameter(
                f"`band_low` of `DAPO` must be below `band_high`, {self.band_high:g}; got {self.band_low:g}"
            )
        super()._set_up()

    def _reasons(self, groups: Groups, evidence: Evidence) -> Strings:
        known = groups.known == groups.size
        rate = groups.successes / np.maximum(groups.known, 1)
        right, wrong = known & (rate >= 1.0 - _ROUNDING), known & (rate <= _ROUNDING)
        by_solved = known & ~_fractional(groups, evidence) if self.signal == "solved" else np.zeros_like(known)
        dead = np.where(by_solved, right | wrong, ~varies(groups, self.tolerance))
        if self.keep_single:
            dead &= groups.size > 1
        reasons = np.select([~dead, right, wrong], ["", "all right", "all wrong"], "no variance")
        outside = self._outside(known, rate)
        return np.where((reasons == "") & (outside != ""), outside, reasons)

    def _outside(self, known: Bools, rate: Floats) -> Strings:
        """Which side of the band a group lies on; "" for those inside, and where the pass rate is unknown."""
        too_hard = known & (self.band_low > 0.0) & (rate <= self.band_low + _ROUNDING)
        too_easy = known & (self.band_high < 1.0) & (rate >= self.band_high - _ROUNDING)
        return np.select([too_hard, too_easy], ["too hard", "too easy"], "")

    def _explain(self, row: int) -> dict[str, Any]:
        return {**super()._explain(row), "live_share": self.planner.share.mean}


def varies(groups: Groups, tolerance: float) -> Bools:
    """Whether the rewards of each group differ by more than ``tolerance`` (relative for rewards beyond 1).

    Args:
        groups: the groups.
        tolerance: ≥ 0.
    """
    scale = np.maximum(1.0, np.maximum(np.abs(groups.reward_min), np.abs(groups.reward_max)))
    return np.asarray(groups.reward_max - groups.reward_min > tolerance * scale)


def _fractional(groups: Groups, evidence: Evidence) -> Bools:
    """Whether any response of a group was solved in part."""
    partly = (evidence.solved > 0.0) & (evidence.solved < 1.0)
    return np.isin(groups.rows, evidence.rows[partly])
