"""Whether this machine and this store are fit for work: what ``curri doctor`` says.

Packages are looked up in the installed metadata, never imported: a doctor must answer where they are broken, too.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import multiprocessing
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curri._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from curri.store.files import Holder

GOOD, DOUBTFUL, BAD = "green", "yellow", "red"

# Package: the least version, the first that is too new, the extra that installs it ("": curri itself needs it).
NEEDED: dict[str, tuple[str, str | None, str]] = {
    "numpy": ("2.1", None, ""),
    "duckdb": ("1.5.2", "3", ""),
    "polars": ("1.30", None, ""),
    "pyarrow": ("18", None, ""),
    "typer": ("0.15.4", None, ""),
}
OPTIONAL: dict[str, tuple[str, str | None, str]] = {
    "torch": ("2.6", None, "torch"),
    "transformers": ("4.51", None, "hf"),
    "datasets": ("3.6", None, "hf"),
    "vllm": ("0.32", None, "vllm"),
    "httpx2": ("2.4", None, "openai"),
    "ray": ("2.46", None, "ray"),
}
_ENGINES = ("vllm", "transformers", "httpx2")
_LEAST_PYTHON = (3, 11)
_LARGE_LOG = 1 << 30
_LITTLE_ROOM, _NO_ROOM = 5 << 30, 256 << 20
_SECONDS = 2.0
_URL = "CURRI_OPENAI_BASE_URL"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the answer.

    Attributes:
        name: what was looked at.
        verdict: "green", "yellow" (works, with something to know) or "red".
        message: what was found.
        hint: the command or the setting that helps, where the verdict is not green.
    """

    name: str
    verdict: str
    message: str
    hint: str | None = None

    def document(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def diagnose(store: Path, environment: Mapping[str, str] = os.environ) -> list[Line]:
    """Look at the installation, the store, its disk, and the engines.

    Nothing is changed and nothing is opened that a run may hold. The network is only used where the environment names
    a server in ``CURRI_OPENAI_BASE_URL``.
    """
    return [*_installation(), *_of_store(store), *_of_disk(store), _workers(), *_engines(environment)]


# ---- installation ---------------------------------------------------------------------------------------------------


def _installation() -> Iterator[Line]:
    yield Line("curri", GOOD, __version__)
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= _LEAST_PYTHON:
        yield Line("python", GOOD, version)
    else:
        least = ".".join(map(str, _LEAST_PYTHON))
        yield Line("python", BAD, f"{version}; curri needs {least} or newer", f"uv venv --python {least}")
    for name, bounds in NEEDED.items():
        yield package(name, bounds, installed_version(name))
    for name, bounds in OPTIONAL.items():
        version_found = installed_version(name)
        if version_found is not None:
            yield package(name, bounds, version_found)


def installed_version(name: str) -> str | None:
    """The version of a package from its metadata, or None; the package is not imported."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def package(name: str, bounds: tuple[str, str | None, str], version: str | None) -> Line:
    """Whether a version is one that curri works with.

    >>> package("duckdb", ("1.5.2", "3", ""), "1.4.0").hint
    "pip install 'duckdb>=1.5.2,<3'"
    """
    least, too_new, extra = bounds
    wanted = f"{name}>={least}" + (f",<{too_new}" if too_new else "")
    cure = f"pip install -U 'curri[{extra}]'" if extra else f"pip install '{wanted}'"
    if version is None:
        return Line(name, BAD, f"not installed; curri needs {wanted}", cure)
    number = _number(version)
    if number < _number(least) or (too_new is not None and number >= _number(too_new)):
        return Line(name, BAD, f"{version}; curri works with {wanted}", cure)
    return Line(name, GOOD, version)


def _number(version: str) -> tuple[int, ...]:
    """The numbers a version begins with, as far as they decide which is newer."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


# ---- store ----------------------------------------------------------------------------------------------------------


def _of_store(path: Path) -> Iterator[Line]:
    if not path.is_file():
        message = f"there is none at {path}"
        yield Line("store", DOUBTFUL, message, f"make one: curri init --store {path}; or name yours with --store")
        return
    try:
        from curri.store.files import holder_of
    except ImportError as error:  # a package is missing or broken, which a line above says
        yield Line("store", BAD, f"{path} cannot be looked at: {error}", "pip install -U curri")
        return
    holder = holder_of(path)
    yield _holder(path, holder)
    yield _log(path, holder)
    if holder is None:
        yield _opens(path)
    yield from _left_over(path)


def _holder(path: Path, holder: Holder | None) -> Line:
    if holder is None:
        return Line("held by", GOOD, "nobody has the store open")
    who = f"process {holder.pid}" + (f" ({holder.command})" if holder.command else "")
    copy = path.with_name(path.name + ".snapshot")
    if copy.exists():
        return Line("held by", GOOD, f"{who}; reading commands use the copy it published")
    hint = f"reading commands work when it has published a copy, after a minute; or stop it: kill {holder.pid}"
    return Line("held by", DOUBTFUL, f"{who}; no copy is published yet", hint)


def _log(path: Path, holder: Holder | None) -> Line:
    from curri.store.wal import log_path, read_log

    name = "write-ahead log"
    if holder is not None:  # what is read of a log that is being written means nothing
        file = log_path(path)
        size = file.stat().st_size if file.exists() else 0
        message = f"{size / 1e6:.1f} MB; it can be looked into when nobody holds the store"
        if size > _LARGE_LOG:
            return Line(name, DOUBTFUL, message, "let the run go idle, or call store.checkpoint() in it")
        return Line(name, GOOD, message)
    log = read_log(log_path(path))
    if not log.is_sound:
        return Line(name, BAD, log.describe(), f"curri store repair --store {path}")
    if log.size > _LARGE_LOG:
        return Line(name, DOUBTFUL, log.describe(), f"curri store compact --store {path}")
    return Line(name, GOOD, log.describe())


def _opens(path: Path) -> Line:
    from curri.errors import CurriError
    from curri.store import open_store

    try:
        with open_store(path, read_only=True) as store:
            message = f"{path}, {path.stat().st_size / 1e6:,.1f} MB, {len(store.prompts):,} prompts"
    except CurriError as error:
        return Line("store", BAD, error.message, error.hint or f"curri store check --store {path}")
    return Line("store", GOOD, message)


def _left_over(path: Path) -> Iterator[Line]:
    files = sorted(file.name for file in path.parent.glob(f"{path.name}.*.tmp") if not _is_alive(file.name))
    if files:
        listed = " ".join(str(path.parent / name) for name in files)
        yield Line("left-over drafts", DOUBTFUL, f"of commands that were killed: {', '.join(files)}", f"rm {listed}")
    for folder in sorted(path.parent.glob(f"{path.name}.damaged-*")):
        message = f"{folder} holds the store as it was before a repair"
        yield Line("kept copies", GOOD, message)


def _is_alive(name: str) -> bool:
    """Whether a number in the name of a draft is that of a running process."""
    return any(Path(f"/proc/{number}").exists() for number in re.findall(r"\.(\d+)\b", name))


# ---- disk -----------------------------------------------------------------------------------------------------------


def _of_disk(path: Path) -> Iterator[Line]:
    folder = path.resolve().parent
    if not folder.is_dir():
        return
    try:
        from curri.store.files import NETWORK, file_system_of, free_bytes
    except ImportError:
        return
    if not os.access(folder, os.W_OK):
        yield Line("folder", BAD, f"{folder} cannot be written to", f"chmod u+w {folder}")
    free = free_bytes(folder)
    message = f"{free / 1e9:,.1f} GB free in {folder}"
    if free < _LITTLE_ROOM:
        hint = f"make room; what is large: du -sh {folder}/* | sort -h; curri store compact --store {path}"
        yield Line("disk", BAD if free < _NO_ROOM else DOUBTFUL, message, hint)
    else:
        yield Line("disk", GOOD, message)
    kind = file_system_of(folder)
    if kind is None:
        yield Line("file system", GOOD, "the system does not tell")
    elif kind in NETWORK:
        hint = f"keep the store on a local disk: curri store backup /local/{path.name} --store {path}"
        yield Line("file system", BAD, f"{kind}: DuckDB's locks and its log are not safe on a network mount", hint)
    else:
        yield Line("file system", GOOD, kind)


# ---- workers and engines --------------------------------------------------------------------------------------------


def _workers() -> Line:
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if method != "fork":
        return Line("workers of a DataLoader", GOOD, f"they start with {method}")
    message = "they start with fork, and must not use a store that was open before"
    hint = 'DataLoader(..., multiprocessing_context="forkserver"), or open the store after the workers started'
    return Line("workers of a DataLoader", DOUBTFUL, message, hint)


def _engines(environment: Mapping[str, str]) -> Iterator[Line]:
    found = [f"{name} {version}" for name in _ENGINES if (version := installed_version(name)) is not None]
    if found:
        yield Line("engines", GOOD, f"installed: {', '.join(found)}")
    else:
        yield Line("engines", DOUBTFUL, "none is installed", "to generate rollouts: pip install 'curri[vllm]'")
    if environment.get(_URL):
        yield reachable(environment[_URL], environment.get("OPENAI_API_KEY"))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: the key is meant for the server that was named."""

    def redirect_request(self, *_: Any) -> None:
        """Answer that the request is not to be repeated elsewhere."""


def reachable(base_url: str, key: str | None = None) -> Line:
    """Whether an OpenAI-compatible server lists its models, within two seconds.

    The key is sent to that server only, and is never shown.
    """
    name = "OpenAI-compatible server"
    cure = f"start it, or give its address: export {_URL}=http://HOST:PORT/v1"
    try:
        parts = urllib.parse.urlsplit(base_url)
    except ValueError:
        parts = urllib.parse.urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return Line(name, BAD, f"what {_URL} holds is no address of a server", cure)
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        request = urllib.request.Request(base_url.rstrip("/") + "/models", headers=headers)  # noqa: S310  checked above
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            return Line(name, BAD, f"{shown} wants a key (HTTP {error.code})", "export OPENAI_API_KEY=…")
        return Line(name, BAD, f"{shown} answers with HTTP {error.code}", cure)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Line(name, BAD, f"{shown} does not answer: {getattr(error, 'reason', type(error).__name__)}", cure)
    return Line(name, GOOD, f"{shown} answers")
