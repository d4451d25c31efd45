"""Bad input gets one clear line, the right exit code and a JSON document, and loses nothing: files, stores, disks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from typer.testing import CliRunner

from curri.cli import app
from curri.exchange.jsonl import MAX_LINE
from curri.store import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typer.testing import Result


def run(*words: object, code: int | None = None) -> Result:
    done = CliRunner().invoke(app, [str(word) for word in words], prog_name="curri")
    assert "Traceback" not in done.output
    assert code is None or done.exit_code == code, done.output
    return done


def write(path: str, rows: Sequence[dict[str, Any]]) -> str:
    Path(path).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def contents(store: str | Path = "curri.duckdb") -> list[Any]:
    """Every row of every table."""
    with open_store(store, read_only=True) as opened:
        tables = [row[0] for row in opened.connection.rows("select table_name from duckdb_tables() order by 1")]
        assert {"prompts", "rollouts", "ledger"} <= set(tables)
        return [(name, opened.connection.rows(f"from {name} order by all")) for name in tables]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of 12 prompts, of which one has a rollout, and a run "r" with an open round."""
    folder, before = tmp_path_factory.mktemp("made"), Path.cwd()
    os.chdir(folder)
    try:
        rows = [{"prompt": f"{i} + é", "answer": str(i), "arm": "ab"[i % 2], "id": f"p{i}"} for i in range(12)]
        run("init", code=0)
        run("ingest", write("prompts.jsonl", rows), code=0)
        run("rollouts", "import", write("rollouts.jsonl", [{"id": "p0", "reward": 1}]), "--model", "m", code=0)
        run("select", "--run", "r", "-s", "ucb", "-n", "4", "-o", "batch.jsonl", code=0)
        picked = [
            json.loads(line)["prompt_id"] for line in Path("batch.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        write("results.jsonl", [{"prompt_id": prompt, "rewards": [1, 0], "tag": "é"} for prompt in picked])
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to work in."""
    for path in made.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CURRI_STORE", raising=False)
    return tmp_path


# ---- files ----------------------------------------------------------------------------------------------------------

READERS: dict[str, list[str]] = {
    "ingest": ["ingest"],
    "rollouts": ["rollouts", "import", "--model", "m"],
    "priors": ["priors", "import", "--model", "m"],
    "record": ["record", "--run", "r"],
    "mix": ["mix", "fit"],
}
TEXTS = {
    "ingest": 'prompt,answer\nnéw,1\n',
    "rollouts": 'id,reward,response\np1,1,é\n',
    "priors": 'id,k,n,note\np1,1,2,é\n',
    "mix": "run,w_a,w_b,s\né,0,1,1\nb,1,0,2\nc,.5,.5,3\nd,.2,.8,3\n",
}  # fmt: skip


def text_of(command: str, suffix: str) -> str:
    """A file that the command takes, with a letter that is not ASCII."""
    if command == "record":
        return Path("results.jsonl").read_text(encoding="utf-8")
    header, *lines = TEXTS[command].splitlines()
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    if command in ("rollouts", "priors"):
        rows = [{k: int(v) if v.isdigit() else v for k, v in row.items()} for row in rows]  # type: ignore[misc]
    if suffix == "csv":
        return TEXTS[command]
    if suffix == "json":
        return json.dumps(rows, ensure_ascii=False)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def spoiled(text: str, fault: str) -> bytes:
    return {
        "empty": b"",
        "utf-16": text.encode("utf-16"),
        "utf-16, no mark": text.encode("utf-16-le"),
        "latin-1": text.encode("latin-1"),
        "zeros": b"\0" * 5000,
        "gzip": b"\x1f\x8b\x08\x00" + bytes(range(200)),
    }[fault]


# (what is read, fault) → exit code, and what is said of it.
DECISIONS: dict[tuple[str, str], tuple[int, str]] = {
    ("jsonl", "empty"): (0, ""),  # no line is no row
    ("jsonl", "utf-16"): (1, "is not UTF-8"),
    ("jsonl", "utf-16, no mark"): (1, "is not UTF-8"),
    ("jsonl", "latin-1"): (4, "not UTF-8: byte 0xe9 at position"),
    ("jsonl", "zeros"): (1, "is not UTF-8"),
    ("jsonl", "gzip"): (1, "is compressed"),
    ("json", "empty"): (1, "is empty"),
    ("json", "utf-16"): (1, "is not UTF-8"),
    ("json", "utf-16, no mark"): (1, "is not UTF-8"),
    ("json", "latin-1"): (4, "not UTF-8: byte 0xe9 at position"),
    ("json", "zeros"): (1, "is not UTF-8"),
    ("json", "gzip"): (1, "is compressed"),
    ("csv", "empty"): (1, "is empty"),
    ("csv", "utf-16"): (1, "not UTF-8: byte 0xff at position 0"),
    ("csv", "utf-16, no mark"): (1, "it holds NUL bytes"),
    ("csv", "latin-1"): (4, "not UTF-8: byte 0xe9 at position"),
    ("csv", "zeros"): (1, "it holds NUL bytes"),
    ("csv", "gzip"): (1, "not UTF-8: byte 0x8b at position 1"),
    ("parquet", "empty"): (1, "is empty"),
    ("parquet", "utf-16"): (1, "is no Parquet file"),
    ("parquet", "latin-1"): (1, "is no Parquet file"),
    ("parquet", "zeros"): (1, "is no Parquet file"),
    ("parquet", "gzip"): (1, "is no Parquet file"),
    ("record", "empty"): (0, ""),
    ("record", "utf-16"): (1, "is not UTF-8"),
    ("record", "latin-1"): (1, "not UTF-8: byte 0xe9 at position"),  # a file of results is taken whole or not at all
    ("record", "zeros"): (1, "is not UTF-8"),
    ("record", "gzip"): (1, "is compressed"),
    ("mix", "empty"): (1, "is empty"),
    ("mix", "utf-16"): (1, "is not UTF-8 text; byte 0"),
    ("mix", "utf-16, no mark"): (1, "is not UTF-8 text"),
    ("mix", "latin-1"): (1, "is not UTF-8 text; byte"),
    ("mix", "zeros"): (1, "it holds zero bytes"),
    ("mix", "gzip"): (1, "is not UTF-8 text; byte 1"),
}
SUFFIXES = {"record": "jsonl", "mix": "csv"}
CASES = [(command, command) for command in ("record", "mix")]
CASES += [
    (command, kind) for command in ("ingest", "rollouts", "priors") for kind in ("jsonl", "json", "csv", "parquet")
]


@pytest.mark.parametrize(("command", "kind"), CASES)
def test_a_file_that_is_not_what_it_should_be(folder: Path, command: str, kind: str) -> None:
    before, suffix = contents(), SUFFIXES.get(kind, kind)
    for (decided, fault), (code, said) in DECISIONS.items():
        if decided != kind:
            continue
        path = Path(f"bad.{suffix}")
        path.write_bytes(spoiled(text_of(command, suffix), fault))
        done = run(*READERS[command], path, "--json", code=code)
        document = json.loads(done.stdout)
        assert document["ok"] is (code != 1), fault
        if code == 1:
            assert document["error"]["code"] == "invalid_data", fault
            assert said in document["error"]["message"]
            assert "bad." in document["error"]["message"]
            assert "\n" not in document["error"]["message"]
        elif code == 4:
            rejected = Path(f"bad.{suffix}.rejected.jsonl").read_text(encoding="utf-8")
            assert said in json.loads(rejected.splitlines()[0])["reason"]
    assert contents() == before


@pytest.mark.parametrize("command", sorted(READERS))
def test_without_json_it_is_a_line_and_a_hint(folder: Path, command: str) -> None:
    suffix = {"mix": "csv"}.get(command, "jsonl")
    Path(f"bad.{suffix}").write_bytes(text_of(command, suffix).encode("utf-16"))
    done = run(*READERS[command], f"bad.{suffix}", code=1)
    first, *rest = done.stderr.splitlines()
    assert first.startswith(f"error: bad.{suffix} is not UTF-8")
    assert [line.partition(":")[0] for line in rest] in ([], ["  hint"])
    assert done.stdout == ""


@pytest.mark.parametrize("command", sorted(READERS))
def test_a_byte_order_mark_is_no_fault(folder: Path, command: str) -> None:
    suffix = {"mix": "csv"}.get(command, "jsonl")
    path = Path(f"marked.{suffix}")
    path.write_bytes(b"\xef\xbb\xbf" + text_of(command, suffix).encode())
    run(*READERS[command], path, code=0)


@pytest.mark.parametrize("command", sorted(READERS))
def test_what_is_no_file(folder: Path, command: str) -> None:
    Path("a.folder").mkdir()
    for path, said in (("a.folder", ("folder", "Is a directory")), ("nothing.here", ("no file",))):
        message = json.loads(run(*READERS[command], path, "--json", code=1).stdout)["error"]["message"]
        assert any(words in message for words in said)
        assert path in message


@pytest.mark.parametrize("words", [["-n", "2", "-s", "modomodo", "-p", "weights=@bad"], ["mix", "fit", "bad"]])
def test_a_file_without_end_is_not_read_to_the_end(folder: Path, words: list[str]) -> None:
    Path("bad").symlink_to("/dev/zero")
    words = words if words[0] == "mix" else ["select", *words]
    message = json.loads(run(*words, "--json", code=1).stdout)["error"]["message"]
    assert "is larger than" in message or "is too long" in message


HEADS = {"jsonl": b'{"prompt": "', "json": b'[{"prompt": "', "csv": b'prompt,id\n"', "record": b'{"response": "'}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read in /proc")
@pytest.mark.parametrize("kind", sorted(HEADS))
def test_a_line_without_end_costs_no_memory(folder: Path, kind: str) -> None:
    """A file with a hole of 160 MB stands for one of 2 GB: what is kept of it is as little."""
    before = contents()
    path = folder / ("bad." + kind.replace("record", "jsonl"))
    with path.open("wb") as file:
        file.write(HEADS[kind] + 60 * b"x")
        file.truncate(160 << 20)
    command = READERS["record" if kind == "record" else "ingest"]
    done, most = measured(folder, [*command, path.name, "--json"])
    assert done.returncode == (1 if kind == "record" else 4), done.stderr
    assert json.loads(done.stdout)["ok"] is (kind != "record")
    _, ordinary = measured(folder, [*command, "prompts.jsonl", "--json"])
    assert most < ordinary + 6 * (MAX_LINE >> 10)  # kB
    assert contents() == before


def measured(folder: Path, words: list[str]) -> tuple[subprocess.CompletedProcess[str], int]:
    """A command in a process of its own, and the most memory it had, in kB."""
    code = (
        "import atexit, sys; from pathlib import Path; from curri.cli import main; sys.argv[0] = 'curri'\n"
        "status = Path('/proc/self/status')\n"
        "atexit.register(lambda: print('MOST', status.read_text().split('VmHWM:')[1].split()[0], file=sys.stderr))\n"
        "main()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    return done, int(done.stderr.rpartition("MOST ")[2])


# ---- rows that are there twice --------------------------------------------------------------------------------------


def test_ids_that_stand_for_several_prompts_are_pointed_out_and_never_guessed(folder: Path) -> None:
    rows = [{"prompt": "new a", "id": "p1"}, {"prompt": "new b", "id": "z"}, {"prompt": "new c", "id": "z"}]
    said = run("ingest", write("twins.jsonl", rows), code=0).stderr
    assert 'note: 2 of the ids stand for several prompts, such as "p1": results' in said
    assert "note" not in run("ingest", write("fine.jsonl", [{"prompt": "new d", "id": "y"}]), code=0).stderr
    before = contents()
    for words, row in (
        (["rollouts", "import"], {"id": "z", "reward": 1}),
        (["priors", "import"], {"id": "z", "k": 1, "n": 2}),
    ):
        run(*words, write("bad.jsonl", [row]), "--model", "m", code=4)
        reason = json.loads(Path("bad.jsonl.rejected.jsonl").read_text(encoding="utf-8"))["reason"]
        assert reason == 'id "z" stands for 2 prompts of the store; say prompt_id'
    assert contents() == before


def test_a_response_that_is_there_twice_counts_once(folder: Path) -> None:
    first = json.loads(Path("results.jsonl").read_text(encoding="utf-8").splitlines()[0])["prompt_id"]
    rows = [{"prompt_id": first, "reward": reward, "rollout_id": "x"} for reward in (1, 0)]
    document = json.loads(run("record", write("twice.jsonl", rows), "--run", "r", "--json", code=0).stdout)
    assert (document["new"], document["repeated"]) == (1, 1)


def test_a_table_with_two_columns_of_one_name_is_refused(folder: Path) -> None:
    Path("bad.csv").write_text("prompt,prompt\na,b\n", encoding="utf-8")
    message = json.loads(run("ingest", "bad.csv", "--json", code=1).stdout)["error"]["message"]
    assert message == 'bad.csv has several columns named "prompt"'


# ---- stores ---------------------------------------------------------------------------------------------------------

WITH_STORE: dict[str, list[str]] = {
    "init": ["init"],
    "ingest": ["ingest", "prompts.jsonl"],
    "rollouts import": ["rollouts", "import", "rollouts.jsonl", "--model", "m"],
    "priors list": ["priors", "list"],
    "estimate": ["estimate"],
    "export": ["export", "out.jsonl"],
    "prompts list": ["prompts", "list"],
    "prompts retire": ["prompts", "retire", "--where", 'arm == "a"', "--yes"],
    "select": ["select", "-s", "ucb", "-n", "2"],
    "select --run": ["select", "--run", "r2", "-s", "ucb", "-n", "2"],
    "record": ["record", "results.jsonl", "--run", "r"],
    "explain": ["explain", "1", "--run", "r"],
    "store info": ["store", "info"],
    "store backup": ["store", "backup", "copy.duckdb"],
    "store migrate": ["store", "migrate"],
}


def test_a_store_of_a_newer_version_is_left_alone(folder: Path) -> None:
    with duckdb.connect(str(folder / "curri.duckdb")) as handle:
        handle.execute("update meta set value = '99' where key = 'schema_version'")
    before = Path("curri.duckdb").read_bytes()
    for name, words in WITH_STORE.items():
        error = json.loads(run(*words, "--json", code=1).stdout)["error"]
        assert error["code"] == "store_version", name
        assert "99" in error["message"]
        assert "pip install -U curri" in error["hint"]
        assert Path("curri.duckdb").read_bytes() == before, name


@pytest.mark.parametrize("content", [b"", b"no database\n" * 2000], ids=["empty", "text"])
def test_a_file_that_is_no_store_is_left_alone(folder: Path, content: bytes) -> None:
    Path("curri.duckdb").write_bytes(content)
    for name, words in WITH_STORE.items():
        error = json.loads(run(*words, "--json", code=1).stdout)["error"]
        assert error["code"] in ("store_unreadable", "store_version"), name
        assert Path("curri.duckdb").read_bytes() == content, name


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_a_file_of_rows_in_place_of_a_store_is_called_that(folder: Path, name: str) -> None:
    Path(name).write_text('{"prompt": "a"}\n' if name.endswith("l") else "prompt\na\n")
    found = run("estimate", "--store", name, code=1)
    assert "it is no DuckDB file" in found.stderr


WRITING: list[list[str]] = [
    ["estimate", "-o"],
    ["select", "-n", "1", "-o"],
    ["report", "--format", "md", "-o"],
    ["ingest", "p.jsonl", "--rejected"],
    ["record", "results.jsonl", "--run", "r", "--metrics"],
]


@pytest.mark.parametrize("words", WRITING, ids=lambda words: words[0])
def test_nothing_that_is_written_takes_the_place_of_a_store(folder: Path, words: list[str]) -> None:
    write("p.jsonl", [{"prompt": 1}])
    store_before = repr(contents("curri.duckdb"))
    found = run(*words, "curri.duckdb", code=1)
    assert "is a store, which would be lost" in found.stderr
    assert repr(contents("curri.duckdb")) == store_before


@pytest.mark.parametrize("words", WRITING[:4], ids=lambda words: words[0])
def test_an_output_without_a_name_is_refused_in_a_line(folder: Path, words: list[str]) -> None:
    write("p.jsonl", [{"prompt": 1}])
    found = run(*words, "", code=1)
    assert "is a folder, and no name for a file" in found.stderr


# ---- disks: in a mount namespace of its own -------------------------------------------------------------------------

PLAYED = """
import json, sys
from typer.testing import CliRunner
from curri.cli import app
done = []
for words in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, words, prog_name="curri")
    done.append([result.exit_code, result.stdout, result.stderr])
print(json.dumps(done))
"""


def mounted(where: Path, setup: str, commands: list[list[str]], after: str = "true") -> list[tuple[int, str, str]]:
    """Commands in a folder that is mounted in a way of its own; what becomes of each: exit code, output, talk."""
    script = f'{setup} && cd {where} && exec 3>&1 && shift 0 && "$@" >&3; {after}'
    unshare = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("this system gives no mount namespace")
    command = [*unshare, "sh", "-c", script, "sh", sys.executable, "-c", PLAYED, json.dumps(commands)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("CURRI_STORE", None)
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if not done.stdout and "mount" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    return [(code, out, said) for code, out, said in json.loads(done.stdout)]


WRITES = ["ingest", "rollouts import", "prompts retire", "select --run", "record"]


def test_in_a_folder_that_is_read_only_reading_works_and_writing_is_refused_in_a_line(folder: Path) -> None:
    before = contents()
    reads = ["estimate", "prompts list", "select", "store info", "priors list"]
    commands = [[*WITH_STORE[name], "--json"] for name in [*reads, *WRITES]]
    commands += [["init", "--store", "new.duckdb", "--json"], ["export", "out.jsonl", "--json"]]
    setup = f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"
    done = mounted(folder, setup, commands)
    for (code, out, _), name in zip(done, reads, strict=False):
        assert (code, json.loads(out)["ok"]) == (0, True), name
    for code, out, _ in done[len(reads) :]:
        error = json.loads(out)["error"]
        assert code == 1
        assert error["code"] in ("store_error", "invalid_data")
        assert error["message"].endswith(("cannot be written to: Read-only file system", "Read-only file system"))
    assert json.loads(done[len(reads)][1])["error"]["hint"] == "commands that only read go on working"
    assert contents() == before


def test_a_full_disk_keeps_what_was_acknowledged(folder: Path) -> None:
    """On a disk of 5 MB every write that does not fit is refused; after that the store is whole, and goes on."""
    noise = os.urandom(2 << 20).hex()
    at = range(0, len(noise) - 800, 800)
    write("large.jsonl", [{"prompt": noise[i : i + 800], "id": f"n{i}"} for i in at])
    long = [{"id": f"p{n % 12}", "reward": 1, "response": noise[i : i + 800], "sample": n} for n, i in enumerate(at)]
    write("long.jsonl", long)
    space, kept = folder / "space", folder / "kept"
    space.mkdir()
    kept.mkdir()
    setup = f"mount -t tmpfs -o size=5m tmpfs {space} && cp {folder}/curri.duckdb {folder}/results.jsonl {space}"
    commands = [
        ["store", "info", "--json"],
        ["rollouts", "import", str(folder / "long.jsonl"), "--model", "m", "--json"],
        ["ingest", str(folder / "large.jsonl"), "--json"],
        ["store", "backup", "copy.duckdb", "--json"],
        ["export", "out.jsonl", "--json"],
        ["store", "check", "--json"],
        ["record", "results.jsonl", "--run", "r", "--json"],
    ]
    done = mounted(space, setup, commands, after=f"cp -r {space}/. {kept}")
    documents = [json.loads(out) for _, out, _ in done]
    assert [code for code, *_ in done[1:4]] == [1, 1, 1]
    for document in documents[1:4]:
        assert "\n" not in document["error"]["message"]
        assert any(words in document["error"]["message"] for words in ("No space left on device", "are free"))
    assert [code for code, *_ in done[4:]] == [0, 0, 0], done[4:]
    assert documents[-1]["new"] == 8
    with open_store(kept / "curri.duckdb") as opened:
        assert (len(opened.prompts), len(opened.rollouts)) == (12, 9)
    for words in (["rollouts", "import", "long.jsonl", "--model", "m"], ["ingest", "large.jsonl"]):
        run(*words, "--store", kept / "curri.duckdb", code=0)
    assert run("store", "check", "--store", kept / "curri.duckdb").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [["select", "-s", "ucb", "-n", "4", "-o"], ["estimate", "--per-prompt", "-o"], ["export", "--format", "jsonl"],
     ["export", "--format", "csv"], ["export", "--format", "parquet"]],
    ids=" ".join,
)  # fmt: skip
def test_a_file_that_does_not_fit(folder: Path, words: list[str]) -> None:
    error = json.loads(run(*words, "/dev/full", "--json", code=1).stdout)["error"]
    assert error["code"] == "invalid_data"
    assert "/dev/full cannot be written" in error["message"]


@pytest.mark.parametrize("words", [["estimate"], ["estimate", "--json"], ["select", "-s", "ucb", "-n", "4"]])
def test_output_that_does_not_fit_is_said_on_the_other_stream(folder: Path, words: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "curri.cli", *words]
        done = subprocess.run(command, env=environment, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "error: No space left on device")
    assert "Traceback" not in done.stderr
