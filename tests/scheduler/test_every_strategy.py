"""What a run promises, for every strategy: first evidence, exact reopening, top-ups and probes of two consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from curri import Scheduler
from curri.errors import InvalidParameter
from curri.registry import strategy_names
from curri.state import same_state
from curri.store import NewPrompt, Source, open_store
from curri.types import Ticket

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curri.store import PromptStore
    from curri.types import Floats, Ints, Selection

    Outcome = Callable[[Ints, int, int], tuple[Ints, Floats]]

PARAMETERS: dict[str, dict[str, Any]] = {"modomodo": {"weights": {"arm0": 0.5, "arm1": 0.5}}}
ADA: Any = {"group_size": 2, "round_size": 2, "max_rounds": 3}
NAMES = [*strategy_names(), "ucb/mopps", "sec/vas"]


@pytest.fixture
def rolled(tmp_path: Path) -> Path:
    """A store with 40 prompts and rollouts of two models: odd prompts below 31 are solved by "m", even ones never.

    Among the rollouts of "m" are probes, those of a retired prompt and of one kept for evaluation. Those of "shaped"
    are rewards without a verdict.
    """
    path = tmp_path / "rolled.duckdb"
    with open_store(path, create=True) as store:
        store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), f"arm{i % 3}") for i in range(39)])
        store.prompts.add([NewPrompt("kept apart", False, "1", "arm0", split="test")])
        store.connection.execute("update prompts set retired = true where prompt_id = 3")
        ids, sample = np.repeat(np.arange(1, 41), 4), np.tile(np.arange(4), 40)
        mine = (ids < 31) | (ids == 40)
        solved = (ids % 2 == 1) & (sample > 0)
        columns = {
            "prompt_id": ids,
            "sample": sample.astype(np.int32),
            "reward": solved.astype(np.float64),
            "solved": solved.astype(np.float64),
            "probe": ids > 25,
            "response": [f"so it is {k} of {i}" for i, k in zip(ids, sample, strict=True)],
        }
        store.rollouts.add(Source("m"), pa.table(columns).filter(pa.array(mine)))
        columns["reward"] = np.linspace(-7.0, 9.0, ids.size)
        del columns["solved"]
        store.rollouts.add(Source("shaped"), pa.table(columns))
    return path


def needs(name: str) -> None:
    if "pcl" in name:
        pytest.importorskip("torch")


def beliefs(scheduler: Scheduler, prompt: int) -> dict[str, Any]:
    known = scheduler.curriculum.explain(prompt)
    return {key: value for key, value in known.items() if key not in ("prompt_id", "arm")}


SHAPED = [(name, "shaped") for name in ("ucb", "vas", "eva", "reinforce-ada", "mopps", "greso")]


@pytest.mark.parametrize(("name", "model"), [*((name, "m") for name in NAMES), *SHAPED])
def test_a_run_starts_from_stored_rollouts_and_is_exact(rolled: Path, outcome: Outcome, name: str, model: str) -> None:
    needs(name)

    def played(run: str, *, reopen: bool) -> tuple[list[list[int]], Any]:
        picks = []
        store = open_store(rolled)
        scheduler = Scheduler(store, name, run=run, model=model, seed=3, **PARAMETERS.get(name, {}))
        for number in range(3):
            if reopen:
                before = scheduler.curriculum.state_dict()
                store.close()
                store = open_store(rolled)
                scheduler = Scheduler(store, run=run)
                assert same_state(before, scheduler.curriculum.state_dict())
            selection = scheduler.ask(6)
            assert not {3, 40} & set(selection.prompt_ids.tolist())
            picks.append(selection.prompt_ids.tolist())
            scheduler.tell(*outcome(selection.prompt_ids, number, 4))
        state = scheduler.curriculum.state_dict()
        store.close()
        return picks, state

    picks, state = played("whole", reopen=False)
    again, state_again = played("reopened", reopen=True)
    assert picks == again
    assert same_state(state, state_again)


@pytest.mark.parametrize("name", NAMES)
def test_first_evidence_is_believed(rolled: Path, name: str) -> None:
    needs(name)
    with open_store(rolled) as store:
        scheduler = Scheduler(store, name, run="r", model="m", seed=3, **PARAMETERS.get(name, {}))
        assert scheduler.metrics()[f"curriculum/{name}/responses_folded"] == 30 * 4
        assert scheduler.metrics()[f"curriculum/{name}/responses_buffered"] == 0
        assert scheduler.round == 0
        mixed, dead, untold = (beliefs(scheduler, prompt) for prompt in (5, 6, 35))
    per_prompt = {"vas", "eva", "reinforce-ada", "mopps", "adarft", "greso", "ucb/mopps", "sec/vas"}
    if name in per_prompt:
        assert untold not in (mixed, dead) or (name == "greso" and untold != dead)


def tell(scheduler: Scheduler, selection: Selection, reward: float, **how: Any) -> None:
    ids = np.repeat(selection.prompt_ids, selection.n_rollouts)
    named = [f"{selection.ticket.part}-{k}" for each in selection.n_rollouts for k in range(each)]
    scheduler.tell(ids, np.full(ids.size, reward), rollout_ids=named, **how)


def same(one: Selection | None, other: Selection | None) -> bool:
    assert one is not None
    assert other is not None
    columns = ("prompt_ids", "n_rollouts", "arms", "probability")
    equal = all(np.array_equal(getattr(one, c), getattr(other, c), equal_nan=c == "probability") for c in columns)
    return equal and (one.ticket, one.kind) == (other.ticket, other.kind)


@pytest.mark.parametrize("name", ["reinforce-ada", "ucb/reinforce-ada"])
def test_a_top_up_that_was_not_told_comes_again_to_its_consumer(store: PromptStore, name: str) -> None:
    within: Any = {
        key if key == "group_size" or "/" not in name else f"within_{key}": value for key, value in ADA.items()
    }
    left = Scheduler(store, name, run="r", consumer="left", seed=0, **within)
    right = Scheduler(store, run="r", consumer="right")
    mine, other = left.ask(4), right.ask(3)
    tell(left, mine, 0.0, resolve=None)
    tell(right, other, 0.0, resolve=None)
    more, others = left.top_up(mine.ticket), right.top_up(other.ticket)
    assert more is not None
    assert others is not None
    tell(left, more.take(np.array([True, True, False, False])), 0.0, resolve=None)
    before = left.curriculum.state_dict()

    path = store.path
    store.close()
    with open_store(path) as again:
        left, right = (Scheduler(again, run="r", consumer=name) for name in ("left", "right"))
        assert same_state(before, left.curriculum.state_dict())
        third = right.top_up(mine.ticket)  # of those that were told; what left holds is not handed to right
        assert third is not None
        assert (third.ticket.part, third.prompt_ids.tolist()) == (2, more.prompt_ids[:2].tolist())
        assert same(left.ask(4), mine)
        assert same(left.top_up(mine.ticket), more)
        assert left.top_up(mine.ticket) is None
        tell(left, more, 1.0, resolve=None)  # the half that was told before is known by its names
        assert left.top_up(mine.ticket) is None
        assert same(right.ask(1), other)
        assert same(right.ask(1), others)
        assert right.abandon("left") == 4
        assert [(part.ticket.round, part.ticket.part) for part in (right.ask(1) for _ in range(2))] == [
            (mine.ticket.round, part) for part in range(2)
        ]
        assert right.resolve(mine.prompt_ids, "trained") == (mine.ticket.round,)
        counts = "select prompt_id, count(*) from rollouts where round = ? group by prompt_id order by prompt_id"
        told = dict(again.connection.rows(counts, [mine.ticket.round]))
        assert told == dict.fromkeys(mine.prompt_ids.tolist(), 4)


def test_a_ticket_of_another_run_brings_nothing_again(store: PromptStore) -> None:
    scheduler = Scheduler(store, "reinforce-ada", run="r", seed=0, **ADA)
    first = scheduler.ask(2)
    tell(scheduler, first, 0.0, resolve=None)
    more = scheduler.top_up(first.ticket)
    path = store.path
    store.close()
    with open_store(path) as again:
        scheduler = Scheduler(again, run="r")
        with pytest.raises(InvalidParameter, match='is of run "other"'):
            scheduler.top_up(Ticket("other", 0, 0))
        assert scheduler.top_up(Ticket("r", 0, 1)) is None, "the part that it names is in the caller's hands"
        assert same(scheduler.top_up(first.ticket), more)


@pytest.mark.parametrize("name", ["vas", "ucb/vas"])
def test_probes_that_were_not_told_come_again_to_their_consumer(store: PromptStore, name: str) -> None:
    probes: Any = {"within_probe_rollouts" if "/" in name else "probe_rollouts": 4}
    left = Scheduler(store, name, run="r", consumer="left", seed=0, **probes)
    right = Scheduler(store, run="r", consumer="right")
    mine, other, train = left.ask(4, kind="probe"), right.ask(4, kind="probe"), right.ask(4)
    assert not set(mine.prompt_ids) & set(other.prompt_ids)
    due = left.curriculum.probes_due  # type: ignore[attr-defined]
    tell(left, mine.take(np.array([True, True, False, False])), 1.0, resolve="observed")
    path = store.path
    store.close()
    with open_store(path) as again:
        left, right = (Scheduler(again, run="r", consumer=name) for name in ("left", "right"))
        assert same(left.ask(1), mine.take(np.array([False, False, True, True])))
        assert same(right.ask(1), other)
        assert same(right.ask(1), train)
        tell(left, mine, 1.0)  # a probe that is "trained" is observed
        tell(right, other, 0.0, resolve="observed")
        tell(right, train, 1.0)
        assert left.curriculum.probes_due == due - 8  # type: ignore[attr-defined]
        events = again.connection.rows("select probe, event, count(*) from ledger group by all order by all")
        assert events == [(False, "issued", 4), (False, "observed", 8), (False, "trained", 4), (True, "issued", 8)]
        assert again.connection.rows("select probe, count(*) from rollouts group by probe order by probe") == [
            (False, 4 * 8),
            (True, 8 * 4),
        ]


@pytest.mark.parametrize("saved_before", [False, True])
def test_what_a_planner_is_told_after_the_last_write_is_kept_on_closing(store: PromptStore, saved_before: bool) -> None:
    scheduler = Scheduler(store, "dapo", run="r", seed=0)
    planner = scheduler.curriculum.planner  # type: ignore[attr-defined]
    scheduler.tell(scheduler.ask(planner.start(2).ask).prompt_ids, 1.0 * np.ones(planner.state()["step"][2]))
    if saved_before:
        scheduler.close()
    planner.finish()
    before = scheduler.curriculum.state_dict()
    path = store.path
    store.close()
    with open_store(path) as again:
        scheduler = Scheduler(again, run="r")
        assert same_state(before, scheduler.curriculum.state_dict())
        written = "select max(seq), count(*) from state"
        seq = again.connection.rows(written)
        scheduler.close()
        assert again.connection.rows(written) == seq


def test_settled_prompts_take_nothing_of_a_step_budget(store: PromptStore) -> None:
    scheduler = Scheduler(store, "reinforce-ada", run="r", seed=0, group_size=2, round_size=2, max_rounds=4, budget=2.0)
    first = scheduler.ask(4)
    scheduler.tell(first.prompt_ids.repeat(2), np.zeros(8), resolve=None)
    scheduler.resolve(first.prompt_ids[:3], "dropped", reason="stale")
    handed_out = 0
    while (more := scheduler.top_up(first.ticket)) is not None:
        assert more.prompt_ids.tolist() == first.prompt_ids[3:].tolist()
        handed_out += int(more.n_rollouts.sum())
        scheduler.tell(more.prompt_ids.repeat(more.n_rollouts), np.zeros(more.n_rollouts.sum()), resolve=None)
    assert handed_out == 6  # three further rounds of 2 for the one that is left; 8 were allowed


def test_stored_texts_are_part_of_the_first_evidence(store: PromptStore) -> None:
    ids = np.repeat(np.arange(1, 5), 4)
    texts = [
        "the same four words" if i < 3 else f"w{k} x{k} y{k} z{k}"
        for i, k in zip(ids, np.tile(range(4), 4), strict=True)
    ]
    table = pa.table(
        {
            "prompt_id": ids,
            "sample": np.tile(np.arange(4), 4).astype(np.int32),
            "reward": np.tile([0.0, 1.0, 0.0, 1.0], 4),
            "response": texts,
        }
    )
    store.rollouts.add(Source("m"), table)
    scheduler = Scheduler(store, "vas", run="r", seed=0)
    alike, diverse = scheduler.curriculum.explain(1), scheduler.curriculum.explain(4)
    assert alike["tds"] == pytest.approx(0.0)
    assert diverse["tds"] > 0.5
