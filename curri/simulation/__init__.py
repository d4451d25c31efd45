"""Simulated learners: for demonstrations, tests and ablations, never the evidence for a claim about real models."""

from __future__ import annotations

from curri.simulation.gain import Claim, Course, Creator, Gain, Scene, measure, play
from curri.simulation.learner import SimulatedLearner

__all__ = ["Claim", "Course", "Creator", "Gain", "Scene", "SimulatedLearner", "measure", "play"]
