"""``modomodo``: a fixed mixture of datasets, kept exactly, after MoDoMoDo (arXiv 2505.24871)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.curricula.by_arm import ArmEpochs
from curri.errors import InvalidParameter, PoolExhausted, did_you_mean
from curri.parameters import choice
from curri.parameters import weights as weights_by_arm
from curri.selectors import ExactQuotas, capped_shares, successive_counts, systematic_counts

if TYPE_CHECKING:
    from curri.curricula.base import Picked, Request
    from curri.state import State
    from curri.types import Bools, Floats, Ints


class MoDoMoDo(ArmEpochs):
    """Draws datasets by the weights w of a mixture, and in a dataset the examples that did not come yet.

    The mixture μ(w) = Σ_i w_i μ_i is given, for example by ``curri mix``; nothing is learned while training. Without
    ``weights`` it is the pool as it is: every dataset by its size. Arms that ``weights`` does not name get nothing, and
    a name that the pool does not have (yet) is counted and waits; if it has none of them, ``ask`` refuses.

    Where the paper and this implementation differ:

    * ``quota``: the paper draws a dataset for every slot ("multinomial"), so that a batch of n has a spread of
      sqrt(n·w(1 − w)) around n·w. "exact" (the default) keeps every dataset's cumulative count within one prompt of its
      cumulative share (:class:`~curri.selectors.ExactQuotas`), over batches of any size. A dataset that cannot give its
      part, because prompts are in flight, gets it back later.
    * ``exhausted``: in the paper training ends when one dataset runs out ("stop": ``PoolExhausted`` names it). Mixture
      and length of training are then confounded: of two runs the one with more weight on a small dataset is the shorter
      one. "repeat" (the default) opens the dataset's next epoch, and "renormalise" leaves it out until all datasets
      of the mixture are through. ``steps_left`` and the metrics ``unseen/<arm>`` and ``prompts_until_exhausted/<arm>``
      say what is coming; ``weight_caps`` says how heavy a dataset may be for a run of a given length.

    A batch that the datasets of the mixture cannot fill at all takes the rest from the others, by their size, and
    counts it (``fallback/mixture_short``). With a ``quota`` handed to ``ask`` only the epochs matter, and they repeat.

    >>> from curri import PromptPool
    >>> mixture = MoDoMoDo(PromptPool(range(60), ["a", "b", "c"] * 20), weights={"a": 0.5, "b": 0.3, "c": 0.2})
    >>> counts = [mixture.ask(5).arms.tolist().count("a") for _ in range(6)]
    >>> sum(counts), mixture.steps_left(5)
    (15, {'a': 2, 'b': 7, 'c': 14})
    """

    name: ClassVar[str] = "modomodo"
    summary: ClassVar[str] = "datasets by fixed mixture weights, with exact quotas (MoDoMoDo)"
    source: ClassVar[str] = "MoDoMoDo, arXiv 2505.24871"
    cursors: ClassVar[frozenset[str]] = ArmEpochs.cursors | {"ledger"}

    weights: dict[str, float] | None = weights_by_arm(
        default=None,
        symbol="w",
        doc="weight of each dataset in the mixture, in any scale; by size if not given",
        source="MoDoMoDo, section 3",
    )
    quota: str = choice(
        default="exact",
        of=("exact", "multinomial"),
        doc="how weights become the counts of a batch",
        source="the paper draws a dataset for every slot: multinomial",
    )
    exhausted: str = choice(
        default="repeat",
        of=("repeat", "renormalise", "stop"),
        doc="what happens when a dataset has no unseen example left",
        source="the paper's training stops",
    )

    def steps_left(self, n: int) -> dict[str, int]:
        """For each dataset of the mixture, how many more batches of ``n`` it can give its share of without repeating.

        Raises:
            InvalidParameter: ``n`` is not positive.
        """
        if n < 1:
            raise InvalidParameter(f"`n` of `steps_left` must be an int in [1, inf); got {n!r}")
        return {arm: math.floor(prompts / n + 1e-9) for arm, prompts in self._prompts_left().items()}

    def weight_caps(self, steps: int, n: int) -> dict[str, float]:
        """The largest weight of each dataset at which a run of so many steps repeats none of it: min(1, m / (steps·n)).

        Raises:
            InvalidParameter: ``steps`` or ``n`` is not positive.
        """
        if min(steps, n) < 1:
            raise InvalidParameter(f"`steps` and `n` of `weight_caps` must be ints in [1, inf); got {steps!r}, {n!r}")
        sizes = zip(self.pool.arm_names, self.pool.arm_sizes.tolist(), strict=True)
        return {arm: min(1.0, size / (steps * n)) for arm, size in sizes if size}

    # ---- the mixture --------------------------------------------------------------------------------------------

    def _mixture(self) -> Floats:
        """Weights of the arms that have prompts, in the scale given, shape (_A,)."""
        sizes = self.pool.arm_sizes
        if self.weights is None:
            return sizes.astype(np.float64)
        given = np.array([self.weights.get(name, 0.0) for name in self.pool.arm_names])
        return np.where(sizes > 0, given, 0.0)

    def _takes_part(self, mixture: Floats) -> Bools:
        """The arms of the mixture without those that wait for the others to finish their epoch."""
        waits = self.exhausted == "renormalise"
        unseen = (mixture > 0.0) & (self._unseen_A > 0)
        return unseen if waits and unseen.any() else mixture > 0.0

    def _arm_weights(self, supply: Ints) -> Floats:
        mixture = self._mixture()
        part = np.where(self._takes_part(mixture) & (supply > 0), mixture, 0.0)
        if not part.any():
            part = np.where(supply > 0, mixture, 0.0)
        part /= part.max(initial=0.0) or 1.0
        return np.asarray(part / (part.sum() or 1.0))

    def _prompts_left(self) -> dict[str, float]:
        """Prompts that can be drawn, of all datasets, until each one runs out."""
        mixture = self._mixture()
        part = mixture / (mixture.max(initial=0.0) or 1.0)
        part /= part.sum() or 1.0
        arms = zip(self.pool.arm_names, self._unseen_A.tolist(), part.tolist(), strict=True)
        return {arm: min(unseen / weight, 1e300) for arm, unseen, weight in arms if weight > 0.0}

    # ---- picking ------------------------------------------------------------------------------------------------

    def _counted(self, request: Request) -> tuple[Ints, Floats]:
        mixture = self._mixture()
        self._check_names()
        ledger, drew_lots = self._accounts()
        counts, expected = np.zeros_like(request.supply), np.zeros(mixture.shape)
        for part, able in self._stages(request, mixture):
            n = min(request.n - int(counts.sum()), int((able - counts)[part > 0.0].sum()))
            if n:
                some, likely = self._split(part, n, able - counts, request, ledger)
                counts, expected = counts + some, expected + likely
        if self.exhausted == "stop" and (np.any(counts > self._unseen_A) or counts.sum() < request.n):
            raise self._exhaustion(request, counts)
        if drew_lots and np.count_nonzero(mixture) > 1:
            expected[:] = np.nan  # lots have just decided which arm comes first
        others, likely = self._from_others(request, counts)
        self._write_back(ledger)
        return counts + others, expected + likely

    def _arm_counts(self, request: Request) -> Ints:
        self._say_idle()
        return super()._arm_counts(request)

    def _expect_quota(self) -> None:
        self._check_names()
        self._say_idle()

    def _say_idle(self) -> None:
        if self.exhausted != "repeat":
            self._fall_back(
                "exhausted_idle",
                f'`exhausted` = "{self.exhausted}" is not kept where `arm_floor` or `arm_cap` make the counts, or '
                "another strategy takes the prompts inside a dataset (use modomodo alone)",
            )

    def _stages(self, request: Request, mixture: Floats) -> list[tuple[Floats, Ints]]:
        """Weights and how much each arm may give: from the present epochs first, then whatever there is."""
        part = np.where(self._takes_part(mixture), mixture, 0.0)
        if self.exhausted == "repeat":
            return [(part, request.supply)]
        free = self._free(request.excluded)
        if self.exhausted == "stop":  # an arm may be asked for more than it has unseen, unless that is only in flight
            return [(part, np.where(free < self._unseen_A, free, request.n))]
        return [(part, np.where(self._unseen_A > 0, free, request.supply)), (mixture, request.supply)]

    def _split(self, part: Floats, n: int, able: Ints, request: Request, ledger: ExactQuotas) -> tuple[Ints, Floats]:
        """Counts of ``n`` prompts over the arms of a stage, and their expectation."""
        if self.quota == "exact":
            counts = ledger.counts(part, n, able)
            return counts, counts.astype(np.float64)
        able = np.where(part > 0.0, able, 0)
        counts = successive_counts(part, able, n, self._rng)
        shares = part / part.max()
        enough = np.all((part == 0.0) | (np.minimum(able, self._free(request.excluded)) >= request.n))
        return counts, n * (shares / shares.sum()) if enough else np.full(part.shape, np.nan)

    def _exhaustion(self, request: Request, counts: Ints) -> PoolExhausted:
        over = np.flatnonzero(counts > self._unseen_A)
        if not over.size:
            return PoolExhausted(
                f"asked for {request.n} prompts; the mixture has {counts.sum()} unseen ones that can be picked",
                hint="resolve prompts in flight, or end training here",
            )
        arm = int(over[0])
        return PoolExhausted(
            f'asked for {request.n} prompts, {counts[arm]} of them of arm "{self.pool.arm_names[arm]}"; '
            f"{self._unseen_A[arm]} of it are unseen",
            hint='the paper ends training here; `exhausted="repeat"` or `exhausted="renormalise"` goes on',
        )

    def _from_others(self, request: Request, counts: Ints) -> tuple[Ints, Floats]:
        """What the mixture cannot give, from all arms, by what they have left."""
        missing = request.n - int(counts.sum())
        if not missing:
            return np.zeros_like(counts), np.zeros(counts.shape)
        self._fall_back(
            "mixture_short",
            "the datasets of the mixture have too few prompts for the batch; the rest of it is spread over the others "
            "by their size (a smaller batch avoids it)",
        )
        shares = capped_shares(np.zeros(counts.shape), request.supply - counts, missing)
        return systematic_counts(shares, self._rng), shares

    def _check_names(self) -> None:
        """Say which arms of ``weights`` the pool lacks; refuse where it has none of them."""
        named = self.weights or {}
        lacking = [name for name in named if name not in self.pool.arm_names]
        if not lacking:
            return
        hint = did_you_mean(lacking[0], self.pool.arm_names)
        what = f'`weights` of `MoDoMoDo` must name arms of the pool; got "{lacking[0]}"'
        if len(lacking) == len(named):
            raise InvalidParameter(what, hint=hint)
        waits = "which waits until it has prompts; the others share its weight"
        self._fall_back("unknown_arms", f"{what}, {waits}{f' ({hint})' if hint else ''}")

    def _drawn(self, request: Request, counts: Ints, expected_A: Floats) -> Picked:
        before = dict(self._opened)
        picked = super()._drawn(request, counts, expected_A)
        if self.exhausted == "renormalise" and request.quota is None:
            self._start_together(before)
        return picked

    def _start_together(self, before: dict[str, int]) -> None:
        """Once an arm of the mixture is in its next epoch, or all are through, the rest of them start theirs."""
        arms = np.flatnonzero(self._mixture()).tolist()
        same = [arm for arm in arms if self._opened[self.pool.arm_names[arm]] == before[self.pool.arm_names[arm]]]
        if len(same) < len(arms) or not self._unseen_A[arms].any():
            for arm in same:
                if not self._unseen_A[arm]:
                    self._open_epoch(arm)

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        super()._set_up()
        self._ledger: dict[str, list[float]] = getattr(self, "_ledger", {})

    def _accounts(self) -> tuple[ExactQuotas, bool]:
        """The ledger over the arms of the pool, to be written back, and whether lots were drawn for new arms."""
        kept = [self._ledger.get(name) for name in self.pool.arm_names]
        drew_lots = self.quota == "exact" and None in kept
        rows = [[0.0, 0.0, self._rng.random() if drew_lots else 0.0] if row is None else row for row in kept]
        columns = np.array(rows, dtype=np.float64).reshape(-1, 3)
        ledger = ExactQuotas(len(rows), rank=columns[:, 2])
        ledger.behind, ledger.owed = columns[:, 0].copy(), columns[:, 1].copy()
        return ledger, drew_lots

    def _write_back(self, ledger: ExactQuotas) -> None:
        if self.quota == "exact":
            columns = zip(ledger.behind.tolist(), ledger.owed.tolist(), ledger.rank.tolist(), strict=True)
            self._ledger = dict(zip(self.pool.arm_names, map(list, columns), strict=True))

    def _own_state(self) -> State:
        return {**super()._own_state(), "ledger": {arm: list(row) for arm, row in self._ledger.items()}}

    def _load_own_state(self, state: State) -> None:
        super()._load_own_state(state)
        self._ledger = {str(arm): [float(value) for value in row] for arm, row in state["ledger"].items()}

    def _own_metrics(self) -> dict[str, float]:
        return {
            **super()._own_metrics(),
            **{f"behind/{arm}": row[0] + row[1] for arm, row in self._ledger.items()},
            **{f"prompts_until_exhausted/{arm}": count for arm, count in self._prompts_left().items()},
        }

    def _explain(self, row: int) -> dict[str, Any]:
        arm = self.pool.arm_names[int(self.pool.arms[row])]
        behind, owed, _ = self._ledger.get(arm, [0.0, 0.0, 0.0])
        return {**super()._explain(row), "arm_behind_its_share": behind + owed}
