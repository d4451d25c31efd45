"""What a shell offers when the user presses the Tab key.

Whatever goes wrong, a completion offers nothing: it never raises, never prints, and changes nothing. It has to be
quick, so the store is read with DuckDB alone (no NumPy, no Arrow) and read-only; while a run holds it, the copy that
the run published is read.

Shells put what is offered into the command line as it is, and zsh even evaluates it. So a name out of the store is
offered only if no shell sees anything in it but a name.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Offers: TypeAlias = list[str | tuple[str, str]]

_MOST = 200
_WORD = re.compile(r"[\w.,/+:@%-]+")
_WORDS = re.compile(r"[\w.,/+:@%-]+( [\w.,/+:@%-]+)*")
_SNAPSHOT = ".snapshot"  # as `PromptStore.publish` names it
_SAMPLE = 1000
_KEYS = """select distinct unnest(json_keys(metadata))
           from (select nullif(metadata, '') as metadata from prompts limit ?) order by 1"""

# What stands before the place in a filter: the start of a condition, or of a value of `arm`.
_CONDITION = re.compile(r"(?:^|\(|\b(?:and|or|not))\s*$")
_COLUMN = re.compile(r"[A-Za-z_][\w.]*$")
_ARM = re.compile(r"""\barm\s*(?:==|!=|in\s*\[(?:[^\]]*,)?)\s*(?P<name>(?P<quote>["']?)[^"']*)$""")


def _quietly(offer: Callable[[typer.Context, str], Offers]) -> Callable[[typer.Context, str], Offers]:
    """Offer nothing where something is wrong, and say nothing."""

    @functools.wraps(offer)
    def quiet(ctx: typer.Context, incomplete: str) -> Offers:
        nowhere = io.StringIO()
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            try:
                return offer(ctx, incomplete)[:_MOST]
            except Exception:  # noqa: BLE001  a shell has no use for any of them
                return []

    return quiet


@_quietly
def strategies(ctx: typer.Context, incomplete: str) -> Offers:
    """Names of strategies; after ``ucb/``, of those that pick inside an arm."""
    from curri.registry import COMPOSED, strategy_names

    outer, slash, _ = incomplete.rpartition(COMPOSED)
    return [f"{outer}{slash}{name}" for name in strategy_names()]


@_quietly
def parameters(ctx: typer.Context, incomplete: str) -> Offers:
    """``NAME=`` for each parameter of the strategy, and its values where it has few.

    Where only one name is left, its default is offered too, so that no shell puts a blank behind the ``=``.
    """
    from curri.parameters import declared
    from curri.registry import strategy

    known = declared(strategy(_strategy(ctx)))
    name, equals, _ = incomplete.partition("=")
    if equals:
        values = ("true", "false") if known[name].type is bool else known[name].choices or (known[name].default,)
        return [f"{name}={value}" for value in values if value is not None]
    left = [each for each in known if each.startswith(name)]
    offers: Offers = [(f"{each}=", known[each].doc) for each in left]
    if len(left) == 1 and known[left[0]].default is not None:
        default = known[left[0]].default
        offers.append(f"{left[0]}={str(default).lower() if isinstance(default, bool) else default}")
    return offers


def _strategy(ctx: typer.Context) -> str:
    """The strategy that was named, or that of the run."""
    named = ctx.params.get("strategy")
    if named is None:
        ((named,),) = _rows(ctx, "select strategy from runs where name = ?", [ctx.params["run"]])
    within = ctx.params.get("within")
    return str(named) if within is None else f"{named}/{within}"


@_quietly
def filters(ctx: typer.Context, incomplete: str) -> Offers:
    """The filter so far, with columns where a condition begins, and names of arms where a value of ``arm`` does."""
    value = _ARM.search(incomplete)
    if value is not None:
        quote = value["quote"] or '"'
        before = incomplete[: value.start("name")]
        return [f"{before}{quote}{name}{quote}" for name in _arms(ctx)]
    word = _COLUMN.search(incomplete)
    before = incomplete if word is None else incomplete[: word.start()]
    if not _CONDITION.search(before):
        return []
    return [(before + name, doc) for name, doc in _columns(ctx, "" if word is None else word[0])]


def _columns(ctx: typer.Context, word: str) -> Iterator[tuple[str, str]]:
    from curri.store.filters import COLUMNS, METADATA

    yield from ((name, column.doc) for name, column in COLUMNS.items())
    if not word.startswith(METADATA):
        yield f"{METADATA}.", "a key of the metadata"
        return
    for (key,) in _rows(ctx, _KEYS, [_SAMPLE]):
        if key.isidentifier():
            yield f"{METADATA}.{key}", "a key of the metadata"


@_quietly
def arms(ctx: typer.Context, incomplete: str) -> Offers:
    """Arms of the store."""
    return [name for name in _arms(ctx) if _WORD.fullmatch(name)]


def _arms(ctx: typer.Context) -> list[str]:
    return [name for (name,) in _rows(ctx, "select name from arms order by name") if _WORDS.fullmatch(name)]


@_quietly
def run_names(ctx: typer.Context, incomplete: str) -> Offers:
    """Runs of the store, the newest first, each with its strategy."""
    found = _rows(ctx, "select name, strategy from runs order by run_id desc")
    return [(name, strategy) for name, strategy in found if _WORD.fullmatch(name)]


@_quietly
def models(ctx: typer.Context, incomplete: str) -> Offers:
    """Models that the store has rollouts of."""
    found = _rows(ctx, "select distinct model from sources order by model")
    return [name for (name,) in found if _WORD.fullmatch(name)]


def _rows(ctx: typer.Context, sql: str, values: list[Any] | None = None) -> list[tuple[Any, ...]]:
    import duckdb

    path = Path(ctx.params["store"])
    if not path.is_file():  # it is not made
        return []
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.IOException:
        connection = duckdb.connect(f"{path}{_SNAPSHOT}", read_only=True)
    with connection:
        return connection.execute(sql, values or []).fetchall()
