"""Every registered strategy keeps the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curri.registry import strategy, strategy_names
from curri.testing import Case, parametrize

if TYPE_CHECKING:
    from curri.testing import Check

VARIANTS = [
    Case(strategy("ucb"), {"draw": "successive"}),
    Case(strategy("ucb"), {"draw": "replacement"}, replacement=True),
    Case(strategy("ucb"), {"count_unit": "prompts", "normalize_std": False}),
    Case(strategy("ucb"), {"temperature": 1e-6, "window": 5, "exploration": 0.0}),
]


@parametrize([*(Case(strategy(name)) for name in strategy_names()), *VARIANTS])
def test_contract(check: Check) -> None:
    check()
