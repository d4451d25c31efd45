"""The libraries that writers are for."""

from __future__ import annotations

import importlib
from typing import Any

from curri.errors import MissingExtra


def library(module: str, extra: str) -> Any:
    """The module, imported.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        root = module.partition(".")[0]
        message = f"writing metrics needs {root}, which is not installed"
        raise MissingExtra(message, hint=f"pip install 'curri[{extra}]'") from error
