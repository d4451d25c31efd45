from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidInput, InvalidParameter, MissingExtra, UnknownName
from curri.rollouts.verifiers import VERIFIERS, VerifierPool, Weighted, parse_verifier
from curri.rollouts.verifiers.extraction import boxed, last_line, marked, tagged
from curri.rollouts.verifiers.numeric import last_number, only_number
from curri.types import Prompt

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = {
    "a million brackets": "[" * 1_000_000,
    "boxes without end": "\\boxed{" * 200_000,
    "tags without end": "<answer>" * 200_000,
    "nul bytes": "\0" * 1000 + "7",
    "ten megabytes": "7 " * 5_000_000,
    "digits": "7" * 1_000_000,
    "commas and digits": "7,777" * 200_000,
    "exponents": "1e" * 500_000,
    "fractions": "\\frac{" * 100_000,
    "half of a pair": "\ud800 7",
    "terminal": "\x1b[2J\x1b]0;owned\x07 7",
    "combining": "a" + "\u0300\u0323" * 500_000,
    "spaces": "answer" + " " * 1_000_000 + "B",
    "answers": "the answer is " * 100_000,
    "empty": "",
}


def prompt(answer: str | None = "7", **metadata: Any) -> Prompt:
    return Prompt(1, "What is it?\nA) Rome\nB) Paris\nC) Oslo", answer, "arm", metadata)


def solved(spec: str | list[str], response: str, of: Prompt | str) -> float:
    verifier = parse_verifier(spec)
    score = verifier.score(response, prompt(of) if isinstance(of, str) else of)
    assert score.status == "ok", score
    return score.solved


# ---- where the answer stands -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{7}", "7"),
        (r"\boxed {7} then \boxed{8}", "8"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{7} and \boxed{8", "7"),
        (r"\boxed 7", None),
        (r"boxed{7}", None),
        (r"\boxed{}", ""),
        ("\\boxed{" + "x" * 10_001 + "}", None),
    ],
)
def test_what_is_boxed(text: str, found: str | None) -> None:
    assert boxed(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<answer>7</answer>", "7"),
        ("<answer> 7\n</answer> tail", "7"),
        ("<answer>6</answer><answer>7</answer>", "7"),
        ("<answer>7", None),
        ("7</answer>", None),
        ("<answer>a<answer>7</answer>", "7"),
    ],
)
def test_what_is_tagged(text: str, found: str | None) -> None:
    assert tagged(text) == found


def test_tags_come_before_boxes_and_a_box_inside_of_them_counts() -> None:
    assert marked(r"<answer>so \boxed{7}</answer> not \boxed{8}") == "7"
    assert marked(r"<answer>7</answer> not \boxed{8}") == "7"


@given(st.text(), st.text(alphabet="abc 12"))
def test_an_answer_in_tags_is_found_whatever_stands_before(before: str, answer: str) -> None:
    assert tagged(f"{before}<answer>{answer}</answer>") == answer.strip()


@given(st.text())
def test_the_last_line_is_a_line(text: str) -> None:
    assert "\n" not in last_line(text)


# ---- exact -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "response", "answer", "right"),
    [
        ("exact", "Paris", "Paris", 1),
        ("exact", "  Paris \n", "Paris", 1),
        ("exact", "paris", "Paris", 0),
        ("exact", "<think>Rome?</think> Paris", "Paris", 1),
        ("exact", "It is Paris", "Paris", 0),
        ("exact", r"It is \boxed{Paris}.", "Paris", 1),
        ("exact", "007", "7", 0),
        ("exact:case=ignore", "PARIS", "Paris", 1),
        ("exact:punctuation=ignore", "“Paris!”", "Paris", 1),
        ("exact:spaces=keep", "a  b", "a b", 0),
        ("exact:spaces=remove", "a  b", "ab", 1),
        ("exact:unicode=nfkc", "ﬁne ①", "fine 1", 1),
        ("exact", "ﬁne ①", "fine 1", 0),
        ("exact:extract=last_line", "I think\nParis", "Paris", 1),
        ("exact:extract=tag", "Paris", "Paris", 0),
        ("exact:extract=boxed", "<answer>Paris</answer>", "Paris", 0),
        ("exact:extract=whole", "<answer>Paris</answer>", "Paris", 0),
    ],
)
def test_exact(spec: str, response: str, answer: str, right: int) -> None:
    assert solved(spec, response, answer) == right


# ---- numeric ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "answer", "right"),
    [
        ("It is 7.", "7", 1),
        ("It is 7, not 8.", "7", 0),
        ("x = −7", "-7", 1),
        ("5 - 12", "12", 1),  # a sign after a space belongs to what follows only where it touches it
        ("1,234,567", "1234567", 1),
        (r"\boxed{1{,}234}", "1,234", 1),
        ("$12.50", "12.5", 1),
        ("50%", r"50\%", 1),
        ("3/4", "0.75", 1),
        (r"\boxed{\frac{3}{4}}", "0.75", 1),
        (r"-\frac{3}{4}", "-0.75", 1),
        ("1e3", "1000", 1),
        ("7.0000001", "7", 1),
        ("7.001", "7", 0),
        ("123456789", "123456788", 0),
        ("7.", "7", 1),
        (r"\boxed{7 or 8}", "7", 0),
        ("nothing", "7", 0),
        ("1/0", "7", 0),
        ("1e999", "7", 0),
        ("9" * 400, "7", 0),
        ("9" * 290, "7.5", 0),
        ("\u0667", "7", 0),
    ],
)
def test_numeric(response: str, answer: str, right: int) -> None:
    assert solved("numeric", response, answer) == right


def test_tolerances() -> None:
    assert solved("numeric:tolerance=0.5", "7.5", "7") == 1
    assert solved("numeric:tolerance=0.5", "7.51", "7") == 0
    assert solved("numeric:relative=0.1", "7.6", "7") == 1
    assert solved("numeric:relative=0.1", "107", "100") == 0  # whole numbers are compared as such
    assert solved("numeric:tolerance=10", "107", "100") == 1


@given(st.integers(-(10**15), 10**15))
def test_whole_numbers_are_found_at_the_end(number: int) -> None:
    assert last_number(f"First 3, then {number}.") == number
    assert only_number(f"{number:,}") == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_read_back(number: float) -> None:
    assert only_number(repr(number)) == number


@given(st.text(alphabet="0123456789.,/-+eE\\frac{}%$ =x"))
def test_no_text_is_a_number_that_is_not_finite(text: str) -> None:
    for found in (only_number(text), last_number(text)):
        assert found is None or math.isfinite(found)


# ---- choice ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B)", "B"),
        ("B.", "B"),
        ("**B**", "B"),
        (r"\boxed{B}", "B"),
        (r"\boxed{\text{B}}", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        ("<answer>B) Paris</answer>", "B"),
        ("<answer>paris.</answer>", "B"),
        ("Paris", "B"),
        ("The answer is B.", "B"),
        ("The answer is (b).", "B"),
        ("The answer is **B**: Paris", "B"),
        ("Answer: B", "B"),
        ("I first took A, but the correct option is B because A is Rome.", "B"),
        ("A city in France. So B", "B"),
        ("Of A and C, neither. I choose B", "B"),
        ("It is B\n", "B"),
        ("A man walks.", None),
        ("The answer is a secret", None),
        ("F", None),
        ("", None),
    ],
)
def test_the_choice_a_response_settles_on(response: str, letter: str | None) -> None:
    for reference in "ABC":
        assert solved("choice", response, reference) == float(letter == reference), reference


@pytest.mark.parametrize(
    "metadata",
    [
        {"choices": ["Rome", "Paris", "Oslo"]},
        {"options": ["A) Rome", "B) Paris", "C) Oslo"]},
        {"choices": {"A": "Rome", "B": "Paris"}},
        {"choices": {"label": ["A", "B"], "text": ["Rome", "Paris"]}},
        {},  # from the lines of the prompt
    ],
)
def test_texts_of_choices(metadata: dict[str, Any]) -> None:
    assert solved("choice", "<answer>Paris</answer>", prompt("B", **metadata)) == 1
    assert solved("choice", "B", prompt("Paris", **metadata)) == 1
    assert solved("choice", "A", prompt("Paris", **metadata)) == 0


def test_references_by_number_and_by_another_field() -> None:
    assert solved("choice:index=0", "B", "1") == 1
    assert solved("choice:index=1", "A", "1") == 1
    assert solved("choice:field=possible", "B", prompt("x", possible=["w", "x"])) == 1
    assert parse_verifier("choice").score("B", prompt("Berlin")).status == "unverifiable"
    assert parse_verifier("choice:index=0").score("B", prompt("9")).status == "unverifiable"
    assert solved("choice:letters=6", "F", "F") == 1


def test_a_text_that_two_choices_share_names_neither() -> None:
    same = prompt("A", choices=["Rome", "Rome"])
    assert solved("choice", "<answer>Rome</answer>", same) == 0


# ---- regex -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "response", "right"),
    [
        (r"regex:pattern=\d+", "so 7", 1),
        (r"regex:pattern=\d+,match=whole", "so 7", 0),
        (r"regex:pattern=SO,flags=i,match=start", "so 7", 1),
        (r"regex:pattern=^x$,flags=m", "a\nx\nb", 1),
        (r"regex:pattern=<think>.*</think>", "<think>a\nb</think>", 0),
        (r"regex:pattern=<think>.*</think>,flags=s", "<think>a\nb</think>", 1),
        (r"regex:pattern=#### (?P<answer>\d+)", "#### 8, no #### 7", 1),
        (r"regex:pattern=#### (?P<answer>\d+)", "#### 7, no #### 8", 0),
        (r"regex:pattern=#### (?P<answer>\d+)", "7", 0),
        (r"regex:pattern=(?P<answer>\d+)?x", "x", 0),
        (r"regex:pattern==\s*{answer}$", "= 7", 1),
        (r"regex:pattern=={answer}$", "=78", 0),
    ],
)
def test_regex(spec: str, response: str, right: int) -> None:
    assert solved(spec, response, "7") == right


def test_the_answer_in_a_pattern_is_no_pattern() -> None:
    assert solved("regex:pattern=={answer}$", "=77", "7+") == 0
    assert solved("regex:pattern=={answer}$", "=7+", "7+") == 1


# ---- gym -------------------------------------------------------------------------------------------------------------


def gym_prompt(task: str, index: int = 1, **params: Any) -> Prompt:
    gym = pytest.importorskip("reasoning_gym")
    from curri.exchange.gym import json_able

    entry = gym.create_dataset(task, seed=5, size=4, **params)[index]
    origin = {"task": task, "params": params, "seed": 5, "size": 4, "index": index}
    metadata = json.loads(json.dumps(json_able({"gym": origin, "entry": entry["metadata"]})))
    return Prompt(1, entry["question"], entry["answer"], task, metadata)


@pytest.mark.parametrize("task", ["chain_sum", "knights_knaves", "countdown", "mini_sudoku", "spell_backward"])
def test_gym_accepts_the_stored_answer_and_no_other(task: str) -> None:
    stored = gym_prompt(task)
    assert solved("gym", f"<think>hm</think><answer>{stored.answer}</answer>", stored) == 1
    assert solved("gym", str(stored.answer), stored) == 1
    assert solved("gym", "<answer>none of it</answer>", stored) == 0


def test_gym_accepts_answers_other_than_the_stored_one() -> None:
    stored = gym_prompt("countdown")
    assert solved("gym", f"<answer>(({stored.answer}))</answer>", stored) == 1
    assert solved("exact", f"<answer>(({stored.answer}))</answer>", stored) == 0


def test_gym_gives_parts_of_a_point_and_says_from_where_on_it_is_right() -> None:
    stored = gym_prompt("chain_sum")
    response = f"<answer>it is {stored.answer}</answer>"
    score = parse_verifier("gym").score(response, stored)
    assert 0 < score.reward < 1
    assert score.solved == 0
    assert parse_verifier("gym:solved_at=0.01").score(response, stored).solved == 1


def test_gym_uses_what_is_stored_where_the_library_has_changed() -> None:
    stored = gym_prompt("chain_sum")
    changed = Prompt(1, "State the final answer: 1 + 1 =", "2", "chain_sum", stored.metadata)
    assert solved("gym", "<answer>2</answer>", changed) == 1
    assert solved("gym", f"<answer>{stored.answer}</answer>", changed) == 0


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"gym": {"task": "no_such_task", "params": {}}},
        {"gym": {"task": "chain_sum", "params": {}}},
        {"gym": {"task": "chain_sum", "params": {"min_terms": -4}, "seed": 1, "size": 1, "index": 0}},
    ],
)
def test_prompts_that_no_task_made_cannot_be_verified(metadata: dict[str, Any]) -> None:
    pytest.importorskip("reasoning_gym")
    score = parse_verifier("gym").score("7", prompt("7", **metadata))
    assert score.status == "unverifiable"
    assert score.detail


# ---- hostile responses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["exact:unicode=nfkc,punctuation=ignore,case=ignore", "exact", "numeric", "choice"])
def test_quick_verifiers_are_quick_on_hostile_responses(spec: str) -> None:
    verifier = parse_verifier(spec)
    of = prompt("B" if spec == "choice" else "7")
    for name, response in HOSTILE.items():
        start = time.process_time()
        assert verifier.score(response, of).status == "ok", name
        assert time.process_time() - start < 1.0, name


@given(st.text(), st.sampled_from(["exact", "exact:extract=last_line", "numeric", "numeric:extract=last", "choice"]))
def test_no_text_is_too_strange(response: str, spec: str) -> None:
    score = parse_verifier(spec).score(response, prompt("B" if spec == "choice" else "7"))
    assert score.status == "ok"
    assert score.solved in (0.0, 1.0)


def test_quick_verifiers_score_a_hundred_thousand_a_second() -> None:
    responses = ["3 apples and 4 more: that is 3 + 4, so the answer is 7."] * 4000
    for spec, answer in (("exact", "7"), ("numeric", "7"), ("choice", "B")):
        of = [prompt(answer)] * len(responses)
        with VerifierPool(spec) as pool:
            seconds = []
            for _ in range(5):
                start = time.thread_time()
                pool.verify(of, responses)
                seconds.append(time.thread_time() - start)
        assert len(responses) / min(seconds) > 40_000, spec  # half of what is asked for: this machine has company


# ---- specifications --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("exact", "exact"),
        ("numeric:tolerance=1e-3", "numeric:tolerance=0.001"),
        ("numeric:relative=1e-6,tolerance=0", "numeric"),
        (r"regex:pattern=a,b+c", "regex:pattern='a,b+c'"),
        (r"regex:pattern=a{1,3},flags=i", "regex:pattern='a{1,3}',flags=i"),
        ("regex:pattern='it''s',flags=i", "regex:pattern='it''s',flags=i"),
        ('regex:pattern="a,flags=b"', "regex:pattern='a,flags=b'"),
        ("math@0.8+regex@0.2:pattern=a+", "math@0.8+regex@0.2:pattern='a+'"),
        ("math+exact", "math+exact"),
        ("math@1+exact@2", "math+exact@2"),
        (["math@0.8", "exact@.2:case=ignore"], "math@0.8+exact@0.2:case=ignore"),
    ],
)
def test_specifications_have_one_spelling(spec: str | list[str], name: str) -> None:
    assert parse_verifier(spec).name == name
    assert parse_verifier(name).name == name


@given(st.text(min_size=1).filter(lambda text: not set(text) & set("\\[](){}*+?|^$.")))
def test_any_text_comes_back_out_of_quotes(text: str) -> None:
    verifier = parse_verifier("regex:pattern='" + text.replace("'", "''") + "'")
    again = parse_verifier(verifier.name)
    assert verifier.pattern == again.pattern == text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("exactly", UnknownName, 'did you mean "exact"'),
        ("", InvalidInput, "the name of a verifier"),
        ("exact+", InvalidInput, "the name of a verifier"),
        ("exact,numeric", InvalidInput, "after a plus"),
        ("exact:", InvalidInput, "an option of `exact`"),
        ("exact:case", InvalidInput, "an option of `exact`"),
        ("exact:cases=ignore", InvalidParameter, 'did you mean "case"'),
        ("exact:case=loud", InvalidParameter, '"keep", "ignore"'),
        ("exact:case=keep,case=keep", InvalidParameter, "twice"),
        ("numeric:tolerance=-1", InvalidParameter, "[0, inf)"),
        ("numeric:tolerance=much", InvalidParameter, "a float"),
        ("exact@0", InvalidParameter, "above 0"),
        ("exact@nan", InvalidParameter, "above 0"),
        ("exact@", InvalidParameter, "above 0"),
        ("regex", InvalidParameter, "must be given"),
        ("regex:pattern=(", InvalidParameter, "regular expression"),
        ("regex:pattern='a", InvalidInput, "the quote at its end"),
        ("regex:pattern=a,flags=q", InvalidParameter, "letters of imsxa"),
        ("python", InvalidInput, "a module and a function"),
        ("python:json", InvalidInput, "a module and a function"),
        ("python:no_such_module_here:score", InvalidInput, "no module 'no_such_module_here'"),
        ("python:json.no_such_module_here:score", InvalidInput, "no module 'json.no_such_module_here'"),
        ("python:no/such/file.py:score", InvalidInput, "no file"),
        ("python:numpy._core._multiarray_umath:add", InvalidInput, "source"),
        ([], InvalidInput, "a text or a list"),
    ],
)
def test_what_is_wrong_with_a_specification_is_said(spec: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        parse_verifier(spec)
    assert type(caught.value) is error
    assert words in str(caught.value)


def test_several_have_a_sum_of_rewards_and_the_verdict_of_the_first() -> None:
    spec = "exact@0.8+regex@0.2:pattern=</answer>"
    verifier = parse_verifier(spec)
    assert isinstance(verifier, Weighted)
    assert not verifier.quick
    assert parse_verifier("exact+numeric").quick
    scores = [verifier.score(text, prompt()) for text in ("<answer>7</answer>", "<answer>8</answer>", "7", "8")]
    assert [(round(score.reward, 9), score.solved) for score in scores] == [(1, 1), (0.2, 0), (0.8, 1), (0, 0)]


def test_where_one_of_several_fails_all_do() -> None:
    score = parse_verifier("regex@0.2:pattern=7+exact").score("7", prompt(None))
    assert (score.status, score.detail[:6]) == ("unverifiable", "exact:")
    assert math.isnan(score.reward)
    assert math.isnan(score.solved)


@pytest.mark.parametrize("spec", ["exact", "numeric", "choice", "regex:pattern={answer}", "math"])
def test_a_prompt_without_an_answer_cannot_be_verified(spec: str) -> None:
    assert parse_verifier(spec).score("7", prompt(None)).status == "unverifiable"


# ---- what enters the key of the cache --------------------------------------------------------------------------------


def test_names_say_the_options_and_versions_the_rules() -> None:
    assert parse_verifier("exact").name != parse_verifier("exact:case=ignore").name
    for kind in ("exact", "numeric", "choice"):
        assert parse_verifier(kind).version == "1"
    assert VerifierPool("exact:case=ignore").key == "exact:case=ignore (1)"


def test_the_version_of_a_library_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.2")
    before = parse_verifier("math+gym").version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.3")
    after = parse_verifier("math+gym").version
    assert before != after
    assert before.count("1.2") == 4


@pytest.mark.parametrize("kind", ["math", "gym"])
def test_a_missing_package_is_said_before_anything_is_scored(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    import importlib.metadata

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(MissingExtra, match=f"the verifier `{kind}`") as caught:
        VerifierPool(kind)
    assert "pip install 'curri[" in str(caught.value.hint)


def test_the_source_of_a_users_function_is_part_of_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def score(response): return 1.0\n")
    spec = f"python:{file}:score"
    before = parse_verifier(spec).version
    assert parse_verifier(spec).version == before
    file.write_text("def score(response): return 0.5\n")
    assert parse_verifier(spec).version != before
    assert parse_verifier(f"{spec}:revision=2").name != parse_verifier(spec).name


def test_every_kind_has_a_summary_and_documented_options() -> None:
    import importlib

    from curri.parameters import declared

    for kind, place in VERIFIERS.items():
        module, _, name = place.partition(":")
        owner = getattr(importlib.import_module(module), name)
        assert owner.kind == kind
        assert owner.__doc__
        assert all(parameter.doc for parameter in declared(owner).values())
