"""Values that need no check.

typer has pydantic look at every value, also at those of options that nobody gave, and importing pydantic takes as long
as importing NumPy. So what is plainly right is taken here; every other value is left to typer, which also says what is
wrong with it.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_INT = 15
_UNSURE = object()


class PlainValues:
    """A command that takes plain values without a check; with a typer that has no pydantic, nothing is changed."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Parameters of the command."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for each in parameters:
            if hasattr(each, "type_descriptor") and "process_value" not in vars(each):
                each.process_value = functools.partial(_process_value, each, each.process_value)
        return parameters


def _process_value(parameter: Any, checked: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    taken = _taken(parameter, value)
    if taken is _UNSURE:
        return checked(ctx, value)
    return taken if parameter.callback is None else parameter.callback(ctx, parameter, taken)


def _taken(parameter: Any, value: Any) -> Any:
    """What the command gets; ``_UNSURE`` where typer has to decide."""
    several = parameter.multiple or parameter.nargs != 1
    if value is None:
        return _UNSURE if parameter.required else () if several else None
    kind, settings = parameter.type_descriptor.annotation, parameter.type_descriptor.parameter_info
    if settings.parser is not None:
        return _UNSURE
    if several:
        return [*value] if kind == list[str] and all(map(_is_plain, value)) else _UNSURE
    return _converted(kind, value, settings)


def _converted(kind: Any, value: Any, settings: Any) -> Any:
    if kind is str and _is_plain(value):
        return value
    if kind is Path and _is_plain(str(value)) and _is_free(value, settings):
        return Path(value)
    if kind is int and _is_count(str(value)) and _is_within(int(value), settings):
        return int(value)
    return value if kind is float and type(value) is float and _is_within(value, settings) else _UNSURE


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _LONGEST_INT


def _is_free(path: Any, settings: Any) -> bool:
    """Whether nothing is asked of a path but that it can be read where it exists."""
    asked = settings.exists or settings.resolve_path or settings.writable or settings.path_type is not None
    anything = settings.file_okay and settings.dir_okay and not asked
    return anything and (os.access(path, os.R_OK) or not os.path.exists(path))  # noqa: PTH110  of a text or a Path


def _is_within(number: float, settings: Any) -> bool:
    return (settings.min is None or number >= settings.min) and (settings.max is None or number <= settings.max)
