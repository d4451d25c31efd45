"""A training in a process with a Ray of its own, which may be killed: writes down what the weights learn from."""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path

import ray
import transfer_queue as tq
from omegaconf import OmegaConf

import tests


def main() -> None:
    """Train some steps, or die in one of them, or go on from the last checkpoint."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("mode")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--die-at", type=int, default=0)
    given = parser.parse_args()
    tests.__path__ = [str(Path(__file__).parents[2])]  # wheels bring a package of this name, too
    from tests.trainers.verl import tiny

    ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False, configure_logging=False)
    storage = {"storage_backend": "SimpleStorage", "SimpleStorage": {"num_data_storage_units": 1}}
    tq.init(OmegaConf.create({"backend": storage}))
    updates = 0

    def updated(keys: list[str]) -> None:
        nonlocal updates
        updates += 1
        groups = sorted({key.split("_")[0].rsplit("-", 1)[0] for key in keys})
        with (given.folder / "learned.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(groups) + "\n")
        if updates == given.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = {"trainer__save_freq": 2, "trainer__total_training_steps": given.steps}
    config = tiny.training(given.folder, given.folder / "model", given.folder / "rows.parquet", given.mode, **settings)
    trainer = tiny.fit(config, updated)
    tiny.scheduler_of(trainer).store.close()


if __name__ == "__main__":
    main()
