"""What ``curri mix`` makes of files as people have them: each is read with a note or refused with its row."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs curri[mix]")

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typer.testing import Result

    Curri = Callable[..., Result]
    Answer = Callable[..., dict[str, Any]]

ARMS = ("a", "b", "c")
ALL = (("fit",), ("optimize", "-o", "weights.json"), ("report", "-o", "report.md"))
HOSTILE = "</script><script>alert(1)</script>"


def mixtures(runs: int, arms: int = 3) -> np.ndarray:
    rows = np.random.default_rng(arms).dirichlet(np.ones(arms), runs).round(4)
    rows[:, 0] += 1.0 - rows.sum(axis=1)
    return rows.round(4)


def score(row: Sequence[float]) -> float:
    return 0.3 + sum(math.sqrt(max(weight, 0.0)) * place / len(row) for place, weight in enumerate(row))


def write(
    rows: np.ndarray, scores: Sequence[object] | None = None, arms: Sequence[str] = ARMS, target: str = "score"
) -> None:
    """runs.csv in the folder of the test."""
    values = [f"{score(row):.5f}" for row in rows] if scores is None else scores
    names = ["run", *(f"weight:{arm}" for arm in arms), target]
    lines = [",".join(f'"{name}"' for name in names)]
    lines += [
        f"r{place}," + ",".join(f"{weight:g}" for weight in row) + f",{value}"
        for place, (row, value) in enumerate(zip(rows, values, strict=True))
    ]
    Path("runs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def answers(answer: Answer, *, quick: bool = True, report: bool = False) -> dict[str, dict[str, Any]]:
    """What the commands say of runs.csv, which none of them refuses."""
    options = ("--surrogate", "loglinear") if quick else ()
    commands = ALL if report else ALL[:2]
    return {command: answer("mix", command, "runs.csv", *more, *options) for command, *more in commands}


def refused(answer: Answer, *options: str) -> dict[str, Any]:
    """The one error that all commands give for runs.csv."""
    errors = [answer("mix", command, "runs.csv", *more, *options, code=1)["error"] for command, *more in ALL]
    assert all(error == errors[0] for error in errors)
    assert not Path("report.md").exists()
    assert not Path("weights.json").exists()
    return errors[0]


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [0.99, 1.01])
def test_sums_that_are_rounded_are_divided_out_with_a_note(answer: Answer, curri: Curri, total: float) -> None:
    rows = mixtures(14)
    rows[2] = [0.3, 0.3, total - 0.6]
    write(rows)
    note = f'the weights of "r2" sum to {total:g} and were divided by their sum'
    found = answers(answer, report=True)
    assert found["fit"]["notes"] == found["optimize"]["notes"] == found["report"]["data"]["notes"] == [note]
    assert sum(found["optimize"]["recommendation"]["weights"].values()) == pytest.approx(1.0)
    assert note in curri("mix", "fit", "runs.csv", "--surrogate", "loglinear").stderr
    assert "divided by their sum" in Path("report.md").read_text()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([0.4, 0.3, 0.32], "runs.csv, line 4: the weights sum to 1.02; they must sum to 1"),
        ([0.4, 0.3, 0.28], "runs.csv, line 4: the weights sum to 0.98; they must sum to 1"),
        ([0.0, 0.0, 0.0], "runs.csv, line 4: the weights sum to 0; they must sum to 1"),
        ([-0.1, 0.6, 0.5], 'runs.csv, line 4: the weight in column "weight:a" is negative: -0.1'),
        ([0.5, math.nan, 0.5], 'runs.csv, line 4: there is no weight in column "weight:b"'),
        ([0.5, math.inf, 0.5], 'runs.csv, line 4: "inf" in column "weight:b" is not finite'),
    ],
)
def test_other_weights_are_refused_with_their_row(answer: Answer, curri: Curri, row: list[float], words: str) -> None:
    rows = mixtures(6)
    scores = [score(each) for each in rows]
    rows[2] = row
    write(rows, scores)
    assert refused(answer)["message"] == words


def test_percentages_are_recognised(answer: Answer, curri: Curri) -> None:
    write(100.0 * mixtures(6), range(6))
    assert refused(answer)["hint"] == "these look like percentages: divide them by 100"


# --- scores -----------------------------------------------------------------------------------------------------------


def test_missing_scores_are_left_out_with_a_note(answer: Answer) -> None:
    rows = mixtures(14)
    empty = ["", "NA", "nan", "-", "null"]
    write(rows, [empty[place] if place < 5 else score(row) for place, row in enumerate(rows)])
    found = answers(answer, report=True)
    assert found["fit"]["notes"] == ["5 runs have no score and are left out"]
    assert found["fit"]["runs"] == found["report"]["data"]["runs"] == 9


def test_a_second_target_may_lack_other_scores(answer: Answer, curri: Curri) -> None:
    rows = mixtures(14)
    write(rows, [f"{score(row)},{'' if place % 4 else place}" for place, row in enumerate(rows)])
    text = Path("runs.csv").read_text()
    Path("runs.csv").write_text(text.replace('"score"', '"score","other"'))
    (note,) = answer("mix", "fit", "runs.csv", "--surrogate", "mean")["notes"]
    assert note == '"other" lacks 10 scores; those runs are left out of it'


def test_a_constant_target_has_no_best_mixture(answer: Answer, curri: Curri) -> None:
    write(mixtures(12), [0.5] * 12)
    found = answers(answer, quick=False, report=True)
    assert "is the same in every run" in found["fit"]["notes"][0]
    assert (
        found["optimize"]["headline"]
        == "All runs scored the same in “score”, 0.5000: nothing tells one mixture from another."
    )
    assert found["optimize"]["recommendation"]["source"] == "measured"
    gains = [mixture["predictions"]["score"] for mixture in found["report"]["mixtures"]]
    assert {(each["gain"], each["gain_std"]) for each in gains} == {(0.0, 0.0)}


@pytest.mark.parametrize(
    ("value", "words"), [("inf", "is not finite"), ("good", "is not a number"), ("1e300", "beyond")]
)
def test_scores_that_are_no_numbers_are_refused(answer: Answer, curri: Curri, value: str, words: str) -> None:
    rows = mixtures(6)
    write(rows, [value, *(score(row) for row in rows[1:])])
    assert words in refused(answer)["message"]


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e65])
def test_scores_of_any_size_are_answered(answer: Answer, curri: Curri, scale: float) -> None:
    rows = mixtures(10)
    write(rows, [repr(scale * score(row)) for row in rows])
    assert answers(answer)["fit"]["runs"] == 10


# --- runs -------------------------------------------------------------------------------------------------------------


def test_fewer_runs_than_parameters(answer: Answer, curri: Curri) -> None:
    write(mixtures(4))
    error = refused(answer, "--surrogate", "scheffe")
    assert "needs at least 6 different mixtures of 3 arms; there are 4" in error["message"]
    assert "best" in error["hint"]
    found = answers(answer, quick=False)
    assert found["fit"]["targets"][0]["quality"]["runs"] == 4
    assert found["optimize"]["recommendation"]["source"] == "measured"


def test_one_run_is_too_few(answer: Answer, curri: Curri) -> None:
    write(mixtures(1))
    error = refused(answer)
    assert "needs at least 2 runs; there is 1" in error["message"]
    assert "curri mix design" in error["hint"]


def test_the_same_run_again_is_a_replicate(answer: Answer) -> None:
    rows = np.vstack([mixtures(12), mixtures(12)[:3]])
    write(rows, [score(row) + 0.01 * (place % 3) for place, row in enumerate(rows)])
    found = answers(answer)
    assert found["fit"]["notes"][0].startswith('3 mixtures were run more than once: "r0" = "r12"')
    assert (found["fit"]["runs"], found["fit"]["mixtures"]) == (15, 12)
    assert found["fit"]["targets"][0]["noise"] == found["optimize"]["targets"][0]["noise"]
    assert found["fit"]["targets"][0]["noise"]["source"] == "replicates"


def test_one_mixture_only(answer: Answer, curri: Curri) -> None:
    write(np.repeat(mixtures(1), 5, axis=0), [0.5, 0.51, 0.49, 0.5, 0.52])
    found = answers(answer, quick=False)
    assert found["optimize"]["recommendation"]["measured_runs"] == 5
    assert "partly luck" not in " ".join(found["optimize"]["lead"])
    assert '"a", "b", "c" have the same weight in every run, so their effects cannot be told' in found["fit"]["notes"]


@pytest.mark.parametrize("weight", [0.0, 0.2])
def test_an_arm_that_never_varies_is_told(answer: Answer, curri: Curri, weight: float) -> None:
    share = np.linspace(0.0, 1.0 - weight, 13).round(6)
    write(np.column_stack([np.full(13, weight), share, 1.0 - weight - share]))
    found = answers(answer)
    assert found["fit"]["notes"] == ['"a" has the same weight in every run, so its effect cannot be told']


# --- arms and names ---------------------------------------------------------------------------------------------------


def test_one_arm(answer: Answer, curri: Curri) -> None:
    write(np.ones((5, 1)), range(5), ["alone"])
    found = answers(answer, quick=False)
    assert found["optimize"]["headline"] == "There is only one dataset, alone, so there is nothing to mix."
    assert json.loads(Path("weights.json").read_text()) == {"alone": 1.0}


def test_sixty_arms(answer: Answer, curri: Curri) -> None:
    write(mixtures(10, 60), arms=[f"d{place}" for place in range(60)])
    found = answers(answer, quick=False, report=True)
    assert len(json.loads(Path("weights.json").read_text())) == 60
    assert found["report"]["arms"][59] == "d59"


@pytest.mark.parametrize("name", [HOSTILE, "数学 🙂", "a|b `c` *d*=0.5", "\u202e\u05de\u05ea"])
def test_names_of_any_kind(answer: Answer, curri: Curri, name: str) -> None:
    write(mixtures(12), arms=[name, "b", "c"], target=name + "!")
    found = answers(answer, report=True)
    assert found["fit"]["arms"] == [name, "b", "c"]
    assert name in json.loads(Path("weights.json").read_text(encoding="utf-8"))
    text = Path("report.md").read_text(encoding="utf-8")
    assert "<script" not in text.split("```")[0].replace("\\<", "")
    assert "\u202e" not in text


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "runs.csv is empty"),
        (b"\n\n", "runs.csv is empty"),
        (b"run,weight:a,weight:b,score\n", "runs.csv has no row with weights"),
        (b"run,weight:a,weight:b,score\nr,0.5,0.5,\n", "runs.csv has no scores yet"),
        (b"run,weight:a,weight:b\nr,0.5,0.5\n", "runs.csv has no scores yet"),
        (b"run,score\nr,0.5\n", "runs.csv has no columns of weights"),
        (b"run,weight:a,weight:a,score\nr,1,0,1\n", 'two columns are called "weight:a"'),
        (b"run,weight:a,score\nr,1\n", "runs.csv, line 2 has 2 cells; the header has 3"),
        (bytes(range(256)), "is not UTF-8 text"),
    ],
)
def test_files_without_runs_are_refused(answer: Answer, curri: Curri, content: bytes, words: str) -> None:
    Path("runs.csv").write_bytes(content)
    error = refused(answer)
    assert words in error["message"]
    assert error["hint"] or content[:1] not in {b"", b"r"} or "cells" in words or "two columns" in words
