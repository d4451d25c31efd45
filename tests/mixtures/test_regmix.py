"""Held-out figures on RegMix's official split (the reference data lie beside the checkout)."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest

from curri.mixtures import Quality, Runs, Target, fit, quality_of

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("scipy")


def read(folder: Path, part: str, rows: int | None = None) -> Runs:
    def table(name: str) -> tuple[list[str], np.ndarray]:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
        return lines[0][1:], np.array([[float(cell) for cell in line[1:]] for line in lines[1:]])[:rows]

    arms, weights = table(f"{part}_mixture_1m.csv")
    losses, values = table(f"{part}_pile_loss_1m.csv")
    return Runs(arms, weights, {name: values[:, i] for i, name in enumerate(losses)})


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "data" / "mixtures" / "regmix"


def held_out(train: Runs, test: Runs, columns: list[str]) -> tuple[list[Quality], Quality]:
    """Quality of each column, and of their mean."""
    fits = fit(train, columns=columns)
    single = [quality_of(test.scores(name), *fits.predict(Target(name, {name: 1.0}), test.weights)) for name in columns]
    mean = Target("mean", dict.fromkeys(columns, 1.0 / len(columns)))
    measured = np.mean([test.scores(name) for name in columns], axis=0)
    return single, quality_of(measured, *fits.predict(mean, test.weights))


def test_pile_cc_from_54_runs(folder: Path) -> None:
    name = "metric/the_pile_pile_cc_val_loss"
    (found,), _ = held_out(read(folder, "train", 54), read(folder, "test"), [name])
    assert found.spearman >= 0.975
    assert found.r2 >= 0.945
    assert 0.85 <= found.coverage[0.95] <= 1.0


@pytest.mark.slow
def test_the_mean_of_all_losses_from_54_runs(folder: Path) -> None:
    train = read(folder, "train", 54)
    single, mean = held_out(train, read(folder, "test"), list(train.targets))
    assert mean.r2 >= 0.93
    assert single[8].spearman >= 0.975
    assert single[8].r2 >= 0.945


@pytest.mark.slow
def test_the_official_split(folder: Path) -> None:
    train = read(folder, "train")
    single, mean = held_out(train, read(folder, "test"), list(train.targets))
    assert np.median([each.spearman for each in single]) >= 0.996
    assert np.median([each.r2 for each in single]) >= 0.988
    assert np.mean([each.rmse**2 for each in single]) <= 0.0088
    assert mean.r2 >= 0.98
    assert 0.9 <= np.mean([each.coverage[0.95] for each in single]) <= 1.0


def test_rounded_rows_are_noted(folder: Path) -> None:
    train = read(folder, "train")
    assert any("divided by their sum" in note for note in train.notes)
    assert train.weights.sum(axis=1) == pytest.approx(np.ones(512), abs=1e-12)
