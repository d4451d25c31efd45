"""What a report is made of, whatever it is rendered to: sections of texts, tables and figures."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Block",
    "Bullets",
    "Cell",
    "Code",
    "Fact",
    "Figure",
    "Figures",
    "Page",
    "Section",
    "Table",
    "Text",
    "decimals_for",
    "fixed",
    "percent",
    "visible",
]


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; as a warning where it must not be overlooked."""

    kind: ClassVar[str] = "text"
    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list."""

    kind: ClassVar[str] = "bullets"
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to copy."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: what is read, and what it is sorted by (None: by its text)."""

    text: str
    value: float | None = None

    @classmethod
    def of(cls, value: object) -> Cell:
        """A text, a whole number or a cell as it is; None is a dash."""
        if isinstance(value, Cell):
            return value
        if value is None:
            return cls("–")
        if isinstance(value, int) and not isinstance(value, bool):
            return cls(f"{value:,}", float(value))
        return cls(str(value))


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        title: what it shows.
        headings: one a column.
        rows: cells, or what :meth:`Cell.of` makes one of.
        note: a sentence beneath it, or "".
        folded: shown when asked for: the numbers of a figure, or long.
        bulk: so long that it is not printed.
        marked: the row that matters most, or None.
    """

    kind: ClassVar[str] = "table"
    title: str
    headings: tuple[str, ...]
    rows: Sequence[Sequence[object]]
    note: str = ""
    folded: bool = False
    bulk: bool = False
    marked: int | None = None

    @property
    def cells(self) -> list[list[Cell]]:
        """All cells."""
        return [[Cell.of(value) for value in row] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        columns = list(zip(*self.cells, strict=True)) or [()] * len(self.headings)
        return [any(cell.value is not None for cell in column) for column in columns]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure for plotly.js.

    Attributes:
        id: distinct on the page.
        title: what it shows.
        caption: how to read it.
        data: traces.
        layout: without a width.
        narrow: path in the layout ("xaxis.title.text") → value on a narrow screen.
        square: largest side in pixels where it is as high as wide, else 0.
        extra: pixels of height beyond the square.
    """

    kind: ClassVar[str] = "figure"
    id: str
    title: str
    caption: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    narrow: dict[str, Any] = field(default_factory=dict)
    square: int = 0
    extra: int = 0

    @property
    def height(self) -> int:
        """Pixels to keep free for it."""
        return int(self.layout.get("height", 0)) or 220

    @property
    def spec(self) -> dict[str, Any]:
        """What the page's program draws."""
        return {
            "data": self.data,
            "layout": self.layout,
            "narrow": self.narrow,
            "square": self.square,
            "extra": self.extra,
        }


@dataclass(frozen=True, slots=True)
class Figures:
    """Small figures side by side; folded away where they are many."""

    kind: ClassVar[str] = "figures"
    figures: tuple[Figure, ...]
    title: str = ""
    folded: bool = False


Block = Text | Bullets | Code | Table | Figure | Figures


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report under a heading."""

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """A number that everyone looks for first."""

    label: str
    value: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report."""

    title: str
    kind: str
    headline: str
    lead: tuple[str, ...]
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...]
    footer: str

    @property
    def figures(self) -> list[Figure]:
        """All figures, in their order."""
        found: list[Figure] = []
        for section in self.sections:
            for block in section.blocks:
                found += [block] if isinstance(block, Figure) else []
                found += block.figures if isinstance(block, Figures) else []
        return found


def visible(text: str) -> str:
    r"""A text in which characters are written out that control a screen, turn the direction of reading or hide.

    >>> print(visible("a\u202eb"))
    a\u202eb
    """
    return _CONTROLS.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_CONTROLS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def decimals_for(spread: float) -> int:
    """Decimals with which differences of a hundredth of a spread can be read, from 0 to 8.

    >>> decimals_for(0.028), decimals_for(3.1), decimals_for(0.0)
    (4, 2, 4)
    """
    if not math.isfinite(spread) or spread <= 0.0:
        return 4
    return min(8, max(0, 2 - math.floor(math.log10(spread))))


def fixed(value: float | None, decimals: int, *, sign: bool = False) -> Cell:
    """A number with so many decimals.

    >>> (
    ...     fixed(0.12345, 3).text,
    ...     fixed(0.12345, 3, sign=True).text,
    ...     fixed(-0.0001, 3, sign=True).text,
    ...     fixed(None, 2).text,
    ... )
    ('0.123', '+0.123', '0.000', '–')
    """
    if value is None or not math.isfinite(value):
        return Cell("–")
    rounded = round(value, decimals) or 0.0  # no minus before a zero
    text = f"{rounded:+,.{decimals}f}" if sign and rounded else f"{rounded:,.{decimals}f}"
    return Cell(text.replace("-", "−"), value)


def percent(share: float | None, decimals: int = 1) -> Cell:
    r"""A share in percent, the sign after a space that does not break.

    >>> percent(0.256).text.replace("\u00a0", " "), percent(0.0001).text.replace("\u00a0", " ")
    ('25.6 %', '< 0.1 %')
    """
    if share is None or not math.isfinite(share):
        return Cell("–")
    text = "0\u00a0%" if share == 0.0 else f"{100.0 * share:.{decimals}f}\u00a0%"
    if share > 0.0 and float(f"{100.0 * share:.{decimals}f}") == 0.0:
        text = f"< {10.0**-decimals:g}\u00a0%"
    return Cell(text, share)
