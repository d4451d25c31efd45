"""Beliefs to picks: who is drawn, by which weight, with which probability. Arrays in, arrays out."""

from __future__ import annotations

from curri.selectors.arm_counts import capped_shares, replacement_counts, successive_counts, systematic_counts
from curri.selectors.best import best_rows
from curri.selectors.constraints import bounded_shares, overdue_rows
from curri.selectors.hashing import stable_hash
from curri.selectors.picker import Draw, DrawMethod, WeightedPicker
from curri.selectors.softmax import softmax
from curri.selectors.sum_tree import SumTree
from curri.selectors.weighted_without_replacement import weighted_without_replacement
from curri.selectors.within_arm import uniform_rows

__all__ = [
    "Draw",
    "DrawMethod",
    "SumTree",
    "WeightedPicker",
    "best_rows",
    "bounded_shares",
    "capped_shares",
    "overdue_rows",
    "replacement_counts",
    "softmax",
    "stable_hash",
    "successive_counts",
    "systematic_counts",
    "uniform_rows",
    "weighted_without_replacement",
]
