"""Effective ratio, explained variance and its worth in rollouts: PCL's golden cases, and simulations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.estimators import effective_ratio, explained_variance, group_advantages, rollout_equivalent

CASES = {
    case["name"]: case
    for case in json.loads((Path(__file__).parents[1] / "golden" / "pcl.json").read_text(encoding="utf-8"))["cases"]
}


def test_expected_effective_ratio_1_minus_pn_minus_qn() -> None:
    case = CASES["expected_effective_ratio_1_minus_pn_minus_qn"]
    p, n = np.array(case["inputs"]["p"]), np.array(case["inputs"]["n"])
    table = effective_ratio(p[:, None], n)
    for i, rate in enumerate(case["inputs"]["p"]):
        expected = [case["expected"][f"{rate}"][f"{size}"] for size in case["inputs"]["n"]]
        assert table[i] == pytest.approx(expected, abs=case["tolerance"])
    assert effective_ratio(0.5, 16) > effective_ratio(0.05, 128)
    assert isinstance(effective_ratio(0.5, 2), float)


def test_effective_ratio_is_the_share_of_mixed_groups() -> None:
    p = np.array([0.02, 0.3, 0.5, 0.95])
    right = np.random.default_rng(0).random((40_000, 4, 6)) < p[:, None]
    mixed = (right.any(axis=2) & ~right.all(axis=2)).mean(axis=0)
    assert effective_ratio(p, 6) == pytest.approx(mixed, abs=0.01)


@given(st.floats(0, 1), st.integers(1, 500))
def test_effective_ratio_is_symmetric_and_grows_with_the_group(p: float, n: int) -> None:
    ratio = effective_ratio(p, n)
    assert 0.0 <= ratio <= effective_ratio(p, n + 1) + 1e-12
    assert ratio == pytest.approx(effective_ratio(1 - p, n), abs=1e-12)
    if n == 1:
        assert ratio == 0.0


def test_explained_variance_golden() -> None:
    case = CASES["explained_variance"]
    true, value = (np.array(case["inputs"][key]) for key in ("true_p", "value"))
    assert np.var(true) == pytest.approx(case["expected"]["var_p"], abs=case["tolerance"])
    assert np.var(true - value) == pytest.approx(case["expected"]["var_residual"], abs=case["tolerance"])
    found = explained_variance(true, value)
    assert found == pytest.approx(case["expected"]["explained_variance"], abs=case["tolerance"])


def test_explained_variance_of_a_constant_a_shift_and_the_opposite() -> None:
    p = [0.1, 0.4, 0.7]
    assert explained_variance(p, [0.5] * 3) == pytest.approx(0.0, abs=1e-12)
    assert explained_variance(p, np.array(p) + 0.2) == pytest.approx(1.0)
    assert explained_variance(p, 1 - np.array(p)) == pytest.approx(-3.0)


@pytest.mark.parametrize("n", [1, 3, 16])
def test_the_mean_of_n_rollouts_is_worth_n_rollouts(n: int) -> None:
    rng = np.random.default_rng(n)
    p = rng.beta(1.2, 0.8, 200_000)
    ev = explained_variance(p, rng.binomial(n, p) / n)
    assert rollout_equivalent(p, ev) == pytest.approx(n, rel=0.02)


def test_rollout_equivalent_of_a_perfect_and_of_a_useless_model() -> None:
    p = [0.1, 0.5, 0.9]
    assert rollout_equivalent(p, 1.0) == np.inf
    assert rollout_equivalent(p, 0.0) == pytest.approx(np.mean([0.09, 0.25, 0.09]) / np.var(p))
    assert rollout_equivalent([0.0, 1.0], 0.5) == 0.0  # one rollout already tells everything


def test_group_advantage_no_std() -> None:
    case = CASES["group_advantage_no_std"]
    rewards = case["inputs"]["rewards"]
    found = group_advantages(rewards, np.zeros(len(rewards)), normalize_std=False)
    assert np.mean(rewards) == case["expected"]["mean"]
    assert found == pytest.approx(case["expected"]["advantages"], abs=case["tolerance"])
    assert found.sum() == pytest.approx(case["expected"]["sum"], abs=case["tolerance"])


@pytest.mark.parametrize(
    "call",
    [
        lambda: effective_ratio(1.1, 4),
        lambda: effective_ratio(np.nan, 4),
        lambda: effective_ratio(0.5, 0),
        lambda: effective_ratio(0.5, 2.5),
        lambda: effective_ratio(0.5, np.inf),
        lambda: explained_variance([0.1, 0.2], [0.1]),
        lambda: explained_variance([0.1, np.nan], [0.1, 0.2]),
        lambda: explained_variance([0.2, 0.2], [0.1, 0.3]),
        lambda: explained_variance([], []),
        lambda: rollout_equivalent([0.5, 1.5], 0.5),
        lambda: rollout_equivalent([0.5, 0.5], 0.5),
        lambda: rollout_equivalent([0.5, 0.6], 1.5),
        lambda: rollout_equivalent([0.5, 0.6], np.nan),
    ],
)
def test_what_is_refused(call: Any) -> None:
    with pytest.raises(InvalidParameter, match=r"of `\w+` must"):
        call()
