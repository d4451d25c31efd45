"""A cold `curri select` against a process that only imports what it stands on and opens the same store."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

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
        repeats = 3 if quick else 15
        times = [[timed(lambda p=program: _run(p, compiled)) for program in programs] for _ in range(repeats)]
        assert len(Path(out).read_text().splitlines()) == 512
    ours, base, typer = zip(*times, strict=True)
    return [
        Row("startup", "curri select of 100,000 : importing and opening", ours, base, "≤ 1.5"),
        Row("startup", "  the same : a typer program that imports and opens", ours, typer),
        Row("startup", "  that typer program : importing and opening", typer, base),
    ]


def _fill(path: str) -> None:
    from curri.store import NewPrompt, open_store

    text = "What is {0} + {0}? Think step by step, then give the number. " * 3
    prompts = [NewPrompt(text.format(i), is_chat=False, answer=str(2 * i), arm=f"arm{i % 10}") for i in range(PROMPTS)]
    with open_store(path, create=True) as store:
        store.prompts.add(prompts)


def _run(arguments: list[str], environment: dict[str, str]) -> None:
    subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=True)
