"""Rollouts to beliefs: what is known of a prompt or an arm. Arrays in, arrays out."""

from __future__ import annotations

from curri.estimators.advantage_window import AdvantageWindow
from curri.estimators.advantages import group_advantages
from curri.estimators.arm_level import ArmLevels
from curri.estimators.beta_fit import arm_priors, arm_spreads, fit_beta
from curri.estimators.decayed_pass_rate import DecayedPassRate
from curri.estimators.diversity import distinct_n, mean_edit_distance, self_bleu
from curri.estimators.drifting_logit import (
    Drift,
    LogitUpdate,
    bounded,
    expected_live_gains,
    expected_pass_rate,
    update_logit,
)
from curri.estimators.first_contact import FirstContact, prior_logit
from curri.estimators.informativeness import (
    INFORMATIVENESS,
    group_informativeness,
    informativeness,
    informativeness_weights,
    topic_blend,
)
from curri.estimators.pass_rate import PassRate
from curri.estimators.pool_baseline import pool_baseline_advantages
from curri.estimators.promotion import momentum_weights, outcome_variance, variance_promotion_weights
from curri.estimators.score_table import ScoreTable
from curri.estimators.scores import RateScore, beta_below, expected_rate_score, rate_score, rate_score_range
from curri.estimators.ucb import ucb_scores
from curri.estimators.value_accuracy import effective_ratio, explained_variance, rollout_equivalent

__all__ = [
    "INFORMATIVENESS",
    "AdvantageWindow",
    "ArmLevels",
    "DecayedPassRate",
    "Drift",
    "FirstContact",
    "LogitUpdate",
    "PassRate",
    "RateScore",
    "ScoreTable",
    "arm_priors",
    "arm_spreads",
    "beta_below",
    "bounded",
    "distinct_n",
    "effective_ratio",
    "expected_live_gains",
    "expected_pass_rate",
    "expected_rate_score",
    "explained_variance",
    "fit_beta",
    "group_advantages",
    "group_informativeness",
    "informativeness",
    "informativeness_weights",
    "mean_edit_distance",
    "momentum_weights",
    "outcome_variance",
    "pool_baseline_advantages",
    "prior_logit",
    "rate_score",
    "rate_score_range",
    "rollout_equivalent",
    "self_bleu",
    "topic_blend",
    "ucb_scores",
    "update_logit",
    "variance_promotion_weights",
]
