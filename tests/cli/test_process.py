from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import curri as package
from curri.exchange import ingest_jsonl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Program = Callable[..., subprocess.Popen[bytes]]


def outcome(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    output, talk = process.communicate(timeout=60)
    return process.returncode, output.decode(), talk.decode()


def make_store(folder: Path) -> None:
    package.open_store(folder / "curri.duckdb", create=True).close()


def filled_store(folder: Path, rows: Path) -> None:
    with package.open_store(folder / "curri.duckdb", create=True) as store:
        ingest_jsonl(store, rows)


def prompts(path: Path, number: int) -> bytes:
    data = b"".join(b'{"prompt": "prompt %d", "answer": "%d"}\n' % (i, i) for i in range(number))
    path.write_bytes(data)
    return data


def test_data_goes_to_standard_output_and_talk_to_standard_error(program: Program, tmp_path: Path) -> None:
    prompts(tmp_path / "p.jsonl", 20)
    assert outcome(program("init"))[:2] == (0, "")
    code, output, talk = outcome(program("ingest", "p.jsonl"))
    assert (code, output) == (0, "")
    assert "20 added" in talk
    code, output, talk = outcome(program("select", "--strategy", "ucb", "-n", "3"))
    assert (code, len([json.loads(line) for line in output.splitlines()]), talk) == (0, 3, "")
    code, output, talk = outcome(program("ingest", "p.jsonl", "--json"))
    assert (code, json.loads(output)["sources"][0]["present"], talk) == (0, 20, "")


def test_ctrl_c_leaves_a_usable_store_and_the_same_command_finishes_the_rest(program: Program, tmp_path: Path) -> None:
    make_store(tmp_path)
    path = tmp_path / "p.jsonl"
    data = prompts(path, 30_000)
    path.unlink()
    os.mkfifo(path)
    ingest = program("ingest", "p.jsonl")
    with path.open("wb") as pipe:
        pipe.write(data)  # all but what a pipe can hold is read when this returns: two chunks at least
        pipe.flush()
        ingest.send_signal(signal.SIGINT)
        code, output, talk = outcome(ingest)
    assert (code, output) == (130, "")
    assert talk == "stopped; what was written is safe, and the same command goes on from there\n"
    with package.open_store(tmp_path / "curri.duckdb") as store:
        assert 20_000 <= len(store.prompts) <= 30_000
    path.unlink()
    path.write_bytes(data)
    assert outcome(program("ingest", "p.jsonl"))[0] == 0
    with package.open_store(tmp_path / "curri.duckdb") as store:
        assert len(store.prompts) == 30_000
        assert store.connection.value("select count(distinct prompt) from prompts") == 30_000


def test_a_store_in_use_gives_exit_code_3_and_names_the_holder(program: Program, tmp_path: Path) -> None:
    with package.open_store(tmp_path / "curri.duckdb", create=True):
        code, output, talk = outcome(program("estimate"))
        assert (code, output) == (3, "")
        assert str(os.getpid()) in talk
        code, output, talk = outcome(program("estimate", "--json"))
        assert (code, json.loads(output)["error"]["code"], talk) == (3, "store_locked", "")


def test_a_reader_that_goes_away_is_no_error_to_talk_about(program: Program, tmp_path: Path) -> None:
    prompts(tmp_path / "p.jsonl", 5000)
    filled_store(tmp_path, tmp_path / "p.jsonl")
    process = program("select", "--strategy", "uniform", "-n", "5000")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141


def test_a_traceback_is_shown_only_when_asked_for(program: Program) -> None:
    code, _, talk = outcome(program("estimate"))
    assert (code, "Traceback" in talk) == (1, False)
    code, _, talk = outcome(program("estimate", "--debug"))
    assert (code, "Traceback" in talk) == (1, True)


def on_terminal(program: Program, *words: str, **streams: Any) -> str:
    """What a command shows on a terminal."""
    leader, follower = pty.openpty()
    process = program(*words, **dict.fromkeys(streams, follower))
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 1 << 16):
            shown += part
    except OSError:  # what Linux says when the last writer has gone
        pass
    os.close(leader)
    process.communicate(timeout=60)
    assert process.returncode == 0
    return shown.decode()


def test_on_a_terminal_there_is_a_progress_bar(program: Program, tmp_path: Path) -> None:
    prompts(tmp_path / "p.jsonl", 3000)
    make_store(tmp_path)
    shown = on_terminal(program, "ingest", "p.jsonl", stderr=True)
    assert "ingest p.jsonl" in shown
    assert "3,000 rows: 3,000 added" in shown


def test_on_a_terminal_prompts_cannot_steer_it(program: Program, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(
        json.dumps({"prompt": "\x1b[2J \x9b31m \u202e \x7f é"}, ensure_ascii=False) + "\n"
    )
    filled_store(tmp_path, tmp_path / "p.jsonl")
    for more in ((), ("--json",)):
        shown = on_terminal(program, "select", "--strategy", "ucb", "-n", "1", *more, stdout=True)
        assert not {"\x1b", "\x9b", "\u202e", "\x7f"} & set(shown)
        assert "\\u001b[2J" in shown


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "curri.cli", "--version"], capture_output=True, text=True, check=True,
                          cwd=package.__path__[0] + "/..")  # fmt: skip
    assert done.stdout.startswith("curri ")
