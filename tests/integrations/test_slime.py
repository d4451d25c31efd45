"""slime: groups of samples from a curriculum, and what comes back from a rollout."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

import curri
from curri.errors import InvalidData, InvalidParameter, InvalidRollouts, MissingExtra, PoolExhausted, StateMismatch
from curri.integrations import slime as module
from curri.integrations.slime import CurriculumDataSource, generate_rollout_fully_async, hear, note_trained
from curri.store import NewPrompt
from curri.testing import AdapterCase, parametrize_adapters
from tests.integrations.upstream import is_here, stand_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from curri.testing import AdapterCheck, Setting

GROUP, BATCH = 2, 4
REAL = is_here("slime")


@pytest.fixture(autouse=True)
def _slime(monkeypatch: pytest.MonkeyPatch) -> None:
    if not REAL:
        stand_in("slime", monkeypatch)


class Source(CurriculumDataSource):
    """Reads its prompts from ``args.rows``, not from a file; the run is made by a function there."""

    def read_samples(self, args: Any) -> Sequence[Any]:
        from slime.utils.types import Sample

        return [Sample(prompt=row["prompt"], metadata={"prompt_id": row["prompt_id"]}) for row in args.rows]

    def make_scheduler(self, args: Any) -> curri.Scheduler:
        made: curri.Scheduler = args.make() if hasattr(args, "make") else super().make_scheduler(args)
        return made


def arguments(folder: Path, **changes: Any) -> Any:
    given: dict[str, Any] = {
        "n_samples_per_prompt": GROUP,
        "rollout_batch_size": BATCH,
        "over_sampling_batch_size": BATCH,
        "partial_rollout": False,
        "reward_key": None,
        "save": str(folder),
        "load": str(folder),
        "curri_store": str(folder / "prompts.duckdb"),
        "curri_run": "r1",
        "curri_strategy": "uniform",
        "curri_parameters": {"seed": 0},
    }
    return SimpleNamespace(**{**given, **changes})


def score(group: Sequence[Any], *rewards: Any) -> list[Any]:
    """The group as slime has it when its rewards are known."""
    status = type(group[0]).Status
    for sample, reward in zip(group, rewards, strict=True):
        sample.reward, sample.response_length = reward, 7
        sample.status = status.ABORTED if reward is None else status.COMPLETED
    return list(group)


def ids_of(groups: Sequence[Sequence[Any]]) -> list[int]:
    return [group[0].metadata["prompt_id"] for group in groups]


# ---- the contract of all adapters ------------------------------------------------------------------------------------


class Session:
    """A training: one call of ``get_samples`` a rollout, all of whose groups are heard of."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.folder = folder
        scheduler = setting.scheduler(folder)
        self.args = arguments(
            folder, n_samples_per_prompt=setting.group_size, rows=setting.rows(), make=lambda: scheduler
        )
        try:
            self.source = Source(self.args)
        except ValueError:
            scheduler.store.close()
            raise
        self.scheduler, self.curriculum = scheduler, scheduler.curriculum
        self.groups: dict[int, Any] = {}
        last = folder / "last.json"
        self.rollout = json.loads(last.read_text()) if last.exists() else -1
        self.source.load(self.rollout)

    def next_batch(self) -> list[int]:
        groups = self.source.get_samples(BATCH)
        self.groups |= dict(zip(ids_of(groups), groups, strict=True))
        return [sample.metadata["prompt_id"] for group in groups for sample in group]

    def report(self, ids: Sequence[int], rewards: Sequence[float]) -> None:
        by_prompt: dict[int, list[float]] = {}
        for prompt, reward in zip(ids, rewards, strict=True):
            by_prompt.setdefault(prompt, []).append(reward)
        groups = []
        for prompt, mine in by_prompt.items():
            group = self.groups.get(prompt) or self.unknown(prompt)
            groups.append(score(group[: len(mine)], *mine))
        hear(self.args, groups, self.source.get_samples)
        self.rollout += 1

    def unknown(self, prompt: int) -> list[Any]:
        group = next(iter(self.groups.values()))
        return [type(group[0])(metadata={"prompt_id": prompt})]

    def checkpoint(self) -> None:
        self.source.save(self.rollout)
        (self.folder / "last.json").write_text(json.dumps(self.rollout))

    def stop(self) -> None:
        self.scheduler.store.close()


@parametrize_adapters([AdapterCase("slime", Session)])
def test_adapter(check: AdapterCheck) -> None:
    check()


# ---- settings --------------------------------------------------------------------------------------------------------


@pytest.fixture
def args(tmp_path: Path) -> Iterator[Any]:
    """Settings of a run over 24 prompts; its store is closed with the test."""
    path = tmp_path / "prompts.duckdb"
    with curri.open_store(path, create=True) as store:
        texts = [f"{i} + {i} = ?" for i in range(24)]
        store.prompts.add([NewPrompt(text, False, "0", "sums", external_id=f"own {text}") for text in texts])
    yield arguments(tmp_path, rows=[{"prompt_id": i + 1, "prompt": text} for i, text in enumerate(texts)])
    with curri.open_store(path):
        pass


@pytest.fixture
def start(args: Any) -> Iterator[Callable[..., Source]]:
    """Starts a data source; starting another one ends it, as a crash would."""
    sources: list[Source] = []

    def begin(load: int | None = None, **changes: Any) -> Source:
        for source in sources:
            source.scheduler.store.close()
        sources.append(Source(SimpleNamespace(**{**vars(args), **changes})))
        if load is not None:
            sources[-1].load(load)
        return sources[-1]

    yield begin
    for source in sources:
        source.scheduler.store.close()


def ledger(source: Source) -> list[tuple[int, str, str | None]]:
    """(prompt, event, reason) of what was settled, in the order of writing."""
    rows = source.scheduler.store.connection.rows(
        "select prompt_id, event, reason from ledger where event <> 'issued' order by seq, rowid"
    )
    return [(int(prompt), event, reason) for prompt, event, reason in rows]


def rollout(source: Source, *, only: int | None = None) -> list[Any]:
    """One rollout whose groups are all heard of, or the first ``only`` of them; gives the groups."""
    groups = source.get_samples(BATCH)
    done = [score(group, 1.0, 0.0) for group in groups[:only]]
    hear(source.args, done, source.get_samples)
    return groups


def test_prompts_are_read_by_slime_and_the_run_is_made_from_its_arguments(args: Any) -> None:
    if REAL:
        pytest.skip("slime's own reader wants a tokenizer")
    source = CurriculumDataSource(args)
    assert len(source) == 24
    assert source.scheduler.run.name == "r1"
    assert source.scheduler.curriculum.group_size == GROUP
    source.scheduler.store.close()
    args.rows = None
    with pytest.raises(InvalidParameter, match="read no prompts"):
        CurriculumDataSource(args)


def test_settings_are_asked_for(start: Callable[..., Source]) -> None:
    with pytest.raises(InvalidParameter, match="no curri_run") as caught:
        start(curri_run=None)
    assert "--custom-config-path" in str(caught.value.hint)
    with pytest.raises(InvalidParameter, match="--n-samples-per-prompt, 2; got 8"):
        start(curri_parameters={"group_size": 8})


def test_ids_are_the_users_own_where_they_are_texts(start: Callable[..., Source], args: Any) -> None:
    own = [{"prompt_id": f"own {row['prompt']}", "prompt": row["prompt"]} for row in args.rows]
    source = start(rows=own)
    groups = rollout(source)
    assert {prompt for prompt, event, _ in ledger(source) if event == "trained"} == {
        own.index({"prompt_id": group[0].metadata["prompt_id"], "prompt": group[0].prompt}) + 1 for group in groups
    }


def test_a_prompt_without_metadata_is_refused(start: Callable[..., Source], args: Any) -> None:
    with pytest.raises(InvalidData, match=r'no id in "metadata.number"'):
        start(curri_id_key="number")


# ---- picking ---------------------------------------------------------------------------------------------------------


def test_groups_have_their_size_and_samples_their_numbers(start: Callable[..., Source]) -> None:
    source = start()
    groups = [*source.get_samples(3), *source.get_samples(BATCH)]
    assert [len(group) for group in groups] == [GROUP] * 7
    assert [[sample.group_index for sample in group] for group in groups] == [[n, n] for n in range(7)]
    assert [sample.index for group in groups for sample in group] == list(range(14))
    assert len(set(ids_of(groups))) == 7
    assert groups[0][0] is not groups[0][1]
    assert groups[0][0].metadata is not groups[0][1].metadata


def test_single_groups_come_from_rounds_of_a_batch(start: Callable[..., Source]) -> None:
    source = start()
    rounds = []
    for _ in range(2 * BATCH):
        source.get_samples(1)
        rounds.append(source.scheduler.curriculum.rounds_asked)
    assert rounds == [1] * BATCH + [2] * BATCH


def test_the_pool_can_run_out(start: Callable[..., Source]) -> None:
    source = start(over_sampling_batch_size=20, partial_rollout=True)
    groups = source.get_samples(20)
    source.add_samples(groups[:2])
    with pytest.raises(PoolExhausted):
        source.get_samples(20)
    assert source.get_samples(3)[:2] == groups[:2]  # nothing that was handed back is lost by it


def test_partial_groups_come_first_and_are_not_drawn_twice(start: Callable[..., Source]) -> None:
    source = start(partial_rollout=True)
    first = source.get_samples(BATCH)
    hear(source.args, [score(first[0], 1.0, 0.0)], source.get_samples)
    aborted = [score(group, None, None) for group in first[1:]]
    source.add_samples(aborted)
    picked = source.scheduler.curriculum.rounds_asked
    again = source.get_samples(2)
    assert again == aborted[:2]  # the very samples, with what they hold of a response
    assert source.scheduler.curriculum.rounds_asked == picked
    last = source.get_samples(BATCH)
    assert last[0] is aborted[2]
    assert not set(ids_of(last[1:])) & set(ids_of(aborted))
    assert [row[:2] for row in ledger(source)] == [(ids_of(first)[0], "trained")]


def test_what_is_handed_back_is_checked(start: Callable[..., Source]) -> None:
    source = start(partial_rollout=True)
    groups = source.get_samples(BATCH)
    with pytest.raises(InvalidRollouts, match="a group of 1 samples was handed back; --n-samples-per-prompt is 2"):
        source.add_samples([groups[0][:1]])
    with pytest.raises(InvalidRollouts, match="a group must be of one prompt"):
        source.add_samples([[groups[0][0], groups[1][0]]])
    source.add_samples([groups[0]])
    with pytest.raises(InvalidRollouts, match="is not out, or was handed back before"):
        source.add_samples([groups[0]])
    hear(source.args, [score(groups[1], 1.0, 0.0)], source.get_samples)
    with pytest.raises(InvalidRollouts, match="is not out"):
        source.add_samples([groups[1]])


# ---- hearing ---------------------------------------------------------------------------------------------------------


def test_what_slime_breaks_off_is_lost_with_the_reason(start: Callable[..., Source]) -> None:
    source = start()
    groups = rollout(source, only=2)
    settled = {prompt: (event, reason) for prompt, event, reason in ledger(source)}
    assert [settled[prompt] for prompt in ids_of(groups)] == [
        ("trained", None),
        ("trained", None),
        ("lost", "slime broke it off"),
        ("lost", "slime broke it off"),
    ]
    assert not source.groups.out()


def test_filtered_groups_are_learned_from_and_recorded_as_dropped(start: Callable[..., Source]) -> None:
    source = start()
    groups = [score(group, 1.0, float(place % 2)) for place, group in enumerate(source.get_samples(BATCH))]
    kept = [group for group in groups if group[1].reward == 0.0]
    note_trained(source.args, kept)
    hear(source.args, groups, source.get_samples)
    events = {prompt: event for prompt, event, _ in ledger(source)}
    assert [events[prompt] for prompt in ids_of(groups)] == ["trained", "dropped", "trained", "dropped"]
    metrics = source.scheduler.metrics()
    assert metrics["curriculum/uniform/responses_folded"] == BATCH * GROUP
    assert metrics["scheduler/groups_with_signal"] == 2


def test_a_group_without_any_score_is_lost_and_one_with_some_is_told(start: Callable[..., Source]) -> None:
    source = start()
    groups = source.get_samples(2)
    hear(source.args, [score(groups[0], None, None), score(groups[1], None, 1.0)], source.get_samples)
    events = {prompt: (event, reason) for prompt, event, reason in ledger(source)}
    assert [events[prompt] for prompt in ids_of(groups)] == [("lost", "no response was scored"), ("trained", None)]
    assert source.scheduler.metrics()["curriculum/uniform/responses_folded"] == 0  # the round has two more in flight


def test_responses_are_told_with_all_that_slime_knows(start: Callable[..., Source]) -> None:
    source = start(reward_key="score", curri_solved_key="acc")
    (group,) = source.get_samples(1)
    score(group, {"score": -0.5, "acc": 0}, {"score": 1.5, "acc": 1})
    group[0].weight_versions, group[1].status = ["3", "4"], type(group[1]).Status.TRUNCATED
    # A response that slime split into two samples counts once, as its last one has it.
    part = type(group[0])(metadata=group[1].metadata, reward={"score": 9.0, "acc": 0}, status=group[1].status)
    hear(source.args, [[group[0], [part, group[1]]]], source.get_samples)
    rows = source.scheduler.store.connection.rows(
        "select reward, solved, tokens, truncated, policy_version from rollouts order by reward"
    )
    assert [tuple(row) for row in rows] == [(-0.5, 0.0, 7, False, 4), (1.5, 1.0, 7, True, -1)]


def test_a_reward_that_is_no_number_is_refused_as_a_whole(start: Callable[..., Source]) -> None:
    source = start()
    groups = source.get_samples(2)
    with pytest.raises(InvalidRollouts, match="finite"):
        hear(source.args, [score(groups[0], 1.0, 0.0), score(groups[1], 1.0, float("nan"))], source.get_samples)
    assert not ledger(source)


def test_another_data_source_is_refused(start: Callable[..., Source]) -> None:
    with pytest.raises(InvalidParameter, match="slime's data source is a list") as caught:
        hear(start().args, [], [].append)
    assert "--data-source-path" in str(caught.value.hint)


def test_a_rollout_that_never_ends_is_heard_through_its_function(start: Callable[..., Source]) -> None:
    if REAL:
        pytest.skip("slime's own generates for real")
    source = start()
    ahead = source.get_samples(1)
    groups = generate_rollout_fully_async(source.args, 0, source)
    events = {prompt: event for prompt, event, _ in ledger(source)}
    assert events == dict.fromkeys(ids_of(groups), "trained")
    assert ids_of(ahead) == [group.prompt_id for group in source.groups.out()]  # still under way, not lost


def test_a_group_whose_generation_raises_is_lost_at_once(start: Callable[..., Source]) -> None:
    if REAL:
        pytest.skip("slime's own generates for real")
    source = start()
    (waiting,) = source.get_samples(1)
    first = [group[0].metadata["prompt_id"] for group in source.get_samples(1)]
    source.add_samples([waiting])
    source.args.failing = ids_of([waiting])
    for number in range(2):  # the second rollout finds the first one's wrapper in place
        groups = generate_rollout_fully_async(source.args, number, source)
        assert len(groups) == BATCH
    assert [entry for entry in ledger(source) if entry[1] == "lost"] == [
        (source.args.failing[0], "lost", "its generation raised")
    ]
    assert ids_of([waiting]) != first
    assert [group.prompt_id for group in source.groups.out()] == first


def test_a_slime_that_generates_otherwise_is_refused(
    start: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = start()
    monkeypatch.delattr("slime.rollout.fully_async_rollout.generate_and_rm_group")
    with pytest.raises(MissingExtra, match="does not call generate_and_rm_group"):
        generate_rollout_fully_async(source.args, 0, source)


# ---- saving ----------------------------------------------------------------------------------------------------------


def test_what_was_told_after_the_checkpoint_comes_again_and_nothing_before_it(start: Callable[..., Source]) -> None:
    source = start(load=-1)
    before = rollout(source)
    source.save(0)
    lost = [rollout(source), rollout(source)]  # trained into weights that the crash took
    in_hand = source.get_samples(BATCH)
    wanted = ids_of([*lost[0], *lost[1], *in_hand])
    source = start(load=0)
    again = [rollout(source) for _ in range(3)]
    assert ids_of([group for groups in again for group in groups]) == wanted
    assert again[0][0][0].index == before[-1][-1].index + 1
    assert source.scheduler.curriculum.rounds_asked == 4  # nothing was picked anew
    assert (
        source.scheduler.metrics()["curriculum/uniform/responses_folded"] == 4 * BATCH * GROUP
    )  # the same counts once
    rollout(source)
    assert source.scheduler.curriculum.rounds_asked == 5


def test_groups_of_a_round_come_again_only_if_the_weights_have_not_seen_them(start: Callable[..., Source]) -> None:
    source = start(load=-1, partial_rollout=True)
    groups = source.get_samples(BATCH)
    hear(source.args, [score(group, 1.0, 0.0) for group in groups[:2]], source.get_samples)
    source.add_samples(groups[2:])
    source.save(0)
    assert source.get_samples(2) == groups[2:]
    hear(source.args, [score(group, 1.0, 0.0) for group in groups[2:]], source.get_samples)
    source = start(load=0, partial_rollout=True)
    assert sorted(ids_of(source.get_samples(2))) == sorted(ids_of(groups[2:]))
    new = source.get_samples(BATCH)
    assert source.scheduler.curriculum.rounds_asked == 2
    assert not set(ids_of(new)) & set(ids_of(groups[2:]))


def test_an_asynchronous_trainer_saves_a_rollout_after_the_next_one(start: Callable[..., Source]) -> None:
    source = start(load=-1)
    rollout(source)
    second = rollout(source)
    source.save(0)  # slime trains on rollout 0 while rollout 1 is generated
    source = start(load=0)
    assert ids_of(source.get_samples(BATCH)) == ids_of(second)


def test_a_restart_without_a_checkpoint_begins_with_what_was_under_way(start: Callable[..., Source]) -> None:
    source = start(load=-1)
    rollout(source)
    in_hand = source.get_samples(BATCH)
    source = start(load=-1)
    assert ids_of(source.get_samples(BATCH)) == ids_of(in_hand)


def test_checkpoints_of_something_else_are_refused(start: Callable[..., Source], tmp_path: Path) -> None:
    with pytest.raises(StateMismatch, match="holds no state of a curriculum"):
        start(load=7)
    source = start(load=-1)
    rollout(source)
    source.save(0)
    with pytest.raises(StateMismatch, match="of run 'r1'"):
        start(load=0, curri_run="another")
    (tmp_path / "rollout" / "curri_state_0.json").write_text('{"groups": {}, "index": 0, "group_index": 0}')
    with pytest.raises(StateMismatch, match="no state of a curriculum"):
        start(load=0)


def test_a_forgotten_hook_is_noticed_at_the_first_checkpoint(start: Callable[..., Source]) -> None:
    source = start(load=-1)
    source.get_samples(BATCH)
    with pytest.raises(InvalidParameter, match="never heard of") as caught:
        source.save(0)
    assert f"{module.__name__}.hear" in str(caught.value.hint)
