"""What the columns of a file of rollouts mean: ours, those of TRL and verl, and those that the user names."""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from curri.errors import InvalidData, InvalidInput, did_you_mean
from curri.exchange.fields import SYNONYMS, number
from curri.exchange.jsonl import described, literal, parse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from curri.exchange.jsonl import Row
    from curri.exchange.sources import Rows

Layout: TypeAlias = Literal["curri", "trl", "verl"]

_MARKS: dict[Layout, frozenset[str]] = {
    "trl": frozenset({"step", "prompt", "completion", "advantage"}),
    "verl": frozenset({"step", "input", "output", "score"}),
}
"""The columns that the files of a trainer always have."""

_RENAMED: dict[Layout, dict[str, str]] = {
    "curri": {},
    "trl": {"response": "completion", "policy_version": "step", "weight_version": "step"},
    "verl": {
        "prompt": "input",
        "response": "output",
        "reward": "score",
        "solved": "acc",
        "policy_version": "step",
        "weight_version": "step",
    },
}
"""Our column → theirs. The weights of a step are a source of their own, so that files of several steps add up."""

_TEXTS = frozenset({"id", "answer", "model", "weight_version", "settings", "verifier"})
_NUMBERS = frozenset({
    "prompt_id", "sample", "reward", "rewards", "solved", "advantage", "advantages", "tokens", "truncated",
    "policy_version", "k", "n", "rate",
})  # fmt: skip
_LISTS = frozenset({"responses", "rollout_ids", "rewards", "settings"})
ROLLOUT_COLUMNS = (_TEXTS | _NUMBERS | _LISTS | {"prompt", "response", "rollout_id", "kind"}) - {"k", "n", "rate"}
NAMED_BY = ("prompt_id", "id", "prompt")
"""Columns that may name a prompt; the first that a row has counts."""

PRIOR_COLUMNS = frozenset({"prompt_id", "id", "prompt", "answer", "k", "n", "rate"})

_PLACE = "{prompt}"
_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Translation:
    """How rows of a file become rows with our columns.

    Attributes:
        columns: our column → the file's.
        weights: reward functions and what each counts in the reward; empty where there is a reward already.
        template: text around each prompt, as (before, after), or None.
        texts_only: all values are texts, as in CSV, so that numbers have to be read.
        dropped: columns of the file that are not kept under their own name.
        known: our columns, the only ones that are read as anything but text there.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    template: tuple[str, str] | None = None
    texts_only: bool = False
    dropped: frozenset[str] = frozenset()
    known: frozenset[str] = ROLLOUT_COLUMNS

    def row(self, row: Row) -> Row:
        """A row with our columns; refused where it cannot be one."""
        if row.value is None:
            return row
        try:
            return row._replace(value=self._value(row, row.value))
        except InvalidData as error:
            return row._replace(value=None, reason=error.message)

    def _value(self, row: Row, value: dict[str, Any]) -> dict[str, Any]:
        result = {name: entry for name, entry in value.items() if name not in self.dropped}
        for ours, theirs in self.columns.items():
            if theirs in value:
                result[ours] = self._spelled(row, ours, theirs, value[theirs])
        if self.texts_only:
            for name in self.known & result.keys():
                if isinstance(result[name], str):
                    result[name] = _read(name, result[name])
        if self.weights:
            result |= {name: None for name in self.weights if _is_nan(value.get(name))}
            result["reward"] = self._reward(value)
        if self.template is not None and isinstance(result.get("prompt"), str):
            result["prompt"] = _unwrapped(result["prompt"], self.template)
        return result

    @staticmethod
    def _spelled(row: Row, ours: str, theirs: str, entry: Any) -> Any:
        """A value for a column of ours; numbers of text columns keep their digits, numbers in texts are numbers."""
        if ours in _TEXTS and isinstance(entry, (int, float)) and not isinstance(entry, bool):
            return literal(row.raw, theirs)
        return _read(ours, entry) if ours == "policy_version" and isinstance(entry, str) else entry

    def _reward(self, value: Mapping[str, Any]) -> float:
        """The weighted sum of those reward functions that gave something."""
        total, given = 0.0, False
        for name, weight in self.weights.items():
            entry = _read("reward", value[name]) if isinstance(value.get(name), str) else value.get(name)
            if entry is None or _is_nan(entry):
                continue  # a reward function that says nothing of a response gives none
            total, given = total + weight * number(name, entry), True
        if not given:
            raise InvalidData(f"no reward: {', '.join(self.weights)} say nothing of this response")
        return total


def _is_nan(entry: Any) -> bool:
    return isinstance(entry, float) and math.isnan(entry)


class TranslatedRows:
    """Rows of a source with our columns; see :class:`~curri.exchange.sources.Rows`.

    Args:
        rows: the source.
        translation: how.
    """

    def __init__(self, rows: Rows, translation: Translation) -> None:
        self.source = rows
        self.translation = translation

    def __iter__(self) -> Iterator[Row]:
        return map(self.translation.row, self.source)


def translation(
    rows: Rows,
    *,
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
    reward_weights: Mapping[str, float] | None = None,
    prompt_template: str | None = None,
    known: frozenset[str] = ROLLOUT_COLUMNS,
) -> Translation:
    """How rows of a source become rows with our columns.

    Args:
        rows: the source, which is at its beginning afterwards.
        layout: "curri", "trl" or "verl"; by default what the columns say.
        columns: our column → the file's.
        reward_weights: columns that make up the reward, and what each counts.
        prompt_template: text with ``{prompt}`` in it, around every prompt of the file.
        known: columns of ours that may be named.

    Raises:
        InvalidInput: names or values that cannot be used, or columns that the file does not have.
    """
    present = _columns(rows)
    named = dict(columns or {})
    form = _layout(layout, present)
    _check_named(rows.name, named, known, present)
    weights = dict(reward_weights or {})
    if weights and "reward" in named:
        raise InvalidInput("the reward is named twice: as a column and by weights of reward functions")
    if form == "trl" and not weights and not {"reward", "rewards"} & {*named, *present}:
        weights = {_only_reward(rows.name, present, named): 1.0}
    for name, weight in weights.items():
        _refuse_missing(rows.name, name, present)
        if not math.isfinite(weight):
            raise InvalidInput(f'the weight of "{name}" must be finite; got {weight}')
    usual = {ours: theirs for ours, theirs in _RENAMED[form].items() if theirs in present and ours not in present}
    if weights or "rewards" in named:
        usual.pop("reward", None)
    renamed = usual | named
    dropped = {theirs for theirs in renamed.values() if theirs not in renamed}
    if any(ours in NAMED_BY for ours in named):  # what the user says names the prompt is what names it
        dropped |= {ours for ours in NAMED_BY if ours not in renamed}
    return Translation(
        columns=renamed,
        dropped=frozenset(dropped),
        weights=weights,
        template=None if prompt_template is None else _template(prompt_template),
        texts_only=rows.texts_only,
        known=known,
    )


def _columns(rows: Rows) -> Sequence[str]:
    """Columns of a source: those it names, or those of its first usable row."""
    if rows.columns:
        return rows.columns
    first: Mapping[str, Any] = next((row.value for row in rows if row.value is not None), {})
    rows.rewind()
    return list(first)


def _layout(asked: str | None, present: Iterable[str]) -> Layout:
    if asked is None:
        return next((form for form, marks in _MARKS.items() if marks <= set(present)), "curri")
    for form in get_args(Layout):
        if asked == form:
            return form  # type: ignore[no-any-return]
    raise InvalidInput(f'there is no layout "{asked}"; known: {", ".join(get_args(Layout))}')


def _check_named(name: str, named: Mapping[str, str], known: Collection[str], present: Sequence[str]) -> None:
    for ours, theirs in named.items():
        if ours not in known:
            near = did_you_mean(ours, known)
            raise InvalidInput(f'"{ours}" is no column that can be named; known: {", ".join(sorted(known))}', hint=near)
        _refuse_missing(name, theirs, present)
        other = SYNONYMS.get(ours)
        if other in named:
            raise InvalidInput(f'"{ours}" and "{other}" cannot both be named')


def _refuse_missing(name: str, column: str, present: Sequence[str]) -> None:
    if present and column not in present:
        shown = ", ".join(f'"{entry}"' for entry in present[:20])
        raise InvalidInput(f'{name} has no column "{column}"; its columns: {shown}', hint=did_you_mean(column, present))


def _only_reward(name: str, present: Sequence[str], named: Mapping[str, str]) -> str:
    """The reward function of a file of TRL, which stands between its own columns."""
    aside = {*_MARKS["trl"], *named.values(), *ROLLOUT_COLUMNS, "images", "image"}
    candidates = [column for column in present if column not in aside]
    if len(candidates) == 1:
        return candidates[0]
    listed = ", ".join(f'"{column}"' for column in candidates) or "none"
    example = ",".join(f"{column}=1" for column in candidates[:2]) or "NAME=1"
    raise InvalidInput(
        f"{name} may hold several reward functions: {listed}",
        hint=f"say which are added up: --reward-weights {example}",
    )


def _template(text: str) -> tuple[str, str]:
    text = re.sub(r"\\([nt\\])", lambda match: {"n": "\n", "t": "\t", "\\": "\\"}[match[1]], text)
    before, place, after = text.partition(_PLACE)
    if not place or _PLACE in after:
        raise InvalidInput(f"a prompt template holds {_PLACE} once; got {text!r}")
    return before, after


def _unwrapped(text: str, template: tuple[str, str]) -> str:
    before, after = template
    if len(text) < len(before) + len(after) or not (text.startswith(before) and text.endswith(after)):
        raise InvalidData(f"the prompt {described(text)} is not of the form of the template")
    return text[len(before) : len(text) - len(after)]


def _read(name: str, text: str) -> Any:
    """A cell of a file that has texts only: a number or a list where the column holds such."""
    if name not in _NUMBERS and name not in _LISTS:
        return text
    if name in _LISTS and text.lstrip().startswith(("[", "{")):
        with contextlib.suppress(InvalidData):  # refused as a text, and shown
            return parse(text.encode())
    return _number(text) if name in _NUMBERS else text


def _number(text: str) -> Any:
    """The number that a cell holds, or true or false; a text that is neither as it is."""
    plain = text.strip()
    if _INTEGER.fullmatch(plain):
        return int(plain)
    if _REAL.fullmatch(plain):
        return float(plain)
    return {"true": True, "false": False}.get(plain.lower(), text)
