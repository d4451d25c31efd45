"""How many prompts to ask for so that enough groups carry signal, and what to do when they do not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidParameter
from curri.selectors.hashing import stable_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from curri.types import Bools, Ints

__all__ = ["LiveShare", "RefillBatch", "RefillPlan", "RefillPlanner", "oversampling_factor"]

_PRIOR = 10.0
_PRIOR_SCATTER, _LEAST_SCATTER = 0.005, 0.0005
"""ρ before anything is known (a standard deviation of 3.5 points at a share of one half), and the least it can be."""
_PRIOR_STEPS, _SCATTER_DECAY = 5.0, 0.97
_CERTAIN = 1e9
"""From this strength on a share counts as known: the beta-binomial is a binomial."""
_MOST, _LARGEST = 2**52, 1e6
_ROUNDING = 1e-12


def oversampling_factor(
    live_share: float, wanted: int, *, confidence: float = 0.5, strength: float = math.inf
) -> float:
    """Prompts to ask for, for each live group wanted, so that one ask is enough with a given probability.

    The smallest m with P(at least ``wanted`` of m groups are live) ≥ ``confidence``, over ``wanted``. The number of
    live groups is binomial, or beta-binomial where the share itself is only known as Beta(q·s, (1−q)·s). On average
    ``wanted`` / ``live_share`` prompts are needed (and without end where the share may be 0).

    Args:
        live_share: q in [0, 1]: the share of groups that carry signal.
        wanted: live groups, at least 1.
        confidence: in (0, 1).
        strength: s > 0: how many groups the share is worth; infinite where it is known.

    Returns:
        At least 1; infinite where the share is 0.

    Raises:
        InvalidParameter: an argument is out of range.

    >>> oversampling_factor(0.5, 256), oversampling_factor(0.5, 256, confidence=0.95)
    (1.99609375, 2.1484375)
    """
    _real("oversampling_factor", "live_share", live_share, "[0, 1]", 0.0 <= live_share <= 1.0)
    _real("oversampling_factor", "confidence", confidence, "(0, 1)", 0.0 < confidence < 1.0)
    _real("oversampling_factor", "strength", strength, "(0, inf]", strength > 0.0)
    _whole("oversampling_factor", "wanted", wanted, 1)
    if live_share == 0.0:
        return math.inf
    low, high = wanted, wanted
    while _enough(high, wanted, live_share, strength) < confidence - _ROUNDING:
        low, high = high + 1, 2 * high
        if high > _MOST:
            return math.inf
    while low < high:
        middle = (low + high) // 2
        if _enough(middle, wanted, live_share, strength) >= confidence - _ROUNDING:
            high = middle
        else:
            low = middle + 1
    return high / wanted


def _enough(m: int, wanted: int, share: float, strength: float) -> float:
    """P(at least ``wanted`` of ``m`` are live): 1 − the sum of the first terms, each from the one before."""
    if share >= 1.0:
        return 1.0
    j = np.arange(wanted - 1, dtype=np.float64)
    if strength > _CERTAIN:
        first = m * math.log1p(-share)
        ratio = (m - j) / (j + 1.0) * (share / (1.0 - share))
    else:
        a, b = share * strength, (1.0 - share) * strength
        first = math.lgamma(b + m) - math.lgamma(b) + math.lgamma(a + b) - math.lgamma(a + b + m)
        ratio = (m - j) / (j + 1.0) * (a + j) / (b + m - 1.0 - j)
    logs = first + np.concatenate([[0.0], np.cumsum(np.log(ratio))])
    return 1.0 - float(np.exp(logs).sum())


class LiveShare:
    """The share of groups that carry signal, followed over steps, with an interval for the next step.

    Counts of live and of all groups fade by ``decay`` a step and start as ``prior`` groups, half of them live (a
    recorded run under uniform sampling had 51 %). Steps scatter more than chance alone, as policy and prompts change;
    how much more is estimated by moments as ρ, the correlation between groups of one step: the mean, over about 30
    steps weighted by their precision, of (share − q)²/(q(1−q)) beyond what counting explains. The share of the next
    step is then Beta(q·s, (1−q)·s) with 1/s = 1/(groups counted) + ρ, so many groups never make it look certain.

    Args:
        decay: in (0, 1]; 1 forgets nothing.
        prior: groups, > 0.

    Raises:
        InvalidParameter: an argument is out of range.

    >>> share = LiveShare()
    >>> share.update(live=45, groups=90)
    >>> share.mean, round(share.strength)
    (0.5, 69)
    """

    def __init__(self, *, decay: float = 0.9, prior: float = _PRIOR) -> None:
        _real("LiveShare", "decay", decay, "(0, 1]", 0.0 < decay <= 1.0)
        _real("LiveShare", "prior", prior, "(0, inf)", 0.0 < prior < math.inf)
        self._decay, self._prior = float(decay), float(prior)
        self._live = self._groups = self._scatter = self._steps = 0.0

    @property
    def mean(self) -> float:
        """q: the expected share, in (0, 1)."""
        return (0.5 * self._prior + self._live) / (self._prior + self._groups)

    @property
    def groups(self) -> float:
        """Groups counted, after fading, without the prior."""
        return self._groups

    @property
    def strength(self) -> float:
        """s: how many independent groups the knowledge of the next step's share is worth."""
        return 1.0 / (1.0 / (self._prior + self._groups) + self.scatter)

    @property
    def scatter(self) -> float:
        """ρ > 0: how much steps differ beyond chance."""
        return max(_LEAST_SCATTER, (_PRIOR_STEPS * _PRIOR_SCATTER + self._scatter) / (_PRIOR_STEPS + self._steps))

    def update(self, live: int, groups: int) -> None:
        """Take in the groups of one step; a step without groups changes nothing.

        Args:
            live: how many of them carry signal.
            groups: how many there are.

        Raises:
            InvalidParameter: not 0 ≤ live ≤ groups.
        """
        _whole("LiveShare.update", "live", live, 0)
        _whole("LiveShare.update", "groups", groups, live)
        if not groups:
            return
        mean, own, known = self.mean, 1.0 / groups, 1.0 / (self._prior + self._groups)
        excess = (live / groups - mean) ** 2 / (mean * (1.0 - mean)) - own - known
        weight = ((own + _PRIOR_SCATTER) / (own + _PRIOR_SCATTER + known)) ** 2
        self._scatter = _SCATTER_DECAY * self._scatter + weight * excess
        self._steps = _SCATTER_DECAY * self._steps + weight
        self._live = self._decay * self._live + live
        self._groups = self._decay * self._groups + groups

    def interval(self, confidence: float = 0.9) -> tuple[float, float]:
        """Where the share of the next step lies with this probability (Wilson's score interval with s groups).

        Args:
            confidence: in (0, 1).

        Raises:
            InvalidParameter: out of range.
        """
        _real("LiveShare.interval", "confidence", confidence, "(0, 1)", 0.0 < confidence < 1.0)
        from statistics import NormalDist  # not needed for a listing, and it loads much

        z = NormalDist().inv_cdf(0.5 + 0.5 * confidence)
        s, q = self.strength, self.mean
        centre = (q + z * z / (2 * s)) / (1 + z * z / s)
        half = z / (1 + z * z / s) * math.sqrt(q * (1 - q) / s + z * z / (4 * s * s))
        return max(0.0, centre - half), min(1.0, centre + half)

    def state(self) -> list[float]:
        """What was learned, as plain numbers."""
        return [self._live, self._groups, self._scatter, self._steps]

    @classmethod
    def from_state(cls, state: list[float], *, decay: float = 0.9, prior: float = _PRIOR) -> LiveShare:
        """The same again, from :meth:`state`."""
        share = cls(decay=decay, prior=prior)
        share._live, share._groups, share._scatter, share._steps = (float(value) for value in state)
        return share


@dataclass(frozen=True)
class RefillPlan:
    """What to do next in a step.

    Attributes:
        ask: prompts to ask for now; 0 when the step is to be finished.
        missing: live groups still missing.
        reason: "first", "refill", "waiting" (enough are on their way), "filled", "gave up" (no refill is allowed any
            more) or "no prompts left".
        live_share: the expected share of live groups.
        low: lower end of its interval.
        high: upper end.
        prompts: prompts that the missing groups will cost, in expectation, as far as refills are left.
        rollouts: the same in rollouts.
    """

    ask: int
    missing: int
    reason: str
    live_share: float
    low: float
    high: float
    prompts: float
    rollouts: float


@dataclass(frozen=True, eq=False)
class RefillBatch:
    """The groups to train on, at the end of a step.

    Attributes:
        ids: groups, distinct: carried ones first, then fresh ones; shape (_B,).
        age: steps each of them has waited; 0 for fresh ones, shape (_B,).
        short: how many groups are missing from what was wanted.
        reason: "filled", "gave up", "no prompts left" or "finished early".
        dropped: prompts whose live group will not be trained on: too old, replaced by a fresh one, or surplus where
            nothing is carried; forget their rollouts.
        carried: prompts whose live group waits for the next step; keep their rollouts.
        counts: "asked", "finished", "live", "dead", "lost", "refills", "carried_in", "carried_out", "too_old",
            "replaced", "surplus".
    """

    ids: Ints
    age: Ints
    short: int
    reason: str
    dropped: Ints
    carried: Ints
    counts: Mapping[str, int]


class RefillPlanner:
    """Fills a batch with live groups, step after step, and never fails for want of them.

    A step: :meth:`start` says how many prompts to ask for; :meth:`add` takes verdicts as groups finish and says how
    many more; :meth:`finish` gives the groups to train on. Live groups beyond the batch wait for the next step
    (Confucius3's recycling: one step old, no importance weight) instead of being thrown away. Where DAPO's code raises
    an error after its last generation batch, this gives what there is, with the reason.

    How many to ask for: the smallest number that is enough with probability ``confidence``, given what is known of the
    live share (see :class:`LiveShare`), but not more than ``max_factor`` times the batch at once.

    Which live groups of a step are trained on first is decided by a hash of id and step, never by who came first:
    groups that finish early have short responses, and preferring them biases what is learned.

    Args:
        group_size: rollouts of a prompt, for the expected cost.
        max_refills: asks after the first one of a step.
        max_factor: most prompts in one ask, in batches.
        confidence: probability that one ask is enough, in (0, 1).
        oversample: ≥ 1 for asks of always this many batches, as in released code, whatever is missing; 0 to go by
            what is known of the live share.
        carry: steps that a surplus live group may wait; 0 throws it away.
        decay: of the live share, in (0, 1].
        learn: whether :meth:`finish` updates the live share; off where :meth:`learn_from` is called instead.
        seed: of the hash.

    Raises:
        InvalidParameter: an argument is out of range.

    >>> planner = RefillPlanner(confidence=0.5)
    >>> plan = planner.start(4)
    >>> plan.ask, plan.reason
    (7, 'first')
    >>> plan = planner.add(range(7), [True, False, True, True, False, True, True])
    >>> plan.ask, plan.reason
    (0, 'filled')
    >>> batch = planner.finish()
    >>> batch.ids.size, batch.carried.size, batch.short
    (4, 1, 0)
    >>> planner.start(4).missing
    3
    """

    def __init__(
        self,
        *,
        group_size: int = 8,
        max_refills: int = 10,
        max_factor: float = 4.0,
        confidence: float = 0.8,
        oversample: float = 0.0,
        carry: int = 1,
        decay: float = 0.9,
        learn: bool = True,
        seed: int = 0,
    ) -> None:
        owner = "RefillPlanner"
        _whole(owner, "group_size", group_size, 1)
        _whole(owner, "max_refills", max_refills, 0)
        _whole(owner, "carry", carry, 0)
        _whole(owner, "seed", seed, 0)
        _real(owner, "max_factor", max_factor, "[1, 1e6]", 1.0 <= max_factor <= _LARGEST)
        _real(owner, "confidence", confidence, "(0, 1)", 0.0 < confidence < 1.0)
        _real(owner, "oversample", oversample, "0 or [1, 1e6]", oversample == 0.0 or 1.0 <= oversample <= _LARGEST)
        self._group_size, self._max_refills, self._max_factor = int(group_size), int(max_refills), float(max_factor)
        self._confidence, self._oversample, self._carry = float(confidence), float(oversample), int(carry)
        self._learn, self._decay, self._seed = learn, float(decay), int(seed)
        self._share = LiveShare(decay=decay)
        self._step = 0
        self._totals = dict.fromkeys(("short", "gave_up", "trained", "carried", "dropped", "dead"), 0)
        self._waiting = np.empty(0, dtype=np.int64)
        self._ages = np.empty(0, dtype=np.int64)
        self._close()

    def _close(self) -> None:
        self._wanted = self._asked = self._asks = self._lost = 0
        self._reason = ""
        self._ids: Ints = np.empty(0, dtype=np.int64)
        self._live: Bools = np.empty(0, dtype=np.bool_)

    @property
    def is_open(self) -> bool:
        """Whether a step was started and not finished."""
        return self._wanted > 0

    @property
    def share(self) -> LiveShare:
        """What is known of the share of live groups; within a step, that of the steps before."""
        return self._share

    @property
    def waiting(self) -> Ints:
        """Prompts whose live group waits for the next step, shape (k,)."""
        return self._waiting.copy()

    def learn_from(self, live: int, groups: int) -> None:
        """Take in the groups of one step, where they are counted elsewhere (``learn=False``)."""
        self._share.update(live, groups)

    def start(self, wanted: int, *, available: int | None = None) -> RefillPlan:
        """Open a step.

        Args:
            wanted: live groups in the batch, at least 1.
            available: prompts that can be asked for; None for no limit.

        Raises:
            InvalidParameter: out of range, or a step is open.
        """
        _whole("RefillPlanner.start", "wanted", wanted, 1)
        if self.is_open:
            raise InvalidParameter("a step of this `RefillPlanner` is open; `finish` it before the next `start`")
        self._wanted = int(wanted)
        return self._plan(available)

    def add(self, ids: ArrayLike, live: ArrayLike, *, lost: int = 0, available: int | None = None) -> RefillPlan:
        """Take in finished groups, in any order and in any pieces.

        Args:
            ids: their prompts, shape (k,); for one that is named again, the later word counts.
            live: whether each carries signal, shape (k,).
            lost: further prompts that were asked for and will not come back.
            available: prompts that can still be asked for; None for no limit.

        Raises:
            InvalidParameter: no step is open, or shapes or types differ.
        """
        self._check_open("add")
        _whole("RefillPlanner.add", "lost", lost, 0)
        new, flags = np.asarray(ids), np.asarray(live)
        if new.size == 0 and flags.size == 0:
            new, flags = self._ids[:0], self._live[:0]
        if new.ndim != 1 or new.dtype.kind not in "iu" or flags.shape != new.shape or flags.dtype.kind != "b":
            raise InvalidParameter(
                "`ids` and `live` of `RefillPlanner.add` must be integers and booleans of one shape; "
                f"got {new.dtype} {new.shape} and {flags.dtype} {flags.shape}"
            )
        everything = np.concatenate([new[::-1].astype(np.int64), self._ids])
        self._ids, first = np.unique(everything, return_index=True)
        self._live = np.concatenate([flags[::-1], self._live])[first]
        self._lost += int(lost)
        return self._plan(available)

    def finish(self) -> RefillBatch:
        """Close the step, however full it is, and say what to train on, to keep and to forget.

        Raises:
            InvalidParameter: no step is open.
        """
        self._check_open("finish")
        replaced = np.isin(self._waiting, self._fresh())
        too_old = (self._ages + 1 > self._carry) & ~replaced
        old, ages = self._waiting[~replaced & ~too_old], self._ages[~replaced & ~too_old] + 1
        fresh = self._fresh()
        fresh = fresh[np.argsort(stable_hash(fresh, self._seed + self._step), kind="stable")]
        order = np.lexsort((stable_hash(old, self._seed + self._step), -ages))
        ids = np.concatenate([old[order], fresh])
        ages = np.concatenate([ages[order], np.zeros(fresh.size, dtype=np.int64)])
        rest, rest_ages = ids[self._wanted :], ages[self._wanted :]
        stays = rest_ages < self._carry
        batch = self._batch(ids, ages, rest[stays], (self._waiting[replaced], self._waiting[too_old], rest[~stays]))
        self._count(batch)
        self._waiting, self._ages = rest[stays], rest_ages[stays]
        if self._learn:
            self._share.update(int(self._live.sum()), self._ids.size)
        self._step += 1
        self._close()
        return batch

    def _batch(self, ids: Ints, ages: Ints, carried: Ints, dropped: tuple[Ints, Ints, Ints]) -> RefillBatch:
        used = min(ids.size, self._wanted)
        short = self._wanted - used
        live = int(self._live.sum())
        replaced, too_old, surplus = dropped
        counts = {
            "asked": self._asked,
            "finished": self._ids.size,
            "live": live,
            "dead": self._ids.size - live,
            "lost": self._lost,
            "refills": max(0, self._asks - 1),
            "carried_in": int(np.count_nonzero(ages[:used])),
            "carried_out": carried.size,
            "too_old": too_old.size,
            "replaced": replaced.size,
            "surplus": surplus.size,
        }
        reason = "filled" if not short else self._reason or "finished early"
        return RefillBatch(ids[:used], ages[:used], short, reason, np.concatenate(dropped), carried, counts)

    def _count(self, batch: RefillBatch) -> None:
        self._totals["short"] += batch.short
        self._totals["gave_up"] += batch.short > 0
        self._totals["trained"] += batch.ids.size
        self._totals["carried"] += batch.counts["carried_in"]
        self._totals["dropped"] += batch.dropped.size
        self._totals["dead"] += batch.counts["dead"]

    def _check_open(self, what: str) -> None:
        if not self.is_open:
            raise InvalidParameter(f"`RefillPlanner.{what}` needs an open step; `start` one")

    def _fresh(self) -> Ints:
        return self._ids[self._live]

    # ---- how many -------------------------------------------------------------------------------------------------

    def _plan(self, available: int | None) -> RefillPlan:
        waiting = self._waiting[self._ages + 1 <= self._carry]
        missing = max(0, self._wanted - np.union1d(waiting, self._fresh()).size)
        now = self._share_now()
        ask, reason = self._next_ask(missing, now, available)
        outstanding = self._outstanding()
        self._asks += ask > 0
        self._asked += ask
        self._reason = reason if reason in ("gave up", "no prompts left") else ""
        low, high = now.interval()
        left = max(0, self._max_refills + 1 - self._asks) * self._most() + ask + outstanding
        prompts = min(missing / now.mean, float(min(left, _MOST)))
        return RefillPlan(ask, missing, reason, now.mean, low, high, prompts, prompts * self._group_size)

    def _outstanding(self) -> int:
        """Prompts asked for that have not come back."""
        return max(0, self._asked - self._lost - self._ids.size)

    def _share_now(self) -> LiveShare:
        """The share with what this step has shown so far."""
        now = LiveShare.from_state(self._share.state(), decay=self._decay)
        now.update(int(self._live.sum()), self._ids.size)
        return now

    def _next_ask(self, missing: int, now: LiveShare, available: int | None) -> tuple[int, str]:
        if not missing:
            return 0, "filled"
        outstanding = self._outstanding()
        needed = self._needed(missing, now) - outstanding
        if needed <= 0 or (self._oversample and outstanding):
            return 0, "waiting"
        if self._asks > self._max_refills:
            return 0, "gave up"
        ask = min(needed, self._most())
        if available is not None:
            ask = min(ask, max(0, int(available)))
        if not ask:
            return 0, "no prompts left"
        return ask, "refill" if self._asks else "first"

    def _needed(self, missing: int, now: LiveShare) -> int:
        if self._oversample:
            return math.ceil(self._oversample * self._wanted)
        factor = oversampling_factor(now.mean, missing, confidence=self._confidence, strength=now.strength)
        return math.ceil(min(factor * missing, float(_MOST)) - 1e-6)

    def _most(self) -> int:
        return math.ceil(self._max_factor * self._wanted)

    # ---- state and talk -------------------------------------------------------------------------------------------

    def metrics(self) -> dict[str, float]:
        """Numbers to log: the live share with its interval, prompts for each live group, and totals of all steps."""
        low, high = self._share.interval()
        return {
            "live_share": self._share.mean,
            "live_share_low": low,
            "live_share_high": high,
            "prompts_per_live_group": 1.0 / self._share.mean,
            "groups_waiting": self._waiting.size,
            **{f"groups_{name}" if name != "gave_up" else "steps_short": n for name, n in self._totals.items()},
        }

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, as arrays and JSON."""
        return {
            "share": self._share.state(),
            "step": [self._step, self._wanted, self._asked, self._asks, self._lost, self._reason],
            "totals": dict(self._totals),
            "waiting": self._waiting.copy(),
            "ages": self._ages.copy(),
            "ids": self._ids.copy(),
            "live": self._live.copy(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`, bit for bit; the arguments of the constructor are not in it.

        Raises:
            LookupError, TypeError, ValueError: it is not such a state.
        """
        self._share = LiveShare.from_state(state["share"], decay=self._decay)
        self._step, self._wanted, self._asked, self._asks, self._lost, self._reason = state["step"]
        self._totals = {name: int(state["totals"][name]) for name in self._totals}
        for name in ("waiting", "ages", "ids", "live"):
            setattr(self, f"_{name}", np.array(state[name]))


def _real(owner: str, name: str, value: object, allowed: str, fine: bool) -> None:  # noqa: FBT001
    if isinstance(value, bool) or not fine:
        raise InvalidParameter(f"`{name}` of `{owner}` must be a float in {allowed}; got {value!r}")


def _whole(owner: str, name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise InvalidParameter(f"`{name}` of `{owner}` must be an int in [{low}, inf); got {value!r}")
