"""A server that misbehaves on demand, and stores of sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from curri.store import NewPrompt, PromptStore, open_store
from tests.rollouts.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[Server]:
    """An OpenAI-compatible server on loopback."""
    running = Server()
    yield running
    running.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PromptStore]:
    """A store with 20 sums in two arms."""
    with open_store(tmp_path / "curri.duckdb", create=True) as opened:
        opened.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), f"arm{i % 2}") for i in range(20)])
        yield opened
