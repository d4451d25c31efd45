"""``mopps``: a Beta posterior for each prompt's pass rate, and picks by a sample from it (arXiv 2507.04632)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from curri.curricula.base import Curriculum, Picked, Request, draw_by_weight, pick_best
from curri.estimators import expected_rate_score, rate_score, rate_score_range
from curri.parameters import choice, integer, real
from curri.selectors import WeightedPicker

if TYPE_CHECKING:
    from curri.curricula.evidence import Evidence
    from curri.estimators import RateScore
    from curri.types import Bools, Floats, Ints

__all__ = ["MoPPS"]

_LEAST, _MOST = 1e-3, 1e6


class MoPPS(Curriculum):
    """Picks prompts whose pass rate is likely to be near γ*, by posterior sampling, without extra rollouts.

    Prompt i has a pass rate of which Beta(α_i, β_i) is believed. When a group of it brings s right and f wrong
    responses (MoPPS, section 3)

        α_i ← λ α_i + (1 − λ) α_i⁰ + s,    β_i ← λ β_i + (1 − λ) β_i⁰ + f,

    which is to say that the evidence fades by λ and the prior stays. For a batch, γ̂_i ~ Beta(α_i, β_i) is drawn for
    ``candidates`` · n random prompts, and the n with the smallest (γ̂_i − γ*)² are taken ("thompson").

    The prior is Beta(``prior_alpha``, ``prior_beta``); a prior pass rate r of the pool adds ``prior_strength`` · r and
    ``prior_strength`` · (1 − r) to it. Fractions of ``solved`` count as fractions of a success.

    Where the paper, released code and this implementation differ:

    * ``discount``: the released code has λ = 1, which forgets nothing. On a recorded run of 500 steps, with a visit
      every 9.4 steps, 0.85 to 0.87 predicts the next group best; 1 and 0.5 have about half as much excess error again.
    * ``discount_by``: λ acts when a prompt is visited ("visit", as in the paper), or as rounds pass,
      ``rounds_a_visit`` of them as one visit ("rounds"): a prompt left alone then becomes uncertain again.
    * ``score``: −|γ̂ − γ*| is the paper's order. With γ* = ½, p(1−p), its root and the chance of a live group put
      samples in the same order; they differ by their means and as weights.
    * ``picking``: "mean" is greedy: the best posterior means; "proportional" draws from the whole pool by weight, with
      exact probabilities. ``mean_of``: the mean of the score, which prices ignorance, or the score of the mean.
    * Released code with one response a prompt sets α = β = 8 whatever came out (a slip of operator precedence), and
      fails when outcomes arrive before the first selection. Here one response adds one, at any time.
    * ``score="live"`` goes, for prompts whose ``solved`` was ever a fraction or is unknown, by how many of their groups
      had any spread in their rewards: (live + 1) / (groups + 2), fading likewise.

    >>> from curri import PromptPool, Rollouts
    >>> mopps = MoPPS(PromptPool(range(3)), group_size=2)
    >>> mopps.tell(Rollouts([0, 0, 1, 1], [1, 0, 1, 1]))
    >>> mopps.advance()
    >>> [round(mopps.explain(i)["pass_rate"], 2) for i in range(3)]
    [0.5, 0.75, 0.5]
    """

    name: ClassVar[str] = "mopps"
    summary: ClassVar[str] = "posterior sampling of pass rates near a target (MoPPS)"
    source: ClassVar[str] = "MoPPS, arXiv 2507.04632"

    target: float = real(
        default=0.5, low=0.0, high=1.0, symbol="γ*", doc="pass rate to stay near", source="released code"
    )
    discount: float = real(
        default=0.85,
        above=0.0,
        high=1.0,
        symbol="λ",
        doc="what is left of earlier evidence after a visit",
        source="best on a recorded GRPO run; released code: 1",
    )
    discount_by: str = choice(
        default="visit", of=("visit", "rounds"), doc="what makes evidence fade", source="paper: visit"
    )
    rounds_a_visit: float = real(
        default=9.4,
        low=0.01,
        high=1e9,
        doc='rounds that fade evidence by λ, with discount_by="rounds"',
        source="the recorded run: 1,209 prompts in batches of 128",
    )
    prior_alpha: float = real(
        default=1.0, low=_LEAST, high=_MOST, symbol="α⁰", doc="prior successes", source="released code"
    )
    prior_beta: float = real(
        default=1.0, low=_LEAST, high=_MOST, symbol="β⁰", doc="prior failures", source="released code"
    )
    prior_strength: float = real(
        default=3.0,
        low=0.0,
        high=_MOST,
        doc="responses that a prior pass rate is worth; 0 ignores it",
        source="best first-group likelihood on the recorded run, among 0 to 16",
    )
    score: str = choice(
        default="distance",
        of=("distance", "variance", "root", "live"),
        doc="worth of a pass rate: distance from the target, p(1-p), its root, or the chance of a live group",
        source="paper: distance",
    )
    picking: str = choice(
        default="thompson",
        of=("thompson", "mean", "proportional"),
        doc="the best posterior samples, the best means, or a draw by weight",
        source="paper: thompson; the others are ours",
    )
    mean_of: str = choice(
        default="score",
        of=("score", "rate"),
        doc='for "mean" and "proportional": mean of the score, or score of the mean pass rate',
        source="ours",
    )
    candidates: int = integer(
        default=16,
        low=0,
        high=1_000_000,
        doc="random candidates for each prompt of a batch; 0 for the whole pool",
        source="released scripts",
    )
    floor: float = real(
        default=0.01, above=0.0, doc='for "proportional": weight of a prompt of no worth, where the best has 1 more'
    )

    # ---- picking ------------------------------------------------------------------------------------------------

    def _pick(self, request: Request) -> Picked:
        if self.picking == "proportional":
            return draw_by_weight(self._picker, request, self._rng)
        score = self._sampled_scores if self.picking == "thompson" else self._mean_scores
        return pick_best(self, request, score, candidates=self.candidates)

    def _arm_mass(self, request: Request) -> Floats:
        """Counts of a rehearsed pick, or the arms' weights."""
        n_arms = len(self.pool.arm_names)
        if self.picking == "proportional":
            total = np.array([self._picker.arm_total(arm) for arm in range(n_arms)])
            gone = self._picker.weights_at(request.excluded)
            less = np.bincount(self.pool.arms[request.excluded], gone, n_arms)
            return np.where(request.supply > 0, np.maximum(total - less, self.floor * request.supply), 0.0)
        kept, self._rng = self._rng, copy.deepcopy(self._rng)
        try:
            rows = self._pick(request).rows
        finally:
            self._rng = kept
        return np.bincount(self.pool.arms[rows], minlength=n_arms).astype(np.float64)

    def _sampled_scores(self, rows: Ints) -> Floats:
        """The score at a sample from each posterior, shape of ``rows``."""
        now = self._rounds_closed
        scores = rate_score(self._kind, self._rng.beta(*self._beliefs(rows, now)), n=self._n, target=self.target)
        if self.score == "live":
            by_share = self._goes_by_live_share(rows)
            live, dead = self._live_counts(rows[by_share], now)
            scores[by_share] = self._rng.beta(live + 1.0, dead + 1.0)
        return scores

    def _mean_scores(self, rows: Ints) -> Floats:
        scores = self._known_scores[rows]
        if self.discount_by == "rounds":
            faded = self._columns["last_round"][rows] >= 0
            scores[faded] = self._scores_at(rows[faded], self._rounds_closed)
        return scores

    def _scores_at(self, rows: Ints, now: int) -> Floats:
        """The mean score (or the score of the mean) of each prompt, shape of ``rows``."""
        a, b = self._beliefs(rows, now)
        if self.mean_of == "score":
            scores = expected_rate_score(self._kind, a, b, n=self._n, target=self.target)
        else:
            scores = rate_score(self._kind, a / (a + b), n=self._n, target=self.target)
        if self.score == "live":
            by_share = self._goes_by_live_share(rows)
            live, dead = self._live_counts(rows[by_share], now)
            scores[by_share] = (live + 1.0) / (live + dead + 2.0)
        return scores

    def _weights(self, rows: Ints, now: int) -> Floats:
        low, high = rate_score_range(self._kind, n=self._n, target=self.target)
        worth = (self._scores_at(rows, now) - low) / (high - low) if high > low else np.zeros(rows.size)
        return np.where(self.pool.active[rows], self.floor + np.clip(worth, 0.0, 1.0), 0.0)

    @property
    def _kind(self) -> RateScore:
        return cast("RateScore", self.score)

    @property
    def _n(self) -> int:
        return self.group_size

    # ---- what is believed ---------------------------------------------------------------------------------------

    def _beliefs(self, rows: Ints, now: int) -> tuple[Floats, Floats]:
        """α and β of prompts after ``now`` closed rounds, shape of ``rows`` each."""
        left = self._left(rows, now)
        a = self.prior_alpha + self._columns["successes"][rows] * left
        b = self.prior_beta + self._columns["failures"][rows] * left
        if self.pool.prior_rate is None or not self.prior_strength:
            return a, b
        rate = self.pool.prior_rate[rows]
        known = ~np.isnan(rate)
        a += np.where(known, self.prior_strength * rate, 0.0)
        b += np.where(known, self.prior_strength * (1.0 - rate), 0.0)
        return a, b

    def _left(self, rows: Ints, now: int) -> Floats | float:
        """What is left of evidence by ``now``."""
        if self.discount_by == "visit":
            return 1.0
        elapsed = np.maximum(now - self._columns["last_round"][rows], 0)
        return np.asarray(self.discount ** (elapsed / self.rounds_a_visit))

    def _goes_by_live_share(self, rows: Ints) -> Bools:
        """Prompts whose groups' spread tells the chance of a live group better than their pass rate does."""
        columns = self._columns
        unsolved = (columns["successes"][rows] + columns["failures"][rows] == 0.0) & (columns["groups"][rows] > 0.0)
        return np.asarray(columns["fractional"][rows] | unsolved)

    def _live_counts(self, rows: Ints, now: int) -> tuple[Floats, Floats]:
        left = self._left(rows, now)
        live, groups = self._columns["live_groups"][rows] * left, self._columns["groups"][rows] * left
        return live, np.maximum(groups - live, 0.0)

    # ---- learning -----------------------------------------------------------------------------------------------

    def _column_defaults(self) -> dict[str, np.generic]:
        zero = np.float64(0)
        counts = dict.fromkeys(("successes", "failures", "groups", "live_groups"), zero)
        return {**counts, "fractional": np.False_, "last_round": np.int64(-1)}

    def _set_up(self) -> None:
        if self.picking == "thompson":
            return
        everything = np.arange(len(self.pool))
        if self.picking == "proportional":
            weights = self._weights(everything, self._rounds_closed)
            self._picker = WeightedPicker(self.pool.ids, weights, seed=self.seed, arms=self.pool.arms)
        else:
            self._known_scores = self._scores_at(everything, self._rounds_closed)

    def _fold(self, evidence: Evidence) -> None:
        groups = evidence.groups()
        rows, now = groups.rows, self._rounds_closed + 1
        if np.any(groups.known == 0) and self.score != "live":
            self._fall_back(
                "solved_unknown",
                "`solved` is unknown for some groups, which then say nothing of the pass rate (tell `solved` beside "
                'the rewards, or set `score="live"`)',
            )
        fade = self.discount if self.discount_by == "visit" else self._left(rows, now)
        partly = (evidence.solved > 0.0) & (evidence.solved < 1.0) & ~evidence.probe
        several = groups.size > 1
        columns = self._columns
        columns.write(
            rows,
            successes=columns["successes"][rows] * fade + groups.successes,
            failures=columns["failures"][rows] * fade + (groups.known - groups.successes),
            groups=columns["groups"][rows] * fade + several,
            live_groups=columns["live_groups"][rows] * fade + (several & groups.live),
            fractional=columns["fractional"][rows] | np.isin(rows, evidence.rows[partly]),
            last_round=now,
        )
        self._refresh(rows, now)

    def _refresh(self, rows: Ints, now: int) -> None:
        """Bring what is derived from the beliefs up to date."""
        if self.picking == "mean":
            self._known_scores[rows] = self._scores_at(rows, now)
        elif self.picking == "proportional":
            faded = self.discount_by == "rounds"
            changed = np.flatnonzero(self._columns["last_round"] >= 0) if faded else rows
            self._picker.update(changed, self._weights(changed, now))

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _own_metrics(self) -> dict[str, float]:
        seen = np.flatnonzero(self._columns["last_round"] >= 0)
        share = float(seen.size / max(len(self.pool), 1))
        a, b = self._beliefs(seen, self._rounds_closed)
        mean = a / (a + b)
        near = float(np.mean(np.abs(mean - self.target) <= 0.25)) if seen.size else 0.0
        rate = float(np.mean(mean)) if seen.size else 0.0
        return {"seen_share": share, "mean_pass_rate": rate, "near_target_share": near}

    def _explain(self, row: int) -> dict[str, Any]:
        rows, now = np.array([row]), self._rounds_closed
        a, b = (float(part[0]) for part in self._beliefs(rows, now))
        told = int(self._columns["last_round"][row])
        return {
            "alpha": a,
            "beta": b,
            "pass_rate": a / (a + b),
            "pass_rate_sd": float(np.sqrt(a * b / (a + b + 1.0)) / (a + b)),
            "score": self.score,
            "mean_score": float(self._scores_at(rows, now)[0]),
            "rounds_since_told": now - told if told >= 0 else None,
        }
