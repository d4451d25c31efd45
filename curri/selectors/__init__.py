"""Beliefs to picks: who is drawn, by which weight, with which probability. Arrays in, arrays out."""

from __future__ import annotations

from curri.selectors.arm_counts import capped_shares, replacement_counts, successive_counts, systematic_counts
from curri.selectors.best import best_rows
from curri.selectors.budgets import greedy_budget, gvm_budget, gvm_shares, inverse_rate_budget, padded_counts
from curri.selectors.constraints import bounded_shares, overdue_rows
from curri.selectors.exact_quotas import ExactQuotas
from curri.selectors.hashing import stable_hash
from curri.selectors.nearest import nearest
from curri.selectors.picker import Draw, DrawMethod, WeightedPicker
from curri.selectors.refill import LiveShare, RefillBatch, RefillPlan, RefillPlanner, oversampling_factor
from curri.selectors.softmax import softmax
from curri.selectors.successive_elimination import (
    EliminationCost,
    EliminationGroup,
    EliminationRule,
    SuccessiveElimination,
    elimination_cost,
)
from curri.selectors.sum_tree import SumTree
from curri.selectors.weighted_without_replacement import weighted_without_replacement
from curri.selectors.within_arm import uniform_rows

__all__ = [
    "Draw",
    "DrawMethod",
    "EliminationCost",
    "EliminationGroup",
    "EliminationRule",
    "ExactQuotas",
    "LiveShare",
    "RefillBatch",
    "RefillPlan",
    "RefillPlanner",
    "SuccessiveElimination",
    "SumTree",
    "WeightedPicker",
    "best_rows",
    "bounded_shares",
    "capped_shares",
    "elimination_cost",
    "greedy_budget",
    "gvm_budget",
    "gvm_shares",
    "inverse_rate_budget",
    "nearest",
    "overdue_rows",
    "oversampling_factor",
    "padded_counts",
    "replacement_counts",
    "softmax",
    "stable_hash",
    "successive_counts",
    "systematic_counts",
    "uniform_rows",
    "weighted_without_replacement",
]
