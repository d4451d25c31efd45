"""What strategies that decide between arms have in common.

A weight for every arm, whole counts of a batch drawn by the weights, and prompts inside an arm: any of them
(:class:`ArmCurriculum`), or those that did not come yet in this epoch of the arm (:class:`ArmEpochs`).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.curricula.base import Curriculum, Picked, Request
from curri.curricula.uniform import Uniform
from curri.estimators import group_advantages
from curri.parameters import choice
from curri.selectors import capped_shares, replacement_counts, successive_counts, systematic_counts, uniform_rows

if TYPE_CHECKING:
    from curri.curricula.evidence import Evidence
    from curri.state import State
    from curri.types import Floats, Ints

DRAWS = ("systematic", "successive", "replacement")


def draw_switch(*, source: str, of: tuple[str, ...] = DRAWS) -> Any:
    """Declare the parameter ``draw`` of an :class:`ArmCurriculum`."""
    return choice(default="systematic", of=of, doc="how a batch is drawn by the arms' weights", source=source)


class ArmCurriculum(Curriculum):
    """A strategy that gives every arm a weight and takes prompts inside an arm uniformly.

    A subclass writes ``_arm_weights`` and declares ``draw`` (see :func:`draw_switch`): how the weights become whole
    counts of a batch.

    * "systematic": expected counts q_a = min(m_a, c·w_a), rounded up or down at random. A prompt of an arm of m_a
      prompts comes with probability q_a / m_a.
    * "successive": one arm after another by its weight; an arm without prompts drops out.
    * "replacement": arms and prompts with replacement; a prompt drawn twice gets two groups of rollouts.

    With a ``quota`` the counts are given and the weights do not matter.
    """

    more_weight: ClassVar[str] = ""
    """What gives light arms more weight, as part of a sentence; said where the heavy ones run short."""

    @abstractmethod
    def _arm_weights(self, supply: Ints) -> Floats:
        """Probability of each arm to give the next prompt, shape (_A,); moves nothing.

        Adds up to 1, and is 0 for arms without supply; all 0 where there is nothing to choose by.
        """

    @property
    def _draws_by(self) -> str:
        """One of :data:`DRAWS`."""
        return str(getattr(self, "draw", DRAWS[0]))

    @property
    def arm_weights(self) -> dict[str, float]:
        """The weight of every arm that has prompts to pick, adding up to 1."""
        sizes = self.pool.arm_sizes
        weights = self._arm_weights(sizes).tolist()
        return {name: weight for name, weight, size in zip(self.pool.arm_names, weights, sizes, strict=True) if size}

    # ---- picking ------------------------------------------------------------------------------------------------

    def _pick(self, request: Request) -> Picked:
        if request.quota is not None:
            return self._drawn(request, request.quota, request.quota.astype(np.float64))
        if self._draws_by == "replacement":
            return self._drawn_with_replacement(request, self._arm_weights(request.supply))
        return self._drawn(request, *self._counted(request))

    def _arm_mass(self, request: Request) -> Floats:
        return self._arm_weights(request.supply)

    def _arm_counts(self, request: Request) -> Ints:
        return self._counted(request)[0]

    def _counted(self, request: Request) -> tuple[Ints, Floats]:
        """Prompts of each arm in this batch, and their expectation before the draw (NaN without a closed form)."""
        weights = self._arm_weights(request.supply)
        if request.supply[weights > 0].sum() < request.n:
            self._fall_back(
                "arms_exhausted",
                "the arms with weight have too few prompts for the batch; the rest of it is spread over the other arms "
                f"by their size{self.more_weight and f' ({self.more_weight} gives them weight)'}",
            )
        if self._draws_by == "systematic":
            shares = capped_shares(weights, request.supply, request.n)
            return systematic_counts(shares, self._rng), shares
        counts = successive_counts(weights, request.supply, request.n, self._rng)
        return counts, self._successive_expectation(request, weights)

    def _successive_expectation(self, request: Request, weights: Floats) -> Floats:
        """Expected counts n · w_a where no arm can run out, else NaN."""
        if weights.any() and np.all((weights == 0) | (request.supply >= request.n)):
            return request.n * weights
        return np.full(weights.shape, np.nan)

    def _drawn(self, request: Request, counts: Ints, expected_A: Floats) -> Picked:
        """These counts of each arm, in random order."""
        parts = [
            uniform_rows(self.pool.active_rows(arm), int(counts[arm]), self._rng, request.excluded)
            for arm in np.flatnonzero(counts).tolist()
        ]
        rows = self._rng.permutation(np.concatenate(parts))
        return Picked(rows, (expected_A / np.maximum(request.supply, 1))[self.pool.arms[rows]])

    def _drawn_with_replacement(self, request: Request, weights: Floats) -> Picked:
        parts = []
        for arm, count in enumerate(replacement_counts(weights, request.n, self._rng).tolist()):
            if count:
                candidates = np.setdiff1d(self.pool.active_rows(arm), request.excluded, assume_unique=True)
                parts.append(candidates[self._rng.integers(0, candidates.size, count)])
        rows, times = np.unique(np.concatenate(parts), return_counts=True)
        order = self._rng.permutation(rows.size)
        rows, times = rows[order], times[order]
        each = (weights / np.maximum(request.supply, 1))[self.pool.arms[rows]]
        with np.errstate(divide="ignore"):  # the only prompt of the only arm: log(0), and it comes for certain
            missed = request.n * np.log1p(-each)
        return Picked(rows, -np.expm1(missed), times * self.group_size)

    # ---- talk ---------------------------------------------------------------------------------------------------

    def _own_metrics(self) -> dict[str, float]:
        weights = self.arm_weights
        return {
            "arms": len(weights),
            "arms_empty": int(np.sum(self.pool.arm_sizes == 0)),
            **{f"weight/{arm}": weight for arm, weight in weights.items()},
        }

    def _explain(self, row: int) -> dict[str, Any]:
        arm = int(self.pool.arms[row])
        weight = self.arm_weights.get(self.pool.arm_names[arm], 0.0)
        size = int(self.pool.arm_sizes[arm])
        return {
            "arm_weight": weight,
            "arm_prompts": size,
            "share_of_a_batch": weight / size if size and self.pool.active[row] else 0.0,
        }


class ArmEpochs(ArmCurriculum, Uniform):
    """Arms by weight, and inside an arm no prompt again before every prompt of the arm came.

    The epochs are those of :class:`~curri.curricula.uniform.Uniform` with a quota: every arm has its own, and excluded
    prompts wait in theirs until they may be picked. Learns nothing, unless a subclass does.
    """

    cursors: ClassVar[frozenset[str]] = frozenset({"drawn", "epochs"})

    @property
    def _in_epochs(self) -> bool:
        """False where prompts inside an arm are drawn as in :class:`ArmCurriculum`."""
        return True

    def _column_defaults(self) -> dict[str, np.generic]:
        return super()._column_defaults() if self._in_epochs else {}

    def _set_up(self) -> None:
        if not self._in_epochs:
            return
        super()._set_up()
        known: dict[str, int] = getattr(self, "_opened", {})
        earliest = min(known.values(), default=0)
        self._opened = {name: known.get(name, earliest) for name in self.pool.arm_names}
        waiting = self.pool.active & ~self._columns["drawn"]
        self._unseen_A = np.bincount(self.pool.arms[waiting], minlength=len(self.pool.arm_names)).astype(np.int64)

    def _free(self, excluded: Ints) -> Ints:
        """Prompts of each arm that wait in its epoch and may be picked, shape (_A,)."""
        waiting = excluded[self.pool.active[excluded] & ~self._columns["drawn"][excluded]]
        return self._unseen_A - np.bincount(self.pool.arms[waiting], minlength=self._unseen_A.size)

    def _drawn(self, request: Request, counts: Ints, expected_A: Floats) -> Picked:
        if not self._in_epochs:
            return super()._drawn(request, counts, expected_A)
        free = self._free(request.excluded)
        last = np.minimum(1.0, expected_A / np.maximum(free, 1))
        first = (expected_A - free) / np.maximum(request.supply - free, 1)
        excluded = request.excluded[np.argsort(self.pool.arms[request.excluded], kind="stable")]
        bounds = np.searchsorted(self.pool.arms[excluded], np.arange(counts.size + 1))
        rows, chances = [], []
        for arm in np.flatnonzero(counts).tolist():
            count = int(counts[arm])
            rows.append(self._pick_from(arm, count, excluded[bounds[arm] : bounds[arm + 1]])[0])
            chances.append(np.where(np.arange(count) < free[arm], last[arm], first[arm]))
        order = self._rng.permutation(request.n)
        return Picked(np.concatenate(rows)[order], np.concatenate(chances)[order])

    def _successive_expectation(self, request: Request, weights: Floats) -> Floats:
        expected = super()._successive_expectation(request, weights)
        if self._in_epochs and np.any(self._free(request.excluded)[weights > 0] < request.n):
            return np.full(weights.shape, np.nan)  # an epoch may end within the batch
        return expected

    def _take(self, arm: int | None, n: int, excluded: Ints) -> tuple[Ints, Floats]:
        rows, probability = super()._take(arm, n, excluded)
        self._unseen_A -= np.bincount(self.pool.arms[rows], minlength=self._unseen_A.size)
        return rows, probability

    def _receive(self, rows: Ints) -> Picked:
        if not self._in_epochs:
            return super(Uniform, self)._receive(rows)  # there are no epochs to note it in
        waiting = rows[~self._columns["drawn"][rows]]
        self._unseen_A -= np.bincount(self.pool.arms[waiting], minlength=self._unseen_A.size)
        return super()._receive(rows)

    def _open_epoch(self, arm: int | None) -> None:
        super()._open_epoch(arm)
        for code in range(self._unseen_A.size) if arm is None else (arm,):
            self._opened[self.pool.arm_names[code]] += 1
            self._unseen_A[code] = self.pool.arm_sizes[code]

    def _own_state(self) -> State:
        return {"epochs": dict(self._opened)} if self._in_epochs else {}

    def _load_own_state(self, state: State) -> None:
        if self._in_epochs:
            self._opened = {str(arm): int(count) for arm, count in state["epochs"].items()}

    def _own_metrics(self) -> dict[str, float]:
        metrics = super()._own_metrics()
        if self._in_epochs:
            unseen = zip(self.pool.arm_names, self._unseen_A.tolist(), strict=True)
            metrics |= {f"epoch/{arm}": self._opened[arm] for arm in self.arm_weights}
            metrics |= {f"unseen/{arm}": count for arm, count in unseen}
        return metrics

    def _explain(self, row: int) -> dict[str, Any]:
        said = super()._explain(row)
        if not self._in_epochs:
            return said
        arm = int(self.pool.arms[row])
        return {
            **said,
            "drawn_in_this_epoch": bool(self._columns["drawn"][row]),
            "epoch": self._opened[self.pool.arm_names[arm]],
            "prompts_left_in_epoch": int(self._unseen_A[arm]),
        }


def told_advantages(evidence: Evidence, *, normalize_std: bool) -> tuple[Ints, Ints, Floats]:
    """Rows, prompt ids and advantages of the training responses.

    An advantage that was not told is computed from the rewards of the prompt's group (GRPO).

    Args:
        evidence: of one round.
        normalize_std: whether an advantage computed here is divided by its group's standard deviation.

    Returns:
        three arrays of shape (training responses,), in the order of the evidence.
    """
    train = ~evidence.probe if np.count_nonzero(evidence.probe) else slice(None)
    rows, told = evidence.rows[train], evidence.advantages[train]
    missing = np.isnan(told)
    if np.count_nonzero(missing):
        own = group_advantages(evidence.rewards[train], rows, normalize_std=normalize_std)
        told = np.where(missing, own, told)
    return rows, evidence.prompt_ids[train], told
