"""The Gaussian processes: likelihood, gradient, settings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curri.mixtures.surrogates import GaussianProcess, IsotropicProcess, ShrunkProcess, collapse
from curri.mixtures.surrogates.likelihood import LEVEL, Process

pytest.importorskip("scipy")


def data(seed: int, n: int = 25, m: int = 4, *, replicates: int = 0, errors: bool = False) -> object:
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(m, 0.5), n)
    rows[rows < 0.02] = 0.0
    rows /= rows.sum(axis=1, keepdims=True)
    rows = np.vstack([rows, rows[:replicates]])
    scores = rows @ rng.normal(size=m) + 0.1 * rng.normal(size=len(rows))
    known = rng.uniform(0.01, 0.2, len(rows)) if errors else None
    return collapse(rows, scores, known, owner="test").scaled(float(scores.mean()), float(scores.std()))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    kernel=st.sampled_from(["rbf", "matern"]),
    spread=st.sampled_from([0.0, 0.3, 1.0]),
    replicates=st.sampled_from([0, 5]),
    errors=st.booleans(),
)
def test_the_gradient_is_that_of_the_loss(seed: int, kernel: str, spread: float, replicates: int, errors: bool) -> None:
    process = Process(kernel, spread)  # type: ignore[arg-type]
    sample = data(seed, replicates=replicates, errors=errors)
    rng = np.random.default_rng([seed, 1])
    theta = np.append([0.3, 0.2, -1.5], 0.3 * rng.normal(size=process.size(4) - 3)) + 0.2 * rng.normal()
    _, gradient = process.loss(theta, sample)  # type: ignore[arg-type]
    for place in range(len(theta)):
        step = np.zeros_like(theta)
        step[place] = 1e-5
        above, below = (process.loss(theta + sign * step, sample)[0] for sign in (1, -1))  # type: ignore[arg-type]
        assert gradient[place] == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-4)


def test_the_loss_is_the_likelihood_of_all_runs_with_priors() -> None:
    """Replicates put together give the likelihood of the single runs, up to a constant."""
    stats = pytest.importorskip("scipy.stats")
    process = Process("matern")
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(3), 12)
    rows = np.vstack([rows, rows[:5], rows[:2]])
    scores = rng.normal(size=len(rows))
    sample = collapse(rows, scores, None, owner="test")
    values = []
    for theta in (np.array([0.1, -0.2, -1.0]), np.array([-0.4, 0.3, -0.5])):
        covariance = process.covariance(process.settings(theta, 3), rows, rows) + np.exp(2 * theta[2]) * np.eye(
            len(rows)
        )
        likelihood = stats.multivariate_normal.logpdf(scores, np.zeros(len(rows)), covariance)
        prior = 0.5 * (theta[0] ** 2 + theta[1] ** 2 + ((theta[2] + 3.0) / 1.5) ** 2)
        values.append(process.loss(theta, sample)[0] + likelihood - prior)
    assert values[0] == pytest.approx(values[1], abs=1e-5)


def test_an_impossible_covariance_has_infinite_loss() -> None:
    sample = data(0)
    value, gradient = Process("rbf").loss(np.array([60.0, 30.0, -400.0]), sample)  # type: ignore[arg-type]
    assert value == np.inf or np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("kernel", ["rbf", "matern"])
def test_the_kernel_is_one_at_zero_and_falls(kernel: str) -> None:
    process = Process(kernel)  # type: ignore[arg-type]
    found = process.covariance(
        process.settings(np.zeros(3), 2), np.array([[1.0, 0.0]]), np.array([[1, 0], [0.5, 0.5], [0, 1.0]])
    )
    assert found[0, 0] == pytest.approx(1.0 + LEVEL)
    assert (np.diff(found[0]) < 0.0).all()


def test_a_length_for_each_arm_finds_the_arm_that_matters() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(6), 80)
    scores = np.sin(6.0 * np.sqrt(rows[:, 2])) + 0.02 * rng.normal(size=80)
    model = GaussianProcess().fit(rows, scores)
    lengths = np.array(model.describe()["lengths"])
    assert lengths.argmin() == 2
    new = rng.dirichlet(np.ones(6), 200)
    errors = {
        kind: np.square(kind().fit(rows, scores).mean(new) - np.sin(6.0 * np.sqrt(new[:, 2]))).mean()
        for kind in (GaussianProcess, ShrunkProcess, IsotropicProcess)
    }
    assert errors[GaussianProcess] < errors[ShrunkProcess] < errors[IsotropicProcess]


def test_noise_is_found_from_replicates() -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.dirichlet(np.ones(3), 15), 6, axis=0)
    scores = rows[:, 0] + 0.1 * rng.normal(size=90)
    assert IsotropicProcess().fit(rows, scores).noise_std == pytest.approx(0.1, rel=0.2)


def test_known_standard_errors_are_part_of_the_noise() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(3), 60)
    errors = np.where(np.arange(60) < 30, 0.01, 0.3)
    scores = rows[:, 0] ** 2 + errors * rng.normal(size=60)
    with_errors = IsotropicProcess().fit(rows, scores, errors)
    without = IsotropicProcess().fit(rows, scores)
    new = rng.dirichlet(np.ones(3), 200)
    assert (
        np.square(with_errors.mean(new) - new[:, 0] ** 2).mean() < np.square(without.mean(new) - new[:, 0] ** 2).mean()
    )
    means, stds = with_errors.leave_one_out()
    assert stds[30:].min() > stds[:30].max()
    assert (np.abs(means - scores) < 3.5 * stds).mean() > 0.95


def test_settings_stay_in_their_bounds_on_noise_and_on_clean_data() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(4), 30)
    for scores in (rng.normal(size=30), rows[:, 0], np.where(np.arange(30) == 3, 1.0, 0.0)):
        model = GaussianProcess().fit(rows, scores)
        assert np.isfinite(model.theta).all()
        assert np.isfinite(model.predict(rows)[1]).all()


def test_starting_from_another_process_gives_the_same_optimum() -> None:
    rng = np.random.default_rng(1)
    rows = rng.dirichlet(np.ones(4), 60)
    scores = np.exp(-2 * rows[:, 0]) + 0.05 * rng.normal(size=60)
    first = IsotropicProcess().fit(rows, scores)
    warm, cold = ShrunkProcess(start=first.theta).fit(rows, scores), ShrunkProcess().fit(rows, scores)
    assert warm.mean(rows) == pytest.approx(cold.mean(rows), abs=2e-3)
