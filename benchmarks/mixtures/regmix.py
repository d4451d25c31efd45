"""RegMix's official split: held-out figures of every surrogate, trained on the same rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.mixtures.data import first
from benchmarks.mixtures.tables import Shown
from curri import mixtures
from curri.errors import InvalidData, MissingExtra
from curri.mixtures.surrogates import QuadraticLeastSquares

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from benchmarks.mixtures.data import RegMix

ALL = ("best", "lightgbm", "gp", "gp-shrunk", "gp-ard", "loglinear", "exponential", "olmix", "quadratic")
PLAIN = ("linear", "quadratic-ols", "mean")
SHORT = ("best", "lightgbm", "loglinear", "linear")
FEW = (18, 36, 54, 96, 192)
ONE = "pile_cc"


class Asked(NamedTuple):
    """What is being measured."""

    official: dict[str, Future[dict[str, Any]]]
    few: dict[str, dict[str, Future[dict[str, Any]]]]
    search: Future[dict[str, Any]] | None

    def result(self) -> dict[str, Any]:
        """All figures; None for what is not defined."""
        return {
            "official": {name: each.result() for name, each in self.official.items()},
            "few": {name: {n: each.result() for n, each in sizes.items()} for name, sizes in self.few.items()},
            "search": self.search and self.search.result(),
        }


def ask(pool: Executor, data: RegMix, *, quick: bool) -> Asked:
    """Measure in the pool's processes."""
    names, sizes = (SHORT, (18, 54)) if quick else ((*ALL, *PLAIN), FEW)
    return Asked(
        {name: pool.submit(_tried, data, name, len(data.train)) for name in names},
        {name: {str(n): pool.submit(_tried, data, name, n) for n in sizes} for name in names},
        None if quick else pool.submit(_search, data),
    )


def _tried(data: RegMix, name: str, n: int) -> dict[str, Any]:
    """Fit to the first n training rows, predict the 256 test rows; or why not."""
    try:
        return figures(data, name, n)
    except MissingExtra as error:
        return {"not": error.message}
    except InvalidData:
        return {"not": "too few"}


def figures(data: RegMix, name: str, n: int) -> dict[str, Any]:
    """Held-out figures of one surrogate on 13 losses and on their mean, built from the fits."""
    # Plain quadratics also below their number of parameters, to show what happens.
    settings: dict[str, Any] = {"allow_fewer": True} if name == QuadraticLeastSquares.name else {}
    start, used = time.perf_counter(), time.process_time()
    fits = mixtures.fit(first(data.train, n), name, columns=data.losses, **settings)
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    singles = {}
    for loss in data.losses:
        target = mixtures.Target(loss, {loss: 1.0}, lower=True)
        singles[loss] = mixtures.quality_of(data.test.scores(loss), *fits.predict(target, data.test.weights))
    measured = np.mean([data.test.scores(loss) for loss in data.losses], axis=0)
    together = mixtures.quality_of(measured, *fits.predict(mean_of(data.losses), data.test.weights))
    return {
        "losses": {loss: _quality(each) for loss, each in singles.items()},
        "mean": _quality(together),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
    }


def mean_of(losses: list[str]) -> mixtures.Target:
    """The mean of the losses, less being better."""
    return mixtures.Target("mean", dict.fromkeys(losses, 1.0 / len(losses)), lower=True)


def _quality(found: mixtures.Quality) -> dict[str, float | None]:
    values = {"spearman": found.spearman, "r2": found.r2, "mse": found.rmse**2, "coverage": found.coverage[0.95]}
    return {key: round(value, 6) if np.isfinite(value) else None for key, value in values.items()}


def _search(data: RegMix) -> dict[str, Any]:
    """Fit and optimise for all 13 losses and their mean."""
    start, used = time.perf_counter(), time.process_time()
    fits = mixtures.fit(data.train)
    limits = mixtures.constraints(data.train.arms)
    rows = []
    for target in [*[mixtures.Target(loss, {loss: 1.0}, lower=True) for loss in data.losses], mean_of(data.losses)]:
        found = mixtures.recommend(fits, target, limits)
        top = np.argsort(-found.weights)[:3]
        rows.append(
            {
                "loss": target.name,
                "source": found.source,
                "best_measured": round(found.smoothed, 6),
                "gain": round(found.candidates[0].gain, 6),
                "threshold": round(found.threshold, 6),
                "distance": round(found.chosen.distance, 4),
                "largest": {data.train.arms[arm]: round(float(found.weights[arm]), 4) for arm in top},
            }
        )
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    return {"rows": rows, "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}


# --- what is shown ----------------------------------------------------------------------------------------------------


def over(found: dict[str, Any], key: str) -> list[float]:
    """A figure of every loss for which it is defined."""
    return [each[key] for each in found["losses"].values() if each[key] is not None]


def median(found: dict[str, Any], key: str) -> float:
    """Over the losses; NaN where it is defined for none."""
    return float(np.median(over(found, key))) if over(found, key) else float("nan")


def shown(result: dict[str, Any]) -> list[Shown]:
    """The tables."""
    return [
        _official(result["official"]),
        _few(result["few"]),
        *([_searched(result["search"])] if result["search"] else []),
    ]


def _official(result: dict[str, Any]) -> Shown:
    heads = ["surrogate", "Spearman", "R²", "MSE", "Pile-CC ρ", "Pile-CC R²", "mean: ρ", "mean: R²", "95 %", "s"]
    rows = []
    for name, found in result.items():
        if "not" in found:
            rows.append([name, found["not"]])
            continue
        cells = [
            f"{_number(median(found, key))} (≥ {_number(min(over(found, key), default=None))})"
            for key in ("spearman", "r2")
        ]
        cells.append(f"{np.mean(over(found, 'mse')):.4f} (≤ {max(over(found, 'mse')):.4f})")
        cells += [_number(part[key]) for part in (found["losses"][ONE], found["mean"]) for key in ("spearman", "r2")]
        rows.append([name, *cells, f"{np.mean(over(found, 'coverage')):.3f}", f"{found['cpu_seconds']:.1f}"])
    note = (
        "Spearman and R²: median of 13 losses (and the least); MSE: mean (and the largest). `mean`: the mean of the 13 "
        "losses, built from their fits. 95 %: share of the test rows inside that interval. s: CPU seconds for 13 fits."
    )
    return Shown("RegMix, 512 training rows → 256 test rows", heads, rows, [note])


def _few(result: dict[str, Any]) -> Shown:
    sizes = list(next(iter(result.values())))
    rows = []
    for name, by_size in result.items():
        cells = []
        for found in by_size.values():
            if "not" in found:
                cells.append(found["not"] if found["not"] == "too few" else "not installed")
                continue
            one = found["losses"][ONE]
            cells.append(" / ".join(_number(each, 3) for each in (one["spearman"], one["r2"], found["mean"]["r2"])))
        rows.append([name, *cells])
    title = "RegMix, first n training rows → the same 256: Pile-CC Spearman / Pile-CC R² / R² of the mean of 13 losses"
    return Shown(title, ["surrogate", *sizes], rows)


def _searched(result: dict[str, Any]) -> Shown:
    heads = ["loss", "recommended", "best measured", "gain", "to exceed", "distance", "largest weights"]
    rows = []
    for row in result["rows"]:
        mix = ", ".join(f"{arm} {weight:.2f}" for arm, weight in row["largest"].items())
        numbers = [f"{row[key]:.3f}" for key in ("best_measured", "gain", "threshold")]
        rows.append([row["loss"], row["source"], *numbers, f"{row['distance']:.2f}", mix])
    note = (
        f"All of it, fits included, took {result['seconds']:.0f} s ({result['cpu_seconds']:.0f} s of CPU time). Lower "
        "is better; gain: predicted, on the best measured mixture; the candidate is recommended where its gain exceeds "
        "the larger of the noise of a run and its own uncertainty."
    )
    return Shown("RegMix, 512 rows: what is recommended for each loss", heads, rows, [note])


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"
