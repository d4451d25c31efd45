"""Which page a document becomes: by its format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curri.errors import InvalidParameter
from curri.reports.comparison import comparison_page
from curri.reports.difficulty.sections import difficulty_page
from curri.reports.replay import replay_page
from curri.reports.sections import mixture_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from curri.reports.blocks import Page

__all__ = ["page_of"]

_PAGES = {
    "curri mixture report": mixture_page,
    "curri difficulty report": difficulty_page,
    "curri replay report": replay_page,
    "curri comparison report": comparison_page,
}


def page_of(report: Mapping[str, Any]) -> Page:
    """The sections, tables and figures of a document.

    Raises:
        InvalidParameter: it is no report.
    """
    kind = str(report.get("format", "")).rpartition(" ")[0]
    if kind not in _PAGES:
        raise InvalidParameter(f"this is not the document of a report; its format is {report.get('format')!r}")
    return _PAGES[kind](report)
