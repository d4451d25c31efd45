"""``curri explain``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from curri.cli import _completion
from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, StoreOption, opened
from curri.cli._output import document, shown, table, write_line


def explain(
    prompt: Annotated[str, typer.Argument(help="Store id of a prompt, or your own id.", show_default=False)],
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="Name of the run; without one, only where the prompt comes from.",
            autocompletion=_completion.run_names,
        ),
    ] = None,
    own_id: Annotated[
        bool, typer.Option("--own-id", help="The prompt is named by your own id, even if it is a number.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Say why a prompt was or was not picked, what happened to it in a run, and what it was made of."""
    from curri.evolution import ancestry
    from curri.exchange import find_prompt
    from curri.scheduler import Scheduler

    with opened(store, read_only=True) as opened_store:
        prompt_id = find_prompt(opened_store, prompt, own_id=own_id)
        found: dict[str, Any] = {"prompt_id": prompt_id}
        if run is not None:
            found = Scheduler(opened_store, run=run).explain(prompt_id)
        line = ancestry(opened_store, prompt_id)
    if as_json:
        document({**found, "ancestry": line})
        return
    history: list[dict[str, Any]] | None = found.pop("history", None)
    width = max(map(len, found))
    for name, value in found.items():
        write_line(f"{name.replace('_', ' '):{width}}  {shown(value)}")
    write_line("")
    if history is not None:
        _write_history(history)
    _write_ancestry(line)


def _write_history(history: list[dict[str, Any]]) -> None:
    if not history:
        write_line("never picked in this run")
        return
    names = list(dict.fromkeys(name for row in history for name in row if name != "prompt_id"))
    rows = [[row.get(name) for name in names] for row in history]
    for text in table([name.replace("_", " ") for name in names], rows):
        write_line(text)


def _write_ancestry(line: list[dict[str, Any]]) -> None:
    if len(line) == 1:
        write_line("an original: it was not made out of another prompt")
        return
    write_line("")
    rows = [
        [entry["generation"], entry["prompt_id"], entry.get("operation"), entry.get("creator"), _checked(entry)]
        for entry in line
    ]
    for text in table(["generation", "prompt", "made by", "creator", "checked by"], rows):
        write_line(text)


def _checked(entry: dict[str, Any]) -> str | None:
    """How an answer was checked, in words."""
    checked = entry.get("checked")
    if not isinstance(checked, dict):
        return "its own task" if entry.get("creator") == "gym" else None
    parts = [str(checked["verifier"])] if "verifier" in checked else []
    if "solutions" in checked:
        parts.append(f"{checked.get('agreed')} of {checked['solutions']} solutions")
    return ", ".join(parts) or None
