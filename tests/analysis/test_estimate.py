from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from curri.analysis import estimate, estimate_prompts
from curri.errors import InvalidInput, InvalidParameter, UnknownName
from curri.estimators import PassRate
from curri.store import NewPrompt, PromptStore, Source, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REWARDS: dict[int, list[float]] = {1: [1, 1, 1], 2: [0, 0], 3: [1, 0, 1, 0], 4: [0.25, 0.5], 6: [1]}
ARMS = "aabbcc"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PromptStore]:
    """Prompts 1 and 2 in arm a, 3 and 4 in b, 5 and 6 in c, and one that is held out."""
    with open_store(tmp_path / "store.duckdb", create=True) as opened:
        opened.prompts.add([NewPrompt(f"q{i}", False, None, arm) for i, arm in enumerate(ARMS)])
        opened.prompts.add([NewPrompt("held out", False, None, "c", split="test")])
        yield opened


def add(store: PromptStore, model: str = "m", rewards: Any = None, **columns: Any) -> None:
    rewards = REWARDS | {7: [1]} if rewards is None else rewards
    ids = np.repeat(list(rewards), [len(group) for group in rewards.values()])
    flat = np.concatenate(list(rewards.values())).astype(np.float64)
    rows = {"prompt_id": ids, "sample": np.concatenate([np.arange(len(group)) for group in rewards.values()]),
            "reward": flat, "solved": flat, **columns}  # fmt: skip
    store.rollouts.add(Source(model), pa.table(rows))


def test_figures_of_each_arm(store: PromptStore) -> None:
    add(store, truncated=np.arange(13) < 2)
    table = estimate(store)
    assert table["arm"].to_list() == ["a", "b", "c"]
    assert table["prompts"].to_list() == [2, 2, 2]
    assert table["prompts_rolled_out"].to_list() == [2, 2, 1]
    assert table["responses"].to_list() == [5, 6, 1]
    np.testing.assert_allclose(table["mean_reward"], [3 / 5, 2.75 / 6, 1], rtol=1e-12)
    np.testing.assert_allclose(table["pass_rate"], [3 / 5, 2.75 / 6, 1], rtol=1e-12)
    assert table["always_right"].to_list() == [0.5, 0.0, 1.0]
    assert table["always_wrong"].to_list() == [0.5, 0.0, 0.0]
    np.testing.assert_allclose(table["truncated"], [2 / 5, 0, 0])


def test_posterior_and_live_share_are_those_of_the_estimator(store: PromptStore) -> None:
    add(store)
    rates = PassRate(6)
    for row, group in REWARDS.items():
        if row < 7:
            rates.update(np.full(len(group), row - 1), np.array(group), np.array(group), step=0)
    rows = [0, 1, 2, 3, 5]
    mean, sd = rates.mean(rows, step=0), np.sqrt(rates.variance(rows, step=0))
    live = rates.live_probability(rows, 8, step=0)
    table = estimate(store)
    for name, values in (("posterior_mean", mean), ("posterior_sd", sd), ("live_share", live)):
        np.testing.assert_allclose(table[name], [values[:2].mean(), values[2:4].mean(), values[4]], rtol=1e-12)
    prompts = estimate_prompts(store)
    np.testing.assert_allclose(prompts["posterior_mean"].to_numpy()[rows], mean, rtol=1e-12)
    np.testing.assert_allclose(prompts["live_probability"].to_numpy()[rows], live, rtol=1e-12)


def test_one_row_a_prompt(store: PromptStore) -> None:
    add(store)
    table = estimate_prompts(store)
    assert table["prompt_id"].to_list() == [1, 2, 3, 4, 5, 6]
    assert table["arm"].to_list() == list(ARMS)
    assert table["responses"].to_list() == [3, 2, 4, 2, 0, 1]
    assert table["mean_reward"].to_list() == [1, 0, 0.5, 0.375, None, 1]
    assert table["posterior_mean"][4] == 0.5


def test_all_arms_together(store: PromptStore) -> None:
    add(store)
    (row,) = estimate(store, by="all").to_dicts()
    flat = np.concatenate([REWARDS[row] for row in REWARDS])
    assert (row["arm"], row["prompts"], row["responses"]) == ("all", 6, 12)
    assert row["mean_reward"] == pytest.approx(flat.mean(), abs=1e-12)
    with pytest.raises(InvalidParameter, match='"arm" or "all"'):
        estimate(store, by="model")  # type: ignore[arg-type]


def test_rewards_that_are_no_pass_rates(store: PromptStore) -> None:
    add(store, rewards={1: [-1.0, 1.0]}, solved=pa.nulls(2, pa.float64()))
    row = estimate(store).to_dicts()[0]
    assert (row["mean_reward"], row["pass_rate"], row["always_right"], row["always_wrong"]) == (0.0, None, None, None)


def test_without_rollouts_nothing_is_made_up(store: PromptStore) -> None:
    table = estimate(store)
    assert table["prompts"].to_list() == [2, 2, 2]
    assert table["responses"].to_list() == [0, 0, 0]
    assert table["mean_reward"].null_count() == table["live_share"].null_count() == 3


def test_an_empty_store(tmp_path: Path) -> None:
    with open_store(tmp_path / "empty.duckdb", create=True) as store:
        assert estimate(store).shape == (0, 12)
        assert estimate_prompts(store).shape == (0, 10)
        assert estimate(store, by="all").height == 0


def test_the_model_has_to_be_named_where_there_are_several(store: PromptStore) -> None:
    add(store, "m")
    add(store, "n", {1: [0]})
    with pytest.raises(InvalidInput, match=r'"m" .* "n"'):
        estimate(store)
    with pytest.raises(UnknownName):
        estimate(store, "o")
    assert estimate(store, "n")["responses"].to_list() == [1, 0, 0]


def test_retired_prompts_count_as_well(store: PromptStore) -> None:
    add(store)
    store.connection.execute("update prompts set retired = true where prompt_id = 1")
    assert estimate(store)["responses"].to_list() == [5, 6, 1]
    assert estimate_prompts(store)["active"].to_list() == [False, *[True] * 5]
