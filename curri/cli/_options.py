"""Options that several commands share."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from curri.cli import _completion
from curri.cli._output import ago, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from curri.store import PromptStore

DEFAULT_STORE = Path("curri.duckdb")
_BLAS_THREADS = "OPENBLAS_NUM_THREADS"

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
def _numpy_meanwhile() -> Iterator[None]:
    """Import NumPy, which every command with a store needs, while DuckDB opens the file, which leaves Python the time.

    Its matrix products get one thread: they are small here, and a thread a core would be started, and wait busily.
    """
    if "numpy" in sys.modules:
        yield
        return
    was_set = _BLAS_THREADS in os.environ
    os.environ.setdefault(_BLAS_THREADS, "1")
    thread = threading.Thread(target=_import_numpy)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        if not was_set:  # it is not for other libraries, nor for processes that a command starts
            del os.environ[_BLAS_THREADS]


def _import_numpy() -> None:
    with contextlib.suppress(Exception):  # what is wrong with it is said where it is used
        import_module("numpy")


@contextlib.contextmanager
def opened(path: Path, *, create: bool = False, read_only: bool = False) -> Iterator[PromptStore]:
    """The store, closed at the end.

    With ``read_only``, the copy that a run last published does while the run holds the store, and its age is said.
    """
    from curri.store import open_store

    with _numpy_meanwhile():
        store = open_store(path, create=create, read_only=read_only)
    if store.snapshot_age is not None:
        say(f"a run holds {path}: this is a copy it published {ago(store.snapshot_age)}")
    try:
        yield store
    finally:
        store.close()
