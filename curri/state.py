"""State as arrays and JSON: how it is packed into bytes, how two states differ, how a difference is applied.

A state is a flat mapping from names to NumPy arrays or JSON values. Names under ``prompt/`` are columns with one entry
a prompt, in the order of ``prompt_ids``; everything else is small and is compared as a whole. Nothing here can run code
when it is read back: no pickle, no object arrays.
"""

from __future__ import annotations

import io
import json
import struct
import tokenize
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curri.errors import StateMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

Array: TypeAlias = NDArray[Any]
Json: TypeAlias = Any
"""What ``json.dumps`` takes: None, bool, int of any size, float, str, and lists and dicts of them."""
State: TypeAlias = dict[str, Any]
"""Names to arrays or JSON."""

PROMPT_IDS = "prompt_ids"
COLUMN_PREFIX = "prompt/"
_CHECKSUM = 4
# What NumPy and json raise on bytes that are damaged or something else.
_UNREADABLE = (
    struct.error,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    SyntaxError,
    RuntimeError,
    OverflowError,
    MemoryError,
    tokenize.TokenError,
)


@dataclass(frozen=True)
class StateChange:
    """What has to be applied to an older state to get the newer one.

    Attributes:
        values: new or changed entries that are not columns.
        removed: names of entries that are gone.
        prompt_ids: ids of the touched prompts, ascending, shape (touched,).
        columns: for every column its values at ``prompt_ids``.
    """

    values: State
    removed: tuple[str, ...]
    prompt_ids: NDArray[np.int64]
    columns: Mapping[str, Array] = field(default_factory=dict)


def pack(state: Mapping[str, Array | Json]) -> bytes:
    """Turn a state into bytes: arrays in NumPy's npy format one after another, led by one that holds JSON.

    A checksum ends them. The JSON has all other values, and the names of the arrays, which may hold any character.

    Raises:
        TypeError: an array of objects, or a value that is not JSON.
        ValueError: a number that is not finite among the JSON values.

    >>> unpack(pack({"step": 3, "weights": np.array([0.5, 0.5])}))["step"]
    3
    """
    names = [name for name, value in state.items() if isinstance(value, np.ndarray)]
    for name in names:
        if state[name].dtype.hasobject:
            raise TypeError(f"{name!r} is an array of objects; a state holds arrays of numbers and text, and JSON")
    values = {name: value for name, value in state.items() if not isinstance(value, np.ndarray)}
    text = json.dumps({"arrays": names, "values": values}, allow_nan=False, sort_keys=True)
    arrays = (np.frombuffer(text.encode(), dtype=np.uint8), *(state[name] for name in names))
    parts = [part for array in arrays for part in (_npy_header(array.dtype, array.shape), array.tobytes())]
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join([*parts, checksum.to_bytes(_CHECKSUM, "little")])


@lru_cache(maxsize=256)
def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """What stands before an array's data, in C order; a state's arrays have few shapes, and it takes long to write."""
    buffer = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


def unpack(data: bytes) -> State:
    """Read back what :func:`pack` wrote.

    Raises:
        StateMismatch: the bytes are not a packed state.
    """
    try:
        if zlib.crc32(data[:-_CHECKSUM]).to_bytes(_CHECKSUM, "little") != data[-_CHECKSUM:]:
            raise ValueError("its checksum does not match")
        buffer = io.BytesIO(data[:-_CHECKSUM])
        header = json.loads(np.lib.format.read_array(buffer, allow_pickle=False).tobytes())
        arrays = {name: np.lib.format.read_array(buffer, allow_pickle=False) for name in header["arrays"]}
        return {**header["values"], **arrays}
    except _UNREADABLE as error:
        message = f"the saved state cannot be read ({type(error).__name__}: {error})"
        raise StateMismatch(message, hint="restore it from a backup; a state is written by `state.pack`") from error


def pack_change(change: StateChange) -> bytes:
    """Turn a change into bytes."""
    state: State = {f"value:{name}": value for name, value in change.values.items()}
    state |= {f"column:{name}": value for name, value in change.columns.items()}
    state["removed"] = list(change.removed)
    state["touched"] = change.prompt_ids
    return pack(state)


def unpack_change(data: bytes) -> StateChange:
    """Read back what :func:`pack_change` wrote."""
    state = unpack(data)
    return StateChange(
        values={name.removeprefix("value:"): value for name, value in state.items() if name.startswith("value:")},
        removed=tuple(state["removed"]),
        prompt_ids=state["touched"],
        columns={name.removeprefix("column:"): value for name, value in state.items() if name.startswith("column:")},
    )


def apply_change(state: State, change: StateChange) -> State:
    """The state after ``change``; ``state`` itself is used up (its columns may be written to)."""
    state.update(change.values)
    for name in change.removed:
        state.pop(name, None)
    if change.prompt_ids.size:
        rows = np.searchsorted(state[PROMPT_IDS], change.prompt_ids)
        for name, values in change.columns.items():
            state[name][rows] = values
    return state


def same_value(left: object, right: object) -> bool:
    """Whether two entries of a state are equal, bit for bit.

    >>> same_value(np.zeros(2), np.zeros(2)), same_value(np.zeros(2), np.zeros(3))
    (True, False)
    """
    if left is right:
        return True
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return False
    return type(left) is type(right) and left == right


def same_state(left: Mapping[str, Array | Json], right: Mapping[str, Array | Json]) -> bool:
    """Whether two states are equal, bit for bit."""
    return left.keys() == right.keys() and all(same_value(left[name], right[name]) for name in left)
