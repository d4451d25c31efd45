"""How pass rates move while the policy learns: by policy version, or by round where no version is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.reports.wording import WIDTH

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from curri.reports.difficulty.evidence import Evidence
    from curri.types import Bools, Floats, Ints

__all__ = ["drift_of"]

MOST = 20
"""Points of a curve."""


@dataclass(frozen=True, eq=False)
class _Points:
    """Responses of each (prompt, bin), with the share that was right; shape (pairs,) each."""

    rows: Ints
    bins: Ints
    n: Floats
    value: Floats


def drift_of(evidence: Evidence) -> dict[str, Any] | None:
    """Curves over time, in all and by arm; None where everything is of one moment.

    The mean over all responses of a bin also moves when other prompts are picked. So the change is given for the same
    prompts as well: those with responses in the first and in the last third.
    """
    cells = evidence.cells
    by, moment = "policy version", cells.version
    if np.unique(moment[moment >= 0]).size < 2:
        by, moment = "round", cells.round
    times = np.unique(moment[moment >= 0])
    if times.size < 2:
        return None
    parts = np.array_split(times, min(MOST, times.size))
    starts = np.array([part[0] for part in parts])
    measure = "pass rate" if bool((~np.isnan(cells.solved)).any()) else "mean reward"
    points = _points(evidence, moment, starts, solved=measure == "pass rate")
    arms = evidence.pool.arms[points.rows]
    every = np.ones(points.rows.size, dtype=np.bool_)
    return {
        "by": by,
        "measure": measure,
        "bins": [{"first": int(part[0]), "last": int(part[-1])} for part in parts],
        "all": _curve(points, every, len(parts)) | {"change": _change(points, every, len(parts))},
        "arms": [
            {"arm": evidence.pool.arm_names[arm], **_curve(points, arms == arm, len(parts)),
             "change": _change(points, arms == arm, len(parts))}
            for arm in np.unique(arms).tolist()
        ],
        "signal": _signal(evidence, by, starts),
    }  # fmt: skip


def _bins(moment: Ints, starts: Ints) -> NDArray[np.intp]:
    return np.searchsorted(starts, moment, side="right") - 1


def _points(evidence: Evidence, moment: Ints, starts: Ints, *, solved: bool) -> _Points:
    cells = evidence.cells
    value = cells.solved if solved else cells.reward
    mine = (moment >= 0) & ~np.isnan(value)
    keys = cells.rows[mine] * starts.size + _bins(moment[mine], starts)
    pairs, place = np.unique(keys, return_inverse=True)
    n = np.bincount(place, cells.n[mine], pairs.size).astype(np.float64)
    sums = np.bincount(place, value[mine] * cells.n[mine], pairs.size)
    return _Points(pairs // starts.size, pairs % starts.size, n, sums / np.maximum(n, 1.0))


def _curve(points: _Points, mine: Bools, n_bins: int) -> dict[str, Any]:
    """Means of the bins with 90 % half-widths, prompts being what was drawn; responses of each."""
    bins, n, value = points.bins[mine], points.n[mine], points.value[mine]
    total = np.bincount(bins, n, n_bins)
    held = total > 0
    mean = np.where(held, np.bincount(bins, n * value, n_bins) / np.where(held, total, 1.0), np.nan)
    squares = np.bincount(bins, np.square(n * (value - mean[bins])), n_bins)
    several = np.bincount(bins, minlength=n_bins) > 1
    half = np.where(several, WIDTH * np.sqrt(squares) / np.where(held, total, 1.0), np.nan)
    return {"mean": mean, "half": half, "responses": total.astype(np.int64)}


def _change(points: _Points, mine: Bools, n_bins: int) -> dict[str, Any]:
    """From the first to the last third: of everything, and of the prompts that are in both."""
    third = max(1, n_bins // 3)
    early, late = mine & (points.bins < third), mine & (points.bins >= n_bins - third)
    size = int(points.rows.max(initial=-1)) + 1

    def per_prompt(part: Bools) -> tuple[Floats, Floats]:
        n = np.bincount(points.rows[part], points.n[part], size).astype(np.float64)
        return n, np.bincount(points.rows[part], points.n[part] * points.value[part], size).astype(np.float64)

    (n_early, sum_early), (n_late, sum_late) = per_prompt(early), per_prompt(late)
    both = (n_early > 0) & (n_late > 0)
    moved = sum_late[both] / n_late[both] - sum_early[both] / n_early[both]
    half = WIDTH * moved.std(ddof=1) / np.sqrt(moved.size) if moved.size > 1 else np.nan
    return {
        "early": float(sum_early.sum() / n_early.sum()) if n_early.sum() else None,
        "late": float(sum_late.sum() / n_late.sum()) if n_late.sum() else None,
        "prompts": int(moved.size),
        "change": float(moved.mean()) if moved.size else None,
        "half": float(half),
    }


def _signal(evidence: Evidence, by: str, starts: Ints) -> dict[str, Any] | None:
    """Shares of groups that were all wrong, had signal, or were all right, bin by bin."""
    groups = evidence.groups
    moment = groups.version if by == "policy version" else groups.round
    mine = (groups.n > 1) & (moment >= 0)
    if not mine.any():
        return None
    bins, n_bins = _bins(moment[mine], starts), starts.size
    total = np.bincount(bins, minlength=n_bins)

    def share(held: Bools) -> Floats:
        found = np.bincount(bins, held[mine], n_bins)
        return np.where(total > 0, found / np.maximum(total, 1), np.nan)

    dead = ~groups.signal
    return {
        "groups": total,
        "signal": share(groups.signal),
        "right": share(dead & groups.right),
        "wrong": share(dead & groups.wrong),
        "same": share(dead & ~groups.right & ~groups.wrong),
    }
