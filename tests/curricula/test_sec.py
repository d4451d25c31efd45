"""SEC: values and weights by hand, and both readings of what paper and code leave open."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from curri import PromptPool, Rollouts
from curri.curricula.sec import SEC
from curri.testing import Case, run_checks


def arms_pool(**sizes: int) -> PromptPool:
    names = [name for name, size in sizes.items() for _ in range(size)]
    return PromptPool(100 + np.arange(len(names)), names)


def learn(sec: SEC, **advantages: Any) -> None:
    """One round: these advantages for the first prompt of each arm."""
    for arm, values in advantages.items():
        first = sec.pool.ids[sec.pool.active_rows(sec.pool.arm_code(arm))][0]
        sec.tell(Rollouts(np.repeat(first, len(values)), np.zeros(len(values)), advantages=values))
    sec.advance()


def values(sec: SEC) -> dict[str, float]:
    start = "curriculum/sec/value/"
    return {name.removeprefix(start): value for name, value in sec.metrics().items() if name.startswith(start)}


def test_values_by_hand() -> None:
    sec = SEC(arms_pool(a=2, b=2, c=2), rate=0.25)
    learn(sec, a=[1.0, -0.6], b=[0.2, 0.2])  # r = .8 and .2
    assert values(sec) == pytest.approx({"a": 0.2, "b": 0.05, "c": 0.0})
    learn(sec, a=[0.4], c=[-1.0])
    assert values(sec) == pytest.approx({"a": 0.25 * 0.4 + 0.75 * 0.2, "b": 0.05, "c": 0.25})


def test_weights_by_hand() -> None:
    for temperature in (0.2, 0.4, 1.0):
        sec = SEC(arms_pool(a=2, b=2), temperature=temperature)
        learn(sec, a=[1.0, -1.0], b=[0.5, -0.5])
        high, low = np.exp(0.5 / temperature), np.exp(0.25 / temperature)
        assert sec.arm_weights == pytest.approx({"a": high / (high + low), "b": low / (high + low)})


def test_a_round_counts_as_one_whatever_its_size() -> None:
    sec = SEC(arms_pool(a=2, b=2))
    learn(sec, a=[0.6] * 100, b=[0.6])
    assert values(sec) == pytest.approx({"a": 0.3, "b": 0.3})


def test_responses_of_an_arm_count_alike() -> None:
    sec = SEC(arms_pool(a=2), rate=1.0)
    sec.tell(Rollouts([100] * 3 + [101], [0.0] * 4, advantages=[1.0, 1.0, 1.0, 0.0]))
    sec.advance()
    assert values(sec) == pytest.approx({"a": 0.75})


def test_absent_arms_keep_their_value_or_decay() -> None:
    for absent, wanted in (("keep", 0.5), ("decay", 0.125)):
        sec = SEC(arms_pool(a=2, b=2), absent=absent)
        learn(sec, a=[1.0], b=[1.0])
        learn(sec, a=[1.0])
        learn(sec, a=[1.0])
        assert values(sec) == pytest.approx({"a": 0.875, "b": wanted})


def test_a_round_without_responses_changes_nothing() -> None:
    sec = SEC(arms_pool(a=2, b=2), absent="decay")
    learn(sec, a=[1.0], b=[1.0])
    sec.advance()
    sec.tell(Rollouts([100], [1.0], kind="probe"))
    sec.advance()
    assert values(sec) == pytest.approx({"a": 0.5, "b": 0.5})


def test_an_optimistic_start_tries_every_arm() -> None:
    for initial, favourite in ((0.0, "a"), (1.0, "b")):
        sec = SEC(arms_pool(a=2, b=2), initial=initial, temperature=0.1, rate=1.0)
        learn(sec, a=[0.5])
        assert max(sec.arm_weights, key=sec.arm_weights.__getitem__) == favourite
        assert sec.metrics()["curriculum/sec/arms_unseen"] == 1
        assert sec.explain(102)["arm_value"] == initial


def test_advantages_of_nan_are_computed_from_rewards() -> None:
    sec = SEC(arms_pool(a=2), rate=1.0)
    sec.tell(Rollouts([100] * 4, [1, 0, 0, 1], advantages=[np.nan] * 4))
    sec.advance()
    assert values(sec) == pytest.approx({"a": np.sqrt(3) / 2}, rel=1e-5)


def test_normalize_std_off_follows_the_scale_of_rewards() -> None:
    for scale in (1.0, 10.0):
        sec = SEC(arms_pool(a=2), rate=1.0, normalize_std=False)
        sec.tell(Rollouts([100] * 4, np.array([1, 0, 0, 1]) * scale))
        sec.advance()
        assert values(sec) == pytest.approx({"a": 0.5 * scale})


def test_arms_all_mastered_are_even() -> None:
    sec = SEC(arms_pool(a=2, b=5))
    sec.tell(Rollouts(sec.pool.ids.repeat(2), np.ones(14)))
    sec.advance()
    assert sec.arm_weights == pytest.approx({"a": 0.5, "b": 0.5})


def test_prompts_inside_an_arm_uniformly_or_in_epochs() -> None:
    for inside, most in (("uniform", 5), ("epochs", 1)):
        sec = SEC(arms_pool(a=30), inside=inside)
        times: Counter[int] = Counter()
        for _ in range(5):
            times.update(sec.ask(6).prompt_ids.tolist())
        assert 1 < max(times.values()) <= 5 or inside == "epochs"
        assert max(times.values()) <= most
        assert ("curriculum/sec/unseen/a" in sec.metrics()) == (inside == "epochs")
        assert ("epoch" in sec.explain(100)) == (inside == "epochs")


def test_extreme_values() -> None:
    sec = SEC(arms_pool(a=3, b=3), temperature=5e-324, rate=1.0)
    learn(sec, a=[1e150, -1e150], b=[0.0])
    assert sec.arm_weights == {"a": 1.0, "b": 0.0}
    assert len(sec.ask(6)) == 6


def test_values_of_arms_that_are_away_are_kept() -> None:
    sec = SEC(arms_pool(a=2, b=2))
    learn(sec, a=[1.0])
    full = sec.pool
    sec.extend(full.retired([100, 101]))
    sec.advance()
    assert sec.arm_weights == {"b": 1.0}
    again = SEC(sec.pool)
    again.load_state_dict(sec.state_dict())
    again.extend(full)
    again.advance()
    assert values(again) == pytest.approx({"a": 0.5, "b": 0.0})


CASES = [
    Case(SEC),
    Case(SEC, {"absent": "decay", "initial": 1.0, "draw": "successive"}),
    Case(SEC, {"inside": "epochs", "normalize_std": False}),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_contract(case: Case) -> None:
    assert [result for result in run_checks(case) if not result.ok] == []
