"""Where the numbers of a run go: writers that may fail, hang or be far away without the run noticing."""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["MetricsWriter", "Outlet"]

_log = logging.getLogger("curri")

QUEUE = 64
"""Steps that wait for a slow writer; further ones are dropped and counted."""

PATIENCE = 10.0
"""Seconds that closing waits for what is still to be written."""


@runtime_checkable
class MetricsWriter(Protocol):
    """What takes numbers somewhere; ``curri.integrations.metrics`` has some. It is called in a thread of its own."""

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        """Write the numbers of one step; steps come in ascending order."""

    def close(self) -> None:
        """Write what is left and let go. A later ``write`` may open it again."""


class Outlet:
    """Hands metrics to writers, each in a thread of its own, and counts what they lose.

    A writer that raises is told of the next step all the same. One that is slow has a queue; what does not fit is
    dropped. Both are counted, and said once for each writer.

    Args:
        writers: where to write; none is fine.
        patience: seconds that ``close`` waits for each of them.

    Raises:
        InvalidParameter: one of them is not a writer.

    >>> class Printing:
    ...     def write(self, metrics, step):
    ...         print(step, metrics)
    ...
    ...     def close(self):
    ...         print("closed")
    >>> outlet = Outlet([Printing()])
    >>> outlet.write({"loss": 0.5}, 1)
    >>> outlet.close()
    1 {'loss': 0.5}
    closed
    >>> outlet.counts()
    {'metrics_failed': 0, 'metrics_dropped': 0}
    """

    def __init__(self, writers: Sequence[MetricsWriter] = (), *, patience: float = PATIENCE) -> None:
        for writer in writers:
            if not isinstance(writer, MetricsWriter):
                message = f"`writers` must hold objects with `write(metrics, step)` and `close()`; got {writer!r}"
                raise InvalidParameter(message, hint="curri.integrations.metrics has some, such as JsonLinesWriter")
        self._lines = [_Line(writer, patience) for writer in writers]

    def __bool__(self) -> bool:
        return bool(self._lines)

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        """Hand on the numbers of one step; returns at once."""
        for line in self._lines:
            line.send(metrics, step)

    def counts(self) -> dict[str, int]:
        """How many steps were lost: writers raised, or were too slow."""
        return {
            "metrics_failed": sum(line.failed for line in self._lines),
            "metrics_dropped": sum(line.dropped for line in self._lines),
        }

    def close(self) -> None:
        """Wait a while for what is still to be written, and close the writers."""
        for line in self._lines:
            line.close()


class _Line:
    """One writer, its queue and its thread."""

    def __init__(self, writer: MetricsWriter, patience: float) -> None:
        self.failed = self.dropped = 0
        self._writer, self._patience = writer, patience
        self._queue: queue.Queue[tuple[Mapping[str, float], int] | None] = queue.Queue(QUEUE)
        self._thread: threading.Thread | None = None
        self._said: set[str] = set()
        self._is_stuck = False

    def send(self, metrics: Mapping[str, float], step: int) -> None:
        if self._is_stuck:
            self.dropped += 1
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="curri-metrics", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        try:
            self._queue.put_nowait((dict(metrics), step))
        except queue.Full:
            self.dropped += 1
            self._say("dropped", f"is too slow: {QUEUE} steps wait for it, further ones are dropped")

    def close(self) -> None:
        thread, self._thread = self._thread, None
        atexit.unregister(self.close)
        if thread is None:
            return
        until = time.monotonic() + self._patience
        try:
            self._queue.put(None, timeout=self._patience)
            thread.join(max(until - time.monotonic(), 0.0))
        except queue.Full:
            pass
        if thread.is_alive():
            self.dropped += 1 + self._queue.qsize()
            self._say("dropped", f"is still busy after {self._patience:g} seconds; what it has not written is lost")
            self._is_stuck = True

    def _work(self) -> None:
        jobs = self._queue
        while (job := jobs.get()) is not None:
            self._attempt(self._writer.write, *job)
        self._attempt(self._writer.close)

    def _attempt(self, action: Callable[..., None], *values: object) -> None:
        try:
            action(*values)
        except Exception as error:  # noqa: BLE001  whatever a writer does, the run goes on
            self.failed += 1
            self._say("failed", f"failed ({type(error).__name__}: {error}); further steps are tried, without a word")

    def _say(self, kind: str, message: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            shown = " ".join(message.split())
            _log.warning("metrics: %s %s; the run goes on", type(self._writer).__name__, shown)
