"""Strategies that work in rounds: top-ups, probes and verdicts go through the scheduler and survive a reopening."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from curri import Rollouts, Scheduler
from curri.curricula.base import Picked
from curri.curricula.uniform import Uniform
from curri.store import open_store
from curri.types import Ticket

if TYPE_CHECKING:
    from curri.curricula.evidence import Evidence
    from curri.store import PromptStore


class Stubborn(Uniform):
    """Gives two more rollouts to every prompt of the round that has no reward of 1 yet."""

    name: ClassVar[str] = "stubborn"
    tags: ClassVar[frozenset[str]] = frozenset({"rounds", "probes"})

    def _more(self, round_: int, told: Evidence) -> Picked | None:
        rows = np.setdiff1d(told.rows, told.rows[told.rewards == 1])
        return Picked(rows, np.full(rows.size, np.nan), np.full(rows.size, 2, dtype=np.int64))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ``stubborn`` a strategy."""
    monkeypatch.setattr("curri.scheduler.core.strategy_class", lambda _name: Stubborn)


def test_top_ups_are_parts_of_their_round(store: PromptStore) -> None:
    scheduler = Scheduler(store, "stubborn", run="r", group_size=2)
    first = scheduler.ask(4)
    a, b, c, d = first.prompt_ids.tolist()
    scheduler.tell([a, a, b, b, c, c, d, d], [1, 0, 0, 0, 0, 0, 1, 1], resolve=None)
    scheduler.resolve([c], "dropped", reason="surplus")
    more = scheduler.top_up(first.ticket)
    assert more is not None
    assert (more.ticket, more.prompt_ids.tolist(), more.n_rollouts.tolist()) == (Ticket("r", 0, 1), [b], [2])
    scheduler.tell([b, b], [0, 1], resolve=None)
    assert scheduler.top_up(first.ticket) is None
    assert scheduler.resolve([a, b, d], "trained") == (0,)
    assert scheduler.top_up(first.ticket) is None
    assert store.connection.rows("select sample from rollouts where prompt_id = ? order by sample", [b]) == [
        (0,),
        (1,),
        (2,),
        (3,),
    ]


def test_parts_come_again_after_a_reopening(store: PromptStore) -> None:
    scheduler = Scheduler(store, "stubborn", run="r", group_size=2)
    first = scheduler.ask(3)
    scheduler.tell(np.repeat(first.prompt_ids, 2), [0] * 6, resolve=None)
    more = scheduler.top_up(first.ticket)
    assert more is not None
    path = store.path
    store.close()
    with open_store(path) as again:
        scheduler = Scheduler(again, run="r")
        parts = [scheduler.ask(1), scheduler.ask(1)]
        assert [part.ticket.part for part in parts] == [0, 1]
        assert parts[1].prompt_ids.tolist() == more.prompt_ids.tolist()
        assert np.isnan(parts[1].probability).all()
        third = scheduler.top_up(first.ticket)
        assert third is not None
        assert third.ticket.part == 2


def test_probes_are_observed_and_not_trained_on(store: PromptStore) -> None:
    scheduler = Scheduler(store, "stubborn", run="r", group_size=2)
    probe = scheduler.ask(3, kind="probe")
    path = store.path
    store.close()
    with open_store(path) as again:
        scheduler = Scheduler(again, run="r")
        assert scheduler.ask(3).kind == "probe"
        scheduler.tell(probe.prompt_ids, [1, 0, 1], kind="probe")
        events = again.connection.rows("select event, count(*) from ledger group by event order by event")
        assert events == [("issued", 3), ("observed", 3)]
        assert again.connection.rows("select distinct probe from rollouts") == [(True,)]


def test_verdicts(store: PromptStore) -> None:
    scheduler = Scheduler(store, "stubborn", run="r")
    admission = scheduler.admit(Rollouts([3, 3, 5], [1, 0, 1]))
    assert (admission.prompt_ids.tolist(), admission.verdict.tolist()) == ([3, 5], ["keep", "keep"])
