"""The DuckDB prompt store.

Names are imported when they are first used, so that ``curri.store.filters`` can be had without DuckDB and Arrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curri._lazy import imported

if TYPE_CHECKING:
    from curri.store.prompt_store import PromptStore as PromptStore
    from curri.store.prompt_store import open_store as open_store
    from curri.store.prompts import Added as Added
    from curri.store.prompts import NewPrompt as NewPrompt
    from curri.store.rollouts import RUN_MODEL as RUN_MODEL
    from curri.store.rollouts import Source as Source
    from curri.store.runs import LedgerRows as LedgerRows
    from curri.store.runs import Run as Run

_HOMES = {
    "Added": "curri.store.prompts",
    "LedgerRows": "curri.store.runs",
    "NewPrompt": "curri.store.prompts",
    "PromptStore": "curri.store.prompt_store",
    "RUN_MODEL": "curri.store.rollouts",
    "Run": "curri.store.runs",
    "Source": "curri.store.rollouts",
    "open_store": "curri.store.prompt_store",
}
__all__ = [*_HOMES]  # noqa: PLE0604  built from the table above


def __getattr__(name: str) -> Any:
    return imported(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return __all__
