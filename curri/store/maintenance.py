"""Making a store smaller, and copying it while it is in use."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidInput, StoreError, StoreNotFound
from curri.store import schema
from curri.store.connection import Connection
from curri.store.files import held, log_files, refuse_if_held, refuse_if_short, sync_folder
from curri.store.prompt_store import open_store
from curri.store.texts import SEGMENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from curri.store.prompt_store import PromptStore

_SHARE = 1.5
"""How much larger than a store a copy of it may become: DuckDB writes whole blocks."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What became of a store: bytes before and after, rows of every table."""

    path: Path
    before: int
    after: int
    rows: dict[str, int]

    def document(self) -> dict[str, Any]:
        """The same as plain values."""
        return {**asdict(self), "store": str(self.path), "path": None}


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A copy of a store.

    Attributes:
        path: the store.
        target: the copy.
        bytes: its size.
        rows: rows of every table in it.
        age: seconds since what is in the copy was the store; 0 where no other process holds the store.
    """

    path: Path
    target: Path
    bytes: int
    rows: dict[str, int]
    age: float

    def document(self) -> dict[str, Any]:
        """The same as plain values."""
        return {**asdict(self), "store": str(self.path), "path": None, "target": str(self.target)}


def compact_store(path: Path) -> Compacted:
    """Write a store anew without the room that deleted rows have left; its texts are written anew too.

    The new file takes the place of the old one when every table in it was compared with the old one.

    Raises:
        StoreLocked: a process has it open, this one included.
        StoreError: the disk has no room, or the copy is not the same; the store is as it was.
    """
    refuse_if_held(path)
    with open_store(path) as store:
        store.checkpoint()
        at_first = path.stat()
        before = at_first.st_size
        refuse_if_short(path.parent, int(_SHARE * before), "writing the store anew")
        with _draft_of(path, "compact") as draft:
            store.connection.copy_to(draft)
            rows = _compared(store.connection, draft)
            shutil.copystat(path, draft)
            _sync(draft)
            store.close()
            with held(path):
                if log_files(path) or _changed(at_first, path.stat()):
                    raise StoreError(f"{path} was written to meanwhile; it is as it was", hint="run the command again")
                draft.replace(path)
            sync_folder(path.parent)
    rebuild_texts(path)
    return Compacted(path, before, path.stat().st_size, rows)


def _changed(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size)


def rebuild_texts(path: Path) -> None:
    """Write the memory-mapped copy of the prompts' texts anew; it is derived data."""
    shutil.rmtree(path.with_name(path.name + ".texts"), ignore_errors=True)
    with open_store(path) as store:
        last = int(store.connection.value("select coalesce(max(prompt_id), 0) from prompts"))
        for end in range(SEGMENT, last + SEGMENT, SEGMENT):
            store.texts.fetch(np.array([min(end, last)], dtype=np.int64))


def backup_store(path: Path, target: Path, *, overwrite: bool = False) -> BackedUp:
    """Copy a store as one file, also while it is in use.

    In the process that holds it, and where none does, the copy is of this moment. While another process holds it, the
    copy that process last published is taken, and ``age`` says how old it is.

    Raises:
        InvalidInput: the target is the store, or is there and ``overwrite`` is off.
        StoreLocked: a run holds the store and has not published a copy yet.
        StoreError: the copy cannot be written.
    """
    _refuse_target(path, target, overwrite=overwrite)
    with open_store(path, read_only=True) as store, _draft_of(target, "backup") as draft:
        refuse_if_short(target.parent, int(_SHARE * _size_of(store)), "a backup")
        store.connection.copy_to(draft)
        rows = _compared(store.connection, draft)
        _sync(draft)
        age = store.snapshot_age or 0.0
        draft.replace(target)
        sync_folder(target.parent)
    return BackedUp(path, target, target.stat().st_size, rows, age)


def _refuse_target(path: Path, target: Path, *, overwrite: bool) -> None:
    if target.is_dir():
        raise InvalidInput(f"{target} is a directory", hint=f"name a file: {target / path.name}")
    if not target.parent.is_dir():
        raise StoreNotFound(f"the folder {target.parent} does not exist", hint=f"make it: mkdir -p {target.parent}")
    own = path.resolve()
    if target.resolve() in {own.with_name(own.name + end) for end in ("", ".wal", ".snapshot", ".texts")}:
        raise InvalidInput(f"{target} belongs to the store itself", hint="name another file for the backup")
    if target.exists() and not overwrite:
        raise InvalidInput(f"{target} is there already", hint="name another file, or say --overwrite")
    if log_files(target):
        raise InvalidInput(f"beside {target} is a write-ahead log of another store", hint="name another file")


def _size_of(store: PromptStore) -> int:
    read = store.connection.path
    return read.stat().st_size + sum(log.stat().st_size for log in log_files(read))


@contextlib.contextmanager
def _draft_of(path: Path, word: str) -> Iterator[Path]:
    """A new file beside one, gone at the end unless it was renamed."""
    draft = path.with_name(f"{path.name}.{word}.{os.getpid()}.{time.monotonic_ns()}.tmp")
    try:
        yield draft
    except OSError as error:
        raise StoreError(f"{draft} cannot be written: {error.strerror or error}") from error
    finally:
        for file in (draft, *log_files(draft)):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _compared(connection: Connection, copy: Path) -> dict[str, int]:
    """Rows of every table, after comparing their number, content and order with those of a copy.

    Raises:
        StoreError: they differ.
    """
    copied = Connection(copy, read_only=True)
    try:
        old, new = _digests(connection), _digests(copied)
    finally:
        copied.close()
    if old != new:
        different = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        raise StoreError(
            f"the copy of {connection.path} is not the same in {', '.join(different)}; it was thrown away",
            hint=f"look whether the store is well: curri store check --store {connection.path}",
        )
    return {name: rows for name, (rows, _) in new.items()}


def _digests(connection: Connection) -> dict[str, tuple[int, Any]]:
    """For each table its rows and a digest of them, in their order."""
    names = schema.tables(connection)
    with connection.all_cores():
        return {
            name: tuple(
                connection.rows(
                    f"""select count(*), bit_xor(hash(t, place))
                        from (select t, row_number() over () as place from "{name}" t)"""  # noqa: S608
                )[0]
            )
            for name in names
        }
