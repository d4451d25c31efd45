"""What pages, hints and docstrings say of the command line is there: commands, options, strategies, parameters.

Nothing is run: words are looked up in the tree of commands, and the lines of shell blocks are parsed by it.
"""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import typer

from curri.cli import app
from curri.errors import CurriError
from curri.parameters import declared
from curri.registry import BUILT_IN, strategy

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
SOURCES = sorted([*(ROOT / "curri").rglob("*.py"), *(ROOT / "examples").rglob("*.py")])
PROGRAM: Any = typer.main.get_command(app)

# Prose that looks like a command: `curri` and a word that is none.
PROSE = {"curri mixture", "curri difficulty", "curri needs", "curri works", "curri decides", "curri knows"}
# Strategies that pages make up, and options of other programs that they name.
MADE_UP = {"near-target", "leitner"}
FOREIGN = {"--index-url"}
TRAINERS = ROOT / "docs" / "trainers"  # whose pages name the options of trainers


class Mention(NamedTuple):
    """A command as a page or a message names it."""

    where: str
    text: str


# ---- finding ---------------------------------------------------------------------------------------------------------


def of_page(path: Path) -> Iterator[Mention]:
    """Commands in spans, in shell blocks, and in lines of examples."""
    where = str(path.relative_to(ROOT))
    text = path.read_text(encoding="utf-8")
    for block in re.findall(r"```(?:console|bash|sh|shell)\n(.*?)```", text, flags=re.DOTALL):
        for line in whole_lines(block):
            yield Mention(where, line.removeprefix("$ "))
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for line in whole_lines(text):
        if line.startswith(("    curri ", "    $ curri ")):
            yield Mention(where, line.strip().removeprefix("$ "))
    for span in re.findall(r"`([^`]+)`", text):
        if span.startswith("curri "):
            yield Mention(where, re.sub(r"\s+", " ", span))


def whole_lines(text: str) -> list[str]:
    r"""Lines, those that end in a backslash joined with the next."""
    return re.sub(r"\\\n\s*", " ", text).splitlines()


def of_source(path: Path) -> Iterator[Mention]:
    """Commands in messages, hints and docstrings; what is filled in is X."""
    where = str(path.relative_to(ROOT))
    for text in strings(ast.parse(path.read_text(encoding="utf-8"))):
        joined = re.sub(r"\s+", " ", text)
        for match in re.finditer(r"(?P<before>^|[`“:;(]\s*|\s)(?P<text>curri [a-z][^`”;,]*)", joined):
            word = match["text"].split()[1].rstrip(".:)")
            if word in PROGRAM.commands or (match["before"].strip() and f"curri {word}" not in PROSE):
                yield Mention(where, re.split(r"[).:]? {2,}|[).:](?:\s|$)", match["text"])[0])


def strings(tree: ast.AST) -> Iterator[str]:
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


MENTIONS = [mention for path in PAGES for mention in of_page(path)]
MENTIONS += [mention for path in SOURCES for mention in of_source(path)]


# ---- looking up ------------------------------------------------------------------------------------------------------


def commands_of(text: str) -> tuple[list[Any], list[str]]:
    """The commands that a text names, several where it has `a | b`, and its other words; refuses unknown ones."""
    words = text.split()[1:]
    group, found = PROGRAM, []
    while words and hasattr(group, "commands") and not words[0].startswith(("-", "…", "[")):
        word = words.pop(0).rstrip(".:)")
        names = [word]
        while len(words) > 1 and words[0] == "|":
            names.append(words[1])
            del words[:2]
        missing = [name for name in names if name not in group.commands]
        assert not missing, f"there is no command {missing} in {text!r}"
        found = [group.commands[name] for name in names]
        group = found[0]
    return found or [PROGRAM], words


def options_of(command: Any) -> set[str]:
    own = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    switches = {f"--no-{option.removeprefix('--')}" for option in own if option.startswith("--")}
    below = [options_of(each) for each in getattr(command, "commands", {}).values()]
    return {"--help", "-h"}.union(own, switches, *below)


EVERY_OPTION = options_of(PROGRAM)


@pytest.mark.parametrize("where", sorted({mention.where for mention in MENTIONS}))
def test_every_command_and_option_is_there(where: str) -> None:
    for mention in MENTIONS:
        if mention.where != where or not mention.text.startswith("curri "):
            continue
        commands, rest = commands_of(mention.text)
        options = set.union(*(options_of(command) for command in commands))
        for word in rest:
            name = re.match(r"\[?(--?[A-Za-z][\w-]*)", word)
            assert name is None or name[1] in options, f"{name[1]} of {mention.text!r}"


@pytest.mark.parametrize(
    "path", [page for page in PAGES if page.parent != TRAINERS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_options_that_stand_alone_are_there(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = {match[1] for match in re.finditer(r"`(--[a-z][a-z-]*)", text)}
    assert named - EVERY_OPTION - FOREIGN == set()


def shell_lines() -> list[Mention]:
    found = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"```(?:console|bash|sh|shell)\n(.*?)```", text, flags=re.DOTALL):
            lines = (line.removeprefix("$ ") for line in whole_lines(block))
            found += [Mention(str(path.relative_to(ROOT)), line) for line in lines if line.startswith("curri ")]
    return found


@pytest.mark.parametrize("line", shell_lines(), ids=lambda line: f"{line.where}: {line.text[:50]}")
def test_lines_of_shell_blocks_parse(line: Mention, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CURRI_STORE", raising=False)
    words = shlex.split(line.text, comments=True)[1:]
    words = words[: next((at for at, word in enumerate(words) if word in ("|", ">", "&&", ";")), len(words))]
    if "--config" in words:  # what stands in it is a matter of test_config_page.py
        Path(words[words.index("--config") + 1]).write_text('[select]\nstrategy = "ucb"\n[record]\nrun = "r1"')
    with contextlib.suppress(typer.Exit):  # what --show-config ends with
        parse(words)


def parse(words: list[str]) -> None:
    """Parse a command as the program would, and do not run it."""
    context = PROGRAM.make_context("curri", words)
    while hasattr(context.command, "commands"):
        rest = [*getattr(context, "_protected_args", []), *context.args]
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


# ---- strategies, parameters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", sorted({mention.where for mention in MENTIONS}))
def test_every_strategy_and_parameter_is_there(where: str) -> None:
    for mention in MENTIONS:
        words = mention.text.split()
        if mention.where != where:
            continue
        names = {option: [after(words, each) for each in spelled] for option, spelled in SPELLED.items()}
        outer = next(filter(None, names["strategy"]), "")
        inner = next(filter(None, names["within"]), "")
        whole = f"{outer}/{inner}" if outer and inner else outer
        if not all(name in BUILT_IN for name in whole.split("/") if whole):
            assert MADE_UP.issuperset(each for each in whole.split("/") if each not in BUILT_IN) or "X" in whole, (
                mention
            )
            continue
        owners = [strategy(whole)] if whole else [strategy(name) for name in BUILT_IN]
        known = {name for owner in owners for name in declared(owner)}
        given = [re.match(r"([a-z_]+)=", after) for at, word in enumerate(words) if word in ("--param", "-p")
                 for after in words[at + 1 : at + 2]]  # fmt: skip
        assert all(match is None or match[1] in known for match in given), mention


SPELLED = {"strategy": ("--strategy", "-s"), "within": ("--within",)}


def after(words: list[str], option: str) -> str | None:
    """The word behind an option, if it is a name."""
    at = words.index(option) + 1 if option in words else len(words)
    found = words[at].rstrip("`.,;)") if at < len(words) else ""
    return found if re.fullmatch(r"[a-z][a-z/-]*", found) else None


SHARED_PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "strategies").glob("*.md")}


@pytest.mark.parametrize("path", sorted(SHARED_PAGES), ids=lambda path: path.stem)
def test_values_of_choices_on_strategy_pages_are_choices(path: Path) -> None:
    """`draw=systematic` is a value that the strategy of the page takes, if it has a parameter `draw`."""
    if path.stem not in BUILT_IN:
        return
    owner = strategy(path.stem)
    known = declared(owner)
    for name, value in re.findall(r"`([a-z_]+)=\"?([a-z]+)\"?`", SHARED_PAGES[path]):
        if name in known and known[name].choices:
            known[name].parsed(value, name=name, owner=owner.__name__)


def test_metrics_that_strategy_pages_name_are_listed() -> None:
    """Names in spans that stand with the word metrics; docs/metrics.md is checked against the strategies themselves."""
    listed = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    known = {
        name
        for full in re.findall(r"^\| `([^`]+)` \|", listed, flags=re.MULTILINE)
        for name in (full, full.rpartition("/")[2])
    }
    found = 0
    for path, text in SHARED_PAGES.items():
        spans = re.findall(r"`([a-z_/]+)` in (?:the|its) metrics", text)
        spans += re.findall(r"metrics\(\)\[\"curriculum/[\w-]+/([^\"]+)\"\]", text)
        spans += re.findall(r"counted (?:as|in) `([a-z_/]+)`", text)
        found += len(spans)
        assert [span for span in spans if span not in known] == [], path.name
    assert found > 1


# ---- the checks can fail ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["curri selct", "curri mix fti", "curri store check | repare", "curri rollouts bring X"]
)
def test_unknown_commands_are_found(text: str) -> None:
    with pytest.raises(AssertionError, match="there is no command"):
        commands_of(text)


@pytest.mark.parametrize("words", [["select", "--nonsense"], ["select", "-n", "x"], ["explain"], ["nonsense"]])
def test_lines_that_do_not_parse_are_found(words: list[str]) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        parse(words)
    assert not isinstance(caught.value, (CurriError, AssertionError, AttributeError))


def test_mentions_are_found() -> None:
    places = {mention.where for mention in MENTIONS}
    assert places >= {"README.md", "docs/store.md", "docs/filters.md", "docs/mix.md", "curri/store/prompt_store.py"}
    assert len(MENTIONS) > 200
    assert Mention("curri/store/prompt_store.py", "curri init --store X") in MENTIONS
