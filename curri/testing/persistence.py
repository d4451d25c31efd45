"""Checks: what a saved state holds, what it refuses, and how changes are saved."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from curri.errors import StateMismatch, UnknownPrompt
from curri.pool import PromptPool
from curri.state import COLUMN_PREFIX, apply_change, pack, pack_change, unpack, unpack_change
from curri.testing.case import Case, expect, promise, refused
from curri.testing.scenario import (
    BATCH,
    POOL_SIZE,
    answers,
    evidence,
    expect_same_state,
    expect_valid,
    experienced,
    play,
    small_pool,
    step,
)
from curri.types import Rollouts


@promise()
def check_state_is_arrays_and_json(case: Case) -> None:
    """A state is arrays of numbers or text and JSON, and is the same after it was packed into bytes and read back."""
    for curriculum in (case.build(small_pool()), experienced(case)):
        curriculum.tell(evidence(curriculum.pool))
        state = curriculum.state_dict()
        objects = [name for name, value in state.items() if isinstance(value, np.ndarray) and value.dtype.hasobject]
        expect(not objects, f"arrays of objects in the state: {objects}")
        expect_same_state(unpack(pack(state)), state, "packed and unpacked")


@promise()
def check_state_is_a_copy(case: Case) -> None:
    """Writing to a state after it was taken, or after it was loaded, changes nothing."""
    curriculum = experienced(case)
    curriculum.tell(evidence(curriculum.pool))
    taken, kept = curriculum.state_dict(), unpack(pack(curriculum.state_dict()))
    _scribble(taken)
    expect_same_state(curriculum.state_dict(), kept, "after its state_dict was written to")
    loaded = copy.deepcopy(kept)
    twin = case.build(small_pool())
    twin.load_state_dict(loaded)
    _scribble(loaded)
    expect_same_state(twin.state_dict(), kept, "after the state it was loaded from was written to")


def _scribble(state: dict[str, Any]) -> None:
    for value in state.values():
        if isinstance(value, np.ndarray) and value.size and value.flags.writeable:
            value[...] = value.flat[0] if value.dtype.kind in "US" else value.dtype.type(1)
        elif isinstance(value, dict):
            value.clear()
        elif isinstance(value, list):
            value[:] = [-5] * len(value)


@promise()
def check_wrong_state_refused(case: Case) -> None:
    """A state of another strategy, format or parameters, or with a missing or unknown entry, changes nothing."""
    curriculum = experienced(case)
    before = curriculum.state_dict()
    wrong: dict[str, dict[str, Any]] = {
        "another strategy": {**before, "strategy": "another"},
        "another format": {**before, "format": -1},
        "another parameter": {**before, "parameters": before["parameters"] | {"group_size": 999}},
        "an unknown parameter": {**before, "parameters": before["parameters"] | {"colour": 1}},
        "an unknown entry": {**before, "strange": 1},
        "an unknown entry of its own": {**before, "own/strange/entry": 1},
        "an unknown column": {**before, COLUMN_PREFIX + "strange": np.zeros(POOL_SIZE)},
        "a generator of another kind": {**before, "generator": np.random.MT19937(1).state},
    }
    for name in before:
        if not name.startswith("seen/0"):
            wrong[f"no {name!r}"] = {key: value for key, value in before.items() if key != name}
        if name.startswith(COLUMN_PREFIX):
            wrong[f"a short {name!r}"] = {**before, name: before[name][:-1]}
    for what, state in wrong.items():
        refused(f"a state with {what}", StateMismatch, curriculum.load_state_dict, state)
        expect_same_state(curriculum.state_dict(), before, f"after a refused state with {what}")
    changed = curriculum.parameters["group_size"] + 1
    other = case.build(small_pool(), group_size=changed)
    error = refused("a state of other parameters", StateMismatch, other.load_state_dict, before)
    told = f"{changed}" in error.message and f"{changed - 1}" in error.message and "group_size" in error.message
    expect(told, f"the message must give both values; it reads {error.message!r}")
    expect(len(play(curriculum, 1)[0]) > 0, "it must go on after refused states")


@promise()
def check_missing_prompts_refused(case: Case) -> None:
    """A state that knows prompts which the pool does not hold is refused, and names one."""
    state = experienced(case).state_dict()
    pool = small_pool()
    smaller = PromptPool(pool.ids[1:], pool.arm_of(np.arange(1, len(pool))), fetch=pool.fetch)
    error = refused("a missing prompt", StateMismatch, case.build(smaller).load_state_dict, state)
    expect(str(pool.ids[0]) in error.message, f"the message must name {pool.ids[0]}; it reads {error.message!r}")


@promise()
def check_new_prompts_start_at_their_prior(case: Case) -> None:
    """A state loaded over a larger pool keeps what is known, and new prompts are as in a new strategy."""
    source = experienced(case)
    state = source.state_dict()
    larger = small_pool().extended([12, 2000], ["arm 0", "arm new"])
    loaded, fresh = case.build(larger), case.build(larger)
    start = fresh.state_dict()
    loaded.load_state_dict(state)
    now = loaded.state_dict()
    old, new = larger.rows(source.pool.ids), larger.rows([12, 2000])
    for name in (name for name in state if name.startswith(COLUMN_PREFIX)):
        expect(np.array_equal(now[name][old], state[name]), f"{name} of present prompts was not kept")
        expect(np.array_equal(now[name][new], start[name][new]), f"{name} of new prompts is not at its prior")
    expect(loaded.changes() is None, "over a larger pool a change is not enough: `changes` must give None")
    expect_valid(case, loaded, loaded.ask(len(larger)), len(larger))


@promise()
def check_retired_prompts_are_kept(case: Case) -> None:
    """What is known of a retired prompt stays, in memory and in the state; it may be told of, and be restored."""
    curriculum, twin = experienced(case), experienced(case)
    pool = curriculum.pool
    gone = int(pool.ids[4])
    curriculum.extend(pool.retired([gone]))
    curriculum.advance()
    curriculum.tell(Rollouts([gone, gone], [0.0, 1.0]))
    curriculum.advance()
    resumed = case.build(curriculum.pool)
    resumed.load_state_dict(unpack(pack(curriculum.state_dict())))
    expect_same_state(resumed.state_dict(), curriculum.state_dict(), "resumed with a retired prompt")
    twin.advance()
    twin.tell(Rollouts([gone, gone], [0.0, 1.0]))
    twin.advance()
    curriculum.extend(pool)
    for one in (curriculum, twin):
        one.advance()
    expect_same_state(curriculum.state_dict(), twin.state_dict(), "retired and restored")
    expect_valid(case, curriculum, curriculum.ask(POOL_SIZE), POOL_SIZE)


@promise()
def check_changes_rebuild_the_state(case: Case) -> None:
    """A saved state with every change since applied to it is the present state, bit for bit."""
    curriculum = case.build(small_pool())
    expect(curriculum.changes() is None, "the first call of `changes` has nothing to compare with, and gives None")
    rebuilt = unpack(pack(curriculum.state_dict()))
    for round_ in range(8):
        _do_something(curriculum, round_)
        change = curriculum.changes()
        if change is None:
            expect(round_ == 5, "only growth and the first call need a whole state")
            rebuilt = unpack(pack(curriculum.state_dict()))
            continue
        rebuilt = apply_change(rebuilt, unpack_change(pack_change(change)))
        expect_same_state(rebuilt, curriculum.state_dict(), f"rebuilt after change {round_}")
    loaded = case.build(curriculum.pool)
    loaded.load_state_dict(rebuilt)
    step(loaded)
    change = loaded.changes()
    expect(change is not None, "after a load, changes are relative to what was loaded")
    if change is not None:
        expect_same_state(apply_change(rebuilt, change), loaded.state_dict(), "rebuilt after a load")


def _do_something(curriculum: Any, round_: int) -> None:
    if round_ == 2:
        curriculum.tell(answers(curriculum, curriculum.ask(BATCH)))
    elif round_ == 3:
        curriculum.ask(POOL_SIZE)
    elif round_ == 4:
        curriculum.tell(evidence(curriculum.pool))
        curriculum.advance()
    else:
        if round_ == 5:
            curriculum.extend(curriculum.pool.extended([5000], ["arm 1"]))
        step(curriculum)


@promise()
def check_extension_waits_for_advance(case: Case) -> None:
    """Announced prompts may be told of at once, but are picked, and retired ones missed, only after ``advance``."""
    curriculum = experienced(case, 2)
    pool = curriculum.pool
    larger = pool.extended([1, 2], ["arm 0", "arm new"]).retired(pool.ids[[3]])
    curriculum.extend(larger)
    before = curriculum.ask(POOL_SIZE)
    expect_valid(case, curriculum, before, POOL_SIZE)
    expect(len(curriculum.pool) == POOL_SIZE, "extend must wait for advance")
    curriculum.tell(Rollouts([1, 1, 2], [1.0, 0.0, 1.0]))
    curriculum.advance()
    after = curriculum.ask(POOL_SIZE + 1)
    expect_valid(case, curriculum, after, POOL_SIZE + 1)
    if "replacement" not in case.tags:
        expect(np.isin([1, 2], after.prompt_ids).all(), "new prompts must be picked after advance")
    folded = curriculum.metrics()[f"curriculum/{curriculum.name}/responses_folded"]
    expect(folded >= 3, "what was told of announced prompts was lost")


@promise()
def check_extension_cannot_shrink(case: Case) -> None:
    """A pool that lacks a present or an announced prompt is refused, and changes nothing."""
    curriculum = experienced(case, 2)
    pool = curriculum.pool
    smaller = PromptPool(pool.ids[1:], pool.arm_of(np.arange(1, len(pool))), fetch=pool.fetch)
    error = refused("a smaller pool", UnknownPrompt, curriculum.extend, smaller)
    expect(str(pool.ids[0]) in error.message, f"the message must name {pool.ids[0]}; it reads {error.message!r}")
    curriculum.extend(pool.extended([1], ["arm 0"]))
    refused("a pool without an announced prompt", UnknownPrompt, curriculum.extend, pool)
    curriculum.advance()
    expect(len(curriculum.pool) == POOL_SIZE + 1, "a refused pool must leave the announced one in place")
