from __future__ import annotations

import datetime as dt
import enum
import json
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from curri.errors import InvalidInput, InvalidParameter, MissingExtra, UnknownName
from curri.exchange import ingest_gym
from curri.exchange.gym import json_able, parse_gym
from curri.exchange.jsonl import canonical_json

if TYPE_CHECKING:
    from curri.exchange import Progress
    from curri.store import PromptStore

pytest.importorskip("reasoning_gym", reason="needs curri[gym]")


def test_prompts_of_a_task(store: PromptStore) -> None:
    seen: list[Progress] = []
    report = ingest_gym(store, "gym:knights_knaves?n_people=3&size=12&seed=5", progress=seen.append, chunk=5)
    assert report.arms == {"knights_knaves(n_people=3)": 12}
    assert report.added + report.repeated == 12
    assert [at.done for at in seen] == [5, 10, 12]
    prompt = store.texts.fetch(store.pool().ids)[0]
    assert isinstance(prompt.prompt, str)
    assert "3 inhabitants" in prompt.prompt
    assert prompt.answer


def test_the_metadata_makes_the_task_again_and_scores_an_answer(store: PromptStore) -> None:
    import reasoning_gym

    ingest_gym(store, "gym:chain_sum?min_digits=2&size=4&seed=3")
    for prompt in store.texts.fetch(store.pool().ids):
        gym = prompt.metadata["gym"]
        dataset = reasoning_gym.create_dataset(gym["task"], size=gym["size"], seed=gym["seed"], **gym["params"])
        entry = dataset[gym["index"]]
        assert entry["question"] == prompt.prompt
        assert dataset.score_answer(prompt.answer, entry) == 1.0
        assert prompt.metadata["entry"]["difficulty"]["num_digits"]


def test_doing_it_twice_changes_nothing(store: PromptStore) -> None:
    spec = "gym:gcd?size=30"
    first = ingest_gym(store, spec)
    again = ingest_gym(store, spec)
    assert (again.added, again.present) == (0, first.added)
    assert again.repeated == first.repeated


def test_the_arm_names_only_what_is_not_a_default(store: PromptStore) -> None:
    assert parse_gym("gym:gcd?size=2")[0].arm == "gcd"
    assert parse_gym("gym:knights_knaves?n_people=2")[0].arm == "knights_knaves"
    assert parse_gym("gym:knights_knaves?n_people=4&depth_constraint=3")[0].arm == (
        "knights_knaves(depth_constraint=3,n_people=4)"
    )
    assert ingest_gym(store, "gym:gcd?size=2", arm="divisors", split="test").arms == {"divisors": 2}
    assert len(store.pool()) == 0


def test_own_ids_name_task_seed_and_index(store: PromptStore) -> None:
    ingest_gym(store, "gym:gcd?size=2&seed=9")
    assert store.prompts.ids_by_external_id(["gcd/9/0", "gcd/9/1"]) == {"gcd/9/0": 1, "gcd/9/1": 2}


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("gym:knights_knave", UnknownName, "knights_knaves"),
        ("gym:", UnknownName, "no reasoning-gym task"),
        ("gym:gcd?min_number=2", InvalidParameter, 'did you mean "min_numbers"'),
        ("gym:gcd?min_numbers=two", InvalidParameter, "must be an int; got 'two'"),
        ("gym:gcd?size=0", InvalidParameter, "`size` of `gcd` must be an int in"),
        ("gym:gcd?seed=none", InvalidParameter, "`seed` of `gcd` must be an int in"),
        ("gym:gcd?size", InvalidInput, "gym:gcd?size=500"),
        ("gym:gcd?size=2&size=3", InvalidParameter, "given twice"),
        ("gym:gcd?min_numbers=5&max_numbers=2", InvalidParameter, "refuses these parameters"),
        ("gym:chain_sum?allow_negation=maybe", InvalidParameter, "must be true or false"),
        ("gym:composite?datasets=[1]", InvalidParameter, "must be left out here"),
    ],
)
def test_a_wrong_specification(store: PromptStore, spec: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        ingest_gym(store, spec)
    assert said in str(caught.value)
    assert len(store.prompts) == 0


@pytest.mark.parametrize(
    ("spec", "parameters"),
    [
        ("gym:chain_sum?allow_negation=true", {"allow_negation": True}),
        ("gym:letter_counting?max_words=20", {"max_words": 20}),
        ("gym:simple_equations?operators=[%22%2B%22]", {"operators": ["+"]}),
        ("gym:binary_matrix?p_zero=0.5", {"p_zero": 0.5}),
    ],
)
def test_values_are_read_as_the_task_declares_them(spec: str, parameters: dict[str, Any]) -> None:
    found = dict(parse_gym(spec)[0].parameters)
    assert {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()} == parameters


def test_without_the_extra(store: PromptStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(MissingExtra, match=r"curri\[gym\]"):
        ingest_gym(store, "gym:gcd")


def test_everything_becomes_json() -> None:
    class Shade(enum.Enum):
        RED = 1

    class Level(enum.IntEnum):
        LOW = 1

    value = {
        "array": np.eye(2),
        np.str_("text"): np.str_("x"),
        (1, 2): {3, 1, 2},
        "number": np.float32(0.5),
        "nan": float("nan"),
        "level": Level.LOW,
        "shade": Shade.RED,
        "day": dt.date(2024, 1, 1),
        "nothing": None,
        "yes": np.bool_(True),
    }
    assert json.loads(canonical_json(json_able(value))) == {
        "array": [[1.0, 0.0], [0.0, 1.0]],
        "text": "x",
        "(1, 2)": [1, 2, 3],
        "number": 0.5,
        "nan": "nan",
        "level": 1,
        "shade": "Shade.RED",
        "day": "2024-01-01",
        "nothing": None,
        "yes": True,
    }
    assert isinstance(json_able(types.SimpleNamespace(a=1)), str)
