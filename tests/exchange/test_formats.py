from __future__ import annotations

import csv
import decimal
import io
import json
import subprocess
import sys
import types
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidData, InvalidInput, MissingExtra, UnknownName
from curri.exchange import ingest_file, open_rows
from curri.exchange.arrow_rows import ArrowRows
from curri.exchange.csv_rows import CsvRows
from curri.exchange.ingest import as_text
from curri.exchange.json_array import JsonArray
from curri.exchange.sources import format_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from curri.store import PromptStore

ROOT = Path(__file__).resolve().parents[2]
AWKWARD = ["007", "1e5", "1.50", "true", "NA", "null", "NaN", "2024-01-01", " 7 ", "a,b", 'say "x"', "two\nlines",
           "cr\r\nlf", "é😀", "0x10", "-0", "[1, 2]"]  # fmt: skip


def values(path: str | Path, form: str | None = None) -> list[Any]:
    with open_rows(path, form) as rows:
        return [row.value for row in rows]


def faults(path: str | Path, form: str | None = None) -> list[tuple[int, str]]:
    with open_rows(path, form) as rows:
        return [(row.number, row.reason) for row in rows if row.value is None]


def write_csv(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return path


def write_parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def save(folder: Path, *batches: pa.Table) -> Path:
    """A folder as `datasets.save_to_disk` writes it."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(batches):05d}.arrow" for i in range(len(batches))]
    for name, table in zip(names, batches, strict=True):
        with pa.ipc.new_stream(folder / name, table.schema) as stream:
            stream.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return folder


# --- which format -----------------------------------------------------------------------------------------------------


def test_the_format_goes_by_the_name_unless_it_is_said(tmp_path: Path) -> None:
    names = {"a.jsonl": "jsonl", "a.ndjson": "jsonl", "A.JSON": "json", "a.csv": "csv", "a.tsv": "tsv", "a.pq":
             "parquet", "a.parquet": "parquet", "a": "jsonl", "-": "jsonl", "hf:a/b": "hf"}  # fmt: skip
    assert {name: format_of(name) for name in names} == names
    assert format_of(save(tmp_path / "d", pa.table({"a": [1]}))) == "saved"
    with pytest.raises(InvalidInput, match=r'no format "xml"; known: jsonl, json, csv'):
        format_of("a.csv", "xml")


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_every_cell_is_the_text_it_is(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [["prompt", "answer"], *(["q", text] for text in AWKWARD)])
    assert [row["answer"] for row in values(path)] == AWKWARD


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=5), st.sampled_from([",", "\t"]))
def test_what_csv_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Any], mark: str) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=mark).writerows([["a", "b", "c"], *rows])
    with CsvRows(path, delimiter=mark) as read:
        assert [list((row.value or {}).values()) for row in read] == rows


def test_an_empty_cell_is_null_and_blank_lines_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfa,b\r\n1,\r\n\r\n,""\r\n')
    assert values(tmp_path / "a.csv") == [{"a": "1", "b": None}, {"a": None, "b": None}]


def test_records_that_are_none_are_refused_by_their_line_and_the_next_one_is_read(tmp_path: Path) -> None:
    lines = [
        b"a,b",
        b"1,2,3",
        b"1",
        b'"x"y,2',
        b"\xff,2",
        b'"two\nlines",2',
        b"a\rb,2",
        b"4,5",
        b'"never,closed',
        b"6,7",
    ]
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines))
    assert faults(tmp_path / "a.csv") == [
        (2, "3 cells, where the header has 2"),
        (3, "1 cells, where the header has 2"),
        (4, "not CSV: ',' expected after '\"'"),
        (5, "not UTF-8: byte 0xff at position 0"),
        (8, "not CSV: a carriage return outside quotes"),
        (10, "not CSV: a quote is opened and not closed"),
    ]
    assert [value for value in values(tmp_path / "a.csv") if value] == [
        {"a": "two\nlines", "b": "2"}, {"a": "4", "b": "5"}, {"a": "6", "b": "7"}]  # fmt: skip


def test_a_record_that_is_too_long_is_skipped(tmp_path: Path) -> None:
    body = "a,b\n" + "x" * 5000 + ',1\n2,3\n"open,' + "y\n" * 600 + "4,5\n"
    (tmp_path / "a.csv").write_text(body)
    with CsvRows(tmp_path / "a.csv", max_row=1000) as rows:
        found = list(rows)
    assert [row.number for row in found if row.value] == [3, 604]
    assert found[0].reason == "longer than 1000 bytes, or a quote is not closed"
    assert found[2].reason == found[0].reason


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,a\n1,2\n", 'several columns named "a"'),
        ("a,b\n1,2".encode("utf-16"), "iconv"),
        (b"\xe9,b\n", "the header of .* cannot be read: not UTF-8"),
        (b'"a,b\n1,2\n', "not closed"),
    ],
)
def test_a_csv_file_without_a_usable_header(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InvalidData, match=said):
        open_rows(tmp_path / "a.csv")


def test_a_column_that_is_empty_in_all_rows_is_a_column_all_the_same(store: PromptStore, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [["question", "gold"], ["q", ""]])
    assert ingest_file(store, path, prompt_column="question", answer_column="gold").added == 1


# --- JSON -------------------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)


@given(st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=4), st.sampled_from([None, 1]), st.booleans(),
       st.integers(1, 40))  # fmt: skip
def test_an_array_is_read_back_however_it_is_cut(rows: list[Any], indent: int | None, ascii_: bool, part: int) -> None:
    class Dripping(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or part, part))

    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_)
    with JsonArray(Dripping(text.encode()), "x", 0) as read:
        assert [row.value for row in read] == rows


def test_digits_are_kept_in_an_array(store: PromptStore, tmp_path: Path, answers: Callable[[], Any]) -> None:
    (tmp_path / "a.json").write_text('[{"prompt": "a", "answer": 1e5}, {"answer": 1.50, "prompt": "b"}]')
    ingest_file(store, tmp_path / "a.json")
    assert answers() == ["1e5", "1.50"]


def test_rows_of_an_array_that_cannot_be_used(tmp_path: Path) -> None:
    body = b'[{"a": 1}, 5, {"a": NaN}, {"a": "\xff"}, {"a": [}, {"a": 2}, {"a": "' + b"x" * 500 + b'"}, {"a": 3}, {"a"'
    (tmp_path / "a.json").write_bytes(body.replace(b'{"a": [}, ', b""))
    with (tmp_path / "a.json").open("rb") as stream:
        found = list(JsonArray(stream, "x", 0, max_row=300))
    assert [(row.number, row.value) for row in found if row.value] == [(1, {"a": 1}), (5, {"a": 2}), (7, {"a": 3})]
    assert [row.reason for row in found if not row.value] == [
        "must be a JSON object; got 5",
        "not JSON: NaN is not a JSON number",
        "not UTF-8: byte 0xff at position 7",
        "longer than 300 bytes",
        "not JSON, and nothing after it can be read: it ends in the middle of a row",
    ]


@pytest.mark.parametrize("body", ['[{"a": 1}, {"a": 2]', '[{"a": 1} {"a": 2}]', '[{"a": 1}',
                                  '[{"a": 1}, {"a": [1}}]'])  # fmt: skip
def test_after_a_broken_bracket_nothing_is_guessed(tmp_path: Path, body: str) -> None:
    (tmp_path / "a.json").write_text(body)
    rows = values(tmp_path / "a.json")
    assert rows[0] == {"a": 1}
    assert all(row is None for row in rows[1:])
    assert "not JSON" in faults(tmp_path / "a.json")[-1][1]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("[]", []),
        (" [ ] ", []),
        ("\ufeff[{}]", [{}]),
        ('{"v": "]}", "n": [1, 2], "data": [{"a": 1}, {"a": "}"}], "m": {"x": [3]}}', [{"a": 1}, {"a": "}"}]),
        ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
    ],
)
def test_what_a_json_file_may_be(tmp_path: Path, body: str, expected: list[Any]) -> None:
    (tmp_path / "a.json").write_text(body, encoding="utf-8")
    assert values(tmp_path / "a.json") == expected


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b'"x"', "must be a JSON array of objects; it begins with"),
        (b'{"a": 1}', "must hold one list of objects; it holds none"),
        (b'{"a": [{}], "b": [{}]}', "it holds several"),
        (b'{"a": [{}]', "is not JSON"),
        ("[{}]".encode("utf-16"), "not UTF-8"),
    ],
)
def test_a_json_file_that_holds_no_rows(tmp_path: Path, body: bytes, said: str) -> None:
    (tmp_path / "a.json").write_bytes(body)
    with pytest.raises(InvalidData, match=said):
        open_rows(tmp_path / "a.json")


# --- Parquet ----------------------------------------------------------------------------------------------------------


def spelled(path: Path) -> list[str | None]:
    with open_rows(path) as rows:
        return [as_text(row, "answer") for row in rows]


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array(AWKWARD), AWKWARD),
        (pa.array(AWKWARD).dictionary_encode(), AWKWARD),
        (pa.array([7, None, 2**63 - 1], pa.int64()), ["7", None, str(2**63 - 1)]),
        (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
        (pa.array([0.1, 1e300, 3.0]), ["0.1", "1e+300", "3.0"]),
        (pa.array([0.1, 1e20], pa.float32()), ["0.1", "1e+20"]),
        (pa.array([decimal.Decimal("1.50"), decimal.Decimal("7.00"), None]), ["1.50", "7.00", None]),
        (pa.array([decimal.Decimal(10**37 + 1)], pa.decimal128(38, 0)), [str(10**37 + 1)]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array([datetime(2024, 1, 2, 3, tzinfo=UTC)]).cast(pa.timestamp("s")), ["2024-01-02 03:00:00.000"]),
        (pa.array([[1, 2], []]), ["[1,2]", "[]"]),
        (pa.array([{"b": 1, "a": None}]), ['{"b":1}']),
        (pa.nulls(2), [None, None]),
    ],
)
def test_an_answer_of_any_type_becomes_its_text(tmp_path: Path, column: Any, texts: list[Any]) -> None:
    assert spelled(write_parquet(tmp_path / "a.parquet", answer=column)) == texts


@given(st.lists(st.tuples(TEXTS, st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)),
                max_size=6))  # fmt: skip
def test_what_parquet_holds_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    kinds = (pa.string(), pa.int64(), pa.float64())
    path = write_parquet(
        tmp_path_factory.mktemp("pq") / "a.parquet",
        **{name: pa.array(column, kind) for name, column, kind in zip("abc", columns, kinds, strict=True)},
    )
    assert [tuple(row.values()) for row in values(path)] == rows


def test_chats_of_a_table_are_the_prompts_they_would_be_in_json(store: PromptStore, tmp_path: Path) -> None:
    chats = [[{"role": "user", "content": "hi"}], [{"role": "user", "content": "yo", "name": "n"}]]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"prompt": chat}) + "\n" for chat in chats))
    ingest_file(store, tmp_path / "a.jsonl")
    report = ingest_file(store, write_parquet(tmp_path / "b.parquet", prompt=chats))
    assert (report.present, report.added) == (2, 0)


def test_columns_of_bytes_are_left_out_and_said(store: PromptStore, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", prompt=["q"], image=[{"bytes": b"x", "path": "p"}], raw=[b"y"])
    notes = ingest_file(store, path).notes
    assert [note.split('"')[1] for note in notes] == ["image", "raw"]
    assert store.connection.value("select metadata from prompts") == ""


def test_a_text_that_is_not_utf8_is_refused_by_its_row() -> None:
    bad = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"], pa.binary()).buffers())
    batch = pa.record_batch({"prompt": bad})
    with ArrowRows("x", batch.schema, lambda: [batch]) as rows:
        assert [(row.number, row.reason) for row in rows] == [(1, ""), (2, '"prompt" is not UTF-8'), (3, "")]


def test_numbers_that_json_lacks_are_refused_by_their_row(store: PromptStore, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", prompt=["a", "b"], level=[float("nan"), 1.0])
    report = ingest_file(store, path)
    assert (report.added, report.rejected_examples, report.unit) == (
        1, ((1, "a column holds a number that is too large, or none (NaN)"),), "row")  # fmt: skip


@pytest.mark.parametrize(("content", "said"), [(b"", "is empty"), (b"PAR1 and no more", "is no Parquet file")])
def test_a_file_that_is_no_parquet(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(InvalidData, match=said):
        open_rows(tmp_path / "a.parquet")


def test_a_damaged_parquet_file_gives_the_rows_before_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"prompt": [f"prompt {i} {i * 7919 % 1000}" for i in range(4000)]})
    pq.write_table(table, path, row_group_size=1000, compression="gzip", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[len(content) * 6 // 10] ^= 0xFF
    path.write_bytes(content)
    found = values(path)
    assert found[:2000] == table.slice(0, 2000).to_pylist()
    assert found[-1] is None
    assert "damaged, and nothing after it can be read" in faults(path)[-1][1]


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "a.parquet")
    with pytest.raises(InvalidData, match='several columns named "a"'):
        open_rows(tmp_path / "a.parquet")


# --- datasets ---------------------------------------------------------------------------------------------------------


def test_a_saved_folder_is_read_without_the_library(store: PromptStore, tmp_path: Path) -> None:
    folder = save(tmp_path / "maths", pa.table({"prompt": ["a"]}), pa.table({"prompt": ["b"]}))
    report = ingest_file(store, folder)
    assert (report.added, report.arms) == (2, {"maths": 2})


def test_a_saved_folder_of_several_splits(store: PromptStore, tmp_path: Path) -> None:
    for split in ("train", "test"):
        save(tmp_path / "d" / split, pa.table({"prompt": [split]}))
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(InvalidInput, match=r"has the splits train, test; name one\n.*\?split=NAME"):
        ingest_file(store, tmp_path / "d")
    with pytest.raises(InvalidInput, match='there is no "dev"'):
        ingest_file(store, f"hf:{tmp_path / 'd'}?split=dev")
    assert ingest_file(store, f"hf:{tmp_path / 'd'}?split=train").held_out == 0
    report = ingest_file(store, f"hf:{tmp_path / 'd'}?split=test")
    assert (report.added, report.held_out, report.arms) == (1, 1, {"d": 1})
    assert len(store.pool()) == 1


def test_a_split_that_is_said_to_be_trained_on(store: PromptStore, tmp_path: Path) -> None:
    save(tmp_path / "d" / "test", pa.table({"prompt": ["q"]}))
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["test"]}')
    assert ingest_file(store, f"hf:{tmp_path / 'd'}?split=test&as=train").held_out == 0


@pytest.mark.parametrize("state", ["", "[]", '{"_data_files": [{"filename": "none.arrow"}]}', '{"_data_files": []}',
                                   '{"_data_files": [{"filename": "x"}], "_indices_data_files": ["i"]}'])  # fmt: skip
def test_a_saved_folder_that_is_damaged(tmp_path: Path, state: str) -> None:
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(InvalidData):
        open_rows(tmp_path)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hf:", "names no dataset"),
        ("hf:a?split", "not a list of parameters"),
        ("hf:a?split=", '"split" of hf:a.* is empty'),
        ("hf:a?splt=train", 'did you mean "split"'),
        ("hf:a?split=x&split=y", "twice"),
    ],
)
def test_a_name_that_is_spelled_wrong(source: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        open_rows(source)


def test_a_name_needs_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"curri\[hf\]"):
        open_rows("hf:gsm8k?split=train")


class FakeDataset:
    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.features = types.SimpleNamespace(arrow_schema=table.schema)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def with_format(self, name: str) -> FakeDataset:
        assert name == "arrow"
        return self

    def iter(self, batch_size: int) -> Any:
        return (self._table.slice(i, batch_size) for i in range(0, len(self), batch_size))


def test_a_dataset_by_name(store: PromptStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*words: Any, **named: Any) -> Any:
        asked.append((words, named))
        if named["split"] is None:
            return {"train": None, "test": None}
        return FakeDataset(pa.table({"prompt": ["a", "b"], "answer": [1, 2]}))

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    report = ingest_file(store, "hf:openai/gsm8k?split=test[:2]&config=main&revision=r")
    assert asked == [(("openai/gsm8k", "main"), {"split": "test[:2]", "revision": "r"})]
    assert (report.added, report.held_out, report.arms) == (2, 2, {"gsm8k": 2})
    with pytest.raises(InvalidInput, match="has the splits train, test; name one"):
        open_rows("hf:openai/gsm8k")


def test_a_dataset_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no network\nand a long story")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(InvalidData, match=r"hf:a cannot be loaded: no network$"):
        open_rows("hf:a")


def test_with_the_library_itself(store: PromptStore, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {
        "prompt": [[{"role": "user", "content": "hi"}], [{"role": "user", "content": "yo"}]],
        "answer": ["007", None],
    }
    dataset = datasets.Dataset.from_dict(rows)
    dataset.save_to_disk(tmp_path / "saved")
    assert ingest_file(store, tmp_path / "saved").added == 2
    dataset.to_parquet(tmp_path / "hub" / "train.parquet")
    assert ingest_file(store, f"hf:{tmp_path / 'hub'}?split=train").present == 2


# --- chats ------------------------------------------------------------------------------------------------------------


def test_messages_of_the_other_spelling_are_the_same_chat(store: PromptStore, write: Callable[..., Path]) -> None:
    path = write({"prompt": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}]},
                 {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]})  # fmt: skip
    report = ingest_file(store, path)
    assert (report.added, report.repeated) == (1, 1)


def test_chats_that_end_with_an_answer_are_pointed_out(store: PromptStore, write: Callable[..., Path]) -> None:
    path = write({"prompt": [{"role": "user", "content": "q"}, {"from": "gpt", "value": "42"}]}, {"prompt": "plain"})
    (note,) = ingest_file(store, path).notes
    assert note.startswith("1 of the prompts end with a message of the assistant")


def test_chats_as_json_text(store: PromptStore, tmp_path: Path) -> None:
    chat = json.dumps([{"role": "user", "content": "hi"}])
    path = write_csv(
        tmp_path / "a.csv", [["prompt", "n"], [chat, "1"], ["hi", "2"], ['{"role": "user"}', "3"], ["", "4"]]
    )
    report = ingest_file(store, path, chat_json=True)
    assert (report.added, [line for line, _ in report.rejected_examples]) == (1, [3, 4, 5])
    assert store.texts.fetch(store.pool().ids)[0].prompt == [{"role": "user", "content": "hi"}]
    assert ingest_file(store, path).added == 3  # as they stand, they are texts


# --- all of them ------------------------------------------------------------------------------------------------------


def test_a_prompt_is_the_same_whatever_the_format(
    store: PromptStore, tmp_path: Path, write: Callable[..., Path]
) -> None:
    rows = [{"prompt": f"q{i}", "answer": text} for i, text in enumerate(AWKWARD)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    paths = [
        write(*rows),
        tmp_path / "a.json",
        write_csv(tmp_path / "a.csv", [["prompt", "answer"], *([r["prompt"], r["answer"]] for r in rows)]),
        write_parquet(tmp_path / "a.parquet", prompt=[r["prompt"] for r in rows], answer=AWKWARD),
        save(tmp_path / "saved", pa.Table.from_pylist(rows)),
    ]
    reports = [ingest_file(store, path, default_arm="x") for path in paths]
    assert [report.added for report in reports] == [len(rows), 0, 0, 0, 0]
    assert [report.rejected for report in reports] == [0] * 5


@pytest.mark.parametrize("name", ["missing.csv", "missing.json", "missing.parquet"])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidData, match="there is no file"):
        open_rows(tmp_path / name)


@pytest.mark.parametrize(("name", "shown"), [("x.csv", "*.csv"), ("x.parquet", "*.parquet"), ("x.txt", "*.jsonl")])
@pytest.mark.parametrize("form", ["csv", "json", "parquet", None])
def test_a_folder_is_told_to_name_its_files(tmp_path: Path, form: str | None, name: str, shown: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InvalidData, match="is a folder") as caught:
        open_rows(tmp_path, form)
    assert str(caught.value.hint).endswith(shown)


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_standard_input_of_any_format(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str) -> None:
    table = pa.table({"prompt": ["a"]})
    content = {"csv": b"prompt\na\n", "json": b'[{"prompt": "a"}]', "parquet": b""}[form]
    if form == "parquet":
        pq.write_table(table, tmp_path / "a")
        content = (tmp_path / "a").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert values("-", form) == [{"prompt": "a"}]


def test_json_lines_on_standard_input_that_are_said_to_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}\n{"a": 2}\n')))
    assert values("-", "json") == [{"a": 1}, {"a": 2}]


def test_a_missing_prompt_column_names_the_likely_one(store: PromptStore, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="--prompt-column question"):
        ingest_file(store, write_parquet(tmp_path / "a.parquet", question=["q"]))


MEMORY = """
import resource, sys
from pathlib import Path
import pyarrow as pa, pyarrow.csv, pyarrow.parquet as pq
from curri.exchange import open_rows
folder = Path(sys.argv[1])
n, block = 200_000, 2_000
table = pa.table({"prompt": [f"{i} " + "x" * 300 for i in range(block)], "answer": [str(i) for i in range(block)]})
csv = folder / "a.csv"
schema = table.schema
with pyarrow.csv.CSVWriter(csv, schema) as to_csv, pq.ParquetWriter(folder / "a.parquet", schema) as to_parquet, \\
        (folder / "a.json").open("w") as to_json:
    to_json.write("[")
    for i in range(n // block):
        to_csv.write_table(table)
        to_parquet.write_table(table)
        if i >= 20:
            continue
        rows = ",".join('{"prompt": "%s", "answer": "%s"}' % (r["prompt"], r["answer"]) for r in table.to_pylist())
        to_json.write(("," if i else "") + rows)
    to_json.write("]")
for name in ("a.csv", "a.parquet", "a.json"):
    with open_rows(folder / name) as rows:
        next(iter(rows))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, size in (("a.csv", n), ("a.parquet", n), ("a.json", 20 * block)):
    with open_rows(folder / name) as rows:
        assert sum(row.value is not None for row in rows) == size
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert (tmp_path / "a.csv").stat().st_size > 50 << 20
    assert int(done.stdout) < 48  # MB, which the files are far above
