from __future__ import annotations

import io
import json
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidData
from curri.exchange import read_jsonl
from curri.exchange.jsonl import JsonLines, RejectedRows, canonical_json, described, literal, parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_rows_come_with_their_line_numbers_and_blank_lines_are_left_out(write: Callable[..., Path]) -> None:
    path = write({"a": 1}, "", "   ", {"a": 2})
    assert [(row.number, row.value) for row in read_jsonl(path)] == [(1, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"", ""),
        (b"[1, 2]", "must be a JSON object; got a list"),
        (b'"text"', 'must be a JSON object; got "text"'),
        (b"null", "must be a JSON object; got null"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": "\xff"}', "not UTF-8: byte 0xff at position 7"),
        (b'{"a": "\\ud800"}', "half a surrogate pair"),
        (b'{"\\uDC00x": 1}', "half a surrogate pair"),
        (b'{"a": "\t"}', "not JSON"),
        (b'{"a": 1} {"a": 2}', "not JSON: Extra data"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b"{'a': 1}", "not JSON"),
    ],
)
def test_a_line_that_cannot_be_used_has_a_reason_and_the_next_one_is_read(
    write: Callable[..., Path], line: bytes, reason: str
) -> None:
    rows = list(read_jsonl(write(line, {"good": True})))
    assert rows[-1].value == {"good": True}
    assert [reason in row.reason for row in rows[:-1]] == [True] * (len(rows) - 1)
    assert len(rows) == (2 if line else 1)


@pytest.mark.parametrize(
    ("start", "said"),
    [('{"a": 1}'.encode("utf-16"), "is not UTF-8"), ('{"a": 1}'.encode("utf-16-be"), "is not UTF-8"),
     (b"\x1f\x8b\x08", "is compressed")],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused_as_a_whole_a_line_of_it_alone(
    write: Callable[..., Path], start: bytes, said: str
) -> None:
    with pytest.raises(InvalidData, match=said) as caught:
        list(read_jsonl(write(start, {"good": True})))
    assert caught.value.hint
    good, bad, last = read_jsonl(write({"good": True}, start, {"good": True}))
    assert (good.reason, bool(bad.reason), last.reason) == ("", True, "")


def test_a_whole_surrogate_pair_is_a_character(write: Callable[..., Path]) -> None:
    (row,) = read_jsonl(write('{"a": "\\ud83d\\ude00"}'))
    assert row.value == {"a": "😀"}


def test_a_byte_order_mark_and_windows_line_ends_are_not_part_of_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}')
    assert [row.value for row in read_jsonl(path)] == [{"a": 1}, {"a": 2}]


def test_a_line_that_is_too_long_is_skipped(write: Callable[..., Path]) -> None:
    path = write({"a": "x" * 1000}, {"a": 1}, '{"b": ' + "9" * 5000)
    rows = list(read_jsonl(path, max_line=100))
    assert [row.reason for row in rows] == ["longer than 100 bytes", "", "longer than 100 bytes"]
    assert rows[1].value == {"a": 1}


def test_memory_stays_bounded_whatever_the_length_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as stream:
        for _ in range(32):
            stream.write(b"x" * (1 << 20))
    tracemalloc.start()
    try:
        (row,) = read_jsonl(path, max_line=1 << 16)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert row.reason == "longer than 65536 bytes"


@pytest.mark.parametrize("name", ["missing.jsonl", "folder", "nowhere/rows.jsonl"])
def test_a_file_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidData):
        list(read_jsonl(tmp_path / name))


def test_the_nearest_file_is_named(write: Callable[..., Path], tmp_path: Path) -> None:
    write({}, name="train.jsonl")
    with pytest.raises(InvalidData, match=r"train\.jsonl"):
        list(read_jsonl(tmp_path / "trian.jsonl"))


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}\n')))
    with JsonLines("-") as rows:
        assert (rows.name, [row.value for row in rows]) == ("standard input", [{"a": 1}])


@pytest.mark.parametrize("digits", ["1e5", "1.0", "-0", "0.10", "1E-400", "9" * 5000, "12345678901234567890"])
def test_a_number_keeps_its_digits(digits: str) -> None:
    line = f'{{"a": {digits}, "b": "x"}}'.encode()
    assert parse(line)["b"] == "x"
    assert literal(line, "a") == digits


TEXTS = st.text(st.characters(codec="utf-8"))
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)
)


@given(VALUES)
def test_canonical_json_is_read_back_as_it_was(value: Any) -> None:
    text = canonical_json(value)
    assert parse(text.encode()) == value
    assert canonical_json(json.loads(text)) == text


def test_descriptions_are_short() -> None:
    assert described({"a": 1}) == "an object"
    assert len(described("x" * 1000)) <= 60


def test_nothing_rejected_leaves_no_file_and_removes_an_old_one(write: Callable[..., Path]) -> None:
    path = write({})
    old = path.with_name(path.name + ".rejected.jsonl")
    old.write_text("old")
    with RejectedRows(path) as rejected:
        pass
    assert (rejected.count, old.exists()) == (0, False)


def test_another_file_of_rejected_rows_is_not_removed(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with RejectedRows(write({}), tmp_path / "mine.txt"):
        pass
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_an_interruption_leaves_no_half_written_file(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write("[1]")

    def interrupted() -> None:
        with RejectedRows(path) as rejected:
            for row in read_jsonl(path):
                rejected.add(row)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_raw_text_is_shortened_and_always_readable(write: Callable[..., Path], rejected: Callable[..., Any]) -> None:
    path = write(b'{"a": "\xff\xfe"}', "[" + "1," * 1000 + "1]")
    with RejectedRows(path) as refused:
        for row in read_jsonl(path):
            refused.add(row)
    first, second = rejected(path)
    assert first["raw"] == '{"a": "\\xff\\xfe"}'
    assert len(second["raw"]) < 500
    assert [first["line"], second["line"]] == [1, 2]


def test_a_place_that_cannot_be_written_is_named(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write("[1]")
    (row,) = read_jsonl(path)
    with RejectedRows(path, tmp_path / "no" / "folder") as refused, pytest.raises(InvalidData, match="--rejected"):
        refused.add(row)
