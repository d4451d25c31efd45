"""The report in a real browser: Debian's Chromium, headless; left out where there is none."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
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
    from pathlib import Path

    Browse = Callable[..., tuple[str, str]]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH (Debian: apt-get install chromium)"),
]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--proxy-server=http://127.0.0.1:9",  # nothing answers there: the browser stays on this machine
    "--proxy-bypass-list=<-loopback>",
    "--enable-logging=stderr",
    "--virtual-time-budget=60000",
)
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


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Opens a page from disk; the document after its program ran, and what the browser logged."""

    def run(page: str, *, width: int = 1400) -> tuple[str, str]:
        file = tmp_path / "report.html"
        file.write_text(page.replace("<details", "<details open"), encoding="utf-8")
        log = tmp_path / "net.json"
        command = [str(CHROMIUM), *FLAGS, f"--window-size={width},4000", f"--user-data-dir={tmp_path / 'profile'}"]
        command += [f"--log-net-log={log}", "--dump-dom", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        return done.stdout, done.stderr

    return run


class Figures(HTMLParser):
    """The figures of a document, and whether each holds a drawing."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.drawings: dict[str, int] = {}
        self.attributes: dict[str, str | None] = {}
        self._figure = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "html":
            self.attributes = found
        if "data-figure" in found:
            self._figure = str(found["data-figure"])
            self.drawings[self._figure] = 0
        if tag == "svg" and "main-svg" in str(found.get("class")) and self._figure:
            self.drawings[self._figure] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "figure":
            self._figure = ""


def console(log: str) -> list[str]:
    """What the page wrote to the console, or broke."""
    return [line for line in log.splitlines() if "CONSOLE" in line]


def requests(tmp_path: Path) -> set[str]:
    """Every address outside the file that the page asked for; the browser's own errands have no origin."""
    found = set()
    for line in (tmp_path / "net.json").read_text(errors="replace").splitlines():
        try:
            parameters = json.loads(line.strip().rstrip(",")).get("params", {})
        except (ValueError, AttributeError):
            continue
        if parameters.get("initiator", "not an origin") != "not an origin":
            found.add(str(parameters.get("url")))
    return {url for url in found if not url.startswith(("file:", "data:"))}


@pytest.mark.parametrize("width", [1400, 500], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", REPORTS)
def test_it_opens_without_an_error_and_draws_every_figure(
    browse: Browse, tmp_path: Path, name: str, width: int
) -> None:
    report = REPORTS[name]()
    document, log = browse(render_page(report), width=width)
    found = Figures(document)
    assert console(log) == []
    assert found.attributes.get("data-ready") == "yes"
    assert set(found.drawings) == {figure.id for figure in mixture_page(report).figures}
    assert all(found.drawings.values()), found.drawings
    assert "<title>Mixture report: " in document
    assert requests(tmp_path) == set()


def test_a_script_in_a_name_does_not_run(browse: Browse) -> None:
    document, _ = browse(render_page(REPORTS["hostile"]()))
    title = re.search(r"<title>(.*?)</title>", document)
    assert title is not None
    assert title[1] != "hacked"
    assert re.search(r"<img\b", document) is None


def test_a_foreign_script_is_stopped_by_the_policy(browse: Browse) -> None:
    page = render_page(REPORTS["one"]()).replace("</main>", "</main><script>document.title='hacked'</script>")
    document, log = browse(page)
    assert "<title>hacked" not in document
    assert any("Content Security Policy" in line for line in console(log))


def test_a_request_would_be_seen(browse: Browse, tmp_path: Path) -> None:
    """The check above can fail."""
    page = "<!DOCTYPE html><title>x</title><img src='http://127.0.0.1:9/x.png'>"
    browse(page)
    assert "http://127.0.0.1:9/x.png" in requests(tmp_path)


def test_a_click_on_a_heading_sorts_its_table(browse: Browse) -> None:
    page = render_page(REPORTS["three"]())
    clicks = "<script>document.querySelectorAll('th button')[1].click();</script>"
    unguarded = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    document, _ = browse(unguarded.replace("</body>", f"{clicks}</body>"))
    tables = re.findall(r"<table>.*?</table>", document, re.DOTALL)
    (table,) = [table for table in tables if 'aria-sort="ascending"' in table]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table.split("<tbody>")[1], re.DOTALL)
    values = [float(re.findall(r'data-value="([^"]+)"', row)[0]) for row in rows]
    assert values == sorted(values)


def test_it_prints(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_page(REPORTS["three"]()), encoding="utf-8")
    paper = tmp_path / "report.pdf"
    command = [
        str(CHROMIUM),
        *FLAGS,
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--print-to-pdf={paper}",
        file.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert console(done.stderr) == []
    assert paper.read_bytes().startswith(b"%PDF")
    pages = len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes()))
    assert 3 <= pages <= 20
