"""A store from a stranger is data: opening it runs nothing that stands in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest

from curri.errors import StoreUnreadable
from curri.store import NewPrompt, open_store
from curri.store.migrations import migrate_store
from curri.store.repair import repair_store

if TYPE_CHECKING:
    from collections.abc import Callable
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


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    "macro",
    [
        "duckdb_functions() as table select '' as function_name, true as internal where false",
        "duckdb_views() as table select '' as view_name, true as internal, true as temporary where false",
        "pragma_storage_info(name) as table select content from read_text('SECRET')",
        "count() as 1",
    ],
)
def test_macros_cannot_hide(store: Path, read_only: bool, macro: str) -> None:
    altered(store, f"create macro {macro}")
    with pytest.raises(StoreUnreadable, match=f"holds macros, which no store of curri does: {macro.partition('(')[0]}"):
        open_store(store, read_only=read_only)


@pytest.mark.parametrize("name", ["priors", "PRIORS"])
def test_a_view_is_not_taken_for_the_table_that_older_stores_lack(store: Path, name: str) -> None:
    altered(store, "drop table priors", f"create view {name} as select content as model from read_text('SECRET')")
    for read_only in (True, False):
        with pytest.raises(StoreUnreadable, match="is not a curri store"):
            open_store(store, read_only=read_only)


def test_a_trigger_is_refused_before_anything_is_written(store: Path) -> None:
    if duckdb.__version__ < "2":
        pytest.skip("DuckDB 1 has no triggers")
    hostile = store.with_name("hostile.duckdb")
    with duckdb.connect() as handle:
        handle.execute(f"attach '{store}' as good; attach '{hostile}' as bad (storage_version 'v2.0.0')")
        handle.execute("copy from database good to bad; use bad")
        handle.execute(
            f"""create trigger copying after insert on arms for each statement
                insert into meta select 'stolen', content from read_text('{store.with_name("secret")}')"""
        )
    with pytest.raises(StoreUnreadable, match="holds triggers, which no store of curri does: copying"):
        open_store(hostile)
    with open_store(hostile, read_only=True) as opened:  # none runs where nothing is written
        assert len(opened.prompts) == 1


@pytest.mark.parametrize("use", [migrate_store, repair_store])
def test_no_other_way_in_runs_macros(store: Path, use: Callable[[Path], object]) -> None:
    altered(store, "create macro max(x) as 99")
    with pytest.raises(StoreUnreadable, match="holds macros"):
        use(store)


@pytest.mark.parametrize("use", [migrate_store, repair_store])
def test_no_other_way_in_reads_views(store: Path, use: Callable[[Path], object]) -> None:
    altered(
        store,
        "alter table runs rename to kept",
        "create view runs as select 1 as run_id, content as name from read_text('SECRET')",
    )
    with pytest.raises(StoreUnreadable, match="is not a curri store"):
        use(store)


def test_a_view_beside_the_tables_is_left_alone(store: Path) -> None:
    altered(store, "create view mine as select content from read_text('SECRET')")
    with open_store(store) as opened:
        assert opened.texts.fetch(opened.pool().ids)[0].prompt == "1 + 1"
