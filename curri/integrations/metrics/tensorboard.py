"""Metrics for TensorBoard."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curri.integrations.metrics._library import library

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping


class TensorBoardWriter:
    """Writes an event file, with tensorboardX where it is installed, else with PyTorch.

    Args:
        folder: the log directory of the run.

    Raises:
        MissingExtra: neither tensorboardX nor PyTorch with tensorboard is installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = str(Path(folder))
        module = "torch.utils.tensorboard" if _has_only_torch() else "tensorboardX"
        self._make = library(module, "tensorboard").SummaryWriter
        self._file: Any = None

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        """Write the numbers of a step, and flush."""
        if self._file is None:
            self._file = self._make(self._folder)
        for name, value in metrics.items():
            self._file.add_scalar(name, value, step)
        self._file.flush()

    def close(self) -> None:
        """Close the event file; a later step starts another beside it."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _has_only_torch() -> bool:
    return find_spec("tensorboardX") is None and all(find_spec(name) for name in ("torch", "tensorboard"))
