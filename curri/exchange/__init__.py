"""Prompts, rollouts, picks and results: into the store and out of it."""

from __future__ import annotations

from curri.exchange.gym import GymTask, ingest_gym, is_gym
from curri.exchange.ingest import ingest_jsonl
from curri.exchange.jsonl import JsonLines, Progress, Row, read_jsonl
from curri.exchange.loading import IngestReport, OtherArm
from curri.exchange.lookup import find_prompt
from curri.exchange.results import Results, read_results
from curri.exchange.rollouts import ImportReport, import_rollouts_jsonl
from curri.exchange.selection import selection_rows, write_jsonl, write_selection

__all__ = [
    "GymTask",
    "ImportReport",
    "IngestReport",
    "JsonLines",
    "OtherArm",
    "Progress",
    "Results",
    "Row",
    "find_prompt",
    "import_rollouts_jsonl",
    "ingest_gym",
    "ingest_jsonl",
    "is_gym",
    "read_jsonl",
    "read_results",
    "selection_rows",
    "write_jsonl",
    "write_selection",
]
