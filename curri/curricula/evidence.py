"""What a strategy learns from in one round: told responses, merged, freed of repeats and put in one order."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.selectors.hashing import stable_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from curri.types import Bools, Floats, Ints, Rollouts

SAME_REWARD = 1e-9
"""Rewards of a group that differ by less are equal: they came out of the same sum in another order."""

REMEMBERED_ROLLOUTS = 262_144
"""Named rollouts a strategy without a store remembers, to count a repeated one once. A scheduler knows them all."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Responses of one round in long format, sorted by (prompt id, rollout id); all arrays have shape (_R,).

    Attributes:
        rows: row of each response's prompt in the pool.
        prompt_ids: its id.
        rewards: finite.
        solved: in [0, 1], NaN where unknown.
        advantages: NaN where the trainer gave none.
        tokens: -1 where unknown.
        truncated: False where unknown.
        policy_version: -1 where unknown.
        probe: True for probe rollouts.
        responses: what was told, or None for each; only for strategies tagged "responses".
    """

    rows: Ints
    prompt_ids: Ints
    rewards: Floats
    solved: Floats
    advantages: Floats
    tokens: Ints
    truncated: Bools
    policy_version: Ints
    probe: Bools
    responses: Sequence[Any]

    def __len__(self) -> int:
        return int(self.rows.size)

    def groups(self, *, probe: bool | None = False) -> Groups:
        """The responses of each prompt taken together.

        Args:
            probe: False for training rollouts, True for probes, None for both.
        """
        wanted = slice(None) if probe is None else self.probe == probe
        rows_R, rewards, solved = self.rows[wanted], self.rewards[wanted], self.solved[wanted]
        is_first = np.ones(rows_R.size, dtype=np.bool_)
        np.not_equal(rows_R[1:], rows_R[:-1], out=is_first[1:])  # sorted by id, and so by row
        starts, group_R = is_first.nonzero()[0], is_first.cumsum() - 1
        rows, size = rows_R[starts], np.bincount(group_R)
        low, high = np.minimum.reduceat(rewards, starts), np.maximum.reduceat(rewards, starts)
        known = ~np.isnan(solved)
        total = np.bincount(group_R, rewards - low[group_R], rows.size)  # from the lowest: equal rewards stay equal
        return Groups(
            rows=rows,
            size=size,
            reward_mean=low + total / np.maximum(size, 1),
            reward_min=low,
            reward_max=high,
            live=high - low > SAME_REWARD * np.maximum(1.0, np.maximum(np.abs(low), np.abs(high))),
            successes=np.bincount(group_R, np.where(known, solved, 0.0), rows.size).astype(np.float64),
            known=np.bincount(group_R, known, rows.size).astype(np.int64),
        )


@dataclass(frozen=True, eq=False)
class Groups:
    """What the responses of each prompt in one round came to; all arrays have shape (groups,).

    Attributes:
        rows: row of the prompt in the pool, distinct, ascending.
        size: responses.
        reward_mean: mean reward.
        reward_min: lowest reward.
        reward_max: highest reward.
        live: whether the rewards differ, by more than rounding (1e-9, relative for rewards beyond 1).
        successes: sum of ``solved`` where it is known.
        known: responses whose ``solved`` is known.
    """

    rows: Ints
    size: Ints
    reward_mean: Floats
    reward_min: Floats
    reward_max: Floats
    live: Bools
    successes: Floats
    known: Ints

    def __len__(self) -> int:
        return int(self.rows.size)


class SeenRollouts:
    """Fingerprints of the last named rollouts, so that a repeated one counts once.

    Remembers at least ``REMEMBERED_ROLLOUTS`` of them, in chunks of one round or several short ones; the oldest chunk
    is forgotten first. All but the newest chunk hold at least 1/512 of what is remembered, so there are few of them.
    """

    def __init__(self, chunks: Iterable[NDArray[np.uint64]] = ()) -> None:
        self._chunks: deque[NDArray[np.uint64]] = deque()
        self._known: set[int] = set()
        self._first = 0
        for chunk in chunks:
            self.add(chunk)

    def known(self, fingerprints: NDArray[np.uint64]) -> Bools:
        """Which of them were seen before, shape of ``fingerprints``."""
        repeated = self._known.intersection(fingerprints.tolist())
        if not repeated:
            return np.zeros(fingerprints.shape, dtype=np.bool_)
        return np.isin(fingerprints, np.fromiter(repeated, dtype=np.uint64, count=len(repeated)))

    def add(self, fingerprints: NDArray[np.uint64]) -> None:
        """Remember these, which must be new and distinct."""
        if not fingerprints.size:
            return
        self._known.update(fingerprints.tolist())
        if self._chunks and self._chunks[-1].size < REMEMBERED_ROLLOUTS // 512:
            fingerprints = np.concatenate([self._chunks.pop(), fingerprints])
        chunk = fingerprints.copy()
        chunk.flags.writeable = False
        self._chunks.append(chunk)
        while len(self._known) - self._chunks[0].size >= REMEMBERED_ROLLOUTS:
            self._known.difference_update(self._chunks.popleft().tolist())
            self._first += 1

    def state(self) -> dict[str, NDArray[Any] | int]:
        """One entry a chunk, so that a delta holds only the newest one. The arrays are read-only."""
        entries: dict[str, NDArray[Any] | int] = {"seen/first": self._first}
        return entries | {f"seen/{self._first + i:09d}": chunk for i, chunk in enumerate(self._chunks)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> SeenRollouts:
        """The same memory again, from entries of :meth:`state`."""
        first = int(state["seen/first"])
        seen = cls(state[name] for name in sorted(state) if name != "seen/first")
        seen._first = first
        return seen


def fingerprints(prompt_ids: Ints, rollout_ids: NDArray[Any]) -> NDArray[np.uint64]:
    """A 64-bit hash of each (prompt id, rollout id), the same in every process. An integer is hashed as its digits.

    Args:
        prompt_ids: shape (_R,).
        rollout_ids: integers or text, shape (_R,).
    """
    text = np.ascontiguousarray(rollout_ids.astype(np.str_))
    lengths = np.strings.str_len(text)
    letters = text.view(np.uint32).reshape(text.size, text.dtype.itemsize // 4)
    names = np.full(text.size, np.uint64(1))
    for place in range(int(lengths.max(initial=0))):  # to the end of each text: the array's width does not matter
        hashed = stable_hash(names ^ letters[:, place].astype(np.uint64), 1)
        names = np.where(place < lengths, hashed, names)
    return stable_hash(names ^ stable_hash(prompt_ids, 2), 3)


def gather(parts: Sequence[Rollouts], rows_of: Any, seen: SeenRollouts) -> tuple[Evidence, int]:
    """Merge what was told into one :class:`Evidence`; new named rollouts are added to ``seen``.

    The result does not depend on the order of ``parts`` nor on how responses are split among them.

    Args:
        parts: what was told.
        rows_of: turns prompt ids into rows of the pool.
        seen: named rollouts of earlier rounds.

    Returns:
        the evidence and the number of repeated responses left out.
    """
    told = _told(parts)
    prompt_ids = told["prompt_ids"]
    rows = rows_of(prompt_ids)
    responses = _responses(parts)
    digests = [_digests(responses)] if responses is not None else []
    tie_breakers = [told[name] for name in _TIE_BREAKERS if name in told]
    repeated = 0
    if any(part.rollout_ids is not None for part in parts):
        named, names = _named(parts)
        order = np.lexsort((*digests, *tie_breakers, names, ~named, prompt_ids))
        kept = order[_new(prompt_ids[order], names[order], named[order], seen)]
        repeated = order.size - kept.size
    else:
        kept = np.lexsort((*digests, *tie_breakers, prompt_ids))
    columns: dict[str, NDArray[Any]] = {
        name: told[name][kept] if name in told else missing.repeat(kept.size) for name, missing in _MISSING.items()
    }
    in_order = [None] * kept.size if responses is None else [responses[i] for i in kept.tolist()]
    return Evidence(rows=rows[kept], responses=in_order, **columns), repeated


_MISSING: dict[str, np.generic] = {
    "prompt_ids": np.int64(0),
    "rewards": np.float64(np.nan),
    "solved": np.float64(np.nan),
    "advantages": np.float64(np.nan),
    "tokens": np.int64(-1),
    "truncated": np.False_,
    "policy_version": np.int64(-1),
    "probe": np.False_,
}
"""Columns of the evidence, with what stands where nothing was told."""

_TIE_BREAKERS = ("policy_version", "truncated", "tokens", "advantages", "solved", "rewards", "probe")


def _told(parts: Sequence[Rollouts]) -> dict[str, NDArray[Any]]:
    """The columns that any part has, joined; the ids and the rewards always."""
    told = {}
    for name, missing in _MISSING.items():
        pieces = [_column(part, name) for part in parts]
        if len(pieces) == 1 and pieces[0] is not None:
            told[name] = pieces[0]
        elif any(piece is not None for piece in pieces):
            pairs = zip(pieces, parts, strict=True)
            told[name] = np.concatenate([missing.repeat(len(p)) if piece is None else piece for piece, p in pairs])
    return told or {name: _MISSING[name].repeat(0) for name in ("prompt_ids", "rewards")}


def _column(part: Rollouts, name: str) -> NDArray[Any] | None:
    if name == "probe":
        return np.ones(len(part), dtype=np.bool_) if part.kind == "probe" else None
    column: NDArray[Any] | None = getattr(part, name)
    return column


def _responses(parts: Sequence[Rollouts]) -> list[Any] | None:
    """What was said in each response; None where no part knows."""
    if not any(part.responses for part in parts):
        return None
    return [response for part in parts for response in (part.responses or [None] * len(part))]


def _new(prompt_ids: Ints, names: NDArray[Any], named: Bools, seen: SeenRollouts) -> Bools:
    """Which responses, in order, are not repeats; notes them as seen."""
    keep = _first_of_each(prompt_ids, names, named)
    prints = np.zeros(keep.size, dtype=np.uint64)
    prints[named] = fingerprints(prompt_ids[named], names[named])
    keep &= ~(named & seen.known(prints))
    seen.add(np.sort(prints[keep & named]))
    return keep


def _digests(responses: Sequence[Any]) -> NDArray[np.uint64]:
    """A hash of each response, so that those equal in all else, also in their name, have an order too."""
    data = b"".join(
        hashlib.blake2b(repr(response).encode("utf-8", "backslashreplace"), digest_size=8).digest()
        for response in responses
    )
    return np.frombuffer(data, dtype="<u8").astype(np.uint64)


def _named(parts: Sequence[Rollouts]) -> tuple[Bools, NDArray[Any]]:
    """Which responses have a rollout id, and the ids (of one type; a filler where there is none)."""
    given = [part.rollout_ids for part in parts if part.rollout_ids is not None]
    named = np.concatenate([np.empty(0, np.bool_), *[np.full(len(p), p.rollout_ids is not None) for p in parts]])
    as_text = any(ids.dtype.kind == "U" for ids in given)
    filler: Any = "" if as_text else np.int64(0)
    pieces = [np.full(len(part), filler) if part.rollout_ids is None else part.rollout_ids for part in parts]
    if as_text:
        pieces = [piece.astype(np.str_) for piece in pieces]
    return named, np.concatenate([np.empty(0, dtype=np.asarray(filler).dtype), *pieces])


def _first_of_each(prompt_ids: Ints, names: NDArray[Any], named: Bools) -> Bools:
    keep = np.ones(prompt_ids.size, dtype=np.bool_)
    if keep.size:
        same = (prompt_ids[1:] == prompt_ids[:-1]) & (names[1:] == names[:-1]) & named[1:] & named[:-1]
        keep[1:] = ~same
    return keep
