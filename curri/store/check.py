"""Whether a store is whole: its log, its tables, what belongs together in them, and the states of its runs."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

from curri.errors import CurriError, StoreLocked, StoreNotFound, shown_some
from curri.store import schema
from curri.store.connection import CONFIG, repair_hint
from curri.store.prompt_store import open_store
from curri.store.prompts import NewPrompt
from curri.store.salvage import newer_copy, position_of
from curri.store.wal import log_path, read_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from curri.store.connection import Connection
    from curri.store.prompt_store import PromptStore

SAMPLE = 10_000
"""Prompts whose digest is computed again, unless all are asked for."""

# name: what must not be, as a query of what is wrong; and what it is called.
_RELATIONS: dict[str, tuple[str, str]] = {
    "prompts without an arm": ("select prompt_id from prompts anti join arms using (arm_id)", "prompt_id"),
    "prompts without their parent": (
        """select p.prompt_id from prompts p anti join prompts q on p.parent_id = q.prompt_id
           where p.parent_id is not null""",
        "prompt_id",
    ),
    "prompt ids that are there twice": (
        "select prompt_id from prompts group by prompt_id having count(*) > 1 or prompt_id is null",
        "prompt_id",
    ),
    "prompts that are there twice": (
        "select min(prompt_id) from prompts group by digest_high, digest_low having count(*) > 1",
        "prompt_id",
    ),
    "arms that are there twice": (
        """select min(arm_id) from arms group by name having count(*) > 1 union
           select arm_id from arms group by arm_id having count(*) > 1""",
        "arm_id",
    ),
    "rollouts without a prompt": ("select prompt_id from rollouts anti join prompts using (prompt_id)", "prompt_id"),
    "rollouts without a source": ("select source_id from rollouts anti join sources using (source_id)", "source_id"),
    "rollouts that are there twice": (
        """select prompt_id from rollouts group by prompt_id, source_id, round, sample having count(*) > 1""",
        "prompt_id",
    ),
    "rollouts without a finite reward": (
        "select prompt_id from rollouts where reward is null or not isfinite(reward)",
        "prompt_id",
    ),
    "sources of unknown runs": (
        "select source_id from sources anti join runs using (run_id) where run_id >= 0",
        "source_id",
    ),
    "runs that are there twice": (
        """select min(run_id) from runs group by name having count(*) > 1 union
           select run_id from runs group by run_id having count(*) > 1""",
        "run_id",
    ),
    "ledger rows of unknown runs": ("select run_id from ledger anti join runs using (run_id)", "run_id"),
    "ledger rows of unknown prompts": ("select prompt_id from ledger anti join prompts using (prompt_id)", "prompt_id"),
    "ledger rows of prompts that were never handed out": (
        """select prompt_id from ledger anti join (select run_id, round, prompt_id from ledger where event = 'issued')
           using (run_id, round, prompt_id)""",
        "prompt_id",
    ),
    "prompts settled twice in a round": (
        """select prompt_id from ledger where event in ('trained', 'dropped', 'observed', 'lost')
           group by run_id, round, prompt_id having count(*) > 1""",
        "prompt_id",
    ),
    "states of unknown runs": ("select run_id from state anti join runs using (run_id)", "run_id"),
}

# Responses the ledger counts against those stored, by run, round and prompt.
_TOLD = """
    with counted as (
        select run_id, round, prompt_id, coalesce(max(told), 0) as told from ledger where round >= 0 group by all),
    stored as (
        select s.run_id, r.round, r.prompt_id, count(*) as stored
        from rollouts r join sources s using (source_id) where s.run_id >= 0 and r.round >= 0 group by all)
    select runs.name, round, prompt_id, coalesce(told, 0) as told, coalesce(stored, 0) as stored
    from counted full join stored using (run_id, round, prompt_id) left join runs using (run_id)
    where coalesce(told, 0) <> coalesce(stored, 0) order by 1, 2, 3"""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question.

    Attributes:
        name: what was looked at.
        ok: whether it is as it should be.
        message: what was found.
        hint: what helps, where it is not.
    """

    name: str
    ok: bool
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        path: the store.
        findings: one an examination, in order.
        rows: rows of every table.
        snapshot_age: age in seconds of the published copy that was looked at, because a run holds the store; or None.
    """

    path: Path
    findings: list[Finding] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    snapshot_age: float | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.ok for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "store": str(self.path),
            "findings": [asdict(finding) for finding in self.findings],
            "rows": self.rows,
            "snapshot_age": self.snapshot_age,
        }


def check_store(path: Path, *, everything: bool = False) -> Report:
    """Look whether a store is whole; changes nothing.

    While a run holds it, the copy that the run published is looked at.

    Args:
        path: the store.
        everything: compute the digest of every prompt again, instead of that of a sample.

    Raises:
        StoreNotFound: there is no file.
        StoreLocked: a run holds it and has not published a copy yet.
    """
    report = Report(path)
    if path.is_file():
        report.findings.append(_log(path))
    try:
        store = open_store(path, read_only=True)
    except (StoreNotFound, StoreLocked):
        raise
    except CurriError as error:
        report.findings.append(Finding("it opens", ok=False, message=error.message, hint=error.hint))
        return report
    with store:
        if store.snapshot_age is not None:  # what is read of a log that is being written means nothing
            report = Report(path, snapshot_age=store.snapshot_age)
        report.findings.append(Finding("it opens", ok=True, message=f"schema version {schema.SCHEMA_VERSION}"))
        if store.snapshot_age is None:
            report.findings.append(_published(store))
        with store.connection.all_cores():
            report.findings.extend(_findings(store, report.rows, everything=everything))
    return report


def _log(path: Path) -> Finding:
    log = read_log(log_path(path))
    return Finding("write-ahead log", log.is_sound, log.describe(), None if log.is_sound else repair_hint(path))


def _published(store: PromptStore) -> Finding:
    """Whether the store is behind the copy a run published: then it lost the end of its log."""
    name = "the published copy"
    if store.connection.read_only:
        with duckdb.connect(str(store.path), read_only=True, config=CONFIG) as handle:
            newer = newer_copy(store.path, position_of(handle, store.path))
        if newer is not None:
            message = f"{newer} knows more than the store, which must have lost the end of its log"
            hint = f"look at both: curri store info --store {newer}   take the copy: cp {newer} {store.path}"
            return Finding(name, ok=False, message=message, hint=hint)
    return Finding(name, ok=True, message="the store is not behind it")


def _findings(store: PromptStore, rows: dict[str, int], *, everything: bool) -> Iterator[Finding]:
    connection = store.connection
    unreadable = list(_unreadable(connection, rows))
    yield from unreadable or [Finding("every block is read", ok=True, message=f"{sum(rows.values()):,} rows")]
    if unreadable:
        return
    yield _digests(connection, limit=None if everything else SAMPLE)
    for name, (query, column) in _RELATIONS.items():
        yield _relation(connection, name, query, column)
    if "priors" in rows:
        query = "select prompt_id from priors anti join prompts using (prompt_id)"
        yield _relation(connection, "priors without a prompt", query, "prompt_id")
    yield _told(connection)
    for name in store.runs.names():
        yield _state(store, name)


def _unreadable(connection: Connection, rows: dict[str, int]) -> Iterator[Finding]:
    """Tables whose blocks cannot all be read: DuckDB compares the checksum of each block it reads."""
    for name in schema.tables(connection):
        try:
            found = connection.rows(f'select count(*), bit_xor(hash(t)) from "{name}" t')  # noqa: S608
        except duckdb.Error as error:
            message = f"table {name} cannot be read: {str(error).splitlines()[0]}"
            yield Finding("every block is read", ok=False, message=message, hint=_from_backup(connection.path))
        else:
            rows[name] = int(found[0][0])


def _from_backup(path: Path) -> str:
    return f"put a backup in its place: cp BACKUP {path}   (one is made by: curri store backup DEST --store {path})"


def _digests(connection: Connection, limit: int | None) -> Finding:
    """Whether prompts are what their digests say."""
    sample = "" if limit is None else f"using sample reservoir({limit} rows) repeatable (0)"
    checked, wrong = 0, []
    query = f"select prompt_id, prompt, is_chat, answer, digest_high, digest_low from prompts {sample}"  # noqa: S608
    table = connection.arrow(query)
    for batch in table.to_batches(max_chunksize=SAMPLE):
        for row in batch.to_pylist():
            own = NewPrompt(row["prompt"], row["is_chat"], row["answer"], "").digest()
            checked += 1
            if own != (row["digest_high"], row["digest_low"]):
                wrong.append(row["prompt_id"])
    if wrong:
        message = f"{len(wrong)} of {checked:,} are not what their digests say: prompt_id {_some(sorted(wrong))}"
        return Finding("texts of prompts", ok=False, message=message, hint=_from_backup(connection.path))
    total = int(connection.value("select count(*) from prompts"))
    return Finding("texts of prompts", ok=True, message=f"{checked:,} of {total:,} are what their digests say")


def _relation(connection: Connection, name: str, query: str, column: str) -> Finding:
    found = connection.rows(f"select count(*), list_sort(list_distinct(list(i)))[:{_SHOWN + 1}] from ({query}) t(i)")  # noqa: S608
    number, examples = found[0]
    if not number:
        return Finding(name, ok=True, message="none")
    message = f"{number:,}: {column} {_some(examples)}"
    return Finding(name, ok=False, message=message, hint=_from_backup(connection.path))


def _told(connection: Connection) -> Finding:
    name = "the ledger against the rollouts"
    wrong = connection.rows(f"select count(*) over (), * from ({_TOLD}) limit {_SHOWN}")  # noqa: S608
    if not wrong:
        return Finding(name, ok=True, message="as many responses are stored as were told")
    shown = "; ".join(
        f"run {run}, round {round_}, prompt {prompt}: {told} told, {stored} stored"
        for _, run, round_, prompt, told, stored in wrong
    )
    return Finding(name, ok=False, message=f"{wrong[0][0]:,} differ: {shown}", hint=_from_backup(connection.path))


def _state(store: PromptStore, name: str) -> Finding:
    """Whether the state of a run can be read, follows without a gap, and is as new as its ledger."""
    run = store.runs.get(name)
    title = f"state of run {name}"
    hint = f"put a backup in its place (cp BACKUP {store.path}), or go on under another name: curri select --run NEW"
    numbers = store.connection.rows("select seq, is_snapshot from state where run_id = ? order by seq", [run.run_id])
    seqs = [int(seq) for seq, _ in numbers]
    ledger = int(store.connection.value("select coalesce(max(seq), 0) from ledger where run_id = ?", [run.run_id]))
    wrong = _gap(seqs, first_is_snapshot=bool(numbers and numbers[0][1]), ledger=ledger)
    if wrong is None:
        try:
            saved = store.runs.load_state(run.run_id)
            wrong = _strange_ids(store, saved.state)
        except (CurriError, KeyError, ValueError, IndexError, TypeError) as error:
            wrong = error.message if isinstance(error, CurriError) else f"it cannot be read ({error!r})"
    if wrong is not None:
        return Finding(title, ok=False, message=wrong, hint=hint)
    return Finding(title, ok=True, message=f"as transaction {seqs[-1]} left it, after {len(seqs) - 1} changes")


def _gap(seqs: list[int], *, first_is_snapshot: bool, ledger: int) -> str | None:
    if not seqs or not first_is_snapshot:
        return "there is no full state to begin with"
    gaps = [after for before, after in itertools.pairwise(seqs) if after != before + 1]
    if gaps:
        return f"changes are missing before transaction {gaps[0]}"
    return None if ledger <= seqs[-1] else f"it ends at transaction {seqs[-1]}; the ledger at {ledger}"


def _strange_ids(store: PromptStore, state: dict[str, Any]) -> str | None:
    known = store.connection.arrow("select prompt_id from prompts").column("prompt_id").to_numpy()
    strange = np.setdiff1d(state["prompt_ids"], known)
    return f"it knows prompts that are not in the store: {_some(strange.tolist())}" if strange.size else None


def _some(values: list[Any]) -> str:
    return shown_some(values, _SHOWN)
