"""The prompt store: one DuckDB file with prompts, rollouts, runs, and the state of their strategies."""

from __future__ import annotations

import contextlib
import os
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from curri.errors import StoreError, StoreLocked, StoreNotFound
from curri.store import schema
from curri.store.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from curri.pool import PromptPool
    from curri.store.priors import PriorTable
    from curri.store.prompts import PromptTable
    from curri.store.rollouts import RolloutTable
    from curri.store.runs import RunTable
    from curri.store.texts import PromptTexts


class PromptStore:
    """An open store. Get one from :func:`open_store`; use it as a context manager or call ``close``.

    Attributes:
        path: the DuckDB file.
        attached: what others keep with the store for as long as it is open, by name.
        snapshot_age: seconds since the published copy was made that is read here, because a run holds the store; None
            when the store itself is read.
    """

    def __init__(self, path: Path, *, create: bool = False, read_only: bool = False) -> None:
        self.path = path
        self.snapshot_age: float | None = None
        self._connection = self._opened_to_read() if read_only else Connection(path)
        self._users = 0
        self._pid = os.getpid()
        self._before_close: dict[str, Callable[[], None]] = {}
        self.attached: dict[str, Any] = {}
        try:
            if create and schema.is_empty(self._connection):
                _snapshot_of(path).unlink(missing_ok=True)  # of a store that was here before
                schema.create(self._connection)
            schema.check(self._connection)
        except BaseException:
            self._connection.close()
            raise
        self.store_id = str(self._connection.value("select value from meta where key = 'store_id'"))

    @cached_property
    def prompts(self) -> PromptTable:
        """Its prompts."""
        from curri.store.prompts import PromptTable

        return PromptTable(self._connection)

    @cached_property
    def rollouts(self) -> RolloutTable:
        """Its rollouts."""
        from curri.store.rollouts import RolloutTable

        return RolloutTable(self._connection)

    @cached_property
    def priors(self) -> PriorTable:
        """Pass rates of its prompts that are known from other models."""
        from curri.store.priors import PriorTable

        return PriorTable(self._connection)

    @cached_property
    def runs(self) -> RunTable:
        """Its runs, their ledgers and states."""
        from curri.store.runs import RunTable

        return RunTable(self._connection)

    @cached_property
    def texts(self) -> PromptTexts:
        """Its prompt texts, memory-mapped."""
        from curri.store.texts import PromptTexts

        return PromptTexts(self.path.with_name(self.path.name + ".texts"), self.store_id, self._connection)

    def _opened_to_read(self) -> Connection:
        try:
            return Connection(self.path, read_only=True)
        except StoreLocked:
            copy = _snapshot_of(self.path)
            if not copy.exists():
                raise
            self.snapshot_age = max(time.time() - copy.stat().st_mtime, 0.0)
            return Connection(copy, read_only=True)

    def publish(self) -> float:
        """Make a copy that other processes may read while this one holds the store; gives the seconds it took.

        Raises:
            StoreError: it cannot be written; the store and an older copy are as they were.
        """
        start = time.monotonic()
        target = _snapshot_of(self.path)
        draft = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        draft.unlink(missing_ok=True)
        try:
            self._connection.copy_to(draft)
            draft.replace(target)
        except OSError as error:
            raise StoreError(f"the copy {target} cannot be written: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
        return time.monotonic() - start

    @property
    def is_open(self) -> bool:
        """Whether it can still be used by this process."""
        return self._connection.is_open and os.getpid() == self._pid

    @property
    def connection(self) -> Connection:
        """The connection, for analysis in SQL (our own; users' filters never reach it)."""
        return self._connection

    def transaction(self) -> AbstractContextManager[None]:
        """All that is written inside is written together or not at all."""
        return self._connection.transaction()

    def pool(self) -> PromptPool:
        """Every prompt for training, as arrays; strategies that read texts get them from the memory-mapped copy."""
        return self.prompts.pool(fetch=self.texts.fetch)

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""
        return self._connection.read_only

    def before_close(self, name: str, action: Callable[[], None]) -> None:
        """Run ``action`` before the file is closed; it takes the place of an earlier one of that name."""
        self._before_close[name] = action

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file; worth doing when idle."""
        self._connection.checkpoint()

    def close(self) -> None:
        """Close the store, once for each time it was opened; the last one closes the file."""
        self._users -= 1
        if self._users > 0 or not self._connection.is_open:
            return
        try:
            if os.getpid() == self._pid and self._connection.is_sound:
                for action in self._before_close.values():
                    action()
        finally:
            _OPEN.pop(_key(self.path, read_only=self.read_only), None)
            self._before_close.clear()
            self.attached.clear()
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PromptStore({str(self.path)!r}{'' if self.is_open else ', closed'})"


_OPEN: dict[tuple[int, str, bool], PromptStore] = {}


def open_store(path: str | os.PathLike[str], *, create: bool = False, read_only: bool = False) -> PromptStore:
    """Open a prompt store; the same file opened twice in one process is the same object.

    Args:
        path: the DuckDB file.
        create: make the store when it is not there.
        read_only: refuse writes (unless this process has it open to write: that is the object you get). While another
            process holds the store, the copy it last published is read, and ``snapshot_age`` says how old that is.

    Raises:
        StoreNotFound: no file is there, and ``create`` is off.
        StoreLocked: another process holds it.
        StoreUnreadable, StoreVersion: it cannot be used.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder + "/prompts.duckdb", create=True) as store:
    ...     len(store.prompts)
    0
    """
    file = Path(path)
    if file.is_dir():
        raise StoreNotFound(f"{file} is a directory, not a store", hint=f"try --store {file / 'curri.duckdb'}")
    if not file.exists() and not create:
        raise StoreNotFound(f"there is no store at {file}", hint=f"make one: curri init --store {file}")
    if not file.parent.exists():
        raise StoreNotFound(f"the folder {file.parent} does not exist", hint=f"make it: mkdir -p {file.parent}")
    writing, key = _key(file, read_only=False), _key(file, read_only=read_only)
    key = writing if writing in _OPEN and _OPEN[writing].is_open else key
    store = _OPEN.get(key)
    if store is None or not store.is_open:
        store = _OPEN[key] = PromptStore(file, create=create, read_only=read_only)
    store._users += 1  # noqa: SLF001  same module
    return store


def _key(path: Path, *, read_only: bool) -> tuple[int, str, bool]:
    return os.getpid(), str(path.resolve()), read_only


def _snapshot_of(path: Path) -> Path:
    return path.with_name(path.name + ".snapshot")
