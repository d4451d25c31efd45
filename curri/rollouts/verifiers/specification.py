"""Verifiers by name: ``numeric:tolerance=1e-3``, or several with weights: ``math@0.8+regex@0.2:pattern=…``."""

from __future__ import annotations

import importlib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from curri.errors import InvalidInput, InvalidParameter, did_you_mean, unknown_name
from curri.parameters import declared
from curri.types import Score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from curri.rollouts.verifiers.base import OptionVerifier
    from curri.types import Prompt

VERIFIERS: Final[dict[str, str]] = {
    "math": "curri.rollouts.verifiers.math_answer:MathAnswer",
    "exact": "curri.rollouts.verifiers.exact:Exact",
    "numeric": "curri.rollouts.verifiers.numeric:Numeric",
    "regex": "curri.rollouts.verifiers.pattern:Pattern",
    "choice": "curri.rollouts.verifiers.choice:Choice",
    "gym": "curri.rollouts.verifiers.gym_task:GymTask",
    "python": "curri.rollouts.verifiers.user_function:UserFunction",
}
"""Kinds of verifiers; ``python`` is followed by module and function."""

_KIND = re.compile(r"([A-Za-z_][\w-]*)(?:@([^:+]*))?")
_NEXT = re.compile(rf"\+(?=(?:{'|'.join(VERIFIERS)})(?:[@:+]|$))")
_PLAIN_END = re.compile(rf",(?=[a-z_]+=)|{_NEXT.pattern}")
_OPTION = re.compile(r"([A-Za-z_]\w*)=")
_TARGET = re.compile(r"[^:+,@]+:[^:+,@]+")
_QUOTES = "'\""


class Part(NamedTuple):
    """One verifier of several.

    Attributes:
        weight: of its reward in the sum; above 0.
        verifier: which.
    """

    weight: float
    verifier: OptionVerifier


@dataclass(frozen=True, eq=False)
class Weighted:
    """The weighted sum of several rewards; whether a response is right is said by the first of them alone.

    Where one of them fails, so does the whole.

    >>> from curri.types import Prompt
    >>> both = parse_verifier("exact@0.75+regex@0.25:pattern=</answer>")
    >>> prompt = Prompt(1, "…", "5", "math", {})
    >>> [both.score(text, prompt)[:2] for text in ("<answer>5</answer>", "<answer>6</answer>", "5")]
    [(1.0, 1.0), (0.25, 0.0), (0.75, 1.0)]
    """

    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """The names of the parts, with their weights."""
        return "+".join(_weighted_name(part) for part in self.parts)

    @property
    def version(self) -> str:
        """The versions of the parts."""
        return "+".join(part.verifier.version for part in self.parts)

    @property
    def quick(self) -> bool:
        """Whether all parts are."""
        return all(part.verifier.quick for part in self.parts)

    def load(self) -> None:
        """Bring in what the parts need."""
        for part in self.parts:
            part.verifier.load()

    def score(self, response: str, prompt: Prompt) -> Score:
        """The sum of the parts' rewards, and whether the first calls the response right."""
        reward, solved, details = 0.0, math.nan, []
        for place, (weight, verifier) in enumerate(self.parts):
            score = verifier.score(response, prompt)
            if score.status != "ok":
                return score._replace(detail=f"{verifier.kind}: {score.detail}")
            reward += weight * score.reward
            solved = score.solved if place == 0 else solved
            details += [f"{verifier.kind}: {score.detail}"] if score.detail else []
        return Score(reward, solved, detail="; ".join(details))


def parse_verifier(spec: str | Sequence[str]) -> OptionVerifier | Weighted:
    r"""The verifier that a specification names.

    A specification is ``KIND``, ``KIND:OPTION=VALUE,OPTION=VALUE`` or ``python:MODULE:FUNCTION``, the last also with
    options after one more colon. Several are joined by ``+`` or given as a list; ``KIND@WEIGHT`` gives each its share
    of the reward (1 if left out), and the first of them alone says whether a response is right. A value ends before a
    comma that another ``OPTION=`` follows, and before a plus that another kind follows; in single or double quotes
    (written twice inside) it may hold anything.

    Raises:
        UnknownName: there is no such kind.
        InvalidParameter: it has no such option, or it cannot take the value.
        InvalidInput: it is no specification; or a module of the user's does not exist.

    >>> parse_verifier("numeric:tolerance=1e-3").name
    'numeric:tolerance=0.001'
    >>> parse_verifier(["math@0.8", r"regex@0.2:pattern=^\d{1,3}$,flags=m"]).name
    "math@0.8+regex@0.2:pattern='^\\d{1,3}$',flags=m"
    """
    specs = [spec] if isinstance(spec, str) else list(spec)
    if not specs or not all(isinstance(each, str) for each in specs):
        raise InvalidInput(f"a verifier is named by a text or a list of texts; got {spec!r}")
    parts = [part for each in specs for part in _Reader(each).parts()]
    if len(parts) == 1 and parts[0].weight == 1.0:
        return parts[0].verifier
    return Weighted(tuple(parts))


def _weighted_name(part: Part) -> str:
    kind, name = part.verifier.kind, part.verifier.name
    return name if part.weight == 1.0 else f"{kind}@{part.weight:.15g}{name.removeprefix(kind)}"


class _Reader:
    """Reads one specification from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        self._at = 0

    def parts(self) -> list[Part]:
        parts = [self._part()]
        while self._at < len(self._text):
            self._expect("+", "another verifier after a plus")
            parts.append(self._part())
        return parts

    def _part(self) -> Part:
        found = _KIND.match(self._text, self._at)
        if found is None:
            raise self._wrong("the name of a verifier")
        kind, weight = found.groups()
        if kind not in VERIFIERS:
            raise unknown_name("verifier", kind, VERIFIERS)
        self._at = found.end()
        owner = _class_of(kind)
        given: dict[str, Any] = {"target": self._target()} if kind == "python" else {}
        if self._follows(":"):
            given |= self._options(owner)
        return Part(self._weight(kind, weight), owner(**given))

    def _weight(self, kind: str, text: str | None) -> float:
        try:
            weight = 1.0 if text is None else float(text)
        except ValueError:
            weight = math.nan
        if not 0.0 < weight < math.inf:
            raise InvalidParameter(f"the weight of `{kind}` must be a number above 0; got {text!r}", hint=f"{kind}@0.8")
        return weight

    def _target(self) -> str:
        self._expect(":", "a module and a function")
        found = _TARGET.match(self._text, self._at)
        if found is None:
            raise self._wrong("a module and a function, such as python:my_rewards:score")
        self._at = found.end()
        return found[0]

    def _options(self, owner: type[OptionVerifier]) -> dict[str, Any]:
        known = declared(owner)
        given: dict[str, Any] = {}
        while True:
            found = _OPTION.match(self._text, self._at)
            if found is None:
                raise self._wrong(f"an option of `{owner.kind}` and its value, such as {next(iter(known))}=…")
            name = found[1]
            self._at = found.end()
            if name not in known:
                shown = ", ".join(f"`{each}`" for each in known)
                raise InvalidParameter(
                    f"`{owner.kind}` has no option `{name}`; it has {shown}", hint=did_you_mean(name, known)
                )
            if name in given:
                raise InvalidParameter(f"`{name}` of `{owner.kind}` is given twice")
            given[name] = known[name].parsed(self._value(), name=name, owner=owner.kind)
            if not self._follows(","):
                return given

    def _value(self) -> str:
        quote = self._text[self._at : self._at + 1]
        if quote and quote in _QUOTES:
            return self._quoted(quote)
        end = _PLAIN_END.search(self._text, self._at)
        start, self._at = self._at, len(self._text) if end is None else end.start()
        return self._text[start : self._at]

    def _quoted(self, quote: str) -> str:
        found = re.compile(rf"{quote}((?:[^{quote}]|{quote}{quote})*){quote}(?!{quote})").match(self._text, self._at)
        if found is None:
            raise self._wrong("a value in quotes, and the quote at its end")
        self._at = found.end()
        return found[1].replace(quote * 2, quote)

    def _follows(self, sign: str) -> bool:
        found = self._text.startswith(sign, self._at)
        self._at += found
        return found

    def _expect(self, sign: str, what: str) -> None:
        if not self._follows(sign):
            raise self._wrong(what)

    def _wrong(self, wanted: str) -> InvalidInput:
        rest = self._text[self._at :]
        got = f"got {rest!r}" if rest else "it ends there"
        return InvalidInput(
            f"verifier {self._text!r}: at character {self._at + 1} there should be {wanted}; {got}",
            hint="write kind:option=value,option=value, several joined by +, weights as kind@0.8",
        )


def _class_of(kind: str) -> type[OptionVerifier]:
    module, _, name = VERIFIERS[kind].partition(":")
    found: type[OptionVerifier] = getattr(importlib.import_module(module), name)
    return found
