"""Prompts out of the store: with what is known of them as JSON Lines, CSV or Parquet, or as a trainer reads them."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curri.errors import InvalidData, InvalidInput, InvalidParameter, did_you_mean
from curri.exchange.jsonl import compact_json, draft_of, is_standard
from curri.exchange.selection import write_jsonl
from curri.exchange.trainers import MESSAGES, TRAINERS, as_messages, file_of, plain_messages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import polars as pl

    from curri.exchange.selection import Pick
    from curri.store import PromptStore
    from curri.types import Ints

FILES = ("jsonl", "csv", "parquet")
FORMATS = (*FILES, *TRAINERS)
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
_CHUNK = 10_000

_PROMPTS = """
    select p.prompt_id, p.external_id as id, a.name as arm, coalesce(p.split, 'train') as split, p.prompt, p.is_chat,
        p.answer, p.generation, p.parent_id, p.retired, p.prior_rate, p.expected_tokens, p.metadata
    from asked join prompts p on p.prompt_id = asked.wanted join arms a using (arm_id) order by asked.place"""
_ONLY = """
    select p.prompt_id from asked join prompts p on p.prompt_id = asked.wanted
    where not p.retired and coalesce(p.split, 'train') = ? order by p.prompt_id"""
_ESTIMATES: dict[str, pa.DataType] = {
    "responses": pa.int64(),
    "mean_reward": pa.float64(),
    "pass_rate": pa.float64(),
    "posterior_mean": pa.float64(),
    "posterior_sd": pa.float64(),
    "live_probability": pa.float64(),
    "truncated": pa.float64(),
}
_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.int64()),
        ("id", pa.string()),
        ("prompt", pa.string()),
        ("answer", pa.string()),
        ("arm", pa.string()),
        ("split", pa.string()),
        ("generation", pa.int64()),
        ("parent_id", pa.int64()),
        ("retired", pa.bool_()),
        ("prior_rate", pa.float64()),
        ("expected_tokens", pa.float64()),
        *_ESTIMATES.items(),
        ("metadata", pa.string()),
    ]
)
_PICKED = {"n_rollouts": pa.int64(), "probability": pa.float64(), "round": pa.int64()}


def format_of(path: str | os.PathLike[str], given: str | None = None) -> str:
    """The format of an export: the one named, or what the file's name says.

    Raises:
        InvalidParameter: no such format, or the name says none, or a file that the format is not written to.

    >>> format_of("prompts.parquet"), format_of("-"), format_of("prompts.txt", "csv")
    ('parquet', 'jsonl', 'csv')
    """
    if given is not None and given not in FORMATS:
        message = f'there is no format "{given}"; formats: {", ".join(FORMATS)}'
        raise InvalidParameter(message, hint=did_you_mean(given, FORMATS))
    if given in TRAINERS:
        file_of(path, given)
        return given
    found = given or ("jsonl" if is_standard(path) else _SUFFIXES.get(Path(path).suffix.casefold()))
    if found is None:
        raise InvalidParameter(
            f"{os.fspath(path)} does not say which format it should have",
            hint=f"end its name in one of {', '.join(_SUFFIXES)}, or give --format",
        )
    if is_standard(path) and found != "jsonl":
        raise InvalidParameter(f"standard output takes jsonl; {found} needs a file")
    return found


def export_prompts(
    store: PromptStore,
    path: str | os.PathLike[str],
    *,
    prompt_ids: Ints | None = None,
    picks: Sequence[Pick] | None = None,
    estimates: pl.DataFrame | None = None,
    format: str | None = None,  # noqa: A002  as on the command line
    split: str | None = None,
) -> int:
    """Write prompts; gives their number. A file appears as a whole or not at all.

    As "jsonl", "csv" or "parquet" with their estimates and metadata: JSON Lines hold chat messages and metadata as they
    are, the others as JSON in a text. As "trl", "verl", "openrlhf" or "slime" in the form that trainer reads (see
    docs/export.md); prompts that are retired or belong to another split are left out then, but for picked ones.

    Args:
        store: an open store.
        path: the file, or "-" for standard output.
        prompt_ids: which prompts; all of them by default. They are written in order of their ids.
        picks: in place of that, prompts that were picked, as ``read_picks`` gives them; written in their order, with
            their numbers of rollouts and rounds (for trainers, where all of them have one).
        estimates: as ``curri.analysis.estimate_prompts`` gives them; prompts that it leaves out have none.
        format: one of ``FORMATS``; by default what the file's name says.
        split: only prompts of this split that are not retired; for trainers "train" where there are no picks.

    Raises:
        InvalidParameter: no such format, or a file that a trainer does not read.
        UnknownPrompt: an id does not exist.
        InvalidInput: it would overwrite the store.
        InvalidData: the file cannot be written, or cannot hold a prompt.
    """
    kind = format_of(path, format)
    if picks is not None:
        ids = np.array([pick.prompt_id for pick in picks], dtype=np.int64)
    else:
        ids = np.arange(1, len(store.prompts) + 1) if prompt_ids is None else np.unique(prompt_ids)
    store.prompts.refuse_unknown(ids)
    _spare_the_store(store, path)
    if picks is None and kind in TRAINERS:
        split = split or "train"
    if split is not None:
        ids = _only(store, ids, split)
    known = None if estimates is None else estimates.select("prompt_id", *_ESTIMATES).to_arrow()
    if kind in TRAINERS:
        told = picks if picks is not None and all(pick.n_rollouts is not None for pick in picks) else None
        rows = _rows(store, ids, None, told)
        return _write_for_trainer(store, ids, rows, path, trainer=kind, picked=told is not None)
    rows = _rows(store, ids, known, picks)
    if kind == "jsonl":
        return write_jsonl(rows, path)
    schema = _SCHEMA if picks is None else pa.schema([*_SCHEMA, *_PICKED.items()])
    with _draft(Path(path)) as draft:
        if kind == "csv":
            return _write_csv(rows, draft, schema.names)
        return _write_parquet((_flat(row) for row in rows), draft, schema)


def _only(store: PromptStore, ids: Ints, split: str) -> Ints:
    """Those of the prompts that are in a split and not retired, ascending."""
    found = store.connection.arrow(_ONLY, [split], asked=pa.table({"wanted": ids}))
    return np.asarray(found.column("prompt_id").to_numpy(), dtype=np.int64)


def _write_for_trainer(
    store: PromptStore,
    ids: Ints,
    rows: Iterator[dict[str, Any]],
    path: str | os.PathLike[str],
    *,
    trainer: str,
    picked: bool,
) -> int:
    form = TRAINERS[trainer]
    chat = form.chat == "always" or (form.chat == "together" and _any_chat(store, ids))
    to_parquet = file_of(path, trainer) == "parquet"

    def made() -> Iterator[dict[str, Any]]:
        for row in rows:
            if chat:
                messages = as_messages(row["prompt"])
                row["prompt"] = plain_messages(row["prompt_id"], messages) if to_parquet else messages
            yield form.row(row)

    if not to_parquet or form.schema is None:
        return write_jsonl(made(), path)
    with _draft(Path(path)) as draft:
        return _write_parquet(made(), draft, form.schema(MESSAGES if chat else pa.string(), picked))


def _any_chat(store: PromptStore, ids: Ints) -> bool:
    sql = "select coalesce(bool_or(is_chat), false) as chat from asked join prompts on prompt_id = wanted"
    return bool(store.connection.arrow(sql, asked=pa.table({"wanted": ids})).column("chat")[0].as_py())


def _spare_the_store(store: PromptStore, path: str | os.PathLike[str]) -> None:
    file = Path(path)
    if not is_standard(path) and file.exists() and store.path.exists() and file.samefile(store.path):
        raise InvalidInput(f"{file} is the store itself; name another file")


def _rows(
    store: PromptStore, ids: Ints, known: pa.Table | None, picks: Sequence[Pick] | None
) -> Iterator[dict[str, Any]]:
    extras = {} if picks is None else {pick.prompt_id: pick._asdict() for pick in picks}
    for first in range(0, ids.size, _CHUNK):
        part = ids[first : first + _CHUNK]
        found = store.connection.arrow(_PROMPTS, asked=pa.table({"wanted": part, "place": np.arange(part.size)}))
        estimated = _estimates_of(known, part)
        for row in found.to_pylist():
            is_chat, metadata = row.pop("is_chat"), row.pop("metadata")
            row["prompt"] = json.loads(row["prompt"]) if is_chat else row["prompt"]
            values = {**row, **estimated.get(row["prompt_id"], {}), "metadata": json.loads(metadata or "{}")}
            yield {name: values.get(name) for name in _SCHEMA.names} | extras.get(row["prompt_id"], {})


def _estimates_of(known: pa.Table | None, ids: Ints) -> dict[int, dict[str, Any]]:
    """Estimates by prompt id; the table is in order of ids."""
    if known is None:
        return {}
    all_ids = known.column("prompt_id").to_numpy()
    first, last = np.searchsorted(all_ids, [ids.min(), ids.max() + 1])
    mine = np.isin(all_ids[first:last], ids)
    return {row.pop("prompt_id"): row for row in known.slice(first, last - first).filter(pa.array(mine)).to_pylist()}


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row in which every value is plain."""
    prompt = row["prompt"] if isinstance(row["prompt"], str) else compact_json(row["prompt"])
    return {**row, "prompt": prompt, "metadata": compact_json(row["metadata"]) if row["metadata"] else None}


def _write_csv(rows: Iterator[dict[str, Any]], path: Path, names: Sequence[str]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        for row in rows:
            writer.writerow([_cell(value) for value in _flat(row).values()])
            count += 1
    return count


def _cell(value: Any) -> Any:
    return ("false", "true")[value] if isinstance(value, bool) else value


def _write_parquet(rows: Iterator[dict[str, Any]], path: Path, schema: pa.Schema) -> int:
    import pyarrow.parquet as pq

    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        for chunk in _chunks(rows):
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
            count += len(chunk)
    return count


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


@contextlib.contextmanager
def _draft(file: Path) -> Iterator[Path]:
    """A file beside the wanted one, which takes its place when all went well."""
    draft = draft_of(file)
    try:
        if file.exists() and not file.is_file():
            raise InvalidData(f"{file} cannot be written: it is no plain file")
        yield draft
        draft.replace(file)
    except OSError as error:
        raise InvalidData(f"{file} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
