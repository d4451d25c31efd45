"""Results of rollouts from JSON Lines, as ``Scheduler.tell`` takes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidData
from curri.exchange.fields import INT32, INT64, Group, integer, joined, read_group
from curri.exchange.jsonl import JsonLines, compact_json, dumped

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from curri.exchange.jsonl import Row
    from curri.types import Kind

_FROM_SELECT = frozenset(
    {"prompt_id", "id", "prompt", "answer", "arm", "n_rollouts", "probability", "round", "metadata"}
)
"""Columns of a selection; results may carry them along."""

_SHOWN = 3


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """Responses of one round, as keywords of ``Scheduler.tell``.

    Attributes:
        round: which the rows name, or None.
        kind: "train" or "probe".
        prompt_ids: one entry a response.
        rewards: as many.
        columns: ``solved``, ``advantages``, ``tokens``, ``responses``, ``truncated``, ``policy_version``,
            ``rollout_ids`` and ``extras``, each None where the rows have nothing of it.
    """

    round: int | None
    kind: Kind
    prompt_ids: list[int]
    rewards: list[float]
    columns: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rewards)


def read_results(path: str | os.PathLike[str]) -> list[Results]:
    """The results in a JSON Lines file, one entry a round and kind, ascending.

    A row holds ``prompt_id`` and ``reward``, or ``rewards`` for a whole group; as far as known ``solved``,
    ``advantage``, ``tokens``, ``truncated``, ``policy_version``, ``rollout_id``, ``response``, ``kind`` and ``round``.
    Columns of a selection may stand beside them; all else becomes extras. The file is taken as a whole or not at all,
    since responses without a ``rollout_id`` are told apart by their order.

    Args:
        path: the file, or "-" for standard input.

    Raises:
        InvalidData: the file or a row of it cannot be used.
    """
    parts: dict[tuple[int, str], list[tuple[int, Group]]] = {}
    wrong: list[str] = []
    n_wrong = n_rows = 0
    with JsonLines(path) as rows:
        for row in rows:
            n_rows += 1
            try:
                prompt_id, round_, group = _result(row)
            except InvalidData as error:
                n_wrong += 1
                if len(wrong) < _SHOWN:
                    wrong.append(f"line {row.number}: {error.message}")
            else:
                parts.setdefault((round_, group.kind), []).append((prompt_id, group))
    if n_wrong:
        raise InvalidData(
            f"{n_wrong} of {n_rows} rows of {rows.name} cannot be used; "
            f"{'; '.join(wrong)}{'; …' if n_wrong > _SHOWN else ''}",
            hint="nothing was recorded: mend or drop those rows and record the file again",
        )
    return [_results(key, parts[key]) for key in sorted(parts)]


def _result(row: Row) -> tuple[int, int, Group]:
    if row.value is None:
        raise InvalidData(row.reason)
    if row.value.get("prompt_id") is None:
        raise InvalidData('no column "prompt_id"')
    prompt_id = integer("prompt_id", row.value["prompt_id"], low=0, high=INT64)
    round_ = row.value.get("round")
    number = -1 if round_ is None else integer("round", round_, low=0, high=INT32)
    group = read_group(row.value, aside=_FROM_SELECT)
    dumped(group.rest, None, compact_json)  # refuses what the store could not keep
    return prompt_id, number, group


def _results(key: tuple[int, str], entries: Sequence[tuple[int, Group]]) -> Results:
    groups = [group for _, group in entries]
    sizes = [len(group) for group in groups]
    n_said = sum(size for group, size in zip(groups, sizes, strict=True) if group.says_solved)
    solved = joined(groups, "solved")
    columns: dict[str, Any] = {
        "solved": _floats(solved) if n_said else None,
        "advantages": None if _all_missing(groups, "advantages") else _floats(joined(groups, "advantages")),
        "tokens": _all_or_none("tokens", groups),
        "rollout_ids": _names(_all_or_none("rollout_ids", groups)),
        "responses": None if _all_missing(groups, "responses") else joined(groups, "responses"),
        "truncated": None if _all_missing(groups, "truncated") else [bool(v) for v in joined(groups, "truncated")],
        "policy_version": _versions(groups),
        "extras": _extras(groups, sizes),
    }
    round_, kind = key
    return Results(
        round=None if round_ < 0 else round_,
        kind="probe" if kind == "probe" else "train",
        prompt_ids=[prompt for (prompt, _), size in zip(entries, sizes, strict=True) for _ in range(size)],
        rewards=joined(groups, "rewards"),
        columns=columns,
    )


def _all_missing(groups: Sequence[Group], name: str) -> bool:
    return all(value is None for group in groups for value in getattr(group, name))


def _floats(values: Sequence[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def _versions(groups: Sequence[Group]) -> list[int] | None:
    values = joined(groups, "policy_version")
    return None if all(value is None for value in values) else [-1 if value is None else value for value in values]


def _all_or_none(name: str, groups: Sequence[Group]) -> list[Any] | None:
    values = joined(groups, name)
    missing = sum(value is None for value in values)
    if missing == len(values):
        return None
    if missing:
        raise InvalidData(
            f"{missing} of {len(values)} responses have no `{name}`, and the others do",
            hint="nothing was recorded: give it for all responses of a round, or for none",
        )
    return values


def _names(values: list[Any] | None) -> list[Any] | None:
    if values is None or all(isinstance(value, int) for value in values):
        return values
    return [str(value) for value in values]


def _extras(groups: Sequence[Group], sizes: Sequence[int]) -> dict[str, Any]:
    """Further columns, as JSON values; null where a row has none."""
    extras: dict[str, Any] = {}
    for name in dict.fromkeys(name for group in groups for name in group.rest):
        column = np.empty(sum(sizes), dtype=np.object_)
        for place, group in enumerate(group for group, size in zip(groups, sizes, strict=True) for _ in range(size)):
            column[place] = group.rest.get(name)
        extras[name] = column
    return extras
