"""The durable ask/tell object.

Names are imported when they are first used: to pick without a run takes none of what keeps one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curri._lazy import imported

if TYPE_CHECKING:
    from curri.scheduler.picking import informed as informed
    from curri.scheduler.picking import pick as pick
    from curri.scheduler.rounds import Resolution as Resolution
    from curri.scheduler.scheduler import Scheduler as Scheduler
    from curri.scheduler.scheduler import Told as Told
    from curri.scheduler.writers import MetricsWriter as MetricsWriter

_HOMES = {
    "MetricsWriter": "curri.scheduler.writers",
    "Resolution": "curri.scheduler.rounds",
    "Scheduler": "curri.scheduler.scheduler",
    "Told": "curri.scheduler.scheduler",
    "informed": "curri.scheduler.picking",
    "pick": "curri.scheduler.picking",
}
__all__ = [*_HOMES]  # noqa: PLE0604  built from the table above


def __getattr__(name: str) -> Any:
    return imported(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return __all__
