"""check, compact, backup, migrate; and the stores of past versions."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from curri.errors import InvalidInput, StoreError, StoreLocked, StoreNotFound, StoreUnreadable, StoreVersion
from curri.scheduler import Scheduler
from curri.store import NewPrompt, PromptStore, Source, maintenance, open_store, schema
from curri.store.check import check_store
from curri.store.files import file_system_of, holder_of
from curri.store.maintenance import backup_store, compact_store
from curri.store.migrations import Migration, migrate_store

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
RECORDED = sorted((ROOT / "tests" / "assets").glob("store-v*.gz"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store with prompts, a model's rollouts, and a run with an open round, a late and a partial answer."""
    path = tmp_path_factory.mktemp("template") / "p.duckdb"
    with open_store(path, create=True) as store:
        store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), f"arm{i % 3}") for i in range(30)])
        ids = np.repeat(np.arange(1, 31), 2)
        rows = {"prompt_id": ids, "sample": np.tile([0, 1], 30), "reward": np.tile([0.0, 1.0], 30)}
        store.rollouts.add(Source("m"), pa.table(rows))
        scheduler = Scheduler(store, "ucb", run="r1", seed=0)
        for _ in range(2):
            scheduler.tell(np.repeat(scheduler.ask(4).prompt_ids, 2), [0.0, 1.0] * 4)
        selection = scheduler.ask(4)
        scheduler.tell(np.repeat(selection.prompt_ids, 2), [0.0, 1.0] * 4)
        scheduler.tell(selection.prompt_ids[:1], [0.25])  # late
        scheduler.tell([30], [0.5])  # perhaps never handed out
        selection = scheduler.ask(4)
        scheduler.tell(selection.prompt_ids[:1], [1.0], resolve=None)
        scheduler.resolve(selection.prompt_ids[1:2], "dropped", reason="stale")
    return path


@pytest.fixture
def filled(template: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    path = tmp_path / "p.duckdb"
    shutil.copyfile(template, path)
    return path


def wrong(path: Path, *, everything: bool = False) -> list[str]:
    return [finding.name for finding in check_store(path, everything=everything).findings if not finding.ok]


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


# ---- check ----------------------------------------------------------------------------------------------------------


def test_a_store_that_is_well(filled: Path) -> None:
    before = filled.read_bytes()
    report = check_store(filled, everything=True)
    assert [finding for finding in report.findings if not finding.ok] == []
    assert report.ok
    assert (report.rows["prompts"], report.rows["runs"], report.snapshot_age) == (30, 1, None)
    assert filled.read_bytes() == before


HARM = {
    "prompts without an arm": "update prompts set arm_id = 99 where prompt_id = 3",
    "prompts without their parent": "update prompts set parent_id = 77 where prompt_id = 3",
    "prompt ids that are there twice": "insert into prompts select * replace (1 as digest_low) from prompts limit 1",
    "prompts that are there twice": "insert into prompts select * replace (99 as prompt_id) from prompts limit 1",
    "arms that are there twice": "insert into arms values (50, 'arm1')",
    "rollouts without a prompt": "update rollouts set prompt_id = 1000 where prompt_id = 3 and source_id = 0",
    "rollouts without a source": "update rollouts set source_id = 7 where prompt_id = 3 and source_id = 0",
    "rollouts that are there twice": "insert into rollouts select * from rollouts where source_id = 0 limit 1",
    "rollouts without a finite reward": "update rollouts set reward = 'nan' where prompt_id = 3",
    "sources of unknown runs": "insert into sources values (9, 'run:x', '', '', '', 9)",
    "runs that are there twice": "insert into runs select * replace (9 as run_id) from runs",
    "ledger rows of unknown runs": "insert into ledger select * replace (9 as run_id) from ledger",
    "ledger rows of unknown prompts": "update ledger set prompt_id = 1000 where round = 0 and told = 2",
    "ledger rows of prompts that were never handed out": "delete from ledger where event = 'issued' and round = 0",
    "prompts settled twice in a round": "insert into ledger select * from ledger where event = 'dropped'",
    "states of unknown runs": "insert into state select * replace (9 as run_id) from state",
    "the ledger against the rollouts": "delete from rollouts where round = 0 and sample = 1 and source_id > 0",
    "priors without a prompt": "insert into priors values (1000, 'm', 0.5, 4, 'x')",
    "texts of prompts": "update prompts set answer = '5' where prompt_id = 3",
    "state of run r1": "delete from state",
}


@pytest.mark.parametrize("name", sorted(HARM))
def test_harm_is_found_and_named(filled: Path, name: str) -> None:
    with duckdb.connect(str(filled)) as handle:
        handle.execute(HARM[name])
    report = check_store(filled)
    (finding,) = [finding for finding in report.findings if finding.name == name]
    assert not finding.ok
    assert finding.hint
    assert finding.message != "none"


def test_states_that_do_not_follow_or_cannot_be_read(filled: Path) -> None:
    with duckdb.connect(str(filled)) as handle:
        handle.execute("update state set payload = payload || 'x'::blob")
    assert wrong(filled) == ["state of run r1"]
    with duckdb.connect(str(filled)) as handle:
        handle.execute("insert into state select run_id, seq + 2, false, payload from state")
    findings = {finding.name: finding.message for finding in check_store(filled).findings}
    assert findings["state of run r1"].startswith("changes are missing before transaction")
    with duckdb.connect(str(filled)) as handle:
        handle.execute("delete from state where not is_snapshot")
        handle.execute("update state set seq = 1")
    findings = {finding.name: finding.message for finding in check_store(filled).findings}
    assert "it ends at transaction 1; the ledger at" in findings["state of run r1"]


def test_a_damaged_block_is_found(filled: Path) -> None:
    data = bytearray(filled.read_bytes())
    with duckdb.connect(str(filled), read_only=True) as handle:
        (block,) = handle.execute(
            "select max(block_id) from pragma_storage_info('prompts') where persistent and column_name = 'prompt'"
        ).fetchall()[0]
    data[3 * 4096 + block * 262144 + 100] ^= 1
    filled.write_bytes(data)
    report = check_store(filled)
    assert not report.ok
    assert "cp BACKUP" in str(next(finding.hint for finding in report.findings if not finding.ok))


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound):
        check_store(tmp_path / "none.duckdb")
    path = tmp_path / "p.duckdb"
    path.write_bytes(b"nothing of the kind")
    assert wrong(path) == ["it opens"]


# ---- compact --------------------------------------------------------------------------------------------------------


def test_compacting_gives_room_back_and_changes_nothing(filled: Path) -> None:
    with open_store(filled) as store:
        rng = np.random.default_rng(0)
        size = 60_000
        texts = [rng.bytes(40).hex() for _ in range(size)]
        rows = {"prompt_id": np.full(size, 1), "sample": np.arange(size), "reward": np.ones(size), "response": texts}
        store.rollouts.add(Source("big"), pa.table(rows))
        source = store.rollouts.source_id(Source("big"))
        store.checkpoint()
        store.connection.execute("delete from rollouts where source_id = ?", [source])
        texts_before = store.texts.fetch(store.pool().ids)
    (filled.parent / "p.duckdb.texts" / "stray").write_text("x")
    before = {name: _content(filled, name) for name in schema.TABLES}
    done = compact_store(filled)
    assert done.after < 0.5 * done.before
    assert (done.after, done.rows["prompts"]) == (filled.stat().st_size, 30)
    assert {name: _content(filled, name) for name in schema.TABLES} == before
    assert wrong(filled) == []
    (segment,) = (filled.parent / "p.duckdb.texts").iterdir()
    assert segment.suffix == ".arrow"
    with open_store(filled) as store:
        assert store.texts.fetch(store.pool().ids) == texts_before
        Scheduler(store, run="r1").ask(4)
    assert not list(filled.parent.glob("*.tmp*"))


def _content(path: Path, table: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(path), read_only=True) as handle:
        return handle.execute(f"select * from {table}").fetchall()


def test_compacting_a_store_that_is_open_is_refused(store: PromptStore) -> None:
    with pytest.raises(StoreLocked, match="held by this process"):
        compact_store(store.path)
    assert len(store.prompts) == 30


def test_a_copy_that_differs_is_thrown_away(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter([{"prompts": (30, 1)}, {"prompts": (30, 2)}])
    monkeypatch.setattr(maintenance, "_digests", lambda _: next(digests))
    before = filled.read_bytes()
    with pytest.raises(StoreError, match="not the same in prompts"):
        compact_store(filled)
    assert filled.read_bytes() == before
    assert not list(filled.parent.glob("*.tmp*"))


# ---- backup ---------------------------------------------------------------------------------------------------------


def test_a_backup_while_nobody_holds_the_store(filled: Path) -> None:
    target = filled.with_name("copy.duckdb")
    done = backup_store(filled, target)
    assert (done.age, done.bytes) == (0.0, target.stat().st_size)
    assert wrong(target) == []
    assert all(_content(filled, name) == _content(target, name) for name in schema.TABLES)


def test_a_backup_in_the_process_that_holds_the_store_is_of_this_moment(store: PromptStore, tmp_path: Path) -> None:
    store.prompts.add([NewPrompt("new", False, "1", "x")])
    assert backup_store(store.path, tmp_path / "copy.duckdb").rows["prompts"] == 31
    store.prompts.add([NewPrompt("newer", False, "1", "x")])
    assert len(store.prompts) == 32


def test_a_backup_while_another_process_holds_the_store(store: PromptStore, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from curri.store.maintenance import backup_store as b\n"
        "done = b(Path(sys.argv[1]), Path(sys.argv[2])); print(done.rows['prompts'], done.age > 0)"
    )
    target = tmp_path / "copy.duckdb"
    assert "StoreLocked" in run_python(code, str(store.path), str(target)).stderr
    assert not target.exists()
    store.publish()
    store.prompts.add([NewPrompt("after", False, "1", "x")])
    assert run_python(code, str(store.path), str(target)).stdout == "30 True\n"
    assert wrong(target) == []


def test_targets_that_are_refused(filled: Path, tmp_path: Path) -> None:
    for name in ("p.duckdb", "p.duckdb.snapshot", "p.duckdb.wal"):
        with pytest.raises(InvalidInput, match="belongs to the store"):
            backup_store(filled, tmp_path / name, overwrite=True)
    with pytest.raises(InvalidInput, match="is a directory"):
        backup_store(filled, tmp_path)
    with pytest.raises(StoreNotFound, match="mkdir -p"):
        backup_store(filled, tmp_path / "no" / "copy.duckdb")
    (tmp_path / "there").write_text("precious")
    with pytest.raises(InvalidInput, match="there already"):
        backup_store(filled, tmp_path / "there")
    assert (tmp_path / "there").read_text() == "precious"
    backup_store(filled, tmp_path / "there", overwrite=True)
    assert wrong(tmp_path / "there") == []


# ---- migrate, and stores of past versions ---------------------------------------------------------------------------


def test_there_is_a_recorded_store_of_every_version() -> None:
    assert [path.name for path in RECORDED] == [f"store-v{i}.gz" for i in range(1, schema.SCHEMA_VERSION + 1)]
    assert all(path.stat().st_size < 300_000 for path in RECORDED)


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.stem)
def test_recorded_stores_open_and_go_on(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.duckdb"
    path.write_bytes(gzip.decompress(recorded.read_bytes()))
    migrate_store(path)
    assert wrong(path, everything=True) == []
    with open_store(path) as store:
        assert (len(store.prompts), len(store.rollouts), store.runs.names()) == (14, 72, ["r1"])
        texts = store.texts.fetch(np.array([1, 13]))
        assert texts[0].prompt == "0 + 0 = ?"
        assert texts[1].prompt == [{"role": "user", "content": "5 + 5 = ?"}]
        assert texts[1].metadata == {"level": 3}
        assert store.prompts.origins(np.array([14]))[0].parent_id == 2
        scheduler = Scheduler(store, run="r1")
        assert scheduler.round == 3
        selection = scheduler.ask(4)  # the open round again, without what was dropped
        assert len(selection) == 2
        assert scheduler.tell(selection.prompt_ids, [1.0, 0.0]).closed == (3,)
    assert wrong(path) == []


STEPS = {
    1: Migration("prompts have a colour", ("alter table prompts add column colour varchar",)),
    2: Migration("and they are blue", ("update prompts set colour = 'blue'",)),
}


def test_migrating(filled: Path) -> None:
    assert migrate_store(filled).backup is None
    done = migrate_store(filled, migrations=STEPS, newest=3)
    assert (done.before, done.after, done.steps) == (1, 3, ("prompts have a colour", "and they are blue"))
    assert done.backup == filled.with_name("p.duckdb.v1-1")
    assert wrong(done.backup) == []
    with duckdb.connect(str(filled)) as handle:
        assert handle.execute("select distinct colour from prompts").fetchall() == [("blue",)]
    assert not Path(f"{filled}.wal").exists()
    with pytest.raises(StoreVersion, match="schema version 3"):
        open_store(filled)


def test_a_migration_that_fails_leaves_the_store_as_it_was(filled: Path) -> None:
    steps = {1: STEPS[1], 2: Migration("wrong", ("update prompts set colour = 1 / nothing",))}
    with pytest.raises(duckdb.Error):
        migrate_store(filled, migrations=steps, newest=3)
    assert wrong(filled) == []
    assert migrate_store(filled).after == 1


def test_an_older_store_is_not_opened_but_told_how(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 2)
    with pytest.raises(StoreVersion, match=r"has schema version 1(.|\n)*curri store migrate --store"):
        open_store(filled)


def test_what_cannot_be_migrated(filled: Path, tmp_path: Path) -> None:
    with duckdb.connect(str(filled)) as handle:
        handle.execute("update meta set value = '99' where key = 'schema_version'")
    with pytest.raises(StoreVersion, match=r"knows up to(.|\n)*pip install -U curri"):
        migrate_store(filled)
    with pytest.raises(StoreNotFound):
        migrate_store(tmp_path / "none")
    with duckdb.connect(str(tmp_path / "other")) as handle:
        handle.execute("create table meta (key varchar, value varchar)")
    with pytest.raises(StoreUnreadable, match="not a curri store"):
        migrate_store(tmp_path / "other")


# ---- files ----------------------------------------------------------------------------------------------------------


def test_who_holds_a_store(store: PromptStore, tmp_path: Path) -> None:
    holder = holder_of(store.path)
    assert holder is not None
    assert (holder.pid, bool(holder.command)) == (os.getpid(), True)
    code = (
        "import sys; from pathlib import Path; from curri.store.files import holder_of\n"
        "holder = holder_of(Path(sys.argv[1])); print(holder and holder.pid)"
    )
    assert run_python(code, str(store.path)).stdout == f"{os.getpid()}\n"
    assert holder_of(tmp_path / "none") is None
    path = store.path
    store.close()
    assert holder_of(path) is None


def test_the_file_system_is_named() -> None:
    assert file_system_of(Path("/proc")) == "proc"


def test_looking_for_the_holder_does_not_release_the_lock(store: PromptStore) -> None:
    holder_of(store.path)
    backup: Callable[..., object] = backup_store
    backup(store.path, store.path.with_name("copy.duckdb"))
    check_store(store.path)
    code = "import sys, curri; curri.open_store(sys.argv[1])"
    assert "StoreLocked" in run_python(code, str(store.path)).stderr
