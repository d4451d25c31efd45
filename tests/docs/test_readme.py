"""What the README and CONTRIBUTING show is run."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

import curri
from curri.cli import app
from curri.registry import BUILT_IN
from curri.store import NewPrompt
from curri.testing import Case, run_checks

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Fenced code of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_python_loop_is_under_ten_lines_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with curri.open_store("curri.duckdb", create=True) as store:
        prompts = [NewPrompt(f"{i} + 1?", is_chat=False, answer=str(i + 1), arm=f"arm{i % 4}") for i in range(300)]
        store.prompts.add(prompts)
    loop, without_store = blocks(README, "python")
    assert len([line for line in loop.splitlines() if line.strip()]) < 10

    def generate_and_score(ids: Any, prompts: Sequence[curri.Prompt], each: Any) -> tuple[Any, Any]:
        assert [prompt.prompt_id for prompt in prompts] == ids.tolist()
        long = np.repeat(ids, each)
        return long, (long * 7 % 11 < np.arange(long.size) % 8).astype(float)

    exec(compile(loop, "README.md", "exec"), {"generate_and_score": generate_and_score})  # noqa: S102  our own README
    with curri.open_store("curri.duckdb") as store:
        scheduler = curri.Scheduler(store, run="r2")
        assert scheduler.round == 20
        assert len(store.rollouts) == 20 * 64 * 8
    exec(compile(without_store, "README.md", "exec"), {"curri": curri})  # noqa: S102


def test_the_command_line_loop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("reasoning_gym")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CURRI_STORE", raising=False)
    questions = [{"prompt": f"{i} + {i}?", "answer": str(2 * i), "arm": "sums", "id": f"s{i}"} for i in range(80)]
    write("prompts.jsonl", questions)
    write("rollouts.jsonl", [{"id": f"s{i}", "rewards": [i % 2, 1, 0, 0]} for i in range(80)])
    (session,) = blocks(README, "console")
    for line in session.splitlines():
        words = shlex.split(line.removeprefix("$ "))
        if words[0] != "curri":
            picked = [json.loads(row) for row in Path("batch.jsonl").read_text(encoding="utf-8").splitlines()]
            assert len(picked) == 64
            write("results.jsonl", [{"prompt_id": p["prompt_id"], "rewards": [1, 0] * 4} for p in picked])
            continue
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}"
    with curri.open_store("curri.duckdb") as store:
        assert curri.Scheduler(store, run="r1").round == 1


def write(path: str, rows: list[dict[str, Any]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_every_strategy_stands_in_the_table() -> None:
    section = README.split("\n## Strategies\n")[1].split("\n## ")[0]
    table = re.findall(r"^\| `([\w-]+)` \|", section, flags=re.MULTILINE)
    assert sorted(table) == sorted(BUILT_IN)


def test_the_two_commands_stand_first_and_links_lead_somewhere() -> None:
    assert README.index("make demo") < README.index("make test") < README.index("curri init")
    for text in (README, CONTRIBUTING, (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (ROOT / target).exists(), target


def test_the_worked_example_passes_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, _suite = blocks(CONTRIBUTING, "python")
    (tmp_path / "near_target.py").write_text(strategy, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    near_target = importlib.import_module("near_target").NearTarget
    results = run_checks(Case(near_target, {"target": 0.2}))
    assert len(results) > 30
    assert {result.name: result.message for result in results if result.outcome != "passed"} == {}
