"""``reinforce-ada``: as many rollouts as a prompt needs to teach, after Reinforce-Ada (arXiv 2510.04996)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from curri.curricula.base import Picked, Request, Verdict
from curri.curricula.uniform import Uniform
from curri.errors import InvalidParameter
from curri.estimators import DecayedPassRate
from curri.parameters import choice, integer, real
from curri.selectors import EliminationGroup, EliminationRule, elimination_cost, inverse_rate_budget, stable_hash

if TYPE_CHECKING:
    from curri.curricula.evidence import Evidence, Groups
    from curri.state import State
    from curri.types import Bools, Floats, Ints, Rollouts

_REMEMBERED_ROUNDS = 256
_EXPLAINED_DRAWS = 1024
_TALLY = (
    "groups",
    "rollouts",
    "rounds",
    "resolved",
    "no_signal",
    "short",
    "first_rollouts",
    "first_reward",
    "pool_reward",
    "kept",
    "kept_reward",
)


class ReinforceAda(Uniform):
    """Draws prompts like ``uniform`` and decides how many rollouts each of them gets.

    ``allocation="sequential"`` (Reinforce-Ada-Seq): a step works in up to N rounds of M rollouts. After each, with P
    positives and Q negatives so far, a prompt leaves as soon as

        balanced:  P ≥ floor(n/2)  and  Q ≥ n - floor(n/2)            positive:  P ≥ K,

    and ``top_up`` gives M more to the others. The trainer then keeps n responses of each (``group_of``), half of them
    positive where the pool has them, and takes the mean of the whole pool as baseline (``pool_baseline_advantages``).

    ``allocation="estimate"`` (Reinforce-Ada-Est): no extra rounds. With counts that fade by λ at every visit,

        p̂ = (n⁺ + α) / (n + α + β),     N_x ∝ 1 / p̂^k,     Σ N_x = M · prompts,

    and every rollout is trained on. A prompt that cannot be solved keeps the lowest p̂ and starves all the others, the
    more the larger k is; ``maximum`` bounds it.

    A response is positive when its outcome is strictly above ``positive_threshold``. What it costs, exactly, by pass
    rate: :func:`curri.selectors.elimination_cost`.

    Where the paper, its released code and this implementation differ:

    * ``unresolved``: v1 turns to "a passive filter" ("filter": leave out what fell all on one side), the code trains on
      every prompt ("keep"). "drop" leaves out whatever did not meet the exit rule.
    * ``keep``: the paper draws the n responses at random, the code takes the earliest. ``downsample="positives"`` is
      the Tinker port's.
    * ``positives_needed``: K is n in the text of v3, 1 in the code and in the experiments.
    * ``power``: k is 1/2 in the paper, 1 in the code. The paper bounds N_x by ``minimum`` and ``maximum`` without
      saying by how much; the code gives everyone 1 and has no upper bound.
    * The weight 1/p̂ of the paper's section 3.2 is neither in its Algorithm 2 nor in the code; like the choice of
      baseline it is the trainer's: see :func:`curri.estimators.pool_baseline_advantages`.
    * Top-ups come in ascending prompt id; the code's order changes from process to process.
    * ``budget`` bounds the rollouts of a step; neither paper nor code has it.

    The mean reward of all rollouts of a step is biased, as is that of the kept ones: the drawing stops at a success.
    Only the first M of each prompt are an honest sample, and ``metrics`` gives their mean apart.

    >>> from curri import PromptPool, Rollouts
    >>> ada = ReinforceAda(PromptPool([7, 9]), seed=0, group_size=2, round_size=4)
    >>> first = ada.ask(2)
    >>> first.n_rollouts
    array([4, 4])
    >>> ada.tell(Rollouts([7, 7, 7, 7, 9, 9, 9, 9], [0, 1, 0, 1, 0, 0, 0, 0]))
    >>> more = ada.top_up(first.ticket)
    >>> more.prompt_ids, more.n_rollouts
    (array([9]), array([4]))
    >>> ada.tell(Rollouts([9, 9, 9, 9], [0, 0, 0, 1]))
    >>> print(ada.top_up(first.ticket))
    None
    >>> ada.group_of(Rollouts([9] * 8, [0, 0, 0, 0, 0, 0, 0, 1]))[9].positions
    array([7, 0])
    """

    name: ClassVar[str] = "reinforce-ada"
    summary: ClassVar[str] = "as many rollouts as each prompt needs, in rounds or by its pass rate (Reinforce-Ada)"
    source: ClassVar[str] = "Reinforce-Ada, arXiv 2510.04996"
    tags: ClassVar[frozenset[str]] = frozenset({"rounds", "admits"})
    cursors: ClassVar[frozenset[str]] = Uniform.cursors | {
        "in_round",
        "parts",
        "issued",
        "first_rollouts",
        "first_reward",
        "budget_rounds",
        "budget_left",
    }

    group_size: int = integer(
        default=4,
        low=1,
        high=1_000_000,
        symbol="n",
        doc="responses of a prompt that are trained on (round_size is how many are drawn at a time)",
        source="Reinforce-Ada, experiments; released script",
    )
    round_size: int = integer(
        default=8,
        low=1,
        high=100_000,
        symbol="M",
        doc="rollouts of a prompt in one round; with estimates, their mean",
        source="Reinforce-Ada, v1 and released code",
    )
    max_rounds: int = integer(
        default=4, low=1, high=1000, symbol="N", doc="rounds of a step", source="Reinforce-Ada, v1 and released code"
    )
    allocation: str = choice(
        default="sequential",
        of=("sequential", "estimate"),
        doc="draw in rounds until a group can teach, or share a fixed budget out by estimated pass rates",
        source="Reinforce-Ada-Seq and Reinforce-Ada-Est",
    )
    exit: str = choice(
        default="balanced",
        of=("balanced", "positive"),
        doc="what a prompt leaves the rounds with: half a group of each side, or a success",
        source="Reinforce-Ada, the better one in its results; released script",
    )
    positives_needed: int = integer(
        default=1,
        low=1,
        high=1_000_000,
        symbol="K",
        doc="successes that `exit=positive` asks for",
        source="experiments and released code: 1; text of v3: group_size",
    )
    outcome: str = choice(
        default="reward",
        of=("reward", "solved"),
        doc="what is compared with the threshold; where `solved` is unknown the reward stands in",
        source="released code: the reward",
    )
    positive_threshold: float = real(
        default=0.7, doc="an outcome strictly above it is positive", source="released code"
    )
    keep: str = choice(
        default="first",
        of=("first", "random"),
        doc="which responses of a side `group_of` keeps",
        source="released code: first; paper: random",
    )
    downsample: str = choice(
        default="half",
        of=("half", "positives"),
        doc="how many of each side are kept: half a group of positives, or positives first",
        source="released code: half; Tinker port: positives",
    )
    unresolved: str = choice(
        default="keep",
        of=("keep", "filter", "drop"),
        doc="what becomes of prompts whose rounds are over: all kept, those on one side dropped, or all without exit",
        source="released code: keep; paper v1: filter",
    )
    incomplete: str = choice(
        default="wait",
        of=("wait", "go_on"),
        doc="whether a prompt of which some rollouts were not told waits for them, or is topped up all the same",
        source="the released code generates whole rounds",
    )
    budget: float = real(
        default=0.0,
        low=0.0,
        high=1e6,
        doc="most rollouts of a step, in units of prompts × round_size; 0: no bound but max_rounds; the first round "
        "is always handed out whole",
    )
    power: float = real(
        default=0.5,
        low=0.0,
        high=10.0,
        symbol="k",
        doc="with estimates, rollouts go by 1 / p̂^k",
        source="Reinforce-Ada v3, Algorithm 1: 1/2; released code: 1",
    )
    minimum: int = integer(
        default=1,
        low=1,
        symbol="N_min",
        doc="with estimates, least rollouts of a prompt; at most round_size",
        source="released code",
    )
    maximum: int = integer(
        default=0,
        low=0,
        symbol="N_max",
        doc="with estimates, most rollouts of a prompt, at least round_size; 0: no bound",
        source="released code: none; not given in the paper",
    )
    prior_alpha: float = real(
        default=1.0, above=0.0, high=1e9, symbol="α", doc="successes that a prompt starts with", source="released code"
    )
    prior_beta: float = real(
        default=16.0, above=0.0, high=1e9, symbol="β", doc="failures that a prompt starts with", source="released code"
    )
    decay: float = real(
        default=0.9, low=0.0, high=1.0, symbol="λ", doc="what a visit leaves of older counts", source="released code"
    )

    # ---- picking ------------------------------------------------------------------------------------------------

    def _pick(self, request: Request) -> Picked:
        return self._booked(super()._pick(request))

    def _receive(self, rows: Ints) -> Picked:
        return self._booked(super()._receive(rows))

    def _booked(self, drawn: Picked) -> Picked:
        """With the rollouts of the first part, noted as handed out in this round."""
        each = self._first_rollouts(drawn.rows)
        self._columns.write(
            drawn.rows, in_round=self._rounds_asked, parts=1, issued=each, first_rollouts=0, first_reward=0.0
        )
        if self.budget and self.allocation == "sequential":
            spent = drawn.rows.size * self.round_size
            left = self._budget.get(self._rounds_asked, 0) + max(int(self.budget * spent + 1e-9) - spent, 0)
            self._budget[self._rounds_asked] = left
            if len(self._budget) > _REMEMBERED_ROUNDS:
                del self._budget[min(self._budget)]
        return Picked(drawn.rows, drawn.probability, each)

    def _first_rollouts(self, rows: Ints) -> Ints:
        if self.allocation == "sequential":
            return np.full(rows.size, self.round_size, dtype=np.int64)
        return inverse_rate_budget(
            self._pass_rate(rows),
            total=rows.size * self.round_size,
            minimum=self.minimum,
            maximum=self.maximum or None,
            power=self.power,
        )

    def _pass_rate(self, rows: Ints) -> Floats:
        return self._estimator.mean_of(self._columns["n_total"][rows], self._columns["n_positive"][rows])

    def _more(self, round_: int, told: Evidence) -> Picked | None:
        if self.allocation == "estimate":
            return None
        mine = ~told.probe & (self._columns["in_round"][told.rows] == round_)
        counts = self._count(told, mine)
        rows, parts = counts.rows, self._columns["parts"][counts.rows]
        extra = self._extra(counts)
        extra[(parts < 1) | (parts >= self.max_rounds)] = 0
        if self.incomplete == "wait":
            extra[counts.drawn < self._columns["issued"][rows]] = 0
        extra = self._within_budget(rows, extra, np.full(rows.size, round_))
        take = extra > 0
        if not take.any():
            return None
        if round_ in self._budget:
            self._budget[round_] -= int(extra.sum())
        fresh = take & (parts == 1)
        self._columns.write(rows[fresh], first_rollouts=counts.drawn[fresh], first_reward=counts.reward[fresh])
        rows, extra = rows[take], extra[take]
        self._columns.write(rows, parts=parts[take] + 1, issued=self._columns["issued"][rows] + extra)
        return Picked(rows, np.full(rows.size, np.nan), extra)

    def _extra(self, counts: _Counts) -> Ints:
        """How many more rollouts each prompt wants: 0 where the exit rule holds or N·M were drawn."""
        left = np.clip(self.max_rounds * self.round_size - counts.drawn, 0, self.round_size)
        return np.where(self._rule.reached(counts.positive, counts.negative), 0, left)

    def _within_budget(self, rows: Ints, extra: Ints, rounds: Ints) -> Ints:
        """What of the wanted rollouts their rounds can pay; who comes first is a matter of a hash."""
        if not self.budget:
            return extra
        granted = np.zeros_like(extra)
        for round_ in np.unique(rounds).tolist():
            mine = np.flatnonzero((rounds == round_) & (extra > 0))
            order = mine[np.argsort(stable_hash(self.pool.ids[rows[mine]], self.seed + round_))]
            before = np.cumsum(extra[order]) - extra[order]
            granted[order] = np.clip(self._budget.get(round_, 0) - before, 0, extra[order])
        return granted

    # ---- judging ------------------------------------------------------------------------------------------------

    def _judge(self, groups: Groups, evidence: Evidence) -> Verdict:
        counts = self._count(evidence, np.ones(len(evidence), dtype=np.bool_))
        extra = np.zeros(counts.rows.size, dtype=np.int64)
        if self.allocation == "sequential":
            parts, in_round = self._columns["parts"][counts.rows], self._columns["in_round"][counts.rows]
            extra = np.where(parts < self.max_rounds, self._extra(counts), 0)
            known = np.where(parts > 0, in_round, -1)
            extra = np.where(known < 0, extra, self._within_budget(counts.rows, extra, in_round))
        leave_out = self._left_out(counts.positive, counts.negative) & (extra == 0)
        verdict = np.where(extra > 0, "more", np.where(leave_out, "drop", "keep"))
        side = np.where(counts.positive == 0, "none positive", "all positive")
        why = np.where(counts.mixed, "unbalanced", side)
        return Verdict(verdict, extra, np.where(extra > 0, "undecided", np.where(leave_out, why, "")))

    def _left_out(self, n_positive: Ints, n_negative: Ints) -> Bools:
        """Which prompts are not trained on. With estimates there is no exit rule to meet, only both sides to have."""
        if self.allocation == "estimate":
            one_sided = (n_positive == 0) | (n_negative == 0)
            return one_sided if self.unresolved != "keep" else np.zeros_like(one_sided)
        return self._rule.left_out(n_positive, n_negative)

    def group_of(self, rollouts: Rollouts) -> dict[int, EliminationGroup]:
        """Which responses are trained on; for the trainer, and it changes nothing.

        Args:
            rollouts: all responses of finished prompts, those of one prompt in generation order.

        Returns:
            Prompt id → its group, ids ascending, with ``positions`` into ``rollouts``. What ``unresolved`` leaves out
            is not in it. With ``allocation="estimate"`` every response of a prompt is kept.

        Raises:
            UnknownPrompt: an id is not in the pool.

        >>> from curri import PromptPool, Rollouts
        >>> ada = ReinforceAda(PromptPool([3, 5]), group_size=2)
        >>> groups = ada.group_of(Rollouts([3, 5, 3, 5, 3], [0, 0, 0, 0, 1]))
        >>> {prompt: group.positions.tolist() for prompt, group in groups.items()}
        {3: [4, 0], 5: [1, 3]}
        """
        self.check_known(rollouts.prompt_ids)
        outcomes = self._outcomes(rollouts.rewards, rollouts.solved)
        found = {}
        order = np.argsort(rollouts.prompt_ids, kind="stable")
        starts = np.flatnonzero(np.diff(rollouts.prompt_ids[order])) + 1
        for places in np.split(order, starts) if order.size else []:
            prompt = int(rollouts.prompt_ids[places[0]])
            group = self._group(prompt, rollouts.rewards[places], outcomes[places])
            sides = np.array([group.n_positive]), np.array([group.n_negative])
            if not self._left_out(*sides)[0]:
                found[prompt] = dataclasses.replace(group, positions=places[group.positions])
        return found

    def _group(self, prompt: int, rewards: Floats, outcomes: Floats) -> EliminationGroup:
        if self.allocation == "estimate":
            positive = int((outcomes > self.positive_threshold).sum())
            negative = rewards.size - positive
            whole, met = np.arange(rewards.size, dtype=np.int64), bool(self._rule.reached(positive, negative))
            return EliminationGroup(whole, rewards, rewards, positive, negative, 1, met)
        chance = None
        if self.keep == "random":
            key = int(stable_hash([prompt], self._rounds_closed)[0])
            chance = np.random.default_rng([self.seed, key])
        return self._rule.group(rewards, outcomes=outcomes, rng=chance, rounds=-(-rewards.size // self.round_size))

    # ---- learning -----------------------------------------------------------------------------------------------

    def _column_defaults(self) -> dict[str, np.generic]:
        return {
            **super()._column_defaults(),
            "in_round": np.int64(-1),  # the round it was last asked for in
            "parts": np.int32(0),  # how often rollouts were handed out there; 0 once they were folded
            "issued": np.int64(0),  # how many
            "first_rollouts": np.int64(0),  # told of the first part, noted when a second one is handed out
            "first_reward": np.float64(0),
            "n_total": np.float64(0),
            "n_positive": np.float64(0),
        }

    def _set_up(self) -> None:
        super()._set_up()
        self._check_bounds()
        self._rule = EliminationRule(
            group_size=self.group_size,
            exit=self.exit,
            threshold=self.positive_threshold,
            positives_needed=self.positives_needed,
            downsample=self.downsample,
            keep=self.keep,
            unresolved=self.unresolved,
        )
        self._estimator = DecayedPassRate(self.prior_alpha, self.prior_beta, self.decay)
        self._budget: dict[int, int] = getattr(self, "_budget", {})
        self._total: Floats = getattr(self, "_total", np.zeros(len(_TALLY)))
        self._last: Floats = getattr(self, "_last", np.zeros(len(_TALLY)))

    def _check_bounds(self) -> None:
        if self.allocation != "estimate":
            return
        if self.minimum > self.round_size:
            raise InvalidParameter(
                f"`minimum` of `ReinforceAda` must be at most `round_size` = {self.round_size}, the mean; "
                f"got {self.minimum}"
            )
        if 0 < self.maximum < self.round_size:
            raise InvalidParameter(
                f"`maximum` of `ReinforceAda` must be 0 or at least `round_size` = {self.round_size}, the mean; "
                f"got {self.maximum}"
            )

    def _fold(self, evidence: Evidence) -> None:
        train = ~evidence.probe
        counts = self._count(evidence, train)
        if not counts.rows.size:
            return
        self._report_odd(evidence.rewards[train], evidence.solved[train])
        handed_out = self._columns["parts"][counts.rows] > 0
        if handed_out.any():
            self._last = self._tally(counts.take(handed_out))
            self._total = self._total + self._last
        total, positive = self._estimator.folded(
            self._columns["n_total"][counts.rows],
            self._columns["n_positive"][counts.rows],
            drawn=counts.drawn,
            positive=counts.positive,
        )
        self._columns.write(counts.rows, n_total=total, n_positive=positive, parts=0)

    def _report_odd(self, rewards: Floats, solved: Floats) -> None:
        if self.outcome == "solved" and np.isnan(solved).any():
            self._fall_back(
                "solved_unknown",
                "some responses came without `solved`; their reward is compared with `positive_threshold` instead "
                "(`outcome=reward` does so for all)",
            )
        if np.any((rewards != 0.0) & (rewards != 1.0)):
            self._fall_back(
                "rewards_not_binary",
                "rewards other than 0 and 1 came: the baseline from counts alone would be on another scale than they "
                "are (hand `pool_rewards` to `pool_baseline_advantages`)",
            )

    def _count(self, evidence: Evidence, mask: Bools) -> _Counts:
        rows, group = np.unique(evidence.rows[mask], return_inverse=True)
        rewards = evidence.rewards[mask]
        positive = self._outcomes(rewards, evidence.solved[mask]) > self.positive_threshold
        drawn = np.bincount(group, minlength=rows.size)
        right = np.bincount(group, positive, rows.size).astype(np.int64)
        return _Counts(
            rows=rows,
            drawn=drawn,
            positive=right,
            negative=drawn - right,
            reward=np.bincount(group, rewards, rows.size).astype(np.float64),
            positive_reward=np.bincount(group, np.where(positive, rewards, 0.0), rows.size).astype(np.float64),
        )

    def _outcomes(self, rewards: Floats, solved: Floats) -> Floats:
        return rewards if self.outcome == "reward" else np.where(np.isnan(solved), rewards, solved)

    def _tally(self, counts: _Counts) -> Floats:
        """What one round came to, by the names in ``_TALLY``."""
        parts, first = self._columns["parts"][counts.rows], self._columns["first_rollouts"][counts.rows]
        once = parts == 1
        kept, kept_reward = self._kept(counts)
        values = {
            "groups": counts.rows.size,
            "rollouts": counts.drawn.sum(),
            "rounds": parts.sum(),
            "resolved": self._rule.reached(counts.positive, counts.negative).sum(),
            "no_signal": (~counts.mixed).sum(),
            "short": (kept < self.group_size).sum(),
            "first_rollouts": np.where(once, counts.drawn, first).sum(),
            "first_reward": np.where(once, counts.reward, self._columns["first_reward"][counts.rows]).sum(),
            "pool_reward": counts.reward.sum(),
            "kept": kept.sum(),
            "kept_reward": kept_reward.sum(),
        }
        return np.array([values[name] for name in _TALLY], dtype=np.float64)

    def _kept(self, counts: _Counts) -> tuple[Ints, Floats]:
        """How many responses of each prompt are trained on, and their expected sum of rewards."""
        right, wrong = counts.positive, counts.negative
        if self.allocation == "sequential":
            right, wrong = self._rule.kept_counts(counts.positive, counts.negative)
        stays = ~self._left_out(counts.positive, counts.negative)
        right, wrong = right * stays, wrong * stays
        rest = counts.reward - counts.positive_reward
        reward = right * counts.positive_reward / np.maximum(counts.positive, 1)
        return right + wrong, reward + wrong * rest / np.maximum(counts.negative, 1)

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _own_state(self) -> State:
        return {
            **super()._own_state(),
            "budget_rounds": np.array(list(self._budget), dtype=np.int64),
            "budget_left": np.array(list(self._budget.values()), dtype=np.int64),
            "total": self._total.copy(),
            "last": self._last.copy(),
        }

    def _load_own_state(self, state: State) -> None:
        super()._load_own_state(state)
        self._budget = dict(zip(state["budget_rounds"].tolist(), state["budget_left"].tolist(), strict=True))
        self._total, self._last = _tally_of(state["total"]), _tally_of(state["last"])

    def _own_metrics(self) -> dict[str, float]:
        total = dict(zip(_TALLY, self._total.tolist(), strict=True))
        last = dict(zip(_TALLY, self._last.tolist(), strict=True))
        found = {"rollouts_spent": total["rollouts"], "groups_finished": total["groups"]}
        if last["groups"]:
            found |= {
                "rollouts_per_prompt": last["rollouts"] / last["groups"],
                "rollouts_over_group_size": last["rollouts"] / last["groups"] / self.group_size,
                "rollouts_over_one_round": last["rollouts"] / last["groups"] / self.round_size,
                "rounds_per_prompt": last["rounds"] / last["groups"],
                "share_resolved": last["resolved"] / last["groups"],
                "share_without_signal": last["no_signal"] / last["groups"],
                "share_short": last["short"] / last["groups"],
                "reward_mean_biased": last["pool_reward"] / last["rollouts"],
            }
        if last["first_rollouts"]:
            found["reward_mean_first_round"] = last["first_reward"] / last["first_rollouts"]
        if last["kept"]:
            found["reward_mean_kept_biased"] = last["kept_reward"] / last["kept"]
        return super()._own_metrics() | found

    def _explain(self, row: int) -> dict[str, Any]:
        rate = float(self._pass_rate(np.array([row]))[0])
        known = {
            **super()._explain(row),
            "pass_rate_estimate": rate,
            "responses_counted": float(self._columns["n_total"][row]),
            "last_round": int(self._columns["in_round"][row]),
            "rollouts_handed_out_there": int(self._columns["issued"][row]),
        }
        if self.allocation == "sequential" and self.round_size * self.max_rounds <= _EXPLAINED_DRAWS:
            cost = elimination_cost(rate, round_size=self.round_size, max_rounds=self.max_rounds, rule=self._rule)
            known |= {"expected_rollouts": float(cost.draws), "chance_of_no_signal": float(cost.no_signal)}
        return known


class _Counts(NamedTuple):
    """What was told of some prompts; all of shape (prompts,), rows ascending."""

    rows: Ints
    drawn: Ints
    positive: Ints
    negative: Ints
    reward: Floats
    positive_reward: Floats

    def take(self, mask: Bools) -> _Counts:
        return _Counts._make(column[mask] for column in self)

    @property
    def mixed(self) -> Bools:
        return (self.positive > 0) & (self.negative > 0)


def _tally_of(saved: Any) -> Floats:
    tally = np.array(saved, dtype=np.float64)
    if tally.shape != (len(_TALLY),):
        raise ValueError(f"a tally has {len(_TALLY)} numbers; the state holds {tally.shape}")
    return tally
