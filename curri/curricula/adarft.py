"""``adarft``: a target difficulty that follows the reward, and the prompts nearest to it (arXiv 2504.05520)."""

from __future__ import annotations

import copy
import math
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.curricula.base import Curriculum, Picked, Request
from curri.parameters import choice, integer, real
from curri.selectors import best_rows

if TYPE_CHECKING:
    from curri.curricula.evidence import Evidence
    from curri.state import State
    from curri.types import Floats, Ints

__all__ = ["AdaRFT"]

_HARDEST = 100.0
_UNKNOWN = 50.0


class AdaRFT(Curriculum):
    """Picks the prompts whose difficulty is nearest to a target T that rises while rewards are high.

    The difficulty of a prompt is d = 100 · (1 − pass rate of another model, ``pool.prior_rate``). After each round
    with mean reward R̄ (AdaRFT, algorithm 1)

        T ← clip(T + η · tanh(α · (R̄ − β)), 0, 100),

    and the next batch are the prompts with the smallest |d − T|.

    Prompts without a prior rate: their difficulty is that of their own rollouts, which fade by ``own_decay`` a visit
    and are joined by one response at the mean of the pool; before they are seen it is the pool's mean difficulty (50
    if no prompt has a prior rate). ``unrated="mean"`` keeps them at the mean for good.

    Where the paper, released code and this implementation differ:

    * ``memory``, ``set_back``: the released code forgets what it picked, so that an unchanged target gives the very
      same prompts again (``memory=0``). Here a prompt counts as ``set_back`` points further away after it was picked,
      less from round to round, and as what it is after ``memory`` rounds.
    * ``ties``: the released code takes the first of the prompts that are equally near ("order"); here any ("random").
    * ``max_step``: with the defaults one round can move T by 50 · tanh(1) = 38 of its 100 points. Off, as released.
    * ``signal``: R̄ is the mean of ``solved``, or of the reward where that is unknown; "reward" is the paper's word.
      With rewards outside [0, 1] β has to be set anew.
    * A round without training rollouts leaves T where it is.

    >>> from curri import PromptPool, Rollouts
    >>> adarft = AdaRFT(PromptPool(range(5), prior_rate=[1.0, 0.75, 0.5, 0.25, 0.0]), memory=0)
    >>> adarft.ask(2).prompt_ids.tolist()
    [0, 1]
    >>> adarft.tell(Rollouts([0, 1], [1, 1]))
    >>> adarft.advance()
    >>> round(adarft.target, 2), sorted(adarft.ask(2).prompt_ids.tolist())
    (38.08, [1, 2])
    """

    name: ClassVar[str] = "adarft"
    summary: ClassVar[str] = "prompts nearest to a target difficulty that follows the reward (AdaRFT)"
    source: ClassVar[str] = "AdaRFT, arXiv 2504.05520"
    cursors: ClassVar[frozenset[str]] = frozenset({"picked_at"})

    start: float = real(default=0.0, low=0.0, high=_HARDEST, symbol="T", doc="target difficulty of the first round")
    step: float = real(
        default=50.0, low=0.0, symbol="η", doc="largest move of the target in a round", source="released code"
    )
    sensitivity: float = real(
        default=2.0, low=0.0, symbol="α", doc="how sharply the target answers to the reward", source="released code"
    )
    wanted_reward: float = real(
        default=0.5, symbol="β", doc="mean reward at which the target stays", source="released code"
    )
    max_step: float = real(
        default=_HARDEST, above=0.0, high=_HARDEST, doc="cap on a move of the target; 100 for none", source="ours"
    )
    signal: str = choice(
        default="solved", of=("solved", "reward"), symbol="R̄", doc="what the mean is of", source="paper: reward"
    )
    memory: int = integer(
        default=8,
        low=0,
        high=1_000_000,
        doc="rounds after which a picked prompt is no longer set back; 0 for no memory",
        source="released code: 0",
    )
    set_back: float = real(
        default=10.0, low=0.0, doc="points of difficulty that a picked prompt is set back by at first", source="ours"
    )
    ties: str = choice(
        default="random",
        of=("random", "order"),
        doc="which of equally near prompts come first: any, or those with the lowest ids",
        source="released code: order",
    )
    unrated: str = choice(
        default="told",
        of=("told", "mean"),
        doc="difficulty of prompts without a prior rate: by their own rollouts, or the pool's mean",
    )
    own_decay: float = real(
        default=0.85, low=0.0, high=1.0, doc="what is left at a visit of the earlier rollouts of an unrated prompt"
    )

    @property
    def target(self) -> float:
        """T: the target difficulty, in [0, 100]."""
        return self._target

    # ---- picking ------------------------------------------------------------------------------------------------

    def _pick(self, request: Request) -> Picked:
        if not self._has_priors:
            self._fall_back(
                "no_prior_rates",
                "no prompt has a prior pass rate, so that difficulties come from told rollouts alone (import a table "
                "with `curri priors import`)",
            )
        rows = self._chosen(request, self._rng)
        if self.memory:
            self._columns.write(rows, picked_at=self._rounds_asked)
        return Picked(rows, np.full(rows.size, np.nan))

    def _arm_mass(self, request: Request) -> Floats:
        rows = self._chosen(request, copy.deepcopy(self._rng))
        return np.bincount(self.pool.arms[rows], minlength=len(self.pool.arm_names)).astype(np.float64)

    def _chosen(self, request: Request, rng: np.random.Generator) -> Ints:
        recent = self._recent(request.excluded)
        if request.quota is None:
            return self._nearest(self._ladder_of(None), request.n, request.excluded, recent, rng)
        parts = []
        for arm in np.flatnonzero(request.quota).tolist():
            excluded, mine = (part[self.pool.arms[part] == arm] for part in (request.excluded, recent))
            parts.append(self._nearest(self._ladder_of(arm), int(request.quota[arm]), excluded, mine, rng))
        return rng.permutation(np.concatenate(parts))

    def _recent(self, excluded: Ints) -> Ints:
        """Rows that are set back, ascending; none of ``excluded``."""
        if not self.memory:
            return np.empty(0, dtype=np.int64)
        since = max(self._rounds_asked - self.memory, 0)
        rows = np.flatnonzero(self._columns["picked_at"] >= since)
        rows = rows[self.pool.active[rows]]
        return rows[~np.isin(rows, excluded, assume_unique=True)]

    def _nearest(self, ladder: _Ladder, n: int, excluded: Ints, recent: Ints, rng: np.random.Generator) -> Ints:
        """The n rows of a ladder nearest to the target, in random order, those that are set back at their distance."""
        out = np.union1d(excluded[self.pool.active[excluded]], recent)
        rows = ladder.nearest(
            self._target, min(n, ladder.rows.size - out.size), out, rng if self.ties == "random" else None
        )
        distance = np.abs(self._difficulty[rows] - self._target)
        if recent.size:
            rows = np.concatenate([rows, recent])
            distance = np.concatenate(
                [distance, np.abs(self._difficulty[recent] - self._target) + self._behind(recent)]
            )
        order = rng.permutation(rows.size) if self.ties == "random" else np.argsort(rows)
        return best_rows(rows[order], -distance[order], n)

    def _behind(self, rows: Ints) -> Floats:
        """By how much rows picked not long ago are set back."""
        age = self._rounds_asked - self._columns["picked_at"][rows]
        return self.set_back * (1.0 - (age - 1.0) / self.memory)

    def _ladder_of(self, arm: int | None) -> _Ladder:
        """The active prompts of an arm, or of all, by difficulty; kept up to date from the first call on."""
        if arm not in self._ladders:
            rows = self.pool.active_everywhere if arm is None else self.pool.active_rows(arm)
            order = np.argsort(self._difficulty[rows], kind="stable")
            self._ladders[arm] = _Ladder(rows[order], self._difficulty[rows[order]])
        return self._ladders[arm]

    # ---- learning -----------------------------------------------------------------------------------------------

    def _column_defaults(self) -> dict[str, np.generic]:
        picked: dict[str, np.generic] = {"picked_at": np.int32(-1)} if self.memory else {}
        return {"successes": np.float64(0), "responses": np.float64(0), **picked}

    def _set_up(self) -> None:
        self._target: float = getattr(self, "_target", self.start)
        self._mean: float = getattr(self, "_mean", self.wanted_reward)
        prior = self.pool.prior_rate
        self._rated = np.zeros(len(self.pool), dtype=np.bool_) if prior is None else ~np.isnan(prior)
        self._has_priors = bool(self._rated.any())
        known = np.empty(0) if prior is None else prior[self._rated]
        self._common = _HARDEST * (1.0 - float(known.mean())) if known.size else _UNKNOWN
        everything = np.arange(len(self.pool))
        own = self._own_difficulty(everything)
        self._difficulty = own if prior is None else np.where(self._rated, _HARDEST * (1.0 - prior), own)
        self._ladders: dict[int | None, _Ladder] = {}

    def _own_difficulty(self, rows: Ints) -> Floats:
        """The difficulty of prompts without a prior rate."""
        successes, responses = self._columns["successes"][rows], self._columns["responses"][rows]
        rate = (successes + 1.0 - self._common / _HARDEST) / (responses + 1.0)
        return np.where(responses > 0.0, _HARDEST * (1.0 - rate), self._common)

    def _fold(self, evidence: Evidence) -> None:
        train = ~evidence.probe
        if not train.any():
            return
        self._mean = float(np.mean(self._outcomes(evidence)[train]))
        move = self.step * math.tanh(self.sensitivity * (self._mean - self.wanted_reward))
        move = min(max(move, -self.max_step), self.max_step)
        self._target = min(max(self._target + move, 0.0), _HARDEST)
        self._rate_unrated(evidence)

    def _outcomes(self, evidence: Evidence) -> Floats:
        if self.signal == "reward":
            return evidence.rewards
        unknown = np.isnan(evidence.solved)
        if np.any(unknown & ~evidence.probe):
            self._fall_back(
                "solved_unknown",
                "`solved` is unknown for some responses; the target follows their reward (tell `solved`, or set "
                '`signal="reward"` and `wanted_reward` to the scale of the reward)',
            )
        return np.where(unknown, evidence.rewards, evidence.solved)

    def _rate_unrated(self, evidence: Evidence) -> None:
        groups = evidence.groups()
        new = ~self._rated[groups.rows] & (groups.known > 0)
        if self.unrated == "mean" or not new.any():
            return
        rows = groups.rows[new]
        self._columns.write(
            rows,
            successes=self.own_decay * self._columns["successes"][rows] + groups.successes[new],
            responses=self.own_decay * self._columns["responses"][rows] + groups.known[new],
        )
        before = self._difficulty[rows]
        self._difficulty[rows] = self._own_difficulty(rows)
        for arm, ladder in self._ladders.items():
            here = self.pool.active[rows] & (arm is None or self.pool.arms[rows] == arm)
            self._ladders[arm] = ladder.moved(rows[here], before[here], self._difficulty[rows[here]])

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _own_state(self) -> State:
        return {"target": self._target, "mean": self._mean}

    def _load_own_state(self, state: State) -> None:
        self._target, self._mean = float(state["target"]), float(state["mean"])

    def _own_metrics(self) -> dict[str, float]:
        rated = float(np.mean(self._rated)) if self._rated.size else 0.0
        return {"target": self._target, "mean_outcome": self._mean, "rated_share": rated}

    def _explain(self, row: int) -> dict[str, Any]:
        seen = self._columns["responses"][row] > 0
        recent = bool(np.isin(row, self._recent(np.empty(0, dtype=np.int64))))
        return {
            "difficulty": float(self._difficulty[row]),
            "difficulty_from": "prior rate" if self._rated[row] else "own rollouts" if seen else "mean of the pool",
            "target": self._target,
            "distance": abs(float(self._difficulty[row]) - self._target),
            "set_back": float(self._behind(np.array([row]))[0]) if recent else 0.0,
        }


class _Ladder:
    """Rows in the order of (difficulty, row).

    Args:
        rows: shape (m,), in that order.
        values: their difficulties, ascending, shape (m,).
    """

    def __init__(self, rows: Ints, values: Floats) -> None:
        self.rows, self.values = rows, values

    def nearest(self, target: float, n: int, excluded: Ints, rng: np.random.Generator | None) -> Ints:
        """The n rows nearest to ``target``, and perhaps more that are not at the edge.

        Of the rows equally near at the edge random ones are taken, or without ``rng`` the lowest.

        Args:
            target: a difficulty.
            n: how many, at most the rows that are not excluded.
            excluded: rows of this ladder that are passed over, ascending, distinct.
            rng: decides ties.
        """
        if n <= 0:
            return np.empty(0, dtype=np.int64)
        edge = self._distance_of(min(n + excluded.size, self.rows.size), target)
        first, last = self._within(target, edge, inclusive=False)
        outer_first, outer_last = self._within(target, edge, inclusive=True)
        inner = self.rows[first:last]
        inner = inner[~np.isin(inner, excluded, assume_unique=True)]
        left, right = self.rows[outer_first:first], self.rows[last:outer_last]
        missing = max(0, n - inner.size)
        if rng is None:
            level = np.sort(np.concatenate([left, right]))
        else:  # as many more as may be struck out again
            size = left.size + right.size
            place = rng.choice(size, min(size, missing + excluded.size), replace=False)
            level = np.concatenate([left[place[place < left.size]], right[place[place >= left.size] - left.size]])
            level = rng.permutation(level)
        level = level[~np.isin(level, excluded, assume_unique=True)]
        return np.concatenate([inner, level[:missing]])

    def _distance_of(self, k: int, target: float) -> float:
        """The k-th smallest distance."""
        middle = int(np.searchsorted(self.values, target))
        distance = np.abs(self.values[max(0, middle - k) : middle + k] - target)
        return float(np.partition(distance, k - 1)[k - 1])

    def _within(self, target: float, edge: float, *, inclusive: bool) -> tuple[int, int]:
        """First and last place of rows nearer than ``edge``, or as near."""

        def inside(place: int) -> bool:
            distance = abs(float(self.values[place]) - target)
            return distance <= edge if inclusive else distance < edge

        size = self.values.size
        middle = int(np.searchsorted(self.values, target))
        first = bisect_left(range(middle), 1, key=inside)
        last = middle + bisect_left(range(size - middle), 1, key=lambda place: not inside(middle + place))
        return first, last

    def moved(self, rows: Ints, before: Floats, after: Floats) -> _Ladder:
        """A ladder in which ``rows`` have another difficulty. Copies stretches between them, never row by row."""
        if not rows.size:
            return self
        order = np.lexsort((rows, after))
        rows_in, after = rows[order], after[order]
        leave, enter = self._places(rows, before), self._places(rows_in, after)
        events = [(place, True, 0) for place in leave.tolist()]
        events += [(place, False, number) for number, place in enumerate(enter.tolist())]
        done = 0
        row_parts, value_parts = [], []
        for place, leaves, number in sorted(events):  # what enters at a place comes before what leaves it
            row_parts.append(self.rows[done:place])
            value_parts.append(self.values[done:place])
            if not leaves:
                row_parts.append(rows_in[number : number + 1])
                value_parts.append(after[number : number + 1])
            done = place + leaves
        row_parts.append(self.rows[done:])
        value_parts.append(self.values[done:])
        return _Ladder(np.concatenate(row_parts), np.concatenate(value_parts))

    def _places(self, rows: Ints, values: Floats) -> Ints:
        """Where (value, row) stands, or belongs."""
        first = np.searchsorted(self.values, values, side="left")
        last = np.searchsorted(self.values, values, side="right")
        pairs = zip(first.tolist(), last.tolist(), rows.tolist(), strict=True)
        return np.array([low + int(np.searchsorted(self.rows[low:high], row)) for low, high, row in pairs])
