"""``sec``: a bandit over categories by mean absolute advantage, after SEC (arXiv 2505.14970)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.curricula.by_arm import ArmEpochs, draw_switch, told_advantages
from curri.parameters import choice, real, switch
from curri.selectors import softmax

if TYPE_CHECKING:
    from curri.curricula.evidence import Evidence
    from curri.state import State
    from curri.types import Floats, Ints


class SEC(ArmEpochs):
    """Draws more from categories whose last rounds carried large advantages.

    Every arm c (a difficulty, a task) has a value Q_c. After a round in which its responses had the advantages A,

        r_c = mean |A|,    Q_c ← α·r_c + (1 - α)·Q_c,    P_c = exp(Q_c / τ) / Σ_i exp(Q_i / τ),

    and the next batch takes prompts of arm c with probability P_c. There is no bonus for rare arms: what keeps them
    alive is τ. With group-normalised advantages r lies in [0, 1], so that P_max / P_min ≤ exp(1 / τ): 2.7 at τ = 1,
    12 at 0.4, 148 at 0.2.

    Where paper, released code and this implementation differ:

    * ``absent``: the text has no rule for arms without a response in a round. "keep" (the default) leaves their value
      as it is; the code counts them as r = 0 ("decay"), so that an arm that is not drawn falls further behind. Rounds
      in which nothing at all came back change nothing.
    * ``initial``: Q starts at 0 (paper and code), where an arm that was never seen looks as useless as a mastered one.
      A start near 1 is optimistic: every arm is tried before it is given up.
    * ``inside``: the paper draws a prompt of the category; the code goes through a shuffled list of them ("epochs").
    * ``draw``: paper and code draw a category for every slot ("successive"). "systematic" has the same expectation with
      less noise.
    * ``normalize_std``: advantages that the trainer does not tell are computed from rewards by group. The code can
      leave out the division by the standard deviation; τ then has to follow the scale of the rewards.

    >>> from curri import PromptPool, Rollouts
    >>> sec = SEC(PromptPool(range(4), list("aabb")), temperature=0.5)
    >>> sec.tell(Rollouts([0, 0, 2, 2], [1, 0, 1, 1], advantages=[1.0, -1.0, 0.0, 0.0]))
    >>> sec.advance()
    >>> {arm: round(weight, 3) for arm, weight in sec.arm_weights.items()}
    {'a': 0.731, 'b': 0.269}
    """

    name: ClassVar[str] = "sec"
    summary: ClassVar[str] = "a bandit over arms by recent mean |advantage| (SEC)"
    source: ClassVar[str] = "SEC, arXiv 2505.14970"

    rate: float = real(
        default=0.5,
        above=0.0,
        high=1.0,
        symbol="α",
        doc="weight of a round in an arm's value",
        source="SEC, the authors' runs; their code's own default is 0.1",
    )
    temperature: float = real(
        default=0.4,
        above=0.0,
        symbol="τ",
        doc="softmax temperature over the arms' values, usually 0.2 to 1",
        source="SEC, the authors' runs: 0.4 for mathematics, 1.0 for Countdown, 0.2 for several tasks at once",
    )
    initial: float = real(
        default=0.0,
        low=0.0,
        high=1e100,
        symbol="Q₀",
        doc="value of an arm never seen; about 1 makes a start that tries every arm",
        source="SEC",
    )
    absent: str = choice(
        default="keep",
        of=("keep", "decay"),
        doc="what a round does to the value of an arm that had no response in it",
        source="released code: decay",
    )
    inside: str = choice(
        default="uniform",
        of=("uniform", "epochs"),
        doc="which prompts of an arm: any, or those that did not come yet in its epoch",
        source="released code: epochs",
    )
    draw: str = draw_switch(of=("systematic", "successive"), source="SEC: successive")
    normalize_std: bool = switch(
        default=True, doc="divide advantages computed here by the group's standard deviation", source="GRPO"
    )

    more_weight: ClassVar[str] = "a higher `temperature`"

    # ---- picking ------------------------------------------------------------------------------------------------

    @property
    def _in_epochs(self) -> bool:
        return self.inside == "epochs"

    def _arm_weights(self, supply: Ints) -> Floats:
        values = np.where(supply > 0, self._value_A, -np.inf)
        return softmax(values, self.temperature) if np.any(supply > 0) else np.zeros(supply.shape)

    # ---- learning -----------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        super()._set_up()
        self._values: dict[str, float] = getattr(self, "_values", {})
        self._value_A = np.array([self._values.get(name, self.initial) for name in self.pool.arm_names])

    def _fold(self, evidence: Evidence) -> None:
        rows, _, advantages = told_advantages(evidence, normalize_std=self.normalize_std)
        if not rows.size:
            return
        arms = self.pool.arms[rows]
        count = np.bincount(arms, minlength=self._value_A.size)
        reward = np.bincount(arms, np.abs(advantages), self._value_A.size) / np.maximum(count, 1)
        changed = count > 0 if self.absent == "keep" else np.ones(count.shape, dtype=np.bool_)
        for arm in np.flatnonzero(changed).tolist():
            value = self.rate * reward[arm] + (1.0 - self.rate) * self._value_A[arm]
            self._values[self.pool.arm_names[arm]] = self._value_A[arm] = float(value)

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _own_state(self) -> State:
        return {**super()._own_state(), "values": dict(self._values)}

    def _load_own_state(self, state: State) -> None:
        super()._load_own_state(state)
        self._values = {str(arm): float(value) for arm, value in state["values"].items()}

    def _own_metrics(self) -> dict[str, float]:
        weights, values = super()._own_metrics(), zip(self.pool.arm_names, self._value_A.tolist(), strict=True)
        return {
            **weights,
            # With "decay" the arms never seen have a value too.
            **({"arms_unseen": float(len(self.arm_weights.keys() - self._values))} if self.absent == "keep" else {}),
            **{f"value/{arm}": value for arm, value in values},
        }

    def _explain(self, row: int) -> dict[str, Any]:
        return {"arm_value": float(self._value_A[self.pool.arms[row]]), **super()._explain(row)}
