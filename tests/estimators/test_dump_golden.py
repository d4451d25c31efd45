"""DUMP's estimator, scores and advantages against values produced by its authors' code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from curri.estimators import AdvantageWindow, group_advantages, ucb_scores
from curri.selectors import softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "dump.json").read_text(encoding="utf-8"))


def cases(section: str) -> list[Any]:
    return [pytest.param(case, id=case["name"][:40]) for case in GOLDEN[section]["cases"]]


@pytest.mark.parametrize("case", cases("estimator_update"))
def test_estimator_update(case: dict[str, Any]) -> None:
    batches = [batch["advantages"] for batch in case.get("batches", [])]
    if "batches_rule" in case:
        batches = [[0.1 * t] * 100 for t in range(1, 6)]
    window = AdvantageWindow()
    for batch in batches:
        window.update(batch)
    expected = case["expected"]
    assert window.mean_abs == pytest.approx(expected["mu"], rel=1e-9)
    assert window.count == expected["n_samples"]
    assert len(window.values) == expected["window_len"]
    if expected["window_len"]:
        assert window.values[[0, -1]].tolist() == [expected["window_first"], expected["window_last"]]


def dump_weights(mean_abs: ArrayLike, count: ArrayLike) -> Floats:
    return softmax(ucb_scores(mean_abs, count), temperature=0.1)


@pytest.mark.parametrize("case", cases("ucb_softmax_weights"))
def test_ucb_softmax_weights(case: dict[str, Any]) -> None:
    arms = list(case["state"])
    weights = dump_weights(*([case["state"][arm][key] for arm in arms] for key in ("mean_abs_adv", "n")))
    assert weights == pytest.approx([case["expected_weights"][arm] for arm in arms], rel=1e-9)


def test_trace() -> None:
    windows = {arm: AdvantageWindow() for arm in GOLDEN["trace"]["arms"]}
    for step in GOLDEN["trace"]["steps"]:
        for arm, advantages in step.get("advantages", {}).items():
            if arm in windows:
                windows[arm].update(advantages)
        weights = dump_weights([w.mean_abs for w in windows.values()], [w.count for w in windows.values()])
        assert weights == pytest.approx([step["expected_weights"][arm] for arm in windows], rel=1e-9)
        for arm, n in step.get("expected_n", {}).items():
            assert windows[arm].count == n
            assert windows[arm].mean_abs == pytest.approx(step["expected_mean_abs_adv"][arm], rel=1e-9)


@pytest.mark.parametrize("case", cases("grpo_advantage_fed_to_dump"))
def test_grpo_advantages(case: dict[str, Any]) -> None:
    queues = {label: iter(rewards) for label, rewards in case["groups"].items()}
    rewards = [next(queues[label]) for label in case["order"]]
    found = group_advantages(rewards, case["order"])
    assert found == pytest.approx(case["expected_advantage_per_response"], rel=1e-5)
    assert np.abs(found).mean() == pytest.approx(case["mean_abs"], rel=1e-5)
