"""The samplers keep what every trainer adapter promises, under each loader, with and without a store."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from curri.testing import AdapterCase, parametrize_adapters

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from curri.testing import AdapterCheck, Setting

pytest.importorskip("torch")

from torch.utils.data import DataLoader

from curri.integrations.torch import CurriculumBatchSampler, CurriculumSampler

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata 0.11 [torch]


def ids_of(rows: list[dict[str, Any]]) -> list[int]:
    return [row["prompt_id"] for row in rows]


class Session:
    """A plain loop around a loader; the checkpoint is the loader's or the sampler's state, and the arrays."""

    workers, stored, stateful, batches = 0, False, False, False

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.folder = folder
        self.scheduler = setting.scheduler(folder) if self.stored else None
        self.curriculum = setting.curriculum() if self.scheduler is None else self.scheduler.curriculum
        rows = setting.rows()
        kind = CurriculumBatchSampler if self.batches else CurriculumSampler
        options: dict[str, Any] = {"prompts": setting.prompts, "group_size": setting.group_size}
        try:
            self.sampler: Any = kind(rows, self.scheduler or self.curriculum, **options)
        except ValueError:
            self.stop()
            raise
        batching: dict[str, Any] = {"batch_sampler": self.sampler}
        if not self.batches:
            batching = {"sampler": self.sampler, "batch_size": setting.rows_of_batch}
        self.loader = self.loader_class()(rows, num_workers=self.workers, collate_fn=ids_of, **batching)
        self.restore()
        self.stream: Any = None

    def loader_class(self) -> Any:
        if not self.stateful:
            return DataLoader
        from torchdata.stateful_dataloader import StatefulDataLoader

        return StatefulDataLoader

    def next_batch(self) -> Sequence[int]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'set_vital' is deprecated", UserWarning)
            self.stream = iter(self.loader) if self.stream is None else self.stream
            batch: Sequence[int] = next(self.stream)
        return batch

    def report(self, ids: Sequence[int], rewards: Sequence[float]) -> None:
        self.sampler.tell(ids, rewards)

    def checkpoint(self) -> None:
        state = (self.loader if self.stateful else self.sampler).state_dict()
        (self.folder / "loader.json").write_text(json.dumps(state))
        if not self.stored:
            self.sampler.save(self.folder / "arrays")

    def restore(self) -> None:
        if (self.folder / "loader.json").exists():
            if not self.stored:
                self.sampler.load(self.folder / "arrays")
            state = json.loads((self.folder / "loader.json").read_text())
            (self.loader if self.stateful else self.sampler).load_state_dict(state)

    def stop(self) -> None:
        self.stream = None
        if self.scheduler is not None:
            self.scheduler.store.close()


class Stored(Session):
    stored = True


class WithWorkers(Session):
    workers = 2


class StoredWithWorkers(Session):
    stored, workers = True, 2


class Batches(Session):
    batches = True


class Stateful(Session):
    stateful = True

    def __init__(self, folder: Path, setting: Setting) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'set_vital' is deprecated", UserWarning)
            super().__init__(folder, setting)


class StatefulWithWorkers(Stateful):
    workers = 2


class StatefulStored(Stateful):
    stored, workers = True, 1


CASES = [
    AdapterCase("bare", Session),
    AdapterCase("bare-batches", Batches),
    AdapterCase("bare-2-workers", WithWorkers, lag=4),
    AdapterCase("store", Stored),
    AdapterCase("store-2-workers", StoredWithWorkers, lag=4),
]
if find_spec("torchdata"):
    CASES += [
        AdapterCase("stateful", Stateful),
        AdapterCase("stateful-2-workers", StatefulWithWorkers, lag=4),
        AdapterCase("stateful-store-1-worker", StatefulStored, lag=2),
    ]


@parametrize_adapters(CASES)
def test_adapter(check: AdapterCheck) -> None:
    check()
