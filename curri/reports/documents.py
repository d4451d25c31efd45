"""What the documents of all reports share: plain JSON, and a fingerprint."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np

__all__ = ["fingerprint", "finite"]


def finite(value: Any) -> Any:
    """The same as plain JSON, with null for numbers that JSON does not have.

    >>> finite({"a": np.float64("nan"), "b": np.arange(2), "c": (1.5,)})
    {'a': None, 'b': [0, 1], 'c': [1.5]}
    """
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value


def fingerprint(parts: Any) -> str:
    """SHA-256 of plain JSON: the same parts, the same one."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
