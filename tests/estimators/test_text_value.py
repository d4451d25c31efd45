"""The value model over features of a prompt's text: what the features say, what it learns, and exact resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curri import Prompt
from curri.errors import InvalidParameter, MissingExtra, StateMismatch
from curri.estimators import explained_variance, rollout_equivalent
from curri.estimators.text_features import HASHED_SCALE, LONGEST, NUMBER_NAMES, text_features
from curri.estimators.text_value import TextValue
from curri.estimators.value_model import RunningMoments, prompt_text
from curri.state import pack, same_state, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from curri.types import Floats

torch = pytest.importorskip("torch", reason="needs curri[torch]")


def prompt(text: str | list[dict[str, Any]], number: int = 0) -> Prompt:
    return Prompt(number, text, None, "arm", {})


def sums(n: int, start: int = 0) -> list[Prompt]:
    """Sums that get longer numbers as they go on."""
    return [prompt(f"What is {7 ** (i % 12)} + {i}?", i) for i in range(start, start + n)]


def number_of(text: str | list[dict[str, Any]], name: str) -> float:
    features = text_features([prompt(text)], 16)
    return float(np.expm1(np.float64(features.numbers[0, NUMBER_NAMES.index(name)])))


# ---- features --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("Add 3, 45 and 2305.", "numbers", 3),
        ("Add 3, 45 and 2305.", "digits", 7),
        ("Add 3, 45 and 2305.", "longest number", 4),
        ("Add 3, 45 and 2305.", "mean digits", 7 / 3),
        ("Add 3, 45 and 2305.", "largest number", np.log10(2306)),
        ("Add 3, 45 and 2305.", "mean magnitude", np.log10([4, 46, 2306]).mean()),
        ("Add 3, 45 and 2305.", "spread of magnitudes", np.log10([4, 46, 2306]).std()),
        ("Add 3, 45 and 2305.", "summed magnitude", np.log10([4, 46, 2306]).sum()),
        ("no digits at all", "numbers", 0),
        ("no digits at all", "mean digits", 0),
        ("3.25 and 4.5, end 7.", "numbers", 3),
        ("3.25 and 4.5, end 7.", "decimals", 2),
        ("3.25 and 4.5, end 7.", "longest decimals", 2),
        ("1" + "0" * 30, "largest number", 30),
        ("((1 + 2) * (3 - {4}))", "depth of brackets", 3),
        ("1) one 2) two (so)", "depth of brackets", 0),
        ("1 + 2 - 3 * 4", "count of +", 1),
        ("a\nb\nc", "count of newline", 3),
        ("Anna met Bob in New York", "capital runs", 4),
        ("ABC d", "capitals", 3),
        ("one two, one", "words", 3),
        ("one two, one", "tokens", 4),
        ("one two, one", "distinct tokens", 3),
        ("one seven", "longest word", 5),
        ("one seven", "mean word", 4),
        ([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], "turns", 2),
        (
            [{"role": "user", "content": [{"type": "image", "image": "x.png"}, {"type": "text", "text": "b"}]}],
            "media",
            1,
        ),
        ("", "words", 0),
    ],
)
def test_numbers_say_what_they_are_named_after(text: Any, name: str, value: float) -> None:
    assert number_of(text, name) == pytest.approx(value, rel=1e-5, abs=1e-6)


def test_hashed_n_grams_know_words_and_their_order_but_not_the_value_of_digits() -> None:
    def hashed(text: str) -> Floats:
        return np.asarray(text_features([prompt(text)], 4096).hashed[0] / HASHED_SCALE)

    assert np.array_equal(hashed("Buy 17 eggs"), hashed("buy 23 EGGS"))
    assert not np.array_equal(hashed("Buy 17 eggs"), hashed("Buy 170 eggs"))
    assert not np.array_equal(hashed("dog bites man"), hashed("man bites dog"))
    near = hashed("How many eggs are left in the basket?") @ hashed("How many eggs are there in the basket?")
    far = hashed("How many eggs are left in the basket?") @ hashed("Sort: pear, fig, plum")
    assert near > 0.5
    assert far < 0.2
    assert np.linalg.norm(hashed("How many eggs are left in the basket?")) == pytest.approx(1.0, abs=0.35)


@given(st.lists(st.text(max_size=40), min_size=1, max_size=8))
def test_features_do_not_depend_on_the_company(texts: list[str]) -> None:
    together = text_features([prompt(text) for text in texts], 64)
    for row, text in enumerate(texts):
        alone = text_features([prompt(text)], 64)
        assert np.array_equal(together.hashed[row], alone.hashed[0])
        assert np.array_equal(together.numbers[row], alone.numbers[0])
    assert np.isfinite(together.numbers).all()


def test_features_do_not_depend_on_how_work_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [*sums(40), prompt(""), prompt("\ud800 half a pair"), prompt("é" * 300)]
    whole = text_features(prompts, 32)
    monkeypatch.setattr("curri.estimators.text_features.CHUNK", 50)
    pieces = text_features(prompts, 32)
    assert np.array_equal(whole.hashed, pieces.hashed)
    assert np.array_equal(whole.numbers, pieces.numbers)


def test_of_a_very_long_prompt_both_ends_are_read() -> None:
    middle = "word " * LONGEST
    assert number_of(f"17 {middle} 23", "numbers") == pytest.approx(2)
    assert number_of(f"{middle} 17 {middle}", "numbers") == pytest.approx(0)


def test_no_prompts_no_features() -> None:
    assert text_features([], 8).hashed.shape == (0, 8)
    with pytest.raises(InvalidParameter, match="`n_hashed`"):
        text_features([], 0)


def test_prompt_text_joins_chat_messages() -> None:
    parts = [{"type": "image", "image": "x"}, {"type": "text", "text": "two"}]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "one"},
        {"role": "user", "content": parts},
        {"role": "user"},
    ]
    assert prompt_text(prompt(messages)) == "one\ntwo\n"


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=2), min_size=2, max_size=20), st.integers(1, 19))
def test_running_moments_are_those_of_all_values(values: list[list[float]], cut: int) -> None:
    rows = np.array(values)
    running, at_once = RunningMoments(2, floor=0.1), RunningMoments(2, floor=0.1)
    running.update(rows[:cut])
    running.update(rows[cut:])
    at_once.update(rows)
    assert running.values == pytest.approx(at_once.values, rel=1e-9, abs=1e-6)
    expected = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 0.1)
    assert running.standardised(rows) == pytest.approx(np.clip(expected, -5, 5), rel=1e-6, abs=1e-6)


# ---- learning --------------------------------------------------------------------------------------------------------


class Gym(NamedTuple):
    """Prompts of reasoning-gym, with the pass rate of a simulated solver."""

    prompts: list[Prompt]
    arm: Any
    rate: Floats

    def take(self, rows: Any) -> Gym:
        return Gym([self.prompts[row] for row in rows], self.arm[rows], self.rate[rows])


# Task, its levels (parameters), and what makes an entry hard, from the task's own account of it.
TASKS: list[tuple[str, Sequence[Mapping[str, Any]], Any]] = [
    ("chain_sum", [{"max_terms": 4, "max_digits": 3}, {"max_terms": 8, "max_digits": 6}], ("num_terms", "num_digits")),
    ("leg_counting", [{"min_animals": 2, "max_animals": 12}], ("num_animals",)),
    ("number_sorting", [{"min_numbers": 3, "max_numbers": 14}], ("numbers",)),
    ("word_sorting", [{"min_words": 3, "max_words": 14}], ("num_words",)),
    ("spell_backward", [{}], ("word_len",)),
    ("products", [{"max_digits": 3}, {"max_digits": 7}], ("num_digits",)),
    ("caesar_cipher", [{"max_words": 20}], ("num_words",)),
    ("family_relationships", [{"max_family_size": 12}], ("family_size",)),
    ("knights_knaves", [{"n_people": 2}, {"n_people": 3}, {"n_people": 4}], ("names",)),
]


def gym(per_task: int, seed: int) -> Gym:
    """Some tasks at mixed levels. Pass rate: σ(ability in the task - slope · standardised difficulty + noise)."""
    create_dataset = pytest.importorskip("reasoning_gym").create_dataset
    rng = np.random.default_rng(seed)
    texts, arms, logits = [], [], []
    for name, levels, hard in TASKS:
        sizes = [per_task // len(levels)] * len(levels)
        parts = [create_dataset(name, size=n, seed=seed, **level) for n, level in zip(sizes, levels, strict=True)]
        entries = [part[i] for part in parts for i in range(len(part))]
        table = np.array([[_amount(entry["metadata"][key]) for key in hard] for entry in entries])
        difficulty = ((table - table.mean(axis=0)) / table.std(axis=0)).sum(axis=1) / np.sqrt(len(hard))
        ability, slope = rng.normal(0.0, 0.8), rng.uniform(0.8, 2.0)
        texts += [entry["question"] for entry in entries]
        arms += [name] * len(entries)
        logits.append(ability - slope * difficulty + rng.normal(0.0, 0.4, len(entries)))
    rate = 1.0 / (1.0 + np.exp(-np.concatenate(logits)))
    return Gym([prompt(text, i) for i, text in enumerate(texts)], np.array(arms), rate)


def _amount(value: Any) -> float:
    return float(len(value)) if isinstance(value, list) else float(value)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_on_unseen_prompts_it_is_worth_several_rollouts_and_more_than_the_mean_of_the_arm(seed: int) -> None:
    prompts = gym(per_task=600, seed=seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(prompts.prompts))
    seen, unseen = prompts.take(order[:4096]), prompts.take(order[4096:])
    assert not {p.prompt_id for p in seen.prompts} & {p.prompt_id for p in unseen.prompts}

    arms, code = np.unique(unseen.arm, return_inverse=True)
    arm_mean = np.array([unseen.rate[code == arm].mean() for arm in range(arms.size)])
    within = np.var(unseen.rate - arm_mean[code]) / np.var(unseen.rate)
    assert within >= 0.5  # most of what there is to know, no mean of an arm can tell

    model = TextValue(seed=seed)
    worth = []
    for batch in np.split(np.arange(4096), 32):
        ids = batch.tolist()
        measured = rng.binomial(8, seen.rate[batch]) / 8
        predicted = model.fit([seen.prompts[i] for i in ids], measured)
        worth.append(rollout_equivalent(seen.rate[batch], explained_variance(seen.rate[batch], predicted)))
    explained = explained_variance(unseen.rate, model.predict(unseen.prompts))
    by_arm = np.array([seen.rate[seen.arm == arm].mean() for arm in arms])[code]  # from the true rates, even
    assert rollout_equivalent(unseen.rate, explained) >= 6.0  # three are asked for; it has come to 13 and more
    assert explained > explained_variance(unseen.rate, by_arm) + 0.2
    assert np.median(worth[-8:]) > 3.0 > worth[0]  # it was earned on the way, not there from the start


@pytest.mark.slow
def test_paper_settings_learn_too_but_more_slowly() -> None:
    prompts = gym(per_task=300, seed=3)
    measured = np.random.default_rng(0).binomial(8, prompts.rate) / 8
    explained = {}
    for label, settings_ in {"paper": {"passes": 1, "replay": 0}, "default": {}}.items():
        model = TextValue(**settings_)  # type: ignore[arg-type]  # ints only
        for batch in np.array_split(np.random.default_rng(1).permutation(len(measured)), 20):
            model.fit([prompts.prompts[i] for i in batch.tolist()], measured[batch])
        explained[label] = explained_variance(prompts.rate, model.predict(prompts.prompts))
    assert 0.05 < explained["paper"] < explained["default"]


@pytest.mark.parametrize("squash", [True, False])
def test_before_the_first_update_every_prediction_is_the_initial_mean(squash: bool) -> None:
    model = TextValue(initial_mean=0.3, squash=squash)
    assert model.predict(sums(5)) == pytest.approx(0.3, abs=1e-6)
    assert model.predict([]).shape == (0,)


@pytest.mark.parametrize("squash", [True, False])
def test_predictions_stay_in_the_unit_interval(squash: bool) -> None:
    model = TextValue(squash=squash, learning_rate=0.1)
    for _ in range(20):
        model.fit(sums(24), [0.0, 1.0] * 12)
    predicted = model.predict(sums(200))
    assert predicted.min() >= 0.0
    assert predicted.max() <= 1.0


def test_fit_gives_what_was_predicted_before_and_predict_changes_nothing() -> None:
    model = TextValue()
    model.fit(sums(10), np.linspace(0, 1, 10))
    before = model.state()
    predicted = model.predict(sums(20, start=5))
    assert same_state(model.state(), before)
    assert np.array_equal(model.fit(sums(20, start=5), np.full(20, 0.5)), predicted)
    assert not np.array_equal(model.predict(sums(20, start=5)), predicted)


def test_weights_decide_between_groups_that_disagree() -> None:
    twins = [prompt("What is 2 + 2?", 0), prompt("What is 2 + 2?", 1)]
    for weights, expected in (([3, 1], 0.25), ([1, 3], 0.75), (None, 0.5)):
        model = TextValue(replay=0, passes=300)
        model.fit(twins, [0.0, 1.0], weights)
        assert model.predict(twins[:1])[0] == pytest.approx(expected, abs=0.05)


def test_replay_holds_the_last_groups_and_no_more() -> None:
    model = TextValue(replay=10)
    model.fit(sums(6), np.full(6, 0.25))
    model.fit(sums(7, start=6), np.full(7, 0.75))
    assert model.state()["replay/targets"].tolist() == [0.25] * 3 + [0.75] * 7
    without = TextValue(replay=0)
    without.fit(sums(6), np.full(6, 0.25))
    assert without.state()["replay/targets"].size == 0


def test_an_empty_update_changes_nothing() -> None:
    model = TextValue()
    before = model.state()
    assert model.fit([], []).shape == (0,)
    assert same_state(model.state(), before)


@pytest.mark.parametrize(
    ("targets", "weights", "what"),
    [
        ([0.5], None, "targets"),
        ([0.5, 1.5], None, "targets"),
        ([0.5, np.nan], None, "targets"),
        ([0.5, 0.5], [1.0], "weights"),
        ([0.5, 0.5], [1.0, -1.0], "weights"),
        ([0.5, 0.5], [0.0, 0.0], "weights"),
        ([0.5, 0.5], [1.0, np.inf], "weights"),
    ],
)
def test_a_wrong_batch_is_refused_and_changes_nothing(targets: Any, weights: Any, what: str) -> None:
    model = TextValue()
    before = model.state()
    with pytest.raises(InvalidParameter, match=f"`{what}` of `TextValue.fit` must be"):
        model.fit(sums(2), targets, weights)
    assert same_state(model.state(), before)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hashed": 0},
        {"hidden": 2.5},
        {"learning_rate": 0.0},
        {"learning_rate": np.nan},
        {"passes": True},
        {"replay": -1},
        {"initial_mean": 1.0},
        {"squash": 1},
        {"seed": -1},
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any]) -> None:
    name = next(iter(wrong))
    with pytest.raises(InvalidParameter, match=f"`{name}` of `TextValue` must be .*; got"):
        TextValue(**wrong)


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"(?s)needs torch.*pip install 'curri\[torch\]'"):
        TextValue()


# ---- state -----------------------------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.integers(0, 4), st.sampled_from([0, 7, 512]), st.booleans())
def test_resume_is_bit_equal_and_torch_is_left_as_it_was(rounds: int, replay: int, squash: bool) -> None:
    generator, threads = torch.get_rng_state(), torch.get_num_threads()
    whole = TextValue(replay=replay, squash=squash, seed=5)
    for round_ in range(rounds):
        whole.fit(sums(20, start=20 * round_), np.linspace(0, 1, 20))
    resumed = TextValue(replay=replay, squash=squash, seed=5)
    resumed.load(unpack(pack(whole.state())))
    assert same_state(resumed.state(), whole.state())
    for model in (whole, resumed):
        model.fit(sums(30, start=100), np.linspace(1, 0, 30), np.arange(1, 31))
    assert same_state(resumed.state(), whole.state())
    assert np.array_equal(resumed.predict(sums(50)), whole.predict(sums(50)))
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.get_num_threads() == threads


def test_the_number_of_threads_changes_no_bit() -> None:
    before = torch.get_num_threads()
    states = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            model = TextValue()
            for round_ in range(3):
                model.fit(sums(300, start=300 * round_), np.linspace(0, 1, 300))
            states.append({**model.state(), "predicted": model.predict(sums(900))})
    finally:
        torch.set_num_threads(before)
    assert same_state(*states)


def test_other_seeds_start_elsewhere() -> None:
    assert not np.array_equal(TextValue(seed=0).state()["hidden_weight"], TextValue(seed=1).state()["hidden_weight"])


def test_a_state_is_small_and_its_own() -> None:
    model = TextValue()
    for round_ in range(3):
        model.fit(sums(300, start=300 * round_), np.full(300, 0.5))
    state = model.state()
    assert len(pack(state)) < 1_000_000
    assert not any(array.flags.writeable for array in state.values())
    kept = unpack(pack(state))
    model.fit(sums(5), np.full(5, 0.9))
    assert same_state(state, kept)
    mine = unpack(pack(state))
    model.load(mine)
    for array in mine.values():
        array[...] = 1
    assert same_state(model.state(), kept)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    model = TextValue()
    model.fit(sums(8), np.full(8, 0.5))
    before = model.state()
    wrong = [
        {**before, "strange": np.zeros(1)},
        *({name: value for name, value in before.items() if name != missing} for missing in before),
        {**before, "hidden_weight": before["hidden_weight"][:-1]},
        {**before, "output_bias": before["output_bias"].astype(np.float64)},
        {**before, "counts": 3},
        {**before, "replay/targets": before["replay/targets"][:-1]},
        TextValue(hidden=8).state(),
    ]
    for state in wrong:
        with pytest.raises(StateMismatch):
            model.load(state)
        assert same_state(model.state(), before)
    overfull = TextValue(replay=4)
    with pytest.raises(StateMismatch, match="replay"):
        overfull.load(before)
