"""A solver that learns, by item-response formulas. A simulation: it says nothing about real models.

It is there to show a strategy at work, to test the loop from prompt to reward and back, and to compare strategies when
nothing hangs on it. Its central assumption, that ability grows with the advantage a group carries, is the very quantity
which most strategies chase; so a strategy that wins here has only shown that it does what it says.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter, StateMismatch
from curri.estimators import group_advantages
from curri.irt import solve_probability
from curri.pool import PromptPool
from curri.selectors import stable_hash
from curri.types import Rollouts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from curri.state import State
    from curri.types import Floats, Ints, Strings

__all__ = ["SimulatedLearner", "luck", "normal_noise"]

_ANSWERS, _NOISE = 0x616E7377, 0x6E6F6973
"""Two streams of chance from one seed: one for answers, one for difficulties."""


def luck(prompt_ids: ArrayLike, ordinals: ArrayLike, *, round: int, seed: int) -> Floats:  # noqa: A002  the field's word
    """A uniform number for each response, a pure function of (seed, round, prompt id, ordinal).

    Counter-based: nothing is drawn from a stream, so neither order nor batching, nor what else is asked, matters.

    Args:
        prompt_ids: shape (_R,), integers.
        ordinals: number of the response within its prompt and round, from 0, shape (_R,).
        round: number of the round.
        seed: any integer.

    Returns:
        Shape (_R,), in [0, 1), multiples of 2**-53.

    Example:
        >>> both = luck([7, 8], [0, 0], round=3, seed=0)
        >>> bool(both[1] == luck([8], [0], round=3, seed=0)[0])
        True

    """
    key = stable_hash(prompt_ids, seed ^ _ANSWERS)
    key = stable_hash(key.view(np.int64), round)
    key += np.asarray(ordinals, dtype=np.int64).view(np.uint64)
    return _unit(stable_hash(key.view(np.int64), seed))


def normal_noise(prompt_ids: ArrayLike, *, seed: int) -> Floats:
    """A standard normal number for each prompt, a pure function of (seed, prompt id), by Box & Muller (1958).

    Args:
        prompt_ids: shape (_P,), integers.
        seed: any integer.

    Returns:
        Shape (_P,), mean 0, variance 1.

    Example:
        >>> noise = normal_noise(range(10_000), seed=0)
        >>> bool(abs(noise.mean()) < 0.05), bool(abs(noise.std() - 1) < 0.05)
        (True, True)

    """
    key = stable_hash(prompt_ids, seed ^ _NOISE).view(np.int64)
    radius = np.sqrt(-2.0 * np.log1p(-_unit(stable_hash(key, 0))))
    return radius * np.cos(2.0 * math.pi * _unit(stable_hash(key, 1)))


class SimulatedLearner:
    """A solver with one ability per skill, which grows with what it is trained on.

    A response to prompt i of skill s is right with probability σ(a_i · (θ_s - b_i)), see :mod:`curri.irt`. After a
    batch, with m_s the mass of skill s (the sum over its groups of their mean |advantage|, which is 0 in dead groups),

        θ_s ← T_s - (T_s - θ_s) · exp(-η · (m_s + γ · Σ_{o≠s} m_o) / w),    T_s = start of s + w:

    growth in proportion to the mass, plus a part γ of the mass of all other skills, slower and slower towards the
    ceiling T_s. A group's mass is the same in one batch or another, and nothing is forgotten.

    The outcome of a response depends on (seed, round, prompt id, its number) and the present ability only, so two
    strategies with the same seed meet the same luck wherever they ask the same prompt in the same round.

    Args:
        prompt_ids: distinct, shape (_P,).
        skills: name of each prompt's skill (a task, a family of arms), shape (_P,).
        difficulty: b, logits, shape (_P,).
        discrimination: a > 0, one value or shape (_P,).
        ability: ability of every skill at the start, logits; one value, or skill → value.
        learning_rate: η ≥ 0, logits for a unit of mass. A live group of 8 has a mass of 0.62 to 0.94.
        transfer: γ in [0, 1].
        room: w > 0, how far a skill can grow above its start, logits.
        seed: of the luck.

    Raises:
        InvalidParameter: a value is outside its range, or lengths differ.

    Source:
        our own, after the outline in the field survey (item-response learner with gain by live advantage mass).

    >>> learner = SimulatedLearner([1, 2], ["sums", "logic"], [0.0, 5.0], learning_rate=0.1, transfer=0.5)
    >>> told = learner.answer([1, 2], 4, round=0)
    >>> told.prompt_ids, told.rewards
    (array([1, 1, 1, 1, 2, 2, 2, 2]), array([0., 0., 1., 0., 0., 0., 0., 0.]))
    >>> learner.learn(told.prompt_ids, told.rewards)
    >>> {skill: round(ability, 3) for skill, ability in learner.ability.items()}
    {'logic': 0.037, 'sums': 0.074}
    """

    def __init__(
        self,
        prompt_ids: ArrayLike,
        skills: Sequence[str] | NDArray[np.str_],
        difficulty: ArrayLike,
        *,
        discrimination: ArrayLike = 1.0,
        ability: float | Mapping[str, float] = 0.0,
        learning_rate: float = 0.004,
        transfer: float = 0.1,
        room: float = 3.0,
        seed: int = 0,
    ) -> None:
        self._pool = PromptPool(prompt_ids, skills)
        order = np.argsort(np.asarray(prompt_ids), kind="stable")
        self._difficulty = _one_each("difficulty", difficulty, order)
        self._discrimination = _one_each("discrimination", np.broadcast_to(discrimination, order.shape), order)
        self.learning_rate = _number("learning_rate", learning_rate, low=0.0)
        self.transfer = _number("transfer", transfer, low=0.0, high=1.0)
        self.room = _number("room", room, above=0.0)
        self.seed = int(seed)
        self._ability = self._starting(ability)
        self._ceiling = self._ability + self.room
        self.pass_rate()  # refuses what the formula refuses

    def _starting(self, ability: float | Mapping[str, float]) -> Floats:
        if not isinstance(ability, (int, float)):
            missing = [skill for skill in self.skills if skill not in ability]
            if missing:
                raise InvalidParameter(f"`ability` of `SimulatedLearner` has no value for {', '.join(missing)}")
            return np.array([ability[skill] for skill in self.skills], dtype=np.float64)
        return np.full(len(self.skills), float(ability))

    @property
    def skills(self) -> tuple[str, ...]:
        """Names of the skills, sorted."""
        return self._pool.arm_names

    @property
    def ability(self) -> dict[str, float]:
        """Present ability of each skill, logits."""
        return dict(zip(self.skills, self._ability.tolist(), strict=True))

    def pass_rate(self, prompt_ids: ArrayLike | None = None) -> Floats:
        """The true chance of each prompt at the present ability.

        Args:
            prompt_ids: shape (_B,); every prompt by ascending id if None.

        Returns:
            Shape (_B,) or (_P,), in [0, 1].

        Raises:
            UnknownPrompt: an id is not the learner's.
        """
        rows = np.arange(len(self._pool)) if prompt_ids is None else self._pool.rows(prompt_ids)
        ability = self._ability[self._pool.arms[rows]]
        return solve_probability(ability, self._difficulty[rows], self._discrimination[rows])

    def answer(
        self,
        prompt_ids: ArrayLike,
        n_rollouts: ArrayLike,
        *,
        round: int,  # noqa: A002  the field's word
        first: ArrayLike = 0,
    ) -> Rollouts:
        """Answer prompts; the ability stays as it is.

        Args:
            prompt_ids: distinct, shape (_B,).
            n_rollouts: responses for each, ≥ 0, one value or shape (_B,).
            round: number of the round; another round means other luck.
            first: responses of this round that each prompt has already, ≥ 0, one value or shape (_B,); a round in
                parts gives the same responses as one in a whole.

        Returns:
            Rewards 1 (right) and 0 (wrong), the prompts in the order given. With more rollouts the first ones stay.

        Raises:
            UnknownPrompt: an id is not the learner's.
            InvalidParameter: repeated ids, or a negative number of rollouts.
        """
        ids = np.asarray(prompt_ids, dtype=np.int64)
        n = np.broadcast_to(np.asarray(n_rollouts, dtype=np.int64), ids.shape)
        start = np.broadcast_to(np.asarray(first, dtype=np.int64), ids.shape)
        if np.unique(ids).size != ids.size or (n < 0).any() or (start < 0).any():
            raise InvalidParameter("`answer` of `SimulatedLearner` needs distinct prompt ids and counts >= 0")
        ids_R = np.repeat(ids, n)
        ordinals_R = np.arange(ids_R.size) - np.repeat(np.cumsum(n) - n - start, n)
        right = luck(ids_R, ordinals_R, round=round, seed=self.seed) < np.repeat(self.pass_rate(ids), n)
        return Rollouts(ids_R, right.astype(np.float64))

    def add(
        self,
        prompt_ids: ArrayLike,
        skills: Sequence[str] | NDArray[np.str_],
        difficulty: ArrayLike,
        *,
        discrimination: ArrayLike = 1.0,
    ) -> None:
        """Take in new prompts, such as evolved ones, of skills that are there; the abilities stay as they are.

        Args:
            prompt_ids: distinct and new, shape (_N,).
            skills: shape (_N,).
            difficulty: logits, shape (_N,).
            discrimination: > 0, one value or shape (_N,).

        Raises:
            InvalidParameter: an id or a skill is not what it should be, or a value is outside its range; nothing was
                taken in.

        Example:
            >>> learner = SimulatedLearner([1, 2], ["sums", "sums"], [0.0, 1.0])
            >>> learner.add([3], ["sums"], [2.0])
            >>> learner.pass_rate().round(2)
            array([0.5 , 0.27, 0.12])

        """
        ids = np.asarray(prompt_ids, dtype=np.int64)
        unknown = sorted(set(np.asarray(skills).tolist()) - set(self.skills))
        if unknown:
            raise InvalidParameter(f"`add` of `SimulatedLearner` has no skill {', '.join(unknown)}")
        pool = self._pool.extended(ids, skills)
        order = np.argsort(np.concatenate([self._pool.ids, ids]), kind="stable")
        steep = np.broadcast_to(np.asarray(discrimination, dtype=np.float64), ids.shape)
        hard = np.concatenate([self._difficulty, np.asarray(difficulty, dtype=np.float64)])
        b = _one_each("difficulty", hard, order)
        a = _one_each("discrimination", np.concatenate([self._discrimination, steep]), order)
        solve_probability(0.0, b, a)  # refuses what the formula refuses
        self._pool, self._difficulty, self._discrimination = pool, b, a

    def skill_of(self, prompt_ids: ArrayLike) -> Strings:
        """Name of each prompt's skill, shape of ``prompt_ids``.

        Raises:
            UnknownPrompt: an id is not the learner's.
        """
        return self._pool.arm_of(self._pool.rows(prompt_ids))

    def difficulty(self, prompt_ids: ArrayLike) -> Floats:
        """Difficulty b of prompts, logits, shape of ``prompt_ids``.

        Raises:
            UnknownPrompt: an id is not the learner's.
        """
        return self._difficulty[self._pool.rows(prompt_ids)]

    def learn(self, prompt_ids: ArrayLike, rewards: ArrayLike) -> None:
        """Train on one batch; the responses of a prompt are one group.

        Groups in which all rewards are equal teach nothing, nor do groups of one.

        Args:
            prompt_ids: shape (_R,), in any order.
            rewards: shape (_R,), finite.

        Raises:
            UnknownPrompt, InvalidParameter: wrong ids or rewards; nothing was learned.
        """
        ids, group_R, size = np.unique(np.asarray(prompt_ids, dtype=np.int64), return_inverse=True, return_counts=True)
        skills = self._pool.arms[self._pool.rows(ids)]
        total = np.bincount(group_R, np.abs(group_advantages(rewards, group_R)), minlength=ids.size)
        mass_B = np.where(size > 1, total / size, 0.0)
        mass = np.bincount(skills, mass_B, minlength=len(self.skills))
        growth = self.learning_rate * (mass + self.transfer * (mass.sum() - mass))
        self._ability = self._ceiling - (self._ceiling - self._ability) * np.exp(-growth / self.room)

    def state_dict(self) -> State:
        """What changes as it learns: ``ability`` and ``ceiling``, float64, shape (skills,)."""
        return {"skills": list(self.skills), "ability": self._ability.copy(), "ceiling": self._ceiling.copy()}

    def load_state_dict(self, state: State) -> None:
        """Go on from a saved state, bit for bit.

        Raises:
            StateMismatch: the state is of other skills.
        """
        if list(state.get("skills", ())) != list(self.skills):
            raise StateMismatch(f"the state is not one of a learner with the skills {', '.join(self.skills)}")
        self._ability = np.array(state["ability"], dtype=np.float64)
        self._ceiling = np.array(state["ceiling"], dtype=np.float64)


def _unit(bits: NDArray[np.uint64]) -> Floats:
    return np.asarray((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _one_each(name: str, values: ArrayLike, order: Ints) -> Floats:
    column = np.asarray(values, dtype=np.float64)
    if column.shape != order.shape:
        raise InvalidParameter(
            f"`{name}` of `SimulatedLearner` must have one entry a prompt, {order.size} in all; got {column.shape}"
        )
    return column[order]


def _number(
    name: str, value: float, *, low: float = -math.inf, above: float = -math.inf, high: float = math.inf
) -> float:
    if isinstance(value, bool) or not (low <= value <= high and above < value < math.inf):
        left = f"({above:g}" if above > -math.inf else f"[{low:g}"
        allowed = f"{left}, {'inf)' if high == math.inf else f'{high:g}]'}"
        raise InvalidParameter(f"`{name}` of `SimulatedLearner` must be a float in {allowed}; got {value!r}")
    return float(value)
