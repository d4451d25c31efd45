"""The contract suite for strategies: one plain function a promise, picked by the strategy's tags.

A package with a strategy of its own needs three lines of test::

    from curri.testing import Case, parametrize


    @parametrize([Case(MyStrategy), Case(MyStrategy, {"window": 50})])
    def test_contract(check):
        check()

Without pytest, ``run_checks(Case(MyStrategy))`` gives a list of results. A promise that is knowingly not kept is named
with its reason in ``Case.expected_failures``; it then has to fail.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, TypeAlias

from curri.errors import unknown_name

# Importing them fills the table of promises, in this order.
from curri.testing import bounds, construction, determinism, learning, persistence, scale, selection, talk
from curri.testing.case import PROMISES, Case, Promise

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from curri.testing.adapters import AdapterCheck

Outcome: TypeAlias = Literal["passed", "failed", "failed as expected", "passed unexpectedly", "not asked"]

MODULES = (construction, selection, learning, determinism, persistence, talk, bounds, scale)


@dataclass(frozen=True, eq=False)
class Check:
    """One promise to be checked of one case; calling it checks.

    Attributes:
        name: of the promise, such as "bit_equal_resume".
        case: what is checked.
        promise: how.
    """

    name: str
    case: Case
    promise: Promise
    not_asked: ClassVar[str | None] = None  # tags pick the checks, so all of them are asked

    @property
    def doc(self) -> str:
        """What is promised."""
        return (self.promise.function.__doc__ or "").strip()

    @property
    def id(self) -> str:
        """A readable id, such as "ucb-bit_equal_resume"."""
        return f"{self.case.label}-{self.name}"

    def __call__(self) -> None:
        """Check it. A warning counts as a failure."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.promise.function(self.case)


class Result(NamedTuple):
    """How a check went.

    Attributes:
        name: of the check.
        outcome: "passed", "failed", "failed as expected", "passed unexpectedly" or "not asked".
        message: of the failure, or why it is not asked, or "".
    """

    name: str
    outcome: Outcome
    message: str

    @property
    def ok(self) -> bool:
        """Whether it went as it should."""
        return self.outcome in {"passed", "failed as expected", "not asked"}


def strategy_checks(case: Case) -> list[Check]:
    """The checks that the tags of a case pick.

    Raises:
        UnknownName: an expected failure names no check.
    """
    names = [promise.name for promise in PROMISES]
    for name in case.expected_failures:
        if name not in names:
            raise unknown_name("check", name, names)
    return [Check(promise.name, case, promise) for promise in PROMISES if promise.applies_to(case)]


def run_checks(case: Case) -> list[Result]:
    """Run all checks of a case, without pytest."""
    return [result_of(check) for check in strategy_checks(case)]


def result_of(check: Check | AdapterCheck) -> Result:
    """Run one check, of a strategy or of an adapter, without pytest."""
    expected, not_asked = check.name in check.case.expected_failures, check.not_asked
    if not_asked is not None:
        return Result(check.name, "not asked", not_asked)
    try:
        check()
    except Exception as error:  # noqa: BLE001  whatever is checked may raise anything, and that is its result
        return Result(check.name, "failed as expected" if expected else "failed", f"{type(error).__name__}: {error}")
    return Result(check.name, "passed unexpectedly" if expected else "passed", "")


def parametrize(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """A pytest mark that gives a test its ``check`` argument: one node a check and case."""
    return nodes(check for case in cases for check in strategy_checks(case))


def nodes(checks: Iterable[Check | AdapterCheck]) -> pytest.MarkDecorator:
    """A pytest mark with one node a check; one that is known to fail has to."""
    import pytest

    params = []
    for check in checks:
        reason = check.case.expected_failures.get(check.name)
        marks = [] if reason is None else [pytest.mark.xfail(strict=True, reason=reason)]
        if check.not_asked is not None:
            marks = [pytest.mark.skip(reason=check.not_asked)]
        params.append(pytest.param(check, id=check.id, marks=marks))
    return pytest.mark.parametrize("check", params)
