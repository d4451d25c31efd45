"""``curri record``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curri.cli._options import (
    DEFAULT_STORE,
    ConsumerOption,
    DebugOption,
    JsonOption,
    RunOption,
    StoreOption,
    opened,
)
from curri.cli._output import count, document, say
from curri.errors import shown_some

if TYPE_CHECKING:
    from curri.scheduler import MetricsWriter


def record(
    results: Annotated[
        str,
        typer.Argument(
            help="A JSON Lines file with prompt_id and reward, or - for standard input.", show_default=False
        ),
    ],
    run: RunOption,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="More results of these prompts follow. Give rows a rollout_id: else a repeat counts twice.",
        ),
    ] = False,
    metrics: Annotated[
        Path | None,
        typer.Option(
            "--metrics",
            metavar="FILE",
            help="Append the run's numbers to this JSON Lines file when a round closes; docs/metrics.md explains them.",
            show_default=False,
        ),
    ] = None,
    consumer: ConsumerOption = "main",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Record the rewards of a round; recording the same results again changes nothing.

    A row holds prompt_id and reward, or rewards for a whole group; and as far as known solved, advantage, tokens,
    truncated, policy_version, rollout_id, response, round.
    """
    from curri.exchange import read_results
    from curri.scheduler import Scheduler

    parts = read_results(results)
    new = repeated = 0
    unissued: list[int] = []
    closed: list[int] = []
    with opened(store) as opened_store:
        scheduler = Scheduler(opened_store, run=run, consumer=consumer, writers=_writers(metrics, run))
        for part in parts:
            scheduler.refuse_unplaceable(part.prompt_ids, part.round)
        for part in parts:
            told = scheduler.tell(
                part.prompt_ids,
                part.rewards,
                kind=part.kind,
                round=part.round,
                resolve=None if partial else "trained",
                **part.columns,
            )
            new, repeated = new + told.new, repeated + told.repeated
            unissued += told.unissued.tolist()
            closed += list(told.closed)
        round_ = scheduler.round
    if as_json:
        document(
            {"run": run, "new": new, "repeated": repeated, "unissued": unissued, "closed": closed, "round": round_}
        )
        return
    say(f"{run}: {count(new, 'response')} recorded" + (f", {repeated:,} were there already" if repeated else ""))
    if unissued:
        late = count(len(unissued), "prompt")
        say(f"  {late} late or never handed out, counted as evidence only: {shown_some(unissued)}")
    for number in closed:
        say(f"  round {number} is closed")
    if not closed and new:
        say(f"  round {round_} stays open: some of its prompts have no results yet")


def _writers(metrics: Path | None, run: str) -> list[MetricsWriter]:
    if metrics is None:
        return []
    from curri.integrations.metrics import JsonLinesWriter

    return [JsonLinesWriter(metrics, run=run)]
