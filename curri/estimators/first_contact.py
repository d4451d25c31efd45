"""What is believed of a prompt before its first group: from its arm, and from another model's pass rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from curri.estimators.drifting_logit import LogitUpdate
    from curri.types import Bools, Floats, Ints

__all__ = ["FirstContact", "prior_logit"]

_CLIPPED = 0.004
"""A rate nearer to 0 or 1 than this, which is half a response of 128, is taken as this."""
_BOLDEST = 0.5


def prior_logit(rates: Floats) -> Floats:
    """The logit of another model's pass rates, shape of ``rates``; NaN stays NaN.

    >>> prior_logit(np.array([0.5, 0.0])).round(2)
    array([ 0.  , -5.52])
    """
    clipped = np.clip(rates, _CLIPPED, 1.0 - _CLIPPED)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


class FirstContact:
    """A regression of the first group's logit on the arm and on the logit x of an imported pass rate.

        logit of a prompt of arm a  ~  N(b + d_a + c·x + e·[x known],  v_known or v_unknown)

    b is common to all arms and d_a ~ N(0, τ²) an arm's own, so that an arm with no groups yet is taken to be like the
    others, and one with few is drawn towards them. c calibrates the other model: 1 takes its logits as they are, 0 does
    not believe it. All are learned from first groups by recursive maximum likelihood; the two variances are what the
    regression leaves open, and τ² is how far apart arms turned out to lie (a step of EM a round; the start is one arm).

    Args:
        arms: names of the arms.
        spread: τ to start from, logits.

    Source:
        partial pooling (Gelman & Hill 2007), with an imported pass rate as a covariate.
    """

    # Start: b 0 ± 3, c ½ ± ½, e 0 ± 1, and variances of 4, known to about ±1 in their logarithm.
    _COMMON = np.array([0.0, 0.5, 0.0])
    _SURE = np.array([1 / 9, 4.0, 1.0])

    def __init__(self, arms: Sequence[str], *, spread: float = 1.0) -> None:
        self._arms = tuple(arms)
        self._start = spread
        self._spread = spread**2
        self._common = self._COMMON.copy()
        self._information = np.diag(self._SURE)
        self._own = np.zeros(len(self._arms))
        self._told = np.zeros(len(self._arms))
        self._crossed = np.zeros((len(self._arms), 3))
        self._log_variance = np.log([4.0, 4.0])
        self._sure_of_variance = np.ones(2)

    @property
    def slope(self) -> float:
        """c: how much of a difference in the other model's logits is found again."""
        return float(self._common[1])

    @property
    def _own_information(self) -> Floats:
        """About each arm's own part: of its first groups, and that arms are not that far apart."""
        return self._told + 1.0 / self._spread

    def believed(self, arms: NDArray[np.integer[Any]], logits: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of the logit of prompts nothing was told of.

        Args:
            arms: arm codes, shape (k,).
            logits: x, NaN where none is known, shape (k,).
        """
        x, known = _filled(logits)
        common, slope, step = self._common
        return common + slope * x + step * known + self._own[arms], np.exp(self._log_variance)[known.astype(np.int64)]

    def learn(self, arms: NDArray[np.integer[Any]], logits: Floats, before: LogitUpdate, after: LogitUpdate) -> None:
        """Learn from first groups: ``before`` is what was believed of their prompts, ``after`` what they made of it."""
        features, known = _features(logits)
        m, v = before.mean, before.variance
        slope = (after.mean - m) / v
        bend = (np.square(after.mean - m) + after.variance - v) / (2.0 * v * v)
        known_m = np.maximum(v - after.variance, 0.0) / (v * v)
        n_arms = len(self._arms)
        for column in range(3):
            weighted = features[:, column] * known_m
            self._crossed[:, column] += np.bincount(arms, weighted, n_arms)
            self._information[column] += (features * weighted[:, None]).sum(axis=0)
        self._told += np.bincount(arms, known_m, n_arms)
        own = np.asarray(np.bincount(arms, slope, n_arms), dtype=np.float64)
        self._step((features * slope[:, None]).sum(axis=0), own)
        met = self._told > 0.0
        apart = float((np.square(self._own) + 1.0 / self._own_information)[met].sum())
        self._spread = (self._start**2 + apart) / (1.0 + int(np.count_nonzero(met)))
        of_log = v * bend
        for kind in (0, 1):
            mine = known == kind
            self._sure_of_variance[kind] += float((0.5 * np.square(v * known_m))[mine].sum())
            step = float(of_log[mine].sum() / self._sure_of_variance[kind])
            self._log_variance[kind] += min(max(step, -_BOLDEST), _BOLDEST)
        self._log_variance = np.clip(self._log_variance, np.log(1e-2), np.log(25.0))

    def _step(self, common: Floats, own: Floats) -> None:
        """One Newton step for all coefficients; the arms' own are eliminated first, as none of them meets another."""
        weight = self._crossed / self._own_information[:, None]
        reduced = self._information - (self._crossed[:, :, None] * weight[:, None, :]).sum(axis=0)
        move = np.linalg.solve(reduced, common - (weight * own[:, None]).sum(axis=0))
        self._common = self._common + move
        self._own = self._own + own / self._own_information - (weight * move).sum(axis=1)

    def of_arms(self, arms: Sequence[str]) -> FirstContact:
        """The same for other arms: those that stay keep what was learned of them."""
        moved = FirstContact(arms, spread=self._start)
        moved._spread = self._spread
        moved._common, moved._information = self._common, self._information
        moved._log_variance, moved._sure_of_variance = self._log_variance, self._sure_of_variance
        places = {name: place for place, name in enumerate(self._arms)}
        for place, name in enumerate(moved._arms):
            if name in places:
                moved._own[place] = self._own[places[name]]
                moved._told[place] = self._told[places[name]]
                moved._crossed[place] = self._crossed[places[name]]
        return moved

    def state(self) -> dict[str, Any]:
        """Arrays and JSON that :meth:`from_state` takes."""
        return {
            "first/arms": list(self._arms),
            "first/common": self._common.copy(),
            "first/information": self._information.copy(),
            "first/own": np.column_stack([self._own, self._told, self._crossed]),
            "first/spread": self._spread,
            "first/variance": np.stack([self._log_variance, self._sure_of_variance]),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], *, spread: float) -> FirstContact:
        """What :meth:`state` was taken of."""
        loaded = cls(state["first/arms"], spread=spread)
        own = np.asarray(state["first/own"], dtype=np.float64).reshape(len(loaded._arms), 5)
        loaded._common = np.array(state["first/common"], dtype=np.float64).reshape(3)
        loaded._information = np.array(state["first/information"], dtype=np.float64).reshape(3, 3)
        loaded._spread = float(state["first/spread"])
        loaded._own, loaded._told, loaded._crossed = own[:, 0].copy(), own[:, 1].copy(), own[:, 2:].copy()
        loaded._log_variance, loaded._sure_of_variance = np.array(state["first/variance"], dtype=np.float64).reshape(
            2, 2
        )
        return loaded


def _features(logits: Floats) -> tuple[Floats, Ints]:
    """1, x and whether it is known, shape (k, 3); and 1 where it is known, else 0, shape (k,)."""
    x, known = _filled(logits)
    return np.stack([np.ones(logits.size), x, known], axis=1), known.astype(np.int64)


def _filled(logits: Floats) -> tuple[Floats, Bools]:
    """x, 0 where it is not known, and whether it is known, shape (k,) each."""
    known = ~np.isnan(logits)
    return np.where(known, logits, 0.0), known
