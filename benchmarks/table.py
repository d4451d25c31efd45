"""What the benchmarks share: timing, and one table of ratios."""

from __future__ import annotations

import gc
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True)
class Row:
    """One measured ratio.

    Attributes:
        benchmark: its folder.
        case: what was measured.
        ours_ms: our times, one a repetition.
        base_ms: times of what it is compared with, in the same run.
        budget: such as "≤ 2.5" or "≥ 8", or "" where nothing is promised.
        inverse: whether the ratio is base / ours ("times faster") and not ours / base.
    """

    benchmark: str
    case: str
    ours_ms: Sequence[float]
    base_ms: Sequence[float]
    budget: str = ""
    inverse: bool = False

    @property
    def ratio(self) -> float:
        """Ratio of the medians."""
        ratio = float(np.median(self.ours_ms) / np.median(self.base_ms))
        return 1 / ratio if self.inverse else ratio

    @property
    def spread(self) -> tuple[float, float]:
        """Quartiles of the ratios of the single repetitions."""
        ratios = np.asarray(self.ours_ms) / np.asarray(self.base_ms)
        low, high = np.quantile(1 / ratios if self.inverse else ratios, [0.25, 0.75])
        return float(low), float(high)

    @property
    def holds(self) -> bool:
        """Whether the budget is kept."""
        if not self.budget:
            return True
        sign, limit = self.budget.split()
        return self.ratio <= float(limit) if sign == "≤" else self.ratio >= float(limit)

    def cells(self) -> list[str]:
        """One line of the table."""
        low, high = self.spread
        verdict = "" if not self.budget else ("holds" if self.holds else "FAILS")
        times = [f"{np.median(times):.2f}" for times in (self.ours_ms, self.base_ms)]
        return [
            self.benchmark,
            self.case,
            *times,
            f"{self.ratio:.2f}",
            f"{low:.2f} to {high:.2f}",
            self.budget,
            verdict,
        ]


def render(rows: Sequence[Row]) -> str:
    """All rows as aligned text."""
    heads = ["benchmark", "case", "ours, ms", "base, ms", "ratio", "quartiles", "budget", ""]
    lines = [heads, *[row.cells() for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def timed(action: Callable[[], object]) -> float:
    """Milliseconds one call takes."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1e3


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection inside."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def filled(text: str, name: str, lines: Sequence[str]) -> str:
    """A page with what stands between its marks ``<!-- name -->`` and ``<!-- end of name -->`` written anew."""
    body = "\n".join(lines).strip()
    between = rf"(<!-- {name} -->\n).*?\n?(<!-- end of {name} -->)"
    return re.sub(between, lambda marks: f"{marks[1]}{body}\n{marks[2]}", text, flags=re.DOTALL)
