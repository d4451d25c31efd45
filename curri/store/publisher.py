"""Copies of a store for other processes to read while this one holds it for long."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from curri.errors import StoreError

if TYPE_CHECKING:
    from curri.store.prompt_store import PromptStore

_log = logging.getLogger("curri")

FIRST, EVERY = 60.0, 300.0
"""Seconds before the first copy, and between two of them."""


class Publisher:
    """Publishes a copy now and then, at most one part in a hundred of the time.

    Attributes:
        failed: copies that could not be written.
    """

    def __init__(self, store: PromptStore) -> None:
        self._store = store
        self._at = time.monotonic() + FIRST
        self.failed = 0

    def when_due(self) -> None:
        """Publish if it is time to; call it after a commit."""
        start = time.monotonic()
        if start < self._at:
            return
        try:
            self._store.publish()
        except StoreError as error:  # work does not stop because nobody can watch it
            self.failed += 1
            if self.failed == 1:
                _log.warning("no copy of the store for other processes: %s", error.message)
        end = time.monotonic()
        self._at = end + max(EVERY, 100 * (end - start))
