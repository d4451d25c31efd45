"""The package's own tests run where it is installed; ``tests/test_plugin.py`` does that."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [] if find_spec("curri_leitner") else ["tests", "src"]
