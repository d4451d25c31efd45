"""Trainers in processes of their own, and an actor that dies between doing and answering."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from curri.integrations.ray import _Server

if TYPE_CHECKING:
    from curri.integrations.ray import SchedulerActor

GROUP = 4


def rewards_of(prompt_ids: np.ndarray, round_: int) -> np.ndarray:
    """0 or 1 for each response, from prompt, round and place alone."""
    return ((prompt_ids * 31 + round_ * 7 + np.arange(prompt_ids.size)) % 3 == 0).astype(float)


class _Trainer:
    """Asks and tells, and keeps what it was handed and how long that took."""

    def __init__(self, actor: SchedulerActor, name: str) -> None:
        self._scheduler = actor.consumer(name)

    def pid(self) -> int:
        return os.getpid()

    def ask(self, n: int) -> tuple[bool, int, list[int]]:
        selection = self._scheduler.ask(n)
        return selection.reissued, selection.ticket.round, selection.prompt_ids.tolist()

    def tell(self, prompt_ids: list[int], round_: int) -> int:
        ids = np.repeat(prompt_ids, GROUP)
        return self._scheduler.tell(ids, rewards_of(ids, round_)).new

    def train(self, steps: int, n: int) -> dict[str, Any]:
        handed, asks, tells, texts = [], [], [], 0
        for _ in range(steps):
            begin = time.perf_counter()
            selection = self._scheduler.ask(n)
            asked = time.perf_counter()
            texts += sum(str(prompt.prompt).endswith("?") for prompt in selection.prompts)
            handed.append((selection.ticket, selection.prompt_ids.tolist()))
            ids = np.repeat(selection.prompt_ids, GROUP)
            rewards = rewards_of(ids, selection.ticket.round)
            before = time.perf_counter()
            self._scheduler.tell(ids, rewards, tokens=np.full(ids.size, 7), policy_version=len(handed))
            asks.append(asked - begin)
            tells.append(time.perf_counter() - before)
        return {"handed": handed, "asks": asks, "tells": tells, "texts": texts}


Trainer: Any = ray.remote(num_cpus=0)(_Trainer)


class DyingServer(_Server):
    """Dies after it has done what a file beside the store names, and before it answers."""


def _dying(method: str) -> Any:
    def done(self: _Server, *args: Any, **kwargs: Any) -> Any:
        answer = getattr(_Server, method)(self, *args, **kwargs)
        order = Path(self._work.store).with_name("die-after")
        if order.exists() and order.read_text() == method:
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    return done


for _method in ("ask", "tell", "resolve", "top_up"):
    setattr(DyingServer, _method, _dying(_method))
