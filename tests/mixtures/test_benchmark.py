"""The stored figures of ``benchmarks/mixtures``: the page shows them, and they keep what is promised."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("scipy", reason="needs curri[mix]")

from benchmarks.mixtures.__main__ import PAGE, RESULT, as_text, with_figures
from benchmarks.mixtures.goals import goals
from benchmarks.mixtures.simulated import SIZES, World


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
    return found


def test_the_page_shows_what_is_stored(result: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_figures(page, result) == page
    assert as_text(result) == RESULT.read_text(encoding="utf-8")


def test_the_stored_run_was_whole_and_keeps_its_bounds(result: dict[str, Any]) -> None:
    assert not result["quick"]
    assert all("commit" in source or "arXiv" in source for source in result["sources"])
    assert len(goals(result)) == 8
    assert all(goal.holds for goal in goals(result))
    assert result["table2"]["rows"] == 42
    assert result["table2"]["off"] < 6e-5
    assert result["simulated"]["sizes"] == list(SIZES)
    assert len(result["simulated"]["seeds"]) == 20
    # Less than 25 minutes on two cores.
    assert result["cpu_seconds"] < 2 * 25 * 60


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_of_a_simulated_world_is_one(seed: int) -> None:
    world = World.drawn(seed)
    assert world.optimum() >= world.value([[1 / 6] * 6])[0]  # type: ignore[arg-type]
