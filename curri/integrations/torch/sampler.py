"""Samplers for PyTorch's ``DataLoader`` that yield what a curriculum picks, and carry back what came of it."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch.utils.data import Sampler

from curri.errors import CurriError, InvalidParameter, StoreForked
from curri.integrations.torch.connecting import connected
from curri.integrations.torch.ranks import Ranks
from curri.integrations.torch.rows import read_ids
from curri.integrations.torch.stream import Limits, Stream, TooStale
from curri.types import for_each

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Sized
    from os import PathLike

    from numpy.typing import ArrayLike

    from curri.curricula.base import Curriculum
    from curri.integrations.torch.stream import WhenStale
    from curri.scheduler import Resolution, Scheduler, Told
    from curri.types import Ints, Kind

__all__ = ["CurriculumBatchSampler", "CurriculumSampler", "TooStale"]

ItemT_co = TypeVar("ItemT_co", covariant=True)


class _Base(Sampler[ItemT_co]):
    """What both samplers share; see :class:`CurriculumSampler`."""

    def __init__(
        self,
        data_source: Sized,
        curriculum: Scheduler | Curriculum | None,
        *,
        prompts: int,
        id_column: str = "prompt_id",
        ids: ArrayLike | None = None,
        group_size: int | None = 1,
        repeats: int = 1,
        rounds: int | None = None,
        max_staleness: int | None = None,
        when_stale: WhenStale = "raise",
        wait_seconds: float = 600.0,
        distributed: bool | None = None,
        shard: bool | None = None,
    ) -> None:
        self.prompts = _count("prompts", prompts)
        self.group_size = None if group_size is None else _count("group_size", group_size)
        self.repeats = _count("repeats", repeats)
        if when_stale not in ("raise", "wait"):
            raise InvalidParameter(f'`when_stale` must be "raise" or "wait"; got {when_stale!r}')
        self._alone_by_choice = distributed is False
        self._ranks = None if self._alone_by_choice or _world() == 1 else Ranks()
        self._shard = _shard_of(self._ranks, self.prompts, shard=shard)
        if self._ranks is not None and when_stale == "wait":
            raise InvalidParameter('`when_stale="wait"` is for one process; ranks that wait would wait for each other')
        own_ids = read_ids(data_source, id_column, ids)
        self._rows, self._backing = connected(curriculum, own_ids, id_column, self._ranks)
        self.rounds = _count("rounds", max(len(self._rows) // self.prompts, 1) if rounds is None else rounds)
        self._stream = Stream(
            self._backing,
            Limits(
                prompts=self.prompts,
                rounds=self.rounds,
                whole=self.repeats > 1 or self._ranks is not None,
                max_staleness=None if max_staleness is None else _count("max_staleness", max_staleness, low=0),
                when_stale=when_stale,
                wait_seconds=wait_seconds,
            ),
        )
        self._pid = os.getpid()
        self.epoch = 0

    def _chunks(self) -> Iterator[list[int]]:
        """Rows of one epoch, chunk by chunk (this rank's share), each repeated as its group is large."""
        self._refuse_elsewhere("be iterated")
        self._refuse_late_ranks()
        for chunk in self._stream.chunks():
            rows = self._rows.of(chunk.prompt_ids[self._shard])
            each = chunk.n_rollouts[self._shard] if self.group_size is None else self.group_size
            yield rows.repeat(each).tolist()
            self._refuse_elsewhere("be iterated")

    # ---- feedback ---------------------------------------------------------------------------------------------------

    def tell(
        self,
        prompt_ids: Any,
        rewards: Any,
        *,
        solved: Any = None,
        advantages: Any = None,
        tokens: Any = None,
        responses: Sequence[Any] | None = None,
        truncated: Any = None,
        policy_version: Any = None,
        rollout_ids: Any = None,
        extras: Mapping[str, Any] | None = None,
        kind: Kind | None = None,
        round: int | None = None,  # noqa: A002  as in ``Scheduler.tell``
        resolve: Resolution | None = "trained",
        reason: str | None = None,
        gathered: bool = False,
    ) -> Told:
        """Hand in outcomes, before any filter, one entry a response; keywords as in ``curri.Scheduler.tell``.

        With several ranks every rank calls it, with its own responses (none, if it has none).

        Args:
            prompt_ids: shape (_R,): prompt ids, or the dataset's own ids where its column holds texts. Tensors do.
            rewards: shape (_R,).
            solved: see ``Scheduler.tell``, as for all others down to ``reason``.
            advantages: shape (_R,).
            tokens: shape (_R,).
            responses: texts, or sequences of token ids.
            truncated: shape (_R,).
            policy_version: shape (_R,), or one for all.
            rollout_ids: names, unique within a prompt.
            extras: further columns.
            kind: "train" or "probe".
            round: the round they belong to.
            resolve: "trained", "dropped", "observed", "lost"; None for a part of a group.
            reason: why they are dropped or lost.
            gathered: True where every rank hands in the responses of all ranks, as TRL's trainer has them.

        Returns:
            what became of them, the same on every rank.

        Raises:
            InvalidRollouts, UnknownPrompt: nothing was recorded.
            StateMismatch: copies of a curriculum on several ranks have become different.
            StoreForked: called in a worker process.
        """
        self._refuse_elsewhere("tell")
        known = self._prompts(prompt_ids, gathered=False)
        columns: dict[str, Any] = {
            "prompt_ids": known,
            "rewards": _array(rewards),
            "solved": _array(solved),
            "advantages": _array(advantages),
            "tokens": _array(tokens),
            "responses": responses,
            "truncated": _array(truncated),
            "policy_version": for_each(_array(policy_version), known),
            "rollout_ids": _array(rollout_ids),
            "extras": {name: _array(column) for name, column in (extras or {}).items()} or None,
            "kind": kind,
            "round": round,
            "reason": reason,
        }
        with self._stream.changed:
            if round is None:
                columns["round"] = self._stream.round_of(known)
            given = {name: column for name, column in columns.items() if column is not None}
            self._stream.tellers.add(threading.get_ident())
            told, named = self._backing.tell({**given, "resolve": resolve}, gathered=gathered)
            if resolve is not None:
                self._stream.settle(named)
            return told

    def resolve(
        self, prompt_ids: Any, event: Resolution, reason: str | None = None, *, gathered: bool = False
    ) -> tuple[int, ...]:
        """Settle prompts without outcomes, such as groups dropped as stale; gives the rounds this closed.

        Args:
            prompt_ids: prompts that were handed out and not told.
            event: "trained", "dropped", "observed" or "lost".
            reason: why.
            gathered: True where every rank names the prompts of all ranks.
        """
        self._refuse_elsewhere("resolve")
        ids = np.unique(self._prompts(prompt_ids, gathered=gathered))
        with self._stream.changed:
            replayed = self._stream.replayed
            closed, named = self._backing.resolve(ids, event, reason, gathered=gathered, replayed=replayed)
            self._stream.settle(named)
            return closed

    def _prompts(self, ids: Any, *, gathered: bool) -> Ints:
        """Prompt ids; what is wrong with them is said on every rank, or the others would wait for this one."""
        try:
            return self._rows.prompts(_array(ids))
        except CurriError as error:
            if self._ranks is not None and not gathered:
                self._ranks.refuse(error)
            raise

    @property
    def _per_batch(self) -> int:
        """Prompts of a round that this rank is handed."""
        return len(range(*self._shard.indices(self.prompts)))

    # ---- where it stands ----------------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins; it is only written down, as what is picked depends on what was told."""
        self.epoch = int(epoch)

    @property
    def staleness(self) -> int:
        """How many batches were without feedback when the last batch was picked."""
        return self._stream.staleness

    def metrics(self) -> dict[str, float]:
        """Numbers to log: ``sampler/…``, and those of the scheduler and the strategy where this process has them.

        ``sampler/staleness`` is in batches: how many were handed out and not told when the last one was picked;
        ``_mean`` and ``_max`` are over all picks of this process.
        """
        own = {**self._stream.metrics(), "epoch": self.epoch}
        return {**self._backing.metrics(), **{f"sampler/{name}": float(value) for name, value in own.items()}}

    def state_dict(self) -> dict[str, Any]:
        """Where the sampler stands, as a small dict of JSON: the position in the epoch and a digest of the history.

        With a store that is all there is to save. Without one, :meth:`save` holds the rest; neither is taken without
        the other.
        """
        with self._stream.changed:
            return {**self._stream.state(), "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint: what was handed out and not told by then comes first, then what is picked anew.

        With several ranks every rank calls it.

        Raises:
            StateMismatch: it is of another run, store, dataset or strategy; or the arrays that belong to it are not
                loaded (see :meth:`load`). Nothing is then changed.
        """
        with self._stream.changed:
            self._stream.restore(state)
            self.epoch = int(state.get("epoch", 0))

    def replay(self, first_round: int) -> None:
        """Hand out again every round from ``first_round`` on, as it was picked and whether it was told or not.

        For a trainer that goes back to an older checkpoint while its store went on: what was trained in between is lost
        with the weights. Call it after :meth:`load_state_dict`. What is told again counts once where it is the same,
        and as further evidence where it is not.
        """
        with self._stream.changed:
            self._stream.replay(_count("first_round", first_round, low=0))

    @property
    def first_unheard(self) -> int | None:
        """The lowest round that was picked and not heard of since: where :meth:`replay` has to begin after a crash.

        While rounds are replayed that is below the scheduler's ``round``, which counts what was told before.
        """
        with self._stream.changed:
            return self._stream.first_unheard

    def save(self, path: str | PathLike[str]) -> None:
        """Write what a curriculum without a store knows (arrays; no pickle) as one file, with what is not told yet.

        With several ranks rank 0 writes.

        Raises:
            InvalidParameter: the sampler works with a store, which has it all.
        """
        with self._stream.changed:
            self._backing.save(path)

    def load(self, path: str | PathLike[str]) -> None:
        """Read what :meth:`save` wrote, before :meth:`load_state_dict`; nothing is handed out until both were loaded.

        With several ranks every rank calls it.

        Raises:
            StateMismatch: no such file, or it is of another strategy, dataset or version.
        """
        with self._stream.changed:
            self._backing.load(path)

    def prompt_ids_of(self, rows: ArrayLike) -> Ints:
        """The prompt ids of rows of the dataset, shape of ``rows``."""
        return self._rows.in_order[np.asarray(rows, dtype=np.int64)]

    # ---- guards -------------------------------------------------------------------------------------------------

    def _refuse_elsewhere(self, what: str) -> None:
        if os.getpid() != self._pid:
            raise StoreForked(
                f"the sampler lives in process {self._pid}; this is process {os.getpid()}, a worker's copy, and cannot "
                f"{what}",
                hint="pick and tell in the main process: let workers only read rows, and carry ids back in the batch",
            )

    def _refuse_late_ranks(self) -> None:
        if self._ranks is None and not self._alone_by_choice and _world() > 1:
            raise InvalidParameter(
                "this sampler was made before `torch.distributed` was set up, so its rank would pick on its own",
                hint="make it after `init_process_group` (or after the trainer's arguments), or say distributed=False",
            )

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise StoreForked(
            "a sampler lives in the main process and cannot be sent to another one",
            hint="keep it out of the dataset and of collate_fn; carry ids back in the batch",
        )


class CurriculumSampler(_Base[int]):
    """Yields rows of a dataset, as a curriculum picks them, for ``DataLoader(dataset, sampler=…)``.

    A round is ``prompts`` prompts; its rows are each prompt ``group_size`` times in a row, and all of that ``repeats``
    times (the pattern that GRPO trainers read). It is picked when its first row is asked for. An epoch has ``rounds``
    of them, so ``len`` is ``rounds × prompts × group_size × repeats`` rows.

    What was handed out stays in flight until ``tell`` or ``resolve`` settles it. Whenever iteration begins (the next
    epoch; after a loop was left in the middle; in a new process, with the same store or after :meth:`load_state_dict`),
    what has no feedback yet is handed out first, oldest first.

    With ``torch.distributed`` set up, rank 0's curriculum picks for all ranks where the others hand in None; where all
    hand in a bare curriculum, these are kept equal. Every rank has to iterate and tell in step.

    Args:
        data_source: the dataset: of Hugging Face, a :class:`PromptDataset`, or any whose rows are mappings (each
            of which is then read once).
        curriculum: a ``curri.Scheduler`` (durable), a bare ``Curriculum``, or None on ranks where rank 0 decides. Ask
            and tell it through the sampler only.
        prompts: P, prompts of one round, ≥ 1. The loader's batch size should be a multiple of ``group_size``.
        id_column: the column with the prompts' ids: ids of the store or the pool, or texts that are the user's own ids
            in the store. Prompts without a row are never picked.
        ids: these ids, one a row, in place of the column.
        group_size: G, how often each prompt is repeated; None for as many rollouts as the strategy wants of each.
        repeats: R, how often the whole round is handed out.
        rounds: rounds of one epoch; by default as many as give every row once, ``len(data_source) // prompts``.
        max_staleness: how many batches may be without feedback when a round is picked, ≥ 0; None for any number
            (the log says once when it is not 0).
        when_stale: beyond that, "raise" ``TooStale``, or "wait" for a ``tell`` from another thread.
        wait_seconds: how long to wait before it is raised after all.
        distributed: False to pick alone although ``torch.distributed`` is set up; by default it is used when it is.
        shard: with several ranks: True where each rank's loader takes its own share of the prompts of a round (plain
            PyTorch), False where the trainer divides the batches (accelerate, Hugging Face, TRL). Has to be said.

    Raises:
        InvalidData: a row has no id, or two rows have the same one.
        UnknownPrompt: an id that the pool does not have.
        InvalidParameter: a wrong argument.

    >>> import curri
    >>> rows = [{"prompt_id": 10 + i, "question": f"{i} + {i}?"} for i in range(8)]
    >>> curriculum = curri.curricula.Uniform(curri.PromptPool([row["prompt_id"] for row in rows]), seed=0)
    >>> sampler = CurriculumSampler(rows, curriculum, prompts=2, group_size=3)
    >>> len(sampler)
    24
    >>> stream = iter(sampler)
    >>> picked = [next(stream) for _ in range(6)]
    >>> picked[0] == picked[1] == picked[2], picked[0] != picked[3]
    (True, True)
    >>> told = sampler.tell([rows[row]["prompt_id"] for row in picked], rewards=[1, 0, 0, 1, 1, 1])
    >>> told.new, told.closed, sampler.staleness
    (6, (0,), 0)
    """

    def __iter__(self) -> Iterator[int]:
        for rows in self._chunks():
            for _ in range(self.repeats):
                yield from rows

    def __len__(self) -> int:
        """Rows of an epoch that this rank is handed.

        Raises:
            TypeError: the strategy decides how often a prompt comes (``group_size=None``).
        """
        if self.group_size is None:
            raise TypeError("the number of rows is the strategy's decision, since `group_size` is None")
        return self.rounds * self._per_batch * self.group_size * self.repeats


class CurriculumBatchSampler(_Base[list[int]]):
    """Yields whole rounds as batches of rows, for ``DataLoader(dataset, batch_sampler=…)``.

    Arguments and behaviour are those of :class:`CurriculumSampler`. A batch is one round: ``prompts`` prompts (this
    rank's share of them), each ``group_size`` times in a row; it comes ``repeats`` times. ``len`` counts batches. After
    a resume, a round of which a part was settled comes as a smaller batch.

    >>> import curri
    >>> rows = [{"prompt_id": 10 + i} for i in range(8)]
    >>> curriculum = curri.curricula.Uniform(curri.PromptPool(range(10, 18)), seed=0)
    >>> sampler = CurriculumBatchSampler(rows, curriculum, prompts=4, group_size=2)
    >>> len(sampler), [len(batch) for batch in sampler]
    (2, [8, 8])
    """

    drop_last = False

    @property
    def batch_size(self) -> int | None:
        """Rows of a batch; None where the strategy decides."""
        return None if self.group_size is None else self._per_batch * self.group_size

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self._chunks():
            for _ in range(self.repeats):
                yield list(rows)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.rounds * self.repeats


# ---- what a sampler is made of ---------------------------------------------------------------------------------------


def _count(name: str, value: object, *, low: int = 1) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < low:
        raise InvalidParameter(f"`{name}` must be an int in [{low}, inf); got {value!r}")
    return int(value)


def _array(values: Any) -> Any:
    """A tensor of any device and type as an array; anything else as it is."""
    if hasattr(values, "detach"):
        tensor = values.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return values


def _world() -> int:
    import torch.distributed as dist

    return int(dist.get_world_size()) if dist.is_available() and dist.is_initialized() else 1


def _shard_of(ranks: Ranks | None, prompts: int, *, shard: bool | None) -> slice:
    """This rank's part of a round."""
    if ranks is None:
        return slice(None)
    if shard is None:
        raise InvalidParameter(
            f"`shard` has to be said with {ranks.size} ranks: True where each rank's loader takes its own share of a "
            "round, False where the trainer divides the batches",
            hint="plain PyTorch: shard=True; accelerate, Hugging Face Trainer, TRL: shard=False",
        )
    if not shard:
        return slice(None)
    if prompts % ranks.size:
        raise InvalidParameter(
            f"`prompts` must be a multiple of the {ranks.size} ranks to be shared out; got {prompts}"
        )
    share = prompts // ranks.size
    return slice(ranks.rank * share, (ranks.rank + 1) * share)
