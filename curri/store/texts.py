"""Prompt texts in memory-mapped Arrow files beside the store.

Fetching the text of a batch from DuckDB costs tens of milliseconds; from a memory map, well under one. The files are a
copy: what is missing, damaged, or of other prompts is written again from the store. Segments hold prompts
of consecutive ids, 65,536 each but for the last, which is replaced as it grows.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.types import Prompt

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from curri.store.connection import Connection
    from curri.types import Ints

_log = logging.getLogger("curri")

SEGMENT = 65_536
_COLUMNS = ("prompt", "is_chat", "answer", "metadata", "arm", "external_id")
_SELECT = """
    select p.prompt_id, p.prompt, p.is_chat, p.answer, p.metadata, a.name as arm, p.external_id
    from prompts p join arms a using (arm_id)"""
_RANGE = f"{_SELECT} where p.prompt_id >= ? and p.prompt_id < ? order by p.prompt_id"
_THESE = f"{_SELECT} where p.prompt_id in (select unnest(?::bigint[]))"


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

    def fetch(self, prompt_ids: Ints) -> list[Prompt]:
        """The prompts, in the order of ``prompt_ids``, which must exist."""
        import pyarrow as pa

        ids = np.asarray(prompt_ids, dtype=np.int64)
        found: list[Prompt | None] = [None] * ids.size
        numbers = (ids - 1) // SEGMENT
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            offsets = (ids[places] - 1) % SEGMENT
            part = self._segment(number, int(offsets.max()) + 1).take(pa.array(offsets))
            for place, row in zip(places.tolist(), part.select(_COLUMNS).to_pylist(), strict=True):
                found[place] = _prompt(int(ids[place]), row)
        return [prompt for prompt in found if prompt is not None]

    def fetch_once(self, prompt_ids: Ints) -> list[Prompt]:
        """The same in one query: quicker where no second batch follows, since nothing is opened, written or kept."""
        ids = np.asarray(prompt_ids, dtype=np.int64).tolist()
        rows = self._connection.rows(_THESE, [ids])
        found = {row[0]: _prompt(row[0], dict(zip(_COLUMNS, row[1:], strict=True))) for row in rows}
        return [found[prompt_id] for prompt_id in ids]

    def _segment(self, number: int, rows: int) -> pa.Table:
        """A segment with at least so many rows: one in memory, one from a file, or one written now."""
        if self._connection.in_transaction:  # what is not committed may never be, and must not be kept
            return self._read(number)
        known = self._segments.get(number)
        if known is None or known.num_rows < rows:
            known = self._opened(number)
            if known is None or known.num_rows < rows:
                known = self._write(number, self._read(number))
            self._segments[number] = known
        return known

    def _read(self, number: int) -> pa.Table:
        first = number * SEGMENT + 1
        return self._connection.arrow(_RANGE, [first, first + SEGMENT]).combine_chunks()

    def _opened(self, number: int) -> pa.Table | None:
        """A segment from its file; None where it is missing, damaged, of another store, or of other prompts."""
        import pyarrow as pa

        for path in self.folder.glob(f"{number:06d}-*.arrow"):
            try:
                data = pa.memory_map(str(path)).read_buffer()
                if path.stem != _stem(number, data):
                    continue
                table = pa.ipc.open_file(data).read_all()
            except (OSError, pa.ArrowException):
                continue
            if (table.schema.metadata or {}).get(b"prompts") == self._fingerprint(number, table.num_rows):
                return table
        return None

    def _fingerprint(self, number: int, rows: int) -> bytes:
        """Which store and which prompts a segment of so many rows must be of."""
        first = number * SEGMENT + 1
        found = self._connection.rows(
            """select count(*), bit_xor(xor(digest_high, prompt_id)), bit_xor(digest_low) from prompts
               where prompt_id >= ? and prompt_id < ?""",
            [first, first + rows],
        )
        return f"{self._store_id} {found[0]}".encode()

    def _write(self, number: int, table: pa.Table) -> pa.Table:
        import pyarrow as pa

        table = table.replace_schema_metadata({"prompts": self._fingerprint(number, table.num_rows)})
        draft = self.folder / f".{number:06d}.{os.getpid()}.tmp"
        try:
            self.folder.mkdir(exist_ok=True)
            with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
            stem = _stem(number, pa.memory_map(str(draft)).read_buffer())
            older = list(self.folder.glob(f"{number:06d}-*.arrow"))
            draft.replace(self.folder / f"{stem}.arrow")
            for path in older:
                if path.stem != stem:
                    path.unlink(missing_ok=True)
        except OSError as error:  # a folder that cannot be written to: texts stay in memory
            _log.warning("prompt texts cannot be kept beside the store (%s); they are held in memory", error)
            return table
        opened = self._opened(number)
        return table if opened is None else opened


def _stem(number: int, data: pa.Buffer) -> str:
    """Name of a segment's file: it holds a checksum, so that a damaged one is never believed."""
    return f"{number:06d}-{zlib.crc32(data):08x}"


def _prompt(prompt_id: int, row: dict[str, Any]) -> Prompt:
    text = json.loads(row["prompt"]) if row["is_chat"] else row["prompt"]
    metadata = json.loads(row["metadata"]) if row["metadata"] else {}
    return Prompt(prompt_id, text, row["answer"], row["arm"], metadata, row["external_id"])
