"""The highest point of a quadratic on the simplex, exactly."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter
from curri.mixtures.simplex import project

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats

__all__ = ["quadratic_optimum"]

ENUMERATED = 12
"""Up to so many arms every face of the simplex is looked at (2^m - 1 linear systems)."""
_STARTS = 64
_STEPS = 2_000
_SLACK = 1e-9
_TIE = 1e-12


def quadratic_optimum(a: float, b: ArrayLike, C: ArrayLike, *, seed: int = 0) -> tuple[Floats, float]:
    """The mixture that maximises a + b'w + w'Cw over w ≥ 0, Σ w = 1 (MoDoMoDo's surrogate).

    The optimum lies inside one of the simplex's faces, where the gradient is the same for every arm in use: with the
    support S, 2·C_SS w_S + b_S = μ·1 and Σ w_S = 1. Up to 12 arms every face is solved and the best valid point taken,
    which is exact. With more arms, where C is negative semidefinite along the simplex (a convex problem) projected
    gradient ascent finds the optimum; otherwise 64 starts of it do as well as they can. Either way the last step solves
    the face that was found.

    Args:
        a: constant.
        b: linear part, shape (m,).
        C: quadratic part, shape (m, m); only its symmetric part matters.
        seed: of the starts, used only beyond 12 arms.

    Returns:
        (weights of shape (m,), value there); among equal ones that with the fewest arms, the first arms first.

    Raises:
        InvalidParameter: shapes differ or a number is not finite.

    Example:
        >>> weights, value = quadratic_optimum(0.4, [0.1, 0.05], [[0.2, -0.1], [-0.1, 0.1]])
        >>> weights.tolist(), round(value, 9)
        ([1.0, 0.0], 0.7)

    """
    linear, square = np.asarray(b, dtype=np.float64), np.asarray(C, dtype=np.float64)
    if linear.ndim != 1 or not linear.size or square.shape != (linear.size, linear.size):
        raise InvalidParameter(f"`b` and `C` must have shapes (m,) and (m, m); got {linear.shape} and {square.shape}")
    if not (np.isfinite(linear).all() and np.isfinite(square).all() and np.isfinite(a)):
        raise InvalidParameter("`a`, `b` and `C` of `quadratic_optimum` must be finite")
    square = (square + square.T) / 2.0
    found = _enumerate(linear, square) if linear.size <= ENUMERATED else _ascend(linear, square, seed)
    return found, float(a + _value(linear, square, found[None])[0])


def _value(linear: Floats, square: Floats, rows: Floats) -> Floats:
    return np.asarray(rows @ linear + ((rows @ square) * rows).sum(axis=1))


def _enumerate(linear: Floats, square: Floats) -> Floats:
    """The best critical point of all faces, small faces first."""
    m = linear.size
    scale = max(1.0, float(np.abs(linear).max()), float(np.abs(square).max()))
    best, best_value = np.zeros(m), -np.inf
    for size in range(1, m + 1):
        rows = _critical_points(linear, square, np.array(list(itertools.combinations(range(m), size))))
        if len(rows):
            values = _value(linear, square, rows)
            place = int(np.argmax(values))
            if values[place] > best_value + _TIE * scale:
                best, best_value = rows[place], float(values[place])
    return best


def _critical_points(
    linear: Floats, square: Floats, supports: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
) -> Floats:
    """Where the gradient is level on a face, for every support that has such a point inside; shape (found, m).

    A singular face is left out: along its flat direction the value does not fall, so a smaller face is as good.
    """
    count, size = supports.shape
    system = np.zeros((count, size + 1, size + 1))
    system[:, :size, :size] = 2.0 * square[supports[:, :, None], supports[:, None, :]]
    system[:, :size, size] = -1.0
    system[:, size, :size] = 1.0
    right = np.zeros((count, size + 1))
    right[:, :size] = -linear[supports]
    right[:, size] = 1.0
    regular = np.linalg.cond(system) < 1e13 if size > 1 else np.ones(count, dtype=bool)
    solved = np.linalg.solve(system[regular], right[regular][:, :, None])[:, :size, 0]
    inside = (solved >= -_SLACK).all(axis=1)
    rows = np.zeros((int(inside.sum()), linear.size))
    np.put_along_axis(rows, supports[regular][inside], np.clip(solved[inside], 0.0, None), axis=1)
    return np.asarray(rows / rows.sum(axis=1, keepdims=True))


def _ascend(linear: Floats, square: Floats, seed: int) -> Floats:
    """Projected gradient ascent from the vertices, the middle and random points; then the best faces exactly."""
    m = linear.size
    rng = np.random.default_rng(seed)
    rows = np.vstack([np.full((1, m), 1.0 / m), np.eye(m), rng.dirichlet(np.ones(m), _STARTS)])
    steepest = max(2.0 * float(np.abs(np.linalg.eigvalsh(square)).max()), float(np.abs(linear).max()), 1e-12)
    step = 1.0 / steepest
    for _ in range(_STEPS):
        moved = project(rows + step * (linear + 2.0 * rows @ square), 0.0, 1.0)
        if np.abs(moved - rows).max() < 1e-12:
            break
        rows = moved
    supports = {tuple(np.flatnonzero(row > 1e-7)) for row in rows}
    exact = [_critical_points(linear, square, np.array([support])) for support in sorted(supports)]
    everything = np.vstack([rows, *exact])
    return np.asarray(everything[int(np.argmax(_value(linear, square, everything)))])
