"""PCL: its golden cases, selection by the value model, learning one step behind, and handed-in models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curri import Prompt, PromptPool, Rollouts
from curri.curricula.base import Request
from curri.curricula.pcl import PCL
from curri.errors import InvalidParameter, StateMismatch
from curri.estimators import effective_ratio, explained_variance, group_advantages, rollout_equivalent
from curri.estimators.value_model import ValueModel, checked_entries
from curri.selectors import nearest
from curri.state import pack, same_state, unpack
from curri.testing import Case, parametrize
from curri.testing.scenario import play, small_pool, step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike

    from curri.state import State
    from curri.types import Floats, Ints

pytest.importorskip("torch", reason="needs curri[torch]")

CASES = {
    case["name"]: case
    for case in json.loads((Path(__file__).parents[1] / "golden" / "pcl.json").read_text(encoding="utf-8"))["cases"]
}


class Table(ValueModel):
    """One value a prompt: V(x) ← V(x) - rate · 2 (V(x) - r̄). Remembers what it was asked."""

    def __init__(self, values: Mapping[int, float], rate: float = 0.1) -> None:
        self.values = dict(values)
        self.rate = rate
        self.asked: list[list[int]] = []
        self.taught: list[dict[int, tuple[float, float]]] = []

    @property
    def name(self) -> str:
        return "table"

    def predict(self, prompts: Sequence[Prompt]) -> Floats:
        self.asked.append([prompt.prompt_id for prompt in prompts])
        return np.array([self.values.get(prompt.prompt_id, 0.0) for prompt in prompts])

    def fit(self, prompts: Sequence[Prompt], targets: ArrayLike, weights: ArrayLike | None = None) -> Floats:
        ids = [prompt.prompt_id for prompt in prompts]
        before = np.array([self.values.get(i, 0.0) for i in ids])
        targets_B, weights_B = np.asarray(targets), np.asarray(weights)
        self.taught.append({i: (float(t), float(w)) for i, t, w in zip(ids, targets_B, weights_B, strict=True)})
        after = before - self.rate * 2.0 * (before - targets_B)
        self.values |= dict(zip(ids, after.tolist(), strict=True))
        return before

    def state(self) -> State:
        ids = sorted(self.values)
        return {"ids": np.array(ids, dtype=np.int64), "values": np.array([self.values[i] for i in ids])}

    def load(self, state: State) -> None:
        checked_entries(state, {"ids": np.empty(0, np.int64), "values": np.empty(0)}, model="table")
        self.values = dict(zip(state["ids"].tolist(), state["values"].tolist(), strict=True))


def texts(of: Callable[[int], str] = lambda i: f"What is {i} + {i}?") -> Callable[[Ints], list[Prompt]]:
    return lambda ids: [Prompt(i, of(i), None, "a", {}) for i in ids.tolist()]


def pool_of(n: int, arms: Any = None) -> PromptPool:
    return PromptPool(np.arange(n), arms, fetch=texts())


def tell(pcl: PCL, rewards: Mapping[int, ArrayLike], **columns: Any) -> None:
    """One round: these rewards for these prompts."""
    parts = {i: np.atleast_1d(np.asarray(values, dtype=np.float64)) for i, values in rewards.items()}
    ids = np.repeat(list(parts), [part.size for part in parts.values()])
    pcl.tell(Rollouts(ids, np.concatenate(list(parts.values())), **columns))
    pcl.advance()


def metric(pcl: PCL, name: str) -> float:
    return pcl.metrics()[f"curriculum/pcl/{name}"]


# The default parameters are in tests/contract.
@parametrize([Case(PCL, {"warm_up": 0, "squash": False, "target": 0.3, "passes": 1, "replay": 0, "candidates": 2})])
def test_contract(check: Callable[[], None]) -> None:
    check()


# ---- golden cases ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["select_closest_to_tau", "select_other_threshold"])
def test_golden_selection(name: str) -> None:
    case = CASES[name]["inputs"]
    table = Table(dict(enumerate(case["values"])))
    pcl = PCL(pool_of(len(case["values"])), candidates=8, warm_up=0, target=case["tau"]).use(table)
    chosen = pcl.ask(case["m"]).prompt_ids
    expected = CASES[name]["expected"]["selected_indices_in_order"]
    distance = np.abs(np.array(case["values"]) - case["tau"])
    assert sorted(chosen.tolist()) == sorted(expected)
    assert distance[chosen] == pytest.approx(distance[expected])


def test_golden_mini_step_update_order() -> None:
    case = CASES["mini_step_update_order"]
    inputs, expected = case["inputs"], case["expected"]
    names = inputs["pool"]
    table = Table({i: inputs["values"][name] for i, name in enumerate(names)}, rate=inputs["value_lr"])
    pcl = PCL(pool_of(len(names)), candidates=4, warm_up=0, group_size=inputs["n"], target=inputs["tau"]).use(table)
    selection = pcl.ask(inputs["m"])
    assert sorted(names[i] for i in selection.prompt_ids) == expected["selected"]
    assert selection.n_rollouts.tolist() == [inputs["n"]] * inputs["m"]
    assert table.taught == []  # V is one step behind: nothing is learned before the outcomes are in
    for name, rewards in inputs["rewards"].items():
        found = group_advantages(rewards, np.zeros(len(rewards)), normalize_std=False)
        assert found == pytest.approx(expected["advantages"][name])
        pcl.tell(Rollouts([names.index(name)] * len(rewards), rewards))
        assert table.taught == []
    pcl.advance()
    targets = {names[i]: target for i, (target, _) in table.taught[0].items()}
    assert targets == pytest.approx(expected["targets"])
    after = {names[i]: value for i, value in table.values.items()}
    assert {name: after[name] for name in expected["values_after"]} == pytest.approx(expected["values_after"])
    others = [name for name in names if name not in expected["selected"]]
    assert expected["unselected_values_unchanged"]
    assert all(after[name] == inputs["values"][name] for name in others)


def test_golden_batch_arithmetic_paper_default() -> None:
    case = CASES["batch_arithmetic_paper_default"]
    inputs, expected = case["inputs"], case["expected"]
    table = Table({})
    pcl = PCL(pool_of(5000), group_size=inputs["n"], warm_up=0).use(table)
    assert pcl.candidates == inputs["k"]
    selection = pcl.ask(inputs["m"])
    assert len(set(table.asked[0])) == expected["candidates"]
    assert set(selection.prompt_ids.tolist()) <= set(table.asked[0])
    assert len(selection) / len(table.asked[0]) == expected["selected_fraction"]
    assert selection.n_rollouts.sum() == expected["samples_per_step"]
    assert len(table.asked[0]) * inputs["n"] == expected["ds_rollouts_for_same_pool"]
    saved = len(table.asked[0]) * inputs["n"] - selection.n_rollouts.sum()
    assert saved == expected["rollouts_saved_vs_filtering_the_pool"]
    for m, n in expected["other_decompositions_of_8192"]:
        assert PCL(pool_of(5000), group_size=n).ask(m).n_rollouts.sum() == expected["samples_per_step"]


# ---- picking ---------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=10, max_size=10), st.integers(1, 10), st.floats(0, 1), st.integers(0, 5))
def test_with_all_as_candidates_it_picks_the_nearest(values: list[float], m: int, target: float, seed: int) -> None:
    table = Table(dict(enumerate(values)))
    pcl = PCL(pool_of(10), candidates=10, warm_up=0, target=target, seed=seed).use(table)
    distance = np.abs(np.array(values) - target)
    chosen = pcl.ask(m)
    assert distance[chosen.prompt_ids].sum() == pytest.approx(distance[nearest(values, target, m)].sum(), abs=1e-9)
    assert np.isnan(chosen.probability).all()


def test_with_a_quota_every_arm_has_candidates_of_its_own() -> None:
    arms = np.repeat(["a", "b"], 50)
    table = Table({i: 0.5 - 0.001 * i for i in range(100)})
    pcl = PCL(pool_of(100, arms), warm_up=0, candidates=50).use(table)
    chosen = pcl.ask(6, quota={"a": 2, "b": 4}, exclude=[0, 50]).prompt_ids
    assert sorted(chosen.tolist()) == [1, 2, 51, 52, 53, 54]


def test_warm_up_is_uniform_counts_rounds_with_outcomes_and_says_its_probabilities() -> None:
    table = Table({})
    pcl = PCL(pool_of(40, np.repeat(["a", "b"], [10, 30])), warm_up=2).use(table)
    for _ in range(5):
        selection = pcl.ask(8, exclude=[0, 1])
        assert selection.probability == pytest.approx(8 / 38)
        pcl.advance()
    selection = pcl.ask(5, quota={"a": 2, "b": 3})
    assert sorted(selection.probability.tolist()) == pytest.approx([0.1] * 3 + [0.2] * 2)
    assert table.asked == []
    tell(pcl, {0: [0, 1]})
    assert metric(pcl, "warm_up_left") == 1
    tell(pcl, {0: [0, 1]})
    assert metric(pcl, "warm_up_left") == 0
    assert np.isnan(pcl.ask(4).probability).all()
    assert len(table.asked[0]) == 16


def test_arm_mass_is_the_batch_it_would_take_and_moves_nothing() -> None:
    arms = np.repeat(["a", "b", "c"], [20, 20, 60])
    table = Table({i: 0.5 if 20 <= i < 40 else 0.0 for i in range(100)})
    pcl = PCL(pool_of(100, arms), warm_up=1).use(table)
    request = Request(8, "train", np.array([20, 21]), np.array([20, 18, 60]), None)
    assert pcl._arm_mass(request).tolist() == [20, 18, 60]  # by size while it warms up
    tell(pcl, {99: [0, 0]})
    before = pcl.state_dict()
    mass = pcl._arm_mass(request)
    assert same_state(pcl.state_dict(), before)
    chosen = pcl.ask(8, exclude=[20, 21])
    assert mass.tolist() == [np.sum(chosen.arms == arm) for arm in "abc"]
    assert mass[1] >= 3


def test_a_pool_without_texts_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="no texts"):
        PCL(PromptPool(range(4)))


# ---- learning --------------------------------------------------------------------------------------------------------


def test_targets_are_solved_where_it_is_known_else_rewards_in_the_unit_interval() -> None:
    table = Table({})
    pcl = PCL(pool_of(8)).use(table)
    pcl.tell(Rollouts([0] * 4, [9.0, -9.0, 3.0, 0.0], solved=[1, 0, 1, np.nan]))
    pcl.tell(Rollouts([1] * 2, [0.25, 0.75], solved=[np.nan, np.nan]))
    pcl.tell(Rollouts([2] * 2, [0.25, 1.75]))  # neither: not a pass rate
    pcl.tell(Rollouts([3] * 5, [1, 0, 0, 0, 0], kind="probe"))
    pcl.advance()
    assert table.taught == [{0: (pytest.approx(2 / 3), 3), 1: (0.5, 2), 3: (pytest.approx(0.2), 5)}]
    assert metric(pcl, "fallback/no_pass_rate") == 1
    assert metric(pcl, "updates") == 1


def test_rounds_that_teach_nothing_keep_it_warming_up() -> None:
    table = Table({})
    pcl = PCL(pool_of(8), warm_up=1).use(table)
    for _ in range(3):
        tell(pcl, {0: [5.0, -1.0]})
    assert table.taught == []
    assert metric(pcl, "warm_up_left") == 1
    assert metric(pcl, "fallback/no_pass_rate") == 3


def test_much_evidence_is_learned_in_pieces_that_mix_the_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curri.curricula.pcl._BLOCK", 16)
    table = Table({})
    pcl = PCL(pool_of(64)).use(table)
    tell(pcl, {i: [i < 32] for i in range(64)})
    assert [len(piece) for piece in table.taught] == [16] * 4
    assert sorted(i for piece in table.taught for i in piece) == list(range(64))
    assert all(0.2 < np.mean([target for target, _ in piece.values()]) < 0.8 for piece in table.taught)
    assert metric(pcl, "updates") == 1


def simulated(pcl: PCL, rate: Floats, rounds: int, n: int = 64, group: int = 8) -> Floats:
    """Rounds with outcomes drawn by the true rates; gives the true rates of what was picked, shape (rounds, n)."""
    rng = np.random.default_rng(0)
    picked = []
    for _ in range(rounds):
        ids = pcl.ask(n).prompt_ids
        right = rng.random((n, group)) < rate[ids][:, None]
        pcl.tell(Rollouts(ids.repeat(group), right.ravel().astype(np.float64)))
        pcl.advance()
        picked.append(rate[ids])
    return np.array(picked)


def additions(n: int) -> tuple[PromptPool, Floats, Callable[[Ints], list[Prompt]]]:
    """Sums that get harder with the number of their terms; the pass rate has some noise on top."""
    rng = np.random.default_rng(3)
    terms = rng.integers(2, 12, n)
    numbers = [rng.integers(1, 500, count).tolist() for count in terms.tolist()]
    fetch = texts(lambda i: "Add up: " + " + ".join(map(str, numbers[i])))
    rate = 1.0 / (1.0 + np.exp(terms - 6.5 + rng.normal(0.0, 0.3, n)))
    return PromptPool(np.arange(n), fetch=fetch), rate, fetch


def test_it_finds_prompts_of_intermediate_difficulty_from_their_text() -> None:
    pool, rate, _ = additions(3000)
    picked = simulated(PCL(pool, warm_up=2), rate, 30)
    uniform, late = picked[:2], picked[15:]
    assert np.abs(late - 0.5).mean() < 0.7 * np.abs(uniform - 0.5).mean()
    assert effective_ratio(late, 8).mean() > effective_ratio(uniform, 8).mean() + 0.15
    low = PCL(pool, warm_up=2, target=0.1)
    assert simulated(low, rate, 30)[15:].mean() < late.mean() - 0.15


def test_metrics_tell_how_accurate_it_is_without_knowing_the_true_rates() -> None:
    pool, rate, fetch = additions(4000)
    pcl = PCL(pool, candidates=1)  # uniform: what is told is what the pool is like
    simulated(pcl, rate, 40)
    explained = explained_variance(rate, pcl._model.predict(fetch(pool.ids)))
    assert metric(pcl, "explained_variance") == pytest.approx(explained, abs=0.05)
    assert metric(pcl, "rollout_equivalent") == pytest.approx(rollout_equivalent(rate, explained), rel=0.5)
    assert metric(pcl, "rollout_equivalent") > 3
    assert abs(metric(pcl, "bias")) < 0.05
    assert metric(pcl, "solved_mean") == pytest.approx(rate.mean(), abs=0.15)
    assert metric(pcl, "predicted_mean") == pytest.approx(rate.mean(), abs=0.15)
    assert metric(pcl, "effective_ratio") == pytest.approx(effective_ratio(rate, 8).mean(), abs=0.15)


def test_metrics_of_a_table_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(3000)
    value = np.clip(p + rng.normal(0.0, 0.15, 3000), 0, 1)
    pcl = PCL(pool_of(3000)).use(Table(dict(enumerate(value.tolist())), rate=0.0))
    sizes = rng.integers(1, 9, 3000)  # groups of one among them
    tell(pcl, {i: rng.random(size) < p[i] for i, size in enumerate(sizes.tolist())})
    explained = explained_variance(p, value)
    assert metric(pcl, "explained_variance") == pytest.approx(explained, abs=0.05)
    assert metric(pcl, "rollout_equivalent") == pytest.approx(rollout_equivalent(p, explained), rel=0.4)
    assert metric(pcl, "bias") == pytest.approx((value - p).mean(), abs=0.02)


def test_metrics_that_are_not_defined_are_left_out() -> None:
    pcl = PCL(pool_of(8)).use(Table({}))
    assert not {name for name in pcl.metrics() if name.endswith(("explained_variance", "rollout_equivalent", "bias"))}
    tell(pcl, {i: [1.0] for i in range(8)})  # groups of one, and no two rates
    tell(pcl, {i: [1.0, 1.0] for i in range(8)})
    assert not {name for name in pcl.metrics() if name.endswith(("explained_variance", "rollout_equivalent"))}


def test_explain_gives_the_prediction_and_its_distance() -> None:
    pcl = PCL(pool_of(4), target=0.4).use(Table({2: 0.9}))
    known = pcl.explain(2)
    assert known["predicted_pass_rate"] == 0.9
    assert known["distance_to_target"] == pytest.approx(0.5)
    assert known["value_model"] == "table"


# ---- handed-in models and state --------------------------------------------------------------------------------------


def test_a_model_is_handed_in_before_the_first_round_only() -> None:
    assert isinstance(PCL(small_pool()).use(Table({})), PCL)
    asked, closed = PCL(small_pool()), PCL(small_pool())
    asked.ask(1)
    closed.advance()
    for pcl in (asked, closed):
        with pytest.raises(InvalidParameter, match="before the first round"):
            pcl.use(Table({}))
    with pytest.raises(InvalidParameter, match="must be a `ValueModel`"):
        PCL(small_pool()).use(object())  # type: ignore[arg-type]


def test_a_handed_in_model_stays_when_the_pool_grows_and_parameters_stay_json() -> None:
    table = Table({})
    pcl = PCL(small_pool()).use(table)
    pcl.extend(small_pool().extended([5000], ["arm 1"]))
    step(pcl)
    assert table.taught
    assert json.loads(json.dumps(pcl.parameters)) == pcl.parameters


def test_the_state_carries_a_handed_in_model() -> None:
    whole = PCL(small_pool(), warm_up=1).use(Table({}))
    play(whole, 3)
    state = unpack(pack(whole.state_dict()))
    resumed = PCL(small_pool(), warm_up=1).use(Table({}))
    resumed.load_state_dict(state)
    assert play(resumed, 3) == play(whole, 3)
    assert same_state(resumed.state_dict(), whole.state_dict())


def test_a_state_of_another_model_is_refused_and_changes_nothing() -> None:
    with_table, plain = PCL(small_pool()).use(Table({})), PCL(small_pool())
    play(with_table, 2)
    play(plain, 1)
    before = plain.state_dict()
    with pytest.raises(StateMismatch, match=r"(?s)'table'.*'text'.*use\(model\)"):
        plain.load_state_dict(with_table.state_dict())
    assert same_state(plain.state_dict(), before)
    short = {**before, "own/accuracy": np.zeros(3)}
    with pytest.raises(StateMismatch, match="accuracy"):
        plain.load_state_dict(short)
    assert same_state(plain.state_dict(), before)


class TablePCL(PCL):
    """A subclass that comes with its own model, as a scheduler needs it."""

    name = "table-pcl"

    def _new_value_model(self) -> ValueModel:
        return Table({}, rate=self.learning_rate)


def test_a_subclass_can_come_with_its_own_model() -> None:
    whole = TablePCL(small_pool(), warm_up=1)
    play(whole, 3)
    assert whole.explain(11)["value_model"] == "table"
    resumed = TablePCL(small_pool(), warm_up=1)
    resumed.load_state_dict(unpack(pack(whole.state_dict())))
    assert play(resumed, 3) == play(whole, 3)
    assert same_state(resumed.state_dict(), whole.state_dict())


def test_a_backbone_can_be_handed_in() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers", reason="needs curri[hf]")
    from curri.estimators.backbone_value import BackboneValue

    def letters(text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) % 128 for letter in text]}

    before = torch.get_rng_state()
    config = transformers.GPT2Config(vocab_size=128, n_layer=2, n_head=2, n_embd=16, n_positions=64)
    module = transformers.GPT2Model(config)
    torch.set_rng_state(before)
    pcl = PCL(small_pool(), warm_up=1).use(BackboneValue(module, letters))
    play(pcl, 3)
    assert pcl.explain(11)["value_model"] == "backbone/gpt2/16"
    resumed = PCL(small_pool(), warm_up=1).use(BackboneValue(module, letters))
    resumed.load_state_dict(unpack(pack(pcl.state_dict())))
    assert same_state(resumed.state_dict(), pcl.state_dict())
