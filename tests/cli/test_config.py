from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import typer

from curri.cli import app
from curri.cli._config import NAMED, SHARED, _kinds, _leaves, _options
from curri.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Curri = Callable[..., Result]
    Answer = Callable[..., dict[str, Any]]

RUN = """\
# a run
store = "curri.duckdb"
run = "r1"

[select]
strategy = "ucb"
n = 4
dry-run = true
where = \"\"\"
arm == "easy"
\"\"\"

[select.param]
temperature = 0.2
exploration = 2

[mix.optimize]
cap = { math = 0.5, code = 0.4 }
prior = { math = 1, code = 2 }
target = [
  "score",
  "both=score+other",
]
"""


@pytest.fixture
def run_toml(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(RUN)
    return path


@pytest.mark.usefixtures("run_toml")
def test_a_file_is_shown_with_the_place_of_every_value(answer: Answer) -> None:
    found = answer("select", "--config", "run.toml", "--show-config")
    assert (found["command"], found["file"]) == ("select", "run.toml")
    options = found["options"]
    assert options["number"] == {"value": 4, "origin": "file", "place": "run.toml:7"}
    assert options["store"] == {"value": "curri.duckdb", "origin": "file", "place": "run.toml:2"}
    assert options["run"]["place"] == "run.toml:3"
    assert options["where"] == {"value": 'arm == "easy"\n', "origin": "file", "place": "run.toml:9"}
    assert options["param.temperature"] == {"value": "0.2", "origin": "file", "place": "run.toml:14"}
    assert options["within"] == {"value": None, "origin": "default", "place": None}
    assert options["consumer"]["value"] == "main"


@pytest.mark.usefixtures("run_toml")
def test_the_file_may_be_named_before_the_command(curri: Curri) -> None:
    before = curri("--config", "run.toml", "select", "--show-config").stdout
    assert before == curri("select", "--config", "run.toml", "--show-config").stdout
    assert "number             4                file run.toml:7" in before


@pytest.mark.usefixtures("run_toml")
def test_flag_before_environment_before_file_before_default(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    def store(*words: str) -> dict[str, Any]:
        option: dict[str, Any] = answer("store", "info", *words, "--show-config")["options"]["store"]
        return option

    assert store() == {"value": "curri.duckdb", "origin": "default", "place": None}
    assert store("--config", "run.toml")["origin"] == "file"
    monkeypatch.setenv("CURRI_STORE", "env.duckdb")
    assert store("--config", "run.toml") == {"value": "env.duckdb", "origin": "environment", "place": "CURRI_STORE"}
    flag = {"value": "flag.duckdb", "origin": "flag", "place": None}
    assert store("--config", "run.toml", "--store", "flag.duckdb") == flag


@pytest.mark.usefixtures("run_toml")
def test_flags_replace_entries_of_a_table_one_by_one_and_switches_can_be_turned_off(answer: Answer) -> None:
    words = ["-p", "temperature=0.5", "-p", "window=9", "--no-dry-run"]
    options = answer("select", "--config", "run.toml", "--show-config", *words)["options"]
    assert options["param.temperature"] == {"value": "0.5", "origin": "flag", "place": None}
    assert options["param.window"]["value"] == "9"
    assert options["param.exploration"] == {"value": "2", "origin": "file", "place": "run.toml:15"}
    assert options["dry-run"] == {"value": False, "origin": "flag", "place": None}


@pytest.mark.usefixtures("run_toml")
def test_tables_and_lists_of_other_options(answer: Answer) -> None:
    options = answer("mix", "optimize", "--config", "run.toml", "--show-config", "--cap", "math=0.1")["options"]
    assert options["cap.math"] == {"value": "0.1", "origin": "flag", "place": None}
    assert options["cap.code"] == {"value": "0.4", "origin": "file", "place": "run.toml:18"}
    assert options["prior"]["value"] == "math=1,code=2"
    assert options["target"] == {"value": ["score", "both=score+other"], "origin": "file", "place": "run.toml:20"}
    assert options["runs"] == {"value": None, "origin": "default", "place": None}  # the argument that is missing


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('stor = "x"', 'bad.toml:1: there is no option for all commands "stor"', 'did you mean "store"?'),
        ("[selct]", 'bad.toml:1: there is no command "selct"', 'did you mean "select"?'),
        ("[mix.fti]", 'bad.toml:1: there is no command "fti" in [mix]', 'did you mean "fit"?'),
        ("mix = 1", "bad.toml:1: `mix` is a command, so it must be a table: [mix]", None),
        ("\n[select]\nstrateg = 1", 'bad.toml:3: [select] has no option "strateg"', 'did you mean "strategy"?'),
        ('[select]\nn = "x"', 'bad.toml:2: `n` of [select] must be a whole number; got "x"', None),
        ("[select]\nn = true", "bad.toml:2: `n` of [select] must be a whole number; got true", None),
        ("[select]\nprobe = 1", "bad.toml:2: `probe` of [select] must be true or false; got 1", None),
        ("[mix.report]\nkl = '1'", 'bad.toml:2: `kl` of [mix.report] must be a number; got "1"', None),
        ("[select]\nwithin = 3", "bad.toml:2: `within` of [select] must be a text, in quotes; got 3", None),
        ("[select]\nwhere = {a = 1}", 'bad.toml:2: `where` of [select] must be a text, in quotes; got {"a": 1}', None),
        ("[mix.fit]\nlower = {a = 1}", "bad.toml:2: `lower` of [mix.fit] must be a list of texts; got", None),
        (
            "[select.param]\na = 1979-05-27",
            "bad.toml:1: `param` of [select] must be a table of numbers and",
            None,
        ),
        ("store = 3", "bad.toml:1: `store` must be a text, in quotes; got 3", None),
        ("[select]\nn = 1\nnumber = 2", "bad.toml:3: `n` and `number` of [select] are one option", None),
        ("[select]\njson = true", "bad.toml:2: `json` belongs on the command line, not in [select]", None),
        ("[ingest]\nfile = 'x'", "bad.toml:2: `file` is an argument of `curri ingest`", None),
        ("[select", "bad.toml is not TOML: ", "texts are quoted"),
        ("a=" + "[" * 100_000, "bad.toml is not TOML: ", None),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    curri: Curri, tmp_path: Path, text: str, message: str, hint: str | None
) -> None:
    (tmp_path / "bad.toml").write_text(text)
    said = curri("select", "--config", "bad.toml", "-n", "1", "-s", "ucb", code=1).stderr.splitlines()
    assert said[0].startswith(f"error: {message}")
    assert len(said) <= 2
    if hint is not None:
        assert hint in said[1]
    assert curri("--config", "bad.toml", "doctor", code=1).stderr.splitlines()[0] == said[0]


def test_the_commands_of_store_have_tables_although_an_option_is_called_that(answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[store.check]\nall = true\nstore = "other.duckdb"\n')
    options = answer("store", "check", "--config", "c.toml", "--show-config")["options"]
    assert (options["all"]["value"], options["store"]["value"]) == (True, "other.duckdb")


def test_values_out_of_range_are_said_with_their_place(curri: Curri, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[select]\nn = 0")
    said = curri("select", "--config", "bad.toml", "-s", "ucb", code=2).stderr
    assert said.startswith("error: bad.toml:2: Invalid value for '-n'")
    assert curri("select", "--config", "bad.toml", "-n", "-1", code=2).stderr.startswith(
        "error: Invalid value for '-n'"
    )


def test_parameters_of_strategies_are_said_with_their_place(curri: Curri, filled: Path) -> None:
    (filled / "bad.toml").write_text('[select]\nstrategy = "ucb"\nn = 1\n[select.param]\ntemprature = 1')
    said = curri("select", "--config", "bad.toml", code=1).stderr
    assert said.startswith("error: bad.toml:4: `UCB` has no parameter `temprature`")
    assert 'did you mean "temperature"?' in said


@pytest.mark.parametrize("path", ["missing.toml", ".", "latin.toml"])
def test_files_that_cannot_be_read(curri: Curri, tmp_path: Path, path: str) -> None:
    (tmp_path / "latin.toml").write_bytes('run = "é"'.encode("latin-1"))
    assert curri("select", "--config", path, code=1).stderr.startswith(f"error: cannot read {path}: ")


def test_a_run_keeps_what_it_was_configured_with(curri: Curri, answer: Answer, filled: Path) -> None:
    (filled / "run.toml").write_text(RUN.replace("dry-run = true", "seed = 3"))
    curri("select", "--config", "run.toml", "-p", "temperature=0.5", "-o", "batch.jsonl")
    run = answer("store", "info", "r1")
    assert (run["strategy"], run["parameters"]["temperature"], run["parameters"]["exploration"]) == ("ucb", 0.5, 2.0)
    config = run["config"]
    assert (config["command"], config["file"]) == ("select", "run.toml")
    assert config["options"]["seed"] == {"value": 3, "origin": "file", "place": "run.toml:8"}
    assert config["options"]["param.temperature"]["origin"] == "flag"
    assert answer("store", "info")["runs"][0]["config"] == config
    curri("select", "--run", "r1", "-n", "2", "--next", "--seed", "3")
    assert answer("store", "info", "r1")["config"] == config
    text = curri("store", "info", "r1").stdout
    assert "made by curri select --config run.toml" in text
    assert "seed               3                file run.toml:8" in text
    assert "consumer" not in text
    assert curri("store", "check").exit_code == 0


def test_runs_that_python_made_have_no_configuration(curri: Curri, filled: Path) -> None:
    from curri.scheduler import Scheduler

    with open_store(filled / "curri.duckdb") as store:
        Scheduler(store, "uniform", run="own")
    assert "no options are known" in curri("store", "info", "own").stdout
    assert "there is no run" in curri("store", "info", "none", code=1).stderr


def test_showing_does_nothing(curri: Curri, tmp_path: Path) -> None:
    assert "store   curri.duckdb  default" in curri("init", "--show-config").stdout
    assert list(tmp_path.iterdir()) == []


def test_every_command_can_be_configured() -> None:
    leaves = dict(_leaves(typer.main.get_command(app)))
    assert len(leaves) > 20
    for words, command in leaves.items():
        names = {option for parameter in command.params for option in parameter.opts}
        assert {"--config", "--show-config"} <= names, words
        kinds = _kinds(command)
        options = {parameter.name for parameter in _options(command)}
        assert options <= set(kinds), words
        assert all(str(kinds[name]) in KINDS for name in options), {name: kinds[name] for name in options}


KINDS = {str(kind) for kind in (bool, int, float, str, list[str])} | {"<class 'pathlib.Path'>"}


def test_names_that_the_module_knows_are_options() -> None:
    names = {
        option.lstrip("-")
        for _, command in _leaves(typer.main.get_command(app))
        for parameter in command.params
        for option in parameter.opts
    }
    assert {*SHARED, *NAMED} <= names


def test_a_file_without_options_changes_nothing(answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_bytes(b"\xef\xbb\xbf# nothing\n")
    with_file = answer("estimate", "--config", "empty.toml", "--show-config")["options"]
    assert with_file == answer("estimate", "--show-config")["options"]
    assert json.dumps(with_file)
