"""Rows of prompts in the form that a trainer reads, each with the prompt's id where the trainer hands it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from curri.errors import InvalidData, InvalidParameter
from curri.exchange.jsonl import compact_json, is_standard

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}


class Form(NamedTuple):
    """What a trainer reads.

    Attributes:
        files: the kinds of file, its usual one first.
        row: makes it of a prompt: a row of ``curri.exchange.export``, with its metadata as a mapping.
        schema: of Parquet, given the type of a prompt and whether picks are written; None where there is no Parquet.
        chat: "always" chat messages; "together", where one prompt is; "as is".
    """

    files: tuple[str, ...]
    row: Callable[[Mapping[str, Any]], dict[str, Any]]
    schema: Callable[[pa.DataType, bool], pa.Schema] | None
    chat: str


def as_messages(prompt: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A prompt as chat messages.

    >>> as_messages("1 + 1")
    [{'role': 'user', 'content': '1 + 1'}]
    """
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def plain_messages(prompt_id: int, messages: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Chat messages with a role and a text each, as Parquet files of trainers hold them.

    Raises:
        InvalidData: a message holds more than that.
    """
    for message in messages:
        if not all(isinstance(message.get(name), str) for name in ("role", "content")) or len(message) != 2:
            raise InvalidData(
                f"prompt {prompt_id} has a message that holds more than a role and a text, which this file cannot hold",
                hint="write a .jsonl where the trainer reads that, or leave the prompt out with --where",
            )
    return messages


# ---- one row a prompt, by trainer ------------------------------------------------------------------------------------


def _trl(row: Mapping[str, Any]) -> dict[str, Any]:
    """TRL hands every column but the prompt to reward functions; its own ones call the answer ``solution``."""
    names = ("prompt_id", "prompt", "answer", "arm", "split", "id")
    own = {"solution": row["answer"], "metadata": _text(row)}
    return {name: row[name] for name in names} | own | _picked(row)


def _trl_schema(prompt: pa.DataType, picked: bool) -> pa.Schema:  # noqa: FBT001  a fact of the file, as in all of these
    text = pa.string()
    return pa.schema(
        [("prompt_id", pa.int64()), ("prompt", prompt), ("answer", text), ("arm", text), ("split", text), ("id", text)]
        + [("solution", text), ("metadata", text)]
        + ([("n_rollouts", pa.int64()), ("round", pa.int64())] if picked else [])
    )


def _verl(row: Mapping[str, Any]) -> dict[str, Any]:
    """``verl`` chooses the reward by ``data_source``, and calls a prompt by the index in ``extra_info``."""
    metadata = row["metadata"]
    extra = {name: row[name] for name in ("prompt_id", "split", "arm", "id", "answer")}
    made: dict[str, Any] = {
        "data_source": _own_text(metadata, "data_source", row["arm"]),
        "prompt": as_messages(row["prompt"]),
        "ability": _own_text(metadata, "ability", row["arm"]),
        "reward_model": {"style": "rule", "ground_truth": row["answer"]},
        "extra_info": {"index": row["prompt_id"], **extra, "metadata": _text(row)},
    }
    if "n_rollouts" in row:
        made["extra_info"]["round"] = row["round"]
        made["__rollout_n__"] = row["n_rollouts"]
    return made


def _verl_schema(prompt: pa.DataType, picked: bool) -> pa.Schema:  # noqa: FBT001
    text, number = pa.string(), pa.int64()
    extra = [("index", number), ("prompt_id", number), ("split", text), ("arm", text), ("id", text), ("answer", text)]
    extra += [("metadata", text), *([("round", number)] if picked else [])]
    return pa.schema(
        [
            ("data_source", text),
            ("prompt", prompt),
            ("ability", text),
            ("reward_model", pa.struct([("style", text), ("ground_truth", text)])),
            ("extra_info", pa.struct(extra)),
            *([("__rollout_n__", number)] if picked else []),
        ]
    )


def _openrlhf(row: Mapping[str, Any]) -> dict[str, Any]:
    """OpenRLHF keeps input, label and datasource, so the id travels in the label."""
    label = {"prompt_id": row["prompt_id"], "answer": row["answer"]} | _picked(row)
    return {"input": row["prompt"], "label": compact_json(label), "datasource": row["arm"]}


def _openrlhf_schema(prompt: pa.DataType, *_: bool) -> pa.Schema:
    return pa.schema([("input", prompt), ("label", pa.string()), ("datasource", pa.string())])


def _slime(row: Mapping[str, Any]) -> dict[str, Any]:
    """``slime`` keeps a mapping of metadata with every sample."""
    own = {name: row[name] for name in ("prompt_id", "arm", "split", "id")}
    metadata = {**row["metadata"], **own, **_picked(row)}
    return {"prompt": row["prompt"], "label": row["answer"], "metadata": metadata}


TRAINERS: dict[str, Form] = {
    "trl": Form(("parquet", "jsonl"), _trl, _trl_schema, "together"),
    "verl": Form(("parquet",), _verl, _verl_schema, "always"),
    "openrlhf": Form(("jsonl", "parquet"), _openrlhf, _openrlhf_schema, "together"),
    "slime": Form(("jsonl",), _slime, None, "as is"),
}


def file_of(path: str | os.PathLike[str], trainer: str) -> str:
    """The kind of file that ``path`` is to be, for a trainer: "jsonl" or "parquet".

    Raises:
        InvalidParameter: the trainer does not read that.

    >>> file_of("batch.parquet", "verl"), file_of("-", "slime")
    ('parquet', 'jsonl')
    """
    files = TRAINERS[trainer].files
    found = "jsonl" if is_standard(path) else _SUFFIXES.get(Path(path).suffix.casefold())
    if found not in files:
        shown = "standard output" if is_standard(path) else Path(path).name
        suffixes = " or ".join(f".{kind}" for kind in files)
        raise InvalidParameter(f"{trainer} reads {suffixes}; got {shown}", hint=f"name a file that ends in {suffixes}")
    return found


def _picked(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("n_rollouts", "round") if name in row}


def _text(row: Mapping[str, Any]) -> str | None:
    """Metadata as JSON: its columns differ from prompt to prompt, those of a file may not."""
    return compact_json(row["metadata"]) if row["metadata"] else None


def _own_text(metadata: Mapping[str, Any], name: str, otherwise: str) -> str:
    value = metadata.get(name)
    return value if isinstance(value, str) and value else otherwise
