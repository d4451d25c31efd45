"""A difficulty report as sections of texts, tables and figures: the same for the page and for Markdown."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from curri.reports.blocks import Bullets, Cell, Code, Fact, Figures, Page, Section, Table, Text, fixed, percent
from curri.reports.difficulty import figures
from curri.reports.difficulty.wording import amount, counted, model_in_words, plural
from curri.reports.wording import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from curri.reports.blocks import Block

__all__ = ["difficulty_page"]

_FOLDED = 12
"""Rows of a table beyond which it is folded away beside its figure."""
_BULK = 60
"""Rows beyond which a table is not printed."""


def difficulty_page(report: Mapping[str, Any]) -> Page:
    """All of a report, in the order of reading."""
    parts = [
        ("arms", "Too easy, too hard, worth keeping", _arms),
        ("advice", "What to do next", _advice),
        ("rates", "Pass rates", _rates),
        ("waste", "Groups without signal", _waste),
        ("runs", "What became of the groups of runs", _runs),
        ("drift", "Drift", _drift),
        ("coverage", "Coverage", _coverage),
        ("priors", "Pass rates of other models", _priors),
        ("prompts", "Prompts to look at", _prompts),
        ("duplicates", "Duplicates", _duplicates),
        ("appendix", "Data and settings", _appendix),
    ]
    sections = [Section(name, title, tuple(blocks(report))) for name, title, blocks in parts]
    return Page(
        title=f"Difficulty report: {report['data']['store']}",
        kind="Difficulty report",
        headline=report["headline"],
        lead=tuple(report["lead"]),
        facts=tuple(_facts(report)),
        sections=tuple(section for section in sections if section.blocks),
        footer=f"curri {report['curri']} · data of {_moment(report)} · fingerprint {report['fingerprint'][:16]}",
    )


def _moment(report: Mapping[str, Any]) -> str:
    return str(report["data"]["written"]).replace("T", " ").replace("+00:00", " UTC")


def _facts(report: Mapping[str, Any]) -> Iterator[Fact]:
    counts, verdicts, signal = report["counts"], report["verdicts"], report["signal"]
    retired = f"; {counts['retired']:,} retired" if counts["retired"] else ""
    yield Fact("Prompts", f"{counts['prompts']:,}", plural(counts["arms"], "arm") + retired)
    if not counts["responses"]:
        return
    yield Fact("Rollouts", f"{counts['responses']:,}", f"of {counts['tried']:,} prompts")
    for kind, name in (("hard", "Too hard"), ("keep", "Worth keeping"), ("easy", "Too easy")):
        found = verdicts[kind]
        share = percent(found["prompts"] / max(counts["tried"], 1), 0).text
        yield Fact(name, f"{amount(found['prompts'])} ± {amount(found['half'])}", f"{share} of the prompts tried")
    if verdicts["flat"]["prompts"] >= 0.5:
        yield Fact("Same reward", amount(verdicts["flat"]["prompts"]), "hardly any differences in reward")
    if signal is not None:
        yield Fact(
            "Groups without signal",
            percent(signal["dead"] / signal["groups"], 0).text,
            f"{signal['dead']:,} of {signal['groups']:,}",
        )
        if signal["with_tokens"]:
            share = percent(signal["tokens_dead"] / max(signal["tokens"], 1), 0).text
            yield Fact("Tokens spent on them", counted(signal["tokens_dead"]), f"{share} of all")


# --- arms and pass rates ----------------------------------------------------------------------------------------------


def _arms(report: Mapping[str, Any]) -> Iterator[Block]:
    arms, counts = report["arms"], report["counts"]
    if not counts["responses"]:
        return
    if counts["shaped"]:
        yield Text(
            "Some rewards are shaped: they differ from what is right or wrong. Easy and hard go by what was right, "
            "groups without signal by the reward."
        )
    if counts["fractional"]:
        yield Text(
            f"{plural(counts['fractional'], 'prompt')} have partly right answers. They are worth keeping where their "
            "rewards differ often enough; of the others, easy is above 0.5."
        )
    if counts["unjudged"]:
        yield Text(
            f"{plural(counts['unjudged'], 'prompt')} have rewards outside of 0 to 1 and nobody said which answers are "
            "right, so they have no pass rate. Give `solved` with the rollouts to have one.",
            warning=True,
        )
    yield figures.verdict_figure(arms)
    yield _arm_table(report)


def _arm_table(report: Mapping[str, Any]) -> Table:
    arms = sorted(report["arms"], key=lambda arm: (-arm["prompts"], arm["arm"]))
    columns: dict[str, list[object]] = {
        "arm": [arm["arm"] for arm in arms],
        "prompts": [arm["prompts"] for arm in arms],
        "tried": [arm["tried"] for arm in arms],
        "rollouts each": [fixed(arm["per_prompt"], 1) for arm in arms],
        "right": [percent(arm["pass_rate"]) for arm in arms],
        "pass rate ±": [_with_half(arm["estimate"], arm["estimate_half"]) for arm in arms],
        "too hard": [_expected(arm, "hard") for arm in arms],
        "keep": [_expected(arm, "keep") for arm in arms],
        "too easy": [_expected(arm, "easy") for arm in arms],
        "same reward": [_expected(arm, "flat") for arm in arms],
        "signal": [percent(arm["live"], 0) for arm in arms],
        "mean reward": [fixed(arm["mean_reward"], 3) for arm in arms],
        "tokens each": [fixed(arm["tokens"], 0) for arm in arms],
        "cut off": [percent(arm["truncated"]) for arm in arms],
    }
    nothing = {
        "same reward": report["verdicts"]["flat"]["prompts"] < 0.5,
        "mean reward": all(arm["mean_reward"] == arm["pass_rate"] for arm in arms),
        "tokens each": all(arm["tokens"] is None for arm in arms),
        "cut off": not any(arm["truncated"] for arm in arms),
    }
    note = (
        "“Right” is the share of right answers, “pass rate” the estimated mean over prompts; “signal” the expected "
        f"share of groups of {report['group_size']['size']} with any difference in reward."
    )
    return _from_columns("Arms in numbers", columns, [name for name, empty in nothing.items() if empty], note)


def _expected(arm: Mapping[str, Any], kind: str) -> Cell:
    return Cell(amount(arm[kind]), arm[kind]) if arm["tried"] else Cell("–")


def _with_half(share: float | None, half: float | None, decimals: int = 1) -> Cell:
    """A share in percent and half of its interval."""
    if share is None or half is None:
        return percent(share)
    return Cell(f"{100 * share:.{decimals}f} ± {100 * half:.{decimals}f}\u00a0%", share)


def _rates(report: Mapping[str, Any]) -> Iterator[Block]:
    found = report["histogram"]
    if found is None:
        return
    yield figures.histogram_figure(found, report["verdicts"]["edge"])
    arms = found["arms"]
    if 1 < len(arms) <= figures.SMALL:
        yield Figures(figures.spread_figures(found), "each arm")
    elif len(arms) > figures.SMALL:
        yield figures.histogram_map(found)
    yield _histogram(found)
    if report["group_sizes"]:
        size = report["group_size"]
        yield Text(
            f"The group size is {size['size']} ({size['source']}). Larger groups have signal more often, and cost more "
            "each; “curri plan” tells what a live one costs."
        )
        yield figures.size_figure(report["group_sizes"], size["size"])
        rows = [[row["size"], percent(row["dead"])] for row in report["group_sizes"]]
        yield Table("Expected groups without signal", ("group size", "without signal"), rows, folded=True)


def _histogram(found: Mapping[str, Any]) -> Table:
    edges = found["edges"]
    spans = [f"{100 * low:.0f}–{100 * high:.0f} %" for low, high in itertools.pairwise(edges)]
    arms = [{"arm": "all arms", "prompts": found["prompts"], **found["all"]}] if len(found["arms"]) > 1 else []
    rows: list[list[object]] = []
    for arm in [*arms, *found["arms"]]:
        cells = [
            Cell(f"{amount(mean)} ± {amount(half)}", mean) for mean, half in zip(arm["mean"], arm["half"], strict=True)
        ]
        rows.append([arm["arm"], arm["prompts"], figures.rollouts(arm) if "least" in arm else "", *cells])
    return Table(
        "Expected number of prompts by pass rate",
        ("arm", "prompts", "rollouts", *spans),
        rows,
        folded=True,
        bulk=True,
    )


# --- waste ------------------------------------------------------------------------------------------------------------


def _waste(report: Mapping[str, Any]) -> Iterator[Block]:
    found = report["signal"]
    if found is None:
        if report["counts"]["responses"]:
            yield Text("All groups have a single response, so none of them can have had a signal.")
        return
    yield Text(_cost(report, found))
    yield figures.signal_figure(found)
    arms = sorted(found["arms"], key=lambda arm: (-arm["dead"], arm["arm"]))
    columns: dict[str, list[object]] = {
        "arm": [arm["arm"] for arm in arms],
        "groups": [arm["groups"] for arm in arms],
        "size": [fixed(arm["size"], 0) for arm in arms],
        "no signal": [percent(arm["dead"] / arm["groups"]) for arm in arms],
        "all wrong": [arm["wrong"] for arm in arms],
        "all right": [arm["right"] for arm in arms],
        "same reward": [arm["same"] for arm in arms],
        "rollouts spent": [arm["responses_dead"] for arm in arms],
        "tokens spent": [_tokens(arm["tokens_dead"], arm["with_tokens"]) for arm in arms],
        "share of tokens": [percent(arm["tokens_dead"] / arm["tokens"]) if arm["tokens"] else None for arm in arms],
    }
    left_out = [] if found["same"] else ["same reward"]
    left_out += [] if found["with_tokens"] else ["tokens spent", "share of tokens"]
    note = "“Size” is the median. “Spent” is on groups without signal."
    yield _from_columns("Groups without signal in numbers", columns, left_out, note)


def _tokens(number: int, known: int) -> Cell:
    return Cell(counted(number), number) if known else Cell("–")


def _from_columns(title: str, columns: Mapping[str, Sequence[object]], left_out: Sequence[str], note: str) -> Table:
    """A table of its columns, without those in which nothing stands, or nothing new."""
    kept = {name: column for name, column in columns.items() if name not in left_out}
    rows = list(zip(*kept.values(), strict=True))
    return Table(title, tuple(kept), rows, note, folded=len(rows) > _FOLDED, bulk=len(rows) > _BULK)


def _cost(report: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    text = (
        f"A group in which all rewards are equal teaches nothing. Of {plural(found['groups'], 'group')} with "
        f"{model_in_words(report)}, {found['dead']:,} were like that: {found['wrong']:,} all wrong, "
        f"{found['right']:,} all right"
    )
    text += f", {found['same']:,} with the same reward otherwise. " if found["same"] else ". "
    if found["with_tokens"]:
        text += (
            f"They took {counted(found['responses_dead'])} rollouts and {counted(found['tokens_dead'])} tokens, "
            f"{percent(found['tokens_dead'] / max(found['tokens'], 1)).text} of all that were recorded."
        )
    else:
        text += f"They took {counted(found['responses_dead'])} rollouts; how many tokens was not recorded."
    if found["single"]:
        text += f" Left out: {plural(found['single'], 'group')} of a single response."
    return text


def _runs(report: Mapping[str, Any]) -> Iterator[Block]:
    runs = [run for run in report["runs"] if run["outcomes"]]
    if not runs:
        return
    yield Text(
        "By the ledger of each run: groups are wasted where they were trained on without signal, dropped after they "
        "were generated, or lost. Probes and what is in flight do not count as waste."
    )
    rows = [
        [
            run["run"],
            run["strategy"],
            run["groups"],
            run["wasted"],
            percent(run["wasted"] / run["groups"]) if run["groups"] else None,
            run["responses_wasted"],
            _tokens(run["tokens_wasted"], run["with_tokens"]),
            percent(run["tokens_wasted"] / run["tokens"]) if run["tokens"] else None,
        ]
        for run in runs
    ]
    headings = ("run", "strategy", "groups", "wasted", "share", "rollouts wasted", "tokens wasted", "share of tokens")
    yield Table("Waste of each run", headings, rows)
    yield _outcomes(runs)
    if any(len(run["arms"]) > 1 for run in runs):
        yield _runs_by_arm(runs)


def _outcomes(runs: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        [
            run["run"],
            each["outcome"],
            each["reason"] or "–",
            each["signal"],
            "yes" if each["wasted"] else "no",
            each["groups"],
            each["responses"],
            each["missing"],
            _tokens(each["tokens"], each["with_tokens"]),
        ]
        for run in runs
        for each in run["outcomes"]
    ]
    headings = ("run", "outcome", "reason", "signal", "wasted", "groups", "rollouts", "never came", "tokens")
    return Table("By outcome and reason", headings, rows, "“Never came” is rollouts that were asked for and not told.")


def _runs_by_arm(runs: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        [
            run["run"],
            arm["arm"],
            arm["groups"],
            arm["wasted"],
            percent(arm["wasted"] / arm["groups"]) if arm["groups"] else None,
            _tokens(arm["tokens_wasted"], arm["with_tokens"]),
        ]
        for run in runs
        for arm in run["arms"]
    ]
    headings = ("run", "arm", "groups", "wasted", "share", "tokens wasted")
    return Table("Waste of each run by arm", headings, rows, folded=True, bulk=len(rows) > _BULK)


# --- drift, coverage, priors ------------------------------------------------------------------------------------------


def _drift(report: Mapping[str, Any]) -> Iterator[Block]:
    found = report["drift"]
    if found is None:
        return
    yield Text(_moved(found))
    yield figures.drift_figure(found)
    arms = sorted(found["arms"], key=lambda arm: (-sum(arm["responses"]), arm["arm"]))
    every = [{"arm": "all arms", **found["all"]}] if len(arms) > 1 else []
    rows = [
        [
            arm["arm"],
            percent(arm["change"]["early"]),
            percent(arm["change"]["late"]),
            arm["change"]["prompts"],
            _points_of(arm["change"]["change"]),
            fixed(None if arm["change"]["half"] is None else 100.0 * arm["change"]["half"], 1),
        ]
        for arm in [*every, *arms]
    ]
    headings = ("arm", "first third", "last third", "prompts in both", "change on these, points", "±")
    note = (
        "The thirds hold all responses, so they also move when other prompts are picked. The change is that of prompts "
        "with responses in both."
    )
    yield Table(
        f"Change of the {found['measure']}", headings, rows, note, folded=len(rows) > _FOLDED, bulk=len(rows) > _BULK
    )
    yield _curves(found, arms)
    drawn = figures.versions_figure(found)
    if drawn is not None:
        yield drawn
        yield _versions(found)


def _moved(found: Mapping[str, Any]) -> str:
    change = found["all"]["change"]
    if change["change"] is None or change["half"] is None:
        return (
            f"Too few prompts have responses early and late to tell how the same prompts changed over {found['by']}s."
        )
    points, half = 100.0 * change["change"], 100.0 * change["half"]
    word = "did not clearly change" if abs(points) <= half else "rose" if points > 0 else "fell"
    return (
        f"On the {plural(change['prompts'], 'prompt')} with responses in the first and in the last third of the "
        f"{found['by']}s, the {found['measure']} {word}: {fixed(points, 1, sign=True).text} ± {fixed(half, 1).text} "
        "points. Estimates on this page are of all responses, early and late alike."
    )


def _points_of(value: float | None) -> Cell:
    return fixed(None if value is None else 100.0 * value, 1, sign=True)


def _curves(found: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for arm in arms:
        row: list[object] = [arm["arm"]]
        for mean, half in zip(arm["mean"], arm["half"], strict=True):
            row.append(Cell("–") if mean is None else Cell(figures.plus_minus(mean, half), mean))
        rows.append(row)
    headings = ("arm", *(figures.span(each) for each in found["bins"]))
    title = f"{found['measure'].capitalize()} over {found['by']}s in numbers"
    return Table(title, headings, rows, folded=True, bulk=len(rows) > _BULK or len(headings) > 10)


def _versions(found: Mapping[str, Any]) -> Table:
    signal = found["signal"]
    rows = [
        [figures.span(each), groups, *(percent(signal[kind][place]) for kind in ("wrong", "signal", "right", "same"))]
        for place, (each, groups) in enumerate(zip(found["bins"], signal["groups"], strict=True))
    ]
    headings = (found["by"], "groups", "all wrong", "signal", "all right", "same reward")
    return Table(f"Groups over {found['by']}s in numbers", headings, rows, folded=True)


def _coverage(report: Mapping[str, Any]) -> Iterator[Block]:
    found, counts = report["coverage"], report["counts"]
    if not found["prompts"]:
        return
    without = found["prompts"] - found["tried"]
    share = percent(without / found["prompts"]).text
    items = [f"{without:,} of {plural(found['prompts'], 'prompt')} ({share}) that may be picked have no rollouts."]
    if found["total"]:
        top = percent(found["top_share"], 0).text
        items.append(
            f"A prompt has {fixed(found['mean'], 1).text} {found['unit']} in the mean, {found['median']:g} in the "
            f"median and {found['most']:,} at most."
        )
        items.append(
            f"The top 10 % ({plural(found['top_prompts'], 'prompt')}) got {top} of all {found['unit']}; 10 % is even."
        )
    if counts["held_out"] and not report["filtered"]:
        items.append(
            f"{plural(counts['held_out'], 'prompt')} of other splits than “train” are left out of this report."
        )
    yield Bullets(tuple(items))
    if found["total"]:
        yield figures.visits_figure(found)
    rows = [
        [figures.span(each), each["prompts"], percent(each["prompts"] / found["prompts"])] for each in found["bins"]
    ]
    yield Table(f"Prompts by {found['unit']}", (found["unit"], "prompts", "share"), rows, folded=True)


def _priors(report: Mapping[str, Any]) -> Iterator[Block]:
    priors = report["priors"]
    if not priors:
        return
    rows = [
        [
            each["model"],
            "yes" if each["in_use"] else "no",
            each["known"],
            each["prompts"],
            fixed(each["rank"], 2),
            _points_of(each["bias"]),
            fixed(None if each["error"] is None else 100.0 * each["error"], 1),
        ]
        for each in priors
    ]
    headings = ("model", "in use", "prompts known", "with own rollouts", "rank correlation", "here − there, points",
                "typical difference, points")  # fmt: skip
    note = "Few rollouts a prompt make own rates noisy: that lowers the correlation and raises the difference."
    yield Table("How imported pass rates foretell the ones here", headings, rows, note)
    drawn = [each for each in priors if each["bins"]]
    if drawn:
        yield Figures(tuple(figures.calibration_figure(each, place) for place, each in enumerate(drawn)), "calibration")
        rows = [
            [each["model"], f"{100 * bin_['low']:.0f}–{100 * bin_['high']:.0f} %", bin_["prompts"],
             percent(bin_["prior"]), percent(bin_["own"]), percent(bin_["half"])]
            for each in drawn
            for bin_ in each["bins"]
        ]  # fmt: skip
        columns = ("model", "prior", "prompts", "mean prior", "pass rate here", "±")
        yield Table("Calibration in numbers", columns, rows, folded=True)
    elif report["counts"]["responses"]:
        yield Text("Too few prompts have both, so they cannot be compared.")


# --- prompts ----------------------------------------------------------------------------------------------------------


def _prompts(report: Mapping[str, Any]) -> Iterator[Block]:
    found = report["examples"]
    titles = (
        (
            "informative",
            "Most informative",
            "By the chance of signal in the next group; with the same chance, by rollouts.",
        ),
        ("hardest", "Hardest", "By the estimated pass rate, which takes few rollouts for less sure than many."),
        ("easiest", "Easiest", ""),
    )
    for name, title, note in titles:
        if found[name]:
            yield _examples(report, title, found[name], note)


def _examples(report: Mapping[str, Any], title: str, rows: Sequence[Mapping[str, Any]], note: str) -> Table:
    own = any(report["prompts"][str(row["prompt_id"])]["id"] is not None for row in rows)
    tokens = any(row["tokens"] is not None for row in rows)
    known = any(row["estimate"] is not None for row in rows)
    headings = ["prompt_id", *(["id"] if own else []), "arm", "rollouts"]
    headings += ["right", "pass rate ±"] if known else ["mean reward"]
    headings += ["signal", *(["tokens each"] if tokens else []), "prompt"]
    cells = []
    for row in rows:
        about = report["prompts"][str(row["prompt_id"])]
        cells.append(
            [
                Cell(str(row["prompt_id"]), row["prompt_id"]),
                *([about["id"] or "–"] if own else []),
                row["arm"],
                row["responses"],
                *(
                    [percent(row["pass_rate"], 0), _with_half(row["estimate"], row["half"], 0)]
                    if known
                    else [fixed(row["mean_reward"], 3)]
                ),
                percent(row["live"], 0),
                *([fixed(row["tokens"], 0)] if tokens else []),
                about["text"],
            ]
        )
    return Table(title, tuple(headings), cells, note)


def _duplicates(report: Mapping[str, Any]) -> Iterator[Block]:
    found = report["duplicates"]
    if found["prompts"] < 2:
        return
    same, near = found["same"], found["near"]
    found_same = (
        f"{plural(same['groups'], 'group')} of prompts with the same text but for case, spaces and punctuation: "
        f"{plural(same['surplus'], 'prompt')} more than needed."
    )
    items = [found_same]
    if same["contradicting"]:
        items.append(
            f"In {plural(same['contradicting'], 'group')} of these the answers differ: one of them is wrong, or a "
            "punctuation mark matters."
        )
    items.append(
        f"{plural(near['groups'], 'group')} of prompts with the same numbers and at least "
        f"{percent(near['similar'], 0).text} of their pairs of words in common: {plural(near['surplus'], 'prompt')} "
        "more. They were found by MinHash with bands and compared exactly; very short prompts are left out."
    )
    yield Bullets(tuple(items))
    if same["shown"]:
        rows = [
            [
                *_group(group),
                report["prompts"][str(group["first"])]["text"],
                "differ" if group["differ"] else "same",
                "several" if group["in_arms"] else "one",
            ]
            for group in same["shown"]
        ]
        yield Table("The same text", ("prompts", "prompt_id", "text", "answers", "arms"), rows, _largest(same))
    if near["shown"]:
        pairs = [[*_group(group), *group["texts"]] for group in near["shown"]]
        note = " ".join(filter(None, ["The first two of each, from where they part.", _largest(near)]))
        yield Table("Nearly the same words", ("prompts", "prompt_id", "text", "another one"), pairs, note)


def _group(group: Mapping[str, Any]) -> list[object]:
    ids = ", ".join(map(str, group["ids"])) + (", …" if group["prompts"] > len(group["ids"]) else "")
    return [group["prompts"], ids]


def _largest(found: Mapping[str, Any]) -> str:
    shown = len(found["shown"])
    return "" if shown == found["groups"] else f"The {shown} largest of {found['groups']:,} groups."


# --- advice and appendix ----------------------------------------------------------------------------------------------


def _advice(report: Mapping[str, Any]) -> Iterator[Block]:
    for item in report["advice"]:
        many = "." if item["matches"] is None else f": {plural(item['matches'], 'prompt')}."
        yield Text(f"{item['title']}{many} {item['why']}")
        yield Code(item["command"])


def _appendix(report: Mapping[str, Any]) -> Iterator[Block]:
    data, counts = report["data"], report["counts"]
    copy = " (a copy that a run published while it held the store)" if data["copy"] else ""
    models = ", ".join(f"{quoted(name)} {number:,}" for name, number in data["models"].items()) or "none"
    source = "no rollouts" if report["model"] is None else f"the rollouts of {model_in_words(report)}, without probes"
    held = (
        f"It holds {data['prompts']:,} prompts, {data['responses']:,} rollouts and {plural(data['runs'], 'run')}; "
        f"rollouts by model: {models}."
    )
    about = f"This report is about {plural(counts['prompts'] + counts['retired'], 'training prompt')} and {source}"
    about += f": {counts['responses']:,} responses." if counts["responses"] else "."
    if counts["retired"]:
        about += " Retired prompts count in what was spent, and in nothing else."
    yield Bullets(
        (
            f"Store {data['store']}, id {data['store_id']}, last written {_moment(report)}{copy}.",
            held,
            about,
            f"SHA-256 of prompts, rollouts and outcomes: {data['sha256']}",
            f"Fingerprint of data, settings and version (curri {report['curri']}): {report['fingerprint']}",
        )
    )
    yield Text(
        "Pass rates: each arm has the Beta distribution that makes its rollouts most likely (as in “curri plan”), and "
        "a prompt's own responses update it. Chance of signal: 1 minus the beta-binomial probability that all "
        "responses of a group are alike; where answers are partly right or only rewarded, a Dirichlet distribution "
        "over the values of the reward takes its place."
    )
    rows = [[name, "–" if value is None or value == "" else str(value)] for name, value in report["settings"].items()]
    if rows:
        yield Table("Settings", ("setting", "value"), rows)
