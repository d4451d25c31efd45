"""verl's own trainers, configuration, dataset and queue, without what needs a GPU: the workers and the engine."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
import transfer_queue as tq
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast
from verl.experimental.reward_loop import RewardLoopManager
from verl.trainer.ppo.v1 import AgentLoopManagerTQ, get_trainer_cls, trainer_separate_async
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl.workers.rollout.llm_server import LLMServerManager
from verl.workers.rollout.replica import TokenOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CHARACTERS = "0123456789+=? "


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """verl calls functions of its own that it has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def write_model(folder: Path) -> Path:
    """A configuration and a tokenizer with one token a character, where verl looks for a model."""
    special = ["<pad>", "<bos>", "<eos>"]
    vocabulary = {token: i for i, token in enumerate([*special, *CHARACTERS])}
    base = Tokenizer(models.WordLevel(vocabulary, special[0]))
    base.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    base.decoder = decoders.Fuse()
    names = dict(zip(("pad_token", "bos_token", "eos_token"), special, strict=True))
    kind: Any = PreTrainedTokenizerFast
    made = kind(tokenizer_object=base, padding_side="left", **names)
    made.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    made.save_pretrained(folder)
    LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(folder)  # fmt: skip
    return folder


def write_rows(file: Path, infos: Sequence[Mapping[str, Any] | None]) -> Path:
    """A file as ``curri export --format verl`` writes it, with these ``extra_info``."""
    rows = [
        {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": f"{n}+{n}="}],
            "reward_model": {"style": "rule", "ground_truth": str(2 * n)},
            "extra_info": None if info is None else dict(info),
        }
        for n, info in enumerate(infos)
    ]
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


@functools.cache
def _defaults() -> Any:
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", overrides=SETTINGS)


SETTINGS = [
    "trainer.v1.sampler.custom_sampler.path=pkg://curri.integrations.verl",
    "trainer.v1.sampler.custom_sampler.name=replay_buffer",
    "+trainer.v1.sampler.sampler_kwargs.store=prompts.duckdb",
    "+trainer.v1.sampler.sampler_kwargs.run=conformance",
    "trainer.checkpoint_callback_class=curri.integrations.verl.CurriculumCheckpoint",
    "trainer.device=cpu",
    "trainer.logger=[console]",
    "trainer.save_freq=1",
    "trainer.val_before_train=False",
    "data.dataloader_num_workers=0",
    "data.train_batch_size=4",
    "actor_rollout_ref.rollout.n=2",
    "actor_rollout_ref.rollout.name=vllm",
    "actor_rollout_ref.actor.ppo_mini_batch_size=4",
    "algorithm.adv_estimator=grpo",
]


def configuration(folder: Path, model: Path, rows: Path, **changes: Any) -> Any:
    """verl's own defaults with the settings of a curriculum; ``changes`` by dotted name, dots as ``__``."""
    config = copy.deepcopy(_defaults())
    set_: dict[str, Any] = {
        "trainer.v1.sampler.sampler_kwargs.store": str(folder / "prompts.duckdb"),
        "trainer.default_local_dir": str(folder / "checkpoints"),
        "actor_rollout_ref.model.path": str(model),
        "data.train_files": str(rows),
        "data.val_files": str(rows),
        "data.cache_dir": str(folder / "cache"),
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    for name, value in set_.items():
        OmegaConf.update(config, name, value, force_add=True)
    return config


class Workers:
    """What holds the model on a GPU: here it writes nothing but a mark that it was asked to."""

    def save_checkpoint(self, path: str, *_: Any, **__: Any) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)

    def load_checkpoint(self, **_: Any) -> None: ...


class Loop:
    """An agent loop manager, as verl lets users write their own: it notes what is to be generated.

    :meth:`finish` then writes responses into TransferQueue as verl's own workers do.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.step = 0
        self.at_once: Callable[[dict[str, Any]], Mapping[int, float]] | None = None
        """Rewards for groups that are to be finished as soon as they are asked for."""

    def generate_sequences(self, prompts: Any) -> None:
        self.step = int(prompts["global_steps"])
        columns = {name: list(prompts[name]) for name in ("uid", "index", "__rollout_n__")}
        for uid, index, n in zip(*columns.values(), strict=True):
            self.asked.append({"uid": str(uid), "prompt": int(index), "n": int(n)})
            if self.at_once is not None:
                self.finish(str(uid), self.at_once(self.asked[-1]))

    def finish(self, uid: str, rewards: Mapping[int, float], status: str = "finished", **fields: Any) -> None:
        """Responses of a group by session, then what became of the group."""
        keys = [f"{uid}_{session}_0" for session in rewards]
        rows, tags = [], []
        for reward in rewards.values():
            response = torch.tensor([5, 6, 2])
            scores = torch.zeros(3)
            scores[-1] = reward
            row = {
                "uid": uid, "prompts": torch.tensor([3, 4]), "responses": response, "rm_scores": scores,
                "response_mask": torch.ones(3, dtype=torch.int64),
                "extra_fields": {"reward_extra_info": {"acc": float(reward > 0.5)}},
            }  # fmt: skip
            rows.append(row | fields)
            tags.append({
                "status": "success", "prompt_len": 2, "response_len": 3, "seq_len": 5, "global_steps": self.step,
                "min_global_steps": self.step, "max_global_steps": self.step,
            })  # fmt: skip
        if keys:
            tq.kv_batch_put(keys=keys, partition_id="train", fields=list_of_dict_to_tensordict(rows), tags=tags)
        tag = {"is_prompt": True, "status": status, "global_steps": self.step}
        tq.kv_batch_put(keys=[uid], partition_id="train", tags=[tag])


def start(config: Any) -> Any:
    """One of verl's trainers at its first step, or at the one after its last checkpoint."""
    with quiet():
        trainer = get_trainer_cls(config.trainer.v1.trainer_mode)(config=config)
        trainer.replay_buffer.poll_interval = 0.01
        trainer.actor_rollout_wg = Workers()
        trainer._init_tokenizer()
        trainer._init_dataloader()
        trainer._load_checkpoint()
        trainer.agent_loop_manager = Loop()
        trainer.global_steps += 1
        trainer._reissue_inflight_prompts()
        trainer.on_train_begin()
    return trainer


def scheduler_of(trainer: Any) -> Any:
    return trainer.replay_buffer.curriculum.groups.scheduler


def stop(trainer: Any) -> None:
    """As a crash would: the queue is gone, the store stays."""
    groups = trainer.replay_buffer.curriculum._groups
    if groups is not None:
        groups.scheduler.store.close()
    empty_queue()


def empty_queue() -> None:
    for partition, items in (tq.kv_list() or {}).items():
        if items:
            tq.kv_clear(keys=list(items), partition_id=partition)


# ---- a whole training, with stand-ins for what needs a GPU -----------------------------------------------------------


class Engine:
    """In the place of an inference server, and of verl's client of one: answers with the sum, or else with a number.

    What it answers depends on the prompt alone. ``pause`` is how long that takes, in seconds.
    """

    def __init__(self, pause: float = 0.0) -> None:
        self.tokenizer: Any = None
        self.pause = pause
        self.version = 0

    async def generate(self, request_id: str, *, prompt_ids: list[int], **_: Any) -> TokenOutput:
        await asyncio.sleep(self.pause)
        text = "".join(CHARACTERS[token - 3] for token in prompt_ids if token >= 3)
        number = int(text.split("+")[0])
        answer = str(2 * number if number % 3 else number)
        tokens = [CHARACTERS.index(character) + 3 for character in answer] + [2]
        steps = dict.fromkeys(("global_steps", "min_global_steps", "max_global_steps"), self.version)
        return TokenOutput(token_ids=tokens, log_probs=[-0.5] * len(tokens), extra_fields=steps)

    def load(self, version: int) -> None:
        self.version = version


REWARD = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    return {"score": 2.0 if solution_str.replace("<eos>", "").strip() == ground_truth else -1.0,
            "acc": solution_str.replace("<eos>", "").strip() == ground_truth}
"""


SERVED = {
    "actor_rollout_ref__rollout__nnodes": 1,
    "actor_rollout_ref__rollout__n_gpus_per_node": 1,
    "actor_rollout_ref__rollout__tensor_model_parallel_size": 1,
    "trainer__n_gpus_per_node": 1,
}
SEPARATE = {
    "actor_rollout_ref__rollout__checkpoint_engine__backend": "nccl",
    "actor_rollout_ref__actor__ppo_mini_batch_size": 2,
    "trainer__v1__separate_async__parameter_sync_step": 2,
    "trainer__v1__separate_async__hybrid_rollout__enable_switch": True,
}


def training(folder: Path, model: Path, rows: Path, mode: str, **changes: Any) -> Any:
    """The configuration of a whole training with one worker of each kind."""
    (folder / "reward.py").write_text(REWARD)
    settings = {
        "trainer__v1__trainer_mode": mode,
        "trainer__v1__sampler__sampler_kwargs__strategy": "uniform",
        "trainer__v1__sampler__sampler_kwargs__solved": "acc",
        "reward__custom_reward_function__path": str(folder / "reward.py"),
        "reward__num_workers": 1,
        "actor_rollout_ref__rollout__agent__num_workers": 1,
        "actor_rollout_ref__rollout__prompt_length": 32,
        "actor_rollout_ref__rollout__response_length": 8,
        "actor_rollout_ref__rollout__calculate_log_probs": True,
        "algorithm__rollout_correction__bypass_mode": True,
        **SERVED,
        **(SEPARATE if mode == "separate_async" else {}),
    }
    return configuration(folder, model, rows, **{**settings, **changes})


class FitWorkers(Workers):
    """As :class:`Workers`, asked by a whole training; ``updated`` sees the keys of what the weights learn from."""

    _dispatch_info: ClassVar[dict[str, list[int]]] = {"actor": [0]}

    def __init__(self, updated: Callable[[list[str]], None]) -> None:
        self.updated = updated

    def update_actor(self, batch: Any) -> dict[str, Any]:
        self.updated(list(batch.keys))
        return {"metrics": {"mfu": [0.0], "loss": [float(len(batch.keys))]}}


class Replica:
    """A server that needs no GPU, where verl would start one of vLLM."""

    def __init__(self, replica_rank: int, **_: Any) -> None:
        self._server_address = f"server {replica_rank}"
        self._server_handle: Any = None

    async def init_standalone(self) -> None:
        self._server_handle = ray.remote(num_cpus=0)(Engine).remote()


class Servers(LLMServerManager):  # type: ignore[misc]
    """verl's own manager, its load balancer and its clients, with such servers."""

    rollout_replica_class = Replica


class Weights:
    """In the place of what brings weights to servers, which takes NCCL: it brings their number."""

    def __init__(self, replicas: Sequence[Replica], **_: Any) -> None:
        self.replicas = replicas

    def update_weights(self, version: int) -> None:
        ray.get([replica._server_handle.load.remote(version) for replica in self.replicas])

    def _nothing(self, **_: Any) -> None: ...

    sleep_replicas = abort_replicas = resume_generation_replicas = _nothing


class StandIns(PPOTrainer):  # type: ignore[misc]
    """What verl's trainer sets up on GPUs, set up without; it comes below the trainer of the mode."""

    updated: Callable[[list[str]], None] = staticmethod(lambda _: None)

    def _setup(self) -> None:
        self._init_tokenizer()
        self._init_dataloader()
        self._init_dump_executor()
        self.resource_pool_manager = SimpleNamespace(get_n_gpus=lambda: 1)
        self.actor_rollout_wg = FitWorkers(self.updated)
        self.reward_loop_manager = RewardLoopManager(config=self.config)
        self.llm_server_manager = Servers.create(config=self.config)
        self.checkpoint_manager = Weights(self.llm_server_manager.get_replicas())
        self._load_checkpoint()


def fit(config: Any, updated: Callable[[list[str]], None] = StandIns.updated) -> Any:
    """Train with verl's own loop, agent loops and reward workers; gives the trainer, its store still open."""
    base: Any = get_trainer_cls(config.trainer.v1.trainer_mode)
    kind = type("Trainer", (base, StandIns), {"updated": staticmethod(updated)})
    # Wheels bring a package "tests" of their own, which a worker would look into for the engine.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with quiet(), patch.multiple(trainer_separate_async, LLMServerManager=Servers, CheckpointEngineManager=Weights):
        trainer = kind(config=config)
        trainer.replay_buffer.poll_interval = 0.05
        trainer.init()
        workers = trainer.get_reward_handles()
        client = trainer.get_llm_client()
        manager = AgentLoopManagerTQ.create(config=config, llm_client=client, reward_loop_worker_handles=workers)
        trainer.fit(manager)
    for worker in [*workers, *manager.agent_loop_workers]:
        ray.kill(worker)
    return trainer
