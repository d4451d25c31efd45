"""The sentences of a mixture report, built from its numbers."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from curri.reports.blocks import fixed, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WIDTH", "deciding", "headline", "lead", "mixture_in_words", "named", "quoted", "trust_in_words"]

SHOWN = 6
"""Arms of a mixture that are named in a sentence."""
_LEAST = 0.005
_LONGEST = 40
WIDTH = NormalDist().inv_cdf(0.95)
"""Standard deviations to either side that hold 90 % of a normal distribution."""


def headline(report: Mapping[str, Any]) -> str:
    """The recommendation in one sentence, with its uncertainty."""
    target, chosen = deciding(report), named(report, "recommended")
    mix = mixture_in_words(chosen["weights"])
    if len(report["arms"]) == 1:
        return f"There is only one dataset, {report['arms'][0]}, so there is nothing to mix."
    if _alike(target):
        same = score(target, target["measured"]["mean"])
        return f"All runs scored the same in {quoted(target['name'])}, {same}: nothing tells one mixture from another."
    if report["recommendation"]["source"] == "candidate":
        return f"Train on {mix}: {_predicted(report, target, chosen)}."
    return f"Stay with what was measured: {mix}{_measured(report, target)}."


def _alike(target: Mapping[str, Any]) -> bool:
    measured = target["measured"]
    return bool(measured["runs"] > 1 and measured["min"] == measured["max"])


def _predicted(report: Mapping[str, Any], target: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    found = chosen["predictions"][target["name"]]
    low, high = (score(target, found[key]) for key in ("low", "high"))
    gain, give = score(target, abs(found["gain"])), score(target, WIDTH * found["gain_std"])
    return (
        f"predicted {quoted(target['name'])} {score(target, found['mean'])} ({percent(report['level'], 0).text} of "
        f"such runs between {low} and {high}), better than the best measured mixture by {gain} ± {give}"
    )


def _measured(report: Mapping[str, Any], target: Mapping[str, Any]) -> str:
    found = report["recommendation"]
    runs = found["measured_runs"]
    noise = target["noise"]["std"]
    if found["run"] is None:
        return (
            ", the allowed mixture nearest to a measured one; no prediction is better by more than the noise, and "
            "this very mixture was not measured"
        )
    give = "" if noise is None else f" ± {score(target, WIDTH * noise / max(1, runs) ** 0.5)}"
    times = "" if runs == 1 else f" in {runs} runs"
    return (
        f" ({quoted(found['run'])}), which scored {score(target, found['measured_mean'])}{give} in "
        f"{quoted(target['name'])}{times}; no prediction beats it by more than the noise"
    )


def lead(report: Mapping[str, Any]) -> list[str]:
    """What goes with the headline: why, how far to trust it, and what it lacks."""
    if len(report["arms"]) == 1:
        return ["A mixture needs two datasets at least. What was measured stands below."]
    target, chosen = deciding(report), named(report, "recommended")
    if _alike(target):
        whose = quoted(str(report["recommendation"]["run"]))
        shown = (
            f"The mixture shown is that of {whose}, the first of the allowed ones; by this target others are as good."
        )
        return [f"{shown} A score that moves with the mixture is needed to choose one."]
    reason = report["recommendation"]["reason"]
    first = [reason] if "eft-out runs" in reason else [reason, trust_in_words(target)]
    second = [_noise_in_words(target)]
    if report["recommendation"]["source"] == "candidate":
        second.append(
            f"The mixture differs from the nearest measured one, {quoted(str(chosen['nearest']))}, in "
            f"{percent(chosen['distance'], 0).text} of the training prompts."
        )
    elif min(each["mixtures"] for each in target["surrogates"].values()) > 2:
        second.append(
            f"The best of {target['measured']['runs']} scores is partly luck: run it again before building on it."
        )
    training = chosen["training"]
    if training is not None and training["most"] is not None and training["most"] > 1.0:
        second.append(
            f"Training would go through {quoted(training['first'])} {training['most']:.1f} times: compare it with runs "
            "that repeat it as often."
        )
    return [" ".join(first), " ".join(second)]


def trust_in_words(target: Mapping[str, Any]) -> str:
    """How well runs are predicted that the surrogate did not see."""
    r2 = target["quality"]["r2"]
    if r2 is None:
        return "How well left-out runs are predicted cannot be told."
    how = "well" if r2 >= 0.8 else "roughly" if r2 >= 0.4 else "poorly" if r2 > 0.0 else "no better than by their mean"
    rank = target["quality"]["spearman"]
    beside = "" if rank is None else f", rank correlation {number(rank)}"
    return f"Runs that were left out of the fit are predicted {how} (R² {number(r2)}{beside})."


def _noise_in_words(target: Mapping[str, Any]) -> str:
    noise = target["noise"]
    if noise["source"] == "replicates":
        degrees = noise["degrees"]
        return (
            f"The same mixture differs by {score(target, noise['std'])} from run to run (one standard deviation; "
            f"{degrees} degree{'s' if degrees > 1 else ''} of freedom)."
        )
    return (
        f"No mixture was run twice, so that one run differs from the next by {score(target, noise['std'])} is only "
        "what the surrogate could not explain."
    )


def mixture_in_words(weights: Mapping[str, float], shown: int = SHOWN) -> str:
    r"""Shares in percent, the largest first.

    >>> mixture_in_words({"math": 0.25, "code": 0.75}).replace("\u00a0", " ")
    '75 % code, 25 % math'
    """
    if len(weights) > 2 and max(weights.values()) - min(weights.values()) < 1e-9:
        return f"{_share(1.0 / len(weights))} of each"
    largest = sorted(weights.items(), key=lambda pair: -pair[1])
    named_arms = [(arm, weight) for arm, weight in largest if weight >= _LEAST][:shown]
    words = [f"{_share(weight)} {quoted(arm) if {',', ' '} & set(arm) else _short(arm)}" for arm, weight in named_arms]
    rest = [weight for arm, weight in largest if weight > 0.0][len(named_arms) :]
    if sum(rest) >= _LEAST:
        words.append(f"{_share(sum(rest))} in {len(rest)} other{'s' if len(rest) > 1 else ''}")
    return ", ".join(words)


def _share(weight: float) -> str:
    return percent(weight, 0 if abs(100 * weight - round(100 * weight)) < 0.05 else 1).text


def deciding(report: Mapping[str, Any]) -> dict[str, Any]:
    """The target that decides."""
    first: dict[str, Any] = report["targets"][0]
    return first


def named(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The mixture of that name."""
    return next(mixture for mixture in report["mixtures"] if mixture["name"] == name)


def score(target: Mapping[str, Any], value: float | None, *, sign: bool = False) -> str:
    """A score of a target, with the decimals that matter."""
    return fixed(value, target["decimals"], sign=sign).text


def probability(value: float | None) -> str:
    r"""A probability in percent that is never certain.

    >>> probability(0.9999).replace("\u00a0", " "), probability(0.5).replace("\u00a0", " ")
    ('over 99 %', '50 %')
    """
    if value is None:
        return "–"
    if value > 0.99:
        return f"over {percent(0.99, 0).text}"
    return f"under {percent(0.01, 0).text}" if value < 0.01 else percent(value, 0).text


def formula_in_words(target: Mapping[str, Any]) -> str:
    """What a target is a sum of.

    >>> formula_in_words({"parts": {"a": 0.5, "b": 0.5}}), formula_in_words({"parts": {"a": 0.3, "b": -1.0}})
    ('the mean of a, b', '0.3 a − 1 b')
    """
    parts = target["parts"]
    coefficients = list(parts.values())
    if all(abs(each * len(parts) - 1.0) < 1e-9 for each in coefficients):
        return f"the mean of {', '.join(parts)}"
    words = "".join(f" {'−' if each < 0.0 else '+'} {abs(each):.4g} {name}" for name, each in parts.items())
    return words.removeprefix(" + ").strip()


def number(value: float | None) -> str:
    """A number around one."""
    return fixed(value, 2).text


def quoted(name: str) -> str:
    """A name in quotation marks, shortened where it is very long.

    >>> quoted("a")
    '“a”'
    """
    return f"“{_short(name)}”"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
