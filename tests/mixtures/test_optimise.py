"""Constraints and the search."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curri.errors import InvalidParameter, UnknownName
from curri.mixtures import (
    Metric,
    Runs,
    candidates,
    constraints,
    fit,
    kl_divergence,
    parse_target,
    total_variation,
)
from curri.mixtures.optimise import candidate_pool, maximise, objective
from curri.mixtures.simplex import distances

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


@st.composite
def limits(draw: st.DrawFn, m: int = 4) -> Any:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inside = rng.dirichlet(np.ones(m))
    arms = [f"arm {j}" for j in range(m)]
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["caps"] = dict(zip(arms, np.minimum(inside + 0.2 * rng.random(m), 1.0), strict=True))
    if draw(st.booleans()):
        options["floors"] = dict(zip(arms, inside * rng.random(m), strict=True))
    if draw(st.booleans()):
        options |= {"radius": draw(st.sampled_from([0.05, 0.3])), "metric": draw(st.sampled_from(["tv", "hellinger"]))}
        options["centres"] = rng.dirichlet(np.ones(m), 3)
    if draw(st.booleans()):
        options |= {"prior": rng.dirichlet(np.ones(m)), "kl": 0.1}
    try:
        return constraints(arms, **options)
    except InvalidParameter as error:  # drawn bounds that are too far from all drawn centres
        assume("is within" not in error.message)
        raise


@given(limits(), st.integers(0, 1000))
def test_whatever_is_brought_is_allowed_and_what_is_allowed_stays(found: Any, seed: int) -> None:
    rows = np.random.default_rng(seed).dirichlet(np.full(4, 0.5), 20)
    brought = found.bring(rows)
    assert found.allow(brought).all()
    assert brought.sum(axis=1) == pytest.approx(np.ones(20))
    assert found.bring(brought) == pytest.approx(brought, abs=1e-6)


@settings(max_examples=8)
@given(limits(), st.integers(0, 1000))
def test_the_search_keeps_limits_and_beats_random_mixtures(found: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    slope, square = rng.normal(size=4), rng.normal(size=(4, 4))

    def score(rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows @ slope + ((rows @ square) * rows).sum(axis=1) - found.penalty(rows))

    rows, values = maximise(score, found, np.full((1, 4), 0.25), seed=seed)
    assert found.allow(rows).all()
    assert (np.diff(values) <= 0.0).all()
    drawn = found.bring(rng.dirichlet(np.full(4, 0.7), 3000))
    assert values[0] >= score(drawn).max() - 2e-3


def test_the_search_finds_an_optimum_inside_at_an_edge_and_in_steps() -> None:
    free = constraints(ARMS)
    for best in ((0.5, 0.3, 0.2), (0.7, 0.3, 0.0), (1.0, 0.0, 0.0)):
        rows, _ = maximise(functools.partial(curved, best=best), free, np.eye(3))
        assert rows[0] == pytest.approx(best, abs=2e-3)
    rows, values = maximise(lambda rows: np.floor(10 * curved(rows)), free, np.eye(3))
    assert values[0] == 9.0 or values[0] == 10.0
    assert total_variation(rows[0], (0.5, 0.3, 0.2))[0, 0] < 0.2


def test_the_pool_reaches_everywhere_and_holds_what_is_known() -> None:
    known = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    pool = candidate_pool(constraints(ARMS), known, size=500)
    grid = np.random.default_rng(1).dirichlet(np.ones(3), 50)
    assert total_variation(grid, pool).min(axis=1).max() < 0.1
    assert total_variation(known, pool).min(axis=1).max() < 1e-8
    assert np.array_equal(pool, candidate_pool(constraints(ARMS), known, size=500))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"caps": {"x": 0.5}}, UnknownName, 'no arm "x"'),
        ({"caps": {"a": 1.5}}, InvalidParameter, r"`caps` of \"a\" must be a float in \[0, 1\]"),
        ({"caps": {"a": 0.2, "b": 0.2, "c": 0.2}}, InvalidParameter, "caps, epochs included, sum to 0.6"),
        ({"floors": {"a": 0.7, "b": 0.7}}, InvalidParameter, "floors sum to 1.4"),
        ({"caps": {"a": 0.1}, "floors": {"a": 0.2}}, InvalidParameter, 'floor of "a"'),
        ({"sizes": {"a": 10}}, InvalidParameter, "only with `prompts`"),
        ({"sizes": {"a": 10, "b": 10, "c": 10}, "prompts": 100}, InvalidParameter, "allow more epochs"),
        ({"kl": 0.1}, InvalidParameter, "needs a prior"),
        ({"kl": -0.1, "prior": [0.2, 0.3, 0.5]}, InvalidParameter, "`kl`"),
        ({"radius": 0.1}, InvalidParameter, "needs mixtures to measure from"),
        ({"radius": 1.5, "prior": [0.2, 0.3, 0.5]}, InvalidParameter, r"\(0, 1\]"),
        ({"prior": [0.2, 0.3]}, InvalidParameter, "mixtures of `prior`"),
    ],
)
def test_impossible_limits_are_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        constraints(ARMS, **options)


def test_epochs_are_caps() -> None:
    found = constraints(ARMS, sizes={"a": 100, "b": 500}, prompts=1000, max_epochs=2.0, caps={"b": 0.9})
    assert found.upper.tolist() == [0.2, 0.9, 1.0]
    assert found.bounded
    assert not constraints(ARMS).bounded


def test_arms_that_the_prior_lacks_get_nothing_under_a_penalty() -> None:
    found = constraints(ARMS, prior=[0.5, 0.5, 0.0], kl=0.1)
    assert found.upper.tolist() == [1.0, 1.0, 0.0]
    assert np.isfinite(found.penalty(found.bring(np.eye(3)))).all()


def test_the_penalty_pulls_towards_the_prior() -> None:
    fits = fit(runs(), "quadratic")
    target = parse_target("y", fits.runs.targets)
    prior = np.array([0.1, 0.1, 0.8])
    away = []
    for kl in (0.0, 0.3, 100.0):
        limit = constraints(ARMS, prior=prior, kl=kl)
        rows, _ = maximise(objective(fits, target, limit), limit, fits.runs.distinct)
        away.append(float(kl_divergence(rows[0], prior)[0]))
    assert away[0] > away[1] > away[2]
    assert away[2] < 1e-3


def test_the_trust_region_keeps_candidates_near_what_was_measured() -> None:
    fits = fit(runs(10), "linear")
    target = parse_target("y", fits.runs.targets)
    metrics: tuple[Metric, ...] = ("tv", "hellinger")
    for metric in metrics:
        limit = constraints(ARMS, radius=0.05, metric=metric, centres=fits.runs.distinct)
        for found in candidates(fits, target, limit):
            assert distances(found.weights, fits.runs.distinct, metric).min() <= 0.05 + 1e-6


def test_the_radius_is_measured_from_the_centres_also_where_they_are_outside_the_bounds() -> None:
    centres = [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]
    limit = constraints(ARMS, caps={ARMS[0]: 0.6}, radius=0.15, centres=centres)
    # From the first centre 0.1 is spent on reaching the cap.
    rows = limit.bring([[0.0, 1.0, 0.0], [0.6, 0.4, 0.0], [0.6, 0.25, 0.15]])
    assert total_variation(rows, centres).min(axis=1).max() <= 0.15 + 1e-7
    assert limit.allow([[0.6, 0.25, 0.15]])[0]
    assert rows[2] == pytest.approx([0.6, 0.25, 0.15])
    assert not limit.allow([[0.45, 0.4, 0.15]])[0]  # 0.25 from the centre, 0.15 from where the cap moves it


def test_a_centre_out_of_reach_of_the_bounds_drops_out_and_none_in_reach_is_refused() -> None:
    far, near = [1.0, 0.0, 0.0], [0.2, 0.4, 0.4]
    limit = constraints(ARMS, caps={ARMS[0]: 0.5}, radius=0.2, centres=[far, near])
    assert limit.allow(limit.bring([[0.5, 0.5, 0.0]]))[0]
    assert not limit.allow([[0.5, 0.5, 0.0]])[0]
    with pytest.raises(InvalidParameter, match=r"within 0\.2 of one that is trusted; the nearest is 0\.5 away"):
        constraints(ARMS, caps={ARMS[0]: 0.5}, radius=0.2, centres=[far])
