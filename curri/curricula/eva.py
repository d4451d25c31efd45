"""``eva``: evolved prompts beside originals, and which prompts to evolve, after eva (arXiv 2411.00062)."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.curricula.base import Curriculum
from curri.curricula.request import Picked, Request
from curri.errors import InvalidParameter, PoolExhausted
from curri.estimators import group_informativeness, informativeness_weights, topic_blend
from curri.parameters import choice, integer, real
from curri.selectors import WeightedPicker, uniform_rows, weighted_without_replacement
from curri.types import prompt_id_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.curricula.evidence import Evidence
    from curri.selectors import DrawMethod
    from curri.state import State
    from curri.types import Bools, Floats, Ints

_log = logging.getLogger("curri")

_UNKNOWN = -1.0
"""In place of the informativeness of a prompt that nothing is known of; all kinds used here are at least 0."""

_ORIGINAL, _CHILD, _EVICTED, _RETIRED = range(4)
_BINS = 10
_WARM_UP, _MIX_UP, _BOOTSTRAP = range(3)


class Eva(Curriculum):
    """Mixes evolved prompts (children) with the originals they come from, and names the prompts worth evolving.

    Children are the prompts of the pool with a ``generation`` above 0; ``curri.evolution.evolve`` makes them, from the
    ids that :meth:`parents` gives. Every prompt keeps the informativeness of its last told group, with rewards
    r_1 … r_n (one of the paper's proxies, see :func:`curri.estimators.informativeness`):

        A*_min = max r − min r,   A*_avg = max r − mean r,   A*_dts = r_(1) − r_(2),   var(r).

    What to train on: a share ρ of each batch are children, the rest originals. Both counts are exact: the fraction of a
    prompt that a batch leaves over is carried to the next one, so over many batches they are never one prompt off.

    * ``schedule="offline"`` (the released code, 20 % base and 80 % evolved): ρ is 0.8 from the first child on, uniform
      within each part.
    * ``schedule="online"`` (the ICML version, after its summaries): a prioritised buffer in three phases. Warm-up:
      originals only, for ``warmup`` rounds and until there are children. Mix-up: ρ rises in equal steps to its full
      value within ``mixup`` rounds. Bootstrap: ρ stays. Originals are uniform; children are drawn by
      informativeness + ``floor``. A child not told yet counts as the mean parent does, Σ info² / Σ info over what
      was told when it came: the expected informativeness of a prompt drawn by it. Beyond ``capacity`` children, the
      least informative or the oldest do not take part (``eviction``).

    What to evolve: :meth:`parents` draws floor(f · N) of the N told prompts by w = minmax(info), without replacement.

    Where the paper, its released code and this implementation differ:

    * ``informativeness``: offline the paper takes A*_min, online A*_avg; here A*_avg. With rewards of 0 and 1, A*_min
      is 1 for every mixed group and ranks nothing; A*_dts is 1 for exactly one success and else 0; var did worse than
      uniform in the paper's ablation. A*_avg = 1 − k/n for k ≥ 1 of n solved: it ranks mixed groups, the hard first,
      with the highest expectation at a pass rate of 1 − n^(−1/(n−1)), 0.26 for n = 8. All are 0 for an unsolved
      group, though its true regret is the largest; ``floor`` and ``revisit_after`` bring such prompts back.
    * ``weighting``: the code's min–max gives the least informative prompt weight 0 and, where all are equal, 0/0.
      Here equal ones are drawn uniformly. "proportional" leaves out the shift.
    * ``topic_share``: the code's ``iw_topic`` is 0.25; topics are the arms.
    * The online variant has no released code. ``warmup``, ``mixup``, ``capacity`` and the prior of new children are
      ours; the prior stands for "the parent's informativeness", as a pool does not know parents.
    * A group of one response says nothing of its prompt and leaves what was known. Probes count like other groups.
    * Where one part has too few prompts the other one fills the batch. That is counted as a fallback, unless it is
      only that no child (or no original) exists yet.

    >>> from curri import PromptPool, Rollouts
    >>> eva = Eva(PromptPool(range(30), generation=[0] * 20 + [1] * 10), seed=0)
    >>> int((eva.ask(10).prompt_ids >= 20).sum())
    8
    >>> eva.tell(Rollouts([3] * 4 + [25] * 4 + [7] * 4, rewards=[0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1]))
    >>> eva.advance()
    >>> eva.parents(2).tolist()
    [3, 25]
    """

    name: ClassVar[str] = "eva"
    summary: ClassVar[str] = "evolved prompts beside originals, and which prompts to evolve (eva)"
    source: ClassVar[str] = "eva, arXiv 2411.00062"
    cursors: ClassVar[frozenset[str]] = frozenset({"carried", "picked"})

    schedule: str = choice(
        default="offline",
        of=("offline", "online"),
        doc="a fixed mix, uniform within; or a buffer whose children come in gradually and by informativeness",
        source="released code: offline; online: ICML version",
    )
    informativeness: str = choice(
        default="avg",
        of=("min", "avg", "dts", "var"),
        symbol="A*",
        doc="what the rewards of a group say of how informative its prompt is",
        source="paper: avg online, min offline; min says nothing of 0/1 rewards but that they are mixed",
    )
    children_share: float = real(
        default=0.8,
        low=0.0,
        high=1.0,
        symbol="ρ",
        doc="share of evolved prompts in a batch",
        source="released code: 20 % base, 80 % evolved",
    )
    warmup: int = integer(default=10, low=1, doc="online: rounds of originals only", source="ours; not readable")
    mixup: int = integer(
        default=40, low=1, doc="online: rounds in which the share of children rises", source="ours; not readable"
    )
    floor: float = real(
        default=0.05,
        above=0.0,
        high=1e100,
        doc="online: added to every child's informativeness, in units of the reward, so that none is lost for good",
        source="ours",
    )
    capacity: int = integer(default=0, low=0, doc="online: children that take part at most; 0 for all", source="ours")
    eviction: str = choice(
        default="lowest",
        of=("lowest", "oldest"),
        doc="online: which children do not take part beyond `capacity`",
        source="ours",
    )
    draw: str = choice(
        default="systematic",
        of=("systematic", "successive"),
        doc="online: how children are drawn by weight; systematic gives exact inclusion probabilities",
        source="ours",
    )
    sampler: str = choice(
        default="weighted",
        of=("weighted", "greedy", "stratified"),
        doc="how `parents` chooses: by weighted draw, the highest weights, or by weight within ten quantile bins",
        source="released code: importance_weighted",
    )
    weighting: str = choice(
        default="minmax",
        of=("minmax", "proportional"),
        doc="how `parents` turns informativeness into weights",
        source="released code: minmax",
    )
    parent_share: float = real(
        default=0.25, low=0.0, high=1.0, symbol="f", doc="share of the told prompts to evolve", source="released code"
    )
    topic_share: float = real(
        default=0.0,
        low=0.0,
        high=1.0,
        doc="part of a parent's weight that goes by the inverse size of its arm",
        source="released code: 0.25 in iw_topic, else 0",
    )

    # ---- what to evolve -----------------------------------------------------------------------------------------

    def parents(self, n: int | None = None, seed: int | None = None, among: ArrayLike | None = None) -> Ints:
        """Ids of prompts worth evolving, in the order drawn; only prompts with a told group can be among them.

        The draw depends on the state, the number of closed rounds and the seed alone, and moves nothing: the same
        question gives the same answer, also after a resume. A larger ``n`` gives those of a smaller one first
        (except with ``sampler="stratified"``).

        Args:
            n: how many; by default floor(``parent_share`` · N) of the N active prompts with a told group.
            seed: for another draw in the same round; by default that of the strategy.
            among: ids of the prompts that may be drawn; all if None.

        Returns:
            Prompt ids, shape (n,).

        Raises:
            InvalidParameter: an argument is out of range.
            PoolExhausted: fewer prompts have a told group.
        """
        told = (self._columns["told_in"] >= 0) & self.pool.active
        if among is not None:
            told &= np.isin(self.pool.ids, prompt_id_array(among, "`among` of `parents`"))
        rows = np.flatnonzero(told)
        k = self._parent_count(n, rows.size)
        weights = self._parent_weights(rows)
        if k and np.ptp(self._columns["info"][rows]) == 0.0:
            self._note_uniform_parents()
        rng = np.random.Generator(np.random.PCG64([_checked_seed(self.seed if seed is None else seed), *self._clock]))
        if self.sampler == "stratified":
            chosen = _stratified(weights, k, rng)
        elif self.sampler == "greedy":
            chosen = np.lexsort((rng.random(rows.size), -weights))[:k]
        else:
            chosen = weighted_without_replacement(weights, k, rng)
        return self.pool.ids[rows[chosen]]

    def _parent_count(self, n: int | None, known: int) -> int:
        if n is None:
            return int(self.parent_share * known)
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
            raise InvalidParameter(f"`n` of `parents` must be an int in [0, inf); got {n!r}")
        if n > known:
            raise PoolExhausted(
                f"asked for {n} parents; {known} of {self.pool.n_active} active prompts have a told group",
                hint="only a told group says how informative a prompt is: ask for fewer, or later",
            )
        return int(n)

    def _parent_weights(self, rows: Ints) -> Floats:
        weights = informativeness_weights(self._columns["info"][rows], self.weighting)
        return topic_blend(weights, self.pool.arms[rows], self.topic_share) if self.topic_share else weights

    @property
    def _clock(self) -> tuple[int, int]:
        return self._rounds_closed, 0x657661  # "eva": not the numbers that picks are made of

    def _note_uniform_parents(self) -> None:
        """Counted in memory only: ``parents`` leaves no trace in the state."""
        if not self._uniform_parents:
            _log.warning(
                "%s: all told prompts are equally informative, so `parents` draws uniformly (group rewards of another "
                "kind, or another `informativeness`, tell them apart)",
                self.name,
            )
        self._uniform_parents += 1

    # ---- picking ------------------------------------------------------------------------------------------------

    def _pick(self, request: Request) -> Picked:
        if request.quota is None:
            parts = self._pick_from(None, request.n, request)
        else:
            arms = np.flatnonzero(request.quota).tolist()
            parts = [part for arm in arms for part in self._pick_from(arm, int(request.quota[arm]), request)]
        rows, probability = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = self._rng.permutation(rows.size)
        return Picked(rows[order], probability[order])

    def _receive(self, rows: Ints) -> Picked:
        originals = int(np.sum(self._tier[rows] == _ORIGINAL))
        self._picked[0] += originals
        self._picked[1] += rows.size - originals
        return super()._receive(rows)

    def _pick_from(self, arm: int | None, n: int, request: Request) -> list[tuple[Ints, Floats]]:
        """``n`` prompts of one arm, or of all: children, originals and, where both run out, evicted children."""
        supply = self._supply(arm, request.excluded)
        wanted = self._wanted_children(arm, n) if self._sizes(arm)[_CHILD] else 0
        children, originals, evicted = self._counts(n, wanted, supply, self._sizes(arm))
        self._picked[0] += originals
        self._picked[1] += children + evicted
        return [
            self._children(arm, children, request.excluded, supply),
            self._uniform(_ORIGINAL, arm, originals, request.excluded, supply),
            self._uniform(_EVICTED, arm, evicted, request.excluded, supply),
        ]

    def _counts(self, n: int, wanted: int, supply: Ints, sizes: Ints) -> tuple[int, int, int]:
        """How many children, originals and evicted children make a batch of ``n``."""
        originals = min(n - min(wanted, int(supply[_CHILD])), int(supply[_ORIGINAL]))
        children = min(n - originals, int(supply[_CHILD]))
        if children < wanted:
            self._fall_back(
                "few_children",
                "there are fewer children than their share of a batch, and originals take their places "
                "(evolve more, or lower `children_share`)",
            )
        if children > wanted and sizes[_ORIGINAL]:
            self._fall_back(
                "few_originals",
                "there are fewer originals than their share of a batch, and children take their places "
                "(raise `children_share`, or ask for fewer prompts)",
            )
        evicted = n - children - originals
        if evicted:
            self._fall_back(
                "evicted_children",
                "the batch is larger than what takes part, so children beyond `capacity` fill it (raise `capacity`)",
            )
        return children, originals, evicted

    def _wanted_children(self, arm: int | None, n: int) -> int:
        """The whole number of children that is due; what is left over is carried to the next batch."""
        name = "" if arm is None else "arm " + self.pool.arm_names[arm]
        due = n * self.share + self._carried.get(name, 0.5)  # the half rounds a single batch to the nearest number
        self._carried[name] = due - int(due)
        return int(due)

    def _uniform(self, tier: int, arm: int | None, n: int, excluded: Ints, supply: Ints) -> tuple[Ints, Floats]:
        rows = uniform_rows(self._rows(tier, arm), n, self._rng, excluded)
        return rows, np.full(n, n / max(int(supply[tier]), 1))

    def _children(self, arm: int | None, n: int, excluded: Ints, supply: Ints) -> tuple[Ints, Floats]:
        if self._picker is None or not n:
            return self._uniform(_CHILD, arm, n, excluded, supply)
        method: DrawMethod = "successive" if self.draw == "successive" else "systematic"
        drawn = self._picker.draw(n, self._rng, method=method, exclude=excluded, arm=arm)
        return drawn.rows, drawn.probability

    def _supply(self, arm: int | None, excluded: Ints) -> Ints:
        """Prompts of each tier that may be picked, shape (4,)."""
        gone = excluded if arm is None else excluded[self.pool.arms[excluded] == arm]
        return self._sizes(arm) - np.bincount(self._tier[gone], minlength=4)

    def _arm_mass(self, request: Request) -> Floats:
        """Each part's share of a batch, spread over the arms by what it has there."""
        tiers = self._tier[request.excluded]
        free_A = {}
        for tier in (_ORIGINAL, _CHILD):
            gone = np.bincount(self.pool.arms[request.excluded[tiers == tier]], minlength=request.supply.size)
            free_A[tier] = (self._sizes_by_arm[tier] - gone).astype(np.float64)
        if self._picker is not None:
            out = request.excluded[tiers == _CHILD]
            inside = np.array([self._picker.arm_total(arm) for arm in range(request.supply.size)])
            lost = np.bincount(self.pool.arms[out], self._picker.weights_at(out), request.supply.size)
            smallest = np.finfo(np.float64).tiny  # what rounding may make of the difference
            free_A[_CHILD] = np.where(free_A[_CHILD] > 0.0, np.maximum(inside - lost, smallest), 0.0)
        originals, children = (part / max(float(part.sum()), 1e-300) for part in free_A.values())
        both = bool(originals.any() and children.any())
        mass = (1.0 - self.share) * originals + self.share * children if both else originals + children
        return np.asarray(mass) if mass.any() else request.supply.astype(np.float64)

    @property
    def share(self) -> float:
        """ρ as it is now: the share of children in the next batch, as far as there are any."""
        if self.schedule == "offline":
            return self.children_share
        if self._mixing_since < 0:
            return 0.0
        steps = self._rounds_closed - self._mixing_since + 1
        return self.children_share * min(1.0, steps / self.mixup)

    @property
    def phase(self) -> str:
        """Where the online schedule stands: "warm-up", "mix-up" or "bootstrap" (which the offline one always is)."""
        return ("warm-up", "mix-up", "bootstrap")[self._phase]

    @property
    def _phase(self) -> int:
        if self.schedule == "offline":
            return _BOOTSTRAP
        if self._mixing_since < 0:
            return _WARM_UP
        return _MIX_UP if self._rounds_closed - self._mixing_since + 1 < self.mixup else _BOOTSTRAP

    # ---- learning -----------------------------------------------------------------------------------------------

    def _column_defaults(self) -> dict[str, np.generic]:
        return {"info": np.float64(_UNKNOWN), "told_in": np.int64(-1)}

    def _set_up(self) -> None:
        self._mixing_since: int = getattr(self, "_mixing_since", -1)
        self._carried: dict[str, float] = getattr(self, "_carried", {})
        self._picked: list[int] = getattr(self, "_picked", [0, 0])
        self._uniform_parents: int = getattr(self, "_uniform_parents", 0)
        is_child = self._is_child()
        self._active_children = np.flatnonzero(is_child & self.pool.active)
        self._tier = np.where(self.pool.active, np.where(is_child, _CHILD, _ORIGINAL), _RETIRED).astype(np.int8)
        self._new = self._active_children[self._columns["info"][self._active_children] < 0.0]
        self._tier[self._beyond_capacity()] = _EVICTED
        self._rows_of: dict[tuple[int, int | None], Ints] = {}
        self._forget_children()
        self._picker: WeightedPicker | None = None
        if self.schedule == "online" and self._active_children.size:
            weights = np.zeros(len(self.pool))
            weights[self._active_children] = self._weights(self._active_children)
            self._picker = WeightedPicker(self.pool.ids, weights, seed=self.seed, arms=self.pool.arms)

    def _is_child(self) -> Bools:
        """Which prompts are evolved ones, shape (_P,)."""
        generation = self.pool.generation
        return np.zeros(len(self.pool), dtype=np.bool_) if generation is None else generation > 0

    def _fold(self, evidence: Evidence) -> None:
        groups = evidence.groups(probe=None)
        _, info, size = group_informativeness(evidence.rewards, evidence.rows, self.informativeness)
        info = np.where(groups.live, info, 0.0)  # rewards equal but for rounding
        told = groups.rows[size > 1]
        newly_known = np.isin(self._new, told)
        self._columns.write(told, info=info[size > 1], told_in=self._rounds_closed)
        self._new = self._new[~newly_known]
        self._reweigh(np.union1d(told, self._introduce()))
        if self._mixing_since < 0 and self._active_children.size and self._rounds_closed + 1 >= self.warmup:
            self._mixing_since = self._rounds_closed + 1

    def _introduce(self) -> Ints:
        """Give children that nothing is known of the mean parent's informativeness; returns their rows."""
        if not self._new.size:
            return np.empty(0, dtype=np.int64)
        known = self._columns["info"][self._columns["told_in"] >= 0]
        if not known.size:
            return np.empty(0, dtype=np.int64)
        rows: Ints = self._new
        self._new = np.empty(0, dtype=np.int64)
        self._columns.write(rows, info=_mean_drawn(known))
        return rows

    def _reweigh(self, rows: Ints) -> None:
        """Bring the picker up to date where the informativeness of ``rows`` has changed."""
        if self._picker is None:
            return
        rows = rows[(self._tier[rows] == _CHILD) | (self._tier[rows] == _EVICTED)]
        if self.capacity and self._active_children.size > self.capacity and rows.size:
            tier = np.full(self._active_children.size, _CHILD, dtype=np.int8)
            tier[np.searchsorted(self._active_children, self._beyond_capacity())] = _EVICTED
            moved = self._active_children[self._tier[self._active_children] != tier]
            self._tier[self._active_children] = tier
            if moved.size:
                self._forget_children()
                rows = np.union1d(rows, moved)
        self._picker.update(rows, self._weights(rows))

    def _beyond_capacity(self) -> Ints:
        """Active children that do not take part."""
        rows = self._active_children
        beyond = rows.size - self.capacity
        if self.schedule == "offline" or not self.capacity or beyond <= 0:
            return np.empty(0, dtype=np.int64)
        if self.eviction == "oldest":
            return rows[:beyond]
        info = self._columns["info"][rows]
        info = np.where(info < 0.0, np.inf, info)
        last_out = np.partition(info, beyond - 1)[beyond - 1]
        below, tied = rows[info < last_out], rows[info == last_out]
        return np.concatenate([below, tied[: beyond - below.size]])

    def _weights(self, rows: Ints) -> Floats:
        info = self._columns["info"][rows]
        known = np.where(info < 0.0, 1.0, info)  # nothing is known of any prompt yet: all children are alike
        return np.where(self._tier[rows] == _CHILD, known + self.floor, 0.0)

    # ---- the tiers: originals, children that take part, evicted ones ----------------------------------------------

    def _forget_children(self) -> None:
        self._rows_of = {key: rows for key, rows in self._rows_of.items() if key[0] == _ORIGINAL}
        self._sizes_of: dict[int | None, Ints] = {}
        self.__dict__.pop("_sizes_by_arm", None)

    def _rows(self, tier: int, arm: int | None) -> Ints:
        """Active rows of a tier, of one arm or all, ascending."""
        if (tier, arm) not in self._rows_of:
            rows = self.pool.active_everywhere if arm is None else self.pool.active_rows(arm)
            self._rows_of[tier, arm] = rows[self._tier[rows] == tier]
        return self._rows_of[tier, arm]

    def _sizes(self, arm: int | None) -> Ints:
        """Active prompts of each tier, of one arm or all, shape (4,)."""
        if arm not in self._sizes_of:
            sizes = [self._rows(tier, arm).size for tier in (_ORIGINAL, _CHILD, _EVICTED)]
            self._sizes_of[arm] = np.array([*sizes, 0], dtype=np.int64)
        return self._sizes_of[arm]

    @cached_property
    def _sizes_by_arm(self) -> tuple[Ints, Ints]:
        """Originals, and children that take part, of each arm, both of shape (_A,)."""
        arms, n_arms = self.pool.arms, len(self.pool.arm_names)
        originals, children = (
            np.bincount(arms[self._rows(tier, None)], minlength=n_arms).astype(np.int64) for tier in (_ORIGINAL, _CHILD)
        )
        return originals, children

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _own_state(self) -> State:
        return {
            "mixing_since": self._mixing_since,
            "carried": dict(sorted(self._carried.items())),
            "picked": list(self._picked),
        }

    def _load_own_state(self, state: State) -> None:
        self._mixing_since = int(state["mixing_since"])
        self._carried = {str(name): float(value) for name, value in state["carried"].items()}
        self._picked = [int(count) for count in state["picked"]]

    def _own_metrics(self) -> dict[str, float]:
        known = self._columns["info"][self._columns["told_in"] >= 0]
        originals, children = self._picked
        sizes = self._sizes(None)
        return {
            "phase": self._phase,
            "children_share": self.share if self._active_children.size else 0.0,
            "children_share_so_far": children / max(originals + children, 1),
            "originals": int(sizes[_ORIGINAL]),
            "children": int(self._active_children.size),
            "children_in_buffer": int(sizes[_CHILD]),
            "prompts_told": int(known.size),
            "mean_info": float(known.mean()) if known.size else 0.0,
            "informative_share": float(np.mean(known > 0.0)) if known.size else 0.0,
            **({"fallback/uniform_parents": self._uniform_parents} if self._uniform_parents else {}),
        }

    def _explain(self, row: int) -> dict[str, Any]:
        info = float(self._columns["info"][row])
        told = int(self._columns["told_in"][row])
        rows = np.flatnonzero((self._columns["told_in"] >= 0) & self.pool.active)
        parent = self._parent_weights(rows)[rows == row] if told >= 0 else np.empty(0)
        part = ("original", "child", "evicted child", "retired")[int(self._tier[row])]
        return {
            "generation": 0 if self.pool.generation is None else int(self.pool.generation[row]),
            "part": part,
            "info": None if info < 0.0 else info,
            "told_in_round": None if told < 0 else told,
            "weight": self._share_of_part(row),
            "weight_as_parent": float(parent[0]) if parent.size else 0.0,
        }

    def _share_of_part(self, row: int) -> float:
        """Probability of the prompt in a draw of one from its part of the batch."""
        tier = int(self._tier[row])
        if tier == _RETIRED:
            return 0.0
        if tier == _CHILD and self._picker is not None:
            return float(self._picker.weights_at(np.array([row]))[0] / self._picker.total)
        return 1.0 / int(self._sizes(None)[tier])


def _mean_drawn(info: Floats) -> float:
    """Σ info² / Σ info: the mean of a prompt drawn in proportion to it; 0 where all are 0."""
    largest = float(info.max())
    if largest <= 0.0:
        return 0.0
    part = info / largest
    return largest * float(np.square(part).sum() / part.sum())


def _stratified(weights: Floats, k: int, rng: np.random.Generator) -> Ints:
    """``k`` positions from ten bins of equal size by weight, about k/10 of each, by weight within a bin.

    What does not divide by ten comes from the bins of higher weight.
    """
    ranked = np.lexsort((rng.random(weights.size), weights))
    bins = np.array_split(ranked, _BINS)[::-1]
    left = np.array([part.size for part in bins])
    counts = np.zeros(_BINS, dtype=np.int64)
    while counts.sum() < k:
        open_ = np.flatnonzero(counts < left)
        each = max((k - int(counts.sum())) // open_.size, 1)
        for place in open_.tolist():
            counts[place] += min(each, int(left[place] - counts[place]), k - int(counts.sum()))
    parts = [
        part[weighted_without_replacement(weights[part], int(count), rng)]
        for part, count in zip(bins, counts.tolist(), strict=True)
    ]
    return np.concatenate(parts).astype(np.int64)


def _checked_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InvalidParameter(f"`seed` of `parents` must be an int in [0, inf); got {seed!r}")
    return int(seed)
