from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Curri = Callable[..., Result]
    Answer = Callable[..., dict[str, Any]]


def test_every_format_is_ingested(curri: Curri, answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,answer\nc,007\n")
    (tmp_path / "a.tsv").write_text("prompt\tanswer\nt\t008\n")
    (tmp_path / "a.json").write_text('{"data": [{"prompt": "j", "answer": 1.50}]}')
    pq.write_table(pa.table({"prompt": ["p"], "answer": [2**60]}), tmp_path / "a.parquet")
    curri("init")
    report = answer("ingest", "a.csv", "a.tsv", "a.json", "a.parquet")
    assert report["prompts_in_store"] == 4
    lines = curri("select", "-n", "4", "--strategy", "uniform").stdout.splitlines()
    assert {row["prompt"]: row["answer"] for row in map(json.loads, lines)} == {
        "c": "007", "t": "008", "j": "1.50", "p": str(2**60)}  # fmt: skip


def test_a_format_can_be_said_and_read_from_standard_input(curri: Curri) -> None:
    curri("init")
    assert "1 row: 1 added" in curri("ingest", "-", "--format", "csv", text="prompt\nq\n").stderr
    stream = io.BytesIO()
    pq.write_table(pa.table({"prompt": ["p"]}), stream)
    assert "1 row: 1 added" in curri("ingest", "-", "--format", "parquet", text=stream.getvalue()).stderr


def test_refused_rows_are_told_by_what_the_format_counts(curri: Curri, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt\nq\n,\n")
    (tmp_path / "a.json").write_text('[{"prompt": "r"}, 5]')
    curri("init")
    result = curri("ingest", "a.csv", "a.json", code=4)
    assert "    line 3: 2 cells, where the header has 1\n" in result.stderr
    assert "    row 2: must be a JSON object; got 5\n" in result.stderr
    assert json.loads((tmp_path / "a.json.rejected.jsonl").read_text())["row"] == 2


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["ingest", "a.csv", "--format", "xml"], "invalid_input"),
        (["ingest", "empty.csv"], "invalid_data"),
        (["ingest", "empty.json"], "invalid_data"),
        (["ingest", "empty.parquet"], "invalid_data"),
        (["ingest", "a.csv", "--format", "parquet"], "invalid_data"),
        (["ingest", "."], "invalid_data"),
        (["ingest", "hf:"], "invalid_input"),
        (["ingest", "missing.parquet"], "invalid_data"),
        (["rollouts", "import", "missing.csv", "--model", "m"], "invalid_data"),
        (["rollouts", "import", "a.csv", "--model", "m", "--layout", "x"], "invalid_input"),
        (["rollouts", "import", "a.csv", "--model", "m", "--column", "id"], "usage"),
        (["rollouts", "import", "a.csv", "--model", "m", "--column", "id=a", "--column", "id=b"], "usage"),
        (["rollouts", "import", "a.csv", "--model", "m", "--reward-weights", "acc"], "usage"),
        (["rollouts", "import", "a.csv", "a.csv", "--model", "m", "--rejected", "x"], "usage"),
        (["priors", "import", "a.csv"], "usage"),
        (["priors", "import", "missing.csv", "--model", "m"], "invalid_data"),
        (["priors", "import", "a.csv", "--model", "m"], "invalid_input"),
        (["priors", "import", "a.csv", "--model", "m", "--n", "0"], "usage"),
        (["priors", "use", "nobody"], "unknown_name"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(answer: Answer, filled: Path, words: list[str], kind: str) -> None:
    (filled / "a.csv").write_text("prompt,x\nq,1\n")
    for suffix in ("csv", "json", "parquet"):
        (filled / f"empty.{suffix}").touch()
    error = answer(*words, code=2 if kind == "usage" else 1)["error"]
    assert error["code"] == kind
    assert "\n" not in error["message"]


def test_rollouts_of_trainers(curri: Curri, answer: Answer, filled: Path) -> None:
    columns = {"step": [1, 1], "prompt": ["0 + 0", "1 + 1"], "completion": ["0", "3"], "advantage": [0.5, -0.5]}
    for step in (1, 2):
        rewards = {"accuracy": [1.0, 0.0], "style": [0.5, 0.5]}
        table = pa.table(columns | {"step": [step] * 2} | rewards)
        pq.write_table(table, filled / f"completions_0000{step}.parquet")
    assert "--reward-weights accuracy=1,style=1" in curri(
        "rollouts", "import", "completions_00001.parquet", "--model", "m", code=1).stderr  # fmt: skip
    words = ["--model", "m", "--reward-weights", "accuracy=1,style=0.1"]
    report = answer("rollouts", "import", "completions_00001.parquet", "completions_00002.parquet", *words)
    assert [entry["added"] for entry in report["files"]] == [2, 2]
    dump = {"input": "user\n2 + 2\nassistant\n", "output": "4", "score": 1.0, "step": 7, "gts": "4"}
    (filled / "7.jsonl").write_text(json.dumps(dump))
    template = "user\\n{prompt}\\nassistant\\n"
    assert answer("rollouts", "import", "7.jsonl", "--model", "v", "--prompt-template", template)["added"] == 1


def test_priors_from_beginning_to_end(curri: Curri, answer: Answer, filled: Path) -> None:
    (filled / "big.csv").write_text("id,k,n\np0,1,8\np1,8,8\nwho,1,8\n")
    (filled / "small.jsonl").write_text('{"problem": "0 + 0", "acc": 0.5}')
    assert "no pass rates" in curri("priors", "list").stderr
    report = answer("priors", "import", "big.csv", "--model", "big", code=4)
    assert (report["added"], report["rejected"], report["in_use"]) == (2, 1, "big")
    assert report["rejected_examples"] == [{"line": 4, "reason": 'id "who" is not in the store'}]
    words = ["small.jsonl", "--model", "small", "--n", "4", "--column", "prompt=problem", "--column", "rate=acc"]
    assert "curri priors use 'small'" in curri("priors", "import", *words).stderr
    curri("priors", "use", "small")
    models = answer("priors", "list")["models"]
    assert [(entry["model"], entry["prompts"], entry["in_use"]) for entry in models] == [
        ("big", 2, False), ("small", 1, True)]  # fmt: skip
    assert "small" in curri("priors", "list").stdout
