"""Options and steps that the commands of ``curri mix`` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from curri.cli._options import DEFAULT_STORE, opened
from curri.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from curri.exchange.mixture_runs import RunsFile
    from curri.reports.study import Limits

RunsArgument: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="RUNS", help="The CSV file of runs with their scores, or -.", show_default=False),
]
ScoresOption: TypeAlias = Annotated[
    Path | None, typer.Option("--scores", help="A second file with the scores, where they are not in the first.")
]
OnOption: TypeAlias = Annotated[str, typer.Option("--on", help="The column by which two files are matched.")]
ArmColumnsOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--arms",
        help="Which columns are weights: names, or a pattern whose star is the arm's name, such as share_*.",
        show_default="weight:* or w_*",
    ),
]
ColumnsOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--columns", help="Which columns are scores, in the same manner.", show_default="all others"),
]
NamesOption: TypeAlias = Annotated[str, typer.Option("--names", help="The column with the names of the runs.")]
TargetOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        "-t",
        help="What matters: a column, or NAME=0.5*lisa+0.3*sat, or NAME=mean(loss_*). May be repeated; the first "
        "decides.",
        show_default="the only column",
    ),
]
LowerOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--lower", help="A target where less is better, such as a loss; * for all. May be repeated."),
]
SurrogateOption: TypeAlias = Annotated[
    str, typer.Option("--surrogate", help="What predicts a score; `curri mix fit RUNS --compare` shows them all.")
]
AlgorithmOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--algorithm", help='"paper" adds what MoDoMoDo\'s Algorithm 4 and its heuristics say, to compare.'),
]
CapOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--cap", help="Largest weights: math=0.5,code=0.3, or *=0.4 for all.")
]
FloorOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--floor", help="Smallest weights, in the same manner.")
]
PriorOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--prior", help="The natural mixture: natural (by size), uniform, math=0.7,code=0.3, or a JSON file."),
]
SizesOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--sizes", help="Prompts in each dataset: math=12000,code=8000, a JSON file, or store."),
]
StepsOption: TypeAlias = Annotated[int | None, typer.Option("--steps", min=1, help="Steps of the training run.")]
BatchOption: TypeAlias = Annotated[int | None, typer.Option("--batch", min=1, help="Prompts of a step.")]
EpochsOption: TypeAlias = Annotated[
    float | None,
    typer.Option("--epochs-limit", help="How often a dataset may be gone through; needs sizes, --steps and --batch."),
]
KlOption: TypeAlias = Annotated[
    float, typer.Option("--kl", help="Cost of distance from the prior: λ·KL(w ‖ prior), in units of the target.")
]
TrustOption: TypeAlias = Annotated[
    float | None,
    typer.Option("--trust", help="Look only at mixtures that differ from a measured one in this share of prompts."),
]
CountOption: TypeAlias = Annotated[int, typer.Option("--count", min=1, help="How many candidates to show.")]
GuardOption: TypeAlias = Annotated[
    float, typer.Option("--guard", help="How many times the noise a predicted gain must exceed to be recommended.")
]
MixStoreOption: TypeAlias = Annotated[
    Path,
    typer.Option("--store", envvar="CURRI_STORE", help="Where sizes are looked up, only for --sizes store."),
]
SeedOption: TypeAlias = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random decision.")]

PAPER = "paper"


def check_algorithm(algorithm: str | None) -> None:
    """Refuse an unknown algorithm."""
    if algorithm not in (None, PAPER):
        raise typer.BadParameter(f'--algorithm must be "{PAPER}"; got "{algorithm}"')


def sizes_of(text: str | None, store: Path, arms: Sequence[str] | None) -> dict[str, float]:
    """Prompts in each dataset; empty where nobody said."""
    from curri.exchange.mixture_runs import named_numbers

    if text is None:
        return {}
    if text != "store":
        return named_numbers(text, option="--sizes", arms=arms)
    held = arms_of_store(store)
    missing = [arm for arm in arms or [] if arm not in held]
    if missing:
        raise InvalidInput(
            f'the store {store} has no prompts of "{missing[0]}"; its arms are {", ".join(sorted(held)) or "none"}',
            hint="give the sizes of all datasets: --sizes math=12000,code=8000",
        )
    return {arm: size for arm, size in held.items() if arms is None or arm in arms}


def arms_of_store(store: Path) -> dict[str, float]:
    """Arm → prompts of the store that may be selected."""
    with opened(store, read_only=True) as opened_store:
        pool = opened_store.pool()
        names, sizes = list(pool.arm_names), pool.arm_sizes.tolist()
    return {str(name): float(size) for name, size in zip(names, sizes, strict=True) if size > 0}


def bounds_of(texts: Sequence[str] | None, option: str, arms: Sequence[str]) -> dict[str, float]:
    """Caps or floors; a star stands for all arms, and names go before it."""
    from curri.exchange.mixture_runs import named_numbers

    found: dict[str, float] = {}
    for text in texts or []:
        given = named_numbers(text, option=option, arms=[*arms, "*"])
        everywhere = given.pop("*", None)
        if everywhere is not None:
            found = dict.fromkeys(arms, everywhere) | found
        found |= given
    return found


def prior_of(text: str | None, sizes: Mapping[str, float], arms: Sequence[str]) -> dict[str, float] | None:
    """The natural mixture as it was asked for; None where it was not."""
    from curri.exchange.mixture_runs import named_numbers

    if text is None:
        return None
    if text == "uniform":
        return dict.fromkeys(arms, 1.0)
    if text != "natural":
        return named_numbers(text, option="--prior", arms=arms)
    missing = [arm for arm in arms if arm not in sizes]
    if missing:
        raise InvalidInput(
            f'natural proportions need the size of every dataset; that of "{missing[0]}" is not known',
            hint="--sizes math=12000,code=8000, or --sizes store --store prompts.duckdb",
        )
    return dict(sizes)


def limits_of(
    arms: Sequence[str],
    *,
    cap: Sequence[str] | None,
    floor: Sequence[str] | None,
    prior: str | None,
    sizes: str | None,
    store: Path = DEFAULT_STORE,
    steps: int | None,
    batch: int | None,
    epochs: float | None,
    kl: float = 0.0,
    trust: float | None = None,
) -> Limits:
    """Everything that bounds a mixture, read from the options."""
    from curri.reports.study import Limits

    if (steps is None) != (batch is None):
        raise typer.BadParameter("--steps and --batch go together: the prompts of a run are their product")
    held = sizes_of(sizes, store, arms)
    return Limits(
        caps=bounds_of(cap, "--cap", arms),
        floors=bounds_of(floor, "--floor", arms),
        sizes=held,
        prompts=None if steps is None or batch is None else float(steps * batch),
        max_epochs=epochs,
        prior=prior_of(prior, held, arms),
        kl=kl,
        radius=trust,
    )


def read_runs_file(
    path: str,
    *,
    scores: Path | None,
    on: str,
    arms: str | None,
    columns: str | None,
    wanted: Sequence[str] | None,
    names: str,
) -> RunsFile:
    """The runs that were named."""
    from curri.exchange.mixture_runs import read_runs

    return read_runs(path, scores=scores, on=on, arms=arms, columns=columns, wanted=wanted or [], names=names)
