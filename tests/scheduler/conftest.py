"""A store, and outcomes that depend on nothing but the prompt and the round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from curri.selectors import stable_hash
from curri.store import NewPrompt, PromptStore, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from curri.types import Floats, Ints


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PromptStore]:
    """A store with 60 prompts in three arms."""
    with open_store(tmp_path / "prompts.duckdb", create=True) as opened:
        opened.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), f"arm{i % 3}") for i in range(60)])
        yield opened


@pytest.fixture
def outcome() -> Callable[[Ints, int, int], tuple[Ints, Floats]]:
    """(prompt ids, round, rollouts each) → ids and 0/1 rewards in long format."""

    def rewards(prompt_ids: Ints, number: int, each: int) -> tuple[Ints, Floats]:
        ids = np.repeat(prompt_ids, each)
        luck = stable_hash(ids * 1000 + np.tile(np.arange(each), prompt_ids.size), number)
        return ids, (luck % np.uint64(5) < ids.astype(np.uint64) % np.uint64(6)).astype(np.float64)

    return rewards
