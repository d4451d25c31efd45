"""Mending a store whose write-ahead log is damaged.

Everything is copied aside first, and that copy is never touched again. The log is cut behind the last transaction
before the damage: later ones may build on what is lost. What they held is read from a scratch copy, by a process of its
own, so that it can be said and, where it can, be recorded again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb

from curri.errors import StoreLocked, StoreNotFound, StoreUnreadable
from curri.store import connection as _connection
from curri.store.files import copy_handle, held, log_files, new_folder, refuse_if_held, refuse_if_short, sync_folder
from curri.store.salvage import Position, newer_copy, position_of
from curri.store.wal import COMMIT, Log, header_size, log_path, read_log

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

# A header that differs in more bytes is not a damaged one, but one of another store or another time.
_DAMAGED_BYTES = 4
_SALVAGE_SECONDS = 600


@dataclass(frozen=True)
class Repaired:
    """What became of a store.

    Attributes:
        path: the store.
        outcome: "healthy" (nothing was done), "cut" (the log was cut), or "set aside" (no part of it could be used).
        problem: what was wrong, in a sentence.
        kept: the folder with the copy of everything as it was, or None.
        transactions: how many of the log are in the store now.
        lost_transactions: how many were committed and are not, as far as can be seen.
        lost_bytes: bytes of the log that were given up.
        lost: what is known of what was lost: ``runs`` (by name: ``last`` transaction kept, ``transactions``,
            ``rounds``, ``events``, ``rollouts``), ``prompts``, ``rollouts`` (``model``, ``run``, number, the ``file``
            they were written to), ``unreadable`` transactions.
        newer_copy: a published copy that knows more of a run than the store does now, or None.
    """

    path: Path
    outcome: str
    problem: str
    kept: Path | None = None
    transactions: int = 0
    lost_transactions: int = 0
    lost_bytes: int = 0
    lost: dict[str, Any] = field(default_factory=dict)
    newer_copy: Path | None = None

    def document(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "store": str(self.path),
            "outcome": self.outcome,
            "problem": self.problem,
            "transactions": self.transactions,
            "lost_transactions": self.lost_transactions,
            "lost_bytes": self.lost_bytes,
            "lost": self.lost,
            "kept": None if self.kept is None else str(self.kept),
            "newer_copy": None if self.newer_copy is None else str(self.newer_copy),
        }


def repair_store(path: Path) -> Repaired:
    """Mend a store whose write-ahead log is damaged; one that is well stays as it is.

    Raises:
        StoreNotFound: there is no file.
        StoreLocked: a process has it open.
        StoreError: the disk has no room for the copies.
        StoreUnreadable: the file itself is damaged, not its log; nothing was changed.
    """
    if not path.is_file():
        raise StoreNotFound(f"there is no store at {path}", hint="is the path right?")
    refuse_if_held(path)
    log = read_log(log_path(path))
    refusal = _refusal(path)
    if refusal is None and log.is_sound:
        with duckdb.connect(str(path), read_only=True, config=_connection.CONFIG) as handle:
            newer = newer_copy(path, position_of(handle, path))
        return Repaired(path, "healthy", log.describe(), transactions=log.transactions, newer_copy=newer)
    if refusal is not None and log.trouble == "unknown":
        log = read_log(log_path(path), any_version=True)
    if refusal is not None and not log.size:
        raise _damaged_file(path, refusal)
    sizes = path.stat().st_size + sum(file.stat().st_size for file in log_files(path))
    refuse_if_short(path.parent, 3 * sizes, "keeping a copy and mending another")
    with held(path) as file:
        return _Repair(path, file, log, refusal or log.describe()).run()


def _damaged_file(path: Path, refusal: str) -> StoreUnreadable:
    copy = path.with_name(path.name + ".snapshot")
    newest = f"; the copy a run published is {copy}" if copy.exists() else ""
    return StoreUnreadable(
        f"{path} itself is damaged, not its write-ahead log: {refusal}",
        hint=f"put a backup in its place: cp BACKUP {path}{newest}; nothing was changed",
    )


def _refusal(path: Path) -> str | None:
    """Why DuckDB does not open a file to read, or None; nothing is changed by asking."""
    try:
        with duckdb.connect(str(path), read_only=True, config=_connection.CONFIG) as handle:
            handle.execute("select table_name from system.main.duckdb_tables()").fetchall()
    except (duckdb.Error, RuntimeError) as error:
        text = str(error)
        if "Could not set lock" in text:
            raise StoreLocked(f"the store {path} is held by another process", hint="wait for it to finish") from error
        return text.splitlines()[0]
    return None


class _Repair:
    """One store being mended, while no other process can open it."""

    def __init__(self, path: Path, file: BinaryIO, log: Log, problem: str) -> None:
        self._path = path
        self._file = file
        self._log = log
        self._problem = problem
        self._draft = path.with_name(f"{path.name}.repair.{os.getpid()}.tmp")
        self._draft_log = log_path(self._draft)

    def run(self) -> Repaired:
        kept = self._keep()
        try:
            self._start_over()
            copy_handle(self._file, self._draft)
            header, end = self._cut(kept)
            before = self._position()
            lost = self._lost(header, end, before, kept)
            transactions = self._commits_up_to(end)
            self._write_log(header, [(self._log.body, end)] if end else [])
            self._finish(kept)
        except BaseException:
            self._start_over()
            raise
        return Repaired(
            path=self._path,
            outcome="cut" if end else "set aside",
            problem=self._problem,
            kept=kept,
            transactions=transactions,
            lost_transactions=self._log.transactions + self._log.lost - transactions,
            lost_bytes=self._log.size - end,
            lost=lost,
            newer_copy=newer_copy(self._path, before),
        )

    def _keep(self) -> Path:
        """Copy everything into a folder beside the store."""
        folder = new_folder(self._path, "damaged")
        try:
            copy_handle(self._file, folder / self._path.name)
            for file in log_files(self._path):
                with file.open("rb") as source:
                    copy_handle(source, folder / file.name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        sync_folder(folder)
        sync_folder(folder.parent)
        return folder

    def _start_over(self) -> None:
        for file in (self._draft, *log_files(self._draft)):
            file.unlink(missing_ok=True)

    def _cut(self, kept: Path) -> tuple[bytes, int]:
        """The header, and the end of the longest beginning of the log that DuckDB accepts; 0 where it takes none."""
        refusal = self._tried(b"", 0)
        if refusal is not None:
            shutil.rmtree(kept)
            raise _damaged_file(self._path, refusal)
        if not self._log.transactions:
            return b"", 0
        for header in self._headers():
            if self._tried(header, self._log.good) is None:
                return header, self._log.good
        for header in self._headers():
            end = self._longest(header)
            if end:
                return header, end
        return b"", 0

    def _headers(self) -> list[bytes]:
        """The header as it is, and as DuckDB would write it now, if that is nearly the same."""
        raw = self._bytes(0, self._log.body)
        fresh = self._fresh_header()
        near = len(raw) == len(fresh) and sum(a != b for a, b in zip(raw, fresh, strict=True)) <= _DAMAGED_BYTES
        sound = header_size(raw) is not None and self._log.version is not None
        return [header for header, usable in ((raw, sound), (fresh, near and fresh != raw)) if usable]

    def _fresh_header(self) -> bytes:
        """What DuckDB puts at the head of a log for this very file; the file is not changed by asking."""
        self._draft_log.unlink(missing_ok=True)
        with duckdb.connect(str(self._draft), config=_connection.CONFIG) as handle:
            handle.execute("pragma disable_checkpoint_on_shutdown")
            handle.execute("create table curri_header (i integer)")
            size = header_size(data := self._draft_log.read_bytes()[:256])
        self._draft_log.unlink(missing_ok=True)
        return b"" if size is None else data[: size[0]]

    def _longest(self, header: bytes) -> int:
        """By halving: the last commit up to which DuckDB accepts the log; 0 if there is none."""
        ends = self._ends()
        low, high = 0, len(ends)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._tried(header, ends[middle - 1]) is None else (low, middle - 1)
        return ends[low - 1] if low else 0

    def _ends(self) -> list[int]:
        """Where the transactions before the damage end."""
        data = self._bytes(0, self._log.good)
        ends, place = [], data.find(COMMIT, self._log.body)
        while place >= 0:
            ends.append(place + len(COMMIT))
            place = data.find(COMMIT, ends[-1])
        return ends

    def _commits_up_to(self, end: int) -> int:
        if end in (0, self._log.good):
            return self._log.transactions if end else 0
        return sum(each <= end for each in self._ends())

    def _tried(self, header: bytes, end: int) -> str | None:
        """Why DuckDB does not accept the draft with so much of the log, or None."""
        self._write_log(header, [(self._log.body, end)] if end else [])
        return _refusal(self._draft)

    def _write_log(self, header: bytes, parts: list[tuple[int, int]]) -> None:
        if not parts:
            self._draft_log.unlink(missing_ok=True)
            return
        with self._log.path.open("rb") as source, self._draft_log.open("wb") as sink:
            sink.write(header)
            for start, end in parts:
                source.seek(start)
                _copy(source, sink, end - start)

    def _bytes(self, start: int, end: int) -> bytes:
        with self._log.path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def _position(self) -> Position:
        with duckdb.connect(str(self._draft), read_only=True, config=_connection.CONFIG) as handle:
            return position_of(handle, self._path)

    def _lost(self, header: bytes, end: int, before: Position, folder: Path) -> dict[str, Any]:
        """What the readable transactions behind the cut held, from a scratch copy that has them."""
        later = [(start, stop) for start, stop in self._log.parts if start >= max(end, self._log.body)]
        unknown = {"unreadable": self._log.transactions + self._log.lost - self._commits_up_to(end)}
        header = header or self._fresh_header()
        if not later or not header:
            return unknown
        self._write_log(header, ([(self._log.body, end)] if end else []) + later)
        command = [sys.executable, "-m", "curri.store.salvage", str(self._draft), str(folder)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
            done = subprocess.run(  # noqa: S603  our own module
                command,
                input=json.dumps(before),
                capture_output=True,
                text=True,
                check=True,
                timeout=_SALVAGE_SECONDS,
                env=environment,
            )
            found: dict[str, Any] = json.loads(done.stdout)
            return {**found, "unreadable": unknown["unreadable"] - self._log.readable}
        for half_written in folder.glob("lost-*.jsonl"):
            half_written.unlink()
        return unknown

    def _finish(self, kept: Path) -> None:
        """Let DuckDB move the cut log into the draft, and put that in the place of the store."""
        with duckdb.connect(str(self._draft), config=_connection.CONFIG) as handle:
            handle.execute("checkpoint")
        with self._draft.open("rb") as file:
            os.fsync(file.fileno())
        shutil.copystat(kept / self._path.name, self._draft)
        logs = log_files(self._path)
        self._draft.replace(self._path)
        for old in logs:  # an old log beside the new file is refused by DuckDB, never replayed
            old.unlink(missing_ok=True)
        self._draft_log.unlink(missing_ok=True)
        sync_folder(self._path.parent)


def _copy(source: BinaryIO, sink: BinaryIO, size: int) -> None:
    while size:
        chunk = source.read(min(size, 1 << 20))
        if not chunk:
            return
        sink.write(chunk)
        size -= len(chunk)
