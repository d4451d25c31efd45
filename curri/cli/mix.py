"""``curri mix``: which mixture of datasets to train on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curri.cli import _mixtures
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
from curri.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from curri.exchange.mixture_runs import RunsFile
    from curri.mixtures import Design, Need
    from curri.reports.study import Limits, Study

app = typer.Typer(
    help="Find the mixture of datasets to train on: plan proxy runs, predict mixtures, choose one, write the report.",
    no_args_is_help=True,
)

_FORMATS = {".html": "html", ".htm": "html", ".md": "md", ".json": "json"}
_SHOWN = 12
_METHODS = ("auto", "seeds", "dirichlet", "space")


# --- design -----------------------------------------------------------------------------------------------------------


@app.command("design")
def design(
    arms: Annotated[
        str | None,
        typer.Option("--arms", help="The datasets: math,code,chat.", show_default="the arms of the store"),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", "-n", min=1, help="How many runs in all, replicates included.")] = 24,
    replicates: Annotated[
        int, typer.Option("--replicates", min=0, help="How many of them repeat another one, to measure the noise.")
    ] = 2,
    method: Annotated[
        str, typer.Option("--method", help="auto, or one kind only: seeds (MoDoMoDo), dirichlet (RegMix), space.")
    ] = "auto",
    targets: Annotated[str, typer.Option("--targets", help="Columns of scores to fill in: lisa,sat.")] = "score",
    prior: PriorOption = None,
    sizes: SizesOption = None,
    cap: CapOption = None,
    floor: FloorOption = None,
    steps: StepsOption = None,
    batch: BatchOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = 0,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The CSV file to write (- for standard output).")
    ] = Path("runs.csv"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file, with the scores in it.")] = False,
    store: MixStoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Plan the proxy runs: which mixtures to train, as a file to fill in.

    Says which surrogates so many runs are enough for, and which runs would go through a dataset more than once.
    """
    from curri.exchange.mixture_runs import write_design
    from curri.mixtures import make_design, plan_runs
    from curri.mixtures.runs import distinct_rows
    from curri.reports.study import bounds

    if method not in _METHODS:
        raise typer.BadParameter(f"--method must be one of {', '.join(_METHODS)}; got {method}")
    if str(output) != "-" and output.exists() and not force:
        raise InvalidInput(f"{output} is there already, perhaps with scores", hint="name another file, or say --force")
    names = _split(arms, "--arms") if arms is not None else sorted(_mixtures.arms_of_store(store))
    limits = _mixtures.limits_of(
        names,
        cap=cap,
        floor=floor,
        prior=prior,
        sizes=sizes,
        store=store,
        steps=steps,
        batch=batch,
        epochs=epochs,
    )
    lower, upper = bounds(limits, names)
    plan = make_design(
        len(names),
        runs,
        method=method,  # type: ignore[arg-type]  # checked above
        prior=limits.natural(names),
        lower=lower,
        upper=upper,
        replicates=min(replicates, runs - 1),
        seed=seed,
    )
    run_names = _design_names(plan, names)
    columns = _split(targets, "--targets")
    write_design(output, names, plan.weights, names=run_names, targets=columns)
    needs = plan_runs(len(names), len(distinct_rows(plan.weights)[0]))
    warnings = _exhausted(plan, limits, names, run_names)
    if as_json and str(output) != "-":
        document(_design_document(plan, names, run_names, needs, warnings, output))
    else:
        _tell_design(plan, names, needs, warnings, output)


def _split(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise typer.BadParameter(f"{option} must be distinct names separated by commas; got {text}")
    return names


def _design_names(plan: Design, arms: Sequence[str]) -> list[str]:
    """What each run is, in a word or two."""
    import numpy as np

    found: list[str] = []
    counts: dict[str, int] = {}
    for kind, row in zip(plan.kinds, plan.weights, strict=True):
        if kind == "single":
            name = f"only {arms[int(np.argmax(row))]}"
        elif kind == "without":
            name = f"without {arms[int(np.argmin(row))]}"
        elif kind == "replicate":
            first = next(i for i, other in enumerate(plan.weights) if np.array_equal(other, row))
            name = f"{found[first]} again"
        else:
            counts[kind] = counts.get(kind, 0) + 1
            name = kind if kind in ("natural", "uniform") else f"{kind} {counts[kind]}"
        while name in found:
            name += " *" if kind != "replicate" else " again"
        found.append(name)
    return found


def _exhausted(plan: Design, limits: Limits, arms: Sequence[str], names: Sequence[str]) -> list[dict[str, Any]]:
    """Runs that go through a dataset more often than may be, those that do it most first."""
    import numpy as np

    from curri.mixtures import exhaustion

    if limits.prompts is None or not limits.sizes:
        return []
    sizes = np.array([limits.sizes.get(arm, np.inf) for arm in arms])
    found = exhaustion(plan.weights, sizes, 1, limits.prompts)
    rows = [
        {"run": name, "arm": arms[int(first)], "times": float(each.max())}
        for name, each, first in zip(names, found.epochs, found.first, strict=True)
        if each.max() > (limits.max_epochs or 1.0) + 1e-9
    ]
    return sorted(rows, key=lambda row: -float(row["times"]))


def _design_document(
    plan: Design,
    arms: Sequence[str],
    names: Sequence[str],
    needs: Sequence[Need],
    warnings: Sequence[Mapping[str, Any]],
    output: Path,
) -> dict[str, Any]:
    import dataclasses

    rows = zip(names, plan.kinds, plan.weights.tolist(), strict=True)
    return {
        "output": str(output),
        "arms": list(arms),
        "runs": [{"run": name, "kind": kind, "weights": dict(zip(arms, row, strict=True))} for name, kind, row in rows],
        "needs": [dataclasses.asdict(need) for need in needs],
        "repeats": list(warnings),
    }


def _tell_design(
    plan: Design, arms: Sequence[str], needs: Sequence[Need], warnings: Sequence[Mapping[str, Any]], output: Path
) -> None:
    kinds = {kind: plan.kinds.count(kind) for kind in dict.fromkeys(plan.kinds)}
    shown = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    say(f"{count(len(plan.kinds), 'run')} of {count(len(arms), 'dataset')}: {shown}")
    rows = [[need.surrogate, need.minimum, need.sensible, _verdict(need)] for need in needs]
    say("", *table(["surrogate", "needs at least", "better", "these runs are"], rows))
    if "replicate" not in kinds:
        say("", "no run is repeated, so the noise will be a guess: --replicates 2")
    if warnings:
        say("", f"{count(len(warnings), 'run')} would go through a dataset more often than once:")
        say(*(f"  {row['run']}: {row['arm']} {row['times']:.1f} times" for row in warnings[:_SHOWN]))
        say(*([f"  … and {len(warnings) - _SHOWN} more"] if len(warnings) > _SHOWN else []))
        say(
            "  where training stops there, the score tells of a shorter run and not of the mixture;",
            "  --epochs-limit 1 keeps the plan away from that",
        )
    if str(output) != "-":
        say("", f"wrote {output}; train these mixtures, fill in the scores, then: curri mix fit {output}")


def _verdict(need: Need) -> str:
    return "enough" if need.enough else "few" if need.possible else "too few"


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
        _mixtures.teller(study, update)
        found = _fit_document(study, source, compare=compare, paper=algorithm is not None)
    if as_json:
        document(found)
    else:
        _tell_fit(found)


def _study(
    source: RunsFile, target: list[str] | None, lower: list[str] | None, *, everything: bool = False, **settings: Any
) -> Study:
    from curri.reports.study import Study, read_targets

    wanted = read_targets(target or [], list(source.runs.targets), lower=lower or [], everything=everything)
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
        writeprintable(line)
    if found["compared"] is not None:
        writeprintable("")
        for line in table(["surrogate", *_QUALITY, "remark"], [_compared(each) for each in found["compared"]]):
            writeprintable(line)
    if found["paper"] is not None:
        writeprintable("")
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
    writeprintable("MoDoMoDo's Algorithm 4: R² of its splits on their own test rows " + _numbers(paper["test_r2"]))
    rows = [
        [place, each["predicted"], mixture_in_words(each["weights"])]
        for place, each in enumerate(paper["candidates"], start=1)
    ]
    rows += [[each["name"], each["predicted"], mixture_in_words(each["weights"])] for each in paper["heuristics"]]
    for line in table(["candidate", "predicted", "weights"], [[str(row[0]), *row[1:]] for row in rows]):
        writeprintable(line)


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
    from curri.reports.mixture import finite, recommendation_part
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
        _mixtures.teller(study, update)
        found = recommendation_part(study)
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
    writeprintable(printable(found["headline"]))
    for paragraph in found["lead"]:
        writeprintable(printable(paragraph))
    writeprintable("")
    decides = deciding(found)
    rows = [
        [mixture["name"], *_prediction(mixture["predictions"][decides["name"]]), f"{mixture['distance']:.0%}",
         mixture_in_words(mixture["weights"])]
        for mixture in found["mixtures"]
    ]  # fmt: skip
    headings = ["mixture", printable(decides["name"]), "90 % of runs", "gain", "±", "distance", "weights"]
    for line in table(headings, rows):
        writeprintable(line)
    others = found["targets"][1:]
    if others:
        writeprintable("")
        rows = [
            [mixture["name"], *(mixture["predictions"][each["name"]]["mean"] for each in others)]
            for mixture in found["mixtures"]
        ]
        for line in table(["mixture", *(printable(each["name"]) for each in others)], rows):
            writeprintable(line)
    if found["paper"] is not None:
        writeprintable("")
        _write_paper(found["paper"])
    say(
        "gain: predicted improvement over the best measured mixture, ± holds 90 %; distance: share of training prompts "
        "that differs from the nearest measured mixture"
    )


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
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The file to write (- for standard output).", show_default="report.html"),
    ] = None,
    format: Annotated[
        str | None, typer.Option("--format", help="html, md or json.", show_default="by the file's ending, else html")
    ] = None,
    store: MixStoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the report that a team decides on: one HTML file that opens from disk, offline.

    The same content is to be had as Markdown and as JSON.
    """
    from curri.exchange.mixture_runs import write_text
    from curri.reports import mixture_report

    _mixtures.check_algorithm(algorithm)
    kind = _format(format, output)
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
        _mixtures.teller(study, update)
        found = mixture_report(study, source, settings, paper=algorithm is not None)
    target_file = output or (None if as_json else Path("report." + kind))
    if target_file is not None:
        write_text(_rendered(found, kind), target_file)
    if as_json:
        document({**found, "output": None if target_file is None else str(target_file)})
    elif str(target_file) != "-":
        say(found["headline"], f"wrote {target_file}")


def _format(asked: str | None, output: Path | None) -> str:
    found = asked or (_FORMATS.get(output.suffix.casefold(), "html") if output is not None else "html")
    if found not in _FORMATS.values():
        raise typer.BadParameter(f"--format must be html, md or json; got {found}")
    return found


def _rendered(found: Mapping[str, Any], kind: str) -> str:
    import json

    from curri.reports import render_markdown, render_page

    if kind == "json":
        return json.dumps(found, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    return render_markdown(found) if kind == "md" else render_page(found)
