"""What a strategy gains over ``uniform`` on a simulated learner, for an equal number of generated rollouts.

A :class:`Claim` says on what kind of pool a strategy should learn faster; :func:`measure` plays it and ``uniform`` with
the same learners, pools and luck, and gives the paired difference with its interval. The learner is a simulation whose
only way to learn is the advantage that groups carry (see :mod:`curri.simulation.learner`): a gain here says that a
strategy finds what it looks for and pays for what it generates, and nothing about real models.

How a round is played:

* ``ask`` for a batch; every rollout of the selection is generated, told and counted.
* A strategy tagged "rounds" is asked for top-ups until it wants none; they are generated, told and counted too.
* A strategy tagged "admits" judges the groups. What it drops was generated and is counted, but is not trained on; for a
  "more" the extra rollouts are generated and the group is judged again. One with a ``planner`` asks as often as that
  wants to fill the batch, and trains on the groups that it names, those carried over from the step before included.
* A strategy with ``group_of`` trains on the responses that it names, which are one group, however many were drawn.
* A strategy tagged "probes" has as many prompts scored before a round as its ``probes_due`` says. Probe rollouts are
  counted, and never trained on.
* Where the scene has a ``creator``, the strategy's choice of parents is evolved. Writing a prompt costs no rollouts.
* The learner trains on the kept groups, one a prompt, and the round closes.

Learning is the increase of the mean true pass rate over the judged prompts. It is read off at exactly ``budget``
rollouts, by a straight line through the round in which the budget ran out, so that no strategy is given more than
another.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidParameter
from curri.registry import strategy
from curri.types import Rollouts, Selection, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from curri.curricula.base import Curriculum
    from curri.pool import PromptPool
    from curri.selectors import RefillPlanner
    from curri.simulation.learner import SimulatedLearner
    from curri.types import Floats, Ints

__all__ = ["Claim", "Course", "Creator", "Gain", "Player", "Scene", "measure", "play", "student_interval"]

CONTROL = "uniform"
_PROBES = 1 << 40
"""Probe rounds are numbered from here, so that their luck is not that of a training round."""
_SAMPLES = 1 << 20
"""A rollout is named by its round times this, plus its number within prompt and round."""
_MOST_PARTS = 100
"""Top-ups, or judgements, of one round before the strategy is taken to be stuck."""


@dataclass(frozen=True, kw_only=True)
class Creator:
    """Makes children of the prompts that a strategy with ``parents()`` names; other strategies never meet it.

    The j-th child of a parent is j · ``step`` logits harder than it, of its skill and arm, and one generation younger.

    Attributes:
        every: rounds between two creations, ≥ 1.
        step: logits.
        children: of each parent, ≥ 1.
    """

    every: int
    step: float
    children: int = 1


@dataclass(frozen=True, eq=False)
class Scene:
    """What one run starts from; made anew for every run, as the learner learns.

    Attributes:
        pool: the prompts to choose from.
        learner: who answers and learns; it has to know every prompt of the pool.
        judged: ids of the prompts whose mean true pass rate counts, shape (_J,); the pool at the start if None.
        creator: evolves the prompts that a strategy names as parents; None where nobody does.
    """

    pool: PromptPool
    learner: SimulatedLearner
    judged: Ints | None = None
    creator: Creator | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Claim:
    """A strategy, and a pool of the kind on which its paper says it helps.

    Attributes:
        strategy: registered name, or a class that is not registered.
        scene: gives a fresh scene for a seed; the same seed gives the same one.
        pool: the pool in words.
        why: why this pool, and where its settings come from.
        budget: generated rollouts of a run, of whatever kind.
        batch: prompts of a training round.
        group_size: rollouts of a prompt, for ``uniform`` too.
        parameters: of the strategy; or a function that gives them, where they take computing.
        holds: whether the gain over ``uniform`` is expected.
        reason: why not, where it is not.
        variant: what sets it apart from another claim of the same strategy, or "".
        needs: a module that the strategy cannot do without, or "".
        probes: whether a strategy tagged "probes" is given the probe rollouts that it wants.
    """

    strategy: str | type[Curriculum]
    scene: Callable[[int], Scene]
    pool: str
    why: str
    budget: int
    batch: int
    group_size: int = 8
    parameters: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(default_factory=dict)
    holds: bool = True
    reason: str = ""
    variant: str = ""
    needs: str = ""
    probes: bool = True

    @property
    def name(self) -> str:
        """The strategy's name, with the variant."""
        name = self.strategy if isinstance(self.strategy, str) else self.strategy.name
        return f"{name} ({self.variant})" if self.variant else name


@dataclass(frozen=True, eq=False)
class Course:
    """How one run went.

    Attributes:
        spent: rollouts generated up to the end of each step, from 0, strictly ascending, shape (_T,).
        rate: mean true pass rate of the judged prompts then, in [0, 1], shape (_T,).
        rounds: rollouts generated up to the end of each training round, ascending, shape (rounds,).
        probed: how many of the rollouts were probes.
        groups: groups trained on.
        live: how many of them had rewards that were not all equal.
    """

    spent: Ints
    rate: Floats
    rounds: Ints
    probed: int
    groups: int
    live: int

    def learned(self, rollouts: int) -> float:
        """Increase of the pass rate in the first ``rollouts`` rollouts.

        Raises:
            InvalidParameter: the run was shorter.

        >>> spent = np.array([0, 100, 200])
        >>> Course(spent, np.array([0.2, 0.3, 0.5]), spent[1:], probed=0, groups=20, live=10).learned(150)
        0.2
        """
        if not 0 < rollouts <= self.spent[-1]:
            length = int(self.spent[-1])
            raise InvalidParameter(f"`rollouts` must lie in (0, {length}], the length of the run; got {rollouts}")
        return float(np.interp(rollouts, self.spent, self.rate) - self.rate[0])


@dataclass(frozen=True, eq=False)
class Gain:
    """What a strategy gained over ``uniform``; learning is in points of pass rate (0.01) per 1,000 rollouts.

    Attributes:
        claim: what was played.
        seeds: of the runs, shape (_S,).
        uniform: learning under ``uniform``, shape (_S,).
        strategy: learning under the strategy, shape (_S,).
        signal_uniform: share of the trained groups that had signal, all seeds together.
        signal_strategy: the same under the strategy.
        probed: share of the strategy's rollouts that were probes.
        per_round: mean learning under the strategy : under ``uniform`` after equally many training rounds, whatever
            they cost; what papers that count training steps report.
    """

    claim: Claim
    seeds: Ints
    uniform: Floats
    strategy: Floats
    signal_uniform: float
    signal_strategy: float
    probed: float
    per_round: float

    @property
    def difference(self) -> float:
        """Mean of the paired differences, points per 1,000 rollouts."""
        return float(np.mean(self.strategy - self.uniform))

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean difference, by Student's t."""
        return student_interval(self.strategy - self.uniform)

    @property
    def ratio(self) -> float:
        """Mean learning under the strategy : under ``uniform``."""
        return float(np.mean(self.strategy) / np.mean(self.uniform))

    @property
    def is_above(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.interval[0] > 0.0

    @property
    def verdict(self) -> str:
        """Where the interval lies: "above", "below", or "around zero"."""
        low, high = self.interval
        return "above" if low > 0.0 else "below" if high < 0.0 else "around zero"


def measure(claim: Claim, seeds: Sequence[int]) -> Gain:
    """Play a claim's strategy and ``uniform`` once for each seed.

    Both meet the same pool, the same learner and the same luck; their picks have seeds of their own.

    Args:
        claim: what to play.
        seeds: at least two, distinct, ≥ 0.

    Raises:
        InvalidParameter: too few seeds, or a claim that cannot be played.
    """
    if len(set(seeds)) != len(seeds) or len(seeds) < 2:
        raise InvalidParameter(f"`seeds` of `measure` must be at least two distinct ints; got {list(seeds)}")
    parameters = dict(claim.parameters() if callable(claim.parameters) else claim.parameters)
    control = [_control(claim.scene, claim.budget, claim.batch, claim.group_size, seed) for seed in seeds]
    courses = [play(claim, claim.strategy, parameters, seed=seed, picks=2 * seed + 1) for seed in seeds]
    per_thousand = 100.0 * 1_000.0 / claim.budget
    return Gain(
        claim=claim,
        seeds=np.array(seeds, dtype=np.int64),
        uniform=np.array([course.learned(claim.budget) for course in control]) * per_thousand,
        strategy=np.array([course.learned(claim.budget) for course in courses]) * per_thousand,
        signal_uniform=_signal(control),
        signal_strategy=_signal(courses),
        probed=sum(course.probed for course in courses) / sum(int(course.spent[-1]) for course in courses),
        per_round=_per_round(courses, control),
    )


@lru_cache(maxsize=1024)
def _control(scene: Callable[[int], Scene], budget: int, batch: int, group_size: int, seed: int) -> Course:
    """The run of ``uniform``, played once for all claims with the same scene."""
    claim = Claim(strategy=CONTROL, scene=scene, pool="", why="", budget=budget, batch=batch, group_size=group_size)
    return play(claim, CONTROL, seed=seed, picks=2 * seed)


def _signal(courses: Sequence[Course]) -> float:
    return sum(course.live for course in courses) / max(1, sum(course.groups for course in courses))


def _per_round(courses: Sequence[Course], control: Sequence[Course]) -> float:
    learned = np.zeros(2)
    for pair in zip(courses, control, strict=True):
        rounds = min(course.rounds.size for course in pair)
        learned += [course.learned(int(course.rounds[rounds - 1])) for course in pair]
    return float(learned[0] / learned[1])


def student_interval(values: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a mean by Student's t.

    Args:
        values: shape (_S,), at least two.
        confidence: in (0, 1).

    Returns:
        lower and upper limit.

    Example:
        >>> low, high = student_interval(np.array([1.0, 2.0, 3.0, 4.0]))
        >>> round(low, 3), round(high, 3)
        (0.446, 4.554)

    """
    half = _student_quantile(values.size - 1, 0.5 + confidence / 2.0) * float(np.std(values, ddof=1)) / values.size**0.5
    mean = float(np.mean(values))
    return mean - half, mean + half


def _student_quantile(degrees: int, probability: float) -> float:
    """The t at which Student's distribution reaches a probability ≥ 0.5, by integrating its density."""
    angle = np.linspace(0.0, np.pi / 2, 20_001)  # t = sqrt(degrees) · tan(angle)
    density = np.cos(angle) ** (degrees - 1)
    area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(degrees**0.5 * np.tan(np.interp(probability, 0.5 + area / (2 * area[-1]), angle)))


def play(
    claim: Claim,
    which: str | type[Curriculum],
    parameters: Mapping[str, Any] | None = None,
    *,
    seed: int,
    picks: int | None = None,
) -> Course:
    """Play one strategy on a claim's scene until the budget is spent.

    Args:
        claim: scene, budget, batch and group size.
        which: registered name, or a class.
        parameters: of the strategy.
        seed: of the scene.
        picks: seed of the strategy; that of the scene if None.
    """
    built = strategy(which) if isinstance(which, str) else which
    return Player(claim, built, dict(parameters or {}), seed, seed if picks is None else picks).play()


class Player:
    """One run; :mod:`curri.simulation.replay` plays recorded curves with the same rounds."""

    def __init__(
        self, claim: Claim, which: type[Curriculum], parameters: dict[str, Any], seed: int, picks: int
    ) -> None:
        self.claim = claim
        self.scene = claim.scene(seed)
        self.learner = self.scene.learner
        self.curriculum = which(self.scene.pool, seed=picks, **{"group_size": claim.group_size, **parameters})
        self.judged = self.scene.pool.ids if self.scene.judged is None else self.scene.judged
        self.spent, self.rate = [0], [self._rate()]
        self.ended: list[int] = []
        self.generated = self.probed = self.groups = self.live = 0
        self.round = self.probe_rounds = 0
        self._carried = Rollouts([], [], rollout_ids=np.empty(0, dtype=np.int64))

    def play(self) -> Course:
        """Play until the budget is spent."""
        while self.generated < self.claim.budget:
            self._probe()
            self._train()
        spent, rate, ended = np.array(self.spent), np.array(self.rate), np.array(self.ended)
        return Course(spent, rate, ended, probed=self.probed, groups=self.groups, live=self.live)

    def _rate(self) -> float:
        return float(self.learner.pass_rate(self.judged).mean())

    def _note(self) -> None:
        if self.generated > self.spent[-1]:
            self.spent.append(self.generated)
            self.rate.append(self._rate())
        else:  # a round of groups that waited, without a new rollout
            self.rate[-1] = self._rate()

    # ---- one round ------------------------------------------------------------------------------------------------

    def _train(self) -> None:
        """Ask, generate and tell until the round is complete; learn from the kept groups; close it."""
        self._given: dict[int, int] = {}
        planner = getattr(self.curriculum, "planner", None)
        self._learn(self._asked_once() if planner is None else self._refilled(planner))
        self._note()
        self.ended.append(self.generated)
        self.curriculum.advance()
        self.round += 1
        self._evolve()

    def _asked_once(self) -> Rollouts:
        """One ask with what the strategy wants to see more of; gives what it keeps."""
        selection = self.curriculum.ask(self.claim.batch)
        told = [self._generate(selection, self.round)]
        if "rounds" in self.curriculum.tags:
            told += self._top_ups(selection.ticket)
        return self._admitted(told) if "admits" in self.curriculum.tags else _joined(told)

    def _refilled(self, planner: RefillPlanner) -> Rollouts:
        """As many asks as the strategy's planner wants for a full batch; gives the groups it says to train on."""
        told: list[Rollouts] = []
        pool = self.curriculum.pool
        plan = planner.start(self.claim.batch, available=pool.n_active)
        while plan.ask:
            asked = np.fromiter(self._given, dtype=np.int64)
            part = self._generate(self.curriculum.ask(plan.ask, exclude=asked), self.round)
            told.append(part)
            verdict = self.curriculum.admit(part)
            left = pool.n_active - len(self._given)
            plan = planner.add(verdict.prompt_ids, verdict.verdict == "keep", available=left)
            self._refuse_endless(len(told))
        batch = planner.finish()
        fresh = np.isin(self._carried.prompt_ids, np.fromiter(self._given, dtype=np.int64))
        whole = _joined([self._carried.take(~fresh), *told])
        self._carried = whole.take(np.isin(whole.prompt_ids, batch.carried))
        return whole.take(np.isin(whole.prompt_ids, batch.ids))

    def _generate(self, selection: Selection, round_: int) -> Rollouts:
        """The next rollouts of some prompts, named, told and counted."""
        ids, n = selection.prompt_ids, selection.n_rollouts
        first = np.array([self._given.get(prompt_id, 0) for prompt_id in ids.tolist()], dtype=np.int64)
        self._given.update(zip(ids.tolist(), (first + n).tolist(), strict=True))
        answers = self.learner.answer(ids, n, round=round_, first=first)
        numbers = np.arange(len(answers)) - np.repeat(np.cumsum(n) - n - first, n)
        told = dataclasses.replace(answers, rollout_ids=round_ * _SAMPLES + numbers, kind=selection.kind)
        self.curriculum.tell(told)
        self.generated += len(told)
        return told

    def _top_ups(self, ticket: Ticket) -> list[Rollouts]:
        told: list[Rollouts] = []
        while (more := self.curriculum.top_up(ticket)) is not None:
            told.append(self._generate(more, self.round))
            ticket = more.ticket
            self._refuse_endless(len(told))
        return told

    def _refuse_endless(self, parts: int) -> None:
        if parts > _MOST_PARTS:
            raise InvalidParameter(f"`{self.curriculum.name}` wants more than {_MOST_PARTS} parts in one round")

    def _admitted(self, told: list[Rollouts]) -> Rollouts:
        """What the strategy keeps, after the extra rollouts that it wants to see first."""
        while True:
            whole = _joined(told)
            verdict = self.curriculum.admit(whole)
            more = verdict.verdict == "more"
            if not more.any():
                return whole.take(np.isin(whole.prompt_ids, verdict.prompt_ids[verdict.verdict == "keep"]))
            told.append(self._generate(self._extra(verdict.prompt_ids[more], verdict.extra[more]), self.round))
            self._refuse_endless(len(told))

    def _learn(self, told: Rollouts) -> None:
        """Train on the groups; of a strategy that keeps only some responses of a group, on those."""
        group_of = getattr(self.curriculum, "group_of", None)
        kept = told
        if group_of is not None:
            order = np.lexsort((*_names([told]), told.prompt_ids))
            groups = group_of(told.take(order)).values()
            kept = told.take(order[np.concatenate([np.empty(0, dtype=np.int64), *(g.positions for g in groups)])])
        self.learner.learn(kept.prompt_ids, kept.rewards)
        ids, group = np.unique(kept.prompt_ids, return_inverse=True)
        right = np.bincount(group, kept.rewards, ids.size)
        self.groups += ids.size
        self.live += int(np.count_nonzero((right > 0) & (right < np.bincount(group, minlength=ids.size))))

    def _extra(self, prompt_ids: Ints, n: Ints) -> Selection:
        """More rollouts of prompts that were asked for."""
        nan = np.full(prompt_ids.size, np.nan)
        arms = self.curriculum.pool.arm_of(self.curriculum.pool.rows(prompt_ids))
        return Selection(prompt_ids, arms, n, nan, "train", Ticket("", self.round, 0))

    # ---- what some strategies want beside -------------------------------------------------------------------------

    def _probe(self) -> None:
        """Score prompts as long as the strategy wants it, a batch at a time, at most every prompt once."""
        left = self.curriculum.pool.n_active if self.claim.probes and "probes" in self.curriculum.tags else 0
        while left > 0 and (due := min(left, self._probes_due())):
            self._given = {}
            selection = self.curriculum.ask(min(due, self.claim.batch), kind="probe")
            told = self._generate(selection, _PROBES + self.probe_rounds)
            self.curriculum.advance()
            self.probed += len(told)
            self.probe_rounds += 1
            left -= len(selection)
            self._note()

    def _probes_due(self) -> int:
        if not hasattr(self.curriculum, "probes_due"):
            raise InvalidParameter(
                f'`{self.curriculum.name}` is tagged "probes" and has no `probes_due`, which says how many it wants',
                hint="add that property, or play it without probes: Claim(..., probes=False)",
            )
        return int(self.curriculum.probes_due)

    def _evolve(self) -> None:
        """Make children of the parents that the strategy names; they may be picked from the round after next on."""
        creator, parents_of = self.scene.creator, getattr(self.curriculum, "parents", None)
        if creator is None or parents_of is None or self.round % creator.every:
            return
        pool = self.curriculum.pool
        parents = pool.rows(np.sort(parents_of()))
        rows = np.repeat(parents, creator.children)
        if not rows.size:
            return
        harder = creator.step * np.tile(np.arange(1, creator.children + 1), parents.size)
        ids = int(pool.ids[-1]) + 1 + np.arange(rows.size)
        generation = np.zeros(len(pool), dtype=np.int64) if pool.generation is None else pool.generation
        skills = self.learner.skill_of(pool.ids[rows])
        self.learner.add(ids, skills, self.learner.difficulty(pool.ids[rows]) + harder)
        self.curriculum.extend(pool.extended(ids, pool.arm_of(rows), generation=generation[rows] + 1))


def _joined(parts: list[Rollouts]) -> Rollouts:
    """Rollouts of one round in one piece."""
    if len(parts) == 1:
        return parts[0]
    return Rollouts(
        np.concatenate([part.prompt_ids for part in parts]),
        np.concatenate([part.rewards for part in parts]),
        rollout_ids=np.concatenate(_names(parts)),
    )


def _names(parts: list[Rollouts]) -> list[NDArray[Any]]:
    return [part.rollout_ids for part in parts if part.rollout_ids is not None]
