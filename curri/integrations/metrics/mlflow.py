"""Metrics for MLflow."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from curri.integrations.metrics._library import library

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOT_ALLOWED = re.compile(r"[^\w\-./ ]", re.ASCII)
_LONGEST = 250
_BATCH = 1000


class MLflowWriter:
    """Logs to a run of MLflow: one of its own, or the one that the trainer has.

    Characters that MLflow does not allow in names, as an arm's may have, become underscores.

    Args:
        tracking_uri: where the server or the database is; by default MLflow's own setting.
        experiment: the experiment of a run that is started here; made where it is missing.
        name: the name of a run that is started here.
        run_id: a run that the trainer has started, such as ``mlflow.active_run().info.run_id``; without one, a run is
            started at the first step.

    Raises:
        MissingExtra: MLflow is not installed.
    """

    def __init__(
        self,
        *,
        tracking_uri: str | None = None,
        experiment: str = "curri",
        name: str | None = None,
        run_id: str | None = None,
    ) -> None:
        self._mlflow = library("mlflow", "mlflow")
        self._tracking_uri, self._experiment, self._name = tracking_uri, experiment, name
        self._run_id, self._is_own = run_id, run_id is None
        self._client: Any = None

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the numbers of a step."""
        self._open()
        now = int(time.time() * 1000)
        entity = self._mlflow.entities.Metric
        values = [entity(_NOT_ALLOWED.sub("_", key)[:_LONGEST], value, now, step) for key, value in metrics.items()]
        for start in range(0, len(values), _BATCH):
            self._client.log_batch(self._run_id, metrics=values[start : start + _BATCH])

    def close(self) -> None:
        """Finish the run if it was started here."""
        if self._is_own and self._run_id is not None:
            run_id, self._run_id = self._run_id, None
            self._client.set_terminated(run_id)

    def _open(self) -> None:
        if self._client is None:
            self._client = self._mlflow.MlflowClient(tracking_uri=self._tracking_uri)
        if self._run_id is None:
            known = self._client.get_experiment_by_name(self._experiment)
            experiment = known.experiment_id if known else self._client.create_experiment(self._experiment)
            self._run_id = self._client.create_run(experiment, run_name=self._name).info.run_id
