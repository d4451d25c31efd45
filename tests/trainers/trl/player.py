"""A training in a process of its own, which may be killed: writes down the prompts of every generation."""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any

import torch.distributed as dist
from datasets import Dataset

import curri
from curri.store import NewPrompt
from tests.trainers.trl import tiny


def main() -> None:
    """Train ten steps, or die in one of them, or go on from a checkpoint."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--die-at", type=int, default=0)
    parser.add_argument("--resume", default="")
    parser.add_argument("--own-rewards", action="store_true")
    given = parser.parse_args()
    rank = int(os.environ.get("RANK", "0"))
    sums = tiny.sums(60)
    rows = [{"prompt_id": i + 1, "prompt": s["prompt"], "answer": s["answer"]} for i, s in enumerate(sums)]
    settings: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4, "max_steps": 10}
    if "RANK" in os.environ:
        settings |= {"per_device_train_batch_size": 4}
    scheduler = None
    if rank == 0:
        path = given.folder / "sums.duckdb"
        store = curri.open_store(path, create=not path.exists())
        store.prompts.add([NewPrompt(s["prompt"], is_chat=False, answer=s["answer"], arm=s["arm"]) for s in sums])
        # Lengths are the model's own, so they must not count where picks have to be a pure function of rewards.
        scheduler = curri.Scheduler(store, "frontier", run="r", group_size=4, seed=1, cost_power=0.0)
    reward = tiny.first_digit if given.own_rewards else tiny.pure
    trainer = tiny.trainer(Dataset.from_list(rows), scheduler, given.folder / "out", reward=reward, **settings)
    calls, hear = 0, trainer._hear

    def heard(inputs: Any, *rest: Any) -> None:
        nonlocal calls
        calls += 1
        line = json.dumps({"call": calls, "rank": rank, "prompts": [row["prompt_id"] for row in inputs]})
        with (given.folder / "told.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        hear(inputs, *rest)
        if calls == given.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer._hear = heard
    trainer.train(resume_from_checkpoint=str(given.folder / "out" / given.resume) if given.resume else None)
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
    if scheduler is not None:
        scheduler.store.close()


if __name__ == "__main__":
    main()
