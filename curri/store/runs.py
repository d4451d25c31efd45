"""Runs of a store: their parameters, their ledger, the saved state of their strategy."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curri._version import __version__
from curri.errors import UnknownName, unknown_name
from curri.state import StateChange, apply_change, pack, pack_change, unpack, unpack_change

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from curri.state import State
    from curri.store.connection import Connection
    from curri.types import Floats, Ints, Selection

RESOLUTIONS = ("trained", "dropped", "observed", "lost")
"""Events that settle a prompt of a round."""

_CONFIG = "config of run {}"
"""Key of ``meta`` under which the configuration stands that a run was made with."""

_UNSETTLED = f"""
    mine as (select * from ledger where run_id = ?),
    settled as (select round, prompt_id from mine where event in {RESOLUTIONS}),
    unsettled as (select * from mine anti join settled using (round, prompt_id))"""  # noqa: S608  a constant


@dataclass(frozen=True, slots=True)
class Run:
    """What a run was started with.

    Attributes:
        run_id: its number in the store.
        name: its name.
        strategy: registered name.
        parameters: every parameter of the strategy, the seed among them.
        evidence_model: the model whose stored rollouts it started from, or None.
    """

    run_id: int
    name: str
    strategy: str
    parameters: dict[str, Any]
    evidence_model: str | None


@dataclass(frozen=True, eq=False)
class LedgerRows:
    """Rows to append to the ledger; all share run, round, part, consumer, event and reason.

    Attributes:
        round: the round they belong to.
        part: part of the round.
        consumer: who it is issued to.
        event: "issued", "told", "abandoned" or one of ``RESOLUTIONS``.
        prompt_ids: shape (_B,).
        reason: why, for "dropped" and "lost".
        probe: whether an issue is of probes.
        n_rollouts: rollouts issued, shape (_B,), or None.
        probability: inclusion probabilities, shape (_B,), or None.
        told: responses told so far, shape (_B,), or None.
    """

    round: int
    part: int
    consumer: str
    event: str
    prompt_ids: Ints
    reason: str | None = None
    probe: bool = False
    n_rollouts: Ints | None = None
    probability: Floats | None = None
    told: Ints | None = None

    @classmethod
    def issued(cls, selection: Selection, consumer: str) -> LedgerRows:
        """A selection that is handed out."""
        return cls(
            round=selection.ticket.round,
            part=selection.ticket.part,
            consumer=consumer,
            event="issued",
            prompt_ids=selection.prompt_ids,
            probe=selection.kind == "probe",
            n_rollouts=selection.n_rollouts,
            probability=selection.probability,
        )

    def arrow(self, run_id: int, seq: int, schema: pa.Schema) -> pa.Table:
        """As rows of the table, whose columns ``schema`` names."""
        size = self.prompt_ids.size
        given = {**vars(self), "run_id": run_id, "seq": seq, "prompt_id": self.prompt_ids}
        columns = []
        for each in schema:
            value = given[each.name]
            if value is None:
                columns.append(pa.nulls(size, each.type))
            elif isinstance(value, np.ndarray):
                columns.append(pa.array(value, each.type))
            else:
                columns.append(pa.repeat(pa.scalar(value, each.type), size))
        return pa.Table.from_arrays(columns, schema=schema)


@dataclass(frozen=True, slots=True, eq=False)
class SavedState:
    """A strategy's state, the number of the transaction that left it, and the bytes it takes in the store."""

    state: State
    seq: int
    snapshot_bytes: int
    delta_bytes: int


class RunTable:
    """Runs of one store."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def names(self) -> list[str]:
        """Names of all runs, oldest first."""
        return [str(row[0]) for row in self._connection.rows("select name from runs order by run_id")]

    def find(self, name: str) -> Run | None:
        """The run of that name, or None."""
        rows = self._connection.rows(
            "select run_id, name, strategy, parameters, evidence_model from runs where name = ?", [name]
        )
        if not rows:
            return None
        run_id, name, strategy, parameters, model = rows[0]
        return Run(int(run_id), name, strategy, json.loads(parameters), model)

    def get(self, name: str) -> Run:
        """The run of that name.

        Raises:
            UnknownName: there is none.
        """
        run = self.find(name)
        if run is None:
            error: UnknownName = unknown_name("run", name, self.names(), listing="curri store info")
            raise error
        return run

    def create(self, name: str, strategy: str, parameters: dict[str, Any], evidence_model: str | None) -> Run:
        """Record a new run."""
        run_id = int(self._connection.value("select coalesce(max(run_id), -1) from runs")) + 1
        self._connection.execute(
            "insert into runs values (?, ?, ?, ?, ?, ?, ?)",
            [run_id, name, strategy, json.dumps(parameters), evidence_model, f"curri {__version__}",
             dt.datetime.now(dt.UTC).replace(tzinfo=None)],
        )  # fmt: skip
        return Run(run_id, name, strategy, parameters, evidence_model)

    def keep_config(self, run_id: int, config: Mapping[str, Any]) -> None:
        """Keep with a run how it was configured: any JSON, such as options with their values and origins."""
        key = _CONFIG.format(run_id)
        with self._connection.transaction():
            self._connection.execute("delete from meta where key = ?", [key])
            self._connection.execute("insert into meta values (?, ?)", [key, json.dumps(config)])

    def config(self, run_id: int) -> dict[str, Any] | None:
        """How a run was configured; None where nobody said."""
        found = self._connection.value("select value from meta where key = ?", [_CONFIG.format(run_id)])
        config: dict[str, Any] | None = None if found is None else json.loads(found)
        return config

    # ---- ledger -------------------------------------------------------------------------------------------------

    def append_ledger(self, run_id: int, seq: int, rows: Sequence[LedgerRows]) -> None:
        """Append to the ledger."""
        schema = self._connection.schema("ledger")
        tables = [part.arrow(run_id, seq, schema) for part in rows if part.prompt_ids.size]
        if tables:
            self._connection.insert("ledger", pa.concat_tables(tables))

    def open_rounds(self, run_id: int) -> pa.Table:
        """Every ledger row of the rounds in which a prompt is not settled, in the order of writing."""
        return self._connection.arrow(
            f"""with {_UNSETTLED}, open as (select distinct round from unsettled)
                select l.round, l.part, l.prompt_id, l.consumer, l.event, l.probe, l.n_rollouts, l.probability, l.told
                from ledger l join open using (round) where l.run_id = ? order by l.seq, l.rowid""",  # noqa: S608
            [run_id, run_id],
        )

    def issued(self, run_id: int, consumer: str, first_round: int) -> pa.Table:
        """Whom a consumer was handed to train on, from a round on, settled or not: round, prompt_id, n_rollouts."""
        return self._connection.arrow(
            """select round, prompt_id, n_rollouts from ledger
               where run_id = ? and consumer = ? and round >= ? and part = 0 and event = 'issued' and not probe
               order by round, seq, rowid""",
            [run_id, consumer, first_round],
        )

    def in_flight(self, run_id: int) -> Ints:
        """Prompts that were handed out and are not settled, ascending."""
        table = self._connection.arrow(
            f"""with {_UNSETTLED}
                select distinct prompt_id from unsettled where event = 'issued' order by prompt_id""",  # noqa: S608
            [run_id],
        )
        ids: Ints = table.column("prompt_id").to_numpy()
        return ids

    def rounds_of(self, run_id: int, prompt_ids: Ints, round_: int | None = None) -> dict[int, tuple[int, int]]:
        """For each prompt that was ever issued (in ``round_``): its last round and the responses told for it there."""
        table = self._connection.arrow(
            """with mine as (select prompt_id, round, told from ledger join asked on prompt_id = asked_id
                             where run_id = ? and round = coalesce(?, round)),
                    last as (select prompt_id, max(round) as round from mine group by prompt_id)
               select prompt_id, round, coalesce(max(told), 0) as told
               from mine join last using (prompt_id, round) group by prompt_id, round""",
            [run_id, round_],
            asked=pa.table({"asked_id": prompt_ids}),
        )
        columns = (table.column(name).to_pylist() for name in ("prompt_id", "round", "told"))
        return {prompt: (number, told) for prompt, number, told in zip(*columns, strict=True)}

    def event_counts(self, run_id: int) -> dict[str, int]:
        """How many ledger rows of each event a run has."""
        rows = self._connection.rows("select event, count(*) from ledger where run_id = ? group by event", [run_id])
        return {str(event): int(count) for event, count in rows}

    def history(self, run_id: int, prompt_id: int) -> list[dict[str, Any]]:
        """What happened to a prompt in a run, oldest first."""
        names = ("round", "part", "consumer", "event", "reason", "n_rollouts", "probability", "told")
        rows = self._connection.rows(
            f"select {', '.join(names)} from ledger where run_id = ? and prompt_id = ? order by seq, rowid",  # noqa: S608
            [run_id, prompt_id],
        )
        return [
            {name: value for name, value in zip(names, row, strict=True) if value is not None and value == value}  # noqa: PLR0124  drops NaN
            for row in rows
        ]

    # ---- state --------------------------------------------------------------------------------------------------

    def save_snapshot(self, run_id: int, seq: int, state: State) -> int:
        """Write a whole state and drop what came before it; gives its size in bytes."""
        self._connection.execute("delete from state where run_id = ?", [run_id])
        return self._append_state(run_id, seq, pack(state), is_snapshot=True)

    def save_change(self, run_id: int, seq: int, change: StateChange) -> int:
        """Write what changed; gives its size in bytes."""
        return self._append_state(run_id, seq, pack_change(change), is_snapshot=False)

    def _append_state(self, run_id: int, seq: int, payload: bytes, *, is_snapshot: bool) -> int:
        values = {"run_id": run_id, "seq": seq, "is_snapshot": is_snapshot, "payload": payload}
        self._connection.insert("state", pa.Table.from_pylist([values], schema=self._connection.schema("state")))
        return len(payload)

    def load_state(self, run_id: int) -> SavedState:
        """The state of a run as its last transaction left it."""
        rows = self._connection.rows(
            "select seq, is_snapshot, payload from state where run_id = ? order by seq", [run_id]
        )
        state: State = {}
        sizes = {True: 0, False: 0}
        for _, is_snapshot, payload in rows:
            state = unpack(payload) if is_snapshot else apply_change(state, unpack_change(payload))
            sizes[is_snapshot] += len(payload)
        return SavedState(state, int(rows[-1][0]), sizes[True], sizes[False])
