from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs curri[mix]")
pytest.importorskip("jinja2", reason="needs curri[report]")
pytest.importorskip("plotly", reason="needs curri[report]")

from curri.errors import InvalidParameter, MissingExtra
from curri.exchange.mixture_runs import RunsFile
from curri.mixtures import Runs, Target, fit
from curri.reports import mixture_report, render_markdown, render_page
from curri.reports.blocks import visible
from curri.reports.page import embedded
from curri.reports.paper import paper_part
from curri.reports.sections import mixture_page
from curri.reports.study import Limits, Study, compare_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Studied = Callable[..., Study]
    Reported = Callable[..., dict[str, Any]]

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'


class Parsed(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.words.append(data)


def without_plotly(page: str) -> str:
    """The page but for the library in it, which is large and not ours."""
    from plotly.offline import get_plotlyjs

    library = get_plotlyjs()
    assert library in page
    return page.replace(library, "")


def small(weights: Sequence[Sequence[float]], scores: Mapping[str, Sequence[float]], **more: Any) -> dict[str, Any]:
    """A report of runs that are given."""
    runs = Runs([f"d{place}" for place in range(len(weights[0]))], weights, scores)
    targets = more.pop("targets", [Target(name, {name: 1.0}) for name in scores])
    study = Study(runs=runs, targets=targets, **more)
    return mixture_report(study, RunsFile(runs, runs.notes, ("runs.csv",), "cd" * 32), {})


def check_renders(report: dict[str, Any]) -> None:
    """The document is JSON, and a page and a text can be made of it."""
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    page = Parsed(without_plotly(render_page(report)))
    assert "\n## " in render_markdown(report)
    assert visible(report["headline"]) in page.words


# --- the document -----------------------------------------------------------------------------------------------------


def test_the_recommendation_is_the_library_s(studied: Studied, reported: Reported) -> None:
    found, report = studied().recommendation, reported()
    assert list(report["recommendation"]["weights"].values()) == found.weights.tolist()
    assert report["recommendation"]["source"] == found.source
    (first, *_) = report["mixtures"]
    assert first["name"] == "recommended"
    prediction = first["predictions"]["acc"]
    assert prediction["mean"] == pytest.approx(found.chosen.mean)
    assert (prediction["low"], prediction["high"]) == pytest.approx(found.chosen.interval, rel=1e-4)


def test_it_is_the_same_every_time_and_has_a_fingerprint(reported: Reported, studied: Studied) -> None:
    first, other = reported(), reported(limits=Limits(caps={"math": 0.4}))
    study = studied()
    again = mixture_report(study, RunsFile(study.runs, study.runs.notes, ("runs.csv",), "ab" * 32), {"target": ["acc"]})
    assert first == again
    assert len(first["fingerprint"]) == 64
    assert other["recommendation"]["weights"]["math"] <= 0.4 + 1e-9


def test_the_fingerprint_tells_data_and_settings_apart(studied: Studied) -> None:
    study = studied()
    prints = {
        mixture_report(study, RunsFile(study.runs, (), ("x",), digest), settings)["fingerprint"]
        for digest in ("aa", "bb")
        for settings in ({"seed": 0}, {"seed": 1})
    }
    assert len(prints) == 4


def test_gains_are_of_the_recommended_mixture(reported: Reported) -> None:
    report = reported(limits=Limits(prior={"math": 5.0, "code": 3.0, "chat": 2.0}))
    assert set(report["gains"]) >= {"natural", "uniform"}
    found = {mixture["name"]: mixture["predictions"]["acc"] for mixture in report["mixtures"]}
    # Here that is the best measured one, which counts for what candidates have to beat.
    assert report["recommendation"]["source"] == "measured"
    beat = report["recommendation"]["to_beat"]
    gain = report["gains"]["uniform"]["acc"]["gain"]
    assert gain == pytest.approx(beat - found["uniform"]["mean"], abs=1e-9)
    assert gain == pytest.approx(-found["uniform"]["gain"], abs=1e-9)
    assert report["limits"]["natural"] == {"math": 0.5, "code": 0.3, "chat": 0.2}


def test_all_gains_on_the_best_measured_mixture_are_those_of_the_guard(studied: Studied) -> None:
    study = studied()
    found, best = study.recommendation, study.recommendation.best_measured.weights
    for candidate in found.candidates:
        there = study.difference(study.deciding, candidate.weights, best)
        assert there == pytest.approx((candidate.gain, candidate.gain_std))
        assert study.difference(study.deciding, best, candidate.weights) == (-there[0], there[1])
    assert study.difference(study.deciding, best, best) == (0.0, 0.0)


def test_long_fits_say_how_far_they_are(studied: Studied) -> None:
    told: list[tuple[int, int | None, str]] = []
    study = studied()
    study.tell = lambda *words: told.append(words)
    study.__dict__.pop("fits", None)
    fitted = list(study.fits.surrogates)
    columns = {part for target in study.targets for part in target.parts}
    assert [words for *_, words in told] == [f"fitting {name}" for name in fitted]
    assert all(total == (len(columns) if len(columns) > 1 else None) for _, total, _ in told)


def test_a_target_where_less_is_better_turns_the_gains_round(studied: Studied) -> None:
    study = studied()
    loss = Runs(study.runs.arms, study.runs.weights, {"loss": 1.0 - study.runs.scores("acc")})
    turned = Study(runs=loss, targets=[Target("loss", {"loss": 1.0}, lower=True)], surrogate="loglinear")
    assert turned.recommendation.weights == pytest.approx(study.recommendation.weights, abs=0.02)
    report = mixture_report(turned, RunsFile(loss, (), ("x",), "aa"), {})
    assert report["gains"]["uniform"]["loss"]["gain"] > 0.0
    assert "less is better" in without_plotly(render_page(report))


def test_effects_are_changes_at_the_recommended_mixture(reported: Reported, studied: Studied) -> None:
    report, study = reported(), studied()
    weights = study.recommendation.weights
    moved = 0.9 * weights / 1.0
    others = weights.copy()
    others[0] = 0.0
    moved = others / others.sum() * (1.0 - min(1.0, weights[0] + 0.1))
    moved[0] = min(1.0, weights[0] + 0.1)
    change = study.fits.mean(study.deciding, moved) - study.fits.mean(study.deciding, weights)
    assert report["effects"]["targets"]["acc"]["change"][0] == pytest.approx(float(change[0]))


def test_epochs_of_the_recommended_mixture(reported: Reported) -> None:
    limits = Limits(sizes={"math": 100.0, "code": 1000.0, "chat": 1000.0}, prompts=1000.0)
    training = reported(limits=limits)["mixtures"][0]["training"]
    assert training["epochs"]["math"] == pytest.approx(
        10.0 * reported(limits=limits)["recommendation"]["weights"]["math"]
    )
    bounded = reported(limits=Limits(sizes=limits.sizes, prompts=1000.0, max_epochs=2.0))
    assert bounded["recommendation"]["weights"]["math"] <= 0.2 + 1e-6


def test_what_to_run_next_repeats_the_best_measured_mixture_exactly(reported: Reported, studied: Studied) -> None:
    runs = reported()["next"]["runs"]
    (again,) = [row for row in runs if row["kind"] == "again"]
    assert list(again["weights"].values()) == studied().recommendation.best_measured.weights.tolist()
    assert all(math.fsum(row["weights"].values()) == pytest.approx(1.0, abs=1e-9) for row in runs)
    assert len({row["run"] for row in runs}) == len(runs)


def test_trade_offs_need_two_targets(reported: Reported) -> None:
    assert reported()["tradeoff"] is None
    found = reported(targets=2)["tradeoff"]
    means = np.array([point["mean"] for point in found["points"]])
    assert (np.diff(means[:, 0]) <= 1e-12).all()
    assert (np.diff(means[:, 1]) >= -1e-9).all()


def test_parts_of_a_sum_are_better_in_the_direction_that_betters_the_sum() -> None:
    report = small(
        [[1, 0], [0, 1], [0.5, 0.5], [0.25, 0.75], [0.75, 0.25]],
        {"gain": [1, 2, 3, 2.5, 2], "cost": [3, 2, 2.2, 2.1, 2.5]},
        targets=[Target("net", {"gain": 1.0, "cost": -0.5})],
    )
    assert [(each["name"], each["role"], each["lower"]) for each in report["targets"]] == [
        ("net", "decides", False),
        ("gain", "part", False),
        ("cost", "part", True),
    ]
    check_renders(report)


def test_replicates_and_near_replicates_are_told(reported: Reported) -> None:
    noise = reported()["noise"]
    assert len(noise["replicates"]) == 3
    assert noise["pooled"]["acc"]["degrees"] == 3
    near = small([[1, 0], [0, 1], [0.5, 0.5], [0.51, 0.49]], {"x": [1, 2, 3, 4]})["noise"]["near"]
    assert [(pair["runs"], round(pair["distance"], 3)) for pair in near] == [(["run 3", "run 4"], 0.01)]


# --- what may go wrong with the data ----------------------------------------------------------------------------------


def test_constant_targets() -> None:
    report = small([[1, 0], [0, 1], [0.5, 0.5]], {"x": [2, 2, 2]})
    assert report["recommendation"]["source"] == "measured"
    assert report["targets"][0]["quality"]["r2"] is None
    check_renders(report)


def test_missing_scores() -> None:
    nan = math.nan
    weights = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.2, 0.8], [0.7, 0.3]]
    report = small(weights, {"x": [1, nan, 3, 4, 5], "y": [nan, 2, 3, 4, 5]}, surrogate="linear")
    assert [target["quality"]["runs"] for target in report["targets"]] == [4, 4]
    check_renders(report)


def test_an_arm_that_was_never_varied() -> None:
    report = small([[0.8, 0, 0.2], [0, 0.8, 0.2], [0.4, 0.4, 0.2], [0.2, 0.6, 0.2]], {"x": [1, 2, 2, 2.1]})
    assert any("same weight in every run" in note for note in report["data"]["notes"])
    check_renders(report)


def test_one_arm() -> None:
    report = small([[1.0], [1.0], [1.0]], {"x": [1, 2, 3]})
    assert report["headline"] == "There is only one dataset, d0, so there is nothing to mix."
    check_renders(report)


def test_two_arms(reported: Reported) -> None:
    report = reported(arms=["a", "b"], runs=8)
    assert report["slices"]["kind"] == "none"
    check_renders(report)


@pytest.mark.slow
def test_sixty_arms_and_fewer_runs_than_arms(reported: Reported) -> None:
    report = reported(arms=[f"d{place}" for place in range(60)], runs=70, surrogate="linear")
    assert len(report["curves"]) == 60
    check_renders(report)
    weights = np.random.default_rng(0).dirichlet(np.ones(60), 12).tolist()
    check_renders(small(weights, {"x": list(range(12))}, surrogate="gp"))


@pytest.mark.parametrize("runs", [2, 3])
def test_two_and_three_runs(runs: int) -> None:
    weights = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]][:runs]
    check_renders(small(weights, {"x": [1.0, 2.0, 3.0][:runs]}))


def test_a_measured_best_that_is_not_allowed(reported: Reported) -> None:
    report = reported(limits=Limits(caps={"math": 0.05, "code": 0.5}))
    recommended = report["recommendation"]["weights"]
    assert recommended["math"] <= 0.05 + 1e-6
    check_renders(report)


def test_very_long_names_and_names_that_look_alike(reported: Reported) -> None:
    report = reported(arms=["x" * 200 + "1", "x" * 200 + "2", "x" * 200 + "3", "\u202edlrow"], runs=20)
    (weights, *_) = mixture_page(report).figures
    assert len(set(weights.layout["yaxis"]["tickvals"])) == 4
    check_renders(report)
    assert "\u202e" not in render_page(report)
    assert "\u202e" not in render_markdown(report)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_hostile_names_are_harmless(studied: Studied) -> None:
    study = studied(arms=[HOSTILE, "${7*7}{{7*7}}", "`|*_[x](http://evil)"])
    runs = Runs(study.runs.arms, study.runs.weights, {HOSTILE: study.runs.scores("acc")}, names=[
        f"{HOSTILE} {place}" for place in range(len(study.runs))
    ])  # fmt: skip
    hostile = Study(runs=runs, targets=[Target(HOSTILE, {HOSTILE: 1.0})], surrogate="loglinear")
    report = mixture_report(hostile, RunsFile(runs, (), (HOSTILE,), "aa"), {HOSTILE: [HOSTILE]})
    page = render_page(report)
    parsed = Parsed(without_plotly(page))
    assert len(parsed.scripts) == 3
    assert not [
        attributes for tag, attributes in parsed.tags if tag == "img" or any(a.startswith("on") for a in attributes)
    ]
    assert any(HOSTILE in words for words in parsed.words)
    assert "<img" not in without_plotly(page)
    figures = json.loads(parsed.scripts[0])
    assert "<img" not in json.dumps(figures)  # plotly would read tags in its texts
    text = re.sub(r"^(`{3,}).*?^\1$", "", render_markdown(report), flags=re.DOTALL | re.MULTILINE)  # but for code
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "[x](http" not in text


def test_embedded_json_cannot_end_its_script() -> None:
    text = embedded({"a": "</script><!--", "b": "\u2028&"})
    assert re.search(r"[<>&\u2028]", text) is None
    assert json.loads(text) == {"a": "</script><!--", "b": "\u2028&"}


def test_nothing_is_loaded_from_elsewhere(reported: Reported) -> None:
    page = without_plotly(render_page(reported()))
    parsed = Parsed(page)
    links = [value for _, attributes in parsed.tags for name, value in attributes.items() if name in ("src", "href")]
    assert all(link is not None and link.startswith(("#", "data:")) for link in links)
    assert re.search(r"https?://|@import|url\(", page) is None


def test_the_policy_allows_these_scripts_only(reported: Reported) -> None:
    import base64
    import hashlib

    page = render_page(reported())
    parsed = Parsed(page)
    (policy,) = [
        str(attributes["content"])
        for tag, attributes in parsed.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; ")
    programs = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(program.encode()).digest()).decode() for program in programs]
    assert len(hashes) == 2
    assert all(f"'sha256-{each}'" in policy for each in hashes)
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")


def test_tables_can_be_sorted_by_keyboard_and_figures_have_words(reported: Reported) -> None:
    page = without_plotly(render_page(reported(targets=2)))
    parsed = Parsed(page)
    headings = [attributes for tag, attributes in parsed.tags if tag == "th"]
    assert headings
    assert all(heading["aria-sort"] == "none" and heading["scope"] == "col" for heading in headings)
    assert page.count('<button type="button">') == len(headings)
    figures = [attributes for _, attributes in parsed.tags if "data-figure" in attributes]
    assert figures
    assert all(figure["role"] == "img" and figure["aria-label"] for figure in figures)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = {str(attributes["href"])[1:] for tag, attributes in parsed.tags if tag == "a"}
    assert anchors <= set(ids)


def test_figures_are_valid_for_plotly(reported: Reported) -> None:
    import plotly.graph_objects as go

    documents = [
        reported(targets=2),
        reported(arms=["a", "b", "c", "d"], runs=20),
    ]
    kinds = set()
    for report in documents:
        for figure in mixture_page(report).figures:
            go.Figure(data=figure.data, layout=figure.layout)
            kinds.add(figure.id.rstrip("0123456789-"))
    assert kinds == {"weights", "left-out", "effects", "curve", "ternary", "slice", "front", "noise"}


def test_page_and_text_say_the_same(reported: Reported) -> None:
    report = reported(targets=2)
    page, text = " ".join(Parsed(without_plotly(render_page(report))).words), render_markdown(report)
    shown = mixture_page(report)
    for section in shown.sections:
        assert section.title in page
        assert f"## {section.title}" in text
    cells = [cell.text for section in shown.sections for block in section.blocks if block.kind == "table"
             for row in block.cells for cell in row]  # type: ignore[union-attr]  # fmt: skip
    assert len(cells) > 200
    plain = re.sub(r"\\(.)", r"\1", text).replace("**", "")
    for cell in cells:
        assert cell in page
        assert cell in plain
    for fact in (report["headline"], *report["lead"], report["fingerprint"], report["data"]["sha256"]):
        assert fact in page
        assert fact in plain


def test_the_extra_is_named_where_it_is_missing(reported: Reported, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    report = reported()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra) as caught:
        render_page(report)
    assert "--format md" in str(caught.value.hint)
    assert render_markdown(report)


# --- targets, comparison, the paper -----------------------------------------------------------------------------------


def test_targets_must_differ(studied: Studied) -> None:
    with pytest.raises(InvalidParameter, match="more than once"):
        Study(runs=studied().runs, targets=[Target("acc", {"acc": 1.0})] * 2)


def test_every_surrogate_answers_or_says_why_not(studied: Studied) -> None:
    found = {each["surrogate"]: each for each in compare_surrogates(studied())}
    assert "needs at least" in found["lightgbm"]["reason"]
    assert found["best"]["quality"]["runs"] == 14
    direct = fit(studied().runs, "linear").quality(Target("acc", {"acc": 1.0}))
    assert found["linear"]["quality"]["r2"] == direct.r2


def test_the_paper_beside_the_default() -> None:
    third, half = 1.0 / 3.0, 0.5
    seeds = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0, half, half], [half, 0, half], [half, half, 0], [third] * 3]
    scores = [0.2, 0.3, 0.4, 0.6, 0.5, 0.4, 0.55]
    runs = Runs(["a", "b", "c"], seeds, {"out": scores})
    study = Study(runs=runs, targets=[Target("out", {"out": 1.0})], surrogate="linear")
    found = paper_part(study)
    assert len(found["test_r2"]) == 5
    names = {each["name"]: each["weights"] for each in found["heuristics"]}
    assert set(names) == {"Ain", "Aout", "Abal", "Coli", "Norm"}
    assert list(names["Norm"].values()) == pytest.approx([0.1 / 0.45, 0.15 / 0.45, 0.2 / 0.45])
    report = mixture_report(study, RunsFile(runs, (), ("x",), "aa"), {}, paper=True)
    assert "Algorithm 4" in render_markdown(report)
    few = Study(runs=Runs(["a", "b"], [[1, 0], [0, 1]], {"x": [1, 2]}), targets=[Target("x", {"x": 1.0})])
    short = mixture_report(few, RunsFile(few.runs, (), ("x",), "aa"), {}, paper=True)
    assert "needs at least 5 runs" in render_markdown(short)
