"""``--where`` and ``--sql-where`` in the commands that have them."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from curri.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

Curri = "Callable[..., Result]"
Answer = "Callable[..., dict[str, Any]]"

HARD = 'arm == "hard"'


@pytest.fixture
def tried(curri: Callable[..., Result], filled: Path) -> Path:
    """The store of ``filled`` with two responses a prompt: easy ones right, hard ones right every other time."""
    rows = [{"id": f"p{i}", "rewards": [1, 1 - i % 2]} for i in range(10)]
    (filled / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curri("rollouts", "import", "r.jsonl", "--model", "m")
    return filled


# ---- select ---------------------------------------------------------------------------------------------------------


def test_select_picks_among_what_matches(answer: Callable[..., dict[str, Any]], tried: Path) -> None:
    picked = answer("select", "-s", "uniform", "-n", "5", "--where", "arm == 'hard' and pass_rate in 0.4..0.6")
    assert sorted(row["prompt_id"] for row in picked["rows"]) == [2, 4, 6, 8, 10]
    error = answer("select", "-s", "uniform", "-n", "6", "--where", "pass_rate == 0.5", code=1)["error"]
    assert error["code"] == "pool_exhausted"


def test_what_is_left_out_is_evidence_all_the_same(answer: Callable[..., dict[str, Any]], tried: Path) -> None:
    words = ("select", "-s", "ucb", "-n", "4", "--seed", "3")
    rows = answer(*words, "--where", "not retired")["rows"]
    assert rows == answer(*words)["rows"]
    (prompt,) = answer(*words[:-4], "-n", "1", "--where", "prompt_id == 12")["rows"]
    assert (prompt["prompt_id"], prompt["probability"]) == (12, 1.0)


def test_in_a_run_each_pick_has_its_own_filter(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], tried: Path
) -> None:
    run = ("select", "--run", "r", "-n", "3")
    ahead = answer(*run, "-s", "ucb", "--where", HARD, "--dry-run")["rows"]
    first = answer(*run, "-s", "ucb", "--where", HARD)["rows"]
    assert {row["arm"] for row in first} == {"hard"}
    assert [row["prompt_id"] for row in ahead] == [row["prompt_id"] for row in first]
    again = answer(*run, "--where", 'arm == "easy"')
    assert (again["reissued"], [row["prompt_id"] for row in again["rows"]]) == (True, [r["prompt_id"] for r in first])
    ahead = answer(*run, "--where", HARD, "--next", "--dry-run")["rows"]
    second = answer(*run, "--where", HARD, "--next")["rows"]
    assert [row["prompt_id"] for row in ahead] == [row["prompt_id"] for row in second]
    assert not {row["prompt_id"] for row in first} & {row["prompt_id"] for row in second}
    assert answer(*run, "--where", HARD, "--next", code=1)["error"]["code"] == "pool_exhausted"
    assert {row["arm"] for row in answer(*run, "--next")["rows"]} == {"easy"}


def test_prompts_that_joined_since_are_picked_only_if_they_match(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path
) -> None:
    first = answer("select", "--run", "r", "-s", "uniform", "-n", "2", "--where", "prompt_id <= 2")["rows"]
    (filled / "more.jsonl").write_text("".join(f'{{"prompt": "new {i}", "arm": "new"}}\n' for i in range(4)))
    curri("ingest", "more.jsonl")
    words = ("select", "--run", "r", "--next", "-n")
    assert answer(*words, "1", "--where", 'arm == "new"', code=1)["error"]["code"] == "pool_exhausted"
    (filled / "results.jsonl").write_text("".join(f'{{"prompt_id": {r["prompt_id"]}, "reward": 1}}\n' for r in first))
    curri("record", "results.jsonl", "--run", "r")
    for where, arms in ((HARD, {"hard"}), ('arm == "new"', {"new"})):
        assert {row["arm"] for row in answer(*words, "4", "--where", where, "--dry-run")["rows"]} == arms
    assert {row["arm"] for row in answer(*words, "4", "--where", 'arm == "new"')["rows"]} == {"new"}


def test_a_wrong_filter_starts_no_run(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path
) -> None:
    result = curri("select", "--run", "r", "-s", "ucb", "-n", "3", "--where", "arm = 'hard'", code=1)
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "  arm = 'hard'",
        "      ^",
        "error: filter, character 5: `=` means nothing here",
        "  hint: equality is `==`",
    ]
    error = answer("select", "--run", "r", "-s", "ucb", "-n", "3", "--where", "am == 'x'", code=1)["error"]
    assert (error["code"], 'did you mean "arm"' in error["hint"]) == ("invalid_filter", True)
    assert answer("store", "info")["runs"] == []


# ---- estimate -------------------------------------------------------------------------------------------------------


def test_estimate(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], tried: Path, rows_of: Callable[..., Any]
) -> None:
    (row,) = answer("estimate", "--where", HARD)["rows"]
    assert (row["arm"], row["prompts"], row["responses"], row["pass_rate"]) == ("hard", 6, 10, 0.5)
    same = answer("estimate", "--sql-where", "arm = 'hard'")["rows"]
    assert same == [row]
    rows = rows_of(curri("estimate", "--per-prompt", "--where", "prompt_id in 2..3").stdout)
    assert [(row["prompt_id"], row["pass_rate"]) for row in rows] == [(2, 0.5), (3, 1.0)]
    assert answer("estimate", "--where", "generation > 0")["rows"] == []


def test_one_of_the_two_ways(curri: Callable[..., Result], filled: Path) -> None:
    assert "give one of them" in curri("estimate", "--where", "retired", "--sql-where", "retired", code=2).stderr


def test_sql_is_refused_in_one_line(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path
) -> None:
    for command in (("estimate",), ("prompts", "list"), ("export", "x.jsonl")):
        result = curri(*command, "--sql-where", "1=1; drop table prompts", code=1)
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 2
        assert answer(*command, "--sql-where", "nope = 1", code=1)["error"]["code"] == "invalid_input"
    assert (
        answer("estimate", "--sql-where", "true", "--store", "none.duckdb", code=1)["error"]["code"]
        == "store_not_found"
    )
    assert not (filled / "x.jsonl").exists()


@pytest.mark.parametrize("command", [("select", "-n", "1"), ("prompts", "retire"), ("prompts", "split", "eval")])
def test_what_writes_takes_no_sql(curri: Callable[..., Result], filled: Path, command: tuple[str, ...]) -> None:
    assert "--sql-where" in curri(*command, "--sql-where", "true", code=2).stderr


# ---- export ---------------------------------------------------------------------------------------------------------


def test_export_in_every_format_says_the_same(
    curri: Callable[..., Result], tried: Path, rows_of: Callable[..., Any]
) -> None:
    chat = {"prompt": [{"role": "user", "content": 'π, "quoted",\nand more'}], "answer": "", "id": "chat", "level": 3}
    (tried / "chat.jsonl").write_text(json.dumps(chat) + "\n")
    curri("ingest", "chat.jsonl")
    curri("prompts", "split", "eval", "--where", 'id == "p11"', "--yes")
    for name in ("p.jsonl", "p.csv", "p.parquet"):
        assert "wrote 13 prompts" in curri("export", name).stderr
    rows = rows_of(tried / "p.jsonl")
    assert [row["prompt_id"] for row in rows] == list(range(1, 14))
    assert (rows[1]["pass_rate"], rows[1]["responses"], rows[11]["split"], rows[11]["responses"]) == (
        0.5,
        2,
        "eval",
        None,
    )
    assert (rows[12]["prompt"], rows[12]["answer"], rows[12]["metadata"]) == (chat["prompt"], "", {"level": 3})
    table = pq.read_table(tried / "p.parquet").to_pylist()
    with (tried / "p.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    for row, of_table, line in zip(rows, table, lines, strict=True):
        row["metadata"] = json.dumps(row["metadata"], separators=(",", ":")) if row["metadata"] else None
        if isinstance(row["prompt"], list):
            row["prompt"] = json.dumps(row["prompt"], ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        assert of_table == row
        assert list(line) == list(row)
        assert line == {name: in_csv(value) for name, value in row.items()}


def in_csv(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_export_with_a_filter_to_standard_output(
    curri: Callable[..., Result], tried: Path, rows_of: Callable[..., Any]
) -> None:
    assert [row["id"] for row in rows_of(curri("export", "-", "--where", "pass_rate == 0.5").stdout)] == [
        "p1", "p3", "p5", "p7", "p9",
    ]  # fmt: skip
    assert [row["id"] for row in rows_of(curri("export", "-", "--sql-where", "id = 'p3'").stdout)] == ["p3"]
    assert curri("export", "-", "--where", "generation > 7").stdout == ""


def test_export_of_nothing_is_a_file_all_the_same(curri: Callable[..., Result], filled: Path) -> None:
    curri("export", "none.csv", "--where", "retired")
    curri("export", "none.parquet", "--where", "retired")
    assert len((filled / "none.csv").read_text().splitlines()) == 1
    assert pq.read_table(filled / "none.parquet").num_rows == 0


def test_an_export_is_ingested_again_as_the_same_prompts(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path
) -> None:
    curri("export", "p.jsonl")
    (source,) = answer("ingest", "p.jsonl")["sources"]
    assert (source["added"], source["present"]) == (0, 12)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("p.txt",), 1, "which format"),
        (("p.txt", "--format", "cvs"), 1, 'did you mean "csv"'),
        (("-", "--format", "csv"), 1, "standard output takes jsonl"),
        (("no/p.csv",), 1, "cannot be written"),
        (("no/p.parquet",), 1, "cannot be written"),
        (("curri.duckdb", "--format", "csv"), 1, "is the store itself"),
        (("-", "--json"), 2, "name a file"),
    ],
)
def test_exports_that_are_refused(
    curri: Callable[..., Result], filled: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    before = set(filled.iterdir())
    assert message in curri("export", *words, code=code).output
    assert set(filled.iterdir()) == before
    with open_store(filled / "curri.duckdb", read_only=True) as store:
        assert len(store.prompts) == 12
