"""Checks: bounds that the base class puts on every strategy's picks, and strategies put together."""

from __future__ import annotations

import numpy as np

from curri.curricula.base import Curriculum
from curri.curricula.composition import WITHIN, Composed, within
from curri.curricula.uniform import Uniform
from curri.parameters import declared
from curri.testing.case import Case, expect, promise
from curri.testing.scenario import BATCH, POOL_SIZE, expect_same_state, expect_valid, play, small_pool, step

_ROUNDS = 8


@promise()
def check_cooldown(case: Case) -> None:
    """With ``cooldown=2`` no prompt comes again in the two rounds after a pick; where too few are left, some do."""
    curriculum = case.build(small_pool(), cooldown=2)
    recent: list[set[int]] = []
    for _ in range(_ROUNDS):
        picks = set(step(curriculum, 5))
        expect(not picks & set().union(*recent[-2:]), f"prompts came again while they rest: {sorted(picks)}")
        recent.append(picks)
    expect_valid(case, curriculum, curriculum.ask(POOL_SIZE), POOL_SIZE)
    shortened = curriculum.metrics()[f"curriculum/{curriculum.name}/fallback/cooldown_shortened"]
    expect(shortened > 0, "a cool-down that was cut short must be counted")


@promise()
def check_arm_bounds(case: Case) -> None:
    """``arm_floor`` and ``arm_cap`` hold in every batch; a cap that cannot hold gives way."""
    curriculum = case.build(small_pool(), arm_floor=0.1, arm_cap=0.4)
    for _ in range(_ROUNDS):
        selection = curriculum.ask(10)
        counts = [int(np.sum(selection.arms == arm)) for arm in curriculum.pool.arm_names]
        expect(min(counts) >= 1 and max(counts) <= 4, f"of 10 prompts the arms got {counts}; allowed is 1 to 4")
        step(curriculum)
    expect_valid(case, curriculum, curriculum.ask(POOL_SIZE), POOL_SIZE)


@promise()
def check_revisits(case: Case) -> None:
    """With ``revisit_after=4``, half of each batch for it, nobody waits longer than 4 rounds and the queue takes."""
    curriculum = case.build(small_pool(), revisit_after=4, revisit_share=0.5)
    longest = 4 + -(-POOL_SIZE // (BATCH // 2)) + 1
    last = dict.fromkeys(curriculum.pool.ids.tolist(), -1)
    for round_ in range(3 * longest):
        for prompt in step(curriculum):
            last[prompt] = round_
        waited = max(round_ - seen for seen in last.values())
        expect(waited <= longest, f"a prompt waited {waited} rounds; {longest} is the most")


@promise()
def check_composes(case: Case) -> None:
    """The strategy can split a batch over arms for another one, and can pick inside arms for another one."""
    if issubclass(case.strategy, Composed):
        return
    for outer, inner, given in (
        (case.strategy, Uniform, case.parameters),
        (Uniform, case.strategy, {_inner_name(name): value for name, value in case.parameters.items()}),
    ):
        composed = Case(within(outer, inner), given)
        curriculum, twin = composed.build(small_pool()), composed.build(small_pool())
        play(curriculum, 2)
        twin.load_state_dict(curriculum.state_dict())
        expect(play(curriculum, 2) == play(twin, 2), f"{composed.label} picks otherwise after a resume")
        expect_same_state(curriculum.state_dict(), twin.state_dict(), composed.label)
        expect_valid(composed, curriculum, curriculum.ask(BATCH), BATCH)


def _inner_name(name: str) -> str:
    return name if name in declared(Curriculum) else WITHIN + name
