"""``regex``: the response against a regular expression."""

from __future__ import annotations

import functools
import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from curri.errors import InvalidParameter
from curri.parameters import choice, text
from curri.rollouts.verifiers.base import NO_REFERENCE, NOT_FOUND, OptionVerifier, scored

if TYPE_CHECKING:
    from curri.types import Prompt, Score

_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE, "a": re.ASCII}
_ANSWER = "answer"
_QUOTED = "{answer}"


@dataclass(eq=False, kw_only=True)
class Pattern(OptionVerifier):
    r"""Right where the pattern is found in the response.

    ``{answer}`` in the pattern stands for the prompt's answer, letter by letter. Where the pattern has a group
    ``(?P<answer>…)``, what the last match of it holds must be the prompt's answer, spaces at the ends aside.

    Patterns are Python's. Some take exponential time on some responses, so this runs with a time limit.

    >>> from curri.types import Prompt
    >>> prompt = Prompt(1, "…", "12", "math", {})
    >>> form = Pattern(pattern=r"<answer>.+</answer>", match="anywhere", flags="s")
    >>> [form.score(text, prompt).solved for text in ("so: <answer>13</answer>", "13")]
    [1.0, 0.0]
    >>> final = Pattern(pattern=r"#### (?P<answer>\d+)")
    >>> [final.score(text, prompt).solved for text in ("#### 13", "#### 13, no, #### 12")]
    [0.0, 1.0]
    """

    kind: ClassVar[str] = "regex"

    pattern: str = text(default="", doc="the regular expression; it must be given")
    match: str = choice(default="anywhere", of=("anywhere", "start", "whole"), doc="where it must match")
    flags: str = text(
        default="", doc="letters: i ignores case, m lets ^ and $ match at lines, s lets . match newlines, x, a"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.pattern:
            raise InvalidParameter("`pattern` of `Pattern` must be given", hint="regex:pattern='#### (?P<answer>.+)'")
        unknown = sorted(set(self.flags) - _FLAGS.keys())
        if unknown:
            raise InvalidParameter(f"`flags` of `Pattern` must be letters of {''.join(_FLAGS)}; got {self.flags!r}")
        self._needs_answer = _QUOTED in self.pattern
        self._compiled = self._with("" if self._needs_answer else None)
        self._compares = _ANSWER in self._compiled.groupindex

    def _with(self, answer: str | None) -> re.Pattern[str]:
        pattern = self.pattern if answer is None else self.pattern.replace(_QUOTED, re.escape(answer))
        flags = functools.reduce(operator.or_, (_FLAGS[letter] for letter in self.flags), re.NOFLAG)
        try:
            return re.compile(pattern, flags)
        except (re.error, OverflowError, RecursionError) as error:
            message = f"`pattern` of `Pattern` must be a regular expression of Python; got {self.pattern!r}: {error}"
            raise InvalidParameter(message) from None

    def score(self, response: str, prompt: Prompt) -> Score:
        """Whether the pattern is found, and has the prompt's answer where it asks for one."""
        if prompt.answer is None and (self._needs_answer or self._compares):
            return NO_REFERENCE
        compiled = self._with(prompt.answer) if self._needs_answer else self._compiled
        if not self._compares:
            return scored(right=self._found(compiled, response) is not None)
        last = None
        if self.match == "anywhere":
            for last in compiled.finditer(response):  # noqa: B007  the last one is wanted
                pass
        else:
            last = self._found(compiled, response)
        if last is None or last[_ANSWER] is None:
            return NOT_FOUND
        return scored(right=last[_ANSWER].strip() == (prompt.answer or "").strip())

    def _found(self, compiled: re.Pattern[str], response: str) -> re.Match[str] | None:
        if self.match == "anywhere":
            return compiled.search(response)
        return compiled.match(response) if self.match == "start" else compiled.fullmatch(response)
