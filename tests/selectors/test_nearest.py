"""The values nearest to a target: PCL's golden cases, ties, and a slow but obvious reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.selectors import nearest

CASES = {
    case["name"]: case
    for case in json.loads((Path(__file__).parents[1] / "golden" / "pcl.json").read_text(encoding="utf-8"))["cases"]
}


def test_select_closest_to_tau() -> None:
    given_, expected = CASES["select_closest_to_tau"]["inputs"], CASES["select_closest_to_tau"]["expected"]
    values = np.array(given_["values"])
    chosen = nearest(values, given_["tau"], given_["m"])
    assert chosen.tolist() == expected["selected_indices_in_order"]
    assert values[chosen].tolist() == expected["selected_values"]
    distances = np.abs(values - given_["tau"])
    assert distances == pytest.approx(expected["distances"], abs=1e-9)
    assert distances[chosen].sum() == pytest.approx(expected["objective_sum_abs"], abs=1e-9)


def test_select_other_threshold() -> None:
    given_, expected = CASES["select_other_threshold"]["inputs"], CASES["select_other_threshold"]["expected"]
    assert nearest(given_["values"], given_["tau"], given_["m"]).tolist() == expected["selected_indices_in_order"]


def test_mini_step_selects_the_two_nearest() -> None:
    given_, expected = CASES["mini_step_update_order"]["inputs"], CASES["mini_step_update_order"]["expected"]
    values = [given_["values"][name] for name in given_["pool"]]
    chosen = nearest(values, given_["tau"], given_["m"])
    assert [given_["pool"][position] for position in chosen] == expected["selected"]


def test_rounding_decides_no_tie() -> None:
    assert abs(0.7 - 0.5) < abs(0.3 - 0.5)  # as floats
    assert nearest([0.3, 0.7], 0.5, 2).tolist() == [0, 1]
    assert nearest([0.7, 0.3], 0.5, 1).tolist() == [0]


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.5 + 1e-6, 0.7, 0.9, 1.0]), max_size=30),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.data(),
)
def test_it_is_the_first_of_a_sorted_list(values: list[float], target: float, data: st.DataObject) -> None:
    m = data.draw(st.integers(0, len(values)))
    in_order = sorted(range(len(values)), key=lambda i: (round(abs(values[i] - target), 12), i))
    chosen = nearest(values, target, m)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == in_order[:m]


@pytest.mark.parametrize(
    ("values", "target", "m"),
    [
        ([0.1, np.nan], 0.5, 1),
        ([0.1, np.inf], 0.5, 1),
        ([[0.1]], 0.5, 1),
        ([0.1], np.nan, 1),
        ([0.1], 0.5, 2),
        ([0.1], 0.5, -1),
        ([0.1], 0.5, 0.5),
        ([0.1], 0.5, True),
    ],
)
def test_what_it_refuses(values: Any, target: float, m: Any) -> None:
    with pytest.raises(InvalidParameter, match="of `nearest` must be"):
        nearest(values, target, m)
