"""What ``test_ranks.py`` starts under torchrun: each rank writes what it saw as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from torch.utils.data import DataLoader

import curri
from curri.errors import CurriError
from curri.integrations.torch import CurriculumBatchSampler, CurriculumSampler
from curri.testing import Setting

PROMPTS, GROUP, ROUNDS = 6, 4, 8
ROWS: Any = [{"prompt_id": i, "name": f"q{i}"} for i in range(1, 61)]
ARMS = [f"arm{i % 3}" for i in range(60)]


def curriculum() -> curri.curricula.UCB:
    pool = curri.PromptPool([row["prompt_id"] for row in ROWS], ARMS)
    return curri.curricula.UCB(pool, seed=0, temperature=0.05)


def reward(ids: np.ndarray, place: np.ndarray) -> np.ndarray:
    """A pure function of the prompt and the place in its group; arm 2 alone has variance."""
    return np.where(ids % 3 == 0, (place + ids) % 2, 1).astype(float)


def ids_of(batch: list[dict[str, Any]]) -> np.ndarray:
    return np.array([row["prompt_id"] for row in batch])


def authority(folder: Path, rank: int) -> dict[str, Any]:
    """Rank 0 holds a store; each rank's loader takes its own share."""
    scheduler = None
    if rank == 0:
        store = curri.open_store(folder / "p.duckdb")
        scheduler = curri.Scheduler(store, "ucb", run="r", seed=0, temperature=0.05)
    sampler = CurriculumBatchSampler(ROWS, scheduler, id_column="name", prompts=PROMPTS, group_size=GROUP, shard=True)
    loader: Any = DataLoader(ROWS, batch_sampler=sampler, collate_fn=lambda rows: rows)
    rounds = []
    for batch in loader:
        ids = ids_of(batch)
        rounds.append(ids.tolist())
        told = sampler.tell([row["name"] for row in batch], reward(ids, np.arange(ids.size) % GROUP))
        assert told.new == PROMPTS * GROUP
        if len(rounds) == ROUNDS:
            break
    refusals = []
    wrong: Any
    for wrong in ({"prompt_ids": ["q999"] if rank else [], "rewards": [1.0] if rank else []},
                  {"prompt_ids": [1], "rewards": [np.nan if rank else 1.0]}):  # fmt: skip
        try:
            sampler.tell(**wrong)
        except CurriError as error:
            refusals.append(type(error).__name__)
    return {"rounds": rounds, "refusals": refusals, "state": sampler.state_dict(), "length": len(loader)}


def replicated(folder: Path, rank: int, *, alone: bool = False) -> dict[str, Any]:
    """Every rank has a copy and the whole stream, and works on half of its rows, so that groups lie on both ranks."""
    how: dict[str, Any] = {"distributed": False} if alone else {"shard": False}
    options: dict[str, Any] = {"prompts": PROMPTS - 3, "group_size": GROUP, **how}
    sampler = CurriculumSampler(ROWS, curriculum(), **options)
    stream, rounds, mine, again = iter(sampler), [], [], []
    half = (PROMPTS - 3) * GROUP // 2
    for number in range(ROUNDS):
        rows = np.array([next(stream) for _ in range(2 * half)])
        ids = sampler.prompt_ids_of(rows)
        share = slice(rank * half, (rank + 1) * half)
        rounds.append(ids.tolist())
        mine.append(ids[share].tolist())
        sampler.tell(ids[share], reward(ids, np.arange(ids.size) % GROUP)[share] + (rank if alone else 0))
        if number == 3 and not alone:
            state = sampler.state_dict()
            sampler.save(folder / "arrays")
            dist.barrier()
            sampler = CurriculumSampler(ROWS, curriculum(), **options)
            sampler.load(folder / "arrays")
            sampler.load_state_dict(state)
            stream = iter(sampler)
    if not alone:
        again = [sampler.prompt_ids_of(next(stream)).item() for _ in range(3)]
    return {"rounds": rounds, "mine": mine, "next": again}


def conformance(folder: Path, rank: int) -> dict[str, Any]:
    """Rank 0 holds a bare curriculum, which is saved and restored; half of the rows is told here, half there."""
    setting = Setting()

    def made() -> CurriculumSampler:
        curriculum = None if rank else setting.curriculum()
        return CurriculumSampler(
            setting.rows(), curriculum, prompts=setting.prompts, group_size=setting.group_size, shard=False
        )

    sampler, rounds, half = made(), [], setting.rows_of_batch // 2
    stream = iter(sampler)
    for number in range(9):
        ids = sampler.prompt_ids_of([next(stream) for _ in range(2 * half)])
        rounds.append(ids.tolist())
        place = np.arange(ids.size) % setting.group_size
        if number == 2:
            whole = sampler.tell(ids, reward(ids, place), gathered=True)
            assert (whole.new, whole.closed) == (ids.size, (2,))
        elif number == 3:
            assert sampler.resolve(ids[rank * half : (rank + 1) * half], "dropped", "stale") == (3,)
        else:
            share = slice(rank * half, (rank + 1) * half)
            sampler.tell(ids[share], reward(ids, place)[share])
        if number == 5:
            state, metrics = sampler.state_dict(), sampler.metrics()
            assert ("curriculum/ucb/rounds_closed" in metrics) is (rank == 0)
            sampler.save(folder / "authority")
            dist.barrier()
            sampler = made()
            sampler.load(folder / "authority")
            sampler.load_state_dict(state)
            stream = iter(sampler)
    return {"rounds": rounds}


def main() -> None:
    folder = Path(sys.argv[1])
    early = CurriculumSampler(ROWS, curriculum(), prompts=2)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    seen = {"authority": authority(folder, rank), "replicated": replicated(folder, rank)}
    seen["conformance"] = conformance(folder, rank)
    seen["alone"] = replicated(folder, rank, alone=True)
    try:
        next(iter(early))
    except CurriError as error:
        seen["early"] = {"error": error.message}
    try:
        CurriculumSampler(ROWS, curriculum(), prompts=2)
    except CurriError as error:
        seen["unsaid"] = {"error": error.message}
    (folder / f"rank{rank}.json").write_text(json.dumps(seen))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
