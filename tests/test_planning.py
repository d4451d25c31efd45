"""Group sizes: shares of live groups, what they cost, and where no size is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidInput, InvalidParameter, UnknownName
from curri.planning import LARGEST, plan, plan_rate
from curri.store import NewPrompt, PromptStore, Source, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PromptStore]:
    with open_store(tmp_path / "p.duckdb", create=True) as opened:
        yield opened


def fill(store: PromptStore, arm: str, counts: Sequence[int], n: int = 8, tokens: int | None = None) -> None:
    """Prompts of an arm, each with so many right responses of n (-1: with none at all)."""
    first = len(store.prompts) + 1
    store.prompts.add([NewPrompt(f"{arm} {first + i}", is_chat=False, answer="", arm=arm) for i in range(len(counts))])
    rows = [(first + i, float(j < right)) for i, right in enumerate(counts) if right >= 0 for j in range(n)]
    table = {
        "prompt_id": pa.array([row[0] for row in rows], pa.int64()),
        "reward": pa.array([row[1] for row in rows], pa.float64()),
        "solved": pa.array([row[1] for row in rows], pa.float64()),
        "sample": pa.array([i % n for i in range(len(rows))], pa.int32()),
    }
    if tokens is not None:
        table["tokens"] = pa.array([tokens] * len(rows), pa.int32())
    store.rollouts.add(Source("m"), pa.table(table))


@given(st.floats(0.001, 0.999), st.integers(2, 64))
def test_a_known_rate_is_the_closed_form(p: float, n: int) -> None:
    (group,) = plan_rate(p, [n]).groups
    assert group.live == pytest.approx(1 - p**n - (1 - p) ** n)
    assert group.live + group.waste == pytest.approx(1)
    assert group.responses_per_live == pytest.approx(n / group.live)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_the_smallest_group_is_the_smallest(p: float, live: float) -> None:
    found = plan_rate(p, [2], live=live)
    sizes = np.arange(1, LARGEST + 1)
    enough = np.flatnonzero(1 - p**sizes - (1 - p) ** sizes >= live)
    assert found.smallest == (int(sizes[enough[0]]) if enough.size else None)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_at_the_ends_nothing_is_live(p: float) -> None:
    found = plan_rate(p, [8], live=0.01)
    assert (found.smallest, found.bound, found.groups[0].live) == (None, 0.0, 0.0)
    assert found.groups[0].responses_per_live == np.inf


def test_a_store_is_planned_by_arm_and_in_all(store: PromptStore) -> None:
    rng = np.random.default_rng(0)
    fill(store, "even", rng.binomial(8, 0.5, 300).tolist(), tokens=100)
    fill(store, "hard", [0] * 300, tokens=300)
    found = plan(store, [4, 8], live=0.6)
    even, hard = found.arms
    assert (even.name, even.prompts, even.tried, even.responses, even.tokens) == ("even", 300, 300, 2400, 100.0)
    assert even.groups[1].live == pytest.approx(1 - 2 * 0.5**8, abs=0.02)
    assert even.smallest in (2, 3)
    assert (hard.always_wrong, hard.pass_rate, hard.smallest) == (1.0, 0.0, None)
    assert hard.bound is not None
    assert hard.bound < 0.01
    whole = found.together
    assert whole.groups[1].live == pytest.approx((even.groups[1].live + hard.groups[1].live) / 2)
    assert (whole.smallest, whole.tokens) == (None, 200.0)
    assert whole.bound == pytest.approx(0.5, abs=0.02)
    assert whole.groups[1].tokens_per_live == pytest.approx(8 * 200 / whole.groups[1].live)
    assert whole.groups[1].waste_tokens == pytest.approx(0.75, abs=0.02)  # the hard half is three times as long


def test_prompts_that_were_not_tried_are_like_those_of_their_arm(store: PromptStore) -> None:
    rng = np.random.default_rng(1)
    counts = rng.binomial(8, rng.beta(0.35, 0.7, 400)).tolist()
    fill(store, "a", counts)
    before = plan(store, [8]).together
    fill(store, "a", [-1] * 400)
    after = plan(store, [8]).together
    assert (after.prompts, after.tried) == (800, 400)
    assert after.groups[0].live == pytest.approx(before.groups[0].live, abs=0.01)


def test_arms_without_rollouts_are_left_out_of_the_whole_and_retired_prompts_too(store: PromptStore) -> None:
    fill(store, "a", [4] * 20)
    fill(store, "new", [-1] * 5)
    fill(store, "gone", [0] * 50)
    store.prompts.retire(np.arange(26, 76))
    found = plan(store, [8], live=0.5)
    assert [(each.name, each.prompts, each.smallest is None) for each in found.arms] == [
        ("a", 20, False),
        ("new", 5, True),
    ]
    assert (found.arms[1].groups, found.arms[1].bound, found.arms[1].pass_rate) == ((), None, None)
    assert found.together.prompts == 20
    assert "arms that were never tried: 1, with 5 prompts" in found.notes[1]
    assert found.document()["arms"][0]["groups"][0]["n"] == 8


def test_chosen_prompts_only(store: PromptStore) -> None:
    fill(store, "a", [8] * 10 + [4] * 10)
    assert plan(store, [8], prompt_ids=np.arange(11, 21)).together.pass_rate == 0.5


def test_few_responses_and_odd_ones(store: PromptStore) -> None:
    fill(store, "one", [0, 1] * 10, n=1)
    found = plan(store, [2])
    assert any("no prompt has two responses" in note for note in found.notes)
    assert found.together.groups[0].live == pytest.approx(0.25)  # E 2p(1-p) under Beta(a, 1 - a), a = 1/2
    table = {"prompt_id": [1], "reward": [0.5], "solved": [0.5], "sample": [9]}
    store.rollouts.add(Source("m"), pa.table(table))
    found = plan(store, [2])
    assert found.together.tried == 19
    assert any("partly right" in note for note in found.notes)


def test_a_store_without_rollouts_goes_by_priors(store: PromptStore) -> None:
    fill(store, "a", [-1] * 3)
    found = plan(store, [8], live=0.5)
    assert (found.model, found.together.groups, found.together.smallest) == (None, (), None)
    ids = np.arange(1, 4)
    store.priors.set("other", ids, np.array([0.5, 0.25, 0.75]), np.full(3, 64), source="x.csv")
    store.priors.use("other")
    found = plan(store, [8], live=0.5)
    assert (found.model, found.source, found.together.responses) == ("other", "priors", 192)
    assert found.together.groups[0].live > 0.9
    fill(store, "a", [0, 0])
    assert plan(store, [8]).source == "rollouts"


def test_what_is_refused(store: PromptStore) -> None:
    fill(store, "a", [4])
    with pytest.raises(UnknownName):
        plan(store, [8], model="none")
    store.rollouts.add(Source("n"), pa.table({"prompt_id": [1], "reward": [1.0], "solved": [1.0], "sample": [0]}))
    with pytest.raises(InvalidInput):
        plan(store, [8])
    for sizes, live in (([0], None), ([LARGEST + 1], None), ([True], None), ([8], 0.0), ([8], 1.0), ([8], np.nan)):
        with pytest.raises(InvalidParameter):
            plan(store, sizes, live=live, model="m")
    for rate in (-0.1, 1.1, np.nan):
        with pytest.raises(InvalidParameter):
            plan_rate(rate)
