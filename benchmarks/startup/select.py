"""A cold `curri select` against a process that only imports what it stands on and opens the same store."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.table import Row, timed

PROMPTS = 100_000
OURS = (
    "import sys; from curri.cli import main; sys.argv = ['curri', 'select', '-n', '512', "
    "'--store', {store!r}, '-o', {out!r}]; main()"
)
BASE = "import numpy, duckdb, pyarrow; duckdb.connect({store!r}, read_only=True)"
TYPER = """
import typer
app = typer.Typer()
@app.command()
def open_it(store: str, n: int = 512) -> None:
    import numpy, duckdb, pyarrow
    duckdb.connect(store, read_only=True)
app()
"""


def rows(*, quick: bool = False) -> list[Row]:
    """The rows of this benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        store, out, small = (str(Path(folder) / name) for name in ("s.duckdb", "batch.jsonl", "small.py"))
        Path(small).write_text(TYPER)
        _fill(store)
        # All are compiled before they are timed, as installed packages are.
        compiled = {**os.environ, "PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        programs = (
            ["-c", OURS.format(store=store, out=out)],
            ["-c", BASE.format(store=store)],
            [small, store],
        )
        for program in programs:
            _run(program, compiled)
        repeats = 3 if quick else 21
        times = [[_timed(program, compiled) for program in programs] for _ in range(repeats)]
        assert len(Path(out).read_text().splitlines()) == 512
    clock, processor = np.array(times).T
    (ours, base, typer), (ours_busy, base_busy, _) = clock, processor
    return [
        Row("startup", "curri select of 100,000 : importing and opening", ours, base, "≤ 1.5"),
        Row("startup", "  the same, time of the processors", ours_busy, base_busy),
        Row("startup", "  the same : a typer program that imports and opens", ours, typer),
        Row("startup", "  that typer program : importing and opening", typer, base),
    ]


def _fill(path: str) -> None:
    from curri.store import NewPrompt, open_store

    text = "What is {0} + {0}? Think step by step, then give the number. " * 3
    prompts = [NewPrompt(text.format(i), is_chat=False, answer=str(2 * i), arm=f"arm{i % 10}") for i in range(PROMPTS)]
    with open_store(path, create=True) as store:
        store.prompts.add(prompts)


def _timed(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Milliseconds on the clock, and of all processors."""
    before = os.times()
    clock = timed(lambda: _run(arguments, environment))
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return clock, spent * 1e3


def _run(arguments: list[str], environment: dict[str, str]) -> None:
    subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=True)
