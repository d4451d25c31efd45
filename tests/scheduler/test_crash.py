"""Killed at random points, a run goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from curri.state import same_state, unpack
from curri.store import NewPrompt, open_store

PLAYER = Path(__file__).with_name("crash_player.py")
ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 60


def prepared(folder: Path) -> Path:
    folder.mkdir()
    with open_store(folder / "prompts.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"{i}?", False, str(i), f"arm{i % 4}") for i in range(90)])
    return folder


def played(folder: Path, strategy: str, kills: int, seed: int) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, str(PLAYER), str(folder), strategy, str(ROUNDS), str(kills), str(seed)],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def picks(folder: Path) -> dict[int, list[list[int]]]:
    """Every hand-out of every round, in order."""
    found: dict[int, list[list[int]]] = {}
    for line in (folder / "picks.jsonl").read_text().splitlines():
        pick = json.loads(line)
        assert pick["again"] == (pick["round"] in found) or not found.get(pick["round"])
        found.setdefault(pick["round"], []).append(pick["ids"])
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "kills"), [("ucb", 30), ("uniform", 30)])
def test_picks_after_kills_are_those_of_an_uninterrupted_run(tmp_path: Path, strategy: str, kills: int) -> None:
    whole, broken = prepared(tmp_path / "whole"), prepared(tmp_path / "broken")
    assert played(whole, strategy, kills=0, seed=0)["died"] == 0
    died = played(broken, strategy, kills=kills, seed=7)["died"]
    assert died >= 25, "too few lives ended early for this to be a test"

    reference = {number: issued[0] for number, issued in picks(whole).items()}
    assert sorted(reference) == list(range(ROUNDS))
    again = picks(broken)
    assert sorted(again) == sorted(reference)
    for number, issued in again.items():
        for ids in issued:  # a hand-out after a crash holds the unsettled prompts, in the same order
            assert ids == [i for i in reference[number] if i in set(ids)]
        logged_first = len(issued[0]) == len(reference[number])
        assert logged_first or set(issued[0]) <= set(reference[number])
    assert same_state(unpack((whole / "state.bin").read_bytes()), unpack((broken / "state.bin").read_bytes()))
    assert outcomes(whole) == outcomes(broken)


def outcomes(folder: Path) -> list[tuple[object, ...]]:
    """Everything recorded, responses and ledger, apart from what was handed out again."""
    with open_store(folder / "prompts.duckdb") as store:
        told = store.connection.rows("select prompt_id, round, sample, reward from rollouts order by all")
        settled = store.connection.rows("select round, prompt_id, event, told, n_rollouts from ledger order by all")
        probability = store.connection.arrow("select probability from ledger where event = 'issued' order by all")
        assert np.isfinite(probability.column("probability").to_numpy()).all()
    return told + settled
