from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from curri._version import __version__
from curri.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typer.testing import Result

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "duckdb", "polars", "pyarrow", "torch", "scipy", "sklearn", "datasets")
COMMANDS = {
    "init", "ingest", "priors import", "priors list", "priors use", "estimate", "plan", "report", "evolve", "export",
    "rollouts import", "rollouts generate", "rollouts stats", "rollouts prune",
    "prompts list", "prompts retire", "prompts restore", "prompts split",
    "store info", "store check", "store repair", "store compact", "store backup", "store migrate",
    "select", "record", "explain", "strategies",
    "mix design", "mix fit", "mix optimize", "mix report",
    "doctor", "simulate", "demo",
}  # fmt: skip


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


ALL = dict(commands(typer.main.get_command(app)))


def test_these_are_the_commands() -> None:
    assert set(ALL) == COMMANDS


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_command_and_every_option_explains_itself(curri: Callable[..., Result], name: str) -> None:
    command = ALL[name]
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name} {parameter.name}"
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--json", "--debug"} <= options
    if name not in ("strategies", "demo", "mix fit", "mix optimize", "mix report"):
        assert "--store" in options
    assert name.rsplit(maxsplit=1)[-1] in curri(*name.split(), "--help").stdout


def test_version(curri: Callable[..., Result]) -> None:
    assert curri("--version").stdout == f"curri {__version__}\n"


def test_nothing_asked_shows_the_help(curri: Callable[..., Result]) -> None:
    from typer.testing import CliRunner

    assert "ingest" in CliRunner().invoke(app, []).output


@pytest.mark.parametrize("words", [["--help"], ["select", "--help"], ["rollouts", "import", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    program = (
        f"import sys; sys.argv = ['curri', *{words}]\n"
        "from curri.cli import main\n"
        "try:\n    main()\nexcept SystemExit as exit: assert not exit.code, exit.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_help_costs_little_more_than_that_of_the_smallest_program(tmp_path: Path) -> None:
    small = tmp_path / "small.py"
    small.write_text("import typer\n\ndef hi(name: str = 'x') -> None:\n    'Say hi.'\n\ntyper.run(hi)\n")

    def seconds(*words: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *words, "--help"], cwd=ROOT, capture_output=True, check=True)
        return time.perf_counter() - start

    pairs = [(seconds("-m", "curri.cli"), seconds(str(small))) for _ in range(5)]
    assert min(pair[0] for pair in pairs) <= 2.5 * min(pair[1] for pair in pairs)
