from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from curri.errors import InvalidInput, UnknownName
from curri.exchange import ingest_jsonl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curri.exchange import Progress
    from curri.store import PromptStore


def dumped(store: PromptStore) -> list[tuple[Any, ...]]:
    return store.connection.rows("select * from prompts join arms using (arm_id) order by prompt_id")


TEXTS = ["1e5", "true", "2024-01-01", "12:00:00", "007", "a\x00b", "", " 7 ", "null", "0x10", "1_000", "NaN", "😀",
         "é\n", "550e8400-e29b-41d4-a716-446655440000", "-0.0", "x" * 100_000]  # fmt: skip


def test_an_answer_stays_the_text_it_is(
    store: PromptStore, write: Callable[..., Path], answers: Callable[[], list[str | None]]
) -> None:
    ingest_jsonl(store, write(*({"prompt": f"q{i}", "answer": text} for i, text in enumerate(TEXTS))))
    assert answers() == TEXTS
    assert [prompt.answer for prompt in store.texts.fetch(store.pool().ids)] == TEXTS


@pytest.mark.parametrize("text", TEXTS[:6])
def test_so_does_one_that_stands_alone(
    store: PromptStore, write: Callable[..., Path], answers: Callable[[], list[str | None]], text: str
) -> None:
    ingest_jsonl(store, write({"prompt": "q", "answer": text}))
    assert answers() == [text]


SPELLED = [("1e5", "1e5"), ("1.0", "1.0"), ("-0", "-0"), ("true", "true"), ("false", "false"), ("null", None),
           ('["b", 1]', '["b",1]'), ('{"b": 1, "a": "é"}', '{"a":"é","b":1}'), ("1e400", "1e400"),
           ("9" * 5000, "9" * 5000)]  # fmt: skip


def test_an_answer_of_another_type_becomes_text(
    store: PromptStore, write: Callable[..., Path], answers: Callable[[], list[str | None]]
) -> None:
    rows = [f'{{"prompt": "q{i}", "answer": {spelled}}}' for i, (spelled, _) in enumerate(SPELLED)]
    report = ingest_jsonl(store, write(*rows))
    assert (report.added, report.rejected) == (len(SPELLED), 0)
    assert answers() == [text for _, text in SPELLED]


def test_types_are_not_guessed_from_the_rows_before(
    store: PromptStore, write: Callable[..., Path], answers: Callable[[], list[str | None]]
) -> None:
    rows = [{"prompt": f"q{i}", "answer": str(i)} for i in range(2000)]
    ingest_jsonl(store, write(*rows, {"prompt": "last", "answer": "not a number"}))
    assert answers()[-1] == "not a number"


def test_columns_that_are_not_named_become_metadata(store: PromptStore, write: Callable[..., Path]) -> None:
    ingest_jsonl(store, write({"prompt": "q", "level": 3, "tags": ["x"], "note": None}))
    (prompt,) = store.texts.fetch(store.pool().ids)
    assert prompt.metadata == {"level": 3, "tags": ["x"], "note": None}


def test_named_columns(store: PromptStore, write: Callable[..., Path]) -> None:
    path = write({"question": "q", "solution": 4, "source": "gsm", "uid": 17, "part": "test", "prompt": "other"})
    report = ingest_jsonl(
        store,
        path,
        prompt_column="question",
        answer_column="solution",
        arm_column="source",
        id_column="uid",
        split_column="part",
    )
    (row,) = store.connection.rows("select prompt, answer, external_id, split, metadata from prompts")
    assert row == ("q", "4", "17", "test", '{"prompt":"other"}')
    assert (report.arms, report.held_out, len(store.pool())) == ({"gsm": 1}, 1, 0)


def test_one_column_cannot_hold_two_things(store: PromptStore, write: Callable[..., Path]) -> None:
    with pytest.raises(InvalidInput, match='"x" cannot hold both'):
        ingest_jsonl(store, write({"x": "q"}), prompt_column="x", answer_column="x")


def test_rows_without_an_arm_take_the_name_of_the_file(store: PromptStore, write: Callable[..., Path]) -> None:
    path = write({"prompt": "1"}, {"prompt": "2", "arm": None}, {"prompt": "3", "arm": " "}, {"prompt": "4", "arm": 7},
                 name="math.train.jsonl")  # fmt: skip
    assert ingest_jsonl(store, path).arms == {"math.train": 3, "7": 1}
    assert store.pool().arm_names == ("7", "math.train")


def test_chat_messages_are_one_prompt_however_they_are_spelled(store: PromptStore, write: Callable[..., Path]) -> None:
    message = {"role": "user", "content": "1 + 1"}
    parts = {"role": "user", "content": [{"type": "image", "url": "x.png"}, {"type": "text", "text": "é"}]}
    turned = json.dumps([dict(reversed(message.items()))], indent=1).replace("\n", " ")
    path = write(
        {"prompt": [message]}, f'{{"prompt": {turned}}}', {"prompt": [parts]}, {"prompt": json.dumps([message])}
    )
    report = ingest_jsonl(store, path)
    assert (report.added, report.repeated) == (3, 1)
    prompts = store.texts.fetch(store.pool().ids)
    assert [prompt.prompt for prompt in prompts] == [[message], [parts], json.dumps([message])]
    assert (
        store.connection.value("select prompt from prompts where prompt_id = 1")
        == '[{"content":"1 + 1","role":"user"}]'
    )


MALFORMED: list[tuple[Any, str]] = [
    ({"answer": "1"}, 'no column "prompt"'),
    ({"prompt": ""}, '"prompt" is empty'),
    ({"prompt": " \n"}, '"prompt" is empty'),
    ({"prompt": None}, "got null"),
    ({"prompt": 5}, "got 5"),
    ({"prompt": {"role": "user"}}, "got an object"),
    ({"prompt": []}, '"prompt" is empty'),
    ({"prompt": ["hi"]}, 'message 1 is "hi", not an object'),
    ({"prompt": [{"content": "x"}]}, 'message 1 needs a text as "role"'),
    ({"prompt": [{"role": "user", "content": "x"}, {"role": "user"}]}, 'message 2 needs a text or a list as "content"'),
    ({"prompt": [{"role": "user", "content": " "}]}, '"prompt" is empty'),
    ({"prompt": "x", "arm": ["a"]}, '"arm" must be a text or a number; got a list'),
    ({"prompt": "x", "id": {}}, '"id" must be a text or a number; got an object'),
    ('{"prompt": "x", "more": 1e400}', "too large"),
    ('{"prompt": "x", "more": ' + "9" * 5000 + "}", "too large"),
    ("not json", "not JSON"),
]


def test_malformed_rows_are_put_aside_and_the_rest_is_loaded(
    store: PromptStore, write: Callable[..., Path], rejected: Callable[[Path], Any]
) -> None:
    path = write({"prompt": "good", "more": 1}, *(row for row, _ in MALFORMED), {"prompt": "good too"})
    report = ingest_jsonl(store, path)
    assert (report.rows, report.added, report.rejected) == (len(MALFORMED) + 2, 2, len(MALFORMED))
    for number, ((row, reason), refused) in enumerate(zip(MALFORMED, rejected(path), strict=True), start=2):
        assert refused["line"] == number
        assert reason in refused["reason"]
        assert refused["raw"].startswith((row if isinstance(row, str) else json.dumps(row))[:300])
    assert [line for line, _ in report.rejected_examples] == [2, 3, 4, 5, 6]


def test_doing_it_twice_changes_nothing(store: PromptStore, write: Callable[..., Path]) -> None:
    path = write({"prompt": "1"}, {"prompt": "2", "arm": "x"}, {"prompt": "1"}, "bad", {"prompt": "2", "arm": "y"})
    first = ingest_jsonl(store, path)
    state, refused = dumped(store), path.with_name(path.name + ".rejected.jsonl").read_bytes()
    second = ingest_jsonl(store, path)
    assert dumped(store) == state
    assert path.with_name(path.name + ".rejected.jsonl").read_bytes() == refused
    assert (first.added, first.present, first.repeated, first.rejected) == (2, 0, 2, 1)
    assert (second.added, second.present, second.repeated, second.rejected) == (0, 2, 2, 1)
    assert first.other_arm == second.other_arm == 1


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_the_size_of_a_chunk_does_not_matter(store: PromptStore, write: Callable[..., Path], chunk: int) -> None:
    rows: list[Any] = [{"prompt": str(i % 5), "arm": "ab"[i % 2]} for i in range(12)]
    report = ingest_jsonl(store, write(*rows[:6], "bad", *rows[6:]), chunk=chunk)
    assert (report.rows, report.added, report.repeated, report.other_arm, report.rejected) == (13, 5, 7, 5, 1)
    assert [row[5] for row in dumped(store)] == [str(i) for i in range(5)]


def test_the_first_arm_stays_and_examples_are_given(store: PromptStore, write: Callable[..., Path]) -> None:
    ingest_jsonl(store, write(*({"prompt": str(i), "arm": "first"} for i in range(9))))
    report = ingest_jsonl(store, write(*({"prompt": str(i), "arm": "second"} for i in range(9))))
    assert (report.other_arm, len(report.other_arm_examples)) == (9, 5)
    example = report.other_arm_examples[1]
    assert (example.line, example.prompt_id, example.arm, example.stays) == (2, 2, "second", "first")
    assert store.pool().arm_of(store.pool().rows([1])).tolist() == ["first"]


def test_the_same_text_with_another_answer_is_another_prompt(store: PromptStore, write: Callable[..., Path]) -> None:
    report = ingest_jsonl(store, write({"prompt": "q", "answer": "1"}, {"prompt": "q", "answer": 1}, {"prompt": "q"}))
    assert (report.added, report.repeated) == (2, 1)


def test_a_missing_prompt_column_is_refused_with_the_likely_one(store: PromptStore, write: Callable[..., Path]) -> None:
    with pytest.raises(UnknownName, match="--prompt-column question") as caught:
        ingest_jsonl(store, write({"question": "q", "answer": "1"}))
    assert 'its columns: "question", "answer"' in caught.value.message
    assert len(store.prompts) == 0


def test_a_typing_error_in_a_column_name_is_refused(store: PromptStore, write: Callable[..., Path]) -> None:
    with pytest.raises(UnknownName, match="--answer-column solution"):
        ingest_jsonl(store, write({"prompt": "q", "solution": "1"}), answer_column="soluton")


def test_answers_that_stand_elsewhere_are_pointed_out(store: PromptStore, write: Callable[..., Path]) -> None:
    (note,) = ingest_jsonl(store, write({"prompt": "q", "ground_truth": "1"})).notes
    assert "--answer-column ground_truth" in note


def test_an_empty_file(store: PromptStore, write: Callable[..., Path]) -> None:
    report = ingest_jsonl(store, write())
    assert (report.rows, report.added, report.notes) == (0, 0, ())


def test_progress_goes_up_to_the_whole_file(store: PromptStore, write: Callable[..., Path]) -> None:
    path = write(*({"prompt": str(i)} for i in range(10)))
    seen: list[Progress] = []
    ingest_jsonl(store, path, chunk=4, progress=seen.append)
    assert [at.rows for at in seen] == [4, 8, 10]
    assert seen[-1].done == seen[-1].total == path.stat().st_size


def test_after_an_interruption_the_same_call_finishes_the_rest(store: PromptStore, write: Callable[..., Path]) -> None:
    path = write(*({"prompt": str(i)} for i in range(10)), "bad")

    def stop(at: Progress) -> None:
        if at.rows >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest_jsonl(store, path, chunk=4, progress=stop)
    assert len(store.prompts) == 8
    assert not path.with_name(path.name + ".rejected.jsonl").exists()
    report = ingest_jsonl(store, path, chunk=4)
    assert (report.added, report.present, report.rejected) == (2, 8, 1)
