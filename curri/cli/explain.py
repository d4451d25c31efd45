"""``curri explain``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, RunOption, StoreOption, opened
from curri.cli._output import document, shown, table, write_line


def explain(
    prompt: Annotated[str, typer.Argument(help="Store id of a prompt, or your own id.", show_default=False)],
    run: RunOption,
    own_id: Annotated[
        bool, typer.Option("--own-id", help="The prompt is named by your own id, even if it is a number.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Say why a prompt was or was not picked, and what happened to it in a run."""
    from curri.exchange import find_prompt
    from curri.scheduler import Scheduler

    with opened(store, read_only=True) as opened_store:
        prompt_id = find_prompt(opened_store, prompt, own_id=own_id)
        found = Scheduler(opened_store, run=run).explain(prompt_id)
    if as_json:
        document(found)
        return
    history: list[dict[str, Any]] = found.pop("history")
    width = max(map(len, found))
    for name, value in found.items():
        write_line(f"{name.replace('_', ' '):{width}}  {shown(value)}")
    write_line("")
    if not history:
        write_line("never picked in this run")
        return
    names = [name for name in history[0] if name != "prompt_id"]
    names += [name for row in history for name in row if name not in names and name != "prompt_id"]
    names = list(dict.fromkeys(names))
    for line in table(
        [name.replace("_", " ") for name in names], [[row.get(name) for name in names] for row in history]
    ):
        write_line(line)
