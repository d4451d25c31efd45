"""The one authority over a run in this process: schedulers of several consumers share it."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curri.errors import CurriError, InvalidParameter, InvalidRollouts, RunMismatch, StoreError, WriteFailed
from curri.parameters import declared, refuse_unknown
from curri.registry import strategy as strategy_class
from curri.scheduler.picking import excluded, taught
from curri.scheduler.rounds import OpenRounds
from curri.store import RUN_MODEL, LedgerRows, Source
from curri.store.rollouts import occurrence
from curri.types import Ticket, prompt_id_array

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import ArrayLike, NDArray

    from curri.curricula.base import Curriculum
    from curri.store import PromptStore, Run
    from curri.types import Bools, Ints, Kind, Rollouts, Selection

_log = logging.getLogger("curri")

SNAPSHOT_SHARE = 0.1
SNAPSHOT_FLOOR = 4 << 20
"""A full snapshot is written when the deltas since the last one exceed this share of it, and this many bytes."""

PUBLISH_FIRST, PUBLISH_EVERY = 60.0, 300.0
"""Seconds a run holds the store before it publishes a copy, and between two of them."""

_APART = "tell probes and training rollouts apart"

NEVER_ISSUED = -1
"""The round of responses to prompts that were never handed out."""


class RunCore:
    """Strategy, open rounds and ledger of one run.

    Whatever changes in memory is committed in the same call. If that fails or is interrupted, the core refuses to go
    on; a scheduler made anew starts from what is in the store.
    """

    def __init__(self, store: PromptStore, run: Run, curriculum: Curriculum) -> None:
        self.store = store
        self.run = run
        self.curriculum = curriculum
        self.broken = False
        self.lock = threading.RLock()
        self._source_id = store.rollouts.source_id(Source(RUN_MODEL + run.name, run_id=run.run_id))
        self._pool_version = store.prompts.version
        self._seq = 0
        self._snapshot_bytes = 0
        self._delta_bytes = 0
        self._groups = self._live_groups = 0
        self._events = store.runs.event_counts(run.run_id)
        table = store.runs.open_rounds(run.run_id)
        self.rounds = OpenRounds.from_ledger(table, curriculum.pool, run.name, store.texts.fetch)
        self._publish_at = time.monotonic() + PUBLISH_FIRST
        self._unpublished = 0
        store.before_close(run.name, self.save_snapshot)

    # ---- making one ---------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls, store: PromptStore, strategy: str, name: str, model: str | None, parameters: dict[str, Any]
    ) -> RunCore:
        """Start a run: its strategy first learns from the stored rollouts of one model."""
        curriculum, evidence_model = taught(store, strategy_class(strategy), model, parameters)
        with store.transaction():
            run = store.runs.create(name, strategy, curriculum.parameters, evidence_model)
            core = cls(store, run, curriculum)
            core._write_snapshot()
        return core

    @classmethod
    def reopen(cls, store: PromptStore, run: Run) -> RunCore:
        """Go on with a run, from what its last transaction left."""
        saved = store.runs.load_state(run.run_id)
        pool = store.pool()
        known = pool.restricted_to(saved.state["prompt_ids"])
        curriculum: Curriculum = strategy_class(run.strategy)(known, **run.parameters)
        curriculum.load_state_dict(saved.state)
        if len(known) < len(pool):
            curriculum.extend(pool)
        core = cls(store, run, curriculum)
        core._seq = saved.seq
        core._snapshot_bytes, core._delta_bytes = saved.snapshot_bytes, saved.delta_bytes
        return core

    # ---- the contract -------------------------------------------------------------------------------------------

    def ask(
        self,
        consumer: str,
        n: int,
        kind: Kind,
        *,
        exclude: ArrayLike | None,
        among: ArrayLike | None,
        quota: Mapping[str, int] | None,
    ) -> Selection:
        """Open a round for a consumer."""
        left_out = None if exclude is None else prompt_id_array(exclude, "`exclude` of `ask`")
        allowed = None if among is None else prompt_id_array(among, "`among` of `ask`")
        with self._writing():
            if self.curriculum.has_announced and not len(self.rounds):
                self.curriculum.advance()  # nothing is under way that new prompts could disturb
            barred = excluded(self.curriculum.pool, allowed, self.rounds.in_flight, left_out)
            selection = self.curriculum.ask(n, kind=kind, exclude=barred, quota=quota)
            return self._hand_out(selection, consumer, part=0)

    def top_up(self, consumer: str, ticket: Ticket) -> Selection | None:
        """Ask the strategy for extra rollouts in an open round; settled prompts get none."""
        with self._writing():
            round_ = self.rounds.get(ticket.round)
            if round_ is not None:
                issued = round_.issues[0].selection.prompt_ids.tolist()
                settled = [prompt for prompt in issued if prompt not in round_.open]
                selection = self.curriculum.top_up(ticket, settled=settled)
                wanted = None if selection is None else selection.take(~np.isin(selection.prompt_ids, settled))
                if wanted is not None and len(wanted):
                    return self._hand_out(wanted, consumer, part=len(round_.issues))
            if "rounds" in self.curriculum.tags:
                self._commit([])  # its cursors may have moved
            return None

    def look_ahead(self, n: int, kind: Kind, among: ArrayLike | None) -> Selection:
        """What the next new round would be, without opening it: a copy of the strategy is asked."""
        allowed = None if among is None else prompt_id_array(among, "`among` of `look_ahead`")
        with self.lock:
            self._announce_new_prompts()
            copy = type(self.curriculum)(self.curriculum.pool, **self.curriculum.parameters)
            copy.load_state_dict(self.curriculum.state_dict())
            if self.curriculum.has_announced and not len(self.rounds):
                copy.extend(self.store.pool())
                copy.advance()
            barred = excluded(copy.pool, allowed, self.rounds.in_flight)
            return replace(copy.ask(n, kind=kind, exclude=barred), fetch=self.store.texts.fetch)

    def _hand_out(self, selection: Selection, consumer: str, part: int) -> Selection:
        ticket = Ticket(self.run.name, selection.ticket.round, part)
        issued = replace(selection, ticket=ticket, fetch=self.store.texts.fetch)
        self.rounds.issue(issued, consumer)
        self._commit([LedgerRows.issued(issued, consumer)])
        return issued

    def tell(
        self, consumer: str, rollouts: Rollouts, number: int | None, event: str | None, reason: str | None
    ) -> tuple[int, int, Ints, tuple[int, ...]]:
        """Record outcomes; gives new, repeated, prompts not in flight with new ones, and rounds closed."""
        with self._writing():
            prompt_ids, group = np.unique(rollouts.prompt_ids, return_inverse=True)
            rounds, told, settled = self.place(prompt_ids, number)
            rollouts = self._of_kind(rollouts, rounds[~settled])
            repeated = self._repeated(rollouts, prompt_ids, group, rounds=rounds, told=np.where(settled, told, 0))
            new, group = rollouts.take(~repeated), group[~repeated]
            ordinal = told[group] + occurrence(group)
            counts = told + np.bincount(group, minlength=prompt_ids.size)
            stored = _rows(new, rounds[group], ordinal)
            self._learn(new, group, prompt_ids.size)
            more = (counts > told) & (rounds != NEVER_ISSUED)
            recorded = more & (settled | (event is None))
            ledger = self._note_told(
                consumer, prompt_ids=prompt_ids, rounds=rounds, counts=counts, more=more, recorded=recorded
            )
            in_flight = ~settled & (rounds >= 0)
            if event is not None:
                ledger += self._settle(prompt_ids[in_flight], event, reason, consumer)
            closed = self._close(rounds[in_flight])
            self._commit(ledger, stored)
        return len(new), int(repeated.sum()), prompt_ids[~in_flight & (counts > told)], closed

    def resolve(self, consumer: str, prompt_ids: Ints, event: str, reason: str | None) -> tuple[int, ...]:
        """Settle prompts in flight; gives the rounds this closed."""
        with self._writing():
            numbers = np.array(list(self.rounds.by_round(prompt_ids)), dtype=np.int64)
            ledger = self._settle(prompt_ids, event, reason, consumer)
            closed = self._close(numbers)
            self._commit(ledger)
        return closed

    def abandon(self, consumer: str, heir: str) -> list[tuple[int, int]]:
        """Hand what a consumer holds to another; gives (round, part) of it."""
        with self._writing():
            moved = self.rounds.of_consumer(consumer)
            handed = [(number, part, self.rounds.hand_over(number, part, heir)) for number, part in moved]
            self._commit([LedgerRows(number, part, heir, "abandoned", ids) for number, part, ids in handed])
        return moved

    def open_ticket(self, consumer: str) -> Ticket | None:
        """The last part of a consumer's lowest open round, or None."""
        with self.lock:
            held = self.rounds.of_consumer(consumer)
            last = max((part for number, part in held if number == held[0][0]), default=0)
            return Ticket(self.run.name, held[0][0], last) if held else None

    def lowest_round(self, consumer: str) -> int:
        """The lowest open round of a consumer, or the number of the next round."""
        with self.lock:
            held = self.rounds.of_consumer(consumer)
            return held[0][0] if held else self.curriculum.rounds_asked

    def metrics(self) -> dict[str, float]:
        """Counts of the ledger, and of the groups told since the run was opened, with metrics of the strategy."""
        with self.lock:
            values: dict[str, float] = {
                "rounds_open": len(self.rounds),
                "prompts_in_flight": self.rounds.in_flight.size,
                "groups_told": self._groups,
                "groups_with_signal": self._live_groups,
                "copies_failed": self._unpublished,
                **{f"prompts_{event}": count for event, count in self._events.items()},
            }
            strategy = self.curriculum.metrics()
        return strategy | {f"scheduler/{name}": float(value) for name, value in values.items()}

    # ---- telling ------------------------------------------------------------------------------------------------

    def place(self, prompt_ids: Ints, number: int | None) -> tuple[Ints, Ints, Bools]:
        """For each prompt: its round, how many responses it has there, and whether it is settled there.

        Raises:
            UnknownPrompt: an id is not in the pool.
            InvalidRollouts: round ``number`` never had one of them.
        """
        self.curriculum.check_known(prompt_ids)
        rounds = np.full(prompt_ids.size, NEVER_ISSUED, dtype=np.int64)
        told = np.zeros(prompt_ids.size, dtype=np.int64)
        settled = np.ones(prompt_ids.size, dtype=np.bool_)
        for place, prompt in enumerate(prompt_ids.tolist()):
            found = self.rounds.round_of(prompt)
            round_ = None if found is None or (number is not None and found != number) else self.rounds.get(found)
            if found is not None and round_ is not None:
                rounds[place], told[place], settled[place] = found, round_.told.get(prompt, 0), False
        elsewhere = np.flatnonzero(settled)
        if elsewhere.size:
            rounds[elsewhere], told[elsewhere] = self._placed_in_past(prompt_ids[elsewhere], number)
            settled[rounds == NEVER_ISSUED] = False  # so that their numbering goes on
        return rounds, told, settled

    def _placed_in_past(self, prompt_ids: Ints, number: int | None) -> tuple[Ints, Ints]:
        past = self.store.runs.rounds_of(self.run.run_id, prompt_ids, number)
        if number is not None and len(past) < prompt_ids.size:
            missing = [prompt for prompt in prompt_ids.tolist() if prompt not in past]
            raise InvalidRollouts(
                f"{len(missing)} prompts were never handed out in round {number}, among them {missing[0]}",
                hint="leave `round` out: each prompt is then taken to belong to the round it is in flight in",
            )
        unissued = prompt_ids[[prompt not in past for prompt in prompt_ids.tolist()]]
        counts = self.store.rollouts.counts(self._source_id, NEVER_ISSUED, unissued)
        pairs = [past.get(prompt, (NEVER_ISSUED, counts.get(prompt, 0))) for prompt in prompt_ids.tolist()]
        placed = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return placed[:, 0], placed[:, 1]

    def _of_kind(self, rollouts: Rollouts, rounds: Ints) -> Rollouts:
        """The rollouts as what they were handed out for: probes told without a word are still probes."""
        opened = [self.rounds.get(number) for number in np.unique(rounds[rounds >= 0]).tolist()]
        kinds = {round_.kind for round_ in opened if round_ is not None}
        if len(kinds) > 1:
            raise InvalidRollouts("some of these prompts were handed out as probes, some to train on", hint=_APART)
        return rollouts.with_columns(kind="probe") if kinds == {"probe"} else rollouts

    def _repeated(
        self, rollouts: Rollouts, prompt_ids: Ints, group: NDArray[np.intp], *, rounds: Ints, told: Ints
    ) -> Bools:
        """Which responses are there already.

        Named ones are known by their names. Unnamed ones of a settled prompt repeat what was told for it if every one
        of their rewards is among those; else they are late ones that nobody has seen.
        """
        if rollouts.rollout_ids is not None:
            return self._known_names(rollouts)
        repeated = occurrence(group) < told[group]
        if repeated.any():
            places = np.unique(group[repeated])
            known = self.store.rollouts.rewards_of(self._source_id, prompt_ids[places], rounds[places])
            for place, rewards in zip(places.tolist(), known, strict=True):
                mine = repeated & (group == place)
                if Counter(rollouts.rewards[mine].tolist()) - Counter(rewards.tolist()):
                    repeated &= ~mine
        return repeated

    def _known_names(self, rollouts: Rollouts) -> Bools:
        """Which responses repeat a named one of this run, or an earlier one of this call."""
        names = np.asarray(rollouts.rollout_ids).astype(np.str_)
        pairs = np.rec.fromarrays([rollouts.prompt_ids, names])
        _, firsts = np.unique(pairs, return_index=True)
        repeated = np.ones(names.size, dtype=np.bool_)
        repeated[firsts] = False
        return repeated | self.store.rollouts.known_names(self._source_id, rollouts.prompt_ids, names)

    def _learn(self, new: Rollouts, group: NDArray[np.intp], n_groups: int) -> None:
        """Hand new responses to the strategy, without their names: that they are new is settled here."""
        self.curriculum.tell(new.with_columns(rollout_ids=None))
        low, high = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
        np.minimum.at(low, group, new.rewards)
        np.maximum.at(high, group, new.rewards)
        self._groups += int(np.isfinite(low).sum())
        self._live_groups += int((low < high).sum())

    def _note_told(
        self, consumer: str, *, prompt_ids: Ints, rounds: Ints, counts: Ints, more: Bools, recorded: Bools
    ) -> list[LedgerRows]:
        """Remember how much was told; ledger rows only for prompts that this call does not settle anyway."""
        rows = []
        for number in np.unique(rounds[more]).tolist():
            mine = more & (rounds == number)
            self.rounds.note_told(number, dict(zip(prompt_ids[mine].tolist(), counts[mine].tolist(), strict=True)))
            mine &= recorded
            rows.append(LedgerRows(number, 0, consumer, "told", prompt_ids[mine], told=counts[mine]))
        return rows

    def _settle(self, prompt_ids: Ints, event: str, reason: str | None, consumer: str) -> list[LedgerRows]:
        rows = []
        for number, ids in self.rounds.by_round(prompt_ids).items():
            round_ = self.rounds.get(number)
            probe = round_ is not None and round_.kind == "probe"
            own = "observed" if event == "trained" and probe else event
            told = np.array(self.rounds.settle(number, ids), dtype=np.int64)
            rows.append(LedgerRows(number, 0, consumer, own, ids, reason=reason, told=told))
        return rows

    def _close(self, numbers: Ints) -> tuple[int, ...]:
        closed = self.rounds.close_settled(numbers.tolist())
        for _ in closed:
            self.curriculum.advance(hold=self.rounds.in_flight)
        return closed

    # ---- writing ------------------------------------------------------------------------------------------------

    def check_usable(self) -> None:
        """Refuse to go on after a failed or interrupted write."""
        if self.broken:
            raise WriteFailed(
                f'a write of run "{self.run.name}" failed or was interrupted',
                hint="make the Scheduler anew: it goes on from what is in the store",
            )

    def check_ticket(self, ticket: Ticket) -> None:
        """Refuse a ticket of another run."""
        if ticket.run not in ("", self.run.name):
            raise InvalidParameter(f'`ticket` is of run "{ticket.run}"; this is run "{self.run.name}"')

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One caller at a time; anything but a refusal of the caller's input leaves the core unusable."""
        with self.lock:
            self.check_usable()
            if self.store.read_only:
                raise StoreError(f"the store {self.store.path} is open for reading only", hint="open it to write")
            self._announce_new_prompts()
            try:
                yield
            except CurriError as error:
                self.broken = isinstance(error, WriteFailed)
                raise
            except BaseException:
                self.broken = True
                raise

    def _commit(self, ledger: list[LedgerRows], rollouts: pa.Table | None = None) -> None:
        with self.store.transaction():
            self._seq += 1
            if rollouts is not None:
                self.store.rollouts.append(self._source_id, rollouts)
            self.store.runs.append_ledger(self.run.run_id, self._seq, ledger)
            self._write_state()
        self._publish_when_due()
        for rows in ledger:
            self._events[rows.event] = self._events.get(rows.event, 0) + int(rows.prompt_ids.size)

    def _write_state(self) -> None:
        change = self.curriculum.changes()
        too_many = self._delta_bytes > max(SNAPSHOT_FLOOR, SNAPSHOT_SHARE * self._snapshot_bytes)
        if change is None or too_many:
            self._write_snapshot()
        else:
            self._delta_bytes += self.store.runs.save_change(self.run.run_id, self._seq, change)

    def _write_snapshot(self) -> None:
        self.curriculum.changes()
        self._snapshot_bytes = self.store.runs.save_snapshot(self.run.run_id, self._seq, self.curriculum.state_dict())
        self._delta_bytes = 0

    def save_snapshot(self) -> None:
        """Write the whole state if it changed since the last snapshot."""
        with self.lock:
            if not self.broken and not self.store.read_only and (self._delta_bytes or self._is_ahead()):
                with self._writing(), self.store.transaction():
                    self._write_snapshot()

    def _is_ahead(self) -> bool:
        """Whether the strategy moved since the last write, as by its planner; to be followed by a snapshot."""
        change = self.curriculum.changes()
        return change is None or bool(change.values or change.removed or change.prompt_ids.size)

    def _publish_when_due(self) -> None:
        """Now and then, at most one part in a hundred of the time, give other processes a copy to read."""
        if time.monotonic() < self._publish_at:
            return
        start = time.monotonic()
        try:
            self.store.publish()
        except StoreError as error:  # a run does not stop because nobody can watch it
            self._unpublished += 1
            if self._unpublished == 1:
                _log.warning("no copy of the store for other processes: %s", error.message)
        seconds = time.monotonic() - start
        self._publish_at = time.monotonic() + max(PUBLISH_EVERY, 100 * seconds)

    def _announce_new_prompts(self) -> None:
        if self._pool_version != self.store.prompts.version:
            self.curriculum.extend(self.store.pool())
            self._pool_version = self.store.prompts.version


def core_of(
    store: PromptStore, strategy: str | None, name: str, model: str | None, parameters: dict[str, Any]
) -> RunCore:
    """The core of a run: the one in memory, one from the store, or a new one.

    Raises:
        RunMismatch: the run has another strategy, model or parameter.
        UnknownName: the run does not exist and no strategy was named.
    """
    with _CORES_LOCK:
        core: RunCore | None = store.attached.get(name)
        if core is None or core.broken:
            run = store.runs.find(name) if strategy is not None else store.runs.get(name)
            if run is None:
                core = RunCore.create(store, str(strategy), name, model, parameters)
            else:
                _check_same(run, strategy, model, parameters)
                core = RunCore.reopen(store, run)
            store.attached[name] = core
        _check_same(core.run, strategy, model, parameters)
        return core


_CORES_LOCK = threading.Lock()
"""Two threads that open the same run get the same core."""


def _check_same(run: Run, strategy: str | None, model: str | None, parameters: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"strategy": strategy, "model": model}
    present: dict[str, Any] = {"strategy": run.strategy, "model": run.evidence_model}
    asked = {key: value for key, value in asked.items() if value is not None}
    owner = strategy_class(run.strategy)
    if asked.get("strategy", run.strategy) == run.strategy:
        refuse_unknown(parameters, owner)
        known = declared(owner)
        asked |= {key: known[key].checked(value, name=key, owner=owner.__name__) for key, value in parameters.items()}
        present |= run.parameters
    for key, value in asked.items():
        if present[key] != value:
            raise RunMismatch(
                f'run "{run.name}" was started with {key} = {present[key]!r}; got {value!r}',
                hint="leave it out to go on with the run, or take another run name to start a new one",
            )


def _rows(new: Rollouts, rounds: Ints, ordinal: Ints) -> pa.Table | None:
    """Responses as rows of the store.

    Raises:
        InvalidRollouts: a text or an extra that cannot be stored.
    """
    if not len(new):
        return None
    columns: dict[str, Any] = {
        "prompt_id": new.prompt_ids,
        "sample": ordinal.astype(np.int32),
        "reward": new.rewards,
        "solved": pa.array(new.solved, from_pandas=True),
        "round": rounds.astype(np.int32),
        "probe": np.full(len(new), new.kind == "probe"),
    }
    try:
        names = None if new.rollout_ids is None else pa.array(new.rollout_ids.astype(np.str_).tolist(), pa.string())
        texts = None if new.responses is None else pa.array([_text(r) for r in new.responses], pa.string())
        extras = _extras(new.extras, len(new))
    except (TypeError, ValueError, pa.ArrowException) as error:
        message = f"`responses`, `rollout_ids` or `extras` hold what cannot be stored ({type(error).__name__}: {error})"
        raise InvalidRollouts(message, hint="texts must be valid Unicode, extras numbers, booleans or texts") from error
    optional = {
        "advantage": None if new.advantages is None else pa.array(new.advantages, from_pandas=True),
        "tokens": None if new.tokens is None else new.tokens.astype(np.int32),
        "truncated": new.truncated,
        "policy_version": new.policy_version,
        "rollout_id": names,
        "response": texts,
        "extras": extras,
    }
    return pa.table(columns | {name: column for name, column in optional.items() if column is not None})


def _text(response: Any) -> str | None:
    return response if response is None or isinstance(response, str) else json.dumps(list(response))


def _extras(extras: Mapping[str, NDArray[Any]], size: int) -> pa.Array | None:
    if not extras:
        return None
    columns = {name: column.tolist() for name, column in extras.items()}
    rows = ({name: column[i] for name, column in columns.items()} for i in range(size))
    return pa.array([json.dumps(row, allow_nan=False) for row in rows])
