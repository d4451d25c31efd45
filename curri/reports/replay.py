"""A replay of strategies on a record: its words, tables and figures, the same for the page and for Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curri.reports.blocks import Bullets, Cell, Fact, Figure, Page, Section, Table, Text, fixed, percent
from curri.reports.documents import fingerprint
from curri.reports.plots import BLUE, GREEN, GREY, INK, ORANGE, SKY, VERMILLION, axis, label, layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from curri.reports.blocks import Block

__all__ = ["HEADINGS", "replay_page", "replay_report", "strategy_cells"]

HEADINGS = (
    "strategy",
    "live",
    "±",
    "of bound",
    "trained",
    "cost",
    "top tenth",
    "< 3 visits",
    "excess",
    "first quarter",
)
"""Of the table of strategies."""
LINES = 6
"""Strategies that are drawn as curves."""
_WIDTH, _HEIGHT, _LETTER = 900.0, 420.0, 6.2
"""Pixels of the first figure, and of a letter in it, more or less."""
_LOOKS = (
    (BLUE, "solid"),
    (VERMILLION, "dash"),
    (GREEN, "dot"),
    (ORANGE, "dashdot"),
    (SKY, "longdash"),
    (INK, "longdashdot"),
)
_NOTE = (
    "“Live” is the number of trained groups with both right and wrong answers, over the rollouts that were "
    "generated in units of a group; probes, top-ups and dropped groups count. “±” is the standard error over "
    "seeds; “of bound” the ratio to the best that full knowledge could do with as much coverage; “trained” the "
    "live share of the groups trained on; “cost” the rollouts generated, as a multiple of the plain batch; “top "
    "tenth” the share of visits that the tenth of the prompts with the most visits had; “excess” the mean squared "
    "error of foretold pass rates on its own picks, first ones left out; “first quarter” the live share of first "
    "groups among the quarter of the prompts met first."
)


def replay_report(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its headline, what to read first, and a fingerprint."""
    data = {"data": document["data"]["fingerprint"], "settings": document["settings"], "curri": document["curri"]}
    return {"headline": _headline(document), "lead": _lead(document), **document, "fingerprint": fingerprint(data)}


def _headline(document: Mapping[str, Any]) -> str:
    rows = document["strategies"]
    keeping = [row for row in rows if row["keeps_coverage"]]
    best, wanted = rows[0], document["bounds"]["wanted"]
    if not keeping:
        return f"{best['label']} has the most groups with signal, {_share(best)}; none keeps to the coverage."
    first = keeping[0]
    bound = "" if wanted["live"] is None else f" (bound {wanted['live']:.2f})"
    return (
        f"With every prompt visited and at most {wanted['top']:.0%} of visits on a tenth of them, {first['label']} has "
        f"the most groups with signal: {_share(first)}{bound}."
    )


def _share(row: Mapping[str, Any]) -> str:
    return f"{row['live']['mean']:.2f} of what it generates"


def _lead(document: Mapping[str, Any]) -> list[str]:
    data, settings = document["data"], document["settings"]
    what = (
        f"Replay of {data['source']}: {data['prompts']:,} prompts with {data['visits']:,} recorded visits, "
        f"{settings['steps']:,} steps of {settings['batch']:,} prompts with {settings['group_size']} rollouts each, "
        f"{settings['seeds']} seed{'' if settings['seeds'] == 1 else 's'} with the same luck for every strategy."
    )
    limits = (
        "The recorded policy does not react to what is picked. A replay shows how well a strategy finds groups with "
        "signal, what it pays, whom it never looks at and how well it foretells, and nothing about learning."
    )
    return [what, limits]


def strategy_cells(row: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Cell]:
    """A strategy's row of the table, as under :data:`HEADINGS`."""
    plain = settings["steps"] * settings["batch"] * settings["group_size"]
    return [
        Cell(row["label"]),
        fixed(row["live"]["mean"], 3),
        fixed(row["live"]["se"], 4),
        fixed(row["of_bound"], 3),
        fixed(row["trained_live"]["mean"], 3),
        fixed(row["rollouts"]["mean"] / plain, 2),
        percent(row["top"]["mean"], 0),
        fixed(row["below_3"]["mean"], 0),
        fixed(row["excess"]["mean"], 4),
        fixed(row["first_quarter"]["mean"], 2),
    ]


# --- the page ---------------------------------------------------------------------------------------------------------


def replay_page(report: Mapping[str, Any]) -> Page:
    """All of a report, in the order of reading."""
    parts = [
        ("strategies", "Which strategy finds signal, at what price", _strategies),
        ("course", "Over the run", _course),
        ("foretold", "How well pass rates are foretold", _foretold),
        ("contact", "First contact", _contact),
        ("appendix", "Protocol and data", _appendix),
    ]
    sections = [Section(name, title, tuple(blocks(report))) for name, title, blocks in parts]
    return Page(
        title=f"Replay: {report['data']['source']}",
        kind="Replay",
        headline=report["headline"],
        lead=tuple(report["lead"]),
        facts=tuple(_facts(report)),
        sections=tuple(section for section in sections if section.blocks),
        footer=f"curri {report['curri']} · fingerprint {report['fingerprint'][:16]}",
    )


def _facts(report: Mapping[str, Any]) -> Iterator[Fact]:
    data, bounds = report["data"], report["bounds"]
    yield Fact("Prompts", f"{data['prompts']:,}", f"{data['left_out']:,} left out with too few visits")
    yield Fact("Live by chance", f"{data['live_chance']:.2f}", "mean over prompts and steps")
    yield Fact("Full knowledge", f"{bounds['free']:.3f}", "without any coverage")
    wanted = bounds["wanted"]
    if wanted["live"] is not None:
        yield Fact(
            "With coverage",
            f"{wanted['live']:.3f}",
            f"≥ {wanted['least']} visits each, ≤ {wanted['top']:.0%} on a tenth",
        )


def _strategies(report: Mapping[str, Any]) -> Iterator[Block]:
    rows = report["strategies"]
    if report["bounds"]["note"]:
        yield Text(report["bounds"]["note"] + ".", warning=True)
    if rows:
        yield _coverage_figure(report)
        cells = [strategy_cells(row, report["settings"]) for row in rows]
        marked = next((place for place, row in enumerate(rows) if row["keeps_coverage"]), None)
        yield Table("Strategies", HEADINGS, cells, _NOTE, marked=marked)
    if report["left_out"]:
        yield Text("Left out:")
        yield Bullets(tuple(f"{name}: it {why}." for name, why in report["left_out"].items()))


def _coverage_figure(report: Mapping[str, Any]) -> Figure:
    rows, bounds = report["strategies"], report["bounds"]
    traces = [
        _front([each for each in bounds["front"] if each["least"] == least], name, dash)
        for least, name, dash in ((3, "bound, ≥ 3 visits each", "solid"), (0, "bound", "dot"))
    ]
    wide = min(1.0, max([row["top"]["mean"] for row in rows] + [0.5]) + 0.1)
    low = max(0.0, min(row["live"]["mean"] for row in rows) - 0.1)
    sides = dict(zip([row["label"] for row in rows], _sides(rows, low, wide), strict=True))
    for kept, name, colour, symbol in (
        (True, "keeps to the coverage", BLUE, "circle"),
        (False, "does not", VERMILLION, "square"),
    ):
        mine = [row for row in rows if row["keeps_coverage"] == kept]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": name,
                "x": [row["top"]["mean"] for row in mine],
                "y": [row["live"]["mean"] for row in mine],
                "error_y": {"type": "data", "array": [2.0 * (row["live"]["se"] or 0.0) for row in mine], "width": 3},
                "text": [label(row["label"]) for row in mine],
                "textposition": [sides[row["label"]] for row in mine],
                "textfont": {"size": 11},
                "marker": {"color": colour, "symbol": symbol, "size": 9},
                "hovertemplate": "%{text}: live %{y:.3f}, top tenth %{x:.0%}<extra></extra>",
            }
        )
    return Figure(
        "coverage",
        "Groups with signal against coverage",
        "Live groups for what was generated, against the share of visits on the tenth of the prompts with the most of "
        "them (± 2 standard errors). Up is better, left is fairer. The vertical line is the wanted limit.",
        traces,
        layout(
            460,
            xaxis=axis("share of visits on the top tenth", tickformat=".0%", range=[0.0, wide]),
            yaxis=axis("live share", range=[low, 1.03]),
            shapes=[_limit(bounds["wanted"]["top"])],
        ),
    )


def _front(points: Sequence[Mapping[str, Any]], name: str, dash: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [each["top"] for each in points],
        "y": [each["live"] for each in points],
        "line": {"color": GREY, "dash": dash, "width": 2},
        "hovertemplate": "bound %{y:.3f} at %{x:.0%}<extra></extra>",
    }


def _limit(top: float) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": top,
        "x1": top,
        "y0": 0.0,
        "y1": 1.0,
        "yref": "paper",
        "line": {"color": GREY, "width": 1, "dash": "dash"},
    }


def _sides(rows: Sequence[Mapping[str, Any]], low: float, wide: float) -> list[str]:
    """Where each point's name goes: the first side on which it covers no other name and no point, by rough sizes."""
    points = [(row["top"]["mean"] / wide * _WIDTH, (row["live"]["mean"] - low) * _HEIGHT) for row in rows]
    taken = [(x - 6, x + 6, y - 6, y + 6) for x, y in points]
    found = []
    for (x, y), row in zip(points, rows, strict=True):
        length = _LETTER * len(label(row["label"]))
        boxes = {
            "middle right": (x + 8, x + 8 + length, y - 7, y + 7),
            "middle left": (x - 8 - length, x - 8, y - 7, y + 7),
            "top center": (x - length / 2, x + length / 2, y + 7, y + 21),
            "bottom center": (x - length / 2, x + length / 2, y - 21, y - 7),
        }
        side = min(boxes, key=lambda each: _covered(boxes[each], taken))
        taken.append(boxes[side])
        found.append(side)
    return found


def _covered(box: tuple[float, ...], taken: Sequence[tuple[float, ...]]) -> float:
    """The area of a box that others cover."""
    return sum(
        max(0.0, min(box[1], other[1]) - max(box[0], other[0]))
        * max(0.0, min(box[3], other[3]) - max(box[2], other[2]))
        for other in taken
    )


def _course(report: Mapping[str, Any]) -> Iterator[Block]:
    rows = report["strategies"]
    if not rows:
        return
    first = [row for row in rows if row["keeps_coverage"]][:1]
    wanted = [*first, *(row for row in rows if row["label"] == "uniform"), *rows]
    chosen = list(dict.fromkeys(row["label"] for row in wanted))[:LINES]
    shown = [row for row in rows if row["label"] in chosen]
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": label(row["label"]),
            "x": [each["step"] for each in row["course"]],
            "y": [each["live"] for each in row["course"]],
            "line": {"color": colour, "dash": dash, "width": 2},
        }
        for row, (colour, dash) in zip(shown, _LOOKS, strict=False)
    ]
    rest = f" {len(shown)} of {len(rows)} strategies." if len(rows) > len(shown) else ""
    yield Figure(
        "course",
        "Live share over the steps",
        "Live groups for what was generated, mean over seeds." + rest,
        traces,
        layout(380, xaxis=axis("step", rangemode="tozero"), yaxis=axis("live share", range=[0.0, 1.05])),
    )


def _foretold(report: Mapping[str, Any]) -> Iterator[Block]:
    rows = sorted(report["foretold"], key=lambda each: each["mean"] if each["mean"] is not None else 9.0)
    if not rows:
        return
    cells = [[each["name"], fixed(each["mean"], 5), fixed(each["se"], 5), each["visits"]] for each in rows]
    yield Table(
        "Excess error on the recorded visits, one visit ahead",
        ("rule", "excess", "±", "visits"),
        cells,
        "Mean squared error of the foretold pass rate over the binomial floor, each visit foretold from those "
        "before it, first visits left out; ± is the standard error, prompts being what was drawn. “Discount” keeps "
        "a Beta posterior that starts from Beta(.35, .71) and fades by a fixed factor at every visit.",
    )


def _contact(report: Mapping[str, Any]) -> Iterator[Block]:
    found = report["first_contact"]
    if found is None:
        return
    rows = [
        ["all prompts", fixed(found["base"], 3), None],
        [
            "best quarter by the imported rate as it is (nearest to one half)",
            fixed(found["raw"], 3),
            fixed(found["raw_sd"], 3),
        ],
        ["best quarter after calibration", fixed(found["calibrated"], 3), fixed(found["calibrated_sd"], 3)],
        ["best quarter of neighbours by the imported rate, in hindsight", fixed(found["hindsight"], 3), None],
        ["best quarter by the smoothed curves, which have seen these groups", fixed(found["known"], 3), None],
    ]
    yield Table(
        "Live share of recorded first groups",
        ("prompts", "live", "± of a split"),
        rows,
        f"{found['prompts']:,} prompts with a pass rate of another model; the calibration is learned on one half of "
        f"them and judged on the other, {found['splits']} splits.",
    )


def _appendix(report: Mapping[str, Any]) -> Iterator[Block]:
    data, settings = report["data"], report["settings"]
    curves = (
        f"Pass rates are a moving average over {settings['window']} visits, placed by {data['by']}, with straight "
        f"lines in between; {data['flat']:.0%} of the smoothed points are exactly 0 or 1, which hides how far out "
        "they are."
    )
    bound = (
        "The bound is a linear programme over how often each prompt is picked in each of up to 100 blocks of "
        "steps, with every pass rate known. It is about groups of the set size: it does not hold for a strategy "
        "that gives prompts fewer or more rollouts."
    )
    fresh = "Every pick draws a fresh group from the curve; recorded groups are never handed back."
    luck = "Whether a response is right depends on seed, step, prompt and its number alone."
    yield Bullets((curves, fresh, luck, bound))
    rows = [[name, str(value)] for name, value in [*data.items(), *settings.items()] if name != "parameters"]
    rows += [
        [f"{name} {key}", str(value)] for name, each in settings["parameters"].items() for key, value in each.items()
    ]
    yield Table("Data and settings", ("what", "value"), rows, folded=True)
