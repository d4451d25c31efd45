"""Faults that a review found by long random games, each with the smallest game that showed it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from curri import PromptPool, Rollouts
from curri.curricula import GRESO, SEC, EasyToHard, MoDoMoDo, Uniform
from curri.errors import InvalidParameter, PoolExhausted
from curri.registry import strategy
from curri.selectors import bounded_shares
from curri.state import same_state


@pytest.mark.parametrize("cap", [1.3796315, 0.9710280031621019, 2.7348034760430604, 1.1, 0.7])
def test_caps_that_add_up_to_a_hair_less_than_the_batch(cap: float) -> None:
    sizes = np.array([1, 22, 2])
    for n in range(1, 26):
        for high in (cap, [0.0, 20.0 + cap, cap], [cap, 0.0, cap]):
            shares = bounded_shares([1.0, 22.0, 2.0], sizes, n, high_A=high)
            assert np.all((shares >= -1e-9) & (shares <= sizes + 1e-9))
            assert shares.sum() == pytest.approx(n)


def test_no_room_at_all_is_rounding() -> None:
    from curri.selectors.constraints import _between

    high = np.array([0.0, 0.9710280031621019, 0.9710280031621019])
    shares = _between(np.array([1.0, 2.0, 2.0]), np.zeros(3), high, float(np.nextafter(high.sum(), 3.0)))
    assert shares == pytest.approx(high)


def test_a_refused_ask_moves_nothing_even_where_prompts_came_by_revisit() -> None:
    pool = PromptPool(range(12), list("ab") * 6)
    mixture = MoDoMoDo(pool, weights={"a": 1.0, "b": 1.0, "c": 1.0}, exhausted="stop", revisit_after=1, cooldown=5)
    for n in (4, 4):
        mixture.ask(n)
    before = mixture.state_dict()
    with pytest.raises(PoolExhausted):
        mixture.ask(12)
    assert same_state(before, mixture.state_dict())


def test_overdue_prompts_keep_within_the_cap_of_their_arm() -> None:
    pool = PromptPool(range(40), ["a"] * 30 + ["b"] * 5 + ["c"] * 5)
    uniform = Uniform(pool, arm_cap=0.4, revisit_after=1, revisit_share=1.0)
    for _ in range(10):
        assert max(Counter(uniform.ask(10).arms.tolist()).values()) <= 4


def test_overdue_prompts_still_come_where_the_cap_is_less_than_a_prompt() -> None:
    uniform = Uniform(PromptPool(range(6)), arm_cap=0.1, revisit_after=1, revisit_share=0.5)
    seen = {i for _ in range(12) for i in uniform.ask(2).prompt_ids.tolist()}
    assert seen == set(range(6))


@pytest.mark.parametrize("seed", range(3))
def test_greso_ends_no_epoch_before_every_prompt_had_its_turn(seed: int) -> None:
    greso = GRESO(PromptPool(range(40)), group_size=2, seed=seed)
    for _ in range(4):  # the first half is all right, again and again
        greso.tell(Rollouts(np.repeat(np.arange(20), 2), [1.0] * 40))
        greso.advance()
    picked: Counter[int] = Counter()
    for _ in range(40):
        picked.update(greso.ask(4).prompt_ids.tolist())
        times = [picked[prompt] for prompt in range(20, 40)]  # never skipped
        assert max(times) - min(times) <= 1


def test_sec_does_not_call_a_decayed_arm_seen() -> None:
    sec = SEC(PromptPool(range(4), list("aabb")), absent="decay")
    sec.tell(Rollouts([0, 0], [1, 0]))
    sec.advance()
    assert "curriculum/sec/arms_unseen" not in sec.metrics()


@pytest.mark.parametrize("exhausted", ["stop", "renormalise"])
def test_a_mixture_that_cannot_see_its_end_says_so(exhausted: str) -> None:
    both = strategy("modomodo/uniform")(PromptPool(range(8), list("ab") * 4), exhausted=exhausted)
    both.ask(4)
    assert both.metrics()["curriculum/modomodo/uniform/fallback/exhausted_idle"] == 1
    plain = strategy("modomodo/uniform")(PromptPool(range(8), list("ab") * 4))
    plain.ask(4)
    assert "curriculum/modomodo/uniform/fallback/exhausted_idle" not in plain.metrics()


@pytest.mark.parametrize("name", ["modomodo", "modomodo/uniform", "easy-to-hard", "easy-to-hard/uniform"])
def test_arms_that_the_pool_lacks_are_refused_under_bounds_too(name: str) -> None:
    wrong = {"weights": {"nope": 1.0}} if name.startswith("modomodo") else {"levels": ["nope"]}
    curriculum = strategy(name)(PromptPool(range(9), list("abc") * 3), arm_cap=0.9, **wrong)
    with pytest.raises(InvalidParameter, match="must name arms of the pool"):
        curriculum.ask(3)


def test_bounds_do_not_keep_a_stop_in_silence() -> None:
    mixture = MoDoMoDo(PromptPool(range(9), list("abc") * 3), exhausted="stop", arm_cap=0.9)
    mixture.ask(3)
    assert mixture.metrics()["curriculum/modomodo/fallback/exhausted_idle"] == 1


def test_levels_left_out_are_said_under_bounds_too() -> None:
    levels = EasyToHard(PromptPool(range(9), list("abc") * 3), levels=["a", "b"], arm_cap=0.9)
    levels.ask(3)
    assert levels.metrics()["curriculum/easy-to-hard/fallback/arms_unlisted"] == 1
