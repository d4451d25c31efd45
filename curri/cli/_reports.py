"""What the commands that write a report share: where to, in which form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from curri.cli._output import document, say

if TYPE_CHECKING:
    from collections.abc import Mapping

ReportOutputOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="The file to write (- for standard output).", show_default="report.html"),
]
ReportFormatOption: TypeAlias = Annotated[
    str | None, typer.Option("--format", help="html, md or json.", show_default="by the file's ending, else html")
]

_FORMATS = {".html": "html", ".htm": "html", ".md": "md", ".json": "json"}


def report_format(asked: str | None, output: Path | None) -> str:
    """The form of a report: the one asked for, else by the file's ending, else html."""
    ending = "" if output is None else output.suffix
    found = asked or (_FORMATS.get(ending.casefold()) if ending else "html")
    if found is None:
        raise typer.BadParameter(f'"{output}" does not say which form the report should have: give --format')
    if found not in _FORMATS.values():
        raise typer.BadParameter(f"--format must be html, md or json; got {found}")
    return found


def deliver(found: Mapping[str, Any], kind: str, output: Path | None, *, as_json: bool) -> None:
    """Write a report, and say so; under ``--json`` the document alone, and a file only where one was named."""
    from curri.exchange.mixture_runs import write_text

    target = output or (None if as_json else Path("report." + kind))
    to_output = str(target) == "-"
    if target is not None and not (as_json and to_output):
        write_text(_rendered(found, kind), target)
    if as_json:
        document({**found, "output": None if target is None else str(target)})
    elif not to_output:
        say(found["headline"], f"wrote {target}")


def _rendered(found: Mapping[str, Any], kind: str) -> str:
    import json

    from curri.reports import render_markdown, render_page

    if kind == "json":
        return json.dumps(found, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    return render_markdown(found) if kind == "md" else render_page(found)
