"""``curri export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, ModelOption, StoreOption, opened
from curri.cli._output import count, document, say
from curri.cli._where import SqlWhereOption, WhereOption, in_sql, matching


def export(
    output: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Where to: .jsonl, .csv or .parquet; - for standard output.", show_default=False
        ),
    ],
    where: WhereOption = None,
    sql_where: SqlWhereOption = None,
    selection: Annotated[
        Path | None,
        typer.Option(
            "--selection", metavar="FILE", help="Only the prompts in this file of curri select, in its order."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Only this split, without retired prompts.", show_default="train, for trainers"),
    ] = None,
    model: ModelOption = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="jsonl, csv or parquet; or what a trainer reads: trl, verl, openrlhf or slime.",
            show_default="what the file's name says",
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write prompts to a file, with their metadata and how hard they are for a model, or as a trainer reads them."""
    from curri.analysis import estimate_prompts
    from curri.exchange.export import export_prompts, format_of
    from curri.exchange.selection import read_picks
    from curri.exchange.trainers import TRAINERS

    kind = format_of(output, format)
    if as_json and str(output) == "-":
        raise typer.BadParameter("--json and - both write to standard output; name a file")
    if selection is not None and (where, sql_where, split) != (None, None, None):
        raise typer.BadParameter("--selection says which prompts: leave --where, --sql-where and --split out")
    chosen = in_sql(store, where, sql_where, model)
    picks = None if selection is None else read_picks(selection)
    with opened(store, read_only=True) as opened_store:
        unused = kind in TRAINERS and where is None and model is None  # no estimate is written, none is filtered by
        name = None if unused else opened_store.rollouts.evidence_model(model)
        wanted = matching(opened_store, where, name) if chosen is None else chosen
        estimates = None if kind in TRAINERS else estimate_prompts(opened_store, name, wanted)
        n_rows = export_prompts(
            opened_store,
            output,
            prompt_ids=wanted,
            picks=picks,
            estimates=estimates,
            format=kind,
            split=split,
        )
    if as_json:
        document({"output": str(output), "format": kind, "prompts": n_rows, "model": name})
    elif str(output) != "-":
        say(f"wrote {count(n_rows, 'prompt')} to {output}")
