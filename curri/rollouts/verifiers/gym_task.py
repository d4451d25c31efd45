"""``gym``: reasoning-gym's own scorer, from the task that is stored with the prompt."""

from __future__ import annotations

import importlib.metadata
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from curri.errors import MissingExtra
from curri.parameters import choice, real
from curri.rollouts.gym_creator import Gym
from curri.rollouts.verifiers.base import NOT_FOUND, OptionVerifier, failed
from curri.rollouts.verifiers.extraction import after_thinking, boxed, marked, tagged
from curri.types import Refusal, Score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from curri.types import Prompt

_KEPT = 64


@dataclass(eq=False, kw_only=True)
class GymTask(OptionVerifier):
    """Scores with the task that made the prompt, so that every right answer counts and not only the stored one.

    It works for prompts that ``curri ingest gym:…`` or ``GymCreator`` made. The prompt is made again from the stored
    task, parameters and seed; where the installed reasoning-gym makes another one of them, what is stored of it is
    handed to the scorer instead. The reward is the scorer's, which gives parts of a point for some tasks.

    Raises:
        MissingExtra: reasoning-gym is not installed; raised when it is first used.

    >>> from curri.types import Prompt
    >>> origin = {"task": "chain_sum", "params": {}, "seed": 0, "size": 1, "index": 0}
    >>> prompt = Prompt(
    ...     1,
    ...     "State the final answer to the following arithmetic problem: 4 + 3 =",
    ...     "7",
    ...     "chain_sum",
    ...     {"gym": origin, "entry": {}},
    ... )
    >>> GymTask().score("I get <answer>7</answer>", prompt).solved
    1.0
    """

    kind: ClassVar[str] = "gym"

    extract: str = choice(
        default="auto",
        of=("auto", "tag", "boxed", "whole"),
        doc="where the answer stands; auto: <answer> tags, else \\boxed{}, else the whole response",
    )
    solved_at: float = real(default=1.0, above=0.0, high=1.0, doc="the score from which on a response is right")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._datasets: OrderedDict[str, Any] = OrderedDict()
        self._entry: tuple[Prompt | None, Any, Any] = (None, None, None)

    @property
    def version(self) -> str:
        """Of its rules and of reasoning-gym.

        Raises:
            MissingExtra: it is not installed.
        """
        try:
            return f"{super().version}/reasoning-gym-{importlib.metadata.version('reasoning_gym')}"
        except importlib.metadata.PackageNotFoundError as error:
            message = f"the verifier `gym` needs reasoning-gym, which is not installed ({error})"
            raise MissingExtra(message, hint="pip install 'curri[gym]'") from error

    def load(self) -> None:
        """Import reasoning-gym."""
        Gym()

    def score(self, response: str, prompt: Prompt) -> Score:
        """The score that the prompt's task gives."""
        if self._entry[0] is not prompt:
            self._entry = (prompt, *self._stored(prompt))
        _, dataset, entry = self._entry
        if isinstance(dataset, Refusal):
            return failed("unverifiable", dataset.reason)
        answer = self._extracted(after_thinking(response))
        if answer is None:
            return NOT_FOUND
        reward = float(dataset.score_answer(answer, entry))
        return Score(reward, 1.0 if reward >= self.solved_at else 0.0)

    def _extracted(self, text: str) -> str | None:
        if self.extract == "auto":
            found = marked(text)
            return text.strip() if found is None else found
        if self.extract == "whole":
            return text.strip()
        return tagged(text) if self.extract == "tag" else boxed(text)

    def _stored(self, prompt: Prompt) -> tuple[Any, Any]:
        """The data set of a prompt's task and its entry there; or a refusal."""
        gym = Gym()
        origin = gym.origin(prompt)
        if isinstance(origin, Refusal):
            return origin, None
        made: Mapping[str, Any] = prompt.metadata["gym"]
        seed, size, index = (made.get(name) for name in ("seed", "size", "index"))
        if not (isinstance(seed, int) and isinstance(size, int) and isinstance(index, int) and 0 <= index < size):
            return Refusal("the stored task has no seed, size and index"), None
        key = json.dumps([origin.task, origin.params, seed, size], sort_keys=True, default=str)
        if key not in self._datasets:
            dataset = gym.dataset(origin, seed=seed, size=size)
            if isinstance(dataset, Refusal):
                return dataset, None
            self._datasets[key] = dataset
            if len(self._datasets) > _KEPT:
                self._datasets.popitem(last=False)
        self._datasets.move_to_end(key)
        dataset = self._datasets[key]
        entry = dataset[index]
        if entry["question"] != prompt.prompt:
            entry = {"question": prompt.prompt, "answer": prompt.answer, "metadata": prompt.metadata.get("entry") or {}}
        return dataset, entry
