"""Reading comma separated values: every cell is the text it is."""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING, Self

from curri.errors import InvalidData
from curri.exchange.jsonl import MAX_LINE, UTF16, Row, is_standard, opened_twice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

_SHOWN = 1600
_SKIP = 1 << 20


class _Unusable(Exception):
    """The record that is being read cannot be used."""


class CsvRows:
    """The records of a CSV file with a header, one at a time.

    A cell is text and nothing else ("007" stays "007", "NA" stays "NA"); an empty one is null. A record is refused, and
    the next one read, where it has more or fewer cells than the header, a quote that is not closed, bytes that are not
    UTF-8, or more than ``max_row`` bytes. Its number is that of the line it begins on.

    Args:
        path: the file, or "-" for standard input.
        delimiter: between cells.
        max_row: bytes of the longest record.

    Raises:
        InvalidData: the file cannot be opened, or has no usable header.
    """

    unit = "line"
    texts_only = True

    def __init__(self, path: str | os.PathLike[str], *, delimiter: str = ",", max_row: int = MAX_LINE) -> None:
        self.name = "standard input" if is_standard(path) else os.fspath(path)
        self.notes: list[str] = []
        self._delimiter = delimiter
        self._max_row = max_row
        self._stream = opened_twice(path)
        self.total: int | None = self._stream.seek(0, os.SEEK_END)
        self._lines = _Lines(self._stream, max_row)
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))  # the longest record is our limit
        try:
            self.columns: Sequence[str] = self._header()
        except BaseException:
            self._stream.close()
            raise

    @property
    def done(self) -> int:
        """Bytes read so far."""
        return self._lines.n_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def rewindable(self) -> Self:
        """Itself."""
        return self

    def rewind(self) -> None:
        """Start again from the beginning."""
        self._lines = _Lines(self._stream, self._max_row)

    def __iter__(self) -> Iterator[Row]:
        self.rewind()
        records = self._records()
        next(records, None)
        for number, cells, reason, raw in records:
            if reason:
                yield Row(number, None, reason, raw[:_SHOWN])
            elif len(cells) != len(self.columns):
                uneven = f"{len(cells)} cells, where the header has {len(self.columns)}"
                yield Row(number, None, uneven, raw[:_SHOWN])
            else:
                yield Row(number, {n: cell or None for n, cell in zip(self.columns, cells, strict=True)}, "", raw)

    def _header(self) -> Sequence[str]:
        found = next(self._records(), None)
        if found is None:
            raise InvalidData(f"{self.name} is empty", hint="its first line must name the columns")
        _, names, reason, raw = found
        if reason or b"\0" in raw:
            hint = UTF16 if b"\0" in raw else "is it CSV in UTF-8? say --format if it is something else"
            raise InvalidData(f"the header of {self.name} cannot be read: {reason or 'it holds NUL bytes'}", hint=hint)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidData(f'{self.name} has several columns named "{twice}"', hint="rename all but one of them")
        return names

    def _records(self) -> Iterator[tuple[int, list[str], str, bytes]]:
        """For each record its line, its cells, why it cannot be used or "", and its bytes."""
        lines = self._lines
        while True:
            # A reader that has refused something is in the middle of it, so the next record gets a new one.
            reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
            while True:
                number = lines.begin()
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except (csv.Error, _Unusable) as error:
                    yield number, [], _spelled(error), lines.give_back()
                    break
                raw = lines.raw()
                if cells or raw.strip():
                    yield number, cells, lines.fault, raw


def _spelled(error: Exception) -> str:
    words = str(error)
    if "new-line character" in words:
        return "not CSV: a carriage return outside quotes"
    if "unexpected end" in words:
        return "not CSV: a quote is opened and not closed"
    return f"not CSV: {words}" if isinstance(error, csv.Error) else words


class _Lines:
    """Lines of a file as text, which can be given back when the record that they made was none."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        stream.seek(0)
        self._stream = stream
        self._limit = limit
        self._number = 0
        self._taken: list[bytes] = []
        self._size = 0
        self._waiting: list[bytes] = []
        self.n_bytes = 0
        self.fault = ""

    def begin(self) -> int:
        """A new record; gives the number of its first line."""
        self._taken, self._size = [], 0
        self.fault = ""
        return self._number + 1

    def raw(self) -> bytes:
        """The record's bytes."""
        return b"".join(self._taken).rstrip(b"\r\n")

    def give_back(self) -> bytes:
        """Let all lines of the record but the first be read again; gives the first."""
        first, *others = self._taken or [b""]
        self._waiting = others[::-1] + self._waiting
        self._number -= len(others)
        return first.rstrip(b"\r\n")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._waiting.pop() if self._waiting else self._read()
        if not line:
            raise StopIteration
        self._number += 1
        self._taken.append(line)
        self._size += len(line)
        if self._size > self._limit:
            raise _Unusable(f"longer than {self._limit} bytes, or a quote is not closed")
        if self._number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark is not part of the first name
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self.fault = f"not UTF-8: byte {line[error.start]:#04x} at position {error.start}"
            return line.decode(errors="replace")

    def _read(self) -> bytes:
        line = self._stream.readline(self._limit + 1)
        self.n_bytes += len(line)
        if len(line) > self._limit and not line.endswith(b"\n"):
            while part := self._stream.readline(_SKIP):
                self.n_bytes += len(part)
                if part.endswith(b"\n"):
                    break
        return line
