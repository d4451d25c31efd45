"""Which prompts get rollouts, and how evenly; and how well other models' pass rates foretell this one's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from curri.mixtures.quality import rank_correlation
from curri.reports.wording import WIDTH

if TYPE_CHECKING:
    from curri.reports.difficulty.evidence import Evidence
    from curri.store import PromptStore
    from curri.types import Floats, Ints

__all__ = ["calibration_of", "coverage_of"]

TOP = 0.1
LEAST_PROMPTS = 10
"""Prompts with both a prior and rollouts that a comparison needs."""
BINS = 10


def coverage_of(evidence: Evidence) -> dict[str, Any]:
    """Prompts with and without rollouts, how often prompts were visited, and how many visits the top ones got."""
    pool, active = evidence.pool, evidence.pool.active
    groups = np.bincount(evidence.groups.rows, minlength=len(pool))
    unit = "visits" if groups.max(initial=0) > 1 else "rollouts"
    visits = (groups if unit == "visits" else evidence.responses)[active]
    ranked = np.sort(visits)[::-1]
    top = int(np.ceil(TOP * visits.size))
    total = int(visits.sum())
    return {
        "unit": unit,
        "prompts": int(active.sum()),
        "tried": int((active & evidence.tried).sum()),
        "retired": int((~active).sum()),
        "total": total,
        "mean": float(visits.mean()) if visits.size else None,
        "median": float(np.median(visits)) if visits.size else None,
        "most": int(ranked[0]) if visits.size else None,
        "top_share": float(ranked[:top].sum() / total) if total else None,
        "top_prompts": top,
        "bins": _bins(visits),
    }


def _bins(visits: Ints) -> list[dict[str, int]]:
    """Prompts by how often they were visited: 0, 1, 2, 3–4, 5–8, …."""
    edges = [0, 1, 2]
    while edges[-1] < visits.max(initial=0):
        edges.append(2 * edges[-1])
    found, below = [], -1
    for edge in edges:
        held = int(np.count_nonzero((visits > below) & (visits <= edge)))
        found.append({"first": below + 1, "last": edge, "prompts": held})
        below = edge
    while len(found) > 1 and not found[-1]["prompts"]:
        found.pop()
    return found


def calibration_of(store: PromptStore, evidence: Evidence) -> list[dict[str, Any]]:
    """For each model whose pass rates were imported, what they say of the prompts that have rollouts here too."""
    pool = evidence.pool
    held: dict[str, tuple[Ints, Floats]] = {}
    in_use = store.priors.in_use
    for source in store.priors.sources():
        found = store.connection.arrow(
            "select prompt_id, rate from priors where model = ? order by prompt_id", [source.model]
        )
        held[source.model] = found.column("prompt_id").to_numpy(), found.column("rate").to_numpy()
    if in_use is None and not np.isnan(pool.prior_rate).all():
        held["given with the prompts"] = pool.ids, pool.prior_rate
    return [
        {"model": model, "in_use": model == in_use or in_use is None, **_compared(evidence, ids, rates)}
        for model, (ids, rates) in held.items()
    ]


def _compared(evidence: Evidence, ids: Ints, rates: Floats) -> dict[str, Any]:
    pool = evidence.pool
    prior = np.full(len(pool), np.nan)
    _, mine, theirs = np.intersect1d(pool.ids, ids, assume_unique=True, return_indices=True)
    prior[mine] = rates[theirs]
    both = ~np.isnan(prior) & ~np.isnan(evidence.rate)
    found: dict[str, Any] = {"known": int((~np.isnan(prior)).sum()), "prompts": int(both.sum())}
    if found["prompts"] < LEAST_PROMPTS:
        return {**found, "bins": [], "rank": None, "bias": None, "error": None}
    theirs_, own = prior[both], evidence.rate[both]
    places = np.minimum((theirs_ * BINS).astype(np.int64), BINS - 1)
    n = np.bincount(places, minlength=BINS)
    return {
        **found,
        "rank": rank_correlation(theirs_, own),
        "bias": float((own - theirs_).mean()),
        "error": float(np.abs(own - theirs_).mean()),
        "bins": [
            {
                "low": place / BINS,
                "high": (place + 1) / BINS,
                "prompts": int(n[place]),
                "prior": float(theirs_[places == place].mean()),
                "own": float(own[places == place].mean()),
                "half": _half(own[places == place]),
            }
            for place in np.flatnonzero(n).tolist()
        ],
    }


def _half(values: Floats) -> float:
    return float(WIDTH * values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else np.nan
