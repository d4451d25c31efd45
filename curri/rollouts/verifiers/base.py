"""What verifiers have in common: declared options, and a name that says them."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from curri.parameters import check_declared, declared
from curri.types import Score

if TYPE_CHECKING:
    from curri.types import Prompt, ScoreStatus

RIGHT: Final = Score(1.0, 1.0)
WRONG: Final = Score(0.0, 0.0)
NOT_FOUND: Final = Score(0.0, 0.0, detail="no answer found in the response")
NO_REFERENCE: Final = Score(math.nan, math.nan, "unverifiable", "the prompt has no reference answer")

_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_.\-]+")
_SHOWN = 200


@dataclass(eq=False, kw_only=True)
class OptionVerifier(ABC):
    """A verifier whose options are declared like those of a strategy (see :mod:`curri.parameters`).

    Attributes:
        kind: its name in a specification.
        quick: see :class:`curri.types.Verifier`.

    Raises:
        InvalidParameter: an option is out of range.
    """

    kind: ClassVar[str]
    quick: ClassVar[bool] = False
    _rules: ClassVar[int] = 1
    """Counted up where the same response may be scored otherwise than before."""

    def __post_init__(self) -> None:
        check_declared(self)

    @property
    def name(self) -> str:
        """Kind and options other than the defaults; reads back with ``parse_verifier``."""
        options = self._options()
        return f"{self.kind}:{options}" if options else self.kind

    @property
    def version(self) -> str:
        """Of its rules, and of the libraries that it uses."""
        return str(self._rules)

    def load(self) -> None:
        """Bring in what it needs, so that the first response does not take longer than others."""

    @abstractmethod
    def score(self, response: str, prompt: Prompt) -> Score:
        """The score of a response to a prompt."""

    def _options(self) -> str:
        given = {name: (getattr(self, name), parameter.default) for name, parameter in declared(type(self)).items()}
        return ",".join(f"{name}={_spelled(value)}" for name, (value, default) in given.items() if value != default)


def _spelled(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if _PLAIN_VALUE.fullmatch(text):
        return text
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def scored(*, right: bool) -> Score:
    """The score of a response that is right or wrong and nothing in between."""
    return RIGHT if right else WRONG


def failed(status: ScoreStatus, detail: str) -> Score:
    """A score that says nothing of the response.

    >>> failed("timeout", "more than 10 s")
    Score(reward=nan, solved=nan, status='timeout', detail='more than 10 s')
    """
    return Score(math.nan, math.nan, status, shown(detail))


def shown(text: str, longest: int = _SHOWN) -> str:
    """A text cut and cleaned to be stored and shown: no halves of surrogate pairs, no control characters."""
    short = text[:longest] + ("…" if len(text) > longest else "")
    safe = short.encode(errors="backslashreplace").decode()
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in safe)
