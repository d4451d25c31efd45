"""``choice``: the letter of a choice, or its text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from curri.errors import InvalidParameter
from curri.parameters import choice, integer, text
from curri.rollouts.verifiers.base import NO_REFERENCE, NOT_FOUND, OptionVerifier, failed, scored
from curri.rollouts.verifiers.extraction import LONGEST, after_thinking, boxed, last_line, marked, tagged

if TYPE_CHECKING:
    from curri.types import Prompt, Score

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_IN_PROMPT = re.compile(r"^[ \t]*\(?([A-Z])[).:][ \t]+(\S.*)$", re.MULTILINE)
_NEAR_END = 2000
_PLACES = ("choices", "options")


@dataclass(eq=False, kw_only=True)
class Choice(OptionVerifier):
    """Right where the letter that the response settles on is that of the reference.

    Texts of the choices are taken from the prompt's metadata (``choices`` or ``options``: a list, a mapping of letters
    to texts, or ``{"label": […], "text": […]}``), or else from lines such as "A) Paris" in the prompt. With them both
    the reference and a marked answer may also be a choice's text.

    >>> from curri.types import Prompt
    >>> prompt = Prompt(1, "Capital of France?", "B", "geography", {"choices": ["Rome", "Paris"]})
    >>> [Choice().score(text, prompt).solved for text in ("The answer is (B).", "<answer>paris</answer>", "A")]
    [1.0, 1.0, 0.0]
    """

    kind: ClassVar[str] = "choice"
    quick: ClassVar[bool] = True

    letters: int = integer(default=5, low=2, high=26, doc="how many letters there are, from A on; 5 is A to E")
    extract: str = choice(
        default="auto",
        of=("auto", "tag", "boxed", "whole"),
        doc="where the answer stands; auto: <answer> tags, else \\boxed{}, else the last “answer is …”, "
        "else the last line, else the last letter that stands alone",
    )
    index: int = integer(default=-1, low=-1, high=1, doc="the reference is a number counted from 0 or 1; -1: it is not")
    field: str = text(default="", doc="the metadata that holds the texts of the choices; by default choices or options")

    def __post_init__(self) -> None:
        super().__post_init__()
        if "\0" in self.field:
            raise InvalidParameter("`field` of `Choice` must be a name; got one with a NUL byte")
        letters = _LETTERS[: self.letters]
        both = f"[{letters}{letters.lower()}]"
        wrapped = rf"[\s*_$(\[{{]*(?:\\(?:text|mathrm|mathbf|textbf)\{{)?[(\[]?({both})(?![A-Za-z0-9'’])"
        self._alone = re.compile(rf"(?:option|choice|answer(?: is)?:?)?{wrapped}[)\]}}.:*_$\s]*", re.IGNORECASE)
        self._led = re.compile(rf"{wrapped}(?:[).:\]*]+(?:\s.*)?)?", re.DOTALL)
        self._phrase = re.compile(
            rf"\b(?:answer|option|choice)\b(?:\s+(?:is|would be|must be|should be))?"
            rf"\s*(?:option|choice)?\s*[:=]?{wrapped}",
            re.IGNORECASE,
        )
        self._standing = re.compile(rf"(?<![A-Za-z0-9'’\\])([{letters}])(?![A-Za-z0-9'’])(?!\s+[a-z])")
        self._prompt: tuple[Prompt | None, dict[str, str], str | None] = (None, {}, None)

    def score(self, response: str, prompt: Prompt) -> Score:
        """Whether the response settles on the prompt's choice."""
        if prompt.answer is None:
            return NO_REFERENCE
        if self._prompt[0] is not prompt:
            texts = self._texts(prompt)
            self._prompt = (prompt, texts, self._reference(prompt.answer, texts))
        _, texts, reference = self._prompt
        if reference is None:
            return failed("unverifiable", f"the reference answer is none of the choices: {prompt.answer!r}")
        found = self._extracted(after_thinking(response), texts)
        return NOT_FOUND if found is None else scored(right=found == reference)

    def _reference(self, answer: str, texts: Mapping[str, str]) -> str | None:
        if self.index < 0:
            return self._settled(answer, texts)
        try:
            place = int(answer) - self.index
        except ValueError:
            return None
        return _LETTERS[place] if 0 <= place < self.letters else None

    def _extracted(self, response: str, texts: Mapping[str, str]) -> str | None:
        if self.extract == "whole":
            return self._settled(response, texts)
        if self.extract == "tag":
            return self._settled(tagged(response), texts)
        if self.extract == "boxed":
            return self._settled(boxed(response), texts)
        found = marked(response)
        return self._settled(found, texts) if found is not None else self._unmarked(response, texts)

    def _settled(self, answer: str | None, texts: Mapping[str, str]) -> str | None:
        """The letter that a marked answer names, or whose text it is."""
        if answer is None or len(answer) > LONGEST:
            return None
        answer = answer.strip()
        alone = self._alone.fullmatch(answer)
        if alone is not None:
            return alone[1].upper()
        letter = texts.get(_folded(answer))
        if letter is not None:
            return letter
        led = self._led.fullmatch(answer)
        return led[1] if led is not None and led[1].isupper() else None

    def _unmarked(self, response: str, texts: Mapping[str, str]) -> str | None:
        end = response[-_NEAR_END:]
        flat = " ".join(end.split())  # a pattern with several optional spaces is slow on many of them
        last = None
        for last in self._phrase.finditer(flat):  # noqa: B007  the last one is wanted
            pass
        if last is not None and (last[1].isupper() or not flat[last.end() : last.end() + 2].strip(" .)*")):
            return last[1].upper()
        settled = self._settled(last_line(end), texts)
        if settled is not None:
            return settled
        standing = self._standing.findall(end)
        return standing[-1] if standing else None

    def _texts(self, prompt: Prompt) -> dict[str, str]:
        """Text of each choice, made comparable → its letter; a text that two choices share is left out."""
        places = (self.field,) if self.field else _PLACES
        pairs = next((pairs for place in places if (pairs := _pairs(prompt.metadata.get(place)))), None)
        if pairs is None:
            pairs = _IN_PROMPT.findall(_text_of(prompt)[-LONGEST:])
        letters: dict[str, str] = {}
        shared = set()
        for letter, words in pairs:
            folded = _folded(words)
            shared |= {folded} & letters.keys()
            letters[folded] = letter
        return {words: letter for words, letter in letters.items() if words not in shared and letter in _LETTERS}


def _pairs(given: Any) -> list[tuple[str, str]]:
    """(letter, text) of choices in one of the forms that data sets have; [] where it is none of them."""
    if isinstance(given, Mapping) and isinstance(given.get("text"), list) and isinstance(given.get("label"), list):
        return [
            (str(letter).strip().upper(), str(words))
            for letter, words in zip(given["label"], given["text"], strict=False)
        ]
    if isinstance(given, Mapping):
        return [(str(letter).strip().upper(), str(words)) for letter, words in given.items()]
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [(letter, _bare(str(words), letter)) for letter, words in zip(_LETTERS, given, strict=False)]
    return []


def _bare(words: str, letter: str) -> str:
    """The text of a choice without its letter in front: "A) Paris" is "Paris"."""
    start = re.match(r"\(?([A-Z])[).:]\s+", words)
    return words[start.end() :] if start is not None and start[1] == letter else words


def _folded(words: str) -> str:
    return " ".join(words.split()).casefold().rstrip(".")


def _text_of(prompt: Prompt) -> str:
    if isinstance(prompt.prompt, str):
        return prompt.prompt
    contents = [message.get("content") for message in prompt.prompt]
    return "\n".join(content for content in contents if isinstance(content, str))
