"""``curri rollouts``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from curri.cli._generate import generate
from curri.cli._group import EXIT_PARTLY
from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, RejectedOption, StoreOption, opened
from curri.cli._output import count, document, progress, say, table, write_line

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

_SIZES = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}

app = typer.Typer(
    help="Bring in rollouts, or generate them; see what is stored, and be rid of some.", no_args_is_help=True
)

app.command("generate")(generate)


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


# ---- stats and prune ------------------------------------------------------------------------------------------------


@app.command()
def stats(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show which rollouts are stored, how much room they take, and what was not paid for again."""
    from curri.store.pruning import cache_stats

    with opened(store, read_only=True) as opened_store:
        found = cache_stats(opened_store)
    totals = {
        name: sum(row[name] for row in found)
        for name in ("responses", "tokens", "bytes", "hits", "tokens_saved", "generated")
    }
    if as_json:
        document({"sources": found, **totals})
        return
    headings = ["model", "weights", "verifier", "run", "prompts", "rollouts", "tokens", "MB", "hits", "tokens saved"]
    names = ["model", "weight_version", "verifier", "run", "prompts", "responses", "tokens", "bytes", "hits"]
    rows = [[*(row[name] or None for name in names[:4]), *(row[name] for name in names[4:7])] for row in found]
    rows = [
        [*cells, row["bytes"] / 1e6, row["hits"], row["tokens_saved"]] for cells, row in zip(rows, found, strict=True)
    ]
    if rows:
        for line in table(headings, rows):
            write_line(line)
    _tell_settings(found)
    say(
        f"{count(totals['responses'], 'rollout')}, {totals['bytes'] / 1e6:,.1f} MB of texts; "
        f"{count(totals['hits'], 'hit')} saved {count(totals['tokens_saved'], 'token')}"
    )


def _tell_settings(found: list[dict[str, Any]]) -> None:
    """The sampling settings, of models that have several."""
    settings: dict[str, set[str]] = {}
    for row in found:
        settings.setdefault(row["model"], set()).add(row["settings"])
    for row in found:
        if row["responses"] and len(settings[row["model"]]) > 1:
            say(f"  {row['model']} ({row['responses']:,}): {row['settings']}")


@app.command()
def prune(
    model: Annotated[str | None, typer.Option("--model", help="Rollouts of this model.")] = None,
    weight_version: Annotated[str | None, typer.Option("--weight-version", help="Rollouts of these weights.")] = None,
    verifier: Annotated[
        str | None, typer.Option("--verifier", help="Rollouts scored by this, as curri rollouts stats names it.")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option("--older-than", min=0.0, metavar="DAYS", help="Rollouts generated before that.")
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size", metavar="SIZE", help="The oldest, until the texts of all rollouts take up less: 500MB, 2GB."
        ),
    ] = None,
    runs: Annotated[
        bool, typer.Option("--runs", help="Also the texts of rollouts that runs told; their rewards stay.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Take rollouts out of the store: those of which all that is named here is true.

    What runs have told stays, since their ledgers count it. Rollouts that were imported have no age.
    """
    from curri.store.pruning import Pruning

    if as_json and not (yes or dry_run):
        raise typer.BadParameter("--json cannot ask; say --yes, or --dry-run")
    pruning = Pruning(
        model=model,
        weight_version=weight_version,
        verifier=verifier,
        older_than=older_than,
        max_bytes=None if max_size is None else _bytes(max_size),
        runs=runs,
    )
    with opened(store, read_only=dry_run) as opened_store:
        found = pruning.preview(opened_store)
        number = sum(row["responses"] for row in found)
        if not as_json:
            _tell_pruning(found)
        done = bool(number) and not dry_run and (yes or _agreed(number))
        if done:
            found = pruning.carry_out(opened_store)
    if as_json:
        document({"models": found, "responses": number, "pruned": done, "dry_run": dry_run})
    elif dry_run:
        say("dry run: nothing was changed")
    elif done:
        say(f"{count(number, 'rollout')} gone; curri store compact gives the room back")
    else:
        say("nothing was changed")


def _tell_pruning(found: list[dict[str, Any]]) -> None:
    headings = ["model", "what", "prompts", "rollouts", "tokens", "MB"]
    rows = [
        [
            row["model"],
            "texts only" if row["of_runs"] else "all",
            row["prompts"],
            row["responses"],
            row["tokens"],
            row["bytes"] / 1e6,
        ]
        for row in found
    ]
    if rows:
        say(*table(headings, rows))
    else:
        say("no rollouts are meant")


def _agreed(number: int) -> bool:
    from curri.errors import InvalidInput

    say(f"take {count(number, 'rollout')} out of the store? [y/N]")
    answer = sys.stdin.readline()
    if not answer:
        raise InvalidInput("nobody answered, so nothing was changed", hint="say --yes where nobody can")
    return answer.strip().casefold() in ("y", "yes")


def _bytes(text: str) -> int:
    """A size such as 500MB, in bytes."""
    number = text.strip().upper().rstrip("BKMGT ")
    unit = text.strip().upper()[len(number) :].strip().removesuffix("B")
    factor = _SIZES.get(f"{unit}B" if unit else "")
    try:
        size = float(number)
    except ValueError:
        size = -1.0
    if factor is None or not 0.0 <= size < 1e15:
        raise typer.BadParameter(f"--max-size must be a size such as 500MB or 2GB; got {text}")
    return int(size * factor)
