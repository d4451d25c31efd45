"""Rounds of responses until a group of fixed size has something to teach (Reinforce-Ada, arXiv 2510.04996)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from curri.errors import InvalidParameter, InvalidRollouts, UnknownPrompt

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import ArrayLike, NDArray

    from curri.types import Bools, Floats, Ints

__all__ = ["EliminationCost", "EliminationGroup", "EliminationRule", "SuccessiveElimination", "elimination_cost"]

_SHOWN = 8


@dataclass(frozen=True, eq=False)
class EliminationGroup:
    """What is trained on of one prompt, and what it was taken from.

    Attributes:
        positions: places of the kept responses among all that were drawn, in generation order from 0: positives first,
            then negatives. Shape (k,), k at most the group size.
        rewards: of the kept ones, shape (k,).
        pool_rewards: of all drawn, in generation order.
        n_positive: drawn responses whose outcome is above the threshold.
        n_negative: the other drawn ones.
        rounds: how many rounds it took; 0 where that is not known.
        resolved: whether the exit rule holds.
    """

    positions: Ints
    rewards: Floats
    pool_rewards: Floats
    n_positive: int
    n_negative: int
    rounds: int
    resolved: bool

    @property
    def drawn(self) -> int:
        """All responses that were drawn."""
        return self.n_positive + self.n_negative

    @property
    def pass_rate(self) -> float:
        """Share of positives among all drawn; 0.0 when there are none."""
        return self.n_positive / self.drawn if self.drawn else 0.0

    @property
    def mixed(self) -> bool:
        """Whether both sides were drawn, so that the group can teach something."""
        return self.n_positive > 0 and self.n_negative > 0


@dataclass(frozen=True, kw_only=True)
class EliminationRule:
    """When a prompt has enough responses, and which of them are kept.

    With P positives and Q negatives drawn, a prompt leaves

    * ``exit="balanced"``: when P ≥ floor(n/2) and Q ≥ n - floor(n/2);
    * ``exit="positive"``: when P ≥ K (``positives_needed``; the authors' code has 1, the text of v3 has n).

    Then, or when its rounds are over, n responses are kept:

    * ``downsample="half"``: a = min(floor(n/2), P) positives and b = min(n - a, Q) negatives, more positives where
      that is less than n. The group is mixed whenever the pool is (n ≥ 2).
    * ``downsample="positives"`` (the Tinker port): a = min(n, P) and b = min(n - max(a, 1), Q); so a pool of many
      positives gives a group without a negative, and one without positives a group of n - 1.

    ``keep="first"`` (the code) takes the earliest of each side, "random" (the paper's text) any.

    What becomes of a prompt whose rounds are over says ``unresolved``: "keep" (the code) trains on it all the same,
    "filter" (v1's text) leaves prompts out whose responses fall all on one side, "drop" leaves every prompt out for
    which the exit rule does not hold.

    Args:
        group_size: n, at least 1.
        exit: "balanced" or "positive".
        threshold: an outcome strictly above it is positive.
        positives_needed: K of ``exit="positive"``, at least 1.
        downsample: "half" or "positives".
        keep: "first" or "random".
        unresolved: "keep", "filter" or "drop".

    Raises:
        InvalidParameter: an argument is out of range.

    >>> rule = EliminationRule(group_size=4)
    >>> rule.reached([2, 1, 30], [6, 31, 2])
    array([ True, False,  True])
    >>> rule.kept_counts([2, 1, 30], [6, 31, 2])
    (array([2, 1, 2]), array([2, 3, 2]))
    """

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "exit": ("balanced", "positive"),
        "downsample": ("half", "positives"),
        "keep": ("first", "random"),
        "unresolved": ("keep", "filter", "drop"),
    }

    group_size: int = 4
    exit: str = "balanced"
    threshold: float = 0.7
    positives_needed: int = 1
    downsample: str = "half"
    keep: str = "first"
    unresolved: str = "keep"

    def __post_init__(self) -> None:
        for name in ("group_size", "positives_needed"):
            _check_count(name, getattr(self, name))
        if isinstance(self.threshold, bool) or not np.isfinite(self.threshold):
            raise InvalidParameter(
                f"`threshold` of `SuccessiveElimination` must be a finite float; got {self.threshold!r}"
            )
        for name, allowed in self.CHOICES.items():
            if getattr(self, name) not in allowed:
                words = ", ".join(f'"{word}"' for word in allowed)
                raise InvalidParameter(
                    f"`{name}` of `SuccessiveElimination` must be one of {words}; got {getattr(self, name)!r}"
                )

    def reached(self, n_positive: ArrayLike, n_negative: ArrayLike) -> Bools:
        """Whether the exit rule holds, shape of the counts."""
        positive, negative = np.asarray(n_positive), np.asarray(n_negative)
        if self.exit == "positive":
            return np.asarray(positive >= self.positives_needed)
        half = self.group_size // 2
        return np.asarray((positive >= half) & (negative >= self.group_size - half))

    def kept_counts(self, n_positive: ArrayLike, n_negative: ArrayLike) -> tuple[Ints, Ints]:
        """How many positives and negatives are kept, each of the shape of the counts."""
        positive, negative = np.asarray(n_positive, dtype=np.int64), np.asarray(n_negative, dtype=np.int64)
        size = self.group_size
        if self.downsample == "positives":
            first = np.minimum(positive, size)
            return first, np.minimum(negative, size - np.maximum(first, 1))
        first = np.minimum(positive, size // 2)
        second = np.minimum(negative, size - first)
        return np.minimum(positive, size - second), second

    def left_out(self, n_positive: ArrayLike, n_negative: ArrayLike) -> Bools:
        """Which prompts are not trained on once no more is drawn for them, shape of the counts."""
        positive, negative = np.asarray(n_positive), np.asarray(n_negative)
        if self.unresolved == "filter":
            return np.asarray((positive == 0) | (negative == 0))
        if self.unresolved == "drop":
            return ~self.reached(positive, negative)
        return np.zeros(positive.shape, dtype=np.bool_)

    def group(
        self,
        rewards: ArrayLike,
        *,
        outcomes: ArrayLike | None = None,
        rng: np.random.Generator | None = None,
        rounds: int = 0,
    ) -> EliminationGroup:
        """The group of one prompt, from all responses drawn for it.

        Args:
            rewards: in generation order, shape (d,).
            outcomes: what is compared with the threshold, shape (d,); the rewards if None.
            rng: chooses where ``keep="random"``; not used otherwise.
            rounds: to be noted in the group.

        Raises:
            InvalidParameter: a generator is missing, or the shapes differ.

        >>> group = EliminationRule(group_size=4).group([0, 1, 0, 0, 0, 1, 1, 0])
        >>> group.positions, group.rewards, group.n_positive, group.resolved
        (array([1, 5, 0, 2]), array([1., 1., 0., 0.]), 3, True)
        """
        drawn = np.array(rewards, dtype=np.float64)
        judged = drawn if outcomes is None else np.asarray(outcomes, dtype=np.float64)
        if drawn.ndim != 1 or judged.shape != drawn.shape:
            raise InvalidParameter(
                f"`rewards` and `outcomes` must have one shape (d,); got {drawn.shape}, {judged.shape}"
            )
        sides = judged > self.threshold
        counts = int(sides.sum()), int((~sides).sum())
        kept = self.kept_counts(*counts)
        positions = np.concatenate(
            [self._chosen(np.flatnonzero(side), int(k), rng) for side, k in zip((sides, ~sides), kept, strict=True)]
        )
        return EliminationGroup(positions, drawn[positions], drawn, *counts, rounds, bool(self.reached(*counts)))

    def _chosen(self, side: NDArray[np.intp], k: int, rng: np.random.Generator | None) -> Ints:
        if self.keep == "random":
            if rng is None:
                raise InvalidParameter('`keep="random"` of `SuccessiveElimination` needs a generator: `rng`')
            side = np.sort(rng.permutation(side)[:k])
        return side[:k].astype(np.int64)


class SuccessiveElimination:
    """Draws responses in rounds; a prompt leaves when the exit rule holds, and the last one after ``max_rounds``.

    Each round M (``round_size``) responses are drawn for every prompt that is still active. The rule is tried when all
    of them are told, so a prompt gets M, 2M, … or N·M responses. See :class:`EliminationRule` for the exit rules, for
    which n of them are kept, and for where paper, code and the Tinker port differ.

    Prompts go their own pace: ``ask`` hands out the next round of those whose last one is complete.

    Args:
        prompt_ids: distinct integers or names, shape (_B,).
        group_size: n, responses that are trained on, at least 1.
        round_size: M, responses of a round, at least 1. The paper wants M ≥ n; groups are short only if N·M < n.
        max_rounds: N, at least 1.
        exit: "balanced" or "positive".
        threshold: a reward strictly above it is positive.
        rng: for ``keep="random"``.
        options: ``positives_needed``, ``downsample``, ``keep`` and ``unresolved`` of :class:`EliminationRule`.

    Raises:
        InvalidParameter: an argument is out of range.

    >>> rounds = SuccessiveElimination([7, 9], group_size=2, round_size=2)
    >>> rounds.ask()
    (array([7, 9]), array([2, 2]))
    >>> rounds.tell([7, 7, 9, 9], [0, 1, 0, 0])
    >>> rounds.ask()
    (array([9]), array([2]))
    >>> rounds.tell([9, 9], [0, 1])
    >>> rounds.ask()[0].size, {i: group.rewards.tolist() for i, group in rounds.groups().items()}
    (0, {7: [1.0, 0.0], 9: [1.0, 0.0]})
    >>> rounds.groups()[9].n_positive, rounds.groups()[9].drawn
    (1, 4)
    """

    def __init__(  # noqa: PLR0917  the design fixes the signature
        self,
        prompt_ids: ArrayLike,
        group_size: int = 4,
        round_size: int = 8,
        max_rounds: int = 4,
        exit: str = "balanced",  # noqa: A002  the design fixes the signature
        threshold: float = 0.7,
        *,
        rng: np.random.Generator | None = None,
        **options: Any,
    ) -> None:
        self.rule = EliminationRule(group_size=group_size, exit=exit, threshold=threshold, **options)
        for name, value in (("round_size", round_size), ("max_rounds", max_rounds)):
            _check_count(name, value)
        if self.rule.keep == "random" and rng is None:
            raise InvalidParameter('`keep="random"` of `SuccessiveElimination` needs a generator: `rng`')
        self.round_size, self.max_rounds = int(round_size), int(max_rounds)
        self._rng = rng
        self._ids = _names(prompt_ids)
        self._place: dict[Hashable, int] = {name: place for place, name in enumerate(self._ids.tolist())}
        if len(self._place) < self._ids.size:
            raise InvalidParameter("`prompt_ids` of `SuccessiveElimination` must be distinct")
        size = self._ids.size
        self._drawn: list[list[float]] = [[] for _ in range(size)]
        self._positive = np.zeros(size, dtype=np.int64)
        self._owed = np.zeros(size, dtype=np.int64)
        self._rounds = np.zeros(size, dtype=np.int64)
        self._left = np.zeros(size, dtype=np.bool_)
        self._groups: dict[int, EliminationGroup] = {}

    @property
    def done(self) -> bool:
        """Whether every prompt has left; until then ``ask`` may be empty because responses are awaited."""
        return bool(self._left.all())

    def ask(self) -> tuple[NDArray[Any], Ints]:
        """Prompts to draw for now and how many responses of each, shape (k,); empty when there are none.

        What was handed out is not handed out again.
        """
        ready = ~self._left & (self._owed == 0)
        self._owed[ready] = self.round_size
        self._rounds[ready] += 1
        return self._ids[ready], np.full(int(ready.sum()), self.round_size, dtype=np.int64)

    def tell(self, ids: ArrayLike, rewards: ArrayLike) -> None:
        """Hand in responses, in generation order within a prompt; a round may come in parts.

        Args:
            ids: prompt of each response, shape (_R,).
            rewards: finite, shape (_R,).

        Raises:
            UnknownPrompt: an id is not among the prompts.
            InvalidRollouts: a reward is not finite, or more responses came than were asked for. Nothing is changed.
        """
        names, values = np.asarray(ids).ravel().tolist(), np.asarray(rewards, dtype=np.float64)
        places = self._places(names)
        if values.shape != places.shape or not np.isfinite(values).all():
            raise InvalidRollouts(f"`rewards` must be finite, one a response, {places.size} in all")
        told = np.bincount(places, minlength=self._ids.size)
        if np.any(told > self._owed):
            many = self._ids[told > self._owed][:_SHOWN].tolist()
            raise InvalidRollouts(f"more responses than were asked for, of prompts {many}")
        for place, value in zip(places.tolist(), values.tolist(), strict=True):
            self._drawn[place].append(value)
        self._positive += np.bincount(places, values > self.rule.threshold, self._ids.size).astype(np.int64)
        self._owed -= told
        complete = (told > 0) & (self._owed == 0)
        over = self._reached() | (self._rounds >= self.max_rounds)
        self._left |= complete & over

    def groups(self) -> dict[Any, EliminationGroup]:
        """Prompt id → its group, for every prompt with a response, in the order of ``prompt_ids``.

        A prompt that has not left gets the group its responses would give now. Those that ``unresolved`` leaves out are
        not in it.
        """
        found = {}
        for name, place in self._place.items():
            if not self._drawn[place]:
                continue
            group = self._groups.get(place) or self._made(place)
            if not self.rule.left_out(group.n_positive, group.n_negative):
                found[name] = group
        return found

    def _made(self, place: int) -> EliminationGroup:
        group = self.rule.group(self._drawn[place], rng=self._rng, rounds=int(self._rounds[place]))
        if self._left[place]:
            self._groups[place] = group
        return group

    def _reached(self) -> Bools:
        drawn = np.array([len(rewards) for rewards in self._drawn], dtype=np.int64)
        return self.rule.reached(self._positive, drawn - self._positive)

    def _places(self, names: list[Any]) -> NDArray[np.intp]:
        missing = [name for name in names if name not in self._place]
        if missing:
            raise UnknownPrompt(f"{len(missing)} responses are of prompts that are not here, such as {missing[0]!r}")
        return np.array([self._place[name] for name in names], dtype=np.intp)


class EliminationCost(NamedTuple):
    """What successive elimination comes to for a prompt of a given pass rate, all of the shape of the rates.

    Attributes:
        draws: expected number of responses.
        no_signal: probability that all of them fall on one side.
        pass_rate: expected share of positives among them. It is biased: the drawing stops where it is pleased.
    """

    draws: Floats
    no_signal: Floats
    pass_rate: Floats


def elimination_cost(
    pass_rate: ArrayLike,
    *,
    round_size: int = 8,
    max_rounds: int = 4,
    rule: EliminationRule | None = None,
) -> EliminationCost:
    """Expected cost and yield of a prompt, exactly, by following the number of positives from round to round.

    Args:
        pass_rate: p, in [0, 1], any shape.
        round_size: M, at least 1.
        max_rounds: N, at least 1.
        rule: when a prompt leaves; balanced groups of 4 if None.

    Raises:
        InvalidParameter: an argument is out of range.

    >>> cost = elimination_cost([0.125, 0.5, 0.99])
    >>> cost.draws.round(1), cost.no_signal.round(3)
    (array([18.4,  8.6, 31.7]), array([0.014, 0.   , 0.725]))
    """
    for name, value in (("round_size", round_size), ("max_rounds", max_rounds)):
        _check_count(name, value)
    rates = np.asarray(pass_rate, dtype=np.float64)
    if not np.all((rates >= 0.0) & (rates <= 1.0)):
        raise InvalidParameter(f"`pass_rate` of `elimination_cost` must lie in [0, 1]; got {pass_rate!r}")
    rule = EliminationRule() if rule is None else rule
    one_round = _binomial(rates.ravel(), round_size)
    active = np.ones((rates.size, 1))
    draws, no_signal, share = np.zeros((3, rates.size))
    for drawn in range(round_size, round_size * max_rounds + 1, round_size):
        active = _convolved(active, one_round)
        positives = np.arange(drawn + 1)
        leaves = rule.reached(positives, drawn - positives) | (drawn == round_size * max_rounds)
        gone = active * leaves
        draws += drawn * gone.sum(axis=1)
        no_signal += gone[:, 0] + gone[:, drawn]
        share += gone @ (positives / drawn)
        active -= gone
    return EliminationCost(*(values.reshape(rates.shape) for values in (draws, no_signal, share)))


def _binomial(rates: Floats, n: int) -> Floats:
    """P(k of n), shape (rates, n + 1), without factorials."""
    found = np.ones((rates.size, 1))
    step = np.stack([1.0 - rates, rates], axis=1)
    for _ in range(n):
        found = _convolved(found, step)
    return found


def _convolved(left: Floats, right: Floats) -> Floats:
    """The distribution of a sum, row by row."""
    total = np.zeros((left.shape[0], left.shape[1] + right.shape[1] - 1))
    for k in range(right.shape[1]):
        total[:, k : k + left.shape[1]] += left * right[:, k : k + 1]
    return total


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InvalidParameter(f"`{name}` of `SuccessiveElimination` must be an int in [1, inf); got {value!r}")


def _names(prompt_ids: ArrayLike) -> NDArray[Any]:
    names = np.array(prompt_ids)
    if not names.size:
        return np.empty(0, dtype=np.int64)
    if names.ndim != 1 or names.dtype.kind not in "iuU":
        raise InvalidParameter(
            f"`prompt_ids` of `SuccessiveElimination` must be integers or names, shape (prompts,); got {names.dtype}"
        )
    return names
