"""Regret by number of runs as a figure, where matplotlib is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.mixtures.simulated import SIZES

if TYPE_CHECKING:
    from pathlib import Path

    from curri.types import Floats

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


def save(regrets: dict[tuple[str, float], Floats], path: Path) -> str:
    """Draw and save; a sentence that says what became of it."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return "No figure: matplotlib is not installed; the tables above hold the same numbers."
    mpl.rcParams["svg.hashsalt"] = "curri"
    noises = sorted({noise for _, noise in regrets})
    figure = Figure(figsize=(5.2 * len(noises), 4.2), layout="constrained")
    panels = figure.subplots(1, len(noises), sharey=True, squeeze=False)[0]
    for panel, noise in zip(panels, noises, strict=True):
        for (name, level), values in regrets.items():
            if level == noise and name in STYLES:
                _line(panel, name, 100.0 * values[:, :, 0])
        first = regrets["best", noise]
        sizes = SIZES[: len(first)]
        panel.plot(sizes, 100.0 * first[:, :, 2].mean(axis=1), "--", color="#555555", label="best score among the runs")
        panel.set(xscale="log", xlabel="runs", title=f"noise {noise:g} a run and task")
        panel.set_xticks(sizes, [str(n) for n in sizes])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set(ylabel="regret, points of success rate", ylim=(0, None))
    panels[-1].legend(fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return f"Figure: {path}"


def _line(panel: object, name: str, values: Floats) -> None:
    colour, marker = STYLES[name]
    sizes = np.array(SIZES[: len(values)])
    known = ~np.isnan(values).any(axis=1)
    means = values.mean(axis=1)
    errors = values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
    wide = name in {"best", "lightgbm"}
    panel.errorbar(  # type: ignore[attr-defined]
        sizes[known],
        means[known],
        errors[known] if wide else None,
        color=colour,
        marker=marker,
        lw=2 if wide else 1,
        label=name,
    )
