"""``curri init`` and ``curri store``."""

from __future__ import annotations

from typing import Any

import typer

from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, StoreOption, opened
from curri.cli._output import count, document, say, table, write_line

app = typer.Typer(help="Look after the prompt store.", no_args_is_help=True)


def init(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Make an empty prompt store; one that is there already stays as it is."""
    there = store.exists()
    with opened(store, create=True) as opened_store:
        n_prompts = len(opened_store.prompts)
        store_id = opened_store.store_id
    if as_json:
        document({"store": str(store), "store_id": store_id, "created": not there, "prompts": n_prompts})
    elif there:
        say(f"{store} is a store already, with {count(n_prompts, 'prompt')}; nothing was changed")
    else:
        say(f"made the store {store}; next: curri ingest FILE.jsonl --store {store}")


@app.command("info")
def info(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show what a store holds."""
    with opened(store, read_only=True) as opened_store:
        found = _summary(opened_store)
    if as_json:
        document(found)
        return
    write_line(f"store    {store}, {found['bytes'] / 1e6:,.1f} MB, schema {found['schema_version']}")
    write_line(f"prompts  {found['prompts']:,}, {found['retired']:,} of them retired, in {count(found['arms'], 'arm')}")
    for title, rows in (("split", found["splits"]), ("model", found["models"])):
        if rows:
            write_line("")
            of = "prompts" if title == "split" else "responses"
            _write_table([title, of], [[name, number] for name, number in rows.items()])
    if found["runs"]:
        write_line("")
        headings = ["run", "strategy", "evidence", "rounds", "issued", "trained", "dropped", "in flight"]
        keys = ("name", "strategy", "evidence_model", "rounds", "issued", "trained", "dropped", "in_flight")
        _write_table(headings, [[run[key] for key in keys] for run in found["runs"]])


def _write_table(headings: list[str], rows: list[list[Any]]) -> None:
    for line in table(headings, rows):
        write_line(line)


def _summary(store: Any) -> dict[str, Any]:
    connection = store.connection
    splits = connection.rows("select coalesce(split, 'train'), count(*) from prompts group by 1 order by 1")
    return {
        "store": str(store.path),
        "store_id": store.store_id,
        "bytes": store.path.stat().st_size,
        "schema_version": int(connection.value("select value from meta where key = 'schema_version'")),
        "prompts": len(store.prompts),
        "retired": int(connection.value("select count(*) from prompts where retired")),
        "arms": int(connection.value("select count(distinct arm_id) from prompts")),
        "splits": {str(name): int(number) for name, number in splits},
        "rollouts": len(store.rollouts),
        "models": store.rollouts.all_models(),
        "runs": [_run_summary(store, name) for name in store.runs.names()],
    }


def _run_summary(store: Any, name: str) -> dict[str, Any]:
    run = store.runs.get(name)
    events = store.runs.event_counts(run.run_id)
    rounds = store.connection.value(
        "select count(distinct round) from ledger where run_id = ? and round >= 0", [run.run_id]
    )
    return {
        "name": name,
        "strategy": run.strategy,
        "evidence_model": run.evidence_model,
        "parameters": run.parameters,
        "rounds": int(rounds),
        **{event: events.get(event, 0) for event in ("issued", "trained", "dropped", "observed", "lost")},
        "in_flight": int(store.runs.in_flight(run.run_id).size),
    }
