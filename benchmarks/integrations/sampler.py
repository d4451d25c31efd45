"""What the PyTorch sampler adds to a training step; see README.md here."""

from __future__ import annotations

import itertools
import tempfile
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
from torch.utils.data import RandomSampler, WeightedRandomSampler

import curri
from benchmarks.table import Row, quiet, timed
from curri.integrations.torch import CurriculumSampler
from curri.store import NewPrompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROMPTS, GROUP, ARMS, SEED = 64, 8, 12, 0
STRATEGIES = ("uniform", "ucb")


class _Rows:
    """A dataset of so many rows; nothing is read from it."""

    def __init__(self, size: int) -> None:
        self.prompt_ids = np.arange(1, size + 1)

    def __len__(self) -> int:
        return int(self.prompt_ids.size)


def run(*, quick: bool = False) -> list[Row]:
    """The rows of this benchmark."""
    repeats = 40 if quick else 300
    rows = []
    for size in (10_000, 20_000) if quick else (10_000, 1_000_000):
        rows += [_bare(strategy, size, repeats) for strategy in STRATEGIES]
        rows += [_against(base, size, repeats) for base in ("RandomSampler", "WeightedRandomSampler")]
        rows += [_memory(size)]
        rows += [_stored(size, min(repeats, 100))]
    return rows


def _curriculum(strategy: str, size: int) -> Any:
    pool = curri.PromptPool(np.arange(1, size + 1), np.arange(size).astype(np.str_) if size < ARMS else _arms(size))
    return curri.strategy(strategy)(pool, seed=SEED, group_size=GROUP)


def _arms(size: int) -> Any:
    return np.array([f"arm{i}" for i in range(ARMS)])[np.arange(size) % ARMS]


def sampler_step(strategy: str, size: int, prompts: int) -> Callable[[], object]:
    """A step of a sampler without a store over so many rows: see :func:`_step`."""
    return _step(CurriculumSampler(_Rows(size), _curriculum(strategy, size), prompts=prompts, group_size=GROUP))


def _step(sampler: CurriculumSampler) -> Callable[[], object]:
    """Hand out a batch of rows, hear its outcomes."""
    stream = itertools.chain.from_iterable(itertools.repeat(sampler))
    size = sampler.prompts * GROUP
    rewards = np.random.default_rng(SEED).integers(0, 2, size).astype(float)

    def step() -> None:
        rows = list(itertools.islice(stream, size))
        sampler.tell(sampler.prompt_ids_of(rows), rewards)

    return step


def _by_hand(curriculum: Any) -> Callable[[], object]:
    rng = np.random.default_rng(SEED)
    rewards = rng.integers(0, 2, PROMPTS * GROUP).astype(float)

    def step() -> None:
        ids = np.repeat(curriculum.ask(PROMPTS).prompt_ids, GROUP)
        curriculum.tell(curri.Rollouts(ids, rewards))
        curriculum.advance()

    return step


def _times(ours: Callable[[], object], base: Callable[[], object], repeats: int) -> Any:
    for _ in range(5):
        ours(), base()
    with quiet():
        times = [(timed(ours), timed(base)) for _ in range(repeats)]
    return zip(*times, strict=True)


def _bare(strategy: str, size: int, repeats: int) -> Row:
    ours, base = _times(sampler_step(strategy, size, PROMPTS), _by_hand(_curriculum(strategy, size)), repeats)
    return Row("integrations", f"{strategy}, {size:,} rows: sampler step : ask, tell, advance by hand", ours, base)


def _against(name: str, size: int, repeats: int) -> Row:
    """A step of ours, feedback included, and one of PyTorch's, with its share of what an epoch's start costs."""
    data = _Rows(size)
    theirs: Any = RandomSampler(data) if name == "RandomSampler" else WeightedRandomSampler(np.ones(size), size)
    first = timed(lambda: next(iter(theirs))) * PROMPTS / size
    stream = itertools.chain.from_iterable(itertools.repeat(theirs))

    def step() -> list[int]:
        return [row for row in itertools.islice(stream, PROMPTS) for _ in range(GROUP)]

    ours, base = _times(sampler_step("ucb", size, PROMPTS), step, repeats)
    return Row("integrations", f"ucb, {size:,} rows: sampler step : {name}", ours, [time + first for time in base])


def _memory(size: int) -> Row:
    curriculum, rows = _curriculum("uniform", size), _Rows(size)
    tracemalloc.start()
    sampler = CurriculumSampler(rows, curriculum, prompts=PROMPTS)
    bytes_each = tracemalloc.get_traced_memory()[0] / size
    tracemalloc.stop()
    assert len(sampler)
    return Row("integrations", f"{size:,} rows: BYTES a prompt of the sampler : of its id", [bytes_each], [8.0], "≤ 8")


def _stored(size: int, repeats: int) -> Row:
    with tempfile.TemporaryDirectory() as folder, curri.open_store(Path(folder) / "p.duckdb", create=True) as store:
        for first in range(0, size, 50_000):
            numbers = range(first, min(size, first + 50_000))
            store.prompts.add([NewPrompt(f"{i}?", is_chat=False, answer="", arm=f"arm{i % ARMS}") for i in numbers])
        scheduler = curri.Scheduler(store, "ucb", run="r", seed=SEED, group_size=GROUP)
        sampler = CurriculumSampler(_Rows(size), scheduler, prompts=PROMPTS, group_size=GROUP)
        commits = _commits(Path(folder) / "bare.duckdb")
        ours, base = _times(_step(sampler), lambda: next(commits), repeats)
        commits.close()
    return Row(
        "integrations", f"ucb with a store of {size:,}: sampler step : durable commit of a row", ours, base, "≤ 10"
    )


def _commits(path: Path) -> Iterator[None]:
    """One durable commit of one row after the other."""
    connection = duckdb.connect(str(path))
    connection.execute("create table ledger (round integer, prompt_id bigint)")
    try:
        while True:
            connection.execute("insert into ledger values (1, 2)")
            yield
    finally:
        connection.close()
