"""What the benchmark shows: titled tables, as aligned text on a terminal and as Markdown in the README."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Shown:
    """A table under a title, with sentences below it; a short row may end early."""

    title: str
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()

    def text(self) -> str:
        """For a terminal."""
        lines = [list(self.heads), *[list(row) for row in self.rows]] if self.heads else []
        full = [line for line in lines if len(line) == len(self.heads)]
        widths = [max(len(line[i]) for line in full) for i in range(len(self.heads))]
        padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=False)] for line in lines]
        return "\n".join([self.title, *["  ".join(line).rstrip() for line in padded], *self.notes])

    def markdown(self) -> str:
        """For the README."""
        parts = [f"**{self.title}**"]
        if self.heads:
            rows = [[*row, *[""] * (len(self.heads) - len(row))] for row in self.rows]
            lines = [self.heads, ["---"] * len(self.heads), *rows]
            parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
        return "\n\n".join([*parts, *self.notes])
