"""Real worker processes, real hangs, real deaths."""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from curri.errors import InvalidParameter, VerifierFailed
from curri.rollouts.verifiers import VerifierPool, parse_verifier
from curri.types import Prompt, Score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
HANGS = "(a+)+$"
CATASTROPHE = "a" * 40 + "b"

FUNCTIONS = '''
    import asyncio, os, signal, sys, threading, time

    def by_word(response, answer, metadata):
        """Does what the response says."""
        word, _, rest = response.partition(" ")
        return DO[word](rest, answer)

    def hang(rest, answer):
        while True:
            pass

    def swallow(rest, answer):
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                pass

    def talk(rest, answer):
        print("\\x1b[2J", flush=True)
        print("\\x1b[2J", file=sys.stderr, flush=True)
        os.write(1, b"more")
        return 1

    def child(rest, answer):
        import subprocess
        with open(rest, "w") as file:
            file.write(str(subprocess.Popen(["sleep", "1000"]).pid))
        time.sleep(1000)

    def leak(rest, answer):
        KEPT.append(bytearray(int(rest) << 20))
        return 1

    def recurse(rest, answer):
        return recurse(rest, answer)

    class Odd(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    def odd(rest, answer):
        raise Odd

    KEPT = []
    DO = {
        "right": lambda rest, answer: rest == answer,
        "raise": lambda rest, answer: 1 / 0,
        "odd": odd,
        "leave": lambda rest, answer: sys.exit(3),
        "vanish": lambda rest, answer: os._exit(5),
        "kill": lambda rest, answer: os.kill(os.getpid(), signal.SIGSEGV),
        "interrupt": lambda rest, answer: os.kill(os.getpid(), signal.SIGINT) or time.sleep(10),
        "hang": hang,
        "swallow": swallow,
        "talk": talk,
        "ask": lambda rest, answer: input(),
        "child": child,
        "leak": leak,
        "close": lambda rest, answer: os.closerange(3, 100) or 1,
        "recurse": recurse,
        "nan": lambda rest, answer: float("nan"),
        "huge": lambda rest, answer: 10**400,
        "text": lambda rest, answer: "1.0",
        "nothing": lambda rest, answer: None,
        "list": lambda rest, answer: [1.0],
        "half": lambda rest, answer: 0.5,
        "pair": lambda rest, answer: (0.25, True),
        "triple": lambda rest, answer: (1, 2, 3),
        "score": lambda rest, answer: {"score": 0.3, "solved": 1, "more": "x"},
        "reward": lambda rest, answer: {"reward": 2},
        "solved": lambda rest, answer: {"solved": True},
        "wild": lambda rest, answer: {"score": 1, "solved": 7},
        "empty": lambda rest, answer: {},
        "limit": lambda rest, answer: __import__("resource").getrlimit(__import__("resource").RLIMIT_CPU)[0],
        "pid": lambda rest, answer: os.getpid(),
        "length": lambda rest, answer: len(rest),
    }

    async def later(response, answer):
        await asyncio.sleep(0)
        return response == answer

    async def numpy_scalar(solution_str, ground_truth, data_source, extra_info=None):
        import numpy
        return numpy.float32(extra_info["x"] if solution_str == ground_truth and data_source == "arm" else 0)

    def everything(**given):
        return sorted(given) == ["answer", "arm", "metadata", "prompt", "prompt_id", "response"]

    def another(responses):
        return 1

    class Judge:
        @staticmethod
        def score(response):
            return 1

    number = 3
'''


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("functions") / "mine.py"
    file.write_text(textwrap.dedent(FUNCTIONS))
    return file


@pytest.fixture(scope="module")
def pool(functions: Path) -> Iterator[VerifierPool]:
    with VerifierPool(f"python:{functions}:by_word", workers=2, time_limit=1, memory_limit=256 << 20) as made:
        assert made.verify([prompt()], ["right 7"])[0].solved == 1
        yield made


def prompt(answer: str | None = "7", number: int = 1) -> Prompt:
    return Prompt(number, "What is it?", answer, "arm", {"x": 0.75})


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process, which may be anyone's child, ends in time."""
    if not hasattr(os, "pidfd_open"):
        pytest.skip("needs Linux to wait for a process that is not ours")
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


# ---- whatever a user's function does ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "reward", "solved"),
    [
        ("right 7", 1, 1),
        ("right 8", 0, 0),
        ("half", 0.5, 0),
        ("pair", 0.25, 1),
        ("score", 0.3, 1),
        ("reward", 2, 1),
        ("solved", 1, 1),
        ("talk", 1, 1),
    ],
)
def test_what_a_function_may_give(pool: VerifierPool, response: str, reward: float, solved: float) -> None:
    assert pool.verify([prompt()], [response]) == [(reward, solved, "ok", "")]


@pytest.mark.parametrize(
    ("response", "status", "words"),
    [
        ("raise", "error", "ZeroDivisionError: division by zero"),
        ("odd", "error", "Odd"),
        ("leave", "error", "SystemExit: 3"),
        ("interrupt", "error", "KeyboardInterrupt"),
        ("recurse", "error", "RecursionError"),
        ("ask", "error", "EOFError"),
        ("nan", "error", "no finite number: nan"),
        ("huge", "error", "no finite number: 1000"),
        ("text", "error", "no finite number: '1.0'"),
        ("list", "error", "no finite number: [1.0]"),
        ("triple", "error", "no finite number: (1, 2, 3)"),
        ("empty", "error", "no finite number: {}"),
        ("wild", "error", "`solved`"),
        ("nothing", "unverifiable", "None"),
        ("vanish", "crashed", "exit status 5"),
        ("kill", "crashed", "SIGSEGV"),
        ("hang", "timeout", "more than 1 s"),
        ("swallow", "timeout", "more than 1 s"),
    ],
)
def test_what_goes_wrong_is_told_and_said_of_no_other_response(
    pool: VerifierPool, response: str, status: str, words: str
) -> None:
    scores = pool.verify([prompt()] * 3, ["right 7", response, "right 8"])
    assert [score.status for score in scores] == ["ok", status, "ok"]
    assert [score.solved for score in scores][::2] == [1, 0]
    assert words in scores[1].detail
    assert math.isnan(scores[1].reward)
    assert math.isnan(scores[1].solved)


def test_a_function_that_closes_our_pipe_has_crashed(pool: VerifierPool) -> None:
    (score,) = pool.verify([prompt()], ["close"])
    assert score.status in ("crashed", "timeout")


def test_nothing_that_is_printed_gets_out(capfd: pytest.CaptureFixture[str], functions: Path) -> None:
    with VerifierPool(f"python:{functions}:by_word", workers=1) as pool:
        assert pool.verify([prompt()], ["talk"])[0].status == "ok"
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is the system's")
def test_memory(pool: VerifierPool) -> None:
    (score,) = pool.verify([prompt()], ["leak 1000"])
    assert (score.status, score.detail) == ("memory", "it ran into the memory limit")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is the system's")
def test_a_slow_leak_is_no_fault_of_the_response_at_which_it_shows(pool: VerifierPool) -> None:
    scores = pool.verify([prompt()] * 12, ["leak 60"] * 12)
    assert {score.status for score in scores} == {"ok"}


def test_processor_time_is_limited_for_when_the_parent_is_gone(pool: VerifierPool) -> None:
    limits = pool.verify([prompt()] * 3, ["limit"] * 3)
    allowed = 1.0 * (os.cpu_count() or 1) + 5
    assert all(allowed <= limit.reward <= allowed + 30 for limit in limits)


@pytest.mark.parametrize(
    ("function", "answer"),
    [("later", "7"), ("everything", "7"), ("Judge.score", None)],
)
def test_how_a_function_is_called(functions: Path, function: str, answer: str | None) -> None:
    verifier = parse_verifier(f"python:{functions}:{function}")
    assert verifier.score("7", prompt(answer)) == (1, 1, "ok", "")


def test_names_of_other_trainers_and_numbers_of_other_libraries(functions: Path) -> None:
    spec = f"python:{functions}:numpy_scalar"
    assert parse_verifier(spec).score("7", prompt()) == (0.75, 0, "ok", "")
    assert parse_verifier(f"{spec}:solved_at=0.7").score("7", prompt()).solved == 1


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("no_such", "has no function"),
        ("evrything", 'did you mean "everything"?'),
        ("number", "not a function; it is 3"),
        ("another", "asks for `responses`"),
    ],
)
def test_what_cannot_be_called_is_one_error_before_anything_is_scored(
    functions: Path, function: str, words: str
) -> None:
    with VerifierPool(f"python:{functions}:{function}") as pool, pytest.raises(VerifierFailed, match=r"mine\.py") as e:
        pool.verify([prompt()] * 3, ["7"] * 3)
    assert words in str(e.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_package", "ModuleNotFoundError"),
        ("def score(response) return 1", "SyntaxError"),
        ("raise SystemExit(4)", "SystemExit: 4"),
        ("import os; os._exit(4)", "exit status 4"),
    ],
)
def test_a_module_that_cannot_be_loaded_is_one_error(tmp_path: Path, source: str, words: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(source)
    with VerifierPool(f"python:{file}:score", workers=1) as pool, pytest.raises(VerifierFailed) as caught:
        pool.verify([prompt()], ["7"])
    assert words in str(caught.value)


def test_a_module_that_takes_for_ever_to_load_is_one_error(tmp_path: Path) -> None:
    file = tmp_path / "slow.py"
    file.write_text("import time; time.sleep(1000)")
    with (
        VerifierPool(f"python:{file}:score", workers=1, start_limit=0.2) as pool,
        pytest.raises(VerifierFailed, match=r"more than 0\.2 s"),
    ):
        pool.verify([prompt()], ["7"])


def test_a_module_that_changes_meanwhile_is_one_error(tmp_path: Path) -> None:
    file = tmp_path / "changing.py"
    file.write_text("def score(response): return response == '7'")
    with VerifierPool(f"python:{file}:score", workers=1) as pool:
        file.write_text("def score(response): return response != '7'")
        with pytest.raises(VerifierFailed, match="has changed since"):
            pool.verify([prompt()], ["7"])
    with VerifierPool(f"python:{file}:score", workers=1) as pool:
        assert pool.verify([prompt()], ["7"])[0].solved == 0


def test_a_module_is_found_beside_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "rewards.py").write_text("def score(response): return len(response)")
    monkeypatch.chdir(tmp_path)
    with VerifierPool("python:package.rewards:score", workers=1) as pool:
        assert pool.verify([prompt()], ["123"])[0].reward == 3


# ---- time limits, order, batches -------------------------------------------------------------------------------------


def test_catastrophic_patterns_end_and_order_is_kept() -> None:
    responses = ["aa", CATASTROPHE, "b", "aaa", CATASTROPHE, ""]
    with VerifierPool(f"regex:pattern={HANGS}", workers=2, time_limit=0.5) as pool:
        scores = pool.verify([prompt()] * len(responses), responses)
    expected = [(1.0, "ok"), "timeout", (0.0, "ok"), (1.0, "ok"), "timeout", (0.0, "ok")]
    assert [(score.solved, score.status) if score.status == "ok" else score.status for score in scores] == expected
    assert pool.counts == {"ok": 4, "timeout": 2}


def test_large_batches_come_back_in_order(pool: VerifierPool) -> None:
    sizes = [(7 * place) % 331 for place in range(2000)]
    prompts = [prompt(str(place % 5), place) for place in range(2000)]
    scores = pool.verify(prompts, ["length " + "x" * size for size in sizes])
    assert [score.reward for score in scores] == sizes


@pytest.mark.parametrize(
    ("response", "length"),
    [("[" * 1_000_000, 1_000_000), ("7 " * 5_000_000, 10_000_000), ("\0\x1b[2J\ud800", 6), ("é\u2028😀", 3), ("", 0)],
)
def test_hostile_responses_reach_a_function_as_they_are(
    functions: Path, response: str, length: int, pool: VerifierPool
) -> None:
    with VerifierPool(f"python:{functions}:by_word", workers=1) as roomy:
        assert roomy.verify([prompt()], [f"length {response}"])[0].reward == length


def test_a_detail_can_be_stored_and_shown(functions: Path) -> None:
    with VerifierPool(f"python:{functions}:by_word", workers=1) as pool:
        (score,) = pool.verify([prompt()], ["\ud800\x1b[2J\0"])
    assert score.status == "error"
    assert score.detail.isprintable()
    assert len(score.detail.encode()) < 1000


def test_what_is_no_text_and_nothing_at_all() -> None:
    for spec in ("exact", "regex:pattern=7"):
        with VerifierPool(spec, workers=1) as pool:
            assert pool.verify([], []) == []
            scores = pool.verify([prompt()] * 3, ["7", None, [1, 2]])  # type: ignore[list-item]
            assert [score.status for score in scores] == ["ok", "unverifiable", "unverifiable"]
            with pytest.raises(InvalidParameter, match="2 prompts and 1 responses"):
                pool.verify([prompt()] * 2, ["7"])


@pytest.mark.parametrize(
    "settings", [{"workers": 0}, {"time_limit": 0}, {"time_limit": math.inf}, {"memory_limit": 0}, {"start_limit": -1}]
)
def test_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidParameter, match=next(iter(settings))):
        VerifierPool("exact", **settings)  # type: ignore[arg-type]


class Shouting:
    name = "shouting"
    version = "1"
    quick = True

    def score(self, response: str, prompt: Prompt) -> Score:
        if response == "raise":
            raise ValueError("\x1b[2J")
        right = float(response.isupper())
        return Score(right, right)


def test_an_object_of_the_users_runs_here_if_it_is_quick() -> None:
    with VerifierPool(Shouting()) as pool:
        scores = pool.verify([prompt()] * 3, ["YES", "raise", "no"])
    assert [(score.status, score.solved) for score in scores][::2] == [("ok", 1), ("ok", 0)]
    assert (scores[1].status, scores[1].detail) == ("error", r"ValueError: \x1b[2J")
    slow = Shouting()
    slow.quick = False
    for wrong in (slow, 3, None):
        with pytest.raises(InvalidParameter, match="`verifier` of `VerifierPool`"):
            VerifierPool(wrong)  # type: ignore[arg-type]


# ---- a verifier that fails for all -----------------------------------------------------------------------------------


def test_a_verifier_that_fails_for_all_is_one_error_soon(functions: Path) -> None:
    prompts = [prompt(number=number) for number in range(500)]
    with (
        VerifierPool(f"python:{functions}:by_word", workers=2) as pool,
        pytest.raises(VerifierFailed, match=r"failed for all 20 responses \(20 error\).*division by zero"),
    ):
        pool.verify(prompts, ["raise"] * 500)


def test_one_prompt_on_which_it_fails_is_not_all(functions: Path) -> None:
    with VerifierPool(f"python:{functions}:by_word", workers=2) as pool:
        assert {score.status for score in pool.verify([prompt()] * 64, ["raise"] * 64)} == {"error"}
        with pytest.raises(VerifierFailed, match="all 64 responses"):
            pool.refuse_if_all_failed()
        pool.verify([prompt()], ["half"])
        pool.refuse_if_all_failed()


def test_prompts_without_answers_are_said_at_the_end() -> None:
    with VerifierPool("numeric") as pool:
        pool.refuse_if_all_failed()
        pool.verify([prompt(None, number) for number in range(100)], ["7"] * 100)
        with pytest.raises(VerifierFailed, match=r"100 unverifiable.*no reference answer"):
            pool.refuse_if_all_failed()


# ---- processes -------------------------------------------------------------------------------------------------------


def test_closing_leaves_no_process_and_no_descriptor(functions: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir()) if sys.platform == "linux" else set()
    with VerifierPool(f"python:{functions}:by_word", workers=2) as pool:
        pids = {int(score.reward) for score in pool.verify([prompt()] * 400, ["pid"] * 400)}
        assert len(pids) <= 2
    assert all(gone(pid, 0) for pid in pids)
    pool.close()
    if sys.platform == "linux":
        assert set(Path("/proc/self/fd").iterdir()) <= before


def test_what_a_function_started_ends_with_it(functions: Path, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with VerifierPool(f"python:{functions}:by_word", workers=1, time_limit=0.5) as pool:
        assert pool.verify([prompt()], [f"child {note}"])[0].status == "timeout"
    assert gone(int(note.read_text()))


def test_threads_share_a_pool(functions: Path) -> None:
    found: dict[int, list[float]] = {}
    with VerifierPool(f"python:{functions}:by_word", workers=2) as pool:

        def score(number: int) -> None:
            scores = pool.verify([prompt()] * 50, [f"length {'x' * number}"] * 50)
            found[number] = [score.reward for score in scores]

        threads = [threading.Thread(target=score, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {number: [number] * 50 for number in range(5)}


def test_a_pool_outlives_the_thread_that_started_it(functions: Path) -> None:
    with VerifierPool(f"python:{functions}:by_word", workers=1) as pool:
        first: list[float] = []
        thread = threading.Thread(target=lambda: first.append(pool.verify([prompt()], ["pid"])[0].reward))
        thread.start()
        thread.join()
        assert pool.verify([prompt()], ["pid"])[0].reward == first[0]


def started(tmp_path: Path, functions: Path, program: str) -> subprocess.Popen[str]:
    file = tmp_path / "program.py"
    head = f"""
        import os, sys
        from curri.rollouts.verifiers import VerifierPool
        from curri.types import Prompt
        prompt = Prompt(1, "?", "7", "arm", {{}})
        pool = VerifierPool("python:{functions}:by_word", workers=2)
    """
    file.write_text(textwrap.dedent(head) + textwrap.dedent(program))  # no `if __name__ == "__main__"` on purpose
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(file)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_forked_child_scores_with_processes_of_its_own(tmp_path: Path, functions: Path) -> None:
    program = started(
        tmp_path,
        functions,
        """
        mine = pool.verify([prompt], ["pid"])[0].reward
        child = os.fork()
        if child == 0:
            theirs = pool.verify([prompt], ["pid"])[0].reward
            pool.close()
            os._exit(0 if theirs > 0 and theirs != mine else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert pool.verify([prompt], ["pid"])[0].reward == mine
        pool.close()
        print("done")
        """,
    )
    assert program.communicate(timeout=60) == ("done\n", "")


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_its_parent(tmp_path: Path, functions: Path, kill: signal.Signals) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    functions_here = tmp_path / "hang.py"
    functions_here.write_text(
        f"import os\ndef by_word(response):\n    open({str(fifo)!r}, 'w').write(str(os.getpid()))\n"
        "    while True: pass\n"
    )
    program = started(tmp_path, functions_here, "pool.verify([prompt], ['7'])")
    pid = int(fifo.read_text())
    os.killpg(program.pid, kill)  # as a terminal would: the workers are in sessions of their own
    program.communicate(timeout=60)
    assert program.returncode == -kill
    assert gone(pid)


def test_an_interrupted_pool_goes_on(functions: Path, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with VerifierPool(f"python:{functions}:by_word", workers=1) as pool:
            pool.verify([prompt()], ["half"])
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                pool.verify([prompt()] * 2, ["hang", "half"])
            assert [score.status for score in pool.verify([prompt()], ["half"])] == ["ok"]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_worker_killed_from_outside_costs_nothing(functions: Path) -> None:
    with VerifierPool(f"python:{functions}:by_word", workers=1) as pool:
        pid = int(pool.verify([prompt()], ["pid"])[0].reward)
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        assert [score.status for score in pool.verify([prompt()] * 40, ["half"] * 40)] == ["ok"] * 40


def test_time_that_passes_between_calls_does_not_count(functions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now: Callable[[], float] = time.monotonic
    with VerifierPool(f"python:{functions}:by_word", workers=1, time_limit=5) as pool:
        pool.verify([prompt()], ["half"])
        monkeypatch.setattr(time, "monotonic", lambda: now() + 3600)
        assert pool.verify([prompt()], ["half"])[0].status == "ok"
