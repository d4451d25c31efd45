"""A strategy in another process: the same rounds must give the same picks there.

Run as ``python -m curri.testing.process``: reads one job as JSON from stdin, writes the result as JSON to stdout.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curri.registry import COMPOSED, strategy
from curri.state import pack, unpack
from curri.testing.case import BrokenContract, Case, expect
from curri.testing.scenario import digest, play, small_pool

if TYPE_CHECKING:
    from types import ModuleType

    from curri.curricula.base import Curriculum
    from curri.state import State

_PATIENCE = 300.0


def played_elsewhere(case: Case, rounds: int, state: State | None = None) -> tuple[list[list[int]], str]:
    """The picks of some rounds, and a hash of the state after them, from a process with another hash seed.

    Args:
        case: what to play.
        rounds: how many.
        state: where to go on from; None for the start.

    Raises:
        BrokenContract: the other process failed; its last words are in the message.
    """
    module = sys.modules[case.strategy.__module__]
    expect("<locals>" not in case.strategy.__qualname__, f"{case.strategy} must stand in a module, not in a function")
    job = {
        "module": module.__name__,
        "file": getattr(module, "__file__", None),
        "class": case.strategy.__qualname__,
        "composed": case.strategy.name if COMPOSED in case.strategy.name else None,
        "parameters": dict(case.parameters),
        "rounds": rounds,
        "state": None if state is None else base64.b64encode(pack(state)).decode(),
    }
    here = os.environ.get("PYTHONHASHSEED")
    environment = os.environ | {
        "PYTHONHASHSEED": "4321" if here == "1234" else "1234",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "curri.testing.process"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        env=environment,
        timeout=_PATIENCE,
        check=False,
    )
    if done.returncode:
        raise BrokenContract(f"the strategy failed in another process:\n{done.stderr[-2000:]}")
    result = json.loads(done.stdout)
    return result["picks"], result["digest"]


def main() -> None:
    """Play the job on stdin."""
    job = json.load(sys.stdin)
    case = Case(_strategy(job), job["parameters"])
    curriculum = case.build(small_pool())
    if job["state"] is not None:
        curriculum.load_state_dict(unpack(base64.b64decode(job["state"])))
    picks = play(curriculum, job["rounds"])
    json.dump({"picks": picks, "digest": digest(curriculum.state_dict())}, sys.stdout)


def _strategy(job: dict[str, Any]) -> type[Curriculum]:
    if job["composed"] is not None:
        return strategy(job["composed"])
    found: Any = _module(job["module"], job["file"])
    for part in job["class"].split("."):
        found = getattr(found, part)
    chosen: type[Curriculum] = found
    return chosen


def _module(name: str, file: str | None) -> ModuleType:
    """The module of that name, or, where it is no installed one (a test, a script), the one in that file."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        module = None
    if file is None or (module is not None and _same_file(module, file)):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _same_file(module: ModuleType, file: str) -> bool:
    own = getattr(module, "__file__", None)
    return own is not None and Path(own).resolve() == Path(file).resolve()


if __name__ == "__main__":
    main()
