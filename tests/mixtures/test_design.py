from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.mixtures import (
    dirichlet_design,
    exhaustion,
    hellinger,
    make_design,
    plan_runs,
    seed_design,
    space_filling,
    weight_caps,
)
from curri.mixtures.surrogates import SURROGATES


@pytest.mark.parametrize(("m", "rows"), [(1, 1), (2, 3), (3, 7), (5, 11), (17, 35)])
def test_seeds(m: int, rows: int) -> None:
    found = seed_design(m)
    assert found.shape == (rows, m)
    assert found.sum(axis=1) == pytest.approx(np.ones(rows))
    assert len(np.unique(found.round(9), axis=0)) == rows


def test_seeds_of_five_are_the_papers() -> None:
    found = seed_design(5)
    assert found[:5].tolist() == np.eye(5).tolist()
    assert found[5].tolist() == [0.0, 0.25, 0.25, 0.25, 0.25]
    assert found[10].tolist() == [0.2] * 5


@given(seed=st.integers(0, 1000), m=st.integers(2, 20), runs=st.integers(1, 40))
def test_draws_around_a_prior_keep_regmix_rules(seed: int, m: int, runs: int) -> None:
    prior = np.random.default_rng(seed).dirichlet(np.ones(m))
    found = dirichlet_design(prior, runs, seed=seed)
    assert found.shape == (runs, m)
    assert found.sum(axis=1) == pytest.approx(np.ones(runs))
    assert (found <= np.minimum(15.0 * prior, 1.0) + 3e-3).all()
    assert np.all((found == 0.0) | (found >= 1.9e-4))
    assert len(np.unique(found.round(7), axis=0)) == runs


def test_draws_keep_bounds_and_leave_unused_arms_out() -> None:
    found = dirichlet_design([0.5, 0.5, 0.0], 30, upper=[0.6, 1.0, 1.0], lower=[0.1, 0.0, 0.0])
    assert found[:, 0].max() <= 0.6 + 1e-9
    assert found[:, 0].min() >= 0.1 - 1e-9
    assert found[:, 2].max() <= 1e-9


def test_draws_that_cannot_differ_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="different mixtures could be drawn"):
        dirichlet_design([0.5, 0.5], 5, lower=[0.5, 0.5])


@given(seed=st.integers(0, 1000), m=st.integers(2, 8))
def test_space_filling_beats_random_points(seed: int, m: int) -> None:
    found = space_filling(m, 12, seed=seed)
    assert found.sum(axis=1) == pytest.approx(np.ones(12))
    apart = hellinger(found, found)[np.triu_indices(12, 1)].min()
    drawn = np.random.default_rng(seed).dirichlet(np.ones(m), 12)
    assert apart > hellinger(drawn, drawn)[np.triu_indices(12, 1)].min()


def test_space_filling_keeps_away_from_what_is_there_and_inside_the_bounds() -> None:
    existing = seed_design(3)
    found = space_filling(3, 5, existing=existing, upper=[0.5, 1.0, 1.0])
    assert found[:, 0].max() <= 0.5 + 1e-9
    assert hellinger(found, existing).min() > 0.1


@given(
    m=st.integers(1, 12),
    runs=st.integers(1, 40),
    replicates=st.integers(0, 5),
    method=st.sampled_from(["auto", "dirichlet", "space", "seeds"]),
    natural=st.booleans(),
    seed=st.integers(0, 100),
)
def test_a_plan_has_as_many_runs_as_asked_for(
    m: int, runs: int, replicates: int, method: str, natural: bool, seed: int
) -> None:
    replicates = min(replicates, runs - 1)
    prior = np.random.default_rng(seed).dirichlet(np.ones(m)) if natural else None
    upper = max(0.8, 1.0 / m) if m > 1 else 1.0
    plan = make_design(m, runs, method=method, prior=prior, upper=upper, replicates=replicates, seed=seed)  # type: ignore[arg-type]
    assert plan.weights.shape == (runs, m)
    assert len(plan.kinds) == runs
    assert plan.weights.sum(axis=1) == pytest.approx(np.ones(runs))
    assert plan.weights.max() <= upper + 1e-9
    assert plan.kinds.count("replicate") == replicates
    for row in np.flatnonzero(np.array(plan.kinds) == "replicate"):
        assert (np.abs(plan.weights[: runs - replicates] - plan.weights[row]).max(axis=1) < 1e-12).any()


def test_the_centre_is_repeated_first() -> None:
    plan = make_design(3, 12, prior=[0.6, 0.3, 0.1], replicates=2)
    assert plan.kinds[0] == "natural"
    assert plan.weights[-2] == pytest.approx([0.6, 0.3, 0.1])
    assert set(plan.kinds) == {"natural", "dirichlet", "space", "replicate"}


def test_seeds_are_part_of_a_large_plan() -> None:
    plan = make_design(3, 20)
    assert plan.kinds.count("single") == 3
    assert plan.kinds.count("without") == 3
    assert plan.kinds.count("uniform") == 1


def test_the_same_seed_gives_the_same_plan() -> None:
    first, second, other = (make_design(4, 15, prior=[0.4, 0.3, 0.2, 0.1], seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.weights, second.weights)
    assert not np.array_equal(first.weights, other.weights)


@pytest.mark.parametrize(("runs", "replicates"), [(0, 0), (3, 3), (3, -1)])
def test_impossible_plans_are_refused(runs: int, replicates: int) -> None:
    with pytest.raises(InvalidParameter, match="replicates"):
        make_design(3, runs, replicates=replicates)


def test_needs_cover_all_surrogates_and_judge_the_number_of_runs() -> None:
    needs = {each.surrogate: each for each in plan_runs(5, 11)}
    assert set(needs) == set(SURROGATES)
    assert needs["best"].possible
    assert needs["scheffe"].possible is False
    assert needs["gp-ard"].possible
    assert needs["gp-ard"].enough is False
    assert all(each.minimum <= each.sensible for each in needs.values())
    assert plan_runs(5)[0].possible is None
    with pytest.raises(InvalidParameter):
        plan_runs(0)


def test_exhaustion_names_the_arm_and_the_step() -> None:
    found = exhaustion([[0.5, 0.5], [0.9, 0.1]], [1000, 100], 500, 4)
    assert found.epochs.tolist() == [[1.0, 10.0], [1.8, 2.0]]
    assert found.first.tolist() == [1, 1]
    assert found.stop_step.tolist() == [50, 250]
    assert found.early.all()
    again = exhaustion([[0.5, 0.5], [0.9, 0.1]], [1000, 100], 500, 4, max_epochs=2.0)
    assert again.early.tolist() == [True, False]


def test_an_empty_dataset_runs_out_at_once_where_it_is_used() -> None:
    found = exhaustion([[1.0, 0.0], [0.5, 0.5]], [100, 0], 10, 1)
    assert found.stop_step.tolist() == [10, 0]
    assert weight_caps([100, 0, np.inf], 1000).tolist() == [0.1, 0.0, 1.0]


@pytest.mark.parametrize(
    ("sizes", "steps", "per_step", "epochs"),
    [([-1, 1], 10, 1, 1), ([1, np.nan], 10, 1, 1), ([1, 1], 0, 1, 1), ([1, 1], 10, 0, 1), ([1, 1], 10, 1, 0)],
)
def test_bad_budgets_are_refused(sizes: list[float], steps: int, per_step: float, epochs: float) -> None:
    with pytest.raises(InvalidParameter):
        exhaustion([0.5, 0.5], sizes, steps, per_step, max_epochs=epochs)
