"""New prompts of reasoning-gym tasks out of stored ones: a harder setting, or another prompt of the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from curri.errors import InvalidParameter, MissingExtra
from curri.types import Evolved, Prompt, Refusal

_OWN = ("seed", "size")
_REFUSED_BY_TASK = (AssertionError, ValueError, TypeError)


class _Origin(NamedTuple):
    """Which task and setting a stored prompt was made with."""

    task: str
    params: dict[str, Any]


class _Knob(NamedTuple):
    """One setting of a task and what to turn it to.

    Attributes:
        name: of the setting, as reasoning-gym's curriculum calls it.
        changes: parameters to set; tried in order until the task takes one.
    """

    name: str
    changes: list[dict[str, Any]]


class GymCreator:
    """Evolves prompts that ``curri ingest gym:…`` made, by rules.

    * In depth: one setting, chosen at random among those that can still go up, is turned to the next level of
      reasoning-gym's own curriculum for the task. A setting with a lower and an upper bound gets the next level as
      upper and its old upper bound as lower one, so that in this respect no child is easier than the hardest of
      its parent's setting; where the task refuses that, only the upper bound is raised.
    * In breadth: a new prompt of the same setting.

    Each child is scored with its own answer by the task's own scorer; one that does not get 1.0 is refused, and so are
    those of the few tasks that give no answer. Its metadata has the form that ``curri ingest`` gives, so that children
    can be evolved, and scored, like originals. Its arm is named after the new setting if its parent's was named after
    the old one, and else is its parent's.

    Prompts of other origin, and settings that cannot go up, are refused. Four of reasoning-gym's tasks have no
    curriculum; they evolve in breadth only.

    Args:
        breadth: share of children made in breadth; 1/5 as in eva's five operations (distilabel's EvolInstruct).

    Raises:
        InvalidParameter: not in [0, 1].

    >>> from curri.types import Prompt
    >>> origin = {"task": "chain_sum", "params": {"max_terms": 3}, "seed": 0, "size": 1, "index": 0}
    >>> parent = Prompt(1, "1 + 1 = ?", "2", "chain_sum(max_terms=3)", {"gym": origin, "entry": {}})
    >>> ((child,),) = GymCreator(breadth=0.0).create([parent], 1, seeds=[4])
    >>> child.operation, child.arm
    ('raise num_digits', 'chain_sum(max_digits=5,max_terms=3,min_digits=4)')
    """

    name = "gym"

    def __init__(self, *, breadth: float = 0.2) -> None:
        if isinstance(breadth, bool) or not isinstance(breadth, (int, float)) or not 0.0 <= breadth <= 1.0:
            raise InvalidParameter(f"`breadth` of `GymCreator` must be a float in [0, 1]; got {breadth!r}")
        self.breadth = float(breadth)

    def create(self, parents: Sequence[Prompt], n: int, seeds: Sequence[int]) -> Sequence[Sequence[Evolved | Refusal]]:
        """``n`` children of each parent, see :class:`curri.types.Creator`.

        Raises:
            MissingExtra: reasoning-gym is not installed.
        """
        gym = Gym()
        children = []
        for parent, seed in zip(parents, seeds, strict=True):
            rng = np.random.Generator(np.random.PCG64(seed))
            children.append([self._child(gym, parent, rng) for _ in range(n)])
        return children

    def _child(self, gym: Gym, parent: Prompt, rng: np.random.Generator) -> Evolved | Refusal:
        origin = gym.origin(parent)
        if isinstance(origin, Refusal):
            return origin
        sideways = rng.random() < self.breadth
        seed = int(rng.integers(0, 2**31))
        if sideways or not gym.has_curriculum(origin.task):
            return gym.made(parent, origin, origin.params, seed, "another seed")
        knobs = gym.knobs(origin)
        for place in rng.permutation(len(knobs)).tolist():
            for change in knobs[place].changes:
                params = gym.set_to(origin, change)
                if gym.accepts(origin.task, params):
                    return gym.made(parent, origin, params, seed, f"raise {knobs[place].name}")
        return Refusal("no setting of the task can go up any more", "raise")


class Gym:
    """What is needed of reasoning-gym, here and to verify.

    Raises:
        MissingExtra: it is not installed.
    """

    def __init__(self) -> None:
        try:
            from reasoning_gym import create_dataset
            from reasoning_gym.factory import CURRICULA, DATASETS
        except ImportError as error:
            message = f"tasks of reasoning-gym need that package, which cannot be imported ({error})"
            raise MissingExtra(message, hint="pip install 'curri[gym]'") from error
        self._create: Callable[..., Any] = create_dataset
        self._datasets: Mapping[str, Any] = DATASETS
        self._curricula: Mapping[str, Any] = CURRICULA

    def origin(self, prompt: Prompt) -> _Origin | Refusal:
        """The task and setting of a stored prompt."""
        made = prompt.metadata.get("gym")
        if not isinstance(made, Mapping) or not isinstance(made.get("params"), Mapping):
            return Refusal("not a prompt that `curri ingest gym:…` made")
        if made.get("task") not in self._datasets:
            return Refusal(f"the installed reasoning-gym has no task {made.get('task')!r}")
        params = {str(name): value for name, value in made["params"].items() if name not in _OWN}
        return _Origin(made["task"], params)

    def has_curriculum(self, task: str) -> bool:
        """Whether the task has levels."""
        return task in self._curricula

    def accepts(self, task: str, params: Mapping[str, Any]) -> bool:
        """Whether the task can be made with these parameters."""
        try:
            config = self._config(task, params)
            if hasattr(config, "validate"):
                config.validate()
        except _REFUSED_BY_TASK:
            return False
        return True

    def _config(self, task: str, params: Mapping[str, Any]) -> Any:
        return self._datasets[task][1](**self._declared(task, params))

    def _declared(self, task: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters as the task declares them: JSON has no tuples.

        Raises:
            ValueError: the task does not have one of them.
        """
        defaults = self._defaults(task)
        unknown = sorted(params.keys() - defaults.keys())
        if unknown:
            raise ValueError(f"{task} has no parameter {unknown[0]!r}")
        return {
            name: tuple(value) if isinstance(value, list) and isinstance(defaults[name], tuple) else value
            for name, value in params.items()
        }

    def _defaults(self, task: str) -> dict[str, Any]:
        return {field.name: field.default for field in dataclasses.fields(self._datasets[task][1])}

    def set_to(self, origin: _Origin, change: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters after a change; those at their defaults are left out, as ``curri ingest`` does."""
        defaults = self._defaults(origin.task)
        return {name: value for name, value in {**origin.params, **change}.items() if value != defaults.get(name)}

    def knobs(self, origin: _Origin) -> list[_Knob]:
        """Settings that the task's curriculum can still raise."""
        try:
            now = self._config(origin.task, origin.params)
        except _REFUSED_BY_TASK:
            return []
        attributes = self._curricula[origin.task]().attributes.values()
        knobs = [_Knob(attribute.name, _changes(attribute, now)) for attribute in attributes]
        return [knob for knob in knobs if knob.changes]

    def dataset(self, origin: _Origin, *, seed: int, size: int) -> Any:
        """The data set of a task with its parameters, or a refusal."""
        try:
            return self._create(origin.task, seed=seed, size=size, **self._declared(origin.task, origin.params))
        except _REFUSED_BY_TASK as error:
            return Refusal(f"the task refuses its parameters: {error}")

    def made(
        self, parent: Prompt, origin: _Origin, params: Mapping[str, Any], seed: int, operation: str
    ) -> Evolved | Refusal:
        """A prompt of the task, if its own scorer accepts its answer."""
        dataset = self.dataset(_Origin(origin.task, dict(params)), seed=seed, size=1)
        if isinstance(dataset, Refusal):
            return Refusal(dataset.reason, operation)
        entry = dataset[0]
        answer = entry.get("answer")
        if answer is None or dataset.score_answer(str(answer), entry) != 1.0:
            return Refusal("it has no answer that the task's own scorer accepts", operation)
        made = {"task": origin.task, "params": dict(params), "seed": seed, "size": 1, "index": 0}
        return Evolved(
            prompt=entry["question"],
            answer=str(answer),
            operation=operation,
            arm=_arm(origin.task, params) if parent.arm == _arm(origin.task, origin.params) else None,
            metadata=_json_able({"gym": made, "entry": entry.get("metadata") or {}}),
            verified=True,
        )


def _changes(attribute: Any, now: Any) -> list[dict[str, Any]]:
    """What to set so that an attribute of a curriculum is one level above a configuration; [] if it is at the top."""
    if hasattr(attribute, "field_name"):
        value = getattr(now, attribute.field_name, None)
        level = _next_level(attribute.levels, value)
        return [] if level is None else [{attribute.field_name: level}]
    lower, upper = attribute.lower_field_name, attribute.upper_field_name
    top = getattr(now, upper, None)
    level = _next_level(attribute.levels, top)
    if level is None:
        return []
    return [{lower: top, upper: level}, {upper: level}]


def _next_level(levels: Sequence[Any], value: Any) -> Any:
    """The first level beyond ``value``, in the order of the levels (which may fall); None if there is none.

    >>> _next_level([4, 6, 8], 5), _next_level([-10, -100], -10), _next_level([1, 2], 2), _next_level(["a", "b"], "a")
    (6, -100, None, 'b')
    """
    if value in levels:
        place = len(levels) - 1 - list(reversed(levels)).index(value)
        return levels[place + 1] if place + 1 < len(levels) else None
    if not _is_number(value) or not all(_is_number(level) for level in levels):
        return None
    steps = np.diff(levels)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        return None
    rising = levels[-1] > levels[0]
    return next((level for level in levels if (level > value if rising else level < value)), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _arm(task: str, params: Mapping[str, Any]) -> str:
    """The name that ``curri ingest`` gives the arm of a setting."""
    shown = ",".join(
        f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in sorted(params.items())
    )
    return f"{task}({shown})" if shown else task


def _json_able(value: Any) -> Any:  # noqa: PLR0911  one return for each kind of value
    """A value as JSON can hold it: arrays as lists, sets sorted, what JSON has no word for as text."""
    if isinstance(value, Mapping):
        return {str(key): _json_able(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((_json_able(item) for item in value), key=str)
    if isinstance(value, (np.ndarray, np.generic)):
        return _json_able(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_json_able(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value if not isinstance(value, str) else str.__str__(value)
    if isinstance(value, int):
        return int(value)
    return value if isinstance(value, float) and np.isfinite(value) else str(value)
