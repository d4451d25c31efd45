"""Everything that is known about mixtures after some runs, as one plain JSON document."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from curri._version import __version__
from curri.mixtures import exhaustion, replicate_noise, total_variation
from curri.reports.blocks import decimals_for
from curri.reports.documents import fingerprint, finite
from curri.reports.landscape import curves, effect_table, slices, trade_offs
from curri.reports.paper import paper_or_reason
from curri.reports.proposals import proposals
from curri.reports.wording import WIDTH, headline, lead

if TYPE_CHECKING:
    from collections.abc import Mapping

    from curri.exchange.mixture_runs import RunsFile
    from curri.mixtures import Target
    from curri.reports.study import Study
    from curri.types import Floats

__all__ = ["describe_target", "finite", "mixture_report", "recommendation_part"]

FORMAT = "curri mixture report 1"
LEVEL = 0.9
"""Of every interval: WIDTH standard deviations to either side."""

_NEAR = 0.05
_NEAR_SHOWN = 5


def mixture_report(
    study: Study, source: RunsFile, settings: Mapping[str, Any], *, paper: bool = False
) -> dict[str, Any]:
    """Collect what the page, the text and ``--json`` show.

    Args:
        study: runs, targets and limits; what is not fitted yet is fitted.
        source: where the runs come from.
        settings: what the user asked for, plain JSON, kept with the document.
        paper: add what MoDoMoDo's Algorithm 4 and its heuristics say.

    Returns:
        A document of plain JSON; numbers that do not exist are null.
    """
    report = recommendation_part(study)
    study.tell(0, None, "describing what was found")
    more: dict[str, Any] = {
        "effects": effect_table(study),
        "curves": curves(study),
        "slices": slices(study),
        "tradeoff": trade_offs(study),
        "noise": _noise(study),
        "next": proposals(study),
        "data": _data(study, source),
        "settings": dict(settings),
        "paper": paper_or_reason(study) if paper else None,
    }
    report.update(finite(more))
    report["fingerprint"] = _fingerprint(report)
    return report


def recommendation_part(study: Study) -> dict[str, Any]:
    """The part of the document that says what to train on: what ``curri mix optimize`` shows."""
    found = study.recommendation
    report: dict[str, Any] = finite(
        {
            "format": FORMAT,
            "curri": __version__,
            "arms": list(study.runs.arms),
            "level": LEVEL,
            "targets": [describe_target(study, target) for target in study.everything],
            "recommendation": {
                "source": found.source,
                "run": found.run,
                "weights": study.by_arm(found.weights),
                "reason": found.reason,
                "guard": study.guard,
                "threshold": found.threshold,
                "to_beat": found.smoothed,
                "measured_mean": found.measured_mean,
                "measured_runs": found.measured_runs,
            },
            "mixtures": _mixtures(study),
            "gains": _gains(study),
            "limits": _limits(study),
        }
    )
    return {"headline": headline(report), "lead": lead(report), **report}


def _fingerprint(report: Mapping[str, Any]) -> str:
    """SHA-256 of data, settings and version: the same one, the same report."""
    return fingerprint({"data": report["data"]["sha256"], "settings": report["settings"], "curri": report["curri"]})


# --- targets ----------------------------------------------------------------------------------------------------------


def describe_target(study: Study, target: Target) -> dict[str, Any]:
    """What is known of a target: its scores, the fit, how well left-out runs are predicted, its noise."""
    quality, noise = study.fits.quality(target), study.fits.noise(target)
    scores = study.fits.measured(target)
    known = scores[np.isfinite(scores)]
    spread = float(known.std()) if len(known) else math.nan
    return {
        "name": target.name,
        "formula": target.formula,
        "parts": dict(target.parts),
        "lower": target.lower,
        "role": study.role(target),
        "decimals": decimals_for(spread),
        "measured": {
            "runs": len(known),
            "min": float(known.min()) if len(known) else None,
            "max": float(known.max()) if len(known) else None,
            "mean": float(known.mean()) if len(known) else None,
            "std": spread,
            "error": _standard_error(study, target),
        },
        "surrogates": {part: _surrogate(study, part) for part in target.parts},
        "quality": {
            "runs": quality.runs,
            "r2": quality.r2,
            "spearman": quality.spearman,
            "rmse": quality.rmse,
            "log_density": quality.log_density,
            "coverage": {f"{level:g}": share for level, share in quality.coverage.items()},
        },
        "noise": {"std": noise.std, "degrees": noise.degrees, "source": noise.source},
        "left_out": _left_out(study, target),
    }


def _standard_error(study: Study, target: Target) -> float | None:
    """Median standard error of the target's runs where all its parts have them; parts count as independent."""
    squares = np.zeros(len(study.runs))
    for part, coefficient in target.parts.items():
        errors = study.runs.standard_errors(part)
        if errors is None:
            return None
        squares += (coefficient * errors) ** 2
    return float(np.sqrt(np.median(squares)))


def _surrogate(study: Study, part: str) -> dict[str, Any]:
    described = study.fits.surrogates[part].describe()
    return {key: described[key] for key in ("name", "mixtures", "chosen", "shares", "value") if key in described}


def _left_out(study: Study, target: Target) -> list[dict[str, Any]]:
    scores, means, stds = study.fits.leave_one_out(target)
    return [
        {
            "run": study.runs.names[row],
            "measured": float(scores[row]),
            "predicted": float(means[row]),
            "half": float(WIDTH * stds[row]),
        }
        for row in np.flatnonzero(np.isfinite(scores) & np.isfinite(means)).tolist()
    ]


# --- mixtures ---------------------------------------------------------------------------------------------------------


def _references(study: Study) -> list[tuple[str, Floats]]:
    """What the recommended mixture is compared with."""
    found = study.recommendation
    named = [("best measured", found.best_measured.weights)] if found.source == "candidate" else []
    named += [("natural", study.natural)] if study.natural is not None else []
    return [*named, ("uniform", np.full(study.runs.m, 1.0 / study.runs.m))]


def _mixtures(study: Study) -> list[dict[str, Any]]:
    """The recommended mixture, what to compare it with, and the other candidates."""
    found = study.recommendation
    rows = [_mixture(study, "recommended", "recommended", found.weights)]
    rows += [_mixture(study, name, "reference", weights) for name, weights in _references(study)]
    others = [each for each in found.candidates if not np.allclose(each.weights, found.weights, atol=1e-9)]
    rows += [
        _mixture(study, f"candidate {place}", "candidate", each.weights) for place, each in enumerate(others, start=1)
    ]
    return rows


def _mixture(study: Study, name: str, kind: str, weights: Floats) -> dict[str, Any]:
    away = total_variation(weights, study.runs.distinct)[0]
    return {
        "name": name,
        "kind": kind,
        "weights": study.by_arm(weights),
        "allowed": bool(study.allowed.allow(weights)[0]),
        "run": study.runs.row_name(weights),
        "nearest": study.runs.row_name(study.runs.distinct[int(away.argmin())]),
        "distance": float(away.min()),
        "penalty": float(study.allowed.penalty(weights)[0]),
        "training": _training(study, weights),
        "predictions": {target.name: _prediction(study, target, weights) for target in study.everything},
    }


def _prediction(study: Study, target: Target, weights: Floats) -> dict[str, Any]:
    means, stds = study.fits.predict(target, weights)
    mean, half = float(means[0]), WIDTH * float(stds[0])
    scores = study.fits.measured(target)
    same = np.abs(study.runs.weights - weights).max(axis=1) < 1e-7
    measured = scores[same & np.isfinite(scores)]
    gain, deviation = study.difference(target, weights, study.recommendation.best_measured.weights)
    return {
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "gain": gain,
        "gain_std": deviation,
        "measured": float(measured.mean()) if len(measured) else None,
        "measured_runs": len(measured),
    }


def _gains(study: Study) -> dict[str, dict[str, dict[str, float]]]:
    """Reference → target → by how much the recommended mixture is predicted to be better."""
    chosen = study.recommendation.weights
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, weights in _references(study):
        found[name] = {}
        for target in study.everything:
            gain, deviation = study.difference(target, chosen, weights)
            found[name][target.name] = {"gain": gain, "std": deviation, "better": _probability(gain, deviation)}
    return found


def _probability(gain: float, std: float) -> float:
    """Of a normal difference to be above 0."""
    if std <= 0.0:
        return 0.5 if gain == 0.0 else float(gain > 0.0)
    return 0.5 * math.erfc(-gain / std / math.sqrt(2.0))


def _training(study: Study, weights: Floats) -> dict[str, Any] | None:
    """How often each dataset would be gone through, and which runs out first; None where that is not known."""
    limits, arms = study.limits, study.runs.arms
    if limits.prompts is None or not limits.sizes:
        return None
    sizes = np.array([limits.sizes.get(arm, math.inf) for arm in arms])
    found = exhaustion(weights, sizes, 1, limits.prompts).epochs[0]
    return {
        "epochs": {arm: float(each) for arm, each, held in zip(arms, found, sizes, strict=True) if math.isfinite(held)},
        "first": arms[int(np.argmax(found))],
        "most": float(found.max()),
    }


def _limits(study: Study) -> dict[str, Any]:
    limits, allowed = study.limits, study.allowed
    natural = study.natural
    return {
        "lower": study.by_arm(allowed.lower),
        "upper": study.by_arm(allowed.upper),
        "natural": None if natural is None else study.by_arm(natural),
        "kl": limits.kl,
        "radius": limits.radius,
        "max_epochs": limits.max_epochs,
        "prompts": limits.prompts,
        "sizes": dict(limits.sizes) or None,
    }


# --- noise and data ---------------------------------------------------------------------------------------------------


def _noise(study: Study) -> dict[str, Any]:
    """Replicates, and pairs of runs that are nearly replicates, by the deciding target and all others."""
    runs = study.runs
    counts = np.bincount(runs.mixture)
    groups = []
    for group in np.flatnonzero(counts > 1).tolist():
        rows = np.flatnonzero(runs.mixture == group)
        groups.append(
            {
                "runs": [runs.names[row] for row in rows],
                "scores": {target.name: study.fits.measured(target)[rows].tolist() for target in study.everything},
            }
        )
    found = {}
    for target in study.everything:
        noise = replicate_noise(study.fits.measured(target), runs.mixture)
        found[target.name] = None if noise is None else {"std": noise.std, "degrees": noise.degrees}
    return {"replicates": groups, "pooled": found, "near": _near_pairs(study)}


def _near_pairs(study: Study) -> list[dict[str, Any]]:
    """Runs whose mixtures nearly are the same: how differently they scored is mostly noise."""
    scores = study.fits.measured(study.deciding)
    rows = np.flatnonzero(np.isfinite(scores))
    away = total_variation(study.runs.weights[rows], study.runs.weights[rows])
    first, second = np.nonzero(np.triu((away <= _NEAR) & (away > 1e-7), k=1))
    order = np.argsort(away[first, second], kind="stable")[:_NEAR_SHOWN]
    return [
        {
            "runs": [study.runs.names[rows[first[pair]]], study.runs.names[rows[second[pair]]]],
            "distance": float(away[first[pair], second[pair]]),
            "scores": [float(scores[rows[first[pair]]]), float(scores[rows[second[pair]]])],
        }
        for pair in order.tolist()
    ]


def _data(study: Study, source: RunsFile) -> dict[str, Any]:
    runs = study.runs
    columns = list(dict.fromkeys(part for target in study.everything for part in target.parts))
    return {
        "sources": list(source.sources),
        "sha256": source.digest,
        "runs": len(runs),
        "mixtures": len(runs.distinct),
        "notes": list(source.notes),
        "names": list(runs.names),
        "weights": runs.weights.round(10).tolist(),
        "scores": {column: runs.scores(column).tolist() for column in columns},
    }
