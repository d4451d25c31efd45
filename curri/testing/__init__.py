"""Contract suites, for strategies of curri and of other packages; see :mod:`curri.testing.contract`."""

from __future__ import annotations

from curri.testing.case import BrokenContract, Case
from curri.testing.contract import Check, Result, parametrize, run_checks, strategy_checks

__all__ = ["BrokenContract", "Case", "Check", "Result", "parametrize", "run_checks", "strategy_checks"]
