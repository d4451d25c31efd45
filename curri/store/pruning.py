"""What the stored responses take up and have saved, and how to be rid of some."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from curri.errors import InvalidInput
from curri.store.cache import COUNTERS
from curri.store.rollouts import UNSCORED

if TYPE_CHECKING:
    from curri.store.prompt_store import PromptStore

_BYTES = "coalesce(strlen(response), 0) + coalesce(strlen(extras), 0)"
_AT = "json_extract_string(extras, '$.at')"


def cache_stats(store: PromptStore) -> list[dict[str, Any]]:
    """What is stored of each source, and what it has saved; the largest first.

    Each entry has model, weight_version, settings, verifier, run (or None), prompts, responses, tokens, truncated,
    bytes (of texts and extras), oldest and newest (ISO 8601, None where it is not known), and of `curri rollouts
    generate` hits, tokens_saved and generated.
    """
    with store.connection.all_cores():
        table = store.connection.arrow(
            f"""select s.source_id, s.model, s.weight_version, s.settings, s.verifier, runs.name as run,
                       count(distinct prompt_id) as prompts, count(prompt_id) as responses,
                       coalesce(sum(tokens), 0)::bigint as tokens, count(*) filter (truncated) as truncated,
                       coalesce(sum({_BYTES}), 0)::bigint as bytes, min({_AT}) as oldest, max({_AT}) as newest
                from sources s left join rollouts using (source_id) left join runs using (run_id)
                group by all order by bytes desc, source_id"""  # noqa: S608  constants
        )
    rows = store.connection.rows("select key, value from meta where starts_with(key, ?)", [COUNTERS])
    counters = {int(key.removeprefix(COUNTERS)): json.loads(value) for key, value in rows}
    found = []
    for row in table.to_pylist():
        saved = counters.get(row.pop("source_id"), {})
        if row["responses"] or saved:
            found.append({**row, **{name: saved.get(name, 0) for name in ("hits", "tokens_saved", "generated")}})
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pruning:
    """Which rollouts are to go: those for which all that is given here holds.

    Attributes:
        model: of this model (the unscored ones among them), or None.
        weight_version: of these weights, or None.
        verifier: scored by this, as ``curri rollouts stats`` names it, or None.
        older_than: generated longer ago than so many days, or None. Rollouts that were imported or recorded have no
            age, and are never old.
        max_bytes: the oldest of them (those without an age last), as many as it takes that the texts of all rollouts
            have at most so many bytes; or None.
        runs: whether the texts of rollouts that runs told are to go as well. Their rewards always stay, because the
            ledgers count them.
    """

    model: str | None = None
    weight_version: str | None = None
    verifier: str | None = None
    older_than: float | None = None
    max_bytes: int | None = None
    runs: bool = False

    def __post_init__(self) -> None:
        given = (self.model, self.weight_version, self.verifier, self.older_than, self.max_bytes)
        if all(value is None for value in given):
            raise InvalidInput(
                "nothing says which rollouts are to go",
                hint="name a model, a weight version or a verifier, or bound their age or size",
            )
        for name, value in (("older_than", self.older_than), ("max_bytes", self.max_bytes)):
            if value is not None and not 0 <= value < float("inf"):
                raise InvalidInput(f"`{name}` must be a number >= 0; got {value!r}")

    def _rows(self) -> tuple[str, list[Any]]:
        """A query of the rows that are to go."""
        conditions = ["(run_id < 0 or (? and response is not null))"]
        values: list[Any] = [self.runs]
        for name, value in (("weight_version", self.weight_version), ("verifier", self.verifier)):
            if value is not None:
                conditions.append(f"{name} = ?")
                values.append(value)
        if self.model is not None:
            conditions.append("model in (?, ?)")
            values += [self.model, UNSCORED + self.model]
        if self.older_than is not None:
            conditions.append(f"{_AT} < ?")
            values.append(_days_ago(self.older_than))
        query = f"""select rollouts.rowid as id, model, run_id, prompt_id, coalesce(tokens, 0) as tokens,
                           {_BYTES} as bytes, {_AT} as made, source_id, sample
                    from rollouts join sources using (source_id) where {" and ".join(conditions)}"""  # noqa: S608
        if self.max_bytes is not None:
            query = f"""select * exclude (before) from (
                            select *, sum(bytes) over (order by made nulls last, source_id, prompt_id, sample) - bytes
                                      as before
                            from ({query}))
                        where before < (select sum({_BYTES}) from rollouts) - ?"""  # noqa: S608
            values.append(self.max_bytes)
        return query, values

    def preview(self, store: PromptStore) -> list[dict[str, Any]]:
        """What would go of each model: model, of_runs, prompts, responses, tokens, bytes."""
        query, values = self._rows()
        with store.connection.all_cores():
            table = store.connection.arrow(
                f"""select model, run_id >= 0 as of_runs, count(distinct prompt_id) as prompts, count(*) as responses,
                           sum(tokens)::bigint as tokens, sum(bytes)::bigint as bytes
                    from ({query}) group by all order by model, of_runs""",  # noqa: S608  constants, values bound
                values,
            )
        found: list[dict[str, Any]] = table.to_pylist()
        return found

    def carry_out(self, store: PromptStore) -> list[dict[str, Any]]:
        """Take them out of the store, in one transaction; gives what went, as ``preview`` does."""
        query, values = self._rows()
        connection = store.connection
        with store.transaction(), connection.all_cores():
            gone = self.preview(store)
            connection.execute(f"create temp table doomed as select id, run_id from ({query})", values)  # noqa: S608
            connection.execute(
                """update rollouts set response = null, extras = null
                   where rowid in (select id from doomed where run_id >= 0)"""
            )
            connection.execute("delete from rollouts where rowid in (select id from doomed where run_id < 0)")
            connection.execute("drop table doomed")
            connection.execute(
                "delete from sources where run_id < 0 and source_id not in (select source_id from rollouts)"
            )
            connection.execute(
                """delete from meta where starts_with(key, ?)
                   and key not in (select ? || source_id from sources)""",
                [COUNTERS, COUNTERS],
            )
        store.checkpoint()
        return gone


def _days_ago(days: float) -> str:
    """That time, as responses say when they were made; the beginning of the calendar where it is before that."""
    now = dt.datetime.now(dt.UTC)
    beginning = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
    then = now - dt.timedelta(days=days) if days < (now - beginning).days else beginning
    return f"{then.year:04d}-{then:%m-%dT%H:%M:%SZ}"  # %Y does not fill up years before 1000
