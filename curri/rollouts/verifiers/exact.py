"""``exact``: the answer, letter by letter, after a stated normalisation."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from curri.parameters import choice
from curri.rollouts.verifiers.base import NO_REFERENCE, NOT_FOUND, OptionVerifier, scored
from curri.rollouts.verifiers.extraction import LONGEST, after_thinking, boxed, last_line, marked, tagged

if TYPE_CHECKING:
    from curri.types import Prompt, Score


@dataclass(eq=False, kw_only=True)
class Exact(OptionVerifier):
    r"""Right where the answer equals the reference as text.

    An answer of more than 10,000 characters is wrong, unless the reference is about as long.

    >>> from curri.types import Prompt
    >>> prompt = Prompt(1, "Capital of France?", "Paris", "geography", {})
    >>> Exact().score("I think so: \\boxed{Paris}", prompt).solved, Exact().score("paris", prompt).solved
    (1.0, 0.0)
    >>> Exact(case="ignore").score("paris", prompt).solved
    1.0
    """

    kind: ClassVar[str] = "exact"
    quick: ClassVar[bool] = True

    extract: str = choice(
        default="auto",
        of=("auto", "tag", "boxed", "last_line", "whole"),
        doc="where the answer stands; auto: <answer> tags, else \\boxed{}, else the whole response",
    )
    case: str = choice(default="keep", of=("keep", "ignore"), doc="whether capitals matter")
    spaces: str = choice(
        default="collapse",
        of=("collapse", "keep", "remove"),
        doc="white space: runs as one space and none at the ends, as it is, or none at all",
    )
    punctuation: str = choice(default="keep", of=("keep", "ignore"), doc="whether punctuation marks matter")
    unicode: str = choice(default="keep", of=("keep", "nfkc"), doc="whether characters of equal meaning are made equal")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._reference: tuple[str, str] = ("", "")

    def score(self, response: str, prompt: Prompt) -> Score:
        """Whether the response's answer is the prompt's."""
        if prompt.answer is None:
            return NO_REFERENCE
        found = self._extracted(after_thinking(response))
        if found is None:
            return NOT_FOUND
        if self._reference[0] is not prompt.answer:
            self._reference = (prompt.answer, self.normalised(prompt.answer))
        if len(found) > LONGEST and self.spaces != "keep":
            found = " ".join(found.split())
        if len(found) > max(LONGEST, 4 * len(prompt.answer)):  # some normalisations are slow on hostile text
            return scored(right=False)
        return scored(right=self.normalised(found) == self._reference[1])

    def _extracted(self, text: str) -> str | None:
        if self.extract == "whole":
            return text
        if self.extract == "last_line":
            return last_line(text)
        if self.extract == "auto":
            found = marked(text)
            return text if found is None else found
        return tagged(text) if self.extract == "tag" else boxed(text)

    def normalised(self, text: str) -> str:
        """A text as it is compared."""
        if self.unicode == "nfkc":
            text = unicodedata.normalize("NFKC", text)
        if self.case == "ignore":
            text = text.casefold()
        if self.punctuation == "ignore":
            text = "".join(character for character in text if not unicodedata.category(character).startswith("P"))
        if self.spaces == "keep":
            return text
        return (" " if self.spaces == "collapse" else "").join(text.split())
