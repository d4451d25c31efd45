"""Hostile fragments, and what becomes of each: a table of decisions. None of them does any harm."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pytest

from curri.errors import FilterError, InvalidInput, StoreError, StoreNotFound, StoreUnreadable, UnknownName
from curri.store import NewPrompt, Source, open_store
from curri.store.filters import COLUMNS
from curri.store.sql_filter import LONGEST, sql_where

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from curri.store import PromptStore

# What it tries · the fragment, with {folder} for the store's folder · what --sql-where says of it, None where it is
# harmless and runs. --where refuses every one.
HOSTILE = {
    "drop a table": ("1=1; drop table prompts", "not one SQL condition"),
    "write a file": ("true); copy prompts to '{folder}/stolen.csv' --", "not one SQL condition"),
    "read a file": ("(select content from read_text('{folder}/secret.txt')) like 's%'", "other tables"),
    "list a folder": ("exists(select * from glob('/etc/*'))", "other tables"),
    "attach a database": ("true; attach '{folder}/new.duckdb' as x", "not one SQL condition"),
    "read a Python variable": ("exists(from frame)", "other tables"),
    "leak settings": ("current_setting('memory_limit') is null", None),
    "never end": ("(select count(*) from range(100000000000)) > 0", "other tables"),
    "close the parenthesis and add rows": (
        "false) union all select ledger.prompt_id from ledger where (true",
        "one condition",
    ),
    "comment out the rest": ("true) --", "not one SQL condition"),
    "break out of a text": ("arm == 'x' or ''='' /*", "not one SQL condition"),
    "change a setting": ("true; set enable_external_access = true", "not one SQL condition"),
    "load an extension": ("true; install httpfs; load httpfs", "not one SQL condition"),
    "read other tables of the store": ("prompt_id in (select prompt_id from rollouts)", "other tables"),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store with prompts and rollouts, and a secret beside it; all tests share it, as none may change it."""
    tmp_path = tmp_path_factory.mktemp("hostile")
    (tmp_path / "secret.txt").write_text("secret")
    with open_store(tmp_path / "prompts.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"{i}?", is_chat=False, answer=None, arm=f"arm{i % 3}") for i in range(30)])
        rows = {"prompt_id": [1, 2], "sample": [0, 0], "reward": [1.0, 0.0], "solved": [1.0, 0.0]}
        store.rollouts.add(Source("m"), pa.table(rows))
    return tmp_path / "prompts.duckdb"


def everything(folder: Path) -> dict[str, str]:
    """Every file of a folder, with a digest of its bytes."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture
def unharmed(path: Path) -> Iterator[None]:
    """Nothing is written, and the store holds what it held."""
    before = everything(path.parent)
    yield
    assert everything(path.parent) == before
    with open_store(path, read_only=True) as store:
        assert (len(store.prompts), len(store.rollouts), store.prompts.where("retired").size) == (30, 2, 0)


def test_there_are_fourteen() -> None:
    assert len(HOSTILE) == 14


@pytest.mark.parametrize("aim", HOSTILE)
def test_where_refuses_it_before_anything_is_run(path: Path, unharmed: None, aim: str) -> None:
    fragment = HOSTILE[aim][0].format(folder=path.parent)
    with open_store(path, read_only=True) as store, pytest.raises(FilterError, match="character"):
        store.prompts.where(fragment)


@pytest.mark.parametrize("aim", HOSTILE)
def test_as_a_value_it_is_only_a_text(path: Path, unharmed: None, aim: str) -> None:
    fragment = HOSTILE[aim][0].format(folder=path.parent).replace('"', '\\"')
    with open_store(path, read_only=True) as store:
        assert store.prompts.where(f'arm == "{fragment}" or prompt contains "{fragment}"').tolist() == []
        with pytest.raises(UnknownName):
            store.prompts.where(f'metadata["{fragment}"] == 1')


@pytest.mark.parametrize("aim", HOSTILE)
def test_in_sql_it_is_refused_or_harmless(path: Path, unharmed: None, aim: str) -> None:
    frame = pl.DataFrame({"prompt_id": [1]})  # a name that a replacement scan would find
    fragment, refusal = HOSTILE[aim]
    start = time.monotonic()
    if refusal is None:
        assert sql_where(path, fragment, seconds=5).tolist() == []
    else:
        with pytest.raises(InvalidInput, match=refusal) as caught:
            sql_where(path, fragment.format(folder=path.parent), seconds=5)
        assert "\n" not in caught.value.message
    assert time.monotonic() - start < 20
    assert frame.height == 1


@pytest.mark.parametrize("aim", HOSTILE)
def test_the_connection_alone_would_do(path: Path, unharmed: None, aim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the parser's word not asked, the settings of the connection would still let nothing happen."""
    monkeypatch.setattr("curri.store.sql_filter._refuse_all_but_one_expression", lambda *_: None)
    fragment = HOSTILE[aim][0].format(folder=path.parent)
    if aim in ("leak settings", "close the parenthesis and add rows", "read other tables of the store"):
        assert set(sql_where(path, fragment, seconds=0.5).tolist()) <= {1, 2}  # reads the store, and gives ids of it
    else:
        with pytest.raises(InvalidInput):
            sql_where(path, fragment, seconds=0.5)


@pytest.mark.parametrize(
    "fragment",
    [
        "read_text('/etc/passwd') is not null",
        "'/etc/passwd'::blob is null and true) from read_blob('/etc/passwd') where (true",
        "prompt_id in (from 'secret.txt')",
        "(values (1)) = 1",
        "true) limit (1",
        "true) order by (1",
        "true), (true",
        "*",
        "columns('.*') is null",
        "prompt_id = $1",
        "prompt_id = ?",
        "count(*) > 1",
        "row_number() over () = 1",
        "'x'",
        "nonsense > 1",
        "",
        ")",
        "(" * 600,
        "- " * 450,
        "not " * 240 + "nonsense",
        "array(select 1) = [1]",
        "list_sum(range(100000000000)) > 0",
        "length(repeat('x', 10000000000)) > 0",
        "x" * (LONGEST + 1),
    ],
    ids=range(24),
)
def test_more_that_is_refused(path: Path, unharmed: None, fragment: str) -> None:
    with pytest.raises(InvalidInput):
        sql_where(path, fragment, seconds=5)


def test_what_takes_too_long_is_stopped(path: Path, unharmed: None) -> None:
    inner = "list_sum(list_transform(range(20000), lambda y: y * x))"
    bomb = f"list_sum(list_transform(range(3000), lambda x: {inner})) > prompt_id"
    with pytest.raises(InvalidInput, match=r"longer than 0\.2 seconds"):
        sql_where(path, bomb, seconds=0.2)


def test_settings_cannot_be_changed_nor_other_files_be_read(path: Path) -> None:
    from curri.store.sql_filter import _hardened

    with _hardened(path) as connection:
        for statement in (
            "set enable_external_access = true",
            "set lock_configuration = false",
            "reset memory_limit",
            f"attach '{path.parent}/new.duckdb' as x",
            f"copy prompts to '{path.parent}/stolen.csv'",
            f"select * from read_text('{path.parent}/secret.txt')",
            "select * from glob('/etc/*')",
            "install httpfs",
            "load httpfs",
            "drop table prompts",
            "create table x (y integer)",
            f"export database '{path.parent}/dump'",
            "from path",
        ):
            with pytest.raises(Exception, match=r".") as caught:
                connection.execute(statement).fetchall()
            assert type(caught.value).__module__ == "_duckdb", statement
    assert set(everything(path.parent)) == {"prompts.duckdb", "secret.txt"}


@pytest.mark.parametrize(
    ("sql", "language"),
    [
        ("arm = 'arm1'", 'arm == "arm1"'),
        ("pass_rate >= 0.5", "pass_rate >= 0.5"),
        ("responses = 0 and not retired", "responses == 0 and not retired"),
        ("split = 'train' -- all", 'split == "train"'),
        ("prompt_id between 3 and 5", "prompt_id in 3..5"),
        ("id is null and metadata is null", "id is unknown"),
    ],
)
def test_honest_conditions_mean_what_they_mean_in_the_language(path: Path, sql: str, language: str) -> None:
    found = sql_where(path, sql).tolist()
    with open_store(path, read_only=True) as store:
        assert found == store.prompts.where(language).tolist() != []


@pytest.mark.parametrize("name", [*COLUMNS, "metadata"])
def test_every_column_of_the_language_is_there(path: Path, name: str) -> None:
    assert sql_where(path, f"{name} is null or {name} is not null").size == 30


def test_models(path: Path) -> None:
    assert sql_where(path, "responses > 0", model="m").tolist() == [1, 2]
    with pytest.raises(UnknownName):
        sql_where(path, "true", model="nobody")


def test_files_that_cannot_be_read(path: Path, store: PromptStore, tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound):
        sql_where(tmp_path / "none.duckdb", "true")
    with pytest.raises(StoreUnreadable):
        sql_where(path.parent / "secret.txt", "true")
    with pytest.raises(StoreError, match="open in this process"):
        sql_where(store.path, "true")
    assert len(store.prompts) == 30  # it is as open as it was
