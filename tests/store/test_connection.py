"""One file, one process: locks, forks, transactions, damaged and foreign files. Other processes are real ones."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from curri.errors import (
    StoreClosed,
    StoreError,
    StoreLocked,
    StoreNotFound,
    StoreUnreadable,
    StoreVersion,
    WriteFailed,
)
from curri.store import NewPrompt, PromptStore, open_store
from curri.store.connection import Connection
from curri.store.schema import tables

ROOT = Path(__file__).resolve().parents[2]


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_second_process_is_told_who_holds_the_store(store: PromptStore) -> None:
    code = """
        import sys, curri
        from curri.errors import StoreLocked
        try:
            curri.open_store(sys.argv[1])
        except StoreLocked as error:
            print(error.pid, error.exit_code, error)
    """
    done = run_python(code, str(store.path))
    pid, exit_code, message = done.stdout.split(" ", 2)
    assert (int(pid), int(exit_code)) == (os.getpid(), 3), done.stderr
    assert f"held by process {os.getpid()}" in message
    assert "wait for it to finish" in message


def test_a_store_held_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "p.duckdb"
    code = """
        import sys, curri
        store = curri.open_store(sys.argv[1], create=True)
        print("ready", flush=True)
        sys.stdin.read()
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(StoreLocked) as caught:
            open_store(path)
        assert caught.value.pid == holder.pid
    finally:
        holder.communicate(timeout=60)
    open_store(path).close()


def test_opening_twice_gives_the_same_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = open_store("p.duckdb", create=True)
    second = open_store(tmp_path / "p.duckdb")
    assert first is second
    first.close()
    assert len(second.prompts) == 0
    second.close()
    with pytest.raises(StoreClosed, match="is closed"):
        len(second.prompts)
    third = open_store("p.duckdb")
    assert third is not first
    third.close()


def test_closing_more_often_than_opening_is_harmless(tmp_path: Path) -> None:
    store = open_store(tmp_path / "p.duckdb", create=True)
    store.close()
    store.close()


def test_a_forked_child_is_refused_and_does_no_harm(tmp_path: Path) -> None:
    code = """
        import os, sys, curri
        from curri.store import NewPrompt
        from curri.errors import StoreForked
        store = curri.open_store(sys.argv[1], create=True)
        store.prompts.add([NewPrompt("before", False, "1", "x")])
        child = os.fork()
        if not child:
            add = lambda: store.prompts.add([NewPrompt("child", False, "1", "x")])
            for use in (add, lambda: len(store.prompts), lambda: curri.open_store(sys.argv[1])):
                try:
                    use()
                except StoreForked as error:
                    print("refused", error.message, flush=True)
            store.close()
            sys.exit(0)  # an ordinary exit, with every destructor
        assert os.waitpid(child, 0)[1] == 0
        store.prompts.add([NewPrompt("after", False, "1", "x")])
        store.close()
        with curri.open_store(sys.argv[1]) as store:
            print(len(store.prompts), [p.prompt for p in store.texts.fetch(store.pool().ids)])
    """
    done = run_python(code, str(tmp_path / "p.duckdb"))
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["refused"] * 3, done.stderr
    assert "was opened in process" in lines[0]
    assert "when this child was forked off" in lines[2]
    assert lines[3:] == ["2 ['before', 'after']"], done.stderr


def test_a_transaction_is_whole_or_nothing(store: PromptStore) -> None:
    def half_done() -> None:
        with store.transaction():
            store.prompts.add([NewPrompt("x", False, "1", "x")])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half_done()
    assert len(store.prompts) == 30
    store.prompts.add([NewPrompt("x", False, "1", "x")])
    assert len(store.prompts) == 31


def test_nested_transactions_are_one(store: PromptStore) -> None:
    def outer() -> None:
        with store.transaction():
            with store.transaction():
                store.prompts.add([NewPrompt("x", False, "1", "x")])
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        outer()
    assert len(store.prompts) == 30


def test_after_a_failed_commit_nothing_more_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection(tmp_path / "p.duckdb")
    connection.execute("create table t (a integer)")

    class Full:
        """A handle whose commit fails, as on a full disk."""

        def __init__(self, handle: duckdb.DuckDBPyConnection) -> None:
            self.handle = handle

        def __getattr__(self, name: str) -> object:
            return getattr(self.handle, name)

        def execute(self, sql: str, *arguments: object) -> object:
            if sql == "commit":
                raise duckdb.Error("No space left on device")
            return self.handle.execute(sql, *arguments)

    monkeypatch.setattr(connection, "_handle", Full(connection._handle))
    with pytest.raises(WriteFailed, match="No space left on device"), connection.transaction():
        connection.execute("insert into t values (1)")
    with pytest.raises(WriteFailed, match="not known for sure"):
        connection.rows("select * from t")
    monkeypatch.undo()
    connection.close()
    again = Connection(tmp_path / "p.duckdb")
    assert again.rows("select * from t") == []
    again.close()


def test_read_only_refuses_to_write(tmp_path: Path) -> None:
    open_store(tmp_path / "p.duckdb", create=True).close()
    connection = Connection(tmp_path / "p.duckdb", read_only=True)
    with pytest.raises(StoreError, match="open for reading only"), connection.transaction():
        pass
    connection.close()


def test_missing_paths_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match="curri init --store"):
        open_store(tmp_path / "none.duckdb")
    with pytest.raises(StoreNotFound, match="mkdir -p"):
        open_store(tmp_path / "no" / "folder.duckdb", create=True)
    with pytest.raises(StoreNotFound, match="is a directory"):
        open_store(tmp_path)


@pytest.mark.parametrize("content", [b"not a database at all", b"\x00" * 20_000])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.duckdb"
    path.write_bytes(content)
    with pytest.raises(StoreUnreadable, match="cannot be opened as a store"):
        open_store(path)
    assert path.read_bytes() == content


def test_a_database_that_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "p.duckdb"
    with duckdb.connect(str(path)) as foreign:
        foreign.execute("create table mine (a integer)")
    with pytest.raises(StoreUnreadable, match="not a curri store"):
        open_store(path)
    with pytest.raises(StoreUnreadable, match="not a curri store"):
        open_store(path, create=True)


def test_a_store_of_a_newer_version(tmp_path: Path) -> None:
    path = tmp_path / "p.duckdb"
    open_store(path, create=True).close()
    with duckdb.connect(str(path)) as newer:
        newer.execute("update meta set value = '99' where key = 'schema_version'")
    with pytest.raises(StoreVersion, match=r"schema version 99(.|\n)*pip install -U curri"):
        open_store(path)


def test_views_do_not_outlive_their_statement(store: PromptStore) -> None:
    table = pa.table({"a": [1]})
    assert store.connection.arrow("select * from mine", mine=table).num_rows == 1
    with pytest.raises(duckdb.Error):
        store.connection.rows("select * from mine")


def test_python_variables_are_not_tables(store: PromptStore) -> None:
    leaked = pa.table({"a": [1]})
    with pytest.raises(duckdb.Error):
        store.connection.rows("select * from leaked")
    assert leaked.num_rows == 1


def test_locked_errors_survive_a_worker_process() -> None:
    error = copy.copy(StoreLocked("m", "h", 7))  # the protocol that workers use too
    assert (error.message, error.hint, error.pid) == ("m", "h", 7)


def test_files_can_be_read_by_the_older_duckdb(store: PromptStore) -> None:
    found = store.connection.rows("select tags from duckdb_databases() where not internal and path is not null")
    assert "v1.5" in str(found) or duckdb.__version__.startswith("1.5")


def test_readers_use_the_published_copy_while_a_run_holds_the_store(store: PromptStore) -> None:
    code = """
        import sys, curri
        from curri.errors import CurriError
        try:
            with curri.open_store(sys.argv[1], read_only=True) as store:
                answer = store.texts.fetch(store.pool().ids[:1])[0].answer
                print(len(store.prompts), store.snapshot_age is not None, answer)
        except CurriError as error:
            print(error.code)
    """
    assert run_python(code, str(store.path)).stdout == "store_locked\n"
    assert store.publish() > 0
    store.prompts.add([NewPrompt("after the copy", False, "1", "x")])
    assert run_python(code, str(store.path)).stdout == "30 True 0\n"
    path = store.path
    store.close()
    assert run_python(code, str(path)).stdout == "31 False 0\n"
    assert not [file for file in path.parent.iterdir() if file.name.endswith(".tmp")]


def test_publishing_again_replaces_the_copy(store: PromptStore) -> None:
    store.publish()
    store.prompts.add([NewPrompt("x", False, "1", "x")])
    store.publish()
    connection = Connection(store.path.with_name(store.path.name + ".snapshot"), read_only=True)
    assert connection.value("select count(*) from prompts") == 31
    connection.close()


def test_the_copy_of_a_deleted_store_is_not_taken_for_this_one(tmp_path: Path) -> None:
    path = tmp_path / "p.duckdb"
    with open_store(path, create=True) as old:
        old.publish()
    path.unlink()
    with open_store(path, create=True):
        assert not path.with_name("p.duckdb.snapshot").exists()


def test_opening_to_read_what_this_process_writes_gives_the_same_object(store: PromptStore) -> None:
    with open_store(store.path, read_only=True) as again:
        assert again is store
    assert store.is_open


def arms(*numbers: int, kind: pa.DataType | None = None) -> pa.Table:
    return pa.table(
        {"name": pa.array([f"a{i}" for i in numbers], pa.string()), "arm_id": pa.array(numbers, kind or pa.int32())}
    )


def test_rows_are_appended_again_after_a_transaction_was_undone(tmp_path: Path) -> None:
    """The statement that appends is made in the first transaction, and goes with it."""
    with open_store(tmp_path / "p.duckdb", create=True) as opened:
        connection = opened.connection

        def fail() -> None:
            with connection.transaction():
                connection.insert("arms", arms(1, 2))
                connection.execute("select * from nothing")

        with pytest.raises(duckdb.Error):
            fail()
        with connection.transaction():
            connection.insert("arms", arms(3))
            connection.insert("arms", arms(4, 5))
        assert connection.rows("select arm_id, name from arms order by 1") == [(3, "a3"), (4, "a4"), (5, "a5")]


def test_rows_of_other_types_are_cast(store: PromptStore) -> None:
    connection = store.connection
    for kind in (None, pa.int64(), pa.uint16(), pa.float64(), None):
        connection.execute("delete from arms where arm_id = 77")
        connection.insert("arms", arms(77, kind=kind))
        assert connection.rows("select arm_id, name from arms where arm_id = 77") == [(77, "a77")]


def test_rows_are_not_kept_and_nobody_sees_how_they_came(store: PromptStore) -> None:
    store.connection.insert("arms", arms(7))
    assert store.connection.rows('select * from "curri: into arms"') == []
    assert "curri: into arms" not in tables(store.connection)
    assert "arms" in tables(store.connection)


def test_rows_that_duckdb_does_not_write_are_an_error(tmp_path: Path) -> None:
    """The stream behind a prepared insert is swapped; if DuckDB ever kept another one, rows would be lost unseen."""
    connection = Connection(tmp_path / "p.duckdb")
    connection.execute("create table t (n bigint)")
    rows = pa.table({"n": pa.array([1, 2, 3], pa.int64())})
    connection.insert("t", rows)
    connection._inlets["t"] = copy.copy(connection._inlets["t"])  # not the one that DuckDB reads
    with pytest.raises(StoreError, match="3 were handed"):
        connection.insert("t", rows)
    assert connection.rows("select count(*) from t") == [(3,)]
    connection.close()
