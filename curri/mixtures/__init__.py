"""Offline dataset mixtures: seed designs, surrogates of the score of a mixture, and the optimiser over them.

The way through: :func:`make_design` says which runs to make, :class:`Runs` holds what came out, :func:`fit` learns from
it, :func:`recommend` says what to train on and why, :func:`trade_off` and :func:`effects` show the rest. Arrays in,
arrays out; importable with NumPy alone. SciPy (Gaussian processes, exponential laws) and LightGBM are imported when a
surrogate needs them.
"""

from __future__ import annotations

from curri.mixtures.budget import Exhaustion, exhaustion, weight_caps
from curri.mixtures.constraints import Constraints, constraints
from curri.mixtures.design import Design, DesignMethod, dirichlet_design, make_design, seed_design, space_filling
from curri.mixtures.effects import Effects, arm_path, effects, next_runs
from curri.mixtures.fits import Fits, fit
from curri.mixtures.heuristics import alpha_family, coli_weights, leave_one_out_weights
from curri.mixtures.laws import aioli_update, bimix_law, data_mixing_law
from curri.mixtures.noise import Noise, replicate_noise
from curri.mixtures.paper import PaperSearch, paper_search
from curri.mixtures.plan import Need, plan_runs
from curri.mixtures.quadratics import quadratic_optimum
from curri.mixtures.quality import Quality, quality_of
from curri.mixtures.recommend import Candidate, Recommendation, candidates, recommend
from curri.mixtures.runs import Runs
from curri.mixtures.simplex import Metric, hellinger, kl_divergence, project, total_variation
from curri.mixtures.surrogates import SURROGATES, Surrogate, make_surrogate
from curri.mixtures.targets import Target, expanded_parts, parse_target, read_targets
from curri.mixtures.tradeoff import TradeOff, pareto_front, trade_off

__all__ = [
    "SURROGATES",
    "Candidate",
    "Constraints",
    "Design",
    "DesignMethod",
    "Effects",
    "Exhaustion",
    "Fits",
    "Metric",
    "Need",
    "Noise",
    "PaperSearch",
    "Quality",
    "Recommendation",
    "Runs",
    "Surrogate",
    "Target",
    "TradeOff",
    "aioli_update",
    "alpha_family",
    "arm_path",
    "bimix_law",
    "candidates",
    "coli_weights",
    "constraints",
    "data_mixing_law",
    "dirichlet_design",
    "effects",
    "exhaustion",
    "expanded_parts",
    "fit",
    "hellinger",
    "kl_divergence",
    "leave_one_out_weights",
    "make_design",
    "make_surrogate",
    "next_runs",
    "paper_search",
    "pareto_front",
    "parse_target",
    "plan_runs",
    "project",
    "quadratic_optimum",
    "quality_of",
    "read_targets",
    "recommend",
    "replicate_noise",
    "seed_design",
    "space_filling",
    "total_variation",
    "trade_off",
    "weight_caps",
]
