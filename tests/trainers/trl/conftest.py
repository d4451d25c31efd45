"""A store with sums, and a trainer around it; everything runs on the CPU and offline."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

import curri
from curri.store import NewPrompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from curri.store import PromptStore

collect_ignore_glob = [] if find_spec("trl") else ["*.py"]  # `make test-trl` has an environment with TRL
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PromptStore]:
    """Sixty sums in two arms."""
    from tests.trainers.trl import tiny

    with curri.open_store(tmp_path / "sums.duckdb", create=True) as opened:
        sums = tiny.sums(60)
        opened.prompts.add([NewPrompt(s["prompt"], is_chat=False, answer=s["answer"], arm=s["arm"]) for s in sums])
        yield opened


@pytest.fixture
def trainer(store: PromptStore, tmp_path: Path) -> Callable[..., Any]:
    """Makes trainers over the store's prompts."""
    from tests.trainers.trl import tiny

    dataset = tiny.dataset_of(store)
    return lambda curriculum, **settings: tiny.trainer(dataset, curriculum, tmp_path / "out", **settings)
