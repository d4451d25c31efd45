"""What sampler and TRL adapter add to a step of a tiny model: python -m benchmarks.integrations.trl; see README.md."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset
from transformers import TrainerCallback

import curri
from benchmarks.integrations.sampler import sampler_step
from benchmarks.table import Row, render
from tests.trainers.trl import tiny

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUMS, PROMPTS, GROUP, TOKENS, WIDTH, WARM_UP = 100, 4, 8, 8, 128, 10
"""A step: 4 prompts × 8 responses of at most 8 tokens, by two layers of 128."""
BATCHES = (8, 32)
"""Responses in a batch of the model: TRL's default, which makes four batches of a step, and all in one."""
ROWS = {"uniform": (10_000, 1_000_000), "ucb": (10_000, 1_000_000), "frontier": (10_000,)}
"""Rows of the dataset in a loop without a trainer; ``frontier`` reads every belief in every step, so not a million."""
BOUND = "≤ 0.01"


class _Clock(TrainerCallback):
    """Times whole steps, what the adapter does in them (picking and hearing), and what of that is the strategy's."""

    def __init__(self, trainer: Any, curriculum: Any, now: Callable[[], float]) -> None:
        self._now = now
        self.steps: list[float] = []
        self.ours: list[float] = []
        self.strategy: list[float] = []
        self._added, self._deciding, self._began = 0.0, 0.0, 0.0
        for name in ("ask", "tell", "advance"):
            setattr(curriculum, name, self._timed(getattr(curriculum, name)))
        self._chunks, self._hear = trainer.sampler._chunks, trainer._hear
        trainer.sampler._chunks, trainer._hear = self._picking, self._hearing
        trainer.add_callback(self)

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **keywords: Any) -> Any:
            start = self._now()
            answer = call(*args, **keywords)
            self._deciding += self._now() - start
            return answer

        return timed

    def _picking(self) -> Iterator[list[int]]:
        chunks = self._chunks()
        while True:
            start = self._now()
            rows = next(chunks, None)
            self._added += self._now() - start
            if rows is None:
                return
            yield rows

    def _hearing(self, *heard: Any) -> None:
        start = self._now()
        self._hear(*heard)
        self._added += self._now() - start

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self._began:
            self._began, self._added, self._deciding = self._now(), 0.0, 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = self._now()
        self.steps.append(1e3 * (now - self._began))
        self.ours.append(1e3 * self._added)
        self.strategy.append(1e3 * self._deciding)
        self._began, self._added, self._deciding = now, 0.0, 0.0


def measured(strategy: str, batch: int, steps: int, now: Callable[[], float]) -> list[Row]:
    """One run of GRPO with a bare strategy, and the same sampler in a loop of its own right afterwards."""
    sums = tiny.sums(SUMS)
    rows = [{"prompt_id": i + 1, "prompt": each["prompt"], "answer": each["answer"]} for i, each in enumerate(sums)]
    pool = curri.PromptPool(range(1, SUMS + 1), [each["arm"] for each in sums])
    curriculum = curri.strategy(strategy)(pool, seed=0, group_size=GROUP)
    with tempfile.TemporaryDirectory() as folder:
        trainer = tiny.trainer(
            Dataset.from_list(rows),
            curriculum,
            Path(folder),
            reward=tiny.first_digit,
            width=WIDTH,
            max_steps=steps + WARM_UP,
            max_completion_length=TOKENS,
            num_generations=GROUP,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=PROMPTS * GROUP // batch,
        )
        clock = _Clock(trainer, curriculum, now)
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
    ours, strategy_ms, steps_ms = (each[WARM_UP:] for each in (clock.ours, clock.strategy, clock.steps))
    alone = [each - part for each, part in zip(ours, strategy_ms, strict=True)]
    base = f"a GRPO step in batches of {batch}"
    loops = {
        f"{strategy}, {size:,} rows: a step of the sampler": _loop(strategy, size, steps, now)
        for size in ROWS[strategy]
    }
    found = {**loops, f"{strategy}, in the trainer, less the strategy": alone, f"{strategy}, in the trainer": ours}
    return [Row("integrations", f"{case} : {base}", times, steps_ms, BOUND) for case, times in found.items()]


def _loop(strategy: str, size: int, steps: int, now: Callable[[], float]) -> list[float]:
    """Milliseconds of steps of the sampler, one after the other."""
    step = sampler_step(strategy, size, PROMPTS)
    times = []
    for _ in range(steps + WARM_UP):
        start = now()
        step()
        times.append(1e3 * (now() - start))
    return times[WARM_UP:]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument(
        "--cpu", action="store_true", help="time of the processor: for machines with other work on them"
    )
    given = parser.parse_args()
    now = time.process_time if given.cpu else time.perf_counter
    logging.getLogger("curri").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    found = [row for batch in BATCHES for strategy in ROWS for row in measured(strategy, batch, given.steps, now)]
    print(render(found))
    for row in found:
        shares = np.asarray(row.ours_ms) / np.asarray(row.base_ms)
        low, high = 100 * np.quantile(shares, [0.25, 0.75])
        print(f"{row.case}: {100 * row.ratio:.2f} % of a step (quartiles {low:.2f} to {high:.2f} %)")


if __name__ == "__main__":
    main()
