"""A real vLLM: 225 sums with 16 responses each, drawn in this machine's own process and by its server, both killed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import curri
from curri.store import NewPrompt
from tests.engines.vllm.conftest import FIGURES, LENGTH, NAME, Place, ended, start, store_sums, told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.engines.vllm.conftest import Served, Workshop

PROMPTS, N, BATCH = 225, 16, 256
ALL = PROMPTS * N
STEP = 0.05
"""Seconds between two looks at how far a command is."""

MODES = ("vllm", "openai")

_RATES = "select prompt_id, avg(solved) from rollouts group by prompt_id"


@dataclass(frozen=True)
class Story:
    """What became of a command that was killed once, and run again.

    Attributes:
        begun: responses that the engine was asked for, or had finished, when the first command was dead.
        kept: how many of them were in the store.
        paid: what the engine was asked for, or finished, for the second command.
        report: what the second command said.
        again: what a third one said.
        paid_again: what the engine did for that one.
    """

    begun: int
    kept: int
    paid: int
    report: dict[str, Any]
    again: dict[str, Any]
    paid_again: int


def _told_twice(command: list[str], done: Callable[[], int], settle: Callable[[], object], place: Place) -> Story:
    """Kill the command by SIGKILL when the engine has done a third, and run it twice more."""
    stored, before = place.stored(), done()
    with start(command) as process:
        while done() - before < ALL // 3:
            assert not ended(process, within=STEP), "it should have been killed"
        process.kill()
    settle()
    begun, kept = done() - before, place.stored() - stored
    before = done()
    report = told(command)
    paid, before = done() - before, done()
    again = told(command)
    return Story(begun, kept, paid, report, again, done() - before)


@pytest.fixture(scope="module")
def stories(place: Place, served: Served) -> dict[str, Story]:
    """Both engines with a seed of their own, into one store."""
    common = ["--api", "completions", "-n", str(N), "--batch", str(BATCH)]
    return {
        "vllm": _told_twice(place.in_process(*common, "--seed", "0"), place.asked, place.asked, place),
        "openai": _told_twice(place.over_http(served, *common, "--seed", "1"), served.finished, served.settle, place),
    }


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_paid_for_twice_after_a_kill(stories: dict[str, Story], mode: str) -> None:
    story = stories[mode]
    FIGURES.append(
        f"{mode}: killed after {story.begun:,} responses, {story.kept:,} kept; then {story.paid:,} more paid for"
    )
    assert 0 < story.kept < ALL
    assert story.begun - story.kept <= BATCH
    assert story.paid == story.report["generated"] == ALL - story.kept
    assert story.report["cached"] == story.kept
    assert story.report["complete"]
    assert (story.paid_again, story.again["generated"], story.again["cached"]) == (0, 0, ALL)


def _right(place: Place, seed: int) -> NDArray[np.int64]:
    """How many of its 16 responses are right, for each prompt."""
    found = place.rows(
        f"""select sum(solved) from rollouts join sources using (source_id)
            where json_extract(settings, '$.seed') = {seed} group by prompt_id order by prompt_id"""
    )
    return np.array([row[0] for row in found], dtype=np.int64)


@pytest.mark.usefixtures("stories")
def test_every_response_is_there_once_with_its_score(place: Place) -> None:
    found = place.rows(
        """select prompt_id, sample, any_value(response), any_value(solved), any_value(tokens), any_value(truncated),
                  count(*)
           from rollouts join sources using (source_id) group by prompt_id, source_id, sample"""
    )
    assert len(found) == 2 * ALL
    answers = dict(place.rows("select prompt_id, answer from prompts"))
    for prompt, _, text, solved, tokens, truncated, times in found:
        assert times == 1
        assert bool(solved) == (text.strip() == answers[prompt])
        assert tokens == 4 if truncated else 1 <= tokens <= 4


def _theory(right: NDArray[np.int64]) -> tuple[float, float]:
    """The correlation of two estimates of the pass rates from ``right`` (2, prompts), and what it should be.

    An estimate from n draws has the variance of the pass rates plus E[p(1-p)]/n; only the former is common to both.
    """
    rates = right / N
    noise = (rates * (1 - rates)).mean() / (N - 1)  # unbiased for E[p(1-p)]/n
    correlation = float(np.corrcoef(*rates)[0, 1])
    return correlation, float(1 - noise / rates.var(axis=1, ddof=1).mean())


@pytest.mark.usefixtures("stories")
def test_two_seeds_agree_as_binomial_theory_says(place: Place) -> None:
    right = np.stack([_right(place, seed) for seed in (0, 1)])
    correlation, expected = _theory(right)
    rng = np.random.default_rng(0)
    pairs = [_theory(right[:, rng.integers(0, PROMPTS, PROMPTS)]) for _ in range(1000)]
    error = float(np.std([observed - theory for observed, theory in pairs]))
    FIGURES.append(f"pass rates from two seeds correlate by {correlation:.4f}; theory: {expected:.4f} ± {error:.4f}")
    assert right.shape == (2, PROMPTS)
    assert 0.5 < expected < 0.99, "the model is to be neither hopeless nor perfect"
    assert abs(correlation - expected) < 4 * error
    assert (right[0] != right[1]).any()


@pytest.mark.usefixtures("stories")
def test_a_server_draws_what_the_process_draws(place: Place, served: Served, tmp_path: Path) -> None:
    """The same seeds give the same responses, whatever they were drawn along with."""
    other = Place(tmp_path / "other.duckdb", place.model)
    store_sums(other.store)
    told(other.over_http(served, "--api", "completions", "-n", "4", "--seed", "0", "--weight-version", "w"))
    query = """select prompt, sample, response from rollouts join prompts using (prompt_id) join sources
               using (source_id) where json_extract(settings, '$.seed') = 0 and sample < 4 order by all"""
    ours, theirs = place.rows(query), other.rows(query)
    assert len(theirs) == 4 * PROMPTS
    # Sums of floats depend on the batch a little, so a draw at the very edge may fall otherwise.
    assert np.mean([a == b for a, b in zip(ours, theirs, strict=True)]) > 0.99


@pytest.mark.usefixtures("stories")
@pytest.mark.parametrize("strategy", ["ucb", "vas", "reinforce-ada", "pcl", "frontier"])
def test_strategies_select_on_the_outcome(place: Place, strategy: str) -> None:
    ids = [row["prompt_id"] for row in place.curri("select", "-n", "32", "--strategy", strategy)["rows"]]
    variance = {number: rate * (1 - rate) for number, rate in place.rows(_RATES)}
    picked, pool = np.mean([variance[number] for number in ids]), np.mean(list(variance.values()))
    FIGURES.append(f"{strategy}: p(1-p) of what it picks {picked:.3f}, of all prompts {pool:.3f}")
    assert len(set(ids)) == 32
    assert strategy != "frontier" or picked > pool  # the others need rounds of a run, or choose at random among many


@pytest.fixture
def small(model: Path, tmp_path: Path) -> Place:
    """A store with two sums and one that is too long for the model."""
    with curri.open_store(tmp_path / "small.duckdb", create=True) as store:
        sums = ["1+1=", "2+2=", "1+" * LENGTH + "1="]
        store.prompts.add([NewPrompt(text, False, str(text.count("1")), "sums") for text in sums])
    return Place(tmp_path / "small.duckdb", model)


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("mode", MODES)
def test_a_prompt_that_is_too_long_fails_alone(
    small: Place, workshop: Workshop, served: Served, mode: str, api: str
) -> None:
    words = ["--api", api, "-n", "3", "--logprobs", "--token-ids"]
    if mode == "vllm":
        report = workshop.told(small.in_process(*words), code=4)
    else:
        report = told(small.over_http(served, *words), code=4)
    assert (report["generated"], list(report["failed"].values())) == (6, [3])
    assert "maximum" in next(iter(report["failed"]))
    assert report["tokens"] > 0
    for tokens, text in small.rows("select tokens, extras from rollouts"):
        extras = json.loads(text)
        assert len(extras["token_ids"]) == len(extras["logprobs"]) == tokens
        assert max(extras["logprobs"]) <= 0


def test_a_name_that_the_server_does_not_know(small: Place, served: Served) -> None:
    command = ["model-x" if word == NAME else word for word in small.over_http(served, "-n", "1")]
    report = told(command, code=1)
    assert "model-x" in str(report)
