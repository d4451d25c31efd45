from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import InvalidParameter, UnknownName
from curri.mixtures import Target, parse_target, read_targets

COLUMNS = ["lisa", "sat", "in-score", "s a t", 'quo"te', "a", "b", "a.b"]


@pytest.mark.parametrize(
    ("text", "name", "parts"),
    [
        ("lisa", "lisa", {"lisa": 1.0}),
        (" lisa ", "lisa", {"lisa": 1.0}),
        ("in-score", "in-score", {"in-score": 1.0}),
        ("total=0.5*lisa+0.3*sat", "total", {"lisa": 0.5, "sat": 0.3}),
        ("total = 5e-1 * lisa - .3*'s a t'", "total", {"lisa": 0.5, "s a t": -0.3}),
        ("-a", "-a", {"a": -1.0}),
        ("m=(a+b)/2", "m", {"a": 0.5, "b": 0.5}),
        ("m=2*(a+b*3)-b", "m", {"a": 2.0, "b": 5.0}),
        ("a-b", "a-b", {"a": 1.0, "b": -1.0}),
        ("gap=in-score-a", "gap", {"in-score": 1.0, "a": -1.0}),
        ('x="quo\\"te"', "x", {'quo"te': 1.0}),
        ("'my name'=a.b", "my name", {"a.b": 1.0}),
        ("Out-Score = 0.5*a", "Out-Score", {"a": 0.5}),
        ("my new 2 = -a", "my new 2", {"a": -1.0}),
        ("x=a+a+b", "x", {"a": 2.0, "b": 1.0}),
        ("x=a-a+b", "x", {"b": 1.0}),
    ],
)
def test_sums_are_read(text: str, name: str, parts: dict[str, float]) -> None:
    found = parse_target(text, COLUMNS)
    assert found.name == name
    assert found.parts == pytest.approx(parts)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a score, found 'the end'"),
        ("a+", "expected a score, found 'the end'"),
        ("2*3", "a number must be followed by"),
        ("a b", "cannot read 'b'"),
        ("(a", "a bracket is not closed"),
        ("a)", r"cannot read '\)'"),
        ("a/0", "divides by 0"),
        ("=a", "found '='"),
        ("a**2", "expected a number"),
        ("a*b", "expected a number"),
        ("0*a", "cancels out"),
        ("a-a", "cancels out"),
        ("1e999*a", "too large"),
        ("x=y=a", "cannot read|expected|there is no"),
        ("a;b", "cannot read ';b'"),
        ("2a", "cannot read '2a'"),
        ('"a', "cannot read"),
        ("__import__('os')", "there is no target"),
    ],
)
def test_anything_else_is_refused(text: str, words: str) -> None:
    with pytest.raises((InvalidParameter, UnknownName), match=words):
        parse_target(text, COLUMNS)


def test_unknown_columns_are_refused_with_their_neighbour() -> None:
    with pytest.raises(UnknownName, match='did you mean "lisa"'):
        parse_target("x=0.5*lissa", COLUMNS)


def test_a_target_without_parts_is_none() -> None:
    with pytest.raises(InvalidParameter, match="coefficients that are not 0"):
        Target("x", {})
    with pytest.raises(InvalidParameter, match="coefficients that are not 0"):
        Target("x", {"a": 0.0})


def test_direction() -> None:
    assert parse_target("a", COLUMNS).sign == 1.0
    assert parse_target("a", COLUMNS, lower=True).sign == -1.0


@given(
    st.dictionaries(st.text(min_size=1, max_size=8), st.floats(-1e6, 1e6).filter(lambda c: abs(c) > 1e-6), min_size=1)
)
def test_a_formula_reads_back_as_the_same_target(parts: dict[str, float]) -> None:
    target = Target("t", parts)
    found = parse_target(f"t={target.formula}", parts)
    if f"t={target.formula}" not in parts:
        assert found.name == "t"
        assert found.parts == parts


def test_targets_as_they_are_typed() -> None:
    columns = ["l_a", "l_b", "acc", "odd name"]
    (mean, acc) = read_targets(["loss=mean(l_*)", "acc"], columns, lower=["loss"])
    assert (mean.parts, mean.lower, acc.lower) == ({"l_a": 0.5, "l_b": 0.5}, True, False)
    assert read_targets(["mean(*)"], columns)[0].parts == dict.fromkeys(columns, 0.25)
    assert [target.name for target in read_targets([], columns, everything=True)] == columns
    assert all(target.lower for target in read_targets([], columns, lower=["*"], everything=True))
    assert read_targets([], ["acc"])[0].name == "acc"


def test_a_pattern_stands_for_the_mean_of_what_fits() -> None:
    columns = ["l_a", "l_b", "l_a+l_b", 'l_"c"', "m"]
    found = parse_target("gap=2*mean(l_*)-m", columns)
    assert found.parts == {"l_a": 0.5, "l_b": 0.5, "l_a+l_b": 0.5, 'l_"c"': 0.5, "m": -1.0}
    assert parse_target("mean(l_*)", columns).name == "mean(l_*)"
    assert parse_target("mean(*)", ["mean(*)"]).parts == {"mean(*)": 1.0}
    with pytest.raises(InvalidParameter, match=r"target 'mean\(l_\*\)\+' is no"):
        parse_target("mean(l_*)+", columns)


@pytest.mark.parametrize(
    ("texts", "lower", "error"),
    [
        ([], [], InvalidParameter),
        (["x"], [], UnknownName),
        (["mean(z_*)"], [], UnknownName),
        (["acc"], ["l_a"], UnknownName),
        (["acc+"], [], InvalidParameter),
    ],
)
def test_targets_that_are_none(texts: list[str], lower: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        read_targets(texts, ["l_a", "acc"], lower=lower)
