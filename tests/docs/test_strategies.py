"""Every strategy has a page, which says what its readers look for, and whose code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from curri.parameters import declared
from curri.registry import BUILT_IN, strategy

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "strategies"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
CODE = [(name, code) for name, text in PAGES.items() for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
HEADINGS = ("When to use it", "What it needs from the trainer", "What it costs", "How it fails", "Measured")
NEEDS_TORCH = {"pcl"}


def test_every_strategy_has_a_page_and_every_page_a_strategy() -> None:
    assert set(PAGES) - {"README"} == set(BUILT_IN)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_page_answers_what_people_ask(name: str) -> None:
    headings = re.findall(r"^## (.*)$", PAGES[name], flags=re.MULTILINE)
    for wanted in HEADINGS:
        assert any(heading.startswith(wanted) for heading in headings), f"{name}.md has no `## {wanted}`"
    assert "<!--" not in PAGES[name], f"{name}.md has a place that is not filled in"


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_switch_of_a_strategy_stands_on_its_page(name: str) -> None:
    shared = {"seed", "group_size", "cooldown", "arm_floor", "arm_cap", "revisit_after", "revisit_share"}
    missing = [key for key in declared(strategy(name)) if key not in shared and f"`{key}" not in PAGES[name]]
    assert missing == []


@pytest.mark.parametrize(("name", "code"), CODE, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CODE)])
def test_the_code_of_a_page_runs(name: str, code: str) -> None:
    if name in NEEDS_TORCH:
        pytest.importorskip("torch")
    exec(compile(code, f"{name}.md", "exec"), {})  # noqa: S102  our own page


def test_links_lead_somewhere() -> None:
    for name, text in PAGES.items():
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (FOLDER / target).exists(), f"{name}.md → {target}"
