"""Optional packages, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from curri.errors import MissingExtra

__all__ = ["optional"]

_PROJECTS = {"sklearn": "scikit-learn"}


def optional(module: str, purpose: str) -> Any:
    """The module, imported.

    Args:
        module: its import name, such as "scipy.optimize".
        purpose: what needs it, as the subject of a sentence.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        root = module.partition(".")[0]
        message = f"{purpose} needs {_PROJECTS.get(root, root)}, which is not installed"
        raise MissingExtra(message, hint="pip install 'curri[mix]'") from error
