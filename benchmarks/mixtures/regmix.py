"""RegMix's official split: held-out figures of every surrogate, trained on the same rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.mixtures.data import first
from benchmarks.mixtures.tables import table
from curri import mixtures
from curri.errors import InvalidData, MissingExtra
from curri.mixtures.surrogates import QuadraticLeastSquares

if TYPE_CHECKING:
    from benchmarks.mixtures.data import RegMix
    from curri.mixtures import Runs

ALL = ("best", "lightgbm", "gp", "gp-shrunk", "gp-ard", "loglinear", "exponential", "olmix", "quadratic")
PLAIN = ("linear", "quadratic-ols", "mean")
FEW = (18, 36, 54, 96, 192)
ONE = "pile_cc"


class Figures(NamedTuple):
    """Held-out figures of one surrogate on 13 losses."""

    spearman: float
    r2: float
    worst_r2: float
    mse: float
    one_spearman: float
    one_r2: float
    mean_spearman: float
    mean_r2: float
    coverage: float
    seconds: float


def _fit(train: Runs, name: str, columns: list[str]) -> mixtures.Fits:
    """As `mixtures.fit`; plain quadratics also below their number of parameters, to show what happens."""
    settings = {"allow_fewer": True} if name in {QuadraticLeastSquares.name, "scheffe"} else {}
    return mixtures.fit(train, name, columns=columns, **settings)


def figures(data: RegMix, name: str, n: int) -> Figures:
    """Fit to the first n training rows, predict the 256 test rows."""
    start = time.perf_counter()
    fits = _fit(first(data.train, n), name, data.losses)
    seconds = time.perf_counter() - start
    singles = []
    for loss in data.losses:
        target = mixtures.Target(loss, {loss: 1.0}, lower=True)
        singles.append(mixtures.quality_of(data.test.scores(loss), *fits.predict(target, data.test.weights)))
    average = mixtures.Target("mean", dict.fromkeys(data.losses, 1.0 / len(data.losses)), lower=True)
    measured = np.mean([data.test.scores(loss) for loss in data.losses], axis=0)
    together = mixtures.quality_of(measured, *fits.predict(average, data.test.weights))
    one = singles[data.losses.index(ONE)]
    return Figures(
        float(np.nanmedian([each.spearman for each in singles])),
        float(np.median([each.r2 for each in singles])),
        min(each.r2 for each in singles),
        float(np.mean([each.rmse**2 for each in singles])),
        one.spearman,
        one.r2,
        together.spearman,
        together.r2,
        float(np.mean([each.coverage[0.95] for each in singles])),
        seconds,
    )


def official(data: RegMix, names: tuple[str, ...]) -> None:
    """512 → 256."""
    heads = [
        "surrogate",
        "Spearman",
        "R²",
        "least R²",
        "MSE",
        "Pile-CC ρ",
        "Pile-CC R²",
        "mean ρ",
        "mean R²",
        "95 %",
        "s",
    ]
    lines = []
    for name in names:
        try:
            found = figures(data, name, len(data.train))
        except MissingExtra as error:
            lines.append([name, error.message])
            continue
        shown = [f"{value:.4f}" for value in found[:8]]
        lines.append([name, *shown, f"{found.coverage:.3f}", f"{found.seconds:.1f}"])
    print("\nRegMix, 512 training rows → 256 test rows; medians over 13 losses, MSE their mean; `mean` is the mean of")
    print("the 13 losses, built from the fits; 95 %: coverage of that interval; s: seconds for 13 fits")
    print(table(heads, lines))


def few(data: RegMix, names: tuple[str, ...], sizes: tuple[int, ...]) -> None:
    """First n → 256: Pile-CC, and the mean of 13 losses."""
    lines = []
    for name in names:
        cells = []
        for n in sizes:
            try:
                found = figures(data, name, n)
                cells.append(f"{found.one_spearman:.3f} / {found.one_r2:.3f} / {found.mean_r2:.3f}")
            except (InvalidData, MissingExtra) as error:
                cells.append("too few" if isinstance(error, InvalidData) else "not installed")
        lines.append([name, *cells])
    print("\nRegMix, first n training rows → the same 256: Pile-CC Spearman / Pile-CC R² / R² of the mean of 13 losses")
    print(table(["surrogate", *[str(n) for n in sizes]], lines))


def search(data: RegMix) -> None:
    """Fit and optimise for all 13 losses and their mean."""
    start = time.perf_counter()
    fits = mixtures.fit(data.train)
    targets = [mixtures.Target(loss, {loss: 1.0}, lower=True) for loss in data.losses]
    targets.append(mixtures.Target("mean", dict.fromkeys(data.losses, 1.0 / len(data.losses)), lower=True))
    limits = mixtures.constraints(data.train.arms)
    lines = []
    for target in targets:
        found = mixtures.recommend(fits, target, limits)
        top = np.argsort(-found.weights)[:3]
        mix = ", ".join(f"{data.train.arms[arm]} {found.weights[arm]:.2f}" for arm in top)
        shown = [f"{each:.3f}" for each in (found.smoothed, found.candidates[0].gain, found.noise.std)]
        lines.append([target.name, found.source, *shown, f"{found.chosen.distance:.2f}", mix])
    seconds = time.perf_counter() - start
    print(f"\nFit and optimise for all of them: {seconds:.0f} s. Lower is better; noise is the surrogate's estimate")
    print(table(["loss", "recommended", "best measured", "gain", "noise", "distance", "largest weights"], lines))


def run(data: RegMix, *, quick: bool) -> None:
    """All of it."""
    if quick:
        official(data, ("best", "lightgbm", "loglinear", "linear"))
        few(data, ("best", "lightgbm", "loglinear", "linear"), (18, 54))
        return
    official(data, (*ALL, *PLAIN))
    few(data, (*ALL, *PLAIN), FEW)
    search(data)
