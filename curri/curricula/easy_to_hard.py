"""``easy-to-hard``: levels by a schedule in time, after E2H (arXiv 2506.06632)."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.curricula.by_arm import ArmEpochs, draw_switch
from curri.errors import InvalidParameter, did_you_mean
from curri.parameters import choice, integer, names, real, switch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from curri.curricula.base import Request
    from curri.pool import PromptPool
    from curri.types import Floats, Ints

SCHEDULES = ("cosine", "gaussian", "classic", "balanced")


class EasyToHard(ArmEpochs):
    """Moves from easy levels to hard ones as training goes on, whatever the outcomes.

    The arms are levels 0 (easiest) to K - 1. In round t of T (rounds closed, at most T) level k has the probability

        cosine    a·(K - k)/S + (1 - a)·(k + 1)/S,   a = (1 + cos(π t/T)) / 2,   S = K(K + 1)/2,
        gaussian  f + (1 - K f)·g_k / Σ g,           g_k = exp(-(k - μ)² / (2σ²)),   μ = (t/T)^β·(K - 1),   f = 1/S,
        classic   1 for k = min(⌊t K/T⌋, K - 1), else 0,
        balanced  1/K.

    "cosine" never gives a level less than 1/S; "gaussian" fades easy levels out, down to the floor f (0 with ``floor``
    off). After round T the last mixture stays. Inside a level no prompt comes again before all of them came.

    Which level is how hard is said by ``levels``, from easy to hard; arms that it leaves out get nothing (counted as
    ``fallback/arms_unlisted``). Otherwise the arms' mean prior pass rates order them; arms without one come last, by
    name, with numbers in names as numbers (``fallback/levels_by_name``). Levels without prompts to pick pass their
    share on to the others, in proportion.

    Where paper, released code and this implementation differ:

    * The code draws a level for every slot ("successive"); "systematic" has the same expectation with less noise.
    * The code walks through a level in one shuffled order again and again, and may give a prompt twice in a batch. Here
      every epoch has a new order, and the prompts of a batch are distinct.
    * The code's t counts optimiser iterations from 0 to T - 1; here it counts closed rounds. T has to be set to the
      length of the run.

    >>> from curri import PromptPool
    >>> levels = EasyToHard(PromptPool(range(30), ["n=2", "n=10", "n=5"] * 10), horizon=2)
    >>> [round(levels.arm_weights[level], 3) for level in ("n=2", "n=5", "n=10")]
    [0.5, 0.333, 0.167]
    >>> levels.advance(), levels.advance()
    (None, None)
    >>> [round(levels.arm_weights[level], 3) for level in ("n=2", "n=5", "n=10")]
    [0.167, 0.333, 0.5]
    """

    name: ClassVar[str] = "easy-to-hard"
    summary: ClassVar[str] = "levels from easy to hard by a schedule in time (E2H)"
    source: ClassVar[str] = "E2H, arXiv 2506.06632"

    schedule: str = choice(
        default="cosine",
        of=SCHEDULES,
        doc="how the mixture of levels moves",
        source="released code: cosine; the paper's E2H-G is gaussian",
    )
    levels: list[str] | None = names(default=None, doc="arms from easy to hard; by prior pass rate if not given")
    horizon: int = integer(
        default=500, low=1, symbol="T", doc="rounds until the schedule ends; set it to the length of the run"
    )
    exponent: float = real(
        default=0.5, above=0.0, symbol="β", doc="gaussian: below 1 moves fast at first", source="E2H, released code"
    )
    width: float = real(
        default=0.5, low=1e-3, symbol="σ", doc="gaussian: spread over levels", source="E2H, released code"
    )
    floor: bool = switch(
        default=True, doc="gaussian: least share 2/(K(K + 1)) for every level", source="E2H, released code"
    )
    draw: str = draw_switch(of=("systematic", "successive"), source="released code: successive")

    more_weight: ClassVar[str] = 'a `schedule` other than "classic"'

    # ---- picking ------------------------------------------------------------------------------------------------

    def _arm_weights(self, supply: Ints) -> Floats:
        weights = np.zeros(supply.shape)
        shares = level_shares(
            self.schedule,
            self._progress,
            self._n_levels,
            exponent=self.exponent,
            width=self.width,
            floor=self.floor,
        )
        weights[self._arms_in_order] = shares[self._level_of_arm]
        weights[supply == 0] = 0.0
        return np.asarray(weights / (weights.sum() or 1.0))

    @property
    def _progress(self) -> float:
        """Part of the schedule that is behind, in [0, 1]."""
        return min(self._rounds_closed, self.horizon) / self.horizon

    def _counted(self, request: Request) -> tuple[Ints, Floats]:
        self._check_levels()
        return super()._counted(request)

    def _expect_quota(self) -> None:
        self._check_levels()

    def _check_levels(self) -> None:
        """Say where the order of the levels is a guess, or leaves arms out; refuse levels the pool has none of."""
        if self.levels is None:
            if self._n_without_prior and self._n_levels > 1:
                self._fall_back(
                    "levels_by_name",
                    f"{self._n_without_prior} of {self._n_levels} arms have no prior pass rate; they come last, in the "
                    "order of their names (give `levels`, or import pass rates)",
                )
            return
        if not self._arms_in_order.size:
            raise InvalidParameter(
                f'`levels` of `EasyToHard` must name arms of the pool; got "{self.levels[0]}"',
                hint=did_you_mean(self.levels[0], self.pool.arm_names),
            )
        left_out = np.setdiff1d(np.flatnonzero(self.pool.arm_sizes), self._arms_in_order)
        if left_out.size:
            names_ = ", ".join(f'"{self.pool.arm_names[arm]}"' for arm in left_out[:3].tolist())
            self._fall_back(
                "arms_unlisted", f"{left_out.size} arms are not among `levels` and get no prompts, such as {names_}"
            )

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        super()._set_up()
        rates = _mean_priors(self.pool)
        self._n_without_prior = int(np.isnan(rates).sum())
        if self.levels is None:
            order = by_difficulty(self.pool.arm_names, rates)
            levels = list(range(len(order)))
        else:
            known = {name: code for code, name in enumerate(self.pool.arm_names)}
            levels = [level for level, name in enumerate(self.levels) if name in known]
            order = [known[self.levels[level]] for level in levels]
        self._n_levels = len(levels) if self.levels is None else len(self.levels)
        self._arms_in_order = np.array(order, dtype=np.int64)
        self._level_of_arm = np.array(levels, dtype=np.int64)

    def _own_metrics(self) -> dict[str, float]:
        weights = self._arm_weights(self.pool.arm_sizes)[self._arms_in_order]
        return {
            **super()._own_metrics(),
            "progress": self._progress,
            "mean_level": float(weights @ self._level_of_arm),
        }

    def _explain(self, row: int) -> dict[str, Any]:
        place = np.flatnonzero(self._arms_in_order == self.pool.arms[row])
        level = int(self._level_of_arm[place[0]]) if place.size else None
        return {**super()._explain(row), "level": level, "levels": self._n_levels, "progress": self._progress}


def level_shares(
    schedule: str, progress: float, n_levels: int, *, exponent: float = 0.5, width: float = 0.5, floor: bool = True
) -> Floats:
    """Probabilities of the levels at t/T (E2H, arXiv 2506.06632; formulas in :class:`EasyToHard`).

    Args:
        schedule: one of "cosine", "gaussian", "classic", "balanced".
        progress: t/T, in [0, 1].
        n_levels: K, at least 0.
        exponent: β of "gaussian".
        width: σ of "gaussian", in levels.
        floor: whether "gaussian" keeps every level at 2/(K(K + 1)) or more.

    Returns:
        Shape (K,), adding up to 1.

    Raises:
        InvalidParameter: an unknown schedule.

    >>> level_shares("cosine", 0.0, 3).round(3), level_shares("classic", 0.5, 4)
    (array([0.5  , 0.333, 0.167]), array([0., 0., 1., 0.]))
    """
    level = np.arange(n_levels)
    ramp = (level + 1.0) / max(n_levels * (n_levels + 1) / 2.0, 1.0)
    if schedule == "balanced":
        return np.full(n_levels, 1.0 / max(n_levels, 1))
    if schedule == "classic":
        now = min(int(progress * n_levels + 1e-9), n_levels - 1)
        return np.asarray(level == now, dtype=np.float64)
    if schedule == "cosine":
        early = 0.5 * (1.0 + math.cos(math.pi * progress))
        return np.asarray(early * ramp[::-1] + (1.0 - early) * ramp)
    if schedule == "gaussian":
        distance = (level - progress**exponent * (n_levels - 1)) / width
        bell = np.exp(-0.5 * (distance**2 - np.min(distance**2, initial=np.inf)))
        least = float(ramp[0]) if floor and n_levels else 0.0
        return np.asarray(least + (1.0 - n_levels * least) * bell / max(bell.sum(), 1.0))
    raise InvalidParameter(f"`schedule` of `level_shares` must be one of {', '.join(SCHEDULES)}; got {schedule!r}")


def by_difficulty(arm_names: Sequence[str], rates: Floats) -> list[int]:
    """Codes of the arms from easy to hard: by falling pass rate, those without one (NaN) last, equal ones by name.

    >>> by_difficulty(["n=10", "n=9", "hard", "easy"], np.array([np.nan, np.nan, 0.1, 0.8]))
    [3, 2, 1, 0]
    """

    def key(arm: int) -> tuple[bool, float, list[int | str]]:
        unknown = bool(np.isnan(rates[arm]))
        parts = re.split(r"([0-9]+)", arm_names[arm])
        return unknown, 0.0 if unknown else -float(rates[arm]), [int(p) if i % 2 else p for i, p in enumerate(parts)]

    return sorted(range(len(arm_names)), key=key)


def _mean_priors(pool: PromptPool) -> Floats:
    """Mean prior pass rate of each arm, NaN where no prompt of it has one, shape (_A,)."""
    n_arms, prior_P = len(pool.arm_names), pool.prior_rate
    if prior_P is None:
        return np.full(n_arms, np.nan)
    known = ~np.isnan(prior_P)
    count = np.bincount(pool.arms[known], minlength=n_arms)
    total = np.bincount(pool.arms[known], prior_P[known], n_arms)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
