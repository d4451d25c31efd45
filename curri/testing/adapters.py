"""The contract suite for trainer adapters: what each of them promises about picks, outcomes and restarts.

An adapter's author writes two small things: a :class:`Session`, which does with the adapter what a trainer does, and a
function that starts one in a folder::

    from curri.testing import AdapterCase, parametrize_adapters


    class MySession:
        def __init__(self, folder, setting):
            self.scheduler = setting.scheduler(folder)
            self.loader = iter(my_adapter(setting.rows(), self.scheduler, setting.prompts, setting.group_size))
            self.curriculum = self.scheduler.curriculum

        def next_batch(self):
            return [row["prompt_id"] for row in next(self.loader)]

        def report(self, ids, rewards):
            my_adapter_reward_hook(ids, rewards)

        def checkpoint(self): ...

        def stop(self):
            self.scheduler.store.close()


    @parametrize_adapters([AdapterCase("mine", MySession)])
    def test_adapter(check):
        check()

Without pytest, ``run_adapter_checks(AdapterCase("mine", MySession))`` gives a list of results. A promise that cannot be
asked of a trainer is named in ``AdapterCase.not_asked`` with its reason, and shown as skipped: none is left out.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from curri.errors import CurriError, unknown_name
from curri.pool import PromptPool
from curri.registry import strategy as strategy_class
from curri.testing.case import expect, refused
from curri.testing.contract import Result, nodes, result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pytest

    from curri.curricula.base import Curriculum
    from curri.scheduler import Scheduler

ROUNDS = 9
_STOP = 3
_FIRST_IDS = tuple(range(1, 49))


@dataclass(frozen=True, eq=False)
class Setting:
    """What an adapter is run on.

    Attributes:
        ids: the id of each row of the dataset; honest ones are 1, 2, …, which is how a store numbers its prompts.
        prompts: prompts of a batch.
        group_size: rows of each prompt.
        strategy: registered name.
        parameters: of the strategy.
    """

    ids: Sequence[int | None] = _FIRST_IDS
    prompts: int = 4
    group_size: int = 2
    strategy: str = "ucb"
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"seed": 0, "temperature": 0.05, "group_size": 2})

    @property
    def rows_of_batch(self) -> int:
        """Rows of a batch."""
        return self.prompts * self.group_size

    def rows(self) -> list[dict[str, Any]]:
        """The dataset: ``prompt_id``, ``prompt`` and ``answer``."""
        return [{"prompt_id": i, "prompt": f"What is {n} + {n}?", "answer": str(2 * n)} for n, i in enumerate(self.ids)]

    def curriculum(self) -> Curriculum:
        """A bare strategy over prompts 1 to 48 in four arms."""
        pool = PromptPool(_FIRST_IDS, [_arm(number) for number in range(len(_FIRST_IDS))])
        built: Curriculum = strategy_class(self.strategy)(pool, **self.parameters)
        return built

    def scheduler(self, folder: Path) -> Scheduler:
        """A scheduler over the same prompts in a store in that folder, made on first use."""
        from curri.scheduler import Scheduler
        from curri.store import NewPrompt, open_store

        store = open_store(folder / "prompts.duckdb", create=True)
        texts = [f"What is {n} + {n}?" for n in range(len(_FIRST_IDS))]
        arms = [_arm(number) for number in range(len(texts))]
        if not len(store.prompts):
            store.prompts.add(
                [
                    NewPrompt(text, is_chat=False, answer=str(2 * n), arm=arm)
                    for n, (text, arm) in enumerate(zip(texts, arms, strict=True))
                ]
            )
        return Scheduler(store, self.strategy, run="conformance", **self.parameters)


def _arm(number: int) -> str:
    return f"arm{number % 4}"


class Session(Protocol):
    """A trainer at work: one process from its start to its end. Ids are those of the dataset's ``prompt_id``.

    Attributes:
        curriculum: the strategy, to look at.
    """

    curriculum: Curriculum

    def next_batch(self) -> Sequence[int]:
        """The prompt id of every row of the next batch, in the order of the rows."""
        ...

    def report(self, ids: Sequence[int], rewards: Sequence[float]) -> object:
        """Hand in the rewards of a batch (or of some responses) through the adapter's own hook, before any filter.

        The trainer drops groups without variance afterwards, if it does.
        """
        ...

    def checkpoint(self) -> object:
        """Save as the trainer saves."""
        ...

    def stop(self) -> object:
        """End the session as a crash would, but let go of files that only one session may hold."""
        ...


@dataclass(frozen=True, eq=False)
class AdapterCase:
    """One adapter in one setting, to be checked.

    Attributes:
        name: for test ids.
        start: starts a session in a folder: a new one where the folder is empty, else one that goes on from there.
        lag: how many batches may be without feedback when a batch is picked; what the adapter's page promises.
        on_ranks: runs a number of rounds on several ranks and gives the ids of every round by rank, each rank's view
            of the whole batch; None for an adapter of one process.
        setting: what it is run on.
        expected_failures: check name → why it is known to fail. Such a check must fail.
        not_asked: check name → why it cannot be asked of this trainer. Such a check is skipped, with the reason.
    """

    name: str
    start: Callable[[Path, Setting], Session]
    lag: int = 0
    on_ranks: Callable[[Path, Setting, int], Sequence[Sequence[Sequence[int]]]] | None = None
    setting: Setting = field(default_factory=Setting)
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    not_asked: Mapping[str, str] = field(default_factory=dict)


class AdapterPromise(NamedTuple):
    """One check of the suite."""

    name: str
    function: Callable[[AdapterCase, Path], None]
    needs_ranks: bool


ADAPTER_PROMISES: list[AdapterPromise] = []
"""All checks, in the order in which they are defined."""


def _promise(*, needs_ranks: bool = False) -> Callable[[Callable[[AdapterCase, Path], None]], None]:
    def add(function: Callable[[AdapterCase, Path], None]) -> None:
        ADAPTER_PROMISES.append(AdapterPromise(function.__name__.removeprefix("check_"), function, needs_ranks))

    return add


@dataclass(frozen=True, eq=False)
class AdapterCheck:
    """One promise to be checked of one case; calling it checks, in a folder of its own.

    Attributes:
        name: of the promise, such as "resume_loses_nothing".
        case: what is checked.
        promise: how.
    """

    name: str
    case: AdapterCase
    promise: AdapterPromise

    @property
    def doc(self) -> str:
        """What is promised."""
        return (self.promise.function.__doc__ or "").strip()

    @property
    def id(self) -> str:
        """A readable id, such as "trl-resume_loses_nothing"."""
        return f"{self.case.name}-{self.name}"

    @property
    def not_asked(self) -> str | None:
        """Why it cannot be asked of this case; None where it can."""
        if self.promise.needs_ranks and self.case.on_ranks is None:
            return self.case.not_asked.get(self.name, "an adapter of one process: the case has no `on_ranks`")
        return self.case.not_asked.get(self.name)

    def __call__(self) -> None:
        """Check it. A warning counts as a failure."""
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("error")
            self.promise.function(self.case, Path(folder))


def adapter_checks(case: AdapterCase) -> list[AdapterCheck]:
    """All checks of a case, also those that are not asked of it.

    Raises:
        UnknownName: an expected failure, or a check that is not asked, names no check.
    """
    names = [promise.name for promise in ADAPTER_PROMISES]
    for name in (*case.expected_failures, *case.not_asked):
        if name not in names:
            raise unknown_name("check", name, names)
    return [AdapterCheck(promise.name, case, promise) for promise in ADAPTER_PROMISES]


def run_adapter_checks(case: AdapterCase) -> list[Result]:
    """Run all checks of a case, without pytest."""
    return [result_of(check) for check in adapter_checks(case)]


def parametrize_adapters(cases: Iterable[AdapterCase]) -> pytest.MarkDecorator:
    """A pytest mark that gives a test its ``check`` argument: one node a check and case."""
    return nodes(check for case in cases for check in adapter_checks(case))


# ---- helpers ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _session(case: AdapterCase, folder: Path, **changes: Any) -> Iterator[Session]:
    folder.mkdir(exist_ok=True)
    session = case.start(folder, replace(case.setting, **changes))
    try:
        yield session
    finally:
        session.stop()


def _rewards(ids: Sequence[int], number: int) -> list[float]:
    """Rewards of batch ``number``, a pure function of it, of the prompts and of the places in the batch."""
    return [float((7 * i + 3 * number + place) % 5 < 2) for place, i in enumerate(ids)]


def _steps(session: Session, numbers: Iterable[int]) -> list[list[int]]:
    """Train on one batch after the other."""
    batches = []
    for number in numbers:
        batches.append(_ids(session.next_batch()))
        session.report(batches[-1], _rewards(batches[-1], number))
    return batches


def _ids(batch: Sequence[int]) -> list[int]:
    return [int(prompt) for prompt in batch]


def _folded(session: Session) -> int:
    """Responses that the strategy has learned from."""
    return int(session.curriculum.metrics()[f"curriculum/{session.curriculum.name}/responses_folded"])


def _uninterrupted(case: AdapterCase, folder: Path) -> list[list[int]]:
    with _session(case, folder / "uninterrupted") as session:
        return _steps(session, range(ROUNDS))


# ---- the promises ----------------------------------------------------------------------------------------------------


@_promise()
def check_groups_are_whole(case: AdapterCase, folder: Path) -> None:
    """A batch is `prompts` different prompts of the dataset, each in `group_size` neighbouring rows."""
    setting = case.setting
    with _session(case, folder / "a") as session:
        for batch in _steps(session, range(4)):
            expect(len(batch) == setting.rows_of_batch, f"a batch has {len(batch)} rows, not {setting.rows_of_batch}")
            groups = np.array(batch).reshape(setting.prompts, setting.group_size)
            expect((groups == groups[:, :1]).all(), f"a group mixes prompts: {batch}")
            expect(len(set(batch)) == setting.prompts, f"a batch has a prompt twice: {batch}")


@_promise()
def check_fresh(case: AdapterCase, folder: Path) -> None:
    """When a batch is picked, at most `lag` batches are without feedback."""
    with _session(case, folder / "a") as session:
        for number in range(ROUNDS):
            ids = _ids(session.next_batch())
            ahead = session.curriculum.rounds_asked - number - 1
            expect(ahead <= case.lag, f"{ahead} batches were picked ahead of batch {number}; {case.lag} are promised")
            session.report(ids, _rewards(ids, number))


@_promise()
def check_picks_react(case: AdapterCase, folder: Path) -> None:
    """What is reported changes what is picked later."""
    streams: list[list[list[int]]] = []
    for name, sign in (("a", 1.0), ("b", 0.0)):
        with _session(case, folder / name) as session:
            streams.append([])
            for _ in range(ROUNDS):
                ids = _ids(session.next_batch())
                streams[-1].append(ids)
                session.report(ids, [float((i % 4 == 1) * (place % 2) * sign) for place, i in enumerate(ids)])
    expect(streams[0] != streams[1], "the same picks came, whatever was reported")


@_promise()
def check_observed_before_filtered(case: AdapterCase, folder: Path) -> None:
    """Groups without variance, which a trainer throws away, are learned from like all others."""
    with _session(case, folder / "a") as session:
        for number in range(3):
            ids = _ids(session.next_batch())
            session.report(ids, [1.0] * len(ids))
            wanted = (number + 1) * case.setting.rows_of_batch
            expect(_folded(session) == wanted, f"{_folded(session)} of {wanted} responses were learned from")


@_promise()
def check_resume_loses_nothing(case: AdapterCase, folder: Path) -> None:
    """A batch that was handed out and not reported when a session ended is the first one of the next session."""
    with _session(case, folder / "a") as session:
        _steps(session, range(_STOP))
        session.checkpoint()
        in_hand = _ids(session.next_batch())
    with _session(case, folder / "a") as session:
        first = _ids(session.next_batch())
    expect(first == in_hand, f"stopped with {in_hand} in hand after {_STOP} batches; then came {first}")


@_promise()
def check_resume_repeats_nothing(case: AdapterCase, folder: Path) -> None:
    """What was reported before a checkpoint is not handed out again by the session that goes on from it."""
    with _session(case, folder / "a") as session:
        done = _steps(session, range(_STOP))
        session.checkpoint()
    with _session(case, folder / "a") as session:
        first = _ids(session.next_batch())
        learned = _folded(session)
    expect(first not in done, f"batch {first} came again, although it was reported")
    wanted = _STOP * case.setting.rows_of_batch
    expect(learned == wanted, f"after the restart {learned} responses are known, not {wanted}")


@_promise()
def check_resume_is_bit_equal(case: AdapterCase, folder: Path) -> None:
    """Stopped after any batch and started again, the picks are those of a session that was never stopped."""
    reference = _uninterrupted(case, folder)
    for stop, in_hand in ((1, True), (4, False)):
        with _session(case, folder / f"{stop}") as session:
            picks = _steps(session, range(stop))
            session.checkpoint()
            if in_hand:
                session.next_batch()
        with _session(case, folder / f"{stop}") as session:
            picks += _steps(session, range(stop, ROUNDS))
        wrong = next((k for k in range(ROUNDS) if picks[k] != reference[k]), None)
        expect(wrong is None, f"stopped after {stop} batches: batch {wrong} is another one than without the stop")


@_promise(needs_ranks=True)
def check_ranks_agree(case: AdapterCase, folder: Path) -> None:
    """All ranks see the same prompts in every round, and no group has two prompts."""
    assert case.on_ranks is not None  # noqa: S101  the check applies only then
    setting = case.setting
    seen = [[_ids(batch) for batch in rank] for rank in case.on_ranks(folder, setting, ROUNDS)]
    expect(len(seen) > 1, f"{len(seen)} rank was run")
    expect(all(len(rank) == ROUNDS for rank in seen), f"ranks ran {[len(rank) for rank in seen]} rounds, not {ROUNDS}")
    for number, batches in enumerate(zip(*seen, strict=True)):
        expect(all(batch == batches[0] for batch in batches), f"ranks picked otherwise in round {number}: {batches}")
        groups = np.array(batches[0]).reshape(-1, setting.group_size)
        expect((groups == groups[:, :1]).all(), f"a group mixes prompts in round {number}: {batches[0]}")


@_promise()
def check_missing_ids_refused(case: AdapterCase, folder: Path) -> None:
    """A row without an id is an error before the first batch."""
    _refused_ids(case, folder, "a row without an id", [*_FIRST_IDS[:-1], None])


@_promise()
def check_repeated_ids_refused(case: AdapterCase, folder: Path) -> None:
    """Two rows with one id are an error before the first batch."""
    _refused_ids(case, folder, "an id in two rows", [*_FIRST_IDS[:-1], 1])


@_promise()
def check_unknown_ids_refused(case: AdapterCase, folder: Path) -> None:
    """An id that no prompt has is an error before the first batch."""
    _refused_ids(case, folder, "an unknown id", [*_FIRST_IDS[:-1], 4711])


def _refused_ids(case: AdapterCase, folder: Path, what: str, ids: Sequence[int | None]) -> None:
    def start() -> None:
        with _session(case, folder / "a", ids=ids):
            pass

    refused(f"a dataset with {what}", CurriError, start)


@_promise()
def check_late_results_count(case: AdapterCase, folder: Path) -> None:
    """A response that arrives after its group was reported is learned from with the next batch."""
    with _session(case, folder / "a") as session:
        (batch,) = _steps(session, range(1))
        session.report(batch[:1], [0.5])
        _steps(session, range(1, 2))
        wanted = 2 * case.setting.rows_of_batch + 1
        expect(_folded(session) == wanted, f"{_folded(session)} responses were learned from, not {wanted}")


@_promise()
def check_repeated_reports_count_once(case: AdapterCase, folder: Path) -> None:
    """The same report again, as after a retry, changes nothing."""
    with _session(case, folder / "a") as session:
        (batch,) = _steps(session, range(1))
        session.report(batch, _rewards(batch, 0))
        _steps(session, range(1, 2))
        wanted = 2 * case.setting.rows_of_batch
        expect(_folded(session) == wanted, f"{_folded(session)} responses were learned from, not {wanted}")


@_promise()
def check_unknown_reports_refused(case: AdapterCase, folder: Path) -> None:
    """A report for a prompt that nobody knows is refused as a whole."""
    with _session(case, folder / "a") as session:
        (batch,) = _steps(session, range(1))
        refused("a report for prompt 4711", CurriError, session.report, [*batch, 4711], [1.0] * (len(batch) + 1))
        expect(_folded(session) == len(batch), f"{_folded(session)} responses were learned from, not {len(batch)}")
