"""A store to test with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from curri.store import NewPrompt, PromptStore, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PromptStore]:
    """A store with 30 prompts in three arms."""
    with open_store(tmp_path / "prompts.duckdb", create=True) as opened:
        opened.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), f"arm{i % 3}") for i in range(30)])
        yield opened
