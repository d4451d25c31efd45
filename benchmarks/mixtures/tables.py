"""Aligned text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Rows under their heads; a short row may end early."""
    rows = [list(heads), *[list(line) for line in lines]]
    widths = [max((len(row[i]) for row in rows if len(row) == len(heads)), default=0) for i in range(len(heads))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=False)] for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in padded)
