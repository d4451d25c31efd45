"""A pass rate that forgets by visits: the reference's traces, and what order and absence must not change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter
from curri.estimators import DecayedPassRate

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "reinforce_ada.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["est_ema"]["cases"], ids=lambda case: case["name"])
def test_golden_est_ema(case: dict[str, Any]) -> None:
    rates = DecayedPassRate(case["bayes_alpha"], case["bayes_beta"], case["bayes_ema_decay"])
    for step in case["steps"]:
        for name, before in step["stats_before"].items():
            assert rates.counts([name])[0][0] == pytest.approx(before["n_total"], rel=1e-12)
            prior = (case["bayes_alpha"] + before["n_pos"]) / (
                case["bayes_alpha"] + case["bayes_beta"] + before["n_total"]
            )
            assert rates.mean([name])[0] == pytest.approx(prior, rel=1e-12)
        drawn = step["rewards_drawn"]
        rates.update(np.repeat(list(drawn), [len(r) for r in drawn.values()]), np.concatenate(list(drawn.values())))
        for name, after in step["expected_stats_after"].items():
            total, positive = rates.counts([name])
            assert (total[0], positive[0]) == pytest.approx((after["n_total"], after["n_pos"]), rel=1e-12)


def test_a_prompt_never_seen_counts_as_one_in_seventeen() -> None:
    rates = DecayedPassRate()
    assert rates.mean([4, 5]).tolist() == [1 / 17, 1 / 17]
    assert rates.mean([]).tolist() == []
    assert len(rates) == 0
    assert np.isnan(DecayedPassRate(alpha=0, beta=0).mean([4])).all()


visits = st.lists(st.lists(st.tuples(st.integers(-3, 6), st.floats(0.0, 1.0)), max_size=12), min_size=1, max_size=6)


@given(visits, st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_same_as_a_dictionary(rounds: list[list[tuple[int, float]]], decay: float) -> None:
    rates = DecayedPassRate(decay=decay)
    kept: dict[int, list[float]] = {}
    for round_ in rounds:
        rates.update([i for i, _ in round_], [value for _, value in round_])
        for name in {i for i, _ in round_}:
            values = [value for i, value in round_ if i == name]
            total, positive = kept.get(name, [0.0, 0.0])
            kept[name] = [decay * total + len(values), decay * positive + sum(values)]
    assert len(rates) == len(kept)
    for name, counts in kept.items():
        found = np.concatenate(rates.counts([name]))
        assert found == pytest.approx(counts, abs=1e-9)
    mean = rates.mean(np.arange(-3, 7))
    assert np.all((mean >= 0.0) & (mean <= 1.0))


@given(visits)
def test_saved_and_loaded(rounds: list[list[tuple[int, float]]]) -> None:
    rates, again = DecayedPassRate(), DecayedPassRate()
    for round_ in rounds:
        rates.update([i for i, _ in round_], [value for _, value in round_])
    again.load(rates.state())
    rates.update([0, 1], [1, 0])
    again.update([0, 1], [1, 0])
    for name, array in rates.state().items():
        assert array.tolist() == again.state()[name].tolist()


def test_longer_names_fit_beside_shorter_ones() -> None:
    rates = DecayedPassRate()
    rates.update(["b"], [1])
    rates.update(["a much longer name"], [0])
    assert rates.counts(["a much longer name", "b", "c"])[0].tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("wrong", [{"alpha": -1.0}, {"beta": np.inf}, {"decay": 1.1}, {"decay": True}], ids=str)
def test_wrong_parameters(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=f"`{next(iter(wrong))}` of `DecayedPassRate`"):
        DecayedPassRate(**wrong)


def test_what_is_refused_changes_nothing() -> None:
    rates = DecayedPassRate()
    rates.update([1], [1])
    for ids, positive in (([1, 2], [1]), ([1], [1.5]), ([1], [np.nan]), (["x"], [1]), ([1.5], [1])):
        with pytest.raises(InvalidParameter):
            rates.update(ids, positive)
    for state in ({}, {"ids": [2, 1], "total": [1, 1], "positive": [1, 1]}):
        with pytest.raises(InvalidParameter, match="state"):
            rates.load(state)
    assert rates.counts([1, 2])[0].tolist() == [1.0, 0.0]
