"""What docs/config.md and docs/plan.md say is so."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from curri.cli import app
from curri.cli._config import NAMED, SHARED, read
from curri.planning import LARGEST

DOCS = Path(__file__).resolve().parents[2] / "docs"
CONFIG = (DOCS / "config.md").read_text(encoding="utf-8")
PLAN = (DOCS / "plan.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```toml\n(.*?)```", CONFIG, re.DOTALL)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CURRI_STORE", raising=False)


def test_the_example_is_read() -> None:
    Path("run.toml").write_text(EXAMPLE, encoding="utf-8")
    found = read(Path("run.toml"), typer.main.get_command(app)).defaults
    assert found["select"]["parameter"] == ["temperature=0.2", "arm_cap=0.5"]
    assert found["record"] == {"run": "r1", "metrics": "metrics.jsonl", "store": "prompts.duckdb"}
    for command, *words in commands(CONFIG):
        assert command == "curri"
        done = CliRunner().invoke(app, [*words, "--show-config"])
        assert done.exit_code == 0, done.output


def test_the_error_is_shown_like_that() -> None:
    (block,) = re.findall(r"```text\n(.*?)```", CONFIG, re.DOTALL)
    Path("run.toml").write_text(EXAMPLE.replace("strategy =", "stratgy ="), encoding="utf-8")
    done = CliRunner().invoke(app, ["select", "--config", "run.toml"])
    assert (done.exit_code, done.stderr) == (1, block)


def test_the_names_are_those_of_the_code() -> None:
    shared = re.findall(r"^- (.*) may stand at the top", CONFIG, re.MULTILINE)[0]
    assert tuple(re.findall(r"`(\w+)`", shared)) == SHARED
    named = CONFIG[CONFIG.index("takes NAME=VALUE") : CONFIG.index("may be a table")]
    assert sorted(re.findall(r"`--([\w-]+)`", named)) == sorted(NAMED)


def test_the_examples_without_a_store_run() -> None:
    lines = [words for words in commands(PLAN) if "--pass-rate" in words]
    assert len(lines) == 2
    for words in lines:
        done = CliRunner().invoke(app, [*words[1:], "--json"])
        assert json.loads(done.stdout)["largest"] == LARGEST


def test_the_columns_are_those_of_the_table() -> None:
    Path("p.jsonl").write_text('{"prompt": "x", "id": "1"}\n{"prompt": "y", "id": "2"}')
    Path("r.jsonl").write_text('{"id": "1", "rewards": [1, 0], "tokens": [5, 6]}\n{"id": "2", "rewards": [0, 0]}')
    for words in (["init"], ["ingest", "p.jsonl"], ["rollouts", "import", "r.jsonl", "--model", "m"]):
        assert CliRunner().invoke(app, words).exit_code == 0
    shown = CliRunner().invoke(app, ["plan", "--live", "0.5"]).stdout
    part = PLAN[PLAN.index("| column |") : PLAN.index("The smallest group")]
    for cell in re.findall(r"^\| (`.*?) \|", part, re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", cell):
            assert name in shown, name
    assert f"{LARGEST:,}" in PLAN


def commands(page: str) -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    return [shlex.split(line.removeprefix("$ ")) for block in blocks for line in block.splitlines()]
