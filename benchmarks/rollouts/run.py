"""Adding rollouts against a raw insert; see README.md here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa

import curri
from benchmarks.table import Row, quiet, timed
from curri.store import NewPrompt, Source

if TYPE_CHECKING:
    from curri.store import PromptStore

PROMPTS, SEED, CHARACTERS = 50_000, 0, 200


def run(*, quick: bool = False) -> list[Row]:
    """The rows of this benchmark."""
    size, held, repeats = (20_000, 50_000, 4) if quick else (200_000, 1_000_000, 8)
    with tempfile.TemporaryDirectory() as folder:
        empty = [_pair(Path(folder) / f"empty{i}", size, ours_first=i % 2 == 0) for i in range(repeats)]
        full = _filled(Path(folder) / "full", size, held, repeats)
    rows = []
    for case, times in ((f"{size:,} rows into an empty store", empty), (f"{size:,} rows, {held:,} present", full)):
        ours, base = zip(*times, strict=True)
        rows.append(Row("rollouts", f"{case}: share of the raw rate", ours, base, "≥ 0.7", inverse=True))
    return rows


def _responses(size: int, first_sample: int) -> pa.Table:
    rng = np.random.default_rng(SEED + first_sample)
    words = np.array([f"word{i}" for i in range(5_000)])
    picked = words[np.minimum(rng.zipf(1.3, (size, CHARACTERS // 5)) - 1, 4_999)]
    return pa.table(
        {
            "prompt_id": np.arange(size, dtype=np.int64) % PROMPTS + 1,
            "sample": (first_sample + np.arange(size) // PROMPTS).astype(np.int32),
            "reward": rng.integers(0, 2, size).astype(np.float64),
            "tokens": rng.integers(10, 900, size).astype(np.int32),
            "response": [" ".join(row)[:CHARACTERS] for row in picked],
        }
    )


class _Raw:
    """A bare DuckDB file with one table."""

    def __init__(self, path: Path) -> None:
        self.connection: Any = duckdb.connect(str(path), config={"checkpoint_threshold": "256MB"})
        columns = "prompt_id bigint, sample integer, reward double, tokens integer, response varchar"
        self.connection.execute(f"create table rollouts ({columns})")

    def add(self, table: pa.Table) -> None:
        self.connection.register("incoming", table)
        self.connection.execute("insert into rollouts select * from incoming").fetchall()
        self.connection.unregister("incoming")


def _store(path: Path) -> PromptStore:
    store = curri.open_store(path, create=True)
    store.prompts.add([NewPrompt(f"q{i}", is_chat=False, answer=None, arm="arm") for i in range(PROMPTS)])
    store.checkpoint()
    return store


def _both(store: PromptStore, raw: _Raw, table: pa.Table, *, ours_first: bool) -> tuple[float, float]:
    """Milliseconds of both, in turn, so that neither always pays for what the first one warms."""
    actions = [lambda: store.rollouts.add(Source("m"), table), lambda: raw.add(table)]
    with quiet():
        times = [timed(action) for action in (actions if ours_first else actions[::-1])]
    return (times[0], times[1]) if ours_first else (times[1], times[0])


def _pair(path: Path, size: int, *, ours_first: bool) -> tuple[float, float]:
    with _store(path.with_suffix(".duckdb")) as store:
        raw = _Raw(path.with_suffix(".raw"))
        times = _both(store, raw, _responses(size, 0), ours_first=ours_first)
        raw.connection.close()
    return times


def _filled(path: Path, size: int, held: int, repeats: int) -> list[tuple[float, float]]:
    with _store(path.with_suffix(".duckdb")) as store:
        raw = _Raw(path.with_suffix(".raw"))
        per_call = max(size // PROMPTS, 1)
        for part in range(held // size):
            table = _responses(size, part * per_call)
            store.rollouts.add(Source("m"), table)
            raw.add(table)
        store.checkpoint()
        raw.connection.execute("checkpoint")
        times = []
        for repeat in range(repeats):
            table = _responses(size, (held // size + repeat) * per_call)
            times.append(_both(store, raw, table, ours_first=repeat % 2 == 0))
        raw.connection.close()
    return times
