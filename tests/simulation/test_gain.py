"""What strategies gain on simulated learners: the harness, and the claim made for each strategy."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from benchmarks.gain import run as table
from benchmarks.gain.claims import CLAIMS, DATASETS, mixture
from curri.curricula import Uniform
from curri.curricula.base import Verdict
from curri.errors import InvalidParameter
from curri.pool import PromptPool
from curri.registry import BUILT_IN
from curri.simulation import SimulatedLearner
from curri.simulation.gain import Claim, Course, Creator, Gain, Scene, measure, play, student_interval
from curri.simulation.learner import normal_noise

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike

    from curri.curricula.evidence import Evidence, Groups
    from curri.types import Rollouts

SIZE, BATCH = 60, 8
BUDGET = 10 * BATCH * 8


class Watched(SimulatedLearner):
    """Notes what was generated, and the groups that were learned from."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.answers: list[tuple[int, Rollouts]] = []
        self.batches: list[tuple[np.ndarray, np.ndarray]] = []

    def answer(self, prompt_ids: ArrayLike, n_rollouts: ArrayLike, *, round: int, first: ArrayLike = 0) -> Rollouts:  # noqa: A002  its name there
        told = super().answer(prompt_ids, n_rollouts, round=round, first=first)
        self.answers.append((round, told))
        return told

    def learn(self, prompt_ids: ArrayLike, rewards: ArrayLike) -> None:
        self.batches.append((np.array(prompt_ids), np.array(rewards)))
        super().learn(prompt_ids, rewards)


class Stage:
    """Makes scenes and keeps their learners."""

    def __init__(self, creator: Creator | None = None, mean: float = 1.0) -> None:
        self.learners: list[Watched] = []
        self.creator, self.mean = creator, mean

    def __call__(self, seed: int) -> Scene:
        ids = np.arange(5, 5 + SIZE)
        arms = np.array(["a", "b", "c"])[ids % 3]
        difficulty = self.mean + 2.0 * normal_noise(ids, seed=seed)
        self.learners.append(Watched(ids, arms, difficulty, learning_rate=0.02, seed=seed))
        return Scene(PromptPool(ids, arms), self.learners[-1], creator=self.creator)

    @property
    def last(self) -> Watched:
        return self.learners[-1]


def claim_of(strategy: Any, scene: Any, **changes: Any) -> Claim:
    return Claim(strategy=strategy, scene=scene, pool="", why="", **({"budget": BUDGET, "batch": BATCH} | changes))


def played(strategy: Any, stage: Stage, *, seed: int = 3, parameters: dict[str, Any] | None = None) -> Course:
    return play(claim_of(strategy, stage), strategy, parameters, seed=seed)


ODD: list[tuple[str, dict[str, Any]]] = [
    ("uniform", {}),
    ("ucb", {}),
    ("reinforce-ada", {"group_size": 4}),
    ("vas", {"diversity": "none", "probe_rollouts": 3, "refresh": 4}),
    ("dapo", {}),
    ("greso", {}),
    ("eva", {}),
]


@pytest.mark.parametrize(("name", "parameters"), ODD)
def test_every_generated_rollout_is_counted_once(name: str, parameters: dict[str, Any]) -> None:
    stage = Stage(creator=Creator(every=3, step=0.5, children=2))
    course = played(name, stage, parameters=parameters)
    sizes = [len(told) for _, told in stage.last.answers]
    assert course.spent[-1] == sum(sizes)
    assert course.spent[0] == 0
    assert (np.diff(course.spent) > 0).all()
    assert course.spent[-1] >= BUDGET > course.rounds[-2]
    assert course.rounds[-1] == course.spent[-1]
    probes = sum(len(told) for round_, told in stage.last.answers if round_ >= 1 << 40)
    assert course.probed == probes
    assert (probes > 0) == (name == "vas")


@pytest.mark.parametrize(("name", "parameters"), ODD)
def test_no_response_of_a_round_comes_twice(name: str, parameters: dict[str, Any]) -> None:
    """The parts of a round have other luck: a prompt's responses are those of one whole group."""
    stage = Stage()
    played(name, stage, parameters=parameters)
    still = stage(3).learner  # with the ability of the start
    first_rounds = [(round_, told) for round_, told in stage.learners[-2].answers if round_ == 0]
    ids = np.concatenate([told.prompt_ids for _, told in first_rounds])
    rewards = np.concatenate([told.rewards for _, told in first_rounds])
    order = np.argsort(ids, kind="stable")
    distinct, n = np.unique(ids, return_counts=True)
    assert np.array_equal(rewards[order], still.answer(distinct, n, round=0).rewards)


def test_probes_are_never_trained_on() -> None:
    stage = Stage()
    course = played("vas", stage, parameters={"diversity": "none", "probe_rollouts": 3, "refresh": 4})
    learned = sum(ids.size for ids, _ in stage.last.batches)
    assert course.probed >= 3 * SIZE
    assert learned == course.spent[-1] - course.probed
    assert {ids.size for ids, _ in stage.last.batches} == {8 * BATCH}
    left_out = dataclasses.replace(claim_of("vas", stage), probes=False)
    assert play(left_out, "vas", {"diversity": "none"}, seed=0).probed == 0


def test_of_an_eliminated_prompt_only_the_kept_group_teaches() -> None:
    stage = Stage(mean=2.0)
    course = played("reinforce-ada", stage, parameters={"group_size": 4})
    assert {ids.size for ids, _ in stage.last.batches} == {4 * BATCH}
    assert course.spent[-1] > 2 * sum(ids.size for ids, _ in stage.last.batches)
    assert any(told.prompt_ids.size < 8 * BATCH for _, told in stage.last.answers)
    for ids, rewards in stage.last.batches:
        right = np.bincount(np.unique(ids, return_inverse=True)[1], rewards)
        assert set(right.tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    mixed = sum(int(np.ptp(rewards[ids == i]) > 0) for ids, rewards in stage.last.batches for i in np.unique(ids))
    assert course.live == mixed
    assert course.groups == BATCH * len(stage.last.batches)


def test_a_refilled_batch_is_full_of_live_groups_and_surplus_ones_wait_a_step() -> None:
    stage = Stage(mean=0.5)
    course = played("dapo", stage)
    batches = [(np.unique(ids), ids, rewards) for ids, rewards in stage.last.batches]
    assert course.live == course.groups
    assert {distinct.size for distinct, _, _ in batches} == {BATCH}
    assert all(np.ptp(rewards[ids == i]) > 0 for distinct, ids, rewards in batches for i in distinct)
    asked = {round_: set[int]() for round_ in range(len(batches))}
    for round_, told in stage.last.answers:
        assert not asked[round_] & set(told.prompt_ids.tolist()), "asked twice in one round"
        asked[round_] |= set(told.prompt_ids.tolist())
    carried = [set(distinct.tolist()) - asked[round_] for round_, (distinct, _, _) in enumerate(batches)]
    assert any(carried)
    assert all(rest <= asked[round_ - 1] for round_, rest in enumerate(carried) if round_)


class WantsTwice(Uniform):
    """Judges a group only when it has 16 responses, then keeps even ids."""

    name: ClassVar[str] = "wants-twice"
    tags: ClassVar[frozenset[str]] = frozenset({"admits"})
    enough: ClassVar[int] = 16

    def _judge(self, groups: Groups, evidence: Evidence) -> Verdict:
        short = groups.size < self.enough
        verdict = np.where(short, "more", np.where(self.pool.ids[groups.rows] % 2 == 0, "keep", "drop"))
        return Verdict(verdict, np.where(short, 8, 0), np.where(verdict == "keep", "", "why"))


class NeverEnough(WantsTwice):
    name: ClassVar[str] = "never-enough"
    enough: ClassVar[int] = 10**9


def test_more_is_generated_before_a_group_is_judged_and_dropped_ones_do_not_teach() -> None:
    stage = Stage()
    course = played(WantsTwice, stage)
    assert len(course.rounds) == 5
    assert course.spent[-1] == BUDGET
    assert all((ids % 2 == 0).all() for ids, _ in stage.last.batches)
    assert 0 < course.groups < 5 * BATCH
    assert all(size == 16 for ids, _ in stage.last.batches for size in np.unique(ids, return_counts=True)[1])


class Blind(Uniform):
    name: ClassVar[str] = "blind"
    tags: ClassVar[frozenset[str]] = frozenset({"probes"})


def test_probes_that_nobody_can_count_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="`probes_due`"):
        played(Blind, Stage())


def test_a_round_without_end_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="never-enough"):
        played(NeverEnough, Stage())


def test_a_creator_makes_harder_children_of_the_parents_that_are_named() -> None:
    stage = Stage(creator=Creator(every=4, step=0.5, children=2))
    claim = claim_of("eva", stage)
    course = play(claim, "eva", {"children_share": 0.5}, seed=0)
    solver = stage.last
    children = np.arange(5 + SIZE, 5 + len(solver.pass_rate()))
    assert children.size > 0
    asked = np.concatenate([told.prompt_ids for _, told in solver.answers])
    assert np.isin(children, asked).any()
    originals = solver.difficulty(np.arange(5, 5 + SIZE))
    first_two = solver.difficulty(children[:2])
    assert first_two[1] - first_two[0] == pytest.approx(0.5)
    assert np.isclose(originals + 0.5, first_two[0]).any()
    assert course.rate[0] == pytest.approx(stage(0).learner.pass_rate().mean()), "children are not judged"
    played("uniform", stage)
    assert stage.last.pass_rate().size == SIZE


def test_runs_are_deterministic_and_seeds_differ() -> None:
    claim = claim_of("ucb", Stage())
    one, two, other = (play(claim, "ucb", seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.rate, two.rate)
    assert not np.array_equal(one.rate, other.rate)


def test_a_seed_gives_both_strategies_the_same_learner_and_luck() -> None:
    stage = Stage()
    for name in ("uniform", "ucb"):
        played(name, stage, seed=4)
    firsts = [learner.answers[0][1] for learner in stage.learners]
    common = np.intersect1d(firsts[0].prompt_ids, firsts[1].prompt_ids)
    assert common.size
    for prompt_id in common:
        one, two = (told.rewards[told.prompt_ids == prompt_id] for told in firsts)
        assert np.array_equal(one, two)


def test_the_difference_is_paired_and_at_exactly_the_budget() -> None:
    stage = Stage()
    claim = claim_of("reinforce-ada", stage, parameters={"group_size": 4})
    gain = measure(claim, [5, 6])
    for place, seed in enumerate((5, 6)):
        control = play(claim, "uniform", seed=seed, picks=2 * seed)
        course = play(claim, "reinforce-ada", {"group_size": 4}, seed=seed, picks=2 * seed + 1)
        assert gain.uniform[place] == pytest.approx(control.learned(BUDGET) * 1e5 / BUDGET, rel=1e-12)
        assert gain.strategy[place] == pytest.approx(course.learned(BUDGET) * 1e5 / BUDGET, rel=1e-12)
    assert gain.difference == pytest.approx((gain.strategy - gain.uniform).mean())
    assert gain.interval == student_interval(gain.strategy - gain.uniform)
    assert gain.ratio == pytest.approx(gain.strategy.sum() / gain.uniform.sum())


def test_learning_is_read_off_inside_a_round_and_never_beyond_the_run() -> None:
    spent = np.array([0, 100, 300])
    course = Course(spent, np.array([0.25, 0.5, 1.0]), spent[1:], probed=0, groups=2, live=1)
    assert [course.learned(n) for n in (50, 100, 200, 300)] == [0.125, 0.25, 0.5, 0.75]
    for wrong in (0, 301):
        with pytest.raises(InvalidParameter, match="the length of the run"):
            course.learned(wrong)


def test_a_rollout_more_in_a_group_is_not_a_gain_by_itself() -> None:
    """Whatever its size, a group has a mass of at most 1; so growth by rollouts falls with the size of groups."""
    growth = []
    for size in (2, 8, 32):
        solver = SimulatedLearner([1], ["a"], [0.0], learning_rate=1e-6)
        solver.learn(np.ones(size, dtype=np.int64), np.arange(size) % 2)
        growth.append(solver.ability["a"] / 1e-6)
    assert growth == sorted(growth)
    assert max(growth) <= 1.0
    assert growth[0] / 2 > growth[1] / 8 > growth[2] / 32


@pytest.mark.parametrize(("n", "quantile"), [(2, 12.7062), (3, 4.3027), (10, 2.2622), (20, 2.0930), (200, 1.9720)])
def test_intervals_are_students(n: int, quantile: float) -> None:
    values = np.random.default_rng(n).normal(size=n)
    low, high = student_interval(values)
    assert (low + high) / 2 == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(quantile * values.std(ddof=1) / np.sqrt(n), rel=1e-4)


@pytest.mark.parametrize("seeds", [[], [1], [1, 1]])
def test_one_seed_is_no_measurement(seeds: list[int]) -> None:
    with pytest.raises(InvalidParameter, match="at least two"):
        measure(claim_of("uniform", Stage()), seeds)


# ---- the table -------------------------------------------------------------------------------------------------------


def made(claim: Claim, low: float) -> Gain:
    values = np.array([0.1, 0.2])
    return Gain(claim, np.array([1, 2]), values, values + low + np.array([0.0, 1e-9]), 0.5, 0.7, 0.1, 1.5)


def test_the_table_says_what_is_not_as_claimed(capsys: pytest.CaptureFixture[str]) -> None:
    ucb = next(claim for claim in CLAIMS if claim.name == "ucb")
    up, down = made(ucb, 0.05), made(ucb, -0.05)
    assert (up.verdict, down.verdict) == ("above", "below")
    assert (table.came_out(up), table.came_out(down)) == (True, False)
    doubtful = dataclasses.replace(ucb, holds=False, reason="It cannot.")
    assert (table.came_out(made(doubtful, 0.05)), table.came_out(made(doubtful, -0.05))) == (False, True)
    text = table.render([up, down])
    assert text.count("NOT AS CLAIMED") == 1
    assert "+0.050, +0.050 to +0.050" in text
    assert ucb.pool in text
    assert json.loads(json.dumps(table.figures(up)))["interval"][0] == pytest.approx(0.05, abs=1e-6)


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(SystemExit, match="no claim about nonsense"):
        table.main(["nonsense"])


def test_the_figures_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = claim_of("ucb", Stage())
    monkeypatch.setattr(table, "CLAIMS", (small,))
    code = table.main(["ucb", "--quick", "--json", str(tmp_path / "gain.json")])
    (figures,) = json.loads((tmp_path / "gain.json").read_text())
    assert figures["seeds"] == [2000, 2001, 2002, 2003, 2004]
    assert code == (0 if figures["as_claimed"] else 1)
    assert "ucb" in capsys.readouterr().out


# ---- the claims ------------------------------------------------------------------------------------------------------


def test_every_strategy_has_a_claim_and_what_does_not_hold_has_its_reason() -> None:
    assert {claim.strategy for claim in CLAIMS} == set(BUILT_IN)
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert claim.pool
        assert claim.why
        assert claim.holds == (not claim.reason)


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if not claim.variant], ids=lambda claim: claim.name)
def test_the_same_seed_gives_the_same_scene(claim: Claim) -> None:
    one, two, other = claim.scene(7), claim.scene(7), claim.scene(8)
    assert np.array_equal(one.pool.ids, two.pool.ids)
    assert np.array_equal(one.learner.pass_rate(), two.learner.pass_rate())
    assert not np.array_equal(one.learner.pass_rate(), other.learner.pass_rate())
    assert 0.0 < one.learner.pass_rate().mean() < 1.0


def test_mixture_weights_come_from_seed_runs_and_leave_out_what_does_not_help() -> None:
    weights = mixture()
    assert set(weights) == {name for name, _, _ in DATASETS}
    assert min(weights.values()) == 0.0
    assert max(weights.values()) == 1.0
    assert weights["spatial"] == 0.0, "the data set that is too hard"


def _parameters() -> list[Any]:
    def marks(claim: Claim) -> list[pytest.MarkDecorator]:
        return [] if claim.holds else [pytest.mark.xfail(strict=True, reason=claim.reason)]

    claims = [claim for claim in CLAIMS if claim.strategy != "uniform"]
    return [pytest.param(claim, id=claim.name, marks=marks(claim)) for claim in claims]


@pytest.mark.slow
@pytest.mark.parametrize("claim", _parameters())
def test_it_learns_more_than_uniform_from_the_same_rollouts(claim: Claim) -> None:
    if claim.needs and importlib.util.find_spec(claim.needs) is None:
        pytest.skip(f"needs {claim.needs}")
    gain = measure(claim, table.SEEDS)
    assert gain.is_above, f"{gain.verdict}: {gain.difference:+.4f}, 95 % interval {gain.interval}"


@pytest.mark.slow
def test_the_control_gains_nothing_over_itself() -> None:
    (claim,) = (claim for claim in CLAIMS if claim.strategy == "uniform")
    gain = measure(claim, table.SEEDS)
    assert gain.verdict == "around zero"
    assert abs(gain.ratio - 1.0) < 0.01
    assert (gain.strategy != gain.uniform).any(), "the picks differ"
