"""Uniform draws: epochs, quotas, extension, exact probabilities."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri import PromptPool
from curri.curricula import Uniform

SIZE = 12
POOL = PromptPool(np.arange(10, 10 + SIZE), ["a"] * 5 + ["b"] * 7)


def picks(uniform: Uniform, n: int, **request: Any) -> list[int]:
    return uniform.ask(n, **request).prompt_ids.tolist()


@given(sizes=st.lists(st.integers(1, SIZE), max_size=12), seed=st.integers(0, 99))
def test_no_prompt_comes_again_before_every_prompt_came(sizes: list[int], seed: int) -> None:
    uniform = Uniform(POOL, seed=seed)
    times = Counter(dict.fromkeys(POOL.ids.tolist(), 0))
    for n in sizes:
        times.update(picks(uniform, n))
        assert max(times.values()) - min(times.values()) <= 1


@given(
    rounds=st.lists(st.tuples(st.integers(1, SIZE), st.sets(st.sampled_from(POOL.ids.tolist()))), max_size=12),
    seed=st.integers(0, 99),
)
def test_excluded_prompts_wait_until_their_epoch_ends(rounds: list[tuple[int, set[int]]], seed: int) -> None:
    uniform = Uniform(POOL, seed=seed)
    everything = set(POOL.ids.tolist())
    waiting = set(everything)
    for wanted, out in rounds:
        n = min(wanted, SIZE - len(out))
        if not n:
            continue
        left = waiting - out
        got = set(picks(uniform, n, exclude=out))
        assert len(got) == n
        assert not got & out
        if n <= len(left):
            assert got <= left
            waiting -= got
        else:
            assert left <= got
            waiting = everything - (got - left)
        assert uniform.metrics()["curriculum/uniform/prompts_left_in_epoch"] == len(waiting)


@given(quotas=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=12), seed=st.integers(0, 99))
def test_with_quotas_every_arm_has_its_own_epochs(quotas: list[tuple[int, int]], seed: int) -> None:
    uniform = Uniform(POOL, seed=seed)
    times = Counter(dict.fromkeys(POOL.ids.tolist(), 0))
    arm_of = dict(zip(POOL.ids.tolist(), POOL.arm_of(np.arange(SIZE)).tolist(), strict=True))
    for a, b in quotas:
        if a + b:
            times.update(picks(uniform, a + b, quota={"a": a, "b": b}))
        for arm in "ab":
            of_arm = [count for prompt, count in times.items() if arm_of[prompt] == arm]
            assert max(of_arm) - min(of_arm) <= 1


def test_new_prompts_join_the_epoch() -> None:
    uniform = Uniform(POOL)
    first = picks(uniform, 8)
    uniform.extend(uniform.pool.extended([90, 91], ["a", "c"]))
    uniform.advance()
    rest = picks(uniform, 6)
    assert set(rest) == (set(POOL.ids.tolist()) - set(first)) | {90, 91}
    assert uniform.metrics()["curriculum/uniform/prompts_left_in_epoch"] == 0


def test_retired_prompts_leave_the_epoch() -> None:
    uniform = Uniform(POOL)
    first = picks(uniform, 8)
    waiting = sorted(set(POOL.ids.tolist()) - set(first))
    uniform.extend(uniform.pool.retired(waiting[:2]))
    uniform.advance()
    assert sorted(picks(uniform, 2)) == waiting[2:]
    assert sorted(picks(uniform, 10)) == sorted(set(POOL.ids.tolist()) - set(waiting[:2]))


def repeated(uniform: Uniform, n: int, draws: int, **request: Any) -> tuple[np.ndarray, np.ndarray]:
    """Claimed probabilities and the share of draws in which each prompt came, from one state."""
    state = uniform.state_dict()
    claimed, share = np.full(SIZE, np.nan), np.zeros(SIZE)
    for draw in range(draws):
        uniform.load_state_dict(state | {"generator": np.random.PCG64(draw).state})
        selection = uniform.ask(n, **request)
        rows = uniform.pool.rows(selection.prompt_ids)
        claimed[rows] = selection.probability
        share[rows] += 1 / draws
    return claimed, share


@pytest.mark.parametrize("exclude", [[], [12, 19]])
def test_probabilities_at_the_turn_of_an_epoch(exclude: list[int]) -> None:
    uniform = Uniform(POOL)
    drawn = picks(uniform, 7, exclude=exclude)
    left = SIZE - len(exclude) - len(drawn)
    claimed, share = repeated(uniform, 8, 2000, exclude=exclude)
    waiting = np.setdiff1d(np.arange(SIZE), uniform.pool.rows([*drawn, *exclude]))
    again = uniform.pool.rows(drawn)
    assert np.all(claimed[waiting] == 1.0)
    assert claimed[again] == pytest.approx((8 - left) / len(drawn))
    assert np.nansum(claimed) == pytest.approx(8)
    assert share[again] == pytest.approx(claimed[again], abs=0.05)
    assert np.all(share[uniform.pool.rows(exclude)] == 0)


def test_probabilities_with_a_quota() -> None:
    claimed, share = repeated(Uniform(POOL), 5, 2000, quota={"a": 3, "b": 2})
    assert claimed == pytest.approx(np.where(POOL.arms == 0, 3 / 5, 2 / 7))
    assert share == pytest.approx(claimed, abs=0.05)


def test_probabilities_are_plain_shares() -> None:
    selection = Uniform(POOL).ask(3)
    assert selection.probability == pytest.approx(0.25)


def test_an_epoch_goes_on_after_a_resume() -> None:
    uniform = Uniform(POOL)
    first = picks(uniform, 9)
    again = Uniform(POOL)
    again.load_state_dict(uniform.state_dict())
    assert set(first) | set(picks(again, 3)) == set(POOL.ids.tolist())
    assert again.explain(first[0]) == {
        "prompt_id": first[0],
        "arm": str(POOL.arm_of(POOL.rows([first[0]]))[0]),
        "active": True,
        "drawn_in_this_epoch": True,
        "epoch": 0,
        "prompts_left_in_epoch": 0,
    }


def test_epochs_are_counted() -> None:
    uniform = Uniform(POOL)
    for _ in range(5):
        uniform.ask(5)
    assert uniform.metrics()["curriculum/uniform/epochs"] == 2
