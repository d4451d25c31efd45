"""Stopped after any batch and started again: nothing is lost, nothing trained comes again, picks are bit-equal."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curri
from curri.errors import InvalidParameter, InvalidRollouts, StateMismatch
from curri.store import NewPrompt

pytest.importorskip("torch")

from torch.utils.data import DataLoader

from curri.integrations.torch import CurriculumBatchSampler, CurriculumSampler

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
ROWS: Any = [{"prompt_id": 100 + i} for i in range(60)]


def ucb(seed: int = 0) -> curri.curricula.UCB:
    pool = curri.PromptPool([row["prompt_id"] for row in ROWS], [f"arm{i % 4}" for i in range(60)])
    return curri.curricula.UCB(pool, seed=seed, temperature=0.05)


def rewards(ids: Any, step: int) -> Any:
    ids = np.asarray(ids)
    return ((7 * ids + 3 * step + np.arange(ids.size)) % 5 < 2).astype(float)


def ids_of(rows: list[dict[str, Any]]) -> Any:
    return np.array([row["prompt_id"] for row in rows])


def steps(sampler: CurriculumSampler, stream: Iterator[int], size: int, numbers: range) -> list[list[int]]:
    """Train on batches of ``size`` rows."""
    picks = []
    for number in numbers:
        ids = sampler.prompt_ids_of([next(stream) for _ in range(size)])
        picks.append(ids.tolist())
        sampler.tell(ids, rewards(ids, number))
    return picks


# ---- with a store ----------------------------------------------------------------------------------------------------


def killed(folder: Path, last: int) -> None:
    """Train in another process, which is killed with batch ``last`` in hand."""
    command = [sys.executable, str(HERE / "killed_job.py"), str(folder), str(last)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]


def new_store(folder: Path) -> Path:
    folder.mkdir()
    prompts = [NewPrompt(f"{i}?", is_chat=False, answer="", arm=f"arm{i % 4}") for i in range(60)]
    with curri.open_store(folder / "p.duckdb", create=True) as store:
        store.prompts.add(prompts)
    return folder


def trained(folder: Path) -> list[list[int]]:
    return [json.loads(line) for line in (folder / "trained.jsonl").read_text().splitlines()]


def test_killed_mid_prefetch_the_picks_are_those_of_a_run_never_killed(tmp_path: Path) -> None:
    """SIGKILL with a batch in hand and four more drawn by two workers."""
    train = runpy.run_path(str(HERE / "killed_job.py"))["train"]
    whole, broken = new_store(tmp_path / "whole"), new_store(tmp_path / "broken")
    train(whole, first=0, last=9)
    killed(broken, 4)
    assert len(trained(broken)) == 4
    train(broken, first=4, last=9)
    assert trained(broken) == trained(whole)
    with curri.open_store(broken / "p.duckdb") as store:
        assert len(store.rollouts) == 10 * 8


@pytest.fixture
def store(tmp_path: Path) -> Iterator[curri.PromptStore]:
    prompts = [NewPrompt(f"{i}?", is_chat=False, answer="", arm=f"arm{i % 4}") for i in range(60)]
    with curri.open_store(tmp_path / "p.duckdb", create=True) as store:
        store.prompts.add(prompts)
        yield store


def stored(store: curri.PromptStore, run: str = "r", **options: Any) -> CurriculumSampler:
    scheduler = curri.Scheduler(store, "uniform", run=run, seed=0)
    return CurriculumSampler([{"prompt_id": i} for i in range(1, 61)], scheduler, **{"prompts": 5, **options})


def test_a_store_says_what_its_checkpoint_is_of(store: curri.PromptStore, tmp_path: Path) -> None:
    sampler = stored(store)
    next(iter(sampler))
    state = sampler.state_dict()
    stored(store).load_state_dict(state)
    with pytest.raises(StateMismatch, match="is of run 'r'; this sampler works with 'other'"):
        stored(store, "other").load_state_dict(state)
    older = {**state, "mark": {**state["mark"], "rounds": 5}}
    with pytest.raises(StateMismatch, match="has seen 5 rounds, the store only 1: it is older"):
        stored(store).load_state_dict(older)
    with pytest.raises(InvalidParameter, match="has every pick and outcome in its store"):
        sampler.save(tmp_path / "x")
    with pytest.raises(InvalidParameter, match="goes on from its store by itself"):
        sampler.load(tmp_path / "x")


def test_the_rest_of_an_epoch_is_what_is_left_of_it(store: curri.PromptStore, tmp_path: Path) -> None:
    sampler = stored(store)
    stream = iter(sampler)
    seen = steps(sampler, stream, 5, range(4))
    next(stream)  # a batch in hand
    state = sampler.state_dict()
    store.close()
    with curri.open_store(tmp_path / "p.duckdb") as again:
        resumed = stored(again)
        resumed.load_state_dict(state)
        rest = list(resumed)
        assert len(rest) == 60 - 4 * 5
        assert resumed.metrics()["sampler/parts_handed_out_again"] == 1
        resumed.tell(resumed.prompt_ids_of(rest), np.ones(len(rest)))
        everything = [*np.ravel(seen), *resumed.prompt_ids_of(rest)]
        assert sorted(everything) == list(range(1, 61)), "uniform's epoch has every prompt once"
        assert len(list(resumed)) == 60
        again._users += 1  # the fixture closes it once more


def test_a_store_that_went_on_hands_out_again_what_the_weights_have_lost(store: curri.PromptStore) -> None:
    """A trainer goes back two steps, to its last checkpoint."""
    sampler = stored(store)
    stream = iter(sampler)
    steps(sampler, stream, 5, range(2))
    state = sampler.state_dict()
    lost = steps(sampler, stream, 5, range(2, 4))
    sampler.load_state_dict(state)
    sampler.replay(2)
    stream = iter(sampler)
    again = [sampler.prompt_ids_of([next(stream) for _ in range(5)]).tolist() for _ in range(3)]
    assert again[:2] == lost
    assert not set(again[2]) & set(np.ravel(lost).tolist())
    told = sampler.tell(lost[0], rewards(lost[0], 2))
    assert (told.new, told.repeated) == (0, 5)


def test_what_was_lost_before_a_replay_may_be_lost_again_and_nothing_else_is(store: curri.PromptStore) -> None:
    sampler = stored(store, rounds=20)
    stream = iter(sampler)
    state = sampler.state_dict()

    def step() -> list[int]:
        ids = sampler.prompt_ids_of([next(stream) for _ in range(5)]).tolist()
        sampler.tell(ids[1:], rewards(ids[1:], 0))
        sampler.resolve(ids[:1], "lost", "no score")
        return ids

    before = [step() for _ in range(12)]  # uniform's whole epoch: what comes next was all settled once
    open_ids = sampler.prompt_ids_of([next(stream) for _ in range(5)]).tolist()
    sampler.load_state_dict(state)
    sampler.replay(0)
    stream = iter(sampler)
    again = [step() for _ in range(12)]
    assert again == before
    lost = store.connection.rows("select round, count(*) from ledger where event = 'lost' group by 1 order by 1")
    assert lost == [(i, 1) for i in range(12)], "those in flight in round 12 were not touched"
    assert sampler.prompt_ids_of([next(stream) for _ in range(5)]).tolist() == open_ids
    sampler.resolve(open_ids, "dropped", "stale")
    with pytest.raises(InvalidRollouts, match="not in flight"):
        sampler.resolve(open_ids, "dropped", "stale")


def test_what_is_still_to_be_replayed_is_not_forgotten_by_the_next_checkpoint(store: curri.PromptStore) -> None:
    """A trainer goes back three steps, makes a checkpoint after one, and goes back once more."""
    sampler = stored(store)
    stream = iter(sampler)
    assert sampler.first_unheard is None
    steps(sampler, stream, 5, range(2))
    state = sampler.state_dict()
    lost = steps(sampler, stream, 5, range(2, 5))
    sampler.load_state_dict(state)
    sampler.replay(2)
    stream = iter(sampler)
    assert steps(sampler, stream, 5, range(2, 3)) == lost[:1]
    next(stream)  # a batch in hand
    state = sampler.state_dict()
    assert sampler.first_unheard == 3
    sampler.load_state_dict(state)
    sampler.replay(3)
    assert steps(sampler, iter(sampler), 5, range(3, 5)) == lost[1:]


# ---- without a store -------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    prompts=st.integers(1, 5), group_size=st.integers(1, 3), size=st.integers(1, 3), stop=st.integers(0, 9),
    in_hand=st.booleans(), batches=st.booleans(),
)  # fmt: skip
def test_any_stop_without_a_store(
    tmp_path_factory: pytest.TempPathFactory,
    prompts: int,
    group_size: int,
    size: int,
    stop: int,
    in_hand: bool,
    batches: bool,
) -> None:
    """Batches of the loader may be larger or smaller than a round, as long as groups are whole."""

    def made() -> Any:
        kind = CurriculumBatchSampler if batches else CurriculumSampler
        sampler: Any = kind(ROWS, ucb(), prompts=prompts, group_size=group_size)
        return sampler, (row for batch in sampler for row in batch) if batches else iter(sampler)

    rows = (prompts if batches else size) * group_size
    sampler, stream = made()
    whole = steps(sampler, stream, rows, range(12))
    sampler, stream = made()
    picks = steps(sampler, stream, rows, range(stop))
    if in_hand:
        next(stream)
    state = json.loads(json.dumps(sampler.state_dict()))
    file = tmp_path_factory.mktemp("arrays") / "arrays"
    sampler.save(file)
    sampler, stream = made()
    sampler.load(file)
    sampler.load_state_dict(state)
    assert picks + steps(sampler, stream, rows, range(stop, 12)) == whole


def test_going_on_in_the_same_process_hands_out_again_what_was_left() -> None:
    sampler = CurriculumSampler(ROWS, ucb(), prompts=3, rounds=6)
    loader: Any = DataLoader(ROWS, sampler=sampler, batch_size=3, num_workers=2, collate_fn=ids_of)
    first, second = [], []
    for ids in loader:
        first.append(ids.tolist())
        if len(first) == 3:
            break  # in hand, and four more are drawn
        sampler.tell(ids, rewards(ids, len(first)))
    for ids in loader:
        second.append(ids.tolist())
        sampler.tell(ids, rewards(ids, len(second)))
    assert second[0] == first[2]
    assert len(second) == 6
    assert sampler.metrics()["sampler/batches_open"] == 0


def test_a_round_of_which_a_part_was_told_comes_again_without_that_part(tmp_path: Path) -> None:
    sampler = CurriculumBatchSampler(ROWS, ucb(), prompts=6, group_size=2)
    batch = next(iter(sampler))
    sampler.tell(sampler.prompt_ids_of(batch[:4]), [1, 0, 1, 1])
    sampler.save(tmp_path / "arrays")
    for repeats, rows in ((1, 8), (2, 12)):
        again = CurriculumBatchSampler(ROWS, ucb(), prompts=6, group_size=2, repeats=repeats)
        again.load(tmp_path / "arrays")
        again.load_state_dict(sampler.state_dict())
        stream = iter(again)
        first = next(stream)
        assert first[:8] == batch[4:]
        assert len(first) == rows, "filled up where a round comes several times, so that chunks stay aligned"
        assert again.tell(again.prompt_ids_of(batch[:4]), [1, 0, 1, 1]).repeated == 4


def test_the_position_is_small_and_cheap() -> None:
    n = 200_000
    rows = [{"prompt_id": 0}] * n
    sampler = CurriculumSampler(rows, curri.curricula.Uniform(curri.PromptPool(np.arange(n)), seed=0), prompts=64,
                                ids=np.arange(n))  # fmt: skip
    next(iter(sampler))
    assert len(json.dumps(sampler.state_dict())) < 300


def test_one_half_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    sampler = CurriculumSampler(ROWS, ucb(), prompts=3)
    stream = iter(sampler)
    steps(sampler, stream, 3, range(4))
    state = sampler.state_dict()
    sampler.save(tmp_path / "arrays")
    position_only = CurriculumSampler(ROWS, ucb(), prompts=3)
    with pytest.raises(StateMismatch, match=r"the sampler's state is of draw 4 .* the arrays here are of draw 0"):
        position_only.load_state_dict(state)
    next(iter(position_only))  # nothing was changed
    arrays_only = CurriculumSampler(ROWS, ucb(), prompts=3)
    arrays_only.load(tmp_path / "arrays")
    with pytest.raises(StateMismatch, match="position is not"):
        next(iter(arrays_only))


def test_halves_of_different_checkpoints_are_refused(tmp_path: Path) -> None:
    sampler = CurriculumSampler(ROWS, ucb(), prompts=3)
    stream = iter(sampler)
    states = []
    for number in range(4):
        steps(sampler, stream, 3, range(number, number + 1))
        states.append(sampler.state_dict())
        sampler.save(tmp_path / f"{number}")
    for arrays, state in ((0, 3), (3, 0), (2, 1)):
        other = CurriculumSampler(ROWS, ucb(), prompts=3)
        other.load(tmp_path / f"{arrays}")
        with pytest.raises(StateMismatch, match="of the same checkpoint"):
            other.load_state_dict(states[state])
    twin = CurriculumSampler(ROWS, ucb(), prompts=3)
    steps(twin, iter(twin), 3, range(1, 5))  # as many draws, other rewards
    with pytest.raises(StateMismatch, match="of the same checkpoint"):
        twin.load_state_dict(states[3])


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    sampler = CurriculumSampler(ROWS, ucb(), prompts=3)
    sampler.save(tmp_path / "arrays")
    (tmp_path / "text").write_text("x")
    (tmp_path / "state").write_bytes(curri.state.pack({"format": 1}))
    for name, words in (("none", "no saved arrays"), ("text", "cannot be read"), ("state", "no arrays of a sampler")):
        with pytest.raises(StateMismatch, match=words):
            sampler.load(tmp_path / name)
    with pytest.raises(StateMismatch, match="other parameters"):
        CurriculumSampler(ROWS, ucb(seed=1), prompts=3).load(tmp_path / "arrays")
    with pytest.raises(StateMismatch, match="other rows"):
        CurriculumSampler(ROWS[::-1], ucb(), prompts=3).load(tmp_path / "arrays")
    with pytest.raises(StateMismatch, match="no state of a curriculum sampler"):
        sampler.load_state_dict({"epoch": 3})


# ---- epochs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [False, True])
def test_an_epoch_that_ended_is_followed_by_a_whole_one(tmp_path: Path, told: bool) -> None:
    sampler = CurriculumSampler(ROWS, ucb(), prompts=3, rounds=4)
    rows = list(sampler)
    if told:
        sampler.tell(sampler.prompt_ids_of(rows), np.ones(12))
    sampler.save(tmp_path / "arrays")
    resumed = CurriculumSampler(ROWS, ucb(), prompts=3, rounds=4)
    resumed.load(tmp_path / "arrays")
    resumed.load_state_dict(sampler.state_dict())
    for each in (resumed, sampler):
        following = list(each)
        assert len(following) == 12
        assert (following == rows) is not told, "what has no feedback when an epoch begins comes again"


# ---- loaders that replay ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
def test_snapshots_of_every_batch_are_needed(tmp_path: Path) -> None:
    """StatefulDataLoader with snapshot_every_n_steps > 1 would throw picks away; that is refused, not done."""
    loaders = pytest.importorskip("torchdata.stateful_dataloader")

    def made() -> Any:
        sampler = CurriculumSampler(ROWS, ucb(), prompts=3)
        options: dict[str, Any] = {"batch_size": 3, "num_workers": 1, "collate_fn": ids_of}
        return sampler, loaders.StatefulDataLoader(ROWS, sampler=sampler, snapshot_every_n_steps=4, **options)

    sampler, loader = made()
    for number, ids in enumerate(loader):
        sampler.tell(ids, rewards(ids, number))
        if number == 5:
            break
    sampler.save(tmp_path / "arrays")
    state = loader.state_dict()
    sampler, loader = made()
    sampler.load(tmp_path / "arrays")
    loader.load_state_dict(state)
    with pytest.raises(StateMismatch, match="snapshot_every_n_steps at 1"):
        next(iter(loader))


def hf_trainer(folder: Path, sampler: CurriculumSampler, seen: list[list[int]], *, last: int, skip: bool) -> Any:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Model(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, prompt_id: Any) -> dict[str, Any]:
            return {"loss": (self.weight * prompt_id.float()).mean()}

    class Trainer(transformers.Trainer):  # type: ignore[misc,name-defined]
        def _get_train_sampler(self, *_: Any) -> CurriculumSampler:
            return sampler

        def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
            ids = inputs["prompt_id"].numpy()
            sampler.tell(ids, rewards(ids, len(seen)))
            seen.append(ids.tolist())
            return super().training_step(model, inputs, *rest)

    class Checkpoint(transformers.TrainerCallback):  # type: ignore[misc,name-defined]
        def on_save(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            place = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            sampler.save(place / "curriculum")
            (place / "curriculum.json").write_text(json.dumps(sampler.state_dict()))

    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=last, save_steps=4, per_device_train_batch_size=3, use_cpu=True,
        report_to=[], disable_tqdm=True, remove_unused_columns=False, ignore_data_skip=not skip, logging_steps=1000,
        dataloader_pin_memory=False,
    )  # fmt: skip
    return Trainer(model=Model(), args=arguments, train_dataset=ROWS, callbacks=[Checkpoint()])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_hugging_faces_trainer_goes_on_without_a_loss(tmp_path: Path) -> None:
    """The setting is ignore_data_skip=True: its replay would otherwise draw, and throw away, a pick a trained batch."""
    whole: list[list[int]] = []
    hf_trainer(tmp_path / "whole", CurriculumSampler(ROWS, ucb(), prompts=3), whole, last=9, skip=False).train()
    parts: list[list[int]] = []
    hf_trainer(tmp_path / "parts", CurriculumSampler(ROWS, ucb(), prompts=3), parts, last=4, skip=False).train()
    sampler = CurriculumSampler(ROWS, ucb(), prompts=3)
    place = tmp_path / "parts" / "checkpoint-4"
    sampler.load(place / "curriculum")
    sampler.load_state_dict(json.loads((place / "curriculum.json").read_text()))
    trainer = hf_trainer(tmp_path / "parts", sampler, parts, last=9, skip=False)
    trainer.train(resume_from_checkpoint=str(place))
    assert parts == whole
