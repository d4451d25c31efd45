"""``curri record --metrics``."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest
    from typer.testing import Result


def results(folder: Path, n: int, *, take: int | None = None) -> str:
    picked = [json.loads(line)["prompt_id"] for line in (folder / "batch.jsonl").read_text().splitlines()]
    rows = [{"prompt_id": prompt, "rewards": [1, 0]} for prompt in picked[:take]]
    path = folder / f"results{n}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def test_every_closed_round_is_a_line(
    curri: Callable[..., Result], filled: Path, rows_of: Callable[[Path], list[dict[str, Any]]]
) -> None:
    for number in range(3):
        curri("select", "--run", "r", "-s", "ucb", "-n", "4", "-o", "batch.jsonl")
        if number == 1:
            curri("record", results(filled, 9, take=2), "--run", "r", "--metrics", "m.jsonl")
        curri("record", results(filled, number), "--run", "r", "--metrics", "m.jsonl")
    lines = rows_of(filled / "m.jsonl")
    assert [(line["run"], line["step"], line["scheduler/prompts_trained"]) for line in lines] == [
        ("r", 1, 4),
        ("r", 2, 8),
        ("r", 3, 12),
    ]


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_recorded(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path
) -> None:
    curri("select", "--run", "r", "-s", "ucb", "-n", "4", "-o", "batch.jsonl")
    said = answer("record", results(filled, 0), "--run", "r", "--metrics", "no/folder/m.jsonl", code=1)
    assert said["error"]["message"] == "metrics cannot be written to no/folder/m.jsonl: No such file or directory"
    assert answer("record", results(filled, 0), "--run", "r")["new"] == 8


def test_a_full_disk_costs_the_line_and_not_the_results(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    curri("select", "--run", "r", "-s", "ucb", "-n", "4", "-o", "batch.jsonl")
    with caplog.at_level(logging.WARNING, "curri"):
        assert answer("record", results(filled, 0), "--run", "r", "--metrics", "/dev/full")["new"] == 8
    assert "JsonLinesWriter failed (OSError: [Errno 28] No space left on device)" in caplog.text
    assert answer("record", results(filled, 0), "--run", "r")["repeated"] == 8
