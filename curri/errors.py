"""Every error curri raises, as one tree.

::

    CurriError
    ├── InvalidInput (ValueError)        the caller's values or data
    │   ├── InvalidParameter             a parameter outside its range
    │   ├── InvalidRollouts              rewards, advantages or ids that cannot be used
    │   ├── UnknownPrompt                a prompt id the pool does not hold
    │   ├── UnknownName                  a strategy, arm, run, model … that does not exist
    │   ├── InvalidData                  a file that cannot be read
    │   └── FilterError                  a filter of --where that cannot be read
    ├── PoolExhausted (RuntimeError)     fewer prompts left than asked for
    ├── StateMismatch (ValueError)       a saved state that belongs to something else
    ├── RunMismatch (ValueError)         a run reopened with other parameters
    ├── StoreError (RuntimeError)
    │   ├── StoreNotFound
    │   ├── StoreLocked                  another process holds the file
    │   ├── StoreForked                  used in a child after fork()
    │   ├── StoreClosed
    │   ├── StoreVersion                 written by another version of curri
    │   ├── StoreUnreadable              damaged, or not a store
    │   └── WriteFailed                  a commit failed; reopening settles what was written
    ├── VerifierFailed (RuntimeError)    a verifier that cannot score any response
    ├── EngineError (RuntimeError)       an engine or its server cannot generate
    └── MissingExtra (ImportError)       an optional package is not installed

A message says what is wrong, what was given and what is allowed; ``hint`` holds the command or the setting that helps.
Every error can be pickled, so that it survives a worker process.
"""

from __future__ import annotations

import difflib
import unicodedata
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

_WINDOW = 60


class CurriError(Exception):
    """Base of everything curri raises on purpose.

    Args:
        message: what is wrong, what was given, what is allowed.
        hint: the command or the setting that helps, or None.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  hint: {self.hint}"


class InvalidInput(CurriError, ValueError):
    """The caller's values or data cannot be used."""

    code = "invalid_input"


class InvalidParameter(InvalidInput):
    """A parameter is of the wrong type or outside its range."""

    code = "invalid_parameter"


class InvalidRollouts(InvalidInput):
    """Rollouts were refused as a whole; nothing was changed."""

    code = "invalid_rollouts"


class UnknownPrompt(InvalidInput):
    """A prompt id is not in the pool or the store."""

    code = "unknown_prompt"


class UnknownName(InvalidInput):
    """A name (strategy, arm, run, model, column …) does not exist."""

    code = "unknown_name"


class InvalidData(InvalidInput):
    """A file or a row of it cannot be read as what it should be."""

    code = "invalid_data"


class FilterError(InvalidInput):
    """A filter that cannot be read; ``pointed`` shows where.

    Args:
        message: what is wrong, in one line.
        hint: what helps, or None.
        text: the filter.
        position: the character it is about, from 0.
    """

    code = "invalid_filter"

    def __init__(self, message: str, hint: str | None = None, text: str = "", position: int = 0) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, text, position)
        self.text = text
        self.position = position

    @property
    def pointed(self) -> tuple[str, str]:
        r"""The filter, or the part of it around the place, and a line with a caret under the place.

        >>> import curri.store.filters
        >>> try:
        ...     curri.store.filters.Filter.parse('arm = "math"')
        ... except FilterError as error:
        ...     print("\n".join(error.pointed))
        arm = "math"
            ^
        """
        first = max(0, self.position - _WINDOW)
        last = min(len(self.text), self.position + _WINDOW)
        before = ("…" if first else "") + _one_line(self.text[first : self.position])
        after = _one_line(self.text[self.position : last]) + ("…" if last < len(self.text) else "")
        return before + after, " " * sum(map(_width, before)) + "^"

    def __str__(self) -> str:
        return "\n  ".join([self.message, *self.pointed, *([f"hint: {self.hint}"] if self.hint else [])])


class PoolExhausted(CurriError, RuntimeError):
    """Fewer prompts are left than were asked for."""

    code = "pool_exhausted"


class StateMismatch(CurriError, ValueError):
    """A saved state belongs to another strategy, version or pool."""

    code = "state_mismatch"


class RunMismatch(CurriError, ValueError):
    """A run was reopened with parameters other than those it was started with."""

    code = "run_mismatch"


class StoreError(CurriError, RuntimeError):
    """The store cannot do what was asked."""

    code = "store_error"


class StoreNotFound(StoreError):
    """There is no store at that path."""

    code = "store_not_found"


class StoreLocked(StoreError):
    """Another process holds the store; ``pid`` is its process id where the system tells it."""

    code = "store_locked"
    exit_code = 3

    def __init__(self, message: str, hint: str | None = None, pid: int | None = None) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, pid)
        self.pid = pid


class StoreForked(StoreError):
    """A store was used in a child process that inherited it through fork()."""

    code = "store_forked"


class StoreClosed(StoreError):
    """A store was used after it was closed."""

    code = "store_closed"


class StoreVersion(StoreError):
    """The store was written by a version of curri that this one does not know."""

    code = "store_version"


class StoreUnreadable(StoreError):
    """The file is damaged or is not a curri store."""

    code = "store_unreadable"


class WriteFailed(StoreError):
    """A commit failed, so whether it was written is unknown until the store is opened again."""

    code = "write_failed"


class VerifierFailed(CurriError, RuntimeError):
    """A verifier cannot be loaded, or failed for every response it was given."""

    code = "verifier_failed"


class EngineError(CurriError, RuntimeError):
    """What generates responses cannot go on: a server that is down, a model that is not there."""

    code = "engine_error"


class MissingExtra(CurriError, ImportError):
    """An optional package is not installed."""

    code = "missing_extra"


def shown_some(values: Sequence[object] | NDArray[np.generic], most: int = 8) -> str:
    """The first few of many values, for a message.

    >>> shown_some([3, 5, 7]), shown_some(range(100), most=2)
    ('3, 5, 7', '0, 1, …')
    """
    return ", ".join(str(value) for value in values[:most]) + (", …" if len(values) > most else "")


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _width(character: str) -> int:
    """Columns of a terminal that a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The nearest of ``known`` to ``name`` as a sentence, or None.

    >>> did_you_mean("ubc", ["ucb", "uniform"])
    'did you mean "ucb"?'
    """
    folded = {candidate.casefold(): candidate for candidate in sorted(known, reverse=True)}
    near = difflib.get_close_matches(name.casefold(), sorted(folded), n=1, cutoff=0.5)
    return f'did you mean "{folded[near[0]]}"?' if near else None


def unknown_name(what: str, name: str, known: Iterable[str], *, listing: str | None = None) -> UnknownName:
    """An :class:`UnknownName` that names the neighbours of a typing error.

    Args:
        what: the kind of thing, such as "strategy".
        name: what was asked for.
        known: what exists.
        listing: the command that lists what exists.
    """
    names = sorted(known)
    shown = ", ".join(names[:20]) + (f" … ({len(names)} in all)" if len(names) > 20 else "")
    hints = [hint for hint in (did_you_mean(name, names), f"`{listing}` lists them" if listing else None) if hint]
    return UnknownName(
        f'there is no {what} "{name}"; known: {shown or "none"}',
        hint=" ".join(hints) or None,
    )
