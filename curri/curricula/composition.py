"""Two strategies in one: the first says how many prompts of each arm, the second which ones.

``curri select --strategy ucb --within vas`` and ``registry.strategy("ucb/vas")`` both come here.
"""

from __future__ import annotations

import copy
import dataclasses
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.curricula.base import Curriculum, Picked, Request, Verdict
from curri.errors import InvalidParameter
from curri.parameters import declared
from curri.registry import COMPOSED

if TYPE_CHECKING:
    from curri.columns import PromptColumns
    from curri.curricula.evidence import Evidence, Groups
    from curri.parameters import Parameter
    from curri.state import State
    from curri.types import Floats, Ints

WITHIN = "within_"
"""Parameters of the second strategy have this before their name."""

_ARMS, _PROMPTS = "arms.", "prompts."
_LENT = ("pool", "_rng", "_buffer", "_rounds_asked", "_rounds_closed", "_fallbacks")


@cache
def within(outer: type[Curriculum], inner: type[Curriculum]) -> type[Curriculum]:
    """The strategy that takes each arm's share from ``outer`` and the prompts inside the arm from ``inner``.

    Its parameters are those of every strategy, those of ``outer``, and those of ``inner`` with ``within_`` before their
    names. Both learn from the same rollouts. Probes, top-ups and verdicts are those of ``inner``.

    Raises:
        InvalidParameter: one of them is itself composed.

    >>> from curri import PromptPool
    >>> from curri.curricula import UCB, Uniform
    >>> both = within(UCB, Uniform)
    >>> both.name, both(PromptPool(range(9), list("abc") * 3), temperature=0.5).ask(6).prompt_ids.size
    ('ucb/uniform', 6)
    """
    for part in (outer, inner):
        if issubclass(part, Composed):
            raise InvalidParameter(f'"{part.name}" is composed already; only two plain strategies can be put together')
    fields = _parameters(outer, inner)
    namespace: dict[str, Any] = {
        name: dataclasses.field(default=parameter.default, kw_only=True, metadata={"curri": parameter})
        for name, parameter in fields.items()
    }
    namespace |= {
        "__module__": __name__,
        "__qualname__": f"{outer.__name__}Then{inner.__name__}",
        "__doc__": f"Arms by `{outer.name}`, prompts inside an arm by `{inner.name}`.",
        "__annotations__": dict.fromkeys(fields, Any),
        "name": f"{outer.name}{COMPOSED}{inner.name}",
        "summary": f"arms by {outer.name}, prompts inside an arm by {inner.name}",
        "source": f"{outer.source}; {inner.source}",
        "tags": _tags(outer, inner),
        "cursors": frozenset(
            {_ARMS + cursor for cursor in outer.cursors} | {_PROMPTS + cursor for cursor in inner.cursors}
        ),
        "outer": outer,
        "inner": inner,
    }
    return type(namespace["__qualname__"], (Composed,), namespace)


def _parameters(outer: type[Curriculum], inner: type[Curriculum]) -> dict[str, Parameter]:
    """Those of ``outer``, those of ``inner`` with their prefix, and those of all strategies that one declares anew."""
    shared = declared(Curriculum)
    fields = {name: parameter for name, parameter in declared(outer).items() if parameter != shared.get(name)}
    for name, parameter in declared(inner).items():
        if name not in shared:
            fields[WITHIN + name] = parameter
        elif parameter != shared[name]:
            fields[name] = parameter
    return fields


def _tags(outer: type[Curriculum], inner: type[Curriculum]) -> frozenset[str]:
    """What the second can, and what either needs; its prompts come by a quota, so they are always distinct."""
    needed = {"texts", "responses", "inexact_resume"}
    return frozenset((inner.tags - {"replacement", "deterministic"}) | (outer.tags & needed))


class Composed(Curriculum):
    """What all composed strategies have in common; made by :func:`within`.

    The parts are lent the whole's pool, generator, buffer and counters before each call, and write their per-prompt
    state into its columns, under "arms." and "prompts.".
    """

    outer: ClassVar[type[Curriculum]]
    inner: ClassVar[type[Curriculum]]

    def _pick(self, request: Request) -> Picked:
        prompts = self._lend(self._prompts, _PROMPTS)
        if request.quota is not None or request.kind == "probe":
            return prompts._pick(request)
        counts = self._lend(self._arms, _ARMS)._arm_counts(request)
        picked = prompts._pick(dataclasses.replace(request, quota=counts))
        return dataclasses.replace(picked, probability=np.full(picked.rows.size, np.nan))

    def _arm_mass(self, request: Request) -> Floats:
        return self._lend(self._arms, _ARMS)._arm_mass(request)

    def _expect_quota(self) -> None:
        self._lend(self._arms, _ARMS)._expect_quota()

    def _receive(self, rows: Ints) -> Picked:
        return self._lend(self._prompts, _PROMPTS)._receive(rows)

    def _more(self, round_: int, told: Evidence) -> Picked | None:
        return self._lend(self._prompts, _PROMPTS)._more(round_, told)

    def _judge(self, groups: Groups, evidence: Evidence) -> Verdict:
        return self._lend(self._prompts, _PROMPTS)._judge(groups, evidence)

    def _fold(self, evidence: Evidence) -> None:
        for part, prefix in self._parts():
            self._lend(part, prefix)._fold(evidence)

    def __getattr__(self, name: str) -> Any:
        """What only one of the parts can, such as ``probes_due`` or ``arm_weights``; the second is asked first."""
        if not name.startswith("_"):
            for part, prefix in reversed(self._parts()):
                if hasattr(part, name):
                    return getattr(self._lend(part, prefix), name)
        raise AttributeError(f"`{type(self).__name__}` has no attribute `{name}`")

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _column_defaults(self) -> dict[str, np.generic]:
        if not hasattr(self, "_arms"):
            self._build()
        return {
            prefix + name: value for part, prefix in self._parts() for name, value in part._column_defaults().items()
        }

    def _build(self) -> None:
        shared = {name: getattr(self, name) for name in ("seed", "group_size")}
        plain = declared(Curriculum)
        mine = {name: getattr(self, name) for name in declared(self.outer) if name not in plain}
        theirs = {name: getattr(self, WITHIN + name) for name in declared(self.inner) if name not in plain}
        self._arms = self.outer(self.pool, **shared, **mine)
        self._prompts = self.inner(self.pool, **shared, **theirs)

    def _set_up(self) -> None:
        for part, prefix in self._parts():
            self._lend(part, prefix)._set_up()

    def _parts(self) -> list[tuple[Curriculum, str]]:
        return [(self._arms, _ARMS), (self._prompts, _PROMPTS)]

    def _lend(self, part: Curriculum, prefix: str) -> Curriculum:
        for name in _LENT:
            setattr(part, name, getattr(self, name))
        part._columns = _Prefixed(self._columns, prefix)  # type: ignore[assignment]  # what a part may use of columns
        return part

    def _own_state(self) -> State:
        return {prefix + name: value for part, prefix in self._parts() for name, value in part._own_state().items()}

    def _load_own_state(self, state: State) -> None:
        # If a part refuses its state, the base class goes back to the parts that were there before.
        self._arms, self._prompts = copy.copy(self._arms), copy.copy(self._prompts)
        for part, prefix in self._parts():
            own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            self._lend(part, prefix)._load_own_state(own)

    def _own_metrics(self) -> dict[str, float]:
        return {
            f"{prefix[:-1]}/{name}": value
            for part, prefix in self._parts()
            for name, value in self._lend(part, prefix)._own_metrics().items()
        }

    def _explain(self, row: int) -> dict[str, Any]:
        return {prefix[:-1]: self._lend(part, prefix)._explain(row) for part, prefix in self._parts()}


class _Prefixed:
    """Some columns of a strategy, under names without their prefix."""

    def __init__(self, columns: PromptColumns, prefix: str) -> None:
        self._columns, self._prefix = columns, prefix

    def __len__(self) -> int:
        return len(self._columns)

    def __getitem__(self, name: str) -> Any:
        return self._columns[self._prefix + name]

    @property
    def names(self) -> tuple[str, ...]:
        mine = (name for name in self._columns.names if name.startswith(self._prefix))
        return tuple(name.removeprefix(self._prefix) for name in mine)

    def write(self, rows: Ints, **values: Any) -> None:
        self._columns.write(rows, **{self._prefix + name: value for name, value in values.items()})
