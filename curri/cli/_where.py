"""``--where`` and ``--sql-where``, wherever they stand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from curri.cli import _completion
from curri.cli._output import say
from curri.errors import FilterError

if TYPE_CHECKING:
    from curri.store import PromptStore
    from curri.types import Ints

WhereOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="FILTER",
        help="Only these prompts, such as 'arm == \"math\" and pass_rate in 0.2..0.8'.",
        autocompletion=_completion.filters,
    ),
]
SqlWhereOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--sql-where", metavar="SQL", help="The same as an SQL condition, run apart from the store with a time limit."
    ),
]


def matching(store: PromptStore, where: str | None, model: str | None = None) -> Ints | None:
    """Ids of the prompts that a filter is true of; None without a filter. A wrong filter is shown with its place."""
    if where is None:
        return None
    try:
        return store.prompts.where(where, model=model)
    except FilterError as error:
        say(*(f"  {line}" for line in error.pointed))
        raise


def in_sql(path: Path, where: str | None, sql_where: str | None, model: str | None) -> Ints | None:
    """Ids of the prompts that an SQL condition is true of; None without one. The store must not be open yet."""
    if sql_where is None:
        return None
    if where is not None:
        raise typer.BadParameter("--where and --sql-where are two ways to say the same: give one of them")
    from curri.store.sql_filter import sql_where as run

    return run(path, sql_where, model=model)
