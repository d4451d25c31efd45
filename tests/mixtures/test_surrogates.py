"""What every surrogate keeps to."""

from __future__ import annotations

import numpy as np
import pytest

from curri.errors import InvalidData, InvalidParameter, UnknownName
from curri.mixtures.surrogates import SURROGATES, Best, MeanOnly, Surrogate, collapse, log_density, make_surrogate

pytest.importorskip("scipy")

NAMES = [pytest.param(name, marks=pytest.mark.slow if name == "lightgbm" else ()) for name in SURROGATES]


def smooth(rows: np.ndarray) -> np.ndarray:
    """A loss: falls with every arm, at a different pace."""
    return np.asarray(2.0 + np.exp(-rows @ np.array([1.5, 0.7, 0.2])))


def runs(n: int = 60, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.ones(3), n)
    return rows, smooth(rows) + noise * rng.normal(size=n)


def made(name: str) -> Surrogate:
    if name == "lightgbm":
        pytest.importorskip("lightgbm")
    return make_surrogate(name)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_have_the_right_shape_and_are_deterministic(name: str) -> None:
    rows, scores = runs(noise=0.02)
    first, second = made(name).fit(rows, scores), made(name).fit(rows, scores)
    where = np.random.default_rng(1).dirichlet(np.ones(3), 7)
    mean, std = first.predict(where)
    assert mean.shape == std.shape == (7,)
    assert np.isfinite(mean).all()
    assert (std > 0.0).all()
    assert np.array_equal(mean, second.predict(where)[0])
    assert first.mean(where) == pytest.approx(mean, rel=1e-9)
    assert (first.predict(where, noise=False)[1] <= std + 1e-12).all()
    assert first.describe()["name"] == name


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_runs_does_not_matter(name: str) -> None:
    rows, scores = runs(noise=0.02)
    rows, scores = np.vstack([rows, rows[:5]]), np.append(scores, scores[:5] + 0.01)
    order = np.random.default_rng(2).permutation(len(rows))
    first, second = made(name).fit(rows, scores), made(name).fit(rows[order], scores[order])
    assert second.predict(rows[:9])[0] == pytest.approx(first.predict(rows[:9])[0], rel=1e-12)
    for mine, theirs in zip(second.leave_one_out(), first.leave_one_out(), strict=True):
        assert mine == pytest.approx(theirs[order], rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_smooth_function_is_learned_better_than_the_mean(name: str) -> None:
    rows, scores = runs(80)
    where = np.random.default_rng(3).dirichlet(np.ones(3), 200)
    error = np.square(made(name).fit(rows, scores).mean(where) - smooth(where)).mean()
    spread = smooth(where).var()
    assert error < (1.05 if name == "mean" else 0.25) * spread


@pytest.mark.parametrize("name", NAMES)
def test_intervals_of_left_out_and_of_new_runs_cover(name: str) -> None:
    rows, scores = runs(80, noise=0.05)
    model = made(name).fit(rows, scores)
    new, truth = runs(400, noise=0.05, seed=9)
    mean, std = model.predict(new)
    assert 0.85 <= (np.abs(truth - mean) <= 1.96 * std).mean() <= 1.0
    mean, std = model.leave_one_out()
    assert 0.85 <= (np.abs(scores - mean) <= 1.96 * std).mean() <= 1.0
    assert 0.02 <= model.noise_std <= 0.2


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_target_is_predicted_as_it_is(name: str) -> None:
    rows, _ = runs()
    model = made(name).fit(rows, np.full(60, 0.25))
    mean, std = model.predict(rows[:3])
    assert mean.tolist() == [0.25] * 3
    assert (std < 1e-9).all()
    assert np.isfinite(model.leave_one_out_density()).all()
    assert model.noise_std == 0.0
    assert model.joint(rows[:3])[1].shape == (3, 3)
    assert model.describe()["value"] == 0.25


@pytest.mark.parametrize("name", NAMES)
def test_too_few_mixtures_are_refused_in_words(name: str) -> None:
    model = made(name)
    least = model.minimum_runs(3)
    rows, scores = runs(max(least, 2))
    if least > 2:
        with pytest.raises(InvalidData, match=f"`{name}` needs at least {least} different mixtures of 3 arms"):
            model.fit(rows[: least - 1], scores[: least - 1])
        # Replicates are no different mixtures.
        with pytest.raises(InvalidData, match=f"there are {least - 1}"):
            model.fit(np.vstack([rows[: least - 1], rows[:1]]), np.append(scores[: least - 1], 3.0))
    model.fit(rows, scores)
    assert np.isfinite(model.predict(rows)[0]).all()
    assert np.isfinite(model.leave_one_out_density()).all()


@pytest.mark.parametrize("name", NAMES)
def test_joint_covariance_is_that_of_the_predictions(name: str) -> None:
    rows, scores = runs(noise=0.02)
    model = made(name).fit(rows, scores)
    where = np.random.default_rng(5).dirichlet(np.ones(3), 6)
    mean, covariance = model.joint(where)
    assert mean == pytest.approx(model.mean(where), rel=1e-9)
    assert covariance == pytest.approx(covariance.T, abs=1e-12)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    if name != "best":  # whose members see the noise differently
        assert np.sqrt(np.diag(covariance)) == pytest.approx(model.predict(where, noise=False)[1], rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_replicates_and_standard_errors_are_taken(name: str) -> None:
    rows, scores = runs(noise=0.05)
    rows, scores = np.vstack([rows, rows]), np.append(scores, runs(noise=0.05, seed=4)[1])
    errors = np.full(len(rows), 0.02)
    model = made(name).fit(rows, scores, errors)
    mean, std = model.leave_one_out()
    assert mean[:60] == pytest.approx(mean[60:])  # a mixture is left out with all its runs
    assert (std >= 0.02).all()
    assert np.isfinite(model.predict(rows[:4])[0]).all()


@pytest.mark.parametrize("name", NAMES)
def test_quadratics_are_what_is_predicted(name: str) -> None:
    rows, scores = runs(noise=0.02)
    model = made(name).fit(rows, scores)
    found = model.quadratic()
    assert (found is not None) == (name in {"mean", "linear", "quadratic", "quadratic-ols", "scheffe"})
    if found is not None:
        a, b, C = found
        where = np.random.default_rng(5).dirichlet(np.ones(3), 6)
        assert a + where @ b + ((where @ C) * where).sum(axis=1) == pytest.approx(model.mean(where), rel=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_percent_scores_and_tiny_scores_are_fine(name: str) -> None:
    rows, scores = runs(noise=0.02)
    where = rows[:5]
    plain = made(name).fit(rows, scores).predict(where)[0]
    tolerance = 0.05 * np.ptp(scores) if name in {"exponential", "olmix"} else 1e-4  # whose δ has a unit
    for scale in (100.0, 1e-6):
        assert made(name).fit(rows, scale * scores).predict(where)[0] / scale == pytest.approx(plain, abs=tolerance)


@pytest.mark.parametrize("name", ["best", "linear", "gp", "mean"])
def test_arms_that_never_vary_and_many_arms_are_fine(name: str) -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.full(60, 0.5), 70)
    rows[:, 7] = 0.0
    rows[:, 7:] *= 0.9 / rows[:, 7:].sum(axis=1, keepdims=True) * (1 - rows[:, :7].sum(axis=1, keepdims=True))
    rows[:, 7] = 1.0 - rows.sum(axis=1)
    scores = rows[:, 0] - rows[:, 1]
    mean, std = make_surrogate(name).fit(rows, scores).predict(rows[:4])
    assert np.isfinite(mean).all()
    assert (std > 0.0).all()


def test_the_default_answers_where_nothing_else_can() -> None:
    one_arm = Best().fit([[1.0], [1.0], [1.0]], [0.2, 0.4, 0.6])
    assert one_arm.chosen == "mean"
    assert one_arm.predict([1.0])[0].tolist() == pytest.approx([0.4])
    assert one_arm.noise_std == pytest.approx(0.2)
    two = Best().fit([[1.0, 0.0], [0.0, 1.0]], [0.2, 0.6])
    assert two.predict([0.5, 0.5])[0].tolist() == pytest.approx([0.4])
    assert np.isfinite(two.leave_one_out()[0]).all()


def test_one_run_is_too_few_for_anything() -> None:
    with pytest.raises(InvalidData, match="at least 2 runs; there is 1"):
        MeanOnly().fit([[1.0, 0.0]], [0.3])


def test_unfitted_and_badly_shaped_use_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="not fitted yet"):
        make_surrogate("linear").predict([0.5, 0.5])
    model = make_surrogate("linear").fit(*runs())
    with pytest.raises(InvalidParameter, match=r"shape \(runs, 3\)"):
        model.predict([0.5, 0.5])
    for scores, errors in (([1.0], None), (np.full(60, np.nan), None), (np.ones(60), np.full(60, -1.0))):
        with pytest.raises(InvalidParameter):
            make_surrogate("linear").fit(runs()[0], scores, errors)


def test_an_unknown_surrogate_is_refused_with_its_neighbour() -> None:
    with pytest.raises(UnknownName, match='did you mean "linear"'):
        make_surrogate("liner")


def test_replicates_are_put_together() -> None:
    rows = np.array([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0], [0.5, 0.5]])
    sample = collapse(rows, [1.0, 2.0, 3.0, 5.0], [0.1, 0.2, 0.3, 0.4], owner="x")
    assert sample.weights.tolist() == [[0.5, 0.5], [1.0, 0.0]]
    assert sample.scores.tolist() == [3.5, 2.0]
    assert sample.counts.tolist() == [2.0, 2.0]
    assert sample.squares == pytest.approx(4.5 + 2.0)
    assert sample.degrees == 2
    assert sample.index.tolist() == [1, 0, 1, 0]
    assert sample.known_variance == pytest.approx([0.1, 0.05])
    part = sample.take(np.array([False, True]))
    assert part.index.tolist() == [0, 0]
    assert part.run_scores.tolist() == [1.0, 3.0]


def test_density_is_that_of_a_normal_distribution() -> None:
    stats = pytest.importorskip("scipy.stats")
    x, m, s = np.array([0.3, -1.0]), np.array([0.0, 2.0]), np.array([0.5, 3.0])
    assert log_density(x, m, s) == pytest.approx(stats.norm.logpdf(x, m, s))
