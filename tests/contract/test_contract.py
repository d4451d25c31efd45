"""Every registered strategy keeps the contract."""

from __future__ import annotations

from importlib.util import find_spec
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
    Case(strategy("ucb"), {"cooldown": 2, "arm_floor": 0.1, "arm_cap": 0.5, "revisit_after": 3}),
    Case(strategy("uniform"), {"cooldown": 1, "revisit_after": 4, "revisit_share": 0.5}),
    Case(strategy("ucb/uniform"), {"temperature": 0.5}),
]


NEEDS_TORCH = {"pcl"} if find_spec("torch") is None else set()
NAMES = [name for name in strategy_names() if name not in NEEDS_TORCH]


@parametrize([*(Case(strategy(name)) for name in NAMES), *VARIANTS])
def test_contract(check: Check) -> None:
    check()
