"""What is to be raised or lowered: a column of scores, or a weighted sum of several."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curri.errors import InvalidInput, InvalidParameter, unknown_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Target", "expanded_parts", "parse_target", "read_targets"]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<name>[^\W\d][\w.]*)
      | "(?P<double>(?:[^"\\]|\\.)*)"
      | '(?P<single>(?:[^'\\]|\\.)*)'
      | (?P<sign>[-+*/()=])
    )""",
    re.VERBOSE,
)
_LABEL = re.compile(r"\s*(\w(?:[\w .:-]*[\w.])?)\s*=")
_MEAN = re.compile(r"\bmean\(\s*([^()\"']*\*[^()\"']*?)\s*\)")
_GRAMMAR = 'such as `total=0.5*lisa+0.3*sat`, `gap="in score"-"out score"`, `(a+b+c)/3` or `mean(loss_*)`'


@dataclass(frozen=True, slots=True)
class Target:
    """One number to judge mixtures by: Σ_k c_k · (score k).

    Attributes:
        name: what it is called.
        parts: column of scores → coefficient c_k, none 0.
        lower: whether less is better, as with losses.
    """

    name: str
    parts: Mapping[str, float]
    lower: bool = False

    def __post_init__(self) -> None:
        if not self.parts or not all(abs(each) > 0.0 for each in self.parts.values()):
            raise InvalidParameter(f'target "{self.name}" must be made of scores, with coefficients that are not 0')

    @property
    def sign(self) -> float:
        """+1 where more is better, -1 where less is."""
        return -1.0 if self.lower else 1.0

    @property
    def formula(self) -> str:
        """The sum in words of :func:`parse_target`, without the name."""
        terms = []
        for part, value in self.parts.items():
            factor = "" if abs(value) == 1.0 else f"{abs(value)!r}*"
            terms.append(("-" if value < 0.0 else "+") + factor + _quoted(part))
        return "".join(terms).removeprefix("+")


def _quoted(name: str) -> str:
    match = _TOKEN.fullmatch(name)
    return name if match and match["name"] == name else _in_quotes(name)


def _in_quotes(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_target(text: str, known: Iterable[str], *, lower: bool = False) -> Target:
    """A target from ``name=0.5*a+0.3*b``, or from the name of a column.

    The name may hold blanks and hyphens. The right side is a sum of terms: an optional coefficient and ``*``, then a
    name or a sum in brackets, then perhaps ``*`` or ``/`` and a number. A name that starts with a letter may stand as
    it is; where two fit, as in ``a-b`` with a column of that name, the longer is meant. Any name may go in single or
    double quotes, with a backslash before a quote or a backslash in it. ``mean(loss_*)`` is the mean of columns that
    fit, the star standing for anything. A text that is the whole name of a column is that column, whatever it is.

    Args:
        text: the target.
        known: columns of scores.
        lower: whether less is better.

    Raises:
        InvalidParameter: the text is no such sum.
        UnknownName: a name is no column, or no column fits a pattern.

    Example:
        >>> parse_target("total = 0.5*lisa + 0.3*'s a t'", ["lisa", "s a t"]).parts
        {'lisa': 0.5, 's a t': 0.3}
        >>> parse_target("mean(l_*)", ["l_a", "l_b", "c"]).parts
        {'l_a': 0.5, 'l_b': 0.5}

    """
    columns = list(known)
    if text.strip() in columns:
        return Target(text.strip(), {text.strip(): 1.0}, lower)
    label = _LABEL.match(text)
    if any("=" in column and text.lstrip().startswith(column) for column in columns):
        label = None
    formula = text if label is None else text[label.end() :]
    reader = _Reader(_MEAN.sub(lambda match: _written_out(match[1], columns), formula), columns, typed=text)
    name = reader.label() if label is None else label[1]
    parts = {part: value for part, value in reader.total().items() if value != 0.0}
    reader.end()
    if not parts:
        raise reader.error("all of it cancels out")
    return Target(name if name is not None else text.strip(), parts, lower)


def _written_out(pattern: str, columns: Sequence[str]) -> str:
    """``mean(pattern)`` as a sum, its names in quotes."""
    start, _, end = pattern.partition("*")
    fits = [name for name in columns if name.startswith(start) and name.endswith(end) and len(name) >= len(start + end)]
    if not fits:
        raise unknown_name("column like", pattern, columns)
    return f"({'+'.join(_in_quotes(name) for name in fits)})/{len(fits)}"


def read_targets(
    texts: Sequence[str], columns: Sequence[str], *, lower: Sequence[str] = (), everything: bool = False
) -> list[Target]:
    """Targets as they are typed.

    Args:
        texts: each as for :func:`parse_target`.
        columns: of scores.
        lower: names of targets where less is better; "*" stands for all.
        everything: without a text, all columns are targets; else there must be only one.

    Raises:
        InvalidParameter: a text is no weighted sum, or it is not said which of several columns decides.
        UnknownName: a name is no column, or one in ``lower`` is no target.

    Example:
        >>> [(target.name, target.lower) for target in read_targets(["all=mean(*)", "b"], ["a", "b"], lower=["all"])]
        [('all', True), ('b', False)]

    """
    if not texts and not everything and len(columns) > 1:
        shown = ", ".join(columns[:10]) + (", …" if len(columns) > 10 else "")
        raise InvalidParameter(
            f"there are {len(columns)} columns of scores, and it is not said what is to be raised or lowered: {shown}",
            hint="--target NAME, or a sum: --target total=0.5*lisa+0.3*sat, or --target 'all=mean(*)'",
        )
    parsed = [parse_target(text, columns) for text in texts or columns]
    known = [target.name for target in parsed]
    for name in lower:
        if name != "*" and name not in known:
            raise unknown_name("target", name, known)
    return [dataclasses.replace(target, lower=bool({target.name, "*"} & set(lower))) for target in parsed]


def expanded_parts(targets: Sequence[Target]) -> list[Target]:
    """The columns behind targets that are sums, each better in the direction that makes its sum better.

    Args:
        targets: a column that is a target itself is left out.

    Example:
        >>> [(part.name, part.lower) for part in expanded_parts([Target("gap", {"in": 1.0, "out": -1.0})])]
        [('in', False), ('out', True)]

    """
    names = {target.name for target in targets}
    found: dict[str, Target] = {}
    for target in targets:
        for part, value in target.parts.items():
            if part not in names:
                found.setdefault(part, Target(part, {part: 1.0}, (value < 0.0) != target.lower))
    return list(found.values())


class _Reader:
    """Recursive descent over the tokens of one target."""

    def __init__(self, text: str, known: list[str], *, typed: str) -> None:
        self.text, self.known, self.typed, self.place = text, known, typed, 0
        self.tokens: list[tuple[str, str, int]] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            column = self._column_at(at)
            if column is not None:
                self.tokens.append(("name", column, at))
                at = text.index(column, at) + len(column)
                continue
            match = _TOKEN.match(text, at)
            if match is None:
                raise self.error(f"cannot read {text[at:].strip()[:20]!r}")
            kind = str(match.lastgroup)
            value = match[kind]
            if kind in {"double", "single"}:
                kind, value = "name", re.sub(r"\\(.)", r"\1", value)
            self.tokens.append((kind, value, at))
            at = match.end()

    def _column_at(self, at: int) -> str | None:
        """The longest column whose name stands here, unquoted, and ends where a word ends."""
        rest = self.text[at:].lstrip()
        fitting = [
            name
            for name in self.known
            if rest.startswith(name) and name[:1].isalpha() and not re.match(r"[\w.]", rest[len(name) :])
        ]
        return max(fitting, key=len, default=None)

    def error(self, what: str) -> InvalidInput:
        return InvalidParameter(f"target {self.typed!r} is no weighted sum of scores: {what}", hint=_GRAMMAR)

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        place = self.place + ahead
        return self.tokens[place][:2] if place < len(self.tokens) else ("end", "")

    def take(self, *signs: str) -> str | None:
        kind, value = self.peek()
        if kind == "sign" and value in signs:
            self.place += 1
            return value
        return None

    def label(self) -> str | None:
        if self.peek()[0] == "name" and self.peek(1) == ("sign", "="):
            self.place += 2
            return self.tokens[self.place - 2][1]
        return None

    def total(self) -> dict[str, float]:
        found: dict[str, float] = {}
        sign = -1.0 if self.take("-", "+") == "-" else 1.0
        while True:
            for name, value in self.term().items():
                found[name] = found.get(name, 0.0) + sign * value
            following = self.take("+", "-")
            if following is None:
                return found
            sign = 1.0 if following == "+" else -1.0

    def term(self) -> dict[str, float]:
        factor = 1.0
        while self.peek()[0] == "number":
            factor *= self.number()
            if self.take("*") is None:
                raise self.error("a number must be followed by `*` and a score")
        scores = self.score()
        while (operator := self.take("*", "/")) is not None:
            number = self.number()
            if operator == "/" and number == 0.0:
                raise self.error("it divides by 0")
            factor = factor * number if operator == "*" else factor / number
        return {name: factor * value for name, value in scores.items()}

    def number(self) -> float:
        kind, value = self.peek()
        if kind != "number":
            raise self.error(f"expected a number, found {value or 'the end'!r}")
        self.place += 1
        number = float(value)
        if number == float("inf"):
            raise self.error(f"{value} is too large")
        return number

    def score(self) -> dict[str, float]:
        if self.take("("):
            inside = self.total()
            if self.take(")") is None:
                raise self.error("a bracket is not closed")
            return inside
        kind, value = self.peek()
        if kind != "name":
            raise self.error(f"expected a score, found {value or 'the end'!r}")
        if value not in self.known:
            raise unknown_name("target", value, self.known)
        self.place += 1
        return {value: 1.0}

    def end(self) -> None:
        if self.place < len(self.tokens):
            raise self.error(f"cannot read {self.text[self.tokens[self.place][2] :].strip()[:20]!r}")
