"""Plays rounds on a store and dies by SIGKILL at a chosen point; run as a script by ``test_crash.py``.

``python crash_player.py FOLDER STRATEGY ROUNDS KILLS SEED`` plays until all rounds are done. Each life is a forked
child of this (warm, store-less) process. A life ends at a random statement sent to DuckDB, before or after it; or at a
random moment, wherever it is then. Every pick is written to FOLDER/picks.jsonl before it is used.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from curri import Scheduler, open_store
from curri.selectors import stable_hash
from curri.state import pack
from curri.store.connection import Connection

BATCH, GROUP = 6, 4


def rewards(ids: Any, number: int) -> Any:
    """0/1 outcomes that depend on nothing but prompt, round and sample."""
    luck = stable_hash(ids * 1000 + np.tile(np.arange(GROUP), ids.size // GROUP), number)
    return (luck % np.uint64(7) < ids.astype(np.uint64) % np.uint64(8)).astype(np.float64)


def play(folder: Path, strategy: str, rounds: int) -> None:
    """Ask and tell, half a round at a time, until all rounds are closed."""
    with open_store(folder / "prompts.duckdb") as store, (folder / "picks.jsonl").open("ab", buffering=0) as log:
        scheduler = Scheduler(store, strategy, run="r", seed=1)
        while scheduler.round < rounds:
            selection = scheduler.ask(BATCH)
            number, ids = selection.ticket.round, selection.prompt_ids
            line = {"round": number, "ids": ids.tolist(), "again": selection.reissued}
            log.write(json.dumps(line).encode() + b"\n")
            for half in (ids[: BATCH // 2], ids[BATCH // 2 :]):
                long = np.repeat(half, GROUP)
                if half.size:
                    scheduler.tell(long, rewards(long, number))
        scheduler.close()
        (folder / "state.bin").write_bytes(pack(scheduler.curriculum.state_dict()))


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
    """Live, die, live again."""
    folder, strategy, rounds, kills, seed = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6])
    rng = np.random.default_rng(seed)
    died, lives = 0, 0
    while True:
        lives += 1
        at_statement, countdown, before = rng.random() < 0.6, int(rng.integers(1, 31)), rng.random() < 0.5
        moment = rng.uniform(0.005, 0.25)
        child = os.fork()
        if not child:
            if died < kills:
                (arm_at_statement(countdown, before) if at_statement else arm_at_moment(moment))
            play(folder, strategy, rounds)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status):
                sys.exit(f"life {lives} failed")
            break
        died += 1
    sys.stdout.write(json.dumps({"died": died, "lives": lives}))


if __name__ == "__main__":
    main()
