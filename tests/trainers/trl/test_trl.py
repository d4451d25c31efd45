"""Real GRPO and RLOO on the CPU, with prompts picked by curri."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from datasets import Dataset

import curri
from curri.errors import CurriError, InvalidData, StateMismatch
from tests.trainers.trl import tiny

if TYPE_CHECKING:
    from collections.abc import Callable

    from curri.store import PromptStore

pytestmark = [
    pytest.mark.filterwarnings("default"),  # TRL and Hugging Face's own warnings are theirs to mend
]
STRATEGIES = ("uniform", "ucb", "mopps", "pcl", "vas", "frontier")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_trains(trainer: Callable[..., Any], store: PromptStore, strategy: str) -> None:
    scheduler = curri.Scheduler(store, strategy, run="r", group_size=4)
    running = trainer(scheduler, reward=tiny.first_digit)
    running.train()
    metrics = running.sampler.metrics()
    assert running.state.global_step == 6
    assert metrics["scheduler/groups_told"] == 24
    assert metrics["scheduler/prompts_trained"] == 24
    assert metrics[f"curriculum/{strategy}/responses_folded"] == 96
    assert store.connection.value("select count(*) from rollouts where tokens > 0 and policy_version is not null") == 96


def test_rloo_trains_too(trainer: Callable[..., Any], store: PromptStore) -> None:
    running = trainer(
        curri.Scheduler(store, "ucb", run="r", group_size=4), kind="rloo", reward=tiny.first_digit, beta=0.0
    )
    running.train()
    assert running.sampler.metrics()["scheduler/groups_told"] == 24


@pytest.mark.parametrize(
    ("accumulation", "per_generation", "iterations", "workers", "stale"),
    [(1, 1, 1, 0, 1), (2, 2, 1, 0, 1), (2, 4, 1, 0, 0), (2, 2, 2, 0, 0), (2, 2, 1, 1, 2), (2, 2, 1, 2, 3)],
)
def test_how_stale_the_picks_are(
    trainer: Callable[..., Any],
    store: PromptStore,
    accumulation: int,
    per_generation: int,
    iterations: int,
    workers: int,
    stale: int,
) -> None:
    running = trainer(
        curri.Scheduler(store, "uniform", run="r", group_size=4),
        gradient_accumulation_steps=accumulation,
        steps_per_generation=per_generation,
        num_iterations=iterations,
        dataloader_num_workers=workers,
        max_steps=8,
        per_device_train_batch_size=8 if per_generation < 4 else 4,
    )
    running.train()
    assert running.sampler.metrics()["sampler/staleness_max"] == stale


def test_a_bound_on_staleness_stops_a_run_that_breaks_it(trainer: Callable[..., Any], store: PromptStore) -> None:
    running = trainer(curri.Scheduler(store, "uniform", run="r", group_size=4), curri_settings={"max_staleness": 0})
    with pytest.raises(CurriError, match="max_staleness"):
        running.train()


def test_rows_without_ids_are_refused_before_anything_is_generated(store: PromptStore, tmp_path: Path) -> None:
    scheduler = curri.Scheduler(store, "uniform", run="r", group_size=4)
    rows = [{"prompt": s["prompt"], "answer": s["answer"]} for s in tiny.sums(60)]
    with pytest.raises(InvalidData, match="prompt_id"):
        tiny.trainer(Dataset.from_list(rows), scheduler, tmp_path / "out").train()
    doubled = [{**row, "prompt_id": 1 + i % 30} for i, row in enumerate(rows)]
    with pytest.raises(InvalidData):
        tiny.trainer(Dataset.from_list(doubled), scheduler, tmp_path / "out").train()


def test_responses_that_nobody_scored_are_lost_not_wrong(trainer: Callable[..., Any], store: PromptStore) -> None:
    def some(prompt_id: list[int], **_: Any) -> list[float | None]:
        return [None if prompt % 2 else float(i % 2) for i, prompt in enumerate(prompt_id)]

    running = trainer(curri.Scheduler(store, "uniform", run="r", group_size=4), reward=some)
    running.train()
    lost = store.connection.rows("select distinct prompt_id % 2, reason from ledger where event = 'lost'")
    assert lost == [(1, "no reward function scored it")]


def test_a_prompt_scored_in_part_is_told_whatever_the_dataset_gives_its_id_as(
    trainer: Callable[..., Any], store: PromptStore
) -> None:
    def half(prompt_id: list[Any], **_: Any) -> list[float | None]:
        return [float(i % 4 == 0) if i % 2 == 0 else None for i, _ in enumerate(prompt_id)]

    running = trainer(curri.Scheduler(store, "uniform", run="r", group_size=4), reward=half)
    running.train_dataset = running.train_dataset.with_format("torch")  # ids are tensors then
    running.train()
    events = store.connection.rows("select event, count(*) from ledger where event <> 'issued' group by event")
    assert events == [("trained", 24)]
    assert store.connection.value("select count(*) from rollouts") == 48


def test_a_full_score_of_several_weighted_rewards_is_solved(trainer: Callable[..., Any], store: PromptStore) -> None:
    def right(prompt_id: list[int], **_: Any) -> list[float]:
        return [float(i % 2) for i, _ in enumerate(prompt_id)]

    weights = [0.05, 0.6, 0.15, 0.2]  # add up to 1.0000001 in single precision
    scheduler = curri.Scheduler(store, "uniform", run="r", group_size=4)
    trainer(scheduler, reward=[right] * 4, reward_weights=weights).train()
    assert store.connection.rows("select distinct solved from rollouts order by solved") == [(0.0,), (1.0,)]


def test_a_strategy_without_a_store_goes_on_from_a_checkpoint(
    trainer: Callable[..., Any], store: PromptStore, tmp_path: Path
) -> None:
    def fresh() -> Any:
        return curri.curricula.MoPPS(store.pool(), seed=5, group_size=4)

    whole = trainer(fresh(), max_steps=8)
    picks = record(whole)
    whole.train()
    first = trainer(fresh(), max_steps=4, save_strategy="steps", save_steps=4)
    begun = record(first)
    first.train()
    rest = trainer(fresh(), max_steps=8)
    more = record(rest)
    rest.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    assert begun[:4] + more == picks


REUSED: dict[str, Any] = {"num_iterations": 2, "lr_scheduler_type": "constant"}  # four batches a generation


def test_a_checkpoint_between_two_uses_of_a_generation_goes_on_with_the_second(
    trainer: Callable[..., Any], store: PromptStore, tmp_path: Path
) -> None:
    def fresh(**settings: Any) -> Any:
        curriculum = curri.curricula.MoPPS(store.pool(), seed=5, group_size=4)
        return trainer(curriculum, reward=tiny.first_digit, **REUSED, **settings)

    whole = fresh(max_steps=4)
    picks = record(whole)
    whole.train()
    first = fresh(max_steps=3, save_strategy="steps", save_steps=3)
    first.train()
    rest = fresh(max_steps=4)
    more = record(rest)
    rest.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    assert (len(picks), more) == (2, []), "the second generation is not made again"
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(weights, rest.model.state_dict()[name]), f"{name} was trained otherwise"


def test_the_rest_of_a_generation_needs_the_trainer_that_made_it(
    trainer: Callable[..., Any], store: PromptStore, tmp_path: Path
) -> None:
    def fresh(**settings: Any) -> Any:
        return trainer(curri.Scheduler(store, "uniform", run="r", group_size=4), **settings)

    fresh(max_steps=1, save_strategy="steps", save_steps=1, **REUSED).train()
    checkpoint = tmp_path / "out" / "checkpoint-1"
    with pytest.raises(StateMismatch, match=r"4 batches a generation \(this one: 2\)"):
        fresh(max_steps=2).train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / "curri_generation_0.pt").unlink()
    with pytest.raises(StateMismatch, match="a file for each rank"):
        fresh(max_steps=2, **REUSED).train(resume_from_checkpoint=str(checkpoint))


def test_a_checkpoint_without_a_curriculum_is_refused(
    trainer: Callable[..., Any], store: PromptStore, tmp_path: Path
) -> None:
    (tmp_path / "out" / "checkpoint-3").mkdir(parents=True)
    running = trainer(curri.Scheduler(store, "uniform", run="r", group_size=4))
    with pytest.raises(StateMismatch, match="no state of a curriculum"):
        running.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))


def record(running: Any) -> list[list[int]]:
    """The prompts of every generation, as they are told."""
    seen: list[list[int]] = []
    hear = running._hear

    def heard(inputs: Any, *rest: Any) -> None:
        seen.append([row["prompt_id"] for row in inputs])
        hear(inputs, *rest)

    running._hear = heard
    return seen


def test_a_run_that_was_killed_picks_what_an_uninterrupted_one_picks(tmp_path: Path) -> None:
    """SIGKILL in the seventh step; the last checkpoint is of the fourth. What was trained in between comes again."""
    whole = played(tmp_path / "whole")
    died = played(tmp_path / "broken", "--die-at", "7", code=-9)
    assert died == whole[: len(died)]
    assert len(died) >= 7
    rest = played(tmp_path / "broken", "--resume", "checkpoint-4")
    assert whole[:4] + rest == whole


def test_with_the_models_own_rewards_nothing_trained_is_lost_or_repeated(tmp_path: Path) -> None:
    died = played(tmp_path, "--own-rewards", "--die-at", "7", code=-9)
    rest = played(tmp_path, "--own-rewards", "--resume", "checkpoint-4")
    assert len(died[:4] + rest) == 10
    assert rest[: len(died) - 4] == died[4:], "what the lost weights were trained on comes again, as it was picked"


def test_a_run_that_was_killed_twice_forgets_nothing(tmp_path: Path) -> None:
    """The second checkpoint is made while rounds that were told before the first crash are handed out again."""
    died = played(tmp_path, "--die-at", "10", code=-9)
    again = played(tmp_path, "--resume", "checkpoint-4", "--die-at", "6", code=-9)
    assert again == died[4:]
    assert played(tmp_path, "--resume", "checkpoint-8") == died[8:]


def test_two_ranks_pick_the_same_prompts_and_no_group_mixes_two(tmp_path: Path) -> None:
    rounds = played(tmp_path, ranks=2)
    assert len(rounds) == 20, "each rank told ten times"
    for first, second in zip(rounds[::2], rounds[1::2], strict=True):
        counts = Counter([*first, *second])
        assert set(counts.values()) == {4}
        assert len(counts) == 4


def played(folder: Path, *words: str, ranks: int = 1, code: int = 0) -> list[list[int]]:
    """Prompts of every generation of a training in another process, rank by rank."""
    folder.mkdir(exist_ok=True)
    program = [str(Path(__file__).with_name("player.py")), str(folder), *words]
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    paths = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    log = folder / "told.jsonl"
    log.unlink(missing_ok=True)
    done = subprocess.run([*start, *program], env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stderr[-3000:]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line["prompts"] for line in sorted(lines, key=lambda line: (line["call"], line["rank"]))]


def test_the_example_learns_and_goes_on(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "examples" / "trl_sums.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    history: list[dict[str, Any]] = []
    for _ in range(2):
        start = [sys.executable, str(example)]
        done = subprocess.run(
            start, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert "groups with signal" in done.stdout
        checkpoint = tmp_path / "trl_sums" / "model" / "checkpoint-60"
        history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    means = [entry["rewards/first_digit/mean"] for entry in history if "rewards/first_digit/mean" in entry]
    assert means[-1] > 2 * means[0]
