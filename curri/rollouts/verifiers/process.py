"""One worker process, as the pool sees it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from curri.errors import CurriError, MissingExtra, VerifierFailed
from curri.rollouts.verifiers import frames
from curri.rollouts.verifiers.user_function import search_path

if TYPE_CHECKING:
    from collections.abc import Sequence

_START = (
    "import json, sys\n"
    "sys.path[:] = json.loads(sys.argv[3])\n"
    "from curri.rollouts.verifiers.worker import main\n"
    "main(int(sys.argv[1]), int(sys.argv[2]))\n"
)
GRACE: Final = 1.0
"""Seconds that a process has to end by itself."""

_PIECE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a worker is told when it starts.

    Attributes:
        verifier: specification.
        version: that of the verifier when the pool was made.
        seconds: for one response.
        memory: bytes of address space beyond what it takes once loaded, or None.
        start_seconds: for loading the verifier.
    """

    verifier: str
    version: str
    seconds: float
    memory: int | None
    start_seconds: float


class Worker:
    """A process that scores one batch at a time, answer by answer.

    It is a program of its own and not a fork, so that it starts alike from threads, from forked processes and from
    notebooks; it leads a session of its own, so that Ctrl-C is the parent's alone, and can be ended with all that it
    started.

    Attributes:
        waiting: places of the responses in hand, in the order in which they are scored.
        scored: responses scored so far.
        ready: whether the verifier is loaded.
        deadline: when what is under way must be done, on the monotonic clock.
    """

    def __init__(self, settings: Settings) -> None:
        self.waiting: deque[int] = deque()
        self.scored = 0
        self.ready = False
        self._hung_up = False
        self._settings = settings
        self.deadline = time.monotonic() + settings.start_seconds
        self._inbox = frames.Inbox()
        task_end, self._tasks = os.pipe()
        self.results, result_end = os.pipe()
        try:
            self._process = _started(task_end, result_end)
        except BaseException:
            os.close(self._tasks)
            os.close(self.results)
            raise
        finally:
            os.close(task_end)
            os.close(result_end)
        message = {
            "verifier": settings.verifier,
            "seconds": settings.seconds,
            "memory": settings.memory,
            "parent": os.getpid(),
        }
        self._say(message)

    def _say(self, message: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # its end of the results is closed too, which is seen there
            frames.write(self._tasks, message)

    def give(self, batch: dict[str, Any], places: Sequence[int]) -> None:
        """Hand over responses; there must be none in hand."""
        self.waiting.extend(places)
        self.deadline = time.monotonic() + self._settings.seconds
        self._say(batch)

    def hear(self) -> tuple[list[tuple[int, list[Any]]], bool]:
        """What it has to say: (place, score) of responses, and whether that was its last word.

        Raises:
            VerifierFailed: it cannot load the verifier.
            MissingExtra: a package is missing.
        """
        piece = os.read(self.results, _PIECE)
        heard = []
        for value in self._inbox.take(piece):
            if not self.ready:
                self._loaded(value)
                continue
            heard.append((self.waiting.popleft(), value))
            self.scored += 1
        if heard:
            self.deadline = time.monotonic() + self._settings.seconds
        return heard, not piece

    def _loaded(self, message: dict[str, Any]) -> None:
        if "failed" in message:
            kind: type[CurriError] = MissingExtra if message["failed"] == MissingExtra.code else VerifierFailed
            raise kind(message["message"], hint=message["hint"])
        if message["version"] != self._settings.version:
            raise VerifierFailed(
                f"the verifier {self._settings.verifier} has changed since scoring began: it was of version "
                f"{self._settings.version}, and is of {message['version']} now",
                hint="start anew: a changed verifier scores what is stored again, without generating",
            )
        self.ready = True

    def hang_up(self) -> None:
        """Let an idle process leave."""
        if not self._hung_up:
            self._hung_up = True
            os.close(self._tasks)
            os.close(self.results)

    def end(self, grace: float = 0.0) -> int:
        """End the process and all it started; gives its exit status, negative for a signal."""
        self.hang_up()
        with contextlib.suppress(subprocess.TimeoutExpired):
            if grace:
                self._process.wait(grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def leave(self) -> None:
        """Forget a process that belongs to the parent of this one."""
        self.hang_up()
        self._process.returncode = 0  # it is not ours to wait for


class Crew:
    """The processes of a pool.

    Attributes:
        size: how many there may be.
        settings: of each.
        workers: those there are.
    """

    def __init__(self, size: int, settings: Settings) -> None:
        self.size = size
        self.settings = settings
        self.workers: list[Worker] = []

    def start(self) -> None:
        """One more."""
        self.workers.append(Worker(self.settings))

    def end(self, worker: Worker, grace: float = 0.0) -> int:
        """One less; gives its exit status."""
        self.workers.remove(worker)
        return worker.end(grace)

    def end_all(self, grace: float = 0.0) -> None:
        """End all of them; each has that many seconds to leave by itself."""
        for worker in self.workers:
            worker.hang_up()
        while self.workers:
            self.workers.pop().end(grace)

    def leave(self) -> None:
        """Forget processes that belong to the parent of this one."""
        while self.workers:
            self.workers.pop().leave()


def _started(task_end: int, result_end: int) -> subprocess.Popen[bytes]:
    path = json.dumps([entry or "" for entry in search_path()])
    one_thread = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name not in os.environ}
    return subprocess.Popen(  # noqa: S603  this interpreter and our own program
        [sys.executable, "-c", _START, str(task_end), str(result_end), path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(task_end, result_end),
        env={**os.environ, **one_thread},
        start_new_session=True,
    )
