"""From what a user hands in to what a sampler works with."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from curri.errors import InvalidParameter
from curri.integrations.torch.backing import StoreBacking
from curri.integrations.torch.ranks import Authority, Replicated
from curri.integrations.torch.rows import Rows, known_as

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from curri.curricula.base import Curriculum
    from curri.integrations.torch.backing import Backing
    from curri.integrations.torch.ranks import Ranks
    from curri.scheduler import Scheduler


def connected(
    curriculum: Scheduler | Curriculum | None, ids: NDArray[Any], column: str, ranks: Ranks | None
) -> tuple[Rows, Backing]:
    """Rows of the dataset by prompt, and where picks come from.

    Args:
        curriculum: what this process was handed.
        ids: of the dataset's rows, as they stand there.
        column: where they stand.
        ranks: None for one process.
    """
    kind = _kind(curriculum)
    if ranks is None:
        if kind == "none":
            raise InvalidParameter("`curriculum` must be a `Scheduler` or a `Curriculum`; got None")
        rows = Rows(known_as(ids, column, _by_name(curriculum)), ids)
        return rows, _own(curriculum, rows)
    kinds = _agree_on(ranks, kind, ids)
    if kinds != ["arrays"] * ranks.size:
        own_ids = ranks.from_first(lambda: {"ids": known_as(ids, column, _by_name(curriculum))})["ids"]
        rows = Rows(own_ids, ids)
        found: list[Backing] = []
        ranks.from_first(lambda: found.append(_own(curriculum, rows)) or {})  # type: ignore[func-returns-value]
        return rows, Authority(ranks, found[0] if found else None)
    rows = Rows(known_as(ids, column, None), ids)
    return rows, Replicated(ranks, _own(curriculum, rows))


def _agree_on(ranks: Ranks, kind: str, ids: NDArray[Any]) -> list[str]:
    digest = hashlib.blake2b(ids.tobytes(), digest_size=16).hexdigest()
    answers = ranks.exchange({"kind": kind, "digest": digest})
    kinds = [answer["kind"] for answer in answers]
    if any(answer["digest"] != digest for answer in answers):
        raise InvalidParameter("ranks have datasets with different ids, or in another order", hint="load the same one")
    on_first = kinds[0] != "none" and all(other == "none" for other in kinds[1:])
    if not (on_first or kinds == ["arrays"] * ranks.size):
        raise InvalidParameter(
            f"`curriculum` on the ranks is {kinds}; it must be on rank 0 only (None elsewhere), or the same bare "
            "`Curriculum` on all",
            hint="a store has one writer: make the Scheduler on rank 0, and hand in None on the others",
        )
    return kinds


def _kind(curriculum: object) -> str:
    if curriculum is None:
        return "none"
    if hasattr(curriculum, "store") and hasattr(curriculum, "top_up"):
        return "store"
    if hasattr(curriculum, "advance") and hasattr(curriculum, "pool"):
        return "arrays"
    raise InvalidParameter(f"`curriculum` must be a `Scheduler` or a `Curriculum`; got {type(curriculum).__name__}")


def _by_name(curriculum: Any) -> Any:
    return curriculum.store.prompts.ids_by_external_id if _kind(curriculum) == "store" else None


def _own(curriculum: Any, rows: Rows) -> Backing:
    if _kind(curriculum) == "store":
        return StoreBacking(curriculum, rows)
    from curri.integrations.torch.arrays import ArrayBacking

    return ArrayBacking(curriculum, rows)
