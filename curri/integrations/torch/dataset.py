"""A dataset of a store's prompts that reads memory-mapped text, so that loader workers need no database."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from torch.utils.data import Dataset

from curri.errors import InvalidParameter, StoreError
from curri.types import prompt_id_array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from curri.store import PromptStore
    from curri.types import Ints

__all__ = ["PromptDataset"]

_COLUMNS = ("prompt", "is_chat", "answer", "metadata", "arm", "external_id")


class PromptDataset(Dataset[Any]):
    """The prompts of a store as rows, for ``DataLoader`` workers: forked or spawned, they read files, never DuckDB.

    A row is a dict: ``prompt_id``, ``prompt`` (a text, or chat messages), ``answer``, ``arm``, ``id`` (the user's own,
    or None) and ``metadata``. PyTorch's default collation takes neither None nor dicts of different keys, so hand the
    loader a ``collate_fn``, or the dataset a ``transform``.

    Args:
        store: an open store; it is not kept.
        ids: which prompts, in this order; by default all for training, ascending.
        transform: called with every row, in the worker; must be picklable for spawned ones.

    Attributes:
        prompt_ids: id of the prompt in each row, shape (rows,).

    Raises:
        UnknownPrompt: an id is not in the store.
        StoreError: the texts cannot be kept beside the store.

    >>> import tempfile, curri
    >>> from curri.store import NewPrompt
    >>> with tempfile.TemporaryDirectory() as folder, curri.open_store(folder + "/p.duckdb", create=True) as store:
    ...     _ = store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), "sums") for i in range(8)])
    ...     dataset = PromptDataset(store)
    ...     len(dataset), dataset[3]["prompt"], dataset[3]["answer"]
    (8, '3 + 3 = ?', '6')
    """

    def __init__(
        self,
        store: PromptStore,
        ids: ArrayLike | None = None,
        *,
        transform: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        from curri.store.texts import SEGMENT

        self.prompt_ids: Ints = store.pool().ids if ids is None else prompt_id_array(ids, "`ids` of `PromptDataset`")
        if self.prompt_ids.ndim != 1:
            raise InvalidParameter(
                f"`ids` of `PromptDataset` must be a flat sequence; got shape {self.prompt_ids.shape}"
            )
        store.prompts.refuse_unknown(self.prompt_ids)
        self.transform = transform
        self._segment_size = SEGMENT
        self._folder = store.texts.folder
        self._store_id = store.store_id
        self._tables: dict[int, pa.Table] = {}
        numbers, places = np.unique((self.prompt_ids - 1) // SEGMENT, return_inverse=True)
        self._needed = {
            number: int((self.prompt_ids[places == place] - 1).max() % SEGMENT) + 1
            for place, number in enumerate(numbers.tolist())
        }
        for number, rows in self._needed.items():
            store.texts.fetch(np.array([number * SEGMENT + rows]))  # writes what is missing
            self._table(number)

    def __len__(self) -> int:
        return int(self.prompt_ids.size)

    def __getitem__(self, row: int) -> Any:
        """One prompt."""
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[Any]:
        """Several prompts; PyTorch's loader asks this way."""
        ids = self.prompt_ids[np.asarray(rows, dtype=np.int64)]
        found: list[Any] = [None] * ids.size
        numbers = (ids - 1) // self._segment_size
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            part = self._table(number).take(pa.array((ids[places] - 1) % self._segment_size))
            for place, row in zip(places.tolist(), part.to_pylist(), strict=True):
                found[place] = _row(int(ids[place]), row)
        return found if self.transform is None else [self.transform(row) for row in found]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": {}}  # memory maps are opened anew in each process

    def _table(self, number: int) -> pa.Table:
        if number not in self._tables:
            self._tables[number] = self._opened(number)
        return self._tables[number]

    def _opened(self, number: int) -> pa.Table:
        """A segment's file: one whose checksum is in its name, of this store, with all the rows needed."""
        for path in sorted(Path(self._folder).glob(f"{number:06d}-*.arrow")):
            try:
                data = pa.memory_map(str(path)).read_buffer()
                if path.stem != f"{number:06d}-{zlib.crc32(data):08x}":
                    continue
                table = pa.ipc.open_file(data).read_all()
            except (OSError, pa.ArrowException):
                continue
            of_store = (table.schema.metadata or {}).get(b"prompts", b"").startswith(self._store_id.encode())
            if of_store and table.num_rows >= self._needed[number]:
                return table.select(_COLUMNS)
        raise StoreError(
            f"the texts of prompts {number * self._segment_size + 1} and on are not in {self._folder}",
            hint="a PromptDataset writes them beside the store when it is made; can it write there?",
        )


def _row(prompt_id: int, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt_id": prompt_id,
        "prompt": json.loads(row["prompt"]) if row["is_chat"] else row["prompt"],
        "answer": row["answer"],
        "arm": row["arm"],
        "id": row["external_id"],
        "metadata": json.loads(row["metadata"]) if row["metadata"] else {},
    }
