"""Imported pass rates beside those of the store's own rollouts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from curri.analysis import estimate_priors, estimate_prompts, with_priors
from curri.cli import app
from curri.store import NewPrompt, PromptStore, Source, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PromptStore]:
    """Prompts 1 to 4 in the arms a and b, 5 held out; rollouts of 1; rates of "big" in use, and of "small"."""
    with open_store(tmp_path / "store.duckdb", create=True) as opened:
        opened.prompts.add([NewPrompt(f"q{i}", False, None, "aabb"[i]) for i in range(4)])
        opened.prompts.add([NewPrompt("held out", False, None, "b", split="test")])
        opened.rollouts.add(Source("m"), pa.table({"prompt_id": [1, 1], "reward": [1.0, 0.0], "solved": [1.0, 0.0]}))
        opened.priors.set("big", np.array([1, 2, 3]), np.array([0.5, 1.0, 0.25]), np.array([4, 12, 8]), source="b.csv")
        opened.priors.set("small", np.array([4, 5]), np.array([0.0, 1.0]), np.array([2, 2]), source="s.csv")
        opened.priors.use("big")
        yield opened


def test_each_model_by_arm_with_its_source(store: PromptStore) -> None:
    big, small = estimate_priors(store)
    assert (big["model"], big["in_use"], big["sources"]) == ("big", True, ["b.csv"])
    assert big["arms"] == [
        {"arm": "a", "prompts": 2, "responses": 16, "pass_rate": 14 / 16},
        {"arm": "b", "prompts": 1, "responses": 8, "pass_rate": 0.25},
    ]
    assert (small["in_use"], small["arms"]) == (False, [{"arm": "b", "prompts": 1, "responses": 2, "pass_rate": 0.0}])
    (only, _) = estimate_priors(store, [2])
    assert only["arms"] == [{"arm": "a", "prompts": 1, "responses": 12, "pass_rate": 1.0}]


def test_prompts_have_the_rate_in_use(store: PromptStore) -> None:
    rows = with_priors(store, estimate_prompts(store)).to_dicts()
    assert [row["prompt_id"] for row in rows] == [1, 2, 3, 4]
    assert [row["prior_rate"] for row in rows] == [0.5, 1.0, 0.25, None]
    assert [row["prior_n"] for row in rows] == [4, 12, 8, None]
    assert {row["prior_model"] for row in rows} == {"big"}
    assert rows[0]["pass_rate"] == 0.5
    assert rows[3]["prior_source"] is None


def test_a_store_without_any(tmp_path: Path) -> None:
    with open_store(tmp_path / "bare.duckdb", create=True) as bare:
        assert estimate_priors(bare) == []
        assert "prior_rate" not in with_priors(bare, estimate_prompts(bare)).columns


def test_on_the_command_line(store: PromptStore) -> None:
    words = ["estimate", "--store", str(store.path)]
    store.close()

    def run(*more: str) -> Any:
        done = CliRunner().invoke(app, [*words, *more])
        assert done.exit_code == 0, done.output
        return done

    shown = run()
    heading, _, of_a, of_b = shown.stdout.splitlines()
    assert heading.split()[-4:] == ["prior", "1", "prior", "2"]
    assert of_a.split()[-2:] == ["87.5%", "-"]
    assert of_b.split()[-2:] == ["25.0%", "0.0%"]
    assert "prior 1: pass rate of big, which strategies go by: 24 responses to 3 prompts" in shown.stderr
    assert "imported from s.csv" in shown.stderr
    document = json.loads(run("--json").stdout)
    assert [entry["model"] for entry in document["priors"]] == ["big", "small"]
    assert document["rows"][0]["responses"] == 2
    first = json.loads(run("--per-prompt").stdout.splitlines()[0])
    assert (first["pass_rate"], first["prior_rate"]) == (0.5, 0.5)
    assert (first["prior_model"], first["prior_source"]) == ("big", "b.csv")
