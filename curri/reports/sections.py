"""A mixture report as sections of texts, tables and figures: the same for the page and for Markdown."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from curri.reports import figures, landscape_figures
from curri.reports.blocks import (
    Bullets,
    Cell,
    Code,
    Fact,
    Figures,
    Page,
    Section,
    Table,
    Text,
    fixed,
    percent,
)
from curri.reports.wording import (
    WIDTH,
    deciding,
    formula_in_words,
    mixture_in_words,
    named,
    probability,
    quoted,
    score,
    trust_in_words,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from curri.reports.blocks import Block

__all__ = ["mixture_page"]

CURVES = 9
_MOST_RUNS = 600
_BULK = 40
_SHOWN = 4
"""Datasets of a mixture that are named in a table."""
_FOLDED = 4
"""Small figures beyond which they are folded away."""
_WIDE = 9
"""Columns beyond which a table does not fit on paper."""


def mixture_page(report: Mapping[str, Any]) -> Page:
    """All of a report, in the order of reading."""
    sections = [
        _section("weights", "The mixture", _weights(report)),
        _section("candidates", "Candidates", _candidates(report)),
        _section("trust", "How well are runs predicted?", _trust(report)),
        _section("effects", "What each dataset does", _effects(report)),
        _section("tradeoffs", "Trade-offs", _tradeoffs(report)),
        _section("noise", "Noise", _noise(report)),
        _section("next", "What to run next", _next(report)),
        _section("appendix", "Data and settings", _appendix(report)),
    ]
    return Page(
        title=f"Mixture report: {deciding(report)['name']}",
        kind="Mixture report",
        headline=report["headline"],
        lead=tuple(report["lead"]),
        facts=tuple(_facts(report)),
        sections=tuple(section for section in sections if section.blocks),
        footer=f"curri {report['curri']} · fingerprint {report['fingerprint'][:16]}",
    )


def _section(name: str, title: str, blocks: Iterator[Block]) -> Section:
    return Section(name, title, tuple(blocks))


def _facts(report: Mapping[str, Any]) -> Iterator[Fact]:
    target, chosen = deciding(report), named(report, "recommended")
    found = chosen["predictions"][target["name"]]
    better = "less is better" if target["lower"] else "more is better"
    measured = report["recommendation"]["source"] == "measured" and report["recommendation"]["run"] is not None
    if measured:
        runs = report["recommendation"]["measured_runs"]
        value = score(target, report["recommendation"]["measured_mean"])
        yield Fact(f"{quoted(target['name'])}, measured", value, f"{runs} run{'s' if runs > 1 else ''}; {better}")
    else:
        between = f"{score(target, found['low'])} to {score(target, found['high'])}"
        yield Fact(
            f"{quoted(target['name'])}, predicted",
            score(target, found["mean"]),
            f"{percent(report['level'], 0).text} of runs: {between}; {better}",
        )
    for name, gains in report["gains"].items():
        gain = gains[target["name"]]
        give = score(target, WIDTH * gain["std"]) if gain["std"] is not None else "–"
        over = "the best measured" if name == "best measured" else name
        yield Fact(
            f"Better than {over} by",
            f"{score(target, gain['gain'], sign=True)} ± {give}",
            f"predicted; really better with probability {probability(gain['better'])}",
        )
    noise = target["noise"]
    source = f"from replicates, {noise['degrees']} d.f." if noise["source"] == "replicates" else "estimated by the fit"
    yield Fact("Noise of one run", score(target, noise["std"]), f"one standard deviation, {source}")
    quality = target["quality"]
    yield Fact("Left-out runs predicted", f"R² {fixed(quality['r2'], 2).text}", f"{quality['runs']} runs")


# --- the mixture and the candidates -----------------------------------------------------------------------------------


def _weights(report: Mapping[str, Any]) -> Iterator[Block]:
    if len(report["arms"]) < 2:
        return
    yield figures.weight_figure(report)
    shown = [mixture for mixture in report["mixtures"] if mixture["kind"] != "candidate"]
    limits = report["limits"]
    lower, upper = limits["lower"], limits["upper"]
    bounded = any(value > 0.0 for value in lower.values()) or any(value < 1.0 for value in upper.values())
    epochs = named(report, "recommended")["training"]
    headings = ["dataset", *(mixture["name"] for mixture in shown)]
    headings += ["floor", "cap"] if bounded else []
    headings += ["times through"] if epochs is not None else []
    chosen = shown[0]["weights"]
    rows: list[list[object]] = []
    for arm in sorted(report["arms"], key=lambda arm: -chosen[arm]):
        row: list[object] = [arm, *(percent(mixture["weights"][arm]) for mixture in shown)]
        row += [percent(lower[arm]), percent(upper[arm])] if bounded else []
        row += [fixed(epochs["epochs"].get(arm), 2)] if epochs is not None else []
        rows.append(row)
    note = _limits_in_words(limits)
    yield Table("Weights of the datasets in numbers", tuple(headings), rows, note, folded=len(rows) > 8)


def _limits_in_words(limits: Mapping[str, Any]) -> str:
    words = []
    if limits["max_epochs"] is not None:
        words.append(
            f"No dataset may be gone through more than {limits['max_epochs']:g} times in {limits['prompts']:,.0f} "
            "prompts."
        )
    elif limits["prompts"] is not None:
        words.append(f"“Times through” is for {limits['prompts']:,.0f} prompts in all.")
    if limits["kl"]:
        words.append(f"Distance from the natural mixture costs {limits['kl']:g} of the target per nat.")
    if limits["radius"] is not None:
        share = percent(limits["radius"], 0).text
        words.append(
            f"Only mixtures within {share} of a measured one (moved to the bounds, where it is outside) were looked at."
        )
    return " ".join(words)


def _candidates(report: Mapping[str, Any]) -> Iterator[Block]:
    if len(report["arms"]) < 2:
        return
    target = deciding(report)
    found = report["recommendation"]
    rule = (
        f"A candidate is recommended where it is predicted to beat the best measured mixture by more than "
        f"{score(target, found['threshold'])}: "
        + ("" if found["guard"] == 1.0 else f"{found['guard']:g} times ")
        + "the noise of a run, or the uncertainty of the gain where that is larger. "
    )
    verdict = "One was." if found["source"] == "candidate" else "None was."
    yield Text(rule + verdict)
    rows = [_candidate(target, mixture) for mixture in report["mixtures"]]
    headings = (
        "mixture",
        "predicted",
        "interval of a run",
        "gain on the best measured",
        "distance",
        "nearest run",
        "weights",
    )
    note = (
        f"Intervals hold {percent(report['level'], 0).text} of single runs. Gains are on "
        f"{score(target, found['to_beat'])}: what the best measured mixture counts for, between what it scored and "
        "what is predicted for it. Distance is the share of training prompts that would come from another dataset "
        "than in the nearest measured mixture."
    )
    yield Table("Predictions", headings, rows, note, marked=0)
    yield _all_weights(report)
    if report["paper"] is not None:
        yield from _paper(target, report["paper"])


def _all_weights(report: Mapping[str, Any]) -> Table:
    """Every weight of every mixture."""
    mixtures = report["mixtures"]
    rows = [[arm, *(percent(mixture["weights"][arm]) for mixture in mixtures)] for arm in report["arms"]]
    headings = ("dataset", *(mixture["name"] for mixture in mixtures))
    return Table("All weights of these mixtures", headings, rows, folded=True)


def _candidate(target: Mapping[str, Any], mixture: Mapping[str, Any]) -> list[object]:
    found = mixture["predictions"][target["name"]]
    gain = "–"
    if found["gain"] is not None and (found["gain_std"] or 0.0) > 0.0:
        gain = f"{score(target, found['gain'], sign=True)} ± {score(target, WIDTH * found['gain_std'])}"
    name = mixture["name"] + ("" if mixture["allowed"] else " (not allowed)")
    return [
        name,
        fixed(found["mean"], target["decimals"]),
        f"{score(target, found['low'])}\u00a0to\u00a0{score(target, found['high'])}",
        Cell(gain, found["gain"]),
        percent(mixture["distance"], 0),
        mixture["nearest"],
        mixture_in_words(mixture["weights"], _SHOWN),
    ]


def _best_r2(paper: Mapping[str, Any]) -> str:
    return fixed(max((each for each in paper["test_r2"] if each is not None), default=None), 2).text


def _paper(target: Mapping[str, Any], paper: Mapping[str, Any]) -> Iterator[Block]:
    if "reason" in paper:
        yield Text(f"MoDoMoDo's Algorithm 4 cannot be compared with: {paper['reason']}.")
        return
    yield Text(
        "MoDoMoDo's Algorithm 4, to compare with: a quadratic by plain least squares, the best of "
        f"{len(paper['test_r2'])} random splits by its own test rows (R² {_best_r2(paper)}, which "
        "flatters), and the best of draws from one Gaussian. It has no guard."
    )
    rows = [
        [place, fixed(each["predicted"], target["decimals"]), mixture_in_words(each["weights"], _SHOWN)]
        for place, each in enumerate(paper["candidates"], start=1)
    ]
    yield Table("What the paper's algorithm suggests", ("rank", "predicted by it", "weights"), rows)
    if paper["heuristics"]:
        rows = [
            [each["name"], fixed(each["predicted"], target["decimals"]), mixture_in_words(each["weights"], _SHOWN)]
            for each in paper["heuristics"]
        ]
        yield Table("The paper's heuristics", ("name", "predicted by the default", "weights"), rows)


# --- trust ------------------------------------------------------------------------------------------------------------


def _trust(report: Mapping[str, Any]) -> Iterator[Block]:
    target = deciding(report)
    yield Text(
        trust_in_words(target)
        + " Every mixture was left out once, with all its replicates, and predicted from the others. Intervals are "
        "honest where as many scores fall into them as they promise."
    )
    yield Table("Quality of the fits", *_quality(report))
    if target["left_out"]:
        yield figures.left_out_figure(target, 0, report["level"], small=False)
        yield _left_out(report, target)
    others = [each for each in report["targets"][1:] if each["left_out"]]
    if others:
        small = [
            figures.left_out_figure(each, place, report["level"], small=True)
            for place, each in enumerate(others, start=1)
        ]
        yield Figures(tuple(small), f"the same for {len(small)} more targets and columns", folded=len(small) > _FOLDED)


def _quality(report: Mapping[str, Any]) -> tuple[tuple[str, ...], list[list[object]], str]:
    levels = list(deciding(report)["quality"]["coverage"])
    headings: tuple[str, ...] = (
        "target",
        "better",
        "runs",
        "surrogate",
        "R²",
        "rank correlation",
        "typical error",
        "noise of a run",
    )
    headings += tuple(f"in {percent(float(level), 0).text}" for level in levels)
    rows: list[list[object]] = []
    for target in report["targets"]:
        quality, decimals = target["quality"], target["decimals"]
        rows.append(
            [
                target["name"],
                "less" if target["lower"] else "more",
                quality["runs"],
                surrogate_in_words(target),
                fixed(quality["r2"], 2),
                fixed(quality["spearman"], 2),
                fixed(quality["rmse"], decimals),
                fixed(target["noise"]["std"], decimals),
                *(percent(quality["coverage"][level], 0) for level in levels),
            ]
        )
    sums = [target for target in report["targets"] if len(target["surrogates"]) > 1]
    note = "“In 50 %” is the share of the scores that lie in their 50 % interval, and so on."
    if sums:
        formulas = "; ".join(f"{quoted(target['name'])} is {_short(formula_in_words(target))}" for target in sums)
        note += f" Sums are put together from the fits to their parts: {formulas}."
    return headings, rows, note


def _short(text: str) -> str:
    return text if len(text) <= 300 else text[:299] + "…"


def surrogate_in_words(target: Mapping[str, Any]) -> str:
    """What was fitted, and which member of it carries most."""
    kinds = list(dict.fromkeys(each.get("chosen", each["name"]) for each in target["surrogates"].values()))
    asked = list(dict.fromkeys(each["name"] for each in target["surrogates"].values()))
    if any("value" in each and "chosen" not in each for each in target["surrogates"].values()):
        kinds = [kind for kind in kinds if kind not in asked] + ["constant"]
    inner = ", ".join(kinds[:3]) + (", …" if len(kinds) > 3 else "")
    return inner if asked == kinds else f"{', '.join(asked)}: {inner}"


def _left_out(report: Mapping[str, Any], target: Mapping[str, Any]) -> Table:
    decimals = target["decimals"]
    rows = [
        [
            row["run"],
            fixed(row["measured"], decimals),
            fixed(row["predicted"], decimals),
            fixed(row["half"], decimals),
            fixed(row["measured"] - row["predicted"], decimals, sign=True),
        ]
        for row in target["left_out"]
    ]
    return Table(
        f"{target['name']}, predicted when left out",
        ("run", "measured", "predicted", f"± ({percent(report['level'], 0).text})", "error"),
        rows[:_MOST_RUNS],
        _rest(len(rows)),
        folded=True,
        bulk=len(rows) > _BULK,
    )


def _rest(rows: int) -> str:
    return f"{rows - _MOST_RUNS:,} more are in the JSON document." if rows > _MOST_RUNS else ""


# --- effects ----------------------------------------------------------------------------------------------------------


def _effects(report: Mapping[str, Any]) -> Iterator[Block]:
    if len(report["arms"]) < 2:
        return
    yield landscape_figures.effect_figure(report)
    found, targets = report["effects"]["targets"], report["targets"]
    rows = [
        [arm, *(_effect(target, found[target["name"]], row) for target in targets)]
        for row, arm in enumerate(report["arms"])
    ]
    yield Table(
        "What more of each dataset does, in numbers",
        ("dataset", *(target["name"] for target in targets)),
        rows,
        "± holds 90 % of the surrogate's own uncertainty about the change.",
        folded=True,
        bulk=len(targets) > _WIDE,
    )
    curves = report["curves"]
    if curves:
        name = quoted(deciding(report)["name"])
        which = "each dataset" if len(curves) <= CURVES else f"the {CURVES} datasets that move it most"
        yield Text(
            f"{name} along the share of {which}, from none to the most that was tried; the others keep their "
            "proportions. The band holds 90 % of the uncertainty about the mean."
        )
        yield Figures(landscape_figures.curve_figures(report, CURVES))
    found_slices = landscape_figures.slice_figures(report)
    if report["slices"]["kind"] == "pairs":
        yield Text(
            "Planes through the recommended mixture, for the datasets that move the target most. Yellow is better. "
            "Axes end where nothing was tried."
        )
        yield Figures(found_slices)
    else:
        yield from found_slices


def _effect(target: Mapping[str, Any], found: Mapping[str, Any], row: int) -> Cell:
    change, std = found["change"][row], found["std"][row]
    text = fixed(change, target["decimals"], sign=True).text
    return Cell(text if std is None else f"{text} ± {score(target, WIDTH * std)}", change)


# --- trade-offs, noise ------------------------------------------------------------------------------------------------


def _tradeoffs(report: Mapping[str, Any]) -> Iterator[Block]:
    targets = report["targets"]
    if len(targets) < 2 or len(report["arms"]) < 2:
        return
    if report["tradeoff"] is not None:
        yield from figures.front_figures(report)
        yield _front(report)
    yield Text(
        f"{quoted(deciding(report)['name'])} decides. What the recommended mixture is predicted to do to everything "
        "else, "
        "against the mixtures to compare with:"
    )
    names = list(report["gains"])
    rows = []
    for target in targets:
        row: list[object] = [target["name"], "less" if target["lower"] else "more"]
        row.append(fixed(named(report, "recommended")["predictions"][target["name"]]["mean"], target["decimals"]))
        row += [_gain(target, report["gains"][name][target["name"]]) for name in names]
        rows.append(row)
    headings = ("target", "better", "predicted", *(f"gain on {name}" for name in names))
    yield Table("Every target", headings, rows, "Gains above 0 are improvements, ± holds 90 %.", marked=0)


def _gain(target: Mapping[str, Any], gain: Mapping[str, Any]) -> Cell:
    text = score(target, gain["gain"], sign=True)
    return Cell(f"{text} ± {score(target, WIDTH * gain['std'])}" if gain["std"] is not None else text, gain["gain"])


def _front(report: Mapping[str, Any]) -> Table:
    found = report["tradeoff"]
    targets = {target["name"]: target for target in report["targets"]}
    rows = [
        [
            *(
                fixed(mean, targets[name]["decimals"])
                for name, mean in zip(found["targets"], point["mean"], strict=True)
            ),
            mixture_in_words(point["weights"], _SHOWN),
        ]
        for point in found["points"]
    ]
    return Table("Mixtures on the predicted front", (*found["targets"], "weights"), rows, folded=len(rows) > 6)


def _noise(report: Mapping[str, Any]) -> Iterator[Block]:
    target = deciding(report)
    noise, found = target["noise"], report["noise"]
    error = target["measured"]["error"]
    if noise["source"] == "replicates":
        yield Text(
            f"{len(found['replicates'])} mixture{'s were' if len(found['replicates']) > 1 else ' was'} run more "
            "than once. "
            f"One run of the same mixture differs from the next by {score(target, noise['std'])} (one standard "
            "deviation, "
            f"{noise['degrees']} degree{'s' if noise['degrees'] > 1 else ''} of freedom)."
        )
    else:
        yield Text(
            f"No mixture was run twice. What the surrogate could not explain, {score(target, noise['std'])}, is "
            "taken for noise; replicates would tell what it is.",
            warning=True,
        )
    if error:
        yield Text(
            f"The standard errors that were given, {score(target, error)} in the median, are part of it: they tell how "
            "well a run was evaluated, not how two runs of the same mixture differ."
        )
    drawn = figures.noise_figure(report)
    if drawn is not None:
        yield drawn
    if found["replicates"]:
        yield _replicates(report)
    if found["near"]:
        rows = [
            [
                " and ".join(quoted(name) for name in pair["runs"]),
                percent(pair["distance"]),
                *(fixed(value, target["decimals"]) for value in pair["scores"]),
                fixed(abs(pair["scores"][0] - pair["scores"][1]), target["decimals"]),
            ]
            for pair in found["near"]
        ]
        headings = ("runs", "share of prompts that differs", "one scored", "the other", "difference")
        note = "Where nearly the same mixtures score differently, that is mostly noise."
        yield Table("Nearly the same mixture", headings, rows, note)


def _replicates(report: Mapping[str, Any]) -> Table:
    rows: list[list[object]] = []
    for group in report["noise"]["replicates"]:
        row: list[object] = [" = ".join(group["runs"]), len(group["runs"])]
        for target in report["targets"]:
            known = [value for value in group["scores"][target["name"]] if value is not None]
            spread = max(known) - min(known) if len(known) > 1 else None
            row.append(fixed(spread, target["decimals"]))
        rows.append(row)
    headings = ("runs of the same mixture", "runs", *(f"range of {target['name']}" for target in report["targets"]))
    return Table("Replicates", headings, rows, folded=True)


# --- next, appendix ---------------------------------------------------------------------------------------------------


def _next(report: Mapping[str, Any]) -> Iterator[Block]:
    target, found = deciding(report), report["next"]
    items = []
    settle = found["settle"]
    if settle is not None and settle["each"] is not None:
        gain, noise = score(target, settle["gain"]), score(target, settle["noise"])
        if settle["worth"]:
            items.append(
                f"To know whether the best prediction really is better by {gain}, with a noise of {noise} a run, "
                f"run it and the best measured mixture {settle['each']} times each."
            )
        else:
            items.append(
                f"The best prediction promises {gain}, with a noise of {noise} a run: it would take "
                f"{settle['each']:,} runs "
                "of each to tell, more than it is worth."
            )
    if not found["replicated"]:
        items.append("Run two mixtures twice: without replicates the noise is a guess, and so is the guard.")
    if (target["quality"]["r2"] or 0.0) <= 0.4 and len(report["arms"]) > 1:
        items.append("More mixtures that differ would help most: runs are predicted too poorly to search by.")
    if items:
        yield Bullets(tuple(items))
    rows = [
        [
            row["run"],
            fixed(row["mean"], target["decimals"]),
            fixed(row["std"], target["decimals"]),
            row["why"],
            mixture_in_words(row["weights"], _SHOWN),
        ]
        for row in found["runs"]
    ]
    yield Table("Runs worth making", ("run", "predicted", "± of a run", "why", "weights"), rows)
    yield Text("The same as rows of the file of runs; paste them at its end, train, and fill in the scores.")
    yield Code(_as_rows(report))


def _as_rows(report: Mapping[str, Any]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["run", *(f"weight:{arm}" for arm in report["arms"])])
    for row in report["next"]["runs"]:
        writer.writerow([row["run"], *(f"{row['weights'][arm]:.10g}" for arm in report["arms"])])
    return stream.getvalue()


def _appendix(report: Mapping[str, Any]) -> Iterator[Block]:
    data = report["data"]
    yield Bullets(
        (
            f"Data: {', '.join(data['sources'])}; {_counts(report)}.",
            f"SHA-256 of the data: {data['sha256']}",
            f"Fingerprint of data, settings and version (curri {report['curri']}): {report['fingerprint']}",
        )
    )
    if data["notes"]:
        yield Text("Found while reading the data:")
        yield Bullets(tuple(data["notes"]))
    rows = [[name, _setting(value)] for name, value in report["settings"].items()]
    yield Table("Settings", ("setting", "value"), rows)
    yield _runs(report)


def _counts(report: Mapping[str, Any]) -> str:
    data = report["data"]
    return f"{data['runs']:,} runs of {data['mixtures']:,} mixtures of {len(report['arms'])} datasets"


def _setting(value: object) -> str:
    if value is None or value in ({}, []):
        return "–"
    if isinstance(value, dict):
        return ", ".join(
            f"{name}={each:g}" if isinstance(each, float) else f"{name}={each}" for name, each in value.items()
        )
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _runs(report: Mapping[str, Any]) -> Table:
    data = report["data"]
    decimals = {target["name"]: target["decimals"] for target in report["targets"]}
    rows = []
    for place, (name, weights) in enumerate(zip(data["names"], data["weights"], strict=True)):
        scores = [fixed(column[place], decimals.get(each, 4)) for each, column in data["scores"].items()]
        rows.append([name, *(percent(weight) for weight in weights), *scores])
    headings = ("run", *report["arms"], *data["scores"])
    return Table("All runs", headings, rows[:_MOST_RUNS], _rest(len(rows)), folded=True, bulk=len(rows) > _BULK)
