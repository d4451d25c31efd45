"""The demonstration: its table against the store's own ledger and rollouts."""

from __future__ import annotations

import dataclasses
import json
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from curri.cli import app
from curri.errors import InvalidInput, InvalidParameter
from curri.simulation.learner import SimulatedLearner, normal_noise
from curri.store import NewPrompt, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from curri.simulation.demo import DemoProgress
    from curri.simulation.demo_table import DemoResult

pytest.importorskip("reasoning_gym", reason="needs curri[gym]")

from curri.simulation import demo

ARMS = (
    demo.DemoArm("chain_sum", "digits=1", "max_digits=1", -1.0),
    demo.DemoArm("chain_sum", "digits=4", "min_digits=4", 1.0),
    demo.DemoArm("gcd", "", "", 0.0),
)
ROUNDS, BATCH, SIZE, SEED = 7, 12, 25, 3
THIRDS = {"early": (0, 1, 2), "middle": (3, 4), "late": (5, 6)}


def run(folder: Path, **changes: Any) -> DemoResult:
    settings: dict[str, Any] = {"rounds": ROUNDS, "batch": BATCH, "size": SIZE, "seed": SEED, "arms": ARMS}
    return demo.run_demo(folder, **(settings | changes))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoResult, list[DemoProgress]]:
    seen: list[DemoProgress] = []
    return run(tmp_path_factory.mktemp("demo") / "new" / "folder", progress=seen.append), seen


def queried(result: DemoResult, sql: str) -> list[tuple[Any, ...]]:
    with open_store(result.store) as store:
        return store.connection.rows(sql)


def test_shares_are_those_of_the_ledger(played: tuple[DemoResult, list[DemoProgress]]) -> None:
    result, _ = played
    issued = queried(
        result,
        """select r.strategy, l.round, a.name from ledger l join runs r using (run_id)
           join prompts p using (prompt_id) join arms a using (arm_id) where event = 'issued'""",
    )
    assert len(issued) == 2 * ROUNDS * BATCH
    assert {row.arm for row in result.arms} == {arm.name for arm in ARMS}
    for row in result.arms:
        for strategy, shares in (("ucb", row.ucb_share), ("uniform", row.uniform_share)):
            for phase, rounds in THIRDS.items():
                hits = sum(1 for name, round_, arm in issued if (name, arm) == (strategy, row.arm) and round_ in rounds)
                assert shares[phase] == pytest.approx(hits / (len(rounds) * BATCH), abs=1e-12)


def test_signal_is_that_of_the_stored_rollouts(played: tuple[DemoResult, list[DemoProgress]]) -> None:
    result, _ = played
    groups = queried(
        result,
        """select u.strategy, r.round, count(*), min(r.reward) < max(r.reward)
           from rollouts r join sources s using (source_id) join runs u on u.run_id = s.run_id
           group by u.strategy, r.round, r.prompt_id""",
    )
    for row in result.strategies:
        mine = [(round_, n, live) for strategy, round_, n, live in groups if strategy == row.strategy]
        assert row.groups == len(mine) == ROUNDS * BATCH
        assert row.rollouts == sum(n for _, n, _ in mine) == ROUNDS * BATCH * demo.GROUP_SIZE
        assert row.groups_with_signal == sum(live for _, _, live in mine)
        for phase, rounds in {**THIRDS, "whole": range(ROUNDS)}.items():
            live = [alive for round_, _, alive in mine if round_ in rounds]
            assert row.signal[phase] == pytest.approx(sum(live) / len(live), abs=1e-12)


def test_pass_rates_are_those_of_a_solver_that_learned_from_the_stored_rollouts(
    played: tuple[DemoResult, list[DemoProgress]],
) -> None:
    result, _ = played
    prompts = queried(result, "select prompt_id, name from prompts join arms using (arm_id) order by prompt_id")
    level = {arm.name: arm for arm in ARMS}
    ids = np.array([prompt_id for prompt_id, _ in prompts])
    names = np.array([name for _, name in prompts])
    for strategy in ("ucb", "uniform"):
        solver = SimulatedLearner(
            ids,
            [level[name].task for name in names],
            [level[name].difficulty for name in names] + demo.SPREAD * normal_noise(ids, seed=SEED),
            learning_rate=demo.LEARNING_RATE,
            transfer=demo.TRANSFER,
            room=demo.ROOM,
        )
        assert result.start == pytest.approx(solver.pass_rate().mean(), rel=1e-12)
        told = queried(
            result,
            f"""select r.round, r.prompt_id, r.reward from rollouts r join sources s using (source_id)
                where s.model = 'run:demo-{strategy}'""",
        )
        for number in range(ROUNDS):
            batch = [(prompt_id, reward) for round_, prompt_id, reward in told if round_ == number]
            solver.learn(*(np.array(column) for column in zip(*batch, strict=True)))
        assert result.row(strategy).end == pytest.approx(solver.pass_rate().mean(), rel=1e-9)
        for row in result.arms:
            assert row.prompts == (names == row.arm).sum()
            assert row.end[strategy] == pytest.approx(solver.pass_rate()[names == row.arm].mean(), rel=1e-9)


def test_both_strategies_meet_the_same_luck(played: tuple[DemoResult, list[DemoProgress]]) -> None:
    result, _ = played
    first = queried(
        result,
        """select r.prompt_id, list(r.reward order by r.sample) from rollouts r join sources s using (source_id)
           where r.round = 0 group by r.prompt_id, s.run_id""",
    )
    rewards: dict[int, list[list[float]]] = {}
    for prompt_id, group in first:
        rewards.setdefault(prompt_id, []).append(group)
    shared = [groups for groups in rewards.values() if len(groups) == 2]
    assert shared
    assert all(one == other for one, other in shared)


def test_progress_is_reported_arm_by_arm_and_round_by_round(played: tuple[DemoResult, list[DemoProgress]]) -> None:
    result, seen = played
    steps = [(step.stage, step.done, step.total) for step in seen]
    assert steps == [
        *(("ingest", done, len(ARMS)) for done in range(1, len(ARMS) + 1)),
        *((strategy, done, ROUNDS) for strategy in ("ucb", "uniform") for done in range(1, ROUNDS + 1)),
    ]
    assert all(0 <= step.signal <= 1 for step in seen if step.stage != "ingest")
    last = [step.signal for step in seen if step.done == ROUNDS]
    assert 0 < result.row("uniform").signal["whole"] < 1
    assert len(last) == 2


def test_the_same_seed_gives_the_same_table(played: tuple[DemoResult, list[DemoProgress]], tmp_path: Path) -> None:
    result, _ = played
    again = run(tmp_path)
    assert dataclasses.replace(again, store=result.store) == result
    assert run(tmp_path, seed=SEED + 1).arms != result.arms


def test_an_earlier_demo_store_is_replaced_after_saying_so(tmp_path: Path) -> None:
    said: list[str] = []
    run(tmp_path, echo=said.append, rounds=3)
    assert not said
    result = run(tmp_path, echo=said.append, rounds=3)
    assert said == [f"replacing the demo store {tmp_path / 'curri.duckdb'}"]
    assert queried(result, "select count(*) from runs") == [(2,)]


def test_a_store_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    with open_store(tmp_path / "curri.duckdb", create=True) as store:
        store.prompts.add([NewPrompt("1 + 1 = ?", False, "2", "mine")])
    with pytest.raises(InvalidInput, match="was not made by the demo"):
        run(tmp_path)
    with open_store(tmp_path / "curri.duckdb") as store:
        assert len(store.prompts) == 1


def test_a_demo_store_in_use_is_left_alone(tmp_path: Path) -> None:
    run(tmp_path, rounds=3)
    with open_store(tmp_path / "curri.duckdb") as store:
        with pytest.raises(InvalidInput, match="in use"):
            run(tmp_path, rounds=3)
        assert store.runs.names() == ["demo-ucb", "demo-uniform"]


@pytest.mark.parametrize("wrong", [{"rounds": 2}, {"batch": 0}, {"size": 0}, {"seed": -1}])
def test_a_value_out_of_range_is_named_before_anything_is_made(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidParameter, match=f"`{next(iter(wrong))}`"):
        run(tmp_path / "folder", **wrong)
    assert not (tmp_path / "folder").exists()


def test_the_table_fits_a_terminal_and_the_figures_in_it_are_the_result(
    played: tuple[DemoResult, list[DemoProgress]],
) -> None:
    result, _ = played
    lines = result.lines()
    assert max(map(len, lines)) <= 100
    for row in result.arms:
        (line,) = (line for line in lines if line.startswith(row.arm + " "))
        figures = [word for word in line.split() if word.endswith("%")]
        assert figures == [f"{value:.0%}" for value in (row.start, *row.ucb_share.values(), *row.end.values())]
    (totals,) = (line for line in lines if line.startswith("uniform "))
    uniform = result.row("uniform")
    shares = [f"{uniform.signal[phase]:.0%}" for phase in (*THIRDS, "whole")]
    assert totals.split()[1:] == [f"{result.start:.1%}", *shares, f"{uniform.end:.1%}"]


def test_long_names_are_shortened_and_still_differ(played: tuple[DemoResult, list[DemoProgress]]) -> None:
    result, _ = played
    arms = [dataclasses.replace(row, arm=f"{'long_' * 12}{i}") for i, row in enumerate(result.arms)]
    lines = dataclasses.replace(result, arms=tuple(arms)).lines()
    assert max(map(len, lines)) <= 100
    assert len({line.split()[0] for line in lines if line.startswith("long_")}) == len(arms)


def test_json_holds_every_figure_and_says_that_it_is_simulated(played: tuple[DemoResult, list[DemoProgress]]) -> None:
    result, _ = played
    data = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert data["simulated"] is True
    assert data["arms"][0] == dataclasses.asdict(result.arms[0])
    assert data["strategies"][1]["run"] == "demo-uniform"
    assert data["signal_ratio"] == result.signal_ratio


def test_the_reading_names_where_uniform_does_as_well(played: tuple[DemoResult, list[DemoProgress]]) -> None:
    result, _ = played
    worse = dataclasses.replace(result.arms[0], end={"ucb": 0.5, "uniform": 0.6})
    better = dataclasses.replace(result.arms[1], end={"ucb": 0.6, "uniform": 0.5})
    reading = dataclasses.replace(result, arms=(worse, better)).reading()
    assert reading.endswith(f"On 1 of 2 arms uniform ended as high or higher: {worse.arm}.")
    assert dataclasses.replace(result, arms=(better,)).reading().endswith("No arm ended better under uniform.")


SMALL = ["--rounds", "3", "--batch", "20", "--size", "8"]


def test_the_command_prints_the_table_and_talks_on_stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # that it works there, and leaves nothing elsewhere
    plain = CliRunner().invoke(app, ["demo", "--folder", str(tmp_path), *SMALL])
    assert plain.exit_code == 0, plain.output
    assert "simulated by item-response formulas" in " ".join(plain.stdout.split())
    assert max(map(len, plain.stdout.splitlines())) <= 100
    assert "uniform picks: round 3 of 3" in plain.stderr
    commands = [line.strip() for line in plain.stderr.splitlines() if line.startswith("  curri ")]
    assert len(commands) == 3
    for line in commands:
        shown = CliRunner().invoke(app, shlex.split(line)[1:])
        assert shown.exit_code == 0, shown.output
        assert shown.stdout


def test_the_command_gives_one_json_document(tmp_path: Path) -> None:
    encoded = CliRunner().invoke(app, ["demo", "--folder", str(tmp_path), *SMALL, "--json"])
    assert not encoded.stderr
    data = json.loads(encoded.stdout)
    assert data["ok"] is True
    assert len(data["arms"]) == len(demo.ARMS) >= 12
    assert sum(arm["arm"].startswith("knights_knaves(people=") for arm in data["arms"]) == 6
