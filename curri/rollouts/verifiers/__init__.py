"""What says whether a response is right, and the processes it runs in."""

from __future__ import annotations

from curri.rollouts.verifiers.base import OptionVerifier
from curri.rollouts.verifiers.pool import VerifierPool
from curri.rollouts.verifiers.specification import VERIFIERS, Weighted, parse_verifier

__all__ = ["VERIFIERS", "OptionVerifier", "VerifierPool", "Weighted", "parse_verifier"]
