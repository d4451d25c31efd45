"""Opens pages in a real browser: Debian's Chromium, headless; what needs it is left out where there is none."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

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


@dataclass(frozen=True)
class Opened:
    """A page after its program ran.

    Attributes:
        document: what it has become.
        log: what the browser logged.
        network: the browser's own record of what it asked for.
    """

    document: str
    log: str
    network: Path

    @cached_property
    def figures(self) -> Figures:
        """Its figures."""
        return Figures(self.document)

    @property
    def console(self) -> list[str]:
        """What the page wrote to the console, or broke."""
        return [line for line in self.log.splitlines() if "CONSOLE" in line]

    @property
    def requests(self) -> set[str]:
        """Every address outside the file that the page asked for; the browser's own errands have no origin."""
        found = set()
        for line in self.network.read_text(errors="replace").splitlines():
            try:
                parameters = json.loads(line.strip().rstrip(",")).get("params", {})
            except (ValueError, AttributeError):
                continue
            if parameters.get("initiator", "not an origin") != "not an origin":
                found.add(str(parameters.get("url")))
        return {url for url in found if not url.startswith(("file:", "data:"))}


@pytest.fixture
def chromium() -> str:
    """The browser's program."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on the PATH (Debian: apt-get install chromium)")
    return CHROMIUM


@pytest.fixture
def browse(tmp_path: Path, chromium: str) -> Callable[..., Opened]:
    """Opens a page from disk, with everything that is folded away unfolded."""

    def run(page: str, *flags: str, width: int = 1400) -> Opened:
        file = tmp_path / "report.html"
        file.write_text(page.replace("<details", "<details open"), encoding="utf-8")
        log = tmp_path / "net.json"
        command = [chromium, *FLAGS, *flags, f"--window-size={width},4000", f"--user-data-dir={tmp_path / 'profile'}"]
        command += [f"--log-net-log={log}", "--dump-dom", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        return Opened(done.stdout, done.stderr, log)

    return run


@pytest.fixture
def printed(tmp_path: Path, chromium: str) -> Callable[[str], int]:
    """Prints a page, without an error; gives the number of its sheets."""

    def run(page: str) -> int:
        file, paper = tmp_path / "report.html", tmp_path / "report.pdf"
        file.write_text(page, encoding="utf-8")
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [chromium, *FLAGS, profile, f"--print-to-pdf={paper}", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        assert Opened("", done.stderr, paper).console == []
        assert paper.read_bytes().startswith(b"%PDF")
        return len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes()))

    return run
