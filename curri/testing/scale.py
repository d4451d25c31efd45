"""Checks: a large pool and a long run."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.state import pack
from curri.testing.case import Case, expect, promise
from curri.testing.scenario import POOL_SIZE, answers, even_pool, play, small_pool, step
from curri.types import Rollouts

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from curri.curricula.base import Curriculum

_SMALL, _LARGE = 10_000, 100_000
_BATCH = 64
_ARMS = 8


@promise()
def check_no_loop_over_the_pool(case: Case) -> None:
    """A round runs about as many lines of Python over 100,000 prompts as over 10,000, and takes at most 40 × the time.

    Lines are counted, as a count knows no noise: a loop over the pool runs ten times as many. The time only has to
    rule out what is worse than linear, so the bound is wide.
    """
    lines, seconds = [], []
    for size in (_SMALL, _LARGE):
        curriculum = case.build(even_pool(size, _ARMS))
        step(curriculum, _BATCH)
        lines.append(_lines_of(partial(_round, curriculum)))
        seconds.append(min(_seconds_of(partial(_round, curriculum)) for _ in range(3)))
    small, large = lines
    expect(
        large <= 2 * small + 2000, f"a round runs {small} lines of Python over {_SMALL} prompts, {large} over {_LARGE}"
    )
    small_s, large_s = seconds
    expect(
        large_s <= 40 * small_s + 0.1,
        f"a round takes {small_s:.4f} s over {_SMALL} prompts, {large_s:.4f} s over {_LARGE}",
    )


def _round(curriculum: Curriculum) -> None:
    busy = curriculum.pool.ids[:: len(curriculum.pool) // 100]
    selection = curriculum.ask(_BATCH, exclude=busy)
    curriculum.tell(answers(curriculum, selection))
    curriculum.advance()
    curriculum.changes()
    curriculum.metrics()
    curriculum.explain(int(selection.prompt_ids[0]))


def _lines_of(call: Callable[[], object]) -> int:
    """How many lines of Python ``call`` runs; every turn of a loop counts."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def _seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@promise()
def check_state_stays_bounded(case: Case) -> None:
    """A long run does not grow without bound: named rollouts cost at most 24 bytes each, all else levels off."""
    curriculum = case.build(small_pool())
    ids = np.repeat(curriculum.pool.ids, 8)
    sizes = []
    for round_ in range(60):
        curriculum.ask(POOL_SIZE)
        rewards = (np.arange(ids.size) * (round_ + 3) % 7 < 3).astype(np.float64)
        curriculum.tell(Rollouts(ids, rewards))
        curriculum.advance()
        sizes.append(len(pack(curriculum.state_dict())))
    expect(sizes[-1] <= 1.1 * sizes[29] + 1024, f"the state grew from {sizes[29]} to {sizes[-1]} bytes in 30 rounds")
    told = 8 * play_and_count(curriculum, 30)
    grown = len(pack(curriculum.state_dict())) - sizes[-1]
    expect(grown <= 24 * told + 4096, f"{told} named rollouts made the state {grown} bytes larger")


def play_and_count(curriculum: Curriculum, rounds: int) -> int:
    """Play rounds of the whole pool; gives how many prompts were asked for."""
    return sum(len(picks) for picks in play(curriculum, rounds, POOL_SIZE))
