"""Picking without a run, and what a strategy learns from a store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.parameters import refuse_unknown
from curri.registry import strategy as strategy_class
from curri.types import prompt_id_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from curri.curricula.base import Curriculum
    from curri.pool import PromptPool
    from curri.store import PromptStore
    from curri.types import Ints, Kind, Selection


def pick(
    store: PromptStore,
    strategy: str,
    n: int,
    *,
    model: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    kind: Kind = "train",
    among: ArrayLike | None = None,
) -> Selection:
    """Pick prompts without a run: the strategy learns from the stored rollouts of one model; nothing is stored.

    Args:
        store: an open store.
        strategy: registered name.
        n: how many prompts.
        model: whose rollouts are the evidence; by default the store's only one.
        parameters: of the strategy.
        kind: "probe" for prompts that are scored and not trained on.
        among: ids that may be picked; all if None. The strategy learns from the others too.

    Raises:
        UnknownName: no such strategy or model.
        InvalidParameter: no such parameter, or a wrong value.
        InvalidInput: the store has rollouts of several models and none was named.
        PoolExhausted: the store has fewer prompts.
    """
    curriculum, _ = informed(store, strategy, model, parameters or {})
    allowed = None if among is None else prompt_id_array(among, "`among` of `pick`")
    return replace(curriculum.ask(n, kind=kind, exclude=excluded(curriculum.pool, allowed)), fetch=store.texts.fetch)


def excluded(pool: PromptPool, allowed: Ints | None, *others: Ints | None) -> Ints:
    """Prompts that may not be picked: those outside of ``allowed``, and ``others``."""
    outside = None if allowed is None else np.setdiff1d(pool.ids, allowed, assume_unique=False)
    parts = [part for part in (outside, *others) if part is not None]
    if len(parts) < 2:
        return parts[0] if parts else np.empty(0, dtype=np.int64)
    return np.unique(np.concatenate(parts))


def informed(
    store: PromptStore, strategy: str, model: str | None, parameters: Mapping[str, Any]
) -> tuple[Curriculum, str | None]:
    """A new strategy that has learned from the stored rollouts of a model, and that model; see :func:`pick`."""
    return taught(store, strategy_class(strategy), model, parameters)


def taught(
    store: PromptStore, owner: type[Curriculum], model: str | None, parameters: Mapping[str, Any]
) -> tuple[Curriculum, str | None]:
    """The same of a class."""
    refuse_unknown(parameters, owner)
    curriculum: Curriculum = owner(store.pool(), **parameters)
    evidence_model = store.rollouts.evidence_model(model)
    if evidence_model is not None and len(curriculum.pool):
        last_id, texts = int(curriculum.pool.ids[-1]), "responses" in owner.tags
        for kind in ("train", "probe"):
            curriculum.tell(store.rollouts.read(evidence_model, last_id=last_id, kind=kind, responses=texts))
        curriculum.advance()
    return curriculum, evidence_model
