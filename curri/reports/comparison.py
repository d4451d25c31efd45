"""Strategies on a simulated learner: the words, the table and the figure, the same for the page and for Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curri.reports.blocks import Bullets, Cell, Fact, Figure, Page, Section, Table, Text, fixed, percent
from curri.reports.documents import fingerprint
from curri.reports.plots import BLUE, GREEN, INK, ORANGE, SKY, VERMILLION, axis, label, layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from curri.reports.blocks import Block

__all__ = ["HEADINGS", "LIMITS", "comparison_cells", "comparison_page", "comparison_report"]

HEADINGS = ("strategy", "learned", "±", "to uniform", "95 % interval", "ratio", "to target", "live", "probes")
LIMITS = (
    "A simulation: the learner grows with the advantage mass of what it is trained on, which is the very quantity most "
    "strategies chase. It shows that a strategy does what it says, and is no evidence about language models."
)
LINES = 6
_NOTE = (
    "“Learned” is the increase of the mean pass rate over the whole pool, in points, for the same number of generated "
    "rollouts, probes and dropped groups included; ± its standard error over seeds; “to uniform” the paired difference "
    "with its interval by Student's t; “to target” the median share of the rollouts after which it is where uniform "
    "ends; “live” the share of the trained groups with both right and wrong answers; “probes” the share of "
    "the rollouts that were probes."
)
_LOOKS = (
    (BLUE, "solid"),
    (VERMILLION, "dash"),
    (GREEN, "dot"),
    (ORANGE, "dashdot"),
    (SKY, "longdash"),
    (INK, "longdashdot"),
)


def comparison_report(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its headline, what to read first, and a fingerprint."""
    settings = document["settings"]
    rows = document["strategies"]
    best = rows[0]
    headline = (
        f"On the simulated learner {best['strategy']} learns most: {100.0 * best['learned']['mean']:.1f} points of "
        f"pass rate for {settings['steps'] * settings['batch'] * settings['group_size']:,} rollouts."
    )
    found = fingerprint({"settings": settings, "curri": document["curri"]})
    return {"headline": headline, "lead": [LIMITS], **document, "fingerprint": found}


def comparison_cells(row: Mapping[str, Any]) -> list[Cell]:
    """A strategy's row of the table, as under :data:`HEADINGS`."""
    interval = row["difference"]["interval"]
    span = "–" if interval is None else " to ".join(fixed(100.0 * each, 2, sign=True).text for each in interval)
    plain = row["difference"]["interval"] is None and row["difference"]["mean"] == 0.0
    error = row["learned"]["se"]
    return [
        Cell(row["strategy"]),
        fixed(100.0 * row["learned"]["mean"], 2),
        fixed(None if error is None else 100.0 * error, 2),
        Cell("–") if plain else fixed(100.0 * row["difference"]["mean"], 2, sign=True),
        Cell(span),
        fixed(row["ratio"], 2),
        Cell("not reached") if row["to_target"] is None else fixed(row["to_target"], 2),
        fixed(row["live"]["mean"], 2),
        percent(row["probed"], 0),
    ]


def comparison_page(report: Mapping[str, Any]) -> Page:
    """All of a report, in the order of reading."""
    settings = report["settings"]
    facts = (
        Fact("Prompts", f"{settings['prompts']:,}"),
        Fact("Rollouts", f"{settings['steps'] * settings['batch'] * settings['group_size']:,}", "of each run"),
        Fact("Seeds", f"{settings['seeds']}", "the same pools and luck for all"),
    )
    return Page(
        title="Strategies on a simulated learner",
        kind="Simulation",
        headline=report["headline"],
        lead=tuple(report["lead"]),
        facts=facts,
        sections=(
            Section("strategies", "What is learned for the same rollouts", tuple(_strategies(report))),
            Section("appendix", "Settings", tuple(_appendix(report))),
        ),
        footer=f"curri {report['curri']} · fingerprint {report['fingerprint'][:16]}",
    )


def _strategies(report: Mapping[str, Any]) -> Iterator[Block]:
    rows = report["strategies"]
    yield _figure(rows)
    yield Table("Strategies", HEADINGS, [comparison_cells(row) for row in rows], _NOTE)
    if report["left_out"]:
        yield Text("Left out:")
        yield Bullets(tuple(f"{name}: it {why}." for name, why in report["left_out"].items()))


def _figure(rows: list[Any]) -> Figure:
    names = list(dict.fromkeys(["uniform", *(row["strategy"] for row in rows)]))[:LINES]
    shown = [row for row in rows if row["strategy"] in names]
    traces: list[dict[str, Any]] = []
    for row, (colour, dash) in zip(shown, _LOOKS, strict=False):
        x = [each["rollouts"] for each in row["course"]]
        y = [each["learned"] for each in row["course"]]
        half = [2.0 * (each["se"] or 0.0) for each in row["course"]]
        traces.extend(
            (
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": [*x, *x[::-1]],
                    "y": [*(b + h for b, h in zip(y, half, strict=True)),
                          *(b - h for b, h in zip(y[::-1], half[::-1], strict=True))],
                    "fill": "toself",
                    "fillcolor": colour,
                    "opacity": 0.15,
                    "line": {"width": 0},
                    "hoverinfo": "skip",
                    "showlegend": False,
                },
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": label(row["strategy"]),
                    "x": x,
                    "y": y,
                    "line": {"color": colour, "dash": dash, "width": 2},
                },
            )
        )  # fmt: skip
    rest = f" {len(shown)} of {len(rows)} strategies." if len(rows) > len(shown) else ""
    return Figure(
        "course",
        "What is learned against generated rollouts",
        "Increase of the mean pass rate since the start; mean over seeds ± 2 standard errors." + rest,
        traces,
        layout(420, xaxis=axis("rollouts generated", rangemode="tozero"), yaxis=axis("increase of the pass rate")),
    )


def _appendix(report: Mapping[str, Any]) -> Iterator[Block]:
    settings = report["settings"]
    rows = [[name, str(value)] for name, value in settings.items() if name not in ("parameters", "learner")]
    rows += [[f"learner: {name}", str(value)] for name, value in settings["learner"].items()]
    rows += [
        [f"{name} {key}", str(value)] for name, each in settings["parameters"].items() for key, value in each.items()
    ]
    yield Table("Settings", ("what", "value"), rows, folded=True)
