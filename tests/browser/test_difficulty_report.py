"""The difficulty report in a real browser, made of stores of every kind."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("jinja2", reason="needs curri[report]")
pytest.importorskip("plotly", reason="needs curri[report]")

import curri
from curri.reports import render_page
from curri.reports.difficulty import Question, difficulty_report
from curri.reports.pages import page_of
from curri.store import NewPrompt, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Browse = Callable[..., Any]
    Made = Callable[[str], dict[str, Any]]

pytestmark = pytest.mark.slow

HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\"> \u202eback"
KINDS = {"empty": (0, 1, 0), "bare": (5, 1, 0), "one": (1, 1, 3), "few": (40, 3, 3), "many": (240, 60, 2)}
"""Prompts, arms and versions."""


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """The report on a made-up store of a kind."""

    def make(kind: str) -> dict[str, Any]:
        prompts, arms, versions = KINDS.get(kind, KINDS["few"])
        word = HOSTILE if kind == "hostile" else "task"
        with curri.open_store(tmp_path / f"{kind}.duckdb", create=True) as store:
            names = [(f"{word} {i}: count the stones of the wall", f"{word} {i % arms}") for i in range(prompts)]
            store.prompts.add([NewPrompt(text, False, None, arm) for text, arm in names])
            if versions:
                add_rollouts(store, word, prompts, versions)
            question = Question(model=word if versions else None)
            return difficulty_report(store, question, {"where": None})

    return make


def add_rollouts(store: curri.PromptStore, model: str, prompts: int, versions: int) -> None:
    rng = np.random.default_rng(1)
    ids = np.repeat(np.arange(1, prompts + 1), 4 * versions)
    rewards = rng.binomial(1, rng.beta(0.5, 0.6, prompts)[ids - 1]).astype(np.float64)
    columns = {
        "prompt_id": ids,
        "sample": np.tile(np.arange(4 * versions), prompts).astype(np.int32),
        "policy_version": np.tile(np.repeat(np.arange(versions), 4), prompts),
        "tokens": rng.integers(5, 90, ids.size).astype(np.int32),
    }
    store.rollouts.add(Source(model), pa.table({**columns, "reward": rewards, "solved": rewards}))
    store.priors.set(model, np.arange(1, prompts + 1), rng.random(prompts), np.full(prompts, 8), source="file")


@pytest.mark.parametrize(("kind", "dark"), [("few", False), ("few", True), ("many", False)])
def test_it_opens_without_an_error_and_draws_every_figure(browse: Browse, made: Made, kind: str, dark: bool) -> None:
    report = made(kind)
    found = browse(render_page(report), *(["--blink-settings=preferredColorScheme=0"] if dark else []))
    assert found.console == []
    assert found.requests == set()
    assert found.figures.attributes.get("data-ready") == "yes"
    assert set(found.figures.drawings) == {figure.id for figure in page_of(report).figures}
    assert all(found.figures.drawings.values()), found.figures.drawings
    assert ("rgb(15, 20, 25)" in found.document) is dark  # the paper of the figures


@pytest.mark.parametrize("kind", ["empty", "bare", "one", "hostile"])
def test_odd_stores_on_a_narrow_screen(browse: Browse, made: Made, kind: str) -> None:
    report = made(kind)
    found = browse(render_page(report), width=500)
    assert (found.console, found.requests) == ([], set())
    assert set(found.figures.drawings) == {figure.id for figure in page_of(report).figures}
    assert all(found.figures.drawings.values())
    title = re.search(r"<title>(.*?)</title>", found.document)
    assert title is not None
    assert title[1] == f"Difficulty report: {kind}.duckdb"
    assert re.search(r"<img\b", found.document) is None
    assert "\u202e" not in found.document


def test_it_prints(printed: Callable[[str], int], made: Made) -> None:
    assert 4 <= printed(render_page(made("few"))) <= 20
