"""The DuckDB prompt store."""

from __future__ import annotations

from curri.store.prompt_store import PromptStore, open_store
from curri.store.prompts import Added, NewPrompt
from curri.store.rollouts import RUN_MODEL, Source
from curri.store.runs import LedgerRows, Run

__all__ = ["RUN_MODEL", "Added", "LedgerRows", "NewPrompt", "PromptStore", "Run", "Source", "open_store"]
