"""A Ray cluster of this machine, and a store with prompts."""

from __future__ import annotations

import contextlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import curri
from curri.store import NewPrompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

collect_ignore_glob = [] if find_spec("ray") else ["*.py"]  # `make test-ray` has an environment with Ray
os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray writes a token into the home directory
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    import ray

    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with 600 sums in two arms."""
    file = tmp_path / "sums.duckdb"
    with curri.open_store(file, create=True) as store:
        store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), "ab"[i % 2]) for i in range(600)])
    return file


@pytest.fixture
def start(cluster: None, path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Starts the actor of a test; it is ended with the test."""
    import ray

    from curri.integrations.ray import SchedulerActor

    def begin(strategy: str | None = "uniform", **settings: Any) -> SchedulerActor:
        return SchedulerActor(path, strategy, **{"run": "r", "name": request.node.name, "group_size": 4, **settings})

    yield begin
    with contextlib.suppress(ValueError):  # the test ended it
        ray.kill(ray.get_actor(request.node.name, namespace="curri"))
