"""Responses through the cache: paid for once, in the store at once, scored anew where the verifier is another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curri.errors import (
    EngineError,
    InvalidInput,
    InvalidParameter,
    StoreError,
    UnknownPrompt,
    VerifierFailed,
    WriteFailed,
)
from curri.rollouts import Elimination, GenerationProgress, GenerationReport, SimulatedEngine, VerifierPool, generate
from curri.store import NewPrompt, open_store
from curri.store.cache import storable
from curri.store.check import check_store
from curri.store.pruning import cache_stats
from curri.store.rollouts import UNSCORED
from curri.types import Answered, Generated, Request, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from curri.store import PromptStore
    from curri.types import Engine


class Counting:
    """An engine that counts what it is asked for, and answers with what a function says."""

    name = "counting"
    model = "m"
    weight_version = "v1"
    settings: dict[str, Any] = {}  # noqa: RUF012  a constant

    def __init__(self, said: Callable[[Request, int], Generated] | None = None, *, stop_after: int = 1 << 30) -> None:
        self.asked: list[tuple[int, int]] = []
        self.seeds: dict[tuple[int, int], int] = {}
        self.checked = 0
        self._said = said or by_seed
        self._stop_after = stop_after

    def check(self) -> None:
        self.checked += 1

    def close(self) -> None:
        pass

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Answered]:
        for number, request in enumerate(requests):
            if number >= self._stop_after:
                raise EngineError("the engine has had enough")
            keys = [(request.prompt.prompt_id, request.sample + i) for i in range(request.n)]
            self.asked += keys
            self.seeds |= {key: request.seed + i for i, key in enumerate(keys)}
            yield Answered(request, [self._said(request, i) for i in range(request.n)])


def by_seed(request: Request, i: int) -> Generated:
    """Right for about half of the seeds."""
    right = (request.seed + i) * 2654435761 % 97 < 48
    return Generated(str(request.prompt.answer) if right else "no", tokens=10, truncated=False)


def run(store: PromptStore, engine: Engine, verifier: str = "exact", **how: Any) -> GenerationReport:
    with VerifierPool(verifier, workers=1) as pool:
        return generate(store, engine, pool, **how)


def rows(store: PromptStore, model: str = "m") -> list[tuple[Any, ...]]:
    return store.connection.rows(
        """select prompt_id, sample, response, reward, solved, tokens, truncated, s.verifier
           from rollouts join sources s using (source_id) where model = ? order by 1, 2""",
        [model],
    )


def extras(store: PromptStore, model: str = "m") -> list[dict[str, Any]]:
    found = store.connection.rows(
        "select extras from rollouts join sources using (source_id) where model = ? order by prompt_id, sample", [model]
    )
    return [json.loads(row[0]) for row in found]


# ---- the cache ------------------------------------------------------------------------------------------------------


def test_asking_for_eight_where_five_are_there_generates_three(store: PromptStore) -> None:
    engine = Counting()
    first = run(store, engine, n=5)
    assert (first.generated, first.cached, first.complete, len(engine.asked)) == (100, 0, True, 100)
    second = run(store, engine, n=8)
    assert (second.wanted, second.generated, second.cached, second.tokens_saved) == (160, 60, 100, 1000)
    assert len(engine.asked) == len(set(engine.asked)) == 160
    third = run(store, engine, n=8)
    assert (third.generated, third.cached, len(engine.asked)) == (0, 160, 160)
    assert [row[:2] for row in rows(store)] == [(i, k) for i in range(1, 21) for k in range(8)]


def test_no_model_is_loaded_where_nothing_is_missing(store: PromptStore) -> None:
    run(store, Counting(), n=2)
    again = Counting()
    assert run(store, again, n=2).cached == 40
    assert again.checked == 0


def test_fewer_than_are_there_is_no_work(store: PromptStore) -> None:
    run(store, Counting(), n=4)
    assert run(store, Counting(), n=2).cached == 40
    assert len(rows(store)) == 80


@pytest.mark.parametrize(
    ("sampling", "version"),
    [
        (Sampling(temperature=0.5), "v1"),
        (Sampling(top_p=0.5), "v1"),
        (Sampling(max_tokens=5), "v1"),
        (Sampling(stop=("x",)), "v1"),
        (Sampling(system="x"), "v1"),
        (Sampling(seed=1), "v1"),
        (Sampling(other={"top_k": 1}), "v1"),
        (Sampling(), "v2"),
    ],
)
def test_other_settings_or_weights_are_other_responses(store: PromptStore, sampling: Sampling, version: str) -> None:
    run(store, Counting(), n=1)
    engine = Counting()
    engine.weight_version = version
    assert run(store, engine, n=1, sampling=sampling).generated == 20
    assert run(store, Counting(), n=1, sampling=Sampling(logprobs=True, token_ids=True)).generated == 0


def test_a_hole_is_filled_with_what_belongs_there(store: PromptStore) -> None:
    whole = Counting()
    run(store, whole, n=6)
    before = rows(store)
    store.connection.execute("delete from rollouts where prompt_id = 3 and sample in (1, 2, 4)")
    engine = Counting()
    assert run(store, engine, n=6).generated == 3
    assert engine.asked == [(3, 1), (3, 2), (3, 4)]
    assert rows(store) == before


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 7)), min_size=1, max_size=3))
def test_however_it_is_split_the_responses_are_the_same(steps: list[tuple[int, int]], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("split")
    prompts = [NewPrompt(f"{i} + {i} = ?", False, str(2 * i), "a") for i in range(5)]
    found = []
    for name, plan in (("whole", [(9, 1)]), ("parts", [*steps, (9, 3)])):
        with open_store(folder / f"{name}.duckdb", create=True) as store:
            store.prompts.add(prompts)
            for n, batch in plan:
                run(store, SimulatedEngine(), n=n, batch=batch)
            found.append(rows(store, "simulated:solver"))
    assert found[0] == found[1]


def test_seeds_of_a_prompt_follow_one_another_and_differ_between_prompts_and_seeds(store: PromptStore) -> None:
    engine, other = Counting(), Counting()
    run(store, engine, n=4)
    run(store, other, n=4, sampling=Sampling(seed=1))
    assert all(engine.seeds[i, k] == engine.seeds[i, 0] + k for i in range(1, 21) for k in range(4))
    assert len({engine.seeds[i, 0] for i in range(1, 21)} | {other.seeds[i, 0] for i in range(1, 21)}) == 40
    assert all(0 <= seed < 2**31 for seed in engine.seeds.values())


# ---- another verifier -----------------------------------------------------------------------------------------------


def test_another_verifier_scores_what_is_there_without_generating(store: PromptStore) -> None:
    run(store, Counting(lambda request, i: Generated(f"It is {request.prompt.answer}", 3, truncated=False)), n=3)
    assert {row[3] for row in rows(store)} == {0.0}
    engine = Counting()
    report = run(store, engine, "numeric", n=3)
    assert (report.rescored, report.cached, report.generated, engine.asked) == (60, 60, 0, [])
    assert {(row[3], row[4], row[7]) for row in rows(store)} == {(1.0, 1.0, "numeric (1)")}
    assert len(rows(store)) == 60
    assert extras(store)[0]["scores"] == {"exact (1)": {"reward": 0.0, "solved": 0.0}}
    back = run(store, engine, "exact", n=3)
    assert (back.rescored, back.generated, {row[3] for row in rows(store)}) == (60, 0, {0.0})
    assert check_store(store.path).findings[-1].ok


def test_what_is_scored_anew_and_what_is_missing_come_together(store: PromptStore) -> None:
    run(store, Counting(), n=2)
    report = run(store, Counting(), "numeric", n=5)
    assert (report.rescored, report.cached, report.generated) == (40, 40, 60)
    assert {row[7] for row in rows(store)} == {"numeric (1)"}


def test_a_text_that_is_gone_cannot_be_scored_anew_and_is_generated(store: PromptStore) -> None:
    run(store, Counting(), n=1)
    store.connection.execute("update rollouts set response = null where prompt_id = 1")
    report = run(store, Counting(), "numeric", n=1)
    assert (report.rescored, report.generated) == (19, 1)


# ---- what a verifier cannot score -----------------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a verifier of the user's and gives its specification."""
    monkeypatch.chdir(tmp_path)

    def write(body: str) -> str:
        (tmp_path / "mine.py").write_text(f"def score(response, prompt):\n    {body}\n")
        return "python:mine:score"

    return write


def test_a_verifier_that_raises_loses_nothing_that_was_paid_for(
    store: PromptStore, module: Callable[[str], str]
) -> None:
    engine = Counting()
    report = run(store, engine, module("raise ValueError('no')"), n=2)
    assert isinstance(report.stopped, VerifierFailed)
    assert (report.generated, report.unscored, report.complete) == (40, {"error": 40}, False)
    assert rows(store) == []
    assert {row[4] for row in rows(store, UNSCORED + "m")} == {None}
    assert store.rollouts.evidence_model(None) is None
    mended = run(store, engine, "exact", n=2)
    assert (mended.rescored, mended.generated, len(engine.asked)) == (40, 0, 40)
    assert len(rows(store)) == 40
    assert store.rollouts.all_models() == {"m": 40}


def test_what_one_verifier_cannot_score_keeps_the_score_of_another(
    store: PromptStore, module: Callable[[str], str]
) -> None:
    run(store, Counting(), n=1)
    before = rows(store)
    spec = module("return 1 / (int(prompt.split()[0]) - 2)")
    report = run(store, Counting(), spec, n=1)
    assert (report.rescored, report.unscored, report.generated) == (19, {"error": 1}, 0)
    assert [row for row in rows(store) if row[0] == 3] == [row for row in before if row[0] == 3]


def test_prompts_that_nothing_can_be_said_of_are_refused_before_a_token_is_paid(tmp_path: Path) -> None:
    engine = Counting()
    with open_store(tmp_path / "s.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"say {i}", False, None, "a") for i in range(30)])
        with pytest.raises(InvalidInput, match="exact can judge none of the first 16 prompts"):
            run(store, engine)
    assert engine.asked == []


def test_a_verifier_that_does_not_exist_is_found_before_a_token_is_paid(store: PromptStore) -> None:
    engine = Counting()
    with pytest.raises((InvalidInput, VerifierFailed)):
        run(store, engine, "python:no_such_module:score")
    assert engine.asked == []


# ---- hostile output -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000, "a\0b\0", "\x1b[31mred\x1b[0m\x07", "\ud800 alone \udfff", "x" * 10_000_000, "", "\u202eevil",
        "é\r\n'\"",
    ],
    ids=["brackets", "nul", "escapes", "surrogates", "ten-megabytes", "empty", "bidi", "quotes"],
)  # fmt: skip
def test_hostile_output_is_stored_as_it_came(store: PromptStore, text: str) -> None:
    engine = Counting(lambda request, i: Generated(text, 5, truncated=False))
    report = run(store, engine, prompt_ids=[1], n=2)
    assert (report.generated, report.complete) == (2, True)
    assert [row[2] for row in rows(store)] == [storable(text)] * 2
    assert run(store, engine, "numeric", prompt_ids=[1], n=2).rescored == 2
    assert [row[2] for row in rows(store)] == [storable(text)] * 2


@given(st.text(alphabet=st.characters(codec=None)))
def test_what_is_storable_is_utf8_and_else_as_it_was(text: str) -> None:
    stored = storable(text)
    stored.encode()
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert stored == text


# ---- trouble --------------------------------------------------------------------------------------------------------


def test_an_engine_that_gives_up_leaves_what_it_gave(store: PromptStore) -> None:
    engine = Counting(stop_after=7)
    report = run(store, engine, n=4)
    assert isinstance(report.stopped, EngineError)
    assert (report.generated, report.left, report.complete) == (28, 52, False)
    assert len(rows(store)) == 28
    assert run(store, Counting(), n=4).generated == 52


def test_an_engine_that_gives_nothing_at_all_is_an_error(store: PromptStore) -> None:
    with pytest.raises(EngineError, match="had enough"):
        run(store, Counting(stop_after=0))


def test_failures_are_counted_by_reason(store: PromptStore) -> None:
    class Failing(Counting):
        def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Answered]:
            for request in requests:
                number = request.prompt.prompt_id
                yield Answered(request, [by_seed(request, 0)] * (number % 3), f"reason {number % 2}" * (number % 3 < 2))

    report = run(store, Failing(), n=2)
    assert sum(report.failed.values()) == 20 * 2 - report.generated
    assert set(report.failed) == {"reason 0", "reason 1"}
    assert report.wanted == report.cached + report.generated + sum(report.failed.values()) + report.left
    assert not report.complete


def test_a_full_disk_ends_it_and_what_was_acknowledged_is_there(
    store: PromptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB's own error in the middle of a transaction; a real full disk is in the tests of the command."""
    import duckdb

    add, calls = store.rollouts.add_to, []

    def failing(*args: Any) -> int:
        calls.append(args)
        if len(calls) > 2:
            raise duckdb.IOException("Could not write file: No space left on device")
        return add(*args)

    monkeypatch.setattr(store.rollouts, "add_to", failing)
    with pytest.raises(WriteFailed, match="No space left on device"):
        run(store, Counting(), n=4, batch=24)
    monkeypatch.undo()
    assert len(rows(store)) == 16
    assert run(store, Counting(), n=4).generated == 64


def test_ctrl_c_keeps_what_the_engine_had_given(store: PromptStore) -> None:
    def interrupted(request: Request, i: int) -> Generated:
        if request.prompt.prompt_id == 13:
            raise KeyboardInterrupt
        return by_seed(request, i)

    with pytest.raises(KeyboardInterrupt):
        run(store, Counting(interrupted), n=2)
    assert len(rows(store)) == 24
    assert run(store, Counting(), n=2).generated == 16


@pytest.mark.parametrize("bad", [{"n": 0}, {"batch": 0}, {"budget": 0}, {"n": True}, {"n": 2.0}])
def test_values_out_of_range_are_refused(store: PromptStore, bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=next(iter(bad))):
        run(store, Counting(), **bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 1.5}, {"max_tokens": 0},
        {"seed": -1}, {"stop": ("",)}, {"other": {"n": 3}},
    ],
)  # fmt: skip
def test_sampling_out_of_range_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=f"`{next(iter(bad))}` of `Sampling` must be"):
        Sampling(**bad)


def test_prompts_that_are_not_there_are_refused(store: PromptStore) -> None:
    with pytest.raises(UnknownPrompt):
        run(store, Counting(), prompt_ids=[99])
    with pytest.raises(InvalidInput, match="no prompts"):
        run(store, Counting(), prompt_ids=[])


def test_many_greedy_responses_are_refused(store: PromptStore) -> None:
    with pytest.raises(InvalidParameter, match="temperature 0"):
        run(store, Counting(), n=2, sampling=Sampling(temperature=0.0))
    assert run(store, Counting(), n=1, sampling=Sampling(temperature=0.0)).generated == 20


# ---- what an interruption can lose ----------------------------------------------------------------------------------


class Hoarding(Counting):
    """Takes so many requests before it answers them, and notes how many responses were asked for and not stored."""

    def __init__(self, store: PromptStore, hoard: int) -> None:
        super().__init__()
        self.most = 0
        self._store = store
        self._hoard = hoard

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Answered]:
        taken = iter(requests)
        while part := list(self._noted(taken)):
            yield from super().generate(part, sampling)

    def _noted(self, requests: Iterator[Request]) -> Iterator[Request]:
        asked = 0
        for _, request in zip(range(self._hoard), requests, strict=False):
            asked += request.n
            stored = int(self._store.connection.value("select count(*) from rollouts"))
            self.most = max(self.most, len(self.asked) + asked - stored)
            yield request


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.integers(1, 40), n=st.integers(1, 9), hoard=st.integers(1, 12))
def test_never_is_more_than_a_batch_asked_for_and_not_stored(
    tmp_path_factory: Any, batch: int, n: int, hoard: int
) -> None:
    with open_store(tmp_path_factory.mktemp("batch") / "s.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), "a") for i in range(12)])
        engine = Hoarding(store, hoard)
        assert run(store, engine, n=n, batch=batch).generated == 12 * n
        assert engine.most <= batch
        assert len(engine.asked) == len(set(engine.asked)) == 12 * n


# ---- budgets --------------------------------------------------------------------------------------------------------


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(budget=st.integers(1, 3000), limit=st.integers(10, 80), batch=st.integers(1, 30))
def test_a_budget_is_never_exceeded_and_nearly_used(tmp_path_factory: Any, budget: int, limit: int, batch: int) -> None:
    with open_store(tmp_path_factory.mktemp("budget") / "s.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), "a") for i in range(10)])
        engine = SimulatedEngine(length=9.0)
        sampling = Sampling(max_tokens=limit)
        if budget < limit:
            report = run(store, engine, n=4, budget=budget, batch=batch, sampling=sampling)
            assert (report.generated, report.left) == (0, 40)
            return
        report = run(store, engine, n=4, budget=budget, batch=batch, sampling=sampling)
        assert report.tokens <= budget
        assert report.left == 0 or report.tokens > budget - limit
        assert report.wanted == report.generated + report.left
        assert report.complete
        more = run(store, engine, n=4, batch=batch, sampling=sampling)
        assert more.generated == report.left


def test_a_budget_needs_an_engine_that_counts(store: PromptStore) -> None:
    with pytest.raises(EngineError, match="does not tell how many tokens"):
        run(store, Counting(lambda request, i: Generated("x", None, truncated=False)), budget=100_000)


def test_with_a_budget_prompts_come_in_an_order_that_depends_on_the_seed_alone(store: PromptStore) -> None:
    def order(seed: int) -> list[int]:
        engine = Counting()
        run(store, engine, n=1, budget=60, sampling=Sampling(seed=seed, max_tokens=10))
        return [prompt for prompt, _ in engine.asked]

    first = order(5)
    store.connection.execute("delete from rollouts")
    assert order(5) == first
    assert len(first) == 6
    assert order(6) != first


# ---- successive elimination -----------------------------------------------------------------------------------------


def test_elimination_spends_rounds_only_on_prompts_that_are_not_decided(store: PromptStore) -> None:
    def easy_or_never(request: Request, i: int) -> Generated:
        number, sample = request.prompt.prompt_id, request.sample + i
        right = sample % 2 == 0 if number <= 12 else number == 13 and sample >= 6
        return Generated(str(request.prompt.answer) if right else "no", 10, truncated=False)

    engine = Counting(easy_or_never)
    how = Elimination(round_size=4, max_rounds=3)
    report = run(store, engine, n=4, elimination=how)
    counts = np.bincount([prompt for prompt, _ in engine.asked])
    assert counts[1:].tolist() == [4] * 12 + [8] + [12] * 7
    cost = report.adaptive
    assert cost is not None
    assert (cost.prompts, cost.rollouts, cost.with_signal, cost.resolved) == (20, 12 * 4 + 8 + 7 * 12, 13, 13)
    assert (cost.fixed_n, cost.fixed_with_signal, cost.most) == (4, 12, 12)
    again = run(store, engine, n=4, elimination=how)
    assert (again.generated, again.adaptive) == (0, cost)


def test_elimination_takes_what_a_fixed_n_has_drawn(store: PromptStore) -> None:
    run(store, Counting(), n=8)
    engine = Counting()
    report = run(store, engine, n=4, elimination=Elimination(round_size=8, max_rounds=2))
    assert all(sample >= 8 for _, sample in engine.asked)
    assert report.cached == 160


def test_elimination_within_a_budget_stops_when_it_is_spent(store: PromptStore) -> None:
    report = run(
        store, SimulatedEngine(ability=-2.0, length=10.0), n=4, elimination=Elimination(), budget=2500,
        sampling=Sampling(max_tokens=50),
    )  # fmt: skip
    assert report.left > 0
    assert 2450 < report.tokens <= 2500
    assert report.adaptive is not None
    assert report.adaptive.prompts <= 20


def test_a_prompt_with_a_response_that_failed_gets_no_more_rounds(store: PromptStore) -> None:
    class Once(Counting):
        def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Answered]:
            for request in requests:
                self.asked += [(request.prompt.prompt_id, request.sample + i) for i in range(request.n)]
                wrong = [Generated("no", 1, truncated=False)] * request.n
                fails = request.prompt.prompt_id == 5
                yield Answered(request, wrong[1:] if fails else wrong, "lost" if fails else "")

    engine = Once()
    report = run(store, engine, n=4, elimination=Elimination(round_size=4, max_rounds=2))
    assert sum(prompt == 5 for prompt, _ in engine.asked) == 4
    assert sum(prompt == 6 for prompt, _ in engine.asked) == 8
    assert (report.failed, report.adaptive and report.adaptive.prompts) == ({"lost": 1}, 19)


def test_many_responses_are_asked_for_in_parts_that_a_server_can_give(store: PromptStore) -> None:
    sizes = []

    class Noting(Counting):
        def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Answered]:
            for request in requests:
                sizes.append(request.n)
                yield from super().generate([request], sampling)

    engine = Noting()
    assert run(store, engine, n=100, prompt_ids=[1]).generated == 100
    assert sizes == [32, 32, 32, 4]
    assert engine.asked == [(1, k) for k in range(100)]


# ---- what is kept and told ------------------------------------------------------------------------------------------


def test_what_is_kept_of_a_response(store: PromptStore) -> None:
    said = Generated(
        "x", None, truncated=True, finish="length", token_ids=(1, 2), logprobs=(-0.5, -1.0), weight_version="v9"
    )
    run(store, Counting(lambda request, i: said), prompt_ids=[1], n=1)
    assert rows(store)[0][5:7] == (None, True)
    (found,) = extras(store)
    assert (found["weight_version"], "token_ids" in found, "finish" in found) == ("v9", False, False)
    assert found["at"].endswith("Z")
    kept = Sampling(seed=1, token_ids=True, logprobs=True)
    run(store, Counting(lambda request, i: said), prompt_ids=[1], n=1, sampling=kept)
    assert (extras(store)[1]["token_ids"], extras(store)[1]["logprobs"]) == ([1, 2], [-0.5, -1.0])


def test_hits_and_tokens_saved_are_counted(store: PromptStore) -> None:
    run(store, Counting(), n=5)
    run(store, Counting(), n=8)
    (row,) = cache_stats(store)
    assert (row["hits"], row["tokens_saved"], row["generated"], row["responses"], row["tokens"], row["prompts"]) == (
        100, 1000, 160, 160, 1600, 20,
    )  # fmt: skip


def test_other_processes_can_read_a_copy_meanwhile(store: PromptStore, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = store.path.with_name(store.path.name + ".snapshot")
    run(store, Counting(), n=1)
    assert not copy.exists()
    monkeypatch.setattr("curri.store.publisher.FIRST", 0.0)
    run(store, Counting(), n=2)
    assert copy.exists()


def test_a_copy_that_cannot_be_written_stops_nothing(
    store: PromptStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full() -> float:
        raise StoreError("no room")

    monkeypatch.setattr("curri.store.publisher.FIRST", 0.0)
    monkeypatch.setattr("curri.store.publisher.EVERY", 0.0)
    monkeypatch.setattr(store, "publish", full)
    assert run(store, Counting(), n=2, batch=4).complete
    assert [record.message for record in caplog.records] == ["no copy of the store for other processes: no room"]


def test_progress_ends_where_it_should(store: PromptStore) -> None:
    seen: list[GenerationProgress] = []
    run(store, Counting(), n=3, batch=7, progress=seen.append)
    assert [at.done for at in seen] == list(range(3, 61, 3))
    assert (seen[-1].total, seen[-1].generated, seen[-1].tokens) == (60, 60, 600)


def test_retired_and_held_out_prompts_are_left_alone(store: PromptStore) -> None:
    store.prompts.set_split(np.array([1, 2]), "eval")
    store.prompts.retire(np.array([3]))
    engine = Counting()
    assert run(store, engine, n=1).prompts == 17
    assert {prompt for prompt, _ in engine.asked} == set(range(4, 21))


def test_a_simulation_is_labelled_as_one(store: PromptStore) -> None:
    run(store, SimulatedEngine("qwen"), n=1)
    ((model, version, text),) = store.connection.rows("select model, weight_version, settings from sources")
    assert (model, version) == ("simulated:qwen", "simulated")
    assert json.loads(text) == {
        "engine": "simulated", "ability": 0.0, "guess": 0.0, "length": 40.0, "slip": 0.0, "spread": 1.5,
        "max_tokens": 1024, "seed": 0, "temperature": 1.0, "top_p": 1.0,
    }  # fmt: skip


def test_a_simulation_answers_at_its_pass_rate_whatever_it_is_asked_at_a_time(store: PromptStore) -> None:
    engine = SimulatedEngine(ability=0.3, spread=1.0)
    (prompt,) = store.texts.fetch(np.array([4]))
    (found,) = engine.generate([Request(prompt, 4000, 0)], Sampling())
    right = [response.text == "6" for response in found.responses]
    assert abs(np.mean(right) - engine.pass_rate(prompt)) < 4 * 0.5 / np.sqrt(4000)
    assert abs(np.mean([response.tokens for response in found.responses]) - 40) < 4
    (part,) = engine.generate([Request(prompt, 10, 1000)], Sampling())
    assert part.responses == found.responses[1000:1010]
    (short,) = engine.generate([Request(prompt, 1000, 0)], Sampling(max_tokens=10))
    cut = [response for response in short.responses if response.truncated]
    assert {(response.tokens, response.finish, response.text) for response in cut} == {(10, "length", "")}
    assert 700 < len(cut) < 850
