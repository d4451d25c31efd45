"""The program ``curri``: what it does before one of its commands runs."""

from __future__ import annotations

import gc
import io
import sys
from typing import Annotated

import typer

from curri._version import __version__
from curri.cli._config import ConfigOption
from curri.cli._group import CommandLine

_HELP = """
Decides which prompts a language model trains on next.

A round: curri select hands out prompts, your trainer answers them, curri record takes the rewards.
"""
_LITTER = 50_000
"""Objects made between two searches for garbage: in modules, of which a start is full, there is none to be found.

So those that are there when it starts are left out of every search, the ones at the end of the process too.
"""

_EPILOG = "Exit codes: 0 done, 1 refused, 2 wrong usage, 3 store locked, 4 partly done, 130 interrupted."

app = typer.Typer(
    cls=CommandLine,
    name="curri",
    help=_HELP,
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"curri {__version__}")
        raise typer.Exit


@app.callback()
def _before_every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """See ``_HELP``: the help of the application is given there."""


def main() -> None:
    """Run the program."""
    gc.set_threshold(_LITTER, 20, 20)
    gc.freeze()
    if isinstance(sys.stdout, io.TextIOWrapper):  # data is UTF-8 whatever the locale
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        app(prog_name="curri")
    finally:
        gc.disable()  # Python would search once more before it clears everything anyway
