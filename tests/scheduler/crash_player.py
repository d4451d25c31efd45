"""Plays rounds on a store and dies by SIGKILL at a chosen point; run as a script by ``test_crash.py``.

``python crash_player.py WHOLE BROKEN STRATEGY ROUNDS KILLS SEED [--moments]`` plays until all rounds are done, in the
folder WHOLE in one life, in BROKEN with deaths. Each life is a forked child of this (warm, store-less) process. A life
ends at a random statement sent to DuckDB, before or after it; with --moments at times at a random moment, wherever it
is then. Every pick is written to picks.jsonl before it is used.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curri import Rollouts, Scheduler, open_store
from curri.evolution import evolve
from curri.registry import strategy as strategy_class
from curri.scheduler import core
from curri.selectors import stable_hash
from curri.state import pack
from curri.store.connection import Connection
from curri.types import Evolved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from curri.types import Floats, Ints, Prompt, Selection, Ticket

BATCH, GROUP = 6, 4

PARAMETERS: dict[str, dict[str, Any]] = {
    "reinforce-ada": {"group_size": 2, "round_size": 2, "max_rounds": 3, "budget": 2.0},
    "vas": {"probe_rollouts": GROUP, "refresh": 3},
    "eva": {"schedule": "online", "warmup": 2, "mixup": 4},
    "pcl": {"hashed": 64, "hidden": 8, "replay": 24, "warm_up": 2, "passes": 2},
    "modomodo": {"weights": {"arm0": 0.5, "arm1": 0.3, "arm2": 0.2}},
    "dapo": {"confidence": 0.3},
    "greso": {"confidence": 0.3},
}


class Trainer:
    """A scheduler, what is generated for its prompts, and the log of what it handed out."""

    def __init__(self, scheduler: Scheduler, log: BinaryIO) -> None:
        self.scheduler = scheduler
        self._log = log

    def ask(self, n: int = BATCH, **how: Any) -> Selection:
        return self._logged(self.scheduler.ask(n, **how))

    def top_up(self, ticket: Ticket) -> Selection | None:
        selection = self.scheduler.top_up(ticket)
        return selection and self._logged(selection)

    def _logged(self, selection: Selection) -> Selection:
        line = {
            "round": selection.ticket.round,
            "part": selection.ticket.part,
            "ids": selection.prompt_ids.tolist(),
            "n_rollouts": selection.n_rollouts.tolist(),
            "kind": selection.kind,
            "again": selection.reissued,
        }
        self._log.write(json.dumps(line).encode() + b"\n")
        return selection

    def tell(self, selection: Selection, each: Ints | None = None, **how: Any) -> None:
        """What was generated, half of the prompts at a time."""
        each = selection.n_rollouts if each is None else each
        for half in np.array_split(np.arange(len(selection)), 2):
            if half.size:
                part = generated(selection.take(np.isin(np.arange(len(selection)), half)), each[half])
                self.scheduler.tell(part.pop("prompt_ids"), part.pop("rewards"), **part, **how)


def generated(selection: Selection, each: Ints) -> dict[str, Any]:
    """Outcomes that depend on nothing but prompt, round, part and sample, with the columns of ``tell``."""
    ids, sample = np.repeat(selection.prompt_ids, each), np.concatenate([np.arange(k) for k in each])
    sample = sample + 100 * selection.ticket.part
    luck = rewards(ids, sample, selection.ticket.round)
    texts = [f"{' '.join('abc'[(i + k) % 3] for i in range(6))} so {i % 5}" for i, k in zip(ids, sample, strict=True)]
    names = [f"{selection.ticket.round}-{k}" for k in sample.tolist()]
    return {"prompt_ids": ids, "rewards": luck, "responses": texts, "rollout_ids": names}


def rewards(ids: Ints, sample: Ints, number: int) -> Floats:
    """0/1 outcomes."""
    luck = stable_hash(ids * 1000 + sample, number)
    return (luck % np.uint64(7) < ids.astype(np.uint64) % np.uint64(8)).astype(np.float64)


# ---- ways to train ---------------------------------------------------------------------------------------------------


def in_halves(trainer: Trainer, rounds: int) -> None:
    """Ask and tell, half a round at a time, without names, until all rounds are closed."""
    scheduler = trainer.scheduler
    while scheduler.round < rounds:
        selection = trainer.ask()
        ids = selection.prompt_ids
        for half in (ids[: BATCH // 2], ids[BATCH // 2 :]):
            if half.size:
                long = np.repeat(half, GROUP)
                sample = np.tile(np.arange(GROUP), half.size)
                scheduler.tell(long, rewards(long, sample, selection.ticket.round))


def topped_up(trainer: Trainer, rounds: int) -> None:
    """Rounds of several parts, settled at their end, half of them dropped."""
    scheduler = trainer.scheduler
    while scheduler.round < rounds:
        first = trainer.ask()
        part: Selection | None = first
        while part is not None:
            trainer.tell(part, resolve=None)
            part = trainer.top_up(first.ticket)
        for event, odd in (("trained", 0), ("dropped", 1)):
            mine = first.prompt_ids[first.prompt_ids % 2 == odd]
            if mine.size:
                scheduler.resolve(mine, event, reason="odd" if odd else None)  # type: ignore[arg-type]


def probing(trainer: Trainer, rounds: int) -> None:
    """Every third round is one of probes, some of which are lost."""
    scheduler = trainer.scheduler
    while scheduler.round < rounds:
        selection = trainer.ask(kind="train" if scheduler.round % 3 else "probe")
        probes = selection.kind == "probe"
        lost = probes & (selection.prompt_ids % 7 == 0)
        if lost.any():
            scheduler.resolve(selection.prompt_ids[lost], "lost", reason="failed")
        trainer.tell(selection.take(~lost), resolve="observed" if probes else "trained")


class OneMore:
    """Makes children by adding a term."""

    name = "one-more"

    def create(self, parents: Sequence[Prompt], n: int, seeds: Sequence[int]) -> list[list[Evolved]]:
        return [
            [Evolved(f"{seed % 97 + k} + {parent.prompt}", str(seed % 97 + k), "one more term") for k in range(n)]
            for parent, seed in zip(parents, seeds, strict=True)
        ]


def evolving(trainer: Trainer, rounds: int) -> None:
    """After every third round children are made of the parents that the strategy names."""
    scheduler = trainer.scheduler
    while scheduler.round < rounds:
        number, curriculum = scheduler.round, scheduler.curriculum
        if number and number % 3 == 0 and number == curriculum.rounds_asked:
            evolve(scheduler.store, OneMore(), curriculum.parents(4), per_parent=2, chunk=2, seed=number)  # type: ignore[attr-defined]
        selection = trainer.ask()
        trainer.tell(selection, np.full(len(selection), GROUP))


def refilling(trainer: Trainer, rounds: int) -> None:
    """Steps of live groups by the strategy's planner.

    What the planner is told is saved with the next write of the scheduler. So the prompts it asks for are asked for,
    and a step is finished, before the groups it was told of are settled: a death in between brings them again, and
    telling the planner of them twice changes nothing.
    """
    scheduler, planner = trainer.scheduler, trainer.scheduler.curriculum.planner  # type: ignore[attr-defined]
    following: Selection | None = None
    while scheduler.round < rounds or planner.is_open:
        nothing_open = scheduler.round == scheduler.curriculum.rounds_asked
        selection = following or trainer.ask(planner.start(4).ask if nothing_open else 1)
        trainer.tell(selection, np.full(len(selection), GROUP), resolve=None)
        mine = generated(selection, np.full(len(selection), GROUP))
        admission = scheduler.admit(Rollouts(mine["prompt_ids"], mine["rewards"]))
        keep, following = admission.verdict == "keep", None
        if planner.is_open:
            plan = planner.add(admission.prompt_ids, keep)
            if plan.ask:
                following = trainer.ask(plan.ask, reissue=False)
            elif plan.reason != "waiting":
                planner.finish()
        for event, groups in (("trained", keep), ("dropped", ~keep)):
            if groups.any():
                scheduler.resolve(admission.prompt_ids[groups], event, reason="dead")  # type: ignore[arg-type]


WAYS: dict[str, Callable[[Trainer, int], None]] = {
    "reinforce-ada": topped_up,
    "vas": probing,
    "eva": evolving,
    "dapo": refilling,
    "greso": refilling,
}


def play(folder: Path, strategy: str, rounds: int) -> None:
    """Train until all rounds are closed, with a whole snapshot of the state now and then."""
    core.SNAPSHOT_FLOOR = 20_000
    with open_store(folder / "prompts.duckdb") as store, (folder / "picks.jsonl").open("ab", buffering=0) as log:
        scheduler = Scheduler(store, strategy, run="r", seed=1, **PARAMETERS.get(strategy, {}))
        WAYS.get(strategy, in_halves)(Trainer(scheduler, log), rounds)
        scheduler.close()
        (folder / "state.bin").write_bytes(pack(scheduler.curriculum.state_dict()))


# ---- ways to die -----------------------------------------------------------------------------------------------------


def die() -> None:
    """As by the kernel's out-of-memory killer: at once, with nothing tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm_at_statement(countdown: int, before: bool) -> None:
    """Die at the ``countdown``-th statement from now."""
    left = [countdown]
    for name in ("execute", "insert", "_commit"):
        original = getattr(Connection, name)

        def counted(self: Connection, *arguments: Any, _original: Any = original) -> Any:
            left[0] -= 1
            if left[0] == 0 and before:
                die()
            result = _original(self, *arguments)
            if left[0] == 0:
                die()
            return result

        setattr(Connection, name, counted)


def arm_at_moment(seconds: float) -> None:
    """Die after some time; the default action of SIGALRM needs no Python, so it strikes inside DuckDB too."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    """Live; live, die, live again."""
    whole, broken, strategy = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    rounds, kills, seed = map(int, sys.argv[4:7])
    strategy_class(strategy)
    if strategy == "pcl":
        import torch  # noqa: F401  once, not in each life
    lives(whole, strategy, rounds, kills=0, seed=0, moments=False)
    died = lives(broken, strategy, rounds, kills=kills, seed=seed, moments="--moments" in sys.argv)
    sys.stdout.write(json.dumps({"died": died}))


def lives(folder: Path, strategy: str, rounds: int, *, kills: int, seed: int, moments: bool) -> int:
    """Play to the end; gives the number of deaths on the way."""
    rng = np.random.default_rng(seed)
    died = 0
    while True:
        at_statement = rng.random() < 0.6 or not moments
        countdown, before, moment = int(rng.integers(1, 31)), rng.random() < 0.5, rng.uniform(0.005, 0.25)
        child = os.fork()
        if not child:
            if died < kills:
                (arm_at_statement(countdown, before) if at_statement else arm_at_moment(moment))
            play(folder, strategy, rounds)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status):
                sys.exit(f"a life failed after {died} deaths")
            return died
        died += 1


if __name__ == "__main__":
    main()
