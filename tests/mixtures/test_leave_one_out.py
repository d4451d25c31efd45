"""Closed forms and approximations against refits."""

from __future__ import annotations

import numpy as np
import pytest

from curri.mixtures.surrogates import (
    ExponentialLaw,
    GaussianProcess,
    IsotropicProcess,
    LinearRidge,
    LogLinearRidge,
    MeanOnly,
    QuadraticLeastSquares,
    QuadraticRidge,
    ScheffeQuadratic,
    ShrunkProcess,
    collapse,
)
from curri.mixtures.surrogates.gaussian import Posterior

pytest.importorskip("scipy")


def noisy(n: int, m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.ones(m), n)
    return rows, np.exp(-rows @ np.linspace(0.0, 2.0, m)) + 0.03 * rng.normal(size=n)


def without(row: int, n: int) -> np.ndarray:
    return np.arange(n) != row


@pytest.mark.parametrize("kind", [IsotropicProcess, ShrunkProcess, GaussianProcess])
def test_processes_with_the_same_settings(kind: type[GaussianProcess]) -> None:
    rows, scores = noisy(40, 3)
    rows, scores = np.vstack([rows, rows[:4]]), np.append(scores, scores[:4] + 0.02)
    model = kind().fit(rows, scores)
    sample = model._fitted()
    standard = sample.scaled(model._location, model._spread)
    means, variances = model._condition(model.theta, standard).leave_one_out()
    settings = model.process.settings(model.theta, 3)
    for row in range(len(standard)):
        keep = without(row, len(standard))
        posterior = model._condition(model.theta, standard.take(keep))
        here = standard.weights[row : row + 1]
        cross = model.process.covariance(settings, here, standard.weights[keep])
        assert posterior.mean(cross)[0] == pytest.approx(means[row], abs=1e-8)
        prior = np.array([model.process.variance(settings)])
        assert posterior.variance(cross, prior)[0] == pytest.approx(variances[row], abs=1e-8)


@pytest.mark.parametrize("kind", [LinearRidge, LogLinearRidge, QuadraticRidge])
def test_ridges_with_the_same_penalty(kind: type[LinearRidge]) -> None:
    rows, scores = noisy(30, 3)
    model = kind().fit(rows, scores)
    sample = model._fitted().scaled(model._location, model._spread)
    noise = model._given().noise
    means, variances = model._given().leave_one_out()
    for row in range(30):
        keep = without(row, 30)
        others = sample.weights[keep]
        posterior = Posterior.of(model._cross(others, others), noise[keep], sample.scores[keep])
        here = sample.weights[row : row + 1]
        assert posterior.mean(model._cross(here, others))[0] == pytest.approx(means[row], abs=1e-8)
        found = posterior.variance(model._cross(here, others), model._prior(here))
        assert found[0] == pytest.approx(variances[row], abs=1e-8)


def test_ridge_is_ridge_regression() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rows, scores = noisy(30, 4)
    model = LinearRidge().fit(rows, scores)
    features = model._scaled(rows)
    # The intercept has a wide prior and no penalty to speak of.
    reference = linear.Ridge(alpha=model._penalty).fit(features, scores)
    where = np.random.default_rng(1).dirichlet(np.ones(4), 5)
    assert model.mean(where) == pytest.approx(reference.predict(model._scaled(where)), abs=2e-4)


def test_the_penalty_has_the_highest_left_out_likelihood() -> None:
    rows, scores = noisy(30, 4)
    model = LinearRidge().fit(rows, scores)
    best = model.leave_one_out_density().sum()
    sample = model._fitted().scaled(model._location, model._spread)
    kernel = model._kernel(sample.weights, sample.weights)
    for penalty in (1e-3, 1e-1, 10.0, 1e3):
        means, variances = Posterior.of(kernel, np.full(30, penalty), sample.scores).leave_one_out()
        errors = sample.scores - means
        total = (variances + penalty) * (errors**2 / (variances + penalty)).mean()
        density = (-0.5 * errors**2 / total - 0.5 * np.log(2 * np.pi * total)).sum() - 30 * np.log(model._spread)
        assert density <= best + 1e-6


@pytest.mark.parametrize("kind", [QuadraticLeastSquares, ScheffeQuadratic])
@pytest.mark.parametrize("n", [8, 30])
def test_least_squares(kind: type[QuadraticLeastSquares], n: int) -> None:
    rows, scores = noisy(n, 3)
    means, _ = kind().fit(rows, scores).leave_one_out()
    for row in range(n):
        keep = without(row, n)
        again = kind(allow_fewer=True).fit(rows[keep], scores[keep])
        assert again.mean(rows[row])[0] == pytest.approx(means[row], abs=1e-7)


def test_least_squares_without_enough_runs() -> None:
    rows, scores = noisy(8, 5)
    means, stds = QuadraticLeastSquares(allow_fewer=True).fit(rows, scores).leave_one_out()
    for row in range(8):
        keep = without(row, 8)
        again = QuadraticLeastSquares(allow_fewer=True).fit(rows[keep], scores[keep])
        assert again.mean(rows[row])[0] == pytest.approx(means[row], abs=1e-7)
    assert (stds > 0.0).all()


def test_both_quadratics_are_the_same_function() -> None:
    rows, scores = noisy(30, 4)
    where = np.random.default_rng(1).dirichlet(np.ones(4), 5)
    first, second = QuadraticLeastSquares().fit(rows, scores), ScheffeQuadratic().fit(rows, scores)
    for mine, other in zip(first.predict(where), second.predict(where), strict=True):
        assert mine == pytest.approx(other, rel=1e-6)


def test_the_norm_is_the_least_of_the_papers_columns() -> None:
    rows, scores = noisy(8, 5)
    outer = (rows[:, :, None] * rows[:, None, :]).reshape(8, -1)
    columns = np.hstack([np.ones((8, 1)), rows, outer])
    expected = np.linalg.lstsq(columns, scores, rcond=None)[0]
    found = QuadraticLeastSquares(allow_fewer=True).fit(rows, scores).quadratic()
    assert found is not None
    a, b, C = found
    assert np.concatenate([[a], b, C.ravel()]) == pytest.approx(expected, abs=1e-8)


def test_the_mean() -> None:
    rows, scores = noisy(10, 3)
    means, _ = MeanOnly().fit(rows, scores).leave_one_out()
    assert means == pytest.approx([scores[without(row, 10)].mean() for row in range(10)])


def test_the_exponential_laws_leverage_is_close_to_a_refit() -> None:
    rows, scores = noisy(40, 3)
    means, _ = ExponentialLaw(delta=1.0).fit(rows, scores).leave_one_out()
    again = [
        ExponentialLaw(delta=1.0).fit(rows[without(row, 40)], scores[without(row, 40)]).mean(rows[row])[0]
        for row in range(0, 40, 8)
    ]
    assert means[::8] == pytest.approx(np.array(again), abs=0.01)
    assert (
        np.abs(means - scores).mean() > np.abs(ExponentialLaw(delta=1.0).fit(rows, scores).mean(rows) - scores).mean()
    )


def test_honest_errors_are_larger_than_those_with_fitted_settings() -> None:
    # Nine arms, twenty runs, twelve settings: the closed form alone flatters.
    rows, scores = noisy(20, 9)
    model = GaussianProcess().fit(rows, scores)
    sample = model._fitted().scaled(model._location, model._spread)
    plain, _ = model._condition(model.theta, sample).leave_one_out()
    honest = (model.leave_one_out()[0] - model._location) / model._spread
    in_order = np.empty(20)
    in_order[sample.index] = honest
    assert np.square(sample.scores - in_order).mean() > np.square(sample.scores - plain).mean()


def test_replicates_are_left_out_together() -> None:
    rows, scores = noisy(20, 3)
    sample = collapse(np.vstack([rows, rows]), np.append(scores, scores + 1.0), None, owner="x")
    model = IsotropicProcess().fit_sample(sample)
    means, _ = model.leave_one_out()
    assert means[:20] == pytest.approx(means[20:])
