"""Where in a response its answer stands.

Everything here takes time in proportion to the length of the text, whatever the text.
"""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 10_000
"""Characters of an answer; what is longer is none. Also how far from the end unmarked answers are looked for."""

_THOUGHT = "</think>"
_OPEN, _CLOSE = "<answer>", "</answer>"
_BOXED = "\\boxed"
_BRACE = re.compile(r"\\?[{}]")
_TRIES = 4


def after_thinking(response: str) -> str:
    """What follows the last ``</think>``; the whole response where there is none.

    >>> after_thinking("<think>5? no</think>6"), after_thinking("6")
    ('6', '6')
    """
    at = response.rfind(_THOUGHT)
    return response if at < 0 else response[at + len(_THOUGHT) :]


def tagged(text: str) -> str | None:
    """What the last ``<answer>…</answer>`` holds; None where there is none.

    >>> tagged("<answer>4</answer> or rather <answer> 5 </answer>")
    '5'
    """
    end = text.rfind(_CLOSE)
    start = text.rfind(_OPEN, 0, end) if end >= 0 else -1
    if start < 0:
        return None
    start += len(_OPEN)
    return None if end - start > LONGEST else text[start:end].strip()


def boxed(text: str) -> str | None:
    r"""What the last whole ``\boxed{…}`` holds; None where there is none.

    Of those near the end of the text, at most the last four are looked at.

    >>> boxed(r"so \boxed{\frac{1}{2}}, not \boxed{\frac{1}{")
    '\\frac{1}{2}'
    """
    end = len(text)
    for _ in range(_TRIES):
        at = text.rfind(_BOXED, 0, end)
        if at < 0:
            return None
        found = _braced(text, at + len(_BOXED))
        if found is not None:
            return found.strip()
        end = at
    return None


def _braced(text: str, start: int) -> str | None:
    while start < len(text) and text[start] == " ":
        start += 1
    if not text.startswith("{", start):
        return None
    depth = 0
    for brace in _BRACE.finditer(text, start, start + LONGEST + 2):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)  # \{ and \} are signs of the text
        if depth == 0:
            return text[start + 1 : brace.start()]
    return None


def marked(text: str) -> str | None:
    r"""The answer where it is marked as such: in ``<answer>`` tags, or else in ``\boxed{}``.

    >>> marked(r"<answer>\boxed{4}</answer>"), marked(r"\boxed{4}"), marked("4")
    ('4', '4', None)
    """
    inside = tagged(text)
    if inside is None:
        return boxed(text)
    found = boxed(inside)
    return inside if found is None else found


def last_line(text: str) -> str:
    r"""The last line that is not empty; at most ``LONGEST`` characters of it.

    >>> last_line("so\n it is 4 \n")
    'it is 4'
    """
    end = text[-LONGEST:].rstrip()
    return end[end.rfind("\n") + 1 :].strip()
