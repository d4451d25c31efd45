"""Trade-offs, effects, and which runs to make next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.mixtures import (
    Runs,
    arm_path,
    candidates,
    constraints,
    effects,
    fit,
    next_runs,
    pareto_front,
    parse_target,
    recommend,
    total_variation,
    trade_off,
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


def test_bad_settings_of_the_search_are_refused() -> None:
    data = runs()
    fits, target, free = fit(data, "linear"), parse_target("y", data.targets), constraints(ARMS)
    with pytest.raises(InvalidParameter, match="count"):
        candidates(fits, target, free, count=0)
    with pytest.raises(InvalidParameter, match="caution"):
        candidates(fits, target, free, caution=-1.0)
    with pytest.raises(InvalidParameter, match="guard"):
        recommend(fits, target, free, guard=-1.0)
    with pytest.raises(InvalidParameter, match="count"):
        next_runs(fits, target, free, 0)
    with pytest.raises(InvalidParameter, match="share"):
        effects(fits, target, [0.3, 0.3, 0.4], share=0.0)
    with pytest.raises(InvalidParameter, match="2 targets"):
        trade_off(fits, [target], free)


@given(st.integers(0, 1000), st.integers(2, 4))
def test_nothing_on_the_front_is_beaten_and_everything_else_is(seed: int, count: int) -> None:
    gains = np.random.default_rng(seed).integers(0, 5, (30, count)).astype(float)
    front = pareto_front(gains)
    beats = (gains[:, None] >= gains[None]).all(axis=2) & (gains[:, None] > gains[None]).any(axis=2)
    assert np.array_equal(front, ~beats.any(axis=0))


def test_a_trade_off_runs_from_one_optimum_to_the_other() -> None:
    data = runs()
    fits = fit(data, "quadratic")
    targets = [parse_target(name, data.targets) for name in "yz"]
    found = trade_off(fits, targets, constraints(ARMS), points=8)
    assert found.targets == ("y", "z")
    assert 3 <= len(found.weights) <= 8
    assert (np.diff(found.means[:, 0]) <= 1e-9).all()
    assert (np.diff(found.means[:, 1]) >= -1e-9).all()
    assert found.weights[0] == pytest.approx([0.5, 0.3, 0.2], abs=0.05)
    assert found.weights[-1] == pytest.approx([0.0, 0.2, 0.8], abs=0.05)
    assert found.measured_means.shape == (len(found.measured), 2)
    for k, target in enumerate(targets):
        assert found.stds[:, k] == pytest.approx(fits.predict(target, found.weights)[1])


def test_effects_are_differences_of_predictions() -> None:
    data = runs()
    fits, target = fit(data, "linear"), parse_target("z", data.targets)
    base = np.array([0.4, 0.4, 0.2])
    found = effects(fits, target, base, share=0.1)
    moved = np.array([arm_path(base, arm, [base[arm] + 0.1])[0] for arm in range(3)])
    assert found.change == pytest.approx(fits.mean(target, moved) - fits.mean(target, base), abs=1e-9)
    assert found.change.argmax() == 2
    assert (found.std > 0.0).all()
    assert (found.std < 0.05).all()


@given(st.integers(0, 1000), st.integers(1, 6), st.floats(0, 1))
def test_paths_keep_the_proportions_of_the_others(seed: int, m: int, share: float) -> None:
    base = np.random.default_rng(seed).dirichlet(np.ones(m))
    arm = seed % m
    path = arm_path(base, arm, [share])[0]
    assert path.sum() == pytest.approx(1.0)
    if m > 1:
        assert path[arm] == pytest.approx(share)
        others = np.arange(m) != arm
        assert path[others] * (1 - base[arm]) == pytest.approx(base[others] * (1 - share), abs=1e-9)
    assert arm_path(np.eye(3)[0], 0, [0.4]).tolist() == [pytest.approx([0.4, 0.3, 0.3])]


def test_next_runs_go_where_the_optimum_may_be() -> None:
    data = runs(12, noise=0.02)
    fits, target = fit(data), parse_target("y", data.targets)
    limit = constraints(ARMS, caps={"a": 0.8})
    found = next_runs(fits, target, limit, 5)
    assert len(found) == 5
    assert limit.allow(found).all()
    assert (total_variation(found, found)[np.triu_indices(5, 1)] >= 0.05).all()
    assert curved(found).mean() > curved(np.random.default_rng(0).dirichlet(np.ones(3), 200)).mean()
    assert np.array_equal(found, next_runs(fits, target, limit, 5))
