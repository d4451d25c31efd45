"""How often a mixture repeats each dataset in a training run, and which one runs out first.

MoDoMoDo stops training when one dataset is exhausted, so its runs on a small dataset alone were also shorter runs: the
surrogate then learns the effect of training length and calls it the effect of the mixture. Say it before the runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter
from curri.mixtures.simplex import checked_mixtures

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats, Ints

__all__ = ["Exhaustion", "exhaustion", "weight_caps"]

_SLACK = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Exhaustion:
    """What a training length means for each mixture.

    Attributes:
        epochs: how often each dataset is gone through, shape (R, m).
        first: the arm that runs out first, shape (R,).
        stop_step: the step at which that happens, at most the run's length, shape (R,).
        early: whether that is before the end of training, shape (R,).
    """

    epochs: Floats
    first: Ints
    stop_step: Ints
    early: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def weight_caps(sizes: ArrayLike, prompts: float, *, max_epochs: float = 1.0) -> Floats:
    """The largest weight of each arm that is not gone through more than ``max_epochs`` times: min(1, e·N_j / prompts).

    Args:
        sizes: N, prompts in each dataset, shape (m,), at least 0; infinite where there is no limit.
        prompts: prompts that the whole run consumes: steps × prompts a step.
        max_epochs: e > 0.

    Returns:
        Shape (m,), in [0, 1].

    Raises:
        InvalidParameter: a number is out of range.

    Example:
        >>> weight_caps([1326, 15000], 2000 * 2)
        array([0.3315, 1.    ])

    """
    return np.asarray(np.minimum(1.0, _checked(sizes, prompts, max_epochs) * max_epochs / prompts))


def exhaustion(
    weights: ArrayLike, sizes: ArrayLike, steps: int, prompts_per_step: float, *, max_epochs: float = 1.0
) -> Exhaustion:
    """How often each mixture goes through each dataset, and when the first of them runs out.

    Args:
        weights: shape (R, m) or (m,).
        sizes: prompts in each dataset, shape (m,).
        steps: length of training.
        prompts_per_step: prompts in a batch.
        max_epochs: how often a dataset may be gone through.

    Raises:
        InvalidParameter: a number is out of range.

    Example:
        >>> found = exhaustion([[1.0, 0.0], [0.2, 0.8]], [1326, 15000], 2000, 2)
        >>> found.stop_step.tolist(), found.early.tolist(), found.epochs[0, 0].round(2).item()
        ([663, 2000], [True, False], 3.02)

    """
    if steps < 1:
        raise InvalidParameter(f"`steps` of `exhaustion` must be an int in [1, inf); got {steps!r}")
    held = _checked(sizes, steps * prompts_per_step, max_epochs)
    rows = checked_mixtures(weights, owner="exhaustion", arms=len(held))
    drawn = rows * (steps * prompts_per_step)
    epochs = np.divide(drawn, held, out=np.where(drawn > 0, np.inf, 0.0), where=held > 0)
    first = epochs.argmax(axis=1)
    highest = epochs.max(axis=1)
    ratio = np.divide(max_epochs, highest, out=np.full(len(rows), np.inf), where=highest > 0)
    stop = np.floor(np.minimum(1.0, ratio) * steps + _SLACK).astype(np.int64)
    return Exhaustion(epochs, np.asarray(first, dtype=np.int64), stop, np.asarray(ratio < 1.0 - _SLACK))


def _checked(sizes: ArrayLike, prompts: float, max_epochs: float) -> Floats:
    held = np.asarray(sizes, dtype=np.float64)
    if held.ndim != 1 or not held.size or not (held >= 0.0).all():
        raise InvalidParameter(f"`sizes` must be counts of prompts, shape (arms,); got {sizes!r}")
    if not 0.0 < prompts < np.inf or not 0.0 < max_epochs < np.inf:
        raise InvalidParameter("prompts of a run and `max_epochs` must be above 0 and finite")
    return held
