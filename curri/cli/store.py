"""``curri init`` and ``curri store``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curri.cli import _completion, _config
from curri.cli._group import EXIT_REFUSED
from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, StoreOption, opened
from curri.cli._output import ago, count, document, printable, say, shown, table, write_line

if TYPE_CHECKING:
    from curri.store.repair import Repaired

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
def info(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="Show this run: its parameters, and how curri was configured when it was made.",
            show_default=False,
            autocompletion=_completion.run_names,
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what a store holds."""
    with opened(store, read_only=True) as opened_store:
        found = _summary(opened_store) if run is None else _run_summary(opened_store, run)
    if as_json:
        document(found)
    elif run is None:
        _show_store(found, store)
    else:
        _show_run(found)


def _show_run(found: dict[str, Any]) -> None:
    facts = {"run": "name", "strategy": "strategy", "evidence": "evidence_model", "rounds": "rounds"}
    for title, key in (facts | {each: each for each in ("issued", "trained", "dropped", "in_flight")}).items():
        write_line(f"{title.replace('_', ' '):9}  {shown(found[key])}")
    write_line("")
    _write_table(["parameter", "value"], [[name, json.dumps(value)] for name, value in found["parameters"].items()])
    write_line("")
    config = found["config"]
    if config is None:
        write_line("not made by the command line, so that no options are known")
        return
    file = f" --config {config['file']}" if config["file"] else ""
    given = {name: each for name, each in config["options"].items() if each["origin"] != "default"}
    write_line(f"made by curri {printable(config['command'] + file)}; options not shown were at their defaults")
    for line in _config.lines({"options": given}):
        write_line(line)


def _show_store(found: dict[str, Any], store: Path) -> None:
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


@app.command("check")
def check(
    everything: Annotated[
        bool, typer.Option("--all", help="Compute the digest of every prompt, not of a sample of 10,000.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Look whether a store is whole: its log, tables, ledger and states; exit code 1 if it is not."""
    from curri.store.check import check_store

    report = check_store(store, everything=everything)
    if report.snapshot_age is not None:
        say(f"a run holds {store}: this is a copy it published {ago(report.snapshot_age)}")
    wrong = [finding for finding in report.findings if not finding.ok]
    if as_json:
        error = wrong and {"code": "store_damaged", "message": wrong[0].message, "hint": wrong[0].hint}
        document({**report.document(), **({"ok": False, "error": error} if wrong else {})})
    else:
        told = [finding for finding in report.findings if finding.message != "none"]
        rows = [["ok" if finding.ok else "WRONG", finding.name, finding.message] for finding in told]
        if len(told) < len(report.findings):
            rows.append(
                ["ok", "what must not be", f"none, of {len(report.findings) - len(told)} kinds; --json lists them"]
            )
        _write_table(["", "what", "found"], rows)
        for finding in wrong:
            say(f"{finding.name}: {finding.hint}")
    if wrong:
        raise typer.Exit(EXIT_REFUSED)


@app.command("repair")
def repair(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Mend a store whose write-ahead log is damaged; a copy of everything is kept, and what is lost is said."""
    from curri.store.repair import repair_store

    done = repair_store(store)
    if as_json:
        document(done.document())
        return
    if done.outcome == "healthy":
        say(f"nothing to mend: {done.problem}")
    else:
        say(f"mended {store}: {done.problem}", f"as it was, it is kept in {done.kept}")
        say(f"{count(done.transactions, 'transaction')} of the log are in the store now")
        _say_lost(done)
    if done.newer_copy is not None:
        say(f"{done.newer_copy}, published by a run, knows more: curri store info --store {done.newer_copy}")
    say(f"next: curri store check --store {store}")


def _say_lost(done: Repaired) -> None:
    if not done.lost_transactions:
        say(f"no commit is to be seen in the {done.lost_bytes:,} bytes given up")
        return
    say(f"lost: {count(done.lost_transactions, 'transaction')}")
    for name, run in done.lost.get("runs", {}).items():
        first, last = run["transactions"]
        rounds = ", ".join(map(str, run["rounds"][:20])) + (", …" if len(run["rounds"]) > 20 else "")
        kept = "nothing" if run["last"] is None else f"up to transaction {run['last']}"
        say(f"  run {name}: kept {kept}; of {first} to {last}: {count(run['rollouts'], 'rollout')}, rounds {rounds}")
    if done.lost.get("prompts"):
        say(f"  {count(done.lost['prompts'], 'prompt')}; ingest their files again")
    if done.lost.get("unreadable"):
        say(f"  what {count(done.lost['unreadable'], 'transaction')} of these held cannot be read")
    for part in done.lost.get("rollouts", []):
        to = f"curri record {part['file']} --run {part['run']}"
        to = to if part["run"] else f"curri rollouts import {part['file']} --model {part['model']}"
        say(f"  {count(part['rollouts'], 'rollout')} of {part['model']} could be read; to have them back: {to}")


@app.command("compact")
def compact(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Write a store anew without the room that is no longer used, and its texts too; nobody may have it open."""
    from curri.store.maintenance import compact_store

    done = compact_store(store)
    if as_json:
        document(done.document())
    else:
        say(f"{store}: {done.before / 1e6:,.1f} MB before, {done.after / 1e6:,.1f} MB now; every row was compared")


@app.command("backup")
def backup(
    target: Annotated[Path, typer.Argument(metavar="DEST", help="The file to write.", show_default=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Take the place of a file that is there.")] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Copy a store to one file, also while a run holds it: then the copy that the run last published is taken."""
    from curri.store.maintenance import backup_store

    done = backup_store(store, target, overwrite=overwrite)
    if as_json:
        document(done.document())
        return
    say(f"wrote {target}, {done.bytes / 1e6:,.1f} MB, {count(sum(done.rows.values()), 'row')}; every row was compared")
    if done.age:
        say(f"a run holds {store}: this is how it was {ago(done.age)}")


@app.command("migrate")
def migrate(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Bring a store of an older curri up to date; a backup is made before."""
    from curri.store.migrations import migrate_store

    done = migrate_store(store)
    if as_json:
        document(done.document())
    elif done.backup is None:
        say(f"nothing to do: {store} has schema version {done.after}, the newest")
    else:
        say(f"{store}: from schema version {done.before} to {done.after}; as it was: {done.backup}", *done.steps)


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
        "config": store.runs.config(run.run_id),
        "rounds": int(rounds),
        **{event: events.get(event, 0) for event in ("issued", "trained", "dropped", "observed", "lost")},
        "in_flight": int(store.runs.in_flight(run.run_id).size),
    }
