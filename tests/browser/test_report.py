"""The report in a real browser: Debian's Chromium, headless; left out where there is none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs curri[mix]")
pytest.importorskip("jinja2", reason="needs curri[report]")
pytest.importorskip("plotly", reason="needs curri[report]")

from curri.exchange.mixture_runs import RunsFile
from curri.mixtures import Runs, Target, make_design
from curri.reports import mixture_report, render_page
from curri.reports.sections import mixture_page
from curri.reports.study import Limits, Study

if TYPE_CHECKING:
    from collections.abc import Callable

    Browse = Callable[..., Any]

pytestmark = pytest.mark.slow

HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"


def report_of(arms: list[str], target: str, runs: int, *, others: int) -> dict[str, Any]:
    """A report of made-up runs."""
    rng = np.random.default_rng(3)
    plan = make_design(len(arms), runs, replicates=3)
    scores = {
        target if place == 0 else f"{target} {place}": np.sqrt(plan.weights) @ rng.uniform(0.0, 1.0, len(arms))
        + rng.normal(0.0, 0.02, runs)
        for place in range(1 + others)
    }
    made = Runs(arms, plan.weights, scores)
    limits = Limits(prior={arm: 1.0 + place for place, arm in enumerate(arms)})
    targets = [Target(name, {name: 1.0}) for name in scores]
    surrogate = "loglinear" if len(arms) > 1 else "best"
    study = Study(runs=made, targets=targets, surrogate=surrogate, limits=limits)
    return mixture_report(study, RunsFile(made, made.notes, ("runs.csv",), "ab" * 32), {"target": target})


REPORTS: dict[str, Callable[[], dict[str, Any]]] = {
    "three": lambda: report_of(["math", "code", "chat"], "acc", 18, others=1),
    "many": lambda: report_of([f"dataset {place}" for place in range(12)], "acc", 40, others=0),
    "hostile": lambda: report_of([HOSTILE, f"{HOSTILE}2", "${1}"], HOSTILE, 12, others=0),
    "one": lambda: report_of(["alone"], "acc", 6, others=0),
}


@pytest.mark.parametrize("width", [1400, 500], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", REPORTS)
def test_it_opens_without_an_error_and_draws_every_figure(browse: Browse, name: str, width: int) -> None:
    report = REPORTS[name]()
    found = browse(render_page(report), width=width)
    assert found.console == []
    assert found.figures.attributes.get("data-ready") == "yes"
    assert set(found.figures.drawings) == {figure.id for figure in mixture_page(report).figures}
    assert all(found.figures.drawings.values()), found.figures.drawings
    assert "<title>Mixture report: " in found.document
    assert found.requests == set()


def test_a_script_in_a_name_does_not_run(browse: Browse) -> None:
    document = browse(render_page(REPORTS["hostile"]())).document
    title = re.search(r"<title>(.*?)</title>", document)
    assert title is not None
    assert title[1] != "hacked"
    assert re.search(r"<img\b", document) is None


def test_a_foreign_script_is_stopped_by_the_policy(browse: Browse) -> None:
    page = render_page(REPORTS["one"]()).replace("</main>", "</main><script>document.title='hacked'</script>")
    found = browse(page)
    assert "<title>hacked" not in found.document
    assert any("Content Security Policy" in line for line in found.console)


def test_a_request_would_be_seen(browse: Browse) -> None:
    """The check above can fail."""
    page = "<!DOCTYPE html><title>x</title><img src='http://127.0.0.1:9/x.png'>"
    assert "http://127.0.0.1:9/x.png" in browse(page).requests


def test_a_click_on_a_heading_sorts_its_table(browse: Browse) -> None:
    page = render_page(REPORTS["three"]())
    clicks = "<script>document.querySelectorAll('th button')[1].click();</script>"
    unguarded = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    document = browse(unguarded.replace("</body>", f"{clicks}</body>")).document
    tables = re.findall(r"<table>.*?</table>", document, re.DOTALL)
    (table,) = [table for table in tables if 'aria-sort="ascending"' in table]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table.split("<tbody>")[1], re.DOTALL)
    values = [float(re.findall(r'data-value="([^"]+)"', row)[0]) for row in rows]
    assert values == sorted(values)


def test_it_prints(printed: Callable[[str], int]) -> None:
    assert 3 <= printed(render_page(REPORTS["three"]())) <= 20
