"""Outcome variance and the weights made of it: against the released code's values, and as laws."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curri.errors import InvalidParameter
from curri.estimators import momentum_weights, outcome_variance, variance_promotion_weights

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "vas.json").read_text(encoding="utf-8"))
WEIGHTS = GOLDEN["vps_weights_minmax"]["cases"]

metrics_ = arrays(np.float64, (2, 7), elements=st.floats(0.0, 1.0).map(lambda value: round(value, 6)))


@pytest.mark.parametrize("case", GOLDEN["ovs"]["cases"], ids=lambda case: f"{case['correct']} of {case['N']}")
def test_golden_outcome_variance(case: dict[str, Any]) -> None:
    rewards = [1.0] * case["correct"] + [0.0] * (case["N"] - case["correct"])
    assert outcome_variance(rewards) == pytest.approx(case["expected_ovs"], rel=1e-6)


def test_golden_outcome_variance_of_a_batch() -> None:
    case = GOLDEN["ovs"]["batched_case"]
    rewards = np.reshape(case["accuracy"], (case["batch_size"], case["N"]))
    assert outcome_variance(rewards) == pytest.approx(case["expected_ovs"], rel=1e-6)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=40))
def test_outcome_variance_is_the_variance_of_right_and_wrong(rewards: list[float]) -> None:
    assert outcome_variance(rewards) == pytest.approx(np.var(rewards), abs=1e-15)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40))
def test_outcome_variance_bounds_the_variance_of_fractions(rewards: list[float]) -> None:
    found = float(outcome_variance(rewards))
    assert np.var(rewards) - 1e-15 <= found <= 0.25


@pytest.mark.parametrize("rewards", [[], [[]], 0.5, [1.1], [-0.1, 0.0], [math.nan]])
def test_outcome_variance_refuses(rewards: Any) -> None:
    with pytest.raises(InvalidParameter, match="`rewards` of `outcome_variance` must be"):
        outcome_variance(rewards)


@pytest.mark.parametrize("case", WEIGHTS, ids=[case["name"][:30] for case in WEIGHTS])
def test_golden_weights(case: dict[str, Any]) -> None:
    metrics = list(case["per_prompt_metrics"].values())
    found = variance_promotion_weights(metrics, case["metric_weights"])
    assert found == pytest.approx(case["expected_weights"], rel=1e-6, abs=1e-7)


def test_similarity_and_diversity_are_two_signs() -> None:
    """The released code adds self-BLEU; the paper's 1 - self-BLEU is the negative weight of the golden case."""
    case = WEIGHTS[1]
    ovs, similar = case["per_prompt_metrics"]["learnability"], np.array(case["per_prompt_metrics"]["self_bleu_123"])
    diverse = variance_promotion_weights([ovs, 1.0 - similar], [0.8, 0.2])
    assert diverse == pytest.approx(case["expected_weights"], rel=1e-6, abs=1e-7)
    released = variance_promotion_weights([ovs, similar], [0.8, 0.2])
    assert released.argmax() == 1
    assert diverse.argmax() == 2


@pytest.mark.parametrize("case", GOLDEN["momentum"]["cases"], ids=lambda case: f"m={case['momentum']}")
def test_golden_momentum(case: dict[str, Any]) -> None:
    weights = np.full(3, np.nan)
    for ovs, expected in zip(case["refreshes_ovs"], case["expected_weights_after_each"], strict=True):
        weights = momentum_weights(weights, variance_promotion_weights([ovs], [1.0]), case["momentum"])
        assert weights == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_all_equal_scores_have_no_weight() -> None:
    """The released code stops with an error there; who draws by these weights needs a rule of its own."""
    wanted = GOLDEN["all_zero_weights"]["weights"]
    assert variance_promotion_weights([[0.0] * 4], [1.0]).tolist() == wanted
    assert variance_promotion_weights([[0.25] * 4], [1.0]).tolist() == wanted


@given(metrics_, st.floats(0.1, 2.0), st.floats(-2.0, 2.0))
def test_minmax_lies_in_the_unit_interval_and_keeps_the_order(metrics: np.ndarray, a: float, b: float) -> None:
    raw = variance_promotion_weights(metrics, [a, b], "none")
    assert raw == pytest.approx(a * metrics[0] + b * metrics[1])
    scaled = variance_promotion_weights(metrics, [a, b])
    assert ((scaled >= 0.0) & (scaled <= 1.0)).all()
    assert scaled.min() == 0.0
    assert (np.diff(scaled[np.argsort(raw, kind="stable")]) >= 0.0).all()


@given(metrics_, st.permutations(range(7)))
def test_prompts_may_stand_in_any_order(metrics: np.ndarray, order: list[int]) -> None:
    moved = variance_promotion_weights(metrics[:, order], [0.8, 0.2])
    assert moved.tolist() == variance_promotion_weights(metrics, [0.8, 0.2])[order].tolist()


def test_unknown_prompts_do_not_count_for_the_scale() -> None:
    found = variance_promotion_weights([[0.0, np.nan, 0.25, 0.1], [0.0, 9.0, 0.0, np.nan]], [1.0, 1.0])
    assert found == pytest.approx([0.0, np.nan, 1.0, np.nan], nan_ok=True)
    assert np.isnan(variance_promotion_weights([[np.nan, np.nan]], [1.0])).all()
    assert variance_promotion_weights(np.empty((2, 0)), [1.0, 1.0]).size == 0


@pytest.mark.parametrize(
    ("metrics", "weights", "normalize"),
    [
        ([0.1, 0.2], [1.0], "minmax"),
        ([[0.1, 0.2]], [1.0, 1.0], "minmax"),
        ([[0.1, np.inf]], [1.0], "minmax"),
        ([[0.1, 0.2]], [np.nan], "minmax"),
        ([[0.1, 0.2]], [1.0], "softmax"),
    ],
)
def test_weights_refuse(metrics: Any, weights: Any, normalize: Any) -> None:
    with pytest.raises(InvalidParameter, match="of `variance_promotion_weights` must be"):
        variance_promotion_weights(metrics, weights, normalize)


@pytest.mark.parametrize("momentum", [1.0, -0.1, True, math.nan])
def test_momentum_refuses(momentum: float) -> None:
    with pytest.raises(InvalidParameter, match=r"must be a float in \[0, 1\)"):
        momentum_weights([0.0], [1.0], momentum)
