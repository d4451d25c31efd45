"""Metrics for Weights & Biases, and for trackio, which has the same interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from curri.integrations.metrics._library import library

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUND = "scheduler/round"
"""The step, beside the numbers: the horizontal axis of their charts."""


class WandbWriter:
    """Logs to a run of wandb: one of its own, or the one that the trainer has.

    The step of a run that a trainer has is left alone: the numbers join the row that the trainer logs next.

    Args:
        run: a run that the trainer has made, such as ``wandb.run``; without one, a run is started at the first step.
        settings: for ``wandb.init`` where a run is started, such as ``project="maths", name="r1", mode="offline"``.

    Raises:
        MissingExtra: wandb is not installed.
    """

    _name: ClassVar[str] = "wandb"

    def __init__(self, *, run: Any = None, **settings: Any) -> None:
        self._init = None if run is not None else library(self._name, self._name).init
        self._settings = settings
        self._run = run
        self._known = False

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the numbers of a step."""
        if self._run is None and self._init is not None:
            self._run, self._known = self._init(**self._settings), False
        if not self._known:
            self._prepare()
            self._known = True
        self._log({**metrics, ROUND: step}, step)

    def close(self) -> None:
        """Finish the run if it was started here."""
        if self._init is not None and self._run is not None:
            run, self._run = self._run, None
            run.finish()

    def _prepare(self) -> None:
        for names in ("curriculum/*", "scheduler/*"):
            self._run.define_metric(names, step_metric=ROUND)

    def _log(self, values: dict[str, float], step: int) -> None:
        if self._init is None:
            self._run.log(values, commit=False)
        else:
            self._run.log(values, step=step, commit=True)


class TrackioWriter(WandbWriter):
    """Logs to a run of trackio: one of its own, or the one that the trainer has.

    Args:
        run: a run that the trainer has made; without one, a run is started at the first step.
        settings: for ``trackio.init`` where a run is started, such as ``project="maths", name="r1"``.

    Raises:
        MissingExtra: trackio is not installed.
    """

    _name: ClassVar[str] = "trackio"

    def _prepare(self) -> None:
        """Trackio draws every number over the step."""

    def _log(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)
