"""curri decides which prompts a language model trains on next.

Names are imported when they are first used, so that ``import curri`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curri._lazy import imported
from curri._version import __version__ as __version__

if TYPE_CHECKING:
    from curri import curricula as curricula
    from curri import errors as errors
    from curri import estimators as estimators
    from curri import selectors as selectors
    from curri.pool import PromptPool as PromptPool
    from curri.registry import strategy as strategy
    from curri.scheduler import Scheduler as Scheduler
    from curri.store import PromptStore as PromptStore
    from curri.store import open_store as open_store
    from curri.types import Admission as Admission
    from curri.types import Prompt as Prompt
    from curri.types import Rollouts as Rollouts
    from curri.types import Selection as Selection
    from curri.types import Ticket as Ticket

_HOMES = {
    "Admission": "curri.types",
    "Prompt": "curri.types",
    "PromptPool": "curri.pool",
    "PromptStore": "curri.store",
    "Rollouts": "curri.types",
    "Scheduler": "curri.scheduler",
    "Selection": "curri.types",
    "Ticket": "curri.types",
    "open_store": "curri.store",
    "strategy": "curri.registry",
}
_MODULES = ("curricula", "errors", "estimators", "selectors")
__all__ = ["__version__", *sorted(_HOMES), *_MODULES]  # noqa: PLE0604  built from the table above


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        from importlib import import_module

        return import_module(f"curri.{name}")
    return imported(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return __all__
