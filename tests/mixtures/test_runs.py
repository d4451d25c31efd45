from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidData, InvalidParameter, UnknownName
from curri.mixtures import Runs, replicate_noise

ARMS = ("math", "code")
ROWS = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]
SCORES = {"score": [0.1, 0.2, 0.3]}


def test_good_runs_have_no_notes_and_cannot_be_written_to() -> None:
    runs = Runs(ARMS, ROWS, SCORES)
    assert runs.notes == ()
    assert runs.names == ("run 1", "run 2", "run 3")
    with pytest.raises(ValueError, match="read-only"):
        runs.weights[0, 0] = 0.5


@pytest.mark.parametrize("total", [0.99, 0.996, 1.003, 1.01])
def test_rounded_rows_are_divided_by_their_sum_with_a_note(total: float) -> None:
    runs = Runs(ARMS, [[0.25, total - 0.25], *ROWS[1:]], SCORES)
    assert runs.weights[0] == pytest.approx([0.25 / total, 1.0 - 0.25 / total])
    (note,) = runs.notes
    assert note == f'the weights of "run 1" sum to {total:g} and were divided by their sum'


def test_sums_of_several_rounded_rows_are_told_as_a_range() -> None:
    (note,) = Runs(ARMS, [[0.5, 0.496], [0.5, 0.506], [0.4, 0.6]], SCORES).notes
    assert note == "the weights of 2 runs sum to 0.996 to 1.006 and were divided by their sum"
    (note,) = Runs(ARMS, [[0.5, 0.496], [0.6, 0.396], [0.4, 0.6]], SCORES).notes
    assert note == "the weights of 2 runs sum to 0.996 and were divided by their sum"


@pytest.mark.parametrize("total", [0.0, 0.98, 1.02, 2.0])
def test_other_sums_are_refused_with_their_row(total: float) -> None:
    rows = [ROWS[0], [0.0, total], ROWS[2]]
    with pytest.raises(InvalidData, match=r'"b" \(row 2\) sum to'):
        Runs(ARMS, rows, SCORES, names=["a", "b", "c"])


@pytest.mark.parametrize(
    ("weight", "words"), [(-0.1, "is negative"), (np.nan, "is not a number"), (np.inf, "is not a number")]
)
def test_bad_weights_are_refused_with_their_row(weight: float, words: str) -> None:
    with pytest.raises(InvalidData, match=rf'weight 1 of "run 3" \(row 3\) {words}'):
        Runs(ARMS, [*ROWS[:2], [weight, 1.0]], SCORES)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arms": ("a", "a")}, "names of arms must be distinct"),
        ({"arms": ("a", " ")}, "must have names"),
        ({"arms": ("a", "b", "c")}, r"shape \(runs, 3\)"),
        ({"arms": ()}, "must have names"),
        ({"weights": []}, "shape"),
        ({"weights": [["x", 1], [0, 1], [0, 1]]}, "must be numbers"),
        ({"targets": {}}, "at least one column"),
        ({"targets": {"s": [1.0, 2.0]}}, "one score a run, 3 in all"),
        ({"targets": {"s": [1.0, np.inf, 0.0]}}, '"run 2" in "s" is infinite'),
        ({"targets": {"s": [1.0, 1e71, 0.0]}}, r'"run 2" in "s" is 1e\+71, beyond'),
        ({"targets": {"s": ["x", 1, 2]}}, "must be numbers"),
        ({"targets": {"": [1.0, 2.0, 3.0]}}, "targets must have names"),
        ({"errors": {"score": [-1.0, 0.1, 0.1]}}, "at least 0"),
        ({"names": ["a", "b"]}, "2 names were given for 3 runs"),
        ({"names": ["a", "b", "a"]}, "come more than once"),
    ],
)
def test_other_bad_input_is_refused(change: dict[str, Any], words: str) -> None:
    given_: dict[str, Any] = {"arms": ARMS, "weights": ROWS, "targets": SCORES, **change}
    with pytest.raises(InvalidData, match=words):
        Runs(**given_)


def test_errors_of_an_unknown_target_are_refused() -> None:
    with pytest.raises(UnknownName, match="scroe"):
        Runs(ARMS, ROWS, SCORES, errors={"scroe": [0.1, 0.1, 0.1]})
    with pytest.raises(UnknownName, match='did you mean "score"'):
        Runs(ARMS, ROWS, SCORES).scores("scor")


def test_replicates_are_found_and_noted() -> None:
    runs = Runs(ARMS, [*ROWS, [0.5, 0.5], [0.50000001, 0.49999999]], {"score": [1.0, 2.0, 3.0, 4.0, 5.0]})
    assert runs.mixture.tolist() == [0, 1, 2, 2, 2]
    assert len(runs.distinct) == 3
    assert '"run 3" = "run 4" = "run 5"' in runs.notes[0]
    noise = replicate_noise(runs.scores("score"), runs.mixture)
    assert noise is not None
    assert noise.std == pytest.approx(1.0)
    assert noise.degrees == 2
    assert noise.source == "replicates"


def test_no_replicates_no_noise() -> None:
    assert replicate_noise([1.0, 2.0, np.nan], [0, 1, 1]) is None
    with pytest.raises(InvalidParameter):
        replicate_noise([1.0, 2.0], [0])


@given(st.lists(st.lists(st.floats(-10, 10), min_size=1, max_size=4), min_size=1, max_size=5), st.randoms())
def test_pooled_noise_is_that_of_the_groups(groups: list[list[float]], shuffle: Any) -> None:
    flat = [(value, i) for i, values in enumerate(groups) for value in values]
    shuffle.shuffle(flat)
    found = replicate_noise([value for value, _ in flat], [i for _, i in flat])
    degrees = sum(len(values) - 1 for values in groups)
    if degrees == 0:
        assert found is None
    else:
        assert found is not None
        squares = sum(float(np.square(np.array(values) - np.mean(values)).sum()) for values in groups)
        assert found.degrees == degrees
        assert found.std == pytest.approx(np.sqrt(squares / degrees), abs=1e-9)


def test_what_cannot_be_learned_is_noted() -> None:
    rows = [[0.2, 0.5, 0.3], [0.2, 0.3, 0.5], [0.2, 0.4, 0.4]]
    targets = {"flat": [1.0, 1.0, 1.0], "part": [1.0, np.nan, 2.0], "none": [np.nan] * 3}
    notes = "\n".join(Runs(["still", "b", "c"], rows, targets).notes)
    assert '"still" has the same weight in every run, so its effect cannot be told' in notes
    assert '"flat" is the same in every run' in notes
    assert '"part" lacks 1 score;' in notes
    assert '"none" has no score at all' in notes


def test_several_arms_that_never_move_are_noted_together() -> None:
    (note,) = Runs(["a", "b", "c", "d"], [[0.2, 0.2, 0.3, 0.3], [0.2, 0.2, 0.1, 0.5]], {"s": [1.0, 2.0]}).notes
    assert note == '"a", "b" have the same weight in every run, so their effects cannot be told'


def test_one_arm_is_noted() -> None:
    runs = Runs(["only"], [[1.0], [1.0]], {"score": [1.0, 2.0]})
    assert "there is only one arm, so there is nothing to mix" in runs.notes


def test_names_of_rows() -> None:
    runs = Runs(ARMS, ROWS, SCORES, names=["a", "b", "c"])
    assert runs.row_name([0.5, 0.5]) == "c"
    assert runs.row_name([0.4, 0.6]) is None
