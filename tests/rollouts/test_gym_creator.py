"""``GymCreator``: harder settings, other seeds, answers that the task's own scorer accepts."""

from __future__ import annotations

import itertools
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import curri
from curri.errors import InvalidParameter, MissingExtra
from curri.evolution import evolve
from curri.exchange import ingest_gym
from curri.rollouts import GymCreator
from curri.types import Evolved, Prompt, Refusal

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("reasoning_gym", reason="needs curri[gym]")


def parent(task: str, arm: str | None = None, **params: Any) -> Prompt:
    origin = {"task": task, "params": params, "seed": 0, "size": 1, "index": 0}
    return Prompt(1, "old?", "old", arm or task, {"gym": origin, "entry": {}})


def child_of(prompt: Prompt, *, breadth: float = 0.0, seed: int = 0) -> Evolved:
    ((child,),) = GymCreator(breadth=breadth).create([prompt], 1, [seed])
    assert isinstance(child, Evolved), child
    return child


def refusal_of(prompt: Prompt, *, breadth: float = 0.0) -> Refusal:
    ((child,),) = GymCreator(breadth=breadth).create([prompt], 1, [0])
    assert isinstance(child, Refusal)
    return child


def scored(child: Evolved, answer: str) -> float:
    """The answer's score, from what is stored alone."""
    from reasoning_gym import create_dataset

    made = json.loads(json.dumps(child.metadata))["gym"]
    dataset = create_dataset(made["task"], size=made["size"], seed=made["seed"], **made["params"])
    entry = dataset[made["index"]]
    assert entry["question"] == child.prompt
    score: float = dataset.score_answer(answer, entry)
    return score


@pytest.mark.parametrize("task", ["chain_sum", "knights_knaves", "spell_backward", "gcd", "power_function"])
@pytest.mark.parametrize("breadth", [0.0, 1.0])
def test_the_stored_origin_makes_the_child_again_and_scores_it(task: str, breadth: float) -> None:
    child = child_of(parent(task), breadth=breadth)
    assert child.verified
    assert child.answer is not None
    assert scored(child, child.answer) == 1.0
    assert scored(child, "surely wrong") < 1.0


def test_one_setting_goes_up_by_one_level() -> None:
    seen = set()
    for seed in range(30):
        child = child_of(parent("knights_knaves"), seed=seed)
        params = child.metadata["gym"]["params"]
        seen.add((child.operation, tuple(params.items())))
    assert seen == {
        ("raise n_people", (("n_people", 3),)),
        ("raise depth_constraint", (("depth_constraint", 3),)),
        ("raise width_constraint", (("width_constraint", 3),)),
    }


def test_a_range_moves_up_as_a_whole() -> None:
    child = child_of(parent("spell_backward"))  # word_len 3 to 10, levels 3, 5, 7, 9, 11
    assert child.metadata["gym"]["params"] == {"min_word_len": 10, "max_word_len": 11}


def test_where_the_task_refuses_that_only_the_upper_bound_goes_up() -> None:
    prompt = parent("word_ladder")  # levels up to 5; the lower bound may not exceed 4
    assert child_of(prompt).metadata["gym"]["params"] in (
        {"max_word_length": 5},
        {"min_word_length": 4, "max_word_length": 5},
    )


def test_breadth_keeps_the_setting() -> None:
    child = child_of(parent("knights_knaves", n_people=3), breadth=1.0)
    assert child.operation == "another seed"
    assert child.metadata["gym"]["params"] == {"n_people": 3}
    assert child.metadata["gym"]["seed"] != 0


def test_breadth_is_a_share() -> None:
    prompts = [parent("gcd")] * 200
    children = [group[0] for group in GymCreator(breadth=0.25).create(prompts, 1, range(200))]
    sideways = sum(isinstance(child, Evolved) and child.operation == "another seed" for child in children)
    assert 25 < sideways < 75


def test_the_arm_follows_the_setting_where_it_was_named_after_it() -> None:
    assert child_of(parent("spell_backward")).arm == "spell_backward(max_word_len=11,min_word_len=10)"
    assert child_of(parent("spell_backward", arm="my words")).arm is None


def test_the_same_seed_makes_the_same_children() -> None:
    prompts = [parent("gcd"), parent("chain_sum")]
    first = GymCreator().create(prompts, 3, [7, 8])
    assert GymCreator().create(prompts, 3, [7, 8]) == first
    assert GymCreator().create(prompts[1:], 3, [8])[0] == first[1]
    assert GymCreator().create(prompts, 3, [9, 10]) != first


def test_settings_at_the_top_are_refused_in_depth_but_not_in_breadth() -> None:
    top = parent("knights_knaves", n_people=5, depth_constraint=3, width_constraint=3)
    assert "can go up" in refusal_of(top).reason
    assert child_of(top, breadth=1.0).verified


def test_a_task_without_a_curriculum_evolves_in_breadth() -> None:
    assert child_of(parent("list_functions")).operation == "another seed"


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (Prompt(1, "2 + 2?", "4", "sums", {}), "not a prompt that"),
        (Prompt(1, "2 + 2?", "4", "sums", {"gym": "chain_sum"}), "not a prompt that"),
        (parent("no_such_task"), "no task 'no_such_task'"),
        (parent("gcd", no_such_parameter=3), "can go up"),
    ],
)
def test_what_cannot_be_evolved_is_refused(prompt: Prompt, reason: str) -> None:
    assert reason in refusal_of(prompt).reason


def test_wrong_parameters_are_refused_in_breadth_too() -> None:
    assert "refuses its parameters" in refusal_of(parent("gcd", no_such_parameter=3), breadth=1.0).reason


def test_an_answer_that_the_scorer_does_not_accept_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from reasoning_gym.arithmetic import ChainSumDataset

    monkeypatch.setattr(ChainSumDataset, "score_answer", lambda *_: 0.5, raising=False)
    assert "scorer accepts" in refusal_of(parent("chain_sum")).reason


def test_without_reasoning_gym_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    creator = GymCreator()
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(MissingExtra, match="reasoning-gym") as raised:
        creator.create([parent("gcd")], 1, [0])
    assert "curri[gym]" in str(raised.value)


@pytest.mark.parametrize("breadth", [-0.1, 1.1, "a", None, True])
def test_wrong_breadth_is_refused(breadth: Any) -> None:
    with pytest.raises(InvalidParameter, match="`breadth` of `GymCreator`"):
        GymCreator(breadth=breadth)


def test_ingested_prompts_evolve_in_chains(tmp_path: Path) -> None:
    with curri.open_store(tmp_path / "p.duckdb", create=True) as store:
        ingest_gym(store, "gym:knights_knaves?n_people=2&size=6&seed=0")
        report = evolve(store, GymCreator(breadth=0.0), store.pool().ids, per_parent=3, seed=1)
        assert report.stored + sum(report.rejected.values()) == 18
        assert report.stored >= 12
        line = store.prompts.ancestry(int(report.prompt_ids[-1]))
        settings = [prompt.metadata["gym"]["params"] for prompt in store.texts.fetch(np.array(line))]
        assert [len(params) for params in settings][-1] == 0
        for harder, easier in itertools.pairwise(settings):
            raised = {name for name in harder if harder[name] != easier.get(name)}
            assert len(raised) == 1
        again = evolve(store, GymCreator(breadth=0.0), store.pool().ids[:6], per_parent=3, seed=1)
        assert again.stored == 0
