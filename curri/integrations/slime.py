"""slime: a curriculum picks the prompts of a rollout, and hears every group of it, kept or not.

Two options of slime's command line, and a file of settings; no code:

    --data-source-path curri.integrations.slime.CurriculumDataSource
    --rollout-all-samples-process-path curri.integrations.slime.hear
    --custom-config-path curri.yaml

The page ``docs/trainers/slime.md`` says what stands in the file, where it picks, where it hears, and how stale that is.
"""

from __future__ import annotations

import copy
import json
import os
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curri.errors import InvalidParameter, InvalidRollouts, MissingExtra, StateMismatch
from curri.integrations.groups import Groups
from curri.scheduler import Scheduler
from curri.store import open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from curri.integrations.groups import Group

__all__ = ["CurriculumDataSource", "generate_rollout_fully_async", "hear", "note_trained"]

_TRAINED = "curri_trained"
_ROLLOUTS_KEPT = 8


class CurriculumDataSource:
    """What slime's ``--data-source-path`` names: slime reads its prompt file as ever, a curriculum picks from it.

    The file needs the prompts' ids in its metadata, as ``curri export --format slime`` writes them. Settings are read
    from slime's arguments, where ``--custom-config-path`` puts them: ``curri_store`` and ``curri_run``, and if wanted
    ``curri_strategy``, ``curri_parameters``, ``curri_id_key`` ("prompt_id") and ``curri_solved_key``.

    Args:
        args: slime's arguments.

    Raises:
        InvalidData: a prompt without an id, or two with the same one.
        InvalidParameter: a setting is missing, or slime was told to read no prompts.
        UnknownPrompt: an id that the store does not have.
    """

    def __init__(self, args: Any) -> None:
        self.args = args
        self._samples = self.read_samples(args)
        key = getattr(args, "curri_id_key", "prompt_id")
        ids = [(sample.metadata or {}).get(key) for sample in self._samples]
        self._key = key
        self.scheduler = self.make_scheduler(args)
        self.groups = Groups(self.scheduler, self._samples, f"metadata.{key}", ids)
        self._lock = threading.RLock()
        self._partial: deque[list[Any]] = deque()
        self._after: dict[int, dict[str, Any]] = {}
        self._rollout = -1
        self._group_index = self._index = 0

    def read_samples(self, args: Any) -> Sequence[Any]:
        """The prompts, as slime itself reads them from its ``--prompt-data``."""
        from slime.rollout.data_source import RolloutDataSource

        dataset = RolloutDataSource(args).dataset
        if dataset is None:
            raise InvalidParameter(
                "slime was told to read no prompts, so there is nothing to pick from",
                hint="--prompt-data FILE, and leave --disable-rollout-global-dataset out",
            )
        samples: Sequence[Any] = dataset.samples
        return samples

    def make_scheduler(self, args: Any) -> Scheduler:
        """The run that picks; override it to make one in another way."""
        settings: dict[str, Any] = {
            name: getattr(args, f"curri_{name}", None) for name in ("store", "run", "strategy", "parameters")
        }
        missing = [f"curri_{name}" for name in ("store", "run") if not settings[name]]
        if missing:
            raise InvalidParameter(
                f"slime's arguments have no {' and no '.join(missing)}",
                hint="write them into a YAML file and name it: --custom-config-path curri.yaml",
            )
        parameters = {"group_size": args.n_samples_per_prompt, **(settings["parameters"] or {})}
        if parameters["group_size"] != args.n_samples_per_prompt:
            raise InvalidParameter(
                f"`group_size` of the strategy must be slime's --n-samples-per-prompt, {args.n_samples_per_prompt}; "
                f"got {parameters['group_size']}",
                hint="leave it out of curri_parameters",
            )
        return Scheduler(open_store(settings["store"]), settings["strategy"], run=settings["run"], **parameters)

    def __len__(self) -> int:
        return len(self._samples)

    # ---- picking ------------------------------------------------------------------------------------------------

    def get_samples(self, num_samples: int) -> list[list[Any]]:
        """Groups of samples: first those that slime broke off and handed back, then what comes again, then picks."""
        with self._lock:
            # Who asks for single groups keeps a pool of them full; a round of one prompt each would mean nothing.
            at_once = 1 if num_samples >= self.args.over_sampling_batch_size else self.args.rollout_batch_size
            again = min(num_samples, len(self._partial))
            new = [self._samples_of(group) for group in self.groups.take(num_samples - again, at_once=at_once)]
            return [self._partial.popleft() for _ in range(again)] + new

    def _samples_of(self, group: Group) -> list[Any]:
        samples = [copy.deepcopy(self._samples[group.row]) for _ in range(self.args.n_samples_per_prompt)]
        for sample in samples:
            sample.group_index, sample.index = self._group_index, self._index
            self._index += 1
        self._group_index += 1
        return samples

    def add_samples(self, samples: list[list[Any]]) -> None:
        """Groups that were broken off and will be finished later (``--partial-rollout``); they come first.

        Raises:
            InvalidRollouts: a group of another size, or of a prompt that is not out.
        """
        with self._lock:
            for group in samples:
                if len(group) != self.args.n_samples_per_prompt:
                    raise InvalidRollouts(
                        f"a group of {len(group)} samples was handed back; --n-samples-per-prompt is "
                        f"{self.args.n_samples_per_prompt}"
                    )
                name = self._id_of(group)
                held = [self._id_of(other) for other in (*self._partial, *samples)]
                if held.count(name) > len(self.groups.out_of(name)):
                    raise InvalidRollouts(
                        f"a group of prompt {name} was handed back that is not out, or was handed back before"
                    )
            self._partial.extend(samples)

    # ---- hearing ------------------------------------------------------------------------------------------------

    def hear(self, groups: Sequence[Sequence[Any]], *, others_broken_off: bool) -> None:
        """Tell the groups of one rollout, and end it.

        Args:
            groups: all that were finished, before any filter. Those that :func:`note_trained` did not see, where it saw
                some, are recorded as dropped.
            others_broken_off: whether slime threw away what it had started and not finished.
        """
        with self._lock:
            named = [(self._id_of(group), [_last(sample) for sample in group]) for group in groups]
            noted = any(_is_noted(group) for _, group in named)
            for trained in (True, False):
                mine = [(name, group) for name, group in named if (not noted or _is_noted(group)) == trained]
                self._tell(mine, trained=trained)
            if others_broken_off:
                partial = {self._id_of(group) for group in self._partial}
                left = [self._id_in(self._samples[group.row]) for group in self.groups.out()]
                self.groups.resolve([name for name in left if name not in partial], "lost", "slime broke it off")
            self._rollout += 1
            self._after[self._rollout] = self._state()  # slime may save it while the next rollout is under way
            self._after.pop(self._rollout - _ROLLOUTS_KEPT, None)

    def failed(self, group: Sequence[Any]) -> None:
        """Settle a group whose generation raised, where slime goes on without it."""
        self.groups.resolve([self._id_of(group)], "lost", "its generation raised")

    def _tell(self, named: Sequence[tuple[Any, list[Any]]], *, trained: bool) -> None:
        scored = [(name, sample) for name, group in named for sample in group if self._is_scored(sample)]
        if scored:
            samples = [sample for _, sample in scored]
            self.groups.tell(
                [name for name, _ in scored],
                [sample.get_reward_value(self.args) for sample in samples],
                tokens=[sample.response_length for sample in samples],
                truncated=[sample.status.value == "truncated" for sample in samples],
                policy_version=[_version(sample) for sample in samples],
                resolve="trained" if trained else "dropped",
                reason=None if trained else "filtered, or more than slime needed",
                **self._solved(samples),
            )
        unscored = {name for name, _ in named} - {name for name, _ in scored}
        if unscored:
            self.groups.resolve(sorted(unscored), "lost", "no response was scored")

    def _is_scored(self, sample: Any) -> bool:
        return sample.reward is not None and sample.status.value != "aborted"

    def _solved(self, samples: Sequence[Any]) -> dict[str, Any]:
        key = getattr(self.args, "curri_solved_key", None)
        return {} if key is None else {"solved": [sample.reward[key] for sample in samples]}

    def _id_of(self, group: Sequence[Any]) -> Any:
        names = {self._id_in(_last(sample)) for sample in group}
        if len(names) != 1 or None in names:
            raise InvalidRollouts(
                f'a group must be of one prompt, which its samples\' metadata name as "{self._key}"; '
                f"got {', '.join(sorted(map(str, names)))}",
                hint="a function of yours that makes new samples must keep their metadata",
            )
        return names.pop()

    def _id_in(self, sample: Any) -> Any:
        return (sample.metadata or {}).get(self._key)

    # ---- saving -------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {"groups": self.groups.state(), "group_index": self._group_index, "index": self._index}

    def save(self, rollout_id: int) -> None:
        """Write what a training that goes on from this rollout must be handed again, beside slime's checkpoint.

        Raises:
            InvalidParameter: no rollout was heard of, although samples were handed out.
        """
        with self._lock:
            if self.groups.out() and not self._after:
                raise InvalidParameter(
                    "a rollout ended and its rewards were never heard of, so nothing could be learned from them",
                    hint="--rollout-all-samples-process-path curri.integrations.slime.hear",
                )
            path = _state_file(self.args.save, rollout_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}.part")
            draft.write_text(json.dumps(self._after.get(rollout_id) or self._state()), encoding="utf-8")
            draft.replace(path)

    def load(self, rollout_id: int | None = None) -> None:
        """Go on after a rollout: what was handed out since, or was under way, comes again, told or not.

        Raises:
            StateMismatch: the checkpoint is of a training without a curriculum, or of another run.
        """
        with self._lock:
            self._rollout = -1 if rollout_id is None else int(rollout_id)
            self._after.clear()
            if self._rollout < 0 or self.args.load is None:
                return
            path = _state_file(self.args.load, self._rollout)
            if not path.is_file():
                raise StateMismatch(
                    f"the checkpoint holds no state of a curriculum ({path})",
                    hint="it is of a training without one: start with --start-rollout-id 0, or load only the model",
                )
            state = json.loads(path.read_text(encoding="utf-8"))
            self.groups.restore(state["groups"])
            self._group_index, self._index = state["group_index"], state["index"]
            self._partial.clear()


def hear(args: Any, all_samples: list[list[Any]], data_source: Any) -> None:
    """What slime's ``--rollout-all-samples-process-path`` names: tells every finished group, kept or not.

    Args:
        args: slime's arguments.
        all_samples: the groups.
        data_source: the data source, or its method ``get_samples``, which is what slime hands in.
    """
    source = getattr(data_source, "__self__", data_source)
    if not isinstance(source, CurriculumDataSource):
        raise InvalidParameter(
            f"rewards are for a CurriculumDataSource; slime's data source is a {type(source).__name__}",
            hint="--data-source-path curri.integrations.slime.CurriculumDataSource",
        )
    source.hear(all_samples, others_broken_off=not args.partial_rollout)


def note_trained(args: Any, data: Iterable[Sequence[Any]]) -> None:  # noqa: ARG001  what slime hands in
    """What slime's ``--rollout-sample-filter-path`` may name: notes which groups are trained on, and removes nothing.

    Without it every finished group is recorded as trained, those too that slime filtered or had no use for.
    """
    for group in data:
        for sample in group:
            last = _last(sample)
            last.metadata = {**(last.metadata or {}), _TRAINED: True}


def generate_rollout_fully_async(args: Any, rollout_id: int, data_source: Any, evaluation: bool = False) -> Any:  # noqa: FBT001, FBT002  as slime calls it
    """What ``--rollout-function-path`` names in place of slime's own of this name, which tells nobody the rewards.

    Raises:
        MissingExtra: a slime that makes its groups in another way, so that failed ones would stay in flight.
    """
    from slime.rollout import fully_async_rollout

    _hear_failures(fully_async_rollout, data_source)
    groups = fully_async_rollout.generate_rollout_fully_async(args, rollout_id, data_source, evaluation=evaluation)
    data_source.hear(groups, others_broken_off=False)
    return groups


def _hear_failures(module: Any, source: CurriculumDataSource) -> None:
    """Settle groups whose generation raises, which slime's loop logs and forgets; it has no hook for them."""
    generate = getattr(module, "generate_and_rm_group", None)
    if generate is None:
        raise MissingExtra(
            "this slime is not the one that the curriculum was written for: its fully asynchronous rollout does not "
            "call generate_and_rm_group",
            hint="docs/trainers/slime.md names the commit",
        )
    if not isinstance(generate, _Generate):
        module.generate_and_rm_group = generate = _Generate(generate)
    generate.source = source


class _Generate:
    """slime's ``generate_and_rm_group``, whose failures are heard."""

    source: CurriculumDataSource

    def __init__(self, generate: Callable[..., Awaitable[Any]]) -> None:
        self.generate = generate

    async def __call__(self, args: Any, group: list[Any], *rest: Any, **settings: Any) -> Any:
        try:
            return await self.generate(args, group, *rest, **settings)
        except Exception:
            self.source.failed(group)
            raise


def _is_noted(group: Sequence[Any]) -> bool:
    return any(_TRAINED in (sample.metadata or {}) for sample in group)


def _last(sample: Any) -> Any:
    """The sample that stands for a response; slime may have made several of one, the last of which is whole."""
    return sample[-1] if isinstance(sample, list) else sample


def _version(sample: Any) -> int:
    """The policy version that finished a response; -1 where it is no number."""
    last = str(sample.weight_versions[-1]) if sample.weight_versions else ""
    return int(last) if last.isdecimal() else -1


def _state_file(folder: str, rollout_id: int) -> Path:
    return Path(folder) / "rollout" / f"curri_state_{rollout_id}.json"
