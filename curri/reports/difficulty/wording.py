"""The sentences of a difficulty report, built from its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curri.reports.blocks import percent
from curri.reports.wording import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["amount", "counted", "headline", "lead", "model_in_words", "plural"]


def headline(report: Mapping[str, Any]) -> str:
    """What matters, in one or two sentences."""
    counts = report["counts"]
    if not counts["prompts"] + counts["retired"]:
        if report["filtered"]:
            return "No training prompt matches the filter, so there is nothing to report on."
        return "The store has no training prompts yet, so there is nothing to report on."
    if not counts["responses"]:
        return (
            f"{plural(counts['prompts'], 'prompt')} in {plural(counts['arms'], 'arm')} and no rollouts yet: how hard "
            "they are is not known."
        )
    return " ".join(filter(None, [_verdict(report), _wasted(report)]))


def _verdict(report: Mapping[str, Any]) -> str:
    counts, verdicts = report["counts"], report["verdicts"]
    size = report["group_size"]["size"]
    if not counts["tried"]:
        return "Every prompt with rollouts is retired."
    numbers = {kind: amount(verdicts[kind]["prompts"]) for kind in ("easy", "hard", "keep", "flat")}
    who = model_in_words(report)
    if counts["tried"] == 1:
        word = max(("easy", "hard", "keep", "flat"), key=lambda kind: verdicts[kind]["prompts"])
        said = {"easy": "too easy", "hard": "too hard", "keep": "worth keeping", "flat": "always rewarded the same"}
        return f"The one prompt that was tried is most likely {said[word]} for {who} at group size {size}."
    if verdicts["flat"]["prompts"] > 0.5 * counts["tried"]:
        return (
            f"Of {counts['tried']:,} prompts tried with {who}, {numbers['keep']} have rewards that differ enough for "
            f"groups of {size}, and {numbers['flat']} have not; which answers are right is not known."
        )
    text = (
        f"Of {counts['tried']:,} prompts tried, {numbers['easy']} are too easy for {who} and {numbers['hard']} too "
        f"hard at group size {size}; {numbers['keep']} are worth keeping"
    )
    if verdicts["flat"]["prompts"] >= 0.5:
        text += f", and {numbers['flat']} are always rewarded the same"
    return text + "."


def _wasted(report: Mapping[str, Any]) -> str:
    signal = report["signal"]
    if signal is None:
        return "No group of two or more responses is in the store."
    share = percent(signal["dead"] / signal["groups"], 0).text
    text = f"{share} of {plural(signal['groups'], 'group')} had no signal"
    if not signal["with_tokens"]:
        return f"{text}; what that cost in tokens was not recorded."
    part = percent(signal["tokens_dead"] / max(signal["tokens"], 1), 0).text
    known = "" if signal["with_tokens"] == signal["responses"] else ", as far as tokens were recorded"
    return f"{text}, which cost {counted(signal['tokens_dead'])} tokens ({part} of all{known})."


def lead(report: Mapping[str, Any]) -> list[str]:
    """What the headline's words mean, and how sure it is."""
    counts, edge = report["counts"], report["verdicts"]["edge"]
    found = []
    if counts["responses"]:
        size = report["group_size"]["size"]
        high, low = percent(edge, 0).text, percent(1.0 - edge, 0).text
        found.append(
            f"Too easy is what the model solves more than {high} of the time, too hard what it solves less than {low} "
            f"of the time: a group of {size} then has both right and wrong answers, and so a signal, less than half as "
            "often as at a pass rate of 50 %."
        )
        found.append(_evidence(report))
    if counts["tried"] < counts["prompts"] and counts["responses"]:
        rest = counts["prompts"] - counts["tried"]
        found.append(
            f"{plural(rest, 'prompt')} {'has' if rest == 1 else 'have'} no rollouts and {_is(rest)} not counted."
        )
    return found


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _evidence(report: Mapping[str, Any]) -> str:
    each = report["counts"]["per_prompt"]
    n = f"{each['median']:g}"
    if each["least"] == each["most"]:
        text = f"Every prompt tried has {plural(each['least'], 'rollout')}"
    else:
        text = f"Prompts have {each['least']:,} to {each['most']:,} rollouts, {n} in the median"
    return (
        f"{text}. So few cannot tell a pass rate exactly: counts of prompts are sums of probabilities, from a Beta "
        "distribution fitted to each arm and each prompt's own rollouts, and ± holds 90 %."
        if each["median"] < 64
        else f"{text}. Counts of prompts are sums of probabilities given these rollouts, and ± holds 90 %."
    )


def model_in_words(report: Mapping[str, Any]) -> str:
    """The model, or the run, that rollouts are from."""
    name = str(report["model"])
    return f"run {quoted(name.removeprefix('run:'))}" if name.startswith("run:") else quoted(name)


def amount(value: float) -> str:
    """An expected count as a whole number.

    >>> amount(1234.4), amount(0.3)
    ('1,234', '0')
    """
    return f"{round(value):,}"


def counted(value: float) -> str:
    r"""A large number in words that can be read.

    >>> [counted(each).replace("\u00a0", " ") for each in (950, 12_345, 6_100_000, 2.5e9)]
    ['950', '12,345', '6.1 million', '2.5 billion']
    """
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:.1f}\u00a0{word}"
    return f"{round(value):,}"


def plural(number: int, noun: str) -> str:
    """A number with its noun.

    >>> plural(1, "prompt"), plural(2000, "prompt")
    ('1 prompt', '2,000 prompts')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
