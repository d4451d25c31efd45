"""Candidates and the guard."""

from __future__ import annotations

import numpy as np
import pytest

from curri.errors import InvalidData
from curri.mixtures import (
    Runs,
    candidates,
    constraints,
    fit,
    parse_target,
    quadratic_optimum,
    recommend,
    total_variation,
)

pytest.importorskip("scipy")

ARMS = ("a", "b", "c")


def curved(rows: np.ndarray, best: tuple[float, ...] = (0.5, 0.3, 0.2)) -> np.ndarray:
    return np.asarray(1.0 - 2.0 * np.square(rows - np.array(best)).sum(axis=1))


def runs(n: int = 40, noise: float = 0.01, replicates: int = 0, seed: int = 0) -> Runs:
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.ones(3), n)
    rows = np.vstack([rows, rows[:replicates]])
    y = curved(rows) + noise * rng.normal(size=len(rows))
    z = curved(rows, (0.0, 0.2, 0.8)) + noise * rng.normal(size=len(rows))
    return Runs(ARMS, rows, {"y": y, "z": z, "loss": -y})


def test_the_exact_optimum_of_a_quadratic_is_the_first_candidate() -> None:
    fits = fit(runs(), "quadratic")
    for name, sign in (("y", 1.0), ("loss", -1.0)):
        target = parse_target(name, fits.runs.targets, lower=sign < 0)
        a, b, C = fits.surrogates[name].quadratic()  # type: ignore[misc]
        weights, value = quadratic_optimum(sign * a, sign * b, sign * C)
        found = candidates(fits, target, constraints(ARMS))[0]
        assert found.weights == pytest.approx(weights, abs=1e-9)
        assert sign * found.mean == pytest.approx(value)


def test_candidates_differ_and_are_described() -> None:
    fits = fit(runs())
    target = parse_target("y", fits.runs.targets)
    found = candidates(fits, target, constraints(ARMS), count=4)
    rows = np.array([each.weights for each in found])
    assert len(found) == 4
    assert (total_variation(rows, rows)[np.triu_indices(4, 1)] >= 0.1).all()
    for each in found:
        assert each.interval[0] < each.mean < each.interval[1]
        assert 0.0 <= each.better <= 1.0
        assert each.distance == pytest.approx(total_variation(each.weights, fits.runs.distinct).min())
        near = fits.runs.weights[fits.runs.names.index(each.nearest)]
        assert total_variation(each.weights, near)[0, 0] == pytest.approx(each.distance)
    assert [each.mean for each in found] == sorted((each.mean for each in found), reverse=True)


def test_a_clear_gain_is_recommended() -> None:
    rows = np.array(
        [
            [1, 0, 0],
            [0, 1, 0],
            [0, 0, 1],
            [0.8, 0.1, 0.1],
            [0.1, 0.8, 0.1],
            [0.1, 0.1, 0.8],
            [0.6, 0.4, 0],
            [0, 0.6, 0.4],
        ]
    )
    best = (0.4, 0.3, 0.3)
    data = Runs(ARMS, np.vstack([rows, rows[:3]]), {"y": curved(np.vstack([rows, rows[:3]]), best)})
    data = Runs(ARMS, data.weights, {"y": data.scores("y") + 0.005 * np.random.default_rng(0).normal(size=11)})
    fits = fit(data, "quadratic")
    found = recommend(fits, parse_target("y", ["y"]), constraints(ARMS))
    assert found.source == "candidate"
    assert found.run is None
    assert found.weights == pytest.approx(best, abs=0.05)
    assert found.noise.source == "replicates"
    assert found.chosen.gain > found.threshold
    assert "Predicted to beat the best measured mixture" in found.reason
    # The same gain is not enough where ten times as much is asked for.
    asked = recommend(fits, parse_target("y", ["y"]), constraints(ARMS), guard=100.0)
    assert asked.source == "measured"
    assert "which is not more than" in asked.reason


def test_noise_is_not_recommended() -> None:
    rng = np.random.default_rng(0)
    recommended = []
    for seed in range(6):
        rows = rng.dirichlet(np.ones(4), 16)
        fits = fit(Runs([*ARMS, "d"], rows, {"y": rng.normal(size=16)}))
        found = recommend(fits, parse_target("y", ["y"]), constraints([*ARMS, "d"]), seed=seed)
        recommended.append(found.source == "candidate")
        if found.source == "measured":
            assert found.run in fits.runs.names
            assert found.trust <= 1.0
    assert sum(recommended) <= 1


def test_without_skill_the_best_score_counts_and_is_named() -> None:
    rng = np.random.default_rng(3)
    rows = rng.dirichlet(np.ones(3), 10)
    scores = rng.normal(size=10)
    fits = fit(Runs(ARMS, rows, {"y": scores}), "mean")
    found = recommend(fits, parse_target("y", ["y"]), constraints(ARMS))
    assert found.run == f"run {int(scores.argmax()) + 1}"
    assert found.trust == 0.0
    assert found.smoothed == found.measured_mean == scores.max()
    assert "not predicted better than by the mean" in found.reason


def test_a_lucky_score_is_smoothed() -> None:
    data = runs(40, noise=0.02, replicates=10)
    scores, truth = data.scores("y").copy(), curved(data.weights)
    lucky = 10 + int(np.abs(truth[10:40] - 0.9).argmin())  # not one of those that were run twice
    scores[lucky] = scores.max() + 0.005
    fits = fit(Runs(ARMS, data.weights, {"y": scores}))
    found = recommend(fits, parse_target("y", ["y"]), constraints(ARMS))
    assert total_variation(found.best_measured.weights, data.weights[lucky])[0, 0] > 0.0
    assert curved(found.weights[None])[0] > truth[lucky]


def test_lower_is_better_mirrors_higher_is_better() -> None:
    data = runs()
    up = recommend(fit(data, "quadratic"), parse_target("y", data.targets), constraints(ARMS))
    down = recommend(fit(data, "quadratic"), parse_target("loss", data.targets, lower=True), constraints(ARMS))
    assert down.weights == pytest.approx(up.weights, abs=1e-6)
    assert down.chosen.mean == pytest.approx(-up.chosen.mean)
    assert down.candidates[0].gain == pytest.approx(up.candidates[0].gain)


def test_measured_mixtures_outside_the_limits_do_not_count() -> None:
    data = runs()
    fits = fit(data)
    limit = constraints(ARMS, caps={"a": 0.1})
    found = recommend(fits, parse_target("y", data.targets), limit)
    assert found.weights[0] <= 0.1 + 1e-6
    none = constraints(ARMS, caps={"a": 0.0}, floors={"b": 0.5, "c": 0.5})
    only = recommend(fits, parse_target("y", data.targets), none)
    assert only.weights == pytest.approx([0.0, 0.5, 0.5])
    assert only.run is None
    assert "nearest allowed" in only.reason


def test_one_arm_has_one_answer() -> None:
    data = Runs(["only"], [[1.0]] * 3, {"y": [1.0, 2.0, 3.0]})
    found = recommend(fit(data), parse_target("y", ["y"]), constraints(["only"]))
    assert found.weights.tolist() == [1.0]
    assert found.source == "measured"


def test_sixty_arms_are_searched() -> None:
    arms = [f"arm {j}" for j in range(60)]
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.full(60, 0.3), 130)
    data = Runs(arms, rows, {"y": rows[:, :3].sum(axis=1) + 0.01 * rng.normal(size=130)})
    found = recommend(fit(data, "linear"), parse_target("y", ["y"]), constraints(arms, caps={"arm 0": 0.2}))
    assert found.weights[:3].sum() > 0.9
    assert found.weights[0] <= 0.2 + 1e-6


def test_a_target_without_a_complete_run_is_refused() -> None:
    gaps = Runs(
        ARMS,
        np.vstack([np.eye(3), np.eye(3)[::-1] * 0.8 + 0.2 / 3]),
        {"x": [1, 2, 3, *[np.nan] * 3], "y": [*[np.nan] * 3, 1, 2, 3]},
    )
    with pytest.raises(InvalidData, match="no run has all scores"):
        recommend(fit(gaps), parse_target("x+y", gaps.targets), constraints(ARMS))


def test_caution_prefers_what_is_known() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet([8.0, 8.0, 0.5], 30)  # hardly anything of c was tried
    data = Runs(ARMS, rows, {"y": rows[:, 2] + 0.02 * rng.normal(size=30)})
    fits, target = fit(data), parse_target("y", ["y"])
    bold = candidates(fits, target, constraints(ARMS))[0]
    careful = candidates(fits, target, constraints(ARMS), caution=3.0)[0]
    assert careful.distance < bold.distance
