"""State as arrays and JSON: how it is packed into bytes, how two states differ, how a difference is applied.

A state is a flat mapping from names to NumPy arrays or JSON values. Names under ``prompt/`` are columns with one entry
a prompt, in the order of ``prompt_ids``; everything else is small and is compared as a whole. Nothing here can run code
when it is read back: no pickle, no object arrays.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curri.errors import StateMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

Array: TypeAlias = NDArray[Any]
Json: TypeAlias = Any
"""What ``json.dumps`` takes: None, bool, int of any size, float, str, and lists and dicts of them."""
State: TypeAlias = dict[str, Array | Json]

PROMPT_IDS = "prompt_ids"
COLUMN_PREFIX = "prompt/"
_HEADER = "__json__"


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
    """Turn a state into bytes (an uncompressed npz archive; JSON values in one entry).

    >>> unpack(pack({"step": 3, "weights": np.array([0.5, 0.5])}))["step"]
    3
    """
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    values = {name: value for name, value in state.items() if name not in arrays}
    header = np.frombuffer(json.dumps(values, allow_nan=False, sort_keys=True).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **{_HEADER: header}, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack(data: bytes) -> State:
    """Read back what :func:`pack` wrote.

    Raises:
        StateMismatch: the bytes are not a packed state.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        values: State = json.loads(arrays.pop(_HEADER).tobytes())
    except (OSError, ValueError, KeyError, EOFError) as error:
        message = f"the saved state cannot be read ({type(error).__name__}: {error})"
        raise StateMismatch(message, hint="restore it from a backup; a state is written by `state.pack`") from error
    return {**values, **arrays}


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
