"""``ucb``: a bandit over distributions, after DUMP (arXiv 2504.09710)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.curricula.base import Curriculum, Picked, Request
from curri.estimators import AdvantageWindow, group_advantages, ucb_scores
from curri.parameters import choice, integer, real, switch
from curri.selectors import (
    capped_shares,
    replacement_counts,
    softmax,
    stable_hash,
    successive_counts,
    systematic_counts,
    uniform_rows,
)

if TYPE_CHECKING:
    from curri.curricula.evidence import Evidence
    from curri.state import State
    from curri.types import Floats, Ints


class UCB(Curriculum):
    """Draws more from distributions whose responses still carry large advantages.

    Every arm j (a dataset, a task, a level) has a learnability L_j, the mean absolute advantage of its last k
    responses, and a count n_j of all its responses. After each round (DUMP, section 3.2 and equation 3)

        UCB_j = L_j + c · sqrt(2 ln(N + 1) / (n_j + 1)),    N = max(1, Σ n_j),
        P_j   = exp(UCB_j / τ) / Σ_i exp(UCB_i / τ),

    and the next batch takes prompts of arm j with probability P_j, uniformly inside the arm.

    Where the paper, its released code and this implementation differ:

    * ``count_unit``: the code counts responses, the paper's text reads as prompts. Counting responses makes the bonus
      about sqrt(G) times smaller, so that a saturated arm is all but forgotten.
    * ``draw``: the code draws an arm for every slot and then a prompt with replacement ("replacement"; a prompt drawn
      twice gets two groups). "successive" draws one arm after another too, but a prompt at most once, and an arm that
      has no prompt left drops out. "systematic" (the default) has the same expected number of prompts of each arm with
      less noise, at most one off its expectation, and gives exact inclusion probabilities.
    * Advantages that are not handed in are computed from the rewards of each prompt's group. With ``normalize_std`` off
      their scale follows the rewards, and τ has to be set anew.
    * A response whose advantage is not finite is refused when it is told; the code's weights turn to NaN.
    * When more than k responses of an arm arrive in one round, which of them stay in the window is decided by a hash of
      their prompt id and the round: neither their order in the batch nor the age of a prompt matters.

    An arm never seen has L = 0 and a bonus so large that it takes nearly the whole next batch (as in the code).

    >>> from curri import PromptPool, Rollouts
    >>> ucb = UCB(PromptPool(range(6), list("aabbcc")), seed=0, group_size=2)
    >>> ids = ucb.ask(6).prompt_ids.repeat(2)
    >>> ucb.tell(Rollouts(ids, rewards=[1, 0] * 6, advantages=[1.0, -1.0] * 6))
    >>> ucb.advance()
    >>> {arm: round(weight, 3) for arm, weight in ucb.arm_weights.items()}
    {'a': 0.333, 'b': 0.333, 'c': 0.333}
    """

    name: ClassVar[str] = "ucb"
    summary: ClassVar[str] = "upper confidence bounds over arms by mean |advantage| (DUMP)"
    source: ClassVar[str] = "DUMP, arXiv 2504.09710"

    window: int = integer(
        default=300,
        low=1,
        symbol="k",
        doc="responses of an arm that its mean |advantage| looks back on",
        source="DUMP, section 4",
    )
    temperature: float = real(
        default=0.1, above=0.0, symbol="τ", doc="softmax temperature over the arms' scores", source="DUMP, section 4"
    )
    exploration: float = real(
        default=1.0,
        low=0.0,
        high=1e100,
        symbol="c",
        doc="multiplies the bonus of rarely seen arms",
        source="DUMP, equation 3",
    )
    count_unit: str = choice(
        default="responses",
        of=("responses", "prompts"),
        symbol="n",
        doc="what an arm's count counts",
        source="released code: responses; paper: prompts",
    )
    draw: str = choice(
        default="systematic",
        of=("systematic", "successive", "replacement"),
        doc="how a batch is drawn by the arms' weights",
        source="released code: replacement",
    )
    normalize_std: bool = switch(
        default=True, doc="divide advantages computed here by the group's standard deviation", source="GRPO"
    )

    @property
    def arm_weights(self) -> dict[str, float]:
        """P_j of every arm that has prompts to pick, adding up to 1."""
        weights = self._weights(self.pool.arm_sizes)
        return {
            name: float(weight)
            for name, weight, size in zip(self.pool.arm_names, weights, self.pool.arm_sizes, strict=True)
            if size
        }

    # ---- picking ------------------------------------------------------------------------------------------------

    def _pick(self, request: Request) -> Picked:
        if request.quota is not None:
            return self._drawn(request, request.quota, request.quota / np.maximum(request.supply, 1))
        weights = self._weights(request.supply)
        if self.draw == "replacement":
            return self._drawn_with_replacement(request, weights)
        if request.supply[weights > 0].sum() < request.n:
            self._fall_back(
                "arms_exhausted",
                "the arms with weight have too few prompts for the batch; the rest of it is spread over the other arms "
                "by their size (a higher `temperature` gives them weight)",
            )
        if self.draw == "successive":
            counts = successive_counts(weights, request.supply, request.n, self._rng)
            return self._drawn(request, counts, self._successive_probability(request, weights))
        shares = capped_shares(weights, request.supply, request.n)
        counts = systematic_counts(shares, self._rng)
        return self._drawn(request, counts, shares / np.maximum(request.supply, 1))

    def _drawn(self, request: Request, counts: Ints, probability_A: Floats) -> Picked:
        parts = [
            uniform_rows(self.pool.active_rows(arm), int(counts[arm]), self._rng, request.excluded)
            for arm in np.flatnonzero(counts).tolist()
        ]
        rows = self._rng.permutation(np.concatenate(parts))
        return Picked(rows, probability_A[self.pool.arms[rows]])

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

    def _successive_probability(self, request: Request, weights: Floats) -> Floats:
        """Inclusion probabilities n · P_j / m_j where no arm can run out, else NaN."""
        if np.all((weights == 0) | (request.supply >= request.n)):
            return request.n * weights / np.maximum(request.supply, 1)
        return np.full(weights.shape, np.nan)

    def _weights(self, supply: Ints) -> Floats:
        """Probabilities of the arms, 0 for those without a prompt to pick, shape (_A,)."""
        scores = np.where(supply > 0, ucb_scores(self._mean_abs, self._count, self.exploration), -np.inf)
        return softmax(scores, self.temperature) if np.any(supply > 0) else np.zeros(supply.shape)

    # ---- learning -----------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        self._windows: dict[str, AdvantageWindow] = getattr(self, "_windows", {})
        seen = [self._windows.get(name) for name in self.pool.arm_names]
        self._mean_abs = np.array([0.0 if arm is None else arm.mean_abs for arm in seen])
        self._count = np.array([0 if arm is None else arm.count for arm in seen], dtype=np.int64)

    def _fold(self, evidence: Evidence) -> None:
        train = ~evidence.probe
        rows = evidence.rows[train]
        advantages = self._advantages(rows, evidence.advantages[train], evidence.rewards[train])
        arms = self.pool.arms[rows]
        order = np.lexsort((np.arange(rows.size), stable_hash(evidence.prompt_ids[train], self._rounds_closed), arms))
        for part in np.split(order, np.flatnonzero(np.diff(arms[order])) + 1):
            if part.size:
                self._update(int(arms[part[0]]), rows[part], advantages[part])

    def _advantages(self, rows: Ints, told: Floats, rewards: Floats) -> Floats:
        missing = np.isnan(told)
        if not missing.any():
            return told
        return np.where(missing, group_advantages(rewards, rows, normalize_std=self.normalize_std), told)

    def _update(self, arm: int, rows: Ints, advantages: Floats) -> None:
        window = self._windows.setdefault(self.pool.arm_names[arm], AdvantageWindow(self.window))
        count = rows.size if self.count_unit == "responses" else np.unique(rows).size
        window.update(advantages, count=count)
        self._mean_abs[arm] = window.mean_abs
        self._count[arm] = window.count

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _own_state(self) -> State:
        return {f"{arm}/{key}": value for arm, window in self._windows.items() for key, value in window.state().items()}

    def _load_own_state(self, state: State) -> None:
        parts: dict[str, dict[str, Any]] = {}
        for name, value in state.items():
            arm, _, key = name.rpartition("/")
            parts.setdefault(arm, {})[key] = value
        self._windows = {arm: AdvantageWindow.from_state(self.window, part) for arm, part in parts.items()}

    def _own_metrics(self) -> dict[str, float]:
        weights = self.arm_weights
        learnability = dict(zip(self.pool.arm_names, self._mean_abs.tolist(), strict=True))
        return {
            "arms": len(weights),
            "arms_unseen": int(np.sum((self._count == 0) & (self.pool.arm_sizes > 0))),
            "arms_empty": int(np.sum(self.pool.arm_sizes == 0)),
            **{f"weight/{arm}": weight for arm, weight in weights.items()},
            **{f"learnability/{arm}": value for arm, value in learnability.items()},
        }

    def _explain(self, row: int) -> dict[str, Any]:
        arm = int(self.pool.arms[row])
        score = float(ucb_scores(self._mean_abs, self._count, self.exploration)[arm])
        weight = self.arm_weights.get(self.pool.arm_names[arm], 0.0)
        size = int(self.pool.arm_sizes[arm])
        return {
            "arm_mean_abs_advantage": float(self._mean_abs[arm]),
            "arm_count": int(self._count[arm]),
            "arm_bonus": score - float(self._mean_abs[arm]),
            "arm_score": score,
            "arm_weight": weight,
            "arm_prompts": size,
            "share_of_a_batch": weight / size if size and self.pool.active[row] else 0.0,
        }
