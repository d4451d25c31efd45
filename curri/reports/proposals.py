"""What to run next: replicates that settle a difference, and mixtures that would tell most."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.mixtures import next_runs
from curri.reports.wording import WIDTH

if TYPE_CHECKING:
    from curri.reports.study import Study
    from curri.types import Floats

__all__ = ["proposals", "runs_to_settle"]

NEW_RUNS = 4
MOST = 30
"""Runs of each of two mixtures beyond which settling their difference is not worth it."""
_APART = 0.02


def proposals(study: Study) -> dict[str, Any]:
    """Runs to make next, with the reason for each."""
    found = study.recommendation
    challenger = found.chosen if found.source == "candidate" else _challenger(study)
    rows: list[dict[str, Any]] = []
    settle: dict[str, Any] | None = None
    if challenger is not None:
        each = runs_to_settle(challenger.gain, found.noise.std)
        settle = {
            "gain": challenger.gain,
            "noise": found.noise.std,
            "each": each,
            "worth": each is not None and each <= MOST,
            "challenger": study.by_arm(challenger.weights),
            "champion": found.run if found.source == "measured" else _name(study, found.best_measured.weights),
        }
        rows.append(_row(study, "promising", challenger.weights, "the best prediction: run it before you rely on it"))
    rows.append(_row(study, "again", found.best_measured.weights, "the best measured mixture again: is it luck?"))
    if study.runs.m > 1:
        study.tell(0, None, "choosing what to run next")
        taken = [np.array(list(row["weights"].values())) for row in rows]
        for weights in next_runs(study.fits, study.deciding, study.allowed, NEW_RUNS, seed=study.seed):
            if all(np.abs(weights - other).sum() / 2.0 >= _APART for other in taken):
                new = _row(study, "new", weights, "could be the best, as far as the runs can tell")
                rows.append(new)
    return {"settle": settle, "runs": _numbered(rows), "replicated": any(np.bincount(study.runs.mixture) > 1)}


def runs_to_settle(gain: float, noise: float) -> int | None:
    """Runs of each of two mixtures after which a difference stands out of the noise: n = ⌈2 (1.645 σ / gain)²⌉, ≥ 2.

    Args:
        gain: the difference.
        noise: σ of one run.

    Returns:
        How many, or None where there is no difference to settle.

    Example:
        >>> runs_to_settle(0.02, 0.02), runs_to_settle(0.0, 0.02)
        (6, None)

    """
    if gain <= 0.0 or not math.isfinite(noise):
        return None
    return max(2, math.ceil(2.0 * (WIDTH * noise / gain) ** 2 - 1e-9))


def _challenger(study: Study) -> Any:
    """The best prediction that was not recommended, where it promises anything and was not measured."""
    found = study.recommendation
    return next(
        (each for each in found.candidates if each.gain > 0.0 and study.runs.row_name(each.weights) is None), None
    )


def _name(study: Study, weights: Floats) -> str | None:
    return study.runs.row_name(weights)


def _row(study: Study, kind: str, weights: Floats, why: str) -> dict[str, Any]:
    means, stds = study.fits.predict(study.deciding, weights)
    return {
        "kind": kind,
        "weights": study.by_arm(weights if kind == "again" else _rounded(weights)),
        "mean": float(means[0]),
        "std": float(stds[0]),
        "why": why,
    }


def _rounded(weights: Floats) -> Floats:
    """To four decimals that still sum to one, the largest weight taking up the rest."""
    short = np.round(weights, 4)
    short[int(np.argmax(short))] += 1.0 - short.sum()
    return np.asarray(short.round(10))


def _numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: dict[str, int] = {}
    for row in rows:
        seen[row["kind"]] = seen.get(row["kind"], 0) + 1
        row["run"] = f"{row['kind']} {seen[row['kind']]}"
    return rows
