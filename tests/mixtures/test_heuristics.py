from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidData, InvalidParameter
from curri.mixtures import aioli_update, alpha_family, coli_weights, leave_one_out_weights, paper_search, seed_design

SCORES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8)


def test_single_runs_count_as_alpha_single_says() -> None:
    records = [
        {"datasets": ["a"], "In": 1.0, "Out": 1.0},
        {"datasets": ["b"], "In": 0.0, "Out": 0.0},
        {"datasets": ["b", "c"], "In": 0.5, "Out": 0.5},
    ]
    full = alpha_family(records)["Ain"]
    # S = [1, .5, .5] with alpha_single 1 and [0, .5, .5] with 0.
    assert full.tolist() == [1.0, 0.0, 0.0]
    assert alpha_family(records, alpha_single=0.0)["Ain"].tolist() == [0.0, 0.5, 0.5]


def test_equal_scores_give_uniform_weights() -> None:
    records = [{"datasets": [name], "In": 0.3, "Out": 0.3} for name in "abc"]
    assert alpha_family(records)["Abal"] == pytest.approx(np.full(3, 1 / 3))
    assert leave_one_out_weights([0.3, 0.3]) == pytest.approx([0.5, 0.5])
    assert coli_weights(np.eye(2), [0.0, 0.0]) == pytest.approx([0.5, 0.5])


def test_bad_records_are_refused() -> None:
    with pytest.raises(InvalidData, match='lacks "Out"'):
        alpha_family([{"datasets": ["a"], "In": 1.0}])
    with pytest.raises(InvalidData, match="not one of"):
        alpha_family([{"datasets": ["a"], "In": 1.0, "Out": 1.0}], ["b"])
    with pytest.raises(InvalidData, match="at least one record"):
        alpha_family([])
    with pytest.raises(InvalidParameter, match="alpha_single"):
        alpha_family([{"datasets": ["a"], "In": 1.0, "Out": 1.0}], alpha_single=2.0)


def test_coli_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    used, scores = rng.random((12, 4)) < 0.6, rng.random(12)
    inverse = np.linalg.inv(used.T.astype(float) @ used + 1e-3 * np.eye(4))
    raw = np.maximum(inverse @ used.T @ scores / np.diag(inverse), 0.0)
    assert coli_weights(used, scores) == pytest.approx(raw / raw.sum())


def test_coli_on_the_seed_design_does_not_correct() -> None:
    # By symmetry all VIFs are equal there, so that the weights follow the coefficients.
    used = seed_design(5) > 0
    scores = np.random.default_rng(1).random(11) + 0.5
    beta = np.linalg.solve(used.T.astype(float) @ used + 1e-3 * np.eye(5), used.T @ scores)
    assert coli_weights(used, scores) == pytest.approx(np.maximum(beta, 0) / np.maximum(beta, 0).sum())


@given(SCORES)
def test_leave_one_out_weights_fall_with_the_score_without(scores: list[float]) -> None:
    found = leave_one_out_weights(scores)
    assert found.sum() == pytest.approx(1.0)
    order = np.argsort(scores, kind="stable")
    assert (np.diff(found[order]) <= 1e-12).all()
    assert found.max() <= 2.0 * found.min() + 1e-9


@pytest.mark.parametrize("scores", [[], [np.nan], [[1.0]]])
def test_bad_scores_are_refused(scores: list[float]) -> None:
    with pytest.raises(InvalidParameter):
        leave_one_out_weights(scores)
    with pytest.raises(InvalidParameter):
        coli_weights(np.eye(2), scores)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="drop"):
        leave_one_out_weights([1.0, 2.0], drop=0.3)
    with pytest.raises(InvalidParameter, match="ridge"):
        coli_weights(np.eye(2), [1.0, 2.0], ridge=0.0)
    with pytest.raises(InvalidParameter, match="rate"):
        aioli_update([0.5, 0.5], np.eye(2), rate=0.0)
    with pytest.raises(InvalidParameter, match="shape"):
        aioli_update([0.5, 0.5], np.eye(3))


def test_aioli_shifts_negative_drops() -> None:
    found = aioli_update([0.5, 0.5], [[-1.0, 1.0]], rate=1.0)
    assert found == pytest.approx(np.array([1.0, np.e]) / (1.0 + np.e))


def test_the_papers_search_finds_the_optimum_of_a_clean_quadratic() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(3), 40)
    best = np.array([0.5, 0.3, 0.2])
    found = paper_search(rows, -np.square(rows - best).sum(axis=1), top=5)
    assert found.test_r2 == pytest.approx(np.ones(5))
    assert found.weights[0] == pytest.approx(best, abs=0.05)
    assert (np.diff(found.predictions) <= 0.0).all()
    assert found.weights.sum(axis=1) == pytest.approx(np.ones(5))
    ours = found.a + found.weights @ found.b + ((found.weights @ found.C) * found.weights).sum(axis=1)
    assert ours == pytest.approx(found.predictions)


def test_the_papers_choice_of_a_split_flatters_on_noise() -> None:
    rng = np.random.default_rng(3)
    best = [paper_search(rng.dirichlet(np.ones(5), 31), rng.normal(size=31), seed=seed).test_r2 for seed in range(20)]
    assert np.median([each.max() for each in best]) > np.median(np.concatenate(best))
    assert any(each.max() > 0.0 for each in best)  # although there is nothing to find


def test_the_papers_search_refuses_what_it_cannot_do() -> None:
    with pytest.raises(InvalidData, match="at least 5 runs"):
        paper_search(np.eye(3), [1.0, 2.0, 3.0])
    with pytest.raises(InvalidParameter, match="finite"):
        paper_search(seed_design(3), [np.nan] * 7)
    with pytest.raises(InvalidParameter, match="at least 1"):
        paper_search(seed_design(3), np.arange(7.0), top=0)
