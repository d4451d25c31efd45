"""The program ``curri``: its commands, and what it does before one of them runs."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from curri._version import __version__
from curri.cli import (
    demo,
    doctor,
    estimate,
    evolve,
    explain,
    export,
    ingest,
    mix,
    plan,
    priors,
    prompts,
    record,
    report,
    rollouts,
    select,
    simulate,
    store,
    strategies,
)
from curri.cli._config import ConfigOption, for_every_command
from curri.cli._group import CommandLine

_HELP = """
Decides which prompts a language model trains on next.

A round: curri select hands out prompts, your trainer answers them, curri record takes the rewards.
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

_STORE = "Prompts and rollouts"
_ROUND = "Rounds"
_REST = "More"

app.command("init", rich_help_panel=_STORE)(store.init)
app.command("ingest", rich_help_panel=_STORE)(ingest.ingest)
app.add_typer(rollouts.app, name="rollouts", rich_help_panel=_STORE)
app.add_typer(priors.app, name="priors", rich_help_panel=_STORE)
app.command("estimate", rich_help_panel=_STORE)(estimate.estimate)
app.command("plan", rich_help_panel=_STORE)(plan.plan)
app.command("report", rich_help_panel=_STORE)(report.report)
app.add_typer(prompts.app, name="prompts", rich_help_panel=_STORE)
app.command("evolve", rich_help_panel=_STORE)(evolve.evolve)
app.command("export", rich_help_panel=_STORE)(export.export)
app.add_typer(store.app, name="store", rich_help_panel=_STORE)
app.command("select", rich_help_panel=_ROUND)(select.select)
app.command("record", rich_help_panel=_ROUND)(record.record)
app.command("explain", rich_help_panel=_ROUND)(explain.explain)
app.add_typer(mix.app, name="mix", rich_help_panel=_REST)
app.command("strategies", rich_help_panel=_REST)(strategies.strategies)
app.command("doctor", rich_help_panel=_REST)(doctor.doctor)
app.command("simulate", rich_help_panel=_REST)(simulate.simulate)
app.command("demo", rich_help_panel=_REST)(demo.demo)


for_every_command(app)


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
    if isinstance(sys.stdout, io.TextIOWrapper):  # data is UTF-8 whatever the locale
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    app(prog_name="curri")
