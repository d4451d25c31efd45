"""Which row of a user's dataset is which prompt."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidData, InvalidParameter, UnknownPrompt, did_you_mean
from curri.types import prompt_id_array, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from curri.types import Ints

_SHOWN = 5


class Rows:
    """Rows of a dataset by prompt id.

    Args:
        prompt_ids: id of the prompt in each row, shape (rows,), distinct.
        names: the dataset's own ids, shape (rows,).

    Attributes:
        ids: the prompt ids, ascending.
        in_order: the prompt ids, by row.
    """

    def __init__(self, prompt_ids: Ints, names: NDArray[Any]) -> None:
        self.in_order: Ints = prompt_ids
        ascending = bool((prompt_ids[1:] > prompt_ids[:-1]).all())
        self._order = None if ascending else np.argsort(prompt_ids, kind="stable")
        self.ids: Ints = prompt_ids if self._order is None else prompt_ids[self._order]
        own = names.dtype.kind == "U"
        self._names = dict(zip(names.tolist(), prompt_ids.tolist(), strict=True)) if own else None

    def __len__(self) -> int:
        return int(self.ids.size)

    def of(self, prompt_ids: Ints) -> Ints:
        """The rows of prompts; every id must have one."""
        places = self.ids.searchsorted(prompt_ids)
        is_missing = self.ids.take(places, mode="clip") != prompt_ids
        if np.count_nonzero(is_missing):
            missing = prompt_ids[is_missing]
            raise UnknownPrompt(f"{missing.size} prompts have no row in the dataset: {_shown(missing)}")
        return (places if self._order is None else self._order[places]).astype(np.int64, copy=False)

    def prompts(self, ids: Any) -> Ints:
        """Prompt ids from whatever the dataset's id column holds."""
        if self._names is None or whole_numbers(ids) is not None:
            return prompt_id_array(ids, "`ids`")
        given = [str(name) for name in ids]
        missing = sorted({name for name in given if name not in self._names})
        if missing:
            raise UnknownPrompt(f"{len(missing)} ids are not in the dataset: {_shown(missing)}")
        return np.array([self._names[name] for name in given], dtype=np.int64)

    def digest(self) -> str:
        """The same for datasets with the same ids in the same rows."""
        return hashlib.blake2b(self.in_order.tobytes(), digest_size=16).hexdigest()


def read_ids(data_source: Any, column: str, ids: ArrayLike | None) -> NDArray[Any]:
    """The ids of a dataset's rows, integers or texts, shape (rows,).

    Args:
        data_source: a Hugging Face dataset, a dataset with ``prompt_ids``, or one whose rows are mappings.
        column: the column with the ids.
        ids: the ids themselves, one a row, in place of the column.

    Raises:
        InvalidData: there is no such column, or a row has no id, or two rows have the same.
    """
    if not hasattr(data_source, "__len__"):
        what = type(data_source).__name__
        message = f"the dataset must have a length and be read by row; got {what}, which is read in its own order"
        raise InvalidData(message, hint="a Hugging Face IterableDataset becomes one by `Dataset.from_list(list(it))`")
    size = len(data_source)
    listed = _as_array(_column(data_source, column) if ids is None else ids, column)
    if listed.size != size:
        raise InvalidParameter(f"`ids` must have one entry a row, {size} in all; got {listed.size}")
    if not size:
        raise InvalidData("the dataset has no rows, so nothing can be picked from it")
    _refuse_repeated(listed, column)
    return listed


def known_as(ids: NDArray[Any], column: str, by_name: Callable[[Sequence[str]], dict[str, int]] | None) -> Ints:
    """The prompt ids that a dataset's ids stand for, shape (rows,).

    Args:
        ids: as :func:`read_ids` gives them.
        column: where they come from.
        by_name: gives the prompt ids of a user's own ids, where they are texts.

    Raises:
        InvalidData: they are texts, and nobody knows whose.
        UnknownPrompt: a text is no prompt's own id.
    """
    if ids.dtype.kind != "U":
        return ids
    if by_name is None:
        message = f'ids in "{column}" are texts; a strategy without a store knows prompts by integer ids only'
        raise InvalidData(message, hint="number the prompts, or use a store, which keeps your own ids")
    found = by_name(ids.tolist())
    missing = [name for name in ids.tolist() if name not in found]
    if missing:
        raise UnknownPrompt(
            f'{len(missing)} ids in "{column}" are not the own id of one prompt of the store: {_shown(missing)}',
            hint="ingest the dataset with --id-column, or name the column that holds the store's prompt_id",
        )
    return np.array([found[name] for name in ids.tolist()], dtype=np.int64)


def _column(data_source: Any, column: str) -> Any:
    known = getattr(data_source, "column_names", None)
    if isinstance(known, list):  # Hugging Face datasets
        if column not in known:
            raise _no_column(column, known)
        return data_source.with_format(None)[column][:]
    if hasattr(data_source, "prompt_ids"):
        return data_source.prompt_ids
    return [_field(data_source[row], column, row) for row in range(len(data_source))]


def _field(row: Any, column: str, number: int) -> Any:
    try:
        return row[column]
    except (KeyError, IndexError, TypeError) as error:
        if isinstance(error, KeyError) and number:
            raise InvalidData(f'row {number} of the dataset has no "{column}"', hint=_HINT) from error
        raise _no_column(column, list(row) if hasattr(row, "keys") else []) from error


_HINT = (
    "carry the prompt's id in a column (`curri select` and `PromptDataset` call it prompt_id) and name it: id_column="
)


def _no_column(column: str, known: Iterable[str]) -> InvalidData:
    names = list(known)
    has = f"it has {', '.join(names)}" if names else "its rows have no named columns; hand the ids in: ids="
    guess = did_you_mean(column, names)
    return InvalidData(f'the dataset has no column "{column}"; {has}', hint=f"{guess} {_HINT}" if guess else _HINT)


def _as_array(values: Any, column: str) -> NDArray[Any]:
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values))
    if array.ndim == 1 and array.dtype.kind in "Of":
        empty = np.flatnonzero([value is None or value != value for value in array.tolist()])  # noqa: PLR0124  NaN
        if empty.size:
            message = f'{empty.size} rows of the dataset have no id in "{column}", the first is row {empty[0]}'
            raise InvalidData(message, hint="every row must name its prompt; drop those rows or fill the ids in")
    if array.ndim == 1 and array.dtype.kind == "U":
        return array
    numbers = whole_numbers(array) if array.dtype.kind != "O" else None
    if numbers is None or numbers.ndim != 1:
        what = type(array.flat[0]).__name__ if array.size else "nothing"
        raise InvalidData(f'ids in "{column}" must be all integers or all texts, one a row; got {what}', hint=_HINT)
    return numbers


def _refuse_repeated(ids: NDArray[Any], column: str) -> None:
    unique, counts = np.unique(ids, return_counts=True)
    repeated = unique[counts > 1]
    if repeated.size:
        raise InvalidData(
            f'{repeated.size} ids stand in more than one row of "{column}": {_shown(repeated.tolist())}',
            hint="one row a prompt: the sampler repeats it as often as a trainer needs (`group_size`, `repeats`)",
        )


def _shown(values: Any) -> str:
    listed = [str(value) for value in values]
    return ", ".join(listed[:_SHOWN]) + (", …" if len(listed) > _SHOWN else "")
