from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.curricula.modomodo import MoDoMoDo
from curri.errors import CurriError, InvalidData, InvalidParameter, UnknownName
from curri.exchange.mixture_runs import named_numbers, read_runs, write_design, write_text, write_weights
from curri.parameters import declared

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curri.exchange.mixture_runs import RunsFile

    Read = Callable[..., RunsFile]

PLAIN = "run,weight:math,weight:code,acc\na,1,0,0.2\nb,0,1,0.3\nc,0.5,0.5,0.4\n"


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a text as a file of runs."""

    def reader(text: str | bytes, **options: Any) -> RunsFile:
        file = tmp_path / "runs.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_runs(file, **options)

    return reader


# --- what is read -----------------------------------------------------------------------------------------------------


def test_weights_scores_and_names(read: Read) -> None:
    found = read(PLAIN)
    assert found.runs.arms == ("math", "code")
    assert found.runs.names == ("a", "b", "c")
    assert found.runs.weights.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    assert found.runs.scores("acc").tolist() == [0.2, 0.3, 0.4]
    assert (found.notes, len(found.digest)) == ((), 64)


def test_the_digest_tells_files_apart(read: Read) -> None:
    assert read(PLAIN).digest == read(PLAIN).digest != read(PLAIN.replace("0.4", "0.41")).digest


@pytest.mark.parametrize(
    ("header", "arms"),
    [("w_math,w_code,acc", ("math", "code")), ("weight:math,weight: code,acc", ("math", "code"))],
)
def test_columns_of_weights_are_known_by_their_prefix(read: Read, header: str, arms: tuple[str, ...]) -> None:
    assert read(f"{header}\n1,0,0.2\n0,1,0.3\n").runs.arms == arms


def test_the_long_prefix_wins_so_that_a_score_may_begin_with_the_short_one(read: Read) -> None:
    found = read("weight:a,weight:b,w_score\n1,0,5\n0,1,6\n").runs
    assert (found.arms, list(found.targets)) == (("a", "b"), ["w_score"])


@pytest.mark.parametrize(
    ("arms", "expected"),
    [("p_*_q", ("a", "b")), ("p_a_q,p_b_q", ("p_a_q", "p_b_q")), ("p_a_q, p_b_*", ("p_a_q", "q"))],
)
def test_arms_by_name_and_by_pattern(read: Read, arms: str, expected: tuple[str, ...]) -> None:
    found = read("p_a_q,p_b_q,x\n1,0,5\n0,1,6\n", arms=arms)
    assert (found.runs.arms, list(found.runs.targets)) == (expected, ["x"])


def test_scores_by_name_and_by_pattern(read: Read) -> None:
    text = "weight:a,weight:b,m_x_loss,m_y_loss,z,word\n1,0,1,2,3,u\n0,1,4,5,6,v\n"
    assert list(read(text, columns="m_*_loss").runs.targets) == ["x", "y"]
    assert list(read(text, columns="z,m_x_loss").runs.targets) == ["z", "m_x_loss"]


def test_standard_errors_belong_to_their_target(read: Read) -> None:
    found = read("weight:a,weight:b,x,x_se,y,se:y\n1,0,1,0.1,3,\n0,1,2,0.2,4,0.5\n").runs
    assert list(found.targets) == ["x", "y"]
    assert found.errors["x"].tolist() == [0.1, 0.2]
    assert np.isnan(found.errors["y"][0])


def test_a_column_that_only_looks_like_standard_errors_is_a_score(read: Read) -> None:
    assert list(read("weight:a,weight:b,base_se\n1,0,1\n0,1,2\n").runs.targets) == ["base_se"]


@pytest.mark.parametrize("missing", ["", "NA", "nan", "null", "-"])
def test_missing_scores(read: Read, missing: str) -> None:
    found = read(f"weight:a,weight:b,x,y\n1,0,{missing},1\n0,1,2,2\n").runs
    assert np.isnan(found.scores("x")[0])
    assert "lacks 1 score" in " ".join(found.notes)


def test_semicolons_tabs_and_decimal_commas(read: Read) -> None:
    assert read("weight:a;weight:b;x\n0,25;0,75;1,5\n1;0;2\n").runs.scores("x").tolist() == [1.5, 2.0]
    assert read("weight:a\tweight:b\tx\n0.25\t0.75\t1.5\n").runs.scores("x").tolist() == [1.5]


def test_a_byte_order_mark_and_empty_lines_and_columns(read: Read) -> None:
    found = read(b"\xef\xbb\xbfweight:a,weight:b,x,,\r\n1,0,2,,\r\n,,,,\r\n0,1,3,,\r\n")
    assert (found.runs.arms, len(found.runs)) == (("a", "b"), 2)


def test_rows_without_weights_and_runs_without_scores_are_left_out_with_a_note(read: Read) -> None:
    found = read("run,weight:a,weight:b,x\nbase,,,7\nr1,1,0,2\nr2,0,1,\nr3,0.5,0.5,3\n")
    assert found.runs.names == ("r1", "r3")
    assert found.notes[:2] == ("1 of 4 rows have no weights and are left out", "1 run has no score and is left out")


def test_columns_of_text_and_of_nothing_are_left_out_with_a_note(read: Read) -> None:
    found = read("weight:a,weight:b,x,group,later\n1,0,2,seed,\n0,1,3,seed,\n")
    assert list(found.runs.targets) == ["x"]
    assert '"group"' in found.notes[0]
    assert '"later"' in found.notes[1]


def test_a_column_that_no_target_mentions_may_hold_anything(read: Read) -> None:
    text = "weight:a,weight:b,x,steps\n1,0,2,2000\n0,1,3,2000-step\n"
    with pytest.raises(InvalidData, match='line 3: "2000-step" in column "steps" is not a number'):
        read(text)
    assert list(read(text, wanted=["total=0.5*x"]).runs.targets) == ["x"]


def test_replicates_may_share_a_name(read: Read) -> None:
    found = read("run,weight:a,weight:b,x\nr,1,0,2\nr,1,0,3\nr (2),0,1,4\nr,0,1,5\n").runs
    assert found.names == ("r", "r (2)", "r (2) (2)", "r (3)")
    assert len(found.distinct) == 2


def test_rounded_weights_are_divided_by_their_sum(read: Read) -> None:
    found = read("weight:a,weight:b,x\n0.333,0.666,2\n0,1,3\n")
    assert found.runs.weights.sum(axis=1).tolist() == [1.0, 1.0]
    assert "divided by their sum" in found.notes[0]


def test_two_files_by_a_common_column(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("index,math,code\n1,1,0\n2,0,1\n3,0.5,0.5\n")
    (tmp_path / "s.csv").write_text("index,loss,loss_se\n2,3.5,0.1\n1,3.0,0.1\n9,1,1\n2,3.6,\n")
    found = read_runs(tmp_path / "w.csv", scores=tmp_path / "s.csv", on="index")
    assert found.runs.arms == ("math", "code")
    assert found.runs.names == ("2", "1", "2 (2)")
    assert found.runs.scores("loss").tolist() == [3.5, 3.0, 3.6]
    assert len(found.runs.distinct) == 2
    assert len(found.sources) == 2
    assert [note for note in found.notes if "left out" in note] == [
        f'1 row of {tmp_path / "w.csv"} has no scores and is left out: "3"',
        f'1 row of {tmp_path / "s.csv"} has no weights and is left out: "9"',
    ]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "has no columns of weights"),
        ("weight:a,weight:b,x\n", "has no row with weights"),
        ("weight:a,weight:b,x\n1,0,\n", "has no scores yet"),
        ("weight:a,weight:b\n1,0\n", "has no scores yet"),
        ("weight:a,weight:b,x\n1,0\n", "line 2 has 2 cells; the header has 3"),
        ("weight:a,weight:b,x\n1,0,1,9\n", "line 2 has 4 cells; the header has 3"),
        ("weight:a,weight:a,x\n1,0,1\n", 'two columns are called "weight:a"'),
        ("weight:a,weight: a,x\n1,0,1\n", 'two columns hold weights of "a"'),
        ("weight:,weight:b,x\n1,0,1\n", "does not name its arm"),
        ("weight:a,,x\n1,0,1\n", "column 2 has values but no name"),
        ("weight:a,weight:b,x\n1,,1\n", 'line 2: there is no weight in column "weight:b"'),
        ("weight:a,weight:b,x\n1,NaN,1\n", 'line 2: there is no weight in column "weight:b"'),
        ("weight:a,weight:b,x\n1.2,-0.2,1\n", 'line 2: the weight in column "weight:b" is negative: -0.2'),
        ("weight:a,weight:b,x\n1,0,1\n0.7,0.2,1\n", "line 3: the weights sum to 0.9; they must sum to 1"),
        ("weight:a,weight:b,x\n1,zero,1\n", 'line 2: "zero" in column "weight:b" is not a number'),
        ("weight:a,weight:b,x\n1,0,1\n0,1,high\n", 'line 3: "high" in column "x" is not a number'),
        ("weight:a,weight:b,x\n1,0,inf\n", 'line 2: "inf" in column "x" is not finite'),
        ("weight:a,weight:b,x\n1,0,1_0\n0,1,2\n", '"1_0" in column "x" is not a number'),
        ("weight:a,weight:b,x,x_se\n1,0,1,-0.1\n", 'the standard error in column "x_se" is negative'),
        ("weight:a,weight:b,x,x_se,se:x\n1,0,1,1,1\n", 'both hold standard errors of "x"'),
        ('weight:a,weight:b,x\n1,0,"1\n', "line 2"),
        ("weight:a,weight:b,x\n1,0,1\0\n", "zero bytes"),
    ],
)
def test_bad_files_are_refused_with_their_place(read: Read, text: str, words: str) -> None:
    with pytest.raises(InvalidData) as caught:
        read(text)
    assert words in caught.value.message
    assert "runs.csv" in caught.value.message


def test_percentages_are_recognised(read: Read) -> None:
    with pytest.raises(InvalidData) as caught:
        read("weight:a,weight:b,x\n70,30,1\n")
    assert "divide them by 100" in str(caught.value.hint)


def test_a_file_that_is_not_there_or_no_text(read: Read, tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"there is no file .*nothing\.csv"):
        read_runs(tmp_path / "nothing.csv")
    with pytest.raises(InvalidData, match="cannot be read"):
        read_runs(tmp_path)
    with pytest.raises(InvalidData, match="not UTF-8"):
        read(b"weight:a,weight:b,x\n1,0,\xff\n")


def test_unknown_columns_are_refused_with_a_suggestion(read: Read) -> None:
    for option in ({"arms": "weight:mth"}, {"columns": "acccc"}, {"arms": "u_*"}):
        with pytest.raises(UnknownName):
            read(PLAIN, **option)


def test_two_files_that_do_not_meet(tmp_path: Path) -> None:
    weights, scores = tmp_path / "w.csv", tmp_path / "s.csv"
    weights.write_text("run,math,code\n1,1,0\n2,0,1\n")
    scores.write_text("index,loss\n3,3.5\n")
    with pytest.raises(InvalidData, match='has no column "run"'):
        read_runs(weights, scores=scores)
    scores.write_text("run,loss\n3,3.5\n")
    with pytest.raises(InvalidData, match='no value of "run" in common'):
        read_runs(weights, scores=scores)
    weights.write_text("run,math,code\n1,1,0\n1,0,1\n")
    with pytest.raises(InvalidData, match='"1" in "run" come more than once'):
        read_runs(weights, scores=scores)


def test_a_file_that_is_far_too_large_is_not_read(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curri.exchange.mixture_runs._MAX_BYTES", 20)
    with pytest.raises(InvalidData, match="is larger than"):
        read(PLAIN)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(b"weight:a,weight:b,x\n1,0,1\n" + data)
    try:
        assert len(read_runs(file).runs)
    except CurriError as error:
        assert error.message  # noqa: PT017  any refusal will do, as long as it says something


# --- what is written --------------------------------------------------------------------------------------------------

names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=12)


@given(st.lists(names, min_size=1, max_size=5, unique=True), st.integers(0, 99))
def test_a_design_is_read_back_once_it_has_scores(
    tmp_path_factory: pytest.TempPathFactory, arms: list[str], seed: int
) -> None:
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(arms)), 4)
    file = tmp_path_factory.getbasetemp() / "design.csv"
    write_design(file, arms, weights, names=["a", "b", "c", "d"], targets=["score"])
    with pytest.raises(InvalidData, match="has no scores yet"):
        read_runs(file)
    file.write_text("\n".join(f"{line}1.5" if i else line for i, line in enumerate(file.read_text().split("\n")[:-1])))
    found = read_runs(file)
    assert found.runs.arms == tuple(arms)
    assert np.abs(found.runs.weights - weights).max() < 1e-5
    assert not any("divided" in note for note in found.notes)


def test_weights_are_what_the_strategy_reads(tmp_path: Path) -> None:
    mixture = {"math": 0.25, "</script>": 0.75, "none": 0.0}
    write_weights(tmp_path / "weights.json", mixture)
    text = (tmp_path / "weights.json").read_text()
    assert json.loads(text) == mixture
    parsed = declared(MoDoMoDo)["weights"].parsed(text, name="weights", owner="MoDoMoDo")
    assert parsed == mixture


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="cannot be written"):
        write_text("x", tmp_path / "none" / "x.txt")
    write_text("one", tmp_path / "x.txt")
    write_text("two", tmp_path / "x.txt")
    assert (tmp_path / "x.txt").read_text() == "two"
    assert [file.name for file in tmp_path.iterdir()] == ["x.txt"]


@pytest.mark.parametrize(
    "text", ["math=0.5,code=0.2", '{"math": 0.5, "code": 0.2}', "@FILE", "FILE"], ids=["pairs", "json", "at", "file"]
)
def test_numbers_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "caps.json").write_text('{"math": 0.5, "code": 0.2}')
    given_text = text.replace("FILE", str(tmp_path / "caps.json"))
    assert named_numbers(given_text, option="--cap") == {"math": 0.5, "code": 0.2}


@pytest.mark.parametrize(
    "text",
    ["", "math", "math=", "=1", "math=x", "math=-1", "math=inf", "a=1,a=2", "{", "[1]", '{"a": true}', '{"a": "1"}'],
)
def test_numbers_by_name_that_are_none(text: str) -> None:
    with pytest.raises(InvalidParameter, match="--cap must be numbers"):
        named_numbers(text, option="--cap")


def test_numbers_of_arms_that_are_not_there() -> None:
    with pytest.raises(UnknownName, match='did you mean "math"'):
        named_numbers("maths=1", option="--cap", arms=["math"])
