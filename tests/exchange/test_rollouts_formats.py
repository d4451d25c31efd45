from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidData, InvalidInput
from curri.exchange import import_rollouts
from curri.exchange.jsonl import Row
from curri.exchange.layouts import Translation
from curri.store import NewPrompt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curri.store import PromptStore

NAN = float("nan")


def stored(store: PromptStore, columns: str = "prompt_id, sample, reward, solved") -> list[tuple[Any, ...]]:
    return store.connection.rows(
        f"select {columns} from rollouts join sources using (source_id) order by source_id, prompt_id, sample"
    )


def write_csv(path: Path, *rows: list[Any]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return path


def write_parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def completions(tmp_path: Path) -> Callable[..., Path]:
    """A file as TRL's `log_completions` writes it: 2 responses to the first prompt, 1 to the second."""

    def write(step: Any = 5, **rewards: Any) -> Path:
        columns = {"step": [step] * 3, "prompt": ["0 + 0", "0 + 0", "1 + 1"], "completion": ["a", "b", "c"]}
        return write_parquet(tmp_path / f"completions_{int(step):05d}.parquet", **columns,
                             **(rewards or {"accuracy": [1.0, 0.0, 1.0]}), advantage=[0.7, -0.7, 0.0])  # fmt: skip

    return write


# --- our own columns --------------------------------------------------------------------------------------------------


def test_a_csv_file_in_long_format(sums: PromptStore, tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "r.csv",
        ["id", "reward", "solved", "truncated", "tokens", "advantage", "response", "policy_version", "seed"],
        ["q0", "0.50", "", "True", "12", "-1e-1", "007", "3", "007"],
        ["q0", ".5", "1", "false", "", "", "[1]", "", ""],
        ["q1", "1", "0", "0", "7", "+2", "", "-1", "x"],
    )
    assert import_rollouts(sums, path, model="m").added == 3
    found = stored(sums, "prompt_id, reward, solved, truncated, tokens, advantage, response, policy_version, extras")
    assert found == [
        (1, 0.5, None, True, 12, -0.1, "007", 3, '{"seed":"007"}'),
        (1, 0.5, 1.0, False, None, None, "[1]", None, '{"seed":null}'),
        (2, 1.0, 0.0, False, 7, 2.0, None, -1, '{"seed":"x"}'),
    ]


def test_a_csv_file_with_groups(sums: PromptStore, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", ["prompt_id", "rewards", "responses"], ["1", "[1, 0]", '["a", "b"]'],
                     ["2", "[0.5]", '["c"]'])  # fmt: skip
    assert import_rollouts(sums, path, model="m").added == 3
    assert stored(sums, "prompt_id, reward, response") == [(1, 1.0, "a"), (1, 0.0, "b"), (2, 0.5, "c")]


def test_cells_that_are_no_numbers_are_refused_by_their_line(sums: PromptStore, tmp_path: Path) -> None:
    rows = [["1", "good"], ["1", ""], ["1", "nan"], ["1", "inf"], ["one", "1"], ["", "1"], ["99", "1"], ["1", "0x1"]]
    report = import_rollouts(sums, write_csv(tmp_path / "r.csv", ["prompt_id", "reward"], *rows, ["1", "1"]), model="m")
    assert (report.added, report.rejected) == (1, 8)
    assert report.rejected_examples[0] == (2, '"reward" must be a finite number; got "good"')
    assert report.rejected_examples[4] == (6, '"prompt_id" must be an integer in [0, 9223372036854775807]; got "one"')


def test_unknown_prompts_are_refused_by_name(
    sums: PromptStore, tmp_path: Path, rejected: Callable[[Path], list[dict[str, Any]]]
) -> None:
    path = write_parquet(tmp_path / "r.parquet", id=["q0", "who", "q1"], reward=[1, 1, 0])
    assert import_rollouts(sums, path, model="m").added == 2
    assert rejected(path) == [{"row": 2, "reason": 'id "who" is not in the store', "raw": '{"id":"who","reward":1}'}]


def test_a_parquet_file_with_groups_and_decimals(sums: PromptStore, tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "r.parquet", prompt_id=[1, 2], rewards=[[1.0, 0.0], [1.0]], policy_version=[3, None]
    )
    assert import_rollouts(sums, path, model="m").added == 3
    assert stored(sums) == [(1, 0, 1.0, 1.0), (1, 1, 0.0, 0.0), (2, 0, 1.0, 1.0)]


def test_a_json_array(sums: PromptStore, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps([{"prompt": "1 + 1", "reward": 1}, {"prompt": "5 + 5", "reward": 0}]))
    assert import_rollouts(sums, tmp_path / "r.json", model="m").added == 2
    assert [row[0] for row in stored(sums)] == [2, 6]


def test_every_format_gives_the_same_rollouts(sums: PromptStore, tmp_path: Path, write: Callable[..., Path]) -> None:
    rows = [{"id": f"q{i % 6}", "reward": i / 8, "response": f"r{i}"} for i in range(9)]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    paths = [
        write(*rows),
        tmp_path / "r.json",
        write_csv(tmp_path / "r.csv", list(rows[0]), *(list(row.values()) for row in rows)),
        write_parquet(tmp_path / "r.parquet", **{name: [row[name] for row in rows] for name in rows[0]}),
    ]
    counts = [(report.added, report.repeated) for report in (import_rollouts(sums, p, model="m") for p in paths)]
    assert counts == [(9, 0), (0, 9), (0, 9), (0, 9)]


# --- columns that are named otherwise ---------------------------------------------------------------------------------


def test_columns_can_be_named(sums: PromptStore, write: Callable[..., Path]) -> None:
    sums.prompts.add([NewPrompt("by number", False, None, "a", "1e2")])
    path = write('{"uid": 1e2, "acc": 1, "prompt_id": 4}', {"uid": "q1", "acc": 0, "prompt_id": 4})
    assert import_rollouts(sums, path, model="m", columns={"id": "uid", "reward": "acc"}).added == 2
    assert stored(sums, "prompt_id, reward, extras") == [(2, 0.0, None), (7, 1.0, None)]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"prompts": "uid"}, '"prompts" is no column that can be named.*\n.*did you mean "prompt"'),
        ({"id": "uuid"}, 'has no column "uuid"; its columns: "uid", "score".*\n.*did you mean "uid"'),
        ({"reward": "score", "rewards": "uid"}, "cannot both be named"),
    ],
)
def test_names_that_do_not_fit(sums: PromptStore, write: Callable[..., Path], named: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        import_rollouts(sums, write({"uid": "q1", "score": 1}), model="m", columns=named)


# --- TRL --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [5, "5"])
def test_completions_of_trl(sums: PromptStore, completions: Callable[..., Path], step: Any) -> None:
    report = import_rollouts(sums, completions(step), model="m")
    assert (report.added, report.rejected) == (3, 0)
    found = stored(
        sums, "prompt_id, sample, reward, solved, advantage, response, policy_version, weight_version, extras"
    )
    assert found == [
        (1, 0, 1.0, 1.0, 0.7, "a", 5, "5", '{"accuracy":1.0}'),
        (1, 1, 0.0, 0.0, -0.7, "b", 5, "5", '{"accuracy":0.0}'),
        (2, 0, 1.0, 1.0, 0.0, "c", 5, "5", '{"accuracy":1.0}'),
    ]


def test_steps_add_up_and_repeats_do_not(sums: PromptStore, completions: Callable[..., Path]) -> None:
    reports = [import_rollouts(sums, completions(step), model="m") for step in (1, 2, 1)]
    assert [(report.added, report.repeated) for report in reports] == [(3, 0), (3, 0), (0, 3)]
    assert len(sums.rollouts.read("m", last_id=6)) == 6


def test_several_reward_functions_need_weights(sums: PromptStore, completions: Callable[..., Path]) -> None:
    path = completions(accuracy=[1.0, 0.0, NAN], style=[0.5, NAN, NAN])
    with pytest.raises(InvalidInput, match=r'"accuracy", "style"\n.*--reward-weights accuracy=1,style=1'):
        import_rollouts(sums, path, model="m")
    report = import_rollouts(sums, path, model="m", reward_weights={"accuracy": 1.0, "style": 0.2})
    assert report.rejected_examples == ((3, "no reward: accuracy, style say nothing of this response"),)
    np.testing.assert_allclose([row[2] for row in stored(sums)], [1.1, 0.0])
    assert [json.loads(row[0]) for row in stored(sums, "extras")] == [
        {"accuracy": 1.0, "style": 0.5}, {"accuracy": 0.0, "style": None}]  # fmt: skip


def test_a_full_score_by_weights_is_solved(sums: PromptStore, completions: Callable[..., Path]) -> None:
    weights = {"a": 0.7, "b": 0.1, "c": 0.1, "d": 0.1}
    one = {name: [1.0, 0.0, 1.0] for name in weights}
    import_rollouts(sums, completions(**one), model="m", reward_weights={name: w + 1e-8 for name, w in weights.items()})
    assert [row[0] for row in stored(sums, "solved")] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("weights", "said"), [({"acuracy": 1.0}, 'did you mean "accuracy"'), ({"accuracy": NAN}, "must be finite")]
)
def test_weights_that_do_not_fit(sums: PromptStore, completions: Callable[..., Path], weights: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        import_rollouts(sums, completions(), model="m", reward_weights=weights)


def test_a_column_that_names_the_prompt_is_no_reward(sums: PromptStore, completions: Callable[..., Path]) -> None:
    path = completions(accuracy=[1.0, 0.0, 1.0], pid=[6, 6, 5])
    assert import_rollouts(sums, path, model="m", columns={"prompt_id": "pid"}).added == 3
    assert [row[0] for row in stored(sums)] == [5, 6, 6]


def test_a_layout_can_be_said(sums: PromptStore, completions: Callable[..., Path]) -> None:
    with pytest.raises(InvalidInput, match=r"no layout \"tlr\"; known: curri, trl, verl"):
        import_rollouts(sums, completions(), model="m", layout="tlr")
    with pytest.raises(InvalidData, match="no column that holds rewards"):
        import_rollouts(sums, completions(), model="m", layout="curri")


# --- verl -------------------------------------------------------------------------------------------------------------


def dumped(*inputs: str) -> list[dict[str, Any]]:
    """Rows as verl writes them into `rollout_data_dir`."""
    return [
        {"input": text, "output": f"o{i}", "gts": "g", "score": 2.0 * (i % 2) - 1, "step": 3, "acc": bool(i % 2)}
        for i, text in enumerate(inputs)
    ]


def test_a_dump_of_verl(sums: PromptStore, write: Callable[..., Path]) -> None:
    report = import_rollouts(sums, write(*dumped("0 + 0", "0 + 0", "1 + 1"), name="3.jsonl"), model="m")
    assert (report.added, report.solved_unknown) == (3, ())
    found = stored(sums, "prompt_id, sample, reward, solved, response, policy_version, weight_version, extras")
    assert found == [
        (1, 0, -1.0, 0.0, "o0", 3, "3", '{"gts":"g"}'),
        (1, 1, 1.0, 1.0, "o1", 3, "3", '{"gts":"g"}'),
        (2, 0, -1.0, 0.0, "o2", 3, "3", '{"gts":"g"}'),
    ]


def test_an_id_that_a_dump_carries_counts_before_its_prompt(sums: PromptStore, write: Callable[..., Path]) -> None:
    rows = [row | {"id": "q4", "uid": 3} for row in dumped("no such prompt")]
    assert import_rollouts(sums, write(*rows), model="m").added == 1
    assert import_rollouts(sums, write(*rows), model="m", columns={"prompt_id": "uid"}).added == 1
    assert [row[0] for row in stored(sums)] == [3, 5]


def test_prompts_as_the_model_saw_them(
    sums: PromptStore, write: Callable[..., Path], rejected: Callable[[Path], list[dict[str, Any]]]
) -> None:
    chats = [("be brief", "hello"), ("be brief", "twice"), ("be long", "twice")]
    sums.prompts.add([
        NewPrompt(json.dumps([{"content": said, "role": "system"}, {"content": text, "role": "user"}]), True, None, "c")
        for said, text in chats
    ])  # fmt: skip
    inputs = [
        "user\n1 + 1\nassistant\n",
        "user\nhello\nassistant\n",
        "user\ntwice\nassistant\n",
        "hello",
        "user\nwho\nassistant\n",
    ]
    path = write(*dumped(*inputs))
    report = import_rollouts(sums, path, model="m", prompt_template=r"user\n{prompt}\nassistant\n")
    assert [row[0] for row in stored(sums)] == [2, 7]
    assert report.rejected == 3
    assert [row["reason"] for row in rejected(path)] == [
        'prompt "twice" is the last message of 2 chats of the store; say prompt_id or id',
        'the prompt "hello" is not of the form of the template',
        'prompt "who" is not in the store',
    ]


@pytest.mark.parametrize("template", ["user: ", "{prompt} {prompt}", ""])
def test_a_template_holds_the_prompt_once(sums: PromptStore, write: Callable[..., Path], template: str) -> None:
    with pytest.raises(InvalidInput, match="once; got"):
        import_rollouts(sums, write(*dumped("x")), model="m", prompt_template=template)


@given(st.text(), st.text(), st.text(min_size=1))
def test_what_stands_around_a_prompt_is_taken_off(before: str, after: str, prompt: str) -> None:
    row = Row(1, {"prompt": before + prompt + after}, "", b"")
    assert Translation(template=(before, after)).row(row).value == {"prompt": prompt}


def test_interrupted_and_repeated_imports_of_any_format(sums: PromptStore, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "r.parquet", prompt_id=[1] * 10, reward=list(range(10)))

    def stop(at: Any) -> None:
        if at.rows >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_rollouts(sums, path, model="m", progress=stop, chunk=2)
    report = import_rollouts(sums, path, model="m", chunk=3)
    assert (report.added, report.repeated) == (4, 6)
    assert [row[2] for row in stored(sums)] == list(range(10))
