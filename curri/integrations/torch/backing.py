"""What a sampler asks and tells: one small interface, and the one over a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from curri.errors import InvalidParameter, StateMismatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from curri.curricula.base import Curriculum
    from curri.integrations.torch.rows import Rows
    from curri.scheduler import Resolution, Scheduler, Told
    from curri.types import Ints, Selection

__all__ = ["Backing", "Pick", "Replayed", "StoreBacking", "pick_of"]

Replayed: TypeAlias = "Callable[[int], tuple[int, ...]]"
"""The rounds that a prompt was handed out for, where rounds are handed out again that may be settled."""


class Pick(NamedTuple):
    """Prompts that were handed out together.

    Attributes:
        prompt_ids: shape (_B,), distinct.
        n_rollouts: how many rollouts the strategy wants for each copy of it, shape (_B,).
        copies: how often each was drawn, shape (_B,); more than once only by strategies that draw with replacement.
        round: the strategy's round.
    """

    prompt_ids: Ints
    n_rollouts: Ints
    copies: Ints
    round: int

    def __len__(self) -> int:
        """Draws, copies counted."""
        return int(sum(self.copies.tolist()))


def pick_of(selection: Selection, n: int, group_size: int) -> Pick:
    """A selection of ``n`` draws as a pick."""
    each, copies = selection.n_rollouts, np.int64(1).repeat(len(selection))
    if len(selection) < n:  # drawn with replacement: fewer prompts with more rollouts
        copies = np.maximum(each // group_size, 1)
        each = np.maximum(each // copies, 1)
    return Pick(selection.prompt_ids, each, copies, selection.ticket.round)


class Backing(Protocol):
    """Where picks come from and outcomes go; a prompt that was handed out is not picked again until it is settled."""

    def ask(self, n: int) -> Pick:
        """A new round of ``n`` draws."""

    def tell(self, columns: dict[str, Any], *, gathered: bool) -> tuple[Told, Ints]:
        """Outcomes, as keywords of ``Scheduler.tell``; gives what became of them, and the prompts of all ranks."""

    def resolve(
        self, prompt_ids: Ints, event: Resolution, reason: str | None, *, gathered: bool, replayed: Replayed | None
    ) -> tuple[tuple[int, ...], Ints]:
        """Settle prompts without outcomes; gives the rounds it closed, and the prompts of all ranks.

        With ``replayed``, what the replayed round has settled already stays as it is.
        """

    def open(self) -> list[Pick]:
        """What was handed out and is not settled, oldest first."""

    def since(self, first_round: int) -> list[Pick]:
        """What was handed out from a round on, settled or not, oldest first."""

    def mark(self) -> dict[str, Any]:
        """Where it stands, as small JSON; costs nothing."""

    def check(self, mark: dict[str, Any]) -> None:
        """Refuse a mark that this does not go on from."""

    def save(self, path: str | PathLike[str]) -> None:
        """Write what it knows to a file."""

    def load(self, path: str | PathLike[str]) -> None:
        """Go on from a file."""

    def ready(self) -> None:
        """Refuse to hand anything out where something was only half restored."""

    def metrics(self) -> dict[str, float]:
        """Numbers to log."""


class StoreBacking:
    """Picks and outcomes go through a ``Scheduler``, which commits each of them."""

    def __init__(self, scheduler: Scheduler, rows: Rows) -> None:
        self.scheduler = scheduler
        self._rows = rows
        self._pool_version = -1
        self._covered = True
        scheduler.curriculum.pool.rows(rows.ids)  # refuses ids it does not know

    def ask(self, n: int) -> Pick:
        """A new round; what is to come again is handed out through :meth:`open`."""
        among = None if self._covers_pool() else self._rows.ids
        selection = self.scheduler.ask(n, among=among, reissue=False)
        return pick_of(selection, n, self.scheduler.curriculum.group_size)

    def _covers_pool(self) -> bool:
        version = self.scheduler.store.prompts.version
        if version != self._pool_version:
            pool = self.scheduler.store.pool()
            self._covered = bool(np.isin(pool.ids[pool.active], self._rows.ids, assume_unique=True).all())
            self._pool_version = version
        return self._covered

    def tell(self, columns: dict[str, Any], *, gathered: bool) -> tuple[Told, Ints]:
        """See ``Scheduler.tell``."""
        return self.scheduler.tell(**columns), columns["prompt_ids"]

    def resolve(
        self, prompt_ids: Ints, event: Resolution, reason: str | None, *, gathered: bool, replayed: Replayed | None
    ) -> tuple[tuple[int, ...], Ints]:
        """See ``Scheduler.resolve``."""
        ids = prompt_ids if replayed is None else self._unsettled(prompt_ids, replayed)
        return (self.scheduler.resolve(ids, event, reason) if ids.size else ()), prompt_ids

    def _unsettled(self, prompt_ids: Ints, replayed: Replayed) -> Ints:
        """Those that are still in flight in the round they were handed out for; one may be in flight in a later one."""
        in_flight = {prompt: pick.round for pick in self.open() for prompt in pick.prompt_ids.tolist()}
        kept = [p for p in prompt_ids.tolist() if not replayed(p) or in_flight.get(p) in replayed(p)]
        return np.array(kept, dtype=np.int64)

    def open(self) -> list[Pick]:
        """From the ledger, so that it does not matter which process handed it out."""
        from curri.scheduler.rounds import OpenRounds

        scheduler, run = self.scheduler, self.scheduler.run
        table = scheduler.store.runs.open_rounds(run.run_id)
        rounds = OpenRounds.from_ledger(table, scheduler.curriculum.pool, run.name, scheduler.store.texts.fetch)
        return open_picks(rounds, scheduler.consumer, scheduler.curriculum)

    def since(self, first_round: int) -> list[Pick]:
        """From the ledger, round by round, as they were picked."""
        scheduler = self.scheduler
        table = scheduler.store.runs.issued(scheduler.run.run_id, scheduler.consumer, first_round)
        rounds, ids, wanted = (table.column(name).to_numpy() for name in ("round", "prompt_id", "n_rollouts"))
        group = scheduler.curriculum.group_size
        copies = np.maximum(wanted // group, 1) if _draws_again(scheduler.curriculum) else np.ones_like(wanted)
        picks = []
        for number in np.unique(rounds).tolist():
            mine = rounds == number
            each = np.maximum(wanted[mine] // copies[mine], 1)
            picks.append(Pick(ids[mine].astype(np.int64), each.astype(np.int64), copies[mine].astype(np.int64), number))
        return picks

    def mark(self) -> dict[str, Any]:
        """Which run this is, and how far it got."""
        return {
            "store": self.scheduler.store.store_id,
            "run": self.scheduler.run.name,
            "consumer": self.scheduler.consumer,
            "rounds": self.scheduler.curriculum.rounds_asked,
        }

    def check(self, mark: dict[str, Any]) -> None:
        """The store may be ahead of the mark, as after a crash; never behind it, and never another run."""
        here = self.mark()
        for name in ("store", "run", "consumer"):
            if mark.get(name) != here[name]:
                raise StateMismatch(
                    f"the sampler's state is of {name} {mark.get(name)!r}; this sampler works with {here[name]!r}",
                    hint="open the store and the run that the checkpoint was made with",
                )
        if mark["rounds"] > here["rounds"]:
            raise StateMismatch(
                f"the sampler's state has seen {mark['rounds']} rounds, the store only {here['rounds']}: it is older",
                hint="restore the store that belongs to the checkpoint, or start without the sampler's state",
            )

    def save(self, path: str | PathLike[str]) -> None:
        """There is nothing to save: the store has it."""
        raise InvalidParameter(
            "`save` is for a sampler without a store; this one has every pick and outcome in its store already",
            hint="keep the store, or copy it with `curri store backup`",
        )

    def load(self, path: str | PathLike[str]) -> None:
        """There is nothing to load: the store has it."""
        raise InvalidParameter(
            "`load` is for a sampler without a store; this one goes on from its store by itself",
            hint="open the same store and run",
        )

    def ready(self) -> None:
        """A run in a store is always whole."""

    def metrics(self) -> dict[str, float]:
        """Those of the scheduler and its strategy."""
        return self.scheduler.metrics()


def open_picks(rounds: Any, consumer: str, curriculum: Curriculum) -> list[Pick]:
    """The unsettled parts of rounds, oldest first."""
    with_replacement = _draws_again(curriculum)
    picks = []
    for number, part in rounds.of_consumer(consumer):
        selection = rounds.again(number, part, consumer)
        draws = int(selection.n_rollouts.sum()) // curriculum.group_size if with_replacement else len(selection)
        picks.append(pick_of(selection, draws, curriculum.group_size))
    return picks


def _draws_again(curriculum: Curriculum) -> bool:
    """Whether a prompt may be drawn twice for one round."""
    return "replacement" in curriculum.tags or getattr(curriculum, "draw", "") == "replacement"
