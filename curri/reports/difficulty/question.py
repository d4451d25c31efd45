"""What a difficulty report is about: which prompts, whose rollouts, groups of which size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curri.errors import InvalidInput, InvalidParameter
from curri.store import RUN_MODEL

if TYPE_CHECKING:
    from curri.store import PromptStore
    from curri.types import Ints

__all__ = ["Question", "default_group_size", "whose"]

DEFAULT_GROUP = 8
LARGEST_GROUP = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked.

    Attributes:
        model: whose rollouts; "run:NAME" for those of a run; None where the store has none.
        run: the only run to look at, or None for all of the store's.
        group_size: responses of a group, at least 2.
        group_source: where that number comes from, in words.
        prompt_ids: these prompts only, or None for all.
        where: the filter they come from, as it was given, or "".
    """

    model: str | None
    run: str | None = None
    group_size: int = DEFAULT_GROUP
    group_source: str = "the default"
    prompt_ids: Ints | None = None
    where: str = ""

    def __post_init__(self) -> None:
        if not 2 <= self.group_size <= LARGEST_GROUP:
            raise InvalidParameter(f"a group has 2 to {LARGEST_GROUP} responses; got {self.group_size}")


def whose(store: PromptStore, model: str | None = None, run: str | None = None) -> str | None:
    """The model whose rollouts a report is about.

    It is the one named, or the run's own rollouts ("run:NAME"), or the store's only model. Where there is no model but
    one run, it is that run.

    Raises:
        UnknownName: there is no such model or run.
        InvalidInput: both were named; or none was, and the store has several.
    """
    if run is not None:
        if model is not None:
            raise InvalidInput(
                "--model and --run name two sources of rollouts; a report is about one of them",
                hint="leave one out; a report on a model tells the waste of all runs as well",
            )
        store.runs.get(run)
        return RUN_MODEL + run if RUN_MODEL + run in store.rollouts.all_models() else None
    if model is not None or store.rollouts.models():
        return store.rollouts.evidence_model(model)
    own = [name for name in store.rollouts.all_models() if name.startswith(RUN_MODEL)]
    if len(own) > 1:
        names = [name.removeprefix(RUN_MODEL) for name in own]
        raise InvalidInput(
            f"the store has rollouts of {len(own)} runs: {', '.join(names)}",
            hint="say which one to report on: --run NAME",
        )
    return own[0] if own else None


def default_group_size(store: PromptStore, model: str | None, run: str | None = None) -> tuple[int, str]:
    """The group size of the run that the report is about, else of the newest run, else 8; and where it is from."""
    names = store.runs.names()
    own = run or (model.removeprefix(RUN_MODEL) if model is not None and model.startswith(RUN_MODEL) else None)
    for name in [own] if own in names else names[::-1]:
        size = store.runs.get(name).parameters.get("group_size")
        if isinstance(size, int) and 2 <= size <= LARGEST_GROUP:
            return size, f'as in run "{name}"'
    return DEFAULT_GROUP, "the default"
