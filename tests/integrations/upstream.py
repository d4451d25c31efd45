"""What the adapters rely on in packages that are not always there: recorded signatures, and stand-ins that have them.

``signatures/*.json`` hold names and parameters as they were in the sources of the day that is written there. A test
compares them with the package where it is installed, and another with the stand-ins that the adapters are tested on
where it is not. Where a package is installed, the adapters are tested on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import importlib
import inspect
import json
import sys
import types
from abc import ABC, abstractmethod
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

FOLDER = Path(__file__).parent / "signatures"
PACKAGES = sorted(path.stem for path in FOLDER.glob("*.json"))
_PROBES = {"slime": "slime.rollout.data_source", "verifiers": "verifiers.v1"}


def is_here(package: str) -> bool:
    """Whether the real package is installed (there are others of the name slime)."""
    try:
        return find_spec(package) is not None and find_spec(_PROBES.get(package, package)) is not None
    except ModuleNotFoundError:
        return False


def recorded(package: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((FOLDER / f"{package}.json").read_text(encoding="utf-8"))
    return read


def described(package: str) -> dict[str, Any]:
    """What the modules that can be imported now have of what is recorded."""
    wanted = recorded(package)
    return {
        "calls": {name: _parameters(_found(name)) for name in wanted["calls"]},
        "has": {name: sorted(_members(_found(name)) & set(members)) for name, members in wanted["has"].items()},
        "values": {
            name: sorted({member.value for member in _found(name)} & set(values))
            for name, values in wanted["values"].items()
        },
    }


def _found(name: str) -> Any:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def _parameters(function: Any) -> list[str]:
    names: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in names:
            names.append("*")
        names.append(parameter.name + ("" if parameter.default is inspect.Parameter.empty else "="))
    return names


def _members(kind: Any) -> set[str]:
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    return fields | set(getattr(kind, "model_fields", ())) | set(dir(kind))


def stand_in(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let imports of a package find its stand-in."""
    for name, members in MODULES[package].items():
        parts = name.split(".")
        paths = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
        for path in paths:
            if path not in sys.modules:
                monkeypatch.setitem(sys.modules, path, types.ModuleType(path))
        for parent, path in pairwise(paths):
            monkeypatch.setattr(sys.modules[parent], path.rpartition(".")[2], sys.modules[path], raising=False)
        for member in members:
            monkeypatch.setattr(sys.modules[name], member.__name__, member, raising=False)


# ---- slime -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Sample:
    """slime's, as far as an adapter sees it."""

    class Status(enum.Enum):
        PENDING = "pending"
        COMPLETED = "completed"
        TRUNCATED = "truncated"
        ABORTED = "aborted"
        FAILED = "failed"

    group_index: int | None = None
    index: int | None = None
    prompt: Any = ""
    response_length: int = 0
    label: str | None = None
    reward: Any = None
    weight_versions: list[str] = dataclasses.field(default_factory=list)
    status: Status = Status.PENDING
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    def get_reward_value(self, args: Any) -> Any:
        return self.reward[args.reward_key] if args.reward_key else self.reward


class DataSource(ABC):
    @abstractmethod
    def get_samples(self, num_samples: int) -> Any: ...
    @abstractmethod
    def add_samples(self, samples: Any) -> Any: ...
    @abstractmethod
    def save(self, rollout_id: Any) -> Any: ...
    @abstractmethod
    def load(self, rollout_id: Any = None) -> Any: ...
    @abstractmethod
    def __len__(self) -> int: ...


class RolloutDataSource:
    """Reads what a test put into ``args.rows``."""

    def __init__(self, args: Any) -> None:
        samples = [Sample(prompt=row["prompt"], metadata={"prompt_id": row["prompt_id"]}) for row in args.rows or ()]
        self.dataset = types.SimpleNamespace(samples=samples) if args.rows else None


async def generate_and_rm_group(args: Any, group: Any, sampling_params: Any, evaluation: bool = False) -> Any:
    """Scores each sample, or raises for the prompts of ``args.failing``."""
    for sample in group:
        if sample.metadata["prompt_id"] in getattr(args, "failing", ()):
            raise ValueError("no answer")
        sample.reward, sample.status = 1.0, Sample.Status.COMPLETED
    return group


def generate_rollout_fully_async(args: Any, rollout_id: int, data_buffer: Any, evaluation: bool = False) -> Any:
    """Finishes as many groups as a batch needs, one by one; forgets those that raise."""
    generate: Any = sys.modules["slime.rollout.fully_async_rollout"].generate_and_rm_group
    groups: list[Any] = []
    while len(groups) < args.rollout_batch_size:
        (group,) = data_buffer.get_samples(1)
        with contextlib.suppress(ValueError):
            groups.append(asyncio.run(generate(args, group, sampling_params={}, evaluation=evaluation)))
    return groups


# ---- prime-rl --------------------------------------------------------------------------------------------------------


class TaskSampler(ABC):
    @abstractmethod
    def __next__(self) -> Any: ...
    def observe(self, group: Any) -> None: ...
    def state_dict(self) -> Any: ...
    def load_state_dict(self, state_dict: Any) -> None: ...
    def metrics(self) -> Any: ...


class StandardSampler(TaskSampler):
    def __next__(self) -> Any:
        raise NotImplementedError


class DifficultyPoolSampler(StandardSampler):
    pass


class Curriculum:
    """One sampler, asked and told."""

    def __init__(self, config: Any, tasks: Any) -> None:
        self.sampler: Any = StandardSampler() if config is None else DifficultyPoolSampler()

    def on_result(self, group: Any) -> bool:
        self.sampler.observe(group)
        return True


class TrainSource:
    """Environments by their names, each with a curriculum."""

    def __init__(self, train_envs: Any) -> None:
        made = sys.modules["prime_rl.orchestrator.train_source"].Curriculum
        self.curricula = {env.name: made(env.config.curriculum, list(env.tasks)) for env in train_envs}

    def next_task(self, *, step: int) -> Any:
        name = next(iter(self.curricula))
        return types.SimpleNamespace(env_name=name, task=next(self.curricula[name].sampler), step=step)

    def on_result(self, group: Any) -> bool:
        return self.curricula[group[0].env.name].on_result(group)

    def state_dict(self) -> dict[str, Any]:
        return {name: curriculum.sampler.state_dict() for name, curriculum in self.curricula.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, curriculum in self.curricula.items():
            curriculum.sampler.load_state_dict(state_dict[name])


class Dispatcher:
    """Knows the groups under way."""

    train_source: Any
    groups: dict[Any, Any]

    async def drop_group(self, group_id: Any, *, reason: Any) -> int:
        del self.groups[group_id]
        return 1


class TrainSink:
    """Keeps what waits for a batch."""

    def __init__(
        self,
        config: Any,
        *,
        tokenizer: Any,
        train_envs: Any,
        mm_token_type_ids_mapping: Any,
        progress: Any,
        batch_size: Any,
        token_batch_size: Any,
        on_result: Any = None,
    ) -> None:
        self.on_result = on_result
        self.pending_batch: dict[str, Any] = {}
        self.episode_by_trace: dict[str, Any] = {}


@dataclasses.dataclass
class GroupState:
    kind: str
    env_name: str
    task: Any
    step: int = 0
    episodes_to_schedule: int = 0
    target_episodes: int = 0
    emitted: int = 0


# ---- tinker-cookbook -------------------------------------------------------------------------------------------------


class StopReason(enum.StrEnum):
    CONTEXT_OVERFLOW = "context_overflow"
    MAX_SAMPLED_TOKENS = "max_sampled_tokens"
    MAX_TOKENS = "max_tokens"


@dataclasses.dataclass
class Transition:
    ob: Any
    ac: Any
    reward: float
    episode_done: bool


@dataclasses.dataclass(frozen=True)
class Trajectory:
    transitions: list[Any]
    final_ob: Any
    stop_reason: str | None = None


class EnvGroupBuilder(ABC):
    @abstractmethod
    async def make_envs(self) -> Any: ...
    async def compute_group_rewards(self, trajectory_group: Any, env_group: Any) -> Any:
        return [(0.0, {}) for _ in trajectory_group]

    async def cleanup(self) -> None: ...
    def logging_tags(self) -> list[str]:
        return []


class RLDataset(ABC):
    @abstractmethod
    def get_batch(self, index: int) -> Any: ...
    @abstractmethod
    def __len__(self) -> int: ...


MODULES: dict[str, dict[str, Sequence[Any]]] = {
    "slime": {
        "slime.rollout.data_source": [DataSource, RolloutDataSource],
        "slime.rollout.fully_async_rollout": [generate_and_rm_group, generate_rollout_fully_async],
        "slime.utils.types": [Sample],
    },
    "prime_rl": {
        "prime_rl.orchestrator.curriculum": [Curriculum, TaskSampler],
        "prime_rl.orchestrator.train_source": [Curriculum, TrainSource],
        "prime_rl.orchestrator.dispatcher": [Dispatcher],
        "prime_rl.orchestrator.train_sink": [TrainSink],
        "prime_rl.orchestrator.types": [GroupState],
    },
    "tinker_cookbook": {
        "tinker_cookbook.rl.types": [EnvGroupBuilder, RLDataset, StopReason, Trajectory, Transition],
    },
}
