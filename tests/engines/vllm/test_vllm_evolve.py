"""Prompts that a real model writes, through ``curri evolve``: in this machine's own process and by its server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.engines.vllm.conftest import FIGURES, Place, store_sums, told

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engines.vllm.conftest import Served, Workshop

PARENTS, EACH, VOTES = 24, 3, 5
WANTED = PARENTS * EACH
WORDS = [
    *("--strategy", "uniform", "--parents", str(PARENTS), "-n", str(EACH), "--verifier", "exact"),
    *("--votes", str(VOTES), "--temperature", "1.1", "--max-tokens", "40"),
]
MODES = ("vllm", "openai")


@dataclass(frozen=True)
class Evolved:
    """What became of a command, and of the same again.

    Attributes:
        place: its store.
        report: what it said.
        asked: what the engine was asked for, or had finished.
        again: what the second said.
        asked_again: what the engine did for that one.
    """

    place: Place
    report: dict[str, Any]
    asked: int
    again: dict[str, Any]
    asked_again: int


@pytest.fixture(scope="module")
def evolved(
    model: Path, workshop: Workshop, served: Served, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Evolved]:
    """A store for each engine."""
    found = {}
    for mode in MODES:
        place = Place(tmp_path_factory.mktemp(mode) / "sums.duckdb", model)
        store_sums(place.store, below=8)
        command = place.evolve_in_process(*WORDS) if mode == "vllm" else place.evolve_over_http(served, *WORDS)
        done, run = (place.asked, workshop.told) if mode == "vllm" else (served.finished, told)
        before = done()
        report = run(command)
        asked, before = done() - before, done()
        again = run(command)
        found[mode] = Evolved(place, report, asked, again, done() - before)
    return found


@pytest.mark.parametrize("mode", MODES)
def test_a_real_model_writes_prompts_that_are_checked_and_counted(evolved: dict[str, Evolved], mode: str) -> None:
    it = evolved[mode]
    report, rejected = it.report, it.report["rejected"]
    children = it.place.rows("select prompt, answer from prompts where generation > 0")
    sums = [re.fullmatch(r"(\d+)\+(\d+)=", text) for text, _ in children]
    right = sum(
        found is not None and int(found[1]) + int(found[2]) == int(answer)
        for found, (_, answer) in zip(sums, children, strict=True)
    )
    FIGURES.append(
        f"evolve, {mode}: {report['stored']} of {WANTED} children stored, {right} with the right answer; "
        f"{it.asked} replies; left out: {rejected}"
    )
    assert report["stored"] == len(children) > 0
    assert report["stored"] + sum(rejected.values()) == report["wanted"] == WANTED
    assert {"duplicate", "disputed"} <= rejected.keys()
    assert right > 0.6 * len(children)
    # A reply for each child, and votes for those whose reply could be read.
    read = WANTED - sum(rejected.get(reason, 0) for reason in ("unparsable", "cut_off", "no_reply", "unverifiable"))
    assert it.asked == WANTED + VOTES * read


@pytest.mark.parametrize("mode", MODES)
def test_what_is_stored_is_not_asked_for_again(evolved: dict[str, Evolved], mode: str) -> None:
    it = evolved[mode]
    assert it.again["rejected"]["present"] == it.report["stored"]
    assert it.asked_again < it.asked


@pytest.mark.parametrize("mode", MODES)
def test_a_child_is_stored_with_its_ancestry(evolved: dict[str, Evolved], mode: str) -> None:
    it = evolved[mode]
    child, generation = it.place.rows(
        "select prompt_id, generation from prompts order by generation desc, prompt_id limit 1"
    )[0]
    assert generation > 1, "with --chain, some child is made out of a child"
    line = it.place.curri("explain", str(child))["ancestry"]
    assert [entry["generation"] for entry in line] == list(range(generation + 1))
    assert line[-1]["prompt_id"] == child
    parents = dict(it.place.rows("select prompt_id, parent_id from prompts"))
    assert [parents[entry["prompt_id"]] for entry in line[1:]] == [entry["prompt_id"] for entry in line[:-1]]
    assert parents[line[0]["prompt_id"]] is None
    for entry in line[1:]:
        assert entry["creator"].startswith(f"{mode}:")
        assert entry["operation"]
        assert entry["checked"]["agreed"] >= 0.6 * VOTES
