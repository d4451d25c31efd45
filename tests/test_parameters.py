"""Parameters: declared once, checked when built, read from text."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri import PromptPool
from curri.curricula import UCB, Curriculum
from curri.errors import InvalidParameter
from curri.parameters import (
    Parameter,
    check_declared,
    choice,
    declared,
    integer,
    names,
    real,
    refuse_unknown,
    switch,
    weights,
)


@dataclasses.dataclass(kw_only=True)
class Owner:
    rate: float = real(default=0.5, above=0.0, high=1.0, doc="a rate", symbol="p", source="nowhere")
    bound: float = real(default=0.0, low=-1.0, doc="a bound")
    free: float = real(default=0.0, doc="any number")
    size: int = integer(default=3, low=1, high=2_000_000, doc="a size")
    offset: int = integer(default=0, doc="any integer")
    mode: str = choice(default="a", of=("a", "b"), doc="a mode")
    flag: bool = switch(default=False, doc="a flag")
    mix: dict[str, float] | None = weights(doc="weights")  # noqa: RUF009  a declaration
    order: list[str] | None = names(doc="names")  # noqa: RUF009  a declaration

    def __post_init__(self) -> None:
        check_declared(self)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("rate", 0.0, "a float in (0, 1]"),
        ("rate", 1.1, "a float in (0, 1]"),
        ("rate", float("nan"), "a float in (0, 1]"),
        ("rate", "0.5", "a float in (0, 1]"),
        ("rate", True, "a float in (0, 1]"),
        ("rate", None, "a float in (0, 1]"),
        ("bound", -1.5, "a float in [-1, inf)"),
        ("bound", float("inf"), "a float in [-1, inf)"),
        ("free", float("-inf"), "a float in (-inf, inf)"),
        ("free", 10**400, "a float in (-inf, inf)"),
        ("free", Decimal(1), "a float in (-inf, inf)"),
        ("size", 0, "an int in [1, 2000000]"),
        ("size", 2.5, "an int in [1, 2000000]"),
        ("size", 10**400, "an int in [1, 2000000]"),
        ("size", float("nan"), "an int in [1, 2000000]"),
        ("size", float("inf"), "an int in [1, 2000000]"),
        ("size", np.bool_(True), "an int in [1, 2000000]"),
        ("offset", "1", "an int in (-inf, inf)"),
        ("mode", "c", 'one of "a", "b"'),
        ("mode", 1, 'one of "a", "b"'),
        ("flag", 1, "true or false"),
        ("flag", "true", "true or false"),
    ],
)
def test_wrong_values_are_answered_with_what_is_allowed(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        Owner(**{name: value})
    assert caught.value.message == f"`{name}` of `Owner` must be {allowed}; got {value!r}"


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("rate", 1, 1.0),
        ("rate", Fraction(1, 4), 0.25),
        ("rate", np.float32(0.5), 0.5),
        ("free", 10**300, 1e300),
        ("size", 4.0, 4),
        ("size", np.int32(4), 4),
        ("size", np.float64(4), 4),
        ("offset", 2**200, 2**200),
        ("offset", 2**53 + 1, 2**53 + 1),
        ("offset", -(10**400), -(10**400)),
        ("mode", "b", "b"),
        ("flag", True, True),
    ],
)
def test_values_become_the_declared_type_exactly(name: str, value: Any, kept: Any) -> None:
    built = getattr(Owner(**{name: value}), name)
    assert built == kept
    assert type(built) is type(kept)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("rate", "0.25", 0.25),
        ("rate", "1e-3", 0.001),
        ("size", "17", 17),
        ("offset", "-3", -3),
        ("mode", "b", "b"),
        ("flag", "true", True),
        ("flag", "False", False),
    ],
)
def test_text_is_read_as_the_declared_type(name: str, text: str, value: Any) -> None:
    assert declared(Owner)[name].parsed(text, name=name, owner="Owner") == value


@pytest.mark.parametrize(
    ("name", "text"),
    [("rate", "x"), ("rate", "nan"), ("rate", "2"), ("size", "2.5"), ("size", ""), ("mode", "A"), ("flag", "yes")],
)
def test_text_that_does_not_fit_is_shown(name: str, text: str) -> None:
    parameter = declared(Owner)[name]
    with pytest.raises(InvalidParameter, match=f"`{name}` of `Owner` must be"):
        parameter.parsed(text, name=name, owner="Owner")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_survives_being_written_and_read(value: float) -> None:
    assert Parameter(type=float, default=0.0, doc="").parsed(repr(value), name="x", owner="Y") == value


@given(st.integers())
def test_an_int_survives_being_written_and_read(value: int) -> None:
    assert Parameter(type=int, default=0, doc="").parsed(str(value), name="x", owner="Y") == value


def test_declared_in_order_with_bases_first() -> None:
    names = list(declared(UCB))
    assert names[:3] == ["seed", "group_size", "cooldown"]
    assert [name for name in names if name not in declared(Curriculum)] == [
        "window",
        "temperature",
        "exploration",
        "count_unit",
        "draw",
        "normalize_std",
        "overflow",
        "discount",
    ]
    assert declared(UCB)["temperature"].symbol == "τ"
    assert declared(int) == {}


def test_unknown_names_are_refused_with_the_nearest() -> None:
    refuse_unknown({"temperature": 1, "seed": 2}, UCB)
    with pytest.raises(InvalidParameter, match="`UCB` has no parameter `temprature`; it has `seed`, `group_size`") as e:
        refuse_unknown({"temprature": 1}, UCB)
    assert e.value.hint == 'did you mean "temperature"?'


def test_parameters_are_keywords_of_the_constructor() -> None:
    pool = PromptPool([1])
    with pytest.raises(TypeError, match="positional"):
        UCB(pool, 3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="temprature"):
        UCB(pool, temprature=3)  # type: ignore[call-arg]
    with pytest.raises(InvalidParameter, match=r"`temperature` of `UCB` must be a float in \(0, inf\); got -1.0"):
        UCB(pool, temperature=-1.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("math=0.7,code=0.3", {"code": 0.3, "math": 0.7}),
        (" math = 2 , code=0", {"code": 0.0, "math": 2.0}),
        ('{"a=b": 1, "c": 3}', {"a=b": 1.0, "c": 3.0}),
        ("a=b=1", {"a=b": 1.0}),
    ],
)
def test_weights_are_read_from_text(text: str, value: dict[str, float]) -> None:
    read = declared(Owner)["mix"].parsed(text, name="mix", owner="Owner")
    assert read == value
    assert list(read) == sorted(value)


@pytest.mark.parametrize("text", ["", "math", "math=x", "=1", "{", "[1]", "math=-1", "math=0", "a=nan"])
def test_weights_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="`mix` of `Owner` must be weights >= 0 by arm name"):
        declared(Owner)["mix"].parsed(text, name="mix", owner="Owner")


@pytest.mark.parametrize(("text", "value"), [("easy, hard", ["easy", "hard"]), ('["a,b", "c"]', ["a,b", "c"])])
def test_names_are_read_from_text(text: str, value: list[str]) -> None:
    assert declared(Owner)["order"].parsed(text, name="order", owner="Owner") == value


@pytest.mark.parametrize("text", ["", "a,,b", "a,a", "[", "[1]", "{}"])
def test_names_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="`order` of `Owner` must be distinct names"):
        declared(Owner)["order"].parsed(text, name="order", owner="Owner")


def test_many_values_may_be_left_out() -> None:
    assert Owner().mix is None
    assert Owner(mix={"b": 1, "a": 2}).mix == {"a": 2.0, "b": 1.0}
    assert Owner(order=["x"]).order == ["x"]
