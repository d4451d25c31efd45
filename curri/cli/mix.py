"""``curri mix``: which mixture of datasets to train on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curri.cli import _mixtures
from curri.cli._mix_design import design
from curri.cli._mixtures import (
    AlgorithmOption,
    ArmColumnsOption,
    BatchOption,
    CapOption,
    ColumnsOption,
    CountOption,
    EpochsOption,
    FloorOption,
    GuardOption,
    KlOption,
    LowerOption,
    MixStoreOption,
    NamesOption,
    OnOption,
    PriorOption,
    RunsArgument,
    ScoresOption,
    SeedOption,
    SizesOption,
    StepsOption,
    SurrogateOption,
    TargetOption,
    TrustOption,
)
from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption
from curri.cli._output import count, document, printable, progress, say, table, write_line
from curri.cli._reports import ReportFormatOption, ReportOutputOption, deliver, report_format

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from curri.exchange.mixture_runs import RunsFile
    from curri.reports.study import Study

app = typer.Typer(
    help="Find the mixture of datasets to train on: plan proxy runs, predict mixtures, choose one, write the report.",
    no_args_is_help=True,
)

app.command("design")(design)

# --- fit --------------------------------------------------------------------------------------------------------------


@app.command("fit")
def fit(
    runs: RunsArgument,
    scores: ScoresOption = None,
    on: OnOption = "run",
    arms: ArmColumnsOption = None,
    columns: ColumnsOption = None,
    names: NamesOption = "run",
    target: TargetOption = None,
    lower: LowerOption = None,
    surrogate: SurrogateOption = "best",
    compare: Annotated[bool, typer.Option("--compare", help="Fit every surrogate to the first target.")] = False,
    algorithm: AlgorithmOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Fit surrogates to the scores, and show how well they predict runs that they have not seen.

    Each column is fitted on its own; sums are put together from the fits to their parts.
    """
    _mixtures.check_algorithm(algorithm)
    source = _mixtures.read_runs_file(
        runs, scores=scores, on=on, arms=arms, columns=columns, wanted=target, names=names
    )
    study = _study(source, target, lower, surrogate=surrogate, everything=True)
    with progress("fit", quiet=as_json) as update:
        study.tell = update
        found = _fit_document(study, source, compare=compare, paper=algorithm is not None)
    if as_json:
        document(found)
    else:
        _tell_fit(found)


def _study(
    source: RunsFile, target: list[str] | None, lower: list[str] | None, *, everything: bool = False, **settings: Any
) -> Study:
    from curri.mixtures import read_targets
    from curri.reports.study import Study

    columns = list(source.runs.targets)
    if everything and not target:  # nobody asked for those with too few scores
        columns = [name for name in columns if source.runs.measured(name).sum() > 1] or columns
    wanted = read_targets(target or [], columns, lower=lower or [], everything=everything)
    return Study(runs=source.runs, targets=wanted, **settings)


def _fit_document(study: Study, source: RunsFile, *, compare: bool, paper: bool) -> dict[str, Any]:
    from curri.reports.mixture import describe_target, finite
    from curri.reports.paper import paper_or_reason
    from curri.reports.study import compare_surrogates

    found: dict[str, Any] = {
        "runs": len(study.runs),
        "mixtures": len(study.runs.distinct),
        "arms": list(study.runs.arms),
        "notes": list(source.notes),
        "targets": [describe_target(study, each) for each in study.everything],
        "compared": compare_surrogates(study) if compare else None,
        "paper": paper_or_reason(study) if paper else None,
    }
    answer: dict[str, Any] = finite(found)
    return answer


def _tell_fit(found: Mapping[str, Any]) -> None:
    from curri.reports.sections import surrogate_in_words

    say(
        f"{count(found['runs'], 'run')} of {count(found['mixtures'], 'mixture')} of "
        f"{count(len(found['arms']), 'dataset')}"
    )
    say(*(f"  note: {note}" for note in found["notes"]))
    headings = ["target", "better", "surrogate", *_QUALITY]
    rows = [
        [
            each["name"],
            "less" if each["lower"] else "more",
            surrogate_in_words(each),
            *_quality(each["quality"], each["noise"]),
        ]
        for each in found["targets"]
    ]
    for line in table(headings, rows):
        write_line(line)
    if found["compared"] is not None:
        write_line("")
        for line in table(["surrogate", *_QUALITY, "remark"], [_compared(each) for each in found["compared"]]):
            write_line(line)
    if found["paper"] is not None:
        write_line("")
        _write_paper(found["paper"])
    say("R², rank correlation, error and coverage are of runs that were left out of the fit")


_QUALITY = ["runs", "R²", "Spearman", "error", "noise", "noise from", "in 50 %", "in 80 %", "in 95 %"]


def _quality(quality: Mapping[str, Any], noise: Mapping[str, Any]) -> list[Any]:
    source = f"replicates ({noise['degrees']} d.f.)" if noise["source"] == "replicates" else "the fit"
    inside = [None if share is None else f"{share:.0%}" for share in quality["coverage"].values()]
    return [quality["runs"], quality["r2"], quality["spearman"], quality["rmse"], noise["std"], source, *inside]


def _compared(each: Mapping[str, Any]) -> list[Any]:
    if each["quality"] is None:
        return [each["surrogate"], *[None] * len(_QUALITY), each["reason"]]
    return [each["surrogate"], *_quality(each["quality"], each["noise"]), ""]


def _write_paper(paper: Mapping[str, Any]) -> None:
    from curri.reports.wording import mixture_in_words

    if "reason" in paper:
        say(f"the paper's algorithm: {paper['reason']}")
        return
    write_line("MoDoMoDo's Algorithm 4: R² of its splits on their own test rows " + _numbers(paper["test_r2"]))
    rows = [
        [place, each["predicted"], mixture_in_words(each["weights"])]
        for place, each in enumerate(paper["candidates"], start=1)
    ]
    rows += [[each["name"], each["predicted"], mixture_in_words(each["weights"])] for each in paper["heuristics"]]
    for line in table(["candidate", "predicted", "weights"], [[str(row[0]), *row[1:]] for row in rows]):
        write_line(line)


def _numbers(values: Sequence[float | None]) -> str:
    return ", ".join("-" if value is None else f"{value:.3g}" for value in values)


# --- optimize ---------------------------------------------------------------------------------------------------------


@app.command("optimize")
def optimize(
    runs: RunsArgument,
    scores: ScoresOption = None,
    on: OnOption = "run",
    arms: ArmColumnsOption = None,
    columns: ColumnsOption = None,
    names: NamesOption = "run",
    target: TargetOption = None,
    lower: LowerOption = None,
    surrogate: SurrogateOption = "best",
    algorithm: AlgorithmOption = None,
    cap: CapOption = None,
    floor: FloorOption = None,
    prior: PriorOption = None,
    sizes: SizesOption = None,
    steps: StepsOption = None,
    batch: BatchOption = None,
    epochs: EpochsOption = None,
    kl: KlOption = 0.0,
    trust: TrustOption = None,
    candidates: CountOption = 5,
    guard: GuardOption = 1.0,
    seed: SeedOption = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the recommended weights to this JSON file.")
    ] = None,
    store: MixStoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Find the mixture to train on.

    A predicted mixture is recommended only where it beats the best measured one by more than the noise; else that one
    is. Its weights feed `curri select --strategy modomodo --param weights=@weights.json`.
    """
    from curri.exchange.mixture_runs import write_weights
    from curri.reports.documents import finite
    from curri.reports.landscape import trade_offs
    from curri.reports.mixture import recommendation_part
    from curri.reports.paper import paper_or_reason

    _mixtures.check_algorithm(algorithm)
    source = _mixtures.read_runs_file(
        runs, scores=scores, on=on, arms=arms, columns=columns, wanted=target, names=names
    )
    limits = _mixtures.limits_of(
        source.runs.arms,
        cap=cap,
        floor=floor,
        prior=prior,
        sizes=sizes,
        store=store,
        steps=steps,
        batch=batch,
        epochs=epochs,
        kl=kl,
        trust=trust,
    )
    study = _study(source, target, lower, surrogate=surrogate, limits=limits, count=candidates, guard=guard, seed=seed)
    with progress("optimize", quiet=as_json) as update:
        study.tell = update
        found = recommendation_part(study)
        found["tradeoff"] = finite(trade_offs(study))
        found["notes"] = list(source.notes)
        found["paper"] = finite(paper_or_reason(study)) if algorithm is not None else None
    if output is not None:
        write_weights(output, found["recommendation"]["weights"])
    if as_json:
        document({**found, "output": None if output is None else str(output)})
        return
    _tell_optimum(found)
    if output is not None and str(output) != "-":
        say("", f"wrote {output}; use it: curri select --strategy modomodo --param weights=@{output} -n 512")


def _tell_optimum(found: Mapping[str, Any]) -> None:
    from curri.reports.wording import deciding, mixture_in_words

    say(*(f"note: {note}" for note in found["notes"]))
    write_line(printable(found["headline"]))
    for paragraph in found["lead"]:
        write_line(printable(paragraph))
    write_line("")
    decides = deciding(found)
    rows = [
        [mixture["name"], *_prediction(mixture["predictions"][decides["name"]]), f"{mixture['distance']:.0%}",
         mixture_in_words(mixture["weights"])]
        for mixture in found["mixtures"]
    ]  # fmt: skip
    headings = ["mixture", printable(decides["name"]), "90 % of runs", "gain", "±", "distance", "weights"]
    for line in table(headings, rows):
        write_line(line)
    others = found["targets"][1:]
    if others:
        write_line("")
        rows = [
            [mixture["name"], *(mixture["predictions"][each["name"]]["mean"] for each in others)]
            for mixture in found["mixtures"]
        ]
        for line in table(["mixture", *(printable(each["name"]) for each in others)], rows):
            write_line(line)
    if found["tradeoff"] is not None:
        _write_front(found["tradeoff"])
    if found["paper"] is not None:
        write_line("")
        _write_paper(found["paper"])
    say(
        "gain: predicted improvement over the best measured mixture, ± holds 90 %; distance: share of training prompts "
        "that differs from the nearest measured mixture"
    )


def _write_front(found: Mapping[str, Any]) -> None:
    from curri.reports.wording import mixture_in_words

    write_line("")
    write_line("The predicted front: along it, one target gains only at another's cost.")
    rows = [[*point["mean"], mixture_in_words(point["weights"])] for point in found["points"]]
    for line in table([*(printable(name) for name in found["targets"]), "weights"], rows):
        write_line(line)


def _prediction(found: Mapping[str, Any]) -> list[Any]:
    give = None if found["gain_std"] is None else 1.645 * found["gain_std"]
    return [found["mean"], f"{found['low']:.4g} to {found['high']:.4g}", found["gain"], give]


# --- report -----------------------------------------------------------------------------------------------------------


@app.command("report")
def report(
    runs: RunsArgument,
    scores: ScoresOption = None,
    on: OnOption = "run",
    arms: ArmColumnsOption = None,
    columns: ColumnsOption = None,
    names: NamesOption = "run",
    target: TargetOption = None,
    lower: LowerOption = None,
    surrogate: SurrogateOption = "best",
    algorithm: AlgorithmOption = None,
    cap: CapOption = None,
    floor: FloorOption = None,
    prior: PriorOption = None,
    sizes: SizesOption = None,
    steps: StepsOption = None,
    batch: BatchOption = None,
    epochs: EpochsOption = None,
    kl: KlOption = 0.0,
    trust: TrustOption = None,
    candidates: CountOption = 5,
    guard: GuardOption = 1.0,
    seed: SeedOption = 0,
    output: ReportOutputOption = None,
    format: ReportFormatOption = None,
    store: MixStoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the report that a team decides on: one HTML file that opens from disk, offline.

    The same content is to be had as Markdown and as JSON.
    """
    from curri.reports import mixture_report

    _mixtures.check_algorithm(algorithm)
    kind = report_format(format, output)
    source = _mixtures.read_runs_file(
        runs, scores=scores, on=on, arms=arms, columns=columns, wanted=target, names=names
    )
    limits = _mixtures.limits_of(
        source.runs.arms,
        cap=cap,
        floor=floor,
        prior=prior,
        sizes=sizes,
        store=store,
        steps=steps,
        batch=batch,
        epochs=epochs,
        kl=kl,
        trust=trust,
    )
    study = _study(source, target, lower, surrogate=surrogate, limits=limits, count=candidates, guard=guard, seed=seed)
    settings = {
        "target": list(target or [study.deciding.name]),
        "lower": [each.name for each in study.targets if each.lower],
        "surrogate": surrogate,
        "algorithm": algorithm,
        "cap": dict(limits.caps),
        "floor": dict(limits.floors),
        "prior": None if limits.prior is None else dict(limits.prior),
        "sizes": dict(limits.sizes),
        "steps": steps,
        "batch": batch,
        "epochs-limit": epochs,
        "kl": kl,
        "trust": trust,
        "count": candidates,
        "guard": guard,
        "seed": seed,
    }
    with progress("report", quiet=as_json) as update:
        study.tell = update
        found = mixture_report(study, source, settings, paper=algorithm is not None)
    deliver(found, kind, output, as_json=as_json)
