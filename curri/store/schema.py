"""Tables of a store, and the version they are at."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any, TypeAlias

import duckdb

from curri._version import __version__
from curri.errors import StoreUnreadable, StoreVersion

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curri.store.connection import Connection

SCHEMA_VERSION = 1

TABLES: dict[str, str] = {
    "meta": "key varchar, value varchar",
    "arms": "arm_id integer, name varchar",
    # The identity of a prompt is a 128-bit digest of its canonical text and answer, kept as two integers.
    "prompts": """
        prompt_id bigint, digest_high bigint, digest_low bigint, arm_id integer, external_id varchar,
        prompt varchar, is_chat boolean, answer varchar, metadata varchar, split varchar,
        prior_rate double, expected_tokens double, parent_id bigint, generation integer, retired boolean""",
    # Where rollouts come from: one row per (model, weight version, sampling settings, verifier, run).
    "sources": """
        source_id integer, model varchar, weight_version varchar, settings varchar, verifier varchar,
        run_id integer""",
    "rollouts": """
        prompt_id bigint, source_id integer, sample integer, reward double, solved double, advantage double,
        tokens integer, truncated boolean, policy_version bigint, probe boolean, round integer,
        rollout_id varchar, response varchar, extras varchar""",
    "runs": """
        run_id integer, name varchar, strategy varchar, parameters varchar, evidence_model varchar,
        created_with varchar, created_at timestamp""",
    # Append-only: the last row of a (run, round, prompt) is its present state.
    "ledger": """
        run_id integer, seq bigint, round integer, part integer, prompt_id bigint, consumer varchar,
        event varchar, reason varchar, probe boolean, n_rollouts integer, probability double, told integer""",
    # A run's strategy: a full snapshot, followed by what changed in each transaction.
    "state": "run_id integer, seq bigint, is_snapshot boolean, payload blob",
}

PRIORS = "prompt_id bigint, model varchar, rate double, n bigint, source varchar"
"""Pass rates of prompts known from other models; a store made before there was such a table gets it when needed."""

_Ask: TypeAlias = "Callable[[str], list[tuple[Any, ...]]]"
"""The rows of a query.

What is asked of a store that is not known yet names DuckDB's own functions in full and uses no others: a macro of the
store would go before those of the same name.
"""
_MACROS = "select distinct function_name from system.main.duckdb_functions() where not internal order by 1"
_TRIGGERS = "select distinct trigger_name from system.main.duckdb_triggers() order by 1"
_VIEWS = "select view_name from system.main.duckdb_views() where not internal and not temporary"
_TABLES = "select table_name from system.main.duckdb_tables() where not internal and not temporary order by 1"


def create(connection: Connection) -> None:
    """Make the tables of an empty store."""
    with connection.transaction():
        for name, columns in TABLES.items():
            connection.execute(f"create table {name} ({columns})")
        connection.execute(f"create table priors ({PRIORS})")
        for key, value in {
            "schema_version": str(SCHEMA_VERSION),
            "store_id": uuid.uuid4().hex,
            "created_with": f"curri {__version__}, duckdb {duckdb.__version__}",
        }.items():
            connection.execute("insert into meta values (?, ?)", [key, value])
    connection.checkpoint()


def is_empty(connection: Connection) -> bool:
    """Whether the file has no tables at all."""
    return not connection.rows(_TABLES) and not connection.rows(_VIEWS)


def version_of(connection: Connection) -> int:
    """The schema version of a store.

    Raises:
        StoreUnreadable: the file is not a store, or holds code.
    """
    refuse_views(connection.path, connection.rows)
    _refuse_code(connection)
    return _version(connection, set(tables(connection)))


def tables(connection: Connection) -> list[str]:
    """Names of tables, in order."""
    return [str(row[0]) for row in connection.rows(_TABLES)]


def _are_tables(connection: Connection, *names: str) -> bool:
    """Whether there is a table of each name, and no view; takes a fifth of the time of listing them."""
    one = "select 1 from system.main.pragma_storage_info('{}')"  # which takes tables only
    try:
        connection.rows(f"{' union all '.join(map(one.format, names))} limit 0")
    except (duckdb.CatalogException, duckdb.IOException):  # DuckDB 1 reads data for it, which may be damaged
        return False
    return True


def _version(connection: Connection, found: set[str]) -> int:
    version = None
    if found >= {"meta", "prompts", "rollouts", "ledger", "state"}:
        version = connection.value("select value from meta where key = 'schema_version'")
    if version is None or not str(version).isdecimal():
        raise _no_store(connection.path)
    return int(version)


def check(connection: Connection) -> None:
    """Refuse files that are not stores, or are of a version this code does not know, or hold code.

    Raises:
        StoreUnreadable: not a store, or one with macros or triggers.
        StoreVersion: another schema version.
    """
    found = set(TABLES)
    if not _are_tables(connection, *TABLES, "priors"):
        refuse_views(connection.path, connection.rows)
        found = set(tables(connection))
    version = _version(connection, found)
    refuse_newer(connection, version)
    if version < SCHEMA_VERSION:
        raise StoreVersion(
            f"{connection.path} has schema version {version}; curri {__version__} needs {SCHEMA_VERSION}",
            hint=f"bring it up to date (a backup is made first): curri store migrate --store {connection.path}",
        )
    if not set(TABLES) <= found:
        raise _no_store(connection.path)
    _refuse_code(connection)


def refuse_views(path: Path, ask: _Ask) -> None:
    """Refuse a file with a view in the place of one of our tables: it could read any file of whoever opens the store.

    Raises:
        StoreUnreadable: it has.
    """
    if {*TABLES, "priors"} & {str(row[0]).casefold() for row in ask(_VIEWS)}:
        raise _no_store(path)


def refuse_macros(path: Path, ask: _Ask) -> None:
    """Refuse a file with macros: one goes before a function of that name, in our queries too, and may read files.

    Raises:
        StoreUnreadable: it has.
    """
    _refuse(path, "macros", ask(_MACROS))


def _refuse_code(connection: Connection) -> None:
    """Refuse macros, and before anything is written triggers, which run with it and may read files too."""
    refuse_macros(connection.path, connection.rows)
    if not connection.read_only:
        with contextlib.suppress(duckdb.CatalogException):  # DuckDB 1 has no triggers, and no function to list them
            _refuse(connection.path, "triggers", connection.rows(_TRIGGERS))


def _refuse(path: Path, what: str, found: list[tuple[Any, ...]]) -> None:
    if found:
        names = ", ".join(str(row[0]) for row in found[:5]) + (", …" if len(found) > 5 else "")
        on = " on TABLE" if what == "triggers" else ""
        raise StoreUnreadable(
            f"{path} holds {what}, which no store of curri does: {names}",
            hint=f"if the store is yours, drop them: duckdb FILE -c 'drop {what[:-1]} NAME{on}'",
        )


def refuse_newer(connection: Connection, version: int, newest: int = SCHEMA_VERSION) -> None:
    """Refuse a store of a version that is newer than this code.

    Raises:
        StoreVersion: it is.
    """
    if version > newest:
        raise StoreVersion(
            f"{connection.path} has schema version {version}; curri {__version__} knows up to {newest}",
            hint="upgrade curri: pip install -U curri",
        )


def _no_store(path: Path) -> StoreUnreadable:
    return StoreUnreadable(
        f"{path} is not a curri store",
        hint="give another path with --store, or make a new store with `curri init`",
    )
