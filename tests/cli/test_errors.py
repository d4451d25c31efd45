from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Curri = Callable[..., Result]
    Answer = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (["estimate"], 1, "store_not_found"),
        (["ingest", "missing.jsonl"], 1, "store_not_found"),
        (["select", "-n", "2", "--strategy", "ucb", "--store", "."], 1, "store_not_found"),
        (["strategies", "nothing"], 1, "unknown_name"),
        (["record", "missing.jsonl", "--run", "r"], 1, "invalid_data"),
        (["select", "--strategy", "ucb"], 2, "usage"),
        (["select", "-n", "many"], 2, "usage"),
        (["nonsense"], 2, "usage"),
        (["ingest", "--nonsense"], 2, "usage"),
        (["rollouts", "nonsense"], 2, "usage"),
        (["init", "--store", "/proc/none/x"], 1, "store_not_found"),
    ],
)
def test_every_error_has_one_shape(answer: Answer, curri: Curri, words: list[str], code: int, kind: str) -> None:
    document = answer(*words, code=code)
    assert set(document) == {"ok", "error"}
    assert set(document["error"]) == {"code", "message", "hint"}
    assert document["error"]["code"] == kind
    assert document["error"]["message"]
    result = curri(*words, code=code)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")


def test_a_file_that_is_no_store(answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "curri.duckdb").write_text("this is not a database, but it is long enough to look like a file" * 100)
    assert answer("store", "info", code=1)["error"]["code"] == "store_unreadable"


def test_an_unexpected_error_is_short_unless_asked(curri: Curri, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops \x1b[31m")

    monkeypatch.setattr("curri.analysis.estimate", broken)
    result = curri("estimate", code=1)
    assert result.stderr.splitlines()[0] == "error: ZeroDivisionError: oops \\x1b[31m"
    assert "--debug" in result.stderr
