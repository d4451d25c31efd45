"""Replay on recorded pass rates: the protocol, the player, the bound and the summary."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.replay import __main__ as benchmark
from benchmarks.table import filled
from curri.curricula.base import Curriculum, Picked, Request, pick_best
from curri.errors import InvalidData, InvalidInput, InvalidParameter, UnknownName
from curri.registry import BUILT_IN
from curri.simulation.bound import Coverage, best_live_share, live_chance, top_tenth
from curri.simulation.foretold import by_discount, by_strategy, first_quarter
from curri.simulation.parallel import in_parallel
from curri.simulation.records import Curves, Records, read_counts, smoothed
from curri.simulation.replay import Entry, RecordedPolicy, fitting, heeds_prior, play_all, play_one, reason_against
from curri.simulation.replay_summary import ReplaySettings, replay_document

if TYPE_CHECKING:
    from pathlib import Path

    from curri.curricula.evidence import Evidence

PROMPTS, STEPS, BATCH = 60, 40, 6
RNG = np.random.default_rng(7)


def curves_of(*, prompts: int = PROMPTS, steps: int = STEPS, prior: bool = False) -> Curves:
    rng = np.random.default_rng(3)
    start, end = rng.beta(0.35, 0.71, prompts), rng.beta(0.7, 0.7, prompts)
    along = np.linspace(0.0, 1.0, steps)[:, None]
    arms = np.array([f"a{i % 3}" for i in range(prompts)])
    return Curves(np.arange(10, 10 + prompts), arms, (1 - along) * start + along * end, start if prior else None)


def records_of(*, prompts: int = 40, visits: int = 12, prior: bool = False) -> Records:
    rng = np.random.default_rng(5)
    rates = rng.beta(0.5, 0.7, prompts)
    return Records(
        ids=np.arange(prompts),
        arms=np.full(prompts, "a"),
        prior=np.clip(rates + rng.normal(0, 0.1, prompts), 0, 1) if prior else None,
        visits=np.full(prompts, visits),
        successes=rng.binomial(8, np.repeat(rates, visits)).astype(float),
        trials=np.full(prompts * visits, 8.0),
        position=np.tile((np.arange(visits) + 0.5) / visits, prompts),
        source="made up",
    )


class Knowing(Curriculum):
    """Knows every pass rate and takes the prompts that are live most likely."""

    name = "knowing"
    rates: Any = None

    def _pick(self, request: Request) -> Picked:
        assert Knowing.rates is not None
        worth = live_chance(Knowing.rates[self.rounds_asked], self.group_size)
        return pick_best(self, request, lambda rows: worth[rows], candidates=0)

    def _fold(self, evidence: Evidence) -> None:
        pass


# ---- the policy and the luck ---------------------------------------------------------------------------------------


def test_every_strategy_has_the_same_luck() -> None:
    curves = curves_of()
    one, other = RecordedPolicy(curves, seed=4), RecordedPolicy(curves, seed=4)
    alone = one.answer([17], 8, round=0).rewards
    among = other.answer(curves.ids[::-1], 8, round=0)
    assert np.array_equal(among.rewards[among.prompt_ids == 17], alone)
    later = np.concatenate([other.answer([17], 5, round=0).rewards, other.answer([17], 3, round=0, first=5).rewards])
    assert np.array_equal(later, alone)


def test_another_seed_or_step_is_another_luck() -> None:
    curves = Curves(np.arange(200), np.full(200, "a"), np.full((2, 200), 0.5))
    policy = RecordedPolicy(curves, seed=0)
    first = policy.answer(curves.ids, 8, round=0).rewards
    assert not np.array_equal(first, RecordedPolicy(curves, seed=1).answer(curves.ids, 8, round=0).rewards)
    policy.learn([], [])
    assert not np.array_equal(first, policy.answer(curves.ids, 8, round=1).rewards)
    assert 0.45 < first.mean() < 0.55


def test_the_policy_moves_as_recorded_whatever_it_is_trained_on() -> None:
    curves = curves_of()
    idle, busy = RecordedPolicy(curves), RecordedPolicy(curves)
    for step in range(STEPS):
        assert np.array_equal(idle.pass_rate(), curves.rates[step])
        idle.learn([], [])
        busy.learn([12] * 8, [1, 0] * 4)
        assert np.array_equal(idle.pass_rate(), busy.pass_rate())


def test_recorded_groups_are_never_handed_back() -> None:
    """Groups come from the smoothed curve: at a recorded 0 of 8 between 8s, both outcomes come up."""
    successes = np.array([8.0, 8, 8, 8, 0, 8, 8, 8, 8] * 200)
    visits = np.full(200, 9)
    position = np.tile((np.arange(9) + 0.5) / 9, 200)
    records = Records(
        np.arange(200), np.full(200, "a"), None, visits, successes, np.full(1800, 8.0), position, source="made up"
    )
    policy = RecordedPolicy(records.curves(9, window=9), seed=0)
    right = [0.0] * 9
    for step in range(9):
        right[step] = float(policy.answer(records.ids, 8, round=step).rewards.mean())
        policy.learn([], [])
    assert 0.84 < right[4] < 0.94
    assert min(right) > 0.75


# ---- playing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", fitting()[0])
def test_every_strategy_plays_and_pays_for_what_it_generates(name: str) -> None:
    curves = curves_of(steps=12)
    run = play_one(curves, Entry(name), batch=BATCH, seed=1)
    figures = run.figures(8)
    assert run.groups.size == run.live.size == run.rollouts.size == 12
    assert 0.0 < figures["live"] <= figures["trained_live"] <= 1.0
    assert figures["rollouts"] >= 8 * figures["groups"] or name == "reinforce-ada"
    assert run.visits.sum() >= 12 * BATCH
    assert run.first.size == np.count_nonzero(run.visits)
    assert (figures["probed"] > 0) == (name == "vas")
    assert np.isnan(figures["excess"]) == (name not in ("frontier", "mopps", "vas"))


def test_uniform_has_the_live_share_of_the_curves() -> None:
    curves = curves_of(steps=100)
    run = play_one(curves, Entry("uniform"), batch=BATCH)
    assert run.figures(8)["live"] == pytest.approx(live_chance(curves.rates, 8).mean(), abs=0.03)


def test_a_group_counts_for_the_prompts_that_were_picked() -> None:
    rates = np.tile(np.repeat([0.5, 0.0], PROMPTS // 2), (30, 1))
    run = play_one(Curves(np.arange(PROMPTS), np.full(PROMPTS, "a"), rates), Entry("mopps"), batch=BATCH)
    assert run.figures(8)["live"] > 0.7
    assert run.visits[: PROMPTS // 2].sum() > 2 * run.visits[PROMPTS // 2 :].sum()
    live_first = run.first[: PROMPTS // 4]
    assert set(live_first.tolist()) <= {0, 1}


def test_the_same_seed_gives_the_same_run_in_any_number_of_processes() -> None:
    curves = curves_of(steps=6)
    entries = [Entry("uniform"), Entry("ucb"), Entry("mopps", {"discount": 0.5})]
    told: list[tuple[int, int, str]] = []
    one = play_all(curves, entries, batch=BATCH, seeds=[0, 2], progress=lambda *each: told.append(each))
    two = play_all(curves, entries, batch=BATCH, seeds=[0, 2], jobs=2)
    assert [(run.entry.strategy, run.seed) for run in one] == [(e.strategy, s) for e in entries for s in (0, 2)]
    for here, there in zip(one, two, strict=True):
        assert np.array_equal(here.visits, there.visits)
        assert np.array_equal(here.live, there.live)
    assert [each[:2] for each in told] == [(i + 1, 6) for i in range(6)]


def test_an_error_in_another_process_is_the_callers() -> None:
    with pytest.raises(InvalidParameter, match="discount"):
        play_all(curves_of(steps=3), [Entry("mopps", {"discount": 7.0})] * 2, batch=BATCH, seeds=[0], jobs=2)
    assert dict(in_parallel(_doubled, [(1,), (2,)], shared=3, jobs=1)) == {0: 6, 1: 12}


def _doubled(shared: int, value: int) -> int:
    return 2 * shared * value


def test_what_cannot_be_replayed_is_said() -> None:
    names, left_out = fitting()
    assert set(names) | set(left_out) == set(BUILT_IN)
    assert set(left_out) == {"pcl", "eva", "modomodo"}
    with pytest.raises(InvalidInput, match=r"pcl cannot be replayed: it reads the texts"):
        play_one(curves_of(), Entry("pcl"), batch=BATCH)
    with pytest.raises(InvalidInput, match=r"none of these .*: pcl reads the texts .*; eva chooses"):
        replay_document(records_of(), ReplaySettings(strategies=("pcl", "eva"), batch=4))
    with pytest.raises(UnknownName):
        reason_against("frontiers")
    with pytest.raises(InvalidInput, match=r"70 distinct prompts .* from 60"):
        play_one(curves_of(), Entry("uniform"), batch=70)
    with pytest.raises(InvalidParameter, match="at least 2"):
        play_one(curves_of(), Entry("uniform"), batch=5, group_size=1)
    with pytest.raises(InvalidParameter, match="distinct"):
        play_all(curves_of(), [Entry("uniform")], batch=5, seeds=[1, 1])


def test_who_heeds_imported_pass_rates() -> None:
    curves = curves_of(prior=True)
    assert {name for name in fitting()[0] if heeds_prior(curves, name, batch=BATCH)} == {
        "frontier", "mopps", "adarft", "easy-to-hard",
    }  # fmt: skip
    assert not heeds_prior(curves_of(), "frontier", batch=BATCH)


# ---- the bound -----------------------------------------------------------------------------------------------------


def test_the_free_bound_is_the_mean_of_the_best_of_every_step() -> None:
    live = live_chance(curves_of().rates, 8)
    expected = np.mean([sum(sorted(row)[-BATCH:]) / BATCH for row in live.tolist()])
    assert best_live_share(curves_of().rates, BATCH) == pytest.approx(expected)


def test_constraints_lower_the_bound_and_what_cannot_be_is_none() -> None:
    pytest.importorskip("scipy", reason="needs curri[mix]")
    rates = curves_of().rates
    free = best_live_share(rates, BATCH) or 0.0
    shares = [best_live_share(rates, BATCH, 8, Coverage(top, 3)) or 0.0 for top in (0.12, 0.2, 0.3, 1.0)]
    assert shares == sorted(shares)
    assert shares[-1] < free
    assert best_live_share(rates, BATCH, 8, Coverage(0.05, 0)) is None
    assert best_live_share(rates, BATCH, 8, Coverage(1.0, 5)) is None
    assert best_live_share(rates, BATCH, 8, Coverage(0.999, 0)) == pytest.approx(free, abs=1e-6)


def test_a_small_programme_has_the_answer_worked_out_by_hand() -> None:
    """Two prompts, one of them always 1/2: if both must be visited, one of two picks is worth nothing."""
    pytest.importorskip("scipy", reason="needs curri[mix]")
    rates = np.array([[0.5, 0.0], [0.5, 0.0]])
    assert best_live_share(rates, 1, 2, Coverage(1.0, 1)) == pytest.approx(0.25)
    # Of 10 prompts the top one may have 3 of the 10 picks; the rest goes to those worth 0.
    many = np.zeros((10, 10))
    many[:, 0] = 0.5
    assert best_live_share(many, 1, 2, Coverage(0.3, 0)) == pytest.approx(0.3 * 0.5)
    assert top_tenth(10) == 1
    assert top_tenth(605) == 60


def test_no_strategy_beats_the_bound_and_one_that_knows_the_truth_is_near_it(monkeypatch: pytest.MonkeyPatch) -> None:
    curves = curves_of(steps=50)
    monkeypatch.setitem(BUILT_IN, "knowing", f"{__name__}:Knowing")
    monkeypatch.setattr("curri.simulation.replay.strategy", lambda name: Knowing if name == "knowing" else _found(name))
    monkeypatch.setattr(Knowing, "rates", curves.rates)
    bound = best_live_share(curves.rates, BATCH) or 0.0
    knowing = np.mean([play_one(curves, Entry("knowing"), batch=BATCH, seed=s).figures(8)["live"] for s in range(3)])
    assert knowing == pytest.approx(bound, abs=0.025)
    for name in ("frontier", "adarft", "dapo"):
        assert play_one(curves, Entry(name), batch=BATCH).figures(8)["live"] < bound


def _found(name: str) -> Any:
    from curri.registry import strategy

    return strategy(name)


def test_a_covering_strategy_stays_below_the_bound_with_its_coverage() -> None:
    pytest.importorskip("scipy", reason="needs curri[mix]")
    curves = curves_of(steps=60)
    figures = play_one(curves, Entry("frontier"), batch=BATCH).figures(8)
    bound = best_live_share(curves.rates, BATCH, 8, Coverage(figures["top"], int(figures["least_visits"])))
    assert bound is not None
    assert 0.7 * bound < figures["live"] < bound


# ---- records -------------------------------------------------------------------------------------------------------


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def test_counts_are_read_in_any_order_and_short_curves_are_left_out(tmp_path: Path) -> None:
    head = "prompt_index,visits,successes_of_4_per_visit"
    counts = write(tmp_path / "c.csv", head, "7,3,0 4 2", "3,4,1 1 1 1", "9,2,4 4")
    prior = write(tmp_path / "p.csv", "prompt_index,sha,mean_failures_of_10_of_x", "3,a,5.0", "9,b,1", "7,c,")
    records = read_counts(counts, prior)
    assert records.ids.tolist() == [3, 7]
    assert records.left_out == 1
    assert records.visits.tolist() == [4, 3]
    assert records.successes.tolist() == [1, 1, 1, 1, 0, 4, 2]
    assert records.group_size == 4
    assert records.arms.tolist()[1] == "unknown"
    assert records.prior is not None
    assert records.prior[0] == 0.5
    assert np.isnan(records.prior[1])
    assert read_counts(counts, least_visits=1).ids.tolist() == [3, 7, 9]
    assert read_counts(counts).arms.tolist() == ["default", "default"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (("prompt_index,visits", "1,2"), r"a column prompt_index and one such as successes_of_8_per_visit"),
        (("prompt_index,successes_of_8_per_visit", "1,0 9 2"), r"line 2: visits must be integers from 0 to 8"),
        (("prompt_index,successes_of_8_per_visit", "1,0 x 2"), r"line 2: visits must be integers"),
        (("prompt_index,successes_of_8_per_visit", "one,0 1 2"), r"line 2: prompt_index must be an integer"),
        (("prompt_index,successes_of_8_per_visit", "1,0 1 2", "1,0 1 2"), r"same prompt_index"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, rows: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidData, match=words):
        read_counts(write(tmp_path / "c.csv", *rows))


def test_files_without_anything_in_them_are_refused(tmp_path: Path) -> None:
    counts = write(tmp_path / "c.csv", "prompt_index,successes_of_8_per_visit", "1,0 1")
    with pytest.raises(InvalidInput, match="3 or more visits"):
        read_counts(counts)
    with pytest.raises(InvalidData, match="cannot read"):
        read_counts(tmp_path / "none.csv.gz")
    prior = write(tmp_path / "p.csv", "prompt_index,failures_of_4", "5,1")
    with pytest.raises(InvalidData, match="no prompt_index in common"):
        read_counts(counts, prior, least_visits=1)
    wrong = write(tmp_path / "q.csv", "prompt_index,failures_of_4", "1,5")
    with pytest.raises(InvalidData, match="from 0 to 4"):
        read_counts(counts, wrong, least_visits=1)


def test_smoothing_is_a_mean_over_responses_in_a_window_that_ends_with_the_curve() -> None:
    successes, trials = RNG.integers(0, 5, 20).astype(float), RNG.integers(4, 9, 20).astype(float)
    for window in (1, 5, 9, 41):
        half = window // 2
        spans = [slice(max(0, i - half), i + half + 1) for i in range(20)]
        expected = [successes[s].sum() / trials[s].sum() for s in spans]
        assert np.allclose(smoothed(successes, trials, window), expected)


def test_curves_are_stretched_over_the_steps() -> None:
    one, two = np.array([1]), np.array([2])
    counts, position = np.array([0.0, 8.0]), np.array([0.25, 0.75])
    records = Records(one, np.array(["a"]), None, two, counts, np.array([8.0, 8.0]), position, "x")
    assert records.curves(8, 1).rates[:, 0].tolist() == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert records.curves(3, 3).rates[:, 0].tolist() == [0.5, 0.5, 0.5]
    with pytest.raises(InvalidParameter, match="odd"):
        records.curves(8, 2)


# ---- what is foretold ----------------------------------------------------------------------------------------------


def test_the_excess_of_a_rule_that_knows_the_rate_is_nothing() -> None:
    records = records_of(prompts=400, visits=20)
    everything = by_discount(records, 1.0)
    latest = by_discount(records, 0.0)
    assert 0.0 < everything.mean < 0.006
    assert latest.mean == pytest.approx(0.016, abs=0.004)  # mean of p(1-p)/8: all of the observation's own noise
    assert everything.visits == 400 * 19
    frontier = by_strategy(records_of(prompts=100, visits=8), "frontier")
    assert frontier is not None
    assert frontier.mean < by_discount(records_of(prompts=100, visits=8), 0.5).mean
    assert by_strategy(records, "ucb") is None


def test_first_contact_gains_from_what_another_model_makes_of_the_prompts() -> None:
    found = first_quarter(records_of(prompts=400, visits=3, prior=True), splits=6)
    assert found is not None
    assert found.base < found.calibrated
    assert found.known >= found.base
    assert found.hindsight >= found.raw, "the quarter nearest to one half is a stretch too"
    assert found.prompts == 400
    assert first_quarter(records_of()) is None


def test_the_benchmarks_page_shows_the_stored_results() -> None:
    readme = (benchmark.HERE / "README.md").read_text(encoding="utf-8")
    stored = json.loads((benchmark.HERE / "results.json").read_text(encoding="utf-8"))
    tables = benchmark.tables(stored)
    assert filled(readme, "results", tables) == readme
    assert "\n".join(tables) in readme
    verdicts = [row[2] for row in benchmark.targets(stored)]
    worse = {**stored, "first_contact": {**stored["first_contact"], "calibrated": 0.5}}
    assert benchmark.targets(worse)[1][2] == "**not reached**"
    assert set(verdicts) <= {"reached", "**not reached**"}


# ---- the document --------------------------------------------------------------------------------------------------


def test_the_document_is_plain_json_with_everything_in_it() -> None:
    pytest.importorskip("scipy", reason="needs curri[mix]")
    told: list[str] = []
    found = replay_document(
        records_of(prior=True),
        ReplaySettings(strategies=("frontier", "uniform", "pcl"), steps=20, batch=4, seeds=2),
        tell=lambda done, total, word: told.append(word),
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {row["label"] for row in found["strategies"]} == {"frontier", "frontier + prior", "uniform"}
    assert list(found["left_out"]) == ["pcl"]
    for row in found["strategies"]:
        assert row["live"]["mean"] <= row["bound"]
        assert len(row["runs"]) == 2
        assert row["live"]["mean"] == pytest.approx(np.mean([run["live"] for run in row["runs"]]))
        assert row["course"][-1]["step"] == 20
    assert {each["name"] for each in found["foretold"]} >= {"frontier", "discount 0.85", "latest group"}
    assert found["first_contact"]["prompts"] == 40
    assert "bounds" in told


def test_without_scipy_the_bounds_under_coverage_are_missing_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    found = replay_document(records_of(), ReplaySettings(strategies=("uniform",), steps=10, batch=4, seeds=1))
    assert found["bounds"]["free"] > 0.0
    assert found["bounds"]["wanted"]["live"] is None
    assert "pip install 'curri[mix]'" in found["bounds"]["note"]
    assert found["strategies"][0]["of_bound"] is None
    assert found["strategies"][0]["live"]["se"] is None
