"""A pass rate that forgets by visits, not by steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from curri.types import Floats

__all__ = ["DecayedPassRate"]


class DecayedPassRate:
    """p̂ = (n⁺ + α) / (n + α + β) from counts that fade whenever a prompt is visited (Reinforce-Ada-Est).

    At each visit n ← λ·n + drawn and n⁺ ← λ·n⁺ + positive (arXiv 2510.04996 v3, Algorithm 1). The paper gives no
    numbers; the defaults are those of the authors' code. A prompt that is not visited keeps its counts. A prompt never
    seen counts as α / (α + β) = 1/17: so hard that it is given many rollouts.

    The counts of prompts are kept by their ids; ``mean_of`` and ``folded`` do the same for counts kept elsewhere.

    Args:
        alpha: α, finite, at least 0.
        beta: β, finite, at least 0.
        decay: λ, in [0, 1]; 1 forgets nothing.

    Raises:
        InvalidParameter: an argument is out of range.

    Example:
        >>> rates = DecayedPassRate()
        >>> rates.update([5, 5, 5, 5, 8, 8], [1, 1, 0, 1, 0, 0])
        >>> rates.mean([5, 8, 99]).round(4)
        array([0.1905, 0.0526, 0.0588])
        >>> rates.update([5], [0])
        >>> rates.counts([5])
        (array([4.6]), array([2.7]))

    """

    def __init__(self, alpha: float = 1.0, beta: float = 16.0, decay: float = 0.9) -> None:
        for name, value in (("alpha", alpha), ("beta", beta)):
            if isinstance(value, bool) or not 0.0 <= value < math.inf:
                raise InvalidParameter(f"`{name}` of `DecayedPassRate` must be a float in [0, inf); got {value!r}")
        if isinstance(decay, bool) or not 0.0 <= decay <= 1.0:
            raise InvalidParameter(f"`decay` of `DecayedPassRate` must be a float in [0, 1]; got {decay!r}")
        self.alpha, self.beta, self.decay = float(alpha), float(beta), float(decay)
        self._ids: NDArray[Any] = np.empty(0, dtype=np.int64)
        self._total = np.empty(0)
        self._positive = np.empty(0)

    def __len__(self) -> int:
        """The number of prompts seen."""
        return int(self._ids.size)

    def mean_of(self, n_total: ArrayLike, n_positive: ArrayLike) -> Floats:
        """p̂ of given counts, of their shape; NaN where there is neither evidence nor a prior."""
        total = np.asarray(n_total, dtype=np.float64) + self.alpha + self.beta
        positive = np.asarray(n_positive, dtype=np.float64) + self.alpha
        known = total > 0.0
        return np.where(known, positive / np.where(known, total, 1.0), np.nan)

    def folded(
        self, n_total: ArrayLike, n_positive: ArrayLike, *, drawn: ArrayLike, positive: ArrayLike
    ) -> tuple[Floats, Floats]:
        """The counts after one visit: λ·n + drawn and λ·n⁺ + positive."""
        total = self.decay * np.asarray(n_total, dtype=np.float64) + np.asarray(drawn)
        return total, self.decay * np.asarray(n_positive, dtype=np.float64) + np.asarray(positive)

    def update(self, ids: ArrayLike, positive: ArrayLike) -> None:
        """Fold responses; those of one prompt within one call are one visit.

        Args:
            ids: prompt of each response, integers or names, shape (_R,).
            positive: 1 right, 0 wrong, or anything between, shape (_R,).

        Raises:
            InvalidParameter: shapes differ, or a value lies outside [0, 1]. Nothing is then changed.

        """
        names, values = self._named(ids), np.asarray(positive, dtype=np.float64)
        if values.shape != names.shape or not np.all((values >= 0.0) & (values <= 1.0)):
            raise InvalidParameter("`positive` of `DecayedPassRate.update` must lie in [0, 1], one entry a response")
        if not names.size:
            return
        visited, group, drawn = np.unique(names, return_inverse=True, return_counts=True)
        self._add(visited)
        at = np.searchsorted(self._ids, visited)
        self._total[at], self._positive[at] = self.folded(
            self._total[at], self._positive[at], drawn=drawn, positive=np.bincount(group, values, visited.size)
        )

    def mean(self, ids: ArrayLike) -> Floats:
        """p̂ of prompts, shape of ``ids``; α / (α + β) for those never seen."""
        return self.mean_of(*self.counts(ids))

    def counts(self, ids: ArrayLike) -> tuple[Floats, Floats]:
        """(n, n⁺) of prompts, each of the shape of ``ids``; 0 for those never seen."""
        names = self._named(ids)
        if not self._ids.size:
            return np.zeros(names.shape), np.zeros(names.shape)
        at = np.minimum(np.searchsorted(self._ids, names), self._ids.size - 1)
        seen = self._ids[at] == names
        return np.where(seen, self._total[at], 0.0), np.where(seen, self._positive[at], 0.0)

    def state(self) -> dict[str, NDArray[Any]]:
        """What ``load`` needs: ids, and their counts."""
        return {"ids": self._ids.copy(), "total": self._total.copy(), "positive": self._positive.copy()}

    def load(self, state: Mapping[str, ArrayLike]) -> None:
        """Take a copy of what ``state`` gave.

        Raises:
            InvalidParameter: it has other keys or shapes. Nothing is then changed.

        """
        if set(state) != {"ids", "total", "positive"}:
            raise InvalidParameter(
                f'a state of `DecayedPassRate` holds "ids", "total", "positive"; got {sorted(state)}'
            )
        ids = np.array(state["ids"])
        total, positive = (np.array(state[name], dtype=np.float64) for name in ("total", "positive"))
        if ids.ndim != 1 or not ids.shape == total.shape == positive.shape or np.any(ids[1:] <= ids[:-1]):
            raise InvalidParameter(
                "this state does not fit a `DecayedPassRate`: ids must be ascending, with two counts each"
            )
        self._ids, self._total, self._positive = ids, total, positive

    def _named(self, ids: ArrayLike) -> NDArray[Any]:
        names = np.asarray(ids)
        if not names.size:
            return np.empty(names.shape, dtype=self._ids.dtype)
        textual = names.dtype.kind == "U"
        if names.dtype.kind not in "iuU" or (self._ids.size and textual != (self._ids.dtype.kind == "U")):
            raise InvalidParameter(f"`ids` of `DecayedPassRate` must be integers, or all names; got {names.dtype}")
        return names

    def _add(self, ids: NDArray[Any]) -> None:
        """Make room for prompts that were never seen."""
        if not self._ids.size:
            self._ids, self._total, self._positive = ids, np.zeros(ids.size), np.zeros(ids.size)
            return
        everyone = np.union1d(self._ids, ids)
        if everyone.size > self._ids.size:
            at = np.searchsorted(everyone, self._ids)
            for name in ("_total", "_positive"):
                grown = np.zeros(everyone.size)
                grown[at] = getattr(self, name)
                setattr(self, name, grown)
            self._ids = everyone
