"""Two trainers in processes of their own take prompts from one curriculum; run it again, and it goes on.

    pip install 'curri[ray]'
    python examples/ray_trainers.py

The "training" is a coin whose bias depends on the prompt. In a store of your own, the trainers do what you do now.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import ray

import curri
from curri.integrations.ray import SchedulerActor
from curri.store import NewPrompt

PATH = Path("ray_trainers.duckdb")


@ray.remote(num_cpus=0)
class Trainer:
    """One of several that train on one curriculum."""

    def __init__(self, actor: SchedulerActor, name: str) -> None:
        self.scheduler = actor.consumer(name)  # a name of its own, the same after a restart

    def train(self, steps: int) -> int:
        """Take prompts, generate, score, tell."""
        told = 0
        for step in range(steps):
            selection = self.scheduler.ask(8)
            rng = np.random.default_rng(step)
            ids = np.repeat(selection.prompt_ids, selection.n_rollouts)
            chance = np.repeat([1 / len(prompt.answer or "") for prompt in selection.prompts], selection.n_rollouts)
            told += self.scheduler.tell(ids, rng.random(ids.size) < chance, policy_version=step).new
        return told


def main() -> None:
    """Start the actor, or find it; then train."""
    with curri.open_store(PATH, create=not PATH.exists()) as store:
        store.prompts.add([NewPrompt(f"{i}*{i}=", is_chat=False, answer=str(i * i), arm="squares") for i in range(200)])
    actor = SchedulerActor(PATH, "frontier", run="r1")
    trainers = [Trainer.remote(actor, f"trainer-{i}") for i in range(2)]
    told = ray.get([trainer.train.remote(10) for trainer in trainers])
    print(f"told {sum(told)} responses of {actor.consumer('reader').round} rounds")
    actor.stop()


if __name__ == "__main__":
    if not ray.is_initialized():
        ray.init()
    main()
