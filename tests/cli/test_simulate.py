"""``curri simulate --replay`` from a store and from files."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Curri = Callable[..., Result]
    Answer = Callable[..., dict[str, Any]]

FAST = ("--steps", "12", "--batch", "4", "--seeds", "2", "--jobs", "1", "-s", "uniform,ucb")


def counts(path: Path, *, prompts: int = 40, visits: int = 8) -> Path:
    rng = np.random.default_rng(1)
    rates = rng.beta(0.5, 0.7, prompts)
    with gzip.open(path, "wt", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["prompt_index", "visits", "successes_of_8_per_visit"])
        for i, rate in enumerate(rates):
            rows.writerow([i, visits, " ".join(map(str, rng.binomial(8, rate, visits)))])
    with path.with_name("prior.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["prompt_index", "mean_failures_of_128_other"])
        rows.writerows([i, round(128 * (1 - rate), 3)] for i, rate in enumerate(rates[:30]))
    return path


@pytest.fixture
def curves(tmp_path: Path) -> str:
    return str(counts(tmp_path / "counts.csv.gz"))


@pytest.fixture
def recorded(curri: Curri, filled: Path) -> Path:
    """A store with five policy versions of one model's rollouts, and one prompt that was met twice."""
    rng = np.random.default_rng(2)
    with (filled / "rollouts.jsonl").open("w") as stream:
        for version in range(5):
            for i in range(12):
                if i == 11 and version > 1:
                    continue
                rewards = (rng.random(4) < (0.1 + 0.07 * i)).astype(int).tolist()
                row = {"id": f"p{i}", "model": "m", "rewards": rewards, "policy_version": 10 * version}
                stream.write(json.dumps(row) + "\n")
    curri("rollouts", "import", "rollouts.jsonl")
    return filled


def test_a_file_is_replayed_and_shown_as_a_table(curri: Curri, curves: str) -> None:
    done = curri("simulate", "--replay", "--curves", curves, *FAST)
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["strategy", "live"]
    assert {line.split()[0] for line in lines[2:4]} == {"uniform", "ucb"}
    assert "bound with full knowledge" in done.stdout
    assert "40 prompts with 320 recorded visits" in done.stderr


def test_json_is_one_document_with_every_run(answer: Answer, curves: str, tmp_path: Path) -> None:
    prior = str(tmp_path / "prior.csv")
    found = answer("simulate", "--replay", "--curves", curves, "--prior", prior, *FAST[:-1], "mopps,uniform,pcl")
    assert {row["label"] for row in found["strategies"]} == {"mopps", "mopps + prior", "uniform"}
    assert found["data"]["with_prior"] == 30
    assert found["data"]["arms"] == 6
    assert found["settings"]["steps"] == 12
    assert list(found["left_out"]) == ["pcl"]
    assert found["output"] is None
    assert all(len(row["runs"]) == 2 for row in found["strategies"])


def test_a_store_is_replayed_by_policy_version(answer: Answer, recorded: Path) -> None:
    found = answer("simulate", "--replay", *FAST)
    data = found["data"]
    assert (data["prompts"], data["left_out"], data["visits"], data["by"]) == (11, 1, 55, "policy version")
    assert data["source"] == "m in curri.duckdb"
    assert data["arms"] == 2
    assert found["settings"]["group_size"] == 4
    every = answer("simulate", "--replay", "--least-visits", "1", *FAST)
    assert (every["data"]["prompts"], every["data"]["left_out"]) == (12, 0)


def test_a_run_is_replayed_by_its_rounds(curri: Curri, answer: Answer, filled: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(3):
        curri("select", "-s", "uniform", "--run", "r", "-n", "12", "--param", "group_size=4", "-o", "b.jsonl")
        batch = [json.loads(line) for line in (filled / "b.jsonl").read_text().splitlines()]
        with (filled / "a.jsonl").open("w") as stream:
            for row in batch:
                rewards = rng.integers(0, 2, 4).tolist()
                stream.write(json.dumps({"prompt_id": row["prompt_id"], "rewards": rewards}) + "\n")
        curri("record", "a.jsonl", "--run", "r")
    found = answer("simulate", "--replay", "--run", "r", *FAST)
    assert (found["data"]["prompts"], found["data"]["visits"], found["data"]["by"]) == (12, 36, "round")
    assert found["data"]["source"] == "run:r in curri.duckdb"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--curves", "CURVES", "-s", "ucbb"], 1, 'did you mean "ucb"'),
        (["--curves", "CURVES", "--window", "4"], 2, "--window must be odd"),
        (["--curves", "CURVES", "--batch", "41"], 1, "a batch of 41 distinct prompts"),
        (["--curves", "nowhere.csv"], 1, "cannot read nowhere.csv"),
        (["--curves", "CURVES", "--least-visits", "9"], 1, "9 or more visits"),
        (["--curves", "CURVES", "--model", "m"], 2, "from a store"),
        (["--prior", "p.csv"], 2, "--prior goes with --curves"),
        (["--curves", "CURVES", "-p", "temperature=1"], 2, "STRATEGY.NAME=VALUE"),
        (["--curves", "CURVES", "-s", "uniform", "-p", "ucb.temperature=1"], 2, "is not among the strategies"),
        (["--curves", "CURVES", "-p", "ucb.temprature=1"], 1, "temperature"),
        (["--curves", "CURVES", "-p", "ucb.temperature=-1"], 1, "(0, inf)"),
        (["--curves", "CURVES", "--format", "pdf", "-o", "x"], 2, "--format must be"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(curri: Curri, curves: str, words: list[str], code: int, said: str) -> None:
    done = curri("simulate", "--replay", *(curves if word == "CURVES" else word for word in words), code=code)
    assert said in done.output


def test_a_store_without_a_course_of_time_is_refused(curri: Curri, filled: Path) -> None:
    curri("simulate", "--replay", code=1)
    (filled / "r.jsonl").write_text(json.dumps({"id": "p1", "model": "m", "rewards": [0, 1]}) + "\n")
    curri("rollouts", "import", "r.jsonl")
    done = curri("simulate", "--replay", code=1)
    assert "all of one moment" in done.output
    assert "policy_version" in done.output


def test_parameters_of_a_strategy_are_taken(answer: Answer, curves: str) -> None:
    words = ("simulate", "--replay", "--curves", curves, *FAST)
    hot = answer(*words, "-p", "ucb.temperature=100", "-p", "ucb.window=5")
    assert hot["settings"]["parameters"] == {"ucb": {"temperature": 100.0, "window": 5}}


def test_the_report_is_written_with_its_figures(curri: Curri, curves: str, tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="needs curri[report]")
    pytest.importorskip("plotly", reason="needs curri[report]")
    curri("simulate", "--replay", "--curves", curves, *FAST, "-o", "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "Live share over the steps" in page
    assert "Groups with signal against coverage" in page


def test_the_report_is_text_or_json_by_its_ending(curri: Curri, curves: str, tmp_path: Path) -> None:
    curri("simulate", "--replay", "--curves", curves, *FAST, "-o", "r.md")
    assert "| uniform |" in (tmp_path / "r.md").read_text()
    curri("simulate", "--replay", "--curves", curves, *FAST, "-o", "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["format"] == "curri replay report 1"


def test_ctrl_c_ends_it_and_its_processes(program: Callable[..., subprocess.Popen[bytes]], curves: str) -> None:
    words = (
        "simulate",
        "--replay",
        "--curves",
        curves,
        "--batch",
        "4",
        "-s",
        "frontier",
        "--jobs",
        "2",
        "--steps",
        "9000",
    )
    process = program(*words, start_new_session=True)
    children = _children(process.pid, 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"Traceback" not in said
    _wait_until(lambda: not any(_runs(child) for child in children))


def test_processes_end_with_the_program(program: Callable[..., subprocess.Popen[bytes]], curves: str) -> None:
    words = (
        "simulate",
        "--replay",
        "--curves",
        curves,
        "--batch",
        "4",
        "-s",
        "frontier",
        "--jobs",
        "2",
        "--steps",
        "9000",
    )
    process = program(*words)
    children = _children(process.pid, 2)
    process.kill()
    process.communicate(timeout=20)
    _wait_until(lambda: not any(_runs(child) for child in children))


def _children(pid: int, least: int) -> list[int]:
    """The processes that a program started, once there are so many."""
    found: list[int] = []

    def there() -> bool:
        listed = subprocess.run(
            ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
        )
        found[:] = [int(line.split()[0]) for line in listed.stdout.splitlines() if "spawn_main" in line]
        return len(found) >= least

    _wait_until(there)
    return found


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.strip().startswith("Z")


def _wait_until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end


# ---- the learner that reacts ---------------------------------------------------------------------------------------

SMALL = ("--prompts", "60", "--steps", "10", "--batch", "5", "--seeds", "2", "--jobs", "1")


def test_strategies_are_compared_on_a_learner(curri: Curri, answer: Answer) -> None:
    done = curri("simulate", "-s", "ucb,mopps", *SMALL)
    assert {line.split()[0] for line in done.stdout.splitlines()[2:]} == {"uniform", "ucb", "mopps"}
    assert "no evidence about language models" in done.stderr
    found = answer("simulate", "-s", "mopps", "-p", "mopps.discount=0.9", *SMALL)
    assert found["settings"]["parameters"] == {"mopps": {"discount": 0.9}}
    assert found["settings"]["prompts"] == 60


def test_its_report_has_the_figure(curri: Curri, tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="needs curri[report]")
    pytest.importorskip("plotly", reason="needs curri[report]")
    curri("simulate", "-s", "ucb", *SMALL, "-o", "r.html")
    assert "What is learned against generated rollouts" in (tmp_path / "r.html").read_text()


def test_nothing_named_is_wrong_usage(curri: Curri, curves: str) -> None:
    assert "--strategy" in curri("simulate", code=2).output
    assert "--replay" in curri("simulate", "-s", "ucb", "--curves", curves, code=2).output


def test_the_fit_is_shown(curri: Curri, monkeypatch: pytest.MonkeyPatch) -> None:
    from curri.simulation import comparison

    short = comparison.fit_document(seeds=1, prompts=200, steps=20)
    monkeypatch.setattr(comparison, "fit_document", lambda: short)
    done = curri("simulate", "--show-fit")
    assert "drift of a pass rate in a visit" in done.stdout
    assert "mean |advantage|, 3 middle, last visits" in done.stdout
