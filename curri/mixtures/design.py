"""Which runs to make: MoDoMoDo's seeds, draws around the natural mixture, points that fill the simplex, replicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from curri.errors import InvalidParameter
from curri.mixtures.simplex import checked_mixtures, hellinger, project

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats

__all__ = ["Design", "DesignMethod", "dirichlet_design", "make_design", "seed_design", "space_filling"]

DesignMethod: TypeAlias = Literal["auto", "seeds", "dirichlet", "space"]

# RegMix's generator.
TEMPERATURE = 0.5
STRENGTHS = np.logspace(np.log10(0.1), np.log10(5.0), 15)
MOST_TIMES_PRIOR = 15.0
GRAIN = 2e-4
_SAME = 1e-5
_BATCHES = 200
_POOL = 2_000
_PASSES = 3
_DIGITS = 9


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Planned runs.

    Attributes:
        weights: shape (R, m), each within its bounds.
        kinds: why each run is there: "natural", "uniform", "single", "without", "dirichlet", "space" or "replicate".
    """

    weights: Floats
    kinds: tuple[str, ...]


def seed_design(m: int) -> Floats:
    """MoDoMoDo's seeds: each dataset alone, all but each one in equal parts, all in equal parts.

    Mind small datasets: alone they may run out before training ends; :func:`exhaustion` tells.

    Args:
        m: datasets, at least 1.

    Returns:
        Shape (2m + 1, m) for m ≥ 3; without the repetitions that fewer datasets bring.

    Raises:
        InvalidParameter: m is below 1.

    Example:
        >>> seed_design(3).round(2).tolist()[2:5]
        [[0.0, 0.0, 1.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]

    """
    if m < 1:
        raise InvalidParameter(f"`m` of `seed_design` must be an int in [1, inf); got {m!r}")
    single, uniform = np.eye(m), np.full((1, m), 1.0 / m)
    if m == 1:
        return single
    if m == 2:
        return np.vstack([single, uniform])
    return np.vstack([single, (1.0 - np.eye(m)) / (m - 1), uniform])


def dirichlet_design(
    prior: ArrayLike, runs: int, *, lower: ArrayLike = 0.0, upper: ArrayLike = 1.0, seed: int = 0
) -> Floats:
    """RegMix's generator: Dirichlet draws around the natural mixture.

    The prior is flattened (to the power ½) and multiplied by a strength drawn from 15 log-spaced values in [0.1, 5];
    draws with a weight above 15 times its prior are rejected, entries below 2e-4 become 0, weights are rounded to
    multiples of 2e-4, and repetitions are dropped. RegMix makes 100 times too many and picks at random; drawing until
    there are enough gives the same distribution. Draws outside the bounds are moved onto them, which RegMix lacks. Arms
    without a prior get nothing beyond their floor.

    Args:
        prior: the natural mixture, shape (m,).
        runs: how many.
        lower: floors, one or shape (m,).
        upper: caps, one or shape (m,).
        seed: of the draws.

    Returns:
        Shape (runs, m), rows distinct where m > 1.

    Raises:
        InvalidParameter: no mixture keeps the bounds, or too few different ones could be drawn.

    Example:
        >>> dirichlet_design([0.8, 0.2], 3).sum(axis=1).round(6).tolist()
        [1.0, 1.0, 1.0]

    """
    natural = checked_mixtures(prior, owner="dirichlet_design")[0]
    flat = natural**TEMPERATURE
    flat /= flat.sum()
    most = np.minimum(MOST_TIMES_PRIOR * natural, 1.0)
    used = natural > 0.0
    upper = np.where(used, upper, lower)
    rng = np.random.default_rng(seed)
    found: Floats = np.empty((0, len(natural)))
    for _ in range(_BATCHES):
        draws = np.zeros((max(64, 4 * runs), len(natural)))
        strengths = rng.choice(STRENGTHS, len(draws))
        gammas = rng.standard_gamma(strengths[:, None] * flat[used]) + 1e-300
        draws[:, used] = gammas / gammas.sum(axis=1, keepdims=True)
        draws = _rounded(draws[(draws <= most + 1e-12).all(axis=1)])
        draws = project(draws, lower, upper) if len(draws) else draws
        found = _without_repeats(np.vstack([found, draws]))
        if len(found) >= runs or len(natural) == 1:
            return np.asarray(np.resize(found, (runs, 1)) if len(natural) == 1 else found[:runs])
    raise InvalidParameter(
        f"only {len(found)} different mixtures could be drawn within the bounds, and {runs} were asked for"
    )


def space_filling(
    m: int,
    runs: int,
    *,
    existing: ArrayLike | None = None,
    lower: ArrayLike = 0.0,
    upper: ArrayLike = 1.0,
    seed: int = 0,
) -> Floats:
    """Points far from each other and from existing ones, in Hellinger distance (maximin by exchange).

    From 2,000 Dirichlet draws with strengths from sparse to even, points are taken one by one, always the farthest from
    those that are there; then each point gives way to a draw that is farther from all others, in up to 3 passes. Draws
    keep it off the corners' corners: a pure maximin design in many dimensions is all edge.

    Args:
        m: arms.
        runs: how many points.
        existing: mixtures that are measured or planned already, shape (K, m).
        lower: floors, one or shape (m,).
        upper: caps, one or shape (m,).
        seed: of the draws.

    Returns:
        Shape (runs, m).

    Raises:
        InvalidParameter: no mixture keeps the bounds.

    Example:
        >>> space_filling(2, 2, existing=[[0.5, 0.5]], seed=1).round(1).tolist()
        [[1.0, 0.0], [0.0, 1.0]]

    """
    if m < 1 or runs < 0:
        raise InvalidParameter(f"`m` must be at least 1 and `runs` at least 0; got {m!r} and {runs!r}")
    rng = np.random.default_rng(seed)
    strengths = np.exp(rng.uniform(np.log(0.2), np.log(4.0), _POOL))
    gammas = rng.standard_gamma(np.repeat(strengths[:, None], m, axis=1)) + 1e-300
    draws = gammas / gammas.sum(axis=1, keepdims=True)
    pool = project(np.vstack([np.full((1, m), 1.0 / m), np.eye(m), draws]), lower, upper)
    fixed = np.empty((0, m)) if existing is None else checked_mixtures(existing, owner="space_filling", arms=m)
    nearest = hellinger(pool, fixed).min(axis=1) if len(fixed) else np.full(len(pool), np.inf)
    taken: list[int] = []
    for _ in range(runs):
        # Rounded, so that ties fall to the first draw and not to the last bit.
        place = 0 if not taken and not len(fixed) else int(np.argmax(nearest.round(_DIGITS)))
        taken.append(place)
        nearest = np.minimum(nearest, hellinger(pool, pool[place])[:, 0])
    return pool[_exchanged(pool, fixed, taken)]


def _exchanged(pool: Floats, fixed: Floats, taken: list[int]) -> list[int]:
    """Each point in turn gives way to the draw that is farthest from all other points, where that is farther."""
    for _ in range(_PASSES):
        moved = False
        for i, place in enumerate(taken):
            others = np.vstack([fixed, pool[[each for j, each in enumerate(taken) if j != i]]])
            if not len(others):
                return taken
            away = hellinger(pool, others).min(axis=1)
            best = int(np.argmax(away.round(_DIGITS)))
            if away[best] > away[place] + 1e-9:
                taken[i], moved = best, True
        if not moved:
            break
    return taken


def make_design(
    m: int,
    runs: int,
    *,
    method: DesignMethod = "auto",
    prior: ArrayLike | None = None,
    lower: ArrayLike = 0.0,
    upper: ArrayLike = 1.0,
    replicates: int = 0,
    seed: int = 0,
) -> Design:
    """A plan of runs.

    "auto" starts with the centre (the natural mixture if there is one, else the uniform one), adds MoDoMoDo's seeds
    where at most half of the runs go to them, and fills up: half around the natural mixture if there is one, the rest
    where the simplex is emptiest. Seeds that break a bound are moved onto it. Replicates repeat runs of the plan, the
    centre first and then every other one in turn; each is one degree of freedom for the noise.

    Args:
        m: arms.
        runs: how many runs in all, replicates included; at least 1.
        method: "auto", or one kind only: "seeds", "dirichlet" (around the prior, or the uniform mixture) or "space".
        prior: the natural mixture, shape (m,).
        lower: floors, one or shape (m,).
        upper: caps, one or shape (m,).
        replicates: how many of the runs repeat another, in [0, runs - 1].
        seed: of the draws.

    Raises:
        InvalidParameter: a number is out of range, or no mixture keeps the bounds.

    Example:
        >>> plan = make_design(3, 9, replicates=2)
        >>> [plan.kinds.count(kind) for kind in ("uniform", "space", "replicate")]
        [1, 6, 2]

    """
    if runs < 1 or not 0 <= replicates < runs:
        raise InvalidParameter(f"`replicates` must be in [0, runs - 1]; got {replicates!r} of {runs!r} runs")
    natural = np.full(m, 1.0 / m) if prior is None else checked_mixtures(prior, owner="make_design", arms=m)[0]
    wanted = runs - replicates
    rows, kinds = np.empty((0, m)), ["uniform" if prior is None else "natural"]
    if method in {"auto", "space"}:
        rows = project(natural, lower, upper)
    else:
        kinds = []
    if method == "seeds" or (method == "auto" and 2 * len(seed_design(m)) <= wanted):
        rows, kinds = _with_seeds(rows, kinds, m, (lower, upper), wanted)
    drawn = wanted - len(rows)
    around = drawn if method == "dirichlet" else drawn // 2 if method == "auto" and prior is not None else 0
    if around > 0:
        rows = np.vstack([rows, dirichlet_design(natural, around, lower=lower, upper=upper, seed=seed)])
        kinds += ["dirichlet"] * around
    rest = wanted - len(rows)
    if rest > 0:
        rows = np.vstack([rows, space_filling(m, rest, existing=rows, lower=lower, upper=upper, seed=seed)])
        kinds += ["space"] * rest
    again = _replicated(len(rows), replicates)
    return Design(np.vstack([rows[:wanted], rows[again]]), (*kinds[:wanted], *["replicate"] * replicates))


def _with_seeds(
    rows: Floats, kinds: list[str], m: int, bounds: tuple[ArrayLike, ArrayLike], wanted: int
) -> tuple[Floats, list[str]]:
    seeds = seed_design(m)
    names = ["single"] * m + ["without"] * (len(seeds) - m - 1) + ["uniform"] * (len(seeds) > m)
    found = np.vstack([rows, project(seeds, *bounds)])
    _, first = np.unique(found.round(9), axis=0, return_index=True)
    kept = np.sort(first)[:wanted]
    every = [*kinds, *names]
    return found[kept], [every[row] for row in kept]


def _replicated(rows: int, replicates: int) -> list[int]:
    """Which rows to repeat: 0, then through the rest in steps of about the golden ratio, so that kinds are mixed."""
    order = [0, *sorted(range(1, rows), key=lambda row: (row * 0.6180339887498949) % 1.0)]
    return [order[i % rows] for i in range(replicates)]


def _rounded(rows: Floats) -> Floats:
    """Entries below the grain to 0, the rest to multiples of it, and normalised again."""
    kept = np.where(rows < GRAIN, 0.0, rows)
    kept = kept / kept.sum(axis=1, keepdims=True)
    kept = np.round(kept / GRAIN) * GRAIN
    return np.asarray(kept / kept.sum(axis=1, keepdims=True))


def _without_repeats(rows: Floats) -> Floats:
    """Rows that differ from all earlier ones by at least 1e-5 in the sum of absolute differences, nearly."""
    _, first = np.unique(np.round(rows / _SAME), axis=0, return_index=True)
    return rows[np.sort(first)]
