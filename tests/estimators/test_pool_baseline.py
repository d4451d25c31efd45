"""Advantages by the whole pool: the reference's numbers in all its four settings, and the true scale of rewards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.estimators import DecayedPassRate, group_advantages, pool_baseline_advantages

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "reinforce_ada.json").read_text())
PROMPTS = [
    pytest.param(one, id=f"{case['name'][:20]} {name}")
    for case in GOLDEN["sequential_sampling"]["cases"]
    for name, one in case["expected"]["per_prompt"].items()
]


@pytest.mark.parametrize("want", PROMPTS)
def test_golden_sequential_sampling_advantages(want: dict[str, Any]) -> None:
    kept, counts = want["kept_rewards"], (want["pool_pos"], want["pool_neg"])
    assert pool_baseline_advantages(kept, *counts) == pytest.approx(want["adv_global_mean"], abs=1e-5)
    with_std = pool_baseline_advantages(kept, *counts, normalize_std=True)
    assert with_std == pytest.approx(want["adv_global_mean_std"], abs=1e-5)
    group = np.zeros(len(kept), dtype=np.int64)
    assert group_advantages(kept, group, normalize_std=False) == pytest.approx(want["adv_local_mean"], abs=1e-5)
    assert group_advantages(kept, group) == pytest.approx(want["adv_local_mean_std"], abs=2e-5)


@pytest.mark.parametrize(
    "case", GOLDEN["global_baseline"]["cases"], ids=lambda case: f"{case['pool_pos']}+{case['pool_neg']}"
)
def test_golden_global_baseline(case: dict[str, Any]) -> None:
    counts = (case["pool_pos"], case["pool_neg"])
    plain = pool_baseline_advantages(case["kept_rewards"], *counts)
    assert plain == pytest.approx(case["expected"]["no_norm"], abs=1e-5)
    divided = pool_baseline_advantages(case["kept_rewards"], *counts, normalize_std=True)
    assert divided == pytest.approx(case["expected"]["norm"], abs=1e-5)


def test_golden_tinker_global_baseline() -> None:
    """The port's baseline is a lifetime mean that counts the kept responses twice."""
    history = DecayedPassRate(alpha=0, beta=0, decay=1)
    for step in GOLDEN["tinker_global_baseline"]["steps"]:
        for rewards in (step["pool_rewards_this_step"], step["kept_rewards"]):
            history.update(np.zeros(len(rewards), dtype=np.int64), rewards)
        mean = float(history.mean([0])[0])
        assert history.counts([0])[0] == pytest.approx(step["expected_history_count"])
        assert mean == pytest.approx(step["expected_history_mean"])
        assert np.array(step["kept_rewards"]) - mean == pytest.approx(step["expected_advantages"], abs=1e-5)


@given(st.lists(st.booleans(), min_size=2, max_size=40), st.booleans())
def test_both_readings_agree_on_rewards_of_zero_and_one(rewards: list[bool], normalize: bool) -> None:
    right = sum(rewards)
    counted = pool_baseline_advantages([1.0, 0.0], right, len(rewards) - right, normalize)
    measured = pool_baseline_advantages([1.0, 0.0], right, len(rewards) - right, normalize, pool_rewards=rewards)
    assert measured == pytest.approx(counted, rel=1e-9, abs=1e-12)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.floats(-100, 100), st.sampled_from([0.25, 1.0, 8.0]))
def test_pool_rewards_follow_any_scale(rewards: list[float], shift: float, scale: float) -> None:
    pool = np.array(rewards)
    plain = pool_baseline_advantages(pool, 1, pool.size - 1, pool_rewards=pool)
    moved = pool_baseline_advantages(pool * scale + shift, 1, pool.size - 1, pool_rewards=pool * scale + shift)
    assert moved == pytest.approx(plain * scale, abs=1e-8)
    assert plain.sum() == pytest.approx(0.0, abs=1e-8)


def test_the_counts_reading_is_off_for_rewards_of_minus_one_and_one() -> None:
    kept, pool = [1.0, 1.0, -1.0, -1.0], [1.0, -1.0] * 4
    assert pool_baseline_advantages(kept, 4, 4).tolist() == [0.5, 0.5, -1.5, -1.5]
    assert pool_baseline_advantages(kept, 4, 4, pool_rewards=pool).tolist() == [1.0, 1.0, -1.0, -1.0]


@pytest.mark.parametrize("value", [0.1, 1e-300, 1e150, -7.3])
def test_a_pool_of_equal_rewards_gives_exactly_zero(value: float) -> None:
    for normalize in (False, True):
        advantages = pool_baseline_advantages([value] * 3, 7, 0, normalize, pool_rewards=[value] * 7)
        assert advantages.tolist() == [0.0, 0.0, 0.0]


def test_a_tiny_deviation_is_held_up_by_epsilon() -> None:
    divided = pool_baseline_advantages([2e-8], 1, 1, normalize_std=True, pool_rewards=[0.0, 2e-8])
    assert divided == pytest.approx([1e-8 / 2e-6])


def test_a_lone_response() -> None:
    assert pool_baseline_advantages([0.6], 1, 0).tolist() == [0.6]
    assert pool_baseline_advantages([0.6], 1, 0, pool_rewards=[0.6]).tolist() == [0.6]
    assert pool_baseline_advantages([1.0], 1, 0, lone="zero").tolist() == [0.0]
    assert pool_baseline_advantages([0.6], 0, 1, pool_rewards=[0.6], lone="zero").tolist() == [0.0]


def test_the_weight_is_by_the_share_of_positives() -> None:
    plain = pool_baseline_advantages([1.0, 0.0], 2, 6)
    for power in (0.5, 1.0):
        weighted = pool_baseline_advantages([1.0, 0.0], 2, 6, weight_power=power)
        assert weighted == pytest.approx(plain / 0.25**power, rel=1e-4)
    assert pool_baseline_advantages([0.0, 0.0], 0, 8, weight_power=1.0).tolist() == [0.0, 0.0]


def test_nothing_kept() -> None:
    assert pool_baseline_advantages([], 0, 0).tolist() == []
    assert pool_baseline_advantages([], 0, 0, normalize_std=True, pool_rewards=[], weight_power=1.0).tolist() == []


@pytest.mark.parametrize(
    ("arguments", "keywords", "match"),
    [
        (([np.nan], 1, 0), {}, "`kept_rewards`"),
        (([1.0], -1, 2), {}, "`n_positive`"),
        (([1.0], 1, 0.5), {}, "`n_negative`"),
        (([1.0, 0.0], 1, 0), {}, "must hold the 2 kept"),
        (([1.0], 1, 1), {"pool_rewards": [1.0]}, "2 in all; got 1"),
        (([1.0], 1, 0), {"lone": "one"}, "`lone`"),
        (([1.0], 1, 0), {"weight_power": -1.0}, "`weight_power`"),
        (([1.0], 1, 0), {"epsilon": 0.0}, "`epsilon`"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments: tuple[Any, ...], keywords: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidParameter, match=match):
        pool_baseline_advantages(*arguments, **keywords)
