"""``curri store check | repair | compact | backup | migrate``, as a user meets them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from curri.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

ROOT = Path(__file__).resolve().parents[2]
KILLED = """
import os, signal, sys
from curri.scheduler import Scheduler
from curri.store import open_store
store = open_store(sys.argv[1])
scheduler = Scheduler(store, "ucb", run="\\x1b[31mr1", seed=0)
for _ in range(3):
    selection = scheduler.ask(2)
    scheduler.tell(selection.prompt_ids, [1.0, 0.0])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def damaged(filled: Path) -> Path:
    """A store whose writer was killed and whose log has a flipped bit in the fourth of seven transactions."""
    from curri.store.wal import COMMIT

    path = filled / "curri.duckdb"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    log = Path(f"{path}.wal")
    data = bytearray(log.read_bytes())
    assert data.count(COMMIT) == 7
    place = -1
    for _ in range(3):
        place = data.find(COMMIT, place + 1)
    data[place + 200] ^= 1
    log.write_bytes(data)
    return path


def test_check_of_a_store_that_is_well(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path
) -> None:
    result = curri("store", "check")
    assert "WRONG" not in result.stdout
    assert "schema version 1" in result.stdout
    document = answer("store", "check", "--all")
    assert all(finding["ok"] for finding in document["findings"])
    assert document["rows"]["prompts"] == 12


def test_check_names_what_helps_and_gives_exit_code_1(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path
) -> None:
    with duckdb.connect(str(filled / "curri.duckdb")) as handle:
        handle.execute("update prompts set arm_id = 99 where prompt_id = 3")
    result = curri("store", "check", code=1)
    assert "WRONG  prompts without an arm" in result.stdout
    assert "cp BACKUP" in result.stderr
    document = answer("store", "check", code=1)
    assert document["error"]["code"] == "store_damaged"
    assert "prompt_id 3" in document["error"]["message"]


def test_a_damaged_log_is_met_found_and_mended(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], damaged: Path
) -> None:
    assert "curri store repair" in curri("estimate", code=1).stderr
    assert "the write-ahead log is damaged" in curri("store", "check", code=1).stdout
    said = curri("store", "repair").stderr
    assert "it is kept in curri.duckdb.damaged-1" in said
    assert "kept up to transaction 2; of 4 to 6" in said
    assert "could be read; to have them back: curri record curri.duckdb.damaged-1/lost-0.jsonl" in said
    assert "\x1b" not in said
    curri("store", "check")
    lost = damaged.with_name("curri.duckdb.damaged-1") / "lost-0.jsonl"
    assert "recorded" in curri("record", str(lost), "--run", "\x1b[31mr1").stderr
    assert answer("record", str(lost), "--run", "\x1b[31mr1")["new"] == 0
    curri("store", "check")
    assert answer("store", "repair")["outcome"] == "healthy"
    assert "nothing to mend" in curri("store", "repair").stderr


def test_compact(curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path) -> None:
    assert "every row was compared" in curri("store", "compact").stderr
    assert answer("store", "compact")["rows"]["prompts"] == 12
    curri("select", "--strategy", "uniform", "-n", "2", "-o", "b.jsonl")


def test_backup(curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path) -> None:
    assert "wrote copy.duckdb" in curri("store", "backup", "copy.duckdb").stderr
    assert "--overwrite" in curri("store", "backup", "copy.duckdb", code=1).stderr
    assert answer("store", "backup", "copy.duckdb", "--overwrite")["age"] == 0
    curri("store", "check", "--store", "copy.duckdb")


def test_what_works_while_a_run_holds_the_store(filled: Path) -> None:
    def program(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "curri.cli", *words],
            cwd=filled,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    with open_store(filled / "curri.duckdb") as store:
        store.publish()
        done = program("store", "check")
        assert (done.returncode, "a copy it published" in done.stderr) == (0, True), done.stderr
        done = program("store", "backup", "copy.duckdb")
        assert (done.returncode, "this is how it was" in done.stderr) == (0, True), done.stderr
        assert program("store", "repair").returncode == 3


def test_migrate(curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path) -> None:
    assert "nothing to do" in curri("store", "migrate").stderr
    assert answer("store", "migrate")["after"] == 1
    with duckdb.connect(str(filled / "curri.duckdb")) as handle:
        handle.execute("update meta set value = '99' where key = 'schema_version'")
    for command in ("migrate", "check", "info"):
        assert "99" in curri("store", command, code=1).output
    assert "pip install -U curri" in curri("store", "migrate", code=1).stderr
