"""Strategy names to classes.

Built-in strategies stand in a static table, so that looking one up imports only its own module. Other packages add
theirs through the entry-point group ``curri.strategies``; it is scanned only for an unknown name or a listing. Two
names with a slash between them, such as "ucb/vas", are one strategy: arms by the first, prompts inside an arm by the
second.

A package that cannot be used never gets in the way of the others: its strategy is refused where it is asked for by
name, and :func:`plugin_faults` says why.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from curri.errors import InvalidParameter, unknown_name

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "curri.strategies"

DEFAULT_STRATEGY = "frontier"
"""What picks where nobody named a strategy."""

COMPOSED = "/"
"""Stands between the names of two strategies that are put together."""

BUILT_IN: dict[str, str] = {
    "frontier": "curri.curricula.frontier:Frontier",
    "ucb": "curri.curricula.ucb:UCB",
    "pcl": "curri.curricula.pcl:PCL",
    "vas": "curri.curricula.vas:VAS",
    "eva": "curri.curricula.eva:Eva",
    "reinforce-ada": "curri.curricula.reinforce_ada:ReinforceAda",
    "modomodo": "curri.curricula.modomodo:MoDoMoDo",
    "mopps": "curri.curricula.mopps:MoPPS",
    "adarft": "curri.curricula.adarft:AdaRFT",
    "greso": "curri.curricula.greso:GRESO",
    "dapo": "curri.curricula.dapo:DAPO",
    "sec": "curri.curricula.sec:SEC",
    "learning-progress": "curri.curricula.learning_progress:LearningProgress",
    "easy-to-hard": "curri.curricula.easy_to_hard:EasyToHard",
    "uniform": "curri.curricula.uniform:Uniform",
}


def strategy_names() -> list[str]:
    """Names of all strategies, built-in ones and those of installed packages, working or not, sorted."""
    return sorted({*BUILT_IN, *_plugins()})


def plugin_faults() -> dict[str, str]:
    """What is wrong with the strategies of installed packages: name → one line; empty where all can be used."""
    faults = {name: _message(points) for name, points in _offers().items() if name in BUILT_IN}
    for name in _plugins():
        try:
            strategy(name)
        except InvalidParameter as error:
            faults[name] = error.message
    return dict(sorted(faults.items()))


def strategy(name: str) -> type[Any]:
    """The class of a strategy.

    Raises:
        UnknownName: there is none of that name; the nearest is named.

    >>> strategy("ucb").__name__, strategy("ucb/uniform").name
    ('UCB', 'ucb/uniform')
    """
    if COMPOSED in name:
        outer, _, inner = name.partition(COMPOSED)
        composed: type[Any] = import_module("curri.curricula.composition").within(strategy(outer), strategy(inner))
        return composed
    target = BUILT_IN.get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        found: type[Any] = getattr(import_module(module), attribute)
        return found
    plugins = _plugins()
    if name not in plugins:
        raise unknown_name("strategy", name, {*BUILT_IN, *plugins}, listing="curri strategies")
    return _loaded(name, plugins[name])


def _plugins() -> dict[str, list[EntryPoint]]:
    return {name: points for name, points in _offers().items() if name not in BUILT_IN}


def _offers() -> dict[str, list[EntryPoint]]:
    """Name → who offers it. A package that stands on the path twice counts once."""
    from importlib.metadata import entry_points

    found: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        found.setdefault(point.name, {}).setdefault((point.value, _package(point)), point)
    return {name: list(points.values()) for name, points in found.items()}


def _loaded(name: str, points: list[EntryPoint]) -> type[Any]:
    if len(points) > 1:
        raise InvalidParameter(_message(points), hint="uninstall one of them")
    point, base = points[0], import_module("curri.curricula.base").Curriculum
    try:
        found: Any = point.load()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidParameter(
            f'the strategy "{name}" of the package {_package(point)} cannot be loaded ({reason})',
            hint=f"pip install --upgrade {_package(point)}, or uninstall it",
        ) from error
    wrong = _fault(found, base, name)
    if wrong:
        message = f'the strategy "{name}" of the package {_package(point)} cannot be used: {point.value} {wrong}'
        raise InvalidParameter(message, hint="see docs/extending.md; its author mends it")
    owner: type[Any] = found
    return owner


def _fault(found: Any, base: type, name: str) -> str:
    """Why something that was loaded is no strategy, as the end of a sentence; "" where it is one."""
    if not isinstance(found, type) or not issubclass(found, base):
        return "is not a subclass of `curri.curricula.Curriculum`"
    missing, own_name = getattr(found, "__abstractmethods__", ()), getattr(found, "name", "")
    if missing:
        return f"lacks {', '.join(f'`{method}`' for method in sorted(missing))}"
    return "" if own_name == name else f'calls itself "{own_name}": its `name` must be that of the entry point'


def _message(points: list[EntryPoint]) -> str:
    name, packages = points[0].name, " and ".join(sorted(_package(point) for point in points))
    if name in BUILT_IN:
        return (
            f'the package {packages} offers a strategy "{name}", which is the name of a built-in one; that one is used'
        )
    return f'{len(points)} packages offer a strategy "{name}": {packages}'


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else f"of {point.value}"
