"""PromptDataset: a store's prompts in loader workers, without a database there."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

import curri
from curri.errors import InvalidParameter, StoreError, UnknownPrompt
from curri.store import NewPrompt

pytest.importorskip("torch")

from torch.utils.data import DataLoader

import curri.store.texts as texts_module
from curri.integrations.torch import CurriculumSampler, PromptDataset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHAT = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[curri.PromptStore]:
    prompts = [
        NewPrompt(f"{i} + {i}?", is_chat=False, answer=str(2 * i), arm=f"arm{i % 3}", external_id=f"q{i}")
        for i in range(1, 21)
    ]
    with curri.open_store(tmp_path / "p.duckdb", create=True) as store:
        store.prompts.add(prompts)
        store.prompts.add([NewPrompt('[{"content":"Hello","role":"user"}]', is_chat=True, answer=None, arm="chat")])
        yield store


def test_rows_are_prompts(store: curri.PromptStore) -> None:
    dataset = PromptDataset(store, [21, 5, 2])
    assert dataset.prompt_ids.tolist() == [21, 5, 2]
    assert dataset[0]["prompt"] == CHAT
    assert dataset[0]["answer"] is None
    assert dataset[1] == {
        "prompt_id": 5, "prompt": "5 + 5?", "answer": "10", "arm": "arm2", "id": "q5", "metadata": {}
    }  # fmt: skip
    assert [row["prompt_id"] for row in dataset.__getitems__([2, 0, 0])] == [2, 21, 21]
    assert len(PromptDataset(store)) == 21


def where(row: dict[str, Any]) -> tuple[int, str, int, bool]:
    """What a worker knows of itself; at module level, so that it can be sent to a spawned one."""
    return row["prompt_id"], row["prompt"], os.getpid(), "duckdb" in sys.modules


def as_they_are(rows: list[Any]) -> list[Any]:
    return rows


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_files_and_no_database(store: curri.PromptStore, method: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    dataset = PromptDataset(store, range(1, 21), transform=where)
    scheduler = curri.Scheduler(store, "uniform", run="r", seed=0)
    sampler = CurriculumSampler(dataset, scheduler, prompts=10, rounds=2)
    loader = DataLoader(
        dataset, sampler=sampler, batch_size=10, num_workers=1, collate_fn=as_they_are, multiprocessing_context=method
    )
    seen = [row for batch in loader for row in batch]
    assert sorted(row[0] for row in seen) == list(range(1, 21))
    assert all(text == f"{prompt} + {prompt}?" for prompt, text, _, _ in seen)
    assert os.getpid() not in {pid for _, _, pid, _ in seen}
    if method == "spawn":
        assert not any(duckdb for _, _, _, duckdb in seen), "a worker imported the database"


def test_several_segments_and_a_store_that_grows(store: curri.PromptStore, monkeypatch: Any) -> None:
    monkeypatch.setattr(texts_module, "SEGMENT", 8)
    dataset = PromptDataset(store, range(1, 21))
    store.prompts.add([NewPrompt("more", is_chat=False, answer="", arm="arm0")])
    later = PromptDataset(store)
    again = PromptDataset.__new__(PromptDataset)
    again.__dict__.update(dataset.__getstate__())  # as a spawned worker gets it: it opens the files when it needs them
    for each in (dataset, again, later):
        assert [each[row]["prompt"] for row in range(20)] == [f"{i} + {i}?" for i in range(1, 21)]
    assert later[21]["prompt"] == "more"


def test_what_is_not_there(store: curri.PromptStore) -> None:
    with pytest.raises(UnknownPrompt, match="4711"):
        PromptDataset(store, [1, 4711])
    with pytest.raises(InvalidParameter, match="flat"):
        PromptDataset(store, [[1]])
    dataset = PromptDataset(store)
    copy = PromptDataset.__new__(PromptDataset)
    copy.__dict__.update(dataset.__getstate__())
    for path in store.texts.folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(StoreError, match="texts of prompts 1 and on are not in"):
        copy[0]
