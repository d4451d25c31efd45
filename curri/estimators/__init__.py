"""Rollouts to beliefs: what is known of a prompt or an arm. Arrays in, arrays out."""

from __future__ import annotations

from curri.estimators.advantage_window import AdvantageWindow
from curri.estimators.advantages import group_advantages
from curri.estimators.pass_rate import PassRate
from curri.estimators.ucb import ucb_scores

__all__ = ["AdvantageWindow", "PassRate", "group_advantages", "ucb_scores"]
