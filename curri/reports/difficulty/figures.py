"""Figures of a difficulty report."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from curri.reports.blocks import Figure, percent
from curri.reports.plots import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SHADES,
    SKY,
    VERMILLION,
    axis,
    label,
    layout,
    names_axis,
    points,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ARMS",
    "SMALL",
    "calibration_figure",
    "drift_figure",
    "histogram_figure",
    "histogram_map",
    "signal_figure",
    "size_figure",
    "spread_figures",
    "verdict_figure",
    "versions_figure",
    "visits_figure",
]

ARMS = 40
"""Arms that a figure shows; the table beside it has all."""
SMALL = 9
"""Arms up to which each has a small histogram of its own."""
MANY = 12
LINES = 6
"""Arms that are drawn as curves."""

_LOOKS = {
    "hard": ("too hard", VERMILLION, "/"),
    "keep": ("worth keeping", BLUE, ""),
    "flat": ("same reward", GREY, "x"),
    "easy": ("too easy", ORANGE, "\\"),
    "untried": ("no rollouts", "#d0d7de", "."),
}
"""Verdict → name, colour and pattern."""
_SIGNAL = {
    "wrong": ("all wrong", VERMILLION, "/"),
    "signal": ("signal", BLUE, ""),
    "same": ("same reward", GREY, "x"),
    "right": ("all right", ORANGE, "\\"),
}
_LINES = (
    (BLUE, "solid", "circle"),
    (VERMILLION, "dash", "square"),
    (GREEN, "dot", "diamond"),
    (ORANGE, "dashdot", "triangle-up"),
    (SKY, "longdash", "x"),
    (INK, "solid", "cross"),
)
_LEGEND = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "traceorder": "normal"}


# --- verdicts ---------------------------------------------------------------------------------------------------------


def verdict_figure(arms: Sequence[Mapping[str, Any]]) -> Figure:
    """Shares of each arm's prompts that are too hard, worth keeping, too easy."""
    shown = [arm | {"untried": arm["prompts"] - arm["tried"]} for arm in _largest(arms, "prompts", "keep")]
    held = [kind for kind in _LOOKS if any(arm[kind] > 0.0 for arm in shown)]
    return _stacked(
        "verdicts",
        "Which prompts are worth keeping",
        "Share of each arm's prompts that may be picked." + _rest(arms, "prompts"),
        shown,
        {kind: _LOOKS[kind] for kind in held},
        lambda arm, kind: (arm[kind] / max(arm["prompts"], 1), f"{arm[kind]:,.0f} of {arm['prompts']:,} prompts"),
    )


def signal_figure(found: Mapping[str, Any]) -> Figure:
    """Shares of each arm's groups that were all wrong, had signal, or were all right."""
    arms = found["arms"]
    shown = _largest(arms, "groups", "signal")
    held = [kind for kind in _SIGNAL if any(arm[kind] for arm in shown)]
    return _stacked(
        "signal",
        "Groups with and without signal",
        "Share of each arm's groups of two or more responses." + _rest(arms, "groups"),
        shown,
        {kind: _SIGNAL[kind] for kind in held},
        lambda arm, kind: (arm[kind] / arm["groups"], f"{arm[kind]:,} of {arm['groups']:,} groups"),
    )


def _largest(arms: Sequence[Mapping[str, Any]], by: str, best: str) -> list[Any]:
    """From the bottom to the top: by size where they are few, by the share of what is best where they are many."""
    largest = [dict(arm) for arm in sorted(arms, key=lambda arm: (-arm[by], arm["arm"]))[:ARMS] if arm[by]]
    if len(largest) > MANY:
        largest.sort(key=lambda arm: -arm[best] / arm[by])
    return largest[::-1]


def _rest(arms: Sequence[Mapping[str, Any]], of: str) -> str:
    return f" The {ARMS} arms with the most {of} of {len(arms)}." if len(arms) > ARMS else ""


def _stacked(  # noqa: PLR0917  private
    name: str, title: str, caption: str, arms: list[Any], looks: Mapping[str, tuple[str, str, str]], value: Any
) -> Figure:
    names = [arm["arm"] for arm in arms]
    traces = []
    for kind, (word, colour, pattern) in looks.items():
        pairs = [value(arm, kind) for arm in arms]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": word,
                "x": [share for share, _ in pairs],
                "y": list(range(len(arms))),
                "customdata": [
                    f"{label(arm, 80)}<br>{word}: {percent(share).text}<br>{text}"
                    for arm, (share, text) in zip(names, pairs, strict=True)
                ],
                "hovertemplate": "%{customdata}<extra></extra>",
                "marker": {
                    "color": colour,
                    "line": {"color": "#ffffff", "width": 1},
                    "pattern": {
                        "shape": pattern,
                        "size": 5,
                        "fillmode": "overlay",
                        "fgcolor": "rgba(255,255,255,0.55)",
                    },
                },
            }
        )
    return Figure(
        name,
        title,
        caption,
        traces,
        layout(
            90 + len(arms) * (26 if len(arms) <= MANY else 17),
            barmode="stack",
            bargap=0.25,
            xaxis=axis(range=[0, 1], tickformat=".0%"),
            yaxis=names_axis(names, range=[-0.6, len(arms) - 0.4]),
            legend=_LEGEND,
        ),
        narrow={"font.size": 11, "yaxis.ticktext": [label(each, 14) for each in names]},
    )


# --- pass rates -------------------------------------------------------------------------------------------------------


def histogram_figure(found: Mapping[str, Any], edge: float) -> Figure:
    """Expected number of prompts in each tenth of the pass rate."""
    bars = _bars(found["edges"], found["all"], BLUE)
    raw = points(
        _middles(found["edges"]),
        found["all"]["raw"],
        [f"{count:,} prompts by their share of right answers alone" for count in found["all"]["raw"]],
        name="by right answers alone",
        marker={"color": VERMILLION, "symbol": "diamond-open", "size": 9, "line": {"width": 2}},
    )
    return Figure(
        "histogram",
        "Pass rates of the prompts",
        "Bars: expected number of prompts, with 90 % intervals. Diamonds: counted by k right of n alone, which "
        "spreads too far with few rollouts. Between the dotted lines prompts are worth keeping.",
        [bars | {"name": "expected"}, raw],
        layout(
            340,
            bargap=0.06,
            xaxis=axis("pass rate", range=[0, 1], tickformat=".0%", dtick=0.2),
            yaxis=axis("prompts", rangemode="tozero", nticks=6),
            shapes=_edges(edge),
            legend=_LEGEND,
        ),
        narrow={"font.size": 11},
    )


def _edges(edge: float) -> list[dict[str, Any]]:
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "line": {"dash": "dot", "color": INK, "width": 1}}
    return [line | {"x0": each, "x1": each} for each in (1.0 - edge, edge)]


def _bars(edges: Sequence[float], counts: Mapping[str, Any], colour: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "x": _middles(edges),
        "y": counts["mean"],
        "width": [0.094] * (len(edges) - 1),
        "marker": {"color": colour},
        "error_y": {
            "type": "data",
            "array": counts["half"],
            "arrayminus": [min(half, mean) for mean, half in zip(counts["mean"], counts["half"], strict=True)],
            "color": INK,
            "thickness": 1,
            "width": 3,
        },
        "customdata": [
            f"{low:.0%} to {high:.0%}<br>{mean:,.1f} ± {half:,.1f} prompts"
            for low, high, mean, half in zip(edges, edges[1:], counts["mean"], counts["half"], strict=False)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _middles(edges: Sequence[float]) -> list[float]:
    return [(low + high) / 2.0 for low, high in itertools.pairwise(edges)]


def spread_figures(found: Mapping[str, Any]) -> tuple[Figure, ...]:
    """A small histogram an arm."""
    return tuple(
        Figure(
            f"spread-{place}",
            arm["arm"],
            f"{arm['prompts']:,} prompts, {rollouts(arm)}.",
            [_bars(found["edges"], arm, BLUE)],
            layout(
                210,
                bargap=0.06,
                xaxis=axis(range=[0, 1], tickformat=".0%", dtick=0.5),
                yaxis=axis(rangemode="tozero", nticks=4),
                showlegend=False,
            ),
            narrow={"font.size": 11},
        )
        for place, arm in enumerate(found["arms"])
    )


def rollouts(arm: Mapping[str, Any]) -> str:
    """How many rollouts the prompts of an arm have."""
    if arm["least"] == arm["most"]:
        return f"{arm['least']:,} rollout{'s' if arm['least'] > 1 else ''} each"
    return f"{arm['least']:,} to {arm['most']:,} rollouts each (median {arm['median']:g})"


def histogram_map(found: Mapping[str, Any]) -> Figure:
    """Histograms of many arms as the rows of one map."""
    arms = sorted(found["arms"], key=lambda arm: (-arm["prompts"], arm["arm"]))[:ARMS]
    arms.sort(key=lambda arm: _centre(found["edges"], arm), reverse=True)
    names = [arm["arm"] for arm in arms]
    shares = [[value / sum(arm["mean"]) for value in arm["mean"]] for arm in arms]
    texts = [
        [
            f"{label(arm['arm'], 80)}<br>{low:.0%} to {high:.0%}: {mean:,.1f} ± {half:,.1f} "
            f"of {arm['prompts']:,} prompts<br>{rollouts(arm)}"
            for low, high, mean, half in zip(found["edges"], found["edges"][1:], arm["mean"], arm["half"], strict=False)
        ]
        for arm in arms
    ]
    return Figure(
        "histograms",
        "Pass rates of each arm",
        "A row an arm, from 0 to 100 % pass rate, easiest at the bottom: the stronger, the more of its prompts."
        + _rest(found["arms"], "prompts"),
        [
            {
                "type": "heatmap",
                "x": _middles(found["edges"]),
                "y": list(range(len(arms))),
                "z": shares,
                "zmin": 0,
                "colorscale": SHADES,
                "customdata": texts,
                "hovertemplate": "%{customdata}<extra></extra>",
                "xgap": 1,
                "ygap": 1,
                "colorbar": {"title": {"text": "share"}, "tickformat": ".0%", "thickness": 12, "outlinewidth": 0},
            }
        ],
        layout(
            90 + 17 * len(arms),
            xaxis=axis("pass rate", tickformat=".0%", dtick=0.2, range=[0, 1], showgrid=False),
            yaxis=names_axis(names, range=[-0.6, len(arms) - 0.4]),
        ),
        narrow={"font.size": 11, "yaxis.ticktext": [label(each, 14) for each in names]},
    )


def _centre(edges: Sequence[float], arm: Mapping[str, Any]) -> float:
    return float(
        sum(middle * mean for middle, mean in zip(_middles(edges), arm["mean"], strict=True)) / sum(arm["mean"])
    )


def size_figure(sizes: Sequence[Mapping[str, Any]], chosen: int) -> Figure:
    """Expected waste by group size."""
    texts = [f"groups of {row['size']}: {percent(row['dead']).text} without signal" for row in sizes]
    colours = [BLUE if row["size"] == chosen else GREY for row in sizes]
    return Figure(
        "sizes",
        "Groups without signal by group size",
        "Expected share, were all prompts that were tried picked equally often.",
        [
            {
                "type": "bar",
                "x": [str(row["size"]) for row in sizes],
                "y": [row["dead"] for row in sizes],
                "marker": {"color": colours},
                "customdata": texts,
                "hovertemplate": "%{customdata}<extra></extra>",
                "text": [percent(row["dead"], 0).text for row in sizes],
                "textposition": "outside",
                "cliponaxis": False,
            }
        ],
        layout(
            260,
            xaxis=axis("group size", type="category", showgrid=False),
            yaxis=axis(tickformat=".0%", range=[0, 1], nticks=6),
        ),
        narrow={"font.size": 11},
    )


# --- over time --------------------------------------------------------------------------------------------------------


def drift_figure(found: Mapping[str, Any]) -> Figure:
    """Curves of the arms with the most responses."""
    arms = sorted(found["arms"], key=lambda arm: (-sum(arm["responses"]), arm["arm"]))
    shown = sorted(arms[:LINES], key=lambda arm: arm["arm"])
    spans = [span(each) for each in found["bins"]]
    traces = []
    for arm, (colour, dash, symbol) in zip(shown, _LINES, strict=False):
        held = [place for place, mean in enumerate(arm["mean"]) if mean is not None]
        texts = [
            f"{label(arm['arm'], 60)}<br>{found['by']} {spans[place]}<br>{found['measure']} "
            f"{plus_minus(arm['mean'][place], arm['half'][place])}<br>{arm['responses'][place]:,} responses"
            for place in held
        ]
        traces.append(
            points(
                [found["bins"][place]["first"] for place in held],
                [arm["mean"][place] for place in held],
                texts,
                name=label(arm["arm"], 24),
                mode="lines+markers",
                line={"color": colour, "dash": dash, "width": 2},
                marker={"color": colour, "symbol": symbol, "size": 7},
                error_y={
                    "type": "data",
                    "array": [arm["half"][place] or 0.0 for place in held],
                    "color": _faint(colour),
                    "thickness": 1.5,
                    "width": 0,
                },
            )
        )
    rate = found["measure"] == "pass rate"
    caption = f"Mean {found['measure']} of all responses, with 90 % intervals"
    caption += f"; the {LINES} arms with the most responses of {len(arms)}." if len(arms) > LINES else "."
    return Figure(
        "drift",
        f"{found['measure'].capitalize()} over {found['by']}s",
        caption,
        traces,
        layout(
            380,
            xaxis=axis(found["by"], nticks=8, tickformat="d"),
            yaxis=axis(found["measure"], nticks=6, **({"tickformat": ".0%"} if rate else {})),
            legend=_LEGEND,
        ),
        narrow={"font.size": 11},
    )


def plus_minus(mean: float, half: float | None) -> str:
    """A mean with half of its interval, where that is known.

    >>> plus_minus(0.25, 0.01), plus_minus(0.25, None)
    ('0.250 ± 0.010', '0.250')
    """
    return f"{mean:.3f}" if half is None else f"{mean:.3f} ± {half:.3f}"


def _faint(colour: str) -> str:
    """The same colour, mostly transparent."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.4)"


def span(bin_: Mapping[str, int]) -> str:
    """The moments of a bin.

    >>> span({"first": 0, "last": 4}), span({"first": 3, "last": 3})
    ('0–4', '3')
    """
    return f"{bin_['first']}" if bin_["first"] == bin_["last"] else f"{bin_['first']}–{bin_['last']}"


def versions_figure(found: Mapping[str, Any]) -> Figure | None:
    """What groups were, over time; None where there are no groups of two or more."""
    signal = found["signal"]
    if signal is None:
        return None
    spans = [span(each) for each in found["bins"]]
    traces = []
    for kind, (word, colour, pattern) in _SIGNAL.items():
        if not any(signal[kind]):
            continue
        texts = [
            f"{found['by']} {name}<br>{word}: {percent(share).text} of {total:,} groups"
            for name, share, total in zip(spans, signal[kind], signal["groups"], strict=True)
        ]
        traces.append(
            {
                "type": "bar",
                "name": word,
                "x": spans,
                "y": signal[kind],
                "customdata": texts,
                "hovertemplate": "%{customdata}<extra></extra>",
                "marker": {
                    "color": colour,
                    "pattern": {
                        "shape": pattern,
                        "size": 5,
                        "fillmode": "overlay",
                        "fgcolor": "rgba(255,255,255,0.55)",
                    },
                },
            }
        )
    return Figure(
        "versions",
        f"Groups over {found['by']}s",
        "Share of the groups; those without signal are all wrong or all right.",
        traces,
        layout(
            320,
            barmode="stack",
            bargap=0.08,
            xaxis=axis(found["by"], type="category", showgrid=False, nticks=10),
            yaxis=axis(tickformat=".0%", range=[0, 1], nticks=6),
            legend=_LEGEND,
        ),
        narrow={"font.size": 11, "xaxis.nticks": 5},
    )


# --- coverage and priors ----------------------------------------------------------------------------------------------


def visits_figure(found: Mapping[str, Any]) -> Figure:
    """Prompts by how often they were visited."""
    names = [span(each) for each in found["bins"]]
    counts = [each["prompts"] for each in found["bins"]]
    texts = [
        f"{name} {found['unit']}: {count:,} prompts ({percent(count / max(found['prompts'], 1)).text})"
        for name, count in zip(names, counts, strict=True)
    ]
    return Figure(
        "visits",
        f"Prompts by their {found['unit']}",
        "Prompts that may be picked.",
        [
            {
                "type": "bar",
                "x": names,
                "y": counts,
                "marker": {"color": [VERMILLION if each["last"] == 0 else BLUE for each in found["bins"]]},
                "customdata": texts,
                "hovertemplate": "%{customdata}<extra></extra>",
            }
        ],
        layout(
            260,
            bargap=0.08,
            xaxis=axis(f"{found['unit']} of a prompt", type="category", showgrid=False),
            yaxis=axis("prompts", rangemode="tozero", nticks=5),
        ),
        narrow={"font.size": 11},
    )


def calibration_figure(found: Mapping[str, Any], place: int) -> Figure:
    """A prior's pass rates against the store's own."""
    bins = found["bins"]
    texts = [
        f"prior {percent(each['prior']).text}, here {percent(each['own']).text}<br>{each['prompts']:,} prompts"
        for each in bins
    ]
    diagonal = {"mode": "lines", "line": {"color": INK, "width": 1, "dash": "dot"}, "showlegend": False}
    return Figure(
        f"calibration-{place}",
        found["model"],
        f"{found['prompts']:,} prompts, in tenths by their prior. On the dotted line both agree.",
        [
            points([0, 1], [0, 1], None, **diagonal),
            points(
                [each["prior"] for each in bins],
                [each["own"] for each in bins],
                texts,
                mode="lines+markers",
                line={"color": BLUE, "width": 1.5},
                marker={"color": BLUE, "size": 8},
                error_y={"type": "data", "array": [each["half"] or 0.0 for each in bins], "color": BLUE, "thickness": 1,
                         "width": 3},
                showlegend=False,
            ),
        ],
        layout(
            330,
            xaxis=axis("pass rate there", range=[-0.02, 1.02], tickformat=".0%", dtick=0.25),
            yaxis=axis("pass rate here", range=[-0.02, 1.02], tickformat=".0%", dtick=0.25),
        ),
        narrow={"font.size": 11},
        square=330,
    )  # fmt: skip
