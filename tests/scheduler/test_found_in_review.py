"""Faults that a review of the first version found; each stays mended."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from curri import Scheduler
from curri.errors import InvalidParameter, InvalidRollouts, PoolExhausted, StoreError, UnknownPrompt
from curri.state import same_state
from curri.store import NewPrompt, PromptStore, Source, open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curri.types import Floats, Ints

    Outcome = Callable[[Ints, int, int], tuple[Ints, Floats]]


def more_prompts(store: PromptStore, number: int, arm: str = "late") -> None:
    store.prompts.add([NewPrompt(f"{arm} {i}", is_chat=False, answer="1", arm=arm) for i in range(number)])


def test_threads_share_one_core(store: PromptStore) -> None:
    rounds: list[int] = []
    errors: list[BaseException] = []

    def train(consumer: str) -> None:
        try:
            scheduler = Scheduler(store, "uniform", run="r", consumer=consumer, seed=0)
            for _ in range(15):
                selection = scheduler.ask(3)
                rounds.append(selection.ticket.round)
                scheduler.tell(selection.prompt_ids, np.ones(3))
        except BaseException as error:  # noqa: BLE001  shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=train, args=(f"c{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(rounds) == list(range(60))
    twice = "select seq from state group by seq having count(*) > 1"
    assert store.connection.rows(twice) == []
    scheduler = Scheduler(store, run="r")
    assert same_state(store.runs.load_state(0).state, scheduler.curriculum.state_dict())


def test_a_run_that_found_too_little_goes_on_with_what_is_ingested(tmp_path: Path) -> None:
    with open_store(tmp_path / "p.duckdb", create=True) as store:
        scheduler = Scheduler(store, "ucb", run="r", seed=0)
        with pytest.raises(PoolExhausted):
            scheduler.ask(4)
        more_prompts(store, 40)
        assert len(scheduler.ask(4)) == 4
    with open_store(tmp_path / "q.duckdb", create=True) as store, pytest.raises(PoolExhausted):
        Scheduler(store, "ucb", run="r", seed=0).ask(4)
    with open_store(tmp_path / "q.duckdb") as store:
        more_prompts(store, 40)
        assert len(Scheduler(store, run="r").ask(4)) == 4


@pytest.mark.parametrize("strategy", ["ucb", "uniform"])
@pytest.mark.parametrize("reopen", ["never", "after ingest", "before ingest", "both"])
def test_ingesting_while_a_round_is_open_and_reopening_changes_no_pick(
    tmp_path: Path, outcome: Outcome, strategy: str, reopen: str
) -> None:
    def run(folder: Path, reopen: str) -> list[list[int]]:
        folder.mkdir()
        path = folder / "p.duckdb"
        with open_store(path, create=True) as store:
            more_prompts(store, 40, "early")
            selection = Scheduler(store, strategy, run="r", seed=0).ask(8)
            if reopen in ("never", "after ingest"):
                more_prompts(store, 90)
        if reopen in ("before ingest", "both"):
            with open_store(path) as store:
                more_prompts(store, 90)
        picks = [selection.prompt_ids.tolist()]
        with open_store(path) as store:
            scheduler = Scheduler(store, run="r")
            if scheduler.round == 0:
                scheduler.ask(8)
            scheduler.tell(*outcome(selection.prompt_ids, 0, 4))
            for number in (1, 2):
                selection = scheduler.ask(8)
                picks.append(selection.prompt_ids.tolist())
                scheduler.tell(*outcome(selection.prompt_ids, number, 4))
        return picks

    assert run(tmp_path / "one", reopen) == run(tmp_path / "two", "never")


def test_ingesting_while_a_round_is_open_takes_effect_when_it_closes(store: PromptStore, outcome: Outcome) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    selection = scheduler.ask(8)
    more_prompts(store, 100)
    scheduler.tell(*outcome(selection.prompt_ids, 0, 4))
    assert min(scheduler.ask(8).prompt_ids) > 60


def test_late_responses_with_other_rewards_are_not_taken_for_repeats(store: PromptStore) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    prompt = int(scheduler.ask(1).prompt_ids[0])
    scheduler.tell([prompt] * 4, [1, 0, 1, 0])
    assert scheduler.tell([prompt] * 4, [0, 0, 1, 1]).repeated == 4
    late = scheduler.tell([prompt] * 4, [0.25, 0.5, 0.75, 0.5])
    assert (late.new, late.repeated) == (4, 0)
    assert scheduler.tell([prompt] * 4, [0.25, 0.5, 0.75, 0.5]).repeated == 4


def test_a_group_is_learned_from_when_it_is_whole(store: PromptStore) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0, exploration=0.0)
    slow, fast = (int(scheduler.ask(1).prompt_ids[0]) for _ in range(2))
    scheduler.tell([slow], [1.0], resolve=None)
    scheduler.tell([fast] * 2, [1.0, 1.0])
    assert scheduler.curriculum.metrics()["curriculum/ucb/responses_folded"] == 2
    path = store.path
    store.close()
    with open_store(path) as again:
        scheduler = Scheduler(again, run="r")
        assert scheduler.tell([slow], [0.0]).closed == (0,)
        told = scheduler.curriculum.explain(slow)
        same_arm = scheduler.curriculum.explain(fast)["arm"] == told["arm"]
        assert told["arm_mean_abs_advantage"] == pytest.approx(0.7071 / (2 if same_arm else 1), abs=1e-3)


def test_probes_of_a_model_are_no_training_evidence(store: PromptStore) -> None:
    ids = np.arange(1, 21)
    columns = {"prompt_id": ids, "sample": np.zeros(20, np.int32), "reward": np.ones(20), "probe": np.full(20, True)}
    store.rollouts.add(Source("m"), pa.table(columns))
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    assert scheduler.curriculum.explain(1)["arm_count"] == 0


@pytest.mark.parametrize(
    "columns",
    [
        {"responses": ["\ud800", "b"]},
        {"rollout_ids": ["\ud800", "b"]},
        {"extras": {"when": [np.datetime64("2026-01-01"), np.datetime64("2026-01-02")]}},
        {"extras": {"kl": [np.nan, 0.1]}},
        {"tokens": [2**32 + 5, 1]},
    ],
)
def test_what_cannot_be_stored_is_refused_and_the_run_goes_on(store: PromptStore, columns: dict[str, Any]) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    ids = scheduler.ask(2).prompt_ids
    with pytest.raises(InvalidRollouts):
        scheduler.tell(ids, [1.0, 0.0], **columns)
    assert len(store.rollouts) == 0
    assert scheduler.tell(ids, [1.0, 0.0]).closed == (0,)


def test_ids_are_whole_numbers_everywhere(store: PromptStore) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    prompt = int(scheduler.ask(1).prompt_ids[0])
    with pytest.raises(InvalidParameter, match="must be integers"):
        scheduler.resolve([prompt + 0.7], "dropped")
    with pytest.raises(InvalidParameter, match="must be integers"):
        scheduler.resolve(["x"], "dropped")
    with pytest.raises(InvalidParameter, match="must be integers"):
        scheduler.ask(1, exclude=[1.5])
    assert prompt not in scheduler.ask(58, exclude={1 if prompt != 1 else 2}).prompt_ids  # type: ignore[arg-type]


def test_probe_and_training_rollouts_are_told_apart(store: PromptStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from curri.curricula.uniform import Uniform

    monkeypatch.setattr(Uniform, "tags", frozenset({"probes"}))
    scheduler = Scheduler(store, "uniform", run="r", seed=0)
    probe, train = scheduler.ask(1, kind="probe").prompt_ids, scheduler.ask(1).prompt_ids
    with pytest.raises(InvalidRollouts, match="some of these prompts were handed out as probes"):
        scheduler.tell([*probe, *train], [1.0, 0.0])
    scheduler.tell(probe, [1.0])
    scheduler.tell(train, [1.0])
    rows = store.connection.rows("select prompt_id, probe from rollouts order by round")
    assert rows == [(int(probe[0]), True), (int(train[0]), False)]


def test_a_read_only_store_explains_and_refuses_to_pick(store: PromptStore, outcome: Outcome) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    selection = scheduler.ask(3)
    scheduler.tell(*outcome(selection.prompt_ids, 0, 4))
    path = store.path
    store.close()
    with open_store(path, read_only=True) as again:
        scheduler = Scheduler(again, run="r")
        assert scheduler.explain(int(selection.prompt_ids[0]))["history"]
        before = scheduler.curriculum.state_dict()
        assert len(scheduler.look_ahead(3)) == 3
        with pytest.raises(StoreError, match="for reading only"):
            scheduler.ask(3)
        assert same_state(before, scheduler.curriculum.state_dict())


def test_a_closed_store_is_let_go(tmp_path: Path) -> None:
    store = open_store(tmp_path / "p.duckdb", create=True)
    more_prompts(store, 10)
    Scheduler(store, "ucb", run="r", seed=0).ask(2)
    store.close()
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None


def test_a_store_that_failed_to_write_can_be_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path / "p.duckdb", create=True)
    more_prompts(store, 10)
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    scheduler.ask(2)
    monkeypatch.setattr(store.connection, "_failed", True)
    store.close()
    assert not store.is_open
    with open_store(tmp_path / "p.duckdb") as again:
        assert Scheduler(again, run="r").ask(2).reissued


def test_a_copy_is_published_while_a_run_holds_the_store(store: PromptStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curri.scheduler.core.PUBLISH_FIRST", 0.0)
    Scheduler(store, "ucb", run="r", seed=0).ask(2)
    assert store.path.with_name(store.path.name + ".snapshot").exists()


def test_a_copy_that_cannot_be_written_stops_no_run(store: PromptStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curri.scheduler.core.PUBLISH_FIRST", 0.0)
    monkeypatch.setattr("curri.store.prompt_store._snapshot_of", lambda path: path.parent / "no" / "folder")
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    ids = scheduler.ask(2).prompt_ids
    assert scheduler.tell(ids, [1.0, 0.0]).closed == (0,)
    assert scheduler.metrics()["scheduler/copies_failed"] == 1
    with pytest.raises(StoreError, match="cannot be"):
        store.publish()


def test_unplaceable_rollouts_can_be_refused_beforehand(store: PromptStore) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    ids = scheduler.ask(2).prompt_ids
    scheduler.refuse_unplaceable(ids, 0)
    with pytest.raises(InvalidRollouts, match="never handed out in round 7"):
        scheduler.refuse_unplaceable(ids, 7)
    with pytest.raises(UnknownPrompt):
        scheduler.refuse_unplaceable([999], None)


def test_a_prompt_settled_in_an_open_round_and_in_flight_again_stays_so(tmp_path: Path) -> None:
    with open_store(tmp_path / "p.duckdb", create=True) as store:
        more_prompts(store, 4)
        scheduler = Scheduler(store, "uniform", run="r", seed=0)
        first = scheduler.ask(3)
        scheduler.resolve(first.prompt_ids[:2], "dropped")
        second = scheduler.ask(3)
        assert set(first.prompt_ids[:2]) & set(second.prompt_ids)
    with open_store(tmp_path / "p.duckdb") as store:
        scheduler = Scheduler(store, run="r")
        assert scheduler.metrics()["scheduler/prompts_in_flight"] == 4
        again = [scheduler.ask(1), scheduler.ask(1)]
        assert again[0].prompt_ids.tolist() == first.prompt_ids[2:].tolist()
        assert again[1].prompt_ids.tolist() == second.prompt_ids.tolist()
        assert scheduler.resolve(second.prompt_ids, "trained") == (1,)
