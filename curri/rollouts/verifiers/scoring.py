"""One set of responses on its way through the worker processes."""

from __future__ import annotations

import dataclasses
import json
import math
import selectors
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from curri.errors import VerifierFailed
from curri.rollouts.verifiers import frames
from curri.rollouts.verifiers.base import failed
from curri.rollouts.verifiers.process import GRACE
from curri.types import Score

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from curri.rollouts.verifiers.process import Crew, Worker
    from curri.types import Prompt, ScoreStatus

NO_TEXT: Final = failed("unverifiable", "the response is no text")

_BATCH = 32
_BATCH_CHARS = 32_768


class Round:
    """One call of ``VerifierPool.verify`` at work.

    Args:
        crew: the processes.
        prompts: the prompt of each response.
        responses: texts; anything else gets ``NO_TEXT``.
        count: called with every prompt and score as it comes; what it raises ends the round.
    """

    def __init__(
        self,
        crew: Crew,
        prompts: Sequence[Prompt],
        responses: Sequence[str],
        count: Callable[[Prompt, Score], None],
    ) -> None:
        self._crew = crew
        self._count = count
        self._prompts = prompts
        self._responses = responses
        self._scores: list[Score | None] = [None] * len(responses)
        self._left = 0
        self._todo: deque[int] = deque()
        self._again: deque[int] = deque()
        self._had_chance: set[int] = set()
        self._sent: dict[int, str] = {}
        for place, response in enumerate(responses):
            if isinstance(response, str):
                self._todo.append(place)
            else:
                self._settle(place, NO_TEXT)
        self._left = len(self._todo)

    def run(self) -> list[Score]:
        """Score all of them; gives the scores in their order."""
        while self._left:
            self._start_workers()
            for worker in self._crew.workers:
                if worker.ready and not worker.waiting:
                    self._hand_out(worker)
            self._listen()
        return [score for score in self._scores if score is not None]

    def _settle(self, place: int, score: Score) -> None:
        self._scores[place] = score
        self._left -= 1
        self._count(self._prompts[place], score)

    def _start_workers(self) -> None:
        """As many as there is work for; a new one where a response waits for one."""
        free = [worker for worker in self._crew.workers if not worker.waiting]
        if self._again and free and all(worker.scored for worker in self._crew.workers):
            self._crew.end(free.pop())
        work = len(self._todo) + len(self._again)
        for _ in range(min(work - len(free), self._crew.size - len(self._crew.workers))):
            self._crew.start()

    def _hand_out(self, worker: Worker) -> None:
        places = [self._again.popleft()] if self._again and not worker.scored else self._batch()
        if not places:
            return
        own: dict[int, int] = {}
        responses: list[tuple[int, str]] = []
        texts: list[str] = []
        for place in places:
            prompt = self._prompts[place]
            if id(prompt) not in own:
                own[id(prompt)] = len(texts)
                texts.append(self._text(prompt))
            responses.append((own[id(prompt)], self._responses[place]))
        worker.give({"prompts": texts, "responses": responses}, places)

    def _batch(self) -> list[int]:
        fair = math.ceil(len(self._todo) / (2 * self._crew.size))
        places: list[int] = []
        chars = 0
        while self._todo and len(places) < min(_BATCH, fair):
            chars += len(self._responses[self._todo[0]])
            if places and chars > _BATCH_CHARS:
                break
            places.append(self._todo.popleft())
        return places

    def _text(self, prompt: Prompt) -> str:
        text = self._sent.get(id(prompt))
        if text is None:
            values = {field.name: getattr(prompt, field.name) for field in dataclasses.fields(prompt)}
            text = json.dumps({**values, "metadata": dict(prompt.metadata)}, default=str)
            self._sent[id(prompt)] = text
        return text

    def _listen(self) -> None:
        """Wait for the next word of any worker, or for the next deadline."""
        workers = [w for w in self._crew.workers if w.waiting or not w.ready]
        with selectors.DefaultSelector() as selector:
            for worker in workers:
                selector.register(worker.results, selectors.EVENT_READ, worker)
            soonest = min(worker.deadline for worker in workers)
            heard = {key.data for key, _ in selector.select(max(0.0, soonest - time.monotonic()))}
        for worker in workers:
            if worker in heard:
                self._hear(worker)
            elif time.monotonic() >= worker.deadline:
                self._time_out(worker)

    def _hear(self, worker: Worker) -> None:
        scores, ended = worker.hear()
        for place, score in scores:
            self._settle(place, Score(*score))
        if ended:
            self._mourn(worker)

    def _mourn(self, worker: Worker) -> None:
        """A worker that died: of the response it had in hand, or while it was loading the verifier."""
        status, how = _cause(self._crew.end(worker, grace=GRACE))
        if not worker.ready:
            raise VerifierFailed(
                f"the verifier {self._crew.settings.verifier} cannot be loaded: its process ended ({how})",
                hint="import its module in a Python of yours to see why",
            )
        if not worker.waiting:
            return
        place = worker.waiting.popleft()
        self._todo.extendleft(reversed(worker.waiting))
        if worker.scored and place not in self._had_chance:
            self._had_chance.add(place)
            self._again.append(place)
        else:
            self._settle(place, failed(status, how))

    def _time_out(self, worker: Worker) -> None:
        self._crew.end(worker)
        settings = self._crew.settings
        if not worker.ready:
            raise VerifierFailed(
                f"the verifier {settings.verifier} cannot be loaded: it took more than {settings.start_seconds:g} s",
                hint="allow more with `start_limit`",
            )
        place = worker.waiting.popleft()
        self._todo.extendleft(reversed(worker.waiting))
        self._settle(place, failed("timeout", f"more than {settings.seconds:g} s"))


def _cause(status: int) -> tuple[ScoreStatus, str]:
    """What an exit status says: (status of the response, in words)."""
    if status == frames.OUT_OF_MEMORY:
        return "memory", "it ran into the memory limit"
    if status >= 0:
        return "crashed", f"its process left with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return "crashed", f"its process was killed by {name}"
