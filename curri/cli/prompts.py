"""``curri prompts``: look at prompts, retire and restore them, and say what is held out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, ModelOption, StoreOption, opened
from curri.cli._output import count, document, say, table, write_line
from curri.cli._where import SqlWhereOption, WhereOption, in_sql, matching
from curri.errors import InvalidInput

if TYPE_CHECKING:
    from curri.store import PromptStore
    from curri.store.filters import Filter
    from curri.store.prompts import PromptTable
    from curri.types import Ints

app = typer.Typer(help="List, retire, restore and hold out prompts.", no_args_is_help=True)

_EXAMPLES = 5
_TEXT = 60

ChangedOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--where",
        metavar="FILTER",
        help="Which prompts, such as 'pass_rate == 1 and responses >= 16'.",
        show_default=False,
    ),
]
DryRunOption: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")]
YesOption: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("list")
def list_(
    where: WhereOption = None,
    sql_where: SqlWhereOption = None,
    limit: Annotated[int, typer.Option("-n", "--number", min=0, help="How many to show at most.")] = 20,
    model: ModelOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show prompts."""
    import numpy as np

    chosen = in_sql(store, where, sql_where, model)
    with opened(store, read_only=True) as opened_store:
        everything = np.arange(1, len(opened_store.prompts) + 1)
        wanted = matching(opened_store, where, model) if chosen is None else chosen
        ids = everything if wanted is None else wanted
        rows = _described(opened_store, ids[:limit])
    if as_json:
        document({"prompts": rows, "matching": int(ids.size), "of": int(everything.size)})
        return
    for line in _table(rows) if rows else []:
        write_line(line)
    say(f"{count(int(ids.size), 'prompt')} of {everything.size:,}{_not_all(len(rows), int(ids.size))}")


@app.command()
def retire(
    where: ChangedOption,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    model: ModelOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Take prompts out of every later pick. They stay in the store; `curri prompts restore` brings them back.

    A run leaves them out from its next round on; what is in flight may still be recorded.
    """
    change = _Change("retire", "retired", "retired", lambda prompts, ids: prompts.retire(ids))
    _run(change, where, model, _Manner(store, dry_run=dry_run, yes=yes, as_json=as_json))


@app.command()
def restore(
    where: ChangedOption,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    model: ModelOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Let retired prompts be picked again."""
    change = _Change("restore", "restored", "not retired", lambda prompts, ids: prompts.restore(ids))
    _run(change, where, model, _Manner(store, dry_run=dry_run, yes=yes, as_json=as_json))


@app.command()
def split(
    name: Annotated[
        str,
        typer.Argument(help='"train" is picked from; any other name, such as eval, is held out.', show_default=False),
    ],
    where: ChangedOption,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    model: ModelOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Move prompts to a split. Only those of "train" are ever picked.

    Once the store has runs, prompts can join "train" but no longer leave it: retire them instead.
    """
    from curri.store.filters import Column, Compare, Filter

    there = Filter("", Compare(Column("split"), "==", name))
    change = _Change(
        f"move to {name}",
        f"moved to {name}",
        there,
        lambda prompts, ids: prompts.set_split(ids, name),
        check=lambda prompts, ids: prompts.check_split(ids, name),
    )
    _run(change, where, model, _Manner(store, dry_run=dry_run, yes=yes, as_json=as_json))


@dataclass(frozen=True)
class _Change:
    """What is done to prompts.

    Attributes:
        verb: in a question.
        past: in a statement.
        there: a filter of the prompts that need no change.
        apply: does it; gives how many were changed.
        check: refuses what cannot be done, or None where nothing can go wrong.
    """

    verb: str
    past: str
    there: str | Filter
    apply: Callable[[PromptTable, Ints], int]
    check: Callable[[PromptTable, Ints], None] | None = None


@dataclass(frozen=True)
class _Manner:
    """How a command goes about it."""

    store: Path
    dry_run: bool
    yes: bool
    as_json: bool


def _run(change: _Change, where: str, model: str | None, manner: _Manner) -> None:
    """Show what a change would do, ask, and do it."""
    import numpy as np

    if manner.as_json and not (manner.yes or manner.dry_run):
        raise typer.BadParameter("--json cannot ask; say --yes, or --dry-run")
    with opened(manner.store, read_only=manner.dry_run) as store:
        found = matching(store, where, model)
        ids = np.setdiff1d([] if found is None else found, store.prompts.where(change.there)).astype(np.int64)
        n_matching = 0 if found is None else int(found.size)
        if change.check is not None:
            change.check(store.prompts, ids)
        examples = _described(store, ids[:_EXAMPLES])
        if not manner.as_json:
            _tell(change, n_matching, int(ids.size), examples)
        changed = 0
        if ids.size and not manner.dry_run and (manner.yes or _agreed(change, int(ids.size))):
            changed = change.apply(store.prompts, ids)
    if manner.as_json:
        facts = {"matching": n_matching, "to_change": int(ids.size), "changed": changed, "dry_run": manner.dry_run}
        document({**facts, "examples": examples})
    elif manner.dry_run:
        say("dry run: nothing was changed")
    else:
        say(f"{change.past} {count(changed, 'prompt')}" if changed else "nothing was changed")


def _tell(change: _Change, n_matching: int, n_changing: int, examples: list[dict[str, Any]]) -> None:
    rest = n_matching - n_changing
    already = f", {rest:,} of them as they should be already" if rest else ""
    say(f"{count(n_matching, 'prompt matches', 'prompts match')}{already}")
    if examples:
        say(f"to {change.verb}: {count(n_changing, 'prompt')}{_not_all(len(examples), n_changing)}")
        say(*(f"  {line}" for line in _table(examples)))


def _agreed(change: _Change, number: int) -> bool:
    say(f"{change.verb} {count(number, 'prompt')}? [y/N]")
    answer = sys.stdin.readline()
    if not answer:
        raise InvalidInput("nobody answered, so nothing was changed", hint="say --yes where nobody can")
    return answer.strip().casefold() in ("y", "yes")


def _described(store: PromptStore, ids: Ints) -> list[dict[str, Any]]:
    """What is shown of prompts, in the order of ids."""
    import pyarrow as pa

    found = store.connection.arrow(
        """select p.prompt_id, p.external_id as id, a.name as arm, coalesce(p.split, 'train') as split, p.retired,
               p.generation, p.prompt
           from asked join prompts p on p.prompt_id = wanted join arms a using (arm_id) order by p.prompt_id""",
        asked=pa.table({"wanted": ids}),
    )
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Columns in which nothing stands anywhere are left out."""
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    return table(names, [[_cell(name, row[name]) for name in names] for row in rows])


def _cell(name: str, value: Any) -> Any:
    if name == "prompt_id":
        return str(value)
    return value if name != "prompt" or len(value) <= _TEXT else value[: _TEXT - 1] + "…"


def _not_all(shown: int, number: int) -> str:
    return f"; the first {shown:,} of them" if shown < number else ""
