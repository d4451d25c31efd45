from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from curri.store import NewPrompt, PromptStore, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PromptStore]:
    with open_store(tmp_path / "store.duckdb", create=True) as opened:
        yield opened


@pytest.fixture
def sums(store: PromptStore) -> PromptStore:
    """A store with the prompts 1 to 6 in the arms "a" and "b"; their own ids are "q0" to "q5"."""
    store.prompts.add([NewPrompt(f"{i} + {i}", False, str(2 * i), "ab"[i % 2], f"q{i}") for i in range(6)])
    return store


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows (objects, or lines as they are) into a file and gives its path."""

    def written(*rows: Any, name: str = "rows.jsonl") -> Path:
        lines = [
            row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode()
            for row in rows
        ]
        path = tmp_path / name
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    return written


@pytest.fixture
def answers(store: PromptStore) -> Callable[[], list[str | None]]:
    """The answers in the store, by prompt id."""
    return lambda: [row[0] for row in store.connection.rows("select answer from prompts order by prompt_id")]


def rejected_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.with_name(path.name + ".rejected.jsonl").read_text().splitlines()]


@pytest.fixture
def rejected() -> Callable[[Path], list[dict[str, Any]]]:
    """The refused rows of a file."""
    return rejected_rows
