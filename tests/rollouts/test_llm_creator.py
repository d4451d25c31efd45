"""``LLMCreator`` and ``curri evolve`` against a real server on loopback that plays a model, a good one and bad ones."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import curri
from curri.cli import app
from curri.errors import EngineError, InvalidParameter
from curri.evolution import REASONS, EvolutionReport, ancestry, evolve
from curri.rollouts import LLMCreator, OpenAIEngine, VerifierPool
from curri.rollouts.rewriting import IN_BREADTH, IN_DEPTH, parsed, problem_of, request_text, with_problem
from curri.store import NewPrompt, PromptStore
from curri.types import Evolved, Prompt, Refusal, Sampling
from tests.rollouts.server import MODEL, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.rollouts.server import Server

pytest.importorskip("httpx2", reason="needs curri[openai]")

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Model:
    """Plays a model: adds a number to a sum when asked to rewrite, and adds up when asked to solve.

    ``rewrite`` and ``solve`` may make it do something else; ``rewrites`` and ``solutions`` count what was asked.
    """

    rewrite: Callable[[str, int], str | None] | None = None
    solve: Callable[[str, int], str] | None = None
    finish: str = "stop"
    rewrites: int = 0
    solutions: int = 0
    asked: list[str] = field(default_factory=list)

    def __call__(self, body: dict[str, Any], number: int) -> Reply | None:
        text = body["messages"][-1]["content"]
        self.asked.append(text)
        if "NEW PROBLEM" in text:
            self.rewrites += body["n"]
            said = [(self.rewrite or good_rewrite)(text, body["seed"] + i) for i in range(body["n"])]
        else:
            self.solutions += body["n"]
            said = [(self.solve or good_solution)(text, body["seed"] + i) for i in range(body["n"])]
        choices = [
            {"index": i, "finish_reason": self.finish, "message": {"role": "assistant", "content": each}}
            for i, each in enumerate(said)
        ]
        return Reply(body={"object": "x", "choices": choices, "usage": {"completion_tokens": 10 * len(said)}})


def good_rewrite(text: str, seed: int) -> str:
    old = re.findall(r"### PROBLEM\n(.*) = \?", text)[0]
    new = f"{old} + {seed % 1000}"
    return f"Of course!\n\n### NEW PROBLEM\n{new} = ?\n### ANSWER\n{total(new)}\n"


def good_solution(text: str, seed: int) -> str:
    return f"<think>\n</think>It is <answer>{total(text.splitlines()[0].removesuffix('= ?'))}</answer>"


def total(text: str) -> int:
    return sum(int(number) for number in text.split("+"))


@pytest.fixture
def model(server: Server) -> Model:
    playing = Model()
    server.behaviour = playing
    return playing


def engine(server: Server, **given: Any) -> OpenAIEngine:
    return OpenAIEngine(MODEL, server.url, retries=0, backoff=0.0, **given)


def run(store: PromptStore, server: Server, ids: Any = (1, 2, 3), **given: Any) -> EvolutionReport:
    names = ("verifier", "votes", "agreement", "breadth", "sampling")
    creator = LLMCreator(engine(server), **{name: given.pop(name) for name in names if name in given})
    report = evolve(store, creator, ids, skip_made=True, **given)
    assert report.stored + sum(report.rejected.values()) == report.wanted
    return report


# ---- what is asked, and how replies are read -------------------------------------------------------------------------


GOOD = ("2 + 3 = ?", "5")


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("### NEW PROBLEM\n2 + 3 = ?\n### ANSWER\n5", GOOD),
        ("### New Problem:\n2 + 3 = ?\n### Answer: 5", GOOD),
        ("**New problem:** 2 + 3 = ?\n\n**Answer:** 5", GOOD),
        ("New problem: 2 + 3 = ?\nAnswer: 5", GOOD),
        ("Problem:\n2 + 3 = ?\n\nAnswer:\n5", GOOD),
        ("```\n### NEW PROBLEM\n2 + 3 = ?\n### ANSWER\n5\n```", GOOD),
        ("<think>### ANSWER\n7</think>### NEW PROBLEM\n2 + 3 = ?\n### ANSWER\n5", GOOD),
        ("### PROBLEM\nold\n### ANSWER\n1\n### NEW PROBLEM\n2 + 3 = ?\n### ANSWER\n5", GOOD),
        ("### NEW PROBLEM\n2 + 3 = ?\n### ANSWER\n5\n\nExplanation: add them.", GOOD),
        ("### NEW PROBLEM\n2 + 3 = ?\n### ANSWER\n**5**", GOOD),
        ("### NEW PROBLEM\n2 + 3 = ?\n### ANSWER\nIt is \\boxed{5}.", GOOD),
        ("### NEW PROBLEM\nProblem solving\n2 + 3 = ?\n### ANSWER\n5", ("Problem solving\n2 + 3 = ?", "5")),
        ("### NEW PROBLEM\n\U0001f600 \x1b[2J\0\n### ANSWER\n5", ("\U0001f600 \x1b[2J\0", "5")),
        ("I cannot help with that.", "no heading for the problem"),
        ("", "no heading for the problem"),
        ("### NEW PROBLEM\n2 + 3 = ?", "no heading for the answer"),
        ("### ANSWER\n5\n### NEW PROBLEM\n2 + 3 = ?", "no heading for the answer"),
        ("### NEW PROBLEM\na\n### NEW PROBLEM\nb\n### ANSWER\n5", "2 headings for the problem"),
        ("### NEW PROBLEM\na\n### ANSWER\n5\n### ANSWER\n6", "2 headings for the answer"),
        ("### NEW PROBLEM\n\n### ANSWER\n5", "its problem is empty"),
        ("### NEW PROBLEM\n2 + 3 = ?\n### ANSWER\n", "its answer is empty"),
        ("### NEW PROBLEM\n(the new problem)\n### ANSWER\n5", "its problem is empty"),
        ("### NEW PROBLEM\nx\n### ANSWER\n(its final answer, and nothing else)", "its answer is empty"),
        ("### NEW PROBLEM\nx\n### ANSWER\n" + "5" * 2000, "longer than 1,000"),
    ],
)
def test_replies(reply: str, found: tuple[str, str] | str) -> None:
    read = parsed(reply, with_answer=True)
    if isinstance(found, str):
        assert isinstance(read, Refusal)
        assert found in read.reason
        assert read.code == "unparsable"
    else:
        assert read == found


def test_where_no_answer_is_wanted_none_is_taken() -> None:
    assert parsed("### NEW PROBLEM\nWrite a poem.", with_answer=False) == ("Write a poem.", None)
    assert parsed("### NEW PROBLEM\nWrite a poem.\n### ANSWER\nRoses", with_answer=False) == ("Write a poem.", None)


@given(st.text())
def test_no_reply_is_too_strange(reply: str) -> None:
    for with_answer in (True, False):
        read = parsed(reply, with_answer=with_answer)
        assert isinstance(read, Refusal) or read[0].strip()


@pytest.mark.parametrize("piece", [" ", "\t", "# ", "** ", "the ", "new ", "\n ", "#", "answer ", "answer:"])
def test_a_reply_of_one_thing_again_and_again_takes_no_time(piece: str) -> None:
    start = time.process_time()
    assert isinstance(parsed(piece * 30_000, with_answer=True), Refusal)
    assert isinstance(parsed(f"### NEW PROBLEM\n{piece * 30_000}", with_answer=True), Refusal)
    assert time.process_time() - start < 10.0


def test_what_is_asked_holds_the_problem_the_instruction_and_the_form() -> None:
    text = request_text("1 + 1 = ?", "2", IN_DEPTH["add a step"])
    assert "1 + 1 = ?" in text
    assert IN_DEPTH["add a step"] in text
    assert text.count("### ANSWER") == 2
    assert "### ANSWER" not in request_text("Write a poem.", None, IN_BREADTH["sibling"])


def test_a_chat_stays_a_chat() -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1 = ?"}]
    parent = Prompt(1, chat, "2", "sums", {})
    assert problem_of(parent) == "1 + 1 = ?"
    assert with_problem(parent, "2 + 2 = ?") == [chat[0], {"role": "user", "content": "2 + 2 = ?"}]
    picture = Prompt(1, [{"role": "user", "content": [{"type": "image_url"}]}], "2", "sums", {})
    assert isinstance(problem_of(picture), Refusal)
    assert isinstance(problem_of(Prompt(1, [], "2", "sums", {})), Refusal)


# ---- a model that does as it is told ---------------------------------------------------------------------------------


def test_children_have_checked_answers_and_their_lineage(store: PromptStore, server: Server, model: Model) -> None:
    report = run(store, server, per_parent=2)
    assert (report.stored, report.rejected, report.creator) == (6, {}, "openai:toy")
    children = store.texts.fetch(report.prompt_ids)
    assert all(child.answer == str(total(str(child.prompt).removesuffix("= ?"))) for child in children)
    assert set(report.operations) <= {*IN_DEPTH, *IN_BREADTH}
    line = ancestry(store, int(report.prompt_ids[-1]))
    assert [entry["generation"] for entry in line] == [0, 1, 2]
    assert line[0].keys() == {"prompt_id", "generation", "prompt"}
    made = {key: line[2][key] for key in ("creator", "model", "checked", "step", "seed")}
    assert made == {
        "creator": "openai:toy",
        "model": "toy",
        "checked": {"solutions": 5, "agreed": 5},
        "step": 1,
        "seed": 0,
    }
    assert model.rewrites == 6
    assert model.solutions == 30


def test_the_same_call_again_asks_for_nothing(store: PromptStore, server: Server, model: Model) -> None:
    first = run(store, server, per_parent=3)
    before = (model.rewrites, model.solutions)
    again = run(store, server, per_parent=3)
    assert (again.stored, again.rejected) == (0, {"present": 9})
    assert (model.rewrites, model.solutions) == before
    more = run(store, server, ids=(1, 2, 3, 4), per_parent=4)
    assert more.rejected == {"present": 9}
    assert more.stored == 4 + 3
    origins = store.prompts.origins(more.prompt_ids)
    assert sorted(origin.generation for origin in origins) == [1, 2, 3, 4, 4, 4, 4]
    assert first.stored == 9


def test_another_seed_and_another_model_are_asked_anew(store: PromptStore, server: Server, model: Model) -> None:
    run(store, server)
    assert "present" not in run(store, server, seed=1).rejected
    creator = LLMCreator(OpenAIEngine(MODEL, server.url, label="other"))
    assert "present" not in evolve(store, creator, [1], skip_made=True).rejected


def test_seeds_make_the_same_children(server: Server, model: Model) -> None:
    parents = [Prompt(i, f"{i} + {i} = ?", str(2 * i), "sums", {}) for i in range(4)]
    first, second = (LLMCreator(engine(server)).create(parents, 2, [3, 5, 7, 9]) for _ in range(2))
    assert first == second
    other = LLMCreator(engine(server)).create(parents, 2, [4, 6, 8, 10])
    assert first != other
    assert [len(children) for children in first] == [2] * 4


def test_breadth(server: Server, model: Model) -> None:
    parents = [Prompt(i, f"{i} + {i} = ?", str(2 * i), "sums", {}) for i in range(30)]
    for breadth, expected in ((1.0, IN_BREADTH), (0.0, IN_DEPTH)):
        children = LLMCreator(engine(server), breadth=breadth).create(parents, 1, range(30))
        assert {child.operation for (child,) in children} == set(expected)


def test_prompts_without_an_answer_need_none(store: PromptStore, server: Server, model: Model) -> None:
    (poem,) = store.prompts.add([NewPrompt("Write a poem.", False, None, "poems")]).prompt_ids.tolist()
    model.rewrite = lambda text, seed: f"### NEW PROBLEM\nWrite a sonnet about {seed}."
    report = run(store, server, ids=[poem], per_parent=1)
    assert report.stored == 1
    assert model.solutions == 0
    assert store.texts.fetch(report.prompt_ids)[0].answer is None


# ---- a model that does not -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rewrite", "reason", "why"),
    [
        ("I would rather not.", "unparsable", "no heading"),
        ("### NEW PROBLEM\n0 + 0 = ?\n### ANSWER\n0", "duplicate", "0 + 0 = ?"),
        ("### NEW PROBLEM\n7 + 1 = ?\n### ANSWER\n9", "disputed", "0 of 5 solutions come to '9'"),
        ("### NEW PROBLEM\n7 + 1 = ?\n### ANSWER\na lot", "disputed", "0 of 5 solutions come to 'a lot'"),
        ("### NEW PROBLEM\n7 + 1\ud800 = ?\n### ANSWER\n8", "malformed", "surrogate"),
    ],
)
def test_what_is_left_out_is_counted_by_reason(
    store: PromptStore, server: Server, model: Model, rewrite: str, reason: str, why: str
) -> None:
    model.rewrite = lambda text, seed: rewrite
    report = run(store, server, ids=[1], per_parent=1)
    assert report.rejected == {reason: 1}
    assert why in report.examples[0][2]
    assert reason in REASONS


def test_the_same_child_twice_is_kept_once(store: PromptStore, server: Server, model: Model) -> None:
    model.rewrite = lambda text, seed: "### NEW PROBLEM\n7 + 1 = ?\n### ANSWER\n8"
    report = run(store, server, chain=False, per_parent=2)
    assert (report.stored, report.rejected) == (1, {"duplicate": 5})


def test_truncated_replies_and_solutions_do_not_count(store: PromptStore, server: Server, model: Model) -> None:
    model.finish = "length"
    assert run(store, server, per_parent=1).rejected == {"cut_off": 3}


@pytest.mark.parametrize(("right", "stored"), [(5, 1), (3, 1), (2, 0), (0, 0)])
def test_a_majority_must_come_to_the_answer(
    store: PromptStore, server: Server, model: Model, right: int, stored: int
) -> None:
    first: list[int] = []

    def solve(text: str, seed: int) -> str:
        first.append(seed)
        return good_solution(text, seed) if seed - min(first) < right else "<answer>-1</answer>"

    model.solve = solve
    report = run(store, server, ids=[1], per_parent=1)
    assert report.stored == stored
    assert report.rejected == ({} if stored else {"disputed": 1})


def test_no_votes_trust_the_model(store: PromptStore, server: Server, model: Model) -> None:
    model.rewrite = lambda text, seed: "### NEW PROBLEM\n7 + 1 = ?\n### ANSWER\n9"
    report = run(store, server, ids=[1], per_parent=1, votes=0)
    assert report.stored == 1
    assert model.solutions == 0


@pytest.mark.parametrize(
    ("verifier", "answer", "reason"),
    [
        ("numeric", "about eight", "unverifiable"),
        ("numeric", "8", None),
        ("numeric", "9", "disputed"),
        ("exact", "9", "disputed"),
        ("choice", "8", "unverifiable"),
    ],
)
def test_a_verifier_must_be_able_to_read_the_answer(
    store: PromptStore, server: Server, model: Model, verifier: str, answer: str, reason: str | None
) -> None:
    model.rewrite = lambda text, seed: f"### NEW PROBLEM\n7 + 1 = ?\n### ANSWER\n{answer}"
    with VerifierPool(verifier) as pool:
        report = run(store, server, ids=[1], per_parent=1, verifier=pool)
    assert report.rejected == ({} if reason is None else {reason: 1})
    if reason is None:
        checked = ancestry(store, int(report.prompt_ids[0]))[-1]["checked"]
        assert checked == {"verifier": f"{verifier} (1)", "solutions": 5, "agreed": 5}


def test_math_verify_reads_answers_too(store: PromptStore, server: Server, model: Model) -> None:
    pytest.importorskip("math_verify", reason="needs curri[verify]")
    model.rewrite = lambda text, seed: "### NEW PROBLEM\n7 + 1 = ?\n### ANSWER\n$\\frac{16}{2}$"
    with VerifierPool("math", workers=1) as pool:
        report = run(store, server, ids=[1], per_parent=1, verifier=pool)
    assert report.stored == 1


def test_a_users_own_verifier_needs_no_votes(store: PromptStore, server: Server, model: Model, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def score(response, answer):\n    return '8' in response\n")
    model.rewrite = lambda text, seed: "### NEW PROBLEM\n7 + 1 = ?\n### ANSWER\n8"
    with VerifierPool(f"python:{tmp_path / 'mine.py'}:score", workers=1) as pool:
        assert run(store, server, ids=[1], per_parent=1, verifier=pool).stored == 1
        model.rewrite = lambda text, seed: "### NEW PROBLEM\n7 + 2 = ?\n### ANSWER\n9"
        assert run(store, server, ids=[1], per_parent=1, verifier=pool, seed=1).rejected == {"unverifiable": 1}
    assert model.solutions == 0


def test_settings_out_of_range(server: Server) -> None:
    for wrong in ({"votes": -1}, {"breadth": 1.5}, {"agreement": 0.0}, {"sampling": Sampling(temperature=0.0)}):
        with pytest.raises(InvalidParameter):
            LLMCreator(engine(server), **wrong)


def test_the_scorer_of_reasoning_gym_knows_none_of_them(server: Server) -> None:
    pytest.importorskip("reasoning_gym", reason="needs curri[gym]")
    for spec in ("gym", "exact+gym@0.5"):
        with VerifierPool(spec) as pool, pytest.raises(InvalidParameter, match="gym"):
            LLMCreator(engine(server), verifier=pool)


# ---- a server that misbehaves ----------------------------------------------------------------------------------------


def test_a_reply_that_cannot_be_had_costs_one_child(store: PromptStore, server: Server, model: Model) -> None:
    server.behaviour = lambda body, number: (
        Reply(status=400, body={"error": {"message": "no"}}) if number == 0 else model(body, number)
    )
    report = run(store, server, per_parent=1, ids=[1, 2, 3, 4])
    assert report.rejected == {"no_reply": 1}
    assert report.stored == 3


def test_a_server_that_is_down_is_one_error(store: PromptStore, server: Server) -> None:
    server.close()
    with pytest.raises(EngineError):
        run(store, server)


def test_a_server_that_dies_leaves_what_was_made_and_the_same_call_goes_on(
    store: PromptStore, server: Server, model: Model
) -> None:
    ids = np.arange(1, 13)
    server.behaviour = lambda body, number: model(body, number) if number < 8 else Reply(hang_up=True)
    report = run(store, server, ids=ids, per_parent=1, chunk=4)
    assert isinstance(report.stopped, EngineError)
    assert (report.stored, report.rejected) == (4, {"no_reply": 4, "not_tried": 4})
    server.behaviour = model
    again = run(store, server, ids=ids, per_parent=1, chunk=4)
    assert (again.stored, again.rejected, again.stopped) == (8, {"present": 4}, None)


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of 12 sums, of which 8 have rollouts."""
    path = tmp_path_factory.mktemp("prepared")
    rows = [{"prompt": f"{i} + {i} = ?", "answer": str(2 * i), "id": f"p{i}"} for i in range(12)]
    (path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rewards = [{"id": f"p{i}", "rewards": [0, 0, 0, 1] if i < 4 else [1, 1, 1, 1]} for i in range(8)]
    (path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rewards))
    store = ("--store", str(path / "curri.duckdb"))
    command("init", *store)
    command("ingest", str(path / "p.jsonl"), *store)
    command("rollouts", "import", str(path / "r.jsonl"), "--model", "m", *store)
    return path


@pytest.fixture
def place(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to work in."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CURRI_STORE", raising=False)
    return tmp_path


def command(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words), prog_name="curri")
    assert result.exit_code == code, result.output
    return result.output


def document(*words: str, code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*words, "--json"], prog_name="curri")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def evolving(server: Server, *more: str) -> tuple[str, ...]:
    return ("evolve", "--creator", "openai", "--model", MODEL, "--url", server.url, *more)


def test_the_command_evolves_what_there_is_most_to_learn_from(place: Path, server: Server, model: Model) -> None:
    words = evolving(server, "--parents", "3", "-n", "2")
    plan = document(*words, "--dry-run")
    assert (plan["parents"], plan["wanted"]) == (3, 6)
    assert set(plan["parent_ids"]) <= {1, 2, 3, 4}  # those with rollouts of both outcomes
    assert model.rewrites == 0
    found = document(*words)
    assert (found["stored"], found["rejected"], found["stopped"]) == (6, {}, None)
    with curri.open_store(place / "curri.duckdb", read_only=True) as store:
        roots = {store.prompts.ancestry(prompt_id)[-1] for prompt_id in found["prompt_ids"]}
    assert roots == set(plan["parent_ids"])
    assert document(*words)["rejected"] == {"present": 6}


def test_what_the_command_says(place: Path, server: Server, model: Model) -> None:
    bad = iter([True, False] * 20)
    model.rewrite = lambda text, seed: "\x1b[2Jno" if next(bad) else good_rewrite(text, seed)
    said = command(*evolving(server, "--parents", "2", "-n", "2", "--no-chain", "--concurrency", "1"))
    assert "openai:toy: 2 children stored of 4 wanted, of 2 parents" in said
    assert re.search(r"unparsable +2 +a model's reply was not in the form asked for", said)
    assert "\x1b" not in said


def test_the_command_goes_by_a_run_of_eva(place: Path, server: Server, model: Model) -> None:
    command("select", "--strategy", "eva", "-n", "2", "--run", "r", "-o", "batch.jsonl")
    found = document(*evolving(server, "--run", "r", "--parents", "2", "-n", "1"))
    assert found["stored"] == 2
    command("select", "--strategy", "ucb", "-n", "2", "--run", "u", "-o", "batch.jsonl")
    error = document(*evolving(server, "--run", "u"), code=1)["error"]
    assert "ucb" in error["message"]


def test_filters_and_uniform_parents(place: Path, server: Server, model: Model) -> None:
    found = document(*evolving(server, "--where", "prompt_id in [2, 3]", "--parents", "2", "--dry-run"))
    assert sorted(found["parent_ids"]) == [2, 3]
    words = evolving(server, "--strategy", "uniform", "--parents", "12", "-n", "1")
    assert document(*words)["stored"] == 12
    assert document(*words)["rejected"] == {"present": 12}  # children that joined are no candidates
    assert document(*evolving(server, "--strategy", "uniform", "--where", "id == 'p3'", "--dry-run"))["parent_ids"] == [
        4
    ]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--where", "prompt_id > 100"], 1, "no prompt is to be evolved"),
        (["--parents", "100"], 1, "asked for 100 parents"),
        (["--strategy", "uniform", "--parents", "100"], 1, "asked for 100 parents; 12"),
        (["--strategy", "ucb"], 2, "one of eva, uniform"),
        (["--strategy", "uniform", "--run", "r"], 2, "does not go with --run"),
        (["--run", "nobody"], 1, "nobody"),
        (["--rollouts-of", "nobody"], 1, "nobody"),
        (["--verifier", "exactly"], 1, "did you mean"),
        (["--tensor-parallel", "2"], 2, "--creator openai"),
    ],
)
def test_what_the_command_refuses(place: Path, server: Server, more: list[str], code: int, words: str) -> None:
    error = document(*evolving(server, *more), code=code)["error"]
    assert words in f"{error['message']} {error['hint']}"
    assert not server.requests


def test_creators_and_their_own_options(place: Path) -> None:
    for words, what in (
        (["--creator", "magic"], "one of openai, vllm, gym"),
        (["--creator", "openai"], "needs --model"),
        (["--creator", "openai", "--model", "m"], "--url"),
        (["--creator", "gym", "--model", "m"], "no meaning"),
        (["--creator", "gym", "--votes", "3"], "no meaning"),
        (["--creator", "gym", "--url", "http://x"], "no meaning"),
    ):
        assert what in document("evolve", *words, code=2)["error"]["message"]


def test_a_server_that_is_down_ends_the_command_with_one_line(place: Path, server: Server) -> None:
    server.close()
    error = document(*evolving(server, "--retries", "0"), code=1)["error"]
    assert error["code"] == "engine_error"


def test_an_engine_that_gives_up_in_between_is_partly_done(place: Path, server: Server, model: Model) -> None:
    server.behaviour = lambda body, number: model(body, number) if number < 4 else Reply(hang_up=True)
    words = evolving(
        server,
        "--strategy",
        "uniform",
        "--parents",
        "12",
        "-n",
        "1",
        "--batch",
        "2",
        "--retries",
        "0",
        "--concurrency",
        "1",
    )
    found = document(*words, code=4)
    assert found["stored"] == 2
    assert found["stopped"]["code"] == "engine_error"
    assert sum(found["rejected"].values()) == 10
    server.behaviour = model
    assert document(*words)["rejected"] == {"present": 2}


def test_a_killed_command_goes_on_and_asks_for_nothing_twice(place: Path, server: Server, model: Model) -> None:
    reached = threading.Event()

    def stall(body: dict[str, Any], number: int) -> Reply | None:
        if number < 6:
            return model(body, number)
        reached.set()
        return Reply(stall=True)

    server.behaviour = stall
    words = evolving(server, "--strategy", "uniform", "--parents", "6", "-n", "1", "--batch", "1")
    program = subprocess.Popen(
        [sys.executable, "-m", "curri.cli", *words], env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=place
    )
    assert reached.wait(60)
    program.kill()
    program.wait()
    server.behaviour = model
    found = document(*words)
    assert (found["stored"], found["rejected"]) == (3, {"present": 3})
    assert model.rewrites == 6


def test_gym_needs_no_model(place: Path) -> None:
    pytest.importorskip("reasoning_gym", reason="needs curri[gym]")
    command("ingest", "gym:chain_sum?size=4")
    words = ("evolve", "--creator", "gym", "--strategy", "uniform", "--where", "arm == 'chain_sum'", "--parents", "2")
    found = document(*words, "-n", "1", "--verify-timeout", "5")
    assert (found["stored"], found["creator"]) == (2, "gym")
    said = command("explain", str(found["prompt_ids"][0]))
    assert "its own task" in said


def test_explain_shows_the_ancestry(place: Path, server: Server, model: Model) -> None:
    found = document(*evolving(server, "--parents", "1", "-n", "2", "--verifier", "numeric"))
    child = found["prompt_ids"][-1]
    line = document("explain", str(child))["ancestry"]
    assert [entry["generation"] for entry in line] == [0, 1, 2]
    assert line[-1]["checked"] == {"verifier": "numeric (1)", "solutions": 5, "agreed": 5}
    said = command("explain", str(child))
    assert re.search(r"^ *2 +\d+ +[a-z ]+ +openai:toy +numeric \(1\), 5 of 5 solutions$", said, re.MULTILINE)
    assert "an original" in command("explain", "p11")
    command("select", "--strategy", "uniform", "-n", "14", "--run", "r", "-o", "batch.jsonl")
    said = command("explain", str(child), "--run", "r")
    assert "issued" in said
    assert "5 of 5 solutions" in said
    assert document("explain", str(child), "--run", "r")["ancestry"] == line
    assert document("explain", "nobody", code=1)["error"]["code"] == "unknown_prompt"


def test_children_that_a_creator_describes_are_told(store: PromptStore) -> None:
    class Odd:
        name = "odd"

        def create(self, parents: Any, n: int, seeds: Any) -> list[list[Any]]:
            made = Evolved("new?", "1", "x", metadata={"evolution": {"model": "m", "creator": "false"}, "level": 3})
            return [[made] for _ in parents]

    report = evolve(store, Odd(), [1], per_parent=1)
    entry = ancestry(store, int(report.prompt_ids[0]))[-1]
    assert (entry["creator"], entry["model"]) == ("odd", "m")
    assert store.texts.fetch(report.prompt_ids)[0].metadata["level"] == 3
