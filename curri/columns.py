"""Per-prompt state of a strategy: one array a quantity, with the touched rows remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import StateMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from curri.types import Ints


class PromptColumns:
    """Named arrays with one entry a prompt, written through ``write`` so that only touched rows need saving.

    Args:
        n_prompts: rows, _P.
        defaults: for each column the value of an untouched prompt, as a NumPy scalar (its type is the column's).

    >>> columns = PromptColumns(4, {"visits": np.int32(0)})
    >>> columns.write(np.array([1, 3]), visits=np.array([5, 6]))
    >>> columns["visits"], columns.take_touched()
    (array([0, 5, 0, 6], dtype=int32), array([1, 3]))
    """

    def __init__(self, n_prompts: int, defaults: Mapping[str, np.generic]) -> None:
        self._defaults = dict(defaults)
        self._arrays = {name: np.full(n_prompts, value, dtype=value.dtype) for name, value in self._defaults.items()}
        self._is_touched = np.zeros(n_prompts, dtype=np.bool_)
        self._touched: list[Ints] = []

    def __len__(self) -> int:
        return int(self._is_touched.size)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The whole column, shape (_P,); write to it through ``write`` only."""
        return self._arrays[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self._arrays)

    def write(self, rows: Ints, **values: Any) -> None:
        """Set columns at ``rows`` (shape (_B,), distinct) to values of shape (_B,) or scalars."""
        for name, value in values.items():
            self._arrays[name][rows] = value
        new = rows[~self._is_touched[rows]]
        if new.size:
            self._is_touched[new] = True
            self._touched.append(new)

    def take_touched(self) -> Ints:
        """Rows written since the last call, ascending; they count as untouched from now on."""
        rows = np.sort(np.concatenate(self._touched)) if self._touched else np.empty(0, dtype=np.int64)
        self._is_touched[rows] = False
        self._touched.clear()
        return rows

    def grow(self, old_rows: Ints, n_prompts: int, **defaults: Any) -> None:
        """Lay the columns out anew: old row i becomes ``old_rows[i]``, all others start at their default.

        No row counts as touched afterwards: rows have moved, so only the whole columns will do.
        """
        for name, value in self._defaults.items():
            start = defaults.get(name, value)
            grown = np.full(n_prompts, start, dtype=value.dtype)
            grown[old_rows] = self._arrays[name]
            self._arrays[name] = grown
        self._is_touched = np.zeros(n_prompts, dtype=np.bool_)
        self._touched = []

    def load(self, name: str, values: NDArray[Any]) -> None:
        """Replace a column.

        Raises:
            StateMismatch: shape or type differ.
        """
        column = self._arrays[name]
        if values.shape != column.shape or values.dtype != column.dtype:
            message = f"column {name!r} must be of shape {column.shape} and type {column.dtype}"
            raise StateMismatch(f"{message}; the state holds {values.shape} of {values.dtype}")
        self._arrays[name] = values.copy()
