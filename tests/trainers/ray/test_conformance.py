"""A trainer that is served by an actor is promised what every adapter promises."""

from __future__ import annotations

import contextlib
import os
import select
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import ray

from curri.integrations.ray import SchedulerActor
from curri.testing import AdapterCase, parametrize_adapters

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from curri.integrations.ray import RemoteScheduler
    from curri.testing import AdapterCheck, Setting


class Remote:
    """What the suite looks at of a strategy that lives in the actor."""

    def __init__(self, scheduler: RemoteScheduler, name: str) -> None:
        self.name, self._scheduler = name, scheduler

    def metrics(self) -> dict[str, float]:
        return self._scheduler.metrics()

    @property
    def rounds_asked(self) -> int:
        return int(self.metrics()[f"curriculum/{self.name}/rounds_asked"])


class Session:
    """One trainer, in this process; the actor is killed when it stops, and another one goes on with the store."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        made = setting.scheduler(folder)
        run, store = made.run.name, made.store
        store.close()
        self.name, self.setting = uuid.uuid4().hex, setting
        self.actor = SchedulerActor(store.path, setting.strategy, run=run, name=self.name, **setting.parameters)
        self.scheduler = self.actor.consumer("trainer")
        self.curriculum: Any = Remote(self.scheduler, setting.strategy)

    def next_batch(self) -> Sequence[int]:
        ids: list[int] = self.scheduler.ask(self.setting.prompts).prompt_ids.repeat(self.setting.group_size).tolist()
        return ids

    def report(self, ids: Sequence[int], rewards: Sequence[float]) -> None:
        self.scheduler.tell(ids, rewards)

    def checkpoint(self) -> None:
        """The store has it all."""

    def stop(self) -> None:
        pid = self.actor.status()["pid"]
        ray.kill(ray.get_actor(self.name, namespace="curri"))
        with contextlib.suppress(ProcessLookupError):
            process = os.pidfd_open(pid)
            select.select([process], [], [])  # the store is free when it is gone
            os.close(process)


NO_DATASET = "an actor has no dataset: it hands out ids of its own store, and no row has to be found for them"
CASE = AdapterCase(
    "ray",
    Session,
    not_asked={
        "missing_ids_refused": NO_DATASET,
        "repeated_ids_refused": NO_DATASET,
        "unknown_ids_refused": NO_DATASET,
        "ranks_agree": "the actor's trainers are not ranks of one job: no prompt may be handed to two of them, which "
        "test_ray.py checks with four processes",
    },
)


@pytest.mark.usefixtures("cluster")
@parametrize_adapters([CASE])
def test_adapter(check: AdapterCheck) -> None:
    check()
