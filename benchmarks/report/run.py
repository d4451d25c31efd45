"""The difficulty report on a million rollouts, and opening their store; see README.md here."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

import curri
from benchmarks.table import Row, quiet, timed
from curri.store import NewPrompt, Source
from curri.store.connection import CONFIG

SEED, ARMS, GROUP, WORDS = 0, 20, 8, 60
SECONDS = 20.0
"""What a report on a million rollouts may take."""


def run(*, quick: bool = False) -> list[Row]:
    """The rows of this benchmark."""
    prompts, rollouts, repeats = (10_000, 100_000, 2) if quick else (100_000, 1_000_000, 5)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "prompts.duckdb"
        _fill(store, prompts, rollouts)
        reports, processor = zip(*(_report(store, Path(folder) / "report.html") for _ in range(repeats)), strict=True)
        opened = [_opened(store, ours_first=turn % 2 == 0) for turn in range(4 * repeats)]
    ours, base = zip(*opened, strict=True)
    allowed = [SECONDS * 1e3] * repeats
    size = f"{rollouts:,} rollouts"
    return [
        Row("report", f"curri report, a whole process, {size} of {prompts:,} prompts : 20 s", reports, allowed, "≤ 1"),
        Row("report", "the same, time of the processors : 20 s", processor, allowed),
        Row("report", f"opening a store of {size} to read : DuckDB alone, and one query", ours, base),
    ]


def _fill(path: Path, prompts: int, rollouts: int) -> None:
    """Prompts of 60 words with pass rates from Beta(0.35, 0.71); five policy versions in groups of eight."""
    rng = np.random.default_rng(SEED)
    words = np.array([f"word{i}" for i in range(5_000)])
    texts = words[np.minimum(rng.zipf(1.3, (prompts, WORDS)) - 1, 4_999)]
    rates = rng.beta(0.35, 0.71, prompts)
    with curri.open_store(path, create=True) as store:
        rows = [
            NewPrompt(f"Task {i}: {' '.join(text)}", is_chat=False, answer=str(i), arm=f"arm{i % ARMS}")
            for i, text in enumerate(texts)
        ]
        store.prompts.add(rows)
        groups = rollouts // 5 // GROUP
        for version in range(5):
            ids = np.repeat(rng.choice(prompts, groups, replace=False), GROUP)
            rewards = rng.binomial(1, rates[ids]).astype(np.float64)
            columns = {
                "prompt_id": ids + 1,
                "sample": (np.tile(np.arange(GROUP), groups) + GROUP * version).astype(np.int32),
                "reward": rewards,
                "solved": rewards,
                "tokens": rng.integers(10, 900, ids.size).astype(np.int32),
                "policy_version": np.full(ids.size, version),
            }
            store.rollouts.add(Source("model"), pa.table(columns))


def _report(store: Path, page: Path) -> tuple[float, float]:
    """Milliseconds on the clock, and of all processors."""
    words = [sys.executable, "-m", "curri.cli", "report", "--store", str(store), "-o", str(page)]
    before = os.times()
    clock = timed(lambda: subprocess.run(words, capture_output=True, check=True))
    after = os.times()
    assert page.stat().st_size > 1_000_000
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return clock, spent * 1e3


def _opened(path: Path, *, ours_first: bool) -> tuple[float, float]:
    """Milliseconds to open and close the store, and the same by DuckDB alone, in turn."""

    def ours() -> None:
        curri.open_store(path, read_only=True).close()

    def base() -> None:
        connection: Any = duckdb.connect(str(path), read_only=True, config=CONFIG)
        connection.execute("select value from meta").fetchall()
        connection.close()

    with quiet():
        times = [timed(action) for action in ((ours, base) if ours_first else (base, ours))]
    return (times[0], times[1]) if ours_first else (times[1], times[0])
