"""What docs/simulate.md shows runs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from curri.cli import app
from curri.reports.replay import HEADINGS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "simulate.md").read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with rollouts of a model and a run, and the two files."""
    path = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    prompts = [{"prompt": f"{i} + {i}", "id": f"p{i}", "arm": ("a", "b")[i % 2]} for i in range(16)]
    (path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    rows = [
        {"id": f"p{i}", "model": "qwen", "policy_version": version, "rewards": rng.integers(0, 2, 8).tolist()}
        for version in range(4)
        for i in range(16)
    ]
    (path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = str(path / "curri.duckdb")
    for words in (["init"], ["ingest", str(path / "p.jsonl")], ["rollouts", "import", str(path / "r.jsonl")]):
        run(*words, "--store", store)
    for _ in range(3):
        batch, answers = str(path / "b.jsonl"), path / "a.jsonl"
        run("select", "-s", "uniform", "--run", "r1", "-n", "16", "-o", batch, "--store", store, "--model", "qwen")
        ids = [json.loads(line)["prompt_id"] for line in Path(batch).read_text().splitlines()]
        told = [{"prompt_id": prompt_id, "rewards": rng.integers(0, 2, 8).tolist()} for prompt_id in ids]
        answers.write_text("".join(json.dumps(row) + "\n" for row in told))
        run("record", str(answers), "--run", "r1", "--store", store)
    counts = [f"{i},{' '.join(map(str, rng.integers(0, 9, 6)))}" for i in range(20)]
    (path / "counts.csv").write_text("\n".join(["prompt_index,successes_of_8_per_visit", *counts]) + "\n")
    failures = [f"{i},{rng.integers(0, 129)}" for i in range(20)]
    (path / "prior.csv").write_text("\n".join(["prompt_index,mean_failures_of_128_other", *failures]) + "\n")
    return path


@pytest.mark.parametrize("command", [each for each in COMMANDS if "--show-fit" not in each and ".html" not in each])
def test_the_examples_run(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    program, *words = shlex.split(command)
    assert program == "curri"
    assert "uniform" in run(*words, "--jobs", "1") or "--json" in words


def test_the_page_explains_every_column() -> None:
    table = PAGE[PAGE.index("| column | |") : PAGE.index("**The bound**")]
    assert tuple(re.findall(r"^\|\s*([^|]+?)\s*\|", table, flags=re.MULTILINE)) == ("column", "---", *HEADINGS[1:])
