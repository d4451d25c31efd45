"""Several processes, one curriculum: rank 0 decides for all, or all keep equal copies fed with everybody's outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from curri import errors
from curri.errors import CurriError, InvalidRollouts, StateMismatch
from curri.integrations.torch.backing import Pick
from curri.state import pack, unpack
from curri.types import COLUMNS, Rollouts

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from curri.integrations.torch.backing import Backing, Replayed
    from curri.scheduler import Resolution, Told
    from curri.state import State
    from curri.types import Ints

_OPTIONS = ("kind", "round", "resolve", "reason")


class Ranks:
    """The processes of a job; they talk over a gloo group of their own, so that nothing of the trainer's is disturbed.

    Every method is a collective: all ranks have to call it, in the same order.
    """

    def __init__(self) -> None:
        import torch.distributed as dist

        self._dist = dist
        self.rank, self.size = int(dist.get_rank()), int(dist.get_world_size())
        self._group = dist.new_group(backend="gloo")

    def exchange(self, state: State) -> list[State]:
        """What every rank hands in, by rank."""
        return self._gathered(pack(state))

    def agreed(self, action: Callable[[], State]) -> list[State]:
        """What ``action`` gives on every rank; an error of one is raised on all."""
        answers = self._gathered(_attempt(action))
        for answer in answers:
            if "error" in answer:
                raise _error(answer)
        return answers

    def _gathered(self, message: bytes) -> list[State]:
        import torch

        data = torch.frombuffer(bytearray(message), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        self._dist.all_gather(sizes, torch.tensor([data.numel()]), group=self._group)
        longest = max(int(size) for size in sizes)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: data.numel()] = data
        parts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        self._dist.all_gather(parts, padded, group=self._group)
        return [unpack(part[: int(size)].numpy().tobytes()) for part, size in zip(parts, sizes, strict=True)]

    def refuse(self, error: CurriError) -> None:
        """Let the others raise an error that this rank found before it had anything to hand in."""

        def fail() -> State:
            raise error

        self.agreed(fail)

    def from_first(self, action: Callable[[], State]) -> State:
        """What ``action`` gives on rank 0, on every rank; its error too."""
        return self.agreed(action if self.rank == 0 else dict)[0]


def _attempt(action: Callable[[], State]) -> bytes:
    try:
        return pack(action())
    except CurriError as error:
        return pack({"error": type(error).__name__, "message": error.message, "hint": error.hint})
    except (TypeError, ValueError) as error:  # what cannot be sent; the others wait for an answer
        return pack({"error": "InvalidRollouts", "message": f"these outcomes cannot be sent: {error}", "hint": None})


def _error(answer: State) -> CurriError:
    kind: type[CurriError] = getattr(errors, answer["error"], CurriError)
    return kind(answer["message"], answer["hint"])


class Authority:
    """Rank 0 holds the curriculum or the scheduler; it picks for all, and hears what all of them tell.

    Args:
        ranks: all of them.
        own: that of rank 0; None elsewhere.
    """

    def __init__(self, ranks: Ranks, own: Backing | None) -> None:
        self._ranks = ranks
        self._own = own
        self._mark: dict[str, Any] = {}
        self._first(lambda _: {})

    def _first(self, action: Callable[[Backing], State]) -> State:
        """Let rank 0 act, and take its answer and its mark."""

        def act() -> State:
            assert self._own is not None  # noqa: S101  rank 0 has one
            answer = action(self._own)
            return {**answer, "mark": self._own.mark()}

        answer = self._ranks.from_first(act)
        self._mark = answer["mark"]
        return answer

    def ask(self, n: int) -> Pick:
        """Rank 0's next round."""
        return _pick(self._first(lambda own: _sent(own.ask(n))))

    def tell(self, columns: dict[str, Any], *, gathered: bool) -> tuple[Told, Ints]:
        """Rank 0 is told what every rank brings."""
        parts = self._ranks.agreed(lambda: _packed(columns, silent=gathered and self._ranks.rank > 0))

        def tell(own: Backing) -> State:
            told, ids = own.tell(_merged(parts[:1] if gathered else parts), gathered=True)
            return {**told_state(told), "ids": ids}

        answer = self._first(tell)
        return _told(answer), answer["ids"]

    def resolve(
        self, prompt_ids: Ints, event: Resolution, reason: str | None, *, gathered: bool, replayed: Replayed | None
    ) -> tuple[tuple[int, ...], Ints]:
        """Rank 0 settles what every rank names."""
        ids = prompt_ids if gathered else _union(self._ranks, prompt_ids)

        def resolve(own: Backing) -> State:
            return {"closed": list(own.resolve(ids, event, reason, gathered=True, replayed=replayed)[0])}

        answer = self._first(resolve)
        return tuple(answer["closed"]), ids

    def open(self) -> list[Pick]:
        """What rank 0 handed out and nobody settled."""
        answer = self._first(lambda own: {f"{i}": _one(pick) for i, pick in enumerate(own.open())})
        return [_pick_of(answer[f"{i}"]) for i in range(len(answer) - 1)]

    def since(self, first_round: int) -> list[Pick]:
        """What rank 0 handed out from a round on."""
        answer = self._first(lambda own: {f"{i}": _one(pick) for i, pick in enumerate(own.since(first_round))})
        return [_pick_of(answer[f"{i}"]) for i in range(len(answer) - 1)]

    def mark(self) -> dict[str, Any]:
        """Where rank 0 stood after the last call; no collective."""
        return dict(self._mark)

    def check(self, mark: dict[str, Any]) -> None:
        """Rank 0's judgement, on every rank."""

        def check(own: Backing) -> State:
            own.check(mark)
            return {}

        self._first(check)

    def save(self, path: str | PathLike[str]) -> None:
        """Rank 0 writes."""
        if self._own is not None:
            self._own.save(path)

    def load(self, path: str | PathLike[str]) -> None:
        """Rank 0 reads; all have to call it."""

        def load(own: Backing) -> State:
            own.load(path)
            return {}

        self._first(load)

    def ready(self) -> None:
        """Rank 0's judgement, on every rank."""

        def ready(own: Backing) -> State:
            own.ready()
            return {}

        self._first(ready)

    def metrics(self) -> dict[str, float]:
        """On rank 0 those of the curriculum; none elsewhere."""
        return {} if self._own is None else self._own.metrics()


class Replicated:
    """Every rank has its own copy of the same curriculum; all are told what all bring, so that they stay equal.

    Args:
        ranks: all of them.
        own: this rank's copy.
    """

    def __init__(self, ranks: Ranks, own: Backing) -> None:
        self._ranks = ranks
        self._own = own
        self._same(ranks.exchange({"mark": own.mark()}))

    def _same(self, answers: list[State]) -> None:
        marks = [answer["mark"] for answer in answers]
        if any(mark != marks[0] for mark in marks):
            raise StateMismatch(
                f"the copies of the curriculum on {self._ranks.size} ranks differ: {marks}",
                hint="build them with the same prompts, parameters and seed, call `tell` on every rank, and use the "
                "same loader settings everywhere",
            )

    def ask(self, n: int) -> Pick:
        """This rank's next round, which is everybody's."""
        return self._own.ask(n)

    def tell(self, columns: dict[str, Any], *, gathered: bool) -> tuple[Told, Ints]:
        """Every copy is told everything; before that they are compared."""
        parts = self._ranks.agreed(lambda: {**_packed(columns, silent=False), "mark": self._own.mark()})
        self._same(parts)
        return self._own.tell(_merged(parts[:1] if gathered else parts), gathered=True)

    def resolve(
        self, prompt_ids: Ints, event: Resolution, reason: str | None, *, gathered: bool, replayed: Replayed | None
    ) -> tuple[tuple[int, ...], Ints]:
        """Every copy settles what any rank names."""
        ids = prompt_ids if gathered else _union(self._ranks, prompt_ids)
        return self._own.resolve(ids, event, reason, gathered=True, replayed=replayed)

    def open(self) -> list[Pick]:
        """The same on every rank."""
        return self._own.open()

    def since(self, first_round: int) -> list[Pick]:
        """The same on every rank."""
        return self._own.since(first_round)

    def mark(self) -> dict[str, Any]:
        """The same on every rank; no collective."""
        return self._own.mark()

    def check(self, mark: dict[str, Any]) -> None:
        """Each rank checks its copy."""
        self._own.check(mark)

    def save(self, path: str | PathLike[str]) -> None:
        """Rank 0 writes for all."""
        if self._ranks.rank == 0:
            self._own.save(path)

    def load(self, path: str | PathLike[str]) -> None:
        """Every rank reads."""
        self._own.load(path)

    def ready(self) -> None:
        """Each rank looks at its copy."""
        self._own.ready()

    def metrics(self) -> dict[str, float]:
        """Those of this rank's copy, which are everybody's."""
        return self._own.metrics()


# ---- what travels ----------------------------------------------------------------------------------------------------


def _one(pick: Pick) -> list[list[int] | int]:
    return [pick.prompt_ids.tolist(), pick.n_rollouts.tolist(), pick.copies.tolist(), pick.round]


def _pick_of(sent: Any) -> Pick:
    ids, n_rollouts, copies = (np.array(values, dtype=np.int64) for values in sent[:3])
    return Pick(ids, n_rollouts, copies, sent[3])


def _sent(pick: Pick) -> State:
    return {"ids": pick.prompt_ids, "n_rollouts": pick.n_rollouts, "copies": pick.copies, "round": pick.round}


def _pick(state: State) -> Pick:
    return Pick(state["ids"], state["n_rollouts"], state["copies"], state["round"])


def told_state(told: Told) -> State:
    """A ``Told`` as a state."""
    return {"new": told.new, "repeated": told.repeated, "unissued": told.unissued, "closed": list(told.closed)}


def _told(state: State) -> Told:
    from curri.scheduler import Told

    return Told(state["new"], state["repeated"], state["unissued"], tuple(state["closed"]))


def _packed(columns: dict[str, Any], *, silent: bool) -> State:
    """Columns of a ``tell``, checked, as a state; nothing where this rank has no say."""
    if silent:
        return {}
    options = {name: columns[name] for name in _OPTIONS if name in columns}
    given = {name: value for name, value in columns.items() if name not in _OPTIONS}
    rollouts = Rollouts(**given)
    own = {name: getattr(rollouts, name) for name in COLUMNS if getattr(rollouts, name) is not None}
    if columns.get("solved") is None:
        own.pop("solved")  # it is filled in from the rewards of all ranks
    if rollouts.responses is not None:
        own["responses"] = list(rollouts.responses)
    return {"options": options, **own, **{f"extras/{name}": column for name, column in rollouts.extras.items()}}


def _merged(parts: list[State]) -> dict[str, Any]:
    """The columns of several ranks as one ``tell``, in the order of the ranks."""
    said = [part for part in parts if part["prompt_ids"].size] or parts[:1]
    first = said[0]
    names = sorted(name for name in first if name not in ("options", "mark"))
    for part in said[1:]:
        theirs = sorted(name for name in part if name not in ("options", "mark"))
        if part["options"] != first["options"] or theirs != names:
            raise InvalidRollouts(
                f"ranks tell with different arguments: {first['options']}, {names} and {part['options']}, {theirs}",
                hint="hand in the same keywords on every rank",
            )
    columns: dict[str, Any] = dict(first["options"])
    for name in names:
        values = [part[name] for part in said]
        whole = [each for value in values for each in value] if name == "responses" else np.concatenate(values)
        if name.startswith("extras/"):
            columns.setdefault("extras", {})[name.removeprefix("extras/")] = whole
        else:
            columns[name] = whole
    return columns


def _union(ranks: Ranks, prompt_ids: Ints) -> Ints:
    return np.unique(np.concatenate([part["ids"] for part in ranks.agreed(lambda: {"ids": prompt_ids})]))
