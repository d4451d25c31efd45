"""The files of a store on the disk: who holds them, what is beside them, whether there is room."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curri.errors import StoreError, StoreLocked
from curri.store.connection import is_open_here

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "beegfs", "glusterfs", "ceph", "fuse.sshfs", "afs", "9p",
           "fuse.s3fs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs", "wekafs", "gpfs"}  # fmt: skip
_MAGIC = b"DUCK"
_MAGIC_AT = 8  # behind a checksum
_MARGIN = 16 << 20
_LONGEST_COMMAND = 200


def is_duckdb(path: Path) -> bool:
    """Whether a file is one of DuckDB, by its first bytes; False where it cannot be read."""
    if is_open_here(path):  # not touched, as closing any handle of it would give up the lock
        return True
    try:
        with path.open("rb") as file:
            return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a store open; ``command`` is "" where the system does not tell it."""

    pid: int
    command: str


def holder_of(path: Path) -> Holder | None:
    """The process that has a store open, this one included; None where there is none, or the system does not tell.

    A store that this process has open is never touched: closing any handle of a file gives up the lock on it.
    """
    if is_open_here(path):
        return Holder(os.getpid(), _command(os.getpid()))
    if fcntl is None or not path.exists():
        return None
    linux = sys.platform.startswith("linux")
    form = "hhqqi4x" if linux else "qqihh"
    lock = (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0) if linux else (0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
    try:
        with path.open("rb") as file:
            answer = struct.unpack(form, fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(form, *lock)))
    except OSError:
        return None
    kind, pid = (answer[0], answer[4]) if linux else (answer[3], answer[2])
    return None if kind == fcntl.F_UNLCK else Holder(pid, _command(pid))


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\x00")
    except OSError:
        return ""
    text = " ".join(word.decode(errors="replace") for word in words if word)
    return text if len(text) <= _LONGEST_COMMAND else text[:_LONGEST_COMMAND] + " …"


def refuse_if_held(path: Path) -> None:
    """Refuse to go on while a process has the store open.

    Raises:
        StoreLocked: one has.
    """
    holder = holder_of(path)
    if holder is not None:
        who = "this process" if holder.pid == os.getpid() else f"process {holder.pid} ({holder.command})"
        raise StoreLocked(
            f"the store {path} is held by {who}; nobody may have it open for this",
            hint="close it there, or wait for it to finish, and run the command again",
            pid=holder.pid,
        )


@contextlib.contextmanager
def held(path: Path) -> Iterator[BinaryIO]:
    """Keep every other process from opening a store; gives its file, which must be read through this handle only.

    Raises:
        StoreLocked: a process has it open.
    """
    refuse_if_held(path)
    with path.open("r+b") as file:
        if fcntl is not None:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StoreLocked(f"the store {path} is held by another process") from error
        yield file


def copy_handle(source: BinaryIO, target: Path) -> None:
    """Copy an open file to a new one, and have it on the disk."""
    source.seek(0)
    with target.open("xb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
        sync(sink)


def sync(file: Any) -> None:
    """Have what was written on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have renamings in a folder on the disk."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def log_files(path: Path) -> list[Path]:
    """The write-ahead log of a store and what DuckDB may have left beside it."""
    ends = (".wal", ".wal.checkpoint", ".wal.recovery")
    return [file for end in ends if (file := path.with_name(path.name + end)).exists()]


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder."""
    return shutil.disk_usage(folder).free


def refuse_if_short(folder: Path, needed: int, what: str) -> None:
    """Refuse to go on where the disk has no room.

    Raises:
        StoreError: it has less than ``needed`` bytes and some.
    """
    free = free_bytes(folder)
    if free < needed + _MARGIN:
        raise StoreError(
            f"{what} needs {(needed + _MARGIN) / 1e6:,.0f} MB in {folder}; {free / 1e6:,.0f} MB are free",
            hint="make room on that disk; nothing was changed",
        )


def new_folder(path: Path, word: str) -> Path:
    """Make a folder beside a store, with the first free number in its name."""
    number = 1
    while True:
        folder = path.with_name(f"{path.name}.{word}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def file_system_of(path: Path) -> str | None:
    """Type of the file system a path is on, such as "ext4" or "nfs4"; None where the system does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    place = path.resolve()
    best, found = -1, None
    for line in lines:
        mount, kind = [*line.split(" ")[1:3], "", ""][:2]
        point = Path(mount.replace("\\040", " ") or "/")
        if place.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), kind
    return found
