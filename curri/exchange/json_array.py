"""Reading one JSON array of objects, or an object that holds one, without ever holding it whole."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Self

from curri.errors import InvalidData
from curri.exchange.jsonl import (
    BEGINNING,
    MAX_LINE,
    JsonLines,
    Row,
    is_standard,
    opened_twice,
    parse,
    parsed_row,
    refuse_binary,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from curri.exchange.sources import Rows

_READ = 1 << 20
_SHOWN = 1600
_BLANK = b" \t\r\n"
_INSIDE = re.compile(rb'[^"\\]*+(?:\\[\x00-\xff][^"\\]*+)*+')
_OUTSIDE = re.compile(rb'[^"\[\]{},]*+')
_BLANKS = re.compile(rb"[ \t\r\n]*+")


def _nested(depth: int) -> bytes:
    """A pattern for what stands inside brackets, which may hold so many further ones in each other."""
    plain = rb'[^"\[\]{}]++|"[^"\\]*+(?:\\[\x00-\xff][^"\\]*+)*+"'
    return plain if not depth else plain + rb"|[\[{](?:" + _nested(depth - 1) + rb")*+[\]}]"


_SIMPLE = re.compile(rb"\{(?:" + _nested(3) + rb")*+\}")
"""An object as most are; one that is deeper, or not yet read to its end, is gone through bracket by bracket."""
_CLOSING = {b"[": b"]", b"{": b"}"}


class _Broken(Exception):
    """The text cannot be cut into values from here on."""


class _Scanner:
    """Cuts a stream of JSON into values by its brackets and quotes alone; what is inside is checked by the parser."""

    def __init__(self, stream: BinaryIO, at: int = 0) -> None:
        stream.seek(at)
        self._stream = stream
        self._data = b""
        self._at = 0
        self._base = at

    @property
    def place(self) -> int:
        """Bytes from the beginning of the file."""
        return self._base + self._at

    def _more(self) -> bool:
        part = self._stream.read(_READ)
        self._base += self._at
        self._data, self._at = self._data[self._at :] + part, 0
        return bool(part)

    def peek(self) -> bytes:
        """The next byte that is not blank, b"" at the end."""
        while True:
            self._at = _BLANKS.match(self._data, self._at).end()  # type: ignore[union-attr]  # it matches everything
            if self._at < len(self._data):
                return self._data[self._at : self._at + 1]
            if not self._more():
                return b""

    def expect(self, allowed: bytes) -> bytes:
        """The next byte that is not blank, which must be one of those."""
        found = self.peek()
        if not found or found not in allowed:
            wanted = " or ".join(f'"{chr(byte)}"' for byte in allowed)
            got = f'"{found.decode(errors="backslashreplace")}"' if found else "the end of the file"
            raise _Broken(f"expected {wanted}; got {got}")
        self._at += 1
        return found

    def value(self, limit: int) -> tuple[bytes, bool]:
        """The text of the next value, and whether it is whole; of one longer than ``limit`` only the beginning."""
        self.peek()
        simple = _SIMPLE.match(self._data, self._at)
        if simple is not None and len(simple[0]) <= limit:
            self._at = simple.end()
            return simple[0], True
        kept, size, closing = bytearray(), 0, bytearray()
        inside = ended = False
        while not ended:
            start = self._at
            inside, ended = self._step(closing, inside=inside)
            size += self._at - start
            if len(kept) <= limit:
                kept += self._data[start : self._at]
            if not ended and self._at >= len(self._data) - inside and not self._more():
                raise _Broken("it ends in the middle of a row")
        whole = size <= limit
        return bytes(kept if whole else kept[:_SHOWN]).rstrip(_BLANK), whole

    def _step(self, closing: bytearray, *, inside: bool) -> tuple[bool, bool]:
        """Go on to the next bracket, quote or comma, or to the end of what is read; gives (inside a text, ended)."""
        pattern = _INSIDE if inside else _OUTSIDE
        self._at = pattern.match(self._data, self._at).end()  # type: ignore[union-attr]  # it matches everything
        if self._at >= len(self._data):
            return inside, False
        byte = self._data[self._at : self._at + 1]
        if inside and byte == b"\\":  # the last byte that is read: what it escapes comes next
            return True, False
        if not closing and not inside and byte in b",]}":
            return False, True
        self._at += 1
        if inside:
            return False, not closing
        if byte in _CLOSING:
            closing += _CLOSING[byte]
        elif byte in b"]}":
            if closing.pop() != byte[0]:
                raise _Broken(f'a "{byte.decode()}" closes what it did not open')
            return False, not closing
        return byte == b'"', False


class JsonArray:
    """The objects of a JSON array, one at a time.

    A row is refused, and the next one read, for the same reasons as in JSON Lines. Where brackets or quotes do not
    match, nothing after that place can be read, and the last row says so.

    Args:
        stream: the file, which can be read twice.
        name: of the file, for messages.
        start: byte at which the array begins.
        max_row: bytes of the longest row.
    """

    unit = "row"
    texts_only = False

    def __init__(self, stream: BinaryIO, name: str, start: int, *, max_row: int = MAX_LINE) -> None:
        self.name = name
        self.columns: Sequence[str] = ()
        self.notes: list[str] = []
        self._stream = stream
        self._start = start
        self._max_row = max_row
        self._scanner = _Scanner(stream, start)
        self.total: int | None = stream.seek(0, os.SEEK_END)

    @property
    def done(self) -> int:
        """Bytes read so far."""
        return self._scanner.place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Row]:
        self.rewind()
        number = 0
        try:
            self._scanner.expect(b"[")
            if self._scanner.peek() == b"]":
                return
            while True:  # the array's end returns
                number += 1
                raw, whole = self._scanner.value(self._max_row)
                if not whole:
                    yield Row(number, None, f"longer than {self._max_row} bytes", raw)
                else:
                    yield parsed_row(number, raw)
                if self._scanner.expect(b",]") == b"]":
                    return
        except _Broken as error:
            yield Row(number, None, f"not JSON, and nothing after it can be read: {error}", b"")

    def rewindable(self) -> Self:
        """Itself."""
        return self

    def rewind(self) -> None:
        """Start again from the beginning."""
        self._scanner = _Scanner(self._stream, self._start)


def open_json(path: str | os.PathLike[str]) -> Rows:
    """A file with one JSON array of objects, or with one object of which one value is such an array.

    A file of objects below each other is JSON Lines whatever its name, and read as such.

    Raises:
        InvalidData: it is neither.
    """
    name = "standard input" if is_standard(path) else os.fspath(path)
    stream = opened_twice(path)
    try:
        return _opened(stream, path, name)
    except _Broken as error:
        stream.close()
        raise InvalidData(f"{name} is not JSON: {error}") from None
    except BaseException:
        stream.close()
        raise


def _opened(stream: BinaryIO, path: str | os.PathLike[str], name: str) -> Rows:
    start = stream.read(BEGINNING)
    refuse_binary(start, name)
    scanner = _Scanner(stream, 3 if start.startswith(b"\xef\xbb\xbf") else 0)  # a byte order mark is no part of it
    first = scanner.peek()
    if first == b"[":
        return JsonArray(stream, name, scanner.place)
    if first != b"{":
        raise _no_json(stream, name)
    if _is_lines(stream, scanner.place):
        stream.seek(0)
        return JsonLines(path, stream=stream)
    return JsonArray(stream, name, _only_list(stream, scanner.place, name))


def _no_json(stream: BinaryIO, name: str) -> InvalidData:
    stream.seek(0)
    start = stream.read(BEGINNING)
    if not start.strip():
        return InvalidData(f"{name} is empty", hint="a JSON file without rows holds []")
    shown = start.decode(errors="backslashreplace").strip()[:20]
    return InvalidData(f"{name} must be a JSON array of objects; it begins with {shown!r}")


def _is_lines(stream: BinaryIO, at: int) -> bool:
    """Whether the first line is an object of its own, and another line follows."""
    stream.seek(at)
    try:
        alone = isinstance(parse(stream.readline(MAX_LINE).strip()), dict)
    except InvalidData:
        return False
    return alone and any(part.strip() for part in iter(lambda: stream.read(_READ), b""))


def _only_list(stream: BinaryIO, at: int, name: str) -> int:
    """Where the one list of objects begins that an object holds."""
    found: dict[str, int] = {}
    scanner = _Scanner(stream, at)
    scanner.expect(b"{")
    while scanner.peek() != b"}":
        key, _ = scanner.value(_SHOWN)
        scanner.expect(b":")
        is_list = scanner.peek() == b"["
        place = scanner.place
        raw, _ = scanner.value(_SHOWN)
        if is_list and raw[1:].lstrip(_BLANK)[:1] == b"{":
            found[key.decode(errors="backslashreplace")] = place
        if scanner.expect(b",}") == b"}":
            break
    if len(found) != 1:
        what = f"several: {', '.join(found)}" if found else "none"
        raise InvalidData(
            f"{name} is one JSON object, which must hold one list of objects; it holds {what}",
            hint="write the rows alone, as [{…}, {…}] or one object a line",
        )
    return next(iter(found.values()))
