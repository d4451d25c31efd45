"""What ``curri select`` hands out: the file of picked prompts, written and read."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from curri.errors import InvalidData
from curri.exchange.fields import INT32, INT64, integer, number
from curri.exchange.jsonl import JsonLines, draft_of, is_standard

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from curri.types import Selection


def selection_rows(selection: Selection) -> Iterator[dict[str, Any]]:
    """A selection as JSON objects, one a prompt, in its order."""
    columns = (selection.prompts, selection.n_rollouts.tolist(), selection.probability.tolist())
    for prompt, n_rollouts, probability in zip(*columns, strict=True):
        yield {
            "prompt_id": prompt.prompt_id,
            "id": prompt.external_id,
            "prompt": prompt.prompt,
            "answer": prompt.answer,
            "arm": prompt.arm,
            "n_rollouts": n_rollouts,
            "probability": None if math.isnan(probability) else probability,
            "round": selection.ticket.round if selection.ticket.run else None,
            "metadata": dict(prompt.metadata),
        }


def write_selection(selection: Selection, path: str | os.PathLike[str]) -> int:
    """Write a selection as JSON Lines; gives the number of rows.

    A file appears as a whole or not at all.

    Args:
        selection: with a store behind it.
        path: the file, or "-" for standard output.

    Raises:
        InvalidData: the file cannot be written.
    """
    return write_jsonl(selection_rows(selection), path)


class Pick(NamedTuple):
    """One row of the file, as far as it says how the prompt was picked."""

    prompt_id: int
    n_rollouts: int | None
    probability: float | None
    round: int | None


def read_picks(path: str | os.PathLike[str]) -> list[Pick]:
    """The picks in a file of ``curri select``, in its order; only ``prompt_id`` must be there.

    Args:
        path: the file, or "-" for standard input.

    Raises:
        InvalidData: a row cannot be used, or names a prompt again.
    """
    picks: dict[int, Pick] = {}
    with JsonLines(path) as rows:
        for row in rows:
            try:
                pick = _pick(row.value, row.reason, picks)
            except InvalidData as error:
                message = f"line {row.number} of {rows.name}: {error.message}"
                raise InvalidData(message, hint="`curri select -n 512 -o FILE` writes such a file") from error
            picks[pick.prompt_id] = pick
    return list(picks.values())


def _pick(value: Mapping[str, Any] | None, reason: str, known: Mapping[int, Pick]) -> Pick:
    if value is None:
        raise InvalidData(reason)
    if value.get("prompt_id") is None:
        raise InvalidData('no column "prompt_id"')
    prompt_id = integer("prompt_id", value["prompt_id"], low=1, high=INT64)
    if prompt_id in known:
        raise InvalidData(f"prompt {prompt_id} is there twice")
    n_rollouts, probability, round_ = (value.get(name) for name in ("n_rollouts", "probability", "round"))
    return Pick(
        prompt_id,
        None if n_rollouts is None else integer("n_rollouts", n_rollouts, low=1, high=INT32),
        None if probability is None else number("probability", probability, low=0.0, high=1.0),
        None if round_ is None else integer("round", round_, low=0, high=INT32),
    )


def write_jsonl(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> int:
    """Write JSON objects, one a line; gives their number. A file appears as a whole or not at all.

    Args:
        rows: the objects.
        path: the file, or "-" for standard output. On a terminal, characters that could steer it are escaped.

    Raises:
        InvalidData: the file cannot be written.
    """
    if is_standard(path):
        return _write(rows, sys.stdout, ascii_only=sys.stdout.isatty())
    file = Path(path)
    draft = draft_of(file)
    try:
        if file.exists() and not file.is_file():  # a device or a pipe cannot be replaced
            with file.open("w", encoding="utf-8") as stream:
                return _write(rows, stream, ascii_only=False)
        with draft.open("w", encoding="utf-8") as stream:
            count = _write(rows, stream, ascii_only=False)
        draft.replace(file)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InvalidData(f"{file} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    return count


def _write(rows: Iterable[Mapping[str, Any]], stream: Any, *, ascii_only: bool) -> int:
    count = 0
    for row in rows:
        line = json.dumps(row, ensure_ascii=ascii_only, allow_nan=False)
        stream.write(line.replace("\x7f", "\\u007f") + "\n")
        count += 1
    return count
