"""New prompts that a language model makes out of stored ones, checked before they are kept."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from curri.errors import EngineError, InvalidParameter
from curri.rollouts.rewriting import IN_BREADTH, IN_DEPTH, parsed, problem_of, request_text, solve_text, with_problem
from curri.rollouts.verifiers import Weighted, parse_verifier
from curri.rollouts.verifiers.numeric import only_number
from curri.types import Evolved, Prompt, Refusal, Request, Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from curri.rollouts.verifiers import VerifierPool
    from curri.types import Engine, Generated, Verifier

VOTES = 5
AGREEMENT = 0.6

_SEEDS = 2**31
_GIVEN_UP = 8
_JUDGES_BY_ITSELF = ("python", "regex")


class _Attempt(NamedTuple):
    """One rewrite that is wanted."""

    parent: Prompt
    operation: str
    text: str
    seed: int
    vote_seed: int


@dataclasses.dataclass(frozen=True)
class _Draft:
    """A rewrite that could be read."""

    attempt: _Attempt
    problem: str
    prompt: Prompt
    agreed: int | None = None


class LLMCreator:
    """Evolves prompts by asking a language model for a rewrite.

    * In depth: one of four instructions that make a problem harder. In breadth: another problem of the same kind.
    * The reply must hold a problem and, where the parent has an answer, an answer, in the form asked for.
    * The answer is checked. A verifier must be able to read it: given as a response it has to be right. And the model
      solves the new problem ``votes`` times; at least a share ``agreement`` of the solutions must come to the answer,
      as the verifier sees it, or without one as numbers, or else as texts but for case and punctuation. A model
      that is often wrong about its own problems would else fill the store with wrong answers. The price is that
      problems which the model can hardly solve are left out: let a stronger one create than the one that is trained.

    With an engine that heeds seeds the same parents and seeds give the same prompts.

    Args:
        engine: asked for rewrites and for solutions.
        verifier: what will score responses to the children, or None.
        breadth: share of children made in breadth; 1/5 as in eva's five operations.
        votes: solutions of each child; 0 trusts the model's own answer. By default 5, and 0 where a function of the
            user's or a pattern judges, which may look at more than the answer.
        agreement: share of the solutions that must come to the answer, in (0, 1].
        sampling: how rewrites are drawn; its seed is not used.
        solving: how solutions are drawn; by default like rewrites.

    Raises:
        InvalidParameter: a value is out of range, or the verifier is ``gym``, which knows none of these prompts.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        verifier: VerifierPool | None = None,
        breadth: float = 0.2,
        votes: int | None = None,
        agreement: float = AGREEMENT,
        sampling: Sampling | None = None,
        solving: Sampling | None = None,
    ) -> None:
        kinds = [] if verifier is None else _kinds(verifier.verifier)
        if "gym" in kinds:
            raise InvalidParameter(
                "`verifier` of `LLMCreator` must not be gym: it scores prompts that reasoning-gym made, not a model",
                hint="evolve those with --creator gym, or name another verifier, such as math or numeric",
            )
        if votes is None:
            votes = 0 if kinds and kinds[0] in _JUDGES_BY_ITSELF else VOTES
        if isinstance(votes, bool) or not isinstance(votes, int) or votes < 0:
            raise InvalidParameter(f"`votes` of `LLMCreator` must be an int in [0, inf); got {votes!r}")
        for name, value, open_low in (("breadth", breadth, False), ("agreement", agreement, True)):
            if not 0.0 <= value <= 1.0 or (open_low and value == 0.0):
                raise InvalidParameter(
                    f"`{name}` of `LLMCreator` must be a float in {'(' if open_low else '['}0, 1]; got {value!r}"
                )
        self.engine = engine
        self.verifier = verifier
        self.breadth, self.votes, self.agreement = float(breadth), votes, float(agreement)
        self.sampling = Sampling(temperature=0.9, max_tokens=1024) if sampling is None else sampling
        self.solving = self.sampling if solving is None else solving
        if self.solving.temperature == 0.0 and votes > 1:
            raise InvalidParameter(
                f"at temperature 0 all solutions are the same, so `votes` must be 0 or 1; got {votes}"
            )
        self._checked = False
        self._unanswered = 0

    @property
    def name(self) -> str:
        """Engine and model; kept with every child."""
        return f"{self.engine.name}:{self.engine.model}"

    def create(self, parents: Sequence[Prompt], n: int, seeds: Sequence[int]) -> Sequence[Sequence[Evolved | Refusal]]:
        """``n`` children of each parent, see :class:`curri.types.Creator`.

        Raises:
            EngineError, VerifierFailed: nothing can be had of the engine or the verifier.
            MissingExtra: a package is missing.
        """
        if not self._checked:
            self.engine.check()
            self._checked = True
        attempts = [
            attempt
            for parent, seed in zip(parents, seeds, strict=True)
            for attempt in self._attempts(parent, n, np.random.Generator(np.random.PCG64(seed)))
        ]
        drafts = self._written(attempts)
        drafts = self._readable(drafts)
        drafts = self._voted(drafts)
        children = [draft if isinstance(draft, Refusal) else self._child(draft) for draft in drafts]
        return [children[start : start + n] for start in range(0, len(children), n)]

    def _attempts(self, parent: Prompt, n: int, rng: np.random.Generator) -> list[_Attempt | Refusal]:
        problem = problem_of(parent)
        attempts: list[_Attempt | Refusal] = []
        for _ in range(n):
            kinds = IN_BREADTH if rng.random() < self.breadth else IN_DEPTH
            operation = list(kinds)[int(rng.integers(len(kinds)))]
            seed, vote_seed = (int(value) for value in rng.integers(0, _SEEDS - self.votes - 1, size=2))
            if isinstance(problem, Refusal):
                attempts.append(problem)
                continue
            text = request_text(problem, parent.answer, kinds[operation])
            attempts.append(_Attempt(parent, operation, text, seed, vote_seed))
        return attempts

    # ---- the three steps ----------------------------------------------------------------------------------------

    def _written(self, attempts: Sequence[_Attempt | Refusal]) -> list[_Draft | Refusal]:
        """Ask for the rewrites and read the replies."""
        asked = [attempt for attempt in attempts if isinstance(attempt, _Attempt)]
        requests = [Request(_bare(attempt.parent, attempt.text), 1, attempt.seed) for attempt in asked]
        replies = iter(self._replies(requests, self.sampling))
        return [attempt if isinstance(attempt, Refusal) else _draft(attempt, *next(replies)) for attempt in attempts]

    def _readable(self, drafts: Sequence[_Draft | Refusal]) -> list[_Draft | Refusal]:
        """Leave out those whose answer the verifier cannot read."""
        if self.verifier is None:
            return list(drafts)
        waiting = [draft for draft in drafts if isinstance(draft, _Draft) and draft.prompt.answer is not None]
        forms = [form for draft in waiting for form in _as_responses(str(draft.prompt.answer))]
        each = len(forms) // len(waiting) if waiting else 1
        scores = self.verifier.verify([draft.prompt for draft in waiting for _ in range(each)], forms)
        problems: dict[int, Refusal] = {}
        for place, draft in enumerate(waiting):
            own = scores[place * each : (place + 1) * each]
            if not any(score.solved == 1.0 for score in own):
                why = next((f"{score.status}: {score.detail}" for score in own if score.status != "ok"), "")
                detail = why or f"the verifier does not take {draft.prompt.answer!r} for a right answer to itself"
                problems[id(draft)] = Refusal(detail, draft.attempt.operation, "unverifiable")
        return [problems.get(id(draft), draft) for draft in drafts]

    def _voted(self, drafts: Sequence[_Draft | Refusal]) -> list[_Draft | Refusal]:
        """Leave out those to whose answer too few solutions come."""
        waiting = [draft for draft in drafts if isinstance(draft, _Draft) and draft.prompt.answer is not None]
        if not self.votes or not waiting:
            return list(drafts)
        requests = [
            Request(
                dataclasses.replace(draft.prompt, prompt=with_problem(draft.attempt.parent, solve_text(draft.problem))),
                self.votes,
                draft.attempt.vote_seed,
            )
            for draft in waiting
        ]
        judged: dict[int, _Draft | Refusal] = {}
        for draft, (solutions, failure) in zip(waiting, self._replies(requests, self.solving), strict=True):
            judged[id(draft)] = self._judged(draft, solutions, failure)
        return [judged.get(id(draft), draft) for draft in drafts]

    def _judged(self, draft: _Draft, solutions: Sequence[Generated], failure: str) -> _Draft | Refusal:
        operation = draft.attempt.operation
        if len(solutions) < self.votes:
            return Refusal(f"{len(solutions)} of {self.votes} solutions: {failure}", operation, "no_reply")
        agreed = self._agreeing(draft.prompt, [solution.text for solution in solutions if not solution.truncated])
        if agreed < math.ceil(self.agreement * self.votes - 1e-9):
            return Refusal(f"{agreed} of {self.votes} solutions come to {draft.prompt.answer!r}", operation, "disputed")
        return dataclasses.replace(draft, agreed=agreed)

    def _agreeing(self, prompt: Prompt, solutions: Sequence[str]) -> int:
        if self.verifier is not None:
            scores = self.verifier.verify([prompt] * len(solutions), solutions)
        else:
            number = only_number(str(prompt.answer)) is not None
            plain = parse_verifier("numeric" if number else "exact:case=ignore,punctuation=ignore")
            scores = [plain.score(solution, prompt) for solution in solutions]
        return sum(score.solved == 1.0 for score in scores)

    def _child(self, draft: _Draft) -> Evolved:
        checked: dict[str, Any] = {} if self.verifier is None else {"verifier": self.verifier.key}
        if draft.agreed is not None:
            checked |= {"solutions": self.votes, "agreed": draft.agreed}
        if draft.prompt.answer is None:
            checked = {}
        made = {"model": self.engine.model, "weight_version": self.engine.weight_version, "checked": checked}
        return Evolved(
            prompt=draft.prompt.prompt,
            answer=draft.prompt.answer,
            operation=draft.attempt.operation,
            metadata={"evolution": made},
            verified=True if checked else None,
        )

    def _replies(self, requests: Sequence[Request], sampling: Sampling) -> list[tuple[Sequence[Generated], str]]:
        """Responses to each request, and why some are missing."""
        places = {id(request): place for place, request in enumerate(requests)}
        found: list[tuple[Sequence[Generated], str]] = [((), "the engine left it out")] * len(requests)
        for answered in self.engine.generate(requests, sampling):
            found[places[id(answered.request)]] = (answered.responses, answered.failure)
            self._unanswered = 0 if answered.responses else self._unanswered + 1
            if self._unanswered >= _GIVEN_UP:
                raise EngineError(
                    f"{self._unanswered} requests in a row got no reply; the last: {answered.failure}",
                    hint="see what the server says, then give the same command again",
                )
        return found


def _kinds(verifier: Verifier) -> list[str]:
    """Kinds of a verifier and its parts."""
    parts = [part.verifier for part in verifier.parts] if isinstance(verifier, Weighted) else [verifier]
    return [str(getattr(part, "kind", part.name)) for part in parts]


def _draft(attempt: _Attempt, replies: Sequence[Generated], failure: str) -> _Draft | Refusal:
    if not replies:
        return Refusal(failure or "no reply", attempt.operation, "no_reply")
    if replies[0].truncated:
        return Refusal("its reply was cut off", attempt.operation, "cut_off")
    read = parsed(replies[0].text, with_answer=attempt.parent.answer is not None)
    if isinstance(read, Refusal):
        return dataclasses.replace(read, operation=attempt.operation)
    problem, answer = read
    try:
        replies[0].text.encode()
    except UnicodeEncodeError as error:
        return Refusal(f"it holds half a surrogate pair: {error}", attempt.operation, "malformed")
    child = _bare(attempt.parent, with_problem(attempt.parent, problem))
    return _Draft(attempt, problem, dataclasses.replace(child, answer=answer))


def _bare(parent: Prompt, text: str | list[dict[str, Any]]) -> Prompt:
    """A prompt of ours that stands for nothing in the store."""
    return Prompt(parent.prompt_id, text, None, parent.arm, {})


def _as_responses(answer: str) -> tuple[str, ...]:
    """Forms in which a response may give an answer."""
    return answer, f"\\boxed{{{answer}}}", f"<answer>{answer}</answer>"
