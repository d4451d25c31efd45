"""What docs/report.md says is so."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import curri
from curri.cli import app
from curri.reports.difficulty import duplicates, examples, question, rates

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text(encoding="utf-8")


def invoke(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with prompts that were always right, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"{i} + {i}", "id": f"p{i}", "arm": "sums"} for i in range(20)]
    results = [{"id": f"p{i}", "rewards": [1] * 16 if i % 2 else [0, 1] * 8} for i in range(20)]
    for name, lines in (("p.jsonl", rows), ("r.jsonl", results)):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    invoke("init")
    invoke("ingest", "p.jsonl")
    invoke("rollouts", "import", "r.jsonl", "--model", "m")
    return tmp_path


def test_it_names_the_options_of_the_command() -> None:
    group: Any = typer.main.get_command(app)
    options = {name for parameter in group.commands["report"].params for name in parameter.opts if name[:2] == "--"}
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE))
    assert options - {"--output", "--store", "--debug", "--config", "--show-config"} <= named
    assert named - {"--dry-run"} <= options


def test_its_numbers_are_the_code_s() -> None:
    for size, high in ((8, 92), (64, 99)):
        edge = round(100 * rates.edge_of_signal(size))
        assert edge == high
        assert f"above {edge} %" in PAGE
        assert f"below {100 - edge} %" in PAGE
    assert f"at least {duplicates.SIMILAR:.0%}".replace("%", " %") in PAGE
    assert f"else {question.DEFAULT_GROUP} |" in PAGE
    assert f"The {examples.INFORMATIVE} prompts" in PAGE
    assert examples.EXTREME == 10


@pytest.mark.parametrize("line", re.findall(r"^    (?:\$ )?(curri .+)$", PAGE, re.MULTILINE))
def test_the_commands_run(folder: Path, line: str) -> None:
    if "html" in line:
        pytest.importorskip("jinja2", reason="needs curri[report]")
        pytest.importorskip("plotly", reason="needs curri[report]")
    said = invoke(*shlex.split(line)[1:])
    assert "10 prompts match" in said if "retire" in line else "20 prompts tried" in said


def test_the_python_runs(folder: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with curri.open_store(folder / "curri.duckdb") as store:
        found: dict[str, Any] = {"store": store}
        exec(code, found)  # noqa: S102  our own page
    assert found["text"].startswith("# Of 20 prompts tried")
