"""What docs/verifiers.md says is so."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from curri.parameters import declared
from curri.rollouts.verifiers import VERIFIERS, parse_verifier
from curri.types import ScoreStatus

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "verifiers.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PRINTED = ["1.0 1.0 ok\n0.0 0.0 ok", "0.25\nexact@0.75+regex@0.25:pattern='<answer>.+</answer>' | 1+1", "0.99"]


@pytest.mark.parametrize(("program", "printed"), list(zip(PROGRAMS, PRINTED, strict=True)))
def test_examples_run(program: str, printed: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.strip(), done.stderr) == (printed, "")


def test_every_kind_option_and_status_is_on_the_page() -> None:
    for kind, place in VERIFIERS.items():
        module, _, name = place.partition(":")
        assert f"`{kind}" in PAGE
        for option, parameter in declared(getattr(importlib.import_module(module), name)).items():
            assert f"`{option}`" in PAGE, f"{kind}: {option}"
            assert all(f"`{value}`" in PAGE for value in parameter.choices), f"{kind}: {option}"
    assert all(f"| `{status}` |" in PAGE for status in get_args(ScoreStatus))


def test_the_specifications_on_the_page_can_be_read() -> None:
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert parse_verifier(tomllib.loads(toml)["verifier"]).name == r"math@0.8+regex@0.2:pattern='#### \d+'"
    for spec in re.findall(r"--verifier '?([a-z][^ '\n`]*)", PAGE):
        parse_verifier(spec)
