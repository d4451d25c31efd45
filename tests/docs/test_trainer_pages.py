"""Pages on trainers: what cannot be run here is Python at least, and every page is in the list."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from curri.exchange.trainers import TRAINERS
from curri.scheduler import Scheduler

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER = DOCS / "trainers"
PAGES = sorted(FOLDER.glob("*.md"))
OTHERS = (FOLDER / "others.md").read_text(encoding="utf-8")
BLOCKS = [
    (f"{page.name}-{i}", block)
    for page in PAGES
    for i, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))
]


@pytest.mark.parametrize("block", [block for _, block in BLOCKS], ids=[name for name, _ in BLOCKS])
def test_every_block_compiles(block: str) -> None:
    compile(block, "page", "exec")


def test_calls_of_the_scheduler_exist() -> None:
    called = set(re.findall(r"(?i)scheduler\.(\w+)\(", OTHERS))
    assert {"ask", "tell", "resolve"} <= called
    for name in called - {"find", "consumer"}:
        assert callable(getattr(Scheduler, name)), name


def test_every_recipe_says_where_it_comes_from_and_four_things() -> None:
    sections = re.split(r"\n## ", OTHERS)[1:]
    names = {section.split("\n", 1)[0] for section in sections}
    assert names >= {
        "OpenRLHF", "SkyRL", "NeMo-RL", "rLLM", "AReaL", "verl ≤ 0.7",
    }  # fmt: skip
    for section in sections:
        if not section.startswith("A file for each batch"):
            assert re.search(
                r"Read in the (sources of 20\d\d-\d\d-\d\d|wheel [\d.]+)( \(v[\d.]+\))?, not run", section
            ), section[:40]
        for line in ("| picks |", "| hears |", "| stale |", "| survives |"):
            assert line in section, (section[:40], line)


def test_the_list_names_every_page_and_every_trainer() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert page.name == "README.md" or f"]({page.name})" in text
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (FOLDER / link).exists(), link
    export = (DOCS / "export.md").read_text(encoding="utf-8")
    for trainer, form in TRAINERS.items():
        assert f"| `{trainer}` | {', '.join(f'`.{kind}`' for kind in form.files)} |" in export


def test_the_scheduler_of_ray_answers_as_the_page_says() -> None:
    page = (FOLDER / "ray.md").read_text(encoding="utf-8")
    listed = re.findall(r"`(\w+)`", page.split("has the calls of", 1)[1].split("Errors are", 1)[0])
    for name in listed:
        if name != "curri":
            assert inspect.getattr_static(Scheduler, name), name
