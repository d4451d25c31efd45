"""The commands of the program, each imported and built when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer

from curri.cli._config import for_every_command

if TYPE_CHECKING:
    from collections.abc import Iterator

_STORE = "Prompts and rollouts"
_ROUND = "Rounds"
_REST = "More"

# Name → where its function, or the Typer of a group, is (in curri.cli), and the panel of `curri --help` it stands in.
_HOMES = {
    "init": ("store:init", _STORE),
    "ingest": ("ingest:ingest", _STORE),
    "estimate": ("estimate:estimate", _STORE),
    "plan": ("plan:plan", _STORE),
    "report": ("report:report", _STORE),
    "evolve": ("evolve:evolve", _STORE),
    "export": ("export:export", _STORE),
    "select": ("select:select", _ROUND),
    "record": ("record:record", _ROUND),
    "explain": ("explain:explain", _ROUND),
    "strategies": ("strategies:strategies", _REST),
    "doctor": ("doctor:doctor", _REST),
    "simulate": ("simulate:simulate", _REST),
    "demo": ("demo:demo", _REST),
    "rollouts": ("rollouts:app", _STORE),
    "priors": ("priors:app", _STORE),
    "prompts": ("prompts:app", _STORE),
    "store": ("store:app", _STORE),
    "mix": ("mix:app", _REST),
}


class Commands(Mapping[str, Any]):
    """Commands by name, in the order of the help."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = _built(name, *_HOMES[name])
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_HOMES)

    def __len__(self) -> int:
        return len(_HOMES)

    def __contains__(self, name: object) -> bool:  # that of Mapping would build it
        return name in _HOMES


def _built(name: str, home: str, panel: str) -> Any:
    module, _, attribute = home.partition(":")
    found = getattr(import_module(f"curri.cli.{module}"), attribute)
    alone = typer.Typer(add_completion=False)
    is_group = isinstance(found, typer.Typer)
    if is_group:
        alone.add_typer(found, name=name, rich_help_panel=panel)
    else:
        alone.command(name, rich_help_panel=panel)(found)
    for_every_command(alone)
    command: Any = typer.main.get_command(alone)
    return command.commands[name] if is_group else command
