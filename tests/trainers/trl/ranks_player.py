"""What ``test_conformance.py`` starts under torchrun: each rank writes what its sampler picks, as JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from datasets import Dataset

from curri.testing import Setting
from tests.trainers.trl import tiny

if TYPE_CHECKING:
    from collections.abc import Iterator


def main() -> None:
    """Train so many rounds of the suite's setting with TRL; rank 0 holds the store."""
    folder, rounds, rank = Path(sys.argv[1]), int(sys.argv[2]), int(os.environ["RANK"])
    setting = Setting()
    scheduler = setting.scheduler(folder) if rank == 0 else None
    trainer = tiny.trainer(
        Dataset.from_list(setting.rows()),
        scheduler,
        folder / "out",
        per_device_train_batch_size=setting.rows_of_batch // 2,
        gradient_accumulation_steps=1,
        num_generations=setting.group_size,
        max_completion_length=1,
        max_steps=rounds,
    )
    picked: list[list[int]] = []
    chunks = trainer.sampler._chunks

    def watched() -> Iterator[list[Any]]:
        for rows in chunks():
            picked.append(trainer.sampler.prompt_ids_of(rows).tolist())
            yield rows

    trainer.sampler._chunks = watched
    trainer.train()
    (folder / f"rank{rank}.json").write_text(json.dumps(picked[:rounds]))
    dist.barrier()
    dist.destroy_process_group()
    if scheduler is not None:
        scheduler.store.close()


if __name__ == "__main__":
    main()
