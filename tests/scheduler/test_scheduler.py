"""The durable ask/tell object: rounds, ledger, repeats, late and partial outcomes, consumers, reopening."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

import curri
from curri import Scheduler
from curri.errors import (
    InvalidInput,
    InvalidParameter,
    InvalidRollouts,
    PoolExhausted,
    RunMismatch,
    UnknownName,
    UnknownPrompt,
    WriteFailed,
)
from curri.state import same_state
from curri.store import NewPrompt, PromptStore, Source, open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curri.types import Floats, Ints

    Outcome = Callable[[Ints, int, int], tuple[Ints, Floats]]


def events(store: PromptStore) -> dict[str, int]:
    return dict(store.connection.rows("select event, count(*) from ledger group by event order by event"))


def reopened(store: PromptStore) -> PromptStore:
    """The store closed for good and opened again."""
    path = store.path
    store.close()
    return open_store(path)


def play(scheduler: Scheduler, outcome: Outcome, rounds: int, n: int = 8) -> list[list[int]]:
    picks = []
    for _ in range(rounds):
        selection = scheduler.ask(n)
        picks.append(selection.prompt_ids.tolist())
        scheduler.tell(*outcome(selection.prompt_ids, selection.ticket.round, 8))
    return picks


def test_a_round_closes_when_all_its_prompts_are_settled(store: PromptStore, outcome: Outcome) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    selection = scheduler.ask(6)
    assert (scheduler.round, selection.ticket) == (0, curri.Ticket("r", 0, 0))
    told = scheduler.tell(*outcome(selection.prompt_ids[:4], 0, 8))
    assert (told.new, told.closed, scheduler.round) == (32, (), 0)
    assert scheduler.resolve(selection.prompt_ids[4:5], "dropped", reason="stale") == ()
    assert scheduler.curriculum.metrics()["curriculum/ucb/rounds_closed"] == 0
    assert scheduler.resolve(selection.prompt_ids[5:], "lost") == (0,)
    assert scheduler.round == 1
    assert scheduler.curriculum.metrics()["curriculum/ucb/responses_folded"] == 32
    assert events(store) == {"dropped": 1, "issued": 6, "lost": 1, "trained": 4}
    assert store.connection.value("select reason from ledger where event = 'dropped'") == "stale"


def test_the_same_tell_again_changes_nothing(store: PromptStore, outcome: Outcome) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    ids, rewards = outcome(scheduler.ask(5).prompt_ids, 0, 8)
    first = scheduler.tell(ids, rewards)
    before = (events(store), len(store.rollouts), scheduler.curriculum.state_dict())
    again = scheduler.tell(ids, rewards)
    assert (first.new, again.new, again.repeated) == (40, 0, 40)
    assert before[:2] == (events(store), len(store.rollouts))
    assert same_state(before[2], scheduler.curriculum.state_dict())


def test_the_same_tell_again_after_a_reopening(store: PromptStore, outcome: Outcome) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    ids, rewards = outcome(scheduler.ask(5).prompt_ids, 0, 8)
    scheduler.tell(ids, rewards)
    with reopened(store) as again:
        told = Scheduler(again, run="r").tell(ids, rewards)
        assert (told.new, told.repeated, len(again.rollouts)) == (0, 40, 40)


def test_a_repeated_rollout_id_counts_once_however_late(store: PromptStore) -> None:
    scheduler = Scheduler(store, "uniform", run="r", seed=0)
    ids = scheduler.ask(60).prompt_ids
    names = [f"gen-{i}" for i in ids]
    assert scheduler.tell(ids, np.ones(60), rollout_ids=names).new == 60
    scheduler.ask(60)
    told = scheduler.tell(ids, np.zeros(60), rollout_ids=names, resolve=None)
    assert (told.new, told.repeated) == (0, 60)
    assert store.connection.value("select sum(reward) from rollouts") == 60
    twice = scheduler.tell([1, 1, 1], [1, 1, 0], rollout_ids=["a", "a", "b"], resolve=None)
    assert (twice.new, twice.repeated) == (2, 1)


def test_partial_groups_go_on_where_they_stopped(store: PromptStore) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    prompt = int(scheduler.ask(1).prompt_ids[0])
    for reward in (1.0, 0.0, 0.0):
        assert scheduler.tell([prompt], [reward], resolve=None).new == 1
    assert scheduler.round == 0
    last = scheduler.tell([prompt] * 5, [1, 1, 1, 1, 0])
    assert (last.new, last.closed) == (5, (0,))
    assert store.connection.rows("select sample from rollouts order by sample") == [(i,) for i in range(8)]
    assert scheduler.tell([prompt] * 5, [1, 1, 1, 1, 0]).repeated == 5


def test_partial_groups_survive_a_reopening(store: PromptStore) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    prompt = int(scheduler.ask(1).prompt_ids[0])
    scheduler.tell([prompt] * 3, [1, 0, 0], resolve=None)
    with reopened(store) as again:
        scheduler = Scheduler(again, run="r")
        assert scheduler.ask(1).reissued
        scheduler.tell([prompt] * 5, [1, 1, 1, 1, 0])
        assert again.connection.rows("select sample from rollouts order by sample") == [(i,) for i in range(8)]
        assert scheduler.curriculum.explain(prompt)["arm_count"] == 8


def test_late_responses_are_evidence_and_change_no_settlement(store: PromptStore) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    prompt = int(scheduler.ask(1).prompt_ids[0])
    scheduler.tell([prompt] * 4, [1, 0, 0, 1])
    late = scheduler.tell([prompt] * 6, [1, 0, 0, 1, 1, 1])
    assert (late.new, late.repeated, late.unissued.tolist(), late.closed) == (2, 4, [prompt], ())
    assert scheduler.tell([prompt] * 6, [1, 0, 0, 1, 1, 1]).new == 0
    assert store.connection.value("select count(*) from ledger where event = 'trained'") == 1
    other = scheduler.ask(1).prompt_ids
    scheduler.tell(other, [1.0])
    assert scheduler.curriculum.metrics()["curriculum/ucb/responses_folded"] == 7


def test_never_issued_prompts_are_evidence_and_change_no_ledger_row(store: PromptStore) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    assert scheduler.tell([7, 7], [1, 0]).unissued.tolist() == [7]
    assert scheduler.tell([7], [1]).new == 1
    assert events(store) == {}
    assert store.connection.rows("select sample, round from rollouts order by sample") == [(0, -1), (1, -1), (2, -1)]


def test_a_named_round(store: PromptStore, outcome: Outcome) -> None:
    scheduler = Scheduler(store, "uniform", run="r", seed=0)
    first, second = scheduler.ask(5), scheduler.ask(5)
    assert scheduler.tell(*outcome(second.prompt_ids, 1, 2), round=1).closed == (1,)
    with pytest.raises(InvalidRollouts, match="never handed out in round 1"):
        scheduler.tell(*outcome(first.prompt_ids, 0, 2), round=1)
    assert scheduler.tell(*outcome(first.prompt_ids, 0, 2), round=0).closed == (0,)
    assert scheduler.tell(*outcome(first.prompt_ids, 0, 2), round=0).repeated == 10


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_reward_is_refused_and_nothing_changes(store: PromptStore, bad: float) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    ids = scheduler.ask(3).prompt_ids
    with pytest.raises(InvalidRollouts, match=f"of prompts {ids[1]}"):
        scheduler.tell(ids, [1.0, bad, 0.0])
    with pytest.raises(UnknownPrompt, match="999"):
        scheduler.tell([*ids, 999], [1.0, 0.0, 1.0, 0.0])
    assert (len(store.rollouts), events(store)) == (0, {"issued": 3})
    assert scheduler.tell(ids, [1.0, 0.5, 0.0]).closed == (0,)


def test_prompts_in_flight_are_not_picked_again(store: PromptStore) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    picked = np.concatenate([scheduler.ask(20).prompt_ids for _ in range(3)])
    assert np.unique(picked).size == 60
    with pytest.raises(PoolExhausted, match="60 excluded or in flight"):
        scheduler.ask(1)
    scheduler.resolve(picked[:5], "lost")
    assert set(scheduler.ask(5).prompt_ids) == set(picked[:5])


def test_settling_what_is_not_in_flight_is_refused(store: PromptStore) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    ids = scheduler.ask(3).prompt_ids
    stranger = next(i for i in range(1, 61) if i not in ids)
    with pytest.raises(InvalidRollouts, match=f"1 prompts are not in flight.*{stranger}"):
        scheduler.resolve([*ids, stranger], "dropped")
    assert events(store) == {"issued": 3}
    with pytest.raises(InvalidParameter, match='must be one of "trained"'):
        scheduler.resolve(ids, "thrown away")  # type: ignore[arg-type]
    with pytest.raises(InvalidParameter, match="`resolve` must be one of"):
        scheduler.tell(ids, [1, 1, 1], resolve="done")  # type: ignore[arg-type]


def test_open_rounds_come_again_oldest_first_verbatim(store: PromptStore, outcome: Outcome) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    rounds = [scheduler.ask(5) for _ in range(3)]
    scheduler.tell(*outcome(rounds[1].prompt_ids, 1, 8))
    scheduler.tell(*outcome(rounds[2].prompt_ids[1:3], 2, 8))
    with reopened(store) as again:
        scheduler = Scheduler(again, run="r")
        assert scheduler.round == 0
        first, second = scheduler.ask(99), scheduler.ask(99)
        assert (first.reissued, second.reissued) == (True, True)
        assert first.prompt_ids.tolist() == rounds[0].prompt_ids.tolist()
        assert first.probability.tolist() == rounds[0].probability.tolist()
        assert second.prompt_ids.tolist() == rounds[2].prompt_ids[[0, 3, 4]].tolist()
        fresh = scheduler.ask(5)
        assert (fresh.reissued, fresh.ticket.round) == (False, 3)
        assert [prompt.prompt_id for prompt in first.prompts] == first.prompt_ids.tolist()


def test_a_new_round_may_be_forced(store: PromptStore) -> None:
    Scheduler(store, "ucb", run="r", seed=0).ask(5)
    with reopened(store) as again:
        scheduler = Scheduler(again, run="r")
        assert scheduler.ask(5, reissue=False).ticket.round == 1
        assert scheduler.ask(5).ticket.round == 0


@pytest.mark.parametrize("strategy", ["ucb", "uniform"])
def test_reopening_after_every_round_changes_no_pick(
    store: PromptStore, outcome: Outcome, strategy: str, tmp_path: Path
) -> None:
    straight = play(Scheduler(store, strategy, run="r", seed=3), outcome, 12)
    with open_store(tmp_path / "other.duckdb", create=True) as other:
        other.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), f"arm{i % 3}") for i in range(60)])
    picks = []
    for _ in range(12):
        with open_store(tmp_path / "other.duckdb") as other:
            picks += play(Scheduler(other, strategy, run="r", seed=3), outcome, 1)
    assert picks == straight


def test_without_closing_the_state_is_the_same(store: PromptStore, outcome: Outcome) -> None:
    scheduler = Scheduler(store, "uniform", run="r", seed=0)
    play(scheduler, outcome, 11)
    scheduler.tell([1, 2], [0.5, 1.0], resolve=None)
    saved = store.runs.load_state(scheduler.run.run_id)
    assert saved.delta_bytes > 0
    assert same_state(saved.state, scheduler.curriculum.state_dict())


def test_snapshots_replace_deltas(store: PromptStore, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curri.scheduler.core.SNAPSHOT_FLOOR", 50_000)
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    play(scheduler, outcome, 40)
    saved = store.runs.load_state(scheduler.run.run_id)
    rows = store.connection.value("select count(*) from state")
    assert rows < 40
    assert same_state(saved.state, scheduler.curriculum.state_dict())
    scheduler.close()
    assert store.connection.value("select count(*) from state") == 1


def test_two_consumers_share_a_run(store: PromptStore, outcome: Outcome) -> None:
    left = Scheduler(store, "ucb", run="r", seed=0, consumer="left")
    right = Scheduler(store, run="r", consumer="right")
    a, b = left.ask(10), right.ask(10)
    assert not set(a.prompt_ids) & set(b.prompt_ids)
    assert (a.ticket.round, b.ticket.round, left.round, right.round) == (0, 1, 0, 1)
    right.tell(*outcome(b.prompt_ids, 1, 8))
    assert (left.round, right.round) == (0, 2)
    assert left.curriculum is right.curriculum


def test_what_a_consumer_holds_comes_again_to_it_alone(store: PromptStore) -> None:
    held = Scheduler(store, "ucb", run="r", seed=0, consumer="left").ask(10)
    with reopened(store) as again:
        right = Scheduler(again, run="r", consumer="right")
        assert not right.ask(10).reissued
        assert Scheduler(again, run="r", consumer="left").ask(1).prompt_ids.tolist() == held.prompt_ids.tolist()


def test_abandoned_rounds_go_to_the_heir(store: PromptStore) -> None:
    dead = Scheduler(store, "ucb", run="r", seed=0, consumer="dead")
    held = dead.ask(10)
    heir = Scheduler(store, run="r", consumer="heir")
    with pytest.raises(InvalidParameter, match="another one"):
        heir.abandon("heir")
    assert heir.abandon("dead") == 10
    assert heir.abandon("dead") == 0
    assert events(store) == {"abandoned": 10, "issued": 10}
    with reopened(store) as again:
        assert not Scheduler(again, run="r", consumer="dead").ask(1).reissued
        assert Scheduler(again, run="r", consumer="heir").ask(1).prompt_ids.tolist() == held.prompt_ids.tolist()


def test_other_parameters_are_a_mismatch(store: PromptStore) -> None:
    Scheduler(store, "ucb", run="r", seed=4, temperature=0.5)
    assert Scheduler(store, "ucb", run="r").curriculum.parameters["temperature"] == 0.5
    assert Scheduler(store, run="r", seed=4).run.parameters["seed"] == 4
    with pytest.raises(RunMismatch, match=r"temperature = 0\.5; got 0\.1"):
        Scheduler(store, "ucb", run="r", temperature=0.1)
    with pytest.raises(RunMismatch, match="strategy = 'ucb'; got 'uniform'"):
        Scheduler(store, "uniform", run="r")
    with pytest.raises(InvalidParameter, match="did you mean"):
        Scheduler(store, "ucb", run="r", temprature=0.1)
    with reopened(store) as again, pytest.raises(RunMismatch, match="seed = 4; got 5"):
        Scheduler(again, run="r", seed=5)


def test_unknown_runs_and_strategies(store: PromptStore) -> None:
    with pytest.raises(UnknownName, match='no run "r"'):
        Scheduler(store, run="r")
    with pytest.raises(UnknownName, match='did you mean "ucb"'):
        Scheduler(store, "ubc", run="r")
    with pytest.raises(InvalidParameter, match="`run` of `Scheduler`"):
        Scheduler(store, "ucb", run="")
    assert store.runs.names() == []


def test_a_new_run_starts_from_the_rollouts_of_one_model(store: PromptStore) -> None:
    ids = np.repeat(np.arange(1, 61), 4)
    table = pa.table(
        {
            "prompt_id": ids,
            "sample": np.tile(np.arange(4, dtype=np.int32), 60),
            "reward": ((ids % 3 == 0) & (np.tile(np.arange(4), 60) < 2)).astype(np.float64),
        }
    )
    store.rollouts.add(Source("base"), table)
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    assert scheduler.run.evidence_model == "base"
    assert scheduler.curriculum.explain(1)["arm_count"] == 80
    weights = scheduler.curriculum.arm_weights  # type: ignore[attr-defined]
    assert weights["arm2"] > 0.99
    store.rollouts.add(Source("other"), table)
    with pytest.raises(InvalidInput, match="2 models"):
        Scheduler(store, "ucb", run="s", seed=0)
    assert Scheduler(store, "ucb", run="s", seed=0, model="other").run.evidence_model == "other"
    assert store.runs.names() == ["r", "s"]


def test_prompts_ingested_during_a_run_join_at_the_next_round(store: PromptStore, outcome: Outcome) -> None:
    scheduler = Scheduler(store, "uniform", run="r", seed=0)
    open_round = scheduler.ask(5)
    store.prompts.add([NewPrompt(f"late {i}", False, "1", "late") for i in range(100)])
    scheduler.ask(5)
    assert len(scheduler.curriculum.pool) == 60
    scheduler.tell(*outcome(open_round.prompt_ids, 0, 8))
    assert len(scheduler.curriculum.pool) == 160
    with reopened(store) as again:
        scheduler = Scheduler(again, run="r")
        scheduler.ask(5)
        assert max(max(pick) for pick in play(scheduler, outcome, 10)) > 60


def test_prompts_ingested_between_sessions_join_at_the_next_round(store: PromptStore, outcome: Outcome) -> None:
    play(Scheduler(store, "ucb", run="r", seed=0), outcome, 3)
    store.prompts.add([NewPrompt(f"late {i}", False, "1", "late") for i in range(100)])
    with reopened(store) as again:
        scheduler = Scheduler(again, run="r")
        assert min(play(scheduler, outcome, 1)[0]) > 60  # an arm never seen takes the batch


def test_everything_told_is_kept(store: PromptStore) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    (prompt,) = scheduler.ask(1).prompt_ids
    scheduler.tell(
        [prompt] * 2,
        [2.5, -1.0],
        solved=[1, 0],
        advantages=[0.7, np.nan],
        tokens=[11, 12],
        responses=["yes\x00", [5, 6]],
        truncated=[False, True],
        policy_version=[3, 3],
        rollout_ids=["a", "b"],
        extras={"kl": [0.1, 0.2]},
    )
    names = "reward, solved, advantage, tokens, truncated, policy_version, rollout_id, response, extras, round, probe"
    assert store.connection.rows(f"select {names} from rollouts order by sample") == [
        (2.5, 1.0, 0.7, 11, False, 3, "a", "yes\x00", '{"kl": 0.1}', 0, False),
        (-1.0, 0.0, None, 12, True, 3, "b", "[5, 6]", '{"kl": 0.2}', 0, False),
    ]


def test_one_policy_version_for_all(store: PromptStore) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    scheduler.tell(scheduler.ask(3).prompt_ids, [1, 0, 1], policy_version=7)
    assert store.connection.rows("select distinct policy_version from rollouts") == [(7,)]


def test_metrics_and_explanations(store: PromptStore, outcome: Outcome) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    selection = scheduler.ask(10)
    prompt = int(selection.prompt_ids[0])
    assert scheduler.explain(prompt)["in_flight_in_round"] == 0
    ids, rewards = outcome(selection.prompt_ids, 0, 8)
    scheduler.tell(ids, rewards)
    metrics = scheduler.metrics()
    groups = rewards.reshape(10, 8)
    assert metrics["scheduler/groups_with_signal"] == (groups.min(1) < groups.max(1)).sum()
    assert metrics["scheduler/prompts_trained"] == 10
    assert all(np.isfinite(value) for value in metrics.values())
    told = scheduler.explain(prompt)
    assert [row["event"] for row in told["history"]] == ["issued", "trained"]
    assert told["history"][1]["told"] == 8


def test_an_interrupted_write_stops_the_scheduler_and_a_new_one_goes_on(
    store: PromptStore, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    selection = scheduler.ask(5)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(store.runs), "append_ledger", interrupted)
        with pytest.raises(KeyboardInterrupt):
            scheduler.tell(*outcome(selection.prompt_ids, 0, 8))
    with pytest.raises(WriteFailed, match="make the Scheduler anew"):
        scheduler.ask(5)
    assert len(store.rollouts) == 0
    scheduler = Scheduler(store, run="r")
    again = scheduler.ask(5)
    assert (again.reissued, again.prompt_ids.tolist()) == (True, selection.prompt_ids.tolist())
    assert scheduler.tell(*outcome(again.prompt_ids, 0, 8)).closed == (0,)


def test_quota_and_exclusion_reach_the_strategy(store: PromptStore) -> None:
    scheduler = Scheduler(store, "ucb", run="r", seed=0)
    selection = scheduler.ask(6, quota={"arm0": 4, "arm1": 2}, exclude=[1, 4])
    assert sorted(selection.arms.tolist()) == ["arm0"] * 4 + ["arm1"] * 2
    assert not {1, 4} & set(selection.prompt_ids.tolist())
