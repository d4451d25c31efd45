"""Responses through the cache: what is in the store is not paid for again, and what is made is in the store at once.

with VerifierPool("math") as verifier:
    report = generate(store, OpenAIEngine("my-model", "http://localhost:8000/v1"), verifier, n=8)
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

import numpy as np

from curri.errors import (
    CurriError,
    EngineError,
    InvalidInput,
    InvalidParameter,
    MissingExtra,
    VerifierFailed,
    WriteFailed,
)
from curri.selectors import SuccessiveElimination, stable_hash
from curri.store import Source
from curri.store.cache import NewResponse, RolloutCache
from curri.store.publisher import Publisher
from curri.types import Request, Sampling, Score, prompt_id_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike

    from curri.rollouts.verifiers import VerifierPool
    from curri.store import PromptStore
    from curri.types import Answered, Bools, Engine, Generated, Ints, Prompt

BATCH = 4096
"""Responses that may be asked for and not yet stored."""
PARTS = 3
"""Of a batch: what the engine works on, what has arrived, and what is being scored and written."""

_BATCH_CHARACTERS = 1 << 26
_BATCH_SECONDS = 10.0
_FETCHED = 4096
_MOST_AT_ONCE = 32
"""Responses of one request; servers have limits, and what a request gave is lost when it fails."""
_TRIED_FIRST = 16
_REASONS = 10
_OTHER = "other reasons"


class GenerationProgress(NamedTuple):
    """How far it is.

    Attributes:
        done: responses that came, or could not be had.
        total: of how many that are being generated now.
        generated: responses that came.
        tokens: of them.
        seconds: since the first of them was asked for.
        rescoring: whether this is about stored responses that are scored anew; nothing is generated then.
    """

    done: int
    total: int
    generated: int
    tokens: int
    seconds: float
    rescoring: bool = False


Progress: TypeAlias = "Callable[[GenerationProgress], None]"


@dataclass(frozen=True, kw_only=True)
class Elimination:
    """How many responses each prompt gets, where not all get the same; see ``selectors.SuccessiveElimination``.

    Attributes:
        round_size: responses of a prompt in a round.
        max_rounds: rounds at most.
        exit: "balanced" or "positive".
        threshold: an outcome strictly above it is positive.
    """

    round_size: int = 8
    max_rounds: int = 4
    exit: str = "balanced"
    threshold: float = 0.7


@dataclass(frozen=True, kw_only=True)
class AdaptiveCost:
    """What successive elimination took, against the same number of responses for every prompt.

    A prompt has a signal when responses of both outcomes were drawn.

    Attributes:
        prompts: prompts whose first round is complete.
        rollouts: responses drawn for them.
        with_signal: how many of them have a signal.
        resolved: how many met the exit rule.
        fixed_n: responses of the first round of each, which is what a fixed n would have drawn.
        fixed_with_signal: how many have a signal in these; measured, since they are a part of what was drawn.
        most: responses of a prompt that was never decided; a fixed n that gives every prompt as many chances.
    """

    prompts: int
    rollouts: int
    with_signal: int
    resolved: int
    fixed_n: int
    fixed_with_signal: int
    most: int


@dataclass(frozen=True, kw_only=True)
class GenerationReport:
    """What became of a call of :func:`generate`; ``wanted == cached + generated + sum(failed.values()) + left``.

    Attributes:
        engine: its name.
        source: under which the responses are stored.
        prompts: how many.
        wanted: responses wanted of them.
        cached: those that were there.
        rescored: those among them that another verifier had scored, or none, and that this one has scored now.
        generated: those that were generated and stored.
        tokens: of the generated ones, as far as the engine told.
        tokens_saved: of the cached ones.
        truncated: generated ones that were cut off at the length limit.
        failed: reason → responses that could not be had.
        unscored: status → generated or stored ones to which the verifier gave no score; they are kept.
        left: responses that were not tried, because the budget was spent or the engine gave up.
        budget: tokens that might be generated, or None.
        seconds: from the first request to the last response.
        stopped: what ended it before its time, or None.
        adaptive: what elimination took, or None.
    """

    engine: str
    source: Source
    prompts: int
    wanted: int
    cached: int
    rescored: int
    generated: int
    tokens: int
    tokens_saved: int
    truncated: int
    failed: dict[str, int] = field(default_factory=dict)
    unscored: dict[str, int] = field(default_factory=dict)
    left: int = 0
    budget: int | None = None
    seconds: float = 0.0
    stopped: CurriError | None = None
    adaptive: AdaptiveCost | None = None

    @property
    def complete(self) -> bool:
        """Whether every response that was wanted is there and has a score, or was beyond the budget."""
        over_budget = self.budget is not None and self.stopped is None
        return not self.failed and not self.unscored and (self.left == 0 or over_budget)


def generate(
    store: PromptStore,
    engine: Engine,
    verifier: VerifierPool,
    *,
    prompt_ids: ArrayLike | None = None,
    n: int = 8,
    sampling: Sampling | None = None,
    elimination: Elimination | None = None,
    budget: int | None = None,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> GenerationReport:
    """See to it that every prompt has n responses of a model, scored and stored.

    A response is known by prompt, model, weight version, sampling settings, verifier and sample number. Those that are
    there are not generated again; those that were scored by another verifier, or by none, are scored anew. A third of a
    batch is scored and written while another arrives and the engine works on one more. Never are more than ``batch``
    responses asked for and not stored, so that is the most that a killed process loses, and the same call goes on from
    there. Response number i of a prompt is always drawn with the same seed, so that an engine which heeds seeds gives
    what it would have given without the interruption.

    Args:
        store: an open store.
        engine: what generates.
        verifier: what scores.
        prompt_ids: by default every prompt for training that is not retired.
        n: responses of each prompt; with ``elimination``, the size of the groups that are to have a signal.
        sampling: how responses are drawn.
        elimination: draw in rounds, and more only for prompts that are not decided yet.
        budget: tokens that may be generated at most. Where it runs short, prompts are taken in an order that depends
            on the seed alone; no response is begun that could exceed it.
        batch: responses that may be asked for and not yet stored. An engine should work on a third of them at a time.
        progress: called as responses come in.

    Returns:
        what became of it. Where something was done before an engine or a verifier failed, the failure is in
        ``stopped``.

    Raises:
        InvalidInput: there are no prompts, or the verifier can judge none of the first ones.
        InvalidParameter: an argument is out of range.
        UnknownPrompt: a prompt is not in the store.
        EngineError, VerifierFailed, MissingExtra: nothing could be done at all.
        WriteFailed: the store cannot be written to.

    >>> import tempfile
    >>> from curri.rollouts import SimulatedEngine, VerifierPool
    >>> from curri.store import NewPrompt, open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder + "/s.duckdb", create=True) as store:
    ...     added = store.prompts.add([NewPrompt("1 + 1 = ?", False, "2", "sums")])
    ...     with VerifierPool("exact") as verifier:
    ...         few = generate(store, SimulatedEngine(), verifier, n=5)
    ...         more = generate(store, SimulatedEngine(), verifier, n=8)
    >>> few.generated, more.cached, more.generated
    (5, 5, 3)
    """
    sampling = Sampling() if sampling is None else sampling
    for name, value in (("n", n), ("batch", batch), ("budget", 1 if budget is None else budget)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1 << 30:
            raise InvalidParameter(f"`{name}` of `generate` must be an integer in [1, 2**30); got {value!r}")
    if sampling.temperature == 0.0 and (n > 1 or elimination is not None):
        raise InvalidParameter(
            f"at temperature 0 all responses to a prompt are the same, so `n` must be 1; got {n}",
            hint="raise the temperature, or ask for one response",
        )
    ids = _prompts(store, prompt_ids)
    work = _Generation(store, engine, verifier, sampling, budget=budget, batch=batch, progress=progress)
    with work:
        cost = None
        if elimination is None:
            work.obtain(ids, 0, n)
        else:
            cost = _eliminate(work, ids, n, elimination)
    return work.report(ids.size, cost)


def _prompts(store: PromptStore, prompt_ids: ArrayLike | None) -> Ints:
    if prompt_ids is None:
        pool = store.pool()
        ids = pool.ids[pool.active]
    else:
        ids = np.unique(prompt_id_array(prompt_ids, "`prompt_ids` of `generate`"))
        store.prompts.refuse_unknown(ids)
    if not ids.size:
        raise InvalidInput("there are no prompts to generate for", hint="`curri prompts list` shows what is there")
    return ids


class _Job(NamedTuple):
    """Responses of one prompt that follow one another and are missing."""

    prompt_id: int
    sample: int
    n: int
    seed: int


class _Generation:
    """One call of ``generate`` at work."""

    def __init__(
        self,
        store: PromptStore,
        engine: Engine,
        verifier: VerifierPool,
        sampling: Sampling,
        *,
        budget: int | None,
        batch: int,
        progress: Progress | None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._verifier = verifier
        self._sampling = sampling
        self._budget = budget
        self._batch = batch
        self._progress = progress
        settings = settings_text(engine, sampling)
        self.source = Source(engine.model, engine.weight_version, settings, verifier.key)
        self.cache = RolloutCache(store, self.source)
        self._publisher = Publisher(store)
        self.stopped: CurriError | None = None
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="curri-write")
        self._writing: Future[None] | None = None
        self._unwritable = False
        self._arrived: list[Answered] = []
        self._size = self._characters = 0
        self._under_way = self._being_written = 0
        self._flushed = 0.0
        self._queue: deque[_Job] = deque()
        self._texts: dict[int, Prompt] = {}
        self._spent = self._reserved = 0
        self._started: float | None = None
        self._ended = 0.0
        self._total = 0
        self._checked = False
        self.wanted = self._cached = self._rescored = self._tokens_saved = 0
        self._generated = self._tokens = self._truncated = 0
        self._failed: Counter[str] = Counter()
        self._unscored: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown(wait=True)

    def report(self, prompts: int, cost: AdaptiveCost | None) -> GenerationReport:
        """What became of it.

        Raises:
            CurriError: it was stopped before anything was done.
        """
        if self.stopped is not None and not (self._generated or self._rescored):
            raise self.stopped
        done = self._cached + self._generated + self._failed.total()
        return GenerationReport(
            engine=self._engine.name,
            source=self.source,
            prompts=prompts,
            wanted=self.wanted,
            cached=self._cached,
            rescored=self._rescored,
            generated=self._generated,
            tokens=self._tokens,
            tokens_saved=self._tokens_saved,
            truncated=self._truncated,
            failed=dict(self._failed.most_common()),
            unscored=dict(self._unscored.most_common()),
            left=self.wanted - done,
            budget=self._budget,
            seconds=0.0 if self._started is None else self._ended - self._started,
            stopped=self.stopped,
            adaptive=cost,
        )

    @property
    def over(self) -> bool:
        """Whether nothing more can be had."""
        return self.stopped is not None or bool(self._queue)

    # ---- what is there ------------------------------------------------------------------------------------------

    def obtain(self, prompt_ids: Ints, first: int, last: int) -> None:
        """Have the responses with numbers from ``first`` to ``last`` - 1 of some prompts, as far as they can be had."""
        self.wanted += prompt_ids.size * (last - first)
        held = self.cache.held(prompt_ids, first, last)
        waiting = int((~held.scored).sum())
        if waiting:
            with self._stoppable():
                self._rescore(prompt_ids, first, last, waiting)
        self._cached += held.samples.size
        saved = int(held.tokens.sum())
        self._tokens_saved += saved
        self.cache.count(hits=held.samples.size, tokens_saved=saved)
        missing = np.ones((prompt_ids.size, last - first), dtype=np.bool_)
        missing[np.searchsorted(prompt_ids, held.prompt_ids), held.samples - first] = False
        rows = self._order(prompt_ids, missing)
        self._queue = deque(_jobs(prompt_ids[rows], missing[rows], first, self._seeds(prompt_ids[rows])))
        if self._queue and self.stopped is None:
            with self._stoppable():
                self._run()

    def _order(self, prompt_ids: Ints, missing: Bools) -> Ints:
        """Rows with something missing: ascending, or shuffled where the budget may not do for all."""
        rows = np.flatnonzero(missing.any(axis=1))
        if self._budget is not None:
            rows = rows[np.argsort(stable_hash(prompt_ids[rows], self._sampling.seed ^ 0x6F72), kind="stable")]
        return rows

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        try:
            yield
        except (EngineError, VerifierFailed, MissingExtra) as error:
            self.stopped = error

    def _rescore(self, prompt_ids: Ints, first: int, last: int, total: int) -> None:
        """Have stored responses scored that this verifier has not scored yet, of which there are at most so many."""
        start, done = time.monotonic(), 0
        for part in self.cache.waiting(prompt_ids, first, last):
            prompts = self._store.texts.fetch(np.array([old.prompt_id for old in part], dtype=np.int64))
            scores = self._verifier.verify(prompts, [old.response for old in part])
            self._rescored += self.cache.rescore(part, scores)
            self._publisher.when_due()
            self._unscored.update(score.status for score in scores if score.status != "ok")
            done += len(part)
            if self._progress is not None:
                self._progress(GenerationProgress(done, total, 0, 0, time.monotonic() - start, rescoring=True))

    # ---- what is missing ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._total = sum(job.n for job in self._queue)
        self._check()
        done = self._generated + self._failed.total()
        while self._queue:
            before = len(self._queue), self._spent
            self._run_once(done)
            if (len(self._queue), self._spent) == before:
                break  # what is left of the budget is less than a response may take

    def _check(self) -> None:
        """Look before the first response is paid for whether there is an engine and a verifier for it."""
        if self._checked:
            return
        self._checked = True
        prompts = [self._prompt(job.prompt_id) for job, _ in zip(self._queue, range(_TRIED_FIRST), strict=False)]
        scores = self._verifier.verify(prompts, [""] * len(prompts))
        self._verifier.counts.clear()
        if all(score.status == "unverifiable" for score in scores):
            raise InvalidInput(
                f"the verifier {self._verifier.name} can judge none of the first {len(prompts)} prompts: "
                f"{scores[0].detail}",
                hint="take prompts with answers, or another verifier: --verifier",
            )
        self._engine.check()

    def _run_once(self, done_before: int) -> None:
        self._started = time.monotonic() if self._started is None else self._started
        self._flushed = time.monotonic()
        stream = iter(self._engine.generate(self._requests(), self._sampling))
        try:
            for answered in stream:
                self._take(answered)
                self._show(done_before)
        finally:
            close = getattr(stream, "close", None)
            if close is not None:
                close()
            self._ended = time.monotonic()
            self._flush()
            self._wait()

    def _requests(self) -> Iterator[Request]:
        """Requests for what is missing, as far as the budget and the batch allow."""
        while self._queue:
            job = self._queue[0]
            n = self._room(min(job.n, self._affordable()))
            if n < 1:
                return
            self._queue.popleft()
            if n < job.n:
                self._queue.appendleft(_Job(job.prompt_id, job.sample + n, job.n - n, job.seed))
            self._reserved += n * self._sampling.max_tokens
            self._under_way += n
            yield Request(self._prompt(job.prompt_id), n, job.seed + job.sample, job.sample)

    def _room(self, n: int) -> int:
        """How many of n responses may be asked for without there being more than a batch that is not stored.

        Where it takes that, what has arrived is stored first. None may be where the engine itself has too many in hand.
        """
        if self._under_way + n > self._batch:
            self._wait()
        if self._under_way + n > self._batch:
            self._flush()
            self._wait()
        if self._under_way + n <= self._batch:
            return n
        return 0 if self._under_way else self._batch

    def _affordable(self) -> int:
        if self._budget is None:
            return 1 << 30
        return max(self._budget - self._spent - self._reserved, 0) // self._sampling.max_tokens

    def _seeds(self, prompt_ids: Ints) -> Ints:
        """Of response number 0 of each prompt."""
        return (stable_hash(prompt_ids, self._sampling.seed) >> np.uint64(34)).astype(np.int64)

    def _prompt(self, prompt_id: int) -> Prompt:
        if prompt_id not in self._texts:
            ahead = [prompt_id, *(job.prompt_id for job, _ in zip(self._queue, range(_FETCHED), strict=False))]
            prompts = self._store.texts.fetch(np.unique(np.array(ahead, dtype=np.int64)))
            self._texts = {prompt.prompt_id: prompt for prompt in prompts}
        return self._texts[prompt_id]

    def _take(self, answered: Answered) -> None:
        request, responses = answered.request, answered.responses
        self._reserved -= request.n * self._sampling.max_tokens
        if self._budget is not None and any(response.tokens is None for response in responses):
            message = f"the engine {self._engine.name} does not tell how many tokens a response has"
            raise EngineError(message, hint="a budget of tokens cannot be kept: leave --budget out")
        self._spent += sum(response.tokens or 0 for response in responses)
        missing = request.n - len(responses)
        self._under_way -= missing
        if missing:
            reason = answered.failure or "the engine gave fewer responses than asked for"
            known = reason in self._failed or len(self._failed) < _REASONS
            self._failed[reason if known else _OTHER] += missing
        self._arrived.append(answered)
        self._size += len(responses)
        self._characters += sum(len(response.text) for response in responses)
        late = time.monotonic() - self._flushed >= _BATCH_SECONDS
        full = self._size + request.n > self._batch // PARTS  # another one like it would be too many
        if full or self._characters >= _BATCH_CHARACTERS or late:
            self._flush()

    def _show(self, done_before: int) -> None:
        if self._progress is None or self._started is None:
            return
        generated = self._generated + self._size
        self._progress(
            GenerationProgress(
                done=generated + self._failed.total() - done_before,
                total=self._total,
                generated=generated,
                tokens=self._spent,
                seconds=time.monotonic() - self._started,
            )
        )

    # ---- writing ------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Hand over what has arrived to be scored and written, beside the next responses."""
        arrived, self._arrived = self._arrived, []
        self._size = self._characters = 0
        self._flushed = time.monotonic()
        if self._unwritable or not any(answered.responses for answered in arrived):
            return
        try:
            self._wait()
        finally:  # what the verifier failed for is paid for, and so is this
            if not self._unwritable:
                self._count(arrived)
                self._being_written = sum(len(answered.responses) for answered in arrived)
                self._writing = self._writer.submit(self._write, arrived)

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.result()
        except WriteFailed:
            self._unwritable = True
            raise
        self._under_way -= self._being_written

    def _count(self, arrived: Sequence[Answered]) -> None:
        for answered in arrived:
            self._generated += len(answered.responses)
            self._truncated += sum(response.truncated for response in answered.responses)
            self._tokens += sum(response.tokens or 0 for response in answered.responses)

    def _write(self, arrived: Sequence[Answered]) -> None:
        pairs = [(a.request, i, response) for a in arrived for i, response in enumerate(a.responses)]
        failure: CurriError | None = None
        try:
            scores = self._verifier.verify(
                [request.prompt for request, _, _ in pairs], [response.text for _, _, response in pairs]
            )
        except CurriError as error:  # they are paid for: keep them, and have them scored by a verifier that works
            failure = error
            scores = [Score(np.nan, np.nan, "error", error.message)] * len(pairs)
        self.cache.add([self._new(*pair) for pair in pairs], scores)
        self._unscored.update(score.status for score in scores if score.status != "ok")
        if failure is not None:
            raise failure
        self._publisher.when_due()

    def _new(self, request: Request, place: int, response: Generated) -> NewResponse:
        extras: dict[str, Any] = dict(response.extras)
        if response.finish not in ("stop", "length"):
            extras["finish"] = response.finish
        if self._sampling.token_ids and response.token_ids is not None:
            extras["token_ids"] = list(response.token_ids)
        if self._sampling.logprobs and response.logprobs is not None:
            extras["logprobs"] = list(response.logprobs)
        if response.weight_version not in (None, self.source.weight_version):
            extras["weight_version"] = response.weight_version
        sample = request.sample + place
        return NewResponse(request.prompt.prompt_id, sample, response.text, response.tokens, response.truncated, extras)


def settings_text(engine: Engine, sampling: Sampling) -> str:
    """What a source says of engine and sampling: canonical JSON."""
    settings: dict[str, Any] = {
        **engine.settings,
        "temperature": float(sampling.temperature),
        "top_p": float(sampling.top_p),
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
    }
    if sampling.stop:
        settings["stop"] = list(sampling.stop)
    if sampling.system is not None:
        settings["system"] = sampling.system
    if sampling.other:
        settings["other"] = dict(sampling.other)
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def _jobs(prompt_ids: Ints, missing: Bools, first: int, seeds: Ints) -> Iterator[_Job]:
    """What is missing of each prompt, in runs that follow one another; ``missing`` has a row for each."""
    edges = np.diff(np.pad(missing, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    runs = (prompt_ids[rows].tolist(), starts.tolist(), ends.tolist(), seeds[rows].tolist())
    for prompt_id, start, end, seed in zip(*runs, strict=True):
        for part in range(start, end, _MOST_AT_ONCE):
            yield _Job(prompt_id, first + part, min(end - part, _MOST_AT_ONCE), seed)


def _eliminate(work: _Generation, ids: Ints, n: int, how: Elimination) -> AdaptiveCost:
    """Rounds of responses for those prompts that are not decided; one with a response missing gets no more."""
    rounds = SuccessiveElimination(ids, n, how.round_size, how.max_rounds, how.exit, how.threshold)
    first_round: tuple[Ints, Ints] = (np.zeros(0, dtype=np.int64),) * 2
    for number in range(how.max_rounds):
        asked, _ = rounds.ask()
        if not asked.size or work.over:
            break
        first = number * how.round_size
        work.obtain(asked, first, first + how.round_size)
        held = work.cache.held(asked, first, first + how.round_size)
        outcomes = np.where(np.isnan(held.solved), held.rewards, held.solved)[held.scored]
        told = held.prompt_ids[held.scored]
        rounds.tell(told, outcomes)
        if number == 0:
            place, size = np.searchsorted(ids, told), ids.size
            right = np.bincount(place, outcomes > how.threshold, size).astype(np.int64)
            first_round = right, np.bincount(place, minlength=size)
    right, drawn = first_round
    groups = rounds.groups()
    whole = ids[drawn == how.round_size].tolist()
    mine = [groups[prompt_id] for prompt_id in whole]
    return AdaptiveCost(
        prompts=len(whole),
        rollouts=sum(group.drawn for group in mine),
        with_signal=sum(group.mixed for group in mine),
        resolved=sum(group.resolved for group in mine),
        fixed_n=how.round_size,
        fixed_with_signal=int(((right > 0) & (right < drawn) & (drawn == how.round_size)).sum()),
        most=how.round_size * how.max_rounds,
    )
