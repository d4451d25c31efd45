"""A report as one HTML file that opens from disk, without a network."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from curri._version import __version__
from curri.errors import MissingExtra
from curri.reports.blocks import visible
from curri.reports.pages import page_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from curri.reports.blocks import Page

__all__ = ["embedded", "render_page"]

_TEMPLATES = "curri.reports"
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render_page(report: Mapping[str, Any]) -> str:
    """The page of a report.

    Everything is in it: style, program, plotly.js, figures. Names and prompts are hostile text: they are escaped in
    HTML, in the embedded JSON and in the figures, and a policy forbids the page to load anything or to run a script
    other than its own.

    Args:
        report: from :func:`~curri.reports.mixture_report` or :func:`~curri.reports.difficulty_report`.

    Raises:
        MissingExtra: jinja2 or plotly is not installed.
    """
    jinja2, offline = _extra("jinja2"), _extra("plotly.offline")
    safe = _extra("markupsafe").Markup
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=False,
    )
    page = page_of(report)
    program, plotly = _file("report.js"), offline.get_plotlyjs()
    trusted = {"style": _file("report.css"), "program": program, "plotly": plotly}
    if any("</script" in text.casefold() or "<!--" in text for text in trusted.values()):
        raise MissingExtra("this version of plotly cannot be put into a page", hint="pip install 'curri[report]'")
    figures = embedded({figure.id: figure.spec for figure in page.figures})
    return str(
        environment.get_template("report.html.jinja").render(
            **_fields(page),
            version=__version__,
            policy=_policy(program, plotly),
            figures=safe(figures),
            **{name: safe(text) for name, text in trusted.items()},
        )
    )


def embedded(value: object) -> str:
    r"""JSON that can stand inside a script element, whatever texts it holds.

    >>> embedded({"name": "</script>"})
    '{"name":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character, escape in _ESCAPED.items():
        text = text.replace(character, escape)
    return text


def _fields(page: Page) -> dict[str, Any]:
    return {name: getattr(page, name) for name in ("title", "kind", "headline", "lead", "facts", "sections", "footer")}


def _shown(value: object) -> object:
    """Texts from the data, with invisible characters written out; what is marked as safe is ours."""
    return visible(value) if type(value) is str else value


def _policy(*programs: str) -> str:
    """Nothing is loaded, and only these programs run."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()}'" for program in programs
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _file(name: str) -> str:
    return resources.files(_TEMPLATES).joinpath("templates", name).read_text(encoding="utf-8")


def _extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"a page needs {module.partition('.')[0]}, which is not installed",
            hint="pip install 'curri[report]', or write --format md",
        ) from error
