"""Strategy names to classes, from the table and from other packages."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest

from curri import curricula, registry
from curri.curricula.base import Curriculum
from curri.errors import InvalidParameter, UnknownName

PLUGIN = EntryPoint(name="mine", value=f"{__name__}:Mine", group=registry.ENTRY_POINT_GROUP)


class Mine(curricula.Uniform):
    name: ClassVar[str] = "mine"


class Unfinished(Curriculum):
    name: ClassVar[str] = "mine"


def install(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> list[Any]:
    """Pretend that packages with these entry points are installed; gives a list that grows with every scan."""
    scans: list[Any] = []

    def found(**wanted: Any) -> tuple[EntryPoint, ...]:
        scans.append(wanted)
        return points

    monkeypatch.setattr(importlib.metadata, "entry_points", found)
    return scans


@pytest.mark.parametrize("name", list(registry.BUILT_IN))
def test_built_in_strategies_are_found_under_their_own_name(name: str) -> None:
    found = registry.strategy(name)
    assert issubclass(found, Curriculum)
    assert found.name == name
    assert getattr(curricula, found.__name__) is found


def test_a_built_in_name_scans_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = install(monkeypatch)
    registry.strategy("ucb")
    assert scans == []


def test_a_listing_holds_both(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = install(monkeypatch, PLUGIN)
    assert registry.strategy_names() == sorted([*registry.BUILT_IN, "mine"])
    assert scans == [{"group": "curri.strategies"}]
    assert registry.strategy("mine") is Mine
    assert registry.plugin_faults() == {}


def test_an_unknown_name_is_answered_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, PLUGIN)
    with pytest.raises(UnknownName, match=r'there is no strategy "mime"; known: .*mine, .*ucb') as caught:
        registry.strategy("mime")
    assert caught.value.hint == 'did you mean "mine"? `curri strategies` lists them'
    with pytest.raises(UnknownName) as caught:
        registry.strategy("UCB")
    assert 'did you mean "ucb"?' in str(caught.value.hint)


def offer(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, registry.ENTRY_POINT_GROUP)


def test_the_name_of_a_built_in_strategy_keeps_its_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, offer("ucb", PLUGIN.value), PLUGIN)
    assert registry.strategy("ucb") is curricula.UCB
    assert registry.strategy_names().count("ucb") == 1
    (fault,) = registry.plugin_faults().values()
    assert 'offers a strategy "ucb", which is the name of a built-in one; that one is used' in fault


def test_two_packages_with_one_name_are_refused_there_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, PLUGIN, offer("mine", "elsewhere:Mine"), offer("other", PLUGIN.value))
    with pytest.raises(InvalidParameter, match='2 packages offer a strategy "mine": '):
        registry.strategy("mine")
    assert set(registry.plugin_faults()) == {"mine", "other"}
    assert {"mine", "ucb"} <= set(registry.strategy_names())


def test_a_package_found_twice_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, PLUGIN, PLUGIN)
    assert registry.strategy("mine") is Mine


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_module:Mine", "cannot be loaded (ModuleNotFoundError: No module named 'no_such_module')"),
        (f"{__name__}:Nothing", "cannot be loaded (AttributeError: "),
        (f"{__name__}:PLUGIN", "is not a subclass of `curri.curricula.Curriculum`"),
        (f"{__name__}:install", "is not a subclass of `curri.curricula.Curriculum`"),
        (f"{__name__}:Unfinished", "lacks `_fold`, `_pick`"),
        ("curri.curricula.uniform:Uniform", 'calls itself "uniform": its `name` must be that of the entry point'),
    ],
)
def test_a_broken_package_is_refused_in_one_line_and_breaks_no_other(
    monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    install(monkeypatch, offer("mine", value))
    with pytest.raises(InvalidParameter) as caught:
        registry.strategy("mine")
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert registry.plugin_faults() == {"mine": caught.value.message}
    assert registry.strategy("uniform") is curricula.Uniform


def test_curricula_are_imported_when_used() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = curricula.Nothing
    code = (
        "import sys, curri; from curri import curricula; assert 'numpy' not in sys.modules; "
        "curricula.Uniform; assert 'curri.curricula.ucb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(filter(None, sys.path))})
