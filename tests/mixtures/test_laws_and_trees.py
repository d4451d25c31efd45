"""The exponential laws and LightGBM."""

from __future__ import annotations

import numpy as np
import pytest

from curri.errors import InvalidData, InvalidParameter, MissingExtra
from curri.mixtures import data_mixing_law
from curri.mixtures._extras import optional
from curri.mixtures.surrogates import BoostedTrees, ExponentialLaw, OlmixLaw

pytest.importorskip("scipy")


@pytest.mark.parametrize("kind", [ExponentialLaw, OlmixLaw])
def test_the_law_is_recovered_from_clean_losses(kind: type[ExponentialLaw]) -> None:
    rng = np.random.default_rng(0)
    rows, new = rng.dirichlet(np.ones(4), 40), rng.dirichlet(np.ones(4), 50)
    c, k, t = 1.2, 0.8, np.array([-2.0, 0.5, 0.3, -0.4])
    model = kind().fit(rows, data_mixing_law(rows, c, k, t))
    assert model.mean(new) == pytest.approx(data_mixing_law(new, c, k, t), abs=5e-3)
    found = model.describe()
    assert found["c"] == pytest.approx(c, abs=0.05)
    assert found["A"] == pytest.approx(t + np.log(k), abs=0.1)  # k is no parameter of its own


def test_scores_that_level_off_take_the_minus_sign() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(3), 40)
    scores = 0.8 - 0.5 * np.exp(-rows @ np.array([4.0, 1.0, 0.2]))
    model = ExponentialLaw().fit(rows, scores)
    assert model.describe()["sign"] == -1.0
    assert model.mean(rows) == pytest.approx(scores, abs=5e-3)


def test_an_outlier_moves_the_law_little() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(3), 40)
    clean = 1.0 + np.exp(-rows @ np.array([2.0, 1.0, 0.0]))
    spoiled = clean.copy()
    spoiled[5] += 3.0
    keep = np.arange(40) != 5
    assert np.abs(ExponentialLaw().fit(rows, spoiled).mean(rows) - clean)[keep].max() < 0.05


def test_settings_of_the_law_are_checked() -> None:
    with pytest.raises(InvalidParameter, match="delta"):
        ExponentialLaw(delta=0.0)
    with pytest.raises(InvalidParameter, match="starts"):
        OlmixLaw(starts=0)


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(MissingExtra, match=r"this needs no_such_package.*\n.*curri\[mix\]"):
        optional("no_such_package.part", "this")


def test_trees_refuse_what_regmix_settings_answer_with_a_constant() -> None:
    rows = np.random.default_rng(0).dirichlet(np.ones(3), 49)
    with pytest.raises(InvalidData, match="at least 50"):
        BoostedTrees().fit(rows, rows[:, 0])


@pytest.mark.slow
def test_trees_learn_and_stop_early() -> None:
    pytest.importorskip("lightgbm")
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(3), 200)
    scores = rows[:, 0] ** 2 + 0.3 * rng.normal(size=200)
    model = BoostedTrees().fit(rows, scores)
    assert 1 <= model.trees < 1000
    assert np.square(model.mean(rows) - rows[:, 0] ** 2).mean() < 0.5 * (rows[:, 0] ** 2).var()
    # Replicates tell the noise that trees cannot.
    doubled = BoostedTrees().fit(
        np.vstack([rows, rows]), np.append(scores, rows[:, 0] ** 2 + 0.3 * rng.normal(size=200))
    )
    assert doubled.noise_std == pytest.approx(0.3, rel=0.25)
