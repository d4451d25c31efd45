"""Reading Arrow tables batch by batch: Parquet, folders saved by ``datasets``, datasets by name."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl

import pyarrow as pa
import pyarrow.compute as pc

from curri.errors import InvalidData, InvalidInput, MissingExtra, did_you_mean
from curri.exchange.jsonl import Row, is_standard, opened_twice
from curri.exchange.sources import HUB, is_saved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from curri.exchange.sources import Rows

BATCH = 1024
"""Rows that are turned into Python values at a time."""

_QUERY = ("split", "config", "revision", "as")


class ArrowRows:
    """The rows of Arrow batches, one at a time; a context manager.

    Values are what JSON has for them: decimals are numbers with all their digits, a float32 is the number its shortest
    spelling says (0.1 and not 0.10000000149011612), dates and times are texts. Arrow gives every object of a list the
    fields of all the others, so a null field of an object counts as missing. Columns with bytes in them (images) are
    left out, and a note says so.

    Args:
        name: of the source, for messages.
        schema: of its batches.
        batches: reads them from the beginning.
        total: how many rows there are, where that is known.
        extra: values of columns that the source lacks, for every row.
        on_close: lets go of the source.

    Raises:
        InvalidData: two columns have one name.
    """

    unit = "row"
    texts_only = False

    def __init__(
        self,
        name: str,
        schema: pa.Schema,
        batches: Callable[[], Iterable[pa.RecordBatch]],
        *,
        total: int | None = None,
        extra: Mapping[str, str] | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.total = total
        self.done = 0
        self._batches = batches
        self._on_close = on_close
        names = schema.names
        twice = next((column for column in names if names.count(column) > 1), None)
        if twice is not None:
            raise InvalidData(f'{name} has several columns named "{twice}"', hint="rename all but one of them")
        self._extra = {column: value for column, value in (extra or {}).items() if column not in names}
        bytes_in = [field.name for field in schema if _has_bytes(field.type)]
        self._kept = [column for column in names if column not in bytes_in]
        self.columns: Sequence[str] = [*self._kept, *self._extra]
        self.notes = [f'column "{column}" holds bytes, which the store does not keep: left out' for column in bytes_in]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._on_close()

    def rewindable(self) -> Self:
        """Itself."""
        return self

    def rewind(self) -> None:
        """Start again from the beginning."""
        self.done = 0

    def __iter__(self) -> Iterator[Row]:
        self.done = 0
        try:
            for batch in self._batches():
                for start in range(0, batch.num_rows, BATCH):
                    yield from self._rows(batch.slice(start, BATCH))
        except (pa.ArrowException, OSError) as error:
            words = next(iter(str(error).splitlines()), "")
            yield Row(self.done + 1, None, f"damaged, and nothing after it can be read: {words}", b"")

    def _rows(self, batch: pa.RecordBatch) -> Iterator[Row]:
        columns = [_Column(name, batch.column(name)) for name in self._kept]
        exact = [column for column in columns if column.digits is not None]
        for i in range(batch.num_rows):
            self.done += 1
            value = {column.name: column.values[i] for column in columns} | self._extra
            wrong = next((name for name, entry in value.items() if entry is _NOT_TEXT), None)
            if wrong is not None:
                yield Row(self.done, None, f'"{wrong}" is not UTF-8', b"")
            elif exact:
                yield Row(self.done, value, "", _spelled(value, exact, i).encode())
            else:
                yield Row(self.done, value, "", _encode(value).encode())


_NOT_TEXT = object()
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _spelled(value: Mapping[str, Any], exact: Sequence[_Column], i: int) -> str:
    """A row as JSON, with all digits of those columns."""
    digits = {column.name: column.digits[i] for column in exact if column.digits is not None}
    cells = (f"{_encode(name)}:{digits.get(name) or _encode(entry)}" for name, entry in value.items())
    return "{" + ",".join(cells) + "}"


class _Column:
    """A column of a batch as values that JSON has; of decimals the digits besides."""

    def __init__(self, name: str, column: pa.Array) -> None:
        self.name = name
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        kind = column.type
        self.digits: list[str | None] | None = None
        if pa.types.is_decimal(kind):
            decimals = column.to_pylist()
            self.digits = [None if value is None else format(value, "f") for value in decimals]
            self.values = [_plain(value) for value in decimals]
        elif pa.types.is_float16(kind) or pa.types.is_float32(kind):
            shortest = pc.cast(pc.cast(column, pa.float32()), pa.string()).to_pylist()
            self.values = [None if text is None else float(text) for text in shortest]
        elif pa.types.is_temporal(kind):
            self.values = _texts(column)
        elif pa.types.is_nested(kind):
            self.values = [_plain(value) for value in _listed(column)]
        else:
            self.values = _listed(column)


def _listed(column: pa.Array) -> list[Any]:
    """Values of a column, with a mark where a text is none."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        values: list[Any] = []
        for entry in column:
            try:
                values.append(entry.as_py())
            except UnicodeDecodeError:
                values.append(_NOT_TEXT)
        return values


def _texts(column: pa.Array) -> list[Any]:
    try:
        return list(pc.cast(column, pa.string()).to_pylist())
    except pa.ArrowException:
        return [None if value is None else str(value) for value in column.to_pylist()]


def _plain(value: Any) -> Any:
    """A value as JSON has it; null fields of objects are left out."""
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items() if entry is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value) if isinstance(value, (dt.date, dt.time, dt.timedelta)) else value


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    if pa.types.is_dictionary(kind):
        return _has_bytes(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return _has_bytes(kind.storage_type)
    return pa.types.is_nested(kind) and any(_has_bytes(kind.field(i).type) for i in range(kind.num_fields))


class ParquetRows(ArrowRows):
    """The rows of a Parquet file; see :class:`ArrowRows`.

    Args:
        path: the file, or "-" for standard input.

    Raises:
        InvalidData: it cannot be opened, or is no Parquet file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import pyarrow.parquet as pq

        name = "standard input" if is_standard(path) else os.fspath(path)
        stream = opened_twice(path)
        try:
            file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)
            super().__init__(
                name,
                file.schema_arrow,
                lambda: (
                    batch
                    for group in range(file.num_row_groups)  # one by one, so that damage to one leaves those before it
                    for batch in file.iter_batches(BATCH, [group], use_threads=False)
                ),
                total=file.metadata.num_rows,
                on_close=stream.close,
            )
        except (pa.ArrowException, OSError) as error:
            empty = not stream.seek(0, os.SEEK_END)
            stream.close()
            words = next(iter(str(error).splitlines()), "")
            raise InvalidData(f"{name} {'is empty' if empty else f'is no Parquet file: {words}'}") from None
        except BaseException:
            stream.close()
            raise


class SavedRows(ArrowRows):
    """The rows of a folder that ``datasets.save_to_disk`` wrote; ``datasets`` itself is not needed.

    Args:
        folder: of one split, or of a dataset with several.
        split: which of them; needed where there are several.
        extra: as for :class:`ArrowRows`.

    Raises:
        InvalidData: it cannot be read.
        InvalidInput: it has several splits and none is named, or not the one that is.
    """

    def __init__(self, folder: Path, *, split: str | None = None, extra: Mapping[str, str] | None = None) -> None:
        self._folder = _split_folder(folder, split)
        state = _read_json(self._folder / "state.json")
        try:
            self._files = [self._folder / str(entry["filename"]) for entry in state["_data_files"]]
        except (KeyError, TypeError):
            raise InvalidData(f"{self._folder / 'state.json'} names no data files") from None
        if state.get("_indices_data_files"):
            raise InvalidData(f"{folder} keeps its rows in another order", hint="flatten it: dataset.flatten_indices()")
        if not self._files:
            raise InvalidData(f"{folder} has no data files")
        schema = self._opened(self._files[0], lambda reader: reader.schema)
        super().__init__(str(folder), schema, self._read, extra=extra)

    def _read(self) -> Iterator[pa.RecordBatch]:
        for path in self._files:
            with pa.memory_map(str(path)) as stream, pa.ipc.open_stream(stream) as reader:
                yield from reader

    @staticmethod
    def _opened(path: Path, look: Callable[[Any], Any]) -> Any:
        try:
            with pa.memory_map(str(path)) as stream, pa.ipc.open_stream(stream) as reader:
                return look(reader)
        except (pa.ArrowException, OSError) as error:
            words = next(iter(str(error).splitlines()), "")
            raise InvalidData(f"{path} cannot be read: {words}") from None


def _split_folder(folder: Path, split: str | None) -> Path:
    if not (folder / "dataset_dict.json").is_file():
        if split not in (None, "train"):
            raise InvalidInput(f"{folder} is one split without a name; it has no split {split}")
        return folder
    splits = _read_json(folder / "dataset_dict.json").get("splits")
    names = [str(name) for name in splits] if isinstance(splits, list) else []
    if split is None and len(names) == 1:
        return folder / names[0]
    if split not in names:
        fact = "name one" if split is None else f'there is no "{split}"'
        raise InvalidInput(f"{folder} has the splits {', '.join(names)}; {fact}", hint=f"'{HUB}{folder}?split=NAME'")
    return folder / split


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidData(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise InvalidData(f"{path} is not what `datasets` writes")
    return value


def open_hub(source: str) -> Rows:
    """The rows of ``hf:NAME?split=train&config=…&revision=…``, or of a folder that ``datasets`` saved.

    Rows of another split than train keep its name, so that they are held out, unless ``as=train`` says otherwise.

    Raises:
        InvalidInput: the source is not spelled right.
        MissingExtra: ``datasets`` is not installed.
        InvalidData: it cannot be loaded.
    """
    name, query = _parsed(source)
    split = query.get("split")
    held_as = query.get("as", (split or "train").partition("[")[0])
    extra = {} if held_as == "train" else {"split": held_as}
    if is_saved(name):
        return SavedRows(Path(name), split=split, extra=extra)
    dataset = _loaded(source, name, query)
    table = dataset.with_format("arrow")
    return ArrowRows(
        source,
        dataset.features.arrow_schema,
        lambda: (b for part in table.iter(batch_size=BATCH) for b in part.to_batches()),
        total=len(dataset),
        extra=extra,
    )


def _parsed(source: str) -> tuple[str, dict[str, str]]:
    name, _, query = source.removeprefix(HUB).partition("?")
    example = f"write {HUB}NAME?split=train"
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise InvalidInput(f'"{query}" is not a list of parameters', hint=example) from None
    if not name:
        raise InvalidInput(f'"{source}" names no dataset', hint=example)
    for key, value in pairs:
        if key not in _QUERY:
            near = did_you_mean(key, _QUERY)
            raise InvalidInput(f'"{key}" is no parameter of {HUB}; known: {", ".join(_QUERY)}', hint=near)
        if not value:
            raise InvalidInput(f'"{key}" of {source} is empty', hint=example)
    if len(dict(pairs)) < len(pairs):
        raise InvalidInput(f"{source} gives a parameter twice")
    return name, dict(pairs)


def _loaded(source: str, name: str, query: Mapping[str, str]) -> Any:
    try:
        import datasets
    except ImportError as error:
        message = f"`{HUB}` sources need `datasets`, which cannot be imported ({error})"
        raise MissingExtra(message, hint="pip install 'curri[hf]'") from error
    try:
        found = datasets.load_dataset(
            name, query.get("config"), split=query.get("split"), revision=query.get("revision")
        )
    except (OSError, ValueError, KeyError) as error:
        words = next(iter(str(error).splitlines()), type(error).__name__)
        raise InvalidData(f"{source} cannot be loaded: {words}") from error
    if isinstance(found, dict):
        if len(found) != 1:
            hint = f"'{source}{'&' if query else '?'}split=NAME'"
            raise InvalidInput(f"{source} has the splits {', '.join(found)}; name one", hint=hint)
        found = next(iter(found.values()))
    return found
