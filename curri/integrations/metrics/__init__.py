"""Writers of metrics, for ``Scheduler(..., writers=[...])``; docs/metrics.md has the names and an example of each.

A library is imported when its writer is made, and a run or file of it is opened at the first ``write``.
"""

from __future__ import annotations

from curri.integrations.metrics.json_lines import JsonLinesWriter
from curri.integrations.metrics.mlflow import MLflowWriter
from curri.integrations.metrics.tensorboard import TensorBoardWriter
from curri.integrations.metrics.wandb import TrackioWriter, WandbWriter

__all__ = ["JsonLinesWriter", "MLflowWriter", "TensorBoardWriter", "TrackioWriter", "WandbWriter"]
