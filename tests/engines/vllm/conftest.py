"""A model taught on the spot, a server for it, and the command ``curri``; everything runs on the CPU and offline."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import curri
from curri.store import NewPrompt

if TYPE_CHECKING:
    from collections.abc import Iterator

collect_ignore_glob = [] if find_spec("vllm") else ["*.py"]  # `make test-vllm` has an environment with vLLM
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # starts in 3 s and not in 25
}

NAME = "tiny"
LENGTH = 128
"""Tokens of a prompt and its response at most."""

_PATIENCE = 400.0
_COUNTED = Path(__file__).parent / "counted.py"
_SETTINGS = {"dtype": "float32", "enforce_eager": "true", "max_model_len": LENGTH}
_OPTIONS = [word for name, value in _SETTINGS.items() for word in ("--engine-option", f"{name}={value}")]

FIGURES: list[str] = []
"""What is told at the end."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for figure in FIGURES:
        terminalreporter.write_line(figure)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that can add, more or less, and make sums out of sums."""
    from tests.engines.vllm import tiny

    folder = tmp_path_factory.mktemp("model") / NAME
    start = time.monotonic()
    tiny.save(folder)
    seconds = time.monotonic() - start
    FIGURES.append(f"taught a model to add, and to rewrite sums, in {seconds:.0f} s")
    return folder


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a LoRA adapter for it."""
    from tests.engines.vllm import tiny

    folder = tmp_path_factory.mktemp("adapters") / "other"
    tiny.save_adapter(folder)
    return folder


@dataclass
class Served:
    """A server of vLLM for the model.

    Attributes:
        root: its address.
    """

    root: str

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"{self.root}/v1"

    def count(self, metric: str, label: str = "") -> int:
        """What one of its counters says, summed over those that have a label."""
        import httpx2

        lines = httpx2.get(f"{self.root}/metrics", timeout=30).text.splitlines()
        return int(sum(float(line.split()[-1]) for line in lines if line.startswith(f"{metric}{{") and label in line))

    def finished(self) -> int:
        """Responses that it has given from beginning to end."""
        return sum(self.count("vllm:request_success_total", f'finished_reason="{why}"') for why in ("stop", "length"))

    def settle(self) -> None:
        """Wait until it has dropped the requests of a client that is gone."""
        end = time.monotonic() + _PATIENCE
        while self.count("vllm:num_requests_running") + self.count("vllm:num_requests_waiting"):
            assert time.monotonic() < end, "the server goes on with what nobody waits for"


@pytest.fixture(scope="session")
def served(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server, ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    words = ["--model", str(model), "--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port)]
    words += ["--dtype", "float32", "--enforce-eager", "--max-model-len", str(LENGTH)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words], stdout=out, stderr=subprocess.STDOUT
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield Served(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait(60)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    import httpx2

    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            httpx2.get(url, timeout=5).raise_for_status()
        except httpx2.HTTPError:
            if ended(process, within=0.5):
                break
        else:
            return
    pytest.fail(f"no server:\n{log.read_text(errors='replace')[-4000:]}")


def ended(process: subprocess.Popen[Any], *, within: float) -> bool:
    """Whether a process has ended, or does so within some seconds."""
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        return False
    return True


class Workshop:
    """A process that runs one command after the other and keeps the models that they load."""

    def __init__(self) -> None:
        self._process = start([sys.executable, str(_COUNTED)], stdin=subprocess.PIPE)

    def told(self, command: list[str], code: int = 0) -> Any:
        """What a command of ``Place.in_process`` or ``Place.evolve_in_process`` prints, as JSON."""
        _, program, *words = command
        assert program == str(_COUNTED)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        impatience = threading.Timer(_PATIENCE, self._process.kill)
        impatience.start()
        try:
            print(json.dumps(words), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        finally:
            impatience.cancel()
        assert answer, f"the process ended, or took more than {_PATIENCE} s"
        exit_code, output = json.loads(answer)
        assert exit_code == code, f"exit code {exit_code}: {output[-2000:]}"
        return json.loads(output)

    def close(self) -> None:
        """Have it end."""
        self._process.communicate(timeout=60)


@pytest.fixture(scope="session")
def workshop() -> Iterator[Workshop]:
    """The process, which loads the model once."""
    opened = Workshop()
    yield opened
    opened.close()


@dataclass
class Place:
    """A store, and a way to have responses generated into it.

    Attributes:
        store: its file.
        model: the model's folder.
    """

    store: Path
    model: Path

    @property
    def log(self) -> Path:
        """What vLLM in this process was asked for, call by call."""
        return self.store.with_suffix(".log")

    def asked(self) -> int:
        """Responses that vLLM in this process was asked for, in all."""
        return sum(map(int, self.log.read_text().split())) if self.log.exists() else 0

    def in_process(self, *words: str) -> list[str]:
        """The command that generates with vLLM in its own process."""
        engine = ["--engine", "vllm", "--model", str(self.model), "--name", NAME]
        return self._generate(self._counted, *engine, *_OPTIONS, *words)

    def over_http(self, served: Served, *words: str) -> list[str]:
        """The command that has the server generate."""
        engine = ["--engine", "openai", "--url", served.url, "--model", NAME]
        return self._generate(["-m", "curri.cli"], *engine, *words)

    def evolve_in_process(self, *words: str) -> list[str]:
        """The command that has vLLM in its own process rewrite prompts."""
        made = ["evolve", "--creator", "vllm", "--model", str(self.model), "--api", "completions", *_OPTIONS]
        return [sys.executable, *self._counted, *made, *words, "--store", str(self.store), "--json"]

    def evolve_over_http(self, served: Served, *words: str) -> list[str]:
        """The command that has the server rewrite prompts."""
        made = ["evolve", "--creator", "openai", "--model", NAME, "--url", served.url]
        return [sys.executable, "-m", "curri.cli", *made, *words, "--store", str(self.store), "--json"]

    @property
    def _counted(self) -> list[str]:
        return [str(_COUNTED), str(self.log)]

    def _generate(self, program: list[str], *words: str) -> list[str]:
        fixed = ["--verifier", "exact", "--max-tokens", "4", "--store", str(self.store), "--json"]
        return [sys.executable, *program, "rollouts", "generate", *fixed, *words]

    def curri(self, *words: str) -> Any:
        """What another command prints, as JSON."""
        return told([sys.executable, "-m", "curri.cli", *words, "--store", str(self.store), "--json"])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the store."""
        with curri.open_store(self.store) as store:
            return [tuple(row) for row in store.connection.rows(query)]

    def stored(self) -> int:
        """How many responses are there."""
        return int(self.rows("select count(*) from rollouts")[0][0])


def start(command: list[str], **how: Any) -> subprocess.Popen[str]:
    """A command as a process of its own."""
    paths = {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    return subprocess.Popen(
        command, env=os.environ | paths, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **how
    )


def told(command: list[str], code: int = 0) -> Any:
    """What a command prints, as JSON."""
    with start(command) as process:
        output, _ = process.communicate(timeout=_PATIENCE)
    assert process.returncode == code, f"exit code {process.returncode}: {output[-2000:]}"
    return json.loads(output)


@pytest.fixture(scope="module")
def place(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store with the sums that the model was taught."""
    path = tmp_path_factory.mktemp("store") / "sums.duckdb"
    store_sums(path)
    return Place(path, model)


def store_sums(path: Path, below: int = 15) -> None:
    """Make a store with what the model was taught, or the sums of smaller numbers among it."""
    from tests.engines.vllm.tiny import SUMS

    sums = [(a, b) for a, b in SUMS if max(a, b) < below]
    with curri.open_store(path, create=True) as store:
        store.prompts.add([NewPrompt(f"{a}+{b}=", False, str(a + b), _arm(a, b)) for a, b in sums])


def _arm(a: int, b: int) -> str:
    return "carry" if a % 10 + b % 10 > 9 else "plain"
