"""``learning-progress``: arms whose pass rate moves, after OMNI's form of learning progress (arXiv 2306.01711)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.curricula.by_arm import ArmCurriculum, draw_switch
from curri.parameters import choice, real

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.curricula.evidence import Evidence
    from curri.state import State
    from curri.types import Bools, Floats, Ints

_FAST, _SLOW, _RAW = range(3)
_WIDTH = 4
_BASELINE_HIGH = 0.75
_SAME = 1e-12


class LearningProgress(ArmCurriculum):
    """Draws more from arms whose pass rate is changing, up or down.

    After each round with the pass rate p of an arm (its share of solved responses)

        fast ← α p + (1 - α) fast,    slow ← α fast + (1 - α) slow         (both start at the first p),
        progress = |bend(fast) - bend(slow)|,    bend(p) = p (1 - θ) / (p + θ (1 - 2p)),

    where the bend makes a step at a low pass rate count more than the same step at a high one. Arms that were solved at
    all, or make progress, are compared:

        z = (progress - mean) / sd over these arms,    w ∝ 1 / (1 + exp(-z)),    P = (1 - u) w + u / K,

    and all others have the uniform share u / K alone. While no arm was solved, P is uniform.

    The pass rate is a fraction, as told in ``solved``: an arm solved to 60 % is at 0.6. (The published Syllabus code
    rounds every outcome down, so that anything below 1 counts as a failure.) Where ``solved`` is unknown, because
    rewards lie outside [0, 1], the reward is clipped to [0, 1] in its place (``fallback/solved_unknown``).

    Where paper, released code and this implementation differ:

    * ``baseline``: OMNI compares with the success of a random policy, p ← max(p - b, 0) / (1 - b). Syllabus takes the
      first measured rate for b, at most 0.75 ("first"): an arm below its start then shows no progress. "none" (the
      default) takes the pass rate as it is.
    * Syllabus measures every task in an evaluation; here an arm without responses in a round stays as it is, and its
      progress waits with it. The uniform share makes sure that it is measured.
    * Syllabus draws one task for every environment ("successive"); "systematic" has the same expectation.

    >>> from curri import PromptPool, Rollouts
    >>> arms = LearningProgress(PromptPool(range(4), list("aabb")))
    >>> for solved in (0.0, 1.0):
    ...     arms.tell(Rollouts([0, 0, 2, 2], [solved, 0.5, 0.5, 0.5]))
    ...     arms.advance()
    >>> {arm: round(weight, 3) for arm, weight in arms.arm_weights.items()}
    {'a': 0.673, 'b': 0.327}
    """

    name: ClassVar[str] = "learning-progress"
    summary: ClassVar[str] = "arms whose pass rate is changing (learning progress, as in OMNI)"
    source: ClassVar[str] = "OMNI, arXiv 2306.01711; Kanitscheider et al., arXiv 2106.14876"

    rate: float = real(
        default=0.1, above=0.0, high=1.0, symbol="α", doc="weight of a round in the moving averages", source="Syllabus"
    )
    theta: float = real(
        default=0.1,
        above=0.0,
        high=0.5,
        symbol="θ",
        doc="how much more progress at low pass rates counts; 0.5 for not at all",
        source="OMNI",
    )
    uniform_share: float = real(
        default=0.25, low=0.0, high=1.0, symbol="u", doc="part of a batch that is spread evenly", source="Syllabus"
    )
    baseline: str = choice(
        default="none",
        of=("none", "first"),
        symbol="b",
        doc="what a pass rate is measured from: 0, or the arm's first rate",
        source="Syllabus: first; OMNI: the rate of a random policy",
    )
    draw: str = draw_switch(source="Syllabus: successive")

    more_weight: ClassVar[str] = "a higher `uniform_share`"

    # ---- picking ------------------------------------------------------------------------------------------------

    def _arm_weights(self, supply: Ints) -> Floats:
        able = supply > 0
        even = able / max(int(able.sum()), 1)
        progress = self._progress()
        moving = able & ((progress > 0.0) | (self._table[:, _RAW] > 0.0))
        if not moving.any():
            return np.asarray(even)
        return np.asarray((1.0 - self.uniform_share) * compared(progress, moving) + self.uniform_share * even)

    def _progress(self) -> Floats:
        """|bend(fast) - bend(slow)| of every arm, 0 for those never seen, shape (_A,)."""
        fast, slow = self._table[:, _FAST], self._table[:, _SLOW]
        return np.asarray(np.abs(bend(fast, self.theta) - bend(slow, self.theta)))

    # ---- learning -----------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        self._averages: dict[str, list[float]] = getattr(self, "_averages", {})
        rows = [self._averages.get(name, [0.0] * _WIDTH) for name in self.pool.arm_names]
        self._table = np.array(rows, dtype=np.float64).reshape(-1, _WIDTH)

    def _fold(self, evidence: Evidence) -> None:
        train = ~evidence.probe
        solved, arms = evidence.solved[train], self.pool.arms[evidence.rows[train]]
        unknown = np.isnan(solved)
        if unknown.any():
            self._fall_back(
                "solved_unknown",
                "some rewards lie outside [0, 1] and came without `solved`; they are clipped to [0, 1] as pass rates "
                "(tell `solved` beside the rewards)",
            )
            solved = np.where(unknown, np.clip(evidence.rewards[train], 0.0, 1.0), solved)
        count = np.bincount(arms, minlength=len(self._table))
        total = np.bincount(arms, solved, len(self._table))
        for arm in np.flatnonzero(count).tolist():
            self._update(arm, float(total[arm] / count[arm]))

    def _update(self, arm: int, rate: float) -> None:
        name = self.pool.arm_names[arm]
        fast, slow, raw, start = self._averages.get(name, [np.nan] * _WIDTH)
        if np.isnan(fast):
            start = min(rate, _BASELINE_HIGH) if self.baseline == "first" else 0.0
            fast = slow = (rate - start) / (1.0 - start)
            raw = rate
        else:
            fast += self.rate * (max(rate - start, 0.0) / (1.0 - start) - fast)
            slow += self.rate * (fast - slow)
            raw += self.rate * (rate - raw)
        self._averages[name] = [fast, slow, raw, start]
        self._table[arm] = self._averages[name]

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _own_state(self) -> State:
        return {"averages": {arm: list(row) for arm, row in self._averages.items()}}

    def _load_own_state(self, state: State) -> None:
        averages = {str(arm): [float(value) for value in row] for arm, row in state["averages"].items()}
        if any(len(row) != _WIDTH for row in averages.values()):
            raise ValueError(f"averages of an arm are {_WIDTH} numbers")
        self._averages = averages

    def _own_metrics(self) -> dict[str, float]:
        progress = zip(self.pool.arm_names, self._progress().tolist(), strict=True)
        return {
            **super()._own_metrics(),
            "arms_unseen": sum(arm not in self._averages for arm in self.arm_weights),
            **{f"pass_rate/{arm}": row[_RAW] for arm, row in self._averages.items()},
            **{f"progress/{arm}": value for arm, value in progress},
        }

    def _explain(self, row: int) -> dict[str, Any]:
        arm = int(self.pool.arms[row])
        fast, slow, raw, _ = self._table[arm].tolist()
        return {
            "arm_pass_rate": raw if self.pool.arm_names[arm] in self._averages else None,
            "arm_fast": fast,
            "arm_slow": slow,
            "arm_progress": float(self._progress()[arm]),
            **super()._explain(row),
        }


def bend(rates: ArrayLike, theta: float) -> Floats:
    """The rates p(1 - θ) / (p + θ(1 - 2p)): 0 and 1 stay, what lies between is pulled up (Kanitscheider et al. 2021).

    Args:
        rates: p in [0, 1], any shape.
        theta: θ in (0, 0.5]; 0.5 changes nothing.

    >>> bend([0.0, 0.1, 0.5, 1.0], 0.1).round(3)
    array([0. , 0.5, 0.9, 1. ])
    """
    p = np.asarray(rates, dtype=np.float64)
    return np.asarray(p * (1.0 - theta) / (p + theta * (1.0 - 2.0 * p)))


def compared(progress: Floats, among: Bools) -> Floats:
    """Weights by progress: z-scores among some arms, through the logistic function; 0 for the others, adding up to 1.

    >>> compared(np.array([0.3, 0.1, 0.9]), np.array([True, True, False])).round(3)
    array([0.731, 0.269, 0.   ])
    """
    mine = progress[among]
    spread = float(mine.std())
    score = (mine - mine.mean()) / spread if spread > _SAME else np.zeros(mine.shape)
    weights = np.zeros(progress.shape)
    weights[among] = 1.0 / (1.0 + np.exp(-score))
    return np.asarray(weights / weights.sum())
