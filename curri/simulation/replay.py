"""Replay: strategies choose among the prompts of a recorded run, whose pass rates move as they did, whatever is picked.

So a replay shows how well a strategy finds groups with signal, what it pays for that in probes and thrown-away
rollouts, whom it never looks at, and how well it foretells pass rates; never what it does for learning.

Protocol:

* The curve of a prompt is a moving average over its visits (:meth:`curri.simulation.records.Records.curves`), stretched
  over the steps of the replay. It is taken for the truth.
* Every pick draws a fresh group from it. The recorded group is never handed back: the average has seen it, and so would
  the strategy.
* Whether a response is right depends on (seed, step, prompt, its number) alone: all strategies have the same luck.
* A round is played as in :mod:`curri.simulation.gain`: probes, top-ups and refills are generated, told and counted.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidInput, InvalidParameter
from curri.registry import BUILT_IN, strategy
from curri.simulation.bound import top_tenth
from curri.simulation.gain import Claim, Player, Scene
from curri.simulation.learner import SimulatedLearner, luck
from curri.simulation.parallel import in_parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike

    from curri.curricula.base import Curriculum
    from curri.simulation.records import Curves
    from curri.types import Floats, Ints, Rollouts, Selection

__all__ = [
    "DEFAULT_SEEDS",
    "Entry",
    "RecordedPolicy",
    "Replayed",
    "completed",
    "fitting",
    "heeds_prior",
    "play_all",
    "play_one",
    "reason_against",
]

DEFAULT_SEEDS = 10
_ASKED_SHARE = 0.25
"""Of the picks, so many are asked for what they are foretold: `explain` takes longer than the pick."""
_QUARTER = 4
_HEEDED = 10


class RecordedPolicy(SimulatedLearner):
    """A policy whose pass rates were recorded: they move from step to step, whatever it is trained on.

    Args:
        curves: its pass rates.
        seed: of the luck.

    >>> from curri.simulation.records import Curves
    >>> curves = Curves(np.array([3, 7]), np.array(["a", "a"]), np.array([[0.0, 1.0], [1.0, 0.0]]))
    >>> policy = RecordedPolicy(curves)
    >>> policy.answer([3, 7], 2, round=0).rewards.tolist()
    [0.0, 0.0, 1.0, 1.0]
    >>> policy.learn([3, 3], [0.0, 0.0])
    >>> policy.answer([3, 7], 2, round=1).rewards.tolist()
    [1.0, 1.0, 0.0, 0.0]
    """

    def __init__(self, curves: Curves, *, seed: int = 0) -> None:
        self.step = 0
        self._rates = curves.rates
        super().__init__(curves.ids, curves.arms, np.zeros(curves.ids.size), seed=seed)

    def pass_rate(self, prompt_ids: ArrayLike | None = None) -> Floats:
        """The pass rates of this step; those of the last one after the end."""
        rates = self._rates[min(self.step, self._rates.shape[0] - 1)]
        return np.asarray(rates if prompt_ids is None else rates[self._pool.rows(prompt_ids)])

    def learn(self, prompt_ids: ArrayLike, rewards: ArrayLike) -> None:
        """Go to the next step."""
        self.step += 1


@dataclass(frozen=True)
class Entry:
    """A strategy with its parameters.

    Attributes:
        strategy: registered name.
        parameters: other than the defaults.
        with_prior: whether it is told the pass rates of another model.
    """

    strategy: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    with_prior: bool = False

    @property
    def label(self) -> str:
        """How it is named in tables."""
        return f"{self.strategy} + prior" if self.with_prior else self.strategy


@dataclass(frozen=True, eq=False)
class Replayed:
    """One run.

    Attributes:
        entry: what was played.
        seed: of luck and picks.
        groups: trained on at every step, shape (_T,).
        live: how many of them had both right and wrong answers, shape (_T,).
        rollouts: generated at every step, probes included, shape (_T,).
        probed: how many of all rollouts were probes.
        visits: picks of each prompt for training, shape (_P,).
        first: whether the first group of each prompt was live, in the order of meeting them.
        squared_error: mean of (foretold − true pass rate)² over picks that were not the first of their prompt; NaN
            where the strategy foretells nothing.
    """

    entry: Entry
    seed: int
    groups: Ints
    live: Ints
    rollouts: Ints
    probed: int
    visits: Ints
    first: Ints
    squared_error: float

    def figures(self, group_size: int) -> dict[str, float]:
        """Shares and counts of the whole run: what is averaged over seeds."""
        met, prompts = self.first.size, self.visits.size
        most = np.sort(self.visits)[::-1]
        quarter = self.first[: max(1, prompts // _QUARTER)]
        generated = int(self.rollouts.sum())
        return {
            "live": float(self.live.sum() * group_size / max(generated, 1)),
            "trained_live": float(self.live.sum() / max(int(self.groups.sum()), 1)),
            "groups": float(self.groups.sum()),
            "rollouts": float(generated),
            "probed": self.probed / max(generated, 1),
            "top": float(most[: top_tenth(prompts)].sum() / max(int(most.sum()), 1)),
            "below_3": float((self.visits < 3).sum()),
            "least_visits": float(self.visits.min()),
            "excess": self.squared_error,
            "first": float(self.first.mean()) if met else float("nan"),
            "first_quarter": float(quarter.mean()) if met else float("nan"),
        }


# --- one run ----------------------------------------------------------------------------------------------------------


class _Replay(Player):
    """One run over recorded curves, of as many rounds as they have steps."""

    def __init__(self, curves: Curves, entry: Entry, *, batch: int, group_size: int, seed: int) -> None:
        pool = curves.pool(with_prior=entry.with_prior)
        policy = RecordedPolicy(curves, seed=seed)
        claim = Claim(
            strategy=entry.strategy,
            scene=lambda _: Scene(pool, policy),
            pool="",
            why="",
            budget=0,
            batch=batch,
            group_size=group_size,
        )
        super().__init__(claim, strategy(entry.strategy), completed(entry), seed, seed)
        self.entry, self.seed = entry, seed
        self._steps = curves.steps
        self._visits = np.zeros(len(pool), dtype=np.int64)
        self._first: list[int] = []
        self._errors: list[float] = []
        self._foretells = True

    def replay(self) -> Replayed:
        counted = np.zeros((self._steps, 3), dtype=np.int64)
        before = np.zeros(3, dtype=np.int64)
        for step in range(self._steps):
            self._probe()
            self._train()
            now = np.array([self.groups, self.live, self.generated])
            counted[step], before = now - before, now
        return Replayed(
            entry=self.entry,
            seed=self.seed,
            groups=counted[:, 0],
            live=counted[:, 1],
            rollouts=counted[:, 2],
            probed=self.probed,
            visits=self._visits,
            first=np.array(self._first, dtype=np.int64),
            squared_error=float(np.mean(self._errors)) if self._errors else float("nan"),
        )

    def _rate(self) -> float:
        return 0.0  # nobody learns

    def _generate(self, selection: Selection, round_: int) -> Rollouts:
        if selection.kind != "train":
            return super()._generate(selection, round_)
        rows = self.curriculum.pool.rows(selection.prompt_ids)
        again = np.array([int(i) in self._given for i in selection.prompt_ids.tolist()], dtype=np.bool_)
        self._ask(selection.prompt_ids[~again], rows[~again], round_)
        told = super()._generate(selection, round_)
        self._note_first(told, selection.prompt_ids[~again], rows[~again])
        self._visits[rows[~again]] += 1
        return told

    def _ask(self, ids: Ints, rows: Ints, round_: int) -> None:
        """What the strategy foretells of some of the picks that it has met before, against the truth."""
        if not self._foretells:
            return
        chosen = (self._visits[rows] > 0) & (luck(ids, np.zeros(ids.size), round=round_, seed=-1) < _ASKED_SHARE)
        truth = self.learner.pass_rate(ids[chosen])
        for prompt_id, true in zip(ids[chosen].tolist(), truth.tolist(), strict=True):
            found = self.curriculum.explain(prompt_id)
            if "pass_rate" not in found:
                self._foretells = False
                return
            if found["pass_rate"] is not None:
                self._errors.append((float(found["pass_rate"]) - true) ** 2)

    def _note_first(self, told: Rollouts, ids: Ints, rows: Ints) -> None:
        new = ids[self._visits[rows] == 0]
        if new.size:
            place = np.searchsorted(np.sort(new), told.prompt_ids)
            place[place == new.size] = 0
            mine = np.sort(new)[place] == told.prompt_ids
            right = np.bincount(place[mine], told.rewards[mine], new.size)
            n = np.bincount(place[mine], minlength=new.size)
            self._first += ((right > 0) & (right < n)).astype(np.int64).tolist()


def completed(entry: Entry) -> dict[str, Any]:
    """The parameters, with those that a simulation has no choice about: its responses have no texts."""
    asked = dict(entry.parameters)
    if "responses" in strategy(entry.strategy).tags:
        asked.setdefault("diversity", "none")
    return asked


def play_one(curves: Curves, entry: Entry, *, batch: int = 64, group_size: int = 8, seed: int = 0) -> Replayed:
    """Replay one strategy.

    Args:
        curves: the truth.
        entry: the strategy.
        batch: prompts of a step, in [1, _P].
        group_size: rollouts of a prompt.
        seed: of luck and picks, ≥ 0.

    Raises:
        InvalidInput: the strategy cannot be replayed, or there are fewer prompts than a batch.
        UnknownName: there is no such strategy.

    Example:
        >>> from curri.simulation.records import Curves
        >>> rates = np.tile([0.5, 0.5, 0.0, 1.0], (50, 1))
        >>> entry = Entry("frontier", {"picking": "best"})
        >>> run = play_one(Curves(np.arange(4), np.full(4, "a"), rates), entry, batch=2)
        >>> run.figures(8)["live"] > 0.8
        True

    """
    _check(curves, batch, group_size)
    why = reason_against(entry.strategy)
    if why:
        raise InvalidInput(f"{entry.strategy} cannot be replayed: it {why}")
    return _Replay(curves, entry, batch=batch, group_size=group_size, seed=seed).replay()


def _check(curves: Curves, batch: int, group_size: int) -> None:
    if not 1 <= batch <= curves.ids.size:
        raise InvalidInput(
            f"a batch of {batch:,} distinct prompts cannot be picked from {curves.ids.size:,}",
            hint="--batch takes fewer",
        )
    if group_size < 2:
        raise InvalidParameter(f"a group needs at least 2 rollouts to carry signal; got {group_size}")


def reason_against(name: str) -> str:
    """Why a strategy cannot be replayed, as the end of a sentence about it; "" where it can.

    Raises:
        UnknownName: there is no such strategy.

    >>> reason_against("pcl"), reason_against("ucb")
    ('reads the texts of prompts, and records hold none', '')
    """
    found: type[Curriculum] = strategy(name)
    if "texts" in found.tags:
        return "reads the texts of prompts, and records hold none"
    if hasattr(found, "parents"):
        return "chooses which prompts a creator evolves, and records hold no evolved ones"
    if name == "modomodo":
        return "needs mixture weights from proxy runs; without them it draws in proportion to size, as uniform does"
    return ""


def heeds_prior(curves: Curves, name: str, *, batch: int = 64, group_size: int = 8, seed: int = 0) -> bool:
    """Whether pass rates of another model change what a strategy does in its first ten steps."""
    if curves.prior is None:
        return False
    start = dataclasses.replace(curves, rates=curves.rates[:_HEEDED])
    runs = [
        play_one(start, Entry(name, with_prior=told), batch=batch, group_size=group_size, seed=seed)
        for told in (False, True)
    ]
    return not np.array_equal(runs[0].visits, runs[1].visits)


def fitting(names: Sequence[str] | None = None) -> tuple[list[str], dict[str, str]]:
    """The strategies that can be replayed, and name → why not of the others.

    Args:
        names: to choose from; all built-in ones if None.

    Raises:
        UnknownName: there is no such strategy.
    """
    reasons = {name: reason_against(name) for name in (BUILT_IN if names is None else names)}
    return [name for name, why in reasons.items() if not why], {name: why for name, why in reasons.items() if why}


# --- many runs --------------------------------------------------------------------------------------------------------


def play_all(
    curves: Curves,
    entries: Sequence[Entry],
    *,
    batch: int = 64,
    group_size: int = 8,
    seeds: Sequence[int] = tuple(range(DEFAULT_SEEDS)),
    jobs: int = 1,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> list[Replayed]:
    """Replay every strategy with every seed, in the order of both.

    Args:
        curves: the truth.
        entries: the strategies.
        batch: prompts of a step.
        group_size: rollouts of a prompt.
        seeds: distinct, ≥ 0; the same luck for all strategies.
        jobs: processes, ≥ 1; results do not depend on it.
        progress: called with runs done, runs in all, and the strategy that was played.

    Raises:
        InvalidInput, UnknownName: as :func:`play_one`.
    """
    _check(curves, batch, group_size)
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise InvalidParameter(f"`seeds` of `play_all` must be distinct ints >= 0; got {list(seeds)}")
    tasks = [(entry, seed) for entry in entries for seed in seeds]
    found: dict[int, Replayed] = {}
    for place, run in in_parallel(_play, tasks, shared=(curves, batch, group_size), jobs=jobs):
        found[place] = run
        progress(len(found), len(tasks), run.entry.label)
    return [found[place] for place in range(len(tasks))]


def _play(shared: tuple[Curves, int, int], entry: Entry, seed: int) -> Replayed:
    curves, batch, group_size = shared
    return play_one(curves, entry, batch=batch, group_size=group_size, seed=seed)
