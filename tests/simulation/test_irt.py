"""Item-response formulas against their definitions."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.estimators import group_advantages
from curri.irt import advantage_mass, difficulty_of, logistic, solve_probability

if TYPE_CHECKING:
    from collections.abc import Callable

LOGITS = st.floats(-30, 30)
STEEPNESS = st.floats(0.05, 5)
CHANCES = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda pair: (pair[0], (1 - pair[0]) * pair[1]))


@given(LOGITS, LOGITS, STEEPNESS, CHANCES)
def test_the_probability_is_the_formula_and_stays_within_its_asymptotes(
    theta: float, b: float, a: float, chances: tuple[float, float]
) -> None:
    c, s = chances
    p = float(solve_probability(theta, b, a, c, s))
    assert p == pytest.approx(c + (1 - c - s) / (1 + np.exp(-a * (theta - b))), rel=1e-12, abs=1e-300)
    assert c <= p <= 1 - s + 1e-15


@given(st.lists(LOGITS, min_size=2, max_size=20), LOGITS, STEEPNESS, CHANCES)
def test_the_probability_grows_with_ability_and_falls_with_difficulty(
    thetas: list[float], b: float, a: float, chances: tuple[float, float]
) -> None:
    ordered = np.sort(thetas)
    assert (np.diff(solve_probability(ordered, b, a, *chances)) >= 0).all()
    assert (np.diff(solve_probability(b, ordered, a, *chances)) <= 0).all()


def test_arguments_are_broadcast() -> None:
    grid = solve_probability(np.zeros((3, 1)), np.zeros(4), guess=[0.0, 0.1, 0.2, 0.3])
    assert grid.shape == (3, 4)
    assert np.allclose(grid, [0.5, 0.55, 0.6, 0.65])


def test_both_tails_of_the_logistic_are_exact() -> None:
    assert float(logistic(-40.0)) == pytest.approx(np.exp(-40.0), rel=1e-12)
    assert logistic([-1e308, 1e308]).tolist() == [0.0, 1.0]


@given(st.floats(0.001, 0.999), LOGITS, STEEPNESS, CHANCES)
def test_difficulty_is_the_inverse(share: float, theta: float, a: float, chances: tuple[float, float]) -> None:
    c, s = chances
    if 1 - c - s < 1e-3:
        return
    p = c + (1 - c - s) * share
    assert float(solve_probability(theta, difficulty_of(p, theta, a, c, s), a, c, s)) == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
@pytest.mark.parametrize("p", [0.0, 0.03, 0.5, 0.9, 1.0])
def test_the_mass_is_the_mean_over_all_groups(n: int, p: float) -> None:
    expected = 0.0
    for group in product([0.0, 1.0], repeat=n):
        chance = np.prod([p if right else 1 - p for right in group])
        if len(set(group)) > 1:
            expected += chance * np.abs(group_advantages(group, np.zeros(n, dtype=np.int64), epsilon=0.0)).mean()
    assert float(advantage_mass(p, n)) == pytest.approx(expected, abs=1e-12)


def test_the_mass_of_large_groups_tends_to_that_of_the_distribution() -> None:
    p = np.array([0.1, 0.5, 0.8])
    assert np.allclose(advantage_mass(p, 2000), 2 * np.sqrt(p * (1 - p)), rtol=2e-3)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: solve_probability(np.nan, 0.0), "ability"),
        (lambda: solve_probability(0.0, np.inf), "difficulty"),
        (lambda: solve_probability(0.0, 0.0, 0.0), "discrimination"),
        (lambda: solve_probability(0.0, 0.0, 1.0, -0.1), "guess"),
        (lambda: solve_probability(0.0, 0.0, 1.0, 0.5, 0.6), "slip"),
        (lambda: difficulty_of([0.2, 1.0]), "pass_rate"),
        (lambda: difficulty_of(0.25, guess=0.25), "pass_rate"),
        (lambda: advantage_mass(1.1, 8), "pass_rate"),
        (lambda: advantage_mass(0.5, 0), "n_rollouts"),
    ],
)
def test_a_value_out_of_range_is_named(call: Callable[[], object], name: str) -> None:
    with pytest.raises(InvalidParameter, match=f"`{name}`"):
        call()
