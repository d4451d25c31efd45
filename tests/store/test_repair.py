"""Logs that were really damaged: a writer is killed, then bytes of its log are cut, flipped, zeroed or overwritten."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pytest

from curri.errors import StoreError, StoreLocked, StoreNotFound, StoreUnreadable
from curri.scheduler import Scheduler
from curri.store import open_store
from curri.store import repair as repair_module
from curri.store.check import check_store
from curri.store.repair import repair_store
from curri.store.wal import COMMIT, Log, checksum, log_path, read_log

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import json, os, signal, sys
import numpy as np
from curri.scheduler import Scheduler
from curri.store import NewPrompt, open_store

path = sys.argv[1]
with open_store(path, create=True) as store:
    store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), f"arm{i % 3}") for i in range(60)])
store = open_store(path)
scheduler = Scheduler(store, "ucb", run="r1", seed=0)
def committed(seq):
    print(json.dumps([os.path.getsize(path + ".wal"), len(store.rollouts), seq]), flush=True)
committed(0)
for number in range(4):
    selection = scheduler.ask(4)
    committed(2 * number + 1)
    ids = np.repeat(selection.prompt_ids, 2)
    scheduler.tell(ids, [float(i % 2) for i in range(ids.size)], responses=["text"] * ids.size)
    committed(2 * number + 2)
    if number == 2 and len(sys.argv) > 2:
        store.publish()
os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass(frozen=True)
class Killed:
    """What a killed writer left, and for each of its commits: size of the log, rollouts, number of the transaction."""

    data: bytes
    log: bytes
    commits: list[tuple[int, int, int]]

    def before(self, byte: int) -> tuple[int, int, int]:
        """The last commit that is whole before a byte of the log."""
        return next((commit for commit in reversed(self.commits) if commit[0] <= byte), (0, 0, -1))

    def put(self, folder: Path, log: bytes) -> Path:
        path = folder / "p.duckdb"
        path.write_bytes(self.data)
        log_path(path).write_bytes(log)
        return path


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    path = tmp_path_factory.mktemp("killed") / "p.duckdb"
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == -9, done.stderr
    commits = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    return Killed(path.read_bytes(), log_path(path).read_bytes(), commits)


def flipped(log: bytes, byte: int, bit: int = 0) -> bytes:
    damaged = bytearray(log)
    damaged[byte] ^= 1 << bit
    return bytes(damaged)


def zeroed(log: bytes, byte: int) -> bytes:
    return log[:byte] + bytes(len(log) - byte)


def read(folder: Path, log: bytes, *, verify: bool = True) -> Log:
    path = folder / "log"
    path.write_bytes(log)
    return read_log(path, verify=verify)


def some(places: range, number: int) -> list[int]:
    """That many of the places, others each time."""
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    print("seed", seed)  # noqa: T201  shown where a test fails
    return [int(place) for place in np.random.default_rng(seed).choice(places, number, replace=False)]


def body(killed: Killed, folder: Path) -> int:
    return read(folder, killed.log).body


def test_a_log_is_read_as_far_as_it_was_committed(killed: Killed, tmp_path: Path) -> None:
    log = read(tmp_path, killed.log)
    assert (log.good, log.transactions, log.trouble, log.lost) == (len(killed.log), len(killed.commits), None, 0)
    assert read_log(tmp_path / "none").is_sound
    assert checksum(COMMIT[16:]) == int.from_bytes(COMMIT[8:16], "little")


def test_a_log_cut_anywhere_ends_at_the_commit_before(killed: Killed, tmp_path: Path) -> None:
    start = body(killed, tmp_path)
    for byte in some(range(start, len(killed.log)), 150):
        log = read(tmp_path, killed.log[:byte])
        assert log.good == max(killed.before(byte)[0], start), byte
        assert (log.is_sound, log.lost) == (True, 0), byte


def test_every_flipped_bit_is_found(killed: Killed, tmp_path: Path) -> None:
    start = body(killed, tmp_path)
    for byte in some(range(start, len(killed.log)), 400):
        log = read(tmp_path, flipped(killed.log, byte, byte % 8))
        assert not log.is_sound, byte
        assert log.good == max(killed.before(byte)[0], start), byte
        assert log.lost >= len([commit for commit in killed.commits if commit[0] > byte]) - 1, byte


def test_zeros_at_the_end_are_found(killed: Killed, tmp_path: Path) -> None:
    start = body(killed, tmp_path)
    for byte in some(range(start, len(killed.log) - 8), 150):
        log = read(tmp_path, zeroed(killed.log, byte))
        assert (log.is_sound, log.lost) == (False, 0), byte
        assert log.good == max(killed.before(byte)[0], start), byte


def test_damage_that_duckdb_would_not_notice_is_refused(killed: Killed, tmp_path: Path) -> None:
    """A length with a high bit flipped looks like the end of a log: DuckDB drops all that follows, without a word."""
    second = killed.commits[1][0]
    path = killed.put(tmp_path, flipped(killed.log, second + 5))
    for read_only in (False, True):
        with pytest.raises(StoreUnreadable, match=f"damaged at byte {second}; (.|\\n)*curri store repair --store"):
            open_store(path, read_only=read_only)
    with duckdb.connect(str(path), read_only=True) as handle:  # this is what would have happened
        assert handle.execute("select count(*) from rollouts").fetchall() == [(killed.commits[1][1],)]


DAMAGES: dict[str, Callable[[Killed], tuple[bytes, int]]] = {
    "flipped": lambda killed: (flipped(killed.log, killed.commits[4][0] + 300), killed.commits[4][0]),
    "in a length": lambda killed: (flipped(killed.log, killed.commits[4][0] + 5), killed.commits[4][0]),
    "in the mark of a commit": lambda killed: (flipped(killed.log, killed.commits[5][0] - 3), killed.commits[4][0]),
    "overwritten": lambda killed: (
        killed.log[: killed.commits[4][0] + 50] + b"\xa5" * 700 + killed.log[killed.commits[4][0] + 750 :],
        killed.commits[4][0],
    ),
    "zeros": lambda killed: (zeroed(killed.log, killed.commits[4][0] + 100), killed.commits[4][0]),
    "all zeros": lambda killed: (bytes(len(killed.log)), 0),
    "header": lambda killed: (flipped(killed.log, 2), len(killed.log)),
    "identity": lambda killed: (flipped(killed.log, 9, bit=1), len(killed.log)),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_a_damaged_store_is_mended_up_to_the_damage(killed: Killed, tmp_path: Path, damage: str) -> None:
    log, good = DAMAGES[damage](killed)
    path = killed.put(tmp_path, log)
    _, rollouts, seq = killed.before(good)
    done = repair_store(path)
    assert (done.outcome, done.transactions) == ("cut" if good else "set aside", seq + 1)
    assert done.kept is not None
    assert (done.kept / path.name).read_bytes() == killed.data
    assert (done.kept / log_path(path).name).read_bytes() == log
    assert sorted(file.name for file in tmp_path.iterdir()) == ["p.duckdb", "p.duckdb.damaged-1"]
    report = check_store(path)
    assert report.ok, [finding for finding in report.findings if not finding.ok]
    with open_store(path) as store:
        assert len(store.rollouts) == rollouts
        assert store.runs.names() == (["r1"] if seq >= 0 else [])
        scheduler = Scheduler(store, "ucb", run="r1", seed=0)  # and the run goes on
        scheduler.tell(scheduler.ask(4).prompt_ids, [1.0] * 4)
    assert repair_store(path).outcome == "healthy"


def test_what_was_lost_is_said_and_can_be_recorded_again(killed: Killed, tmp_path: Path) -> None:
    kept = killed.commits[4]  # up to the answers of round 1
    path = killed.put(tmp_path, flipped(killed.log, kept[0] + 300))
    done = repair_store(path)
    assert (done.lost_transactions, done.lost["unreadable"]) == (4, 1)
    assert done.lost["runs"] == {
        "r1": {
            "last": 4,
            "transactions": [6, 8],
            "rounds": [2, 3],
            "events": ["issued", "trained"],
            "rows": 12,
            "rollouts": 16,
        }
    }
    (part,) = done.lost["rollouts"]
    assert (part["run"], part["rollouts"]) == ("r1", 16)
    rows = [json.loads(line) for line in Path(part["file"]).read_text().splitlines()]
    assert len(rows) == 16
    assert {row["response"] for row in rows} == {"text"}
    assert len({(row["prompt_id"], row["rollout_id"]) for row in rows}) == 16
    json.dumps(done.document())
    killed.put(tmp_path, zeroed(killed.log, kept[0] + 300))
    again = repair_store(path)
    assert done.kept is not None
    assert again.kept is not None
    assert (done.kept.name, again.kept.name) == ("p.duckdb.damaged-1", "p.duckdb.damaged-2")
    assert (again.lost, again.lost_transactions) == ({"unreadable": 0}, 0)


def test_nothing_is_done_to_a_store_that_is_well(killed: Killed, tmp_path: Path) -> None:
    path = killed.put(tmp_path, killed.log[: killed.commits[3][0] + 40])  # killed in the middle of a write
    done = repair_store(path)
    assert (done.outcome, done.kept, done.transactions) == ("healthy", None, 4)
    assert "never committed" in done.problem
    assert path.read_bytes() == killed.data
    assert log_path(path).stat().st_size == killed.commits[3][0] + 40


def test_the_copy_a_run_published_shows_that_the_end_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "p.duckdb"
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), "publish"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    commits = [json.loads(line) for line in done.stdout.splitlines()]
    assert check_store(path).ok
    log = log_path(path)
    log.write_bytes(log.read_bytes()[: commits[4][0]])  # a clean cut leaves no trace in the log itself
    (wrong,) = [finding for finding in check_store(path).findings if not finding.ok]
    assert wrong.name == "the published copy"
    assert wrong.hint is not None
    assert f"cp {path}.snapshot {path}" in wrong.hint
    assert repair_store(path).newer_copy == Path(f"{path}.snapshot")


def test_a_damaged_file_is_not_taken_for_a_damaged_log(killed: Killed, tmp_path: Path) -> None:
    path = tmp_path / "p.duckdb"
    for log in (None, killed.log):
        path.write_bytes(b"\xa5" * 5000 + killed.data[5000:])
        if log is not None:
            log_path(path).write_bytes(flipped(log, 500))
        before = path.read_bytes()
        with pytest.raises(StoreUnreadable, match="itself is damaged, not its write-ahead log"):
            repair_store(path)
        assert path.read_bytes() == before
        assert not list(tmp_path.glob("*damaged*"))
        assert not list(tmp_path.glob("*.tmp*"))


def test_a_store_that_is_held_is_left_alone(killed: Killed, tmp_path: Path) -> None:
    path = killed.put(tmp_path, killed.log)
    with open_store(path) as store:
        with pytest.raises(StoreLocked, match="held by this process"):
            repair_store(path)
        code = "import sys; from pathlib import Path; from curri.store.repair import *; repair_store(Path(sys.argv[1]))"
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert "StoreLocked" in done.stderr
        assert len(store.rollouts) == killed.commits[-1][1]


def test_a_full_disk_is_noticed_before_anything_is_done(
    killed: Killed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = killed.put(tmp_path, flipped(killed.log, 500))
    monkeypatch.setattr("curri.store.files.free_bytes", lambda _: 1000)
    with pytest.raises(StoreError, match="0 MB are free"):
        repair_store(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["p.duckdb", "p.duckdb.wal"]


def test_a_failure_half_way_leaves_the_store_as_it_was(
    killed: Killed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = flipped(killed.log, 500)
    path = killed.put(tmp_path, log)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(repair_module._Repair, "_finish", fail)
    with pytest.raises(OSError, match="No space left"):
        repair_store(path)
    assert (path.read_bytes(), log_path(path).read_bytes()) == (killed.data, log)
    assert not list(tmp_path.glob("*.tmp*"))


def test_missing_stores(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound):
        repair_store(tmp_path / "none.duckdb")
