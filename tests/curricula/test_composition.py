"""Two strategies in one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

import curri
from curri import PromptPool, Rollouts, Scheduler, open_store
from curri.cli import app
from curri.curricula import UCB, Uniform
from curri.curricula.composition import within
from curri.errors import InvalidParameter, RunMismatch, UnknownName
from curri.parameters import declared
from curri.registry import strategy
from curri.store import NewPrompt

if TYPE_CHECKING:
    from pathlib import Path


def test_arms_come_from_the_first_and_prompts_from_the_second() -> None:
    pool = PromptPool(range(60), ["dead"] * 30 + ["live"] * 30)
    both = strategy("ucb/uniform")(pool, seed=3, temperature=0.05, exploration=0.0)
    for _ in range(6):
        ids = both.ask(10).prompt_ids.repeat(8)
        both.tell(Rollouts(ids, (ids >= 30) * (np.arange(80) % 2)))
        both.advance()
    picks = [both.ask(10) for _ in range(3)]
    assert all((selection.arms == "live").all() for selection in picks)
    epoch = np.concatenate([selection.prompt_ids for selection in picks])
    assert np.unique(epoch).size >= 25  # `uniform` inside the arm: no prompt again before nearly all came
    assert np.isnan(picks[0].probability).all()


def test_parameters_of_the_second_have_a_prefix() -> None:
    both: Any = within(UCB, UCB)
    names = declared(both)
    assert {"temperature", "within_temperature", "seed", "cooldown"} <= names.keys()
    assert "within_seed" not in names
    built = both(PromptPool(range(4)), temperature=0.5, within_temperature=2.0)
    assert (built.parameters["temperature"], built.parameters["within_temperature"]) == (0.5, 2.0)
    with pytest.raises(InvalidParameter, match="`within_temperature` of `UCBThenUCB` must be a float in"):
        both(PromptPool(range(4)), within_temperature=-1.0)


def test_a_quota_goes_to_the_second_alone() -> None:
    both = within(UCB, Uniform)(PromptPool(range(20), ["a", "b"] * 10))
    assert (both.ask(6, quota={"a": 5, "b": 1}).arms == "a").sum() == 5


def test_only_two_plain_strategies() -> None:
    with pytest.raises(InvalidParameter, match="composed already"):
        strategy("ucb/uniform/ucb")
    with pytest.raises(UnknownName, match="unifrm"):
        strategy("ucb/unifrm")


def test_metrics_and_explanations_are_those_of_both() -> None:
    both = within(UCB, Uniform)(PromptPool(range(20), ["a", "b"] * 10))
    both.ask(4)
    metrics = both.metrics()
    assert "curriculum/ucb/uniform/arms/weight/a" in metrics
    assert "curriculum/ucb/uniform/prompts/epochs" in metrics
    assert set(both.explain(3)) == {"prompt_id", "arm", "active", "arms", "prompts"}


def test_what_one_part_alone_can_is_reached_through_the_whole() -> None:
    both: Any = strategy("ucb/vas")(PromptPool(range(20), ["a", "b"] * 10))
    assert both.arm_weights == pytest.approx({"a": 0.5, "b": 0.5})
    assert both.probes_due == 20
    with pytest.raises(AttributeError, match="`UCBThenVAS` has no attribute `parents`"):
        both.parents(3)


def test_on_the_command_line_and_in_a_run(tmp_path: Path) -> None:
    path = tmp_path / "p.duckdb"
    with open_store(path, create=True) as store:
        store.prompts.add([NewPrompt(f"{i} + 1?", is_chat=False, answer="", arm=f"arm{i % 3}") for i in range(60)])
    words = ["select", "--strategy", "ucb", "--within", "uniform", "-n", "9", "--run", "r", "--store", str(path)]
    done = CliRunner().invoke(app, [*words, "--param", "temperature=0.7", "--json"])
    assert done.exit_code == 0, done.output
    first = [row["prompt_id"] for row in json.loads(done.stdout)["rows"]]
    with curri.open_store(path) as store:
        scheduler = Scheduler(store, run="r")
        assert scheduler.run.strategy == "ucb/uniform"
        assert scheduler.ask(9).prompt_ids.tolist() == first
        assert scheduler.curriculum.parameters["temperature"] == 0.7
        scheduler.tell(np.repeat(first, 2), [1.0, 0.0] * 9)
        assert scheduler.round == 1
        with pytest.raises(RunMismatch):
            Scheduler(store, "ucb", run="r")
    refused = CliRunner().invoke(app, ["select", "--within", "uniform", "--run", "r", "-n", "2", "--store", str(path)])
    assert refused.exit_code == 2
    assert "--within goes with --strategy" in refused.output
