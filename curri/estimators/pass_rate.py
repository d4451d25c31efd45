"""What we believe about the pass rate of each prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from curri.types import Bools, Floats, Ints

__all__ = ["PassRate"]

_LARGEST_REWARD = 1e150

_COLUMNS: dict[str, type[np.generic]] = {
    "successes": np.float64,
    "failures": np.float64,
    "reward_weight": np.float64,
    "reward_mean": np.float64,
    "reward_squares": np.float64,
    "groups": np.float64,
    "live_groups": np.float64,
    "fractional": np.bool_,
    "last_step": np.int64,
}
_DECAYING = ("successes", "failures", "reward_weight", "reward_squares", "groups", "live_groups")


class PassRate:
    """A Beta posterior on each prompt's pass rate, with evidence that fades by steps, for a whole pool in arrays.

    Prompt i starts at Beta(a_i, b_i) with a_i = α + s·r_i and b_i = β + s·(1 - r_i), where r_i is its prior rate and
    s the prior strength. Each response adds ``solved`` to the successes and 1 - ``solved`` to the failures. At each
    step the evidence, never the prior, is multiplied by ``decay``: a discounted count is a Kalman filter for a rate
    that drifts. The decay is lazy: a prompt keeps its values and the step they belong to, and only prompts that
    were seen are touched.

    Rewards are followed apart from ``solved``: their decayed mean and variance (West 1979, merged by groups as in
    Chan, Golub & LeVeque 1983), and how many groups had any variance at all.

    Args:
        n_prompts: _P, at least 0.
        prior_alpha: α in (0, inf).
        prior_beta: β in (0, inf).
        decay: in (0, 1]; 1 forgets nothing.
        prior_rate: r, shape (_P,), in [0, 1], NaN where unknown (which leaves Beta(α, β)).
        prior_strength: s in [0, inf): how many responses a prior rate is worth.

    Raises:
        InvalidParameter: an argument is out of range.

    Example:
        >>> rates = PassRate(3)
        >>> rates.update([0, 0, 2, 2], [1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0], step=0)
        >>> rates.mean([0, 1, 2], step=0)
        array([0.5 , 0.5 , 0.75])
        >>> rates.live_probability([1], n=8, step=0).round(4)
        array([0.7778])

    """

    def __init__(
        self,
        n_prompts: int,
        *,
        prior_alpha: float = 1.0,
        prior_beta: float = 1.0,
        decay: float = 1.0,
        prior_rate: ArrayLike | None = None,
        prior_strength: float = 0.0,
    ) -> None:
        _in_range("n_prompts", n_prompts, "an integer in [0, inf)", 0 <= n_prompts < np.inf)
        _in_range("prior_alpha", prior_alpha, "a float in (0, inf)", 0.0 < prior_alpha < np.inf)
        _in_range("prior_beta", prior_beta, "a float in (0, inf)", 0.0 < prior_beta < np.inf)
        _in_range("decay", decay, "a float in (0, 1]", 0.0 < decay <= 1.0)
        _in_range("prior_strength", prior_strength, "a float in [0, inf)", 0.0 <= prior_strength < np.inf)
        self._alpha, self._beta = float(prior_alpha), float(prior_beta)
        self._decay, self._strength = float(decay), float(prior_strength)
        self._size = int(n_prompts)
        self._prior_rate = None if prior_rate is None else _rates(prior_rate, self._size)
        self._columns = _empty(self._size)

    def __len__(self) -> int:
        """The number of prompts, _P."""
        return self._size

    def update(self, rows_R: ArrayLike, rewards_R: ArrayLike, solved_R: ArrayLike, step: int) -> None:
        """Fold responses; those of one row within one call are one group.

        Args:
            rows_R: shape (_R,), integers in [0, _P).
            rewards_R: shape (_R,), finite, at most 1e150 in size.
            solved_R: shape (_R,), in [0, 1], or NaN for a response that counts for the rewards only.
            step: the present step, at least 0 and not before any step these rows were updated at.

        Raises:
            InvalidParameter: an argument is out of range. Nothing is then changed.

        """
        rows, rewards, solved = self._checked(rows_R, rewards_R, solved_R)
        batch = _summarise(rows, rewards, solved)
        kept = self._kept(batch.rows, step)
        if not len(rows):
            return
        columns, at = self._columns, batch.rows
        for name in _DECAYING:
            columns[name][at] *= kept
        columns["successes"][at] += batch.successes
        columns["failures"][at] += batch.failures
        weight, mean = columns["reward_weight"][at], columns["reward_mean"][at]
        share = batch.size / (weight + batch.size)
        # Without evidence the mean is a placeholder, not a reward to measure from.
        change = np.where(weight > 0.0, batch.mean - mean, 0.0)
        columns["reward_mean"][at] = np.where(weight > 0.0, mean + change * share, batch.mean)
        columns["reward_squares"][at] += batch.squares + np.square(change) * weight * share
        columns["reward_weight"][at] += batch.size
        columns["groups"][at] += batch.size > 1
        columns["live_groups"][at] += batch.live
        columns["fractional"][at] |= batch.fractional
        columns["last_step"][at] = step

    def mean(self, rows: ArrayLike, step: int) -> Floats:
        """The posterior mean of ``solved``, a / (a + b), shape (k,)."""
        a, b = self._posterior(self._rows(rows), step)
        return np.asarray(a / (a + b))

    def variance(self, rows: ArrayLike, step: int) -> Floats:
        """The posterior variance of the pass rate, ab / ((a + b)²(a + b + 1)), shape (k,)."""
        a, b = self._posterior(self._rows(rows), step)
        total = a + b
        return np.asarray((a / total) * (b / total) / (total + 1.0))

    def reward_mean(self, rows: ArrayLike) -> Floats:
        """The mean reward, later ones weighing more (it does not change while a prompt rests); NaN if unseen."""
        at = self._rows(rows)
        return np.where(self._columns["reward_weight"][at] > 0.0, self._columns["reward_mean"][at], np.nan)

    def reward_variance(self, rows: ArrayLike) -> Floats:
        """The variance of the rewards about ``reward_mean`` (population form), shape (k,); NaN if unseen."""
        at = self._rows(rows)
        weight = self._columns["reward_weight"][at]
        seen = weight > 0.0
        return np.where(seen, self._columns["reward_squares"][at] / np.where(seen, weight, 1.0), np.nan)

    def live_probability(self, rows: ArrayLike, n: ArrayLike, step: int) -> Floats:
        """The probability that a group of n responses has any variance in its rewards.

        Where ``solved`` was only ever 0 or 1 it is 1 - (B(a+n, b) + B(a, b+n)) / B(a, b). Where it was ever a
        fraction, or rewards came without any ``solved``, it is (live + 1) / (groups + 2), from the decayed counts of
        groups of two or more responses; live ones are those whose rewards were not all exactly equal.

        Args:
            rows: shape (k,), integers in [0, _P).
            n: responses in the group, at least 0: an integer, or integers of shape (k,). Below 2 the answer is 0.
            step: the present step.

        Returns:
            Shape (k,), in [0, 1].

        Raises:
            InvalidParameter: an argument is out of range.

        """
        at = self._rows(rows)
        wanted = np.asarray(n)
        if wanted.dtype.kind not in "iu" or wanted.shape not in ((), at.shape) or np.any(wanted < 0):
            raise InvalidParameter(f"`n` of `live_probability` must be integers >= 0, one or one a row; got {n!r}")
        a, b = self._posterior(at, step)
        live = _beta_binomial_live(a, b, wanted)
        groups, live_groups = self._columns["groups"][at], self._columns["live_groups"][at]
        kept = self._kept(at, step)
        share = (live_groups * kept + 1.0) / (groups * kept + 2.0)
        unsolved = (self._columns["successes"][at] + self._columns["failures"][at] == 0.0) & (groups > 0.0)
        live = np.where(self._columns["fractional"][at] | unsolved, share, live)
        return np.where(wanted < 2, 0.0, live)

    def grow(self, old_rows: ArrayLike, n_prompts: int, *, prior_rate: ArrayLike | None = None) -> None:
        """Lay the arrays out anew: old row i becomes row ``old_rows[i]`` of ``n_prompts``; the others are at the prior.

        Args:
            old_rows: shape (_P,), distinct integers in [0, n_prompts).
            n_prompts: the new _P, at least the old one.
            prior_rate: as in the constructor, in the new layout; if None, old prompts keep theirs and new ones have
                none.

        Raises:
            InvalidParameter: rows are repeated or out of range. Nothing is then changed.

        """
        to = _row_array(old_rows, n_prompts, "old_rows")
        if len(to) != self._size or len(np.unique(to)) != len(to):
            raise InvalidParameter(f"`old_rows` of `PassRate.grow` must be {self._size} distinct rows")
        rate = None if prior_rate is None else _rates(prior_rate, n_prompts)
        if rate is None and self._prior_rate is not None:
            rate = np.full(n_prompts, np.nan)
            rate[to] = self._prior_rate
        columns = _empty(n_prompts)
        for name, column in self._columns.items():
            columns[name][to] = column
        self._columns, self._prior_rate, self._size = columns, rate, int(n_prompts)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The evidence, one array of shape (_P,) a name: the arrays themselves, not copies. The prior is not in it."""
        return dict(self._columns)

    def load(self, columns: Mapping[str, ArrayLike]) -> None:
        """Take a copy of what ``columns`` gave.

        Raises:
            InvalidParameter: names, shapes or types differ. Nothing is then changed.

        """
        if set(columns) != set(_COLUMNS):
            raise InvalidParameter(f"columns of `PassRate` are {sorted(_COLUMNS)}; got {sorted(columns)}")
        loaded = {name: np.array(columns[name]) for name in _COLUMNS}
        for name, column in loaded.items():
            if column.shape != (self._size,) or column.dtype != _COLUMNS[name]:
                raise InvalidParameter(
                    f"column `{name}` of `PassRate` must be {np.dtype(_COLUMNS[name])} of shape ({self._size},); "
                    f"got {column.dtype} {column.shape}"
                )
        self._columns = loaded

    def _rows(self, rows: ArrayLike) -> Ints:
        return _row_array(rows, self._size, "rows")

    def _checked(self, rows_R: ArrayLike, rewards_R: ArrayLike, solved_R: ArrayLike) -> tuple[Ints, Floats, Floats]:
        rows = _row_array(rows_R, self._size, "rows_R")
        rewards, solved = np.asarray(rewards_R, dtype=np.float64), np.asarray(solved_R, dtype=np.float64)
        if rewards.shape != rows.shape or solved.shape != rows.shape:
            raise InvalidParameter(
                f"rows, rewards and solved must have one shape; got {rows.shape}, {rewards.shape}, {solved.shape}"
            )
        bad = np.flatnonzero(~(np.abs(rewards) <= _LARGEST_REWARD))
        if len(bad):
            raise InvalidParameter(f"`rewards_R` must be finite, at most 1e150 in size; not so at {bad[:8].tolist()}")
        bad = np.flatnonzero(~(np.isnan(solved) | ((solved >= 0.0) & (solved <= 1.0))))
        if len(bad):
            raise InvalidParameter(f"`solved_R` must lie in [0, 1] or be NaN; not so at {bad[:8].tolist()}")
        return rows, rewards, solved

    def _kept(self, rows: Ints, step: int) -> Floats:
        """What is left by ``step`` of one unit of evidence of each row."""
        elapsed = step - self._columns["last_step"][rows]
        if step < 0 or np.any(elapsed < 0):
            raise InvalidParameter(f"`step` must be >= 0 and not before the rows' last update; got {step}")
        return np.asarray(np.power(self._decay, elapsed.astype(np.float64)))

    def _posterior(self, rows: Ints, step: int) -> tuple[Floats, Floats]:
        kept = self._kept(rows, step)
        a = self._alpha + self._columns["successes"][rows] * kept
        b = self._beta + self._columns["failures"][rows] * kept
        if self._prior_rate is not None:
            rate = self._prior_rate[rows]
            known = ~np.isnan(rate)
            a += np.where(known, self._strength * rate, 0.0)
            b += np.where(known, self._strength * (1.0 - rate), 0.0)
        return a, b


class _Batch(NamedTuple):
    """One group a row: rows ascending, shape (groups,) each."""

    rows: Ints
    size: Floats
    successes: Floats
    failures: Floats
    fractional: Bools
    mean: Floats
    squares: Floats
    live: Bools


def _summarise(rows: Ints, rewards: Floats, solved: Floats) -> _Batch:
    unique, group, count = np.unique(rows, return_inverse=True, return_counts=True)
    n_groups, size = len(unique), count.astype(np.float64)
    known = ~np.isnan(solved)
    value = np.where(known, solved, 0.0)
    partial = known & (value != 0.0) & (value != 1.0)
    low, high = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
    np.minimum.at(low, group, rewards)
    np.maximum.at(high, group, rewards)
    # Measured from the lowest reward, small differences of large rewards stay exact, and equal ones give exactly 0.
    above = rewards - low[group]
    mean = _sums(group, above, n_groups) / size
    return _Batch(
        rows=unique,
        size=size,
        successes=_sums(group, value, n_groups),
        failures=_sums(group, np.where(known, 1.0 - value, 0.0), n_groups),
        fractional=np.bincount(group, partial, n_groups) > 0.0,
        mean=low + mean,
        squares=_sums(group, np.square(above - mean[group]), n_groups),
        live=high > low,
    )


def _sums(group: NDArray[np.intp], values: Floats, n_groups: int) -> Floats:
    return np.bincount(group, values, n_groups).astype(np.float64, copy=False)


def _beta_binomial_live(a: Floats, b: Floats, n: NDArray[np.integer]) -> Floats:
    """1 - P(all n solved) - P(none solved), each a product of n factors."""
    every, none = np.ones_like(a), np.ones_like(a)
    for i in range(int(n.max(initial=0))):
        more = i < n
        every *= np.where(more, (a + i) / (a + b + i), 1.0)
        none *= np.where(more, (b + i) / (a + b + i), 1.0)
    return np.clip(1.0 - every - none, 0.0, 1.0)


def _empty(size: int) -> dict[str, NDArray[Any]]:
    return {name: np.zeros(size, dtype=kind) for name, kind in _COLUMNS.items()}


def _in_range(name: str, value: object, allowed: str, fine: bool) -> None:  # noqa: FBT001
    if isinstance(value, bool) or not fine:
        raise InvalidParameter(f"`{name}` of `PassRate` must be {allowed}; got {value!r}")


def _rates(values: ArrayLike, size: int) -> Floats:
    rates = np.array(values, dtype=np.float64)
    if rates.shape != (size,) or not np.all(np.isnan(rates) | ((rates >= 0.0) & (rates <= 1.0))):
        raise InvalidParameter(f"`prior_rate` of `PassRate` must lie in [0, 1] or be NaN, shape ({size},)")
    return rates


def _row_array(values: ArrayLike, size: int, name: str) -> Ints:
    rows = np.asarray(values)
    if rows.size == 0:
        return np.empty(0, dtype=np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or int(rows.min()) < 0 or int(rows.max()) >= size:
        raise InvalidParameter(f"`{name}` of `PassRate` must be integers in [0, {size}), shape (k,); got {values!r}")
    return rows.astype(np.int64)
