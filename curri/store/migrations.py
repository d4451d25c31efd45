"""Bringing a store of an older schema version up to the newest.

A migration is a list of statements that take a store from one version to the next. They run in one transaction, after a
backup, and a checkpoint follows at once: changes of tables do not stay in the write-ahead log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curri.errors import StoreNotFound
from curri.store import schema
from curri.store.connection import Connection
from curri.store.files import refuse_if_short

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Migration:
    """From one version to the next.

    Attributes:
        summary: what changes, for the user.
        statements: SQL, run in order.
    """

    summary: str
    statements: tuple[str, ...]


MIGRATIONS: dict[int, Migration] = {}
"""Version a store has → how it gets to the next. Version 1 is the first."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """What became of a store.

    Attributes:
        path: the store.
        before: its version before.
        after: its version now.
        steps: what was changed.
        backup: the copy made before, or None where nothing was changed.
    """

    path: Path
    before: int
    after: int
    steps: tuple[str, ...] = ()
    backup: Path | None = None

    def document(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "store": str(self.path),
            "before": self.before,
            "after": self.after,
            "steps": list(self.steps),
            "backup": None if self.backup is None else str(self.backup),
        }


def migrate_store(
    path: Path, *, migrations: Mapping[int, Migration] = MIGRATIONS, newest: int = schema.SCHEMA_VERSION
) -> Migrated:
    """Bring a store to the newest schema version; one that is there stays as it is.

    Raises:
        StoreNotFound: there is no file.
        StoreLocked: a process has it open.
        StoreVersion: it is of a newer version than this code knows.
        StoreUnreadable: it is no store.
    """
    if not path.is_file():
        raise StoreNotFound(f"there is no store at {path}", hint=f"make one: curri init --store {path}")
    connection = Connection(path)
    try:
        before = schema.version_of(connection)
        schema.refuse_newer(connection, before, newest)
        if before == newest:
            return Migrated(path, before, before)
        backup = _backup(connection, path, before)
        steps = [migrations[version] for version in range(before, newest)]
        with connection.transaction():
            for step in steps:
                for statement in step.statements:
                    connection.execute(statement)
            connection.execute("update meta set value = ? where key = 'schema_version'", [str(newest)])
        connection.checkpoint()
    finally:
        connection.close()
    return Migrated(path, before, newest, tuple(step.summary for step in steps), backup)


def _backup(connection: Connection, path: Path, version: int) -> Path:
    """A copy beside the store, with the first free number in its name."""
    refuse_if_short(path.parent, 2 * path.stat().st_size, "a backup before the migration")
    number = 1
    while (target := path.with_name(f"{path.name}.v{version}-{number}")).exists():
        number += 1
    connection.copy_to(target)
    return target
