"""Prompts, rollouts, picks and results: into the store and out of it.

Names are imported when they are first used: a command that writes a selection need not wait for Parquet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curri._lazy import imported

if TYPE_CHECKING:
    from curri.exchange.gym import GymTask as GymTask
    from curri.exchange.gym import ingest_gym as ingest_gym
    from curri.exchange.gym import is_gym as is_gym
    from curri.exchange.ingest import ingest_file as ingest_file
    from curri.exchange.ingest import ingest_jsonl as ingest_jsonl
    from curri.exchange.jsonl import JsonLines as JsonLines
    from curri.exchange.jsonl import Progress as Progress
    from curri.exchange.jsonl import Row as Row
    from curri.exchange.jsonl import read_jsonl as read_jsonl
    from curri.exchange.loading import IngestReport as IngestReport
    from curri.exchange.loading import OtherArm as OtherArm
    from curri.exchange.lookup import find_prompt as find_prompt
    from curri.exchange.priors import PriorsReport as PriorsReport
    from curri.exchange.priors import import_priors as import_priors
    from curri.exchange.results import Results as Results
    from curri.exchange.results import read_results as read_results
    from curri.exchange.rollouts import ImportReport as ImportReport
    from curri.exchange.rollouts import import_rollouts as import_rollouts
    from curri.exchange.rollouts import import_rollouts_jsonl as import_rollouts_jsonl
    from curri.exchange.selection import Pick as Pick
    from curri.exchange.selection import read_picks as read_picks
    from curri.exchange.selection import selection_rows as selection_rows
    from curri.exchange.selection import write_jsonl as write_jsonl
    from curri.exchange.selection import write_selection as write_selection
    from curri.exchange.sources import is_hub as is_hub
    from curri.exchange.sources import is_saved as is_saved
    from curri.exchange.sources import open_rows as open_rows

_HOMES = {
    "GymTask": "curri.exchange.gym",
    "ImportReport": "curri.exchange.rollouts",
    "IngestReport": "curri.exchange.loading",
    "JsonLines": "curri.exchange.jsonl",
    "OtherArm": "curri.exchange.loading",
    "Pick": "curri.exchange.selection",
    "PriorsReport": "curri.exchange.priors",
    "Progress": "curri.exchange.jsonl",
    "Results": "curri.exchange.results",
    "Row": "curri.exchange.jsonl",
    "find_prompt": "curri.exchange.lookup",
    "import_priors": "curri.exchange.priors",
    "import_rollouts": "curri.exchange.rollouts",
    "import_rollouts_jsonl": "curri.exchange.rollouts",
    "ingest_file": "curri.exchange.ingest",
    "ingest_gym": "curri.exchange.gym",
    "ingest_jsonl": "curri.exchange.ingest",
    "is_gym": "curri.exchange.gym",
    "is_hub": "curri.exchange.sources",
    "is_saved": "curri.exchange.sources",
    "open_rows": "curri.exchange.sources",
    "read_jsonl": "curri.exchange.jsonl",
    "read_picks": "curri.exchange.selection",
    "read_results": "curri.exchange.results",
    "selection_rows": "curri.exchange.selection",
    "write_jsonl": "curri.exchange.selection",
    "write_selection": "curri.exchange.selection",
}
__all__ = [*_HOMES]  # noqa: PLE0604  built from the table above


def __getattr__(name: str) -> Any:
    return imported(__name__, _HOMES, name)
