from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

import curri
from curri.exchange.mixture_runs import RunsFile
from curri.mixtures import Runs, Target, make_design
from curri.reports import mixture_report
from curri.reports.study import Limits, Study
from curri.store import NewPrompt, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from curri.store import PromptStore

MADE: dict[str, dict[str, Any]] = {}


def scored(arms: Sequence[str], runs: int, *, targets: int = 1, noise: float = 0.01, replicates: int = 3) -> Runs:
    """Runs of a smooth function of the weights, each target liking another arm best."""
    rng = np.random.default_rng(1)
    plan = make_design(len(arms), runs, replicates=min(replicates, runs - 1))
    worth = np.sqrt(plan.weights)
    scores = {}
    for place in range(targets):
        strengths = 0.3 / (1.0 + (np.arange(len(arms)) - place) % len(arms))
        scores["acc" if place == 0 else f"acc {place}"] = 0.3 + worth @ strengths + rng.normal(0.0, noise, runs)
    return Runs(arms, plan.weights, scores)


def as_source(runs: Runs) -> RunsFile:
    return RunsFile(runs, runs.notes, ("runs.csv",), "ab" * 32)


@pytest.fixture
def studied() -> Callable[..., Study]:
    """A study of made-up runs."""

    def make(
        arms: Sequence[str] = ("math", "code", "chat"),
        runs: int = 14,
        *,
        limits: Limits | None = None,
        surrogate: str = "loglinear",
        **more: Any,
    ) -> Study:
        pytest.importorskip("scipy", reason="needs curri[mix]")
        made = scored(arms, runs, **more)
        targets = [Target(name, {name: 1.0}) for name in made.targets]
        return Study(runs=made, targets=targets, surrogate=surrogate, limits=limits or Limits())

    return make


@pytest.fixture
def reported(studied: Callable[..., Study]) -> Callable[..., dict[str, Any]]:
    """The document of such a study, made once for all tests."""

    def make(**more: Any) -> dict[str, Any]:
        key = repr(sorted(more.items()))
        if key not in MADE:
            study = studied(**more)
            settings = {"target": [target.name for target in study.targets]}
            MADE[key] = mixture_report(study, as_source(study.runs), settings)
        return copy.deepcopy(MADE[key])

    return make


@pytest.fixture(scope="session")
def add_groups() -> Callable[..., None]:
    """Stores groups of responses; see ``stored``."""
    return _add_groups


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Callable[..., PromptStore]]:
    """Makes a store of prompts and of responses of one model.

    Prompts are (text, arm) or (text, arm, answer); groups are (prompt id, rewards) with further columns of the
    rollouts, one value a group.
    """
    opened: list[PromptStore] = []

    def make(
        prompts: Sequence[tuple[str, ...]], groups: Sequence[tuple[Any, ...]] = (), model: str = "m"
    ) -> PromptStore:
        store = curri.open_store(tmp_path / f"prompts{len(opened)}.duckdb", create=True)
        opened.append(store)
        rows = [NewPrompt(text, False, answer[0] if answer else None, arm) for text, arm, *answer in prompts]
        if rows:
            store.prompts.add(rows)
        if groups:
            _add_groups(store, groups, model)
        return store

    yield make
    for store in opened:
        store.close()


def _add_groups(store: PromptStore, groups: Sequence[tuple[Any, ...]], model: str = "m") -> None:
    """Store groups of responses; rewards in [0, 1] are their ``solved`` too, unless that is given."""
    columns: dict[str, list[Any]] = {}
    seen: dict[int, int] = {}
    for prompt_id, rewards, *more in groups:
        facts = more[0] if more else {}
        solved = facts.get(
            "solved", list(rewards) if all(0 <= each <= 1 for each in rewards) else [None] * len(rewards)
        )
        for reward, right in zip(rewards, solved, strict=True):
            row = {"prompt_id": prompt_id, "sample": seen.get(prompt_id, 0), "reward": float(reward), "solved": right}
            row |= {name: facts.get(name) for name in ("tokens", "policy_version", "round", "probe")}
            seen[prompt_id] = row["sample"] + 1
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
    kinds = {"prompt_id": pa.int64(), "sample": pa.int32(), "tokens": pa.int32(), "policy_version": pa.int64(),
             "round": pa.int32(), "probe": pa.bool_()}  # fmt: skip
    arrays = {name: pa.array(values, kinds.get(name, pa.float64())) for name, values in columns.items()}
    store.rollouts.add(Source(model), pa.table(arrays))
