"""Names of a package that are imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def imported(package: str, homes: Mapping[str, str], name: str) -> Any:
    """What a package's ``__getattr__`` gives for a name; ``homes``: name → the module it stands in.

    Raises:
        AttributeError: the package has no such name.

    >>> imported("curri", {"Ticket": "curri.types"}, "Ticket").__name__
    'Ticket'
    """
    from importlib import import_module

    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)
