from __future__ import annotations

import pytest

from curri.rollouts.verifiers import VerifierPool, parse_verifier
from curri.types import Prompt

pytest.importorskip("math_verify", reason="needs curri[verify]")

TOWER = r"\boxed{9^{9^{9^{9}}}}"


def solved(answer: str, response: str, spec: str = "math") -> float:
    score = parse_verifier(spec).score(response, Prompt(1, "?", answer, "arm", {}))
    assert score.status == "ok", score
    return score.solved


@pytest.mark.parametrize(
    ("answer", "response", "right"),
    [
        (r"\frac{1}{2}", r"\boxed{0.5}", 1),
        ("1/2", r"the answer is $\frac{1}{2}$", 1),
        ("$x^2+1$", r"\boxed{1+x^2}", 1),
        (r"\boxed{12}", "so the answer is 12.", 1),
        (r"\sqrt{2}", r"\boxed{\sqrt{2}}", 1),
        (r"\{1,2\}", r"\boxed{\{2,1\}}", 1),
        ("(1,2)", r"\boxed{(2,1)}", 0),
        ("1,000", r"\boxed{1000}", 1),
        (r"50\%", r"\boxed{0.5}", 1),
        ("x=5", r"\boxed{5}", 1),
        ("7", "<think>\\boxed{7}</think> it is 8", 0),
        ("7", "<answer>7</answer> or 8", 1),
        ("7", r"\boxed{8}", 0),
        ("7", "no idea", 0),
        ("7", "", 0),
        ("7", r"\boxed{", 0),
    ],
)
def test_expressions(answer: str, response: str, right: int) -> None:
    assert solved(answer, response) == right


def test_where_the_answer_stands() -> None:
    assert solved("7", "it is 7", "math:extract=boxed") == 0
    assert solved("7", "<answer>7</answer>", "math:extract=boxed") == 0
    assert solved("7", "<answer>7</answer>", "math:extract=tag") == 1


def test_precision() -> None:
    assert solved("0.3333", r"\boxed{0.33334}") == 0
    assert solved("0.3333", r"\boxed{0.33334}", "math:precision=4") == 1


@pytest.mark.parametrize("answer", ["", " ", "x" * 20_000])
def test_references_that_cannot_be_read(answer: str) -> None:
    assert parse_verifier("math").score("7", Prompt(1, "?", answer, "arm", {})).status == "unverifiable"


def test_a_response_that_takes_for_ever_is_given_up_and_the_rest_is_scored() -> None:
    prompt = Prompt(1, "?", "7", "arm", {})
    with VerifierPool("math", workers=1, time_limit=2) as pool:
        scores = pool.verify([prompt] * 3, [r"\boxed{7}", TOWER, "It is 7."])
    assert [score.status for score in scores] == ["ok", "timeout", "ok"]
    assert [score.solved for score in scores][::2] == [1, 1]


def test_hostile_responses_end_nothing() -> None:
    prompt = Prompt(1, "?", "7", "arm", {})
    deep = "\\boxed{" + "(" * 4000 + "7" + ")" * 4000 + "}"  # takes math-verify longer than anyone waited
    responses = ["[" * 1_000_000, "\\frac{" * 100_000, "\0" * 10**6, "7 " * 5_000_000, deep]
    with VerifierPool("math", workers=2, time_limit=2) as pool:
        scores = pool.verify([prompt] * 6, [*responses, r"\boxed{7}"])
    assert [score.status for score in scores[:3]] == ["ok"] * 3
    assert scores[4].status == "timeout"
    assert scores[5].solved == 1


def test_odd_characters() -> None:
    assert solved("7", "\0\ud800\x1b[2J it is 7") == 1
