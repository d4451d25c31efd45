"""New prompts out of stored ones: a creator makes them, filters judge them, the store keeps them with their ancestry.

    report = evolve(store, GymCreator(), scheduler.curriculum.parents())

Prompts that join while a run is open are announced to its strategy and come into play at the next round.
"""

from __future__ import annotations

import hashlib
import json
import logging
import numbers
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from curri.errors import CurriError, EngineError, InvalidParameter, MissingExtra, VerifierFailed
from curri.selectors import stable_hash
from curri.store import NewPrompt
from curri.store.prompts import Origin
from curri.types import Evolved, Prompt, Refusal, prompt_id_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import ArrayLike

    from curri.store import PromptStore
    from curri.types import Creator, Ints

_log = logging.getLogger("curri")

REASONS: dict[str, str] = {
    "duplicate": "a stored prompt has the same text, or another child does but for spaces and case",
    "too_short": "the text has fewer characters than allowed",
    "too_long": "the text, the answer or the metadata is longer than allowed",
    "refused": "the creator refused, or gave an empty text",
    "unverifiable": "the answer is missing or cannot be checked",
    "malformed": "not a prompt that can be stored",
    "unparsable": "a model's reply was not in the form asked for",
    "cut_off": "a model's reply was cut off at the length limit",
    "disputed": "too few of several solutions came to the answer",
    "no_reply": "the engine had no reply",
    "missing": "the creator gave fewer prompts than asked for",
    "failed": "the creator raised an error",
    "too_deep": "the child's generation would be beyond the limit",
    "not_tried": "given up after too many failures in a row, or because the engine failed",
    "present": "an earlier call with the same creator and seed has dealt with it",
}
"""Why a child that was wanted is not in the store."""

MAX_METADATA = 1 << 20
"""Characters of a child's metadata as JSON."""

_FATAL = (MissingExtra, EngineError, VerifierFailed)
"""What the next parent would meet as well."""

_TOLD = ("creator", "operation", "seed", "step", "model", "weight_version", "checked")
_EXAMPLES = 5
_SHOWN = 200


class EvolutionProgress(NamedTuple):
    """How far an evolution is.

    Attributes:
        done: parents dealt with.
        total: of how many.
        stored: children stored so far.
    """

    done: int
    total: int
    stored: int


@dataclass(frozen=True, kw_only=True, eq=False)
class EvolutionReport:
    """What became of an evolution; ``stored + sum(rejected.values()) == wanted``.

    Attributes:
        creator: its name.
        parents: distinct parents given.
        wanted: children wanted of them.
        stored: children that are new in the store.
        prompt_ids: their ids, in the order made, shape (stored,).
        rejected: reason → how many, see ``REASONS``.
        operations: operation → children stored.
        surplus: prompts that the creator gave beyond those asked for; they were left aside.
        examples: the first few rejected ones of each reason, as (parent id, reason, detail).
        stopped: what ended it before its time, or None.
    """

    creator: str
    parents: int
    wanted: int
    stored: int
    prompt_ids: Ints
    rejected: dict[str, int]
    operations: dict[str, int]
    surplus: int = 0
    examples: tuple[tuple[int, str, str], ...] = ()
    stopped: CurriError | None = None


def evolve(
    store: PromptStore,
    creator: Creator,
    parent_ids: ArrayLike,
    *,
    per_parent: int = 4,
    chain: bool = True,
    seed: int = 0,
    min_chars: int = 1,
    max_chars: int = 20_000,
    max_generation: int | None = None,
    check: Callable[[Evolved], bool] | None = None,
    chunk: int = 64,
    max_failures: int = 20,
    skip_made: bool = False,
    progress: Callable[[EvolutionProgress], None] | None = None,
) -> EvolutionReport:
    """Let a creator make children of stored prompts, filter them, and store what is left.

    A child is left out where its text is that of a stored prompt or (but for spaces and case) of another child of
    this call or of a parent; where its text or answer is too short or too long; where the creator refuses or gives an
    empty text; and where its answer cannot be verified: the creator says so, ``check`` says so, or its parent has an
    answer and it has none. Stored children have a parent, a generation one above the parent's, the parent's split
    (those of evaluation prompts stay out of training), and ``metadata["evolution"]`` with creator, operation, seed and
    step. The defaults of ``per_parent`` and ``chain`` are eva's (arXiv 2411.00062, released code: four rewrites in a
    chain, all kept).

    Parents are worked through in chunks. What a step of a chunk gave is one transaction, and the creator runs outside
    of it. So an interruption loses only the step under way. The same call again makes nothing twice, provided the
    creator makes the same of the same seeds: what is there counts as a duplicate, and chains go on from it.

    An error that the creator raises costs the parents it was raised for: those of a batch that failed are tried again
    one by one. After ``max_failures`` failures in a row the rest is given up. Where an engine or a verifier fails as a
    whole, or a package is missing, the rest is given up at once; that is raised if nothing was done before, and is in
    ``stopped`` otherwise.

    Args:
        store: an open store; a scheduler may be at work on it.
        creator: makes the children.
        parent_ids: prompts to evolve, such as ``Eva.parents()`` gives; repeated ids count once.
        per_parent: children wanted of each.
        chain: whether each child but the first is made out of the one before (and is its child), or all out of the
            parent. A child that was left out is no link: the next one is made out of the same prompt again.
        seed: of everything random.
        min_chars: characters that a child's text must have.
        max_chars: characters that its text and its answer may have.
        max_generation: the largest generation of a child, or None.
        check: says whether a child's answer can be verified. If it raises, the answer cannot.
        chunk: parents in one call of the creator.
        max_failures: calls for a single parent that may fail in a row.
        skip_made: do not ask the creator for what an earlier call with the same creator and seed has stored, but go
            on from there. For creators that cost something, or do not make the same of the same seeds.
        progress: called after every chunk.

    Returns:
        what became of all children wanted.

    Raises:
        UnknownPrompt: a parent is not in the store.
        InvalidParameter: an argument is out of range.
        MissingExtra: the creator needs a package that is not installed.
        EngineError, VerifierFailed: nothing can be had of the creator's engine or verifier.
    """
    ids = np.array(list(dict.fromkeys(prompt_id_array(parent_ids, "`parent_ids` of `evolve`").ravel().tolist())))
    ids = ids.astype(np.int64)
    for name, value, low in (
        ("per_parent", per_parent, 1),
        ("seed", seed, 0),
        ("min_chars", min_chars, 0),
        ("max_chars", max_chars, max(min_chars, 1) if isinstance(min_chars, int) else 1),
        ("max_generation", max_generation, 1),
        ("chunk", chunk, 1),
        ("max_failures", max_failures, 1),
    ):
        _check_whole(name, value, low, optional=name == "max_generation")
    store.prompts.refuse_unknown(ids)
    rules = _Rules(min_chars=min_chars, max_chars=max_chars, max_generation=max_generation, check=check)
    work = _Evolution(store, creator, rules, seed=seed, max_failures=max_failures, skip_made=skip_made)
    for start in range(0, ids.size, chunk):
        part = ids[start : start + chunk]
        try:
            work.run(part, steps=per_parent if chain else 1, each=1 if chain else per_parent)
        except _FATAL as error:
            work.stop(error, wanted=per_parent * ids.size)
            break
        if progress is not None:
            progress(EvolutionProgress(start + part.size, ids.size, len(work.stored)))
    return work.report(parents=ids.size, wanted=per_parent * ids.size)


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """What a child must be like."""

    min_chars: int
    max_chars: int
    max_generation: int | None
    check: Callable[[Evolved], bool] | None

    def violation(self, child: Evolved, parent: Prompt, text: str, length: int) -> tuple[str, str] | None:
        """The first rule that a child breaks, as (reason, detail); None where it breaks none."""
        if not text.strip() or not length:
            return "refused", "an empty text"
        if length < self.min_chars:
            return "too_short", f"{length} characters"
        longest = max(length, len(child.answer or ""))
        if longest > self.max_chars:
            return "too_long", f"{longest} characters"
        if child.verified is False:
            return "unverifiable", "the creator says so"
        if parent.answer is not None and not (child.answer or "").strip():
            return "unverifiable", "its parent has an answer, it has none"
        return self._unchecked(child)

    def _unchecked(self, child: Evolved) -> tuple[str, str] | None:
        if self.check is None:
            return None
        try:
            accepted = bool(self.check(child))
        except MissingExtra:
            raise
        except Exception as error:  # noqa: BLE001  whatever a caller's check raises, it has not verified the answer
            return "unverifiable", f"`check` raised {_told(error)}"
        return None if accepted else ("unverifiable", "`check` says so")


@dataclass(eq=False)
class _Line:
    """One parent and where its chain stands."""

    root: int
    current: Prompt
    origin: Origin


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A child that may be stored."""

    line: _Line
    prompt: NewPrompt
    operation: str

    def as_stored(self, prompt_id: int) -> tuple[Prompt, Origin]:
        """The child as the store would give it; asking for it would write the copy of the texts anew."""
        new = self.prompt
        text = json.loads(new.prompt) if new.is_chat else new.prompt
        prompt = Prompt(prompt_id, text, new.answer, new.arm, json.loads(new.metadata))
        return prompt, Origin(new.parent_id, new.generation, new.split)


@dataclass(eq=False)
class _Evolution:
    """One call of ``evolve`` at work."""

    store: PromptStore
    creator: Creator
    rules: _Rules
    seed: int
    max_failures: int
    skip_made: bool
    stored: list[int] = field(default_factory=list)
    stopped: CurriError | None = None

    def __post_init__(self) -> None:
        self.name = str(self.creator.name)
        self._rejected: Counter[str] = Counter()
        self._operations: Counter[str] = Counter()
        self._examples: list[tuple[int, str, str]] = []
        self._texts: set[bytes] = set()
        self._failures = 0
        self._surplus = 0

    def report(self, *, parents: int, wanted: int) -> EvolutionReport:
        return EvolutionReport(
            creator=self.name,
            parents=parents,
            wanted=wanted,
            stored=len(self.stored),
            prompt_ids=np.array(self.stored, dtype=np.int64),
            rejected={reason: self._rejected[reason] for reason in REASONS if self._rejected[reason]},
            operations=dict(sorted(self._operations.items())),
            surplus=self._surplus,
            examples=tuple(self._examples),
            stopped=self.stopped,
        )

    def stop(self, error: CurriError, *, wanted: int) -> None:
        """Give the rest up; an error before anything was done is raised again."""
        dealt_with = len(self.stored) + self._rejected.total()
        if not dealt_with:
            raise error
        self.stopped = error
        self._rejected["not_tried"] += wanted - dealt_with

    def run(self, parent_ids: Ints, *, steps: int, each: int) -> None:
        """Some parents: ``steps`` times ``each`` children of every one."""
        prompts = self.store.texts.fetch(parent_ids)
        origins = self.store.prompts.origins(parent_ids)
        lines = [_Line(p.prompt_id, p, origin) for p, origin in zip(prompts, origins, strict=True)]
        self._texts.update(_fingerprint(_text_of(line.current.prompt)) for line in lines)
        made = self._made_before(parent_ids) if self.skip_made else {}
        for step in range(steps):
            self._go_past(made, lines, step, each)
            ready = [line for line in lines if (line.root, step) not in made and self._may_go_on(line, each)]
            offers = self._offers(ready, each, step)
            candidates: list[_Candidate] = []
            for line, offered in zip(ready, offers, strict=True):
                candidates += self._judged(line, offered, each, step)
            with self.store.transaction():
                again = self._add(candidates)
            self._go_on_from(again)

    def _made_before(self, roots: Ints) -> dict[tuple[int, int], int]:
        """(root, step) → the last child that an earlier call with this creator and seed stored."""
        rows = self.store.prompts.evolved(self.name, self.seed, roots)
        return {(root, step): prompt_id for prompt_id, root, step in rows}

    def _go_past(self, made: Mapping[tuple[int, int], int], lines: list[_Line], step: int, each: int) -> None:
        """Let lines whose child of this step is there go on from it."""
        found = [line for line in lines if (line.root, step) in made]
        if not found:
            return
        ids = np.array([made[line.root, step] for line in found], dtype=np.int64)
        prompts, origins = self.store.texts.fetch(ids), self.store.prompts.origins(ids)
        for line, prompt, origin in zip(found, prompts, origins, strict=True):
            self._reject(line, "present", f"prompt {prompt.prompt_id}", each)
            line.current, line.origin = prompt, origin
            self._texts.add(_fingerprint(_text_of(prompt.prompt)))

    def _may_go_on(self, line: _Line, each: int) -> bool:
        deepest = self.rules.max_generation
        if self._failures >= self.max_failures:
            self._reject(line, "not_tried", f"{self._failures} failures in a row", each)
        elif deepest is not None and line.origin.generation >= deepest:
            self._reject(line, "too_deep", f"its parent is of generation {line.origin.generation}", each)
        else:
            return True
        return False

    # ---- asking the creator -------------------------------------------------------------------------------------

    def _offers(self, lines: list[_Line], each: int, step: int) -> list[Sequence[Any] | None]:
        """What the creator gives for each line; None where it failed."""
        if not lines:
            return []
        if len(lines) > 1:
            try:
                return list(self._created(lines, each, step))
            except _FATAL:
                raise
            except Exception as error:  # noqa: BLE001  a creator may be anyone's code, and each parent has its chance
                _log.debug("%s failed for %d parents at once: %s", self.name, len(lines), _told(error))
        return [self._offer(line, each, step) for line in lines]

    def _offer(self, line: _Line, each: int, step: int) -> Sequence[Any] | None:
        if self._failures >= self.max_failures:
            self._reject(line, "not_tried", f"{self._failures} failures in a row", each)
            return None
        try:
            (offered,) = self._created([line], each, step)
        except _FATAL:
            raise
        except Exception as error:  # noqa: BLE001  the same, and this parent had its chance
            self._reject(line, "failed", _told(error), each)
            self._note_failure(error)
            return None
        return offered

    def _note_failure(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == self.max_failures:
            _log.warning(
                "%s failed %d times in a row, so the rest is given up (last: %s)",
                self.name,
                self._failures,
                _told(error),
            )

    def _created(self, lines: list[_Line], each: int, step: int) -> list[Sequence[Any]]:
        ids = np.array([line.root for line in lines], dtype=np.int64)
        seeds = _seeds(ids, self.seed, step)
        given: Any = self.creator.create([line.current for line in lines], each, seeds)
        if not _is_list(given) or len(given) != len(lines) or not all(_is_list(part) for part in given):
            raise TypeError(
                f"`create` must give a list of prompts for each of {len(lines)} parents; got {_shown(given)}"
            )
        self._failures = 0
        return list(given)

    # ---- judging what it gave -----------------------------------------------------------------------------------

    def _judged(self, line: _Line, offered: Sequence[Any] | None, each: int, step: int) -> Iterable[_Candidate]:
        if offered is None:
            return
        self._surplus += max(len(offered) - each, 0)
        if len(offered) < each:
            self._reject(line, "missing", f"{len(offered)} of {each}", each - len(offered))
        for child in offered[:each]:
            candidate = self._candidate(line, child, step)
            if isinstance(candidate, _Candidate):
                yield candidate
            else:
                self._reject(line, *candidate)

    def _candidate(self, line: _Line, child: Any, step: int) -> _Candidate | tuple[str, str]:
        """A child as it would be stored, or (reason, detail)."""
        if isinstance(child, Refusal):
            return child.code if child.code in REASONS else "refused", str(child.reason)
        problem = _malformed(child)
        if problem is not None:
            return "malformed", problem
        is_chat = not isinstance(child.prompt, str)
        try:
            text = _canonical(child.prompt) if is_chat else child.prompt
            metadata = self._metadata(child, line, step)
            for part in (text, child.answer or "", child.arm or "", metadata):
                part.encode()
        except (TypeError, ValueError, RecursionError) as error:  # also half a surrogate pair
            return "malformed", _told(error)
        if len(metadata) > MAX_METADATA:
            return "too_long", f"metadata of {len(metadata)} characters"
        broken = self.rules.violation(child, line.current, text, len(_text_of(child.prompt)))
        if broken is not None:
            return broken
        prompt = NewPrompt(
            prompt=text,
            is_chat=is_chat,
            answer=child.answer,
            arm=line.current.arm if child.arm is None else child.arm,
            metadata=metadata,
            split=line.origin.split,
            parent_id=line.current.prompt_id,
            generation=line.origin.generation + 1,
        )
        return _Candidate(line, prompt, child.operation)

    def _metadata(self, child: Evolved, line: _Line, step: int) -> str:
        made = {"creator": self.name, "operation": child.operation, "seed": self.seed, "step": step, "root": line.root}
        told = child.metadata.get("evolution")
        record = {**told, **made} if isinstance(told, Mapping) else made
        return json.dumps(
            {**child.metadata, "evolution": record}, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )

    # ---- storing what is left -----------------------------------------------------------------------------------

    def _add(self, candidates: list[_Candidate]) -> list[_Candidate]:
        """Store those that are new, which are then the last links of their chains; returns those that are present."""
        present = self.store.prompts.texts_present([candidate.prompt.prompt for candidate in candidates])
        fresh, again = [], []
        for candidate in candidates:
            mark = _fingerprint(_text_of_stored(candidate.prompt))
            if candidate.prompt.prompt in present:
                again.append(candidate)
            elif mark in self._texts:
                self._reject(candidate.line, "duplicate", candidate.prompt.prompt)
            else:
                fresh.append(candidate)
            self._texts.add(mark)
        for candidate in again:
            self._reject(candidate.line, "duplicate", candidate.prompt.prompt)
        ids = self.store.prompts.add([candidate.prompt for candidate in fresh]).prompt_ids.tolist()
        self.stored += ids
        for prompt_id, candidate in zip(ids, fresh, strict=True):
            self._operations[candidate.operation] += 1
            candidate.line.current, candidate.line.origin = candidate.as_stored(prompt_id)
        return again

    def _go_on_from(self, candidates: list[_Candidate]) -> None:
        """Let chains go on from links that an earlier call stored: children of the very same parent."""
        ids = self.store.prompts.ids_of([candidate.prompt for candidate in candidates])
        found = np.flatnonzero(ids)
        if not found.size:
            return
        origins, prompts = self.store.prompts.origins(ids[found]), self.store.texts.fetch(ids[found])
        for place, origin, prompt in zip(found.tolist(), origins, prompts, strict=True):
            if origin.parent_id == candidates[place].prompt.parent_id:
                candidates[place].line.current, candidates[place].line.origin = prompt, origin

    def _reject(self, line: _Line, reason: str, detail: str, count: int = 1) -> None:
        self._rejected[reason] += count
        if sum(example[1] == reason for example in self._examples) < _EXAMPLES:
            self._examples.append((line.current.prompt_id, reason, _shown(detail)))


def ancestry(store: PromptStore, prompt_id: int) -> list[dict[str, Any]]:
    """A prompt and those it was made of, the original first: ids, generations, texts and how each was made.

    Entries have ``prompt_id``, ``generation``, ``prompt`` (text or messages) and, where the prompt was made by a
    creator, ``creator``, ``operation``, ``seed``, ``step`` and, where the creator told, ``model`` and ``checked``.

    Raises:
        UnknownPrompt: there is no such prompt.
    """
    line = np.array(store.prompts.ancestry(prompt_id)[::-1], dtype=np.int64)
    entries = []
    for prompt, origin in zip(store.texts.fetch(line), store.prompts.origins(line), strict=True):
        made = prompt.metadata.get("evolution")
        kept = {name: made[name] for name in _TOLD if name in made} if isinstance(made, Mapping) else {}
        entries.append(
            {"prompt_id": prompt.prompt_id, "generation": origin.generation, "prompt": prompt.prompt, **kept}
        )
    return entries


def _check_whole(name: str, value: object, low: int, *, optional: bool) -> None:
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < low:
        raise InvalidParameter(f"`{name}` of `evolve` must be an int in [{low}, inf); got {value!r}")


def _seeds(roots: Ints, seed: int, step: int) -> list[int]:
    """A seed in [0, 2**63) for each chain and step, whatever the chunks."""
    mixed = stable_hash(stable_hash(roots, seed).view(np.int64), step)
    return [int(value) for value in mixed >> np.uint64(1)]


def _malformed(child: Any) -> str | None:
    """What keeps a creator's answer from being a prompt, or None."""
    if not isinstance(child, Evolved):
        return f"`create` must give `Evolved` or `Refusal`; got {_shown(child)}"
    if not isinstance(child.prompt, str) and not _is_chat(child.prompt):
        return f"`prompt` must be a text or chat messages; got {_shown(child.prompt)}"
    if not (child.answer is None or isinstance(child.answer, str)):
        return f"`answer` must be a text or None; got {_shown(child.answer)}"
    if not (isinstance(child.operation, str) and 0 < len(child.operation) <= _SHOWN):
        return f"`operation` must be a text of 1 to {_SHOWN} characters; got {_shown(child.operation)}"
    if not (child.arm is None or (isinstance(child.arm, str) and child.arm and "\0" not in child.arm)):
        return f"`arm` must be a name or None; got {_shown(child.arm)}"
    return (
        None if isinstance(child.metadata, Mapping) else f"`metadata` must be a mapping; got {_shown(child.metadata)}"
    )


def _is_chat(messages: Any) -> bool:
    return isinstance(messages, list) and all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), (str, list))
        for message in messages
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _canonical(messages: Any) -> str:
    """Chat messages in the one spelling that prompts are told apart by: sorted keys, no spaces."""
    return json.dumps(messages, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def _text_of(prompt: str | list[dict[str, Any]]) -> str:
    """What there is to read in a prompt."""
    if isinstance(prompt, str):
        return prompt
    contents = [message["content"] for message in prompt]
    return "\n".join(content if isinstance(content, str) else _canonical(content) for content in contents if content)


def _text_of_stored(prompt: NewPrompt) -> str:
    return _text_of(json.loads(prompt.prompt)) if prompt.is_chat else prompt.prompt


def _fingerprint(text: str) -> bytes:
    """The same for texts that differ in spaces and case only."""
    return hashlib.blake2b(" ".join(text.split()).casefold().encode(), digest_size=16).digest()


def _told(error: Exception) -> str:
    return _shown(f"{type(error).__name__}: {error}")


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else reprlib.repr(value)
    return text[:_SHOWN].encode(errors="backslashreplace").decode() + ("…" if len(text) > _SHOWN else "")
