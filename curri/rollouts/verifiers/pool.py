"""Scores responses in worker processes, each within limits of time and memory."""

from __future__ import annotations

import math
import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final, Self, cast

from curri.errors import InvalidParameter, VerifierFailed
from curri.rollouts.verifiers.base import failed
from curri.rollouts.verifiers.process import GRACE, Crew, Settings
from curri.rollouts.verifiers.scoring import NO_TEXT, Round
from curri.rollouts.verifiers.specification import parse_verifier

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from curri.types import Prompt, Score, ScoreStatus, Verifier

TIME_LIMIT: Final = 10.0
MEMORY_LIMIT: Final = 2 << 30
START_LIMIT: Final = 120.0

_FAILURES = 20
_FAILING_PROMPTS = 5


class VerifierPool:
    """Scores responses, in order, whatever they or the verifier do.

    Verifiers that take microseconds run where they are called. All others run in processes of their own, each response
    with a limit of time and memory: a process that exceeds one is ended and replaced, and the response gets a status
    that says so (see :data:`curri.types.ScoreStatus`). A response that ended a process which had scored others before
    gets a second chance in a new one, since what led there may not have been its own. What a verifier writes to
    standard output or error is thrown away.

    Use it with ``with``, or call ``close``. One pool may be used by several threads, one at a time, and in a forked
    child, which starts processes of its own.

    Args:
        verifier: a specification (see ``parse_verifier``), several, what that function gives, or an object of yours
            that is ``quick``.
        workers: processes; by default one a core, at most 4.
        time_limit: seconds for one response, in (0, inf).
        memory_limit: bytes that a process may take beyond those it takes once the verifier is loaded (address space,
            on Linux); None for no limit.
        start_limit: seconds for loading the verifier.

    Raises:
        InvalidInput: the specification cannot be used.
        InvalidParameter: an argument is out of range.

    >>> from curri.types import Prompt
    >>> prompt = Prompt(1, "3 + 4 =", "7", "math", {})
    >>> with VerifierPool("numeric") as pool:
    ...     [score.solved for score in pool.verify([prompt, prompt], ["It is 7.", "It is 8."])]
    [1.0, 0.0]
    """

    def __init__(
        self,
        verifier: str | Sequence[str] | Verifier,
        *,
        workers: int | None = None,
        time_limit: float = TIME_LIMIT,
        memory_limit: int | None = MEMORY_LIMIT,
        start_limit: float = START_LIMIT,
    ) -> None:
        workers = min(4, os.cpu_count() or 1) if workers is None else workers
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise InvalidParameter(f"`workers` of `VerifierPool` must be an int in [1, inf); got {workers!r}")
        for name, value in (("time_limit", time_limit), ("start_limit", start_limit)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise InvalidParameter(f"`{name}` of `VerifierPool` must be a float in (0, inf); got {value!r}")
        if memory_limit is not None and (not isinstance(memory_limit, int) or memory_limit < 1):
            raise InvalidParameter(f"`memory_limit` of `VerifierPool` must be a count of bytes; got {memory_limit!r}")
        self.verifier = _usable(verifier)
        self.name = self.verifier.name
        self.version = self.verifier.version
        self.counts: Counter[ScoreStatus] = Counter()
        settings = Settings(
            verifier=self.name,
            version=self.version,
            seconds=float(time_limit),
            memory=memory_limit,
            start_seconds=float(start_limit),
        )
        self._crew = Crew(workers, settings)
        self._failing: set[int] = set()
        self._last_failure = ""
        self._lock = threading.Lock()
        self._owner = os.getpid()

    @property
    def key(self) -> str:
        """Name and version: responses with the same key need not be scored again."""
        return f"{self.name} ({self.version})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes. The pool can be used again; it then starts new ones."""
        self._adopt()
        with self._lock:
            self._crew.end_all(grace=GRACE)

    def verify(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[Score]:
        """A score for every response, in the order given.

        Args:
            prompts: the prompt of each response.
            responses: texts, of the same number; what is no text is "unverifiable".

        Raises:
            VerifierFailed: the verifier cannot be loaded, has changed meanwhile, or has failed for the first 20
                responses to several prompts.
            MissingExtra: the verifier needs a package that is not installed.
        """
        if len(prompts) != len(responses):
            raise InvalidParameter(
                f"`verify` needs a prompt for every response; got {len(prompts)} prompts and {len(responses)} responses"
            )
        self._adopt()
        with self._lock:
            if self.verifier.quick:
                return self._all_here(prompts, responses)
            try:
                return Round(self._crew, prompts, responses, self._count).run()
            except BaseException:
                self._crew.end_all()
                raise

    def refuse_if_all_failed(self) -> None:
        """Say so where not one of the responses so far could be scored; call it when all is done.

        Raises:
            VerifierFailed: that is so.
        """
        failures = self.counts.total() - self.counts["ok"]
        if failures and not self.counts["ok"]:
            kinds = ", ".join(f"{count:,} {status}" for status, count in self.counts.most_common())
            raise VerifierFailed(
                f"the verifier {self.name} failed for all {failures:,} responses ({kinds}); the last: "
                f"{self._last_failure}",
                hint="nothing can be learned from responses without a score; try the verifier on one response first",
            )

    def _all_here(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[Score]:
        scores = [self._here(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
        if self.counts["ok"]:
            self.counts.update(score.status for score in scores)
        else:
            for prompt, score in zip(prompts, scores, strict=True):
                self._count(prompt, score)
        return scores

    def _here(self, prompt: Prompt, response: object) -> Score:
        try:
            return self.verifier.score(response, prompt) if isinstance(response, str) else NO_TEXT
        except Exception as error:  # noqa: BLE001  no response may end a run
            return failed("error", f"{type(error).__name__}: {error}")

    def _count(self, prompt: Prompt, score: Score) -> None:
        self.counts[score.status] += 1
        if self.counts["ok"]:
            return
        self._last_failure = f"{score.status}: {score.detail}"
        if score.status != "unverifiable":
            self._failing.add(prompt.prompt_id)
        failures = self.counts.total() - self.counts["unverifiable"]
        if failures >= _FAILURES and len(self._failing) >= _FAILING_PROMPTS:
            self.refuse_if_all_failed()

    def _adopt(self) -> None:
        """In a forked child, leave the parent's processes to the parent."""
        if self._owner != os.getpid():
            self._crew.leave()
            self._lock, self._owner = threading.Lock(), os.getpid()


def _usable(verifier: str | Sequence[str] | Verifier) -> Verifier:
    """A verifier that can be run here, or in a process that knows no more of it than its name.

    Raises:
        InvalidParameter: it is neither.
    """
    if isinstance(verifier, (str, list, tuple)):
        return parse_verifier(verifier)
    if not all(hasattr(verifier, part) for part in ("name", "version", "quick", "score")):
        raise InvalidParameter(f"`verifier` of `VerifierPool` must be a specification or a verifier; got {verifier!r}")
    given = cast("Verifier", verifier)
    if not given.quick and type(given).__module__.partition(".")[0] != "curri":
        raise InvalidParameter(
            f"`verifier` of `VerifierPool` must be quick to be an object of yours; got {given!r}",
            hint="give a function by name, so that its process can import it: python:my_rewards:score",
        )
    return given
