"""From finished runs to one table of points, and from that to what is reported."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from benchmarks.learning import settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 10_000
CONTROL = "uniform"


def gathered(runs: Path) -> pl.DataFrame:
    """Every point of every finished run, a row each."""
    rows: list[dict[str, Any]] = []
    for path in sorted(runs.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        for number, point in enumerate(found["curve"]):
            arms = point.pop("arms")
            of_run = {"entry": found["entry"], "pool": found["pool"], "seed": found["seed"], "point": number}
            rows.append({**of_run, **point, "arms": [{"arm": arm, "accuracy": value} for arm, value in arms.items()]})
    return pl.DataFrame(rows).sort("pool", "entry", "seed", "point")


def updated(stored: Path, fresh: pl.DataFrame) -> pl.DataFrame:
    """The points of new runs, and the stored ones of all other runs."""
    if not stored.is_file():
        return fresh
    kept = pl.read_parquet(stored).join(fresh, on=["entry", "pool", "seed"], how="anti")
    return pl.concat([kept, fresh], how="vertical_relaxed").sort("pool", "entry", "seed", "point")


class Curve(NamedTuple):
    """Accuracy of one run.

    Attributes:
        tokens: generated so far, shape (points,).
        accuracy: on held-out problems, shape (points,).
    """

    tokens: Floats
    accuracy: Floats

    def upto(self, tokens: float) -> Curve:
        """The same, ending there."""
        before = self.tokens < tokens
        return Curve(np.append(self.tokens[before], tokens), np.append(self.accuracy[before], self.at(tokens)))

    def at(self, tokens: float) -> float:
        """Accuracy after so many tokens, between points on a straight line."""
        return float(np.interp(tokens, self.tokens, self.accuracy))

    def reaches(self, accuracy: float) -> float:
        """Tokens after which it first has that accuracy; infinite if never."""
        above = np.flatnonzero(self.accuracy >= accuracy)
        if not above.size:
            return float("inf")
        i = int(above[0])
        if i == 0:
            return float(self.tokens[0])
        share = (accuracy - self.accuracy[i - 1]) / (self.accuracy[i] - self.accuracy[i - 1])
        return float(self.tokens[i - 1] + share * (self.tokens[i] - self.tokens[i - 1]))


class Reached(NamedTuple):
    """Tokens to a target, next to ``uniform`` on the same pool with the same seed.

    Attributes:
        ratio: mean over the seeds; a seed that never gets there counts with all its tokens.
        low: lower end of the 95 % interval by bootstrap over the seeds.
        high: its upper end.
        censored: seeds that never get there: with any, ``ratio`` and ``high`` are lower bounds.
        seeds: all.
    """

    ratio: float
    low: float
    high: float
    censored: int
    seeds: int

    def __str__(self) -> str:
        """Such as "0.61 (0.55–0.70)"; "≥" and how many got there where some did not."""
        text = f"{self.ratio:.2f} ({self.low:.2f}–{self.high:.2f})"
        return f"≥ {text}, {self.seeds - self.censored} of {self.seeds}" if self.censored else text


class Row(NamedTuple):
    """One strategy on one pool.

    Attributes:
        entry: its name.
        reached: tokens to each of ``settings.TARGETS``.
        final: held-out accuracy at the end of each seed, shape (seeds,).
        gain: final accuracy less that of ``uniform``: mean, and the ends of the 95 % interval.
        live: share of trained groups with signal.
        probes: share of the tokens that went into probes.
        minutes: of one run, on one core; the median.
    """

    entry: str
    reached: tuple[Reached, ...]
    final: Floats
    gain: tuple[float, float, float]
    live: float
    probes: float
    minutes: float


def curves(points: pl.DataFrame, entry: str, pool: str, seeds: Sequence[int]) -> dict[int, Curve]:
    """Curves of an entry by seed; those that were run."""
    of_entry = points.filter((pl.col("entry") == entry) & (pl.col("pool") == pool))
    found = {}
    for seed in seeds:
        run = of_entry.filter(pl.col("seed") == seed).sort("point")
        if len(run):
            whole = Curve(run["tokens"].to_numpy().astype(float), run["accuracy"].to_numpy())
            found[seed] = whole.upto(settings.POOLS[pool].budget)
    return found


def rows(points: pl.DataFrame, pool: str, seeds: Sequence[int] = settings.REPORTED) -> list[Row]:
    """All entries of a pool that were run with every seed, ``uniform`` first."""
    control = curves(points, CONTROL, pool, seeds)
    made = []
    for entry in settings.ENTRIES:
        of_entry = curves(points, entry, pool, seeds)
        if set(of_entry) == set(seeds) == set(control):
            made.append(_row(points, entry, pool, of_entry, control))
    return made


def _row(points: pl.DataFrame, entry: str, pool: str, own: dict[int, Curve], control: dict[int, Curve]) -> Row:
    budget = settings.POOLS[pool].budget
    ends = points.filter(
        (pl.col("entry") == entry) & (pl.col("pool") == pool) & pl.col("seed").is_in(list(own))
    ).filter(pl.col("point") == pl.col("point").max().over("seed"))
    final = np.array([curve.at(budget) for curve in own.values()])
    gain = final - np.array([control[seed].at(budget) for seed in own])
    return Row(
        entry,
        tuple(_reached(own, control, budget, share) for share in settings.TARGETS),
        final,
        (float(gain.mean()), *_interval(gain)),
        _ratio(ends, "live", "groups"),
        _ratio(ends, "probe_tokens", "tokens"),
        float(np.median(ends["seconds"].to_numpy())) / 60,
    )


def _ratio(ends: pl.DataFrame, part: str, whole: str) -> float:
    return float(ends[part].to_numpy().sum() / max(ends[whole].to_numpy().sum(), 1))


def _reached(own: dict[int, Curve], control: dict[int, Curve], budget: int, share: float) -> Reached:
    ratios, censored = [], 0
    for seed, curve in own.items():
        target = control[seed].at(share * budget)
        tokens = curve.reaches(target)
        censored += tokens > budget
        ratios.append(min(tokens, budget) / control[seed].reaches(target))
    values = np.array(ratios)
    return Reached(float(values.mean()), *_interval(values), censored, len(ratios))


def _interval(values: Floats) -> tuple[float, float]:
    """95 % interval of the mean by bootstrap over the seeds."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (RESAMPLES, values.size)).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def by_arm(points: pl.DataFrame, entry: str, pool: str, seeds: Sequence[int] = settings.REPORTED) -> dict[str, float]:
    """Held-out accuracy of each arm at the end, mean over the seeds."""
    ends = (
        points.filter((pl.col("entry") == entry) & (pl.col("pool") == pool) & pl.col("seed").is_in(list(seeds)))
        .filter(pl.col("point") == pl.col("point").max().over("seed"))
        .explode("arms")
        .unnest("arms", separator="_")
    )
    means = ends.group_by("arms_arm").agg(pl.col("arms_accuracy").mean())
    return dict(means.iter_rows())
