"""Strategy names to classes.

Built-in strategies stand in a static table, so that looking one up imports only its own module. Other packages add
theirs through the entry-point group ``curri.strategies``; it is scanned only for an unknown name or a listing. Two
names with a slash between them, such as "ucb/vas", are one strategy: arms by the first, prompts inside an arm by the
second.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from curri.errors import InvalidParameter, unknown_name

ENTRY_POINT_GROUP = "curri.strategies"

COMPOSED = "/"
"""Stands between the names of two strategies that are put together."""

BUILT_IN: dict[str, str] = {
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
    """Names of all strategies, built-in ones and those of installed packages, sorted."""
    return sorted({*BUILT_IN, *_plugins()})


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
    return plugins[name].load()  # type: ignore[no-any-return]


def _plugins() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name in BUILT_IN or point.name in found:
            message = f'two packages offer a strategy "{point.name}" ({point.value})'
            raise InvalidParameter(message, hint="uninstall one of them, or rename its entry point")
        found[point.name] = point
    return found
