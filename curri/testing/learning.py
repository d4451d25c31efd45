"""Checks: what ``tell`` and ``advance`` take in, and what they refuse."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidParameter, InvalidRollouts, UnknownPrompt
from curri.testing.case import Case, expect, promise, refused
from curri.testing.scenario import (
    BATCH,
    answers,
    copy_of,
    evidence,
    expect_same_state,
    expect_valid,
    experienced,
    small_pool,
)
from curri.types import Rollouts

if TYPE_CHECKING:
    from collections.abc import Callable

    from curri.curricula.base import Curriculum

_COUNTERS = frozenset({"counters"})


@promise()
def check_tell_only_buffers(case: Case) -> None:
    """``tell`` changes no belief: until ``advance`` only the buffer has grown."""
    curriculum = experienced(case)
    before = curriculum.state_dict()
    curriculum.tell(evidence(curriculum.pool))
    after = curriculum.state_dict()
    buffered = frozenset(name for name in after if name.startswith("buffer/"))
    expect(buffered, "what was told is not in the state before it is folded")
    expect_same_state(after, before, "after tell", but=buffered)
    curriculum.advance()
    left = [name for name in curriculum.state_dict() if name.startswith("buffer/")]
    expect(not left, f"advance left {left} in the buffer")


@promise()
def check_tell_order_irrelevant(case: Case) -> None:
    """The order of responses within a tell changes nothing, bit for bit."""
    curriculum, twin = experienced(case), experienced(case)
    told = evidence(curriculum.pool)
    curriculum.tell(told)
    twin.tell(told.take(np.random.default_rng(5).permutation(len(told))))
    for one in (curriculum, twin):
        one.advance()
    expect_same_state(curriculum.state_dict(), twin.state_dict(), "the same responses in two orders")


@promise()
def check_tell_split_irrelevant(case: Case) -> None:
    """How responses are split over tells, and the order of the tells, change nothing, bit for bit."""
    curriculum = experienced(case)
    twin = copy_of(case, curriculum)
    named = answers(curriculum, curriculum.ask(BATCH))
    twin.ask(BATCH)
    parts = [evidence(curriculum.pool), named]
    for part in parts:
        curriculum.tell(part)
    rng = np.random.default_rng(6)
    pieces = [part.take(piece) for part in parts for piece in np.array_split(rng.permutation(len(part)), 9)]
    for i in rng.permutation(len(pieces)).tolist():
        twin.tell(pieces[i])
    for one in (curriculum, twin):
        one.advance()
    expect_same_state(curriculum.state_dict(), twin.state_dict(), "the same responses in one tell and in many")


@promise()
def check_repeats_in_a_round_count_once(case: Case) -> None:
    """A rollout id that is told twice before an advance counts once, within one tell or over two."""
    curriculum, twin = experienced(case), experienced(case)
    told = answers(curriculum, curriculum.ask(BATCH))
    twin.ask(BATCH)
    curriculum.tell(told)
    twin.tell(told.take(np.repeat(np.arange(len(told)), 2)))
    twin.tell(told)
    for one in (curriculum, twin):
        one.advance()
    expect_same_state(curriculum.state_dict(), twin.state_dict(), "told once and told thrice", but=_COUNTERS)
    expect(_metric(twin, "responses_repeated") == 2 * len(told), "the repeats are not counted in the metrics")


@promise()
def check_repeats_across_rounds_count_once(case: Case) -> None:
    """A rollout id that is told again in a later round counts once."""
    curriculum, twin = experienced(case), experienced(case)
    told = answers(curriculum, curriculum.ask(BATCH))
    twin.ask(BATCH)
    for one in (curriculum, twin):
        one.tell(told)
        one.advance()
    twin.tell(told)
    for one in (curriculum, twin):
        one.advance()
    expect_same_state(curriculum.state_dict(), twin.state_dict(), "told once and told again", but=_COUNTERS)


@promise()
def check_late_and_partial_groups(case: Case) -> None:
    """Groups may come in pieces, over several rounds and after later rounds: all of it is taken in."""
    curriculum = case.build(small_pool())
    rounds = [answers(curriculum, curriculum.ask(BATCH)) for _ in range(3)]
    for piece in range(4):
        for told in reversed(rounds):
            curriculum.tell(told.take(np.arange(piece, len(told), 4)))
            curriculum.advance()
    wanted = sum(len(told) for told in rounds)
    folded = _metric(curriculum, "responses_folded")
    expect(folded == wanted, f"{wanted} responses came late and in pieces; {folded} were folded")
    expect_valid(case, curriculum, curriculum.ask(BATCH), BATCH)


@promise()
def check_unissued_prompts_count(case: Case) -> None:
    """Outcomes of prompts that were never asked for are evidence like any other."""
    curriculum = case.build(small_pool())
    told = evidence(curriculum.pool)
    curriculum.tell(told)
    curriculum.advance()
    folded = _metric(curriculum, "responses_folded")
    expect(folded == len(told), f"{len(told)} responses were told without an ask; {folded} were folded")
    expect_valid(case, curriculum, curriculum.ask(BATCH), BATCH)


@promise()
def check_non_finite_refused(case: Case) -> None:
    """A reward that is not finite, or an infinite advantage, is refused with the prompt ids, and changes nothing."""
    curriculum = experienced(case)
    before = curriculum.state_dict()
    good = evidence(curriculum.pool)
    victim = int(good.prompt_ids[100])
    for column, values in (("rewards", (np.nan, np.inf, -np.inf)), ("advantages", (np.inf, -np.inf))):
        for value in values:
            bad = np.array(getattr(good, column))
            bad[100] = value
            told = partial(dataclasses.replace, good, **{column: bad})
            error = refused(f"{value} among the {column}", InvalidRollouts, _tell_built, curriculum, told)
            expect(str(victim) in error.message, f"the message must name prompt {victim}; it reads {error.message!r}")
    expect_same_state(curriculum.state_dict(), before, "after refused rollouts")


def _tell_built(curriculum: Curriculum, build: Callable[[], Rollouts]) -> None:
    curriculum.tell(build())


@promise()
def check_unknown_prompts_refused(case: Case) -> None:
    """A prompt id that the pool does not hold is refused, by name, and nothing of that tell is kept."""
    curriculum = experienced(case)
    before = curriculum.state_dict()
    told = Rollouts([*curriculum.pool.ids[:3], 987654], [1.0, 0.0, 1.0, 0.0])
    calls: dict[str, Callable[[Rollouts], object]] = {"tell": curriculum.tell, "admit": curriculum.admit}
    for name, call in calls.items():
        error = refused(f"{name} with an unknown id", UnknownPrompt, call, told)
        expect("987654" in error.message, f"the message must name the id; it reads {error.message!r}")
    curriculum.advance()
    expect_same_state(curriculum.state_dict(), before, "after a refused tell", but=_COUNTERS)


@promise()
def check_any_finite_rewards(case: Case) -> None:
    """Rewards that never vary, fractions, negative and huge ones are taken in, and the next ask works."""
    base = np.arange(8.0)
    patterns: dict[str, Any] = {
        "all 0": 0 * base,
        "all 1": 0 * base + 1,
        "fractions": base / 7,
        "negative": -base,
        "huge": 1e9 * base,
        "shaped": base - 3.5,
        "huge and equal": 0 * base + 1e9,
        "largest": np.where(base > 3, 1e150, -1e150),
        "tiny": 1e-300 * base,
    }
    for name, rewards in patterns.items():
        curriculum = case.build(small_pool())
        for _ in range(3):
            selection = curriculum.ask(BATCH)
            ids = np.repeat(selection.prompt_ids, rewards.size)
            curriculum.tell(Rollouts(ids, np.tile(rewards, selection.prompt_ids.size)))
            curriculum.advance()
        expect_valid(case, curriculum, curriculum.ask(BATCH), BATCH)
        strange = {key: value for key, value in curriculum.metrics().items() if not np.isfinite(value)}
        expect(not strange, f"rewards that are {name} gave the metrics {strange}")


@promise()
def check_group_of_one(case: Case) -> None:
    """A group of one response is taken in, whatever its reward."""
    curriculum = case.build(small_pool(), group_size=1)
    for reward in (0.0, 1.0, 0.5, -2.0):
        selection = curriculum.ask(BATCH)
        curriculum.tell(Rollouts(selection.prompt_ids, np.full(len(selection), reward)))
        curriculum.advance()
    expect_valid(case, curriculum, curriculum.ask(BATCH), BATCH)


@promise()
def check_empty_advance(case: Case) -> None:
    """A round in which nothing came back, or an empty tell, is closed like any other and teaches nothing."""
    curriculum = experienced(case)
    before = curriculum.state_dict()
    curriculum.advance()
    curriculum.tell(Rollouts([], []))
    curriculum.advance()
    allowed = frozenset({"counters", "fallbacks"})
    expect_same_state(curriculum.state_dict(), before, "after two empty rounds", but=allowed)
    closed = _metric(curriculum, "rounds_closed")
    expect(closed == 6, f"6 rounds were closed, 2 of them empty; the metrics say {closed}")
    expect_valid(case, curriculum, curriculum.ask(BATCH), BATCH)


@promise()
def check_input_not_kept(case: Case) -> None:
    """What is handed in is not modified, and writing to the caller's arrays afterwards changes nothing."""
    curriculum, twin = experienced(case), experienced(case)
    told = evidence(curriculum.pool)
    names = ("prompt_ids", "rewards", "solved", "advantages", "tokens")
    columns = {name: getattr(told, name).copy() for name in names}
    given = {name: column.copy() for name, column in columns.items()}
    rollouts = Rollouts(**given)
    curriculum.tell(rollouts)
    twin.tell(told)
    for name, column in given.items():
        kept = np.array_equal(getattr(rollouts, name), columns[name], equal_nan=True)
        expect(kept, f"tell changed the `{name}` it was given")
        column[:] = column[0]
    for one in (curriculum, twin):
        one.advance()
    expect_same_state(curriculum.state_dict(), twin.state_dict(), "after the caller wrote to its arrays")


@promise()
def check_read_only_input(case: Case) -> None:
    """Read-only arrays and plain lists are as good as any."""
    curriculum, twin = experienced(case), experienced(case)
    told = evidence(curriculum.pool)
    frozen = {name: getattr(told, name).copy() for name in ("prompt_ids", "rewards", "advantages", "tokens")}
    for column in frozen.values():
        column.flags.writeable = False
    curriculum.tell(Rollouts(**frozen))
    twin.tell(Rollouts(**{name: column.tolist() for name, column in frozen.items()}))
    busy = curriculum.pool.ids[:3]
    busy.flags.writeable = False
    for one in (curriculum, twin):
        one.advance()
        one.ask(BATCH, exclude=busy)
    expect_same_state(curriculum.state_dict(), twin.state_dict(), "read-only arrays and lists")


@promise()
def check_admit(case: Case) -> None:
    """``admit`` gives each prompt once with keep, drop or more; without the tag "admits" everything is kept."""
    curriculum = experienced(case)
    told = answers(curriculum, curriculum.ask(BATCH))
    before = curriculum.state_dict()
    verdict = curriculum.admit(told)
    expect(verdict.prompt_ids.tolist() == np.unique(told.prompt_ids).tolist(), "admit must judge every prompt once")
    sizes = {len(column) for column in verdict}
    expect(sizes == {verdict.prompt_ids.size}, f"admit gave columns of the lengths {sorted(sizes)}")
    words = set(verdict.verdict.tolist())
    expect(words <= {"keep", "drop", "more"}, f"verdicts are keep, drop or more; got {sorted(words)}")
    expect(np.array_equal(verdict.extra > 0, verdict.verdict == "more"), "extra rollouts go with more, and only there")
    if "admits" not in case.tags:
        expect(words <= {"keep"}, 'only a strategy tagged "admits" turns groups down')
        expect(set(verdict.reason.tolist()) <= {""}, "what is kept needs no reason")
    expect_same_state(curriculum.state_dict(), before, "after admit")


@promise()
def check_top_up(case: Case) -> None:
    """``top_up`` gives prompts of its own round or None, comes to an end, and knows a round that never was."""
    curriculum = experienced(case, 1)
    selection = curriculum.ask(BATCH)
    for wrong in (-1, selection.ticket.round + 1):
        ticket = selection.ticket._replace(round=wrong)
        refused(f"top_up of round {wrong}", InvalidParameter, curriculum.top_up, ticket)
    curriculum.tell(answers(curriculum, selection))
    ticket = selection.ticket
    for _ in range(100):
        more = curriculum.top_up(ticket)
        if more is None:
            return
        ticket = more.ticket
        expect("rounds" in case.tags, 'a strategy that tops rounds up is tagged "rounds"')
        expect(np.isin(more.prompt_ids, selection.prompt_ids).all(), "a top-up is for prompts of its round")
        expect(more.ticket.round == selection.ticket.round, f"the top-up has the ticket {more.ticket}")
        curriculum.tell(answers(curriculum, more))
    expect(condition=False, message="100 top-ups did not end the round")


def _metric(curriculum: Curriculum, name: str) -> float:
    return float(curriculum.metrics()[f"curriculum/{curriculum.name}/{name}"])
