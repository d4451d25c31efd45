"""Rollouts to beliefs: what is known of a prompt or an arm. Arrays in, arrays out."""

from __future__ import annotations

from curri.estimators.advantage_window import AdvantageWindow
from curri.estimators.advantages import group_advantages
from curri.estimators.informativeness import (
    INFORMATIVENESS,
    group_informativeness,
    informativeness,
    informativeness_weights,
    topic_blend,
)
from curri.estimators.pass_rate import PassRate
from curri.estimators.ucb import ucb_scores

__all__ = [
    "INFORMATIVENESS",
    "AdvantageWindow",
    "PassRate",
    "group_advantages",
    "group_informativeness",
    "informativeness",
    "informativeness_weights",
    "topic_blend",
    "ucb_scores",
]
