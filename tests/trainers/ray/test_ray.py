"""A curriculum in a Ray actor: real processes, killed for real. Run with `make test-ray`."""

from __future__ import annotations

import os
import runpy
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import ray
from ray.exceptions import ActorDiedError

import curri
from curri.errors import (
    InvalidInput,
    InvalidParameter,
    InvalidRollouts,
    PoolExhausted,
    RunMismatch,
    StoreError,
    StoreLocked,
    StoreNotFound,
    UnknownName,
    UnknownPrompt,
)
from curri.integrations import ray as module
from curri.integrations.ray import RemoteScheduler, SchedulerActor
from tests.trainers.ray.workers import GROUP, DyingServer, Trainer, rewards_of

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS, STEPS, BATCH = 4, 20, 8


def ledger(path: Path) -> list[tuple[int, int, str, str]]:
    """(round, prompt, consumer, event) in the order of writing."""
    with curri.open_store(path) as store:
        rows = store.connection.rows("select round, prompt_id, consumer, event from ledger order by seq, rowid")
        return [(int(round_), int(prompt), consumer, event) for round_, prompt, consumer, event in rows]


def refuse_twice(path: Path, results: list[dict[str, Any]]) -> None:
    """Nothing was handed out twice, nothing lost, and every response counts once."""
    handed = Counter((ticket.round, prompt) for result in results for ticket, ids in result["handed"] for prompt in ids)
    assert set(handed.values()) == {1}
    assert len(handed) == WORKERS * STEPS * BATCH
    events = ledger(path)
    issued = Counter((round_, prompt) for round_, prompt, _, event in events if event == "issued")
    assert issued == handed
    in_flight: set[int] = set()
    for _, prompt, _, event in events:
        assert (event == "trained") == (prompt in in_flight)
        in_flight ^= {prompt}
    assert not in_flight
    with curri.open_store(path) as store:
        assert len(store.rollouts) == WORKERS * STEPS * BATCH * GROUP


def test_four_trainers_share_a_run(
    start: Callable[..., SchedulerActor], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    actor = start("frontier")
    trainers = [Trainer.remote(actor, f"trainer-{i}") for i in range(WORKERS)]
    results = ray.get([trainer.train.remote(STEPS, BATCH) for trainer in trainers])
    assert [result["texts"] for result in results] == [STEPS * BATCH] * WORKERS
    assert actor.status()["consumers"] == [f"trainer-{i}" for i in range(WORKERS)]
    actor.stop()
    refuse_twice(path, results)
    with capsys.disabled():
        for call in ("asks", "tells"):
            times = 1e3 * np.concatenate([result[call] for result in results])
            p50, p99 = np.percentile(times, (50, 99))
            line = f"\n{call} of {WORKERS} processes at once: p50 {p50:.1f} ms, p99 {p99:.1f} ms ({times.size} calls)"
            print(line)  # noqa: T201  for whoever runs it


def test_the_actor_is_killed_while_four_trainers_train(start: Callable[..., SchedulerActor], path: Path) -> None:
    actor = start("frontier")
    watching = actor.consumer("watching")
    trainers = [Trainer.remote(actor, f"trainer-{i}") for i in range(WORKERS)]
    results = [trainer.train.remote(STEPS, BATCH) for trainer in trainers]
    pids = []
    for share in (0.2, 0.6):
        while watching.metrics().get("scheduler/prompts_trained", 0) < share * WORKERS * STEPS * BATCH:
            pass
        pids.append(actor.status()["pid"])
        os.kill(pids[-1], signal.SIGKILL)
    results = ray.get(results)
    assert len({*pids, actor.status()["pid"]}) == 3
    actor.stop()
    refuse_twice(path, results)


@pytest.fixture
def dying(start: Callable[..., SchedulerActor], path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A consumer of an actor that dies when it is told to, before it answers."""
    monkeypatch.setattr(module, "_Server", DyingServer)

    def begin(*words: str, **settings: Any) -> tuple[SchedulerActor, RemoteScheduler, Callable[[str], object]]:
        actor = start(*words, **settings)
        return actor, actor.consumer("t"), path.with_name("die-after").write_text

    return begin


def test_an_answer_that_was_lost_comes_again(dying: Callable[..., Any], path: Path) -> None:
    actor, scheduler, die_after = dying()
    first = scheduler.ask(8)
    pid = actor.status()["pid"]
    die_after("ask")
    second = scheduler.ask(8)
    assert actor.status()["pid"] != pid
    assert (second.ticket.round, second.reissued) == (1, True)
    assert not set(first.prompt_ids) & set(second.prompt_ids)
    assert scheduler.ask(8).ticket.round == 2

    ids = first.prompt_ids.repeat(4)
    die_after("tell")
    told = scheduler.tell(ids, rewards_of(ids, 0))
    assert (told.new, told.repeated, told.closed) == (0, 32, ())

    part = second.prompt_ids.repeat(2)
    die_after("tell")
    told = scheduler.tell(part, rewards_of(part, 1), resolve=None)
    assert (told.new, told.repeated) == (0, 16)
    told = scheduler.tell(part, rewards_of(part, 1))
    assert (told.new, told.repeated, told.closed) == (16, 0, (1,))

    third = scheduler.ask(4)
    die_after("resolve")
    assert scheduler.resolve(third.prompt_ids, "dropped", "stale") == ()
    with pytest.raises(InvalidRollouts, match="not in flight"):
        scheduler.resolve(third.prompt_ids, "dropped", "stale")
    actor.stop()
    events = Counter(event for _, _, _, event in ledger(path))
    assert events == {"issued": 28, "told": 8, "trained": 16, "dropped": 4}


def test_top_ups_of_a_strategy_in_rounds(dying: Callable[..., Any]) -> None:
    _, scheduler, die_after = dying("reinforce-ada")
    selection = scheduler.ask(6)
    ids = selection.prompt_ids.repeat(selection.n_rollouts)
    scheduler.tell(ids, np.zeros(ids.size), resolve=None)
    die_after("top_up")
    more = scheduler.top_up(selection.ticket)
    assert more is not None
    assert (more.ticket.round, more.ticket.part, more.reissued) == (0, 1, True)
    again = scheduler.top_up(more.ticket)
    assert again is None or again.ticket.part == 2


def test_what_a_dead_trainer_held_goes_to_whoever_asks_next(start: Callable[..., SchedulerActor], path: Path) -> None:
    actor = start()
    dead, survivor = (Trainer.remote(actor, name) for name in ("dead", "survivor"))
    _, round_, held = ray.get(dead.ask.remote(8))
    os.kill(ray.get(dead.pid.remote()), signal.SIGKILL)
    with pytest.raises(ActorDiedError):
        ray.get(dead.pid.remote())
    reissued, number, ids = ray.get(survivor.ask.remote(4))
    while not reissued:  # Ray may need a moment to tell the actor too
        ray.get(survivor.tell.remote(ids, number))
        reissued, number, ids = ray.get(survivor.ask.remote(4))
    assert (number, ids) == (round_, held)
    assert ray.get(survivor.tell.remote(ids, number)) == 8 * GROUP
    assert ray.get(survivor.ask.remote(4))[0] is False
    actor.stop()
    events = [row for row in ledger(path) if row[0] == round_]
    assert Counter((consumer, event) for _, _, consumer, event in events) == {
        ("dead", "issued"): 8, ("survivor", "abandoned"): 8, ("survivor", "trained"): 8,
    }  # fmt: skip


def test_a_trainer_that_ray_starts_again_keeps_its_prompts(start: Callable[..., SchedulerActor]) -> None:
    actor = start()
    trainer = Trainer.options(max_restarts=1, max_task_retries=1).remote(actor, "trainer")
    other = Trainer.remote(actor, "other")
    held = ray.get(trainer.ask.remote(8))
    os.kill(ray.get(trainer.pid.remote()), signal.SIGKILL)
    back = trainer.pid.remote()
    while not ray.wait([back], timeout=0)[0]:
        reissued, number, ids = ray.get(other.ask.remote(4))
        assert not reissued
        ray.get(other.tell.remote(ids, number))
    assert ray.get(trainer.ask.remote(4)) == (True, *held[1:])


def test_abandoning_in_so_many_words(start: Callable[..., SchedulerActor]) -> None:
    actor = start()
    one, two = actor.consumer("one"), actor.consumer("two")
    held = one.ask(8)
    assert two.abandon("one") == 8
    again = two.ask(3)
    assert (again.ticket, again.reissued, again.prompt_ids.tolist()) == (held.ticket, True, held.prompt_ids.tolist())
    with pytest.raises(InvalidParameter, match="another one"):
        two.abandon("two")


def test_a_trainer_that_comes_back_takes_over_from_the_one_before(start: Callable[..., SchedulerActor]) -> None:
    actor = start()
    old = actor.consumer("trainer")
    held = old.ask(8)
    new = actor.consumer("trainer")
    with pytest.raises(InvalidInput, match='another process is consumer "trainer"'):
        old.ask(8)
    assert new.ask(8).prompt_ids.tolist() == held.prompt_ids.tolist()
    new.close()
    assert actor.status()["consumers"] == []


def test_one_picks_and_another_hears(start: Callable[..., SchedulerActor]) -> None:
    actor = start()
    picker, hearer = actor.consumer("picker"), actor.consumer("hearer")
    for number in range(3):
        selection = picker.ask(4)
        assert selection.ticket.round == number
        assert set(picker._held) == {(number, 0)}  # what the other one settled is forgotten
        for response in range(GROUP):
            hearer.tell(selection.prompt_ids, rewards_of(selection.prompt_ids, response), resolve=None)
        assert hearer.resolve(selection.prompt_ids, "trained") == (number,)
    assert picker.metrics()["scheduler/prompts_trained"] == 12


def test_stopping_and_starting_again(start: Callable[..., SchedulerActor], path: Path) -> None:
    actor = start()
    held = actor.consumer("trainer").ask(8)
    actor.stop()
    with curri.open_store(path), pytest.raises(StoreLocked) as refused:
        start()
    assert refused.value.pid == os.getpid()
    scheduler = start(None).consumer("trainer")
    again = scheduler.ask(8)
    assert (again.reissued, again.prompt_ids.tolist()) == (True, held.prompt_ids.tolist())
    assert scheduler.round == 0
    assert scheduler.explain(int(again.prompt_ids[0]))["in_flight_in_round"] == 0


def test_errors_are_raised_where_they_were_made(
    start: Callable[..., SchedulerActor], path: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnknownName, match="there is no scheduler actor"):
        SchedulerActor.find("nobody")
    with pytest.raises(StoreNotFound):
        SchedulerActor(tmp_path / "none.duckdb", "uniform", run="r", name="none")
    with pytest.raises(UnknownName, match="no scheduler actor"):
        SchedulerActor.find("none")
    actor = start()
    with pytest.raises(RunMismatch, match="group_size"):
        start(group_size=5)
    with pytest.raises(RunMismatch, match='serves run "r"'):
        start(run="other")
    scheduler = start().consumer("t")
    with pytest.raises(PoolExhausted):
        scheduler.ask(601)
    with pytest.raises(UnknownPrompt):
        scheduler.tell([700], [1.0])
    with pytest.raises(InvalidRollouts, match="finite"):
        scheduler.tell([1], [np.nan])
    with pytest.raises(InvalidInput, match="two would ask in one name"):
        ray.put(scheduler)
    with pytest.raises(InvalidParameter, match="non-empty"):
        actor.consumer("")
    assert scheduler.ask(8).ticket.round == 0  # none of this left a trace
    impatient = SchedulerActor.find(actor._line.name, patience=0.5).consumer("u")
    actor.stop()
    with pytest.raises(StoreError, match=r"has not answered for 0\.5 seconds"):
        impatient.ask(8)


def test_the_example_runs(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = Path(__file__).resolve().parents[3] / "examples" / "ray_trainers.py"
    for rounds in (20, 40):  # the second time it goes on
        runpy.run_path(str(example), run_name="__main__")
        with curri.open_store("ray_trainers.duckdb") as store:
            assert curri.Scheduler(store, run="r1").curriculum.rounds_asked == rounds
