"""The strategy ``vas``: scores, weights, both parts of a batch, probes, their cost, and a loop with a store."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curri import PromptPool, Rollouts, Scheduler
from curri.curricula.base import Request
from curri.curricula.composition import within
from curri.curricula.uniform import Uniform
from curri.curricula.vas import VAS
from curri.errors import InvalidParameter
from curri.estimators import distinct_n, mean_edit_distance, self_bleu
from curri.registry import BUILT_IN
from curri.store import NewPrompt, open_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from curri.types import Selection

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "vas.json").read_text(encoding="utf-8"))
ALIKE = ["so x is 4", "so x is 4", "so x is 4", "so x is four"]
UNLIKE = ["so x is 4", "we add two and two", "count on your fingers", "four"]
HALF = [1.0, 0.0, 1.0, 0.0]


def vas_of(n: int, **parameters: Any) -> VAS:
    """Over the prompts 0 to n - 1, with probes of four."""
    return VAS(PromptPool(range(n)), **{"probe_rollouts": 4, "group_size": 4, **parameters})


def tell(vas: VAS, outcomes: Mapping[int, Sequence[float]], *, kind: Any = "probe", **columns: Any) -> None:
    """Tell rewards by prompt, and close the round."""
    ids = np.repeat(list(outcomes), [len(rewards) for rewards in outcomes.values()])
    vas.tell(Rollouts(ids, list(itertools.chain(*outcomes.values())), kind=kind, **columns))
    vas.advance()


def with_texts(vas: VAS, outcomes: dict[int, tuple[Sequence[float], Sequence[Any]]], *, kind: Any = "probe") -> None:
    responses = list(itertools.chain(*(said for _, said in outcomes.values())))
    tell(vas, {prompt: rewards for prompt, (rewards, _) in outcomes.items()}, kind=kind, responses=responses)


def score(vas: VAS, ovs: Sequence[float]) -> None:
    """Probe all prompts so that they have these outcome variances."""
    rates = (1 - np.sqrt(1 - 4 * np.array(ovs))) / 2
    tell(vas, {i: [rate] * 4 for i, rate in enumerate(rates.tolist())})


def weigh(vas: VAS, weights: Sequence[float]) -> None:
    """Probe all prompts so that they have these weights, of which one is 0 and one is 1."""
    score(vas, (np.array(weights) / 4).tolist())


def weights_of(vas: VAS) -> list[float]:
    return [vas.explain(i)["weight"] for i in vas.pool.ids.tolist()]


def known(vas: VAS, prompt: int) -> dict[str, Any]:
    return vas.explain(prompt)


def metric(vas: Any, name: str) -> float:
    return float(vas.metrics().get(f"curriculum/{vas.name}/{name}", 0.0))


def one_round(vas: VAS, n: int = 1) -> Selection:
    """A training round with mixed rewards."""
    selection = vas.ask(n)
    tell(vas, dict.fromkeys(selection.prompt_ids.tolist(), HALF), kind="train")
    return selection


# ---- the reference ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [case for case in GOLDEN["vps_weights_minmax"]["cases"] if list(case["per_prompt_metrics"]) == ["learnability"]],
    ids=lambda case: case["name"][:20],
)
def test_golden_weights(case: dict[str, Any]) -> None:
    """One case has copies of its last prompt to fill a scoring batch; here nothing is padded, and the rest is equal."""
    ovs = case["per_prompt_metrics"]["learnability"]
    vas = vas_of(len(ovs), alpha=1.0, diversity="none")
    score(vas, ovs)
    assert weights_of(vas) == pytest.approx(case["expected_weights"], rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("case", GOLDEN["momentum"]["cases"], ids=lambda case: f"m={case['momentum']}")
def test_golden_momentum(case: dict[str, Any]) -> None:
    vas = vas_of(3, alpha=1.0, diversity="none", momentum=case["momentum"])
    for ovs, expected in zip(case["refreshes_ovs"], case["expected_weights_after_each"], strict=True):
        score(vas, ovs)
        assert weights_of(vas) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_golden_all_zero_weights_draw_uniformly_instead_of_crashing() -> None:
    vas = vas_of(len(GOLDEN["all_zero_weights"]["weights"]))
    score(vas, [0.0] * 4)
    assert weights_of(vas) == GOLDEN["all_zero_weights"]["weights"]
    selection = vas.ask(2)
    assert selection.probability.tolist() == [0.5, 0.5]
    assert metric(vas, "fallback/weights_equal") == 1


@pytest.mark.parametrize("case", GOLDEN["padded_sequential"]["cases"], ids=lambda case: str(case["dataset_size"]))
def test_golden_padded_sequential_scores_every_prompt_and_needs_no_copies(case: dict[str, Any]) -> None:
    vas, seen = vas_of(case["dataset_size"]), []
    while vas.probes_due:
        selection = vas.ask(min(case["batch_size"], vas.probes_due), kind="probe")
        seen += selection.prompt_ids.tolist()
        tell(vas, dict.fromkeys(selection.prompt_ids.tolist(), HALF))
    assert sorted(seen) == sorted(set(case["expected"]))


STRUCTURES = GOLDEN["mixed_sampler_structure"]["cases"]


@pytest.mark.parametrize("case", STRUCTURES, ids=[case["name"][:20] for case in STRUCTURES])
@pytest.mark.parametrize("uniform_half", ["random", "cycle"])
def test_golden_structure_of_a_batch(case: dict[str, Any], uniform_half: str) -> None:
    """As many prompts by weight as in the reference; the others come round as in its fixed permutation."""
    size, batch, expected = case["dataset_size"], case["batch_size"], case["expected"]
    n_heavy = expected["n_weighted_per_batch"]
    heavy = set(range(n_heavy))  # the reference draws its only one n_heavy times; here nothing comes twice
    vas = vas_of(size, mixture=case["mixture_ratio"], uniform_half=uniform_half)
    weigh(vas, [1.0] * n_heavy + [0.0] * (size - n_heavy))
    passes = [vas.ask(batch).prompt_ids.tolist() for _ in range(len(case["random_pool"]))]
    others = [set(picks) - heavy for picks in passes]
    assert all(heavy <= set(picks) for picks in passes)
    assert {len(picks) for picks in others} == {expected["n_random_per_batch"]}
    if uniform_half == "cycle" and expected["n_random_per_batch"]:
        rounds = -(-(size - n_heavy) // expected["n_random_per_batch"])
        for start in range(len(others) - rounds):
            assert set.union(*others[start : start + rounds]) == set(range(n_heavy, size))


def test_golden_seeded_sampler() -> None:
    """Its picks are those of torch's generator; its weights, batch and mixture give ours their frequencies."""
    golden = GOLDEN["mixed_sampler_seeded"]
    weights = np.array(golden["weights"])
    vas = vas_of(weights.size, mixture=1.0, diversity="none", alpha=1.0)
    weigh(vas, weights)  # type: ignore[arg-type]
    for _ in range(5):
        selection = vas.ask(golden["batch_size"])
        wanted = golden["batch_size"] * weights[selection.prompt_ids] / weights.sum()
        assert selection.probability == pytest.approx(wanted, rel=1e-5)
        assert (weights[selection.prompt_ids] > 0).all()


# ---- scores and weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tds_sign", ["diversity", "similarity"])
@pytest.mark.parametrize("normalize", ["minmax", "none"])
def test_both_signs_and_both_normalisations(tds_sign: str, normalize: str) -> None:
    vas = vas_of(3, tds_sign=tds_sign, normalize=normalize)
    with_texts(vas, {0: (HALF, ALIKE), 1: (HALF, UNLIKE), 2: ([1.0] * 4, ALIKE)})
    similar = np.array([self_bleu(ALIKE), self_bleu(UNLIKE), self_bleu(ALIKE)])
    tds = similar if tds_sign == "similarity" else 1 - similar
    vps = 0.8 * np.array([0.25, 0.25, 0.0]) + 0.2 * tds
    assert [known(vas, i)["vps"] for i in range(3)] == pytest.approx(vps)
    wanted = vps if normalize == "none" else (vps - vps.min()) / (vps.max() - vps.min())
    assert weights_of(vas) == pytest.approx(wanted, abs=1e-6)
    assert np.argmax(weights_of(vas)) == (1 if tds_sign == "diversity" else 0)


@pytest.mark.parametrize(
    ("parameters", "tds"),
    [
        ({"diversity": "distinct"}, distinct_n(ALIKE)),
        ({"diversity": "distinct", "tds_sign": "similarity"}, distinct_n(ALIKE)),
        ({"diversity": "edit_distance"}, mean_edit_distance(ALIKE, normalize=True)),
        (
            {"diversity": "edit_distance", "edit_scale": "squared"},
            mean_edit_distance(ALIKE, normalize=True, squared=True),
        ),
        ({"diversity": "edit_distance", "edit_scale": "tokens"}, mean_edit_distance(ALIKE)),
        ({"diversity": "none"}, None),
    ],
)
def test_measures_of_diversity(parameters: dict[str, Any], tds: float | None) -> None:
    vas = vas_of(2, normalize="none", **parameters)
    with_texts(vas, {0: (HALF, ALIKE)})
    assert known(vas, 0)["tds"] == tds
    assert known(vas, 0)["weight"] == pytest.approx(0.8 * 0.25 + 0.2 * (tds or 0.0))


def test_padding_is_stripped_where_it_is_named() -> None:
    padded = [[5, 6, 7, 8, 0, 0, 0, 0], [1, 2, 3, 4, 0, 0, 0, 0]]
    for pad_token, tds in ((-1, 1 - self_bleu(padded)), (0, 1.0)):
        vas = vas_of(1, pad_token=pad_token, probe_rollouts=2)
        with_texts(vas, {0: ([1.0, 0.0], padded)})
        assert known(vas, 0)["tds"] == tds


def test_momentum_1_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidParameter, match=r"`momentum` of `VAS` must be a float in \[0, 1\); got 1.0") as refusal:
        vas_of(3, momentum=1.0)
    assert "for ever" in str(refusal.value.hint)


def test_momentum_blends_prompt_by_prompt_when_scores_come_in_pieces() -> None:
    whole, pieces = (vas_of(4, diversity="none", momentum=0.25) for _ in range(2))
    first = {0: [0.0] * 4, 1: HALF, 2: [1.0, 0.0, 0.0, 0.0], 3: [1.0] * 4}
    second = {0: HALF, 1: [0.0] * 4, 2: [1.0, 0.0, 0.0, 0.0], 3: [1.0] * 4}
    for outcomes in (first, second):
        tell(whole, outcomes)
        for prompt in (3, 0, 1, 2):  # the scale, 0 to 0.25, stays what it was
            tell(pieces, {prompt: outcomes[prompt]})
    assert weights_of(whole) == pytest.approx([0.75, 0.25, 0.75, 0.0], abs=1e-6)
    assert weights_of(pieces) == pytest.approx(weights_of(whole), abs=1e-6)


def test_outcome_is_the_verdict_and_not_the_shaped_reward() -> None:
    for outcome, ovs in (("solved", 0.0), ("reward", 0.25)):
        vas = vas_of(2, outcome=outcome)
        tell(vas, {0: [1.5, 0.5] * 2}, solved=[1.0] * 4)
        assert known(vas, 0)["ovs"] == pytest.approx(ovs)


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10), right=st.integers(0, 8))
@settings(max_examples=30)
def test_variance_of_two_reward_values_is_that_of_right_and_wrong(scale: float, shift: float, right: int) -> None:
    vas = vas_of(2)
    rewards = shift + scale * np.array([1.0] * right + [0.0] * (8 - right))
    tell(vas, {0: rewards.tolist(), 1: [shift, shift + scale]}, solved=[np.nan] * 10)
    assert known(vas, 0)["ovs"] == pytest.approx(right * (8 - right) / 64, rel=1e-6)
    assert known(vas, 0)["pass_rate"] is None


def test_one_range_of_rewards_for_all_prompts() -> None:
    vas = vas_of(3, outcome="reward")
    tell(vas, {0: [0.0, 4.0], 1: [0.0, 2.0]})
    assert [known(vas, i)["ovs"] for i in (0, 1)] == pytest.approx([0.25, 1 / 16])
    tell(vas, {2: [0.0, 8.0]})
    assert [known(vas, i)["ovs"] for i in range(3)] == pytest.approx([1 / 16, 1 / 64, 0.25])


def test_prompts_without_a_score_have_the_mean_weight() -> None:
    vas = vas_of(6, diversity="none")
    tell(vas, {0: [0.0] * 4, 1: HALF, 2: [1.0, 0.0, 0.0, 0.0]})
    assert weights_of(vas)[3:] == pytest.approx([np.mean([0.0, 1.0, 0.75])] * 3, abs=1e-6)
    assert [known(vas, i)["weight_is_guessed"] for i in range(6)] == [False] * 3 + [True] * 3
    assert known(vas, 5)["ovs"] is known(vas, 5)["score_age"] is None


def test_prior_rates_stand_in_until_there_is_a_score() -> None:
    vas = VAS(PromptPool(range(4), prior_rate=[0.5, 0.0, np.nan, 0.9]), diversity="none", probe_rollouts=4)
    assert weights_of(vas) == pytest.approx([1.0, 0.0, (1 + 0.36) / 3, 0.36], abs=1e-6)
    assert vas.probes_due == 4
    tell(vas, {0: [1.0] * 4})
    assert weights_of(vas)[0] == 0.0


def test_without_texts_diversity_is_the_mean_of_the_known() -> None:
    vas = vas_of(3, normalize="none", beta=1.0)
    with_texts(vas, {0: (HALF, UNLIKE), 1: (HALF, [None] * 4), 2: (HALF, ["", None, "only one", None])})
    tds = 1 - self_bleu(UNLIKE)
    assert [known(vas, i)["tds"] for i in range(3)] == [tds, None, None]
    assert weights_of(vas) == pytest.approx([0.2 + tds] * 3)
    assert metric(vas, "tds_known_share") == pytest.approx(1 / 3)


def test_unreadable_responses_are_counted_and_do_not_stop_the_run() -> None:
    vas = vas_of(2)
    with_texts(vas, {0: (HALF, [[{"role": "assistant", "content": "4"}]] * 4), 1: (HALF, UNLIKE)})
    assert metric(vas, "fallback/responses_unreadable") == 1
    assert known(vas, 0)["tds"] is None


def test_stragglers_do_not_replace_a_score() -> None:
    vas = vas_of(3, probe_rollouts=8)
    tell(vas, {0: [*HALF, *HALF], 2: [1.0]})
    assert known(vas, 2)["score_age"] is None, "one response says nothing of a variance"
    tell(vas, {0: [1.0] * 3, 1: [1.0, 0.0]})
    assert (known(vas, 0)["ovs"], known(vas, 0)["score_responses"]) == (0.25, 8)
    assert known(vas, 1)["score_responses"] == 2, "a first score may rest on few"
    assert metric(vas, "groups_too_small") == 2
    tell(vas, {0: [1.0] * 4})
    assert (known(vas, 0)["ovs"], known(vas, 0)["score_responses"]) == (0.0, 4)


# ---- who learns from what --------------------------------------------------------------------------------------------


def test_learn_from_probes_or_from_all() -> None:
    for learn_from, age in (("probes", None), ("all", 1)):
        vas = vas_of(8, learn_from=learn_from)
        selection = one_round(vas)
        assert known(vas, int(selection.prompt_ids[0]))["score_age"] == age


def test_rollouts_generated_beforehand_score_whatever_their_kind() -> None:
    vas = vas_of(4)
    tell(vas, {0: HALF, 1: [0.0] * 4}, kind="train")
    assert vas.probes_due == 2
    assert known(vas, 0)["score_age"] == 0
    vas.ask(1)
    tell(vas, {2: HALF}, kind="train")
    assert vas.probes_due == 2


def test_scores_grow_old_by_training_rounds_only() -> None:
    vas = vas_of(4, refresh=2)
    weigh(vas, [0.0, 0.5, 0.5, 1.0])
    for due in (0, 4):
        one_round(vas)
        assert vas.probes_due == due
    first = vas.ask(2, kind="probe").prompt_ids.tolist()
    tell(vas, dict.fromkeys(first, HALF))
    assert vas.probes_due == 2
    assert set(vas.ask(2, kind="probe").prompt_ids.tolist()) == set(range(4)) - set(first)
    assert [known(vas, i)["score_age"] for i in first] == [0, 0]
    assert metric(vas, "score_age_mean") == 1.0


def test_refresh_0_scores_once() -> None:
    vas = vas_of(4, refresh=0)
    assert vas.probes_due == 4
    weigh(vas, [0.0, 0.5, 0.5, 1.0])
    for _ in range(50):
        one_round(vas)
    assert vas.probes_due == 0


# ---- probes ----------------------------------------------------------------------------------------------------------


def test_probes_take_the_never_scored_first_then_the_oldest() -> None:
    vas = vas_of(9)
    for group in ((0, 1), (2, 3, 4), (5,)):
        tell(vas, dict.fromkeys(group, HALF))
        one_round(vas)
    order = [{6, 7, 8}, {0, 1}, {2, 3, 4}, {5}]
    for n, (certain, level, each) in {
        2: (set(), 0, 2 / 3),
        4: (order[0], 1, 1 / 2),
        6: (order[0] | order[1], 2, 1 / 3),
    }.items():
        selection = vas.ask(n, kind="probe")
        picks = set(selection.prompt_ids.tolist())
        assert certain <= picks <= certain | order[level]
        chances = {prompt: 1.0 if prompt in certain else each for prompt in picks}
        assert dict(zip(selection.prompt_ids.tolist(), selection.probability.tolist(), strict=True)) == chances
        assert selection.n_rollouts.tolist() == [4] * n
    assert set(vas.ask(2, kind="probe", exclude=[6, 7]).prompt_ids.tolist()) < {8, 0, 1}


def test_ties_among_probes_fall_at_random() -> None:
    vas = vas_of(10)
    assert len({vas.ask(1, kind="probe").prompt_ids[0] for _ in range(60)}) >= 8


def test_probes_by_arm() -> None:
    vas = VAS(PromptPool(range(6), list("aaabbb")), probe_rollouts=4)
    tell(vas, {0: HALF, 3: HALF, 4: HALF})
    selection = vas.ask(4, kind="probe", quota={"a": 3, "b": 1})
    assert set(selection.prompt_ids.tolist()) == {0, 1, 2, 5}


def test_what_probes_cost() -> None:
    vas = vas_of(10, probe_rollouts=6)
    selection = vas.ask(5, kind="probe")
    ids = np.repeat(selection.prompt_ids, selection.n_rollouts)
    vas.tell(Rollouts(ids, np.ones(ids.size), tokens=np.full(ids.size, 10), kind="probe"))
    vas.advance()
    selection = vas.ask(5)
    ids = np.repeat(selection.prompt_ids, selection.n_rollouts)
    vas.tell(Rollouts(ids, np.ones(ids.size), tokens=np.full(ids.size, 5)))
    vas.advance()
    found = {name: metric(vas, name) for name in ("probe_rollouts", "train_rollouts", "probe_tokens", "train_tokens")}
    assert found == {"probe_rollouts": 30, "train_rollouts": 20, "probe_tokens": 300, "train_tokens": 100}
    assert metric(vas, "probe_rollouts_per_train_rollout") == 1.5
    assert metric(vas, "probe_tokens_per_train_token") == 3.0
    assert metric(vas, "scored_share") == 0.5


@pytest.mark.parametrize(("group_size", "probes", "wanted"), [(8, 4, 4), (4, 4, 1), (2, 8, 1)])
def test_probes_may_count_for_the_next_training_group(group_size: int, probes: int, wanted: int) -> None:
    vas = vas_of(2, probe_rollouts=probes, group_size=group_size, reuse_probes=1)
    tell(vas, {0: [1.0, 0.0] * (probes // 2)})
    selection = vas.ask(2)
    assert dict(zip(selection.prompt_ids.tolist(), selection.n_rollouts.tolist(), strict=True)) == {
        0: wanted,
        1: group_size,
    }
    assert metric(vas, "rollouts_saved") == group_size - wanted
    assert vas.ask(2).n_rollouts.tolist() == [group_size] * 2, "probes count once"


def test_probes_too_old_do_not_count_and_by_default_none_do() -> None:
    for reuse_probes, age, wanted in ((0, 0, 4), (1, 0, 1), (1, 1, 4), (3, 2, 1), (3, 3, 4)):
        vas = VAS(PromptPool([0, 1]), probe_rollouts=4, group_size=4, reuse_probes=reuse_probes)
        tell(vas, {0: HALF})
        for _ in range(age):
            vas.ask(1, exclude=[0])
            tell(vas, {1: HALF}, kind="train")
        assert vas.ask(1, exclude=[1]).n_rollouts.tolist() == [wanted]


# ---- the two parts of a batch ----------------------------------------------------------------------------------------


def test_nothing_scored_is_uniform_and_says_so() -> None:
    vas = vas_of(10)
    assert vas.ask(5).probability.tolist() == [0.5] * 5
    assert metric(vas, "fallback/nothing_scored") == 1
    tell(vas, {0: HALF, 1: [0.0] * 4})
    vas.ask(2)
    assert metric(vas, "fallback/nothing_scored") == 1


def test_too_few_prompts_with_weight_are_all_taken_and_the_rest_is_uniform() -> None:
    vas = vas_of(10, mixture=0.8)
    weigh(vas, [1.0, 0.5] + [0.0] * 8)
    selection = vas.ask(5)
    assert {0, 1} < set(selection.prompt_ids.tolist())
    chances = dict(zip(selection.prompt_ids.tolist(), selection.probability.tolist(), strict=True))
    assert chances == {i: 1.0 if i < 2 else pytest.approx(3 / 8) for i in chances}
    assert metric(vas, "fallback/weights_exhausted") == 1


@pytest.mark.parametrize(("mixture", "n", "by_weight"), [(0.5, 5, 2), (0.29, 100, 29), (0.3, 10, 3), (0.0, 8, 0)])
def test_floor_of_mixture_times_n_by_weight(mixture: float, n: int, by_weight: int) -> None:
    vas = vas_of(3 * n, mixture=mixture)
    weigh(vas, [1.0] * by_weight + [0.0] * (3 * n - by_weight))
    picks = vas.ask(n).prompt_ids
    assert (picks < by_weight).sum() == by_weight
    if by_weight:
        assert metric(vas, "fallback/weights_exhausted") == 0


def frequencies(vas: VAS, n: int, draws: int, **request: Any) -> tuple[np.ndarray, np.ndarray]:
    hits, claimed = np.zeros(len(vas.pool)), np.full(len(vas.pool), np.nan)
    for _ in range(draws):
        selection = vas.ask(n, **request)
        hits[selection.prompt_ids] += 1
        claimed[selection.prompt_ids] = selection.probability
    return hits / draws, claimed


@pytest.mark.parametrize(
    "request_",
    [{}, {"exclude": [1, 7]}, {"quota": {"a": 4, "b": 2}, "exclude": [3]}],
    ids=["plain", "some excluded", "quota"],
)
def test_inclusion_probability_of_both_parts(request_: dict[str, Any]) -> None:
    vas = VAS(PromptPool(range(12), list("aaaaaabbbbbb")), probe_rollouts=4, diversity="none")
    weigh(vas, [0, 0.1, 0.2, 0.3, 0.4, 1.0, 0.9, 0.2, 0.0, 0.6, 0.05, 0.8])
    seen, claimed = frequencies(vas, 6, 1500, **request_)
    may_come = np.setdiff1d(np.arange(12), request_.get("exclude", []))
    assert not np.isnan(claimed[may_come]).any()
    assert claimed[may_come].sum() == pytest.approx(6)
    spread = np.sqrt(claimed[may_come] * (1 - claimed[may_come]) / 1500)
    assert (np.abs(seen[may_come] - claimed[may_come]) <= 4.5 * spread + 1e-9).all()


def test_a_quota_that_splits_a_prompt_has_no_closed_form() -> None:
    vas = VAS(PromptPool(range(12), list("aaaaaabbbbbb")), probe_rollouts=4)
    weigh(vas, [0, 0.1, 0.2, 0.3, 0.4, 1.0, 0.9, 0.2, 0.0, 0.6, 0.05, 0.8])
    picks = [vas.ask(6, quota={"a": 3, "b": 3}) for _ in range(200)]
    assert all(np.isnan(selection.probability).all() for selection in picks)
    assert all((selection.arms == "a").sum() == 3 for selection in picks)


def test_successive_draws_follow_the_weights() -> None:
    vas = vas_of(4, mixture=1.0, draw="successive", diversity="none")
    weigh(vas, [0.0, 0.25, 0.75, 1.0])
    seen, claimed = frequencies(vas, 1, 2000)
    assert seen == pytest.approx([0.0, 0.125, 0.375, 0.5], abs=0.05)
    assert np.isnan(claimed).all()


@given(seed=st.integers(0, 2**32), n=st.integers(1, 9), mixture=st.sampled_from([0.0, 0.3, 0.5]))
@settings(max_examples=25)
def test_the_cycle_brings_every_prompt_back_in_time(seed: int, n: int, mixture: float) -> None:
    vas = vas_of(23, seed=seed, mixture=mixture, uniform_half="cycle")
    weigh(vas, [1.0, *np.linspace(0.0, 0.9, 22)])
    n_uniform = n - int(mixture * n + 1e-9)
    rounds = -(-23 // n_uniform)
    seen = [set(vas.ask(n).prompt_ids.tolist()) for _ in range(3 * rounds)]
    for start in range(2 * rounds):
        assert set.union(*seen[start : start + rounds]) == set(range(23))


def test_the_cycle_has_one_order_in_every_pass_and_skips_what_is_excluded() -> None:
    vas = vas_of(11, mixture=0.0, uniform_half="cycle")
    orders = [[int(vas.ask(1).prompt_ids[0]) for _ in range(11)] for _ in range(3)]
    assert orders[0] == orders[1] == orders[2]
    assert np.isnan(vas.ask(1).probability).all()
    without = [int(vas.ask(1, exclude=orders[0][3:5]).prompt_ids[0]) for _ in range(8)]
    assert without == orders[0][1:3] + orders[0][5:]
    vas.extend(vas.pool.retired(orders[0][:2]).extended([50]))
    vas.advance()
    rest = [int(vas.ask(1).prompt_ids[0]) for _ in range(10)]
    assert sorted(rest) == sorted([*orders[0][2:], 50])
    assert [i for i in rest if i != 50] == orders[0][2:]


def test_every_arm_has_a_cycle_of_its_own() -> None:
    vas = VAS(PromptPool(range(10), list("aaaabbbbbb")), mixture=0.0, uniform_half="cycle")
    for _ in range(3):
        picks = [vas.ask(5, quota={"a": 2, "b": 3}).prompt_ids.tolist() for _ in range(2)]
        assert sorted(picks[0] + picks[1]) == list(range(10))


# ---- arms, state, talk -----------------------------------------------------------------------------------------------


def arm_request(vas: VAS, kind: Any = "train", excluded: Sequence[int] = ()) -> Request:
    rows = vas.pool.rows(list(excluded))
    gone = np.bincount(vas.pool.arms[rows], minlength=len(vas.pool.arm_names))
    return Request(4, kind, rows, vas.pool.arm_sizes - gone, None)


def test_arm_mass_is_what_a_batch_takes_on_average() -> None:
    vas = VAS(PromptPool(range(6), list("aabbbb")), probe_rollouts=4, diversity="none")
    assert vas._arm_mass(arm_request(vas)).tolist() == [2, 4]
    weigh(vas, [1.0, 0.5, 0.0, 0.5, 0.0, 0.0])
    assert vas._arm_mass(arm_request(vas)) == pytest.approx([(0.75 + 1 / 3) / 2, (0.25 + 2 / 3) / 2], abs=1e-6)
    assert vas._arm_mass(arm_request(vas, excluded=[0])) == pytest.approx(
        [(0.5 + 1 / 5) / 2, (0.5 + 4 / 5) / 2], abs=1e-6
    )
    one_round(vas)
    tell(vas, {2: HALF})
    assert vas._arm_mass(arm_request(vas, "probe")).tolist() == [2, 4], "nothing is due: by size"
    fresh = VAS(PromptPool(range(6), list("aabbbb")))
    tell(fresh, {2: HALF})
    assert fresh._arm_mass(arm_request(fresh, "probe")).tolist() == [2, 3]


@pytest.mark.parametrize(("outer", "inner"), [(VAS, Uniform), (Uniform, VAS)])
def test_composed_with_another(outer: Any, inner: Any) -> None:
    both = within(outer, inner)(PromptPool(range(12), list("aaabbbbbbccc")), seed=1)
    for kind in ("probe", "train") if inner is VAS else ("train",):
        selection = both.ask(6, kind=kind)
        both.tell(Rollouts(selection.prompt_ids.repeat(8), [1.0, 0.0] * 24, kind=kind))
        both.advance()
    assert np.unique(both.ask(12).prompt_ids).size == 12


@pytest.mark.parametrize(
    "parameters", [{"momentum": 0.5}, {"uniform_half": "cycle", "learn_from": "all", "reuse_probes": 2}]
)
def test_resume_between_probes_and_training(parameters: dict[str, Any]) -> None:
    def play(vas: VAS, rounds: range) -> list[list[int]]:
        picks = []
        for i in rounds:
            kind: Any = "probe" if i % 3 == 0 else "train"
            selection = vas.ask(5, kind=kind)
            ids = np.repeat(selection.prompt_ids, selection.n_rollouts)
            said = [f"{i} {(7 * j + i) % 5} {j % 3} x" for j in range(ids.size)]
            vas.tell(Rollouts(ids, ((ids + i) % 3 == 0) ^ (np.arange(ids.size) % 2 == 0), responses=said, kind=kind))
            vas.advance()
            picks.append([*selection.prompt_ids.tolist(), *selection.n_rollouts.tolist()])
        return picks

    whole, resumed = vas_of(20, refresh=3, **parameters), vas_of(20, refresh=3, **parameters)
    play(whole, range(8))
    resumed.load_state_dict(whole.state_dict())
    assert play(resumed, range(8, 16)) == play(whole, range(8, 16))
    assert weights_of(resumed) == weights_of(whole)
    assert resumed.metrics() == whole.metrics()


def test_what_it_says_of_a_prompt_and_of_itself() -> None:
    vas = vas_of(4, diversity="none", refresh=5)
    weigh(vas, [0.0, 0.5, 0.5, 1.0])
    one_round(vas)
    assert known(vas, 3) == {
        "prompt_id": 3,
        "arm": "default",
        "active": True,
        "pass_rate": pytest.approx(0.5),
        "ovs": pytest.approx(0.25),
        "tds": None,
        "vps": pytest.approx(0.2),
        "weight": pytest.approx(1.0, abs=1e-6),
        "weight_is_guessed": False,
        "score_responses": 4,
        "score_age": 1,
        "probe_due": False,
        "share_of_a_batch": pytest.approx(0.5 * 0.5 + 0.5 * 0.25, abs=1e-6),
    }
    assert metric(vas, "ovs_mean") == pytest.approx(0.125)
    assert metric(vas, "weights_effective") == pytest.approx(2.0**2 / 1.5, abs=1e-5)
    assert metric(vas, "weights_effective_share") == pytest.approx(2.0**2 / 1.5 / 4, abs=1e-5)


# ---- with a store ----------------------------------------------------------------------------------------------------


def test_probes_and_training_through_a_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILT_IN, "vas", "curri.curricula.vas:VAS")
    settings_: dict[str, Any] = {"probe_rollouts": 4, "group_size": 2, "refresh": 3, "mixture": 1.0}
    with open_store(tmp_path / "prompts.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), "sums") for i in range(30)])
        scheduler = Scheduler(store, "vas", run="r", seed=0, **settings_)
        vas: Any = scheduler.curriculum
        live: list[bool] = []
        for step in range(6):
            while vas.probes_due:
                probes = scheduler.ask(min(10, vas.probes_due), kind="probe")
                assert (probes.kind, set(probes.n_rollouts.tolist())) == ("probe", {4})
                ids = np.repeat(probes.prompt_ids, probes.n_rollouts)
                rewards = (ids % 3 == 0) & (np.arange(ids.size) % 2 == 0)  # every third prompt is neither easy nor hard
                said = [f"{k} and then {k * k % 7} so {i}" for k, i in enumerate(ids.tolist())]
                told = scheduler.tell(ids, rewards, responses=said, tokens=np.full(ids.size, 6), resolve="observed")
                assert told.closed == (probes.ticket.round,)
            batch = scheduler.ask(4)
            assert step or known(vas, int(batch.prompt_ids[0]))["score_age"] == 0
            live += (batch.prompt_ids % 3 == 0).tolist()
            scheduler.tell(batch.prompt_ids.repeat(2), [1.0, 0.0] * 4, tokens=np.full(8, 6))
        assert np.mean(live) > 0.7, "prompts whose outcomes vary must come more often than one in three"
        assert metric(vas, "probe_rollouts") == 2 * 30 * 4
        assert metric(vas, "probe_rollouts_per_train_rollout") == 2 * 30 * 4 / (6 * 8)
        assert scheduler.metrics()["scheduler/prompts_observed"] == 60
        assert metric(vas, "tds_known_share") == 1.0
    with open_store(tmp_path / "prompts.duckdb") as store:
        again: Any = Scheduler(store, run="r").curriculum
        assert again.metrics() == vas.metrics()
        assert again.ask(4).prompt_ids.tolist() == vas.ask(4).prompt_ids.tolist()
