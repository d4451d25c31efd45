"""E2H: the four schedules by hand, the order of levels, what happens to levels that are short."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri import PromptPool
from curri.curricula.easy_to_hard import SCHEDULES, EasyToHard, by_difficulty, level_shares
from curri.errors import InvalidParameter
from curri.testing import Case, run_checks

LEVELS = ["l1", "l2", "l3", "l4"]


def levels_pool(each: int = 20, n_levels: int = 4) -> PromptPool:
    return PromptPool(np.arange(n_levels * each), [f"l{1 + i % n_levels}" for i in range(n_levels * each)])


def advanced(rounds: int, pool: PromptPool | None = None, **parameters: Any) -> EasyToHard:
    curriculum = EasyToHard(levels_pool() if pool is None else pool, **parameters)
    for _ in range(rounds):
        curriculum.advance()
    return curriculum


def weights(curriculum: EasyToHard) -> list[float]:
    return [curriculum.arm_weights[level] for level in LEVELS]


# ---- the schedules ---------------------------------------------------------------------------------------------------


def test_cosine_by_hand() -> None:
    # S = 4·5/2 = 10; at t = T/2 both ramps count the same; at T/4 a = (1 + cos 45°)/2 = .853553
    for rounds, wanted in ((0, [4, 3, 2, 1]), (2, [2.5] * 4), (4, [1, 2, 3, 4]), (9, [1, 2, 3, 4])):
        assert weights(advanced(rounds, horizon=4)) == pytest.approx(np.array(wanted) / 10)
    early = 0.8535533905932737
    assert weights(advanced(1, horizon=4))[0] == pytest.approx((early * 4 + (1 - early) * 1) / 10)


def test_gaussian_by_hand() -> None:
    # At t = T/4 with β = .5 the centre is .5·3 = 1.5: the middle levels at .5 / .5 = 1 σ, the outer ones at 3 σ.
    inner, outer = np.exp(-0.5), np.exp(-4.5)
    total = 2 * inner + 2 * outer
    plain = np.array([outer, inner, inner, outer]) / total
    assert weights(advanced(1, horizon=4, schedule="gaussian", floor=False)) == pytest.approx(plain)
    assert weights(advanced(1, horizon=4, schedule="gaussian")) == pytest.approx(0.1 + 0.6 * plain)


def test_gaussian_moves_from_the_first_level_to_the_last() -> None:
    start = weights(advanced(0, schedule="gaussian", floor=False))
    bell = np.exp(-0.5 * (np.arange(4) / 0.5) ** 2)
    assert start == pytest.approx(bell / bell.sum())
    assert weights(advanced(3, horizon=3, schedule="gaussian", floor=False)) == pytest.approx(start[::-1])


def test_gaussian_exponent_and_width() -> None:
    slow = advanced(1, horizon=4, schedule="gaussian", exponent=2.0, width=1e-3, floor=False)
    assert weights(slow) == pytest.approx([1, 0, 0, 0])  # centre 3/16
    fast = advanced(1, horizon=4, schedule="gaussian", exponent=0.25, width=1e-3, floor=False)
    assert weights(fast) == pytest.approx([0, 0, 1, 0])  # centre 2.12


def test_classic_goes_from_stage_to_stage() -> None:
    stages = [int(np.argmax(weights(advanced(t, horizon=6, schedule="classic")))) for t in range(8)]
    assert stages == [0, 0, 1, 2, 2, 3, 3, 3]  # floor(4 t / 6)
    assert sorted(weights(advanced(3, horizon=6, schedule="classic"))) == [0, 0, 0, 1]


def test_balanced_is_even_whatever_the_sizes() -> None:
    pool = PromptPool(np.arange(12), ["l1"] * 6 + ["l2"] * 3 + ["l3"] * 2 + ["l4"])
    assert weights(advanced(3, pool, schedule="balanced")) == pytest.approx([0.25] * 4)


@given(
    schedule=st.sampled_from(SCHEDULES),
    progress=st.floats(0, 1),
    n_levels=st.integers(1, 30),
    exponent=st.floats(0.05, 5),
    width=st.floats(1e-3, 10),
    floor=st.booleans(),
)
def test_shares_are_probabilities(
    schedule: str, progress: float, n_levels: int, exponent: float, width: float, floor: bool
) -> None:
    shares = level_shares(schedule, progress, n_levels, exponent=exponent, width=width, floor=floor)
    assert shares.shape == (n_levels,)
    assert np.all(shares >= 0)
    assert shares.sum() == pytest.approx(1)
    if schedule == "cosine" or (schedule == "gaussian" and floor):
        assert shares.min() >= 2 / (n_levels * (n_levels + 1)) - 1e-12


def test_unknown_schedule() -> None:
    with pytest.raises(InvalidParameter, match="`schedule` of `level_shares`"):
        level_shares("cosin", 0.0, 3)


# ---- the order of levels ---------------------------------------------------------------------------------------------


def test_levels_as_given() -> None:
    curriculum = advanced(0, levels=["l3", "l1", "l4", "l2"])
    assert weights(curriculum) == pytest.approx([0.3, 0.1, 0.4, 0.2])
    assert curriculum.explain(2)["level"] == 0
    assert "curriculum/easy-to-hard/fallback/levels_by_name" not in curriculum.metrics()


def test_levels_by_mean_prior_pass_rate() -> None:
    rates = np.tile([0.2, 0.9, np.nan, 0.5], 5)
    rates[3] = np.nan  # one unknown among the known ones
    rates[7] = 0.1
    pool = PromptPool(np.arange(20), np.tile(LEVELS, 5), prior_rate=rates)
    curriculum = advanced(0, pool)
    assert weights(curriculum) == pytest.approx([0.2, 0.4, 0.1, 0.3])
    curriculum.ask(4)
    assert curriculum.metrics()["curriculum/easy-to-hard/fallback/levels_by_name"] == 1


def test_all_priors_known_is_no_fallback() -> None:
    pool = PromptPool(np.arange(4), LEVELS, prior_rate=[0.4, 0.3, 0.2, 0.1])
    curriculum = advanced(0, pool)
    curriculum.ask(2)
    assert not [name for name in curriculum.metrics() if "fallback" in name]


def test_names_with_numbers_are_ordered_by_the_numbers(caplog: pytest.LogCaptureFixture) -> None:
    pool = PromptPool(np.arange(4), ["n=2", "n=10", "n=1", "n=9"])
    curriculum = advanced(0, pool)
    curriculum.ask(2)
    curriculum.ask(2)
    assert curriculum.arm_weights == pytest.approx({"n=1": 0.4, "n=2": 0.3, "n=9": 0.2, "n=10": 0.1})
    assert caplog.text.count("4 of 4 arms have no prior pass rate") == 1
    assert curriculum.metrics()["curriculum/easy-to-hard/fallback/levels_by_name"] == 2


def test_equal_rates_go_by_name() -> None:
    assert by_difficulty(["b", "a", "10", "9"], np.array([0.5, 0.5, 0.1, np.nan])) == [1, 0, 2, 3]
    assert by_difficulty([], np.empty(0)) == []


def test_arms_that_levels_leave_out_get_nothing(caplog: pytest.LogCaptureFixture) -> None:
    curriculum = advanced(0, levels=["l2", "l1"])
    assert curriculum.arm_weights == pytest.approx({"l1": 1 / 3, "l2": 2 / 3, "l3": 0.0, "l4": 0.0})
    assert set(curriculum.ask(30).arms.tolist()) == {"l1", "l2"}
    assert curriculum.metrics()["curriculum/easy-to-hard/fallback/arms_unlisted"] == 1
    assert 'such as "l3", "l4"' in caplog.text
    assert curriculum.explain(2)["level"] is None


def test_levels_that_are_not_there_yet_keep_their_place() -> None:
    curriculum = advanced(0, levels=["l0", "l1", "l2", "l3", "l4"])
    assert weights(curriculum) == pytest.approx(np.array([4, 3, 2, 1]) / 10)
    curriculum.extend(curriculum.pool.extended([900], ["l0"]))
    curriculum.advance()
    assert curriculum.arm_weights["l0"] == pytest.approx(5 / 15, rel=1e-3)


def test_levels_that_name_no_arm_are_refused() -> None:
    curriculum = EasyToHard(levels_pool(), levels=["L1x", "L2x"])
    with pytest.raises(
        InvalidParameter, match='`levels` of `EasyToHard` must name arms of the pool; got "L1x"'
    ) as error:
        curriculum.ask(2)
    assert error.value.hint == 'did you mean "l1"?'
    assert curriculum.metrics()["curriculum/easy-to-hard/mean_level"] == 0


# ---- picking ---------------------------------------------------------------------------------------------------------


def test_a_level_is_cycled_through() -> None:
    curriculum = EasyToHard(levels_pool(5), schedule="balanced")
    times: Counter[int] = Counter()
    for _ in range(10):
        times.update(curriculum.ask(4).prompt_ids.tolist())
    assert set(times.values()) == {2}


def test_empty_levels_pass_their_share_on() -> None:
    curriculum = advanced(0)
    pool = curriculum.pool
    curriculum.extend(pool.retired(pool.ids[pool.active_rows(0)]))
    curriculum.advance()
    late = 0.5 * (1 - np.cos(np.pi / 500))
    shares = (1 - late) * np.array([3, 2, 1]) + late * np.array([2, 3, 4])
    assert curriculum.arm_weights == pytest.approx(dict(zip(LEVELS[1:], shares / shares.sum(), strict=True)))


def test_a_stage_that_is_too_small_is_filled_up_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    curriculum = EasyToHard(levels_pool(3), schedule="classic")
    arms = Counter(curriculum.ask(6).arms.tolist())
    assert arms["l1"] == 3
    assert arms.total() == 6
    assert curriculum.metrics()["curriculum/easy-to-hard/fallback/arms_exhausted"] == 1
    assert 'a `schedule` other than "classic" gives them weight' in caplog.text


def test_time_stands_still_while_nothing_is_closed() -> None:
    curriculum = EasyToHard(levels_pool(), horizon=2)
    for _ in range(5):
        curriculum.ask(4)
    assert weights(curriculum) == pytest.approx([0.4, 0.3, 0.2, 0.1])
    metrics = curriculum.metrics()
    assert metrics["curriculum/easy-to-hard/progress"] == 0
    assert metrics["curriculum/easy-to-hard/mean_level"] == pytest.approx(1.0)
    curriculum.advance()
    assert curriculum.metrics()["curriculum/easy-to-hard/progress"] == 0.5
    assert curriculum.metrics()["curriculum/easy-to-hard/mean_level"] == pytest.approx(1.5)


ALIKE = "a stage is one level, so that prompts of other levels never come first"
CASES = [
    Case(EasyToHard),
    Case(EasyToHard, {"schedule": "gaussian", "horizon": 5, "draw": "successive"}),
    Case(
        EasyToHard,
        {"schedule": "classic", "horizon": 4},
        expected_failures={"ties_broken_by_the_generator": ALIKE},
    ),
    Case(EasyToHard, {"levels": ["arm 3", "arm 1", "arm 0", "arm 2"], "schedule": "balanced"}),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_contract(case: Case) -> None:
    assert [result for result in run_checks(case) if not result.ok] == []
