"""GRPO with TRL on the CPU: a tiny model learns the first digit of sums, and curri picks the prompts.

Nothing is downloaded: the model is made from a configuration, its tokenizer has one token a character. Run it again,
and it goes on from its last checkpoint.

    pip install 'curri[trl]'
    python examples/trl_sums.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOConfig

import curri
from curri.integrations.trl import CurriculumGRPOTrainer
from curri.store import NewPrompt

OUTPUT = Path("trl_sums")
SPECIAL = ["<pad>", "<bos>", "<eos>"]
CHARACTERS = "0123456789+="


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character."""
    base = Tokenizer(models.WordLevel({token: i for i, token in enumerate([*SPECIAL, *CHARACTERS])}, SPECIAL[0]))
    base.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    base.decoder = decoders.Fuse()
    names = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=base, padding_side="left", **names)


def model() -> LlamaForCausalLM:
    """Two layers of 64."""
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=len(SPECIAL) + len(CHARACTERS), max_position_embeddings=64, **size, **ids)
    )


def first_digit(completions: list[str], answer: list[str], **_: object) -> list[float]:
    """1 where the first character is that of the answer."""
    return [float(text[:1] == right[0]) for text, right in zip(completions, answer, strict=True)]


def main() -> None:
    """Train, or go on training."""
    OUTPUT.mkdir(exist_ok=True)
    path = OUTPUT / "sums.duckdb"
    with curri.open_store(path, create=not path.exists()) as store:
        sums = [(a, b) for a in range(10) for b in range(10)]
        store.prompts.add(
            [NewPrompt(f"{a}+{b}=", is_chat=False, answer=str(a + b), arm=f"{len(str(a + b))} digits") for a, b in sums]
        )
        prompts = store.texts.fetch(store.pool().ids)
        dataset = Dataset.from_list(
            [{"prompt_id": p.prompt_id, "prompt": p.prompt, "answer": p.answer} for p in prompts]
        )
        args = GRPOConfig(
            output_dir=str(OUTPUT / "model"),
            per_device_train_batch_size=16,
            gradient_accumulation_steps=2,
            steps_per_generation=4,  # twice the accumulation: every batch is picked after the one before it was told
            num_generations=8,
            max_completion_length=2,
            max_steps=60,
            learning_rate=3e-3,
            save_steps=20,
            logging_steps=10,
            use_cpu=True,
            bf16=False,
            report_to=[],
            remove_unused_columns=False,
        )
        trainer = CurriculumGRPOTrainer(
            model=model(),
            processing_class=tokenizer(),
            reward_funcs=first_digit,
            args=args,
            train_dataset=dataset,
            curriculum=curri.Scheduler(store, "frontier", run="grpo", group_size=args.num_generations),
        )
        trainer.train(resume_from_checkpoint=get_last_checkpoint(args.output_dir))
        metrics = trainer.sampler.metrics()
        live, told = metrics["scheduler/groups_with_signal"], metrics["scheduler/groups_told"]
        print(f"groups with signal: {live:.0f} of {told:.0f}")
    print(f"what it found out: curri estimate --store {path}")


if __name__ == "__main__":
    main()
