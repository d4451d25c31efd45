from __future__ import annotations

import http.server
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from curri import diagnostics
from curri.diagnostics import BAD, DOUBTFUL, GOOD, Line, diagnose, package, reachable
from curri.store import files as files_module
from curri.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typer.testing import Result


@pytest.fixture
def look(filled: Path) -> Callable[..., dict[str, Line]]:
    """The doctor's lines about the store of 12 prompts, by name."""

    def run(**environment: str) -> dict[str, Line]:
        return {line.name: line for line in diagnose(filled / "curri.duckdb", environment)}

    return run


class Server(http.server.BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, int]] = {"/good/models": 200, "/closed/models": 401, "/moved/models": 302}
    seen: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers["Authorization"])
        self.send_response(self.answers.get(self.path, 500))
        if self.path == "/moved/models":
            self.send_header("Location", "/good/models")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_machine_that_is_well(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path
) -> None:
    result = curri("doctor")
    assert "BAD" not in result.stdout
    assert "12 prompts" in result.stdout
    document = answer("doctor")
    assert {"duckdb", "held by", "write-ahead log", "disk", "file system", "engines"} <= {
        line["name"] for line in document["lines"]
    }
    assert {line["verdict"] for line in document["lines"]} <= {"green", "yellow"}
    assert all(line["hint"] for line in document["lines"] if line["verdict"] != "green")


def test_no_store_yet_is_no_fault(curri: Callable[..., Result]) -> None:
    assert "curri init" in curri("doctor").stderr


def test_something_bad_gives_exit_code_1_and_the_command(
    curri: Callable[..., Result], answer: Callable[..., dict[str, Any]], filled: Path
) -> None:
    Path(filled / "curri.duckdb.wal").write_bytes(b"\xa5" * 500)
    result = curri("doctor", code=1)
    assert "BAD" in result.stdout
    assert "BAD: write-ahead log: curri store repair --store curri.duckdb" in result.stderr
    assert answer("doctor", code=1)["error"]["hint"] == "curri store repair --store curri.duckdb"


@pytest.mark.parametrize(
    ("version", "verdict", "hint"),
    [
        ("1.5.2", GOOD, None),
        ("2.0.0.dev3", GOOD, None),
        ("1.5.1", BAD, "pip install 'duckdb>=1.5.2,<3'"),
        ("3.0.0", BAD, "pip install 'duckdb>=1.5.2,<3'"),
        ("1.10", GOOD, None),
        (None, BAD, "pip install 'duckdb>=1.5.2,<3'"),
    ],
)
def test_versions(version: str | None, verdict: str, hint: str | None) -> None:
    line = package("duckdb", ("1.5.2", "3", ""), version)
    assert (line.verdict, line.hint) == (verdict, hint)


def test_bounds_are_those_of_the_project() -> None:
    import re
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    for name, (least, too_new, _) in (diagnostics.NEEDED | diagnostics.OPTIONAL).items():
        bounds = re.escape(f"{name}>={least}" + (f",<{too_new}" if too_new else ""))
        assert any(re.fullmatch(bounds, each) for each in wanted), name
    assert {re.split("[><=]", each)[0] for each in project["dependencies"]} == set(diagnostics.NEEDED)


def test_packages_are_not_imported(filled: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from curri.diagnostics import diagnose\n"
        "diagnose(Path('curri.duckdb'), {})\n"
        "print([name for name in ('torch', 'transformers', 'vllm', 'httpx2', 'ray') if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=filled,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_who_holds_the_store(look: Callable[..., dict[str, Line]], filled: Path) -> None:
    assert look()["held by"].message == "nobody has the store open"
    with open_store(filled / "curri.duckdb") as store:
        lines = look()
        assert (lines["held by"].verdict, "no copy is published" in lines["held by"].message) == (DOUBTFUL, True)
        assert "store" not in lines
        store.publish()
        assert look()["held by"].verdict == GOOD


def test_the_disk(look: Callable[..., dict[str, Line]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert look()["disk"].verdict in (GOOD, DOUBTFUL)
    for free, verdict in ((100 << 30, GOOD), (1 << 30, DOUBTFUL), (1 << 20, BAD)):
        monkeypatch.setattr(files_module, "free_bytes", lambda _, free=free: free)
        assert look()["disk"].verdict == verdict
    monkeypatch.setattr(files_module, "file_system_of", lambda _: "nfs4")
    line = look()["file system"]
    assert (line.verdict, "curri store backup" in str(line.hint)) == (BAD, True)
    monkeypatch.setattr(files_module, "file_system_of", lambda _: None)
    assert look()["file system"].verdict == GOOD


def test_workers(look: Callable[..., dict[str, Line]], monkeypatch: pytest.MonkeyPatch) -> None:
    for method, verdict in (("fork", DOUBTFUL), ("forkserver", GOOD), ("spawn", GOOD)):
        monkeypatch.setattr("multiprocessing.get_start_method", lambda *, allow_none, it=method: it)
        assert look()["workers of a DataLoader"].verdict == verdict


def test_drafts_of_killed_commands(look: Callable[..., dict[str, Line]], filled: Path) -> None:
    (filled / "curri.duckdb.repair.999999999.tmp").touch()
    assert "rm " in str(look()["left-over drafts"].hint)
    (filled / "curri.duckdb.repair.999999999.tmp").unlink()
    (filled / "curri.duckdb.repair.1.tmp").touch()  # of a command that is running
    assert "left-over drafts" not in look()


def test_engines(look: Callable[..., dict[str, Line]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "OpenAI-compatible server" not in look()
    monkeypatch.setattr(diagnostics, "_ENGINES", ())
    assert look()["engines"].verdict == DOUBTFUL


def test_a_server(server: str, look: Callable[..., dict[str, Line]]) -> None:
    Server.seen.clear()
    line = look(CURRI_OPENAI_BASE_URL=f"{server}/good/", OPENAI_API_KEY="secret")["OpenAI-compatible server"]
    assert line.verdict == GOOD
    assert Server.seen == ["Bearer secret"]
    closed = reachable(f"{server}/closed", "secret")
    assert (closed.verdict, closed.hint) == (BAD, "export OPENAI_API_KEY=…")
    assert "HTTP 500" in reachable(f"{server}/broken").message
    assert "secret" not in str([closed, line])
    Server.seen.clear()
    assert "HTTP 302" in reachable(f"{server}/moved", "secret").message  # the key goes nowhere else
    assert len(Server.seen) == 1


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8000", "http://127.0.0.1:1/v1", "http://[bad"])
def test_servers_that_are_none(url: str) -> None:
    line = reachable(url)
    assert (line.verdict, "export CURRI_OPENAI_BASE_URL" in str(line.hint)) == (BAD, True)


def test_passwords_in_an_address_are_not_shown() -> None:
    assert "secret" not in str(reachable("http://user:secret@127.0.0.1:1/v1?key=secret"))
