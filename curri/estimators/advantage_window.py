"""The latest advantages of an arm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from curri.types import Floats

__all__ = ["AdvantageWindow"]


class AdvantageWindow:
    """The last ``window`` signed advantages and how many there ever were (DUMP, arXiv 2504.09710, section 3.3).

    Args:
        window: k, how many are kept, at least 1; 300 as in the authors' code, counted in responses.

    Raises:
        InvalidParameter: the window is less than 1.

    Example:
        >>> arm = AdvantageWindow(window=3)
        >>> arm.update([-1.0, 0.5])
        >>> arm.update([0.5, 0.5])
        >>> arm.mean_abs, arm.count, arm.values
        (0.5, 4, array([0.5, 0.5, 0.5]))

    """

    def __init__(self, window: int = 300) -> None:
        if isinstance(window, bool) or window < 1 or window != int(window):
            raise InvalidParameter(f"`window` of `AdvantageWindow` must be an integer >= 1; got {window!r}")
        self.window = int(window)
        self._values: Floats = np.empty(0, dtype=np.float64)
        self._count = 0

    def update(self, advantages: ArrayLike, count: int | None = None) -> None:
        """Append advantages; the last ``window`` stay. No advantages change nothing.

        Args:
            advantages: shape (k,), finite, oldest first.
            count: what to add to ``count``; k if None. For those who count prompts rather than responses.

        Raises:
            InvalidParameter: an advantage is not finite, or the count is negative. Nothing is then changed.

        """
        new = np.asarray(advantages, dtype=np.float64)
        if new.ndim != 1 or not np.isfinite(new).all():
            raise InvalidParameter("`advantages` of `AdvantageWindow.update` must be finite numbers, shape (k,)")
        added = len(new) if count is None else int(count)
        if added < 0:
            raise InvalidParameter(f"`count` of `AdvantageWindow.update` must be an integer >= 0; got {count}")
        if not len(new):
            return
        self._values = np.concatenate([self._values, new])[-self.window :].copy()
        self._values.flags.writeable = False
        self._count += added

    @property
    def mean_abs(self) -> float:
        """The mean of the absolute values in the window; 0.0 while it is empty."""
        return float(np.abs(self._values).sum()) / len(self._values) if len(self._values) else 0.0

    @property
    def count(self) -> int:
        """How many advantages were ever added; the window does not limit it."""
        return self._count

    @property
    def values(self) -> Floats:
        """A copy of the window, oldest first, shape (at most ``window``,)."""
        return self._values.copy()

    def state(self) -> dict[str, Any]:
        """What ``from_state`` needs: ``values``, float64 array (read-only), and ``count``, int."""
        return {"values": self._values, "count": self._count}

    @classmethod
    def from_state(cls, window: int, state: Mapping[str, Any]) -> AdvantageWindow:
        """The window that gave this state.

        Raises:
            InvalidParameter: the state has other keys, or values that do not fit the window.

        """
        if set(state) != {"values", "count"}:
            raise InvalidParameter(f'a state of `AdvantageWindow` holds "values" and "count"; got {sorted(state)}')
        made = cls(window)
        values = np.array(state["values"], dtype=np.float64)
        if values.ndim != 1 or len(values) > made.window or not np.isfinite(values).all() or int(state["count"]) < 0:
            raise InvalidParameter(f"this state does not fit an `AdvantageWindow` of {made.window}")
        made._values = values
        made._count = int(state["count"])
        return made
