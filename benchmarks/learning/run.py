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
from benchmarks.learning import policy
from benchmarks.learning.tasks import Problem, drawn
from benchmarks.learning.trainer import LearningTrainer
from curri.store import NewPrompt

if TYPE_CHECKING:
    from benchmarks.learning.settings import Entry, Pool, Size


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
    """Accuracy on held-out problems, at even distances in tokens."""

    def __init__(self, trainer: LearningTrainer, both: Problems, every: int) -> None:
        self.trainer, self.both, self.every = trainer, both, every
        self.points: list[dict[str, Any]] = []
        self.start = time.perf_counter()
        self.paused = 0.0

    def note(self) -> None:
        """Measure now; its time is not the run's."""
        before = time.perf_counter()
        trainer, both = self.trainer, self.both
        rates = policy.pass_rates(trainer.model, both.held_out)
        own = policy.pass_rates(trainer.model, both.pool)
        arms = np.array([each.arm for each in both.held_out])
        self.points.append(
            {
                "tokens": trainer.spent,
                "accuracy": float(rates.mean()),
                "arms": {arm: float(rates[arms == arm].mean()) for arm in dict.fromkeys(arms.tolist())},
                "pool_pass_rate": float(own.mean()),
                "pool_live": float((1 - own**8 - (1 - own) ** 8).mean()),
                "groups": trainer.trained,
                "live": trainer.live,
                "probe_tokens": trainer.probed,
                "rollouts": trainer.rollouts,
                "batches": trainer.batches,
                "seconds": before - self.start - self.paused,
            }
        )
        self.paused += time.perf_counter() - before

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer.spent >= self.every * len(self.points) or self.trainer.spent >= self.trainer.budget:
            self.note()


def run(entry: Entry, pool: Pool, size: Size, seed: int, warm: Path) -> dict[str, Any]:
    """Train from the warm start with the strategy's prompts until the tokens are spent; gives curve and counts."""
    both = problems(pool, seed)
    torch.set_num_threads(1)
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="curri-learning-"))
        store = stack.enter_context(curri.open_store(Path(scratch) / "prompts.duckdb", create=True))
        store.prompts.add([NewPrompt(p.prompt, is_chat=False, answer=p.answer, arm=p.arm) for p in both.pool])
        stored = store.texts.fetch(store.pool().ids)
        rows = [{"prompt_id": p.prompt_id, "prompt": p.prompt, "answer": p.answer} for p in stored]
        trainer = LearningTrainer(
            model=warm_model(pool, size, seed, warm),
            processing_class=policy.tokenizer(),
            reward_funcs=_right,
            args=_settings(entry, pool, size, seed, scratch),
            train_dataset=Dataset.from_list(rows),
            curriculum=curri.Scheduler(store, entry.strategy, run="learning", **{"seed": seed, **entry.given(pool)}),
            budget=pool.budget,
            probes=entry.probes,
            free_probes=entry.free_probes,
        )
        curve = _Curve(trainer, both, pool.budget // pool.points)
        trainer.add_callback(curve)
        torch.manual_seed(10_000 + seed)
        curve.note()
        trainer.probe()
        trainer.train()
        metrics = trainer.scheduler.metrics()
    return {"entry": entry.name, "pool": pool.name, "seed": seed, "curve": curve.points, "metrics": metrics}


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
