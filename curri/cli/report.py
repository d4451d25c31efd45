"""``curri report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curri.cli import _completion
from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, ModelOption, StoreOption, opened
from curri.cli._output import progress
from curri.cli._reports import ReportFormatOption, ReportOutputOption, deliver, report_format
from curri.cli._where import SqlWhereOption, WhereOption, in_sql, matching


def report(
    where: WhereOption = None,
    sql_where: SqlWhereOption = None,
    model: ModelOption = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="Report on what this run was told, in place of a model's rollouts.",
            autocompletion=_completion.run_names,
        ),
    ] = None,
    group_size: Annotated[
        int | None,
        typer.Option(
            "--group-size",
            min=2,
            max=1024,
            help="Rollouts of a group, which decide what is too easy or too hard.",
            show_default="as in the newest run, else 8",
        ),
    ] = None,
    output: ReportOutputOption = None,
    format: ReportFormatOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a report on difficulty: what is too easy, too hard and worth keeping, and what rollouts cost.

    One HTML file that opens from disk, offline. The same content is to be had as Markdown and as JSON.
    """
    from curri.reports.difficulty import Question, default_group_size, difficulty_report, whose

    kind = report_format(format, output)
    chosen = None if sql_where is None else in_sql(store, where, sql_where, _whose(store, model, run))
    settings = {
        "model": model,
        "run": run,
        "where": where,
        "sql-where": sql_where,
        "group-size": group_size,
    }
    with opened(store, read_only=True) as opened_store, progress("report", quiet=as_json) as update:
        name = whose(opened_store, model, run)
        size, source = default_group_size(opened_store, name, run)
        wanted = matching(opened_store, where, name) if chosen is None else chosen
        question = Question(
            model=name,
            run=run,
            group_size=size if group_size is None else group_size,
            group_source=source if group_size is None else "as asked for",
            prompt_ids=wanted,
            where=where or "",
        )
        found = difficulty_report(opened_store, question, settings, tell=lambda words: update(0, None, words))
    deliver(found, kind, output, as_json=as_json)


def _whose(store: Path, model: str | None, run: str | None) -> str | None:
    """The same before the store is opened for good: an SQL condition runs while nobody has it open."""
    from curri.reports.difficulty import whose
    from curri.store import open_store

    with open_store(store, read_only=True) as opened_store:
        return whose(opened_store, model, run)
