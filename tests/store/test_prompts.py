"""Prompts: identity, arms, odd texts, the memory-mapped copy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curri.errors import InvalidData, UnknownPrompt
from curri.store import NewPrompt, open_store
from curri.store.texts import PromptTexts

if TYPE_CHECKING:
    from pathlib import Path

    from curri.store import PromptStore

ODD_ANSWERS = [
    "1e5",
    "true",
    "2024-01-01",
    "007",
    "12:00:00",
    "null",
    "",
    " ",
    "a\x00b",
    "\x00",
    "é\u2028",
    "-0",
    "NaN",
]


def test_ids_are_dense_from_one_and_never_zero(store: PromptStore) -> None:
    assert store.pool().ids.tolist() == list(range(1, 31))
    assert not store.prompts.known(np.array([0])).any()


@pytest.mark.parametrize("answer", ODD_ANSWERS)
def test_an_answer_stays_the_text_it_was(store: PromptStore, answer: str) -> None:
    added = store.prompts.add([NewPrompt("odd?", False, answer, "odd")])
    assert store.texts.fetch(added.prompt_ids)[0].answer == answer
    assert store.connection.value("select answer from prompts where prompt = 'odd?'") == answer


def test_no_answer_is_not_an_empty_answer(store: PromptStore) -> None:
    added = store.prompts.add([NewPrompt("q", False, None, "odd"), NewPrompt("q", False, "", "odd")])
    assert added.is_new.all()
    assert [prompt.answer for prompt in store.texts.fetch(added.prompt_ids)] == [None, ""]


def test_the_same_again_changes_nothing(store: PromptStore) -> None:
    again = store.prompts.add([NewPrompt("4 + 4 = ?", False, "8", "arm1"), NewPrompt("4 + 4 = ?", False, "9", "arm1")])
    assert again.is_new.tolist() == [False, True]
    assert again.prompt_ids.tolist() == [5, 31]


def test_the_first_arm_stays_and_the_other_is_reported(store: PromptStore) -> None:
    again = store.prompts.add([NewPrompt("4 + 4 = ?", False, "8", "elsewhere")])
    assert again.other_arm.tolist() == [0]
    assert store.texts.fetch(again.prompt_ids)[0].arm == "arm1"


def test_repeats_inside_one_call_count_once(store: PromptStore) -> None:
    added = store.prompts.add([NewPrompt("new", False, "1", "x")] * 3)
    assert added.is_new.tolist() == [True, False, False]
    assert len(set(added.prompt_ids.tolist())) == 1


def test_chat_and_text_with_the_same_letters_differ(store: PromptStore) -> None:
    chat = json.dumps([{"role": "user", "content": "hi"}])
    added = store.prompts.add([NewPrompt(chat, True, None, "x"), NewPrompt(chat, False, None, "x")])
    first, second = store.texts.fetch(added.prompt_ids)
    assert first.prompt == [{"role": "user", "content": "hi"}]
    assert second.prompt == chat


def test_evaluation_prompts_are_not_in_the_pool(store: PromptStore) -> None:
    added = store.prompts.add([NewPrompt("eval", False, "1", "x", split="test")])
    assert added.prompt_ids[0] not in store.pool().ids
    assert store.texts.fetch(added.prompt_ids)[0].prompt == "eval"


def test_unknown_ids_are_named(store: PromptStore) -> None:
    with pytest.raises(UnknownPrompt, match="2 prompt ids are not in the store of 30 prompts: 0, 99"):
        store.prompts.refuse_unknown(np.array([0, 5, 99]))


def test_priors_and_lengths_reach_the_pool(store: PromptStore) -> None:
    store.prompts.add([NewPrompt("hard", False, "1", "x", prior_rate=0.25, expected_tokens=900.0)])
    pool = store.pool()
    assert pool.prior_rate is not None
    assert pool.expected_tokens is not None
    assert (pool.prior_rate[-1], pool.expected_tokens[-1]) == (0.25, 900.0)
    assert np.isnan(pool.prior_rate[:-1]).all()


def test_lookups_leave_out_what_is_ambiguous(store: PromptStore) -> None:
    store.prompts.add(
        [NewPrompt("a", False, "1", "x", external_id="e"), NewPrompt("b", False, "1", "x", external_id="e")]
    )
    store.prompts.add([NewPrompt("c", False, "1", "x", external_id="f"), NewPrompt("c", False, "2", "x")])
    assert store.prompts.ids_by_external_id(["e", "f", "g"]) == {"f": 33}
    assert store.prompts.ids_by_text(["a", "c", "zzz"]) == {"a": 31}


@settings(max_examples=25)
@given(texts=st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=8))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("texts")
    with open_store(folder / "p.duckdb", create=True) as store:
        added = store.prompts.add([NewPrompt(text, False, text[::-1], "x") for text in texts])
        fetched = store.texts.fetch(added.prompt_ids)
    assert [(prompt.prompt, prompt.answer) for prompt in fetched] == [(text, text[::-1]) for text in texts]


def test_texts_come_in_the_order_asked(store: PromptStore) -> None:
    assert [p.prompt_id for p in store.texts.fetch(np.array([7, 3, 30, 3]))] == [7, 3, 30, 3]


def test_texts_of_another_store_are_not_believed(store: PromptStore, tmp_path: Path) -> None:
    with open_store(tmp_path / "other.duckdb", create=True) as other:
        other.prompts.add([NewPrompt("other", False, "0", "x")])
        other.texts.fetch(np.array([1]))
        segment = next(other.texts.folder.iterdir())
        store.texts.folder.mkdir()
        (store.texts.folder / segment.name).write_bytes(segment.read_bytes())
    assert store.texts.fetch(np.array([1]))[0].prompt == "0 + 0 = ?"


@pytest.mark.parametrize("damage", [b"", b"torn", b"ARROW1\x00\x00" + b"\x00" * 100])
def test_a_damaged_copy_is_written_again(store: PromptStore, damage: bytes) -> None:
    store.texts.fetch(np.array([1]))
    segment = next(store.texts.folder.iterdir())
    segment.unlink()
    segment.write_bytes(damage)
    fresh = PromptTexts(store.texts.folder, store.store_id, store.connection)
    assert fresh.fetch(np.array([30]))[0].answer == "58"


def test_texts_grow_with_the_store(store: PromptStore) -> None:
    store.texts.fetch(np.array([30]))
    store.prompts.add([NewPrompt("late", False, "1", "x")])
    assert store.texts.fetch(np.array([31]))[0].prompt == "late"


def test_a_restored_store_is_not_answered_with_texts_of_another_time(tmp_path: Path) -> None:
    path = tmp_path / "p.duckdb"
    with open_store(path, create=True) as store:
        store.prompts.add([NewPrompt(f"kept {i}", is_chat=False, answer=None, arm="x") for i in range(3)])
    backup = path.read_bytes()
    with open_store(path) as store:
        store.prompts.add([NewPrompt("old", is_chat=False, answer="old", arm="x")])
        assert store.texts.fetch(np.array([4]))[0].prompt == "old"
    path.write_bytes(backup)
    with open_store(path) as store:
        store.prompts.add([NewPrompt("new", is_chat=False, answer="new", arm="x")])
        assert store.texts.fetch(np.array([4, 1]))[0].answer == "new"


def test_texts_that_were_rolled_back_are_not_kept(store: PromptStore) -> None:
    def undone() -> None:
        with store.transaction():
            added = store.prompts.add([NewPrompt("undone", is_chat=False, answer=None, arm="x")])
            assert store.texts.fetch(added.prompt_ids)[0].prompt == "undone"
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        undone()
    added = store.prompts.add([NewPrompt("done", is_chat=False, answer=None, arm="x")])
    assert store.texts.fetch(added.prompt_ids)[0].prompt == "done"


@settings(max_examples=40)
@given(place=st.integers(0, 10**6), value=st.integers(1, 255))
def test_any_damaged_byte_of_the_copy_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    with open_store(folder / "p.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"prompt {i}", is_chat=False, answer=str(i), arm="x") for i in range(20)])
        store.texts.fetch(np.array([1]))
        segment = next(store.texts.folder.iterdir())
        data = bytearray(segment.read_bytes())
        data[place % len(data)] ^= value
        segment.unlink()
        segment.write_bytes(data)
        fresh = PromptTexts(store.texts.folder, store.store_id, store.connection)
        assert [prompt.answer for prompt in fresh.fetch(np.arange(1, 21))] == [str(i) for i in range(20)]


def test_another_split_is_reported_and_the_first_stays(store: PromptStore) -> None:
    again = store.prompts.add([NewPrompt("4 + 4 = ?", is_chat=False, answer="8", arm="arm1", split="eval")])
    assert (again.other_split.tolist(), again.other_arm.tolist()) == ([0], [])
    assert 5 in store.pool().ids
    same = store.prompts.add([NewPrompt("4 + 4 = ?", is_chat=False, answer="8", arm="arm1", split="train")])
    assert same.other_split.size == 0


@pytest.mark.parametrize("name", ["", "a\0", "\0"])
def test_arms_need_a_name(store: PromptStore, name: str) -> None:
    with pytest.raises(InvalidData, match="an arm needs a name"):
        store.prompts.add([NewPrompt("x", is_chat=False, answer=None, arm=name)])
    assert len(store.prompts) == 30
