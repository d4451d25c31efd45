"""Options that several commands share."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from curri.store import PromptStore

DEFAULT_STORE = Path("curri.duckdb")

StoreOption: TypeAlias = Annotated[
    Path, typer.Option("--store", envvar="CURRI_STORE", help="The prompt store, a DuckDB file.")
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, errors too.")
]
DebugOption: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
ModelOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--model", help="Whose rollouts to learn from; needed where the store has several models'."),
]
RunOption: TypeAlias = Annotated[str, typer.Option("--run", help="Name of the run.")]
ConsumerOption: TypeAlias = Annotated[
    str, typer.Option("--consumer", help="Who asks; several trainers share a run under different names.")
]
RejectedOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--rejected", help="Where refused rows go.", show_default="FILE.rejected.jsonl"),
]


@contextlib.contextmanager
def opened(path: Path, *, create: bool = False) -> Iterator[PromptStore]:
    """The store, closed at the end."""
    from curri.store import open_store

    store = open_store(path, create=create)
    try:
        yield store
    finally:
        store.close()
