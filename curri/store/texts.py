"""Prompt texts in memory-mapped Arrow files beside the store.

Fetching the text of a batch from DuckDB costs tens of milliseconds; from a memory map, well under one. The files are a
copy: what is missing or of another store is written again from the store. Prompts never change, so a row that is there
is right. Segments hold prompts of consecutive ids, 65,536 each but for the last, which is replaced as it grows.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curri.types import Prompt

if TYPE_CHECKING:
    from pathlib import Path

    from curri.store.connection import Connection
    from curri.types import Ints

_log = logging.getLogger("curri")

SEGMENT = 65_536
_COLUMNS = ("prompt", "is_chat", "answer", "metadata", "arm")
_QUERY = """
    select p.prompt_id, p.prompt, p.is_chat, p.answer, p.metadata, a.name as arm
    from prompts p join arms a using (arm_id)
    where p.prompt_id >= ? and p.prompt_id < ? order by p.prompt_id"""


class PromptTexts:
    """Texts of prompts by id.

    Args:
        folder: where the segments live.
        store_id: the store they are a copy of.
        connection: where missing ones are read from.
    """

    def __init__(self, folder: Path, store_id: str, connection: Connection) -> None:
        self.folder = folder
        self._store_id = store_id
        self._connection = connection
        self._segments: dict[int, pa.Table] = {}
        self._n_prompts = 0

    def fetch(self, prompt_ids: Ints) -> list[Prompt]:
        """The prompts, in the order of ``prompt_ids``, which must exist."""
        ids = np.asarray(prompt_ids, dtype=np.int64)
        if not ids.size:
            return []
        self.sync(int(ids.max()))
        found: list[Prompt | None] = [None] * ids.size
        numbers = (ids - 1) // SEGMENT
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            part = self._segments[number].take(pa.array((ids[places] - 1) % SEGMENT))
            for place, row in zip(places.tolist(), part.select(_COLUMNS).to_pylist(), strict=True):
                found[place] = _prompt(int(ids[place]), row)
        return [prompt for prompt in found if prompt is not None]

    def sync(self, last_id: int) -> None:
        """See that every prompt up to ``last_id`` has its text in a segment."""
        if last_id <= self._n_prompts:
            return
        total = int(self._connection.value("select coalesce(max(prompt_id), 0) from prompts"))
        for number in range(self._n_prompts // SEGMENT, (total + SEGMENT - 1) // SEGMENT):
            wanted = min(SEGMENT, total - number * SEGMENT)
            present = self._opened(number)
            if present is None or present.num_rows < wanted:
                present = self._write(number)
            self._segments[number] = present
        self._n_prompts = total

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.arrow"

    def _opened(self, number: int) -> pa.Table | None:
        """A segment from its file, or None where it is missing, torn or of another store."""
        try:
            table = pa.ipc.open_file(pa.memory_map(str(self._path(number)))).read_all()
        except (OSError, pa.ArrowInvalid):
            return None
        return table if (table.schema.metadata or {}).get(b"store_id") == self._store_id.encode() else None

    def _write(self, number: int) -> pa.Table:
        first = number * SEGMENT + 1
        table = self._connection.arrow(_QUERY, [first, first + SEGMENT])
        table = table.replace_schema_metadata({"store_id": self._store_id}).combine_chunks()
        draft = self.folder / f".{number:06d}.{os.getpid()}.tmp"
        try:
            self.folder.mkdir(exist_ok=True)
            with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
            draft.replace(self._path(number))
        except OSError as error:  # a folder that cannot be written to: texts stay in memory
            _log.warning("prompt texts cannot be kept beside the store (%s); they are held in memory", error)
            return table
        opened = self._opened(number)
        return table if opened is None else opened


def _prompt(prompt_id: int, row: dict[str, Any]) -> Prompt:
    text = json.loads(row["prompt"]) if row["is_chat"] else row["prompt"]
    metadata = json.loads(row["metadata"]) if row["metadata"] else {}
    return Prompt(prompt_id, text, row["answer"], row["arm"], metadata)
