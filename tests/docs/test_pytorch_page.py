"""What docs/pytorch.md shows is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import curri

pytest.importorskip("torch")

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "pytorch.md").read_text(encoding="utf-8")
EXAMPLE, HALVES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def run(code: str) -> None:
    exec(compile(code, "pytorch.md", "exec"), {"__name__": "example"})  # noqa: S102  our own page


def test_the_example_runs_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    killed = EXAMPLE.replace("        # your optimizer step", "        if step == 6: raise KeyboardInterrupt")
    assert killed != EXAMPLE
    with pytest.raises(KeyboardInterrupt):
        run(killed)
    run(EXAMPLE)
    assert "'sampler/staleness_max': 0" in capsys.readouterr().out
    with curri.open_store("curri.duckdb") as store:
        assert curri.Scheduler(store, run="r1").round == 27
        assert len(store.rollouts) == 27 * 32


def test_both_halves_of_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(HALVES)


def test_every_argument_that_shapes_the_stream_is_explained() -> None:
    from curri.integrations.torch import CurriculumSampler

    documented = CurriculumSampler.__doc__ or ""
    for name in ("prompts", "group_size", "repeats", "rounds", "max_staleness"):
        assert f"| `{name}` |" in PAGE
        assert f"        {name}: " in documented
