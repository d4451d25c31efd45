"""``evolve``: what is stored, what is filtered, chains, repeats, hostile creators, runs that go on meanwhile."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import curri
from curri.errors import InvalidData, InvalidParameter, MissingExtra, UnknownPrompt
from curri.evolution import MAX_METADATA, REASONS, EvolutionProgress, EvolutionReport, evolve
from curri.exchange.jsonl import canonical_json
from curri.store import NewPrompt, PromptStore
from curri.types import Evolved, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from curri.types import Creator, Prompt


def filled(path: Path) -> PromptStore:
    """Ten sums with the ids 1 to 10, in two arms, and one prompt of an evaluation set, 11."""
    store = curri.open_store(path, create=True)
    sums = [NewPrompt(f"{i} + {i} = ?", False, str(2 * i), f"arm {i % 2}") for i in range(10)]
    store.prompts.add([*sums, NewPrompt("held out?", False, "yes", "arm 0", split="test")])
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PromptStore]:
    with filled(tmp_path / "prompts.duckdb") as opened:
        yield opened


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PromptStore]:
    """A store for tests after which it is as it was."""
    with filled(tmp_path_factory.mktemp("untouched") / "prompts.duckdb") as opened:
        before = table(opened)
        yield opened
        assert table(opened) == before


@dataclass
class Sums:
    """Puts a random number in front of the parent's sum; ``make`` may give something else."""

    name: str = "sums"
    make: Callable[[Prompt, int], Any] | None = None
    batches: list[int] = field(default_factory=list)

    def create(self, parents: Sequence[Prompt], n: int, seeds: Sequence[int]) -> list[list[Any]]:
        self.batches.append(len(parents))
        make = self.make or longer
        return [[make(parent, seed + k) for k in range(n)] for parent, seed in zip(parents, seeds, strict=True)]


def longer(parent: Prompt, seed: int) -> Evolved:
    number = seed % 10**9
    return Evolved(f"{number} + {parent.prompt}", str(number + int(parent.answer or 0)), "deepening")


def made(child: Any) -> Creator:
    return Sums(make=lambda parent, seed: child)


def balanced(report: EvolutionReport) -> bool:
    return report.stored + sum(report.rejected.values()) == report.wanted and set(report.rejected) <= set(REASONS)


def table(store: PromptStore) -> list[tuple[Any, ...]]:
    return store.connection.rows(
        "select prompt, answer, parent_id, generation, split, metadata, arm_id from prompts order by prompt_id"
    )


# ---- what is stored -------------------------------------------------------------------------------------------------


def test_children_are_stored_with_their_origin(store: PromptStore) -> None:
    report = evolve(store, Sums(), [3], per_parent=1, seed=5)
    assert (report.parents, report.wanted, report.stored, report.rejected) == (1, 1, 1, {})
    assert report.prompt_ids.tolist() == [12]
    assert report.operations == {"deepening": 1}
    (child,) = store.texts.fetch(np.array([12]))
    assert str(child.prompt).endswith("+ 2 + 2 = ?")
    assert child.arm == "arm 0"
    made_by = {"creator": "sums", "operation": "deepening", "seed": 5, "step": 0, "root": 3}
    assert child.metadata == {"evolution": made_by}
    assert store.prompts.origins(np.array([12, 3])) == [(3, 1, None), (None, 0, None)]
    generation = store.pool().generation
    assert generation is not None
    assert generation.tolist() == [0] * 10 + [1]


def test_a_chain_has_each_rewrite_made_of_the_one_before(store: PromptStore) -> None:
    report = evolve(store, Sums(), [1, 2])
    assert (report.wanted, report.stored) == (8, 8)
    assert store.prompts.ancestry(18) == [18, 16, 14, 12, 1]
    assert store.prompts.ancestry(19) == [19, 17, 15, 13, 2]
    assert [origin.generation for origin in store.prompts.origins(np.array([12, 14, 16, 18]))] == [1, 2, 3, 4]
    assert str(store.texts.fetch(np.array([18]))[0].prompt).count("+") == 5


def test_without_a_chain_all_are_made_of_the_parent(store: PromptStore) -> None:
    creator = Sums()
    report = evolve(store, creator, [1, 2], per_parent=3, chain=False)
    assert report.stored == 6
    assert [store.prompts.ancestry(child) for child in (12, 14, 15)] == [[12, 1], [14, 1], [15, 2]]
    assert creator.batches == [2]


def test_a_child_that_is_left_out_is_no_link_of_the_chain(store: PromptStore) -> None:
    refused_first: set[int] = set()

    def make(parent: Prompt, seed: int) -> Any:
        if parent.prompt_id in refused_first:
            return longer(parent, seed)
        refused_first.add(parent.prompt_id)
        return Refusal("not today")

    report = evolve(store, Sums(make=make), [1], per_parent=4)
    assert (report.stored, report.rejected) == (2, {"refused": 2})
    assert store.prompts.ancestry(13) == [13, 12, 1]


def test_arm_and_metadata_of_the_creator_are_kept(store: PromptStore) -> None:
    evolve(store, made(Evolved("new?", "1", "breadth", arm="elsewhere", metadata={"level": 3})), [1], per_parent=1)
    (child,) = store.texts.fetch(np.array([12]))
    assert (child.arm, child.metadata["level"], child.metadata["evolution"]["operation"]) == ("elsewhere", 3, "breadth")


def test_children_of_evaluation_prompts_stay_out_of_training(store: PromptStore) -> None:
    evolve(store, made(Evolved("new?", "1", "breadth")), [11], per_parent=1)
    assert table(store)[-1][4] == "test"
    assert 12 not in store.pool().ids


def test_chat_prompts_are_spelled_as_ingested_ones_are(store: PromptStore) -> None:
    messages = [{"role": "user", "content": "Wie weit, é?"}]
    evolve(store, made(Evolved(messages, "1", "breadth")), [1], per_parent=1)
    assert table(store)[-1][0] == canonical_json(messages)
    assert store.texts.fetch(np.array([12]))[0].prompt == messages
    again = evolve(store, made(Evolved(messages, "1", "breadth")), [1], per_parent=1)
    assert again.rejected == {"duplicate": 1}


def test_a_link_of_a_chain_is_what_the_store_will_give(store: PromptStore) -> None:
    parents: list[Prompt] = []

    def make(parent: Prompt, seed: int) -> Evolved:
        parents.append(parent)
        messages = [{"role": "user", "content": str(seed), "a": (1, 2)}]
        return Evolved(messages, "1", "x", arm="new", metadata={"pair": (1, 2), "deep": {"é": None}})

    evolve(store, Sums(make=make), [1], per_parent=3)
    assert parents == store.texts.fetch(np.array([1, 12, 13]))


def test_repeated_parents_count_once(store: PromptStore) -> None:
    assert evolve(store, Sums(), [2, 1, 2], per_parent=1).parents == 2


def test_no_parents_no_children(untouched: PromptStore) -> None:
    report = evolve(untouched, Sums(), [])
    assert (report.wanted, report.stored, report.prompt_ids.size) == (0, 0, 0)


def test_the_chunk_does_not_matter(store: PromptStore, tmp_path: Path) -> None:
    evolve(store, Sums(), range(1, 11), per_parent=2, chunk=3)
    with filled(tmp_path / "other.duckdb") as other:
        evolve(other, Sums(), range(1, 11), per_parent=2, chunk=10)
        assert {row[0] for row in table(other)} == {row[0] for row in table(store)}


def test_another_seed_makes_other_children(store: PromptStore) -> None:
    assert evolve(store, Sums(), [1], seed=1).stored == evolve(store, Sums(), [1], seed=2).stored == 4


def test_progress(store: PromptStore) -> None:
    seen: list[EvolutionProgress] = []
    evolve(store, Sums(), range(1, 8), per_parent=2, chunk=3, progress=seen.append)
    assert seen == [(3, 7, 6), (6, 7, 12), (7, 7, 14)]


# ---- filters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        (Evolved("0 + 0 = ?", "0", "x"), "duplicate"),  # of its parent
        (Evolved("4 + 4 = ?", "9", "x"), "duplicate"),  # of a stored prompt with another answer
        (Evolved("held out?", "1", "x"), "duplicate"),  # of an evaluation prompt
        (Evolved(" 0 +  0 = ? ", "0", "x"), "duplicate"),  # of its parent but for spaces
        (Evolved("ab", "0", "x"), "too_short"),
        (Evolved("a" * 101, "0", "x"), "too_long"),
        (Evolved("new?", "0" * 101, "x"), "too_long"),
        (Evolved("new?", "0", "x", metadata={"a": "0" * MAX_METADATA}), "too_long"),
        (Evolved("", "0", "x"), "refused"),
        (Evolved(" \n\t", "0", "x"), "refused"),
        (Evolved([{"role": "user", "content": ""}], "0", "x"), "refused"),
        (Refusal("I cannot"), "refused"),
        (Evolved("new?", None, "x"), "unverifiable"),
        (Evolved("new?", " ", "x"), "unverifiable"),
        (Evolved("new?", "0", "x", verified=False), "unverifiable"),
        (Evolved("half \ud800", "0", "x"), "malformed"),
        (Evolved("new?", "half \ud800", "x"), "malformed"),
        (Evolved(None, "0", "x"), "malformed"),  # type: ignore[arg-type]
        (Evolved([{"content": "no role"}], "0", "x"), "malformed"),
        (Evolved([{"role": "user", "content": "hi there", "x": float("nan")}], "0", "x"), "malformed"),
        (Evolved("new?", 3, "x"), "malformed"),  # type: ignore[arg-type]
        (Evolved("new?", "0", ""), "malformed"),
        (Evolved("new?", "0", "x" * 201), "malformed"),
        (Evolved("new?", "0", "x", arm=""), "malformed"),
        (Evolved("new?", "0", "x", arm="a\0"), "malformed"),
        (Evolved("new?", "0", "x", metadata={"a": {1, 2}}), "malformed"),
        (Evolved("new?", "0", "x", metadata={"a": float("inf")}), "malformed"),
        (Evolved("new?", "0", "x", metadata=[1]), "malformed"),  # type: ignore[arg-type]
        ("a text", "malformed"),
        (None, "malformed"),
    ],
)
def test_filters(untouched: PromptStore, child: Any, reason: str) -> None:
    report = evolve(untouched, made(child), [1], per_parent=1, min_chars=3, max_chars=100)
    assert report.rejected == {reason: 1}
    assert balanced(report)
    assert [example[:2] for example in report.examples] == [(1, reason)]
    assert len(untouched.prompts) == 11


def test_bounds_are_inclusive(store: PromptStore) -> None:
    for text in ("abc", "a" * 100):
        assert evolve(store, made(Evolved(text, "0", "x")), [1], per_parent=1, min_chars=3, max_chars=100).stored == 1


def test_children_of_one_call_are_told_apart(store: PromptStore) -> None:
    report = evolve(store, made(Evolved("The same?", "0", "x")), [1, 2, 3], per_parent=2, chain=False, chunk=2)
    assert (report.stored, report.rejected) == (1, {"duplicate": 5})
    cased = iter(["the NEXT one?", "The next  one?"])
    report = evolve(store, Sums(make=lambda *_: Evolved(next(cased), "0", "x")), [1, 2], per_parent=1)
    assert (report.stored, report.rejected) == (1, {"duplicate": 1})


def test_check_has_the_last_word(store: PromptStore) -> None:
    def check(child: Evolved) -> bool:
        if child.prompt == "raise?":
            raise RuntimeError("no verifier")
        return child.answer == "42"

    report = evolve(store, made(Evolved("new?", "41", "x", verified=True)), [1], per_parent=1, check=check)
    assert report.rejected == {"unverifiable": 1}
    report = evolve(store, made(Evolved("raise?", "42", "x")), [1], per_parent=1, check=check)
    assert report.examples == ((1, "unverifiable", "`check` raised RuntimeError: no verifier"),)
    assert evolve(store, made(Evolved("new?", "42", "x")), [1], per_parent=1, check=check).stored == 1


def test_children_of_prompts_without_an_answer_need_none(store: PromptStore) -> None:
    store.prompts.add([NewPrompt("Write a poem.", is_chat=False, answer=None, arm="open")])
    assert evolve(store, made(Evolved("Write a long poem.", None, "x")), [12], per_parent=1).stored == 1


def test_generations_end_at_the_limit(store: PromptStore) -> None:
    report = evolve(store, Sums(), [1], per_parent=4, max_generation=2)
    assert (report.stored, report.rejected) == (2, {"too_deep": 2})
    assert balanced(report)


def test_fewer_and_more_children_than_asked_for(store: PromptStore) -> None:
    class Uneven(Sums):
        def create(self, parents: Sequence[Prompt], n: int, seeds: Sequence[int]) -> list[list[Any]]:
            given = super().create(parents, n + 1, seeds)
            return [given[0], given[1][: n - 2]]

    report = evolve(store, Uneven(), [1, 2], per_parent=3, chain=False)
    assert (report.stored, report.rejected, report.surplus) == (4, {"missing": 2}, 1)
    assert balanced(report)


# ---- repeats and interruptions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("chain", [True, False])
def test_the_same_again_stores_nothing(store: PromptStore, chain: bool) -> None:
    first = evolve(store, Sums(), [1, 2, 3], chain=chain)
    before = table(store)
    again = evolve(store, Sums(), [1, 2, 3], chain=chain)
    assert (first.stored, again.stored, again.rejected) == (12, 0, {"duplicate": 12})
    assert table(store) == before


class Interrupted(Sums):
    """Stopped by the user at its n-th call."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def create(self, parents: Sequence[Prompt], n: int, seeds: Sequence[int]) -> list[list[Any]]:
        if len(self.batches) == self.calls:
            raise KeyboardInterrupt
        return super().create(parents, n, seeds)


@pytest.mark.parametrize("calls", [0, 1, 6])
def test_an_interrupted_evolution_goes_on_where_it_was(store: PromptStore, tmp_path: Path, calls: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        evolve(store, Interrupted(calls), range(1, 6), chunk=3)
    stored = len(store.prompts) - 11
    assert stored == min(calls, 4) * 3 + max(calls - 4, 0) * 2
    report = evolve(store, Sums(), range(1, 6), chunk=3)
    assert (report.stored, report.rejected.get("duplicate", 0)) == (20 - stored, stored)
    with filled(tmp_path / "whole.duckdb") as whole:
        evolve(whole, Sums(), range(1, 6), chunk=3)
        assert sorted(row[0] for row in table(store)) == sorted(row[0] for row in table(whole))
    chains = {tuple(store.prompts.ancestry(child)) for child in range(12, 32)}
    assert sorted(len(chain) for chain in chains) == [2] * 5 + [3] * 5 + [4] * 5 + [5] * 5


# ---- hostile creators -----------------------------------------------------------------------------------------------


def test_one_bad_parent_costs_only_itself(store: PromptStore) -> None:
    def make(parent: Prompt, seed: int) -> Evolved:
        if parent.prompt_id == 2:
            raise RuntimeError("overloaded")
        return longer(parent, seed)

    creator = Sums(make=make)
    report = evolve(store, creator, [1, 2, 3], per_parent=1)
    assert (report.stored, report.rejected) == (2, {"failed": 1})
    assert report.examples == ((2, "failed", "RuntimeError: overloaded"),)
    assert creator.batches == [3, 1, 1, 1]


def test_too_many_failures_in_a_row_end_it(untouched: PromptStore, caplog: pytest.LogCaptureFixture) -> None:
    def make(parent: Prompt, seed: int) -> Evolved:
        raise OSError("server gone")

    creator = Sums(make=make)
    report = evolve(untouched, creator, range(1, 11), per_parent=2, chain=False, chunk=4, max_failures=3)
    assert (report.stored, report.rejected) == (0, {"failed": 6, "not_tried": 14})
    assert balanced(report)
    assert creator.batches == [4, 1, 1, 1]
    assert caplog.text.count("given up") == 1


def test_a_success_ends_a_row_of_failures(store: PromptStore) -> None:
    def make(parent: Prompt, seed: int) -> Evolved:
        if parent.prompt_id % 2:
            raise OSError("flaky")
        return longer(parent, seed)

    report = evolve(store, Sums(make=make), range(1, 11), per_parent=1, max_failures=2)
    assert (report.stored, report.rejected) == (5, {"failed": 5})


@pytest.mark.parametrize("given", [None, [], "ab", [[], []], [None], 3, {"a": 1}])
def test_what_is_no_list_of_lists_is_a_failure(untouched: PromptStore, given: Any) -> None:
    class Odd(Sums):
        def create(self, parents: Sequence[Prompt], n: int, seeds: Sequence[int]) -> Any:
            return given

    report = evolve(untouched, Odd(), [1], per_parent=2, chain=False)
    assert report.rejected == {"failed": 2}
    assert "`create` must give a list of prompts" in report.examples[0][2]


def test_a_missing_package_is_said_at_once(untouched: PromptStore) -> None:
    def make(parent: Prompt, seed: int) -> Evolved:
        raise MissingExtra("needs a package", hint="pip install it")

    for parents in ([1], [1, 2]):
        with pytest.raises(MissingExtra, match="needs a package"):
            evolve(untouched, Sums(make=make), parents)


def test_what_was_stored_before_a_hostile_creator_is_there_after_it(store: PromptStore) -> None:
    evolve(store, Sums(), [1, 2])
    before = table(store)
    hostile: list[Any] = [
        Evolved("x" * 10**6, "0", "x"),
        Evolved("", "", "x"),
        object(),
        Evolved("1 + 1 = ?", "2", "x"),
    ]
    for child in hostile:
        assert balanced(evolve(store, made(child), range(1, 6), per_parent=2))
    assert table(store) == before
    assert all(len(detail) <= 201 for *_, detail in evolve(store, made(hostile[0]), [1]).examples)


# ---- beside a run ---------------------------------------------------------------------------------------------------


def test_a_run_goes_on_while_children_join(store: PromptStore) -> None:
    scheduler = curri.Scheduler(store, "eva", run="r", seed=0, children_share=0.5)
    first = scheduler.ask(6)
    scheduler.tell(first.prompt_ids.repeat(2), [0, 1] * 6)
    open_ = scheduler.ask(4)
    report = evolve(store, Sums(), scheduler.curriculum.parents(4), per_parent=2)  # type: ignore[attr-defined]
    assert report.stored == 8
    scheduler.tell(open_.prompt_ids.repeat(2), [1, 1] * 4)
    mixed = scheduler.ask(8)
    assert int(np.isin(mixed.prompt_ids, report.prompt_ids).sum()) == 4
    assert [prompt.prompt for prompt in mixed.prompts]
    assert scheduler.explain(int(report.prompt_ids[0]))["generation"] == 1
    scheduler.tell(mixed.prompt_ids.repeat(2), [0, 1] * 8)
    again = curri.Scheduler(store, run="r")
    assert again.ask(4).prompt_ids.size == 4


def test_a_reopened_run_goes_on_with_its_children(tmp_path: Path) -> None:
    def played(path: Path, *, reopen: bool) -> list[list[int]]:
        picks = []
        store = curri.open_store(path, create=True)
        store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), "sums") for i in range(40)])
        for round_ in range(6):
            scheduler = curri.Scheduler(store, "eva", run="r", schedule="online", warmup=1, mixup=2)
            picks.append((ids := scheduler.ask(8).prompt_ids).tolist())
            scheduler.tell(ids.repeat(4), (ids.repeat(4) * np.tile([3, 5, 7, 11], 8) % 2).tolist())
            if round_ in (1, 3):
                evolve(store, Sums(), scheduler.curriculum.parents(), per_parent=1)  # type: ignore[attr-defined]
            if reopen:
                store.close()
                store = curri.open_store(path)
        store.close()
        return picks

    whole = played(tmp_path / "a.duckdb", reopen=False)
    assert played(tmp_path / "b.duckdb", reopen=True) == whole
    assert max(max(ids) for ids in whole) > 40


def test_evolution_in_a_thread_beside_a_run(store: PromptStore) -> None:
    scheduler = curri.Scheduler(store, "uniform", run="r")
    reports: list[EvolutionReport] = []
    thread = threading.Thread(target=lambda: reports.append(evolve(store, Sums(), range(1, 11), per_parent=2)))
    thread.start()
    for _ in range(5):
        selection = scheduler.ask(4)
        scheduler.tell(selection.prompt_ids, [1.0] * 4)
    thread.join()
    assert reports[0].stored == 20
    for _ in range(5):
        selection = scheduler.ask(4)
        scheduler.tell(selection.prompt_ids, [1.0] * 4)
    assert len(scheduler.curriculum.pool) == 30


# ---- arguments, ancestry --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"per_parent": 0},
        {"per_parent": 1.5},
        {"seed": -1},
        {"min_chars": -1},
        {"min_chars": 50, "max_chars": 49},
        {"max_generation": 0},
        {"chunk": 0},
        {"max_failures": 0},
    ],
)
def test_wrong_arguments_are_refused(untouched: PromptStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match="of `evolve` must be an int in"):
        evolve(untouched, Sums(), [1], **wrong)


def test_unknown_parents_are_refused(untouched: PromptStore) -> None:
    creator = Sums()
    with pytest.raises(UnknownPrompt, match="99"):
        evolve(untouched, creator, [1, 99])
    with pytest.raises(InvalidParameter, match="`parent_ids` of `evolve`"):
        evolve(untouched, creator, ["a"])
    assert not creator.batches


def test_ancestry(store: PromptStore) -> None:
    assert store.prompts.ancestry(4) == [4]
    with pytest.raises(UnknownPrompt):
        store.prompts.ancestry(99)


def test_ancestry_of_a_damaged_store_ends(store: PromptStore) -> None:
    store.connection.execute("update prompts set parent_id = 2 where prompt_id = 1")
    store.connection.execute("update prompts set parent_id = 1 where prompt_id = 2")
    assert store.prompts.ancestry(2) == [2, 1]


def test_a_parent_has_to_be_in_the_store(store: PromptStore) -> None:
    with pytest.raises(UnknownPrompt, match="99"):
        store.prompts.add([NewPrompt("new?", False, "1", "x", parent_id=99, generation=1)])
    with pytest.raises(InvalidData, match="generation"):
        store.prompts.add([NewPrompt("new?", False, "1", "x", generation=-1)])
    assert len(store.prompts) == 11
