"""How fast a Ray actor answers four trainers at once: python -m benchmarks.integrations.ray; see README.md."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray writes a token into the home directory
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
os.environ.setdefault("RAY_worker_niceness", "0")  # else workers stand behind all other programs of the machine

import ray

import curri
from curri.integrations.ray import SchedulerActor
from curri.store import NewPrompt

SUMS, WORKERS, PROMPTS, GROUP = 10_000, 4, 8, 4


@ray.remote(num_cpus=0)
class _Trainer:
    """Asks and tells as fast as it is answered."""

    def __init__(self, actor: SchedulerActor, name: str) -> None:
        self._scheduler = actor.consumer(name)

    def calls(self, method: str, steps: int) -> tuple[float, float, list[float]]:
        """Begin, end and milliseconds of each call: "round" asks the actor for a number, "step" asks and tells."""
        times, rng, begin = [], np.random.default_rng(0), time.time()
        for _ in range(steps):
            start = time.perf_counter()
            if method == "round":
                _ = self._scheduler.round
            else:
                selection = self._scheduler.ask(PROMPTS)
                times.append(1e3 * (time.perf_counter() - start))
                ids = selection.prompt_ids.repeat(GROUP)
                start = time.perf_counter()
                self._scheduler.tell(ids, rng.integers(0, 2, ids.size).astype(float))
            times.append(1e3 * (time.perf_counter() - start))
        return begin, time.time(), times


def _line(what: str, workers: int, found: list[tuple[float, float, list[float]]]) -> str:
    times = np.concatenate([each for _, _, each in found])
    seconds = max(end for _, end, _ in found) - min(begin for begin, _, _ in found)
    p50, p99 = np.percentile(times, (50, 99))
    return (
        f"{what:44} {workers} processes  {times.size / seconds:6.0f} calls/s  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms"
        f"  ({times.size} calls)"
    )


def measured(steps: int) -> list[str]:
    """A line for each kind of call, by one process alone and by all of them at once."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.duckdb"
        with curri.open_store(path, create=True) as store:
            store.prompts.add([NewPrompt(f"{i}?", is_chat=False, answer="", arm=f"arm{i % 12}") for i in range(SUMS)])
        actor = SchedulerActor(path, "ucb", run="r", name="benchmark", group_size=GROUP)
        trainer: Any = _Trainer
        trainers = [trainer.remote(actor, f"trainer-{i}") for i in range(WORKERS)]
        ray.get([each.calls.remote("step", 3) for each in trainers])
        kinds = {"round": "a call without a commit", "step": f"ask {PROMPTS}, tell {PROMPTS * GROUP}: a commit each"}
        for workers in (1, WORKERS):
            for method, what in kinds.items():
                found = ray.get([each.calls.remote(method, steps) for each in trainers[:workers]])
                lines.append(_line(what, workers, found))
        actor.stop()
    return lines


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    root = str(Path(__file__).resolve().parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, configure_logging=False)
    print("\n".join(measured(steps)))
    ray.shutdown()


if __name__ == "__main__":
    main()
