"""``math``: the answer as a mathematical expression, judged by math-verify."""

from __future__ import annotations

import importlib.metadata
import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from curri.errors import MissingExtra
from curri.parameters import choice, integer, switch
from curri.rollouts.verifiers.base import NO_REFERENCE, NOT_FOUND, OptionVerifier, failed, scored
from curri.rollouts.verifiers.extraction import LONGEST, after_thinking, boxed, marked, tagged

if TYPE_CHECKING:
    from types import ModuleType

    from curri.types import Prompt, Score

_LIBRARIES = ("math-verify", "latex2sympy2_extended", "sympy")


@dataclass(eq=False, kw_only=True)
class MathAnswer(OptionVerifier):
    r"""Right where math-verify finds the answer equal to the reference: 1/2, 0.5 and \frac12 are the same.

    The library can take for ever on hostile responses, so this runs with a time limit.

    Raises:
        MissingExtra: math-verify is not installed; raised when it is first used.
    """

    kind: ClassVar[str] = "math"

    extract: str = choice(
        default="auto",
        of=("auto", "tag", "boxed"),
        doc="where the answer stands; auto: <answer> tags, else \\boxed{}, else what math-verify finds near the end",
    )
    precision: int = integer(default=6, low=1, high=15, doc="decimal places to which floats are compared")
    strict: bool = switch(default=True, doc="whether variables must have the same names, and sets are not tuples")

    @property
    def version(self) -> str:
        """Of its rules, and of the libraries that it uses.

        Raises:
            MissingExtra: math-verify is not installed.
        """
        try:
            parts = [f"{library}-{importlib.metadata.version(library)}" for library in _LIBRARIES]
        except importlib.metadata.PackageNotFoundError as error:
            raise _missing(error) from error
        return "/".join([super().version, *parts])

    def load(self) -> None:
        """Import math-verify, and let it build its tables."""
        _read("1")

    def score(self, response: str, prompt: Prompt) -> Score:
        """Whether the response's expression equals the prompt's."""
        if prompt.answer is None:
            return NO_REFERENCE
        reference = _reference(prompt.answer)
        if not reference:
            return failed("unverifiable", f"math-verify cannot read the reference answer: {prompt.answer!r}")
        found = self._parsed(after_thinking(response))
        if not found:
            return NOT_FOUND
        same = _library().verify(
            list(reference),
            found,
            float_rounding=self.precision,
            strict=self.strict,
            timeout_seconds=None,
            raise_on_error=True,
        )
        return scored(right=bool(same))

    def _parsed(self, text: str) -> list[Any]:
        if self.extract == "auto":
            found = marked(text)
            return _parse(text[-LONGEST:]) if found is None else _read(found)
        found = tagged(text) if self.extract == "tag" else boxed(text)
        return [] if found is None else _read(found)


def _read(answer: str) -> list[Any]:
    """An answer that is known to be one: as LaTeX, unless it brings its own marks."""
    if not answer.strip():
        return []
    return _parse(answer if "$" in answer or "\\boxed" in answer else f"$\\boxed{{{answer}}}$") or _parse(answer)


@lru_cache(maxsize=256)
def _reference(answer: str) -> tuple[Any, ...]:
    return tuple(_read(answer)) if len(answer) <= LONGEST else ()


def _parse(text: str) -> list[Any]:
    found: list[Any] = _library().parse(text, parsing_timeout=None)
    return found


@lru_cache(maxsize=1)
def _library() -> ModuleType:
    """math-verify, without its warning that the time limit is ours."""
    try:
        import math_verify
    except ImportError as error:
        raise _missing(error) from error
    for part in ("grader", "parser", "utils"):
        logging.getLogger(f"math_verify.{part}").setLevel(logging.ERROR)
    module: ModuleType = math_verify
    return module


def _missing(error: Exception) -> MissingExtra:
    return MissingExtra(
        f"the verifier `math` needs math-verify, which cannot be imported ({error})",
        hint="pip install 'curri[verify]'",
    )
