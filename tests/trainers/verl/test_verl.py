"""verl's V1 trainers with a curriculum: real trainers, real TransferQueue, no GPU. Run with `make test-verl`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import transfer_queue as tq
import verl
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback
from verl.trainer.ppo.v1 import get_trainer_cls, trainer_base
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

import curri
from curri.errors import InvalidData, InvalidParameter, InvalidRollouts, MissingExtra, StateMismatch, UnknownPrompt
from curri.integrations.verl_plugin import register, registry
from curri.store import NewPrompt
from tests.trainers.verl import tiny

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

N = 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with 40 sums in two arms."""
    file = tmp_path / "prompts.duckdb"
    with curri.open_store(file, create=True) as store:
        store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), "ab"[i % 2]) for i in range(N)])
    return file


@pytest.fixture
def configured(queue: None, path: Path, model: Path, tmp_path: Path) -> Callable[..., Any]:
    """verl's configuration for the store's prompts."""

    def make(infos: Any = None, strategy: str | None = "uniform", **changes: Any) -> Any:
        rows = tiny.write_rows(tmp_path / "rows.parquet", infos or [{"index": i + 1} for i in range(N)])
        prefix = "trainer__v1__sampler__sampler_kwargs__"
        kwargs = {f"{prefix}run": "r", f"{prefix}strategy": strategy}
        return tiny.configuration(tmp_path, model, rows, **{**kwargs, **changes})

    return make


@pytest.fixture
def start(configured: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Starts trainers; what they leave in the queue is removed with the test."""
    trainers = []

    def begin(*args: Any, **changes: Any) -> Any:
        trainers.append(tiny.start(configured(*args, **changes)))
        return trainers[-1]

    yield begin
    for trainer in trainers:
        tiny.stop(trainer)


def ledger(trainer: Any) -> list[tuple[int, int, str, str | None]]:
    """(round, prompt, event, reason) in the order of writing."""
    store = tiny.scheduler_of(trainer).store
    rows = store.connection.rows("select round, prompt_id, event, reason from ledger order by seq, rowid")
    return [(int(r), int(p), event, reason) for r, p, event, reason in rows if event != "told"]


def fates(trainer: Any) -> Counter[tuple[str, str | None]]:
    return Counter((event, reason) for _, _, event, reason in ledger(trainer) if event != "issued")


def mixed(group: dict[str, Any]) -> dict[int, float]:
    return {session: float(session % 2) for session in range(group["n"])}


def step(trainer: Any) -> list[str]:
    """One step of training; gives the groups it trained on."""
    trainer.agent_loop_manager.at_once = mixed
    with tiny.quiet():
        trainer.prepare_step()
        batch, _ = trainer.replay_buffer.sample(trainer.global_steps, "train", 4)
    tq.kv_clear(keys=batch.keys, partition_id="train")
    trainer._save_checkpoint()
    trainer.global_steps += 1
    return sorted({key.split("_")[0] for key in batch.keys})


def test_what_a_filter_drops_was_heard(start: Callable[..., Any]) -> None:
    changes = {"algorithm__filter_groups__enable": True, "algorithm__filter_groups__metric": "reward"}
    trainer = start(**changes)
    loop = trainer.agent_loop_manager
    trainer.prepare_step()
    for number, group in enumerate(loop.asked[:4]):
        loop.finish(group["uid"], {0: 1.0, 1: float(number < 2)})
    loop.at_once = mixed
    batch, metrics = trainer.replay_buffer.sample(1, "train", 4)
    assert len(batch.keys) == 8
    assert metrics["training/filter_groups/evicted_samples"] == 2
    assert fates(trainer) == {("trained", None): 4, ("dropped", "zero variance"): 2, ("dropped", "surplus"): 2}
    learned = tiny.scheduler_of(trainer).curriculum.metrics()
    assert learned["curriculum/uniform/responses_folded"] == 16
    assert metrics["curri/scheduler/prompts_dropped"] == 4
    assert metrics["curri/groups/open"] == 0


def test_what_becomes_of_stale_and_failed_groups(start: Callable[..., Any]) -> None:
    trainer = start(trainer__v1__trainer_mode="colocate_async")
    loop = trainer.agent_loop_manager
    stale, part, silent, last = loop.asked  # verl's window of one batch that is generated ahead
    loop.finish(stale["uid"], {0: 1.0, 1: 0.0})
    loop.step = trainer.global_steps = 12
    loop.finish(part["uid"], {1: 1.0}, status="failure")
    loop.finish(silent["uid"], {}, status="failure")
    loop.finish(last["uid"], {0: 0.0, 1: 1.0})
    loop.at_once = mixed
    batch, _ = trainer.replay_buffer.sample(12, "train", 4)
    assert len({key.split("_")[0] for key in batch.keys}) == 4
    # What came back of a group is evidence, whatever became of the group.
    assert fates(trainer) == {
        ("trained", None): 4, ("dropped", "stale"): 1, ("dropped", "failed"): 1,
        ("lost", "failed: no response came back"): 1,
    }  # fmt: skip
    store = tiny.scheduler_of(trainer).store
    rows = store.connection.rows(
        "select prompt_id, reward, policy_version, tokens from rollouts order by policy_version"
    )
    assert len(rows) == 11
    assert [(int(p), int(version)) for p, _, version, _ in rows[:2]] == [(stale["prompt"], 1)] * 2
    assert {(int(version), int(tokens)) for _, _, version, tokens in rows[2:]} == {(12, 3)}


def test_allocation_becomes_the_size_of_groups(start: Callable[..., Any]) -> None:
    prefix = "trainer__v1__sampler__sampler_kwargs__"
    changes = {
        f"{prefix}parameters": {"allocation": "live"},
        "actor_rollout_ref__rollout__n": 4,
        "data__train_batch_size": 20,
    }
    trainer = start(strategy="frontier", **changes)
    loop, sizes = trainer.agent_loop_manager, []
    for _ in range(5):
        trainer.prepare_step()
        groups = loop.asked[-20:]
        for group in groups:
            good = 1 if group["prompt"] % 2 else group["n"]  # one arm is in the middle, one solved
            loop.finish(group["uid"], {session: float(session < good) for session in range(group["n"])})
        batch, _ = trainer.replay_buffer.sample(trainer.global_steps, "train", 20)
        sizes.append(Counter(key.split("_")[0] for key in batch.keys))
        assert sizes[-1] == {group["uid"]: group["n"] for group in groups}
        batch = trainer._compute_advantage(batch, {})  # verl's own, by group
        data = tq.kv_batch_get(keys=batch.keys, partition_id="train", select_fields=["advantages"])
        totals: defaultdict[str, float] = defaultdict(float)
        for key, advantages in zip(batch.keys, data["advantages"], strict=True):
            totals[key.split("_")[0]] += float(advantages[0])
        assert max(abs(total) for total in totals.values()) < 1e-4
        tq.kv_clear(keys=batch.keys, partition_id="train")
        trainer.global_steps += 1
    assert {sum(each.values()) for each in sizes} == {80}
    assert len(set(sizes[-1].values())) > 1, sizes[-1]


@pytest.mark.parametrize("infos", [[None] * N, [{"split": "train"}] * N], ids=["no extra_info", "no index"])
def test_rows_without_ids_are_refused(start: Callable[..., Any], infos: list[Any]) -> None:
    """Where verl itself would take 0 for all of them."""
    with pytest.raises(
        InvalidData, match=rf"{N} rows of the dataset have no id in .extra_info.index., the first is row 0"
    ):
        start(infos)


def test_other_ids(start: Callable[..., Any]) -> None:
    with pytest.raises(InvalidData, match="1 ids stand in more than one row"):
        start([{"index": 0}] * N)
    with pytest.raises(UnknownPrompt):
        start([{"index": i} for i in range(N)])
    infos = [{"index": 0, "prompt_id": N - i} for i in range(N)]
    trainer = start(infos, trainer__v1__sampler__sampler_kwargs__id_key="prompt_id")
    with tiny.quiet():
        batch = trainer._next_train_batch(3)
    for info, uid in zip(list(batch["extra_info"]), list(batch["uid"]), strict=True):
        assert str(getattr(uid, "data", uid)).startswith(f"{getattr(info, 'data', info)['prompt_id']}-0-")


def test_settings_that_cannot_work_are_refused(start: Callable[..., Any], configured: Callable[..., Any]) -> None:
    prefix = "trainer__v1__sampler__sampler_kwargs__"
    for wrong, said in (
        ({f"{prefix}stor": "x"}, "sampler_kwargs has stor"),
        ({f"{prefix}run": ""}, "sampler_kwargs lacks run"),
        ({f"{prefix}parameters": {"group_size": 3}}, r"`group_size` of the run is 3, .*rollout\.n is 2"),
        ({"trainer__checkpoint_callback_class": None}, "checkpoints would not hold"),
        ({"reward__reward_model__enable": True}, "shares the trainer's GPUs"),
    ):
        with pytest.raises(InvalidParameter, match=said):
            start(**wrong)
    with pytest.raises(InvalidParameter, match="would not ask the curriculum"), tiny.quiet():
        PPOTrainerSync(config=configured())  # as it is without the plug-in


RELIED_ON = [
    (ReplayBuffer, "sample"),
    (ReplayBuffer, "_evict_terminal_groups"),
    (ReplayBuffer, "_clear_groups"),
    (ReplayBuffer, "_materialize_batch"),
    (PPOTrainer, "_init_dataloader"),
    (PPOTrainer, "_next_train_batch"),
    (PPOTrainer, "_load_checkpoint"),
    (PPOTrainer, "_resolve_filter_groups_metric"),
    (CheckpointCallback, "on_save"),
]


@pytest.mark.parametrize(("owner", "name"), RELIED_ON, ids=[name for _, name in RELIED_ON])
def test_a_verl_with_other_methods_is_refused(
    configured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    """What is overridden under a name that verl no longer calls would pick or hear nothing, without a word."""
    config, original = configured(), getattr(owner, name)
    prefix = f"a curriculum cannot work with verl {verl.__version__}: "
    monkeypatch.setattr(owner, name, lambda self, *, partition: original)
    with pytest.raises(MissingExtra, match=rf"{prefix}\w+\.{name} takes \(self, partition\), not \(self"), tiny.quiet():
        get_trainer_cls("sync")(config=config)
    monkeypatch.delattr(owner, name)
    with pytest.raises(MissingExtra, match=rf"{prefix}\w+ has no {name} \(tested: verl 0\.9\.1\)"), tiny.quiet():
        get_trainer_cls("sync")(config=config)


def test_a_verl_without_its_list_of_trainers_is_refused(
    configured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(trainer_base, "TRAINER_REGISTRY")
    register(registry())  # what the plug-in does: trainings without a curriculum must go on
    with pytest.raises(MissingExtra, match="has no TRAINER_REGISTRY"), tiny.quiet():
        PPOTrainerSync(config=configured())


def test_trainers_without_a_curriculum_are_as_before(configured: Callable[..., Any]) -> None:
    off = {
        "trainer__v1__sampler__custom_sampler__path": None, "trainer__v1__sampler__custom_sampler__name": None,
        "trainer__checkpoint_callback_class": None,
    }  # fmt: skip
    with tiny.quiet():
        trainer = get_trainer_cls("sync")(config=configured(**off))
        trainer._init_tokenizer()
        trainer._init_dataloader()
        trainer.global_steps = 1
        batch = trainer._next_train_batch()
    assert len(batch) == 4
    assert "__rollout_n__" not in batch


def test_the_plug_in_waits_for_the_trainers(queue: None) -> None:
    script = """
import sys
import verl
assert "curri.integrations.verl_plugin" in sys.modules
assert "verl.trainer.ppo.v1" not in sys.modules and "curri.integrations.verl" not in sys.modules
from verl.trainer.ppo.v1 import get_trainer_cls
for mode in ("sync", "colocate_async", "separate_async"):
    assert get_trainer_cls(mode).__mro__[1].__name__ == "CurriculumTrainer"
assert "curri.integrations.verl" not in sys.modules and "duckdb" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_going_back_to_a_checkpoint(start: Callable[..., Any], tmp_path: Path) -> None:
    trainer = start(strategy="ucb")
    trained = [step(trainer) for _ in range(3)]
    tiny.stop(trainer)
    folder = tmp_path / "checkpoints"
    for number in (2, 3):  # the process died before these were written; the store went on
        shutil.rmtree(folder / f"global_step_{number}")
    (folder / "latest_checkpointed_iteration.txt").write_text("1")
    trainer = start(strategy="ucb")
    assert trainer.global_steps == 2
    again = [step(trainer) for _ in range(3)]
    places = [[uid.rsplit("-", 1)[0] for uid in batch] for batch in [*trained, *again]]
    assert places[3:5] == places[1:3]  # the same prompts of the same rounds, in new groups
    assert places[5] not in places[:5]
    assert fates(trainer) == {("trained", None): 16}
    learned = tiny.scheduler_of(trainer).curriculum.metrics()
    assert learned["curriculum/ucb/responses_folded"] == 2 * 4 * (3 + 3)
    tiny.stop(trainer)
    (folder / "global_step_4" / "curri.json").unlink()
    with pytest.raises(StateMismatch, match=r"global_step_4 holds no state of a curriculum"):
        start(strategy="ucb")


def test_groups_that_verl_brings_back_are_not_picked_again(start: Callable[..., Any], tmp_path: Path) -> None:
    trainer = start(trainer__v1__trainer_mode="colocate_async")
    loop = trainer.agent_loop_manager
    trainer.prepare_step()
    first, second = loop.asked[:4], loop.asked[4:]
    for group in first[:3]:
        loop.finish(group["uid"], mixed(group))
    loop.finish(second[0]["uid"], mixed(second[0]))
    trainer.replay_buffer.sample(1, "train", 4)
    trainer._save_checkpoint()  # one of each step's prompts is finished, three are under way
    loop.finish(first[3]["uid"], mixed(first[3]))
    after = trainer._next_train_batch(2)  # picked after the checkpoint
    tiny.stop(trainer)

    trainer = start(trainer__v1__trainer_mode="colocate_async")
    loop = trainer.agent_loop_manager
    brought = [first[3]["uid"], *(group["uid"] for group in second[1:])]
    assert sorted(group["uid"] for group in loop.asked) == sorted(brought)
    assert {group["n"] for group in loop.asked} == {2}
    with tiny.quiet():
        batch = trainer._next_train_batch(2)
    assert [str(uid).rsplit("-", 1)[0] for uid in _plain(batch)] == [
        str(uid).rsplit("-", 1)[0] for uid in _plain(after)
    ]
    for group in loop.asked:
        loop.finish(group["uid"], mixed(group))
    trainer.replay_buffer.sample(2, "train", 4)
    assert fates(trainer) == {("trained", None): 8}


def _plain(batch: Any) -> list[Any]:
    return [getattr(uid, "data", uid) for uid in list(batch["uid"])]


def test_a_group_of_somebody_else_is_an_error(start: Callable[..., Any]) -> None:
    trainer = start()
    trainer.agent_loop_manager.finish("0d4c1e2a", {0: 1.0})
    with pytest.raises(InvalidRollouts, match="was not picked by the curriculum"):
        trainer.replay_buffer.sample(1, "train", 1)


def test_a_checkpoint_needs_the_buffer(configured: Callable[..., Any], tmp_path: Path) -> None:
    off = {"trainer__v1__sampler__custom_sampler__path": None}
    with tiny.quiet():
        trainer = get_trainer_cls("sync")(config=configured(**off))
    with pytest.raises(InvalidParameter, match="this trainer has a ReplayBuffer"):
        trainer.checkpoint_callback.on_save(trainer=trainer, global_step=1, checkpoint_dir=str(tmp_path))


# ---- whole trainings, in processes of their own ----------------------------------------------------------------------


def played(folder: Path, mode: str, steps: int, die_at: int = 0) -> list[list[str]]:
    """What the weights learned from, update by update: prompt and round of each group."""
    told = folder / "learned.jsonl"
    told.unlink(missing_ok=True)
    program = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("player.py")), str(folder), mode]
    done = subprocess.run(
        [*program, "--steps", str(steps), "--die-at", str(die_at)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == (-9 if die_at else 0), done.stderr[-3000:]
    return [json.loads(line) for line in told.read_text().splitlines()]


@pytest.mark.parametrize("mode", ["sync", "colocate_async", "separate_async"])
def test_a_training_that_was_killed_repeats_and_loses_nothing(path: Path, model: Path, mode: str) -> None:
    """verl's own loop, agent loops and reward workers; SIGKILL in the fourth step, the checkpoint is of the second."""
    folder = path.parent
    shutil.copytree(model, folder / "model")
    tiny.write_rows(folder / "rows.parquet", [{"index": i + 1} for i in range(N)])
    updates = 2 if mode == "separate_async" else 1  # of each step
    died = played(folder, mode, 5, die_at=4 * updates)
    again = played(folder, mode, 5)
    kept, gone = died[: 2 * updates], died[2 * updates :]
    assert (len(kept), len(gone), len(again)) == (2 * updates, 2 * updates, 3 * updates)
    learned = [place for update in [*kept, *again] for place in update]
    assert len(learned) == len(set(learned)) == 4 * 5
    assert {place for update in gone for place in update} <= set(learned)
    if mode == "sync":
        assert again[: len(gone)] == gone, "what the lost weights learned from comes again, as it was picked"
    with curri.open_store(path) as store:
        rows = store.connection.rows("select event, reason, prompt_id, round from ledger where event <> 'issued'")
        assert {f"{prompt}-{number}" for event, _, prompt, number in rows if event == "trained"} == set(learned)
        assert {(event, reason) for event, reason, _, _ in rows} - {("told", None)} == {("trained", None)}
        outcomes = store.connection.rows("select distinct prompt_id % 3 = 1, reward, solved from rollouts order by 1")
        assert [(bool(wrong), float(reward), float(solved)) for wrong, reward, solved in outcomes] == [
            (False, 2.0, 1.0), (True, -1.0, 0.0),
        ]  # fmt: skip
