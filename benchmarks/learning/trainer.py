"""TRL's GRPO trainer with a curriculum, and all that strategies may want of it: probes, extra rounds, refills.

Every generated token is counted: those of probes, of responses that are not trained on, of groups thrown away.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import TrainerCallback

from benchmarks.learning import policy
from benchmarks.learning.strategies import Measuring
from benchmarks.learning.tasks import Problem
from curri.curricula import Curriculum
from curri.integrations.trl import CurriculumGRPOTrainer
from curri.types import Rollouts, Ticket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from curri.scheduler import Scheduler
    from curri.types import Floats, Ints

_MOST_PARTS = 50


@dataclasses.dataclass
class Part:
    """Responses in the order in which they were generated, prompt by prompt."""

    rollouts: Rollouts
    tokens: list[list[int]]

    @classmethod
    def joined(cls, parts: Sequence[Part]) -> Part:
        """Several in one."""
        of = [part.rollouts for part in parts]
        rollouts = Rollouts(
            np.concatenate([each.prompt_ids for each in of]),
            np.concatenate([each.rewards for each in of]),
            rollout_ids=np.concatenate([each.rollout_ids for each in of]),
        )
        return cls(rollouts, [row for part in parts for row in part.tokens])


@dataclasses.dataclass
class Counts:
    """What a run has done so far.

    Attributes:
        spent: generated tokens that count.
        probed: those of them, and of those that do not, that went into probes.
        rollouts: responses.
        trained: groups that were trained on.
        live: those of them with signal.
        batches: training batches.
    """

    spent: int = 0
    probed: int = 0
    rollouts: int = 0
    trained: int = 0
    live: int = 0
    batches: int = 0


class LearningTrainer(CurriculumGRPOTrainer):
    """Generates by itself, so that a strategy may have any number of responses, and a batch any prompts.

    Args:
        counts: of the run; those of earlier stages are in it.
        budget: generated tokens of the run after which training stops.
        probes: whether the strategy may probe.
        free_probes: True where probes are not counted.
    """

    def __init__(
        self,
        *args: Any,
        counts: Counts,
        budget: int,
        probes: bool = True,
        free_probes: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, rollout_func=_given, **kwargs)
        self.counts = counts
        self.budget = budget
        self.probes = probes
        self.free_probes = free_probes
        self._texts = {row["prompt_id"]: (row["prompt"], row["answer"]) for row in self.train_dataset}
        self._ready: list[list[int]] = []
        self._carried: Part | None = None
        self._told: Ints | None = None
        scheduler: Any = self.curriculum
        self.scheduler: Scheduler = scheduler
        if isinstance(scheduler, Measuring):
            scheduler.use(self)
        self.add_callback(_Budget(self))

    @property
    def strategy(self) -> Curriculum:
        """What picks: the scheduler's, or one that was handed in bare, as the benchmark's own are."""
        return self.scheduler if isinstance(self.scheduler, Curriculum) else self.scheduler.curriculum

    # ---- what a strategy may measure --------------------------------------------------------------------------------

    def exact(self, prompt_ids: Ints) -> Floats:
        """Pass rates of the policy as it is, shape (prompts,); they cost nothing."""
        asked = [Problem(*self._texts[prompt_id], arm="", mistaken="") for prompt_id in prompt_ids.tolist()]
        return policy.pass_rates(self.model, asked)

    def sampled(self, prompt_ids: Ints, each: int) -> Floats:
        """Shares of right ones among so many new responses of each prompt, shape (prompts,); they count as probes."""
        before = self.counts.spent
        part = self._part(prompt_ids, np.full(len(prompt_ids), each))
        self._count_probes(before)
        return part.rollouts.rewards.reshape(-1, each).mean(axis=1)

    def _count_probes(self, before: int) -> None:
        self.counts.probed += self.counts.spent - before
        if self.free_probes:
            self.counts.spent = before

    # ---- generating -------------------------------------------------------------------------------------------------

    def _part(self, prompt_ids: Ints, each: Ints) -> Part:
        """New responses of some prompts, verified and counted."""
        prompts = [self._texts[prompt_id] for prompt_id in prompt_ids.tolist()]
        tokens = policy.sample(self.model, [prompt for prompt, _ in prompts], each.tolist())
        of = np.repeat(np.arange(len(prompts)), each)
        rewards = [float(policy.is_right(row, prompts[i][1])) for i, row in zip(of.tolist(), tokens, strict=True)]
        names = self.counts.rollouts + np.arange(len(tokens))
        self.counts.rollouts += len(tokens)
        self.counts.spent += sum(map(len, tokens))
        return Part(Rollouts(prompt_ids[of], rewards, rollout_ids=names), tokens)

    def _tell(self, part: Part, *, probe: bool = False) -> None:
        """Tell the scheduler of a part of a round, which stays open (probes: closes)."""
        told = part.rollouts
        self.scheduler.tell(
            told.prompt_ids,
            told.rewards,
            solved=told.rewards,
            tokens=[len(row) for row in part.tokens],
            responses=[policy.decoded(row) for row in part.tokens] if probe else None,
            rollout_ids=told.rollout_ids,
            kind="probe" if probe else None,
            resolve="observed" if probe else None,
            policy_version=int(self.state.global_step),
        )

    def probe(self) -> None:
        """Generate and tell what the strategy wants to see apart from training."""
        curriculum = self.strategy
        if not self.probes or "probes" not in curriculum.tags:
            return
        while (due := int(getattr(curriculum, "probes_due", 0))) and self.counts.spent < self.budget:
            before = self.counts.spent
            selection = self.scheduler.ask(min(due, 64), kind="probe")
            self._tell(self._part(selection.prompt_ids, selection.n_rollouts), probe=True)
            self._count_probes(before)

    # ---- a training batch -------------------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        """A batch as the strategy wants it, handed to TRL's trainer as if it had generated it."""
        size = self.num_generations
        ids = np.array([row["prompt_id"] for row in inputs[::size]])
        curriculum = self.strategy
        if getattr(curriculum, "planner", None) is not None:
            batch = self._refilled(ids)
        elif "rounds" in curriculum.tags:
            batch = self._in_rounds(ids)
        else:
            batch = self._part(ids, np.full(len(ids), size))
        rows = {row["prompt_id"]: row for row in inputs}
        rewards = batch.rollouts.rewards.reshape(-1, size)
        self.counts.trained += len(rewards)
        self.counts.live += int(np.count_nonzero(rewards.std(axis=1)))
        self.counts.batches += 1
        self._ready = batch.tokens
        made = super()._generate_and_score_completions(
            [rows.get(prompt_id) or self._row(prompt_id) for prompt_id in batch.rollouts.prompt_ids.tolist()]
        )
        self.probe()
        return made

    def _row(self, prompt_id: int) -> dict[str, Any]:
        prompt, answer = self._texts[prompt_id]
        return {"prompt_id": prompt_id, "prompt": prompt, "answer": answer}

    def _hear(self, inputs: Any, completion_ids: Any, rewards: Any) -> None:
        """As the adapter does it, unless the parts of this round were told as they came."""
        if self._told is None:
            super()._hear(inputs, completion_ids, rewards)
        else:
            self.sampler.resolve(self._told, "trained", gathered=True)
            self._told = None

    def _in_rounds(self, ids: Ints) -> Part:
        """Rounds until the strategy has seen enough of each prompt; gives the responses it keeps."""
        ticket: Ticket | None = self.scheduler.ticket
        curriculum: Any = self.strategy
        part = self._part(ids, np.full(len(ids), curriculum.round_size))
        parts = [part]
        self._tell(part)
        while ticket is not None and len(parts) < _MOST_PARTS:
            more = self.scheduler.top_up(ticket)
            if more is None:
                break
            parts.append(self._part(more.prompt_ids, more.n_rollouts))
            self._tell(parts[-1])
            ticket = more.ticket
        whole = Part.joined(parts)
        order = np.lexsort((whole.rollouts.rollout_ids, whole.rollouts.prompt_ids))
        groups = curriculum.group_of(whole.rollouts.take(order))
        kept = np.concatenate([order[groups[prompt_id].positions] for prompt_id in ids.tolist()])
        self._told = ids
        return _taken(whole, kept)

    def _refilled(self, ids: Ints) -> Part:
        """Prompts are asked for until enough groups carry signal; groups without fill what is missing."""
        curriculum: Any = self.strategy
        planner, size, pool = curriculum.planner, self.num_generations, curriculum.pool
        plan = planner.start(len(ids), available=pool.n_active)
        parts: list[Part] = []
        asked, left = np.concatenate([ids, self._more(plan.ask - len(ids))]), pool.n_active
        while len(asked):
            parts.append(self._part(asked, np.full(len(asked), size)))
            self._tell(parts[-1])
            verdict = curriculum.admit(parts[-1].rollouts)
            left -= len(asked)
            plan = planner.add(verdict.prompt_ids, verdict.verdict == "keep", available=left)
            asked = self._more(plan.ask)
        batch = planner.finish()
        told = Part.joined(parts)
        whole = told if self._carried is None else Part.joined([self._carried, told])
        self._carried = _taken(whole, np.flatnonzero(np.isin(whole.rollouts.prompt_ids, batch.carried)))
        more = np.setdiff1d(told.rollouts.prompt_ids, ids)
        if len(more):
            self.scheduler.resolve(more, "trained")
        self._told = ids
        filled = np.concatenate([batch.ids, np.setdiff1d(ids, batch.ids)])[: len(ids)]
        of_each = [np.flatnonzero(whole.rollouts.prompt_ids == prompt_id)[-size:] for prompt_id in filled]
        return _taken(whole, np.concatenate(of_each))

    def _more(self, n: int) -> Ints:
        """Prompts beside those that the sampler handed out."""
        return self.scheduler.ask(n).prompt_ids if n > 0 else np.empty(0, dtype=np.int64)


def _taken(part: Part, positions: Ints) -> Part:
    return Part(part.rollouts.take(positions), [part.tokens[i] for i in positions.tolist()])


def _given(prompts: list[str], trainer: LearningTrainer) -> dict[str, Any]:
    """Hand TRL the responses that were generated for this batch."""
    return {"prompt_ids": [policy.encoded(p) for p in prompts], "completion_ids": trainer._ready, "logprobs": None}


class _Budget(TrainerCallback):
    """Stops when the tokens are spent."""

    def __init__(self, trainer: LearningTrainer) -> None:
        self._trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._trainer.counts.spent >= self._trainer.budget:
            control.should_training_stop = True
