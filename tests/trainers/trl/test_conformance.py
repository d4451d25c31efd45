"""TRL's trainers keep what every adapter promises: real ones, whose thread is let run from stop to stop."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import TrainerCallback

from curri.testing import AdapterCase, parametrize_adapters
from tests.trainers.trl import tiny

if TYPE_CHECKING:
    from collections.abc import Sequence

    from curri.testing import AdapterCheck, Setting

PATIENCE = 120.0


class Ended(Exception):
    """Raised in the trainer's thread when its session stops, as a crash would end it."""


class Session(TrainerCallback):
    """A trainer that trains in a thread and stops where it needs rewards, after each step, and after each checkpoint.

    The next batch is the one whose rewards it asks for. A report of that batch is the answer of its reward function;
    any other goes to where the adapter hears (``_hear``), as of a generation that came late or was repeated.
    """

    stored, kind = True, "grpo"
    settings: dict[str, Any] = {}  # noqa: RUF012  a constant

    def __init__(self, folder: Path, setting: Setting) -> None:
        self._stops: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._orders: queue.Queue[Any] = queue.Queue()
        self._in_hand: list[int] | None = None
        self._out = folder / "out"
        self._store = None
        curriculum: Any = setting.curriculum()
        if self.stored:
            curriculum = setting.scheduler(folder)
            self._store = curriculum.store
        self.curriculum = curriculum.curriculum if self.stored else curriculum
        self._thread = threading.Thread(target=self._train, args=(setting, curriculum))
        self._thread.start()
        try:
            self._wait_for("begin")
        except BaseException:
            self.stop()
            raise

    # ---- in the trainer's thread --------------------------------------------------------------------------------

    def _train(self, setting: Setting, curriculum: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("default", module="(trl|transformers|torch|accelerate)")  # theirs to mend
                options = {
                    "per_device_train_batch_size": setting.rows_of_batch,
                    "gradient_accumulation_steps": 1,
                    "num_generations": setting.group_size,
                    "max_steps": 50,
                    "max_completion_length": 1,
                    "save_strategy": "no",
                    "save_total_limit": 1,
                    **self.settings,
                }
                dataset = Dataset.from_list(setting.rows())
                self.trainer = tiny.trainer(dataset, curriculum, self._out, kind=self.kind, reward=self._ask, **options)
                self.trainer.add_callback(self)
                saved = any(self._out.glob("checkpoint-*"))
                self.trainer.train(resume_from_checkpoint=saved or None)
        except Ended:
            pass
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            self._stops.put(("error", error))

    def _stop_here(self, where: str, what: Any = None) -> Any:
        self._stops.put((where, what))
        order = self._orders.get()
        if order is Ended:
            raise Ended
        return order

    def _ask(self, prompt_id: list[int], **_: Any) -> list[float]:
        rewards: list[float] = self._stop_here("rewards", [int(each) for each in prompt_id])
        return rewards

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._stop_here("begin")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_save = self._stop_here("step") == "save"

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._stop_here("saved")

    # ---- in the test's ------------------------------------------------------------------------------------------

    def _wait_for(self, *wanted: str) -> Any:
        where, what = self._stops.get(timeout=PATIENCE)
        if where == "error":
            raise what
        assert where in wanted, f"the trainer is at {where!r}, not at {wanted}"
        self._at = where
        return what

    def next_batch(self) -> Sequence[int]:
        while self._in_hand is None:
            self._orders.put("go on")
            self._in_hand = self._wait_for("step", "rewards")
        return list(self._in_hand)

    def report(self, ids: Sequence[int], rewards: Sequence[float]) -> None:
        if list(ids) == self._in_hand:
            self._in_hand = None
            self._orders.put(list(rewards))
            self._wait_for("step")
            return
        rows = [{"prompt_id": prompt} for prompt in ids]
        self.trainer._hear(rows, [[3]] * len(rows), torch.tensor(rewards).unsqueeze(1))

    def checkpoint(self) -> None:
        self._orders.put("save")
        self._wait_for("saved")

    def stop(self) -> None:
        self._orders.put(Ended)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self._store is not None:
            self._store.close()


class BareRloo(Session):
    stored, kind = False, "rloo"
    settings: dict[str, Any] = {"beta": 0.0}  # noqa: RUF012


class Reusing(Session):
    """Each generation is trained on in two optimizer steps; a checkpoint may be made between them."""

    settings: dict[str, Any] = {"num_iterations": 2}  # noqa: RUF012


def on_two_ranks(folder: Path, setting: Setting, rounds: int) -> list[list[list[int]]]:
    """What the samplers of two processes under torchrun pick."""
    player = Path(__file__).with_name("ranks_player.py")
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    paths = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    words = [sys.executable, *start, str(player), str(folder), str(rounds)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


CASES = [
    AdapterCase("grpo-store", Session, lag=1, on_ranks=on_two_ranks),
    AdapterCase("rloo-bare", BareRloo, lag=1, not_asked={"ranks_agree": "asked of grpo-store; the ranks' code is one"}),
    AdapterCase("grpo-reusing", Reusing, not_asked={"ranks_agree": "asked of grpo-store; the ranks' code is one"}),
]


@parametrize_adapters(CASES)
def test_adapter(check: AdapterCheck) -> None:
    check()
