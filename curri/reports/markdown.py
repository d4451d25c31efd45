"""A report as Markdown: the same words and tables as the page, without its figures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from curri.reports.blocks import Bullets, Code, Figure, Figures, Section, Table, Text, visible
from curri.reports.pages import page_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from curri.reports.blocks import Block

__all__ = ["render_markdown"]

LONGEST = 200
"""Rows of a table that are written; the rest are counted."""
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&$])")
_BREAKS = re.compile(r"[\t\n\x0b\x0c\r\x85\u2028\u2029]+")


def render_markdown(report: Mapping[str, Any]) -> str:
    """The text of a report.

    Args:
        report: from :func:`~curri.reports.mixture_report` or :func:`~curri.reports.difficulty_report`.
    """
    page = page_of(report)
    lines = [f"# {_plain(page.headline)}", ""]
    for paragraph in page.lead:
        lines += [_plain(paragraph), ""]
    for fact in page.facts:
        more = f" ({_plain(fact.more)})" if fact.more else ""
        lines.append(f"- {_plain(fact.label)}: **{_plain(fact.value)}**{more}")
    for section in page.sections:
        lines += ["", *_section(section)]
    return "\n".join([*lines, "", "---", "", _plain(page.footer), ""])


def _section(section: Section) -> Iterator[str]:
    yield f"## {_plain(section.title)}"
    for block in section.blocks:
        yield ""
        yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Text):
        yield ("> **Note.** " if block.warning else "") + _plain(block.text)
    elif isinstance(block, Bullets):
        yield from (f"- {_plain(item)}" for item in block.items)
    elif isinstance(block, Code):
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", block.text)), default=0))
        yield from (fence, *map(visible, block.text.splitlines()), fence)
    elif isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Figure):
        yield f"*{_plain(block.title)}.* {_plain(block.caption)} (figure: in the page)"
    elif isinstance(block, Figures):
        yield from (f"- *{_plain(each.title)}.* {_plain(each.caption)} (figure: in the page)" for each in block.figures)


def _table(table: Table) -> Iterator[str]:
    yield f"**{_plain(table.title)}**"
    yield ""
    yield _row([_plain(heading) for heading in table.headings])
    yield _row(["---:" if right else "---" for right in table.numeric])
    for place, row in enumerate(table.cells[:LONGEST]):
        texts = [_plain(cell.text) for cell in row]
        yield _row([f"**{text}**" if place == table.marked and text else text for text in texts])
    if len(table.rows) > LONGEST:
        yield ""
        yield f"… and {len(table.rows) - LONGEST:,} more rows, in the JSON."
    if table.note:
        yield ""
        yield _plain(table.note)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    r"""A text in which nothing is markup, on one line.

    >>> _plain("a|b <script>")
    'a\\|b \\<script\\>'
    """
    return _SPECIAL.sub(r"\\\1", visible(_BREAKS.sub(" ", text))).strip()
