"""Regret by number of runs as a figure, where matplotlib is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.mixtures.simulated import MAIN, spread

if TYPE_CHECKING:
    from pathlib import Path

# Okabe and Ito's colours, told apart by the colour-blind too, each with a marker of its own.
STYLES = {
    "best": ("#0072B2", "o"),
    "lightgbm": ("#D55E00", "s"),
    "gp": ("#56B4E9", "^"),
    "gp-ard": ("#009E73", "v"),
    "loglinear": ("#CC79A7", "D"),
    "linear": ("#999999", "x"),
    "quadratic": ("#E69F00", "P"),
    "exponential": ("#000000", "*"),
}
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5)


def save(result: dict[str, Any], path: Path) -> str:
    """Draw and save; a sentence that says what became of it."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return "No figure: matplotlib is not installed; the tables hold the same numbers."
    mpl.rcParams["svg.hashsalt"] = "curri"
    mpl.rcParams["svg.fonttype"] = "none"
    noises = result["noises"]
    figure = Figure(figsize=(2.2 + 4.2 * len(noises), 4.4), layout="constrained")
    panels = figure.subplots(1, len(noises), sharey=True, squeeze=False)[0]
    sizes = result["sizes"]
    for panel, (noise, part) in zip(panels, noises.items(), strict=True):
        _line(panel, sizes, part["measured"], color="#555555", ls="--", lw=1.5, label="best score among the runs")
        _line(panel, sizes, part["paper"], color="#555555", ls=":", lw=1.5, label="the paper's Algorithm 4")
        for name, found in reversed(part["surrogates"].items()):
            if name not in STYLES:
                continue
            colour, marker = STYLES[name]
            wide = {"lw": 2.5, "ms": 7} if name in MAIN else {"lw": 1, "ms": 5, "alpha": 0.8}
            _line(panel, sizes, found["guarded"], color=colour, marker=marker, bars=name in MAIN, label=name, **wide)
        default = part["surrogates"][MAIN[0]]["predicted"]
        colour = STYLES[MAIN[0]][0]
        _line(
            panel, sizes, default, color=colour, marker="o", mfc="white", lw=1.5, label=f"{MAIN[0]}, without the guard"
        )
        panel.set(xscale="log", yscale="log", xlabel="runs", title=f"noise {noise} a run and task")
        panel.set_xticks(sizes, [str(n) for n in sizes])
        panel.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set(ylabel="regret, points of success rate")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right center", fontsize=9, frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    return f"Figure: {path}"


def _line(panel: Any, sizes: list[int], rows: list[list[float] | None], *, bars: bool = False, **style: Any) -> None:
    """Means by number of runs, with standard errors; nothing where there were too few runs."""
    known = [(size, *spread(row)) for size, row in zip(sizes, rows, strict=True) if row is not None]
    if not known:
        return
    x, means, errors = np.array(known).T
    panel.errorbar(x, means, errors if bars else None, capsize=2 if bars else 0, **style)
