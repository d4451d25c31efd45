"""The table of gains as a picture: learning relative to ``uniform``, per rollout and per training round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

mpl.use("svg")

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from curri.simulation.gain import Gain

PER_ROLLOUT, PER_ROUND = "#0072b2", "#999999"


def draw(gains: Sequence[Gain], path: Path) -> None:
    """Write the picture, best strategy first; the control is left out."""
    shown = sorted((gain for gain in gains if gain.claim.strategy != "uniform"), key=lambda gain: gain.ratio)
    mpl.rcParams["svg.hashsalt"] = "curri"  # the same picture for the same figures
    mpl.rcParams["svg.fonttype"] = "none"
    figure, axes = plt.subplots(figsize=(8.0, 0.36 * len(shown) + 1.2), layout="constrained")
    places = np.arange(len(shown))
    base = np.array([gain.uniform.mean() for gain in shown])
    ratio = np.array([gain.ratio for gain in shown])
    ends = np.array([gain.interval for gain in shown]) / base[:, None] + 1.0
    axes.axvline(1.0, color="black", linewidth=1)
    axes.hlines(places, *ends.T, color=PER_ROLLOUT, linewidth=3)
    axes.plot(ratio, places, "o", color=PER_ROLLOUT, label="for as many generated rollouts (95 % interval)")
    per_round = [gain.per_round for gain in shown]
    axes.plot(per_round, places, "D", color=PER_ROUND, fillstyle="none", label="for as many training rounds")
    axes.set_yticks(places, [gain.claim.name for gain in shown])
    axes.set_xscale("log")
    ticks = [0.5, 0.75, 1.0, 1.5, 2.0, 2.5]
    axes.set_xticks(ticks, [f"{tick:g} ×" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("learning : that of uniform, simulated learner, one pool for each strategy")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
