"""A value model of prompts that needs no download: features of the text and a small network, trained online."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from curri.errors import InvalidParameter, StateMismatch
from curri.estimators.text_features import HASHED_SCALE, NUMBER_NAMES, text_features
from curri.estimators.value_model import (
    AdamW,
    RunningMoments,
    ValueModel,
    checked_batch,
    checked_entries,
    imported_torch,
    one_thread,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from curri.estimators.text_features import TextFeatures
    from curri.state import State
    from curri.types import Floats, Prompt

__all__ = ["TextValue"]

_BLOCK = 4096
_LEAST_SPREAD = 0.05
_WEIGHTS = ("hidden_weight", "hidden_bias", "output_weight", "output_bias")


class _Limits(NamedTuple):
    kind: type
    low: float
    high: float
    allowed: str

    def hold(self, value: Any) -> bool:
        known = numbers.Integral if self.kind is int else numbers.Real
        return isinstance(value, known) and not isinstance(value, bool) and self.low <= float(value) <= self.high


_LIMITS = {
    "hashed": _Limits(int, 1, 65536, "an int in [1, 65536]"),
    "hidden": _Limits(int, 1, 4096, "an int in [1, 4096]"),
    "learning_rate": _Limits(float, 1e-12, 1e3, "a float in [1e-12, 1000]"),
    "weight_decay": _Limits(float, 0.0, 1e3, "a float in [0, 1000]"),
    "passes": _Limits(int, 1, 1000, "an int in [1, 1000]"),
    "minibatch": _Limits(int, 1, 1 << 30, "an int in [1, 1073741824]"),
    "replay": _Limits(int, 0, 1 << 20, "an int in [0, 1048576]"),
    "initial_mean": _Limits(float, 0.001, 0.999, "a float in [0.001, 0.999]"),
    "seed": _Limits(int, 0, 2**63 - 1, "an int in [0, 9223372036854775807]"),
}


@dataclass(eq=False)
class TextValue(ValueModel):
    """V(x) = σ(a · silu(W f(x) + b) + c): one hidden layer over features f of the prompt's text.

    The features are hashed n-grams, which say what kind of prompt it is, and standardised counts and magnitudes
    (see :mod:`curri.estimators.text_features`), which say how long, how deep and with how large numbers. An update
    minimises Σ w (V(x) - r̄)² / Σ w by AdamW over mini-batches.

    PCL's paper trains once on the current batch (``passes=1, replay=0``), with a language model as the value model. A
    network of this size learns far more from a few passes, and from the last groups beside the new ones, hence the
    defaults; ``replay`` of old targets costs nothing but their age.

    Before the first update every prediction is ``initial_mean``: the output layer starts at 0. Only the hidden layer
    starts at random, from ``seed``. All of it runs in one thread, so that a state gives the same numbers, bit for bit,
    whatever torch's number of threads; torch's global generator is not touched.

    Args:
        hashed: places for hashed n-grams.
        hidden: units of the hidden layer.
        learning_rate: of AdamW.
        weight_decay: of AdamW, on both matrices.
        passes: times an update goes over its prompts.
        minibatch: prompts of one step.
        replay: groups of earlier updates that are trained on again, the last ones.
        initial_mean: the prediction before the first update; the data's mean reward where it is known.
        squash: False leaves σ out: V is linear, and predictions are cut off at 0 and 1.
        seed: of the initial weights and the order of mini-batches.

    Raises:
        MissingExtra: torch is not installed.
        InvalidParameter: a parameter is out of range.

    >>> from curri import Prompt
    >>> prompts = [Prompt(i, f"What is {i} + {10**i}?", None, "sums", {}) for i in range(8)]
    >>> model = TextValue(initial_mean=0.4)
    >>> model.predict(prompts[:2]).round(3)
    array([0.4, 0.4])
    >>> for _ in range(20):
    ...     before = model.fit(prompts, [1, 1, 1, 1, 0, 0, 0, 0])
    >>> model.predict(prompts).round().tolist()
    [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """

    hashed: int = 512
    hidden: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    passes: int = 4
    minibatch: int = 64
    replay: int = 512
    initial_mean: float = 0.5
    squash: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        self._check()
        self._torch = imported_torch("the value model of prompt texts")
        inputs = self.hashed + len(NUMBER_NAMES)
        start = np.random.default_rng([self.seed, 0]).standard_normal((inputs, self.hidden)) / math.sqrt(inputs)
        mean = self.initial_mean
        bias = math.log(mean / (1.0 - mean)) if self.squash else mean
        self._optimiser = self._new_optimiser(
            [start, np.zeros(self.hidden), np.zeros((self.hidden, 1)), np.array([bias])]
        )
        self._moments = RunningMoments(len(NUMBER_NAMES), floor=_LEAST_SPREAD)
        self._updates = 0
        self._replay = _Seen(
            np.empty((0, self.hashed), dtype=np.int8),
            np.empty((0, len(NUMBER_NAMES)), dtype=np.float32),
            np.empty(0),
            np.empty(0),
        )
        self._saved: State | None = None

    def _check(self) -> None:
        for name, limits in _LIMITS.items():
            value = getattr(self, name)
            if not limits.hold(value):
                raise InvalidParameter(f"`{name}` of `TextValue` must be {limits.allowed}; got {value!r}")
        if not isinstance(self.squash, bool):
            raise InvalidParameter(f"`squash` of `TextValue` must be true or false; got {self.squash!r}")

    @property
    def name(self) -> str:
        """The kind of model."""
        return "text"

    # ---- predicting ---------------------------------------------------------------------------------------------

    def predict(self, prompts: Sequence[Prompt]) -> Floats:
        """The predicted pass rate of each prompt, in [0, 1], shape (_B,)."""
        parts = [
            self._predicted(text_features(prompts[start : start + _BLOCK], self.hashed))
            for start in range(0, len(prompts), _BLOCK)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def _predicted(self, features: TextFeatures) -> Floats:
        with one_thread(self._torch), self._torch.no_grad():
            values = self._forward(self._inputs(features.hashed, features.numbers)).numpy()
        return np.asarray(np.clip(values, 0.0, 1.0), dtype=np.float64)

    def _inputs(self, hashed: NDArray[np.int8], numbers_B: NDArray[np.float32]) -> Any:
        """What the network reads, as a tensor of its own memory, so that products are the same wherever it lies."""
        inputs = self._torch.empty((len(hashed), self.hashed + len(NUMBER_NAMES)))
        view = inputs.numpy()
        np.divide(hashed, HASHED_SCALE, out=view[:, : self.hashed], casting="same_kind")
        view[:, self.hashed :] = self._moments.standardised(numbers_B.astype(np.float64))
        return inputs

    def _forward(self, inputs: Any) -> Any:
        weight, bias, out_weight, out_bias = self._optimiser.weights
        hidden = self._torch.nn.functional.silu(inputs @ weight + bias)
        output = (hidden @ out_weight)[:, 0] + out_bias
        return self._torch.sigmoid(output) if self.squash else output

    # ---- learning -----------------------------------------------------------------------------------------------

    def fit(self, prompts: Sequence[Prompt], targets: ArrayLike, weights: ArrayLike | None = None) -> Floats:
        """One online update: ``passes`` times over these prompts and those in the replay.

        Args:
            prompts: distinct prompts.
            targets: the pass rate that was measured on each, in [0, 1], shape (_B,).
            weights: how much each counts, ≥ 0, relative to one another, shape (_B,); all the same if None.

        Returns:
            what :meth:`predict` gave for them before the update, shape (_B,).

        Raises:
            InvalidParameter: lengths differ, or a value is out of range.
        """
        targets_B, weights_B = checked_batch("TextValue", prompts, targets, weights)
        if not targets_B.size:
            return np.empty(0)
        self._saved = None
        features = text_features(prompts, self.hashed)
        predicted = self._predicted(features)
        self._moments.update(features.numbers.astype(np.float64))
        seen = self._replay.followed_by(_Seen(features.hashed, features.numbers, targets_B, weights_B))
        with one_thread(self._torch):
            self._train(seen)
        self._updates += 1
        self._replay = seen.last(self.replay)
        return predicted

    def _train(self, seen: _Seen) -> None:
        inputs = self._inputs(seen.hashed, seen.numbers)
        targets = self._torch.tensor(seen.targets, dtype=self._torch.float32)
        weights = self._torch.tensor(seen.weights, dtype=self._torch.float32)
        rng = np.random.default_rng([self.seed, 1, self._updates])
        for _ in range(self.passes):
            order = self._torch.tensor(rng.permutation(len(seen.targets)))
            for part in order.split(self.minibatch):
                self._step(inputs[part], targets[part], weights[part])

    def _step(self, inputs: Any, targets: Any, weights: Any) -> None:
        parameters = self._optimiser.weights
        for parameter in parameters:
            parameter.requires_grad_(requires_grad=True)
        loss = (weights * (self._forward(inputs) - targets).square()).mean()
        gradients = self._torch.autograd.grad(loss, parameters)
        for parameter in parameters:
            parameter.requires_grad_(requires_grad=False)
        self._optimiser.step(gradients)

    def _new_optimiser(self, weights: Sequence[NDArray[Any]]) -> AdamW:
        tensors = [self._torch.tensor(weight, dtype=self._torch.float32) for weight in weights]
        return AdamW(tensors, learning_rate=self.learning_rate, weight_decay=self.weight_decay)

    # ---- state --------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """Weights, optimiser, moments of the features and replay, as arrays; about 0.6 MB at the defaults."""
        if self._saved is None:
            self._saved = {name: array.copy() for name, array in self._views().items()}
            for array in self._saved.values():
                array.flags.writeable = False
        return dict(self._saved)

    def _views(self) -> dict[str, NDArray[Any]]:
        optimiser = self._optimiser
        parts = {"": optimiser.weights, "first/": optimiser.first, "second/": optimiser.second}
        tensors = {prefix + name: t for prefix, part in parts.items() for name, t in zip(_WEIGHTS, part, strict=True)}
        return {
            **{name: tensor.numpy() for name, tensor in tensors.items()},
            "counts": np.array([optimiser.steps, self._updates], dtype=np.int64),
            "moments": self._moments.values,
            **{f"replay/{name}": column for name, column in self._replay._asdict().items()},
        }

    def load(self, state: State) -> None:
        """Go on from a state of :meth:`state`; arrays are copied.

        Raises:
            StateMismatch: an entry is missing, unknown or of another shape. Nothing is then changed.
        """
        wanted = self._views() | {f"replay/{name}": part for name, part in self._replay.last(0)._asdict().items()}
        checked_entries(state, wanted, model=self.name)
        replay = _Seen(*(state[f"replay/{name}"].copy() for name in _Seen._fields))
        if len({len(column) for column in replay}) != 1 or len(replay.targets) > self.replay:
            raise StateMismatch(f"the replay of the value model `{self.name}` has columns of other lengths")
        optimiser = self._new_optimiser([state[name] for name in _WEIGHTS])
        optimiser.first = [self._torch.tensor(state[f"first/{name}"]) for name in _WEIGHTS]
        optimiser.second = [self._torch.tensor(state[f"second/{name}"]) for name in _WEIGHTS]
        optimiser.steps, self._updates = (int(count) for count in state["counts"])
        self._optimiser, self._replay = optimiser, replay
        self._moments.values = state["moments"]
        self._saved = None


class _Seen(NamedTuple):
    """Features, targets and weights of groups, all of shape (groups, …)."""

    hashed: NDArray[np.int8]
    numbers: NDArray[np.float32]
    targets: Floats
    weights: Floats

    def followed_by(self, later: _Seen) -> _Seen:
        return _Seen(
            np.concatenate([self.hashed, later.hashed]),
            np.concatenate([self.numbers, later.numbers]),
            np.concatenate([self.targets, later.targets]),
            np.concatenate([self.weights, later.weights]),
        )

    def last(self, n: int) -> _Seen:
        start = max(len(self.targets) - n, 0)
        return _Seen(self.hashed[start:], self.numbers[start:], self.targets[start:], self.weights[start:])
