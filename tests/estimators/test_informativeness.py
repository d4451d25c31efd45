"""The proxies of eva: golden cases by name, what equal and binary rewards give, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.estimators import (
    INFORMATIVENESS,
    group_advantages,
    group_informativeness,
    informativeness,
    informativeness_weights,
    topic_blend,
)

GOLDEN = {
    case["name"]: case
    for case in json.loads((Path(__file__).parents[1] / "golden" / "eva.json").read_text(encoding="utf-8"))["cases"]
}
KINDS = {"A_min": "min", "A_avg": "avg", "A_dts": "dts", "var": "var", "mean": "mean"}
# Losses that the trainer computes, not curri; simpo_loss and dpo_loss have no counterpart here.
SKIPPED = {"dpo_loss": "a loss of the trainer", "simpo_loss": "a loss of the trainer"}
ELSEWHERE = {
    "weighted_sampling_without_replacement_k2": "tests/selectors/test_weighted_without_replacement.py",
    "subset_size_floor": "tests/curricula/test_eva.py",
    "evolve_and_mix_counts": "tests/curricula/test_eva.py",
}
HERE = {
    "informativeness_proxies",
    "minmax_shift_matters",
    "rloo_advantage",
    "binary_reward_behaviour_n8",
    "binary_expected_A_avg_argmax_n8",
}

finite = st.floats(-1e6, 1e6)


def expected(name: str) -> tuple[dict[str, Any], dict[str, Any], float]:
    case = GOLDEN[name]
    return case["inputs"], case["expected"], case["tolerance"]


def test_every_golden_case_is_accounted_for() -> None:
    assert set(GOLDEN) == HERE | set(SKIPPED) | set(ELSEWHERE)


@pytest.mark.parametrize(("column", "kind"), KINDS.items())
def test_informativeness_proxies(column: str, kind: str) -> None:
    inputs, wanted, tolerance = expected("informativeness_proxies")
    got = informativeness(inputs["rewards"], kind)
    assert got == pytest.approx([row[column] for row in wanted["per_prompt"]], abs=tolerance)


def test_minmax_shift_matters() -> None:
    inputs, wanted, tolerance = expected("minmax_shift_matters")
    for scale, name in (("minmax", "minmax_weights"), ("proportional", "plain_proportional_weights")):
        got = informativeness_weights(inputs["A_min"], scale)
        assert got == pytest.approx(wanted[name], abs=tolerance)


def test_rloo_advantage_is_the_centred_reward_times_n_over_n_minus_1() -> None:
    inputs, wanted, tolerance = expected("rloo_advantage")
    n = len(inputs["rewards"])
    centred = group_advantages(inputs["rewards"], np.zeros(n, dtype=int), normalize_std=False)
    assert centred * n / (n - 1) == pytest.approx(wanted["advantages"], abs=tolerance)


@pytest.mark.parametrize("successes", range(9))
def test_binary_reward_behaviour_n8(successes: int) -> None:
    _, wanted, tolerance = expected("binary_reward_behaviour_n8")
    rewards = [1.0] * successes + [0.0] * (8 - successes)
    for column, value in wanted[str(successes)].items():
        assert informativeness(rewards, KINDS[column]) == pytest.approx(value, abs=tolerance)


def test_binary_expected_a_avg_argmax_n8() -> None:
    inputs, wanted, tolerance = expected("binary_expected_A_avg_argmax_n8")
    n = inputs["n"]
    groups = np.tril(np.ones((n + 1, n)), -1)  # k successes in row k
    info = informativeness(groups, "avg")
    p = np.linspace(0.0, 1.0, 200_001)
    pascal = np.array([1.0])
    for _ in range(n):
        pascal = np.convolve(pascal, [1.0, 1.0])
    value = sum(pascal[k] * p**k * (1 - p) ** (n - k) * info[k] for k in range(n + 1))
    assert p[np.argmax(value)] == pytest.approx(wanted["argmax_p"], abs=1e-5)
    assert value.max() == pytest.approx(wanted["value"], abs=tolerance)


@pytest.mark.parametrize("kind", ["min", "avg", "dts", "var"])
@given(value=finite, n=st.integers(1, 9))
def test_equal_rewards_are_exactly_uninformative(kind: str, value: float, n: int) -> None:
    assert informativeness([value] * n, kind) == 0.0


@pytest.mark.parametrize("kind", ["min", "avg", "dts", "var"])
@given(rewards=st.lists(finite, min_size=2, max_size=9), shift=finite, seed=st.integers(0, 99))
def test_shift_and_order_do_not_matter(kind: str, rewards: list[float], shift: float, seed: int) -> None:
    info = float(informativeness(rewards, kind))
    moved = np.random.default_rng(seed).permutation(np.array(rewards) + shift)
    assert info >= 0.0
    assert float(informativeness(moved, kind)) == pytest.approx(info, rel=1e-6, abs=1e-3 if kind == "var" else 1e-8)


@given(st.lists(st.lists(finite, min_size=1, max_size=6), min_size=1, max_size=6), st.sampled_from(INFORMATIVENESS))
def test_ragged_groups_are_the_single_ones(groups: list[list[float]], kind: str) -> None:
    labels = np.concatenate([np.full(len(group), place) for place, group in enumerate(groups)])
    rewards = np.concatenate(groups)
    order = np.random.default_rng(0).permutation(rewards.size)
    names, info, size = group_informativeness(rewards[order], labels[order], kind)
    assert names.tolist() == list(range(len(groups)))
    assert size.tolist() == [len(group) for group in groups]
    assert info == pytest.approx([float(informativeness(g, kind)) for g in groups], rel=1e-9, abs=1e-6)


def test_against_numpy_on_random_rewards() -> None:
    rewards = np.random.default_rng(1).normal(size=(50, 7))
    best = np.sort(rewards, axis=1)[:, ::-1]
    for kind, wanted in {
        "min": np.ptp(rewards, axis=1),
        "avg": best[:, 0] - rewards.mean(axis=1),
        "dts": best[:, 0] - best[:, 1],
        "var": rewards.var(axis=1),
        "inverse_mean": -rewards.mean(axis=1),
        "inverse_min": -np.ptp(rewards, axis=1),
    }.items():
        assert np.allclose(informativeness(rewards, kind), wanted, atol=1e-12), kind


def test_shapes() -> None:
    assert informativeness([0.0, 1.0]).shape == ()
    assert informativeness(np.zeros((3, 4, 2))).shape == (3, 4)
    assert informativeness(np.zeros((0, 4))).shape == (0,)
    labels, info, size = group_informativeness([], [])
    assert labels.size == info.size == size.size == 0


def test_leave_one_out_is_refused_with_its_reason() -> None:
    with pytest.raises(InvalidParameter, match="is 0 for any rewards"):
        informativeness([0.0, 1.0], "loo")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: informativeness([0.0, 1.0], "max"), '`kind` of `informativeness` must be one of "min", "avg"'),
        (lambda: informativeness([0.0, 1.0], 3), "`kind`"),  # type: ignore[arg-type]
        (lambda: informativeness([0.0, np.nan]), "`rewards` of `informativeness` must be finite"),
        (lambda: informativeness(["a"]), "`rewards` of `informativeness` must be finite numbers"),
        (lambda: informativeness(np.zeros((3, 0))), "at least one"),
        (lambda: informativeness(1.0), "at least one"),
        (lambda: informativeness([1.7e308, -1.7e308]), "further apart"),
        (lambda: informativeness([1e200, -1e200], "var"), "further apart"),
        (lambda: group_informativeness([1.0], [1, 2]), "one entry a response"),
        (lambda: informativeness_weights([1.0], "max"), "`scale`"),
        (lambda: informativeness_weights([[1.0]]), "shape"),
        (lambda: informativeness_weights([-1.0], "proportional"), "at least 0"),
        (lambda: informativeness_weights([np.inf]), "finite"),
        (lambda: topic_blend([1.0], [1], 1.5), "`share` of `topic_blend`"),
        (lambda: topic_blend([1.0], [1, 2]), "one entry a prompt"),
    ],
)
def test_wrong_arguments_are_refused(call: Any, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        call()


@given(st.lists(finite, min_size=1, max_size=20))
def test_minmax_weights_add_up_and_leave_the_least_out(info: list[float]) -> None:
    weights = informativeness_weights(info)
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= 0.0).all()
    if max(info) > min(info):
        assert weights[int(np.argmin(info))] == 0.0
    else:
        assert weights == pytest.approx(1.0 / len(info))


@pytest.mark.parametrize("scale", ["minmax", "proportional"])
def test_equal_or_no_information_is_uniform(scale: str) -> None:
    assert informativeness_weights([0.0, 0.0, 0.0, 0.0], scale).tolist() == [0.25] * 4
    assert informativeness_weights([3.0, 3.0], scale).tolist() == [0.5] * 2
    assert informativeness_weights([], scale).size == 0


def test_huge_and_tiny_information_keeps_its_proportions() -> None:
    for unit in (1e-300, 1.0, 1e300):
        assert informativeness_weights(np.array([0.0, 1.0, 3.0]) * unit) == pytest.approx([0.0, 0.25, 0.75])


def test_inverse_mean_is_one_minus_minmax_of_the_mean() -> None:
    means = np.array([0.1, 0.4, 0.9])
    minmax = (means - means.min()) / np.ptp(means)
    wanted = (1 - minmax) / (1 - minmax).sum()
    assert informativeness_weights(informativeness(means[:, None], "inverse_mean")) == pytest.approx(wanted)


def test_topic_blend_by_hand() -> None:
    # iw_topic: 0.75 w + 0.25 u; topics of 3, 1 and 1 prompts have u = 1/9 each, 1/3 and 1/3.
    weights = np.array([0.1, 0.2, 0.3, 0.4, 0.0])
    wanted = 0.75 * weights + 0.25 * np.array([1 / 9, 1 / 9, 1 / 9, 1 / 3, 1 / 3])
    got = topic_blend(weights, ["a", "a", "a", "b", "c"])
    assert got == pytest.approx(wanted)
    assert got.sum() == pytest.approx(1.0)
    assert topic_blend(weights, [0] * 5, share=0.0) == pytest.approx(weights)
    assert topic_blend([], []).size == 0
