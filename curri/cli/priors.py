"""``curri priors``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from curri.cli._group import EXIT_PARTLY
from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, RejectedOption, StoreOption, opened
from curri.cli._output import count, document, progress, say, table, write_line
from curri.cli.rollouts import ColumnOption, FormatOption, TemplateOption, named_columns

if TYPE_CHECKING:
    from curri.exchange import PriorsReport

app = typer.Typer(help="Pass rates known from other models.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Pass rates known from other models."""


@app.command("import")
def import_(
    file: Annotated[
        str,
        typer.Argument(
            help="A JSON Lines, JSON, CSV or Parquet file, - for standard input, a saved dataset, or hf:NAME.",
            show_default=False,
        ),
    ],
    model: Annotated[str, typer.Option("--model", help="The model whose pass rates they are.", show_default=False)],
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Responses behind each rate, for rows that have no n.")
    ] = None,
    use: Annotated[
        bool, typer.Option("--use", help="Strategies go by these, in place of another model's that are in use.")
    ] = False,
    column: ColumnOption = None,
    prompt_template: TemplateOption = None,
    form: FormatOption = None,
    rejected: RejectedOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Add pass rates: rows with prompt_id, id or prompt, and k right answers of n, or a rate and n.

    They are kept apart from rollouts. Those of the first model are in use from then on: strategies start from them.
    Rows that cannot be used go to FILE.rejected.jsonl with the reason (exit code 4).
    """
    from curri.exchange import import_priors

    with opened(store) as opened_store, progress(f"import {file}", quiet=as_json) as update:
        report = import_priors(
            opened_store,
            file,
            model=model,
            n=n,
            use=use,
            form=form,
            columns=named_columns(column),
            prompt_template=prompt_template,
            rejected=rejected,
            progress=lambda at: update(at.done, at.total, count(at.rows, "row")),
        )
    if as_json:
        _write_document(report)
    else:
        _tell(report)
    if report.rejected:
        raise typer.Exit(EXIT_PARTLY)


@app.command("list")
def list_(
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the models whose pass rates the store has, and which of them is in use."""
    with opened(store, read_only=True) as opened_store:
        sources = opened_store.priors.sources()
    if as_json:
        document(
            {
                "models": [
                    {
                        "model": entry.model,
                        "prompts": entry.prompts,
                        "responses": entry.responses,
                        "sources": list(entry.sources),
                        "in_use": entry.in_use,
                    }
                    for entry in sources
                ]
            }
        )
        return
    if not sources:
        say("the store has no pass rates of other models: curri priors import FILE --model NAME")
        return
    rows = [[entry.model, entry.prompts, entry.responses, entry.in_use, entry.sources[0]] for entry in sources]
    for line in table(["model", "prompts", "responses", "in_use", "file"], rows):
        write_line(line)


@app.command("use")
def use_(
    model: Annotated[str, typer.Argument(help="The model.", show_default=False)],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Let strategies go by the pass rates of a model that were imported before."""
    with opened(store) as opened_store:
        n_prompts = opened_store.priors.use(model)
    if as_json:
        document({"model": model, "prompts": n_prompts})
    else:
        say(f"strategies go by {model} now: {count(n_prompts, 'prompt')}")


def _tell(report: PriorsReport) -> None:
    parts = [f"{count(report.added, 'prompt')} added"]
    parts += [f"{report.changed:,} changed"] if report.changed else []
    parts += [f"{report.repeated:,} already there"] if report.repeated else []
    parts += [f"{count(report.rejected, 'row')} rejected"] if report.rejected else []
    say(f"{report.source}: {count(report.rows, 'row')}: {', '.join(parts)}")
    if report.in_use not in (None, report.model):
        say(f"  strategies go by {report.in_use} as before; to change that: curri priors use '{report.model}'")
    say(*(f"  note: {note}" for note in report.notes))
    if report.rejected:
        say(f"  rejected rows, with reasons, are in {report.rejected_path}:")
        say(*(f"    {report.unit} {line}: {reason}" for line, reason in report.rejected_examples))


def _write_document(report: PriorsReport) -> None:
    document(
        {
            "source": report.source,
            "model": report.model,
            "rows": report.rows,
            "added": report.added,
            "changed": report.changed,
            "repeated": report.repeated,
            "rejected": report.rejected,
            "rejected_path": None if report.rejected_path is None else str(report.rejected_path),
            "rejected_examples": [{"line": line, "reason": reason} for line, reason in report.rejected_examples],
            "in_use": report.in_use,
            "notes": list(report.notes),
        }
    )
