"""The difficulty report as a document: its numbers against direct counting, and every kind of store."""

from __future__ import annotations

import itertools
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri import Scheduler
from curri.errors import InvalidInput, InvalidParameter, UnknownName
from curri.planning import plan
from curri.reports import render_markdown
from curri.reports.difficulty import Question, default_group_size, difficulty_report, whose
from curri.reports.difficulty.duplicates import SIMILAR
from curri.reports.difficulty.rates import Posteriors, edge_of_signal, least_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from curri.store import PromptStore

    Stored = Callable[..., PromptStore]
    Add = Callable[..., None]

EVEN = [("one", "a"), ("two", "a"), ("three", "b"), ("four", "b")]


def report(store: PromptStore, model: str | None = "m", **question: Any) -> dict[str, Any]:
    found = difficulty_report(store, Question(model=model, **question), {"model": model})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert f"# {found['headline'][:10]}" in render_markdown(found).replace("\\", "")
    return found


def words(n: int, arms: int = 1) -> list[tuple[str, str]]:
    return [(f"prompt {i}", f"arm{i % arms}") for i in range(n)]


# --- rates ------------------------------------------------------------------------------------------------------------


@given(n=st.integers(2, 200))
def test_at_the_edge_groups_have_half_of_the_most_signal(n: int) -> None:
    edge = edge_of_signal(n)
    assert 0.5 < edge < 1.0
    assert 1.0 - edge**n - (1.0 - edge) ** n == pytest.approx(least_signal(n), abs=1e-9)


def test_probabilities_of_ranges_are_those_of_the_beta_distribution() -> None:
    ones = np.ones(1)
    uniform = Posteriors(ones, ones, ones, ones).between((0.0, 0.2, 0.7, 1.0), np.array([0, 0]))
    assert uniform.tolist() == [pytest.approx([0.2, 0.5, 0.3])] * 2
    # P(p <= 1/2) of Beta(3, 1) is (1/2)³.
    steep = Posteriors(3.0 * ones, ones, ones, ones).between((0.0, 0.5, 1.0), np.array([0]))
    assert steep[0] == pytest.approx([0.125, 0.875])


def test_few_rollouts_do_not_spread_the_histogram(stored: Stored) -> None:
    """Every prompt has a pass rate of a half; of four responses one prompt in eight is always or never right."""
    rng = np.random.default_rng(1)
    groups = [(i + 1, rng.integers(0, 2, 4).tolist()) for i in range(800)]
    found = report(stored(words(800), groups))["histogram"]
    inner = sum(found["all"]["mean"][3:7])
    assert sum(found["all"]["raw"][3:7]) < 400
    assert inner > 700
    assert sum(found["all"]["mean"]) == pytest.approx(800)


def test_expected_counts_meet_the_truth(stored: Stored) -> None:
    rng = np.random.default_rng(2)
    rates = rng.beta(0.4, 0.7, 1500)
    groups = [(i + 1, (rng.random(8) < rate).astype(int).tolist()) for i, rate in enumerate(rates)]
    found = report(stored(words(1500), groups))
    edge = found["verdicts"]["edge"]
    truth = {"easy": np.sum(rates > edge), "hard": np.sum(rates < 1 - edge)}
    for kind, number in truth.items():
        verdict = found["verdicts"][kind]
        assert abs(verdict["prompts"] - number) < 3 * verdict["half"] + 15, kind
        (raw,) = [np.sum([sum(g) == (8 if kind == "easy" else 0) for _, g in groups])]
        assert abs(verdict["prompts"] - number) < abs(raw - number)


def test_verdicts_add_up(stored: Stored) -> None:
    groups = [(1, [1] * 30), (2, [0] * 30), (3, [0, 1] * 15)]
    found = report(stored(EVEN, groups))
    total = sum(found["verdicts"][kind]["prompts"] for kind in ("easy", "hard", "keep", "flat"))
    assert total == pytest.approx(found["counts"]["tried"]) == pytest.approx(3)
    by_arm = {arm["arm"]: arm for arm in found["arms"]}
    assert by_arm["b"]["keep"] > 0.9
    assert (by_arm["a"]["tried"], by_arm["b"]["tried"], by_arm["b"]["prompts"]) == (2, 1, 2)


def test_group_sizes_agree_with_curri_plan(stored: Stored) -> None:
    rng = np.random.default_rng(3)
    store = stored(words(60, 3), [(i + 1, (rng.random(6) < rng.random()).astype(int).tolist()) for i in range(60)])
    planned = {group.n: group.waste for group in plan(store).together.groups}
    found = {row["size"]: row["dead"] for row in report(store)["group_sizes"]}
    assert {size: found[size] for size in planned} == pytest.approx(planned)


# --- signal -----------------------------------------------------------------------------------------------------------


def test_signal_is_what_direct_counting_gives(stored: Stored) -> None:
    rng = np.random.default_rng(8)
    groups = [
        (prompt, rng.choice([0.0, 1.0, 0.5], rng.integers(1, 5)).tolist(), {"policy_version": version, "tokens": 10})
        for prompt in range(1, 5)
        for version in range(40)
    ]
    found = report(stored(EVEN, groups))["signal"]
    whole = [rewards for _, rewards, _ in groups if len(rewards) > 1]
    dead = [set(rewards) for rewards in whole if len(set(rewards)) == 1]
    assert 10 < len(dead) < len(whole) < len(groups)
    assert (found["groups"], found["dead"], found["single"]) == (len(whole), len(dead), len(groups) - len(whole))
    kinds = {"right": {1.0}, "wrong": {0.0}, "same": {0.5}}
    assert {kind: found[kind] for kind in kinds} == {kind: dead.count(each) for kind, each in kinds.items()}
    assert found["tokens_dead"] == 10 * sum(len(rewards) for rewards in whole if len(set(rewards)) == 1)
    assert sum(arm["groups"] for arm in found["arms"]) == found["groups"]


def test_probes_and_other_models_do_not_count(stored: Stored, add_groups: Add) -> None:
    store = stored(EVEN, [(1, [0, 1]), (2, [0, 0], {"probe": True})])
    add_groups(store, [(3, [1, 1])], "other")
    found = report(store)
    assert (found["signal"]["groups"], found["counts"]["responses"]) == (1, 2)


def test_the_ledger_says_what_became_of_groups(stored: Stored) -> None:
    store = stored(words(12, 2))
    scheduler = Scheduler(store, "vas", run="r1", group_size=4, seed=0)
    ids = scheduler.ask(9).prompt_ids.tolist()

    def tell(prompt: int, rewards: list[float], **more: Any) -> None:
        scheduler.tell([prompt] * len(rewards), rewards, tokens=[100] * len(rewards), **more)

    tell(ids[0], [0, 1, 0, 1])
    tell(ids[1], [1, 1, 1, 1])
    tell(ids[2], [0, 0, 0, 0], resolve="dropped", reason="zero variance")
    tell(ids[3], [0, 1, 1, 1], resolve="dropped", reason="stale")
    tell(ids[4], [0, 0], resolve="lost", reason="failed")
    scheduler.resolve(ids[5:6], "dropped", reason="surplus")
    tell(ids[6], [1, 1, 1], resolve=None)
    probes = scheduler.ask(1, kind="probe").prompt_ids.tolist()
    tell(probes[0], [0, 0, 0, 0])
    (run,) = report(store, "run:r1")["runs"]
    outcomes = {(row["outcome"], row["reason"], row["signal"]): row for row in run["outcomes"]}
    assert {key: (row["groups"], row["responses"], row["tokens"]) for key, row in outcomes.items()} == {
        ("trained on", "", "yes"): (1, 4, 400),
        ("trained on", "", "no"): (1, 4, 400),
        ("dropped", "zero variance", "no"): (1, 4, 400),
        ("dropped", "stale", "yes"): (1, 4, 400),
        ("dropped", "surplus", "–"): (1, 0, 0),
        ("lost", "failed", "no"): (1, 2, 200),
        ("in flight", "", "no"): (1, 3, 300),
        ("in flight", "", "–"): (2, 0, 0),
        ("probe", "", "no"): (1, 4, 400),
    }
    assert (run["groups"], run["wasted"], run["tokens"], run["tokens_wasted"]) == (6, 5, 1800, 1400)
    assert outcomes["lost", "failed", "no"]["missing"] == 2
    assert sum(arm["wasted"] for arm in run["arms"]) == run["wasted"]
    assert report(store, "run:r1", run="r1")["runs"] == [run]


def test_many_reasons_are_put_together(stored: Stored) -> None:
    store = stored(words(20))
    scheduler = Scheduler(store, "uniform", run="r1", seed=0)
    ids = scheduler.ask(20).prompt_ids.tolist()
    for place, prompt in enumerate(ids):
        scheduler.resolve([prompt], "lost", reason=f"reason {place}")
    (run,) = report(store, None)["runs"]
    assert len(run["outcomes"]) == 9
    assert max(row["groups"] for row in run["outcomes"]) == 12


# --- drift, coverage, priors ------------------------------------------------------------------------------------------


def test_drift_is_of_the_same_prompts(stored: Stored) -> None:
    """Later versions get easier prompts: the mean rises, and no prompt has changed."""
    hard = [(i, [0, 0, 0, 1], {"policy_version": v}) for i in range(1, 5) for v in (0, 1)]
    easy = [(i, [1, 1, 1, 0], {"policy_version": v}) for i in range(5, 9) for v in (1, 2)]
    both = [(9, [0, 1, 0, 1], {"policy_version": v}) for v in (0, 2)] + [
        (10, [1, 1, 0, 0], {"policy_version": v}) for v in (0, 2)
    ]
    found = report(stored(words(10), hard + easy + both))["drift"]
    assert [each["first"] for each in found["bins"]] == [0, 1, 2]
    change = found["all"]["change"]
    assert change["late"] - change["early"] > 0.3
    assert (change["change"], change["half"], change["prompts"]) == (0.0, 0.0, 2)
    assert found["signal"]["signal"] == [1.0, 1.0, 1.0]


def test_rounds_take_the_place_of_versions(stored: Stored) -> None:
    store = stored(EVEN, [(1, [0, 0], {"round": 0}), (1, [1, 1], {"round": 1}), (2, [0, 1], {"round": 1})])
    found = report(store)["drift"]
    assert found["by"] == "round"
    assert found["all"]["mean"] == [0.0, 0.75]
    assert report(stored(EVEN, [(1, [0, 1], {"policy_version": 3})]))["drift"] is None


def test_coverage(stored: Stored) -> None:
    groups = [(1, [0, 1], {"policy_version": v}) for v in range(8)] + [(2, [0, 1]), (3, [1, 1])]
    found = report(stored(words(20), groups))["coverage"]
    assert (found["unit"], found["tried"], found["total"], found["top_prompts"]) == ("visits", 3, 10, 2)
    assert found["top_share"] == 0.9
    assert {(each["first"], each["last"]): each["prompts"] for each in found["bins"]} == {
        (0, 0): 17, (1, 1): 2, (2, 2): 0, (3, 4): 0, (5, 8): 1,
    }  # fmt: skip


def test_imported_priors_are_compared_with_own_rollouts(stored: Stored) -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, 40)
    store = stored(words(40), [(i + 1, [1] * k + [0] * (8 - k)) for i, k in enumerate(counts.tolist())])
    ids = np.arange(1, 41)
    store.priors.set("same", ids, counts / 8, np.full(40, 8), source="a")
    store.priors.set("opposite", ids, 1 - counts / 8, np.full(40, 8), source="b")
    store.priors.set("few", ids[:3], counts[:3] / 8, np.full(3, 8), source="c")
    store.priors.use("opposite")
    found = report(store)
    by_model = {each["model"]: each for each in found["priors"]}
    assert (by_model["same"]["rank"], by_model["same"]["bias"], by_model["same"]["error"]) == (1.0, 0.0, 0.0)
    assert by_model["opposite"]["rank"] == -1.0
    assert (by_model["few"]["rank"], by_model["few"]["prompts"], by_model["few"]["bins"]) == (None, 3, [])
    for each in by_model["same"]["bins"]:
        assert each["prior"] == pytest.approx(each["own"])
    assert any(item["kind"] == "priors" and "same" in item["command"] for item in found["advice"])


# --- duplicates -------------------------------------------------------------------------------------------------------


def test_the_same_text_but_for_case_spaces_and_punctuation(stored: Stored) -> None:
    prompts = [
        ("What is 3 + 4?", "a", "7"),
        ("what is  3 + 4", "a", "7"),
        ("“What is 3 + 4!”", "b", "7"),
        ("What is 3 - 4?", "a", "-1"),
        ("What is 3.4?", "a", "x"),
        ("What is 3 4", "a", "x"),
        ("Name it.", "a", "1"),
        ("name it", "a", "2"),
    ]
    found = report(stored(prompts), None)["duplicates"]
    assert [(group["ids"], group["differ"], group["in_arms"]) for group in found["same"]["shown"]] == [
        ([1, 2, 3], False, True),
        ([7, 8], True, False),
    ]
    assert (found["same"]["surplus"], found["same"]["contradicting"]) == (3, 1)
    assert found["spare_ids"] == [2, 3]


def test_nearly_the_same_words_are_those_that_a_comparison_of_all_pairs_finds(stored: Stored) -> None:
    rng = np.random.default_rng(5)
    texts = []
    for _ in range(25):
        base = rng.integers(0, 400, 40)
        texts.append(base)
        for changes in (1, 2, 15):
            copy = base.copy()
            copy[rng.choice(40, changes, replace=False)] = rng.integers(400, 800, changes)
            texts.append(copy)
    lines = [" ".join(f"w{'abcdefghij'[n % 10]}{chr(97 + n // 10 % 26)}{chr(97 + n // 260)}" for n in t) for t in texts]
    found = report(stored([(line, "a") for line in lines]), None)["duplicates"]["near"]
    pairs = [set(itertools.pairwise(line.split())) for line in lines]
    alike = {
        frozenset((i + 1, j + 1))
        for i, j in itertools.combinations(range(len(lines)), 2)
        if len(pairs[i] & pairs[j]) >= SIMILAR * len(pairs[i] | pairs[j])
    }
    groups = [set(group["ids"]) for group in found["shown"]]
    assert len(alike) >= 25
    assert found["groups"] == 25
    assert all(any(pair <= group for pair in alike) for group in groups)
    shown = [pair for pair in alike if any(pair & group for group in groups)]
    assert all(any(pair <= group for group in groups) for pair in shown)


def test_other_numbers_make_another_prompt(stored: Stored) -> None:
    text = (
        "A train with {} cars leaves the old station at noon and comes back with {} cars in the evening of the same day"
    )
    prompts = [(text.format(10, 4), "a"), (text.format(10, 4).replace("old", "new"), "a"), (text.format(11, 4), "a")]
    found = report(stored(prompts), None)["duplicates"]["near"]
    assert [group["ids"] for group in found["shown"]] == [[1, 2]]
    (pair,) = (group["texts"] for group in found["shown"])
    assert (" old " in pair[0], " new " in pair[1]) == (True, True)


def test_what_is_retired_is_no_duplicate(stored: Stored) -> None:
    store = stored([("same text", "a"), ("Same text", "a")])
    assert report(store, None)["duplicates"]["same"]["groups"] == 1
    store.prompts.retire(np.array([2]))
    assert report(store, None)["duplicates"]["same"]["groups"] == 0


# --- rewards that are not right or wrong ------------------------------------------------------------------------------


def test_partly_right_answers(stored: Stored) -> None:
    groups = [(1, [0.3] * 8), (2, [0.1 * i for i in range(8)]), (3, [0.9] * 8), (4, [0, 1] * 4)]
    found = report(stored(EVEN, groups))
    assert found["counts"]["fractional"] == 3
    kinds = {kind: found["verdicts"][kind]["prompts"] for kind in ("hard", "keep", "easy")}
    assert kinds["hard"] == pytest.approx(1, abs=0.1)
    assert kinds["easy"] == pytest.approx(1, abs=0.1)
    assert kinds["keep"] == pytest.approx(2, abs=0.1)
    live = {row["prompt_id"]: row["live"] for row in found["examples"]["informative"]}
    assert live[2] > 0.9
    assert live[1] < 0.4
    assert found["signal"]["same"] == 2


def test_rewards_without_right_or_wrong(stored: Stored) -> None:
    found = report(stored(EVEN, [(1, [-2, -2, -2, -2, -2, -2]), (2, [3.5, 1.0, 2.0, 7.0])]))
    assert found["histogram"] is None
    assert found["counts"]["unjudged"] == 2
    assert found["verdicts"]["flat"]["prompts"] == 1
    assert found["examples"]["hardest"] == found["examples"]["easiest"] == []
    assert "not known" in found["headline"] or "same" in found["headline"]
    assert "`solved`" in render_markdown(found).replace("\\", "")


def test_shaped_rewards_go_by_what_was_right(stored: Stored) -> None:
    groups = [(1, [1.0, 0.9, 0.8, 0.7] * 8, {"solved": [1.0] * 32}), (2, [0.0, 0.1] * 16, {"solved": [0.0] * 32})]
    found = report(stored(EVEN, groups))
    assert found["counts"]["shaped"] is True
    assert (found["verdicts"]["easy"]["prompts"], found["verdicts"]["hard"]["prompts"]) == pytest.approx(
        (1, 1), abs=0.2
    )
    assert found["signal"]["dead"] == 0


# --- every kind of store ----------------------------------------------------------------------------------------------


def test_an_empty_store(stored: Stored) -> None:
    found = report(stored([]), None)
    assert "no training prompts" in found["headline"]
    assert [item["kind"] for item in found["advice"]] == ["ingest"]


def test_no_rollouts(stored: Stored) -> None:
    found = report(stored(EVEN), None)
    assert found["headline"].startswith("4 prompts in 2 arms and no rollouts yet")
    assert [item["kind"] for item in found["advice"]] == ["rollouts"]


def test_one_prompt(stored: Stored) -> None:
    found = report(stored([("one", "a")], [(1, [1] * 64)]))
    assert found["headline"].startswith("The one prompt that was tried is most likely too easy for “m”")


def test_single_responses(stored: Stored) -> None:
    found = report(stored(words(30), [(i + 1, [i % 2]) for i in range(30)]))
    assert found["signal"] is None
    assert "No group of two or more" in found["headline"]
    assert found["verdicts"]["keep"]["prompts"] > 0


def test_200_arms(stored: Stored) -> None:
    rng = np.random.default_rng(0)
    rates = rng.beta(0.3, 0.5, 400)
    groups = [(i + 1, rng.binomial(1, rates[i], 4).tolist(), {"policy_version": v}) for i in range(400) for v in (0, 1)]
    found = report(stored(words(400, 200), groups))
    assert len(found["arms"]) == len(found["histogram"]["arms"]) == len(found["signal"]["arms"]) == 200


def test_a_filter_that_matches_nothing_and_one_that_matches_some(stored: Stored) -> None:
    store = stored(EVEN, [(1, [0, 1]), (3, [1, 1])])
    none = report(store, prompt_ids=np.empty(0, dtype=np.int64), where='arm == "zzz"')
    assert "matches the filter" in none["headline"]
    some = report(store, prompt_ids=store.prompts.where('arm == "a"'), where='arm == "a"')
    assert (some["counts"]["prompts"], some["signal"]["groups"]) == (2, 1)
    assert all('(arm == "a") and ' in item["command"] for item in some["advice"] if item["matches"])


def test_retired_and_held_out_prompts(stored: Stored) -> None:
    store = stored(EVEN, [(i, [0, 1]) for i in range(1, 5)])
    store.prompts.set_split(np.array([4]), "eval")
    store.prompts.retire(np.array([1]))
    found = report(store)
    counts = found["counts"]
    assert (counts["prompts"], counts["retired"], counts["held_out"], counts["tried"]) == (2, 1, 1, 2)
    assert found["signal"]["groups"] == 3
    store.prompts.retire(np.array([2, 3]))
    assert report(store)["headline"].startswith("Every prompt with rollouts is retired.")


def test_text_that_would_steer_a_screen_is_shown(stored: Stored) -> None:
    prompts = [("<script>\u202eabc\u202c\x1b[31m\u200b\n two", "\u202earm")]
    found = report(stored(prompts, [(1, [0, 1])]))
    assert found["prompts"]["1"]["text"] == "<script>\\u202eabc\\u202c\\u001b[31m\\u200b two"
    assert "\u202e" not in render_markdown(found)


# --- the question, the fingerprint ------------------------------------------------------------------------------------


def test_whose_rollouts(stored: Stored, add_groups: Add) -> None:
    store = stored(EVEN, [(1, [0, 1])])
    assert whose(store) == whose(store, "m") == "m"
    with pytest.raises(UnknownName):
        whose(store, "n")
    with pytest.raises(UnknownName):
        whose(store, run="r")
    Scheduler(store, "uniform", run="r", seed=0)
    with pytest.raises(InvalidInput, match="two sources"):
        whose(store, "m", "r")
    assert whose(store, run="r") is None
    add_groups(store, [(1, [0, 1])], "n")
    with pytest.raises(InvalidInput, match="2 models"):
        whose(store)


def test_the_only_run_is_what_it_is_about(stored: Stored) -> None:
    store = stored(EVEN)
    assert whose(store) is None
    for number, run in enumerate(("r1", "r2")):
        scheduler = Scheduler(store, "uniform", run=run, seed=0, group_size=4 + number)
        scheduler.tell(scheduler.ask(2).prompt_ids, [0, 1])
        if number == 0:
            assert whose(store) == "run:r1"
    with pytest.raises(InvalidInput, match="2 runs"):
        whose(store)
    assert default_group_size(store, None) == (5, 'as in run "r2"')
    assert default_group_size(store, "run:r1") == (4, 'as in run "r1"')


def test_the_group_size_decides(stored: Stored) -> None:
    store = stored(words(40), [(i + 1, [1] * 15 + [0]) for i in range(40)])
    small, large = report(store, group_size=4), report(store, group_size=64)
    assert small["verdicts"]["easy"]["prompts"] > 20 > large["verdicts"]["easy"]["prompts"]
    with pytest.raises(InvalidParameter, match="2 to 1024"):
        Question(model=None, group_size=1)
    assert default_group_size(store, "m") == (8, "the default")


def test_the_fingerprint_is_of_data_and_settings(stored: Stored, add_groups: Add) -> None:
    store = stored(EVEN, [(1, [0, 1])])
    first = difficulty_report(store, Question(model="m"), {"where": None})
    assert first == difficulty_report(store, Question(model="m"), {"where": None})
    other = difficulty_report(store, Question(model="m"), {"where": "x"})
    assert other["data"]["sha256"] == first["data"]["sha256"]
    assert other["fingerprint"] != first["fingerprint"]
    add_groups(store, [(2, [0, 1])], "m2")
    assert difficulty_report(store, Question(model="m"), {"where": None})["fingerprint"] == first["fingerprint"]
    store.connection.execute("update rollouts set reward = 0.5 where prompt_id = 1 and reward = 1")
    assert difficulty_report(store, Question(model="m"), {"where": None})["fingerprint"] != first["fingerprint"]


def test_the_order_of_examples(stored: Stored) -> None:
    groups: Sequence[Any] = [(1, [0] * 30), (2, [0, 1] * 15), (3, [1] * 30), (4, [0, 1] * 4)]
    found = report(stored(EVEN, groups))["examples"]
    assert [row["prompt_id"] for row in found["informative"]][:2] == [2, 4]
    assert found["hardest"][0]["prompt_id"] == 1
    assert found["easiest"][0]["prompt_id"] == 3
    assert math.isclose(found["easiest"][0]["pass_rate"], 1.0)
