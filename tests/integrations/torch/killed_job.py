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


def main() -> None:
    """Train from step ``first`` on; be killed after step ``last`` was told, or while the next batch is in hand."""
    folder, first, last, when = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    store = curri.open_store(folder / "p.duckdb")
    scheduler = curri.Scheduler(store, "ucb", run="r", seed=0, temperature=0.05)
    dataset = PromptDataset(store)
    sampler = CurriculumSampler(dataset, scheduler, prompts=BATCH, group_size=GROUP)
    loader = DataLoader(dataset, sampler=sampler, batch_size=BATCH * GROUP, num_workers=2, collate_fn=lambda rows: rows)
    with (folder / "trained.jsonl").open("a") as trained:
        for step, batch in enumerate(loader, start=first):
            if step == last and when == "in hand":
                os.kill(os.getpid(), signal.SIGKILL)
            ids = np.array([row["prompt_id"] for row in batch])
            sampler.tell(ids, (7 * ids + 3 * step + np.arange(ids.size)) % 5 < 2)
            trained.write(json.dumps(ids.tolist()) + "\n")
            trained.flush()
            if step == last and when == "told":
                os.kill(os.getpid(), signal.SIGKILL)
            if step == last:
                break
    store.close()


if __name__ == "__main__":
    main()
