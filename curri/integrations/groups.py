"""Prompts of a run, handed out and told group by group: for trainers that ask in their own time and use no sampler."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from curri.errors import InvalidParameter, PoolExhausted, StateMismatch
from curri.integrations.torch.backing import StoreBacking
from curri.integrations.torch.connecting import connected
from curri.integrations.torch.rows import read_ids
from curri.scheduler import Scheduler
from curri.types import Rollouts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from curri.integrations.torch.backing import Pick
    from curri.scheduler import Resolution

__all__ = ["Group", "Groups"]

FORMAT = 1


class Group(NamedTuple):
    """One prompt, handed out once.

    Attributes:
        prompt_id: its id in the store.
        row: its row in the trainer's dataset.
        n_rollouts: how many rollouts the strategy wants of it.
        round: the round it was picked for.
    """

    prompt_id: int
    row: int
    n_rollouts: int
    round: int


class Groups:
    """Hands a run's prompts out one after the other, and hears of them in any order.

    What an earlier process was handed and never settled comes first; after :meth:`restore`, all that the checkpoint's
    weights have not seen. A prompt that is out is not picked again. For several threads.

    Args:
        scheduler: whose run it is; ask and tell it through this object only.
        rows: the trainer's dataset, with an id in every row; see ``curri.integrations.torch.CurriculumSampler``.
        column: the column with the ids; with ``ids``, what to call the place where they stand.
        ids: the ids, one a row, in place of the column.

    Raises:
        InvalidData: a row has no id, or two rows have the same one.
        InvalidParameter: it is no ``Scheduler``.
        UnknownPrompt: an id that the store does not have.
    """

    def __init__(self, scheduler: Scheduler, rows: Any, column: str, ids: Sequence[Any] | None = None) -> None:
        if not isinstance(scheduler, Scheduler):
            raise InvalidParameter(
                f"this trainer needs a `curri.Scheduler`, whose store survives a crash; got {type(scheduler).__name__}"
            )
        self._rows, backing = connected(scheduler, read_ids(rows, column, ids), column, None)
        assert isinstance(backing, StoreBacking)  # noqa: S101  that is what it is for a scheduler
        self._backing = backing
        self.scheduler = scheduler
        self._lock = threading.RLock()
        self._waiting: deque[Group] = deque()
        self._started = False
        self._numbers: list[int] | None = None
        self._out: dict[int, dict[int, list[Group]]] = {}  # by prompt and round
        self._handed_out = self._again = self._staleness = self._short_rounds = 0

    def __len__(self) -> int:
        """Rows of the dataset."""
        return len(self._rows)

    # ---- handing out --------------------------------------------------------------------------------------------

    def take(self, n: int, *, at_once: int = 1) -> list[Group]:
        """The next ``n`` groups.

        Args:
            n: how many.
            at_once: least number of prompts of a new round; those that are not taken wait for the next call. Where
                fewer are left, a round has no more than this call needs; ``groups/short_rounds`` counts these.

        Raises:
            PoolExhausted: fewer prompts are left than that.
        """
        with self._lock:
            self._start()
            while len(self._waiting) < n:
                self._waiting.extend(self._groups([self._ask(n - len(self._waiting), at_once)]))
            taken = [self._waiting.popleft() for _ in range(n)]
            for group in taken:
                self._out.setdefault(group.prompt_id, {}).setdefault(group.round, []).append(group)
            self._handed_out += n
            return taken

    def batch(self, index: int, n: int) -> list[Group]:
        """The groups of this consumer's round number ``index``, the same whenever it is asked for.

        Args:
            index: 0 for its first round. The next one that was never asked for is picked now.
            n: prompts of a new round.

        Raises:
            InvalidParameter: rounds before it were never asked for.
            PoolExhausted: fewer prompts are left than that.
        """
        with self._lock:
            self._started = True
            numbers = self._own_rounds()
            if not 0 <= index <= len(numbers):
                raise InvalidParameter(
                    f"batch {index} was asked for while {len(numbers)} were picked: each comes after those before it",
                    hint="go through the batches in order; a training that starts over takes a new run name",
                )
            again = index < len(numbers)
            pick = self._backing.since(numbers[index])[0] if again else self._ask(n)
            groups = list(self._groups([pick]))
            for group in groups:
                self._out.setdefault(group.prompt_id, {})[group.round] = []
            for group in groups:
                self._out[group.prompt_id][group.round].append(group)
            self._handed_out += len(groups)
            if again:
                self._again += len(groups)
            else:
                numbers.append(pick.round)
            return groups

    def _own_rounds(self) -> list[int]:
        """Numbers of the rounds that this consumer was handed, ascending."""
        if self._numbers is None:
            scheduler = self.scheduler
            table = scheduler.store.runs.issued(scheduler.run.run_id, scheduler.consumer, 0)
            self._numbers = np.unique(table.column("round").to_numpy()).tolist()
        return self._numbers

    def _start(self) -> None:
        if not self._started:
            self._waiting = deque(self._groups(self._backing.open()))
            self._again += len(self._waiting)
            self._started = True

    def _ask(self, n: int, at_once: int = 1) -> Pick:
        self._staleness = self._n_out
        if at_once > n:
            try:
                return self._backing.ask(at_once)
            except PoolExhausted:
                self._short_rounds += 1
        return self._backing.ask(n)

    def _groups(self, picks: Iterable[Pick]) -> Iterator[Group]:
        for pick in picks:
            columns = pick.prompt_ids, self._rows.of(pick.prompt_ids), pick.n_rollouts, pick.copies
            for prompt, row, n_rollouts, copies in zip(*(column.tolist() for column in columns), strict=True):
                yield from [Group(prompt, row, n_rollouts, pick.round)] * copies

    # ---- hearing ------------------------------------------------------------------------------------------------

    def tell(
        self,
        ids: Any,
        rewards: Any,
        *,
        round: int | None = None,  # noqa: A002  as in ``Scheduler.tell``
        resolve: Resolution = "trained",
        reason: str | None = None,
        **columns: Any,
    ) -> None:
        """Hand in whole groups, before any filter, one entry a response; keywords as in ``Scheduler.tell``.

        A group belongs to the oldest round that its prompt is out for; where there are several rounds, each is a
        transaction of its own.

        Args:
            ids: shape (_R,), as the dataset has them.
            rewards: shape (_R,).
            round: the round they belong to, where that is known.
            resolve: how they are settled.
            reason: why they are dropped.
            columns: further ones of ``Scheduler.tell``, each of shape (_R,).

        Raises:
            InvalidRollouts, UnknownPrompt: nothing was recorded.
        """
        with self._lock:
            rollouts = Rollouts(self._rows.prompts(ids), rewards, **columns)
            self.scheduler.refuse_unplaceable(rollouts.prompt_ids, round)
            prompts, places = np.unique(rollouts.prompt_ids, return_inverse=True)
            rounds = np.array([self._oldest(p) if round is None else round for p in prompts.tolist()], dtype=np.int64)
            for number in np.unique(rounds).tolist():
                part = rollouts.take(rounds[places] == number)
                self.scheduler.tell(
                    part.prompt_ids,
                    part.rewards,
                    round=None if number < 0 else number,
                    resolve=resolve,
                    reason=reason,
                    **{name: getattr(part, name) for name in {*columns, "solved"}},
                )
            self._forget(prompts.tolist(), rounds.tolist())

    def resolve(self, ids: Any, event: Resolution, reason: str) -> None:
        """Settle groups that were handed out and will never be told; others stay as they are."""
        with self._lock:
            out = [prompt for prompt in np.unique(self._rows.prompts(ids)).tolist() if prompt in self._out]
            if out:
                rounds = {prompt: (self._oldest(prompt),) for prompt in out}
                self._backing.resolve(np.array(out), event, reason, gathered=False, replayed=rounds.__getitem__)
                self._forget(out, [number for (number,) in rounds.values()])

    def out(self) -> list[Group]:
        """Groups that were handed out and are not heard of."""
        with self._lock:
            return [group for rounds in self._out.values() for groups in rounds.values() for group in groups]

    def out_of(self, name: Any) -> list[Group]:
        """Groups of one prompt that were handed out and are not heard of, oldest first; by its id in the dataset."""
        with self._lock:
            rounds = self._out.get(int(self._rows.prompts([name])[0]), {})
            return [group for number in sorted(rounds) for group in rounds[number]]

    def _oldest(self, prompt: int) -> int:
        return min(self._out.get(prompt, ()), default=-1)

    def _forget(self, prompts: Iterable[int], rounds: Iterable[int]) -> None:
        for prompt, number in zip(prompts, rounds, strict=True):
            out = self._out.get(prompt, {})
            out.pop(number, None)
            if not out:
                self._out.pop(prompt, None)

    @property
    def _n_out(self) -> int:
        return sum(len(groups) for rounds in self._out.values() for groups in rounds.values())

    # ---- state --------------------------------------------------------------------------------------------------

    def state(self, untrained: Iterable[Group] = ()) -> dict[str, Any]:
        """What a checkpoint has to remember, as small JSON; the rest is in the store.

        Args:
            untrained: groups that were told and did not reach the weights yet; they will come again, too.
        """
        with self._lock:
            self._start()
            listed = sorted([*untrained, *self.out(), *self._waiting], key=lambda group: group.round)
            return {
                "format": FORMAT,
                "mark": self._backing.mark(),
                "open": [[group.prompt_id, group.n_rollouts, group.round] for group in listed],
            }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a checkpoint: what its weights have not seen comes first, as it was picked, told since or not.

        Raises:
            StateMismatch: it is of another store, run or consumer, or newer than the store. Nothing is then changed.
        """
        if state.get("format") != FORMAT or not {"mark", "open"} <= state.keys():
            raise StateMismatch("this is no state of a curriculum", hint="it is what the adapter itself saved")
        with self._lock:
            mark = dict(state["mark"])
            self._backing.check(mark)
            rows = self._rows.of(np.array([prompt for prompt, _, _ in state["open"]], dtype=np.int64)).tolist()
            listed = [Group(p, row, n, number) for (p, n, number), row in zip(state["open"], rows, strict=True)]
            self._waiting = deque([*listed, *self._groups(self._backing.since(mark["rounds"]))])
            self._again += len(self._waiting)
            self._out.clear()
            self._started = True

    def metrics(self) -> dict[str, float]:
        """Numbers to log: those of the scheduler, and ``groups/…`` of this process.

        ``groups/staleness`` is how many groups were out, and not heard of, when the last round was picked.
        """
        with self._lock:
            own = {
                "open": self._n_out,
                "waiting": len(self._waiting),
                "handed_out": self._handed_out,
                "handed_out_again": self._again,
                "short_rounds": self._short_rounds,
                "staleness": self._staleness,
            }
            return self.scheduler.metrics() | {f"groups/{name}": float(value) for name, value in own.items()}
