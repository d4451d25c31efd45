"""What ``test_resume.py`` kills: a training loop over a store that dies in the middle of a step."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

import curri
from curri.integrations.torch import CurriculumSampler, PromptDataset

BATCH, GROUP = 4, 2


def train(folder: Path, *, first: int, last: int, die: bool = False) -> None:
    """Train on batches ``first`` to ``last``; or be killed with batch ``last`` in hand."""
    with curri.open_store(folder / "p.duckdb") as store, (folder / "trained.jsonl").open("a") as trained:
        scheduler = curri.Scheduler(store, "ucb", run="r", seed=0, temperature=0.05)
        dataset = PromptDataset(store)
        sampler = CurriculumSampler(dataset, scheduler, prompts=BATCH, group_size=GROUP)
        rows = BATCH * GROUP
        loader = DataLoader(dataset, sampler=sampler, batch_size=rows, num_workers=2, collate_fn=lambda batch: batch)
        for step, batch in enumerate(loader, start=first):
            if step == last and die:
                os.kill(os.getpid(), signal.SIGKILL)
            ids = np.array([row["prompt_id"] for row in batch])
            sampler.tell(ids, (7 * ids + 3 * step + np.arange(ids.size)) % 5 < 2)
            trained.write(json.dumps(ids.tolist()) + "\n")
            trained.flush()
            if step == last:
                break


if __name__ == "__main__":
    train(Path(sys.argv[1]), first=0, last=int(sys.argv[2]), die=True)
