"""What a strategy is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curri.types import Floats, Ints, Kind


@dataclass(frozen=True, eq=False)
class Request:
    """One ``ask``, checked: the supply is there.

    Attributes:
        n: how many prompts.
        kind: "train" or "probe".
        excluded: rows that may not be picked, distinct, ascending.
        supply: prompts of each arm that may be picked, shape (_A,).
        quota: how many of each arm, shape (_A,), or None.
    """

    n: int
    kind: Kind
    excluded: Ints
    supply: Ints
    quota: Ints | None


@dataclass(frozen=True, eq=False)
class Picked:
    """A strategy's answer to a request.

    Attributes:
        rows: distinct rows of the pool, shape (_B,).
        probability: inclusion probabilities, shape (_B,); NaN where there is no closed form.
        n_rollouts: rollouts for each, shape (_B,), or None for ``group_size`` each.
    """

    rows: Ints
    probability: Floats
    n_rollouts: Ints | None = None
