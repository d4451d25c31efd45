from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from curri.errors import InvalidData, InvalidInput
from curri.exchange import import_rollouts_jsonl
from curri.store import NewPrompt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curri.exchange import Progress
    from curri.store import PromptStore

MODEL = {"model": "m"}


def stored(store: PromptStore) -> list[tuple[Any, ...]]:
    return store.connection.rows(
        """select prompt_id, model, weight_version, sample, reward, solved from rollouts join sources using (source_id)
           order by prompt_id, model, weight_version, sample"""
    )


def test_prompts_are_named_by_store_id_own_id_or_text(sums: PromptStore, write: Callable[..., Path]) -> None:
    path = write({"prompt_id": 1, "reward": 1, **MODEL}, {"id": "q1", "reward": 0, **MODEL},
                 {"prompt": "2 + 2", "reward": 0.5, **MODEL})  # fmt: skip
    report = import_rollouts_jsonl(sums, path)
    assert (report.rows, report.added, report.repeated, report.rejected) == (3, 3, 0, 0)
    assert [(row[0], row[4], row[5]) for row in stored(sums)] == [(1, 1.0, 1.0), (2, 0.0, 0.0), (3, 0.5, 0.5)]


def test_chat_prompts_and_prompts_that_differ_in_their_answer(
    store: PromptStore, write: Callable[..., Path], rejected: Callable[[Path], Any]
) -> None:
    chat = [{"role": "user", "content": "hi"}]
    store.prompts.add([
        NewPrompt('[{"content":"hi","role":"user"}]', True, None, "a"),
        NewPrompt("q", False, "1", "a"),
        NewPrompt("q", False, "2", "a"),
        NewPrompt("q", False, None, "a", "q-none"),
    ])  # fmt: skip
    path = write(
        {"prompt": chat, "reward": 1},
        {"prompt": "q", "answer": 2, "reward": 1},
        {"prompt": "q", "reward": 1},
        {"prompt": "q", "answer": "3", "reward": 1},
    )
    report = import_rollouts_jsonl(store, path, model="m")
    assert [row[0] for row in stored(store)] == [1, 3]
    assert report.rejected == 2
    assert all(
        "stands for 3 prompts of the store; say prompt_id, id or the answer" in r["reason"] for r in rejected(path)
    )


def test_importing_twice_changes_nothing(sums: PromptStore, write: Callable[..., Path]) -> None:
    path = write(*({"prompt_id": 1 + i % 3, "reward": i, "model": "mn"[i % 2]} for i in range(20)))
    first = import_rollouts_jsonl(sums, path)
    state = stored(sums)
    again = import_rollouts_jsonl(sums, path)
    assert (first.added, again.added, again.repeated) == (20, 0, 20)
    assert stored(sums) == state
    assert first.models == again.models == {"m": 10, "n": 10}


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_samples_are_numbered_by_prompt_and_source_within_the_file(
    sums: PromptStore, write: Callable[..., Path], chunk: int
) -> None:
    path = write(
        {"prompt_id": 1, "reward": 0, **MODEL},
        {"prompt_id": 2, "rewards": [1, 2], **MODEL},
        {"id": "q0", "reward": 3, **MODEL},
        {"prompt_id": 1, "rewards": [4, 5], **MODEL},
        {"prompt_id": 1, "reward": 6, **MODEL, "weight_version": 2},
    )
    import_rollouts_jsonl(sums, path, chunk=chunk)
    assert [row[:5] for row in stored(sums)] == [
        (1, "m", "", 0, 0.0), (1, "m", "", 1, 3.0), (1, "m", "", 2, 4.0), (1, "m", "", 3, 5.0), (1, "m", "2", 0, 6.0),
        (2, "m", "", 0, 1.0), (2, "m", "", 1, 2.0),
    ]  # fmt: skip


def test_given_sample_numbers_are_kept_and_repeats_in_the_file_counted_once(
    sums: PromptStore, write: Callable[..., Path]
) -> None:
    path = write({"prompt_id": 1, "reward": 0, "sample": 7}, {"prompt_id": 1, "reward": 1, "sample": 7},
                 {"prompt_id": 1, "rewards": [2, 3], "sample": 8})  # fmt: skip
    report = import_rollouts_jsonl(sums, path, model="m")
    assert (report.added, report.repeated) == (3, 1)
    assert [(row[3], row[4]) for row in stored(sums)] == [(7, 0.0), (8, 2.0), (9, 3.0)]


def test_numbers_for_some_rows_only_are_refused(
    sums: PromptStore, write: Callable[..., Path], rejected: Callable[[Path], Any]
) -> None:
    path = write({"prompt_id": 1, "reward": 0}, {"prompt_id": 1, "reward": 1, "sample": 0})
    assert import_rollouts_jsonl(sums, path, model="m").rejected == 1
    assert "in all rows of a model or in none" in rejected(path)[0]["reason"]


def test_append_numbers_after_what_is_there(sums: PromptStore, write: Callable[..., Path]) -> None:
    path = write({"prompt_id": 1, "rewards": [0, 1]}, {"prompt_id": 2, "reward": 1})
    import_rollouts_jsonl(sums, path, model="m")
    report = import_rollouts_jsonl(sums, path, model="m", append=True)
    assert (report.added, report.repeated) == (3, 0)
    assert [(row[0], row[3]) for row in stored(sums)] == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1)]


def test_an_interrupted_append_leaves_nothing(sums: PromptStore, write: Callable[..., Path]) -> None:
    path = write(*({"prompt_id": 1, "reward": i} for i in range(10)))

    def stop(at: Progress) -> None:
        if at.rows > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_rollouts_jsonl(sums, path, model="m", append=True, progress=stop, chunk=2)
    assert stored(sums) == []
    assert import_rollouts_jsonl(sums, path, model="m", append=True, chunk=2).added == 10
    assert [(row[1], row[3]) for row in stored(sums)] == [("m", sample) for sample in range(10)]


def test_after_an_interruption_the_same_call_finishes_the_rest(sums: PromptStore, write: Callable[..., Path]) -> None:
    path = write(*({"prompt_id": 1 + i % 2, "reward": i / 10} for i in range(10)))

    def stop(at: Progress) -> None:
        if at.rows >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_rollouts_jsonl(sums, path, model="m", progress=stop, chunk=4)
    report = import_rollouts_jsonl(sums, path, model="m", chunk=4)
    assert (report.added, report.repeated) == (6, 4)
    assert [row[4] for row in stored(sums)] == [0.0, 0.2, 0.4, 0.6, 0.8, 0.1, 0.3, 0.5, 0.7, 0.9]


def test_every_column_finds_its_place(sums: PromptStore, write: Callable[..., Path]) -> None:
    row = {
        "prompt_id": 1, "reward": -0.5, "solved": True, "model": "m", "weight_version": "v1",
        "settings": {"temperature": 1.0, "n": 2}, "verifier": "exact 1", "sample": 3, "tokens": 17, "truncated": False,
        "policy_version": 4, "advantage": -1.5, "response": "é\x00", "rollout_id": "r-1", "kind": "probe", "cost": 0.25,
    }  # fmt: skip
    import_rollouts_jsonl(sums, write(row))
    (found,) = sums.connection.rows(
        """select model, weight_version, settings, verifier, sample, reward, solved, advantage, tokens, truncated,
           policy_version, probe, rollout_id, response, extras from rollouts join sources using (source_id)"""
    )
    assert found == ("m", "v1", '{"n":2,"temperature":1.0}', "exact 1", 3, -0.5, 1.0, -1.5, 17, False, 4, True, "r-1",
                     "é\x00", '{"cost":0.25}')  # fmt: skip


def test_a_group_in_one_row(sums: PromptStore, write: Callable[..., Path]) -> None:
    row = {"prompt_id": 1, "rewards": [1, 0.5], "solved": [1, None], "tokens": [5, 6], "responses": ["a", None],
           "truncated": True, "policy_version": 3, "advantages": [0.1, -0.1], "rollout_ids": [1, "x"]}  # fmt: skip
    import_rollouts_jsonl(sums, write(row), model="m")
    assert sums.connection.rows(
        """select sample, reward, solved, tokens, response, truncated, policy_version, advantage, rollout_id
           from rollouts order by sample"""
    ) == [(0, 1.0, 1.0, 5, "a", True, 3, 0.1, "1"), (1, 0.5, None, 6, None, True, 3, -0.1, "x")]


MALFORMED: list[tuple[Any, str]] = [
    ({"prompt_id": 99, "reward": 1}, "prompt_id 99 is not in the store, which has 6 prompts"),
    ({"prompt_id": 0, "reward": 1}, "prompt_id 0 is not in the store"),
    ({"prompt_id": 1.5, "reward": 1}, '"prompt_id" must be an integer'),
    ({"id": "nobody", "reward": 1}, 'id "nobody" is not in the store'),
    ({"prompt": "9 + 9", "reward": 1}, 'prompt "9 + 9" is not in the store'),
    ({"prompt": "", "reward": 1}, '"prompt" is empty'),
    ({"reward": 1}, "no column names the prompt"),
    ({"prompt_id": 1}, 'no column "reward"'),
    ({"prompt_id": 1, "reward": "1"}, '"reward" must be a finite number; got "1"'),
    ({"prompt_id": 1, "reward": None}, '"reward" must be a finite number; got null'),
    ('{"prompt_id": 1, "reward": NaN}', "NaN is not a JSON number"),
    ('{"prompt_id": 1, "reward": 1e999}', '"reward" must be a finite number'),
    ({"prompt_id": 1, "reward": 1, "rewards": [1]}, "cannot both be given"),
    ({"prompt_id": 1, "rewards": []}, "at least one"),
    ({"prompt_id": 1, "rewards": [1, "x"]}, '"rewards" must be a finite number; got "x"'),
    ({"prompt_id": 1, "rewards": [1, 2], "tokens": [1]}, '"tokens" must be as long as "rewards", 2; got 1'),
    ({"prompt_id": 1, "rewards": [1, 2], "tokens": 5}, '"tokens" must be a list like "rewards"'),
    ({"prompt_id": 1, "reward": 1, "advantage": 1, "advantages": 1}, "cannot both be given"),
    ({"prompt_id": 1, "reward": 1, "solved": 2}, '"solved" must be a number in [0, 1]; got 2'),
    ({"prompt_id": 1, "reward": 1, "tokens": -1}, '"tokens" must be an integer in [0, 2147483647]'),
    ({"prompt_id": 1, "reward": 1, "tokens": 2**31}, '"tokens" must be an integer'),
    ({"prompt_id": 1, "reward": 1, "truncated": "no"}, '"truncated" must be true or false'),
    ({"prompt_id": 1, "reward": 1, "policy_version": 1.5}, '"policy_version" must be an integer'),
    ({"prompt_id": 1, "reward": 1, "rollout_id": []}, '"rollout_id" must be a text or an integer'),
    ({"prompt_id": 1, "reward": 1, "kind": "eval"}, '"kind" must be "train" or "probe"'),
    ({"prompt_id": 1, "reward": 1, "model": 3}, '"model" must be a text; got 3'),
    ({"prompt_id": 1, "reward": 1, "model": "run:r1"}, "rollouts of runs"),
    ({"prompt_id": 1, "reward": 1, "sample": -1}, '"sample" must be an integer'),
    ('{"prompt_id": 1, "reward": 1, "more": 1e999}', "too large"),
    ("nonsense", "not JSON"),
]


def test_rows_that_cannot_be_used_are_put_aside_and_the_rest_is_loaded(
    sums: PromptStore, write: Callable[..., Path], rejected: Callable[[Path], Any]
) -> None:
    good = {"prompt_id": 2, "reward": 1}
    path = write({**good, **MODEL}, *(row for row, _ in MALFORMED), good)
    report = import_rollouts_jsonl(sums, path, model="m")
    assert (report.rows, report.added, report.rejected) == (len(MALFORMED) + 2, 2, len(MALFORMED))
    for number, ((_, reason), refused) in enumerate(zip(MALFORMED, rejected(path), strict=True), start=2):
        assert refused["line"] == number
        assert reason in refused["reason"]


def test_solved_defaults_to_the_reward_only_where_all_rewards_of_the_source_allow_it(
    sums: PromptStore, write: Callable[..., Path]
) -> None:
    path = write(
        {"prompt_id": 1, "reward": 0.5, "model": "unit"},
        {"prompt_id": 1, "reward": 1, "model": "shaped"},
        {"prompt_id": 1, "reward": 1, "model": "judged"},
        {"prompt_id": 2, "reward": 1, "model": "judged", "solved": 0},
        {"prompt_id": 2, "reward": -1, "model": "shaped"},
    )
    report = import_rollouts_jsonl(sums, path, chunk=1)
    solved = {(row[1], row[0]): row[5] for row in stored(sums)}
    assert solved == {
        ("unit", 1): 0.5,
        ("shaped", 1): None,
        ("shaped", 2): None,
        ("judged", 1): None,
        ("judged", 2): 0.0,
    }
    assert report.solved_unknown == ("shaped",)


@pytest.mark.parametrize(
    ("row", "error", "said"),
    [
        ({"prompt_id": 1, "reward": 1}, InvalidInput, "--model NAME"),
        ({"prompt_id": 1, "score": 1, "model": "m"}, InvalidData, "rename one of them to reward or rewards"),
        ({"uid": 1, "reward": 1, "model": "m"}, InvalidData, "rename one of them to prompt_id or id or prompt"),
    ],
)
def test_a_file_that_lacks_a_column_altogether_is_refused(
    sums: PromptStore, write: Callable[..., Path], row: Any, error: type[Exception], said: str
) -> None:
    path = write(row, row)
    with pytest.raises(error, match=said):
        import_rollouts_jsonl(sums, path)
    assert not path.with_name(path.name + ".rejected.jsonl").exists()


def test_what_cannot_be_read_twice_is_copied_first(sums: PromptStore, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    lines = b"".join(json.dumps({"prompt_id": 1, "reward": i}).encode() + b"\n" for i in range(5))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Pipe(lines)))
    assert import_rollouts_jsonl(sums, "-", model="m").added == 5


def test_progress_counts_both_readings(sums: PromptStore, write: Callable[..., Path]) -> None:
    seen: list[Progress] = []
    path = write(*({"prompt_id": 1, "reward": i} for i in range(10)))
    import_rollouts_jsonl(sums, path, model="m", progress=seen.append, chunk=4)
    assert [at.rows for at in seen] == [4, 8, 10]
    assert seen[-1].done == seen[-1].total == 2 * path.stat().st_size


def test_imported_rollouts_are_evidence(sums: PromptStore, write: Callable[..., Path]) -> None:
    import_rollouts_jsonl(sums, write({"prompt_id": 1, "rewards": [1, 0, 1]}), model="m")
    rollouts = sums.rollouts.read("m", last_id=6)
    np.testing.assert_array_equal(rollouts.rewards, [1, 0, 1])
    np.testing.assert_array_equal(rollouts.solved, [1, 0, 1])
