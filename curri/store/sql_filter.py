"""Filters in SQL, for those who need more than the filter language: run where they can do no harm.

A condition runs on a connection of its own, which reads the store's file (or the copy that a run has published) and
nothing else: no other file, no network, no extension, no setting can be reached, memory and time are limited. DuckDB's
own parser says whether it is one expression; it sees one table, and may not ask for others.
"""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from curri.errors import InvalidInput, StoreError, StoreLocked
from curri.store.filters import COLUMNS, PROMPTS, ROLLED_OUT
from curri.store.prompt_store import open_store

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from curri.types import Ints

SECONDS = 10.0
"""How long a condition may take."""
LONGEST = 1000
"""Characters of the longest condition: on long nonsense DuckDB's parser takes many seconds, and cannot be stopped."""

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "allow_community_extensions": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "enable_external_access": "false",
    "max_temp_directory_size": "0KB",
    "memory_limit": "1GB",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "threads": "2",
}
_REFUSED = {
    "SUBQUERY": "it asks for other tables; one condition on the columns of a prompt is allowed",
    "STAR": "`*` is no condition",
    "WINDOW": "a window function is no condition on one prompt",
    "PARAMETER": "it has parameters; write the values",
    "DEFAULT": "`default` is no condition",
}
_COLUMNS = f"columns: {', '.join(COLUMNS)}, metadata (JSON)"


def sql_where(
    path: str | os.PathLike[str], condition: str, *, model: str | None = None, seconds: float = SECONDS
) -> Ints:
    """Ids of the prompts that an SQL condition is true of, ascending.

    Args:
        path: the store's file. While another process holds it, the copy it has published is read. This process must
            not have it open: DuckDB would lend the settings of that connection.
        condition: one expression on the columns of the filter language and ``metadata``, such as
            ``length(prompt) > 500 and arm in ('math', 'code')``.
        model: whose rollouts it speaks of; by default the store's only one.
        seconds: how long it may take.

    Raises:
        InvalidInput: it is not one condition, cannot be run, or took too long.
        StoreNotFound, StoreLocked, StoreUnreadable, StoreVersion: as ``open_store``.
        StoreError: this process has it open.
    """
    if len(condition) > LONGEST:
        raise InvalidInput(f"--sql-where has at most {LONGEST} characters; this one has {len(condition)}")
    with _hardened(_readable(Path(path))) as connection, _limited(connection, seconds):
        _refuse_all_but_one_expression(connection, condition)
        source, parameters = _source(connection, condition, model)
        # The end of the line ends a comment. The check above is what keeps the rest inside.
        query = f"select prompt_id from ({source}) as prompts where (\n{condition}\n)::boolean order by 1"  # noqa: S608
        found: Ints = connection.execute(query, parameters).fetchnumpy()["prompt_id"]
        return found


def _readable(path: Path) -> Path:
    """The store's file, or the copy that a run has published of it; opened once, which refuses what is no store."""
    with open_store(path, read_only=True) as store:
        return store.connection.path


@contextlib.contextmanager
def _hardened(file: Path) -> Iterator[Any]:
    """A connection that can read this one file and do nothing else."""
    try:
        connection = duckdb.connect(str(file), read_only=True, config=_CONFIG)
    except duckdb.ConnectionException as error:
        raise StoreError(
            f"the store {file} is open in this process, so SQL conditions cannot be run apart from it",
            hint="close the store first, or use the filter language: `store.prompts.where(…)`",
        ) from error
    except duckdb.Error as error:  # it could be opened a moment ago
        raise StoreLocked(f"{file} cannot be read now: {_first_line(error)}", hint="run the command again") from error
    try:
        connection.execute("set lock_configuration = true")
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def _limited(connection: Any, seconds: float) -> Iterator[None]:
    """Interrupt what takes too long; every failure becomes one line."""
    expired = threading.Event()

    def stop() -> None:
        expired.set()
        connection.interrupt()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (duckdb.Error, RuntimeError) as error:
        if expired.is_set():
            message = f"--sql-where took longer than {seconds:g} seconds and was stopped"
            raise InvalidInput(message, hint="the filter language of --where is quicker") from None
        if not isinstance(error, duckdb.Error):
            raise  # Ctrl-C
        raise InvalidInput(f"--sql-where cannot be run: {_first_line(error)}", hint=_COLUMNS) from None
    finally:
        timer.cancel()


def _refuse_all_but_one_expression(connection: Any, condition: str) -> None:
    """Compare what DuckDB's parser makes of it with what it makes of ``true``: only the expression may differ."""
    plain, _ = _parsed(connection, "true")
    shape, expressions = _parsed(connection, condition)
    if shape != plain or len(expressions) != 1:
        raise InvalidInput("--sql-where must be one condition, and nothing else", hint=_COLUMNS)
    for found in _classes(expressions[0]):
        if found in _REFUSED:
            raise InvalidInput(f"--sql-where is refused: {_REFUSED[found]}", hint=_COLUMNS)


def _parsed(connection: Any, condition: str) -> tuple[list[Any], list[Any]]:
    """The statement that selects a condition, as data without its expressions; and these."""
    sql = f"select (\n{condition}\n)"
    document = json.loads(connection.execute("select json_serialize_sql(?::varchar)", [sql]).fetchone()[0])
    if document["error"]:
        message = str(document.get("error_message", "it cannot be parsed")).partition("\n")[0]
        raise InvalidInput(f"--sql-where is not one SQL condition: {message}", hint=_COLUMNS)
    statements: list[Any] = document["statements"]
    expressions = statements[0]["node"].pop("select_list", [])
    return statements, expressions


def _classes(node: Any) -> Iterator[str]:
    """What kinds of expressions there are in a tree, at any depth."""
    waiting = [node]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            if isinstance(found.get("class"), str):
                yield found["class"]
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _source(connection: Any, condition: str, model: str | None) -> tuple[str, list[str | None]]:
    """The one table that a condition sees; it holds rollouts where the condition may speak of them."""
    folded = condition.casefold()
    with_rollouts = model is not None or any(name in folded for name, column in COLUMNS.items() if column.of_rollouts)
    columns = ", ".join(
        f'{column.sql} as "{name}"' for name, column in COLUMNS.items() if with_rollouts or not column.of_rollouts
    )
    columns += ", nullif(p.metadata, '')::json as metadata"
    if not with_rollouts:
        return f"select {columns} from {PROMPTS}", []  # noqa: S608  our own words
    return f"select {columns} from {PROMPTS} {ROLLED_OUT}", [_model(connection, model)]  # noqa: S608  our own words


def _model(connection: Any, name: str | None) -> str | None:
    from curri.store.rollouts import RolloutTable

    return RolloutTable(_Reader(connection)).evidence_model(name)  # type: ignore[arg-type]  # it asks for rows only


class _Reader:
    """What a ``RolloutTable`` needs to list models."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._connection.execute(sql).fetchall()
        return found


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
