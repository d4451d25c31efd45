"""The data that travels between a prompt pool, a strategy and a trainer, as frozen dataclasses over arrays.

Suffixes in docstrings and locals: ``_P`` prompts of the pool, ``_B`` prompts of a batch, ``_R`` responses (long
format), ``_A`` arms, ``_G`` rollouts of a group.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curri.errors import InvalidParameter, InvalidRollouts, StoreError, shown_some

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Strings: TypeAlias = NDArray[np.str_]

Kind: TypeAlias = Literal["train", "probe"]
"""What rollouts are for: "train", or "probe" (to score prompts; never trained on)."""

LARGEST = 1e150
"""The largest reward or advantage in size: its square, and sums of many, are still floats."""
LARGEST_COUNT = 2**31 - 1
_ROUNDING = 1e-6
"""A full score may be above 1 by so much: weights of several rewards add up to 1.0000001 in single precision."""

COLUMNS = (
    "prompt_ids", "rewards", "solved", "advantages", "tokens", "truncated", "policy_version", "rollout_ids"
)  # fmt: skip
"""The arrays of :class:`Rollouts`."""


class Ticket(NamedTuple):
    """Which pick a selection is: run name ("" outside a scheduler), round (from 0) and part of the round."""

    run: str
    round: int
    part: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text of one prompt.

    Attributes:
        prompt_id: its id in the store.
        prompt: a text, or chat messages as a list of {"role": …, "content": …}.
        answer: the reference answer as text, or None.
        arm: the distribution it belongs to.
        metadata: every other column of the file it came from.
        external_id: the user's own id, or None.
    """

    prompt_id: int
    prompt: str | list[dict[str, Any]]
    answer: str | None
    arm: str
    metadata: Mapping[str, Any]
    external_id: str | None = None


@dataclass(frozen=True, eq=False)
class Selection:
    """The prompts to generate rollouts for.

    Attributes:
        prompt_ids: shape (_B,), distinct.
        arms: name of each prompt's arm, shape (_B,).
        n_rollouts: how many rollouts each prompt should get, shape (_B,), ≥ 1.
        probability: inclusion probability of each prompt given the state before the draw, shape (_B,), in (0, 1];
            NaN where it has no closed form or the pick is deterministic.
        kind: "train" or "probe".
        ticket: which pick this is.
        reissued: whether it was issued before and comes again after a reopening.
    """

    prompt_ids: Ints
    arms: Strings
    n_rollouts: Ints
    probability: Floats
    kind: Kind
    ticket: Ticket
    reissued: bool = False
    fetch: Callable[[Ints], list[Prompt]] | None = field(default=None, repr=False)

    @property
    def prompts(self) -> list[Prompt]:
        """The texts, in the order of ``prompt_ids``; read when asked for.

        Raises:
            StoreError: the selection came from a strategy without a store.
        """
        if self.fetch is None:
            raise StoreError(
                "this selection has ids but no texts, because its strategy works without a store",
                hint="ask through `curri.Scheduler`, or look the ids up in your own dataset",
            )
        return self.fetch(self.prompt_ids)

    def __len__(self) -> int:
        return int(self.prompt_ids.size)

    def take(self, mask: Bools) -> Selection:
        """The prompts where ``mask``, of shape (_B,), is true."""
        return dataclasses.replace(
            self,
            prompt_ids=self.prompt_ids[mask],
            arms=self.arms[mask],
            n_rollouts=self.n_rollouts[mask],
            probability=self.probability[mask],
        )


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Outcomes of responses in long format: one entry a response, so ragged, partial and late groups are normal.

    Args (all of length _R where given; array-likes are converted and copied):
        prompt_ids: id of the prompt each response answers.
        rewards: any finite number (at most 1e150 in size, so that squares and sums stay finite too).
        solved: 1 right, 0 wrong, NaN unknown, apart from a shaped reward; fractions are allowed. Defaults to the
            reward when all rewards lie in [0, 1] (to within 1e-6), else to NaN.
        advantages: the trainer's advantages; NaN where it has none.
        tokens: generated tokens, ≥ 0.
        responses: texts, or token id sequences; None where there is none.
        truncated: whether the response was cut off at the length limit (which is not the same as wrong).
        policy_version: training step or weight version the response was generated with; -1 unknown.
        rollout_ids: names that are unique within a prompt (str or int); a repeated one counts once.
        kind: "train" or "probe".
        extras: further columns.

    Raises:
        InvalidRollouts: lengths differ, a reward or an advantage is not finite (its prompt ids are named), or a
            column has the wrong type.

    >>> Rollouts(prompt_ids=[3, 3], rewards=[1, 0]).solved
    array([1., 0.])
    """

    prompt_ids: Ints
    rewards: Floats
    solved: Floats = None  # type: ignore[assignment]  # filled in from the rewards
    advantages: Floats | None = None
    tokens: Ints | None = None
    responses: Sequence[Any] | None = None
    truncated: Bools | None = None
    policy_version: Ints | None = None
    rollout_ids: NDArray[Any] | None = None
    kind: Kind = "train"
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    if TYPE_CHECKING:  # what may be handed in; the fields above say what is kept

        def __init__(  # noqa: PLR0917  the order of the fields
            self,
            prompt_ids: ArrayLike,
            rewards: ArrayLike,
            solved: ArrayLike | None = None,
            advantages: ArrayLike | None = None,
            tokens: ArrayLike | None = None,
            responses: Sequence[Any] | None = None,
            truncated: ArrayLike | None = None,
            policy_version: ArrayLike | None = None,
            rollout_ids: ArrayLike | None = None,
            kind: Kind = "train",
            extras: Mapping[str, ArrayLike] = {},
        ) -> None: ...

    def __post_init__(self) -> None:
        ids = _integers("prompt_ids", self.prompt_ids)
        rewards = _numbers("rewards", self.rewards)
        self._check_lengths(rewards, ids.size)
        lowest, highest = _extremes(rewards)
        if not -LARGEST <= lowest <= highest <= LARGEST:  # a NaN is neither
            _refuse_where(~(np.abs(rewards) <= LARGEST), ids, "rewards must be finite numbers")
        if self.solved is not None:
            solved = _solved(self.solved, ids)
        elif in_unit_interval(lowest, highest):
            solved = np.clip(rewards, 0.0, 1.0)
        else:
            solved = np.full(rewards.shape, np.nan)
        columns = {"prompt_ids": ids, "rewards": rewards, "solved": solved, **self._further(ids)}
        for column in columns.values():
            column.flags.writeable = False
        responses = None if self.responses is None else [_response(response) for response in self.responses]
        extras = {name: np.array(column) for name, column in self.extras.items()}
        if self.kind not in ("train", "probe"):
            raise InvalidRollouts(f'`kind` must be "train" or "probe"; got {self.kind!r}')
        self.__dict__.update(columns, responses=responses, extras=extras)

    def _further(self, ids: Ints) -> dict[str, NDArray[Any]]:
        """Those of the columns that may be missing, checked."""
        columns: dict[str, NDArray[Any]] = {}
        if self.advantages is not None:
            columns["advantages"] = advantages = _numbers("advantages", self.advantages)
            _refuse_where(np.abs(advantages) > LARGEST, ids, "advantages must be finite, or NaN where unknown")
        if self.tokens is not None:
            columns["tokens"] = tokens = _integers("tokens", self.tokens)
            outside = (tokens < 0) | (tokens > LARGEST_COUNT)
            _refuse_where(outside, ids, f"tokens must be counts, from 0 to {LARGEST_COUNT}")
        if self.truncated is not None:
            columns["truncated"] = _flags("truncated", self.truncated)
        if self.policy_version is not None:
            columns["policy_version"] = _integers("policy_version", self.policy_version)
        if self.rollout_ids is not None:
            columns["rollout_ids"] = _names("rollout_ids", self.rollout_ids)
        return columns

    def _check_lengths(self, rewards: Floats, size: int) -> None:
        given = {**self.__dict__, "prompt_ids": None, "rewards": rewards, "kind": None, "extras": None, **self.extras}
        for name, column in given.items():
            if column is None:
                continue
            length = _length(column)
            if length != size:
                got = "a single value" if length is None else length
                raise InvalidRollouts(f"`{name}` must have one entry a response, {size} in all; got {got}")

    def __len__(self) -> int:
        return int(self.prompt_ids.size)

    def with_columns(self, **columns: Any) -> Rollouts:
        """A copy with some columns replaced by checked ones; nothing is checked again."""
        copy = object.__new__(Rollouts)
        copy.__dict__.update(self.__dict__, **columns)
        return copy

    def take(self, indices: NDArray[Any]) -> Rollouts:
        """The responses at ``indices`` (positions, or a mask of shape (_R,))."""
        positions = np.flatnonzero(indices) if indices.dtype == np.bool_ else indices
        columns = {name: getattr(self, name) for name in COLUMNS}
        changed = {name: column[positions] for name, column in columns.items() if column is not None}
        if self.responses is not None:
            changed["responses"] = [self.responses[position] for position in positions.tolist()]
        return self.with_columns(**changed, extras={name: column[positions] for name, column in self.extras.items()})


class Admission(NamedTuple):
    """What a strategy says of finished groups.

    Attributes:
        prompt_ids: shape (_B,).
        verdict: "keep", "drop" or "more" for each.
        extra: how many more rollouts a "more" needs, shape (_B,).
        reason: why, in a word or two; "" for "keep".
    """

    prompt_ids: Ints
    verdict: Strings
    extra: Ints
    reason: Strings


@dataclass(frozen=True, slots=True)
class Evolved:
    """A prompt that a :class:`Creator` made out of another one.

    Attributes:
        prompt: a text, or chat messages as a list of {"role": …, "content": …}.
        answer: the reference answer as text, or None.
        operation: what was done to the parent, such as "deepening" or "raise n_people".
        arm: the distribution it belongs to; None for its parent's.
        metadata: kept with the prompt; JSON. What a mapping under "evolution" holds is kept beside curri's own record.
        verified: True where the creator has seen its answer accepted by whatever will score responses, False where it
            knows that the answer cannot be checked, None where it does not know.
    """

    prompt: str | list[dict[str, Any]]
    answer: str | None
    operation: str
    arm: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    verified: bool | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a :class:`Creator` gives in place of a prompt that it cannot or will not make.

    Attributes:
        reason: why, in a few words.
        operation: what it tried, or "".
        code: the reason it is counted under, one of ``curri.evolution.REASONS``.
    """

    reason: str
    operation: str = ""
    code: str = "refused"


class Creator(Protocol):
    """Makes new prompts out of old ones; see ``curri.evolution.evolve``, which filters and stores them.

    It decides nothing about what is kept, and needs no memory: with the same parents and seeds it should make the
    same prompts, so that an interrupted evolution can be repeated.
    """

    @property
    def name(self) -> str:
        """Kept with every prompt it made."""
        ...

    def create(self, parents: Sequence[Prompt], n: int, seeds: Sequence[int]) -> Sequence[Sequence[Evolved | Refusal]]:
        """New prompts for each parent.

        Args:
            parents: any number of stored prompts.
            n: how many new prompts for each.
            seeds: one for each parent, in [0, 2**63); the only source of chance.

        Returns:
            for each parent, in order, n prompts or refusals.
        """
        ...


ScoreStatus: TypeAlias = Literal["ok", "unverifiable", "timeout", "memory", "crashed", "error"]
"""What became of scoring one response; all but "ok" say nothing about whether the response is right.

"unverifiable": the prompt has no reference answer that the verifier can use; "timeout" and "memory": a limit was
exceeded; "crashed": the process that scored it died; "error": the verifier raised, or gave no usable number.
"""


class Score(NamedTuple):
    """What a :class:`Verifier` says of one response.

    Attributes:
        reward: any finite number, perhaps shaped; NaN unless the status is "ok".
        solved: 1.0 right, 0.0 wrong, NaN unknown; kept apart from the reward.
        status: see ``ScoreStatus``.
        detail: why, in a few words that can be shown and stored; "" where there is nothing to say.
    """

    reward: float
    solved: float
    status: ScoreStatus = "ok"
    detail: str = ""


class Verifier(Protocol):
    """Scores one response at a time; see ``curri.rollouts.verifiers`` for those that come with curri.

    ``VerifierPool`` runs it with a time and a memory limit and turns what it raises into a status.
    """

    @property
    def name(self) -> str:
        """What it is, with its options, such as "numeric:tolerance=0.001"; part of the cache key."""
        ...

    @property
    def version(self) -> str:
        """Changes with its code and the libraries that it uses; part of the cache key."""
        ...

    @property
    def quick(self) -> bool:
        """Whether it takes microseconds whatever the response, so that it needs no process of its own."""
        ...

    def score(self, response: str, prompt: Prompt) -> Score:
        """The score of a response to a prompt."""
        ...


_NAMED = ("n", "temperature", "top_p", "max_tokens", "stop", "seed", "logprobs")
"""Parameters of sampling that have a place of their own."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How responses are drawn. All but ``logprobs`` and ``token_ids`` is part of what a stored response is known by.

    Attributes:
        temperature: ≥ 0; at 0 every response to a prompt is the same.
        top_p: in (0, 1]; 1 keeps all tokens.
        max_tokens: tokens of a response at most; one that reaches them is truncated.
        stop: texts that end a response and are not part of it.
        system: a system message to stand before a prompt that has none of its own, or None.
        seed: of everything random, ≥ 0.
        other: what else the engine understands, by its own names, such as ``{"top_k": 20}``; JSON.
        logprobs: whether the log probability of every token is wanted.
        token_ids: whether the ids of the tokens are wanted.

    Raises:
        InvalidParameter: a value is outside its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()
    system: str | None = None
    seed: int = 0
    other: Mapping[str, Any] = field(default_factory=dict)
    logprobs: bool = False
    token_ids: bool = False

    def __post_init__(self) -> None:
        ranges: tuple[tuple[str, str, bool], ...] = (
            ("temperature", "a number in [0, 100]", 0.0 <= self.temperature <= 100.0),
            ("top_p", "a number in (0, 1]", 0.0 < self.top_p <= 1.0),
            ("max_tokens", f"an integer in [1, {LARGEST_COUNT}]", 1 <= self.max_tokens <= LARGEST_COUNT),
            ("seed", "an integer >= 0", self.seed >= 0),
            ("stop", "texts that are not empty", all(self.stop)),
            ("other", f"parameters besides {', '.join(_NAMED)}", not any(name in _NAMED for name in self.other)),
        )
        for name, allowed, fine in ranges:
            if not fine:
                raise InvalidParameter(f"`{name}` of `Sampling` must be {allowed}; got {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True)
class Request:
    """What an :class:`Engine` is asked for: responses to one prompt.

    Attributes:
        prompt: the prompt.
        n: how many responses, ≥ 1.
        seed: response i of the request is drawn with ``seed + i``, so that it does not matter how many are drawn at a
            time; in [0, 2**31).
        sample: number of the first response among those of its prompt, from 0.
    """

    prompt: Prompt
    n: int
    seed: int
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Generated:
    """One response.

    Attributes:
        text: what was generated, as it came.
        tokens: how many tokens that was, or None where the engine does not tell.
        truncated: whether it was cut off at the length limit, which is not the same as wrong.
        finish: why it ended, in the engine's word: "stop", "length", …
        token_ids: ids of its tokens, or None.
        logprobs: natural logarithm of the probability of each of them when it was drawn, or None.
        weight_version: of the weights it was drawn with, where the engine tells and it may differ from one response to
            the next; else None.
        extras: what else the engine said of it; JSON.
    """

    text: str
    tokens: int | None
    truncated: bool
    finish: str = "stop"
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    weight_version: str | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a :class:`Request`.

    Attributes:
        request: the request.
        responses: the first ``len(responses)`` of those asked for, in order; all of them unless ``failure`` is there.
        failure: why the others are missing, in one line, or "".
    """

    request: Request
    responses: Sequence[Generated]
    failure: str = ""


class Engine(Protocol):
    """Generates responses; see ``curri.rollouts.generate``, which scores and stores them.

    Attributes:
        name: of the engine, such as "vllm".
        model: what stored rollouts call the model.
        weight_version: which weights of the model, or "" where it is not known.
        settings: what besides :class:`Sampling` has an influence on the responses; JSON, no secrets.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  see the class

    @property
    def model(self) -> str: ...  # noqa: D102  see the class

    @property
    def weight_version(self) -> str: ...  # noqa: D102  see the class

    @property
    def settings(self) -> Mapping[str, Any]: ...  # noqa: D102  see the class

    def check(self) -> None:
        """See whether it can work, as far as that costs little; called before the first request.

        Raises:
            EngineError, MissingExtra: it cannot.
        """
        ...

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Answered]:
        """Answer requests.

        They are taken one by one as there is room, and each is answered once, in any order. Closing the iterator gives
        up those under way.

        Raises:
            EngineError: nothing more can be had of it.
        """
        ...

    def close(self) -> None:
        """Let go of models and connections; closing twice is harmless."""
        ...


def whole_numbers(values: ArrayLike) -> Ints | None:
    """A copy of ``values`` as int64, of the same shape; None where one is not a whole number that fits.

    >>> whole_numbers([3.0, 4.0]), whole_numbers([3.5]), whole_numbers([True])
    (array([3, 4]), None, None)
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # ragged, or no array at all
        return None
    kind = array.dtype.kind
    if kind == "i":
        return array.astype(np.int64)
    if array.size == 0:
        return np.zeros(array.shape, dtype=np.int64)
    if kind == "f":
        whole = np.isfinite(array) & (array == np.floor(array)) & (np.abs(array) < 2.0**63)
        return array.astype(np.int64) if whole.all() else None
    return array.astype(np.int64) if kind == "u" and int(array.max()) < 2**63 else None


def prompt_id_array(values: Any, what: str) -> Ints:
    """Prompt ids, given as any array-like or a set, as an array.

    Raises:
        InvalidParameter: they are not whole numbers; ``what`` names them.
    """
    ids = whole_numbers(sorted(values) if isinstance(values, set | frozenset) else values)
    if ids is None:
        raise InvalidParameter(f"{what} must be integers; got {reprlib.repr(values)}")
    return ids


def in_unit_interval(lowest: float, highest: float) -> bool:
    """Whether rewards between these lie in [0, 1] but for the rounding of a weighted sum, and so say what is solved."""
    return -_ROUNDING <= lowest <= highest <= 1.0 + _ROUNDING


def for_each(value: ArrayLike | None, prompt_ids: ArrayLike) -> ArrayLike | None:
    """One value for all responses as a column; a column, or None, as it is."""
    return value if value is None or np.ndim(value) else np.full(np.shape(prompt_ids), value)


def _integers(name: str, values: ArrayLike) -> Ints:
    array = whole_numbers(values)
    if array is None or array.ndim != 1:
        raise InvalidRollouts(f"`{name}` must be a flat sequence of integers; got {_described(values)}")
    return array


def _numbers(name: str, values: ArrayLike) -> Floats:
    given = _array(name, values)
    numeric = given.dtype.kind in "iufb" or not given.size
    if not numeric and (given.dtype.kind != "O" or any(isinstance(value, str | bytes) for value in given.flat)):
        raise InvalidRollouts(f"`{name}` must be numbers; got {_described(values)}")
    try:
        array = np.array(given, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError, OverflowError):
        raise InvalidRollouts(f"`{name}` must be numbers; got {_described(values)}") from None
    if array.ndim != 1:
        raise InvalidRollouts(f"`{name}` must be a flat sequence, one entry a response; got {_described(array)}")
    array += 0.0  # one zero and one NaN, so that equal numbers are equal bit for bit
    is_nan = np.isnan(array)
    if np.count_nonzero(is_nan):
        array[is_nan] = np.nan
    return array


def _array(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (TypeError, ValueError):  # ragged, or no array at all
        raise InvalidRollouts(f"`{name}` must have one entry a response; got {_described(values)}") from None


def _flags(name: str, values: ArrayLike) -> Bools:
    array = _array(name, values)
    if array.ndim != 1 or (array.size and (array.dtype.kind not in "biu" or np.any((array != 0) & (array != 1)))):
        raise InvalidRollouts(f"`{name}` must be a flat sequence of booleans; got {_described(array)}")
    return array.astype(np.bool_)


def _names(name: str, values: ArrayLike) -> NDArray[Any]:
    array = _array(name, values)
    if array.dtype.kind == "O" and array.ndim == 1 and not any(isinstance(v, float | None) for v in array.flat):
        array = np.asarray([str(value) for value in array.flat])
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iuU"):
        raise InvalidRollouts(f"`{name}` must be strings or integers, one a response; got {_described(array)}")
    if array.dtype.kind != "U":
        return _integers(name, array)
    try:
        "".join(array.tolist()).encode()
    except UnicodeEncodeError as error:
        raise InvalidRollouts(f"`{name}` must be valid Unicode; got {error.object[error.start]!r} in one") from None
    return array.astype(np.str_)


def _response(response: Any) -> Any:
    """A text or None as it is; token ids as a list of ints, which is JSON."""
    if hasattr(response, "tolist"):
        return response.tolist()
    return list(response) if isinstance(response, tuple) else response


def _extremes(values: Floats) -> tuple[float, float]:
    """The lowest and the highest; NaN where one is NaN, 0 where there are none."""
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _solved(values: ArrayLike, prompt_ids: Ints) -> Floats:
    solved = _numbers("solved", values)
    outside = ~np.isnan(solved) & ~((solved >= 0) & (solved <= 1))
    _refuse_where(outside, prompt_ids, "`solved` must lie in [0, 1], or be NaN where unknown")
    return solved


def _refuse_where(bad: Bools, prompt_ids: Ints, rule: str) -> None:
    if np.count_nonzero(bad):
        ids = np.unique(prompt_ids[bad])
        raise InvalidRollouts(
            f"{rule}; {int(bad.sum())} of {bad.size} responses break this, of prompts {shown_some(ids)}",
            hint="nothing was recorded: mend or drop those responses and tell the rest again",
        )


def _length(column: Any) -> int | None:
    """Entries of an array-like; None for what is not one."""
    if isinstance(column, np.ndarray):
        return len(column) if column.ndim else None
    if isinstance(column, str | bytes | Mapping) or getattr(column, "ndim", 1) == 0:
        return None
    try:
        return len(column)
    except TypeError:
        return None


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    return f"{type(value).__name__} {reprlib.repr(value)}"
