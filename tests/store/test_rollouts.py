"""Rollouts: keys, sources, models, what a strategy reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from curri.errors import InvalidInput, UnknownName
from curri.store import Source

if TYPE_CHECKING:
    from curri.store import PromptStore


def responses(prompt_ids: list[int], samples: list[int], rewards: list[float]) -> pa.Table:
    return pa.table(
        {"prompt_id": pa.array(prompt_ids, pa.int64()), "sample": pa.array(samples, pa.int32()), "reward": rewards}
    )


def test_a_key_counts_once(store: PromptStore) -> None:
    source = Source("m")
    assert store.rollouts.add(source, responses([1, 1, 2], [0, 1, 0], [1.0, 0.0, 1.0])) == 3
    assert store.rollouts.add(source, responses([1, 2, 2], [1, 0, 1], [9.0, 9.0, 0.5])) == 1
    assert sorted(store.connection.rows("select prompt_id, sample, reward from rollouts")) == [
        (1, 0, 1.0),
        (1, 1, 0.0),
        (2, 0, 1.0),
        (2, 1, 0.5),
    ]


@pytest.mark.parametrize(
    "other", [Source("n"), Source("m", weight_version="2"), Source("m", settings="{}"), Source("m", verifier="v")]
)
def test_another_source_is_another_key(store: PromptStore, other: Source) -> None:
    store.rollouts.add(Source("m"), responses([1], [0], [1.0]))
    assert store.rollouts.add(other, responses([1], [0], [0.0])) == 1


def test_sources_keep_their_number(store: PromptStore) -> None:
    numbers = [store.rollouts.source_id(Source(name)) for name in ("a", "b", "a")]
    assert numbers == [0, 1, 0]
    assert store.rollouts.source_id(Source("b")) == 1


def test_next_samples(store: PromptStore) -> None:
    store.rollouts.add(Source("m"), responses([1, 1, 2], [0, 4, 0], [1.0, 0.0, 1.0]))
    assert store.rollouts.next_samples(Source("m")) == {1: 5, 2: 1}


def test_the_only_model_is_the_evidence(store: PromptStore) -> None:
    assert store.rollouts.evidence_model(None) is None
    store.rollouts.add(Source("m"), responses([1], [0], [1.0]))
    store.rollouts.add(Source("run:r", run_id=0), responses([1], [0], [1.0]))
    assert store.rollouts.evidence_model(None) == "m"
    assert store.rollouts.evidence_model("run:r") == "run:r"


def test_several_models_must_be_told_apart(store: PromptStore) -> None:
    store.rollouts.add(Source("small"), responses([1], [0], [1.0]))
    store.rollouts.add(Source("large"), responses([1, 2], [0, 0], [1.0, 1.0]))
    with pytest.raises(InvalidInput, match=r'"large" \(2 responses\), "small" \(1 responses\)'):
        store.rollouts.evidence_model(None)
    with pytest.raises(UnknownName, match='did you mean "small"'):
        store.rollouts.evidence_model("smal")


def test_reading_fills_in_what_is_missing(store: PromptStore) -> None:
    store.rollouts.add(Source("m"), responses([2, 1], [0, 0], [0.5, 1.0]))
    read = store.rollouts.read("m", last_id=30)
    assert read.prompt_ids.tolist() == [1, 2]
    assert read.rewards.tolist() == [1.0, 0.5]
    assert np.isnan(read.solved).all()
    assert read.tokens is None
    assert read.truncated is not None
    assert not read.truncated.any()
    assert len(store.rollouts.read("m", last_id=1)) == 1


def test_counts_and_names(store: PromptStore) -> None:
    table = responses([1, 1, 2], [0, 1, 0], [1.0, 1.0, 1.0]).append_column("round", pa.array([0, 0, 0], pa.int32()))
    store.rollouts.add(Source("m"), table.append_column("rollout_id", pa.array(["a", "b", "a"])))
    assert store.rollouts.counts(0, 0, np.array([1, 2, 3])) == {1: 2, 2: 1}
    known = store.rollouts.known_names(0, np.array([1, 2, 2]), np.array(["a", "b", "a"]))
    assert known.tolist() == [True, False, True]
