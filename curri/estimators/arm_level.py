"""How far the prompts of an arm have moved together: what is learned on some of them is known of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from curri.estimators.drifting_logit import Drift, LogitUpdate, bounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from curri.types import Floats, Ints

__all__ = ["ArmLevels"]

_LEAST = 1e-6
_START = 1e-4
"""Variance of a level at the start: nothing has moved yet."""


class ArmLevels:
    """The logit of a prompt is its arm's level plus what is its own; a group tells of both.

    The level of an arm is how far its prompts have moved together since the start, believed N(L, P). It drifts with
    every round, as fast and to where it did so far (:class:`curri.estimators.Drift`). What a group says of a prompt
    believed N(L + m, P + v) is as a sighting of the sum, off by a surprise d, with noise of variance r. Over the groups
    of a round,

        1/P' = 1/P + Σ 1/(v + r),    λ = P' Σ d / (v + r)              for each arm; its level is then N(L + λ, P')
        m' = m + s (d − λ),    v' = s r + s² P',    s = v / (v + r)    for each prompt

    Args:
        arms: names of the arms.
        memory: arms and rounds after which what was learned of their drift has faded to 1/e.

    Source:
        the conditional normal distribution, for a sum of two; what parts and prompts have in common afterwards is left
        out. Partial pooling (Gelman & Hill 2007), in time.
    """

    def __init__(self, arms: Sequence[str], *, memory: float) -> None:
        self._arms = tuple(arms)
        self._drift = Drift(memory=memory)
        self._mean = np.zeros(len(self._arms))
        self._variance = np.full(len(self._arms), _START)
        self._by = np.zeros((3, len(self._arms)))
        self._now = 0

    @property
    def drift(self) -> Drift:
        """How fast levels wander, and where to."""
        return self._drift

    def at(self, now: int) -> tuple[Floats, Floats]:
        """Mean and variance of each arm's level after ``now`` closed rounds, shape (arms,) each."""
        elapsed = np.full(len(self._arms), float(now - self._now))
        return bounded(*self._drift.aged(self._mean, self._variance, elapsed))

    def learn(
        self, arms: NDArray[np.integer[Any]], own: LogitUpdate, before: LogitUpdate, after: LogitUpdate, now: int
    ) -> LogitUpdate:
        """Learn from groups of different prompts after ``now`` closed rounds; gives what is their own, up to date.

        Args:
            arms: arm codes, shape (k,).
            own: own parts before, shape (k,).
            before: level and own part together, before.
            after: what :func:`curri.estimators.update_logit` made of that.
            now: closed rounds.
        """
        level, spread = self.at(now)
        n_arms, none = len(self._arms), np.zeros(len(self._arms))
        information = np.maximum(before.variance - after.variance, _LEAST) / np.square(before.variance)
        surprise = (after.mean - before.mean) / before.variance / information
        noise = np.maximum(1.0 / information - before.variance, _LEAST)
        weight = 1.0 / (own.variance + noise)
        narrow = 1.0 / (1.0 / spread + np.bincount(arms, weight, n_arms))
        moved = narrow * np.bincount(arms, weight * surprise, n_arms)
        self._learn_drift(
            np.flatnonzero(np.bincount(arms)),
            LogitUpdate(level, spread, none),
            LogitUpdate(level + moved, narrow, none),
            now,
        )
        share = own.variance * weight
        return LogitUpdate(
            mean=own.mean + share * (surprise - moved[arms]),
            variance=np.maximum(share * noise + np.square(share) * narrow[arms], _LEAST),
            log_evidence=after.log_evidence,
        )

    def _learn_drift(self, met: Ints, before: LogitUpdate, after: LogitUpdate, now: int) -> None:
        """Take over what all levels are now believed to be, and learn their drift from the arms that were met."""
        by = self._drift.aged_derivatives(self._by, np.full(len(self._arms), float(now - self._now)))
        by[:, met] = self._drift.learn(before.at(met), after.at(met), by[:, met])
        self._mean, self._variance, self._by, self._now = after.mean, after.variance, by, now

    def of_arms(self, arms: Sequence[str]) -> ArmLevels:
        """The same for other arms: those that stay keep what was learned of them."""
        moved = ArmLevels(arms, memory=self._drift.memory)
        moved._drift, moved._now = self._drift, self._now
        places = {name: place for place, name in enumerate(self._arms)}
        for place, name in enumerate(moved._arms):
            if name in places:
                at = places[name]
                moved._mean[place], moved._variance[place] = self._mean[at], self._variance[at]
                moved._by[:, place] = self._by[:, at]
        return moved

    def state(self) -> dict[str, Any]:
        """Arrays and JSON that :meth:`from_state` takes."""
        return {
            "level/arms": list(self._arms),
            "level/at": self._now,
            "level/drift": self._drift.state(),
            "level/belief": np.vstack([self._mean, self._variance, self._by]),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], *, memory: float) -> ArmLevels:
        """What :meth:`state` was taken of."""
        loaded = cls(state["level/arms"], memory=memory)
        loaded._now = int(state["level/at"])
        loaded._drift.restore(state["level/drift"])
        belief = np.array(state["level/belief"], dtype=np.float64).reshape(5, len(loaded._arms))
        loaded._mean, loaded._variance, loaded._by = belief[0], belief[1], belief[2:]
        return loaded
