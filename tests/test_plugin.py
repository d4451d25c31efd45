"""A strategy of another package, built, installed by pip and found by its entry point; and packages that are broken."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from curri import registry
from curri.cli import app
from curri.mixtures.surrogates import SURROGATES

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).resolve().parent / "plugin_package"


def curri(*words: str, code: int = 0) -> tuple[str, str]:
    """Standard output and standard error of a command."""
    done = CliRunner().invoke(app, list(words), prog_name="curri")
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip has installed the package into, from a copy of its source."""
    pytest.importorskip("hatchling")
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PACKAGE, folder / "source")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", "site", "./source"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "site"


@pytest.fixture
def leitner(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package can be imported, and its entry point is found."""
    monkeypatch.syspath_prepend(installed)
    yield
    sys.modules.pop("curri_leitner", None)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CURRI_STORE", raising=False)
    rows = [{"prompt": f"{i} + {i}", "answer": str(2 * i), "arm": "ab"[i % 2]} for i in range(12)]
    Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    curri("init")
    curri("ingest", "p.jsonl")


@pytest.mark.usefixtures("leitner")
def test_it_is_listed_shown_and_proposed() -> None:
    listing, said = curri("strategies")
    assert any(line.startswith("leitner ") for line in listing.splitlines())
    assert said == ""
    assert "ratio = 2.0" in curri("strategies", "leitner")[0]
    assert 'did you mean "leitner"?' in curri("strategies", "leitnr", code=1)[1]


@pytest.mark.usefixtures("leitner", "store")
def test_rounds_are_played_with_it() -> None:
    picked: list[int] = []
    for _ in range(2):
        curri("select", "--run", "r", "--strategy", "leitner", "--param", "ratio=3", "-n", "4", "-o", "b.jsonl")
        picked = [json.loads(line)["prompt_id"] for line in Path("b.jsonl").read_text(encoding="utf-8").splitlines()]
        results = "".join(json.dumps({"prompt_id": prompt, "rewards": [1, 1]}) + "\n" for prompt in picked)
        Path("r.jsonl").write_text(results, encoding="utf-8")
        curri("record", "r.jsonl", "--run", "r", "--metrics", "m.jsonl")
    known = json.loads(curri("explain", str(picked[0]), "--run", "r", "--json")[0])
    assert "box" in json.dumps(known)
    last = json.loads(Path("m.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert last["curriculum/leitner/box/0"] < 12
    curri("select", "--strategy", "ucb", "--within", "leitner", "--param", "within_ratio=5", "-n", "4")


def test_it_works_in_a_program_of_its_own(installed: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "curri.cli", "strategies", "leitner", "--json"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["name"] == "leitner"


def test_its_authors_test_passes(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), *filter(None, sys.path)])}
    shutil.copy(PACKAGE / "tests" / "test_contract.py", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_contract.py", "--rootdir", "."]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


# ---- docs/extending.md ----------------------------------------------------------------------------------------------

PAGE = (PACKAGE.parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.usefixtures("leitner", "store")
def test_the_commands_of_the_page_run() -> None:
    (session,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in session.splitlines():
        assert curri(*shlex.split(line.removeprefix("$ curri ")))[0]


def test_the_page_shows_the_package_as_it_is() -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    real = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = tomllib.loads(shown)["project"]
    assert {key: real[key] for key in page} == page
    author = (PACKAGE / "tests" / "test_contract.py").read_text(encoding="utf-8")
    assert "@parametrize([Case(Leitner), Case(Leitner, {" in author
    assert "@parametrize([Case(Leitner), Case(Leitner, {" in PYTHON[0]


@pytest.mark.parametrize(
    ("number", "prints"), [(1, "2 of 2\n"), (2, "1.0\n"), (3, "[3.]\n")], ids=["creator", "verifier", "surrogate"]
)
def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, prints: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("curri.mixtures.surrogates.SURROGATES", dict(SURROGATES))
    exec(compile(PYTHON[number], "extending.md", "exec"), {"__name__": "page"})  # noqa: S102  our own page
    assert capsys.readouterr().out == prints


def test_links_of_the_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (PACKAGE.parents[1] / "docs" / target).exists(), target


# ---- packages that are broken ---------------------------------------------------------------------------------------


def package(folder: Path, name: str, strategy: str, target: str, code: str) -> None:
    """What pip leaves behind of a package with one module and one entry point."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{registry.ENTRY_POINT_GROUP}]\n{strategy} = {target}\n", encoding="utf-8")
    (folder / f"{target.partition(':')[0]}.py").write_text(code, encoding="utf-8")


GOOD = """
from curri.curricula import Uniform

class Sound(Uniform):
    name = "sound"
    summary = "works"
"""
BROKEN: list[tuple[str, str, str, str]] = [
    ("raises", "broken_raises:Mine", "raise RuntimeError('no\\nluck')", "(RuntimeError: no luck)"),
    ("needs", "broken_needs:Mine", "import a_module_that_is_not_there", "No module named 'a_module_that_is_not_there'"),
    ("lacks", "broken_lacks:Mine", "", "(AttributeError: module 'broken_lacks' has no attribute 'Mine')"),
    ("syntax", "broken_syntax:Mine", "class", "(SyntaxError: "),
    ("wrong", "broken_wrong:Mine", "Mine = dict", "is not a subclass of `curri.curricula.Curriculum`"),
    ("ucb", "broken_ucb:Sound", GOOD, "which is the name of a built-in one; that one is used"),
]


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    site = tmp_path / "site"
    site.mkdir()
    package(site, "curri-sound", "sound", "sound_plugin:Sound", GOOD)
    for name, target, code, _ in BROKEN:
        package(site, f"curri-{name}", name, target, code)
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    yield
    for module in [name for name in sys.modules if name.startswith(("broken_", "sound_plugin"))]:
        del sys.modules[module]


@pytest.mark.usefixtures("broken")
def test_broken_packages_are_named_one_line_each_and_break_no_other() -> None:
    listing, said = curri("strategies")
    names = [line.split()[0] for line in listing.splitlines()[2:]]
    assert names == sorted([*registry.BUILT_IN, "sound"])
    assert len(said.splitlines()) == len(BROKEN)
    for (name, *_, why), line in zip(sorted(BROKEN), said.splitlines(), strict=True):
        assert why in line
        assert f"curri-{name}" in line
    document: dict[str, Any] = json.loads(curri("strategies", "--json")[0])
    assert document["faults"] == said.splitlines()


@pytest.mark.usefixtures("broken", "store")
def test_a_broken_one_is_refused_where_it_is_asked_for() -> None:
    assert curri("select", "--strategy", "sound", "-n", "3")[0].count("\n") == 3
    assert curri("select", "--strategy", "ucb", "-n", "3")[0].count("\n") == 3
    _, said = curri("select", "--strategy", "raises", "-n", "3", code=1)
    assert said.splitlines() == [
        'error: the strategy "raises" of the package curri-raises cannot be loaded (RuntimeError: no luck)',
        "  hint: pip install --upgrade curri-raises, or uninstall it",
    ]
    document = json.loads(curri("select", "--strategy", "needs", "-n", "3", "--json", code=1)[0])
    assert document["error"]["code"] == "invalid_parameter"
