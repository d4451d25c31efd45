"""The page people read: one table and two figures, written from the stored results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from benchmarks.learning import settings
from benchmarks.learning.results import CONTROL, Row, by_arm, curves, gathered, rows, updated
from benchmarks.table import filled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.parquet"
OURS = "frontier"
POOL_TITLES = {"mixed": "mixed pool", "sparse": "sparse pool"}
# Okabe and Ito's colours, told apart by the colour-blind too.
COLOURS = {
    "frontier": "#0072B2",
    "uniform": "#000000",
    "ucb": "#D55E00",
    "vas": "#CC79A7",
    "pcl": "#E69F00",
    "reinforce-ada": "#009E73",
    "mopps": "#56B4E9",
    "greso": "#999999",
}


def write(runs: Path | None = None) -> None:
    """Store the points of finished runs, draw the figures, and fill the tables of the pages in."""
    if runs is not None and any(runs.glob("*.json")):
        updated(RESULTS, gathered(runs)).write_parquet(RESULTS)
    points = pl.read_parquet(RESULTS)
    main = [entry.name for entry in settings.MAIN]
    every = {pool: rows(points, pool) for pool in settings.POOLS}
    of_pool = {pool: found for pool, found in every.items() if found}
    draw(points, of_pool, main)
    body = []
    for pool, found in of_pool.items():
        body += [f"**{described(pool, found)}**", "", *table([row for row in found if row.entry in main]), ""]
    results = [*body, CAPTION]
    for page in (HERE.parent / "README.md", HERE.parent.parent / "README.md"):
        short = filled(page.read_text(encoding="utf-8"), "learning", short_table(of_pool, main))
        page.write_text(short, encoding="utf-8")
    page = HERE / "README.md"
    text = page.read_text(encoding="utf-8")
    text = filled(text, "results", results)
    text = filled(text, "findings", findings(of_pool, main))
    text = filled(text, "arms", arm_tables(points, of_pool, main))
    page.write_text(text, encoding="utf-8")


CAPTION = (
    "*Tokens to the accuracy that `uniform` has after 50, 75 and 100 % of its tokens*, as a ratio to `uniform`'s own "
    "with the same seed: mean of five seeds, 95 % interval by bootstrap over them. Where a seed never gets there it "
    "counts with all its tokens, so the figure is a lower bound (≥). *accuracy*: held-out, at the end of the tokens, "
    "and the difference to `uniform` with its interval. *signal*: groups that were trained on and had any. *probes*: "
    "share of the tokens. *min*: of one run on one core."
)


def described(pool: str, found: Sequence[Row]) -> str:
    """A pool in a line."""
    of = settings.POOLS[pool]
    live = next((row.live for row in found if row.entry == CONTROL), float("nan"))
    return (
        f"{POOL_TITLES[pool].capitalize()}: {sum(of.arms.values())} prompts in {len(of.arms)} arms, "
        f"{of.budget:,} tokens; "
        f"{live:.0%} of `uniform`'s groups carry signal"
    )


def findings(of_pool: dict[str, list[Row]], main: Sequence[str]) -> list[str]:
    """A table for each pool in which any was run, and a line on every entry in them."""
    lines, shown = [], set()
    for pool, found in of_pool.items():
        extra = [row for row in found if row.entry not in main]
        shown |= {row.entry for row in extra}
        if extra:
            lines += [f"{POOL_TITLES[pool].capitalize()}:", "", *table(extra), ""]
    notes = [f"- `{entry.name}`: {entry.note}." for entry in settings.FINDINGS if entry.note and entry.name in shown]
    return [*lines, *notes]


HEADS = ("strategy", "to 50 %", "to 75 %", "to 100 %", "accuracy", "against `uniform`", "signal", "probes", "min")


def table(found: Iterable[Row]) -> list[str]:
    """Rows as Markdown."""
    lines = ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    for row in found:
        name = f"**`{row.entry}`**" if row.entry == OURS else f"`{row.entry}`"
        gain = "—" if row.entry == CONTROL else "{:+.3f} ({:+.3f} to {:+.3f})".format(*row.gain)
        reached = ["1" if row.entry == CONTROL else str(each) for each in row.reached]
        cells = [name, *reached, f"{row.final.mean():.3f} ± {row.final.std(ddof=1):.3f}", gain]
        cells += [f"{row.live:.0%}", f"{row.probes:.0%}" if row.probes else "", f"{row.minutes:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def short_table(of_pool: dict[str, list[Row]], main: Sequence[str]) -> list[str]:
    """Both pools side by side: tokens to three quarters, and accuracy against ``uniform``."""
    pools = list(of_pool)
    heads = ["strategy"] + [f"{POOL_TITLES[pool]}: {what}" for pool in pools for what in ("tokens", "accuracy")]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    of = {pool: {row.entry: row for row in found} for pool, found in of_pool.items()}
    for name in main:
        cells = [f"**`{name}`**" if name == OURS else f"`{name}`"]
        for pool in pools:
            row = of[pool].get(name)
            if row is None:
                cells += ["", ""]
            elif name == CONTROL:
                cells += ["1", f"{row.final.mean():.3f}"]
            else:
                cells += [str(row.reached[1]), "{:+.3f} ({:+.3f} to {:+.3f})".format(*row.gain)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def arm_tables(points: pl.DataFrame, of_pool: dict[str, list[Row]], main: Sequence[str]) -> list[str]:
    """Accuracy per arm at the end."""
    lines: list[str] = []
    for pool, found in of_pool.items():
        names = [row.entry for row in found if row.entry in main]
        if not names:
            continue
        of = {name: by_arm(points, name, pool) for name in names}
        start = _start(points, pool)
        lines += [f"{POOL_TITLES[pool].capitalize()}:", ""]
        lines += ["| arm | warm start | " + " | ".join(f"`{name}`" for name in names) + " |"]
        lines += ["|---|" + "---|" * (len(names) + 1)]
        for arm in settings.POOLS[pool].arms:
            cells = [f"{start[arm]:.2f}", *(f"{of[name][arm]:.2f}" for name in names)]
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def _start(points: pl.DataFrame, pool: str) -> dict[str, float]:
    first = points.filter(
        (pl.col("entry") == CONTROL)
        & (pl.col("pool") == pool)
        & (pl.col("point") == 0)
        & pl.col("seed").is_in(list(settings.REPORTED))
    )
    flat = first.explode("arms").unnest("arms", separator="_")
    return dict(flat.group_by("arms_arm").agg(pl.col("arms_accuracy").mean()).iter_rows())


# ---- figures -----------------------------------------------------------------------------------------------------


def draw(points: pl.DataFrame, of_pool: dict[str, list[Row]], main: Sequence[str]) -> None:
    """Both figures, as SVG."""
    import matplotlib as mpl

    mpl.rcParams["svg.hashsalt"] = "curri"
    mpl.rcParams["svg.fonttype"] = "none"
    _curves(points, of_pool, main).savefig(HERE / "accuracy.svg", metadata={"Date": None})
    _ratios(of_pool, main).savefig(HERE / "tokens.svg", metadata={"Date": None})


def _curves(points: pl.DataFrame, of_pool: dict[str, list[Row]], main: Sequence[str]) -> Any:
    """Held-out accuracy against tokens: mean and the range of the seeds' standard error."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(of_pool), squeeze=False)[0]
    for panel, (pool, found) in zip(panels, of_pool.items(), strict=True):
        budget = settings.POOLS[pool].budget
        at = np.linspace(0, budget, 41)
        names = [row.entry for row in found if row.entry in main]
        for name in sorted(names, key=lambda name: name in (OURS, CONTROL)):
            every = curves(points, name, pool, settings.REPORTED).values()
            values = np.array([[curve.at(x) for x in at] for curve in every])
            mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / len(values) ** 0.5
            wide = name in (OURS, CONTROL)
            panel.plot(at / 1000, mean, color=COLOURS[name], lw=2.4 if wide else 1.3, label=name)
            panel.fill_between(
                at / 1000, mean - error, mean + error, color=COLOURS[name], alpha=0.18 if wide else 0.08, lw=0
            )
        panel.set(xlabel="generated tokens, thousands", title=POOL_TITLES[pool])
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set(ylabel="accuracy on held-out problems")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right center", fontsize=9, frameon=False)
    return figure


def _ratios(of_pool: dict[str, list[Row]], main: Sequence[str]) -> Any:
    """Tokens to the accuracy of three quarters of ``uniform``'s tokens, as a ratio to it, with intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.8), layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(of_pool), squeeze=False, sharey=True)[0]
    names = [name for name in main if name != CONTROL][::-1]
    for panel, (pool, found) in zip(panels, of_pool.items(), strict=True):
        of = {row.entry: row for row in found}
        for place, name in enumerate(names):
            if name not in of:
                continue
            reached = of[name].reached[1]
            ends = [[reached.ratio - reached.low], [reached.high - reached.ratio]]
            style = {"color": COLOURS[name], "marker": ">" if reached.censored else "o", "capsize": 3}
            panel.errorbar([reached.ratio], [place], xerr=ends, ms=7, lw=1.8, **style)
            note = f", {reached.seeds - reached.censored} of {reached.seeds} get there" if reached.censored else ""
            said, at = f"{'≥ ' if reached.censored else ''}{reached.ratio:.2f}{note}", (reached.ratio, place)
            panel.annotate(said, at, xytext=(-8, 7), textcoords="offset points", fontsize=8)
        panel.axvline(1.0, color="#000000", lw=1)
        panel.set(title=POOL_TITLES[pool], xlabel="tokens to what uniform has after 75 % of its tokens, ÷ uniform's")
        panel.set_xlim(0.75, 1.6)
        panel.set_ylim(-0.6, len(names) - 0.2)
        panel.set_yticks(range(len(names)), names)
        panel.grid(alpha=0.3, axis="x")
        panel.spines[["top", "right"]].set_visible(False)
    return figure
