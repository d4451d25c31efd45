"""``curri demo``: everything once, on real tasks and with a simulated solver."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curri.cli._config import resolved
from curri.cli._options import DebugOption, JsonOption, opened
from curri.cli._output import document, say, write_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from curri.simulation.demo import DemoProgress
    from curri.simulation.demo_table import DemoResult

_EVERY = 10
_WIDTH = 98
_STAGES = {"ingest": "making prompts", "ucb": "ucb picks", "uniform": "uniform picks"}


def demo(
    ctx: typer.Context,
    folder: Annotated[
        Path, typer.Option("--folder", help="Where the demo's store goes; that of an earlier demo is replaced.")
    ] = Path("demo"),
    rounds: Annotated[int, typer.Option("--rounds", min=3, help="Rounds of each of the two runs.")] = 40,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Prompts of a round.")] = 64,
    size: Annotated[int, typer.Option("--size", min=1, help="Prompts of each arm.")] = 125,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of every random decision.")] = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Watch ucb and uniform choose reasoning tasks for a simulated solver that learns; takes seconds."""
    from functools import partial

    from curri.simulation.demo import run_demo

    run = partial(run_demo, folder, rounds=rounds, batch=batch, size=size, seed=seed)
    if as_json:
        result = run()
        _keep_config(result, resolved(ctx))
        document(result.as_json())
        return
    say("Reasoning tasks of different difficulty, a simulated solver that learns, two strategies: ucb and uniform.")
    with _shown() as progress:
        result = run(progress=progress, echo=say)
    _keep_config(result, resolved(ctx))
    say("")
    for line in _page(result):
        write_line(line)
    say("", "Try next:", *(f"  {command}" for command in _commands(result)))


def _keep_config(result: DemoResult, config: dict[str, Any]) -> None:
    with opened(Path(result.store)) as store:
        for name in store.runs.names():
            store.runs.keep_config(store.runs.get(name).run_id, config)


def _page(result: DemoResult) -> list[str]:
    import textwrap

    from curri.simulation.demo_table import NOTE

    return [*result.lines(), "", *textwrap.wrap(result.reading(), _WIDTH), "", *textwrap.wrap(NOTE, _WIDTH)]


def _commands(result: DemoResult) -> list[str]:
    store = f"--store {shlex.quote(result.store)}"
    run = result.row("ucb").run
    # From `make demo` the program is not on the PATH, and has to be named as it was called.
    program = "curri" if shutil.which("curri") or not os.access(sys.argv[0], os.X_OK) else os.path.relpath(sys.argv[0])
    return [
        f"{program} estimate {store} --model run:{run}",
        f"{program} select {store} --strategy ucb --model run:{run} -n 3",
        f"{program} explain 1 {store} --run {run}",
    ]


def _shown() -> contextlib.AbstractContextManager[Callable[[DemoProgress], None]]:
    """Bars on a terminal, a line every few rounds elsewhere; on standard error in both cases."""
    return _bars() if sys.stderr.isatty() else contextlib.nullcontext(_tell)


def _tell(at: DemoProgress) -> None:
    if at.stage == "ingest":
        if at.done == at.total:
            say(f"{_STAGES[at.stage]}: {at.done} arms")
    elif at.done % _EVERY == 0 or at.done == at.total:
        say(f"{_STAGES[at.stage]}: round {at.done} of {at.total}, {at.signal:.0%} of the last groups with signal")


@contextlib.contextmanager
def _bars() -> Iterator[Callable[[DemoProgress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(at: DemoProgress) -> None:
            if at.stage not in tasks:
                tasks[at.stage] = bars.add_task(_STAGES[at.stage], total=at.total, note="")
            note = "" if at.stage == "ingest" else f"{at.signal:.0%} signal"
            bars.update(tasks[at.stage], completed=at.done, note=note)

        yield show
