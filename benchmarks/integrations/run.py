"""What adapters cost; see README.md here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.integrations import sampler

if TYPE_CHECKING:
    from benchmarks.table import Row


def run(*, quick: bool = False) -> list[Row]:
    """The rows of this benchmark."""
    return sampler.run(quick=quick)
