"""``frontier``: the best expected gain per token, of beliefs that drift, within a guarantee of coverage (ours)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from curri.curricula.base import Curriculum, Picked, Request
from curri.estimators import (
    ArmLevels,
    Drift,
    FirstContact,
    LogitUpdate,
    ScoreTable,
    bounded,
    expected_live_gains,
    expected_pass_rate,
    prior_logit,
    update_logit,
)
from curri.parameters import choice, real
from curri.selectors import best_rows, greedy_budget

if TYPE_CHECKING:
    from curri.curricula.evidence import Evidence, Groups
    from curri.estimators import RateScore
    from curri.state import State
    from curri.types import Bools, Floats, Ints

__all__ = ["Frontier"]

_LEAST_WORTH = 1e-3
"""A prompt of no worth is drawn as if it had this."""
_ROUNDING = 1e-9
_DERIVATIVES = ("by_trend", "mean_by_drift", "variance_by_drift")


class Frontier(Curriculum):
    """Prefers the prompts whose next group is expected to teach most for its tokens; nothing need be set by hand.

    **What is believed.** The logit of prompt i's pass rate is its arm's level, N(L_a, P_a), plus what is its own,
    N(m_i, v_i). With every round that passes both drift,

        m ← m + μ,    v ← v + q,

    each with a μ and a q of its own, and a group with s right of n makes the sum, N(m, v), the normal distribution with
    the moments of N(z; m, v) σ(z)^s (1−σ(z))^(n−s). What that says goes to both parts, by how unsure each was
    (:class:`curri.estimators.ArmLevels`): so what an arm learns is known of those of its prompts that wait.
    How fast pass rates wander (q) and where to (μ) is learned from how well groups are foretold
    (:class:`curri.estimators.Drift`). A prompt without groups borrows from its arm, an arm from all others, and an
    imported pass rate is calibrated on the way (:class:`curri.estimators.FirstContact`).

    **What it is worth.** With g the chance of a live group, 1 − p^n − (1−p)^n, or another ``score``,

        w_i = (E g + κ · sd g) · (t̄ / t_i)^c − λ · u_i,

    the mean over what is believed plus ``curiosity`` κ times its standard deviation, over the tokens t_i expected of a
    response (t̄ is the mean of the pool), less a price for the share u_i of its allowance that a prompt has used up.

    **How prompts are picked.** ``picking="draw"`` draws without replacement, one after the other, with weights w^s
    (``sharpness`` s); "best" takes the largest w. The best ones have more live groups, but are of few kinds, and come
    again and again: on a real, small policy that learned less than ``uniform`` (``benchmarks/learning``).

    **What is guaranteed.** Let C be how often ``uniform`` would have picked a prompt by now (Σ batch / pool).

    * No prompt is picked more than ``first_visits`` + ``most`` · C times, as long as others may be picked. So the tenth
      of the prompts that is picked most has at most (``most`` + ``first_visits`` / C) tenths of the visits.
    * A prompt that was not picked while C grew by 1 / ``least`` comes before all others, those that waited longest
      first, in up to ``due_share`` of a batch. So every prompt gets about ``least`` of uniform's visits. One that joins
      later counts as never picked from the start.

    **How many rollouts.** ``allocation="fixed"`` gives each prompt ``group_size``; "live" deals the same total out by
    what one more rollout adds to the chance of a live group, at least 2 each, at most ``most_rollouts``.

    Prompts whose ``solved`` was ever a fraction, or is not known, go by the share of their groups that were live.

    >>> from curri import PromptPool, Rollouts
    >>> frontier = Frontier(PromptPool(range(3)), group_size=4)
    >>> frontier.tell(Rollouts([0] * 4 + [1] * 4, [1, 0, 1, 0, 1, 1, 1, 1]))
    >>> frontier.advance()
    >>> [frontier.explain(i)["live"] > 0.6 for i in range(3)]
    [True, False, False]
    """

    name: ClassVar[str] = "frontier"
    summary: ClassVar[str] = "expected gain per token, with learned drift and guaranteed coverage (the default)"
    source: ClassVar[str] = "curri"
    cursors: ClassVar[frozenset[str]] = frozenset({"visits", "picked_at", "clock", "due_picks", "capped_picks"})

    score: str = choice(
        default="live",
        of=("live", "variance", "root", "distance"),
        symbol="g",
        doc="worth of a pass rate: the chance of a live group, p(1-p), its root, or nearness to 1/2",
        source="scores of one family order known rates alike; they differ by their means",
    )
    curiosity: float = real(
        default=0.0,
        low=0.0,
        high=100.0,
        symbol="κ",
        doc="standard deviations added to the expected worth",
        source="ours",
    )
    picking: str = choice(
        default="draw",
        of=("draw", "best"),
        doc="draw prompts by their worth, or take the best: more live groups, of fewer kinds of prompts",
        source="ours",
    )
    sharpness: float = real(
        default=1.0, above=0.0, high=100.0, symbol="s", doc='for "draw": power of the worth that is a prompt\'s weight'
    )
    price: float = real(
        default=0.1, low=0.0, high=100.0, symbol="λ", doc="what a used-up allowance costs, in units of the score"
    )
    cost_power: float = real(
        default=1.0, low=0.0, high=2.0, symbol="c", doc="how much expected tokens count; 0 for not at all"
    )
    most: float = real(default=2.0, low=1.0, doc="visits of a prompt at most, as a multiple of uniform's")
    first_visits: float = real(default=50.0, low=1.0, doc="visits allowed on top of that")
    least: float = real(
        default=0.06, low=0.0, high=1.0, doc="visits of every prompt at least, as a share of uniform's; 0 for none"
    )
    due_share: float = real(
        default=0.25, above=0.0, high=1.0, doc="largest share of a batch for prompts that come by `least`"
    )
    allocation: str = choice(
        default="fixed", of=("fixed", "live"), doc="`group_size` rollouts for each prompt, or by what one more adds"
    )
    most_rollouts: float = real(
        default=4.0, low=1.0, high=64.0, doc='for "live": rollouts of a prompt at most, in groups of `group_size`'
    )
    memory: float = real(
        default=20_000.0,
        low=100.0,
        doc="groups after which what was learned of drift and trend has faded to 1/e",
        source="2,000 to 50,000 predict a recorded run alike",
    )
    arm_spread: float = real(
        default=3.0, above=0.0, symbol="τ", doc="how far arms are expected to lie apart at first, logits; then learned"
    )

    # ---- picking ------------------------------------------------------------------------------------------------

    def _pick(self, request: Request) -> Picked:
        rows, due, capped = self._chosen(request, self._rng)
        counts = self._rollouts(rows)
        self._note(rows)
        self._due_picks += due
        self._capped_picks += capped
        if capped:
            self._fall_back(
                "allowance_exceeded",
                "too few prompts are left within their allowance, so some exceed it (a higher `most` avoids it)",
            )
        return Picked(rows, np.full(rows.size, np.nan), counts)

    def _receive(self, rows: Ints) -> Picked:
        self._note(rows)
        return super()._receive(rows)

    def _note(self, rows: Ints) -> None:
        self._columns.write(rows, visits=self._columns["visits"][rows] + 1, picked_at=self._clock)
        self._clock += rows.size / max(self.pool.n_active, 1)

    def _arm_mass(self, request: Request) -> Floats:
        """Counts of a rehearsed pick."""
        rows, _, _ = self._chosen(request, copy.deepcopy(self._rng))
        return np.bincount(self.pool.arms[rows], minlength=len(self.pool.arm_names)).astype(np.float64)

    def _chosen(self, request: Request, rng: np.random.Generator) -> tuple[Ints, int, int]:
        """The rows to pick, how many of them were due, and how many are beyond their allowance."""
        parts = [(self.pool.active_everywhere, request.n)]
        if request.quota is not None:
            arms = np.flatnonzero(request.quota).tolist()
            parts = [(self.pool.active_rows(arm), int(request.quota[arm])) for arm in arms]
        is_free = self.pool.active.copy()
        is_free[request.excluded] = False
        found, due, capped = [], 0, 0
        for candidates, n in parts:
            rows = rng.permutation(candidates[is_free[candidates]])  # ties fall in random order
            late = self._late(rows, _whole(self.due_share * n, rng))
            rest, over = self._best(rows, late, n - late.size, rng)
            found += [late, rest]
            due, capped = due + late.size, capped + over
        return np.concatenate(found), due, capped

    def _late(self, rows: Ints, limit: int) -> Ints:
        """Up to ``limit`` of the rows that were not picked for too long, those that waited longest first."""
        if not self.least or not limit:
            return rows[:0]
        waited = self._clock - self._columns["picked_at"][rows]
        late = waited >= 1.0 / self.least - _ROUNDING
        return best_rows(rows[late], waited[late], limit)

    def _best(self, rows: Ints, taken: Ints, n: int, rng: np.random.Generator) -> tuple[Ints, int]:
        """The n best rows that are not taken, and how many of them are beyond their allowance."""
        if taken.size:
            rows = rows[~np.isin(rows, taken, assume_unique=True)]
        used = self._used(rows)
        within = used < 1.0
        fitting = rows[within]
        worth = self._worth(fitting) - self.price * used[within]
        if self.picking == "draw":  # the n largest of log-weight + Gumbel noise are a draw without replacement
            worth = self.sharpness * np.log(np.maximum(worth, _LEAST_WORTH)) + rng.gumbel(size=worth.size)
        best = best_rows(fitting, worth, n)
        missing = n - best.size
        if not missing:
            return best, 0
        beyond = best_rows(rows[~within], -used[~within], missing)
        return np.concatenate([best, beyond]), missing

    def _used(self, rows: Ints) -> Floats:
        """Share of the allowance that is used up, shape of ``rows``; 1 and more: one more visit would exceed it."""
        allowed = self.first_visits - 1.0 + self.most * self._clock
        visits = self._columns["visits"][rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(visits > 0, visits / allowed, 0.0)
        # Below the allowance by less than one visit counts as used up: the next pick would go over it.
        return np.where(visits > allowed, np.maximum(share, 1.0), np.minimum(share, np.nextafter(1.0, 0.0)))

    def _worth(self, rows: Ints) -> Floats:
        """What the next group of each row is expected to teach for its tokens, shape of ``rows``."""
        mean, deviation = self._table.at(*self._beliefs(rows, self._rounds_closed)[:2])
        if self.score == "distance":  # from −1/2 to 0; a price must lower it, so it starts at 0
            mean = mean + 0.5
        if self._any_by_share:
            mean, deviation = self._by_share(rows, mean, deviation)
        worth = mean + self.curiosity * deviation
        return worth * self._cheapness(rows) if self.cost_power else worth

    def _cheapness(self, rows: Ints) -> Floats | float:
        """(t̄ / t)^c, shape of ``rows``; 1 where no tokens are known."""
        tokens = self._tokens(rows)
        if tokens is None:
            return 1.0
        return np.asarray((self._mean_tokens / tokens) ** self.cost_power)

    def _rollouts(self, rows: Ints) -> Ints | None:
        if self.allocation == "fixed" or self.group_size < 2:
            return None
        mean, variance, _ = self._beliefs(rows, self._rounds_closed)
        gains = expected_live_gains(mean, variance, int(self.most_rollouts * self.group_size))
        return greedy_budget(gains, rows.size * self.group_size)

    # ---- what is believed ---------------------------------------------------------------------------------------

    def _beliefs(self, rows: Ints, now: int) -> tuple[Floats, Floats, Floats]:
        """Mean and variance of the logit after ``now`` closed rounds, and the rounds since the last group."""
        own, own_variance, elapsed = self._own_beliefs(rows, now)
        level, variance = self._levels.at(now)
        arms = self.pool.arms[rows]
        return *bounded(own + level[arms], own_variance + variance[arms]), elapsed

    def _own_beliefs(self, rows: Ints, now: int) -> tuple[Floats, Floats, Floats]:
        """The same of what is a prompt's own, beside the level of its arm."""
        told = self._columns["told_at"][rows]
        new = told < 0
        elapsed = np.where(new, now, now - told).astype(np.float64)
        mean, variance = self._drift.aged(self._columns["mean"][rows], self._columns["variance"][rows], elapsed)
        if new.any():
            first, wide = self._first.believed(self.pool.arms[rows[new]], self._prior_logits(rows[new]))
            mean[new], variance[new] = first + self._drift.trend * elapsed[new], wide
        return *bounded(mean, variance), elapsed

    def _prior_logits(self, rows: Ints) -> Floats:
        if self._logits is None:
            return np.full(rows.size, np.nan)
        return self._logits[rows]

    def _tokens(self, rows: Ints) -> Floats | None:
        """Tokens expected of a response; told ones, drawn to what the pool expects; None where nothing is known."""
        expected = self.pool.expected_tokens
        if not self._mean_tokens:
            return None
        prior = np.full(rows.size, np.nan) if expected is None else expected[rows].copy()
        prior[np.isnan(prior)] = self._mean_tokens
        told, weight = self._columns["tokens"][rows].astype(np.float64), self._columns["told_tokens"][rows]
        # As much as four responses are the others' worth: single lengths vary by about their own size.
        return np.asarray(np.maximum((4.0 * prior + told * weight) / (4.0 + weight), 1.0))

    def _by_share(self, rows: Ints, mean: Floats, deviation: Floats) -> tuple[Floats, Floats]:
        """The worth of prompts that go by their share of live groups; that of the others as it is."""
        goes = self._columns["by_share"][rows]
        live, groups = self._columns["live"][rows].astype(np.float64), self._columns["groups"][rows].astype(np.float64)
        share = (live + 1.0) / (groups + 2.0)
        spread = np.sqrt(share * (1.0 - share) / (groups + 3.0))
        return np.where(goes, share * self._full_score, mean), np.where(goes, spread * self._full_score, deviation)

    # ---- learning -----------------------------------------------------------------------------------------------

    def _column_defaults(self) -> dict[str, np.generic]:
        small = dict.fromkeys((*_DERIVATIVES, "tokens", "told_tokens", "live", "groups"), np.float32(0))
        return {
            "mean": np.float64(0),
            "variance": np.float64(1),
            "told_at": np.int64(-1),
            "visits": np.int32(0),
            "picked_at": np.float64(0),
            "by_share": np.False_,
            **small,
        }

    def _set_up(self) -> None:
        if not hasattr(self, "_drift"):
            self._drift = Drift(memory=self.memory)
            self._levels = ArmLevels(self.pool.arm_names, memory=self.memory)
            self._first = FirstContact(self.pool.arm_names, spread=self.arm_spread)
            self._clock, self._due_picks, self._capped_picks = 0.0, 0, 0
            self._foretold = np.zeros(4)
            self._token_counts = np.zeros(2)
        self._levels = self._levels.of_arms(self.pool.arm_names)
        self._first = self._first.of_arms(self.pool.arm_names)
        rates = self.pool.prior_rate
        self._logits = None if rates is None else prior_logit(rates)
        self._any_by_share = bool(self._columns["by_share"].any())
        # One response alone is never live; what it is worth is what it adds to another one.
        self._table = ScoreTable(cast("RateScore", self.score), n=max(self.group_size, 2))
        self._full_score = {"live": 1.0, "variance": 0.25, "root": 0.5, "distance": 0.5}[self.score]
        self._set_mean_tokens()

    def _set_mean_tokens(self) -> None:
        told, responses = self._token_counts
        expected = self.pool.expected_tokens
        if responses:
            self._mean_tokens = float(told / responses)
        elif expected is not None and np.isfinite(expected).any():
            self._mean_tokens = float(np.nanmean(expected))
        else:
            self._mean_tokens = 0.0

    def _fold(self, evidence: Evidence) -> None:
        groups = evidence.groups()
        if np.any(groups.known == 0):
            self._fall_back(
                "solved_unknown",
                "`solved` is unknown for some groups; their prompts go by how many of their groups were live "
                "(tell `solved` beside the rewards)",
            )
        self._fold_shares(groups, evidence)
        self._fold_tokens(evidence)
        told = groups.known > 0
        rows, successes, trials = groups.rows[told], groups.successes[told], groups.known[told].astype(np.float64)
        if not rows.size:
            return
        now, arms = self._rounds_closed, self.pool.arms[rows]
        mean, variance, elapsed = self._beliefs(rows, now)
        self._foretell(mean, variance, groups, told)
        whole = LogitUpdate(mean, variance, np.zeros(rows.size))
        before = LogitUpdate(*self._own_beliefs(rows, now))
        after = self._levels.learn(arms, before, whole, update_logit(mean, variance, successes, trials), now)
        new = self._columns["told_at"][rows] < 0
        by = np.stack([self._columns[name][rows].astype(np.float64) for name in _DERIVATIVES])
        by = self._drift.aged_derivatives(by, elapsed)
        by[1:, new] = 0.0  # the variance of a first belief does not come from drift
        by = self._drift.learn(before, after, by)
        if new.any():
            self._first.learn(arms[new], self._prior_logits(rows[new]), before.at(new), after.at(new))
        derivatives = dict(zip(_DERIVATIVES, by.astype(np.float32), strict=True))
        self._columns.write(rows, mean=after.mean, variance=after.variance, told_at=now, **derivatives)

    def _fold_shares(self, groups: Groups, evidence: Evidence) -> None:
        several = groups.size > 1
        rows, columns = groups.rows, self._columns
        partly = (evidence.solved > 0.0) & (evidence.solved < 1.0) & ~evidence.probe
        goes = columns["by_share"][rows] | np.isin(rows, evidence.rows[partly]) | (groups.known == 0)
        columns.write(
            rows,
            by_share=goes,
            live=(columns["live"][rows] + (several & groups.live)).astype(np.float32),
            groups=(columns["groups"][rows] + several).astype(np.float32),
        )
        self._any_by_share = self._any_by_share or bool(goes.any())

    def _fold_tokens(self, evidence: Evidence) -> None:
        known = (evidence.tokens > 0) & ~evidence.probe
        if not known.any():
            return
        rows, place = np.unique(evidence.rows[known], return_inverse=True)
        tokens = evidence.tokens[known].astype(np.float64)
        sums, counts = np.bincount(place, tokens), np.bincount(place)
        before, weight = self._columns["tokens"][rows].astype(np.float64), self._columns["told_tokens"][rows]
        # Lengths drift as well: older ones count for at most 32 responses.
        weight = np.minimum(weight, 32.0)
        mean = (before * weight + sums) / (weight + counts)
        self._columns.write(rows, tokens=mean.astype(np.float32), told_tokens=(weight + counts).astype(np.float32))
        self._token_counts = self._token_counts * (1.0 - 1.0 / self.memory) ** rows.size
        self._token_counts = self._token_counts + np.array([tokens.sum(), tokens.size])
        self._set_mean_tokens()

    def _foretell(self, mean: Floats, variance: Floats, groups: Groups, told: Bools) -> None:
        """Keep running means of what was foretold of groups and what came, for the metrics."""
        live, rate = self._live.at(mean, variance)[0], expected_pass_rate(mean, variance)
        came = np.stack([live, groups.live[told], rate, groups.successes[told] / groups.known[told]])
        kept = 0.98 if self._foretold.any() else 0.0
        self._foretold = kept * self._foretold + (1.0 - kept) * came.mean(axis=1)

    @property
    def _live(self) -> ScoreTable:
        return ScoreTable("live", n=self.group_size)

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _own_state(self) -> State:
        return {
            "drift": self._drift.state(),
            **self._levels.state(),
            **self._first.state(),
            "clock": self._clock,
            "due_picks": self._due_picks,
            "capped_picks": self._capped_picks,
            "foretold": self._foretold.copy(),
            "tokens": self._token_counts.copy(),
        }

    def _load_own_state(self, state: State) -> None:
        self._drift = Drift(memory=self.memory)
        self._drift.restore(state["drift"])
        self._levels = ArmLevels.from_state(state, memory=self.memory)
        self._first = FirstContact.from_state(state, spread=self.arm_spread)
        self._clock = float(state["clock"])
        self._due_picks, self._capped_picks = int(state["due_picks"]), int(state["capped_picks"])
        self._foretold = np.array(state["foretold"], dtype=np.float64).reshape(4)
        self._token_counts = np.array(state["tokens"], dtype=np.float64).reshape(2)

    def _own_metrics(self) -> dict[str, float]:
        live, came_live, rate, came_rate = self._foretold.tolist()
        return {
            "seen_share": float(np.mean(self._columns["told_at"] >= 0)) if len(self.pool) else 0.0,
            "drift_sd": float(np.sqrt(self._drift.drift)),
            "trend": self._drift.trend,
            "level_drift_sd": float(np.sqrt(self._levels.drift.drift)),
            "level_trend": self._levels.drift.trend,
            "prior_slope": self._first.slope,
            "live_foretold": live,
            "live_share": came_live,
            "pass_rate_foretold": rate,
            "pass_rate": came_rate,
            "uniform_visits": self._clock,
            "most_visits": float(self._columns["visits"].max()) if len(self.pool) else 0.0,
            "due_picks": self._due_picks,
            "capped_picks": self._capped_picks,
        }

    def _explain(self, row: int) -> dict[str, Any]:
        rows = np.array([row])
        mean, variance, elapsed = self._beliefs(rows, self._rounds_closed)
        live, deviation = self._live.at(mean, variance)
        told = int(self._columns["told_at"][row])
        tokens = self._tokens(rows)
        used = float(self._used(rows)[0])
        return {
            "pass_rate": float(expected_pass_rate(mean, variance)[0]),
            "logit": float(mean[0]),
            "logit_sd": float(np.sqrt(variance[0])),
            "live": float(live[0]),
            "live_sd": float(deviation[0]),
            "worth": float(self._worth(rows)[0] - self.price * used),
            "expected_tokens": None if tokens is None else float(tokens[0]),
            "visits": int(self._columns["visits"][row]),
            "allowance_used": used,
            "due": bool(self.least and self._clock - self._columns["picked_at"][row] >= 1.0 / self.least - _ROUNDING),
            "rounds_since_told": int(elapsed[0]) if told >= 0 else None,
        }


def _whole(number: float, rng: np.random.Generator) -> int:
    """The number rounded up as often as its fraction says: small parts of a batch get their share in the long run."""
    whole = int(number)
    return whole + (number > whole and rng.random() < number - whole)
