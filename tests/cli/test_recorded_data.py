"""The main job on recorded data: 90,450 responses of nine models to 10,050 reasoning-gym prompts."""

from __future__ import annotations

import csv
import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from curri.cli import app

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "anthropic_claude-3.5-sonnet"


class Recorded:
    """The recorded scores, and a store that holds them."""

    def __init__(self, table: Path, folder: Path) -> None:
        self.store = str(folder / "recorded.duckdb")
        self.scores: dict[str, dict[str, list[float]]] = {}
        self.n_rows = 0
        prompts: dict[str, dict[str, str]] = {}
        with gzip.open(table, "rt") as lines, (folder / "rollouts.jsonl").open("w") as rollouts:
            for row in csv.DictReader(lines):
                self.n_rows += 1
                arm = row["dataset"]
                for index, text in enumerate(row["scores_per_prompt"].split(";")):
                    name = f"{row['level']}/{arm}/{index}"
                    prompts[name] = {"prompt": name, "id": name, "arm": arm}
                    scores = [float(score) for score in text.split()]
                    self.scores.setdefault(row["model"], {}).setdefault(arm, []).extend(scores)
                    rollouts.write(json.dumps({"id": name, "model": row["model"], "rewards": scores}) + "\n")
        (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts.values()))
        self.prompts = prompts
        self("init")
        self("ingest", str(folder / "prompts.jsonl"))
        self.imported = self("rollouts", "import", str(folder / "rollouts.jsonl"))

    def __call__(self, *words: str, code: int = 0) -> dict[str, Any]:
        result = CliRunner().invoke(app, [*words, "--store", self.store, "--json"])
        assert result.exit_code == code, result.output
        document: dict[str, Any] = json.loads(result.stdout)
        return document


@pytest.fixture(scope="module")
def recorded(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    table = shared / "data" / "passrates" / "reasoning_gym_scores.csv.gz"
    if not table.exists():
        pytest.skip(f"needs {table}, which is not part of the repository")
    return Recorded(table, tmp_path_factory.mktemp("recorded"))


def test_all_of_it_is_in_the_store(recorded: Recorded) -> None:
    everything = np.concatenate([scores for arms in recorded.scores.values() for scores in arms.values()])
    assert (recorded.n_rows, everything.size, recorded.imported["added"]) == (1003, 90_450, 90_450)
    fractional = np.mean((everything > 0) & (everything < 1))
    assert 0.1 < fractional < 0.2
    assert recorded("store", "info")["prompts"] == len(recorded.prompts)


def test_mean_rewards_of_every_arm_and_model_equal_a_direct_computation(recorded: Recorded) -> None:
    assert len(recorded.scores) > 5
    for model, arms in recorded.scores.items():
        rows = {row["arm"]: row for row in recorded("estimate", "--model", model)["rows"]}
        for arm, row in rows.items():
            if arm in arms:
                assert row["mean_reward"] == pytest.approx(float(np.mean(arms[arm])), abs=1e-9)
                assert row["responses"] == len(arms[arm])
            else:
                assert (row["mean_reward"], row["responses"]) == (None, 0)


def test_the_model_has_to_be_named(recorded: Recorded) -> None:
    for words in (["estimate"], ["select", "--strategy", "ucb", "-n", "512"]):
        error = recorded(*words, code=1)["error"]
        assert MODEL in error["message"]
        assert "--model" in error["hint"]


def test_ucb_picks_over_the_arms_by_what_the_model_did(recorded: Recorded) -> None:
    found = recorded("select", "--strategy", "ucb", "-n", "512", "--model", MODEL)
    ids = [row["prompt_id"] for row in found["rows"]]
    assert len(set(ids)) == len(ids) == 512
    arms = {row["arm"] for row in recorded("estimate", "--model", MODEL)["rows"]}
    assert set(found["arms"]) <= arms
    assert len(found["arms"]) > 20
    assert sum(found["arms"].values()) == 512
    other = recorded("select", "--strategy", "ucb", "-n", "512", "--model", "openai_o3-mini")
    assert other["arms"] != found["arms"]
    assert recorded("select", "--strategy", "ucb", "-n", "512", "--model", MODEL)["rows"] == found["rows"]
    assert recorded("store", "info")["runs"] == []
