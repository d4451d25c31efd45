from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from curri.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def curri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in an empty folder, in this process; the exit code must be as expected (0 unless said)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CURRI_STORE", raising=False)

    def run(*words: str, code: int = 0, text: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words], input=text, prog_name="curri")
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def answer(curri: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """Runs a command with --json and gives its document."""

    def run(*words: str, code: int = 0) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(curri(*words, "--json", code=code).stdout)
        assert document["ok"] is (code in (0, 4))
        return document

    return run


@pytest.fixture
def filled(curri: Callable[..., Result], tmp_path: Path) -> Path:
    """A folder with a store of 12 prompts in the arms "easy" and "hard", with own ids "p0" to "p11"."""
    rows = [
        {"prompt": f"{i} + {i}", "answer": str(2 * i), "arm": ("easy", "hard")[i % 2], "id": f"p{i}"} for i in range(12)
    ]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curri("init")
    curri("ingest", "prompts.jsonl")
    return tmp_path


@pytest.fixture
def rows_of() -> Callable[[str | Path], list[dict[str, Any]]]:
    """JSON Lines, from a text or a file."""

    def read(source: str | Path) -> list[dict[str, Any]]:
        text = source.read_text() if isinstance(source, Path) else source
        return [json.loads(line) for line in text.splitlines()]

    return read


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts curri as a process of its own, in the test's folder."""

    def start(*words: str, **streams: Any) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80"}
        environment.pop("CURRI_STORE", None)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | streams
        # A background job of a shell ignores SIGINT, and its children would too.
        heed = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        command = [sys.executable, "-c", heed + "runpy.run_module('curri.cli', run_name='__main__')", *words]
        process: Any = subprocess.Popen(command, cwd=tmp_path, env=environment, **streams)
        return process

    return start
