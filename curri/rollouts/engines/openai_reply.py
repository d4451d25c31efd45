"""What an OpenAI-compatible server sent, as responses; nothing of it is taken on trust."""

from __future__ import annotations

import json
import math
from typing import Any

from curri.types import LARGEST_COUNT, Generated

_SHOWN = 300
_LOOKED_AT = 1 << 16
"""Characters of a text that are looked at: many more than are shown, so that no secret is cut before it is found."""


class BadReply(Exception):
    """A reply that holds no response; says why, not yet fit to be shown."""


def shown(text: object, secret: str = "") -> str:
    r"""What a server said, as a short text that neither steers a terminal nor holds a secret.

    >>> shown("no \x1b[31m key sk-1", "sk-1")
    'no  [31m key ***'
    """
    plain = str(text)[:_LOOKED_AT]
    plain = plain.replace(secret, "***") if secret else plain
    plain = "".join(character if character.isprintable() else " " for character in plain).strip()
    return plain if len(plain) <= _SHOWN else plain[:_SHOWN] + " …"


def document(body: bytes) -> dict[str, Any]:
    """A reply's body as a JSON object.

    Raises:
        BadReply: it is none.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise BadReply(f"the server answered with something that is not JSON: {_decoded(body)}") from None
    if not isinstance(value, dict):
        raise BadReply("the server answered with JSON that is no object")
    return value


def _decoded(body: bytes) -> str:
    return body[:_LOOKED_AT].decode("utf-8", "replace")


def error_message(body: bytes) -> str:
    """What an error reply says, or ""; not yet fit to be shown."""
    try:
        value = document(body)
    except BadReply:
        return _decoded(body)
    found = value.get("error", value.get("message", value.get("detail", "")))
    if isinstance(found, dict):
        found = found.get("message", "")
    return str(found)


def responses(body: bytes, *, asked: int) -> list[Generated]:
    """The responses of a reply, at most ``asked``, in the order of their numbers.

    Token counts come from token ids, else from log probabilities, else from the reply's ``usage``. The latter counts
    all choices together; it is then shared out by length of text, and ``extras["tokens"]`` is "estimated".

    Raises:
        BadReply: there is none.
    """
    value = document(body)
    if value.get("error"):
        raise BadReply(f"the server answered with an error: {error_message(body)}")
    choices = value.get("choices")
    if not isinstance(choices, list):
        raise BadReply('the server answered without "choices"')
    usable = [choice for choice in choices if isinstance(choice, dict) and _text(choice) is not None]
    if not usable:
        raise BadReply("the server answered with no choice that has a text")
    usable.sort(key=lambda choice: _count(choice.get("index")) or 0)
    found = [_generated(choice) for choice in usable]
    return _with_counts(found, value)[:asked]


def _text(choice: dict[str, Any]) -> str | None:
    """What was said; "" where a model only thought."""
    message = choice.get("message")
    if isinstance(message, dict):
        content = message.get("content")
        return "" if content is None else content if isinstance(content, str) else None
    text = choice.get("text")
    return text if isinstance(text, str) else None


def _generated(choice: dict[str, Any]) -> Generated:
    message = choice.get("message") if isinstance(choice.get("message"), dict) else {}
    finish = choice.get("finish_reason")
    finish = finish if isinstance(finish, str) else ""
    token_ids = _token_ids(choice.get("token_ids"))
    logprobs = _logprobs(choice.get("logprobs"))
    counted = token_ids if token_ids is not None else logprobs
    extras = {}
    for name in ("reasoning", "reasoning_content", "refusal"):
        if isinstance(message, dict) and isinstance(message.get(name), str) and message[name]:
            extras[name] = message[name]
    return Generated(
        text=_text(choice) or "",
        tokens=None if counted is None else len(counted),
        truncated=finish == "length",
        finish=shown(finish),
        token_ids=token_ids,
        logprobs=logprobs,
        extras=extras,
    )


def _with_counts(found: list[Generated], value: dict[str, Any]) -> list[Generated]:
    usage = value.get("usage")
    total = _count(usage.get("completion_tokens")) if isinstance(usage, dict) else None
    if total is None or all(response.tokens is not None for response in found):
        return found
    if len(found) == 1:
        return [_counted(found[0], total)]
    lengths = [len(response.text) + sum(map(len, response.extras.values())) + 1 for response in found]
    ends = [total * sum(lengths[: i + 1]) // sum(lengths) for i in range(len(found))]
    shares = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    return [_counted(response, share, estimated=True) for response, share in zip(found, shares, strict=True)]


def _counted(response: Generated, tokens: int, *, estimated: bool = False) -> Generated:
    extras = {**response.extras, "tokens": "estimated"} if estimated else response.extras
    return Generated(
        text=response.text,
        tokens=tokens,
        truncated=response.truncated,
        finish=response.finish,
        token_ids=response.token_ids,
        logprobs=response.logprobs,
        extras=extras,
    )


def _count(value: Any) -> int | None:
    fine = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT
    return value if fine else None


def _token_ids(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list) or any(_count(token) is None for token in value):
        return None
    return tuple(value)


def _logprobs(value: Any) -> tuple[float, ...] | None:
    """Of chat (``content``) or of completions (``token_logprobs``)."""
    if not isinstance(value, dict):
        return None
    found = value.get("token_logprobs")
    if isinstance(value.get("content"), list):
        found = [entry.get("logprob") if isinstance(entry, dict) else None for entry in value["content"]]
    if not isinstance(found, list) or not all(isinstance(entry, (int, float)) for entry in found):
        return None
    numbers = tuple(float(entry) for entry in found)
    return numbers if all(map(math.isfinite, numbers)) else None
