"""What the benchmark is held to on RegMix's split: the figures of the best surrogate known when it was written."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from benchmarks.mixtures.regmix import ONE, median, over
from benchmarks.mixtures.tables import Shown

DEFAULT, FULL, FEW = "best", "official", "54"


class Goal(NamedTuple):
    """A figure with its bound."""

    what: str
    sign: str
    bound: float
    measured: float

    @property
    def holds(self) -> bool:
        return self.measured >= self.bound if self.sign == "≥" else self.measured <= self.bound


def goals(result: dict[str, Any]) -> list[Goal]:
    """Each with what was measured; without RegMix none."""
    if result["regmix"] is None:
        return []
    full, few = result["regmix"]["official"][DEFAULT], result["regmix"]["few"][DEFAULT][FEW]
    found = [
        Goal("512 rows, 13 losses: median Spearman", "≥", 0.996, median(full, "spearman")),
        Goal("512 rows, 13 losses: median R²", "≥", 0.988, median(full, "r2")),
        Goal("512 rows, 13 losses: mean MSE", "≤", 0.0088, float(np.mean(over(full, "mse")))),
        Goal("512 rows, mean of the 13 losses: R²", "≥", 0.98, full["mean"]["r2"]),
        Goal("54 rows, Pile-CC: Spearman", "≥", 0.975, few["losses"][ONE]["spearman"]),
        Goal("54 rows, Pile-CC: R²", "≥", 0.945, few["losses"][ONE]["r2"]),
        Goal("54 rows, mean of the 13 losses: R²", "≥", 0.93, few["mean"]["r2"]),
    ]
    search = result["regmix"]["search"]
    return [
        *found,
        *([Goal("fit and optimise all 13 losses, CPU s", "≤", 300, search["cpu_seconds"])] if search else []),
    ]


def shown(result: dict[str, Any]) -> list[Shown]:
    """As a table."""
    rows = [
        [goal.what, f"{goal.sign} {goal.bound:g}", f"{goal.measured:.4g}", "holds" if goal.holds else "MISSED"]
        for goal in goals(result)
    ]
    return [Shown("What the default is held to", ["figure", "bound", "measured", ""], rows)] if rows else []
