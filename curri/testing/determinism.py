"""Checks: the same seed gives the same picks, here, elsewhere and after a restart."""

from __future__ import annotations

import random  # noqa: TID251  only to see that nobody else touches it
from typing import TYPE_CHECKING

import numpy as np

from curri.state import pack, unpack
from curri.testing.case import Case, expect, promise
from curri.testing.process import played_elsewhere
from curri.testing.scenario import (
    BATCH,
    answers,
    digest,
    evidence,
    expect_same_state,
    experienced,
    play,
    small_pool,
    step,
)

if TYPE_CHECKING:
    from curri.curricula.base import Curriculum

_EXACT = frozenset({"inexact_resume"})


@promise()
def check_same_seed_same_picks(case: Case) -> None:
    """Two strategies with the same seed pick the same and end in the same state."""
    left, right = case.build(small_pool(), seed=7), case.build(small_pool(), seed=7)
    expect(play(left, 6) == play(right, 6), "the same seed gave other picks")
    expect_same_state(left.state_dict(), right.state_dict(), "two runs with the same seed")


@promise(unless=frozenset({"deterministic"}))
def check_other_seed_other_picks(case: Case) -> None:
    """Other seeds give other picks."""
    runs = [play(case.build(small_pool(), seed=seed), 4) for seed in range(4)]
    expect(all(runs[0] != run for run in runs[1:]), "other seeds gave the same picks")


@promise()
def check_global_generators_untouched(case: Case) -> None:
    """Neither Python's nor NumPy's global generator is used or moved."""
    first = play(case.build(small_pool()), 3)
    before = random.getstate(), str(np.random.get_state())  # noqa: NPY002  only looked at
    random.random()  # noqa: S311  moved on purpose
    random.setstate(before[0])
    second = play(case.build(small_pool()), 3)
    after = random.getstate(), str(np.random.get_state())  # noqa: NPY002  only looked at
    expect(before == after, "a global random generator was moved")
    expect(first == second, "two runs with the same seed gave other picks")


@promise()
def check_instances_are_independent(case: Case) -> None:
    """Two strategies in one process do not share anything: neither their picks nor what they learned."""
    single = case.build(small_pool())
    alone = play(single, 4)
    left, right = case.build(small_pool()), case.build(small_pool(), seed=99)
    picks = []
    for _ in range(4):
        step(right, 3)
        right.tell(evidence(right.pool))
        picks.append(step(left))
    expect(picks == alone, "a second strategy in the same process changed the picks of the first")
    expect_same_state(left.state_dict(), single.state_dict(), "beside a second strategy in the same process")


@promise()
def check_same_picks_in_another_process(case: Case) -> None:
    """The same seed gives the same picks and the same state in another process, under another hash seed."""
    curriculum = case.build(small_pool())
    picks = play(curriculum, 5)
    there, hashed = played_elsewhere(case, 5)
    expect(picks == there, f"another process picked otherwise: {there} instead of {picks}")
    expect(digest(curriculum.state_dict()) == hashed, "another process ended in another state")


@promise(unless=_EXACT)
def check_bit_equal_resume(case: Case) -> None:
    """Playing n rounds, saving, loading and m more gives, bit for bit, what n + m rounds give; open ones included."""
    for rounds in (0, 1, 4):
        whole = experienced(case, rounds)
        _leave_open(whole)
        resumed = case.build(small_pool())
        resumed.load_state_dict(unpack(pack(whole.state_dict())))
        expect_same_state(resumed.state_dict(), whole.state_dict(), f"saved and loaded after {rounds} rounds")
        expect(play(resumed, 4) == play(whole, 4), f"resumed after {rounds} rounds, it picked otherwise")
        expect_same_state(resumed.state_dict(), whole.state_dict(), "4 rounds after it was resumed")


@promise(unless=_EXACT)
def check_resume_of_a_used_strategy(case: Case) -> None:
    """Loading a state leaves nothing of what the strategy did before."""
    source, used = experienced(case, 2), experienced(case, 5)
    used.tell(evidence(used.pool))
    used.load_state_dict(source.state_dict())
    expect_same_state(used.state_dict(), source.state_dict(), "loaded into a strategy that had done something else")
    expect(play(used, 4) == play(source, 4), "what was done before a load changed the picks after it")


@promise(unless=_EXACT)
def check_resume_in_another_process(case: Case) -> None:
    """A state saved here goes on in another process as it goes on here, bit for bit."""
    curriculum = experienced(case, 3)
    _leave_open(curriculum)
    there, hashed = played_elsewhere(case, 4, curriculum.state_dict())
    expect(play(curriculum, 4) == there, "resumed in another process, it picked otherwise")
    expect(digest(curriculum.state_dict()) == hashed, "resumed in another process, it ended in another state")


def _leave_open(curriculum: Curriculum) -> None:
    """Ask twice and tell a part, so that a saved state has something in flight."""
    first, second = curriculum.ask(BATCH), curriculum.ask(3)
    told = answers(curriculum, first)
    curriculum.tell(told.take(np.arange(0, len(told), 2)))
    curriculum.tell(answers(curriculum, second))
    curriculum.tell(evidence(curriculum.pool).take(np.arange(20)))
