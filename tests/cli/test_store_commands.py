from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

Answer = "Callable[..., dict[str, Any]]"


def test_init_makes_a_store_once(curri: Callable[..., Result], answer: Callable[..., dict[str, Any]]) -> None:
    first = answer("init")
    again = answer("init")
    assert (first["created"], again["created"], again["prompts"]) == (True, False, 0)
    assert first["store_id"] == again["store_id"]
    result = curri("init")
    assert (result.stdout, "nothing was changed" in result.stderr) == ("", True)


def test_the_store_can_be_named_in_the_environment(
    curri: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CURRI_STORE", str(tmp_path / "other.duckdb"))
    curri("init")
    assert (tmp_path / "other.duckdb").exists()


def test_ingest_tells_what_became_of_the_rows(curri: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "1"}\n{"prompt": "1", "arm": "\x7f"}\n')
    curri("init")
    result = curri("ingest", "p.jsonl")
    assert result.stdout == ""
    assert "p.jsonl: 2 rows: 1 added, 1 repeated" in result.stderr
    assert "prompt 1 stays in p (here: \\x7f)" in result.stderr
    assert "1 already there" in curri("ingest", "p.jsonl").stderr


def test_rejected_rows_give_exit_code_4(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "1"}\nnonsense\n{"prompt": "2"}\n')
    curri("init")
    result = curri("ingest", "p.jsonl", code=4)
    assert "p.jsonl.rejected.jsonl" in result.stderr
    assert "line 2: not JSON" in result.stderr
    document = answer("ingest", "p.jsonl", "--rejected", "r.jsonl", code=4)
    (source,) = document["sources"]
    assert (source["added"], source["present"], source["rejected"], source["rejected_path"]) == (0, 2, 1, "r.jsonl")
    assert json.loads((tmp_path / "r.jsonl").read_text())["line"] == 2


def test_several_files_and_standard_input(curri: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "1"}\n')
    (tmp_path / "b.jsonl").write_text('{"question": "2"}\n')
    curri("init")
    result = curri("ingest", "a.jsonl", "b.jsonl", "-", "--prompt-column", "question", text='{"question": "3"}\n')
    assert "has 3 prompts now" in result.stderr
    curri("ingest", "a.jsonl", "b.jsonl", "--rejected", "x", code=2)


def test_ingest_of_a_task(answer: Callable[..., dict[str, Any]]) -> None:
    pytest.importorskip("reasoning_gym", reason="needs curri[gym]")
    answer("init")
    document = answer("ingest", "gym:knights_knaves?n_people=3&size=3")
    assert document["sources"][0]["arms"] == {"knights_knaves(n_people=3)": 3}


def test_rollouts_and_estimate(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path
) -> None:
    rows = [{"id": f"p{i}", "rewards": [1, i % 2]} for i in range(12)]
    (filled / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "no rollouts yet" in curri("estimate").stderr
    result = curri("rollouts", "import", "r.jsonl", "--model", "m")
    assert (result.stdout, "24 responses added" in result.stderr) == ("", True)
    assert "--append" in curri("rollouts", "import", "r.jsonl", "--model", "m").stderr
    document = answer("estimate")
    assert [(row["arm"], row["mean_reward"]) for row in document["rows"]] == [("easy", 0.5), ("hard", 1.0)]
    table = curri("estimate").stdout.splitlines()
    assert table[0].split()[:2] == ["arm", "prompts"]
    assert [line.split()[0] for line in table[2:]] == ["easy", "hard"]
    answer("rollouts", "import", "r.jsonl", "--model", "n", "--append")
    assert "--model NAME" in curri("estimate", code=1).stderr


def test_estimates_of_prompts_are_json_lines(
    curri: Callable[..., Result], filled: Path, rows_of: Callable[..., list[dict[str, Any]]]
) -> None:
    rows = rows_of(curri("estimate", "--per-prompt").stdout)
    assert [row["prompt_id"] for row in rows] == list(range(1, 13))
    curri("estimate", "--per-prompt", "-o", "e.jsonl")
    assert rows_of(filled / "e.jsonl") == rows


def test_rejected_rollouts_give_exit_code_4(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path
) -> None:
    (filled / "r.jsonl").write_text('{"prompt_id": 1, "reward": 1}\n{"prompt_id": 99, "reward": 1}\n')
    assert "prompt_id 99 is not in the store" in curri("rollouts", "import", "r.jsonl", "--model", "m", code=4).stderr
    document = answer("rollouts", "import", "r.jsonl", "--model", "m", code=4)
    assert (document["repeated"], document["rejected"]) == (1, 1)


def test_store_info(curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path) -> None:
    curri("select", "--strategy", "ucb", "-n", "4", "--run", "r1", "-o", "b.jsonl")
    document = answer("store", "info")
    assert (document["prompts"], document["splits"], document["rollouts"]) == (12, {"train": 12}, 0)
    (run,) = document["runs"]
    assert (run["name"], run["rounds"], run["issued"], run["in_flight"]) == ("r1", 1, 4, 4)
    text = curri("store", "info").stdout
    assert "12, 0 of them retired, in 2 arms" in text
    assert "r1" in text


def test_strategies(curri: Callable[..., Result], answer: Callable[..., dict[str, Any]]) -> None:
    assert {"ucb", "uniform"} <= {entry["name"] for entry in answer("strategies")["strategies"]}
    assert "DUMP" in curri("strategies").stdout
    (temperature,) = [entry for entry in answer("strategies", "ucb")["parameters"] if entry["name"] == "temperature"]
    assert (temperature["symbol"], temperature["default"], temperature["allowed"]) == ("τ", 0.1, "a float in (0, inf)")
    assert "τ" in curri("strategies", "ucb").stdout
    assert 'did you mean "ucb"' in curri("strategies", "ubc", code=1).stderr


def test_demo(curri: Callable[..., Result], answer: Callable[..., dict[str, Any]]) -> None:
    pytest.importorskip("reasoning_gym", reason="needs curri[gym]")
    small = ("demo", "--rounds", "3", "--batch", "8", "--size", "4")
    result = curri(*small)
    assert "simulated" in result.stdout
    assert "uniform" in result.stdout
    document = answer(*small)
    assert document["simulated"] is True
    assert len(document["arms"]) >= 12


def test_names_from_the_store_are_printed_escaped(curri: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "\x1b[2J", "arm": "\x1b[31mred", "answer": "\x9b"}) + "\n")
    curri("init")
    output = curri("ingest", "p.jsonl").output + curri("estimate").output + curri("store", "info").output
    output += curri("select", "--strategy", "ucb", "-n", "1", "-o", "x").output
    assert "\x1b" not in output
    assert "\\x1b[31mred" in output
