"""The simulated learner: its luck, its answers, what it learns from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter, StateMismatch, UnknownPrompt
from curri.irt import advantage_mass
from curri.simulation import SimulatedLearner
from curri.simulation.learner import luck, normal_noise

N = 60
IDS = np.arange(100, 100 + N)
SEEDS = st.integers(0, 2**40)


def learner(**changes: Any) -> SimulatedLearner:
    settings: dict[str, Any] = {"prompt_ids": IDS, "skills": ["a", "b", "c"] * 20, "difficulty": np.linspace(-3, 3, N)}
    return SimulatedLearner(**(settings | changes))


def test_luck_is_uniform_and_independent_between_neighbours() -> None:
    ids = np.repeat(np.arange(5_000), 8)
    ordinals = np.tile(np.arange(8), 5_000)
    first = luck(ids, ordinals, round=0, seed=1)
    assert first.min() >= 0
    assert first.max() < 1
    assert np.allclose(np.histogram(first, bins=10, range=(0, 1))[0] / first.size, 0.1, atol=0.008)
    for other in (luck(ids, ordinals, round=1, seed=1), luck(ids, ordinals, round=0, seed=2), np.roll(first, 1)):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.02


def test_noise_is_standard_normal_and_not_the_luck() -> None:
    ids = np.arange(40_000)
    noise = normal_noise(ids, seed=3)
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert abs((noise**3).mean()) < 0.06
    assert abs((noise**4).mean() - 3) < 0.2
    assert abs(np.corrcoef(noise, luck(ids, np.zeros_like(ids), round=0, seed=3))[0, 1]) < 0.02


@given(SEEDS, st.integers(0, 1000), st.permutations(range(N)), st.integers(0, N))
def test_answers_do_not_depend_on_order_or_batching(seed: int, round_: int, order: list[int], cut: int) -> None:
    solver = learner(seed=seed)
    n = np.arange(N) % 5
    whole = solver.answer(IDS, n, round=round_)
    parts = [solver.answer(IDS[part], n[part], round=round_) for part in (order[:cut], order[cut:])]
    ids = np.concatenate([part.prompt_ids for part in parts])
    rewards = np.concatenate([part.rewards for part in parts])
    sort = np.argsort(ids, kind="stable")
    assert np.array_equal(ids[sort], whole.prompt_ids)
    assert np.array_equal(rewards[sort], whole.rewards)


@given(SEEDS, st.integers(1, 8), st.integers(1, 8))
def test_more_rollouts_keep_the_first_ones(seed: int, few: int, more: int) -> None:
    solver = learner(seed=seed)
    short = solver.answer(IDS, few, round=0).rewards.reshape(N, few)
    long = solver.answer(IDS, few + more, round=0).rewards.reshape(N, few + more)
    assert np.array_equal(short, long[:, :few])


@given(SEEDS, st.integers(0, 8), st.integers(1, 8))
def test_a_round_in_parts_gives_the_responses_of_a_whole_one(seed: int, before: int, more: int) -> None:
    solver = learner(seed=seed)
    earlier = before * (np.arange(N) % 2)
    whole = solver.answer(IDS, earlier + more, round=3)
    rest = solver.answer(IDS, more, round=3, first=earlier)
    late = np.concatenate([np.arange(size) >= start for start, size in zip(earlier, earlier + more, strict=True)])
    assert np.array_equal(rest.rewards, whole.rewards[late])
    assert np.array_equal(rest.prompt_ids, whole.prompt_ids[late])


@given(SEEDS, st.floats(0, 3))
def test_an_abler_learner_with_the_same_luck_never_does_worse(seed: int, gain: float) -> None:
    weak, strong = learner(seed=seed), learner(seed=seed, ability=gain)
    if gain == 0 or gain > 1e-12:
        assert (strong.answer(IDS, 4, round=2).rewards >= weak.answer(IDS, 4, round=2).rewards).all()
    assert (strong.pass_rate() >= weak.pass_rate() - 1e-15).all()  # the last bit of a float may round down
    assert ((weak.pass_rate() > 0) & (weak.pass_rate() < 1)).all()


def test_answers_come_at_the_true_rate() -> None:
    solver = learner()
    rewards = np.stack([solver.answer(IDS, 8, round=round_).rewards for round_ in range(400)])
    rate = rewards.reshape(400, N, 8).mean(axis=(0, 2))
    assert np.abs(rate - solver.pass_rate()).max() < 4.5 * np.sqrt(0.25 / 3200)
    assert len(np.unique(rewards, axis=0)) == 400


@given(st.lists(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=1, max_size=5), min_size=1, max_size=12))
def test_it_learns_from_live_groups_only(groups: list[list[float]]) -> None:
    solver = learner(transfer=0.0)
    before = solver.ability
    ids = np.concatenate([np.full(len(group), IDS[i]) for i, group in enumerate(groups)])
    solver.learn(ids, np.concatenate(groups))
    live = {"abc"[i % 3] for i, group in enumerate(groups) if len(set(group)) > 1}
    for skill, ability in solver.ability.items():
        assert ability > before[skill] if skill in live else ability == before[skill]


def test_growth_is_in_proportion_to_the_mass_with_transfer() -> None:
    solver = learner(learning_rate=1e-6, transfer=0.25)
    solver.learn([100, 101, 100, 101, 103, 103], [1, 1, 0, 0, 0, 1])  # three live groups, of "a", "b" and "a"
    mass = {"a": 2 * np.sqrt(0.5), "b": np.sqrt(0.5), "c": 0.0}
    for skill, ability in solver.ability.items():
        others = sum(mass.values()) - mass[skill]
        assert ability == pytest.approx(1e-6 * (mass[skill] + 0.25 * others), rel=1e-5)


def test_the_mass_learned_from_is_the_expected_one() -> None:
    solver = learner(learning_rate=1e-9, transfer=1.0)
    for round_ in range(300):
        told = solver.answer(IDS, 8, round=round_)
        solver.learn(told.prompt_ids, told.rewards)
    expected = 300 * advantage_mass(solver.pass_rate(), 8).sum()
    assert solver.ability["a"] / 1e-9 == pytest.approx(expected, rel=0.01)


@given(st.permutations(range(N)), st.integers(1, N - 1))
def test_learning_does_not_depend_on_order_or_batching(order: list[int], cut: int) -> None:
    one, two = learner(learning_rate=0.05), learner(learning_rate=0.05)
    groups = one.answer(IDS, 4, round=0).rewards.reshape(N, 4)
    one.learn(np.repeat(IDS, 4), groups.ravel())
    for part in (order[:cut], order[cut:]):
        two.learn(np.repeat(IDS[part], 4), groups[part].ravel())
    assert list(one.ability.values()) == pytest.approx(list(two.ability.values()), rel=1e-12)


def test_growth_saturates_at_the_ceiling() -> None:
    solver = learner(learning_rate=10.0, room=2.0, ability={"a": 0.0, "b": 1.0, "c": -1.0})
    for _ in range(50):
        solver.learn([100, 100], [1, 0])
    assert solver.ability == pytest.approx({"a": 2.0, "b": 3.0, "c": 1.0})


def test_a_saved_learner_goes_on_bit_for_bit() -> None:
    one, two = learner(), learner()
    one.learn([100, 100], [1, 0])
    two.load_state_dict(one.state_dict())
    assert two.state_dict()["ability"].tolist() == one.state_dict()["ability"].tolist()
    assert np.array_equal(one.pass_rate(), two.pass_rate())
    with pytest.raises(StateMismatch):
        learner(skills=["a", "b", "d"] * 20).load_state_dict(one.state_dict())


def test_added_prompts_are_answered_and_learned_from_like_others() -> None:
    solver = learner(learning_rate=0.1, transfer=0.0)
    known = solver.pass_rate(IDS)
    solver.add([7, 900], ["b", "a"], [1.0, -1.0], discrimination=[1.0, 2.0])
    assert np.array_equal(solver.pass_rate(IDS), known)
    assert solver.pass_rate([900, 7]) == pytest.approx([1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(1.0))])
    assert solver.skill_of([900, 7, 100]).tolist() == ["a", "b", "a"]
    assert solver.difficulty([900, 7, 100]).tolist() == [-1.0, 1.0, -3.0]
    before = solver.ability
    solver.learn([900, 900], [1, 0])
    assert solver.ability["a"] > before["a"]
    assert solver.ability["b"] == before["b"]


@pytest.mark.parametrize(
    ("ids", "skills", "difficulty", "words"),
    [
        ([100], ["a"], [0.0], "distinct"),
        ([7, 7], ["a", "a"], [0.0, 0.0], "distinct"),
        ([7], ["d"], [0.0], "no skill d"),
        ([7], ["a"], [np.nan], "`difficulty`"),
        ([7], ["a"], [0.0, 1.0], "one entry a prompt"),
    ],
)
def test_wrong_additions_are_refused_and_change_nothing(
    ids: list[int], skills: list[str], difficulty: list[float], words: str
) -> None:
    solver = learner()
    with pytest.raises(InvalidParameter, match=words):
        solver.add(ids, skills, difficulty)
    assert np.array_equal(solver.pass_rate(), learner().pass_rate())


def test_ids_may_come_in_any_order() -> None:
    forward = SimulatedLearner([1, 2, 3], ["a", "b", "c"], [0.0, 1.0, 2.0], discrimination=[1.0, 2.0, 3.0])
    backward = SimulatedLearner([3, 2, 1], ["c", "b", "a"], [2.0, 1.0, 0.0], discrimination=[3.0, 2.0, 1.0])
    assert np.array_equal(forward.pass_rate([2, 1, 3]), backward.pass_rate([2, 1, 3]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": -1.0}, r"`learning_rate` .* in \[0, inf\)"),
        ({"transfer": 1.5}, r"`transfer` .* in \[0, 1\]"),
        ({"room": 0.0}, r"`room` .* in \(0, inf\)"),
        ({"difficulty": [0.0]}, "`difficulty` .* one entry a prompt"),
        ({"discrimination": 0.0}, "`discrimination`"),
        ({"difficulty": np.full(N, np.nan)}, "`difficulty`"),
        ({"ability": {"a": 0.0}}, "no value for b, c"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        learner(**changes)


def test_wrong_calls_are_refused() -> None:
    solver = learner()
    before = solver.ability
    with pytest.raises(UnknownPrompt):
        solver.answer([1], 8, round=0)
    with pytest.raises(InvalidParameter):
        solver.answer([100, 100], 8, round=0)
    with pytest.raises(InvalidParameter):
        solver.answer([100], 8, round=0, first=-1)
    with pytest.raises(UnknownPrompt):
        solver.learn([1, 1], [0, 1])
    with pytest.raises(InvalidParameter):
        solver.learn([100, 100], [0, np.nan])
    assert solver.ability == before
