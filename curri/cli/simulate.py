"""``curri simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curri.cli import _completion
from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, ModelOption, StoreOption, opened
from curri.cli._output import count, document, progress, say, table, write_line
from curri.cli._reports import ReportFormatOption, deliver, report_format

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from curri.reports.blocks import Cell
    from curri.simulation.records import Records


def simulate(
    replay: Annotated[
        bool, typer.Option("--replay", help="Replay recorded pass rates, which do not react to what is picked.")
    ] = False,
    show_fit: Annotated[
        bool, typer.Option("--show-fit", help="Show how like a recorded run the simulated learner is.")
    ] = False,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            "-s",
            metavar="NAME,…",
            help="Strategies to compare, with commas between them.",
            show_default="all that can be",
            autocompletion=_completion.strategies,
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--param", "-p", metavar="STRATEGY.NAME=VALUE", help="A parameter of a strategy; may be repeated."
        ),
    ] = None,
    curves: Annotated[
        Path | None,
        typer.Option("--curves", help="Replay this CSV file (prompt_index, successes_of_8_per_visit), not a store."),
    ] = None,
    prior: Annotated[
        Path | None,
        typer.Option("--prior", help="With --curves: another model's failures (prompt_index, mean_failures_of_128…)."),
    ] = None,
    model: ModelOption = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Replay what this run was told.", autocompletion=_completion.run_names)
    ] = None,
    prompts: Annotated[int, typer.Option("--prompts", min=5, help="Prompts of the simulated learner's pool.")] = 1200,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of each run.")] = 500,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Prompts of a step.")] = 64,
    group_size: Annotated[
        int | None,
        typer.Option("--group-size", min=2, max=1024, help="Rollouts of a prompt.", show_default="as recorded, else 8"),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each strategy.")] = 10,
    window: Annotated[
        int, typer.Option("--window", min=1, help="With --replay: visits that the moving average spans; odd.")
    ] = 9,
    least_visits: Annotated[
        int, typer.Option("--least-visits", min=1, help="Prompts with fewer recorded visits are left out.")
    ] = 3,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Processes.", show_default="as many as cores")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the report to this file (.html, .md or .json).")
    ] = None,
    format: ReportFormatOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare strategies before spending a GPU-hour.

    With --replay, on the pass rates of a run that is recorded in a store or a file; without, on a simulated learner
    that reacts to what it is trained on, which says nothing about real models.
    """
    from curri.simulation.parallel import cores

    kind = report_format(format, output)
    if show_fit:
        _show_fit(as_json=as_json)
        return
    names = None if strategy is None else tuple(dict.fromkeys(word.strip() for word in strategy.split(",")))
    how: dict[str, Any] = {
        "strategies": names,
        "parameters": _parameters(names, parameter or []),
        "steps": steps,
        "batch": batch,
        "seeds": seeds,
        "jobs": cores() if jobs is None else jobs,
    }
    if replay:
        _check(curves, prior, model, run, window)
        records = _from_file(curves, prior, least_visits) if curves else _from_store(store, model, run, least_visits)
        found = _replayed(records, {**how, "group_size": group_size, "window": window}, quiet=as_json)
    else:
        if strategy is None or any(each is not None for each in (curves, prior, model, run)):
            raise typer.BadParameter(
                "--replay replays a record; without it, name strategies to compare with --strategy"
            )
        found = _compared({**how, "group_size": group_size or 8, "prompts": prompts}, quiet=as_json)
    if output is not None or as_json:
        deliver(found, kind, output, as_json=as_json)
    if not as_json and str(output) != "-":
        _show(found) if replay else _show_comparison(found)


def _check(curves: Path | None, prior: Path | None, model: str | None, run: str | None, window: int) -> None:
    if window % 2 == 0:
        raise typer.BadParameter(f"--window must be odd, so that it has a middle; got {window}")
    if curves is None and prior is not None:
        raise typer.BadParameter("--prior goes with --curves; a store has its own (curri priors)")
    if curves is not None and (model is not None or run is not None):
        raise typer.BadParameter("--curves takes the pass rates from a file, --model and --run from a store")


def _parameters(names: Sequence[str] | None, given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Strategy → parameters."""
    words: dict[str, list[str]] = {}
    for word in given:
        owner, dot, _ = word.partition("=")[0].rpartition(".")
        if not dot:
            raise typer.BadParameter(f'--param must be STRATEGY.NAME=VALUE, such as mopps.discount=0.9; got "{word}"')
        if names is not None and owner not in names:
            raise typer.BadParameter(f'--param {word}: "{owner}" is not among the strategies, {", ".join(names)}')
        words.setdefault(owner, []).append(word[len(owner) + 1 :])
    return {owner: _parsed(owner, mine) for owner, mine in words.items()}


def _parsed(name: str, words: Sequence[str]) -> dict[str, Any]:
    from curri.parameters import declared, refuse_unknown
    from curri.registry import strategy as strategy_class

    owner = strategy_class(name)
    texts = {key: text for key, _, text in (word.partition("=") for word in words)}
    refuse_unknown(texts, owner)
    known = declared(owner)
    return {key: known[key].parsed(text, name=key, owner=owner.__name__) for key, text in texts.items()}


def _from_file(curves: Path, prior: Path | None, least_visits: int) -> Records:
    from curri.simulation.records import read_counts

    return read_counts(curves, prior, least_visits=least_visits)


def _from_store(store: Path, model: str | None, run: str | None, least_visits: int) -> Records:
    from curri.errors import InvalidInput
    from curri.reports.difficulty import whose
    from curri.simulation.records import stored_counts

    with opened(store, read_only=True) as opened_store:
        name = whose(opened_store, model, run)
        if name is None:
            raise InvalidInput(
                f"{store} has no rollouts to replay",
                hint="record a run, or `curri rollouts import`; see docs/simulate.md",
            )
        return stored_counts(opened_store, name, least_visits=least_visits)


def _replayed(records: Records, how: Mapping[str, Any], *, quiet: bool) -> dict[str, Any]:
    from curri.reports.replay import replay_report
    from curri.simulation.replay_summary import ReplaySettings, replay_document

    with progress("replay", quiet=quiet) as update:
        return replay_report(replay_document(records, ReplaySettings(**how), tell=update))


def _compared(how: Mapping[str, Any], *, quiet: bool) -> dict[str, Any]:
    from curri.reports.comparison import comparison_report
    from curri.simulation.comparison import ComparisonSettings, comparison_document

    with progress("simulate", quiet=quiet) as update:
        return comparison_report(comparison_document(ComparisonSettings(**how), tell=update))


def _show_comparison(found: Mapping[str, Any]) -> None:
    from curri.reports.comparison import HEADINGS, LIMITS, comparison_cells

    for line in _aligned(HEADINGS, [comparison_cells(row) for row in found["strategies"]]):
        write_line(line)
    say(*(f"left out: {name}, which {why}" for name, why in found["left_out"].items()))
    say(LIMITS)


def _show_fit(*, as_json: bool) -> None:
    from curri.simulation.comparison import fit_document

    found = fit_document()
    if as_json:
        document(found)
        return
    recorded, simulated = found["recorded"], found["simulated"]
    rows: list[list[Any]] = []
    for key, name in (("first", "first groups"), ("last", "last five groups")):
        for place, word in enumerate(("all wrong", "live", "all right")):
            rows.append([f"{name}, {word}", recorded[key][place], simulated[key][place]])
    rows += [
        [f"prior of first visits, {word}", recorded["prior"][i], simulated["prior"][i]] for i, word in enumerate("ab")
    ]
    rows.append(["drift of a pass rate in a visit", recorded["drift"], simulated["drift"]])
    for arm, (early, late) in recorded["mass"].items():
        rows.append([f"mean |advantage|, {arm}, first visits", early, simulated["mass"][arm][0]])
        rows.append([f"mean |advantage|, {arm}, last visits", late, simulated["mass"][arm][1]])
    for line in table(["figure", "recorded", "simulated"], [[a, round(b, 3), round(c, 3)] for a, b, c in rows]):
        write_line(line)
    say("recorded: a GRPO run of 1,209 prompts; simulated: the learner after 500 steps of 128 prompts, drawn in epochs")


def _show(found: Mapping[str, Any]) -> None:
    from curri.reports.replay import HEADINGS, strategy_cells

    data, bounds = found["data"], found["bounds"]
    say(*found["lead"][:1])
    if data["left_out"]:
        say(f"{count(data['left_out'], 'prompt')} left out with too few visits (--least-visits)")
    rows = [strategy_cells(row, found["settings"]) for row in found["strategies"]]
    for line in _aligned(HEADINGS, rows):
        write_line(line)
    wanted = bounds["wanted"]
    shown = "-" if wanted["live"] is None else f"{wanted['live']:.3f}"
    write_line("")
    write_line(
        f"bound with full knowledge: {bounds['free']:.3f}; with {wanted['least']} or more visits of every prompt and "
        f"at most {wanted['top']:.0%} of all visits on a tenth: {shown}"
    )
    if found["foretold"]:
        best = ", ".join(f"{each['name']} {each['mean']:.4f}" for each in found["foretold"] if each["mean"] is not None)
        write_line(f"excess error on the recorded visits: {best}")
    contact = found["first_contact"]
    if contact is not None:
        write_line(
            f"first contact, recorded: live {contact['base']:.2f} of all, {contact['raw']:.2f} of the best quarter by "
            f"the imported rate, {contact['calibrated']:.2f} after calibration"
        )
    say(*(f"left out: {name}, which {why}" for name, why in found["left_out"].items()))
    say(*([bounds["note"]] if bounds["note"] else []))
    say("a replay says nothing about learning; -o replay.html writes the report with its figures")


def _aligned(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """A table whose cells are texts already."""
    lines = [list(headings), *([cell.text.replace("\u00a0", " ") for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
