"""A sum tree with a wide fan-out, in NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from curri.types import Floats, Ints

__all__ = ["Span", "SumTree"]

FAN_OUT = 16
FLAT = 4096
_SHOWN = 5
_ALIGNMENT = 128


class _Segment(NamedTuple):
    """The nodes ``start`` to ``stop`` of one level."""

    level: int
    start: int
    stop: int


class Span:
    """A range of leaves, as the few nodes that cover it: a snapshot, stale once the tree is changed.

    Attributes:
        total: the sum of the weights in the range.

    """

    def __init__(self, levels: list[Floats], fan_out: int, segments: list[_Segment]) -> None:
        self._levels = levels
        self._fan_out = fan_out
        self._segments = segments
        pieces = [levels[s.level][s.start : s.stop] for s in segments]
        self._ends: Floats = np.cumsum(pieces[0] if len(pieces) == 1 else np.concatenate(pieces))
        self.total = float(self._ends[-1]) if len(self._ends) else 0.0

    def find(self, targets: Floats) -> Ints:
        """The leaf under each target, as in ``SumTree.find``; targets count from the start of the range."""
        if self.total <= 0.0:
            if not len(targets):
                return np.empty(0, dtype=np.int64)
            raise InvalidParameter("none of the leaves searched in this `SumTree` has a positive weight")
        node = self._ends.searchsorted(targets, side="right")
        # Rounding may carry a target to the end: it then belongs to the last node that has any weight,
        # which is the first one whose cumulative weight reaches the total.
        np.minimum(node, self._ends.searchsorted(self.total), out=node)
        only = self._segments[0] if len(self._segments) == 1 else None
        if only is not None and only.level == 0:
            return (node + only.start).astype(np.int64, copy=False)
        rest = targets - np.where(node > 0, self._ends[node - 1], 0.0)
        if only is not None:
            return self._descend(node + only.start, rest, only.level)
        return self._find_mixed(node, rest)

    def _find_mixed(self, node: NDArray[np.intp], rest: Floats) -> Ints:
        """Descend from nodes of several levels, each level's nodes together."""
        offset = 0
        leaf = np.empty(len(node), dtype=np.int64)
        for segment in self._segments:
            size = segment.stop - segment.start
            mine = np.flatnonzero((node >= offset) & (node < offset + size))
            if len(mine):
                leaf[mine] = self._descend(node[mine] - offset + segment.start, rest[mine], segment.level)
            offset += size
        return leaf

    def _descend(self, node: NDArray[np.intp], rest: Floats, level: int) -> Ints:
        """Follow each target from its node down to a leaf; ``rest`` is the target less all weight before the node."""
        for below in reversed(self._levels[:level]):
            block = below.reshape(-1, self._fan_out).take(node, axis=0)
            ends = np.cumsum(block, axis=1)
            child = (ends <= rest[:, None]).argmin(axis=1)
            past = np.flatnonzero(ends[:, -1] <= rest)
            if len(past):  # by rounding: the last child that has any weight
                child[past] = self._fan_out - 1 - np.argmax(block[past, ::-1] > 0.0, axis=1)
            flat = np.arange(len(node)) * self._fan_out + child
            rest = rest - np.where(child > 0, ends.ravel()[flat - 1], 0.0)
            node = node * self._fan_out + child
        return node.astype(np.int64, copy=False)


class SumTree:
    """Weights of N leaves with their partial sums: set k of them, or find k by cumulative weight, in O(k log N).

    Each level is one flat float64 array, padded with zeros to a multiple of the fan-out; level 0 holds the leaves.
    Levels are added until one has at most ``flat`` nodes; that one is scanned as a whole. A parent is always
    recomputed from its children, by adding neighbours in pairs, so its value depends on the leaves alone: a tree
    that was updated is equal, bit for bit, to a tree built from the same leaves.

    Sums of weights far apart in size round: a leaf below 1e-16 of the total is in practice not found before the
    large ones are set to zero (which makes the remaining sums exact again, since nothing is ever subtracted).

    Args:
        weights: shape (N,), finite, at least 0; each at most ``sys.float_info.max / (2 N)`` so that sums stay finite.
        fan_out: children of a node, a power of two, at least 2.
        flat: the largest number of nodes that is scanned as a whole, at least 1.

    Raises:
        InvalidParameter: a weight is negative, not finite or too large; the message names the positions.

    Example:
        >>> tree = SumTree([1.0, 0.0, 3.0])
        >>> tree.total
        4.0
        >>> tree.find([0.0, 0.999, 1.0, 3.999])
        array([0, 0, 2, 2])
        >>> tree.set([0, 1], [0.0, 2.0])
        >>> tree.weights
        array([0., 2., 3.])
        >>> tree.prefix([0, 1, 2, 3])
        array([0., 0., 2., 5.])

    """

    def __init__(self, weights: ArrayLike, *, fan_out: int = FAN_OUT, flat: int = FLAT) -> None:
        if fan_out < 2 or fan_out & (fan_out - 1):
            raise InvalidParameter(f"`fan_out` of `SumTree` must be a power of two, at least 2; got {fan_out}")
        if flat < 1:
            raise InvalidParameter(f"`flat` of `SumTree` must be an integer, at least 1; got {flat}")
        leaves = np.asarray(weights, dtype=np.float64)
        if leaves.ndim != 1:
            raise InvalidParameter(f"`weights` of `SumTree` must have shape (N,); got {leaves.shape}")
        self._size = len(leaves)
        self._whole: Span | None = None
        self._fan_out = fan_out
        self._shift = fan_out.bit_length() - 1
        self._largest = float(np.finfo(np.float64).max) / (2 * max(1, self._size))
        self.check(leaves, None)
        self._levels = [_padded(leaves, fan_out)]
        nodes = self._size
        while nodes > flat:
            sums = _pair_sums(self._levels[-1], fan_out)
            nodes = len(sums)
            self._levels.append(_padded(sums, fan_out))

    def __len__(self) -> int:
        """The number of leaves, N."""
        return self._size

    @property
    def total(self) -> float:
        """The sum of all weights; exactly 0.0 only when all weights are 0."""
        return self.span().total

    @property
    def weights(self) -> Floats:
        """The leaves, shape (N,): a read-only view that follows later changes."""
        view = self._levels[0][: self._size]
        view.flags.writeable = False
        return view

    def set(self, indices: ArrayLike, weights: ArrayLike) -> None:
        """Replace some weights; where an index is repeated, its last weight counts.

        Args:
            indices: shape (k,), integers in [0, N).
            weights: shape (k,) or one number for all; as in the constructor.

        Raises:
            InvalidParameter: an index or a weight is out of range. The tree is then unchanged.

        """
        index = self._check_indices(indices, self._size - 1, "indices")
        new = np.asarray(weights, dtype=np.float64)
        self.check(new, index)
        self.put(index, new)

    def find(self, targets: ArrayLike) -> Ints:
        """The leaf at each cumulative weight: the first one whose weight, with all before it, exceeds the target.

        A leaf of weight 0 is never returned. A target at or beyond ``total`` gets the last leaf of positive weight.

        Args:
            targets: shape (k,), each at least 0 and meant to be less than ``total``.

        Returns:
            Leaf numbers, shape (k,), int64.

        Raises:
            InvalidParameter: a target is negative or NaN, or there is no positive weight to find.

        """
        wanted = np.asarray(targets, dtype=np.float64)
        if wanted.ndim != 1 or not np.all(wanted >= 0.0):
            raise InvalidParameter("`targets` of `SumTree.find` must be numbers in [0, total), shape (k,)")
        return self.span().find(wanted)

    def span(self, start: int = 0, stop: int | None = None) -> Span:
        """The leaves ``start`` to ``stop`` (N if None), to be summed and searched alone.

        The range is covered by whole nodes, so it is exact even where the rest of the tree is far heavier.

        Raises:
            InvalidParameter: not 0 <= start <= stop <= N.

        """
        stop = self._size if stop is None else stop
        if start == 0 and stop == self._size:
            if self._whole is None:
                top = len(self._levels) - 1
                self._whole = Span(self._levels, self._fan_out, [_Segment(top, 0, len(self._levels[top]))])
            return self._whole
        if not 0 <= start <= stop <= self._size:
            raise InvalidParameter(f"a span of this `SumTree` lies within [0, {self._size}]; got [{start}, {stop})")
        return Span(self._levels, self._fan_out, self._cover(start, stop))

    def prefix(self, indices: ArrayLike) -> Floats:
        """The sum of the weights before each index.

        Args:
            indices: shape (k,), integers in [0, N]; N gives the total.

        Returns:
            Shape (k,), float64.

        """
        node = self._check_indices(indices, self._size, "indices")
        before = np.zeros(len(node), dtype=np.float64)
        for level in self._levels[:-1]:
            first = node & -self._fan_out
            # Node `len(level)` is one past the end: it has nothing before it in its own block.
            block = level[np.minimum(first[:, None] + np.arange(self._fan_out), len(level) - 1)]
            before += np.where(np.arange(self._fan_out) < (node - first)[:, None], block, 0.0).sum(axis=1)
            node = node >> self._shift
        ends = np.concatenate([[0.0], np.cumsum(self._levels[-1])])
        return np.asarray(ends[node] + before)

    def put(self, index: NDArray[np.integer], weights: Floats | float) -> None:
        """As :meth:`set`, for leaves and weights that are known to be valid."""
        self._whole = None
        self._levels[0][index] = weights
        node = index
        for below, above in zip(self._levels, self._levels[1:], strict=False):
            if 2 * len(node) >= len(above):
                # Most of a level: all of it, in one go; the levels above are smaller still.
                sums = _pair_sums(below, self._fan_out)
                above[: len(sums)] = sums
                continue
            # A parent may occur twice: recomputing it again is cheaper than finding out.
            node = node >> self._shift
            above[node] = _pair_sums(below.reshape(-1, self._fan_out).take(node, axis=0), self._fan_out)

    def _cover(self, start: int, stop: int) -> list[_Segment]:
        """The fewest nodes that cover the leaves ``start`` to ``stop``, from left to right."""
        top = len(self._levels) - 1
        left: list[_Segment] = []
        right: list[_Segment] = []
        for level in range(top):
            middle = min(-(-start // self._fan_out) * self._fan_out, stop)
            left.append(_Segment(level, start, middle))
            end = max(stop // self._fan_out * self._fan_out, middle)
            right.append(_Segment(level, end, stop))
            start, stop = -(-middle // self._fan_out), end // self._fan_out
        segments = [*left, _Segment(top, start, max(start, stop)), *reversed(right)]
        return [s for s in segments if s.stop > s.start] or [_Segment(0, 0, 0)]

    def check(self, weights: Floats, index: NDArray[np.integer] | None) -> None:
        """Refuse weights that are out of range, or not as many as the leaves they are meant for.

        Args:
            weights: shape (k,), or one number for all.
            index: the leaves, shape (k,), which an error names; None for the first k.
        """
        if index is not None and weights.shape not in ((), index.shape):
            raise InvalidParameter(f"`weights` of `SumTree.set` must have shape {index.shape}; got {weights.shape}")
        if not weights.size or (weights.min() >= 0.0 and weights.max() <= self._largest):  # a NaN is neither
            return
        where = None if weights.ndim == 0 else index
        weights = np.atleast_1d(weights)
        bad = np.flatnonzero(~((weights >= 0.0) & (weights <= self._largest)))
        where = bad if where is None else where[bad]
        raise InvalidParameter(
            f"weights of a `SumTree` must be floats in [0, {self._largest:.3g}]; "
            f"{len(bad)} are not, at positions {_some(where)} with values {_some(weights[bad])}"
        )

    def _check_indices(self, indices: ArrayLike, largest: int, name: str) -> NDArray[np.intp]:
        index = np.asarray(indices)
        if index.size == 0:
            return np.empty(0, dtype=np.intp)
        if index.ndim != 1 or index.dtype.kind not in "iu":
            raise InvalidParameter(
                f"`{name}` of a `SumTree` must be integers of shape (k,); got {index.dtype} {index.shape}"
            )
        if int(index.min()) < 0 or int(index.max()) > largest:
            bad = index[(index < 0) | (index > largest)]
            raise InvalidParameter(f"`{name}` of this `SumTree` must be in [0, {largest}]; got {_some(bad)}")
        return index.astype(np.intp, copy=False)


def _some(values: NDArray[np.generic]) -> str:
    shown = ", ".join(str(v) for v in values[:_SHOWN].tolist())
    return shown + (", ..." if len(values) > _SHOWN else "")


def _padded(values: Floats, multiple: int) -> Floats:
    """A copy whose length is a multiple of ``multiple``, and not 0, filled up with zeros."""
    size = max(1, -(-len(values) // multiple)) * multiple
    # Runs of 16 children then fill two cache lines instead of touching three, which is a third of the time at 10 M.
    raw = np.zeros(size + _ALIGNMENT // 8, dtype=np.float64)
    skip = -raw.ctypes.data % _ALIGNMENT // 8
    out = raw[skip : skip + size]
    out[: len(values)] = values
    return out


def _pair_sums(children: Floats, fan_out: int) -> Floats:
    """Sum each run of ``fan_out`` neighbours by adding pairs: the order is the same whatever the array's shape."""
    sums = children.reshape(-1)
    while fan_out > 1:
        sums = sums[0::2] + sums[1::2]
        fan_out //= 2
    return sums
