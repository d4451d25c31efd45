"""The rounds of a run that are not closed: what was handed out to whom, what was told, what is settled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from curri.errors import InvalidRollouts, shown_some
from curri.store.runs import RESOLUTIONS
from curri.types import Selection, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pyarrow as pa

    from curri.pool import PromptPool
    from curri.types import Ints, Kind, Prompt

Resolution = Literal["trained", "dropped", "observed", "lost"]


@dataclass(eq=False)
class Issue:
    """One part of a round, as it was handed out, and to whom."""

    selection: Selection
    consumer: str


@dataclass(eq=False)
class Round:
    """A round with unsettled prompts.

    Attributes:
        issues: its parts in order.
        open: prompts that are not settled.
        told: responses told for each prompt.
    """

    issues: list[Issue] = field(default_factory=list)
    open: set[int] = field(default_factory=set)
    told: dict[int, int] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """What its rollouts are for."""
        return self.issues[0].selection.kind


class OpenRounds:
    """All rounds of a run that are not closed. A prompt is in flight in at most one of them."""

    def __init__(self) -> None:
        self._rounds: dict[int, Round] = {}
        self._round_of: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._rounds)

    @property
    def in_flight(self) -> Ints:
        """Ids of the prompts that are handed out and not settled."""
        return np.fromiter(self._round_of, dtype=np.int64, count=len(self._round_of))

    def round_of(self, prompt_id: int) -> int | None:
        """The round a prompt is in flight in, or None."""
        return self._round_of.get(prompt_id)

    def get(self, number: int) -> Round | None:
        """An open round, or None when it is closed or was never asked for."""
        return self._rounds.get(number)

    def of_consumer(self, consumer: str) -> list[tuple[int, int]]:
        """(round, part) of everything a consumer holds, oldest first."""
        return [
            (number, part)
            for number in sorted(self._rounds)
            for part, issue in enumerate(self._rounds[number].issues)
            if issue.consumer == consumer and self.unsettled(number, part).size
        ]

    def is_told(self, number: int, part: int) -> bool:
        """Whether every unsettled prompt of a part has all the responses asked for up to and with that part."""
        round_ = self._rounds[number]
        wanted: dict[int, int] = {}
        for issue in round_.issues[: part + 1]:
            pairs = zip(issue.selection.prompt_ids.tolist(), issue.selection.n_rollouts.tolist(), strict=True)
            for prompt, n_rollouts in pairs:
                wanted[prompt] = wanted.get(prompt, 0) + n_rollouts
        return all(round_.told.get(p, 0) >= wanted[p] for p in self.unsettled(number, part).tolist())

    def unsettled(self, number: int, part: int) -> Ints:
        """Unsettled prompts of a part, in the order they were handed out."""
        round_ = self._rounds[number]
        ids = round_.issues[part].selection.prompt_ids
        return np.array([i for i in ids.tolist() if i in round_.open], dtype=np.int64)

    def again(self, number: int, part: int, consumer: str) -> Selection | None:
        """The unsettled prompts of a part as they were handed out; None when there are none, or another holds them."""
        round_ = self._rounds.get(number)
        if round_ is None or round_.issues[part].consumer != consumer:
            return None
        selection = round_.issues[part].selection
        keep = np.array([i in round_.open for i in selection.prompt_ids.tolist()], dtype=np.bool_)
        if not keep.any():
            return None
        return replace(selection.take(keep), reissued=True)

    # ---- what changes them --------------------------------------------------------------------------------------

    def issue(self, selection: Selection, consumer: str) -> None:
        """Hand a selection out."""
        number, prompts = selection.ticket.round, selection.prompt_ids.tolist()
        round_ = self._rounds.setdefault(number, Round())
        round_.issues.append(Issue(selection, consumer))
        round_.open.update(prompts)
        self._round_of.update(dict.fromkeys(prompts, number))

    def note_told(self, number: int, told: dict[int, int]) -> None:
        """Remember how many responses were told for prompts of an open round."""
        round_ = self._rounds.get(number)
        if round_ is not None:
            round_.told.update(told)

    def settle(self, number: int, prompt_ids: Ints) -> list[int]:
        """Settle prompts of an open round; gives how many responses were told for each."""
        round_, prompts = self._rounds[number], prompt_ids.tolist()
        for prompt in prompts:
            round_.open.discard(prompt)
            self._round_of.pop(prompt, None)
        return [round_.told.get(prompt, 0) for prompt in prompts]

    def close_settled(self, numbers: Iterable[int]) -> tuple[int, ...]:
        """Forget those of the rounds that have no unsettled prompt left, and name them."""
        closed = tuple(number for number in sorted(set(numbers)) if not self._rounds[number].open)
        for number in closed:
            del self._rounds[number]
        return closed

    def hand_over(self, number: int, part: int, consumer: str) -> Ints:
        """Give a part to another consumer; gives its unsettled prompts."""
        self._rounds[number].issues[part].consumer = consumer
        return self.unsettled(number, part)

    def by_round(self, prompt_ids: Ints) -> dict[int, Ints]:
        """Prompts in flight, grouped by their round.

        Raises:
            InvalidRollouts: names those that are not in flight.
        """
        found: dict[int, list[int]] = {}
        missing: list[int] = []
        for prompt in prompt_ids.tolist():
            number = self._round_of.get(prompt)
            (missing if number is None else found.setdefault(number, [])).append(prompt)
        if missing:
            raise InvalidRollouts(
                f"{len(missing)} prompts are not in flight, so they cannot be settled: {shown_some(missing)}",
                hint="a prompt is in flight from its `ask` until it is told or resolved",
            )
        return {number: np.array(found[number], dtype=np.int64) for number in sorted(found)}

    # ---- after a reopening --------------------------------------------------------------------------------------

    @classmethod
    def from_ledger(
        cls, table: pa.Table, pool: PromptPool, run: str, fetch: Callable[[Ints], list[Prompt]]
    ) -> OpenRounds:
        """What the ledger says is not closed (see ``RunTable.open_rounds``)."""
        rounds = cls()
        issued: dict[tuple[int, int], list[dict[str, Any]]] = {}
        later: list[dict[str, Any]] = []
        for row in table.to_pylist():
            if row["event"] == "issued":
                issued.setdefault((row["round"], row["part"]), []).append(row)
            else:
                later.append(row)
        for (number, part), rows in sorted(issued.items()):
            rounds.issue(_selection(rows, Ticket(run, number, part), pool, fetch), rows[0]["consumer"])
        for row in later:
            rounds._replay(row)
        return rounds

    def _replay(self, row: dict[str, Any]) -> None:
        round_ = self._rounds[row["round"]]
        if row["event"] in RESOLUTIONS:
            round_.open.discard(row["prompt_id"])
            if self._round_of.get(row["prompt_id"]) == row["round"]:  # it may be in flight again, in a later round
                del self._round_of[row["prompt_id"]]
        elif row["event"] == "abandoned":
            round_.issues[row["part"]].consumer = row["consumer"]
        if row["told"] is not None:
            round_.told[row["prompt_id"]] = max(row["told"], round_.told.get(row["prompt_id"], 0))


def _selection(
    rows: list[dict[str, Any]], ticket: Ticket, pool: PromptPool, fetch: Callable[[Ints], list[Prompt]]
) -> Selection:
    ids = np.array([row["prompt_id"] for row in rows], dtype=np.int64)
    return Selection(
        prompt_ids=ids,
        arms=pool.arm_of(pool.rows(ids)),
        n_rollouts=np.array([row["n_rollouts"] for row in rows], dtype=np.int64),
        probability=np.array([row["probability"] for row in rows], dtype=np.float64),
        kind="probe" if rows[0]["probe"] else "train",
        ticket=ticket,
        fetch=fetch,
    )
