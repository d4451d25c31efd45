"""Beliefs to picks: who is drawn, by which weight, with which probability. Arrays in, arrays out."""

from __future__ import annotations

from curri.selectors.arm_counts import capped_shares, replacement_counts, successive_counts, systematic_counts
from curri.selectors.hashing import stable_hash
from curri.selectors.picker import Draw, DrawMethod, WeightedPicker
from curri.selectors.softmax import softmax
from curri.selectors.sum_tree import SumTree
from curri.selectors.within_arm import uniform_rows

__all__ = [
    "Draw",
    "DrawMethod",
    "SumTree",
    "WeightedPicker",
    "capped_shares",
    "replacement_counts",
    "softmax",
    "stable_hash",
    "successive_counts",
    "systematic_counts",
    "uniform_rows",
]
