"""The difficulty report: what is too easy, too hard and worth keeping, and what rollouts cost."""

from __future__ import annotations

from curri.reports.difficulty.document import difficulty_report
from curri.reports.difficulty.question import Question, default_group_size, whose

__all__ = ["Question", "default_group_size", "difficulty_report", "whose"]
