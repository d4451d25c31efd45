"""``curri select``."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curri.cli import _completion, _config
from curri.cli._options import (
    DEFAULT_STORE,
    ConsumerOption,
    DebugOption,
    JsonOption,
    ModelOption,
    StoreOption,
    opened,
)
from curri.cli._output import count, document, say, table
from curri.cli._where import WhereOption, matching
from curri.registry import DEFAULT_STRATEGY

_SHOWN = 20
_MOST = 1 << 20
"""Characters of the longest value that is read from a file."""

if TYPE_CHECKING:
    from curri.store import PromptStore
    from curri.types import Selection


def select(
    ctx: typer.Context,
    n: Annotated[
        int | None, typer.Option("-n", "--number", min=1, help="How many prompts.", show_default=False)
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            "-s",
            help="Which strategy picks; `curri strategies` lists them. A run keeps its own.",
            show_default="frontier",
            autocompletion=_completion.strategies,
        ),
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(
            "--within",
            help="Another strategy that picks inside an arm; --strategy then splits over arms.",
            autocompletion=_completion.strategies,
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="Name of the run; without one, nothing is stored.",
            autocompletion=_completion.run_names,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of every random decision.", show_default="0")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="NAME=VALUE",
            help="A parameter of the strategy; may be repeated. NAME=@FILE reads the value from a file; "
            "parameters of --within start with within_.",
            autocompletion=_completion.parameters,
        ),
    ] = None,
    where: WhereOption = None,
    model: ModelOption = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Write the prompts to this JSON Lines file (- for standard output).")
    ] = Path("-"),
    probe: Annotated[
        bool, typer.Option("--probe", help="Prompts to score and not to train on, for strategies that use probes.")
    ] = False,
    top_up: Annotated[
        bool,
        typer.Option(
            "--top-up", help="Further rollouts for undecided prompts of the open round, after curri record --partial."
        ),
    ] = False,
    next_: Annotated[bool, typer.Option("--next", help="Open another round although one is not recorded yet.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be picked; store nothing.")] = False,
    consumer: ConsumerOption = "main",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Pick the prompts to train on next.

    With --run, picks and outcomes are kept: a second select before `curri record` gives the open round again.
    """
    if run is None and (next_ or consumer != "main"):
        raise typer.BadParameter("--next and --consumer belong to a run: name it with --run")
    if within is not None:
        if strategy is None:
            raise typer.BadParameter("--within goes with --strategy: that one says how many prompts of each arm")
        strategy = f"{strategy}/{within}"
    if top_up and (run is None or n is not None or next_ or dry_run):
        raise typer.BadParameter("--top-up goes with --run, and without -n, --next and --dry-run")
    if n is None and not top_up:
        raise typer.BadParameter("say how many prompts with -n")
    with opened(store, read_only=run is None or dry_run) as opened_store:
        if top_up:
            _top_up(opened_store, output, run=str(run), consumer=consumer, as_json=as_json)
            return
        started = None if run is None else opened_store.runs.find(run)
        if strategy is None and started is None:
            strategy = DEFAULT_STRATEGY
            if run is not None and not dry_run:
                say(f"{run} is a new run; no strategy was named, so `{strategy}` picks")
        name = str(strategy) if started is None or strategy is not None else started.strategy
        with _config.placed(ctx, "parameter"):
            parameters = _parameters(name, parameter or [], seed)
        wanted = matching(opened_store, where, started.evidence_model if started and not model else model)
        how: dict[str, Any] = {"kind": "probe" if probe else "train", "among": wanted}
        if run is None:
            selection = _pick(opened_store, name, n or 0, model=model, parameters=parameters, **how)
        else:
            asked = {"run": run, "consumer": consumer, "model": model, **parameters}
            ask = _look_ahead if dry_run else functools.partial(_ask, config=_config.resolved(ctx))
            selection = ask(opened_store, strategy, n or 0, how, reissue=not next_, asked=asked)
        _hand_out(opened_store, selection, output, run=run, as_json=as_json, dry_run=dry_run)


def _top_up(store: PromptStore, output: Path, *, run: str, consumer: str, as_json: bool) -> None:
    from curri.scheduler import Scheduler

    scheduler = Scheduler(store, run=run, consumer=consumer)
    ticket = scheduler.ticket
    more = None if ticket is None else scheduler.top_up(ticket)
    if more is not None:
        _hand_out(store, more, output, run=run, as_json=as_json, dry_run=False)
        return
    round_ = None if ticket is None else ticket.round
    if as_json:
        document({"run": run, "round": round_, "prompts": 0, "rows": []})
    elif ticket is None:
        say(f"{run} has no open round; curri select -n opens one")
    else:
        say(f"no prompt of round {round_} of {run} needs more rollouts", "  (curri record settles the round)")


def _parameters(strategy: str, given: list[str], seed: int | None) -> dict[str, Any]:
    """What the user gave, and nothing else: a run fills in the rest."""
    from curri.parameters import declared, refuse_unknown
    from curri.registry import strategy as strategy_class

    owner = strategy_class(strategy)
    texts: dict[str, str] = {} if seed is None else {"seed": str(seed)}
    for word in given:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f'--param must be NAME=VALUE, such as temperature=0.2; got "{word}"')
        if name in texts:
            raise typer.BadParameter(f"`{name}` is given twice")
        texts[name] = _from_file(text[1:]) if text.startswith("@") else text
    refuse_unknown(texts, owner)
    known = declared(owner)
    return {name: known[name].parsed(text, name=name, owner=owner.__name__) for name, text in texts.items()}


def _from_file(path: str) -> str:
    from curri.errors import InvalidInput

    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(_MOST + 1)
        if len(text) > _MOST:
            raise InvalidInput(f"{path} is too long for the value of a parameter: {_MOST:,} characters are allowed")
        return text
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}: {error}") from error


def _pick(store: PromptStore, strategy: str, n: int, **how: Any) -> Selection:
    from curri.scheduler import pick

    return pick(store, strategy, n, **how)


def _ask(
    store: PromptStore,
    strategy: str | None,
    n: int,
    how: dict[str, Any],
    *,
    reissue: bool,
    asked: dict[str, Any],
    config: dict[str, Any],
) -> Selection:
    from curri.scheduler import Scheduler

    is_new = store.runs.find(asked["run"]) is None
    scheduler = Scheduler(store, strategy, **asked)
    if is_new:
        store.runs.keep_config(scheduler.run.run_id, config)
    return scheduler.ask(n, reissue=reissue, **how)


def _look_ahead(
    store: PromptStore, strategy: str | None, n: int, how: dict[str, Any], *, reissue: bool, asked: dict[str, Any]
) -> Selection:
    from curri.scheduler import Scheduler

    if store.runs.find(asked["run"]) is None:
        parameters = {name: value for name, value in asked.items() if name not in ("run", "consumer", "model")}
        return _pick(store, str(strategy), n, model=asked["model"], parameters=parameters, **how)
    scheduler = Scheduler(store, strategy, **asked)
    if reissue and scheduler.round < scheduler.curriculum.rounds_asked:
        return scheduler.ask(n)  # an open round is given again, which writes nothing
    return scheduler.look_ahead(n, **how)


def _hand_out(
    store: PromptStore, selection: Selection, output: Path, *, run: str | None, as_json: bool, dry_run: bool
) -> None:
    from curri.exchange import selection_rows, write_selection

    selection = dataclasses.replace(selection, fetch=store.texts.fetch_once)
    if selection.reissued:
        say(
            f"round {selection.ticket.round} of {run} is not recorded yet: "
            f"here it is again, {count(len(selection), 'prompt')}",
            "  (-n and --where do not apply; curri record takes its results; --next opens another round)",
        )
    if dry_run:
        say("dry run: nothing was stored")
    to_file = str(output) != "-"
    if to_file or not as_json:
        write_selection(selection, output)
    if as_json:
        rest = {"output": str(output)} if to_file else {"rows": list(selection_rows(selection))}
        document({**_facts(selection, run, dry_run=dry_run), **rest})
    elif to_file:
        _show(selection, output)


def _facts(selection: Selection, run: str | None, *, dry_run: bool) -> dict[str, Any]:
    return {
        "run": run,
        "round": selection.ticket.round if selection.ticket.run else None,
        "reissued": selection.reissued,
        "dry_run": dry_run,
        "prompts": len(selection),
        "arms": _arm_counts(selection),
    }


def _show(selection: Selection, output: Path) -> None:
    arms = list(_arm_counts(selection).items())
    say(*table(["arm", "prompts", "share"], [[arm, size, size / len(selection)] for arm, size in arms[:_SHOWN]]))
    if len(arms) > _SHOWN:
        say(f"… and {count(len(arms) - _SHOWN, 'more arm', 'more arms')}")
    run, round_, _ = selection.ticket
    where = f" of round {round_} of {run}" if run else ""
    say(f"wrote {count(len(selection), 'prompt')}{where} to {output}")


def _arm_counts(selection: Selection) -> dict[str, int]:
    """Prompts of each arm, the largest first."""
    from collections import Counter

    counts = Counter(str(arm) for arm in selection.arms.tolist())
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
