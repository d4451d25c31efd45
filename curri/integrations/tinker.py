"""tinker-cookbook: a curriculum picks each batch of environments, and hears the rewards of every group.

>>> from curri.integrations.tinker import CurriculumDataset  # doctest: +SKIP
>>> scheduler = curri.Scheduler(store, "frontier", run="r1")  # doctest: +SKIP
>>> dataset = CurriculumDataset(rows, scheduler, make_builder, prompts=64, batches=200)  # doctest: +SKIP

The page ``docs/trainers/tinker.md`` says where it picks, where it hears, and how stale that is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tinker_cookbook.rl.types import EnvGroupBuilder, RLDataset

from curri.errors import InvalidParameter, StoreForked
from curri.integrations.groups import Group, Groups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tinker_cookbook.rl.types import Env, Metrics, Trajectory

    from curri.scheduler import Scheduler

__all__ = ["CurriculumDataset", "ReportingBuilder"]


class CurriculumDataset(RLDataset):
    """Batch ``index`` is the run's round of that number: the same prompts whenever it is asked for, by any process.

    So a training that goes on from a checkpoint's batch number is handed what it was handed before, and then what is
    picked anew. Batches are picked in order, each when it is first asked for.

    Args:
        rows: the dataset, with the prompts' ids in a column: of Hugging Face, a ``PromptDataset`` of a store, or any
            whose rows are mappings.
        scheduler: the run that picks. It belongs to one training: one that starts over takes a new run name.
        make_builder: makes the environments of a prompt, from its row and the group size.
        prompts: prompts of a batch, ≥ 1.
        batches: length of the training in batches, ≥ 1.
        group_size: rollouts of each prompt; None for as many as the strategy wants of it.
        id_column: the column with the ids: ids of the store, or texts that are the user's own.

    Raises:
        InvalidData: a row has no id, or two rows have the same one.
        InvalidParameter: a wrong argument.
        UnknownPrompt: an id that the store does not have.
    """

    def __init__(
        self,
        rows: Any,
        scheduler: Scheduler,
        make_builder: Callable[[Any, int], EnvGroupBuilder],
        *,
        prompts: int,
        batches: int,
        group_size: int | None = None,
        id_column: str = "prompt_id",
    ) -> None:
        for name, value in (("prompts", prompts), ("batches", batches), ("group_size", group_size)):
            wrong = not isinstance(value, int) or isinstance(value, bool) or value < 1
            if wrong and not (name == "group_size" and value is None):
                raise InvalidParameter(f"`{name}` of `CurriculumDataset` must be an int in [1, inf); got {value!r}")
        self.groups = Groups(scheduler, rows, id_column)
        self._rows, self._make_builder = rows, make_builder
        self._prompts, self._batches, self._group_size = prompts, batches, group_size
        self._ended: set[Group] = set()

    def __len__(self) -> int:
        return self._batches

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        """The builders of a batch; each tells its rewards when its rollouts are done.

        Raises:
            InvalidParameter: a batch before it was never asked for, or there is no such batch.
            PoolExhausted: fewer prompts are left than a batch has.
        """
        if index >= self._batches:
            raise InvalidParameter(f"there is no batch {index}: the dataset has {self._batches}")
        self._settle_failed()
        return [self.builder(group) for group in self.groups.batch(index, self._prompts)]

    def builder(self, group: Group) -> ReportingBuilder:
        """The builder of one group."""
        size = self._group_size or group.n_rollouts
        return ReportingBuilder(self._make_builder(self._rows[group.row], size), group, self)

    def heard(self, group: Group, rewards: Sequence[float], tokens: Sequence[int], truncated: Sequence[bool]) -> None:
        """Tell a group."""
        ids = [group.prompt_id] * len(rewards)
        self.groups.tell(ids, rewards, round=group.round, tokens=tokens, truncated=truncated)

    def ended(self, group: Group) -> None:
        """Note that the rollouts of a group are over, told or not."""
        self._ended.add(group)

    def _settle_failed(self) -> None:
        """Groups that ended without rewards; that there is a next batch says that the trainer could do without them."""
        ended, self._ended = self._ended, set()
        failed = [group.prompt_id for group in self.groups.out() if group in ended]
        self.groups.resolve(failed, "lost", "the rollouts failed")

    def metrics(self) -> dict[str, float]:
        """Numbers to log."""
        return self.groups.metrics()


class ReportingBuilder(EnvGroupBuilder):
    """A builder around the user's own, whose rewards are told before any group is thrown away.

    Args:
        inner: the user's builder.
        group: what it is for.
        dataset: who hears.
    """

    def __init__(self, inner: EnvGroupBuilder, group: Group, dataset: CurriculumDataset) -> None:
        self.inner = inner
        self.group = group
        self._dataset: CurriculumDataset | None = dataset

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_dataset": None}

    def _hearing(self) -> CurriculumDataset:
        if self._dataset is None:
            raise StoreForked(
                f"the builder of prompt {self.group.prompt_id} was sent to process {os.getpid()}; its rewards are "
                "heard only where the store is, in the training's own",
                hint="leave set_rollout_executor out, or give it an executor of threads",
            )
        return self._dataset

    async def make_envs(self) -> Sequence[Env]:
        """The user's environments."""
        self._hearing()
        envs: Sequence[Env] = await self.inner.make_envs()
        return envs

    async def compute_group_rewards(
        self, trajectory_group: list[Trajectory], env_group: Sequence[Env]
    ) -> list[tuple[float, Metrics]]:
        """The user's rewards; the sums with those of the steps are told."""
        results = await self.inner.compute_group_rewards(trajectory_group, env_group)
        steps = [trajectory.transitions for trajectory in trajectory_group]
        self._hearing().heard(
            self.group,
            [sum(step.reward for step in each) + own for each, (own, _) in zip(steps, results, strict=True)],
            [sum(len(step.ac.tokens) for step in each) for each in steps],
            [trajectory.stop_reason in _CUT_OFF for trajectory in trajectory_group],
        )
        return list(results)

    async def cleanup(self) -> None:
        """Clean up what the user's builder made."""
        if self._dataset is not None:
            self._dataset.ended(self.group)
        await self.inner.cleanup()

    def logging_tags(self) -> list[str]:
        """The user's tags."""
        return list(self.inner.logging_tags())


_CUT_OFF = {"max_tokens", "max_sampled_tokens", "context_overflow"}
