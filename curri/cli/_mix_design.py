"""``curri mix design``: which proxy runs to make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curri.cli import _mixtures
from curri.cli._mixtures import (
    BatchOption,
    CapOption,
    EpochsOption,
    FloorOption,
    MixStoreOption,
    PriorOption,
    SeedOption,
    SizesOption,
    StepsOption,
)
from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption
from curri.cli._output import count, document, say, table
from curri.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from curri.mixtures import Design, Need
    from curri.reports.study import Limits

_SHOWN = 12
_METHODS = ("auto", "seeds", "dirichlet", "space")


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
