"""The public tables that the benchmark reads, and where they come from."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curri.mixtures import Runs

if TYPE_CHECKING:
    from pathlib import Path

    from curri.types import Floats

REGMIX = (
    "regmix/: the files {train,test}_{mixture,pile_loss}_1m.csv of github.com/sail-sg/regmix, data/, commit b004d3a"
)
TABLE2 = "modomodo_table2.csv: Table 2 of MoDoMoDo, arXiv 2505.24871v2; weights are known for 17 of its 42 rows"
SOURCES = (REGMIX, TABLE2)
TEST_SIZES = {
    "LISA": 3397,
    "SAT": 1928,
    "ScienceQA": 2017,
    "ChartQA": 2500,
    "InfoVQA": 2801,
    "MathVista": 1000,
    "MMMU": 900,
}
INSIDE = ("LISA", "SAT", "ScienceQA")
OUTSIDE = ("ChartQA", "InfoVQA", "MathVista", "MMMU")
DATASETS = ("COCO", "LISA", "GeoQAV", "SAT", "ScienceQA")
TRAIN_SIZES = {"COCO": 5997, "LISA": 1326, "GeoQAV": 1969, "SAT": 15000, "ScienceQA": 6218}


@dataclass(frozen=True)
class RegMix:
    """The official split."""

    train: Runs
    test: Runs

    @property
    def losses(self) -> list[str]:
        return list(self.train.targets)


def _table(path: Path) -> tuple[list[str], Floats]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    return rows[0][1:], np.array([[float(cell) for cell in row[1:]] for row in rows[1:] if row])


def _runs(folder: Path, part: str) -> Runs:
    arms, weights = _table(folder / f"{part}_mixture_1m.csv")
    losses, values = _table(folder / f"{part}_pile_loss_1m.csv")
    short = [name.removeprefix("train_the_pile_") for name in arms]
    columns = {
        name.removeprefix("metric/the_pile_").removesuffix("_val_loss"): values[:, i] for i, name in enumerate(losses)
    }
    return Runs(short, weights, columns)


def regmix(folder: Path) -> RegMix:
    """512 training and 256 test runs on 17 domains, 13 losses."""
    return RegMix(_runs(folder / "regmix", "train"), _runs(folder / "regmix", "test"))


def first(runs: Runs, n: int) -> Runs:
    """The first n runs."""
    return Runs(runs.arms, runs.weights[:n], {name: values[:n] for name, values in runs.targets.items()})


def modomodo(folder: Path) -> list[dict[str, str]]:
    """The 42 rows of Table 2 as text."""
    with (folder / "modomodo_table2.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def modomodo_runs(rows: list[dict[str, str]]) -> Runs:
    """Rows with known weights, with their seven benchmark scores."""
    known = [row for row in rows if row[f"w_{DATASETS[0]}"]]
    weights = [[float(row[f"w_{name}"]) for name in DATASETS] for row in known]
    scores = {test: [float(row[test]) for row in known] for test in TEST_SIZES}
    return Runs(DATASETS, weights, scores, names=[f"{row['group']} {row['name']}" for row in known])
