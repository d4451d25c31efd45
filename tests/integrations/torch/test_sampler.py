"""The samplers: which rows, how often, how stale; what they refuse."""

from __future__ import annotations

import pickle  # noqa: TID251  to show that a sampler refuses it
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import curri
from curri.errors import InvalidData, InvalidParameter, InvalidRollouts, PoolExhausted, StoreForked, UnknownPrompt
from curri.store import NewPrompt

pytest.importorskip("torch")

import torch
from torch.utils.data import DataLoader, Dataset

from curri.integrations.torch import CurriculumBatchSampler, CurriculumSampler, TooStale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

N = 40
ROWS: Any = [{"prompt_id": 100 + i, "name": f"q{i}", "text": f"{i}?"} for i in range(N)]


def ucb(ids: Any = None, **parameters: Any) -> curri.curricula.UCB:
    known = [row["prompt_id"] for row in ROWS] if ids is None else ids
    pool = curri.PromptPool(known, [f"arm{i % 4}" for i in range(len(known))])
    return curri.curricula.UCB(pool, seed=0, **{"temperature": 0.05, **parameters})


def ids_of(rows: list[dict[str, Any]]) -> Any:
    return np.array([row["prompt_id"] for row in rows])


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[curri.Scheduler]:
    prompts = [NewPrompt(row["text"], is_chat=False, answer="", arm=f"arm{i % 4}", external_id=row["name"])
               for i, row in enumerate(ROWS)]  # fmt: skip
    with curri.open_store(tmp_path / "p.duckdb", create=True) as store:
        store.prompts.add(prompts)
        yield curri.Scheduler(store, "ucb", run="r", seed=0)


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_rows_come_in_the_pattern_that_trainers_read() -> None:
    """P prompts, each G times in a row, and all of that R times: TRL's RepeatSampler."""
    sampler = CurriculumSampler(ROWS, ucb(), prompts=4, group_size=3, repeats=2)
    rows = list(sampler)
    assert len(rows) == len(sampler) == (N // 4) * 4 * 3 * 2
    for chunk in np.array(rows).reshape(-1, 2, 4, 3):
        assert (chunk[0] == chunk[1]).all()
        assert (chunk[0] == chunk[0][:, :1]).all()
        assert len(set(chunk[0][:, 0].tolist())) == 4


def test_batches_are_whole_rounds() -> None:
    sampler = CurriculumBatchSampler(ROWS, ucb(), prompts=4, group_size=2, repeats=3, rounds=2)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 6
    assert batches[0] == batches[1] == batches[2] != batches[3]
    assert sampler.batch_size == 8
    assert len(DataLoader(ROWS, batch_sampler=sampler)) == 6


def test_the_strategy_may_decide_the_number_of_rollouts() -> None:
    curriculum = ucb(draw="replacement", temperature=1e-3, group_size=2)
    curriculum.tell(curri.Rollouts([100] * 4, [0, 1, 0, 1]))
    curriculum.advance()
    sampler = CurriculumBatchSampler(ROWS, curriculum, prompts=30, group_size=None, rounds=1)
    (batch,) = list(sampler)
    counts = np.bincount(batch)
    assert len(batch) == 60
    assert counts.max() > 2, "no prompt was drawn twice"
    assert (counts % 2 == 0).all()
    with pytest.raises(TypeError, match="strategy's decision"):
        len(CurriculumSampler(ROWS, ucb(), prompts=2, group_size=None))


def test_one_policy_version_may_stand_for_all_responses() -> None:
    sampler = CurriculumBatchSampler(ROWS, ucb(), prompts=2, group_size=2)
    ids = sampler.prompt_ids_of(next(iter(sampler)))
    assert sampler.tell(ids, [0, 1, 0, 1], policy_version=3).new == 4
    assert sampler.tell(ids, [1, 1, 1, 1], policy_version=np.full(4, 3)).new == 4


def test_a_prompt_drawn_twice_is_two_groups() -> None:
    sampler = CurriculumSampler(ROWS, ucb(draw="replacement"), prompts=30, group_size=4, rounds=1)
    rows = np.array(list(sampler)).reshape(30, 4)
    assert (rows == rows[:, :1]).all()
    told = sampler.tell(sampler.prompt_ids_of(rows.ravel()), np.ones(rows.size))
    assert (told.new, told.closed) == (120, (0,))


def test_prompts_without_a_row_are_never_picked(scheduler: curri.Scheduler) -> None:
    few = [{"prompt_id": i} for i in range(5, 17)]
    for sampler in (
        CurriculumSampler(few, ucb(range(1, 60)), prompts=6, rounds=2),
        CurriculumSampler(few, scheduler, prompts=6, rounds=2),
    ):
        assert sorted(sampler) == list(range(12))


def test_a_store_that_grows_does_not_bring_prompts_without_a_row(scheduler: curri.Scheduler) -> None:
    sampler = CurriculumSampler(ROWS, scheduler, id_column="name", prompts=8)
    stream = iter(sampler)
    ids = sampler.prompt_ids_of([next(stream) for _ in range(8)])
    scheduler.store.prompts.add([NewPrompt(f"new {i}", is_chat=False, answer="", arm="arm0") for i in range(500)])
    for _ in range(4):
        sampler.tell(ids, np.ones(8))
        ids = sampler.prompt_ids_of([next(stream) for _ in range(8)])
    assert ids.max() <= N
    assert len(scheduler.curriculum.pool) == N + 500


def test_hugging_face_datasets() -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list([*ROWS, {"prompt_id": 7, "name": "odd", "text": "?"}])
    dataset = whole.select(range(N - 1, -1, -1)).with_format("torch", columns=["prompt_id"])
    sampler = CurriculumSampler(dataset, ucb(), prompts=8, group_size=2)
    for batch in DataLoader(dataset, sampler=sampler, batch_size=16):
        ids = batch["prompt_id"]
        assert (ids.reshape(8, 2) == ids.reshape(8, 2)[:, :1]).all()
        assert sampler.tell(ids, torch.rand(16, dtype=torch.bfloat16)).closed
    with pytest.raises(InvalidData, match='no column "prompt_ids"; it has prompt_id, name, text') as caught:
        CurriculumSampler(whole, ucb(), id_column="prompt_ids", prompts=8)
    assert 'did you mean "prompt_id"' in str(caught.value)
    with pytest.raises(UnknownPrompt, match="7"):
        CurriculumSampler(whole, ucb(), prompts=8)


def test_the_users_own_ids(scheduler: curri.Scheduler) -> None:
    sampler = CurriculumSampler(ROWS[::-1], scheduler, id_column="name", prompts=2)
    row = next(iter(sampler))
    name = ROWS[::-1][row]["name"]
    assert sampler.prompt_ids_of([row]).tolist() == [int(name[1:]) + 1]
    assert sampler.tell([name], [1.0]).new == 1
    with pytest.raises(UnknownPrompt, match="nobody"):
        sampler.tell(["nobody"], [1.0])


BAD_IDS: list[tuple[list[Any], type[Exception], str]] = [
    ([*range(100, 139), None], InvalidData, "1 rows of the dataset have no id in .*, the first is row 39"),
    ([*range(100, 139), float("nan")], InvalidData, "no id"),
    ([*range(100, 139), 100], InvalidData, "more than one row .* 100"),
    ([*range(100, 139), 4711], UnknownPrompt, "4711"),
    ([*range(100, 139)], InvalidParameter, "one entry a row, 40 in all; got 39"),
    ([*range(100, 139), 1.5], InvalidData, "all integers or all texts"),
    ([*range(100, 139), "x"], InvalidData, "texts"),
]


@pytest.mark.parametrize(("ids", "error", "words"), BAD_IDS)
def test_ids_that_are_not_whole_are_an_error_at_once(ids: list[Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        CurriculumSampler(ROWS, ucb(), prompts=4, ids=ids)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"id": 1}], 'no column "prompt_id"; it has id'),
        ([{"prompt_id": 100}, {"id": 1}], "row 1 of the dataset has no"),
        (["text"], "hand the ids in"),
        ([], "no rows"),
        (iter([{"prompt_id": 100}]), "must have a length"),
    ],
)
def test_rows_that_name_no_prompt_are_an_error_at_once(rows: list[Any], words: str) -> None:
    with pytest.raises(InvalidData, match=words):
        CurriculumSampler(rows, ucb(), prompts=1)


def test_own_ids_without_a_store_are_refused() -> None:
    with pytest.raises(InvalidData, match="without a store"):
        CurriculumSampler(ROWS, ucb(), id_column="name", prompts=4)


def test_own_ids_that_no_prompt_has(scheduler: curri.Scheduler) -> None:
    with pytest.raises(UnknownPrompt, match=r"0\?"):
        CurriculumSampler(ROWS, scheduler, id_column="text", prompts=4)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"prompts": 0}, "`prompts` must be an int in"),
        ({"group_size": 0}, "`group_size`"),
        ({"repeats": True}, "`repeats`"),
        ({"rounds": 0}, "`rounds`"),
        ({"max_staleness": -1}, "`max_staleness`"),
        ({"when_stale": "hope"}, "`when_stale` must be"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        CurriculumSampler(ROWS, ucb(), **{"prompts": 4, **wrong})


@pytest.mark.parametrize("wrong", [None, "ucb"])
def test_what_is_no_curriculum(wrong: Any) -> None:
    with pytest.raises(InvalidParameter, match="must be a `Scheduler` or a `Curriculum`"):
        CurriculumSampler(ROWS, wrong, prompts=4)


# ---- feedback --------------------------------------------------------------------------------------------------------


def test_every_keyword_reaches_the_store(scheduler: curri.Scheduler) -> None:
    sampler = CurriculumSampler(ROWS, scheduler, id_column="name", prompts=2)
    ids = sampler.prompt_ids_of([row for row, _ in zip(iter(sampler), range(2), strict=False)])
    told = sampler.tell(
        torch.tensor(ids), torch.tensor([0.5, 1.5]), solved=[0, 1], advantages=[-1, 1], tokens=torch.tensor([3, 4]),
        responses=["a", "b"], truncated=torch.tensor([False, True]), policy_version=7, rollout_ids=["x", "y"],
        extras={"length": torch.tensor([1.0, 2.0])}, resolve=None,
    )  # fmt: skip
    assert (told.new, told.closed) == (2, ())
    assert sampler.resolve(ids, "dropped", reason="stale") == (0,)
    rows = scheduler.store.connection.rows(
        "select solved, advantage, tokens, response, truncated, policy_version, rollout_id from rollouts order by 1"
    )
    assert [tuple(row) for row in rows] == [(0, -1, 3, "a", False, 7, "x"), (1, 1, 4, "b", True, 7, "y")]


def test_late_and_repeated_results_without_a_store() -> None:
    """The rules of the scheduler hold without one."""
    sampler = CurriculumSampler(ROWS, ucb(), prompts=2, group_size=2)
    stream = iter(sampler)
    first = sampler.prompt_ids_of([next(stream) for _ in range(4)])
    assert sampler.tell(first, [1, 0, 1, 1]).closed == (0,)
    again = sampler.tell(first, [1, 0, 1, 1])
    assert (again.new, again.repeated) == (0, 4)
    late = sampler.tell(first[:1], [0.5])
    assert (late.new, late.repeated, late.unissued.tolist()) == (1, 0, [first[0]])
    named = sampler.tell(first[:1], [0.5], rollout_ids=["x"])
    assert named.new == 1
    assert sampler.tell(first[:1], [0.5], rollout_ids=["x"]).repeated == 1
    other = next(i for i in range(100, 140) if i not in first)
    assert sampler.tell([other], [1.0]).unissued.tolist() == [other]
    with pytest.raises(InvalidRollouts, match="not in flight"):
        sampler.resolve([other], "lost")
    with pytest.raises(InvalidParameter, match="must be one of"):
        sampler.tell(first[:1], [1.0], resolve="done")  # type: ignore[arg-type]


def test_a_part_of_a_group_waits_for_the_rest() -> None:
    curriculum = ucb()
    sampler = CurriculumSampler(ROWS, curriculum, prompts=1, group_size=2)
    row = next(iter(sampler))
    prompt = ROWS[row]["prompt_id"]
    assert sampler.tell([prompt], [1.0], resolve=None).closed == ()
    assert curriculum.metrics()["curriculum/ucb/responses_folded"] == 0
    assert sampler.tell([prompt], [0.0]).closed == (0,)
    assert curriculum.metrics()["curriculum/ucb/responses_folded"] == 2
    repeated = sampler.tell([prompt, prompt], [1.0, 0.0])
    assert (repeated.new, repeated.repeated) == (0, 2)


def test_prompts_in_flight_are_not_picked_again() -> None:
    sampler = CurriculumSampler(ROWS, ucb(), prompts=10, rounds=8)
    stream = iter(sampler)
    rows = [next(stream) for _ in range(40)]
    assert sorted(rows) == list(range(40))
    with pytest.raises(PoolExhausted, match="in flight"):
        next(stream)


# ---- staleness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "prefetch"), [(0, None), (1, 2), (2, 2)])
def test_staleness_is_workers_times_prefetch(workers: int, prefetch: int | None, caplog: Any) -> None:
    sampler = CurriculumSampler(ROWS, ucb(), prompts=2, rounds=12)
    loader: Any = DataLoader(
        ROWS, sampler=sampler, batch_size=2, num_workers=workers, prefetch_factor=prefetch, collate_fn=ids_of
    )
    ahead = workers * (prefetch or 0)
    for number, ids in enumerate(loader):
        drawn = sampler.metrics()["sampler/rounds_picked"]
        assert drawn == min(number + 1 + ahead, 12)
        sampler.tell(ids, np.ones(ids.size))
    assert sampler.staleness == ahead
    assert sampler.metrics()["sampler/staleness_max"] == ahead
    assert sampler.metrics()["sampler/batches_open"] == 0
    said = [record for record in caplog.records if "picks ahead of feedback" in record.getMessage()]
    assert len(said) == (ahead > 0)


def test_accelerate_looks_one_batch_ahead() -> None:
    accelerate = pytest.importorskip("accelerate")
    sampler = CurriculumSampler(ROWS, ucb(), prompts=2, rounds=6)
    loader: Any = DataLoader(ROWS, sampler=sampler, batch_size=2, collate_fn=ids_of)
    for ids in accelerate.data_loader.prepare_data_loader(loader, put_on_device=False):
        sampler.tell(ids, np.ones(ids.size))
    assert sampler.staleness == 1


def test_beyond_the_bound_it_raises() -> None:
    sampler = CurriculumSampler(ROWS, ucb(), prompts=2, max_staleness=3)
    loader: Any = DataLoader(ROWS, sampler=sampler, batch_size=2, num_workers=2, collate_fn=ids_of)
    stream = iter(loader)
    with pytest.raises(TooStale, match="`max_staleness` is 3") as caught:
        next(stream)
    stream._shutdown_workers()  # not left to the garbage collector, which would wait for them in vain
    assert "num_workers × prefetch_factor" in str(caught.value)


def test_a_bound_that_holds_is_not_noticed() -> None:
    sampler = CurriculumSampler(ROWS, ucb(), prompts=2, max_staleness=0, rounds=5)
    for ids in DataLoader(ROWS, sampler=sampler, batch_size=2, collate_fn=ids_of):
        sampler.tell(ids, np.ones(ids.size))
    assert sampler.staleness == 0
    stream = iter(sampler)
    next(stream), next(stream)
    with pytest.raises(TooStale):
        next(stream)


def test_it_waits_for_another_thread() -> None:
    sampler = CurriculumSampler(ROWS, ucb(), prompts=2, max_staleness=1, when_stale="wait", rounds=6)
    handed: list[Any] = []
    ready, done = threading.Semaphore(0), []

    def trainer() -> None:
        for _ in range(6):
            ready.acquire()
            ids = handed.pop(0)
            done.append(ids)
            sampler.tell(ids, np.ones(ids.size))

    thread = threading.Thread(target=trainer)
    thread.start()
    for ids in DataLoader(ROWS, sampler=sampler, batch_size=2, collate_fn=ids_of):
        handed.append(ids)
        ready.release()
    thread.join()
    assert len(done) == 6
    assert sampler.metrics()["sampler/staleness_max"] <= 1


def test_who_would_wait_for_itself_is_told_so() -> None:
    sampler = CurriculumSampler(ROWS, ucb(), prompts=1, max_staleness=0, when_stale="wait")
    stream = iter(sampler)
    sampler.tell(sampler.prompt_ids_of([next(stream)]), [1.0])
    next(stream)
    with pytest.raises(TooStale, match="is the one that gives it"):
        next(stream)


def test_waiting_ends() -> None:
    sampler = CurriculumSampler(ROWS, ucb(), prompts=1, max_staleness=0, when_stale="wait", wait_seconds=0.01)
    stream = iter(sampler)
    next(stream)
    with pytest.raises(TooStale, match=r"after 0\.01 s of waiting"):
        next(stream)


# ---- guards ----------------------------------------------------------------------------------------------------------


class Telling(Dataset[str]):
    """A dataset that tells in the worker, which is wrong."""

    def __init__(self, sampler: CurriculumSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return N

    def __getitem__(self, row: int) -> str:
        calls: list[Callable[[], object]] = [
            lambda: self.sampler.tell([ROWS[row]["prompt_id"]], [1.0]),
            lambda: self.sampler.resolve([ROWS[row]["prompt_id"]], "lost"),
            lambda: next(iter(self.sampler)),
        ]
        refusals = []
        for call in calls:
            try:
                call()
            except StoreForked as error:
                refusals.append(str(error))
        return "|".join(refusals)


@pytest.mark.parametrize("stored", [False, True])
def test_a_workers_copy_is_refused(stored: bool, scheduler: curri.Scheduler) -> None:
    if stored:
        sampler = CurriculumSampler(ROWS, scheduler, id_column="name", prompts=4)
    else:
        sampler = CurriculumSampler(ROWS, ucb(), prompts=4)
    batches = list(
        DataLoader(Telling(sampler), sampler=sampler, batch_size=4, num_workers=1, multiprocessing_context="fork")
    )
    said = batches[0][0].split("|")
    assert len(said) == 3
    assert all("carry ids back in the batch" in each for each in said)
    assert "cannot tell" in said[0]


def test_a_sampler_cannot_be_sent_to_another_process() -> None:
    with pytest.raises(StoreForked, match="cannot be sent"):
        pickle.dumps(CurriculumSampler(ROWS, ucb(), prompts=4))


def test_an_older_iterator_is_refused() -> None:
    sampler = CurriculumSampler(ROWS, ucb(), prompts=2)
    older, newer = iter(sampler), iter(sampler)
    first = [next(older), next(older)]
    assert [next(newer), next(newer)] == first
    with pytest.raises(InvalidParameter, match="older iterator"):
        next(older)


def test_metrics_name_sampler_and_strategy(scheduler: curri.Scheduler) -> None:
    bare = CurriculumSampler(ROWS, ucb(), prompts=2).metrics()
    assert bare["curriculum/ucb/rounds_asked"] == bare["sampler/staleness"] == 0
    sampler = CurriculumSampler(ROWS, scheduler, id_column="name", prompts=2)
    sampler.set_epoch(3)
    next(iter(sampler))
    assert sampler.metrics()["scheduler/rounds_open"] == 1
    assert sampler.metrics()["sampler/epoch"] == 3
