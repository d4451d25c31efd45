"""How many runs each surrogate needs, and what it costs to be sure."""

from __future__ import annotations

from dataclasses import dataclass

from curri.errors import InvalidParameter
from curri.mixtures.surrogates import SURROGATES

__all__ = ["Need", "plan_runs"]


@dataclass(frozen=True, slots=True)
class Need:
    """What one surrogate needs.

    Attributes:
        surrogate: its name.
        summary: what it is.
        minimum: fewest different mixtures it can be fitted to.
        sensible: how many it takes before it is worth its name.
        possible: whether the planned runs are at least ``minimum``; None where no number was given.
        enough: whether they are at least ``sensible``; None where no number was given.
    """

    surrogate: str
    summary: str
    minimum: int
    sensible: int
    possible: bool | None
    enough: bool | None


def plan_runs(m: int, mixtures: int | None = None) -> list[Need]:
    """What every surrogate needs for m arms.

    The sensible numbers: two runs a parameter for regressions and plain quadratics, whose error peaks where runs and
    parameters are equally many; Olmix's swarm of 3(m + 1) runs for what shrinks many parameters; the held-out figures
    of the specification (5.2) for the rest.

    Args:
        m: arms, at least 1.
        mixtures: how many different mixtures are planned, replicates left out.

    Raises:
        InvalidParameter: m is below 1.

    Example:
        >>> [(each.surrogate, each.minimum, each.sensible) for each in plan_runs(5) if each.surrogate == "scheffe"]
        [('scheffe', 15, 30)]

    """
    if m < 1:
        raise InvalidParameter(f"`m` of `plan_runs` must be an int in [1, inf); got {m!r}")
    swarm, parameters = 3 * (m + 1), m * (m + 1) // 2
    sensible = {
        "mean": 2,
        "linear": 2 * m,
        "loglinear": 4 * m,
        "quadratic": swarm,
        "quadratic-ols": 2 * parameters,
        "scheffe": 2 * parameters,
        "lightgbm": max(100, 6 * m),
        "gp": 2 * m,
    }
    found = []
    for name, kind in SURROGATES.items():
        least = kind.minimum_runs(m)
        wanted = max(least, sensible.get(name, swarm))
        enough = (None, None) if mixtures is None else (mixtures >= least, mixtures >= wanted)
        found.append(Need(name, kind.summary, least, wanted, *enough))
    return found
