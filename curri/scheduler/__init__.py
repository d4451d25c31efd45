"""The durable ask/tell object."""

from __future__ import annotations

from curri.scheduler.core import informed, pick
from curri.scheduler.rounds import Resolution
from curri.scheduler.scheduler import Scheduler, Told
from curri.scheduler.writers import MetricsWriter

__all__ = ["MetricsWriter", "Resolution", "Scheduler", "Told", "informed", "pick"]
