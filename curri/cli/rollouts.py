"""``curri rollouts``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from curri.cli._group import EXIT_PARTLY
from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, RejectedOption, StoreOption, opened
from curri.cli._output import count, document, progress, say, table

if TYPE_CHECKING:
    from curri.exchange import ImportReport

app = typer.Typer(help="Bring in rollouts.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Bring in rollouts."""


@app.command("import")
def import_(
    file: Annotated[str, typer.Argument(help="A JSON Lines file, or - for standard input.", show_default=False)],
    model: Annotated[
        str | None, typer.Option("--model", help="The model that generated them, for rows that name none.")
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="They are new samples, also where their numbers are there already.")
    ] = False,
    rejected: RejectedOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Add rollouts of a model: rows with prompt_id, id or prompt, and reward (or rewards for a whole group).

    Doing it twice changes nothing. Rows that cannot be used go to FILE.rejected.jsonl with the reason (exit code 4).
    """
    from curri.exchange import import_rollouts_jsonl

    with opened(store) as opened_store, progress(f"import {file}", quiet=as_json) as update:
        report = import_rollouts_jsonl(
            opened_store,
            file,
            model=model,
            append=append,
            rejected=rejected,
            progress=lambda at: update(at.done, at.total, count(at.rows, "row")),
        )
    if as_json:
        _write_document(report)
    else:
        _tell(report)
    if report.rejected:
        raise typer.Exit(EXIT_PARTLY)


def _tell(report: ImportReport) -> None:
    parts = [f"{count(report.added, 'response')} added"]
    parts += [f"{report.repeated:,} already there"] if report.repeated else []
    parts += [f"{count(report.rejected, 'row')} rejected"] if report.rejected else []
    say(f"{report.source}: {count(report.rows, 'row')}: {', '.join(parts)}")
    if len(report.models) > 1:
        say(*(f"  {line}" for line in table(["model", "responses"], sorted(report.models.items()))))
    if report.repeated:
        say("  those that were there changed nothing; if they are new samples, say --append")
    for model in report.solved_unknown:
        say(f'  note: rewards of "{model}" leave [0, 1] and no row has "solved", so its pass rates stay unknown')
    if report.rejected:
        say(f"  rejected rows, with reasons, are in {report.rejected_path}; mended ones go in with --append:")
        say(*(f"    line {line}: {reason}" for line, reason in report.rejected_examples))


def _write_document(report: ImportReport) -> None:
    document(
        {
            "source": report.source,
            "rows": report.rows,
            "added": report.added,
            "repeated": report.repeated,
            "rejected": report.rejected,
            "rejected_path": None if report.rejected_path is None else str(report.rejected_path),
            "rejected_examples": [{"line": line, "reason": reason} for line, reason in report.rejected_examples],
            "models": report.models,
            "solved_unknown": list(report.solved_unknown),
        }
    )
