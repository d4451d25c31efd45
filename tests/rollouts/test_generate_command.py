"""``curri rollouts generate``, ``stats`` and ``prune``: what a user sees, kills, and finds again."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from curri.cli import app
from curri.store import NewPrompt, Source, open_store
from tests.rollouts.server import Reply, Server, answer, text_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curri.store import PromptStore

    Command = Callable[..., tuple[int, str, str]]

SIMULATED = ("rollouts", "generate", "--engine", "simulated", "--model", "toy", "--verifier", "exact")
PROMPTS = 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store of sums."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CURRI_STORE", raising=False)
    with open_store(tmp_path / "curri.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), f"arm{i % 2}") for i in range(PROMPTS)])
    return tmp_path


@pytest.fixture
def curri(folder: Path) -> Command:
    """Runs a command in this process: exit code, standard output, standard error."""

    def run(*words: str, text: str | None = None) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, [str(word) for word in words], input=text, prog_name="curri")
        assert "Traceback" not in result.output
        return result.exit_code, result.stdout, result.stderr

    return run


@pytest.fixture
def start(folder: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a command as a process of its own."""

    def begin(*words: str, file_limit: int | None = None) -> subprocess.Popen[str]:
        def limit() -> None:
            if file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        heed = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        return subprocess.Popen(
            [sys.executable, "-c", heed + "runpy.run_module('curri.cli', run_name='__main__')", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit,  # noqa: PLW1509  no thread of ours holds a lock that it needs
        )

    return begin


def over_http(server: Server, *more: str) -> list[str]:
    pytest.importorskip("httpx2")
    words = ["rollouts", "generate", "--engine", "openai", "--model", "toy", "--url", server.url]
    return [*words, "--verifier", "exact", *more]


def responses(folder: Path) -> list[tuple[int, int, str]]:
    with open_store(folder / "curri.duckdb") as store:
        return [
            (int(prompt), int(sample), str(text))
            for prompt, sample, text in store.connection.rows(
                "select prompt_id, sample, response from rollouts order by 1, 2"
            )
        ]


# ---- what is said ---------------------------------------------------------------------------------------------------


def test_it_tells_what_it_did(curri: Command) -> None:
    code, output, talk = curri(*SIMULATED, "-n", "5")
    assert (code, output) == (0, "")
    assert "simulated:toy, weights simulated: 40 prompts, 200 rollouts wanted" in talk
    assert "200 generated in" in talk
    code, _, talk = curri(*SIMULATED)
    assert "200 were there" in talk
    assert "120 generated" in talk
    code, output, _ = curri(*SIMULATED, "--verifier", "numeric", "--json")
    told = json.loads(output)
    assert (told["ok"], told["rescored"], told["generated"], told["cached"]) == (True, 320, 0, 320)
    assert (told["settings"]["engine"], told["model"], told["complete"]) == ("simulated", "simulated:toy", True)


def test_where_and_split_say_for_which_prompts(curri: Command) -> None:
    told = json.loads(curri(*SIMULATED, "-n", "1", "--where", 'arm == "arm1"', "--json")[1])
    assert (told["prompts"], told["generated"]) == (20, 20)
    assert json.loads(curri(*SIMULATED, "-n", "2", "--where", "responses > 0", "--json")[1])["prompts"] == 20
    code, _, talk = curri(*SIMULATED, "--split", "eval")
    assert code == 1
    assert 'no prompt of the split "eval"' in talk


def test_the_strategy_compares_its_cost_with_a_fixed_number(curri: Command) -> None:
    code, _, talk = curri(*SIMULATED, "-s", "reinforce-ada", "-p", "round_size=4", "-p", "max_rounds=3")
    assert code == 0
    assert "successive elimination" in talk
    assert "fixed n = 4 (the first round)" in talk
    assert "fixed n = 12 (as many chances)" in talk


def test_the_budget_is_kept_and_what_was_left_is_said(curri: Command) -> None:
    code, output, _ = curri(*SIMULATED, "--budget", "3000", "--max-tokens", "100", "--json")
    told = json.loads(output)
    assert (code, told["complete"], told["tokens"] <= 3000, told["left"] > 0) == (0, True, True, True)
    assert told["left"] == 320 - told["generated"]
    assert f"{told['left']:,} were not tried" not in curri(*SIMULATED, "--max-tokens", "100")[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--engine", "ray"), "--engine must be one of"),
        (("--url", "http://localhost/v1"), "--url has no meaning for --engine simulated"),
        (("--strategy", "ucb"), "--strategy must be reinforce-ada here"),
        (("--param", "round_size=4"), "--param belongs to a strategy"),
        (("-s", "reinforce-ada", "--param", "tau=4"), "--param must be NAME=VALUE"),
        (("--sampling", "top k=1"), "--sampling must be NAME=VALUE"),
        (("--engine-option", "wisdom=1"), "--engine-option"),
        (("--system", "@nowhere.txt"), "--system cannot read"),
        (("--engine", "openai"), "needs --url"),
    ],
)
def test_wrong_usage_is_exit_code_2(curri: Command, words: tuple[str, ...], said: str) -> None:
    code, _, talk = curri(*SIMULATED, *words)
    assert (code, said in talk) == (2, True)


def test_an_option_of_the_simulation_that_is_no_number(curri: Command) -> None:
    code, _, talk = curri(*SIMULATED, "--engine-option", "ability=high")
    assert (code, "`ability` of `SimulatedEngine` must be a number; got 'high'" in talk) == (1, True)


def test_a_model_path_that_is_not_there(curri: Command) -> None:
    code, _, talk = curri("rollouts", "generate", "--engine", "vllm", "--model", "./nowhere", "--verifier", "exact")
    assert code == 1
    assert talk == (
        "error: there is no model at ./nowhere\n"
        "  hint: give the folder that holds config.json, or a name such as org/name\n"
    )


def test_two_generators_on_one_store(folder: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    with open_store(folder / "curri.duckdb"):
        process = start(*SIMULATED)
        output, talk = process.communicate(timeout=60)
    assert (process.returncode, output) == (3, "")
    assert talk.startswith("error: the store curri.duckdb is held by process")


def test_a_verifier_that_raises(curri: Command, folder: Path) -> None:
    (folder / "mine.py").write_text("def score(response, prompt):\n    raise ValueError('\\x1b[31mno')\n")
    words = [*SIMULATED[:-1], "python:mine:score", "-n", "2"]
    code, _, talk = curri(*words)
    assert code == 4
    assert "80 without a score: error; they are kept" in talk
    assert "stopped: the verifier python:mine:score failed for all" in talk
    assert "\x1b" not in talk
    assert curri(*words)[0] == 1, "nothing more could be done"
    assert curri("estimate")[0] == 0
    told = json.loads(curri(*SIMULATED, "-n", "2", "--json")[1])
    assert (told["rescored"], told["generated"], told["complete"]) == (80, 0, True)


# ---- a server that misbehaves ---------------------------------------------------------------------------------------


def test_a_server_that_is_down(curri: Command, server: Server) -> None:
    server.close()
    code, output, talk = curri(*over_http(server))
    assert (code, output) == (1, "")
    assert talk.startswith(f"error: no server can be reached at {server.url}")
    assert "hint: is it running" in talk


def test_a_model_that_the_server_does_not_have(curri: Command, server: Server) -> None:
    code, _, talk = curri(*over_http(server), "--model", "tyo")
    assert code == 1
    assert 'did you mean "toy"?' in talk
    assert server.requests == []


def test_prompts_that_fail_are_counted_with_the_reason_and_the_rest_is_kept(
    curri: Command, folder: Path, server: Server
) -> None:
    troubles = {
        "3 + 3 = ?": Reply(raw=b"\x1b[2Jgarbage"),
        "5 + 5 = ?": Reply(body={"choices": []}),
        "6 + 6 = ?": Reply(stall=True),
        "7 + 7 = ?": Reply(400, {"error": {"message": "\x1b]0;title\x07 no"}}),
    }
    server.behaviour = lambda body, number: troubles.get(body["messages"][0]["content"])
    words = over_http(server, "-n", "2", "--retries", "2", "--timeout", "2")
    code, _, talk = curri(*words)
    assert code == 4
    for said in (
        "2 failed: the server answered with something that is not JSON:  [2Jgarbage (3 attempts)",
        "2 failed: the server answered with no choice that has a text (3 attempts)",
        "2 failed: no answer within 2 s (3 attempts)",
        "2 failed: the server answers with status 400: ]0;title  no",
        "the same command goes on with the rest",
    ):
        assert said in talk
    assert "\x1b" not in talk
    assert len(responses(folder)) == 2 * (PROMPTS - 4)
    server.behaviour = lambda body, number: None
    code, _, talk = curri(*over_http(server, "-n", "2"))
    assert (code, "8 generated" in talk) == (0, True)


def test_a_server_that_goes_down_half_way(curri: Command, folder: Path, server: Server) -> None:
    server.behaviour = lambda body, number: Reply(503) if number >= 10 else None
    words = over_http(server, "-n", "2", "--concurrency", "1", "--retries", "0")
    code, output, _ = curri(*words, "--json")
    told = json.loads(output)
    assert (code, told["ok"], told["generated"], told["stopped"]["code"]) == (4, True, 20, "engine_error")
    assert told["failed"] == {"the server answers with status 503": 16}
    assert len(responses(folder)) == 20
    server.behaviour = lambda body, number: None
    assert curri(*words)[0] == 0
    assert server.completions == 2 * PROMPTS


def test_a_server_that_ignores_n_gives_the_same_as_one_that_does_not(
    curri: Command, folder: Path, server: Server
) -> None:
    server.behaviour = lambda body, number: Reply(body=answer(body, n=1))
    assert curri(*over_http(server, "-n", "3"))[0] == 0
    found = responses(folder)
    (folder / "curri.duckdb").unlink()
    with open_store(folder / "curri.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), "arm") for i in range(PROMPTS)])
    server.behaviour = lambda body, number: None
    assert curri(*over_http(server, "-n", "3"))[0] == 0
    assert responses(folder) == found


def test_the_key_is_in_no_file_and_no_message(
    curri: Command, folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden")
    server.behaviour = lambda body, number: Reply(401, {"error": {"message": "no sk-hidden"}}) if number > 4 else None
    code, output, talk = curri(*over_http(server, "--concurrency", "1", "--debug"))
    assert code == 4
    assert server.headers[0]["Authorization"] == "Bearer sk-hidden"
    assert "status 401: no ***" in talk
    assert "sk-hidden" not in output + talk
    assert not any(b"sk-hidden" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_what_a_model_says_never_steers_the_terminal(curri: Command, server: Server) -> None:
    texts = ("\x1b[31m\x07", "\x00", "[" * 1_000_000, "\u202e")

    def hostile(body: dict[str, Any], number: int) -> Reply:
        text = texts[number % len(texts)]
        choices = [{"message": {"content": text}, "finish_reason": text[:20]} for _ in range(body["n"])]
        return Reply(body={"choices": choices})

    server.behaviour = hostile
    code, output, talk = curri(*over_http(server, "-n", "2"))
    assert code == 0
    for words in (("rollouts", "stats"), ("estimate", "--model", "toy"), ("prompts", "list")):
        _, more, said = curri(*words)
        output, talk = output + more, talk + said
    assert not {"\x1b", "\x07", "\x00", "\u202e"} & set(output + talk)


# ---- killed ---------------------------------------------------------------------------------------------------------


def test_sigkill_loses_at_most_what_was_under_way_and_the_same_command_goes_on(
    curri: Command, folder: Path, server: Server, start: Callable[..., subprocess.Popen[str]]
) -> None:
    n, concurrency, batch = 4, 2, 8
    words = over_http(server, "-n", str(n), "--concurrency", str(concurrency), "--batch", str(batch))
    victims: list[subprocess.Popen[str]] = []

    def murderous(body: dict[str, Any], number: int) -> Reply | None:
        if number in (15, 40):
            victims[-1].send_signal(signal.SIGKILL)
            return Reply(hang_up=True)
        return None

    server.behaviour = murderous
    for _ in range(2):
        victims.append(start(*words))
        _, talk = victims[-1].communicate(timeout=120)
        assert victims[-1].returncode == -signal.SIGKILL, talk
    assert curri(*words)[0] == 0
    found = responses(folder)
    assert [key[:2] for key in found] == [(i, k) for i in range(1, PROMPTS + 1) for k in range(n)]
    lost = server.completions - n * PROMPTS
    assert 0 <= lost <= 2 * batch
    seeds = {body["messages"][0]["content"]: body["seed"] for body in server.requests}
    assert [text for _, _, text in found] == [
        text_for(f"{i} + {i} = ?", seeds[f"{i} + {i} = ?"] + k) for i in range(PROMPTS) for k in range(n)
    ]


SLOW = """
import os, pathlib, time

def score(response, answer):
    while response and not pathlib.Path("open").exists() and os.getppid() != 1:
        time.sleep(0.01)
    return response == answer
"""


def test_sigkill_at_the_worst_moment_loses_one_batch(
    curri: Command, folder: Path, server: Server, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """A third of a batch is being scored, which does not end, one has come and waits, and one is on its way."""
    (folder / "slow.py").write_text(SLOW)
    batch, beyond = 36, threading.Event()
    words = [word if word != "exact" else "python:slow.py:score" for word in over_http(server)]
    words += ["-n", "4", "--concurrency", "4", "--batch", str(batch)]

    def count(body: dict[str, Any], number: int) -> Reply | None:
        if number >= batch // 4:
            beyond.set()
        return None

    server.behaviour = count
    with start(*words) as process:
        try:
            server.wait_for(2 * batch // 3)
            assert not beyond.wait(1.0), "it asks for more than may be lost"
        finally:
            process.kill()
    lost = server.completions
    assert 2 * batch // 3 <= lost <= batch  # how many are on their way depends on which came together
    assert responses(folder) == []
    (folder / "open").touch()
    assert curri(*words)[0] == 0
    assert len(responses(folder)) == 4 * PROMPTS
    assert server.completions == 4 * PROMPTS + lost


def test_ctrl_c_keeps_what_had_come(
    curri: Command, folder: Path, server: Server, start: Callable[..., subprocess.Popen[str]]
) -> None:
    words = over_http(server, "-n", "4", "--concurrency", "1", "--batch", "1000")
    running: list[subprocess.Popen[str]] = []

    def interrupt(body: dict[str, Any], number: int) -> Reply | None:
        if number != 12:
            return None
        running[0].send_signal(signal.SIGINT)
        return Reply(stall=True)

    server.behaviour = interrupt
    running.append(start(*words))
    _, talk = running[0].communicate(timeout=60)
    assert running[0].returncode == 130
    assert talk.endswith("stopped; what was written is safe, and the same command goes on from there\n")
    assert len(responses(folder)) == 48
    assert curri(*words)[0] == 0
    assert server.completions == 4 * PROMPTS


def test_a_full_disk(curri: Command, folder: Path, server: Server, start: Callable[..., subprocess.Popen[str]]) -> None:
    def long(body: dict[str, Any], number: int) -> Reply:
        good = answer(body)
        for index, choice in enumerate(good["choices"]):
            choice["message"]["content"] = os.urandom(30_000).hex() + str(index)
        return Reply(body=good)

    server.behaviour = long
    words = over_http(server, "-n", "4", "--concurrency", "1", "--batch", "4")
    process = start(*words, file_limit=4_000_000)
    _, talk = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: writing to curri.duckdb failed" in talk
    assert "Traceback" not in talk
    kept = len(responses(folder))
    assert 4 <= kept < 4 * PROMPTS
    server.behaviour = lambda body, number: None
    code, _, talk = curri(*words)
    assert (code, f"{kept:,} were there" in talk) == (0, True)
    assert len(responses(folder)) == 4 * PROMPTS


# ---- stats and prune ------------------------------------------------------------------------------------------------


def old(store: PromptStore, days: int, where: str) -> None:
    store.connection.execute(
        f"""update rollouts set extras = '{{"at":"' || strftime(current_timestamp::timestamp - interval {days} day,
            '%Y-%m-%dT%H:%M:%SZ') || '"}}' where {where}"""
    )


def test_stats(curri: Command) -> None:
    curri(*SIMULATED, "-n", "2")
    curri(*SIMULATED, "-n", "3")
    curri(*SIMULATED, "--seed", "1", "-n", "1")
    told = json.loads(curri("rollouts", "stats", "--json")[1])
    assert [(row["responses"], row["hits"]) for row in told["sources"]] == [(120, 80), (40, 0)]
    assert (told["responses"], told["hits"], told["generated"]) == (160, 80, 160)
    code, output, talk = curri("rollouts", "stats")
    assert (code, "simulated:toy" in output, "80 hits saved" in talk) == (0, True, True)
    assert '"seed":1' in talk


def test_prune_shows_asks_and_does(curri: Command, folder: Path) -> None:
    curri(*SIMULATED, "-n", "2")
    code, _, talk = curri("rollouts", "prune", "--model", "simulated:toy", "--dry-run")
    assert (code, "dry run" in talk, len(responses(folder))) == (0, True, 80)
    code, _, talk = curri("rollouts", "prune", "--model", "simulated:toy", text="n\n")
    assert (code, "nothing was changed" in talk, len(responses(folder))) == (0, True, 80)
    code, _, talk = curri("rollouts", "prune", "--model", "simulated:toy", text="")
    assert (code, "nobody answered" in talk) == (1, True)
    code, _, talk = curri("rollouts", "prune", "--model", "simulated:toy", text="y\n")
    assert (code, "80 rollouts gone" in talk, responses(folder)) == (0, True, [])
    assert json.loads(curri("rollouts", "stats", "--json")[1])["sources"] == []
    assert curri("store", "check")[0] == 0


def test_prune_by_age_and_size(curri: Command, folder: Path) -> None:
    curri(*SIMULATED, "-n", "4")
    with open_store(folder / "curri.duckdb") as store:
        old(store, 10, "sample < 2")
        old(store, 3, "sample = 2")
        store.connection.execute("update rollouts set extras = null where sample = 3")
    told = json.loads(curri("rollouts", "prune", "--older-than", "5", "--yes", "--json")[1])
    assert (told["responses"], told["pruned"]) == (80, True)
    assert {sample for _, sample, _ in responses(folder)} == {2, 3}
    with open_store(folder / "curri.duckdb") as store:
        store.connection.execute("update rollouts set response = repeat('x', 1000)")
    told = json.loads(curri("rollouts", "prune", "--max-size", "60KB", "--yes", "--json")[1])
    left = responses(folder)
    assert sum(len(text) for *_, text in left) <= 60_000
    assert {sample for _, sample, _ in left} == {2, 3}
    assert sum(sample == 3 for _, sample, _ in left) == PROMPTS, "what has no age goes last"
    for days in ("1e6", "1e300"):
        assert json.loads(curri("rollouts", "prune", "--older-than", days, "--yes", "--json")[1])["responses"] == 0
    assert curri("rollouts", "prune")[0] == 1
    assert curri("rollouts", "prune", "--max-size", "many")[0] == 2


def test_prune_leaves_what_runs_told_and_takes_only_their_texts_where_told_to(curri: Command, folder: Path) -> None:
    import pyarrow as pa

    curri(*SIMULATED, "-n", "1")
    with open_store(folder / "curri.duckdb") as store:
        run = store.runs.create("r", "uniform", {}, None)
        rows = pa.table({"prompt_id": [1], "sample": [0], "reward": [1.0], "response": ["told"]})
        store.rollouts.add(Source("run:r", run_id=run.run_id), rows)
    told = json.loads(curri("rollouts", "prune", "--max-size", "0", "--yes", "--json")[1])
    assert (told["responses"], responses(folder)) == (PROMPTS, [(1, 0, "told")])
    told = json.loads(curri("rollouts", "prune", "--max-size", "0", "--runs", "--yes", "--json")[1])
    assert (told["models"][0]["of_runs"], responses(folder)) == (True, [(1, 0, "None")])
