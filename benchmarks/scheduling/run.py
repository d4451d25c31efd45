"""One scheduling step against its primitives; see README.md here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa

import curri
from benchmarks.table import Row, quiet, timed
from curri.store import NewPrompt

if TYPE_CHECKING:
    from curri.store import PromptStore

ARMS, BATCH, GROUP, SEED = 12, 512, 8, 0
STRATEGIES = ("ucb", "uniform")


def run(*, quick: bool = False) -> list[Row]:
    """The rows of this benchmark."""
    prompts, repeats = (20_000, 15) if quick else (1_000_000, 60)
    with tempfile.TemporaryDirectory() as folder, curri.open_store(Path(folder) / "p.duckdb", create=True) as store:
        _fill(store, prompts)
        steps = [_step(store, strategy, prompts, repeats, Path(folder)) for strategy in STRATEGIES]
        return [*steps, _fetch(store, prompts, repeats)]


def _fill(store: PromptStore, prompts: int) -> None:
    for first in range(0, prompts, 50_000):
        numbers = range(first, min(prompts, first + 50_000))
        store.prompts.add([NewPrompt(_text(i), is_chat=False, answer=str(i), arm=f"arm{i % ARMS}") for i in numbers])


def _text(number: int) -> str:
    """About 700 characters."""
    return f"Question {number}: " + " ".join(f"{number * k % 9973:05d}" for k in range(1, 115))


def _step(store: PromptStore, strategy: str, prompts: int, repeats: int, folder: Path) -> Row:
    scheduler = curri.Scheduler(store, strategy, run=strategy, seed=SEED)
    primitives = _Primitives(prompts, folder / f"bare-{strategy}.duckdb")
    rng = np.random.default_rng(SEED)

    def step() -> None:
        selection = scheduler.ask(BATCH)
        ids = np.repeat(selection.prompt_ids, GROUP)
        scheduler.tell(ids, rng.integers(0, 2, ids.size))

    for _ in range(5):
        step()
        primitives()
    with quiet():
        times = [(timed(step), timed(primitives)) for _ in range(repeats)]
    primitives.connection.close()
    ours, base = zip(*times, strict=True)
    return Row("scheduling", f"{strategy}: ask 512 + tell 4,096, {prompts:,} prompts", ours, base, "≤ 2.5")


class _Primitives:
    """What a step cannot do without."""

    def __init__(self, prompts: int, path: Path) -> None:
        self.rng = np.random.default_rng(SEED)
        self.sums = [np.zeros(prompts) for _ in range(3)]
        self.scores = self.rng.random(prompts)
        self.connection: Any = duckdb.connect(str(path), config={"checkpoint_threshold": "256MB"})
        ledger = "round integer, prompt_id bigint, event varchar, probability double"
        self.connection.execute(f"create table ledger ({ledger})")
        rollouts = "prompt_id bigint, source_id integer, sample integer, reward double"
        self.connection.execute(f"create table rollouts ({rollouts})")

    def __call__(self) -> None:
        rows = self.rng.integers(0, self.scores.size, BATCH * GROUP)
        for sums in self.sums:
            np.add.at(sums, rows, 1.0)
        picked = self._top()
        self._commit("ledger", {"round": np.zeros(BATCH, np.int32), "prompt_id": picked, "event": ["issued"] * BATCH,
                                "probability": np.ones(BATCH)})  # fmt: skip
        self._commit("rollouts", {"prompt_id": rows, "source_id": np.zeros(rows.size, np.int32),
                                  "sample": np.zeros(rows.size, np.int32), "reward": np.ones(rows.size)})  # fmt: skip

    def _top(self) -> Any:
        sample = self.scores[self.rng.integers(0, self.scores.size, 20_000)]
        above = np.flatnonzero(self.scores >= np.quantile(sample, 1 - 1.5 * BATCH / self.scores.size))
        return above[np.argpartition(self.scores[above], -BATCH)[-BATCH:]]

    def _commit(self, table: str, columns: dict[str, Any]) -> None:
        self.connection.register("incoming", pa.table(columns))
        self.connection.execute("begin transaction")
        self.connection.execute(f"insert into {table} select * from incoming").fetchall()
        self.connection.execute("commit")
        self.connection.unregister("incoming")


def _fetch(store: PromptStore, prompts: int, repeats: int) -> Row:
    rng = np.random.default_rng(SEED)

    def from_map() -> None:
        store.texts.fetch(rng.integers(1, prompts + 1, BATCH))

    def from_database() -> None:
        asked = pa.table({"id": rng.integers(1, prompts + 1, BATCH)})
        store.connection.arrow("select prompt, answer from prompts join asked on prompt_id = id", asked=asked)

    from_map()
    with quiet():
        times = [(timed(from_map), timed(from_database)) for _ in range(repeats)]
    ours, base = zip(*times, strict=True)
    return Row("scheduling", f"texts of 512 of {prompts:,}, memory map : DuckDB join", ours, base)
