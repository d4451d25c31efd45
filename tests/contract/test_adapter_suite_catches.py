"""The suite for adapters can fail: for every check there is an adapter that breaks what it promises, and is caught."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from curri.errors import InvalidData, UnknownName, UnknownPrompt
from curri.testing import AdapterCase, BrokenContract, adapter_checks, parametrize_adapters, run_adapter_checks
from curri.testing.adapters import ADAPTER_PROMISES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from curri.testing import AdapterCheck, Setting

pytest_plugins = ("pytester",)


class Fair:
    """Asks and tells a scheduler, batch by batch; keeps every promise."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.folder, self.setting = folder, setting
        self.check_ids(list(setting.ids))
        self.scheduler: Any = setting.scheduler(folder)
        self.curriculum = self.scheduler.curriculum
        self.check_known(list(setting.ids))

    def check_ids(self, ids: list[int | None]) -> None:
        if None in ids:
            raise InvalidData("a row has no id")
        if len(set(ids)) < len(ids):
            raise InvalidData("two rows have the same id")

    def check_known(self, ids: list[Any]) -> None:
        try:
            self.curriculum.pool.rows(ids)
        except UnknownPrompt:
            self.stop()
            raise

    def next_batch(self) -> Sequence[int]:
        ids: Sequence[int] = self.scheduler.ask(self.setting.prompts).prompt_ids.repeat(self.setting.group_size)
        return ids

    def report(self, ids: Sequence[int], rewards: Sequence[float]) -> None:
        self.scheduler.tell(ids, rewards)

    def checkpoint(self) -> None:
        pass

    def stop(self) -> None:
        self.scheduler.store.close()


def fair_ranks(folder: Path, setting: Setting, rounds: int) -> list[list[list[int]]]:
    """Two ranks that are handed the same."""
    picks = [list(range(n, n + 4)) for n in range(rounds)]
    batches = [[i for i in batch for _ in range(setting.group_size)] for batch in picks]
    return [batches, batches]


# ---- broken ones -----------------------------------------------------------------------------------------------------


class Transposed(Fair):
    """Repeats the batch, not the prompts."""

    def next_batch(self) -> Sequence[int]:
        ids = self.scheduler.ask(self.setting.prompts).prompt_ids.tolist()
        return [*ids, *ids]


class Short(Fair):
    """Leaves out the last row."""

    def next_batch(self) -> Sequence[int]:
        return super().next_batch()[:-1]


class LookingAhead(Fair):
    """Draws the next batch before it hands out this one, and says so to nobody."""

    drawn: list[Sequence[int]]

    def next_batch(self) -> Sequence[int]:
        self.drawn = getattr(self, "drawn", None) or [super().next_batch()]
        self.drawn.append(super().next_batch())
        return self.drawn.pop(0)


class DeafEpoch(Fair):
    """Draws an epoch when it begins, as PyTorch's weighted sampler does."""

    def next_batch(self) -> Sequence[int]:
        if not hasattr(self, "drawn"):
            self.drawn = [super(DeafEpoch, self).next_batch() for _ in range(10)]
        return self.drawn.pop(0)


class Filtering(Fair):
    """Tells only groups with variance; the others vanish."""

    def report(self, ids: Sequence[int], rewards: Sequence[float]) -> None:
        by_prompt: dict[int, set[float]] = {}
        for prompt, reward in zip(ids, rewards, strict=True):
            by_prompt.setdefault(prompt, set()).add(reward)
        kept = [place for place, prompt in enumerate(ids) if len(by_prompt[prompt]) > 1]
        dropped = sorted(prompt for prompt, seen in by_prompt.items() if len(seen) == 1)
        self.scheduler.tell([ids[place] for place in kept], [rewards[place] for place in kept])
        self.scheduler.resolve(dropped, "dropped", "zero variance")


class ForgetsTheBatchInHand(Fair):
    """Begins with a new batch after a restart, as a cursor that runs ahead does."""

    def next_batch(self) -> Sequence[int]:
        selection = self.scheduler.ask(self.setting.prompts, reissue=False)
        ids: Sequence[int] = selection.prompt_ids.repeat(self.setting.group_size)
        return ids


class ReplaysTheLastBatch(Fair):
    """Begins with the last batch again after a restart."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        super().__init__(folder, setting)
        last = folder / "last"
        self.first = [int(word) for word in last.read_text().split()] if last.exists() else None

    def next_batch(self) -> Sequence[int]:
        first, self.first = self.first, None
        return super().next_batch() if first is None else first

    def report(self, ids: Sequence[int], rewards: Sequence[float]) -> None:
        (self.folder / "last").write_text(" ".join(str(int(i)) for i in ids))
        super().report(ids, rewards)


class StartsAnew(Fair):
    """Forgets its run: each session has its own."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        number = len(list(folder.glob("session*")))
        mine = folder / f"session{number}"
        mine.mkdir()
        super().__init__(mine, setting)


class TakesRowsWithoutId(Fair):
    """Takes a missing id for the first row."""

    def check_ids(self, ids: list[int | None]) -> None:
        super().check_ids([i for i in ids if i is not None])

    def check_known(self, ids: list[Any]) -> None:
        super().check_known([i for i in ids if i is not None])


class TakesRepeatedIds(Fair):
    """Keeps one of two rows with the same id."""

    def check_ids(self, ids: list[int | None]) -> None:
        super().check_ids(list(dict.fromkeys(ids)))


class TakesUnknownIds(Fair):
    """Leaves out rows that no prompt is known for."""

    def check_known(self, ids: list[Any]) -> None:
        pass


class ClosesItsEars(Fair):
    """Hears of a prompt once."""

    def report(self, ids: Sequence[int], rewards: Sequence[float]) -> None:
        self.heard: set[int] = getattr(self, "heard", set())
        new = [place for place, prompt in enumerate(ids) if prompt not in self.heard]
        self.heard |= set(ids)
        self.scheduler.tell([ids[place] for place in new], [rewards[place] for place in new])


class CountsTwice(Fair):
    """Gives every report names of its own."""

    reports = 0

    def report(self, ids: Sequence[int], rewards: Sequence[float]) -> None:
        self.reports += 1
        self.scheduler.tell(ids, rewards, rollout_ids=[f"{self.reports}-{place}" for place in range(len(ids))])


class DropsUnknownReports(Fair):
    """Leaves out what it does not know."""

    def report(self, ids: Sequence[int], rewards: Sequence[float]) -> None:
        known = self.curriculum.pool.contains(ids)
        self.scheduler.tell([i for i, k in zip(ids, known, strict=True) if k],
                            [r for r, k in zip(rewards, known, strict=True) if k])  # fmt: skip


def ranks_apart(folder: Path, setting: Setting, rounds: int) -> list[list[list[int]]]:
    one, other = fair_ranks(folder, setting, rounds)
    return [one, [*other[:5], *([i + 1 for i in batch] for batch in other[5:])]]


def ranks_mixed(folder: Path, setting: Setting, rounds: int) -> list[list[list[int]]]:
    batches = [[1, 2, 2, 1, 3, 3, 4, 4]] * rounds
    return [batches, batches]


def one_rank(folder: Path, setting: Setting, rounds: int) -> list[list[list[int]]]:
    return fair_ranks(folder, setting, rounds)[:1]


BREAKS: list[tuple[str, type[Fair], str]] = [
    ("groups_are_whole", Transposed, "a group mixes prompts"),
    ("groups_are_whole", Short, "7 rows, not 8"),
    ("fresh", LookingAhead, "1 batches were picked ahead of batch 0; 0 are promised"),
    ("picks_react", DeafEpoch, "whatever was reported"),
    ("observed_before_filtered", Filtering, "0 of 8 responses"),
    ("resume_loses_nothing", ForgetsTheBatchInHand, "in hand"),
    ("resume_repeats_nothing", ReplaysTheLastBatch, "came again"),
    ("resume_repeats_nothing", StartsAnew, "0 responses are known|came again"),
    ("resume_is_bit_equal", StartsAnew, "another one than without the stop"),
    ("missing_ids_refused", TakesRowsWithoutId, "without an id was accepted"),
    ("repeated_ids_refused", TakesRepeatedIds, "in two rows was accepted"),
    ("unknown_ids_refused", TakesUnknownIds, "unknown id was accepted"),
    ("late_results_count", ClosesItsEars, "not 17"),
    ("repeated_reports_count_once", CountsTwice, "24 responses"),
    ("unknown_reports_refused", DropsUnknownReports, "was accepted"),
]
RANK_BREAKS: list[tuple[Callable[..., Any], str]] = [
    (ranks_apart, "ranks picked otherwise in round 5"),
    (ranks_mixed, "mixes prompts in round 0"),
    (one_rank, "1 rank was run"),
]


def the_check(name: str, broken: type[Fair], **case: Any) -> AdapterCheck:
    return next(check for check in adapter_checks(AdapterCase("broken", broken, **case)) if check.name == name)


@pytest.mark.parametrize(("name", "broken", "words"), BREAKS, ids=[f"{name}-{b.__name__}" for name, b, _ in BREAKS])
def test_a_broken_promise_is_caught(name: str, broken: type[Fair], words: str) -> None:
    with pytest.raises(BrokenContract, match=re.compile(words, re.DOTALL)):
        the_check(name, broken)()


@pytest.mark.parametrize(("ranks", "words"), RANK_BREAKS)
def test_ranks_that_disagree_are_caught(ranks: Callable[..., Any], words: str) -> None:
    with pytest.raises(BrokenContract, match=words):
        the_check("ranks_agree", Fair, on_ranks=ranks)()


def test_every_check_has_something_that_breaks_it() -> None:
    assert {name for name, _, _ in BREAKS} | {"ranks_agree"} == {promise.name for promise in ADAPTER_PROMISES}


def test_a_promised_lag_is_allowed() -> None:
    the_check("fresh", LookingAhead, lag=1)()


@parametrize_adapters([AdapterCase("fair", Fair, on_ranks=fair_ranks)])
def test_an_honest_adapter_passes(check: AdapterCheck) -> None:
    assert check.doc
    check()


class NeverStarts(Fair):
    """Refuses every dataset."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        raise InvalidData("no")


def test_results_without_pytest() -> None:
    expected = {"fresh": "it never starts", "missing_ids_refused": "a mistake"}
    case = AdapterCase("stubborn", NeverStarts, expected_failures=expected)
    results = {result.name: result for result in run_adapter_checks(case)}
    assert results["fresh"].outcome == "failed as expected"
    assert results["missing_ids_refused"].outcome == "passed unexpectedly"
    assert results["repeated_ids_refused"].ok
    assert results["picks_react"].message == "InvalidData: no"


def test_what_is_not_asked_is_said_with_its_reason(pytester: pytest.Pytester) -> None:
    case = AdapterCase("stubborn", NeverStarts, not_asked={"fresh": "it never starts"})
    results = {result.name: result for result in run_adapter_checks(case)}
    assert (results["fresh"].outcome, results["fresh"].message) == ("not asked", "it never starts")
    assert results["fresh"].ok
    assert results["ranks_agree"].message == "an adapter of one process: the case has no `on_ranks`"
    assert len(results) == len(ADAPTER_PROMISES)
    pytester.makepyfile(
        """
        from curri.testing import AdapterCase, parametrize_adapters

        @parametrize_adapters([AdapterCase("mine", None, not_asked={"fresh": "it never starts"})])
        def test_adapter(check):
            assert check.name not in ("fresh", "ranks_agree")
        """
    )
    ran = pytester.runpytest_subprocess("-rs")
    ran.assert_outcomes(passed=len(ADAPTER_PROMISES) - 2, skipped=2)
    ran.stdout.fnmatch_lines_random(["SKIPPED*it never starts", "SKIPPED*an adapter of one process*"])


def test_an_expected_failure_must_name_a_check() -> None:
    with pytest.raises(UnknownName, match='did you mean "fresh"'):
        adapter_checks(AdapterCase("fair", Fair, expected_failures={"fresch": "a typing error"}))
    with pytest.raises(UnknownName, match='did you mean "fresh"'):
        adapter_checks(AdapterCase("fair", Fair, not_asked={"fresch": "a typing error"}))
