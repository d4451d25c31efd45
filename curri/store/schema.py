"""Tables of a store, and the version they are at."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import duckdb

from curri._version import __version__
from curri.errors import StoreUnreadable, StoreVersion

if TYPE_CHECKING:
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
    return not connection.rows("select 1 from information_schema.tables where table_schema = 'main' limit 1")


def version_of(connection: Connection) -> int:
    """The schema version of a store.

    Raises:
        StoreUnreadable: the file is not a store.
    """
    return _version(connection, set(tables(connection)))


def tables(connection: Connection) -> list[str]:
    """Names of tables, in order; a view in the place of one could read any file of whoever opens the store."""
    rows = connection.rows("select table_name from duckdb_tables() where not internal and not temporary order by 1")
    return [str(row[0]) for row in rows]


def _version(connection: Connection, found: set[str]) -> int:
    version = None
    if found >= {"meta", "prompts", "rollouts", "ledger", "state"}:
        version = connection.value("select value from meta where key = 'schema_version'")
    if version is None or not str(version).isdecimal():
        raise _no_store(connection)
    return int(version)


def check(connection: Connection) -> None:
    """Refuse files that are not stores, or are of a version this code does not know.

    Raises:
        StoreUnreadable: not a store.
        StoreVersion: another schema version.
    """
    found = set(tables(connection))
    version = _version(connection, found)
    refuse_newer(connection, version)
    if version < SCHEMA_VERSION:
        raise StoreVersion(
            f"{connection.path} has schema version {version}; curri {__version__} needs {SCHEMA_VERSION}",
            hint=f"bring it up to date (a backup is made first): curri store migrate --store {connection.path}",
        )
    if not set(TABLES) <= found:
        raise _no_store(connection)
    _refuse_macros(connection)


def _refuse_macros(connection: Connection) -> None:
    """A macro takes the place of a function of that name, in our queries too, and may read files."""
    found = connection.rows("select distinct function_name from duckdb_functions() where not internal order by 1")
    if found:
        names = ", ".join(row[0] for row in found[:5]) + (", …" if len(found) > 5 else "")
        raise StoreUnreadable(
            f"{connection.path} holds macros, which no store of curri does: {names}",
            hint="if the store is yours, drop them: duckdb FILE -c 'drop macro NAME'",
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


def _no_store(connection: Connection) -> StoreUnreadable:
    return StoreUnreadable(
        f"{connection.path} is not a curri store",
        hint="give another path with --store, or make a new store with `curri init`",
    )
