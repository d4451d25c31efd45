"""What the pool and its workers say to each other: JSON with its length in front, over a pipe each way."""

from __future__ import annotations

import json
import os
import struct
from typing import Any, Final

_LENGTH = struct.Struct(">I")
_READ: Final = 1 << 20

OUT_OF_MEMORY: Final = 97
"""Exit status of a worker that ran into its memory limit."""


def write(fd: int, value: Any) -> None:
    """Write one value; halves of surrogate pairs and NaN come through.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    text = json.dumps(value, separators=(",", ":")).encode()
    view = memoryview(_LENGTH.pack(len(text)) + text)
    while view:
        view = view[os.write(fd, view) :]


def read(fd: int) -> Any:
    """The next value; None at the end. It waits."""
    header = _read_exactly(fd, _LENGTH.size)
    if header is None:
        return None
    text = _read_exactly(fd, _LENGTH.unpack(header)[0])
    return None if text is None else json.loads(text)


def _read_exactly(fd: int, size: int) -> bytes | None:
    parts = []
    while size:
        part = os.read(fd, min(size, _READ))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Inbox:
    """Values that arrive in pieces."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def take(self, piece: bytes) -> list[Any]:
        """The values that are whole now."""
        self._bytes += piece
        values = []
        while len(self._bytes) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._bytes)[0]
            if len(self._bytes) < end:
                break
            values.append(json.loads(bytes(self._bytes[_LENGTH.size : end])))
            del self._bytes[:end]
        return values
