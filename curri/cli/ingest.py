"""``curri ingest``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curri.cli import _completion
from curri.cli._group import EXIT_PARTLY
from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, RejectedOption, StoreOption, opened
from curri.cli._output import count, document, progress, say, table
from curri.cli.rollouts import FormatOption
from curri.errors import InvalidData

if TYPE_CHECKING:
    from curri.exchange import IngestReport
    from curri.store import PromptStore


def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="JSON Lines, JSON, CSV or Parquet files, - for standard input, a folder saved by datasets, "
            "hf:NAME?split=train&config=C, or gym:TASK?param=value&size=500&seed=0.",
            show_default=False,
        ),
    ],
    prompt_column: Annotated[str, typer.Option(help="Holds a text or a list of chat messages.")] = "prompt",
    answer_column: Annotated[str, typer.Option(help="Holds the reference answer.")] = "answer",
    arm_column: Annotated[str, typer.Option(help="Holds the name of the prompt's distribution.")] = "arm",
    id_column: Annotated[str, typer.Option(help="Holds your own id.")] = "id",
    split_column: Annotated[
        str, typer.Option(help='Prompts of a split other than "train" are never selected.')
    ] = "split",
    arm: Annotated[
        str | None,
        typer.Option(
            help="Arm of prompts that name none.",
            show_default="the file's name, or the task",
            autocompletion=_completion.arms,
        ),
    ] = None,
    chat_json: Annotated[
        bool, typer.Option("--chat-json", help="The prompt column holds chat messages as JSON text.")
    ] = False,
    form: FormatOption = None,
    rejected: RejectedOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Add prompts; columns that are not named become metadata.

    The format goes by the name (.jsonl, .json, .csv, .tsv, .parquet). Every value stays the text it is: 007 is no 7.
    Doing it twice changes nothing. Rows that cannot be used go to FILE.rejected.jsonl with the reason (exit code 4).
    """
    if rejected is not None and len(sources) > 1:
        raise typer.BadParameter("--rejected works for one file at a time")
    columns: dict[str, Any] = {
        "form": form,
        "chat_json": chat_json,
        "prompt_column": prompt_column,
        "answer_column": answer_column,
        "arm_column": arm_column,
        "id_column": id_column,
        "split_column": split_column,
    }
    missing = [source for source in sources if not _is_there(source)]
    if missing and len(sources) > 1:
        raise InvalidData(f"there is no file {missing[0]}", hint="nothing was ingested: name files that exist")
    reports = []
    with opened(store) as opened_store:
        for source in sources:
            reports.append(_load(opened_store, source, arm, rejected, columns, quiet=as_json))
            if not as_json:
                _tell(reports[-1])
        total = len(opened_store.prompts)
    if as_json:
        document({"sources": [_as_dict(report) for report in reports], "prompts_in_store": total})
    else:
        say(f"the store {store} has {count(total, 'prompt')} now")
    if any(report.rejected or report.other_split for report in reports):
        raise typer.Exit(EXIT_PARTLY)


def _is_there(source: str) -> bool:
    from curri.exchange import is_gym, is_hub

    return source == "-" or is_gym(source) or is_hub(source) or Path(source).exists()


def _load(
    store: PromptStore, source: str, arm: str | None, rejected: Path | None, columns: dict[str, Any], *, quiet: bool
) -> IngestReport:
    from curri.exchange import ingest_file, ingest_gym, is_gym

    with progress(f"ingest {source}", quiet=quiet) as update:
        if is_gym(source):
            return ingest_gym(
                store, source, arm=arm, progress=lambda at: update(at.done, at.total, count(at.rows, "row"))
            )
        return ingest_file(
            store,
            source,
            default_arm=arm,
            rejected=rejected,
            progress=lambda at: update(at.done, at.total, count(at.rows, "row")),
            **columns,
        )


def _tell(report: IngestReport) -> None:
    parts = [f"{report.added:,} added"]
    parts += [f"{report.present:,} already there"] if report.present else []
    parts += [f"{report.repeated:,} repeated"] if report.repeated else []
    parts += [f"{report.rejected:,} rejected"] if report.rejected else []
    say(f"{report.source}: {count(report.rows, 'row')}: {', '.join(parts)}")
    if len(report.arms) > 1:
        largest = sorted(report.arms.items(), key=lambda pair: (-pair[1], pair[0]))
        say(*(f"  {line}" for line in table(["arm", "rows"], largest[:20])))
        if len(largest) > 20:
            say(f"  … and {len(largest) - 20} more arms")
    if report.held_out:
        say(f"  {count(report.held_out, 'row')} of a split other than train: kept out of `curri select`")
    if report.other_split:
        say(
            f"  {count(report.other_split, 'row')} of prompts that are in another split already, which stays:",
            "    a prompt ingested to train on is not held out by this file, and the other way round",
        )
    if report.other_arm:
        say(f"  {count(report.other_arm, 'row')} of prompts that have another arm already, which stays:")
        say(
            *(
                f"    {report.unit} {e.line}: prompt {e.prompt_id} stays in {e.stays} (here: {e.arm})"
                for e in report.other_arm_examples
            )
        )
    if report.rejected:
        say(f"  rejected rows, with reasons, are in {report.rejected_path}:")
        say(*(f"    {report.unit} {line}: {reason}" for line, reason in report.rejected_examples))
        more = report.rejected - len(report.rejected_examples)
        say(*([f"    … and {more} more"] if more else []))
    say(*(f"  note: {note}" for note in report.notes))


def _as_dict(report: IngestReport) -> dict[str, Any]:
    import dataclasses

    values = dataclasses.asdict(report)
    values["rejected_path"] = None if report.rejected_path is None else str(report.rejected_path)
    values["rejected_examples"] = [{"line": line, "reason": reason} for line, reason in report.rejected_examples]
    return values
