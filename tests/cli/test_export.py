"""``curri export --format trl|verl|openrlhf|slime``: what trainers read, read back."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from curri.exchange import write_selection
from curri.scheduler import Scheduler
from curri.store import NewPrompt, open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

CHAT = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "π?"}]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with a store: twelve texts, the first retired and the last held out, and a chat with metadata, 13."""
    with open_store(tmp_path / "curri.duckdb", create=True) as store:
        sums = [NewPrompt(f"{i} + {i}", False, str(2 * i), ("easy", "hard")[i % 2], f"p{i}") for i in range(12)]
        metadata = json.dumps({"ability": "numbers", "level": 3})
        store.prompts.add([*sums, NewPrompt(json.dumps(CHAT), True, "3.14", "hard", "chat", metadata=metadata)])
        store.prompts.retire(np.array([1]))
        store.prompts.set_split(np.array([12]), "eval")
    return tmp_path


@pytest.fixture
def picked(mixed: Path) -> list[dict[str, Any]]:
    """A round of a run, in batch.jsonl."""
    with open_store(mixed / "curri.duckdb") as store:
        selection = Scheduler(store, "uniform", run="r", seed=3, group_size=4).ask(5)
        write_selection(selection, mixed / "batch.jsonl")
    rows = read(mixed / "batch.jsonl")
    assert [row["prompt_id"] for row in rows] != sorted(row["prompt_id"] for row in rows)
    return rows


def messages(prompt: Any) -> Any:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]]
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    return rows


def test_verl(curri: Callable[..., Result], mixed: Path) -> None:
    assert "wrote 11 prompts" in curri("export", "train.parquet", "--format", "verl").stderr
    rows = read(mixed / "train.parquet")
    assert [row["extra_info"]["index"] for row in rows] == [*range(2, 12), 13]
    assert rows[0] == {
        "data_source": "hard",
        "prompt": [{"role": "user", "content": "1 + 1"}],
        "ability": "hard",
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {
            "index": 2, "prompt_id": 2, "split": "train", "arm": "hard", "id": "p1", "answer": "2", "metadata": None,
        },
    }  # fmt: skip
    assert (rows[-1]["prompt"], rows[-1]["ability"]) == (CHAT, "numbers")
    assert json.loads(rows[-1]["extra_info"]["metadata"]) == {"ability": "numbers", "level": 3}
    curri("export", "val.parquet", "--format", "verl", "--split", "eval")
    assert [row["extra_info"]["id"] for row in read(mixed / "val.parquet")] == ["p11"]


def test_verl_of_a_selection(curri: Callable[..., Result], mixed: Path, picked: list[dict[str, Any]]) -> None:
    curri("export", "batch.parquet", "--format", "verl", "--selection", "batch.jsonl")
    rows = read(mixed / "batch.parquet")
    assert [row["extra_info"]["index"] for row in rows] == [row["prompt_id"] for row in picked]
    assert {(row["__rollout_n__"], row["extra_info"]["round"]) for row in rows} == {(4, 0)}


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl"])
def test_trl(curri: Callable[..., Result], mixed: Path, picked: list[dict[str, Any]], name: str) -> None:
    curri("export", name, "--format", "trl")
    rows = read(mixed / name)
    assert rows[0] == {
        "prompt_id": 2, "prompt": messages("1 + 1"), "answer": "2", "arm": "hard", "split": "train", "id": "p1",
        "solution": "2", "metadata": None,
    }  # fmt: skip
    assert rows[-1]["prompt"] == CHAT  # one is a chat, so all are
    curri("export", name, "--format", "trl", "--where", 'arm == "easy"')
    assert [(row["prompt_id"], row["prompt"]) for row in read(mixed / name)] == [
        (i + 1, f"{i} + {i}") for i in (2, 4, 6, 8, 10)
    ]
    curri("export", name, "--format", "trl", "--selection", "batch.jsonl")
    rows = read(mixed / name)
    assert [(row["prompt_id"], row["n_rollouts"], row["round"]) for row in rows] == [
        (row["prompt_id"], 4, 0) for row in picked
    ]


@pytest.mark.parametrize("name", ["o.jsonl", "o.parquet"])
def test_openrlhf(curri: Callable[..., Result], mixed: Path, picked: list[dict[str, Any]], name: str) -> None:
    curri("export", name, "--format", "openrlhf", "--where", 'arm == "easy"')
    first, *_ = read(mixed / name)
    assert first == {"input": "2 + 2", "label": '{"prompt_id":3,"answer":"4"}', "datasource": "easy"}
    curri("export", name, "--format", "openrlhf", "--selection", "batch.jsonl")
    labels = [json.loads(row["label"]) for row in read(mixed / name)]
    assert [(label["prompt_id"], label["answer"], label["n_rollouts"], label["round"]) for label in labels] == [
        (row["prompt_id"], row["answer"], 4, 0) for row in picked
    ]


def test_slime(curri: Callable[..., Result], mixed: Path, rows_of: Callable[..., Any]) -> None:
    rows = rows_of(curri("export", "-", "--format", "slime").stdout)
    assert (rows[0]["prompt"], rows[0]["label"]) == ("1 + 1", "2")
    assert rows[0]["metadata"] == {"prompt_id": 2, "arm": "hard", "split": "train", "id": "p1"}
    assert (rows[-1]["prompt"], rows[-1]["metadata"]["level"], rows[-1]["metadata"]["prompt_id"]) == (CHAT, 3, 13)


@pytest.mark.parametrize("name", ["s.parquet", "s.csv", "s.jsonl"])
def test_a_selection_with_all_that_is_known(
    curri: Callable[..., Result], mixed: Path, picked: list[dict[str, Any]], name: str
) -> None:
    curri("export", name, "--selection", "batch.jsonl")
    path = mixed / name
    if name.endswith("csv"):
        with path.open(newline="", encoding="utf-8") as stream:
            rows: list[dict[str, Any]] = list(csv.DictReader(stream))
    else:
        rows = read(path)
    for row, pick in zip(rows, picked, strict=True):
        for column in ("prompt_id", "answer", "arm", "n_rollouts", "round"):
            assert str(row[column]) == str(pick[column])
        assert float(row["probability"]) == pick["probability"]


def test_a_selection_from_a_pipe_with_ids_alone(curri: Callable[..., Result], mixed: Path) -> None:
    lines = '{"prompt_id": 7}\n{"prompt_id": 2}\n'
    curri("export", "p.parquet", "--format", "verl", "--selection", "-", text=lines)
    rows = read(mixed / "p.parquet")
    assert [row["extra_info"]["index"] for row in rows] == [7, 2]
    assert "__rollout_n__" not in rows[0]


def test_nothing_is_a_file_all_the_same(curri: Callable[..., Result], mixed: Path) -> None:
    for form, name in (("verl", "n.parquet"), ("trl", "n.parquet"), ("openrlhf", "n.parquet"), ("slime", "n.jsonl")):
        curri("export", name, "--format", form, "--split", "none")
        assert read(mixed / name) == []


@pytest.mark.parametrize("form", ["trl", "verl", "openrlhf"])
def test_messages_that_parquet_cannot_hold(curri: Callable[..., Result], mixed: Path, form: str) -> None:
    image = [{"role": "user", "content": [{"type": "image", "image": "a.png"}]}]
    with open_store(mixed / "curri.duckdb") as store:
        store.prompts.add([NewPrompt(json.dumps(image), True, "", "hard")])
    assert "prompt 14 has a message" in curri("export", "i.parquet", "--format", form, code=1).stderr
    assert not (mixed / "i.parquet").exists()
    assert curri("export", "i.parquet", "--format", form, "--where", "prompt_id < 14").exit_code == 0
    if form != "verl":
        curri("export", "i.jsonl", "--format", form)
        assert image in read(mixed / "i.jsonl")[-1].values()


def test_datasets_reads_them(curri: Callable[..., Result], mixed: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for form, name in (("verl", "d.parquet"), ("trl", "d.jsonl"), ("openrlhf", "d.jsonl")):
        curri("export", name, "--format", form)
        kind = "parquet" if name.endswith("parquet") else "json"
        loaded = datasets.load_dataset(kind, data_files=str(mixed / name), cache_dir=str(tmp_path / form))["train"]
        assert loaded.to_list() == read(mixed / name)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("t.jsonl", "--format", "verl"), 1, "verl reads .parquet; got t.jsonl"),
        (("-", "--format", "verl"), 1, "got standard output"),
        (("t.parquet", "--format", "slime"), 1, "slime reads .jsonl"),
        (("t.csv", "--format", "trl"), 1, "trl reads .parquet or .jsonl"),
        (("t.parquet", "--format", "vrel"), 1, 'did you mean "verl"'),
        (("t.jsonl", "--selection", "twice.jsonl"), 1, "line 2 of twice.jsonl: prompt 3 is there twice"),
        (("t.jsonl", "--selection", "none.jsonl"), 1, "none.jsonl"),
        (("t.jsonl", "--selection", "named.jsonl"), 1, 'no column "prompt_id"'),
        (("t.jsonl", "--selection", "unknown.jsonl"), 1, "99"),
        (("t.jsonl", "--selection", "twice.jsonl", "--where", "retired"), 2, "--selection says which"),
        (("curri.duckdb", "--format", "trl"), 1, "trl reads"),
    ],
)
def test_what_is_refused(
    curri: Callable[..., Result], mixed: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    (mixed / "twice.jsonl").write_text('{"prompt_id": 3}\n{"prompt_id": 3}\n')
    (mixed / "named.jsonl").write_text('{"id": "p1"}\n')
    (mixed / "unknown.jsonl").write_text('{"prompt_id": 99}\n')
    before = set(mixed.iterdir())
    # A box is drawn around usage errors, which breaks lines.
    assert message in " ".join(curri("export", *words, code=code).output.replace("│", " ").split())
    assert set(mixed.iterdir()) == before
