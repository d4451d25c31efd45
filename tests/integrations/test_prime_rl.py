"""prime-rl: tasks drawn by a curriculum, episodes observed, and its orchestrator's classes taught to use it."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

import curri
from curri.errors import (
    InvalidData,
    InvalidParameter,
    InvalidRollouts,
    MissingExtra,
    PoolExhausted,
    StateMismatch,
    UnknownPrompt,
)
from curri.integrations.prime_rl import CurriculumTaskSampler, install
from curri.store import NewPrompt
from curri.testing import AdapterCase, parametrize_adapters
from tests.integrations.upstream import is_here, stand_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from curri.testing import AdapterCheck, Setting

REAL, HERE = is_here("verifiers"), is_here("prime_rl")


def make_task(name: Any) -> Any:
    """A task whose key is ``name``."""
    if not REAL:
        return SimpleNamespace(key=name)
    import verifiers.v1 as vf

    class Named(vf.Task):  # type: ignore[misc]
        key = name

    return Named(vf.TaskData(prompt=str(name)))


def episode(
    key: Any, reward: float = 0.0, *, failed: bool = False, env: str = "sums", version: int | None = None
) -> Any:
    """One rollout with one trace, of real types where verifiers is installed."""
    if not REAL:
        trace = SimpleNamespace(
            id=f"trace {key} {reward}",
            task=SimpleNamespace(key=key),
            agent=SimpleNamespace(trainable=True),
            has_error=failed,
            reward=reward,
            num_output_tokens=5,
            is_truncated=False,
        )
        policy = None if version is None else SimpleNamespace(start=version, end=version)
        run = SimpleNamespace(work=SimpleNamespace(policy=policy))
        return SimpleNamespace(task=trace.task, traces=[trace], run=run, env=SimpleNamespace(name=env))
    import verifiers.v1 as vf

    task = vf.TraceTask(type="Task", data=vf.TaskData(prompt=str(key)), key=str(key), hash="0")
    task.key = key
    trace = vf.Trace(task=task, agent=vf.AgentInfo(config=vf.AgentConfig()), ok=not failed)
    trace.record_reward("reward", reward)
    if failed:
        trace.record_error(ValueError("no"))
    policy = None if version is None else vf.PolicySpan(start=version, end=version)
    run = vf.TrainRunInfo(id="1", work=vf.TrainWorkInfo(step=1, policy=policy))
    return vf.Episode(env=vf.EnvInfo(id=env, name=env), task=task, run=run, traces=[trace])


# ---- the contract of all adapters ------------------------------------------------------------------------------------


class Session:
    """An orchestrator that opens as many groups as a batch has, and closes them all."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.folder, self.setting = folder, setting
        self.scheduler = setting.scheduler(folder)
        self.curriculum = self.scheduler.curriculum
        tasks = [make_task(f"task {n}") for n, _ in enumerate(setting.ids)]
        ids = dict(zip((task.key for task in tasks), setting.ids, strict=True))
        self.keys = {prompt: key for key, prompt in ids.items()}
        try:
            self.sampler = CurriculumTaskSampler(
                tasks, self.scheduler, prompts=setting.prompts, id_of=lambda task: ids[task.key]
            )
        except ValueError:
            self.stop()
            raise
        self.prompts = {task.key: ids[task.key] for task in tasks}
        state = folder / "progress.json"
        if state.exists():
            self.sampler.load_state_dict(json.loads(state.read_text()))

    def next_batch(self) -> list[int]:
        tasks = [next(self.sampler) for _ in range(self.setting.prompts)]
        return [self.prompts[task.key] for task in tasks for _ in range(self.setting.group_size)]

    def report(self, ids: Sequence[int], rewards: Sequence[float]) -> None:
        groups: dict[int, list[Any]] = {}
        for prompt, reward in zip(ids, rewards, strict=True):
            groups.setdefault(prompt, []).append(episode(self.keys.get(prompt, "unknown"), reward))
        for prompt in sorted(groups, key=lambda prompt: prompt in self.keys):  # the unknown one first
            self.sampler.observe(groups[prompt])

    def checkpoint(self) -> None:
        (self.folder / "progress.json").write_text(json.dumps(self.sampler.state_dict()))

    def stop(self) -> None:
        self.scheduler.store.close()


@parametrize_adapters([AdapterCase("prime-rl", Session)])
def test_adapter(check: AdapterCheck) -> None:
    check()


# ---- the sampler -----------------------------------------------------------------------------------------------------

PROMPTS, GROUP = 4, 2


class Run:
    """A sampler over 24 tasks, whose keys are the user's own ids in the store."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.store = curri.open_store(folder / "prompts.duckdb", create=True)
        names = [f"task {i}" for i in range(24)]
        if not len(self.store.prompts):
            self.store.prompts.add([NewPrompt(f"{n}?", False, "0", "sums", external_id=n) for n in names])
        self.scheduler = curri.Scheduler(self.store, "uniform", run="r1", seed=0, group_size=GROUP)
        self.tasks = [make_task(name) for name in names]
        self.sampler = CurriculumTaskSampler(self.tasks, self.scheduler, **{"prompts": PROMPTS, **changes})

    def draw(self, n: int = PROMPTS) -> list[str]:
        return [next(self.sampler).key for _ in range(n)]

    def observe(self, key: str, *rewards: float, **more: Any) -> None:
        self.sampler.observe([episode(key, reward, **more) for reward in rewards])

    def ledger(self) -> dict[str, tuple[str, str | None]]:
        """How each task was settled last, by its key."""
        rows = self.store.connection.rows(
            "select prompt_id, event, reason from ledger where event <> 'issued' order by seq, rowid"
        )
        return {f"task {int(prompt) - 1}": (event, reason) for prompt, event, reason in rows}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    yield made
    made.store.close()


def test_tasks_are_drawn_one_by_one_from_rounds(run: Run) -> None:
    rounds, drawn = [], []
    for _ in range(2 * PROMPTS):
        drawn += run.draw(1)
        rounds.append(run.scheduler.curriculum.rounds_asked)
    assert rounds == [1] * PROMPTS + [2] * PROMPTS
    assert len(set(drawn)) == 2 * PROMPTS  # none of those under way is drawn again
    assert iter(run.sampler) is run.sampler


def test_the_last_tasks_are_drawn_one_by_one(tmp_path: Path) -> None:
    run = Run(tmp_path, prompts=16)
    assert len(set(run.draw(24))) == 24
    assert run.scheduler.curriculum.rounds_asked == 1 + 8  # a second round of 16 could not be
    assert run.sampler.metrics()["groups/short_rounds"] == 8
    with pytest.raises(PoolExhausted):
        next(run.sampler)
    run.store.close()


def test_tasks_are_checked(run: Run) -> None:
    def make(tasks: Any, **changes: Any) -> None:
        CurriculumTaskSampler(tasks, run.scheduler, **{"prompts": PROMPTS, **changes})

    with pytest.raises(InvalidData, match="tasks that can be counted; got list_iterator"):
        make(iter(run.tasks))
    with pytest.raises(InvalidData, match="1 tasks have the key of another task"):
        make([*run.tasks, make_task("task 3")])
    with pytest.raises(InvalidData, match='no id in "task id"'):
        make(run.tasks, id_of=lambda task: None if task.key == "task 3" else task.key)
    with pytest.raises(UnknownPrompt, match="not the own id of one prompt"):
        make([*run.tasks, make_task("task 99")])
    with pytest.raises(InvalidParameter, match=r"`prompts` of `CurriculumTaskSampler` must be an int in \[1, inf\)"):
        make(run.tasks, prompts=0)


def test_failed_rollouts_are_left_out_and_a_group_of_them_is_lost(run: Run) -> None:
    first, second = run.draw(2)
    run.sampler.observe([episode(first, 1.0, version=6), episode(first, 0.0, failed=True)])
    run.observe(second, 0.0, 0.0, failed=True)
    assert run.ledger() == {first: ("trained", None), second: ("lost", "every rollout failed")}
    rows = run.store.connection.rows("select reward, policy_version from rollouts")
    assert [tuple(row) for row in rows] == [(1.0, 6)]


def test_traces_of_agents_that_are_not_trained_are_left_out(run: Run) -> None:
    (key,) = run.draw(1)
    judged = episode(key, 1.0)
    judged.traces[0].agent.trainable = False
    run.sampler.observe([judged, episode(key, 0.0)])
    assert [row[0] for row in run.store.connection.rows("select reward from rollouts")] == [0.0]


def test_groups_of_something_else_are_refused(run: Run) -> None:
    first, second = run.draw(2)
    with pytest.raises(InvalidRollouts, match="a group must be of one task; got 2"):
        run.sampler.observe([episode(first), episode(second)])
    with pytest.raises(UnknownPrompt, match='the key "another"'):
        run.observe("another", 1.0)
    assert not run.ledger()


def test_what_is_thrown_away_is_settled_with_the_reason(run: Run) -> None:
    stale, overload, kept = run.draw(3)
    run.sampler.cancelled(stale, "stale")
    run.sampler.cancelled(overload, "overload")
    run.sampler.cancelled(stale, "stale")  # once more changes nothing
    assert run.ledger() == {stale: ("dropped", "stale"), overload: ("lost", "overload")}
    run.observe(stale, 1.0, 0.0)  # it arrives after all: evidence
    run.observe(kept, 1.0, 0.0)
    run.observe(run.draw(1)[0], 1.0, 0.0)
    assert run.scheduler.metrics()["curriculum/uniform/responses_folded"] == 3 * GROUP


def test_what_was_drawn_after_the_checkpoint_comes_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for key in run.draw():
        run.observe(key, 1.0, 0.0)
    under_way = run.draw(2)
    state = json.loads(json.dumps(run.sampler.state_dict()))
    later = [*run.draw(2), *run.draw()]
    for key in [*under_way, *later]:
        run.observe(key, 1.0, 0.0)
    run.store.close()
    run = Run(tmp_path)
    run.sampler.load_state_dict(state)
    again = run.draw(2 + len(later))
    assert sorted(again) == sorted([*under_way, *later])
    assert run.scheduler.curriculum.rounds_asked == 3
    for key in again:
        run.observe(key, 1.0, 0.0)
    assert run.scheduler.metrics()["curriculum/uniform/responses_folded"] == 3 * PROMPTS * GROUP  # the same counts once
    run.store.close()


def test_without_a_checkpoint_what_was_under_way_comes_first(tmp_path: Path) -> None:
    run = Run(tmp_path)
    drawn = run.draw()
    run.observe(drawn[0], 1.0, 0.0)
    run.store.close()
    run = Run(tmp_path)
    assert run.draw(3) == drawn[1:]
    assert run.scheduler.curriculum.rounds_asked == 1
    run.store.close()


def test_a_state_of_another_sampler_is_refused(run: Run) -> None:
    with pytest.raises(StateMismatch, match="holds no state of a curriculum"):
        run.sampler.load_state_dict({"cursor": 3})


# ---- in the place of prime-rl's own ----------------------------------------------------------------------------------


@pytest.fixture
def prime(monkeypatch: pytest.MonkeyPatch) -> Any:
    """prime-rl's modules, put back as they were after the test."""
    if not HERE:
        stand_in("prime_rl", monkeypatch)
    from prime_rl.orchestrator import dispatcher, train_sink, train_source, types

    monkeypatch.setattr(train_source, "Curriculum", train_source.Curriculum)
    monkeypatch.setattr(dispatcher.Dispatcher, "drop_group", dispatcher.Dispatcher.drop_group)
    monkeypatch.setattr(train_sink.TrainSink, "__init__", train_sink.TrainSink.__init__)
    return SimpleNamespace(dispatcher=dispatcher, train_sink=train_sink, train_source=train_source, types=types)


def environment(run: Run, curriculum: Any = None) -> Any:
    config = SimpleNamespace(curriculum=curriculum, ratio=1.0, group_size=GROUP)
    return SimpleNamespace(name="sums", tasks=iter(run.tasks), num_tasks=len(run.tasks), config=config)


def source_of(prime: Any, run: Run) -> Any:
    install(lambda tasks: run.sampler)
    return prime.train_source.TrainSource([environment(run)])


def make_sink(prime: Any, source: Any) -> Any:
    names = ("tokenizer", "train_envs", "mm_token_type_ids_mapping", "progress", "token_batch_size")
    return prime.train_sink.TrainSink(None, **dict.fromkeys(names), batch_size=4, on_result=source.on_result)


def test_the_train_source_draws_and_observes_through_it(prime: Any, run: Run) -> None:
    source = source_of(prime, run)
    assert source.curricula["sums"].sampler is run.sampler
    key = source.next_task(step=1).task.key
    assert source.on_result([episode(key, 1.0), episode(key, 0.0)]) is True
    assert run.ledger() == {key: ("trained", None)}
    state = source.state_dict()
    next_keys = [source.next_task(step=1).task.key for _ in range(PROMPTS)]
    source.load_state_dict(state)
    assert [source.next_task(step=1).task.key for _ in range(PROMPTS)] == next_keys


@pytest.mark.parametrize(
    ("reason", "emitted", "settled"),
    [
        ("stale", 0, ("dropped", "stale")),
        ("stale", 1, ("dropped", "stale")),
        ("overload", 0, ("lost", "overload")),
        ("overload", 1, None),  # what has arrived of it will be observed
    ],
)
def test_dropped_groups_are_settled(
    prime: Any, run: Run, reason: str, emitted: int, settled: tuple[str, str] | None
) -> None:
    source = source_of(prime, run)
    task = source.next_task(step=1).task
    group = prime.types.GroupState("train", "sums", task, 1, GROUP, GROUP, emitted=emitted)
    dispatcher = object.__new__(prime.dispatcher.Dispatcher)
    dispatcher.train_source, dispatcher.groups, dispatcher.inflight = source, {"g": group}, {}
    dispatcher.metrics = SimpleNamespace(record_cancellation=lambda **_: None)
    dispatcher.out_q = asyncio.Queue()
    asyncio.run(dispatcher.drop_group("g", reason=reason))
    assert not dispatcher.groups
    assert run.ledger() == ({} if settled is None else {task.key: settled})


def test_groups_that_wait_for_a_batch_at_a_checkpoint_come_again(prime: Any, run: Run) -> None:
    source = source_of(prime, run)
    sink = make_sink(prime, source)
    keys = [source.next_task(step=1).task.key for _ in range(PROMPTS)]
    for key in keys:
        source.on_result([episode(key, 1.0), episode(key, 0.0)])
    waits = episode(keys[1], 1.0)
    sink.pending_batch["t"], sink.episode_by_trace["t"] = [], waits
    state = source.state_dict()
    sink.pending_batch.clear()  # shipped, and the process died before it was trained on
    source.load_state_dict(state)
    assert source.next_task(step=2).task.key == keys[1]
    assert run.scheduler.curriculum.rounds_asked == 1


def test_a_sampler_of_the_configuration_is_not_overruled_in_silence(prime: Any, run: Run) -> None:
    install(lambda tasks: run.sampler)
    if HERE:
        from prime_rl.configs.orchestrator import CurriculumConfig, DifficultyPoolConfig, DifficultyPoolSamplerConfig

        pools = {"all": DifficultyPoolConfig(threshold=1.0, weight=1.0)}
        config: Any = CurriculumConfig(sampler=DifficultyPoolSamplerConfig(pools=pools))
    else:
        config = "difficulty_pool"
    with pytest.raises(InvalidParameter, match="asks for a DifficultyPoolSampler, the start script for a curriculum"):
        prime.train_source.TrainSource([environment(run, config)])


def test_another_prime_rl_is_refused(prime: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def drop_group(self: Any, group: Any) -> int:
        return 0

    with monkeypatch.context() as changed:
        changed.setattr(prime.dispatcher.Dispatcher, "drop_group", drop_group)
        with pytest.raises(MissingExtra, match="not the one that the curriculum was written for") as caught:
            install(lambda tasks: run.sampler)
        assert caught.value.message.endswith("it is not so that Dispatcher.drop_group takes (group_id, *, reason)")
        assert "docs/trainers/prime_rl.md" in str(caught.value.hint)
    install(lambda tasks: run.sampler)
    with pytest.raises(MissingExtra, match="installed twice"):
        install(lambda tasks: run.sampler)


def test_where_there_is_no_prime_rl_it_says_so(run: Run) -> None:
    if HERE:
        pytest.skip("it is there")
    with pytest.raises(MissingExtra, match="prime-rl cannot be imported here"):
        install(lambda tasks: run.sampler)
