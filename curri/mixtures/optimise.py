"""The highest points of any score over the mixtures that are allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curri.mixtures.quadratics import quadratic_optimum
from curri.mixtures.simplex import distances

if TYPE_CHECKING:
    from collections.abc import Callable

    from curri.mixtures.constraints import Constraints
    from curri.mixtures.fits import Fits
    from curri.mixtures.targets import Target
    from curri.types import Floats

__all__ = ["candidate_pool", "maximise", "objective", "spread_out"]

STARTS = 12
POOL = 4_096
_STEPS = 60
_NUDGE = 1e-4
_SMALLEST = 1e-4
_LOCAL_ROUNDS = 12
_LOCAL_DRAWS = 64


def objective(fits: Fits, target: Target, limits: Constraints, *, caution: float = 0.0) -> Callable[[Floats], Floats]:
    """What is maximised: ±mean - caution · std - λ·KL(w ‖ prior), higher being better.

    Args:
        fits: the surrogates.
        target: what to raise or lower.
        limits: the penalty's λ and prior.
        caution: how many standard deviations (without the noise of runs) are taken off, at least 0.
    """

    def score(rows: Floats) -> Floats:
        if caution == 0.0:
            return np.asarray(target.sign * fits.mean(target, rows) - limits.penalty(rows))
        means, stds = fits.predict(target, rows, noise=False)
        return np.asarray(target.sign * means - caution * stds - limits.penalty(rows))

    return score


def candidate_pool(limits: Constraints, known: Floats, *, size: int = POOL, seed: int = 0) -> Floats:
    """Allowed mixtures from everywhere: known ones, corners, edges, the middle, and Dirichlet draws of all strengths.

    Args:
        limits: what is allowed; everything is moved there.
        known: mixtures to include, shape (K, m).
        size: Dirichlet draws.
        seed: of the draws.

    Returns:
        Shape (at most size + K + m(m + 1)/2 + 2, m), distinct.
    """
    m = limits.m
    rng = np.random.default_rng(seed)
    centres = [np.full(m, 1.0 / m), *([] if limits.prior is None else [limits.prior])]
    draws = []
    strengths = np.exp(rng.uniform(np.log(0.3), np.log(30.0), size))
    for row, strength in enumerate(strengths):
        centre = known[rng.integers(len(known))] if len(known) and row % 3 == 0 else centres[row % len(centres)]
        draws.append(rng.dirichlet(np.maximum(centre, 0.1 / m) * m * strength))
    corners = np.eye(m)
    first, second = np.triu_indices(min(m, 24), k=1)
    edges = (corners[first] + corners[second]) / 2.0
    everything = np.vstack([known, *(each[None] for each in centres), corners, edges, np.array(draws).reshape(-1, m)])
    return np.unique(limits.bring(everything).round(9), axis=0)


def maximise(
    score: Callable[[Floats], Floats],
    limits: Constraints,
    known: Floats,
    *,
    count: int = STARTS,
    apart: float = 0.005,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """The highest points of a score that differ from each other: local maxima, then the best of what was looked at.

    From the 12 best of a pool of mixtures that are far from each other: projected gradient ascent in √w, where the
    surrogates are smooth also at the edge, with numerical gradients, all starts at once; then draws from ever narrower
    Dirichlet distributions around the best point, which also works for scores that are flat in steps.

    Args:
        score: mixtures of shape (R, m) → scores of shape (R,), higher better.
        limits: what is allowed.
        known: mixtures that are looked at in any case, shape (K, m).
        count: how many points at most.
        apart: total variation between any two of them, at least.
        seed: of the draws.

    Returns:
        (mixtures of shape (S, m), scores of shape (S,)), best first; 1 ≤ S ≤ count.
    """
    pool = candidate_pool(limits, known, seed=seed)
    values = score(pool)
    chosen = spread_out(pool, values, STARTS, apart=0.1)
    rows = _ascend(score, limits, pool[chosen])
    rows = _search(score, limits, rows, np.random.default_rng([seed, 1]))
    found, reached = np.vstack([rows, pool]), np.append(score(rows), values)
    kept = spread_out(found, reached, count, apart=apart)
    return found[kept], reached[kept]


def spread_out(rows: Floats, values: Floats, count: int, *, apart: float) -> list[int]:
    """The best rows, each at least ``apart`` (total variation) from all better ones that were taken; best first."""
    order = np.argsort(-values, kind="stable")
    taken: list[int] = []
    for row in order.tolist():
        if not taken or float(distances(rows[row], rows[taken]).min()) >= apart:
            taken.append(row)
        if len(taken) == count:
            break
    return taken


def _ascend(score: Callable[[Floats], Floats], limits: Constraints, rows: Floats) -> Floats:
    """Ascent in u = √w with a step for each row that grows on success and shrinks on failure."""
    values = score(rows)
    step = np.full(len(rows), 0.1)
    for _ in range(_STEPS):
        direction = _gradient(score, rows)
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        direction = np.divide(direction, length, out=np.zeros_like(direction), where=length > 0.0)
        moved = np.maximum(np.sqrt(rows) + step[:, None] * direction, 0.0) ** 2
        moved = limits.bring(moved / np.maximum(moved.sum(axis=1, keepdims=True), 1e-300))
        there = score(moved)
        better = there > values
        rows, values = np.where(better[:, None], moved, rows), np.where(better, there, values)
        step = np.where(better, np.minimum(step * 1.5, 0.3), step / 3.0)
        if step.max() < _SMALLEST:
            break
    return rows


def _gradient(score: Callable[[Floats], Floats], rows: Floats) -> Floats:
    """∂ score / ∂u along the sphere Σ u² = 1, by forward differences, shape (S, m)."""
    count, m = rows.shape
    roots = np.sqrt(rows)
    nudged = (roots[:, None, :] + _NUDGE * np.eye(m)) ** 2
    nudged /= nudged.sum(axis=2, keepdims=True)
    values = score(np.vstack([rows, nudged.reshape(count * m, m)]))
    slopes = (values[count:].reshape(count, m) - values[:count, None]) / _NUDGE
    slopes = np.nan_to_num(slopes, nan=0.0, posinf=0.0, neginf=0.0)
    return np.asarray(slopes - (slopes * roots).sum(axis=1, keepdims=True) * roots)


def _search(score: Callable[[Floats], Floats], limits: Constraints, rows: Floats, rng: np.random.Generator) -> Floats:
    """Draws around each row, narrower every round; the best of each row stays."""
    values = score(rows)
    count, m = rows.shape
    for strength in np.logspace(1.5, 5.0, _LOCAL_ROUNDS):
        shapes = np.repeat(rows, _LOCAL_DRAWS, axis=0) * strength + 1e-3
        draws = rng.standard_gamma(shapes) + 1e-300
        drawn = limits.bring(draws / draws.sum(axis=1, keepdims=True))
        there = score(drawn).reshape(count, _LOCAL_DRAWS)
        best = there.argmax(axis=1)
        found = drawn.reshape(count, _LOCAL_DRAWS, m)[np.arange(count), best]
        better = there.max(axis=1) > values
        rows = np.where(better[:, None], found, rows)
        values = np.maximum(values, there.max(axis=1))
    return rows


def exact_optimum(fits: Fits, target: Target, limits: Constraints) -> Floats | None:
    """The exact optimum where the target is a quadratic and there are no bounds but w ≥ 0; else None."""
    found = None if limits.bounded else fits.quadratic(target)
    if found is None:
        return None
    a, b, square = (target.sign * each for each in found)
    return quadratic_optimum(float(a), b, square)[0]
