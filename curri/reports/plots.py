"""What all figures share: colours, axes, and names that plotly shows as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curri.reports.blocks import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BETTER_WORSE",
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "ORANGE",
    "SEQUENTIAL",
    "SHADES",
    "SKY",
    "VERMILLION",
    "axis",
    "label",
    "layout",
    "names_axis",
    "points",
]

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, GREEN, ORANGE, VERMILLION, SKY = "#0072B2", "#009E73", "#E69F00", "#D55E00", "#56B4E9"
GREY, INK, FAINT = "#8c959f", "#1b1f24", "#d8dee4"
BETTER_WORSE = [[0.0, "#D55E00"], [0.25, "#F3B48A"], [0.5, "#FFFFFF"], [0.75, "#8CC0DE"], [1.0, "#0072B2"]]
"""From worse to better: vermillion, white, blue."""
SEQUENTIAL = "Cividis"
SHADES = [[0.0, "#f3f7fb"], [0.33, "#9ccbe8"], [0.67, "#3a8fc4"], [1.0, "#0b3c5d"]]
"""From nothing to much: the page's program turns them around where the screen is dark."""

LABEL = 26
"""Characters of a name beside an axis."""
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


def layout(height: int, **more: Any) -> dict[str, Any]:
    """A layout of that height; it gets its width on the page."""
    return {
        "height": height,
        "font": {"family": _FONT, "size": 13, "color": INK},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "margin": {"l": 8, "r": 24, "t": 8, "b": 8},
        "dragmode": False,
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        **more,
    }


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis of numbers; the title is a :func:`label` already where it holds a name."""
    return {
        "title": {"text": title, "standoff": 8},
        "automargin": True,
        "gridcolor": FAINT,
        "zeroline": False,
        "linecolor": GREY,
        "showline": True,
        "ticks": "outside",
        "tickcolor": GREY,
        "ticklabeloverflow": "allow",
        "fixedrange": True,
        **more,
    }


def names_axis(names: Sequence[str], *, longest: int = LABEL, **more: Any) -> dict[str, Any]:
    """An axis of names, by their numbers, so that names that look the same stay apart."""
    texts = [label(each, longest) for each in names]
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": texts}
    return axis(**{**ticks, "ticks": "", "showgrid": False, **more})


def label(name: str, longest: int = LABEL) -> str:
    """A name as plotly shows it: nothing in it is markup, and it is not too long.

    >>> label("<b>a</b>"), label("a" * 40, 8)
    ('&lt;b&gt;a&lt;/b&gt;', 'aaaaaaa…')
    """
    name = visible(name)
    short = name if len(name) <= longest else name[: longest - 1] + "…"
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def points(x: Sequence[Any], y: Sequence[Any], texts: Sequence[str] | None, **more: Any) -> dict[str, Any]:
    """Markers; ``texts`` are shown when one is pointed at."""
    hover = {"hoverinfo": "skip"} if texts is None else {"customdata": list(texts), "hovertemplate": _HOVER}
    return {"type": "scatter", "mode": "markers", "x": list(x), "y": list(y), **hover, **more}


_HOVER = "%{customdata}<extra></extra>"
