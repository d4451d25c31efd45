"""What docs/rollouts.md says is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from curri.cli import app
from curri.rollouts import ENGINES
from curri.store import NewPrompt, open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rollouts.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CURRI_STORE", raising=False)
    with open_store(tmp_path / "curri.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), "sums") for i in range(12)])
    return tmp_path


def run(words: Sequence[str], text: str | None = None) -> str:
    done = CliRunner().invoke(app, list(words), input=text)
    assert done.exit_code == 0, done.output
    return done.output


def test_every_command_on_the_page_does_what_it_says(folder: Path) -> None:
    commands = [line.removeprefix("$ curri ") for block in blocks("console") for line in block.splitlines()]
    assert len(commands) == 9
    said = [run(shlex.split(command)) for command in commands]
    assert "60 generated" in said[0]
    assert ("60 were there" in said[1], "36 generated" in said[1]) == (True, True)
    assert ("96 of them were scored" in said[2], " generated" in said[2]) == (True, False)


def test_the_program_on_the_page_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = blocks("python")
    exec(program, {})  # noqa: S102  our own page
    assert capsys.readouterr().out == "0 96 {}\n"


def test_the_page_names_every_engine_and_option() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(ENGINES)
    help_text = run(["rollouts", "generate", "--help"]) + run(["rollouts", "prune", "--help"])
    for option in set(re.findall(r"--[a-z][a-z-]+", PAGE)) - {"--port"}:
        assert option in help_text, option
