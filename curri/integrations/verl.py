"""verl's V1 trainers: a curriculum picks the prompts, and hears every group before verl filters or drops it.

All of it is configuration; ``docs/trainers/verl.md`` has the lines, and says where it picks, where it hears and how
stale that is::

    trainer.v1.sampler.custom_sampler.path=pkg://curri.integrations.verl
    trainer.v1.sampler.custom_sampler.name=replay_buffer
    +trainer.v1.sampler.sampler_kwargs.store=/data/prompts.duckdb
    +trainer.v1.sampler.sampler_kwargs.strategy=frontier
    +trainer.v1.sampler.sampler_kwargs.run=r1
    trainer.checkpoint_callback_class=curri.integrations.verl.CurriculumCheckpoint

The scheduler lives in the process of the trainer, which also has the replay buffer: reward workers and agent loops
hand everything over through TransferQueue. verl's own methods that are overridden here are not public: a verl whose
methods are others is refused when the trainer is built.
"""

from __future__ import annotations

import inspect
import json
import uuid
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import transfer_queue as tq
import verl
from omegaconf import OmegaConf
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync
from verl.utils import tensordict_utils
from verl.utils.dataset.rl_dataset import collate_fn

from curri.errors import InvalidParameter, InvalidRollouts, MissingExtra, StateMismatch
from curri.integrations.groups import Groups
from curri.integrations.verl_plugin import TRAINERS, CurriculumTrainer, registry
from curri.scheduler import Scheduler
from curri.store import open_store

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from curri.scheduler import Resolution

__all__ = ["CurriculumCheckpoint", "CurriculumReplayBuffer", "CurriculumReplayBufferAsync", "replay_buffer"]

STATE_FILE = "curri.json"
TRAIN = "train"
TESTED = "0.9.1"
_HEARS = ("sample", "_evict_terminal_groups", "_clear_groups", "_materialize_batch")
_PICKS = ("_init_dataloader", "_next_train_batch", "_load_checkpoint")


class _Settings(NamedTuple):
    """``sampler_kwargs``.

    Attributes:
        store: path of the store, as the trainer's process sees it.
        strategy: registered name; may be left out for a run that exists.
        run: name of the run.
        consumer: as for ``curri.Scheduler``.
        model: as for ``curri.Scheduler``.
        parameters: of the strategy.
        id_key: where in a row's ``extra_info`` its id stands.
        solved: key of the reward function's result that says whether a response is right, apart from its score.
    """

    store: str
    run: str
    strategy: str | None = None
    consumer: str = "main"
    model: str | None = None
    parameters: Mapping[str, Any] = {}
    id_key: str = "index"
    solved: str | None = None

    @classmethod
    def of(cls, sampler_kwargs: Any) -> _Settings:
        given = OmegaConf.to_container(sampler_kwargs, resolve=True) if sampler_kwargs else {}
        assert isinstance(given, dict)  # noqa: S101  a mapping in verl's own configuration
        unknown = sorted(str(name) for name in given.keys() - set(cls._fields))
        missing = [name for name in ("store", "run") if not given.get(name)]
        if unknown or missing:
            what = f"lacks {' and '.join(missing)}" if missing else f"has {', '.join(unknown)}"
            raise InvalidParameter(
                f"trainer.v1.sampler.sampler_kwargs {what}; it takes {', '.join(cls._fields)}",
                hint="add +trainer.v1.sampler.sampler_kwargs.store=prompts.duckdb, and .run=r1 likewise; parameters of "
                "the strategy go under sampler_kwargs.parameters",
            )
        return cls(**{str(name): value for name, value in given.items()})


# ---- picking, and where it stands ------------------------------------------------------------------------------------


class _Curriculum:
    """What a trainer asks: the next prompts, and to go back to a checkpoint."""

    def __init__(self, settings: _Settings) -> None:
        self.settings = settings
        self._trainer: Any = None
        self._groups: Groups | None = None

    @property
    def groups(self) -> Groups:
        """The run's groups; there once the trainer has read its dataset."""
        if self._groups is None:
            raise InvalidParameter(
                "the trainer has not connected its dataset to the curriculum: it is not one of verl's own, or curri's "
                "plug-in of verl was switched off",
                hint="let VERL_USE_EXTERNAL_PLUGINS contain curri; a trainer class of your own needs "
                "curri.integrations.verl_plugin.CurriculumTrainer before its base class",
            )
        return self._groups

    def connect(self, trainer: Any) -> None:
        """Open store and run, and tie the rows of the trainer's dataset to prompts.

        Raises:
            InvalidData: a row has no id, or two rows have the same one.
            InvalidParameter: a setting of the trainer that cannot work with a curriculum.
            UnknownPrompt: an id that the store does not have.
        """
        settings, dataset, config = self.settings, trainer.train_dataset, trainer.config
        _refuse_unfit(config, trainer.checkpoint_callback)
        store = open_store(settings.store)
        try:
            scheduler = Scheduler(
                store,
                settings.strategy,
                run=settings.run,
                consumer=settings.consumer,
                model=settings.model,
                **{"group_size": config.actor_rollout_ref.rollout.n, **settings.parameters},
            )
            _refuse_other_size(scheduler.curriculum.group_size, config.actor_rollout_ref.rollout.n)
            ids = _ids(dataset, settings.id_key)
            self._groups = Groups(scheduler, dataset, f"extra_info.{settings.id_key}", ids)
        except BaseException:
            store.close()
            raise
        self._trainer = trainer

    def next_batch(self, n: int | None) -> Any:
        """Rows of the next ``n`` prompts (default: a training batch), as verl's own dataloader would have them."""
        trainer = self._trainer
        taken = self.groups.take(trainer.config.data.train_batch_size if n is None else n)
        rows = [
            {
                **trainer.train_dataset[group.row],
                "uid": f"{group.prompt_id}-{group.round}-{uuid.uuid4().hex}",
                "__rollout_n__": group.n_rollouts,
            }
            for group in taken
        ]
        batch = tensordict_utils.get_tensordict(collate_fn(rows))
        tensordict_utils.assign_non_tensor_data(batch, "global_steps", trainer.global_steps)
        return batch

    def save(self, folder: Path) -> None:
        """Write where the run stands beside a checkpoint of the model."""
        draft = folder / f"{STATE_FILE}.part"
        draft.write_text(json.dumps(self.groups.state()), encoding="utf-8")
        draft.replace(folder / STATE_FILE)

    def restore(self, step: int) -> None:
        """Go back to the checkpoint that the trainer has loaded.

        Raises:
            StateMismatch: it was written without a curriculum, or with another run.
        """
        path = self._checkpoint(step) / STATE_FILE
        if not path.is_file():
            raise StateMismatch(
                f"{path.parent} holds no state of a curriculum ({STATE_FILE})",
                hint="it was written without trainer.checkpoint_callback_class, or the process died while writing it; "
                "resume from the one before with trainer.resume_mode=resume_path",
            )
        state = json.loads(path.read_text(encoding="utf-8"))
        kept = _restored_by_verl(self._trainer.trainer_mode)
        listed = [entry for entry in state["open"] if (entry[0], entry[2]) in kept]
        others = [entry for entry in state["open"] if (entry[0], entry[2]) not in kept]
        self.groups.restore({**state, "open": [*listed, *others]})
        self.groups.take(len(listed))  # verl has these in TransferQueue and generates them again where it must

    def _checkpoint(self, step: int) -> Path:
        settings = self._trainer.config.trainer
        if settings.resume_mode == "resume_path":
            return Path(settings.resume_from_path)
        return Path(settings.default_local_dir) / f"global_step_{step}"


def _refuse_unfit(config: Any, callback: object) -> None:
    model = config.reward.reward_model
    if model.enable and not model.enable_resource_pool:
        raise InvalidParameter(
            "a reward model that shares the trainer's GPUs scores groups after they were chosen, so a curriculum would "
            "hear nothing of the others",
            hint="reward.reward_model.enable_resource_pool=True, or a reward function",
        )
    if config.trainer.save_freq > 0 and not isinstance(callback, CurriculumCheckpoint):
        raise InvalidParameter(
            f"checkpoints would not hold where the run stands: trainer.checkpoint_callback_class is "
            f"{type(callback).__name__}",
            hint="trainer.checkpoint_callback_class=curri.integrations.verl.CurriculumCheckpoint, or a subclass of it",
        )


def _refuse_other_size(group_size: int, n: int) -> None:
    if group_size != n:
        raise InvalidParameter(
            f"`group_size` of the run is {group_size}, actor_rollout_ref.rollout.n is {n}",
            hint="verl sizes its mini-batches by the latter; left out of sampler_kwargs.parameters, it is taken over",
        )


def _ids(dataset: Any, key: str) -> list[Any]:
    """The ids of a dataset's rows; verl itself would take 0 for a row without one."""
    frame = getattr(dataset, "dataframe", None)
    if frame is None:
        infos: Iterable[Any] = (dataset[row].get("extra_info") for row in range(len(dataset)))
    else:
        infos = frame["extra_info"] if "extra_info" in frame.column_names else [None] * len(frame)
    return [(info or {}).get(key) for info in infos]


def _restored_by_verl(mode: str) -> set[tuple[int, int]]:
    """(prompt, round) of the groups that verl's checkpoint brought back."""
    if mode == "sync":
        return set()
    items = (tq.kv_list(TRAIN) or {}).get(TRAIN, {})
    return {_place(key) for key, tag in items.items() if tag.get("is_prompt", False)}


def _place(uid: str) -> tuple[int, int]:
    """Prompt and round of a group, which its name says.

    Raises:
        InvalidRollouts: the curriculum did not hand it out.
    """
    parts = uid.split("-")
    if len(parts) != 3 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        raise InvalidRollouts(f'group "{uid}" is in the partition "{TRAIN}" and was not picked by the curriculum')
    return int(parts[0]), int(parts[1])


class CurriculumCheckpoint(CheckpointCallback):
    """Writes where the run stands into every checkpoint, for ``trainer.checkpoint_callback_class``."""

    def on_save(
        self,
        trainer: Any,
        global_step: int,
        checkpoint_dir: str,
        async_save: bool = False,  # noqa: FBT001, FBT002  verl's signature
        **kwargs: Any,
    ) -> None:
        """See verl's ``CheckpointCallback``.

        Raises:
            InvalidParameter: the trainer's replay buffer has no curriculum.
        """
        curriculum = getattr(trainer.replay_buffer, "curriculum", None)
        if curriculum is None:
            raise InvalidParameter(
                f"{type(self).__name__} needs the replay buffer of curri; this trainer has a "
                f"{type(trainer.replay_buffer).__name__}",
                hint="trainer.v1.sampler.custom_sampler.path=pkg://curri.integrations.verl and .name=replay_buffer",
            )
        curriculum.save(Path(checkpoint_dir))


# ---- hearing ---------------------------------------------------------------------------------------------------------


class _Hearing:
    """Tells the curriculum what verl decides about each group, before verl throws anything of it away."""

    partitions: dict[str, dict[str, dict[str, Any]]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.curriculum = _Curriculum(_Settings.of(kwargs["sampler_kwargs"]))
        self._reasons: dict[str, str] = {}

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, Any]]:
        """As verl's; with the curriculum's numbers among the metrics."""
        batch, metrics = super().sample(global_steps, partition_id, batch_size)  # type: ignore[misc]
        if partition_id == TRAIN:
            metrics |= {f"curri/{name}": value for name, value in self.curriculum.groups.metrics().items()}
        return batch, metrics

    def _evict_terminal_groups(self, global_steps: int, partition_id: str, eviction_reasons: Any) -> Any:
        stale, alike, failed, _ = eviction_reasons
        reasons = {"zero variance": alike, "stale": stale, "failed": failed}
        self._reasons = {uid: reason for reason, uids in reasons.items() for uid in uids}
        return super()._evict_terminal_groups(global_steps, partition_id, eviction_reasons)  # type: ignore[misc]

    def _clear_groups(self, partition_id: str, uids: set[str]) -> None:
        if partition_id == TRAIN:
            by_reason: defaultdict[str, list[str]] = defaultdict(list)
            for uid in sorted(uids):
                by_reason[self._reasons.get(uid, "surplus")].append(uid)
            for reason, dropped in sorted(by_reason.items()):
                self._tell(dropped, self.partitions[partition_id], "dropped", reason)
        super()._clear_groups(partition_id, uids)  # type: ignore[misc]

    def _materialize_batch(self, partition_id: str, selected_prompt_uids: list[str], partition_snapshot: Any) -> Any:
        if partition_id == TRAIN:
            self._tell(selected_prompt_uids, partition_snapshot, "trained", None)
        return super()._materialize_batch(partition_id, selected_prompt_uids, partition_snapshot)  # type: ignore[misc]

    def _tell(self, uids: Collection[str], snapshot: Mapping[str, Any], event: Resolution, reason: str | None) -> None:
        """Hand in all responses of groups, one transaction a round, and say what becomes of them."""
        groups = self.curriculum.groups
        finals = _final_outputs(snapshot, set(uids))
        rounds: defaultdict[int, list[str]] = defaultdict(list)
        silent: defaultdict[int, list[int]] = defaultdict(list)
        heard = {uid for uid, _ in finals}
        for uid in sorted(uids):
            prompt, number = _place(uid)
            if uid not in heard:
                silent[number].append(prompt)
        for (uid, _), key in sorted(finals.items()):
            rounds[_place(uid)[1]].append(key)
        for number, keys in rounds.items():
            groups.scheduler.refuse_unplaceable([_place(key.split("_")[0])[0] for key in keys], number)
        for number, keys in sorted(rounds.items()):
            columns = self._outcomes(keys, snapshot)
            groups.tell(**columns, round=number, resolve=event, reason=reason)
        for prompts in silent.values():
            groups.resolve(prompts, "lost", "failed: no response came back")

    def _outcomes(self, keys: list[str], snapshot: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of ``tell`` for some responses."""
        solved, scheduler = self.curriculum.settings.solved, self.curriculum.groups.scheduler
        texts = "responses" in scheduler.curriculum.tags
        fields = ["rm_scores", *(["extra_fields"] if solved else []), *(["responses"] if texts else [])]
        data = tq.kv_batch_get(keys=keys, partition_id=TRAIN, select_fields=fields)
        tags = [snapshot[key] for key in keys]
        columns: dict[str, Any] = {
            "ids": [_place(key.split("_")[0])[0] for key in keys],
            "rewards": [float(scores.sum()) for scores in data["rm_scores"]],
            "tokens": [int(tag["response_len"]) for tag in tags],
            "policy_version": [_version(tag) for tag in tags],
            # A group that verl generates again after a crash keeps its name and gets another step.
            "rollout_ids": np.array([f"{k}@{tag['global_steps']}" for k, tag in zip(keys, tags, strict=True)], object),
        }
        if solved:
            columns["solved"] = [_verdict(getattr(each, "data", each), solved) for each in list(data["extra_fields"])]
        if texts:
            columns["responses"] = [each.tolist() for each in data["responses"]]
        return columns


def _final_outputs(snapshot: Mapping[str, Any], uids: set[str]) -> dict[tuple[str, str], str]:
    """The key of the last output of each session of these groups; verl copies its reward to those before it."""
    finals: dict[tuple[str, str], tuple[int, str]] = {}
    for key in snapshot:
        uid, session, index = key.rsplit("_", 2)
        if uid in uids:
            finals[uid, session] = max(finals.get((uid, session), (-1, "")), (int(index), key))
    return {place: key for place, (_, key) in finals.items()}


def _version(tag: Mapping[str, Any]) -> int:
    """The weights that a response began with; where no engine says so, the step that asked for it."""
    began = tag.get("min_global_steps")
    return int(tag["global_steps"] if began is None else began)


def _verdict(extra_fields: Mapping[str, Any], name: str) -> float:
    said = extra_fields.get("reward_extra_info", {})
    if name not in said:
        raise InvalidRollouts(
            f'the reward function gave no "{name}"; it gave {", ".join(map(str, said)) or "nothing beside the score"}',
            hint="trainer.v1.sampler.sampler_kwargs.solved names what says whether a response is right",
        )
    return float(said[name])


class CurriculumReplayBuffer(_Hearing, ReplayBuffer):
    """verl's ``ReplayBuffer``, of the mode ``sync``, with a curriculum."""


class CurriculumReplayBufferAsync(_Hearing, ReplayBufferAsync):
    """verl's ``ReplayBufferAsync``, of the asynchronous modes, with a curriculum."""


def replay_buffer(
    *, trainer_mode: str, sampler_kwargs: Any, refill_fn: Any = None, **kwargs: Any
) -> CurriculumReplayBuffer | CurriculumReplayBufferAsync:
    """The buffer for a trainer's mode, for ``trainer.v1.sampler.custom_sampler``; verl calls it.

    It filters as verl's own would (``algorithm.filter_groups``, ``sync_refill_failed_groups``); those settings verl
    hands to its own buffers only.

    Raises:
        InvalidParameter: wrong ``sampler_kwargs``, or a trainer that would not ask the curriculum.
        MissingExtra: a verl whose own methods are not those that this overrides.
    """
    trainer = getattr(refill_fn, "__self__", None)
    if not isinstance(trainer, CurriculumTrainer):
        if not registry():
            raise _changed([f"{TRAINERS}.trainer_base has no TRAINER_REGISTRY"])
        raise InvalidParameter(
            f"the trainer ({type(trainer).__name__}) would not ask the curriculum: curri's plug-in of verl is not "
            "loaded, or this is a class of your own",
            hint="let VERL_USE_EXTERNAL_PLUGINS contain curri; a trainer class of your own needs "
            "curri.integrations.verl_plugin.CurriculumTrainer before its base class",
        )
    kind = CurriculumReplayBuffer if trainer_mode == "sync" else CurriculumReplayBufferAsync
    _refuse_changed(kind.__bases__[1], type(trainer))
    own = {**kwargs, **_filters(trainer)}
    return kind(trainer_mode=trainer_mode, sampler_kwargs=sampler_kwargs, refill_fn=refill_fn, **own)


def _refuse_changed(buffer: type, trainer: type[CurriculumTrainer]) -> None:
    """Refuse a verl that would not call what is overridden here: it would pick or tell nothing, without a word.

    Raises:
        MissingExtra: a method is gone, or takes other arguments.
    """
    upstream = super(CurriculumTrainer, trainer)
    expected: list[tuple[str, Any, str, str]] = [
        *((buffer.__name__, buffer, name, _takes(getattr(_Hearing, name))) for name in _HEARS),
        *((trainer.__name__, upstream, name, _takes(getattr(CurriculumTrainer, name))) for name in _PICKS),
        (trainer.__name__, upstream, "_resolve_filter_groups_metric", "self"),
        (CheckpointCallback.__name__, CheckpointCallback, "on_save", _takes(CurriculumCheckpoint.on_save)),
    ]
    wrong = []
    for owner, theirs, name, parameters in expected:
        found = getattr(theirs, name, None)
        if found is None:
            wrong.append(f"{owner} has no {name}")
        elif _takes(found) != parameters:
            wrong.append(f"{owner}.{name} takes ({_takes(found)}), not ({parameters})")
    if wrong:
        raise _changed(wrong)


def _changed(wrong: Iterable[str]) -> MissingExtra:
    return MissingExtra(
        f"a curriculum cannot work with verl {verl.__version__}: {'; '.join(wrong)} (tested: verl {TESTED})",
        hint=f'pip install --no-deps "verl=={TESTED}", or a newer curri that knows this verl',
    )


def _takes(function: Any) -> str:
    return ", ".join(inspect.signature(function).parameters)


def _filters(trainer: Any) -> dict[str, Any]:
    """What verl's trainer hands to its own buffers."""
    config = trainer.config
    metric = trainer._resolve_filter_groups_metric()  # noqa: SLF001  the one place where verl says it
    refill_failed = bool(config.trainer.v1.sampler.get("sync_refill_failed_groups", False))
    given: dict[str, Any] = {"filter_groups_metric": metric, "sync_refill_failed_groups": refill_failed}
    if trainer.trainer_mode == "sync":
        size, exact = config.data.train_batch_size, metric is not None or refill_failed
        given["train_batch_size"] = size
        given["gen_batch_size"] = 1 if exact else config.data.get("gen_batch_size", None) or size
        if metric is not None:
            given["max_inflight_gen_batches"] = config.algorithm.filter_groups.get("max_inflight_gen_batches", 1)
    return given
