from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.mixtures.surrogates import Best, LinearRidge, MeanOnly, QuadraticRidge, share_evidence, stacking_weights

pytest.importorskip("scipy")


@given(seed=st.integers(0, 1000), members=st.integers(1, 5), prior=st.sampled_from([0.0, 0.2, 3.0]))
def test_shares_sum_to_one_and_no_other_shares_do_better(seed: int, members: int, prior: float) -> None:
    rng = np.random.default_rng(seed)
    density = rng.normal(size=(15, members))
    shares = stacking_weights(density, prior)
    assert shares.sum() == pytest.approx(1.0)
    assert shares.min() >= 0.0

    def objective(v: np.ndarray) -> float:
        return float(np.log(np.exp(density) @ v).sum() + (prior * np.log(v).sum() if prior else 0.0))

    best = objective(shares)
    for other in rng.dirichlet(np.ones(members), 50):
        assert objective(other) <= best + 1e-3


def test_the_member_that_predicts_gets_the_weight() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(3), 60)
    curved = 4 * rows[:, 0] * rows[:, 1] + 0.05 * rng.normal(size=60)
    members = (MeanOnly, LinearRidge, QuadraticRidge)
    found = Best(members=members).fit(rows, curved)
    assert found.chosen == "quadratic"
    assert found.shares[2] > 0.9
    straight = Best(members=members).fit(rows, rows[:, 0] + 0.05 * rng.normal(size=60))
    assert straight.chosen != "mean"
    noise = Best(members=members).fit(rows, rng.normal(size=60))
    assert noise.mean(rows).std() < 0.3


def test_members_that_need_more_runs_step_aside() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(5), 10)
    found = Best().fit(rows, rows[:, 0])
    names = list(found.describe()["shares"])
    assert names == ["linear", "quadratic", "gp", "gp-shrunk", "gp-ard"]
    assert list(Best().fit(rows[:9], rows[:9, 0]).describe()["shares"]) == ["gp", "gp-shrunk", "gp-ard"]
    assert list(Best().fit(rows[:5], rows[:5, 0]).describe()["shares"]) == ["gp"]
    assert list(Best().fit(rows[:3], rows[:3, 0]).describe()["shares"]) == ["mean"]


def test_variance_holds_the_members_disagreement() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(3), 12)
    found = Best().fit(rows, rows[:, 0] ** 2 + 0.1 * rng.normal(size=12))
    corner = np.eye(3)
    centres = np.array([member.mean(corner) for member in found.members])
    mean, std = found.predict(corner)
    assert mean == pytest.approx(found.shares @ centres)
    spread = found.shares @ (centres - mean) ** 2
    assert (std**2 >= spread).all()


def test_targets_of_the_same_mixtures_share_what_suits_them() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(3), 14)
    clean = [Best().fit(rows, np.exp(-3 * rows[:, k]) + 0.01 * rng.normal(size=14)) for k in range(3)]
    unsure = Best().fit(rows, np.exp(-3 * rows[:, 0]) + 0.15 * rng.normal(size=14))
    before = unsure.shares.copy()
    pooled = np.mean([each.shares for each in [*clean, unsure]], axis=0)
    share_evidence([*clean, unsure, MeanOnly().fit(rows, rows[:, 0])])
    assert np.abs(unsure.shares - pooled).sum() < np.abs(before - pooled).sum()
    assert unsure.shares.sum() == pytest.approx(1.0)


def test_one_target_shares_with_nobody() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(3), 14)
    only = Best().fit(rows, rows[:, 0] + 0.1 * rng.normal(size=14))
    before = only.shares.copy()
    share_evidence([only, Best().fit(rows, np.ones(14))])
    assert np.array_equal(only.shares, before)
