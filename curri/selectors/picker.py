"""Weighted draws of distinct prompts from a pool, with known inclusion probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from curri.errors import InvalidParameter
from curri.selectors.hashing import stable_hash
from curri.selectors.sum_tree import SumTree

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from curri.types import Floats, Ints

__all__ = ["Draw", "DrawMethod", "WeightedPicker"]

DrawMethod: TypeAlias = Literal["systematic", "successive"]
_METHODS = get_args(DrawMethod)

_NEARLY = 1e-9


@dataclass(frozen=True, eq=False)
class Draw:
    """Distinct rows with the probability each had of being among them.

    Attributes:
        rows: shape (k,), int64.
        probability: shape (k,), float64 in (0, 1]: the inclusion probability given the weights, or NaN where it has
            no closed form.

    """

    rows: Ints
    probability: Floats


class WeightedPicker:
    """Draw k of N rows by weight, and change k weights, each in O(k log N).

    Rows are positions in ``ids``. The leaves of the tree lie in a seeded order (by arm, then by
    ``stable_hash(ids, seed)``), a function of the ids, arms and seed alone; systematic draws walk along it.

    Args:
        ids: shape (N,), integers in strictly ascending order.
        weights: shape (N,), finite and at least 0 (see ``SumTree``); or one number for all.
        seed: fixes the order.
        arms: shape (N,), integer codes; rows of one arm can then be drawn from with ``draw(..., arm=code)``.

    Raises:
        InvalidParameter: shapes differ, ids are not ascending, or a weight is out of range.

    Example:
        >>> picker = WeightedPicker([10, 20, 30], [1.0, 0.0, 5.0], seed=0)
        >>> draw = picker.draw(2, np.random.default_rng(0))
        >>> sorted(draw.rows.tolist()), draw.probability.tolist()
        ([0, 2], [1.0, 1.0])
        >>> picker.update([1], [2.0])
        >>> picker.weights_at([0, 1, 2])
        array([1., 2., 5.])

    """

    def __init__(self, ids: ArrayLike, weights: ArrayLike, *, seed: int, arms: ArrayLike | None = None) -> None:
        ids_P = np.asarray(ids)
        hash_P = stable_hash(ids_P, seed)
        if np.any(ids_P[1:] <= ids_P[:-1]):
            raise InvalidParameter("`ids` of `WeightedPicker` must be in strictly ascending order")
        size = len(ids_P)
        given = np.asarray(weights, dtype=np.float64)
        if given.shape not in ((), (size,)):
            raise InvalidParameter(f"`weights` of `WeightedPicker` must have shape ({size},); got {given.shape}")
        order = np.argsort(hash_P)
        self._codes = np.zeros(1 if size else 0, dtype=np.int64)
        self._bounds = np.array([0, size] if size else [0], dtype=np.int64)
        if arms is not None:
            order = order[self._by_arm(np.asarray(arms), order)]
        self._row_of_leaf: NDArray[np.integer] = order.astype(_index_type(size))
        self._leaf_of_row = np.empty_like(self._row_of_leaf)
        self._leaf_of_row[order] = np.arange(size, dtype=self._leaf_of_row.dtype)
        self._tree = SumTree(np.broadcast_to(given, (size,))[order])
        self._common_A = self._find_common()

    def _by_arm(self, arms_P: NDArray[np.integer], order: NDArray[np.intp]) -> NDArray[np.intp]:
        """Note where each arm lies, and sort by arm what is sorted by hash."""
        if arms_P.shape != order.shape or (arms_P.size and arms_P.dtype.kind not in "iu"):
            raise InvalidParameter(
                f"`arms` of `WeightedPicker` must be integers of shape {order.shape}; got {arms_P.dtype} {arms_P.shape}"
            )
        self._codes, place_P, size_A = np.unique(arms_P, return_inverse=True, return_counts=True)
        self._bounds = np.concatenate([[0], np.cumsum(size_A)])
        # A stable sort of 16-bit integers is a radix sort.
        short = len(self._codes) <= np.iinfo(np.uint16).max
        return np.argsort(place_P.astype(np.uint16 if short else np.int64)[order], kind="stable")

    def __len__(self) -> int:
        """The number of rows, N."""
        return len(self._row_of_leaf)

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return self._tree.total

    def arm_total(self, arm: int) -> float:
        """The sum of the weights of one arm; 0.0 for an arm without rows."""
        return self._tree.span(*self._range(arm)[:2]).total

    def update(self, rows: ArrayLike, weights: ArrayLike) -> None:
        """Replace the weights of some rows; where a row is repeated, its last weight counts.

        Args:
            rows: shape (k,), integers in [0, N).
            weights: shape (k,), or one number for all.

        Raises:
            InvalidParameter: a row or a weight is out of range. Nothing is then changed.

        """
        leaf = self._leaves(rows, "rows")
        new = np.asarray(weights, dtype=np.float64)
        self._tree.check(new, leaf)
        self._tree.put(leaf, new)
        self._note_common(leaf, new)

    def weights_at(self, rows: ArrayLike) -> Floats:
        """The weights of some rows, shape (k,)."""
        return self._tree.weights[self._leaves(rows, "rows")]

    def draw(
        self,
        k: int,
        rng: np.random.Generator,
        *,
        method: DrawMethod = "systematic",
        exclude: ArrayLike | None = None,
        arm: int | None = None,
    ) -> Draw:
        """Draw exactly k distinct rows of positive weight.

        ``systematic`` gives row i the inclusion probability min(1, c·w_i), with c such that these add up to k (Madow
        1949, with the certain ones set aside as in Tillé, *Sampling Algorithms*, 2006, section 2.10). The rows come
        back in random order, which carries no information.

        ``successive`` draws one row after another by the weights that remain (Plackett–Luce); the rows come back in
        the order drawn. The probability is NaN, except when all weights available are equal: then it is k/m for m
        rows available.

        Args:
            k: how many, at least 0.
            rng: the only source of chance.
            method: "systematic" or "successive".
            exclude: rows that cannot be drawn.
            arm: draw from the rows of this arm only.

        Raises:
            InvalidParameter: fewer than k rows of positive weight are available, or an argument is out of range.
                The weights are unchanged, whatever happens.

        """
        if method not in _METHODS:
            raise InvalidParameter(
                f'`method` of `WeightedPicker.draw` must be "systematic" or "successive"; got {method!r}'
            )
        if k < 0:
            raise InvalidParameter(f"`k` of `WeightedPicker.draw` must be an integer, at least 0; got {k}")
        aside = _Aside(self._tree)
        try:
            if exclude is not None:
                aside.take(self._leaves(exclude, "exclude"))
            pick = self._systematic if method == "systematic" else self._successive
            leaf, probability = pick(k, rng, self._range(arm), aside)
        finally:
            aside.put_back()
        rows = self._row_of_leaf[leaf].astype(np.int64)
        if method == "systematic":
            mixed = rng.permutation(k)
            return Draw(rows[mixed], probability[mixed])
        return Draw(rows, probability)

    def _systematic(self, k: int, rng: np.random.Generator, limits: _Range, aside: _Aside) -> tuple[Ints, Floats]:
        """Walk through the weights in k equal steps, after the leaves longer than a step were set aside.

        A leaf at least one step long is hit from any start, so one walk finds all of them; without them the step
        is shorter, so this repeats until there are none.
        """
        offset = rng.random()
        certain: list[Ints] = []
        leaf, share = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64)
        missing = k
        while missing:
            span = self._tree.span(limits.start, limits.stop)
            if span.total <= 0.0:
                raise self._too_few(k, limits, k - missing)
            leaf = span.find((np.arange(missing, dtype=np.float64) + offset) * (span.total / missing))
            share = self._tree.weights[leaf] / span.total * missing
            sure = share >= 1.0
            # Two steps on one leaf: its weight is a step but for rounding.
            sure[1:] |= leaf[1:] == leaf[:-1]
            if not sure.any():
                break
            certain.append(np.unique(leaf[sure]))
            missing -= len(certain[-1])
            aside.take(certain[-1])
            leaf, share = leaf[:0], share[:0]
        return np.concatenate([*certain, leaf]), np.concatenate([np.ones(k - missing), share])

    def _successive(self, k: int, rng: np.random.Generator, limits: _Range, aside: _Aside) -> tuple[Ints, Floats]:
        """Draw with replacement and keep first appearances, which is the same as renormalising after each draw."""
        share = np.nan
        found: list[Ints] = []
        missing = k
        while missing:
            span = self._tree.span(limits.start, limits.stop)
            if span.total <= 0.0:
                raise self._too_few(k, limits, k - missing)
            drawn = span.find(rng.random(missing) * span.total)
            if not found:
                share = self._equal_share(k, limits, span.total, drawn)
            found.append(_first_appearances(drawn))
            missing -= len(found[-1])
            if missing:
                aside.take(found[-1])
        leaf = found[0] if len(found) == 1 else np.concatenate([np.empty(0, dtype=np.int64), *found])
        return leaf, np.float64(share).repeat(k)

    def _equal_share(self, k: int, limits: _Range, total: float, drawn: Ints) -> float:
        """k/m if the m positive weights within the limits are all equal, else NaN."""
        weights = self._tree.weights
        common = float(weights[drawn[0]])
        available = round(total / common)
        if abs(total / common - available) > _NEARLY * available:
            return np.nan
        known = self._common_A[limits.arms]
        if np.count_nonzero((known != common) & (known != 0.0)):
            # The scan of all leaves runs only where those drawn are equal too.
            part = weights[limits.start : limits.stop]
            if np.any(weights[drawn] != common) or np.any((part != common) & (part != 0.0)):
                return np.nan
        return k / available

    def _too_few(self, k: int, limits: _Range, set_aside: int) -> InvalidParameter:
        available = set_aside + int(np.count_nonzero(self._tree.weights[limits.start : limits.stop]))
        return InvalidParameter(
            f"`k` of `WeightedPicker.draw` must not exceed the {available} rows of positive weight available; got {k}"
        )

    def _find_common(self) -> Floats:
        """For each arm its one positive weight, 0 where it has none, NaN where it has several."""
        weights = self._tree.weights
        starts = self._bounds[:-1]
        if not len(starts):
            return np.empty(0, dtype=np.float64)
        largest_A = np.maximum.reduceat(weights, starts)
        other = (weights != 0.0) & (weights != np.repeat(largest_A, np.diff(self._bounds)))
        return np.where(np.logical_or.reduceat(other, starts), np.nan, largest_A)

    def _note_common(self, leaf: Ints, weights: Floats) -> None:
        """Keep ``_common_A`` true after some weights changed; it may forget (NaN), never be wrong."""
        if not np.count_nonzero(weights) or np.isnan(self._common_A).all():
            return
        arm = np.searchsorted(self._bounds, leaf, side="right") - 1
        weights = np.broadcast_to(weights, leaf.shape)
        fresh = (weights > 0.0) & (self._common_A[arm] == 0.0)
        self._common_A[arm[fresh]] = weights[fresh]
        differs = (weights > 0.0) & (weights != self._common_A[arm])
        self._common_A[arm[differs]] = np.nan

    def _range(self, arm: int | None) -> _Range:
        if arm is None:
            return _Range(0, len(self), slice(None))
        place = int(np.searchsorted(self._codes, arm))
        if place == len(self._codes) or self._codes[place] != arm:
            return _Range(0, 0, slice(0, 0))
        return _Range(int(self._bounds[place]), int(self._bounds[place + 1]), slice(place, place + 1))

    def _leaves(self, rows: ArrayLike, name: str) -> Ints:
        array = np.asarray(rows)
        if array.size == 0:
            return np.empty(0, dtype=np.int64)
        if array.ndim != 1 or array.dtype.kind not in "iu" or int(array.min()) < 0 or int(array.max()) >= len(self):
            raise InvalidParameter(
                f"`{name}` of this `WeightedPicker` must be integers in [0, {len(self)}), shape (k,); got {array!r}"
            )
        return np.asarray(self._leaf_of_row[array], dtype=np.int64)


class _Range(NamedTuple):
    """Leaves ``start`` to ``stop``, which hold the arms at ``arms``."""

    start: int
    stop: int
    arms: slice


class _Aside:
    """Leaves set to zero for the time of one draw."""

    def __init__(self, tree: SumTree) -> None:
        self._tree = tree
        self._taken: list[tuple[Ints, Floats]] = []

    def take(self, leaf: Ints) -> None:
        weights = self._tree.weights[leaf]
        if np.count_nonzero(weights):
            self._taken.append((leaf, weights))
            self._tree.put(leaf, 0.0)

    def put_back(self) -> None:
        if self._taken:
            leaves, weights = zip(*self._taken, strict=True)
            self._tree.put(np.concatenate(leaves), np.concatenate(weights))


def _first_appearances(values: Ints) -> Ints:
    return np.array(list(dict.fromkeys(values.tolist())), dtype=np.int64)


def _index_type(size: int) -> type[np.integer]:
    return np.int32 if size <= np.iinfo(np.int32).max else np.int64
