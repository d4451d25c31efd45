"""Opening a source of rows, whatever its format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Self, TypeAlias, cast, get_args

from curri.errors import InvalidInput
from curri.exchange.jsonl import JsonLines, is_standard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from curri.exchange.jsonl import Row

Format: TypeAlias = Literal["jsonl", "json", "csv", "tsv", "parquet", "saved", "hf"]
"""JSON Lines; one JSON array, or an object that holds one; comma or tab separated; Parquet; a dataset that
``datasets`` saved to disk; a dataset by name."""

HUB = "hf:"

_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


class Rows(Protocol):
    """The rows of a source, read as a stream in bounded memory; a context manager.

    Attributes:
        name: of the source, for messages.
        unit: what a row's number counts: "line" or "row".
        columns: names of all columns, where the format says them at the beginning; else empty.
        notes: what the user should know of how it is read.
        texts_only: whether every value is a text, so that numbers are to be read from it.
    """

    name: str
    unit: str
    columns: Sequence[str]
    notes: list[str]
    texts_only: bool

    @property
    def done(self) -> int:
        """Bytes or rows read so far."""
        ...

    @property
    def total(self) -> int | None:
        """Of how many, or None where that is not known."""
        ...

    def __iter__(self) -> Iterator[Row]:
        """Rows from where the source stands; one that cannot be used has a reason in place of a value."""
        ...

    def rewindable(self) -> Self:
        """The same, so that ``rewind`` works."""
        ...

    def rewind(self) -> None:
        """Start again from the beginning."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def open_rows(path: str | os.PathLike[str], form: str | None = None) -> Rows:
    """Open a source.

    Args:
        path: a file, "-" for standard input, a folder saved by ``datasets``, or ``hf:NAME?split=train&config=…``.
        form: its format, one of ``Format``; by default what its name says, and JSON Lines where that says nothing.

    Raises:
        InvalidData: it cannot be opened, or is no file of that format.
        InvalidInput: there is no such format.
        MissingExtra: ``datasets`` is needed and not installed.
    """
    kind = format_of(path, form)
    if kind == "jsonl":
        return JsonLines(path)
    if kind == "json":
        from curri.exchange.json_array import open_json

        return open_json(path)
    if kind in ("csv", "tsv"):
        from curri.exchange.csv_rows import CsvRows

        return CsvRows(path, delimiter="," if kind == "csv" else "\t")
    from curri.exchange.arrow_rows import ParquetRows, SavedRows, open_hub

    if kind == "parquet":
        return ParquetRows(path)
    return SavedRows(Path(path)) if kind == "saved" else open_hub(os.fspath(path))


def format_of(path: str | os.PathLike[str], form: str | None = None) -> Format:
    """The format of a source: the one given, or what its name says.

    Raises:
        InvalidInput: there is no such format.

    >>> format_of("a.csv"), format_of("b.txt"), format_of("hf:gsm8k?split=train"), format_of("a.csv", "jsonl")
    ('csv', 'jsonl', 'hf', 'jsonl')
    """
    if form is not None:
        if form not in get_args(Format):
            raise InvalidInput(f'there is no format "{form}"; known: {", ".join(get_args(Format))}')
        return cast("Format", form)
    if is_hub(path):
        return "hf"
    if is_saved(path):
        return "saved"
    return "jsonl" if is_standard(path) else _SUFFIXES.get(Path(path).suffix.lower(), "jsonl")


def is_hub(path: str | os.PathLike[str]) -> bool:
    """Whether a source is a dataset by name and not a file."""
    return os.fspath(path).startswith(HUB)


def is_saved(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder that ``datasets`` saved."""
    folder = Path(path)
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()
