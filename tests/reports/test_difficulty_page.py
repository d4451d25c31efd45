"""The difficulty report as a page and as a text: the same content, and nothing in it but text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="needs curri[report]")
pytest.importorskip("plotly", reason="needs curri[report]")

from curri import Scheduler
from curri.reports import render_markdown, render_page
from curri.reports.blocks import Table, visible
from curri.reports.difficulty import Question, difficulty_report
from curri.reports.pages import page_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from curri.store import PromptStore

    Stored = Callable[..., PromptStore]
    Full = Callable[..., dict[str, Any]]

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)"> ${1} \u202eback {{ 7 * 7 }}'


class Parsed(HTMLParser):
    """Tags and visible words of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.words.append(data)


def without_plotly(page: str) -> str:
    from plotly.offline import get_plotlyjs

    assert get_plotlyjs() in page
    return page.replace(get_plotlyjs(), "")


@pytest.fixture
def full(stored: Stored) -> Full:
    """A report in which every section has something to show."""

    def make(arms: int = 3, word: str = "task") -> dict[str, Any]:
        rng = np.random.default_rng(4)
        rates = rng.beta(0.5, 0.6, 60)
        groups = [
            (i + 1, rng.binomial(1, rates[i], 4).tolist(), {"policy_version": v, "tokens": 50})
            for i in range(58)
            for v in range(3)
        ]
        groups += [(59, [0.5, 0.5, 0.5], {"policy_version": 1}), (60, [-1.0, 2.0], {"policy_version": 2})]
        texts = [f"{word} {i}: count the stones of the long wall behind the old mill" for i in range(60)]
        texts[7] = texts[6].upper() + "!"
        texts[8] = texts[6].replace("old", "new")
        store = stored(
            [(text, f"{word} arm {i % arms}") for i, text in enumerate(texts)], groups, model=f"{word} model"
        )
        store.priors.set(f"{word} prior", np.arange(1, 41), np.round(rates[:40], 2), np.full(40, 16), source="file")
        scheduler = Scheduler(store, "uniform", run=f"{word} run", seed=0, model=f"{word} model")
        ids = scheduler.ask(6).prompt_ids
        scheduler.tell(ids[:4].repeat(2), [0, 1, 0, 0, 1, 1, 0, 1], tokens=[9] * 8)
        scheduler.resolve(ids[4:5], "dropped", reason=f"{word} reason")
        question = Question(model=f"{word} model", prompt_ids=np.arange(1, 61), where="prompt_id > 0")
        return difficulty_report(store, question, {"where": "prompt_id > 0"})

    return make


def test_every_section_is_there(full: Full) -> None:
    page = page_of(full())
    assert [section.id for section in page.sections] == [
        "arms", "advice", "rates", "waste", "runs", "drift", "coverage", "priors", "prompts", "duplicates", "appendix",
    ]  # fmt: skip


@pytest.mark.parametrize("arms", [1, 3, 30])
def test_figures_are_valid_for_plotly(full: Full, arms: int) -> None:
    import plotly.graph_objects as go

    kinds = set()
    for figure in page_of(full(arms)).figures:
        go.Figure(data=figure.data, layout=figure.layout)
        kinds.add(figure.id.rstrip("0123456789-"))
    each = {1: set(), 3: {"spread"}, 30: {"histograms"}}[arms]
    assert kinds == each | {
        "verdicts", "histogram", "sizes", "signal", "drift", "versions", "visits", "calibration",
    }  # fmt: skip


def test_page_and_text_say_the_same(full: Full) -> None:
    report = full()
    page, text = " ".join(Parsed(without_plotly(render_page(report))).words), render_markdown(report)
    plain = re.sub(r"\\(.)", r"\1", text).replace("**", "")
    shown = page_of(report)
    for section in shown.sections:
        assert section.title in page
        assert f"## {section.title}" in text
    tables = [block for section in shown.sections for block in section.blocks if isinstance(block, Table)]
    cells = [cell.text for table in tables for row in table.cells for cell in row]
    assert len(cells) > 300
    for cell in cells:
        assert cell in page
        assert cell in plain
    advice = [line for item in report["advice"] for line in (item["command"], item["title"], item["why"])]
    for fact in (report["headline"], *report["lead"], report["fingerprint"], report["data"]["sha256"], *advice):
        assert fact in page
        assert fact in plain


def test_what_stands_in_the_page_stands_in_the_document(full: Full) -> None:
    """Every number of a figure is one of the document, so that ``--json`` lacks nothing."""
    report = full()
    found = {figure.id: figure for figure in page_of(report).figures}
    assert found["histogram"].data[0]["y"] == report["histogram"]["all"]["mean"]
    assert found["versions"].data[0]["y"] == report["drift"]["signal"]["wrong"]
    assert found["sizes"].data[0]["y"] == [row["dead"] for row in report["group_sizes"]]
    assert found["visits"].data[0]["y"] == [each["prompts"] for each in report["coverage"]["bins"]]


def test_names_and_prompts_are_only_text(full: Full) -> None:
    report = full(word=HOSTILE)
    html = without_plotly(render_page(report))
    page = Parsed(html)
    assert [tag for tag, _ in page.tags if tag == "img"] == []
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 3
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
    assert "\u202e" not in html
    text = " ".join(page.words)
    assert visible(HOSTILE) in text
    assert "<script" not in render_markdown(report).replace("\\<", "")
    assert "\u202e" not in render_markdown(report)


def test_tables_can_be_used_without_a_mouse(full: Full) -> None:
    page = render_page(full())
    parsed = Parsed(without_plotly(page))
    regions = [attributes for _, attributes in parsed.tags if attributes.get("role") == "region"]
    assert regions
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)
    headings = [attributes for tag, attributes in parsed.tags if tag == "th"]
    assert page.count('<button type="button">') == len(headings)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_it_has_a_dark_side_and_a_printed_one(full: Full) -> None:
    page = render_page(full())
    assert "@media screen and (prefers-color-scheme: dark)" in page
    assert "@media print" in page


def test_an_empty_store_has_a_page(stored: Stored) -> None:
    for store in (stored([]), stored([("one", "a")])):
        report = difficulty_report(store, Question(model=None))
        page = Parsed(without_plotly(render_page(report)))
        assert visible(report["headline"]) in page.words
        assert [figure.id for figure in page_of(report).figures] == []
