"""``numeric``: the answer as a number, within a tolerance."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from curri.parameters import choice, real
from curri.rollouts.verifiers.base import NO_REFERENCE, NOT_FOUND, OptionVerifier, failed, scored
from curri.rollouts.verifiers.extraction import LONGEST, after_thinking, boxed, marked, tagged

if TYPE_CHECKING:
    from curri.types import Prompt, Score

Number: TypeAlias = int | float

_DIGITS = 300
_NEAR = 24
_LAST_DIGIT = re.compile(r"(?s:.*)[0-9]")
_UNSIGNED = r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]*)?|(?<![0-9])\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_SIGN = r"(?:(?<![\w)\]}.])[-+])?"
_ANY = re.compile(
    rf"(?P<above>{_SIGN}{_UNSIGNED})(?: ?/ ?(?P<below>{_UNSIGNED}))?"
    rf"|(?P<sign>{_SIGN})\\[dt]?frac ?\{{(?P<top>[-+]?{_UNSIGNED})\}}\{{(?P<bottom>{_UNSIGNED})\}}"
)
_NOISE = str.maketrans({"−": "-", "–": "-", "\u00a0": " ", "\u202f": " ", "$": None, "€": None, "£": None})
_DROPPED = re.compile(r"\\[,;!()\[\]%$ ]|(?<=[0-9])\{,\}|%")


@dataclass(eq=False, kw_only=True)
class Numeric(OptionVerifier):
    r"""Right where the answer is the reference as a number.

    Two whole numbers must be equal, or differ by at most ``tolerance``; others may also differ by ``relative`` times
    the reference.

    >>> from curri.types import Prompt
    >>> prompt = Prompt(1, "…", "1,250.5", "math", {})
    >>> [Numeric().score(text, prompt).solved for text in ("It is 1250.50.", "<answer>2501/2</answer>", "about 1250")]
    [1.0, 1.0, 0.0]
    >>> Numeric(tolerance=1).score("about 1250", prompt).solved
    1.0
    """

    kind: ClassVar[str] = "numeric"
    quick: ClassVar[bool] = True

    tolerance: float = real(default=0.0, low=0.0, doc="how far the answer may be from the reference")
    relative: float = real(default=1e-6, low=0.0, doc="the same as a share of the reference; not for whole numbers")
    extract: str = choice(
        default="auto",
        of=("auto", "tag", "boxed", "last", "whole"),
        doc="where the answer stands; auto: <answer> tags, else \\boxed{}, else the last number",
    )

    def score(self, response: str, prompt: Prompt) -> Score:
        """Whether the response's number is the prompt's."""
        if prompt.answer is None:
            return NO_REFERENCE
        reference = _reference(prompt.answer)
        if reference is None:
            return failed("unverifiable", f"the reference answer is not one number: {prompt.answer!r}")
        found = self._extracted(after_thinking(response))
        return NOT_FOUND if found is None else scored(right=self._same(found, reference))

    def _extracted(self, text: str) -> Number | None:
        if self.extract == "last":
            return last_number(text)
        if self.extract == "whole":
            return only_number(text)
        if self.extract == "auto":
            found = marked(text)
            return last_number(text) if found is None else only_number(found)
        found = tagged(text) if self.extract == "tag" else boxed(text)
        return None if found is None else only_number(found)

    def _same(self, number: Number, reference: Number) -> bool:
        try:
            apart = abs(number - reference)
            if isinstance(number, int) and isinstance(reference, int):
                return apart <= self.tolerance
            return apart <= max(self.tolerance, self.relative * abs(reference))
        except OverflowError:  # a whole number beyond every float
            return False


def only_number(text: str) -> Number | None:
    r"""The one number of a short text, or of what follows its last "="; None where it has none or several.

    Thousands may be set apart by commas, and decimals follow a point. Signs of currency and per cent are left aside.

    >>> only_number("x = -1,200"), only_number(r"\frac{3}{4}"), only_number("$12.50"), only_number("1 or 2")
    (-1200, 0.75, 12.5, None)
    """
    if len(text) > LONGEST:
        return None
    clean = _cleaned(text[text.rfind("=") + 1 :])
    found = list(_ANY.finditer(clean))
    return _value(found[0]) if len(found) == 1 else None


def last_number(text: str) -> Number | None:
    """The last number within the last 10,000 characters of a text; None where there is none.

    >>> last_number("First 3, then 4. So the answer is 12."), last_number("none")
    (12, None)
    """
    text = text[-LONGEST:]
    digit = _LAST_DIGIT.match(text)
    if digit is None:
        return None
    # From a space some way before the last digit on: scanning the whole text would cost more than all the rest.
    start = text.rfind(" ", 0, max(0, digit.end() - _NEAR)) + 1
    last = None
    for last in _ANY.finditer(_cleaned(text[start : digit.end() + 2])):  # noqa: B007  the last one is wanted
        pass
    return None if last is None else _value(last)


def _cleaned(text: str) -> str:
    text = text.translate(_NOISE) if not text.isascii() or "$" in text else text
    return _DROPPED.sub("", text) if "\\" in text or "%" in text or "{" in text else text


@lru_cache(maxsize=1024)
def _reference(answer: str) -> Number | None:
    return only_number(answer)


def _value(found: re.Match[str]) -> Number | None:
    above, below, sign, top, bottom = found.group("above", "below", "sign", "top", "bottom")
    number = _plain(above if top is None else top)
    divisor = _plain(below if top is None else bottom) if (below or bottom) else 1
    if number is None or not divisor:
        return None
    try:
        value = number if divisor == 1 else number / divisor
    except OverflowError:
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return -value if sign == "-" else value


def _plain(text: str) -> Number | None:
    """A number without fraction; None where it is beyond every float or has absurdly many digits."""
    text = text.replace(",", "")
    if len(text) > _DIGITS:
        return None
    if text.lstrip("+-").isdecimal():
        return int(text)
    value = float(text)
    return value if abs(value) != float("inf") else None
