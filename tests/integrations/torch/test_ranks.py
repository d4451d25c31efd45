"""Two gloo processes under torchrun pick the same prompts, and no group is made of two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import curri
from curri.store import NewPrompt
from curri.testing import AdapterCase, adapter_checks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curri.testing import Setting

pytest.importorskip("torch")

PROMPTS, GROUP, ROUNDS = 6, 4, 8


@pytest.fixture(scope="module")
def ranks(
    tmp_path_factory: pytest.TempPathFactory, torchrun: Callable[[str, Path], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    prompts = [
        NewPrompt(f"{i}?", is_chat=False, answer="", arm=f"arm{i % 3}", external_id=f"q{i + 1}") for i in range(60)
    ]
    with curri.open_store(folder / "p.duckdb", create=True) as store:
        store.prompts.add(prompts)
    return torchrun("ranks_job.py", folder)


def test_rank_zero_decides_and_every_rank_gets_whole_groups(ranks: list[dict[str, Any]]) -> None:
    rounds = [rank["authority"]["rounds"] for rank in ranks]
    assert [len(each) for each in rounds] == [ROUNDS, ROUNDS]
    for one, other in zip(*rounds, strict=True):
        groups = np.array([one, other]).reshape(-1, GROUP)
        assert (groups == groups[:, :1]).all()
        assert len(set(groups[:, 0].tolist())) == PROMPTS
    assert ranks[0]["authority"]["state"] == ranks[1]["authority"]["state"]
    assert ranks[0]["authority"]["length"] == 60 // PROMPTS


def test_an_error_of_one_rank_is_raised_on_all(ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["authority"]["refusals"] == ["UnknownPrompt", "InvalidRollouts"]
    assert ranks[1]["authority"]["refusals"] == ["UnknownPrompt", "InvalidRollouts"]


def test_copies_that_hear_everything_pick_the_same(ranks: list[dict[str, Any]]) -> None:
    """Also after they were saved and restored in between."""
    one, other = (rank["replicated"] for rank in ranks)
    assert one["rounds"] == other["rounds"]
    assert one["next"] == other["next"]
    for number, ids in enumerate(one["rounds"]):
        groups = np.array(one["mine"][number] + other["mine"][number]).reshape(-1, GROUP)
        assert (groups == groups[:, :1]).all(), "a group mixes two prompts"
        assert groups.ravel().tolist() == ids


def test_the_suites_check_of_ranks(ranks: list[dict[str, Any]]) -> None:
    """Nine rounds of rank 0's bare curriculum: told in halves, told as a whole, resolved, saved and restored."""

    def start(folder: Path, setting: Setting) -> Any:
        raise NotImplementedError

    case = AdapterCase("ranks", start, on_ranks=lambda *_: [rank["conformance"]["rounds"] for rank in ranks])
    next(check for check in adapter_checks(case) if check.name == "ranks_agree")()


def test_copies_that_hear_only_their_own_differ(ranks: list[dict[str, Any]]) -> None:
    """Which is why the others are fed alike: the two tests above can fail."""
    one, other = (rank["alone"] for rank in ranks)
    assert one["rounds"] != other["rounds"]


def test_a_sampler_made_before_the_ranks_is_refused(ranks: list[dict[str, Any]]) -> None:
    assert "before `torch.distributed` was set up" in ranks[0]["early"]["error"]


def test_whose_rows_a_rank_takes_has_to_be_said(ranks: list[dict[str, Any]]) -> None:
    assert "`shard` has to be said" in ranks[1]["unsaid"]["error"]
