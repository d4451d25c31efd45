"""Prompts into the store, in chunks of one transaction each, with an account of what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from curri.store import Added, NewPrompt, PromptStore
    from curri.types import Bools, Ints

CHUNK = 10_000
"""Prompts of one transaction."""

CHUNK_BYTES = 64 << 20
"""A chunk ends here even if it has fewer prompts, so that memory stays bounded."""

_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class OtherArm:
    """A prompt that is there already, under another arm than a row gives it.

    Attributes:
        line: its number.
        prompt_id: of the prompt.
        arm: which the row gives.
        stays: its arm in the store.
    """

    line: int
    prompt_id: int
    arm: str
    stays: str


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What became of the rows of a source; ``added + present + repeated + rejected == rows``.

    Attributes:
        source: file name or ``gym:`` specification.
        rows: rows read, blank lines left out.
        added: new prompts.
        present: prompts that were in the store before.
        repeated: rows whose prompt stands in an earlier row of the same source.
        other_arm: rows whose prompt has another arm in the store; that one stays.
        other_arm_examples: the first of them.
        held_out: rows in a split that ``select`` leaves alone.
        other_split: rows whose prompt is in another split of the store; that one stays.
        rejected: rows that were refused.
        rejected_path: the file they are in, or None.
        rejected_examples: the first of them, as (line, reason).
        arms: rows of each arm.
        notes: what the user should know besides.
        unit: what the number of a row counts, "line" or "row".
    """

    source: str
    rows: int
    added: int
    present: int
    repeated: int
    other_arm: int
    other_arm_examples: tuple[OtherArm, ...] = ()
    held_out: int = 0
    other_split: int = 0
    rejected: int = 0
    rejected_path: Path | None = None
    rejected_examples: tuple[tuple[int, str], ...] = ()
    arms: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unit: str = "line"


class PromptLoader:
    """Adds prompts and counts what became of them.

    Args:
        store: where they go.
    """

    def __init__(self, store: PromptStore) -> None:
        self._store = store
        self._seen = np.zeros(0, dtype=np.bool_)
        self.counts = {"added": 0, "present": 0, "repeated": 0, "other_arm": 0, "held_out": 0, "other_split": 0}
        self.arms: dict[str, int] = {}
        self.examples: list[OtherArm] = []

    def add(self, lines: Sequence[int], prompts: Sequence[NewPrompt]) -> None:
        """Add prompts in one transaction.

        Args:
            lines: where each comes from, for messages.
            prompts: as many.
        """
        if not prompts:
            return
        added = self._store.prompts.add(prompts)
        known = self._first_here(added.prompt_ids)
        self.counts["added"] += int(added.is_new.sum())
        self.counts["present"] += int((~added.is_new & known).sum())
        self.counts["repeated"] += int((~added.is_new & ~known).sum())
        self.counts["other_arm"] += int(added.other_arm.size)
        elsewhere = set(added.other_split.tolist())
        self.counts["other_split"] += len(elsewhere)
        self.counts["held_out"] += sum(
            place not in elsewhere and prompt.split not in (None, "train") for place, prompt in enumerate(prompts)
        )
        for prompt in prompts:
            self.arms[prompt.arm] = self.arms.get(prompt.arm, 0) + 1
        self._note_other_arms(lines, prompts, added)

    def _first_here(self, ids: Ints) -> Bools:
        """Which positions are the first of this source to name their prompt, shape of ``ids``."""
        if int(ids.max()) >= self._seen.size:
            seen = np.zeros(max(int(ids.max()) + 1, 2 * self._seen.size), dtype=np.bool_)
            seen[: self._seen.size] = self._seen
            self._seen = seen
        first = np.zeros(ids.size, dtype=np.bool_)
        first[np.unique(ids, return_index=True)[1]] = True
        first &= ~self._seen[ids]
        self._seen[ids] = True
        return first

    def _note_other_arms(self, lines: Sequence[int], prompts: Sequence[NewPrompt], added: Added) -> None:
        for place in added.other_arm.tolist()[: _EXAMPLES - len(self.examples)]:
            prompt_id = int(added.prompt_ids[place])
            stays = self._store.connection.value(
                "select name from prompts join arms using (arm_id) where prompt_id = ?", [prompt_id]
            )
            self.examples.append(OtherArm(lines[place], prompt_id, prompts[place].arm, str(stays)))
