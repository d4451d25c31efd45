"""``.ci/slow``: which suites it runs after a change, and what it says of one that fails or takes too long.

A Makefile with the targets of the real one and nothing behind them stands in its place.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / ".ci" / "slow"
SUITES = dict(re.findall(r"^(\w+) \S+ (test-\w+)$", SCRIPT.read_text(), re.MULTILINE))
LEFT_OUT = re.compile(r"^--- (\w+): left out$", re.MULTILINE)

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "make", "git", "timeout"))), reason="it takes bash, make, git and timeout"
)


class Tree:
    """A repository with the script, and with recipes of our own for the suites."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / ".ci").mkdir()
        shutil.copy2(SCRIPT, root / ".ci")
        self.recipes({})
        self.git("init", "--quiet")
        self.commit()

    def git(self, *words: str) -> None:
        """A command of git."""
        name = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
        subprocess.run(["git", *name, *words], cwd=self.root, check=True, capture_output=True)

    def commit(self) -> None:
        """Commit all there is."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "x")

    def touch(self, *names: str) -> None:
        """Write some files."""
        for name in names:
            file = self.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("changed")

    def recipes(self, own: dict[str, str]) -> None:
        """Have targets do something; all others succeed."""
        rules = [f"{target}:\n\t@{own.get(target, 'true')}\n" for target in SUITES.values()]
        (self.root / "Makefile").write_text("".join(rules))

    def slow(self, *words: str, limit: str = "60") -> tuple[int, set[str], str]:
        """Exit code, the suites that were run, and all that was said."""
        outer = {"MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "ARGS"}  # of a `make test ARGS=…` that runs this test
        env = {name: value for name, value in os.environ.items() if name not in outer}
        done = subprocess.run(
            [".ci/slow", *words],
            cwd=self.root,
            env=env | {"LIMIT": limit},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return done.returncode, set(re.findall(r"^--- (\w+): make", done.stdout, re.MULTILINE)), done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """The repository."""
    return Tree(tmp_path)


def test_every_suite_has_a_target_in_the_makefile() -> None:
    rules = set(re.findall(r"^(test-\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(SUITES.values()) <= rules
    assert len(SUITES) >= 6


def test_all_and_those_that_are_named(tree: Tree) -> None:
    code, ran, said = tree.slow("all")
    assert (code, ran) == (0, set(SUITES))
    assert not LEFT_OUT.findall(said)
    code, ran, said = tree.slow("all", "trl", "ray")
    assert (code, ran) == (0, {"trl", "ray"})
    assert set(LEFT_OUT.findall(said)) == set(SUITES) - {"trl", "ray"}


@pytest.mark.parametrize(
    ("changed", "suites"),
    [
        ("curri/rollouts/engines/vllm.py", {"vllm"}),
        ("curri/reports/page.py", {"browser"}),
        ("curri/scheduler/ledger.py", {"trl", "ray", "verl"}),
        ("curri/integrations/groups.py", {"tinker", "verl"}),
        ("docs/index.md", set()),
    ],
)
def test_suites_whose_code_was_touched(tree: Tree, changed: str, suites: set[str]) -> None:
    tree.touch(changed)
    assert tree.slow("HEAD")[:2] == (0, suites), "a file that is not committed counts"
    tree.commit()
    assert tree.slow()[:2] == (0, suites)
    tree.commit()
    assert tree.slow()[:2] == (0, set())
    assert tree.slow("HEAD~2")[:2] == (0, suites)


def test_a_suite_that_fails_is_told_and_the_others_are_run(tree: Tree) -> None:
    tree.recipes({SUITES["trl"]: f'[ "$(ARGS)" ] || {sys.executable} -c "raise SystemExit(5)"'})
    code, ran, said = tree.slow("all")
    assert (code, ran) == (1, set(SUITES))
    assert re.search(r"^--- trl: FAILED after \d+ s: exit code 2$", said, re.MULTILINE)
    assert len(re.findall(r": passed in \d+ s$", said, re.MULTILINE)) == len(SUITES) - 1


def test_an_environment_that_cannot_be_made_is_told(tree: Tree) -> None:
    tree.recipes({SUITES["verl"]: "echo no such package; false"})
    code, _, said = tree.slow("all", "verl")
    assert code == 1
    assert "no such package" in said
    assert "--- verl: FAILED before its first test" in said


def test_a_suite_that_takes_too_long_is_ended_and_told(tree: Tree) -> None:
    tree.recipes({SUITES["ray"]: '[ "$(ARGS)" ] || sleep 600'})
    code, ran, said = tree.slow("all", "ray", "verl", limit="1")
    assert (code, ran) == (1, {"ray", "verl"})
    assert re.search(r"^--- ray: FAILED after \d+ s: more than 1 s$", said, re.MULTILINE)
    assert "--- verl: passed" in said


def test_what_is_not_there_is_refused(tree: Tree) -> None:
    code, ran, said = tree.slow("all", "brwoser")
    assert (code, ran) == (2, set())
    assert "there is no suite brwoser; there are: browser trl" in said
    code, ran, said = tree.slow("nowhere")
    assert (code, ran) == (2, set())
    assert "git knows no nowhere" in said
