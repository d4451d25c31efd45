"""Metrics as JSON Lines: one line a step, appended."""

from __future__ import annotations

import json
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from curri.errors import InvalidInput
from curri.exchange.jsonl import spare_stores

if TYPE_CHECKING:
    from collections.abc import Mapping


class JsonLinesWriter:
    """Appends ``{"time": …, "run": …, "step": …, "<metric>": …}`` to a file, a line a step.

    A line is there whole or not at all: it is written in one go, and cut off again where the disk was full in the
    middle of it. A last line that a power cut left unfinished is ended first, so that it spoils no other.

    Args:
        path: the file; made where it is missing.
        run: the name of the run, written with every line; left out if None.

    Raises:
        InvalidInput: it cannot be opened for writing, or it is a store.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     writer = JsonLinesWriter(folder + "/metrics.jsonl", run="r1")
    ...     writer.write({"scheduler/rounds_open": 2.0}, step=1)
    ...     print(Path(folder, "metrics.jsonl").read_text())
    {"time": "...", "run": "r1", "step": 1, "scheduler/rounds_open": 2.0}
    """

    def __init__(self, path: str | os.PathLike[str], *, run: str | None = None) -> None:
        self._path = Path(path)
        self._run = {} if run is None else {"run": run}
        spare_stores(self._path)
        try:
            os.close(self._open())
        except OSError as error:
            message = f"metrics cannot be written to {self._path}: {error.strerror}"
            raise InvalidInput(message, hint="name a file in a folder that exists and may be written to") from error

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        """Append a line; numbers that JSON has no word for are null.

        Raises:
            OSError: it could not be written whole; the file is as it was.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        values = {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}
        line = json.dumps({"time": now, **self._run, "step": step, **values}, allow_nan=False) + "\n"
        file = self._open()
        try:
            _append(file, line.encode())
        finally:
            os.close(file)

    def close(self) -> None:
        """Nothing is left to do: the file is closed after every line."""

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _append(file: int, data: bytes) -> None:
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        data = b"\n" + data
    try:
        written = os.write(file, data)
        if written < len(data):
            os.write(file, data[written:])  # says what is the matter, or finishes it
    except OSError:
        if os.fstat(file).st_size > size:
            os.ftruncate(file, size)
        raise
