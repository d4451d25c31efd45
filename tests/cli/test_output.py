from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.cli import _output
from curri.cli._output import finite, printable, say, shown, table


@given(st.text())
def test_what_is_printed_cannot_steer_a_terminal(text: str) -> None:
    safe = printable(text)
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in safe)
    assert not any(0xD800 <= ord(character) < 0xE000 for character in safe)


@pytest.mark.parametrize(
    ("text", "safe"),
    [("plain é 😀", "plain é 😀"), ("\x1b[2J", "\\x1b[2J"), ("a\nb\t", "a\\nb\\t"), ("\u202egnp.exe", "\\u202egnp.exe"),
     ("\x9b31m\x7f", "\\x9b31m\\x7f"), ("\ud800", "\\ud800"), ("\u2028", "\\u2028")],
)  # fmt: skip
def test_escapes(text: str, safe: str) -> None:
    assert printable(text) == safe


def test_tables_are_aligned_and_safe() -> None:
    lines = table(["arm", "n"], [["\x1b[31mred", 5], ["blue", None], ["x", 1234]])
    assert lines == ["arm              n", "-----------  -----", "\\x1b[31mred      5", "blue             -",
                     "x            1,234"]  # fmt: skip
    assert table(["a", "b"], []) == ["a  b", "-  -"]


def test_numbers_that_json_has_no_word_for_become_null() -> None:
    value = {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": (float("-inf"),)}}
    assert finite(value) == {"a": None, "b": [None, 1.5], "c": {"d": [None]}}
    assert shown(float("nan")) == "-"


def test_talk_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    say("one", "two\x07")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "one\ntwo\\x07\n")


def test_without_a_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 5.0, 11.0, 11.0, 12.0])
    monkeypatch.setattr("curri.cli._output.time.monotonic", lambda: next(clock))
    with _output.progress("ingest x") as update:
        update(1, 4, "1 row")
        update(2, 4, "2 rows")
        update(3, 4, "3 rows")
    assert capsys.readouterr().err == "ingest x: 50 %, 2 rows\n"


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with _output.progress("x", quiet=True) as update:
        update(1, None, "")
    assert capsys.readouterr().err == ""
