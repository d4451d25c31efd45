"""DuckDB's write-ahead log, read without DuckDB: how far it is whole, and what stands behind a damage.

DuckDB takes a log that ends in the middle of an entry for one whose writer was killed, and opens the store without what
comes after. A damaged length field looks the same, so committed transactions can vanish without a word; what is read
here tells the two apart. The log (version 2, with checksums) is a header and a chain of entries: eight bytes of length,
eight of checksum, then so many bytes. The last entry of a transaction, the mark of its commit, is always the same.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

COMMIT = bytes.fromhex("0500000000000000e7fe7d722fed3d5e640064ffff")
"""The entry that ends a transaction."""

VERSION = 2
_ENTRY = struct.Struct("<QQ")
_MULTIPLIER, _SHIFT, _SEED, _START = 0xC6A4A7935BD1E995, 47, 0xE17A1465, 5381
_BLOCK_MULTIPLIER = 0xBF58476D1CE4E5B9
_MASK = (1 << 64) - 1
_CHUNK = 1 << 20
_LONGEST_HEADER = 128
_IDENTITY_SIZE = 16
# More differing bytes than these, and the end of a log is not a damaged mark of a commit.
_NEAR_A_MARK = 4


@dataclass(frozen=True, slots=True)
class Log:
    """What is in a write-ahead log.

    Attributes:
        path: the file.
        size: its bytes.
        version: of the format; None where the header cannot be read. Logs of other versions than 2 are not looked into.
        body: where the first entry begins.
        good: bytes up to the end of the last transaction before any damage.
        transactions: how many there are up to there.
        parts: stretches of whole transactions, as (start, end); those after the first stand behind a damage.
        readable: transactions in the later parts.
        lost: commits that stand behind the first damage, readable ones among them.
        trouble: None; "unfinished" (the writer was killed before it committed: nothing is lost); "zeros" (the end is
            filled with zeros); "header"; "damaged"; or "unknown" (of
            another version: DuckDB may be able to read it).
    """

    path: Path
    size: int
    version: int | None = None
    body: int = 0
    good: int = 0
    transactions: int = 0
    parts: tuple[tuple[int, int], ...] = ()
    readable: int = 0
    lost: int = 0
    trouble: str | None = None

    @property
    def is_sound(self) -> bool:
        """Whether all that was committed can be read."""
        return self.trouble in (None, "unfinished", "unknown")

    def describe(self) -> str:
        """One sentence."""
        if not self.size:
            return "there is no write-ahead log: everything is in the file"
        plural = "" if self.transactions == 1 else "s"
        whole = f"{self.transactions} whole transaction{plural} in {self.size / 1e6:.1f} MB"
        tail = self.size - self.good
        return {
            None: f"the write-ahead log is whole: {whole}",
            "unfinished": f"the write-ahead log has {whole}, and {tail} bytes of one that was never committed",
            "zeros": f"the write-ahead log has {whole}; its last {tail} bytes are filled with zeros or cut off in them",
            "header": f"the header of the write-ahead log is damaged; {whole} follow it",
            "damaged": f"the write-ahead log is damaged at byte {self.good}; {self.lost} commits stand behind it",
            "unknown": f"the write-ahead log ({self.size / 1e6:.1f} MB) is of a version that is not known here",
        }[self.trouble]


def log_path(store: Path) -> Path:
    """Where the write-ahead log of a store is."""
    return store.with_name(store.name + ".wal")


def read_log(path: Path, *, verify: bool = True, any_version: bool = False) -> Log:
    """Look through a write-ahead log; a missing one is empty.

    Args:
        path: the log, not the store.
        verify: compare checksums too; without, only the chain of lengths is followed, which costs next to nothing.
        any_version: take a header that names another version for a damaged one.
    """
    try:
        with path.open("rb") as file:
            return _Reader(file, path, verify=verify).read(any_version=any_version)
    except FileNotFoundError:
        return Log(path, 0)


def checksum(data: bytes) -> int:
    """DuckDB's checksum of an entry.

    >>> checksum(COMMIT[16:]) == int.from_bytes(COMMIT[8:16], "little")
    True
    """
    import numpy as np

    whole = len(data) // 8
    result = _START
    if whole:
        words = np.frombuffer(data, dtype="<u8", count=whole) * _BLOCK_MULTIPLIER
        result ^= int(np.bitwise_xor.reduce(words))
    rest = data[whole * 8 :]
    return result ^ _checksum_of_rest(rest) if rest else result


def _checksum_of_rest(rest: bytes) -> int:
    mixed = (_SEED ^ (len(rest) * _MULTIPLIER)) & _MASK
    mixed = (mixed ^ int.from_bytes(rest, "little")) * _MULTIPLIER & _MASK
    mixed = (mixed ^ (mixed >> _SHIFT)) * _MULTIPLIER & _MASK
    return mixed ^ (mixed >> _SHIFT)


def header_size(data: bytes) -> tuple[int, int] | None:
    """Bytes of the header that ``data`` begins with, and the version it names; None where it is none.

    Fields 100 to 103: type of the entry, version, 16 bytes of the database's identity, number of its last checkpoint.
    """
    place = 0

    def field(number: int) -> bool:
        nonlocal place
        place += 2
        return data[place - 2 : place] == number.to_bytes(2, "little")

    def integer() -> int:
        nonlocal place
        value = shift = 0
        while place < len(data):
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        return value

    if not field(100) or integer() != ord("b") or not field(101):
        return None
    version = integer()
    if version != VERSION:
        return 0, version
    if not field(102) or integer() != _IDENTITY_SIZE or max(integer() for _ in range(_IDENTITY_SIZE)) > 0xFF:
        return None
    if not field(103):
        return None
    integer()
    return (place, version) if field(0xFFFF) else None


class _Reader:
    """Goes through one file."""

    def __init__(self, file: BinaryIO, path: Path, *, verify: bool) -> None:
        self._file = file
        self._path = path
        self._verify = verify
        self._size = os.fstat(file.fileno()).st_size

    def read(self, *, any_version: bool) -> Log:
        if not self._size:
            return Log(self._path, 0)
        header = header_size(self._at(0, _LONGEST_HEADER))
        if header is not None and header[1] != VERSION and any_version:
            header = None
        if header is not None and header[1] != VERSION:
            return Log(self._path, self._size, version=header[1], trouble="unknown")
        body = self._first_entry() if header is None else header[0]
        if body is None:
            trouble = "unfinished" if self._size < _LONGEST_HEADER and not self._commits(0) else "header"
            return Log(self._path, self._size, lost=self._commits(0), trouble=trouble)
        parts = self._parts(body)
        first = parts[0] if parts and parts[0][0] == body else (body, body, 0)
        good = first[1]
        lost = self._commits(good)
        return Log(
            path=self._path,
            size=self._size,
            version=None if header is None else VERSION,
            body=body,
            good=good,
            transactions=first[2],
            parts=tuple((start, end) for start, end, _ in parts),
            readable=sum(number for start, _, number in parts if start > good),
            lost=lost,
            trouble="header" if header is None else self._trouble(good, lost),
        )

    def _at(self, place: int, size: int) -> bytes:
        self._file.seek(place)
        return self._file.read(max(min(size, self._size - place), 0))  # it may be growing

    def _first_entry(self) -> int | None:
        """Where the entries begin behind a header that cannot be read: at the first one whose checksum is right."""
        for place in range(min(_LONGEST_HEADER, self._size)):
            if self._entry(place, verify=True) > 0:
                return place
        return None

    def _entry(self, place: int, *, verify: bool) -> int:
        """Bytes of the entry at a place; 0 where there is no whole one."""
        head = self._at(place, _ENTRY.size)
        if len(head) < _ENTRY.size:
            return 0
        length, expected = _ENTRY.unpack(head)
        if not 0 < length <= self._size - place - _ENTRY.size:
            return 0
        if verify and checksum(self._file.read(length)) != expected:
            return 0
        return int(_ENTRY.size + length)

    def _parts(self, body: int) -> list[tuple[int, int, int]]:
        """Stretches of whole transactions with their number; a new one begins behind the next commit after a damage."""
        parts = []
        start: int | None = body
        while start is not None:
            end, number, stopped = self._stretch(start)
            if number:
                parts.append((start, end, number))
            mark = self._find(COMMIT, max(stopped, end))
            start = None if mark is None else mark + len(COMMIT)
        return parts

    def _stretch(self, start: int) -> tuple[int, int, int]:
        """The whole transactions from here on: where they end, how many they are, and where reading stopped."""
        place = end = start
        number = 0
        while size := self._entry(place, verify=self._verify):
            is_commit = size == len(COMMIT) and self._at(place, size) == COMMIT
            place += size
            if is_commit:
                end, number = place, number + 1
        return end, number, place

    def _find(self, wanted: bytes, place: int) -> int | None:
        while place < self._size:
            chunk = self._at(place, _CHUNK + len(wanted))
            found = chunk.find(wanted)
            if found >= 0:
                return place + found
            place += _CHUNK
        return None

    def _commits(self, place: int) -> int:
        number = 0
        while (found := self._find(COMMIT, place)) is not None:
            number, place = number + 1, found + len(COMMIT)
        return number

    def _trouble(self, good: int, lost: int) -> str | None:
        if good == self._size:
            return None
        if lost or self._ends_in_damaged_mark(good):
            return "damaged"
        if not self._is_wrong(good):
            return "unfinished"
        return "damaged" if any(self._at(max(good, self._size - 8), 8)) else "zeros"

    def _is_wrong(self, good: int) -> bool:
        """Whether what stands behind the last commit is no beginning of a transaction.

        A killed writer leaves an entry that is longer than what there is of it.
        """
        place = good
        while size := self._entry(place, verify=self._verify):
            place += size
        head = self._at(place, _ENTRY.size)
        return len(head) == _ENTRY.size and _ENTRY.unpack(head)[0] <= self._size - place - _ENTRY.size

    def _ends_in_damaged_mark(self, good: int) -> bool:
        if self._size - good < len(COMMIT):
            return False
        end = self._at(self._size - len(COMMIT), len(COMMIT))
        return sum(a != b for a, b in zip(end, COMMIT, strict=True)) <= _NEAR_A_MARK
