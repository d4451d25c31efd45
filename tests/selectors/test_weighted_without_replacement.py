"""Successive weighted draws: their law, zeros, sizes, what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.selectors import weighted_without_replacement

CASES = json.loads((Path(__file__).parents[1] / "golden" / "eva.json").read_text(encoding="utf-8"))["cases"]
GOLDEN = next(case for case in CASES if case["name"] == "weighted_sampling_without_replacement_k2")
DRAWS = 20_000
SIGMAS = 4.5

weight_lists = st.lists(st.one_of(st.just(0.0), st.floats(1e-300, 1e300)), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def pairs() -> Counter[str]:
    """Ordered pairs of many draws of the golden case."""
    rng = np.random.default_rng(11)
    weights, k = np.array(GOLDEN["inputs"]["weights"]), GOLDEN["inputs"]["k"]
    return Counter(",".join(map(str, weighted_without_replacement(weights, k, rng).tolist())) for _ in range(DRAWS))


def test_weighted_sampling_without_replacement_k2_pairs(pairs: Counter[str]) -> None:
    wanted = GOLDEN["expected"]["ordered_pair_probability"]
    assert set(pairs) <= set(wanted)
    for pair, p in wanted.items():
        assert abs(pairs[pair] - DRAWS * p) < SIGMAS * np.sqrt(DRAWS * p * (1 - p)), pair


def test_weighted_sampling_without_replacement_k2_inclusion(pairs: Counter[str]) -> None:
    hits: Counter[int] = Counter()
    for pair, count in pairs.items():
        for place in map(int, pair.split(",")):
            hits[place] += count
    for place, p in enumerate(GOLDEN["expected"]["inclusion_probability"]):
        assert abs(hits[place] - DRAWS * p) <= SIGMAS * np.sqrt(DRAWS * p * (1 - p)), place
    assert sum(hits.values()) == GOLDEN["expected"]["sum_inclusion"] * DRAWS


def test_pair_probabilities_follow_from_the_weights() -> None:
    """The golden numbers are those of successive draws: w_i w_j / (1 − w_i)."""
    weights = GOLDEN["inputs"]["weights"]
    for pair, p in GOLDEN["expected"]["ordered_pair_probability"].items():
        i, j = map(int, pair.split(","))
        assert weights[i] * weights[j] / (1 - weights[i]) == pytest.approx(p, abs=GOLDEN["tolerance"])


@given(weights=weight_lists, seed=st.integers(0, 1000), data=st.data())
def test_distinct_and_zeros_last(weights: list[float], seed: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(weights)))
    drawn = weighted_without_replacement(weights, k, np.random.default_rng(seed))
    assert drawn.dtype == np.int64
    assert len(set(drawn.tolist())) == k
    positive = [weights[place] > 0 for place in drawn.tolist()]
    assert positive == sorted(positive, reverse=True)
    assert sum(positive) == min(k, sum(weight > 0 for weight in weights))


@given(weights=weight_lists, seed=st.integers(0, 1000), data=st.data())
def test_a_smaller_draw_is_the_beginning_of_a_larger_one(weights: list[float], seed: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(weights)))
    everything = weighted_without_replacement(weights, len(weights), np.random.default_rng(seed))
    assert weighted_without_replacement(weights, k, np.random.default_rng(seed)).tolist() == everything[:k].tolist()


def test_the_scale_of_the_weights_does_not_matter() -> None:
    weights = np.array([1.0, 2.0, 5.0, 0.0, 3.0])
    draws = [
        weighted_without_replacement(weights * unit, 3, np.random.default_rng(4)).tolist()
        for unit in (1, 2**-500, 2**500)
    ]
    assert draws[0] == draws[1] == draws[2]


def test_all_zero_weights_draw_uniformly() -> None:
    rng = np.random.default_rng(5)
    hits = np.zeros(6)
    for _ in range(3000):
        hits[weighted_without_replacement(np.zeros(6), 2, rng)] += 1
    assert np.abs(hits - 1000).max() < SIGMAS * np.sqrt(3000 * (1 / 3) * (2 / 3))


def test_nothing_of_nothing() -> None:
    assert weighted_without_replacement([], 0, np.random.default_rng(0)).size == 0


@pytest.mark.parametrize(
    ("weights", "k"),
    [
        ([1.0, -1.0], 1),
        ([1.0, np.nan], 1),
        ([1.0, np.inf], 1),
        ([[1.0]], 1),
        (["a"], 1),
        ([1.0], 2),
        ([1.0], -1),
        ([1.0], 0.5),
        ([1.0], True),
    ],
)
def test_wrong_arguments_are_refused(weights: Any, k: Any) -> None:
    with pytest.raises(InvalidParameter, match="of `weighted_without_replacement` must be"):
        weighted_without_replacement(weights, k, np.random.default_rng(0))
