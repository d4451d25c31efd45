"""The spread of pass rates, fitted."""

from __future__ import annotations

import csv
import gzip
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.estimators import expected_rate_score, fit_beta, rate_score

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("alpha", "beta"), [(0.35, 0.7), (1.0, 1.0), (4.0, 2.0)])
def test_it_finds_the_distribution_that_made_the_counts(alpha: float, beta: float) -> None:
    rng = np.random.default_rng(0)
    responses = rng.integers(2, 17, 20_000)
    successes = rng.binomial(responses, rng.beta(alpha, beta, responses.size))
    assert fit_beta(successes, responses) == pytest.approx((alpha, beta), rel=0.05)


def test_it_is_the_most_likely_one() -> None:
    k, m = np.array([0, 0, 1, 3, 8, 2]), np.array([8, 4, 8, 8, 8, 2])

    def log_likelihood(a: float, b: float) -> float:
        total = 0.0
        for right, every in zip(k.tolist(), m.tolist(), strict=True):
            total += sum(np.log(a + i) for i in range(right)) + sum(np.log(b + i) for i in range(every - right))
            total -= sum(np.log(a + b + i) for i in range(every))
        return float(total)

    a, b = fit_beta(k, m)
    best = log_likelihood(a, b)
    assert all(log_likelihood(a * x, b * y) < best for x, y in ((1.05, 1), (0.95, 1), (1, 1.05), (1, 0.95)))


def test_weights_are_numbers_of_prompts() -> None:
    twice = fit_beta([0, 0, 3, 5], [8, 8, 8, 8])
    assert fit_beta([0, 3, 5, 7], [8, 8, 8, 8], [2, 1, 1, 0]) == pytest.approx(twice, rel=1e-6)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=20))
def test_the_answer_is_always_a_distribution(pairs: list[tuple[int, int]]) -> None:
    k, m = (np.array(each) for each in zip(*((right, right + wrong) for right, wrong in pairs), strict=True))
    if not m.any():
        with pytest.raises(InvalidParameter):
            fit_beta(k, m)
        return
    a, b = fit_beta(k, m)
    assert np.isfinite([a, b]).all()
    assert min(a, b) > 0.0


def test_pools_without_any_spread() -> None:
    a, b = fit_beta([0] * 100, [8] * 100)
    assert a / (a + b) < 0.01
    assert fit_beta([1, 0, 0, 0], [1, 1, 1, 1]) == (0.25, 0.75)  # one response each: only the mean is known


@pytest.mark.parametrize(
    ("successes", "responses", "weights"),
    [([2], [1], None), ([-1], [1], None), ([1.0], [2], None), ([1], [2, 3], None), ([0], [0], None), ([1], [2], [-1.0]),
     ([1], [2], [np.nan]), ([], [], None)],
)  # fmt: skip
def test_wrong_counts_are_refused(successes: list[int], responses: list[int], weights: list[float] | None) -> None:
    with pytest.raises(InvalidParameter, match="fit_beta"):
        fit_beta(successes, responses, weights)


def test_on_real_pass_rates_it_foresees_the_share_of_live_groups(shared: Path) -> None:
    """Of eight responses a prompt; a uniform start is wrong by up to 0.58 on the same pools."""
    with gzip.open(shared / "data" / "passrates" / "fail_of_128.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(0)
    errors, uniform = [], []
    for subset in sorted({row["subset"] for row in rows}):
        rates = np.array([1 - int(row["failures_of_128"]) / 128 for row in rows if row["subset"] == subset])
        k, m = rng.binomial(8, rates), np.full(rates.size, 8)
        a, b = fit_beta(k, m)
        for n in (2, 4, 8, 16):
            true = rate_score("live", rates, n=n).mean()
            errors.append(abs(expected_rate_score("live", a + k, b + m - k, n=n).mean() - true))
            uniform.append(abs(expected_rate_score("live", 1.0 + k, 1.0 + m - k, n=n).mean() - true))
    assert max(errors) < 0.02
    assert 0.5 < max(uniform) < 0.6


def test_prompts_that_differ_less_than_chance_have_a_spread_that_does_not_depend_on_the_search() -> None:
    for responses in (4, 8, 64):
        alpha, beta = fit_beta([responses // 2] * 50, [responses] * 50)
        assert alpha + beta == pytest.approx(100.0)
        assert alpha == pytest.approx(beta)
