"""What makes prompts and responses and what scores them: engines, the cache, verifiers, creators."""

from __future__ import annotations

from curri.rollouts.engines import ENGINES, OpenAIEngine, SimulatedEngine, VLLMEngine
from curri.rollouts.generation import (
    AdaptiveCost,
    Elimination,
    GenerationProgress,
    GenerationReport,
    generate,
)
from curri.rollouts.gym_creator import GymCreator
from curri.rollouts.llm_creator import LLMCreator
from curri.rollouts.verifiers import VerifierPool

__all__ = [
    "ENGINES",
    "AdaptiveCost",
    "Elimination",
    "GenerationProgress",
    "GenerationReport",
    "GymCreator",
    "LLMCreator",
    "OpenAIEngine",
    "SimulatedEngine",
    "VLLMEngine",
    "VerifierPool",
    "generate",
]
