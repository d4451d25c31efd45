"""Small pools, made-up outcomes and whole rounds for the checks. Everything follows from the arguments."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.pool import PromptPool
from curri.selectors.hashing import stable_hash
from curri.testing.case import Case, expect
from curri.types import Prompt, Rollouts

if TYPE_CHECKING:
    from curri.curricula.base import Curriculum
    from curri.state import State
    from curri.types import Floats, Ints, Selection

ARM_SIZES = (3, 5, 7, 9)
POOL_SIZE = sum(ARM_SIZES)
BATCH = 7
_GROUP_LIMIT = 64
_TOP_UPS = 100


def small_pool() -> PromptPool:
    """24 prompts in four arms of 3, 5, 7 and 9, with the ids 11, 14, 17 and so on."""
    arms = np.repeat([f"arm {code}" for code in range(len(ARM_SIZES))], ARM_SIZES)
    return PromptPool(11 + 3 * np.arange(POOL_SIZE), arms, fetch=made_up_prompts)


def even_pool(n_prompts: int, n_arms: int) -> PromptPool:
    """A pool with arms of (nearly) the same size, spread over the ids."""
    names = np.array([f"arm {code}" for code in range(n_arms)])
    return PromptPool(1 + np.arange(n_prompts), names[np.arange(n_prompts) % n_arms], fetch=made_up_prompts)


def made_up_prompts(prompt_ids: Ints) -> list[Prompt]:
    """A question for every id; longer numbers make harder ones."""
    return [Prompt(i, f"What is {i} + {i * i % 9973}?", str(i + i * i % 9973), "arm", {}) for i in prompt_ids.tolist()]


def answers(curriculum: Curriculum, selection: Selection) -> Rollouts:
    """A reward of 0 or 1 for every rollout of a selection, more often 1 in later arms; each with its own name."""
    times = np.minimum(selection.n_rollouts, _GROUP_LIMIT)
    ids = np.repeat(selection.prompt_ids, times)
    ordinal = np.arange(ids.size) - np.repeat(np.cumsum(times) - times, times) + _GROUP_LIMIT * selection.ticket.part
    chance = _chance(ids * 1009 + ordinal, selection.ticket.round)
    codes = curriculum.pool.arms[curriculum.pool.rows(ids)]
    rate = (codes + 1.0) / (len(curriculum.pool.arm_names) + 1.0)
    names = [f"{selection.ticket.round}.{selection.kind}.{i}" for i in ordinal.tolist()]
    return Rollouts(
        prompt_ids=ids,
        rewards=(chance < rate).astype(np.float64),
        tokens=10 + (chance * 90).astype(np.int64),
        policy_version=np.full(ids.size, selection.ticket.round),
        rollout_ids=np.array(names, dtype=np.str_),
        responses=[f"so the answer is {int(100 * c)}" for c in chance] if "responses" in curriculum.tags else None,
        kind=selection.kind,
    )


def _chance(keys: Ints, seed: int) -> Floats:
    return stable_hash(keys, seed).astype(np.float64) / 2.0**64


def step(curriculum: Curriculum, n: int = BATCH) -> list[int]:
    """One whole round: ask, tell, all top-ups, advance. Gives the prompts that were asked for."""
    selection = curriculum.ask(n)
    curriculum.tell(answers(curriculum, selection))
    picks: list[int] = selection.prompt_ids.tolist()
    ticket = selection.ticket
    for _ in range(_TOP_UPS if "rounds" in curriculum.tags else 0):
        more = curriculum.top_up(ticket)
        if more is None:
            break
        curriculum.tell(answers(curriculum, more))
        picks.extend(more.prompt_ids.tolist())
        ticket = more.ticket
    curriculum.advance()
    return picks


def play(curriculum: Curriculum, rounds: int, n: int = BATCH) -> list[list[int]]:
    """Whole rounds one after another."""
    return [step(curriculum, n) for _ in range(rounds)]


def experienced(case: Case, rounds: int = 4, **changes: Any) -> Curriculum:
    """A strategy over the small pool that has seen a few rounds."""
    curriculum = case.build(small_pool(), **changes)
    play(curriculum, rounds)
    return curriculum


def evidence(pool: PromptPool, *, rounds: int = 3, group: int = 4) -> Rollouts:
    """Outcomes of every prompt of a pool, some with an advantage and some without, some zeros negative, unnamed."""
    ids = np.repeat(pool.ids, rounds * group)
    chance = _chance(np.arange(ids.size), 17)
    rewards = np.round(chance, 1)
    advantages = np.where(chance < 0.3, np.nan, np.round(4 * chance - 2))
    advantages[(chance > 0.45) & (chance < 0.55)] = -0.0
    return Rollouts(ids, rewards, advantages=advantages, tokens=(chance * 50).astype(np.int64))


def with_generator(state: State, seed: int) -> State:
    """The same state with its random generator at another place, to draw again from the same beliefs."""
    return {**state, "generator": np.random.PCG64(seed).state}


def copy_of(case: Case, curriculum: Curriculum) -> Curriculum:
    """A second strategy in the same state."""
    twin = case.build(curriculum.pool)
    twin.load_state_dict(curriculum.state_dict())
    return twin


def expect_same_state(left: State, right: State, what: str, *, but: frozenset[str] = frozenset()) -> None:
    """Fail unless two states are equal bit for bit, entries named in ``but`` left aside."""
    names = sorted((left.keys() | right.keys()) - but)
    differing = [name for name in names if entry(left, name) != entry(right, name)]
    expect(not differing, f"{what}: the states differ in {differing}")


def entry(state: State, name: str) -> str:
    """One entry of a state as text that is equal exactly where the entries are equal bit for bit."""
    value = state.get(name)
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    return f"{type(value).__name__} {json.dumps(value, sort_keys=True)}"


def digest(state: State) -> str:
    """A hash of a state."""
    text = "\n".join(f"{name}: {entry(state, name)}" for name in sorted(state))
    return hashlib.sha256(text.encode()).hexdigest()


def expect_valid(case: Case, curriculum: Curriculum, selection: Selection, n: int) -> None:
    """Fail unless a selection has the shape that ``ask(n)`` promises."""
    ids = selection.prompt_ids
    expect(ids.dtype == np.int64 and ids.ndim == 1, f"prompt_ids must be int64 of shape (n,); got {ids.dtype}")
    expect(np.unique(ids).size == ids.size, f"ask({n}) gave a prompt twice: {sorted(ids.tolist())}")
    expect(curriculum.pool.contains(ids).all(), f"ask({n}) gave ids that the pool does not hold")
    rows = curriculum.pool.rows(ids)
    expect(curriculum.pool.active[rows].all(), f"ask({n}) gave retired prompts")
    if "replacement" in case.tags:
        total = n * curriculum.group_size
        expect(selection.n_rollouts.sum() == total, f"ask({n}) must give {total} rollouts in all")
    else:
        expect(ids.size == n, f"ask({n}) gave {ids.size} prompts")
    same = selection.arms.tolist() == curriculum.pool.arm_of(rows).tolist()
    expect(same, "`arms` must be the arms of the prompts picked")
    for name in ("arms", "n_rollouts", "probability"):
        expect(getattr(selection, name).shape == ids.shape, f"`{name}` must have one entry a prompt")
    fine = selection.n_rollouts.dtype == np.int64 and (selection.n_rollouts >= 1).all()
    expect(fine, f"n_rollouts must be int64, at least 1; got {selection.n_rollouts}")
    known = selection.probability[~np.isnan(selection.probability)]
    inside = bool(np.all((known > 0) & (known <= 1)))
    expect(inside, f"probabilities must lie in (0, 1], or be NaN; got {np.unique(known)}")
