"""What a row says of one response or of a group of them: rewards, verdicts, lengths."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from curri.errors import InvalidData
from curri.exchange.jsonl import described, dumped

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

T = TypeVar("T")

INT32 = (1 << 31) - 1
INT64 = (1 << 63) - 1

SYNONYMS = {
    "reward": "rewards",
    "advantage": "advantages",
    "response": "responses",
    "rollout_id": "rollout_ids",
}
"""Either form may be used, for one response and for a group."""


@dataclass(frozen=True, slots=True)
class Group:
    """Responses to one prompt: a row with ``reward``, or one with the list ``rewards``; all lists have one length.

    Attributes:
        rewards: finite numbers, at least one.
        solved: in [0, 1], None where unknown.
        advantages: finite, None where unknown.
        tokens: counts, None where unknown.
        truncated: None where unknown.
        policy_version: None where unknown.
        rollout_ids: texts or integers, None where missing.
        responses: texts, None where missing.
        kind: "train" or "probe".
        says_solved: whether the row has anything to say of ``solved``.
        rest: the columns of the row that are none of these.
    """

    rewards: list[float]
    solved: list[float | None]
    advantages: list[float | None]
    tokens: list[int | None]
    truncated: list[bool | None]
    policy_version: list[int | None]
    rollout_ids: list[str | int | None]
    responses: list[str | None]
    kind: str
    says_solved: bool
    rest: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rewards)


def read_group(value: Mapping[str, Any], *, aside: Collection[str] = ()) -> Group:
    """The responses that a row holds.

    Args:
        value: the row.
        aside: columns that mean something else and do not belong into ``rest``.

    Raises:
        InvalidData: says what is wrong with the row.
    """
    rewards, listed = _rewards(value)
    column = _Columns(value, len(rewards), listed=listed)
    kind = value.get("kind", "train")
    if kind not in ("train", "probe"):
        raise InvalidData(f'"kind" must be "train" or "probe"; got {described(kind)}')
    return Group(
        rewards=rewards,
        solved=column.read("solved", lambda name, entry: number(name, entry, low=0.0, high=1.0)),
        advantages=column.read("advantage", number),
        tokens=column.read("tokens", lambda name, entry: integer(name, entry, low=0, high=INT32)),
        truncated=column.read("truncated", _flag),
        policy_version=column.read("policy_version", lambda name, entry: integer(name, entry, low=-1, high=INT64)),
        rollout_ids=column.read("rollout_id", _rollout_id),
        responses=column.read("response", _response),
        kind=kind,
        says_solved="solved" in value,
        rest={name: entry for name, entry in value.items() if name not in _KNOWN and name not in aside},
    )


def joined(groups: Sequence[Group], name: str) -> list[Any]:
    """A column of several groups, one entry a response."""
    return [value for group in groups for value in getattr(group, name)]


_PER_RESPONSE = ("reward", "solved", "advantage", "tokens", "truncated", "policy_version", "rollout_id", "response")
_KNOWN = frozenset({*_PER_RESPONSE, *SYNONYMS.values(), "kind"})


def _rewards(value: Mapping[str, Any]) -> tuple[list[float], bool]:
    if "reward" in value and "rewards" in value:
        raise InvalidData('"reward" and "rewards" cannot both be given')
    if "reward" in value:
        return [number("reward", value["reward"])], False
    if "rewards" not in value:
        raise InvalidData('no column "reward" (a number) or "rewards" (a list of numbers)')
    listed = value["rewards"]
    if not isinstance(listed, list) or not listed:
        raise InvalidData(f'"rewards" must be a list of numbers, at least one; got {described(listed)}')
    return [number("rewards", entry) for entry in listed], True


class _Columns:
    """Reads a column of a row as one value a response."""

    def __init__(self, value: Mapping[str, Any], size: int, *, listed: bool) -> None:
        self._value = value
        self._size = size
        self._listed = listed

    def read(self, name: str, convert: Callable[[str, Any], T]) -> list[T | None]:
        name = self._spelling(name)
        entry = self._value.get(name)
        if not self._listed:
            return [None if entry is None else convert(name, entry)]
        if entry is None:
            return [None] * self._size
        if not isinstance(entry, list):
            if name in ("policy_version", "truncated"):
                return [convert(name, entry)] * self._size
            raise InvalidData(f'"{name}" must be a list like "rewards"; got {described(entry)}')
        if len(entry) != self._size:
            raise InvalidData(f'"{name}" must be as long as "rewards", {self._size}; got {len(entry)}')
        return [None if item is None else convert(name, item) for item in entry]

    def _spelling(self, name: str) -> str:
        other = SYNONYMS.get(name, name)
        if name in self._value and other in self._value and other != name:
            raise InvalidData(f'"{name}" and "{other}" cannot both be given')
        return name if name in self._value else other


def number(name: str, entry: Any, *, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in [low, high]; true is 1 and false 0.

    Raises:
        InvalidData: it is not.
    """
    if isinstance(entry, (int, float)):
        try:
            value = float(entry)
        except OverflowError:
            value = math.inf
        if math.isfinite(value) and low <= value <= high:
            return value
    allowed = "a finite number" if math.isinf(low) else f"a number in [{low:g}, {high:g}]"
    raise InvalidData(f'"{name}" must be {allowed}; got {described(entry)}')


def integer(name: str, entry: Any, *, low: int, high: int) -> int:
    """An integer in [low, high]; 3.0 is one.

    Raises:
        InvalidData: it is not.
    """
    if isinstance(entry, float) and entry.is_integer():
        entry = int(entry)
    if isinstance(entry, int) and not isinstance(entry, bool) and low <= entry <= high:
        return entry
    raise InvalidData(f'"{name}" must be an integer in [{low}, {high}]; got {described(entry)}')


def _flag(name: str, entry: Any) -> bool:
    if entry in (0, 1) and isinstance(entry, (bool, int)):
        return bool(entry)
    raise InvalidData(f'"{name}" must be true or false; got {described(entry)}')


def _rollout_id(name: str, entry: Any) -> str | int:
    if isinstance(entry, str) or (isinstance(entry, int) and not isinstance(entry, bool) and abs(entry) <= INT64):
        return entry
    raise InvalidData(f'"{name}" must be a text or an integer; got {described(entry)}')


def _response(name: str, entry: Any) -> str:
    return entry if isinstance(entry, str) else dumped(entry, name)
