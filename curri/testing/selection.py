"""Checks: what ``ask`` gives, and what it leaves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidParameter, PoolExhausted, UnknownName, UnknownPrompt
from curri.pool import PromptPool
from curri.state import COLUMN_PREFIX
from curri.testing.case import Case, expect, promise, refused
from curri.testing.scenario import (
    BATCH,
    POOL_SIZE,
    even_pool,
    expect_same_state,
    expect_valid,
    experienced,
    play,
    small_pool,
    step,
    with_generator,
)

if TYPE_CHECKING:
    from curri.curricula.base import Curriculum
    from curri.types import Floats, Ints

_SIGMAS = 4.5
_MOVED_BY_ASK = frozenset({"generator", "counters", "fallbacks", COLUMN_PREFIX + "last_picked"})


@promise()
def check_exact_number(case: Case) -> None:
    """``ask(n)`` gives exactly n distinct prompts of the pool, for n = 1, the whole pool, and an n of NumPy's."""
    sizes: list[Any] = [1, 2, BATCH, POOL_SIZE - 1, POOL_SIZE, np.int64(3)]
    for n in sizes:
        for rounds in (0, 2):
            curriculum = experienced(case, rounds)
            expect_valid(case, curriculum, curriculum.ask(n), int(n))


@promise()
def check_works_before_any_tell(case: Case) -> None:
    """Nothing has to be told first: rounds without any outcome are rounds too."""
    curriculum = case.build(small_pool())
    for round_ in range(5):
        selection = curriculum.ask(BATCH)
        expect_valid(case, curriculum, selection, BATCH)
        expect(selection.ticket.round == round_, f"round {round_} has the ticket {selection.ticket}")
        expect(selection.kind == "train", f"a plain ask gave the kind {selection.kind!r}")
        if round_ % 2:
            curriculum.advance()


@promise()
def check_pool_exhausted(case: Case) -> None:
    """Asking for more than there is raises ``PoolExhausted`` with both counts, and changes nothing."""
    curriculum = experienced(case, 2)
    before = curriculum.state_dict()
    some = curriculum.pool.ids[:4]
    for n, exclude, left in ((POOL_SIZE + 1, None, POOL_SIZE), (POOL_SIZE - 3, some, POOL_SIZE - 4)):
        error = refused(f"ask({n}) of {left}", PoolExhausted, curriculum.ask, n, exclude=exclude)
        told = str(n) in error.message and str(left) in error.message
        expect(told, f"the message must say {n} and {left}; it reads {error.message!r}")
    expect_same_state(curriculum.state_dict(), before, "after a refused ask")
    expect_valid(case, curriculum, curriculum.ask(POOL_SIZE - 4, exclude=some), POOL_SIZE - 4)


@promise()
def check_wrong_requests_refused(case: Case) -> None:
    """An n that is no positive whole number, an unknown kind or an unknown id is refused, and changes nothing."""
    curriculum = experienced(case, 2)
    before = curriculum.state_dict()
    wrong: list[Any] = [0, -1, 1.5, True, "3", None, np.nan]
    for n in wrong:
        error = refused(f"ask({n!r})", InvalidParameter, curriculum.ask, n)
        expect(repr(n) in error.message, f"the message must show {n!r}; it reads {error.message!r}")
    refused('kind="tain"', InvalidParameter, curriculum.ask, 1, kind="tain")  # type: ignore[arg-type]
    refused("an unknown id to exclude", UnknownPrompt, curriculum.ask, 1, exclude=[10**9])
    refused("half an id to exclude", InvalidParameter, curriculum.ask, 1, exclude=[11.5])
    expect_same_state(curriculum.state_dict(), before, "after refused asks")


@promise(unless=frozenset({"probes"}))
def check_probes_refused(case: Case) -> None:
    """A strategy without probes says so."""
    refused('kind="probe"', InvalidParameter, case.build(small_pool()).ask, 1, kind="probe")


@promise(needs=frozenset({"probes"}))
def check_probes(case: Case) -> None:
    """A strategy tagged "probes" picks prompts to score, marked as such, as exactly as those to train on."""
    curriculum = experienced(case, 2)
    selection = curriculum.ask(BATCH, kind="probe")
    expect(selection.kind == "probe", f'kind="probe" gave the kind {selection.kind!r}')
    expect(np.unique(selection.prompt_ids).size == BATCH, f"ask({BATCH}) gave {selection.prompt_ids}")


@promise()
def check_excluded_never_come(case: Case) -> None:
    """Excluded prompts are not picked, whatever the container; the order and repeats of ids do not matter."""
    curriculum = experienced(case, 1)
    out = curriculum.pool.ids[1::3]
    shapes: list[Any] = [out, out[::-1].tolist(), set(out.tolist()), np.repeat(out, 2), tuple(out.tolist())]
    for exclude in shapes:
        for n in (1, POOL_SIZE - out.size):
            selection = curriculum.ask(n, exclude=exclude)
            expect_valid(case, curriculum, selection, n)
            expect(not np.isin(selection.prompt_ids, out).any(), "an excluded prompt was picked")
    expect_valid(case, curriculum, curriculum.ask(3, exclude=[]), 3)


@promise()
def check_retired_never_come(case: Case) -> None:
    """Retired prompts are not picked, even when all others are, and do not count as supply."""
    pool = small_pool()
    gone = pool.ids[[0, 5, 23]]
    curriculum = case.build(pool.retired(gone))
    for _ in range(3):
        selection = curriculum.ask(POOL_SIZE - gone.size)
        expect_valid(case, curriculum, selection, POOL_SIZE - gone.size)
        curriculum.advance()
    selection = curriculum.ask(POOL_SIZE - gone.size, exclude=gone)
    expect_valid(case, curriculum, selection, POOL_SIZE - gone.size)
    refused("more than the active ones", PoolExhausted, curriculum.ask, POOL_SIZE - gone.size + 1)


@promise()
def check_quota_honoured(case: Case) -> None:
    """With a quota every arm gives exactly its count, also when that is all it has and some are excluded."""
    curriculum = experienced(case, 2)
    pool = curriculum.pool
    kept = pool.ids[pool.active_rows(pool.arm_code("arm 3"))[:2]]
    quotas: list[dict[str, Any]] = [
        {"arm 0": 3, "arm 2": 4},
        {"arm 3": 7, "arm 1": np.int64(1)},
        {"arm 1": 2, "arm 0": 0},
    ]
    for quota in quotas:
        n = int(sum(quota.values()))
        selection = curriculum.ask(n, quota=quota, exclude=kept)
        if "replacement" not in case.tags:
            expect_valid(case, curriculum, selection, n)
        expect(not np.isin(selection.prompt_ids, kept).any(), "a quota brought back an excluded prompt")
        for arm in pool.arm_names:
            rollouts = selection.n_rollouts[selection.arms == arm].sum()
            got = rollouts if "replacement" in case.tags else np.sum(selection.arms == arm)
            wanted = quota.get(arm, 0) * (curriculum.group_size if "replacement" in case.tags else 1)
            expect(got == wanted, f"the quota {quota} gave {got} of {arm}; wanted {wanted}")


@promise()
def check_infeasible_quota_refused(case: Case) -> None:
    """A quota that does not add up, names no arm, or wants more than there is, is refused and changes nothing."""
    curriculum = experienced(case, 2)
    before = curriculum.state_dict()
    refused("a quota of 3 for n = 4", InvalidParameter, curriculum.ask, 4, quota={"arm 0": 3})
    refused("a negative quota", InvalidParameter, curriculum.ask, 2, quota={"arm 0": 3, "arm 1": -1})
    refused("half a prompt", InvalidParameter, curriculum.ask, 1, quota={"arm 0": 0.5, "arm 1": 0.5})  # type: ignore[dict-item]
    refused("an unknown arm", UnknownName, curriculum.ask, 1, quota={"arm x": 1})
    error = refused("4 prompts of 3", PoolExhausted, curriculum.ask, 4, quota={"arm 0": 4})
    expect("arm 0" in error.message, f"the message must name the arm; it reads {error.message!r}")
    busy = curriculum.pool.ids[:1]
    refused("3 of 2", PoolExhausted, curriculum.ask, 3, quota={"arm 0": 3}, exclude=busy)
    expect_same_state(curriculum.state_dict(), before, "after refused quotas")


@promise()
def check_pool_order_irrelevant(case: Case) -> None:
    """The order in which a pool is given changes nothing."""
    pool = small_pool()
    order = np.random.default_rng(3).permutation(len(pool))
    shuffled = PromptPool(pool.ids[order], pool.arm_of(order), fetch=pool.fetch)
    left, right = case.build(pool), case.build(shuffled)
    expect(play(left, 4) == play(right, 4), "the picks depend on the order in which the pool was given")
    expect_same_state(left.state_dict(), right.state_dict(), "pools in two orders")


@promise()
def check_ask_moves_no_belief(case: Case) -> None:
    """``ask`` moves the generator, the counters and the declared ``cursors``, and nothing else."""
    strategy = case.strategy
    allowed = _MOVED_BY_ASK | {prefix + name for name in strategy.cursors for prefix in ("own/", COLUMN_PREFIX)}
    curriculum = experienced(case)
    told = curriculum.pool.ids.tolist()
    beliefs = curriculum.state_dict()
    explained = [curriculum.explain(i) for i in told]
    for n in (1, BATCH, POOL_SIZE):
        curriculum.ask(n)
        expect_same_state(curriculum.state_dict(), beliefs, f"after ask({n})", but=frozenset(allowed))
    if not strategy.cursors:
        expect([curriculum.explain(i) for i in told] == explained, "ask changed what `explain` says")


@promise()
def check_certain_picks_have_probability_one(case: Case) -> None:
    """Where all that may be picked is asked for, every probability that is given is 1."""
    if "replacement" in case.tags:
        return
    curriculum = experienced(case)
    busy = curriculum.pool.ids[3:9]
    for selection in (curriculum.ask(POOL_SIZE), curriculum.ask(POOL_SIZE - busy.size, exclude=busy)):
        known = selection.probability[~np.isnan(selection.probability)]
        expect(np.allclose(known, 1.0), f"all prompts were asked for; their probabilities are {np.unique(known)}")


@promise()
def check_probabilities_are_exact(case: Case) -> None:
    """A probability that is claimed is the true one: over many draws from one state each prompt comes that often.

    The draws differ in the generator alone: one saved state is loaded again and again with the generator at another
    place. The check allows 4.5 standard deviations; the draws are the same in every run. Where every prompt has a
    probability, they add up to n.
    """
    for rounds, n, draws in ((0, BATCH, 500), (4, 1, 500), (4, BATCH, 1500)):
        claimed, hits = _repeated_draws(experienced(case, rounds), n, draws)
        known = np.flatnonzero(~np.isnan(claimed))
        expected = draws * claimed[known]
        spread = np.sqrt(expected * (1.0 - claimed[known]))
        off = np.abs(hits[known] - expected) > _SIGMAS * spread + 1e-6 * draws
        worst = [
            f"prompt {small_pool().ids[row]} came {hits[row]} times, claimed {draws * claimed[row]:.1f}"
            for row in known[off][:5].tolist()
        ]
        expect(not worst, f"in {draws} draws of {n}: {'; '.join(worst)}")
        if known.size == POOL_SIZE and "replacement" not in case.tags:
            expect(abs(claimed.sum() - n) < 1e-6 * n, f"the probabilities add up to {claimed.sum()}, not to {n}")


def _repeated_draws(curriculum: Curriculum, n: int, draws: int) -> tuple[Floats, Ints]:
    """For every prompt the probability claimed for it (NaN for none) and how often it came in all draws."""
    state = curriculum.state_dict()
    claimed, hits = np.full(POOL_SIZE, np.nan), np.zeros(POOL_SIZE, dtype=np.int64)
    for draw in range(draws):
        curriculum.load_state_dict(with_generator(state, 1000 + draw))
        selection = curriculum.ask(n)
        rows = curriculum.pool.rows(selection.prompt_ids)
        again = hits[rows] > 0
        before, now = claimed[rows][again], selection.probability[again]
        same = np.isclose(before, now, rtol=1e-9, equal_nan=True)
        expect(same.all(), f"from one state a prompt was given two probabilities: {before[~same]} and {now[~same]}")
        claimed[rows] = selection.probability
        hits[rows] += 1
    return claimed, hits


@promise(unless=frozenset({"deterministic"}))
def check_ties_broken_by_the_generator(case: Case) -> None:
    """While all prompts are alike, any of them may come first: not the one with the lowest id or row."""
    pool = even_pool(20, 4)
    curriculum = case.build(pool)
    state = curriculum.state_dict()
    rows = []
    for draw in range(200):
        curriculum.load_state_dict(with_generator(state, draw))
        rows.append(int(pool.rows(curriculum.ask(1).prompt_ids)[0]))
    distinct, mean = len(set(rows)), float(np.mean(rows)) / (len(pool) - 1)
    expect(distinct >= 10, f"200 first picks of 20 equal prompts were only {distinct} different ones")
    expect(0.35 < mean < 0.65, f"first picks lean to one end of the pool: mean row {mean:.2f} of 0 to 1")


@promise()
def check_prompts_come_and_go(case: Case) -> None:
    """Prompts are added, retired and restored between rounds; every round is served from those that are there."""
    pool = small_pool()
    curriculum = case.build(pool)
    for round_ in range(6):
        added = [1000 + 10 * round_, 1001 + 10 * round_]
        pool = pool.extended(added, ["arm 1", f"late {round_ % 2}"])
        active = pool.ids[pool.active]
        pool = pool.retired(active[[round_, 3 + round_]])
        curriculum.extend(pool)
        step(curriculum)
        expect(len(curriculum.pool) == len(pool), "advance must take in what was announced")
        for n in (BATCH, pool.n_active):
            expect_valid(case, curriculum, curriculum.ask(n), n)
