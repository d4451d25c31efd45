"""What generates responses: engines, all with the one contract of :class:`curri.types.Engine`."""

from __future__ import annotations

from curri.rollouts.engines.openai import OpenAIEngine
from curri.rollouts.engines.simulated import SimulatedEngine
from curri.rollouts.engines.vllm import VLLMEngine

ENGINES = ("openai", "vllm", "simulated")
"""Names of the engines that come with curri."""

__all__ = ["ENGINES", "OpenAIEngine", "SimulatedEngine", "VLLMEngine"]
