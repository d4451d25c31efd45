"""Budgets: the reference's own numbers, exact sums, and bounds that hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.selectors import gvm_budget, gvm_shares, inverse_rate_budget, padded_counts

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "reinforce_ada.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["est_ema"]["cases"], ids=lambda case: case["name"])
def test_golden_est_ema_budgets(case: dict[str, Any]) -> None:
    a, b = case["bayes_alpha"], case["bayes_beta"]
    for step in case["steps"]:
        before = step["stats_before"]
        seen = [before.get(name, {"n_total": 0.0, "n_pos": 0.0}) for name in step["expected_budget"]]
        rates = [(a + one["n_pos"]) / (a + b + one["n_total"]) for one in seen]
        budget = inverse_rate_budget(rates, total=case["round_repeat"] * len(rates))
        assert budget.tolist() == list(step["expected_budget"].values())


@pytest.mark.parametrize("case", GOLDEN["gvm_budget"]["cases"], ids=lambda case: case["name"])
def test_golden_gvm_budget(case: dict[str, Any]) -> None:
    arguments = {"alpha": case["alpha"], "beta": case["beta"]}
    assert gvm_shares(case["p"], case["G"], **arguments) == pytest.approx(case["expected_ratio"], rel=1e-9)
    assert gvm_budget(case["p"], case["G"], case["N"], **arguments).tolist() == case["expected_counts"]


@pytest.mark.parametrize("case", GOLDEN["gvm_align_chunk"]["cases"], ids=lambda case: str(case["sample_sizes"]))
def test_golden_gvm_align_chunk(case: dict[str, Any]) -> None:
    assert padded_counts(case["sample_sizes"], case["n_gpus"]).tolist() == case["expected"]


# ---- inverse rates ---------------------------------------------------------------------------------------------------

rates = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30)
powers = st.sampled_from([0.0, 0.5, 1.0, 4.0, 300.0])


@given(rates, st.integers(0, 4), st.integers(0, 400), powers)
def test_budgets_add_up_and_keep_the_minimum(p: list[float], minimum: int, spare: int, power: float) -> None:
    total = minimum * len(p) + spare
    budget = inverse_rate_budget(p, total, minimum=minimum, power=power)
    assert budget.sum() == total
    assert budget.min() >= minimum
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(budget[order]) <= 1), "a lower rate never gets less, but for the rounding"


@given(rates, st.integers(0, 4), st.integers(0, 30), st.floats(0.0, 1.0), powers)
def test_budgets_keep_both_bounds(p: list[float], minimum: int, more: int, fill: float, power: float) -> None:
    maximum = minimum + more
    total = minimum * len(p) + int(fill * more * len(p))
    budget = inverse_rate_budget(p, total, minimum, maximum, power)
    assert budget.sum() == total
    assert minimum <= budget.min()
    assert budget.max() <= maximum


@given(rates, st.integers(1, 200))
def test_a_bound_that_does_not_bind_changes_nothing(p: list[float], spare: int) -> None:
    total = len(p) + spare
    free = inverse_rate_budget(p, total)
    assert inverse_rate_budget(p, total, maximum=int(free.max()) + 1).tolist() == free.tolist()


def test_power_weighs_between_equal_and_inverse() -> None:
    p = [0.64, 0.04, 0.01]
    assert inverse_rate_budget(p, 99, minimum=0, power=0.0).tolist() == [33, 33, 33]
    assert inverse_rate_budget(p, 65, minimum=0, power=0.5).tolist() == [5, 20, 40]
    assert inverse_rate_budget(p, 81, minimum=0, power=1.0).tolist() == [1, 16, 64]


def test_a_capped_prompt_leaves_its_surplus_to_the_others_in_proportion() -> None:
    assert inverse_rate_budget([0.4, 0.2, 0.0], 30, minimum=0, maximum=12).tolist() == [6, 12, 12]
    assert inverse_rate_budget([0.4, 0.2, 0.0], 21, minimum=0, maximum=12).tolist() == [3, 6, 12]


def test_ties_go_to_the_lower_index() -> None:
    assert inverse_rate_budget([0.5, 0.5, 0.5], 5).tolist() == [2, 2, 1]


def test_an_impossible_prompt_takes_all_but_what_a_maximum_leaves() -> None:
    p = [0.5] * 9 + [0.0]
    assert inverse_rate_budget(p, 80)[-1] == 71
    assert inverse_rate_budget(p, 80, maximum=16)[-1] == 16


def test_no_prompts() -> None:
    assert inverse_rate_budget([], 0).tolist() == []
    with pytest.raises(InvalidParameter, match="`total`"):
        inverse_rate_budget([], 1)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([0.5], 0), r"\[k·minimum, k·maximum\] = \[1, 1\]"),
        (([0.5, 0.5], 9, 1, 4), r"\[2, 8\]"),
        (([0.5], 4, 3, 2), r"\[3, 2\]"),
        (([0.5], 1.5), "`total`"),
        (([0.5], 4, -1), "`minimum`"),
        (([0.5], 4, 1, True), "`maximum`"),
        (([1.5], 4), "`rates`"),
        (([np.nan], 4), "`rates`"),
        (([[0.5]], 4), "`rates`"),
        (([0.5], 4, 1, None, -1.0), "`power`"),
        (([0.5], 4, 1, None, np.inf), "`power`"),
    ],
    ids=str,
)
def test_wrong_budgets(arguments: tuple[Any, ...], match: str) -> None:
    with pytest.raises(InvalidParameter, match=match):
        inverse_rate_budget(*arguments)


# ---- GVM -------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1e6)), max_size=30),
    st.integers(0, 500),
    st.sampled_from([0.0, 1e-3, 1.0]),
    st.sampled_from([0.5, 1.0, 2.0, 3.0, 300.0]),
)
def test_gvm_budgets_add_up(pairs: list[tuple[float, float]], total: int, alpha: float, beta: float) -> None:
    p, norms = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    shares = gvm_shares(p, norms, alpha, beta)
    budget = gvm_budget(p, norms, total, alpha, beta)
    assert budget.sum() == (total if shares.any() else 0)
    assert np.all(np.abs(budget - shares * total) <= 1.0 + 1e-9)
    assert np.all(budget >= 0)
    assert np.all(budget[shares == 0.0] == 0)


def test_gvm_funds_most_what_is_hard_but_not_too_hard() -> None:
    p = np.linspace(0.001, 1.0, 1000)
    assert p[np.argmax(gvm_shares(p, np.ones(1000)))] == pytest.approx(np.sqrt(1e-3), abs=1e-3)


def test_gvm_of_nothing() -> None:
    assert gvm_budget([], [], 8).tolist() == []
    assert gvm_budget([0.0, 0.5], [1.0, 0.0], 8).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([1.5], [1.0], 4), "`pass_rates`"),
        (([0.5], [-1.0], 4), "`grad_norms`"),
        (([0.5], [1.0, 1.0], 4), "`grad_norms`"),
        (([0.5], [1.0], -1), "`total` of `gvm_budget`"),
        (([0.5], [1.0], 4, -1.0), "`alpha`"),
        (([0.5], [1.0], 4, 1e-3, 0.0), "`beta`"),
    ],
    ids=str,
)
def test_wrong_gvm_budgets(arguments: tuple[Any, ...], match: str) -> None:
    with pytest.raises(InvalidParameter, match=match):
        gvm_budget(*arguments)


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 64))
def test_padding_reaches_the_next_multiple(counts: list[int], multiple: int) -> None:
    padded = padded_counts(counts, multiple)
    assert padded.sum() % multiple == 0
    assert padded.sum() - sum(counts) < multiple
    assert np.all(padded >= counts)
    if counts:
        added = padded - counts
        assert added.max() - added.min() <= 1


def test_padding_refuses() -> None:
    with pytest.raises(InvalidParameter, match="`multiple`"):
        padded_counts([1], 0)
    with pytest.raises(InvalidParameter, match="`counts`"):
        padded_counts([-1], 4)
