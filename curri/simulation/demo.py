"""The demonstration behind ``curri demo``: a real store, real tasks, real strategies, and a simulated solver.

Reasoning-gym tasks of different difficulty go into a fresh store. Then the same loop runs twice, from the same start
and with the same seed: ask for a batch, let the solver answer, tell the outcomes, let the solver learn. Once ``ucb``
asks, once ``uniform``.

The solver is :class:`curri.simulation.SimulatedLearner`; no language model takes part, and nothing here says how one
would fare. Its settings were written down before any strategy but ``uniform`` had run, and stayed:

* Difficulty. An arm has a level (``ARMS``: a hand-made guess at what a small model finds easy or hard, one logit more
  for each further person of Knights and Knaves); a prompt adds normal noise of 1.5 logits (``SPREAD``). The levels have
  mean 1.4 and standard deviation 1.9, so that all prompts together look like the first visits of a recorded GRPO run of
  a 1.5B model: there 36 % of the groups of 8 were all wrong and 8 % all right, here 34 % and 7 %. Inside an arm,
  recorded scores on reasoning-gym tasks of mixed levels spread by about 2.5 logits; one level is taken to vary less.
* Discrimination 1 for every prompt: it only fixes the unit of the logit.
* Learning rate 0.004 logits for a unit of advantage mass (``LEARNING_RATE``): under ``uniform`` an average prompt then
  becomes about one logit easier (1.15) in the demo's 40 rounds, much as in the 500 steps of that recorded run. So the
  40 rounds stand for a whole training run.
* Transfer 0.1 (``TRANSFER``): a task gets a tenth of what each other task teaches. A guess; nothing was measured.
* Room 3 logits (``ROOM``): no skill can grow further above its start, and growth slows towards that. A guess as well;
  it keeps one skill from being trained for ever.
* No guessing and no slips: the tasks have free-form answers.

A skill is a task, so all levels of Knights and Knaves share one ability.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidInput, InvalidParameter
from curri.exchange import ingest_gym
from curri.scheduler import Scheduler
from curri.simulation.demo_table import PHASES, ArmRow, DemoResult, StrategyRow
from curri.simulation.learner import SimulatedLearner, normal_noise
from curri.store import open_store

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from curri.pool import PromptPool
    from curri.store import PromptStore
    from curri.types import Floats, Ints

__all__ = ["ARMS", "DemoArm", "DemoProgress", "run_demo"]

STRATEGIES = ("ucb", "uniform")
GROUP_SIZE = 8
SPREAD = 1.5
LEARNING_RATE = 0.004
TRANSFER = 0.1
ROOM = 3.0

_LATELY = 5


@dataclass(frozen=True, slots=True)
class DemoArm:
    """One arm of the demonstration.

    Attributes:
        task: name of the reasoning-gym task; the solver's skill.
        level: what tells it from other arms of the task, in short; "" for the only one.
        parameters: of the task, as in ``gym:TASK?parameters``.
        difficulty: mean difficulty of its prompts, logits; at 0 the solver starts with one half.

    >>> DemoArm("knights_knaves", "people=2", "n_people=2", 0.0).name
    'knights_knaves(people=2)'
    """

    task: str
    level: str
    parameters: str
    difficulty: float

    @property
    def name(self) -> str:
        """The arm in the store, such as "knights_knaves(people=2)"."""
        return f"{self.task}({self.level})" if self.level else self.task


ARMS: tuple[DemoArm, ...] = (
    *(DemoArm("knights_knaves", f"people={n}", f"n_people={n}", n - 2.0) for n in range(2, 8)),
    DemoArm("chain_sum", "digits=1", "min_digits=1&max_digits=1", -2.0),
    DemoArm("chain_sum", "digits=3", "min_digits=3&max_digits=3", -0.5),
    DemoArm("chain_sum", "digits=5", "min_digits=5&max_digits=5", 1.0),
    DemoArm("spell_backward", "letters=3-4", "min_word_len=3&max_word_len=4", -0.5),
    DemoArm("spell_backward", "letters=6-7", "min_word_len=6&max_word_len=7", 1.5),
    DemoArm("spell_backward", "letters=9-10", "min_word_len=9&max_word_len=10", 3.5),
    DemoArm("number_sorting", "numbers=4", "min_numbers=4&max_numbers=4", 0.0),
    DemoArm("number_sorting", "numbers=10", "min_numbers=10&max_numbers=10", 3.0),
    DemoArm("gcd", "", "", -1.0),
    DemoArm("prime_factorization", "", "", 2.5),
)
"""16 arms of 6 tasks."""


@dataclass(frozen=True, slots=True)
class DemoProgress:
    """How far a demonstration is.

    Attributes:
        stage: "ingest", or the name of the strategy that runs.
        done: arms ingested, or rounds closed.
        total: of how many.
        signal: share of groups with signal in the last five rounds, in [0, 1]; NaN while ingesting.
    """

    stage: str
    done: int
    total: int
    signal: float = float("nan")


def run_demo(
    folder: str | os.PathLike[str],
    *,
    rounds: int = 40,
    batch: int = 64,
    seed: int = 0,
    size: int = 125,
    arms: Sequence[DemoArm] = ARMS,
    progress: Callable[[DemoProgress], None] | None = None,
    echo: Callable[[str], None] | None = None,
) -> DemoResult:
    """Make a demo store in ``folder``, run ``ucb`` and ``uniform`` on it, and compare them.

    Args:
        folder: made if missing. A demo store that is there is replaced; any other store is left alone.
        rounds: rounds of each run, ≥ 3.
        batch: prompts a round, ≥ 1.
        seed: of noise, luck and strategies, ≥ 0.
        size: prompts generated for each arm, ≥ 1; repeated ones are left out.
        arms: what to ingest.
        progress: called after every arm and round.
        echo: called with what a user should know, such as that a store is replaced.

    Returns:
        the table.

    Raises:
        InvalidInput: there is a store that no demo made.
        InvalidParameter: an argument is out of range.
        MissingExtra: reasoning-gym is not installed.
        StoreLocked: another process uses the demo store.
        PoolExhausted: fewer prompts than a batch.
    """
    _at_least(len(PHASES), rounds=rounds)
    _at_least(1, batch=batch, size=size)
    _at_least(0, seed=seed)
    report = progress or (lambda _: None)
    path = Path(folder) / "curri.duckdb"
    _make_room(path, echo or (lambda _: None))
    with open_store(path, create=True) as store:
        store.connection.execute("insert into meta values ('demo', 'true')")
        difficulty = _ingest(store, arms, size, report)
        pool = store.pool()
        runs = [_Run(strategy, rounds, batch, seed, report).play(store, pool, difficulty) for strategy in STRATEGIES]
    return _result(path, pool, runs, batch, seed)


def _at_least(low: int, **values: int) -> None:
    for name, value in values.items():
        if value < low:
            raise InvalidParameter(f"`{name}` of the demo must be an int in [{low}, inf); got {value}")


def _make_room(path: Path, echo: Callable[[str], None]) -> None:
    """Remove an earlier demo store, and nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return
    with open_store(path) as store:
        is_demo = store.connection.value("select value from meta where key = 'demo'") is not None
    if not is_demo or store.is_open:
        why = "is in use by this process" if is_demo else "was not made by the demo"
        raise InvalidInput(f"the store {path} {why}; it is left alone", hint="name another folder: --folder NAME")
    echo(f"replacing the demo store {path}")
    path.unlink()
    path.with_name(path.name + ".wal").unlink(missing_ok=True)
    shutil.rmtree(path.with_name(path.name + ".texts"), ignore_errors=True)


def _ingest(
    store: PromptStore, arms: Sequence[DemoArm], size: int, report: Callable[[DemoProgress], None]
) -> dict[int, tuple[str, float]]:
    """Ingest the arms; gives prompt id → (skill, mean difficulty of its arm)."""
    known: dict[int, tuple[str, float]] = {}
    for done, arm in enumerate(arms, start=1):
        parameters = f"{arm.parameters}&size={size}".removeprefix("&")
        ingest_gym(store, f"gym:{arm.task}?{parameters}", arm=arm.name)
        for prompt_id in store.pool().ids.tolist():
            known.setdefault(prompt_id, (arm.task, arm.difficulty))
        report(DemoProgress("ingest", done, len(arms)))
    return known


@dataclass(frozen=True, slots=True)
class _Record:
    """What a run leaves: picks per round and arm, groups with signal per round, true pass rates per prompt."""

    strategy: str
    run: str
    picks: Ints
    live: Ints
    rollouts: int
    start: Floats
    end: Floats


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of the loop."""

    strategy: str
    rounds: int
    batch: int
    seed: int
    report: Callable[[DemoProgress], None]

    def play(self, store: PromptStore, pool: PromptPool, difficulty: dict[int, tuple[str, float]]) -> _Record:
        learner = _learner(pool, difficulty, self.seed)
        scheduler = Scheduler(store, self.strategy, run=f"demo-{self.strategy}", seed=self.seed, group_size=GROUP_SIZE)
        start = learner.pass_rate()
        picks = np.zeros((self.rounds, len(pool.arm_names)), dtype=np.int64)
        live = np.zeros(self.rounds, dtype=np.int64)
        rollouts = 0
        for number in range(self.rounds):
            selection = scheduler.ask(self.batch)
            told = learner.answer(selection.prompt_ids, selection.n_rollouts, round=selection.ticket.round)
            scheduler.tell(told.prompt_ids, told.rewards)
            learner.learn(told.prompt_ids, told.rewards)
            picks[number] = np.bincount(pool.arms[pool.rows(selection.prompt_ids)], minlength=picks.shape[1])
            live[number] = _groups_with_signal(told.prompt_ids, told.rewards)
            rollouts += len(told)
            self._tell_how_far(number, picks, live)
        scheduler.close()
        return _Record(self.strategy, scheduler.run.name, picks, live, rollouts, start, learner.pass_rate())

    def _tell_how_far(self, number: int, picks: Ints, live: Ints) -> None:
        lately = slice(max(0, number + 1 - _LATELY), number + 1)
        signal = float(live[lately].sum() / picks[lately].sum())
        self.report(DemoProgress(self.strategy, number + 1, self.rounds, signal))


def _learner(pool: PromptPool, difficulty: dict[int, tuple[str, float]], seed: int) -> SimulatedLearner:
    skills, levels = zip(*(difficulty[prompt_id] for prompt_id in pool.ids.tolist()), strict=True)
    return SimulatedLearner(
        pool.ids,
        skills,
        np.array(levels) + SPREAD * normal_noise(pool.ids, seed=seed),
        learning_rate=LEARNING_RATE,
        transfer=TRANSFER,
        room=ROOM,
        seed=seed,
    )


def _groups_with_signal(prompt_ids: Ints, rewards: Floats) -> int:
    """How many prompts have rewards that are not all equal."""
    _, first, group = np.unique(prompt_ids, return_index=True, return_inverse=True)
    return int(np.unique(group[rewards != rewards[first][group]]).size)


def _result(path: Path, pool: PromptPool, runs: Sequence[_Record], batch: int, seed: int) -> DemoResult:
    ucb, uniform = runs
    start = _by_arm(pool, ucb.start)
    ends = {record.strategy: _by_arm(pool, record.end) for record in runs}
    shares = {record.strategy: _shares(record.picks) for record in runs}
    rows = [
        ArmRow(
            arm=name,
            prompts=int(pool.arm_sizes[code]),
            start=float(start[code]),
            ucb_share=dict(zip(PHASES, shares[ucb.strategy][:, code].tolist(), strict=True)),
            uniform_share=dict(zip(PHASES, shares[uniform.strategy][:, code].tolist(), strict=True)),
            end={strategy: float(end[code]) for strategy, end in ends.items()},
        )
        for code, name in enumerate(pool.arm_names)
    ]
    return DemoResult(
        store=str(path),
        rounds=int(ucb.live.size),
        batch=batch,
        seed=seed,
        prompts=len(pool),
        start=float(ucb.start.mean()),
        arms=tuple(sorted(rows, key=lambda row: -row.start)),
        strategies=tuple(_strategy_row(record) for record in runs),
    )


def _strategy_row(record: _Record) -> StrategyRow:
    groups = record.picks.sum(axis=1)
    phases = zip(PHASES, np.array_split(record.live, 3), np.array_split(groups, 3), strict=True)
    signal = {phase: float(live.sum() / all_.sum()) for phase, live, all_ in phases}
    return StrategyRow(
        strategy=record.strategy,
        run=record.run,
        signal={**signal, "whole": float(record.live.sum() / groups.sum())},
        groups=int(groups.sum()),
        groups_with_signal=int(record.live.sum()),
        rollouts=record.rollouts,
        end=float(record.end.mean()),
    )


def _by_arm(pool: PromptPool, values: Floats) -> Floats:
    return np.bincount(pool.arms, values, minlength=len(pool.arm_names)) / np.bincount(pool.arms)


def _shares(picks: Ints) -> Floats:
    """Share of each arm in each phase, shape (3, _A)."""
    parts = [part.sum(axis=0) for part in np.array_split(picks, len(PHASES))]
    return np.stack([part / part.sum() for part in parts])
