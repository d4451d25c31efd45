"""Which prompt of the store a row means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curri.errors import InvalidData, InvalidInput, UnknownPrompt
from curri.exchange.fields import INT64, integer
from curri.exchange.ingest import as_text, prompt_text
from curri.exchange.jsonl import described
from curri.store import NewPrompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from curri.exchange.jsonl import Row
    from curri.store import PromptStore

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Reference:
    """How a row names its prompt.

    Attributes:
        column: one of ``NAMED_BY``.
        value: the store's id, the user's own id, or the canonical prompt.
        is_chat: whether the prompt is chat messages.
        answer: the prompt's answer, for prompts that differ in it only; None where the row has none.
        rendered: the text may also be that of the last message of a chat.
    """

    column: str
    value: int | str
    is_chat: bool = False
    answer: str | None = None
    rendered: bool = False

    def __str__(self) -> str:
        shown = self.value if isinstance(self.value, int) else described(self.value)
        return f"{self.column} {shown if len(str(shown)) <= _SHOWN else str(shown)[:_SHOWN] + '…'}"


def reference(row: Row, *, rendered: bool = False) -> Reference:
    """How a row names its prompt.

    Args:
        row: with one of ``NAMED_BY``.
        rendered: its prompt may be the last message of a chat.

    Raises:
        InvalidData: it does not, or not in a usable way.
    """
    value = row.value or {}
    if value.get("prompt_id") is not None:
        return Reference("prompt_id", integer("prompt_id", value["prompt_id"], low=0, high=INT64))
    if value.get("id") is not None:
        if isinstance(value["id"], (list, dict)):
            raise InvalidData(f'"id" must be a text or a number; got {described(value["id"])}')
        return Reference("id", as_text(row, "id") or "")
    if "prompt" in value:
        text, is_chat = prompt_text(value, "prompt")
        return Reference("prompt", text, is_chat, as_text(row, "answer"), rendered and not is_chat)
    raise InvalidData('no column names the prompt; one of "prompt_id", "id", "prompt" must')


def find_prompts(store: PromptStore, references: Sequence[Reference]) -> list[int | str]:
    """For each reference the prompt's id, or the reason why there is none.

    Args:
        store: an open store.
        references: any number, of any kind.
    """
    found: dict[Reference, int | str] = {}
    for column, find in (("prompt_id", _by_id), ("id", _by_external_id), ("prompt", _by_text)):
        asked = [entry for entry in dict.fromkeys(references) if entry.column == column]
        if asked:
            found |= dict(zip(asked, find(store, asked), strict=True))
    return [found[entry] for entry in references]


def find_prompt(store: PromptStore, name: str, *, own_id: bool = False) -> int:
    """The prompt that a user means by a store id or by their own id.

    Args:
        store: an open store.
        name: digits are taken for a store id where there is one.
        own_id: take it for the user's own id in any case.

    Raises:
        UnknownPrompt: there is none.
        InvalidInput: it may be one prompt or another.
    """
    own = find_prompts(store, [Reference("id", name)])[0]
    number = int(name) if name.isascii() and name.isdigit() and len(name) < 19 and not own_id else 0
    known = bool(store.prompts.known(np.array([number]))[0])
    if known and isinstance(own, int) and own != number:
        raise InvalidInput(
            f"{name} is the store id of one prompt and your own id of another, {own}",
            hint=f"name the second one by its store id, {own}, or say --own-id",
        )
    if known:
        return number
    if isinstance(own, int):
        return own
    raise UnknownPrompt(
        f'no prompt has the store id or the own id "{name}" ({own})', hint="`curri select` prints store ids"
    )


def _by_id(store: PromptStore, asked: Sequence[Reference]) -> list[int | str]:
    ids = np.array([entry.value for entry in asked], dtype=np.int64)
    known = store.prompts.known(ids)
    total = len(store.prompts)
    return [
        int(prompt_id) if good else f"prompt_id {prompt_id} is not in the store, which has {total} prompts"
        for prompt_id, good in zip(ids.tolist(), known.tolist(), strict=True)
    ]


def _by_external_id(store: PromptStore, asked: Sequence[Reference]) -> list[int | str]:
    found = store.prompts.ids_by_external_id([str(entry.value) for entry in asked])
    return _named(store, asked, [found.get(str(entry.value)) for entry in asked], "external_id", "say prompt_id")


def _by_text(store: PromptStore, asked: Sequence[Reference]) -> list[int | str]:
    unique = store.prompts.ids_by_text([str(entry.value) for entry in asked])
    found = [unique.get(str(entry.value)) for entry in asked]
    with_answer = [i for i, entry in enumerate(asked) if found[i] is None and entry.answer is not None]
    if with_answer:
        prompts = [NewPrompt(str(asked[i].value), asked[i].is_chat, asked[i].answer, "") for i in with_answer]
        for i, prompt_id in zip(with_answer, store.prompts.ids_of(prompts).tolist(), strict=True):
            found[i] = prompt_id or None
    rendered = [i for i, entry in enumerate(asked) if found[i] is None and entry.rendered]
    said = _by_last_message(store, [str(asked[i].value) for i in rendered]) if rendered else {}
    for i in rendered:
        found[i] = said.get(str(asked[i].value), (None, 0))[0]
    answers = _named(store, asked, found, "prompt", "say prompt_id, id or the answer")
    for i in rendered:
        chats = said.get(str(asked[i].value), (None, 0))[1]
        if chats > 1:
            answers[i] = f"{asked[i]} is the last message of {chats} chats of the store; say prompt_id or id"
    return answers


def _by_last_message(store: PromptStore, texts: Sequence[str]) -> dict[str, tuple[int | None, int]]:
    """For texts that are the last message of chats: the prompt's id, None where there are several, and how many."""
    asked = pa.table({"name": pa.array(list(dict.fromkeys(texts)), pa.string())})
    table = store.connection.arrow(
        """with chats as (select prompt_id, prompt ->> '$[#-1].content' as said from prompts where is_chat)
           select name, min(prompt_id) as prompt_id, count(*) as n
           from asked join chats on said = name group by name""",
        asked=asked,
    )
    return {row["name"]: (row["prompt_id"] if row["n"] == 1 else None, int(row["n"])) for row in table.to_pylist()}


def _named(
    store: PromptStore, asked: Sequence[Reference], found: Sequence[int | None], column: str, remedy: str
) -> list[int | str]:
    """Reasons in place of the ids that were not found."""
    missing = [entry for entry, prompt_id in zip(asked, found, strict=True) if prompt_id is None]
    counts = _counts(store, column, missing) if missing else {}
    return [
        prompt_id if prompt_id is not None else _reason(entry, counts.get(entry.value, 0), remedy)
        for entry, prompt_id in zip(asked, found, strict=True)
    ]


def _reason(entry: Reference, count: int, remedy: str) -> str:
    if count:
        return f"{entry} stands for {count} prompts of the store; {remedy}"
    return f"{entry} is not in the store"


def _counts(store: PromptStore, column: str, missing: Sequence[Reference]) -> dict[Any, int]:
    wanted = pa.table({"name": pa.array(list(dict.fromkeys(str(entry.value) for entry in missing)), pa.string())})
    table = store.connection.arrow(
        f"select name, count(*) as n from wanted join prompts on {column} = name group by name",  # noqa: S608  our own
        wanted=wanted,
    )
    return dict(zip(table.column("name").to_pylist(), table.column("n").to_pylist(), strict=True))
