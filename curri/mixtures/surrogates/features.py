"""Features of mixtures for the regressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from curri.types import Floats

__all__ = ["loglinear", "products", "scheffe"]

LOG_OFFSET = 0.01
"""ln(w + 0.01): how the log of an unused arm is kept finite."""


def loglinear(rows: Floats) -> Floats:
    """[w, ln(w + 0.01)], shape (R, 2m): diminishing returns of each arm."""
    return np.hstack([rows, np.log(rows + LOG_OFFSET)])


def products(rows: Floats) -> Floats:
    """[w_i w_j for i ≤ j], shape (R, m(m+1)/2), row by row of the upper triangle."""
    first, second = np.triu_indices(rows.shape[1])
    return np.asarray(rows[:, first] * rows[:, second])


def scheffe(rows: Floats) -> Floats:
    """[w, w_i w_j for i < j], shape (R, m(m+1)/2): Scheffé's quadratic, which has one parameter a column.

    On the simplex it spans the same functions as [1, w, w ⊗ w], which has 1 + m + m(m+1)/2 columns but the same rank.

    Example:
        >>> scheffe(np.array([[0.25, 0.75]]))
        array([[0.25  , 0.75  , 0.1875]])

    """
    first, second = np.triu_indices(rows.shape[1], k=1)
    return np.hstack([rows, rows[:, first] * rows[:, second]])


def quadratic_from_scheffe(coefficients: Floats, m: int) -> tuple[float, Floats, Floats]:
    """(a, b, C) of the function with these coefficients of :func:`scheffe`."""
    first, second = np.triu_indices(m, k=1)
    square = np.zeros((m, m))
    square[first, second] = coefficients[m:] / 2.0
    return 0.0, coefficients[:m].copy(), square + square.T


def quadratic_from_products(constant: float, linear: Floats, coefficients: Floats) -> tuple[float, Floats, Floats]:
    """(a, b, C) of constant + linear'w + coefficients'products(w)."""
    first, second = np.triu_indices(linear.size)
    square = np.zeros((linear.size, linear.size))
    square[first, second] = coefficients / 2.0
    return constant, linear, square + square.T
