"""Prompts that join the pool between two stages of a run: eva's children, or as many fresh ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.learning.tasks import Problem, drawn, longer
from curri.curricula import Eva
from curri.evolution import evolve
from curri.store import NewPrompt
from curri.types import Evolved, Prompt, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from curri.store import PromptStore

_BREADTH = 0.2
_TRIES = 100


class Rewriter:
    """Rewrites problems by rule, without a token: one in five, as in eva, in breadth, the others in depth.

    In breadth is another problem of the same kind and size; in depth the same one with a little more to it, one size
    up.

    Args:
        taken: prompts that no child may have; those of children join it.
    """

    name = "rewriter"

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken

    def create(self, parents: Sequence[Prompt], n: int, seeds: Sequence[int]) -> list[list[Evolved | Refusal]]:
        """``n`` children of each parent, see :class:`curri.types.Creator`."""
        generators = [np.random.default_rng(seed) for seed in seeds]
        return [[self._child(each, rng) for _ in range(n)] for each, rng in zip(parents, generators, strict=True)]

    def _child(self, parent: Prompt, rng: np.random.Generator) -> Evolved | Refusal:
        in_breadth = rng.random() < _BREADTH
        for _ in range(_TRIES):
            if in_breadth:
                made = drawn({parent.arm: 1}, rng, without=self._taken)[0]
            else:
                made = longer(str(parent.prompt), parent.arm, rng)
            if made.prompt not in self._taken:
                self._taken.add(made.prompt)
                return Evolved(made.prompt, made.answer, "breadth" if in_breadth else "depth", made.arm, verified=True)
        return Refusal("all that it could become is there")


@dataclass
class Growth:
    """How a pool grows.

    Attributes:
        store: its prompts.
        joining: "children", "fresh", or "" for nothing.
        arms: arm → how many join at a time, or, of children, how many of all arms in sum.
        taken: prompts that may not join; those that did are in it.
        seed: of the run.
    """

    store: PromptStore
    joining: str
    arms: dict[str, int]
    taken: set[str]
    seed: int

    def after(self, run: str, stage: int) -> int:
        """Let prompts join after a stage, whose groups a run of the store was told; gives how many."""
        if self.joining == "children":
            return self._children(run, self.seed + 1000 * stage)
        return self._fresh(stage) if self.joining == "fresh" else 0

    def _children(self, run: str, seed: int) -> int:
        """One child of each parent; eva draws them by what their groups in this run were like."""
        eva = Eva(self.store.pool(), seed=seed)
        eva.tell(self.store.rollouts.read(f"run:{run}", last_id=int(eva.pool.ids[-1])))
        eva.advance()
        n = min(sum(self.arms.values()), int(eva.metrics()["curriculum/eva/prompts_told"]))
        return evolve(self.store, Rewriter(self.taken), eva.parents(n), per_parent=1, seed=seed).stored

    def _fresh(self, stage: int) -> int:
        """New problems of the pool's own arms."""
        made = drawn(self.arms, np.random.default_rng([self.seed, 2, stage]), without=self.taken)
        self.taken.update(each.prompt for each in made)
        return self.store.prompts.add([as_new(each, generation=1) for each in made]).prompt_ids.size


def as_new(problem: Problem, generation: int = 0) -> NewPrompt:
    """A problem as the store takes it."""
    return NewPrompt(problem.prompt, is_chat=False, answer=problem.answer, arm=problem.arm, generation=generation)
