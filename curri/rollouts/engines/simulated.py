"""A solver that follows item-response formulas. It is no language model, and what it makes says so wherever it goes."""

from __future__ import annotations

import hashlib
import math
import numbers
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidParameter
from curri.irt import solve_probability
from curri.selectors import stable_hash
from curri.types import Answered, Generated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from curri.types import Prompt, Request, Sampling

LABEL = "simulated:"
"""Model names of simulated rollouts begin with this."""

WRONG = "I do not know."
"""What it answers when it fails."""

_RIGHT, _LENGTH, _DIFFICULTY = 0x52, 0x4C, 0x44  # streams of chance


class SimulatedEngine:
    """Answers with the reference answer, or with a text that is none, by the four-parameter logistic model.

    A response to a prompt of difficulty b is right with probability c + (1 - c - s) · σ(θ - b), see :mod:`curri.irt`.
    The difficulty is ``metadata["difficulty"]`` where that is a number (logits), else a normal number of mean 0 and
    deviation ``spread``, made of the prompt's text. Lengths are geometric with mean ``length``; what would be longer
    than ``max_tokens`` is cut off and says nothing. Everything follows from prompt and seed.

    Its model is called "simulated:" and the name given, so that it cannot be taken for a real one.

    Args:
        model: a name.
        ability: θ, logits.
        spread: deviation of the difficulties that are not known, ≥ 0.
        guess: c in [0, 1].
        slip: s in [0, 1 - c].
        length: mean tokens of a response, ≥ 1.

    Raises:
        InvalidParameter: a value is outside its range.

    >>> from curri.types import Prompt, Request, Sampling
    >>> engine = SimulatedEngine("toy", ability=1.0)
    >>> prompt = Prompt(1, "1 + 1 = ?", "2", "sums", {"difficulty": 0.0})
    >>> (answered,) = engine.generate([Request(prompt, n=4, seed=7)], Sampling())
    >>> engine.model, [response.text for response in answered.responses]
    ('simulated:toy', ['2', '2', '2', '2'])
    """

    name = "simulated"
    weight_version = "simulated"

    def __init__(
        self,
        model: str = "solver",
        *,
        ability: float = 0.0,
        spread: float = 1.5,
        guess: float = 0.0,
        slip: float = 0.0,
        length: float = 40.0,
    ) -> None:
        given = {"ability": ability, "spread": spread, "guess": guess, "slip": slip, "length": length}
        for what, value in given.items():
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise InvalidParameter(f"`{what}` of `SimulatedEngine` must be a number; got {value!r}")
        solve_probability(ability, 0.0, guess=guess, slip=slip)  # refuses what the formula refuses
        for what, value, low in (("spread", spread, 0.0), ("length", length, 1.0)):
            if not (math.isfinite(value) and value >= low):
                raise InvalidParameter(f"`{what}` of `SimulatedEngine` must be a number >= {low:g}; got {value!r}")
        self.model = model if model.startswith(LABEL) else LABEL + model
        self.settings: Mapping[str, Any] = {
            "engine": self.name,
            "ability": float(ability),
            "spread": float(spread),
            "guess": float(guess),
            "slip": float(slip),
            "length": float(length),
        }

    def check(self) -> None:
        """It can always work."""

    def close(self) -> None:
        """It holds nothing."""

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Answered]:
        """Answer requests, in their order; see :class:`curri.types.Engine`."""
        for request in requests:
            yield self._answered(request, sampling)

    def pass_rate(self, prompt: Prompt) -> float:
        """The probability that a response to a prompt is right, if it is not cut off."""
        shape = {name: self.settings[name] for name in ("guess", "slip")}
        return float(solve_probability(self.settings["ability"], self._difficulty(prompt), **shape))

    def _difficulty(self, prompt: Prompt) -> float:
        given = prompt.metadata.get("difficulty")
        if isinstance(given, (int, float)) and not isinstance(given, bool) and math.isfinite(given):
            return float(given)
        first, second = _uniform([0, 1], _digest(prompt), _DIFFICULTY).tolist()
        return float(self.settings["spread"]) * math.sqrt(-2.0 * math.log1p(-first)) * math.cos(2.0 * math.pi * second)

    def _answered(self, request: Request, sampling: Sampling) -> Answered:
        if request.prompt.answer is None:
            return Answered(request, [], "the prompt has no reference answer, which is all that a simulation can give")
        digest = _digest(request.prompt)
        seeds = np.arange(request.seed, request.seed + request.n)
        right = _uniform(seeds, digest, _RIGHT) < self.pass_rate(request.prompt)
        stay = 1.0 - 1.0 / float(self.settings["length"])
        draws = np.log1p(-_uniform(seeds, digest, _LENGTH))
        lengths = 1 + (np.floor(draws / math.log(stay)) if stay > 0.0 else np.zeros(request.n))
        return Answered(
            request,
            [
                self._response(request.prompt, solved=solved, length=int(length), limit=sampling.max_tokens)
                for solved, length in zip(right.tolist(), lengths.tolist(), strict=True)
            ],
        )

    @staticmethod
    def _response(prompt: Prompt, *, solved: bool, length: int, limit: int) -> Generated:
        if length > limit:
            return Generated(text="", tokens=limit, truncated=True, finish="length")
        return Generated(text=str(prompt.answer) if solved else WRONG, tokens=length, truncated=False)


def _digest(prompt: Prompt) -> int:
    return int.from_bytes(hashlib.blake2b(repr(prompt.prompt).encode("utf-8", "replace"), digest_size=8).digest())


def _uniform(ordinals: Any, digest: int, stream: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A uniform number in [0, 1) for each ordinal, a pure function of the three."""
    mixed = stable_hash(stable_hash(np.asarray(ordinals, dtype=np.int64), digest).view(np.int64), stream)
    return np.asarray((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)
