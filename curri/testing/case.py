"""What a check works on, how it fails, and how checks are told apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from curri.curricula.base import Curriculum
    from curri.errors import CurriError
    from curri.pool import PromptPool

ErrorT = TypeVar("ErrorT", bound="CurriError")
P = ParamSpec("P")


class BrokenContract(AssertionError):
    """A strategy does not keep what the contract promises."""


@dataclass(frozen=True, eq=False)
class Case:
    """One strategy with one set of parameters, to be checked.

    Attributes:
        strategy: the class; it has to be importable, as some checks start another process.
        parameters: the parameters to build it with; the rest keep their defaults.
        expected_failures: check name → why it is known to fail. Such a check must fail.
        replacement: whether these parameters make it draw with replacement (fewer prompts, with more rollouts each);
            not needed for a strategy tagged "replacement".
    """

    strategy: type[Curriculum]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    replacement: bool = False

    @property
    def tags(self) -> frozenset[str]:
        """Tags of the strategy, and "replacement" where the parameters make it so."""
        return self.strategy.tags | ({"replacement"} if self.replacement else set())

    @property
    def label(self) -> str:
        """A short name for test ids, such as "ucb(draw=successive)"."""
        given = ",".join(f"{name}={value}" for name, value in self.parameters.items())
        name = self.strategy.name or self.strategy.__name__
        return f"{name}({given})" if given else name

    def build(self, pool: PromptPool, **changes: Any) -> Curriculum:
        """The strategy over ``pool``, with some parameters changed."""
        return self.strategy(pool, **{**self.parameters, **changes})


class Promise(NamedTuple):
    """One check of the suite.

    Attributes:
        name: the function's name without ``check_``.
        function: the check.
        needs: tags a strategy must have for it to apply.
        unless: tags a strategy must not have for it to apply.
    """

    name: str
    function: Callable[[Case], None]
    needs: frozenset[str]
    unless: frozenset[str]

    def applies_to(self, case: Case) -> bool:
        """Whether the strategy's tags pick this check."""
        return self.needs <= case.tags and not self.unless & case.tags


PROMISES: list[Promise] = []
"""All checks, in the order in which they are defined."""


def promise(
    *, needs: frozenset[str] = frozenset(), unless: frozenset[str] = frozenset()
) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """Make a function ``check_xxx(case)`` part of the suite; its docstring says what is promised."""

    def add(function: Callable[[Case], None]) -> Callable[[Case], None]:
        PROMISES.append(Promise(function.__name__.removeprefix("check_"), function, needs, unless))
        return function

    return add


def expect(condition: object, message: str) -> None:
    """Fail the check unless ``condition`` holds.

    Raises:
        BrokenContract: it does not.
    """
    if not condition:
        raise BrokenContract(message)


def refused(
    what: str, error: type[ErrorT], call: Callable[P, object], *arguments: P.args, **keywords: P.kwargs
) -> ErrorT:
    """The error that ``call``, with these arguments, has to raise.

    Raises:
        BrokenContract: ``call`` went through. An error of another class is raised as it is.
    """
    try:
        call(*arguments, **keywords)
    except error as raised:
        return raised
    raise BrokenContract(f"{what} was accepted; it has to be refused with {error.__name__}")
