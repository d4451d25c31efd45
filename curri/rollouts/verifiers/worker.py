"""The process that scores responses. It is started by ``process.py`` and by nothing else."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curri.errors import CurriError
from curri.rollouts.verifiers import frames
from curri.rollouts.verifiers.base import failed, shown
from curri.rollouts.verifiers.specification import parse_verifier
from curri.types import Prompt

if TYPE_CHECKING:
    from curri.types import Verifier

_LOOK_AFTER_PARENT = 0.5


def main(tasks: int, results: int) -> None:
    """Load the verifier that the first message names, then score until there is no more to do.

    Args:
        tasks: the file descriptor to read from.
        results: the one to write to.
    """
    settings = frames.read(tasks)
    if settings is None:
        return
    parent = settings["parent"]
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _no_core_files()
    try:
        verifier = parse_verifier(settings["verifier"])
        verifier.load()
        version = verifier.version
    except CurriError as error:
        frames.write(results, {"failed": error.code, "message": shown(error.message, 1000), "hint": error.hint})
        return
    _limit_memory(settings["memory"])
    frames.write(results, {"version": version})
    with contextlib.suppress(BrokenPipeError):
        _serve(verifier, tasks, results, settings["seconds"])
    if os.getppid() != parent:
        os.killpg(0, signal.SIGKILL)  # nobody is left to look for what a user's function may have started


def _serve(verifier: Verifier, tasks: int, results: int, seconds: float) -> None:
    try:
        while (batch := frames.read(tasks)) is not None:
            prompts = [_prompt(text) for text in batch["prompts"]]
            for place, response in batch["responses"]:
                _limit_processor(seconds)
                frames.write(results, _scored(verifier, response, prompts[place]))
    except MemoryError:
        os._exit(frames.OUT_OF_MEMORY)


def _scored(verifier: Verifier, response: str, prompt: Prompt) -> list[Any]:
    try:
        return list(verifier.score(response, prompt))
    except MemoryError:
        raise
    except CurriError as error:
        return list(failed("error", error.message))
    except BaseException as error:  # noqa: BLE001  whatever a library raises, it is this response's and no other's
        return list(failed("error", f"{type(error).__name__}: {error}"))


@lru_cache(maxsize=256)
def _prompt(text: str) -> Prompt:
    """A prompt as it was sent; the same object for the same text, so that verifiers can keep what they make of it."""
    import json

    return Prompt(**json.loads(text))


def _end_with(parent: int) -> None:
    """End this process and those it started as soon as the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(_LOOK_AFTER_PARENT)
    os.killpg(0, signal.SIGKILL)


def _limit_processor(seconds: float) -> None:
    """Let the system end this process where it computes for ever and the parent is no longer there to do it.

    Code that never gives up the interpreter's lock keeps ``_end_with`` from running.
    """
    import resource

    allowed = math.ceil(time.process_time() + seconds * (os.cpu_count() or 1)) + 5
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (_lower(allowed, hard), hard))


def _limit_memory(extra: int | None) -> None:
    """Allow so many bytes of address space beyond those in use, where the system can say how many those are."""
    import resource

    if extra is None:
        return
    with contextlib.suppress(ValueError, OSError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        allowed = _lower(pages * resource.getpagesize() + extra, hard)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))


def _no_core_files() -> None:
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _lower(wanted: int, hard: int) -> int:
    return wanted if hard < 0 else min(wanted, hard)  # a hard limit below 0 is none
