"""Reinforce-Ada: the reference's runs through the whole contract, open rounds that survive, and honest numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri import PromptPool, Rollouts, Scheduler
from curri.curricula.reinforce_ada import ReinforceAda
from curri.errors import InvalidParameter, UnknownPrompt
from curri.estimators import pool_baseline_advantages
from curri.selectors import SuccessiveElimination, elimination_cost
from curri.state import pack, same_state, unpack
from curri.store import NewPrompt, open_store

if TYPE_CHECKING:
    from curri.types import Selection

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "reinforce_ada.json").read_text())
EXITS = {"balanced": "balanced", "positive_focused": "positive"}


class Trainer:
    """Hands out each prompt's scripted rewards in generation order, and remembers what was generated."""

    def __init__(self, streams: dict[int, list[float]]) -> None:
        self.streams = streams
        self.generated: dict[int, list[float]] = {prompt: [] for prompt in streams}

    def generate(self, selection: Selection) -> Rollouts:
        ids: list[int] = []
        for prompt, n in zip(selection.prompt_ids.tolist(), selection.n_rollouts.tolist(), strict=True):
            done = len(self.generated[prompt])
            self.generated[prompt] += self.streams[prompt][done : done + n]
            ids += [prompt] * (len(self.generated[prompt]) - done)
        place = {prompt: len(values) for prompt, values in self.generated.items()}
        rewards = []
        for prompt in reversed(ids):
            place[prompt] -= 1
            rewards.append(self.generated[prompt][place[prompt]])
        return Rollouts(ids, rewards[::-1])

    def all(self) -> Rollouts:
        ids = [prompt for prompt, values in self.generated.items() for _ in values]
        return Rollouts(ids, [value for values in self.generated.values() for value in values])


def step(ada: ReinforceAda, trainer: Trainer, n: int) -> list[dict[int, int]]:
    """One step up to the last top-up; gives what each part of it asked for."""
    first = ada.ask(n)
    parts, selection = [], first
    while selection is not None:
        parts.append(dict(zip(selection.prompt_ids.tolist(), selection.n_rollouts.tolist(), strict=True)))
        ada.tell(trainer.generate(selection))
        selection = ada.top_up(first.ticket)  # type: ignore[assignment]  # None ends the loop
    return parts


def metric(ada: ReinforceAda, name: str) -> float:
    return ada.metrics()[f"curriculum/reinforce-ada/{name}"]


# ---- the reference ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOLDEN["sequential_sampling"]["cases"], ids=lambda case: case["name"])
def test_golden_sequential_sampling(case: dict[str, Any]) -> None:
    names = list(case["reward_stream_per_prompt"])
    trainer = Trainer(dict(enumerate(case["reward_stream_per_prompt"].values())))
    ada = ReinforceAda(
        PromptPool(range(len(names))),
        group_size=case["n_keep"],
        round_size=case["round_repeat_M"],
        max_rounds=case["max_rounds_N"],
        exit=EXITS[case["choice"]],
        positive_threshold=case["positive_threshold"],
    )
    parts = step(ada, trainer, len(names))
    assert [sum(part.values()) for part in parts] == case["expected"]["responses_requested_per_round"]
    told = trainer.all()
    groups = ada.group_of(told)
    for prompt, name in enumerate(names):
        want, group = case["expected"]["per_prompt"][name], groups[prompt]
        start = int(np.flatnonzero(told.prompt_ids == prompt)[0])
        assert (group.positions - start).tolist() == want["kept_generation_indices"]
        assert (group.n_positive, group.n_negative) == (want["pool_pos"], want["pool_neg"])
        advantages = pool_baseline_advantages(group.rewards, group.n_positive, group.n_negative)
        assert advantages == pytest.approx(want["adv_global_mean"], abs=1e-5)
    ada.advance()
    spent = sum(case["expected"]["responses_requested_per_round"])
    assert metric(ada, "rollouts_spent") == spent
    first_mean = case["expected"]["reward_mean_per_round"][0]
    assert metric(ada, "reward_mean_first_round") == pytest.approx(first_mean, abs=1e-6)


@pytest.mark.parametrize("case", GOLDEN["est_ema"]["cases"], ids=lambda case: case["name"])
def test_golden_est_ema(case: dict[str, Any]) -> None:
    names = sorted({name for step_ in case["steps"] for name in step_["expected_budget"]})
    ids = {name: 10 + i for i, name in enumerate(names)}
    ada = ReinforceAda(
        PromptPool(list(ids.values()), names),  # an arm for each prompt, so that a quota picks the reference's batch
        allocation="estimate",
        power=1.0,
        prior_alpha=case["bayes_alpha"],
        prior_beta=case["bayes_beta"],
        decay=case["bayes_ema_decay"],
        round_size=case["round_repeat"],
    )
    for step_ in case["steps"]:
        budget = step_["expected_budget"]
        selection = ada.ask(len(budget), quota=dict.fromkeys(budget, 1))
        assert dict(zip(selection.arms.tolist(), selection.n_rollouts.tolist(), strict=True)) == budget
        drawn = step_["rewards_drawn"]
        ada.tell(
            Rollouts(
                np.repeat([ids[k] for k in drawn], [len(v) for v in drawn.values()]),
                np.concatenate(list(drawn.values())),
            )
        )
        assert ada.top_up(selection.ticket) is None
        ada.advance()
        for name, after in step_["expected_stats_after"].items():
            known = ada.explain(ids[name])
            assert known["responses_counted"] == pytest.approx(after["n_total"], rel=1e-12)
            rate = (case["bayes_alpha"] + after["n_pos"]) / (
                case["bayes_alpha"] + case["bayes_beta"] + after["n_total"]
            )
            assert known["pass_rate_estimate"] == pytest.approx(rate, rel=1e-12)


@given(
    st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=6),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 4),
    st.sampled_from(["balanced", "positive"]),
)
def test_same_as_the_plain_class(
    bits: list[int], group_size: int, round_size: int, max_rounds: int, exit_: str
) -> None:
    streams = {i: [float(b >> k & 1) for k in range(24)] for i, b in enumerate(bits)}
    trainer = Trainer(streams)
    ada = ReinforceAda(
        PromptPool(range(len(bits))), group_size=group_size, round_size=round_size, max_rounds=max_rounds, exit=exit_
    )
    parts = step(ada, trainer, len(bits))
    plain = SuccessiveElimination(range(len(bits)), group_size, round_size, max_rounds, exit_)
    other = Trainer(streams)
    for part in parts:
        ids, n = plain.ask()
        assert dict(zip(ids.tolist(), n.tolist(), strict=True)) == part
        told = [other.streams[i][len(other.generated[i]) :][:round_size] for i in ids.tolist()]
        for i, values in zip(ids.tolist(), told, strict=True):
            other.generated[i] += values
        plain.tell(np.repeat(ids, n), np.concatenate(told))
    assert plain.done
    verdict = ada.admit(trainer.all())
    assert set(verdict.verdict.tolist()) == {"keep"}
    for prompt, group in ada.group_of(trainer.all()).items():
        wanted = plain.groups()[prompt]
        assert group.rewards.tolist() == wanted.rewards.tolist()
        assert (group.resolved, group.rounds, group.drawn) == (wanted.resolved, wanted.rounds, wanted.drawn)


# ---- rounds ----------------------------------------------------------------------------------------------------------

ALTERNATING, WRONG, RIGHT = [1.0, 0.0] * 16, [0.0] * 32, [1.0] * 32


def test_positive_exit_stops_at_the_first_success() -> None:
    parts = step(ReinforceAda(PromptPool([1, 2, 3]), exit="positive"), Trainer({1: ALTERNATING, 2: WRONG, 3: RIGHT}), 3)
    assert parts[0] == {1: 8, 2: 8, 3: 8}
    assert parts[1:] == [{2: 8}] * 3


def test_probes_and_other_rounds_do_not_count_for_a_round() -> None:
    ada = ReinforceAda(PromptPool([1, 2]), round_size=2)
    first, second = ada.ask(1), ada.ask(1)
    a, b = int(first.prompt_ids[0]), int(second.prompt_ids[0])
    ada.tell(Rollouts([a, a], [0, 0]))
    ada.tell(Rollouts([b, b], [0, 0]))
    ada.tell(Rollouts([a] * 4, [1, 1, 0, 0], kind="probe"))
    for ticket, prompt in ((second.ticket, b), (first.ticket, a)):
        more = ada.top_up(ticket)
        assert more is not None
        assert more.prompt_ids.tolist() == [prompt]
        assert np.isnan(more.probability).all()


def test_a_prompt_waits_for_the_rest_of_its_rollouts_unless_told_to_go_on() -> None:
    for incomplete, wanted in (("wait", None), ("go_on", [1])):
        ada = ReinforceAda(PromptPool([1]), incomplete=incomplete)
        ticket = ada.ask(1).ticket
        assert ada.top_up(ticket) is None, "nothing was told yet"
        ada.tell(Rollouts([1] * 7, [0] * 7))
        more = ada.top_up(ticket)
        assert (None if more is None else more.prompt_ids.tolist()) == wanted
    ada = ReinforceAda(PromptPool([1]))
    ticket = ada.ask(1).ticket
    ada.tell(Rollouts([1] * 7, [0] * 7))
    ada.tell(Rollouts([1], [0]))
    assert ada.top_up(ticket) is not None
    assert ada.top_up(ticket) is None, "what was handed out just now was not told"


def test_a_round_told_twice_over_ends_by_the_number_of_responses() -> None:
    """After a crash a part may be generated again."""
    ada = ReinforceAda(PromptPool([1]), max_rounds=3)
    ticket = ada.ask(1).ticket
    ada.tell(Rollouts([1] * 20, [0] * 20))
    more = ada.top_up(ticket)
    assert more is not None
    assert more.n_rollouts.tolist() == [4]
    ada.tell(Rollouts([1] * 4, [0] * 4))
    assert ada.top_up(ticket) is None


def test_lost_responses_make_no_further_rounds() -> None:
    """Whoever goes on without them is through after ``max_rounds`` all the same, and told so by ``admit``."""
    ada = ReinforceAda(PromptPool([1]), incomplete="go_on", max_rounds=3)
    ticket = ada.ask(1).ticket
    told = Rollouts([1] * 3, [0] * 3)
    for last in (False, False, True):
        assert ada.admit(told).verdict.tolist() == ["keep" if last else "more"]
        ada.tell(Rollouts([1], [0]))
        assert (ada.top_up(ticket) is None) == last


def test_late_responses_of_a_folded_round_start_no_rounds() -> None:
    ada = ReinforceAda(PromptPool([1]))
    ticket = ada.ask(1).ticket
    ada.tell(Rollouts([1] * 8, [0] * 8))
    ada.advance()
    ada.tell(Rollouts([1] * 8, [0] * 8))
    assert ada.top_up(ticket) is None


# ---- budget ----------------------------------------------------------------------------------------------------------


def test_the_budget_is_spent_and_not_passed() -> None:
    for budget, wanted in ((1.0, 80), (1.5, 120), (2.05, 164), (4.0, 320), (9.0, 320), (0.25, 80), (0.0, 320)):
        ada = ReinforceAda(PromptPool(range(10)), budget=budget)
        trainer = Trainer(dict.fromkeys(range(10), WRONG))
        parts = step(ada, trainer, 10)
        assert sum(sum(part.values()) for part in parts) == wanted
        verdict = ada.admit(trainer.all())
        assert set(verdict.verdict.tolist()) == {"keep"}, "a round that can pay no more is over"


def test_each_round_has_a_budget_of_its_own() -> None:
    ada = ReinforceAda(PromptPool(range(4)), budget=1.5, seed=3)
    first, second = ada.ask(2), ada.ask(2)
    for selection in (first, second):
        ada.tell(Rollouts(selection.prompt_ids.repeat(8), [0] * 16))
    for selection in (second, first):
        more = ada.top_up(selection.ticket)
        assert more is not None
        assert more.n_rollouts.tolist() == [8]
        assert ada.top_up(selection.ticket) is None


def test_who_gets_what_is_left_of_the_budget_does_not_go_by_the_id() -> None:
    first = set()
    for seed in range(30):
        ada = ReinforceAda(PromptPool(range(5)), budget=1.2, seed=seed)
        ticket = ada.ask(5).ticket
        ada.tell(Rollouts(np.arange(5).repeat(8), [0] * 40))
        more = ada.top_up(ticket)
        assert more is not None
        first |= set(more.prompt_ids.tolist())
    assert first == set(range(5))


def test_the_books_of_old_rounds_are_closed() -> None:
    ada = ReinforceAda(PromptPool(range(3)), budget=2.0)
    for _ in range(300):
        ada.ask(3)
    state = ada.state_dict()
    assert state["own/budget_rounds"].tolist() == list(range(44, 300))
    assert state["own/budget_left"].tolist() == [24] * 256


# ---- estimates -------------------------------------------------------------------------------------------------------


def test_estimates_take_from_the_easy_and_give_to_the_hard() -> None:
    for power, wanted in ((0.5, [2, 30]), (1.0, [1, 31]), (0.0, [16, 16])):
        ada = ReinforceAda(PromptPool([1, 2]), allocation="estimate", power=power, round_size=16, minimum=1)
        for _ in range(200):
            ada.tell(Rollouts(np.repeat([1, 2], 16), [1.0] * 16 + [0.0] * 16))
            ada.advance()
        selection = ada.ask(2)
        order = np.argsort(selection.prompt_ids)
        assert selection.n_rollouts[order] == pytest.approx(wanted, abs=3)
        assert selection.n_rollouts.sum() == 32


def test_maximum_and_minimum_bound_the_estimates() -> None:
    ada = ReinforceAda(PromptPool(range(9)), allocation="estimate", power=1.0, minimum=3, maximum=12)
    for _ in range(20):
        ada.tell(Rollouts(np.arange(9).repeat(4), np.repeat(np.arange(9) > 1, 4)))
        ada.advance()
        selection = ada.ask(9)
        assert selection.n_rollouts.sum() == 72
        assert (selection.n_rollouts.min(), selection.n_rollouts.max()) >= (3, 8)
        assert selection.n_rollouts.max() <= 12


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"minimum": 9}, "`minimum` of `ReinforceAda` must be at most `round_size` = 8, the mean; got 9"),
        ({"maximum": 7}, "`maximum` of `ReinforceAda` must be 0 or at least `round_size` = 8, the mean; got 7"),
    ],
    ids=str,
)
def test_bounds_that_leave_no_room(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidParameter, match=match):
        ReinforceAda(PromptPool([1]), allocation="estimate", **wrong)
    ReinforceAda(PromptPool([1]), **wrong)


# ---- verdicts and groups ---------------------------------------------------------------------------------------------

MADE = {1: [0.0] * 32, 2: [1.0] * 32, 3: [1.0] + [0.0] * 31, 4: [1.0, 0.0] * 4, 5: [0.0] * 8, 6: [1.0, 1.0, 0.0] * 2}


def made() -> Rollouts:
    ids = [prompt for prompt, rewards in MADE.items() for _ in rewards]
    return Rollouts(ids, [reward for rewards in MADE.values() for reward in rewards])


@pytest.mark.parametrize(
    ("parameters", "drops"),
    [
        ({}, {}),
        ({"unresolved": "filter"}, {1: "none positive", 2: "all positive"}),
        ({"unresolved": "drop"}, {1: "none positive", 2: "all positive", 3: "unbalanced"}),
        ({"unresolved": "drop", "exit": "positive"}, {1: "none positive"}),
        ({"unresolved": "filter", "exit": "positive"}, {1: "none positive", 2: "all positive"}),
    ],
    ids=str,
)
def test_verdicts(parameters: dict[str, Any], drops: dict[int, str]) -> None:
    ada = ReinforceAda(PromptPool(range(1, 7)), **parameters)
    ids, verdict, extra, reason = ada.admit(made())
    got = dict(zip(ids.tolist(), zip(verdict.tolist(), extra.tolist(), reason.tolist(), strict=True), strict=True))
    assert got == {
        prompt: ("more", 8, "undecided")
        if prompt == 5
        else ("drop", 0, drops[prompt])
        if prompt in drops
        else ("keep", 0, "")
        for prompt in MADE
    }
    assert set(ada.group_of(made())) == set(MADE) - drops.keys() - ({5} if parameters.get("unresolved") else set())


def test_a_verdict_asks_for_no_more_than_is_left() -> None:
    ada = ReinforceAda(PromptPool([1]))
    assert ada.admit(Rollouts([1] * 30, [0] * 30)).extra.tolist() == [2]


def test_estimates_keep_every_response() -> None:
    ada = ReinforceAda(PromptPool(range(1, 7)), allocation="estimate")
    assert set(ada.admit(made()).verdict.tolist()) == {"keep"}
    told = made()
    for prompt, group in ada.group_of(told).items():
        assert group.positions.tolist() == np.flatnonzero(told.prompt_ids == prompt).tolist()
    strict = ReinforceAda(PromptPool(range(1, 7)), allocation="estimate", unresolved="filter")
    assert strict.admit(made()).verdict.tolist() == ["drop", "drop", "keep", "keep", "drop", "keep"]
    assert set(strict.group_of(made())) == {3, 4, 6}


def test_groups_point_into_what_was_given_in_any_mixture() -> None:
    ada = ReinforceAda(PromptPool(range(1, 7)))
    told = made()
    order = np.argsort(np.random.default_rng(0).random(len(told)) + told.rewards * 0, kind="stable")
    mixed = told.take(order)
    for prompt, group in ada.group_of(mixed).items():
        assert set(mixed.prompt_ids[group.positions].tolist()) == {prompt}
        assert mixed.rewards[group.positions].tolist() == group.rewards.tolist()
        firsts = [np.flatnonzero((mixed.prompt_ids == prompt) & (mixed.rewards == side)) for side in (1.0, 0.0)]
        kept = (int(group.rewards.sum()), int((1 - group.rewards).sum()))
        assert group.positions.tolist() == [
            i for first, k in zip(firsts, kept, strict=True) for i in first[:k].tolist()
        ]
    assert ada.group_of(Rollouts([], [])) == {}
    with pytest.raises(UnknownPrompt):
        ada.group_of(Rollouts([77], [1.0]))


def test_random_groups_are_the_same_until_the_next_round() -> None:
    ada = ReinforceAda(PromptPool(range(1, 7)), keep="random")
    once, again = (ada.group_of(made())[4].positions.tolist() for _ in range(2))
    assert once == again
    seen = set()
    for _ in range(20):
        ada.advance()
        seen.add(tuple(ada.group_of(made())[4].positions.tolist()))
    assert len(seen) > 5


def test_outcome_solved_goes_by_right_and_wrong_whatever_the_reward() -> None:
    told = Rollouts([1] * 8, [5.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 0.7], solved=[0, 0, 0, 0, 1, 1, np.nan, 0.7])
    for outcome, positives in (("reward", [0, 6]), ("solved", [4, 5, 6])):
        ada = ReinforceAda(PromptPool([1]), outcome=outcome)
        group = ada.group_of(told)[1]
        assert group.positions[:2].tolist() == positives[:2]
        assert group.n_positive == len(positives)
        ticket = ada.ask(1).ticket
        ada.tell(told)
        assert ada.top_up(ticket) is None
        ada.advance()
        assert ada.explain(1)["pass_rate_estimate"] == pytest.approx((1 + len(positives)) / 25)
        counted = ada.metrics().get("curriculum/reinforce-ada/fallback/solved_unknown", 0)
        assert counted == (outcome == "solved")
        assert metric(ada, "fallback/rewards_not_binary") == 1


# ---- honest numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "exit_"), [(0.0625, "balanced"), (0.25, "positive"), (0.875, "balanced")])
def test_cost_and_bias_of_a_long_run(rate: float, exit_: str) -> None:
    prompts, rng = 3000, np.random.default_rng([5, int(rate * 1e4)])
    ada = ReinforceAda(PromptPool(range(prompts)), exit=exit_)
    trainer = Trainer({i: list((rng.random(32) < rate).astype(float)) for i in range(prompts)})
    step(ada, trainer, prompts)
    groups = ada.group_of(trainer.all())
    ada.advance()
    cost = elimination_cost(rate, rule=ada._rule)
    drawn = [len(values) for values in trainer.generated.values()]
    assert metric(ada, "rollouts_spent") == sum(drawn)
    error = 4.5 * np.std(drawn) / np.sqrt(prompts)
    assert metric(ada, "rollouts_per_prompt") == pytest.approx(float(cost.draws), abs=error)
    assert metric(ada, "rollouts_over_group_size") == metric(ada, "rollouts_per_prompt") / 4
    assert metric(ada, "rollouts_over_one_round") == metric(ada, "rollouts_per_prompt") / 8
    assert metric(ada, "rounds_per_prompt") == metric(ada, "rollouts_per_prompt") / 8
    assert metric(ada, "share_without_signal") == pytest.approx(float(cost.no_signal), abs=4.5 * 0.5 / np.sqrt(prompts))
    assert metric(ada, "share_resolved") == np.mean([group.resolved for group in groups.values()])
    first = np.mean([trainer.streams[i][:8] for i in range(prompts)])
    assert metric(ada, "reward_mean_first_round") == pytest.approx(first, abs=1e-12)
    assert abs(first - rate) < 4.5 * np.sqrt(rate * (1 - rate) / (8 * prompts))
    kept = np.concatenate([group.rewards for group in groups.values()]).mean()
    assert metric(ada, "reward_mean_kept_biased") == pytest.approx(kept, abs=1e-12)
    assert abs(kept - 0.5) < abs(rate - 0.5) - 0.05, "half of each side is no estimate of the pass rate"


def test_first_rounds_are_noted_once_and_late_ones_not_at_all() -> None:
    ada = ReinforceAda(PromptPool([1, 2]), round_size=2)
    ticket = ada.ask(2).ticket
    ada.tell(Rollouts([1, 1, 2, 2], [0, 0, 1, 0]))
    assert ada.top_up(ticket) is not None
    ada.tell(Rollouts([1, 1], [1, 1]))
    ada.advance()
    assert metric(ada, "reward_mean_first_round") == 0.25
    assert metric(ada, "reward_mean_biased") == 0.5
    before = ada.metrics()
    ada.tell(Rollouts([1], [1]))
    ada.advance()
    changed = {name for name, value in ada.metrics().items() if value != before[name]}
    assert changed == {f"curriculum/reinforce-ada/{name}" for name in ("rounds_closed", "responses_folded")}


def test_stored_evidence_is_no_expense() -> None:
    ada = ReinforceAda(PromptPool([1, 2]))
    ada.tell(Rollouts([1] * 8, [1] * 8))
    ada.advance()
    assert metric(ada, "rollouts_spent") == 0
    assert "curriculum/reinforce-ada/rollouts_per_prompt" not in ada.metrics()
    assert ada.explain(1)["pass_rate_estimate"] == 9 / 25


def test_short_groups_are_counted() -> None:
    ada = ReinforceAda(PromptPool([1, 2]), round_size=2, max_rounds=1)
    step(ada, Trainer({1: [1.0, 0.0], 2: [0.0, 0.0]}), 2)
    ada.advance()
    assert metric(ada, "share_short") == 1.0


def test_explain_says_what_to_expect() -> None:
    ada = ReinforceAda(PromptPool([1]))
    known = ada.explain(1)
    cost = elimination_cost(1 / 17)
    assert (known["expected_rollouts"], known["chance_of_no_signal"]) == (float(cost.draws), float(cost.no_signal))
    assert "expected_rollouts" not in ReinforceAda(PromptPool([1]), max_rounds=1000).explain(1)
    assert "expected_rollouts" not in ReinforceAda(PromptPool([1]), allocation="estimate").explain(1)


# ---- open rounds survive ---------------------------------------------------------------------------------------------


def two_open_rounds(reload: bool) -> tuple[list[object], ReinforceAda]:
    """Three steps of two rounds open at once, with a budget; with ``reload`` saved and loaded between any two calls."""
    rng = np.random.default_rng(2)
    streams = {i: list((rng.random(32) < (i % 7) / 6).astype(float)) for i in range(40)}
    pool = PromptPool(range(40))
    log: list[object] = []
    ada = ReinforceAda(pool, budget=2.5, seed=1)

    def again(ada: ReinforceAda) -> ReinforceAda:
        if not reload:
            return ada
        fresh = ReinforceAda(pool, budget=2.5, seed=1)
        fresh.load_state_dict(unpack(pack(ada.state_dict())))
        return fresh

    for _ in range(3):
        trainer = Trainer(streams)
        opened: list[Selection] = []
        for n in (8, 6):
            ada = again(ada)
            opened.append(ada.ask(n, exclude=[i for one in opened for i in one.prompt_ids.tolist()]))
        for selection in reversed(opened):
            ada = again(ada)
            ada.tell(trainer.generate(selection))
        for selection in opened * 4:
            ada = again(ada)
            more = ada.top_up(selection.ticket)
            log.append(None if more is None else (more.prompt_ids.tolist(), more.n_rollouts.tolist()))
            ada = again(ada)
            if more is not None:
                ada.tell(trainer.generate(more))
        ada = again(ada)
        ada.advance()
    return log, ada


def test_a_crash_between_any_two_calls_changes_nothing() -> None:
    whole, broken = two_open_rounds(reload=False), two_open_rounds(reload=True)
    assert whole[0] == broken[0]
    assert sum(part is not None for part in whole[0]) >= 6
    assert same_state(whole[1].state_dict(), broken[1].state_dict())


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ``reinforce-ada`` a strategy, whether or not the table has it."""
    monkeypatch.setattr("curri.scheduler.core.strategy_class", lambda _name: ReinforceAda)


def scheduler_streams(prompt_ids: list[int]) -> dict[int, list[float]]:
    rng = np.random.default_rng(9)
    return {i: list((rng.random(32) < 0.04 + 0.9 * (i % 5) / 4).astype(float)) for i in prompt_ids}


@pytest.mark.parametrize("reopen", [False, True])
@pytest.mark.usefixtures("registered")
def test_a_loop_through_the_scheduler(tmp_path: Path, reopen: bool) -> None:
    path = tmp_path / "prompts.duckdb"
    store = open_store(path, create=True)
    store.prompts.add([NewPrompt(f"{i}?", False, str(i), f"arm{i % 3}") for i in range(24)])
    ids = store.pool().ids.tolist()
    drawn: dict[int, int] = {}
    scheduler = Scheduler(store, "reinforce-ada", run="r", seed=4)
    for _ in range(3):
        trainer = Trainer(scheduler_streams(ids))
        first = scheduler.ask(8)
        selection: Selection | None = first
        while selection is not None:
            told = trainer.generate(selection)
            scheduler.tell(told.prompt_ids, told.rewards, resolve=None)
            if reopen:
                store.close()
                store = open_store(path)
                scheduler = Scheduler(store, run="r")
            selection = scheduler.top_up(first.ticket)
        verdict = scheduler.admit(trainer.all())
        assert set(verdict.verdict.tolist()) <= {"keep", "more"}
        asked = {i: len(values) for i, values in trainer.generated.items() if values}
        assert asked == {i: drawn_by_hand(trainer.streams[i]) for i in first.prompt_ids.tolist()}
        assert scheduler.round == first.ticket.round
        assert scheduler.resolve(first.prompt_ids, "trained") == (first.ticket.round,)
        assert scheduler.top_up(first.ticket) is None
        drawn |= asked
    assert len(drawn) == 24, "three rounds of eight are an epoch"
    metrics = scheduler.metrics()
    assert metrics["curriculum/reinforce-ada/rollouts_spent"] == sum(drawn.values())
    assert store.connection.rows("select count(*) from rollouts") == [(sum(drawn.values()),)]
    store.close()


def drawn_by_hand(stream: list[float]) -> int:
    """How many of a prompt's rewards the balanced rule draws."""
    ends = [k for k in (8, 16, 24, 32) if 2 <= sum(stream[:k]) <= k - 2]
    return ends[0] if ends else 32


@pytest.mark.usefixtures("registered")
def test_parts_come_again_after_a_crash_and_the_round_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "prompts.duckdb"
    with open_store(path, create=True) as store:
        store.prompts.add([NewPrompt(f"{i}?", False, str(i), "a") for i in range(6)])
        scheduler = Scheduler(store, "reinforce-ada", run="r")
        first = scheduler.ask(3)
        other = scheduler.ask(3)
        scheduler.tell(first.prompt_ids.repeat(8), [0] * 24, resolve=None)
        second = scheduler.top_up(first.ticket)
        assert second is not None
    with open_store(path) as store:
        scheduler = Scheduler(store, run="r")
        parts = [scheduler.ask(1) for _ in range(3)]
        assert [part.ticket[1:] for part in parts] == [(0, 0), (0, 1), (1, 0)]
        assert parts[1].prompt_ids.tolist() == second.prompt_ids.tolist()
        assert scheduler.top_up(first.ticket) is None, "the second part was not told"
        scheduler.tell(other.prompt_ids.repeat(8), [1, 0] * 12)
        scheduler.tell(first.prompt_ids.repeat(8), [0] * 24, resolve=None)
        third = scheduler.top_up(first.ticket)
        assert third is not None
        assert third.ticket.part == 2
        assert third.prompt_ids.tolist() == sorted(first.prompt_ids.tolist())
