"""Records a store of the present schema version: ``python tests/assets/make_store.py``, with duckdb 1.5.

Stores of past versions are kept as they were written then; this script is run once for each new version, never again.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from curri.scheduler import Scheduler
from curri.store import NewPrompt, Source, open_store
from curri.store.schema import SCHEMA_VERSION


def main() -> None:
    target = Path(__file__).with_name(f"store-v{SCHEMA_VERSION}.gz")
    if target.exists() or not duckdb.__version__.startswith("1.5."):
        sys.exit(f"{target} is there already, or this is not duckdb 1.5")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.duckdb"
        fill(path)
        with path.open("rb") as file:
            target.write_bytes(gzip.compress(file.read(), mtime=0))


def fill(path: Path) -> None:
    with open_store(path, create=True) as store:
        chat = '[{"role":"user","content":"5 + 5 = ?"}]'
        prompts = [NewPrompt(f"{i} + {i} = ?", False, str(2 * i), ("easy", "hard")[i % 2], f"p{i}") for i in range(12)]
        store.prompts.add([*prompts, NewPrompt(chat, True, "10", "chat", metadata='{"level":3}', split="test")])
        store.prompts.add([NewPrompt("1 + 1 + 1 = ?", False, "3", "easy", prior_rate=0.5, parent_id=2, generation=1)])
        ids = np.repeat(np.arange(1, 13), 2)
        rows: dict[str, object] = {"prompt_id": ids, "sample": np.tile([0, 1], 12), "reward": np.tile([0.0, 1.0], 12)}
        rows["response"] = [f"answer {i} ☃" for i in range(24)]
        store.rollouts.add(Source("model-a", settings='{"temperature":1.0}'), pa.table(rows))
        scheduler = Scheduler(store, "ucb", run="r1", seed=0)
        for _ in range(3):
            selection = scheduler.ask(4)
            told = np.repeat(selection.prompt_ids, 4)
            scheduler.tell(told, np.tile([0.0, 1.0], told.size // 2))
        selection = scheduler.ask(4)
        scheduler.resolve(selection.prompt_ids[:2], "dropped", reason="stale")


if __name__ == "__main__":
    main()
