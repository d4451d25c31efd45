"""Gradient-boosted trees with RegMix's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.mixtures._extras import optional
from curri.mixtures.surrogates.base import Surrogate

if TYPE_CHECKING:
    from curri.mixtures.surrogates.sample import Sample
    from curri.types import Floats

__all__ = ["BoostedTrees"]

SETTINGS = {"objective": "regression", "metric": "l2", "learning_rate": 0.01, "seed": 42}
"""RegMix's; the rest are LightGBM's defaults."""
ROUNDS = 1_000
PATIENCE = 3
LEAF = 20
"""LightGBM's smallest number of rows in a leaf."""
_QUIET = {"verbosity": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True}
_FOLDS = 5
_SEED = 42


class BoostedTrees(Surrogate):
    """LightGBM as RegMix sets it: learning rate 0.01, up to 1,000 trees, early stopping after 3 rounds, seed 42.

    RegMix's notebook stops early **on its test rows**. Here a fifth of the training rows decides how many trees there
    are, and then all rows are fitted with that number. Leave-one-out predictions are those of 5 parts, each predicted
    by a fit to the others. The deviation is one number, the error of those predictions; trees cannot tell their own
    error from the noise of runs, so where there are no replicates half of it counts as either.
    """

    name: ClassVar[str] = "lightgbm"
    summary: ClassVar[str] = "gradient-boosted trees with RegMix's settings"

    @classmethod
    def minimum_runs(cls, m: int) -> int:  # noqa: ARG003  the same for any m
        """50: leaves hold 20 mixtures, a split makes two of them, and a fifth is set aside."""
        return 5 * (2 * LEAF) // 4

    def _fit(self, sample: Sample) -> None:
        order = np.random.default_rng(_SEED).permutation(len(sample))
        parts = np.array_split(order, _FOLDS)
        rest = np.setdiff1d(order, parts[0])
        self.trees = self._train(sample, rest, ROUNDS, parts[0]).best_iteration or ROUNDS
        self._model = self._train(sample, np.arange(len(sample)), self.trees)
        self._left_out = np.empty(len(sample))
        for part in parts:
            model = self._train(sample, np.setdiff1d(order, part), self.trees)
            self._left_out[part] = model.predict(sample.weights[part])
        error = float(np.square(sample.scores - self._left_out).mean())
        noise = sample.squares / sample.degrees if sample.degrees else 0.5 * error
        self._run_noise = max(noise - float(sample.known_variance.mean()), 0.05 * error)
        self._error = max(error - float(((self._run_noise + sample.known_variance) / sample.counts).mean()), 0.0)

    @staticmethod
    def _train(sample: Sample, rows: Any, rounds: int, judges: Any = None) -> Any:
        lightgbm = optional("lightgbm", "the surrogate `lightgbm`")

        def data(chosen: Any) -> Any:
            return lightgbm.Dataset(
                sample.weights[chosen], sample.scores[chosen], weight=sample.counts[chosen], params={"verbosity": -1}
            )

        stop = [] if judges is None else [lightgbm.early_stopping(PATIENCE, verbose=False)]
        valid = None if judges is None else [data(judges)]
        return lightgbm.train({**SETTINGS, **_QUIET}, data(rows), rounds, valid_sets=valid, callbacks=stop)

    def _predict(self, rows: Floats) -> tuple[Floats, Floats]:
        return self._mean(rows), np.full(len(rows), self._error)

    def _mean(self, rows: Floats) -> Floats:
        return np.asarray(self._model.predict(rows), dtype=np.float64)

    def _leave_one_out(self) -> tuple[Floats, Floats]:
        return self._left_out, np.full(len(self._left_out), self._error)

    def _noise(self) -> float:
        return self._run_noise

    def _describe(self) -> dict[str, Any]:
        return {"trees": self.trees}
