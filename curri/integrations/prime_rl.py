"""prime-rl: a curriculum draws the tasks of an environment, and hears every finished group of rollouts.

prime-rl's configuration names its samplers in a closed list. Until it takes an import path, a start script of three
lines puts this one in, in place of the command ``orchestrator``:

>>> from prime_rl.entrypoints.orchestrator import main  # doctest: +SKIP
>>> install(lambda tasks: CurriculumTaskSampler(tasks, scheduler, prompts=64))  # doctest: +SKIP
>>> main()  # doctest: +SKIP

The page ``docs/trainers/prime_rl.md`` says where it picks, where it hears, and how stale that is.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from curri.errors import InvalidData, InvalidParameter, InvalidRollouts, MissingExtra, StateMismatch, UnknownPrompt
from curri.integrations.groups import Groups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from curri.integrations.groups import Group
    from curri.scheduler import Scheduler

__all__ = ["CurriculumTaskSampler", "install"]

FORMAT = 1


class CurriculumTaskSampler:
    """A ``TaskSampler`` of prime-rl: draws tasks as a curriculum picks them; a task under way is not drawn again.

    Args:
        tasks: all tasks of the environment; an endless one has none.
        scheduler: the run that picks. Each environment needs a run, or a consumer, of its own.
        prompts: prompts of one round, ≥ 1: as many groups as make a training batch. They are drawn one by one.
        id_of: gives a task's id in the store: the ``prompt_id``, or as a text the user's own id. By default the task's
            key, which is a digest of its content unless the environment says otherwise.

    Raises:
        InvalidData: no tasks, an endless stream of them, a task without an id, or two with the same one.
        InvalidParameter: a wrong argument.
        UnknownPrompt: an id that the store does not have.
    """

    def __init__(
        self,
        tasks: Sequence[Any],
        scheduler: Scheduler,
        *,
        prompts: int,
        id_of: Callable[[Any], int | str | None] = lambda task: task.key,
    ) -> None:
        if not isinstance(tasks, Sequence):
            raise InvalidData(
                f"a curriculum needs tasks that can be counted; got {type(tasks).__name__}",
                hint="an environment without an end (num_tasks is None) has no tasks to come back to",
            )
        if not isinstance(prompts, int) or isinstance(prompts, bool) or prompts < 1:
            raise InvalidParameter(f"`prompts` of `CurriculumTaskSampler` must be an int in [1, inf); got {prompts!r}")
        self.tasks = tuple(tasks)
        ids = [id_of(task) for task in self.tasks]
        self._id_of_key = {task.key: name for task, name in zip(self.tasks, ids, strict=True)}
        if len(self._id_of_key) < len(self.tasks):
            raise InvalidData(f"{len(self.tasks) - len(self._id_of_key)} tasks have the key of another task")
        self.groups = Groups(scheduler, self.tasks, "task id", ids)
        self._prompts = prompts
        self._told: dict[str, Group] = {}
        self._sink: Callable[[], Any] = lambda: None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """The next task: what comes again after a restart, then what is picked."""
        (group,) = self.groups.take(1, at_once=self._prompts)
        return self.tasks[group.row]

    def observe(self, group: Sequence[Any]) -> None:
        """Tell a finished group of episodes, before the gates judge it.

        Rollouts that failed are left out; a group in which all did is settled as lost.

        Raises:
            InvalidRollouts: the group is of several tasks.
            UnknownPrompt: of a task that is not one of these.
        """
        keys = {episode.task.key for episode in group}
        if len(keys) != 1:
            raise InvalidRollouts(f"a group must be of one task; got {len(keys)}")
        key = keys.pop()
        heard = [
            (trace, _version(episode))
            for episode in group
            for trace in episode.traces
            if not trace.has_error and trace.agent.trainable
        ]
        name = self._name(key)
        for out in self.groups.out_of(name)[:1]:
            self._told[key] = out
        if not heard:
            self.groups.resolve([name], "lost", "every rollout failed")
            return
        self.groups.tell(
            [name] * len(heard),
            [trace.reward for trace, _ in heard],
            tokens=[trace.num_output_tokens for trace, _ in heard],
            truncated=[bool(trace.is_truncated) for trace, _ in heard],
            policy_version=[version for _, version in heard],
        )

    def cancelled(self, key: str, reason: str) -> None:
        """Settle a group that prime-rl threw away, of which it tells no sampler.

        Args:
            key: of its task.
            reason: prime-rl's own word, such as "stale" or "overload".
        """
        self.groups.resolve([self._name(key)], "dropped" if reason == "stale" else "lost", reason)

    def attach(self, sink: Any) -> None:
        """Look, at checkpoints, which groups wait in this ``TrainSink`` to be trained on."""
        self._sink = weakref.ref(sink)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to remember; the rest is in the store."""
        sink = self._sink()
        queued = [] if sink is None else [sink.episode_by_trace[trace].task.key for trace in sink.pending_batch]
        waiting = {self._told[key] for key in queued if key in self._told}
        return {"format": FORMAT, "groups": self.groups.state(waiting)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a checkpoint: what was under way, or queued, or drawn since, comes first.

        Raises:
            StateMismatch: it is of another sampler, store or run.
        """
        if state.get("format") != FORMAT or "groups" not in state:
            raise StateMismatch(
                "the checkpoint holds no state of a curriculum",
                hint="it was written with another sampler: start anew, or with ckpt.skip_progress",
            )
        self.groups.restore(state["groups"])
        self._told.clear()

    def metrics(self) -> dict[str, float]:
        """Numbers to log; prime-rl puts ``curriculum/ENV/sampler/`` before their names."""
        return self.groups.metrics()

    def _name(self, key: str) -> Any:
        if key not in self._id_of_key:
            raise UnknownPrompt(f'a group is of a task with the key "{key}", which is not one of these tasks')
        return self._id_of_key[key]


def install(make_sampler: Callable[[Sequence[Any]], CurriculumTaskSampler]) -> None:
    """Let prime-rl draw its tasks from this sampler; call it before the orchestrator starts.

    The gates of the configuration stay in force; its ``sampler`` must be left at the default. Groups that prime-rl
    throws away are settled, and groups that wait for a batch at a checkpoint are part of it.

    Args:
        make_sampler: gives the sampler of an environment, from its tasks.

    Raises:
        MissingExtra: prime-rl is not there, or not the one that this was written for; or it was installed before.
    """
    try:
        from prime_rl.orchestrator import dispatcher, train_sink, train_source
        from prime_rl.orchestrator.curriculum import Curriculum, TaskSampler
    except ImportError as error:
        raise MissingExtra(f"prime-rl cannot be imported here: {error}", hint="run this where prime-rl is") from error
    _refuse_changed(
        {
            "Curriculum takes (config, tasks)": _takes(Curriculum, "config", "tasks"),
            "TrainSource makes a Curriculum of its module": train_source.Curriculum is Curriculum
            and "Curriculum" in train_source.TrainSource.__init__.__code__.co_names,
            "a TaskSampler is asked for what this one answers": _methods(TaskSampler)
            <= _methods(CurriculumTaskSampler),
            "Dispatcher.drop_group takes (group_id, *, reason)": _takes(
                dispatcher.Dispatcher.drop_group, "self", "group_id", "reason"
            ),
            "TrainSink is handed on_result": "on_result" in inspect.signature(train_sink.TrainSink).parameters,
        }
    )
    train_source.Curriculum = _with_sampler(Curriculum, make_sampler)
    _settle_dropped(dispatcher.Dispatcher)
    _show_queue(train_sink.TrainSink)


def _refuse_changed(expected: Mapping[str, bool]) -> None:
    wrong = [what for what, holds in expected.items() if not holds]
    if wrong:
        raise MissingExtra(
            "this prime-rl is not the one that the curriculum was written for, or it was installed twice; it is not so "
            f"that {'; nor that '.join(wrong)}",
            hint="docs/trainers/prime_rl.md names the commit; a newer prime-rl may have an import path for samplers",
        )


def _takes(function: Any, *names: str) -> bool:
    return tuple(inspect.signature(function).parameters) == names


def _methods(kind: type) -> set[str]:
    own = {name for name in vars(kind) if not name.startswith("_") and callable(getattr(kind, name))}
    return own | ({"__next__"} if hasattr(kind, "__next__") else set())


def _with_sampler(base: Any, make_sampler: Callable[[Sequence[Any]], CurriculumTaskSampler]) -> Any:
    def __init__(self: Any, config: Any, tasks: Any) -> None:  # noqa: N807
        base.__init__(self, config, tasks)
        if type(self.sampler).__name__ != "StandardSampler":
            raise InvalidParameter(
                f"the configuration asks for a {type(self.sampler).__name__}, the start script for a curriculum",
                hint="leave orchestrator.train.source.curriculum.sampler out",
            )
        self.sampler = make_sampler(tasks)

    return type("Curriculum", (base,), {"__init__": __init__})


def _settle_dropped(dispatcher: Any) -> None:
    original = dispatcher.drop_group

    @functools.wraps(original)
    async def drop_group(self: Any, group_id: Any, *, reason: str) -> int:
        group = self.groups.get(group_id)
        cancelled: int = await original(self, group_id, reason=reason)
        # What has arrived of a group is observed as soon as the rest is given up, unless it is stale.
        if group is not None and group.kind == "train" and (reason == "stale" or not group.emitted):
            sampler = self.train_source.curricula[group.env_name].sampler
            if isinstance(sampler, CurriculumTaskSampler):
                sampler.cancelled(group.task.key, reason)
        return cancelled

    dispatcher.drop_group = drop_group


def _show_queue(sink: Any) -> None:
    original = sink.__init__

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        original(self, *args, **kwargs)
        source = getattr(self.on_result, "__self__", None)
        for curriculum in getattr(source, "curricula", {}).values():
            if isinstance(curriculum.sampler, CurriculumTaskSampler):
                curriculum.sampler.attach(self)

    sink.__init__ = __init__


def _version(episode: Any) -> int:
    """The policy version that a rollout began with; -1 where there is none."""
    policy = getattr(getattr(episode.run, "work", None), "policy", None)
    return -1 if policy is None else int(policy.start)
