"""Reports: what was found, as one JSON document, and as a page or a text made of it."""

from __future__ import annotations

from curri.reports.difficulty import difficulty_report
from curri.reports.markdown import render_markdown
from curri.reports.mixture import mixture_report
from curri.reports.page import render_page

__all__ = ["difficulty_report", "mixture_report", "render_markdown", "render_page"]
