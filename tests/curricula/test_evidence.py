"""What a round is made of: one order, no repeats, bounded memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.curricula import evidence as module
from curri.curricula.evidence import Evidence, SeenRollouts, fingerprints, gather
from curri.types import Rollouts

IDS = np.arange(1000)
PINNED = [18194886453988727497, 11300935515645123762, 15804029879889190481]


def rows_of(prompt_ids: np.ndarray) -> np.ndarray:
    return np.searchsorted(IDS, prompt_ids)


def gathered(*parts: Rollouts, seen: SeenRollouts | None = None) -> tuple[Evidence, int]:
    return gather(parts, rows_of, SeenRollouts() if seen is None else seen)


def as_text(evidence: Evidence) -> dict[str, str]:
    columns = {field.name: getattr(evidence, field.name) for field in dataclasses.fields(evidence)}
    return {name: repr(np.asarray(column).tolist()) for name, column in columns.items()}


number = st.sampled_from([0.0, -0.0, 1.0, 0.5, -2.0])
response = st.fixed_dictionaries(
    {
        "prompt_ids": st.integers(0, 3),
        "rewards": number,
        "advantages": st.one_of(number, st.just(np.nan)),
        "tokens": st.integers(0, 2),
        "truncated": st.booleans(),
        "policy_version": st.integers(-1, 1),
        "responses": st.sampled_from(["x", "y"]),
    }
)


def built(rows: list[dict[str, Any]], names: list[Any] | None) -> Rollouts:
    columns: dict[str, Any] = {key: [row[key] for row in rows] for key in rows[0]} if rows else {}
    if not rows:
        return Rollouts([], [])
    return Rollouts(**columns, solved=np.zeros(len(rows)), rollout_ids=names)


@given(
    unnamed=st.lists(response, max_size=6),
    named=st.lists(st.tuples(response, st.integers(0, 4)), max_size=6),
    texts=st.lists(st.tuples(response, st.sampled_from(["0", "a", "bb"])), max_size=6),
    data=st.data(),
)
def test_order_and_split_of_what_was_told_do_not_matter(
    unnamed: list[dict[str, Any]],
    named: list[tuple[dict[str, Any], int]],
    texts: list[tuple[dict[str, Any], str]],
    data: st.DataObject,
) -> None:
    wholes = [built(unnamed, None)]
    wholes += [built([row for row, _ in given_], [key for _, key in given_]) for given_ in (named, texts)]
    parts = []
    for whole in wholes:
        order = np.array(data.draw(st.permutations(range(len(whole)))), dtype=np.int64)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=3)))
        parts += [whole.take(piece) for piece in np.split(order, cuts)]
    left_seen, right_seen = SeenRollouts(), SeenRollouts()
    left, left_repeated = gathered(*wholes, seen=left_seen)
    right, right_repeated = gathered(*data.draw(st.permutations(parts)), seen=right_seen)
    assert as_text(left) == as_text(right)
    assert left_repeated == right_repeated
    assert left_seen.state().keys() == right_seen.state().keys()
    assert all(np.array_equal(value, right_seen.state()[key]) for key, value in left_seen.state().items())


def test_unnamed_responses_that_differ_in_their_text_alone_have_an_order() -> None:
    texts = ["b", None, [1, 2], "a", [1, 3], "b"]
    told = Rollouts([1] * 6, [0.5] * 6, responses=texts)
    orders = [gathered(told.take(np.roll(np.arange(6), shift)))[0].responses for shift in range(6)]
    assert all(order == orders[0] for order in orders)
    assert sorted(map(repr, orders[0])) == sorted(map(repr, texts))


def test_evidence_is_sorted_by_prompt_and_rollout() -> None:
    told = Rollouts([5, 3, 5, 3], [1.0, 2.0, 3.0, 4.0], rollout_ids=[2, 9, 1, 4])
    evidence, repeated = gathered(told)
    assert evidence.prompt_ids.tolist() == [3, 3, 5, 5]
    assert evidence.rewards.tolist() == [4.0, 2.0, 3.0, 1.0]
    assert evidence.rows.tolist() == [3, 3, 5, 5]
    assert repeated == 0


def test_what_was_not_told_has_its_stated_value() -> None:
    evidence, _ = gathered(Rollouts([1], [3.0]))
    assert np.isnan(evidence.solved[0])
    assert np.isnan(evidence.advantages[0])
    assert (evidence.tokens[0], evidence.policy_version[0], evidence.truncated[0]) == (-1, -1, False)
    assert (evidence.probe[0], evidence.responses) == (False, [None])


def test_nothing_told_is_empty_evidence() -> None:
    evidence, repeated = gathered()
    assert (len(evidence), repeated) == (0, 0)
    assert [column.dtype.kind for column in (evidence.rewards, evidence.rows, evidence.probe)] == ["f", "i", "b"]


def test_repeats_count_once_within_and_across_rounds() -> None:
    seen = SeenRollouts()
    told = Rollouts([1, 1, 2], [1.0, 1.0, 1.0], rollout_ids=["a", "a", "a"])
    evidence, repeated = gathered(told, seen=seen)
    assert (evidence.prompt_ids.tolist(), repeated) == ([1, 2], 1)
    evidence, repeated = gathered(told, seen=seen)
    assert (len(evidence), repeated) == (0, 3)


def test_unnamed_responses_all_count() -> None:
    seen = SeenRollouts()
    for _ in range(2):
        evidence, repeated = gathered(Rollouts([1, 1], [1.0, 1.0]), seen=seen)
        assert (len(evidence), repeated) == (2, 0)
    assert seen.state() == {"seen/first": 0}


def test_an_integer_and_its_digits_are_one_name() -> None:
    seen = SeenRollouts()
    gathered(Rollouts([1], [1.0], rollout_ids=[7]), seen=seen)
    mixed = [Rollouts([1], [1.0], rollout_ids=[7]), Rollouts([1, 1], [1.0, 1.0], rollout_ids=["7", "x"])]
    evidence, repeated = gathered(*mixed, seen=seen)
    assert (len(evidence), repeated) == (1, 2)


def test_unknown_prompts_leave_the_memory_alone() -> None:
    seen = SeenRollouts()

    def nobody(prompt_ids: np.ndarray) -> np.ndarray:
        raise LookupError

    with pytest.raises(LookupError):
        gather([Rollouts([1], [1.0], rollout_ids=[7])], nobody, seen)
    assert seen.state() == {"seen/first": 0}


# ---- fingerprints ----------------------------------------------------------------------------------------------------


@given(names=st.lists(st.text(st.characters(exclude_characters="\0"), max_size=8), min_size=1), wide=st.integers(1, 40))
def test_fingerprints_do_not_depend_on_the_width_of_the_array(names: list[str], wide: int) -> None:
    ids = np.arange(len(names))
    narrow = np.array(names, dtype=np.str_)
    broad = np.array([*names, "x" * wide], dtype=np.str_)[:-1]
    alone = [fingerprints(ids[i : i + 1], np.array(names[i : i + 1]))[0] for i in range(len(names))]
    assert fingerprints(ids, narrow).tolist() == fingerprints(ids, broad).tolist() == alone


def test_fingerprints_tell_names_and_prompts_apart() -> None:
    names = np.array(["", "a", "b", "ab", "ba", "a\0b", "aa", "aaa", "é", "e"])
    prints = fingerprints(np.repeat(IDS[:50], names.size), np.tile(names, 50))
    assert np.unique(prints).size == prints.size
    numbers = fingerprints(np.repeat(IDS[:50], 100), np.tile(np.arange(-50, 50), 50))
    assert np.unique(np.concatenate([prints, numbers])).size == prints.size + numbers.size


def test_fingerprints_are_the_same_in_every_process() -> None:
    """Saved states hold them, so they must never change."""
    prints = fingerprints(np.array([1, 2, 2]), np.array(["r1:0", "r1:0", "7"]))
    assert prints.tolist() == PINNED
    assert fingerprints(np.array([2]), np.array([7]))[0] == PINNED[2]


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "REMEMBERED_ROLLOUTS", 2048)
    return 2048


def test_the_oldest_are_forgotten_first_and_enough_is_kept(small_memory: int) -> None:
    seen = SeenRollouts()
    for start in range(0, 20_000, 100):
        seen.add(np.arange(start, start + 100, dtype=np.uint64))
        last = np.arange(max(0, start + 100 - small_memory), start + 100, dtype=np.uint64)
        assert seen.known(last).all()
        assert sum(np.size(chunk) for chunk in seen.state().values()) <= small_memory + 100 + 1
    assert not seen.known(np.arange(1000, dtype=np.uint64)).any()


def test_a_round_larger_than_the_memory_is_kept_whole(small_memory: int) -> None:
    seen = SeenRollouts()
    seen.add(np.arange(5000, dtype=np.uint64))
    assert seen.known(np.arange(5000, dtype=np.uint64)).all()
    seen.add(np.arange(5000, 10_000, dtype=np.uint64))
    assert seen.known(np.array([4999, 5000, 9999], dtype=np.uint64)).tolist() == [False, True, True]


def test_short_rounds_share_a_chunk(small_memory: int) -> None:
    seen = SeenRollouts()
    for start in range(6000):
        seen.add(np.array([start], dtype=np.uint64))
    assert len(seen.state()) <= 512 + 2


@given(sizes=st.lists(st.integers(0, 900), max_size=12))
def test_memory_goes_on_after_a_round_trip(sizes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "REMEMBERED_ROLLOUTS", 2048)
        seen, start = SeenRollouts(), 0
        for size in sizes:
            resumed = SeenRollouts.from_state(seen.state())
            for one in (seen, resumed):
                one.add(np.arange(start, start + size, dtype=np.uint64))
            assert seen.state().keys() == resumed.state().keys()
            assert all(np.array_equal(chunk, resumed.state()[key]) for key, chunk in seen.state().items())
            every = np.arange(start + size, dtype=np.uint64)
            assert np.array_equal(seen.known(every), resumed.known(every))
            start += size


def test_a_saved_memory_cannot_be_written_to() -> None:
    seen = SeenRollouts()
    mine = np.arange(5, dtype=np.uint64)
    seen.add(mine)
    mine[:] = 9
    assert seen.known(np.arange(5, dtype=np.uint64)).all()
    with pytest.raises(ValueError, match="read-only"):
        seen.state()["seen/000000000"][0] = 1  # type: ignore[index]


def test_repeats_that_differ_in_their_text_alone_do_not_depend_on_the_order() -> None:
    def told(*texts: str) -> Rollouts:
        return Rollouts([3] * len(texts), [1.0] * len(texts), responses=list(texts), rollout_ids=["a"] * len(texts))

    kept = [gathered(told(*order), seen=SeenRollouts())[0].responses for order in (("x", "y"), ("y", "x"))]
    assert kept[0] == kept[1]


def test_groups_are_the_responses_of_a_prompt() -> None:
    told = Rollouts([7, 3, 7, 3, 7], [1.0, 0.5, 0.0, 0.5, 1.0], solved=[1, np.nan, 0, 1, 1])
    probes = Rollouts([7, 9], [4.0, 2.0], kind="probe")
    groups = gathered(told, probes)[0].groups()
    assert groups.rows.tolist() == [3, 7]
    assert groups.size.tolist() == [2, 3]
    assert groups.reward_mean == pytest.approx([0.5, 2 / 3])
    assert groups.reward_min.tolist() == [0.5, 0.0]
    assert groups.reward_max.tolist() == [0.5, 1.0]
    assert groups.live.tolist() == [False, True]
    assert groups.successes.tolist() == [1.0, 2.0]
    assert groups.known.tolist() == [1, 3]
    assert gathered(told, probes)[0].groups(probe=True).rows.tolist() == [7, 9]
    assert gathered(told, probes)[0].groups(probe=None).size.tolist() == [2, 4, 1]
    assert len(gathered()[0].groups()) == 0


@pytest.mark.parametrize(
    ("rewards", "live"), [((0.1 + 0.2, 0.3), False), ((1e6, 1e6 + 1e-5), False), ((0.3, 0.31), True)]
)
def test_a_group_is_live_beyond_rounding(rewards: tuple[float, float], live: bool) -> None:
    """Elsewhere std == 0 on floats lets groups through that differ by rounding."""
    assert gathered(Rollouts([1, 1], rewards))[0].groups().live.tolist() == [live]
