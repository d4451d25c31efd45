"""Simulated learners: for demonstrations, tests and ablations, never the evidence for a claim about real models."""

from __future__ import annotations

from curri.simulation.gain import Claim, Course, Creator, Gain, Scene, measure, play
from curri.simulation.learner import SimulatedLearner
from curri.simulation.records import Curves, Records, read_counts, stored_counts
from curri.simulation.replay import Entry, RecordedPolicy, Replayed, play_all, play_one
from curri.simulation.replay_summary import ReplaySettings, replay_document

__all__ = [
    "Claim",
    "Course",
    "Creator",
    "Curves",
    "Entry",
    "Gain",
    "RecordedPolicy",
    "Records",
    "ReplaySettings",
    "Replayed",
    "Scene",
    "SimulatedLearner",
    "measure",
    "play",
    "play_all",
    "play_one",
    "read_counts",
    "replay_document",
    "stored_counts",
]
