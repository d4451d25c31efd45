"""``curri rollouts``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from curri.cli._group import EXIT_PARTLY
from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, RejectedOption, StoreOption, opened
from curri.cli._output import count, document, progress, say, table

if TYPE_CHECKING:
    from curri.exchange import ImportReport

FormatOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--format", help="jsonl, json, csv, tsv, parquet, saved or hf.", show_default="what the file's name says"
    ),
]
ColumnOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--column", help="OURS=THEIRS, where the file calls a column otherwise: id=uid; may be repeated."),
]
TemplateOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--prompt-template",
        help=r"Text around each prompt of the file, such as 'user\n{prompt}\nassistant\n'.",
        show_default="none",
    ),
]

app = typer.Typer(help="Bring in rollouts.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Bring in rollouts."""


@app.command("import")
def import_(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="JSON Lines, JSON, CSV or Parquet files, - for standard input, a saved dataset, or hf:NAME.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="The model that generated them, for rows that name none.")
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="They are new samples, also where their numbers are there already.")
    ] = False,
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            help="Whose columns: curri, trl (log_completions) or verl (rollout_data_dir).",
            show_default="what the columns say",
        ),
    ] = None,
    column: ColumnOption = None,
    reward_weights: Annotated[
        str | None,
        typer.Option("--reward-weights", help="The reward is this sum of columns: accuracy=1,format=0.2."),
    ] = None,
    prompt_template: TemplateOption = None,
    form: FormatOption = None,
    rejected: RejectedOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Add rollouts of a model: rows with prompt_id, id or prompt, and reward (or rewards for a whole group).

    Doing it twice changes nothing. Rows that cannot be used go to FILE.rejected.jsonl with the reason (exit code 4).
    """
    from curri.exchange import import_rollouts

    if rejected is not None and len(files) > 1:
        raise typer.BadParameter("--rejected works for one file at a time")
    columns, weights = named_columns(column), _weights(reward_weights)
    reports = []
    with opened(store) as opened_store:
        for file in files:
            with progress(f"import {file}", quiet=as_json) as update:
                report = import_rollouts(
                    opened_store,
                    file,
                    model=model,
                    form=form,
                    layout=layout,
                    columns=columns,
                    reward_weights=weights,
                    prompt_template=prompt_template,
                    append=append,
                    rejected=rejected,
                    progress=lambda at, update=update: update(at.done, at.total, count(at.rows, "row")),  # type: ignore[misc]
                )
            reports.append(report)
            if not as_json:
                _tell(report)
    if as_json:
        found = [_as_dict(report) for report in reports]
        document(found[0] if len(found) == 1 else {"files": found})
    if any(report.rejected for report in reports):
        raise typer.Exit(EXIT_PARTLY)


def named_columns(pairs: list[str] | None) -> dict[str, str]:
    """What --column says, our column first."""
    named: dict[str, str] = {}
    for pair in pairs or []:
        ours, equals, theirs = pair.partition("=")
        if not equals or not ours or not theirs:
            raise typer.BadParameter(f"--column takes OURS=THEIRS, such as id=uid; got {pair!r}")
        if ours in named:
            raise typer.BadParameter(f"--column names {ours} twice")
        named[ours] = theirs
    return named


def _weights(text: str | None) -> dict[str, float]:
    weights: dict[str, float] = {}
    for pair in text.split(",") if text is not None else []:
        name, equals, weight = pair.rpartition("=")
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise typer.BadParameter(f"--reward-weights takes NAME=WEIGHT,NAME=WEIGHT; got {text!r}")
    return weights


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
    say(*(f"  note: {note}" for note in report.notes))
    if report.rejected:
        say(f"  rejected rows, with reasons, are in {report.rejected_path}; mended ones go in with --append:")
        say(*(f"    {report.unit} {line}: {reason}" for line, reason in report.rejected_examples))


def _as_dict(report: ImportReport) -> dict[str, Any]:
    return {
        "source": report.source,
        "rows": report.rows,
        "added": report.added,
        "repeated": report.repeated,
        "rejected": report.rejected,
        "rejected_path": None if report.rejected_path is None else str(report.rejected_path),
        "rejected_examples": [{"line": line, "reason": reason} for line, reason in report.rejected_examples],
        "models": report.models,
        "solved_unknown": list(report.solved_unknown),
        "notes": list(report.notes),
    }
