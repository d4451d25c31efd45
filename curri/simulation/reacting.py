"""A learner that reacts, with forgetting and with pass rates that wander, fitted to a recorded GRPO run.

It is for tests, ablations and a first look at strategies, and never the evidence for a claim about real models: that
ability grows with the advantage mass of what is trained on is assumed, and is the very quantity most strategies chase.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidParameter
from curri.irt import logistic
from curri.pool import PromptPool
from curri.selectors import stable_hash
from curri.simulation.gain import Scene
from curri.simulation.learner import SimulatedLearner, normal_noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from curri.types import Floats, Ints

__all__ = ["FITTED", "FITTED_ARMS", "FittedArm", "ReactingLearner", "Reaction", "fitted_scene"]

_TERMS = 24
_WANDER = 0x77616E64
_SKILLS = 0x736B696C


@dataclass(frozen=True, kw_only=True)
class Reaction:
    """How a learner reacts.

    Attributes:
        learning_rate: η ≥ 0, logits for a unit of advantage mass.
        transfer: γ in [0, 1], the part of what a skill's groups teach that every other skill gets.
        room: w > 0, how far a skill can grow above its start, logits.
        forgetting: φ in [0, 1], the part of what was learned that is lost in a step.
        wander: standard deviation of what a prompt's logit does by itself in a step, logits.
        unrest: the same for a skill's ability.
        horizon: steps after which prompts wander no further.
    """

    learning_rate: float = 0.004
    transfer: float = 0.1
    room: float = 3.0
    forgetting: float = 0.0
    wander: float = 0.0
    unrest: float = 0.0
    horizon: int = 1000

    def __post_init__(self) -> None:
        allowed = {"forgetting": (0.0, 1.0), "wander": (0.0, 10.0), "unrest": (0.0, 10.0), "horizon": (1, 10_000_000)}
        for name, (low, high) in allowed.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidParameter(f"`{name}` of `Reaction` must lie in [{low:g}, {high:g}]; got {value!r}")


@dataclass(frozen=True, slots=True)
class FittedArm:
    """An arm of the fitted pool: prompts whose logits at the start are normal.

    Attributes:
        name: of the arm.
        share: of the pool.
        mean: of the pass rate's logit before training.
        spread: its standard deviation.
    """

    name: str
    share: float
    mean: float
    spread: float


FITTED_ARMS = (
    FittedArm("1 hardest", 0.2, -4.3, 2.8),
    FittedArm("2 hard", 0.2, -4.3, 2.5),
    FittedArm("3 middle", 0.2, -1.4, 1.5),
    FittedArm("4 easy", 0.2, 0.1, 1.5),
    FittedArm("5 easiest", 0.2, 1.9, 1.2),
)
"""Fifths by another model's pass rate. Means and spreads were first fitted to the first visits of 605 prompts of
the recorded run by maximum likelihood, then moved by random search until the figures of :mod:`curri.simulation.fit`
were like those of the survey."""
FITTED = Reaction(learning_rate=0.00042, transfer=0.016, room=3.4, forgetting=0.0007, wander=0.0147)
"""From the same search; there is no unrest of abilities in it, as 500 steps of one run cannot tell it from growth."""


class ReactingLearner(SimulatedLearner):
    """A solver that learns, forgets, and whose prompts wander by themselves.

    A response to prompt i of skill s is right with probability σ(a_i · (θ_s − b_i + W_i(t))). After a batch θ grows as
    in :class:`SimulatedLearner`; then

        θ_s ← start_s + (1 − φ) · (θ_s − start_s) + ν · noise.

    W_i is a Brownian path of variance ω² a step, as the first 24 terms of its Karhunen-Loève expansion over ``horizon``
    steps. It is a pure function of (seed, prompt, step): all strategies meet the same one, and nothing is drawn for
    prompts that nobody looks at.

    Args:
        prompt_ids: distinct, shape (_P,).
        skills: name of each prompt's skill, shape (_P,).
        difficulty: b, logits, shape (_P,).
        discrimination: a > 0, one value or shape (_P,).
        reaction: how it reacts.
        seed: of luck, paths and noise.

    Raises:
        InvalidParameter: a value is outside its range, or lengths differ.

    >>> learner = ReactingLearner([1, 2], ["sums", "logic"], [0.0, 5.0], reaction=Reaction(forgetting=0.5))
    >>> learner.learn([1, 1], [1.0, 0.0])
    >>> round(learner.ability["sums"], 5)
    0.00141
    """

    def __init__(
        self,
        prompt_ids: ArrayLike,
        skills: Sequence[str] | NDArray[np.str_],
        difficulty: ArrayLike,
        *,
        discrimination: ArrayLike = 1.0,
        reaction: Reaction = FITTED,
        seed: int = 0,
    ) -> None:
        self.step = 0
        self.reaction = reaction
        self.seed = int(seed)
        self._known = np.empty(0, dtype=np.int64)
        super().__init__(
            prompt_ids,
            skills,
            difficulty,
            discrimination=discrimination,
            learning_rate=reaction.learning_rate,
            transfer=reaction.transfer,
            room=reaction.room,
            seed=seed,
        )
        self._start = self._ability.copy()

    def pass_rate(self, prompt_ids: ArrayLike | None = None) -> Floats:
        """The true chance of each prompt now, shape of ``prompt_ids`` or (_P,), in [0, 1]."""
        rows = slice(None) if prompt_ids is None else self._pool.rows(prompt_ids)
        logit = self._ability[self._pool.arms[rows]] - self._difficulty[rows] + self._wandered(rows)
        return logistic(self._discrimination[rows] * logit)

    def learn(self, prompt_ids: ArrayLike, rewards: ArrayLike) -> None:
        """Train on one batch, forget some, and go to the next step."""
        super().learn(prompt_ids, rewards)
        how = self.reaction
        self._ability = self._start + (1.0 - how.forgetting) * (self._ability - self._start)
        if how.unrest:
            skills = np.arange(len(self.skills))
            self._ability += how.unrest * normal_noise(skills, seed=self.seed ^ _SKILLS ^ (self.step << 20))
        self.step += 1

    def _wandered(self, rows: Ints | slice) -> Floats | float:
        """Where the paths of some rows are now."""
        how = self.reaction
        if not how.wander:
            return 0.0
        if self._known.size != len(self._pool) or not np.array_equal(self._known, self._pool.ids):
            self._known = self._pool.ids
            self._paths = np.stack([self._normal(self._known, term) for term in range(_TERMS)], axis=1)
        at = min(self.step, how.horizon) / how.horizon
        frequency = (np.arange(_TERMS) + 0.5) * math.pi
        basis = math.sqrt(2.0 * how.horizon) * np.sin(frequency * at) / frequency
        return np.asarray(how.wander * (self._paths[rows] @ basis))

    def _normal(self, prompt_ids: Ints, term: int) -> Floats:
        keys = stable_hash(prompt_ids, self.seed ^ _WANDER).view(np.int64)
        return normal_noise(keys, seed=term)

    def state_dict(self) -> dict[str, Any]:
        """What changes as it learns."""
        return {**super().state_dict(), "step": self.step}

    def load_state_dict(self, state: Any) -> None:
        """Go on from a saved state, bit for bit."""
        super().load_state_dict(state)
        self.step = int(state["step"])


def fitted_scene(
    seed: int, *, prompts: int = 1200, arms: Sequence[FittedArm] = FITTED_ARMS, reaction: Reaction = FITTED
) -> Scene:
    """A pool like that of the recorded run, with a learner fitted to it.

    Args:
        seed: of difficulties, paths and luck.
        prompts: in all, at least one for each arm.
        arms: how hard they are.
        reaction: how the learner reacts.

    Example:
        >>> scene = fitted_scene(0, prompts=5000)
        >>> bool(0.3 < scene.learner.pass_rate().mean() < 0.4)
        True

    """
    shares = np.cumsum([arm.share for arm in arms])
    ids = np.arange(1, prompts + 1)
    code = np.minimum(np.searchsorted(shares, (ids - 0.5) / prompts * shares[-1]), len(arms) - 1)
    mean, spread = (np.array([getattr(arm, name) for arm in arms])[code] for name in ("mean", "spread"))
    difficulty = -(mean + spread * normal_noise(ids, seed=seed))
    skills = np.array([arm.name for arm in arms])[code]
    return Scene(PromptPool(ids, skills), ReactingLearner(ids, skills, difficulty, reaction=reaction, seed=seed))
