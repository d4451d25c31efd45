"""The learner that reacts: forgetting, wandering, the fit, and strategies compared on it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from curri.errors import InvalidInput, InvalidParameter
from curri.registry import BUILT_IN
from curri.simulation import SimulatedLearner
from curri.simulation.comparison import ComparisonSettings, able, comparison_document, fit_document
from curri.simulation.fit import RECORDED, likeness, simulated_records
from curri.simulation.reacting import FITTED, FITTED_ARMS, FittedArm, ReactingLearner, Reaction, fitted_scene
from curri.simulation.records import Records

IDS = np.arange(1, 41)
SKILLS = np.where(IDS % 2, "odd", "even")
HARD = np.linspace(-2, 2, IDS.size)
STILL = Reaction(learning_rate=0.02, transfer=0.1, room=3.0)


def learner_of(reaction: Reaction = STILL, seed: int = 0) -> ReactingLearner:
    return ReactingLearner(IDS, SKILLS, HARD, reaction=reaction, seed=seed)


def trained(learner: SimulatedLearner, steps: int) -> SimulatedLearner:
    for step in range(steps):
        told = learner.answer(IDS[step % 2 :: 4], 8, round=step)
        learner.learn(told.prompt_ids, told.rewards)
    return learner


def test_without_forgetting_and_wandering_it_is_the_plain_learner() -> None:
    plain = SimulatedLearner(IDS, SKILLS, HARD, learning_rate=0.02, transfer=0.1, room=3.0)
    assert np.allclose(trained(learner_of(), 20).pass_rate(), trained(plain, 20).pass_rate())


def test_what_is_not_trained_on_is_forgotten() -> None:
    learner = trained(learner_of(dataclasses.replace(STILL, forgetting=0.05)), 20)
    before = dict(learner.ability)
    for _ in range(10):
        learner.learn([], [])
    for skill, ability in learner.ability.items():
        assert ability == pytest.approx(before[skill] * 0.95**10)


def test_prompts_wander_by_themselves_and_the_same_for_everyone() -> None:
    restless = dataclasses.replace(STILL, learning_rate=0.0, wander=0.1, horizon=200)
    many = np.arange(3000)

    def make() -> ReactingLearner:
        return ReactingLearner(many, np.full(many.size, "a"), np.zeros(many.size), reaction=restless, seed=3)

    one, other = make(), make()
    assert np.allclose(one.pass_rate(), 0.5)
    for step in range(100):
        one.learn([], [])
        told = other.answer(many[step : step + 5], 4, round=step)
        other.learn(told.prompt_ids, told.rewards)
    assert np.array_equal(one.pass_rate(), other.pass_rate())
    assert np.array_equal(one.pass_rate([7, 11]), one.pass_rate()[[7, 11]])
    logit = np.log(one.pass_rate() / (1 - one.pass_rate()))
    assert logit.std() == pytest.approx(0.1 * 10.0, rel=0.1)  # a random walk of 100 steps
    assert abs(logit.mean()) < 0.06
    one.add([5000], ["a"], [0.0])
    assert np.array_equal(one.pass_rate()[:3000], other.pass_rate())


def test_abilities_may_be_restless() -> None:
    unrest = dataclasses.replace(STILL, learning_rate=0.0, unrest=0.1)
    learner = learner_of(unrest)
    for _ in range(50):
        learner.learn([], [])
    moved = np.array(list(learner.ability.values()))
    assert np.all(moved != 0.0)
    assert np.abs(moved).max() < 4.0
    assert learner_of(unrest, seed=1).ability == learner_of(unrest).ability


def test_it_goes_on_from_a_saved_state() -> None:
    reaction = dataclasses.replace(STILL, forgetting=0.01, wander=0.05, unrest=0.01)
    one = trained(learner_of(reaction), 10)
    other = learner_of(reaction)
    other.load_state_dict(one.state_dict())
    assert np.array_equal(one.pass_rate(), other.pass_rate())
    one.learn([1, 1], [0.0, 1.0])
    other.learn([1, 1], [0.0, 1.0])
    assert np.array_equal(one.pass_rate(), other.pass_rate())


@pytest.mark.parametrize("wrong", [{"forgetting": 1.5}, {"wander": -1.0}, {"unrest": float("nan")}, {"horizon": 0}])
def test_wrong_reactions_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidParameter, match=f"`{next(iter(wrong))}` of `Reaction`"):
        Reaction(**wrong)  # type: ignore[arg-type]


# ---- the fit -------------------------------------------------------------------------------------------------------


def test_likeness_finds_what_was_put_in() -> None:
    """Beta(.35, .71) rates that never move: the prior is found, evidence of any age is as good, and the shares stay."""
    rng = np.random.default_rng(1)
    rates = rng.beta(0.35, 0.71, 1500)
    records = Records(
        ids=np.arange(1500),
        arms=np.where(rates < 0.2, "low", "high"),
        prior=None,
        visits=np.full(1500, 20),
        successes=rng.binomial(8, np.repeat(rates, 20)).astype(float),
        trials=np.full(30000, 8.0),
        position=np.tile((np.arange(20) + 0.5) / 20, 1500),
        source="made up",
    )
    found = likeness(records)
    assert found.prior == pytest.approx((0.35, 0.71), rel=0.15)
    assert found.discount > 0.95
    assert found.drift < 0.006
    assert found.first == pytest.approx(found.last, abs=0.04)
    assert sum(found.first) == pytest.approx(1.0)
    assert found.mass["low"][0] == pytest.approx(found.mass["low"][1], abs=0.05)
    assert found.mass["low"][0] < found.mass["high"][0]


def test_the_fitted_learner_is_like_the_recorded_run() -> None:
    found = fit_document(seeds=1)["simulated"]
    assert found["first"] == pytest.approx(RECORDED.first, abs=0.05)
    assert found["last"] == pytest.approx(RECORDED.last, abs=0.06)
    assert found["drift"] == pytest.approx(RECORDED.drift, abs=0.004)
    assert found["prior"] == pytest.approx(RECORDED.prior, abs=0.2)
    for arm, pair in RECORDED.mass.items():
        assert found["mass"][arm] == pytest.approx(pair, abs=0.15), arm
    late = {arm: pair[1] for arm, pair in found["mass"].items()}
    assert max(late, key=lambda arm: late[arm]) == "3 middle"  # at first it is "4 easy", as in the record
    assert found["mass"]["4 easy"][0] > found["mass"]["3 middle"][0]


def test_simulated_visits_come_in_epochs() -> None:
    arms = (FittedArm("a", 0.5, 0.0, 1.0), FittedArm("b", 0.5, -1.0, 1.0))
    records = simulated_records(lambda seed: fitted_scene(seed, prompts=40, arms=arms), steps=30, batch=8)
    assert records.visits.sum() == 240
    assert records.visits.min() >= 5
    assert records.visits.max() <= 7
    assert np.unique(records.arms, return_counts=True)[1].tolist() == [20, 20]


def test_the_fitted_pool_has_its_arms() -> None:
    scene = fitted_scene(0, prompts=100)
    assert scene.pool.arm_names == tuple(arm.name for arm in FITTED_ARMS)
    assert scene.pool.arm_sizes.tolist() == [20] * 5
    assert isinstance(scene.learner, ReactingLearner)
    assert scene.learner.reaction == FITTED
    assert not np.array_equal(scene.learner.pass_rate(), fitted_scene(1, prompts=100).learner.pass_rate())


# ---- strategies on it ----------------------------------------------------------------------------------------------


def test_strategies_are_compared_for_the_same_rollouts() -> None:
    settings = ComparisonSettings(strategies=("mopps", "dapo", "pcl"), prompts=60, steps=15, batch=6, seeds=2)
    found = comparison_document(settings)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    rows = {row["strategy"]: row for row in found["strategies"]}
    assert set(rows) == {"uniform", "mopps", "dapo"}
    assert list(found["left_out"]) == ["pcl"]
    assert rows["uniform"]["difference"] == {"mean": 0.0, "interval": None}
    assert rows["uniform"]["ratio"] == 1.0
    assert rows["dapo"]["rounds"] < rows["uniform"]["rounds"] == 15
    low, high = rows["mopps"]["difference"]["interval"]
    assert low < rows["mopps"]["difference"]["mean"] < high
    assert all(row["course"][-1]["rollouts"] == 15 * 6 * 8 for row in rows.values())
    assert all(row["course"][0]["learned"] == 0.0 for row in rows.values())
    assert comparison_document(settings) == found


def test_who_can_be_simulated() -> None:
    names, left_out = able()
    assert set(names) | set(left_out) == set(BUILT_IN)
    assert set(left_out) == {"pcl", "modomodo"}
    with pytest.raises(InvalidInput, match="61 distinct prompts"):
        comparison_document(ComparisonSettings(prompts=60, batch=61))


def test_eva_is_given_a_creator() -> None:
    settings = ComparisonSettings(strategies=("eva",), prompts=40, steps=24, batch=4, seeds=1)
    row = next(row for row in comparison_document(settings)["strategies"] if row["strategy"] == "eva")
    assert row["learned"]["se"] is None
    assert row["course"][-1]["learned"] > 0.0
