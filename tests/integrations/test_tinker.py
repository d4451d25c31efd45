"""tinker-cookbook: batches by number, and groups that tell their rewards. Real where tinker-cookbook is installed."""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch")

import curri
from curri.errors import InvalidParameter, StoreForked
from curri.store import NewPrompt
from curri.testing import AdapterCase, parametrize_adapters
from tests.integrations.upstream import is_here, stand_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from curri.testing import AdapterCheck, Setting

REAL = is_here("tinker_cookbook")


@pytest.fixture(autouse=True)
def _tinker(monkeypatch: pytest.MonkeyPatch) -> None:
    if not REAL:
        stand_in("tinker_cookbook", monkeypatch)
        monkeypatch.delitem(sys.modules, "curri.integrations.tinker", raising=False)


def adapter() -> Any:
    return importlib.import_module("curri.integrations.tinker")


def types_() -> Any:
    return importlib.import_module("tinker_cookbook.rl.types")


def trajectory(reward: float, *, stop: str | None = None) -> Any:
    """One turn of three tokens."""
    tokens = SimpleNamespace(tokens=[1, 2, 3])
    turn = types_().Transition(ob=None, ac=tokens, reward=reward, episode_done=True)
    return types_().Trajectory([turn], None, stop)


class Environments:
    """What a user's function makes of a row: as many environments as the group is large, and a bonus for the group."""

    def __init__(self, row: Any, size: int) -> None:
        self.row, self.size, self.bonus, self.cleaned = row, size, 0.0, 0

    async def make_envs(self) -> list[Any]:
        return [f"{self.row['prompt_id']}/{number}" for number in range(self.size)]

    async def compute_group_rewards(self, trajectory_group: Sequence[Any], env_group: Any) -> Any:
        return [(self.bonus, {"n": number}) for number, _ in enumerate(trajectory_group)]

    async def cleanup(self) -> None:
        self.cleaned += 1

    def logging_tags(self) -> list[str]:
        return ["sums"]


def play(builder: Any, rewards: Sequence[float]) -> Any:
    """What tinker-cookbook does with a builder whose rollouts got these rewards."""

    async def run() -> Any:
        envs = await builder.make_envs()
        try:
            return await builder.compute_group_rewards([trajectory(reward) for reward in rewards], envs)
        finally:
            await builder.cleanup()

    return asyncio.run(run())


# ---- the contract of all adapters ------------------------------------------------------------------------------------


class Session:
    """A training that goes through batches by number; the checkpoint is the number of the next one."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.folder, self.setting = folder, setting
        self.scheduler = setting.scheduler(folder)
        self.curriculum = self.scheduler.curriculum
        sizes: dict[str, Any] = {"prompts": setting.prompts, "batches": 99, "group_size": setting.group_size}
        try:
            self.dataset = adapter().CurriculumDataset(setting.rows(), self.scheduler, Environments, **sizes)
        except ValueError:
            self.stop()
            raise
        last = folder / "batch.json"
        self.index = json.loads(last.read_text()) if last.exists() else 0
        self.builders: dict[int, Any] = {}

    def next_batch(self) -> list[int]:
        batch = self.dataset.get_batch(self.index)
        self.index += 1
        self.builders |= {builder.group.prompt_id: builder for builder in batch}
        return [builder.group.prompt_id for builder in batch for _ in asyncio.run(builder.make_envs())]

    def report(self, ids: Sequence[int], rewards: Sequence[float]) -> None:
        by_prompt: dict[int, list[float]] = {}
        for prompt, reward in zip(ids, rewards, strict=True):
            by_prompt.setdefault(prompt, []).append(reward)
        for prompt in by_prompt.keys() - self.builders.keys():
            group = next(iter(self.builders.values())).group._replace(prompt_id=prompt)
            play(self.dataset.builder(group), by_prompt[prompt])
        for prompt, mine in by_prompt.items():
            play(self.builders[prompt], mine)

    def checkpoint(self) -> None:
        (self.folder / "batch.json").write_text(json.dumps(self.index))

    def stop(self) -> None:
        self.scheduler.store.close()


@parametrize_adapters([AdapterCase("tinker", Session)])
def test_adapter(check: AdapterCheck) -> None:
    check()


# ---- batches ---------------------------------------------------------------------------------------------------------

BATCH, GROUP = 4, 2


class Training:
    """A data set over 24 prompts of a store; the strategy is uniform."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.store = curri.open_store(folder / "prompts.duckdb", create=True)
        texts = [f"{i} + {i} = ?" for i in range(24)]
        if not len(self.store.prompts):
            self.store.prompts.add([NewPrompt(text, False, "0", "sums", external_id=f"own {text}") for text in texts])
        self.scheduler = curri.Scheduler(self.store, "uniform", run="r1", seed=0, group_size=3)
        rows = [{"prompt_id": f"own {text}", "prompt": text} for text in texts]
        given: dict[str, Any] = {"prompts": BATCH, "batches": 9, "group_size": GROUP, **changes}
        self.dataset = adapter().CurriculumDataset(rows, self.scheduler, Environments, **given)

    def ids(self, index: int) -> list[int]:
        return [builder.group.prompt_id for builder in self.dataset.get_batch(index)]

    def ledger(self) -> list[tuple[int, str, str | None]]:
        rows = self.store.connection.rows(
            "select prompt_id, event, reason from ledger where event <> 'issued' order by seq, rowid"
        )
        return [(int(prompt), event, reason) for prompt, event, reason in rows]


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Training]:
    made = Training(tmp_path)
    yield made
    made.store.close()


def test_a_batch_is_the_same_whenever_it_is_asked_for(training: Training) -> None:
    first = training.ids(0)
    assert training.ids(0) == first
    assert training.scheduler.curriculum.rounds_asked == 1
    for builder in training.dataset.get_batch(0):
        play(builder, [1.0, 0.0])
    assert training.ids(0) == first  # told or not
    second = training.ids(1)
    assert second != first
    assert (training.ids(0), training.ids(1)) == (first, second)
    assert training.scheduler.curriculum.rounds_asked == 2


def test_batches_are_in_order_and_there_are_so_many(training: Training) -> None:
    assert len(training.dataset) == 9
    with pytest.raises(InvalidParameter, match="batch 1 was asked for while 0 were picked"):
        training.dataset.get_batch(1)
    with pytest.raises(InvalidParameter, match="batch -1"):
        training.dataset.get_batch(-1)
    with pytest.raises(InvalidParameter, match="there is no batch 9: the dataset has 9"):
        training.dataset.get_batch(9)


def test_another_process_gets_the_batches_of_the_ledger(tmp_path: Path) -> None:
    first = Training(tmp_path)
    batches = []
    for index in range(3):
        batches.append(first.ids(index))
        for builder in first.dataset.get_batch(index)[: 2 if index == 2 else None]:
            play(builder, [1.0, 0.0])
    first.store.close()
    again = Training(tmp_path)  # whose checkpoint was made before batch 1
    assert [again.ids(1), again.ids(2)] == batches[1:]
    for index in (1, 2):
        for builder in again.dataset.get_batch(index):
            play(builder, [1.0, 0.0])
    assert again.scheduler.metrics()["curriculum/uniform/responses_folded"] == 3 * BATCH * GROUP  # each counts once
    assert again.ids(3)
    again.store.close()


def test_group_sizes_are_the_strategys_where_none_is_given(tmp_path: Path) -> None:
    training = Training(tmp_path, group_size=None)
    sizes = [len(asyncio.run(builder.make_envs())) for builder in training.dataset.get_batch(0)]
    assert sizes == [3] * BATCH
    training.store.close()


@pytest.mark.parametrize("name", ["prompts", "batches", "group_size"])
@pytest.mark.parametrize("value", [0, True, 2.0])
def test_sizes_are_checked(name: str, value: Any) -> None:
    with pytest.raises(InvalidParameter, match=f"`{name}` of `CurriculumDataset` must be an int in"):
        adapter().CurriculumDataset([], None, Environments, **{"prompts": 1, "batches": 1, name: value})


def test_a_bare_strategy_is_refused() -> None:
    strategy: Any = curri.curricula.Uniform(curri.PromptPool([1, 2]), seed=0)
    with pytest.raises(InvalidParameter, match=r"needs a `curri.Scheduler`.*got Uniform"):
        adapter().CurriculumDataset([{"prompt_id": 1}, {"prompt_id": 2}], strategy, Environments, prompts=1, batches=1)


# ---- rewards ---------------------------------------------------------------------------------------------------------


def test_what_is_told_is_the_sum_of_steps_and_group(training: Training) -> None:
    builder = training.dataset.get_batch(0)[0]
    builder.inner.bonus = 0.25
    assert play(builder, [1.0, 0.0]) == [(0.25, {"n": 0}), (0.25, {"n": 1})]
    assert builder.inner.cleaned == 1
    assert builder.logging_tags() == ["sums"]
    rows = training.store.connection.rows("select prompt_id, reward, tokens, truncated from rollouts order by reward")
    prompt = builder.group.prompt_id
    assert [tuple(row) for row in rows] == [(prompt, 0.25, 3, False), (prompt, 1.25, 3, False)]


def test_a_response_that_was_cut_off_is_told_as_such(training: Training) -> None:
    builder = training.dataset.get_batch(0)[0]
    cut = [trajectory(0.0, stop="max_tokens"), trajectory(1.0, stop="completed")]
    asyncio.run(builder.compute_group_rewards(cut, []))
    rows = training.store.connection.rows("select truncated from rollouts order by reward")
    assert [row[0] for row in rows] == [True, False]


def test_groups_that_failed_are_lost_once_the_trainer_goes_on(training: Training) -> None:
    builders = training.dataset.get_batch(0)
    for builder in builders[1:]:
        play(builder, [1.0, 0.0])
    asyncio.run(builders[0].cleanup())  # all rollouts failed: no rewards were computed
    assert builders[0].group in training.dataset.groups.out()  # the trainer may be about to end
    training.dataset.get_batch(1)
    assert (builders[0].group.prompt_id, "lost", "the rollouts failed") in training.ledger()
    assert {group.round for group in training.dataset.groups.out()} == {1}


def test_a_group_that_is_rolled_out_again_is_further_evidence(training: Training) -> None:
    builders = training.dataset.get_batch(0)
    for builder in builders:
        play(builder, [1.0, 0.0])
    play(builders[0], [1.0, 1.0])  # it had become stale
    for builder in training.dataset.get_batch(1):
        play(builder, [1.0, 0.0])
    assert training.scheduler.metrics()["curriculum/uniform/responses_folded"] == (2 * BATCH + 1) * GROUP


def test_a_builder_in_another_process_says_that_nobody_hears(training: Training) -> None:
    sent = copy.copy(training.dataset.get_batch(0)[0])  # what pickle hands on, without another process
    sent.__dict__.update(sent.__getstate__())
    for call in (sent.make_envs(), sent.compute_group_rewards([trajectory(1.0)], [])):
        with pytest.raises(StoreForked, match="rewards are heard only where the store is"):
            asyncio.run(call)
    asyncio.run(sent.cleanup())


def test_metrics_say_what_is_under_way(training: Training) -> None:
    training.dataset.get_batch(0)
    training.dataset.get_batch(1)
    metrics = training.dataset.metrics()
    assert metrics["groups/open"] == 2 * BATCH
    assert metrics["groups/staleness"] == BATCH
    assert metrics["scheduler/prompts_in_flight"] == 2 * BATCH


# ---- the real loop ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL, reason="tinker-cookbook is not installed: make test-tinker")
@pytest.mark.parametrize("constant", [False, True])
def test_the_real_rollouts_tell_before_constant_groups_are_removed(training: Training, constant: bool) -> None:
    """tinker-cookbook's own group rollout; only the model, which is a service, is played by an object that samples."""
    import tinker
    from tinker_cookbook.rl.rollouts import do_group_rollout_and_filter_constant_reward
    from tinker_cookbook.rl.types import Env, EnvGroupBuilder, StepResult

    class Guess(Env):  # type: ignore[misc]
        async def initial_observation(self) -> Any:
            return tinker.ModelInput.from_ints([1, 2]), [0]

        async def step(self, action: Any, *, extra: Any = None) -> Any:
            reward = 1.0 if constant else float(action[0])
            return StepResult(reward, True, tinker.ModelInput.from_ints([]), [])

    class Guesses(EnvGroupBuilder):  # type: ignore[misc]
        def __init__(self, row: Any, size: int) -> None:
            self.size = size

        async def make_envs(self) -> Any:
            return [Guess() for _ in range(self.size)]

    class Sampler:
        def __init__(self) -> None:
            self.n = 0

        async def sample(self, **_: Any) -> Any:
            self.n += 1
            tokens, logprobs = np.array([self.n % 2, 0]), np.array([-0.1, -0.1])
            sequence = tinker.SampledSequence("stop", str(self.n), tokens_np=tokens, logprobs_np=logprobs)
            return tinker.SampleResponse(sequences=[sequence])

        sample_async = sample  # its name before tinker-cookbook 0.6

    training.dataset._make_builder = Guesses

    async def step() -> list[Any]:
        builders = training.dataset.get_batch(0)
        assert all(isinstance(builder, EnvGroupBuilder) for builder in builders)
        sampler: Any = Sampler()
        return [
            await do_group_rollout_and_filter_constant_reward(sampler, builder, 8, 1.0, True, enable_logging=False)
            for builder in builders
        ]

    groups = asyncio.run(step())
    assert [group is None for group in groups] == [constant] * BATCH
    assert training.scheduler.metrics()["curriculum/uniform/responses_folded"] == BATCH * GROUP
    rows = training.store.connection.rows("select sum(reward), sum(tokens) from rollouts")
    assert [tuple(map(int, row)) for row in rows] == [(BATCH * GROUP if constant else BATCH, 2 * BATCH * GROUP)]
