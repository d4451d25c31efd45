"""What every test shares: hypothesis' settings, the shared data, and doctests that want an extra."""

from __future__ import annotations

import doctest
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import configuration, settings

from curri.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Generator

ROOT = Path(__file__).resolve().parents[1]

# Import names of what only extras install, with the extra.
EXTRAS = {
    "datasets": "hf",
    "httpx2": "openai",
    "jinja2": "report",
    "lightgbm": "mix",
    "math_verify": "verify",
    "plotly": "report",
    "ray": "ray",
    "safetensors": "hf",
    "scipy": "mix",
    "sklearn": "mix",
    "torch": "torch",
    "transformers": "hf",
    "vllm": "vllm",
}

# No deadline: machines are noisy. No database: a failing example is printed, to become a test of its own.
# In CI the examples are the same every time, so that a red run can be repeated.
settings.register_profile("curri", deadline=None, database=None, print_blob=True)
settings.register_profile("ci", settings.get_profile("curri"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "curri")
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "curri-hypothesis")


class WithoutExtra:
    """Skips what needs an extra that is not installed; any other failing import stays a failure."""

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if report.failed and isinstance(collector, pytest.File) and collector.path.is_relative_to(ROOT / "curri"):
            found = re.search(r"ModuleNotFoundError: No module named '(\w+)", str(report.longrepr))
            if found and found[1] in EXTRAS:
                report.outcome = "skipped"
                report.longrepr = (str(collector.path), 0, f"Skipped: needs curri[{EXTRAS[found[1]]}]")
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """The same where the extra is only asked for when the test runs."""
        try:
            return (yield)
        except MissingExtra as error:
            pytest.skip(str(error))
        except doctest.UnexpectedException as error:
            if not isinstance(error.exc_info[1], MissingExtra):
                raise
            pytest.skip(str(error.exc_info[1]))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(WithoutExtra())


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip("needs the reference data in ../shared, which is not part of the repository")
    return path
