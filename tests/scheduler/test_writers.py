"""Writers of metrics never stop a run, and what they lose is counted."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import curri
from curri.errors import InvalidParameter
from curri.scheduler import MetricsWriter, Scheduler
from curri.scheduler.writers import QUEUE, Outlet
from curri.store import NewPrompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from curri.store import PromptStore


class Remembering:
    """Keeps what it is given; fails at the steps named."""

    def __init__(self, *fails_at: int) -> None:
        self.steps: list[int] = []
        self.metrics: list[dict[str, float]] = []
        self.closed = 0
        self._fails_at = fails_at

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        if step in self._fails_at:
            raise OSError(28, "No space\nleft on device")
        self.steps.append(step)
        self.metrics.append(dict(metrics))

    def close(self) -> None:
        self.closed += 1


class Slow(Remembering):
    """Writes only when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        self.begun.set()
        self.go.wait(30)
        super().write(metrics, step)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PromptStore]:
    with curri.open_store(tmp_path / "p.duckdb", create=True) as opened:
        opened.prompts.add([NewPrompt(f"{i}?", is_chat=False, answer="1", arm="a") for i in range(400)])
        yield opened


def play(scheduler: Scheduler, rounds: int) -> None:
    for _ in range(rounds):
        ids = scheduler.ask(2).prompt_ids
        scheduler.tell(ids, [1.0, 0.0])


def test_every_closed_round_is_a_step(store: PromptStore) -> None:
    writer = Remembering()
    scheduler = Scheduler(store, "ucb", run="r", writers=[writer])
    ids = scheduler.ask(4).prompt_ids
    scheduler.tell(ids[:2], [1.0, 0.0])
    scheduler.resolve(ids[2:], "dropped")
    play(scheduler, 2)
    scheduler.close()
    assert (writer.steps, writer.closed) == ([1, 2, 3], 1)
    assert writer.metrics[0]["scheduler/prompts_dropped"] == 2
    assert writer.metrics[-1] == scheduler.metrics()
    play(scheduler, 1)
    store.close()
    assert (writer.steps, writer.closed) == ([1, 2, 3, 4], 2)


def test_one_that_fails_is_counted_said_once_and_tried_again(
    store: PromptStore, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = Remembering(), Remembering(1, 2)
    scheduler = Scheduler(store, "ucb", run="r", writers=[bad, good])
    with caplog.at_level(logging.WARNING, "curri"):
        play(scheduler, 3)
        scheduler.close()
    assert (good.steps, bad.steps) == ([1, 2, 3], [3])
    assert scheduler.metrics()["scheduler/metrics_failed"] == 2
    assert scheduler.metrics()["scheduler/metrics_dropped"] == 0
    (record,) = caplog.records
    assert record.getMessage() == (
        "metrics: Remembering failed (OSError: [Errno 28] No space left on device); "
        "further steps are tried, without a word; the run goes on"
    )
    assert len(store.rollouts) == 6


def test_one_that_is_slow_holds_nobody_up(store: PromptStore, caplog: pytest.LogCaptureFixture) -> None:
    slow, quick = Slow(), Remembering()
    scheduler = Scheduler(store, "ucb", run="r", writers=[slow, quick])
    play(scheduler, 1)
    assert slow.begun.wait(30)
    with caplog.at_level(logging.WARNING, "curri"):
        play(scheduler, QUEUE + 5)
    assert scheduler.metrics()["scheduler/metrics_dropped"] == 5
    assert [record.getMessage() for record in caplog.records] == [
        f"metrics: Slow is too slow: {QUEUE} steps wait for it, further ones are dropped; the run goes on"
    ]
    slow.go.set()
    scheduler.close()
    assert slow.steps == list(range(1, QUEUE + 2))
    assert quick.steps == list(range(1, QUEUE + 7))


def test_one_that_hangs_does_not_hang_the_end(caplog: pytest.LogCaptureFixture) -> None:
    stuck = Slow()
    outlet = Outlet([stuck], patience=0.01)
    outlet.write({"a": 1.0}, 1)
    assert stuck.begun.wait(30)
    outlet.write({"a": 1.0}, 2)
    with caplog.at_level(logging.WARNING, "curri"):
        outlet.close()
    assert "still busy after 0.01 seconds" in caplog.text
    lost = outlet.counts()["metrics_dropped"]
    assert lost >= 2
    outlet.write({"a": 1.0}, 3)
    outlet.close()
    assert outlet.counts()["metrics_dropped"] == lost + 1
    stuck.go.set()


def test_what_is_no_writer_is_refused(store: PromptStore) -> None:
    wrong: Any = "r.jsonl"
    with pytest.raises(InvalidParameter, match=r"`writers` must hold objects with .* got 'r.jsonl'"):
        Scheduler(store, "ucb", run="r", writers=[wrong])
    assert store.runs.find("r") is None
    assert isinstance(Remembering(), MetricsWriter)


def test_what_waits_is_written_when_the_program_ends_without_closing(tmp_path: Path) -> None:
    program = """
import sys, curri
from curri.integrations.metrics import JsonLinesWriter
from curri.store import NewPrompt
store = curri.open_store("p.duckdb", create=True)
store.prompts.add([NewPrompt("1?", is_chat=False, answer="1", arm="a")])
scheduler = curri.Scheduler(store, "ucb", run="r", writers=[JsonLinesWriter("m.jsonl")])
scheduler.tell(scheduler.ask(1).prompt_ids, [1.0])
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, env=environment)
    assert len((tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()) == 1
