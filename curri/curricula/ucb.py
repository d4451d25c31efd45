"""``ucb``: a bandit over distributions, after DUMP (arXiv 2504.09710)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.curricula.by_arm import ArmCurriculum, draw_switch, told_advantages
from curri.estimators import AdvantageWindow, ucb_scores
from curri.parameters import choice, integer, real, switch
from curri.selectors import softmax, stable_hash

if TYPE_CHECKING:
    from curri.curricula.evidence import Evidence
    from curri.state import State
    from curri.types import Floats, Ints


class UCB(ArmCurriculum):
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
    * ``overflow``: when more than k responses of an arm arrive in one round, the code keeps the last ones of the batch,
      which it has ordered by length before. Here the order of a batch must not matter: "sample" lets a hash of the
      prompt id and the round decide, "last" keeps those of the highest prompt ids.
    * ``discount``: paper and code never forget a count, so the bonus fades and a saturated arm is not tried again. With
      γ < 1 every count loses the share 1 - γ in each round (discounted UCB), N follows, and arms come back.

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
    draw: str = draw_switch(source="released code: replacement")
    normalize_std: bool = switch(
        default=True, doc="divide advantages computed here by the group's standard deviation", source="GRPO"
    )

    overflow: str = choice(
        default="sample",
        of=("sample", "last"),
        doc="which responses of an arm stay in the window when more arrive in one round than fit",
        source="released code: the last of the batch",
    )
    discount: float = real(
        default=1.0,
        above=0.0,
        high=1.0,
        symbol="γ",
        doc="what is left of an arm's count after a round; 1 forgets nothing",
        source="DUMP: 1; discounted UCB, Garivier and Moulines, arXiv 0805.3415",
    )

    more_weight: ClassVar[str] = "a higher `temperature`"

    # ---- picking ------------------------------------------------------------------------------------------------

    def _arm_weights(self, supply: Ints) -> Floats:
        is_empty = supply <= 0
        if np.count_nonzero(is_empty) == supply.size:
            return np.zeros(supply.shape)
        scores = ucb_scores(self._mean_abs, self._counts(), self.exploration)
        scores[is_empty] = -np.inf
        return softmax(scores, self.temperature)

    def _counts(self) -> Ints | Floats:
        """n_j of every arm, discounted to now."""
        if self.discount == 1.0:
            return self._count
        return np.asarray(self._recent * self.discount ** (self._rounds_closed - self._recent_at))

    # ---- learning -----------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        self._windows: dict[str, AdvantageWindow] = getattr(self, "_windows", {})
        seen = [self._windows.get(name) for name in self.pool.arm_names]
        self._mean_abs = np.array([0.0 if arm is None else arm.mean_abs for arm in seen])
        self._count = np.array([0 if arm is None else arm.count for arm in seen], dtype=np.int64)
        self._discounted: dict[str, tuple[float, int]] = getattr(self, "_discounted", {})
        recent = [self._discounted.get(name, (0.0, 0)) for name in self.pool.arm_names]
        self._recent = np.array([value for value, _ in recent])
        self._recent_at = np.array([at for _, at in recent], dtype=np.int64)

    def _fold(self, evidence: Evidence) -> None:
        rows, prompt_ids, advantages = told_advantages(evidence, normalize_std=self.normalize_std)
        arms = self.pool.arms[rows]
        keys = [arms] if self.overflow == "last" else [stable_hash(prompt_ids, self._rounds_closed), arms]
        order = np.lexsort((np.arange(rows.size), *keys))
        arms, rows, advantages = arms[order], rows[order], advantages[order]
        starts = (arms[1:] != arms[:-1]).nonzero()[0] + 1
        for first, end in pairwise([0, *starts.tolist(), rows.size]):
            if end:
                self._update(int(arms[first]), rows[first:end], advantages[first:end])

    def _update(self, arm: int, rows: Ints, advantages: Floats) -> None:
        name = self.pool.arm_names[arm]
        if name not in self._windows:
            self._windows[name] = AdvantageWindow(self.window)
        window = self._windows[name]
        count = rows.size if self.count_unit == "responses" else np.unique(rows).size
        window.update(advantages, count=count)
        self._mean_abs[arm] = window.mean_abs
        self._count[arm] = window.count
        if self.discount < 1.0:
            now = self._rounds_closed + 1  # once this round is closed
            old = float(self._recent[arm]) * self.discount ** (now - int(self._recent_at[arm]))
            self._discounted[name] = (old + count, now)
            self._recent[arm], self._recent_at[arm] = self._discounted[name]

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _own_state(self) -> State:
        state = {
            f"{arm}/{key}": value for arm, window in self._windows.items() for key, value in window.state().items()
        }
        return state | {f"{arm}/discounted": list(pair) for arm, pair in self._discounted.items()}

    def _load_own_state(self, state: State) -> None:
        parts: dict[str, dict[str, Any]] = {}
        for name, value in state.items():
            arm, _, key = name.rpartition("/")
            parts.setdefault(arm, {})[key] = value
        discounted = {arm: part.pop("discounted") for arm, part in parts.items()} if self.discount < 1.0 else {}
        self._discounted = {arm: (float(value), int(at)) for arm, (value, at) in discounted.items()}
        self._windows = {arm: AdvantageWindow.from_state(self.window, part) for arm, part in parts.items()}

    def _own_metrics(self) -> dict[str, float]:
        learnability = dict(zip(self.pool.arm_names, self._mean_abs.tolist(), strict=True))
        return {
            **super()._own_metrics(),
            "arms_unseen": int(np.sum((self._count == 0) & (self.pool.arm_sizes > 0))),
            **{f"learnability/{arm}": value for arm, value in learnability.items()},
        }

    def _explain(self, row: int) -> dict[str, Any]:
        arm = int(self.pool.arms[row])
        counts = self._counts()
        score = float(ucb_scores(self._mean_abs, counts, self.exploration)[arm])
        return {
            "arm_mean_abs_advantage": float(self._mean_abs[arm]),
            "arm_count": counts[arm].item(),
            "arm_bonus": score - float(self._mean_abs[arm]),
            "arm_score": score,
            **super()._explain(row),
        }
