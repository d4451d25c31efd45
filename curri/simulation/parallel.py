"""Many independent pieces of work, in processes or in this one."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["cores", "in_parallel"]

_Result = TypeVar("_Result")
_shared: dict[str, Any] = {}
"""What all the work of a process has in common."""


def cores() -> int:
    """Processor cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


def in_parallel(
    function: Callable[..., _Result], arguments: Sequence[tuple[Any, ...]], *, shared: Any, jobs: int
) -> Iterator[tuple[int, _Result]]:
    """Call ``function(shared, *arguments[i])`` for every i; gives i and the result as they are done, in any order.

    With one job all of it happens in this process. Processes are spawned, not forked, as a child may not inherit an
    open store. They end when the caller stops taking results, is interrupted, or dies.

    Args:
        function: at the top of a module, so that another process finds it.
        arguments: of each call.
        shared: handed to every process once.
        jobs: processes at most.
    """
    if min(jobs, len(arguments)) <= 1:
        for place, each in enumerate(arguments):
            yield place, function(shared, *each)
        return
    context = multiprocessing.get_context("spawn")
    n = min(jobs, len(arguments))
    executor = ProcessPoolExecutor(n, mp_context=context, initializer=_begin, initargs=(shared,))
    try:
        with _deaf():
            waiting = {executor.submit(_work, function, each): place for place, each in enumerate(arguments)}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    except BaseException:
        # Nobody wants their results any more. Futures are not cancelled: the executor, which sees its processes die,
        # would trip over those.
        for process in list((getattr(executor, "_processes", None) or {}).values()):
            process.terminate()
        raise
    finally:
        executor.shutdown()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Hear Ctrl-C afterwards. Processes that are started meanwhile never hear it: it is for their caller."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(shared: Any) -> None:
    """Set up a process, which has nothing to do without its caller."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _shared["value"] = shared
    threading.Thread(target=_end_with_caller, daemon=True).start()


def _end_with_caller() -> None:
    caller = multiprocessing.parent_process()
    if caller is not None:
        caller.join()
        os._exit(1)


def _work(function: Callable[..., _Result], arguments: tuple[Any, ...]) -> _Result:
    return function(_shared["value"], *arguments)
