"""A Llama of 0.3 million parameters, taught to add and to make one sum out of another; nothing is downloaded.

Its teacher of sums errs, the more often the larger a sum is. So how often it is right is known before it is taught,
from always to never, and depends little on how long it is taught.

It has a token for each digit and sign, for the headings that `curri evolve` asks for, and one for any run of other
text: it reads no instruction, but it knows where the old sum stands in a request, and answers in the form asked for.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from curri.rollouts.rewriting import IN_DEPTH, request_text, solve_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    _Lesson = Callable[[int, int, np.random.Generator], tuple[str, str]]

SUMS = [(a, b) for a in range(15) for b in range(15)]
LARGEST = 14
STEPS, RATE = 600, 2e-3
BATCHES = {"add": 48, "solve": 32, "rewrite": 16}

WIDTH, LAYERS, LENGTH = 128, 2, 128
SIZES = {
    "0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
             "num_key_value_heads": 2, "vocab_size": 151_936, "max_position_embeddings": 4096},
    "5m": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4,
           "num_key_value_heads": 2, "vocab_size": 8_192, "max_position_embeddings": 512},
}  # fmt: skip
"""Models with random weights, which do where only speed is measured; the first is of the shape of Qwen2.5-0.5B."""

_PAD, _BOS, _EOS = range(3)
_SPECIAL = ["<pad>", "<bos>", "<eos>"]
_WORDS = [*"0123456789+=", "\n", "### PROBLEM", "### NEW PROBLEM", "### ANSWER", "<answer>", "</answer>"]
_TOKENS = Regex(r"### (?:NEW )?PROBLEM|### ANSWER|</?answer>|[0-9+=\n<#]|[^0-9+=\n<#]+")
_CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def lesson_rate(a: int, b: int) -> float:
    """How often the teacher gives the right answer to a sum: always below 7, never above 21."""
    return min(max((22 - a - b) / 16, 0.0), 1.0)


def save(folder: Path, *, seed: int = 0) -> None:
    """Teach a model and write it, with its tokenizer, as transformers does."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(_SPECIAL) + len(_WORDS),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            pad_token_id=_PAD,
            bos_token_id=_BOS,
            eos_token_id=_EOS,
        )
    )
    tokenizer = _tokenizer()
    _teach(model, tokenizer, np.random.default_rng(seed))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_random(folder: Path, size: str) -> None:
    """Write a model of a size with random weights, and a tokenizer with as many tokens."""
    torch.manual_seed(0)
    shape: Any = {**SIZES[size], "pad_token_id": _PAD, "bos_token_id": _BOS, "eos_token_id": _EOS}
    LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=True)).save_pretrained(folder)
    _tokenizer(shape["vocab_size"]).save_pretrained(folder)


def save_adapter(folder: Path, *, rank: int = 8) -> None:
    """Write a LoRA adapter for the model, as peft does: random, so that the model says other things with it."""
    from safetensors.torch import save_file

    folder.mkdir()
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["q_proj", "v_proj"]}))
    torch.manual_seed(1)
    weights = {}
    for layer in range(LAYERS):
        for part in ("q_proj", "v_proj"):
            name = f"base_model.model.model.layers.{layer}.self_attn.{part}"
            weights[f"{name}.lora_A.weight"] = torch.randn(rank, WIDTH) / WIDTH**0.5
            weights[f"{name}.lora_B.weight"] = torch.randn(WIDTH, rank) / rank**0.5
    save_file(weights, folder / "adapter_model.safetensors")


def _teach(model: Any, tokenizer: Any, rng: np.random.Generator) -> None:
    encode = functools.cache(tokenizer.encode)
    lessons: dict[str, _Lesson] = {"add": _add, "solve": _solve, "rewrite": _rewrite}
    weights = np.array([1.0 / (1 + a + b) for a, b in SUMS])  # small sums are seen more often, and learned first
    weights /= weights.sum()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        for kind, size in BATCHES.items():
            sums: list[tuple[int, int]] = [SUMS[row] for row in rng.choice(len(SUMS), size, p=weights).tolist()]
            pairs = [lessons[kind](a, b, rng) for a, b in sums]
            _loss(model, encode, pairs).backward()
        optimizer.step()
        optimizer.zero_grad()


def _loss(model: Any, encode: Callable[[str], list[int]], pairs: list[tuple[str, str]]) -> Any:
    """Of the replies, given what was asked."""
    asked = [encode(text) for text, _ in pairs]
    replies = [[*encode(text), _EOS] for _, text in pairs]
    rest = [[_PAD] * (LENGTH - len(a) - len(r)) for a, r in zip(asked, replies, strict=True)]
    longest = LENGTH - min(map(len, rest))
    tokens = torch.tensor([[*a, *r, *p] for a, r, p in zip(asked, replies, rest, strict=True)])[:, :longest]
    unread = torch.tensor([[-100] * len(a) + [0] * (LENGTH - len(a)) for a in asked])[:, :longest]
    labels = torch.where((unread < 0) | (tokens == _PAD), -100, tokens)
    return model(input_ids=tokens, labels=labels).loss


def _add(a: int, b: int, rng: np.random.Generator) -> tuple[str, str]:
    error = 0 if rng.random() < lesson_rate(a, b) else int(rng.integers(1, 4))
    return f"{a}+{b}=", str(a + b + error)


def _solve(a: int, b: int, _: np.random.Generator) -> tuple[str, str]:
    return solve_text(f"{a}+{b}="), f"<answer>{a + b}</answer>"


def _rewrite(a: int, b: int, rng: np.random.Generator) -> tuple[str, str]:
    """A sum with one number changed; which instruction is given makes no difference to the model."""
    more, first = int(rng.integers(1, 4)), bool(rng.integers(2))
    c, d = (min(a + more, LARGEST), b) if first else (a, min(b + more, LARGEST))
    asked = request_text(f"{a}+{b}=", str(a + b), next(iter(IN_DEPTH.values())))
    return asked, f"### NEW PROBLEM\n{c}+{d}=\n### ANSWER\n{c + d}"


def _tokenizer(size: int = 0) -> PreTrainedTokenizerFast:
    vocabulary = {token: i for i, token in enumerate([*_SPECIAL, *_WORDS])}
    vocabulary |= {f"word{i} ": i for i in range(len(vocabulary), size)}
    base = Tokenizer(models.WordLevel(vocabulary, _SPECIAL[_PAD]))
    base.pre_tokenizer = pre_tokenizers.Split(_TOKENS, behavior="isolated")
    base.decoder = decoders.Fuse()
    names = dict(zip(("pad_token", "bos_token", "eos_token"), _SPECIAL, strict=True))
    made: Any = PreTrainedTokenizerFast
    return made(tokenizer_object=base, chat_template=_CHAT, **names)
