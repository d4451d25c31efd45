"""Tasks of reasoning-gym into the store: ``gym:TASK?param=value&size=500&seed=0``."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import numpy as np

from curri.errors import InvalidData, InvalidInput, InvalidParameter, MissingExtra, did_you_mean, unknown_name
from curri.exchange.jsonl import Progress, compact_json
from curri.exchange.loading import IngestReport, PromptLoader
from curri.store import NewPrompt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from curri.store import PromptStore

SCHEME = "gym:"
LARGEST = 10_000_000
"""Prompts that one source may make."""
CHUNK = 500
"""Prompts of one transaction; they are slow to make, so that a chunk of files would show no progress."""

SIZE = 500
SEED = 0

_READABLE = (int, float, bool, str)


@dataclass(frozen=True, slots=True)
class GymTask:
    """A reasoning-gym task with its parameters.

    Attributes:
        task: registered name.
        parameters: of the task, those given, ``size`` and ``seed`` aside.
        size: how many prompts.
        seed: of the task's own generator.
    """

    task: str
    parameters: Mapping[str, Any]
    size: int = SIZE
    seed: int = SEED

    @property
    def arm(self) -> str:
        """The task with its parameters, such as "knights_knaves(n_people=2)"."""
        shown = ",".join(f"{name}={_spelled(value)}" for name, value in sorted(self.parameters.items()))
        return f"{self.task}({shown})" if shown else self.task


def is_gym(source: str) -> bool:
    """Whether a source is a reasoning-gym task and not a file."""
    return source.startswith(SCHEME)


def ingest_gym(
    store: PromptStore,
    spec: str,
    *,
    arm: str | None = None,
    split: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    chunk: int = CHUNK,
) -> IngestReport:
    """Add prompts of a reasoning-gym task.

    Each prompt's metadata says how to make it again and score an answer: ``{"gym": {"task": …, "params": …, "seed": …,
    "size": …, "index": …}, "entry": …}``, where ``entry`` is what the task itself says of it.

    Args:
        store: an open store.
        spec: such as ``gym:knights_knaves?n_people=2&size=500&seed=0``; ``size`` is 500 and ``seed`` 0 if left out.
        arm: name of the distribution; by default the task and the parameters that are not its defaults.
        split: of the prompts; None for training.
        progress: called after every chunk.
        chunk: prompts of one transaction.

    Returns:
        counts of what became of the prompts.

    Raises:
        MissingExtra: reasoning-gym is not installed.
        UnknownName: there is no such task.
        InvalidParameter: the task has no such parameter, or it cannot take the value.
    """
    task, dataset = parse_gym(spec)
    arm = arm or task.arm
    loader = PromptLoader(store)
    for start in range(0, task.size, chunk):
        indices = range(start, min(start + chunk, task.size))
        loader.add(list(indices), [_prompt(dataset[index], index, task, arm, split) for index in indices])
        if progress is not None:
            progress(Progress(indices.stop, task.size, indices.stop))
    return IngestReport(
        source=spec,
        rows=task.size,
        arms=loader.arms,
        other_arm_examples=tuple(loader.examples),
        **loader.counts,  # type: ignore[arg-type]  # its keys are counts
    )


def parse_gym(spec: str) -> tuple[GymTask, Any]:
    """A specification as the task it names, and the dataset reasoning-gym makes of it.

    Raises:
        MissingExtra: reasoning-gym is not installed.
        UnknownName: there is no such task.
        InvalidParameter: the task has no such parameter, or it cannot take the value.
    """
    name, _, query = spec.removeprefix(SCHEME).partition("?")
    datasets, create = _library()
    if name not in datasets:
        raise unknown_name("reasoning-gym task", name, datasets)
    config = datasets[name][1]
    given = {"size": SIZE, "seed": SEED} | _parsed(name, config, query)
    for key, low, high in (("size", 1, LARGEST), ("seed", 0, 2**63 - 1)):
        if given[key] is None or not low <= given[key] <= high:
            raise InvalidParameter(f"`{key}` of `{name}` must be an int in [{low}, {high}]; got {given[key]}")
    size, seed = given.pop("size"), given.pop("seed")
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    parameters = {key: value for key, value in given.items() if value != defaults[key]}
    try:
        dataset = create(name, size=size, seed=seed, **parameters)
    except (AssertionError, ValueError, TypeError) as error:
        message = f"reasoning-gym refuses these parameters of `{name}`: {error}"
        raise InvalidParameter(message, hint=_listing(name, config)) from error
    return GymTask(name, parameters, size, seed), dataset


def _library() -> tuple[Mapping[str, Any], Callable[..., Any]]:
    try:
        from reasoning_gym import create_dataset
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        message = f"`gym:` sources need reasoning-gym, which cannot be imported ({error})"
        raise MissingExtra(message, hint="pip install 'curri[gym]'") from error
    return DATASETS, create_dataset


def _parsed(task: str, config: type[Any], query: str) -> dict[str, Any]:
    kinds = typing.get_type_hints(config)
    known = {field.name: kinds[field.name] for field in dataclasses.fields(config)}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        message = f'"{query}" is not a list of parameters'
        raise InvalidInput(message, hint=f"write {SCHEME}{task}?size=500&seed=0") from None
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name not in known:
            near = did_you_mean(name, known)
            listing = _listing(task, config)
            raise InvalidParameter(
                f"the task `{task}` has no parameter `{name}`", hint=f"{near} {listing}" if near else listing
            )
        if name in values:
            raise InvalidParameter(f"`{name}` of `{task}` is given twice")
        values[name] = _value(task, name, known[name], text)
    return values


def _value(task: str, name: str, kind: Any, text: str) -> Any:
    """A value read as its declared type; optional ones and lists of readable types too."""
    wanted = _readable(kind)
    if text.lower() in ("none", "null") and type(None) in typing.get_args(kind):
        return None
    try:
        if wanted is bool:
            return {"true": True, "false": False}[text.lower()]
        if wanted in (int, float, str):
            return wanted(text)
        if wanted in (list, tuple):
            value = json.loads(text)
            if isinstance(value, list):
                return wanted(value)
    except (KeyError, ValueError):
        pass
    allowed = {bool: "true or false", list: "a JSON list", tuple: "a JSON list", None: "left out here"}
    said = allowed.get(wanted) or f"{'an' if wanted is int else 'a'} {wanted.__name__}"
    raise InvalidParameter(f"`{name}` of `{task}` must be {said}; got {text!r}")


def _readable(kind: Any) -> Any:
    """int, float, bool, str, list or tuple, or None for what a text cannot hold."""
    options = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    plain = [option for option in options if option is not type(None)]
    if len(plain) != 1:
        return None
    found = typing.get_origin(plain[0]) or plain[0]
    if found is typing.Literal:
        return str
    holds_others = any(entry not in (*_READABLE, ...) for entry in typing.get_args(plain[0]))
    return found if found in (*_READABLE, list, tuple) and not holds_others else None


def _listing(task: str, config: type[Any]) -> str:
    shown = []
    for field in dataclasses.fields(config):
        plain = field.default is not dataclasses.MISSING
        shown.append(f"{field.name}={_spelled(field.default)}" if plain else field.name)
    return f"parameters of {task} and their defaults: {', '.join(shown)}"


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _prompt(entry: Mapping[str, Any], index: int, task: GymTask, arm: str, split: str | None) -> NewPrompt:
    origin = {"task": task.task, "params": dict(task.parameters), "seed": task.seed, "size": task.size, "index": index}
    answer = entry.get("answer")
    return NewPrompt(
        prompt=_storable(entry["question"], task, index),
        is_chat=False,
        answer=None if answer is None else _storable(str(answer), task, index),
        arm=arm,
        external_id=f"{task.arm}/{task.seed}/{index}",
        metadata=compact_json(json_able({"gym": origin, "entry": entry.get("metadata") or {}})),
        split=split,
    )


def _storable(text: str, task: GymTask, index: int) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidData(f"prompt {index} of {task.arm} holds half a surrogate pair: {error}") from None
    return text


def json_able(value: Any) -> Any:  # noqa: PLR0911  one return for each kind of value
    """A value as JSON can hold it: NumPy's become Python's, sets are sorted, what JSON has no word for becomes text.

    >>> json_able({"grid": np.eye(2, dtype=int), (1, 2): {3}})
    {'grid': [[1, 0], [0, 1]], '(1, 2)': [3]}
    """
    if isinstance(value, dict):
        return {str.__str__(key) if isinstance(key, str) else str(key): json_able(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((json_able(item) for item in value), key=str)
    if isinstance(value, (np.ndarray, np.generic)):
        return json_able(value.tolist())
    if isinstance(value, (list, tuple)):
        return [json_able(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and np.isfinite(value):
        return value
    return str.__str__(value) if isinstance(value, str) else str(value)
