"""The command line: arguments and rendering, nothing else. Heavy modules are imported inside the commands."""

from __future__ import annotations

from curri.cli.app import app, main

__all__ = ["app", "main"]
