from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from curri.analysis import estimate, estimate_prompts
from curri.errors import InvalidInput, InvalidParameter, UnknownName
from curri.estimators import arm_priors, expected_rate_score
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


def test_posteriors_start_from_the_spread_of_the_arm(store: PromptStore) -> None:
    add(store)
    arms, solved, judged = np.array([0, 0, 1, 1, 2, 2]), np.array([3.0, 0.0, 2.0, 0.75, 0.0, 1.0]), [3, 2, 4, 2, 0, 1]
    known = np.array(judged)
    priors = arm_priors(arms, solved, known, 3)[arms]
    a, b = priors[:, 0] + solved, priors[:, 1] + known - solved
    prompts = estimate_prompts(store)
    np.testing.assert_allclose(prompts["posterior_mean"], a / (a + b), rtol=1e-12)
    live = prompts["live_probability"].to_numpy()
    by_rate = expected_rate_score("live", a, b, n=8)
    whole = [0, 1, 5]  # the others have partial verdicts, or none
    np.testing.assert_allclose(live[whole], by_rate[whole], rtol=1e-12)
    table = estimate(store)
    np.testing.assert_allclose(table["posterior_mean"][2], a[5] / (a + b)[5], rtol=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), [(0.05, 2.0), (0.3, 0.3), (2.0, 0.2)])
def test_the_live_share_of_a_hard_or_easy_pool_is_foretold(tmp_path: Path, alpha: float, beta: float) -> None:
    """From four responses a prompt; a uniform prior is off by up to one half here."""
    rng = np.random.default_rng(0)
    rates = rng.beta(alpha, beta, 2000)
    with open_store(tmp_path / "pool.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"{i}?", is_chat=False, answer="1", arm="a") for i in range(2000)])
        right = rng.random((2000, 4)) < rates[:, None]
        add(store, rewards={1 + i: group for i, group in enumerate(right.astype(np.float64).tolist())})
        foretold = estimate(store)["live_share"][0]
    assert foretold == pytest.approx(np.mean(1.0 - rates**8 - (1.0 - rates) ** 8), abs=0.03)


def test_one_row_a_prompt(store: PromptStore) -> None:
    add(store)
    table = estimate_prompts(store)
    assert table["prompt_id"].to_list() == [1, 2, 3, 4, 5, 6]
    assert table["arm"].to_list() == list(ARMS)
    assert table["responses"].to_list() == [3, 2, 4, 2, 0, 1]
    assert table["mean_reward"].to_list() == [1, 0, 0.5, 0.375, None, 1]
    assert table["posterior_mean"][4] > 0.5, "like the prompt of its arm that was solved"


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
