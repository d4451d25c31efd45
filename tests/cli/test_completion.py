from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from curri.cli import app
from curri.registry import strategy_names
from curri.store import NewPrompt, open_store
from curri.store.filters import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Curri = Callable[..., Result]
    Offered = Callable[..., list[str]]

HEAVY = ("numpy", "duckdb", "polars", "pyarrow", "torch")


@pytest.fixture
def offered(curri: Curri) -> Offered:
    """What is offered for the last of these words, as bash is told."""

    def offer(*words: str) -> list[str]:
        line = "\n".join(["curri", *(f"'{word}'" if word else "" for word in words[:-1]), f"'{words[-1]}"])
        environment = {"_CURRI_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
        result = CliRunner().invoke(app, [], env=environment, prog_name="curri")
        assert (result.exit_code, result.stderr) == (0, "")
        return [line for line in result.stdout.splitlines() if line]

    return offer


@pytest.fixture
def with_runs(curri: Curri, filled: Path) -> Path:
    """The filled store, with the runs r1 (ucb) and r2 (uniform), rollouts of my-model, and metadata."""
    (filled / "more.jsonl").write_text('{"prompt": "x", "arm": "easy", "level": 1, "odd key": 2}')
    (filled / "rollouts.jsonl").write_text('{"id": "p1", "reward": 1}')
    curri("ingest", "more.jsonl")
    curri("rollouts", "import", "rollouts.jsonl", "--model", "my-model")
    for run, strategy in (("r1", "ucb"), ("r2", "uniform")):
        curri("select", "--run", run, "-s", strategy, "-n", "2", "-o", "b.jsonl")
    return filled


def test_strategies(offered: Offered) -> None:
    assert offered("select", "--strategy", "") == strategy_names()
    assert offered("strategies", "mo") == ["modomodo", "mopps"]
    assert "ucb/mopps" in offered("select", "--strategy", "ucb/m")
    assert offered("select", "--within", "uni") == ["uniform"]


def test_parameters(offered: Offered, with_runs: Path) -> None:
    ucb = ("select", "--strategy", "ucb", "--param")
    assert "temperature=" in offered(*ucb, "")
    assert offered(*ucb, "temp") == ["temperature=", "temperature=0.1"]
    assert offered(*ucb, "draw=r") == ["draw=replacement"]
    assert offered(*ucb, "normalize_std=") == ["normalize_std=true", "normalize_std=false"]
    assert "within_target=" in offered("select", "-s", "ucb", "--within", "mopps", "-p", "within_t")
    assert offered("select", "--run", "r1", "--param", "temp") == ["temperature=", "temperature=0.1"]
    assert offered("select", "--param", "") == []
    assert offered("select", "--strategy", "nothing", "--param", "") == []
    assert offered(*ucb, "nothing=") == []


def test_columns_and_arms_of_filters(offered: Offered, with_runs: Path) -> None:
    def after(text: str) -> list[str]:
        return [offer.removeprefix(text) for offer in offered("estimate", "--where", text)]

    assert after("") == [*COLUMNS, "metadata."]
    assert offered("estimate", "--where", "not (pass_rate > 0.5 or resp") == ["not (pass_rate > 0.5 or responses"]
    assert offered("estimate", "--where", "metadata.") == ["metadata.level"]
    assert offered("export", "x.csv", "--where", 'arm == "e') == ['arm == "easy"']
    assert after("arm in [") == ['"easy"', '"hard"']
    assert after('retired and arm in ["easy",') == ['"easy"', '"hard"']
    assert after("pass_rate ") == []
    assert after('prompt contains "') == []
    assert offered("ingest", "p.jsonl", "--arm", "") == ["easy", "hard"]


def test_runs_and_models(offered: Offered, with_runs: Path) -> None:
    for words in (["select", "--run"], ["explain", "1", "--run"], ["store", "info"]):
        assert offered(*words, "r") == ["r2", "r1"]
    assert offered("estimate", "--model", "my") == ["my-model"]


def test_the_store_is_the_one_that_was_named(
    offered: Offered, with_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (with_runs / "curri.duckdb").rename(with_runs / "other.duckdb")
    assert offered("select", "--run", "") == []
    assert offered("select", "--store", "other.duckdb", "--run", "") == ["r2", "r1"]
    (with_runs / "run.toml").write_text('store = "other.duckdb"')
    assert offered("select", "--config", "run.toml", "--run", "") == ["r2", "r1"]
    assert offered("--config", "run.toml", "select", "--run", "") == ["r2", "r1"]
    monkeypatch.setenv("CURRI_STORE", "other.duckdb")
    assert offered("select", "--run", "") == ["r2", "r1"]


def test_names_that_a_shell_would_act_on_are_not_offered(offered: Offered, curri: Curri, tmp_path: Path) -> None:
    names = ["$(touch x)", "`touch x`", "a;b", "a'b", 'a"b', "a\\b", "a\nb", "*", "\x1b[31m", "two words", "fine-1.5/b"]
    with open_store(tmp_path / "curri.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(name, is_chat=False, answer="", arm=name) for name in names])
        for name in names:
            store.runs.create(name, "uniform", {}, None)
    assert offered("select", "--run", "") == ["fine-1.5/b"]
    assert offered("ingest", "--arm", "") == ["fine-1.5/b"]
    assert offered("estimate", "--where", "arm == ") == ['arm == "fine-1.5/b"', 'arm == "two words"']


@pytest.mark.parametrize("damage", ["no store", "no file", "a folder", "bad config"])
def test_whatever_is_wrong_nothing_is_offered_and_nothing_said(offered: Offered, tmp_path: Path, damage: str) -> None:
    if damage == "no store":
        (tmp_path / "curri.duckdb").write_text("this is no database")
    elif damage == "a folder":
        (tmp_path / "curri.duckdb").mkdir()
    (tmp_path / "run.toml").write_text("[nonsense")
    before = ["--config", "run.toml"] if damage == "bad config" else []
    assert offered(*before, "select", "--run", "") == []
    assert offered(*before, "select", "--nonsense", "--run", "x", "--param", "") == []
    assert offered(*before, "estimate", "--where", 'arm == "') == []
    assert sorted(path.name for path in tmp_path.iterdir()) == (
        ["run.toml"] if damage in ("no file", "bad config") else ["curri.duckdb", "run.toml"]
    )


def test_while_a_run_holds_the_store_its_copy_is_read(offered: Offered, with_runs: Path) -> None:
    holder = (
        "import sys, curri\n"
        "with curri.open_store('curri.duckdb') as store:\n"
        "    store.publish()\n"
        "    print(flush=True)\n"
        "    sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", holder], cwd=with_runs, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert offered("select", "--run", "") == ["r2", "r1"]
        process.communicate()
    assert process.returncode == 0


def test_names_of_strategies_cost_no_heavy_import(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom curri.cli import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    line = {"strategy": ["curri select --strategy u", "3", []], "run": ["curri select --run r", "3", ["duckdb"]]}
    for words, at, heavy in line.values():
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "_CURRI_COMPLETE": "complete_bash",
                       "COMP_WORDS": str(words), "COMP_CWORD": str(at)}  # fmt: skip
        open_store(tmp_path / "curri.duckdb", create=True).close()
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True,
                              text=True, check=True)  # fmt: skip
        assert done.stderr == f"{heavy}\n"


# ---- real shells ----------------------------------------------------------------------------------------------------


@pytest.fixture
def shell_environment(with_runs: Path) -> dict[str, str]:
    """A home of its own, and a program curri on the path."""
    program = with_runs / "bin" / "curri"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m curri.cli "$@"\n')
    program.chmod(0o755)
    return {
        "PATH": f"{program.parent}:/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(with_runs),
        "TERM": "dumb",
    }


def typed(command: list[str], environment: dict[str, str], steps: list[tuple[str, str]], folder: str) -> None:
    """Types into an interactive shell; each step is what is typed and what must then appear."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        command, env=environment, cwd=folder, stdin=follower, stdout=follower, stderr=follower, start_new_session=True
    ) as process:
        os.close(follower)
        try:
            for text, wanted in steps:
                os.write(leader, text.encode())
                shown = _shown_until(leader, wanted)
                assert wanted in shown, (text, shown)
        finally:
            process.kill()
            os.close(leader)


def _shown_until(leader: int, wanted: str) -> str:
    shown = ""
    until = time.monotonic() + 60
    while wanted not in shown and time.monotonic() < until:
        ready, _, _ = select.select([leader], [], [], 1)
        if ready:
            shown += os.read(leader, 4096).decode(errors="replace")
    return shown


CLEAR = "\x15"


def test_in_bash(shell_environment: dict[str, str]) -> None:
    """Installed as users do, then the Tab key."""
    typed(
        ["bash", "--norc", "--noprofile", "-i"],
        shell_environment,
        [
            ("curri --install-completion && . ~/.bashrc && echo rea''dy\n", "ready"),
            ("curri select --strategy re\t", "reinforce-ada "),
            (f"{CLEAR}curri estimate --where 'arm == \"h\t", "'arm == \"hard\"' "),
            (f"{CLEAR}curri select --strategy ucb --param temp\t", "erature="),
        ],
        shell_environment["HOME"],
    )


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_in_zsh(shell_environment: dict[str, str]) -> None:
    typed(
        ["zsh", "-f", "-i"],
        shell_environment,
        [
            ("autoload -Uz compinit; compinit -u; source <(curri --show-completion); echo rea''dy\n", "ready"),
            ("curri select --strategy re\t", "reinforce-ada "),
            (f"{CLEAR}curri estimate --where 'not reti\t", "not retired"),
        ],
        shell_environment["HOME"],
    )


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_in_fish(shell_environment: dict[str, str]) -> None:
    script = (
        "curri --show-completion | source\n"
        "complete --do-complete 'curri select --strategy re'\n"
        "complete --do-complete 'curri select --run '\n"
        "complete --do-complete 'curri estimate --where \\'arm == \"h'\n"
    )
    done = subprocess.run(["fish", "--no-config", "-c", script], env=shell_environment, cwd=shell_environment["HOME"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    wanted = ["reinforce-ada", "r1\tucb", "r2\tuniform", 'arm == "hard"']
    assert done.stdout.splitlines() == wanted  # fish sorts them


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_can_be_shown(curri: Curri, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda: (shell, f"/bin/{shell}"))
    assert f"complete_{shell}" in curri("--show-completion").stdout
