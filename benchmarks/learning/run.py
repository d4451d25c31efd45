"""One run: a strategy on a pool with a seed, from the warm start to the end of its tokens."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from transformers import LlamaForCausalLM, TrainerCallback
from trl import GRPOConfig

import curri
from benchmarks.learning import growth, policy
from benchmarks.learning.strategies import OWN
from benchmarks.learning.tasks import Problem, drawn
from benchmarks.learning.trainer import Counts, LearningTrainer

if TYPE_CHECKING:
    from benchmarks.learning.settings import Entry, Pool, Size
    from curri.curricula import Curriculum
    from curri.store import PromptStore


class Problems(NamedTuple):
    """Problems of a seed: what is trained on, and what accuracy is measured on."""

    pool: list[Problem]
    held_out: list[Problem]


def problems(pool: Pool, seed: int) -> Problems:
    """Drawn anew for every seed; no problem is in both lists."""
    rng = np.random.default_rng([seed, 0])
    held_out = drawn(dict.fromkeys(pool.arms, pool.held_out), rng)
    return Problems(drawn(pool.arms, rng, without=[each.prompt for each in held_out]), held_out)


def warm_model(pool: Pool, size: Size, seed: int, folder: Path) -> LlamaForCausalLM:
    """The policy all runs of a seed start from; made once, then read."""
    path = folder / f"{pool.name}-{size.name}-{seed}"
    if not (path / "config.json").is_file():
        model = policy.new_model(size.width, size.layers, seed)
        policy.warm_start(
            model,
            pool.warm_arms,
            pool.warm_steps,
            learning_rate=size.warm_rate,
            batch=128,
            seed=seed,
            without={each.prompt for each in problems(pool, seed).held_out},
        )
        with tempfile.TemporaryDirectory(dir=folder) as half:
            model.save_pretrained(half)
            Path(half).rename(path)
            Path(half).mkdir()  # for the end of the block
    return LlamaForCausalLM.from_pretrained(path, attn_implementation="eager", dtype=torch.float32)


class _Curve(TrainerCallback):
    """Accuracy on held-out problems, at even distances in tokens; ``trainer`` is that of the stage."""

    trainer: LearningTrainer

    def __init__(self, both: Problems, pool: Pool) -> None:
        self.both, self.budget, self.every = both, pool.budget, pool.budget // pool.points
        self.points: list[dict[str, Any]] = []
        self.start = time.perf_counter()
        self.paused = 0.0

    def note(self) -> None:
        """Measure now; its time is not the run's."""
        before = time.perf_counter()
        counts, both = self.trainer.counts, self.both
        rates = policy.pass_rates(self.trainer.model, both.held_out)
        own = policy.pass_rates(self.trainer.model, both.pool)
        arms = np.array([each.arm for each in both.held_out])
        self.points.append(
            {
                "tokens": counts.spent,
                "accuracy": float(rates.mean()),
                "arms": {arm: float(rates[arms == arm].mean()) for arm in dict.fromkeys(arms.tolist())},
                "pool_pass_rate": float(own.mean()),
                "pool_live": float((1 - own**8 - (1 - own) ** 8).mean()),
                "groups": counts.trained,
                "live": counts.live,
                "probe_tokens": counts.probed,
                "rollouts": counts.rollouts,
                "batches": counts.batches,
                "seconds": before - self.start - self.paused,
            }
        )
        self.paused += time.perf_counter() - before

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        spent = self.trainer.counts.spent
        if spent >= self.every * len(self.points) or spent >= self.budget:
            self.note()


def run(entry: Entry, pool: Pool, size: Size, seed: int, warm: Path) -> dict[str, Any]:
    """Train from the warm start with the strategy's prompts until the tokens are spent; gives curve and counts."""
    both = problems(pool, seed)
    torch.set_num_threads(1)
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="curri-learning-"))
        store = stack.enter_context(curri.open_store(Path(scratch) / "prompts.duckdb", create=True))
        store.prompts.add([growth.as_new(each) for each in both.pool])
        taken = {each.prompt for each in (*both.pool, *both.held_out)}
        grow = growth.Growth(store, entry.joining, entry.new_of_arms(pool), taken, seed)
        model, counts, curve, joined = warm_model(pool, size, seed, warm), Counts(), _Curve(both, pool), []
        for stage in range(entry.stages):
            if stage:
                joined.append(grow.after(f"stage {stage - 1}", stage))
            trainer = curve.trainer = LearningTrainer(
                model=model,
                processing_class=policy.tokenizer(),
                reward_funcs=_right,
                args=_settings(entry, pool, size, seed, scratch),
                train_dataset=_rows(store),
                curriculum=_curriculum(store, entry, pool, seed, f"stage {stage}"),
                counts=counts,
                budget=pool.budget * (stage + 1) // entry.stages,
                probes=entry.probes,
                free_probes=entry.free_probes,
            )
            trainer.add_callback(curve)
            torch.manual_seed(10_000 + seed + 1000 * stage)
            if not stage:
                curve.note()
            trainer.probe()
            trainer.train()
            model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    done = {"curve": curve.points, "metrics": trainer.sampler.metrics(), "joined": joined}
    return {"entry": entry.name, "pool": pool.name, "seed": seed, **done}


def _rows(store: PromptStore) -> Dataset:
    """The prompts of the store as TRL takes them."""
    stored = store.texts.fetch(store.pool().ids)
    return Dataset.from_list([{"prompt_id": p.prompt_id, "prompt": p.prompt, "answer": p.answer} for p in stored])


def _curriculum(store: PromptStore, entry: Entry, pool: Pool, seed: int, name: str) -> curri.Scheduler | Curriculum:
    """A strategy of curri works on the store, in a run of that name; the benchmark's own are handed in bare."""
    given = {"seed": seed, **entry.given(pool)}
    if entry.strategy in OWN:
        return OWN[entry.strategy](store.pool(), **given)
    return curri.Scheduler(store, entry.strategy, run=name, **given)


def _right(completion_ids: list[list[int]], answer: list[str], **_: Any) -> list[float]:
    """The reward: 1 for a right response."""
    return [float(policy.is_right(said, right)) for said, right in zip(completion_ids, answer, strict=True)]


def _settings(entry: Entry, pool: Pool, size: Size, seed: int, output: str) -> GRPOConfig:
    """Two steps of half a batch each, so that every batch is picked after all before it were told."""
    return GRPOConfig(
        output_dir=output,
        per_device_train_batch_size=pool.batch * pool.group // 2,
        gradient_accumulation_steps=1,
        steps_per_generation=2,
        num_generations=entry.group or pool.group,
        max_completion_length=policy.LONGEST,
        max_steps=10**6,
        learning_rate=size.learning_rate,
        lr_scheduler_type="constant",
        beta=0.0,
        temperature=1.0,
        seed=seed,
        use_cpu=not size.gpu,
        bf16=True,
        report_to=[],
        save_strategy="no",
        logging_steps=10**6,
        disable_tqdm=True,
        remove_unused_columns=False,
        gradient_checkpointing=False,
    )


def written(path: Path, result: dict[str, Any]) -> None:
    """Write a run's result; a file that is there is whole."""
    half = path.with_suffix(".part")
    half.write_text(json.dumps(result), encoding="utf-8")
    half.replace(path)
