"""One DuckDB file, one process: opening, locking, transactions, forks."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import duckdb

from curri.errors import StoreClosed, StoreError, StoreForked, StoreLocked, StoreUnreadable, WriteFailed
from curri.store.wal import log_path, read_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

STORAGE_VERSION = "v1.5.0"
"""Files are written so that DuckDB 1.5 can read them too."""

CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "storage_compatibility_version": STORAGE_VERSION,
    "checkpoint_threshold": "256MB",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    # A trainer needs its cores, and the small transactions of a round are faster on one thread; see `all_cores`.
    "threads": "1",
}
"""Settings of every connection."""
_HOLDER = re.compile(r"held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_REFUSED = re.compile(r"Read-only file system|Permission denied|Operation not permitted")


class Connection:
    """The only way to the file: every statement goes through here, one at a time.

    Args:
        path: the DuckDB file; created when missing, unless ``read_only``.
        read_only: refuse writes.

    Raises:
        StoreLocked: another process holds the file.
        StoreForked: it was open when this process was forked off.
        StoreUnreadable: DuckDB cannot open it.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._depth = 0
        self._failed = False
        self._all_cores = False
        self._schemas: dict[str, pa.Schema] = {}
        self._inlets: dict[str, SimpleNamespace] = {}
        self._handle: Any = _connect(path, read_only=read_only)
        _ALIVE.add(self)

    @property
    def is_open(self) -> bool:
        """Whether it can still be used."""
        return self._handle is not None

    @property
    def is_sound(self) -> bool:
        """Whether no write has failed on it."""
        return not self._failed

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open that may still be undone."""
        return self._depth > 0

    def _usable(self) -> Any:
        if os.getpid() != self._pid:
            raise StoreForked(
                f"the store {self.path} was opened in process {self._pid} and is used in its child {os.getpid()}",
                hint="open nothing before fork(): give workers ids and texts, or let them read `store.texts`",
            )
        if self._handle is None:
            raise StoreClosed(f"the store {self.path} is closed", hint="open it again with `curri.open_store`")
        if self._failed:
            raise WriteFailed(
                f"a write to {self.path} failed before, so what it holds is not known for sure",
                hint="close it and open it again: what was committed is there, what was not is gone as a whole",
            )
        return self._handle

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement that gives no rows back."""
        with self._lock:
            self._usable().execute(sql, list(parameters)).fetchall()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query as Python values."""
        with self._lock:
            found: list[tuple[Any, ...]] = self._usable().execute(sql, list(parameters)).fetchall()
            return found

    def value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first value of the first row, or None."""
        found = self.rows(sql, parameters)
        return found[0][0] if found else None

    def arrow(self, sql: str, parameters: Sequence[Any] = (), **views: pa.Table) -> pa.Table:
        """All rows of a query as an Arrow table; ``views`` are Arrow tables the query may name."""
        with self._lock, self._registered(views) as handle:
            return handle.sql(sql, params=list(parameters)).to_arrow_table()

    def columns(self, sql: str, parameters: Sequence[Any] = ()) -> dict[str, NDArray[Any]]:
        """All rows of a query as NumPy arrays, of columns without NULL; takes no import of Arrow, unlike ``arrow``."""
        with self._lock:
            found: dict[str, NDArray[Any]] = self._usable().execute(sql, list(parameters)).fetchnumpy()
            return found

    def insert(self, table: str, rows: pa.Table) -> None:
        """Append an Arrow table whose columns are named like those of ``table``; the others get NULL."""
        with self._lock:
            handle = self._usable()
            schema = self.schema(table)
            whole = _completed(rows, schema)
            if whole.schema.types == schema.types:
                self._insert_prepared(handle, table, whole)
            else:
                handle.from_arrow(whole).insert_into(table)

    def _insert_prepared(self, handle: Any, table: str, rows: pa.Table) -> None:
        """Append rows of the table's own types by a statement that is planned once, which takes a third of the time."""
        name = f"curri: into {table}"
        inlet = self._inlets.get(table)
        if inlet is None:
            empty = rows.schema.empty_table()
            inlet = SimpleNamespace(__arrow_c_stream__=empty.__arrow_c_stream__, empty=empty)
            handle.register(name, inlet)
            handle.execute(f'prepare "{name}" as insert into "{table}" from "{name}"').fetchall()
            self._inlets[table] = inlet
        inlet.__arrow_c_stream__ = rows.__arrow_c_stream__
        try:
            written = handle.execute(f'execute "{name}"').fetchall()
        finally:  # rows are not kept; whoever lists tables and views finds an empty one
            inlet.__arrow_c_stream__ = inlet.empty.__arrow_c_stream__
        if written != [(rows.num_rows,)]:  # the transaction is undone
            raise StoreError(f"DuckDB wrote {written} rows into {table}; {rows.num_rows} were handed to it")

    def schema(self, table: str) -> pa.Schema:
        """Names and types of a table's columns."""
        if table not in self._schemas:
            self._schemas[table] = self.arrow(f'select * from "{table}" limit 0').schema  # noqa: S608
        return self._schemas[table]

    @contextlib.contextmanager
    def _registered(self, views: Mapping[str, pa.Table]) -> Iterator[Any]:
        handle = self._usable()
        for name, table in views.items():
            handle.register(name, table)
        try:
            yield handle
        finally:
            for name in views:
                handle.unregister(name)

    @contextlib.contextmanager
    def all_cores(self) -> Iterator[None]:
        """Let DuckDB use every core for what is done inside: bulk loads, scans, copies."""
        cores = os.cpu_count() or 1
        with self._lock:
            outermost, self._all_cores = not self._all_cores, True
            try:
                if outermost and cores > 1:
                    self.execute(f"set threads = {cores}")
                yield
            finally:
                if outermost:
                    self._all_cores = False
                    if cores > 1 and self.is_open and not self._failed:
                        self.execute("set threads = 1")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside are written together or not at all; may be nested (the outermost one counts).

        Raises:
            WriteFailed: the commit failed. Nothing more is done on this connection, because DuckDB may or may not have
                written it; opening the store again settles it.
        """
        with self._lock:
            if self._depth:
                yield
                return
            handle = self._usable()
            if self.read_only:
                raise StoreError(f"the store {self.path} is open for reading only", hint="open it without `read_only`")
            handle.execute("begin transaction").fetchall()
            self._depth = 1
            try:
                yield
            except BaseException:
                self._depth = 0
                self._roll_back(handle)
                raise
            self._depth = 0
            self._commit(handle)

    def _commit(self, handle: Any) -> None:
        self._failed = True  # an interrupt may come between the commit and its answer
        try:
            handle.execute("commit").fetchall()
        except (duckdb.Error, RuntimeError) as error:
            raise WriteFailed(
                f"writing to {self.path} failed: {_first_line(error)}",
                hint="free space or mend the disk, then open the store again; `curri` commands can simply be repeated",
            ) from error
        self._failed = False

    def _roll_back(self, handle: Any) -> None:
        self._failed = True
        self._inlets.clear()  # those that were made in this transaction are undone with it
        with contextlib.suppress(duckdb.Error, RuntimeError):
            handle.execute("rollback").fetchall()
            self._failed = False

    def copy_to(self, path: Path) -> None:
        """Copy the whole database into a new file, as it is at this moment.

        Raises:
            StoreError: the copy cannot be written; the store itself is as it was.
        """
        target = str(path).replace("'", "''")
        try:
            with self.all_cores():
                source = self.value("select current_database()")
                self.execute(f"attach '{target}' as copied (read_write, storage_version '{STORAGE_VERSION}')")
                try:
                    self.execute(f'copy from database "{source}" to copied')
                finally:
                    self.execute("detach copied")
        except duckdb.Error as error:
            message = f"{self.path} cannot be copied to {path}: {_first_line(error)}"
            raise StoreError(message, hint="is there room on the disk, and may this user write there?") from error

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file."""
        if not self.read_only:
            self.execute("checkpoint")

    def close(self) -> None:
        """Close the file; DuckDB writes a checkpoint first. Closing twice is harmless."""
        with self._lock:
            if self._handle is not None and os.getpid() == self._pid:
                self._handle.close()
            self._handle = None
            _ALIVE.discard(self)


def _connect(path: Path, *, read_only: bool) -> Any:
    if path.resolve() in _INHERITED:
        raise StoreForked(
            f"the store {path} was open in process {os.getppid()} when this child was forked off",
            hint="open it in a process of its own: start workers with spawn or forkserver",
        )
    _refuse_silent_loss(path)
    try:
        return duckdb.connect(str(path), read_only=read_only, config=CONFIG)
    except duckdb.Error as error:
        message = str(error)
        holder = _HOLDER.search(message)
        if holder or "Could not set lock" in message:
            raise _locked(path, holder) from error
        if "WAL" in message:
            raise StoreUnreadable(
                f"{path} cannot be opened as a store: {_first_line(error)}", hint=repair_hint(path)
            ) from error
        refused = _REFUSED.search(message)
        if refused:
            verb = "read" if read_only else "written to"
            hint = "commands that only read go on working" if path.exists() and not read_only else None
            raise StoreError(f"{path} cannot be {verb}: {refused[0]}", hint=hint) from error
        hint = "is the path right? a store is made by `curri init`; a damaged one can be restored from a backup"
        # DuckDB 2 takes a file of rows (JSON, CSV, Parquet) for tables to put into a database in memory
        reason = "it is no DuckDB file" if "in-memory" in message else _first_line(error)
        raise StoreUnreadable(f"{path} cannot be opened as a store: {reason}", hint=hint) from error


def _refuse_silent_loss(path: Path) -> None:
    """Refuse a store whose log is damaged in a way that makes DuckDB drop committed transactions without a word."""
    log = read_log(log_path(path), verify=False)
    if log.trouble in ("damaged", "header"):
        try:  # while another process writes, what is read of the log means nothing
            duckdb.connect(str(path), read_only=True, config=CONFIG).close()
        except duckdb.Error as error:
            holder = _HOLDER.search(str(error))
            if holder or "Could not set lock" in str(error):
                raise _locked(path, holder) from error
        raise StoreUnreadable(f"{path} cannot be opened without a loss: {log.describe()}", hint=repair_hint(path))


def repair_hint(path: Path) -> str:
    """What mends a damaged write-ahead log."""
    return f"mend it, keeping a copy of everything: curri store repair --store {path}"


def is_open_here(path: Path) -> bool:
    """Whether this process has a file open."""
    wanted = path.resolve()
    return any(connection.is_open and connection.path.resolve() == wanted for connection in _ALIVE)


def _completed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The same rows with all columns of ``schema`` in its order."""
    if rows.schema.names == schema.names:
        return rows
    import pyarrow as pa

    given = set(rows.column_names)
    columns = [rows.column(f.name) if f.name in given else pa.nulls(rows.num_rows, f.type) for f in schema]
    return pa.Table.from_arrays(columns, names=schema.names)


def _locked(path: Path, holder: re.Match[str] | None) -> StoreLocked:
    pid = int(holder["pid"]) if holder else None
    who = f"process {pid} ({holder['program']})" if holder else "another process"
    return StoreLocked(
        f"the store {path} is held by {who}; one process at a time can use it",
        hint="wait for it to finish and run the command again; or, if nothing needs it any more, stop that process",
        pid=pid,
    )


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


_ALIVE: set[Connection] = set()
_INHERITED: set[Path] = set()
"""Files that were open when this process was forked off: DuckDB would hand out the parent's instance for them."""


def _leak_handles_in_child() -> None:
    """After fork(), keep DuckDB's destructors from running in the child: they would write to the parent's file."""
    for connection in _ALIVE:
        _INHERITED.add(connection.path.resolve())
        if connection._handle is not None:  # noqa: SLF001  same module
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection._handle))  # noqa: SLF001
        connection._lock = threading.RLock()  # noqa: SLF001  the parent may have held it while forking
    _ALIVE.clear()


os.register_at_fork(after_in_child=_leak_handles_in_child)
