"""docs/metrics.md lists every metric there is, and no other; what it shows runs."""

from __future__ import annotations

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

import curri
from curri.cli import app
from curri.integrations import metrics as writers
from curri.registry import BUILT_IN, strategy
from curri.store import NewPrompt
from curri.testing import Case
from curri.testing.scenario import experienced

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
NAMES = PAGE[PAGE.index("## Names") :]
LISTED = re.findall(r"^\| `([^`]+)` \|", NAMES, flags=re.MULTILINE)
CODE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "curri").rglob("*.py")))
VARIANTS = [Case(strategy(name)) for name in sorted(BUILT_IN) if name != "pcl" or find_spec("torch")]
VARIANTS += [
    Case(strategy("reinforce-ada"), {"allocation": "estimate"}),
    Case(strategy("dapo"), {"band_low": 0.2, "band_high": 0.8}),
    Case(strategy("sec"), {"absent": "decay"}),
    Case(strategy("ucb"), {"cooldown": 3, "arm_cap": 0.26}),
]
COMPOSED = [Case(strategy(name)) for name in ("ucb/vas", "modomodo/uniform", "sec/dapo")]


def plain(metric: str, arms: tuple[str, ...]) -> str:
    """The name as the page has it: arms and rules by their place."""
    head, _, last = metric.rpartition("/")
    if last in arms:
        return f"{head}/<arm>"
    return "fallback/<rule>" if head == "fallback" else metric


@pytest.mark.parametrize("case", VARIANTS, ids=[f"{case.strategy.name}-{i}" for i, case in enumerate(VARIANTS)])
def test_every_name_of_a_strategy_stands_on_the_page(case: Case) -> None:
    for rounds in (0, 6):
        curriculum = experienced(case, rounds)
        prefix = f"curriculum/{curriculum.name}/"
        emitted = {plain(name.removeprefix(prefix), curriculum.pool.arm_names) for name in curriculum.metrics()}
        assert emitted - set(LISTED) == set()


@pytest.mark.parametrize("case", COMPOSED, ids=[case.strategy.name for case in COMPOSED])
def test_composed_strategies_have_the_names_of_their_parts(case: Case) -> None:
    curriculum = experienced(case, 6)
    prefix = f"curriculum/{curriculum.name}/"
    names = [re.sub(r"^(arms|prompts)/", "", name.removeprefix(prefix)) for name in curriculum.metrics()]
    assert {plain(name, curriculum.pool.arm_names) for name in names} - set(LISTED) == set()


def test_every_name_of_the_scheduler_stands_on_the_page(tmp_path: Path) -> None:
    with curri.open_store(tmp_path / "p.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"{i}?", is_chat=False, answer="1", arm="a") for i in range(20)])
        scheduler = curri.Scheduler(store, "vas", run="r")
        ids = scheduler.ask(6).prompt_ids
        scheduler.tell(ids[:1], [1.0], resolve=None)
        scheduler.tell(ids[:1], [0.0])
        scheduler.resolve(ids[1:2], "dropped")
        scheduler.resolve(ids[2:3], "lost")
        curri.Scheduler(store, run="r", consumer="heir").abandon("main")
        scheduler.tell(scheduler.ask(2, kind="probe").prompt_ids, [1.0, 0.0])
        emitted = {name.removeprefix("scheduler/") for name in scheduler.metrics() if name.startswith("scheduler/")}
    part = NAMES[NAMES.index("### scheduler/") : NAMES.index("### Of every strategy")]
    assert emitted == set(re.findall(r"^\| `([^`]+)` \|", part, flags=re.MULTILINE))


def test_the_page_lists_nothing_that_is_not_there() -> None:
    rules = re.findall(r"_fall_back\(\s*\"(\w+)\"", CODE)
    rules += re.findall(r'"fallback/(\w+)"', CODE)
    part = NAMES[NAMES.index("The rules of") : NAMES.index("### Of strategies that weigh arms")]
    assert set(re.findall(r"^\| `(\w+)` \|", part, flags=re.MULTILINE)) == set(rules)
    for name in LISTED:
        *_, last = [word for word in name.split("/") if not word.startswith("<")]
        made_of_parts = name.startswith(("groups/", "planner/groups_")) or last.startswith("prompts_")
        parts = re.split(r"_", last)[1:] if made_of_parts and last not in CODE else [last]
        assert all(part in CODE for part in parts), name


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CURRI_STORE", raising=False)
    with curri.open_store("curri.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"{i}?", is_chat=False, answer="1", arm="a") for i in range(20)])
    (python,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(python, "metrics.md", "exec"), {})  # noqa: S102  our own page
    (line,) = Path("r1.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["step"] == 1
    (session,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for words in (shlex.split(line.removeprefix("$ ")) for line in session.splitlines()):
        if words[0] == "curri":
            assert CliRunner().invoke(app, words[1:]).exit_code == 0
            continue
        picked = [json.loads(row)["prompt_id"] for row in Path(words[1]).read_text(encoding="utf-8").splitlines()]
        rows = [json.dumps({"prompt_id": prompt, "reward": 1}) for prompt in picked]
        Path(words[2]).write_text("\n".join(rows), encoding="utf-8")
    (line,) = Path("r2.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["run"] == "r2"


def test_the_writers_are_those_of_the_code() -> None:
    part = PAGE[PAGE.index("## Writers") : PAGE.index("## Names")]
    assert set(re.findall(r"^\| `(\w+)\(", part, flags=re.MULTILINE)) == set(writers.__all__)
    extras = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in re.findall(r"curri\[(\w+)\]", part):
        assert re.search(rf"^{extra} = \[", extras, flags=re.MULTILINE)
