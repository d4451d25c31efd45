from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.selectors import softmax


@given(st.lists(st.floats(-1e308, 1e308), min_size=1, max_size=20), st.floats(1e-300, 1e300))
def test_is_a_distribution_in_the_order_of_the_scores(scores: list[float], temperature: float) -> None:
    weights = softmax(scores, temperature)
    assert weights.sum() == pytest.approx(1.0)
    assert np.all(weights >= 0.0)
    assert np.all(np.diff(weights[np.argsort(scores)]) >= 0.0)


def test_against_the_definition() -> None:
    scores = np.array([0.3, -0.2, 1.0])
    assert softmax(scores, 0.5) == pytest.approx(np.exp(scores / 0.5) / np.exp(scores / 0.5).sum(), rel=1e-14)


def test_a_shift_changes_nothing() -> None:
    assert softmax([1e6, 1e6 + 1], 1.0) == pytest.approx(softmax([0, 1], 1.0), rel=1e-14)


def test_minus_infinity_weighs_nothing() -> None:
    assert softmax([-np.inf, 2.0, -np.inf], 0.1).tolist() == [0.0, 1.0, 0.0]


def test_extreme_temperatures() -> None:
    assert softmax([1.0, 0.0], 5e-324).tolist() == [1.0, 0.0]
    assert softmax([1.0, 0.0], 1e308).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("temperature", [-1.0, 0.0, np.nan, np.inf, True])
def test_refused_temperature(temperature: float) -> None:
    with pytest.raises(InvalidParameter) as caught:
        softmax([1.0], temperature)
    assert str(caught.value) == f"`temperature` of `softmax` must be a float in (0, inf); got {temperature!r}"


@pytest.mark.parametrize("scores", [[], [-np.inf], [np.nan, 1.0], [np.inf, 1.0], [[1.0]]])
def test_refused_scores(scores: list[float]) -> None:
    with pytest.raises(InvalidParameter, match="`scores` of `softmax`"):
        softmax(scores, 1.0)
