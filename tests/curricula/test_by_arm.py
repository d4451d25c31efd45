"""What strategies over arms share: weights to counts, prompts inside an arm, epochs, composition."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curri import PromptPool, Rollouts
from curri.curricula.by_arm import ArmCurriculum, ArmEpochs, draw_switch, told_advantages
from curri.curricula.composition import within
from curri.curricula.easy_to_hard import EasyToHard
from curri.curricula.evidence import SeenRollouts, gather
from curri.curricula.learning_progress import LearningProgress
from curri.curricula.modomodo import MoDoMoDo
from curri.curricula.sec import SEC
from curri.curricula.ucb import UCB
from curri.curricula.uniform import Uniform
from curri.testing import Case, run_checks

if TYPE_CHECKING:
    from curri.curricula.base import Curriculum
    from curri.curricula.evidence import Evidence
    from curri.types import Floats, Ints

ALL: list[type[ArmCurriculum]] = [UCB, SEC, LearningProgress, EasyToHard, MoDoMoDo]


class Fixed(ArmCurriculum):
    """Weights 1, 2, 3 … in order of the arms."""

    name: ClassVar[str] = "fixed"
    summary: ClassVar[str] = "weights that never change"
    source: ClassVar[str] = "this test"
    draw: str = draw_switch(source="this test")

    def _arm_weights(self, supply: Ints) -> Floats:
        weights = np.where(supply > 0, np.arange(1.0, supply.size + 1), 0.0)
        return np.asarray(weights / (weights.sum() or 1.0))

    def _fold(self, evidence: Evidence) -> None:
        """Nothing is learned."""


class FixedEpochs(ArmEpochs):
    """The same, in epochs inside the arms."""

    name: ClassVar[str] = "fixed-epochs"
    summary: ClassVar[str] = "weights that never change, in epochs"
    source: ClassVar[str] = "this test"
    draw: str = draw_switch(of=("systematic", "successive"), source="this test")

    def _arm_weights(self, supply: Ints) -> Floats:
        return Fixed._arm_weights(self, supply)  # type: ignore[arg-type]  # it looks at the supply only


def arms_pool(**sizes: int) -> PromptPool:
    names = [name for name, size in sizes.items() for _ in range(size)]
    return PromptPool(100 + np.arange(len(names)), names)


def repeated(curriculum: Curriculum, n: int, draws: int, **request: Any) -> tuple[np.ndarray, np.ndarray]:
    """Claimed probabilities and the share of draws in which each prompt came, from one state."""
    state, size = curriculum.state_dict(), len(curriculum.pool)
    claimed, share = np.full(size, np.nan), np.zeros(size)
    for draw in range(draws):
        curriculum.load_state_dict(state | {"generator": np.random.PCG64(draw).state})
        selection = curriculum.ask(n, **request)
        rows = curriculum.pool.rows(selection.prompt_ids)
        claimed[rows] = selection.probability
        share[rows] += 1 / draws
    return claimed, share


# ---- contract --------------------------------------------------------------------------------------------------------


CASES = [
    Case(Fixed),
    Case(Fixed, {"draw": "replacement"}, replacement=True),
    Case(FixedEpochs),
    Case(FixedEpochs, {"draw": "successive"}),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_contract(case: Case) -> None:
    assert [result for result in run_checks(case) if not result.ok] == []


# ---- counts and probabilities ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [Fixed, FixedEpochs])
def test_weights_are_shares_of_the_batch(strategy: type[ArmCurriculum]) -> None:
    curriculum = strategy(arms_pool(a=20, b=20, c=20))
    assert curriculum.arm_weights == pytest.approx({"a": 1 / 6, "b": 2 / 6, "c": 3 / 6})
    assert Counter(curriculum.ask(12).arms.tolist()) == {"a": 2, "b": 4, "c": 6}


def test_weights_leave_out_arms_without_prompts() -> None:
    pool = arms_pool(a=4, b=4, c=4)
    curriculum = Fixed(pool.retired(pool.ids[:4]))
    assert curriculum.arm_weights == pytest.approx({"b": 2 / 5, "c": 3 / 5})
    assert curriculum.metrics()["curriculum/fixed/arms_empty"] == 1
    assert curriculum.explain(100)["share_of_a_batch"] == 0.0
    assert curriculum.explain(104)["share_of_a_batch"] == pytest.approx(2 / 5 / 4)


@pytest.mark.parametrize("draw", ["systematic", "successive"])
@pytest.mark.parametrize("strategy", [Fixed, FixedEpochs])
def test_probabilities_where_no_arm_runs_out(strategy: Any, draw: str) -> None:
    curriculum = strategy(arms_pool(a=6, b=7, c=8), draw=draw)
    claimed, share = repeated(curriculum, 5, 400, exclude=[100, 110])
    supply = np.array([5, 6, 8])[curriculum.pool.arms]
    wanted = 5 * np.array([1, 2, 3])[curriculum.pool.arms] / 6 / supply
    wanted[[0, 10]] = np.nan
    assert claimed == pytest.approx(wanted, nan_ok=True)
    assert share == pytest.approx(np.nan_to_num(wanted), abs=0.1)


def test_probabilities_in_epochs_at_their_turn() -> None:
    curriculum = FixedEpochs(arms_pool(a=6, b=8, c=10))
    curriculum.ask(16, quota={"a": 5, "b": 6, "c": 5})
    left = {"a": 1, "b": 2, "c": 5}
    drawn = curriculum._columns["drawn"].copy()
    claimed, share = repeated(curriculum, 9, 500)  # of a 1.5, of b 3, of c 4.5 on average
    wanted = {"a": (1.0, 0.5 / 5), "b": (1.0, 1 / 6), "c": (4.5 / 5, 0.0)}
    for row, arm in enumerate(curriculum.pool.arm_of(np.arange(24)).tolist()):
        expected = wanted[arm][int(drawn[row])]
        assert np.isnan(claimed[row]) if expected == 0 else claimed[row] == pytest.approx(expected)
        assert share[row] == pytest.approx(expected, abs=0.09)
    assert sum(left.values()) == int(np.sum(~drawn))


def test_successive_draws_claim_nothing_where_an_epoch_may_end() -> None:
    curriculum = FixedEpochs(arms_pool(a=6, b=8, c=10), draw="successive")
    selection = curriculum.ask(6)
    wanted = {"a": 6 / 36, "b": 6 * 2 / 48, "c": 6 * 3 / 60}
    assert selection.probability == pytest.approx([wanted[arm] for arm in selection.arms.tolist()])
    assert np.isnan(curriculum.ask(6).probability).all()


def test_arms_that_run_out_are_counted_with_the_setting_that_helps(caplog: pytest.LogCaptureFixture) -> None:
    ucb = UCB(arms_pool(a=2, b=9), temperature=1e-6, exploration=0.0)
    ucb.tell(Rollouts([100, 100, 105, 105], [0.0] * 4, advantages=[1.0, -1.0, 0.1, -0.1]))
    ucb.advance()
    ucb.ask(5)
    ucb.ask(5)
    assert ucb.metrics()["curriculum/ucb/fallback/arms_exhausted"] == 2
    assert caplog.text.count("a higher `temperature` gives them weight") == 1


@pytest.mark.parametrize("strategy", ALL)
def test_arm_mass_is_the_weights_and_moves_nothing(strategy: type[ArmCurriculum]) -> None:
    curriculum = strategy(arms_pool(a=20, b=10, c=5))
    for _ in range(3):
        ids = curriculum.ask(8).prompt_ids.repeat(2)
        curriculum.tell(Rollouts(ids, np.arange(16) % 3 == 0))
        curriculum.advance()
    request = curriculum._checked_request(4, "train", [100, 101], None)
    before = repr(curriculum._small_state())
    mass = curriculum._arm_mass(request)
    assert mass.shape == (3,)
    assert mass == pytest.approx(list(curriculum.arm_weights.values()))
    assert repr(curriculum._small_state()) == before
    assert curriculum._arm_counts(request).sum() == 4


# ---- epochs ----------------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(batches=st.lists(st.integers(1, 18), max_size=10), seed=st.integers(0, 99), draw=st.booleans())
def test_no_prompt_of_an_arm_comes_again_before_all_of_it_came(batches: list[int], seed: int, *, draw: bool) -> None:
    pool = arms_pool(a=3, b=5, c=10)
    curriculum = FixedEpochs(pool, seed=seed, draw="systematic" if draw else "successive")
    times = Counter(dict.fromkeys(pool.ids.tolist(), 0))
    for n in batches:
        times.update(curriculum.ask(n).prompt_ids.tolist())
        for code in range(3):
            rows = pool.active_rows(code)
            counts = [times[i] for i in pool.ids[rows].tolist()]
            assert max(counts) - min(counts) <= 1
            left = curriculum.explain(int(pool.ids[rows[0]]))["prompts_left_in_epoch"]
            assert left == (counts.count(min(counts)) if max(counts) > min(counts) else left)
            assert left == int(np.sum(~curriculum._columns["drawn"][rows]))


def test_epochs_wait_for_excluded_prompts() -> None:
    curriculum = FixedEpochs(arms_pool(a=4, b=4))
    curriculum.ask(2, quota={"a": 2})
    waiting = curriculum.pool.ids[:4][~curriculum._columns["drawn"][:4]]
    curriculum.ask(1, quota={"a": 1}, exclude=waiting)  # opens the next epoch, with both of them in it
    assert curriculum.metrics()["curriculum/fixed-epochs/epoch/a"] == 1
    assert curriculum.metrics()["curriculum/fixed-epochs/unseen/a"] == 3


def test_a_large_exclusion_goes_to_its_own_arms() -> None:
    pool = PromptPool(np.arange(9000), [f"arm {i % 90}" for i in range(9000)])
    curriculum = FixedEpochs(pool)
    out = np.arange(0, 9000, 2)
    for _ in range(3):
        assert not np.isin(curriculum.ask(500, exclude=out).prompt_ids, out).any()


def test_an_arm_that_appears_joins_the_earliest_epoch() -> None:
    curriculum = FixedEpochs(arms_pool(a=2, b=2))
    for _ in range(5):
        curriculum.ask(4)
    curriculum.extend(curriculum.pool.extended([900, 901], ["c", "c"]))
    curriculum.advance()
    assert curriculum.explain(900)["epoch"] == 4
    assert curriculum.explain(900)["prompts_left_in_epoch"] == 2
    again = FixedEpochs(curriculum.pool)
    again.load_state_dict(curriculum.state_dict())
    assert again.explain(900) == curriculum.explain(900)


# ---- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ALL)
def test_one_arm_only(strategy: type[ArmCurriculum]) -> None:
    curriculum = strategy(PromptPool(np.arange(10)))
    for rewards, left in (([1, 0], 10), ([1, 1], 5)):
        curriculum.tell(Rollouts(np.arange(10).repeat(2), rewards * 10))
        curriculum.advance()
        assert curriculum.arm_weights == {"default": 1.0}
        in_epochs = strategy in {EasyToHard, MoDoMoDo}
        assert curriculum.ask(5).probability == pytest.approx(5 / left if in_epochs else 0.5)


@pytest.mark.parametrize("strategy", ALL)
def test_an_empty_pool(strategy: type[ArmCurriculum]) -> None:
    curriculum = strategy(PromptPool([]))
    curriculum.advance()
    assert curriculum.arm_weights == {}
    assert curriculum.metrics()[f"curriculum/{curriculum.name}/arms"] == 0


@pytest.mark.parametrize("strategy", ALL)
def test_arms_appear_empty_and_come_back(strategy: type[ArmCurriculum]) -> None:
    pool = arms_pool(a=6, b=6)
    curriculum = strategy(pool)

    def play(n: int) -> set[str]:
        selection = curriculum.ask(n)
        curriculum.tell(Rollouts(selection.prompt_ids.repeat(2), np.arange(2 * n) % 2))
        curriculum.advance()
        return set(selection.arms.tolist())

    play(6)
    larger = pool.extended(np.arange(900, 906), ["late"] * 6)
    curriculum.extend(larger)
    curriculum.advance()
    assert sum(curriculum.arm_weights.values()) == pytest.approx(1)
    assert play(18) == {"a", "b", "late"}
    curriculum.extend(larger.retired(pool.ids[:6]))
    curriculum.advance()
    assert set(curriculum.arm_weights) == {"b", "late"}
    assert play(12) == {"b", "late"}
    curriculum.extend(larger)
    curriculum.advance()
    assert play(18) == {"a", "b", "late"}


@pytest.mark.parametrize("outer", ALL)
@pytest.mark.parametrize("inner", [Uniform, SEC])
def test_composed(outer: type[ArmCurriculum], inner: type[Curriculum]) -> None:
    curriculum = within(outer, inner)(arms_pool(a=20, b=10, c=5))
    for _ in range(4):
        selection = curriculum.ask(8)
        assert np.unique(selection.prompt_ids).size == 8
        curriculum.tell(Rollouts(selection.prompt_ids.repeat(2), np.arange(16) % 3 == 0))
        curriculum.advance()


# ---- advantages ------------------------------------------------------------------------------------------------------


def told(pool: PromptPool, *parts: Rollouts) -> Evidence:
    return gather(parts, pool.rows, SeenRollouts())[0]


def test_advantages_as_told_or_by_group() -> None:
    pool = arms_pool(a=3)
    evidence = told(
        pool,
        Rollouts([100] * 4, [1, 0, 0, 0], advantages=[np.nan, -3.0, -3.0, -3.0]),
        Rollouts([101] * 2, [1.0, 0.0]),
        Rollouts([102] * 2, [1.0, 0.0], kind="probe"),
    )
    rows, ids, advantages = told_advantages(evidence, normalize_std=False)
    assert rows.tolist() == [0, 0, 0, 0, 1, 1]
    assert ids.tolist() == [100, 100, 100, 100, 101, 101]
    assert sorted(advantages[:4].tolist()) == [-3.0, -3.0, -3.0, 0.75]
    assert sorted(advantages[4:].tolist()) == [-0.5, 0.5]
    normalised = told_advantages(evidence, normalize_std=True)[2]
    assert sorted(normalised[4:].tolist()) == pytest.approx([-np.sqrt(0.5), np.sqrt(0.5)], rel=1e-5)


def test_no_advantages() -> None:
    rows, ids, advantages = told_advantages(told(arms_pool(a=1)), normalize_std=True)
    assert (rows.size, ids.size, advantages.size) == (0, 0, 0)


# ---- switches of UCB that came later ---------------------------------------------------------------------------------


def taught(ucb: UCB, **advantages: list[float]) -> UCB:
    for arm, values in advantages.items():
        first = ucb.pool.ids[ucb.pool.active_rows(ucb.pool.arm_code(arm))][:1]
        ucb.tell(Rollouts(first.repeat(len(values)), np.zeros(len(values)), advantages=values))
    ucb.advance()
    return ucb


def test_discounted_counts_by_hand() -> None:
    ucb = UCB(arms_pool(a=2, b=2), discount=0.5)
    taught(ucb, a=[1.0] * 8, b=[1.0] * 4)
    taught(ucb, b=[1.0] * 4)
    ucb.advance()
    assert ucb.explain(100)["arm_count"] == 8 * 0.25
    assert ucb.explain(102)["arm_count"] == (4 * 0.5 + 4) * 0.5
    bonus = np.sqrt(2 * np.log(2 + 3 + 1) / (np.array([2, 3]) + 1))
    assert ucb.explain(100)["arm_bonus"] == pytest.approx(bonus[0])
    score = np.exp((1 + bonus) / 0.1)
    assert ucb.arm_weights == pytest.approx({"a": score[0] / score.sum(), "b": score[1] / score.sum()})
    again = UCB(ucb.pool, discount=0.5)
    again.load_state_dict(ucb.state_dict())
    assert again.arm_weights == ucb.arm_weights


def test_a_discount_brings_a_saturated_arm_back() -> None:
    for discount, comes_back in ((1.0, False), (0.9, True)):
        ucb = UCB(arms_pool(done=2, good=2), discount=discount)
        taught(ucb, done=[0.0] * 500, good=[0.6] * 500)
        for _ in range(100):
            taught(ucb, good=[0.6] * 500)
        assert (ucb.arm_weights["done"] > 0.5) == comes_back


def test_without_a_discount_counts_are_whole_and_the_state_is_as_before() -> None:
    ucb = taught(UCB(arms_pool(a=2)), a=[1.0] * 3)
    assert type(ucb.explain(100)["arm_count"]) is int
    assert [name for name in ucb.state_dict() if name.startswith("own/")] == ["own/a/values", "own/a/count"]


def test_overflow_keeps_the_last_responses() -> None:
    pool = arms_pool(a=50)
    for overflow, wanted in (("last", 48.5), ("sample", None)):
        ucb = UCB(pool, window=2, overflow=overflow)
        ucb.tell(Rollouts(pool.ids[::-1], np.zeros(50), advantages=np.arange(50.0)[::-1]))
        ucb.advance()
        mean = ucb.explain(100)["arm_mean_abs_advantage"]
        assert mean == wanted if wanted else mean < 48


@pytest.mark.slow
def test_contract_of_ucb_with_its_later_switches() -> None:
    case = Case(UCB, {"discount": 0.8, "overflow": "last", "window": 5})
    assert [result for result in run_checks(case) if not result.ok] == []
