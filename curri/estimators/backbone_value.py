"""A value model of prompts on top of a frozen language model: a scalar head, trained online."""

from __future__ import annotations

import contextlib
import math
import numbers
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidParameter, StateMismatch
from curri.estimators.value_model import (
    AdamW,
    RunningMoments,
    ValueModel,
    checked_batch,
    checked_entries,
    imported_torch,
    one_thread,
    prompt_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from curri.state import State
    from curri.types import Floats, Ints, Prompt

__all__ = ["BackboneValue", "last_token"]

_LEAST_SPREAD = 1e-3
_WEIGHTS = ("weight", "bias")


class BackboneValue(ValueModel):
    """V(x) = σ(w · h(x) / √d + b), h(x) the standardised hidden state of a language model at the prompt's last token.

    The backbone is frozen: it is only ever run without gradients, in evaluation mode, and is handed back in the mode
    it was in. It may be the policy itself, but then its hidden states move under the head, which has to follow. The
    head starts at w = 0 and b = logit(initial_mean), so that every first prediction is the mean. An update minimises
    Σ weight · (V(x) - r̄)² / Σ weight by AdamW, ``passes`` times over the prompts handed in.

    PCL (arXiv 2510.01135) trains such a model, but does not say how large it is, how the output is read, or how fast it
    learns. Standardising each of the d dimensions, over all that was seen so far, and dividing by √d lets one learning
    rate serve backbones of any width.

    Prompts are read one by one, without padding by the tokenizer, and padded on the right here, where a causal model
    does not see it: the tokenizer's padding side and token do not matter. One that is longer than ``max_tokens`` is cut
    by the tokenizer, on its truncation side. Whether two runs are equal bit for bit is up to the backbone and its
    device: tag a strategy that carries this model "inexact_resume".

    Args:
        module: a Hugging Face model, with or without a head for another task.
        tokenizer: its tokenizer.
        initial_mean: the prediction before the first update; the data's mean reward where it is known.
        learning_rate: of AdamW.
        weight_decay: of AdamW, on w.
        passes: times an update goes over its prompts.
        minibatch: prompts of one step.
        batch: prompts that the backbone reads at once.
        max_tokens: longest prompt.
        device: where to move the backbone, such as "cuda"; None leaves it.
        dtype: what to turn the backbone into, such as "bfloat16" or a torch dtype; None leaves it. The head is float32.
        seed: of the order of mini-batches.

    Raises:
        MissingExtra: torch is not installed.
        InvalidParameter: a parameter is out of range.

    Example, with a backbone loaded by :func:`curri.integrations.hf.load_backbone`::

        module, tokenizer = load_backbone("Qwen/Qwen3-0.6B", device="cuda", dtype="bfloat16")
        pcl = PCL(pool).use(BackboneValue(module, tokenizer))
    """

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        *,
        initial_mean: float = 0.5,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        passes: int = 1,
        minibatch: int = 64,
        batch: int = 16,
        max_tokens: int = 1024,
        device: Any = None,
        dtype: Any = None,
        seed: int = 0,
    ) -> None:
        self._torch = imported_torch("a value model with a backbone")
        _check_real("initial_mean", initial_mean, 0.001, 0.999)
        _check_real("learning_rate", learning_rate, 1e-12, 1e3)
        _check_real("weight_decay", weight_decay, 0.0, 1e3)
        whole = {"passes": passes, "minibatch": minibatch, "batch": batch, "max_tokens": max_tokens, "seed": seed}
        for name, value in whole.items():
            _check_int(name, value, low=0 if name == "seed" else 1)
        self._module = _moved(module, device, self._dtype(dtype))
        self._tokenizer = tokenizer
        self._passes, self._minibatch, self._batch = passes, minibatch, batch
        self._max_tokens, self._seed = max_tokens, seed
        self._learning_rate, self._weight_decay = learning_rate, weight_decay
        self._width = _width(module)
        bias = math.log(initial_mean / (1.0 - initial_mean))
        self._optimiser = self._new_optimiser([np.zeros((self._width, 1)), np.array([bias])])
        self._moments = RunningMoments(self._width, floor=_LEAST_SPREAD)
        self._updates = 0

    def _dtype(self, dtype: Any) -> Any:
        if not isinstance(dtype, str):
            return dtype
        found = getattr(self._torch, dtype, None)
        if not isinstance(found, self._torch.dtype) or not found.is_floating_point:
            rule = '`dtype` of `BackboneValue` must be a floating-point type of torch, such as "bfloat16"'
            raise InvalidParameter(f"{rule}; got {dtype!r}")
        return found

    @property
    def name(self) -> str:
        """The kind of model: "backbone", and what it stands on."""
        config = getattr(self._module, "config", None)
        kind = getattr(config, "model_type", None) or type(self._module).__name__
        return f"backbone/{kind}/{self._width}"

    # ---- predicting ---------------------------------------------------------------------------------------------

    def predict(self, prompts: Sequence[Prompt]) -> Floats:
        """The predicted pass rate of each prompt, in [0, 1], shape (_B,)."""
        return self._predicted(self.hidden_states(prompts)) if len(prompts) else np.empty(0)

    def _predicted(self, states: Floats) -> Floats:
        with one_thread(self._torch), self._torch.no_grad():
            return np.asarray(self._forward(self._inputs(states)).numpy(), dtype=np.float64)

    def hidden_states(self, prompts: Sequence[Prompt]) -> Floats:
        """The backbone's hidden state at the last token of each prompt, shape (_B, width).

        Raises:
            InvalidParameter: it is not finite, as may happen in float16.
        """
        tokens = [self._tokens(prompt_text(prompt)) for prompt in prompts]
        order = np.argsort([len(ids) for ids in tokens], kind="stable")  # little padding
        states = np.empty((len(prompts), self._width))
        with self._frozen(), self._torch.no_grad():
            for start in range(0, order.size, self._batch):
                part = order[start : start + self._batch]
                states[part] = self._read([tokens[position] for position in part.tolist()])
        if not np.isfinite(states).all():
            raise InvalidParameter(
                "the backbone's hidden states are not finite",
                hint='it may need another type: `dtype="bfloat16"` or `dtype="float32"`',
            )
        return states

    def _tokens(self, text: str) -> list[int]:
        found = self._tokenizer(text, truncation=True, max_length=self._max_tokens)["input_ids"]
        return [int(token) for token in found] or [_filler(self._tokenizer)]

    def _read(self, tokens: list[list[int]]) -> Any:
        longest = max(len(ids) for ids in tokens)
        filler = _filler(self._tokenizer)
        ids = np.array([[*row, *([filler] * (longest - len(row)))] for row in tokens])
        mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in tokens])
        torch, body = self._torch, _body(self._module)
        device = next(body.parameters()).device
        options = {"use_cache": False} if hasattr(getattr(body, "config", None), "use_cache") else {}
        output = body(
            input_ids=torch.tensor(ids, device=device), attention_mask=torch.tensor(mask, device=device), **options
        )
        hidden = output.last_hidden_state if hasattr(output, "last_hidden_state") else output[0]
        rows, last = torch.arange(len(tokens)), torch.tensor(last_token(mask))
        return hidden[rows.to(hidden.device), last.to(hidden.device)].float().cpu().numpy()

    @contextlib.contextmanager
    def _frozen(self) -> Iterator[None]:
        """Evaluation mode; each part goes back to its own mode afterwards."""
        training = [part for part in self._module.modules() if part.training]
        self._module.eval()
        try:
            yield
        finally:
            for part in training:
                part.training = True

    def _inputs(self, states: Floats) -> Any:
        scaled = self._moments.standardised(states) / math.sqrt(self._width)
        return self._torch.tensor(scaled, dtype=self._torch.float32)

    def _forward(self, inputs: Any) -> Any:
        weight, bias = self._optimiser.weights
        return self._torch.sigmoid((inputs @ weight)[:, 0] + bias)

    # ---- learning -----------------------------------------------------------------------------------------------

    def fit(self, prompts: Sequence[Prompt], targets: ArrayLike, weights: ArrayLike | None = None) -> Floats:
        """One online update of the head: ``passes`` times over these prompts.

        Args:
            prompts: distinct prompts.
            targets: the pass rate that was measured on each, in [0, 1], shape (_B,).
            weights: how much each counts, ≥ 0, relative to one another, shape (_B,); all the same if None.

        Returns:
            what :meth:`predict` gave for them before the update, shape (_B,).

        Raises:
            InvalidParameter: lengths differ, or a value is out of range.
        """
        targets_B, weights_B = checked_batch("BackboneValue", prompts, targets, weights)
        if not targets_B.size:
            return np.empty(0)
        states = self.hidden_states(prompts)
        predicted = self._predicted(states)
        self._moments.update(states)
        inputs = self._inputs(states)
        targets_t = self._torch.tensor(targets_B, dtype=self._torch.float32)
        weights_t = self._torch.tensor(weights_B, dtype=self._torch.float32)
        rng = np.random.default_rng([self._seed, self._updates])
        with one_thread(self._torch):
            for _ in range(self._passes):
                order = self._torch.tensor(rng.permutation(targets_B.size))
                for part in order.split(self._minibatch):
                    self._step(inputs[part], targets_t[part], weights_t[part])
        self._updates += 1
        return predicted

    def _step(self, inputs: Any, targets: Any, weights: Any) -> None:
        """The gradient of mean(weights · (V - targets)²) by hand: it is two lines, and needs no graph."""
        values = self._forward(inputs)
        slope = 2.0 * weights * (values - targets) * values * (1.0 - values) / len(values)
        self._optimiser.step([inputs.T @ slope[:, None], slope.sum()[None]])

    def _new_optimiser(self, weights: Sequence[NDArray[Any]]) -> AdamW:
        tensors = [self._torch.tensor(weight, dtype=self._torch.float32) for weight in weights]
        return AdamW(tensors, learning_rate=self._learning_rate, weight_decay=self._weight_decay)

    # ---- state --------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """Head, its optimiser and the moments of the hidden states, as arrays; nothing of the backbone."""
        return dict(self._arrays())

    def _arrays(self) -> dict[str, NDArray[Any]]:
        optimiser = self._optimiser
        parts = {"": optimiser.weights, "first/": optimiser.first, "second/": optimiser.second}
        return {
            **{p + name: t.numpy().copy() for p, part in parts.items() for name, t in zip(_WEIGHTS, part, strict=True)},
            "counts": np.array([optimiser.steps, self._updates], dtype=np.int64),
            "moments": self._moments.values.copy(),
        }

    def load(self, state: State) -> None:
        """Go on from a state of :meth:`state`; arrays are copied.

        Raises:
            StateMismatch: an entry is missing, unknown or of another shape. Nothing is then changed.
        """
        checked_entries(state, self._arrays(), model=self.name)
        if not all(np.isfinite(array).all() for array in state.values()):
            raise StateMismatch(f"the state of the value model `{self.name}` holds numbers that are not finite")
        optimiser = self._new_optimiser([state[name] for name in _WEIGHTS])
        optimiser.first = [self._torch.tensor(state[f"first/{name}"]) for name in _WEIGHTS]
        optimiser.second = [self._torch.tensor(state[f"second/{name}"]) for name in _WEIGHTS]
        optimiser.steps, self._updates = (int(count) for count in state["counts"])
        self._optimiser = optimiser
        self._moments.values = state["moments"]


def last_token(mask: ArrayLike) -> Ints:
    """The position of the last token in each row of an attention mask, wherever its padding is.

    Args:
        mask: 1 for tokens and 0 for padding, shape (_B, length).

    Returns:
        Positions, shape (_B,); the last position for a row of padding alone.

    Example:
        >>> last_token([[1, 1, 0], [0, 1, 1], [1, 0, 0]])
        array([1, 2, 0])

    """
    rows = np.asarray(mask)
    return np.asarray(rows.shape[1] - 1 - np.argmax(rows[:, ::-1] != 0, axis=1), dtype=np.int64)


def _body(module: Any) -> Any:
    """The part that gives hidden states, without a head for another task."""
    return getattr(module, "base_model", module)


def _width(module: Any) -> int:
    config = getattr(_body(module), "config", None)
    text_part = getattr(config, "get_text_config", None)  # of a model that also reads pictures
    if text_part is not None:
        config = text_part()
    width = getattr(config, "hidden_size", None)
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        message = "`module` of `BackboneValue` must be a Hugging Face model whose config has a `hidden_size`"
        raise InvalidParameter(f"{message}; got {type(module).__name__}")
    return width


def _moved(module: Any, device: Any, dtype: Any) -> Any:
    wanted = {name: value for name, value in (("device", device), ("dtype", dtype)) if value is not None}
    return module.to(**wanted) if wanted else module


def _filler(tokenizer: Any) -> int:
    """A token to pad with. The model does not see it, so any will do."""
    token = getattr(tokenizer, "pad_token_id", None)
    return 0 if token is None else int(token)


def _check_real(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not low <= float(value) <= high:
        rule = f"`{name}` of `BackboneValue` must be a float in [{low:g}, {high:g}]"
        raise InvalidParameter(f"{rule}; got {value!r}")


def _check_int(name: str, value: object, *, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < low:
        raise InvalidParameter(f"`{name}` of `BackboneValue` must be an int in [{low}, inf); got {value!r}")
