"""Self-BLEU, distinct n-grams and edit distance: against the released code's values, by hand, and as laws."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.estimators import distinct_n, mean_edit_distance, self_bleu

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "vas.json").read_text(encoding="utf-8"))
CASES = GOLDEN["tds_metrics"]["cases"]
METRICS: dict[str, Callable[[Any], float]] = {
    "self_bleu_123": self_bleu,
    "self_bleu_1": lambda sequences: self_bleu(sequences, 1),
    "self_bleu_3": lambda sequences: self_bleu(sequences, 3, weights=[0, 0, 1]),
    "distinct_1": lambda sequences: distinct_n(sequences, 1),
    "distinct_2": lambda sequences: distinct_n(sequences, 2),
    "distinct_3": distinct_n,
    "edit_distance": mean_edit_distance,
}

sequences_ = st.lists(st.lists(st.integers(0, 4), max_size=9), max_size=6)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_values_of_the_released_code(case: dict[str, Any]) -> None:
    found = {name: METRICS[name](case["sequences"]) for name in case["expected"]}
    assert found == pytest.approx(case["expected"], rel=1e-12, abs=1e-12)


def test_padding_counts_in_the_released_code_and_can_be_left_out() -> None:
    disjoint = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    padded = [[*sequence, 0, 0, 0, 0] for sequence in disjoint]
    assert self_bleu(padded) == pytest.approx(0.415, abs=5e-4)
    plain, by_case = CASES[2], next(case for case in CASES if case["name"].startswith("padded"))
    assert plain["name"] == "different_lengths"
    assert (self_bleu(padded, pad=0), mean_edit_distance(padded, pad=0)) == (0.0, 4.0)
    for metric in (self_bleu, distinct_n, mean_edit_distance):
        stripped = metric(by_case["sequences"], pad=0)
        assert stripped == pytest.approx(metric(plain["sequences"]), rel=1e-12)


# ---- by hand ---------------------------------------------------------------------------------------------------------


def grams(sequence: Sequence[int], order: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(sequence[i : i + order]) for i in range(len(sequence) - order + 1))


def bleu(hypothesis: Sequence[int], references: Sequence[Sequence[int]], max_order: int) -> float:
    logs = 0.0
    for order in range(1, max_order + 1):
        mine, theirs = grams(hypothesis, order), [grams(reference, order) for reference in references]
        hits = sum(min(count, max(counts[gram] for counts in theirs)) for gram, count in mine.items())
        if order == 1 and not hits:
            return 0.0
        logs += math.log((hits or 0.1) / max(1, sum(mine.values()))) / max_order
    size = len(hypothesis)
    closest = min((abs(len(reference) - size), len(reference)) for reference in references)[1]
    return math.exp(logs + (0.0 if size > closest else 1 - closest / size))


def levenshtein(left: Sequence[int], right: Sequence[int]) -> int:
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        corner, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


@given(sequences_, st.integers(1, 4))
def test_self_bleu_against_the_definition(sequences: list[list[int]], order: int) -> None:
    others = [[s for j, s in enumerate(sequences) if j != i] for i in range(len(sequences))]
    expected = [bleu(own, rest, order) for own, rest in zip(sequences, others, strict=True)] if others[1:] else [0.0]
    assert self_bleu(sequences, order) == pytest.approx(sum(expected) / len(expected), rel=1e-12, abs=1e-15)


@given(sequences_, st.integers(1, 4))
def test_distinct_against_the_definition(sequences: list[list[int]], order: int) -> None:
    pooled = sum((grams(sequence, order) for sequence in sequences), Counter())
    assert distinct_n(sequences, order) == (len(pooled) / pooled.total() if pooled else 0.0)


@given(sequences_)
def test_edit_distance_against_the_definition(sequences: list[list[int]]) -> None:
    pairs = list(combinations(sequences, 2))
    plain = [levenshtein(*pair) for pair in pairs] or [0]
    shares = [levenshtein(a, b) / max(len(a), len(b), 1) for a, b in pairs] or [0.0]
    assert mean_edit_distance(sequences) == pytest.approx(np.mean(plain))
    assert mean_edit_distance(sequences, normalize=True) == pytest.approx(np.mean(shares))
    assert mean_edit_distance(sequences, squared=True) == pytest.approx(np.mean(np.square(plain)))
    assert mean_edit_distance(sequences, normalize=True, squared=True) == pytest.approx(np.mean(np.square(shares)))


def test_long_sequences() -> None:
    """Columns of more bits than a machine word has."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        left, right = rng.integers(0, 6, 150).tolist(), rng.integers(0, 6, 210).tolist()
        assert mean_edit_distance([left, right]) == levenshtein(left, right)
    same = rng.integers(0, 6, 150).tolist()
    assert mean_edit_distance([same, [*same[:75], 99, *same[76:]]]) == 1.0


# ---- laws ------------------------------------------------------------------------------------------------------------


@given(sequences_, st.data())
def test_ranges_and_order(sequences: list[list[int]], data: st.DataObject) -> None:
    mixed = data.draw(st.permutations(sequences))
    for metric in (self_bleu, distinct_n, lambda s: mean_edit_distance(s, normalize=True)):
        value = metric(sequences)
        assert 0.0 <= value <= 1.0
        assert metric(mixed) == pytest.approx(value, abs=1e-12)


@given(st.lists(st.integers(0, 5), min_size=3, max_size=9), st.integers(2, 5))
def test_equal_sequences_are_as_alike_as_can_be(sequence: list[int], n: int) -> None:
    assert self_bleu([sequence] * n) == 1.0
    assert mean_edit_distance([sequence] * n) == 0.0


@given(st.tuples(*[st.lists(st.integers(0, 3), max_size=8)] * 3))
def test_edit_distance_is_a_metric(triple: tuple[list[int], list[int], list[int]]) -> None:
    def distance(left: list[int], right: list[int]) -> float:
        return mean_edit_distance([left, right])

    a, b, c = triple
    assert distance(a, b) == distance(b, a)
    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, c) <= distance(a, b) + distance(b, c)
    assert abs(len(a) - len(b)) <= distance(a, b) <= max(len(a), len(b))


@given(sequences_)
def test_only_equality_of_tokens_matters(sequences: list[list[int]]) -> None:
    arrays = [np.array(sequence, dtype=np.int32) for sequence in sequences]
    tuples = [tuple(("token", t) for t in sequence) for sequence in sequences]
    texts = [" \n".join(f"w{t}" for t in sequence) for sequence in sequences]
    far = [[7_000_000_000 * t - 3 for t in sequence] for sequence in sequences]
    for metric in (self_bleu, distinct_n, mean_edit_distance):
        value = metric(sequences)
        for same in (arrays, tuples, texts, far):
            assert metric(same) == pytest.approx(value, rel=1e-12, abs=1e-15)


@given(sequences_, st.integers(0, 3), st.integers(0, 3))
def test_pad_is_stripped_from_both_ends_only(sequences: list[list[int]], left: int, right: int) -> None:
    inner = [[5, *sequence, 5] for sequence in sequences]
    padded = [[9] * left + sequence + [9] * right for sequence in inner]
    words = [" ".join(map(str, sequence)) for sequence in padded]
    for metric in (self_bleu, distinct_n, mean_edit_distance):
        assert metric(padded, pad=9) == metric(inner)
        assert metric(words, pad="9") == pytest.approx(metric(inner), rel=1e-12)
    assert mean_edit_distance([[1, 9, 1], [1, 1]], pad=9) == 1.0
    assert mean_edit_distance([[9, 9], [1]], pad=9) == 1.0


def test_texts_are_split_at_white_space() -> None:
    assert distinct_n(["a  b\tc", "a b d"], 1) == pytest.approx(4 / 6)
    assert mean_edit_distance(["no spaces", "nospaces"]) == 2.0


def test_texts_beside_token_ids() -> None:
    assert self_bleu(["a b c", [1, 2, 3]]) == 0.0
    assert mean_edit_distance(["a b", ["a", "b"]]) == 0.0


def test_nothing_to_compare() -> None:
    nothing: list[list[list[int]]] = [[], [[]], [[], []], [[1, 2, 3]]]
    for sequences in nothing:
        assert self_bleu(sequences) == 0.0
        assert mean_edit_distance(sequences) == 0.0
    assert distinct_n([], 2) == distinct_n([[1]], 2) == 0.0


@pytest.mark.parametrize("order", [0, -1, 1.5, True, "3"])
def test_wrong_orders_are_refused(order: Any) -> None:
    with pytest.raises(InvalidParameter, match="must be an int in"):
        self_bleu([[1]], order)
    with pytest.raises(InvalidParameter, match="must be an int in"):
        distinct_n([[1]], order)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0, 1.0], [math.nan] * 3, [math.inf, 0.0, 0.0]])
def test_wrong_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(InvalidParameter, match="must be 3 floats"):
        self_bleu([[1], [1]], 3, weights=weights)


@pytest.mark.parametrize("wrong", [[[{"role": "assistant"}]] * 2, [3, 4], [None, "a"], [[[1]], [[2]]]])
def test_what_is_no_sequence_of_tokens_is_refused(wrong: Any) -> None:
    for metric in (self_bleu, distinct_n, mean_edit_distance):
        with pytest.raises(InvalidParameter, match="texts, or sequences of hashable tokens"):
            metric(wrong)
