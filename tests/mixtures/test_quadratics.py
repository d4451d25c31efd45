from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.mixtures import quadratic_optimum
from curri.mixtures.quadratics import _ascend


def grid(m: int, steps: int) -> np.ndarray:
    """All mixtures whose weights are multiples of 1/steps."""
    rows = [row for row in itertools.product(range(steps + 1), repeat=m - 1) if sum(row) <= steps]
    first = np.array(rows, dtype=float) / steps
    return np.hstack([first, 1.0 - first.sum(axis=1, keepdims=True)])


def value(a: float, b: np.ndarray, C: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.asarray(a + rows @ b + ((rows @ C) * rows).sum(axis=1))


@given(seed=st.integers(0, 2**32 - 1), m=st.integers(1, 4), curve=st.sampled_from([0.0, 1.0, 10.0]))
def test_no_point_of_a_grid_is_higher(seed: int, m: int, curve: float) -> None:
    rng = np.random.default_rng(seed)
    a, b, C = rng.normal(), rng.normal(size=m), curve * rng.normal(size=(m, m))
    weights, best = quadratic_optimum(a, b, C)
    assert weights.sum() == pytest.approx(1.0)
    assert weights.min() >= 0.0
    assert best == pytest.approx(value(a, b, C, weights[None])[0])
    everything = value(a, b, C, grid(m, 24))
    assert best >= everything.max() - 1e-9 * max(1.0, curve)
    assert best <= everything.max() + 0.02 * max(1.0, curve) * m  # and it is not out of the simplex


@given(seed=st.integers(0, 2**32 - 1), m=st.integers(5, 11))
def test_optimum_of_many_arms_beats_random_mixtures_and_is_stationary(seed: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    b, C = rng.normal(size=m), rng.normal(size=(m, m))
    weights, best = quadratic_optimum(0.0, b, C)
    assert best >= value(0.0, b, C, rng.dirichlet(np.full(m, 0.3), 2000)).max() - 1e-9
    gradient = b + (C + C.T) @ weights
    used = weights > 1e-7
    assert np.ptp(gradient[used]) < 1e-5
    assert gradient[~used].max(initial=-np.inf) <= gradient[used].max() + 1e-5


@pytest.mark.parametrize("m", [3, 8, 12])
def test_projected_gradient_agrees_with_enumeration_where_the_problem_is_convex(m: int) -> None:
    rng = np.random.default_rng(m)
    root = rng.normal(size=(m, m))
    b, C = rng.normal(size=m), -(root @ root.T) / m
    exact, best = quadratic_optimum(0.0, b, C)
    ascended = _ascend(b, C, 0)
    assert value(0.0, b, C, ascended[None])[0] == pytest.approx(best, abs=1e-9)
    assert ascended == pytest.approx(exact, abs=1e-6)


def test_thirty_arms_convex() -> None:
    # -‖w - c‖² has its optimum at c itself where c is a mixture.
    c = np.random.default_rng(0).dirichlet(np.ones(30))
    weights, best = quadratic_optimum(-float(c @ c), 2.0 * c, -np.eye(30))
    assert weights == pytest.approx(c, abs=1e-7)
    assert best == pytest.approx(0.0, abs=1e-12)


def test_sixty_arms_linear() -> None:
    b = np.arange(60.0)
    weights, best = quadratic_optimum(1.0, b, np.zeros((60, 60)))
    assert weights.tolist() == np.eye(60)[59].tolist()
    assert best == 60.0


def test_a_flat_quadratic_answers_with_the_first_corner() -> None:
    weights, best = quadratic_optimum(2.0, np.zeros(4), np.zeros((4, 4)))
    assert weights.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert best == 2.0


def test_only_the_symmetric_part_matters() -> None:
    C = np.array([[-1.0, 1.0], [0.0, -1.0]])
    first, second = quadratic_optimum(0, [0, 0], C), quadratic_optimum(0, [0, 0], (C + C.T) / 2)
    assert first[0].tolist() == second[0].tolist() == [0.5, 0.5]


def test_shapes_and_numbers_are_checked() -> None:
    with pytest.raises(InvalidParameter, match="shapes"):
        quadratic_optimum(0.0, [1.0, 2.0], [[1.0]])
    with pytest.raises(InvalidParameter, match="finite"):
        quadratic_optimum(np.nan, [1.0], [[1.0]])
