"""Killed at random points, a run goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curri.state import same_state, unpack
from curri.store import NewPrompt, open_store

PLAYER = Path(__file__).with_name("crash_player.py")
ROOT = Path(__file__).resolve().parents[2]


def prepared(folder: Path) -> Path:
    folder.mkdir()
    with open_store(folder / "prompts.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"{i}?", False, str(i), f"arm{i % 4}") for i in range(90)])
    return folder


def played(whole: Path, broken: Path, strategy: str, *, rounds: int, kills: int) -> int:
    """How often it died in ``broken`` until all rounds were done."""
    moments = ["--moments"] if kills > 20 else []
    done = subprocess.run(
        [sys.executable, str(PLAYER), str(whole), str(broken), strategy, str(rounds), str(kills), "7", *moments],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    died: int = json.loads(done.stdout)["died"]
    return died


def handed_out(folder: Path) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Every hand-out of every part of every round, in order."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for line in (folder / "picks.jsonl").read_text().splitlines():
        pick = json.loads(line)
        key = pick.pop("round"), pick.pop("part")
        again = pick.pop("again")
        assert again or key not in found
        found.setdefault(key, []).append(pick)
    return found


PLAYED = [
    ("ucb", 60, 30),
    ("uniform", 60, 30),
    ("reinforce-ada", 12, 14),
    ("vas", 13, 8),
    ("eva", 13, 8),
    ("pcl", 9, 6),
    ("frontier", 12, 6),
    ("mopps", 12, 6),
    ("modomodo", 12, 6),
    ("dapo", 12, 8),
    ("greso", 12, 8),
    ("ucb/mopps", 12, 6),
]


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "rounds", "kills"), PLAYED, ids=[played[0] for played in PLAYED])
def test_picks_after_kills_are_those_of_an_uninterrupted_run(
    tmp_path: Path, strategy: str, rounds: int, kills: int
) -> None:
    if strategy == "pcl":
        pytest.importorskip("torch")
    whole, broken = prepared(tmp_path / "whole"), prepared(tmp_path / "broken")
    died = played(whole, broken, strategy, rounds=rounds, kills=kills)
    assert died >= kills - (5 if kills > 20 else 0), "too few lives ended early for this to be a test"

    reference = handed_out(whole)
    assert sorted({number for number, _ in reference})[:rounds] == list(range(rounds))
    assert all(len(issued) == 1 for issued in reference.values())
    again = handed_out(broken)
    assert sorted(again) == sorted(reference)
    for key, issued in again.items():
        first = reference[key][0]
        for pick in issued:  # a hand-out after a crash holds the unsettled prompts, in the same order, as they were
            kept = [place for place, prompt in enumerate(first["ids"]) if prompt in set(pick["ids"])]
            assert pick == {**first, **{name: [first[name][i] for i in kept] for name in ("ids", "n_rollouts")}}
    parts_again = {part for (_, part), issued in again.items() if len(issued) > 1}
    assert parts_again == ({0, 1, 2} if strategy == "reinforce-ada" else {0})
    assert same_state(unpack((whole / "state.bin").read_bytes()), unpack((broken / "state.bin").read_bytes()))
    assert outcomes(whole) == outcomes(broken)


def outcomes(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything recorded: responses, the ledger, and prompts that were made."""
    with open_store(folder / "prompts.duckdb") as store:
        rows = store.connection.rows
        probability = store.connection.arrow("select probability from ledger where event = 'issued' order by all")
        values = probability.column("probability").to_numpy(zero_copy_only=False)
        assert ((values > 0) | np.isnan(values)).all()
        return {
            "responses": rows(
                "select prompt_id, round, sample, reward, probe, rollout_id, response from rollouts order by all"
            ),
            "ledger": rows(
                """select round, part, prompt_id, consumer, event, reason, probe, n_rollouts, told,
                          format('{}', probability) from ledger order by all"""
            ),
            "prompts": rows("select prompt_id, prompt, answer, parent_id, generation from prompts order by prompt_id"),
        }
