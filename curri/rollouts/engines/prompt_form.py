"""A stored prompt in the form that an engine takes: chat messages, or plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from curri.errors import InvalidInput, InvalidParameter

if TYPE_CHECKING:
    from curri.types import Prompt, Sampling

Api: TypeAlias = Literal["chat", "completions"]
"""Whether a model gets prompts as chat messages, through its chat template, or as they are."""


def check_api(api: str, sampling: Sampling | None = None) -> None:
    """Refuse what is not an API, and a system message where there is no chat.

    Raises:
        InvalidParameter: it is not one.
        InvalidInput: a system message would have no place.
    """
    if api not in get_args(Api):
        raise InvalidParameter(f'`api` must be "chat" or "completions"; got {api!r}')
    if api == "completions" and sampling is not None and sampling.system is not None:
        raise InvalidInput(
            "a system message needs a chat, and `completions` sends prompts as they are",
            hint="leave the system message out, or use --api chat",
        )


def messages(prompt: Prompt, system: str | None) -> list[dict[str, Any]]:
    """A prompt as chat messages; a text is one message of the user. A system message of its own stays the only one.

    >>> from curri.types import Prompt
    >>> [message["role"] for message in messages(Prompt(1, "1 + 1 = ?", "2", "sums", {}), "Be brief.")]
    ['system', 'user']
    """
    given = [{"role": "user", "content": prompt.prompt}] if isinstance(prompt.prompt, str) else prompt.prompt
    if system is None or any(message.get("role") == "system" for message in given):
        return given
    return [{"role": "system", "content": system}, *given]


def plain_text(prompt: Prompt) -> str | None:
    """A prompt as text; None for a chat, which only a chat template can turn into one."""
    return prompt.prompt if isinstance(prompt.prompt, str) else None


NO_TEXT = "the prompt is a chat, and `completions` takes texts only; use --api chat"
"""Why a chat cannot be completed."""
