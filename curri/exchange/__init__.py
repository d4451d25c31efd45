"""Prompts, rollouts, picks and results: into the store and out of it."""

from __future__ import annotations

from curri.exchange.gym import GymTask, ingest_gym, is_gym
from curri.exchange.ingest import ingest_file, ingest_jsonl
from curri.exchange.jsonl import JsonLines, Progress, Row, read_jsonl
from curri.exchange.loading import IngestReport, OtherArm
from curri.exchange.lookup import find_prompt
from curri.exchange.priors import PriorsReport, import_priors
from curri.exchange.results import Results, read_results
from curri.exchange.rollouts import ImportReport, import_rollouts, import_rollouts_jsonl
from curri.exchange.selection import selection_rows, write_jsonl, write_selection
from curri.exchange.sources import is_hub, is_saved, open_rows

__all__ = [
    "GymTask",
    "ImportReport",
    "IngestReport",
    "JsonLines",
    "OtherArm",
    "PriorsReport",
    "Progress",
    "Results",
    "Row",
    "find_prompt",
    "import_priors",
    "import_rollouts",
    "import_rollouts_jsonl",
    "ingest_file",
    "ingest_gym",
    "ingest_jsonl",
    "is_gym",
    "is_hub",
    "is_saved",
    "open_rows",
    "read_jsonl",
    "read_results",
    "selection_rows",
    "write_jsonl",
    "write_selection",
]
