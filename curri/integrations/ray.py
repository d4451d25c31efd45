"""Ray: one actor owns the store, and trainers in other processes ask it and tell it.

>>> from curri.integrations.ray import SchedulerActor  # doctest: +SKIP
>>> actor = SchedulerActor("prompts.duckdb", "frontier", run="r1")  # doctest: +SKIP
>>> scheduler = actor.consumer("trainer-0")  # in each trainer, under a name of its own  # doctest: +SKIP
>>> selection = scheduler.ask(64)  # doctest: +SKIP
>>> told = scheduler.tell(prompt_ids, rewards)  # doctest: +SKIP

Tested with Ray 2.60.0; the page ``docs/trainers/ray.md`` says what survives what.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from curri.errors import CurriError, InvalidInput, InvalidParameter, RunMismatch, StoreError, UnknownName, WriteFailed
from curri.scheduler import Scheduler, Told
from curri.store import open_store
from curri.types import Rollouts, prompt_id_array

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike

    from curri.scheduler import Resolution
    from curri.store import PromptStore
    from curri.types import Admission, Bools, Ints, Kind, Prompt, Selection, Ticket

__all__ = ["RemoteScheduler", "SchedulerActor"]

NAME = "curri"
"""Of the actor, and of its namespace, where none is given."""

PATIENCE = 60.0
"""Seconds that a call waits for an actor that is being restarted."""

_PAUSE = 0.1


class _Work(NamedTuple):
    """What an actor serves."""

    store: str
    strategy: str | None
    run: str
    model: str | None
    parameters: dict[str, Any]


class _Caller(NamedTuple):
    """Who calls: a consumer's name, the one object that speaks for it, and the Ray actor it lives in, if any."""

    consumer: str
    token: str
    actor: Any


# ---- in the actor's process ------------------------------------------------------------------------------------------


class _Server:
    """The body of the actor. What it must not forget is in the store; the rest it is told again with every call."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._store: PromptStore | None = None
        self._tokens: dict[str, str] = {}
        self._watched: dict[str, _Watch] = {}

    def open(self, work: _Work) -> None:
        """Open store and run, and refuse another run than the one that is served."""
        mine = self._work
        if (work.store, work.run) != (mine.store, mine.run):
            raise RunMismatch(
                f'the actor serves run "{mine.run}" of {mine.store}; got run "{work.run}" of {work.store}',
                hint="give the other one a `name` of its own",
            )
        Scheduler(self._opened(), work.strategy, run=work.run, model=work.model, **work.parameters)

    def status(self) -> dict[str, Any]:
        """What it serves, and in which process."""
        return {
            "pid": os.getpid(),
            "store": self._work.store,
            "run": self._work.run,
            "open": self._store is not None,
            "consumers": sorted(self._tokens),
        }

    def close(self) -> None:
        """Close the store, with a snapshot."""
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def connect(self, caller: _Caller) -> None:
        """From here on this caller speaks for its consumer."""
        self._tokens[caller.consumer] = caller.token
        self._watched.pop(caller.consumer, None)
        with self._serving(caller):
            pass

    def leave(self, caller: _Caller) -> None:
        """The consumer is done, for now; what it holds stays its own."""
        self._know(caller)
        self._forget(caller.consumer)

    def ask(self, caller: _Caller, n: int, held: set[tuple[int, int]], asked: dict[str, Any]) -> tuple[Selection, int]:
        """The oldest part that the consumer should have and does not say it holds, or a new round; and ``round``."""
        with self._serving(caller) as scheduler:
            self._bury(scheduler)
            while True:
                selection = scheduler.ask(n, **asked)
                if not _is_held(selection, held):
                    return replace(selection, fetch=None), scheduler.round

    def top_up(self, caller: _Caller, ticket: Ticket, held: set[tuple[int, int]]) -> Selection | None:
        """As ``Scheduler.top_up``, without the parts that the consumer says it holds."""
        with self._serving(caller) as scheduler:
            while True:
                selection = scheduler.top_up(ticket)
                if selection is None or not _is_held(selection, held):
                    return None if selection is None else replace(selection, fetch=None)

    def tell(
        self, caller: _Caller, rollouts: Rollouts, kind: Kind | None, number: int | None, settle: dict[str, Any]
    ) -> Told:
        """As ``Scheduler.tell``."""
        columns = {
            name: getattr(rollouts, name)
            for name in ("solved", "advantages", "tokens", "responses", "truncated", "policy_version", "rollout_ids")
        }
        with self._serving(caller) as scheduler:
            return scheduler.tell(
                rollouts.prompt_ids,
                rollouts.rewards,
                **columns,
                extras=rollouts.extras,
                kind=kind,
                round=number,
                **settle,
            )

    def resolve(
        self,
        caller: _Caller,
        rounds: dict[int, int | None],
        event: Resolution,
        reason: str | None,
        *,
        again: bool = False,
    ) -> tuple[int, ...]:
        """As ``Scheduler.resolve``; when it is said again, those that the first time settled are left alone."""
        with self._serving(caller) as scheduler:
            ids = list(rounds)
            if again:
                ids = [i for i in ids if scheduler.explain(i)["in_flight_in_round"] == rounds[i] is not None]
            return scheduler.resolve(ids, event, reason) if ids else ()

    def abandon(self, caller: _Caller, consumer: str) -> int:
        """As ``Scheduler.abandon``."""
        with self._serving(caller) as scheduler:
            self._forget(consumer)
            return scheduler.abandon(consumer)

    def admit(self, caller: _Caller, rollouts: Rollouts) -> Admission:
        """As ``Scheduler.admit``."""
        with self._serving(caller) as scheduler:
            return scheduler.admit(rollouts)

    def metrics(self, caller: _Caller) -> dict[str, float]:
        """As ``Scheduler.metrics``."""
        with self._serving(caller) as scheduler:
            return scheduler.metrics()

    def explain(self, caller: _Caller, prompt_id: int) -> dict[str, Any]:
        """As ``Scheduler.explain``."""
        with self._serving(caller) as scheduler:
            return scheduler.explain(prompt_id)

    def round(self, caller: _Caller) -> int:
        """As ``Scheduler.round``."""
        with self._serving(caller) as scheduler:
            return scheduler.round

    def fetch(self, prompt_ids: Ints) -> list[Prompt]:
        """The texts of prompts."""
        return self._opened().texts.fetch(prompt_ids)

    @contextlib.contextmanager
    def _serving(self, caller: _Caller) -> Iterator[Scheduler]:
        self._know(caller)
        try:
            yield Scheduler(self._opened(), run=self._work.run, consumer=caller.consumer)
        except WriteFailed:
            with contextlib.suppress(CurriError):
                self.close()  # the next call opens it again, and goes on from what was written
            raise

    def _opened(self) -> PromptStore:
        """The store, with its run; after a restart this is where all comes back."""
        if self._store is None:
            work = self._work
            store = open_store(work.store)
            try:
                Scheduler(store, work.strategy, run=work.run, model=work.model, **work.parameters)
            except CurriError:
                store.close()
                raise
            self._store = store
        return self._store

    def _know(self, caller: _Caller) -> None:
        """Refuse whoever was replaced; after a restart the first to call is known again."""
        if self._tokens.setdefault(caller.consumer, caller.token) != caller.token:
            raise InvalidInput(
                f'another process is consumer "{caller.consumer}" now',
                hint="give every trainer a consumer name of its own; a trainer that starts again may take over its own",
            )
        if caller.actor is not None and caller.consumer not in self._watched:
            self._watched[caller.consumer] = _Watch(caller.actor)

    def _forget(self, consumer: str) -> None:
        self._watched.pop(consumer, None)
        self._tokens.pop(consumer, None)

    def _bury(self, heir: Scheduler) -> None:
        """Hand what dead consumers hold to the one that asks."""
        for consumer in [name for name, watch in self._watched.items() if name != heir.consumer and watch.is_dead()]:
            heir.abandon(consumer)
            self._forget(consumer)


class _Watch:
    """Hears from Ray whether an actor is dead for good. Nothing waits for it, and no clock decides."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._answer = actor.__ray_ready__.remote()

    def is_dead(self) -> bool:
        """Whether Ray will not start it again."""
        if not ray.wait([self._answer], timeout=0)[0]:
            return False  # at work, or being restarted
        try:
            ray.get(self._answer)
        except ActorDiedError:
            return True
        except RayActorError:
            pass  # it comes again
        self._answer = self._actor.__ray_ready__.remote()
        return False


def _is_held(selection: Selection, held: set[tuple[int, int]]) -> bool:
    return selection.reissued and (selection.ticket.round, selection.ticket.part) in held


# ---- in the processes of those who use it ----------------------------------------------------------------------------


class _Line:
    """A way to the actor that outlives the actor's process; may be sent to other processes."""

    def __init__(self, name: str, namespace: str, patience: float) -> None:
        self.name, self.namespace, self.patience = name, namespace, patience
        self._actor: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_actor": None}

    def check(self) -> None:
        """Refuse at once where there is no such actor.

        Raises:
            UnknownName: there is none.
        """
        try:
            self._actor = ray.get_actor(self.name, namespace=self.namespace)
        except ValueError as error:
            raise UnknownName(
                f'there is no scheduler actor "{self.name}" in the Ray namespace "{self.namespace}"',
                hint="start it with curri.integrations.ray.SchedulerActor(store, strategy, run=...)",
            ) from error

    def call(self, method: str, *args: Any, again: Mapping[str, Any] | None = None) -> Any:
        """Call a method of the actor; while it is being restarted, wait and call again.

        Args:
            method: its name.
            args: its arguments.
            again: further keywords for when it may have been heard before.

        Raises:
            CurriError: what the method raised.
            StoreError: the actor did not come back in time.
        """
        until = time.monotonic() + self.patience
        keywords: Mapping[str, Any] = {}
        while True:
            try:
                if self._actor is None:
                    self.check()
                return ray.get(getattr(self._actor, method).remote(*args, **keywords))
            except RayTaskError as error:
                if isinstance(error.cause, CurriError):
                    raise error.cause from None
                raise
            except (RayActorError, UnknownName) as error:
                self._actor, keywords = None, again or {}
                if time.monotonic() >= until:
                    raise StoreError(
                        f'the scheduler actor "{self.name}" has not answered for {self.patience:g} seconds',
                        hint="`ray list actors` says why; the store has all that was told. Start the actor again, and "
                        "then call again",
                    ) from error
                time.sleep(_PAUSE)

    def fetch(self, prompt_ids: Ints) -> list[Prompt]:
        """The texts of prompts."""
        texts: list[Prompt] = self.call("fetch", prompt_ids)
        return texts


def _started(work: _Work, name: str, namespace: str, options: Mapping[str, Any]) -> Any:
    """The actor, on this node; another program may have started it just now."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    chosen: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": here, **options}
    fixed: dict[str, Any] = {"lifetime": "detached", "get_if_exists": True, "max_restarts": -1}
    server: Any = ray.remote(_Server)
    return server.options(**chosen, **fixed, name=name, namespace=namespace).remote(work)


class SchedulerActor:
    """A named Ray actor that owns a store and serves several trainers; found if it is there, else started.

    It is detached: it outlives the program that started it, until ``stop`` or the end of the cluster. Ray starts its
    process again when it dies, and it goes on from the store. It runs on the node of the program that starts it, where
    the store is, and keeps the store locked: commands that read use the copy that it publishes.

    Args:
        store: path of a store on this node; nobody else may have it open for writing.
        strategy: registered name; may be left out for a run that exists.
        run: name of the run; made on first use.
        name: of the actor; one for each store.
        namespace: Ray's namespace for it.
        model: as for ``curri.Scheduler``.
        patience: seconds that calls wait while the actor is being restarted.
        options: further options of Ray, such as ``{"resources": {"head": 1}, "scheduling_strategy": "DEFAULT"}``.
        parameters: of the strategy.

    Raises:
        RunMismatch: the actor serves another run, or the run has another strategy or parameter.
        StoreNotFound, StoreLocked: the store cannot be opened.
        UnknownName: no such strategy or model.
    """

    def __init__(
        self,
        store: str | os.PathLike[str],
        strategy: str | None = None,
        *,
        run: str,
        name: str = NAME,
        namespace: str = NAME,
        model: str | None = None,
        patience: float = PATIENCE,
        options: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> None:
        work = _Work(str(Path(store).resolve()), strategy, run, model, parameters)
        self._line = _Line(name, namespace, patience)
        started = None
        try:
            self._line.check()
        except UnknownName:
            started = _started(work, name, namespace, options or {})
        try:
            self._line.call("open", work)
        except CurriError:
            if started is not None and not ray.get(started.status.remote())["open"]:  # nobody was ever served
                ray.kill(started)
            raise

    @classmethod
    def find(cls, name: str = NAME, namespace: str = NAME, *, patience: float = PATIENCE) -> SchedulerActor:
        """The actor that somebody else started.

        Raises:
            UnknownName: there is none.
        """
        found = cls.__new__(cls)
        found._line = _Line(name, namespace, patience)  # noqa: SLF001  its own class
        found._line.check()  # noqa: SLF001
        return found

    def consumer(self, name: str) -> RemoteScheduler:
        """What a trainer holds; see :class:`RemoteScheduler`.

        Args:
            name: the trainer's own, and the same after it was started again.
        """
        return RemoteScheduler(name, self._line)

    def status(self) -> dict[str, Any]:
        """The process id of the actor, store, run, and the consumers known since it was started."""
        status: dict[str, Any] = self._line.call("status")
        return status

    def stop(self) -> None:
        """Close the store and end the actor; rounds that are open stay so."""
        self._line.call("close")
        actor = ray.get_actor(self._line.name, namespace=self._line.namespace)
        ray.kill(actor)

    def __repr__(self) -> str:
        return f"SchedulerActor(name={self._line.name!r}, namespace={self._line.namespace!r})"


class RemoteScheduler:
    """What a trainer holds of a :class:`SchedulerActor`: the calls of ``curri.Scheduler``, answered in its process.

    It remembers which rounds it was handed, so a call that was cut off by the death of the actor is made again without
    any prompt being handed out twice or counted twice. A new one of the same name takes over the old one's prompts:
    they come again first, and the old one is refused from then on. Made with ``SchedulerActor.consumer``, in the
    process that uses it; for one thread at a time.

    Errors are those of ``curri.Scheduler``, raised here. ``StoreError`` says that the actor did not come back.
    """

    def __init__(self, consumer: str, line: _Line) -> None:
        if not (isinstance(consumer, str) and consumer):
            raise InvalidParameter(f"`name` of `consumer` must be a non-empty str; got {consumer!r}")
        context = ray.get_runtime_context()
        actor = context.current_actor if context.get_actor_id() else None
        self.consumer = consumer
        self._line = line
        self._caller = _Caller(consumer, uuid.uuid4().hex, actor)
        self._held: dict[tuple[int, int], set[int]] = {}
        self._n_told = 0
        line.call("connect", self._caller)

    def __getstate__(self) -> dict[str, Any]:
        raise InvalidInput(
            f'consumer "{self.consumer}" cannot be sent to another process: two would ask in one name',
            hint="send the SchedulerActor, and call its `consumer` there",
        )

    def ask(
        self,
        n: int,
        *,
        kind: Kind = "train",
        exclude: ArrayLike | None = None,
        among: ArrayLike | None = None,
        quota: Mapping[str, int] | None = None,
    ) -> Selection:
        """The next round; arguments and errors as in ``Scheduler.ask``.

        First comes what this consumer should hold and does not: rounds of a trainer of this name that was stopped, and
        of consumers that are dead.
        """
        asked = {"kind": kind, "exclude": exclude, "among": among, "quota": quota}
        selection, lowest = self._line.call("ask", self._caller, n, set(self._held), asked)
        for place in [place for place in self._held if place[0] < lowest]:  # another consumer settled it
            del self._held[place]
        return self._take(selection)

    def top_up(self, ticket: Ticket) -> Selection | None:
        """Extra rollouts for undecided prompts of an open round, as ``Scheduler.top_up``."""
        selection = self._line.call("top_up", self._caller, ticket, set(self._held))
        return None if selection is None else self._take(selection)

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
        resolve: Resolution | None = "trained",
        reason: str | None = None,
    ) -> Told:
        """Record outcomes; arguments and errors as in ``Scheduler.tell``.

        Prompts belong to the rounds that they were handed out in here; where these are several, each is a transaction
        of its own. Where the actor died after it had recorded a call, its repetition counts all of it as repeated.
        """
        versions = None if policy_version is None else np.broadcast_to(policy_version, np.shape(prompt_ids))
        columns: dict[str, Any] = {
            "solved": solved,
            "advantages": advantages,
            "tokens": tokens,
            "responses": responses,
            "truncated": truncated,
            "policy_version": versions,
            "rollout_ids": rollout_ids,
            "extras": extras or {},
        }
        rollouts = Rollouts(prompt_ids, rewards, kind=kind or "train", **columns)
        if resolve is None and rollout_ids is None:
            rollouts = self._named(rollouts)
        settle = {"resolve": resolve, "reason": reason}
        parts = [
            self._line.call("tell", self._caller, rollouts.take(mine), kind, number, settle)
            for number, mine in self._by_round(rollouts.prompt_ids)
        ]
        if resolve is not None:
            self._let_go(rollouts.prompt_ids.tolist())
        return Told(
            sum(part.new for part in parts),
            sum(part.repeated for part in parts),
            np.concatenate([part.unissued for part in parts]) if parts else np.empty(0, dtype=np.int64),
            tuple(number for part in parts for number in part.closed),
        )

    def resolve(self, prompt_ids: ArrayLike, event: Resolution, reason: str | None = None) -> tuple[int, ...]:
        """Settle prompts in flight without outcomes, as ``Scheduler.resolve``."""
        ids = np.unique(prompt_id_array(prompt_ids, "`prompt_ids` of `resolve`")).tolist()
        rounds = self._rounds()
        wanted = {prompt: rounds.get(prompt) for prompt in ids}
        closed: tuple[int, ...] = self._line.call("resolve", self._caller, wanted, event, reason, again={"again": True})
        self._let_go(ids)
        return closed

    def abandon(self, consumer: str) -> int:
        """Take over what another consumer left unsettled, as ``Scheduler.abandon``.

        Where consumers are Ray actors this is done for those that Ray has given up, whenever another one asks.
        """
        if consumer == self.consumer:
            raise InvalidParameter(f'`consumer` of `abandon` must be another one than "{consumer}", which is this one')
        prompts: int = self._line.call("abandon", self._caller, consumer)
        return prompts

    def admit(self, rollouts: Rollouts) -> Admission:
        """Let the strategy judge finished groups, as ``Scheduler.admit``."""
        admission: Admission = self._line.call("admit", self._caller, rollouts)
        return admission

    def metrics(self) -> dict[str, float]:
        """Numbers to log, as ``Scheduler.metrics``; they are of the run, not of this consumer."""
        metrics: dict[str, float] = self._line.call("metrics", self._caller)
        return metrics

    def explain(self, prompt_id: int) -> dict[str, Any]:
        """Why a prompt was or was not picked, as ``Scheduler.explain``."""
        known: dict[str, Any] = self._line.call("explain", self._caller, prompt_id)
        return known

    @property
    def round(self) -> int:
        """The lowest round of this consumer that is not closed; when all are, the number of the next one."""
        number: int = self._line.call("round", self._caller)
        return number

    def close(self) -> None:
        """Leave. What is not settled stays this consumer's, and comes to the next one of its name."""
        self._line.call("leave", self._caller)
        self._held.clear()

    def _take(self, selection: Selection) -> Selection:
        self._held[selection.ticket.round, selection.ticket.part] = set(selection.prompt_ids.tolist())
        return replace(selection, fetch=self._line.fetch)

    def _let_go(self, prompt_ids: Iterable[int]) -> None:
        for held in self._held.values():
            held.difference_update(prompt_ids)
        self._held = {place: prompts for place, prompts in self._held.items() if prompts}

    def _rounds(self) -> dict[int, int]:
        """The round of each prompt that is held."""
        return {prompt: number for (number, _), prompts in self._held.items() for prompt in prompts}

    def _by_round(self, prompt_ids: Ints) -> list[tuple[int | None, Bools]]:
        """Responses by the round their prompts are held in; None for prompts that are not held."""
        rounds = self._rounds()
        numbers = np.array([rounds.get(prompt, -1) for prompt in prompt_ids.tolist()], dtype=np.int64)
        return [(None if number < 0 else number, numbers == number) for number in np.unique(numbers).tolist()]

    def _named(self, rollouts: Rollouts) -> Rollouts:
        """Names for the responses of a part of a group: without them a repetition could not be told from new ones."""
        names = [f"{self._caller.token}/{self._n_told + i}" for i in range(len(rollouts))]
        self._n_told += len(rollouts)
        return rollouts.with_columns(rollout_ids=np.array(names, dtype=object))

    def __repr__(self) -> str:
        return f"RemoteScheduler(consumer={self.consumer!r}, actor={self._line.name!r})"
