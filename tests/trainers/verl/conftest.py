"""A Ray cluster of this machine with a real TransferQueue. Run with `make test-verl`."""

from __future__ import annotations

import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

collect_ignore_glob = [] if find_spec("verl") else ["*.py"]  # `make test-verl` has an environment with verl
os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray writes a token into the home directory
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  Ray's own spelling; by default Ray's processes wait for everything else on the machine
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).resolve().parents[3]), os.environ.get("PYTHONPATH", "")])

if find_spec("verl"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # engines that are not installed
        import verl.trainer.ppo.v1  # noqa: F401


@pytest.fixture(scope="session")
def queue() -> Iterator[None]:
    import ray
    import transfer_queue as tq
    from omegaconf import OmegaConf

    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, configure_logging=False)
    storage = {"storage_backend": "SimpleStorage", "SimpleStorage": {"num_data_storage_units": 1}}
    tq.init(OmegaConf.create({"backend": storage}))
    yield
    tq.close()
    ray.shutdown()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.trainers.verl.tiny import write_model

    return write_model(tmp_path_factory.mktemp("model"))
