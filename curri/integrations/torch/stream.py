"""The order in which picks are handed out: what comes again, what is picked anew, and how far ahead of feedback."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from curri.errors import CurriError, InvalidParameter, StateMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from curri.integrations.torch.backing import Backing, Pick, Replayed
    from curri.types import Ints

WhenStale: TypeAlias = Literal["raise", "wait"]
_log = logging.getLogger("curri")

FORMAT = 1
_STATE = frozenset({"format", "position", "finished", "round", "waiting", "mark"})


class TooStale(CurriError, RuntimeError):
    """A batch would have been picked further ahead of its feedback than ``max_staleness`` allows."""

    code = "too_stale"


class Chunk(NamedTuple):
    """Draws that are handed out together.

    Attributes:
        prompt_ids: shape (_B,); a prompt that was drawn twice stands there twice.
        n_rollouts: how many rollouts the strategy wants for each, shape (_B,).
    """

    prompt_ids: Ints
    n_rollouts: Ints


@dataclass(frozen=True)
class Limits:
    """How far a stream may go.

    Attributes:
        prompts: draws of one round.
        rounds: rounds of one epoch.
        whole: whether every chunk must have ``prompts`` draws, also where a part of a round comes again.
        max_staleness: batches that may be without feedback when a round is picked; None for any number.
        when_stale: what happens beyond.
        wait_seconds: how long to wait.
    """

    prompts: int
    rounds: int
    whole: bool
    max_staleness: int | None
    when_stale: WhenStale
    wait_seconds: float


class Stream:
    """Chunks of a backing, epoch by epoch.

    ``changed`` guards everything here, and wakes who waits for feedback.
    """

    def __init__(self, backing: Backing, limits: Limits) -> None:
        self._backing = backing
        self._limits = limits
        self.changed = threading.Condition(threading.RLock())
        self.tellers: set[int] = set()
        self._walk = 0
        self._position = 0
        self._finished = True  # the last epoch was handed out to its end
        self._restored: Mapping[str, Any] | None = None
        self._replay_from: int | None = None
        self._replayed = False
        self._again: deque[Pick] = deque()
        self._out: dict[int, set[int]] = {}
        self._chunks_of: dict[int, list[int]] = {}
        self._rounds_of: dict[int, tuple[int, ...]] = {}
        self._last_round = -1
        self._chunks = self._picked = self._repeated = 0
        self.staleness = self._staleness_max = self._staleness_sum = 0

    # ---- handing out --------------------------------------------------------------------------------------------

    def chunks(self) -> Iterator[Chunk]:
        """One epoch, or the rest of one; nothing happens before the first ``next``."""
        with self.changed:
            self._begin()
            walk = self._walk
        while True:
            with self.changed:
                if walk != self._walk:
                    raise InvalidParameter(
                        "an older iterator of this sampler was used after a newer one had begun",
                        hint="one iterator at a time: the newer one hands out again what the older one had drawn",
                    )
                if not self._again and self._position >= self._total:
                    self._finished = True
                    return
                chunk = self._next()
            yield chunk

    @property
    def _total(self) -> int:
        return self._limits.rounds * self._limits.prompts

    def _begin(self) -> None:
        """Where this epoch goes on, and what was handed out before and has to come again."""
        self._backing.ready()
        self._walk += 1
        self._out.clear()
        self._chunks_of.clear()
        self._rounds_of.clear()
        again, self._replay_from = self._replay_from, None
        self._again = deque(self._backing.open() if again is None else self._backing.since(again))
        restored, self._restored = self._restored, None
        self._position = 0
        if restored is not None and (self._again or not restored["finished"]):
            counted = sum(len(pick) for pick in self._again if pick.round <= restored["round"])
            self._position = max(restored["position"] + restored["waiting"] - counted, 0)
        self._finished = False

    def _next(self) -> Chunk:
        limits, size = self._limits, 0
        taken: list[Pick] = []
        while size < limits.prompts:
            if not self._again:
                if taken and not limits.whole:
                    break
                self._keep_to_limit()
                left = limits.prompts - size
                n = left if limits.whole else min(left, self._total - self._position)
                self._again.append(self._backing.ask(n))
                self._note_pick()
            else:
                self._repeated += 1
            taken.append(self._take(limits.prompts - size))
            size += len(taken[-1])
        self._position += size
        self._last_round = max(self._last_round, *(pick.round for pick in taken))
        chunk = Chunk(
            np.concatenate([pick.prompt_ids.repeat(pick.copies) for pick in taken]),
            np.concatenate([pick.n_rollouts.repeat(pick.copies) for pick in taken]),
        )
        self._hand_out(chunk.prompt_ids.tolist(), tuple(sorted({pick.round for pick in taken})))
        return chunk

    def _take(self, space: int) -> Pick:
        """The next draws that wait to be handed out, at most ``space`` of them."""
        pick = self._again.popleft()
        if len(pick) <= space:
            return pick
        slots = np.arange(pick.prompt_ids.size).repeat(pick.copies)
        rest = np.bincount(slots[space:], minlength=pick.copies.size)
        self._again.appendleft(pick._replace(copies=rest))
        return pick._replace(copies=pick.copies - rest)

    def _hand_out(self, prompt_ids: list[int], rounds: tuple[int, ...]) -> None:
        self._out[self._chunks] = set(prompt_ids)
        self._rounds_of[self._chunks] = rounds
        for prompt in self._out[self._chunks]:
            self._chunks_of.setdefault(prompt, []).append(self._chunks)
        self._chunks += 1

    # ---- staleness ----------------------------------------------------------------------------------------------

    def _note_pick(self) -> None:
        self._picked += 1
        self.staleness = len(self._out)
        self._staleness_sum += self.staleness
        if self.staleness and not self._staleness_max and self._limits.max_staleness is None:
            _log.warning(
                "the sampler picks ahead of feedback: workers, prefetching and look-ahead draw batches before earlier "
                "ones are told; metrics() says by how many, num_workers=0 or max_staleness= bounds it"
            )
        self._staleness_max = max(self._staleness_max, self.staleness)

    def _keep_to_limit(self) -> None:
        bound = self._limits.max_staleness
        if bound is None or len(self._out) <= bound:
            return
        if self._limits.when_stale == "raise":
            raise self._too_stale("")
        if self.tellers == {threading.get_ident()}:
            raise self._too_stale(", and the thread that would wait for feedback is the one that gives it")
        seconds = self._limits.wait_seconds
        if not self.changed.wait_for(lambda: len(self._out) <= bound, timeout=seconds):
            raise self._too_stale(f", still after {seconds:g} s of waiting")

    def _too_stale(self, more: str) -> TooStale:
        return TooStale(
            f"the next batch would be picked while {len(self._out)} batches are without feedback; "
            f"`max_staleness` is {self._limits.max_staleness}{more}",
            hint="call `sampler.tell` for every batch; a DataLoader draws num_workers × prefetch_factor batches ahead "
            "(accelerate one more), so use fewer, or allow more",
        )

    def settle(self, prompt_ids: Ints) -> None:
        """Prompts that are told or resolved."""
        for prompt in set(prompt_ids.tolist()):
            numbers = self._chunks_of.get(prompt)
            if not numbers:
                continue
            number = numbers.pop(0)
            if not numbers:
                del self._chunks_of[prompt]
            self._out[number].discard(prompt)
            if not self._out[number]:
                del self._out[number], self._rounds_of[number]
        self.changed.notify_all()

    def round_of(self, prompt_ids: Ints) -> int | None:
        """After :meth:`replay`: the round that these prompts were handed out for, as one may be out for two of them."""
        if self._replayed:
            wanted = set(prompt_ids.tolist())
            for number, out in self._out.items():
                if wanted <= out:
                    rounds = self._rounds_of[number]
                    return rounds[0] if len(rounds) == 1 else None
        return None

    @property
    def replayed(self) -> Replayed | None:
        """After :meth:`replay`: the rounds that a prompt was handed out for; none for one that was not."""
        if not self._replayed:
            return None
        return lambda prompt: self._rounds_of[self._chunks_of[prompt][0]] if prompt in self._chunks_of else ()

    @property
    def first_unheard(self) -> int | None:
        """The lowest round that waits to be handed out again, or was and is not heard of; None if there is none."""
        waiting = [pick.round for pick in self._again]
        return min([*waiting, *(rounds[0] for rounds in self._rounds_of.values())], default=None)

    def metrics(self) -> dict[str, float]:
        """Numbers to log, without a prefix."""
        return {
            "staleness": self.staleness,
            "staleness_max": self._staleness_max,
            "staleness_mean": self._staleness_sum / self._picked if self._picked else 0.0,
            "batches_open": len(self._out),
            "batches_handed_out": self._chunks,
            "rounds_picked": self._picked,
            "parts_handed_out_again": self._repeated,
            "position": self._position,
        }

    # ---- state --------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Where it stands, as small JSON."""
        if self._restored is not None:
            return dict(self._restored)
        return {
            "format": FORMAT,
            "position": self._position,
            "finished": self._finished,
            "round": self._last_round,
            "waiting": sum(len(pick) for pick in self._again if pick.round <= self._last_round),
            "mark": self._backing.mark(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there with the next epoch that begins.

        Raises:
            StateMismatch: it is of something else. Nothing is then changed.
        """
        if not state.keys() >= _STATE or state["format"] != FORMAT:
            raise StateMismatch("this is no state of a curriculum sampler", hint="it is what its `state_dict()` gave")
        self._backing.check(dict(state["mark"]))
        self._restored = dict(state)
        self._last_round = int(state["round"])

    def replay(self, first_round: int) -> None:
        """Begin the next epoch with every round from this one on, settled or not."""
        self._replay_from, self._replayed = first_round, True
