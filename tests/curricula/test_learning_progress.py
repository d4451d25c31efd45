"""Learning progress: averages, bend and weights by hand; fractions stay fractions."""

from __future__ import annotations

import numpy as np
import pytest

from curri import PromptPool, Rollouts
from curri.curricula.learning_progress import LearningProgress, bend, compared
from curri.testing import Case, run_checks


def arms_pool(**sizes: int) -> PromptPool:
    names = [name for name, size in sizes.items() for _ in range(size)]
    return PromptPool(100 + np.arange(len(names)), names)


def learn(curriculum: LearningProgress, **rates: float) -> None:
    """One round with these pass rates, as fractions of every prompt."""
    for arm, rate in rates.items():
        ids = curriculum.pool.ids[curriculum.pool.active_rows(curriculum.pool.arm_code(arm))]
        curriculum.tell(Rollouts(ids.repeat(2), np.full(2 * ids.size, rate)))
    curriculum.advance()


def known(curriculum: LearningProgress, arm: str) -> dict[str, float]:
    return curriculum.explain(int(curriculum.pool.ids[curriculum.pool.active_rows(curriculum.pool.arm_code(arm))][0]))


def test_averages_by_hand() -> None:
    curriculum = LearningProgress(arms_pool(a=2, b=2))
    learn(curriculum, a=0.5)
    assert (known(curriculum, "a")["arm_fast"], known(curriculum, "a")["arm_slow"]) == (0.5, 0.5)
    learn(curriculum, a=0.7)
    fast = 0.1 * 0.7 + 0.9 * 0.5  # .52
    slow = 0.1 * fast + 0.9 * 0.5  # .502
    assert known(curriculum, "a")["arm_fast"] == pytest.approx(fast)
    assert known(curriculum, "a")["arm_slow"] == pytest.approx(slow)
    assert known(curriculum, "a")["arm_pass_rate"] == pytest.approx(fast)
    bent = [p * 0.9 / (p + 0.1 * (1 - 2 * p)) for p in (fast, slow)]
    assert known(curriculum, "a")["arm_progress"] == pytest.approx(bent[0] - bent[1])
    assert known(curriculum, "b")["arm_pass_rate"] is None


def test_fractional_pass_rates_are_not_rounded_down() -> None:
    curriculum = LearningProgress(arms_pool(a=3, b=3))
    learn(curriculum, a=0.6, b=0.0)
    assert known(curriculum, "a")["arm_pass_rate"] == 0.6
    learn(curriculum, a=0.9, b=0.0)
    assert known(curriculum, "a")["arm_progress"] > 0
    # Rounded down, neither arm would ever have been solved, and both would get the same.
    assert curriculum.arm_weights == pytest.approx({"a": 0.75 + 0.125, "b": 0.125})


def test_a_pass_rate_of_0_counts_too() -> None:
    curriculum = LearningProgress(arms_pool(a=2), rate=0.5)
    learn(curriculum, a=0.8)
    learn(curriculum, a=0.0)
    assert known(curriculum, "a")["arm_fast"] == pytest.approx(0.4)


def test_losing_ground_is_progress_as_well() -> None:
    curriculum = LearningProgress(arms_pool(up=2, down=2, still=2))
    learn(curriculum, up=0.4, down=0.4, still=0.4)
    learn(curriculum, up=0.5, down=0.3, still=0.4)
    weights = curriculum.arm_weights
    assert weights["up"] > weights["still"]
    assert weights["down"] > weights["still"]


def test_bend_by_hand() -> None:
    assert bend([0.0, 0.1, 0.2, 1.0], 0.1) == pytest.approx([0, 0.5, 0.18 / 0.26, 1])
    assert bend([0.0, 0.3, 1.0], 0.5) == pytest.approx([0, 0.3, 1])


def test_compared_by_hand() -> None:
    # mean .2, sd sqrt(.02 / 3) = .0816: z = -1.2247, 0, 1.2247
    weights = compared(np.array([0.1, 0.2, 0.3]), np.ones(3, dtype=np.bool_))
    raw = 1 / (1 + np.exp([1.2247448, 0, -1.2247448]))
    assert weights == pytest.approx(raw / raw.sum())
    assert compared(np.array([0.1, 0.1 + 1e-17, 5.0]), np.array([True, True, False])) == pytest.approx([0.5, 0.5, 0])


def test_weights_by_hand() -> None:
    curriculum = LearningProgress(arms_pool(a=2, b=2, c=2, d=2), uniform_share=0.4)
    learn(curriculum, a=0.2, b=0.5, c=0.0)
    learn(curriculum, a=0.6, b=0.5, c=0.0)
    high = 1 / (1 + np.exp(-1.0))  # two arms that were solved: z = 1 and -1; c never was, d was never seen
    assert curriculum.arm_weights == pytest.approx(
        {"a": 0.6 * high + 0.1, "b": 0.6 * (1 - high) + 0.1, "c": 0.1, "d": 0.1}
    )
    assert curriculum.metrics()["curriculum/learning-progress/arms_unseen"] == 1


@pytest.mark.parametrize("rate", [None, 0.0, 0.5, 1.0])
def test_arms_that_are_alike_are_even(rate: float | None) -> None:
    curriculum = LearningProgress(arms_pool(a=2, b=7, c=3))
    for _ in range(3):
        learn(curriculum, **({} if rate is None else dict.fromkeys("abc", rate)))
    assert curriculum.arm_weights == pytest.approx(dict.fromkeys("abc", 1 / 3))


def test_baseline_first_measures_from_the_start() -> None:
    curriculum = LearningProgress(arms_pool(a=2, b=2, c=2), baseline="first", rate=0.5)
    learn(curriculum, a=0.5, b=0.9, c=0.5)
    assert known(curriculum, "a")["arm_fast"] == 0
    assert known(curriculum, "b")["arm_fast"] == pytest.approx((0.9 - 0.75) / 0.25)  # at most .75 is taken off
    learn(curriculum, a=0.8, b=0.9, c=0.3)
    assert known(curriculum, "a")["arm_fast"] == pytest.approx(0.5 * (0.8 - 0.5) / 0.5)
    assert known(curriculum, "a")["arm_pass_rate"] == pytest.approx(0.65)
    assert known(curriculum, "c")["arm_progress"] == 0  # below its start
    plain = LearningProgress(arms_pool(a=2, b=2, c=2), rate=0.5)
    learn(plain, c=0.5)
    learn(plain, c=0.3)
    assert known(plain, "c")["arm_progress"] > 0


def test_an_arm_without_responses_waits() -> None:
    curriculum = LearningProgress(arms_pool(a=2, b=2))
    learn(curriculum, a=0.2, b=0.2)
    learn(curriculum, a=0.6, b=0.2)
    before = known(curriculum, "a")["arm_progress"]
    learn(curriculum, b=0.2)
    assert known(curriculum, "a")["arm_progress"] == before


def test_pass_rates_are_what_was_solved_not_the_reward() -> None:
    curriculum = LearningProgress(arms_pool(a=2))
    curriculum.tell(Rollouts([100] * 4, [3.0, -1.0, 2.5, -1.0], solved=[1, 0, 1, 0]))
    curriculum.advance()
    assert known(curriculum, "a")["arm_pass_rate"] == 0.5
    assert not [name for name in curriculum.metrics() if "fallback" in name]


def test_rewards_without_solved_are_clipped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    curriculum = LearningProgress(arms_pool(a=2))
    for _ in range(2):
        curriculum.tell(Rollouts([100] * 4, [3.0, -1.0, 0.5, 1e150]))
        curriculum.advance()
    assert known(curriculum, "a")["arm_pass_rate"] == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert curriculum.metrics()["curriculum/learning-progress/fallback/solved_unknown"] == 2
    assert caplog.text.count("tell `solved` beside the rewards") == 1


def test_probes_teach_nothing() -> None:
    curriculum = LearningProgress(arms_pool(a=1))
    curriculum.tell(Rollouts([100] * 2, [1.0, 0.0], kind="probe"))
    curriculum.advance()
    assert known(curriculum, "a")["arm_pass_rate"] is None


CASES = [
    Case(LearningProgress),
    Case(LearningProgress, {"baseline": "first", "draw": "successive", "uniform_share": 0.0}),
    Case(LearningProgress, {"draw": "replacement"}, replacement=True),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_contract(case: Case) -> None:
    assert [result for result in run_checks(case) if not result.ok] == []
