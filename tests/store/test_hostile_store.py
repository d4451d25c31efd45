"""A store from a stranger is data: opening it runs nothing that stands in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest

from curri.errors import StoreUnreadable
from curri.store import NewPrompt, open_store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "s.duckdb"
    with open_store(path, create=True) as opened:
        opened.prompts.add([NewPrompt("1 + 1", is_chat=False, answer="2", arm="sums")])
    (tmp_path / "secret").write_text("nobody's business", encoding="utf-8")
    return path


def altered(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as handle:
        for statement in statements:
            handle.execute(statement.replace("SECRET", str(path.parent / "secret")))


@pytest.mark.parametrize("read_only", [True, False])
def test_a_view_in_the_place_of_a_table_is_refused(store: Path, read_only: bool) -> None:
    altered(
        store,
        "alter table prompts rename to kept",
        "create view prompts as select * replace ((select content from read_text('SECRET')) as prompt) from kept",
    )
    with pytest.raises(StoreUnreadable, match="is not a curri store"):
        open_store(store, read_only=read_only)


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("macro", ["max(x) as 99", "coalesce(x, y) as (select content from read_text('SECRET'))"])
def test_macros_are_refused(store: Path, read_only: bool, macro: str) -> None:
    altered(store, f"create macro {macro}")
    with pytest.raises(StoreUnreadable, match=f"holds macros, which no store of curri does: {macro[:3]}"):
        open_store(store, read_only=read_only)


def test_a_view_beside_the_tables_is_left_alone(store: Path) -> None:
    altered(store, "create view mine as select content from read_text('SECRET')")
    with open_store(store) as opened:
        assert opened.texts.fetch(opened.pool().ids)[0].prompt == "1 + 1"
