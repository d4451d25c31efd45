"""What every value model of prompts keeps to, and the parts that several of them share.

A value model reads a prompt, not its responses, and says with which probability the policy solves it. It learns online
from the pass rates that training rounds measure anyway, so it scores prompts without a single rollout (PCL, arXiv
2510.01135). Value models are reached by their own module, since they need torch.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidParameter, MissingExtra, StateMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from curri.state import State
    from curri.types import Floats, Prompt

__all__ = [
    "AdamW",
    "RunningMoments",
    "ValueModel",
    "checked_batch",
    "checked_entries",
    "imported_torch",
    "one_thread",
    "prompt_text",
]

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8
"""AdamW's β1, β2 and ε, at the values that everybody uses."""


class ValueModel(ABC):
    """Predicts the pass rate of prompts from their text.

    A model is a function of its state and its arguments: no clock, no global generator. ``predict`` changes nothing.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What kind of model it is. A state is loaded into a model of the same name only."""

    @abstractmethod
    def predict(self, prompts: Sequence[Prompt]) -> Floats:
        """The predicted pass rate of each prompt, in [0, 1], shape (_B,)."""

    @abstractmethod
    def fit(self, prompts: Sequence[Prompt], targets: ArrayLike, weights: ArrayLike | None = None) -> Floats:
        """One online update.

        Args:
            prompts: distinct prompts.
            targets: the pass rate that was measured on each, in [0, 1], shape (_B,).
            weights: how much each counts, ≥ 0, relative to one another, shape (_B,); all the same if None.

        Returns:
            what :meth:`predict` gave for them before the update, shape (_B,).

        Raises:
            InvalidParameter: lengths differ, or a value is out of range.
        """

    @abstractmethod
    def state(self) -> State:
        """Everything it has learned, as arrays and JSON that nobody writes to afterwards."""

    @abstractmethod
    def load(self, state: State) -> None:
        """Go on from a state of :meth:`state`; arrays are copied.

        Raises:
            StateMismatch: an entry is missing, unknown or of another shape. Nothing is then changed.
        """


def prompt_text(prompt: Prompt) -> str:
    r"""What a prompt says: its text, or the contents of its chat messages, one below the other.

    Of a content made of parts, those with a "text" count; media are left out.

    >>> from curri import Prompt
    >>> prompt_text(
    ...     Prompt(
    ...         1, [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}], None, "chat", {}
    ...     )
    ... )
    'Be brief.\nWhy?'
    """
    if isinstance(prompt.prompt, str):
        return prompt.prompt
    return "\n".join(_content(message.get("content")) for message in prompt.prompt)


def _content(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part["text"]) for part in content if isinstance(part, dict) and part.get("text"))
    return "" if content is None else str(content)


def checked_batch(
    model: str, prompts: Sequence[Prompt], targets: ArrayLike, weights: ArrayLike | None
) -> tuple[Floats, Floats]:
    """Targets and weights of a batch as arrays; the weights have mean 1.

    Raises:
        InvalidParameter: lengths differ, a target is outside [0, 1], or the weights are negative or all 0.

    >>> from curri import Prompt
    >>> checked_batch("TextValue", [Prompt(1, "a", None, "x", {}), Prompt(2, "b", None, "x", {})], [0.5, 1.0], [1, 3])
    (array([0.5, 1. ]), array([0.5, 1.5]))
    """
    wanted = (len(prompts),)
    targets_B = np.asarray(targets, dtype=np.float64)
    if targets_B.shape != wanted or not np.all((targets_B >= 0.0) & (targets_B <= 1.0)):
        rule = f"`targets` of `{model}.fit` must be floats in [0, 1], one a prompt, {len(prompts)} in all"
        raise InvalidParameter(f"{rule}; got {targets!r}")
    weights_B = np.ones(wanted) if weights is None else np.asarray(weights, dtype=np.float64)
    fine = weights_B.shape == wanted and bool(np.all((weights_B >= 0.0) & np.isfinite(weights_B)))
    if not fine or (weights_B.size and not weights_B.any()):
        rule = f"`weights` of `{model}.fit` must be floats in [0, inf), one a prompt, not all 0"
        raise InvalidParameter(f"{rule}; got {weights!r}")
    return targets_B, weights_B / weights_B.mean() if weights_B.size else weights_B


def checked_entries(state: Mapping[str, Any], wanted: Mapping[str, NDArray[Any]], *, model: str) -> None:
    """Refuse a state whose arrays have other names, shapes or types than those of ``wanted``.

    The first axis may have another length where ``wanted`` has an axis of length 0.

    Raises:
        StateMismatch: names the entry.
    """
    strange = sorted(state.keys() ^ wanted.keys())
    if strange:
        verb = "lacks" if strange[0] in wanted else "has an unknown entry"
        raise StateMismatch(f"the state of the value model `{model}` {verb} {strange[0]!r}")
    for name, like in wanted.items():
        given = state[name]
        if not isinstance(given, np.ndarray) or given.dtype != like.dtype or not _same_shape(given, like):
            got = f"{given.shape} of {given.dtype}" if isinstance(given, np.ndarray) else type(given).__name__
            message = f"{name!r} of the value model `{model}` must be of shape {like.shape} and type {like.dtype}"
            raise StateMismatch(f"{message}; the state holds {got}")


def _same_shape(given: NDArray[Any], like: NDArray[Any]) -> bool:
    free = like.ndim > 0 and like.shape[0] == 0
    return given.shape[1:] == like.shape[1:] and given.ndim == like.ndim and (free or given.shape == like.shape)


def imported_torch(what: str) -> Any:
    """The module torch.

    Raises:
        MissingExtra: it is not installed; ``what`` says what needs it.
    """
    try:
        import torch
    except ImportError as error:
        message = f"{what} needs torch, which cannot be imported ({error})"
        raise MissingExtra(message, hint="pip install 'curri[torch]'") from error
    return torch


@contextlib.contextmanager
def one_thread(torch: Any) -> Iterator[None]:
    """Let torch work in the calling thread alone, and give it its threads back afterwards.

    Small products gain nothing from more threads, lose a factor of 20 to them where other programs want the cores too,
    and come out the same bit for bit only at one number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class RunningMoments:
    """Mean and standard deviation of features over all that was seen so far (Chan, Golub & LeVeque 1979).

    Args:
        size: number of features.
        floor: the least standard deviation to divide by, > 0.
        limit: standardised values are cut off at ± this, > 0.

    >>> moments = RunningMoments(1, floor=0.1)
    >>> moments.update(np.array([[1.0], [3.0]]))
    >>> moments.standardised(np.array([[3.0]]))
    array([[1.]])
    """

    def __init__(self, size: int, *, floor: float, limit: float = 5.0) -> None:
        self._floor = floor
        self._limit = limit
        self._values = np.zeros((3, size))  # how many, their mean, their summed squared deviations

    def update(self, values_B: Floats) -> None:
        """Take in values of shape (_B, size)."""
        new = len(values_B)
        if not new:
            return
        count, mean, squares = self._values
        mean_new = values_B.mean(axis=0)
        squares_new = np.square(values_B - mean_new).sum(axis=0)
        apart = mean_new - mean
        total = count + new
        self._values = np.stack(
            [total, mean + apart * (new / total), squares + squares_new + np.square(apart) * (count * new / total)]
        )

    def standardised(self, values_B: Floats) -> Floats:
        """(values - mean) / standard deviation, cut off, shape (_B, size)."""
        count, mean, squares = self._values
        spread = np.sqrt(squares / np.maximum(count, 1.0))
        scaled = (values_B - mean) / np.maximum(spread, self._floor)
        return np.asarray(np.clip(scaled, -self._limit, self._limit))

    @property
    def values(self) -> Floats:
        """All that has to be saved, shape (3, size)."""
        return self._values

    @values.setter
    def values(self, values: Floats) -> None:
        self._values = values.copy()


class AdamW:
    """AdamW over torch tensors (Loshchilov & Hutter, arXiv 1711.05101), with its state in the open.

    Decay applies to matrices only. It is written out because its state has to be saved as arrays, bit for bit.

    Args:
        weights: the tensors; they are changed in place.
        learning_rate: > 0.
        weight_decay: ≥ 0.
    """

    def __init__(self, weights: Sequence[Any], *, learning_rate: float, weight_decay: float) -> None:
        self.weights = list(weights)
        self.first = [weight.new_zeros(weight.shape) for weight in self.weights]
        self.second = [weight.new_zeros(weight.shape) for weight in self.weights]
        self.steps = 0
        self._learning_rate = learning_rate
        self._decay = weight_decay

    def step(self, gradients: Sequence[Any]) -> None:
        """One step down the gradients, one for each tensor."""
        self.steps += 1
        rate = self._learning_rate / (1.0 - FIRST_DECAY**self.steps)
        correction = math.sqrt(1.0 - SECOND_DECAY**self.steps)
        for weight, first, second, gradient in zip(self.weights, self.first, self.second, gradients, strict=True):
            first.mul_(FIRST_DECAY).add_(gradient, alpha=1.0 - FIRST_DECAY)
            second.mul_(SECOND_DECAY).addcmul_(gradient, gradient, value=1.0 - SECOND_DECAY)
            if weight.ndim > 1:
                weight.mul_(1.0 - self._learning_rate * self._decay)
            weight.addcdiv_(first, second.sqrt().div_(correction).add_(EPSILON), value=-rate)
