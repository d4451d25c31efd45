"""Contract suites, for strategies and for trainer adapters, of curri and of other packages.

See :mod:`curri.testing.contract` and :mod:`curri.testing.adapters`.
"""

from __future__ import annotations

from curri.testing.adapters import (
    AdapterCase,
    AdapterCheck,
    Session,
    Setting,
    adapter_checks,
    parametrize_adapters,
    run_adapter_checks,
)
from curri.testing.case import BrokenContract, Case
from curri.testing.contract import Check, Result, parametrize, run_checks, strategy_checks

__all__ = [
    "AdapterCase",
    "AdapterCheck",
    "BrokenContract",
    "Case",
    "Check",
    "Result",
    "Session",
    "Setting",
    "adapter_checks",
    "parametrize",
    "parametrize_adapters",
    "run_adapter_checks",
    "run_checks",
    "strategy_checks",
]
