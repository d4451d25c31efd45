from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Curri = Callable[..., Result]
    Answer = Callable[..., dict[str, Any]]


@pytest.fixture
def tried(curri: Curri, filled: Path) -> Path:
    """Easy prompts are right in 1, 3 or 6 of 8; hard ones never; 10 and 11 were not tried."""
    rows = [
        {"id": f"p{i}", "rewards": [int(j < (1, 0, 3, 0, 6, 0)[i % 6]) for j in range(8)], "tokens": [50] * 8}
        for i in range(10)
    ]
    (filled / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curri("rollouts", "import", "rollouts.jsonl", "--model", "m")
    return filled


def test_without_a_store(curri: Curri, answer: Answer) -> None:
    shown = curri("plan", "--pass-rate", "0.1", "-n", "8", "--live", "0.5").stdout.splitlines()
    assert shown[2].split() == ["0.1", "8", "57.0%", "43.0%", "14"]
    assert shown[3] == "pass rate 0.1: 0.5 live: groups of 7 or more"
    found = answer("plan", "--pass-rate", "0,0.5", "--pass-rate", "1", "-n", "2,4", "-n", "8", "--live", "0.9")
    assert [each["pass_rate"] for each in found["rates"]] == [0.0, 0.5, 1.0]
    assert [group["n"] for group in found["rates"][1]["groups"]] == [2, 4, 8]
    assert [each["smallest"] for each in found["rates"]] == [None, 5, None]
    assert found["rates"][0]["groups"][0]["responses_per_live"] is None
    assert "because all responses are right" in curri("plan", "--pass-rate", "1", "--live", "0.1").stdout
    assert "no group of up to 1,024" in curri("plan", "--pass-rate", "0.0001", "--live", "0.5").stdout


def test_of_a_store(curri: Curri, answer: Answer, tried: Path) -> None:
    found = answer("plan", "-n", "4,8", "--live", "0.7")
    assert (found["model"], found["source"], found["wanted"]) == ("m", "rollouts", 0.7)
    easy, hard = found["arms"]
    assert (easy["name"], easy["prompts"], easy["tried"], easy["tokens"]) == ("easy", 6, 5, 50.0)
    assert easy["groups"][1]["live"] > 0.7 > hard["groups"][1]["live"]
    assert (hard["smallest"], hard["always_wrong"]) == (None, 1.0)
    result = curri("plan", "-n", "4,8", "--live", "0.7")
    lines = result.stdout.splitlines()
    assert lines[0].split("  ")[-2:] == ["tokens per live group", "waste of tokens"]
    assert lines[5].startswith("0.7 live: no group of up to 1,024 responses gets there (50.0% of the tried prompts")
    assert "none; " in lines[-1]
    assert "left out" in result.stderr
    assert [each["name"] for each in answer("plan", "--where", 'arm == "easy"')["arms"]] == ["easy"]
    assert [each["name"] for each in answer("plan", "--sql-where", "arm = 'hard'")["arms"]] == ["hard"]


def test_nothing_is_known(curri: Curri, answer: Answer, filled: Path) -> None:
    result = curri("plan", "--live", "0.5")
    assert result.stdout == ""
    assert "curri plan --pass-rate" in result.stderr
    assert answer("plan", "--live", "0.5")["together"]["groups"] == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-n", "x"], 2, "-n must be numbers such as 4,8,16"),
        (["-n", "0"], 1, "group sizes must be integers in [1, 1024]"),
        (["--live", "2"], 2, "--live must lie between 0 and 1"),
        (["--pass-rate", "2"], 1, "must lie in [0, 1]"),
        (["--pass-rate", "a"], 2, "--pass-rate must be numbers such as 0.1,0.5"),
        (["--pass-rate", "0.1", "--where", "retired"], 2, "--pass-rate needs no store"),
        (["--model", "none"], 1, "none"),
    ],
)
def test_what_is_refused(curri: Curri, tried: Path, words: list[str], code: int, said: str) -> None:
    assert said in curri("plan", *words, code=code).stderr


def test_a_filter_that_no_prompt_meets_is_told_from_missing_rollouts(curri: Curri, tried: Path) -> None:
    assert "there are no prompts" in curri("plan", "--where", 'arm == "none"').stderr


def test_from_a_file(answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[plan]\nn = [4, 8]\npass-rate = 0.1\nlive = 0.5\n")
    (found,) = answer("plan", "--config", "run.toml")["rates"]
    assert ([group["n"] for group in found["groups"]], found["smallest"]) == ([4, 8], 7)
