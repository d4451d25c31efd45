"""Figures of what was measured and recommended: weights, left-out runs, fronts, replicates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curri.reports.blocks import Figure, fixed, percent
from curri.reports.plots import BLUE, GREEN, GREY, INK, ORANGE, VERMILLION, axis, label, layout, names_axis, points
from curri.reports.wording import WIDTH, deciding, named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["front_figures", "left_out_figure", "noise_figure", "weight_figure"]

_LOOKS = {
    "recommended": (BLUE, ""),
    "best measured": (GREEN, "/"),
    "natural": (ORANGE, "x"),
    "uniform": (GREY, "."),
}
"""Mixture → colour and pattern."""
_MOST_BARS = 8
"""Arms beyond which the uniform mixture is a line and no bars."""
_MANY = 150
"""Runs beyond which points are small and their bars faint."""
_WHOLE_BARS = 60
"""Runs up to which the axis makes room for all of every interval."""


# --- weights ----------------------------------------------------------------------------------------------------------


def weight_figure(report: Mapping[str, Any]) -> Figure:
    """Bars of the recommended mixture next to what it is compared with."""
    chosen = named(report, "recommended")["weights"]
    arms = sorted(report["arms"], key=lambda arm: chosen[arm])  # the largest on top
    many = len(arms) > _MOST_BARS
    mixtures = [
        mixture
        for mixture in report["mixtures"]
        if mixture["name"] in _LOOKS and not (many and mixture["name"] == "uniform")
    ]
    height = 70 + len(arms) * (12 * len(mixtures) + 14 if len(arms) <= _MOST_BARS else 8 * len(mixtures) + 10)
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "traceorder": "reversed"}
    return Figure(
        "weights",
        "Weights of the datasets",
        "Share of the training prompts. The largest recommended share is on top.",
        [_bars(mixture, arms) for mixture in reversed(mixtures)],
        layout(
            height,
            barmode="group",
            bargap=0.3,
            bargroupgap=0.08,
            xaxis=axis(rangemode="tozero", tickformat=".0%"),
            yaxis=names_axis(arms, range=[-0.6, len(arms) - 0.4]),
            legend=legend,
            **(_uniform_line(len(arms)) if many else {}),
        ),
        narrow={"font.size": 11, "yaxis.ticktext": [label(arm, 14) for arm in arms]},
    )


def _bars(mixture: Mapping[str, Any], arms: Sequence[str]) -> dict[str, Any]:
    colour, pattern = _LOOKS[mixture["name"]]
    values = [mixture["weights"][arm] for arm in arms]
    return {
        "type": "bar",
        "orientation": "h",
        "name": mixture["name"],
        "x": values,
        "y": list(range(len(arms))),
        "customdata": [f"{label(arm, 80)}: {percent(value).text}" for arm, value in zip(arms, values, strict=True)],
        "hovertemplate": "%{customdata}<extra>" + mixture["name"] + "</extra>",
        "marker": {"color": colour, "pattern": {"shape": pattern, "size": 6, "fillmode": "overlay", "fgcolor": "#fff"}},
    }


def _uniform_line(arms: int) -> dict[str, Any]:
    """The uniform mixture is the same for all arms: a line says it."""
    even = 1.0 / arms
    line = {"type": "line", "x0": even, "x1": even, "y0": -0.6, "y1": arms - 0.4}
    note = {"x": even, "y": -0.6, "text": f"uniform {percent(even).text}", "showarrow": False}
    return {
        "shapes": [{**line, "line": {"dash": "dot", "color": INK, "width": 1}}],
        "annotations": [{**note, "xanchor": "left", "yanchor": "bottom", "xshift": 4, "font": {"size": 11}}],
    }


# --- predicted against measured ---------------------------------------------------------------------------------------


def left_out_figure(target: Mapping[str, Any], place: int, level: float, *, small: bool) -> Figure:
    """Each run as it was measured, against what the fit to all other mixtures says of it."""
    rows = target["left_out"]
    across, up = _spans(rows)
    diagonal = {"mode": "lines", "line": {"color": INK, "width": 1, "dash": "dot"}, "showlegend": False}
    quality = target["quality"]
    caption = f"R² {fixed(quality['r2'], 2).text}, rank correlation {fixed(quality['spearman'], 2).text}."
    if not small:
        caption += (
            " Each run was predicted by a fit to all mixtures but its own; the bar is the "
            f"{percent(level, 0).text} interval. On the dotted line the prediction is right."
        )
    return Figure(
        f"left-out-{place}",
        target["name"],
        caption,
        [points(across, across, None, **diagonal), _intervals(rows), *_runs(target, level, small=small)],
        layout(
            300 if small else 440,
            xaxis=axis("measured", range=across, nticks=5),
            yaxis=axis("predicted when left out", range=up, nticks=6),
        ),
        narrow={"font.size": 11},
        square=330 if small else 440,
    )


def _spans(rows: Sequence[Mapping[str, float]]) -> tuple[list[float], list[float]]:
    """Ranges of the two axes."""
    measured, predicted = [row["measured"] for row in rows], [row["predicted"] for row in rows]
    both = [*measured, *predicted]
    pad = 0.06 * (max(both) - min(both)) or 0.5
    ends = both
    if len(rows) <= _WHOLE_BARS:
        ends = [*both, *(row["predicted"] + sign * row["half"] for row in rows for sign in (-1.0, 1.0))]
    return [min(both) - pad, max(both) + pad], [min(ends) - pad, max(ends) + pad]


def _intervals(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """All intervals as one broken line, which draws much faster than error bars."""
    x: list[float | None] = []
    y: list[float | None] = []
    for row in rows:
        x += [row["measured"], row["measured"], None]
        y += [row["predicted"] - row["half"], row["predicted"] + row["half"], None]
    line = {"color": "#9ab8cc", "width": 1 if len(rows) > _WHOLE_BARS else 1.5}
    return points(x, y, None, mode="lines", line=line, opacity=0.35 if len(rows) > _MANY else 0.9, showlegend=False)


def _runs(target: Mapping[str, Any], level: float, *, small: bool) -> list[dict[str, Any]]:
    """The points, in two looks: inside their interval or not."""
    rows, decimals = target["left_out"], target["decimals"]
    size = 4 if len(rows) > _MANY else 5 if small else 7
    looks = {
        True: (f"inside its {percent(level, 0).text} interval", {"color": BLUE, "symbol": "circle", "size": size}),
        False: ("outside", {"color": VERMILLION, "symbol": "diamond", "size": size + 1}),
    }
    found = []
    for kind, (name, marker) in looks.items():
        part = [row for row in rows if (abs(row["measured"] - row["predicted"]) <= row["half"]) is kind]
        texts = [
            f"{label(row['run'], 60)}<br>measured {fixed(row['measured'], decimals).text}<br>predicted "
            f"{fixed(row['predicted'], decimals).text} ± {fixed(row['half'], decimals).text}"
            for row in part
        ]
        x, y = [row["measured"] for row in part], [row["predicted"] for row in part]
        found.append(points(x, y, texts, name=name, marker=marker, showlegend=not small))
    return found


# --- trade-offs -------------------------------------------------------------------------------------------------------


def front_figures(report: Mapping[str, Any]) -> tuple[Figure, ...]:
    """The deciding target against each other one of the front."""
    found = report["tradeoff"]
    return () if found is None else tuple(_front(report, found, place) for place in range(1, len(found["targets"])))


def _front(report: Mapping[str, Any], found: Mapping[str, Any], place: int) -> Figure:
    targets = {target["name"]: target for target in report["targets"]}
    across, up = targets[found["targets"][0]], targets[found["targets"][place]]

    def trace(rows: Sequence[tuple[str, float, float]], name: str, **look: Any) -> dict[str, Any]:
        texts = [
            f"{text}<br>{label(across['name'])} {fixed(x, across['decimals']).text}<br>{label(up['name'])} "
            f"{fixed(y, up['decimals']).text}"
            for text, x, y in rows
        ]
        return points([x for _, x, _ in rows], [y for _, _, y in rows], texts, name=name, **look)

    runs = [(label(run["run"], 60), run["scores"][0], run["scores"][place]) for run in found["all_measured"]]
    front = [(_heavy(each["weights"]), each["mean"][0], each["mean"][place]) for each in found["points"]]
    chosen = named(report, "recommended")["predictions"]
    star = [("recommended", chosen[across["name"]]["mean"], chosen[up["name"]]["mean"])]
    joined = {"mode": "lines+markers", "line": {"color": BLUE, "width": 1.5}} if len(found["targets"]) == 2 else {}
    return Figure(
        f"front-{place}",
        f"{across['name']} and {up['name']}",
        f"Better is {_better(across, 'to the right', 'to the left')} and {_better(up, 'up', 'down')}. Along the "
        "front, one "
        "target gains only at the other's cost.",
        [
            trace(runs, "measured runs", marker={"color": GREY, "size": 4 if len(runs) > _MANY else 6}),
            trace(front, "predicted front", marker={"color": BLUE, "size": 8, "symbol": "diamond"}, **joined),
            trace(star, "recommended (predicted)", marker=_star(ORANGE)),
        ],
        layout(400, xaxis=axis(label(across["name"])), yaxis=axis(label(up["name"]))),
        narrow={"font.size": 11},
    )


def _star(colour: str) -> dict[str, Any]:
    return {"color": colour, "size": 15, "symbol": "star", "line": {"color": INK, "width": 1}}


def _heavy(weights: Mapping[str, float]) -> str:
    largest = sorted(weights.items(), key=lambda pair: -pair[1])[:5]
    return "<br>".join(f"{label(arm)} {percent(weight, 0).text}" for arm, weight in largest if weight >= 0.005)


def _better(target: Mapping[str, Any], more: str, less: str) -> str:
    return less if target["lower"] else more


# --- noise ------------------------------------------------------------------------------------------------------------


def noise_figure(report: Mapping[str, Any]) -> Figure | None:
    """Replicates of each mixture around their mean; None where there are none."""
    target = deciding(report)
    groups = []
    for group in report["noise"]["replicates"]:
        scores = group["scores"][target["name"]]
        known = [(name, score) for name, score in zip(group["runs"], scores, strict=True) if score is not None]
        groups += [known] if len(known) > 1 else []
    if not groups:
        return None
    x, y, texts = [], [], []
    for place, known in enumerate(groups):
        mean = sum(score for _, score in known) / len(known)
        x += [score - mean for _, score in known]
        y += [place] * len(known)
        texts += [f"{label(name, 60)}: {fixed(score, target['decimals']).text}" for name, score in known]
    names = [" = ".join(name for name, _ in known) for known in groups]
    std = target["noise"]["std"] or 0.0
    band = {"type": "rect", "x0": -std, "x1": std, "y0": -0.5, "y1": len(groups) - 0.5, "layer": "below"}
    return Figure(
        "noise",
        "The same mixture, run again",
        "Each row is a mixture, each dot a run of it, by its distance from the mean of the row. The band is one "
        f"standard deviation of a run, {fixed(WIDTH * std, target['decimals']).text} to either side holds 90 %.",
        [
            points(
                x, y, texts, marker={"color": BLUE, "size": 9, "line": {"color": "#fff", "width": 1}}, showlegend=False
            )
        ],
        layout(
            90 + 26 * len(groups),
            shapes=[{**band, "fillcolor": "rgba(230,159,0,0.2)", "line": {"width": 0}}],
            xaxis=axis(f"{label(target['name'], 30)}, from the mean", zeroline=True, zerolinecolor=GREY, nticks=6),
            yaxis=names_axis(names, longest=30, range=[-0.6, len(groups) - 0.4]),
        ),
        narrow={"font.size": 11, "yaxis.ticktext": [label(name, 16) for name in names], "xaxis.nticks": 4},
    )
