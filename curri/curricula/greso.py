"""``greso``: skips prompts whose last groups were all right or all wrong, before any rollout (arXiv 2506.02177)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.curricula.dapo import Refilling, varies
from curri.errors import InvalidParameter
from curri.parameters import choice, integer, real, switch

if TYPE_CHECKING:
    from curri.curricula.base import Request, Verdict
    from curri.curricula.evidence import Evidence, Groups
    from curri.state import State
    from curri.types import Bools, Floats, Ints, Strings

__all__ = ["GRESO"]

_EASY, _HARD = 1, -1
_EASY_FROM, _HARD_UP_TO = 0.98, 0.11
_ROUNDING = 1e-9


class GRESO(Refilling):
    """Draws uniformly in epochs and skips a drawn prompt by chance, the more often it gave nothing in a row.

    With z the number of a prompt's latest groups that were all right, or all wrong, without a break, a drawn prompt is
    skipped with probability

        1 − max(p^z, 0.01),    p = p_easy where they were all right, p_hard where they were all wrong.

    After each round p_easy falls by 0.01 where more than 0.25 · 1/3 of the groups were all right, and rises by 0.01
    where fewer were; p_hard likewise with all wrong groups and 0.25 · 2/3. Both stay within 0.05 and 0.95. Skipped
    prompts wait for the next epoch. Groups without signal that still come are dropped by ``admit``; :attr:`planner`
    says how many prompts to ask for.

    Where the paper, released code and this implementation differ:

    * ``dead_by``: the released code calls a group easy from a mean of .98 and hard up to .11, which fits 8 rollouts
      ("thresholds"; with 16, one right answer of 16 counts as all wrong). "equal" goes by rewards that are all equal.
      Then a group is easy if all was right, else hard; where ``solved`` is unknown, easy if its reward is above 0.
    * ``run_of``: z counts dead groups of one kind ("kind"), or of both ("dead"); descriptions of the code differ.
    * ``drop_dead``: whether such groups are dropped; the released code filters as DAPO does.
    * A group of one response says nothing of spread: it neither adds to z nor ends a run, and it is kept.
    * Where too many prompts are skipped to fill a batch, the first ones skipped are taken after all, and counted.

    >>> from curri import PromptPool, Rollouts
    >>> greso = GRESO(PromptPool([1, 2]), group_size=2)
    >>> for _ in range(3):
    ...     greso.tell(Rollouts([1, 1, 2, 2], [1, 1, 1, 0]))
    ...     greso.advance()
    >>> round(greso.explain(1)["keep_probability"], 4), greso.explain(2)["keep_probability"]
    (0.1038, 1.0)
    """

    name: ClassVar[str] = "greso"
    summary: ClassVar[str] = "skips prompts whose last groups carried no signal, by chance (GRESO)"
    source: ClassVar[str] = "GRESO, arXiv 2506.02177"
    tags: ClassVar[frozenset[str]] = frozenset({"admits"})

    p_start: float = real(
        default=0.5, low=0.0, high=1.0, symbol="p", doc="first p_easy and p_hard", source="released code"
    )
    p_step: float = real(
        default=0.01, low=0.0, high=1.0, symbol="Δp", doc="change of p_easy and p_hard a round", source="released code"
    )
    p_low: float = real(default=0.05, low=0.0, high=1.0, doc="least p_easy and p_hard", source="released code")
    p_high: float = real(default=0.95, low=0.0, high=1.0, doc="largest p_easy and p_hard", source="released code")
    keep_floor: float = real(
        default=0.01, low=0.0, high=1.0, doc="least probability that a drawn prompt is taken", source="released code"
    )
    dead_target: float = real(
        default=0.25, low=0.0, high=1.0, symbol="α", doc="share of groups without signal to steer for", source="GRESO"
    )
    easy_part: float = real(
        default=1 / 3, low=0.0, high=1.0, doc="part of `dead_target` for groups that are all right", source="GRESO"
    )
    dead_by: str = choice(
        default="equal",
        of=("equal", "thresholds"),
        doc="what makes a group dead: equal rewards, or a mean of at least .98 or at most .11",
        source="released code: thresholds",
    )
    run_of: str = choice(
        default="kind",
        of=("kind", "dead"),
        symbol="z",
        doc="whether a run ends when dead groups change from all right to all wrong",
        source="our sources for the released code differ",
    )
    drop_dead: bool = switch(default=True, doc="whether `admit` drops groups without signal", source="released code")
    max_draws: int = integer(
        default=10, low=1, high=60, doc="draws for one batch, each twice the last, before skipped prompts are taken"
    )

    # ---- picking ------------------------------------------------------------------------------------------------

    def _pick_from(self, arm: int | None, n: int, excluded: Ints) -> tuple[Ints, Floats]:
        if not self._on_a_run:
            return super()._pick_from(arm, n, excluded)
        active = self.pool.n_active if arm is None else int(self.pool.arm_sizes[arm])
        out = self.pool.active[excluded] & (arm is None or self.pool.arms[excluded] == arm)
        untried = active - int(np.count_nonzero(out))
        taken, skipped = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        draw = 0
        while draw < self.max_draws and taken.size < n and untried:
            left = self._left(arm, self._held(arm, excluded)) or untried
            size = min(n << draw, left)  # a draw past the end of an epoch would cut it short
            rows, heads = self._drawn(arm, size, excluded, n - taken.size)
            taken, skipped = np.concatenate([taken, rows[heads]]), np.concatenate([skipped, rows[~heads]])
            excluded, untried = np.union1d(excluded, rows), untried - rows.size
            draw += int(size < left)  # what is left of an epoch is not a draw of its own
        if taken.size < n:
            self._fall_back(
                "skipped_prompts_taken",
                "too few prompts were left after skipping, so that skipped ones were taken to fill the batch (more "
                "prompts, a higher `keep_floor` or a higher `max_draws` avoid it)",
            )
        return np.concatenate([taken, skipped])[:n], np.full(n, np.nan)

    def _drawn(self, arm: int | None, size: int, excluded: Ints, wanted: int) -> tuple[Ints, Bools]:
        """Prompts in the order drawn, with the fall of the coin, up to the ``wanted``-th that is taken."""
        rows, _ = super()._pick_from(arm, size, excluded)
        heads = self._rng.random(size) < self._keep(rows)
        used = int(np.searchsorted(np.cumsum(heads), wanted)) + 1
        back = rows[used:]
        if back.size:
            self._waiting.update(back, np.ones(back.size))
            self._columns.write(back, drawn=False)
        return rows[:used], heads[:used]

    def _keep(self, rows: Ints) -> Floats:
        """Probability that a drawn prompt is taken, max(p^z, floor), shape of ``rows``."""
        run = self._columns["run"][rows].astype(np.float64)
        chance = np.where(run > 0, self._p_easy, self._p_hard) ** np.abs(run)
        return np.where(run == 0, 1.0, np.maximum(chance, self.keep_floor))

    def _arm_mass(self, request: Request) -> Floats:
        if not self._on_a_run:
            return super()._arm_mass(request)
        keep = np.zeros(len(self.pool))
        rows = self.pool.active_everywhere
        keep[rows] = self._keep(rows)
        keep[request.excluded] = 0.0
        return np.bincount(self.pool.arms, keep, len(self.pool.arm_names)).astype(np.float64)

    # ---- judging ------------------------------------------------------------------------------------------------

    def _kinds(self, groups: Groups) -> Ints:
        """1 for groups that count as all right, -1 for all wrong, 0 for the others, shape (groups,)."""
        if self.dead_by == "equal":
            return _kinds_by_equality(groups)
        rate = np.where(groups.known > 0, groups.successes / np.maximum(groups.known, 1), groups.reward_mean)
        return np.select([rate >= _EASY_FROM, rate <= _HARD_UP_TO], [_EASY, _HARD], 0)

    def _reasons(self, groups: Groups, evidence: Evidence) -> Strings:
        kinds = np.where(groups.size > 1, _kinds_by_equality(groups), 0)
        partly = (kinds == _HARD) & (groups.successes > 0.0)
        return np.select([kinds == _EASY, partly, kinds == _HARD], ["all right", "no variance", "all wrong"], "")

    def _judge(self, groups: Groups, evidence: Evidence) -> Verdict:
        verdict = super()._judge(groups, evidence)
        if self.drop_dead:
            return verdict
        return verdict._replace(verdict=np.full(len(groups), "keep"), reason=np.full(len(groups), ""))

    # ---- learning -----------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        if self.p_low > self.p_high:
            raise InvalidParameter(f"`p_low` of `GRESO` must be at most `p_high`, {self.p_high:g}; got {self.p_low:g}")
        super()._set_up()
        self._p_easy: float = getattr(self, "_p_easy", self.p_start)
        self._p_hard: float = getattr(self, "_p_hard", self.p_start)
        self._on_a_run = int(np.count_nonzero(self._columns["run"]))

    def _column_defaults(self) -> dict[str, np.generic]:
        return {**super()._column_defaults(), "run": np.int32(0)}

    def _fold(self, evidence: Evidence) -> None:
        super()._fold(evidence)
        groups = evidence.groups()
        says = groups.size > 1
        rows, kinds = groups.rows[says], self._kinds(groups)[says]
        if not rows.size:
            return
        if self.dead_by == "equal" and np.any((kinds != 0) & (groups.known[says] == 0)):
            self._fall_back(
                "solved_unknown",
                "`solved` is unknown for groups with equal rewards: a reward above 0 counts as right, others as wrong "
                "(tell `solved` beside the rewards)",
            )
        self._extend_runs(rows, kinds)
        self._p_easy = self._moved(self._p_easy, float(np.mean(kinds == _EASY)), self.dead_target * self.easy_part)
        self._p_hard = self._moved(
            self._p_hard, float(np.mean(kinds == _HARD)), self.dead_target * (1.0 - self.easy_part)
        )

    def _extend_runs(self, rows: Ints, kinds: Ints) -> None:
        """A run is kept with its sign: positive for all right, negative for all wrong, 0 after signal."""
        before = self._columns["run"][rows]
        goes_on = (np.sign(before) == kinds) | (self.run_of == "dead")
        length = np.where(goes_on, np.abs(before), 0) + 1
        after = (kinds * length).astype(np.int32)
        self._columns.write(rows, run=after)
        self._on_a_run += int(np.count_nonzero(after)) - int(np.count_nonzero(before))

    def _moved(self, p: float, share: float, target: float) -> float:
        if abs(share - target) <= _ROUNDING:
            return p
        moved = p - self.p_step if share > target else p + self.p_step
        return float(min(max(moved, self.p_low), self.p_high))

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _own_state(self) -> State:
        return {**super()._own_state(), "p": [self._p_easy, self._p_hard]}

    def _load_own_state(self, state: State) -> None:
        p_easy, p_hard = (float(p) for p in state["p"])
        super()._load_own_state(state)
        self._p_easy, self._p_hard = p_easy, p_hard

    def _own_metrics(self) -> dict[str, float]:
        runs = {"p_easy": self._p_easy, "p_hard": self._p_hard, "prompts_on_a_run": float(self._on_a_run)}
        return {**super()._own_metrics(), **runs}

    def _explain(self, row: int) -> dict[str, Any]:
        run = int(self._columns["run"][row])
        kind = "all right" if run > 0 else "all wrong" if run < 0 else "none"
        keep = float(self._keep(np.array([row]))[0])
        return {**super()._explain(row), "dead_groups_in_a_row": abs(run), "kind": kind, "keep_probability": keep}


def _kinds_by_equality(groups: Groups) -> Ints:
    rate = groups.successes / np.maximum(groups.known, 1)
    right = np.where(groups.known > 0, rate >= 1.0 - _ROUNDING, groups.reward_mean > 0.0)
    return np.where(varies(groups, _ROUNDING), 0, np.where(right, _EASY, _HARD))
