"""Starting a script on two ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

collect_ignore = ["killed_job.py", "ranks_job.py"]  # started by tests, and only where torch is installed

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def on_two_ranks(script: str, folder: Path) -> list[dict[str, Any]]:
    """Run a script of this folder under torchrun; gives the JSON that each rank leaves in ``folder``."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    free_port = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, *free_port, str(HERE / script), str(folder)],
        capture_output=True,
        text=True,
        timeout=90,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="session")
def torchrun() -> Callable[[str, Path], list[dict[str, Any]]]:
    return on_two_ranks
