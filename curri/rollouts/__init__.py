"""What makes prompts and responses: creators."""

from __future__ import annotations

from curri.rollouts.gym_creator import GymCreator

__all__ = ["GymCreator"]
