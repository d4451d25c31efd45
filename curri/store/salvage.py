"""What a log held behind its damage: ``python -m curri.store.salvage SCRATCH FOLDER``, started by ``repair``.

It runs in a process of its own, because a log with a hole in it may make DuckDB stop the process it is in. The scratch
copy is only read. Rows are appended, so what is behind the damage are the rows behind the last one of before.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, TypedDict

import duckdb

from curri.errors import StoreUnreadable
from curri.store import schema

_APPENDED = ("ledger", "rollouts", "prompts")
_SHOWN_ROUNDS = 1000


class Position(TypedDict):
    """How far a store has got: the last transaction of each run, and the next free row of each table."""

    runs: dict[str, int]
    next: dict[str, int]


def position_of(handle: duckdb.DuckDBPyConnection, path: Path) -> Position:
    """How far the store at a path has got.

    Raises:
        StoreUnreadable: it holds code.
    """
    _refuse_code(handle, path)
    runs = handle.execute(
        """select name, greatest(coalesce((select max(seq) from ledger l where l.run_id = r.run_id), 0),
                                 coalesce((select max(seq) from state s where s.run_id = r.run_id), 0)) from runs r"""
    ).fetchall()
    rows = {
        name: int(handle.execute(f"select coalesce(max(rowid), -1) + 1 from {name}").fetchall()[0][0])  # noqa: S608
        for name in _APPENDED
    }
    return {"runs": {str(name): int(seq) for name, seq in runs}, "next": rows}


def _refuse_code(handle: duckdb.DuckDBPyConnection, path: Path) -> None:
    def ask(query: str) -> list[tuple[Any, ...]]:
        return handle.execute(query).fetchall()

    schema.refuse_views(path, ask)
    schema.refuse_macros(path, ask)


def newer_copy(store: Path, position: Position) -> Path | None:
    """The published copy of a store, if it knows more than a position.

    A store is never behind its copy, unless it lost something such as the end of its log.
    """
    copy = store.with_name(store.name + ".snapshot")
    if not copy.exists():
        return None
    try:
        with duckdb.connect(str(copy), read_only=True) as handle:
            published = position_of(handle, copy)
    except (duckdb.Error, StoreUnreadable):
        return None
    newer = any(seq > position["runs"].get(name, -1) for name, seq in published["runs"].items())
    return copy if newer or any(published["next"][name] > rows for name, rows in position["next"].items()) else None


def lost_since(handle: duckdb.DuckDBPyConnection, before: Position, folder: Path) -> dict[str, Any]:
    """What a store has beyond a position; its rollouts are written to files in ``folder``, one a model or run."""
    events = handle.execute(
        """select r.name, min(l.seq), max(l.seq), count(distinct l.seq), list_sort(list_distinct(list(l.round))),
                  count(*), list_sort(list_distinct(list(l.event)))
           from ledger l join runs r using (run_id) where l.rowid >= ? group by r.name order by r.name""",
        [before["next"]["ledger"]],
    ).fetchall()
    runs = {
        str(name): {
            "last": before["runs"].get(name),
            "transactions": [int(first), int(last)],
            "rounds": [int(number) for number in rounds[:_SHOWN_ROUNDS]],
            "events": list(kinds),
            "rows": int(rows),
            "rollouts": 0,
        }
        for name, first, last, _, rounds, rows, kinds in events
    }
    counted = handle.execute(
        """select s.source_id, s.model, r.name, count(*) from rollouts x join sources s using (source_id)
           left join runs r on r.run_id = s.run_id where x.rowid >= ? group by all order by all""",
        [before["next"]["rollouts"]],
    ).fetchall()
    rollouts = []
    for source, model, run, number in counted:
        if run in runs:
            runs[run]["rollouts"] = int(number)
        file = folder / f"lost-{source}.jsonl"
        _write_rollouts(handle, before, int(source), file)
        rollouts.append({"model": str(model), "run": run, "rollouts": int(number), "file": str(file)})
    prompts = handle.execute("select count(*) from prompts where rowid >= ?", [before["next"]["prompts"]]).fetchall()
    return {"runs": runs, "prompts": int(prompts[0][0]), "rollouts": rollouts}


def _write_rollouts(handle: duckdb.DuckDBPyConnection, before: Position, source: int, target: Path) -> None:
    """The lost rollouts of a source as JSON Lines that can be recorded or imported.

    Rows name their round where the store still knows that the prompt was handed out in it; others are evidence. All
    have a ``rollout_id``, so that none is taken for a repeat, and recording the file twice is harmless.
    """
    result = handle.execute(
        """with issued as (
               select distinct l.prompt_id, l.round from ledger l join sources s on s.run_id = l.run_id
               where s.source_id = ? and l.event = 'issued' and l.rowid < ?)
           select x.prompt_id, i.round, x.reward, x.solved, x.advantage, x.tokens, x.truncated, x.policy_version,
                  case when x.probe then 'probe' end as kind,
                  coalesce(x.rollout_id, 'lost:' || x.round || ':' || x.sample) as rollout_id, x.response, x.extras
           from rollouts x left join issued i on i.prompt_id = x.prompt_id and i.round = x.round
           where x.source_id = ? and x.rowid >= ? order by x.rowid""",
        [source, before["next"]["ledger"], source, before["next"]["rollouts"]],
    )
    names = [column[0] for column in result.description or ()]
    with target.open("x", encoding="utf-8") as file:
        while rows := result.fetchmany(1000):
            for row in rows:
                values = {name: value for name, value in zip(names, row, strict=True) if _is_something(value)}
                values |= json.loads(values.pop("extras", "{}"))
                file.write(json.dumps(values) + "\n")


def _is_something(value: object) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def main(scratch: str, folder: str) -> None:
    """Read the position from standard input, write what is lost since as JSON to standard output."""
    before: Position = json.loads(sys.stdin.read())
    with duckdb.connect(scratch, read_only=True) as handle:
        _refuse_code(handle, Path(scratch))
        found = lost_since(handle, before, Path(folder))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
