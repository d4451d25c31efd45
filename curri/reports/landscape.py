"""What the surrogates say between the runs: effects of each arm, curves, slices of the simplex, trade-offs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from curri.mixtures import arm_path, effects, trade_off
from curri.reports.wording import WIDTH

if TYPE_CHECKING:
    from curri.reports.study import Study
    from curri.types import Floats

__all__ = ["curves", "effect_table", "slices", "trade_offs"]

SHARE = 0.1
"""By how much an arm's share grows where its effect is told."""
CURVES = 9
"""Arms with a curve: those that move the deciding target most."""
FRONT_TARGETS = 4
"""Targets between which a front is searched for; the search grows with each."""

_POINTS = 25
_TERNARY_STEPS = 30
_PAIR_STEPS = 24
_PAIR_ARMS = 3


def effect_table(study: Study) -> dict[str, Any]:
    """What more of each arm does to each target, at the recommended mixture."""
    base = study.recommendation.weights
    found = [effects(study.fits, target, base, share=SHARE) for target in study.everything]
    return {
        "share": SHARE,
        "from": "recommended",
        "targets": {
            target.name: {"change": each.change.tolist(), "std": each.std.tolist()}
            for target, each in zip(study.everything, found, strict=True)
        },
    }


def curves(study: Study) -> list[dict[str, Any]]:
    """The deciding target along each arm's share, the others in proportion; the arms that move it most first."""
    runs, base = study.runs, study.recommendation.weights
    if runs.m < 2:
        return []
    found = []
    for arm, name in enumerate(runs.arms):
        tried = runs.weights[:, arm]
        shares = np.unique(np.append(np.linspace(0.0, max(float(tried.max()), float(base[arm])), _POINTS), base[arm]))
        means, stds = study.fits.predict(study.deciding, arm_path(base, arm, shares), noise=False)
        width = WIDTH * stds
        found.append(
            {
                "arm": name,
                "share": float(base[arm]),
                "tried": [float(tried.min()), float(tried.max())],
                "shares": shares.tolist(),
                "mean": means.tolist(),
                "low": (means - width).tolist(),
                "high": (means + width).tolist(),
                "range": float(np.ptp(means)),
            }
        )
    return sorted(found, key=lambda each: -each["range"])


def slices(study: Study) -> dict[str, Any]:
    """The deciding target over the whole triangle of three arms, or over planes of two arms where there are more."""
    if study.runs.m < 3:
        return {"kind": "none"}
    if study.runs.m == 3:
        return _ternary(study)
    strongest = [each["arm"] for each in curves(study)[:_PAIR_ARMS]]
    pairs = [(a, b) for place, a in enumerate(strongest) for b in strongest[place + 1 :]]
    return {"kind": "pairs", "pairs": [_pair(study, *pair) for pair in pairs]}


def _ternary(study: Study) -> dict[str, Any]:
    steps = _TERNARY_STEPS
    rows = np.array([[i, j, steps - i - j] for i in range(steps + 1) for j in range(steps + 1 - i)]) / steps
    means, stds = study.fits.predict(study.deciding, rows, noise=False)
    return {"kind": "ternary", "weights": rows.tolist(), "mean": means.tolist(), "std": stds.tolist()}


def _pair(study: Study, first: str, second: str) -> dict[str, Any]:
    """A plane through the recommended mixture: two arms' shares; the others keep their proportions."""
    arms = list(study.runs.arms)
    i, j = arms.index(first), arms.index(second)
    base = study.recommendation.weights
    others = np.array([0.0 if arm in (i, j) else weight for arm, weight in enumerate(base)])
    if others.sum() <= 0.0:
        others = np.array([0.0 if arm in (i, j) else 1.0 for arm in range(len(arms))])
    others /= others.sum()
    most = _upper(study.runs.weights[:, [i, j]], base[[i, j]])
    x, y = (np.linspace(0.0, top, _PAIR_STEPS + 1) for top in most)
    across, up = np.meshgrid(x, y)
    inside = across + up <= 1.0 + 1e-9
    rest = np.clip(1.0 - across[inside] - up[inside], 0.0, 1.0)
    rows = rest[:, None] * others
    rows[:, i], rows[:, j] = across[inside], up[inside]
    rows /= rows.sum(axis=1, keepdims=True)
    grid = np.full(across.shape, np.nan)
    grid[inside] = study.fits.mean(study.deciding, rows)
    return {
        "arms": [first, second],
        "x": x.tolist(),
        "y": y.tolist(),
        "mean": grid.tolist(),
        "at": [float(base[i]), float(base[j])],
    }


def _upper(tried: Floats, base: Floats) -> list[float]:
    """How far each axis goes: as far as was tried."""
    return [float(max(top, at, 1e-3)) for top, at in zip(tried.max(axis=0), base, strict=True)]


def trade_offs(study: Study) -> dict[str, Any] | None:
    """The front of the first few targets; None where there is only one."""
    targets = list(study.targets)[:FRONT_TARGETS]
    if len(targets) < 2:
        return None
    study.tell(0, None, "looking for trade-offs")
    found = trade_off(study.fits, targets, study.allowed, seed=study.seed)
    points = zip(found.weights, found.means.tolist(), found.stds.tolist(), strict=True)
    return {
        "targets": list(found.targets),
        "points": [{"weights": study.by_arm(weights), "mean": means, "std": stds} for weights, means, stds in points],
        "measured": [
            {"run": study.runs.row_name(study.runs.distinct[row]), "mean": means}
            for row, means in zip(found.measured.tolist(), found.measured_means.tolist(), strict=True)
        ],
        "all_measured": _measured(study, list(found.targets)),
    }


def _measured(study: Study, names: list[str]) -> list[dict[str, Any]]:
    targets = [target for target in study.targets if target.name in names]
    scores = np.column_stack([study.fits.measured(target) for target in targets])
    known = np.isfinite(scores).all(axis=1)
    return [{"run": study.runs.names[row], "scores": scores[row].tolist()} for row in np.flatnonzero(known)]
