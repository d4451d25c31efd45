"""``curri strategies``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from curri.cli import _completion
from curri.cli._options import DebugOption, JsonOption
from curri.cli._output import document, say, table, write_line

if TYPE_CHECKING:
    from curri.parameters import Parameter


def strategies(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show the parameters of this one.", show_default=False, autocompletion=_completion.strategies
        ),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the strategies, or show one with its parameters."""
    from curri.registry import BUILT_IN, plugin_faults, strategy, strategy_names

    if name is not None:
        _show_one(strategy(name), name, as_json=as_json)
        return
    faults = plugin_faults()
    known = {each: strategy(each) for each in strategy_names() if each in BUILT_IN or each not in faults}
    if as_json:
        listed = [{"name": each, "summary": owner.summary, "source": owner.source} for each, owner in known.items()]
        document({"strategies": listed, "faults": list(faults.values())})
        return
    say(*faults.values())
    rows = [[each, owner.summary, owner.source] for each, owner in known.items()]
    for line in table(["name", "what it does", "source"], rows):
        write_line(line)


def _show_one(owner: type[Any], name: str, *, as_json: bool) -> None:
    from curri.curricula import Curriculum
    from curri.parameters import declared

    parameters = declared(owner)
    if as_json:
        listed = [{"name": key, **_as_dict(parameter)} for key, parameter in parameters.items()]
        document({"name": name, "summary": owner.summary, "source": owner.source, "parameters": listed})
        return
    write_line(f"{name}: {owner.summary}")
    if owner.source:
        write_line(f"source: {owner.source}")
    write_line("")
    shared = declared(Curriculum)
    for key in (key for key in parameters if key not in shared):
        _write_parameter(key, parameters[key])
    write_line("")
    write_line("of every strategy:")
    for key in shared:
        _write_parameter(key, parameters[key])
    write_line("")
    write_line(f"use: curri select --strategy {name} -n 512 --param NAME=VALUE")


def _write_parameter(key: str, entry: Parameter) -> None:
    symbol = f"  ({entry.symbol})" if entry.symbol else ""
    write_line(f"{key} = {_spelled(entry.default)}{symbol}  {entry.allowed}")
    write_line(f"    {entry.doc}{f'; {entry.source}' if entry.source else ''}")


def _as_dict(parameter: Parameter) -> dict[str, Any]:
    return {
        "type": parameter.type.__name__,
        "symbol": parameter.symbol,
        "default": parameter.default,
        "allowed": parameter.allowed,
        "doc": parameter.doc,
        "source": parameter.source,
    }


def _spelled(value: Any) -> str:
    if value is None:
        return "(not given)"
    return str(value).lower() if isinstance(value, bool) else str(value)
