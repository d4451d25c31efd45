from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.mixtures.simplex import checked_mixtures, hellinger, kl_divergence, project, total_variation

if TYPE_CHECKING:
    from curri.types import Floats

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def bounded_points(draw: st.DrawFn) -> tuple[Floats, Floats, Floats]:
    """Any points, with floors and caps that some mixture keeps."""
    m = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(SEEDS))
    inside = rng.dirichlet(np.ones(m))
    lower = inside * rng.random(m)
    upper = np.minimum(inside + rng.random(m) * (1 - inside), 1.0)
    points = rng.normal(size=(4, m)) * 10.0 ** draw(st.integers(-6, 4))
    return points, lower, upper


@given(bounded_points())
def test_projection_keeps_bounds_and_sum_and_is_idempotent(case: tuple[Floats, Floats, Floats]) -> None:
    points, lower, upper = case
    found = project(points, lower, upper)
    assert np.abs(found.sum(axis=1) - 1.0).max() < 1e-9
    assert (found >= lower - 1e-12).all()
    assert (found <= upper + 1e-12).all()
    assert project(found, lower, upper) == pytest.approx(found, abs=1e-9)


@given(bounded_points())
def test_no_allowed_mixture_is_nearer_than_the_projection(case: tuple[Floats, Floats, Floats]) -> None:
    points, lower, upper = case
    found = project(points, lower, upper)
    rng = np.random.default_rng(0)
    others = project(rng.normal(size=(50, points.shape[1])), lower, upper)
    for point, near in zip(points, found, strict=True):
        distance = float(np.linalg.norm(point - near))
        assert (np.linalg.norm(point - others, axis=1) >= distance - 1e-6 * max(1.0, distance)).all()


def test_impossible_bounds_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="no mixture keeps the bounds"):
        project([0.5, 0.5], upper=0.4)
    with pytest.raises(InvalidParameter, match="no mixture keeps the bounds"):
        project([0.5, 0.5], lower=[0.7, 0.7])


@pytest.mark.parametrize("distance", [total_variation, hellinger])
@given(seed=SEEDS, m=st.integers(1, 8))
def test_distances_are_metrics_in_the_unit_interval(distance: object, seed: int, m: int) -> None:
    assert callable(distance)
    rows = np.random.default_rng(seed).dirichlet(np.full(m, 0.3), 6)
    found = distance(rows, rows)
    assert found == pytest.approx(found.T, abs=1e-7)
    assert np.abs(np.diag(found)).max() < 1e-7
    assert found.min() >= 0.0
    assert found.max() <= 1.0 + 1e-12
    assert (found[:, None, :] <= found[:, :, None] + found[None, :, :] + 1e-7).all()


@given(seed=SEEDS)
def test_divergence_is_nonnegative_and_zero_only_at_the_prior(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prior, rows = rng.dirichlet(np.ones(5)), rng.dirichlet(np.full(5, 0.2), 10)
    assert (kl_divergence(rows, prior) >= 0.0).all()
    assert kl_divergence(prior, prior)[0] == pytest.approx(0.0, abs=1e-12)
    # Pinsker: KL ≥ 2·TV².
    assert (kl_divergence(rows, prior) >= 2.0 * total_variation(rows, prior)[:, 0] ** 2 - 1e-12).all()


def test_divergence_from_an_arm_without_prior_is_infinite() -> None:
    assert kl_divergence([[0.5, 0.5], [1.0, 0.0]], [1.0, 0.0]).tolist() == [np.inf, 0.0]


@pytest.mark.parametrize(
    "rows",
    [[[0.5, 0.4]], [[0.5, 0.52]], [[1.5, -0.5]], [[np.nan, 1.0]], [[np.inf, 0.0]], [[[1.0]]], [[]]],
)
def test_rows_that_are_no_mixtures_are_refused(rows: list[list[float]]) -> None:
    with pytest.raises(InvalidParameter, match="mixtures of `x`"):
        checked_mixtures(rows, owner="x")


def test_rounded_rows_are_normalised() -> None:
    assert checked_mixtures([[0.505, 0.505]], owner="x").tolist() == [[0.5, 0.5]]
