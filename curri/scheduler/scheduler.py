"""``Scheduler``: what a trainer holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidParameter
from curri.scheduler.core import core_of
from curri.scheduler.writers import Outlet
from curri.store.runs import RESOLUTIONS
from curri.types import Rollouts, for_each, prompt_id_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from curri.curricula.base import Curriculum
    from curri.scheduler.rounds import Resolution
    from curri.scheduler.writers import MetricsWriter
    from curri.store import PromptStore, Run
    from curri.types import Admission, Ints, Kind, Selection, Ticket


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What became of a ``tell``.

    Attributes:
        new: responses recorded.
        repeated: responses that were there already; they changed nothing.
        unissued: ids of prompts with new responses that were not in flight: late ones, and ones never handed out. They
            count as evidence.
        closed: rounds that this call closed.
    """

    new: int
    repeated: int
    unissued: Ints
    closed: tuple[int, ...]


class Scheduler:
    """Binds a store, a strategy, a run and a consumer.

    Every ``ask`` is committed before it is handed out, every ``tell`` before it returns. After a crash the same program
    goes on: what was handed out and never settled comes again, to the same consumer, oldest round first; after that the
    picks are those of a run that was never interrupted.

    Args:
        store: an open store.
        strategy: registered name; may be left out for a run that exists.
        run: name of the run; made on first use.
        consumer: who asks; several trainers share a run under different names.
        model: for a new run, the model whose stored rollouts are its first evidence (default: the store's only one).
        writers: where :meth:`metrics` go whenever a round closes (see ``curri.integrations.metrics``). They work in
            threads of their own; one that fails or is slow never stops the run, and is counted. Closing the scheduler
            or the store closes them.
        parameters: of the strategy, such as ``seed=0, temperature=0.1``. Those left out come from the run, or are the
            strategy's defaults.

    Raises:
        RunMismatch: the run was started with another strategy, model or parameter.
        UnknownName: no such strategy or model.

    >>> import tempfile, curri
    >>> from curri.store import NewPrompt
    >>> with tempfile.TemporaryDirectory() as folder, curri.open_store(folder + "/p.duckdb", create=True) as store:
    ...     _ = store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), "sums") for i in range(8)])
    ...     scheduler = Scheduler(store, "ucb", run="r1", seed=0)
    ...     selection = scheduler.ask(4)
    ...     told = scheduler.tell(selection.prompt_ids.repeat(2), rewards=[1, 0] * 4)
    ...     told.new, told.closed, scheduler.round
    (8, (0,), 1)
    """

    def __init__(
        self,
        store: PromptStore,
        strategy: str | None = None,
        *,
        run: str,
        consumer: str = "main",
        model: str | None = None,
        writers: Sequence[MetricsWriter] = (),
        **parameters: Any,
    ) -> None:
        for name, value in (("run", run), ("consumer", consumer)):
            if not (isinstance(value, str) and value):
                raise InvalidParameter(f"`{name}` of `Scheduler` must be a non-empty str; got {value!r}")
        self.store = store
        self.consumer = consumer
        self._outlet = Outlet(writers)
        self._core = core_of(store, strategy, run, model, parameters)
        if self._outlet:
            store.before_close(f"metrics {id(self._outlet)}", self._outlet.close)
        self._to_reissue = self._core.rounds.of_consumer(consumer)

    def ask(
        self,
        n: int,
        *,
        kind: Kind = "train",
        exclude: ArrayLike | None = None,
        among: ArrayLike | None = None,
        quota: Mapping[str, int] | None = None,
        reissue: bool = True,
    ) -> Selection:
        """The next round; after a reopening first the rounds that were handed out and not settled, oldest first.

        Prompts in flight (of any consumer) are never picked again.

        Args:
            n: how many prompts; a round that comes again has the size it had.
            kind: "probe" for prompts that are scored and not trained on.
            exclude: further prompt ids that may not be picked.
            among: prompt ids that may be picked; all if None.
            quota: arm name → how many of it.
            reissue: False opens a new round even if unsettled ones could come again.

        Raises:
            PoolExhausted: fewer prompts may be picked than were asked for.
            InvalidParameter, UnknownPrompt, UnknownName: a wrong argument.
            WriteFailed: the store could not be written to, now or before.
        """
        self._core.check_usable()
        again = self._again() if reissue else None
        return again or self._core.ask(self.consumer, n, kind, exclude=exclude, among=among, quota=quota)

    def _again(self, after: Ticket | None = None) -> Selection | None:
        """The next part that is to be handed out again, or the next one of a ticket's round after the ticket's part."""
        with self._core.lock:
            for number, part in self._to_reissue.copy():
                if after is None or (number == after.round and part > after.part):
                    self._to_reissue.remove((number, part))
                    if after is not None and self._core.rounds.is_told(number, part):
                        continue
                    selection = self._core.rounds.again(number, part, self.consumer)
                    if selection is not None:
                        return selection
        return None

    def refuse_unplaceable(self, prompt_ids: ArrayLike, round: int | None) -> None:  # noqa: A002  as in ``tell``
        """Raise what ``tell`` would raise about prompts and round, and change nothing.

        Raises:
            InvalidRollouts, UnknownPrompt: as ``tell``.
        """
        self._core.place(np.unique(prompt_id_array(prompt_ids, "`prompt_ids`")), round)

    def look_ahead(self, n: int, *, kind: Kind = "train", among: ArrayLike | None = None) -> Selection:
        """What the next new round would be, without opening it; arguments as in ``ask``.

        Raises:
            PoolExhausted: fewer prompts may be picked than were asked for.
        """
        self._core.check_usable()
        return self._core.look_ahead(n, kind, among)

    def top_up(self, ticket: Ticket) -> Selection | None:
        """Extra rollouts for the prompts of an open round that are still undecided; None when there are none.

        After a reopening first the later parts of that round that were handed out here and not told.
        """
        self._core.check_usable()
        self._core.check_ticket(ticket)
        return self._again(after=ticket) or self._core.top_up(self.consumer, ticket)

    def tell(
        self,
        prompt_ids: ArrayLike,
        rewards: ArrayLike,
        *,
        solved: ArrayLike | None = None,
        advantages: ArrayLike | None = None,
        tokens: ArrayLike | None = None,
        responses: Sequence[Any] | None = None,
        truncated: ArrayLike | None = None,
        policy_version: ArrayLike | None = None,
        rollout_ids: ArrayLike | None = None,
        extras: Mapping[str, Any] | None = None,
        kind: Kind | None = None,
        round: int | None = None,  # noqa: A002  the field's own word
        resolve: Resolution | None = "trained",
        reason: str | None = None,
    ) -> Told:
        """Record outcomes, before any filter, one entry a response (see :class:`curri.Rollouts`).

        A response without a rollout id is named by its round, its prompt and its number there. So the same ``tell``
        again, for prompts it has settled, changes nothing; other rewards for them are late responses, and evidence.
        Partial tells that may be repeated need ``rollout_ids``. A strategy learns from a group when it is settled.

        Args:
            prompt_ids: shape (_R,).
            rewards: shape (_R,).
            solved: shape (_R,); right or wrong, apart from a shaped reward.
            advantages: shape (_R,).
            tokens: generated tokens, shape (_R,).
            responses: texts, or sequences of token ids.
            truncated: cut off at the length limit, shape (_R,).
            policy_version: training step that generated each, shape (_R,), or one for all.
            rollout_ids: names, unique within a prompt; a repeated one counts once, however late.
            extras: further columns, kept in the store.
            kind: "train" or "probe"; by default what the prompts were handed out for.
            round: the round they belong to; by default the one each prompt is in flight in, else its last one.
            resolve: how the named prompts are settled, whatever their number of rollouts: "trained" (for probes this
                is "observed"), "dropped", "observed" or "lost"; None records a part of their groups and leaves them
                open.
            reason: why they are dropped or lost.

        Raises:
            InvalidRollouts, UnknownPrompt: nothing was recorded.
            WriteFailed: the store could not be written to, now or before.
        """
        columns: dict[str, Any] = {
            "solved": solved,
            "advantages": advantages,
            "tokens": tokens,
            "responses": responses,
            "truncated": truncated,
            "policy_version": for_each(policy_version, prompt_ids),
            "rollout_ids": rollout_ids,
            "extras": extras or {},
        }
        rollouts = Rollouts(prompt_ids, rewards, kind=kind or "train", **columns)
        if resolve is not None:
            _check_event("resolve", resolve)
        told = Told(*self._core.tell(self.consumer, rollouts, round, resolve, reason))
        self._write_metrics(told.closed)
        return told

    def admit(self, rollouts: Rollouts) -> Admission:
        """Let the strategy judge finished groups: keep, drop, or more rollouts first; nothing is recorded."""
        return self._core.curriculum.admit(rollouts)

    def resolve(self, prompt_ids: ArrayLike, event: Resolution, reason: str | None = None) -> tuple[int, ...]:
        """Settle prompts in flight without outcomes, such as groups dropped as stale; gives the rounds it closed.

        Args:
            prompt_ids: prompts in flight.
            event: "trained", "dropped", "observed" or "lost".
            reason: why, such as "stale", "failed", "surplus", "zero variance".

        Raises:
            InvalidRollouts: a prompt is not in flight; nothing was changed.
        """
        _check_event("event", event)
        ids = np.unique(prompt_id_array(prompt_ids, "`prompt_ids` of `resolve`"))
        closed = self._core.resolve(self.consumer, ids, event, reason)
        self._write_metrics(closed)
        return closed

    def abandon(self, consumer: str) -> int:
        """Take over what another consumer left unsettled, as a recorded event; gives the number of prompts.

        They come again here, oldest round first.
        """
        if consumer == self.consumer:
            raise InvalidParameter(f'`consumer` of `abandon` must be another one than "{consumer}", which is this one')
        moved = self._core.abandon(consumer, self.consumer)
        self._to_reissue = sorted({*self._to_reissue, *moved})
        return len({prompt for place in moved for prompt in self._core.rounds.unsettled(*place).tolist()})

    @property
    def round(self) -> int:
        """The lowest round of this consumer that is not closed; when all are, the number of the next one."""
        return self._core.lowest_round(self.consumer)

    @property
    def ticket(self) -> Ticket | None:
        """The last part that this consumer was handed of its lowest open round; None when no round is open."""
        return self._core.open_ticket(self.consumer)

    @property
    def curriculum(self) -> Curriculum:
        """The strategy; look, but ask and tell through the scheduler."""
        return self._core.curriculum

    @property
    def run(self) -> Run:
        """What the run was started with."""
        return self._core.run

    def metrics(self) -> dict[str, float]:
        """Numbers to log: those of the strategy, and ``scheduler/…`` from the ledger (docs/metrics.md lists them)."""
        lost = {f"scheduler/{name}": float(count) for name, count in self._outlet.counts().items()}
        return self._core.metrics() | lost

    def _write_metrics(self, closed: tuple[int, ...]) -> None:
        if closed and self._outlet:
            metrics = self.metrics()
            self._outlet.write(metrics, int(metrics[f"curriculum/{self.curriculum.name}/rounds_closed"]))

    def explain(self, prompt_id: int) -> dict[str, Any]:
        """Why a prompt was or was not picked, and its history in this run."""
        known = self._core.curriculum.explain(prompt_id)
        history = self.store.runs.history(self._core.run.run_id, int(prompt_id))
        return {**known, "in_flight_in_round": self._core.rounds.round_of(int(prompt_id)), "history": history}

    def close(self) -> None:
        """Write a full snapshot of the strategy, and close the writers. The store stays open; closing it does both."""
        try:
            self._core.save_snapshot()
        finally:
            self._outlet.close()

    def __repr__(self) -> str:
        return f"Scheduler(run={self._core.run.name!r}, consumer={self.consumer!r}, round={self.round})"


def _check_event(name: str, event: str) -> None:
    if event not in RESOLUTIONS:
        allowed = ", ".join(f'"{known}"' for known in RESOLUTIONS)
        raise InvalidParameter(f"`{name}` must be one of {allowed}; got {event!r}")
