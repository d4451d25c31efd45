"""Writers of metrics, each with the library it is for, whose own reader says what arrived."""

from __future__ import annotations

import json
import math
import os
import resource
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import curri
from curri.errors import InvalidInput, MissingExtra
from curri.integrations.metrics import (
    JsonLinesWriter,
    MLflowWriter,
    TensorBoardWriter,
    TrackioWriter,
    WandbWriter,
    tensorboard,
)
from curri.store import NewPrompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from curri.scheduler import MetricsWriter

ROUNDS = 3
ARM = 'ma"th\n: ünd [x]'

# What these libraries warn of in their own code is theirs.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def play(folder: Path, writer: MetricsWriter) -> dict[str, float]:
    """Three rounds of a run; gives the last metrics."""
    with curri.open_store(folder / "p.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"{i}?", is_chat=False, answer="1", arm=(ARM, "b")[i % 2]) for i in range(20)])
        scheduler = curri.Scheduler(store, "ucb", run="r", writers=[writer])
        for _ in range(ROUNDS):
            scheduler.tell(scheduler.ask(4).prompt_ids, [1.0, 0.0, 1.0, 1.0])
        scheduler.close()
        metrics = scheduler.metrics()
    assert metrics["scheduler/metrics_failed"] == metrics["scheduler/metrics_dropped"] == 0
    return metrics


# ---- JSON Lines -----------------------------------------------------------------------------------------------------


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    last = play(tmp_path, JsonLinesWriter(path, run="r"))
    written = lines(path)
    assert [line["step"] for line in written] == [1, 2, 3]
    assert {name: written[-1][name] for name in last} == last
    assert set(written[-1]) - set(last) == {"time", "run", "step"}


def test_numbers_that_json_does_not_have_are_null(tmp_path: Path) -> None:
    JsonLinesWriter(tmp_path / "m.jsonl").write({"a": math.nan, "b": -math.inf, "c": 1}, 1)
    (line,) = lines(tmp_path / "m.jsonl")
    assert (line["a"], line["b"], line["c"]) == (None, None, 1.0)


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"ste', encoding="utf-8")
    writer = JsonLinesWriter(path)
    writer.write({}, 3)
    writer.write({}, 4)
    whole, torn, *rest = path.read_text(encoding="utf-8").splitlines()
    assert (whole, torn, [json.loads(line)["step"] for line in rest]) == ('{"step": 1}', '{"ste', [3, 4])


def test_a_full_disk_leaves_whole_lines_and_the_next_step_is_written(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    writer = JsonLinesWriter(path)
    writer.write({"a": 1.0}, 1)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            writer.write({"a": 2.0}, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    writer.write({"a": 3.0}, 3)
    assert [line["step"] for line in lines(path)] == [1, 3]


@pytest.mark.parametrize("where", ["no/folder/m.jsonl", "."])
def test_a_file_that_cannot_be_opened_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="metrics cannot be written to"):
        JsonLinesWriter(where)


# ---- TensorBoard ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["tensorboardX", "torch.utils.tensorboard"])
def test_tensorboard_reads_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip(by)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(tensorboard, "_has_only_torch", lambda: by != "tensorboardX")
    last = play(tmp_path, TensorBoardWriter(tmp_path / "logs"))
    read = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert len(read.Tags()["scalars"]) == len(last)
    for name in ("scheduler/prompts_trained", "curriculum/ucb/weight/b"):
        events = read.Scalars(name)
        assert [event.step for event in events] == [1, 2, 3]
        assert events[-1].value == pytest.approx(last[name])


# ---- wandb and trackio ----------------------------------------------------------------------------------------------


@pytest.fixture
def wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name, value in {"MODE": "offline", "SILENT": "true", "DIR": tmp_path, "CACHE_DIR": tmp_path / "cache",
                        "CONFIG_DIR": tmp_path / "config", "DATA_DIR": tmp_path / "data",
                        "ERROR_REPORTING": "false"}.items():  # fmt: skip
        monkeypatch.setenv(f"WANDB_{name}", str(value))


def history(folder: Path) -> list[dict[str, float]]:
    """The rows of the one offline run in a folder."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # waits for the process that writes the file
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    rows = []
    for data in logged(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


def logged(content: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format: 7 bytes of header each, in blocks of 32 KiB; wandb's own come first."""
    place, parts = 7, b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        size, kind = struct.unpack_from("<HB", content, place + 4)
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


@pytest.mark.usefixtures("wandb_offline")
def test_a_run_of_wandb(tmp_path: Path) -> None:
    last = play(tmp_path, WandbWriter(project="p", name="r", dir=str(tmp_path)))
    rows = history(tmp_path)
    assert [(row["_step"], row["scheduler/round"]) for row in rows] == [(1, 1), (2, 2), (3, 3)]
    assert {name: rows[-1][name] for name in last} == last


@pytest.mark.usefixtures("wandb_offline")
def test_the_run_of_a_trainer_keeps_its_own_steps(tmp_path: Path) -> None:
    import wandb

    run = wandb.init(project="p", dir=str(tmp_path))
    run.log({"loss": 0.5}, step=7)
    last = play(tmp_path, WandbWriter(run=run))
    run.log({"loss": 0.25}, step=7)
    run.log({"loss": 0.125}, step=8)
    run.finish()
    rows = history(tmp_path)
    assert [(row["_step"], row["loss"]) for row in rows] == [(7, 0.25), (8, 0.125)]
    assert {name: rows[0][name] for name in last} == last


def test_a_run_of_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    program = """
import sys
sys.path.insert(0, "TESTS")
from pathlib import Path
from test_metrics_writers import TrackioWriter, play
import json
print("LAST", json.dumps(play(Path("."), TrackioWriter(project="p", name="r"))))
from trackio.sqlite_storage import SQLiteStorage
print("LOGS", json.dumps(SQLiteStorage.get_logs("p", "r"), default=str))
""".replace("TESTS", os.path.dirname(__file__))  # noqa: PTH120
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=False, env=environment, capture_output=True, text=True
    )
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line[:5] in ("LAST ", "LOGS "))
    assert set(found) == {"LAST", "LOGS"}, done.stdout + done.stderr
    last, logs = json.loads(found["LAST"]), json.loads(found["LOGS"])
    assert [row["step"] for row in logs] == [1, 2, 3]
    assert {name: logs[-1][name] for name in last} == last


# ---- MLflow ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["own", "trainer's"])
def test_a_run_of_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    client = mlflow.MlflowClient(tracking_uri=uri)
    if whose == "own":
        last = play(tmp_path, MLflowWriter(tracking_uri=uri, experiment="e", name="r"))
        experiment = client.get_experiment_by_name("e")
    else:
        run_id = client.create_run("0").info.run_id
        last = play(tmp_path, MLflowWriter(tracking_uri=uri, run_id=run_id))
        experiment = client.get_experiment("0")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == ("FINISHED" if whose == "own" else "RUNNING")
    assert len(run.data.metrics) == len(last)
    name = "curriculum/ucb/weight/b"
    assert [entry.step for entry in client.get_metric_history(run.info.run_id, name)] == [1, 2, 3]
    assert run.data.metrics[name] == pytest.approx(last[name])


def test_a_server_that_is_away_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    writer = MLflowWriter(tracking_uri="http://127.0.0.1:9")
    with curri.open_store(tmp_path / "p.duckdb", create=True) as store:
        store.prompts.add([NewPrompt("1?", is_chat=False, answer="1", arm="a")])
        scheduler = curri.Scheduler(store, "ucb", run="r", writers=[writer])
        scheduler.tell(scheduler.ask(1).prompt_ids, [1.0])
        scheduler.close()
        assert scheduler.metrics()["scheduler/metrics_failed"] == 1
        assert len(store.rollouts) == 1


# ---- without their libraries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "module", "extra"),
    [
        (WandbWriter, "wandb", "wandb"),
        (TrackioWriter, "trackio", "trackio"),
        (MLflowWriter, "mlflow", "mlflow"),
        (lambda: TensorBoardWriter("logs"), "tensorboardX", "tensorboard"),
    ],
)
def test_a_missing_library_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], object], module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(tensorboard, "_has_only_torch", lambda: False)
    with pytest.raises(MissingExtra, match=f"writing metrics needs {module}, which is not installed") as caught:
        make()
    assert caught.value.hint == f"pip install 'curri[{extra}]'"
