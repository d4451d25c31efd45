"""Options that several commands share."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from curri.cli import _completion
from curri.cli._output import ago, say

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
    typer.Option(
        "--model",
        help="Whose rollouts to learn from; needed where the store has several models'.",
        autocompletion=_completion.models,
    ),
]
RunOption: TypeAlias = Annotated[
    str, typer.Option("--run", help="Name of the run.", autocompletion=_completion.run_names)
]
ConsumerOption: TypeAlias = Annotated[
    str, typer.Option("--consumer", help="Who asks; several trainers share a run under different names.")
]
RejectedOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--rejected", help="Where refused rows go.", show_default="FILE.rejected.jsonl"),
]


@contextlib.contextmanager
def opened(path: Path, *, create: bool = False, read_only: bool = False) -> Iterator[PromptStore]:
    """The store, closed at the end.

    With ``read_only``, the copy that a run last published does while the run holds the store, and its age is said.
    """
    from curri.store import open_store

    store = open_store(path, create=create, read_only=read_only)
    if store.snapshot_age is not None:
        say(f"a run holds {path}: this is a copy it published {ago(store.snapshot_age)}")
    try:
        yield store
    finally:
        store.close()
