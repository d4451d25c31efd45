"""The score family: values, orders and expectations."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.estimators import PassRate, RateScore, expected_rate_score, rate_score, rate_score_range

if TYPE_CHECKING:
    from curri.types import Floats

KINDS = get_args(RateScore)
SHAPES = [(0.5, 0.5), (1.0, 1.0), (1.5, 3.0), (8.0, 2.0), (30.0, 45.0), (1.0, 400.0), (600.0, 500.0)]
NODES = np.polynomial.legendre.leggauss(150)


def by_quadrature(kind: RateScore, a: float, b: float, n: int, target: float) -> float:
    """The mean of a score under Beta(a, b): p = sin² turns both ends smooth; the kink at the target splits it."""
    kink = math.asin(math.sqrt(target))
    total = weight = 0.0
    nodes, weights = NODES
    for low, high in pairwise((0.0, kink, math.pi / 2)):
        angle = low + (nodes + 1.0) * (high - low) / 2
        p = np.sin(angle) ** 2
        log = (2 * a - 1) * np.log(np.sin(angle)) + (2 * b - 1) * np.log(np.cos(angle))
        density = np.exp(log + (a + b) * math.log(2)) * weights * (high - low) / 2
        total += float(np.sum(density * rate_score(kind, p, n=n, target=target)))
        weight += float(np.sum(density))
    return total / weight


def test_values_at_a_known_rate() -> None:
    rates = [0.0, 0.2, 0.5, 1.0]
    assert rate_score("variance", rates) == pytest.approx([0.0, 0.16, 0.25, 0.0])
    assert rate_score("root", rates) == pytest.approx([0.0, 0.4, 0.5, 0.0])
    assert rate_score("live", rates, n=2) == pytest.approx([0.0, 0.32, 0.5, 0.0])
    assert rate_score("live", [0.18], n=8) == pytest.approx([1 - 0.18**8 - 0.82**8])
    assert rate_score("distance", rates, target=0.3) == pytest.approx([-0.3, -0.1, -0.2, -0.7])


def test_a_user_worked_out_by_hand_how_many_groups_are_dead_at_two_and_at_eight_rollouts() -> None:
    live = [float(rate_score("live", 0.18, n=n)) for n in (2, 8)]
    assert [round(1 - share, 1) for share in live] == [0.7, 0.2]


@given(rates=st.lists(st.floats(0, 1), min_size=2, max_size=20), n=st.integers(2, 32))
def test_all_rank_point_estimates_alike_when_the_target_is_one_half(rates: list[float], n: int) -> None:
    p = np.round(rates, 3)
    closeness = np.round(0.5 - np.abs(p - 0.5), 3)
    for kind in KINDS:
        scores = rate_score(kind, p, n=n)
        order = np.argsort(closeness, kind="stable")
        assert np.all(np.diff(scores[order]) >= -1e-12), kind


def test_with_another_target_only_the_distance_moves() -> None:
    p = np.linspace(0, 1, 101)
    best = {kind: p[np.argmax(rate_score(kind, p, target=0.7))] for kind in KINDS}
    assert best == {"root": 0.5, "variance": 0.5, "live": 0.5, "distance": pytest.approx(0.7)}


def test_hand_checked_expectations() -> None:
    assert expected_rate_score("variance", 1.0, 1.0) == pytest.approx(1 / 6)
    assert expected_rate_score("root", 1.0, 1.0) == pytest.approx(math.pi / 8)
    assert expected_rate_score("live", 1.0, 1.0, n=8) == pytest.approx(7 / 9)
    assert expected_rate_score("distance", 1.0, 1.0) == pytest.approx(-1 / 4)
    assert expected_rate_score("distance", 1.0, 1.0, target=0.3) == pytest.approx(-(0.3**2 + 0.7**2) / 2)
    assert expected_rate_score("variance", 3.0, 2.0) == pytest.approx(6 / 30)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", [0.5, 0.2, 0.93])
def test_expectations_are_those_of_a_numeric_integration(kind: RateScore, target: float) -> None:
    for n in (2, 8, 100):
        wanted = [by_quadrature(kind, a, b, n, target) for a, b in SHAPES]
        a, b = np.array(SHAPES).T
        assert expected_rate_score(kind, a, b, n=n, target=target) == pytest.approx(wanted, rel=1e-8, abs=1e-12)


@given(a=st.floats(1e-3, 1e4), b=st.floats(1e-3, 1e4), target=st.floats(0, 1), n=st.integers(1, 200))
def test_expectations_stay_within_the_range_of_the_score(a: float, b: float, target: float, n: int) -> None:
    for kind in KINDS:
        low, high = rate_score_range(kind, n=n, target=target)
        value = float(expected_rate_score(kind, a, b, n=n, target=target))
        assert low - 1e-9 <= value <= high + 1e-9


@given(a=st.floats(1e-3, 1e4), b=st.floats(1e-3, 1e4), target=st.floats(0, 1))
def test_right_and_wrong_are_symmetric(a: float, b: float, target: float) -> None:
    for kind in KINDS:
        one = expected_rate_score(kind, a, b, target=target)
        assert expected_rate_score(kind, b, a, target=1 - target) == pytest.approx(one, rel=1e-6, abs=1e-9)


def test_much_evidence_gives_the_score_of_the_mean() -> None:
    mean = np.array([0.02, 0.3, 0.5, 0.8])
    for kind in KINDS:
        got = expected_rate_score(kind, mean * 1e9, (1 - mean) * 1e9, target=0.4)
        assert got == pytest.approx(rate_score(kind, mean, target=0.4), rel=1e-4, abs=1e-4)


def test_the_mean_of_a_score_prices_what_is_not_known() -> None:
    fresh, sure = (expected_rate_score("live", [s], [s])[0] for s in (1.0, 50.0))
    assert fresh == pytest.approx(0.78, abs=0.003)
    assert sure > 0.98
    assert rate_score("live", 0.5) > sure


def test_expected_live_share_is_that_of_the_pass_rate_estimator() -> None:
    rates = PassRate(3)
    rates.update([0, 0, 0, 1, 1], [1.0, 0, 0, 1, 1], [1.0, 0, 0, 1, 1], step=0)
    wanted = rates.live_probability([0, 1, 2], n=6, step=0)
    assert expected_rate_score("live", [2.0, 3, 1], [3.0, 1, 1], n=6) == pytest.approx(wanted)


def test_products_and_the_gamma_function_agree_where_they_meet() -> None:
    a, b = np.array([0.01, 1.0, 7.5, 300.0]), np.array([3.0, 1.0, 0.2, 200.0])
    products = [1 - math.prod((x + i) / (x + y + i) for i in range(65)) for x, y in zip(a, b, strict=True)]
    products = [p - math.prod((y + i) / (x + y + i) for i in range(65)) for p, x, y in zip(products, a, b, strict=True)]
    assert expected_rate_score("live", a, b, n=65) == pytest.approx(products, rel=1e-9)


def test_a_single_rollout_can_never_be_live() -> None:
    assert rate_score("live", [0.0, 0.5, 1.0], n=1).tolist() == [0, 0, 0]
    assert expected_rate_score("live", 2.0, 3.0, n=1) == pytest.approx(0.0)
    assert rate_score_range("live", n=1) == (0.0, 0.0)


def test_targets_at_the_ends() -> None:
    assert expected_rate_score("distance", 3.0, 1.0, target=0.0) == pytest.approx(-0.75)
    assert expected_rate_score("distance", 3.0, 1.0, target=1.0) == pytest.approx(-0.25)


def test_shapes_are_kept_and_nothing_is_written_to_the_input() -> None:
    a: Floats = np.arange(1.0, 7.0).reshape(2, 3)
    kept = a.copy()
    for kind in KINDS:
        assert expected_rate_score(kind, a, 2.0).shape == (2, 3)
        assert expected_rate_score(kind, [], []).shape == (0,)
        assert expected_rate_score(kind, 1.0, 1.0).shape == ()
    assert np.array_equal(a, kept)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"kind": "entropy", "rates": [0.5]}, "kind"),
        ({"kind": "live", "rates": [1.5]}, "rates"),
        ({"kind": "live", "rates": [math.nan]}, "rates"),
        ({"kind": "live", "rates": [0.5], "n": 0}, "n"),
        ({"kind": "live", "rates": [0.5], "n": True}, "n"),
        ({"kind": "distance", "rates": [0.5], "target": 1.2}, "target"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidParameter, match=f"`{word}` of `rate_score` must"):
        rate_score(**arguments)


@pytest.mark.parametrize("shape", [0.0, -1.0, math.inf, math.nan])
def test_wrong_shapes_of_the_beta_are_refused(shape: float) -> None:
    with pytest.raises(InvalidParameter, match="`alpha` and `beta`"):
        expected_rate_score("root", [1.0, shape], [1.0, 1.0])
