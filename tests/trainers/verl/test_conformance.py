"""verl's trainers with a curriculum keep what every adapter promises: real trainers, real TransferQueue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import transfer_queue as tq

from curri.testing import AdapterCase, parametrize_adapters
from tests.trainers.verl import tiny

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from curri.testing import AdapterCheck, Setting

MODEL: list[Path] = []


class Session:
    """One process of training: verl's trainer asks, this class generates, and verl's buffer chooses."""

    mode = "sync"

    def __init__(self, folder: Path, setting: Setting) -> None:
        setting.scheduler(folder).store.close()
        rows = tiny.write_rows(folder / "rows.parquet", [{"index": i} for i in setting.ids])
        self.setting = setting
        parameters = dict(setting.parameters)
        self.trainer = tiny.start(
            tiny.configuration(
                folder,
                MODEL[0],
                rows,
                trainer__v1__trainer_mode=self.mode,
                trainer__v1__sampler__sampler_kwargs__parameters=parameters,
                data__train_batch_size=setting.prompts,
                actor_rollout_ref__rollout__n=setting.group_size,
            )
        )
        self.curriculum = tiny.scheduler_of(self.trainer).curriculum
        self.heard: dict[int, tuple[str, list[float]]] = {}
        self.returned = 0

    def next_batch(self) -> Sequence[int]:
        with tiny.quiet():
            self.trainer.prepare_step()
        asked = self.trainer.agent_loop_manager.asked[self.returned : self.returned + self.setting.prompts]
        self.returned += len(asked)
        return [group["prompt"] for group in asked for _ in range(group["n"])]

    def report(self, ids: Sequence[int], rewards: Sequence[float]) -> None:
        loop, trainer = self.trainer.agent_loop_manager, self.trainer
        for prompt in dict.fromkeys(ids):
            mine = [reward for i, reward in zip(ids, rewards, strict=True) if i == prompt]
            uid, before = self.group_of(prompt)
            first = 0 if mine == before else len(before)  # the same again has the same names
            loop.finish(uid, {first + place: reward for place, reward in enumerate(mine)})
            self.heard[prompt] = (uid, mine)
        batch, metrics = trainer.replay_buffer.sample(trainer.global_steps, "train", len(set(ids)))
        assert metrics["curri/scheduler/prompts_issued"] > 0
        tq.kv_clear(keys=batch.keys, partition_id="train")
        trainer.global_steps += 1

    def group_of(self, prompt: int) -> tuple[str, list[float]]:
        """Its latest group, and what was heard of it; a group of its own for one that was never asked for."""
        asked = [g["uid"] for g in self.trainer.agent_loop_manager.asked[: self.returned] if g["prompt"] == prompt]
        uid = asked[-1] if asked else f"{prompt}-0-ffff"
        known, rewards = self.heard.get(prompt, ("", []))
        return uid, rewards if known == uid else []

    def checkpoint(self) -> None:
        self.trainer.global_steps -= 1  # verl saves at the end of a step
        self.trainer._save_checkpoint()
        self.trainer.global_steps += 1

    def stop(self) -> None:
        tiny.stop(self.trainer)


class AsyncSession(Session):
    """With verl's usual window of one batch that is generated ahead."""

    mode = "colocate_async"


CASES = [AdapterCase("sync", Session), AdapterCase("colocate-async", AsyncSession, lag=1)]


@pytest.fixture(autouse=True)
def _ready(queue: None, model: Path) -> None:
    MODEL[:] = [model]


@parametrize_adapters(CASES)
def test_adapter(check: AdapterCheck) -> None:
    check()
