"""What the command line prints: data on standard output, talk on standard error."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_EVERY_SECONDS = 10.0

# Characters that steer a terminal, break a line or turn its direction, and halves of surrogate pairs.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: object) -> str:
    r"""A text that may come from a file or the store, with the characters escaped that could steer a terminal.

    >>> printable("red: \x1b[31m")
    'red: \\x1b[31m'
    """
    return _UNSAFE.sub(_escaped, str(text))


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def say(*lines: object) -> None:
    """Talk to the user: one line each, on standard error."""
    for line in lines:
        print(printable(line), file=sys.stderr)  # noqa: T201  this is where the command line prints


def write_line(line: str) -> None:
    """One line of data, on standard output."""
    print(line)  # noqa: T201  this is where the command line prints


def document(value: Mapping[str, Any]) -> None:
    """The answer under ``--json``: one JSON document on standard output, ``"ok": true`` first."""
    _write_document({"ok": True, **value})


def error_document(code: str, message: str, hint: str | None) -> None:
    """An error under ``--json``."""
    _write_document({"ok": False, "error": {"code": code, "message": message, "hint": hint}})


def _write_document(value: Mapping[str, Any]) -> None:
    on_terminal = sys.stdout.isatty()
    text = json.dumps(finite(value), ensure_ascii=on_terminal, allow_nan=False, default=str, indent=2)
    write_line(text.replace("\x7f", "\\u007f"))


def finite(value: Any) -> Any:
    """A value with null for every number that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    return value


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a table: numbers to the right, everything else to the left.

    >>> table(["arm", "share"], [["math", 0.5], ["code", None]])
    ['arm   share', '----  -----', 'math    0.5', 'code      -']
    """
    cells = [[shown(value) for value in row] for row in rows]
    numeric = [
        all(value is None or isinstance(value, (int, float)) for value in column) and bool(column)
        for column in (list(column) for column in zip(*rows, strict=True))
    ] or [False] * len(headings)
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]

    def line(entries: Sequence[str]) -> str:
        padded = [
            entry.rjust(width) if right else entry.ljust(width)
            for entry, width, right in zip(entries, widths, numeric, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return [line(headings), line(["-" * width for width in widths]), *(line(row) for row in cells)]


def shown(value: object) -> str:
    """A value as a cell of a table.

    >>> shown(0.123456), shown(1234567), shown(None), shown(True)
    ('0.1235', '1,234,567', '-', 'yes')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(value)


@contextlib.contextmanager
def progress(label: str, *, quiet: bool = False) -> Iterator[Callable[[int, int | None, str], None]]:
    """Show how far a command is: a bar on a terminal, else a line every ten seconds, nothing if ``quiet``.

    Gives a function of what is done, of how much (or None), and a word to show beside it.
    """
    if quiet:
        yield lambda *_: None
    elif sys.stderr.isatty():
        with _bar(label) as update:
            yield update
    else:
        yield _plain_progress(label)


@contextlib.contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int | None, str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(label), total=None, note="")

        def update(done: int, total: int | None, note: str) -> None:
            bar.update(task, completed=done, total=total, note=printable(note))

        yield update


def _plain_progress(label: str) -> Callable[[int, int | None, str], None]:
    last = time.monotonic()

    def update(done: int, total: int | None, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY_SECONDS:
            last = time.monotonic()
            share = f"{100 * done / total:.0f} %, " if total else ""
            say(f"{label}: {share}{note}")

    return update


def count(number: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun.

    >>> count(1, "prompt"), count(2000, "prompt")
    ('1 prompt', '2,000 prompts')
    """
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def ago(seconds: float) -> str:
    """How long ago, in words.

    >>> ago(5), ago(600)
    ('5 seconds ago', '10 minutes ago')
    """
    return f"{seconds:.0f} seconds ago" if seconds < 120 else f"{seconds / 60:.0f} minutes ago"
