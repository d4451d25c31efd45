"""The version, in the one place that the build and `curri --version` read."""

from __future__ import annotations

__version__ = "0.1.0.dev0"
