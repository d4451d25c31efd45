"""What a command costs before it does anything: what it imports, and what typer has to check."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import typer

from curri.cli._commands import Commands
from curri.cli._values import PlainValues
from curri.errors import InvalidParameter
from curri.pool import PromptPool
from curri.store import open_store

ROOT = Path(__file__).resolve().parents[2]
UNUSED = ("pydantic", "pyarrow", "polars", "rich", "numpy.ma", "scipy", "curri.store.runs", "curri.scheduler.core")


def test_a_pick_without_a_run_imports_only_what_it_uses(filled: Path) -> None:
    program = (
        "import sys; sys.argv = ['curri', 'select', '--strategy', 'ucb', '-n', '3', '-o', 'batch.jsonl']\n"
        "from curri.cli import main\n"
        "try:\n    main()\nexcept SystemExit as exit: assert not exit.code, exit.code\n"
        f"unused = [name for name in {UNUSED} if name in sys.modules]\n"
        "others = [name for name in sys.modules if name.startswith('curri.cli.') and name[10] != '_']\n"
        "print(unused, sorted(others), file=sys.stderr)"
    )
    done = started(filled, program)
    assert done.stderr.splitlines()[-1] == "[] ['curri.cli.app', 'curri.cli.select']"
    assert len((filled / "batch.jsonl").read_text().splitlines()) == 3


def started(folder: Path, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, in a folder."""
    paths = os.pathsep.join(filter(None, [environment.pop("PYTHONPATH", ""), str(ROOT)]))
    environment = {"PATH": "", **environment, "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


OPENING = """
import os, sys, threading
from pathlib import Path
from curri.cli._options import opened
with opened(Path("curri.duckdb"), read_only=True):
    print("numpy" in sys.modules, threading.active_count(), os.environ.get("OPENBLAS_NUM_THREADS"))
"""
SELECT = (
    "import sys; sys.argv = ['curri', 'select', '-n', '3', '-o', 'batch.jsonl']; from curri.cli import main; main()"
)


@pytest.mark.parametrize("given", [{}, {"OPENBLAS_NUM_THREADS": "3"}])
def test_numpy_is_there_when_the_store_is_open(filled: Path, given: dict[str, str]) -> None:
    done = started(filled, OPENING, **given)
    assert (done.stdout, done.stderr) == (f"True 1 {given.get('OPENBLAS_NUM_THREADS')}\n", "")


def test_numpy_gets_one_thread_and_one_that_cannot_be_imported_is_one_line(filled: Path) -> None:
    (filled / "broken").mkdir()
    (filled / "broken" / "numpy.py").write_text(
        "import os; print(os.environ.get('OPENBLAS_NUM_THREADS')); raise ImportError('half installed')"
    )
    done = started(filled, SELECT, PYTHONPATH="broken")
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["1", "None"]  # in the thread, and again where it is used
    assert done.stderr.startswith("error: ImportError: half installed\n")
    assert "Traceback" not in done.stderr


def test_a_process_ends_without_a_word_of_the_libraries(filled: Path) -> None:
    done = started(filled, SELECT)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "wrote 3 prompts to batch.jsonl"


def test_a_command_is_built_when_it_is_asked_for() -> None:
    commands = Commands()
    assert "select" in commands
    assert "selct" not in commands
    assert commands.get("selct") is None
    assert not commands._built
    assert commands["select"] is commands["select"]
    assert [*commands._built] == ["select"]
    assert len(commands) == len([*commands])


class Plain(PlainValues, typer.core.TyperCommand):
    """A command of typer's that takes plain values."""


def parsed(*words: str) -> tuple[dict[str, Any], set[str]]:
    """What a command with a parameter of each kind gets, and which of them typer had to check."""
    app, got = typer.Typer(add_completion=False), {}

    @app.command(cls=Plain)
    def command(
        text: Annotated[str | None, typer.Option()] = None,
        path: Annotated[Path, typer.Option()] = Path("here"),
        folder: Annotated[Path | None, typer.Option(exists=True)] = None,
        count: Annotated[int, typer.Option(min=1, max=99)] = 5,
        share: Annotated[float, typer.Option()] = 0.5,
        many: Annotated[list[str] | None, typer.Option()] = None,
        numbers: Annotated[list[int] | None, typer.Option()] = None,
        switch: Annotated[bool, typer.Option()] = False,
    ) -> None:
        got.update(locals())

    group = typer.main.get_command(app)
    group.main([*words], standalone_mode=False)
    looked_at = {each.name for each in group.params if getattr(each, "_runtime_param", None) is not None}
    return {name: value for name, value in got.items() if name != "got"}, looked_at


DEFAULTS = {
    "text": None, "path": Path("here"), "folder": None, "count": 5, "share": 0.5, "many": None, "numbers": None,
    "switch": False,
}  # fmt: skip


@pytest.mark.skipif(not hasattr(typer.core.TyperOption, "get_runtime_param"), reason="this typer needs no pydantic")
@pytest.mark.parametrize(
    ("words", "changed", "looked_at"),
    [
        ([], {}, set()),
        (["--text", "a b", "--path", "there.txt", "--count", "99"],
         {"text": "a b", "path": Path("there.txt"), "count": 99}, set()),
        (["--many", "a=1", "--many", "b", "--switch"], {"many": ["a=1", "b"], "switch": True}, set()),
        (["--text", "é", "--path", "ü", "--many", "ö"],
         {"text": "é", "path": Path("ü"), "many": ["ö"]}, {"text", "path", "many"}),
        (["--count", "+7"], {"count": 7}, {"count"}),
        (["--share", "0.25", "--numbers", "3"], {"share": 0.25, "numbers": [3]}, {"share", "numbers"}),
        (["--folder", "/"], {"folder": Path("/")}, {"folder"}),
    ],
)  # fmt: skip
def test_plain_values_are_taken_and_others_are_left_to_typer(
    words: list[str], changed: dict[str, Any], looked_at: set[str]
) -> None:
    got, seen = parsed(*words)
    assert got == {**DEFAULTS, **changed}
    assert {name: type(value) for name, value in got.items()} == {
        name: type(value) for name, value in {**DEFAULTS, **changed}.items()
    }
    assert seen == looked_at


@pytest.mark.parametrize(
    "words", [["--count", "0"], ["--count", "100"], ["--count", "x"], ["--count", "٣٤٥"], ["--folder", "missing"]]
)
def test_what_is_wrong_is_refused_by_typer(words: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        parsed(*words)


def test_a_file_that_cannot_be_read_is_left_to_typer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "closed"
    file.touch()
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    with pytest.raises(typer.BadParameter, match="not readable"):
        parsed("--path", str(file))


def test_texts_fetched_once_are_those_of_the_files(filled: Path) -> None:
    with open_store(filled / "curri.duckdb") as store:
        ids = np.array([7, 2, 11, 2])
        assert store.texts.fetch_once(ids) == store.texts.fetch(ids)
        assert store.texts.fetch_once(ids[:0]) == []


def test_a_pool_of_places_in_names_is_that_of_names() -> None:
    names = ["math", "unused", "code"]
    by_name = PromptPool([7, 3, 5], ["math", "code", "math"])
    by_place = PromptPool([7, 3, 5], [0, 2, 0], arm_names=names)
    assert by_place.arm_names == by_name.arm_names == ("code", "math")
    assert by_place.arms.tolist() == by_name.arms.tolist()
    for wrong in (np.array([0, 3, 0]), np.array([0, -1, 0]), ["math", "code", "math"], None):
        with pytest.raises(InvalidParameter, match="places in `arm_names`"):
            PromptPool([7, 3, 5], wrong, arm_names=names)
    with pytest.raises(InvalidParameter, match="distinct"):
        PromptPool([7, 3, 5], [0, 1, 0], arm_names=["math", "math"])
