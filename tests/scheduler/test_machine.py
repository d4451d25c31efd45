"""Random sequences of calls and reopenings against a simple model of what the ledger must say."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from curri import Scheduler
from curri.state import same_state
from curri.store import NewPrompt, open_store
from curri.types import Ticket

CONSUMERS = ("left", "right")
STRATEGIES: dict[str, dict[str, Any]] = {
    "ucb": {},
    "uniform": {},
    "mopps": {"cooldown": 2},
    "eva": {"schedule": "online", "warmup": 1, "mixup": 1},
    "greso": {},
    "vas": {"probe_rollouts": 2, "refresh": 2},
    "reinforce-ada": {"group_size": 2, "round_size": 2, "max_rounds": 3, "incomplete": "go_on"},
    "ucb/reinforce-ada": {"group_size": 2, "within_round_size": 2, "within_incomplete": "go_on"},
}

Part = tuple[int, int]
"""Round and part of it."""


class Ledger(RuleBasedStateMachine):
    """Two consumers of one run; the model knows who holds what, and how many responses each prompt has."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.held: dict[str, dict[Part, list[int]]] = {name: {} for name in CONSUMERS}
        self.kinds: dict[int, str] = {}
        self.told: Counter[int] = Counter()
        self.names: set[tuple[int, str]] = set()

    @initialize(strategy=st.sampled_from(sorted(STRATEGIES)))
    def start(self, strategy: str) -> None:
        self.strategy = strategy
        self.store = open_store(self.folder / "p.duckdb", create=True)
        self.store.prompts.add([NewPrompt(f"{i}?", is_chat=False, answer=None, arm=f"arm{i % 3}") for i in range(24)])
        Scheduler(self.store, strategy, run="r", seed=5, **STRATEGIES[strategy])
        self.connect()

    def connect(self) -> None:
        self.schedulers = {name: Scheduler(self.store, run="r", consumer=name) for name in CONSUMERS}
        self.waiting = {name: sorted(parts) for name, parts in self.held.items()}

    def in_flight(self, number: int | None = None) -> set[int]:
        parts = [part for held in self.held.values() for part in held.items()]
        return {prompt for place, prompts in parts for prompt in prompts if number in (None, place[0])}

    def expect_again(self, consumer: str, part: Part, selection: Any) -> None:
        assert selection.reissued
        assert (selection.ticket.round, selection.ticket.part) == part
        assert selection.prompt_ids.tolist() == self.held[consumer][part]
        self.waiting[consumer].remove(part)

    @rule(consumer=st.sampled_from(CONSUMERS), n=st.integers(1, 5), probe=st.booleans())
    def ask(self, consumer: str, n: int, probe: bool) -> None:
        self.waiting[consumer] = [part for part in self.waiting[consumer] if part in self.held[consumer]]
        if not self.waiting[consumer] and len(self.in_flight()) + n > 24:
            return
        kind: Any = "probe" if probe and self.strategy == "vas" else "train"
        selection = self.schedulers[consumer].ask(n, kind=kind)
        number, ids = selection.ticket.round, selection.prompt_ids.tolist()
        if self.waiting[consumer]:
            self.expect_again(consumer, self.waiting[consumer][0], selection)
            assert selection.kind == self.kinds[number]
        else:
            assert not selection.reissued
            assert len(ids) == n
            assert not set(ids) & self.in_flight()
            assert selection.kind == kind
            self.held[consumer][number, 0] = ids
            self.kinds[number] = kind

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), consumer=st.sampled_from(CONSUMERS))
    def top_up(self, data: st.DataObject, consumer: str) -> None:
        numbers = sorted({number for parts in self.held.values() for number, _ in parts})
        number = data.draw(st.sampled_from(numbers))
        selection = self.schedulers[consumer].top_up(Ticket("r", number, 0))
        later = [
            part for part in self.waiting[consumer] if part in self.held[consumer] and part[0] == number and part[1]
        ]
        if later:
            self.expect_again(consumer, later[0], selection)
        elif selection is not None:
            assert "reinforce-ada" in self.strategy
            assert not selection.reissued
            assert selection.ticket.round == number
            assert selection.ticket.part > max(
                part for held in self.held.values() for other, part in held if other == number
            )
            assert set(selection.prompt_ids.tolist()) <= self.in_flight(number)
            assert ((selection.n_rollouts > 0) & (selection.n_rollouts <= 2)).all()
            self.held[consumer][number, selection.ticket.part] = selection.prompt_ids.tolist()

    def some(self, data: st.DataObject, consumer: str) -> list[int]:
        parts = self.held[consumer].items()
        kind = self.kinds[min(self.held[consumer])[0]]
        prompts = sorted({prompt for part, prompts in parts for prompt in prompts if self.kinds[part[0]] == kind})
        return data.draw(st.lists(st.sampled_from(prompts), min_size=1, max_size=6, unique=True))

    def settle(self, prompts: list[int]) -> None:
        for parts in self.held.values():
            for part in list(parts):
                parts[part] = [prompt for prompt in parts[part] if prompt not in prompts]
                if not parts[part]:
                    del parts[part]

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), each=st.integers(1, 3), settled=st.booleans())
    def tell(self, data: st.DataObject, each: int, settled: bool) -> None:
        consumer = data.draw(st.sampled_from([name for name in CONSUMERS if self.held[name]]))
        prompts = self.some(data, consumer)
        ids = np.repeat(prompts, each)
        rewards = [float(data.draw(st.integers(0, 1))) for _ in ids]
        resolve: Any = "trained" if settled else None
        told = self.schedulers[consumer].tell(ids, rewards, resolve=resolve)
        assert (told.new, told.repeated, told.unissued.size) == (ids.size, 0, 0)
        self.told.update(ids.tolist())
        if settled:
            self.settle(prompts)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), name=st.sampled_from(["a", "b", "c"]))
    def tell_by_name(self, data: st.DataObject, name: str) -> None:
        consumer = data.draw(st.sampled_from([name for name in CONSUMERS if self.held[name]]))
        prompts = self.some(data, consumer)
        names, rewards = [name] * len(prompts), [1.0] * len(prompts)
        told = self.schedulers[consumer].tell(prompts, rewards, rollout_ids=names, resolve=None)
        new = [prompt for prompt in prompts if (prompt, name) not in self.names]
        assert (told.new, told.repeated) == (len(new), len(prompts) - len(new))
        self.names.update((prompt, name) for prompt in new)
        self.told.update(new)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), event=st.sampled_from(["dropped", "lost"]))
    def resolve(self, data: st.DataObject, event: Any) -> None:
        consumer = data.draw(st.sampled_from([name for name in CONSUMERS if self.held[name]]))
        prompts = self.some(data, consumer)
        self.schedulers[consumer].resolve(prompts, event)
        self.settle(prompts)

    @rule(heir=st.sampled_from(CONSUMERS))
    def abandon(self, heir: str) -> None:
        dead = CONSUMERS[1 - CONSUMERS.index(heir)]
        moved = self.held[dead]
        assert self.schedulers[heir].abandon(dead) == len({prompt for prompts in moved.values() for prompt in prompts})
        self.held[heir] |= moved
        self.held[dead] = {}
        self.waiting[heir] = sorted({*self.waiting[heir], *moved})
        self.waiting[dead] = []

    @rule()
    def reopen(self) -> None:
        before = self.schedulers["left"].curriculum.state_dict()
        self.store.close()
        self.store = open_store(self.folder / "p.duckdb")
        self.connect()
        assert same_state(before, self.schedulers["left"].curriculum.state_dict())

    @invariant()
    def model_and_store_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        stored = dict(self.store.connection.rows("select prompt_id, count(*) from rollouts group by prompt_id"))
        assert stored == dict(self.told)
        keys = "select count(*), count(distinct (prompt_id, round, sample)) from rollouts"
        assert len(set(self.store.connection.rows(keys)[0])) == 1
        metrics = self.schedulers["left"].metrics()
        assert metrics["scheduler/prompts_in_flight"] == len(self.in_flight())
        open_ = {number for parts in self.held.values() for number, _ in parts}
        assert metrics["scheduler/rounds_open"] == len(open_)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        shutil.rmtree(self.folder)


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=25, deadline=None, phases=(Phase.generate,))
