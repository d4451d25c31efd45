"""A hash of prompt ids that is the same in every process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["stable_hash"]

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_MASK = 0xFFFFFFFFFFFFFFFF


def stable_hash(ids: ArrayLike, seed: int) -> NDArray[np.uint64]:
    """Hash each id with the seed, by SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).

    Each value depends on its id and the seed alone. For one seed the hash is one to one, so distinct ids never tie.

    Args:
        ids: shape (k,), integers that fit int64.
        seed: any integer; seeds equal modulo 2**64 are the same.

    Returns:
        Shape (k,), uint64, all bits well mixed.

    Raises:
        InvalidParameter: the ids are not integers of shape (k,).

    Example:
        >>> stable_hash([1, 2], seed=0) == stable_hash([2, 1], seed=0)[::-1]
        array([ True,  True])

    """
    array = np.asarray(ids)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InvalidParameter(
            f"`ids` of `stable_hash` must be integers of shape (k,); got {array.dtype} {array.shape}"
        )
    mixed = array.astype(np.int64).view(np.uint64)
    mixed *= np.uint64(_GOLDEN)
    mixed += np.uint64(_mix_one((int(seed) + _GOLDEN) & _MASK))
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(_FIRST)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(_SECOND)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _mix_one(value: int) -> int:
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)
