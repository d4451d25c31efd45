"""What docs/filters.md says is so."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from curri.cli import app
from curri.store import open_store
from curri.store.filters import ALIASES, COLUMNS, DEEPEST, LONGEST, METADATA, MOST_CONDITIONS, MOST_VALUES, Filter
from curri.store.sql_filter import LONGEST as LONGEST_SQL

if TYPE_CHECKING:
    from typer.testing import Result

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "filters.md").read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which every example finds something."""
    path = tmp_path_factory.mktemp("page")
    rows = [
        {
            "prompt": f"prove that {i} + {i} is even",
            "arm": ("math", "code")[i % 2],
            "id": f"p{i}",
            "answer": "7",
            "level": "hard",
            "odd key": 1,
            "source": {"year": 2000},
        }
        for i in range(20)
    ]
    (path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rewards = [
        {"id": f"p{i}", "rewards": [[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0]][i % 4]} for i in range(20)
    ]
    (path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rewards))
    store = str(path / "curri.duckdb")
    for words in (
        ["init"],
        ["ingest", str(path / "p.jsonl")],
        ["rollouts", "import", str(path / "r.jsonl"), "--model", "m"],
    ):
        assert run(*words, "--store", store).exit_code == 0
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_run_and_find_something(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    program, *words = shlex.split(command)
    done = run(*words)
    assert (program, done.exit_code) == ("curri", 0), done.output
    said = done.output
    assert "prompts" in said or '"prompt_id"' in said
    assert not re.search(r"(^|\s)0 prompts", said)


def test_the_conditions_of_the_table_can_be_read(folder: Path) -> None:
    table = PAGE[PAGE.index("| condition") : PAGE.index("`and`, `or`, `not`")]
    cells = [line.split("|")[1] for line in table.splitlines()[2:] if line.strip()]
    conditions = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell) if text not in ("<", "<=", ">=")]
    assert len(conditions) == 9
    inline = ["pass_rate < 0.2", "not pass_rate < 0.2", 'answer != "7"', "metadata.level == 3",
              'metadata["odd key"] == 1', "metadata.source.year > 1999"]  # fmt: skip
    with open_store(folder / "curri.duckdb", read_only=True) as store:
        for text in [*conditions, *inline]:
            store.prompts.where(text)
        assert store.prompts.where("metadata.level == 3").size == 0
        assert store.prompts.where("metadata.source.year > 1999").size == 20
    for text in inline[:2]:
        assert f"`{text}`" in PAGE


def test_every_column_stands_in_the_table_with_its_meaning() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|$", PAGE[PAGE.index("## Columns") :], flags=re.MULTILINE))
    assert set(rows) == {*COLUMNS, f"{METADATA}.KEY"}
    for name, column in COLUMNS.items():
        assert rows[name].startswith(column.doc), name
    for alias, name in ALIASES.items():
        assert f"also `{alias}`" in rows[name]


def test_the_limits_are_those_of_the_code() -> None:
    for limit in (
        f"{LONGEST:,} characters",
        f"{MOST_CONDITIONS} conditions",
        f"{MOST_VALUES:,} values",
        f"{DEEPEST} levels",
    ):
        assert limit in PAGE
    assert f"at most {LONGEST_SQL:,} characters" in PAGE


def test_the_error_is_shown_like_that(folder: Path) -> None:
    (block,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    done = run("prompts", "list", "--where", 'arm = "math"', "--store", str(folder / "curri.duckdb"))
    assert done.stderr == block
    assert Filter.parse('arm == "math"').leaves
