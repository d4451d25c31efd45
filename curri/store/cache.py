"""Stored responses as a cache: what is there of a model's responses, and what it takes to have it scored anew.

A response is known by prompt, model, weight version, sampling settings and sample number, and its score by the verifier
besides. When another verifier scores a response, the row goes over to the new source and keeps the earlier score in its
extras: so each response is there once, and counts once wherever rollouts are counted.

Responses that a verifier could not score are kept apart, under a model name with ``UNSCORED`` before it: there they are
no evidence, and not paid for again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from curri.errors import WriteFailed
from curri.store.rollouts import UNSCORED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from curri.store.connection import Connection
    from curri.store.prompt_store import PromptStore
    from curri.store.rollouts import Source
    from curri.types import Bools, Floats, Ints, Score

COUNTERS = "cache:"
"""Keys of ``meta`` for what a source saved begin with this, followed by the source's number."""

_AT_ONCE = 4096
_BYTES_AT_ONCE = 1 << 26
_WORTH_ANOTHER_TRY = ("error", "crashed")


class Held(NamedTuple):
    """Responses that are there, one entry each.

    Attributes:
        prompt_ids: shape (_R,).
        samples: their numbers, shape (_R,).
        rewards: shape (_R,).
        solved: 1 right, 0 wrong, NaN unknown, shape (_R,).
        scored: whether reward and solved mean anything, shape (_R,).
        truncated: shape (_R,).
        tokens: 0 where not known, shape (_R,).
    """

    prompt_ids: Ints
    samples: Ints
    rewards: Floats
    solved: Floats
    scored: Bools
    truncated: Bools
    tokens: Ints


class Stored(NamedTuple):
    """A response that another verifier has scored, or none yet."""

    prompt_id: int
    sample: int
    source_id: int
    response: str
    extras: str | None
    reward: float
    solved: float | None


class NewResponse(NamedTuple):
    """A response to store."""

    prompt_id: int
    sample: int
    text: str
    tokens: int | None
    truncated: bool
    extras: dict[str, Any]


class RolloutCache:
    """The responses of one source.

    Args:
        store: an open store.
        source: model, weight version, sampling settings and verifier.
    """

    def __init__(self, store: PromptStore, source: Source) -> None:
        self.source = source
        self.unscored = dataclasses.replace(source, model=UNSCORED + source.model)
        self._store = store
        self._connection: Connection = store.connection

    def held(self, prompt_ids: Ints, first: int, last: int) -> Held:
        """The responses with numbers from ``first`` to ``last`` - 1 that need not be generated, ascending.

        Those that wait for a score of this verifier are among them, as not scored.
        """
        own, siblings = self._source_ids()
        table = self._connection.arrow(
            """select prompt_id, sample, any_value(reward) filter (mine) as reward,
                      any_value(solved) filter (mine) as solved, bool_or(mine) as scored,
                      any_value(truncated) as truncated, any_value(tokens) as tokens
               from (select prompt_id, sample, reward, solved, source_id = ? as mine, truncated, tokens
                     from asked join rollouts on prompt_id = asked_id
                     where sample >= ? and sample < ?
                       and (source_id = ? or (source_id in (select unnest(?::integer[])) and response is not null)))
               group by prompt_id, sample order by prompt_id, sample""",
            [own, first, last, own, siblings],
            asked=pa.table({"asked_id": prompt_ids}),
        )
        return Held(
            prompt_ids=_column(table, "prompt_id", 0).astype(np.int64),
            samples=_column(table, "sample", 0).astype(np.int64),
            rewards=_column(table, "reward", np.nan),
            solved=_column(table, "solved", np.nan),
            scored=_column(table, "scored", fill=False).astype(np.bool_),
            truncated=_column(table, "truncated", fill=False).astype(np.bool_),
            tokens=_column(table, "tokens", 0).astype(np.int64),
        )

    def waiting(self, prompt_ids: Ints, first: int, last: int) -> Iterator[list[Stored]]:
        """The responses that are to be scored by this verifier, in parts that fit into memory."""
        own, siblings = self._source_ids()
        keys = self._connection.arrow(
            f"""select prompt_id, sample, max(source_id) as source_id, max(strlen(response)) as bytes
                from asked join rollouts r on prompt_id = asked_id
                where sample >= ? and sample < ? and response is not null
                  and source_id in (select unnest(?::integer[]))
                  and (source_id != ? or json_extract_string(extras, '$.verifier.status') in {_WORTH_ANOTHER_TRY})
                  and not exists (select 1 from rollouts s where s.prompt_id = r.prompt_id and s.sample = r.sample
                                  and s.source_id = ?)
                group by prompt_id, sample order by prompt_id, sample""",  # noqa: S608  a constant, values bound
            [first, last, siblings, self._find(self.unscored), own],
            asked=pa.table({"asked_id": prompt_ids}),
        )
        for part in _parts(keys.column("bytes").to_numpy()):
            table = self._connection.arrow(
                """select r.prompt_id, r.sample, r.source_id, r.response, r.extras, r.reward, r.solved
                   from keys k join rollouts r using (prompt_id, sample, source_id) order by 1, 2""",
                keys=keys.take(pa.array(part)),
            )
            yield [Stored(*row.values()) for row in table.to_pylist()]

    def _find(self, source: Source) -> int:
        """The number of a source, -1 if there is none."""
        found = self._connection.value(
            """select source_id from sources where model = ? and weight_version = ? and settings = ?
               and verifier = ? and run_id = ?""",
            list(dataclasses.astuple(source)),
        )
        return -1 if found is None else int(found)

    def _source_ids(self) -> tuple[int, list[int]]:
        """The number of the source, and those of all sources with the same responses but for it."""
        own = self._find(self.source)
        rows = self._connection.rows(
            """select source_id from sources where model in (?, ?) and weight_version = ? and settings = ?
               and run_id = ? and source_id != ?""",
            [
                self.source.model,
                self.unscored.model,
                self.source.weight_version,
                self.source.settings,
                self.source.run_id,
                own,
            ],
        )
        return own, [int(row[0]) for row in rows]

    # ---- writing ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction in which trouble with the disk is what it is wherever it shows."""
        try:
            with self._store.transaction():
                yield
        except duckdb.Error as error:
            raise WriteFailed(
                f"writing to {self._store.path} failed: {str(error).splitlines()[0]}",
                hint="free space or mend the disk, then run the same command again: what was written before is safe",
            ) from error

    def add(self, responses: Sequence[NewResponse], scores: Sequence[Score]) -> None:
        """Store new responses with their scores, in one transaction."""
        now = _now()
        pairs = list(zip(responses, scores, strict=True))
        table = self._store.rollouts
        with self._writing():
            own = table.source_id(self.source)
            for source, mine in self._by_source(pairs):
                table.add_to(own if source is self.source else table.source_id(source), _table(mine, now))
            self._count(own, generated=len(responses), tokens=sum(response.tokens or 0 for response in responses))

    def _by_source(
        self, pairs: Sequence[tuple[NewResponse, Score]]
    ) -> Iterator[tuple[Source, list[tuple[NewResponse, Score]]]]:
        for source, scored in ((self.source, True), (self.unscored, False)):
            mine = [pair for pair in pairs if (pair[1].status == "ok") is scored]
            if mine:
                yield source, mine

    def rescore(self, responses: Sequence[Stored], scores: Sequence[Score]) -> int:
        """Keep scores of this verifier for stored responses, in one transaction; gives how many were scored.

        Where it could give none, a response stays as it is, with its earlier score if it had one.
        """
        pairs = [(old, score) for old, score in zip(responses, scores, strict=True) if score.status == "ok"]
        without = [
            (old, score)
            for old, score in zip(responses, scores, strict=True)
            if score.status != "ok" and _is_unscored(self._connection, old.source_id)
        ]
        with self._writing():
            self._move(self.source, pairs)
            self._move(self.unscored, without)
        return len(pairs)

    def _move(self, target: Source, pairs: Sequence[tuple[Stored, Score]]) -> None:
        if not pairs:
            return
        names = {
            int(number): str(verifier)
            for number, verifier in self._connection.rows(
                "select source_id, verifier from sources where not starts_with(model, ?)", [UNSCORED]
            )
        }
        scored = target is self.source
        table = pa.table(
            {
                "prompt": [old.prompt_id for old, _ in pairs],
                "nth": pa.array([old.sample for old, _ in pairs], pa.int32()),
                "origin": pa.array([old.source_id for old, _ in pairs], pa.int32()),
                "new_reward": pa.array([float(s.reward) if scored else 0.0 for _, s in pairs], pa.float64()),
                "new_solved": pa.array([_known(s.solved) for _, s in pairs], pa.float64()),
                "new_extras": pa.array([_moved(old, s, names.get(old.source_id)) for old, s in pairs], pa.string()),
            }
        )
        with self._connection._registered({"moved": table}):  # noqa: SLF001  the same room
            self._connection.execute(
                """update rollouts set source_id = ?, reward = new_reward, solved = new_solved, extras = new_extras
                   from moved where prompt_id = prompt and sample = nth and source_id = origin""",
                [self._store.rollouts.source_id(target)],
            )

    def count(self, **more: int) -> None:
        """Add to what is known of the source: hits, tokens_saved, generated, tokens."""
        if not any(more.values()):
            return
        with self._writing():
            self._count(self._store.rollouts.source_id(self.source), **more)

    def _count(self, source_id: int, **more: int) -> None:
        key = f"{COUNTERS}{source_id}"
        found = self._connection.value("select value from meta where key = ?", [key])
        counters: dict[str, int] = {} if found is None else json.loads(found)
        for name, value in more.items():
            counters[name] = counters.get(name, 0) + int(value)
        write = (
            "insert into meta (value, key) values (?, ?)"
            if found is None
            else "update meta set value = ? where key = ?"
        )
        self._connection.execute(write, [json.dumps(counters), key])


def _is_unscored(connection: Connection, source_id: int) -> bool:
    return bool(
        connection.value(
            "select count(*) from sources where source_id = ? and starts_with(model, ?)", [source_id, UNSCORED]
        )
    )


def _parts(sizes: Ints) -> Iterator[Ints]:
    """Positions in parts of bounded number and bytes."""
    start = size = 0
    for place, each in enumerate(sizes.tolist()):
        if place > start and (place - start >= _AT_ONCE or size + each > _BYTES_AT_ONCE):
            yield np.arange(start, place)
            start, size = place, 0
        size += each
    if len(sizes) > start:
        yield np.arange(start, len(sizes))


def _table(pairs: Sequence[tuple[NewResponse, Score]], now: str) -> pa.Table:
    alike: dict[str, str] = {}  # most responses have nothing of their own to say

    def extras(new: NewResponse, score: Score) -> str:
        if new.extras or score.status != "ok":
            return _extras({**new.extras, "at": now}, score)
        if score.detail not in alike:
            alike[score.detail] = _extras({"at": now}, score)
        return alike[score.detail]

    return pa.table(
        {
            "prompt_id": pa.array([new.prompt_id for new, _ in pairs], pa.int64()),
            "sample": pa.array([new.sample for new, _ in pairs], pa.int32()),
            "reward": pa.array([float(s.reward) if s.status == "ok" else 0.0 for _, s in pairs], pa.float64()),
            "solved": pa.array([_known(score.solved) for _, score in pairs], pa.float64()),
            "tokens": pa.array([new.tokens for new, _ in pairs], pa.int32()),
            "truncated": pa.array([new.truncated for new, _ in pairs], pa.bool_()),
            "response": pa.array([storable(new.text) for new, _ in pairs], pa.string()),
            "extras": pa.array([extras(new, score) for new, score in pairs], pa.string()),
        }
    )


def storable(text: str) -> str:
    r"""A text as UTF-8 can hold it: halves of surrogate pairs that stand alone become U+FFFD.

    >>> storable("a\ud800b") == "a\ufffdb", storable("\x00[\x1b") == "\x00[\x1b"
    (True, True)
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _known(solved: float) -> float | None:
    return None if math.isnan(solved) else float(solved)


def _extras(extras: dict[str, Any], score: Score) -> str:
    verdict = {"status": score.status, "detail": score.detail} if score.status != "ok" else {"detail": score.detail}
    verdict = {name: storable(value) for name, value in verdict.items() if value}
    return json.dumps({**extras, "verifier": verdict} if verdict else extras, separators=(",", ":"))


def _moved(old: Stored, score: Score, verifier: str | None) -> str:
    extras: dict[str, Any] = json.loads(old.extras) if old.extras else {}
    extras.pop("verifier", None)
    if verifier is not None:
        extras["scores"] = {**extras.get("scores", {}), verifier: {"reward": old.reward, "solved": old.solved}}
    return _extras(extras, score)


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _column(table: pa.Table, name: str, fill: Any) -> Any:
    return table.column(name).fill_null(fill).to_numpy()
