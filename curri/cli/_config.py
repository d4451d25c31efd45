"""``--config run.toml`` and ``--show-config``, for every command.

The work is click's: what the file says becomes the ``default_map`` of the command, so a flag goes before an environment
variable, that before the file, and the file before the default; and click knows where every value came from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import json
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from typer.core import TyperCommand

from curri.cli._output import document, say, table, write_line
from curri.cli._values import PlainValues
from curri.errors import CurriError, InvalidData, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SHARED = ("store", "run", "consumer")
"""Options that may stand at the top of the file, for all commands that have them."""

NAMED = ("cap", "column", "engine-option", "floor", "param", "prior", "sampling", "sizes", "target")
"""Options whose values are NAME=VALUE, which may be a table in the file."""

_NOT_IN_FILES = ("config", "debug", "help", "json", "show-config", "version")
_ORIGINS = {"COMMANDLINE": "flag", "ENVIRONMENT": "environment", "DEFAULT_MAP": "file"}
_MOST_LINES = 2000
_META = "curri.config"
_SHOW = "curri.show_config"

Keys: TypeAlias = tuple[str, ...]


@dataclasses.dataclass
class ConfigFile:
    """A file that was read and found right.

    Attributes:
        path: the file.
        text: what stands in it.
        defaults: option values by command, nested as commands are, for ``Context.default_map``.
        places: (words of the command, name of the parameter) → the keys under which the value stands.
        entries: the same → NAME=VALUE of each entry of a table, with its keys.
    """

    path: Path
    text: str
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)
    places: dict[tuple[Keys, str], Keys] = dataclasses.field(default_factory=dict)
    entries: dict[tuple[Keys, str], dict[str, Keys]] = dataclasses.field(default_factory=dict)

    def place(self, keys: Keys) -> str:
        """File and line of a key."""
        line = self._lines.get(keys)
        return str(self.path) if line is None else f"{self.path}:{line}"

    @functools.cached_property
    def _lines(self) -> dict[Keys, int]:
        """Line of each key: a key is there from the first start of the file on that is TOML and has it."""
        import tomllib

        found: dict[Keys, int] = {}
        lines = self.text.splitlines(keepends=True)
        start = 1
        for end in range(1, min(len(lines), _MOST_LINES) + 1):
            try:
                part = tomllib.loads("".join(lines[:end]))
            except tomllib.TOMLDecodeError:
                continue  # in the middle of a value
            for keys in _keys(part):
                found.setdefault(keys, start)
            start = end + 1
        return found

    def add(self, words: Keys, parameter: Any, keys: Keys, value: Any) -> None:
        """Take over the value of an option of a command."""
        where = self.defaults
        for word in words:
            where = where.setdefault(word, {})
        where[parameter.name] = value
        self.places[words, parameter.name] = keys


def _keys(value: Mapping[str, Any], before: Keys = ()) -> Iterator[Keys]:
    for name, entry in value.items():
        yield (*before, name)
        if isinstance(entry, dict):
            yield from _keys(entry, (*before, name))


# ---- reading --------------------------------------------------------------------------------------------------------


def read(path: Path, program: Any) -> ConfigFile:
    """Read a file.

    Args:
        path: the file.
        program: the group of all commands.

    Raises:
        InvalidData: it cannot be read, or says something that no command knows; names file, table and key.
    """
    import tomllib

    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidData(
            f"cannot read {path}: {reason}",
            hint="`curri select --show-config` lists the options that the table [select] may have",
        ) from error
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        message = str(error) or "nested too deeply"
        raise InvalidData(f"{path} is not TOML: {message}", hint='texts are quoted: strategy = "ucb"') from error
    return _Reader(ConfigFile(path, text), program).read(content)


class _Reader:
    """Goes through a file and checks every key against the commands."""

    def __init__(self, file: ConfigFile, program: Any) -> None:
        self._file = file
        self._program = program

    def read(self, content: dict[str, Any]) -> ConfigFile:
        top = {
            key: value for key, value in content.items() if _spelled(key) in SHARED and not self._is_group(key, value)
        }
        for key, value in top.items():
            self._share(key, value)
        self._group(self._program, {key: value for key, value in content.items() if key not in top}, ())
        return self._file

    def _is_group(self, key: str, value: Any) -> bool:
        """Whether it is the table of a group of commands that is called as a shared option is: ``[store.check]``."""
        return isinstance(value, dict) and key in self._program.commands

    def _share(self, key: str, value: Any) -> None:
        for words, command in _leaves(self._program):
            for parameter in _options(command):
                if _spelled(key) in _names(parameter):
                    self._file.add(words, parameter, (key,), self._value(command, parameter, (key,), value))

    def _group(self, group: Any, content: dict[str, Any], words: Keys) -> None:
        for key, value in content.items():
            command, keys = group.commands.get(key), (*words, key)
            if command is None:
                raise self._unknown_command(group, keys, value)
            if not isinstance(value, dict):
                raise self._wrong(keys, f"`{key}` is a command, so it must be a table: [{'.'.join(keys)}]")
            if hasattr(command, "commands"):
                self._group(command, value, keys)
            else:
                self._command(command, value, keys)

    def _unknown_command(self, group: Any, keys: Keys, value: Any) -> InvalidData:
        *before, key = keys
        known, what = [*group.commands], "command"
        if not before and not isinstance(value, dict):
            known, what = [*SHARED, *known], "option for all commands"
        program = " ".join(["curri", *before])
        inside = f" in [{'.'.join(before)}]" if before else ""
        near = did_you_mean(key, known)
        rest = f"options of a command stand in its table, such as [select]; `{program} --help` lists the commands"
        return self._wrong(keys, f'there is no {what} "{key}"{inside}', f"{near} {rest}" if near else rest)

    def _command(self, command: Any, content: dict[str, Any], words: Keys) -> None:
        options = list(_options(command))
        seen: dict[str, str] = {}
        for key, value in content.items():
            keys = (*words, key)
            parameter = next((each for each in options if _spelled(key) in _names(each)), None)
            if parameter is None:
                raise self._unknown_option(command, keys)
            if parameter.name in seen:
                raise self._wrong(keys, f"`{seen[parameter.name]}` and `{key}` of [{'.'.join(words)}] are one option")
            seen[parameter.name] = key
            self._file.add(words, parameter, keys, self._value(command, parameter, keys, value))

    def _unknown_option(self, command: Any, keys: Keys) -> InvalidData:
        *words, key = keys
        program = " ".join(["curri", *words])
        name = _spelled(key)
        if name in _NOT_IN_FILES:
            return self._wrong(keys, f"`{key}` belongs on the command line, not in [{'.'.join(words)}]")
        for parameter in command.params:
            if parameter.param_type_name == "argument" and name in (_spelled(parameter.name), _metavar(parameter)):
                return self._wrong(keys, f"`{key}` is an argument of `{program}`, which stands on the command line")
        near = did_you_mean(name, [each for option in _options(command) for each in _names(option)])
        rest = f"`{program} --help` lists them"
        message = f'[{".".join(words)}] has no option "{key}"'
        return self._wrong(keys, message, f"{near} {rest}" if near else rest)

    def _value(self, command: Any, parameter: Any, keys: Keys, value: Any) -> Any:
        kind = _kinds(command).get(parameter.name, str)
        wanted, converted = _converted(kind, value, named=_name(parameter) in NAMED)
        if converted is None:
            table_ = f" of [{'.'.join(keys[:-1])}]" if keys[:-1] else ""
            raise self._wrong(keys, f"`{keys[-1]}`{table_} must be {wanted}; got {_short(value)}")
        if isinstance(value, dict) and isinstance(converted, list):
            words = next(words for words, each in _leaves(self._program) if each is command)
            entries = dict(zip(converted, [(*keys, name) for name in value], strict=True))
            self._file.entries[words, parameter.name] = entries
        return converted

    def _wrong(self, keys: Keys, message: str, hint: str | None = None) -> InvalidData:
        return InvalidData(f"{self._file.place(keys)}: {message}", hint)


def _leaves(group: Any, before: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, (*before, name))
        else:
            yield (*before, name), command


def _options(command: Any) -> Iterator[Any]:
    """The options of a command that a file may give."""
    for parameter in command.params:
        if parameter.param_type_name == "option" and not {*_names(parameter)} & {*_NOT_IN_FILES}:
            yield parameter


def _spelled(key: str) -> str:
    return key.replace("_", "-")


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or "").casefold()


def _names(parameter: Any) -> list[str]:
    """What an option may be called in a file: its names without dashes."""
    return [option.lstrip("-") for option in parameter.opts]


def _name(parameter: Any) -> str:
    return max(_names(parameter), key=len) if parameter.param_type_name == "option" else str(parameter.name)


@functools.cache
def _kinds(command: Any) -> dict[str, Any]:
    """Types of a command's parameters, by name, without None."""
    hints = typing.get_type_hints(inspect.unwrap(command.callback))
    return {name: _without_none(hint) for name, hint in hints.items()}


def _without_none(hint: Any) -> Any:
    rest = [part for part in typing.get_args(hint) if part is not type(None)]
    is_list = typing.get_origin(hint) is list
    return hint if is_list or len(rest) != 1 else rest[0]


def _converted(kind: Any, value: Any, *, named: bool) -> tuple[str, Any]:
    """What a value must be, in words, and the value as click takes it; None where it is something else."""
    if typing.get_origin(kind) is list:
        return _converted_list(value, named=named)
    if named and isinstance(value, dict):
        entries = [_entry(name, entry) for name, entry in value.items()]
        return "numbers by name", None if None in entries else ",".join(map(str, entries))
    wanted: dict[Any, tuple[str, tuple[type, ...]]] = {
        bool: ("true or false", (bool,)),
        int: ("a whole number", (int,)),
        float: ("a number", (int, float)),
    }
    words, types = wanted.get(kind, ("a text, in quotes", (str,)))
    fits = isinstance(value, types) and isinstance(value, bool) == (kind is bool)
    return words, value if fits else None


def _converted_list(value: Any, *, named: bool) -> tuple[str, Any]:
    if named and isinstance(value, dict):
        entries = [_entry(name, entry) for name, entry in value.items()]
        return "a table of numbers and texts", None if None in entries else entries
    values = value if isinstance(value, list) else [value]
    fine = all(isinstance(each, (str, int, float)) and not isinstance(each, bool) for each in values)
    return "a list of texts" + (", or a table" if named else ""), [str(each) for each in values] if fine else None


def _entry(name: str, value: Any) -> str | None:
    """An entry of a table as it would be typed; None where it is a date."""
    if isinstance(value, str):
        return f"{name}={value}"
    try:
        return f"{name}={json.dumps(value, ensure_ascii=False)}"
    except TypeError:
        return None


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:60] + "…"


# ---- in a command ---------------------------------------------------------------------------------------------------


def _load(ctx: typer.Context, path: Path | None) -> None:
    if path is None:
        return
    program: Any = ctx.find_root().command
    file = read(path, program)
    ctx.meta[_META] = file
    defaults: Any = file.defaults
    for word in _words(ctx):
        defaults = defaults.get(word, {})
    ctx.default_map = defaults


def _show_later(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        ctx.meta[_SHOW] = True
        for parameter in ctx.command.params:
            parameter.required = False  # what is not given is shown as such


ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Take options from this TOML file, which has one table a command; flags go before it.",
        show_default=False,
        is_eager=True,
        expose_value=False,
        callback=_load,
    ),
]
ShowConfigOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--show-config",
        help="Show the value of every option and where it comes from, and do nothing else.",
        is_eager=True,
        expose_value=False,
        callback=_show_later,
    ),
]


@functools.cache
def _own_options() -> list[Any]:
    only = typer.Typer(add_completion=False)

    @only.command()
    def options(config: ConfigOption = None, show_config: ShowConfigOption = False) -> None:
        """Not run: typer makes options of the signature."""

    return [*typer.main.get_command(only).params]


class Command(PlainValues, TyperCommand):
    """A command that takes ``--config`` and ``--show-config``."""

    def __init__(self, *args: Any, params: list[Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, params=[*(params or []), *_own_options()], **kwargs)

    def make_parser(self, ctx: Any) -> Any:
        """Also understand ``--no-NAME``, for a switch that a file turns on."""
        parser: Any = super().make_parser(ctx)
        for parameter in self.params:
            if getattr(parameter, "is_flag", False) and parameter.expose_value and not parameter.secondary_opts:
                off = [f"--no-{_name(parameter)}"]
                parser.add_option(obj=parameter, opts=off, dest=parameter.name, action="store_const", const=False)
        return parser

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, join tables of the file with flags of the same option, and show all of it if that was asked for."""
        rest = super().parse_args(ctx, args)
        file: ConfigFile | None = ctx.meta.get(_META)
        if file is not None:
            for parameter in self.params:
                _join(ctx, file, parameter)
        if ctx.meta.get(_SHOW) and not ctx.resilient_parsing:
            show(ctx)
            ctx.exit()
        return rest


def _join(ctx: Any, file: ConfigFile, parameter: Any) -> None:
    """A flag NAME=VALUE replaces the entry of that name of the file's table, not the table."""
    entries = file.entries.get((_words(ctx), parameter.name))
    if entries and _source(ctx, parameter) == "COMMANDLINE":
        given = ctx.params[parameter.name] or []
        names = {text.partition("=")[0] for text in given}
        ctx.params[parameter.name] = [text for text in entries if text.partition("=")[0] not in names] + list(given)


def for_every_command(app: typer.Typer) -> None:
    """Give the commands of an application, and of those inside it, ``--config`` and ``--show-config``."""
    for command in app.registered_commands:
        command.cls = Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            for_every_command(group.typer_instance)


def _words(ctx: Any) -> Keys:
    """The words of a command behind the program's name."""
    words: list[str] = []
    while ctx.parent is not None:
        words.insert(0, str(ctx.info_name))
        ctx = ctx.parent
    return tuple(words)


def _source(ctx: Any, parameter: Any) -> str:
    source = ctx.get_parameter_source(parameter.name)
    return "DEFAULT" if source is None else str(source.name)


@contextlib.contextmanager
def placed(ctx: Any, name: str) -> Iterator[None]:
    """What is wrong with the value of a parameter is said with its place, where it came from a file."""
    try:
        yield
    except CurriError as error:
        place = place_of(ctx, name)
        if place is not None:
            error.message = f"{place}: {error.message}"
        raise


def place_of(ctx: Any, name: str) -> str | None:
    """File and line that a parameter of a command got its value from; None where it did not come from a file."""
    file: ConfigFile | None = ctx.meta.get(_META)
    source = ctx.get_parameter_source(name)
    keys = None if file is None else file.places.get((_words(ctx), name))
    if file is None or keys is None or source is None or source.name != "DEFAULT_MAP":
        return None
    return file.place(keys)


# ---- showing --------------------------------------------------------------------------------------------------------


def resolved(ctx: Any) -> dict[str, Any]:
    """Every option of a command with its value and its origin, as JSON.

    ``{"command": "select", "file": "run.toml", "options": {"number": {"value": 8, "origin": "file", "place":
    "run.toml:3"}, …}}``; the origin is "default", "file", "environment", "flag" or "argument", the place is the line of
    the file or the name of the variable. An entry NAME=VALUE of a table is an option "param.NAME" of its own.
    """
    file: ConfigFile | None = ctx.meta.get(_META)
    options: dict[str, dict[str, Any]] = {}
    for parameter in ctx.command.params:
        name = _name(parameter)
        if not parameter.expose_value or name in _NOT_IN_FILES:
            continue
        value = ctx.params.get(parameter.name)
        entries = file.entries.get((_words(ctx), parameter.name), {}) if file is not None else {}
        if name in NAMED and isinstance(value, (list, tuple)) and all("=" in text for text in value):
            options |= dict(_named(ctx, file, parameter, entries)) or {name: {"value": None, **_origin(ctx, parameter)}}
        else:
            options[name] = {"value": _plain(value), **_origin(ctx, parameter)}
    path = None if file is None else str(file.path)
    return {"command": " ".join(_words(ctx)), "file": path, "options": options}


def _named(
    ctx: Any, file: ConfigFile | None, parameter: Any, entries: Mapping[str, Keys]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for text in ctx.params[parameter.name]:
        name, _, value = text.partition("=")
        in_file = file is not None and text in entries
        origin = {"origin": "file", "place": file.place(entries[text])} if file and in_file else _origin(ctx, parameter)
        yield f"{_name(parameter)}.{name}", {"value": value, **origin}


def _origin(ctx: Any, parameter: Any) -> dict[str, Any]:
    source = _source(ctx, parameter)
    if source == "COMMANDLINE" and parameter.param_type_name == "argument":
        return {"origin": "argument", "place": None}
    place = str(parameter.envvar) if source == "ENVIRONMENT" else place_of(ctx, parameter.name)
    return {"origin": _ORIGINS.get(source, "default"), "place": place}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def lines(found: Mapping[str, Any]) -> list[str]:
    """What :func:`resolved` gives, as a table."""
    rows = [
        [name, _in_words(each["value"]), " ".join(filter(None, [each["origin"], each["place"]]))]
        for name, each in found["options"].items()
    ]
    return table(["option", "value", "origin"], rows)


def _in_words(value: Any) -> str:
    if value is None or value == []:
        return "(not given)"
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def show(ctx: Any) -> None:
    """Print what the options of a command are and where they come from."""
    found = resolved(ctx)
    if ctx.params.get("as_json"):
        document(found)
        return
    for line in lines(found):
        write_line(line)
    say(f"curri {found['command']}: nothing was done")
