"""A Llama of 0.3 million parameters with a token for each character, taught to add; nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from pathlib import Path

SUMS = [(a, b) for a in range(15) for b in range(15)]
STEPS, BATCH, RATE = 600, 64, 2e-3
"""Enough for some sums to be right always, some never and most now and then."""

_PAD, _BOS, _EOS = range(3)
_SPECIAL = ["<pad>", "<bos>", "<eos>"]
_CHARACTERS = "0123456789+= "
_LONGEST = len("14+14=28") + 1
_CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def save(folder: Path) -> None:
    """Teach a model and write it, with its tokenizer, as transformers does."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(_SPECIAL) + len(_CHARACTERS),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            pad_token_id=_PAD,
            bos_token_id=_BOS,
            eos_token_id=_EOS,
        )
    )
    _teach(model)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)


def _teach(model: Any) -> None:
    texts = torch.tensor([_tokens(a, b) for a, b in SUMS])
    weights = torch.tensor([1.0 / (1 + a + b) for a, b in SUMS])  # small sums are seen more often, and learned first
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        batch = texts[torch.multinomial(weights, BATCH, replacement=True)]
        loss = model(input_ids=batch, labels=batch.where(batch != _PAD, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _tokens(a: int, b: int) -> list[int]:
    tokens = [len(_SPECIAL) + _CHARACTERS.index(character) for character in f"{a}+{b}={a + b}"]
    return [*tokens, _EOS, *[_PAD] * _LONGEST][:_LONGEST]


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {token: i for i, token in enumerate([*_SPECIAL, *_CHARACTERS])}
    base = Tokenizer(models.WordLevel(vocabulary, _SPECIAL[_PAD]))
    base.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    base.decoder = decoders.Fuse()
    names = dict(zip(("pad_token", "bos_token", "eos_token"), _SPECIAL, strict=True))
    made: Any = PreTrainedTokenizerFast
    return made(tokenizer_object=base, chat_template=_CHAT, **names)
