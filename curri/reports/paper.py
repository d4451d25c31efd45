"""MoDoMoDo as printed: its Algorithm 4 and its heuristics, to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidData
from curri.mixtures import alpha_family, coli_weights, leave_one_out_weights, paper_search

if TYPE_CHECKING:
    from curri.reports.study import Study
    from curri.types import Floats

__all__ = ["paper_part"]

SEED = 42
_USED = 1e-9
_EQUAL = 1e-6


def paper_part(study: Study) -> dict[str, Any]:
    """What the paper's algorithm and heuristics say for the deciding target.

    The heuristics are for seed runs: each dataset alone, all but one, all in equal parts. They go by which datasets a
    run used at all. Of the alpha family's two scores, "out" is the deciding target and "in" the second one (the
    deciding one too where there is no other).

    Raises:
        InvalidData: fewer than 5 runs have a score, or no draw of the Gaussian is a mixture.
    """
    target = study.deciding
    scores = study.fits.measured(target)
    known = np.isfinite(scores)
    rows, values = study.runs.weights[known], target.sign * scores[known]
    found = paper_search(rows, values, seed=SEED)
    return {
        "test_r2": found.test_r2.tolist(),
        "candidates": [
            {"weights": study.by_arm(weights), "predicted": float(target.sign * value)}
            for weights, value in zip(found.weights, found.predictions, strict=True)
        ],
        "heuristics": [
            {
                "name": name,
                "weights": study.by_arm(weights),
                "predicted": float(study.fits.mean(target, weights)[0]),
            }
            for name, weights in _heuristics(study).items()
        ],
    }


def _heuristics(study: Study) -> dict[str, Floats]:
    runs, m = study.runs, study.runs.m
    seeds = _seed_rows(runs.weights)
    target = study.deciding
    other = study.targets[1] if len(study.targets) > 1 else target
    out, inside = (each.sign * study.fits.measured(each) for each in (target, other))
    used = [row for row in seeds if np.isfinite(out[row]) and np.isfinite(inside[row])]
    if m < 2 or not used:
        return {}
    indicators = runs.weights[used] > _USED
    records = [
        {"datasets": [runs.arms[arm] for arm in np.flatnonzero(each)], "In": inside[row], "Out": out[row]}
        for row, each in zip(used, indicators, strict=True)
    ]
    found = dict(alpha_family(records, list(runs.arms)))
    found["Coli"] = coli_weights(indicators, out[used])
    missing = _without_one(runs.weights, out)
    if missing is not None:
        found["Norm"] = leave_one_out_weights(missing)
    return found


def _seed_rows(weights: Floats) -> list[int]:
    """Runs that use some datasets in equal parts, as the paper's seeds do."""
    found = []
    for row, each in enumerate(weights):
        parts = each[each > _USED]
        if np.ptp(parts) < _EQUAL:
            found.append(row)
    return found


def _without_one(weights: Floats, scores: Floats) -> Floats | None:
    """Mean score of the runs that leave out each arm and use the others alike; None where one was not run."""
    m = weights.shape[1]
    found = np.full(m, np.nan)
    for arm in range(m):
        wanted = np.where(np.arange(m) == arm, 0.0, 1.0 / (m - 1))
        same = (np.abs(weights - wanted).max(axis=1) < _EQUAL) & np.isfinite(scores)
        if same.any():
            found[arm] = scores[same].mean()
    return found if np.isfinite(found).all() else None


def paper_or_reason(study: Study) -> dict[str, Any]:
    """The same, or why it cannot be done."""
    try:
        return paper_part(study)
    except InvalidData as error:
        return {"reason": error.message}
