"""Picks and outcomes of a strategy without a store: the ledger is kept in memory, and saved as one file."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from curri.curricula.evidence import SeenRollouts, fingerprints
from curri.errors import InvalidParameter, InvalidRollouts, StateMismatch
from curri.integrations.torch.backing import open_picks, pick_of
from curri.scheduler import Told
from curri.scheduler.rounds import OpenRounds
from curri.state import pack, unpack
from curri.store.runs import RESOLUTIONS
from curri.types import Rollouts, Selection, Ticket

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from numpy.typing import NDArray

    from curri.curricula.base import Curriculum
    from curri.integrations.torch.backing import Pick, Replayed
    from curri.integrations.torch.rows import Rows
    from curri.scheduler import Resolution
    from curri.types import Bools, Ints

FORMAT = 1
REMEMBERED = 65_536
"""Prompts whose last outcomes are kept after they were settled, so that the same ``tell`` again changes nothing."""
_CONSUMER = "sampler"


class _Past(NamedTuple):
    """What was told of a settled prompt in its last round."""

    round: int
    rewards: tuple[float, ...]


class ArrayBacking:
    """A bare curriculum with a ledger in memory.

    Args:
        curriculum: a strategy that nobody else asks or tells.
        rows: of the dataset; prompts without a row are never picked.
    """

    def __init__(self, curriculum: Curriculum, rows: Rows) -> None:
        curriculum.pool.rows(rows.ids)  # refuses ids it does not know
        self.curriculum = curriculum
        self._rows = rows
        self._rounds = OpenRounds()
        self._rewards: dict[int, list[float]] = {}
        self._past: dict[int, _Past] = {}
        self._seen = SeenRollouts()
        self._draws = curriculum.rounds_asked
        self._digest = _origin(curriculum, rows)
        self._marks: deque[tuple[int, str]] = deque([(self._draws, self._digest)])
        self._unmatched = False
        self._excluded: tuple[object, Ints] | None = None

    # ---- handing out --------------------------------------------------------------------------------------------

    def ask(self, n: int) -> Pick:
        """A new round."""
        exclude, without_row = self._rounds.in_flight, self._without_row()
        if without_row.size:
            exclude = np.concatenate([without_row, exclude])
        selection = self.curriculum.ask(n, exclude=exclude if exclude.size else None)
        self._rounds.issue(selection, _CONSUMER)
        self._draws = self.curriculum.rounds_asked
        self._link("ask", selection.prompt_ids)
        self._marks.append((self._draws, self._digest))
        while len(self._marks) > len(self._rounds) + 1:
            self._marks.popleft()
        return pick_of(selection, n, self.curriculum.group_size)

    def _without_row(self) -> Ints:
        pool = self.curriculum.pool
        if self._excluded is None or self._excluded[0] is not pool:
            self._excluded = (pool, np.setdiff1d(pool.ids, self._rows.ids, assume_unique=True))
        return self._excluded[1]

    def open(self) -> list[Pick]:
        """What was handed out and is not settled, oldest first."""
        return open_picks(self._rounds, _CONSUMER, self.curriculum)

    # ---- outcomes -----------------------------------------------------------------------------------------------

    def since(self, first_round: int) -> list[Pick]:
        """Only what is open: settled rounds are not remembered, as :meth:`load` goes back to where they were."""
        return [pick for pick in self.open() if pick.round >= first_round]

    def tell(self, columns: dict[str, Any], *, gathered: bool) -> tuple[Told, Ints]:
        """The same rules as ``Scheduler.tell``: before any filter; repeats change nothing; late ones are evidence."""
        given = dict(columns)
        number, event = given.pop("round", None), given.pop("resolve", "trained")
        given.pop("reason", None)  # for a ledger in a store
        rollouts = Rollouts(**{**given, "kind": given.get("kind") or "train"})
        if event is not None:
            check_event(event)
        rounds = {prompt: self._rounds.round_of(prompt) for prompt in sorted(set(rollouts.prompt_ids.tolist()))}
        _refuse_wrong_round(rounds, number)
        prints = None if rollouts.rollout_ids is None else fingerprints(rollouts.prompt_ids, rollouts.rollout_ids)
        repeated = self._told_again(rollouts, rounds) if prints is None else self._named_again(prints)
        n_repeated = int(np.count_nonzero(repeated))
        new = rollouts.take(~repeated) if n_repeated else rollouts
        self.curriculum.tell(new.with_columns(rollout_ids=None))
        if prints is not None:
            self._seen.add(np.sort(prints[~repeated]))
        self._link("tell", rollouts.prompt_ids, rollouts.rewards)
        told: dict[int, list[float]] = {}
        for prompt, reward in zip(new.prompt_ids.tolist(), new.rewards.tolist(), strict=True):
            told.setdefault(prompt, []).append(reward)
        self._remember(told, rounds)
        in_flight = _ids([prompt for prompt, found in rounds.items() if found is not None])
        unissued = _ids([prompt for prompt, found in rounds.items() if found is None and prompt in told])
        closed = () if event is None else self._settle(in_flight)
        return Told(len(new), n_repeated, unissued, closed), _ids(rounds)

    def _named_again(self, prints: NDArray[np.uint64]) -> Bools:
        """Named responses, by their names: those told before, and all but the first of those told here twice."""
        again = self._seen.known(prints)
        first = np.unique(prints, return_index=True)[1]
        again[np.delete(np.arange(prints.size), first)] = True
        return again

    def _told_again(self, rollouts: Rollouts, rounds: dict[int, int | None]) -> Bools:
        """Unnamed responses of settled prompts, where all their rewards were told."""
        again = np.zeros(len(rollouts), dtype=np.bool_)
        for prompt in [prompt for prompt, found in rounds.items() if found is None and prompt in self._past]:
            past = self._past[prompt].rewards
            mine = np.flatnonzero(rollouts.prompt_ids == prompt)[: len(past)]
            if not Counter(rollouts.rewards[mine].tolist()) - Counter(past):
                again[mine] = True
        return again

    def _remember(self, told: dict[int, list[float]], rounds: dict[int, int | None]) -> None:
        """Rewards told for prompts, and the rounds that those are in flight in."""
        for prompt, found in rounds.items():
            mine = told.get(prompt, [])
            if found is not None:
                self._rewards.setdefault(prompt, []).extend(mine)
            elif prompt in self._past:
                self._past[prompt] = self._past[prompt]._replace(rewards=(*self._past[prompt].rewards, *mine))

    def resolve(
        self, prompt_ids: Ints, event: Resolution, reason: str | None, *, gathered: bool, replayed: Replayed | None
    ) -> tuple[tuple[int, ...], Ints]:
        """Settle prompts in flight without outcomes."""
        check_event(event)
        self._rounds.by_round(prompt_ids)  # refuses those that are not in flight
        self._link("resolve", prompt_ids)
        return self._settle(prompt_ids), prompt_ids

    def _settle(self, prompt_ids: Ints) -> tuple[int, ...]:
        touched = self._rounds.by_round(prompt_ids)
        for number, ids in touched.items():
            self._rounds.settle(number, ids)
            for prompt in ids.tolist():
                self._past.pop(prompt, None)  # so that it counts as the newest
                self._past[prompt] = _Past(number, tuple(self._rewards.pop(prompt, ())))
        while len(self._past) > REMEMBERED:
            del self._past[next(iter(self._past))]
        closed = self._rounds.close_settled(touched)
        for _ in closed:
            self.curriculum.advance(hold=self._rounds.in_flight)
        return closed

    # ---- saving -------------------------------------------------------------------------------------------------

    def _link(self, word: str, *arrays: Any) -> None:
        """Every event changes the digest, which so stands for the whole history."""
        parts = [self._digest.encode(), word.encode(), *(array.tobytes() for array in arrays)]
        self._digest = hashlib.blake2b(b"\x00".join(parts), digest_size=16).hexdigest()

    def mark(self) -> dict[str, Any]:
        """The number of draws, and the digest of all that happened up to the last of them."""
        draws, digest = self._marks[-1]
        return {"draws": draws, "digest": digest}

    def check(self, mark: dict[str, Any]) -> None:
        """A mark must lie on this history, with every draw after it still open."""
        draws, digest = mark.get("draws"), mark.get("digest")
        known = (draws, digest) in self._marks
        if not known or any(self._rounds.get(number) is None for number in range(int(draws or 0), self._draws)):
            raise StateMismatch(
                f"the sampler's state is of draw {draws} ({digest}); the arrays here are of draw {self._draws} "
                f"({self._marks[-1][1]})",
                hint="both are needed, of the same checkpoint: `sampler.load(path)` for the arrays, then "
                "`load_state_dict` for the position; with StatefulDataLoader keep snapshot_every_n_steps at 1",
            )
        self._unmatched = False

    def save(self, path: str | PathLike[str]) -> None:
        """Write strategy and ledger as one file; it is replaced as a whole, or not at all."""
        state: dict[str, Any] = {f"curriculum/{name}": value for name, value in self.curriculum.state_dict().items()}
        state |= {"format": FORMAT, "digest": self._digest, "draws": self._draws, "rows": self._rows.digest()}
        state["marks"] = [list(mark) for mark in self._marks]
        state |= {f"ledger/{name}": value for name, value in self._ledger().items()}
        target = Path(path)
        draft = target.with_name(f"{target.name}.{os.getpid()}.part")
        with draft.open("wb") as file:
            file.write(pack(state))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)

    def _ledger(self) -> dict[str, Any]:
        parts = self._rounds.of_consumer(_CONSUMER)
        selections = [self._rounds.again(*place, _CONSUMER) for place in parts]
        issued = [selection for selection in selections if selection is not None]
        rewards, past = self._rewards, self._past
        return {
            "rounds": [selection.ticket.round for selection in issued for _ in range(len(selection))],
            "ids": _joined([selection.prompt_ids for selection in issued]),
            "n_rollouts": _joined([selection.n_rollouts for selection in issued]),
            "told_ids": _ids(rewards),
            "told_counts": np.array([len(each) for each in rewards.values()], dtype=np.int64),
            "told_rewards": np.array([reward for each in rewards.values() for reward in each], dtype=np.float64),
            "past_ids": _ids(past),
            "past_rounds": np.array([each.round for each in past.values()], dtype=np.int64),
            "past_counts": np.array([len(each.rewards) for each in past.values()], dtype=np.int64),
            "past_rewards": np.array([reward for each in past.values() for reward in each.rewards], dtype=np.float64),
            **self._seen.state(),
        }

    def load(self, path: str | PathLike[str]) -> None:
        """Go on from a file; the position is still missing then (see :meth:`check`)."""
        file = Path(path)
        if not file.is_file():
            raise StateMismatch(f"there are no saved arrays at {file}", hint="`sampler.save(path)` writes them")
        state = unpack(file.read_bytes())
        if state.get("format") != FORMAT or "marks" not in state:
            raise StateMismatch(f"{file} holds no arrays of a sampler", hint="it is written by `sampler.save(path)`")
        if state["rows"] != self._rows.digest():
            raise StateMismatch(f"{file} was saved with other rows or ids of the dataset", hint="load the same dataset")
        self.curriculum.load_state_dict(_under(state, "curriculum/"))
        self._draws, self._digest = int(state["draws"]), str(state["digest"])
        self._marks = deque((int(draws), str(digest)) for draws, digest in state["marks"])
        self._load_ledger(_under(state, "ledger/"))
        self._unmatched = True

    def _load_ledger(self, ledger: dict[str, Any]) -> None:
        self._rounds = OpenRounds()
        numbers = np.array(ledger["rounds"], dtype=np.int64)
        for number in np.unique(numbers).tolist():
            mine = numbers == number
            self._rounds.issue(self._selection(number, ledger["ids"][mine], ledger["n_rollouts"][mine]), _CONSUMER)
        told = _ragged(ledger["told_rewards"], ledger["told_counts"])
        self._rewards = {i: list(each) for i, each in zip(ledger["told_ids"].tolist(), told, strict=True)}
        past = zip(ledger["past_rounds"].tolist(), _ragged(ledger["past_rewards"], ledger["past_counts"]), strict=True)
        self._past = {
            i: _Past(number, tuple(each)) for i, (number, each) in zip(ledger["past_ids"].tolist(), past, strict=True)
        }
        self._seen = SeenRollouts.from_state({k: v for k, v in ledger.items() if k.startswith("seen/")})

    def _selection(self, number: int, ids: Ints, n_rollouts: Ints) -> Selection:
        arms = self.curriculum.pool.arm_of(self.curriculum.pool.rows(ids))
        return Selection(ids, arms, n_rollouts, np.full(ids.size, np.nan), "train", Ticket("", number, 0))

    def ready(self) -> None:
        """Refuse to go on with the arrays of a checkpoint but not its position."""
        if self._unmatched:
            raise StateMismatch(
                "the arrays of a checkpoint are loaded, the sampler's position is not",
                hint="`sampler.load_state_dict(…)` (or the loader's) with what `state_dict` gave at that checkpoint",
            )

    def metrics(self) -> dict[str, float]:
        """Those of the strategy."""
        return self.curriculum.metrics()


def _refuse_wrong_round(rounds: dict[int, int | None], number: int | None) -> None:
    wrong = [prompt for prompt, found in rounds.items() if number is not None and found not in (None, number)]
    if wrong:
        raise InvalidRollouts(
            f"{len(wrong)} prompts are in flight in another round than {number}, among them {wrong[0]}",
            hint="leave `round` out: each prompt is then taken to belong to the round it is in flight in",
        )


def check_event(event: object) -> None:
    """Refuse what is no way to settle a prompt."""
    if event not in RESOLUTIONS:
        allowed = ", ".join(f'"{known}"' for known in RESOLUTIONS)
        raise InvalidParameter(f"`resolve` must be one of {allowed}; got {event!r}")


def _origin(curriculum: Curriculum, rows: Rows) -> str:
    """Digest of where a history starts: the strategy, its parameters and the dataset."""
    text = f"{curriculum!r} {rows.digest()} {curriculum.rounds_asked}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _ids(prompts: Iterable[int]) -> Ints:
    return np.array(list(prompts), dtype=np.int64)


def _joined(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _ragged(values: Any, counts: Any) -> list[list[float]]:
    return [part.tolist() for part in np.split(values, np.cumsum(counts)[:-1])] if counts.size else []


def _under(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
