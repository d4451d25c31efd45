"""Strategy names to classes, from the table and from other packages."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from curri import curricula, registry
from curri.curricula.base import Curriculum
from curri.errors import InvalidParameter, UnknownName

PLUGIN = EntryPoint(name="mine", value="curri.curricula.uniform:Uniform", group=registry.ENTRY_POINT_GROUP)


def install(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> list[Any]:
    """Pretend that packages with these entry points are installed; gives a list that grows with every scan."""
    scans: list[Any] = []

    def found(**wanted: Any) -> tuple[EntryPoint, ...]:
        scans.append(wanted)
        return points

    monkeypatch.setattr(registry, "entry_points", found)
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
    assert registry.strategy("mine") is curricula.Uniform


def test_an_unknown_name_is_answered_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, PLUGIN)
    with pytest.raises(UnknownName, match=r'there is no strategy "mime"; known: .*mine, .*ucb') as caught:
        registry.strategy("mime")
    assert caught.value.hint == 'did you mean "mine"? `curri strategies` lists them'
    with pytest.raises(UnknownName) as caught:
        registry.strategy("UCB")
    assert 'did you mean "ucb"?' in str(caught.value.hint)


@pytest.mark.parametrize("names", [("ucb",), ("mine", "mine")])
def test_two_packages_with_one_name_are_refused(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    install(monkeypatch, *(EntryPoint(name, PLUGIN.value, PLUGIN.group) for name in names))
    with pytest.raises(InvalidParameter, match=f'two packages offer a strategy "{names[0]}"'):
        registry.strategy_names()


def test_curricula_are_imported_when_used() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = curricula.Nothing
    code = (
        "import sys, curri; from curri import curricula; assert 'numpy' not in sys.modules; "
        "curricula.Uniform; assert 'curri.curricula.ucb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(filter(None, sys.path))})
