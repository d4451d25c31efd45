"""The filter language of ``--where``: which prompts a command is about.

::

    arm == "math" and pass_rate in 0.2..0.8 and not retired

A text becomes a tree of frozen dataclasses, and the tree an SQL condition. Nothing of the text gets into the SQL:
columns come from a fixed table, and every value and every key of the metadata is a bound parameter.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from curri.errors import FilterError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 10_000
"""Characters of the longest filter."""
DEEPEST = 40
"""How deep parentheses and ``not`` may be nested."""
MOST_CONDITIONS = 200
MOST_VALUES = 1000
"""Values of the longest list."""

Value: TypeAlias = str | int | float | bool
Kind: TypeAlias = Literal["number", "text", "flag", "metadata"]
Comparison: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]

_INT64 = 2**63 - 1


# ---- columns --------------------------------------------------------------------------------------------------------


class ColumnInfo(NamedTuple):
    """A column that filters may name.

    Attributes:
        sql: its expression.
        kind: what it holds.
        doc: what it means.
        of_rollouts: whether it comes from a model's rollouts.
    """

    sql: str
    kind: Kind
    doc: str
    of_rollouts: bool = False


def _finite(column: str) -> str:
    return f"case when isnan({column}) then null else {column} end"


COLUMNS: dict[str, ColumnInfo] = {
    "prompt_id": ColumnInfo("p.prompt_id", "number", "the store's id"),
    "id": ColumnInfo("p.external_id", "text", "your own id"),
    "arm": ColumnInfo("a.name", "text", "the distribution the prompt belongs to"),
    "split": ColumnInfo("coalesce(p.split, 'train')", "text", 'its split; "train" where none was given'),
    "prompt": ColumnInfo("p.prompt", "text", "its text; chat messages as JSON"),
    "answer": ColumnInfo("p.answer", "text", "the reference answer"),
    "generation": ColumnInfo("p.generation", "number", "0 for originals, 1 for those evolved from them, and so on"),
    "parent_id": ColumnInfo("p.parent_id", "number", "the prompt it was evolved from"),
    "retired": ColumnInfo("p.retired", "flag", "whether it is no longer picked"),
    "prior_rate": ColumnInfo(_finite("p.prior_rate"), "number", "pass rate known beforehand"),
    "expected_tokens": ColumnInfo(_finite("p.expected_tokens"), "number", "expected length of a response"),
    "responses": ColumnInfo("coalesce(r.responses, 0)", "number", "responses of the model", of_rollouts=True),
    "pass_rate": ColumnInfo("r.pass_rate", "number", "share of them that were right", of_rollouts=True),
    "mean_reward": ColumnInfo("r.mean_reward", "number", "their mean reward", of_rollouts=True),
    "tokens": ColumnInfo("r.tokens", "number", "their mean length in tokens", of_rollouts=True),
    "truncated": ColumnInfo("r.truncated", "number", "share of them that were cut off", of_rollouts=True),
}
"""The columns by name; ``metadata.KEY`` is one as well, for every key."""

ALIASES = {"rollouts": "responses", "reward_mean": "mean_reward"}
"""Other names of columns."""

METADATA = "metadata"

PROMPTS = "prompts p join arms a using (arm_id)"
ROLLED_OUT = """left join (
    select prompt_id, count(*) as responses, avg(solved) filter (where not isnan(solved)) as pass_rate,
        avg(reward) as mean_reward, avg(tokens) as tokens, avg(coalesce(truncated, false)::integer) as truncated
    from rollouts join sources using (source_id) where model = ? and not coalesce(probe, false) group by prompt_id
) r using (prompt_id)"""
"""What the expressions of ``COLUMNS`` are about; the second part has one parameter, the model."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column, or a key of the metadata where ``path`` is not empty."""

    name: str
    path: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """What it holds."""
        return "metadata" if self.path else COLUMNS[self.name].kind

    @property
    def pointer(self) -> str:
        """The key as a JSON pointer, in which no character has a meaning of its own."""
        return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in self.path)

    def __str__(self) -> str:
        return ".".join([self.name, *self.path])


# ---- the tree -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compare:
    """``column operator value``; false where the column is unknown, but for ``!=``, which is ``not ==``."""

    column: Column
    operator: Comparison
    value: Value


@dataclass(frozen=True, slots=True)
class Between:
    """``column in low..high``, both ends included."""

    column: Column
    low: int | float
    high: int | float


@dataclass(frozen=True, slots=True)
class OneOf:
    """``column in [value, …]``."""

    column: Column
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Contains:
    """``column contains text``."""

    column: Column
    text: str


@dataclass(frozen=True, slots=True)
class Known:
    """``column is known``."""

    column: Column


@dataclass(frozen=True, slots=True)
class Not:
    """``not part``."""

    part: Node


@dataclass(frozen=True, slots=True)
class AllOf:
    """``part and part …``."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """``part or part …``."""

    parts: tuple[Node, ...]


Leaf: TypeAlias = Compare | Between | OneOf | Contains | Known
Node: TypeAlias = Leaf | Not | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that has been read.

    Attributes:
        text: as it was given.
        root: its tree.

    >>> Filter.parse('arm == "math" and pass_rate in 0.2..0.8').sql()[1]
    ['math', 0.2, 0.8]
    """

    text: str
    root: Node

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Read a filter.

        Raises:
            FilterError: it cannot be read; the place is shown.
        """
        return cls(text, _Parser(text).parsed())

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """Its conditions."""
        return tuple(_leaves(self.root))

    @property
    def needs_rollouts(self) -> bool:
        """Whether it speaks of a model's rollouts."""
        return any(not leaf.column.path and COLUMNS[leaf.column.name].of_rollouts for leaf in self.leaves)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the metadata that it names (of nested ones, the outermost)."""
        return tuple(dict.fromkeys(leaf.column.path[0] for leaf in self.leaves if leaf.column.path))

    def sql(self) -> tuple[str, list[Value]]:
        """A condition on ``PROMPTS`` and ``ROLLED_OUT``, never NULL, and its parameters."""
        parameters: list[Value] = []
        return _sql(self.root, parameters), parameters


def _leaves(node: Node) -> Iterator[Leaf]:
    match node:
        case Not(part):
            yield from _leaves(part)
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _leaves(part)
        case _:
            yield node


# ---- SQL ------------------------------------------------------------------------------------------------------------

_OPERATORS: dict[Comparison, str] = {"==": "=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_JSON = "nullif(p.metadata, '')"


def _sql(node: Node, parameters: list[Value]) -> str:
    match node:
        case Not(part):
            return f"(not {_sql(part, parameters)})"
        case AllOf(parts):
            return "(" + " and ".join([_sql(part, parameters) for part in parts]) + ")"
        case AnyOf(parts):
            return "(" + " or ".join([_sql(part, parameters) for part in parts]) + ")"
        case Compare(column, "!=", value):
            return f"(not {_sql(Compare(column, '==', value), parameters)})"
        case _:
            condition = _metadata_sql(node, parameters) if node.column.path else _column_sql(node, parameters)
            return f"coalesce({condition}, false)"


def _column_sql(leaf: Leaf, parameters: list[Value]) -> str:
    expression = COLUMNS[leaf.column.name].sql
    match leaf:
        case Compare(_, operator, value):
            parameters.append(value)
            return f"({expression}) {_OPERATORS[operator]} ?"
        case Between(_, low, high):
            parameters += [low, high]
            return f"({expression}) between ? and ?"
        case OneOf(_, values):
            parameters += values
            return f"({expression}) in ({', '.join('?' for _ in values)})"
        case Contains(_, text):
            parameters.append(text)
            return f"contains({expression}, ?)"
        case Known():
            return f"({expression}) is not null"


def _metadata_sql(leaf: Leaf, parameters: list[Value]) -> str:
    """A condition on a key: a value of another type than the one it is compared with does not match."""
    pointer = leaf.column.pointer
    match leaf:
        case OneOf(column, values):
            parts = [_metadata_sql(Compare(column, "==", value), parameters) for value in values]
            return "(" + " or ".join(f"coalesce({part}, false)" for part in parts) + ")"
        case Known():
            parameters.append(pointer)
            return f"json_type({_JSON}, ?) != 'NULL'"
        case Contains(_, text):
            parameters += [pointer, pointer, text, pointer, pointer, text]
            return (
                f"json_type({_JSON}, ?) = 'VARCHAR' and contains(json_extract_string({_JSON}, ?), ?) "
                f"or json_type({_JSON}, ?) = 'ARRAY' and "
                f"list_contains(try_cast(json_extract({_JSON}, ?) as varchar[]), ?)"
            )
        case Between(_, low, high):
            parameters += [pointer, pointer, float(low), float(high)]
            return f"{_NUMERIC} between ? and ?"
        case Compare(_, operator, value):
            return _metadata_comparison(pointer, _OPERATORS[operator], value, parameters)


def _metadata_comparison(pointer: str, operator: str, value: Value, parameters: list[Value]) -> str:
    parameters += [pointer, pointer]
    if isinstance(value, (bool, str)):
        kind = "BOOLEAN" if isinstance(value, bool) else "VARCHAR"
        parameters.append(("false", "true")[value] if isinstance(value, bool) else value)
        return f"json_type({_JSON}, ?) = '{kind}' and json_extract_string({_JSON}, ?) {operator} ?"
    parameters.append(float(value))
    return f"{_NUMERIC} {operator} ?"


_NUMERIC = (
    f"json_type({_JSON}, ?) in ('UBIGINT', 'BIGINT', 'HUGEINT', 'UHUGEINT', 'DOUBLE') "
    f"and try_cast(json_extract({_JSON}, ?) as double)"
)


# ---- words ----------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<name>[^\W\d]\w*)
      | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<operator>==|!=|<=|>=|\.\.|<(?!>)|>|[()\[\],.])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "'": "'", "\\": "\\"}
_WORDS = ("and", "or", "not", "in", "contains", "is", "known", "unknown", "true", "false")
_AFTER_COLUMN = ("==", "!=", "<", "<=", ">", ">=", "in", "not in", "contains", "is known", "is unknown")

# What other languages write, and what it is here.
_FOREIGN = {
    "=": "equality is `==`",
    "<>": "inequality is `!=`",
    "&&": "write `and`",
    "&": "write `and`",
    "||": "write `or`",
    "|": "write `or`",
    "!": "write `not`",
    ";": "a filter is one condition; there are no statements",
    "--": "there are no comments",
    "/*": "there are no comments",
    "#": "there are no comments",
    "%": "there is no arithmetic",
    "+": "there is no arithmetic",
    "*": "there is no arithmetic",
    "/": "there is no arithmetic",
    "`": "columns need no quotes",
    "$": "columns need no sign before them",
    "like": 'write `contains "…"`',
    "ilike": 'write `contains "…"`',
    "between": "write `in low..high`",
    "equals": "equality is `==`",
    "has": 'write `contains "…"`',
    "null": "write `is unknown`, or `is known`",
    "none": "write `is unknown`, or `is known`",
}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


def _tokens(text: str) -> list[_Token]:
    if len(text) > LONGEST:
        raise FilterError(f"a filter has at most {LONGEST} characters; this one has {len(text)}", None, text, LONGEST)
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _stray(text, at)
        if match.lastgroup == "number" and re.match(r"\w", text[match.end() :]):
            raise _error(text, at, f"`{match[0]}{text[match.end()]}…` is neither a number nor a column")
        if match.lastgroup != "space":
            found.append(_Token(str(match.lastgroup), match[0], at))
        at = match.end()
    return [*found, _Token("end", "", len(text.rstrip()))]


def _stray(text: str, at: int) -> FilterError:
    """What to say of a character that no word begins with."""
    if text[at] in "\"'":
        return _error(text, at, f"this text has no closing {text[at]}")
    foreign = next((text[at : at + size] for size in (2, 1) if text[at : at + size] in _FOREIGN), None)
    if foreign is not None:
        return _error(text, at, f"`{foreign}` means nothing here", _FOREIGN[foreign])
    return _error(text, at, f"{text[at]!r} means nothing here")


def _error(text: str, at: int, message: str, hint: str | None = None) -> FilterError:
    return FilterError(f"filter, character {at + 1}: {message}", hint, text, at)


# ---- reading --------------------------------------------------------------------------------------------------------


class _Parser:
    """Recursive descent: each method reads one thing, and stands behind it afterwards."""

    def __init__(self, text: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _error(text, error.start, "this is no Unicode text") from None
        self._text = text
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0
        self._conditions = 0

    def parsed(self) -> Node:
        if self._next.kind == "end":
            raise self._error("the filter is empty", hint='such as: arm == "math" and pass_rate in 0.2..0.8')
        node = self._any()
        if self._next.kind != "end":
            raise self._after_condition()
        return node

    # -- tokens

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, *words: str) -> str | None:
        """The next word if it is one of these (and not a text in quotes)."""
        token = self._next
        if token.kind in ("name", "operator") and token.text in words:
            self._at += 1
            return token.text
        return None

    def _error(self, message: str, *, at: int | None = None, hint: str | None = None) -> FilterError:
        return _error(self._text, self._next.start if at is None else at, message, hint)

    def _shown(self) -> str:
        token = self._next
        return "the end" if token.kind == "end" else f"`{token.text}`"

    # -- grammar

    def _any(self) -> Node:
        parts = [self._all()]
        while self._take("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all(self) -> Node:
        parts = [self._negated()]
        while self._take("and"):
            parts.append(self._negated())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _negated(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._error(f"parentheses and `not` are nested deeper than {DEEPEST}")
        node = Not(self._negated()) if self._take("not") else self._condition_or_group()
        self._depth -= 1
        return node

    def _condition_or_group(self) -> Node:
        start = self._next.start
        if not self._take("("):
            return self._condition()
        node = self._any()
        if not self._take(")"):
            if self._next.kind != "end":
                raise self._after_condition()
            raise self._error("this parenthesis is never closed", at=start)
        return node

    def _condition(self) -> Node:
        self._conditions += 1
        if self._conditions > MOST_CONDITIONS:
            raise self._error(f"a filter has at most {MOST_CONDITIONS} conditions")
        start = self._next.start
        column = self._column()
        operator = self._take("==", "!=", "<", "<=", ">", ">=")
        if operator:
            return self._comparison(column, operator, start)
        if self._take("is"):
            return self._is(column)
        negated = self._take("not") is not None
        node: Node
        if self._take("in"):
            node = self._in(column)
        elif self._take("contains"):
            node = self._contains(column)
        elif negated:
            raise self._error(f"`not` behind a column goes with `in` or `contains`; got {self._shown()}")
        else:
            return self._flag(column, start)
        return Not(node) if negated else node

    def _column(self) -> Column:
        token = self._next
        if token.kind != "name" or token.text in _WORDS:
            raise self._no_column(token)
        self._at += 1
        if token.text == METADATA:
            return Column(METADATA, self._path())
        name = ALIASES.get(token.text, token.text)
        if name not in COLUMNS:
            raise self._unknown_column(token)
        return Column(name)

    def _no_column(self, token: _Token) -> FilterError:
        if token.kind in ("number", "string") or token.text in ("true", "false"):
            return self._error(f"a condition starts with a column, not with a value; got {self._shown()}")
        return self._error(f"a condition is expected here; got {self._shown()}")

    def _unknown_column(self, token: _Token) -> FilterError:
        near = did_you_mean(token.text, [*COLUMNS, *ALIASES, METADATA, "not"])
        hint = f"columns: {', '.join(COLUMNS)}, metadata.KEY"
        message = f'there is no column "{token.text}"'
        return self._error(message, at=token.start, hint=f"{near} {hint}" if near else hint)

    def _path(self) -> tuple[str, ...]:
        path: list[str] = []
        while opening := self._take(".", "["):
            token = self._next
            if token.kind != ("name" if opening == "." else "string"):
                raise self._error("a key is expected here", hint='metadata.level, or metadata["odd key"]')
            path.append(token.text if opening == "." else self._string())
            self._at += opening == "."
            if opening == "[" and not self._take("]"):
                raise self._error(f"`]` is expected here; got {self._shown()}")
        if not path:
            raise self._error("say which key of the metadata is meant", hint='metadata.level, or metadata["odd key"]')
        return tuple(path)

    def _comparison(self, column: Column, operator: str, start: int) -> Node:
        at = self._next.start
        value = self._value()
        self._check_kind(column, value, at)
        if operator not in ("==", "!=") and (isinstance(value, (str, bool))):
            what = "a text" if isinstance(value, str) else "true or false"
            raise self._error(f"`{operator}` is for numbers; got {what}", at=at)
        if self._next.text in ("==", "!=", "<", "<=", ">", ">=") and self._next.kind == "operator":
            raise self._error("one comparison at a time", hint=f"write `{column} in low..high`, or `and`")
        return Compare(column, operator, value)  # type: ignore[arg-type]  # it is one of them

    def _check_kind(self, column: Column, value: Value, at: int) -> None:
        """Refuse a value that this column never has."""
        given = "flag" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
        if column.kind in (given, "metadata"):
            return
        names = {"flag": "true or false", "text": "a text, in quotes", "number": "a number"}
        raise self._error(f"`{column}` is compared with {names[column.kind]}; got {names[given]}", at=at)

    def _is(self, column: Column) -> Node:
        negated = self._take("not") is not None
        word = self._take("known", "unknown")
        if word is None:
            raise self._error(f"`is` goes with `known` or `unknown`; got {self._shown()}", hint=self._foreign_hint())
        return Known(column) if (word == "known") != negated else Not(Known(column))

    def _in(self, column: Column) -> Node:
        if self._take("["):
            return OneOf(column, self._values(column))
        at = self._next.start
        low = self._value()
        if not self._take(".."):
            raise self._error(f"`in` goes with a range or a list; got {self._shown()}", hint='0.2..0.8, or ["a", "b"]')
        upper = self._next.start
        high = self._value()
        for value, place in ((low, at), (high, upper)):
            if isinstance(value, (str, bool)):
                raise self._error("the ends of a range are numbers", at=place)
            self._check_kind(column, value, place)
        if low > high:  # type: ignore[operator]  # both are numbers
            raise self._error(f"this range is empty: {low} is larger than {high}", at=at)
        return Between(column, low, high)  # type: ignore[arg-type]  # both are numbers

    def _values(self, column: Column) -> tuple[Value, ...]:
        values: list[Value] = []
        while True:
            at = self._next.start
            values.append(self._value())
            self._check_kind(column, values[-1], at)
            if len(values) > MOST_VALUES:
                raise self._error(f"a list has at most {MOST_VALUES} values", at=at)
            if self._take("]"):
                return tuple(values)
            if not self._take(","):
                raise self._error(f"`,` or `]` is expected here; got {self._shown()}")

    def _contains(self, column: Column) -> Node:
        at = self._next.start
        value = self._value()
        if not isinstance(value, str):
            raise self._error("`contains` goes with a text, in quotes", at=at)
        self._check_kind(column, value, at)
        return Contains(column, value)

    def _flag(self, column: Column, start: int) -> Node:
        """A column that stands alone."""
        if self._next.kind == "name" and self._next.text not in _WORDS:
            joins = self._next.text.casefold() in ("and", "or")
            raise self._after_condition() if joins else self._after_column(column)
        if column.kind in ("flag", "metadata"):
            return Compare(column, "==", value=True)
        if self._next.kind in ("end", "name") or self._next.text == ")":
            raise self._error(f"say what `{column}` must be", at=start, hint=f"one of: {', '.join(_AFTER_COLUMN)}")
        raise self._after_column(column)

    def _value(self) -> Value:
        token = self._next
        if token.kind == "string":
            return self._string()
        if token.kind == "number":
            self._at += 1
            return self._number(token)
        if token.kind == "name" and token.text in ("true", "false"):
            self._at += 1
            return token.text == "true"
        if token.kind == "name":
            quoted = f'texts are quoted: "{token.text}"'
            raise self._error(f"a value is expected here; got {self._shown()}", hint=self._foreign_hint() or quoted)
        raise self._error(f"a value is expected here; got {self._shown()}")

    def _number(self, token: _Token) -> int | float:
        if re.fullmatch(r"-?[0-9]{1,19}", token.text) and abs(int(token.text)) <= _INT64:
            return int(token.text)
        number = float(token.text)
        if not math.isfinite(number):
            raise self._error("this number is too large", at=token.start)
        return number

    def _string(self) -> str:
        token = self._next
        self._at += 1

        def replaced(match: re.Match[str]) -> str:
            if match[1] not in _ESCAPES:
                hint = r"a backslash itself is written \\"
                raise self._error(f"`{match[0]}` means nothing", at=token.start + 1 + match.start(), hint=hint)
            return _ESCAPES[match[1]]

        return _ESCAPE.sub(replaced, token.text[1:-1])

    # -- what to say

    def _foreign_hint(self) -> str | None:
        return _FOREIGN.get(self._next.text.casefold())

    def _after_column(self, column: Column) -> FilterError:
        near = self._foreign_hint() or did_you_mean(self._next.text, _AFTER_COLUMN)
        listed = f"one of: {', '.join(_AFTER_COLUMN)}"
        return self._error(
            f"{self._shown()} is no operator for `{column}`", hint=f"{near} ({listed})" if near else listed
        )

    def _after_condition(self) -> FilterError:
        if self._next.text == ")" and self._next.kind == "operator":
            return self._error("this parenthesis was never opened")
        near = self._foreign_hint() or did_you_mean(self._next.text, ["and", "or"])
        return self._error(f"`and` or `or` is expected here; got {self._shown()}", hint=near)
