from __future__ import annotations

import numpy as np
import pytest

from curri.errors import InvalidData, UnknownName
from curri.mixtures import Runs, Target, fit, parse_target, quality_of
from curri.mixtures.fits import _error_correlation
from curri.mixtures.quality import normal_quantile

pytest.importorskip("scipy")

ARMS = ("a", "b", "c")


def runs(n: int = 40, noise: float = 0.05, shared: float = 0.0, seed: int = 0, replicates: int = 0) -> Runs:
    """Two columns whose noise is partly the same."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.ones(3), n)
    rows = np.vstack([rows, rows[:replicates]])
    both = rng.normal(size=len(rows))
    columns = {}
    for name, slope in (("x", [1.0, 0.2, 0.0]), ("y", [0.0, 0.5, 1.0])):
        own = rng.normal(size=len(rows))
        columns[name] = rows @ np.array(slope) + noise * (np.sqrt(shared) * both + np.sqrt(1 - shared) * own)
    return Runs(ARMS, rows, columns)


def test_a_single_column_is_what_its_surrogate_says() -> None:
    fits = fit(runs(), "linear")
    target = parse_target("x", fits.runs.targets)
    rows = np.eye(3)
    for mine, other in zip(fits.predict(target, rows), fits.surrogates["x"].predict(rows), strict=True):
        assert mine == pytest.approx(other)
    assert fits.joint(target, rows)[1] == pytest.approx(fits.surrogates["x"].joint(rows)[1])


def test_means_of_sums_are_sums_of_means() -> None:
    fits = fit(runs(), "linear")
    target = parse_target("t=2*x-0.5*y", fits.runs.targets)
    rows = np.eye(3)
    x, y = (fits.surrogates[name].mean(rows) for name in "xy")
    assert fits.mean(target, rows) == pytest.approx(2 * x - 0.5 * y)
    assert fits.predict(target, rows)[0] == pytest.approx(2 * x - 0.5 * y)
    assert fits.measured(target) == pytest.approx(2 * fits.runs.scores("x") - 0.5 * fits.runs.scores("y"))


@pytest.mark.parametrize(("shared", "low", "high"), [(0.0, -0.4, 0.4), (0.9, 0.5, 1.0)])
def test_errors_of_columns_are_correlated_as_their_noise_is(shared: float, low: float, high: float) -> None:
    fits = fit(runs(60, shared=shared), "linear")
    assert low <= fits.correlation[0, 1] <= high
    assert np.diag(fits.correlation) == pytest.approx(np.ones(2))


@pytest.mark.parametrize("shared", [0.0, 0.9])
@pytest.mark.parametrize("text", ["x+y", "x-y"])
def test_intervals_of_sums_cover_new_runs(shared: float, text: str) -> None:
    fits = fit(runs(120, shared=shared), "linear")
    target = parse_target(text, fits.runs.targets)
    new = runs(600, shared=shared, seed=5)
    scores = sum(c * new.scores(name) for name, c in target.parts.items())
    found = quality_of(np.asarray(scores), *fits.predict(target, new.weights))
    for level, covered in found.coverage.items():
        assert covered == pytest.approx(level, abs=0.09)
    left_out = fits.quality(target)
    assert left_out.coverage[0.95] == pytest.approx(0.95, abs=0.07)
    assert left_out.beats_mean


def test_quality_of_perfect_and_of_useless_predictions() -> None:
    scores = np.random.default_rng(0).normal(size=50)
    perfect = quality_of(scores, scores, np.full(50, 0.1))
    assert (perfect.r2, perfect.rmse) == (1.0, 0.0)
    assert perfect.spearman == pytest.approx(1.0)
    assert perfect.beats_mean
    useless = quality_of(scores, np.full(50, scores.mean()), np.ones(50))
    assert useless.r2 == 0.0
    assert not useless.beats_mean
    assert np.isnan(useless.spearman)
    assert quality_of(np.empty(0), np.empty(0), np.empty(0)).runs == 0


def test_ranks_share_ties() -> None:
    stats = pytest.importorskip("scipy.stats")
    a, b = np.array([1.0, 2.0, 2.0, 4.0, 0.0]), np.array([3.0, 3.0, 1.0, 5.0, 0.5])
    assert quality_of(a, b, np.ones(5)).spearman == pytest.approx(stats.spearmanr(a, b)[0])


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_normal_quantiles(level: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert normal_quantile(level) == pytest.approx(stats.norm.ppf(0.5 + level / 2), abs=1e-9)


def test_missing_scores_are_left_out_of_their_column_only() -> None:
    whole = runs()
    part = whole.scores("y").copy()
    part[:10] = np.nan
    gaps = Runs(ARMS, whole.weights, {"x": whole.scores("x"), "y": part, "none": np.full(40, np.nan)})
    fits = fit(gaps, "linear")
    assert list(fits.surrogates) == ["x", "y"]
    assert fits.skipped == {"none": "it has no score at all"}
    with pytest.raises(InvalidData, match='"none" was not fitted: it has no score at all'):
        fits.mean(Target("t", {"none": 1.0}), np.eye(3))
    with pytest.raises(UnknownName):
        fits.mean(Target("t", {"nope": 1.0}), np.eye(3))
    scores, means, _ = fits.leave_one_out(parse_target("x+y", gaps.targets))
    assert np.isnan(scores[:10]).all()
    assert np.isfinite(means[10:]).all()
    assert fits.quality(parse_target("x+y", gaps.targets)).runs == 30
    alone = fit(whole, "linear", columns=["x"])
    assert fits.mean(parse_target("x", ["x"]), np.eye(3)) == pytest.approx(
        alone.mean(parse_target("x", ["x"]), np.eye(3))
    )


def test_errors_name_the_column() -> None:
    few = Runs(ARMS, np.eye(3), {"x": [1.0, 2.0, 3.0]})
    with pytest.raises(InvalidData, match='"x": the surrogate `scheffe` needs at least 6'):
        fit(few, "scheffe")
    with pytest.raises(InvalidData, match="no score at all"):
        fit(Runs(ARMS, np.eye(3), {"x": [np.nan] * 3}), "linear", columns=["x"])
    with pytest.raises(UnknownName):
        fit(few, "linear", columns=["z"])
    assert fit(few).surrogates["x"].describe()["chosen"]


def test_noise_comes_from_replicates_where_there_are_any() -> None:
    fits = fit(runs(40, replicates=30), "linear")
    noise = fits.noise(parse_target("x+y", fits.runs.targets))
    assert noise.source == "replicates"
    assert noise.degrees == 30
    assert noise.std == pytest.approx(0.05 * np.sqrt(2), rel=0.35)
    model = fit(runs(80), "linear").noise(parse_target("x", ["x"]))
    assert model.source == "model"
    assert model.std == pytest.approx(0.05, rel=0.35)


def test_standard_errors_reach_the_surrogates() -> None:
    base = runs(40)
    with_errors = Runs(ARMS, base.weights, dict(base.targets), {"x": np.where(np.arange(40) < 20, 0.001, 5.0)})
    stds = fit(with_errors, "linear").leave_one_out(parse_target("x", ["x"]))[2]
    assert stds[20:].min() > 4.0
    assert stds[:20].max() < 1.0


def test_correlations_from_different_runs_stay_possible() -> None:
    # x with y, x with z, and y with minus z, each pair on runs of its own: no three columns are like that.
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(3), 90)
    base, gap = rng.normal(size=90), np.full(30, np.nan)
    first, second, third = base[:30], base[30:60], base[60:]
    columns = {
        "x": np.concatenate([first, second, gap]),
        "y": np.concatenate([first, gap, third]),
        "z": np.concatenate([gap, second, -third]),
    }
    data = Runs(ARMS, rows, columns)
    found = _error_correlation(data, fit(data, "mean").surrogates)
    assert np.linalg.eigvalsh(found).min() > -1e-9
    assert np.diag(found) == pytest.approx(np.ones(3))
    assert found[0, 1] > 0.2
    assert found[1, 2] < -0.2


@pytest.mark.parametrize("text", ["x+y", "x-2*y"])
def test_joint_covariance_of_a_sum_has_its_variances(text: str) -> None:
    fits = fit(runs(40, shared=0.9), "gp")
    target = parse_target(text, fits.runs.targets)
    rows = np.random.default_rng(1).dirichlet(np.ones(3), 6)
    means, covariance = fits.joint(target, rows)
    assert means == pytest.approx(fits.mean(target, rows))
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    assert np.sqrt(np.diag(covariance)) == pytest.approx(fits.predict(target, rows, noise=False)[1], rel=0.1)


def test_quadratics_add_up() -> None:
    fits = fit(runs(), "quadratic")
    target = Target("t", {"x": 2.0, "y": -1.0})
    found = fits.quadratic(target)
    assert found is not None
    a, b, C = found
    rows = np.random.default_rng(1).dirichlet(np.ones(3), 5)
    assert a + rows @ b + ((rows @ C) * rows).sum(axis=1) == pytest.approx(fits.mean(target, rows))
    assert fit(runs(), "gp").quadratic(target) is None


def test_progress_is_told_before_each_column() -> None:
    told: list[tuple[int, int, str]] = []
    scores = {"a": [1.0, 2.0, 3.0], "one": [1.0, np.nan, np.nan], "b": [3.0, 2.0, 2.0]}
    runs = Runs(["x", "y"], [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], scores)
    fit(runs, "mean", progress=lambda *words: told.append(words))
    assert told == [(0, 2, "a"), (1, 2, "b")]
