"""Reading JSON Lines: strict, in bounded memory, one line at a time; and the file of refused rows."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from curri.errors import InvalidData, InvalidInput, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

STANDARD = "-"
"""Stands for standard input, or standard output."""

MAX_LINE = 16 << 20
"""Bytes of the longest line that is read."""

TOO_DEEP = "not usable: lists and objects are nested too deeply"

UTF16 = "convert it first: iconv -f UTF-16 -t UTF-8 FILE"

_GZIP = b"\x1f\x8b"
BEGINNING = 40
"""Bytes that tell what kind of file it is."""

_SHOWN = 400
_SKIP = 1 << 20


def is_standard(path: str | os.PathLike[str]) -> bool:
    """Whether a path means standard input or output and no file."""
    return os.fspath(path) == STANDARD


def draft_of(path: Path) -> Path:
    """Where a file is written before it takes its place: beside it, under a name that nobody else uses.

    Raises:
        InvalidInput: the path has no name, as "." and what is left of an unset variable; or a store is there.
    """
    if not path.name:
        raise InvalidInput(f"{path} is a folder, and no name for a file", hint="an empty path means the present folder")
    spare_stores(path)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def spare_stores(path: Path) -> None:
    """Nothing that is written takes the place of a store.

    Raises:
        InvalidInput: the file is a DuckDB file.
    """
    if not path.is_file():
        return
    from curri.store.files import is_duckdb

    if is_duckdb(path):
        raise InvalidInput(f"{path} is a store, which would be lost; name another file")


class Row(NamedTuple):
    """One line of a file.

    Attributes:
        number: of the line, from 1.
        value: the JSON object, or None where the line cannot be used.
        reason: why it cannot be used, else "".
        raw: the line as it stands in the file (its beginning, where it is too long).
    """

    number: int
    value: dict[str, Any] | None
    reason: str
    raw: bytes


class Progress(NamedTuple):
    """How far a command is.

    Attributes:
        done: bytes of the file read, or items made.
        total: of how many, or None where that is not known.
        rows: rows dealt with.
    """

    done: int
    total: int | None
    rows: int


class JsonLines:
    """The rows of a file, read once from its beginning; a context manager.

    Blank lines are left out. A line is refused, and the next one read, where it is not strict JSON (NaN and Infinity
    are not), not an object, not UTF-8, longer than ``max_line``, or holds half a surrogate pair, which no store can
    keep.

    Args:
        path: the file, or "-" for standard input.
        max_line: bytes of the longest line.
        stream: the file, where it is open already.

    Attributes:
        name: of the file, for messages.
        unit: "line", what a row's number counts.
        columns: empty, since the format does not say them.
        notes: none.
        bytes_read: so far.
        total_bytes: of the file, or None where that is not known.

    Raises:
        InvalidData: the file cannot be opened.
    """

    unit = "line"
    texts_only = False

    def __init__(
        self, path: str | os.PathLike[str], *, max_line: int = MAX_LINE, stream: BinaryIO | None = None
    ) -> None:
        standard = is_standard(path) and stream is None
        self.name = "standard input" if is_standard(path) else os.fspath(path)
        self.columns: Sequence[str] = ()
        self.notes: list[str] = []
        self.bytes_read = 0
        self.total_bytes: int | None = None
        self._max_line = max_line
        self._stream: BinaryIO = stream or (sys.stdin.buffer if standard else opened(path))
        self._owned = not standard
        with contextlib.suppress(OSError):
            status = os.fstat(self._stream.fileno())
            self.total_bytes = status.st_size if self._owned and status.st_size else None

    @property
    def done(self) -> int:
        """Bytes read so far."""
        return self.bytes_read

    @property
    def total(self) -> int | None:
        """Bytes of the file, or None where that is not known."""
        return self.total_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._owned:
            self._stream.close()

    def __iter__(self) -> Iterator[Row]:
        number = 0
        while line := self._stream.readline(self._max_line + 1):
            number += 1
            self.bytes_read += len(line)
            if number == 1:
                refuse_binary(line[:BEGINNING], self.name)
            if len(line) > self._max_line and not line.endswith(b"\n"):
                yield Row(number, None, f"longer than {self._max_line} bytes", line[: 4 * _SHOWN])
                self._skip_line()
                continue
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark is not part of the row
            if line.strip():
                yield parsed_row(number, line.rstrip(b"\r\n"))

    def _skip_line(self) -> None:
        while part := self._stream.readline(_SKIP):
            self.bytes_read += len(part)
            if part.endswith(b"\n"):
                return

    def rewindable(self) -> Self:
        """The same rows, so that ``rewind`` works: what cannot be read twice is first copied to a temporary file."""
        if not self._stream.seekable():
            copy = _copied(self._stream)
            if self._owned:
                self._stream.close()
            self._stream, self._owned = copy, True
        return self

    def rewind(self) -> None:
        """Start again from the beginning."""
        self._stream.seek(0)
        self.bytes_read = 0


def read_jsonl(path: str | os.PathLike[str], *, max_line: int = MAX_LINE) -> Iterator[Row]:
    """The rows of a JSON Lines file; see :class:`JsonLines`.

    Args:
        path: the file, or "-" for standard input.
        max_line: bytes of the longest line.

    Raises:
        InvalidData: the file cannot be opened.
    """
    with JsonLines(path, max_line=max_line) as rows:
        yield from rows


def refuse_binary(start: bytes, name: str) -> None:
    """Say of a whole file what would else be said of every row of it.

    Args:
        start: its first bytes.
        name: of the file.

    Raises:
        InvalidData: it is UTF-16, compressed, or no text at all.
    """
    if start.startswith(_GZIP):
        raise InvalidData(f"{name} is compressed", hint="unpack it first: gunzip FILE")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start:
        raise InvalidData(f"{name} is not UTF-8", hint=UTF16)


def parsed_row(number: int, raw: bytes) -> Row:
    """The row that the text of a JSON object is."""
    try:
        value = parse(raw)
    except InvalidData as error:
        return Row(number, None, error.message, raw)
    if not isinstance(value, dict):
        return Row(number, None, f"must be a JSON object; got {described(value)}", raw)
    return Row(number, value, "", raw)


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """A file, open to be read.

    Raises:
        InvalidData: it cannot be opened.
    """
    path = Path(path)
    try:
        return path.open("rb")
    except FileNotFoundError:
        folder = path.parent
        near = (
            did_you_mean(path.name, [e.name for e in folder.iterdir()])
            if folder.is_dir()
            else f"there is no folder {folder} either"
        )
        raise InvalidData(f"there is no file {path}", hint=near) from None
    except IsADirectoryError:
        raise InvalidData(f"{path} is a folder", hint=f"name its files: {path / _inside(path)}") from None
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}") from error


def opened_twice(path: str | os.PathLike[str]) -> BinaryIO:
    """A file that can be read twice: standard input and pipes are copied to a temporary file.

    Raises:
        InvalidData: it cannot be opened.
    """
    stream = sys.stdin.buffer if is_standard(path) else opened(path)
    if stream.seekable() and not is_standard(path):
        return stream
    copy = _copied(stream)
    if not is_standard(path):
        stream.close()
    return copy


def _copied(stream: BinaryIO) -> BinaryIO:
    copy = tempfile.TemporaryFile()  # noqa: SIM115  its owner closes it
    while part := stream.read(_SKIP):
        copy.write(part)
    copy.seek(0)
    return copy


def _inside(folder: Path) -> str:
    """A pattern for the files of a folder."""
    suffixes = {entry.suffix for entry in folder.iterdir()} if folder.is_dir() else set()
    return next((f"*{suffix}" for suffix in (".parquet", ".csv", ".json") if suffix in suffixes), "*.jsonl")


def parse(line: bytes) -> Any:
    """One JSON value.

    Raises:
        InvalidData: not strict JSON in UTF-8, or half a surrogate pair in it.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise InvalidData(f"not UTF-8: byte {line[error.start]:#04x} at position {error.start}") from None
    try:
        value = _loads(text, int)
    except (ValueError, RecursionError):
        value = _loads_checked(text)
    if "\\ud" in text or "\\uD" in text:
        _refuse_surrogates(value)
    return value


def _loads(text: str, parse_int: Callable[[str], Any]) -> Any:
    return json.loads(text, parse_constant=_refuse_constant, parse_int=parse_int)


def _loads_checked(text: str) -> Any:
    """What was refused at first, once more: for the reason, or because an integer has thousands of digits."""
    try:
        return _loads(text, _long_integer)
    except json.JSONDecodeError as error:
        raise InvalidData(f"not JSON: {error.msg.removesuffix(' at')} at character {error.pos + 1}") from None
    except RecursionError:
        raise InvalidData(TOO_DEEP) from None


def _long_integer(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return math.inf  # an answer keeps its digits all the same, see `literal`; anything else refuses it


def _refuse_constant(name: str) -> Any:
    raise InvalidData(f"not JSON: {name} is not a JSON number")


def _refuse_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise InvalidData(TOO_DEEP) from None
    except UnicodeEncodeError:
        raise InvalidData("not storable: half a surrogate pair (\\ud800 to \\udfff) in a text") from None


def literal(line: bytes, key: str) -> str:
    """The digits of a number of the object on a line, as they stand there: "1e5" stays "1e5", "1.0" stays "1.0"."""
    return str(json.loads(line.decode(), parse_int=str, parse_float=str)[key])


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value: sorted keys, no spaces, no escapes that are not needed.

    Raises:
        ValueError: it holds a number that JSON has no word for.

    >>> canonical_json([{"role": "user", "content": "1 + 1"}])
    '[{"content":"1 + 1","role":"user"}]'
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def compact_json(value: Any) -> str:
    """A JSON value in the order it has, without spaces.

    Raises:
        ValueError: it holds a number that JSON has no word for.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def dumped(value: Any, column: str | None, dump: Callable[[Any], str] = canonical_json) -> str:
    """A JSON value as text.

    Args:
        value: what to write.
        column: its name, for the message.
        dump: how.

    Raises:
        InvalidData: it cannot be written as strict JSON.
    """
    try:
        return dump(value)
    except RecursionError:
        reason = "is nested too deeply"
    except ValueError:
        reason = "holds a number that is too large, or none (NaN)"
    raise InvalidData(f'"{column}" {reason}' if column is not None else f"a column {reason}")


def described(value: object) -> str:
    """A JSON value in a few words, for messages.

    >>> described([1]), described(None), described("yes")
    ('a list', 'null', '"yes"')
    """
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def _beside(source: str) -> Path:
    """Where refused rows of a source go."""
    path = Path(source)
    if path.is_file() or (path.is_dir() and not is_standard(source)):
        name = str(path)
    elif path.exists() or is_standard(source):
        name = "stdin"
    else:
        name = re.sub(r"[^\w.-]+", "_", source)
    return Path(f"{name}.rejected.jsonl")


class RejectedRows:
    """The file beside an input in which refused rows stand with their line and the reason; a context manager.

    It is put in place when all is done, as a whole, and an old one of the default name is removed where nothing was
    refused. So reading the same file again gives the same file of refused rows.

    Args:
        source: the input, or "-".
        path: where to write; by default the input's name with ``.rejected.jsonl`` added, in the present folder where
            the input is neither a plain file nor a folder.
        unit: what the number of a row counts, "line" or "row".

    Attributes:
        count: rows refused.
        examples: the first few, as (line number, reason).
    """

    def __init__(
        self, source: str | os.PathLike[str], path: str | os.PathLike[str] | None = None, *, unit: str = "line"
    ) -> None:
        self.path = _beside(os.fspath(source)) if path is None else Path(path)
        self._unit = unit
        self._is_default = path is None
        self.count = 0
        self.examples: list[tuple[int, str]] = []
        self._draft = draft_of(self.path)
        self._stream: Any = None

    def add(self, row: Row, reason: str | None = None) -> None:
        """Refuse a row.

        Raises:
            InvalidData: the file cannot be written.
        """
        reason = row.reason if reason is None else reason
        self.count += 1
        if len(self.examples) < 5:
            self.examples.append((row.number, reason))
        raw = row.raw.decode(errors="backslashreplace")
        raw = raw if len(raw) <= _SHOWN else raw[:_SHOWN] + "…"
        line = json.dumps({self._unit: row.number, "reason": reason, "raw": raw}, ensure_ascii=False)
        try:
            if self._stream is None:
                self._stream = self._draft.open("w", encoding="utf-8", errors="backslashreplace")
            self._stream.write(line + "\n")
        except OSError as error:
            hint = "say where it may be written: --rejected PATH"
            raise InvalidData(f"refused rows cannot be written to {self.path}: {error.strerror}", hint=hint) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()
        if kind is not None:
            self._draft.unlink(missing_ok=True)
        elif self._stream is not None:
            self._draft.replace(self.path)
        elif self._is_default:
            self.path.unlink(missing_ok=True)
