"""Checks: how a strategy is built."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.curricula.base import Curriculum
from curri.errors import InvalidParameter
from curri.parameters import declared, refuse_unknown
from curri.testing.case import BrokenContract, Case, expect, promise, refused
from curri.testing.scenario import small_pool

if TYPE_CHECKING:
    from curri.parameters import Parameter


@promise()
def check_default_construction(case: Case) -> None:
    """A pool is all that a strategy needs, and a listing finds its name, a summary and where it comes from."""
    expect(issubclass(case.strategy, Curriculum), f"{case.strategy} is no Curriculum")
    built = case.strategy(small_pool())
    for name in ("name", "summary", "source"):
        value = getattr(case.strategy, name)
        expect(isinstance(value, str) and value.strip(), f"`{name}` of `{case.strategy.__name__}` says nothing")
    expect("\n" not in case.strategy.summary, "`summary` must be one line")
    expect((case.strategy.__doc__ or "").strip(), f"`{case.strategy.__name__}` has no docstring")
    expect(len(built.pool) == len(small_pool()), "the strategy must keep its pool")


@promise()
def check_parameters_are_documented(case: Case) -> None:
    """Every parameter says what it does, and its default is a plain immutable value inside its own range."""
    for name, parameter in declared(case.strategy).items():
        expect(parameter.doc.strip(), f"`{name}` has no doc")
        plain = parameter.default is None or type(parameter.default) in {bool, int, float, str}
        expect(plain, f"the default of `{name}` is no plain value")
        parameter.checked(parameter.default, name=name, owner=case.strategy.__name__)
    for name in ("seed", "group_size"):
        expect(name in declared(case.strategy), f"`{name}` is a parameter of every strategy")


@promise()
def check_wrong_parameters_refused(case: Case) -> None:
    """A parameter of a wrong type or out of range is refused when built: "`x` of `Y` must be …; got …"."""
    for name, parameter in declared(case.strategy).items():
        for value in _wrong_values(parameter):
            what = f"`{name}` = {value!r}"
            error = refused(what, InvalidParameter, case.build, small_pool(), **{name: value})
            wanted = f"`{name}` of `{case.strategy.__name__}` must be {parameter.allowed}; got {value!r}"
            expect(error.message == wanted, f"{what}: the message must read {wanted!r}; it reads {error.message!r}")


def _wrong_values(parameter: Parameter) -> list[Any]:
    if parameter.type is dict:
        return [[], "no such value", 1, {}, {"a": -1.0}, {"a": np.nan}, {"a": "1"}, {"a": 0.0}, {1: 1.0}]
    if parameter.type is list:
        return [[], "no such value", 1, {}, [1], ["a", "a"]]
    wrong: list[Any] = [None, [], "no such value"]
    if parameter.type is bool:
        return [*wrong, 1, "true"]
    if parameter.type is str:
        return [*(wrong if parameter.choices else wrong[:2]), 1, True]
    wrong += [True, np.nan, np.inf, -np.inf, complex(1)]
    if parameter.type is int:
        wrong.append(parameter.default + 0.5)
    if parameter.low is not None:
        wrong.append(parameter.low - 1)
    if parameter.above is not None:
        wrong += [parameter.above, parameter.above - 1]
    if parameter.high is not None:
        wrong.append(2 * abs(parameter.high) + 1)
    return wrong


@promise()
def check_unknown_parameter_refused(case: Case) -> None:
    """A misspelt parameter is refused: by Python where it is a keyword, with a suggestion where it is data."""
    for name in declared(case.strategy):
        misspelt = name + "x"
        error = refused(f"`{misspelt}`", InvalidParameter, refuse_unknown, {misspelt: 1}, case.strategy)
        expect(f"`{misspelt}`" in error.message, f"the message must name `{misspelt}`; it reads {error.message!r}")
        expect(f'"{name}"' in (error.hint or ""), f"the hint must suggest `{name}`; it reads {error.hint!r}")
        try:
            case.build(small_pool(), **{misspelt: 1})
        except TypeError as refusal:
            expect(misspelt in str(refusal), f"the refusal must name `{misspelt}`; it reads {refusal}")
        else:
            raise BrokenContract(f"the keyword `{misspelt}` was accepted")


@promise()
def check_pool_refused(case: Case) -> None:
    """What is no pool is refused when built."""
    no_pools: list[Any] = [None, [1, 2, 3], np.arange(3)]
    for pool in no_pools:
        refused(f"a {type(pool).__name__} as pool", InvalidParameter, case.build, pool)


@promise()
def check_repr_names_every_parameter(case: Case) -> None:
    """``repr`` shows the class and every parameter with its value."""
    built = case.build(small_pool())
    shown = repr(built)
    expect(case.strategy.__name__ in shown, f"repr must name the class; got {shown}")
    for name, value in built.parameters.items():
        expect(f"{name}={value!r}" in shown, f"repr must show {name}={value!r}; got {shown}")


@promise()
def check_parameters_survive_json(case: Case) -> None:
    """Parameters written as JSON and read back build the same strategy, and those given are those kept."""
    built = case.build(small_pool())
    again = case.strategy(small_pool(), **json.loads(json.dumps(built.parameters)))
    expect(again.parameters == built.parameters, f"{again.parameters} is not {built.parameters}")
    for name, value in case.parameters.items():
        expect(built.parameters[name] == value, f"`{name}` was given as {value!r} and is {built.parameters[name]!r}")
    expect(list(built.parameters) == list(declared(case.strategy)), "`parameters` must hold every declared parameter")
