"""A tiny model made from a configuration, a character tokenizer, and sums to add: nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, RLOOConfig

from curri.integrations.trl import CurriculumGRPOTrainer, CurriculumRLOOTrainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curri.curricula import Curriculum
    from curri.scheduler import Scheduler
    from curri.store import PromptStore

CHARACTERS = "0123456789+= "
KINDS = {"grpo": (CurriculumGRPOTrainer, GRPOConfig), "rloo": (CurriculumRLOOTrainer, RLOOConfig)}


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character."""
    special = ["<pad>", "<bos>", "<eos>"]
    vocabulary = {token: i for i, token in enumerate([*special, *CHARACTERS])}
    base = Tokenizer(models.WordLevel(vocabulary, special[0]))
    base.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    base.decoder = decoders.Fuse()
    names = dict(zip(("pad_token", "bos_token", "eos_token"), special, strict=True))
    made: Any = PreTrainedTokenizerFast
    return made(tokenizer_object=base, padding_side="left", **names)


def model(seed: int = 0, width: int = 64) -> LlamaForCausalLM:
    """Two layers; about 80,000 parameters at a width of 64, and 330,000 at 128."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=3 + len(CHARACTERS),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def sums(n: int) -> list[dict[str, Any]]:
    """Additions of one digit each, in two arms."""
    pairs = [(a, b) for a in range(10) for b in range(10)][:n]
    return [{"prompt": f"{a}+{b}=", "answer": str(a + b), "arm": "carry" if a + b > 9 else "plain"} for a, b in pairs]


def dataset_of(store: PromptStore) -> Dataset:
    """The store's prompts as TRL reads them."""
    prompts = store.texts.fetch(store.pool().ids)
    return Dataset.from_list([{"prompt_id": p.prompt_id, "prompt": p.prompt, "answer": p.answer} for p in prompts])


def first_digit(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """The model's own reward: 1 where the first character is right."""
    return [float(bool(text) and text[0] == right[0]) for text, right in zip(completions, answer, strict=True)]


def pure(prompt_id: list[int], **_: Any) -> list[float]:
    """A reward that depends on the prompt alone and differs within a group, whatever the model says."""
    seen: dict[int, int] = {}
    rewards = []
    for prompt in prompt_id:
        number = seen[prompt] = seen.get(prompt, -1) + 1
        rewards.append(float((prompt * 7 + number * (1 + prompt % 3)) % 5 < 1 + prompt % 4))
    return rewards


def trainer(
    dataset: Dataset,
    curriculum: Scheduler | Curriculum | None,
    output: Path,
    *,
    kind: str = "grpo",
    reward: Callable[..., list[float]] = pure,
    curri_settings: dict[str, Any] | None = None,
    width: int = 64,
    **settings: Any,
) -> Any:
    """A trainer of four prompts with four responses each in a generation batch, on the CPU."""
    made, config = KINDS[kind]
    plain: dict[str, Any] = {
        "output_dir": str(output),
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "num_generations": 4,
        "max_completion_length": 3,
        "max_steps": 6,
        "learning_rate": 1e-4,
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 100,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "gradient_checkpointing": False,
    }
    return made(
        model=model(width=width),
        processing_class=tokenizer(),
        reward_funcs=reward,
        args=config(**(plain | settings)),
        train_dataset=dataset,
        curriculum=curriculum,
        **(curri_settings or {}),
    )
