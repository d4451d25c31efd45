"""Files of prompts into the store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curri.errors import InvalidData, InvalidInput, UnknownName
from curri.exchange.jsonl import (
    Progress,
    RejectedRows,
    canonical_json,
    compact_json,
    described,
    dumped,
    is_standard,
    literal,
    parse,
)
from curri.exchange.loading import CHUNK, CHUNK_BYTES, IngestReport, PromptLoader
from curri.exchange.sources import HUB, is_hub, open_rows
from curri.store import NewPrompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from curri.exchange.jsonl import Row
    from curri.store import PromptStore

_PROMPT_LIKE = ("question", "problem", "query", "instruction", "input", "messages", "conversations", "text")
_ANSWER_LIKE = ("solution", "ground_truth", "target", "label", "gold", "expected_answer", "final_answer", "output")


_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant"}
_ANSWERED = '"role":"assistant"}]'
"""How the canonical text of a chat ends whose last message is the assistant's."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a file holds what; all others become metadata.

    Attributes:
        prompt: a text or a list of chat messages.
        answer: the reference answer; of any JSON type, kept as text.
        arm: the prompt's distribution.
        id: the user's own id.
        split: "train" or missing for training; prompts of any other are never selected.
    """

    prompt: str = "prompt"
    answer: str = "answer"
    arm: str = "arm"
    id: str = "id"
    split: str = "split"

    def __post_init__(self) -> None:
        names = self.names()
        for option, name in names.items():
            twins = [other for other, present in names.items() if present == name and other != option]
            if twins:
                raise InvalidInput(f'column "{name}" cannot hold both {option} and {twins[0]}')

    def names(self) -> dict[str, str]:
        """What they hold → the column's name."""
        return {"prompt": self.prompt, "answer": self.answer, "arm": self.arm, "id": self.id, "split": self.split}


DEFAULT_COLUMNS = Columns()


def ingest_file(
    store: PromptStore,
    path: str | os.PathLike[str],
    *,
    form: str | None = None,
    prompt_column: str = "prompt",
    answer_column: str = "answer",
    arm_column: str = "arm",
    id_column: str = "id",
    split_column: str = "split",
    chat_json: bool = False,
    default_arm: str | None = None,
    rejected: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
    chunk: int = CHUNK,
) -> IngestReport:
    """Add the prompts of a file.

    Every chunk is one transaction: whoever stops in the middle has a usable store, and the same call finishes the rest.
    Doing it twice changes nothing. A row that cannot be used goes to ``FILE.rejected.jsonl`` with its number and
    reason, and the others are loaded. Types are declared, never guessed: a text stays that text, and an answer that is
    a number keeps its digits ("1e5" stays "1e5").

    Args:
        store: an open store.
        path: the file, "-" for standard input, a folder saved by ``datasets``, or ``hf:NAME?split=train&config=…``.
        form: the format, one of ``Format``; by default what the name says.
        prompt_column: holds a text, or a list of chat messages.
        answer_column: holds the reference answer.
        arm_column: holds the name of the prompt's distribution.
        id_column: holds your own id.
        split_column: holds "train", or the name of a split to keep out of ``select``.
        chat_json: the prompt column holds chat messages as JSON text.
        default_arm: of rows without an arm; by default the file's name without its suffix.
        rejected: where refused rows go.
        progress: called after every chunk.
        chunk: prompts of one transaction.

    Returns:
        counts of what became of the rows.

    Raises:
        InvalidData: the file cannot be read.
        UnknownName: a named column is not in the file.
        MissingExtra: ``datasets`` is needed and not installed.
    """
    columns = Columns(prompt_column, answer_column, arm_column, id_column, split_column)
    arm = default_arm or _arm_of_file(path)
    loader, last = PromptLoader(store), store.prompts.last_id
    n_rows = n_answered = 0
    notes: list[str] = []
    with open_rows(path, form) as rows, RejectedRows(path, rejected, unit=rows.unit) as refused:
        source = _parsed_chats(rows, columns.prompt) if chat_json else iter(rows)
        for number, part in enumerate(_chunks(source, columns, arm, chunk)):
            if number == 0:
                notes += _check_columns(rows.name, columns, dict.fromkeys(rows.columns) | part.columns)
            for row, reason in part.refused:
                refused.add(row, reason)
            loader.add(part.lines, part.prompts)
            n_rows += len(part.lines) + len(part.refused)
            n_answered += sum(prompt.is_chat and prompt.prompt.endswith(_ANSWERED) for prompt in part.prompts)
            if progress is not None:
                progress(Progress(rows.done, rows.total, n_rows))
        notes += rows.notes
    if n_answered:
        notes.append(
            f"{n_answered} of the prompts end with a message of the assistant: is that their answer? "
            "the model will see it"
        )
    n_shared, example = store.prompts.shared_external_ids(after=last) if loader.counts["added"] else (0, None)
    if n_shared:
        notes.append(
            f'{n_shared} of the ids stand for several prompts, such as "{example}": results that name a prompt by such '
            "an id are refused, so give every prompt an id of its own, or name them by prompt_id"
        )
    return IngestReport(
        source=rows.name,
        rows=n_rows,
        **loader.counts,
        other_arm_examples=tuple(loader.examples),
        rejected=refused.count,
        rejected_path=refused.path if refused.count else None,
        rejected_examples=tuple(refused.examples),
        arms=loader.arms,
        notes=tuple(notes),
        unit=rows.unit,
    )


def ingest_jsonl(store: PromptStore, path: str | os.PathLike[str], **options: Any) -> IngestReport:
    """Add the prompts of a JSON Lines file, whatever its name: :func:`ingest_file` with ``form="jsonl"``."""
    return ingest_file(store, path, form="jsonl", **options)


def _arm_of_file(path: str | os.PathLike[str]) -> str:
    if is_standard(path):
        return "default"
    name = os.fspath(path)
    stem = Path(name.removeprefix(HUB).partition("?")[0]).name if is_hub(path) else Path(name).resolve().stem
    return os.fsencode(stem).decode(errors="backslashreplace") or "default"


def _parsed_chats(rows: Iterable[Row], column: str) -> Iterator[Row]:
    """Rows with the prompt parsed, where it is JSON text."""
    for row in rows:
        text = (row.value or {}).get(column)
        if row.value is None or not isinstance(text, str):
            yield row
            continue
        try:
            messages = parse(text.encode())
        except InvalidData as error:
            yield row._replace(value=None, reason=f'"{column}": {error.message}')
            continue
        if isinstance(messages, list):
            yield row._replace(value=row.value | {column: messages})
        else:
            yield row._replace(value=None, reason=f'"{column}" must hold chat messages; got {described(messages)}')


class _Chunk:
    """Rows of one transaction, and the names of the columns that were seen in them."""

    def __init__(self) -> None:
        self.lines: list[int] = []
        self.prompts: list[NewPrompt] = []
        self.refused: list[tuple[Row, str]] = []
        self.columns: dict[str, None] = {}
        self.n_bytes = 0


def _chunks(rows: Iterable[Row], columns: Columns, arm: str, size: int) -> Iterator[_Chunk]:
    part = _Chunk()
    for row in rows:
        if row.value is None:
            part.refused.append((_shortened(row), row.reason))
        else:
            part.columns.update(dict.fromkeys(row.value))
            try:
                part.prompts.append(new_prompt(row, columns, arm))
                part.lines.append(row.number)
            except InvalidData as error:
                part.refused.append((_shortened(row), error.message))
        part.n_bytes += len(row.raw)
        if len(part.prompts) + len(part.refused) >= size or part.n_bytes >= CHUNK_BYTES:
            yield part
            part = _Chunk()
    yield part


def _shortened(row: Row) -> Row:
    return row._replace(value=None, raw=row.raw[:2000])


def new_prompt(row: Row, columns: Columns = DEFAULT_COLUMNS, default_arm: str = "default") -> NewPrompt:
    """The prompt that a row holds.

    Raises:
        InvalidData: says what is wrong with the row.
    """
    value = row.value or {}
    named = set(columns.names().values())
    text, is_chat = prompt_text(value, columns.prompt)
    return NewPrompt(
        prompt=text,
        is_chat=is_chat,
        answer=as_text(row, columns.answer),
        arm=_label(row, columns.arm) or default_arm,
        external_id=_label(row, columns.id),
        metadata=_metadata({name: entry for name, entry in value.items() if name not in named}),
        split=_label(row, columns.split),
    )


def prompt_text(value: dict[str, Any], column: str) -> tuple[str, bool]:
    """A prompt in its canonical form, and whether it is chat messages.

    Raises:
        InvalidData: missing, blank, or neither a text nor chat messages.
    """
    if column not in value:
        raise InvalidData(f'no column "{column}"')
    prompt = value[column]
    if isinstance(prompt, str):
        if not prompt.strip():
            raise InvalidData(f'"{column}" is empty')
        return prompt, False
    if isinstance(prompt, list):
        messages = [_with_role(message) for message in prompt]
        _check_messages(messages, column)
        return dumped(messages, column, canonical_json), True
    raise InvalidData(f'"{column}" must be a text or a list of chat messages; got {described(prompt)}')


def _with_role(message: Any) -> Any:
    """A message in the spelling {"from": "human", "value": …} in the usual one; any other as it is."""
    if not isinstance(message, dict) or message.keys() != {"from", "value"}:
        return message
    return {"role": _ROLES.get(str(message["from"]), message["from"]), "content": message["value"]}


def _check_messages(messages: list[Any], column: str) -> None:
    for place, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            wrong = f"is {described(message)}, not an object"
        elif not isinstance(message.get("role"), str):
            wrong = f'needs a text as "role"; got {described(message.get("role"))}'
        elif not isinstance(message.get("content"), (str, list)):
            wrong = f'needs a text or a list as "content"; got {described(message.get("content"))}'
        else:
            continue
        raise InvalidData(f'"{column}" must be a text or chat messages; message {place} {wrong}')
    if not any(message["content"].strip() if isinstance(message["content"], str) else message["content"]
               for message in messages):  # fmt: skip
        raise InvalidData(f'"{column}" is empty')


def as_text(row: Row, column: str) -> str | None:
    """A value of any JSON type as text: a text as it is, a number with its digits, null as None.

    Raises:
        InvalidData: it cannot be spelled out again.
    """
    value = (row.value or {}).get(column)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return literal(row.raw, column)
    return dumped(value, column, canonical_json)


def _label(row: Row, column: str) -> str | None:
    """A name or an id; None where it is missing or blank."""
    if isinstance((row.value or {}).get(column), (list, dict)):
        raise InvalidData(f'"{column}" must be a text or a number; got {described((row.value or {})[column])}')
    text = as_text(row, column)
    return text if text and text.strip() else None


def _metadata(value: dict[str, Any]) -> str:
    return dumped(value, None, compact_json) if value else ""


def _check_columns(name: str, columns: Columns, present: dict[str, None]) -> tuple[str, ...]:
    """Refuse column names that no row of the first chunk has; gives what to tell the user besides."""
    if not present:
        return ()
    for holds, column in columns.names().items():
        named = column != getattr(DEFAULT_COLUMNS, holds)
        if column not in present and (named or holds == "prompt"):
            raise _no_column(name, columns, holds, present)
    if columns.answer in present:
        return ()
    near = next((other for other in _ANSWER_LIKE if other in present), None)
    if near is None:
        return ()
    return (
        f'no row has a column "{columns.answer}", so the prompts have no answers; was --answer-column {near} meant?',
    )


def _no_column(name: str, columns: Columns, holds: str, present: dict[str, None]) -> UnknownName:
    column = columns.names()[holds]
    likely = [other for other in _PROMPT_LIKE if other in present] if holds == "prompt" else []
    near = next(iter(likely or get_close_matches(column, sorted(present), n=1, cutoff=0.5)), None)
    asked = f'did you mean "{near}"? ' if near else ""
    shown = ", ".join(f'"{other}"' for other in list(present)[:20])
    return UnknownName(
        f'{name} has no column "{column}"; its columns: {shown}',
        hint=f"{asked}say which column holds the {holds}: --{holds}-column {near or 'NAME'}",
    )
