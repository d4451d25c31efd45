"""The start of the command line against the smallest typer program; see README.md here."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.startup import select
from benchmarks.table import Row, timed

HEAVY = ("numpy", "duckdb", "polars", "pyarrow", "torch", "scipy", "sklearn", "datasets")
SMALL = """
import typer
app = typer.Typer()
@app.command()
def hello(name: str = "you") -> None:
    \"\"\"Say hello.\"\"\"
    print(name)
app()
"""
OURS = "import sys; sys.argv = ['curri', '--help']; from curri.cli import main; main()"


def run(*, quick: bool = False) -> list[Row]:
    """The rows of this benchmark."""
    for code in ("import curri", OURS):
        heavy = imported(code)
        if heavy:
            raise SystemExit(f"`{code}` imports {', '.join(heavy)}, which is far too much")
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.py"
        small.write_text(SMALL)
        times = [
            (timed(lambda: _started("-c", OURS)), timed(lambda: _started(str(small), "--help")))
            for _ in range(3 if quick else 15)
        ]
    ours, base = zip(*times, strict=True)
    help_ = Row("startup", "curri --help : a typer program with one command", ours, base, "≤ 2.5")
    return [help_, *select.rows(quick=quick)]


def imported(code: str) -> list[str]:
    """The heavy modules that a piece of code imports, in a process of its own."""
    probe = f"""
import atexit, sys
atexit.register(lambda: print("HEAVY", *[m for m in {HEAVY!r} if m in sys.modules]))
{code}
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


def _started(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
