"""The policy: a character-level Llama of about 0.3 M parameters, warm-started on some of the tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.learning.tasks import CHARACTERS, Problem, demonstration

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

PAD, BOS, EOS = 0, 1, 2
_SPECIAL = ("<pad>", "<bos>", "<eos>")
LONGEST = 10
"""Tokens of a response, at most."""


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character."""
    base = Tokenizer(models.WordLevel({token: i for i, token in enumerate([*_SPECIAL, *CHARACTERS])}, _SPECIAL[PAD]))
    base.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    base.decoder = decoders.Fuse()
    made: Any = PreTrainedTokenizerFast
    names = dict(zip(("pad_token", "bos_token", "eos_token"), _SPECIAL, strict=True))
    return made(tokenizer_object=base, padding_side="left", **names)  # type: ignore[no-any-return]


_NUMBER = {character: len(_SPECIAL) + i for i, character in enumerate(CHARACTERS)}


def encoded(text: str) -> list[int]:
    """A text's tokens."""
    return [_NUMBER[character] for character in text]


def decoded(tokens: Sequence[int]) -> str:
    """A response's text, up to its end."""
    return "".join(CHARACTERS[token - len(_SPECIAL)] for token in tokens if token >= len(_SPECIAL))


def is_right(tokens: Sequence[int], answer: str) -> bool:
    """Whether a response is the answer, character for character, and ends."""
    return decoded(tokens) == answer and tokens[-1] == EOS


def new_model(width: int, layers: int, seed: int) -> LlamaForCausalLM:
    """A policy with random weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(_SPECIAL) + len(CHARACTERS),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=64,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=EOS,
            attn_implementation="eager",  # on a CPU and so short texts the fastest
        )
    )


def _rows(problems: Sequence[Problem]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prompts padded on the left with answers padded on the right; attention; which tokens are the answer's."""
    prompts = [encoded(each.prompt) for each in problems]
    answers = [[*encoded(each.answer), EOS] for each in problems]
    before, after = max(map(len, prompts)), max(map(len, answers))
    tokens = torch.full((len(problems), before + after), PAD)
    attention, answered = torch.zeros_like(tokens), torch.zeros_like(tokens, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        tokens[row, before - len(prompt) : before + len(answer)] = torch.tensor([*prompt, *answer])
        attention[row, before - len(prompt) : before + len(answer)] = 1
        answered[row, before : before + len(answer)] = True
    return tokens, attention, answered


def _log_probabilities(model: LlamaForCausalLM, problems: Sequence[Problem]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every token of the answers, and which these are; shape (problems, tokens − 1) both."""
    tokens, attention, answered = _rows(problems)
    scores = model(input_ids=tokens, attention_mask=attention).logits[:, :-1].float().log_softmax(-1)
    chosen = scores.gather(2, tokens[:, 1:, None]).squeeze(2)
    return chosen, answered[:, 1:]


@torch.no_grad()
def pass_rates(model: LlamaForCausalLM, problems: Sequence[Problem], batch: int = 512) -> np.ndarray:
    """The exact probability that a sampled response (temperature 1) is the right answer, shape (problems,)."""
    rates = []
    for start in range(0, len(problems), batch):
        chosen, answered = _log_probabilities(model, problems[start : start + batch])
        rates.append((chosen * answered).sum(1).exp().double().numpy())
    return np.concatenate(rates)


def warm_start(
    model: LlamaForCausalLM,
    arms: Mapping[str, float],
    steps: int,
    *,
    learning_rate: float,
    batch: int,
    seed: int,
    without: Collection[str],
) -> None:
    """Supervised training on fresh problems, none of those in ``without``.

    Args:
        model: changed in place.
        arms: arm → the share of its answers that are right.
        steps: of ``batch`` answers each.
        learning_rate: highest one; it rises for 50 steps and falls to zero over the last third.
        batch: answers of a step.
        seed: of the problems.
        without: prompts that are never shown.
    """
    rng = np.random.default_rng([seed, 1])
    names = list(arms)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min(1.0, (n + 1) / 50, 3 * (steps - n) / steps))
    for _ in range(steps):
        chosen_arms = [names[i] for i in rng.integers(len(names), size=batch).tolist()]
        shown = [demonstration(arm, arms[arm], rng, without=without) for arm in chosen_arms]
        chosen, answered = _log_probabilities(model, shown)
        loss = -(chosen * answered).sum() / answered.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()


@torch.no_grad()
def sample(model: LlamaForCausalLM, prompts: Sequence[str], each: Sequence[int]) -> list[list[int]]:
    """Sampled responses, temperature 1: ``each[i]`` of prompt i, prompt by prompt, their end included."""
    tokens = [encoded(prompt) for prompt in prompts]
    width = max(map(len, tokens))
    padded = torch.tensor([[PAD] * (width - len(row)) + row for row in tokens])
    attention = (padded != PAD).long()
    cache = DynamicCache(config=model.config)
    logits = model(input_ids=padded, attention_mask=attention, past_key_values=cache, use_cache=True).logits[:, -1]
    wanted = torch.arange(len(tokens)).repeat_interleave(torch.tensor(list(each)))
    cache.batch_select_indices(wanted)
    attention, logits = attention[wanted], logits[wanted]
    going = torch.arange(len(wanted))
    said = torch.full((len(wanted), LONGEST), PAD)
    for place in range(LONGEST):
        drawn_tokens = torch.multinomial(logits.float().softmax(-1), 1)
        said[going, place] = drawn_tokens[:, 0]
        on = (drawn_tokens[:, 0] != EOS).nonzero()[:, 0]
        if not len(on) or place == LONGEST - 1:
            break
        if len(on) < len(going):
            cache.batch_select_indices(on)
            going, attention, drawn_tokens = going[on], attention[on], drawn_tokens[on]
        attention = torch.cat([attention, torch.ones_like(drawn_tokens)], 1)
        logits = model(input_ids=drawn_tokens, attention_mask=attention, past_key_values=cache, use_cache=True).logits[
            :, -1
        ]
    ends = (said == EOS).int()
    length = torch.where(ends.any(1), ends.argmax(1) + 1, LONGEST)
    return [row[:n].tolist() for row, n in zip(said, length.tolist(), strict=True)]
