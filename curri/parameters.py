"""Parameters of a strategy: declared once, with symbol, range, default and source, and checked when it is built.

A strategy declares its parameters as class attributes::

    class UCB(Curriculum):
        temperature: float = real(default=0.1, above=0.0, symbol="τ", doc="softmax temperature", source="DUMP, 3.2")

The declaration is the keyword of the constructor, the check, the line in ``curri strategies ucb`` and what
``--param temperature=0.2`` is read with. The default is given by its keyword: type checkers look for it there.
"""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
from collections.abc import Mapping
from typing import Any

from curri.errors import InvalidParameter, did_you_mean

_KEY = "curri"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a strategy.

    Attributes:
        type: float, int, bool, str, dict (arm name → weight) or list (of names).
        default: the value when none is given.
        doc: one sentence: what it does.
        symbol: its letter in the paper, or "".
        source: where the default comes from, or "".
        low: smallest allowed value, or None.
        above: open lower bound, or None.
        high: largest allowed value, or None.
        choices: the allowed values of a str parameter, or ().
    """

    type: type
    default: Any
    doc: str
    symbol: str = ""
    source: str = ""
    low: float | None = None
    above: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The allowed values in words, such as "a float in (0, inf)"."""
        words = {
            bool: "true or false",
            dict: 'weights >= 0 by arm name, one of them above 0, such as {"math": 0.7, "code": 0.3}',
            list: 'distinct names, such as ["easy", "hard"]',
        }
        if self.type in words:
            return words[self.type]
        if self.choices:
            return "one of " + ", ".join(f'"{choice}"' for choice in self.choices)
        if self.type is str:
            return "a text"
        if self.type is int:
            return f"an int in {self._interval}"
        return f"a float in {self._interval}"

    @property
    def _interval(self) -> str:
        left = f"({self.above:.15g}" if self.above is not None else "(-inf" if self.low is None else f"[{self.low:.15g}"
        right = "inf)" if self.high is None else f"{self.high:.15g}]"
        return f"{left}, {right}"

    def checked(self, value: object, *, name: str, owner: str) -> Any:
        """``value`` as its declared type, or an error that says what is allowed.

        Raises:
            InvalidParameter: wrong type or out of range.
        """
        if value is None and self.default is None:
            return None
        converted = self._converted(value)
        if converted is None:
            raise InvalidParameter(f"`{name}` of `{owner}` must be {self.allowed}; got {value!r}")
        return converted

    def _converted(self, value: object) -> Any:
        if self.type is bool:
            return bool(value) if isinstance(value, bool) else None
        if self.type is str:
            return value if isinstance(value, str) and (not self.choices or value in self.choices) else None
        if self.type is dict:
            return _as_weights(value)
        if self.type is list:
            return _as_names(value)
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return None
        number = _as_int(value) if self.type is int else _as_float(value)
        return number if number is not None and self._in_range(number) else None

    def _in_range(self, value: float) -> bool:
        return (
            (self.low is None or value >= self.low)
            and (self.above is None or value > self.above)
            and (self.high is None or value <= self.high)
        )

    def parsed(self, text: str, *, name: str, owner: str) -> Any:
        """A value from the command line.

        >>> Parameter(type=float, default=0.1, doc="", above=0).parsed("0.2", name="temperature", owner="UCB")
        0.2
        """
        value: object = text
        if self.type is bool:
            value = {"true": True, "false": False}.get(text.strip().lower(), text)
        elif self.type in (dict, list):
            value = _read_many(text, self.type)
        elif self.type is not str:
            try:
                value = int(text) if self.type is int else float(text)
            except ValueError:
                value = text
        return self.checked(value, name=name, owner=owner)


def _as_weights(value: object) -> dict[str, float] | None:
    """Weights in order of the arms' names, or None."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return None
    wrong = (bool, complex)
    numbers_ = {name: None if isinstance(each, wrong) else _number_or_none(each) for name, each in value.items()}
    kept = {name: number for name, number in sorted(numbers_.items()) if number is not None and number >= 0}
    return kept if len(kept) == len(value) and any(kept.values()) else None


def _number_or_none(value: object) -> float | None:
    return _as_float(value) if isinstance(value, numbers.Real) else None


def _as_names(value: object) -> list[str] | None:
    """A list of distinct names, or None."""
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) for name in value):
        return None
    return list(value) if len(set(value)) == len(value) else None


def _read_many(text: str, kind: type) -> object:
    """``math=0.7,code=0.3`` or ``easy,hard``, or either as JSON; the text itself where it is neither."""
    if text.lstrip().startswith(("{", "[")):
        try:
            return json.loads(text)
        except ValueError:
            return text
    parts = [part.strip() for part in text.split(",")]
    if kind is list:
        return parts if all(parts) else text
    pairs = [part.rpartition("=") for part in parts]
    try:
        return {name.strip(): float(weight) for name, _, weight in pairs} if all(p[0] for p in pairs) else text
    except ValueError:
        return text


def _as_int(value: numbers.Real) -> int | None:
    """The same number as an int, exactly; None where it is none."""
    if isinstance(value, numbers.Integral):
        return int(value)
    number = _as_float(value)
    return int(number) if number is not None and number.is_integer() else None


def _as_float(value: numbers.Real) -> float | None:
    """A finite float, or None."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def real(
    *,
    default: float,
    doc: str,
    symbol: str = "",
    source: str = "",
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
) -> Any:
    """Declare a float parameter."""
    parameter = Parameter(
        type=float, default=default, doc=doc, symbol=symbol, source=source, low=low, above=above, high=high
    )
    return _field(parameter)


def integer(
    *, default: int, doc: str, symbol: str = "", source: str = "", low: int | None = None, high: int | None = None
) -> Any:
    """Declare an int parameter."""
    return _field(Parameter(type=int, default=default, doc=doc, symbol=symbol, source=source, low=low, high=high))


def switch(*, default: bool, doc: str, symbol: str = "", source: str = "") -> Any:
    """Declare a parameter that is on or off."""
    return _field(Parameter(type=bool, default=default, doc=doc, symbol=symbol, source=source))


def choice(*, default: str, of: tuple[str, ...], doc: str, symbol: str = "", source: str = "") -> Any:
    """Declare a parameter with a few named values."""
    return _field(Parameter(type=str, default=default, doc=doc, symbol=symbol, source=source, choices=of))


def text(*, default: str, doc: str, symbol: str = "", source: str = "") -> Any:
    """Declare a parameter that is any text."""
    return _field(Parameter(type=str, default=default, doc=doc, symbol=symbol, source=source))


def weights(*, default: None = None, doc: str, symbol: str = "", source: str = "") -> Any:
    """Declare weights by arm name; None means that none were given."""
    return _field(Parameter(type=dict, default=default, doc=doc, symbol=symbol, source=source))


def names(*, default: None = None, doc: str, symbol: str = "", source: str = "") -> Any:
    """Declare a list of distinct names; None means that none were given."""
    return _field(Parameter(type=list, default=default, doc=doc, symbol=symbol, source=source))


def _field(parameter: Parameter) -> Any:
    return dataclasses.field(default=parameter.default, kw_only=True, metadata={_KEY: parameter})


def declared(owner: type) -> dict[str, Parameter]:
    """The declared parameters of a class, in order of declaration, those of its bases first."""
    fields = dataclasses.fields(owner) if dataclasses.is_dataclass(owner) else ()
    return {item.name: item.metadata[_KEY] for item in fields if _KEY in item.metadata}


def refuse_unknown(names: Mapping[str, object], owner: type) -> None:
    """Refuse parameters that ``owner`` does not have.

    Raises:
        InvalidParameter: names the unknown one and its nearest neighbour.
    """
    known = declared(owner)
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            message = f"`{owner.__name__}` has no parameter `{name}`; it has {', '.join(f'`{k}`' for k in known)}"
            raise InvalidParameter(message, hint=near)


def check_declared(instance: object) -> None:
    """Replace every declared parameter of ``instance`` by its checked value."""
    owner = type(instance)
    for name, parameter in declared(owner).items():
        setattr(instance, name, parameter.checked(getattr(instance, name), name=name, owner=owner.__name__))
