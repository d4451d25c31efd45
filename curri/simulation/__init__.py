"""Simulated learners: for demonstrations, tests and ablations, never the evidence for a claim about real models."""

from __future__ import annotations

from curri.simulation.learner import SimulatedLearner

__all__ = ["SimulatedLearner"]
