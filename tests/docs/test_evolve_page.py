"""What docs/evolve.md says is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from curri.evolution import REASONS
from curri.rollouts.llm_creator import AGREEMENT, VOTES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "evolve.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym", reason="needs curri[gym]")
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "4 of 4 {}\n[0, 1, 2]\n"


def test_every_reason_is_on_the_page() -> None:
    assert all(f"`{reason}`" in PAGE for reason in REASONS)


def test_the_defaults_are_those_of_the_page() -> None:
    assert f"`--votes` times ({VOTES})" in PAGE
    assert f"`--agreement` ({AGREEMENT})" in PAGE
