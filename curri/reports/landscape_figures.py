"""Figures of what the surrogates say between the runs: effects, curves, planes, the triangle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curri.reports.blocks import Figure, fixed, percent
from curri.reports.plots import BETTER_WORSE, BLUE, GREY, INK, SEQUENTIAL, axis, label, layout, names_axis, points
from curri.reports.wording import WIDTH, deciding, named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["curve_figures", "effect_figure", "slice_figures"]

_WORDY = 5
"""Targets up to which the numbers stand in the cells."""
_STAR = {"symbol": "star", "size": 16, "color": "#fff", "line": {"color": INK, "width": 1.5}}


# --- effects ----------------------------------------------------------------------------------------------------------


def effect_figure(report: Mapping[str, Any]) -> Figure:
    """Arms by targets: better or worse when the arm's share grows."""
    targets, arms = report["targets"], report["arms"]
    cells = [[_cell(report, target, row) for target in targets] for row in range(len(arms))]
    most = max((abs(cell[0]) for row in cells for cell in row if cell[0] is not None), default=0.0) or 1.0
    wordy = {"text": [[cell[1] for cell in row] for row in cells], "texttemplate": "%{text}"}
    tilted = len(targets) > 3
    return Figure(
        "effects",
        "What more of each dataset does",
        f"Predicted change when a dataset gets {percent(report['effects']['share'], 0).text} more of the training "
        "prompts and all others shrink in proportion, starting from the recommended mixture. Blue is better, orange "
        f"worse; full colour is {most:.2g} standard deviations of the measured scores.",
        [
            {
                "type": "heatmap",
                "z": [[cell[0] for cell in row] for row in cells],
                "x": list(range(len(targets))),
                "y": list(range(len(arms))),
                "customdata": [[cell[2] for cell in row] for row in cells],
                "hovertemplate": "%{customdata}<extra></extra>",
                **(wordy if len(targets) <= _WORDY else {}),
                "colorscale": BETTER_WORSE,
                "zmin": -most,
                "zmax": most,
                "xgap": 2,
                "ygap": 2,
                "showscale": False,
            }
        ],
        layout(
            60 + 24 * len(arms) + (90 if tilted else 0),
            xaxis=names_axis(
                [target["name"] for target in targets],
                longest=22,
                side="top",
                tickangle=-40 if tilted else 0,
                showline=False,
            ),
            yaxis=names_axis(arms, autorange="reversed", showline=False),
        ),
        narrow={
            "font.size": 10,
            "yaxis.ticktext": [label(arm, 14) for arm in arms],
            "xaxis.ticktext": [label(target["name"], 14) for target in targets],
            "xaxis.tickangle": -60 if len(targets) > 2 else 0,
        },
    )


def _cell(report: Mapping[str, Any], target: Mapping[str, Any], row: int) -> tuple[float | None, str, str]:
    """How much better in standard deviations, the change in words, and what is shown when pointed at."""
    found = report["effects"]["targets"][target["name"]]
    change, std = found["change"][row], found["std"][row]
    spread = target["measured"]["std"]
    sign = -1.0 if target["lower"] else 1.0
    value = sign * change / spread if spread and change is not None else None
    text = fixed(change, target["decimals"], sign=True).text
    give = fixed(None if std is None else WIDTH * std, target["decimals"]).text
    return value, text, f"{label(report['arms'][row], 60)}, {label(target['name'], 60)}<br>{text} ± {give}"


def curve_figures(report: Mapping[str, Any], most: int) -> tuple[Figure, ...]:
    """The deciding target along the shares of the arms that move it most, all on one scale."""
    target, curves = deciding(report), report["curves"][:most]
    known = [value for curve in curves for key in ("low", "high") for value in curve[key]]
    if not known:
        return ()
    pad = 0.04 * (max(known) - min(known)) or 0.5
    span = [min(known) - pad, max(known) + pad]
    return tuple(_curve(target, curve, place, span) for place, curve in enumerate(curves))


def _curve(target: Mapping[str, Any], curve: Mapping[str, Any], place: int, span: list[float]) -> Figure:
    shares, decimals = curve["shares"], target["decimals"]
    at = min(range(len(shares)), key=lambda each: abs(shares[each] - curve["share"]))
    texts = [
        f"{percent(share).text}: {fixed(mean, decimals).text} ({fixed(low, decimals).text} to "
        f"{fixed(high, decimals).text})"
        for share, mean, low, high in zip(shares, curve["mean"], curve["low"], curve["high"], strict=True)
    ]
    plain = {"mode": "lines", "showlegend": False}
    band = {"fill": "tonexty", "fillcolor": "rgba(0,114,178,0.18)", "line": {"width": 0}}
    dot = {"color": BLUE, "size": 10, "line": {"color": "#fff", "width": 1.5}}
    return Figure(
        f"curve-{place}",
        curve["arm"],
        f"Recommended: {percent(curve['share']).text} (dot).",
        [
            points(shares, curve["low"], None, **plain, line={"width": 0}),
            points(shares, curve["high"], None, **plain, **band),
            points(shares, curve["mean"], texts, **plain, line={"color": BLUE, "width": 2}),
            points([curve["share"]], [curve["mean"][at]], None, marker=dot, showlegend=False),
        ],
        layout(
            220,
            xaxis=axis("share", tickformat=".0%", rangemode="tozero", nticks=6),
            yaxis=axis(label(target["name"], 24), range=span, nticks=5),
        ),
        narrow={"font.size": 11},
    )


# --- slices -----------------------------------------------------------------------------------------------------------


def slice_figures(report: Mapping[str, Any]) -> tuple[Figure, ...]:
    """The triangle of three arms, or planes of two."""
    found = report["slices"]
    if found["kind"] == "ternary":
        return (_ternary(report),)
    if found["kind"] != "pairs":
        return ()
    values = [value for pair in found["pairs"] for row in pair["mean"] for value in row if value is not None]
    span = (min(values), max(values)) if values else (0.0, 1.0)
    return tuple(_pair(report, pair, place, span) for place, pair in enumerate(found["pairs"]))


def _colours(report: Mapping[str, Any], letter: str, span: tuple[float, float], y: float) -> dict[str, Any]:
    """Yellow is better, whichever way the target goes; the key lies below."""
    target = deciding(report)
    return {
        "colorscale": SEQUENTIAL,
        "reversescale": bool(target["lower"]),
        f"{letter}min": span[0],
        f"{letter}max": span[1],
        "colorbar": {
            "orientation": "h",
            "thickness": 10,
            "title": {"text": label(target["name"], 24), "side": "top"},
            "y": y,
            "yanchor": "top",
            "nticks": 4,
        },
    }


def _pair(report: Mapping[str, Any], pair: Mapping[str, Any], place: int, span: tuple[float, float]) -> Figure:
    decimals = deciding(report)["decimals"]
    first, second = pair["arms"]
    texts = [
        [
            f"{label(first)} {percent(x).text}, {label(second)} {percent(y).text}<br>{fixed(value, decimals).text}"
            for x, value in zip(pair["x"], row, strict=True)
        ]
        for y, row in zip(pair["y"], pair["mean"], strict=True)
    ]
    plane = {
        "type": "heatmap",
        "x": pair["x"],
        "y": pair["y"],
        "z": pair["mean"],
        **_colours(report, "z", span, -0.3),
        "customdata": texts,
        "hovertemplate": "%{customdata}<extra></extra>",
        "hoverongaps": False,
    }
    return Figure(
        f"slice-{place}",
        f"{first} and {second}",
        "All other datasets keep their proportions. The star is the recommended mixture.",
        [plane, points([pair["at"][0]], [pair["at"][1]], None, marker=_STAR, cliponaxis=False)],
        layout(
            340,
            xaxis=axis(label(first), tickformat=".0%", nticks=6, showgrid=False),
            yaxis=axis(label(second), tickformat=".0%", nticks=6, showgrid=False),
        ),
        narrow={"font.size": 11},
        square=330,
        extra=50,
    )


def _ternary(report: Mapping[str, Any]) -> Figure:
    found, decimals = report["slices"], deciding(report)["decimals"]
    names = [label(arm, 11) for arm in report["arms"]]
    grid = [
        f"{_mix(names, row)}<br>{fixed(mean, decimals).text} ± {fixed(WIDTH * std, decimals).text}"
        for row, mean, std in zip(found["weights"], found["mean"], found["std"], strict=True)
    ]
    known = dict(zip(report["data"]["names"], report["data"]["weights"], strict=True))
    runs = [row for row in deciding(report)["left_out"] if row["run"] in known]
    measured = [f"{label(row['run'], 40)}<br>measured {fixed(row['measured'], decimals).text}" for row in runs]
    colours = _colours(report, "c", (min(found["mean"]), max(found["mean"])), -0.1)
    rim = {"color": [row["measured"] for row in runs], **{k: v for k, v in colours.items() if k != "colorbar"}}
    chosen = list(named(report, "recommended")["weights"].values())
    return Figure(
        "ternary",
        "All mixtures of the three datasets",
        "Each corner is one dataset alone. Colour is the prediction, yellow being better; circles are measured runs "
        "in the colour of their score; the star is the recommended mixture.",
        [
            # Cells end at the edges of the triangle; dots and star on an edge are whole.
            {
                **_in_triangle(
                    found["weights"], grid, {"symbol": "hexagon2", "size": 23, "color": found["mean"], **colours}
                ),
                "cliponaxis": True,
            },
            _in_triangle(
                [known[row["run"]] for row in runs],
                measured,
                {"size": 10, **rim, "line": {"color": INK, "width": 1.5}},
            ),
            _in_triangle([chosen], [f"recommended<br>{_mix(names, chosen)}"], _STAR),
        ],
        layout(520, ternary=_corners(names), margin={"l": 68, "r": 68, "t": 40, "b": 30}, showlegend=False),
        narrow={"font.size": 11, "margin": {"l": 52, "r": 52, "t": 40, "b": 20}},
        square=540,
        extra=90,
    )


def _in_triangle(rows: Sequence[Sequence[float]], texts: Sequence[str], marker: Mapping[str, Any]) -> dict[str, Any]:
    places = {key: [row[place] for row in rows] for place, key in enumerate("abc")}
    look = {"hovertemplate": "%{customdata}<extra></extra>", "cliponaxis": False, "marker": dict(marker)}
    return {"type": "scatterternary", "mode": "markers", **places, "customdata": list(texts), **look}


def _corners(names: Sequence[str]) -> dict[str, Any]:
    clear = {"showticklabels": False, "gridcolor": "rgba(0,0,0,0)", "linecolor": GREY, "layer": "below traces"}
    clear |= {"ticks": "outside", "ticklen": 14, "tickcolor": "rgba(0,0,0,0)"}  # keeps the names off the corners
    sides = {
        side: {"title": {"text": name}, **clear} for side, name in zip(("aaxis", "baxis", "caxis"), names, strict=True)
    }
    return {"sum": 1, "bgcolor": "#fff", **sides}


def _mix(names: Sequence[str], row: Sequence[float]) -> str:
    return ", ".join(f"{name} {percent(weight, 0).text}" for name, weight in zip(names, row, strict=True))
